package limiter

import "github.com/flyball-go/flyball/internal/admission"

// reasonNone is no refusal.
const reasonNone = admission.ReasonNone

// tryFor is TryAcquire for a pool, which has to know what to wait for.
func (g *Guard) tryFor(r Request) (p Permit, m miss, ok bool) {
	p, t := g.take(&r)
	if t <= admission.TookLast {
		return p, miss{}, true
	}
	if t == admission.NoPlace && !g.set.Load().core.Observe {
		return Permit{}, miss{reason: ReasonLimit}, false
	}
	p, m = g.try(r)
	return p, m, p.guard != nil
}
