package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// What a timeout saw is no number that a limit refuses: the next refusal is compared with the one before it.
func TestGovernorTimeoutIsNoBoundary(t *testing.T) {
	g := New(Config{})
	s := g.State()
	s.At, s.Limit, s.SlowStart, s.Bound, s.LastBound, s.Mean, s.MeanOf, s.Done, s.Refused = time.Minute, 147, false, 148, 148, 1, 32, 1000, 1
	g.Restore(time.Minute, s)
	g.Ended(time.Minute, Call{SentAt: 40 * time.Second, Episode: s.Episode, InFlight: 41}, Outcome{Class: feedback.Timeout})
	if got := g.State(); got.LastBound != 148 || got.Bound != 41 {
		t.Errorf("after a timeout of a call that saw 41 in flight %g counts as refused, and %g as trouble; want 148 and 41", got.LastBound, got.Bound)
	}
}

// What is refused while places are counted is what the next refusal is compared with, also where the trouble began with more in flight.
func TestGovernorCountedBoundary(t *testing.T) {
	g := New(Config{})
	s := g.State()
	s.At, s.Limit, s.Places, s.SlowStart, s.Bound, s.LastBound, s.Mean, s.MeanOf, s.Way, s.Open, s.Done, s.Refused = time.Minute, 345, 345, false, 360, 360, 1, 32, 0.01, true, 10_000, 1
	s.LastPause, s.PausedUntil, s.Pauses, s.InFlight = 2*time.Second, 50*time.Second, 1, 185
	g.Restore(time.Minute, s)
	g.Ended(time.Minute, Call{SentAt: time.Minute - 10*time.Millisecond, Episode: s.Episode, InFlight: 183}, Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 2 * time.Second})
	if got := g.State(); got.Bound != 183 || got.LastBound != 183 {
		t.Errorf("after a refusal of a call that saw 183 in flight B is %g, B' %g, want 183", got.Bound, got.LastBound)
	}
}
