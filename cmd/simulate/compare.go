package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

func (e *env) compareCommand() *cli.Command {
	flags := []cli.Flag{configFlag(), scenariosFlag(),
		&cli.StringFlag{Name: "controller", Usage: "`NAME` of the controller to take from reports", Value: "ours"},
		&cli.StringFlag{Name: "figures", Usage: "`LIST` of figures to compare beside goodput, 429s and score; see docs/simulator.md"},
	}
	flags = append(flags, seedFlags("auto")...)
	flags = append(flags, durationFlag(), setFlag(),
		&cli.BoolFlag{Name: "json", Usage: "print JSON instead of the table"},
		&cli.BoolFlag{Name: "csv", Usage: "print CSV instead of the table"},
		&cli.StringFlag{Name: "html", Usage: "`FILE` for the page with charts"},
		cpusFlag(), quietFlag())
	return &cli.Command{
		Name: "compare", Usage: "say whether B is better than A: better, worse, equivalent or inconclusive in each scenario",
		ArgsUsage: "A B", Flags: flags, Action: e.compareAction, OnUsageError: usageError,
		Description: `A and B are each a controller (gcl-aimd, fixed-12, ours), a configuration (a file that ends in .toml: ours with its parameters), or a
report (a file that ends in .json, from simulate run --json: its runs are taken as they are, with all their seeds, or those of --seed and --seeds). Both meet the same seeds.

Examples:
   simulate compare gcl-aimd ours
   simulate compare --scenarios rpm-bucket,capacity-step --seeds 8 limits.toml tuned.toml
   simulate compare --seeds 4 before.json after.json`,
	}
}

// A side is one of the two that are compared.
type side struct {
	name    string
	subject *lab.Subject   // of one that is run
	report  *report.Report // of one that was read
}

var errNoSeed = errors.New("the two have no seed in common: compare what was run with the same --seed")

