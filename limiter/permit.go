package limiter

import (
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

// Permit is the right to have one call in flight. It is a value that stays with the caller; its
// methods need its address. It must be released exactly once, by one goroutine, and must not be copied
// after it was acquired: a copy could be released a second time without anybody noticing.
type Permit struct {
	guard *Guard
	grant admission.Grant
	hold  *hold // when the permit is watched
}

// Release ends the call with what became of it, and lets the next one in. It panics when the permit was
// released before or was never acquired.
func (p *Permit) Release(o Outcome) { release(p, &o) }

// release is Release; apart, so that Release is inlined and the outcome is not copied.
func release(p *Permit, o *Outcome) {
	g := p.guard
	if g == nil {
		panic("limiter: Release of a permit that is not held")
	}
	if p.hold != nil && !p.unwatch() {
		return // its place was taken back
	}
	p.guard = nil
	if int(o.Class) >= feedback.NumClasses {
		o.Class = feedback.ServerError // a class of a later version says no more
	}
	g.finish(&p.grant, o)
}

// Abandon gives the permit back for a call that was never made: what it took of budgets and paces is as if it had
// never been taken, and nothing is learned. It panics when the permit is not held.
func (p *Permit) Abandon() {
	g := p.guard
	if g == nil {
		panic("limiter: Abandon of a permit that is not held")
	}
	if p.hold != nil && !p.unwatch() {
		return // its place was taken back
	}
	p.guard = nil
	g.mu.Lock()
	now := g.now()
	g.core.Abandon(now, &p.grant)
	g.serve(now, nil)
	g.unlock()
}

// Held reports whether the permit was acquired and not yet released.
func (p *Permit) Held() bool { return p.guard != nil }

// plain reports whether an outcome says no more than that the call ended well.
func plain(o *Outcome) bool {
	return int64(o.Class)|int64(o.FirstByte)|o.InputTokens|o.OutputTokens|int64(len(o.Windows)) == 0
}
