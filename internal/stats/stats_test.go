package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func near(got, want, by float64) bool {
	return got == want || math.Abs(got-want) <= by || math.IsNaN(got) && math.IsNaN(want)
}

// Values from the tables of any textbook.
func TestDistributions(t *testing.T) {
	for _, c := range []struct{ p, df, want float64 }{
		{0.975, 1, 12.706204736}, {0.975, 2, 4.302652730}, {0.975, 3, 3.182446305}, {0.995, 7, 3.499483297},
		{0.95, 15, 1.753050356}, {0.975, 63, 1.998340543}, {0.5, 4, 0}, {0.025, 3, -3.182446305},
	} {
		if got := studentQuantile(c.p, c.df); !near(got, c.want, 1e-6) {
			t.Errorf("studentQuantile(%v, %v) = %v, want %v", c.p, c.df, got, c.want)
		}
		if got := studentCDF(c.want, c.df); !near(got, c.p, 1e-8) {
			t.Errorf("studentCDF(%v, %v) = %v, want %v", c.want, c.df, got, c.p)
		}
	}
	for _, c := range []struct{ p, want float64 }{{0.5, 0}, {0.975, 1.959963985}, {0.005, -2.575829304}} {
		if got := normalQuantile(c.p); !near(got, c.want, 1e-8) {
			t.Errorf("normalQuantile(%v) = %v, want %v", c.p, got, c.want)
		}
		if got := normalCDF(c.want); !near(got, c.p, 1e-9) {
			t.Errorf("normalCDF(%v) = %v, want %v", c.want, got, c.p)
		}
	}
}

func TestSignedRank(t *testing.T) {
	// Hollander and Wolfe (1973), p. 29f, as in R's help page of wilcox.test: V = 40, one-sided p = 0.01953.
	x := []float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}
	y := []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}
	var ds []float64
	for i := range x {
		ds = append(ds, x[i]-y[i])
	}
	if got := SignedRank(ds); !near(got, 0.0390625, 1e-12) {
		t.Errorf("SignedRank = %v, want 0.0390625", got)
	}
	for _, c := range []struct {
		ds   []float64
		want float64
	}{
		{nil, 1}, {[]float64{0, 0}, 1}, {[]float64{3}, 1}, {[]float64{1, 2, 3, 4, 5, 6, 7, 8}, 2.0 / 256},
		{[]float64{-1, -2, -3, -4, -5, -6, -7, -8}, 2.0 / 256},
		{[]float64{1, 1, 1, 1, 1, 1, 1, 1}, 2.0 / 256}, {[]float64{1, -1, 1, -1}, 1},
	} {
		if got := SignedRank(c.ds); !near(got, c.want, 1e-12) {
			t.Errorf("SignedRank(%v) = %v, want %v", c.ds, got, c.want)
		}
	}
}

// The exact distribution is the count of all signs.
func TestSignedRankEqualsCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(rapid.Map(rapid.Float64Range(-3, 3), math.Round), 1, 9).Draw(t, "ds")
		var rest []float64
		for _, d := range ds {
			if d != 0 {
				rest = append(rest, d)
			}
		}
		rank := func(d float64) float64 {
			r := 0.0
			for _, e := range rest {
				switch {
				case math.Abs(e) < math.Abs(d):
					r++
				case math.Abs(e) == math.Abs(d):
					r += 0.5
				default:
				}
			}
			return r + 0.5
		}
		var plus, total float64
		for _, d := range rest {
			total += rank(d)
			if d > 0 {
				plus += rank(d)
			}
		}
		extreme := min(plus, total-plus)
		count := 0
		for signs := range 1 << len(rest) {
			s := 0.0
			for i, d := range rest {
				if signs>>i&1 == 1 {
					s += rank(d)
				}
			}
			if s <= extreme {
				count++
			}
		}
		want := min(1, 2*float64(count)/float64(int(1)<<len(rest)))
		if len(rest) == 0 {
			want = 1
		}
		if got := SignedRank(ds); !near(got, want, 1e-12) {
			t.Fatalf("SignedRank(%v) = %v, want %v", ds, got, want)
		}
	})
}

