package stats

import (
	"cmp"
	"math"
	"time"
)

// Percentile returns the p-th percentile (0 to 100) of sorted, which must be in ascending order: the smallest element such that at least
// p percent of all elements are at or below it ("nearest rank"), so it is always a value that occurred. It returns the zero value
// and false when sorted is empty, and panics when p is not in [0, 100].
func Percentile[T cmp.Ordered](sorted []T, p float64) (T, bool) {
	if !(p >= 0 && p <= 100) {
		panic("stats: Percentile: p is not in [0, 100]")
	}
	if len(sorted) == 0 {
		var zero T
		return zero, false
	}
	// Multiply before dividing: 99.9*1000/100 is 999 in a float64, as it should be, while 99.9/100*1000 may come out a hair above
	// and ceil to 1000.
	rank := int(math.Ceil(p * float64(len(sorted)) / 100))
	return sorted[min(max(rank, 1), len(sorted))-1], true
}

// TimeWeighted is the mean over time of a quantity that jumps and is constant in between, such as the number in flight. The zero
// value is ready to use. Not safe for concurrent use.
type TimeWeighted struct {
	started     bool
	first, last time.Duration
	value, area float64 // area in units of the quantity times nanoseconds
}

// Set says that the quantity is v from the time at on. A time before the latest one counts as the latest one: time stands still.
func (w *TimeWeighted) Set(at time.Duration, v float64) {
	if !w.started {
		w.started, w.first, w.last = true, at, at
	}
	if at > w.last {
		w.area += w.value * float64(at-w.last)
		w.last = at
	}
	w.value = v
}

// Mean returns the mean from the first Set to end, and NaN if no time has passed. It does not change w.
func (w *TimeWeighted) Mean(end time.Duration) float64 {
	end = max(end, w.last)
	if !w.started || end == w.first {
		return math.NaN()
	}
	return (w.area + w.value*float64(end-w.last)) / float64(end-w.first)
}

// MovingMean returns the mean of the latest window of values at each step: the finite elements among the last window/step,
// including the present one, fewer at the beginning. It takes the noise out of a series.
func MovingMean(step time.Duration, values []float64, window time.Duration) []float64 {
	n := 1
	if step > 0 {
		n = max(1, int(window/step))
	}
	out := make([]float64, len(values))
	for i := range values {
		// Summing anew each time costs n per element and leaves no error behind when a large value moves out of the window.
		out[i] = Mean(values[max(0, i-n+1) : i+1])
	}
	return out
}

// mserBatch is how many values MSER-5 takes together.
const mserBatch = 5

// WarmUp returns how many values at the beginning of a series are its warm-up, by MSER-5 (White, Cobb and Spratt 2000): of the means of
// each five values, so many are left out that the standard error of the mean of the rest is least, and at most half of them. It is a multiple
// of 5; 0 for a series of fewer than 10. NaN and infinite values count as the mean of their batch's others.
func WarmUp(values []float64) int {
	batches := make([]float64, 0, len(values)/mserBatch)
	for i := 0; i+mserBatch <= len(values); i += mserBatch {
		m := Mean(values[i : i+mserBatch])
		if math.IsNaN(m) {
			return 0 // a series with holes has no level to warm up to
		}
		batches = append(batches, m)
	}
	n := len(batches)
	best, at := math.Inf(1), 0
	// From the end on, sums of what is left grow by one batch at a time.
	var sum, squares float64
	for d := n - 1; d >= 0; d-- {
		sum += batches[d]
		squares += batches[d] * batches[d]
		k := float64(n - d)
		if d > n/2 {
			continue
		}
		if e := max(0, squares-sum*sum/k) / (k * k); e <= best {
			best, at = e, d
		}
	}
	return at * mserBatch
}

// Swing returns how much a series moves about its mean after its warm-up: the standard deviation divided by the mean (the
// coefficient of variation, >= 0). NaN when it has no mean or the mean is 0.
func Swing(values []float64) float64 {
	var rest []float64
	for _, v := range values[WarmUp(values):] {
		if finite(v) {
			rest = append(rest, v)
		}
	}
	if m := Mean(rest); m != 0 {
		return Deviation(rest) / math.Abs(m)
	}
	return math.NaN()
}
