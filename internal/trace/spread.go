package trace

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Mooncake's recorder wrote the time of each request as that of a tick of three seconds.
const (
	lump      = 3 * time.Second
	lumpSlack = 50 * time.Millisecond
)

// spread spreads requests that come in lumps of three seconds over the time until the next lump. Replayed as they are, they would be
// a square wave that nobody sent. A trace without such lumps is left alone.
func (t *Trace) spread() {
	gaps, lumps := 0, 0
	for i := 1; i < len(t.Rows); i++ {
		if g := t.Rows[i].At - t.Rows[i-1].At; g > 0 {
			gaps++
			off := g % lump
			if g >= lump-lumpSlack && (off <= lumpSlack || off >= lump-lumpSlack) {
				lumps++
			}
		}
	}
	if gaps < 2 || float64(lumps) < 0.9*float64(gaps) {
		return
	}
	// Uniform draws, sorted, so that the order stays; from a fixed seed, so that a trace is always the same one.
	random := rand.New(rand.NewPCG(3, uint64(len(t.Rows))))
	for i := 0; i < len(t.Rows); {
		j := i + 1
		for j < len(t.Rows) && t.Rows[j].At == t.Rows[i].At {
			j++
		}
		offsets := make([]time.Duration, j-i)
		for k := range offsets {
			offsets[k] = time.Duration(random.Int64N(int64(lump)))
		}
		slices.Sort(offsets)
		for k := i; k < j; k++ {
			t.Rows[k].shift(offsets[k-i])
		}
		i = j
	}
	// Ticks are a few milliseconds late or early, so that neighbours may have changed places.
	t.sort()
	t.Notes = append(t.Notes, fmt.Sprintf("the requests come in lumps of 3 s; they were spread over the 3 s after each (%d lumps)", lumps+1))
}