func TestHolm(t *testing.T) {
	for _, c := range []struct{ ps, want []float64 }{
		{[]float64{0.01, 0.02, 0.03}, []float64{0.03, 0.04, 0.04}},
		{[]float64{0.03, 0.01, 0.9}, []float64{0.06, 0.03, 0.9}},
		{[]float64{0.5, 0.6}, []float64{1, 1}},
		{nil, nil},
	} {
		got := Holm(c.ps)
		for i := range c.want {
			if !near(got[i], c.want[i], 1e-12) {
				t.Errorf("Holm(%v) = %v, want %v", c.ps, got, c.want)
			}
		}
	}
}

// In how many samples the mean is inside, for shapes that runs have.
func TestIntervalsCover(t *testing.T) {
	const samples = 1000
	for _, c := range []struct {
		name  string
		draw  func(*rand.Rand) float64
		mean  float64
		least map[int]float64 // by size of the sample
	}{
		{"normal", func(r *rand.Rand) float64 { return 3 + r.NormFloat64() }, 3, map[int]float64{3: 0.93, 4: 0.93, 8: 0.93, 16: 0.93, 64: 0.935}},
		{"uniform", func(r *rand.Rand) float64 { return r.Float64() }, 0.5, map[int]float64{4: 0.92, 8: 0.93, 16: 0.93}},
		{"exponential", func(r *rand.Rand) float64 { return r.ExpFloat64() }, 1, map[int]float64{4: 0.85, 8: 0.89, 16: 0.91, 64: 0.93}},
	} {
		for _, n := range []int{3, 4, 8, 16, 64} {
			least, asked := c.least[n]
			if !asked {
				continue
			}
			rng := rand.New(rand.NewPCG(7, uint64(n)))
			inside := 0
			for i := range samples {
				xs := make([]float64, n)
				for k := range xs {
					xs[k] = c.draw(rng)
				}
				if in := MeanInterval(xs, 0.05, uint64(i)); !in.Excludes(c.mean) {
					inside++
				}
			}
			share := float64(inside) / samples
			t.Logf("%s, %d values: %.1f %% of 95 %%", c.name, n, 100*share)
			if share < least {
				t.Errorf("%s, %d values: the mean is in %.1f %% of the intervals, want at least %.1f %%", c.name, n, 100*share, 100*least)
			}
		}
	}
}

func TestIntervals(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		xs   []float64
		want Interval
	}{
		{nil, Interval{nan, nan}}, {[]float64{4}, Interval{nan, nan}}, {[]float64{2, 2, 2}, Interval{2, 2}},
		// Student: 2 ± 4.302653 · 1/√3.
		{[]float64{1, 2, 3}, Interval{2 - 2.484138, 2 + 2.484138}},
		{slices.Repeat([]float64{0.5}, 20), Interval{0.5, 0.5}},
	} {
		if got := MeanInterval(c.xs, 0.05, 1); !near(got.Low, c.want.Low, 1e-5) || !near(got.High, c.want.High, 1e-5) {
			t.Errorf("MeanInterval(%v) = %v, want %v", c.xs, got, c.want)
		}
	}
	xs := []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 30}
	a, b := MeanInterval(xs, 0.05, 1), MeanInterval(xs, 0.05, 1)
	if a != b {
		t.Errorf("the same seed gives %v and %v", a, b)
	}
	// To the right, where the long tail is, the interval reaches further.
	if m := Mean(xs); !(a.High-m > m-a.Low) {
		t.Errorf("the interval %v of a sample with a long tail lies evenly about %v", a, m)
	}
	if wide := MeanInterval(xs, 0.001, 1); wide.Low > a.Low || wide.High < a.High {
		t.Errorf("the interval of level 99.9 %% is %v, narrower than %v", wide, a)
	}
}

