package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

func TestGovernorLittle(t *testing.T) {
	// A quota gives some ten a second, and calls take a minute: 600 in flight and more are what it takes, whatever the limit was. Where a limit on calls is known, it stays.
	for _, bound := range []float64{0, 45} {
		g, now := paced(t)
		g.s.Mean, g.s.Bound = 60, bound
		for range 20 {
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, MaxInFlight: 40, InFlight: 40, Waiting: 9, Full: true})
		}
		if limit := g.Decision().Limit; bound == 0 != (limit > 600) {
			t.Errorf("with a limit on calls at %v known, %d may be in flight", bound, limit)
		}
	}
}

func TestGovernorLittleOnTheWayBack(t *testing.T) {
	// After an outage what was good is in use again at once where the quota is known, and not by ends of calls that take a minute. Beyond that nothing is.
	for _, test := range []struct {
		threshold float32
		low, high int
	}{{450, 450, 450}, {0, 1, 100}} { // 0: it is over
		g, now := paced(t)
		g.s.Mean, g.s.Bound, g.s.SlowStart, g.s.Threshold = 60, 500, test.threshold > 0, test.threshold
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, MaxInFlight: 40, InFlight: 40, Waiting: 9, Full: true})
		if limit := g.Decision().Limit; limit < test.low || limit > test.high {
			t.Errorf("on the way back to %v some 600 are what the quota takes, and %d may be in flight", test.threshold, limit)
		}
	}
}

func TestGovernorOutageEndsWhereCallsBegin(t *testing.T) {
	// The first call that was accepted after an outage started 20 s before it ended, and others meanwhile: that time counts, as they do.
	g, now := paced(t)
	for range 5 {
		now = max(now, g.Decision().NotBefore) + time.Second
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 2, Episode: g.Decision().Episode}, Outcome{Class: feedback.Overloaded})
	}
	began := now + time.Second
	now += 21 * time.Second
	g.s.Old = 0
	g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: now - began, MinLatency: now - began, MaxInFlight: 2, InFlight: 2, Waiting: 9})
	if counted := now - g.s.Pace[paceRequests].AnchorAt; counted < now-began || counted > now-began+2*time.Second {
		t.Errorf("%v count as time, and the call that was accepted first took %v", counted, now-began)
	}
}

func TestGovernorSecondSinks(t *testing.T) {
	// A window of a second that allows less and less is none.
	g, now := paced(t)
	w := &g.s.Slide
	*w = SlideState{Of: slideSecond + 1, Allows: 13, Before: 13}
	w.Mean[slideSecond] = 13
	g.slideSet(now)
	for round := range 12 {
		if w.Of == 0 {
			break
		}
		gap := time.Duration(90+5*round) * time.Millisecond
		for range 11 {
			now += gap
			g.Window(now, Window{Start: now - gap, OK: 1, MaxInFlight: 21, InFlight: 20, Waiting: 9})
		}
		g.Ended(now, Call{SentAt: now, InFlight: 21, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
		w.Debt = 0
	}
	if w.Of != 0 || w.Fails != 1 {
		t.Errorf("13 calls in a second were learned, and %v are allowed now (fails %d)", w.Allows, w.Fails)
	}
}

func TestGovernorDoubledByChance(t *testing.T) {
	// A doubling took three times the quickest, where calls differ: of sixteen calls that says nothing, of some hundred that the upstream is full.
	for _, test := range []struct {
		from float32
		full bool
	}{{8, false}, {256, true}} {
		g := New(Config{})
		g.advance(0)
		g.s.Noise = 1
		g.s.DoubleFrom, g.s.DoubleDone, g.s.Doubling, g.s.Quickest, g.s.QuickMean, g.s.QuickFrom = test.from, test.from/2, time.Second, time.Second, 1, test.from/2
		g.s.Limit, g.s.Mean = 2*float64(test.from), 2
		g.advance(3 * time.Second)
		if g.doubled(1) != test.full {
			t.Errorf("a doubling from %v calls took 3 s, and 1 s before: the upstream is full %v", test.from, !test.full)
		}
		if test.full && g.s.Limit < float64(test.from)/2 {
			t.Errorf("limit %v, and up to %v it was quick", g.s.Limit, test.from/2)
		}
	}
}

func TestGovernorProbesInDoubt(t *testing.T) {
	// After a delay a limit that may be a quota is tried sooner than one of which nothing says so.
	wait := func(against float32) time.Duration {
		g, now := warm(40)
		g.s.Credit, g.s.Against = 1, against
		now += time.Second
		o := refused(feedback.ScopeUnknown)
		o.HasRetryAfter, o.RetryAfter = true, 5*time.Second
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 40, Episode: g.Decision().Episode}, o)
		return g.s.ProbeAt - now
	}
	if sure, doubt := wait(0), wait(1.5); doubt > sure/2 || doubt < sure/20 {
		t.Errorf("tried after %v, and in doubt after %v", sure, doubt)
	}
}
