// Package draw makes random numbers that belong to something: a number is a hash of the seed, the stream that it is
// of, and the thing that it is for.
//
// Two runs that meet the same thing therefore draw the same number for it, in whatever order they
// meet things (common random numbers). A difference between the runs is then a difference between what was tried, and
// not luck.
package draw

import "math"

// Stream names a series of random numbers. Whoever draws has names of its own.
type Stream uint64

// Mix spreads the bits of x over all of the result (the finaliser of SplitMix64: Steele, Lea and
// Flood, Fast Splittable Pseudorandom Number Generators, 2014).
func Mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// golden is the odd number nearest to 2^64 divided by the golden ratio, SplitMix64's step.
const golden = 0x9e3779b97f4a7c15

// Bits returns 64 random bits that depend on its arguments alone.
func Bits(seed uint64, s Stream, n uint64) uint64 {
	return Mix(Mix(seed+uint64(s)*golden) + n*0xd1342543de82ef95)
}

// Unit returns a number in (0, 1): never 0 or 1, so that its logarithm and its quantiles are finite.
func Unit(bits uint64) float64 { return (float64(bits>>12) + 0.5) / (1 << 52) }

// U is Unit of Bits.
func U(seed uint64, s Stream, n uint64) float64 { return Unit(Bits(seed, s, n)) }

// Exp returns an exponential number with a mean of 1.
func Exp(seed uint64, s Stream, n uint64) float64 { return -math.Log(U(seed, s, n)) }

// Choose returns the index of the first weight that, with those before it, exceeds the share u of their sum. Weights that
// are not positive are never chosen, as long as one is.
func Choose(weights []float64, u float64) int {
	var sum float64
	for _, w := range weights {
		sum += max(0, w)
	}
	last := 0
	u *= sum
	for i, w := range weights {
		if w <= 0 {
			continue
		}
		last = i
		if u -= w; u < 0 {
			return i
		}
	}
	return last
}