func TestLooks(t *testing.T) {
	for _, n := range []int{1, 2, 16} {
		var sum float64
		for _, l := range Looks(0.05, n) {
			if l <= 0 {
				t.Errorf("Looks(0.05, %d) has %v", n, l)
			}
			sum += l
		}
		if !near(sum, 0.05, 1e-12) {
			t.Errorf("Looks(0.05, %d) add up to %v", n, sum)
		}
	}
}

var (
	share  = Measure{Name: "goodput", MinEffect: 0.01}
	refuse = Measure{Name: "429s", MinEffect: 0.01, Lower: true}
	tail   = Measure{Name: "p99", MinEffect: 0.01, Lower: true, Relative: true}
)

func TestCompare(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name string
		m    Measure
		a, b []float64
		want Verdict
	}{
		{"better", share, []float64{0.8, 0.81, 0.82}, []float64{0.9, 0.912, 0.921}, Better},
		{"worse", share, []float64{0.9, 0.912, 0.921}, []float64{0.8, 0.81, 0.82}, Worse},
		{"lower is better", refuse, []float64{0.5, 0.52, 0.51}, []float64{0.1, 0.12, 0.11}, Better},
		{"relative", tail, []float64{10, 12, 11, 9}, []float64{11, 13.2, 12.1, 9.9}, Worse},
		{"the same", share, []float64{0.8, 0.9, 0.7}, []float64{0.8, 0.9, 0.7}, Equivalent},
		{"a hair", share, []float64{0.8, 0.9, 0.7}, []float64{0.801, 0.9, 0.7005}, Equivalent},
		{"too noisy", share, []float64{0.8, 0.9, 0.7}, []float64{0.9, 0.8, 0.75}, Inconclusive},
		{"one seed", share, []float64{0.2}, []float64{0.9}, Inconclusive},
		{"no seed", share, nil, nil, Inconclusive},
		{"undefined", share, []float64{nan, 0.5}, []float64{0.5, math.Inf(1)}, Inconclusive},
		{"from nothing", tail, []float64{0, 0, 0, 0}, []float64{1, 2, 1, 2}, Worse},
		{"nothing at all", tail, []float64{0, 0, 0, 0}, []float64{0, 0, 0, 0}, Equivalent},
	} {
		got := Compare([]Pairs{{c.m, c.a, c.b}}, 0.05, 1)[0]
		if got.Verdict != c.want {
			t.Errorf("%s: %v, want %v: %+v", c.name, got.Verdict, c.want, got)
		}
	}
}

// A time that never came is more than any other, and as much as another one: it is not left out.
func TestCompareNever(t *testing.T) {
	settle := Measure{Name: "settle", MinEffect: 1, Lower: true}
	never := math.Inf(1)
	for _, c := range []struct {
		name string
		a, b []float64
		want Verdict
		mean [2]float64
		more bool // the effect is +Inf
	}{
		{"never again", []float64{3, 2, 1, 2}, []float64{never, never, never, never}, Worse, [2]float64{2, never}, true},
		{"nobody", []float64{never, never, never}, []float64{never, never, never}, Equivalent, [2]float64{never, never}, false},
		{"better, but for once", []float64{9, 9, 9, 9, 9, 9, 9, 9}, []float64{1, 2, 1, 2, 1, 2, 1, never}, Inconclusive, [2]float64{9, never}, true},
		{"undefined is left out", []float64{math.NaN(), 9, 9.5, 9.1}, []float64{never, 3, 3.1, 3.2}, Better, [2]float64{9.2, 3.1}, false},
	} {
		got := Compare([]Pairs{{settle, c.a, c.b}}, 0.05, 1)[0]
		same := func(a, b float64) bool { return a == b || near(a, b, 1e-9) }
		if got.Verdict != c.want || !same(got.Baseline, c.mean[0]) || !same(got.Candidate, c.mean[1]) || math.IsInf(got.Effect, 1) != c.more || math.IsInf(got.Interval.High, 1) != c.more {
			t.Errorf("%s: %+v, want %v of %v, endless: %v", c.name, got, c.want, c.mean, c.more)
		}
	}
}

