package sim_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/adaptive/classic"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/limiter"
)

// The simulator and a live guard, given the same arrivals and outcomes, make the same decisions and
// treat every caller alike. All instants are distinct: goroutines that wake in one virtual instant
// have no order.
func TestParity(t *testing.T) {
	laws := map[string]func() adaptive.Law{
		"adaptive": func() adaptive.Law { return adaptive.New(adaptive.Config{}) },
		"cautious": func() adaptive.Law { return adaptive.New(adaptive.Config{Initial: 2, Max: 6, Backoff: 0.5, Epoch: 2}) },
		"fixed":    func() adaptive.Law { return adaptive.NewFixed(3) },
		"gcl-aimd": func() adaptive.Law { return classic.NewAIMD(adaptive.Config{Initial: 5}) },
		"gcl-vegas": func() adaptive.Law {
			return classic.NewVegas(adaptive.Config{Initial: 5})
		},
		"gcl-gradient2": func() adaptive.Law {
			return classic.NewGradient2(adaptive.Config{Initial: 5})
		},
		"paced":   func() adaptive.Law { return &paced{adaptive.New(adaptive.Config{Initial: 8})} },
		"holding": func() adaptive.Law { return &holding{adaptive.New(adaptive.Config{Initial: 4, Max: 8})} },
	}
	// How guards can be made beside their law: the waiting room with priorities, tenants and reserved places, and budgets.
	shapes := map[string]func(*limiter.Config, *sim.Guard){
		"plain": func(*limiter.Config, *sim.Guard) {},
		"room": func(c *limiter.Config, g *sim.Guard) {
			c.Room = &limiter.Room{Aging: 700 * time.Millisecond, Weights: map[string]float64{"a": 3}, Drop: limiter.DropLongest, ReservedShare: .3, ReservedFor: 2}
			g.Room = admission.QueueConfig{Aging: 700 * time.Millisecond, Weights: map[string]float64{"a": 3}, Drop: admission.DropLongest, ReservedShare: .3, ReservedFor: 2}
		},
		"budget": func(c *limiter.Config, g *sim.Guard) {
			limits := []limiter.BudgetLimit{
				{Kind: feedback.ScopeRequests, Limit: 1500, Period: time.Minute, Burst: 25},
				{Kind: feedback.ScopeTokens, Limit: 90_000, Period: time.Minute, Burst: 4000},
			}
			c.Budget = &limiter.Budget{Limits: limits, Overrun: .2, Unseen: 50}
			g.Budgets = admission.BudgetConfig{Limits: limits}
			g.Estimate = admission.EstimateConfig{Overrun: .2, Input: 50, Output: 50}
		},
	}
	for shape, edit := range shapes {
		for name, law := range laws {
			parity(t, shape+"/"+name, law, edit)
		}
	}
}

// parity compares the two with one law and one shape.
func parity(t *testing.T, name string, law func() adaptive.Law, edit func(*limiter.Config, *sim.Guard)) {
	var waited [admission.NumWhys]admission.Waits
	steps := 0
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
			arrivals := history(seed)
			cfg := limiter.Config{
				Queue: 30, MaxWait: 20 * time.Second, MaxPause: time.Minute, PauseJitter: 0.05, Seed: seed + 1,
			}
			guard := sim.Guard{Law: law(), Queue: cfg.Queue, MaxWait: cfg.MaxWait, MaxPause: cfg.MaxPause, PauseJitter: cfg.PauseJitter}
			edit(&cfg, &guard)
			trace := sim.Replay(guard, cfg.Seed, arrivals)
			want := tell(trace)
			cfg.Law = law()
			var got []string
			synctest.Test(t, func(t *testing.T) { got = tell(live(t, cfg, arrivals)) })
			for i := range max(len(got), len(want)) {
				g, w := line(got, i), line(want, i)
				if g != w {
					t.Fatalf("line %d differs\n live guard %s\n simulator  %s", i+1, g, w)
				}
			}
			steps += len(trace.Steps)
			for i, w := range trace.Counts.WaitedFor {
				waited[i].N += w.N
			}
		})
	}
	if name == "plain/adaptive" && steps < 200 {
		t.Errorf("only %d decisions: the histories test too little", steps)
	}
	for _, c := range []struct {
		name string
		why  admission.Why
	}{{"plain/paced", admission.WhyPace}, {"plain/paced", admission.WhyTokenPace}, {"room/fixed", admission.WhyReserved}, {"budget/fixed", admission.WhyBudget}, {"plain/holding", admission.WhyFreed}} {
		if name == c.name && waited[c.why].N == 0 {
			t.Errorf("%s: nobody waited for %v: the history tests too little", name, c.why)
		}
	}
}

