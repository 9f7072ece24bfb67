package report

import (
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/stats"
)

// finite reports whether v is a number that can be shown.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Latencies sorts ds in place and returns its mean and its 50th, 90th and 99th
// percentile, ready for a Summary: each is -1 ns when ds is empty.
func Latencies(ds []time.Duration) (mean, p50, p90, p99 time.Duration) {
	if len(ds) == 0 {
		return -1, -1, -1, -1
	}
	slices.Sort(ds)
	p50, _ = stats.Percentile(ds, 50)
	p90, _ = stats.Percentile(ds, 90)
	p99, _ = stats.Percentile(ds, 99)
	return meanDuration(ds), p50, p90, p99
}

// meanDuration returns the mean of ds, which is not empty, rounded to a
// nanosecond. A sum of durations may overflow int64; a float64 has no such edge
// and its error (1 part in 2^53 a step) is far below a nanosecond here.
func meanDuration(ds []time.Duration) time.Duration {
	var sum float64
	for _, d := range ds {
		sum += float64(d)
	}
	return time.Duration(math.Round(sum / float64(len(ds))))
}

// Merge combines the summaries of one controller in one scenario, one for each
// seed. Counts are added; RejectedPerOK is computed anew from them; Goodput,
// GoodputRate, the latencies and the other ratios are means over
// the seeds (over those where they are known), so a P99 is the mean of the seeds'
// 99th percentiles. It returns the zero Summary for none.
func Merge(perSeed []Summary) Summary {
	if len(perSeed) == 0 {
		return Summary{}
	}
	m := Summary{Settled: true, NoLevel: true, GoodputLow: math.Inf(1), GoodputHigh: math.Inf(-1)}
	var settle []time.Duration
	for _, s := range perSeed {
		m.Seeds += max(1, s.Seeds)
		m.Offered += s.Offered
		m.OK += s.OK
		m.Failed += s.Failed
		m.Refused += s.Refused
		m.Unfinished += s.Unfinished
		m.Sent += s.Sent
		m.Rejected429 += s.Rejected429
		m.Changes += s.Changes
		for i := range s.ChangesBy {
			m.ChangesBy[i] += s.ChangesBy[i]
			m.RecoveredBy[i] += s.RecoveredBy[i]
		}
		m.SettledInTime += s.SettledInTime
		m.RecoveredInTime += s.RecoveredInTime
		m.SettleAllowed = max(m.SettleAllowed, s.SettleAllowed)
		m.GoodputLow = min(m.GoodputLow, s.Goodput)
		m.GoodputHigh = max(m.GoodputHigh, s.Goodput)
		if s.NoLevel {
			continue
		}
		m.NoLevel = false
		if s.Settled {
			settle = append(settle, s.Settle)
		} else {
			m.Settled = false
		}
	}
	m.RejectedPerOK = RejectedPerOK(m.Rejected429, m.OK)
	m.Goodput = meanOf(perSeed, func(s Summary) float64 { return s.Goodput })
	m.GoodputRate = meanOf(perSeed, func(s Summary) float64 { return s.GoodputRate })
	m.MeanLimit = meanOf(perSeed, func(s Summary) float64 { return s.MeanLimit })
	m.MeanInFlight = meanOf(perSeed, func(s Summary) float64 { return s.MeanInFlight })
	m.Swing = meanOf(perSeed, func(s Summary) float64 { return s.Swing })
	m.RejectedSteady = meanOf(perSeed, func(s Summary) float64 { return s.RejectedSteady })
	m.RejectedTransient = meanOf(perSeed, func(s Summary) float64 { return s.RejectedTransient })
	m.Overshoot = meanOf(perSeed, func(s Summary) float64 { return s.Overshoot })
	m.Herd = meanOf(perSeed, func(s Summary) float64 { return s.Herd })
	m.Wasted = meanOf(perSeed, func(s Summary) float64 { return s.Wasted })
	m.Recover = meanOf(perSeed, func(s Summary) float64 { return s.Recover })
	for _, s := range perSeed {
		m.Inside += s.Inside
		if math.IsInf(s.Recover, 1) {
			m.Recover = s.Recover // one that never comes back has no mean
		}
	}
	m.Fairness = meanOf(perSeed, func(s Summary) float64 { return s.Fairness })
	m.Mean = meanKnown(perSeed, func(s Summary) time.Duration { return s.Mean })
	m.P50 = meanKnown(perSeed, func(s Summary) time.Duration { return s.P50 })
	m.P90 = meanKnown(perSeed, func(s Summary) time.Duration { return s.P90 })
	m.P99 = meanKnown(perSeed, func(s Summary) time.Duration { return s.P99 })
	m.FirstByte50 = meanPositive(perSeed, func(s Summary) time.Duration { return s.FirstByte50 })
	m.FirstByte99 = meanPositive(perSeed, func(s Summary) time.Duration { return s.FirstByte99 })
	m.PerToken50 = meanPositive(perSeed, func(s Summary) time.Duration { return s.PerToken50 })
	m.PerToken99 = meanPositive(perSeed, func(s Summary) time.Duration { return s.PerToken99 })
	m.Regret = meanOf(perSeed, func(s Summary) float64 { return s.Regret })
	m.RegretStatic = meanOf(perSeed, func(s Summary) float64 { return s.RegretStatic })
	m.RegretPiecewise = meanOf(perSeed, func(s Summary) float64 { return s.RegretPiecewise })
	m.Settled = m.Settled && !m.NoLevel
	if m.Settled {
		m.Settle = meanDuration(settle)
	}
	return m
}

// meanPositive is meanKnown for times that are not known when they are zero, too.
func meanPositive(ss []Summary, f func(Summary) time.Duration) time.Duration {
	return meanKnown(ss, func(s Summary) time.Duration {
		if d := f(s); d > 0 {
			return d
		}
		return -1
	})
}

// Value is what regret compares: goodput (a count, or a share of something) · e^(−10 · 429s per attempt). Without the second factor whoever
// floods an upstream whose refusals cost nothing would be best.
func Value(goodput float64, rejected, sent int64) float64 {
	return goodput * math.Exp(-10*float64(rejected)/float64(max(1, sent)))
}

// RejectedPerOK returns how many 429s one success cost: 0 when there was neither,
// +Inf when there were only 429s.
func RejectedPerOK(rejected, ok int64) float64 {
	switch {
	case rejected == 0:
		return 0
	case ok == 0:
		return math.Inf(1)
	}
	return float64(rejected) / float64(ok)
}

func meanOf(ss []Summary, f func(Summary) float64) float64 {
	xs := make([]float64, len(ss))
	for i, s := range ss {
		xs[i] = f(s)
	}
	return stats.Mean(xs)
}

func meanKnown(ss []Summary, f func(Summary) time.Duration) time.Duration {
	var known []time.Duration
	for _, s := range ss {
		if d := f(s); d >= 0 {
			known = append(known, d)
		}
	}
	if len(known) == 0 {
		return -1
	}
	return meanDuration(known)
}
