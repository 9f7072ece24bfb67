package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/stats"
	"github.com/flyball-go/flyball/internal/suite"
	"github.com/flyball-go/flyball/internal/tune"
)

// A broken constraint costs so many times the excess, in the objective's unit.
const penalty = 10

func (e *env) tuneCommand() *cli.Command {
	return &cli.Command{
		Name: "tune", Usage: "search for better parameters of [guard.adaptive], and say whether the gain holds where the search did not look",
		ArgsUsage: "[scenario.toml | name | set:NAME ...]", Action: e.tuneAction, OnUsageError: usageError,
		Flags: []cli.Flag{
			configFlag(), setFlag(),
			&cli.StringFlag{Name: "objective", Usage: "`NAME` of the figure to make better", Value: "score"},
			&cli.Float64Flag{Name: "worst", Usage: "`SHARE` of the scenarios that count: the mean of the worst 0.2 of them (CVaR); 1 counts all alike", Value: 0.2},
			&cli.StringSliceFlag{Name: "constraint", Usage: "`BOUND` to keep in every scenario, such as 'rejected_per_ok <= 5%'; may be repeated"},
			&cli.StringFlag{Name: "keys", Usage: "`LIST` of keys to search, with or without guard.adaptive.; all numbers when not given"},
			&cli.StringFlag{Name: "held-out", Usage: "`LIST` of scenarios that the search does not see; set:" + setHeldOut + " when not given"},
			&cli.IntFlag{Name: "points", Usage: "`N` points to begin with; 8 for each key when not given"},
			&cli.IntFlag{Name: "importance", Usage: "move each key alone `N` times, to tell how much it matters; 0 for not", Value: 4},
			&cli.IntFlag{Name: "search-seeds", Usage: "`N` seeds that the search uses at most", Value: 16},
			&cli.IntFlag{Name: "seeds", Usage: "`N` unseen seeds for each of the two comparisons at the end", Value: 24},
			&cli.Uint64Flag{Name: "seed", Usage: "first seed `N`", Value: 1},
			&cli.Float64Flag{Name: "min-effect", Usage: "smallest gain `X` that counts, in the objective's unit", Value: 0.01},
			&cli.DurationFlag{Name: "budget", Usage: "`TIME` for the search; what it has found until then is put to the test", DefaultText: "none"},
			durationFlag(),
			&cli.BoolFlag{Name: "json", Usage: "print JSON instead of TOML"},
			&cli.StringFlag{Name: "out", Usage: "`FILE` for the TOML, too"},
			cpusFlag(), quietFlag(),
		},
		Description: `The scenarios are those of the search; without any, set:` + setTuning + `. The objective is the mean of the figure over the worst share of the scenarios, seed by
seed. stdout gets lines for limits.toml, with the evidence, or "keep your config". A gain is recommended only when its 95 % interval lies
above --min-effect both on unseen seeds and in held-out scenarios.

Examples:
   simulate tune --budget 60s
   simulate tune --keys backoff --points 4 --importance 2 --search-seeds 4 --seeds 4 --held-out closed-loop concurrency-cap
   simulate tune --keys backoff --constraint 'rejected_per_ok <= 5%' --out tuned.toml --points 4 --search-seeds 4 --seeds 4 rpm-bucket`,
	}
}

// tuning is what tune reads and finds.
type tuning struct {
	e         *env
	lab       *lab.Lab
	progress  *progress
	ours      scenario.Controller
	text      []byte // of the configuration
	guards    []strict.Override
	params    []config.Tunable
	scenarios [2][]*scenario.Scenario // by tune.Set
	objective report.Figure
	share     float64
	bounds    []suite.Bound

	first uint64 // seed
	tried []tried
	known bool // the objective was defined once
}

// tried is a point with the means of its two figures over the scenarios and the first seeds of the search.
type tried struct {
	point             tune.Point
	goodput, rejected float64
}

