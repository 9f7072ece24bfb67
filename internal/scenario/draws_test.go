package scenario

import (
	"slices"
	"testing"
)

// A plan that names kinds runs the same draws of these kinds as one that names none.
func TestDrawPlanNumbers(t *testing.T) {
	all := DrawPlan{Seed: 3, First: 5, N: 37}
	some := DrawPlan{Seed: 3, First: 5, N: 37, Kinds: []string{drawWindow, drawBoth}}
	if got := all.Numbers(); len(got) != 37 || got[0] != 5 || got[36] != 41 {
		t.Errorf("without kinds: draws %v, want 5 to 41", got)
	}
	var want []int
	for _, n := range all.Numbers() {
		if slices.Contains(some.Kinds, NewDraw(3, n).Kind) {
			want = append(want, n)
		}
	}
	if got := some.Numbers(); !slices.Equal(got, want) || len(got) < 8 {
		t.Errorf("windows and both: draws %v, want %v", got, want)
	}
}
