package adaptive

import "math"

// Where more in flight get less done, a few calls more or less decide, and the levels of blocks, two to an octave, are too coarse to see it. So how long calls
// take is remembered for single limits, too: by Little's law n calls in flight that take L each do n/L a second. Calls that differ much tell it late, and
// those that differ little within some ten calls.
const (
	// numLevels is how many limits are remembered.
	numLevels = 6
	// levelCalls is how many calls a limit needs to be known, and levelMemory of about how many it is known.
	levelCalls, levelMemory = 8, 64
	// levelLess is by how much less, as a logarithm, a limit must do than a lower one for that to be chosen, and levelSigmas by how many standard errors.
	levelLess, levelSigmas = 0.05, 3
	// levelWorth is, times the variance of the logarithms, how many calls a limit must have had before more is tried, once fewer did more.
	levelWorth = 400
	// levelDrained is the share of what is done with few in flight below which less was done while those that hung ended: they did not only queue.
	levelDrained = 0.6
	// drainFrom is how many times what is allowed must be in flight for that to be looked at.
	drainFrom = 1.3
	// mostLevels is how often the time until a larger limit is tried again doubles.
	mostLevels = 4
	// levelMoved is by how much, as a logarithm, calls take longer or shorter at the same limit when the upstream has changed.
	levelMoved = 0.15
)

// LevelState is what is known of one limit.
type LevelState struct {
	Took  float32 // mean of the logarithms of s that calls took
	At    float32 // when that was known last, in s since GovernorState.Origin
	Limit uint16
	N     uint8 // calls, at most 64; 0: not known
}

// gets returns the logarithm of how much gets done a second at the limit.
func (l *LevelState) gets() float64 { return math.Log(float64(l.Limit)) - float64(l.Took) }

// level returns what is known of the limit in force; nil when that is nothing.
func (s *GovernorState) level() *LevelState {
	for i := range s.Levels {
		if l := &s.Levels[i]; l.N > 0 && int32(l.Limit) == s.LevelOf {
			return l
		}
	}
	return nil
}

// learnLevel adds the calls of a window to what is known of the limit in force, if they began and ended while it was in use.
func (g *Governor) learnLevel(w *Window) {
	s := &g.s
	n := int(s.Limit + limitSlack)
	if n != int(s.LevelOf) {
		s.LevelOf, s.LevelAt, s.LevelNew = int32(n), s.At, 0
	}
	if s.Drain > 0 && w.InFlight <= n {
		s.Drain = -s.Drain / float32(max(1e-3, (s.At-s.LevelAt).Seconds()))
		if s.clear() {
			g.disturbed(s.At)
		}
	}
	if g.took <= 0 || n > math.MaxUint16 || w.MaxInFlight > n || 16*w.MaxInFlight < 15*n || 16*(w.InFlight+1) < 15*n ||
		float64(s.At-s.LevelAt) < 1e9*max(g.took, 1.5*s.Mean) || s.Counts != byCalls {
		return
	}
	timed := min(w.Timed, levelMemory)
	y, at := float32(between(math.Log(g.took), -mostClass, mostClass)), float32((s.At - s.Origin).Seconds())
	l := s.level()
	if l == nil {
		l = &s.Levels[0]
		for i := range s.Levels {
			if x := &s.Levels[i]; x.N == 0 || l.N > 0 && x.At < l.At {
				l = x
			}
		}
		*l = LevelState{Limit: uint16(n)}
	}
	if l.N > 0 {
		d := y - l.Took
		s.LevelSeen = min(s.LevelSeen+1, levelMemory)
		s.LevelRest += (min(d*d*float32(w.Timed), 4) - s.LevelRest) / float32(s.LevelSeen)
		s.LevelDrift += (d - s.LevelDrift) / levelCalls
	}
	s.LevelNew = min(s.LevelNew+1, levelMemory)
	l.At, l.N = at, uint8(min(int(l.N)+timed, levelMemory))
	l.Took += (y - l.Took) * min(1, float32(timed)/float32(l.N))
}