func (e *env) compareAction(c *cli.Context) error {
	s := e.newSetup(c)
	s.fail(oneOf(c, "json", "csv"))
	words := c.Args().Slice()
	if len(words) != 2 {
		return misuse(fmt.Errorf("compare needs two: a baseline and a candidate, as in simulate compare gcl-aimd ours; got %d", len(words)))
	}
	var more []report.Figure
	for _, name := range list(c.String("figures")) {
		f, err := figure(name)
		s.fail(err)
		more = append(more, f)
	}
	names := sideNames(words)
	sides := make([]side, 2)
	for i, word := range words {
		sides[i] = s.side(word, names[i])
	}
	seeds := s.seeds()
	var scs []*scenario.Scenario
	var subjects []lab.Subject
	for _, side := range sides {
		if side.subject != nil {
			subjects = append(subjects, *side.subject)
		}
	}
	if len(subjects) > 0 {
		scs = s.scenarios(list(c.String("scenarios")))
	} else {
		for _, name := range []string{"config", "duration", "set"} {
			if c.IsSet(name) {
				s.fail(fmt.Errorf("--%s is for what is run, and both are reports: run them with it", name))
			}
		}
	}
	if c.IsSet("scenarios") {
		s.choose(sides, list(c.String("scenarios")))
	}
	if err := s.err(); err != nil {
		return err
	}
	if c.IsSet("seed") || c.IsSet("seeds") && !seeds.Auto {
		for _, o := range sides {
			o.only(seeds)
		}
	}
	if len(subjects) == 1 { // the other one has the seeds that it has
		scs = slices.DeleteFunc(scs, func(sc *scenario.Scenario) bool {
			return !slices.ContainsFunc(sides, func(o side) bool {
				return o.report != nil && slices.ContainsFunc(o.report.Scenarios, func(x report.Scenario) bool { return x.Name == sc.Name })
			})
		})
		seeds.Auto = false
		for _, o := range sides {
			if o.report != nil {
				seeds.First, seeds.N = o.report.Seed, o.report.Seeds
			}
		}
		if seeds.N == 0 {
			return misuse(errNoSeed)
		}
	}
	var parts []*report.Report
	var runErr error
	if len(subjects) > 0 {
		var r *report.Report
		r, runErr = e.table(c, lab.Plan{Scenarios: scs, Subjects: subjects, Seeds: seeds, Bands: c.String("html") != ""})
		if runErr != nil && !interrupted(runErr) {
			return internal(runErr)
		}
		parts = append(parts, r)
	}
	for i := range sides {
		if sides[i].report != nil {
			parts = append(parts, sides[i].report)
		}
	}
	r, err := report.Join(parts...)
	if err != nil {
		return misuse(err)
	}
	r.Version = version()
	r.Command = newRecipe("compare").flags(c, "config", "scenarios", "controller", "figures").seeds(c).flags(c, "duration", "set").args(words).String()
	for i := range r.Scenarios {
		for k := range r.Scenarios[i].Runs {
			r.Scenarios[i].Runs[k].Ours = r.Scenarios[i].Runs[k].Controller == names[1]
		}
	}
	contrast := report.ContrastOf(r, names[0], names[1], more)
	if len(contrast.Scenarios) == 0 && runErr == nil {
		return misuse(errors.New("the two have no scenario in common: compare what was run in the same scenarios"))
	}
	if runErr == nil && !slices.ContainsFunc(contrast.Scenarios, func(s report.ContrastScenario) bool { return s.Pairs > 0 }) {
		return misuse(errNoSeed)
	}
	var alone []string
	for _, sc := range r.Scenarios {
		if !slices.ContainsFunc(contrast.Scenarios, func(s report.ContrastScenario) bool { return s.Name == sc.Name }) {
			alone = append(alone, sc.Name)
		}
	}
	if len(alone) > 0 && runErr == nil {
		e.say(c, "only one of the two was run in %s: not compared", strings.Join(alone, ", "))
	}
	err = e.write(func(w io.Writer) error {
		switch {
		case c.Bool("json"):
			return contrast.WriteJSON(w)
		case c.Bool("csv"):
			return contrast.WriteCSV(w)
		}
		return contrast.WriteText(w, report.TextOptions{Color: color(e.stdout)})
	})
	var errs []error // the page is written although nobody reads the comparison
	if err != nil {
		errs = append(errs, fmt.Errorf("the comparison could not be written: %w", err))
	}
	if html := c.String("html"); html != "" {
		if err := writeReport(html, r); err != nil {
			errs = append(errs, fmt.Errorf("the report could not be written: %w; the comparison is complete; name another file with --html", err))
		} else {
			e.say(c, "wrote %s", html)
		}
	}
	if err := internalAll(errs); err != nil {
		if runErr == nil {
			return err
		}
		e.exit(err) // an interruption has the last word
	}
	return runErr
}

// only leaves of a report what was run with some seeds.
func (o *side) only(seeds lab.Seeds) {
	r := o.report
	if r == nil {
		return
	}
	other := func(s report.SeedSummary) bool { return s.Seed < seeds.First || s.Seed-seeds.First >= uint64(seeds.N) }
	first, last := uint64(math.MaxUint64), uint64(0)
	for i := range r.Scenarios {
		for k := range r.Scenarios[i].Runs {
			run := &r.Scenarios[i].Runs[k]
			if slices.ContainsFunc(run.PerSeed, other) { // the bands are those of all
				run.Low, run.High = report.Series{}, report.Series{}
			}
			if len(run.PerSeed) > 0 && other(run.PerSeed[0]) { // whose these are
				run.Series, run.Decisions = report.Series{}, nil
			}
			run.PerSeed = slices.DeleteFunc(run.PerSeed, other)
			run.Summary = report.MergeSeeds(run.PerSeed)
			if n := len(run.PerSeed); n > 0 {
				first, last = min(first, run.PerSeed[0].Seed), max(last, run.PerSeed[n-1].Seed)
			}
		}
	}
	r.Seed, r.Seeds = first, 0
	if first <= last {
		r.Seeds = int(last - first + 1)
	}
}

