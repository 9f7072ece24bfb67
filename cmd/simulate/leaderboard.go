package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

func (e *env) leaderboardCommand() *cli.Command {
	return &cli.Command{
		Name: "leaderboard", Usage: "let every controller meet every built-in scenario and drawn worlds, and print the comparison as Markdown", OnUsageError: usageError, Action: e.leaderboardAction,
		Description: "docs/leaderboard.md is what this prints, as its first lines say. With every controller it takes minutes.\n\nExamples:\n   simulate leaderboard --controllers ours,none --seeds 1 --draws 10",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "controllers", Usage: "`LIST` with commas between; all when none is given"},
			&cli.Uint64Flag{Name: "seed", Usage: "first seed `N`", Value: 1},
			&cli.IntFlag{Name: "seeds", Usage: "`N` seeds", Value: 2},
			&cli.IntFlag{Name: "draws", Usage: "`N` drawn worlds", Value: 200},
			&cli.Uint64Flag{Name: "draw-seed", Usage: "`S`, from which they are drawn", Value: 1001},
			&cli.IntFlag{Name: "cpus", Usage: "`N` runs at the same time; the result does not depend on it", Value: runtime.GOMAXPROCS(0), DefaultText: "all"},
		},
	}
}

func (e *env) leaderboardAction(c *cli.Context) error {
	if c.NArg() > 0 {
		return misuse(fmt.Errorf("leaderboard takes no arguments, there is %q: it runs all scenarios, and simulate run those that are named", c.Args().First()))
	}
	controllers := scenario.Controllers()
	if c.IsSet("controllers") {
		var err error
		if controllers, err = scenario.ParseControllers(c.String("controllers")); err != nil {
			return misuse(fmt.Errorf("--controllers: %w", err))
		}
	}
	seeds, draws, cpus := c.Int("seeds"), c.Int("draws"), c.Int("cpus")
	if seeds < 1 || seeds > maxSeeds || draws < 0 || draws > maxDraws || cpus < 1 || cpus > maxCPUs {
		return misuse(fmt.Errorf("--seeds is %d, --draws %d, --cpus %d: must be 1 to %d, 0 to %d, 1 to %d", seeds, draws, cpus, maxSeeds, maxDraws, maxCPUs))
	}
	if err := checkSeed(c); err != nil {
		return misuse(err)
	}
	file, err := loadConfig(c)
	if err != nil {
		return misuse(err)
	}
	all := scenario.Builtin()
	plan := lab.Plan{Scenarios: all, Subjects: lab.Subjects(controllers, &file.Defaults), Seeds: lab.Seeds{First: c.Uint64("seed"), N: seeds}, Regret: true}
	l := &lab.Lab{CPUs: cpus, Progress: func(done, total int) {
		if watch != nil {
			watch(done, total)
		}
	}}
	r, err := l.Table(c.Context, plan)
	stopped := err != nil && c.Context.Err() != nil
	if err != nil && !stopped {
		return internal(err)
	}
	// Of a scenario that not everybody has met with every seed, the best limits among them, nothing can be said.
	r.Scenarios = slices.DeleteFunc(r.Scenarios, func(s report.Scenario) bool {
		return stopped && (len(s.Runs) < len(controllers)+2 || slices.ContainsFunc(s.Runs, func(run report.Run) bool { return len(run.PerSeed) < seeds }))
	})
	if stopped && len(r.Scenarios) == 0 {
		return &exitError{exitInterrupted, errors.New("interrupted before the first scenario was finished; nothing was written")}
	}
	var results []scenario.DrawResult
	if draws > 0 && !stopped {
		results, err = scenario.RunDraws(c.Context, scenario.DrawPlan{Seed: c.Uint64("draw-seed"), N: draws, Controllers: controllers, Settings: file.Defaults, CPUs: cpus, Progress: l.Progress})
		if stopped = err != nil && c.Context.Err() != nil; err != nil && !stopped {
			return internal(err)
		}
	}
	drawn := len(results) / len(controllers)
	sets := map[string]scenario.Set{}
	for _, s := range all {
		sets[s.Name] = s.Set
	}
	err = e.write(func(w io.Writer) error {
		var b strings.Builder
		fmt.Fprintf(&b, "# Leaderboard\n\nMade by `go run ./cmd/simulate leaderboard --seed %d --seeds %d --draws %d --draw-seed %d` with %s; "+
			"the same command gives the same numbers on any machine with a processor of the same architecture (%s).\n\n", c.Uint64("seed"), seeds, draws, c.Uint64("draw-seed"), runtime.Version(), runtime.GOARCH)
		if stopped {
			fmt.Fprintf(&b, "**Interrupted: this is of %d of %d scenarios and %d of %d drawn worlds, and ranks by these. Worlds that take long are left out first.**\n\n", len(r.Scenarios), len(all), drawn, draws)
		}
		writeBoard(&b, r, sets)
		writeSettling(&b, r, sets)
		if drawn > 0 {
			writeDrawBoard(&b, group(scenario.DrawKinds(), controllers, results), drawn)
		}
		_, err := io.WriteString(w, b.String())
		return err
	})
	if err != nil {
		err = internal(fmt.Errorf("the leaderboard could not be written: %w", err))
	}
	if !stopped {
		return err
	}
	if err != nil {
		e.exit(err) // an interruption has the last word
	}
	return &exitError{exitInterrupted, fmt.Errorf("interrupted after %d of %d scenarios and %d of %d drawn worlds; what is finished is above", len(r.Scenarios), len(all), drawn, draws)}
}

