package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

func (e *env) explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "say why the limit is what it is at an instant: the decision, its cause, and what came before it",
		ArgsUsage: "SCENARIO | events.jsonl | report.json", Action: e.explainAction, OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "at", Usage: "`TIME` since the start; without it every decision is listed"},
			&cli.StringFlag{Name: "controller", Usage: "`NAME` of the controller", Value: "ours"},
			&cli.StringFlag{Name: "scenario", Usage: "`NAME` of the scenario, for a file that has several"},
			&cli.Uint64Flag{Name: "seed", Usage: "seed `N`", Value: 1},
			configFlag(), setFlag(), durationFlag(),
			&cli.BoolFlag{Name: "json", Usage: "print JSON, one decision a line"},
			quietFlag(),
		},
		Description: `A scenario is run again, which gives the same decisions; a file of simulate run --events or --json is read. A report has the decisions of its first seed.
A world of simulate draws has a name and a seed, too: draw 65 of --seed 21 is draw-21-65, with the seed 21*1000003+65.

Examples:
   simulate explain --at 42s rpm-bucket
   simulate explain --at 101s --controller gcl-aimd --seed 3 capacity-step
   simulate explain --at 1m --scenario closed-loop results.jsonl
   simulate explain --seed 21000128 draw-21-65`,
	}
}

// account is what explain knows about one run.
type account struct {
	scenario, controller string
	seed                 uint64
	span                 time.Duration // 0: not known
	decisions            []report.Decision
	series               *report.Series // nil: not known
	oracle               *report.Oracle
}

func (e *env) explainAction(c *cli.Context) error {
	if c.NArg() != 1 {
		return misuse(fmt.Errorf("explain needs one scenario or one file, as in simulate explain --at 42s rpm-bucket; got %d", c.NArg()))
	}
	if c.IsSet("at") && c.Duration("at") < 0 {
		return misuse(fmt.Errorf("--at is %v, must not be negative", c.Duration("at")))
	}
	a, err := e.account(c, c.Args().First())
	if err != nil {
		return err
	}
	if at := c.Duration("at"); c.IsSet("at") && a.span > 0 && at > a.span {
		return misuse(fmt.Errorf("--at is %v, but %s ends after %v", at, a.scenario, a.span))
	}
	err = e.write(func(w io.Writer) error {
		switch {
		case c.Bool("json"):
			return a.writeJSON(w, c)
		case c.IsSet("at"):
			return a.explain(w, c.Duration("at"))
		}
		return a.list(w)
	})
	if err != nil {
		return internal(err)
	}
	return nil
}

// account finds or makes the run that is asked for.
func (e *env) account(c *cli.Context, word string) (*account, error) {
	switch {
	case strings.HasSuffix(word, ".jsonl"):
		return e.accountOfEvents(c, word)
	case strings.HasSuffix(word, ".json"):
		r, err := readReport(word)
		if err != nil {
			return nil, misuse(err)
		}
		return accountOfReport(c, word, r)
	}
	s := e.newSetup(c)
	ctl, err := scenario.ParseController(c.String("controller"))
	if err != nil {
		s.fail(fmt.Errorf("--controller: %w", err))
	}
	set := s.settings("")
	scs := s.scenarios([]string{word})
	if len(scs) > 1 {
		s.fail(fmt.Errorf("%s are %d scenarios: name one", word, len(scs)))
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	r, err := e.table(c, lab.Plan{Scenarios: scs, Subjects: lab.Subjects([]scenario.Controller{ctl}, set), Seeds: lab.Seeds{First: c.Uint64("seed"), N: 1}})
	switch {
	case interrupted(err):
		return nil, &exitError{exitInterrupted, errors.New("interrupted before the run was finished; nothing was explained")}
	case err != nil:
		return nil, internal(err)
	}
	sc := &r.Scenarios[0]
	run := &sc.Runs[0]
	return &account{sc.Name, run.Controller, c.Uint64("seed"), sc.Duration, run.Decisions, &run.Series, &sc.Oracle}, nil
}

func accountOfReport(c *cli.Context, path string, r *report.Report) (*account, error) {
	var names []string
	for _, s := range r.Scenarios {
		names = append(names, s.Name)
	}
	name := c.String("scenario")
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	i := slices.Index(names, name)
	if i < 0 {
		return nil, misuse(fmt.Errorf("%s has the scenarios %s: choose one with --scenario", path, strings.Join(names, ", ")))
	}
	sc := &r.Scenarios[i]
	var have []string
	for k := range sc.Runs {
		run := &sc.Runs[k]
		have = append(have, run.Controller)
		if run.Controller != c.String("controller") {
			continue
		}
		seed := r.Seed
		if len(run.PerSeed) > 0 {
			seed = run.PerSeed[0].Seed
		}
		if c.IsSet("seed") && c.Uint64("seed") != seed {
			return nil, misuse(fmt.Errorf("%s has the decisions of seed %d only: run the scenario, or write them with simulate run --events", path, seed))
		}
		return &account{sc.Name, run.Controller, seed, sc.Duration, run.Decisions, &run.Series, &sc.Oracle}, nil
	}
	return nil, misuse(fmt.Errorf("%s: scenario %s has no controller %q, only %s: choose one with --controller", path, sc.Name, c.String("controller"), strings.Join(have, ", ")))
}

// maxEventLine is the longest line of a file of decisions.
const maxEventLine = 1 << 16

func (e *env) accountOfEvents(c *cli.Context, path string) (*account, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s cannot be read: %w; make it with simulate run --events %s", path, errorOf(err), path))
	}
	defer f.Close()
	return readEvents(f, path, c.String("scenario"), c.String("controller"), c.Uint64("seed"))
}