func (e *env) tuneAction(c *cli.Context) error {
	s := e.newSetup(c)
	t := &tuning{e: e, lab: e.newLab(c), share: c.Float64("worst"), guards: s.guards, first: c.Uint64("seed")}
	var err error
	t.ours, err = scenario.ParseController("ours")
	s.fail(err)
	t.objective, err = figure(c.String("objective"))
	s.fail(prefix("--objective: ", err))
	if !(t.share > 0 && t.share <= 1) {
		s.fail(fmt.Errorf("--worst is %v, must be more than 0 and at most 1", t.share))
	}
	for _, text := range c.StringSlice("constraint") {
		b, err := suite.ParseBound("all: " + text)
		if strings.Contains(text, ":") {
			err = errors.New("says where: a constraint holds in all scenarios of the search and the proof; write only FIGURE and bound, such as 'rejected_per_ok <= 5%'")
		}
		if err != nil {
			s.fail(fmt.Errorf("--constraint: %q %s", text, strings.Replace(err.Error(), "rpm-bucket: ", "", 1))) // the example has no place
			continue
		}
		t.bounds = append(t.bounds, b)
	}
	for _, f := range []struct {
		name     string
		low, top int
	}{{"search-seeds", 4, maxSeeds}, {"seeds", 2, maxSeeds}, {"points", 1, 10_000}, {"importance", 0, 1000}} {
		if n := c.Int(f.name); (f.name != "points" || c.IsSet("points")) && (n < f.low || n > f.top) {
			s.fail(fmt.Errorf("--%s is %d, must be %d to %d", f.name, n, f.low, f.top))
		}
	}
	s.fail(checkSeed(c))
	if v := c.Float64("min-effect"); !(v > 0) || v-v != 0 {
		s.fail(fmt.Errorf("--min-effect is %v, must be more than 0", v))
	}
	if d := c.Duration("budget"); c.IsSet("budget") && d <= 0 {
		s.fail(fmt.Errorf("--budget is %v, must be more than 0", d))
	}
	var set config.Settings
	if file, text, err := loadConfigText(c, ""); err != nil {
		s.fail(err)
	} else {
		t.text = text
		if len(s.guards) > 0 {
			file, err = overriddenConfig(text, s.guards)
			s.fail(err)
		}
		if file != nil {
			set = file.Defaults
		}
	}
	t.params = chosen(s, config.Tunables(set), list(c.String("keys")))

	words := c.Args().Slice()
	if len(words) == 0 {
		words = []string{"set:" + setTuning}
	}
	t.scenarios[tune.Tuning] = s.scenarios(words)
	heldOut := []string{"set:" + setHeldOut}
	if c.IsSet("held-out") {
		heldOut = list(c.String("held-out"))
	}
	t.scenarios[tune.HeldOut] = s.scenarios(heldOut)
	for _, sc := range t.scenarios[tune.HeldOut] {
		if slices.ContainsFunc(t.scenarios[tune.Tuning], func(o *scenario.Scenario) bool { return o.Name == sc.Name }) {
			if c.IsSet("held-out") {
				s.fail(fmt.Errorf("--held-out: %s is a scenario of the search: what it shows has been seen", sc.Name))
			}
		}
	}
	if !c.IsSet("held-out") { // what is searched is not held out
		t.scenarios[tune.HeldOut] = slices.DeleteFunc(t.scenarios[tune.HeldOut], func(sc *scenario.Scenario) bool {
			return slices.ContainsFunc(t.scenarios[tune.Tuning], func(o *scenario.Scenario) bool { return o.Name == sc.Name })
		})
	}
	if err := s.err(); err != nil {
		return err
	}

	cfg := tune.Config{
		Evaluate: t.evaluate, Seed: c.Uint64("seed"), Search: c.Int("search-seeds"), Evidence: c.Int("seeds"), Points: c.Int("points"),
		Trajectories: c.Int("importance"), MinEffect: c.Float64("min-effect"), HeldOut: len(t.scenarios[tune.HeldOut]) > 0,
	}
	for _, p := range t.params {
		cfg.Params = append(cfg.Params, tune.Param{Key: p.Key, Low: p.Low, High: p.High, Integer: p.Integer, Log: p.Log, Current: p.Current, Default: p.Default})
	}
	t.progress = e.progress(c, "")
	began := time.Now()
	cfg.Progress = func(stage string, points, evaluations int) {
		if watch != nil {
			watch(evaluations, 0)
		}
		t.progress.note("%s: %d points, %d evaluations, %v", stage, points, evaluations, time.Since(began).Round(time.Second))
	}
	searching := c.Context
	if d := c.Duration("budget"); d > 0 {
		var cancel context.CancelFunc
		searching, cancel = context.WithTimeoutCause(c.Context, d, errors.New("the budget is spent"))
		defer cancel()
	}
	out, err := tune.Run(c.Context, searching, cfg)
	t.progress.clear()
	var stopped error
	switch {
	case err == nil:
	case out == nil:
		return internal(err)
	case out.Points == 0:
		return &exitError{exitInterrupted, fmt.Errorf("interrupted after %d runs, before the first points had met their seeds; nothing was written", t.lab.Trials)}
	default:
		stopped = &exitError{exitInterrupted, fmt.Errorf("interrupted after %d runs; what was found is above, and nothing is recommended", t.lab.Trials)}
	}
	if !t.known {
		out.Why = fmt.Sprintf("%s is not defined in any of these scenarios, so that nothing was compared; choose another --objective", t.objective.Name)
	}
	command := newRecipe("tune").flags(c, "config", "set", "objective", "worst", "constraint", "keys", "held-out", "points", "importance", "search-seeds", "seeds", "seed", "min-effect", "duration").args(c.Args().Slice()).String()
	var toml strings.Builder
	t.writeTOML(&toml, out, command)
	err = e.write(func(w io.Writer) error {
		if c.Bool("json") {
			return t.writeJSON(w, out, command)
		}
		_, err := io.WriteString(w, toml.String())
		return err
	})
	var errs []error // the file is written although nobody reads the result
	if err != nil {
		errs = append(errs, fmt.Errorf("the result could not be written: %w", err))
	}
	if path := c.String("out"); path != "" {
		if err := writeFile(path, func(w io.Writer) error { _, err := io.WriteString(w, toml.String()); return err }); err != nil {
			errs = append(errs, fmt.Errorf("%s could not be written: %w", path, err))
		} else {
			e.say(c, "wrote %s", path)
		}
	}
	if err := internalAll(errs); err != nil {
		if stopped == nil {
			return err
		}
		e.exit(err) // an interruption has the last word
	}
	if stopped == nil {
		e.say(c, "%d runs, %d events", t.lab.Trials, t.lab.Events)
	}
	return stopped
}

