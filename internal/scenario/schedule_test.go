package scenario

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
)

const plain = `
name = "scheduled"
intent = "Parameters that follow schedules."
duration = "100s"

[workload]
kind = "poisson"
rate = 5.0

[[upstream.quota]]
requests_per_minute = 60

[[upstream.quota]]
requests_per_day = 1000

[upstream.concurrency]
limit = 10

[upstream.server]
service = { mean = "100ms" }
`

// Ramps and waves become steps, in the order of time, and together with steps.
func TestSchedules(t *testing.T) {
	s, err := Parse("plain.toml", []byte(plain+`
[[ramp]]
set = "upstream.concurrency.limit"
at = "10s"
until = "20s"
from = 10
to = 30

[[wave]]
set = "workload.rate"
mean = 5.0
swing = 4.0
period = "50s"
peak = "25s"

[[change]]
set = "upstream.quota.burst"
quota = 2
at = "5s"
to = 7
`))
	if err != nil {
		t.Fatal(err)
	}
	var ramp, wave []sim.Change
	last := time.Duration(0)
	for _, c := range s.World.Changes {
		if c.At < last {
			t.Fatalf("a change at %v comes after one at %v", c.At, last)
		}
		last = c.At
		switch c.Param.Kind {
		case upstream.ParamConcurrency:
			ramp = append(ramp, c)
		case upstream.ParamQuotaBurst:
			if c.Param.Index != 1 || c.At != 5*time.Second || c.To != 7 {
				t.Errorf("the step is %+v", c)
			}
		case sim.ParamRate.Kind:
			wave = append(wave, c)
		}
	}
	if n := len(ramp); n != 101 || ramp[0].To != 10 || ramp[0].At != 10*time.Second || ramp[n-1].To != 30 || ramp[n-1].At != 20*time.Second || math.Abs(ramp[50].To-20) > 1e-9 {
		t.Errorf("the ramp has %d steps, from %+v to %+v", n, ramp[0], ramp[len(ramp)-1])
	}
	var high, low float64 = 0, 99
	var peak time.Duration
	for _, c := range wave {
		if c.To > high {
			high, peak = c.To, c.At
		}
		low = min(low, c.To)
	}
	if math.Abs(high-9) > .05 || math.Abs(low-1) > .05 || (peak-25*time.Second).Abs() > 2*time.Second {
		t.Errorf("the wave goes from %v to %v, with its peak at %v", low, high, peak)
	}
}

// A schedule file is read beside the scenario, and each mistake has its line.
func TestScheduleFile(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "capacity.jsonl"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, "s.toml")
	text := []byte(strings.Replace(plain, `duration = "100s"`, "duration = \"100s\"\nschedule = \"capacity.jsonl\"", 1))
	write(`{"t": 30, "key": "upstream.concurrency.limit", "value": 5}` + "\n\n" + `{"t": 10.5, "key": "upstream.quota.limit", "quota": 2, "value": 500}`)
	s, err := Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	if cs := s.World.Changes; len(cs) != 2 || cs[0].At != 10500*time.Millisecond || cs[0].Param != (sim.Param{Kind: upstream.ParamQuotaLimit, Index: 1}) || cs[1].To != 5 {
		t.Errorf("changes are %+v", cs)
	}
	for bad, want := range map[string]string{
		`{"t": 1, "key": "upstream.cap", "value": 5}`:                  "key is \"upstream.cap\"",
		`{"t": -1, "key": "upstream.concurrency.limit", "value": 5}`:   "t is missing or out of range",
		`{"t": 1, "key": "upstream.concurrency.limit"}`:                "value is missing",
		`{"t": 1, "key": "upstream.concurrency.limit", "value": 1e99}`: "value is missing or out of range",
		`{"t": 1, "k": "upstream.concurrency.limit", "value": 1}`:      "unknown field",
		`nonsense`: "is no line like",
	} {
		write(`{"t": 30, "key": "upstream.concurrency.limit", "value": 5}` + "\n" + bad)
		if _, err := Parse(name, text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "capacity.jsonl:2") || !strings.Contains(err.Error(), "s.toml:5:1") {
			t.Errorf("%s: error %v, want one with %q and both lines", bad, err, want)
		}
	}
	os.Remove(filepath.Join(dir, "capacity.jsonl"))
	if _, err := Parse(name, text); err == nil || !strings.Contains(err.Error(), "capacity.jsonl") {
		t.Errorf("a schedule that is not there gives %v", err)
	}
}

// Presets have the quantiles that were measured, within 12 %, and the burstiness of their fits.
func TestPresets(t *testing.T) {
	quantile := func(d *draw.Dist, p float64) float64 {
		const n = 40_000
		xs := make([]float64, n)
		for i := range xs {
			xs[i] = d.Sample(5, 10, uint64(i))
		}
		return quantileOf(xs, p)
	}
	for _, c := range []struct {
		preset        string
		input, output [3]float64 // p50, p90, p99
	}{
		{"chat", [3]float64{1020, 2734, 4142}, [3]float64{129, 424, 601}},
		{"code", [3]float64{1469, 5188, 7436}, [3]float64{13, 55, 251}},
		{"agent-long", [3]float64{6909, 27367, 85400}, [3]float64{350, 597, 1119}},
		{"reasoning", [3]float64{180, 3473, 26836}, [3]float64{1014, 5423, 15063}},
		{"tenants", [3]float64{595, 2377, 5623}, [3]float64{61, 470, 917}},
	} {
		p := presets[c.preset]
		for k, share := range []float64{.5, .9, .99} {
			for what, pair := range map[string][2]float64{"input": {quantile(&p.input, share), c.input[k]}, "output": {quantile(&p.output, share), c.output[k]}} {
				if math.Abs(pair[0]/pair[1]-1) > .12 {
					t.Errorf("%s, %s: the %v quantile is %.0f, the trace has %.0f", c.preset, what, share, pair[0], pair[1])
				}
			}
		}
	}
}

func quantileOf(xs []float64, p float64) float64 {
	slices.Sort(xs)
	return xs[int(p*float64(len(xs)))]
}

// The index of dispersion of the arrivals of chat and code, at several scales, is that of their fits, within a quarter. (That of the
// traces is larger at the longest scales: two states are not enough there.)
func TestPresetsAreBursty(t *testing.T) {
	for _, c := range []struct {
		preset string
		want   map[time.Duration]float64
	}{
		{"chat", map[time.Duration]float64{time.Second: 1.2, 10 * time.Second: 3.3, time.Minute: 10.7}},
		{"code", map[time.Duration]float64{time.Second: 7.8, 10 * time.Second: 45, time.Minute: 77}},
	} {
		cfg := sim.Config{Seed: 1, Duration: 100 * time.Hour, Workload: presets[c.preset].workload()}
		at := sim.Arrivals(&cfg)
		for span, want := range c.want {
			counts := make([]float64, int(cfg.Duration/span))
			for _, a := range at {
				counts[min(len(counts)-1, int(a/span))]++
			}
			var sum, sq float64
			for _, n := range counts {
				sum, sq = sum+n, sq+n*n
			}
			mean := sum / float64(len(counts))
			idc := (sq/float64(len(counts)) - mean*mean) / mean
			t.Logf("%s: index of dispersion over %v: %.1f (fit %.1f)", c.preset, span, idc, want)
			if math.Abs(idc/want-1) > .25 {
				t.Errorf("%s: the index of dispersion over %v is %.2f, want %.2f", c.preset, span, idc, want)
			}
		}
	}
}