// readEvents reads the decisions of one run from a file of --events.
func readEvents(r io.Reader, path, name, controller string, seed uint64) (*account, error) {
	a := &account{controller: controller, seed: seed}
	var names []string
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 4096), maxEventLine)
	line := 0
	for sc.Scan() {
		line++
		text := bytes.TrimSpace(sc.Bytes())
		if len(text) == 0 {
			continue
		}
		var ev event
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&ev); err != nil {
			return nil, misuse(fmt.Errorf("%s:%d: is no decision: %s; the file must be one of simulate run --events", path, line, strings.TrimPrefix(err.Error(), "json: ")))
		}
		if ev.Scenario == "" || ev.Limit < 0 || !(ev.At >= 0 && ev.At < math.MaxInt64/1e9) || !(ev.Pace >= 0) {
			return nil, misuse(fmt.Errorf("%s:%d: is no decision: scenario must be given, and at_s, limit and pace_rps must not be negative", path, line))
		}
		if !slices.Contains(names, ev.Scenario) && len(names) < 1000 {
			names = append(names, ev.Scenario)
		}
		if name == "" {
			name = ev.Scenario
		}
		if ev.Scenario == name && ev.Controller == controller && ev.Seed == seed {
			a.decisions = append(a.decisions, report.Decision{At: time.Duration(math.Round(ev.At * 1e9)), Limit: ev.Limit, Pace: ev.Pace, Cause: ev.Cause, Binding: ev.Binding})
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("line %d is longer than %d bytes", line+1, maxEventLine)
		}
		return nil, misuse(fmt.Errorf("%s cannot be read: %w", path, errorOf(err)))
	}
	a.scenario = name
	if len(a.decisions) == 0 {
		return nil, misuse(fmt.Errorf("%s has no decision of scenario %q, controller %q, seed %d; it has the scenarios %s", path, name, controller, seed, strings.Join(names, ", ")))
	}
	slices.SortStableFunc(a.decisions, func(x, y report.Decision) int {
		switch {
		case x.At < y.At:
			return -1
		case x.At > y.At:
			return 1
		}
		return 0
	})
	return a, nil
}

// causeText says what a cause means. The words are those of adaptive.Cause.
var causeText = map[string]string{
	"start":       "The first decision: nothing has been learned yet.",
	"slow_start":  "No limit was met so far, so it is raised quickly.",
	"probe":       "Calls ended well while the limit was in use, so it is raised a little, in search of room.",
	"throttled":   "The upstream refused calls because of a limit, so less is allowed. Refusals of calls that began before this cut cause no other one.",
	"overloaded":  "The upstream said that it lacks capacity, so less is allowed.",
	"timeout":     "Calls timed out, so less is allowed.",
	"latency":     "Latency grew beyond what is expected, so less is allowed.",
	"retry_after": "The upstream named a delay: no call starts before it has passed.",
	"hint":        "The upstream told its limits in a header or a sentence, and they are followed.",
	"idle":        "After a time without calls, what was learned counts less.",
	"recovery":    "The limit returns towards one that was good before.",
	"external":    "Somebody else set it: the configuration, or a law that gives no reasons.",
}

var bindingText = map[string]string{
	"limit": "calls in flight",
	"pace":  "the pace of starts",
	"pause": "a pause that the upstream asked for",
}

