package sim

import (
	"math/bits"
	"slices"
	"time"
)

const (
	digitBits = 11
	fewTimes  = 256 // so few are compared
)

// Sort sorts times that are not negative, with tmp for memory, and returns tmp, grown when it had to be. It distributes them by their
// digits, which for the latencies of a run is several times as fast as comparing.
func Sort(list, tmp []time.Duration) []time.Duration {
	n := len(list)
	if n < fewTimes {
		slices.Sort(list)
		return tmp
	}
	most := time.Duration(0)
	for _, x := range list {
		most |= x
	}
	if most < 0 {
		slices.Sort(list)
		return tmp
	}
	tmp = slices.Grow(tmp[:0], n)[:n]
	from, to := list, tmp
	passes := 0
	for shift := 0; shift < bits.Len64(uint64(most)); shift += digitBits {
		var at [1 << digitBits]int32
		for _, x := range from {
			at[x>>shift&(1<<digitBits-1)]++
		}
		sum := int32(0)
		for i, c := range at {
			at[i] = sum
			sum += c
		}
		for _, x := range from {
			d := x >> shift & (1<<digitBits - 1)
			to[at[d]] = x
			at[d]++
		}
		from, to = to, from
		passes++
	}
	if passes%2 == 1 {
		copy(list, tmp)
	}
	return tmp
}
