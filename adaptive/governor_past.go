package adaptive

import (
	"math"
	"time"
)

// A quota that others use, too, gives much now and little then. That more passed in the last minutes tells that a low is one: what others leave can be
// had again, and a refusal costs little while little passes. So the budget of refusals is of what passed then, and not of what little passes now.
const (
	// pastShort is over how many s what passes is smoothed, so that a burst counts for little, and pastTime after how many s the most of that is
	// forgotten but for a factor of e.
	pastShort, pastTime = 30, 300
	// pastLow is the share of the most that passed below which a pace is tried pastFaster times as fast.
	pastLow, pastFaster = 0.5, 2
	// pausedProbe is for how many times a pause a pace is not tried, at most a minute, where as much passes as before, and leastProbe the least.
	pausedProbe, leastProbe = 24, 3
)

// noteFlow adds what was accepted in dt seconds to what passed lately.
func (g *Governor) noteFlow(accepted, dt float64) {
	s := &g.s
	short := float64(s.FlowShort)
	s.FlowShort = float32(between(short+(accepted/dt-short)*(1-math.Exp(-dt/pastShort)), 0, unbounded))
	s.FlowPast = max(s.FlowShort, s.FlowPast*float32(math.Exp(-dt/pastTime)))
}

// earnedPast returns how many refusals a guard that p holds back earns until t besides those that its calls earn: together as many as if as much passed as
// in the last minutes.
func (g *Governor) earnedPast(t time.Duration, p *PaceState) float64 {
	s := &g.s
	return g.cfg.RefusalBudget * max(0, float64(s.FlowPast)-p.Rate) * max(0, min(t-s.FlowAt, maxGap).Seconds())
}

// low reports whether p is far below what passed in the last minutes.
func (g *Governor) low(p *PaceState) bool {
	return p.index(&g.s) == paceRequests && p.Rate < pastLow*float64(g.s.FlowPast)
}

// paceProbeAt returns an instant before which p is not tried because of a pause, which costs all that could have passed in it (of a low that is little), or because tries
// of a slow quota are spread.
func (g *Governor) paceProbeAt(p *PaceState) time.Duration {
	s := &g.s
	now := s.Flow
	if p.index(s) == paceRequests {
		now = p.Rate
	}
	share := 1.0
	if s.FlowPast > 0 {
		share = min(1, now/float64(s.FlowPast))
	}
	pause := min(s.LastPause, time.Hour)
	wait := min(time.Duration(pausedProbe*share*float64(pause)), time.Minute)
	if p.Steady > 1 {
		wait <<= p.Steady - 1
	}
	return max(after(s.PausedUntil, max(wait, leastProbe*pause)-pause), g.spreadUntil(p))
}
