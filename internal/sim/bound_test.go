package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// randomWorld returns a world with random stages and a random workload.
func randomWorld(rng *rand.Rand) Config {
	cfg := Config{
		Seed:     rng.Uint64(),
		Duration: time.Duration(20+rng.IntN(60)) * time.Second,
		Drain:    30 * time.Second,
		Step:     time.Second,
	}
	chance := func(p float64) bool { return rng.Float64() < p }
	w := &cfg.Workload
	w.Retry = Retry{Attempts: 1 + rng.IntN(6), Base: 100 * time.Millisecond, Max: 5 * time.Second}
	if chance(.5) {
		w.Retry.Budget, w.Retry.MaxPause = .2, time.Minute
	}
	switch rng.IntN(3) {
	case 0:
		w.Kind, w.Rate = Poisson, 1+40*rng.Float64()
		if chance(.7) {
			w.Patience = time.Duration(500+rng.IntN(20000)) * time.Millisecond
		}
	case 1:
		w.Kind, w.Clients = Closed, 1+rng.IntN(40)
		w.Think = Dist{Shape: Shape(rng.IntN(numShapes)), Mean: time.Duration(rng.IntN(2000)) * time.Millisecond, Sigma: .7}
	default:
		w.Kind, w.Clients = Backlog, 1+rng.IntN(60)
		if chance(.5) {
			w.Jobs = 1 + rng.IntN(600)
		}
	}
	answer := Answer{Status: 429, RetryAfter: RetryAfter(rng.IntN(4)), Delay: 2 * time.Second}
	u := &cfg.Upstream
	u.RTT = time.Duration(rng.IntN(100)) * time.Millisecond
	u.Refusal = Dist{Mean: time.Duration(1+rng.IntN(50)) * time.Millisecond}
	u.Server.Service = Dist{Shape: Shape(rng.IntN(numShapes)), Mean: time.Duration(1+rng.IntN(2000)) * time.Millisecond, Sigma: rng.Float64()}
	if chance(.6) {
		u.Server.Servers = 1 + rng.IntN(20)
		if chance(.5) {
			u.Server.Bounded, u.Server.Queue, u.Server.Answer = true, rng.IntN(10), Answer{Status: 503}
		}
	}
	if chance(.5) {
		u.Concurrency = Concurrency{Limit: 1 + rng.IntN(30), Answer: Answer{Status: 429}}
	}
	if chance(.5) {
		u.Quota = Quota{PerMinute: float64(30 + rng.IntN(2000)), Burst: 1 + rng.IntN(20), ChargeRefused: chance(.5), Answer: answer}
		if chance(.3) {
			u.Quota.Window = time.Duration(1+rng.IntN(30)) * time.Second
		}
	}
	if chance(.4) {
		from := time.Duration(rng.Int64N(int64(cfg.Duration)))
		o := Outage{From: from, To: from + time.Duration(rng.IntN(20))*time.Second, Answer: Answer{Status: 503, RetryAfter: answer.RetryAfter, Delay: time.Second}}
		o.BlackHole = w.Patience > 0 && chance(.5)
		u.Outages = append(u.Outages, o)
	}
	var at time.Duration
	for range rng.IntN(4) {
		at += time.Duration(rng.Int64N(int64(20 * time.Second)))
		cfg.Changes = append(cfg.Changes, Change{At: at, Param: Param(rng.IntN(5)), To: float64(1 + rng.IntN(40))})
	}
	for i := range cfg.Changes {
		if c := &cfg.Changes[i]; c.Param == ParamServers && u.Server.Servers == 0 {
			c.Param = ParamRate
		}
	}
	return cfg
}

// randomGuard returns a guard, or nil for none.
func randomGuard(rng *rand.Rand) *Guard {
	if rng.IntN(3) == 0 {
		return nil
	}
	return &Guard{
		Law:              adaptive.NewFixed(1 + rng.IntN(60)),
		Queue:            rng.IntN(100),
		MaxWait:          time.Duration(1+rng.IntN(60)) * time.Second,
		MaxPause:         time.Minute,
		PauseJitter:      rng.Float64() * .2,
		IgnoreRetryAfter: rng.IntN(2) == 0,
	}
}

// No controller has more successes than the bound, at the end or at the end of any step before it.
func TestBoundHolds(t *testing.T) {
	worlds := 600
	switch {
	case raceDetector:
		worlds = 20
	case testing.Short():
		worlds = 100
	}
	reached := 0
	for n := range worlds {
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		cfg := randomWorld(rng)
		bound, err := Bound(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Horizon = bound.Horizon
		for range 3 {
			cfg.Guard = randomGuard(rng)
			res, err := Run(context.Background(), cfg)
			if err != nil {
				t.Fatalf("world %d: %v\n%s", n, err, describe(cfg))
			}
			if res.InTime > bound.OK {
				t.Fatalf("world %d: %d successes, the bound is %d\n%s", n, res.InTime, bound.OK, describe(cfg))
			}
			if bound.OK > 0 && res.InTime == bound.OK {
				reached++
			}
			var got, most float64
			for i := range bound.Done {
				got, most = got+res.Series.OK[i], most+bound.Done[i]
				if got > most {
					t.Fatalf("world %d: %v successes until step %d, the bound is %v\n%s", n, got, i, most, describe(cfg))
				}
			}
		}
	}
	// A bound that nobody reaches may be far too high.
	if reached < worlds/4 {
		t.Errorf("the bound was reached in %d of %d runs, want at least %d", reached, 3*worlds, worlds/4)
	}
}

func describe(cfg Config) string {
	return fmt.Sprintf("workload %+v\nupstream %+v\nchanges %+v\nguard %+v", cfg.Workload, cfg.Upstream, cfg.Changes, cfg.Guard)
}
