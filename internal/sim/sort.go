package sim

import (
	"math/bits"
	"slices"
	"time"
)

const (
	digitBits = 11  // of long lists
	shortBits = 8   // and of shorter ones, for which it takes longer to count digits than to move times
	fewTimes  = 256 // so few are compared
	longList  = 4096
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
	digit := digitBits
	if n < longList {
		digit = shortBits
	}
	var counts [1 << digitBits]int32
	at, mask := counts[:1<<digit], time.Duration(1)<<digit-1
	from, to := list, tmp
	passes := 0
	for shift := 0; shift < bits.Len64(uint64(most)); shift += digit {
		clear(at)
		for _, x := range from {
			at[x>>shift&mask]++
		}
		sum := int32(0)
		for i, c := range at {
			at[i] = sum
			sum += c
		}
		for _, x := range from {
			d := x >> shift & mask
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
