package main

import (
	"math"
	"slices"
)

// A spread is the middle of a set of measurements and how far half of them lie around it.
type spread struct {
	Median float64 `json:"median"`
	P25    float64 `json:"p25"`
	P75    float64 `json:"p75"`
}

// missing is the spread of nothing.
var missing = spread{math.NaN(), math.NaN(), math.NaN()}

// exact returns the spread of a number that was counted, not sampled.
func exact(x float64) spread { return spread{x, x, x} }

// known reports whether s is the spread of something.
func (s spread) known() bool { return !math.IsNaN(s.Median) }

// summarize returns the spread of xs, leaving out what is not a number.
func summarize(xs []float64) spread {
	xs = slices.DeleteFunc(slices.Clone(xs), math.IsNaN)
	slices.Sort(xs)
	return spread{quantile(xs, 0.5), quantile(xs, 0.25), quantile(xs, 0.75)}
}

// quantile returns the q-quantile (0 to 1) of sorted numbers, between the two nearest in
// proportion; NaN when there are none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// A round is what one pass over all contenders measured, one number each; NaN where the measurement
// did not hold.
type round []float64

// rounds is what was measured in one section: a row a round, a column a contender.
type rounds []round

// undisturbed returns the rounds in which none of the references took longer than disturbed times what it took in the best
// tenth of all rounds. In the others the machine had something else to do, in the same core or in the same
// caches, which slows down code more than it slows down a reading of the clock. Only references are looked at: a contender that
// was disturbed in a round in which they were not counts as slow as it was. With too few left it returns all.
func (r rounds) undisturbed(refs ...int) rounds {
	most := make([]float64, len(refs))
	for k, ref := range refs {
		xs := make([]float64, 0, len(r))
		for _, m := range r {
			xs = append(xs, m[ref])
		}
		slices.Sort(xs)
		most[k] = disturbed * quantile(xs, 0.1)
	}
	var kept rounds
	for _, m := range r {
		if !slices.ContainsFunc(refs, func(ref int) bool { return m[ref] > most[slices.Index(refs, ref)] }) {
			kept = append(kept, m)
		}
	}
	if len(kept) < leastKept {
		return r
	}
	return kept
}

const (
	disturbed = 1.05
	leastKept = 20
)

// of returns the spread of contender i.
func (r rounds) of(i int) spread {
	return r.spread(func(m round) float64 { return m[i] })
}

// ratio returns the spread of i over ref, taken round by round: what slows the machine down for a
// while slows both.
func (r rounds) ratio(i, ref int) spread {
	return r.spread(func(m round) float64 { return m[i] / m[ref] })
}

// added returns the spread of i minus ref, taken round by round.
func (r rounds) added(i, ref int) spread {
	return r.spread(func(m round) float64 { return m[i] - m[ref] })
}

func (r rounds) spread(f func(round) float64) spread {
	xs := make([]float64, len(r))
	for k, m := range r {
		xs[k] = f(m)
	}
	return summarize(xs)
}
