package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/stats"
)

const maxDraws = 100_000

// lastDraw is beyond the last draw that simulate draws makes, --first and --n together.
const lastDraw = 2 * maxDraws

func (e *env) drawsCommand() *cli.Command {
	return &cli.Command{
		Name: "draws", Usage: "draw upstreams at random and let every controller meet them", OnUsageError: usageError, Action: e.drawsAction,
		Description: `With --worlds kinds each draw is a kind of upstream (in turn) with random limits, service times, quotas, demand, and
in half of them a change half-way: capacity halved or doubled, or an outage of 30 s. With --worlds wide each is
made of parts that are drawn each for itself: servers, caps, quotas that are counted in four ways, of requests and of
tokens, headers, noise, neighbours, replicas, classes, demand, trouble. The same seed gives the same draws.

The table has quantiles over the draws, by kind, or by feature (a wide world counts for each that it has): goodput as a
share of the oracle's, 429s per success in all and in the steady part, the time to settle in round
trips, and the time to be back at 95 % after the change. docs/simulator.md says more.

A draw can be looked at by its name, draw-SEED-N or wide-SEED-N, and several by draws:SEED:N or wide:SEED:N:
   simulate scenarios show wide-7-3 > mine.toml
   simulate explain --seed 7000024 wide-7-3
   simulate run --controllers ours wide:7:8
(the seed of a single run is SEED x 1000003 + N).

Examples:
   simulate draws
   simulate draws --n 200 --seed 7 --json
   simulate draws --worlds wide --controllers none,ours --n 100
   simulate draws --worlds wide --kinds neighbour,sliding-log --list
   simulate draws --n 200 --kinds window,window-retry-after --list`,
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "controllers", Usage: "`LIST` with commas between", Value: "none,fixed-20,gcl-aimd,gcl-vegas,gcl-gradient2,ours"},
			&cli.Uint64Flag{Name: "seed", Usage: "`S`, from which everything is drawn", Value: 1},
			&cli.IntFlag{Name: "n", Usage: "`N` draws", Value: 40},
			&cli.IntFlag{Name: "first", Usage: "number `I` of the first draw", Value: 0},
			&cli.StringFlag{Name: "worlds", Usage: "`WHAT` is drawn: kinds, or wide", Value: worldsKinds},
			&cli.StringFlag{Name: "kinds", Usage: "`LIST` with commas between of kinds of upstream, or of features of wide worlds: of the N draws, only those with one of them", DefaultText: "all"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON: quantiles and every single result"},
			&cli.BoolFlag{Name: "list", Usage: "print a line for each draw and controller before the table"},
			&cli.IntFlag{Name: "cpus", Usage: "`N` draws at the same time; the result does not depend on it", Value: runtime.GOMAXPROCS(0), DefaultText: "all"},
		},
	}
}

// quantiles of one measure over draws; -1 where none has it.
type quantiles struct {
	N   int     `json:"n"`
	P5  float64 `json:"p5"`
	P25 float64 `json:"p25"`
	P50 float64 `json:"p50"`
	P75 float64 `json:"p75"`
	P95 float64 `json:"p95"`
}

// drawGroup is what one controller did with one kind of upstream.
type drawGroup struct {
	Kind       string    `json:"kind"`
	Controller string    `json:"controller"`
	Goodput    quantiles `json:"goodput"`
	Rejected   quantiles `json:"rejected_per_ok"`
	Steady     quantiles `json:"rejected_per_ok_steady"`
	Settle     quantiles `json:"settle_round_trips"`
	Unsettled  int       `json:"unsettled"`
	Recover    quantiles `json:"recover_s"`
	Lost       int64     `json:"lost"`
	// Unrecovered is how many of the draws with an event did not recover.
	Unrecovered int `json:"unrecovered"`
}

const allKinds = "all"

// What is drawn.
const (
	worldsKinds = "kinds"
	worldsWide  = "wide"
)

