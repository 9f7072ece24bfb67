package report

import (
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/stats"
)

// Bands returns the 10th and the 90th percentile over several seeds' series at each step. Both are empty for fewer than three, and where the
// series have different steps. With fewer than ten seeds they are the smallest and the largest value.
func Bands(all []Series) (low, high Series) {
	if len(all) < 3 {
		return Series{}, Series{}
	}
	for _, s := range all {
		if s.Step != all[0].Step {
			return Series{}, Series{}
		}
	}
	low.Step, high.Step = all[0].Step, all[0].Step
	for _, part := range []struct {
		of func(*Series) *[]float64
		// over is the time over which a seed's values are averaged first: single steps of a count are noise.
		over time.Duration
	}{
		{of: func(s *Series) *[]float64 { return &s.Limit }},
		{of: func(s *Series) *[]float64 { return &s.Pace }},
		{of: func(s *Series) *[]float64 { return &s.InFlight }},
		{of: func(s *Series) *[]float64 { return &s.Waiting }},
		{of: func(s *Series) *[]float64 { return &s.Goodput }, over: 2 * time.Second},
		{of: func(s *Series) *[]float64 { return &s.Rejected }, over: 2 * time.Second},
	} {
		n := len(*part.of(&all[0]))
		lows, highs := make([]float64, n), make([]float64, n)
		columns := make([][]float64, len(all))
		for k := range all {
			columns[k] = *part.of(&all[k])
			if part.over > all[k].Step {
				columns[k] = stats.MovingMean(all[k].Step, columns[k], part.over)
			}
		}
		values := make([]float64, 0, len(all))
		for i := range n {
			values = values[:0]
			for _, c := range columns {
				if i < len(c) && finite(c[i]) {
					values = append(values, c[i])
				}
			}
			slices.Sort(values)
			lows[i], highs[i] = math.NaN(), math.NaN()
			if a, ok := stats.Percentile(values, 10); ok {
				b, _ := stats.Percentile(values, 90)
				lows[i], highs[i] = a, b
			}
		}
		if n > 0 {
			*part.of(&low), *part.of(&high) = lows, highs
		}
	}
	return low, high
}
