package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Where it is known that some refusals mean nothing, one that names a delay means nothing either, at a pace that was measured as fine.
func TestGovernorNoiseWithADelay(t *testing.T) {
	for _, test := range []struct {
		name   string
		chance float32
		rate   float64
		delay  time.Duration
		want   bool
	}{
		{"known", 6, 10, time.Second, true},
		{"not known", 2, 10, time.Second, false},
		{"no pace", 6, 0, time.Second, false},
		{"a delay longer than calls take", 6, 10, 5 * time.Second, false},
	} {
		g := New(Config{})
		s := &g.s
		s.Limit, s.Mean, s.Proven, s.Peak = 40, 4, 40, 40
		s.Chance = test.chance
		if p := &s.Pace[paceRequests]; test.rate > 0 {
			*p = PaceState{Rate: test.rate, Known: 1.1 * test.rate, Ceiling: unbounded, Sure: true, Measured: true, Use: 1}
		}
		if got := g.meaningless(38, 100, &Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: test.delay}); got != test.want {
			t.Errorf("%s: it means nothing: %v, want %v", test.name, got, test.want)
		}
	}
}
