package metrics

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/limiter"
)

const docs = "../docs/metrics.md"

// table returns the table of docs/metrics.md.
func table() string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Unit | Meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range families {
		labels := "`guard`"
		if f.label != "" {
			labels += ", `" + f.label + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.name, f.kind, labels, f.unit, f.help)
	}
	return b.String()
}

// values returns the lines of docs/metrics.md that list what the labels of e can be.
func values(e *exposition) string {
	var b strings.Builder
	for _, f := range families {
		if f.label == "" {
			continue
		}
		var v []string
		for _, s := range e.byName[f.name].series {
			if l := "`" + s.label(f.label) + "`"; !slices.Contains(v, l) { // a histogram has one series a bucket
				v = append(v, l)
			}
		}
		fmt.Fprintf(&b, "- `%s`: %s\n", f.label, strings.Join(v, ", "))
	}
	return b.String()
}

// between returns the parts of text before, between and after two lines.
func between(t *testing.T, text, begin, end string) (before, middle, after string) {
	t.Helper()
	head, rest, ok1 := strings.Cut(text, begin+"\n")
	middle, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s lacks the lines %s and %s", docs, begin, end)
	}
	return head + begin + "\n", middle, end + after
}

func TestDocsListEveryMetric(t *testing.T) {
	b, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	m := New()
	mustRegister(t, m, newGuard(t, limiter.Config{Name: "any"}))
	e := mustParse(t, read(t, m))
	for _, part := range []struct{ begin, end, want string }{
		{"<!-- metrics -->", "<!-- end of metrics -->", table()},
		{"<!-- values -->", "<!-- end of values -->", values(e)},
	} {
		before, got, after := between(t, text, part.begin, part.end)
		if got == part.want {
			continue
		}
		if !*update {
			t.Errorf("%s, between %s and its end (-update rewrites it)\n got\n%s\nwant\n%s", docs, part.begin, got, part.want)
			continue
		}
		text = before + part.want + after
	}
	if *update && text != string(b) {
		if err := os.WriteFile(docs, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	n := 0
	for _, f := range e.families {
		n += len(f.series)
	}
	if want := fmt.Sprintf("A guard has %d series", n); !strings.Contains(text, want) {
		t.Errorf("%s does not say: %s", docs, want)
	}

	known := map[string]bool{}
	for _, f := range families {
		known[f.name] = true
		if f.kind == histogram {
			known[f.name+"_bucket"], known[f.name+"_sum"], known[f.name+"_count"] = true, true, true
		}
	}
	for _, name := range regexp.MustCompile(`\bflyball_\w+`).FindAllString(text, -1) {
		if !known[name] {
			t.Errorf("%s mentions %s, which does not exist", docs, name)
		}
	}
}
