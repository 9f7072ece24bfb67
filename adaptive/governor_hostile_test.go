package adaptive

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// Whatever a saved state says, in whichever field: what it holds back ends.
func TestPropGovernorRestoredEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var s GovernorState
		fill(reflect.ValueOf(&s).Elem(), rng)
		now := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "now"))
		g := New(Config{})
		g.Restore(now, s)
		if d := g.Decision(); d.NotBefore > now+longestHold {
			t.Fatalf("nothing starts until %v, %v from now", d.NotBefore, d.NotBefore-now)
		}
		for i := range g.s.Pace {
			if rate := g.s.Pace[i].Rate; rate > 0 && rate < leastTold {
				t.Fatalf("a pace of %v", rate)
			}
		}
		// What headers told has ended after an hour.
		now += time.Hour + time.Second
		d := g.Window(now, Window{Start: now})
		if d.Until != 0 && !d.UntilFull && g.s.Slide.Of == 0 || g.toldPace() != 0 {
			t.Fatalf("a pace of %v that headers told lasts until %v, %v from now", g.toldPace(), d.Until, d.Until-now)
		}
		// And all that a window counted has left it, unless it never held that much.
		if now += time.Hour; g.s.Slide.Of > 0 {
			if d = g.Window(now, Window{Start: now}); g.s.Slide.Of > 0 && g.s.Pace[paceRequests].Rate > 0 && d.NotBefore > now {
				t.Fatalf("%+v: nothing starts until %v, %v from now", g.s.Slide, d.NotBefore, d.NotBefore-now)
			}
		}
	})
}

// The window that was used up is found in constant time, however long ago one turned.
func TestTurnedLongAgo(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, now := range []time.Duration{100 * 365 * 24 * time.Hour, math.MaxInt64 - 2} {
			g := New(Config{})
			g.s.Turn = TurnState{Period: 10, Allows: 20, Ask: 1}
			g.s.At = now
			g.s.Streak, g.s.DarkSince, g.s.DarkLast = 4, now-time.Second, now
			g.turnedAgain(now, now, 30)
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("it takes for ever")
	}
}

// A pace that headers ask for ends at the reset also when the first that is told after it is the beginning of an answer.
func TestStatedPaceEndsWithABeginning(t *testing.T) {
	for _, kind := range []feedback.Scope{feedback.ScopeRequests, feedback.ScopeTokens} {
		g := New(Config{})
		now := time.Second
		g.Window(now, Window{OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, InFlight: 2, Waiting: 1})
		d := g.Hint(now, feedback.Window{Kind: kind, Limit: 1000, Remaining: 0, Reset: 30 * time.Second})
		if d.Pace+d.TokenPace == 0 || d.Until <= now {
			t.Fatalf("%v: %+v, want a pace that ends", kind, d)
		}
		was := d
		d = g.Began(now+31*time.Second, Call{SentAt: now, InFlight: 2, Episode: d.Episode})
		if d.Until == 0 && (kind == feedback.ScopeRequests && d.Pace == was.Pace || d.TokenPace > 0) {
			t.Errorf("%v: %+v after the reset: the pace lasts until a call ends", kind, d)
		}
	}
}

// A learned pace is never so slow that it is known late that nothing is refused any more.
func TestPaceAfterRowOfRefusals(t *testing.T) {
	g := New(Config{})
	now := time.Second
	for range 100 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 2, Timed: 2, Latency: 200 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: 2, InFlight: 2, Waiting: 5, Full: true, Tokens: 2000})
	}
	for _, kind := range []feedback.Scope{feedback.ScopeRequests, feedback.ScopeTokens} {
		h := *g
		at := now
		h.Hint(at, feedback.Window{Kind: kind, Limit: 1000, Remaining: 0, Reset: 50 * time.Second})
		for range 60 {
			at += time.Minute
			d := h.Ended(at, Call{SentAt: at - time.Second, InFlight: 1, Episode: h.s.Episode}, Outcome{Class: feedback.Throttled, Scope: kind})
			least := 1.0 / 300
			pace := d.Pace
			if kind == feedback.ScopeTokens {
				pace, least = d.TokenPace, float64(h.s.TokensPerCall)/300
			}
			if pace < least {
				t.Fatalf("%v: a pace of %v after %v, want %v at least", kind, pace, at-now, least)
			}
		}
	}
}

// A pace of windows that held nobody back for ten minutes is dropped, as any other.
func TestWindowPaceIsDropped(t *testing.T) {
	g := New(Config{})
	now := time.Hour
	g.Restore(now, GovernorState{
		At: now, Limit: 20, Done: 1000, FlowCount: 1000, FlowAt: now, RunFrom: 1000, Credit: 1, Turn: TurnState{At: now, Count: 1000, Period: 60, Allows: 600, Before: 600, Ask: 1, Fits: 3},
		Pace: [numPaces]PaceState{{Rate: 10, Known: 10, Ceiling: 10, Sure: true, Measured: true, UsedAt: now, LastCount: 1000}},
	})
	d := g.Decision()
	for end := now + paceAge + time.Minute; now < end; {
		now += time.Second
		if d = g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1}); now == time.Hour+paceAge/2 && d.Pace == 0 {
			t.Fatal("it was dropped early, so that this tests nothing")
		}
	}
	if g.s.Pace[paceRequests].Rate != 0 {
		t.Errorf("a pace of %v is kept, of which a tenth was used for %v", d.Pace, paceAge)
	}
}

// A pace of a call in five minutes that nothing refuses any more is a fast one within an hour: rare calls count for the time that they took.
func TestSlowPaceRises(t *testing.T) {
	for name, p := range map[string]PaceState{
		"measured": {Rate: leastPace, Known: leastPace, Ceiling: leastPace, Sure: true, Measured: true, Use: 1},
		"a guess":  {Rate: leastPace, Known: leastPace, Ceiling: leastPace, Use: 1},
	} {
		g := New(Config{})
		start := time.Hour
		now := start
		p.UsedAt, p.LastCount, p.AnchorAt, p.AnchorCount = now, 1000, now, 1000
		g.Restore(now, GovernorState{At: now, Limit: 20, Done: 1000, FlowCount: 1000, FlowAt: now, RunFrom: 1000, Credit: maxCredit, Pace: [numPaces]PaceState{p}})
		d := g.Decision()
		for now-start < time.Hour && d.Pace < 1 {
			now += time.Duration(1e9 / d.Pace)
			d = g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, Waiting: 1})
		}
		if d.Pace < 1 {
			t.Errorf("%s: a pace of %v after an hour", name, d.Pace)
		}
	}
}
