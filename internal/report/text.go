package report

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// TextOptions chooses how WriteText writes. The zero value is plain text.
type TextOptions struct {
	// Color marks the best values and our controller with ANSI attributes, beside
	// the marks that plain text has. The caller knows whether the output is a
	// terminal and whether NO_COLOR is set.
	Color bool
	// Width is where sentences are broken (columns, >= 40). Zero means 100.
	// Tables are as wide as they need to be.
	Width int
}

// ANSI attributes: bold, faint and off. They work on light and dark alike, which
// colours do not.
const (
	ansiBold  = "\x1b[1m"
	ansiFaint = "\x1b[2m"
	ansiOff   = "\x1b[0m"
)

// A column is one measure of the summary table.
type column struct {
	name, unit string
	text       func(Summary) string
	// value is what the best has least of; NaN or +Inf is never the best.
	value func(Summary) float64
	// always says that every run can be the best; otherwise only runs with
	// enough goodput can, as doing nothing is no way to be fast.
	always bool
}

// bestShare is the share of the best goodput that a run must reach for its other
// values to be marked as best (ratio).
const bestShare = 0.9

// BestRule explains the mark in words.
const BestRule = "best of those with at least 90 % of the best goodput"

var tableColumns = []column{
	{
		name: "goodput", unit: "of oracle", always: true,
		text:  func(s Summary) string { return formatShare(s.Goodput) },
		value: func(s Summary) float64 { return -s.Goodput },
	},
	{
		name: "429s", unit: "per success",
		text:  func(s Summary) string { return formatPerOK(s.RejectedPerOK) },
		value: func(s Summary) float64 { return s.RejectedPerOK },
	},
	{
		name: "p50", unit: "latency",
		text:  func(s Summary) string { return formatDuration(s.P50) },
		value: func(s Summary) float64 { return known(float64(s.P50)) },
	},
	{
		name: "p99", unit: "latency",
		text:  func(s Summary) string { return formatDuration(s.P99) },
		value: func(s Summary) float64 { return known(float64(s.P99)) },
	},
	{
		name: "settle", unit: "time",
		text: formatSettle,
		value: func(s Summary) float64 {
			if s.NoLevel || !s.Settled {
				return math.NaN()
			}
			return float64(s.Settle)
		},
	},
}

// moreColumns are columns that a table has only where one of its runs has a value. What is above the fold of a terminal is regret and
// what is slowest.
var moreColumns = []column{
	{
		name: "regret", unit: "of oracle",
		text:  func(s Summary) string { return formatShare(s.Regret) },
		value: func(s Summary) float64 { return s.Regret },
	},
	{
		name: "regret", unit: "constant",
		text:  func(s Summary) string { return formatShare(s.RegretStatic) },
		value: func(s Summary) float64 { return s.RegretStatic },
	},
	{
		name: "regret", unit: "changing",
		text:  func(s Summary) string { return formatShare(s.RegretPiecewise) },
		value: func(s Summary) float64 { return s.RegretPiecewise },
	},
	timeColumn("p50", "first byte", func(s Summary) time.Duration { return s.FirstByte50 }),
	timeColumn("p99", "first byte", func(s Summary) time.Duration { return s.FirstByte99 }),
	timeColumn("p50", "per token", func(s Summary) time.Duration { return s.PerToken50 }),
	timeColumn("p99", "per token", func(s Summary) time.Duration { return s.PerToken99 }),
}

func timeColumn(name, unit string, of func(Summary) time.Duration) column {
	value := func(s Summary) float64 {
		if d := of(s); d > 0 {
			return float64(d)
		}
		return math.NaN()
	}
	return column{name: name, unit: unit, value: value, text: func(s Summary) string {
		if d := of(s); d > 0 {
			return formatDuration(d)
		}
		return dash
	}}
}

// columnsOf are the columns of a table of runs.
func columnsOf(runs []Run, more []column) []column {
	cs := slices.Clone(tableColumns)
	for _, c := range more {
		if slices.ContainsFunc(runs, func(r Run) bool { return finite(c.value(r.Summary)) }) {
			cs = append(cs, c)
		}
	}
	return cs
}

func known(v float64) float64 {
	if v < 0 {
		return math.NaN()
	}
	return v
}

// best returns for each run whether its value in c is the best. Values that read
// the same are equally good, and where all read the same none is marked.
func best(c column, runs []Run) []bool {
	top := math.Inf(-1)
	for _, run := range runs {
		if !run.Reference && finite(run.Summary.Goodput) {
			top = max(top, run.Summary.Goodput)
		}
	}
	eligible := func(run Run) bool {
		return !run.Reference && (c.always || run.Summary.Goodput >= bestShare*top) && finite(c.value(run.Summary))
	}
	at := -1
	for i, run := range runs {
		if eligible(run) && (at < 0 || c.value(run.Summary) < c.value(runs[at].Summary)) {
			at = i
		}
	}
	marks := make([]bool, len(runs))
	if at < 0 {
		return marks
	}
	want, same := c.text(runs[at].Summary), true
	for i, run := range runs {
		reads := c.text(run.Summary) == want
		marks[i] = reads && eligible(run)
		same = same && (reads || run.Reference)
	}
	if same {
		clear(marks)
	}
	return marks
}

