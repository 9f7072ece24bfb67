package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

func (e *env) benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure how fast the simulator is on this machine",
		ArgsUsage: " ", Action: e.benchAction, OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "time", Usage: "`TIME` for each measurement, at least", Value: time.Second},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "profile", Usage: "`FILE` for a profile of where the time goes; go build -pgo=FILE ./cmd/simulate then makes a program that is faster by it"},
			quietFlag(),
		},
		Description: `Events a second are counted with the real controller, on one core, in processor time (all that this program uses, the
collector of garbage included), in the fastest of the runs that fit into the time: close other programs first. Runs follow each other in the same memory, as they do in every command. Allocations an event are those of the second half of a run,
when all has grown; those of set-up are the rest of a run, its scoring included.

Examples:
   simulate bench
   simulate bench --time 200ms --json`,
	}
}

// benchResult is what bench measures. The names are the JSON keys.
type benchResult struct {
	Version       string          `json:"version"`
	CPUs          int             `json:"cpus"`
	EventsPerSec  float64         `json:"events_per_second_per_core"`
	AllocsPerEv   float64         `json:"allocations_per_event"`    // in the second half of a run
	SetUp         float64         `json:"set_up_allocations"`       // of a run: what the second half has not
	BytesPerEvent float64         `json:"bytes_per_event"`          // of whole runs
	TenMinutes    float64         `json:"ten_simulated_minutes_ms"` // of the median scenario
	Speedup       float64         `json:"speedup_on_two_cores"`
	Ceiling       float64         `json:"arithmetic_on_two_cores"` // how much faster two cores do what shares nothing
	Demo          float64         `json:"without_arguments_s"`
	Scenarios     []benchScenario `json:"scenarios"`
}

type benchScenario struct {
	Scenario     string  `json:"scenario"`
	EventsPerSec float64 `json:"events_per_second_per_core"`
	TenMinutes   float64 `json:"ten_simulated_minutes_ms"`
	AllocsPerEv  float64 `json:"allocations_per_event"`
	SetUp        float64 `json:"set_up_allocations"`
}

func (e *env) benchAction(c *cli.Context) error {
	if c.Args().Present() {
		return misuse(fmt.Errorf("bench takes no arguments, got %q", c.Args().First()))
	}
	least := c.Duration("time")
	if least < time.Millisecond || least > time.Hour {
		return misuse(fmt.Errorf("--time is %v, must be 1ms to 1h", least))
	}
	if path := c.String("profile"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return misuse(fmt.Errorf("--profile: %s cannot be written: %w", path, errorOf(err)))
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return internal(err)
		}
		defer pprof.StopCPUProfile()
	}
	all := scenario.Builtin()
	progress := e.progress(c, "scenarios")
	defer progress.clear()
	out := benchResult{Version: version(), CPUs: runtime.NumCPU()}
	set := config.Default().Defaults
	ours, err := scenario.ParseController("ours")
	if err != nil {
		return internal(err)
	}
	var events, seconds, allocs, bytes, late, lateAllocs float64
	var w scenario.Worker
	for i, s := range all {
		// Each scenario has a part of the time.
		b, took, err := benchOne(c.Context, &w, s, ours, &set, least/time.Duration(len(all)))
		if err != nil {
			return benchStopped(c, err)
		}
		out.Scenarios = append(out.Scenarios, b.benchScenario)
		events, seconds, allocs, bytes = events+b.events, seconds+took.Seconds(), allocs+b.allocs, bytes+b.bytes
		late, lateAllocs = late+b.late, lateAllocs+b.lateAllocs
		progress.show(i+1, len(all))
	}
	out.EventsPerSec, out.AllocsPerEv, out.BytesPerEvent = events/seconds, lateAllocs/late, bytes/events
	out.SetUp = (allocs - lateAllocs) / float64(len(all))
	var tens []float64
	for _, b := range out.Scenarios {
		tens = append(tens, b.TenMinutes)
	}
	slices.Sort(tens)
	out.TenMinutes = tens[len(tens)/2]
	if out.Speedup, out.Ceiling, err = speedup(c.Context, all, ours, &set, least); err != nil {
		return benchStopped(c, err)
	}
	if out.Demo, err = demoTime(c.Context, all, &set); err != nil {
		return benchStopped(c, err)
	}
	progress.clear()
	err = e.write(func(w io.Writer) error {
		if c.Bool("json") {
			return json.NewEncoder(w).Encode(out)
		}
		width := 0
		for _, b := range out.Scenarios {
			width = max(width, len(b.Scenario))
		}
		fmt.Fprintf(w, "%-*s  %14s  %18s  %12s  %14s\n", width, "", "events/s, core", "ms for 10 minutes", "allocs/event", "set-up allocs")
		for _, b := range out.Scenarios {
			fmt.Fprintf(w, "%-*s  %12.2f M  %18.1f  %12.4f  %14.0f\n", width, b.Scenario, b.EventsPerSec/1e6, b.TenMinutes, b.AllocsPerEv, b.SetUp)
		}
		fmt.Fprintf(w, "\n%.2f million events a second on one core, with the controller; %.4f allocations an event, %.0f to set a run up, %.1f bytes an event in all\n", out.EventsPerSec/1e6, out.AllocsPerEv, out.SetUp, out.BytesPerEvent)
		fmt.Fprintf(w, "10 simulated minutes of the median scenario: %.1f ms\n", out.TenMinutes)
		if out.Speedup > 0 {
			fmt.Fprintf(w, "two cores: %.2f times one (and arithmetic, which shares nothing, %.2f times)\n", out.Speedup, out.Ceiling)
		} else {
			fmt.Fprintf(w, "two cores: there is only one\n")
		}
		_, err := fmt.Fprintf(w, "the runs of simulate without arguments: %.2f s\n", out.Demo)
		return err
	})
	if err != nil {
		return internal(err)
	}
	return nil
}

