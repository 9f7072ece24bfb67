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
