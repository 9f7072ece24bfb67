package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorSameLongDelay: after many accepted calls a refusal next to a long delay is by a quota if as many in flight were accepted. With all that are proven in
// flight, and the same delay as before, it may be by a limit that others fill, too.
func TestGovernorSameLongDelay(t *testing.T) {
	for _, test := range []struct {
		name     string
		inFlight int
		delay    time.Duration // of the refusal before
		refused  int64         // before
		quota    bool
	}{
		{"the same delay, all in flight", 40, 10 * time.Second, 3, false},
		{"the same delay, far fewer in flight", 30, 10 * time.Second, 3, true},
		{"another delay, all in flight", 40, 20 * time.Second, 3, true},
		{"the first delay, all in flight", 40, 0, 3, true},
		{"the first refusal, as many as were on their way", 40, 0, 0, false},
	} {
		g := New(Config{Initial: 40})
		now := overload(g, 0, 1, 200, 0, 0)
		s := &g.s
		s.Mean, s.Proven, s.Top, s.Limit = 1, 40, 0, 40
		s.Refused, s.RefusedCount = test.refused, 10
		if s.Done += test.refused; test.delay > 0 {
			s.Pauses, s.LastPause, s.PausedUntil = 2, test.delay, now-time.Second
		}
		s.InFlight = test.inFlight
		g.Ended(now, Call{SentAt: now - 20*time.Millisecond, Episode: s.Episode, InFlight: test.inFlight},
			Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 10 * time.Second})
		if got := s.Pace[paceRequests].Rate > 0; got != test.quota {
			t.Errorf("%s: taken for a quota is %v, want %v", test.name, got, test.quota)
		}
	}
}
