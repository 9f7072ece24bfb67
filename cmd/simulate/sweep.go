package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/stats"
)

func (e *env) sweepCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringSliceFlag{Name: "vary", Usage: "`KEY=VALUES`: a,b,c or LOW..HIGH:N (evenly) or log:LOW..HIGH:N (by equal factors); once, or twice for a grid"},
		&cli.StringFlag{Name: "figure", Usage: "`NAME` of the figure that decides", Value: "score"},
		&cli.StringFlag{Name: "controller", Usage: "`NAME` of the controller", Value: "ours"},
		configFlag(), setFlag(),
	}
	flags = append(flags, seedFlags("4")...)
	flags = append(flags, durationFlag(),
		&cli.BoolFlag{Name: "json", Usage: "print JSON instead of the table"},
		&cli.BoolFlag{Name: "csv", Usage: "print CSV instead of the table: one line for each point, scenario and seed"},
		&cli.BoolFlag{Name: "svg", Usage: "print a picture instead of the table"},
		cpusFlag(), quietFlag())
	return &cli.Command{
		Name: "sweep", Usage: "vary one parameter, or two, and show what becomes of goodput, 429s and latency",
		ArgsUsage: "[scenario.toml | name | set:NAME ...]", Flags: flags, Action: e.sweepAction, OnUsageError: usageError,
		Description: `A key of guard.* is one of limits.toml, any other one of the scenarios. The figures are means over the scenarios and seeds; all points meet
the same seeds. * marks points that no other beats in both goodput and 429s.

Examples:
   simulate sweep --vary guard.adaptive.backoff=0.5..0.9:5 concurrency-cap rpm-bucket
   simulate sweep --vary upstream.concurrency.limit=log:4..64:3 --seeds 2 concurrency-cap
   simulate sweep --vary guard.adaptive.backoff=0.6,0.8 --vary guard.adaptive.epoch=4,16 --csv closed-loop`,
	}
}

// An axis is a key with the values that it takes.
type axis struct {
	key    string
	values []string
	// whole are the values of a range between whole numbers for a key that takes no fractions; nil when they are the same.
	whole []string
}

// maxPoints is how many values an axis may have, and a grid.
const (
	maxAxis = 200
	maxGrid = 1000
)

// parseAxis reads KEY=VALUES.
func parseAxis(text string) (axis, error) {
	o, err := strict.ParseOverride(text)
	if err != nil {
		return axis{}, err
	}
	a := axis{key: o.Key}
	rest, log := strings.CutPrefix(o.Value, "log:")
	if from, to, isRange := strings.Cut(rest, ".."); isRange {
		to, count, counted := strings.Cut(to, ":")
		n, err := strconv.Atoi(strings.TrimSpace(count))
		low, err1 := strconv.ParseFloat(strings.TrimSpace(from), 64)
		high, err2 := strconv.ParseFloat(strings.TrimSpace(to), 64)
		finite := func(v float64) bool { return v-v == 0 }
		switch {
		case !counted || err != nil || n < 2 || n > maxAxis:
			return a, fmt.Errorf("%s: %q must end in a colon and how many values, 2 to %d, as in 0.5..0.9:5", a.key, o.Value, maxAxis)
		case err1 != nil || err2 != nil || !finite(low) || !finite(high) || !(low < high):
			return a, fmt.Errorf("%s: %q must go from a number to a larger one, as in 0.5..0.9:5; durations are listed: 1s,5s,20s", a.key, o.Value)
		case log && low <= 0:
			return a, fmt.Errorf("%s: %q begins at %v: equal factors need more than 0", a.key, o.Value, low)
		}
		at := func(i int) float64 {
			switch u := float64(i) / float64(n-1); {
			case i == 0:
				return low
			case i == n-1:
				return high
			case log:
				return low * math.Pow(high/low, u)
			default:
				return low + u*(high-low)
			}
		}
		for digits := 4; digits <= 17; digits++ { // as few as change none by a hundredth of the way to the next one
			a.values = make([]string, n)
			near := true
			for i := range n {
				a.values[i] = tomlNumber(at(i), digits)
				written, _ := strconv.ParseFloat(a.values[i], 64)
				near = near && math.Abs(written-at(i)) <= 0.01*(at(min(i+1, n-1))-at(min(i, n-2)))
			}
			if near {
				break
			}
		}
		a.values[0], a.values[n-1] = tomlNumber(low, -1), tomlNumber(high, -1)
		a.values = slices.Compact(a.values)
		if low == math.Trunc(low) && high == math.Trunc(high) {
			for i := range n {
				a.whole = append(a.whole, tomlNumber(math.Round(at(i)), -1))
			}
			a.whole = slices.Compact(a.whole)
		}
		if slices.Equal(a.whole, a.values) {
			a.whole = nil
		}
		return a, nil
	}
	if log {
		return a, fmt.Errorf("%s: %q must be log:LOW..HIGH:N, as in log:1..100:9", a.key, o.Value)
	}
	for v := range strings.SplitSeq(o.Value, ",") {
		if v = strings.TrimSpace(v); v == "" {
			return a, fmt.Errorf("%s: %q has an empty value", a.key, o.Value)
		}
		a.values = append(a.values, v)
	}
	if len(a.values) > maxAxis {
		return a, fmt.Errorf("%s has %d values, at most %d", a.key, len(a.values), maxAxis)
	}
	return a, nil
}

