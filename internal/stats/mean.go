package stats

import (
	"math"
	"slices"
)

// Mean returns the arithmetic mean of the finite elements of xs, NaN if there is none.
func Mean(xs []float64) float64 {
	var sum float64
	n := 0
	for _, x := range xs {
		if finite(x) {
			sum += x
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// UpperMean is Mean where +Inf is more than any number: it is +Inf if one of xs is.
func UpperMean(xs []float64) float64 {
	for _, x := range xs {
		if math.IsInf(x, 1) {
			return x
		}
	}
	return Mean(xs)
}

// Difference returns to - from; two infinities of one sign do not differ.
func Difference(from, to float64) float64 {
	if from == to {
		return 0
	}
	return to - from
}

// endless is what arithmetic has in place of an infinity, and less than a 10^6th of it is a number again.
const endless = math.MaxFloat32

// Bounded returns v, and for an infinity a number that is larger than any other, so that means and intervals can be computed.
func Bounded(v float64) float64 { return min(max(v, -endless), endless) }

// unbounded is the way back, also from a mean.
func unbounded(v float64) float64 {
	if math.Abs(v) > endless/1e6 {
		return math.Copysign(math.Inf(1), v)
	}
	return v
}

// Deviation returns the standard deviation of xs, all finite, with n-1 in the denominator. It is NaN for fewer than two.
func Deviation(xs []float64) float64 {
	n := float64(len(xs))
	if n < 2 {
		return math.NaN()
	}
	m := Mean(xs)
	var squares float64
	for _, x := range xs {
		squares += (x - m) * (x - m)
	}
	return math.Sqrt(squares / (n - 1))
}

// Jain returns Jain's fairness index of the shares xs:
//
//	J = (Σ x)² / (n · Σ x²)
//
// It is 1 when all shares are equal and 1/n when one of n has everything. It is 1 for no shares and for shares that are all
// zero: nobody is worse off. Shares must be finite and not negative.
func Jain(xs []float64) float64 {
	// Dividing by the largest share first keeps the squares in range.
	var top float64
	for _, x := range xs {
		top = max(top, x)
	}
	if top == 0 {
		return 1
	}
	var sum, squares float64
	for _, x := range xs {
		x /= top
		sum += x
		squares += x * x
	}
	return sum * sum / (float64(len(xs)) * squares)
}

// CVaR returns the conditional value at risk: the mean of the worst share of xs (0 < share <= 1), where less is worse. With a share
// of 0.2 and ten scenarios it is the mean of the two worst; an element that is partly inside counts in part. It is NaN for none.
func CVaR(xs []float64, share float64) float64 {
	if !(share > 0 && share <= 1) {
		panic("stats: CVaR: share is not in (0, 1]")
	}
	sorted := slices.Clone(xs)
	slices.Sort(sorted)
	left := share * float64(len(sorted))
	if left == 0 {
		return math.NaN()
	}
	all := left
	var sum float64
	for _, x := range sorted {
		w := min(1, left)
		sum += w * x
		if left -= w; left <= 0 {
			break
		}
	}
	return sum / all
}
