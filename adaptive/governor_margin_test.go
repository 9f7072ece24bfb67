package adaptive

import (
	"testing"

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
