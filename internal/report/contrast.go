package report

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/flyball-go/flyball/internal/stats"
)

// A Contrast compares a candidate with a baseline, scenario by scenario, over the seeds that both met.
type Contrast struct {
	Baseline, Candidate string
	Version, Command    string
	Interrupted         bool
	Scenarios           []ContrastScenario
}

// ContrastScenario is what came of one scenario.
type ContrastScenario struct {
	Name string
	// Pairs is how many seeds both met.
	Pairs int
	// Verdict is that of goodput, 429s and score together; see [Overall].
	Verdict stats.Verdict
	// Figures begin with goodput, rejected_per_ok and score.
	Figures []stats.Comparison
}

// ContrastOf compares two controllers of a report. More are the figures to compare beside goodput, 429s and score: they are shown
// with their intervals, and take no part in the verdict.
func ContrastOf(r *Report, baseline, candidate string, more []Figure) *Contrast {
	c := &Contrast{Baseline: baseline, Candidate: candidate, Version: r.Version, Command: r.Command, Interrupted: r.Interrupted}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		a, b := find(s, baseline), find(s, candidate)
		if a == nil || b == nil {
			continue
		}
		cs := Compare(a, b, figures[:3], s.alpha())
		c.Scenarios = append(c.Scenarios, ContrastScenario{
			Name: s.Name, Pairs: cs[0].Seeds + cs[0].Undefined, Verdict: Overall(cs), Figures: append(cs, Compare(a, b, more, s.alpha())...),
		})
	}
	return c
}

func find(s *Scenario, controller string) *Run {
	for i := range s.Runs {
		if s.Runs[i].Controller == controller {
			return &s.Runs[i]
		}
	}
	return nil
}

// Closing sums up in one sentence: "b is better in 4, equivalent in 7, worse in 1 (kv-cliff) and open in none of 12 scenarios".
func (c *Contrast) Closing() string {
	by := map[stats.Verdict][]string{}
	for _, s := range c.Scenarios {
		by[s.Verdict] = append(by[s.Verdict], s.Name)
	}
	part := func(word string, v stats.Verdict, names bool) string {
		list := by[v]
		text := word + " in " + strconv.Itoa(len(list))
		if names && len(list) > 0 && len(list) <= 6 {
			text += " (" + strings.Join(list, ", ") + ")"
		}
		return text
	}
	n := len(c.Scenarios)
	if n == 0 {
		return "nothing could be compared."
	}
	unit := "scenarios"
	if n == 1 {
		unit = "scenario"
	}
	return fmt.Sprintf("%s against %s, of %d %s: %s, %s, %s, %s.", c.Candidate, c.Baseline, n, unit,
		part("better", stats.Better, true), part("equivalent", stats.Equivalent, false), part("worse", stats.Worse, true), part("inconclusive", stats.Inconclusive, true))
}

// forest is how many columns the intervals are drawn in, odd so that zero has one.
const forest = 31

// WriteText writes a line for each scenario: the verdict, the differences with their 95 % intervals, and the difference in score drawn about zero.
func (c *Contrast) WriteText(w io.Writer, o TextOptions) error {
	t := &textWriter{w: bufio.NewWriter(w), o: o}
	most := 0.0
	for _, s := range c.Scenarios {
		for _, v := range []float64{s.Figures[2].Interval.Low, s.Figures[2].Interval.High, s.Figures[2].Effect} {
			if finite(v) {
				most = max(most, math.Abs(v))
			}
		}
	}
	most = max(most, goodputStep)
	rows := [][]string{{"scenario", "seeds", "verdict", "goodput", "429s per success", "score", forestHead(most)}}
	for _, s := range c.Scenarios {
		row := []string{printable(s.Name), strconv.Itoa(s.Figures[0].Seeds), s.Verdict.String()}
		for i, f := range s.Figures[:3] {
			row = append(row, effectText(figures[i], f))
		}
		rows = append(rows, append(row, forestLine(s.Figures[2], most)))
	}
	t.printf("%s\n", t.bold(printable(c.Candidate)+" against "+printable(c.Baseline)))
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			switch {
			case i == 1 || i >= 3 && i <= 5:
				b.WriteString(padLeft(cell, widths[i]))
			default:
				b.WriteString(pad(cell, widths[i]))
			}
			b.WriteString("  ")
		}
		line := "  " + strings.TrimRight(b.String(), " ")
		if n == 0 {
			line = t.faint(line)
		}
		t.printf("%s\n", line)
	}
	if len(c.Scenarios) > 0 && len(c.Scenarios[0].Figures) > 3 {
		t.printf("\n")
		for _, s := range c.Scenarios {
			for _, f := range s.Figures[3:] {
				fig, _ := FindFigure(f.Name)
				t.printf("  %s: %s %s → %s, %s, %s\n", printable(s.Name), f.Name, fig.Format(f.Baseline), fig.Format(f.Candidate), effectText(fig, f), f.Verdict)
			}
		}
	}
	if c.Interrupted {
		t.printf("\n")
		t.sentence("Interrupted: this is a part of the comparison.")
	}
	t.printf("\n%s\n", t.bold(wrap(printable(c.Closing()), t.width(), "")))
	return t.w.Flush()
}

