package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

// defaultSeeds is how many seeds a run has when nobody says otherwise: few enough to wait for, and enough for an interval.
const defaultSeeds = 4

func runFlags() []cli.Flag {
	flags := []cli.Flag{
		configFlag(),
		&cli.StringFlag{Name: "controllers", Usage: "`LIST` with commas between: " + scenario.ControllerNames, Value: controllerNames(), DefaultText: "all"},
	}
	flags = append(flags, seedFlags(strconv.Itoa(defaultSeeds))...)
	flags = append(flags, durationFlag(), setFlag())
	flags = append(flags, outputFlags("report.html")...)
	return append(flags,
		&cli.StringFlag{Name: "events", Usage: "`FILE` for every decision of every run, one JSON object a line; simulate explain reads it"},
		&cli.BoolFlag{Name: "regret", Usage: "search for the best constant limit and the best limits that change, with each seed, and show by how much everybody falls short of them"},
		&cli.BoolFlag{Name: "assert", Usage: "exit with 3 when a controller does not do what its scenario expects"},
		cpusFlag(), quietFlag(),
	)
}

func (e *env) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run scenarios: files, built-in names, sets; all built-in ones when none is given",
		ArgsUsage: "[scenario.toml | name | set:NAME ...]", Flags: runFlags(), Action: e.runAction, OnUsageError: usageError,
		Description: `A file has a slash in its name or ends in .toml; - is stdin. The table goes to stdout, words to stderr, the page to report.html.

Examples:
   simulate run outage-30s
   simulate run --seeds 8 --controllers ours,gcl-aimd,fixed-12 rpm-bucket capacity-step
   simulate run --set guard.adaptive.backoff=0.7 --set upstream.concurrency.limit=30 concurrency-cap
   simulate run --json --seeds 2 rpm-bucket > after.json
   simulate run --seeds 2 --out results --events results.jsonl closed-loop`,
	}
}

// demoAction is the run without a command: the scenarios that tell most.
func (e *env) demoAction(c *cli.Context) error {
	if c.NArg() > 0 {
		return misuse(unknownCommand(c))
	}
	var words []string
	for _, s := range scenario.Builtin() {
		if isShown(s) {
			words = append(words, s.Name)
		}
	}
	if err := e.run(c, words); err != nil {
		return err
	}
	e.say(c, "these are %d of %d scenarios; simulate run runs all, simulate scenarios lists them", len(words), len(scenario.Builtin()))
	return nil
}

// controllerNames returns the controllers of a comparison that names none, as --controllers takes them.
func controllerNames() string {
	var names []string
	for _, c := range scenario.Controllers() {
		names = append(names, c.Name)
	}
	return strings.Join(names, ",")
}

// runAction runs scenarios and reports.
func (e *env) runAction(c *cli.Context) error {
	words := c.Args().Slice()
	if len(words) == 0 {
		words = []string{"all"}
	}
	return e.run(c, words)
}

func (e *env) run(c *cli.Context, words []string) error {
	s := e.newSetup(c)
	s.fail(oneOf(c, "json", "csv", "svg"))
	plan := lab.Plan{Seeds: s.seeds(), Bands: true, Regret: c.Bool("regret")}
	cs := s.controllers("controllers", c.String("controllers"))
	set := s.settings("")
	plan.Scenarios = s.scenarios(words)
	if err := s.err(); err != nil {
		return err
	}
	plan.Subjects = lab.Subjects(cs, set)
	log, err := newEvents(c.String("events"))
	if err != nil {
		return misuse(err)
	}
	if log != nil {
		plan.Decisions = log.add
	}
	r, runErr := e.table(c, plan)
	var logErr error
	switch {
	case log == nil:
	case len(r.Scenarios) == 0:
		log.discard()
	default:
		if logErr = log.close(); logErr != nil {
			logErr = internal(fmt.Errorf("the decisions could not be written: %w; name another file with --events", logErr))
		}
	}
	if runErr != nil && !interrupted(runErr) {
		return internal(runErr)
	}
	r.Version, r.Config = version(), hashOf(set)
	r.Command = newRecipe("run").flags(c, "config", "controllers").seeds(c).flags(c, "duration", "set", "regret").args(words).String()
	if len(r.Scenarios) == 0 {
		return &exitError{exitInterrupted, errors.New("interrupted before the first run was finished; nothing was written")}
	}
	err = errors.Join(logErr, e.publish(c, r))
	switch {
	case runErr != nil:
		if err != nil {
			e.exit(err) // an interruption has the last word
		}
		return runErr
	case err != nil:
		return err
	case c.Bool("assert"):
		if !expects(plan.Scenarios, cs) {
			e.say(c, "--assert: none of these scenarios expects anything of these controllers, so nothing was checked; a --duration leaves out what is expected of the whole")
		}
		return assertExpectations(plan.Scenarios, r)
	}
	return nil
}

