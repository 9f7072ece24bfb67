package admission

import "math"

// Rank is when a key of several is asked for a place: the lower, the sooner. Those that are full come last, before them those that are
// paused or fail, and else the larger its share of free places is; those that have the same are asked by turns.
type Rank uint64

// MaxRanked is how many keys may be ranked.
const MaxRanked = 1 << 10

const (
	rankFull = 3 << 62 // the share of no key that is not full has the second bit: it would be 2
	rankLast = 1 << 63
)

// RankOf returns the rank of the turn-th key (less than MaxRanked), which has so many calls in flight of limit. last says that it is paused or fails, and
// full that it need not be asked.
func RankOf(turn, inFlight, limit int, last, full bool) Rank {
	switch {
	case full:
		return rankFull | Rank(turn)
	case last:
		return rankLast | used(inFlight, limit) | Rank(turn)
	}
	return used(inFlight, limit) | Rank(turn)
}

// used returns a number that is larger when the share of places that are taken is. Its lowest bits are free.
func used(inFlight, limit int) Rank {
	share := min(float64(inFlight)/float64(max(1, limit)), math.Nextafter(2, 0)) // more than 1 where guards observe
	return Rank(math.Float64bits(share)) &^ (MaxRanked - 1)
}

// Turn returns what RankOf was given.
func (r Rank) Turn() int { return int(r % MaxRanked) }

// Full reports whether the key was full.
func (r Rank) Full() bool { return r >= rankFull }
