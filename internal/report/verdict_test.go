package report

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBeats(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b Summary
		want int
	}{
		{"the same", summary(0.9, 0.1), summary(0.9, 0.1), 0},
		{"one point of goodput", summary(0.97, 0.1), summary(0.96, 0.1), 1},
		{"less than a point", summary(0.969, 0.1), summary(0.96, 0.1), 0},
		{"fewer 429s", summary(0.96, 0), summary(0.96, 0.01), 1},
		{"429s too close in size", summary(0.96, 5), summary(0.96, 5.2), 0},
		{"429s too close to nothing", summary(0.96, 0), summary(0.96, 0.009), 0},
		{"better in both", summary(0.97, 0), summary(0.9, 1), 1},
		{"a point for 0.42 more 429s is too dear", summary(0.98, 0.44), summary(0.97, 0.02), -1},
		{"ten points for 0.44 are not", summary(0.98, 0.44), summary(0.88, 0.02), 1},
		{"even trade", summary(1, 0.4), summary(0.963, 0), 0},
		{"nothing but 429s", summary(0, math.Inf(1)), summary(0, 0), -1},
		{"both nothing but 429s", summary(0, math.Inf(1)), summary(0, math.Inf(1)), 0},
		{"undefined counts as nothing", summary(math.NaN(), math.NaN()), summary(0.5, 0), -1},
	} {
		if got := beats(test.a, test.b); got != test.want {
			t.Errorf("%s: beats = %d, want %d", test.name, got, test.want)
		}
		if got := beats(test.b, test.a); got != -test.want {
			t.Errorf("%s: the other way round = %d, want %d", test.name, got, -test.want)
		}
	}
}

// Whoever is better in both measures beats; and who beats whom does not depend on
// who is asked.
func TestBeatsIsConsistent(t *testing.T) {
	measure := rapid.Custom(func(t *rapid.T) Summary {
		return summary(rapid.Float64Range(0, 1).Draw(t, "goodput"),
			rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64Range(0, 100), rapid.Just(math.Inf(1))).Draw(t, "429s"))
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := measure.Draw(t, "a"), measure.Draw(t, "b")
		if beats(a, b) != -beats(b, a) {
			t.Fatalf("beats(a, b) = %d, beats(b, a) = %d", beats(a, b), beats(b, a))
		}
		if a.Goodput >= b.Goodput && a.RejectedPerOK <= b.RejectedPerOK && beats(a, b) < 0 {
			t.Fatal("a is no worse in both and is beaten")
		}
	})
}

func TestJudge(t *testing.T) {
	v := Judge(five())
	want := []struct {
		outcome Outcome
		rival   string
	}{{Won, "gcl-aimd"}, {Won, "gcl-aimd"}, {Lost, "fixed"}, {Drew, "fixed"}, {Unranked, ""}}
	for i, w := range want {
		if got := v.Scenarios[i]; got.Outcome != w.outcome || got.Rival != w.rival {
			t.Errorf("%s: %s against %q, want %s against %q", got.Scenario, got.Outcome, got.Rival, w.outcome, w.rival)
		}
	}
	if got, want := v.Closing, "ours won 2 of 4 scenarios; lost outage-30s to fixed (goodput 91 % vs 96 %); drew burst with fixed; 1 not ranked. With fewer than two seeds, chance is not ruled out."; got != want {
		t.Errorf("Closing = %q, want %q", got, want)
	}
	if got := v.Scenarios[0].Ranked; strings.Join(got, " ") != "ours gcl-aimd" {
		t.Errorf("Ranked = %v: references are never ranked", got)
	}
}

func TestJudgeWithoutAnythingToRank(t *testing.T) {
	for _, test := range []struct {
		name, text string
		report     *Report
	}{
		{"none is ours", "none of the controllers is ours, not ranked.",
			&Report{Scenarios: []Scenario{{Runs: []Run{{Controller: "a"}, {Controller: "b"}}}}}},
		{"no rival", "not ranked", &Report{Scenarios: []Scenario{{Runs: []Run{{Controller: "a", Ours: true}, {Controller: "o", Reference: true}}}}}},
	} {
		v := Judge(test.report)
		if v.Scenarios[0].Outcome != Unranked || !strings.Contains(v.Scenarios[0].Text, test.text) {
			t.Errorf("%s: %+v", test.name, v.Scenarios[0])
		}
		if v.Closing != "no scenario could be ranked." {
			t.Errorf("%s: Closing = %q", test.name, v.Closing)
		}
	}
	r := five()
	r.Scenarios[1].Runs = r.Scenarios[1].Runs[:2]
	if got := Judge(r).Scenarios[1]; got.Outcome != Unranked || got.Text != "ours did not run, not ranked." {
		t.Errorf("ours missing in one scenario: %+v", got)
	}
}

