package draw

import (
	"math"
	"slices"
	"testing"
)

// cdf is the distribution function of d at x.
func cdf(d *Dist, x float64) float64 {
	phi := func(z float64) float64 { return .5 * math.Erfc(-z/math.Sqrt2) }
	switch d.Shape {
	case Exponential:
		return 1 - math.Exp(-x/d.Mean)
	case Lognormal:
		return phi((math.Log(x) - math.Log(d.Mean) + d.Sigma*d.Sigma/2) / d.Sigma)
	case Uniform:
		return min(1, max(0, (x-d.Mean+d.Spread)/(2*d.Spread)))
	case Normal:
		return phi((x - d.Mean) / d.Spread)
	case Weibull:
		return 1 - math.Exp(-math.Pow(x*math.Gamma(1+1/d.Sigma)/d.Mean, d.Sigma))
	case Pareto:
		tail := math.Pow(d.Mean/d.Max, d.Alpha)
		return (1 - math.Pow(d.Mean/x, d.Alpha)) / (1 - tail)
	case Gamma: // with a whole shape k: the Erlang distribution
		k := int(math.Round(1 / d.Sigma / d.Sigma))
		y := x / d.Mean * float64(k)
		sum, term := 0.0, 1.0
		for i := range k {
			if i > 0 {
				term *= y / float64(i)
			}
			sum += term
		}
		return 1 - math.Exp(-y)*sum
	case Mixture:
		var f, w float64
		for i := range d.Parts {
			f += d.Parts[i].Weight * cdf(&d.Parts[i].Dist, x)
			w += d.Parts[i].Weight
		}
		return f / w
	}
	return 0
}

// Samples follow their distribution: the Kolmogorov-Smirnov distance is below the value that a true sample exceeds once
// in 10,000 times, and the mean is within 4 standard errors of Average.
func TestSamples(t *testing.T) {
	const n = 200_000
	for _, d := range []Dist{
		{Shape: Exponential, Mean: 1e9},
		{Shape: Lognormal, Mean: 1e9, Sigma: .8},
		{Shape: Uniform, Mean: 1e9, Spread: 7e8},
		{Shape: Normal, Mean: 1e9, Spread: 1e8},
		{Shape: Gamma, Mean: 1e9, Sigma: .5},
		{Shape: Gamma, Mean: 1e9, Sigma: 1},
		{Shape: Weibull, Mean: 1e9, Sigma: .7},
		{Shape: Pareto, Mean: 1e9, Alpha: 1.3, Max: 600e9},
		{Shape: Mixture, Parts: []Part{{7, Dist{Shape: Lognormal, Mean: 8e9, Sigma: .8}}, {3, Dist{Shape: Exponential, Mean: 3e9}}}},
	} {
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		xs := make([]float64, n)
		var sum, sq float64
		for i := range xs {
			x := d.Sample(42, 2, uint64(i))
			xs[i], sum, sq = x, sum+x, sq+x*x
		}
		slices.Sort(xs)
		var far float64
		for i, x := range xs {
			f := cdf(&d, x)
			far = max(far, math.Abs(f-float64(i)/n), math.Abs(f-float64(i+1)/n))
		}
		if limit := 2.23 / math.Sqrt(n); far > limit {
			t.Errorf("%v: the distance is %.5f, want below %.5f", d.Shape, far, limit)
		}
		mean := sum / n
		se := math.Sqrt((sq/n - mean*mean) / n)
		if want := d.Average(); math.Abs(mean-want) > 4*se+1e-3*want {
			t.Errorf("%v: the mean is %v, want %v within %v", d.Shape, mean, want, 4*se)
		}
	}
	for _, d := range []Dist{
		{Shape: Lognormal, Mean: 1000, Sigma: 1.2, Min: 100, Max: 5000},
		{Shape: Table, Quantiles: []Quantile{{0, 5}, {.5, 100}, {.9, 400}, {1, 1000}}},
		{Shape: Mixture, Min: 1, Max: 8000, Parts: []Part{{1, Dist{Shape: Lognormal, Mean: 900, Sigma: 1.3}}, {2, Dist{Shape: Lognormal, Mean: 2700, Sigma: .7}}}},
	} {
		sum := 0.0
		for i := range uint64(n) {
			sum += d.Sample(42, 3, i)
		}
		if got, want := d.Average(), sum/n; math.Abs(got/want-1) > .01 {
			t.Errorf("%v with bounds: Average is %.2f, the samples have %.2f", d.Shape, got, want)
		}
	}
	for _, d := range []Dist{{Mean: 1e9}, {Mean: 7e9, Max: 1e9}, {Mean: 1, Min: 1e9}, {Mean: 5e9, Max: 4e8, Offset: 6e8}} {
		if d.Int(1, 2, 1) != 1e9 || d.Average() != 1e9 {
			t.Errorf("%+v is constant, and gives %d, %v on average", d, d.Int(1, 2, 1), d.Average())
		}
	}
}