// chosen returns the parameters that keys name, or all.
func chosen(s *setup, all []config.Tunable, keys []string) []config.Tunable {
	if len(keys) == 0 {
		return all
	}
	var names []string
	for _, p := range all {
		names = append(names, strings.TrimPrefix(p.Key, "guard.adaptive."))
	}
	var out []config.Tunable
	for _, k := range keys {
		k = strings.TrimPrefix(k, "guard.adaptive.")
		i := slices.Index(names, k)
		if i < 0 {
			s.fail(fmt.Errorf("--keys: %w", unknownWord("number in [guard.adaptive] called", k, names)))
			continue
		}
		if !slices.ContainsFunc(out, func(p config.Tunable) bool { return p.Key == all[i].Key }) {
			out = append(out, all[i])
		}
	}
	return out
}

// settings returns the configuration with the values of a point.
func (t *tuning) settings(p tune.Point) (*config.Settings, error) {
	overrides := slices.Clone(t.guards)
	for i, v := range p {
		overrides = append(overrides, strict.Override{Key: t.params[i].Key, Value: t.params[i].Format(v)})
	}
	file, err := overriddenConfig(t.text, overrides)
	if err != nil {
		return nil, err
	}
	return &file.Defaults, nil
}

// evaluate is tune.Evaluate. A point that the configuration does not allow, because values contradict each other, is as bad as can be.
func (t *tuning) evaluate(ctx context.Context, set tune.Set, points []tune.Point, first uint64, seeds int) ([][]float64, error) {
	scs := t.scenarios[set]
	var trials []scenario.Trial
	allowed := make([]bool, len(points))
	for i, p := range points {
		settings, err := t.settings(p)
		if err != nil {
			continue
		}
		allowed[i] = true
		for k := range seeds {
			for _, sc := range scs {
				trials = append(trials, scenario.Trial{Scenario: sc, Controller: t.ours, Settings: settings, Seed: first + uint64(k)})
			}
		}
	}
	outcomes, err := t.lab.Run(ctx, trials)
	if err != nil {
		return nil, err
	}
	values := make([][]float64, len(points))
	n := 0
	for i := range points {
		var goodput, rejected []float64
		for k := range seeds {
			if !allowed[i] {
				values[i] = append(values[i], -1000)
				continue
			}
			summaries := make([]*report.Summary, len(scs))
			for at := range scs {
				summaries[at] = &outcomes[n].Summary
				n++
			}
			values[i] = append(values[i], t.value(summaries))
			if k < frontSeeds {
				for _, s := range summaries {
					goodput = append(goodput, s.Goodput)
					rejected = append(rejected, float64(s.Rejected429)/float64(max(1, s.Sent)))
				}
			}
		}
		// All that is compared has met the same seeds.
		if set == tune.Tuning && first == t.first && seeds >= frontSeeds && len(goodput) > 0 {
			t.tried = append(t.tried, tried{slices.Clone(points[i]), stats.Mean(goodput), stats.Mean(rejected)})
		}
	}
	return values, nil
}

