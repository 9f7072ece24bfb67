package suite

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/stats"
)

// A State is what came of a bound.
type State uint8

const (
	// Inconclusive: the interval has the bound inside, or there are too few seeds.
	Inconclusive State = iota
	// Kept: the whole interval is on the right side.
	Kept
	// Broken: the whole interval is on the wrong side.
	Broken
)

var stateNames = [...]string{"inconclusive", "kept", "broken"}

// String returns the state's name.
func (s State) String() string { return stateNames[s] }

// MarshalText writes the name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Result is what came of a bound in a scenario, or over several.
type Result struct {
	Bound *Bound
	// Scenario is where; for a median, worst or mean the words of the bound.
	Scenario string
	State    State
	// Value is the mean over the seeds, or the mean difference, and Interval its confidence interval.
	Value    float64
	Interval stats.Interval
	// Alpha is 1 less the level at which it was decided; that of a verdict's interval is 0.05 whatever it is.
	Alpha float64
	Seeds int
	// Why says in words what is wrong when the numbers do not.
	Why string
}

// Check says of finished runs whether a bound is kept, in each scenario of where. Baseline has what "vs baseline" compares with; nil is none. Alpha
// is 1 less the level of the intervals.
func (b *Bound) Check(r, baseline *report.Report, where []string, alpha float64) []Result {
	if b.Aggregate != Each {
		return []Result{b.aggregate(r, baseline, where, alpha)}
	}
	out := make([]Result, 0, len(where))
	for _, name := range where {
		res := Result{Bound: b, Scenario: name, Alpha: alpha}
		mine, other := run(r, name, b.Controller), b.other(r, baseline, name)
		switch {
		case mine == nil || len(mine.PerSeed) == 0:
			res.Why = b.Controller + " did not run"
		case b.Versus != "" && (other == nil || len(other.PerSeed) == 0):
			res.Why = b.Versus + " has no runs in this scenario"
		case b.Verdict != "":
			res.verdict(other, mine, alpha)
		default:
			values := b.Figure.Values(mine.PerSeed)
			if b.Versus != "" {
				a, c := report.Pair(other.PerSeed, mine.PerSeed)
				values = b.differences(b.Figure.Values(a), b.Figure.Values(c))
			}
			res.bounded(values, alpha, mine.PerSeed[0].Seed)
		}
		out = append(out, res)
	}
	return out
}

func run(r *report.Report, scenario, controller string) *report.Run {
	if r == nil {
		return nil
	}
	for i := range r.Scenarios {
		if r.Scenarios[i].Name != scenario {
			continue
		}
		for k := range r.Scenarios[i].Runs {
			if r.Scenarios[i].Runs[k].Controller == controller {
				return &r.Scenarios[i].Runs[k]
			}
		}
	}
	return nil
}

// other returns the run that a bound compares with.
func (b *Bound) other(r, baseline *report.Report, scenario string) *report.Run {
	if b.Versus == BaselineName {
		return run(baseline, scenario, b.Controller)
	}
	return run(r, scenario, b.Versus)
}

// differences are those of pairs, as shares of the mean of the first where the figure is relative.
func (b *Bound) differences(from, to []float64) []float64 {
	out := make([]float64, len(from))
	scale := 1.0
	if b.Figure.Relative {
		scale = math.Abs(stats.Mean(from))
	}
	for i := range from {
		if d := stats.Difference(from[i], to[i]); d != 0 { // both never: no difference
			out[i] = d / scale
		}
	}
	return out
}

// bounded compares the values of the seeds with the bound.
func (res *Result) bounded(values []float64, alpha float64, seed uint64) {
	b := res.Bound
	var known []float64
	for _, v := range values {
		if !math.IsNaN(v) {
			known = append(known, v)
		}
	}
	res.Seeds = len(known)
	switch {
	case len(known) == 0:
		res.Value, res.Interval = math.NaN(), stats.Interval{Low: math.NaN(), High: math.NaN()}
		res.Why = "the figure is not defined in any seed"
		return
	case len(known) < len(values):
		res.Why = fmt.Sprintf("the figure is not defined in %d of %d seeds", len(values)-len(known), len(values))
	}
	worst := b.worst()
	if slices.Contains(known, worst) { // it never came: no mean of any seeds is on the right side
		res.Value, res.Interval, res.State = worst, stats.Interval{Low: worst, High: worst}, Broken
		return
	}
	sum := 0.0
	for i, v := range known {
		sum += v
		known[i] = stats.Bounded(v)
	}
	res.Value = sum / float64(len(known))
	res.Interval = stats.MeanInterval(known, alpha, seed).Unbounded()
	if !res.Interval.Known() {
		if res.Why == "" {
			res.Why = "one seed has no interval"
		}
		return
	}
	low, high := res.Interval.Low, res.Interval.High
	const hair = 1e-12
	switch {
	case b.Upper && high <= b.Value+hair, !b.Upper && low >= b.Value-hair:
		res.State = Kept
	case b.Upper && low > b.Value, !b.Upper && high < b.Value:
		res.State = Broken
	}
	if res.Why != "" && res.State == Kept {
		res.State = Inconclusive // of the seeds that are left out nothing is known
	}
}