// Swapping both sides turns better into worse and leaves the rest.
func TestCompareIsAntisymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "n")
		a := rapid.SliceOfN(rapid.Float64Range(0, 1), n, n).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Float64Range(0, 1), n, n).Draw(t, "b")
		x := Compare([]Pairs{{share, a, b}}, 0.05, 1)[0]
		y := Compare([]Pairs{{share, b, a}}, 0.05, 1)[0]
		want := map[Verdict]Verdict{Better: Worse, Worse: Better, Equivalent: Equivalent, Inconclusive: Inconclusive}[x.Verdict]
		// The bootstrap's draws are not mirrored, so that at the very edge of a level the two may differ in being conclusive.
		if y.Verdict != want && x.Verdict != Inconclusive && y.Verdict != Inconclusive {
			t.Fatalf("%v one way, %v the other", x.Verdict, y.Verdict)
		}
		if !near(x.Effect, -y.Effect, 1e-12) {
			t.Fatalf("effects %v and %v", x.Effect, y.Effect)
		}
	})
}

// sequential adds pairs in blocks of 4 to at most 64 until both figures are decided.
func sequential(seed uint64, draw func() (a, b [2]float64)) ([]Comparison, int) {
	figures := []Pairs{{Measure: share}, {Measure: refuse}}
	looks := Looks(0.05, 16)
	var cs []Comparison
	for k, alpha := range looks {
		for range 4 {
			a, b := draw()
			for i := range figures {
				figures[i].Baseline = append(figures[i].Baseline, a[i])
				figures[i].Candidate = append(figures[i].Candidate, b[i])
			}
		}
		if cs = Compare(figures, alpha, seed); Decided(cs) {
			return cs, 4 * (k + 1)
		}
	}
	return cs, 64
}

// What is not there is rarely found, and what is there nearly always, with looks at growing data. The same with real
// runs is in internal/lab.
func TestSequentialErrors(t *testing.T) {
	const pairs = 200
	for _, c := range []struct {
		name  string
		noise func(*rand.Rand) float64
	}{
		{"normal", func(r *rand.Rand) float64 { return r.NormFloat64() }},
		{"skewed", func(r *rand.Rand) float64 { return r.ExpFloat64() - 1 }},
	} {
		for _, effect := range []float64{0, 0.03} {
			rng := rand.New(rand.NewPCG(11, 3))
			called, found, seeds := 0, 0, 0
			for i := range pairs {
				cs, n := sequential(uint64(i), func() (a, b [2]float64) {
					for k := range a {
						common := rng.NormFloat64() * 0.05
						a[k] = 0.5 + common + 0.03*c.noise(rng)
						b[k] = 0.5 + common + 0.03*c.noise(rng)
					}
					b[0] += effect
					return a, b
				})
				seeds += n
				for k, x := range cs {
					if x.Verdict == Better || x.Verdict == Worse {
						if k == 0 && effect > 0 {
							if x.Verdict == Better {
								found++
							}
							continue
						}
						called++
						break
					}
				}
			}
			t.Logf("%s noise, planted %.0f %%: found in %.1f %%, called what is not there in %.1f %% of %d pairs, %.1f seeds each",
				c.name, 100*effect, 100*float64(found)/pairs, 100*float64(called)/pairs, pairs, float64(seeds)/pairs)
			if share := float64(called) / pairs; share > 0.05 {
				t.Errorf("%s noise: %.1f %% of the pairs differ in what is alike, want at most 5 %%", c.name, 100*share)
			}
			if share := float64(found) / pairs; effect > 0 && share < 0.9 {
				t.Errorf("%s noise: %.1f %% of the planted differences are found, want at least 90 %%", c.name, 100*share)
			}
		}
	}
}

