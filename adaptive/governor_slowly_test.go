package adaptive

import (
	"testing"
	"time"
)

// Slow start is faster where calls take longer than ten seconds, until something is refused.
func TestGovernorSlowStartOfLongCalls(t *testing.T) {
	grown := func(took time.Duration, refuse bool) int {
		g := New(Config{Initial: 10})
		now := time.Second
		if g.s.Mean, g.s.MeanOf = took.Seconds(), 32; refuse {
			g.s.Refused = 1
		}
		now += time.Minute
		g.Window(now, Window{Start: now - time.Second, OK: 5, Timed: 5, Latency: 5 * took, MinLatency: took, MaxInFlight: 10, InFlight: 10, Waiting: 9, Full: true})
		return g.Decision().Limit - 10
	}
	quick, long, after := grown(time.Second, false), grown(20*time.Second, false), grown(20*time.Second, true)
	if quick <= 0 || long < 12*quick/10 || after > quick {
		t.Errorf("five calls raise a limit of 10 by %d where they take a second, by %d where they take 20, and by %d after a refusal", quick, long, after)
	}
}
