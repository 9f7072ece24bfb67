package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A limit on calls in flight refuses none while no more are in flight than it has places. A quota of 200 calls that come back within a second does, at whatever limit is
// kept, and names a second each time. It looked like one that has a place less each time, and with one place left for minutes.
func TestGovernorBelowPlaces(t *testing.T) {
	for _, test := range []struct {
		name   string
		more   int     // in flight than there are places when one is refused
		passed int     // calls between two that are refused
		last   float64 // what was refused before
		below  bool    // with as many in flight as there are places
		quota  int     // after so many refusals it is taken for a quota; 0: not after four
	}{
		{"as many as places, after many calls", 0, 200, 21, false, 3},
		{"and once before, with more in flight than are near", 0, 200, 24, true, 2},
		{"one more than places", 1, 200, 21, false, 0},
		{"as many as places, after few calls", 0, 30, 21, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			const places, took, pause = 20, 35 * time.Millisecond, time.Second
			now := time.Minute
			g := New(Config{})
			g.Restore(now, GovernorState{
				At: now, Limit: places, Bound: places + 1, LastBound: test.last, Below: test.below, Proven: places, Top: places, Places: places, Held: places, Done: 5000, Refused: 9, Refuted: 1, Test: 3,
				FlowAt: now, FlowCount: 4991, RefusedCount: 4991, RingCount: 4991, Flow: 500, Mean: took.Seconds(), MeanOf: 32, Latency: took, Way: 1e-3, RefusalTime: 1e-3,
				ProbeAt: now + time.Hour, PausedUntil: now - time.Minute/2, LastPause: pause, RefusedLast: now - time.Minute/2, Pauses: 5, Busy: true, BusyAt: now, PassedAt: now,
			})
			for i := 1; i <= 4; i++ {
				for range test.passed {
					n := g.Decision().Limit
					now += took / time.Duration(n)
					g.Window(now, Window{Start: now - took, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: n, InFlight: n - 1, Full: true, Waiting: 50})
				}
				n := int(g.s.Places) + test.more
				d := g.Decision()
				g.Window(now+time.Millisecond, Window{Start: now, InFlight: n, Waiting: 50})
				g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: n, Episode: d.Episode}, Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: pause})
				t.Logf("refusal %d, of a call that saw %d: %+v, %.2f against", i, n, g.Decision(), g.s.Against)
				if g.s.Pace[paceRequests].Rate > 0 {
					if i != test.quota {
						t.Errorf("it is taken for a quota after %d refusals, want %d", i, test.quota)
					}
					return
				}
				for left := n - 2; left >= 0; left-- {
					now += time.Millisecond
					g.Window(now, Window{Start: now - took, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: n, InFlight: left, Waiting: 50})
				}
				now += pause
			}
			if test.quota > 0 {
				t.Errorf("four refusals of as many calls as there are places: %+v", g.Decision())
			}
		})
	}
}

// In a pause places are counted: those in flight that are not refused have them. A quota that is used up refuses whatever it is asked, and where a refusal takes as long as a call
// that is nearly all that is in flight. It looked like a limit of one call for as long as a pause of eight seconds costs thirty times.
func TestGovernorEmptied(t *testing.T) {
	for _, test := range []struct {
		name    string
		refused int            // of six that were in flight when one was refused
		scope   feedback.Scope // of those after the first
		quota   bool
	}{
		{"all but one", 5, feedback.ScopeUnknown, true},
		{"all but one, of a limit that is named", 5, feedback.ScopeConcurrency, false},
		{"half", 3, feedback.ScopeUnknown, false},
		{"one", 1, feedback.ScopeUnknown, false},
	} {
		const took, pause = 80 * time.Millisecond, 8 * time.Second
		g, now := warm(7)
		for range 200 {
			now += took / 7
			g.Window(now, Window{Start: now - took, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: 7, InFlight: 6, Full: true, Waiting: 50})
		}
		o := Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: pause}
		d := g.Decision()
		now += took / 7
		sent := now - 20*time.Millisecond
		for i := range 7 {
			call := Call{SentAt: sent + time.Duration(i)*18*time.Millisecond/5, InFlight: 7, Episode: d.Episode}
			if i > test.refused {
				g.Window(now, Window{Start: now - took, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: 7, InFlight: 6 - i, Waiting: 50})
				now += 12 * time.Millisecond
				continue
			}
			g.Window(now, Window{Start: now, InFlight: 7 - i, Waiting: 50})
			g.Ended(now, call, o)
			o.Scope = test.scope
			now += 12 * time.Millisecond
		}
		if s := g.State(); (s.Pace[paceRequests].Rate > 0) != test.quota {
			t.Errorf("%s: %v places of %v, pace %v", test.name, s.Places, s.Proven, g.Decision().Pace)
		}
	}
}

// Each condition of the two rules by itself.
func TestGovernorBelowConditions(t *testing.T) {
	law := func() *Governor {
		return &Governor{s: GovernorState{Places: 20, Below: true, PausedUntil: time.Second, LastPause: time.Second, Mean: 0.1, Proven: 60, Bound: 61}}
	}
	for _, test := range []struct {
		name   string
		n, gap float64
		change func(*GovernorState)
		again  bool
		noted  bool
	}{
		{"again", 20, 80, func(*GovernorState) {}, true, true},
		{"once", 20, 80, func(s *GovernorState) { s.Below = false }, false, true},
		{"after fewer than four for each", 20, 79, func(*GovernorState) {}, false, false},
		{"after fewer than sixty", 2, 59, func(*GovernorState) {}, false, false},
		{"one more than places", 21, 200, func(*GovernorState) {}, false, false},
		{"no places are known", 20, 80, func(s *GovernorState) { s.Places = 0 }, false, false},
		{"a delay that costs little", 20, 80, func(s *GovernorState) { s.LastPause = time.Second / 100 }, false, false},
	} {
		g := law()
		test.change(&g.s)
		if again := g.belowAgain(0, test.n, test.gap); again != test.again || g.s.Below != test.noted {
			t.Errorf("%s: again %v, noted %v", test.name, again, g.s.Below)
		}
	}
	for _, test := range []struct {
		name    string
		change  func(*GovernorState)
		emptied bool
	}{
		{"a third", func(*GovernorState) {}, true},
		{"half", func(s *GovernorState) { s.Places = 30 }, false},
		{"a third, as many are on their way", func(s *GovernorState) { s.Flow, s.Way = 200, 0.1 }, false},
		{"a third of what is proven, more of what was refused", func(s *GovernorState) { s.Bound = 41 }, false},
		{"a pace is kept", func(s *GovernorState) { s.Pace[paceRequests].Rate = 1 }, false},
		{"no places are known", func(s *GovernorState) { s.Places = 0 }, false},
		{"a delay that costs little", func(s *GovernorState) { s.LastPause = time.Second / 100 }, false},
	} {
		g := law()
		test.change(&g.s)
		if emptied := g.emptied(0); emptied != test.emptied {
			t.Errorf("%s of what a row saw: emptied %v", test.name, emptied)
		}
	}
}
