package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/stats"
	"github.com/flyball-go/flyball/internal/suite"
)

func (e *env) assertCommand() *cli.Command {
	return &cli.Command{
		Name: "assert", Usage: "check that runs keep the bounds of a suite, for continuous integration",
		ArgsUsage: "suite.toml ...", Action: e.assertAction, OnUsageError: usageError,
		Flags: []cli.Flag{
			configFlag(), setFlag(),
			&cli.StringFlag{Name: "baseline", Usage: "`FILE` that \"vs baseline\" compares with, in place of the suite's"},
			&cli.BoolFlag{Name: "update", Usage: "write the baseline anew from these runs, and print what changes"},
			&cli.StringFlag{Name: "seeds", Usage: "`N` seeds, in place of what the suite says; auto adds them until it is decided, 64 at most"},
			&cli.Uint64Flag{Name: "seed", Usage: "first seed `N`, in place of what the suite says"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON instead of the table"},
			&cli.StringFlag{Name: "junit", Usage: "`FILE` for the results as JUnit XML"},
			&cli.StringFlag{Name: "html", Usage: "`FILE` for the page with charts"},
			&cli.BoolFlag{Name: "github", Usage: "print annotations for GitHub; on by itself where GITHUB_ACTIONS is true"},
			cpusFlag(), quietFlag(),
		},
		Description: `A bound is kept when the whole confidence interval lies on its right side, broken when all of it lies on the wrong one, and
inconclusive else. Exit codes: 0 all kept; 3 one is broken; 4 none is broken, and one is inconclusive: more seeds may tell.

Examples:
   simulate assert suite.toml
   simulate assert --baseline golden.json --update suite.toml
   simulate assert --baseline golden.json --seeds 4 --json suite.toml`,
	}
}

// asserted is what came of a suite.
type asserted struct {
	path    string
	suite   *suite.Suite
	results []suite.Result
	report  *report.Report // nil when it was interrupted before a scenario was finished
	errs    []error        // of what could not be written
	stopped bool           // it was interrupted: what was not finished by then is inconclusive
}

func (e *env) assertAction(c *cli.Context) error {
	if !c.Args().Present() {
		return misuse(errors.New("assert needs a suite, as in simulate assert suite.toml; docs/simulator.md says how to write one"))
	}
	paths := c.Args().Slice()
	if c.Bool("update") && len(paths) > 1 {
		return misuse(errors.New("--update writes the baseline of one suite: name one"))
	}
	var all []asserted
	var errs []error
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s, err := suite.Parse(path, data)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, asserted{path: path, suite: s})
	}
	if len(errs) > 0 {
		return misuse(errors.Join(errs...))
	}
	for i := range all {
		if err := e.assertOne(c, &all[i]); err != nil {
			return err
		}
	}
	if c.Context.Err() != nil && !slices.ContainsFunc(all, func(a asserted) bool { return a.report != nil }) {
		return &exitError{exitInterrupted, errors.New("interrupted before the runs of a scenario were finished; nothing was written")}
	}
	return e.verdicts(c, all)
}

// beside returns the path of a file that another file names relative to itself.
func beside(path, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(path), name)
}