// frontSeeds is how many seeds a point of the front has met.
const frontSeeds = 4

// front returns the points that no other beats in both goodput and 429s, the one with most goodput first.
func (t *tuning) front() []tried {
	var out []tried
	for _, a := range t.tried {
		if !(a.goodput >= 0) {
			continue
		}
		beaten := slices.ContainsFunc(t.tried, func(b tried) bool {
			return b.goodput >= a.goodput && b.rejected <= a.rejected && (b.goodput > a.goodput || b.rejected < a.rejected)
		})
		if !beaten && !slices.ContainsFunc(out, func(o tried) bool { return o.goodput == a.goodput && o.rejected == a.rejected }) {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b tried) int { return cmp.Compare(b.goodput, a.goodput) })
	return out
}

// values writes the values of a point that differ from the current ones.
func (t *tuning) values(p tune.Point) string {
	var words []string
	for i, v := range p {
		if param := t.params[i]; v != param.Current {
			words = append(words, strings.TrimPrefix(param.Key, "guard.adaptive.")+" = "+param.Format(v))
		}
	}
	if len(words) == 0 {
		return "your config"
	}
	return strings.Join(words, ", ")
}

// value is the objective of one seed over the scenarios: more is better.
func (t *tuning) value(summaries []*report.Summary) float64 {
	var goods []float64
	for _, s := range summaries {
		v := t.objective.Of(s)
		if t.objective.Lower {
			v = -v
		}
		switch {
		case math.IsNaN(v): // it says nothing here
			continue
		case math.IsInf(v, 0):
			v = math.Copysign(1000, v)
		}
		goods = append(goods, v)
	}
	total := -1000.0
	if len(goods) > 0 {
		t.known, total = true, stats.CVaR(goods, t.share)
	}
	for _, b := range t.bounds {
		excess := 0.0
		for _, s := range summaries {
			v := b.Figure.Of(s)
			if math.IsNaN(v) {
				continue
			}
			over := v - b.Value
			if !b.Upper {
				over = -over
			}
			excess = max(excess, min(over, 100))
		}
		total -= penalty * excess
	}
	return total
}

// goal says what is made better, in words.
func (t *tuning) goal() string {
	direction := "higher is better"
	if t.objective.Lower {
		direction = "lower is better, so it is shown with a minus"
	}
	text := fmt.Sprintf("the mean of %s (%s) over the worst %.0f %% of the scenarios of each seed", t.objective.Name, direction, 100*t.share)
	for _, b := range t.bounds {
		text += fmt.Sprintf(", less %d times what breaks %s", penalty, strings.TrimPrefix(b.Text, "all: "))
	}
	return text
}

func names(scs []*scenario.Scenario) string {
	var out []string
	for _, s := range scs {
		out = append(out, s.Name)
	}
	return strings.Join(out, ", ")
}

