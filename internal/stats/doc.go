// Package stats is the arithmetic behind the simulator's figures and verdicts: intervals for means over seeds, paired
// comparisons that end in better, worse, equivalent or inconclusive, and what has to be known about a run over time.
//
// Everything is a function of its arguments: what draws random numbers is given a seed. docs/simulator.md says in words what
// each figure means; the papers are named at the functions.
package stats

import "math"

// finite reports whether v is a number.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
