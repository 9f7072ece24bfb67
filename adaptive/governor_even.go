package adaptive

import "math"

// Where calls take the same time each, and start evenly, as many are on their way at all times: those need no room for chance.
const (
	// evenCalls is of how many calls it must be known how much they differ, and evenRest by how much they may, as a logarithm.
	evenCalls, evenRest = 16, 0.02
	// evenPace is how much faster they may start than they end while more are tried, so that those that came in a bunch spread within a round trip.
	evenPace = 1.01
	// evenLess is the share of those on their way that is left alone, as what a way takes is known from the shortest refusal.
	evenLess = 0.1
	// evenShare is the share of the time between two starts by which one may be early, evenSoon and evenLate how much that is in s at least and at most, and evenBurst
	// how many times the time between two at most. See paceShare in internal/admission.
	evenShare, evenSoon, evenLate, evenBurst = 0.1, 0.001, 0.010, 3
	// evenGain is how many more than there are places must be in flight for such a pace to be of use, and evenGainShare which share of them.
	evenGain, evenGainShare = 0.1, 0.01
	// mostUneven is how often a call may be refused that should not have been: each time half as many count as on their way, and then none.
	mostUneven = 3
)

// even reports whether calls take the same time each, as far as is known.
func (g *Governor) even() bool {
	s := &g.s
	return s.Uneven < mostUneven && s.LevelSeen >= evenCalls && s.LevelRest < evenRest*evenRest
}

// evenRate returns how many calls may start a second where there are that many places and calls take the same time each: a place is taken for what a call takes
// less its way, and is to be free for as long as a start may be early.
func (g *Governor) evenRate(places float64) float64 {
	s := &g.s
	served := s.Mean - min(mostInTransit*s.Mean, (1-evenLess)*g.way()/math.Exp2(float64(s.Uneven)))
	gap := served / max(1, places)
	return places / max(1e-6, served+min(between(evenShare*gap, evenSoon, evenLate), evenBurst*gap))
}

// evenSafe returns as many calls as are in flight at that pace, or places where those are hardly more.
func (g *Governor) evenSafe(places float64) float64 {
	n := g.evenRate(places) * g.s.Mean
	if n < places+max(evenGain, evenGainShare*places) {
		return places
	}
	return math.Ceil(n - 1e-3)
}

// unevenly notes a refusal of a call that saw n in flight and reports whether one that saw so many should not have been refused: then those that are on their
// way differ.
func (g *Governor) unevenly(n float64) bool {
	s := &g.s
	if safe := g.evenSafe(float64(s.Places)); !g.even() || n <= float64(s.Places) || n > safe || s.Limit >= safe+1 {
		return false
	}
	s.Uneven++
	return true
}
