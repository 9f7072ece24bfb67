package adaptive

import "time"

// After an upstream lacked capacity (503, 529) for a while, what is in flight says little: the calls that were accepted before are the longest,
// they may be more than the limit that is left, and their ends come late. So one call is tried beside them, and what begins counts as what
// ends does, until the limit is back where it was.
const (
	// shortCall is the mean latency, in s, from which ends are waited for too long.
	shortCall = 1
)

// returns reports whether the limit is on its way back after an upstream lacked capacity.
func (s *GovernorState) returns() bool {
	return s.DarkOverload && !s.Limiting && s.Mean > shortCall && (s.Recovering || s.SlowStart && s.Threshold > 0)
}

// tryBeside lets one call start beside those in flight, when they are more than a limit that was lowered for a lack of capacity, and nothing was
// refused for a while. From then on one starts for each that ends.
func (g *Governor) tryBeside(t time.Duration) {
	s := &g.s
	if !s.Recovering || !s.returns() || float64(s.beside(s.InFlight)) <= s.Limit || t < s.HoldUntil || (t-s.CutAt).Seconds() < min(beginWait*s.Mean, 10) {
		return
	}
	g.raise(min(float64(s.beside(s.InFlight))+1, max(s.Limit, s.Bound), g.ceiling()), CauseRecovery)
}
