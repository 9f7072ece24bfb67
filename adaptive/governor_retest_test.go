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

// What passed while nobody waited is no measure of a quota.
func TestRetestEndsWhenNobodyWaits(t *testing.T) {
	for _, lull := range []time.Duration{10 * time.Minute, 10 * time.Hour} {
		g := New(Config{})
		now := time.Second
		g.Window(now, Window{})
		g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: 2}, Outcome{Class: feedback.Throttled})
		if g.s.RetestAt != 2 {
			t.Fatalf("no retest in %+v", g.s)
		}
		w := Window{OK: 1, Timed: 1, Latency: 3 * time.Second, MinLatency: 3 * time.Second, InFlight: 1, MaxInFlight: 1}
		now += 3 * time.Second
		w.Start = now - time.Second
		g.Window(now, w)
		now += lull
		w.Start, w.InFlight, w.MaxInFlight, w.Full, w.Waiting = now-time.Second, 3, 3, true, 5
		if d := g.Window(now, w); d.Pace != 0 && d.Pace < 1 {
			t.Errorf("after %v in which hardly anything was asked for, %v starts a second are allowed", lull, d.Pace)
		}
	}
}

// A refusal or a header that says which limit binds ends a retest.
func TestRetestEndsWhenLimitIsNamed(t *testing.T) {
	for name, tell := range map[string]func(*Governor, time.Duration){
		"a limit on calls in flight": func(g *Governor, now time.Duration) {
			g.Ended(now, Call{SentAt: now, Episode: g.s.Episode, InFlight: 2}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency})
		},
		"a header": func(g *Governor, now time.Duration) {
			g.Hint(now, feedback.Window{Kind: feedback.ScopeRequests, Limit: 100, Remaining: 10, Reset: time.Minute})
		},
	} {
		g := New(Config{})
		now := time.Second
		g.Window(now, Window{})
		g.Ended(now, Call{SentAt: now, InFlight: 2}, Outcome{Class: feedback.Throttled})
		tell(g, now+time.Second)
		known := g.s.Pace[paceRequests]
		now += 4 * time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: 3 * time.Second, MinLatency: 3 * time.Second, InFlight: 3, MaxInFlight: 3, Full: true})
		if p := g.s.Pace[paceRequests]; p.Known != known.Known || p.StatedKind != known.StatedKind {
			t.Errorf("%s: a pace of %v, %v before", name, p, known)
		}
	}
}
