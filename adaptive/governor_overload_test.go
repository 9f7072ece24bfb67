package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// overload lets a law meet spells of refusals with 503: before each, passed calls end well, and then as many are refused as a spell says.
func overload(g *Governor, now time.Duration, n, passed, refused int, every time.Duration) time.Duration {
	for range n {
		for range passed {
			now += 10 * time.Millisecond
			g.Window(now, Window{Start: now - 10*time.Millisecond, OK: 1, Timed: 1, Latency: 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: 8, InFlight: 8, Full: true})
		}
		for range refused {
			now += 10 * time.Millisecond
			g.Ended(now, Call{SentAt: now - 5*time.Millisecond, Episode: g.Decision().Episode, InFlight: 8}, Outcome{Class: feedback.Overloaded})
		}
		now += every
	}
	return now
}

func TestFirstOverloadInSlowStart(t *testing.T) {
	// In slow start the first refusal comes while more and more is in flight, if it is by a limit.
	for _, test := range []struct {
		name string
		n    int
		want bool
	}{
		{"more and more", 30, true},
		{"no more than before", 8, false},
	} {
		g := New(Config{Initial: 8})
		now := overload(g, 0, 1, 100, 0, 0)
		g.s.InFlight = test.n
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: test.n}, Outcome{Class: feedback.Overloaded})
		if s := g.State(); s.Limiting != test.want {
			t.Errorf("%s: taken for a limit is %v, want %v", test.name, s.Limiting, test.want)
		}
	}
}

func TestOverloadThatIsALimit(t *testing.T) {
	// nginx says 503 for limits, too. Those refuse again and again after calls have passed; who lacks capacity does not.
	for _, test := range []struct {
		name                    string
		spells, passed, refused int
		every                   time.Duration
		want                    bool
	}{
		{"an outage", 1, 1000, 20, 0, false},
		{"two of them", 2, 1000, 20, time.Second, false},
		{"a limit", 3, 100, 5, time.Second, true},
		{"an outage every few minutes", 8, 100, 20, 2 * time.Minute, false},
		{"a share of all calls is refused", 30, 3, 7, 0, false},
		{"a limit, and then an outage", 4, 100, 40, time.Second, false},
	} {
		g := New(Config{Initial: 8})
		overload(g, 0, test.spells, test.passed, test.refused, test.every)
		if s := g.State(); s.Limiting != test.want {
			t.Errorf("%s: taken for a limit is %v, want %v; %v spells", test.name, s.Limiting, test.want, float64(s.Spells))
		}
	}
}

// TestOverloadBelowWhatIsProven: an upstream that lacks capacity while little is asked for says nothing of how many calls it takes else.
func TestOverloadBelowWhatIsProven(t *testing.T) {
	g := New(Config{Initial: 8})
	now := overload(g, 0, 1, 100, 0, 0)
	for range 3 {
		now += 10 * time.Millisecond
		g.Ended(now, Call{SentAt: now - 5*time.Millisecond, Episode: g.Decision().Episode, InFlight: 1}, Outcome{Class: feedback.Overloaded})
	}
	if s := g.State(); s.Proven < 8 || s.Bound < 8 {
		t.Errorf("the boundary is %v after refusals of single calls, want 8, as %v were proven", s.Bound, s.Proven)
	}
}

// A limit of few calls that says 503 with a long delay lets hardly any pass between two refusals: that those with the limit in use are refused, and no others, tells.
func TestOverloadOfFewWithDelays(t *testing.T) {
	const delay = 10 * time.Second
	for _, test := range []struct {
		name  string
		n     int // in flight when one is refused
		limit float64
		few   int // in flight when each third one is refused; 0: as many
		wait  time.Duration
		times int // refusals
		want  bool
	}{
		{"with the limit in use", 3, 3, 0, delay, 3, true},
		{"twice", 3, 3, 0, delay, 2, false},
		{"with places free", 3, 4, 0, delay, 3, false},
		{"each third one alone", 3, 3, 1, delay, 8, false},
		{"each third one with a place free", 3, 3, 2, delay, 8, false},
		{"alone", 1, 1, 0, delay, 8, false},
		{"no delay", 3, 3, 0, 0, 8, false},
	} {
		g, now := New(Config{}), time.Duration(0)
		for round := range test.times {
			now += delay
			n := test.n
			if test.few > 0 && round%3 == 2 {
				n = test.few
			}
			for i := 1; i < n || i == 1; i++ {
				now += 300 * time.Millisecond
				g.Window(now, Window{Start: now - 300*time.Millisecond, OK: 1, Timed: 1, Latency: 300 * time.Millisecond, MinLatency: 300 * time.Millisecond, MaxInFlight: i, InFlight: i, Full: true, Waiting: 9})
			}
			g.s.InFlight, g.s.Limit = n, test.limit
			now += 20 * time.Millisecond
			g.Ended(now, Call{SentAt: now - 20*time.Millisecond, Episode: g.Decision().Episode, InFlight: n}, Outcome{Class: feedback.Overloaded, HasRetryAfter: test.wait > 0, RetryAfter: test.wait})
		}
		if s := g.State(); s.Limiting != test.want {
			t.Errorf("%s: taken for a limit is %v, want %v; %v spells", test.name, s.Limiting, test.want, float64(s.Spells))
		}
	}
}