func TestCVaR(t *testing.T) {
	xs := []float64{0.9, 0.1, 0.5, 0.8, 0.7, 0.6, 0.95, 0.97, 0.98, 0.3}
	for _, c := range []struct{ share, want float64 }{{0.2, 0.2}, {0.1, 0.1}, {1, 0.68}, {0.25, (0.1 + 0.3 + 0.5*0.5) / 2.5}, {0.05, 0.1}} {
		if got := CVaR(xs, c.share); !near(got, c.want, 1e-12) {
			t.Errorf("CVaR(%v) = %v, want %v", c.share, got, c.want)
		}
	}
	if got := CVaR(nil, 0.2); !math.IsNaN(got) {
		t.Errorf("CVaR of nothing = %v", got)
	}
}

func TestWarmUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var xs []float64
	for i := range 400 {
		v := 10.0
		if i < 60 {
			v = 10 * float64(i) / 60
		}
		xs = append(xs, v+0.2*rng.NormFloat64())
	}
	if got := WarmUp(xs); got < 40 || got > 80 {
		t.Errorf("a rise over 60 of 400 values: WarmUp = %d, want 40 to 80", got)
	}
	if got := WarmUp([]float64{1, 2, 3}); got != 0 {
		t.Errorf("WarmUp of 3 values = %d", got)
	}
	if got := Swing(xs); got > 0.05 {
		t.Errorf("Swing = %v, want that of the noise", got)
	}
}

// MSER-5 is a search for the least; here it is done the slow way.
func TestWarmUpEqualsSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(rapid.Float64Range(-10, 10), 0, 120).Draw(t, "xs")
		var batches []float64
		for i := 0; i+5 <= len(xs); i += 5 {
			batches = append(batches, Mean(xs[i:i+5]))
		}
		value := func(d int) float64 {
			rest := batches[d:]
			var e float64
			for _, b := range rest {
				e += (b - Mean(rest)) * (b - Mean(rest))
			}
			return e / float64(len(rest)*len(rest))
		}
		got := WarmUp(xs) / 5
		for d := 0; d <= len(batches)/2 && d < len(batches); d++ {
			if value(d) < value(got)-1e-9 {
				t.Fatalf("WarmUp leaves out %d batches, %d are better: %v > %v", got, d, value(got), value(d))
			}
		}
	})
}

func TestVerdictText(t *testing.T) {
	for v := Inconclusive; v <= Equivalent; v++ {
		text, _ := v.MarshalText()
		var back Verdict
		if err := back.UnmarshalText(text); err != nil || back != v {
			t.Errorf("%s reads as %v, %v", text, back, err)
		}
	}
	if err := new(Verdict).UnmarshalText([]byte("bad")); err == nil {
		t.Error("an unknown verdict is read")
	}
}

func TestPercentile(t *testing.T) {
	for _, test := range []struct {
		sorted []int
		p      float64
		want   int
	}{
		{[]int{7}, 0, 7},
		{[]int{7}, 100, 7},
		{[]int{15, 20, 35, 40, 50}, 5, 15},
		{[]int{15, 20, 35, 40, 50}, 30, 20},
		{[]int{15, 20, 35, 40, 50}, 40, 20},
		{[]int{15, 20, 35, 40, 50}, 50, 35},
		{[]int{15, 20, 35, 40, 50}, 100, 50},
	} {
		if got, ok := Percentile(test.sorted, test.p); !ok || got != test.want {
			t.Errorf("Percentile(%v, %v) = %v, %v, want %v", test.sorted, test.p, got, ok, test.want)
		}
	}
	if got, ok := Percentile([]int{}, 50); ok || got != 0 {
		t.Errorf("Percentile of nothing = %v, %v, want 0, false", got, ok)
	}
	thousand := make([]int, 1000)
	for i := range thousand {
		thousand[i] = i + 1
	}
	if got, _ := Percentile(thousand, 99.9); got != 999 {
		t.Errorf("Percentile(1…1000, 99.9) = %v, want 999", got)
	}
	for _, p := range []float64{-1, 100.1, math.NaN()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Percentile(_, %v) did not panic", p)
				}
			}()
			Percentile(thousand, p)
		}()
	}
}

