package adaptive

import "math"

// Where calls take the same time each, and start evenly, as many are on their way at all times: those need no room for chance.
const (
	// evenCalls is of how many calls it must be known how much they differ, and evenRest by how much they may, as a logarithm.
	evenCalls, evenRest = 16, 0.02
	// evenPace is how much faster they may start than they end, so that those that came in a bunch spread within a round trip.
	evenPace = 1.01
	// evenLess is the share of those on their way that is left alone, as what a way takes is known from the shortest refusal.
	evenLess = 0.1
	// evenBurst is how many more than one may start at once at most, and evenSlack the time in s that they may be early.
	evenBurst, evenSlack = 2, 0.001
	// mostUneven is how often a call may be refused that should not have been: each time half as many count as on their way, and then none.
	mostUneven = 3
)

// even reports whether calls take the same time each, as far as is known.
func (g *Governor) even() bool {
	s := &g.s
	return s.Uneven < mostUneven && s.LevelSeen >= evenCalls && s.LevelRest < evenRest*evenRest
}

// evenSafe returns the limit at which no call is refused where there are that many places and calls take the same time each: all places and those that are
// on their way when all places are taken, less what the pace may gain on them.
func (g *Governor) evenSafe(places float64) float64 {
	s := &g.s
	way := g.way()
	m := places * min(mostInTransit, way/max(1e-6, s.Mean-way))
	m = ((1-evenLess)*m - (evenPace-1)*(places+m)) / math.Exp2(float64(s.Uneven))
	return max(math.Floor(places+m-1-min(evenBurst, places/max(1e-6, s.Mean)*evenSlack)), places)
}

// unevenly notes a refusal of a call that saw n in flight and reports whether one that saw so many should not have been refused: then those that are on their
// way differ.
func (g *Governor) unevenly(n float64) bool {
	s := &g.s
	if !g.even() || n <= float64(s.Places)+1 || n > g.safe()+1 {
		return false
	}
	s.Uneven++
	return true
}
