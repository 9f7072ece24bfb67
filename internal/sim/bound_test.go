package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
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
		w.Think = draw.Dist{Shape: simple(rng), Mean: float64(rng.IntN(2000)) * 1e6, Sigma: .7}
	default:
		w.Kind, w.Clients = Backlog, 1+rng.IntN(60)
		if chance(.5) {
			w.Jobs = 1 + rng.IntN(600)
		}
	}
	answer := upstream.Answer{RetryAfter: upstream.RetryAfter{
		Mode: upstream.RetryMode(rng.IntN(5)), Form: upstream.RetryForm(rng.IntN(3)), Delay: 2 * time.Second, Factor: 2 * rng.Float64(), Jitter: rng.Float64() / 2,
	}}
	u := &cfg.Upstream
	u.Dialect = upstream.Dialect(rng.IntN(len(upstream.DialectNames())))
	cfg.RTT = time.Duration(rng.IntN(100)) * time.Millisecond
	u.Refusal = draw.Of(time.Duration(1+rng.IntN(50)) * time.Millisecond)
	u.Server.Service = draw.Dist{Shape: simple(rng), Mean: float64(1+rng.IntN(2000)) * 1e6, Sigma: rng.Float64()}
	if chance(.6) {
		u.Server.Servers = float64(1 + rng.IntN(20))
		if chance(.5) {
			u.Server.Bounded, u.Server.Queue, u.Server.LIFO = true, rng.IntN(10), chance(.3)
		}
		if chance(.3) {
			u.Server.QueueTimeout = time.Duration(1+rng.IntN(2000)) * time.Millisecond
		}
	}
	if chance(.2) {
		u.Connections = upstream.Connections{Limit: 1 + rng.IntN(30), Backlog: rng.IntN(20)}
	}
	if chance(.5) {
		u.Concurrency = upstream.Concurrency{Limit: 1 + rng.IntN(30)}
		if chance(.3) {
			u.Concurrency.Lag = draw.Dist{Shape: draw.Uniform, Mean: 250e6, Spread: 250e6}
		}
	}
	for range rng.IntN(3) {
		q := upstream.Quota{Limit: float64(30 + rng.IntN(2000)), Burst: float64(1 + rng.IntN(20)), ChargeRefused: chance(.5), Answer: answer}
		if q.Algorithm = upstream.Algorithm(rng.IntN(4)); q.Algorithm != upstream.Refill {
			q.Window = time.Duration(1+rng.IntN(30)) * time.Second
		}
		u.Quotas = append(u.Quotas, q)
	}
	if chance(.2) {
		u.Noise.Share = rng.Float64() * .2
	}
	if chance(.1) {
		u.Slope = upstream.Slope{Growth: .2, Floor: 5}
	}
	if chance(.4) {
		from := time.Duration(rng.Int64N(int64(cfg.Duration)))
		f := upstream.Fault{From: from, To: from + time.Duration(1+rng.IntN(20))*time.Second, Answer: answer}
		switch {
		case w.Patience > 0 && chance(.5):
			f.Kind = upstream.BlackHole
		case chance(.3):
			f.Kind, f.Capacity = upstream.Brownout, rng.Float64()
		case chance(.3):
			f.Share = rng.Float64()
		}
		u.Faults = append(u.Faults, f)
	}
	if w.Kind == Poisson && chance(.3) {
		w.Timeout = time.Duration(1+rng.IntN(10000)) * time.Millisecond
	}
	if w.Kind == Poisson && chance(.3) {
		cfg.Replicas = []Replica{{}, {Join: 5 * time.Second}, {Leave: 12 * time.Second}}
	}
	var at time.Duration
	for range rng.IntN(4) {
		at += time.Duration(rng.Int64N(int64(20 * time.Second)))
		params := []Param{ParamRate, {Kind: upstream.ParamQuotaLimit}, {Kind: upstream.ParamQuotaBurst}, {Kind: upstream.ParamConcurrency}, {Kind: upstream.ParamServers}}
		p := params[rng.IntN(len(params))]
		if p.Kind == upstream.ParamServers && u.Server.Servers == 0 {
			p = ParamRate
		}
		cfg.Changes = append(cfg.Changes, Change{At: at, Param: p, To: float64(1 + rng.IntN(40))})
	}
	return cfg
}

// simple returns one of the shapes with a mean.
func simple(rng *rand.Rand) draw.Shape { return draw.Shape(rng.IntN(int(draw.Uniform) + 1)) }

// randomGuard returns a guard, or nil for none.
func randomGuard(rng *rand.Rand) *Guard {
	if rng.IntN(3) == 0 {
		return nil
	}
	limit := 1 + rng.IntN(60)
	return &Guard{
		NewLaw:           func(int) adaptive.Law { return adaptive.NewFixed(limit) },
		Queue:            rng.IntN(100),
		MaxWait:          time.Duration(1+rng.IntN(60)) * time.Second,
		MaxPause:         time.Minute,
		PauseJitter:      rng.Float64() * .2,
		IgnoreRetryAfter: rng.IntN(2) == 0,
	}
}

// No controller has more successes than the bound, at the end or at the end of any step before it.
func TestBoundHolds(t *testing.T) {
	t.Parallel()
	worlds := 600
	switch {
	case raceDetector:
		worlds = 20
	case testing.Short():
		worlds = 100
	}
	reached := 0
	var w Worker
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
			res, err := w.Run(context.Background(), cfg)
			if err != nil {
				t.Fatalf("world %d: %v\n%s", n, err, describe(cfg))
			}
			if !bound.Exact {
				t.Fatalf("world %d: the bound is no bound\n%s", n, describe(cfg))
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
