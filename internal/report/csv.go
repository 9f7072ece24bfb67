package report

import (
	"encoding/csv"
	"io"
	"math"
	"strconv"
	"strings"
)

// WriteCSV writes one line for each scenario, controller and seed, after a line with the names of the columns: scenario, controller, seed, the
// counts offered, ok, failed, refused, unfinished, sent, rejected_429, and the figures of [Figures]. A value that is not defined
// is empty, a time that never came inf. It returns the first error of w.
func WriteCSV(w io.Writer, r *Report) error {
	c := csv.NewWriter(w)
	head := []string{"scenario", "controller", "seed", "offered", "ok", "failed", "refused", "unfinished", "sent", "rejected_429"}
	c.Write(append(head, FigureNames()...)) //nolint:errcheck // Flush keeps the first error
	line := func(s *Scenario, run *Run, seed string, sum *Summary) {
		row := []string{cellText(s.Name), cellText(run.Controller), seed}
		for _, n := range []int64{sum.Offered, sum.OK, sum.Failed, sum.Refused, sum.Unfinished, sum.Sent, sum.Rejected429} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		for _, f := range figures {
			row = append(row, CellNumber(f.Of(sum)))
		}
		c.Write(row) //nolint:errcheck
	}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for k := range s.Runs {
			run := &s.Runs[k]
			for _, seed := range run.PerSeed {
				line(s, run, strconv.FormatUint(seed.Seed, 10), &seed.Summary)
			}
			if len(run.PerSeed) == 0 {
				line(s, run, "", &run.Summary)
			}
		}
	}
	c.Flush()
	return c.Error()
}

// WriteSeriesCSV writes the time lines: one line for each scenario, controller and step, with t in seconds, the values of the first seed and,
// where there are three seeds or more, the 10th and 90th percentile over the seeds. It returns the first error of w.
func WriteSeriesCSV(w io.Writer, r *Report) error {
	c := csv.NewWriter(w)
	head := []string{"scenario", "controller", "t_s"}
	parts := []struct {
		name string
		of   func(*Series) []float64
	}{
		{"limit", func(s *Series) []float64 { return s.Limit }}, {"pace_rps", func(s *Series) []float64 { return s.Pace }},
		{"in_flight", func(s *Series) []float64 { return s.InFlight }}, {"waiting", func(s *Series) []float64 { return s.Waiting }},
		{"goodput_rps", func(s *Series) []float64 { return s.Goodput }}, {"rejected_429_rps", func(s *Series) []float64 { return s.Rejected }},
	}
	for _, p := range parts {
		head = append(head, p.name, p.name+"_p10", p.name+"_p90")
	}
	c.Write(head) //nolint:errcheck // Flush keeps the first error
	at := func(values []float64, i int) string {
		if i >= len(values) || math.IsInf(values[i], 0) { // there is no limit, or no pace
			return ""
		}
		return CellNumber(values[i])
	}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		for k := range s.Runs {
			run := &s.Runs[k]
			for n := range longest(run.Series) {
				row := []string{cellText(s.Name), cellText(run.Controller), strconv.FormatFloat(float64(n)*run.Series.Step.Seconds(), 'g', 10, 64)}
				for _, p := range parts {
					row = append(row, at(p.of(&run.Series), n), at(p.of(&run.Low), n), at(p.of(&run.High), n))
				}
				c.Write(row) //nolint:errcheck
			}
		}
	}
	c.Flush()
	return c.Error()
}

// CellNumber is a number in a cell of CSV: nothing for one that is not defined, and inf for one that is infinite, as most that read CSV take it.
func CellNumber(v float64) string {
	switch {
	case math.IsNaN(v):
		return ""
	case math.IsInf(v, 0):
		return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(v, 'g', -1, 64)), "+")
	}
	return strconv.FormatFloat(v, 'g', 8, 64)
}

// cellText keeps a spreadsheet from taking a name for a formula.
func cellText(s string) string {
	if s != "" && (s[0] == '=' || s[0] == '+' || s[0] == '-' || s[0] == '@') {
		return "'" + s
	}
	return s
}