func TestDifference(t *testing.T) {
	inf := math.Inf(1)
	for _, test := range []struct {
		a, b Summary
		want string
	}{
		{summary(0.98, 0.44), summary(0.97, 0.02), "1 point more goodput for 22 times the 429s (0.44 per success)"},
		{summary(0.97, 0.02), summary(0.98, 0.44), "1 point less goodput for 95 % fewer 429s (0.02 per success)"},
		{summary(0.97, 0.5), summary(0.9, 1), "7 points more goodput and 50 % fewer 429s (0.50 per success)"},
		{summary(0.9, 1.5), summary(0.97, 1), "7 points less goodput and 50 % more 429s (1.50 per success)"},
		{summary(0.9, 0.3), summary(0.9, 0), "the same goodput for 0.30 429s per success instead of none"},
		{summary(0.9, 0), summary(0.9, 0.3), "the same goodput for no 429 instead of 0.30 per success"},
		{summary(0.9, 0), summary(0.8, 0), "10 points more goodput and no 429 either"},
		{summary(0.9, 0.2), summary(0.8, 0.2), "10 points more goodput and as many 429s (0.20 per success)"},
		{summary(0, inf), summary(0.8, 0.2), "80 points less goodput and nothing but 429s"},
	} {
		if got := difference(test.a, test.b); got != test.want {
			t.Errorf("difference = %q, want %q", got, test.want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{formatShare(0.974), "97 %"}, {formatShare(0), "0 %"}, {formatShare(0.004), "0.4 %"}, {formatShare(1.004), "100 %"},
		{formatShare(math.NaN()), "–"}, {formatPerOK(0.004), "<0.01"}, {formatPerOK(9.996), "10.0"}, {formatPerOK(99.96), "100"},
		{formatPerOK(math.Inf(1)), "∞"}, {formatDuration(0), "0 ms"}, {formatDuration(850000), "0.85 ms"}, {formatDuration(999.6e6), "1.00 s"},
		{formatDuration(12.34e6), "12.3 ms"}, {formatDuration(240e9), "240 s"}, {formatDuration(-1), "–"},
		{formatSpan(90e9), "90 s"}, {formatSpan(600e9), "10 min"}, {formatSpan(5400e9), "1 h 30 min"}, {formatSpan(7200e9), "2 h"},
		{formatCount(1204551), "1\u202f204\u202f551"}, {formatCount(999), "999"}, {formatCount(-1000), "−1\u202f000"},
		{formatRate(8.646), "8.65"}, {formatRate(math.Inf(1)), "–"}, {formatRate(1500), "1\u202f500"},
		{formatSettle(Summary{Settled: true, Settle: 9.96e9}), "10 s"}, {formatSettle(Summary{Settled: true}), "0.0 s"},
		{formatSettle(Summary{NoLevel: true, Settled: true}), "–"}, {formatSettle(Summary{}), "never"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// seeded is a run with a summary for each pair of goodput and 429s per success.
func seeded(name string, pairs ...float64) Run {
	run := Run{Controller: name, Ours: name == "ours"}
	for i := 0; i < len(pairs); i += 2 {
		run.PerSeed = append(run.PerSeed, SeedSummary{uint64(i/2 + 1), summary(pairs[i], pairs[i+1])})
	}
	run.Summary = MergeSeeds(run.PerSeed)
	return run
}

func TestJudgeOverSeeds(t *testing.T) {
	ours := seeded("ours", 0.90, 0.01, 0.91, 0.02, 0.92, 0.01, 0.90, 0.02)
	for _, test := range []struct {
		name  string
		rival Run
		want  Outcome
	}{
		{"less of all", seeded("a", 0.70, 0.41, 0.71, 0.42, 0.73, 0.41, 0.70, 0.43), Won},
		{"more of all", seeded("a", 0.99, 0, 0.99, 0, 0.995, 0, 0.98, 0), Lost},
		{"the same", ours, Drew},
		{"a mean ahead by luck", seeded("a", 0.99, 0.01, 0.70, 0.02, 0.99, 0.01, 0.99, 0.02), Open},
		{"dear goodput", seeded("a", 0.93, 0.90, 0.94, 0.91, 0.95, 0.92, 0.93, 0.91), Won},
		{"nothing succeeds", seeded("a", 0, math.Inf(1), 0, math.Inf(1), 0, math.Inf(1), 0, math.Inf(1)), Won},
		{"one seed in common", seeded("a", 0.99, 0), Lost},
	} {
		rival := test.rival
		rival.Controller, rival.Ours = "a", false
		r := &Report{Scenarios: []Scenario{{Name: "s", Runs: []Run{rival, ours}}}}
		v := Judge(r).Scenarios[0]
		if v.Outcome != test.want || len(v.Pairs) != 1 {
			t.Errorf("%s: %s, want %s: %+v", test.name, v.Outcome, test.want, v)
		}
	}
}