// tomlNumber writes a value as TOML has it, one that is whole as an integer.
func tomlNumber(v float64, digits int) string {
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', digits, 64)
}

// set adds what --set says of a key to that of the configuration or to that of the scenarios.
func (s *setup) set(o strict.Override) {
	if strings.HasPrefix(o.Key, "guard.") {
		s.guards = append(s.guards[:len(s.guards):len(s.guards)], o)
	} else {
		s.worlds = append(s.worlds[:len(s.worlds):len(s.worlds)], o)
	}
}

// fit leaves out the fractions of a range whose key takes none.
func (a *axis) fit(s *setup, scenarios []string) {
	for _, v := range a.values {
		if a.whole == nil || !strings.ContainsAny(v, ".e") {
			continue
		}
		probe := *s
		probe.set(strict.Override{Key: a.key, Value: v})
		probe.settings("")
		probe.scenarios(scenarios)
		s.stdin = probe.stdin
		if err := probe.err(); err != nil && strings.Contains(err.Error(), ", a number with a fraction") {
			a.values = a.whole
		}
		return
	}
}

// A sweepPoint is a point of the grid with its results.
type sweepPoint struct {
	values   []string
	plan     lab.Plan
	report   *report.Report
	figures  map[string]float64        // means over scenarios and seeds
	interval map[string]stats.Interval // of the means over the scenarios, seed by seed
	pareto   bool
}

// sweepFigures are shown beside the one that decides.
var sweepFigures = []string{"goodput", "rejected_per_ok", "p99", "score"}

func (e *env) sweepAction(c *cli.Context) error {
	s := e.newSetup(c)
	s.fail(oneOf(c, "json", "csv", "svg"))
	vary := c.StringSlice("vary")
	if len(vary) == 0 || len(vary) > 2 {
		s.fail(errors.New("sweep needs --vary once, or twice for a grid, as in simulate sweep --vary guard.adaptive.backoff=0.5..0.9:5 rpm-bucket"))
	}
	var axes []axis
	for _, text := range vary {
		a, err := parseAxis(text)
		s.fail(prefix("--vary: ", err))
		axes = append(axes, a)
	}
	fig, err := figure(c.String("figure"))
	s.fail(prefix("--figure: ", err))
	ctl, err := scenario.ParseController(c.String("controller"))
	s.fail(prefix("--controller: ", err))
	seeds := s.seeds()
	if seeds.Auto {
		s.fail(errors.New("--seeds auto needs two to compare: give a number, as in --seeds 8"))
	}
	words := c.Args().Slice()
	if len(words) == 0 {
		words = []string{"all"}
	}
	if err := s.err(); err != nil {
		return err
	}

	grid := 1
	for i := range axes {
		axes[i].fit(s, words)
		grid *= len(axes[i].values)
	}
	if grid > maxGrid {
		return misuse(fmt.Errorf("the grid has %d points, at most %d", grid, maxGrid))
	}

	// Every point is read before the first is run, so that a value that is not allowed costs nothing.
	var points []*sweepPoint
	guards, worlds := s.guards, s.worlds
	for i := range grid {
		p := &sweepPoint{}
		s.guards, s.worlds = guards, worlds
		rest := i
		for _, a := range axes {
			v := a.values[rest%len(a.values)]
			rest /= len(a.values)
			p.values = append(p.values, v)
			s.set(strict.Override{Key: a.key, Value: v})
		}
		p.plan = lab.Plan{Subjects: lab.Subjects([]scenario.Controller{ctl}, s.settings("")), Seeds: seeds}
		if i == 0 || len(s.worlds) > len(worlds) {
			p.plan.Scenarios = s.scenarios(words)
		} else { // the worlds are those of the other points
			p.plan.Scenarios = points[0].plan.Scenarios
		}
		points = append(points, p)
		if err := s.err(); err != nil {
			return misuse(errors.New(strings.ReplaceAll(err.Error(), "--set: ", "--vary: ")))
		}
	}
	scs := points[0].plan.Scenarios
	own := len(points) > 1 && &scs[0] != &points[1].plan.Scenarios[0] // each point has worlds of its own
	l := e.newLab(c)
	progress := e.progress(c, "runs")
	total := grid * len(scs) * seeds.N
	done, finished := 0, 0
	var stopped error
	for _, p := range points {
		l.Progress = func(d, _ int) { progress.show(done+d, total) }
		r, err := l.Table(c.Context, p.plan)
		done += len(scs) * seeds.N
		if err != nil && c.Context.Err() != nil {
			stopped = &exitError{exitInterrupted, fmt.Errorf("interrupted after %d of %d runs; %d of %d points were finished", l.Trials, total, finished, grid)}
			break
		}
		if err != nil {
			progress.clear()
			return internal(err)
		}
		finished++
		p.report = slim(r) // with the series of a thousand points no memory would do
		p.summarize(fig)
		if own {
			p.plan.Scenarios = nil
			l.Forget()
		}
	}
	progress.clear()
	if points = points[:finished]; finished == 0 {
		return stopped
	}
	pareto(points)
	sw := &sweep{axes: axes, points: points, figure: fig, recipe: newRecipe("sweep").flags(c, "vary", "figure", "controller", "config", "set").seeds(c).flags(c, "duration").args(words).String(), scenarios: len(scs), seeds: seeds, stopped: stopped != nil}
	err = e.write(func(w io.Writer) error {
		switch {
		case c.Bool("json"):
			return sw.writeJSON(w)
		case c.Bool("csv"):
			return sw.writeCSV(w)
		case c.Bool("svg"):
			return sw.writeSVG(w)
		}
		return sw.writeText(w)
	})
	if err != nil {
		return internal(fmt.Errorf("the table could not be written: %w", err))
	}
	return stopped
}