// assertOne runs what a suite needs and checks its bounds.
func (e *env) assertOne(c *cli.Context, a *asserted) error {
	s := e.newSetup(c)
	su := a.suite
	seeds := lab.Seeds{First: su.Seed, N: su.Seeds, Auto: su.Auto}
	if c.IsSet("seeds") {
		seeds = s.seeds()
		seeds.First = su.Seed
	}
	if c.IsSet("seed") {
		if !c.IsSet("seeds") {
			s.fail(checkSeed(c))
		}
		seeds.First = c.Uint64("seed")
	}
	if su.Duration > 0 {
		s.duration(su.Duration)
	}
	configPath := ""
	if !c.IsSet("config") {
		configPath = beside(a.path, su.Config)
	}
	set := s.settings(configPath)

	baselinePath := beside(a.path, su.Baseline)
	if c.IsSet("baseline") {
		baselinePath = c.String("baseline")
	}
	var baseline *report.Report
	needs := slices.ContainsFunc(su.Bounds, func(b suite.Bound) bool { return b.Versus == suite.BaselineName })
	switch {
	case c.Bool("update") && baselinePath == "":
		s.fail(fmt.Errorf("%s: --update needs a file: name it with --baseline, or write baseline = \"golden.json\" in the suite", a.path))
	case needs && baselinePath == "":
		s.fail(fmt.Errorf("%s: a bound compares with the baseline, but there is none: write baseline = \"golden.json\" in the suite, or name it with --baseline", a.path))
	case baselinePath != "" && (needs || c.Bool("update")):
		var err error
		baseline, err = readBaseline(baselinePath)
		if err != nil && !(c.Bool("update") && errors.Is(err, fs.ErrNotExist)) {
			s.fail(err)
		}
	}

	// where has the scenarios of each bound, and subjects the controllers of each scenario.
	where := make([][]string, len(su.Bounds))
	var scs []*scenario.Scenario
	subjects := map[string][]lab.Subject{}
	for i := range su.Bounds {
		b := &su.Bounds[i]
		found := s.scenariosAt(fmt.Sprintf("%s:%d: ", a.path, b.Line), filepath.Dir(a.path), b.Where)
		for _, sc := range found {
			where[i] = append(where[i], sc.Name)
			if !slices.ContainsFunc(scs, func(o *scenario.Scenario) bool { return o.Name == sc.Name }) {
				scs = append(scs, sc)
			}
			for _, name := range b.Controllers() {
				ctl, err := scenario.ParseController(name)
				if err != nil {
					s.fail(fmt.Errorf("%s:%d: %w", a.path, b.Line, err))
					break
				}
				if !slices.ContainsFunc(subjects[sc.Name], func(o lab.Subject) bool { return o.Name == name }) {
					subjects[sc.Name] = append(subjects[sc.Name], lab.Subject{Name: name, Ours: ctl.Ours, Controller: ctl, Settings: set})
				}
			}
		}
	}
	var against []report.Scenario // of the baseline, what is compared with
	if needs && baseline != nil && !c.Bool("update") {
		compared := map[string]bool{}
		for i := range su.Bounds {
			for _, name := range where[i] {
				compared[name] = compared[name] || su.Bounds[i].Versus == suite.BaselineName
			}
		}
		against = slices.DeleteFunc(slices.Clone(baseline.Scenarios), func(sc report.Scenario) bool { return !compared[sc.Name] })
		for _, sc := range scs {
			for _, was := range against {
				if was.Name == sc.Name && was.Duration != sc.World.Duration {
					s.fail(fmt.Errorf("the baseline %s has %s for %v, and here it lasts %v: they cannot be compared; make it anew with --update", baselinePath, sc.Name, was.Duration, sc.World.Duration))
				}
			}
		}
	}
	if err := s.err(); err != nil {
		return err
	}

	l := e.newLab(c)
	progress := e.progress(c, "runs")
	defer progress.clear()
	total, done := 0, 0
	for _, sc := range scs {
		total += len(subjects[sc.Name]) * seeds.N
	}
	blocks, alphas := seeds.N, []float64{report.Alpha}
	if seeds.Auto {
		blocks = lab.Block
		alphas = stats.Looks(report.Alpha, (seeds.N+blocks-1)/blocks)
	}
	open := slices.Clone(scs)
	looked := map[string]suite.Result{} // by bound and scenario, the last one
looks:
	for k, alpha := range alphas {
		from := k * blocks
		n := min(blocks, seeds.N-from)
		late := map[string]bool{} // scenarios whose runs of this look were not finished
		for i, sc := range open {
			before := done
			l.Progress = func(d, _ int) { progress.show(before+d, total) }
			r, err := l.Table(c.Context, lab.Plan{
				Scenarios: []*scenario.Scenario{sc}, Subjects: subjects[sc.Name], Seeds: lab.Seeds{First: seeds.First + uint64(from), N: n}, Bands: c.String("html") != "",
			})
			if err != nil && c.Context.Err() != nil {
				a.stopped = true
				for _, sc := range open[i:] {
					late[sc.Name] = true
				}
				break
			}
			if err != nil {
				return internal(err)
			}
			done = before + n*len(subjects[sc.Name])
			if a.report != nil {
				r, err = report.Join(a.report, r)
				if err != nil {
					return internal(err)
				}
			}
			a.report = r
		}
		a.results = nil
		undecided := map[string]bool{}
		for i := range su.Bounds {
			b := &su.Bounds[i]
			for _, res := range b.Check(a.report, baseline, where[i], alpha) {
				key := fmt.Sprint(i, "/", res.Scenario)
				before, ok := looked[key]
				switch unfinished := late[res.Scenario] || b.Aggregate != suite.Each && slices.ContainsFunc(where[i], func(name string) bool { return late[name] }); {
				case ok && (unfinished || before.State != suite.Inconclusive): // a later look, at a level of its own, takes nothing back
					res = before
				case unfinished:
					res = suite.Result{Bound: b, Scenario: res.Scenario, Alpha: alpha, Why: "interrupted before its runs were finished"}
				}
				looked[key] = res
				a.results = append(a.results, res)
				if res.State == suite.Inconclusive {
					for _, name := range where[i] {
						if name == res.Scenario || b.Aggregate != suite.Each {
							undecided[name] = true
						}
					}
				}
			}
		}
		if a.stopped {
			break looks
		}
		// What is decided gets no more seeds.
		open = slices.DeleteFunc(open, func(sc *scenario.Scenario) bool { return !undecided[sc.Name] })
		if len(open) == 0 {
			break
		}
	}
	progress.clear()
	if a.report == nil {
		return nil
	}
	a.report.Interrupted = a.stopped
	for i := range against {
		was := &against[i]
		for k := range a.report.Scenarios {
			if now := &a.report.Scenarios[k]; now.Name == was.Name {
				if err := report.SameWorld(was, now); err != nil {
					return misuse(fmt.Errorf("the baseline %s: scenario %s: %w; make it anew with --update", baselinePath, now.Name, err))
				}
			}
		}
	}
	a.report.Version, a.report.Config = version(), hashOf(set)
	a.report.Command = newRecipe("assert").flags(c, "config", "set", "baseline", "seed", "seeds").args([]string{a.path}).String()
	if !c.Bool("update") || a.stopped { // a part is no baseline
		return nil
	}
	// Whoever asked for more files gets them although nobody reads what changed.
	if baseline != nil {
		if err := e.changes(c, baseline, a.report); err != nil {
			a.errs = append(a.errs, fmt.Errorf("what changed could not be written: %w", err))
		}
	}
	if err := writeFile(baselinePath, func(w io.Writer) error { return report.WriteJSON(w, slim(a.report)) }); err != nil {
		a.errs = append(a.errs, fmt.Errorf("the baseline could not be written: %w", err))
	} else {
		e.say(c, "wrote %s", baselinePath)
	}
	return nil
}

