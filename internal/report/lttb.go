package report

import (
	"math"

	"github.com/flyball-go/flyball/internal/stats"
)

// downsample returns the indices of at most n elements of ys, equally spaced in
// time, that together look most like all of them: the first, the last, and of each
// of n-2 buckets between them the one that spans the largest triangle with the
// element chosen before and the mean of the bucket after ("largest triangle three
// buckets": Steinarsson, Downsampling Time Series for Visual Representation, 2013).
//
// An element that is not finite is a gap. Where a gap begins or ends inside a
// bucket, the bucket gives its gap element instead, so that a line never crosses a
// gap that lasts a bucket or longer.
//
// n must be at least 3; if ys is not longer than n, every index is returned.
func downsample(ys []float64, n int) []int {
	if n < 3 {
		panic("report: downsample: n < 3")
	}
	if len(ys) <= n {
		all := make([]int, len(ys))
		for i := range all {
			all[i] = i
		}
		return all
	}
	chosen := make([]int, 0, n)
	chosen = append(chosen, 0)
	for b := range n - 2 {
		begin, end := bucket(len(ys), n, b)
		nextBegin, nextEnd := bucket(len(ys), n, b+1)
		chosen = append(chosen, largestTriangle(ys, chosen[b], begin, end, nextBegin, nextEnd))
	}
	return append(chosen, len(ys)-1)
}

// bucket returns the half-open range of bucket b of n-2 between the first and the
// last of length elements. Bucket n-2 is the last element alone.
func bucket(length, n, b int) (begin, end int) {
	if b == n-2 {
		return length - 1, length
	}
	return 1 + b*(length-2)/(n-2), 1 + (b+1)*(length-2)/(n-2)
}

func largestTriangle(ys []float64, before, begin, end, nextBegin, nextEnd int) int {
	x0, y0 := float64(before), ys[before]
	x2, y2 := float64(nextBegin+nextEnd-1)/2, stats.Mean(ys[nextBegin:nextEnd])
	if !finite(y0) {
		y0 = 0
	}
	if !finite(y2) {
		y2 = 0
	}
	best, most := begin, -1.0
	for i := begin; i < end; i++ {
		if !finite(ys[i]) {
			return i
		}
		area := math.Abs((x0-x2)*(ys[i]-y0) - (x0-float64(i))*(y2-y0))
		if area > most {
			best, most = i, area
		}
	}
	return best
}
