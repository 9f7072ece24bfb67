package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/trace"
)

// traceFlags are how a trace is read.
func traceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "format", Usage: "`NAME` of the trace's format: " + strings.Join(trace.Formats(), ", "), Value: trace.Auto},
		&cli.StringFlag{Name: "columns", Usage: "`LIST` of field=column of a CSV or of JSON lines, with a unit (s, ms, us, ns) where it is not seconds: t=start:ms,in=prompt,out=completion,latency=took:ms,status=code"},
		&cli.BoolFlag{Name: "sort", Usage: "sort the requests by time; otherwise a trace that is not sorted is refused"},
		&cli.BoolFlag{Name: "prefix-cache", Usage: "of Mooncake: count the blocks of a prompt that were in one before as read from a cache"},
	}
}

// trace reads the trace that is named; - is stdin.
func (e *env) trace(c *cli.Context, path string) (*trace.Trace, error) {
	opt := trace.Options{Format: c.String("format"), Sort: c.Bool("sort"), PrefixCache: c.Bool("prefix-cache")}
	if list := c.String("columns"); list != "" {
		var err error
		if opt.Columns, err = trace.ParseColumns(list); err != nil {
			return nil, fmt.Errorf("--columns: %w", err)
		}
	}
	in := e.stdin
	name := "stdin"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("the trace cannot be read: %w", err)
		}
		defer f.Close()
		in, name = f, path
	}
	t, err := trace.Read(name, in, opt)
	if err != nil {
		return nil, err
	}
	for _, n := range t.Notes {
		fmt.Fprintf(e.stderr, "simulate: %s: %s\n", name, n)
	}
	return t, nil
}

// replayCommand is simulate replay.
func (e *env) replayCommand() *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "let the requests of a trace meet an upstream, in virtual time",
		ArgsUsage: "TRACE", Action: e.replayAction, OnUsageError: usageError,
		Description: `A trace is demand: when requests came, and how large they were. Latencies that it has recorded are not
replayed, as they would be others with other calls in flight; the upstream's model makes them (see simulate fit).

Examples:
   simulate replay --upstream fitted.toml trace.jsonl
   simulate replay --upstream rpm-bucket --window 10m --rate-scale 0.5 AzureLLMInferenceTrace_conv.csv
   simulate replay --format csv --columns t=start:ms,in=prompt,out=completion --upstream my.toml log.csv`,
		Flags: append(append(traceFlags(), outputFlags("report.html")...),
			&cli.StringFlag{Name: "upstream", Usage: "`SCENARIO` (a file, or the name of a built-in one) whose upstream is met", Value: "rpm-bucket"},
			&cli.Float64Flag{Name: "time-scale", Usage: "`N` times slower", Value: 1},
			&cli.Float64Flag{Name: "rate-scale", Usage: "`N` requests for each one of the trace", Value: 1},
			&cli.DurationFlag{Name: "from", Usage: "leave out what came before, from the trace's start"},
			&cli.DurationFlag{Name: "window", Usage: "how much of the trace is used", DefaultText: "all"},
			&cli.DurationFlag{Name: "duration", Usage: "how long requests come; the trace begins again when it is shorter", DefaultText: "as long as the trace"},
			configFlagOf("the guard's parameters"),
			&cli.StringFlag{Name: "controllers", Usage: "`LIST` with commas between: " + scenario.ControllerNames, Value: controllerNames(), DefaultText: "all"},
			&cli.Uint64Flag{Name: "seed", Usage: "first seed `N` of the random numbers", Value: 1},
			&cli.IntFlag{Name: "seeds", Usage: "`N` seeds, one after the other; they do not change the trace", Value: 1},
			&cli.IntFlag{Name: "cpus", Usage: "`N` runs at the same time; the result does not depend on it", Value: runtime.GOMAXPROCS(0), DefaultText: "all"},
		),
	}
}

func (e *env) replayAction(c *cli.Context) error {
	plan, err := e.replayPlan(c)
	if err != nil {
		return misuse(err)
	}
	r, runErr := e.table(c, plan)
	if runErr != nil && !interrupted(runErr) {
		return internal(runErr)
	}
	if len(r.Scenarios) == 0 {
		return &exitError{exitInterrupted, errors.New("interrupted before the first run was finished; nothing was written")}
	}
	r.Title, r.Version, r.Config, r.Command = "flyball replay", version(), hashOf(plan.Subjects[0].Settings), replayLine(c)
	if err := e.publish(c, r); err != nil {
		return err
	}
	return runErr
}

