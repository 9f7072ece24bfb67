package scenario

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
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

// A wave may leave of a window what a file may write, but for the rounding of a difference; less is refused.
func TestWaveDownToOne(t *testing.T) {
	t.Parallel()
	for swing, fine := range map[float64]bool{69.1: true, 69.2: false, 60: true, 69.14: true} {
		_, err := Parse("plain.toml", fmt.Appendf(nil, `%s
[[wave]]
set = "upstream.quota.limit"
quota = 2
mean = 70.1
swing = %v
period = "50s"
`, plain, swing))
		if (err == nil) != fine {
			t.Errorf("a swing of %v about 70.1: %v", swing, err)
		}
	}
}

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
		`{"t": 1, "key": "upstream.concurrency.limit", "value": 1} {"t": 2}`:    "more comes after it",
		`{"t": 1, "key": "upstream.concurrency.limit", "value": 0}`:             "value is 0, must be > 0",
		`{"t": 1, "key": "upstream.concurrency.limit", "quota": 1, "value": 1}`: "quota is for parameters of upstream.quota",
		`{"t": 1, "key": "upstream.quota.limit", "quota": 3, "value": 60}`:      "quota is 3, but there are 2",
		`{"t": 1, "key": "upstream.autoscaler.max", "value": 3}`:                "key is \"upstream.autoscaler.max\", but there is no [upstream.autoscaler]",
		`{"t": 1, "key": "upstream.server.kv", "value": 3}`:                     "key is \"upstream.server.kv\", but upstream.server.kind is not \"batch\"",
		`{"t": 1, "key": "workload.rate", "value": 1e15}`:                       "value is 1e+15, must be at most 1000000",
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

// A parameter becomes nothing that it could not be at the start: a rate of 1e15 would keep the program for ever, a round trip as long overflows.
func TestChangesStayInRange(t *testing.T) {
	world := strings.Replace(plain, `service = { mean = "100ms" }`, "servers = 4\nservice = { mean = \"100ms\" }\n[upstream.autoscaler]\nmax = 8.0", 1)
	if _, err := Parse("plain.toml", []byte(world)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct{ more, want string }{
		{"[[change]]\nset = \"workload.rate\"\nat = \"1s\"\nto = 1e15", "change[0].to is 1e+15, must be at most 1000000, as workload.rate is at the start"},
		{"[[ramp]]\nset = \"upstream.network.rtt\"\nat = \"1s\"\nuntil = \"2s\"\nfrom = 1\nto = 61", "ramp[0].to is 61, must be at most 60"},
		{"[[wave]]\nset = \"workload.rate\"\nmean = 1e12\nswing = 1\nperiod = \"10s\"", "wave[0].mean is 1e+12, must be at most 1000000"},
		{"[[wave]]\nset = \"workload.rate\"\nmean = 999999\nswing = 2\nperiod = \"10s\"", "wave[0].swing is 2, must be at most 1: workload.rate is at most 1e+06"},
		{"[[wave]]\nset = \"upstream.concurrency.limit\"\nmean = 0\nswing = 0\nperiod = \"10s\"", "wave[0].mean is 0, must be > 0"},
	} {
		if _, err := Parse("plain.toml", []byte(world+"\n"+bad.more+"\n")); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s\ngives %v, want %q", bad.more, err, bad.want)
		}
	}
}

