// Package suite reads files of bounds that runs must keep, and says of finished runs whether they do. A bound is kept only when the whole
// confidence interval lies on its right side, and broken only when all of it lies on the wrong one; between the two, more seeds may tell.
package suite

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/report"
)

// Suite is a file of bounds.
type Suite struct {
	Name, Intent string
	// Config is the path of the configuration as the file has it, relative to the file; empty for none.
	Config string
	// Baseline is the path of the baseline, in the same way.
	Baseline string
	// Seed is the first seed, and Seeds how many there are; with Auto they are added until every bound is decided, Seeds at most.
	Seed  uint64
	Seeds int
	Auto  bool
	// Duration replaces that of the scenarios; 0 leaves it.
	Duration time.Duration
	Bounds   []Bound
}

type fileTable struct {
	Name     string        `toml:"name" required:"true" len:"1..60"`
	Intent   string        `toml:"intent" len:"..300"`
	Config   string        `toml:"config" len:"..4096"`
	Baseline string        `toml:"baseline" len:"..4096"`
	Seed     uint64        `toml:"seed" range:"0..1000000000000"`
	Seeds    int           `toml:"seeds" range:"2..1000" unit:"seeds"`
	Auto     bool          `toml:"auto"`
	Duration time.Duration `toml:"duration" range:"1s..1000h"`
	Assert   []Bound       `toml:"assert" required:"true" len:"1..1000"`
}

// Check notes the line of each bound, for annotations.
func (t *fileTable) Check(k strict.Key) {
	for i := range t.Assert {
		t.Assert[i].Line = k.At("assert").Index(i).Line()
	}
}

// Parse reads a suite. The name is for messages. An error is a [strict.Errors] with everything that is wrong.
func Parse(name string, data []byte) (*Suite, error) {
	t := fileTable{Seed: 1, Seeds: 8}
	if err := strict.Decode(name, data, &t); err != nil {
		return nil, err
	}
	s := &Suite{Name: t.Name, Intent: t.Intent, Config: t.Config, Baseline: t.Baseline, Seed: t.Seed, Seeds: t.Seeds, Auto: t.Auto, Duration: t.Duration, Bounds: t.Assert}
	return s, nil
}

// Aggregates of scenarios.
const (
	Each   = ""       // every scenario by itself
	Median = "median" // the middle one
	Worst  = "worst"  // the one that is worst in the figure
	Mean   = "mean"   // the mean of all
)

// Words about verdicts, in place of a figure and a number.
const (
	IsBetter     = "better"
	NotWorse     = "not worse"
	NotDominated = "not dominated" // not worse in both goodput and 429s
)

// BaselineName is what a bound calls the stored baseline.
const BaselineName = "baseline"

// A Bound is one line of a suite:
//
//	WHERE [CONTROLLER] [vs OTHER]: FIGURE >=|<=|>|< VALUE
//	WHERE [CONTROLLER] vs OTHER: better | not worse | not dominated
//
// WHERE is names of scenarios with commas and no spaces between them, set:NAME, or all; or one of these inside median(), worst() or mean(). OTHER is a
// controller or the word baseline. VALUE is a number, a percentage, or a duration. With vs, VALUE bounds the difference: of a figure that is a
// share, in points; of another, as a share of OTHER's when it is a percentage of a relative figure.
type Bound struct {
	Text string
	// Line is where in the file it is; 0 when not known.
	Line int

	Where      []string
	Aggregate  string
	Controller string
	Versus     string // empty: the figure itself is bounded
	Verdict    string // one of the words; empty: Figure and Value
	Figure     report.Figure
	Upper      bool // the figure must be at most Value
	Value      float64
}

const example = `"rpm-bucket: goodput >= 90%"`

// UnmarshalText reads a bound.
func (b *Bound) UnmarshalText(text []byte) error {
	p, err := ParseBound(string(text))
	if err != nil {
		return err
	}
	*b = p
	return nil
}