// The same with several keys, whose callers wait in one room. Tenants and priorities are the room's.
func TestPoolParity(t *testing.T) {
	shapes := map[string]func(*limiter.Config, *sim.Guard){
		"plain": func(*limiter.Config, *sim.Guard) {},
		"room": func(c *limiter.Config, g *sim.Guard) {
			c.Room = &limiter.Room{Aging: 700 * time.Millisecond, Weights: map[string]float64{"a": 3}, Drop: limiter.DropLongest, ReservedShare: .3, ReservedFor: 2}
			g.Room = admission.QueueConfig{Aging: 700 * time.Millisecond, Weights: map[string]float64{"a": 3}, Drop: admission.DropLongest, ReservedShare: .3, ReservedFor: 2}
		},
		"budget": func(c *limiter.Config, g *sim.Guard) {
			limits := []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 500, Period: time.Minute, Burst: 10}, {Kind: feedback.ScopeTokens, Limit: 30_000, Period: time.Minute, Burst: 2000}}
			c.Budget = &limiter.Budget{Limits: limits, Overrun: .2, Unseen: 50}
			g.Budgets = admission.BudgetConfig{Limits: limits}
			g.Estimate = admission.EstimateConfig{Overrun: .2, Input: 50, Output: 50}
		},
	}
	laws := map[string]func() adaptive.Law{
		"cautious": func() adaptive.Law { return adaptive.New(adaptive.Config{Initial: 2, Max: 6, Backoff: 0.5, Epoch: 2}) },
		"fixed":    func() adaptive.Law { return adaptive.NewFixed(1) },
		"paced":    func() adaptive.Law { return &paced{adaptive.New(adaptive.Config{Initial: 3})} },
		"holding":  func() adaptive.Law { return &holding{adaptive.New(adaptive.Config{Initial: 2, Max: 4})} },
	}
	const keys = 3
	waited, used := 0, [keys]int{}
	for shape, edit := range shapes {
		for name, law := range laws {
			for seed := range uint64(10) {
				t.Run(fmt.Sprintf("%s/%s/%d", shape, name, seed), func(t *testing.T) {
					arrivals := history(seed)
					cfg := limiter.Config{Queue: 30, MaxWait: 20 * time.Second, MaxPause: time.Minute, PauseJitter: 0.05, Seed: seed + 1}
					guard := sim.Guard{NewLaw: func(int) adaptive.Law { return law() }, Queue: cfg.Queue, MaxWait: cfg.MaxWait, MaxPause: cfg.MaxPause, PauseJitter: cfg.PauseJitter}
					edit(&cfg, &guard)
					trace := sim.ReplayPool(guard, keys, cfg.Seed, arrivals)
					trace.Counts = admission.Counts{}
					want := tell(trace)
					var got []string
					synctest.Test(t, func(t *testing.T) {
						got = tell(livePool(t, limiter.PoolConfig{Guard: cfg, NewLaw: law, Keys: []limiter.Secret{limiter.NewSecret("a"), limiter.NewSecret("b"), limiter.NewSecret("c")}}, arrivals))
					})
					for i := range max(len(got), len(want)) {
						if g, w := line(got, i), line(want, i); g != w {
							t.Fatalf("line %d differs\n live pool %s\n simulator %s", i+1, g, w)
						}
					}
					for i, f := range trace.Fates {
						if f.Started {
							used[f.Key]++
							if f.Start > arrivals[i].At {
								waited++
							}
						}
					}
				})
			}
		}
	}
	for k, n := range used {
		if n < 1000 {
			t.Errorf("key %d was used %d times: the histories test too little", k, n)
		}
	}
	if waited < 1000 {
		t.Errorf("%d callers waited: the histories test too little", waited)
	}
}