func limitText(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

func paceText(p float64) string {
	if p == 0 {
		return "none"
	}
	return fmt.Sprintf("%.3g/s", p)
}

// step describes a decision by what it changed.
func step(before *report.Decision, d *report.Decision) string {
	var parts []string
	if before == nil {
		parts = append(parts, "limit "+limitText(d.Limit))
		if d.Pace > 0 {
			parts = append(parts, "pace "+paceText(d.Pace))
		}
		return strings.Join(parts, ", ")
	}
	if before.Limit != d.Limit {
		change := ""
		if before.Limit > 0 && d.Limit > 0 {
			change = fmt.Sprintf(" (%+.0f %%)", 100*(float64(d.Limit)/float64(before.Limit)-1))
		}
		parts = append(parts, fmt.Sprintf("limit %s → %s%s", limitText(before.Limit), limitText(d.Limit), change))
	}
	if before.Pace != d.Pace {
		parts = append(parts, fmt.Sprintf("pace %s → %s", paceText(before.Pace), paceText(d.Pace)))
	}
	if len(parts) == 0 {
		parts = append(parts, fmt.Sprintf("limit %s as before", limitText(d.Limit)))
	}
	return strings.Join(parts, ", ")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

func (a *account) head() string {
	return fmt.Sprintf("%s, %s, seed %d", a.scenario, a.controller, a.seed)
}

func (a *account) before(i int) *report.Decision {
	if i == 0 {
		return nil
	}
	return &a.decisions[i-1]
}

// list writes every decision.
func (a *account) list(w io.Writer) error {
	fmt.Fprintf(w, "%s: %d decisions\n", a.head(), len(a.decisions))
	for i := range a.decisions {
		d := &a.decisions[i]
		fmt.Fprintf(w, "%10s  %-34s  %s\n", seconds(d.At), step(a.before(i), d), d.Cause)
	}
	return nil
}

// explain writes what was in force at an instant, and why.
func (a *account) explain(w io.Writer, at time.Duration) error {
	fmt.Fprintf(w, "%s, at %s\n", a.head(), seconds(at))
	k := -1
	for i := range a.decisions {
		if a.decisions[i].At <= at {
			k = i
		}
	}
	if k < 0 {
		fmt.Fprintf(w, "\n  Nothing was decided until then: ")
		if len(a.decisions) == 0 {
			fmt.Fprintf(w, "%s makes no decisions.\n", a.controller)
		} else {
			fmt.Fprintf(w, "the first decision comes at %s.\n", seconds(a.decisions[0].At))
		}
		return nil
	}
	d := &a.decisions[k]
	fmt.Fprintf(w, "\n  In force: limit %s, pace %s", limitText(d.Limit), paceText(d.Pace))
	if text := bindingText[d.Binding]; text != "" {
		fmt.Fprintf(w, "; what holds calls back is %s", text)
	}
	fmt.Fprintf(w, ".\n  Decided at %s (%s before): %s.\n", seconds(d.At), seconds(at-d.At), step(a.before(k), d))
	fmt.Fprintf(w, "  Cause: %s. %s\n", d.Cause, causeText[d.Cause])
	a.around(w, d.At)
	if k+1 < len(a.decisions) {
		n := &a.decisions[k+1]
		fmt.Fprintf(w, "  It held for %s, until %s: %s, %s.\n", seconds(n.At-d.At), seconds(n.At), step(d, n), n.Cause)
	} else {
		fmt.Fprintf(w, "  It is the last decision.\n")
	}
	fmt.Fprintf(w, "\n  The decisions around it:\n")
	for i := max(0, k-5); i < min(len(a.decisions), k+4); i++ {
		mark := " "
		if i == k {
			mark = ">"
		}
		fmt.Fprintf(w, "  %s %10s  %-34s  %s\n", mark, seconds(a.decisions[i].At), step(a.before(i), &a.decisions[i]), a.decisions[i].Cause)
	}
	return nil
}

// lookBack is how long before a decision it is told what happened.
const lookBack = 10 * time.Second

// around writes what happened before a decision, as far as the series tell.
func (a *account) around(w io.Writer, at time.Duration) {
	s := a.series
	if s == nil || s.Step <= 0 {
		return
	}
	to := int(at/s.Step) + 1
	from := max(0, to-int(max(1, lookBack/s.Step)))
	span := time.Duration(to-from) * s.Step
	mean := func(values []float64) (float64, bool) {
		if to > len(values) || from >= to {
			return 0, false
		}
		var sum float64
		n := 0
		for _, v := range values[from:to] {
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				sum += v
				n++
			}
		}
		return sum / float64(max(1, n)), n > 0
	}
	var parts []string
	if v, ok := mean(s.Rejected); ok {
		parts = append(parts, fmt.Sprintf("%.0f answers were 429", v*span.Seconds()))
	}
	if v, ok := mean(s.Goodput); ok {
		parts = append(parts, fmt.Sprintf("%.3g calls a second succeeded", v))
	}
	if v, ok := mean(s.InFlight); ok {
		parts = append(parts, fmt.Sprintf("%.3g were in flight", v))
	}
	if v, ok := mean(s.Waiting); ok {
		parts = append(parts, fmt.Sprintf("%.3g waited", v))
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "  In the %s before: %s.\n", seconds(span), strings.Join(parts, ", "))
	}
	if o := a.oracle; o != nil && o.Step > 0 {
		if i := int(at / o.Step); i < len(o.Limit) && !math.IsNaN(o.Limit[i]) && !math.IsInf(o.Limit[i], 0) {
			fmt.Fprintf(w, "  Who knew everything would have had %.3g in flight then.\n", o.Limit[i])
		}
	}
}

// writeJSON writes decisions, one a line: the one in force at --at, or all.
func (a *account) writeJSON(w io.Writer, c *cli.Context) error {
	enc := json.NewEncoder(w)
	for i := range a.decisions {
		d := &a.decisions[i]
		if c.IsSet("at") && (d.At > c.Duration("at") || i+1 < len(a.decisions) && a.decisions[i+1].At <= c.Duration("at")) {
			continue
		}
		if err := enc.Encode(event{a.scenario, a.controller, a.seed, d.At.Seconds(), d.Limit, d.Pace, d.Cause, d.Binding}); err != nil {
			return err
		}
	}
	return nil
}
