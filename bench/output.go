package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// A report is everything that one run measured.
type report struct {
	Date    string   `json:"date"`
	Command string   `json:"command"`
	Machine machine  `json:"machine"`
	Note    string   `json:"note,omitempty"`
	Seconds float64  `json:"seconds"`
	Tables  []*table `json:"tables"`
	Targets []target `json:"targets"`
}

// machine is where it was measured.
type machine struct {
	CPU        string   `json:"cpu"`
	CPUs       int      `json:"cpus"`
	GOMAXPROCS int      `json:"gomaxprocs"`
	OS         string   `json:"os"`
	Arch       string   `json:"arch"`
	Go         string   `json:"go"`
	Load       string   `json:"load,omitempty"` // the 1-minute load average when the run began
	Modules    []string `json:"modules"`        // what it was compared with
}

// A table is the outcome of one section.
type table struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Columns []string `json:"columns"`
	Rows    []row    `json:"rows"`
	Notes   []string `json:"notes,omitempty"`
}

// A row is what was measured of one contender. Cells are as many as the table's columns, or none when
// Missing says why there is nothing.
type row struct {
	Name    string `json:"name"`
	Cells   []cell `json:"cells,omitempty"`
	Missing string `json:"missing,omitempty"`
}

// cell is one figure.
type cell struct {
	spread
	wide bool // print the quartiles, too
}

// plain returns the cell that shows the median of s, and quartiles the one that shows its quartiles, too.
func plain(s spread) cell     { return cell{spread: s} }
func quartiles(s spread) cell { return cell{spread: s, wide: true} }

// add appends a row.
func (t *table) add(name string, cells ...cell) {
	t.Rows = append(t.Rows, row{Name: name, Cells: cells})
}

// miss appends a row for what could not be measured.
func (t *table) miss(name, why string) {
	t.Rows = append(t.Rows, row{Name: name, Missing: why})
}

// note appends a sentence below the table.
func (t *table) note(format string, a ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, a...))
}

// MarshalJSON writes an unknown figure as null, which JSON has instead of NaN.
func (s spread) MarshalJSON() ([]byte, error) {
	if !s.known() || math.IsInf(s.Median, 0) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, `{"median":%s,"p25":%s,"p75":%s}`, jsonNumber(s.Median), jsonNumber(s.P25), jsonNumber(s.P75)), nil
}

func jsonNumber(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "null"
	}
	b, _ := json.Marshal(x)
	return string(b)
}

// String writes the figure as the tables show it: three significant digits.
func (c cell) String() string {
	if !c.known() {
		return "-"
	}
	if !c.wide || c.P25 == c.P75 {
		return figure(c.Median)
	}
	return fmt.Sprintf("%s (%s-%s)", figure(c.Median), figure(c.P25), figure(c.P75))
}

// figure returns x with about three significant digits and no exponent.
func figure(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return "-"
	case a != 0 && a < 0.005:
		return "0.00"
	case a == math.Trunc(a) && a < 100:
		return fmt.Sprintf("%.0f", x)
	case a < 10:
		return fmt.Sprintf("%.2f", x)
	case a < 100:
		return fmt.Sprintf("%.1f", x)
	case a < 10_000_000:
		return group(fmt.Sprintf("%.0f", x))
	}
	return fmt.Sprintf("%.3g", x)
}

