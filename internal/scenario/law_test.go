package scenario_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

// ours runs the guard in a scenario that is written in TOML, with a seed.
func ours(t *testing.T, text string, seed uint64, change func(*config.Settings)) report.Summary {
	t.Helper()
	s, err := scenario.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	cs, err := scenario.ParseControllers("ours")
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Defaults
	change(&settings)
	l := &lab.Lab{CPUs: 1}
	r, err := l.Table(context.Background(), lab.Plan{
		Scenarios: []*scenario.Scenario{s}, Subjects: lab.Subjects(cs, &settings), Seeds: lab.Seeds{First: seed, N: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Scenarios[0].Runs[0].Summary
}

const softKnee = `
name = "soft-knee"
intent = "Each call slows the others by a twentieth: throughput rises for long, and so does latency."
duration = "3m"
[workload]
kind = "backlog"
workers = 300
[guard]
max_wait = "1h"
[upstream.network]
rtt = "2ms"
[upstream.server]
service = { dist = "lognormal", mean = "100ms", sigma = 0.3 }
scale = 0.05
`

// Alone, a call takes 100 ms here; it takes twice as long, and throughput for its latency is largest, with 21 in flight.
func TestObjectives(t *testing.T) {
	for _, test := range []struct {
		objective adaptive.Objective
		low, high float64 // calls in flight on average
	}{
		{adaptive.Throughput, 55, 95},
		{adaptive.Knee, 16, 30},
		{adaptive.Latency, 18, 46},
	} {
		for seed := uint64(1); seed <= 3; seed++ {
			s := ours(t, softKnee, seed, func(s *config.Settings) { s.Adaptive.Objective = test.objective })
			if s.MeanInFlight < test.low || s.MeanInFlight > test.high {
				t.Errorf("%s, seed %d: %.1f in flight on average, want %v to %v", test.objective, seed, s.MeanInFlight, test.low, test.high)
			}
		}
	}
}

// Ten processes join one that has a cap for itself, and nine of them vanish: the cap stays in use, and little is refused.
func TestTenJoinAndNineVanish(t *testing.T) {
	text := `
name = "crowd"
intent = "Ten processes join one that had a cap of 80 for itself; nine of them vanish."
duration = "12m"
[workload]
kind = "backlog"
workers = 660
[workload.retry]
max_attempts = 100
budget = 0.0
[guard]
max_wait = "1h"
[upstream.network]
rtt = "30ms"
refusal = { dist = "lognormal", mean = "60ms", sigma = 0.3 }
[upstream.concurrency]
limit = 80
[upstream.server]
service = { dist = "lognormal", mean = "2s", sigma = 0.7 }
[[replica]]
join = "0s"
[[replica]]
join = "2m"
`
	for range 9 {
		text += fmt.Sprintf("[[replica]]\njoin = %q\nleave = %q\n", "2m", "8m")
	}
	for seed := uint64(1); seed <= 3; seed++ {
		s := ours(t, text, seed, func(*config.Settings) {})
		if s.Goodput < 0.85 || s.RejectedPerOK > 0.045 {
			t.Errorf("seed %d: %.3f of the oracle's goodput and %.4f 429s a success, want at least 0.85 and at most 0.045", seed, s.Goodput, s.RejectedPerOK)
		}
	}
}
