package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Config is a world and the guards that are tried in it. All instants are counted from the start.
type Config struct {
	Seed uint64
	// Duration is how long requests arrive and are measured (> 0).
	Duration time.Duration
	// Drain is how long the run goes on after Duration, at most, so that what was begun can
	// end and slow requests are not left out of the latencies (>= 0).
	Drain time.Duration
	// Horizon is until when successes count as goodput (0 to Duration). Zero means Duration.
	// Of a batch that can be done before, it is [Limits.Horizon].
	Horizon time.Duration
	// Step is the length of a step of the series. Zero means none are kept.
	Step time.Duration
	// Decisions says that decisions are kept, and Samples that times to the first byte, times per token and waits of
	// single requests are. Both cost memory.
	Decisions, Samples bool

	Workload Workload
	// RTT is the time that an attempt and its answer spend on the network together.
	RTT time.Duration
	// Upstream is what is called; its Seed is set from Seed.
	Upstream upstream.Config
	// Changes are steps of parameters, in the order of time.
	Changes []Change
	// Guard is what is tried; nil means none: every attempt is sent at once.
	Guard *Guard
	// Replicas are processes with guards of their own, which know nothing of each other; nil is one that is there all
	// the time. Each has a guard for each of Upstream.Keys.
	Replicas []Replica
}

// Guard is the parameters of a guard, as package limiter has them after its defaults.
type Guard struct {
	// Law must be new: it belongs to one run of one guard. NewLaw makes a law for each guard when there are several; n
	// counts them. One of the two must be set.
	Law    adaptive.Law
	NewLaw func(n int) adaptive.Law

	Queue            int // 0: nobody waits
	MaxWait          time.Duration
	MaxPause         time.Duration
	PauseJitter      float64
	IgnoreRetryAfter bool
	Observe          bool

	Room     admission.QueueConfig
	Budgets  admission.BudgetConfig
	Estimate admission.EstimateConfig
}

// law returns the law of the n-th guard.
func (g *Guard) law(n int) adaptive.Law {
	if g.NewLaw != nil {
		return g.NewLaw(n)
	}
	return g.Law
}

// listens reports whether the laws make use of the beginnings of answers.
func (g *Guard) listens() bool {
	_, ok := g.law(0).(adaptive.Listener)
	return ok
}

// Replica is a process that calls the upstream from Join until before Leave; a Leave of 0 is never. What it
// has begun when it leaves goes on, and what waits in its guard is refused there. In a closed loop or a backlog its share of the
// clients comes and goes with it.
type Replica struct{ Join, Leave time.Duration }

// Kind is a kind of workload.
type Kind uint8

const (
	// Poisson arrives at random, whatever happened before (an open loop).
	Poisson Kind = iota
	// Closed is clients that wait for an answer, think, and ask again.
	Closed
	// Backlog is jobs that are all there at the start, taken up by workers.
	Backlog
	// Renewal arrives with independent gaps of the shape of Workload.Gap, in an open loop.
	Renewal
	// Modulated arrives at random with a rate that jumps between States (MMPP; with a state of rate 0, on and off), in
	// an open loop.
	Modulated
	// Traced is a list of requests, in an open loop.
	Traced
	// Sessions are conversations that arrive at random: each asks, waits for the answer, thinks, and asks again with all that was
	// said before in its prompt.
	Sessions

	numKinds = int(Sessions) + 1
)

var kindNames = [numKinds]string{"poisson", "closed", "backlog", "renewal", "modulated", "trace", "sessions"}

// String returns the kind as scenarios write it.
func (k Kind) String() string { return kindNames[min(int(k), numKinds-1)] }

// ParseKind returns the kind that is written as name.
func ParseKind(name string) (Kind, bool) {
	for i, n := range kindNames {
		if n == name {
			return Kind(i), true
		}
	}
	return 0, false
}

// patient reports whether each request of a kind has somebody who waits for its answer before the next one.
func (k Kind) patient() bool { return k == Closed || k == Backlog }

// Workload is who asks.
type Workload struct {
	Kind Kind
	// Rate is how many requests arrive a second, for Poisson and Renewal; sessions, for Sessions. For Modulated it
	// multiplies the rates of the states (zero: 1), and so it does for Traced (zero: 1), whose times are divided by it.
	Rate float64
	// Gap is the shape of the gaps between arrivals, for Renewal; its mean does not matter.
	Gap draw.Dist
	// States are those of Modulated, in turn; the first one is the first.
	States []State
	// Requests are those of Traced, in the order of time.
	Requests []TraceRequest
	// Clients is how many clients there are for Closed, and workers for Backlog (>= 1).
	Clients int
	// Think is how long a client thinks between an answer and its next request, for Closed and Sessions, in ns.
	Think draw.Dist
	// Turns is how many requests a session has, drawn for each (at least 1, and 4095 at most).
	Turns draw.Dist
	// Jobs is how many jobs there are, for Backlog; 0 means that there is no end of them.
	Jobs int
	// Patience is how long after its arrival a request is given up; 0 means never.
	// Clients and workers wait for their answers: it must be 0 for them, see [Bound].
	Patience time.Duration
	// Timeout is how long an attempt may take; 0 means for ever. An attempt that takes longer is given up, and counts as one
	// that timed out.
	Timeout time.Duration
	// Repeatable says that a request may be sent again after a timeout or a server's error.
	Repeatable bool
	Retry      Retry

	// Input, Output are how many tokens a request's prompt and its answer have; zero for requests without.
	// Cached is the share of the prompt that is read from a cache (0 to 1).
	Input, Output draw.Dist
	Cached        float64
	// MaxOutput is how long a caller lets an answer be, in tokens; zero is twice the mean of Output.
	MaxOutput int64
	// Known is what a caller knows of its request when it asks the guard.
	Known Known
	// Streams says that callers notice when an answer begins.
	Streams bool
	// Tenants are who asks; nil is one without a name.
	Tenants []Tenant
}