// A gamma distribution that is burstier than an exponential has the coefficient of variation that it says.
func TestGammaCV(t *testing.T) {
	const n = 400_000
	d := Dist{Shape: Gamma, Mean: 1, Sigma: 2}
	var sum, sq float64
	for i := range uint64(n) {
		x := d.Sample(7, 1, i)
		sum, sq = sum+x, sq+x*x
	}
	mean := sum / n
	cv := math.Sqrt(sq/n-mean*mean) / mean
	if math.Abs(mean-1) > .02 || math.Abs(cv-2) > .03 {
		t.Errorf("mean %v, coefficient of variation %v; want 1 and 2", mean, cv)
	}
}

// A table gives back its quantiles.
func TestTable(t *testing.T) {
	const n = 200_000
	d := Dist{Shape: Table, Quantiles: []Quantile{{0, 5}, {.5, 100}, {.9, 400}, {1, 1000}}}
	xs := make([]float64, n)
	for i := range xs {
		xs[i] = d.Sample(3, 1, uint64(i))
	}
	slices.Sort(xs)
	for _, q := range d.Quantiles[1:3] {
		if got := xs[int(q.P*n)]; math.Abs(got/q.Value-1) > .02 {
			t.Errorf("the %v quantile is %v, want %v", q.P, got, q.Value)
		}
	}
	if xs[0] < 5 || xs[n-1] > 1000 {
		t.Errorf("samples from %v to %v, want within 5 to 1000", xs[0], xs[n-1])
	}
}

// What is out of range is refused with the number.
func TestCheck(t *testing.T) {
	for name, d := range map[string]Dist{
		"negative":    {Mean: -1},
		"nan":         {Mean: math.NaN()},
		"sigma":       {Shape: Lognormal, Mean: 1, Sigma: 9},
		"spread":      {Shape: Uniform, Mean: 1, Spread: 2},
		"infinite":    {Shape: Pareto, Mean: 1, Alpha: .9},
		"no parts":    {Shape: Mixture},
		"nested":      {Shape: Mixture, Parts: []Part{{1, Dist{Shape: Mixture}}}},
		"unordered":   {Shape: Table, Quantiles: []Quantile{{.5, 1}, {.2, 2}}},
		"max below":   {Shape: Exponential, Mean: 1, Min: 5, Max: 2},
		"zero weight": {Shape: Mixture, Parts: []Part{{0, Dist{Mean: 1}}}},
	} {
		if err := d.Check(); err == nil {
			t.Errorf("%s: %+v is accepted", name, d)
		}
	}
}

// Draws of neighbouring numbers, streams and seeds have nothing to do with each other.
func TestDrawsAreIndependent(t *testing.T) {
	const n = 100_000
	for name, pair := range map[string]func(uint64) (uint64, uint64){
		"numbers": func(i uint64) (uint64, uint64) { return Bits(1, 2, i), Bits(1, 2, i+1) },
		"streams": func(i uint64) (uint64, uint64) { return Bits(1, 2, i), Bits(1, 3, i) },
		"seeds":   func(i uint64) (uint64, uint64) { return Bits(1, 2, i), Bits(2, 2, i) },
		"swapped": func(i uint64) (uint64, uint64) { return Bits(i, 2, 1), Bits(i+1, 2, 1) },
	} {
		var sum float64
		for i := range uint64(n) {
			a, b := pair(i)
			sum += (Unit(a) - .5) * (Unit(b) - .5) * 12
		}
		if r := sum / n; math.Abs(r) > 4/math.Sqrt(n) {
			t.Errorf("%s: correlation %.4f", name, r)
		}
	}
}

func TestChoose(t *testing.T) {
	w := []float64{1, 0, 3}
	for u, want := range map[float64]int{.1: 0, .24: 0, .26: 2, .99: 2} {
		if got := Choose(w, u); got != want {
			t.Errorf("Choose(%v, %v) is %d, want %d", w, u, got, want)
		}
	}
}
