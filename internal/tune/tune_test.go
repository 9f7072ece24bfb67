package tune

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func params(d int) []Param {
	ps := make([]Param, d)
	for i := range ps {
		ps[i] = Param{Key: string(rune('a' + i)), Low: 0, High: 1, Current: 0.8, Default: 0.5}
	}
	return ps
}

// noisy is an objective with noise that all points share, and noise of their own.
func noisy(seed uint64, own float64, f func(Set, Point) float64) Evaluate {
	return func(_ context.Context, set Set, points []Point, first uint64, n int) ([][]float64, error) {
		out := make([][]float64, len(points))
		for i, p := range points {
			bits := seed
			for _, v := range p {
				bits = bits*31 + math.Float64bits(v)
			}
			for k := range n {
				common := rand.New(rand.NewPCG(seed, first+uint64(k))).NormFloat64() * 0.1
				mine := rand.New(rand.NewPCG(bits, first+uint64(k)+uint64(set)<<32)).NormFloat64() * own
				out[i] = append(out[i], f(set, p)+common+mine)
			}
		}
		return out, nil
	}
}

// On pure noise nothing is recommended: a search always finds something that was lucky.
func TestNoise(t *testing.T) {
	const runs = 60
	recommended, tempted := 0, 0
	for seed := range uint64(runs) {
		out, err := Run(t.Context(), t.Context(), Config{Params: params(3), Evaluate: noisy(seed, 0.03, func(Set, Point) float64 { return 0.7 }), Seed: 1, HeldOut: true})
		if err != nil {
			t.Fatal(err)
		}
		if out.Recommended {
			recommended++
		}
		if out.Best[0] != 0.8 {
			tempted++
		}
	}
	t.Logf("pure noise: %d of %d searches found something that was lucky, %d recommended it", tempted, runs, recommended)
	if recommended > 0 {
		t.Errorf("%d of %d searches recommend noise", recommended, runs)
	}
	if tempted < runs/2 {
		t.Errorf("only %d of %d searches were tempted: the test tests nothing", tempted, runs)
	}
}

// A planted optimum is found within a tenth of the range, and recommended.
func TestPlanted(t *testing.T) {
	for d := 1; d <= 5; d++ {
		worst, missed := 0.0, 0
		const runs = 12
		for seed := range uint64(runs) {
			rng := rand.New(rand.NewPCG(seed, uint64(d)))
			want := make(Point, d)
			for i := range want {
				want[i] = 0.05 + 0.6*rng.Float64()
			}
			f := func(_ Set, p Point) float64 {
				var sum float64
				for i := range p {
					sum += (p[i] - want[i]) * (p[i] - want[i])
				}
				return 0.9 - sum
			}
			out, err := Run(t.Context(), t.Context(), Config{Params: params(d), Evaluate: noisy(seed, 0.01, f), Seed: 1, HeldOut: true})
			if err != nil {
				t.Fatal(err)
			}
			if !out.Recommended {
				missed++
			}
			for i := range want {
				worst = max(worst, math.Abs(out.Best[i]-want[i]))
			}
		}
		t.Logf("%d parameters: at most %.3f of the range away, %d of %d not recommended", d, worst, missed, runs)
		if worst > 0.1 {
			t.Errorf("%d parameters: the optimum is missed by %.3f of the range, want at most 0.1", d, worst)
		}
		if missed > 0 {
			t.Errorf("%d parameters: %d of %d gains are not recommended", d, missed, runs)
		}
	}
}