// slim is a report without what changes over time: what a baseline is compared by.
func slim(r *report.Report) *report.Report {
	out := *r
	out.Scenarios = slices.Clone(r.Scenarios)
	for i := range out.Scenarios {
		s := &out.Scenarios[i]
		s.Oracle.Limit, s.Oracle.Rate, s.Oracle.Step = nil, nil, 0
		s.Runs = slices.Clone(s.Runs)
		for k := range s.Runs {
			run := &s.Runs[k]
			run.Series, run.Low, run.High, run.Decisions = report.Series{}, report.Series{}, report.Series{}, nil
		}
	}
	return &out
}

func readBaseline(path string) (*report.Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the baseline %s cannot be read: %w; make it with --update", path, errorOf(err))
	}
	defer f.Close()
	r, err := report.ReadJSON(f)
	if err != nil {
		return nil, fmt.Errorf("the baseline %s: %w; make it anew with --update", path, err)
	}
	return r, nil
}

// changes prints how a new baseline differs from the old one, controller by controller.
func (e *env) changes(c *cli.Context, before, after *report.Report) error {
	return e.aside(c, func(w io.Writer) error {
		n := 0
		for i := range after.Scenarios {
			s := &after.Scenarios[i]
			for k := range s.Runs {
				b := &s.Runs[k]
				at := slices.IndexFunc(before.Scenarios, func(o report.Scenario) bool { return o.Name == s.Name })
				var a *report.Run
				if at >= 0 {
					for m := range before.Scenarios[at].Runs {
						if before.Scenarios[at].Runs[m].Controller == b.Controller {
							a = &before.Scenarios[at].Runs[m]
						}
					}
				}
				if a == nil {
					fmt.Fprintf(w, "%s %s: new\n", s.Name, b.Controller)
					n++
					continue
				}
				for _, f := range report.Figures()[:3] {
					x, y := f.Of(&a.Summary), f.Of(&b.Summary)
					if x != y {
						fmt.Fprintf(w, "%s %s: %s %s → %s\n", s.Name, b.Controller, f.Name, f.Format(x), f.Format(y))
						n++
					}
				}
			}
		}
		if n == 0 {
			fmt.Fprintln(w, "the baseline is as it was")
		}
		fmt.Fprintln(w)
		return nil
	})
}

