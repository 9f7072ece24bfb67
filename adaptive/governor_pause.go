package adaptive

import (
	"math"
	"time"
)

// A refusal that names a delay costs what could have started meanwhile. So where delays are longer than calls the limit goes at once where it will
// hardly be refused again, stays there, and is tried again the more seldom the more a delay costs.
const (
	// mostInTransit is the largest share of a call's time that may be taken for its way there and back.
	mostInTransit = 0.5
	// firstProbe is after how many times what a pause cost a limit is tried the first time; each further pause doubles that, up to
	// lastProbe, of which maxPauses is more than enough.
	firstProbe, lastProbe, maxPauses = 10, 100, 8
	// resumeCalls is for how many times what a call takes starts are no faster after a pause than as many calls as the limit allows end. Faster, all
	// would be there at the same time, and none on its way.
	resumeCalls = 8
)

// costly reports whether nothing may start at t because a delay was named, that is longer than calls take.
func (g *Governor) costly(t time.Duration) bool {
	s := &g.s
	return t < s.PausedUntil && s.LastPause.Seconds() > s.Mean
}

// room returns by how many calls a limit has to stay below n, of which one was refused after k were accepted, for a refusal to come so seldom
// that it costs as much as one call more in flight gains.
//
// Calls that are on their way are in flight here and not there. Of n, there are m = n * (time of the way / time of a call) on average, and few
// enough for one too many at any time, so how many there are differs by the square root of m. A refusal after k calls was that of the
// fewest of k; one in n * (calls that a pause costs) is wanted.
func (g *Governor) room(n, k float64) float64 {
	s := &g.s
	if s.Mean <= 0 {
		return 1
	}
	m := g.inTransit(n)
	return math.Floor(1e-3 + max(1, min(m, math.Sqrt(m)*(sigmas(g.worth(n))-sigmas(k)))))
}

// worth returns in how many calls a refusal costs as much as one more than n in flight gains.
func (g *Governor) worth(n float64) float64 {
	s := &g.s
	return n * n * s.LastPause.Seconds() / max(1e-6, s.Mean)
}

// pauseCost returns how many seconds of what the upstream does a pause costs: calls in flight go on in it.
func (g *Governor) pauseCost(pause time.Duration) float64 {
	p, l := pause.Seconds(), g.s.Mean
	if l <= 0 {
		return p
	}
	return p - l*(1-math.Exp(-p/l))
}

// probeWait returns how long the limit is not tried after a pause, the Pauses-th.
func (g *Governor) probeWait(pause time.Duration) time.Duration {
	times := min(lastProbe, firstProbe*math.Exp2(float64(g.s.Pauses-1)))
	return time.Duration(1e9 * times * g.pauseCost(pause))
}

// inTransit returns how many of n calls in flight are on their way, on average and at most.
func (g *Governor) inTransit(n float64) float64 {
	if g.s.Mean <= 0 {
		return 0
	}
	return n * min(mostInTransit, float64(g.s.Way)/g.s.Mean)
}

// sigmas returns by how many standard deviations the least of k values lies below their mean, about.
func sigmas(k float64) float64 {
	return max(0, math.Sqrt(2*math.Log(max(1, k)))-0.7)
}

// settle notes a refusal of a call that saw n in flight while pauses cost much, and returns the limit to go on with. It stays where it was good
// before, if it was tried beyond that, or so far below n that it will hardly be refused again.
func (g *Governor) settle(n float64) float64 {
	s := &g.s
	safe, before := 0.0, float64(s.SafeBefore)
	if before > 0 && before < n {
		safe = max(before, n-g.room(n, 1)) // how many passed beyond says little: it rose meanwhile
	} else {
		safe = n - g.room(n, float64(s.SafeCalls))
	}
	safe = max(safe, float64(g.cfg.Min))
	s.Safe = float32(safe)
	// When starts begin again, none is on its way back. The rest follows when some are.
	return min(s.Limit, max(float64(g.cfg.Min), safe-g.inTransit(safe)))
}

// grown returns how many must be in flight, without a refusal, for the upstream to allow more than before. Where pauses cost much, the boundary
// is the fewest that were refused, and those on their way come on top of it.
func (g *Governor) grown() float64 {
	s := &g.s
	n := s.Bound
	if s.Safe > 0 {
		n += g.inTransit(n)
	}
	if s.Lag.Hold > 0 {
		return 1.3 * n // where calls are counted for a time that differs after their ends, the boundary is not sharp
	}
	return 1.1 * n
}
