package sim

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// Config is a world and the guard that is tried in it. All instants are counted from the start.
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
	// Decisions says that decisions are kept.
	Decisions bool

	Workload Workload
	Upstream Upstream
	// Changes are steps of parameters, in the order of time.
	Changes []Change
	// Guard is what is tried; nil means none: every attempt is sent at once.
	Guard *Guard
}

// Guard is the parameters of a guard, as package limiter has them after its defaults.
type Guard struct {
	// Law must be new: it belongs to one run.
	Law              adaptive.Law
	Queue            int // 0: nobody waits
	MaxWait          time.Duration
	MaxPause         time.Duration
	PauseJitter      float64
	IgnoreRetryAfter bool
}

// Kind is a kind of workload.
type Kind uint8

const (
	// Poisson arrives at random, whatever happened before (an open loop).
	Poisson Kind = iota
	// Closed is clients that wait for an answer, think, and ask again.
	Closed
	// Backlog is jobs that are all there at the start, taken up by workers.
	Backlog
)

// Workload is who asks.
type Workload struct {
	Kind Kind
	// Rate is how many requests arrive a second, for Poisson.
	Rate float64
	// Clients is how many clients there are for Closed, and workers for Backlog (>= 1).
	Clients int
	// Think is how long a client thinks between an answer and its next request, for Closed.
	Think Dist
	// Jobs is how many jobs there are, for Backlog; 0 means that there is no end of them.
	Jobs int
	// Patience is how long after its arrival a request of Poisson is given up; 0 means never.
	// Clients and workers wait for their answers: it must be 0 for them, see [Bound].
	Patience time.Duration
	Retry    Retry
}

// Retry is what every caller does about a refusal that can be retried, whatever guards it. It is the policy of
// package limiter: attempt n+1 is made after a random time between 0 and min(Max, Base·2^(n-1)) (full jitter); or, when the
// answer named a Retry-After, after that and up to a twentieth of it.
type Retry struct {
	Attempts  int // how many attempts a request may make in all (>= 1)
	Base, Max time.Duration
	// Budget is how many retries there may be for each success, beside a reserve of 10 at
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

// The reserve and the bound of a retry budget; see limiter.Retry.
const (
	retryReserve = 10
	retrySaved   = 100
)

// Upstream is what is called. An attempt passes, in this order, the network, the outages, the quota, the cap on
// calls in flight, and is then served or queued. Each stage but the network may refuse it.
type Upstream struct {
	// RTT is the time that an attempt and its answer spend on the network together.
	RTT time.Duration
	// Refusal is how long the upstream takes to say no.
	Refusal     Dist
	Outages     []Outage
	Quota       Quota
	Concurrency Concurrency
	Server      Server
}

// Quota allows a number of requests a time. The zero Quota allows all.
type Quota struct {
	// PerMinute is how many requests a minute are allowed; 0 means that there is no quota.
	PerMinute float64
	// Burst is how many may pass at once after a rest, for a bucket (>= 1).
	Burst int
	// Window, when set, makes it a count that starts anew at each multiple of Window, instead
	// of a bucket that refills continuously.
	Window time.Duration
	// ChargeRefused says that a refused request uses up quota, too.
	ChargeRefused bool
	Answer        Answer
}

// Concurrency refuses attempts while Limit calls are in the upstream. The zero Concurrency allows all.
type Concurrency struct {
	Limit  int // 0 means that there is no such limit
	Answer Answer
}

// Server serves calls in the order in which they reach it. It does not notice that a caller gave up.
type Server struct {
	// Servers is how many calls are served at a time; 0 means all.
	Servers int
	// Bounded says that at most Queue calls wait for a server; more are refused.
	Bounded bool
	Queue   int
	Service Dist
	Answer  Answer
}

// Outage refuses every attempt that reaches the upstream in [From, To), or swallows it. Calls that reached
// it before go on.
type Outage struct {
	From, To time.Duration
	// BlackHole says that an attempt gets no answer at all. It needs a workload with patience.
	BlackHole bool
	Answer    Answer
}

// Answer is how a stage says no.
type Answer struct {
	Status     int // HTTP status
	RetryAfter RetryAfter
	Delay      time.Duration // for RetryConstant
	Body       string        // of the answer; may be empty
}

// RetryAfter is what a refusal says about when to come back.
type RetryAfter uint8

const (
	// RetryNone says nothing.
	RetryNone RetryAfter = iota
	// RetryExact names the time until a request would pass, in whole seconds, rounded up, as HTTP wants it.
	RetryExact
	// RetryExactMS names it in milliseconds, as retry-after-ms.
	RetryExactMS
	// RetryConstant names the same delay whatever the truth is, in whole seconds, rounded up.
	RetryConstant
)

// Param is a parameter that may change during a run.
type Param uint8

const (
	ParamRate      Param = iota // Workload.Rate
	ParamPerMinute              // Upstream.Quota.PerMinute
	ParamBurst                  // Upstream.Quota.Burst
	ParamLimit                  // Upstream.Concurrency.Limit
	ParamServers                // Upstream.Server.Servers
)

// Change sets a parameter at an instant.
type Change struct {
	At    time.Duration
	Param Param
	To    float64
}

// check returns what makes c no world. Scenario files are checked where they are read, with better words.
func (c *Config) check() error {
	w, u := &c.Workload, &c.Upstream
	switch {
	case c.Duration <= 0 || c.Drain < 0 || c.Step < 0 || c.Horizon < 0 || c.Horizon > c.Duration:
		return fmt.Errorf("sim: Duration %v, Drain %v, Step %v, Horizon %v: out of range", c.Duration, c.Drain, c.Step, c.Horizon)
	case w.Kind == Poisson && !(w.Rate > 0):
		return fmt.Errorf("sim: Rate is %v, must be > 0", w.Rate)
	case w.Kind != Poisson && w.Clients < 1:
		return fmt.Errorf("sim: Clients is %d, must be >= 1", w.Clients)
	case w.Kind != Poisson && w.Patience != 0:
		return fmt.Errorf("sim: Patience is %v, must be 0 for a closed loop or a backlog", w.Patience)
	case w.Retry.Attempts < 1:
		return fmt.Errorf("sim: Retry.Attempts is %d, must be >= 1", w.Retry.Attempts)
	case u.Quota.PerMinute < 0 || u.Quota.PerMinute > 0 && u.Quota.Window == 0 && u.Quota.Burst < 1:
		return fmt.Errorf("sim: Quota: PerMinute %v, Burst %d: out of range", u.Quota.PerMinute, u.Quota.Burst)
	}
	for _, o := range u.Outages {
		if o.BlackHole && w.Patience == 0 {
			return fmt.Errorf("sim: a black hole needs callers with patience")
		}
	}
	for i, ch := range c.Changes {
		if i > 0 && ch.At < c.Changes[i-1].At {
			return fmt.Errorf("sim: Changes[%d] at %v comes before the change before it", i, ch.At)
		}
	}
	return nil
}

func (c *Config) horizon() time.Duration {
	if c.Horizon > 0 {
		return c.Horizon
	}
	return c.Duration
}