// expects reports whether a scenario expects anything of a controller.
func expects(scs []*scenario.Scenario, cs []scenario.Controller) bool {
	return slices.ContainsFunc(scs, func(s *scenario.Scenario) bool {
		return slices.ContainsFunc(cs, func(c scenario.Controller) bool { _, ok := s.Expect[c.Name]; return ok })
	})
}

// table runs a plan with progress. An interruption comes back as an exitError with the code for it, beside what was finished.
func (e *env) table(c *cli.Context, plan lab.Plan) (*report.Report, error) {
	l := e.newLab(c)
	progress := e.progress(c, "runs")
	l.Progress = progress.show
	r, err := l.Table(c.Context, plan)
	progress.clear()
	if err != nil && c.Context.Err() != nil && errors.Is(err, context.Cause(c.Context)) {
		total := len(plan.Scenarios) * len(plan.Subjects) * plan.Seeds.N
		word := ""
		if plan.Seeds.Auto {
			word = "at most "
		}
		return r, &exitError{exitInterrupted, fmt.Errorf("interrupted after %d of %s%d runs; what is finished is above", l.Trials, word, total)}
	}
	return r, err
}

// interrupted reports whether an error is an interruption.
func interrupted(err error) bool {
	var ee *exitError
	return errors.As(err, &ee) && ee.code == exitInterrupted
}

// newLab returns a lab with the cores of --cpus.
func (e *env) newLab(c *cli.Context) *lab.Lab { return &lab.Lab{CPUs: max(1, c.Int("cpus"))} }

// assertExpectations returns an error that lists what the scenarios expect and did not come.
func assertExpectations(scs []*scenario.Scenario, r *report.Report) error {
	misses := scenario.Check(scs, r)
	if len(misses) == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("%d of the scenarios' expectations not met:", len(misses))}
	for _, m := range misses {
		lines = append(lines, m.String())
	}
	return &exitError{exitAssertion, errors.New(strings.Join(lines, "\n"))}
}

// events is the file of --events, written beside its place and moved there when it is closed.
type events struct {
	f   *placed
	w   *bufio.Writer
	err error
}

// event is one line.
type event struct {
	Scenario   string  `json:"scenario"`
	Controller string  `json:"controller"`
	Seed       uint64  `json:"seed"`
	At         float64 `json:"at_s"`
	Limit      int     `json:"limit"`
	Pace       float64 `json:"pace_rps"`
	Cause      string  `json:"cause"`
	Binding    string  `json:"binding"`
}

func newEvents(path string) (*events, error) {
	if path == "" {
		return nil, nil
	}
	f, err := newPlaced(path)
	if err != nil {
		return nil, fmt.Errorf("--events: %s cannot be written: %w", path, errorOf(err))
	}
	return &events{f: f, w: bufio.NewWriterSize(f, 1<<16)}, nil
}

// add writes the decisions of a run. After an error it writes no more; close reports it, and the runs go on.
func (ev *events) add(s *scenario.Scenario, sub *lab.Subject, seed uint64, ds []report.Decision) error {
	if ev.err != nil {
		return nil
	}
	enc := json.NewEncoder(ev.w)
	for _, d := range ds {
		if err := enc.Encode(event{s.Name, sub.Name, seed, d.At.Seconds(), d.Limit, d.Pace, d.Cause, d.Binding}); err != nil {
			ev.err = err
			return nil
		}
	}
	return nil
}

// discard leaves the file of the last run as it is, when nothing was finished.
func (ev *events) discard() { ev.f.discard() }

func (ev *events) close() error {
	return ev.f.finish(cmp.Or(ev.err, ev.w.Flush()))
}

// errorOf returns what went wrong without the operation and the path, which the message has already.
func errorOf(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
