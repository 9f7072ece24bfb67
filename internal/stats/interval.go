package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// An Interval is a confidence interval. Both ends are NaN when there are too few values for one.
type Interval struct{ Low, High float64 }

// Known reports whether there is an interval.
func (i Interval) Known() bool { return !math.IsNaN(i.Low) && !math.IsNaN(i.High) }

// Within reports whether the whole interval lies in [low, high].
func (i Interval) Within(low, high float64) bool { return i.Known() && i.Low >= low && i.High <= high }

// Excludes reports whether v lies outside.
func (i Interval) Excludes(v float64) bool { return i.Known() && (i.Low > v || i.High < v) }

// Unbounded returns i with infinite ends where they come from values that were [Bounded].
func (i Interval) Unbounded() Interval { return Interval{unbounded(i.Low), unbounded(i.High)} }

const (
	// smallSample is from how many values on the bootstrap is believed. Of n values it can only make means between the
	// smallest and the largest, which for a handful are too close together.
	smallSample = 8
	// resamples is how many samples the bootstrap draws.
	resamples = 2000
)

// MeanInterval returns a confidence interval for the mean of what xs is a sample of: in a share of 1-alpha of all samples it has the mean
// inside. All of xs must be finite.
//
// From 8 values on it is the bootstrap's BCa interval (Efron 1987, "Better bootstrap confidence intervals"), whose levels are widened to
// those of Student's t (Hesterberg 2015, "What teachers should know about the bootstrap", 5.3), because the plain one is too narrow for
// small samples. With 2 to 7 values it is Student's t interval; with fewer there is none. The bootstrap draws from seed.
func MeanInterval(xs []float64, alpha float64, seed uint64) Interval {
	return Sample(xs, seed).Interval(alpha)
}

// A Resampled is a sample with the means of its bootstrap samples, from which intervals of several levels can be read.
type Resampled struct {
	xs    []float64
	mean  float64
	means []float64 // sorted; empty for a small or constant sample
}

// Sample prepares intervals for the mean of xs, which must be finite and must not be changed.
func Sample(xs []float64, seed uint64) *Resampled {
	r := &Resampled{xs: xs, mean: Mean(xs)}
	n := len(xs)
	if n < smallSample || constant(xs) {
		return r
	}
	rng := rand.NewPCG(seed, uint64(n))
	r.means = make([]float64, resamples)
	for i := range r.means {
		var sum float64
		for k := 0; k < n; {
			// Four indices from one draw: with 16 bits each, none is more likely than another by more than n in 65,536.
			for bits, left := rng.Uint64(), min(4, n-k); left > 0; left-- {
				sum += xs[(bits&0xffff)*uint64(n)>>16]
				bits >>= 16
				k++
			}
		}
		r.means[i] = sum / float64(n)
	}
	slices.Sort(r.means)
	return r
}

func constant(xs []float64) bool {
	for _, x := range xs {
		if x != xs[0] {
			return false
		}
	}
	return true
}

// Interval returns the interval of the level 1-alpha (0 < alpha < 1); see [MeanInterval].
func (r *Resampled) Interval(alpha float64) Interval {
	n := float64(len(r.xs))
	switch {
	case n < 2:
		return Interval{math.NaN(), math.NaN()}
	case constant(r.xs):
		return Interval{r.xs[0], r.xs[0]}
	}
	t := studentQuantile(1-alpha/2, n-1)
	if len(r.means) == 0 {
		half := t * Deviation(r.xs) / math.Sqrt(n)
		return Interval{r.mean - half, r.mean + half}
	}
	z := t * math.Sqrt(n/(n-1))
	return Interval{r.corrected(-z), r.corrected(z)}
}

// corrected is the end of a BCa interval that a normal bootstrap distribution would have at z.
func (r *Resampled) corrected(z float64) float64 {
	// The bias: how far the middle of the resamples is from the mean of the sample.
	below := 0.0
	for _, m := range r.means {
		switch {
		case m < r.mean:
			below++
		case m == r.mean:
			below += 0.5
		default:
		}
	}
	b := float64(len(r.means))
	bias := normalQuantile(min(max(below/b, 0.5/b), 1-0.5/b))
	// The acceleration: how the spread changes with the mean. The jackknife of a mean comes down to its skewness.
	var squares, cubes float64
	for _, x := range r.xs {
		d := x - r.mean
		squares += d * d
		cubes += d * d * d
	}
	acceleration := cubes / (6 * math.Pow(squares, 1.5))

	w := bias + z
	if bend := 1 - acceleration*w; bend > 0 {
		w = bias + w/bend
	} else {
		w = math.Copysign(math.Inf(1), z)
	}
	return quantile(r.means, normalCDF(w))
}

// quantile is the p-quantile (0 to 1) of sorted, with a straight line between its elements.
func quantile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	i := min(max(int(at), 0), len(sorted)-1)
	if i == len(sorted)-1 {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
