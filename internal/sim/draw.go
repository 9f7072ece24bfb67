package sim

import (
	"math"
	"time"
)

// stream names a series of random numbers.
type stream uint64

const (
	streamArrival   stream = iota + 1 // gap before the n-th request
	streamService                     // service time of the k-th start at the server
	streamThink                       // think time after the k-th start that succeeded
	streamThinkLost                   // think time after the n-th request that did not succeed
	streamBackoff                     // back-off before an attempt of the n-th request
	streamRefusal                     // time that the n-th refusal takes
	streamStagger                     // when the n-th client of a closed loop starts
	streamGuard                       // seed of the guard's jitter
)

// mix spreads the bits of x over all of the result (the finaliser of SplitMix64: Steele, Lea and
// Flood, Fast Splittable Pseudorandom Number Generators, 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// draw returns 64 random bits that depend on its arguments alone.
func draw(seed uint64, s stream, n uint64) uint64 {
	return mix(mix(seed+uint64(s)*0x9e3779b97f4a7c15) + n*0xd1342543de82ef95)
}

// uniform returns a number in (0, 1): never 0 or 1, so that its logarithm and its quantiles are finite.
func uniform(bits uint64) float64 { return (float64(bits>>12) + 0.5) / (1 << 52) }

// Shape is the shape of a distribution.
type Shape uint8

const (
	// Constant is always the mean.
	Constant Shape = iota
	// Exponential has a standard deviation as large as its mean.
	Exponential
	// Lognormal is the exponential of a normal variable with deviation Sigma: the long tail
	// of answers of very different lengths.
	Lognormal
	// Uniform is evenly spread over Mean ± Spread.
	Uniform

	numShapes = int(Uniform) + 1
)

var shapeNames = [numShapes]string{"constant", "exponential", "lognormal", "uniform"}

// ShapeNames returns the names of all shapes in order.
func ShapeNames() []string { return shapeNames[:] }

// String returns the shape as scenarios write it.
func (s Shape) String() string {
	if int(s) < len(shapeNames) {
		return shapeNames[s]
	}
	return "unknown"
}

// ParseShape returns the shape that is written as name.
func ParseShape(name string) (s Shape, ok bool) {
	for i, n := range shapeNames {
		if n == name {
			return Shape(i), true
		}
	}
	return 0, false
}

// Dist is a distribution of durations. The zero Dist is always 0.
type Dist struct {
	Shape Shape
	Mean  time.Duration // >= 0
	// Sigma is the standard deviation of the logarithm, for Lognormal (0 to 4, unitless).
	Sigma float64
	// Spread is half the width, for Uniform (0 to Mean).
	Spread time.Duration
}

// sample returns the n-th number of a stream, in ns, never negative.
func (d *Dist) sample(seed uint64, s stream, n uint64) int64 {
	mean := float64(d.Mean)
	switch d.Shape {
	case Exponential:
		return int64(-math.Log(uniform(draw(seed, s, n))) * mean)
	case Lognormal:
		u := uniform(draw(seed, s, n))
		z := math.Sqrt2 * math.Erfinv(2*u-1)
		return int64(min(math.Exp(d.Sigma*z-d.Sigma*d.Sigma/2)*mean, 1<<60))
	case Uniform:
		return max(0, int64(d.Mean)+int64((2*uniform(draw(seed, s, n))-1)*float64(d.Spread)))
	}
	return int64(d.Mean)
}
