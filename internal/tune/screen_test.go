package tune

import (
	"math"
	"testing"
)

// What matters is told from what does not, and what acts alike everywhere from what does not.
func TestScreen(t *testing.T) {
	f := func(_ Set, p Point) float64 {
		return 0.5*p[0] + 0.2*math.Abs(p[1]-0.5) + 0*p[2]
	}
	out, err := Run(t.Context(), t.Context(), Config{Params: params(3), Evaluate: noisy(3, 0, f), Seed: 1, Points: 2, Trajectories: 8})
	if err != nil {
		t.Fatal(err)
	}
	e := out.Effects
	if len(e) != 3 {
		t.Fatalf("%d effects of 3 parameters", len(e))
	}
	if math.Abs(e[0].Size-0.5) > 0.01 || e[0].Spread > 0.01 || e[0].Moves != 8 {
		t.Errorf("a straight line of 0.5: %+v", e[0])
	}
	if e[1].Size <= 0 || e[1].Size > 0.2 || e[1].Spread < 0.01 {
		t.Errorf("a line with a knee: %+v", e[1])
	}
	if e[2].Size > 1e-9 || e[2].Spread > 1e-6 {
		t.Errorf("a parameter without effect: %+v", e[2])
	}
}

// A point that is not allowed tells nothing of what matters.
func TestScreenForbidden(t *testing.T) {
	f := func(_ Set, p Point) float64 {
		if p[0] > 0.3 {
			return -1000
		}
		return p[1]
	}
	out, err := Run(t.Context(), t.Context(), Config{Params: params(2), Evaluate: noisy(3, 0, f), Seed: 1, Points: 2, Trajectories: 6})
	if err != nil {
		t.Fatal(err)
	}
	if e := out.Effects; e[0].Moves != 0 || e[0].Size != 0 || e[1].Moves == 0 || math.Abs(e[1].Size-1) > 0.02 {
		t.Errorf("%+v", e)
	}
}
