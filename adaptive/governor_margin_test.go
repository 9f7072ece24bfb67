package adaptive

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// However many refusals came at a fine pace, the margin stays in range, and calls that pass give it back.
func TestPropMargin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p PaceState
		p.Known, p.Ceiling, p.Sure = 10, 10, true
		for range rapid.IntRange(0, 50).Draw(t, "refusals") {
			p.refusedBelow()
		}
		if p.Margin < 0 || p.Margin > mostMargin || p.safe() < (paceMargin-mostMargin)*p.Known-1e-6 || p.highest() > paceMargin*p.Ceiling {
			t.Fatalf("%+v: %v, %v", p, p.safe(), p.highest())
		}
		for range 100 {
			p.passedBelow(rapid.IntRange(0, 1000).Draw(t, "calls"), 0.01)
		}
		if p.Margin < 0 || p.Margin > mostMargin {
			t.Fatalf("%+v", p)
		}
	})
}

// Refusals that come as often with the most that is taken are not the pace's: all is given back.
func TestMarginThatChangesNothing(t *testing.T) {
	var p PaceState
	p.Known, p.Sure = 10, true
	lowest := p.safe()
	for n := range 6 {
		if p.refusedBelow(); n < 4 && p.safe() >= lowest {
			t.Errorf("refusal %d: %v, before %v", n+1, p.safe(), lowest)
		}
		lowest = min(lowest, p.safe())
	}
	if want := (paceMargin - mostMargin) * p.Known; lowest < want-1e-6 || lowest > want+1e-6 || p.Margin != 0 {
		t.Errorf("the lowest pace was %v, want %v; the margin after six refusals is %v, want 0", lowest, want, p.Margin)
	}
}

// A pace that was measured badly is tried up to its ceiling also while calls give back what was taken from it: that takes hundreds of calls, in which each makes
// the pace that is kept a little larger.
func TestUnsurePaceRisesBesideAMargin(t *testing.T) {
	for _, sure := range []bool{false, true} {
		g := New(Config{})
		start := time.Hour
		now := start
		p := PaceState{Rate: 0.88, Known: 1, Ceiling: 1.6, Sure: sure, Measured: true, Use: 1, Margin: mostMargin, UsedAt: now, LastCount: 1000, AnchorAt: now, AnchorCount: 1000}
		if sure {
			p.Ceiling = 1
		}
		g.Restore(now, GovernorState{At: now, Limit: 20, Done: 1000, FlowCount: 1000, FlowAt: now, RunFrom: 1000, Pace: [numPaces]PaceState{p}})
		d := g.Decision()
		for now-start < 30*time.Second {
			now += time.Duration(1e9 / d.Pace)
			d = g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, Waiting: 1})
		}
		if rises := d.Pace > 1.2; rises == sure {
			t.Errorf("a pace of 0.88 that is sure %v is %v after %v", sure, d.Pace, now-start)
		}
	}
}
