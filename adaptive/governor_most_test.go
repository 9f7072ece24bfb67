package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Where next to nothing ends any more with many in flight, and fewer did much, the limit goes back to those.
func TestGovernorGoesBackToWhatDidMost(t *testing.T) {
	for _, c := range []struct {
		name string
		each time.Duration // after which one ends with 30 in flight
		back bool
	}{
		{"hardly any ends", 3 * time.Second, true},
		{"half as many end", 200 * time.Millisecond, false},
	} {
		g := New(Config{})
		now := time.Duration(0)
		g.s.Limit, g.s.SlowStart, g.s.Mean, g.s.MeanOf = 10, false, 1, 32
		ends := func(n, level int, every time.Duration) {
			for range n {
				now += every
				g.Window(now, Window{Start: now - every, OK: 1, InFlight: level, MaxInFlight: level, Full: true})
			}
		}
		ends(60, 10, 100*time.Millisecond)
		g.s.Limit = 30
		ends(int(6*time.Second/c.each), 30, c.each)
		if back := g.s.Limit <= 10; back != c.back {
			t.Errorf("%s: limit %.0f, want at most 10: %v", c.name, g.s.Limit, c.back)
		}
	}
}

// A call that began before the limit was lowered because calls take longer, and times out, does not bring back what it saw.
func TestGovernorTimeoutOfBeforeBoundsNothing(t *testing.T) {
	g := New(Config{})
	g.s.Limit, g.s.SlowStart = 20, false
	g.Ended(time.Minute, Call{SentAt: 0, InFlight: 120, Episode: g.s.Episode}, Outcome{Class: feedback.Timeout})
	if g.s.Bound > 20 {
		t.Errorf("bound %.0f, want at most 20", g.s.Bound)
	}
}