// verdicts prints what came of the suites and returns the exit code as an error.
func (e *env) verdicts(c *cli.Context, all []asserted) error {
	counts := map[suite.State]int{}
	var errs []error // a file is written although nobody reads the results
	stopped := slices.ContainsFunc(all, func(a asserted) bool { return a.stopped })
	for _, a := range all {
		errs = append(errs, a.errs...)
		for _, r := range a.results {
			counts[r.State]++
		}
	}
	err := e.write(func(w io.Writer) error {
		if c.Bool("json") {
			return writeResults(w, all, stopped)
		}
		for _, a := range all {
			fmt.Fprintf(w, "%s (%s)\n", a.suite.Name, a.path)
			width := 0
			for _, r := range a.results {
				width = max(width, len(r.Scenario))
			}
			for _, r := range a.results {
				fmt.Fprintf(w, "  %-12s  %-*s  %s\n", r.State, width, r.Scenario, r.Bound.Text)
				fmt.Fprintf(w, "  %-12s  %-*s    %s, %d seeds\n", "", width, "", r.Format(), r.Seeds)
			}
		}
		_, err := fmt.Fprintf(w, "\n%d kept, %d broken, %d inconclusive\n", counts[suite.Kept], counts[suite.Broken], counts[suite.Inconclusive])
		if stopped && err == nil {
			_, err = fmt.Fprintln(w, "interrupted: the other runs were not made")
		}
		return err
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("the results could not be written: %w", err))
	}
	if c.Bool("github") || os.Getenv("GITHUB_ACTIONS") == "true" {
		if err := e.annotate(c, all); err != nil {
			errs = append(errs, fmt.Errorf("the annotations could not be written: %w", err))
		}
	}
	if path := c.String("junit"); path != "" {
		if err := writeFile(path, func(w io.Writer) error { return writeJUnit(w, all) }); err != nil {
			errs = append(errs, fmt.Errorf("%s could not be written: %w", path, err))
		} else {
			e.say(c, "wrote %s", path)
		}
	}
	if path := c.String("html"); path != "" {
		var parts []*report.Report
		var paths []string
		for _, a := range all {
			if a.report != nil {
				parts, paths = append(parts, a.report), append(paths, a.path)
			}
		}
		r, err := joined(parts, paths) // suites may have configurations of their own
		if err == nil {
			r.Interrupted = stopped
			err = writeReport(path, r)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("the report could not be written: %w", err))
		} else {
			e.say(c, "wrote %s", path)
		}
	}
	if stopped {
		if len(errs) > 0 {
			e.exit(internalAll(errs)) // an interruption has the last word
		}
		text := "interrupted; what was decided is above"
		if c.Bool("update") {
			text += ", and the baseline was not written"
		}
		return &exitError{exitInterrupted, errors.New(text)}
	}
	switch {
	case len(errs) > 0:
		return internalAll(errs)
	case counts[suite.Broken] > 0:
		return &exitError{exitAssertion, fmt.Errorf("%d of %d bounds are broken", counts[suite.Broken], counts[suite.Broken]+counts[suite.Kept]+counts[suite.Inconclusive])}
	case counts[suite.Inconclusive] > 0:
		return &exitError{exitInconclusive, fmt.Errorf("%d bounds are inconclusive: run more seeds, with --seeds N or --seeds auto", counts[suite.Inconclusive])}
	}
	return nil
}