// worst is the value that is furthest on the wrong side.
func (b *Bound) worst() float64 {
	if b.Upper {
		return math.Inf(1)
	}
	return math.Inf(-1)
}

// verdict compares the verdict of goodput, 429s and score with the bound's word.
func (res *Result) verdict(other, mine *report.Run, alpha float64) {
	figures := report.Figures()[:3]
	cs := report.Compare(other, mine, figures, alpha)
	v := report.Overall(cs)
	res.Seeds, res.Value, res.Interval = cs[2].Seeds, cs[2].Effect, cs[2].Interval
	res.Why = fmt.Sprintf("%s: goodput %s, 429s %s, score %s", v, cs[0].Verdict, cs[1].Verdict, cs[2].Verdict)
	decide := func(kept, broken bool) {
		switch {
		case kept:
			res.State = Kept
		case broken:
			res.State = Broken
		}
	}
	switch res.Bound.Verdict {
	case IsBetter:
		decide(v == stats.Better, v == stats.Worse || v == stats.Equivalent)
	case NotWorse:
		decide(v == stats.Better || v == stats.Equivalent, v == stats.Worse)
	case NotDominated:
		g, r := cs[0].Verdict, cs[1].Verdict
		fine := func(v stats.Verdict) bool { return v == stats.Better || v == stats.Equivalent }
		decide(fine(g) || fine(r), g == stats.Worse && r == stats.Worse)
	}
}

// aggregate bounds the median, the worst or the mean over scenarios, seed by seed.
func (b *Bound) aggregate(r, baseline *report.Report, where []string, alpha float64) Result {
	res := Result{Bound: b, Scenario: fmt.Sprintf("%s of %d", b.Aggregate, len(where)), Alpha: alpha}
	bySeed := map[uint64][]float64{}
	var seeds []uint64
	for _, name := range where {
		mine, other := run(r, name, b.Controller), b.other(r, baseline, name)
		if mine == nil || b.Versus != "" && other == nil {
			res.Why = "no runs in " + name
			return res
		}
		points := mine.PerSeed
		values := b.Figure.Values(points)
		if b.Versus != "" {
			var a []report.SeedSummary
			a, points = report.Pair(other.PerSeed, mine.PerSeed)
			values = b.differences(b.Figure.Values(a), b.Figure.Values(points))
		}
		for i, p := range points {
			if bySeed[p.Seed] == nil {
				seeds = append(seeds, p.Seed)
			}
			bySeed[p.Seed] = append(bySeed[p.Seed], values[i])
		}
	}
	slices.Sort(seeds)
	var values []float64
	for _, s := range seeds {
		list := bySeed[s]
		if len(list) < len(where) { // not every scenario has this seed
			continue
		}
		values = append(values, b.over(list))
	}
	if len(values) == 0 {
		res.Why = "the scenarios have no seed in common"
		return res
	}
	res.bounded(values, alpha, seeds[0])
	return res
}

// over is the aggregate of the values of one seed. What is not defined in a scenario is left out.
func (b *Bound) over(values []float64) float64 {
	var list []float64
	for _, v := range values {
		if !math.IsNaN(v) {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return math.NaN()
	}
	sort.Float64s(list)
	var v float64
	switch n := len(list); b.Aggregate {
	case Worst:
		v = list[0]
		if b.Upper {
			v = list[n-1]
		}
	case Median:
		v = (list[(n-1)/2] + list[n/2]) / 2
	default:
		for _, x := range list {
			v += x
		}
		v /= float64(n)
	}
	if math.IsNaN(v) { // one never came, and in another scenario the other's: no mean of both is on the right side
		return b.worst()
	}
	return v
}

// Format writes the value of a result with its interval.
func (res *Result) Format() string {
	f := res.Bound.Figure
	format := f.Format
	switch {
	case res.Bound.Verdict != "":
		return res.Why
	case res.Bound.Versus != "":
		format = f.FormatEffect
	}
	if res.Seeds == 0 {
		return res.Why
	}
	text := format(res.Value)
	if res.Interval.Known() && res.Interval.Low != res.Interval.High {
		text += " [" + format(res.Interval.Low) + ", " + format(res.Interval.High) + "]"
	}
	if res.Why != "" {
		text += " (" + res.Why + ")"
	}
	return text
}
