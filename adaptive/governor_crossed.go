package adaptive

import (
	"math"
	"time"
)

// A quota that gives R a second and saves up E calls refuses a pace that rises through R by a factor of e in a time T once E calls more have passed than it gave: at
// R*e^y, where R*T*(e^y - 1 - y) = E, so y is about the root of 2*E/(R*T). A pace that rises four times as fast is refused twice as far above R. So two such refusals
// tell R, whatever is saved up: the slow one is as far above R, as a logarithm, as the fast one is above the slow one.
const (
	// crossedMost is by how much the fast one may be above the slow one. Beyond, so much is saved up that there may be less when the pace rises through R.
	crossedMost = 1.15
	// crossedFrom is how many times what is known of a quota a pace must be that was refused after few calls to have risen through what it gives.
	crossedFrom = 1.2
)

// crossed notes a refusal of p, before which dn calls had passed, lower a second, of which u may be refused yet, and returns what the quota gives, if the one before tells: 0 when it does
// not. fast says that this one came while p rose as fast as while nothing is known.
func (g *Governor) crossed(p *PaceState, lower, dn, u float64) (rate float64, fast bool) {
	s := &g.s
	switch {
	case !g.costly(s.At) || s.LastPause.Seconds() > 1+1/lower:
		return 0, false // a bucket has room for one in 1/R, in whole seconds
	case p.Rate <= p.Known || dn < soonRefused+u && p.Rate <= crossedFrom*p.Known:
		return 0, false // it may have begun above what the quota gives
	case !p.Sure && p.Rate < p.highest():
		s.Fast = paceCodeOf(g.before(p, paceStart, paceStartCall))
		return 0, true
	}
	slow, quick := g.before(p, paceProbe, paceProbeCall), paceOf(s.Fast)
	if quick > crossedMost*slow || slow > (1+agree)*quick {
		s.Fast = 0 // it saves up much, or gives less or more than then
		return 0, false
	}
	if rate = slow * min(1, slow/quick); rate < p.highest() {
		return 0, false // p rose through it faster
	}
	return rate, false
}

// before returns what p was when the call before the one started that was refused now, where it rises by a factor of e in a time, and by a share a call at most.
func (g *Governor) before(p *PaceState, rises time.Duration, call float64) float64 {
	return p.Rate * math.Exp(-float64(g.s.RefusalTime)/rises.Seconds()-min(call, 1/(p.Rate*rises.Seconds())))
}

// paceCodes is how many codes there are to a factor of e.
const paceCodes = 2000

// paceCodeOf returns what GovernorState.Fast and SharedFrom hold for a pace, and paceOf the pace of a code.
func paceCodeOf(rate float64) uint16 {
	return uint16(between(math.Round(paceCodes*math.Log(rate/leastPace)), 1, math.MaxUint16))
}

func paceOf(code uint16) float64 {
	if code == 0 {
		return 0
	}
	return leastPace * math.Exp(float64(code)/paceCodes)
}
