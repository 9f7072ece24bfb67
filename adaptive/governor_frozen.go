package adaptive

import "time"

// Where a process is stopped, or its machine is paused, the clock jumps, and the calls in flight end after that. What they took is how long nothing ran, and says nothing of
// the upstream; nor does that time say how many calls pass in it, or that what is known is not in use.

// frozenLeast and frozenMeans are for how long nothing must have been answered, and for how many mean latencies, for that time to be none in which anything ran.
const (
	frozenLeast = 2 * time.Minute
	frozenMeans = 8
)

// thawed notes at t, when n calls have ended well that took a time together, the answer to one begins or one is refused, whether nothing ran before, and reports it. Where no quick call was
// answered since it was so last, calls take long.
func (g *Governor) thawed(t, took time.Duration, n int) bool {
	s := &g.s
	gap := g.stoodStill(t, took, n)
	if gap == 0 {
		return false
	}
	g.unused(t, gap)
	s.FlowAt = min(t, after(s.FlowAt, gap))
	s.Frozen, s.HoleAt, s.PassedAt, s.HangLevel = true, t, t, 0
	g.disturbed(t)
	return true
}

// stoodStill returns for how long nothing ran before t, where n calls that took a time together were in flight meanwhile; 0 where it did.
func (g *Governor) stoodStill(t, took time.Duration, n int) time.Duration {
	s := &g.s
	mean := time.Duration(1e9 * min(s.Mean, 3600))
	gap := t - s.PassedAt
	if s.MeanOf < hangCalls || gap <= max(frozenLeast, frozenMeans*mean) || took-time.Duration(n)*mean < gap/2 || s.Frozen && s.PassedAt-s.HoleAt <= frozenMeans*mean {
		return 0
	}
	return gap
}

// unused has a time before t be none in which the limit and the paces were not in use.
func (g *Governor) unused(t, gap time.Duration) {
	s := &g.s
	for _, at := range [...]*time.Duration{&s.ValidAt, &s.Pace[paceRequests].UsedAt, &s.Pace[paceTokens].UsedAt} {
		*at = min(t, after(*at, gap))
	}
}

// frozen reports whether what has taken so long up to t began before all stood still.
func (s *GovernorState) frozen(t, took time.Duration) bool { return s.Frozen && t-took < s.HoleAt }
