package report

import "time"

// Report is the outcome of one simulator command: scenarios times controllers.
type Report struct {
	// Title heads the report. Empty means "flyball simulation".
	Title string
	// Version of the program that ran, as it prints it; empty if unknown.
	Version string
	// Command is the command line that reproduces the report. Of a report that was put together from several, it is
	// one line each.
	Command string
	// Config identifies the settings of the guard: a hash of them; empty if unknown.
	Config string
	// Seed is the first seed; runs use Seed, Seed+1, … Seed+Seeds-1.
	Seed uint64
	// Seeds is how many seeds each summary covers. Zero means 1.
	Seeds int
	// Scenarios in the order in which they are shown.
	Scenarios []Scenario
	// Interrupted says that the command was stopped before every scenario ran.
	Interrupted bool
}

// Scenario is one upstream and one workload, met by several controllers.
type Scenario struct {
	// Name is short and unique in a report, such as "rpm-bucket".
	Name string
	// Intent says in one sentence what must happen.
	Intent string
	// Duration of the measured part, without warm-up and drain, in virtual time.
	Duration time.Duration
	// Oracle is the best that any controller could have done.
	Oracle Oracle
	// Alpha is the chance of a wrong verdict that was spent where seeds were added until the verdicts were decided (0 to 1). Zero
	// means 0.05.
	Alpha float64
	// Runs in the order in which they are shown. A controller keeps its name
	// over all scenarios; the name chooses its colour.
	Runs []Run
	// Interrupted says that the scenario was stopped before it was complete.
	// It is shown and never ranked.
	Interrupted bool
}

// What notes of the simulator's oracles begin with, and end in where goodput is a share of tokens.
const (
	NoteBound    = "upper bound over all controllers"
	NoteEstimate = "estimate of the best"
	NoteTokens   = "; goodput counts tokens"
)

// Oracle is what a controller that knew everything would have done.
type Oracle struct {
	// Note says in words how the oracle was computed, such as
	// "best static limit on the same seeds: 10".
	Note string
	// Goodput is the mean of successes per second over Duration; every
	// Summary.Goodput is a share of it.
	Goodput float64
	// Step is the time from one element of Limit and Rate to the next. Zero
	// means the step of the scenario's first run.
	Step time.Duration
	// Limit is the best number in flight at each step (requests). Empty, or NaN
	// at a step, where no limit is best (only a rate is).
	Limit []float64
	// Rate is the best successes per second at each step: the smaller of demand
	// and capacity. Empty if unknown.
	Rate []float64
}

// Run is one controller in one scenario.
type Run struct {
	// Controller is the name shown: "ours", "gcl-aimd", "no guard".
	Controller string
	// Ours marks this project's controller. The verdict is about the first
	// controller so marked; any other counts as a rival.
	Ours bool
	// Reference marks a run that knows what no controller can know, such as the
	// best static limit found by search. It is shown and never ranked.
	Reference bool
	// Summary covers all seeds.
	Summary Summary
	// PerSeed is the summary of each seed, in ascending order of the seeds. Without them nothing can be said about
	// chance.
	PerSeed []SeedSummary
	// Series and Decisions are those of the first seed.
	Series    Series
	Decisions []Decision
	// Low and High are the 10th and 90th percentile over the seeds at each step of Series; empty for fewer than three seeds.
	Low, High Series
}

// SeedSummary is the summary of one seed.
type SeedSummary struct {
	Seed uint64
	Summary
}

