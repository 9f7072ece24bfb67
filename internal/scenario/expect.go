package scenario

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/report"
)

// Expect is what a controller must reach in a scenario: ranges, both ends allowed. A nil range is not asked for.
type Expect struct {
	// Goodput is successes as a share of the oracle's, the mean over the seeds.
	Goodput []float64
	// RejectedPerOK is 429s per success.
	RejectedPerOK []float64
	// P50, P99 and Settle are as in report.Summary. A run that does not settle has not.
	P50, P99, Settle []time.Duration
}

type expectTable struct {
	Goodput       []float64       `toml:"goodput" len:"2..2" range:"0..2"`
	RejectedPerOK []float64       `toml:"rejected_per_ok" len:"2..2" range:"0.."`
	P50           []time.Duration `toml:"p50" len:"2..2"`
	P99           []time.Duration `toml:"p99" len:"2..2"`
	Settle        []time.Duration `toml:"settle" len:"2..2"`
}

func (t expectTable) expect() Expect {
	return Expect(t)
}

// Check reports ranges the wrong way round.
func (t *expectTable) Check(k strict.Key) {
	ordered(k.At("goodput"), t.Goodput)
	ordered(k.At("rejected_per_ok"), t.RejectedPerOK)
	ordered(k.At("p50"), t.P50)
	ordered(k.At("p99"), t.P99)
	ordered(k.At("settle"), t.Settle)
}

func ordered[T float64 | time.Duration](k strict.Key, r []T) {
	if len(r) == 2 && r[1] < r[0] {
		k.Errorf("is [%v, %v]: max < min; write the smaller one first", r[0], r[1])
	}
}

// A Miss is an expectation that was not met.
type Miss struct {
	Scenario, Controller, Measure string
	Got, Low, High                string
}

// String says what was expected and what came.
func (m Miss) String() string {
	return fmt.Sprintf("%s: %s: %s is %s, expected %s to %s", m.Scenario, m.Controller, m.Measure, m.Got, m.Low, m.High)
}

// Check compares a report with what its scenarios expect. Controllers that did not run and scenarios that were
// interrupted are left out.
func Check(scenarios []*Scenario, r *report.Report) []Miss {
	var misses []Miss
	for _, rs := range r.Scenarios {
		i := slices.IndexFunc(scenarios, func(s *Scenario) bool { return s.Name == rs.Name })
		if i < 0 || rs.Interrupted {
			continue
		}
		for _, run := range rs.Runs {
			e, ok := scenarios[i].Expect[run.Controller]
			if !ok {
				continue
			}
			s := run.Summary
			miss := func(measure, got, low, high string) {
				misses = append(misses, Miss{rs.Name, run.Controller, measure, got, low, high})
			}
			ratio := func(measure string, got float64, want []float64) {
				if len(want) == 2 && !(got >= want[0] && got <= want[1]) {
					miss(measure, fmt.Sprintf("%.4g", got), fmt.Sprint(want[0]), fmt.Sprint(want[1]))
				}
			}
			span := func(measure string, got time.Duration, known bool, want []time.Duration) {
				if len(want) == 2 && !(known && got >= want[0] && got <= want[1]) {
					text := got.Round(time.Millisecond).String()
					if !known {
						text = "never"
					}
					miss(measure, text, want[0].String(), want[1].String())
				}
			}
			ratio("goodput", s.Goodput, e.Goodput)
			if math.IsInf(s.RejectedPerOK, 1) {
				s.RejectedPerOK = math.MaxFloat64
			}
			ratio("rejected_per_ok", s.RejectedPerOK, e.RejectedPerOK)
			span("p50", s.P50, s.P50 >= 0, e.P50)
			span("p99", s.P99, s.P99 >= 0, e.P99)
			span("settle", s.Settle, s.Settled && !s.NoLevel, e.Settle)
		}
	}
	return misses
}
