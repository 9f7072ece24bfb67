package report

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/stats"
)

// A Figure is one number of a Summary that can be compared, bounded and tuned.
type Figure struct {
	// Measure has its name and what counts as a difference.
	stats.Measure
	// Title and Unit are for people; Unit is "s", "requests", "" and so on, and "share" for a ratio that reads as a percentage.
	Title, Unit string
	// Of is the figure of a summary: NaN where it is not defined, +Inf for a time that never came.
	Of func(*Summary) float64
}

// manyRejections stands for the 429s per success where nothing succeeded.
const manyRejections = 1000

// figures in the order in which they are listed. The first three make the verdict.
var figures = []Figure{
	{Measure: stats.Measure{Name: "goodput", MinEffect: goodputStep}, Title: "Goodput", Unit: "share", Of: func(s *Summary) float64 { return s.Goodput }},
	{Measure: stats.Measure{Name: "rejected_per_ok", Lower: true, MinEffect: rejectedStep}, Title: "429s per success", Of: perOK},
	{Measure: stats.Measure{Name: "score", MinEffect: goodputStep}, Title: "Score", Unit: "share", Of: func(s *Summary) float64 {
		return goodput(*s) * (1 - rejectionPrice*perOK(s))
	}},
	{Measure: stats.Measure{Name: "goodput_rps", Relative: true, MinEffect: 0.01}, Title: "Successes", Unit: "requests/s", Of: func(s *Summary) float64 { return s.GoodputRate }},
	latency("mean", "Mean latency", func(s *Summary) time.Duration { return s.Mean }),
	latency("p50", "Median latency", func(s *Summary) time.Duration { return s.P50 }),
	latency("p90", "90th percentile of latency", func(s *Summary) time.Duration { return s.P90 }),
	latency("p99", "99th percentile of latency", func(s *Summary) time.Duration { return s.P99 }),
	{Measure: stats.Measure{Name: "settle", Lower: true, MinEffect: 1}, Title: "Time to settle", Unit: "s", Of: func(s *Summary) float64 {
		switch {
		case s.NoLevel:
			return math.NaN()
		case !s.Settled:
			return math.Inf(1)
		}
		return s.Settle.Seconds()
	}},
	{Measure: stats.Measure{Name: "rejected_share", Lower: true, MinEffect: 0.01}, Title: "429s per attempt", Unit: "share", Of: ratio(
		func(s *Summary) int64 { return s.Rejected429 }, func(s *Summary) int64 { return s.Sent })},
	{Measure: stats.Measure{Name: "lost_share", Lower: true, MinEffect: 0.01}, Title: "Requests not served", Unit: "share", Of: ratio(
		func(s *Summary) int64 { return s.Failed + s.Refused + s.Unfinished }, func(s *Summary) int64 { return s.Offered })},
	{Measure: stats.Measure{Name: "failed_share", Lower: true, MinEffect: 0.01}, Title: "Requests failed", Unit: "share", Of: ratio(
		func(s *Summary) int64 { return s.Failed }, func(s *Summary) int64 { return s.Offered })},
	{Measure: stats.Measure{Name: "sent_per_ok", Lower: true, Relative: true, MinEffect: 0.01}, Title: "Attempts per success", Of: ratio(
		func(s *Summary) int64 { return s.Sent }, func(s *Summary) int64 { return s.OK })},
	share("rejected_steady", "429s per attempt, once there", func(s *Summary) float64 { return s.RejectedSteady }),
	share("rejected_transient", "429s per attempt, on the way", func(s *Summary) float64 { return s.RejectedTransient }),
	{Measure: stats.Measure{Name: "recover", Lower: true, MinEffect: 1}, Title: "Time to recover", Unit: "s", Of: func(s *Summary) float64 { return s.Recover }},
	inTime("settled_in_time", "Settled in time", func(s *Summary) (int, int) { return s.SettledInTime, settling(s) }),
	inTime("recovered_in_time", "Recovered in time", func(s *Summary) (int, int) { return s.RecoveredInTime, s.Changes }),
	share("overshoot", "Overshoot of the limit", func(s *Summary) float64 { return s.Overshoot }),
	{Measure: stats.Measure{Name: "herd", Lower: true, MinEffect: 0.1}, Title: "Herd after a pause", Of: func(s *Summary) float64 { return s.Herd }},
	{Measure: stats.Measure{Name: "inside", Lower: true, MinEffect: 1}, Title: "Attempts inside a pause", Unit: "requests", Of: func(s *Summary) float64 { return float64(s.Inside) }},
	share("wasted", "Tokens wasted", func(s *Summary) float64 { return s.Wasted }),
	duration("ttft_p50", "Median time to the first byte", func(s *Summary) time.Duration { return s.FirstByte50 }),
	duration("ttft_p99", "99th percentile of the time to the first byte", func(s *Summary) time.Duration { return s.FirstByte99 }),
	duration("tpot_p50", "Median time for a token", func(s *Summary) time.Duration { return s.PerToken50 }),
	duration("tpot_p99", "99th percentile of the time for a token", func(s *Summary) time.Duration { return s.PerToken99 }),
	share("regret", "Regret against the oracle", func(s *Summary) float64 { return s.Regret }),
	share("regret_static", "Regret against the best constant limit", func(s *Summary) float64 { return s.RegretStatic }),
	share("regret_piecewise", "Regret against the best limits that change", func(s *Summary) float64 { return s.RegretPiecewise }),
	{Measure: stats.Measure{Name: "swing", Lower: true, MinEffect: 0.01}, Title: "Swing of the limit", Unit: "share", Of: func(s *Summary) float64 { return s.Swing }},
	{Measure: stats.Measure{Name: "limit", Relative: true, MinEffect: 0.01}, Title: "Mean limit", Unit: "requests", Of: func(s *Summary) float64 {
		if math.IsInf(s.MeanLimit, 0) {
			return math.NaN() // there is none
		}
		return s.MeanLimit
	}},
	{Measure: stats.Measure{Name: "in_flight", Relative: true, MinEffect: 0.01}, Title: "Mean in flight", Unit: "requests", Of: func(s *Summary) float64 { return s.MeanInFlight }},
	{Measure: stats.Measure{Name: "fairness", MinEffect: 0.01}, Title: "Jain's fairness index", Of: func(s *Summary) float64 {
		if s.Fairness == 0 {
			return math.NaN()
		}
		return s.Fairness
	}},
}

