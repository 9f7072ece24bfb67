package fit

import "math"

// kolmogorov returns the largest distance of the empirical distributions of two sorted samples (0 to 1; Kolmogorov and Smirnov).
func kolmogorov(a, b []float64) float64 {
	most := 0.0
	for i, k := 0, 0; i < len(a) && k < len(b); {
		x := min(a[i], b[k])
		for i < len(a) && a[i] <= x {
			i++
		}
		for k < len(b) && b[k] <= x {
			k++
		}
		most = max(most, math.Abs(float64(i)/float64(len(a))-float64(k)/float64(len(b))))
	}
	return most
}

// lognormalDistance is the largest distance of a sorted sample's distribution from that of a lognormal one.
func lognormalDistance(sorted []float64, median, sigma float64) float64 {
	most := 0.0
	n := float64(len(sorted))
	for i := 0; i < len(sorted); {
		j := i
		for j < len(sorted) && sorted[j] == sorted[i] {
			j++
		}
		// Counts are whole numbers: half a step either way is theirs.
		p := func(x float64) float64 {
			return 0.5 * math.Erfc(-(math.Log(x)-math.Log(median))/(sigma*math.Sqrt2))
		}
		most = max(most, math.Abs(p(sorted[i]+0.5)-float64(j)/n), math.Abs(p(max(0.5, sorted[i]-0.5))-float64(i)/n))
		i = j
	}
	return most
}

// tableShares are the shares at which a table of quantiles is written.
var tableShares = []float64{0, .01, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .99, 1}

// quantiles returns a sorted sample's quantiles at tableShares.
func quantiles(sorted []float64) [][2]float64 {
	var out [][2]float64
	for _, p := range tableShares {
		v := sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
		out = append(out, [2]float64{p, v})
	}
	return out
}