// score is the composite of one run: the share of the oracle's goodput, less a tenth for each 429 in a hundred successes
// (e^(-10 R), R being 429s as a share of 429s and successes).
func score(s *report.Summary) float64 {
	rejected := s.RejectedPerOK / (1 + s.RejectedPerOK)
	if math.IsInf(s.RejectedPerOK, 1) {
		rejected = 1
	}
	return min(max(s.Goodput, 0), 1) * math.Exp(-10*rejected)
}

// standing is a controller over all scenarios of a set.
type standing struct {
	name             string
	goodput, refused []float64
	scores           []float64
}

// suite is the composite of several scores: half their geometric mean with a floor of 0.01, three tenths their mean, and two
// tenths the smallest, so that one collapse hurts.
func (s *standing) suite() float64 {
	var sum, logs float64
	least := math.Inf(1)
	for _, x := range s.scores {
		sum, logs, least = sum+x, logs+math.Log(max(x, 0.01)), min(least, x)
	}
	n := float64(len(s.scores))
	return 0.5*math.Exp(logs/n) + 0.3*sum/n + 0.2*least
}

func writeBoard(w io.Writer, r *report.Report, sets map[string]scenario.Set) {
	for _, set := range []scenario.Set{scenario.Tuning, scenario.HeldOut} {
		var order []string
		by := map[string]*standing{}
		for i := range r.Scenarios {
			s := &r.Scenarios[i]
			if sets[s.Name] != set {
				continue
			}
			for k := range s.Runs {
				run := &s.Runs[k]
				if run.Reference {
					continue
				}
				st := by[run.Controller]
				if st == nil {
					st = &standing{name: run.Controller}
					by[run.Controller], order = st, append(order, run.Controller)
				}
				st.goodput = append(st.goodput, run.Summary.Goodput)
				st.refused = append(st.refused, run.Summary.RejectedPerOK)
				st.scores = append(st.scores, score(&run.Summary))
			}
		}
		if len(order) == 0 {
			continue
		}
		slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(by[b].suite(), by[a].suite()) })
		fmt.Fprintf(w, "## The %s set: %d scenarios\n\n", set, len(by[order[0]].scores))
		fmt.Fprintf(w, "Goodput is a share of the oracle's. A scenario's score is goodput x e^(-10 R), R being 429s as a share of 429s and successes; the suite's is half the geometric mean of "+
			"the scores, three tenths their mean, two tenths the smallest.\n\n")
		fmt.Fprintln(w, "| Controller | Suite | Score median | Goodput median | Goodput worst | 429s per success, median | 429s per success, worst |")
		fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- |")
		for _, name := range order {
			st := by[name]
			fmt.Fprintf(w, "| %s | %.3f | %.3f | %.3f | %.3f | %s | %s |\n", name, st.suite(), middle(st.scores), middle(st.goodput), slices.Min(st.goodput), share(middle(st.refused)), share(slices.Max(st.refused)))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "## Scenario by scenario\n\nOurs beside the best of the others by score. Steady is 429s as a share of attempts from when goodput had come to 90 %% of what it could be, "+
		"in each phase between two changes of the world. *Beaten* names every other controller that got more goodput and fewer 429s.\n\n")
	fmt.Fprintln(w, "| Scenario | Set | Ours: goodput | 429s per success | Steady | p99 | Best other | Its goodput | Its 429s per success | Beaten by |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		ours, best := oursAndBest(s)
		if ours == nil || best == nil {
			continue
		}
		var beaten []string
		for k := range s.Runs {
			x := &s.Runs[k].Summary
			if !s.Runs[k].Ours && !s.Runs[k].Reference && x.Goodput > ours.Summary.Goodput && x.RejectedPerOK < ours.Summary.RejectedPerOK {
				beaten = append(beaten, s.Runs[k].Controller)
			}
		}
		o, b := &ours.Summary, &best.Summary
		fmt.Fprintf(w, "| %s | %s | %.3f | %s | %s | %s | %s | %.3f | %s | %s |\n", s.Name, sets[s.Name], o.Goodput, share(o.RejectedPerOK), share(o.RejectedSteady), span(o.P99),
			best.Controller, b.Goodput, share(b.RejectedPerOK), strings.Join(beaten, ", "))
	}
	fmt.Fprintln(w)
}

func writeDrawBoard(w io.Writer, groups []drawGroup, n int) {
	fmt.Fprintf(w, "## %d drawn worlds\n\nLimits of 2 to 2,000 in flight, service times of 20 ms to 60 s, quotas of 10 to 10,000 requests a minute, and in half of them a change half-way "+
		"(capacity halved or doubled, or an outage). Nobody tuned on this seed. Steady is the last third of a run, and with a change the third before it. Settling, until a change, and recovery from it are measured as above; p50 is of the draws in which they came.\n\n", n)
	fmt.Fprintln(w, "| Kind | Controller | Draws | Goodput p5 | p25 | p50 | 429s per success p50 | p95 | Steady p50 | p95 | Settle p50, round trips | Never settled | Recover p50, s | Never recovered |")
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, g := range groups {
		if g.Kind != allKinds && !strings.HasPrefix(g.Controller, "ours") {
			continue // all others by kind: simulate draws
		}
		fmt.Fprintf(w, "| %s | %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %d | %s | %d |\n", g.Kind, g.Controller, g.Rejected.N,
			came("%.3f", g.Goodput.P5), came("%.3f", g.Goodput.P25), came("%.3f", g.Goodput.P50),
			share(g.Rejected.P50), share(g.Rejected.P95), share(g.Steady.P50), share(g.Steady.P95), came("%.1f", g.Settle.P50), g.Unsettled, came("%.1f", g.Recover.P50), g.Unrecovered)
	}
	fmt.Fprintln(w)
}
