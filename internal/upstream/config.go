package upstream

import (
	"time"

	"github.com/flyball-go/flyball/internal/draw"
)

// Config is an upstream. The zero value of each stage is its absence. Parameters that [Param] names can be changed
// while it runs.
type Config struct {
	Seed uint64
	// Epoch is the wall-clock time of instant 0, for answers that name a date. The zero Epoch is 2026-01-01 UTC.
	Epoch time.Time
	// Dialect is how answers are worded, and which header fields they carry.
	Dialect Dialect
	// Refusal is how long the upstream takes to say no.
	Refusal draw.Dist
	// Keys are the credentials that it knows; nil is one. Each has quotas and caps of its own.
	Keys []Key

	Faults      []Fault
	Noise       Noise
	Connections Connections
	Quotas      []Quota
	Slope       Slope
	Concurrency Concurrency
	Server      Server
	Neighbour   Neighbour
	Autoscaler  Autoscaler

	// FirstByte asks for an event when an answer begins, and Progress for one each time that many more tokens of it
	// are there (0: none). They cost time, and a simulation does not need them.
	FirstByte bool
	Progress  int64
}

// Key is a credential.
type Key struct {
	// Share is the key's quotas and caps as a share of those of Config (> 0); zero is 1.
	Share float64
	// Revoked keys are answered with 401.
	Revoked bool
}

// Counter is what a quota counts.
type Counter uint8

const (
	// Requests counts calls.
	Requests Counter = iota
	// InputTokens counts the tokens of prompts.
	InputTokens
	// OutputTokens counts the tokens that are generated.
	OutputTokens
	// Tokens counts both.
	Tokens

	numCounters = int(Tokens) + 1
)

var counterNames = [numCounters]string{"requests", "input_tokens", "output_tokens", "tokens"}

// String returns the counter as scenarios write it.
func (c Counter) String() string { return counterNames[min(int(c), numCounters-1)] }

// ParseCounter returns the counter that is written as name.
func ParseCounter(name string) (Counter, bool) { return parse[Counter](counterNames[:], name) }

func parse[T ~uint8](names []string, name string) (T, bool) {
	for i, n := range names {
		if n == name {
			return T(i), true
		}
	}
	return 0, false
}

// Algorithm is how a quota comes back.
type Algorithm uint8

const (
	// Refill is a bucket that refills continuously.
	Refill Algorithm = iota
	// FixedWindow starts anew at each multiple of Window.
	FixedWindow
	// SlidingLog counts what was taken in the last Window.
	SlidingLog
	// SlidingCounter counts this window, and of the one before the share that the last Window still overlaps.
	SlidingCounter

	numAlgorithms = int(SlidingCounter) + 1
)

var algorithmNames = [numAlgorithms]string{"refill", "fixed-window", "sliding-log", "sliding-counter"}

// String returns the algorithm as scenarios write it.
func (a Algorithm) String() string { return algorithmNames[min(int(a), numAlgorithms-1)] }

// ParseAlgorithm returns the algorithm that is written as name.
func ParseAlgorithm(name string) (Algorithm, bool) { return parse[Algorithm](algorithmNames[:], name) }

// Charge is when tokens are taken from a quota.
type Charge uint8

const (
	// ChargeBefore takes what the call may use (its input and its largest output) when it comes, and keeps it.
	ChargeBefore Charge = iota
	// ChargeSettled takes that, and gives back at the end what was not used.
	ChargeSettled
	// ChargeAfter lets a call pass when anything is left, and takes what it used at its end.
	ChargeAfter

	numCharges = int(ChargeAfter) + 1
)

var chargeNames = [numCharges]string{"before", "settled", "after"}

// String returns the rule as scenarios write it.
func (c Charge) String() string { return chargeNames[min(int(c), numCharges-1)] }

// ParseCharge returns the rule that is written as name.
func ParseCharge(name string) (Charge, bool) { return parse[Charge](chargeNames[:], name) }

// Quota allows an amount in a time. A call must pass all quotas; it is charged for none when one refuses, but for
// those that charge refused calls.
type Quota struct {
	Counter Counter
	// Limit is how much is allowed a minute, or a day when Daily (> 0, in units of Counter).
	Limit float64
	Daily bool
	// Algorithm is how it comes back. Window is its length for all but Refill (zero: the minute or the day); a shorter one
	// allows the same share of Limit, as of providers that enforce a limit per minute in slices of 1 or 10 s.
	Algorithm Algorithm
	Window    time.Duration
	// Burst is how much may pass at once after a rest, for Refill (> 0, in units of Counter).
	Burst float64
	// Charge is when tokens are taken. Requests are always taken before.
	Charge Charge
	// CachedFree says that input that was read from a cache does not count.
	CachedFree bool
	// ChargeRefused says that a call that is refused, by this or by a later stage, uses up quota, too.
	ChargeRefused bool
	Answer        Answer
}

