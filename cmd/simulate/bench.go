package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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
	"github.com/flyball-go/flyball/internal/sim"
)

func (e *env) benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure how fast the simulator is on this machine",
		ArgsUsage: " ", Action: e.benchAction, OnUsageError: usageError,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "time", Usage: "`TIME` for each measurement, at least", Value: 5 * time.Second},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "profile", Usage: "`FILE` for a profile of where the time goes; go build -pgo=FILE ./cmd/simulate then makes a program that is faster by it"},
			quietFlag(),
		},
		Description: `Events a second are counted with the real controller, on one core, by the clock or in processor time (all that this program uses, the
collector of garbage included), whichever is longer, in the fastest run of each scenario; all scenarios take turns as long as there is time. Runs follow each other in the
same memory, as they do in every command. Allocations an event are those of the second half of a run, when all has grown; those of set-up are the rest of a run, its scoring included.

Two cores and one run the same list of trials in turn; what counts is the median of the pairs, as other programs, and neighbours on the same host, disturb single rounds. Beside it stand two works that share nothing:
arithmetic in registers, one step after the other, and sorting in the first cache, which keeps a core as busy as a simulation does. What sorting does not reach, no simulation can.

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
	Speedup       float64         `json:"speedup_on_two_cores"`     // median of pairs of rounds
	Quartiles     [2]float64      `json:"speedup_quartiles"`        // of those pairs
	Arithmetic    float64         `json:"arithmetic_on_two_cores"`  // how much faster two cores are in registers,
	Sorting       float64         `json:"sorting_on_two_cores"`     // and in the first cache
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
	var w scenario.Worker
	runs := make([]*benchRun, len(all))
	for i, s := range all {
		if runs[i], err = newBenchRun(c.Context, &w, s, ours, &set); err != nil {
			return benchStopped(c, err)
		}
		progress.show(i+1, len(all))
	}
	for began := time.Now(); ; {
		for _, b := range runs {
			if err := b.again(c.Context, &w); err != nil {
				return benchStopped(c, err)
			}
		}
		if time.Since(began) >= least {
			break
		}
	}
	var events, seconds, allocs, bytes, late, lateAllocs float64
	for _, b := range runs {
		b.EventsPerSec = b.events / b.fastest.Seconds()
		b.TenMinutes = 1000 * b.fastest.Seconds() * (600 / b.trial.Scenario.World.Duration.Seconds())
		out.Scenarios = append(out.Scenarios, b.benchScenario)
		events, seconds, allocs, bytes = events+b.events, seconds+b.fastest.Seconds(), allocs+b.allocs, bytes+b.bytes
		late, lateAllocs = late+b.late, lateAllocs+b.lateAllocs
	}
	out.EventsPerSec, out.AllocsPerEv, out.BytesPerEvent = events/seconds, lateAllocs/late, bytes/events
	out.SetUp = (allocs - lateAllocs) / float64(len(all))
	var tens []float64
	for _, b := range out.Scenarios {
		tens = append(tens, b.TenMinutes)
	}
	slices.Sort(tens)
	out.TenMinutes = tens[len(tens)/2]
	if err := out.twoCores(c.Context, all, ours, &set, least); err != nil {
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
			fmt.Fprintf(w, "two cores: %.2f times one (half of the rounds %.2f to %.2f); of what shares nothing, sorting %.2f times, arithmetic %.2f times\n",
				out.Speedup, out.Quartiles[0], out.Quartiles[1], out.Sorting, out.Arithmetic)
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

// benchRun is the runs of one scenario.
type benchRun struct {
	benchScenario
	trial                 scenario.Trial
	bound                 *sim.Limits
	fastest               time.Duration // the run that was disturbed least
	events, allocs, bytes float64
	// late is how many events the second half has, and lateAllocs how many allocations.
	late, lateAllocs float64
}

// newBenchRun runs a scenario until all has grown that does, and then counts what a run allocates.
func newBenchRun(ctx context.Context, w *scenario.Worker, s *scenario.Scenario, ours scenario.Controller, set *config.Settings) (*benchRun, error) {
	b := &benchRun{benchScenario: benchScenario{Scenario: s.Name}, trial: scenario.Trial{Scenario: s, Controller: ours, Settings: set, Seed: 1}}
	var err error
	if b.bound, err = b.trial.Bound(ctx); err != nil { // the oracle is no part of the simulator's speed
		return nil, err
	}
	var before, after runtime.MemStats
	counts, events := make([]uint64, 0, 2), make([]uint64, 0, 2) // so that counting allocates nothing
	half := func(n uint64) {
		runtime.ReadMemStats(&after)
		counts, events = append(counts, after.Mallocs), append(events, n)
	}
	for round := range 3 {
		runtime.ReadMemStats(&before)
		if round == 2 {
			w.OnHalf(half)
		}
		o, err := w.Run(ctx, &b.trial, b.bound)
		w.OnHalf(nil)
		if err != nil {
			return nil, err
		}
		b.events = float64(o.Events)
		if round == 1 {
			runtime.ReadMemStats(&after)
			b.allocs, b.bytes = float64(after.Mallocs-before.Mallocs), float64(after.TotalAlloc-before.TotalAlloc)
		}
	}
	if len(counts) == 2 && events[1] > events[0] {
		b.late, b.lateAllocs = float64(events[1]-events[0]), float64(counts[1]-counts[0])
		b.AllocsPerEv = b.lateAllocs / b.late
	}
	b.SetUp = b.allocs - b.lateAllocs
	return b, nil
}

// again runs the scenario once more.
func (b *benchRun) again(ctx context.Context, w *scenario.Worker) error {
	clock, work := time.Now(), processorTime()
	if _, err := w.Run(ctx, &b.trial, b.bound); err != nil {
		return err
	}
	// The time of processors alone will not do: a hypervisor takes off what it kept them waiting for, and not always off the right
	// run, so that one of a millisecond may seem to have taken hardly any.
	if took := max(time.Since(clock), processorTime()-work); b.fastest == 0 || took < b.fastest {
		b.fastest = took
	}
	return nil
}

// leastRounds is how many rounds with one core and with two there are at least, in a measurement of at least a second.
const leastRounds = 9

// twoCores measures how much faster two cores are than one: in the same trials, and in works that share nothing. Of rounds with one and with two that follow each
// other, each has the same neighbours, most often; the fastest of all with one and the fastest with two have not, as two cores
// are hardly ever both left alone. It does nothing where there is only one core.
func (r *benchResult) twoCores(ctx context.Context, all []*scenario.Scenario, ours scenario.Controller, set *config.Settings, least time.Duration) error {
	if runtime.GOMAXPROCS(0) < 2 {
		return nil
	}
	short := least < time.Second // for a first look a few are enough
	var trials []scenario.Trial
	for _, s := range all {
		if !short || isShown(s) {
			trials = append(trials, scenario.Trial{Scenario: s, Controller: ours, Settings: set, Seed: 1})
		}
	}
	l := &lab.Lab{}
	works := []func(cores int) error{
		func(cores int) error {
			l.CPUs = cores
			_, err := l.Run(ctx, trials)
			return err
		},
		func(cores int) error { return divided(cores, sorting) },
		func(cores int) error { return divided(cores, arithmetic) },
	}
	for cores := 1; cores <= 2; cores++ { // finds the oracles, and makes memory grow
		if err := works[0](cores); err != nil {
			return err
		}
	}
	factors := make([][]float64, len(works))
	began := time.Now()
	for n := 0; n == 0 || !short && n < leastRounds || time.Since(began) < least; n++ {
		for i, work := range works {
			var took [2]time.Duration
			for k := range took {
				cores := (n+k)%2 + 1 // in turn
				start := time.Now()
				if err := work(cores); err != nil {
					return err
				}
				took[cores-1] = time.Since(start)
			}
			factors[i] = append(factors[i], took[0].Seconds()/took[1].Seconds())
		}
	}
	for _, f := range factors {
		slices.Sort(f)
	}
	at := func(f []float64, share float64) float64 { return f[int(math.Round(share*float64(len(f)-1)))] }
	r.Speedup, r.Quartiles = at(factors[0], .5), [2]float64{at(factors[0], .25), at(factors[0], .75)}
	r.Sorting, r.Arithmetic = at(factors[1], .5), at(factors[2], .5)
	return nil
}

// divided has cores do a part of a work each, until a fixed number of parts is done.
func divided(cores int, part func()) error {
	const parts = 40
	var next atomic.Int64
	var wg sync.WaitGroup
	for range cores {
		wg.Go(func() {
			for next.Add(1) <= parts {
				part()
			}
		})
	}
	wg.Wait()
	return nil
}

// arithmetic takes some 1 ms, in registers, where each step waits for the one before.
func arithmetic() {
	x := uint64(1)
	for range 500_000 {
		x = scrambled(x)
	}
	runtime.KeepAlive(x)
}

// sorting takes some 1 ms, in the first cache, with branches that a processor guesses wrong, and with several instructions at a time.
func sorting() {
	var list [2048]uint64 // 16 KB
	x := uint64(1)
	for range 8 {
		for i := range list {
			x = scrambled(x)
			list[i] = x
		}
		slices.Sort(list[:])
	}
	runtime.KeepAlive(list)
}

// scrambled is a step of a xorshift generator (Marsaglia 2003).
func scrambled(x uint64) uint64 {
	x ^= x << 13
	x ^= x >> 7
	return x ^ x<<17
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