func (e *env) drawsAction(c *cli.Context) error {
	p := scenario.DrawPlan{Seed: c.Uint64("seed"), First: c.Int("first"), N: c.Int("n"), CPUs: c.Int("cpus")}
	var errs []error
	if c.Args().Len() > 0 {
		errs = append(errs, fmt.Errorf("draws takes no arguments, there is %q", c.Args().First()))
	}
	if p.N < 1 || p.N > maxDraws {
		errs = append(errs, fmt.Errorf("--n is %d, must be 1 to %d", p.N, maxDraws))
	}
	if p.First < 0 || p.First > maxDraws {
		errs = append(errs, fmt.Errorf("--first is %d, must be 0 to %d", p.First, maxDraws))
	}
	if p.CPUs < 1 || p.CPUs > maxCPUs {
		errs = append(errs, fmt.Errorf("--cpus is %d, must be 1 to %d", p.CPUs, maxCPUs))
	}
	var err error
	if p.Controllers, err = scenario.ParseControllers(c.String("controllers")); err != nil {
		errs = append(errs, fmt.Errorf("--controllers: %w", err))
	}
	switch w := c.String("worlds"); w {
	case worldsKinds, worldsWide:
		p.Wide = w == worldsWide
		if p.Kinds, err = parseKinds(c.String("kinds"), kindsOf(p.Wide)); err != nil {
			errs = append(errs, err)
		}
	default:
		errs = append(errs, fmt.Errorf("--worlds is %q, must be %s (each draw is one kind of upstream) or %s (limits, servers, demand and trouble of all sorts together)", w, worldsKinds, worldsWide))
	}
	if file, err := loadConfig(c); err != nil {
		errs = append(errs, err)
	} else {
		p.Settings = file.Defaults
	}
	if err := errors.Join(errs...); err != nil {
		return misuse(err)
	}
	if len(p.Numbers()) == 0 && p.Wide {
		return misuse(fmt.Errorf("of the wide worlds %d to %d none has %s: make --n larger", p.First, p.First+p.N-1, c.String("kinds")))
	}
	if len(p.Numbers()) == 0 {
		return misuse(fmt.Errorf("of draws %d to %d none is of the kind %s: let --n be %d, so that each kind is drawn", p.First, p.First+p.N-1, c.String("kinds"), len(scenario.DrawKinds())))
	}
	progress := e.progress(c, "draws")
	p.Progress = progress.show
	results, err := scenario.RunDraws(c.Context, p)
	progress.clear()
	if err != nil && c.Context.Err() != nil && errors.Is(err, context.Cause(c.Context)) {
		if len(results) == 0 {
			return &exitError{exitInterrupted, errors.New("interrupted before the first draw was finished; nothing was written")}
		}
		if err := e.writeDraws(c, &p, results, true); err != nil {
			e.exit(err) // an interruption has the last word
		}
		return &exitError{exitInterrupted, fmt.Errorf("interrupted after %d of %d draws; what is finished is above", len(results)/len(p.Controllers), len(p.Numbers()))}
	}
	if err != nil {
		return internal(err)
	}
	return e.writeDraws(c, &p, results, false)
}

// writeDraws writes results as c asks for them; stopped says that there are not all of them.
func (e *env) writeDraws(c *cli.Context, p *scenario.DrawPlan, results []scenario.DrawResult, stopped bool) error {
	groups := group(kindsOf(p.Wide), p.Controllers, results)
	if c.Bool("json") {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Worlds  string                `json:"worlds"`
			Seed    uint64                `json:"seed,string"` // it may not fit a double
			First   int                   `json:"first"`
			N       int                   `json:"n"`
			Stopped bool                  `json:"interrupted"` // those that take long are left out first
			Groups  []drawGroup           `json:"groups"`
			Results []scenario.DrawResult `json:"results"`
		}{c.String("worlds"), p.Seed, p.First, p.N, stopped, groups, finiteResults(results)})
	}
	if c.Bool("list") {
		if err := listDraws(e.stdout, results); err != nil {
			return internal(err)
		}
	}
	if err := writeGroups(e.stdout, groups); err != nil || !stopped {
		return err
	}
	_, err := fmt.Fprintln(e.stdout, "\ninterrupted: the other draws were not run, and those that take long are left out first")
	return err
}

// kindsOf returns what draws are grouped by.
func kindsOf(wide bool) []string {
	if wide {
		return scenario.WideFeatures()
	}
	return scenario.DrawKinds()
}