// Slope refuses calls of one window that exceed the most of any window before by more than a share: a limit on how fast load may grow.
type Slope struct {
	// Growth is that share (> 0, unitless); zero is no such limit.
	Growth float64
	// Window is the length of a window; zero is 10 s.
	Window time.Duration
	// Floor is how many calls always pass in a window.
	Floor  int
	Answer Answer
}

// Connections holds calls back while Limit of them are in the upstream.
type Connections struct {
	Limit int // 0: no limit
	// Backlog is how many calls wait for a connection; more are refused.
	Backlog int
	Answer  Answer
}

// Concurrency refuses calls while Limit of them are in the upstream, for each key.
type Concurrency struct {
	Limit int // 0: no limit
	// Lag is for how long a call is still counted after its end. It is drawn for the k-th start, as Server.Service is.
	Lag    draw.Dist
	Answer Answer
}

// Kind is how a server shares itself among calls.
type Kind uint8

const (
	// Servers serves up to Server.Servers calls at a time; others queue.
	Servers Kind = iota
	// Sharing works on all calls at the same time, together at most as fast as Server.Servers calls alone
	// (processor sharing).
	Sharing
	// Batch is continuous batching of language-model requests; see [LLM].
	Batch

	numKinds = int(Batch) + 1
)

var kindNames = [numKinds]string{"servers", "sharing", "batch"}

// String returns the kind as scenarios write it.
func (k Kind) String() string { return kindNames[min(int(k), numKinds-1)] }

// ParseKind returns the kind that is written as name.
func ParseKind(name string) (Kind, bool) { return parse[Kind](kindNames[:], name) }

// Server serves calls. Without KnowsHangups it does not notice that a caller gave up.
//
// A call that is alone takes Service + InputToken·input + OutputToken·output; its answer begins when the output does. Beside n-1 other
// calls it takes that times
//
//	1 + Scale·(n-1) + (KneeBase^max(0, n-Knee) - 1) + RateScale·(r-1)
//
// with n as it is when the call starts, and r the calls that started in the last second. (The terms in n are Vector's adaptive concurrency
// tests'; KneeBase counts only when Knee is > 0.)
type Server struct {
	Kind Kind
	// Servers is how many calls are served at a time; 0 means all. It need not be whole: for Sharing parts count, else the whole ones do, at least one.
	Servers float64
	// Bounded says that at most Queue calls wait for a server; more are refused. LIFO serves the newest first.
	Bounded bool
	Queue   int
	LIFO    bool
	// QueueTimeout refuses a call that has waited for so long; 0 is never.
	QueueTimeout time.Duration

	Service     draw.Dist
	InputToken  time.Duration
	OutputToken time.Duration

	Scale, Knee, KneeBase float64
	RateScale             float64
	// Stall is how long a body stands still, for a share StallShare (0 to 1) of the calls.
	Stall      draw.Dist
	StallShare float64
	// KnowsHangups frees a server when its caller hangs up.
	KnowsHangups bool
	// Slow multiplies the time that calls take from their start on; zero is 1.
	Slow float64

	LLM    LLM
	Answer Answer
}

// Fault is something that is wrong for a while.
type Fault struct {
	From, To time.Duration
	Kind     FaultKind
	// Share is the share of the calls that are refused or swallowed (0 to 1); zero is all of them.
	Share float64
	// Capacity multiplies Server.Servers, and Slow the time that calls take, in a Brownout; zero is 1.
	Capacity, Slow float64
	Answer         Answer
}

// FaultKind is what is wrong.
type FaultKind uint8

const (
	// Refuse answers every call at once. Calls that came before go on.
	Refuse FaultKind = iota
	// BlackHole swallows every call: there is no answer at all.
	BlackHole
	// Brownout serves fewer calls, or more slowly.
	Brownout

	numFaults = int(Brownout) + 1
)

var faultNames = [numFaults]string{"refuse", "black-hole", "brown-out"}

// String returns the kind as scenarios write it.
func (k FaultKind) String() string { return faultNames[min(int(k), numFaults-1)] }

// ParseFault returns the kind that is written as name.
func ParseFault(name string) (FaultKind, bool) { return parse[FaultKind](faultNames[:], name) }

// Faultless returns the first instant from at on, in ns, at which none of some faults keeps all calls out.
func Faultless(faults []Fault, at int64) int64 {
	for again := true; again; {
		again = false
		for i := range faults {
			f := &faults[i]
			if f.Kind != Brownout && (f.Share == 0 || f.Share == 1) && at >= int64(f.From) && at < int64(f.To) {
				at, again = int64(f.To), true
			}
		}
	}
	return at
}

// Noise refuses a share of the calls for no reason.
type Noise struct {
	Share  float64 // 0 to 1
	Answer Answer
}

