package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// wildWorld is a random world with everything that there is.
func wildWorld(rng *rand.Rand) Config {
	cfg := randomWorld(rng)
	chance := func(p float64) bool { return rng.Float64() < p }
	w, u := &cfg.Workload, &cfg.Upstream
	if chance(.7) {
		w.Input = draw.Dist{Shape: draw.Lognormal, Mean: 600, Sigma: 1, Max: 6000}
		w.Output = draw.Dist{Shape: draw.Exponential, Mean: 100, Max: 1000}
		w.Cached, w.Streams, w.Known = rng.Float64(), chance(.5), Known(rng.IntN(numKnown))
		for i := range u.Quotas {
			q := &u.Quotas[i]
			q.Counter = upstream.Counter(rng.IntN(4))
			if q.Counter != upstream.Requests {
				q.Limit *= 500
				q.Burst *= 500
			}
			q.Charge, q.CachedFree = upstream.Charge(rng.IntN(3)), chance(.5)
		}
		u.Server.InputToken, u.Server.OutputToken = 50*time.Microsecond, time.Duration(rng.IntN(20))*time.Millisecond
		if chance(.3) {
			u.Server.Kind = upstream.Batch
			u.Server.LLM, _ = upstream.Profile("tiny-kv")
			u.Server.LLM.KV = int64(7000 + rng.IntN(50_000))
		}
	}
	if u.Server.Kind == upstream.Servers && chance(.3) {
		u.Server.Kind, u.Server.Servers = upstream.Sharing, 1+20*rng.Float64()
	}
	if chance(.2) {
		u.Server.Scale, u.Server.RateScale = .02, .001
	}
	if chance(.3) {
		u.Server.KnowsHangups = true
	}
	if chance(.2) {
		u.Server.StallShare, u.Server.Stall = .05, draw.Dist{Shape: draw.Pareto, Mean: 1e9, Alpha: 1.3, Max: 30e9}
	}
	if chance(.3) {
		u.Neighbour = upstream.Neighbour{Rate: 1, Busy: 20, Quiet: 10 * time.Second, Burst: 5 * time.Second, Input: draw.Dist{Mean: 300}, Output: draw.Dist{Mean: 60}}
	}
	if chance(.2) && u.Server.Servers >= 1 {
		u.Autoscaler = upstream.Autoscaler{Max: 3 * u.Server.Servers, Step: 2, Tick: 2 * time.Second, Down: 5 * time.Second, ColdStart: draw.Of(5 * time.Second)}
	}
	if chance(.2) {
		u.Keys = []upstream.Key{{}, {Share: .3}, {Revoked: true}}
	}
	if chance(.3) {
		w.Tenants = []Tenant{{Name: "a", Weight: 5}, {Name: "b", Weight: 1, Priority: 3, Class: 1}, {Name: "c", Weight: 2, Priority: 7}}
	}
	switch {
	case w.Kind != Poisson:
		if chance(.3) {
			w.Timeout, w.Repeatable = 3*time.Second, chance(.5)
		}
		if chance(.3) {
			cfg.Replicas = []Replica{{}, {Join: 5 * time.Second, Leave: 15 * time.Second}, {Join: 10 * time.Second}}
		}
	case chance(.2):
		w.Kind, w.Gap = Renewal, draw.Dist{Shape: draw.Gamma, Mean: 1, Sigma: 3*rng.Float64() + .1}
	case chance(.2):
		w.Kind, w.Rate, w.States = Modulated, 1, []State{{Rate: 30, Mean: 3 * time.Second}, {Rate: 0, Mean: 5 * time.Second}}
	case chance(.3):
		w.Kind, w.Turns, w.Think = Sessions, draw.Dist{Shape: draw.Exponential, Mean: 4}, draw.Dist{Shape: draw.Exponential, Mean: 2e9}
	case chance(.3):
		w.Kind, w.Rate = Traced, 1
		var at time.Duration
		for range 300 {
			at += time.Duration(rng.IntN(200)) * time.Millisecond
			in := rng.Int64N(2000)
			w.Requests = append(w.Requests, TraceRequest{At: at, Input: in, Output: rng.Int64N(300), Cached: rng.Int64N(in + 1), Tenant: -1, Key: rng.IntN(4), Priority: uint8(rng.IntN(8)), Patience: time.Duration(rng.IntN(20)) * time.Second})
		}
	}
	for _, c := range []upstream.ParamKind{upstream.ParamSlow, upstream.ParamNoise, upstream.ParamNeighbour, upstream.ParamConnections, upstream.ParamQueue, upstream.ParamKV} {
		if chance(.1) && len(cfg.Changes) > 0 {
			last := cfg.Changes[len(cfg.Changes)-1].At
			cfg.Changes = append(cfg.Changes, Change{At: last + time.Second, Param: Param{Kind: c}, To: 3 * rng.Float64()})
		}
	}
	cfg.Samples = chance(.5)
	return cfg
}

// Every law keeps the books balanced in every world, and a run is a function of its configuration, whatever was run in the same memory before.
func TestInvariantsInWildWorlds(t *testing.T) {
	t.Parallel()
	worlds := 300
	switch {
	case raceDetector:
		worlds = 15
	case testing.Short():
		worlds = 60
	}
	names := []string{"ours", "fixed", "aimd", "vegas"}
	var used Worker
	for n := range worlds {
		rng := rand.New(rand.NewPCG(uint64(n), 77))
		cfg := wildWorld(rng)
		bound, err := Bound(context.Background(), cfg)
		if err != nil {
			t.Fatalf("world %d: %v\n%s", n, err, describe(cfg))
		}
		name := names[n%len(names)]
		law := laws[name]
		run := func(w *Worker) *Result {
			g := guardWith(nil)
			g.NewLaw = func(int) adaptive.Law { return law() }
			g.IgnoreRetryAfter = name != "ours"
			if n%5 == 0 {
				g.Room = admission.QueueConfig{Aging: time.Second, ReservedShare: .2, ReservedFor: 3}
			}
			cfg.Guard = g
			if n%11 == 0 {
				cfg.Guard = nil
			}
			res, err := w.Run(context.Background(), cfg)
			if err != nil {
				t.Fatalf("world %d, %s: %v\n%s", n, name, err, describe(cfg))
			}
			return res
		}
		a, b := run(new(Worker)), run(&used)
		if a.Hash != b.Hash || !slices.Equal(a.Latencies, b.Latencies) || !slices.Equal(a.Series.OK, b.Series.OK) || a.Events != b.Events || a.Stages != b.Stages || a.Classes != b.Classes {
			t.Fatalf("world %d: two runs differ\n%s", n, describe(cfg))
		}
		if bound.Exact && a.InTime > bound.OK {
			t.Errorf("world %d: %d successes, the bound is %d\n%s", n, a.InTime, bound.OK, describe(cfg))
		}
		Measure(a, bound)
	}
}