// group puts commas between the thousands of a whole number.
func group(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// grid returns the cells of the table as text, header first.
func (t *table) grid() [][]string {
	lines := [][]string{append([]string{t.Title}, t.Columns...)}
	for _, r := range t.Rows {
		line := make([]string, 1+len(t.Columns))
		line[0] = r.Name
		if r.Missing != "" {
			line[1] = r.Missing
		}
		for i, c := range r.Cells {
			line[1+i] = c.String()
		}
		lines = append(lines, line)
	}
	return lines
}

// targetGrid returns the targets as text, header first.
func targetGrid(ts []target) [][]string {
	lines := [][]string{{"target", "wanted", "measured", "reached"}}
	for _, t := range ts {
		lines = append(lines, []string{t.Name, t.wanted(), t.measured(), t.Reached})
	}
	return lines
}

// writeText writes r for a terminal.
func (r *report) writeText(w io.Writer) {
	fmt.Fprintf(w, "%s\n%s, %d CPUs (GOMAXPROCS %d), %s, %s/%s\n", r.Date, r.Machine.CPU, r.Machine.CPUs, r.Machine.GOMAXPROCS,
		r.Machine.Go, r.Machine.OS, r.Machine.Arch)
	if r.Machine.Load != "" {
		fmt.Fprintf(w, "load average when the run began: %s\n", r.Machine.Load)
	}
	if r.Note != "" {
		fmt.Fprintln(w, r.Note)
	}
	for _, m := range r.Machine.Modules {
		fmt.Fprintln(w, m)
	}
	for _, t := range r.Tables {
		fmt.Fprintln(w)
		writeAligned(w, t.grid())
		for _, n := range t.Notes {
			fmt.Fprintf(w, "  %s\n", n)
		}
	}
	if len(r.Targets) > 0 {
		fmt.Fprintln(w)
		writeAligned(w, targetGrid(r.Targets))
		fmt.Fprintln(w, verdict(r.Targets))
	}
	fmt.Fprintf(w, "\nmeasured in %.0f s\n", r.Seconds)
}

// writeAligned writes lines with their columns aligned: the first to the left, the others to the right. Where
// only the second is filled it is a text, which stands to the left and takes what room it needs.
func writeAligned(w io.Writer, lines [][]string) {
	text := func(line []string) bool { return len(line) > 2 && line[2] == "" }
	width := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, s := range line {
			if i != 1 || !text(line) {
				width[i] = max(width[i], utf8.RuneCountInString(s))
			}
		}
	}
	for _, line := range lines {
		var b strings.Builder
		for i, s := range line {
			pad := strings.Repeat(" ", max(0, width[i]-utf8.RuneCountInString(s)))
			switch {
			case i == 0:
				b.WriteString(s + pad)
			case i == 1 && text(line):
				b.WriteString("  " + s)
			default:
				b.WriteString("  " + pad + s)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// writeJSON writes r for a program.
func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeMarkdown writes r as a section of a document.
func (r *report) writeMarkdown(w io.Writer) {
	fmt.Fprintf(w, "Measured on %s with `%s` in %.0f s: %s, %d CPUs, %s, %s/%s.", r.Date[:len("2006-01-02")], r.Command, r.Seconds,
		r.Machine.CPU, r.Machine.CPUs, r.Machine.Go, r.Machine.OS, r.Machine.Arch)
	if r.Machine.Load != "" {
		fmt.Fprintf(w, " The load average was %s when the run began.", r.Machine.Load)
	}
	if r.Note != "" {
		fmt.Fprintf(w, " %s", r.Note)
	}
	fmt.Fprintf(w, "\nCompared with %s.\n", strings.Join(r.Machine.Modules, ", "))
	if len(r.Targets) > 0 {
		fmt.Fprintf(w, "\n### Targets\n\n")
		writePiped(w, targetGrid(r.Targets))
		fmt.Fprintf(w, "\n%s\n", verdict(r.Targets))
	}
	for _, t := range r.Tables {
		fmt.Fprintf(w, "\n### %s\n\n", strings.ToUpper(t.Title[:1])+t.Title[1:])
		lines := t.grid()
		lines[0][0] = ""
		writePiped(w, lines)
		if len(t.Notes) > 0 {
			fmt.Fprintf(w, "\n%s\n", strings.Join(t.Notes, "\n"))
		}
	}
}

// verdict says in a sentence how many targets were reached, and which were not.
func verdict(ts []target) string {
	var gone []string
	for _, t := range ts {
		if t.Reached != reached {
			gone = append(gone, t.Name)
		}
	}
	if len(gone) == 0 {
		return fmt.Sprintf("All %d targets were reached.", len(ts))
	}
	return fmt.Sprintf("%d of %d targets were reached. Missed: %s.", len(ts)-len(gone), len(ts), strings.Join(gone, "; "))
}

// writePiped writes lines as a Markdown table.
func writePiped(w io.Writer, lines [][]string) {
	for i, line := range lines {
		fmt.Fprintf(w, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(line)-1))
		}
	}
}

// The marks between which a document holds what writeMarkdown writes.
const (
	beginMark = "<!-- bench: begin -->\n"
	endMark   = "<!-- bench: end -->\n"
)

// replaceSection returns document with what is between the marks replaced by section.
func replaceSection(document, section string) (string, error) {
	before, rest, ok := strings.Cut(document, beginMark)
	if !ok {
		return "", fmt.Errorf("bench: the document has no line %q", strings.TrimSpace(beginMark))
	}
	_, after, ok := strings.Cut(rest, endMark)
	if !ok {
		return "", fmt.Errorf("bench: the document has no line %q", strings.TrimSpace(endMark))
	}
	return before + beginMark + "\n" + section + "\n" + endMark + after, nil
}
