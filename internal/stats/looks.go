package stats

import "math"

// Looks returns how much of alpha each of n looks at growing data may spend, so that all of them together call something
// that is not there in a share of at most alpha. The total follows the spending function of Lan and DeMets (1983) that
// resembles Pocock's bounds, alpha · ln(1 + (e-1) · t) after the share t of the data; the looks are then held apart by
// Bonferroni's inequality, which needs no assumption on how they depend on each other and costs some power.
func Looks(alpha float64, n int) []float64 {
	levels := make([]float64, n)
	spent := 0.0
	for i := range levels {
		total := alpha * math.Log(1+(math.E-1)*float64(i+1)/float64(n))
		levels[i] = total - spent
		spent = total
	}
	return levels
}
