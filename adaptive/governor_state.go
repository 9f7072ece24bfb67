package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// GovernorState is everything that a [Governor] has learned and remembers, as a plain value of a fixed size: it can be compared,
// copied, printed, and saved as JSON. Counts are calls, levels are calls in flight, rates are per second, times
// without a type are seconds, instants are since the origin of the law's caller.
//
// docs/control-law.md has the symbols and rules in which the fields occur. A state is for the version of flyball that saved it.
type GovernorState struct {
	// The limit.

	Limit       float64       // W: the limit in force, before it is cut to whole calls
	Bound       float64       // B: in flight when the call started whose refusal began the last trouble; 0: none, or grown since
	LastBound   float64       // B': the same, kept when the upstream has grown, and of refusals by limits alone once there was one
	Top         float64       // A: most that an accepted call saw in flight since the last cut
	Proven      float64       // V: calls that saw as many in flight were accepted by the row, forgotten over some thousand calls
	RunFrom     float64       // accepted calls where this row of accepted calls began
	Flight      float64       // F: most in flight since the last cut, within the limit
	PassedAt    time.Duration // when a call ended well last, or an answer began
	HoleAt      time.Duration // when a call ended well after a time in which none did
	Good        float64       // calls that ended well in this epoch
	Threshold   float32       // the limit at which slow start ends by itself; 0: none
	Memory      float32       // the limit before the last trouble
	Peak        float32       // P: most that an accepted call saw in flight, of some thousand calls
	Chance      float32       // z: evidence that some refusals mean nothing, at most 8
	Sharing     float32       // the same that others use the limit, too
	Calm        float32       // latencies in use since the last cut, where others use the limit, too; at most 1000
	MeanLevel   float32       // smoothed in flight
	TimeoutDebt float32       // timeouts, less the share of calls that may time out
	LateDebt    float32       // TimeoutDebt before the last trouble
	Knee        float32       // where the limit went when the upstream was full last; 0: none, or grown since

	// Episodes.

	CutAt    time.Duration // the last cut
	Episode  uint32
	FewSince float32 // since when few are in flight, s since Origin

	// Refusals.

	Credit       float64       // refusals that probing may cost now
	Refused      int64         // refusals so far
	RefusedCount float64       // accepted calls at the last fresh refusal
	RefusedLast  time.Duration // the last refusal, fresh or not
	DarkSince    time.Duration // the first of them
	DarkLast     time.Duration // the last of them
	DarkGap      time.Duration // time between the last two
	HoldUntil    time.Duration // nothing starts before it
	ActiveAt     time.Duration // when something was accepted after the last long row
	ActiveCount  float64       // accepted calls then
	Debt         float32       // refusals that the calls accepted since do not make up for
	RefusalTime  float32       // smoothed time that a refusal takes
	RefusedAt    float32       // in flight at the last fresh refusal
	Verdict      float32       // how long the last timeout took to tell, s

	// Refusals for a lack of capacity that may be by a limit.

	SpellAt    time.Duration // the last time
	SpellCount float64       // accepted calls at the last of them

	// Pauses that upstreams named without saying which limit.

	PausedUntil time.Duration
	PausedSum   time.Duration // all of them
	LastPause   time.Duration
	ProbeAt     time.Duration // the limit is not tried before
	Way         float32       // the shortest: what a call's way there and back takes at most
	Places      float32       // how many the upstream allows, while pauses cost much; 0: not known
	Least       float32       // how many there are at least
	Held        float32       // in flight when the last pause began, less those refused since

	// What refuses.

	HitsFrom float64 // accepted calls at the last of Hits
	Against  float32 // evidence against a limit on calls in flight
	Trial    float32 // in flight where the upstream refused before a pace was tried; 0: no trial
	CapAt    float32 // where those were
	CapRate  float32 // the pace at the last of them
	CapShare float32 // share of calls that see about as many in flight
	Excused  float32 // accepted calls before the last refusal that meant nothing, since the one before it

	// The retest, while it is not known what refuses.

	RetestFrom  time.Duration // its first refusal
	RetestCount float64       // accepted calls then
	RetestGap   time.Duration // how long the next try waits

	// How much starts.

	Done       int64               // calls that ended
	TokensDone int64               // tokens of those that ended well
	InFlight   int                 // at the last event
	Flow       float64             // calls that start and are not refused, a second
	FlowTime   float32             // decayed time
	FlowStarts float32             // decayed starts
	FlowCount  float64             // accepted calls at FlowAt
	FlowAt     time.Duration       //
	Second     int64               // the last whole second since Origin that Ring has
	Ring       [ringSize]int16     // accepted calls in the second before each of the last, see ringCalls
	RingCount  int64               // accepted calls that Ring has counted
	Pace       [numPaces]PaceState // of requests and of tokens
	Told       [numTold]ToldState  // what headers tell, by toldInput and so on
	Turn       TurnState           // of a quota that is counted in windows
	Slide      SlideState          // of one that is counted in a window that slides
	Gives      LeastState          // of one of requests: what it gives at least
	Burst      BurstState          // what passed before the first refusal
	Ticks      TicksState          // accepted calls in parts of a second
	Spent      SpentState          // what calls cost in tokens
	FlowBefore float32             // Flow when the last trouble began
	FlowShort  float32             // Flow, over half a minute

	// What is stated of calls in flight.

	StatedAt time.Duration

	BusyAt  time.Duration // when callers waited, or the limit was in use, last
	ValidAt time.Duration // when the limit was half in use last
	Latency time.Duration // smoothed, over some 8 windows
	Mean    float64       // smoothed, over some 32 calls

	// Slow start's doublings.

	DoubleAt   time.Duration // when it began
	Doubling   time.Duration // how long the one before took
	Quickest   time.Duration // the shortest
	DoubleFrom float32       // the limit where this doubling began
	DoubleDone float32       // calls that ended well since

	// How latency grows with calls in flight, where calls differ little.

	Line        LineState     // of the first calls
	HangAt      time.Duration // since when at least HangLevel calls are in flight
	SlowerUntil time.Duration // the limit does not rise before it, because calls take longer; 0: they do not
	Base        float32       // the mean of their latencies, as a logarithm of s
	Noise       float32       // by how much they differ from the line
	Steep       float32       // how steep the line is at least
	Slow        uint16        // windows in a row in slow start whose calls took much longer
	Streak      int16         // fresh refusals in a row with nothing accepted in between
	HangLevel   float32       // of calls that saw as many none has ended; 0: not so
	HangMean    float32       // Mean before
	HangSeen    float32       // the most that calls that ended in time saw; 0: not late yet
	StepOf      float32       // calls of this step of slow start
	StepLevel   float32       // what they saw in flight, sum
	StepLatency float32       // how long they took, s, sum
	BestRate    float32       // the largest throughput of a step, by Little's law
	BestLevel   float32       // its level

	// When answers begin, of calls that tell.

	First FirstState
	Begin BeginState

	// How long calls take by what they are.

	Size SizeState

	// Throughput by level.

	Cells         [numCells]CellState
	BlockAt       time.Duration // when the block began
	BlockLast     time.Duration // when calls in flight were added to it last
	CalmAt        time.Duration // blocks that begin before it do not count
	TriedAt       time.Duration // when one call more than were known to have places was tried last
	StayUntil     time.Duration // the limit does not rise before it, because the objective lowered it
	BlockArea     float32       // calls in flight times s
	BlockCalls    float32
	BlockFrom     float32 // calls in flight when the block began
	BlockTokens   float32
	BlockLatency  float32 // s, sum
	BlockTimed    float32
	BlockTook     float32 // s that calls took whose size is known, sum
	BlockSize     float32 // their sizes, sum
	BlockLevel    float32 // what they took times calls in flight meanwhile, sum
	BlockLost     float32 // s that calls were in flight that came to nothing, sum
	TokensPerCall float32 // smoothed
	Spread        float32 // how much a level's throughput differs from block to block, as a logarithm
	CutLevel      float32 // in flight in the block that lowered the limit; 0: confirmed

	Fast       uint16 // the pace that was refused last while it rose as fast as while nothing is known, as a logarithm; 0: none
	SharedFrom uint16 // the fastest pace since others use the quota, too, as a logarithm

	Most MostState // what got done where most did

	// Throughput of single limits, by how long calls take.

	Levels     [numLevels]LevelState
	LevelAt    time.Duration // since when
	LevelOf    int32         // the limit in force
	LevelRest  float32       // the variance of those logarithms
	LevelDrift float32       // by how much the last calls took longer than those before with the same limit
	Drain      float32       // calls that hung in slow start, while they end; then less than 0, how many of them ended a second

	Lag LagState // how long calls are counted after their ends

	// Of the above, together because each by itself takes as much room as a large one.

	Spells    float32 // how often refusals for a lack of capacity came after calls had passed, those long ago counting less
	Left      float32 // of the calls in flight in the last pause, those that had ended when a refusal could be known; less than 0: not known yet
	Contra    float32 // refusals at a pace that was measured as fine, lately
	FlowPast  float32 // the most of FlowShort, forgotten over minutes
	MeanOf    float32 // calls that Mean is of, at most about 32
	QuickMean float32 // Mean at the shortest doubling
	QuickFrom float32 // the limit where that began
	CutRate   float32 // the throughput of the block that lowered the limit
	RunLevel  float32 // least in flight since RunFrom; 0: not known
	Old       int32   // calls that were in flight at the last cut and may still be
	Stated    int32   // how many calls in flight are allowed, as stated; 0: not stated

	// Yes or no, and small numbers, together because each by itself takes as much room as a large one.

	MostFull     bool  // the limit is in use while calls of Most are counted
	SlowStart    bool  // the limit rises with each call that ends well
	Open         bool  // the trouble that found Bound is not over
	Late         bool  // calls time out in a crowd: too many are in flight, and that is known late
	Used         bool  // the limit was in use in this epoch
	DarkOverload bool  // the last refusal of the row said that the upstream lacks capacity
	Probed       bool  // the last fresh refusal that began a row came because the pace was tried
	Charged      bool  // one more was refused after the one that told that a pace was too fast
	Paid         bool  // the last refusal was taken from the budget
	Ignored      bool  // the last refusal came at a pace that was fine, and meant nothing
	Below        bool  // the last refusal was one that there are places enough for, after many calls
	Surprise     bool  // the last refusal that named a long delay came sooner than it should have
	Resumed      bool  // the last pause began shortly after the one before was over
	Varied       bool  // the delay that was named last differs by more than a second from the one before
	Yield        uint8 // refusals at a known boundary, of which each fourth makes room
	Tests        uint8 // refusals at a shared limit, of which each fourth means nothing
	Waived       bool  // the last refusal of unknown scope meant nothing
	SpanSlow     bool  // some of what passed between refusals that say the same did at a pace that may have been too slow to tell
	Limiting     bool  // refusals for a lack of capacity are by a limit
	Doubted      bool  // a refusal contradicted Stated
	Busy         bool  // callers waited, or the limit was in use, in the last window
	Saturated    bool  // more in flight is of no use
	Recovering   bool  // no call that started after the last cut is known to have ended well
	Pauses       int8  // how many pauses there were, at most 8; at most 1 when the upstream has grown
	Crowd        uint8 // calls refused in the last pause that started before it, at most 100
	Uneven       int8  // how often a call was refused although as many should have been on their way at all times, at most 3
	Counts       uint8 // what the throughput of a block counts: calls or tokens, sizes, or calls in flight by how long they take
	Confirmed    int8  // how often in a row a pace that was tried told what was known, at most 3
	Sharp        int8  // refusals in a row at the same boundary
	Wins         int8  // epochs in a row in which probing went well
	Test         int8  // how evenly starts come, to tell a quota: 0 not tested, 1, 2, 3 no more
	CapLike      int8  // refusals of a paced guard that look like a limit on calls in flight
	SlowerTimes  int8  // how often the limit did not rise because calls take longer, at most 8
	Wrong        int8  // how often a pace explained nothing, at most 3
	Refuted      int8  // trials that a limit on calls in flight explained
	LevelSeen    uint8 // calls that LevelRest is of, at most 64
	LevelNew     uint8 // calls since LevelAt, at most 64
	LevelTimes   int8  // how often a lower limit did more, at most 4
	Retests      int8  // the refusals of the retest, 1 to 7
	Seen         uint8 // calls that saw as many in flight as a pace on trial was refused at and were accepted since the refusal before, at most 255
	Tries        uint8 // how often one more was tried in this silence
	Others       uint8 // evidence that others use the quota, too, at most 8; inVain: what is given up does not help

	Frozen bool // nothing was answered before HoleAt for so long that it measures nothing

	RetestAt float32    // in flight at the last refusal of the retest; 0: there is none
	Floor    FloorState // what is refused whatever is asked

	Few FewState // what times out with few in flight

	Hung uint16 // calls that hang, beside which as many more may be in flight as the limit says

	Origin   time.Duration // the first event
	At       time.Duration // the latest instant that the law was told; the smallest instant before the first event
	AskAgain time.Duration
	Binding  feedback.Scope
	Cause    Cause
	Hits     int8   // refusals at the number of the trial
	Apart    uint8  // calls that started between the last two that were refused; 0: too few were on their way to tell
	Same     int16  // refusals at the same number since the last trial
	RunPast  uint16 // calls that started before RunFrom and after the one that was refused last
}

