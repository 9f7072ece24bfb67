package adaptive

import (
	"math"
	"time"
)

// The limit on calls in flight: how far a refusal lowers it, how it is raised again, and beyond.

// capRefused lowers the limit after a refusal that was taken for one by a limit on calls in flight.
func (g *Governor) capRefused(t time.Duration, n float64) {
	s := &g.s
	if s.Stated > 0 && n*100 < float64(s.Stated)*doubtBelow {
		s.Doubted = true
	}
	g.cut(t, n, CauseThrottled, g.cfg.Backoff)
}

// leastCut is how many calls a share of those in flight is at least that is given up beside the one that was refused. Of few it is less, but as whole calls are in force
// it would be one, which is much of them; and beside others that have more, whoever has few must not make as much room as they. Not where more than the weakest sign speaks for a quota:
// that refuses as soon again.
const leastCut, leastCutDoubt = 0.8, 0.75

// makesRoom is of how many refusals at a known boundary one makes room for others.
const makesRoom = 4

// cut lowers the limit after a refusal of a call that saw n in flight, and opens an episode.
func (g *Governor) cut(t time.Duration, n float64, cause Cause, factor float64) {
	s := &g.s
	base := min(s.Limit, n)
	limit := base * factor
	if cause == CauseThrottled {
		base = min(s.Limit, n-1)
		limit = base * factor
		switch {
		case g.shared():
			base = min(s.Limit, n)
			limit = base * min(factor, sharedCut)
			s.Sharp = 0
		case s.Open: // the same trouble: follow it down
			limit = base
		case s.LastBound > 0 && math.Abs(n-s.LastBound) <= boundSlack(s.LastBound):
			s.Sharp = min(s.Sharp+1, 8)
		default:
			s.Sharp = 0
		}
		switch {
		case (n-1)*(1-factor) < leastCut && s.Against < leastCutDoubt:
			limit = min(s.Limit, n-1)
		case s.Sharp >= 4 && !s.Open:
			// The boundary is known. Room is made for others now and then only.
			limit = base * (1 + factor) / 2
			if s.Yield = (s.Yield + 1) % makesRoom; s.Yield != 0 {
				limit = base
			}
		}
	}
	if cause == CauseThrottled {
		limit = max(limit, min(base, g.sound()))
	}
	limit = max(float64(g.cfg.Min), limit)
	met := false // with all places taken that are known
	if limit < s.Limit {
		switch {
		case cause != CauseThrottled:
		case g.counts(t, n):
			met = s.Places > 0 && n > float64(s.Places) && !g.sooner(n, g.accepted()-s.RefusedCount)
			limit = g.settle(min(n, s.Limit+1), g.accepted()-s.RefusedCount)
		default:
			s.Places = 0
		}
		if !s.Open {
			if cause == CauseOverloaded {
				n = max(n, s.Bound) // it says nothing of where the limit is
				if s.Bound == 0 {
					n = max(n, min(s.Limit, s.Proven)) // which is not below what goes well
				}
				if s.Bound == 0 && s.Pace[paceRequests].Rate > 0 {
					n = s.Limit // nor, where a pace holds back, does how many are in flight
				}
			}
			s.Bound, s.Late = n, false
			if cause == CauseThrottled || s.LastBound == 0 {
				s.LastBound = n // what only took too long, or found no capacity, says nothing of where a limit refuses
			}
			s.FlowBefore = float32(s.Flow)
			s.Memory = float32(s.Limit)
		}
		s.Limit, s.Cause = limit, cause
	}
	g.disturbed(t)
	s.Episode++
	s.Open, s.Recovering = true, true
	s.SlowStart, s.Threshold = false, 0
	if cause == CauseThrottled && s.Credit > startCredit/2 && !met && (s.Pauses == 0 || s.LastPause.Seconds() <= s.Mean) {
		// The first refusals say little: a quota may allow no more at once. Whether it is refused at the same number again is soon
		// seen, and costs no more than a round trip.
		s.SlowStart = true
		s.startDoubling(t)
	}
	s.CutAt, s.Old = t, int32(max(0, s.InFlight))
	s.Good, s.Used, s.Wins, s.Calm = 0, false, 0, 0
	s.Flight, s.Top = s.Limit, 0
	s.ValidAt = t
	s.AskAgain = 0
}