// WriteText writes for each scenario an aligned table, then who won where in one
// sentence a scenario, then the closing sentence. It returns the first error of w.
func WriteText(w io.Writer, r *Report, o TextOptions) error {
	if o.Width < 40 {
		o.Width = 100
	}
	t := &textWriter{w: bufio.NewWriter(w), o: o}
	v := Judge(r)
	for i := range r.Scenarios {
		t.scenario(&r.Scenarios[i])
	}
	if len(r.Scenarios) > 0 {
		legend := "> ours   * " + BestRule + "   latency from intended arrival"
		if hasReference(r) {
			legend += "   = reference, never ranked"
		}
		t.printf("%s\n", t.faint(legend))
		t.printf("\n%s\n", t.bold("Who won where"))
	}
	for _, s := range v.Scenarios {
		t.sentence(s.Scenario + ": " + s.Text)
	}
	if r.Interrupted {
		t.sentence("Interrupted: this is a part of the report.")
	}
	t.printf("\n%s\n", t.bold(wrap(printable(v.Closing), o.Width, "")))
	return t.w.Flush()
}

func hasReference(r *Report) bool {
	for _, s := range r.Scenarios {
		for _, run := range s.Runs {
			if run.Reference {
				return true
			}
		}
	}
	return false
}

// width is where sentences are broken.
func (t *textWriter) width() int {
	if t.o.Width < 40 {
		return 100
	}
	return t.o.Width
}

type textWriter struct {
	w *bufio.Writer // keeps the first error
	o TextOptions
}

func (t *textWriter) printf(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

func (t *textWriter) bold(s string) string  { return t.ansi(ansiBold, s) }
func (t *textWriter) faint(s string) string { return t.ansi(ansiFaint, s) }

func (t *textWriter) ansi(attribute, s string) string {
	if !t.o.Color || s == "" {
		return s
	}
	return attribute + s + ansiOff
}

func (t *textWriter) sentence(s string) {
	t.printf("  %s\n", wrap(printable(s), t.o.Width-2, "    "))
}

func (t *textWriter) scenario(s *Scenario) {
	title := t.bold(printable(s.Name))
	if s.Duration > 0 {
		title += t.faint("  " + formatSpan(s.Duration))
	}
	if s.Interrupted {
		title += "  (interrupted)"
	}
	t.printf("%s\n", title)
	if s.Intent != "" {
		t.sentence(s.Intent)
	}
	t.table(s.Runs)
	t.printf("\n")
}

func (t *textWriter) table(runs []Run) {
	if len(runs) == 0 {
		t.printf("  no controller has run\n")
		return
	}
	nameWidth := columns("controller")
	for _, run := range runs {
		nameWidth = max(nameWidth, columns(printable(run.Controller)))
	}
	table := columnsOf(runs, slices.DeleteFunc(slices.Clone(moreColumns), func(c column) bool { return c.name == "p50" }))
	widths := make([]int, len(table))
	marks := make([][]bool, len(table))
	for c, col := range table {
		marks[c] = best(col, runs)
		widths[c] = max(columns(col.name), columns(col.unit))
		for _, run := range runs {
			widths[c] = max(widths[c], columns(col.text(run.Summary)))
		}
	}

	head, units := pad("controller", nameWidth), pad("", nameWidth)
	for c, col := range table {
		head += "   " + padLeft(col.name, widths[c])
		units += "   " + padLeft(col.unit, widths[c])
	}
	t.printf("    %s\n    %s\n", t.faint(head), t.faint(units))
	for i, run := range runs {
		mark, name := "  ", pad(printable(run.Controller), nameWidth)
		switch {
		case run.Ours:
			mark, name = "> ", t.bold(name)
		case run.Reference:
			mark = "= "
		}
		var b strings.Builder
		for c, col := range table {
			text := padLeft(col.text(run.Summary), widths[c])
			if marks[c][i] {
				text = t.bold(text + "*")
			} else {
				text += " "
			}
			b.WriteString("  " + text)
		}
		// The mark has a column of its own after each value, so that figures
		// stay aligned; the last one is cut off where it is empty.
		t.printf("  %s%s %s\n", mark, name, strings.TrimRight(b.String(), " "))
	}
}

func pad(s string, n int) string     { return s + strings.Repeat(" ", max(0, n-columns(s))) }
func padLeft(s string, n int) string { return strings.Repeat(" ", max(0, n-columns(s))) + s }