// writeTOML writes the outcome as lines for limits.toml.
func (t *tuning) writeTOML(w io.Writer, out *tune.Outcome, command string) {
	line := func(format string, args ...any) { fmt.Fprintf(w, "# "+format+"\n", args...) }
	if out.Recommended {
		line("These lines are better than your config: %s.", out.Why)
	} else {
		line("Keep your config: %s.", out.Why)
	}
	fmt.Fprintln(w, "#")
	line("%s", command)
	line("objective: %s", t.goal())
	line("searched: %d points, %d evaluations in %s", out.Points, out.Evaluations, names(t.scenarios[tune.Tuning]))
	if out.Stopped && !out.Interrupted {
		line("the search was stopped when its budget was spent")
	}
	evidence := func(what, where string, e *tune.Evidence) {
		if e.Seeds > 0 {
			line("%s: %.4f → %.4f, gain %+.4f [%+.4f, %+.4f] over %d seeds, in %s", what, e.Current, e.Candidate, e.Gain, e.Interval.Low, e.Interval.High, e.Seeds, where)
		}
	}
	evidence("unseen seeds", names(t.scenarios[tune.Tuning]), &out.Seen)
	evidence("held-out scenarios", names(t.scenarios[tune.HeldOut]), &out.Unseen)
	if out.Effects != nil {
		line("how much each key matters, moved alone over its range (of the objective; the spread tells whether it acts alike everywhere):")
		order := make([]int, len(t.params))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(out.Effects[b].Size, out.Effects[a].Size) })
		most := max(out.Effects[order[0]].Size, 1e-12)
		for _, i := range order {
			e := &out.Effects[i]
			line("  %-22s %8.4f ± %.4f  %s", strings.TrimPrefix(t.params[i].Key, "guard.adaptive."), e.Size, e.Spread, strings.Repeat("█", int(math.Round(20*e.Size/most))))
		}
	}
	if front := t.front(); len(front) > 0 {
		line("the front: %d of %d points that met the first seeds; no other has more goodput and fewer 429s", len(front), len(t.tried))
		for i, p := range front {
			if i == mostFront {
				line("  and %d more", len(front)-i)
				break
			}
			line("  goodput %.1f %%, 429s per attempt %.4f: %s", 100*p.goodput, p.rejected, t.values(p.point))
		}
	}
	changed := 0
	for i, p := range t.params {
		if out.Best[i] != p.Current {
			changed++
		}
	}
	if changed == 0 {
		return
	}
	mark := ""
	fmt.Fprintln(w)
	if !out.Recommended {
		line("The best that the search found, which is not recommended:")
		mark = "# "
	}
	fmt.Fprintf(w, "%s[guard.adaptive]\n", mark)
	for i, p := range t.params {
		if out.Best[i] != p.Current {
			fmt.Fprintf(w, "%s%s = %s  # was %s\n", mark, strings.TrimPrefix(p.Key, "guard.adaptive."), p.Format(out.Best[i]), p.Format(p.Current))
		}
	}
}

// mostFront is how many points of the front are written as lines.
const mostFront = 12

func (t *tuning) writeJSON(w io.Writer, out *tune.Outcome, command string) error {
	type evidence struct {
		Seeds     int      `json:"seeds"`
		Current   float64  `json:"current"`
		Candidate float64  `json:"candidate"`
		Gain      float64  `json:"gain"`
		Low       *float64 `json:"low"`
		High      *float64 `json:"high"`
	}
	type effect struct {
		Size   float64 `json:"size"`
		Spread float64 `json:"spread"`
		Moves  int     `json:"moves"`
	}
	type param struct {
		Key     string  `json:"key"`
		Current float64 `json:"current"`
		Best    float64 `json:"best"`
		Low     float64 `json:"low"`
		High    float64 `json:"high"`
		Effect  *effect `json:"effect"`
	}
	type frontPoint struct {
		Goodput  float64            `json:"efficiency"`
		Rejected float64            `json:"rejected_429_share"`
		Values   map[string]float64 `json:"values"`
	}
	of := func(e *tune.Evidence) *evidence {
		if e.Seeds == 0 {
			return nil
		}
		return &evidence{e.Seeds, e.Current, e.Candidate, e.Gain, jsonFloat(e.Interval.Low), jsonFloat(e.Interval.High)}
	}
	j := struct {
		Recommended bool      `json:"recommended"`
		Why         string    `json:"why"`
		Command     string    `json:"command"`
		Version     string    `json:"version"`
		Objective   string    `json:"objective"`
		Params      []param   `json:"params"`
		Unseen      *evidence `json:"unseen_seeds"`
		HeldOut     *evidence `json:"held_out"`
		Points      int       `json:"points"`
		Evaluations int       `json:"evaluations"`
		Stopped     bool      `json:"stopped"`
		Interrupted bool      `json:"interrupted"`

		Front []frontPoint `json:"front"`
	}{out.Recommended, out.Why, command, version(), t.goal(), []param{}, of(&out.Seen), of(&out.Unseen), out.Points, out.Evaluations, out.Stopped, out.Interrupted, []frontPoint{}}
	for i, p := range t.params {
		x := param{p.Key, p.Current, out.Best[i], p.Low, p.High, nil}
		if out.Effects != nil {
			x.Effect = &effect{out.Effects[i].Size, out.Effects[i].Spread, out.Effects[i].Moves}
		}
		j.Params = append(j.Params, x)
	}
	for _, f := range t.front() {
		values := map[string]float64{}
		for i, p := range t.params {
			values[p.Key] = f.point[i]
		}
		j.Front = append(j.Front, frontPoint{f.goodput, f.rejected, values})
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(j)
}