// grow raises the limit for n fresh calls of w that ended well, if it was used.
func (g *Governor) grow(w *Window, n int) {
	s := &g.s
	top := float64(max(w.MaxInFlight, w.InFlight))
	s.Flight = max(s.Flight, min(top, s.Limit))
	if s.Old == 0 || s.Pace[paceRequests].Rate > 0 {
		s.Top = max(s.Top, min(float64(w.MaxInFlight), s.Limit))
	}
	if g.hangs(w) {
		return
	}
	if s.Limit > 2*float64(s.Knee) {
		s.Knee = 0
	}
	most := min(g.ceiling(), max(float64(g.cfg.Initial), max(flightFactor, g.slowGain())*s.Flight))

	// Of those that a call saw in flight some may have been refused, which the upstream did not count.
	calm := s.Refused == 0 || (s.At-s.RefusedLast).Seconds() > s.Mean
	if !s.SlowStart && !s.Late && s.Bound > 0 && calm && (s.Places == 0 || s.Old == 0 && s.Limit >= g.grown()) && float64(w.MaxInFlight) >= g.grown() {
		s.SlowStart, s.Threshold, s.Bound, s.Places, s.Open, s.Sharp = true, 0, 0, 0, false, 0
		s.Pauses = min(s.Pauses, 1)
		s.startDoubling(g.s.At)
	}
	if s.Saturated || g.beginsLate() || s.At < s.StayUntil && !s.SlowStart {
		s.Wins = 0
		return
	}
	if s.SlowStart {
		cause := CauseSlowStart
		if s.Threshold > 0 {
			cause = CauseRecovery
			most = min(most, float64(s.Threshold))
		}
		if s.Threshold == 0 && w.MaxInFlight > 0 && s.clear() {
			// Twice what is known to go well; where that is known late, more.
			most = min(most, (2+min(1, s.Mean))*float64(w.MaxInFlight)+2)
		}
		if w.Full || w.Waiting > 0 && 2*top >= s.Limit {
			excess := g.excess(w)
			g.raise(min(most, max(s.Limit+g.gain(excess)*float64(n), float64(g.cfg.Initial))), cause)
			if w.Begun == 0 && (g.doubled(n) || g.congested(w, excess)) {
				return
			}
		} else {
			s.startDoubling(s.At)
		}
		if s.Threshold > 0 && s.Limit >= min(float64(s.Threshold), g.ceiling()) {
			s.SlowStart, s.Threshold = false, 0
		}
		return
	}
	s.Good += float64(n)
	s.Used = s.Used || w.Full
	epoch := max(1, s.Limit)
	if held := g.lagBack(); s.Bound > 0 && (held || g.shared()) {
		switch {
		case !w.Full && w.Waiting == 0:
		case held:
			g.lagGrow(n, most)
		default:
			g.share(n, most)
		}
		if s.Good >= epoch {
			s.Open, s.Good = false, 0
		}
		return
	}
	if s.Good < epoch {
		return
	}
	s.Open = false
	if s.Used {
		step, cause := 0.0, CauseProbe
		margin := boundSlack(s.Bound)
		if s.Pauses > 0 {
			margin = max(1, 0.03*s.Bound)
		}
		if safe := g.safe(); safe > 0 {
			margin = s.Bound - safe
		}
		switch gap, room := s.Bound-margin-s.Limit, g.untried(); {
		case g.fewerGet():
			s.Wins = 0
		case (g.cfg.Objective != Throughput || s.Counts != byLatency && !g.steep()) && g.slower(w), g.flat():
			// More would be of no use.
			s.Wins = 0
		case s.Bound == 0:
			// Nothing was refused yet.
			step = max(1, min(max(1, s.Limit/firstStep)*math.Exp2(float64(s.Wins)), s.Limit/4))
			if s.Counts == byLatency {
				step = min(step, max(1, sizeStep*s.Limit))
			}
			s.Wins = min(s.Wins+1, 10)
		case gap > 0:
			// Known to be good. What is less than the first step beyond it, of two calls and more, is no rest to be halved.
			step, cause = min(gap, max(1, gap/2)), CauseRecovery
			if s.Limit >= 2*firstStep && gap <= s.Limit/firstStep {
				step = gap
			}
			s.Wins = 0
		case room > 0:
			// As many were never refused: the pause that began the trouble left open whether they are too many.
			step = g.tryUntried(room)
			s.Wins = 0
		case !g.mayProbe() && g.moreWentWell():
			// It cannot be afforded, and would be half of the limit and more.
			if w := math.Floor(s.Limit + limitSlack); s.Good < fewTry*w*w {
				return
			}
			step = 1
		case !g.mayProbe():
			// A refusal cannot be afforded now: the limit stays.
		case s.Wins > 0 && float64(s.RefusalTime) > slowRefusal*s.Mean && s.Top < math.Floor(s.Limit+limitSlack):
			// None that saw as many as are allowed has ended yet, and a refusal may be on its way: what was tried last is not known to go well.
		default:
			// Beyond what was refused: each epoch that goes well doubles the step.
			step = max(1, min(max(1, s.Limit/firstStep)*math.Exp2(float64(s.Wins)), s.Limit/4))
			s.Wins = min(s.Wins+1, 10)
			if s.Late {
				s.ProbeAt = max(s.ProbeAt, after(s.At, s.verdict()+s.verdict()/4))
			}
		}
		if g.steep() {
			step = min(step, max(1, s.Limit/16))
		}
		g.raise(min(most, s.Limit+step), cause)
	}
	s.Good, s.Used = min(s.Good-epoch, epoch-1), false
}

