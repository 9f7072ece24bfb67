package metrics

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// exposition is a page of the text format as a reader understands it.
type exposition struct {
	families []*parsedFamily
	byName   map[string]*parsedFamily
}

type parsedFamily struct {
	name, kind, help string
	series           []parsedSeries
}

type parsedSeries struct {
	name   string // as written, with a histogram's suffix
	labels []parsedLabel
	value  float64
}

type parsedLabel struct{ name, value string }

// label returns the value of a label; it is empty when there is no such label.
func (s *parsedSeries) label(name string) string {
	for _, l := range s.labels {
		if l.name == name {
			return l.value
		}
	}
	return ""
}

// key names a series without its le.
func (s *parsedSeries) key() string {
	var b strings.Builder
	for _, l := range s.labels {
		if l.name != "le" {
			fmt.Fprintf(&b, "%s=%q,", l.name, l.value)
		}
	}
	return b.String()
}

// value returns the value of the one series of that name that has the given labels (name, value, ...).
func (e *exposition) value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	var found []float64
	for _, f := range e.families {
		for _, s := range f.series {
			ok := s.name == name
			for i := 0; i < len(labels); i += 2 {
				ok = ok && s.label(labels[i]) == labels[i+1]
			}
			if ok {
				found = append(found, s.value)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s%q: %d series, want 1", name, labels, len(found))
	}
	return found[0]
}

// parse reads a page and is stricter than any scraper: HELP, then TYPE, then series for each metric, each
// metric in one place, no timestamp, no blank beyond the one before the value, values that suit the type,
// no series twice, and histograms that are cumulative and complete.
func parse(text string) (*exposition, error) {
	e := &exposition{byName: map[string]*parsedFamily{}}
	if text == "" {
		return e, nil
	}
	body, ok := strings.CutSuffix(text, "\n")
	if !ok {
		return nil, fmt.Errorf("the last line does not end")
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("not text")
	}
	seen := map[string]bool{}
	var f *parsedFamily
	for i, line := range strings.Split(body, "\n") {
		fail := func(format string, a ...any) error {
			return fmt.Errorf("line %d: %s: %q", i+1, fmt.Sprintf(format, a...), line)
		}
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			if !isName(name, true) || help == "" || strings.Contains(help, `\`) {
				return nil, fail("bad HELP")
			}
			if f != nil && f.kind == "" {
				return nil, fail("%s has no TYPE", f.name)
			}
			if e.byName[name] != nil {
				return nil, fail("%s appears in two places", name)
			}
			f = &parsedFamily{name: name, help: help}
			e.families = append(e.families, f)
			e.byName[name] = f
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if f == nil || f.name != name || f.kind != "" {
				return nil, fail("TYPE does not follow the HELP of its metric")
			}
			if kind != gauge && kind != counter && kind != histogram {
				return nil, fail("unknown type")
			}
			f.kind = kind
			continue
		}
		if f == nil || f.kind == "" {
			return nil, fail("not within a metric")
		}
		s, err := parseSeries(line)
		if err != nil {
			return nil, fail("%v", err)
		}
		id := s.name + s.key() + s.label("le")
		if seen[id] {
			return nil, fail("series appears twice")
		}
		seen[id] = true
		if err := f.suits(&s); err != nil {
			return nil, fail("%v", err)
		}
		f.series = append(f.series, s)
	}
	for _, f := range e.families {
		if len(f.series) == 0 {
			return nil, fmt.Errorf("%s has no series", f.name)
		}
		if f.kind == histogram {
			if err := f.checkHistogram(); err != nil {
				return nil, fmt.Errorf("%s: %v", f.name, err)
			}
		}
	}
	return e, nil
}

func parseSeries(line string) (s parsedSeries, err error) {
	name, rest, ok := strings.Cut(line, "{")
	if !ok || !isName(name, true) {
		return s, fmt.Errorf("bad name")
	}
	s.name = name
	for {
		name, after, ok := strings.Cut(rest, `="`)
		if !ok || !isName(name, false) {
			return s, fmt.Errorf("bad label name %q", name)
		}
		if s.label(name) != "" {
			return s, fmt.Errorf("label %s twice", name)
		}
		value, after, err := unquote(after)
		if err != nil {
			return s, err
		}
		s.labels = append(s.labels, parsedLabel{name, value})
		rest, ok = strings.CutPrefix(after, ",")
		if !ok {
			break
		}
	}
	rest, ok = strings.CutPrefix(rest, "} ")
	if !ok {
		return s, fmt.Errorf("bad end of the labels")
	}
	s.value, err = strconv.ParseFloat(rest, 64)
	return s, err
}

// unquote reads a label's value up to the quote that ends it, and returns what follows.
func unquote(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) || !strings.Contains(`\"n`, s[i:i+1]) {
				return "", "", fmt.Errorf("bad escape")
			}
			b.WriteByte(map[byte]byte{'\\': '\\', '"': '"', 'n': '\n'}[s[i]])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("label value does not end")
}

// isName reports whether s is a metric's or a label's name.
func isName(s string, metric bool) bool {
	for i, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', i > 0 && c >= '0' && c <= '9', metric && c == ':':
		default:
			return false
		}
	}
	return s != ""
}

