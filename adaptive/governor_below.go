package adaptive

import "time"

// A limit on calls in flight refuses none while no more are in flight than it has places: of those that are in flight here some are on their way, and fewer there.
// If one is refused all the same, after so many calls that there must have been enough, there were counted too many, or there are fewer now. That is so once; where it
// comes again with the places that were counted then, something else refuses, at whatever limit is kept.

// belowAgain notes a refusal at t of a call that saw n in flight, gap accepted calls after the one before, and reports whether it is such a one, as the one before was.
func (g *Governor) belowAgain(t time.Duration, n, gap float64) bool {
	s := &g.s
	before := s.Below
	s.Below = s.Places > 0 && n <= float64(s.Places) && g.costly(t) && gap >= max(passedBeyond, beyondFull*n)
	return before && s.Below
}

// emptiedBelow is the share of what a row of calls saw that were accepted below which so few places were counted that no limit refused.
const emptiedBelow = 0.5

// emptied reports whether of those in flight when the last pause began so many were refused that there were places for fewer than half of as many as a row of calls saw that were
// accepted, less those that are on their way: who refuses had nothing left for any of them. Where a refusal takes as long as a call nearly all that is in flight is refused so.
func (g *Governor) emptied(t time.Duration) bool {
	s := &g.s
	v := min(s.Proven, s.Bound-1)
	return s.Pace[paceRequests].Rate == 0 && s.Places > 0 && g.costly(t) && float64(s.Places) < emptiedBelow*(v-g.inTransit(v))
}
