package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorAgreeingRates keeps a quota of 20 calls a second, of which 6 are saved up, that says to wait for a second at each refusal, in use for two minutes by calls
// of 2 ms. In a pause it saves up 6 and no more, so what passed between two refusals says little by itself. That it is the same time and again does.
func TestGovernorAgreeingRates(t *testing.T) {
	const rate, burst, length = 20.0, 6.0, 2 * time.Minute
	g := New(Config{})
	saved, ok, refusals := burst, 0, 0
	window, next, paused := time.Duration(0), time.Duration(0), time.Duration(0)
	var last int // refusals of the second minute
	for now := time.Millisecond; now < length; now += time.Millisecond {
		saved = min(burst, saved+rate/1000)
		d := g.Decision()
		if now < paused || now < next || now < d.NotBefore {
			continue
		}
		if d.Pace > 0 {
			next = now + time.Duration(1e9/d.Pace)
		}
		if saved < 1 {
			refusals++
			if now > length/2 {
				last++
			}
			g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 1, Episode: d.Episode}, Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second})
			paused, window = now+time.Second, now
			continue
		}
		saved--
		ok++
		g.Window(now, Window{Start: window, OK: 1, Timed: 1, Latency: 2 * time.Millisecond, MinLatency: 2 * time.Millisecond, MaxInFlight: 1, Waiting: 10})
		window = now
	}
	could := rate * length.Seconds()
	t.Logf("%d of %.0f, %d refused, %d in the second minute; %.2f a second are known", ok, could, refusals, last, g.s.Pace[paceRequests].Known)
	if float64(ok) < 0.9*could || refusals > 14 || last > 3 {
		t.Errorf("%d of %.0f, %d refused, %d in the second minute: want 90 %%, at most 14 and 3", ok, could, refusals, last)
	}
	if known := g.s.Pace[paceRequests].Known; known < 0.97*rate || known > 1.03*rate {
		t.Errorf("%.2f calls a second are known, want %.0f", known, rate)
	}
}