// Summary is one controller in one scenario over all seeds. Counts are totals
// over the seeds, so that they add up exactly:
//
//	Offered = OK + Failed + Refused + Unfinished
//	Sent   >= OK + Rejected429
type Summary struct {
	// Seeds is how many seeds are inside. Zero means 1.
	Seeds int
	// Offered is how many requests the workload wanted served.
	Offered int64
	// OK is how many of them succeeded, retries included.
	OK int64
	// Failed is how many were given up after an answer or an error.
	Failed int64
	// Refused is how many the guard turned away without sending them.
	Refused int64
	// Unfinished is how many were still waiting or running when the drain ended.
	Unfinished int64
	// Sent is how many attempts reached the upstream.
	Sent int64
	// Rejected429 is how many attempts the upstream answered with 429.
	Rejected429 int64

	// Goodput is successes as a share of the oracle's (ratio, 0 to 1; above 1
	// only if the oracle is an estimate): the mean over the seeds.
	Goodput float64
	// GoodputLow and GoodputHigh are the smallest and largest Goodput of a seed.
	// Both zero means not known.
	GoodputLow, GoodputHigh float64
	// GoodputRate is successes per second, the mean over the seeds.
	GoodputRate float64
	// RejectedPerOK is Rejected429 / OK (ratio, >= 0): how many 429s one success
	// cost. +Inf when nothing succeeded but something was rejected.
	RejectedPerOK float64

	// Mean, P50, P90 and P99 are the latency of the successes, from the intended
	// arrival to the end of the answer, so that all waiting counts. Negative means
	// not known (nothing succeeded).
	Mean, P50, P90, P99 time.Duration

	// Settle is how long it took from the beginning until successes came to nine
	// tenths of what could be had, to stay there; it means something only if
	// Settled. With several seeds: the mean, and Settled only if each did.
	Settle  time.Duration
	Settled bool
	// NoLevel says that there was too little to be had at the beginning to tell;
	// Settle is then shown as a dash.
	NoLevel bool
	// SettleAllowed is how soon it is asked to settle, and SettledInTime how many
	// of the seeds did; both zero where it is not known.
	SettleAllowed time.Duration
	SettledInTime int

	// MeanLimit and MeanInFlight are time-weighted means (requests). NaN or Inf
	// where the controller has no limit.
	MeanLimit, MeanInFlight float64
	// Swing is how much the limit moves after its warm-up: its standard deviation divided by its mean (ratio, >= 0); NaN
	// where there is no limit. See [stats.Swing].
	Swing float64
	// RejectedSteady is 429s as a share of the attempts after goodput had come to 90 % of what it could be in its phase, RejectedTransient the
	// same before (ratios, 0 to 1); NaN where there was no such time.
	RejectedSteady, RejectedTransient float64
	// Recover is the longest time that goodput took to come back to 95 % of what it could be after a change, in seconds: +Inf
	// when it did not, NaN when nothing changed. Changes is how many changes there were, over all seeds, and RecoveredInTime after how many of them it
	// was back in 10 s.
	Recover                  float64
	Changes, RecoveredInTime int
	// ChangesBy and RecoveredBy are the same by what happened.
	ChangesBy, RecoveredBy [NumChanges]int
	// Overshoot is by how much the limit exceeded the best one at most once goodput was there (ratio, >= 0), and Herd the attempts in the
	// second after a delay that the upstream asked for, as a multiple of what it sustains in a second; NaN where there is neither.
	Overshoot, Herd float64
	// Wasted is tokens that were generated for callers who had hung up, as a share of all (0 to 1); NaN where none were generated.
	Wasted float64
	// FirstByte50 and FirstByte99 are from the intended arrival of a success to the first byte of its answer, PerToken50 and PerToken99 the time
	// for each token after the first; not positive where answers do not stream.
	FirstByte50, FirstByte99, PerToken50, PerToken99 time.Duration
	// Regret is by how much goodput · e^(−10 · 429s per attempt) falls short of the oracle's, as a share of it; RegretStatic and
	// RegretPiecewise the same against the best constant limit, and the best limits that change when the world does, both searched for
	// with the same seed (ratios, at most 1; negative when it is better). NaN where it is not known. See [Regret].
	Regret, RegretStatic, RegretPiecewise float64
	// Inside is how many attempts were sent although an answer had asked to wait: of ours, none.
	Inside int64
	// Fairness is Jain's index over tenants or replicas (0 to 1, 1 is equal);
	// zero where there is only one.
	Fairness float64
}

// What may happen to what can be had.
const (
	Fall       = iota // it becomes less
	Rise              // it becomes more
	AfterDown         // it was nothing, in an outage or as nothing was asked for
	NumChanges        // their number
)

// Series is a run over time: element i covers [i*Step, (i+1)*Step). Every slice
// is empty or as long as the others. NaN or Inf is a gap.
type Series struct {
	// Step is the time from one element to the next, > 0.
	Step time.Duration
	// Limit is the limit in force at the end of the step (requests); Inf or NaN
	// where the controller has none.
	Limit []float64
	// Pace is the pace in force at the end of the step (requests per second); Inf
	// or NaN where the controller has none.
	Pace []float64
	// InFlight is the time-weighted mean of requests in flight.
	InFlight []float64
	// Waiting is the time-weighted mean of requests waiting in the guard.
	Waiting []float64
	// Goodput is successes per second.
	Goodput []float64
	// Rejected is 429s per second.
	Rejected []float64
}

// Decision is one change that a controller made, with its cause.
type Decision struct {
	// At is the virtual time since the start of the measured part.
	At time.Duration
	// Limit is the limit after the decision (requests); 0 means unlimited.
	Limit int
	// Pace is the pace after the decision (requests per second); 0 means none.
	Pace float64
	// Cause says why, in the controller's own word: "overload", "probe".
	Cause string
	// Binding names what holds requests back after the decision: "limit", "pace",
	// "pause"; empty if nothing does or it is not known.
	Binding string
}
