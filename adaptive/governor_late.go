package adaptive

import (
	"math"
	"time"
)

// Timeouts are known late, and say little alone: many of them in a row are an outage, or too many in flight.

const (
	// timeoutShare is the share of calls that may time out before the upstream counts as overloaded.
	timeoutShare = 0.02
	// staleTimeout is what a timeout of an older call counts.
	staleTimeout = 0.25
	// hole is after how many mean latencies without a call that ended well it counts as an outage.
	hole = 4
	// maxDebt bounds what timeouts count together, and maxVerdict how long one is waited for.
	maxDebt    = 6.0
	maxVerdict = time.Minute
)

// stalled reports whether no call has ended well for so long that it counts as an outage.
func (g *Governor) stalled(t time.Duration) bool {
	return (t - g.s.PassedAt).Seconds() > hole*g.s.Mean
}

// late answers a fresh timeout of a call that saw n in flight. One says little. When they come again, too many are in flight, and
// those that time out make others do so. It is known late: until it could be, no more are tried.
func (g *Governor) late(t time.Duration, n float64, c *Call) {
	s := &g.s
	if c.SentAt >= 0 && t > c.SentAt {
		s.Verdict = float32(min(t-c.SentAt, maxVerdict).Seconds())
	}
	spared := s.spared()
	before := max(0, float64(s.TimeoutDebt)-spared)
	if g.meansNothing(t) {
		return
	}
	debt := float64(s.TimeoutDebt) - spared
	if !s.Open {
		s.LateDebt = float32(before)
	}
	factor := max(g.cfg.Backoff, timeoutBackoff)
	if debt > 1 {
		factor = max(0.5, math.Pow(factor, debt))
	}
	if spared > 0 {
		n = max(n, g.now()) // it is told by many of them
	}
	if g.stalled(t) {
		// While nothing passes all of them time out, whatever they saw, and those that began before the others saw the fewest. More in flight than ever went
		// well may be what makes them hang, and no outage.
		n = max(n, min(s.Limit, g.now(), max(s.Top, s.Proven)))
	}
	n = min(n, s.Limit) // of what it saw beyond, the limit was taken back since
	g.cut(t, n, CauseTimeout, factor)
	s.Late = s.Late || s.LateDebt > 1 || spared > 0
	g.crowded(t, c)
}

// crowded notes when calls time out by the row while others pass all the time: that is no outage, there are too many.
func (g *Governor) crowded(t time.Duration, c *Call) {
	s := &g.s
	debt := max(0, float64(s.TimeoutDebt)-s.spared())
	s.Late = s.Late || debt >= 2 && c.SentAt >= s.HoleAt && t-s.PassedAt < s.verdict()/4
	if s.Late {
		s.ProbeAt = max(s.ProbeAt, after(t, time.Duration(4*(1+debt)*float64(s.verdict()))))
	}
}

// verdict returns how long the last timeout took to tell.
func (s *GovernorState) verdict() time.Duration { return time.Duration(1e9 * float64(s.Verdict)) }
