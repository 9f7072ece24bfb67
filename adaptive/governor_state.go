package adaptive

import (
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// GovernorState is everything that a [Governor] has learned and remembers.
type GovernorState struct {
	Limit                                                                float64
	SlowStart                                                            bool
	Threshold                                                            float64
	Bound                                                                float64
	Memory                                                               float64
	Top                                                                  float64
	Sharp                                                                int
	Open                                                                 bool
	Recovering                                                           bool
	CutAt                                                                time.Duration
	Old                                                                  int
	Good                                                                 float64
	Used                                                                 bool
	Wins                                                                 int
	Flight                                                               float64
	Credit                                                               float64
	RefusalTime                                                          float64
	PausedUntil, ProbeAt, PausedSum, LastPause                           time.Duration
	Pauses                                                               int
	Streak                                                               int
	DarkSince                                                            time.Duration
	HoldUntil                                                            time.Duration
	Against                                                              float64
	RefusedAt                                                            float64
	ActiveAt                                                             time.Duration
	ActiveCount                                                          float64
	Test                                                                 int
	DarkGap, DarkLast                                                    time.Duration
	DarkOverload                                                         bool
	Yield                                                                int
	CapAt                                                                float64
	Base, BaseLevel, BlockOf, BlockSum, BlockLevel, CutLevel, CutLatency float64
	PaceProbeAt                                                          time.Duration
	FlowStarts, FlowTime                                                 float64
	LastBound                                                            float64
	CapLike                                                              int
	Busy                                                                 bool
	BusyAt                                                               time.Duration
	MovedAt                                                              time.Duration
	MovedFrom                                                            float64
	DoubleFrom                                                           float64
	DoubleAt                                                             time.Duration
	DoubleDone                                                           float64
	Doubling                                                             time.Duration
	Quickest                                                             time.Duration
	Doubt                                                                float64

	Done, Refused int64
	TokensDone    int64
	InFlight      int
	RefusedCount  float64
	Flow          float64
	Second        int64
	Ring          [ringSize]float64
	FlowAt        time.Duration
	FlowCount     float64
	Pace          [numPaces]PaceState

	Stated   int
	StatedAt time.Duration
	Doubted  bool

	Latency time.Duration
	Mean    float64
	MeanOf  float64
	Spread  float64
	Cells   [numCells]CellState

	Origin, At, ValidAt, AskAgain time.Duration
	Episode                       uint32
	Binding                       feedback.Scope
	Cause                         Cause
}

// PaceState is what is known of one quota.
type PaceState struct {
	Rate, Known   float64
	AnchorAt      time.Duration
	AnchorCount   float64
	AnchorPaused  time.Duration
	AnchorRefused int64
	Ceiling       float64
	Sure          bool
	Measured      bool
	Lowest        float64
	LastCount     float64
	Use           float64
	UsedAt        time.Duration
}

// CellState is what is known of latency at one level of calls in flight.
type CellState struct{ Level, Latency, Weight float64 }

// State returns what g has learned.
func (g *Governor) State() GovernorState { return g.s }