// PaceState is what is known of one quota, in calls or tokens.
type PaceState struct {
	Rate      float64       // lambda: the pace in force, a second; 0: none
	Known     float64       // R: what the quota gives, as measured
	Ceiling   float64       // up to it the pace rises without spending from the budget of refusals
	UsedAt    time.Duration // when it held callers back last
	LastCount float64       // passed at the last window
	StatedEnd time.Duration // when what was stated ends
	Lowest    float32       // the lowest pace since the anchor
	Guess     float32       // Known, when it was taken from between its bounds; 0: it was measured
	Excess    float32       // how much more passed before the last refusal than Known explained
	Depth     float32       // how much of that was saved up, as far as is known
	Before    float32       // what passed between the two refusals before, a second, if it was measured well; 0: not known
	Met       float32       // the pace at the last refusal that was measured
	SpanCalls float32       // passed between refusals that say the same
	SpanTime  float32       // in how many s
	SpanPause float32       // s of pauses in that time
	Use       float32       // smoothed share of the pace that is in use
	Highest   float32       // the largest Known that was sure
	Margin    float32       // share of Known that is kept free besides, because it refused at less

	// The anchor: the refusal from which is measured.

	AnchorAt      time.Duration
	AnchorCount   float64       // passed then
	AnchorPaused  time.Duration // PausedSum then
	AnchorRefused int64         // Refused then

	// Small ones, together to save room.

	Sure       bool           // Known was measured well
	Measured   bool           // Known was measured at all
	Saves      bool           // the quota saves up what is not used: the pace at which it refuses says little
	PauseSaved bool           // in pauses, too
	StatedKind feedback.Scope // what was stated set the pace; ScopeNone: refusals did
	Alike      int8           // refusals in a row at that pace, while Saves
	Steady     int8           // refusals in a row that a long delay came with between which as much passed a second, at most 3
	Flips      int8           // how often that ended Saves, or spans told Saves at another pace, at most 4
}

