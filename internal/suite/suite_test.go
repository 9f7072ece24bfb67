package suite

import (
	"math"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/internal/report"
)

func TestParse(t *testing.T) {
	s, err := Parse("suite.toml", []byte(`
name = "nightly"
seeds = 16
auto = true
config = "limits.toml"
assert = [
  "rpm-bucket: goodput >= 90%",
  "all vs gcl-aimd: not worse", # twice the same word
  "median(set:tuning) fixed-12: p99 < 2s",
]
`))
	if err != nil {
		t.Fatal(err)
	}
	if s.Seed != 1 || s.Seeds != 16 || !s.Auto || s.Config != "limits.toml" || len(s.Bounds) != 3 || s.Bounds[0].Line != 7 || s.Bounds[2].Line != 9 {
		t.Errorf("got %+v", s)
	}
	_, err = Parse("suite.toml", []byte("name = \"n\"\nseeds = 1\nassert = [\n \"a: goodputt >= 1%\",\n]\nbaselin = \"x\"\n"))
	for _, want := range []string{"suite.toml:2:", "must be 2 to 1000 seeds", "suite.toml:4:", "did you mean goodput?", "suite.toml:6:", "did you mean baseline?"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestParseBound(t *testing.T) {
	for _, test := range []struct {
		text  string
		where string
		want  Bound
	}{
		{"rpm-bucket: goodput >= 90%", "rpm-bucket", Bound{Controller: "ours", Value: 0.9}},
		{"a,b fixed-3: p99 <= 1.5s", "a b", Bound{Controller: "fixed-3", Value: 1.5, Upper: true}},
		{"all: rejected_per_ok < 2 %", "all", Bound{Controller: "ours", Value: 0.02, Upper: true}},
		{"set:held-out ours vs gcl-aimd: goodput > -0.01", "set:held-out", Bound{Controller: "ours", Versus: "gcl-aimd", Value: -0.01}},
		{"vs baseline: goodput_rps >= -1%", "all", Bound{Controller: "ours", Versus: "baseline", Value: -0.01}},
		{"worst(all): score >= 0.8", "all", Bound{Controller: "ours", Aggregate: Worst, Value: 0.8}},
		{"all vs none: not dominated", "all", Bound{Controller: "ours", Versus: "none", Verdict: NotDominated}},
	} {
		b, err := ParseBound(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if strings.Join(b.Where, " ") != test.where || b.Controller != test.want.Controller || b.Versus != test.want.Versus || b.Aggregate != test.want.Aggregate ||
			b.Upper != test.want.Upper || math.Abs(b.Value-test.want.Value) > 1e-12 || b.Verdict != test.want.Verdict {
			t.Errorf("%s: %+v", test.text, b)
		}
	}
	for _, test := range []struct{ text, want string }{
		{"", "a colon and a space"},
		{"goodput >= 1", "a colon and a space"},
		{" : goodput >= 1", "must say where"},
		{"a: goodput = 1", "never equal"},
		{"a: goodput", "must be FIGURE >= VALUE"},
		{"a: good >= 1", "must be one of goodput"},
		{"a: goodput >= many", "a percentage or a number"},
		{"a: goodput >= NaN", "a percentage or a number"},
		{"a: p99 <= 2", "a duration"},
		{"a: p99 <= 5%", "a duration"},
		{"a vs b: p99 <= 2s", "a percentage of the other's"},
		{"a: better", "better\" than what"},
		{"median(a) vs b: better", "leave median() out"},
		{"median(a, b): goodput >= 1%", "must be closed with )"},
		{"a,,b: goodput >= 1%", "empty name"},
		{"a b c d: goodput >= 1%", "must be WHERE"},
		{"a ours vs ours: better", "with itself"},
	} {
		if _, err := ParseBound(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.text, err, test.want)
		}
	}
}

// reports is a report of scenarios with controllers whose goodput is given seed by seed.
func reports(goodput map[string]map[string][]float64) *report.Report {
	r := &report.Report{Seed: 1}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		s := report.Scenario{Name: name}
		for _, ctl := range []string{"none", "ours"} {
			values := goodput[name][ctl]
			if values == nil {
				continue
			}
			run := report.Run{Controller: ctl}
			for i, v := range values {
				sum := report.Summary{Goodput: v, OK: 1000, Offered: 1000, Settled: v > 0.5, Settle: 1e9, P99: 2e9}
				run.PerSeed = append(run.PerSeed, report.SeedSummary{Seed: uint64(i + 1), Summary: sum})
			}
			s.Runs = append(s.Runs, run)
		}
		r.Scenarios = append(r.Scenarios, s)
	}
	return r
}

func TestCheck(t *testing.T) {
	r := reports(map[string]map[string][]float64{
		"a": {"none": {0.7, 0.71, 0.72, 0.7}, "ours": {0.9, 0.91, 0.92, 0.9}},
		"b": {"none": {0.9, 0.5, 0.99, 0.4}, "ours": {0.6, 0.95, 0.7, 0.99}},
		"c": {"ours": {0.4, 0.41, 0.42, 0.43}},
		"d": {"none": {0.4, 0.9, 0.9, 0.9}, "ours": {0.9, 0.4, 0.9, 0.9}},
		"e": {"none": {0.4, 0.41, 0.4, 0.4}, "ours": {0.9, 0.91, 0.9, 0.9}},
		"f": {"none": {0.9, 0.91, 0.9, 0.9}, "ours": {0.4, 0.41, 0.4, 0.4}},
	})
	baseline := reports(map[string]map[string][]float64{"a": {"ours": {0.95, 0.96, 0.97, 0.95}}})
	for _, test := range []struct {
		text string
		want []State
	}{
		{"a: goodput >= 85%", []State{Kept}},
		{"a: goodput >= 95%", []State{Broken}},
		{"a: goodput >= 90.7%", []State{Inconclusive}},
		{"a: goodput <= 95%", []State{Kept}},
		{"a: goodput <= 85%", []State{Broken}},
		{"a,b,c: goodput >= 60%", []State{Kept, Inconclusive, Broken}},
		{"c: settle <= 10s", []State{Broken}}, // it never settles
		{"a: settle <= 10s", []State{Kept}},
		{"c: settle >= 10s", []State{Kept}},
		{"d: settle >= 10s", []State{Inconclusive}},     // it settled three times of four
		{"d vs none: settle <= 5s", []State{Broken}},    // once it settled where the other did not, and once it was the other way round
		{"e vs none: settle <= -5s", []State{Kept}},     // only it settled
		{"e none vs ours: settle >= 5s", []State{Kept}}, // the same from the other side
		{"d vs none: settle >= -5s", []State{Broken}},
		{"a: fairness >= 0.9", []State{Inconclusive}}, // not defined
		{"a vs none: goodput >= 10%", []State{Kept}},
		{"a vs none: goodput >= 30%", []State{Broken}},
		{"a vs none: better", []State{Kept}},
		{"a none vs ours: not worse", []State{Broken}},
		{"b vs none: better", []State{Inconclusive}},
		{"a vs none: not dominated", []State{Kept}},
		{"c vs none: better", []State{Inconclusive}}, // did not run
		{"a vs baseline: goodput >= -1%", []State{Broken}},
		{"a vs baseline: goodput >= -10%", []State{Kept}},
		{"b vs baseline: goodput >= -1%", []State{Inconclusive}}, // not in the baseline
		{"worst(a,c): goodput >= 50%", []State{Broken}},
		{"worst(a,c): goodput <= 95%", []State{Kept}},
		{"median(a,b,c): goodput >= 50%", []State{Kept}},
		{"mean(a,c): goodput >= 60%", []State{Kept}},
		{"mean(a,c) vs none: goodput >= 60%", []State{Inconclusive}},
		{"mean(e,f) vs none: settle <= 5s", []State{Broken}}, // in e only it settled, in f only the other
		{"median(e,f) vs none: settle <= 5s", []State{Broken}},
		{"mean(e,f) vs none: settle >= -5s", []State{Broken}},
	} {
		b, err := ParseBound(test.text)
		if err != nil {
			t.Fatal(err)
		}
		got := b.Check(r, baseline, b.Where, 0.05)
		if len(got) != len(test.want) {
			t.Errorf("%s: %d results", test.text, len(got))
			continue
		}
		for i := range got {
			if got[i].State != test.want[i] {
				t.Errorf("%s: in %s %v, want %v: %s", test.text, got[i].Scenario, got[i].State, test.want[i], got[i].Format())
			}
		}
	}
}

// Whatever is read as a bound can be checked.
func FuzzParseBound(f *testing.F) {
	for _, s := range []string{"rpm-bucket: goodput >= 90%", "worst(set:x) ours vs baseline: p99 < 3%", "all vs none: not dominated", "a: settle <= 1h", "median(a): score > -1e9", "a: b: goodput<1"} {
		f.Add(s)
	}
	r := reports(map[string]map[string][]float64{"a": {"none": {0.7, 0.71}, "ours": {0.9, 0}}})
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBound(text)
		if err != nil {
			return
		}
		for _, res := range b.Check(r, r, b.Where, 0.05) {
			if res.Format() == "" {
				t.Fatalf("%q: a result without words: %+v", text, res)
			}
		}
		again, err := ParseBound(text)
		if err != nil || again.Value != b.Value {
			t.Fatalf("%q reads in two ways", text)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("name = \"n\"\nassert = [\"a: goodput >= 1%\"]\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := Parse("f", []byte(text)); err == nil && len(s.Bounds) == 0 {
			t.Fatal("a suite without bounds")
		}
	})
}