// paced is a law that sets a pace, too, and a gate of its own.
type paced struct{ adaptive.Law }

func (p *paced) edit(now time.Duration, d adaptive.Decision) adaptive.Decision {
	d.Pace = 20 + float64(d.Limit)
	d.TokenPace = 300
	if d.Cause == adaptive.CauseOverloaded {
		d.NotBefore = now + 137*time.Millisecond
	}
	return d
}

func (p *paced) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	return p.edit(now, p.Law.Window(now, w))
}
func (p *paced) Ended(now time.Duration, c adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	return p.edit(now, p.Law.Ended(now, c, o))
}

// holding is a law that holds places whose calls have ended, for other times after each of its cuts, and now and then for none.
type holding struct{ adaptive.Law }

func (h *holding) edit(d adaptive.Decision) adaptive.Decision {
	d.FreeAfter = time.Duration(d.Episode%4) * 173 * time.Millisecond
	return d
}

func (h *holding) Decision() adaptive.Decision { return h.edit(h.Law.Decision()) }
func (h *holding) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	return h.edit(h.Law.Window(now, w))
}
func (h *holding) Ended(now time.Duration, c adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	return h.edit(h.Law.Ended(now, c, o))
}

// history returns random arrivals: bursts and lulls, slow and fast calls, refusals with and
// without a delay, callers that give up, deadlines.
func history(seed uint64) []sim.Arrival {
	rng := rand.New(rand.NewPCG(seed, 7))
	var list []sim.Arrival
	at := time.Duration(0)
	for range 300 {
		gap := time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond))
		if rng.IntN(40) == 0 {
			gap += time.Duration(rng.IntN(5000)) * time.Millisecond
		}
		at += gap + 1 + time.Duration(rng.IntN(1000))
		a := sim.Arrival{At: at, Service: time.Duration(rng.ExpFloat64()*float64(100*time.Millisecond)) + time.Duration(1+rng.IntN(1e6))}
		switch rng.IntN(20) {
		case 0:
			a.Outcome = adaptive.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeRequests}
		case 1:
			a.Outcome = adaptive.Outcome{
				Class: feedback.Throttled, Scope: feedback.ScopeUnknown,
				HasRetryAfter: true, RetryAfter: time.Duration(rng.Int64N(3e9)),
			}
		case 2:
			a.Outcome = adaptive.Outcome{Class: feedback.Overloaded}
		case 3:
			a.Outcome = adaptive.Outcome{Class: feedback.Canceled}
		case 4:
			a.Outcome = adaptive.Outcome{InputTokens: 100, OutputTokens: 20, FirstByte: a.Service / 2}
			a.Tokens = 120
		case 5:
			a.Outcome = adaptive.Outcome{Windows: []feedback.Window{{Kind: feedback.ScopeConcurrency, Limit: int64(4 + rng.IntN(20)), Remaining: feedback.Unstated, Reset: feedback.Unstated}}}
		case 6:
			a.Outcome = adaptive.Outcome{Class: feedback.Timeout, Deadline: rng.IntN(2) == 0}
		}
		if rng.IntN(3) == 0 {
			a.Begins = time.Duration(1 + rng.Int64N(int64(a.Service)))
		}
		a.Priority, a.Class = uint8(rng.IntN(4)), uint8(rng.IntN(3))
		a.Tenant = []string{"", "a", "b"}[rng.IntN(3)]
		a.Retry = rng.IntN(8) == 0
		if rng.IntN(3) == 0 {
			a.Output = int64(rng.IntN(100))
			a.Tokens = a.Output + int64(rng.IntN(200))
		}
		if rng.IntN(10) == 0 {
			a.GiveUp = time.Duration(1 + rng.IntN(2e9))
		}
		list = append(list, a)
	}
	return list
}