// fewerGet looks, at the end of an epoch, for a lower limit that does more than the one in force, and goes there. It reports whether the limit must not rise,
// because it did, or because a limit just above is known to do less, or because it is not known yet how much this one does, where that matters.
func (g *Governor) fewerGet() bool {
	s := &g.s
	if s.Counts != byCalls || g.cfg.Objective != Throughput {
		return false
	}
	now := float32((s.At - s.Origin).Seconds())
	wait := math.Exp2(float64(s.LevelTimes)) * max(slowerTime, slowerWait*min(s.Mean, 60)) / 2
	l := s.level()
	if l == nil || l.N < levelCalls || s.LevelNew < levelCalls/2 || s.LevelTimes > 0 && float64(l.N) < min(levelWorth*float64(s.LevelRest), levelMemory) {
		return (s.LevelTimes > 0 || s.Drain != 0) && (s.At-s.LevelAt).Seconds() < wait
	}
	if s.Drain < 0 && -float64(s.Drain) < levelDrained*math.Exp(l.gets()) {
		s.LevelTimes = max(s.LevelTimes, 1)
	}
	s.Drain = 0
	if d := float64(s.LevelDrift); math.Abs(d) > levelMoved && math.Abs(d) > levelSigmas*math.Sqrt(float64(s.LevelRest)/levelCalls) {
		// Calls take longer now, or shorter, with as many in flight: what is known of others is of before.
		s.Levels, s.LevelTimes, s.LevelDrift = [numLevels]LevelState{}, min(s.LevelTimes, 1), 0
		return false
	}
	var best, above *LevelState
	for i := range s.Levels {
		switch x := &s.Levels[i]; {
		case x.N < levelCalls || now-x.At >= ageCells:
		case x.Limit < l.Limit && (best == nil || x.gets() > best.gets()):
			best = x
		case x.Limit > l.Limit && (above == nil || x.Limit < above.Limit):
			above = x
		}
	}
	less := func(a, b *LevelState, sigmas, least float64) bool { // a does less than b
		sigma := math.Sqrt(float64(s.LevelRest) * (1/float64(a.N) + 1/float64(b.N)))
		return b.gets()-a.gets() > max(least, sigmas*sigma)
	}
	if best != nil && (s.LevelTimes > 0 || g.levelsTell()) && less(l, best, levelSigmas, levelLess) {
		s.LevelTimes = min(s.LevelTimes+1, mostLevels)
		g.levelTo(float64(best.Limit))
		return true
	}
	if s.LevelTimes == 0 {
		return false
	}
	slope, sigma := s.levelSlope(now)
	step := max(1, math.Floor(s.Limit/16))
	switch {
	case above != nil && less(above, l, 1, 0), slope+sigma < 0:
		if above != nil && float64(now-above.At) >= wait {
			above.N = 0 // see again
			return false
		}
		if down := s.Limit - step; down >= float64(g.cfg.Min) && (best == nil || float64(best.Limit) < down) {
			g.levelTo(down) // perhaps still fewer do more
		}
		return above != nil || (s.At-s.LevelAt).Seconds() < wait
	case slope < 0:
		return above != nil && float64(now-above.At) < wait
	}
	return false
}

// steep reports whether a few calls more got less done before, so that single limits decide.
func (g *Governor) steep() bool {
	return g.s.LevelTimes > 0 && g.s.Counts == byCalls && g.cfg.Objective == Throughput
}

// levelSlope returns how much more, as a logarithm, limits do that are larger, as one, by a line through those known, and the standard error of that.
func (s *GovernorState) levelSlope(now float32) (slope, sigma float64) {
	var n, x, y, xx, xy float64
	for i := range s.Levels {
		l := &s.Levels[i]
		if l.N < levelCalls || now-l.At >= ageCells {
			continue
		}
		k, u := float64(l.N), math.Log(float64(l.Limit))
		v := u - float64(l.Took)
		n, x, y, xx, xy = n+k, x+k*u, y+k*v, xx+k*u*u, xy+k*u*v
	}
	if n == 0 {
		return 0, math.Inf(1)
	}
	xx, xy = xx-x*x/n, xy-x*y/n
	if xx < 1e-4*n {
		return 0, math.Inf(1)
	}
	return xy / xx, math.Sqrt(float64(s.LevelRest) / xx)
}

// drains notes that the limit falls to the given number while more are in flight: how fast those end tells whether they only queued.
func (g *Governor) drains(to float64) {
	if s := &g.s; s.clear() && s.Refused == 0 && g.cfg.Objective == Throughput && float64(s.InFlight) > drainFrom*to {
		s.Drain = float32(float64(s.InFlight) - to)
	}
}

// levelsTell reports whether calls with the same limit differ so little that how long they take tells soon how much gets done.
func (g *Governor) levelsTell() bool {
	s := &g.s
	return s.LevelSeen >= 2*levelCalls && s.LevelRest < quietNoise*quietNoise
}

// levelTo lowers the limit to n.
func (g *Governor) levelTo(n float64) {
	s := &g.s
	n = max(n, float64(g.cfg.Min)) // what was remembered may be of other parameters
	g.slowed(n)
	s.Knee = float32(nonzero(float64(s.Knee), n))
	g.disturbed(s.At)
}
