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
