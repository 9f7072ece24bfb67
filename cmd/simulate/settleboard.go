package main

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/sim"
)

// inTime counts runs that had settled, and changes that were over, as soon as is asked, the latter also by what happened.
type inTime struct {
	settled, levels, recovered, changes int
	recoveredBy, changesBy              [report.NumChanges]int
}

func (t *inTime) add(r *report.Run) {
	for i := range r.PerSeed {
		if s := &r.PerSeed[i].Summary; !s.NoLevel {
			t.settled, t.levels = t.settled+s.SettledInTime, t.levels+1
		}
	}
	t.recovered, t.changes = t.recovered+r.Summary.RecoveredInTime, t.changes+r.Summary.Changes
	for i := range t.changesBy {
		t.recoveredBy[i] += r.Summary.RecoveredBy[i]
		t.changesBy[i] += r.Summary.ChangesBy[i]
	}
}

// writeSettling writes how soon everybody settles and recovers, in the scenarios that have a level or changes.
func writeSettling(w io.Writer, r *report.Report, sets map[string]scenario.Set) {
	fmt.Fprintf(w, "## Settling and recovery\n\nHow long it takes from the beginning until %.0f %% of what can be had is got, to stay there, and from each change of what can be had (a limit that moves, an outage "+
		"that ends, demand that moves) until %.0f %%: docs/simulator.md, *Time to settle*. In time is %.0f s or %d round trips, whichever is longer, for the first, and %.0f s for the second. "+
		"The best limits are constants between two changes of the world, found by search with the same seed: what they do not reach, no limit in flight does, though a pace may.\n\n",
		100*sim.SettleShare, 100*sim.RecoverShare, sim.SettleTime.Seconds(), sim.SettleRoundTrips, sim.RecoverTime.Seconds())
	var order []string
	by := map[string]*inTime{}
	of := func(name string) *inTime {
		if by[name] == nil {
			by[name], order = &inTime{}, append(order, name)
		}
		return by[name]
	}
	var scenarios []*report.Scenario
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if set := sets[s.Name]; set != scenario.Tuning && set != scenario.HeldOut {
			continue
		}
		scenarios = append(scenarios, s)
		for k := range s.Runs {
			if s.Runs[k].Controller != lab.BestStatic {
				of(s.Runs[k].Controller).add(&s.Runs[k])
			}
		}
	}
	fmt.Fprintln(w, "| Controller | Runs settled in time | Recovered in time: less can be had | more | something again |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- |")
	for _, name := range order {
		t := by[name]
		if name == lab.BestPiecewise {
			name = "the best limits"
		}
		fmt.Fprintf(w, "| %s | %s of %d |", name, of100(t.settled, t.levels), t.levels)
		for i, n := range t.changesBy {
			fmt.Fprintf(w, " %s of %d |", of100(t.recoveredBy[i], n), n)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\nScenario by scenario: medians over the seeds, of a run with several changes the slowest. The best other is that of the table above.\n\n")
	fmt.Fprintln(w, "| Scenario | Asked, s | Ours settles, s | In time | Best other | In time | Best limits | Changes | Ours recovers, s | In time | Best other | Best limits |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, s := range scenarios {
		ours, best := oursAndBest(s)
		if ours == nil || best == nil {
			continue
		}
		known := &report.Run{}
		for k := range s.Runs {
			if s.Runs[k].Controller == lab.BestPiecewise {
				known = &s.Runs[k]
			}
		}
		var o, b, l inTime
		o.add(ours)
		b.add(best)
		l.add(known)
		asked := "–"
		if o.levels > 0 {
			asked = roughly(ours.Summary.SettleAllowed.Seconds())
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s, %s | %s | %s | %d | %s | %s | %s | %s |\n", s.Name, asked,
			median(ours, "settle"), of100(o.settled, o.levels), best.Controller, median(best, "settle"), of100(b.settled, b.levels), of100(l.settled, l.levels),
			o.changes, median(ours, "recover"), of100(o.recovered, o.changes), of100(b.recovered, b.changes), of100(l.recovered, l.changes))
	}
	fmt.Fprintln(w)
}

// oursAndBest returns our run and the best of the others by score; nil when there is none.
func oursAndBest(s *report.Scenario) (ours, best *report.Run) {
	for k := range s.Runs {
		switch run := &s.Runs[k]; {
		case run.Reference:
		case run.Ours:
			ours = run
		case best == nil || score(&run.Summary) > score(&best.Summary):
			best = run
		}
	}
	return ours, best
}

// median writes the median of a time over the seeds.
func median(r *report.Run, figure string) string {
	f, _ := report.FindFigure(figure)
	xs := slices.DeleteFunc(f.Values(r.PerSeed), math.IsNaN)
	if len(xs) == 0 {
		return "–"
	}
	return roughly(middle(xs))
}

// middle is the median: of an even number of values the mean of the two in the middle, never where one of them never came.
func middle(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return (xs[(len(xs)-1)/2] + xs[len(xs)/2]) / 2
}

// roughly writes seconds.
func roughly(s float64) string {
	switch {
	case math.IsInf(s, 1):
		return "never"
	case s < 9.95:
		return fmt.Sprintf("%.1f", s)
	}
	return fmt.Sprintf("%.0f", s)
}

// of100 writes a share as a percentage.
func of100(n, all int) string {
	if all == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(n)/float64(all))
}