func share(name, title string, of func(*Summary) float64) Figure {
	return Figure{Measure: stats.Measure{Name: name, Lower: true, MinEffect: 0.01}, Title: title, Unit: "share", Of: of}
}

// inTime is the share of some times that were within what is allowed.
func inTime(name, title string, of func(*Summary) (in, all int)) Figure {
	return Figure{Measure: stats.Measure{Name: name, MinEffect: 0.01}, Title: title, Unit: "share", Of: func(s *Summary) float64 {
		in, all := of(s)
		if all == 0 {
			return math.NaN()
		}
		return float64(in) / float64(all)
	}}
}

// settling returns how many seeds had a level to settle at; 0 where it is not known how soon they should.
func settling(s *Summary) int {
	if s.NoLevel || s.SettleAllowed == 0 {
		return 0
	}
	return max(1, s.Seeds)
}

// duration is latency for what is not known when it is zero, too.
func duration(name, title string, of func(*Summary) time.Duration) Figure {
	return latency(name, title, func(s *Summary) time.Duration {
		if d := of(s); d > 0 {
			return d
		}
		return -1
	})
}

func latency(name, title string, of func(*Summary) time.Duration) Figure {
	return Figure{
		Measure: stats.Measure{Name: name, Lower: true, Relative: true, MinEffect: 0.01}, Title: title, Unit: "s",
		Of: func(s *Summary) float64 {
			if d := of(s); d >= 0 {
				return d.Seconds()
			}
			return math.NaN()
		},
	}
}

// perOK is 429s per success, with a number where nothing succeeded, so that the worst is not left out as undefined.
func perOK(s *Summary) float64 { return min(rejected(*s), manyRejections) }

func ratio(a, b func(*Summary) int64) func(*Summary) float64 {
	return func(s *Summary) float64 {
		if b(s) == 0 {
			return math.NaN()
		}
		return float64(a(s)) / float64(b(s))
	}
}

// Figures returns all figures. The first three, goodput, rejected_per_ok and score, make the verdict.
func Figures() []Figure { return slices.Clone(figures) }