// A gain that only the scenarios of the search show is not recommended; nor is one without held-out scenarios, or too small a one.
func TestEvidence(t *testing.T) {
	near := func(p Point) float64 { return 0.9 - (p[0]-0.3)*(p[0]-0.3) }
	for _, test := range []struct {
		name    string
		f       func(Set, Point) float64
		heldOut bool
		least   float64
		want    bool
	}{
		{"everywhere", func(_ Set, p Point) float64 { return near(p) }, true, 0, true},
		{"only where it was searched", func(s Set, p Point) float64 {
			if s == HeldOut {
				return 0.7
			}
			return near(p)
		}, true, 0, false},
		{"without held-out scenarios", func(_ Set, p Point) float64 { return near(p) }, false, 0, false},
		{"too small to matter", func(_ Set, p Point) float64 { return near(p) }, true, 0.5, false},
	} {
		out, err := Run(t.Context(), t.Context(), Config{Params: params(1), Evaluate: noisy(1, 0.005, test.f), Seed: 7, HeldOut: test.heldOut, MinEffect: test.least})
		if err != nil {
			t.Fatal(err)
		}
		if out.Recommended != test.want || out.Why == "" {
			t.Errorf("%s: recommended %v, want %v: %+v", test.name, out.Recommended, test.want, out)
		}
	}
}

// The current configuration is the answer when it is the best.
func TestKeep(t *testing.T) {
	f := func(_ Set, p Point) float64 { return 0.9 - math.Abs(p[0]-0.8) - math.Abs(p[1]-0.8) }
	out, err := Run(t.Context(), t.Context(), Config{Params: params(2), Evaluate: noisy(3, 0, f), Seed: 1, HeldOut: true})
	if err != nil || out.Recommended || out.Best[0] != 0.8 || out.Best[1] != 0.8 || out.Seen.Seeds != 0 {
		t.Errorf("%+v, %v", out, err)
	}
}

// What does nothing stays as it is.
func TestSimple(t *testing.T) {
	f := func(_ Set, p Point) float64 { return 0.9 - (p[1]-0.3)*(p[1]-0.3) }
	inner := noisy(3, 0, f)
	out, err := Run(t.Context(), t.Context(), Config{Params: params(3), Evaluate: inner, Seed: 1, HeldOut: true})
	if err != nil || !out.Recommended || out.Best[0] != 0.8 || out.Best[2] != 0.8 || math.Abs(out.Best[1]-0.3) > 0.02 {
		t.Errorf("%+v, %v", out, err)
	}
}

