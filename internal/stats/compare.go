package stats

import (
	"fmt"
	"math"
)

// A Verdict is what a comparison comes to.
type Verdict uint8

const (
	// Inconclusive: neither of the others can be said with these seeds.
	Inconclusive Verdict = iota
	// Better: the candidate is better than the baseline, by at least the smallest effect that counts.
	Better
	// Worse is the opposite.
	Worse
	// Equivalent: the difference is smaller than the smallest effect that counts.
	Equivalent
)

var verdictNames = [...]string{"inconclusive", "better", "worse", "equivalent"}

// String returns the verdict's name.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText writes the name.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads a name.
func (v *Verdict) UnmarshalText(text []byte) error {
	for i, name := range verdictNames {
		if name == string(text) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("stats: there is no verdict %q, only inconclusive, better, worse, equivalent", text)
}

// Measure is a figure that is compared.
type Measure struct {
	Name string
	// Lower says that less is better.
	Lower bool
	// Relative says that differences count as shares of the baseline's mean, and not as they are.
	Relative bool
	// MinEffect is the smallest difference that counts, in the figure's unit or as a share (> 0).
	MinEffect float64
}

// Pairs is a figure of a baseline and of a candidate, seed by seed.
type Pairs struct {
	Measure
	Baseline, Candidate []float64 // of equal length
}

// A Comparison is what Compare found about one figure.
type Comparison struct {
	Measure
	// Seeds is how many pairs were compared; Undefined were left out, because one of them is no number.
	Seeds, Undefined int
	// Baseline and Candidate are means over the seeds; +Inf when one of them is.
	Baseline, Candidate float64
	// Effect is the mean of the differences, candidate less baseline; Interval is its 95 % confidence interval, whatever
	// level the verdict was found at. Both are shares of the baseline's mean when Relative. Effect and the ends are infinite where
	// one of a pair is.
	Effect   float64
	Interval Interval
	// P is the p value of the difference, and Adjusted what Holm's procedure makes of it over all figures.
	P, Adjusted float64
	Verdict     Verdict
}

// shown is 1 less the level of the intervals that are shown.
const shown = 0.05

// Compare compares figures of a baseline and a candidate that met the same seeds. The chance that any verdict calls a
// difference which is not there is at most about alpha.
//
// A figure is [Better] or [Worse] when the confidence interval of the mean difference, of level 1-alpha, excludes 0, the p value
// after Holm's adjustment is at most alpha, and the effect is at least MinEffect. It is [Equivalent] when the interval of level 1-2·alpha lies
// within ±MinEffect, which is two one-sided tests (Schuirmann 1987). The p value is Wilcoxon's from 8 seeds on, and Student's below.
// A value of +Inf, a time that never came, is more than any number, and as much as another one.
func Compare(figures []Pairs, alpha float64, seed uint64) []Comparison {
	out := make([]Comparison, len(figures))
	samples := make([]*Resampled, len(figures))
	ps := make([]float64, len(figures))
	for i, f := range figures {
		if len(f.Baseline) != len(f.Candidate) {
			panic(fmt.Sprintf("stats: Compare: %s has %d and %d values", f.Name, len(f.Baseline), len(f.Candidate)))
		}
		c := &out[i]
		c.Measure = f.Measure
		var a, b []float64
		for k := range f.Baseline {
			if known(f.Baseline[k]) && known(f.Candidate[k]) {
				a, b = append(a, f.Baseline[k]), append(b, f.Candidate[k])
			}
		}
		c.Seeds, c.Undefined = len(a), len(f.Baseline)-len(a)
		c.Baseline, c.Candidate = UpperMean(a), UpperMean(b)
		scale := 1.0
		if f.Relative {
			scale = math.Abs(Mean(a))
		}
		ds := make([]float64, len(a))
		for k := range a {
			if d := Difference(a[k], b[k]); math.IsInf(d, 0) {
				ds[k] = Bounded(d)
			} else if d != 0 { // of nothing, any difference is endless, and none is none
				ds[k] = Bounded(d / scale)
			}
		}
		samples[i] = Sample(ds, seed)
		c.Effect, c.Interval = samples[i].mean, samples[i].Interval(shown)
		c.P = pairedT(ds)
		if len(ds) >= smallSample {
			c.P = SignedRank(ds)
		}
		ps[i] = c.P
	}
	for i, p := range Holm(ps) {
		c := &out[i]
		c.Adjusted = p
		different := samples[i].Interval(alpha)
		same := samples[i].Interval(2 * alpha)
		effect := c.Effect
		if c.Lower {
			effect = -effect
		}
		const hair = 1e-9 // 0.97 against 0.96 differs by a point, whatever its last bit is
		switch {
		case c.Seeds < 2:
		case same.Within(-c.MinEffect, c.MinEffect):
			c.Verdict = Equivalent
		case different.Excludes(0) && p <= alpha && math.Abs(effect) >= c.MinEffect-hair:
			c.Verdict = Worse
			if effect > 0 {
				c.Verdict = Better
			}
		}
		c.Effect, c.Interval = unbounded(c.Effect), c.Interval.Unbounded()
	}
	return out
}

// known reports whether a value can be compared: a number, or +Inf.
func known(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, -1) }

// Decided reports whether no comparison is inconclusive.
func Decided(cs []Comparison) bool {
	for _, c := range cs {
		if c.Verdict == Inconclusive {
			return false
		}
	}
	return true
}
