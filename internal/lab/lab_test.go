package lab

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/stats"
)

// small is a cap of four and callers who retry.
const small = `
name = "small"
intent = "A cap of four, and callers who retry."
duration = "30s"

[workload]
kind = "poisson"
rate = 12.0
patience = "8s"

[upstream.network]
rtt = "20ms"

[upstream.concurrency]
limit = 4

[upstream.server]
service = { dist = "exponential", mean = "300ms" }
`

// endless has work at all times: successes are the limit's share of it.
const endless = `
name = "endless"
intent = "There is always work, and nothing but the guard's limit holds it back."
duration = "10s"
drain = "0s"

[workload]
kind = "backlog"
workers = 80

[upstream.server]
service = { dist = "lognormal", mean = "500ms", sigma = 0.8 }
`

func parse(t testing.TB, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse("test.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func controllers(t testing.TB, list string) []scenario.Controller {
	t.Helper()
	cs, err := scenario.ParseControllers(list)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func settings() *config.Settings {
	s := config.Default().Defaults
	return &s
}

func json(t testing.TB, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := report.WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func plan(t testing.TB) Plan {
	return Plan{
		Scenarios: []*scenario.Scenario{parse(t, small), parse(t, endless)},
		Subjects:  Subjects(controllers(t, "none,fixed-4,gcl-vegas,ours"), settings()),
		Seeds:     Seeds{First: 5, N: 4}, Bands: true,
	}
}

// The report does not depend on how many cores made it, and progress comes to its end.
func TestTableIsDeterministic(t *testing.T) {
	var first string
	for _, cpus := range []int{1, 2, 7} {
		last, total := 0, 0
		l := &Lab{CPUs: cpus, Progress: func(done, of int) {
			if done < last {
				t.Errorf("progress goes back from %d to %d", last, done)
			}
			last, total = done, of
		}}
		r, err := l.Table(context.Background(), plan(t))
		if err != nil {
			t.Fatal(err)
		}
		if last != 32 || total != 32 || l.Trials != 32 || l.Events == 0 {
			t.Errorf("%d CPUs: progress %d of %d, %d trials, want 32", cpus, last, total, l.Trials)
		}
		switch got := json(t, r); {
		case first == "":
			first = got
			s := r.Scenarios[0]
			if len(s.Runs) != 4 || len(s.Runs[3].PerSeed) != 4 || s.Runs[3].PerSeed[3].Seed != 8 || len(s.Runs[3].Low.Limit) != len(s.Runs[3].Series.Limit) {
				t.Errorf("runs, seeds or bands are missing: %+v", s.Runs[3].PerSeed)
			}
		case got != first:
			t.Errorf("%d CPUs give another report", cpus)
		}
	}
}

// Seeds are added until it is decided, and no further.
func TestTableAuto(t *testing.T) {
	p := plan(t)
	p.Scenarios = p.Scenarios[:1]
	p.Subjects = Subjects(controllers(t, "none,ours"), settings())
	p.Seeds = Seeds{First: 1, N: MaxAuto, Auto: true}
	r, err := (&Lab{CPUs: 2}).Table(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Scenarios[0]
	if n := len(s.Runs[0].PerSeed); n%Block != 0 || n >= MaxAuto || !report.Decided(&s) || s.Alpha <= 0 || s.Alpha > 0.01 {
		t.Errorf("%d seeds, decided %v, alpha %v", n, report.Decided(&s), s.Alpha)
	}
}

// What was finished before the end is there.
func TestTableInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	want := errors.New("enough")
	l := &Lab{CPUs: 1, Progress: func(done, _ int) {
		if done == 6 {
			cancel(want)
		}
	}}
	p, told := plan(t), 0
	p.Decisions = func(*scenario.Scenario, *Subject, uint64, []report.Decision) error { told++; return nil }
	r, err := l.Table(ctx, p)
	if !errors.Is(err, want) {
		t.Fatalf("error %v", err)
	}
	if told != l.Trials || told < 6 {
		t.Errorf("decisions of %d trials are told, %d were finished", told, l.Trials)
	}
	if !r.Interrupted || len(r.Scenarios) != 1 || !r.Scenarios[0].Interrupted {
		t.Fatalf("interrupted %v, %d scenarios", r.Interrupted, len(r.Scenarios))
	}
	for i, run := range r.Scenarios[0].Runs {
		if n := len(run.PerSeed); n != 1 && n != 2 || i > 1 && n != 1 {
			t.Errorf("%s has %d seeds", run.Controller, n)
		}
	}
}

// Decisions come in the order of the plan, all of them.
func TestDecisions(t *testing.T) {
	p := plan(t)
	p.Scenarios, p.Seeds.N = p.Scenarios[:1], 2
	var order []string
	p.Decisions = func(s *scenario.Scenario, sub *Subject, seed uint64, ds []report.Decision) error {
		if sub.Ours && len(ds) == 0 {
			t.Error("ours decided nothing")
		}
		order = append(order, sub.Name)
		return nil
	}
	if _, err := (&Lab{CPUs: 2}).Table(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	if len(order) != 8 || order[0] != "none" || order[7] != "ours" {
		t.Errorf("order %v", order)
	}
	full := errors.New("no room")
	p.Decisions = func(*scenario.Scenario, *Subject, uint64, []report.Decision) error { return full }
	if _, err := (&Lab{CPUs: 2}).Table(context.Background(), p); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

// A comparison of a controller with itself, on other seeds, calls a difference in at most one of twenty; and three per cent more
// successes, which three per cent more places give, are found in nine of ten. Both with real runs and seeds that are added until
// it is decided, and without the help of common seeds.
func TestVerdictsOnRealRuns(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("tens of thousands of runs: left to the test without -short and without the race detector")
	}
	figures := make([]report.Figure, 3)
	for i, name := range []string{"goodput_rps", "p50", "p99"} {
		figures[i], _ = report.FindFigure(name)
	}
	s := parse(t, endless)
	set := settings()
	looks := stats.Looks(report.Alpha, MaxAuto/Block)
	l := &Lab{CPUs: 2}
	// What is compared here needs no oracle of each seed, so that of one stands for all.
	one, err := (&scenario.Trial{Scenario: s, Controller: controllers(t, "fixed-33")[0], Settings: set, Seed: 1}).Bound(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one.Exact = false
	// experiment compares two controllers, each on seeds of its own.
	experiment := func(n uint64, a, b scenario.Controller) ([]stats.Comparison, int) {
		pairs := make([]stats.Pairs, len(figures))
		for i, f := range figures {
			pairs[i].Measure = f.Measure
		}
		var cs []stats.Comparison
		for k, alpha := range looks {
			var trials []scenario.Trial
			for i := range Block {
				seed := n*2*MaxAuto + uint64(k*Block+i)
				trials = append(trials,
					scenario.Trial{Scenario: s, Controller: a, Settings: set, Seed: seed},
					scenario.Trial{Scenario: s, Controller: b, Settings: set, Seed: seed + MaxAuto})
			}
			outcomes := make([]*scenario.Outcome, len(trials))
			if err := l.each(t.Context(), len(trials), func(ctx context.Context, w *scenario.Worker, i int) (err error) {
				outcomes[i], err = w.Run(ctx, &trials[i], one)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			l.Trials += len(trials)
			for i, o := range outcomes {
				for f := range figures {
					v := figures[f].Of(&o.Summary)
					if i%2 == 0 {
						pairs[f].Baseline = append(pairs[f].Baseline, v)
					} else {
						pairs[f].Candidate = append(pairs[f].Candidate, v)
					}
				}
			}
			if cs = stats.Compare(pairs, alpha, n); stats.Decided(cs[:1]) {
				return cs, (k + 1) * Block
			}
		}
		return cs, MaxAuto
	}
	cs := controllers(t, "fixed-33,fixed-34")
	const pairs, planted = 200, 60
	called, seeds := 0, 0
	for n := range uint64(pairs) {
		found, used := experiment(n, cs[0], cs[0])
		seeds += used
		for _, c := range found {
			if c.Verdict == stats.Better || c.Verdict == stats.Worse {
				called++
				break
			}
		}
	}
	found, wrong, more := 0, 0, 0
	for n := range uint64(planted) {
		c, used := experiment(pairs+n, cs[0], cs[1])
		more += used
		switch c[0].Verdict {
		case stats.Better:
			found++
		case stats.Worse:
			wrong++
		default:
		}
	}
	t.Logf("A/A: %d of %d pairs called different (%.1f %%), %.1f seeds each; planted %.1f %%: found in %d of %d (%.0f %%), %.1f seeds each; %d runs",
		called, pairs, 100*float64(called)/pairs, float64(seeds)/pairs, 100.0/33, found, planted, 100*float64(found)/planted, float64(more)/planted, l.Trials)
	if called*20 > pairs {
		t.Errorf("%d of %d pairs of the same controller are called different, want at most 5 %%", called, pairs)
	}
	if found*10 < planted*9 || wrong > 0 {
		t.Errorf("%d of %d planted differences are found, %d the wrong way round, want at least 90 %% and none", found, planted, wrong)
	}
}

// The best limits are searched for with each seed: nobody's regret against the best is that of the best itself, which is none, and limits
// that may change are no worse than one that may not.
func TestRegret(t *testing.T) {
	p := plan(t)
	p.Scenarios, p.Seeds, p.Regret = p.Scenarios[:1], Seeds{First: 1, N: 2}, true
	var first string
	for _, cpus := range []int{1, 2} {
		r, err := (&Lab{CPUs: cpus}).Table(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		runs := r.Scenarios[0].Runs
		if n := len(p.Subjects); len(runs) != n+2 || !runs[n].Reference || runs[n].Controller != BestStatic || !runs[n+1].Reference {
			t.Fatalf("%d runs for %d subjects; the last two are not the references", len(runs), n)
		}
		for _, run := range runs {
			for _, s := range run.PerSeed {
				if !(s.Regret >= -0.01 && s.Regret <= 1) || math.IsNaN(s.RegretStatic) || math.IsNaN(s.RegretPiecewise) || s.RegretPiecewise < s.RegretStatic-1e-9 {
					t.Errorf("%s, seed %d: regret %.3f, static %.3f, piecewise %.3f", run.Controller, s.Seed, s.Regret, s.RegretStatic, s.RegretPiecewise)
				}
			}
		}
		if s := runs[len(p.Subjects)].Summary; s.RegretStatic != 0 {
			t.Errorf("the best constant limit regrets %v of itself", s.RegretStatic)
		}
		if got := json(t, r); first == "" {
			first = got
		} else if got != first {
			t.Error("with two processors the report is another")
		}
	}
}