// The same seed gives the same outcome, and evidence comes from seeds that the search did not use.
func TestSeeds(t *testing.T) {
	highest := map[Set]uint64{}
	lowest := map[Set]uint64{Tuning: math.MaxUint64, HeldOut: math.MaxUint64}
	calls := 0
	inner := noisy(5, 0.01, func(_ Set, p Point) float64 { return 0.9 - (p[0]-0.2)*(p[0]-0.2) })
	eval := func(ctx context.Context, set Set, ps []Point, first uint64, n int) ([][]float64, error) {
		calls++
		if len(ps) != 2 || n != 24 {
			if set == HeldOut {
				t.Error("the search saw held-out scenarios")
			}
			highest[set] = max(highest[set], first+uint64(n)-1)
		} else {
			lowest[set] = min(lowest[set], first)
		}
		return inner(ctx, set, ps, first, n)
	}
	var outs []*Outcome
	for range 2 {
		out, err := Run(t.Context(), t.Context(), Config{Params: params(1), Evaluate: eval, Seed: 100, HeldOut: true})
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	if outs[0].Best[0] != outs[1].Best[0] || outs[0].Seen.Gain != outs[1].Seen.Gain {
		t.Errorf("two runs differ: %+v and %+v", outs[0], outs[1])
	}
	if highest[Tuning] != 115 || lowest[Tuning] != 116 || lowest[HeldOut] != 140 {
		t.Errorf("the search used seeds to %d, the evidence from %d and %d on", highest[Tuning], lowest[Tuning], lowest[HeldOut])
	}
}

// A search that runs out of time puts to the test what it has; a command that is stopped stops.
func TestStopped(t *testing.T) {
	f := func(_ Set, p Point) float64 { return 0.9 - (p[0]-0.2)*(p[0]-0.2) }
	inner := noisy(5, 0.005, f)
	stopped := errors.New("time is over")
	searching, stop := context.WithCancelCause(t.Context())
	calls := 0
	eval := func(ctx context.Context, set Set, ps []Point, first uint64, n int) ([][]float64, error) {
		if calls++; calls == 3 {
			stop(stopped)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return inner(ctx, set, ps, first, n)
	}
	out, err := Run(t.Context(), searching, Config{Params: params(1), Evaluate: eval, Seed: 1, HeldOut: true})
	if err != nil || !out.Stopped || !out.Recommended {
		t.Errorf("%+v, %v", out, err)
	}
	// Before anything was met, in the race, in the refinement, and between the two comparisons of the proof.
	for _, ends := range []int{1, 2, 5, 1000} {
		ctx, cancel := context.WithCancelCause(t.Context())
		calls := 0
		out, err := Run(ctx, ctx, Config{Params: params(1), Seed: 1, HeldOut: true, Evaluate: func(ctx context.Context, set Set, ps []Point, first uint64, n int) ([][]float64, error) {
			if calls++; calls == ends || set == HeldOut {
				cancel(stopped)
				return nil, context.Cause(ctx)
			}
			return inner(ctx, set, ps, first, n)
		}})
		if !errors.Is(err, stopped) || out == nil || !out.Interrupted || out.Recommended || !strings.Contains(out.Why, "interrupted") {
			t.Fatalf("ended at %d: %+v, %v", ends, out, err)
		}
		if found := out.Best[0] != 0.8; found != (ends > 1) || (out.Points > 0) != (ends > 1) || (out.Seen.Seeds > 0) != (ends == 1000) {
			t.Errorf("ended at %d: %+v", ends, out)
		}
	}
	// A budget that ends before the first points have met their seeds has shown nothing of them.
	ended, end := context.WithCancel(t.Context())
	end()
	if out, err := Run(t.Context(), ended, Config{Params: params(1), Evaluate: eval, Seed: 1, HeldOut: true}); err != nil || out.Points != 0 || !strings.Contains(out.Why, "before the first points") {
		t.Errorf("%+v, %v", out, err)
	}
	broken := errors.New("broken")
	if _, err := Run(t.Context(), t.Context(), Config{Params: params(1), Evaluate: func(context.Context, Set, []Point, uint64, int) ([][]float64, error) { return nil, broken }}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestParam(t *testing.T) {
	for _, test := range []struct {
		p    Param
		u    float64
		want float64
	}{
		{Param{Low: 0, High: 10}, 0.25, 2.5}, {Param{Low: 1, High: 10000, Log: true}, 0.5, 100}, {Param{Low: 1, High: 8, Integer: true}, 0.5, 5},
		{Param{Low: 0.1, High: 0.99}, 2, 0.99}, {Param{Low: 0.1, High: 0.99}, -1, 0.1}, {Param{Low: 0, High: 1}, 0.12345, 0.123},
	} {
		if got := test.p.value(test.u); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("value(%v) = %v, want %v", test.u, got, test.want)
		}
		if u := test.p.unit(test.want); test.u >= 0 && test.u <= 1 && math.Abs(u-test.u) > 0.1 {
			t.Errorf("unit(%v) = %v, want about %v", test.want, u, test.u)
		}
	}
	for _, p := range []Param{{Low: 1, High: 1}, {Low: 0, High: 1, Log: true}, {Low: math.NaN(), High: 1}} {
		if _, err := Run(t.Context(), t.Context(), Config{Params: []Param{p}}); err == nil {
			t.Errorf("%+v is taken for a range", p)
		}
	}
	if _, err := Run(t.Context(), t.Context(), Config{}); err == nil {
		t.Error("no parameter is taken for a space")
	}
}

// The points fill the space: in each dimension every tenth has some of them.
func TestHalton(t *testing.T) {
	const d, n = 12, 100
	var counts [d][10]int
	for i := range n {
		for k, u := range halton(i+1, d) {
			if u < 0 || u >= 1 {
				t.Fatalf("halton(%d) has %v", i+1, u)
			}
			counts[k][int(u*10)]++
		}
	}
	for k := range counts {
		for tenth, c := range counts[k] {
			if c < 4 {
				t.Errorf("dimension %d: %d of %d points in tenth %d", k, c, n, tenth)
			}
		}
	}
}