func benchStopped(c *cli.Context, err error) error {
	if c.Context.Err() != nil {
		return &exitError{exitInterrupted, errors.New("interrupted; nothing was measured to its end")}
	}
	return internal(err)
}

var programBegan = time.Now()

type benchRun struct {
	benchScenario
	events, allocs, bytes float64
	// late is how many events the second half has, and lateAllocs how many allocations.
	late, lateAllocs float64
}

// benchOne runs a scenario on one core for at least a time and returns its figures and the time of the fastest run.
func benchOne(ctx context.Context, w *scenario.Worker, s *scenario.Scenario, ours scenario.Controller, set *config.Settings, least time.Duration) (*benchRun, time.Duration, error) {
	trial := func(seed uint64) scenario.Trial {
		return scenario.Trial{Scenario: s, Controller: ours, Settings: set, Seed: seed}
	}
	first := trial(1)
	bound, err := first.Bound(ctx) // the oracle is no part of the simulator's speed
	if err != nil {
		return nil, 0, err
	}
	if _, err := w.Run(ctx, &first, bound); err != nil {
		return nil, 0, err
	}
	b := &benchRun{benchScenario: benchScenario{Scenario: s.Name}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	var fastest time.Duration // the run that other programs disturbed least
	events, runs := 0.0, 0.0
	for runs == 0 || time.Since(began) < least {
		start := processorTime()
		o, err := w.Run(ctx, &first, bound)
		if err != nil {
			return nil, 0, err
		}
		if took := processorTime() - start; runs == 0 || took < fastest {
			fastest = took
		}
		events = float64(o.Events)
		runs++
	}
	runtime.ReadMemStats(&after)
	b.events = events
	b.allocs, b.bytes = float64(after.Mallocs-before.Mallocs)/runs, float64(after.TotalAlloc-before.TotalAlloc)/runs
	b.EventsPerSec = b.events / fastest.Seconds()
	// Once more, and now counting in the middle.
	counts, evs := make([]uint64, 0, 2), make([]uint64, 0, 2) // so that counting allocates nothing
	w.OnHalf(func(events uint64) {
		runtime.ReadMemStats(&after)
		counts, evs = append(counts, after.Mallocs), append(evs, events)
	})
	_, err = w.Run(ctx, &first, bound)
	w.OnHalf(nil)
	if err != nil {
		return nil, 0, err
	}
	if len(counts) == 2 && evs[1] > evs[0] {
		b.late, b.lateAllocs = float64(evs[1]-evs[0]), float64(counts[1]-counts[0])
		b.AllocsPerEv = b.lateAllocs / b.late
	}
	b.SetUp = b.allocs - b.lateAllocs
	b.TenMinutes = 1000 * fastest.Seconds() * (600 / s.World.Duration.Seconds())
	return b, fastest, nil
}

// speedup is how much faster two cores run the same trials than one, and how much faster they do arithmetic; 0 where there is only one core.
func speedup(ctx context.Context, all []*scenario.Scenario, ours scenario.Controller, set *config.Settings, least time.Duration) (runs, ceiling float64, err error) {
	if runtime.GOMAXPROCS(0) < 2 {
		return 0, 0, nil
	}
	var trials []scenario.Trial
	for seed := range uint64(2) {
		for _, s := range all {
			if least < time.Second && !isShown(s) {
				continue // for a first look a few are enough
			}
			trials = append(trials, scenario.Trial{Scenario: s, Controller: ours, Settings: set, Seed: seed + 1})
		}
	}
	l := &lab.Lab{CPUs: 2}
	if _, err := l.Run(ctx, trials); err != nil { // finds the oracles
		return 0, 0, err
	}
	// Of each the fastest, which other programs disturbed least.
	var fastest, plain [2]time.Duration
	note := func(t *time.Duration, took time.Duration) {
		if *t == 0 || took < *t {
			*t = took
		}
	}
	for began := time.Now(); fastest[0] == 0 || time.Since(began) < least; {
		for i := range fastest {
			l.CPUs = i + 1
			start := time.Now()
			if _, err := l.Run(ctx, trials); err != nil {
				return 0, 0, err
			}
			note(&fastest[i], time.Since(start))
			start = time.Now()
			arithmetic(i + 1)
			note(&plain[i], time.Since(start))
		}
	}
	return fastest[0].Seconds() / fastest[1].Seconds(), plain[0].Seconds() / plain[1].Seconds(), nil
}

// arithmetic does a fixed amount of work that needs no memory, divided among cores.
func arithmetic(cores int) {
	const parts = 20
	var next atomic.Int64
	var wg sync.WaitGroup
	for range cores {
		wg.Go(func() {
			for next.Add(1) <= parts {
				x := uint64(1)
				for range 2_000_000 {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				runtime.KeepAlive(x)
			}
		})
	}
	wg.Wait()
}

// demoTime is how long the run without arguments takes, without writing its page.
func demoTime(ctx context.Context, all []*scenario.Scenario, set *config.Settings) (float64, error) {
	plan := lab.Plan{Subjects: lab.Subjects(scenario.Controllers(), set), Seeds: lab.Seeds{First: 1, N: defaultSeeds}, Bands: true}
	for _, s := range all {
		if isShown(s) {
			plan.Scenarios = append(plan.Scenarios, s)
		}
	}
	began := time.Now()
	r, err := (&lab.Lab{CPUs: runtime.GOMAXPROCS(0)}).Table(ctx, plan)
	if err != nil {
		return 0, err
	}
	if err := report.WriteHTML(io.Discard, r); err != nil {
		return 0, err
	}
	return time.Since(began).Seconds(), nil
}