func prefix(text string, err error) error {
	if err == nil {
		return nil
	}
	return prefixed(text, err)
}

// summarize computes the means of a point and their intervals over the seeds.
func (p *sweepPoint) summarize(decides report.Figure) {
	p.figures, p.interval = map[string]float64{}, map[string]stats.Interval{}
	for _, name := range append([]string{decides.Name}, sweepFigures...) {
		f, _ := report.FindFigure(name)
		var bySeed [][]float64
		for _, s := range p.report.Scenarios {
			bySeed = append(bySeed, f.Values(s.Runs[0].PerSeed))
		}
		var means []float64
		for k := range bySeed[0] {
			var values []float64
			for i := range bySeed {
				values = append(values, bySeed[i][k])
			}
			if m := stats.UpperMean(values); !math.IsNaN(m) {
				means = append(means, m)
			}
		}
		p.figures[name] = stats.UpperMean(means)
		for i := range means {
			means[i] = stats.Bounded(means[i])
		}
		p.interval[name] = stats.MeanInterval(means, 0.05, p.plan.Seeds.First).Unbounded()
	}
}

// pareto marks the points that no other beats in both goodput and 429s. One without a goodput is none.
func pareto(points []*sweepPoint) {
	for _, p := range points {
		p.pareto = !math.IsNaN(p.figures["goodput"])
		for _, q := range points {
			g := stats.Difference(p.figures["goodput"], q.figures["goodput"])
			r := stats.Difference(p.figures["rejected_per_ok"], q.figures["rejected_per_ok"])
			if g >= 0 && r <= 0 && (g > 0 || r < 0) {
				p.pareto = false
			}
		}
	}
}

type sweep struct {
	axes      []axis
	points    []*sweepPoint
	figure    report.Figure
	recipe    string
	scenarios int
	seeds     lab.Seeds
	stopped   bool // there are points that were not run
}

// best returns the point that is best in the figure that decides, and the least and most of it that is a number.
func (sw *sweep) best() (at int, low, high float64) {
	at, low, high = -1, math.Inf(1), math.Inf(-1)
	for i, p := range sw.points {
		v := p.figures[sw.figure.Name]
		if math.IsNaN(v) {
			continue
		}
		if !math.IsInf(v, 0) {
			low, high = min(low, v), max(high, v)
		}
		if at < 0 || v > sw.points[at].figures[sw.figure.Name] != sw.figure.Lower && v != sw.points[at].figures[sw.figure.Name] {
			at = i
		}
	}
	return at, low, high
}

