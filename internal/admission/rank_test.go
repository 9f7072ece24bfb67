package admission

import (
	"math"
	"testing"
)

// The order is that of shares as they are, and not as they are rounded; keys that have the same are asked by turns.
func TestRankIsExact(t *testing.T) {
	type key struct{ inFlight, limit int }
	var keys []key
	for limit := 1; limit <= 60; limit++ {
		for inFlight := range limit {
			keys = append(keys, key{inFlight, limit})
		}
	}
	keys = append(keys, key{9_999, 10_000}, key{10_000, 10_001}, key{99_999, 100_000}, key{100_000, 100_001})
	for _, a := range keys {
		for _, b := range keys {
			x, y := int64(a.inFlight)*int64(b.limit), int64(b.inFlight)*int64(a.limit)
			first, second := RankOf(5, a.inFlight, a.limit, false, false), RankOf(MaxRanked-1, b.inFlight, b.limit, false, false)
			if first < second != (x <= y) {
				t.Fatalf("%d of %d and %d of %d: %x and %x", a.inFlight, a.limit, b.inFlight, b.limit, first, second)
			}
		}
	}
}

func TestRanks(t *testing.T) {
	order := []Rank{
		RankOf(7, 1, 4, false, false),
		RankOf(3, 1, 2, false, false),
		RankOf(9, 2, 4, false, false),
		RankOf(2, 7, 4, false, false), // as where guards observe
		RankOf(8, 0, 0, true, false),
		RankOf(6, 1, 4, true, false),
		RankOf(1, math.MaxInt32, 1, true, false),
		RankOf(0, 4, 4, false, true),
		RankOf(MaxRanked-1, 4, 4, true, true),
	}
	turns := []int{7, 3, 9, 2, 8, 6, 1, 0, MaxRanked - 1}
	for i, r := range order {
		if i > 0 && r <= order[i-1] {
			t.Errorf("%d is asked before %d", r.Turn(), order[i-1].Turn())
		}
		if r.Turn() != turns[i] || r.Full() != (i >= 7) {
			t.Errorf("%x: turn %d, full %v, want turn %d", r, r.Turn(), r.Full(), turns[i])
		}
	}
}
