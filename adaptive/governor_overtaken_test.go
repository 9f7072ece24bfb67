package adaptive

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorOvertaken lets eight calls in flight through, each of 100 to 104 ms, for two minutes. Those that start in the same millisecond arrive the last one
// first, as they may on different connections: so the one that is refused is not the one that saw most in flight. Probes cost no more than their budget all
// the same, and the limit stays where it is good.
func TestGovernorOvertaken(t *testing.T) {
	const most, callers, took, length = 8, 40, 102 * time.Millisecond, 2 * time.Minute
	g, random := New(Config{}), rand.New(rand.NewPCG(1, 0))
	var accepted ends
	var started []Call // in this millisecond
	ok, refusals, window, next := 0, 0, time.Duration(0), time.Duration(0)
	for now := time.Millisecond; now < length; now += time.Millisecond {
		for i := len(started) - 1; i >= 0; i-- { // those of the millisecond before arrive
			c := started[i]
			if len(accepted) < most {
				heap.Push(&accepted, now+took+time.Duration((random.Float64()-0.5)*4e6))
				continue
			}
			started = append(started[:i], started[i+1:]...)
			refusals++
			n := len(accepted) + i
			g.Window(now, Window{Start: window, InFlight: n + 1, Waiting: callers - n})
			g.Ended(now, c, refused(feedback.ScopeUnknown))
			window = now
		}
		started = started[:0]
		n, done := len(accepted), 0
		for len(accepted) > 0 && accepted[0] <= now {
			heap.Pop(&accepted)
			done++
		}
		if done > 0 {
			ok += done
			g.Window(now, Window{
				Start: window, OK: done, Timed: done, Latency: time.Duration(done) * took, MinLatency: took,
				MaxInFlight: n, Full: n >= g.Decision().Limit, InFlight: n - done, Waiting: callers - n,
			})
			window = now
		}
		for d := g.Decision(); now >= d.NotBefore && now >= next && len(accepted)+len(started) < min(d.Limit, callers); {
			started = append(started, Call{SentAt: now, InFlight: len(accepted) + len(started) + 1, Episode: d.Episode})
			if d.Pace > 0 {
				next = now + time.Duration(1e9/d.Pace)
			}
		}
	}
	could := most * length.Seconds() / took.Seconds()
	t.Logf("%d of %.0f, %d refused", ok, could, refusals)
	if float64(ok) < 0.95*could || float64(refusals) > 0.016*float64(ok) {
		t.Errorf("%d of %.0f, %.4f refused for each: want 95 %% and 0.016", ok, could, float64(refusals)/float64(ok))
	}
}
