package adaptive

import (
	"testing"
	"time"
)

// Where a refusal takes as long as a call, an epoch of calls that ended well says nothing of the last probe until one of those that saw as many has ended.
func TestGovernorWaitsForItsProbe(t *testing.T) {
	for _, test := range []struct {
		refusal float32 // s that a refusal takes
		seen    int     // the most in flight that calls of the epoch saw
		limit   int
	}{{0.1, 5, 6}, {0.1, 6, 7}, {0.01, 5, 7}} {
		g := New(Config{})
		s := &g.s
		s.Limit, s.Bound, s.LastBound, s.SlowStart, s.Credit = 6, 6, 6, false, 3
		s.Mean, s.MeanOf, s.RefusalTime, s.Refused, s.Wins, s.Top, s.Flight = 0.1, 32, test.refusal, 1, 1, 5, 6
		g.Window(time.Minute, Window{
			Start: time.Minute, OK: 6, Timed: 6, Latency: 600 * time.Millisecond, MinLatency: 100 * time.Millisecond,
			MaxInFlight: test.seen, InFlight: 6, Full: true, Waiting: 9,
		})
		if got := g.Decision().Limit; got != test.limit {
			t.Errorf("refusals of %v s, six calls of 0.1 s that saw %d in flight: a limit of %d, want %d", test.refusal, test.seen, got, test.limit)
		}
	}
}