// suits reports what is wrong with a series of f by itself.
func (f *parsedFamily) suits(s *parsedSeries) error {
	suffix, ok := strings.CutPrefix(s.name, f.name)
	le := s.label("le")
	switch {
	case !ok:
		return fmt.Errorf("not a series of %s", f.name)
	case f.kind == histogram:
		if !slices.Contains([]string{"_bucket", "_sum", "_count"}, suffix) || (suffix == "_bucket") != (le != "") {
			return fmt.Errorf("not a series of a histogram")
		}
	case suffix != "" || le != "":
		return fmt.Errorf("not a series of a %s", f.kind)
	case f.kind == counter && !strings.HasSuffix(f.name, "_total"):
		return fmt.Errorf("a counter's name ends in _total")
	case f.kind == gauge && strings.HasSuffix(f.name, "_total"):
		return fmt.Errorf("only a counter's name ends in _total")
	}
	if math.IsNaN(s.value) || s.value < 0 || f.kind != gauge && math.IsInf(s.value, 0) {
		return fmt.Errorf("value out of range")
	}
	if (f.kind == counter || suffix == "_bucket" || suffix == "_count") && s.value != math.Trunc(s.value) {
		return fmt.Errorf("a count must be whole")
	}
	return nil
}

// checkHistogram checks each guard's series: buckets with rising bounds and counts, +Inf last, then the sum,
// then the count, which is the last bucket's.
func (f *parsedFamily) checkHistogram() error {
	for i := 0; i < len(f.series); {
		key, bound, n := f.series[i].key(), math.Inf(-1), 0.0
		for ; i < len(f.series) && f.series[i].name == f.name+"_bucket"; i++ {
			s := &f.series[i]
			le, err := strconv.ParseFloat(s.label("le"), 64)
			if err != nil || le <= bound || s.value < n || s.key() != key {
				return fmt.Errorf("bucket %q with %v comes after %v with %v", s.label("le"), s.value, bound, n)
			}
			bound, n = le, s.value
		}
		if !math.IsInf(bound, 1) {
			return fmt.Errorf("no bucket +Inf")
		}
		if i+1 >= len(f.series) || f.series[i].name != f.name+"_sum" || f.series[i+1].name != f.name+"_count" ||
			f.series[i].key() != key || f.series[i+1].key() != key {
			return fmt.Errorf("no sum and count after the buckets")
		}
		if f.series[i+1].value != n || n == 0 && f.series[i].value != 0 {
			return fmt.Errorf("sum %v and count %v do not suit the bucket +Inf, %v", f.series[i].value, f.series[i+1].value, n)
		}
		i += 2
	}
	return nil
}

// TestParserIsStrict checks the checker.
func TestParserIsStrict(t *testing.T) {
	const help, kind = "# HELP a_total Help.\n", "# TYPE a_total counter\n"
	const h = "# HELP h Help.\n# TYPE h histogram\n"
	good := []string{
		"",
		help + kind + `a_total{g="x"} 1` + "\n",
		help + kind + `a_total{g="\\\"\n}{,="} 1` + "\n",
		h + `h_bucket{g="x",le="1"} 1` + "\n" + `h_bucket{g="x",le="+Inf"} 2` + "\n" + `h_sum{g="x"} 9` + "\n" + `h_count{g="x"} 2` + "\n",
	}
	for _, text := range good {
		if _, err := parse(text); err != nil {
			t.Errorf("parse(%q): %v", text, err)
		}
	}
	bad := []string{
		help + kind + `a_total{g="x"} 1`,
		help + kind,
		help + `a_total{g="x"} 1` + "\n",
		kind + help + `a_total{g="x"} 1` + "\n",
		help + kind + `b_total{g="x"} 1` + "\n",
		help + kind + `a_total{g="x"}  1` + "\n",
		help + kind + `a_total{g="x"} 1 1700000000` + "\n",
		help + kind + `a_total{g="x"} 1.5` + "\n",
		help + kind + `a_total{g="x"} -1` + "\n",
		help + kind + `a_total{g="x" } 1` + "\n",
		help + kind + `a_total{g="x"} 1` + "\n" + `a_total{g="x"} 1` + "\n",
		help + kind + `a_total{g="\t"} 1` + "\n",
		help + kind + `a_total{g="x` + "\n" + `"} 1` + "\n",
		help + kind + `a_total{g="x",g="y"} 1` + "\n",
		help + kind + `a_total{1="x"} 1` + "\n",
		help + kind + `a_total{g="x"} 1` + "\n\n",
		help + kind + `a_total{g="x"} 1` + "\n" + help + kind + `a_total{g="y"} 1` + "\n",
		"# HELP a Help.\n# TYPE a counter\n" + `a{g="x"} 1` + "\n",
		h + `h_bucket{g="x",le="1"} 3` + "\n" + `h_bucket{g="x",le="+Inf"} 2` + "\n" + `h_sum{g="x"} 9` + "\n" + `h_count{g="x"} 2` + "\n",
		h + `h_bucket{g="x",le="1"} 1` + "\n" + `h_bucket{g="x",le="2"} 2` + "\n" + `h_sum{g="x"} 9` + "\n" + `h_count{g="x"} 2` + "\n",
		h + `h_bucket{g="x",le="1"} 1` + "\n" + `h_bucket{g="x",le="+Inf"} 2` + "\n" + `h_sum{g="x"} 9` + "\n" + `h_count{g="x"} 3` + "\n",
		h + `h_bucket{g="x",le="1"} 1` + "\n" + `h_bucket{g="x",le="+Inf"} 2` + "\n" + `h_count{g="x"} 2` + "\n",
		h + `h{g="x"} 1` + "\n",
	}
	for _, text := range bad {
		if _, err := parse(text); err == nil {
			t.Errorf("parse(%q) found nothing wrong", text)
		}
	}
}