// ParseBound reads a bound.
func ParseBound(text string) (Bound, error) {
	b := Bound{Text: text, Controller: "ours"}
	if len(text) > 1000 {
		return b, errors.New("must have at most 1000 bytes")
	}
	at := strings.LastIndex(text, ": ")
	if at < 0 {
		return b, fmt.Errorf("must have a colon and a space between where and what, as in %s", example)
	}
	words := strings.Fields(text[:at])
	if len(words) == 0 {
		return b, fmt.Errorf("must say where before the colon: a scenario, set:NAME or all, as in %s", example)
	}
	if words[0] == "vs" {
		words = append([]string{"all"}, words...)
	}
	where := words[0]
	for _, a := range []string{Median, Worst, Mean} {
		if inner, ok := strings.CutPrefix(where, a+"("); ok {
			inner, ok = strings.CutSuffix(inner, ")")
			if !ok {
				return b, fmt.Errorf("%s( must be closed with ), without spaces in it, as in %s(all)", a, a)
			}
			b.Aggregate, where = a, inner
		}
	}
	for name := range strings.SplitSeq(where, ",") {
		if name == "" {
			return b, fmt.Errorf("has an empty name in %q: write names with commas and no spaces between them", words[0])
		}
		b.Where = append(b.Where, name)
	}
	words = words[1:]
	if len(words) > 0 && words[0] != "vs" {
		b.Controller, words = words[0], words[1:]
	}
	if len(words) > 0 {
		if len(words) != 2 || words[0] != "vs" {
			return b, fmt.Errorf("has %q before the colon: must be WHERE [CONTROLLER] [vs OTHER]", strings.Join(words, " "))
		}
		b.Versus = words[1]
		if b.Versus == b.Controller {
			return b, fmt.Errorf("compares %s with itself", b.Versus)
		}
	}
	return b, b.what(strings.TrimSpace(text[at+2:]))
}

// what reads what comes after the colon.
func (b *Bound) what(text string) error {
	if slices.Contains([]string{IsBetter, NotWorse, NotDominated}, text) {
		if b.Versus == "" {
			return fmt.Errorf("is %q than what? Write vs and a controller before the colon", text)
		}
		if b.Aggregate != Each {
			return fmt.Errorf("%q is said of each scenario: leave %s() out", text, b.Aggregate)
		}
		b.Verdict = text
		return nil
	}
	at := strings.IndexAny(text, "<>=")
	if at < 0 {
		return fmt.Errorf("has %q after the colon: must be FIGURE >= VALUE or FIGURE <= VALUE, as in %s", text, example)
	}
	name := strings.TrimSpace(text[:at])
	f, ok := report.FindFigure(name)
	if !ok {
		hint := ""
		if best, near := strict.Nearest(name, report.FigureNames()); near {
			hint = "; did you mean " + best + "?"
		}
		return fmt.Errorf("has the figure %q, must be one of %s%s", name, strings.Join(report.FigureNames(), ", "), hint)
	}
	b.Figure = f
	rest := text[at:]
	switch {
	case strings.HasPrefix(rest, ">="), strings.HasPrefix(rest, "<="):
		b.Upper, rest = rest[0] == '<', rest[2:]
	case rest[0] == '<', rest[0] == '>':
		b.Upper, rest = rest[0] == '<', rest[1:]
	default:
		return fmt.Errorf("has = in it: a figure that chance moves is never equal; use >= or <=")
	}
	v, err := parseValue(strings.TrimSpace(rest), f, b.Versus != "")
	if err != nil {
		return err
	}
	b.Value = v
	return nil
}

func parseValue(text string, f report.Figure, difference bool) (float64, error) {
	bad := func(want string) (float64, error) {
		return 0, fmt.Errorf("has the value %q, must be %s", text, want)
	}
	percent, isPercent := strings.CutSuffix(text, "%")
	want := "a number"
	switch {
	case difference && f.Relative:
		want = "a percentage of the other's, such as -1%"
	case f.Unit == "share":
		want = "a percentage or a number, such as 95% or 0.95"
	case f.Unit == "s":
		want = "a duration, such as 2s or 300ms"
	}
	switch {
	case isPercent && (f.Unit == "share" || difference && f.Relative || f.Name == "rejected_per_ok"):
		v, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return bad(want)
		}
		return v / 100, nil
	case isPercent || difference && f.Relative:
		return bad(want)
	case f.Unit == "s":
		d, err := time.ParseDuration(text)
		if err != nil {
			return bad(want)
		}
		return d.Seconds(), nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return bad(want)
	}
	return v, nil
}

// Controllers returns the controllers that a bound needs runs of; a baseline is no controller.
func (b *Bound) Controllers() []string {
	if b.Versus == "" || b.Versus == BaselineName {
		return []string{b.Controller}
	}
	return []string{b.Controller, b.Versus}
}