// tokens reports whether requests have tokens.
func (w *Workload) tokens() bool {
	if w.Input.Mean > 0 || w.Output.Mean > 0 || len(w.Input.Parts)+len(w.Input.Quantiles)+len(w.Output.Parts)+len(w.Output.Quantiles) > 0 {
		return true
	}
	if w.Kind == Traced {
		for i := range w.Requests {
			if r := &w.Requests[i]; r.Input > 0 || r.Output > 0 {
				return true
			}
		}
	}
	for i := range w.Tenants {
		if t := &w.Tenants[i]; t.Input != nil || t.Output != nil {
			return true
		}
	}
	return false
}

// State is a state of a modulated workload.
type State struct {
	Rate float64       // requests a second
	Mean time.Duration // of the time that it lasts, which is exponential (> 0)
}

// Known is what a caller knows of its request.
type Known uint8

const (
	// KnowsNothing tells the guard no number.
	KnowsNothing Known = iota
	// KnowsInput tells it the prompt's tokens, and the mean of the output.
	KnowsInput
	// KnowsMost tells it the prompt's tokens, and the most that the output may have.
	KnowsMost
	// KnowsAll tells it what the request will use, which no real caller knows.
	KnowsAll

	numKnown = int(KnowsAll) + 1
)

var knownNames = [numKnown]string{"nothing", "input", "most", "all"}

// ParseKnown returns what is written as name.
func ParseKnown(name string) (Known, bool) {
	for i, n := range knownNames {
		if n == name {
			return Known(i), true
		}
	}
	return 0, false
}

// Tenant is somebody who asks.
type Tenant struct {
	Name   string
	Weight float64 // share of the requests, relative to the other tenants (> 0)
	// Priority and Class are those of its requests at the guard.
	Priority, Class uint8
	// Input and Output are its own, in place of the workload's; nil is the workload's.
	Input, Output *draw.Dist
	// Work is how many times as long as Server.Service its requests take at servers that do not batch; 0 is once.
	Work float64
	// Join and Leave are from when until when it asks; a Leave of 0 is the end.
	Join, Leave time.Duration
}

// asks reports whether t asks at an instant, in ns.
func (t *Tenant) asks(at int64) bool {
	return at >= int64(t.Join) && (t.Leave == 0 || at < int64(t.Leave))
}

// TraceRequest is a request of a list.
type TraceRequest struct {
	At                    time.Duration
	Input, Output, Cached int64 // tokens
	// Tenant is an index of Workload.Tenants, or negative for one of them at random.
	Tenant   int
	Priority uint8
	// Key is the credential that it must be sent with, counted from 1; 0 is any.
	Key int
	// Patience is how long after At it is given up; 0 is Workload.Patience.
	Patience time.Duration
}

// Retry is what every caller does about a refusal that can be retried, whatever guards it. It is the policy of
// package limiter: attempt n+1 is made after a random time between 0 and min(Max, Base·2^(n-1)) (full jitter); or, when the
// answer named a Retry-After, after that and up to a twentieth of it.
type Retry struct {
	Attempts  int // how many attempts a request may make in all (>= 1)
	Base, Max time.Duration
	// Budget is how many retries there may be for each success, beside 100 that a replica has at
	// the start; up to 100 are saved up. Zero means that they are not counted.
	Budget float64
	// MaxPause is the longest Retry-After that a caller waits for; 0 means any.
	MaxPause time.Duration
	// Steady is the share of a back-off that is not random (0 to 1); 0 is full jitter.
	Steady float64
	// Exact says that nothing is added to a Retry-After.
	Exact bool
	// Deaf says that no Retry-After is read.
	Deaf bool
}

// retryReserve is the reserve and the bound of a retry budget; see limiter.Retry.
const retryReserve = 100

// Param is a parameter that may change during a run: one of the upstream's, or ParamRate.
type Param = upstream.Param

// ParamRate is Workload.Rate.
var ParamRate = Param{}

// Change sets a parameter at an instant.
type Change struct {
	At    time.Duration
	Param Param
	To    float64
}