// choose leaves of reports the scenarios that words name, as the reports call them or as run does.
func (s *setup) choose(sides []side, words []string) {
	has := func(name string) func(side) bool {
		return func(o side) bool {
			return o.report != nil && slices.ContainsFunc(o.report.Scenarios, func(sc report.Scenario) bool { return sc.Name == name })
		}
	}
	var names []string
	for _, word := range words {
		if slices.ContainsFunc(sides, has(word)) { // a file of which may be gone
			names = append(names, word)
			continue
		}
		list, err := s.named(word)
		s.fail(err)
		for _, sc := range list {
			names = append(names, sc.Name)
		}
	}
	for _, o := range sides {
		if o.report != nil {
			o.report.Scenarios = slices.DeleteFunc(o.report.Scenarios, func(sc report.Scenario) bool { return !slices.Contains(names, sc.Name) })
		}
	}
}

// sideNames names two sides: by their words, and apart.
func sideNames(words []string) [2]string {
	var names [2]string
	for i, w := range words {
		names[i] = w
		if strings.HasSuffix(w, ".toml") || strings.HasSuffix(w, ".json") {
			names[i] = strings.TrimSuffix(strings.TrimSuffix(filepath.Base(w), ".toml"), ".json")
		}
	}
	if names[0] == names[1] {
		names[0], names[1] = names[0]+" (A)", names[1]+" (B)"
	}
	return names
}

// side reads one of the two.
func (s *setup) side(word, name string) side {
	switch {
	case strings.HasSuffix(word, ".json"):
		r, err := readReport(word)
		if err != nil {
			s.fail(err)
			return side{}
		}
		// Only the controller that is compared is kept, under the name of the side.
		controller := s.c.String("controller")
		var without, have []string // scenarios, and who ran there
		for i := range r.Scenarios {
			sc := &r.Scenarios[i]
			k := slices.IndexFunc(sc.Runs, func(run report.Run) bool { return run.Controller == controller })
			if k < 0 {
				without = append(without, sc.Name)
				for _, run := range sc.Runs {
					have = append(have, run.Controller)
				}
				sc.Runs = nil
				continue
			}
			run := sc.Runs[k]
			run.Controller, run.Ours = name, false
			sc.Runs = []report.Run{run}
		}
		if r.Scenarios = slices.DeleteFunc(r.Scenarios, func(sc report.Scenario) bool { return sc.Runs == nil }); len(without) > 0 {
			slices.Sort(have)
			if err := fmt.Errorf("%s has no controller %q in %s, only %s", word, controller, strings.Join(without, ", "), strings.Join(slices.Compact(have), ", ")); len(r.Scenarios) == 0 {
				s.fail(fmt.Errorf("%w: choose one with --controller", err))
				return side{}
			} else {
				s.e.say(s.c, "%v: not compared", err)
			}
		}
		if len(r.Scenarios) > 0 && !slices.ContainsFunc(r.Scenarios, func(sc report.Scenario) bool { return len(sc.Runs[0].PerSeed) > 0 }) {
			s.fail(fmt.Errorf("%s was not run with seeds, as simulate run does and simulate load does not: nothing tells what is chance", word))
			return side{}
		}
		return side{name: name, report: r}
	case strings.HasSuffix(word, ".toml"):
		ours, err := scenario.ParseController("ours")
		if err != nil {
			s.fail(err)
		}
		return side{name: name, subject: &lab.Subject{Name: name, Controller: ours, Settings: s.settings(word)}}
	}
	ctl, err := scenario.ParseController(word)
	if err != nil {
		s.fail(fmt.Errorf("%w; or a file that ends in .toml or .json", err))
		return side{}
	}
	return side{name: name, subject: &lab.Subject{Name: name, Controller: ctl, Settings: s.settings("")}}
}

// readReport reads a report that simulate wrote as JSON.
func readReport(path string) (*report.Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; make it with simulate run --json > %s", path, errorOf(err), path)
	}
	r, err := report.ReadJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// figure returns a figure by its name.
func figure(name string) (report.Figure, error) {
	f, ok := report.FindFigure(name)
	if ok {
		return f, nil
	}
	return f, unknownWord("figure", name, report.FigureNames())
}
