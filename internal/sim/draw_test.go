package sim

import (
	"math"
	"slices"
	"testing"
	"time"
)

// cdf is the distribution function of d at x ns.
func cdf(d Dist, x float64) float64 {
	mean := float64(d.Mean)
	switch d.Shape {
	case Exponential:
		return 1 - math.Exp(-x/mean)
	case Lognormal:
		mu := math.Log(mean) - d.Sigma*d.Sigma/2
		return .5 * math.Erfc(-(math.Log(x)-mu)/d.Sigma/math.Sqrt2)
	case Uniform:
		lo := float64(d.Mean - d.Spread)
		return min(1, max(0, (x-lo)/(2*float64(d.Spread))))
	}
	return 0
}

// Samples follow their distribution: the Kolmogorov-Smirnov distance is below the value that a true sample exceeds once
// in 10,000 times, and the mean is within 4 standard errors.
func TestSamples(t *testing.T) {
	const n = 200_000
	for _, d := range []Dist{
		{Shape: Exponential, Mean: time.Second},
		{Shape: Lognormal, Mean: time.Second, Sigma: .8},
		{Shape: Uniform, Mean: time.Second, Spread: 700 * time.Millisecond},
	} {
		xs := make([]float64, n)
		var sum, sq float64
		for i := range xs {
			x := float64(d.sample(42, streamService, uint64(i)))
			xs[i], sum, sq = x, sum+x, sq+x*x
		}
		slices.Sort(xs)
		var far float64
		for i, x := range xs {
			f := cdf(d, x)
			far = max(far, math.Abs(f-float64(i)/n), math.Abs(f-float64(i+1)/n))
		}
		if limit := 2.23 / math.Sqrt(n); far > limit {
			t.Errorf("%v: the distance is %.5f, want below %.5f", d.Shape, far, limit)
		}
		mean := sum / n
		se := math.Sqrt((sq/n - mean*mean) / n)
		if math.Abs(mean-float64(d.Mean)) > 4*se {
			t.Errorf("%v: the mean is %v, want %v within %v", d.Shape, time.Duration(mean), d.Mean, time.Duration(4*se))
		}
	}
	if d := (Dist{Mean: time.Second}); d.sample(1, streamService, 1) != int64(time.Second) {
		t.Error("constant is not")
	}
}

// Draws of neighbouring numbers, streams and seeds have nothing to do with each other.
func TestDrawsAreIndependent(t *testing.T) {
	const n = 100_000
	for name, pair := range map[string]func(uint64) (uint64, uint64){
		"numbers": func(i uint64) (uint64, uint64) { return draw(1, streamService, i), draw(1, streamService, i+1) },
		"streams": func(i uint64) (uint64, uint64) { return draw(1, streamService, i), draw(1, streamThink, i) },
		"seeds":   func(i uint64) (uint64, uint64) { return draw(1, streamService, i), draw(2, streamService, i) },
		"swapped": func(i uint64) (uint64, uint64) { return draw(i, streamService, 1), draw(i+1, streamService, 1) },
	} {
		var sum float64
		for i := range uint64(n) {
			a, b := pair(i)
			sum += (uniform(a) - .5) * (uniform(b) - .5) * 12
		}
		if r := sum / n; math.Abs(r) > 4/math.Sqrt(n) {
			t.Errorf("%s: correlation %.4f", name, r)
		}
	}
}