// State returns what g has learned. It allocates nothing. Of a law that a guard was given it may be asked once the guard is closed and no call is in flight.
func (g *Governor) State() GovernorState { return g.s }

// Restore replaces what g has learned by s, which may come from another process: now is the instant on the clock of g's
// caller that corresponds to s.At, so give s.At to go on where s was taken, and 0 before g is given to a new guard, whose clock begins there. The parameters
// stay g's own, and what does not fit them, or makes no sense, is moved into range. It allocates nothing.
func (g *Governor) Restore(now time.Duration, s GovernorState) {
	const most = 4 * MaxLimit
	s.Limit = between(s.Limit, float64(g.cfg.Min), float64(g.cfg.Max))
	for _, f := range [...]*float64{&s.Bound, &s.LastBound, &s.Top, &s.Proven, &s.Flight, &s.Good} {
		*f = between(*f, 0, most)
	}
	for _, f := range [...]*float64{&s.Flow, &s.Mean} {
		*f = between(*f, 0, unbounded)
	}
	for _, f := range [...]*float32{
		&s.FlowTime, &s.FlowBefore, &s.RefusalTime, &s.MeanOf, &s.DoubleDone, &s.QuickMean, &s.QuickFrom, &s.BlockArea, &s.BlockCalls, &s.BlockTokens, &s.BlockLatency, &s.BlockTimed,
		&s.TokensPerCall, &s.CutRate, &s.Excused,
	} {
		*f = float32(between(float64(*f), 0, unbounded))
	}
	for _, f := range [...]*float32{
		&s.RetestAt, &s.FlowShort, &s.FlowPast, &s.Way, &s.Places, &s.Least, &s.Held, &s.HangLevel, &s.HangMean, &s.HangSeen,
		&s.Threshold, &s.Knee, &s.Memory, &s.Peak, &s.RunLevel, &s.RefusedAt, &s.MeanLevel, &s.CapAt, &s.DoubleFrom, &s.CutLevel, &s.BlockFrom,
	} {
		*f = float32(between(float64(*f), 0, most))
	}
	if s.Places > 0 {
		s.Places = max(s.Places, float32(g.cfg.Min)) // the least may have been less before
	}
	// Calls in flight may turn out to be refused, or to be fewer than was told, so counts of accepted calls may fall below 0.
	for _, f := range [...]*float64{&s.HitsFrom, &s.RefusedCount, &s.ActiveCount, &s.SpellCount, &s.RetestCount, &s.RunFrom, &s.FlowCount} {
		*f = between(*f, -unbounded, unbounded)
	}
	for _, f := range [...]*float32{&s.Line.N, &s.Line.XX, &s.Line.YY, &s.StepOf, &s.StepLevel, &s.StepLatency, &s.BestRate, &s.BestLevel} {
		*f = float32(between(float64(*f), 0, unbounded))
	}
	for _, f := range [...]*float32{&s.FlowStarts, &s.Line.X, &s.Line.Y, &s.Line.XY} {
		*f = float32(between(float64(*f), -unbounded, unbounded))
	}
	s.Noise, s.Base, s.Steep = float32(between(float64(s.Noise), 0, unbounded)), float32(between(float64(s.Base), -unbounded, unbounded)), float32(between(float64(s.Steep), -unbounded, unbounded))
	if !s.Size.sound() {
		s.Size, s.Counts = SizeState{}, byCalls
	}
	s.Counts = min(s.Counts, byLatency)
	for _, f := range [...]*float32{&s.BlockTook, &s.BlockSize, &s.BlockLevel, &s.BlockLost} {
		*f = float32(between(float64(*f), 0, blockMost))
	}
	for i := range s.First.Of {
		s.First.Of[i], s.First.Base[i] = min(s.First.Of[i], firstCalls), float32(between(float64(s.First.Base[i]), -1e6, 1e6))
	}
	l := &s.Lag
	l.Hold = min(max(l.Hold, 0), int8(numLags))
	l.N, l.Fails, l.Debt = min(max(l.N, 0), 1<<14), min(max(l.Fails, 0), 4), float32(between(float64(l.Debt), 0, mostLagDebt))
	l.Rate, l.Count = float32(between(float64(l.Rate), 0, 1e9)), between(l.Count, -unbounded, unbounded)
	for i := range l.Mean {
		l.Mean[i], l.Var[i] = float32(between(float64(l.Mean[i]), 0, most)), float32(between(float64(l.Var[i]), 0, 1e12))
	}
	b := &s.Begin
	b.Mean, b.Noise, b.Of, b.Times = float32(between(float64(b.Mean), 0, unbounded)), float32(between(float64(b.Noise), 0, unbounded)), float32(between(float64(b.Of), 0, 1/firstGain)), float32(between(float64(b.Times), 0, 8))
	b.Late = float32(between(float64(b.Late), -unbounded, unbounded))
	s.SlowerTimes = min(max(s.SlowerTimes, 0), 8)
	s.RefusalTime = float32(min(float64(s.RefusalTime), maxGap.Seconds()))
	s.Credit, s.Spread = between(s.Credit, -mostOwed, startCredit), float32(between(float64(s.Spread), 0, 1))
	s.TimeoutDebt, s.LateDebt, s.Verdict = float32(between(float64(s.TimeoutDebt), 0, maxDebt+fewDebt+mostFew*s.Limit)), float32(between(float64(s.LateDebt), 0, maxDebt)), float32(between(float64(s.Verdict), 0, maxVerdict.Seconds()))
	s.Spells = float32(between(float64(s.Spells), 0, 100))
	s.Against, s.Contra = float32(between(float64(s.Against), 0, 20)), float32(between(float64(s.Contra), 0, 4))
	s.Calm, s.Tests = float32(between(float64(s.Calm), 0, mostCalm)), s.Tests%sharedTest
	s.Debt, s.Chance = float32(between(float64(s.Debt), 0, maxAloneDebt+1)), float32(between(float64(s.Chance), 0, mostNoise))
	s.Sharing, s.Others = float32(between(float64(s.Sharing), 0, mostShared)), min(s.Others, inVain)
	s.CapRate, s.CapShare = float32(between(float64(s.CapRate), 0, unbounded)), float32(between(float64(s.CapShare), 0, 1))
	s.Wrong, s.Lag.Freed = min(max(s.Wrong, 0), 3), float32(between(float64(s.Lag.Freed), -mostFreed, mostFreed))
	s.Retests, s.RetestGap = min(max(s.Retests, 0), mostRetests), min(max(s.RetestGap, 0), retestFirst<<(mostRetests-1))
	s.Same, s.Trial, s.Hits, s.Refuted = min(max(s.Same, 0), mostSame), float32(between(float64(s.Trial), 0, most)), min(max(s.Hits, -2), 4), min(max(s.Refuted, 0), 3)
	s.Confirmed = min(max(s.Confirmed, 0), sameAgain+1)
	s.InFlight, s.Old, s.Stated = level(s.InFlight), int32(level(int(s.Old))), int32(level(int(s.Stated)))
	s.Hung, s.Tries = uint16(min(int(s.Hung), s.InFlight)), min(s.Tries, mostTries+1)
	if now != s.At {
		s.Hung, s.Tries = 0, 0 // those that hang are calls of another process
	}
	if s.Stated > 0 && !s.Doubted {
		s.Limit = min(s.Limit, float64(max(int(s.Stated), g.cfg.Min))) // the same number stated again lowers nothing
	}
	s.Sharp, s.Wins, s.Test, s.CapLike, s.Pauses, s.Uneven = min(max(s.Sharp, 0), 8), min(max(s.Wins, 0), 10), min(max(s.Test, 0), 3), min(max(s.CapLike, 0), 3), min(max(s.Pauses, 0), maxPauses), min(max(s.Uneven, 0), mostUneven)
	s.Streak, s.Yield = max(s.Streak, 0), s.Yield%makesRoom
	const calls = 1 << 52 // what a float64 counts
	s.Done, s.Refused, s.TokensDone = min(max(s.Done, 0), calls), min(max(s.Refused, 0), calls), min(max(s.TokensDone, 0), calls)
	s.HitsFrom = min(s.HitsFrom, float64(s.Done+int64(s.InFlight)-s.Refused)) // until so many are accepted none would count
	if n := s.Done + int64(s.InFlight) - s.Refused; s.RingCount < n-mostRing || s.RingCount > n+mostRing {
		s.RingCount = n // it would take for ever to catch up
	}
	s.Latency, s.Doubling, s.Quickest = min(max(s.Latency, 0), maxGap), min(max(s.Doubling, 0), maxGap), min(max(s.Quickest, 0), maxGap)
	s.PausedSum, s.LastPause, s.DarkGap = min(max(s.PausedSum, 0), mostPaused), min(max(s.LastPause, 0), maxGap), min(max(s.DarkGap, 0), maxGap)
	for i := range s.Cells {
		c := &s.Cells[i]
		if !(c.Rate > 0 && c.Rate <= unbounded && c.Latency >= 0 && c.Latency <= unbounded && c.Level >= 1 && c.Level <= most && c.At >= 0 && c.At <= unbounded) {
			*c = CellState{}
		}
	}
	s.Most.sound()
	s.FewSince = float32(between(float64(s.FewSince), 0, unbounded))
	s.Few.sound()
	s.Floor.sound()
	for i := range s.Levels {
		l := &s.Levels[i]
		if !(l.N > 0 && l.N <= levelMemory && l.Limit >= 1 && math.Abs(float64(l.Took)) <= mostClass && l.At >= 0 && l.At <= unbounded) {
			*l = LevelState{}
		}
	}
	s.Left, s.Crowd = float32(between(float64(s.Left), -1, most)), min(s.Crowd, mostCrowd)
	s.LevelRest, s.LevelDrift = float32(between(float64(s.LevelRest), 0, 4)), float32(between(float64(s.LevelDrift), -mostClass, mostClass))
	s.Drain = float32(between(float64(s.Drain), -unbounded, most))
	s.LevelOf = int32(level(int(s.LevelOf)))
	s.LevelTimes, s.LevelSeen, s.LevelNew = min(max(s.LevelTimes, 0), mostLevels), min(s.LevelSeen, levelMemory), min(s.LevelNew, levelMemory)
	for i := range s.Pace {
		p := &s.Pace[i]
		for _, f := range [...]*float64{&p.Rate, &p.Known, &p.Ceiling} {
			*f = between(*f, 0, unbounded)
		}
		if p.Rate > 0 {
			p.Rate = max(p.Rate, leastTold)
		}
		for _, f := range [...]*float32{&p.Lowest, &p.Use, &p.Highest, &p.Guess, &p.Excess, &p.Depth, &p.Before, &p.Met, &p.SpanCalls, &p.SpanTime, &p.SpanPause} {
			*f = float32(between(float64(*f), 0, unbounded))
		}
		for _, f := range [...]*float64{&p.LastCount, &p.AnchorCount} {
			*f = between(*f, -unbounded, unbounded)
		}
		p.Margin = float32(between(float64(p.Margin), 0, mostMargin))
		p.Alike, p.Flips, p.Steady = min(max(p.Alike, 0), 64), min(max(p.Flips, 0), mostFlips), min(max(p.Steady, 0), 3)
		if p.SpanTime < leastSpan {
			p.noSpan()
		}
		if int(p.StatedKind) >= feedback.NumScopes {
			p.StatedKind = feedback.ScopeNone
		}
		if p.Rate > 0 && p.StatedKind == feedback.ScopeNone {
			p.Rate = max(p.Rate, paceMargin*leastPace) // refusals set no slower one
		}
		p.AnchorRefused = min(max(p.AnchorRefused, 0), s.Refused)
		p.AnchorPaused = min(max(p.AnchorPaused, 0), s.PausedSum)
	}
	for i := range s.Told {
		s.Told[i].sound()
	}
	for i := toldRequests; i < numTold; i++ {
		s.Told[i].Rate, s.Told[i].End = 0, 0 // the pace is in Pace
	}
	s.Turn.sound()
	s.Slide.sound()
	s.Gives.sound()
	s.Burst.sound()
	s.Ticks.sound(s.Done + int64(s.InFlight) - s.Refused)
	s.Spent.sound(s.TokensDone)
	if int(s.Binding) >= feedback.NumScopes {
		s.Binding = feedback.ScopeUnknown
	}
	if int(s.Cause) >= NumCauses {
		s.Cause = CauseExternal
	}
	if s.At == math.MinInt64 { // it was told nothing yet, so it remembers no instants
		fresh := *New(g.cfg)
		fresh.s.Limit = s.Limit
		g.s = fresh.s
		return
	}
	s.Second, l.Last = min(max(s.Second, 0), math.MaxInt64/int64(time.Second)), min(max(l.Last, 0), math.MaxInt64/int64(lagTick))
	// Instants become instants of the new clock: none lies further back than a day, nor ahead than an hour.
	instants := [...]*time.Duration{
		&s.CutAt, &s.RefusedLast, &s.PassedAt, &s.HoleAt, &s.RetestFrom, &s.DarkSince, &s.DarkLast, &s.HoldUntil, &s.ActiveAt, &s.PausedUntil, &s.ProbeAt, &s.FlowAt, &s.StatedAt,
		&s.BusyAt, &s.ValidAt, &s.DoubleAt, &s.BlockAt, &s.BlockLast, &s.CalmAt, &s.TriedAt, &s.LevelAt, &s.AskAgain, &s.SlowerUntil, &s.StayUntil, &s.SpellAt, &s.HangAt, &s.Most.From, &s.Begin.Until, &s.Lag.At, &s.Turn.At,
		&s.Pace[0].UsedAt, &s.Pace[0].StatedEnd, &s.Pace[0].AnchorAt, &s.Told[0].End, &s.Told[1].End, &s.Pace[1].UsedAt, &s.Pace[1].StatedEnd, &s.Pace[1].AnchorAt,
	}
	for _, at := range instants {
		*at = moved(*at, s.At, now)
	}
	s.HoldUntil, s.Turn.At = min(s.HoldUntil, after(now, longestHold)), min(s.Turn.At, now)
	s.RefusedLast, s.TriedAt = min(s.RefusedLast, now), min(s.TriedAt, now) // for some time after them a slow pace, or one call more, is not tried
	// The origin is that of Ring's seconds and of the cells, so it keeps its distance.
	age := s.At - s.Origin
	if s.Origin > s.At || age < 0 || now-age > now || now-age < math.MinInt64/2 {
		age, s.Second, s.Cells, s.Levels = 0, 0, [numCells]CellState{}, [numLevels]LevelState{}
		l.Ends, l.Last = [lagTicks]uint8{}, 0
		s.RingCount = s.Done + int64(s.InFlight) - s.Refused
		s.Ticks, s.Spent.Count, s.Spent.Ring = TicksState{Count: s.RingCount}, s.TokensDone, [ringSize]uint8{}
	}
	s.Origin = now - age
	if float64(s.Burst.Seconds) < -age.Seconds()-1 { // as exact as a float32 is within months
		s.Burst.Seconds = float32(burstTimes[0]) // the first refusal lies ahead of the clock, and what passed before it would be looked for there
	}
	// What is ahead of the clock would never leave a window, and be looked for part by part.
	if s.Second > int64(age/time.Second) {
		s.Second, s.RingCount, s.Ring = int64(age/time.Second), s.Done+int64(s.InFlight)-s.Refused, [ringSize]int16{}
		s.Spent.Count, s.Spent.Ring = s.TokensDone, [ringSize]uint8{}
	}
	if s.Ticks.Last > int64(age/tickTime) {
		s.Ticks = TicksState{Last: int64(age / tickTime), Count: s.Done + int64(s.InFlight) - s.Refused}
	}
	// Nothing was known later than that, or it would never be forgotten.
	last := float32(age.Seconds())
	for i := range s.Cells {
		s.Cells[i].At = min(s.Cells[i].At, last)
	}
	for i := range s.Levels {
		s.Levels[i].At = min(s.Levels[i].At, last)
	}
	s.At = now
	g.s = s
}

const (
	// maxGap bounds a time that a state remembers.
	maxGap = 24 * time.Hour
	// mostPaused bounds the sum of all pauses, so that no further one is too much: 73 years.
	mostPaused = time.Duration(1 << 61)
)

// unbounded is a rate or a count that nothing reaches, and that JSON can hold.
const unbounded = 1e15

// between returns f, moved into lo to hi; lo when it is no number.
func between(f, lo, hi float64) float64 {
	if !(f >= lo) {
		return lo
	}
	return min(f, hi)
}

// moved returns the instant at, which was remembered at then, on a clock that shows now.
func moved(at, then, now time.Duration) time.Duration {
	switch d := then - at; {
	case at > then: // ahead, however far
		if ahead := at - then; ahead > 0 && ahead <= time.Hour {
			return after(now, ahead)
		}
		return after(now, time.Hour)
	case d < 0 || d > maxGap || now-d > now:
		if now-maxGap > now {
			return math.MinInt64
		}
		return now - maxGap
	default:
		return now - d
	}
}
