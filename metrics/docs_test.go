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

// table returns a table of docs/metrics.md, of the metrics of what the label of tells.
func table[S any](of string, families []family[S]) string {
	var b strings.Builder
	b.WriteString("| Metric | Type | Labels | Unit | Meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, f := range families {
		labels := "`" + of + "`"
		if f.label != "" {
			labels += ", `" + f.label + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.name, f.kind, labels, f.unit, f.help)
	}
	return b.String()
}

// values returns the lines of docs/metrics.md that list what the labels of e can be.
func values[S any](e *exposition, families []family[S]) string {
	var b strings.Builder
	for _, f := range families {
		if f.label == "" || f.label == "key" {
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
	pool := New()
	if err := pool.RegisterPool(newPool(t, "any", "a")); err != nil {
		t.Fatal(err)
	}
	e := mustParse(t, read(t, m))
	for _, part := range []struct{ begin, end, want string }{
		{"<!-- metrics -->", "<!-- end of metrics -->", table("guard", families)},
		{"<!-- metrics of pools -->", "<!-- end of metrics of pools -->", table("pool", poolFamilies)},
		{"<!-- values -->", "<!-- end of values -->", values(e, families)},
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

	count := func(e *exposition, keys bool) (n int) {
		for _, f := range e.families {
			if strings.HasPrefix(f.name, "flyball_key_") == keys {
				n += len(f.series)
			}
		}
		return n
	}
	ofPool := mustParse(t, read(t, pool))
	for _, want := range []string{
		fmt.Sprintf("A guard has %d series", count(e, false)),
		fmt.Sprintf("A pool has %d series and %d for each key", count(ofPool, false), count(ofPool, true)),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say: %s", docs, want)
		}
	}

	known := map[string]bool{}
	know(known, families)
	know(known, poolFamilies)
	for _, name := range regexp.MustCompile(`\bflyball_\w+`).FindAllString(text, -1) {
		if !known[name] {
			t.Errorf("%s mentions %s, which does not exist", docs, name)
		}
	}
}

func know[S any](known map[string]bool, families []family[S]) {
	for _, f := range families {
		known[f.name] = true
		if f.kind == histogram {
			known[f.name+"_bucket"], known[f.name+"_sum"], known[f.name+"_count"] = true, true, true
		}
	}
}
