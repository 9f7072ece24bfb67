package adaptive

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorFullBesideDelay keeps a limit of nine calls in flight, of 90 to 110 ms, that says to wait for a second at each refusal, always in use for two minutes. The
// delay could be how long a bucket takes to have room for one. But no call that saw nine was refused, and the first that saw ten was: no pace is tried.
func TestGovernorFullBesideDelay(t *testing.T) {
	const most, callers, length = 9, 40, 2 * time.Minute
	g, random := New(Config{}), rand.New(rand.NewPCG(1, 0))
	var accepted ends
	ok, refusals, window, next, paused := 0, 0, time.Duration(0), time.Duration(0), time.Duration(0)
	seen := 0
	for now := time.Millisecond; now < length; now += time.Millisecond {
		for len(accepted) > 0 && accepted[0] <= now {
			n, took := len(accepted), 100*time.Millisecond
			heap.Pop(&accepted)
			ok++
			g.Window(now, Window{
				Start: window, OK: 1, Timed: 1, Latency: took, MinLatency: took,
				MaxInFlight: seen, Full: n >= g.Decision().Limit, InFlight: n - 1, Waiting: callers - n,
			})
			window, seen = now, 0
		}
		d := g.Decision()
		for n := len(accepted) + 1; now >= paused && now >= next && n <= min(d.Limit, callers); n = len(accepted) + 1 {
			if d.Pace > 0 {
				next = now + time.Duration(1e9/d.Pace)
			}
			if n > most {
				refusals++
				g.Window(now, Window{Start: window, InFlight: n, MaxInFlight: seen, Waiting: callers - n})
				d = g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: n, Episode: d.Episode}, Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second})
				window, paused = now, now+time.Second
				break
			}
			seen = max(seen, n)
			heap.Push(&accepted, now+90*time.Millisecond+time.Duration(random.Float64()*20e6))
		}
		if p := g.s.Pace[paceRequests]; p.Rate > 0 {
			t.Fatalf("at %v a pace of %.1f a second is tried, after %d refusals", now, p.Rate, refusals)
		}
	}
	could := most * length.Seconds() / 0.1
	t.Logf("%d of %.0f, %d refused", ok, could, refusals)
	if float64(ok) < 0.95*could || refusals < 2 {
		t.Errorf("%d of %.0f, %d refused: want 95 %%, and some probes", ok, could, refusals)
	}
}
