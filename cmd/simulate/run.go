package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/scenarios"
)

// defaultConfig is read when it is there and no other file is named.
const defaultConfig = "limits.toml"

// Bounds of flags.
const (
	maxSeeds = 1000
	maxCPUs  = 1024
)

func runFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "`FILE` with the guard's parameters ([guard] of limits.toml); ./limits.toml when it is there"},
		&cli.StringFlag{Name: "controllers", Usage: "`LIST` with commas between: " + scenario.ControllerNames, Value: controllerNames(), DefaultText: "all"},
		&cli.Uint64Flag{Name: "seed", Usage: "first seed `N` of the random numbers", Value: 1},
		&cli.IntFlag{Name: "seeds", Usage: "`N` seeds, one after the other", Value: 3},
		&cli.StringFlag{Name: "out", Usage: "`FILE` for the report with charts; empty for none", Value: "report.html"},
		&cli.BoolFlag{Name: "json", Usage: "print JSON instead of the table"},
		&cli.BoolFlag{Name: "assert", Usage: "exit with 3 when a controller does not do what its scenario expects"},
		&cli.IntFlag{Name: "cpus", Usage: "`N` runs at the same time; the result does not depend on it", Value: runtime.GOMAXPROCS(0), DefaultText: "all"},
	}
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
	plan, err := e.plan(c)
	if err != nil {
		return misuse(err)
	}
	progress := newProgress(e.stderr)
	plan.Progress = progress.show
	r, stats, runErr := scenario.Run(c.Context, plan)
	progress.clear()
	interrupted := errors.Is(runErr, context.Canceled)
	if runErr != nil && !interrupted {
		return internal(runErr)
	}
	r.Command = commandLine(c)
	if total := len(plan.Scenarios) * len(plan.Controllers) * plan.Seeds; interrupted && stats.Runs == 0 {
		return &exitError{exitInterrupted, fmt.Errorf("interrupted before the first of %d runs was finished; nothing was written", total)}
	}

	// The table comes first: it is there whatever becomes of the report.
	if err := e.print(r, c.Bool("json")); err != nil {
		return internal(fmt.Errorf("the table could not be written: %w", err))
	}
	if out := c.String("out"); out != "" && len(r.Scenarios) > 0 {
		if err := writeReport(out, r); err != nil {
			return internal(fmt.Errorf("the report could not be written: %w; the table is complete; name another file with --out", err))
		}
		fmt.Fprintf(e.stderr, "simulate: wrote %s\n", out)
	}
	if interrupted {
		total := len(plan.Scenarios) * len(plan.Controllers) * plan.Seeds
		return &exitError{exitInterrupted, fmt.Errorf("interrupted after %d of %d runs; what is finished is above", stats.Runs, total)}
	}
	if c.Bool("assert") {
		return assert(plan.Scenarios, r)
	}
	return nil
}