// FigureNames returns the names of all figures.
func FigureNames() []string {
	names := make([]string, len(figures))
	for i, f := range figures {
		names[i] = f.Name
	}
	return names
}

// FindFigure returns the figure with a name; ok is false when there is none.
func FindFigure(name string) (f Figure, ok bool) {
	i := slices.IndexFunc(figures, func(f Figure) bool { return f.Name == strings.TrimSpace(name) })
	if i < 0 {
		return Figure{}, false
	}
	return figures[i], true
}

// Values returns the figure of each seed, in the order of the seeds.
func (f Figure) Values(seeds []SeedSummary) []float64 {
	out := make([]float64, len(seeds))
	for i := range seeds {
		out[i] = f.Of(&seeds[i].Summary)
	}
	return out
}

// Format writes a value of the figure with its unit.
func (f Figure) Format(v float64) string {
	switch {
	case math.IsNaN(v):
		return dash
	case f.Unit == "s" && math.IsInf(v, 1):
		return "never"
	case f.Unit == "share":
		return signed(v, formatFine(v*100)+" %")
	case f.Unit == "s":
		return signed(v, formatDuration(time.Duration(math.Abs(v)*1e9)))
	case f.Unit == "":
		return signed(v, formatFine(v))
	}
	return signed(v, formatFine(v)+" "+f.Unit)
}

// FormatEffect writes a difference of the figure: as a percentage of the baseline, as points, or in its unit.
func (f Figure) FormatEffect(v float64) string {
	sign := "+"
	if v < 0 {
		sign = ""
	}
	switch {
	case math.IsNaN(v):
		return dash
	case f.Relative && math.Abs(v) > 100:
		return sign + signed(v, "∞")
	case f.Relative:
		return sign + signed(v, formatFine(v*100)+" %")
	case f.Unit == "share":
		return sign + signed(v, formatFine(v*100)+" points")
	case f.Unit == "s": // always in the same unit, so that the ends of an interval can be compared
		return sign + signed(v, formatFine(v)+" s")
	}
	return sign + f.Format(v)
}

// signed puts a minus sign, the typographic one, before the text of a size.
func signed(v float64, size string) string {
	size = strings.TrimPrefix(strings.TrimPrefix(size, "-"), "−")
	if v < 0 {
		return "−" + size
	}
	return size
}

// Pair returns the seeds that two runs have in common, as pairs in the order of the seeds.
func Pair(a, b []SeedSummary) (left, right []SeedSummary) {
	at := map[uint64]int{}
	for i, s := range b {
		at[s.Seed] = i
	}
	for _, s := range a {
		if i, ok := at[s.Seed]; ok {
			left, right = append(left, s), append(right, b[i])
		}
	}
	return left, right
}

// Compare compares figures of two runs over the seeds that they share; see [stats.Compare]. What counts as a difference of 429s is,
// beside a hundredth for each success, a tenth of the larger.
func Compare(baseline, candidate *Run, fs []Figure, alpha float64) []stats.Comparison {
	a, b := Pair(baseline.PerSeed, candidate.PerSeed)
	pairs := make([]stats.Pairs, len(fs))
	for i, f := range fs {
		pairs[i] = stats.Pairs{Measure: f.Measure, Baseline: f.Values(a), Candidate: f.Values(b)}
		if f.Name == "rejected_per_ok" {
			pairs[i].MinEffect = max(f.MinEffect, rejectedRatio*max(stats.Mean(pairs[i].Baseline), stats.Mean(pairs[i].Candidate)))
		}
	}
	seed := uint64(1)
	if len(a) > 0 {
		seed = a[0].Seed
	}
	return stats.Compare(pairs, alpha, seed)
}

// Overall makes one verdict of those of goodput, 429s and score, in this order. When goodput and 429s agree, or one of them is
// level, that is the verdict; when they disagree or one is open, it is the score's.
func Overall(cs []stats.Comparison) stats.Verdict {
	g, r, score := cs[0].Verdict, cs[1].Verdict, cs[2].Verdict
	switch {
	case g == stats.Inconclusive || r == stats.Inconclusive:
		return score
	case g == r || r == stats.Equivalent:
		return g
	case g == stats.Equivalent:
		return r
	}
	return score
}