// parseKinds reads a list of what there is; an empty one means all.
func parseKinds(list string, all []string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	var kinds []string
	for kind := range strings.SplitSeq(list, ",") {
		kind = strings.TrimSpace(kind)
		if !slices.Contains(all, kind) {
			return nil, fmt.Errorf("--kinds: there is no %q; there are %s", kind, strings.Join(all, ", "))
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// finiteResults makes numbers that JSON cannot hold the largest ones that it can.
func finiteResults(rs []scenario.DrawResult) []scenario.DrawResult {
	for i := range rs {
		for _, f := range []*float64{&rs[i].Goodput, &rs[i].Rejected, &rs[i].Steady} {
			*f = finite(*f)
		}
	}
	return rs
}

func finite(f float64) float64 {
	switch {
	case math.IsNaN(f):
		return -1
	case math.IsInf(f, 0):
		return math.MaxFloat64
	}
	return f
}

// group summarizes results by kind or feature, and all of them.
func group(kinds []string, cs []scenario.Controller, rs []scenario.DrawResult) []drawGroup {
	var out []drawGroup
	for _, kind := range append(kinds, allKinds) {
		for _, c := range cs {
			g := drawGroup{Kind: kind, Controller: c.Name}
			var goodput, rejected, steady, settle, recovers []float64
			for _, r := range rs {
				if r.Controller != c.Name || kind != allKinds && r.Kind != kind && !slices.Contains(r.Features, kind) {
					continue
				}
				if r.Goodput >= 0 {
					goodput = append(goodput, r.Goodput)
				}
				rejected, steady = append(rejected, r.Rejected), append(steady, r.Steady)
				g.Lost += r.Lost
				if r.Settle >= 0 {
					settle = append(settle, float64(r.Settle)/float64(r.RoundTrip))
				} else {
					g.Unsettled++
				}
				if r.Event != "none" {
					if r.Recover >= 0 {
						recovers = append(recovers, r.Recover.Seconds())
					} else {
						g.Unrecovered++
					}
				}
			}
			if len(rejected) == 0 {
				continue
			}
			g.Goodput, g.Rejected, g.Steady = quantilesOf(goodput), quantilesOf(rejected), quantilesOf(steady)
			g.Settle, g.Recover = quantilesOf(settle), quantilesOf(recovers)
			out = append(out, g)
		}
	}
	return out
}

func quantilesOf(xs []float64) (q quantiles) {
	slices.Sort(xs)
	q.N = len(xs)
	at := func(p float64) float64 {
		v, ok := stats.Percentile(xs, p)
		if !ok {
			v = math.NaN() // what never came is no time of 0
		}
		return finite(v)
	}
	q.P5, q.P25, q.P50, q.P75, q.P95 = at(5), at(25), at(50), at(75), at(95)
	return q
}

// came writes a quantile that is not negative.
func came(format string, v float64) string {
	if v < 0 {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

func listDraws(w io.Writer, rs []scenario.DrawResult) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "draw\tkind\tevent\tcontroller\tgoodput\t429/ok\tsteady\tsettle\trecover\tround trip\tduration\tlost")
	for _, r := range rs {
		kind := r.Kind
		if r.Features != nil {
			kind = strings.Join(r.Features, " ")
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%.3f\t%.4f\t%.4f\t%s\t%s\t%s\t%s\t%d\n", r.Draw, kind, r.Event, r.Controller, r.Goodput, r.Rejected, r.Steady,
			span(r.Settle), span(r.Recover), r.RoundTrip.Round(time.Millisecond), r.Duration, r.Lost)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func span(d time.Duration) string {
	if d < 0 {
		return "-"
	}
	return d.Round(10 * time.Millisecond).String()
}

func writeGroups(w io.Writer, gs []drawGroup) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "kind\tcontroller\tn\tgoodput p5\tp50\t429/ok p50\tp95\tsteady p50\tp95\tsettle p50\tp95\tnever\trecover p50\tp95\tnever\tlost")
	for i, g := range gs {
		if i > 0 && g.Kind != gs[i-1].Kind && (g.Kind == allKinds || g.Controller != gs[i-1].Controller) {
			fmt.Fprintln(t, strings.Repeat("\t", 15))
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\t%d\n", g.Kind, g.Controller, g.Rejected.N,
			came("%.3f", g.Goodput.P5), came("%.3f", g.Goodput.P50), share(g.Rejected.P50), share(g.Rejected.P95), share(g.Steady.P50), share(g.Steady.P95),
			came("%.1f", g.Settle.P50), came("%.1f", g.Settle.P95), g.Unsettled, came("%.1fs", g.Recover.P50), came("%.1fs", g.Recover.P95), g.Unrecovered, g.Lost)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// share writes a number of 429s per success.
func share(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case f >= 1e6:
		return "inf"
	}
	return fmt.Sprintf("%.4f", f)
}