// boundSlack returns by how many calls a boundary at n in flight may be off from one refusal to the next.
func boundSlack(n float64) float64 { return max(1, 0.02*n) }

// firstStep is which part of the limit the first step beyond what was refused is; each epoch that goes well doubles it.
const firstStep = 32

// slowed lowers the limit because of how long calls take.
func (g *Governor) slowed(limit float64) {
	s := &g.s
	s.Limit, s.Cause, s.Flight = limit, CauseLatency, limit
}

// raise sets the limit if it is larger than before.
func (g *Governor) raise(limit float64, cause Cause) {
	if s := &g.s; limit > s.Limit {
		s.Limit, s.Cause = limit, cause
	}
}

// fresh returns how many of the calls of w are known to have started after the last cut, and ends the recovery
// when there is one. See AIMD.fresh.
func (g *Governor) fresh(w *Window) int {
	s := &g.s
	old := int(s.Old)
	s.Old = int32(max(0, old-w.OK))
	if !s.Recovering {
		return w.OK
	}
	n := 0
	switch {
	case w.OK == 0:
	case w.OK > old:
		n = w.OK - old
	case w.Timed > 0 && w.MinLatency >= 0 && w.Start-w.MinLatency >= s.CutAt:
		n = 1
	}
	if n > 0 {
		g.recovered()
	}
	return n
}

// recovered ends the recovery: a call that started after the cut was accepted.
func (g *Governor) recovered() {
	s := &g.s
	s.Recovering = false
	if s.Open && s.Limit < 0.65*s.Bound && (s.Streak >= outageRow || !g.shared()) {
		s.SlowStart, s.Threshold = true, float32(max(s.Limit, 0.9*s.Bound))
		if s.Places > 0 {
			s.Threshold = float32(max(s.Limit, min(float64(s.Threshold), g.safe())))
		}
		if s.DarkOverload && s.Streak >= outageRow {
			s.Limit = max(s.Limit, min(outageReturn*float64(s.Threshold), g.ceiling()))
		}
		s.Open = false
		s.startDoubling(s.At)
	}
}
