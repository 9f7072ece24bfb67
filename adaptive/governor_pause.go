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
	firstProbe, lastProbe, maxPauses = 30, 100, 8
	// resumeCalls is for how many times what a call takes starts are no faster after a pause than as many calls as the limit allows end. Faster, all
	// would be there at the same time, and none on its way.
	resumeCalls = 8
)

// costly reports whether nothing may start at t because a delay was named, that is longer than calls take.
func (g *Governor) costly(t time.Duration) bool {
	s := &g.s
	least := s.Mean
	if s.Places > 0 {
		least *= costlyStill
	}
	return t < s.PausedUntil && s.LastPause.Seconds() > least
}

// counts reports whether, after a refusal of a call that saw n in flight, nothing may start at t for so long that it is counted meanwhile how
// many places there are.
func (g *Governor) counts(t time.Duration, n float64) bool {
	s := &g.s
	return g.costly(t) || n >= countedFrom && t < s.PausedUntil && s.LastPause.Seconds() > 4*float64(s.Way)
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

// way returns what a call's way there and back takes, in s: a little less than the shortest of the refusals, the less the more there were and
// the less they differ.
func (g *Governor) way() float64 {
	s := &g.s
	way := float64(s.Way)
	if s.Refused < 2 {
		return way
	}
	return way - min(max(0, float64(s.RefusalTime)-way)/float64(s.Refused), way/2)
}

// inTransit returns how many of n calls in flight are on their way, on average and at most.
func (g *Governor) inTransit(n float64) float64 {
	s := &g.s
	return min(s.Flow*g.way(), mostInTransit*n)
}

// sigmas returns by how many standard deviations the least of k values lies below their mean, about.
func sigmas(k float64) float64 {
	return max(0, math.Sqrt(2*math.Log(max(1, k)))-sigmasLess)
}

// safe returns the limit to stay at while pauses cost much: as many as a refused call found places taken, and of those that are on their way so
// many more that one too many comes so seldom that it costs as much as one call more in flight gains. 0: not known.
//
// Calls that are on their way are in flight here and not there: m = flow * time of the way on average, and few enough for one too many at any
// time, so how many there are differs by a standard deviation of the root of m * (1 - m/n). One refusal in n * (calls that a pause costs) is wanted.
// After a pause all would be there at the same time, and none on its way.
func (g *Governor) safe() float64 {
	s := &g.s
	places := float64(s.Places)
	if places == 0 || g.resuming() {
		return places
	}
	if g.even() {
		return g.evenSafe(places)
	}
	m := g.inTransit(places)
	n := places + m
	sigma := math.Sqrt(m * places / n)
	return max(math.Floor(1e-3+n-below(g.worth(n)/max(1, m), sigma, (places-m)/n)*sigma), places)
}

// below returns by how many standard deviations sigma a limit should stay below the mean where it is exceeded by chance: each of k times that the number is drawn anew
// one too many costs as much as k calls less. A crossing of y deviations comes about exp(-y*y/2) times as often as it is drawn, so one call less in sigma is worth that at
// y*y/2 = ln(k*y/sigma). The number is that of those on their way, of which there are never fewer than none: its lower tail is the shorter one, by its skewness.
func below(k, sigma, skewed float64) float64 {
	sigma = max(1, sigma)
	y := math.Sqrt(2 * math.Log(max(1, usualSigmas*k/sigma)))
	return max(0, y-max(0, y*y-1)/6*skewed/sigma)
}

// sooner reports whether a refusal of a call that saw n in flight, gap accepted calls after the one before, came so much sooner than places that are
// taken explain that there are fewer, or that something else refuses.
func (g *Governor) sooner(n, gap float64) bool {
	s := &g.s
	places := float64(s.Places)
	m := g.inTransit(places)
	switch {
	case n <= places || s.Resumed:
		return n <= places+m
	case n >= places+m:
		return false
	}
	z := (places+m-n)/math.Sqrt(m*places/(places+m)) + sigmasLess
	return gap/max(1, m) < surprise*math.Exp(min(z*z/2, 100))
}

// resuming reports whether a pause was over so shortly before that few can be on their way.
func (g *Governor) resuming() bool {
	s := &g.s
	return s.At < after(s.PausedUntil, time.Duration(resumeCalls*1e9*min(s.Mean, 3600)))
}

// settle notes a refusal of a call that saw n in flight while pauses cost much, gap accepted calls after the one before, and returns the limit to
// go on with. How many places there are is counted in the pause; until then it is taken for as many as the call saw, less those on their way.
func (g *Governor) settle(n, gap float64) float64 {
	s := &g.s
	before, m := float64(s.Places), g.inTransit(n)
	known := before > 0 && before <= n-1 && !s.SlowStart
	s.Surprise = known && g.sooner(n, gap)
	if known && g.unevenly(n) && s.Uneven == 1 && !s.Resumed {
		s.Surprise = false // there are as many places as before
	}
	least := before
	var places float64
	switch {
	case s.Surprise:
		least = min(before-1, n-1-max(0, m-math.Sqrt(m)*sigmas(gap/max(1, m))))
		places = least
	case known:
		shade := max(0, math.Log2(n/countedFrom))
		places = max(before, n-1-max(0, m-math.Sqrt(m)*max(0, sigmas(max(1, s.Good)/max(1, m))-shade)))
	case n >= countedFrom:
		if s.Mean > 0 {
			m = n * min(mostInTransit, g.way()/s.Mean) // flow grows
		}
		places = n - 1 - m
		least = places
	default:
		places = n - 1 - math.Floor(m/2)
		least = places
	}
	if known {
		s.Crowd = mostCrowd // how many are on their way is known, and that this one was refused says that there were few
	}
	floor := float64(g.cfg.Min)
	s.Least, s.Places = float32(max(1, math.Floor(least))), float32(max(floor, min(math.Floor(places), n-1)))
	s.Bound, s.LastBound = n, n
	return min(s.Limit, float64(s.Places))
}

// nearer notes a refusal of an older call in the same trouble, that saw n in flight. Of calls that were refused together, the one with the fewest in flight was
// nearest to the limit.
func (g *Governor) nearer(n float64) {
	s := &g.s
	less := float32(max(0, s.Bound-n))
	s.Bound, s.LastBound = min(s.Bound, n), min(s.LastBound, n)
	if s.Pace[paceRequests].Rate > 0 {
		return
	}
	s.Limit = min(s.Limit, max(float64(g.cfg.Min), n-1))
	if s.Places == 0 {
		return
	}
	least := float32(g.cfg.Min)
	s.Least = min(s.Least, max(least, float32(s.Bound-1)))
	s.Places = max(least, min(max(s.Places-less, s.Least), float32(s.Bound-1)))
	s.Limit = min(s.Limit, float64(s.Places))
}

// count notes that inFlight calls are in flight at t, all of them older than the pause. sent is when the one started that was refused at t, negative: none was.
//
// Those in flight when the pause began and not refused had places or got some. When as much time has passed as a refusal takes, those that ended meanwhile
// are known: they had given back their places, and others that were on their way took them, if there were enough. How many of those were refused tells:
// of r that were, one in r + 1 found no place that was free.
func (g *Governor) count(t, sent time.Duration, inFlight int) {
	s := &g.s
	from := s.PausedUntil - s.LastPause
	if s.Places == 0 || s.LastPause == 0 {
		return
	}
	older := sent >= 0 && sent <= from
	if older {
		s.Held, s.Crowd = max(1, s.Held-1), min(s.Crowd+1, mostCrowd)
		if (from - sent).Seconds() < s.Mean*(0.02+0.2/float64(s.Places)) {
			s.Least, s.Crowd = 0, mostCrowd
		}
	}
	switch {
	case t < from+time.Duration(1e9*g.way()):
		return
	case s.Left < 0 && t < s.PausedUntil:
		s.Left = max(0, s.Held-float32(max(1, inFlight)))
	case s.Left < 0 || !older:
		return
	}
	held := s.Held - s.Left
	if s.Crowd < mostCrowd {
		held = s.Held - s.Left*float32(s.Crowd)/float32(s.Crowd+1)
	}
	places := max(held, s.Least)
	switch {
	case s.Surprise:
		places = max(held, (held+s.Least)/2)
	case s.Least > 0 && s.Crowd == mostCrowd && s.Bound < probeMany:
		places = max(places, s.Places) // a probe
	}
	if places < nearestBelow {
		places += 0.5
	}
	s.Places = max(float32(g.cfg.Min), min(float32(math.Floor(float64(places))), float32(s.Bound-1)))
	if t < s.PausedUntil {
		s.Limit = min(float64(s.Places), g.ceiling())
	}
}

// mostCrowd is how many refused calls say that others took all places that were given back.
const mostCrowd = 100

// costlyStill is the share of what calls take above which a pause still costs much where one did before.
const costlyStill = 0.5

// nearestBelow is below how many places the nearest whole number is taken, and not the next lower one: one too few is much of them.
const nearestBelow = 24

// probeMany is from how many calls in flight on a probe that was refused tells no more places than were counted: one too many costs a pause each time that as
// many start, and one too few a share of them.
const probeMany = 32

// surprise is the share of the calls that should pass between two refusals below which one says that there are fewer places than was thought.
const surprise = 0.1

// countedFrom is from how many calls in flight on in slow start those that the upstream holds are counted and nothing else: of fewer, one that ended
// meanwhile is much.
const countedFrom = 12

// usualSigmas is by how many standard deviations a limit mostly stays below the mean.
const usualSigmas = 4

// sigmasLess is how much less than the root of 2 ln k the quantile of a normal distribution is.
const sigmasLess = 0.7

// grown returns how many must be in flight, without a refusal, for the upstream to allow more than before. Where pauses cost much, the places are
// known, and those on their way come on top of them.
func (g *Governor) grown() float64 {
	s := &g.s
	n := s.Bound
	if s.Places > 0 {
		n = max(n, float64(s.Places)+g.inTransit(float64(s.Places)), g.safe())
	}
	if g.shared() {
		return sharedGone*n + sharedGoneCalls // who comes back beside others passes what was refused all the time
	}
	if s.Lag.Hold > 0 {
		return 1.3 * n // where calls are counted for a time that differs after their ends, the boundary is not sharp
	}
	return 1.1 * n
}
