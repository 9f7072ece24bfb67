package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// What passed before the first refusal is noted, since the first call or in the last three seconds, and no later refusal changes it.
func TestGovernorNotesWhatWasSavedUp(t *testing.T) {
	for _, test := range []struct {
		seconds        int
		calls, counted float64
	}{{5, 50, 5}, {60, 30, 3}} {
		g := New(Config{})
		now := time.Hour
		end := now + time.Duration(test.seconds)*time.Second
		g.Window(now, Window{Start: now})
		for now < end {
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: time.Millisecond, MinLatency: time.Millisecond, MaxInFlight: 1})
		}
		g.Ended(now, Call{SentAt: now, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
		was := g.s.Burst
		if math.Abs(float64(was.Calls)-test.calls) > 11 || float64(was.Seconds) != test.counted {
			t.Errorf("after %d s of 10 a second: %+v, want %v calls in %v s", test.seconds, was, test.calls, test.counted)
		}
		now += time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 9, MaxInFlight: 1})
		if g.Ended(now, Call{SentAt: now, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests)); g.s.Burst != was {
			t.Errorf("%+v after the second refusal, %+v before", g.s.Burst, was)
		}
	}
}

// A pause counts as time up to what a quota saves up: with 101 calls saved up all of it does, with none little, and what a quota gives is never less than what passed.
func TestGovernorCountsPausesThatAreSavedUp(t *testing.T) {
	g := New(Config{})
	rate := func(burst, last float64) float64 {
		g.s.Burst = BurstState{Calls: float32(burst)}
		return g.gave(200, 20, 5, last)
	}
	none, much := rate(0, 5), rate(102, 5)
	if much != 10 {
		t.Errorf("200 calls in 20 s, 5 of which were a pause in which all was saved up: %v a second, want 10", much)
	}
	if none < 1.02*much || none > 200.0/15 {
		t.Errorf("200 calls in 20 s, 5 of which were a pause in which nothing was known to be saved up: %v a second, want 10 to 13.3", none)
	}
	if part := rate(31, 5); part < much || part > none {
		t.Errorf("with 30 calls saved up %v a second, want %v to %v", part, much, none)
	}
	for _, burst := range []float64{0, 1e15} {
		for _, last := range []float64{0, 1e-9, 86400} {
			if got := rate(burst, last); !(got >= 10 && got <= 1000) {
				t.Errorf("%v before the first refusal, a pause of %v s: %v a second", burst, last, got)
			}
		}
	}
}

// A pace rises for seconds until it is refused, so what passed in all that time is far below what the quota gives. What passed in the last seconds is not, but for what was saved
// up, which is no more than what passed before the first refusal.
func TestGovernorGuessesByWhatPassedLately(t *testing.T) {
	for _, test := range []struct {
		burst     float64
		from      BurstState
		low, high float64
	}{
		{2, BurstState{Calls: 2, Seconds: 0.02}, 92, 102},
		{2, BurstState{Calls: 2, Seconds: 3}, 75, 91}, // since when is not known
	} {
		now := time.Minute
		g := New(Config{})
		g.Restore(now, GovernorState{
			At: now, Limit: 8, Done: 3, Refused: 1, FlowAt: now, FlowCount: 2, Flow: 20, Busy: true, BusyAt: now, Mean: 0.001, Latency: time.Millisecond, SlowStart: true, Credit: 5,
			Burst: test.from, PausedUntil: now, LastPause: time.Second, PausedSum: time.Second,
			Pace: [numPaces]PaceState{{Rate: 30, Known: 30, Ceiling: unbounded, Lowest: 30, Use: 1, UsedAt: now, LastCount: 2, AnchorAt: now - time.Second, AnchorCount: 2, AnchorPaused: time.Second}},
		})
		takes := bucketOf(100, test.burst)
		for p := &g.s.Pace[paceRequests]; !p.Measured && now < 2*time.Minute; {
			d := g.Decision()
			now += time.Duration(1e9 / d.Pace)
			if call, took := (Call{SentAt: now, InFlight: 1, Episode: d.Episode}), time.Millisecond; takes(now) {
				g.Window(now+took, Window{Start: now, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: 1, Waiting: 20})
			} else {
				g.Ended(now+took, call, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown, HasRetryAfter: true, RetryAfter: time.Second})
			}
		}
		if r := g.s.Pace[paceRequests].Known; r < test.low || r > test.high {
			t.Errorf("a bucket of %v that gives 100 a second, %+v: %.1f, want %v to %v", test.burst, test.from, r, test.low, test.high)
		}
	}
}
