package sim

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/event"
)

// guarded drives a Core as package limiter does, with events in place of a lock and a timer.
type guarded struct {
	core    admission.Core
	cfg     admission.Config
	queue   *event.Queue
	wakeRef uint32
	wakeAt  int64
	wakeSeq uint32 // of the event that wakes; 0 when none is set
	// deliver is called for each waiter that is answered.
	deliver func(*admission.Waiter)

	// Of the last decision.
	limit   int
	pace    float64
	episode uint32

	pool     *pool // of its key; nil when it stands alone
	in       int64 // calls that were let in and have not ended, as the run counts them
	waiting  int64
	reserved bool // some places are for urgent callers only
}

func (g *guarded) init(cfg *Guard, n int, seed uint64, q *event.Queue, wakeRef uint32, on func(time.Duration, adaptive.Decision)) {
	g.queue, g.wakeRef = q, wakeRef
	g.cfg = admission.Config{
		Law:              cfg.law(n),
		Queue:            cfg.Queue,
		MaxWait:          cfg.MaxWait,
		MaxPause:         cfg.MaxPause,
		PauseJitter:      cfg.PauseJitter,
		IgnoreRetryAfter: cfg.IgnoreRetryAfter,
		Observe:          cfg.Observe,
		Seed:             seed,
		Room:             cfg.Room,
		Budgets:          cfg.Budgets,
		Estimate:         cfg.Estimate,
		OnDecision:       on,
	}
	g.reserved = cfg.Room.ReservedShare > 0
	g.core.Init(&g.cfg)
}

// acquire asks for a place for w, whose Call.Tokens, Call.Class, Output, Tenant, Priority, Retry and GiveUp are set. When it returns,
// w.State says what became of it; a waiter that was answered later, or by this, is delivered.
func (g *guarded) acquire(now time.Duration, w *admission.Waiter) {
	if n, t := g.core.Take(); t <= admission.TookLast {
		switch {
		case g.reserved && !g.core.MayUse(&g.cfg.Room, w.Priority, n):
			g.core.Return()
		case g.core.Spend(now):
			tokens, class := w.Call.Tokens, w.Call.Class
			w.Grant = admission.Grant{Call: g.core.Start(now, n)}
			w.Call.Tokens, w.Call.Class = tokens, class
			w.State = admission.Granted
			g.deliver(w)
			return
		}
	}
	if g.cfg.Observe {
		g.core.Observe(now, w)
	} else {
		g.core.Ask(now, w)
	}
	queued := w.State == admission.Queued
	g.serve(now)
	if !queued {
		g.deliver(w)
	}
}

// release ends the call of w.
func (g *guarded) release(now time.Duration, w *admission.Waiter, o *adaptive.Outcome) {
	if e := g.core.Finish(now, &w.Grant, o); e != admission.Ended {
		g.core.Settle(now, e, &w.Grant, o)
		g.serve(now)
	}
}

// began tells that the answer to the call of w has begun.
func (g *guarded) began(now time.Duration, w *admission.Waiter) {
	g.core.Began(now, &w.Grant)
	g.serve(now)
}

// abandon takes w out, whose caller gave up while it waited.
func (g *guarded) abandon(now time.Duration, w *admission.Waiter) {
	g.core.Cancel(w)
	g.serve(now)
}

// wake answers those whose time has come. seq is that of the event.
func (g *guarded) wake(now time.Duration, seq uint32) {
	if seq != g.wakeSeq {
		return // it was meant no more
	}
	g.wakeSeq = 0
	g.serve(now)
}

// serve answers everybody who can be answered and sets the timer for the next.
func (g *guarded) serve(now time.Duration) {
	for w := g.core.Next(now); w != nil; w = g.core.Next(now) {
		g.deliver(w)
	}
	at, ok := g.core.Wake(now)
	switch {
	case !ok:
		g.wakeSeq = 0
	case g.wakeSeq == 0 || int64(at) < g.wakeAt:
		g.wakeAt = int64(at)
		g.wakeSeq = g.queue.Push(g.wakeAt, g.wakeRef)
	}
}
