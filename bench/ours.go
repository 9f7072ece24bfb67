package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// This file is all that the benchmark knows of the library. What the library does not offer
// (yet) is a function here that says so with ok = false, and a line that is missing in the output.

// held returns flyball's own law with nothing to decide: it is told of every window and asks
// for the next, as ever, but its limit stays.
func held(limit int) adaptive.Law {
	return adaptive.New(adaptive.Config{Initial: limit, Min: limit, Max: limit})
}

// newGuard returns a guard with a law that times one call in timeOneIn, and room for all who wait in a benchmark.
func newGuard(law adaptive.Law, timeOneIn int) *limiter.Guard {
	g, err := limiter.New(limiter.Config{
		Name: "bench", Law: law, TimeOneIn: timeOneIn, Queue: 1_000_000, MaxWait: time.Hour, Seed: 1,
	})
	if err != nil {
		panic(err)
	}
	return g
}

// ours is the guard as it comes: every call is timed and recorded, flyball's own law reads it.
func ours(limit int) contender {
	return guarded("flyball, every call timed", newGuard(held(limit), 1), limiter.Request{})
}

// oursSampled is a guard that times one call in 16.
func oursSampled(limit int) (c contender, ok bool) {
	return guarded("flyball, 1 in 16 timed", newGuard(held(limit), 16), limiter.Request{}), true
}

// oursPaced is a guard with a rate budget, large enough never to bind.
func oursPaced(limit int) contender {
	law := &paced{adaptive.Decision{
		Limit: limit, Pace: 1e8, Cause: adaptive.CauseExternal, AskAgain: math.MaxInt64,
	}}
	return guarded("flyball, timed, with a rate budget", newGuard(law, 1), limiter.Request{})
}

// guarded returns the contender that a guard is.
func guarded(name string, g *limiter.Guard, r limiter.Request) contender {
	ctx := live
	return contender{
		name: name,
		pairs: func(n int) {
			for range n {
				p, err := g.Acquire(ctx, r)
				if err != nil {
					panic(err)
				}
				p.Release(limiter.Outcome{})
			}
		},
		hold: func(ctx context.Context, in func()) error {
			p, err := g.Acquire(ctx, r)
			if err != nil {
				return err
			}
			in()
			p.Release(limiter.Outcome{})
			return nil
		},
		refuse: func(n int) {
			for range n {
				if _, ok := g.TryAcquire(r); ok {
					panic("bench: a full guard let a call in")
				}
			}
		},
	}
}

// paced is a law with a constant decision.
type paced struct{ d adaptive.Decision }

func (p *paced) Window(time.Duration, adaptive.Window) adaptive.Decision { return p.d }
func (p *paced) Ended(time.Duration, adaptive.Call, adaptive.Outcome) adaptive.Decision {
	return p.d
}
func (p *paced) Hint(time.Duration, feedback.Window) adaptive.Decision { return p.d }
func (p *paced) Decision() adaptive.Decision                           { return p.d }

// keys are many guards, as a program has that keeps one for each key: a limiter.Group.
type keys struct {
	group  *limiter.Group
	guards []*limiter.Guard
}

// newKeys returns room for n guards of a group that configures nothing but how soon it takes a guard for idle.
func newKeys(n int) *keys {
	group, err := limiter.NewGroup(limiter.GroupConfig{Idle: time.Second})
	if err != nil {
		panic(err)
	}
	return &keys{group, make([]*limiter.Guard, 0, n)}
}

// fill makes the guards.
func (k *keys) fill() {
	for i := range cap(k.guards) {
		k.guards = append(k.guards, k.group.Guard(fmt.Sprintf("key-%06d", i)))
	}
}

// call makes one call through each guard, which ends with o.
func (k *keys) call(o limiter.Outcome) {
	for _, g := range k.guards {
		p, err := g.Acquire(context.Background(), limiter.Request{})
		if err != nil {
			panic(err)
		}
		p.Release(o)
	}
}

// work makes a few calls through each guard that end well.
func (k *keys) work() {
	for range 5 {
		k.call(limiter.Outcome{})
	}
}

// meetLimit has each guard refused once by a limit on calls in flight, and then some calls that end well. Nobody waits in between:
// after a refusal by a quota callers would, for a pace, and whoever waits needs a timer.
func (k *keys) meetLimit() {
	k.call(limiter.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency})
	k.work()
}

// idle has each guard give back what it needs only while it is used.
func (k *keys) idle() (ok bool) {
	for range 3 { // the first look sees the last calls
		k.group.Sweep()
		time.Sleep(1100 * time.Millisecond)
	}
	return k.group.Sweep() >= 0
}