func (sw *sweep) writeText(w io.Writer) error {
	best, low, high := sw.best()
	head := make([]string, 0, 8)
	for _, a := range sw.axes {
		head = append(head, a.key)
	}
	names := []string{sw.figure.Name}
	for _, n := range sweepFigures {
		if n != sw.figure.Name {
			names = append(names, n)
		}
	}
	rows := [][]string{append(append(head, names...), "")}
	for i, p := range sw.points {
		row := append([]string{}, p.values...)
		for k, n := range names {
			f, _ := report.FindFigure(n)
			text := f.Format(p.figures[n])
			if in := p.interval[n]; k == 0 && in.Known() {
				text += fmt.Sprintf(" [%s, %s]", f.Format(in.Low), f.Format(in.High))
			}
			row = append(row, text)
		}
		bar := ""
		if v := p.figures[sw.figure.Name]; high > low && !math.IsNaN(v) && !math.IsInf(v, 0) {
			bar = strings.Repeat("█", 1+int(math.Round(19*(v-low)/(high-low))))
		}
		mark := "  "
		if p.pareto {
			mark = "* "
		}
		if i == best {
			bar += " best"
		}
		rows = append(rows, append(row, mark+bar))
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == len(row)-1 {
				b.WriteString(cell)
			} else {
				b.WriteString(gap + cell + "   ")
			}
		}
		fmt.Fprintf(w, "%s\n", strings.TrimRight(b.String(), " "))
	}
	unit := "scenarios"
	if sw.scenarios == 1 {
		unit = "scenario"
	}
	fmt.Fprintf(w, "\nmeans over %d %s and %d seeds, with 95 %% intervals of %s; * no other point has more goodput and fewer 429s\n", sw.scenarios, unit, sw.seeds.N, sw.figure.Name)
	if sw.stopped {
		fmt.Fprintln(w, "interrupted: the other points were not run, and the best of them may be better")
	}
	if best >= 0 && sw.seeds.N >= 2 {
		fmt.Fprintf(w, "to see whether the best is better by more than chance: simulate compare, with --set or a file of its own\n")
	}
	return nil
}

func (sw *sweep) writeCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	head := []string{}
	for _, a := range sw.axes {
		head = append(head, a.key)
	}
	out.Write(append(append(head, "scenario", "seed"), report.FigureNames()...)) //nolint:errcheck // Flush keeps the first error
	for _, p := range sw.points {
		for _, s := range p.report.Scenarios {
			for _, seed := range s.Runs[0].PerSeed {
				row := append(append([]string{}, p.values...), s.Name, strconv.FormatUint(seed.Seed, 10))
				for _, f := range report.Figures() {
					row = append(row, report.CellNumber(f.Of(&seed.Summary)))
				}
				out.Write(row) //nolint:errcheck
			}
		}
	}
	out.Flush()
	return out.Error()
}

func (sw *sweep) writeJSON(w io.Writer) error {
	type value struct {
		Mean *float64 `json:"mean"`
		Low  *float64 `json:"low"`
		High *float64 `json:"high"`
	}
	type point struct {
		Values  map[string]string `json:"values"`
		Pareto  bool              `json:"pareto"`
		Figures map[string]value  `json:"figures"`
	}
	best, _, _ := sw.best()
	out := struct {
		Command string  `json:"command"`
		Version string  `json:"version"`
		Figure  string  `json:"figure"`
		Best    int     `json:"best"`
		Stopped bool    `json:"interrupted"`
		Points  []point `json:"points"`
	}{sw.recipe, version(), sw.figure.Name, best, sw.stopped, []point{}}
	for _, p := range sw.points {
		j := point{map[string]string{}, p.pareto, map[string]value{}}
		for i, a := range sw.axes {
			j.Values[a.key] = p.values[i]
		}
		for n, v := range p.figures {
			j.Figures[n] = value{jsonFloat(v), jsonFloat(p.interval[n].Low), jsonFloat(p.interval[n].High)}
		}
		out.Points = append(out.Points, j)
	}
	return json.NewEncoder(w).Encode(out)
}

// writeSVG draws a curve for one axis and a heat map for two.
func (sw *sweep) writeSVG(w io.Writer) error {
	title := sw.figure.Title
	if sw.stopped {
		title += " (interrupted)"
	}
	p := report.Plot{Title: title, X: sw.axes[0].key, Unit: sw.figure.Name, Command: sw.recipe, Columns: sw.axes[0].values, Format: sw.figure.Format}
	if len(sw.axes) == 2 {
		p.Y, p.Rows = sw.axes[1].key, sw.axes[1].values
	}
	for _, q := range sw.points {
		p.Values = append(p.Values, q.figures[sw.figure.Name])
		p.Intervals = append(p.Intervals, q.interval[sw.figure.Name])
	}
	return report.WritePlotSVG(w, &p)
}
