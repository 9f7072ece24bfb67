package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Sort sorts as slices.Sort does, whatever its memory had before.
func TestSort(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var tmp []time.Duration
	for n := range 400 {
		list := make([]time.Duration, rng.IntN(2*longList))
		bits := 1 + rng.IntN(62)
		for i := range list {
			list[i] = time.Duration(rng.Uint64N(1 << bits))
			if n%50 == 0 && rng.IntN(100) == 0 {
				list[i] = -list[i]
			}
		}
		want := slices.Clone(list)
		slices.Sort(want)
		if tmp = Sort(list, tmp); !slices.Equal(list, want) {
			t.Fatalf("list %d of %d numbers of %d bits is not sorted", n, len(list), bits)
		}
	}
}