// assert returns an error that lists what was expected and did not come.
func assert(scs []*scenario.Scenario, r *report.Report) error {
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

// plan reads flags and files, and reports all that is wrong with them together.
func (e *env) plan(c *cli.Context) (scenario.Plan, error) {
	var errs []error
	p := scenario.Plan{Seed: c.Uint64("seed"), Seeds: c.Int("seeds"), CPUs: c.Int("cpus")}
	if p.Seeds < 1 || p.Seeds > maxSeeds {
		errs = append(errs, fmt.Errorf("--seeds is %d, must be 1 to %d", p.Seeds, maxSeeds))
	}
	if p.CPUs < 1 || p.CPUs > maxCPUs {
		errs = append(errs, fmt.Errorf("--cpus is %d, must be 1 to %d", p.CPUs, maxCPUs))
	}
	var err error
	if p.Controllers, err = scenario.ParseControllers(c.String("controllers")); err != nil {
		errs = append(errs, fmt.Errorf("--controllers: %w", err))
	}
	if file, err := loadConfig(c); err != nil {
		errs = append(errs, err)
	} else {
		p.Settings = file.Defaults
		if law := file.Defaults.Law; law != config.LawAdaptive {
			fmt.Fprintf(e.stderr, "simulate: guard.law is %q, and ours is always flyball's law; for others see --controllers\n", law)
		}
	}
	if p.Scenarios, err = e.scenarios(c); err != nil {
		errs = append(errs, err)
	}
	return p, errors.Join(errs...)
}

// loadConfig reads the file that --config names, or ./limits.toml when it is there.
func loadConfig(c *cli.Context) (*config.File, error) {
	if c.IsSet("config") {
		return config.Load(c.String("config"))
	}
	if _, err := os.Stat(defaultConfig); errors.Is(err, fs.ErrNotExist) {
		return config.Default(), nil
	}
	return config.Load(defaultConfig)
}

// scenarios returns the scenarios that the arguments name, or all built-in ones.
func (e *env) scenarios(c *cli.Context) ([]*scenario.Scenario, error) {
	args := c.Args().Slice()
	if c.Command.Name != "run" && len(args) > 0 {
		return nil, fmt.Errorf("there is no command %q, only run, scenarios and feedback; names and files come after run, as in simulate run rpm-bucket", args[0])
	}
	if len(args) == 0 {
		return scenario.Builtin(), nil
	}
	var all []*scenario.Scenario
	var errs []error
	for _, arg := range args {
		s, err := e.scenario(arg)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if slices.ContainsFunc(all, func(o *scenario.Scenario) bool { return o.Name == s.Name }) {
			errs = append(errs, fmt.Errorf("two scenarios are called %q: give one of them another name", s.Name))
		}
		all = append(all, s)
	}
	return all, errors.Join(errs...)
}

// scenario reads a file, stdin, or a built-in scenario.
func (e *env) scenario(arg string) (*scenario.Scenario, error) {
	switch {
	case arg == "-":
		data, err := io.ReadAll(io.LimitReader(e.stdin, strict.MaxSize+1))
		if err != nil {
			return nil, fmt.Errorf("stdin cannot be read: %w", err)
		}
		return scenario.Parse("stdin", data)
	case strings.HasPrefix(arg, "-"):
		return nil, fmt.Errorf("%s comes after a scenario: write options first, as in simulate run --seeds 5 rpm-bucket", arg)
	case strings.ContainsRune(arg, '/') || strings.ContainsRune(arg, filepath.Separator) || strings.HasSuffix(arg, ".toml"):
		data, err := readFile(arg)
		if err != nil {
			return nil, err
		}
		return scenario.Parse(arg, data)
	}
	text, ok := scenarios.Read(arg)
	if !ok {
		return nil, unknownScenario(arg)
	}
	return scenario.Parse("scenarios/"+arg+".toml", text)
}

// readFile reads a file that is not larger than a scenario can be.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, strict.MaxSize+1)); err == nil {
			return data, nil
		}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return nil, fmt.Errorf("%s cannot be read: %w; check the path, or take a built-in scenario (simulate scenarios)", path, err)
}

func unknownScenario(name string) error {
	return fmt.Errorf("there is no built-in scenario %q, only %s; a file needs a slash in its name or ends in .toml",
		name, strings.Join(scenarios.Names(), ", "))
}

// print writes the table, or JSON, in one piece.
func (e *env) print(r *report.Report, json bool) error {
	var b bytes.Buffer
	var err error
	if json {
		err = report.WriteJSON(&b, r)
	} else {
		err = report.WriteText(&b, r, report.TextOptions{Color: color(e.stdout)})
	}
	if err == nil {
		_, err = e.stdout.Write(b.Bytes())
	}
	return err
}

// writeReport writes the report beside its place and then moves it there, so that a full disk leaves the
// one of the last run as it is.
func writeReport(path string, r *report.Report) (err error) {
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return writeTo(path, r) // a device, or a directory, which says so itself
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	err = report.WriteHTML(f, r)
	if e := f.Chmod(0o644); err == nil && !errors.Is(e, errors.ErrUnsupported) {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func writeTo(path string, r *report.Report) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	err = report.WriteHTML(f, r)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// commandLine returns the command that gives the same report: what it reads, not where it writes or how fast.
func commandLine(c *cli.Context) string {
	words := []string{"go run ./cmd/simulate run"}
	add := func(name, value string) {
		if c.IsSet(name) {
			words = append(words, "--"+name, quote(value))
		}
	}
	add("config", c.String("config"))
	add("controllers", c.String("controllers"))
	words = append(words, "--seed", strconv.FormatUint(c.Uint64("seed"), 10), "--seeds", strconv.Itoa(c.Int("seeds")))
	for _, a := range c.Args().Slice() {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// quote returns s as a word of a shell.
func quote(s string) string {
	safe := func(r rune) bool {
		return r == '-' || r == '_' || r == '.' || r == '/' || r == ',' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
