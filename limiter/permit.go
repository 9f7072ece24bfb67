package limiter

import (
	"sync"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

// Permit is the right to have one call in flight. It is a value that stays with the caller; its
// methods need its address. It must be released exactly once, by one goroutine, and must not be copied
// after it was acquired: a copy could be released a second time without anybody noticing.
type Permit struct {
	// Four words, so that the compiler passes a permit in registers.
	guard  *Guard
	ticket admission.Ticket
	more   *baggage // nil for most calls
}

// baggage is what few permits have.
type baggage struct {
	grant admission.Grant // with its tokens and what it took of budgets, if it did
	hold  *hold           // when the permit is watched
	// charge is what its start counts against its tenant, if it costs tokens. What all calls have would cost a call that waited a quarter of its time.
	charge admission.Charge
}

// baggages are for use again, so that a call with tokens does not allocate.
var baggages = sync.Pool{New: func() any { return new(baggage) }}

// permit returns the permit for a caller that was granted a place.
func (g *Guard) permit(w *admission.Waiter) Permit {
	p := Permit{guard: g, ticket: admission.TicketOf(&w.Call)}
	if !w.Light() {
		p.more = baggages.Get().(*baggage)
		p.more.grant, p.more.charge = w.Grant, w.Charge()
	}
	return p
}

// grant returns what p was granted.
func (p *Permit) grant() admission.Grant {
	if p.more == nil || p.more.grant.Light() {
		return admission.Grant{Call: p.ticket.Call()}
	}
	return p.more.grant
}

// drop empties p.
func (p *Permit) drop() {
	if b := p.more; b != nil {
		*b = baggage{}
		baggages.Put(b)
	}
	*p = Permit{}
}

// Release ends the call with what became of it, and lets the next one in. It panics when the permit was
// released before or was never acquired.
func (p *Permit) Release(o Outcome) {
	g := p.guard
	if g == nil || p.more != nil || !plain(&o) {
		p.release(&o)
		return
	}
	p.guard = nil
	if p.ticket.At == admission.Untimed {
		if e := g.core.EndUntimed(p.ticket); e != admission.Ended {
			g.ended(g.now(), p.ticket, e)
		}
		return
	}
	now := g.now()
	if e := g.core.End(now, p.ticket); e != admission.Ended {
		g.ended(now, p.ticket, e)
	}
}

// release is Release for calls that are not plain.
//
//go:noinline
func (p *Permit) release(o *Outcome) {
	g := p.guard
	if g == nil {
		panic("limiter: Release of a permit that is not held")
	}
	if p.more == nil && o.Class == feedback.OK && len(o.Windows) == 0 && p.spent(o) {
		return
	}
	if p.more != nil && !p.unwatch() {
		return // its place was taken back
	}
	if int(o.Class) >= feedback.NumClasses {
		o.Class = feedback.ServerError // a class of a later version says no more
	}
	grant := p.grant()
	p.drop()
	now := g.now()
	if e := g.core.Finish(now, &grant, o); e != admission.Ended {
		g.settle(now, e, &grant, o)
	}
}

// spent is release for a call that ended well and tells what it used, when that is only to be added up.
func (p *Permit) spent(o *Outcome) bool {
	g := p.guard
	now := g.now()
	g.lock()
	done := g.core.EndSpent(now, p.ticket, o)
	g.mu.Unlock()
	if done {
		p.guard = nil
	}
	return done
}

// Began says that the answer to the call has begun and is not at its end, so that a law which makes use of it (Needs.Began) need not
// wait for the end to know that the call was accepted. It may be left out, and tells once. It panics when the permit is not held.
func (p *Permit) Began() {
	g := p.guard
	if g == nil {
		panic("limiter: Began for a permit that is not held")
	}
	grant := p.grant()
	if grant.Call.Begun {
		return
	}
	g.lock()
	defer g.unlock() // also when a law panics
	if p.more != nil && p.more.hold != nil && p.more.hold.taken {
		return
	}
	now := g.now()
	g.core.Began(now, &grant)
	g.serve(now, nil)
	if !grant.Call.Begun {
		return
	}
	p.ticket = admission.TicketOf(&grant.Call)
	if p.more == nil {
		p.more = baggages.Get().(*baggage) // so that its end is not taken for that of a plain call
	}
	p.more.grant.Call.Begun = true
}

// Abandon gives the permit back for a call that was never made: what it took of budgets and paces is as if it had never been taken, and
// nothing is learned. Its tenant's share is charged for as long as it held the place, as a part of the mean time that calls take, and all when nobody knows that time; a call
// that was given no Request.Tokens stays one call of its tenant's share, unless there are budgets. It panics when the permit is not held.
func (p *Permit) Abandon() {
	g := p.guard
	if g == nil {
		panic("limiter: Abandon of a permit that is not held")
	}
	var of admission.Charge
	if p.more != nil {
		of = p.more.charge
		if !p.unwatch() {
			return // its place was taken back
		}
	}
	grant := p.grant()
	p.drop()
	g.lock()
	now := g.now()
	g.core.Abandon(now, &grant, of)
	g.serve(now, nil)
	g.unlock()
}

// turn returns how much of its turn p, which is held, has had; see admission.Core.Turn.
func (p *Permit) turn() float64 {
	g := p.guard
	g.lock()
	defer g.mu.Unlock()
	return g.core.Turn(g.now(), p.ticket.At)
}

// Held reports whether the permit was acquired and not yet released.
func (p *Permit) Held() bool { return p.guard != nil }

// plain reports whether an outcome says no more than that the call ended well.
func plain(o *Outcome) bool {
	return int64(o.Class)|int64(o.FirstByte)|o.InputTokens|o.OutputTokens|int64(len(o.Windows)) == 0
}
