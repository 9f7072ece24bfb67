package adaptive

import (
	"math"
	"time"
)

// Calls that an upstream swallowed keep their places until they time out, and where they have all places nothing tells that it answers again. So while nothing
// is answered one more is tried beside them, and then another. One of those that ends well tells that the calls before it hang: they are set aside, as the
// upstream is not at work on them.
const (
	// silentRest and silentSure say after how many mean latencies without an answer it is no chance: calls that take as long each end within one of them, and none of
	// n calls that end at random does so in silentSure/n with a probability of exp(-silentSure).
	silentRest, silentSure = 2, 12
	// silentGrows is after how many times its age a silence is tried again.
	silentGrows = 1.5
	// mostTries bounds how often, so that the time until the next one is a number; one more says that none is tried in this silence.
	mostTries = 32
	// stillMost is how many times as many as by Little's law may be in flight: where there are more they take long, whatever is answered.
	stillMost = 2
)

// silentSince returns since when nothing is answered although something may have started.
func (s *GovernorState) silentSince() time.Duration {
	return max(s.PassedAt, s.RefusedLast, s.HoldUntil, s.PausedUntil)
}

// silent returns for how many seconds as many calls as the limit allows must have been unanswered for it to be no chance. Some of them may be refused.
func (s *GovernorState) silent() float64 {
	return max(silentRest, silentSure/max(1, math.Floor(s.Limit+limitSlack))) * max(s.Mean, float64(s.RefusalTime))
}

// silentUntil returns when one more is to be tried beside calls that have all places; 0: not known.
func (g *Governor) silentUntil() time.Duration {
	s := &g.s
	if s.MeanOf < hangCalls || s.Mean <= 0 || s.Tries >= mostTries {
		return 0
	}
	return max(1, s.silentFor(s.Tries)) // what was saved may be of before the clock began
}

// silentFor returns when one more is tried after so many tries.
func (s *GovernorState) silentFor(tries uint8) time.Duration {
	wait := s.silent()
	if tries > 0 {
		wait *= math.Pow(silentGrows, float64(tries))
	}
	return after(s.silentSince(), time.Duration(1e9*min(3600, wait)))
}

// silence allows one more call beside those in flight at the end of w, at t, if nothing was answered for so long. It reports whether w was asked for to learn of that, and says
// nothing else.
func (g *Governor) silence(t time.Duration, w *Window) bool {
	s := &g.s
	if until := g.silentUntil(); until == 0 || t < until || g.until() != 0 {
		return false
	}
	for s.Tries < mostTries && g.silentUntil() <= t { // of those that were due meanwhile, as nothing could start, one is enough
		s.Tries++
	}
	n, limit := s.beside(w.InFlight), int(s.Limit+limitSlack)
	if w.Waiting == 0 || n < limit {
		return false
	}
	if n > limit || w.InFlight > 2*s.InFlight { // the limit was lowered, or most of them began since the last answer
		s.InFlight = w.InFlight
		return !s.Recovering
	}
	s.Hung = min(s.Hung, math.MaxUint16-1) + 1
	return true
}

// answered notes what an answer at t to a call that started then, and the last of ended ones, says of those that began before it, with n in flight.
func (g *Governor) answered(t, start time.Duration, n, ended int) {
	s := &g.s
	switch {
	case s.triedBeside(start):
		g.setAside(t, max(0, n-1)) // the call that was answered may be among them
	case s.trying():
		s.takeBack(int(s.Hung)) // they take long
	case s.Hung > 0 && start < s.HoleAt:
		s.takeBack(ended)
	}
	s.Tries = 0
	if float64(s.beside(n)) > stillMost*s.Flow*s.Mean+1 {
		s.Tries = mostTries + 1
	}
}

// trying reports whether more may be in flight than the limit says because nothing is answered.
func (s *GovernorState) trying() bool { return s.Tries > 0 && s.Tries <= mostTries }

// triedBeside reports whether a call that started at sent was tried beside those that had all places.
func (s *GovernorState) triedBeside(sent time.Duration) bool {
	return s.trying() && s.Hung > 0 && sent >= s.silentFor(0)
}

// setAside sets n calls in flight aside: as many more may be. The limit comes back as after an outage.
func (g *Governor) setAside(t time.Duration, n int) {
	s := &g.s
	s.Hung, s.HoleAt = uint16(min(n, math.MaxUint16)), t
	was := min(s.Limit, g.ceiling())
	g.disturbed(t)
	s.Episode++
	s.Old = int32(n)
	s.Recovering, s.Open = false, false
	s.SlowStart, s.Threshold = true, float32(was)
	s.Limit = min(g.ceiling(), max(float64(g.cfg.Min), math.Ceil(outageReturn*was)))
	s.Cause, s.Flight = CauseRecovery, s.Limit
	s.Good, s.Used, s.Wins = 0, false, 0
	s.startDoubling(t)
}

// asideEnded notes that c ended, refused or not well, while some are aside, and reports whether it was one of those that hang.
func (g *Governor) asideEnded(c *Call, refused bool) bool {
	s := &g.s
	switch {
	case s.trying() && refused: // that is an answer, but none that ends a silence: where calls are long, others that are tried would be refused, too
		s.takeBack(int(s.Hung))
	case s.trying():
		s.takeBack(1)
	case c.SentAt < s.HoleAt:
		s.takeBack(1)
		return true
	}
	return false
}

// takeBack takes n calls back that were set aside.
func (s *GovernorState) takeBack(n int) { s.Hung = uint16(max(0, int(s.Hung)-n)) }

// beside returns how many of n calls in flight are not set aside.
func (s *GovernorState) beside(n int) int { return max(0, n-int(s.Hung)) }