// effectText writes an effect with its interval: "+1.2 points [+0.8, +1.6]".
func effectText(f Figure, c stats.Comparison) string {
	if c.Seeds == 0 {
		return dash
	}
	text := f.FormatEffect(c.Effect)
	if !c.Interval.Known() {
		return text
	}
	number := func(v float64) string {
		s := f.FormatEffect(v)
		s, _, _ = strings.Cut(s, " ")
		return s
	}
	return text + " [" + number(c.Interval.Low) + ", " + number(c.Interval.High) + "]"
}

// forestHead is the scale above the lines.
func forestHead(most float64) string {
	f := figures[2]
	low, high := f.FormatEffect(-most), f.FormatEffect(most)
	low, _, _ = strings.Cut(low, " ")
	high, _, _ = strings.Cut(high, " ")
	return pad(low, forest/2) + "0" + padLeft(high, forest/2)
}

// forestLine draws an interval about zero.
func forestLine(c stats.Comparison, most float64) string {
	line := []rune(strings.Repeat(" ", forest))
	at := func(v float64) int {
		return min(max(int(math.Round((v/most+1)/2*(forest-1))), 0), forest-1)
	}
	line[forest/2] = '│'
	if c.Interval.Known() && finite(c.Interval.Low) && finite(c.Interval.High) {
		for i := at(c.Interval.Low); i <= at(c.Interval.High); i++ {
			line[i] = '─'
			if i == forest/2 {
				line[i] = '┼'
			}
		}
	}
	if finite(c.Effect) {
		line[at(c.Effect)] = '●'
	}
	return string(line)
}

// jsonContrast is what WriteJSON writes.
type jsonContrast struct {
	Baseline    string                 `json:"baseline"`
	Candidate   string                 `json:"candidate"`
	Version     string                 `json:"version"`
	Command     string                 `json:"command"`
	Interrupted bool                   `json:"interrupted"`
	Closing     string                 `json:"closing"`
	Scenarios   []jsonContrastScenario `json:"scenarios"`
}

type jsonContrastScenario struct {
	Scenario string               `json:"scenario"`
	Verdict  stats.Verdict        `json:"verdict"`
	Figures  []jsonContrastFigure `json:"figures"`
}

type jsonContrastFigure struct {
	Name      string        `json:"name"`
	Verdict   stats.Verdict `json:"verdict"`
	Pairs     int           `json:"pairs"`
	Undefined int           `json:"undefined"`
	Baseline  number        `json:"baseline"`
	Candidate number        `json:"candidate"`
	Effect    number        `json:"effect"`
	Low       number        `json:"low"`
	High      number        `json:"high"`
	Relative  bool          `json:"relative"`
	MinEffect number        `json:"min_effect"`
	P         number        `json:"p"`
	Adjusted  number        `json:"p_holm"`
}

// WriteJSON writes the comparison as one JSON object and a newline, with the keys of the verdict's figures in [WriteJSON], and baseline
// and candidate for the means.
func (c *Contrast) WriteJSON(w io.Writer) error {
	out := jsonContrast{
		Baseline: c.Baseline, Candidate: c.Candidate, Version: c.Version, Command: c.Command, Interrupted: c.Interrupted,
		Closing: c.Closing(), Scenarios: []jsonContrastScenario{},
	}
	for _, s := range c.Scenarios {
		j := jsonContrastScenario{Scenario: s.Name, Verdict: s.Verdict}
		for _, f := range s.Figures {
			j.Figures = append(j.Figures, jsonContrastFigure{
				Name: f.Name, Verdict: f.Verdict, Pairs: f.Seeds, Undefined: f.Undefined, Baseline: number(f.Baseline), Candidate: number(f.Candidate),
				Effect: number(f.Effect), Low: number(f.Interval.Low), High: number(f.Interval.High), Relative: f.Relative,
				MinEffect: number(f.MinEffect), P: number(f.P), Adjusted: number(f.Adjusted),
			})
		}
		out.Scenarios = append(out.Scenarios, j)
	}
	return json.NewEncoder(w).Encode(out)
}

// WriteCSV writes one line for each scenario and figure.
func (c *Contrast) WriteCSV(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write([]string{"scenario", "figure", "verdict", "pairs", "baseline", "candidate", "effect", "low", "high", "relative", "p_holm"}) //nolint:errcheck // Flush keeps the first error
	for _, s := range c.Scenarios {
		for _, f := range s.Figures {
			out.Write([]string{ //nolint:errcheck
				cellText(s.Name), f.Name, f.Verdict.String(), strconv.Itoa(f.Seeds), CellNumber(f.Baseline), CellNumber(f.Candidate), CellNumber(f.Effect),
				CellNumber(f.Interval.Low), CellNumber(f.Interval.High), strconv.FormatBool(f.Relative), CellNumber(f.Adjusted),
			})
		}
	}
	out.Flush()
	return out.Error()
}