// An autoscaler begins with the servers that there are.
func TestAutoscalerHasServers(t *testing.T) {
	for text, want := range map[string]string{
		"[upstream.autoscaler]\nmax = 8.0":                   "upstream.autoscaler.max needs upstream.server.servers",
		"servers = 9.5\n[upstream.autoscaler]\nmax = 8.0":    "upstream.autoscaler.max is 8, must be at least upstream.server.servers (9.5)",
		"servers = \"many\"\n[upstream.autoscaler]\nmax = 8": "upstream.server.servers is",
	} {
		if _, err := Parse("plain.toml", []byte(plain+text)); err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v, want %q alone", text, err, want)
		}
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

// Each parameter that a schedule may set makes a difference to a world that has everything, from then on.
func TestEveryParameterMatters(t *testing.T) {
	world := func(server, more string) string {
		return `
name = "everything"
intent = "A world that has every stage."
duration = "100s"

[workload]
kind = "poisson"
rate = 12.0
patience = "20s"
input = { dist = "lognormal", median = 300.0, sigma = 0.5 }
output = { dist = "lognormal", median = 60.0, sigma = 0.5 }

[upstream.network]
rtt = "40ms"
refusal = { dist = "exponential", mean = "20ms" }

[upstream.noise]
share = 0.02

[upstream.connections]
limit = 20
backlog = 10

[[upstream.quota]]
requests_per_minute = 500
burst = 20
retry_after = "exact"
retry_factor = 0.5
retry_missing = 0.2
retry_jitter = 0.2

[upstream.slope]
growth = 0.3
floor = 90

[upstream.concurrency]
limit = 14
lag = { mean = "100ms" }

[upstream.neighbour]
rate = 1.0
input = { mean = 100.0 }
output = { mean = 50.0 }

[upstream.server]
queue_timeout = "3s"
` + server + more
	}
	servers := `kind = "servers"
servers = 8
queue = 6
service = { dist = "lognormal", mean = "400ms", sigma = 0.6 }
input_token = "100us"
output_token = "2ms"
scale = 0.01
knee = 6
knee_base = 1.1
rate_scale = 0.001
stall_share = 0.05
stall = { mean = "500ms" }

[upstream.autoscaler]
max = 20
tick = "5s"
up = "5s"
cold_start = { mean = "5s" }
`
	batch := `kind = "batch"
profile = "llama-8b-a100"
kv = 6000
`
	set := config.Default().Defaults
	ours, err := ParseController("ours")
	if err != nil {
		t.Fatal(err)
	}
	hash := func(text string) uint64 {
		t.Helper()
		s, err := Parse("everything.toml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		trial := Trial{Scenario: s, Controller: ours, Settings: &set, Seed: 1}
		b, err := trial.Bound(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o, err := trial.Run(t.Context(), b)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return o.Hash
	}
	values := map[string]string{
		"workload.rate": "20.0", "upstream.quota.limit": "200.0", "upstream.quota.requests_per_minute": "200.0", "upstream.quota.burst": "3.0", "upstream.quota.retry_factor": "3.0",
		"upstream.quota.retry_missing": "1.0", "upstream.quota.retry_jitter": "0.9", "upstream.slope.growth": "0.01", "upstream.slope.floor": "20.0", "upstream.concurrency.limit": "3.0",
		"upstream.concurrency.lag": "2.0", "upstream.connections.limit": "4.0", "upstream.connections.backlog": "0.0", "upstream.noise.share": "0.5", "upstream.neighbour.load": "5.0",
		"upstream.network.rtt": "0.3", "upstream.network.refusal": "0.5", "upstream.autoscaler.max": "9.0", "upstream.autoscaler.target": "0.2", "upstream.server.servers": "2.0",
		"upstream.server.slow": "3.0", "upstream.server.queue": "0.0", "upstream.server.queue_timeout": "0.05", "upstream.server.service": "1.0", "upstream.server.input_token": "0.002",
		"upstream.server.output_token": "0.02", "upstream.server.scale": "0.3", "upstream.server.knee": "1.0", "upstream.server.knee_base": "2.0", "upstream.server.rate_scale": "0.5",
		"upstream.server.stall_share": "0.9", "upstream.server.kv": "2000.0", "upstream.server.max_seqs": "2.0", "upstream.server.chunk": "32.0",
	}
	base := map[string]uint64{servers: hash(world(servers, "")), batch: hash(world(batch, ""))}
	for name := range params {
		server := servers
		if slices.Contains([]string{"upstream.server.kv", "upstream.server.max_seqs", "upstream.server.chunk"}, name) {
			server = batch
		}
		v, ok := values[name]
		if !ok {
			t.Errorf("%s: the test has no value for it", name)
			continue
		}
		change := "\n[[change]]\nat = \"30s\"\nset = \"" + name + "\"\nto = " + v + "\n"
		if hash(world(server, change)) == base[server] {
			t.Errorf("%s: a change to %s changes nothing", name, v)
		}
	}
}