// live runs arrivals through a guard.
func live(t *testing.T, cfg limiter.Config, arrivals []sim.Arrival) sim.Trace {
	g, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	trace := sim.Trace{Fates: make([]sim.Fate, len(arrivals))}
	g.OnDecision(func(d limiter.Decision) { trace.Steps = append(trace.Steps, sim.Step{At: d.At, Decision: d.Decision}) })
	pass(arrivals, trace.Fates, func(ctx context.Context, req limiter.Request, f *sim.Fate) (func(), func(limiter.Outcome), error) {
		p, err := g.Acquire(ctx, req)
		var refused *limiter.RejectedError
		if errors.As(err, &refused) {
			f.Reason = refused.Reason
		}
		if err != nil {
			return nil, nil, err
		}
		return p.Began, p.Release, nil
	})
	trace.Counts = g.Stats().Counts
	return trace
}

// livePool runs arrivals through a pool.
func livePool(t *testing.T, cfg limiter.PoolConfig, arrivals []sim.Arrival) sim.Trace {
	p, err := limiter.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	trace := sim.Trace{Fates: make([]sim.Fate, len(arrivals))}
	number := map[string]int{}
	for i, k := range cfg.Keys {
		number[k.Fingerprint()] = i
	}
	var mu sync.Mutex // each guard tells by itself
	for i, g := range p.Guards() {
		g.OnDecision(func(d limiter.Decision) {
			mu.Lock()
			defer mu.Unlock()
			trace.Steps = append(trace.Steps, sim.Step{At: d.At, Guard: i, Decision: d.Decision})
		})
	}
	pass(arrivals, trace.Fates, func(ctx context.Context, req limiter.Request, f *sim.Fate) (func(), func(limiter.Outcome), error) {
		kp, err := p.Acquire(ctx, req)
		var refused *limiter.NoKeyError
		if errors.As(err, &refused) {
			f.Reason = refused.Reason
		}
		if err != nil {
			return nil, nil, err
		}
		f.Key = number[kp.Key()]
		return kp.Began, func(o limiter.Outcome) { kp.Release(o, limiter.KeyFine) }, nil
	})
	return trace
}

// pass has each arrival acquire a place when it comes, hold it for its service, and end it; what became of it is in fates.
func pass(arrivals []sim.Arrival, fates []sim.Fate, acquire func(context.Context, limiter.Request, *sim.Fate) (began func(), end func(limiter.Outcome), err error)) {
	start := time.Now()
	var wg sync.WaitGroup
	for i, a := range arrivals {
		wg.Go(func() {
			time.Sleep(a.At) // in the bubble of the test
			f := &fates[i]
			ctx := context.Background()
			if a.GiveUp > 0 {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeout(ctx, a.GiveUp)
				defer stop()
			}
			began, end, err := acquire(ctx, limiter.Request{
				Tokens: a.Tokens, Output: a.Output, Class: a.Class, Tenant: a.Tenant, Priority: a.Priority, Retry: a.Retry,
			}, f)
			f.Start = time.Since(start)
			if err != nil {
				f.GaveUp = f.Reason == 0
				return
			}
			begins := time.Duration(0)
			if a.Begins > 0 && a.Begins < a.Service {
				begins = a.Begins
				time.Sleep(begins)
				began()
			}
			time.Sleep(a.Service - begins)
			f.Started, f.End = true, time.Since(start)
			end(a.Outcome)
		})
	}
	wg.Wait()
}

// tell writes a trace as lines.
func tell(t sim.Trace) []string {
	var lines []string
	for _, s := range t.Steps {
		lines = append(lines, fmt.Sprintf("decision %+v", s))
	}
	for i, f := range t.Fates {
		lines = append(lines, fmt.Sprintf("caller %d %+v", i, f))
	}
	return append(lines, strings.Split(fmt.Sprintf("counts %+v", t.Counts), " ")...)
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}
