package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// BenchWorld is a world that the speed of the simulator is measured in.
type BenchWorld struct {
	// Name is short; Words says what is in it.
	Name, Words string
	// Config is the world; its Guard has a new law in each.
	Config Config
}

// benchGuard returns a guard with flyball's own law and the defaults of package limiter.
func benchGuard() *Guard {
	return &Guard{
		NewLaw: func(int) adaptive.Law { return adaptive.New(adaptive.Config{}) },
		Queue:  1024, MaxWait: time.Minute, MaxPause: 5 * time.Minute, PauseJitter: .05,
	}
}

// BenchWorlds returns the worlds that the speed of the simulator is measured in.
func BenchWorlds() []BenchWorld {
	retry := Retry{Attempts: 5, Base: 500 * time.Millisecond, Max: 30 * time.Second, Budget: .2, MaxPause: time.Minute}
	service := draw.Dist{Shape: draw.Lognormal, Mean: 1e9, Sigma: .6}
	base := Config{
		Seed: 1, Duration: 10 * time.Minute, Drain: time.Minute, RTT: 40 * time.Millisecond,
		Workload: Workload{Rate: 18, Patience: 45 * time.Second, Retry: retry},
		Upstream: upstream.Config{Refusal: draw.Dist{Shape: draw.Exponential, Mean: 20e6}, Server: upstream.Server{Service: service}},
	}
	world := func(name, words string, edit func(*Config)) BenchWorld {
		c := base
		edit(&c)
		return BenchWorld{name, words, c}
	}
	tokens := func(c *Config) {
		c.Workload.Input = draw.Dist{Shape: draw.Lognormal, Mean: 1500, Sigma: .9, Max: 8000}
		c.Workload.Output = draw.Dist{Shape: draw.Lognormal, Mean: 220, Sigma: .86, Max: 2000}
		c.Workload.Streams, c.Workload.Known = true, KnowsInput
	}
	return []BenchWorld{
		world("open", "requests at random, never refused", func(*Config) {}),
		world("cap", "a cap on calls in flight that binds, callers that give up and retry", func(c *Config) {
			c.Workload.Rate = 21
			c.Upstream.Concurrency.Limit = 24
		}),
		world("quota", "a bucket of requests with an exact Retry-After", func(c *Config) {
			c.Upstream.Quotas = []upstream.Quota{{Limit: 960, Burst: 40, Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact}}}}
		}),
		world("tokens", "a bucket of tokens that are reserved and settled", func(c *Config) {
			tokens(c)
			c.Upstream.Quotas = []upstream.Quota{{Counter: upstream.Tokens, Limit: 1_800_000, Burst: 120_000, Charge: upstream.ChargeSettled,
				Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact}}}}
		}),
		world("batch", "a language model that batches", func(c *Config) {
			tokens(c)
			c.Workload.Rate = 14
			c.Upstream.Server = upstream.Server{Kind: upstream.Batch}
			c.Upstream.Server.LLM, _ = upstream.Profile("llama-70b-h100x8")
		}),
		world("replicas", "eight replicas at one cap", func(c *Config) {
			c.Workload.Rate = 46
			c.Upstream.Concurrency.Limit = 48
			c.Replicas = make([]Replica, 8)
		}),
	}
}

// BenchResult is the speed in one world.
type BenchResult struct {
	Name, Words string
	// Events is how many events one run has, and Requests how many requests.
	Events   uint64
	Requests int64
	// Run is how long a run takes on one processor, the fastest of several, and PerSecond how many events a second that is.
	Run       time.Duration
	PerSecond float64
	// Allocs is how many allocations an event costs in the second half of a long run, when slabs have grown.
	Allocs float64
}

// Bench measures the speed in a world. clock returns a time that goes on, such as that of the processor on behalf of this program;
// mallocs returns how many allocations the program has made. The world runs rounds times (>= 1).
func Bench(ctx context.Context, w BenchWorld, rounds int, clock func() time.Duration, mallocs func() uint64) (BenchResult, error) {
	res := BenchResult{Name: w.Name, Words: w.Words}
	for range max(1, rounds) {
		cfg := w.Config
		cfg.Guard = benchGuard()
		from := clock()
		r, err := Run(ctx, cfg)
		if err != nil {
			return res, fmt.Errorf("world %s: %w", w.Name, err)
		}
		took := clock() - from
		if res.Run == 0 || took < res.Run {
			res.Run = took
		}
		res.Events, res.Requests = r.Events, r.Offered
	}
	if res.Run > 0 {
		res.PerSecond = float64(res.Events) / res.Run.Seconds()
	}
	cfg := w.Config
	cfg.Duration, cfg.Guard = 100*cfg.Duration, benchGuard()
	run := newRun(&cfg)
	const warm, counted = 400_000, 200_000
	for range warm {
		if !run.step() {
			return res, run.check.err
		}
	}
	// The latencies are a list that grows with the run; here it has grown.
	run.res.Latencies = append(make([]time.Duration, 0, len(run.res.Latencies)+counted), run.res.Latencies...)
	before := mallocs()
	for range counted {
		if !run.step() {
			return res, run.check.err
		}
	}
	res.Allocs = float64(mallocs()-before) / counted
	return res, run.check.err
}
