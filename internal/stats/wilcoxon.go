package stats

import (
	"math"
	"slices"
)

// SignedRank returns the two-sided p value of Wilcoxon's signed rank test: how likely differences are at least as
// lopsided as these, when their distribution is symmetric about zero. Zeros are left out, equal sizes share their ranks, and the
// distribution is exact. It returns 1 when nothing but zeros is left.
func SignedRank(differences []float64) float64 {
	var ds []float64
	for _, d := range differences {
		if d != 0 && finite(d) {
			ds = append(ds, d)
		}
	}
	n := len(ds)
	if n == 0 {
		return 1
	}
	slices.SortFunc(ds, func(a, b float64) int {
		switch x, y := math.Abs(a), math.Abs(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	// Ranks are doubled, so that those shared by a tie are whole numbers.
	ranks := make([]int, n)
	positive := 0
	for i := 0; i < n; {
		j := i
		for j < n && math.Abs(ds[j]) == math.Abs(ds[i]) {
			j++
		}
		for k := i; k < j; k++ {
			ranks[k] = i + 1 + j
			if ds[k] > 0 {
				positive += ranks[k]
			}
		}
		i = j
	}
	total := n * (n + 1) // of the doubled ranks
	// ways[s] is the share of the 2^n signs with which the positive ranks add up to s.
	ways := make([]float64, total+1)
	ways[0] = 1
	top := 0
	for _, r := range ranks {
		top += r
		for s := top; s >= 0; s-- {
			w := ways[s] / 2
			if s >= r {
				w += ways[s-r] / 2
			}
			ways[s] = w
		}
	}
	extreme := min(positive, total-positive)
	var p float64
	for s := range extreme + 1 {
		p += ways[s]
	}
	return min(1, 2*p)
}

// pairedT is the two-sided p value of Student's t test that the mean of differences is zero.
func pairedT(differences []float64) float64 {
	n := float64(len(differences))
	if n < 2 {
		return 1
	}
	m, sd := Mean(differences), Deviation(differences)
	if sd == 0 {
		if m == 0 {
			return 1
		}
		return 0
	}
	t := math.Abs(m) / (sd / math.Sqrt(n))
	return 2 * (1 - studentCDF(t, n-1))
}

// Holm returns p values that were adjusted for there being several (Holm 1979): when each that is at most alpha is called a
// discovery, the chance that any of them is false is at most alpha. The order is that of ps.
func Holm(ps []float64) []float64 {
	order := make([]int, len(ps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case ps[a] < ps[b]:
			return -1
		case ps[a] > ps[b]:
			return 1
		}
		return 0
	})
	out := make([]float64, len(ps))
	least := 0.0
	for k, i := range order {
		least = max(least, min(1, float64(len(ps)-k)*ps[i]))
		out[i] = least
	}
	return out
}
