package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/flyball-go/flyball/internal/stats"
)

//go:embed assets/report.html.tmpl
var pageSource string

//go:embed assets/report.css
var styleSource string

//go:embed assets/report.js
var scriptSource string

var page = template.Must(template.New("report").Parse(pageSource))

// WriteHTML writes r as one HTML page that needs no network and no other file.
// Six scenarios with six controllers and 600 steps take less than 1 MB; longer
// series are downsampled to keep it so. The page's content security policy allows
// its own style and script, by their hashes, and nothing else.
//
// The same report gives the same bytes. It returns the first error of w.
func WriteHTML(w io.Writer, r *Report) error {
	view, err := viewOf(r)
	if err != nil {
		return fmt.Errorf("report: html: %w", err)
	}
	// A page that breaks off in the middle is worse than none, so it is complete
	// before the first byte is written.
	var b bytes.Buffer
	if err := page.Execute(&b, view); err != nil {
		return fmt.Errorf("report: html: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// csp is the content security policy of the page.
func csp() string {
	return "default-src 'none'; style-src '" + hash(styleSource) + "'; script-src '" + hash(scriptSource) +
		"'; img-src blob:; base-uri 'none'; form-action 'none'"
}

// hash is the source expression that allows s inline.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// The views are what the template shows: text, ready to be escaped, and classes.
type view struct {
	CSP      string
	Style    template.CSS
	Script   template.JS
	Data     template.JS
	Title    string
	Verdict  Verdict
	Report   *Report
	Seeds    string
	Rules    string
	BestRule string
	// Controllers of the whole report; the index chooses the colour.
	Controllers []controllerView
	Scenarios   []scenarioView
	Facts       []fact
	// Tested says that verdicts were found over seeds.
	Tested bool
}

type controllerView struct {
	Name      string
	Class     string // the class that sets its colour
	Ours      bool
	Reference bool
}

type scenarioView struct {
	ID          string
	Name        string
	Intent      string
	Span        string
	Note        string
	Rate        string
	Interrupted bool
	Verdict     ScenarioVerdict
	Chip        string // the outcome as a class
	Cells       []cellView
	Rows        []rowView
	Causes      []causeView
	Pairs       []pairView
	Alpha       string // of the verdicts, where it is not the usual one
	brief       bool
	runs        []Run
}

// pairView is how our controller differs from a rival, with intervals.
type pairView struct {
	Controller controllerView
	Verdict    string
	Chip       string
	Effects    []string
}

type cellView struct {
	Missing           bool
	Best              bool
	Goodput, Rejected string
	GoodputHeat       string // class
	RejectedHeat      string // class
}

type rowView struct {
	Controller controllerView
	Values     []valueView
}

type valueView struct {
	Text, Range string
	Best        bool
}

type causeView struct {
	Controller controllerView
	Text       string
}

type fact struct{ Name, Value string }

// rivalColors is how many colours assets/report.css has for rivals; after
// that they come again, dashed.
const rivalColors = 7

// controllers lists the controllers of the report in order of appearance.
func controllers(r *Report) (list []controllerView, index map[string]int) {
	name := ours(r)
	index = map[string]int{}
	rivals := 0
	for _, s := range r.Scenarios {
		for _, run := range s.Runs {
			if _, seen := index[run.Controller]; seen {
				continue
			}
			index[run.Controller] = len(list)
			c := controllerView{Name: run.Controller, Ours: run.Controller == name, Reference: run.Reference}
			switch {
			case c.Ours:
				c.Class = "c-ours"
			case c.Reference:
				c.Class = "c-ref"
			default:
				c.Class = "c" + strconv.Itoa(rivals%rivalColors)
				if rivals >= rivalColors {
					c.Class += " dashed"
				}
				rivals++
			}
			list = append(list, c)
		}
	}
	return list, index
}

func viewOf(r *Report) (*view, error) {
	list, index := controllers(r)
	v := &view{
		CSP: csp(), Style: template.CSS(styleSource), Script: template.JS(scriptSource),
		Title: title(r), Verdict: Judge(r), Report: r, Rules: Rules, BestRule: BestRule, Controllers: list,
	}
	rows := 0
	for i := range r.Scenarios {
		rows += len(r.Scenarios[i].Runs)
	}
	for i := range r.Scenarios {
		v.Scenarios = append(v.Scenarios, scenarioViewOf(i, &r.Scenarios[i], v.Verdict.Scenarios[i], list, index, rows > fullTables))
	}
	v.Facts = facts(r)
	v.Tested = !untested(v.Verdict)
	data, err := json.Marshal(chartsOf(r, list, index))
	if err != nil {
		return nil, err
	}
	// json.Marshal writes <, >, & and the line separators U+2028 and U+2029 as
	// \u escapes, so that nothing in a name can end the script element.
	v.Data = template.JS(data)
	return v, nil
}

func facts(r *Report) []fact {
	var fs []fact
	add := func(name, value string) {
		if value != "" {
			fs = append(fs, fact{name, value})
		}
	}
	add("Command", r.Command)
	add("Version", r.Version)
	add("Settings", r.Config)
	seeds := max(1, r.Seeds)
	text := strconv.FormatUint(r.Seed, 10)
	if seeds > 1 {
		text += fmt.Sprintf(" and the %d after it; lines are those of the first", seeds-1)
	}
	add("Seed", text)
	if r.Interrupted {
		add("Interrupted", "yes: this is a part of the report")
	}
	return fs
}

// fullTables is how many rows all tables of the page may have together with all columns; beyond that they are brief, so that the page
// stays small.
const fullTables = 160

func scenarioViewOf(n int, s *Scenario, v ScenarioVerdict, list []controllerView, index map[string]int, brief bool) scenarioView {
	out := scenarioView{
		ID: "s" + strconv.Itoa(n), Name: s.Name, Intent: s.Intent, Note: s.Oracle.Note,
		Interrupted: s.Interrupted, Verdict: v, Chip: "chip-" + string(v.Outcome), Cells: make([]cellView, len(list)), brief: brief, runs: s.Runs,
	}
	if s.Alpha > 0 {
		out.Alpha = strconv.FormatFloat(s.Alpha, 'g', 2, 64)
	}
	for _, p := range v.Pairs {
		at, ok := index[p.Rival]
		if !ok || len(p.Figures) == 0 || brief {
			continue
		}
		view := pairView{Controller: list[at], Verdict: p.Verdict.String(), Chip: map[stats.Verdict]string{stats.Better: "chip-won", stats.Worse: "chip-lost"}[p.Verdict]}
		for i, c := range p.Figures {
			view.Effects = append(view.Effects, effectText(figures[i], c))
		}
		out.Pairs = append(out.Pairs, view)
	}
	if s.Duration > 0 {
		out.Span = formatSpan(s.Duration)
	}
	if finite(s.Oracle.Goodput) && s.Oracle.Goodput > 0 {
		out.Rate = formatRate(s.Oracle.Goodput)
	}
	for i := range out.Cells {
		out.Cells[i].Missing = true
	}
	columns := out.columns()
	marks := make([][]bool, len(columns))
	for c := range columns {
		if columns[c].value != nil {
			marks[c] = best(columns[c].column, s.Runs)
		}
	}
	for i, run := range s.Runs {
		at := index[run.Controller]
		row := rowView{Controller: list[at]}
		for c, col := range columns {
			value := valueView{Text: col.text(run.Summary), Best: marks[c] != nil && marks[c][i]}
			if col.spread != nil {
				value.Range = col.spread(run.Summary)
			}
			row.Values = append(row.Values, value)
		}
		out.Rows = append(out.Rows, row)
		if out.Cells[at].Missing {
			out.Cells[at] = cellView{
				Goodput: formatShare(run.Summary.Goodput), Rejected: formatPerOK(run.Summary.RejectedPerOK),
				GoodputHeat: goodputHeat(run.Summary), RejectedHeat: rejectedHeat(run.Summary),
				Best: len(v.Ranked) > 0 && v.Ranked[0] == run.Controller,
			}
		}
		if text := causes(run.Decisions); text != "" && !brief {
			out.Causes = append(out.Causes, causeView{list[at], text})
		}
	}
	return out
}

// A pageColumn is a column of a scenario's table on the page; value is nil where
// no best is marked.
type pageColumn struct {
	column
	spread func(Summary) string
}

// Heads are the heads of pageColumns, for the template.
func (v scenarioView) Heads() []fact {
	heads := make([]fact, 0, 16)
	for _, c := range v.columns() {
		heads = append(heads, fact{c.name, c.unit})
	}
	return heads
}

// columns are the columns of the scenario's table.
func (v scenarioView) columns() []pageColumn {
	if v.brief {
		table := columnsOf(v.runs, moreColumns[:3])
		return pageColumns(table)[:len(table)]
	}
	return pageColumns(columnsOf(v.runs, moreColumns))
}

func pageColumns(table []column) []pageColumn {
	cs := make([]pageColumn, 0, 24)
	for _, c := range table {
		cs = append(cs, pageColumn{column: c})
	}
	cs[0].spread = spread
	count := func(name, unit string, f func(Summary) int64) {
		cs = append(cs, pageColumn{column: column{name: name, unit: unit, text: func(s Summary) string { return formatCount(f(s)) }}})
	}
	mean := func(name, unit string, f func(Summary) float64) {
		cs = append(cs, pageColumn{column: column{name: name, unit: unit, text: func(s Summary) string { return formatRate(f(s)) }}})
	}
	mean("limit", "mean", func(s Summary) float64 { return s.MeanLimit })
	mean("in flight", "mean", func(s Summary) float64 { return s.MeanInFlight })
	count("offered", "requests", func(s Summary) int64 { return s.Offered })
	count("succeeded", "requests", func(s Summary) int64 { return s.OK })
	count("failed", "requests", func(s Summary) int64 { return s.Failed })
	count("refused", "by guard", func(s Summary) int64 { return s.Refused })
	count("unfinished", "requests", func(s Summary) int64 { return s.Unfinished })
	count("sent", "attempts", func(s Summary) int64 { return s.Sent })
	count("429s", "attempts", func(s Summary) int64 { return s.Rejected429 })
	return cs
}

// spread writes the range over the seeds, empty if there is none to show.
func spread(s Summary) string {
	low, high := formatShare(s.GoodputLow), formatShare(s.GoodputHigh)
	if s.Seeds < 2 || low == high || !finite(s.GoodputLow) || !finite(s.GoodputHigh) {
		return ""
	}
	return low[:len(low)-len(" %")] + "–" + high
}

// goodputHeat gives one of eleven steps, a tenth of the oracle's goodput each.
func goodputHeat(s Summary) string {
	if !finite(s.Goodput) {
		return ""
	}
	return "g" + strconv.Itoa(int(math.Round(10*min(1, max(0, s.Goodput)))))
}

// rejectedHeat gives one of seven steps, half a power of ten each from 0.01 on.
func rejectedHeat(s Summary) string {
	r := s.RejectedPerOK
	if math.IsNaN(r) {
		return ""
	}
	step := 0
	for _, from := range []float64{0.005, 0.03, 0.1, 0.3, 1, 3} {
		if r >= from {
			step++
		}
	}
	return "r" + strconv.Itoa(step)
}

// causes counts the decisions by cause, in order of first appearance.
func causes(ds []Decision) string {
	var names []string
	counts := map[string]int{}
	for _, d := range ds {
		name := d.Cause
		if name == "" {
			name = "no cause given"
		}
		if counts[name] == 0 {
			names = append(names, name)
		}
		counts[name]++
	}
	text := ""
	for i, name := range names {
		if i == 8 {
			return text + fmt.Sprintf(", %d more causes", len(names)-i)
		}
		if i > 0 {
			text += ", "
		}
		text += name + " " + formatCount(int64(counts[name]))
	}
	return text
}

// The chart data, decoded by assets/report.js. Keys are short: there are up to
// two hundred series.
type chartReport struct {
	Controllers []chartController `json:"controllers"`
	Words       []string          `json:"words"` // causes and bindings, by index
	Price       float64           `json:"price"` // of a 429, in successes
	Scenarios   []chartScenario   `json:"scenarios"`
}

type chartController struct {
	Name  string `json:"name"`
	Class string `json:"class"`
	Ours  bool   `json:"ours,omitempty"`
	Ref   bool   `json:"ref,omitempty"`
}

type chartScenario struct {
	Name   string     `json:"name"`
	Span   number     `json:"span"` // seconds, the width of the time axis
	Oracle chartLines `json:"oracle"`
	Runs   []chartRun `json:"runs"`
}

type chartRun struct {
	Controller int    `json:"c"`
	Goodput    number `json:"g"`           // share of the oracle, null if not defined
	Rejected   number `json:"r"`           // 429s per success; null if not defined
	Endless    bool   `json:"x,omitempty"` // 429s per success are infinite
	// GoodputIn and RejectedIn are 95 % confidence intervals; absent where there are none.
	GoodputIn  []figure       `json:"gi,omitempty"`
	RejectedIn []figure       `json:"ri,omitempty"`
	Lines      chartLines     `json:"lines"`
	Low        *chartLines    `json:"low,omitempty"`
	High       *chartLines    `json:"high,omitempty"`
	Decisions  chartDecisions `json:"d"`
}

// chartLines are the series of a run, or of the oracle, by chart. A nil one is
// not drawn.
type chartLines struct {
	Step     number     `json:"step"` // seconds
	Limit    *chartLine `json:"limit,omitempty"`
	Pace     *chartLine `json:"pace,omitempty"`
	InFlight *chartLine `json:"inflight,omitempty"`
	Goodput  *chartLine `json:"goodput,omitempty"`
	Rejected *chartLine `json:"rejected,omitempty"`
	Waiting  *chartLine `json:"waiting,omitempty"`
}

// chartLine is one series. Each element stands for Steps steps (0: one). Values has two characters for each: a number of 0 to 4095 in base 64,
// most significant first, of Max 4095ths; ".." is a gap. That is finer than a pixel and half as long as decimals.
type chartLine struct {
	Steps  int    `json:"k,omitempty"`
	Max    figure `json:"m"`
	Values string `json:"v"`
}

const lineDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// encoded is the line of values that stand for steps each.
func encoded(values []float64, steps int) *chartLine {
	line := &chartLine{}
	if steps > 1 {
		line.Steps = steps
	}
	most := 0.0
	for _, v := range values {
		if finite(v) {
			most = max(most, v)
		}
	}
	// The scale is what the page will read.
	line.Max = rounded(most)
	most = max(float64(line.Max), math.SmallestNonzeroFloat64)
	b := make([]byte, 0, 2*len(values))
	for _, v := range values {
		if !finite(v) {
			b = append(b, '.', '.')
			continue
		}
		n := int(math.Round(min(max(v/most, 0), 1) * 4095))
		b = append(b, lineDigits[n>>6], lineDigits[n&63])
	}
	line.Values = string(b)
	return line
}

// figure is a value with four significant digits, which is finer than a pixel.
type figure float64

func (f figure) MarshalJSON() ([]byte, error) {
	v := float64(f)
	if !finite(v) {
		return []byte("null"), nil
	}
	if v == 0 {
		return []byte("0"), nil // not -0
	}
	return json.Marshal(float64(rounded(v)))
}

// rounded is v with four significant digits. Rounding through the decimal form gives the shortest digits on every machine.
func rounded(v float64) figure {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 3, 64), 64)
	if err != nil {
		return figure(v) // rounded up beyond the largest float64
	}
	return figure(r)
}

// chartDecisions are decisions in columns.
type chartDecisions struct {
	At    []number `json:"t,omitempty"` // seconds
	From  []int    `json:"f,omitempty"` // limit before; 0 unlimited, -1 not known
	Limit []int    `json:"l,omitempty"` // limit after; 0 unlimited
	Pace  []figure `json:"p,omitempty"` // after; absent if there is none at all
	Sign  []int    `json:"s,omitempty"` // 1 more, -1 less, 0 neither
	Cause []int    `json:"c,omitempty"` // index in words
	Bind  []int    `json:"b,omitempty"` // index in words
	More  []int    `json:"m,omitempty"` // decisions that this one stands for besides itself
}

const (
	// allPoints is how many points all series of the page may have together, bands included: at two bytes each they leave
	// room for everything else in 1 MB.
	allPoints = 120_000
	// minPoints and maxPoints bound the points of one series. More than maxPoints cannot be told apart on a screen.
	minPoints, maxPoints = 20, 600
	// ratePoints is the most points of a rate: the counts of single steps are mostly noise, and six lines of noise hide
	// each other.
	ratePoints = 200
	// bandPoints is the most points of a band's edge.
	bandPoints = 150
	// allDecisions and maxDecisions bound the marks of the page and of one run.
	allDecisions, minDecisions, maxDecisions = 4000, 2, 400
)

func chartsOf(r *Report, list []controllerView, index map[string]int) chartReport {
	out := chartReport{
		Controllers: []chartController{}, Words: []string{""}, Price: rejectionPrice, Scenarios: []chartScenario{},
	}
	for _, c := range list {
		out.Controllers = append(out.Controllers, chartController{c.Name, c.Class, c.Ours, c.Reference})
	}
	lines, banded, runs := 0, 0, 0
	count := func(s *Series) (n int) {
		for _, values := range [][]float64{s.Limit, s.Pace, s.InFlight, s.Goodput, s.Rejected, s.Waiting} {
			if drawable(values) {
				n++
			}
		}
		return n
	}
	for _, s := range r.Scenarios {
		runs += len(s.Runs)
		for _, run := range s.Runs {
			lines += count(&run.Series)
			banded += count(&run.Low) + count(&run.High)
		}
		lines += 2 // the oracle's
	}
	// Bands get half the points of a line, and none where that would be too few to see.
	points := min(max(allPoints/max(1, lines+banded/2), minPoints), maxPoints)
	edges := min(points/2, bandPoints)
	if banded > 0 && points < 2*minPoints {
		points, edges = min(max(allPoints/max(1, lines), minPoints), maxPoints), 0
	}
	marks := min(max(allDecisions/max(1, runs), minDecisions), maxDecisions)

	words := map[string]int{"": 0}
	word := func(s string) int {
		i, ok := words[s]
		if !ok {
			i = len(out.Words)
			words[s] = i
			out.Words = append(out.Words, s)
		}
		return i
	}
	for i := range r.Scenarios {
		out.Scenarios = append(out.Scenarios, chartScenarioOf(&r.Scenarios[i], index, points, edges, marks, word))
	}
	return out
}

func chartScenarioOf(s *Scenario, index map[string]int, points, edges, marks int, word func(string) int) chartScenario {
	span := s.Duration
	for _, run := range s.Runs {
		span = max(span, time.Duration(longest(run.Series))*run.Series.Step)
	}
	out := chartScenario{
		Name: s.Name, Span: seconds(span), Runs: []chartRun{},
		Oracle: chartLines{Step: seconds(oracleStep(s)), Limit: lineOf(s.Oracle.Limit, points), Goodput: lineOf(s.Oracle.Rate, points)},
	}
	for i := range s.Runs {
		run := &s.Runs[i]
		share := marks
		if run.Ours { // its causes are what people look for
			share = min(max(2*marks, 8), maxDecisions)
		}
		c := chartRun{
			Controller: index[run.Controller],
			Goodput:    number(run.Summary.Goodput),
			Rejected:   number(run.Summary.RejectedPerOK),
			Endless:    math.IsInf(run.Summary.RejectedPerOK, 1),
			Lines: chartLines{
				Step:     seconds(run.Series.Step),
				Limit:    lineOf(run.Series.Limit, points),
				Pace:     lineOf(run.Series.Pace, points),
				InFlight: lineOf(run.Series.InFlight, points),
				Goodput:  rateOf(run.Series.Goodput, points),
				Rejected: rateOf(run.Series.Rejected, points),
				Waiting:  lineOf(run.Series.Waiting, points),
			},
			Decisions: decisionsOf(run.Decisions, span, share, word),
		}
		c.GoodputIn, c.RejectedIn = intervalOf(figures[0], run), intervalOf(figures[1], run)
		if edges > 0 && longest(run.Low) > 0 {
			c.Low, c.High = edgesOf(&run.Low, edges, false), edgesOf(&run.High, edges, true)
		}
		out.Runs = append(out.Runs, c)
	}
	return out
}

// intervalOf is the confidence interval of a run's figure; nil where there is none or no width.
func intervalOf(f Figure, run *Run) []figure {
	var values []float64
	for _, v := range f.Values(run.PerSeed) {
		if finite(v) {
			values = append(values, v)
		}
	}
	if len(values) < 2 {
		return nil
	}
	in := stats.MeanInterval(values, 0.05, run.PerSeed[0].Seed)
	if !in.Known() || in.Low == in.High {
		return nil
	}
	return []figure{figure(in.Low), figure(in.High)}
}

// edgesOf are the edges of bands: of each stretch the least, or the most.
func edgesOf(s *Series, points int, most bool) *chartLines {
	edge := func(values []float64) *chartLine {
		if !drawable(values) {
			return nil
		}
		n := (len(values) + points - 1) / points
		var out []float64
		for i := 0; i < len(values); i += n {
			low, high := extremes(values, values, i, min(i+n, len(values)))
			if most {
				low = high
			}
			out = append(out, low)
		}
		return encoded(out, n)
	}
	return &chartLines{
		Step: seconds(s.Step), Limit: edge(s.Limit), Pace: edge(s.Pace), InFlight: edge(s.InFlight),
		Goodput: edge(s.Goodput), Rejected: edge(s.Rejected), Waiting: edge(s.Waiting),
	}
}

func longest(s Series) int {
	return max(len(s.Limit), len(s.Pace), len(s.InFlight), len(s.Waiting), len(s.Goodput), len(s.Rejected))
}

// drawable reports whether there is anything to draw.
func drawable(values []float64) bool {
	for _, v := range values {
		if finite(v) {
			return true
		}
	}
	return false
}

// lineOf is the line of a level. Where there are more steps than points, each stretch gives the step that is seen most; see downsample.
func lineOf(values []float64, points int) *chartLine {
	if !drawable(values) {
		return nil
	}
	n := (len(values) + points - 1) / points
	if n == 1 {
		return encoded(values, 1)
	}
	out := make([]float64, (len(values)+n-1)/n)
	for i := range out {
		out[i] = values[i*n]
	}
	for _, i := range downsample(values, max(3, len(out))) {
		out[i/n] = values[i]
	}
	return encoded(out, n)
}

// rateOf is the line of a rate. Where there are more steps than points it gives means, not the most telling steps: the area
// below a rate is a count, and means keep it.
func rateOf(values []float64, points int) *chartLine {
	if !drawable(values) {
		return nil
	}
	means, n := meansOf(values, min(points, ratePoints))
	return encoded(means, n)
}

// meansOf are the means of each n values, at most points of them.
func meansOf(values []float64, points int) (means []float64, n int) {
	n = (len(values) + points - 1) / points
	for i := 0; i < len(values); i += n {
		means = append(means, stats.Mean(values[i:min(i+n, len(values))]))
	}
	return means, n
}

// decisionsOf keeps at most marks decisions, one for each stretch of span: the
// deepest cut of the stretch, or its last decision if it has no cut.
func decisionsOf(ds []Decision, span time.Duration, marks int, word func(string) int) chartDecisions {
	type kept struct {
		decision Decision
		from     int
		sign     int
		cut      float64
		stretch  int
		more     int
	}
	var list []kept
	paced := false
	before := Decision{Limit: -1}
	for i, d := range ds {
		k := kept{decision: d, from: before.Limit, stretch: i}
		if i > 0 {
			k.sign, k.cut = change(before, d)
		}
		if len(ds) > marks && span > 0 {
			k.stretch = int(float64(marks) * min(max(float64(d.At)/float64(span), 0), 1-1e-9))
		}
		before, paced = d, paced || d.Pace != 0

		last := len(list) - 1
		switch {
		case last < 0 || list[last].stretch != k.stretch:
			list = append(list, k)
		case list[last].cut > 0 && list[last].cut >= k.cut:
			list[last].more++
		default:
			k.more = list[last].more + 1
			list[last] = k
		}
	}

	var out chartDecisions
	for _, k := range list {
		out.At = append(out.At, number(math.Round(k.decision.At.Seconds()*1000)/1000))
		out.From = append(out.From, k.from)
		out.Limit = append(out.Limit, k.decision.Limit)
		out.Sign = append(out.Sign, k.sign)
		out.Cause = append(out.Cause, word(k.decision.Cause))
		out.Bind = append(out.Bind, word(k.decision.Binding))
		out.More = append(out.More, k.more)
		if paced {
			out.Pace = append(out.Pace, figure(k.decision.Pace))
		}
	}
	return out
}

// change says whether d allows more (1) or less (-1) than the decision before it,
// by its limit or else by its pace, and how deep a cut it is (ratio of what was
// allowed; 0 if it is none).
func change(before, d Decision) (sign int, cut float64) {
	old, now := allowed(float64(before.Limit)), allowed(float64(d.Limit))
	if old == now {
		old, now = allowed(before.Pace), allowed(d.Pace)
	}
	switch {
	case now < old:
		return -1, (old - now) / old
	case now > old:
		return 1, 0
	}
	return 0, 0
}

// allowed is v, or very much where zero says that there is no limit.
func allowed(v float64) float64 {
	if v == 0 {
		return math.MaxInt32
	}
	return v
}
