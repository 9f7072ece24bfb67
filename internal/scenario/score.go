package scenario

import (
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/stats"
)

// summary scores a run against what nobody could have exceeded.
func summary(r *sim.Result, bound *sim.Limits) report.Summary {
	s := report.Summary{
		Seeds:   1,
		Offered: r.Offered, OK: r.OK, Failed: r.Failed, Refused: r.Refused, Unfinished: r.Unfinished,
		Sent: r.Sent, Rejected429: r.Rejected,
		Goodput:       math.NaN(),
		GoodputRate:   float64(r.InTime) / bound.Horizon.Seconds(),
		RejectedPerOK: report.RejectedPerOK(r.Rejected, r.OK),
		MeanLimit:     r.MeanLimit,
		MeanInFlight:  r.MeanInFlight,
	}
	switch {
	case bound.ByTokens && bound.Tokens > 0:
		s.Goodput = float64(r.TokensInTime) / float64(bound.Tokens)
	case bound.OK > 0:
		s.Goodput = float64(r.InTime) / float64(bound.OK)
	}
	s.GoodputLow, s.GoodputHigh = s.Goodput, s.Goodput
	s.Regret, s.RegretStatic, s.RegretPiecewise = 1-report.Value(s.Goodput, r.Rejected, r.Sent), math.NaN(), math.NaN()
	s.Mean, s.P50, s.P90, s.P99 = report.Latencies(r.Latencies)
	s.FirstByte50, s.FirstByte99 = percentiles(r.FirstBytes)
	s.PerToken50, s.PerToken99 = percentiles(r.PerToken)
	return s
}

// percentiles returns the 50th and the 99th percentile of sorted times; -1 when there are none.
func percentiles(sorted []time.Duration) (p50, p99 time.Duration) {
	if len(sorted) == 0 {
		return -1, -1
	}
	p50, _ = stats.Percentile(sorted, 50)
	p99, _ = stats.Percentile(sorted, 99)
	return p50, p99
}

// settling tells when a run had settled at first, and recovered in each of the later phases.
func settling(s *report.Summary, phases []sim.Phase) {
	s.NoLevel, s.Recover = true, math.NaN()
	for i := range phases {
		p := &phases[i]
		if p.From == 0 {
			s.NoLevel, s.Settled, s.SettleAllowed = false, p.Settled >= 0, p.Allowed()
			if s.Settled {
				s.Settle = p.Settled
				if p.Settled <= p.Allowed() {
					s.SettledInTime = 1
				}
			}
			continue
		}
		kind := report.Fall
		switch {
		case p.Outage():
			kind = report.AfterDown
		case p.Rise():
			kind = report.Rise
		}
		s.Changes++
		s.ChangesBy[kind]++
		took := math.Inf(1)
		if p.Recovered >= 0 {
			took = p.Recovered.Seconds()
			if p.Recovered <= sim.RecoverTime {
				s.RecoveredInTime++
				s.RecoveredBy[kind]++
			}
		}
		if !(s.Recover >= took) {
			s.Recover = took
		}
	}
}

// series returns the series of a run for charts.
func series(s *sim.Series) report.Series {
	per := 1 / s.Step.Seconds()
	return report.Series{
		Step: s.Step, Limit: s.Limit, Pace: s.Pace, InFlight: s.InFlight, Waiting: s.Waiting,
		Goodput: scaled(s.OK, per), Rejected: scaled(s.Rejected, per),
	}
}

func scaled(xs []float64, by float64) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = x * by
	}
	return out
}

// decisions returns the decisions of a run for charts.
func decisions(steps []sim.Step) []report.Decision {
	var ds []report.Decision
	// Of several guards the first one's are shown.
	steps = slices.DeleteFunc(slices.Clone(steps), func(s sim.Step) bool { return s.Guard != 0 })
	for i, s := range steps {
		if p := i - 1; p >= 0 && steps[p].Limit == s.Limit && steps[p].Pace == s.Pace && steps[p].Cause == s.Cause && steps[p].NotBefore == s.NotBefore {
			continue
		}
		d := report.Decision{At: s.At, Limit: s.Limit, Pace: s.Pace, Cause: s.Cause.String(), Binding: "limit"}
		switch {
		case s.NotBefore > s.At:
			d.Binding = "pause"
		case s.Pace > 0:
			d.Binding = "pace"
		}
		ds = append(ds, d)
	}
	return ds
}

// oracle describes the bound for the report: goodput is the mean over the seeds, levels are those of the first.
func oracle(bounds []*sim.Limits) report.Oracle {
	o := report.Oracle{Note: report.NoteBound + ", for the same arrivals and service times: every request passes as early as the upstream can take it, nobody is refused"}
	for _, b := range bounds {
		if b != nil && !b.Exact {
			o.Note = report.NoteEstimate + ", which a controller may exceed by a little: every request passes as early as the upstream can take it, in order of arrival, and servers do what they could do with the best number in flight"
			if b.ByTokens {
				o.Note += report.NoteTokens
			}
		}
	}
	n := 0
	for _, b := range bounds {
		if b == nil {
			continue
		}
		if n == 0 {
			o.Step, o.Limit, o.Rate = b.Step, b.Limit, b.Rate
		}
		o.Goodput += float64(b.OK) / b.Horizon.Seconds()
		n++
	}
	o.Goodput /= float64(max(1, n))
	return o
}
