package load

import (
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/report"
)

// Note is what a report says in place of an oracle.
const Note = "demand: nobody knows what a real server could have done, so goodput is the share of what was asked for"

// Run returns a result as the run of a controller in a report. duration is that of its Config.
func (r *Result) Run(name string, ours bool, duration time.Duration) report.Run {
	s := report.Summary{
		Seeds:   1,
		Offered: r.Offered, OK: r.OK, Failed: r.Failed, Refused: r.Refused, Unfinished: r.Unfinished,
		Sent: r.Sent, Rejected429: r.Rejected,
		Goodput:       math.NaN(),
		GoodputRate:   float64(r.InTime) / duration.Seconds(),
		RejectedPerOK: report.RejectedPerOK(r.Rejected, r.OK),
		MeanLimit:     math.NaN(),
		MeanInFlight:  r.MeanInFlight,
		NoLevel:       true,
		Regret:        math.NaN(), RegretStatic: math.NaN(), RegretPiecewise: math.NaN(),
	}
	if r.Offered > 0 {
		s.Goodput = float64(r.InTime) / float64(r.Offered)
	}
	s.GoodputLow, s.GoodputHigh = s.Goodput, s.Goodput
	if r.MeanLimit > 0 {
		s.MeanLimit = r.MeanLimit
	}
	s.Mean, s.P50, s.P90, s.P99 = report.Latencies(slices.Clone(r.Latencies))
	per := 1 / r.Series.Step.Seconds()
	run := report.Run{Controller: name, Ours: ours, Summary: s, Series: report.Series{
		Step: r.Series.Step, Limit: gaps(r.Series.Limit), Pace: gaps(r.Series.Pace), InFlight: r.Series.InFlight, Waiting: r.Series.Waiting,
		Goodput: scaled(r.Series.OK, per), Rejected: scaled(r.Series.Rejected, per),
	}}
	for _, d := range r.Decisions {
		rd := report.Decision{At: max(0, d.At), Limit: d.Limit, Pace: d.Pace, Cause: d.Cause.String(), Binding: "limit"}
		switch {
		case d.NotBefore > 0 && d.Cause.String() == "retry_after":
			rd.Binding = "pause"
		case d.Pace > 0:
			rd.Binding = "pace"
		}
		run.Decisions = append(run.Decisions, rd)
	}
	return run
}

// gaps makes zeros gaps: no limit, no pace.
func gaps(xs []float64) []float64 {
	out := slices.Clone(xs)
	for i, x := range out {
		if x == 0 {
			out[i] = math.NaN()
		}
	}
	return out
}

func scaled(xs []float64, by float64) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = x * by
	}
	return out
}

// Oracle returns what stands in the report in place of an oracle: the demand.
func Oracle(runs []*Result, duration time.Duration) report.Oracle {
	o := report.Oracle{Note: Note}
	for _, r := range runs {
		o.Goodput = max(o.Goodput, float64(r.Offered)/duration.Seconds())
	}
	return o
}

// Gap returns the 99th percentile of the latencies from when requests were meant to start, and from when they were sent: what
// coordinated omission would have hidden. Both are -1 when nothing went well.
func (r *Result) Gap() (fromIntended, fromSend time.Duration) {
	_, _, _, fromIntended = report.Latencies(slices.Clone(r.Latencies))
	_, _, _, fromSend = report.Latencies(slices.Clone(r.FromSend))
	return fromIntended, fromSend
}
