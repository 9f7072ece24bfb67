package limiter

import (
	"context"
	"math/rand/v2"
	"sync/atomic"

	"github.com/flyball-go/flyball/internal/admission"
)

// Tie gives the permit of a call back when the call's context ends and its owner has forgotten it: an HTTP client may
// cancel a request and drop the answer without closing it, which costs net/http nothing. A Tie is part of the
// owner's own state, is used once, and must not be copied. The zero Tie is not in use.
//
// A context that is watched costs several times what the rest of a call costs, and most calls end by themselves. So a
// Tie only notes where the call is. When somebody has to wait for a place, the guard has the contexts of all ties
// watched that are there, and of those that come while somebody waits. A guard where nobody waits may count
// a forgotten call as in flight for a while.
type Tie struct {
	owner Tied
	slot  *atomic.Pointer[Tie] // where it is noted; whoever takes it out of there goes on
	watch atomic.Pointer[watch]
}

// watch is how far the watch of a context is.
type watch struct{ stop func() bool }

// What a Tie's watch is before there is one, and when there will be none.
var (
	tieArming   = new(watch) // somebody sets it up
	tieFinished = new(watch) // nothing is left to do
)

// Tied is what a Tie calls when the context of the call has ended.
type Tied interface {
	// Context returns the context of the call.
	Context() context.Context
	// ContextEnded is to give the permit back, unless the call has ended, and to call Tie.End. It may be called from any goroutine.
	ContextEnded()
}

// Tie ties a call, whose permit is p, to its context, until t.End. It does nothing when the context cannot end.
func (p *Permit) Tie(t *Tie, owner Tied) {
	g := p.guard
	t.tie(g, p.ticket, owner)
	if t.slot != nil && (g.core.Waiting() > 0 || g.set.Load().core.Queue == 0) {
		t.take()
	}
}

// Tie is Permit.Tie.
func (kp *KeyPermit) Tie(t *Tie, owner Tied) {
	p := kp.pool // once it is noted, whoever waits may end the call
	t.tie(kp.key.lane.guard, kp.permit.ticket, owner)
	if t.slot != nil && (p.waiting.Load() > 0 || p.set.Load().queue == 0) {
		t.take()
	}
}

// tie notes t with the guard, or has its context watched when there is no slot for it.
func (t *Tie) tie(g *Guard, call admission.Ticket, owner Tied) {
	if owner.Context().Done() == nil {
		return
	}
	t.owner = owner
	r := g.ties.Load()
	if r == nil {
		r = new(ties)
		if !g.ties.CompareAndSwap(nil, r) {
			r = g.ties.Load()
		}
	}
	at := uint32(call.At) * 0x9e3779b1 >> 16 // as good as chance, and cheaper
	if call.At == admission.Untimed {
		at = rand.Uint32()
	}
	if !r.note(t, at) {
		t.arm()
	}
}

// End says that the call has ended. It may be called more than once, from any goroutine.
func (t *Tie) End() {
	if t.slot != nil && t.slot.CompareAndSwap(t, nil) {
		return
	}
	if w := t.watch.Swap(tieFinished); w != nil && w.stop != nil {
		w.stop()
	}
}

// take has the context watched, unless somebody else sees to that.
func (t *Tie) take() {
	if t.slot.CompareAndSwap(t, nil) {
		t.arm()
	}
}

// arm has the context watched, of a Tie that is in no slot.
func (t *Tie) arm() {
	if !t.watch.CompareAndSwap(nil, tieArming) {
		return
	}
	ctx := t.owner.Context()
	if ctx.Err() != nil {
		t.owner.ContextEnded()
		return
	}
	w := &watch{context.AfterFunc(ctx, t.owner.ContextEnded)}
	if !t.watch.CompareAndSwap(tieArming, w) {
		w.stop() // the call ended meanwhile
	}
}

// ties are the calls of a guard whose contexts are not watched. Slots are found by chance, so that no two processors wait for
// each other, and a call that finds none is watched.
type ties struct {
	watched atomic.Bool // all that are noted are watched, or will be
	slots   [tieSlots]atomic.Pointer[Tie]
	more    atomic.Pointer[moreTies] // when those were not enough
}

type moreTies [tieSlots * tieSlots]atomic.Pointer[Tie]

const (
	tieSlots  = 32 // a power of two
	tieProbes = 4
)

// note finds a slot for t, near at.
func (r *ties) note(t *Tie, at uint32) bool {
	if !find(r.slots[:], at, t) {
		more := r.more.Load()
		if more == nil {
			more = new(moreTies)
			if !r.more.CompareAndSwap(nil, more) {
				more = r.more.Load()
			}
		}
		if !find(more[:], at, t) {
			return false
		}
	}
	// In this order: whoever waits has said so before it asks whether all are watched.
	if r.watched.Load() {
		r.watched.Store(false)
	}
	return true
}

// find puts t into one of the slots near at, and ends forgotten calls that it meets there.
func find(slots []atomic.Pointer[Tie], at uint32, t *Tie) bool {
	for i := range uint32(tieProbes) {
		s := &slots[(at+i)&uint32(len(slots)-1)]
		other := s.Load()
		if other != nil && other.owner.Context().Err() != nil && s.CompareAndSwap(other, nil) {
			other.arm()
			other = nil
		}
		if other != nil {
			continue
		}
		// Whoever finds t in the slot may use it at once.
		t.slot = s
		if s.CompareAndSwap(nil, t) {
			return true
		}
		t.slot = nil
	}
	return false
}

// watch has the contexts of all calls watched that are noted: somebody waits. It is called without the guard's lock.
func (r *ties) watch() {
	if r == nil || r.watched.Load() {
		return
	}
	r.watched.Store(true)
	r.each(func(t *Tie) { t.take() })
}

// endForgotten ends the calls that were forgotten.
func (r *ties) endForgotten() {
	if r == nil {
		return
	}
	r.each(func(t *Tie) {
		if t.owner.Context().Err() != nil {
			t.take()
		}
	})
}

func (r *ties) each(f func(*Tie)) {
	all := func(slots []atomic.Pointer[Tie]) {
		for i := range slots {
			if t := slots[i].Load(); t != nil {
				f(t)
			}
		}
	}
	all(r.slots[:])
	if more := r.more.Load(); more != nil {
		all(more[:])
	}
}