// replayPlan reads flags and files, and reports all that is wrong with them together.
func (e *env) replayPlan(c *cli.Context) (lab.Plan, error) {
	var errs []error
	p := lab.Plan{Seeds: lab.Seeds{First: c.Uint64("seed"), N: c.Int("seeds")}, Bands: true}
	if p.Seeds.N < 1 || p.Seeds.N > maxSeeds {
		errs = append(errs, fmt.Errorf("--seeds is %d, must be 1 to %d", p.Seeds.N, maxSeeds))
	}
	errs = append(errs, checkSeed(c))
	if n := c.Int("cpus"); n < 1 || n > maxCPUs {
		errs = append(errs, fmt.Errorf("--cpus is %d, must be 1 to %d", n, maxCPUs))
	}
	cs, err := scenario.ParseControllers(c.String("controllers"))
	if err != nil {
		errs = append(errs, fmt.Errorf("--controllers: %w", err))
	}
	errs = append(errs, oneOf(c, "json", "csv", "svg"))
	if file, err := loadConfig(c); err != nil {
		errs = append(errs, err)
	} else {
		p.Subjects = lab.Subjects(cs, &file.Defaults)
	}
	sc, err := e.scenario(c, c.String("upstream"))
	if err != nil {
		errs = append(errs, fmt.Errorf("--upstream: %w", err))
	}
	if c.NArg() != 1 {
		return p, errors.Join(append(errs, fmt.Errorf("%d arguments, must be one trace, as in simulate replay --upstream my.toml trace.jsonl", c.NArg()))...)
	}
	path := c.Args().First()
	t, err := e.trace(c, path)
	if err != nil {
		return p, errors.Join(append(errs, err)...)
	}
	if from, window := c.Duration("from"), c.Duration("window"); from != 0 || window != 0 {
		to := time.Duration(0)
		if window > 0 {
			to = from + window
		}
		if window < 0 || from < 0 {
			errs = append(errs, fmt.Errorf("--from is %v and --window %v, must not be negative", from, window))
		} else if t, err = t.Window(from, to); err != nil {
			errs = append(errs, fmt.Errorf("--from, --window: %w", err))
		}
	}
	if d := c.Duration("duration"); d < 0 || d > maxDuration { // before as many requests as come in it are made
		errs = append(errs, fmt.Errorf("--duration is %v, must be %v to %v", d, minDuration, maxDuration))
	}
	for _, name := range []string{"time-scale", "rate-scale"} {
		if c.Float64(name) == 0 { // which Demand takes for 1
			errs = append(errs, fmt.Errorf("--%s is 0, must be more: 1 leaves the trace as it is", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return p, err
	}
	d, err := t.Demand(trace.DemandOptions{TimeScale: c.Float64("time-scale"), RateScale: c.Float64("rate-scale"), Duration: c.Duration("duration")})
	if err != nil {
		return p, err
	}
	if d.Duration < minDuration || d.Duration > maxDuration {
		return p, fmt.Errorf("the replay lasts %v, must be 1s to 1000h: set --duration or --time-scale", d.Duration)
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if path == "-" {
		name = "trace"
	}
	fmt.Fprintf(e.stderr, "simulate: %d requests in %v, %.2f a second\n", len(d.Rows), d.Duration.Round(time.Millisecond), float64(len(d.Rows))/d.Duration.Seconds())
	traced := sc.Traced(name, d)
	if (c.Duration("from") > 0 || c.Float64("time-scale") != 1) && len(traced.World.Changes) > 0 {
		fmt.Fprintf(e.stderr, "simulate: the changes of %s stay at their instants, which are not those of the trace with --from or --time-scale\n", sc.Name)
	}
	p.Scenarios = []*scenario.Scenario{traced}
	return p, nil
}

// replayLine returns the command that gives the same report.
func replayLine(c *cli.Context) string {
	words := []string{"go run ./cmd/simulate replay"}
	for _, name := range []string{"format", "columns", "sort", "prefix-cache", "upstream", "time-scale", "rate-scale", "from", "window", "duration", "config", "controllers", "seed", "seeds"} {
		if c.IsSet(name) {
			if v, ok := c.Value(name).(bool); ok {
				if v {
					words = append(words, "--"+name)
				}
				continue
			}
			words = append(words, "--"+name, quote(fmt.Sprint(c.Value(name))))
		}
	}
	return strings.Join(append(words, quote(c.Args().First())), " ")
}
