package limiter

import (
	"fmt"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// PoolExplanation is why a pool does what it does, at one instant. String gives it in words.
type PoolExplanation struct {
	// Pool is the pool's name, and At when it was asked.
	Pool string
	At   time.Time
	// Limit and InFlight are how many calls may be in flight with the keys that are in service, and how many are;
	// Waiting is how many callers wait.
	Limit, InFlight, Waiting int
	// Keys is what the keys look like.
	Keys []KeyStatus
	// Waits are those who wait, in the order in which they would start now, at most as many as were asked for. Wait.Why
	// names the key that lets a caller start first, where it is a matter of one key: "tokens per 1m0s of key:1a2b3c4d".
	Waits []Wait
}

// String tells the explanation in words, a line a fact.
func (e PoolExplanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: limit %d, %d in flight, %d waiting", e.Pool, e.Limit, e.InFlight, e.Waiting)
	for _, k := range e.Keys {
		fmt.Fprintf(&b, "\n%s", k)
	}
	for _, w := range e.Waits {
		fmt.Fprintf(&b, "\n%s", w)
	}
	return b.String()
}

// outlook is what one guard of a pool will do.
type outlook struct {
	admission.Forecast
	of      string // whose it is, in words
	budgets []admission.BudgetState
	late    time.Duration // its clock began so much later than the pool's
}

// Explain says why the pool does what it does, with the first most of those who wait. It is for people, not for each call.
func (p *Pool) Explain(most int) PoolExplanation {
	e := PoolExplanation{Pool: p.name, At: time.Now().Round(0), Keys: p.Keys()}
	e.InFlight, e.Limit = p.places()
	var all []outlook
	for _, l := range p.lanes {
		if l.live.Load() == 0 {
			continue
		}
		o := outlook{of: "of the account", late: l.guard.base.Sub(p.base)}
		if p.scope == LimitKey {
			o.of = "of " + l.keys[0].secret.Fingerprint()
		}
		l.guard.mu.Lock()
		now := l.guard.now()
		o.Forecast, o.budgets = l.guard.core.Forecast(now), l.guard.core.Budgets(now)
		l.guard.mu.Unlock()
		all = append(all, o)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	e.Waiting = int(p.waiting.Load())
	turn := now
	p.room.Waits(most, func(w *admission.Waiter, ahead int) {
		wait := Wait{Tenant: w.Tenant, Priority: w.Priority, Waited: max(0, now-w.Since), Ahead: ahead}
		at, why, of := p.foretell(all, now, w)
		switch {
		case of == nil: // every key is out
			wait.Why = "no key is in service"
			at = time.Duration(p.probeAt.Load())
		case w.Why == WhyReserved:
			wait.Why = w.Why.String()
		case why == admission.WhyNone:
			wait.Why = WhyLimit.String()
		default:
			wait.Why = why.String() + " " + of.of
		}
		if of != nil {
			if why == WhyBudget {
				wait.Why = budgetText(&of.budgets[w.Budget]) + " " + of.of
			}
			at = max(at, turn) // nobody starts before those ahead
			turn = at
			of.Start(at-of.late, w)
			if place, known := placeAt(all, now, len(e.Waits)); known {
				at = max(at, place)
			} else if at <= now {
				at = never
			}
		}
		if at != never {
			wait.Expected = wallAt(now, at)
		}
		e.Waits = append(e.Waits, wait)
	})
	return e
}

// foretell returns which of the guards lets w start first, when, not before now, and what it waits for until then; of is nil
// when there is no guard.
func (p *Pool) foretell(all []outlook, now time.Duration, w *admission.Waiter) (at time.Duration, why Why, of *outlook) {
	at = never
	for i := range all {
		o := &all[i]
		t, y, budget := o.At(now-o.late, w)
		if t = later(t, o.late); of == nil || t < at {
			at, why, of, w.Budget = t, y, o, budget
		}
	}
	return at, why, of
}

// placeAt returns when a place is free for who comes n-th, at the mean latency of all; known is false when there is none. No place
// is free before some gate opens.
func placeAt(all []outlook, now time.Duration, n int) (at time.Duration, known bool) {
	var sum admission.Forecast
	open, timed := never, 0
	for i := range all {
		o := &all[i]
		sum.Free += o.Free
		sum.Limit += o.Limit
		if o.Latency > 0 {
			sum.Latency += o.Latency
			timed++
		}
		open = min(open, o.Opens(now-o.late)+o.late)
	}
	if timed == 0 {
		return 0, false
	}
	sum.Latency /= time.Duration(timed)
	return sum.PlaceAt(open, n), true
}