// The definition, element by element: the smallest with p percent at or below.
func TestPercentileEqualsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 50).Draw(t, "xs")
		p := rapid.IntRange(0, 100).Draw(t, "p")
		slices.Sort(xs)
		atOrBelow := func(v int) int {
			n := 0
			for _, x := range xs {
				if x <= v {
					n++
				}
			}
			return n
		}
		got, _ := Percentile(xs, float64(p))
		if atOrBelow(got)*100 < p*len(xs) {
			t.Fatalf("Percentile(%v, %d) = %d has less than %d %% at or below it", xs, p, got, p)
		}
		for _, x := range xs {
			if x < got && atOrBelow(x)*100 >= p*len(xs) {
				t.Fatalf("Percentile(%v, %d) = %d, but %d suffices", xs, p, got, x)
			}
		}
	})
}

func TestMean(t *testing.T) {
	for _, test := range []struct {
		xs   []float64
		want float64
	}{
		{nil, math.NaN()}, {[]float64{math.NaN(), math.Inf(1)}, math.NaN()}, {[]float64{1, math.NaN(), 3}, 2}, {[]float64{-1, 1}, 0},
	} {
		if got := Mean(test.xs); !near(got, test.want, 1e-12) {
			t.Errorf("Mean(%v) = %v, want %v", test.xs, got, test.want)
		}
	}
}

func TestJain(t *testing.T) {
	for _, test := range []struct {
		xs   []float64
		want float64
	}{
		{nil, 1}, {[]float64{0, 0}, 1}, {[]float64{5}, 1}, {[]float64{1, 1, 1, 1}, 1}, {[]float64{1, 0, 0, 0}, 0.25},
		{[]float64{1, 2, 3}, 36.0 / 42}, {[]float64{1e300, 1e300}, 1}, {[]float64{1e-300, 0}, 0.5},
	} {
		if got := Jain(test.xs); !near(got, test.want, 1e-12) {
			t.Errorf("Jain(%v) = %v, want %v", test.xs, got, test.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(rapid.Float64Range(0, 1e6), 1, 20).Draw(t, "xs")
		if j := Jain(xs); j < 1/float64(len(xs))-1e-9 || j > 1+1e-9 {
			t.Fatalf("Jain(%v) = %v", xs, j)
		}
	})
}

func TestTimeWeighted(t *testing.T) {
	var w TimeWeighted
	if got := w.Mean(time.Second); !math.IsNaN(got) {
		t.Errorf("before any value: %v", got)
	}
	w.Set(time.Second, 2)
	w.Set(3*time.Second, 6)
	w.Set(2*time.Second, 4) // time stands still
	if got := w.Mean(5 * time.Second); !near(got, (2*2+4*2)/4.0, 1e-12) {
		t.Errorf("Mean = %v, want 3", got)
	}
	if got := w.Mean(0); !near(got, 2, 1e-12) {
		t.Errorf("Mean to before the last value = %v, want 2", got)
	}
}

func TestMovingMean(t *testing.T) {
	got := MovingMean(time.Second, []float64{1, 2, math.NaN(), 4, 6}, 2*time.Second)
	want := []float64{1, 1.5, 2, 4, 5}
	for i := range want {
		if !near(got[i], want[i], 1e-12) {
			t.Errorf("MovingMean = %v, want %v", got, want)
			break
		}
	}
}
