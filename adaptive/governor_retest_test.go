package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorRetest plays the first minute of calls of 40 s with three who ask, one at a time, as soon as the law lets them: at a limit of two in
// flight, and at a quota of one call each three seconds.
func TestGovernorRetest(t *testing.T) {
	for _, test := range []struct {
		name   string
		accept func(now, last time.Duration, n int) bool
		pace   bool
	}{
		{"two in flight", func(_, _ time.Duration, n int) bool { return n <= 2 }, false},
		{"one in 3 s", func(now, last time.Duration, _ int) bool { return last == 0 || now-last >= 3*time.Second }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := New(Config{})
			var next, last time.Duration
			inFlight, refusals := 0, 0
			for now := time.Millisecond; now < 35*time.Second; now += 10 * time.Millisecond {
				d := g.Decision()
				if now < d.NotBefore || now < next || inFlight >= d.Limit {
					continue
				}
				if d.Pace > 0 {
					next = now + time.Duration(1e9/d.Pace)
				}
				n := inFlight + 1
				if test.accept(now, last, n) {
					inFlight, last = n, now
					continue
				}
				refusals++
				g.Window(now+time.Millisecond, Window{Start: now, InFlight: n})
				g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: n, Episode: d.Episode}, refused(feedback.ScopeUnknown))
			}
			d := g.Decision()
			if paced := d.Binding == feedback.ScopeRequests; paced != test.pace {
				t.Errorf("%+v after %d refusals, want a pace %v", d, refusals, test.pace)
			}
			if test.pace && !(d.Pace > 0.2 && d.Pace < 0.4) {
				t.Errorf("a pace of %.3g a second, want a third", d.Pace)
			}
			if !test.pace && d.Limit > 2 {
				t.Errorf("a limit of %d, want at most 2", d.Limit)
			}
			if refusals > mostRetests+4 {
				t.Errorf("%d refusals", refusals)
			}
		})
	}
}