// check returns what makes c no world. Scenario files are checked where they are read, with better words.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("sim: "+format, a...)) }
	w, u := &c.Workload, &c.Upstream
	if c.Duration <= 0 || c.Drain < 0 || c.Step < 0 || c.Horizon < 0 || c.Horizon > c.Duration || c.RTT < 0 {
		bad("Duration %v, Drain %v, Step %v, Horizon %v, RTT %v: out of range", c.Duration, c.Drain, c.Step, c.Horizon, c.RTT)
	}
	if (w.Kind == Poisson || w.Kind == Renewal || w.Kind == Sessions) && !(w.Rate > 0) {
		bad("Rate is %v, must be > 0", w.Rate)
	}
	if w.Rate < 0 {
		bad("Rate is %v, must be >= 0", w.Rate)
	}
	if w.Kind.patient() && w.Clients < 1 {
		bad("Clients is %d, must be >= 1", w.Clients)
	}
	if w.Kind.patient() && w.Patience != 0 {
		bad("Patience is %v, must be 0 for a closed loop or a backlog", w.Patience)
	}
	if w.Retry.Attempts < 1 || w.Retry.Attempts > 250 {
		bad("Retry.Attempts is %d, must be 1 to 250", w.Retry.Attempts)
	}
	if w.Kind == Modulated && len(w.States) == 0 {
		bad("States: there is none")
	}
	some := false
	for i, s := range w.States {
		some = some || s.Rate > 0
		if s.Rate < 0 || s.Mean <= 0 {
			bad("States[%d]: Rate %v, Mean %v: out of range", i, s.Rate, s.Mean)
		}
	}
	if w.Kind == Modulated && !some {
		bad("States: no state has a rate above 0")
	}
	for i := range w.Requests {
		r := &w.Requests[i]
		if r.At < 0 || i > 0 && r.At < w.Requests[i-1].At || r.Input < 0 || r.Output < 0 || r.Cached < 0 || r.Cached > r.Input || r.Tenant >= max(1, len(w.Tenants)) {
			bad("Requests[%d]: %+v: out of range or out of order", i, *r)
			break
		}
	}
	always := false
	for i, t := range w.Tenants {
		if !(t.Weight > 0) {
			bad("Tenants[%d].Weight is %v, must be > 0", i, t.Weight)
		}
		if !(t.Work >= 0 && t.Work <= 1e6) || t.Join < 0 || t.Leave < 0 || t.Leave > 0 && t.Leave <= t.Join {
			bad("Tenants[%d]: Work %v, Join %v, Leave %v: out of range", i, t.Work, t.Join, t.Leave)
		}
		always = always || t.Join == 0 && t.Leave == 0
	}
	if len(w.Tenants) > 0 && !always {
		bad("Tenants: none of them asks all the time")
	}
	for _, d := range []struct {
		name string
		dist *draw.Dist
	}{{"Gap", &w.Gap}, {"Think", &w.Think}, {"Turns", &w.Turns}, {"Input", &w.Input}, {"Output", &w.Output}} {
		if err := d.dist.Check(); err != nil {
			bad("%s: %v", d.name, err)
		}
	}
	for _, f := range u.Faults {
		if (f.Kind == upstream.BlackHole || f.Answer.Silent) && w.Patience == 0 && w.Timeout == 0 {
			bad("a black hole needs callers with patience, or a timeout")
		}
	}
	silent := u.Noise.Answer.Silent || u.Connections.Answer.Silent || u.Slope.Answer.Silent || u.Concurrency.Answer.Silent || u.Server.Answer.Silent
	for _, q := range u.Quotas {
		silent = silent || q.Answer.Silent
	}
	if silent && w.Patience == 0 && w.Timeout == 0 {
		bad("a stage that is silent needs callers with patience, or a timeout")
	}
	for i, ch := range c.Changes {
		if i > 0 && ch.At < c.Changes[i-1].At {
			bad("Changes[%d] at %v comes before the change before it", i, ch.At)
		}
	}
	if g := c.Guard; g != nil {
		if g.Law == nil && g.NewLaw == nil {
			bad("Guard has no Law")
		}
		if g.NewLaw == nil && c.guards() > 1 {
			bad("Guard.NewLaw is nil, and there are %d guards", c.guards())
		}
	}
	for i, r := range c.Replicas {
		if r.Join < 0 || r.Leave != 0 && r.Leave <= r.Join {
			bad("Replicas[%d] joins at %v and leaves at %v", i, r.Join, r.Leave)
		}
	}
	if len(c.Replicas) > 1000 {
		bad("%d replicas, at most 1000", len(c.Replicas))
	}
	if err := u.Check(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keys returns how many credentials there are, and guards how many guards.
func (c *Config) keys() int   { return max(1, len(c.Upstream.Keys)) }
func (c *Config) guards() int { return max(1, len(c.Replicas)) * c.keys() }

func (c *Config) horizon() time.Duration {
	if c.Horizon > 0 {
		return c.Horizon
	}
	return c.Duration
}
