package adaptive

import (
	"math"
	"time"
)

// Beyond a steep knee next to nothing ends: a block of calls that would tell lasts for minutes, calls that hang say nothing until they time out, and those that callers
// give up say nothing at all. That nothing ends is seen at once, though, where it is known what fewer in flight did in that time.
const (
	// mostCalls is how many calls must end for a level to be the one that did most, within mostRest mean latencies at least.
	mostCalls, mostRest = 12, 1.5
	// mostLess is the share of what fewer did, below which more are too many, mostBeyond how many times as many they must be at least, and mostSure the logarithm of how
	// much likelier the calls that ended must be so than at one rate for both.
	mostLess, mostBeyond, mostSure = 0.25, 1.2, 5
)

// MostState is what the level did that did most, and what is done now.
type MostState struct {
	From  time.Duration // since when calls are counted
	Calls float32       // that ended well since
	Seen  float32       // what they saw in flight, sum
	Level float32       // what those saw on average that did most; 0: not known
	Rate  float32       // how many of them ended a second
}

// count begins to count calls at t.
func (m *MostState) count(t time.Duration) { m.From, m.Calls, m.Seen = t, 0, 0 }

// sound moves what is remembered into range.
func (m *MostState) sound() {
	for _, f := range [...]*float32{&m.Calls, &m.Seen, &m.Level, &m.Rate} {
		*f = float32(between(float64(*f), 0, unbounded))
	}
	if m.Level < 1 {
		m.Level, m.Rate = 0, 0
	}
}

// most counts the calls of w, which ends at t, and goes back to the level that did most where hardly any end any more, or forgets it where that is so at that level, too. Nothing is counted where a pace or a row of refusals says
// how many end, nor where calls differ by their class or their tokens, so that their number says little, of before neither.
func (g *Governor) most(t time.Duration, w *Window) {
	s := &g.s
	m := &s.Most
	rest := time.Duration(mostRest * 1e9 * min(s.Mean, 3600)) // until those have ended that began otherwise
	if g.cfg.Objective != Throughput || s.Mean == 0 || s.Pace[paceRequests].Rate > 0 || s.Streak > 0 || s.Counts != byCalls || s.Size.Mixed || s.Size.told() {
		if s.Streak == 0 {
			m.Level, m.Rate = 0, 0
		}
		m.count(max(after(t, rest), s.CalmAt))
		s.MostFull = false
		return
	}
	if m.From < s.CalmAt {
		m.count(s.CalmAt)
	}
	if full := s.Busy && float64(w.InFlight) >= hangShare*math.Floor(s.Limit); full != s.MostFull {
		if s.MostFull = full; full {
			m.count(max(m.From, after(t, rest)))
		} else {
			m.count(max(t, s.CalmAt))
		}
	}
	if t <= m.From {
		return
	}
	beyond := mostBeyond * float64(m.Level)
	if m.Level > 0 && s.Limit <= beyond && float64(w.InFlight) > beyond {
		m.count(t) // those that are too many end before it tells what fewer do
		return
	}
	m.Calls += float32(w.OK)
	m.Seen += float32(w.OK * w.MaxInFlight)
	dt, n := (t - m.From).Seconds(), float64(m.Calls)
	if s.MostFull && t-m.From >= rest && m.fewer(n, dt) {
		if s.Limit <= beyond {
			m.Level, m.Rate = 0, 0 // as few end with as many in flight as did most: it does so no more, as calls take longer now
			m.count(t)
			return
		}
		s.HangAt = m.From
		g.hung(max(math.Floor(float64(m.Level)), float64(g.cfg.Min)))
		s.Drain = 0 // what ends slowly may have become slow by itself: that says nothing of how steep it is
		m.count(s.CalmAt)
		return
	}
	if n < mostCalls || t-m.From < rest {
		return
	}
	rate, level := float32(n/dt), float32(float64(m.Seen)/n)
	switch {
	case rate > m.Rate:
		m.Rate, m.Level = rate, max(1, level)
	case math.Abs(float64(level-m.Level)) <= 0.1*float64(m.Level):
		m.Rate += (rate - m.Rate) / 2
	}
	m.count(t)
}

// fewer reports whether n calls in dt seconds are fewer than the level that did most does, for sure: by the likelihood ratio of two rates to one, with calls that end at random.
func (m *MostState) fewer(n, dt float64) bool {
	rate := float64(m.Rate)
	if m.Level == 0 || n >= mostLess*rate*dt {
		return false
	}
	sure := mostCalls*math.Log(rate) - (mostCalls+n)*math.Log((mostCalls+n)/(mostCalls/rate+dt))
	if n > 0 {
		sure += n * math.Log(n/dt)
	}
	return sure > mostSure
}