// annotate prints what is not kept in the form of GitHub's workflow commands.
func (e *env) annotate(c *cli.Context, all []asserted) error {
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	return e.aside(c, func(w io.Writer) error {
		for _, a := range all {
			for _, r := range a.results {
				level := map[suite.State]string{suite.Broken: "error", suite.Inconclusive: "warning"}[r.State]
				if level == "" {
					continue
				}
				fmt.Fprintf(w, "::%s file=%s,line=%d,title=%s::%s\n", level, property.Replace(filepath.ToSlash(a.path)), max(1, r.Bound.Line),
					property.Replace(r.State.String()+" in "+r.Scenario), escape.Replace(r.Bound.Text+": "+r.Format()))
			}
		}
		return nil
	})
}

// writeResults writes results as one JSON object.
func writeResults(w io.Writer, all []asserted, stopped bool) error {
	type result struct {
		Suite    string      `json:"suite"`
		File     string      `json:"file"`
		Line     int         `json:"line"`
		Bound    string      `json:"bound"`
		Scenario string      `json:"scenario"`
		State    suite.State `json:"state"`
		Seeds    int         `json:"seeds"`
		Value    *float64    `json:"value"`
		Low      *float64    `json:"low"`
		High     *float64    `json:"high"`
		Alpha    float64     `json:"alpha"`
		Words    string      `json:"words"`
	}
	out := []result{}
	for _, a := range all {
		for _, r := range a.results {
			j := result{a.suite.Name, a.path, r.Bound.Line, r.Bound.Text, r.Scenario, r.State, r.Seeds, nil, nil, nil, r.Alpha, r.Format()}
			if r.Seeds > 0 {
				j.Value, j.Low, j.High = jsonFloat(r.Value), jsonFloat(r.Interval.Low), jsonFloat(r.Interval.High)
			}
			out = append(out, j)
		}
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(map[string]any{"results": out, "interrupted": stopped})
}

// jsonFloat is nil for what JSON cannot hold.
func jsonFloat(v float64) *float64 {
	if v-v != 0 {
		return nil
	}
	return &v
}

// writeJUnit writes results as JUnit XML: a bound that is inconclusive is an error, one that is broken a failure.
func writeJUnit(w io.Writer, all []asserted) error {
	type message struct {
		Message string `xml:"message,attr"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *message `xml:"failure"`
		Error   *message `xml:"error"`
	}
	type testsuite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	doc := struct {
		XMLName xml.Name    `xml:"testsuites"`
		Suites  []testsuite `xml:"testsuite"`
	}{}
	for _, a := range all {
		s := testsuite{Name: a.suite.Name, Tests: len(a.results)}
		for _, r := range a.results {
			t := testcase{Name: r.Bound.Text, Class: r.Scenario}
			switch r.State {
			case suite.Broken:
				s.Failures++
				t.Failure = &message{r.Format()}
			case suite.Inconclusive:
				s.Errors++
				t.Error = &message{r.Format()}
			}
			s.Cases = append(s.Cases, t)
		}
		doc.Suites = append(doc.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