// Neighbour is somebody else on the same account: calls that use the same quotas, caps (those of the first key) and servers. They come at
// random, at Rate a second, or at Busy a second while the neighbour is busy, and are not retried.
type Neighbour struct {
	Rate, Busy float64
	// Quiet and Burst are how long it is quiet and busy, on average (exponential). A zero Burst is never busy.
	Quiet, Burst  time.Duration
	Input, Output draw.Dist // tokens
}

// Autoscaler adds servers while they are in demand, and takes them away.
type Autoscaler struct {
	// Max is how many servers there are at most, and the value at the start is the least; zero is no autoscaler.
	Max float64
	// Step is how many servers come or go at a time (>= 1).
	Step float64
	// Tick is how often it looks; zero is 15 s.
	Tick time.Duration
	// Target is the share of the servers that should be busy (0 to 1); zero is 0.7.
	Target float64
	// Up and Down are for how long more or fewer must be wanted; zero is at once, and 300 s.
	Up, Down time.Duration
	// ColdStart is how long a new server takes to be ready.
	ColdStart draw.Dist
}

// Answer is how a stage says no.
type Answer struct {
	Status     int // HTTP status; zero is the stage's own
	RetryAfter RetryAfter
	Body       string // of the answer, in place of the dialect's
	// Silent gives no answer at all: the call is swallowed.
	Silent bool
}

// RetryAfter is what a refusal says about when to come back.
type RetryAfter struct {
	Mode RetryMode
	// Form is how it is written; a dialect may have a place of its own for it.
	Form RetryForm
	// Delay is what RetryConstant says.
	Delay time.Duration
	// Factor multiplies the truth for RetryWrong.
	Factor float64
	// Jitter spreads what is said by ±Jitter (0 to 1, unitless).
	Jitter float64
	// Missing is the share of the refusals that say nothing (0 to 1).
	Missing float64
}

// RetryMode is how what is said relates to the truth, the time until the call would pass.
type RetryMode uint8

const (
	// RetryNone says nothing.
	RetryNone RetryMode = iota
	// RetryExact says the truth, where it is known.
	RetryExact
	// RetryConstant says Delay, whatever the truth is.
	RetryConstant
	// RetryWrong says the truth times Factor.
	RetryWrong
	// RetryStale says what the refusal before said, counted from then, and the truth once that is past.
	RetryStale
)

// RetryForm is how a delay is written.
type RetryForm uint8

const (
	// FormSeconds is Retry-After in whole seconds, rounded up.
	FormSeconds RetryForm = iota
	// FormMillis is retry-after-ms, and Retry-After beside it.
	FormMillis
	// FormDate is Retry-After as an HTTP date.
	FormDate
)

// Param is a parameter that may change while an upstream runs.
type Param struct {
	Kind  ParamKind
	Index int // of the quota or fault
}

// ParamKind says which parameter.
type ParamKind uint8

const (
	ParamQuotaLimit   ParamKind = iota + 1 // Quotas[Index].Limit
	ParamQuotaBurst                        // Quotas[Index].Burst
	ParamConcurrency                       // Concurrency.Limit
	ParamConnections                       // Connections.Limit
	ParamServers                           // Server.Servers
	ParamSlow                              // Server.Slow
	ParamNoise                             // Noise.Share
	ParamNeighbour                         // Neighbour.Rate and Busy: a factor for both
	ParamKV                                // Server.LLM.KV
	ParamQueue                             // Server.Queue
	ParamService                           // Server.Service: its mean, in s
	ParamSlopeGrowth                       // Slope.Growth
	ParamSlopeFloor                        // Slope.Floor
	ParamRTT                               // of the network, in s, which is the driver's: an upstream knows none
	ParamRefusal                           // Refusal: its mean, in s
	ParamLag                               // Concurrency.Lag: its mean, in s
	ParamBacklog                           // Connections.Backlog
	ParamScale                             // Server.Scale
	ParamKnee                              // Server.Knee
	ParamKneeBase                          // Server.KneeBase
	ParamRateScale                         // Server.RateScale
	ParamInputToken                        // Server.InputToken, in s
	ParamOutputToken                       // Server.OutputToken, in s
	ParamStallShare                        // Server.StallShare
	ParamQueueTimeout                      // Server.QueueTimeout, in s
	ParamMaxSeqs                           // Server.LLM.MaxSeqs
	ParamChunk                             // Server.LLM.Chunk
	ParamRetryFactor                       // of the answer of Quotas[Index]
	ParamRetryMissing                      // of the answer of Quotas[Index]
	ParamRetryJitter                       // of the answer of Quotas[Index]
	ParamScalerMax                         // Autoscaler.Max
	ParamScalerTarget                      // Autoscaler.Target
)
