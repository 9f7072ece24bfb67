package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	stdhtml "html"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

func html(t testing.TB, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// between returns what is in page between the first begin and the next end.
func between(t testing.TB, page []byte, begin, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(page), begin)
	if !ok {
		t.Fatalf("no %q in the page", begin)
	}
	text, _, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatalf("no %q after %q", end, begin)
	}
	return text
}

// chartData decodes the data inside page.
func chartData(t testing.TB, page []byte) (data struct {
	Controllers []struct{ Name string }
	Words       []string
	Scenarios   []struct {
		Name string
		Runs []struct {
			G     *float64
			Lines map[string]any
			D     map[string][]float64
		}
	}
}) {
	t.Helper()
	text := between(t, page, `<script type="application/json" id="data">`, "</script>")
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		t.Fatalf("data: %v in %.200q", err, text)
	}
	return data
}

func TestWriteHTMLIsSmall(t *testing.T) {
	const most = 1_000_000
	for _, test := range []struct{ scenarios, controllers, points int }{
		{6, 6, 600},
		{6, 6, 20_000},
		{12, 8, 3600},
		{1, 1, 50_000},
		{6, 12, 600},
		{70, 12, 400},
	} {
		r := synthetic(test.scenarios, test.controllers, test.points)
		for i := range r.Scenarios {
			for k := range r.Scenarios[i].Runs {
				run := &r.Scenarios[i].Runs[k]
				run.Controller += strings.Repeat("'", k/6) // names are unique
				run.Low, run.High = run.Series, run.Series
				for seed := range uint64(4) {
					run.PerSeed = append(run.PerSeed, SeedSummary{seed, run.Summary})
				}
			}
		}
		if n := len(html(t, r)); n > most {
			t.Errorf("%+v: %d bytes, want at most %d", test, n, most)
		}
	}
}

func TestWriteHTMLIsDeterministic(t *testing.T) {
	first := html(t, synthetic(3, 6, 300))
	for range 3 {
		if !bytes.Equal(html(t, synthetic(3, 6, 300)), first) {
			t.Fatal("the same report gave other bytes")
		}
	}
}

func TestWriteHTMLPolicy(t *testing.T) {
	page := html(t, synthetic(2, 6, 50))
	policy := stdhtml.UnescapeString(between(t, page, `http-equiv="Content-Security-Policy" content="`, `"`))
	style, script := between(t, page, "<style>", "</style>"), between(t, page, "<script>", "</script>")
	want := "default-src 'none'; style-src '" + hash(style) + "'; script-src '" + hash(script) + "'; img-src blob:; base-uri 'none'; form-action 'none'"
	if policy != want {
		t.Errorf("policy %q, want %q", policy, want)
	}
	markup := strings.Replace(strings.Replace(string(page), script, "", 1), style, "", 1)
	for _, forbidden := range []string{`\sstyle\s*=`, `\son[a-z]+\s*=`, `\ssrc\s*=`, `https?:`, `href="[^#]`, `url\(`, `@import`} {
		if found := regexp.MustCompile(forbidden).FindString(markup); found != "" {
			t.Errorf("the markup has %q", found)
		}
	}
	for _, forbidden := range []string{"url(", "@import", "http"} {
		if strings.Contains(style, forbidden) {
			t.Errorf("the style has %q", forbidden)
		}
	}
	for _, forbidden := range []string{"fetch(", "XMLHttpRequest", "import(", "eval(", "innerHTML", "https:"} {
		if strings.Contains(script, forbidden) {
			t.Errorf("the script has %q", forbidden)
		}
	}
}

func TestWriteHTMLShowsTheVerdictAndItsOrigin(t *testing.T) {
	r := five()
	r.Version = "v1.2.3"
	page := stdhtml.UnescapeString(string(html(t, r)))
	v := Judge(r)
	want := []string{v.Headline, "simulate -seed 1", "v1.2.3", "1 and the 3 after it", Rules, "not ranked"}
	for _, s := range v.Scenarios {
		want = append(want, s.Text)
	}
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("the page lacks %q", w)
		}
	}
}

// hostile are names that try to leave their place.
var hostile = []string{
	`</script><script>alert(1)</script>`,
	`<!--<script>`,
	`"><img src=x onerror=alert(1)>`,
	"line\u2028para\u2029end",
	"{{.Title}} ${x} `y`",
	`\u003c/script\u003e`,
	"nul\x00bad\xff\xfeutf",
	"javascript:alert(1)",
	"\u202eright to left",
	"__proto__",
	"'; default-src *",
	"",
}

// named returns a report in which every string is name.
func named(name string) *Report {
	r := synthetic(2, 3, 30)
	r.Title, r.Command, r.Version = name, name, name
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		s.Name, s.Intent, s.Oracle.Note = name, name, name
		s.Runs[0].Ours = true
		for j := range s.Runs {
			if j > 0 {
				s.Runs[j].Controller = fmt.Sprint(name, j)
			} else {
				s.Runs[j].Controller = name
			}
			for k := range s.Runs[j].Decisions {
				s.Runs[j].Decisions[k].Cause, s.Runs[j].Decisions[k].Binding = name, name
			}
		}
	}
	return r
}

// checkNamed checks that the markup of a page is the same whatever the names are.
func checkNamed(t testing.TB, name string) {
	t.Helper()
	page := html(t, named(name))
	for _, tag := range []string{"<script", "</script", "<style", "</style", "<meta", "<section", "<article", "<button", "<img", "<!--"} {
		got, want := bytes.Count(page, []byte(tag)), bytes.Count(harmless(t), []byte(tag))
		if got != want {
			t.Errorf("%q: %d times %s, want %d", name, got, tag, want)
		}
	}
	data := chartData(t, page)
	want := strings.ToValidUTF8(name, "\ufffd")
	if strings.ToValidUTF8(name, "") == name && data.Controllers[0].Name != want {
		t.Errorf("controller is %q in the data, want %q", data.Controllers[0].Name, want)
	}
}

var harmlessPage []byte

func harmless(t testing.TB) []byte {
	if harmlessPage == nil {
		harmlessPage = html(t, named("harmless"))
	}
	return harmlessPage
}

func TestWriteHTMLHostileNames(t *testing.T) {
	for _, name := range hostile {
		if name == "" {
			continue // empty texts have no element; the fuzz seed covers them
		}
		checkNamed(t, name)
		if text := between(t, html(t, named(name)), `id="data">`, "</script>"); strings.ContainsAny(text, "<>&\u2028\u2029") {
			t.Errorf("%q: the data has characters that must be escaped", name)
		}
	}
}

func FuzzWriteHTML(f *testing.F) {
	for _, name := range hostile {
		f.Add(name, 0.9, 0.1, 5)
	}
	f.Add("x", math.NaN(), math.Inf(1), 0)
	f.Add("x", -1.0, -1e308, 1)
	f.Fuzz(func(t *testing.T, name string, goodput, value float64, n int) {
		r := named(name)
		run := &r.Scenarios[0].Runs[0]
		run.Summary.Goodput, run.Summary.RejectedPerOK, run.Summary.MeanLimit = goodput, value, value
		run.Series.Limit = levels(value, float64(n%1000))
		run.Series.Rejected = levels(goodput, float64(n%2000))
		page := html(t, r)
		if got := bytes.Count(page, []byte("<script")); got != 2 {
			t.Errorf("%d scripts, want 2", got)
		}
		chartData(t, page)
		var b bytes.Buffer
		if err := WriteText(&b, r, TextOptions{}); err != nil {
			t.Error(err)
		}
		b.Reset()
		if err := WriteJSON(&b, r); err != nil {
			t.Error(err)
		}
		if !json.Valid(b.Bytes()) {
			t.Errorf("WriteJSON wrote what is not JSON: %.200q", b.Bytes())
		}
	})
}

// undefined is a report with every value that is not defined, and with nothing.
func undefined() *Report {
	nan, inf := math.NaN(), math.Inf(1)
	return &Report{Scenarios: []Scenario{
		{Name: "nothing"},
		{Name: "empty runs", Runs: []Run{{Controller: "ours", Ours: true}, {Controller: "b"}}},
		{Name: "gaps", Duration: 10 * time.Second, Oracle: Oracle{Goodput: nan, Limit: levels(nan, 10), Rate: levels(inf, 10)}, Runs: []Run{
			{Controller: "ours", Ours: true,
				Summary: Summary{Goodput: nan, RejectedPerOK: nan, GoodputLow: nan, GoodputHigh: inf, MeanLimit: inf, P50: -1, P99: -1, Seeds: 3},
				Series: Series{Step: time.Second, Limit: levels(inf, 10), InFlight: levels(nan, 3, 5, 4, nan, 3), Goodput: levels(nan, 10),
					Rejected: levels(-1, 2, 0, 8), Waiting: levels(1e300, 10)},
				Decisions: []Decision{{}, {At: -time.Second, Limit: 5}, {At: time.Hour, Pace: nan}, {At: 5 * time.Second, Pace: inf, Limit: -3}}},
			{Controller: "b", Summary: Summary{RejectedPerOK: inf}, Series: Series{Limit: levels(3, 5)}}, // no step
			{Controller: "b"}, // twice
		}},
		{Name: "too short", Duration: time.Second, Runs: []Run{{Controller: "ours", Series: Series{Step: time.Second, Limit: []float64{3}, InFlight: []float64{0}}}}},
	}}
}

func TestUndefinedValues(t *testing.T) {
	page := html(t, undefined())
	chartData(t, page)
	for _, word := range []string{"NaN", "Inf"} {
		markup := strings.Replace(string(page), scriptSource, "", 1)
		if strings.Contains(markup, word) {
			t.Errorf("the page shows %s", word)
		}
	}
	out := text(t, undefined(), TextOptions{})
	if strings.Contains(out, "NaN") || strings.Contains(out, "Inf") {
		t.Errorf("the text shows an undefined value:\n%s", out)
	}
	chartData(t, html(t, &Report{}))
}

func TestWriteHTMLReturnsTheError(t *testing.T) {
	want := errors.New("disk full")
	if err := WriteHTML(failing{want}, synthetic(1, 2, 20)); !errors.Is(err, want) {
		t.Errorf("WriteHTML = %v, want %v", err, want)
	}
}

func TestRateKeepsTheCount(t *testing.T) {
	values := make([]float64, 1000)
	var sum float64
	for i := range values {
		values[i] = float64(i % 7)
		sum += values[i]
	}
	means, steps := meansOf(values, ratePoints)
	var got float64
	for _, v := range means {
		got += v * float64(steps)
	}
	if steps != 5 || math.Abs(got-sum) > 1e-9 {
		t.Errorf("steps %d, sum %v, want 5 and %v", steps, got, sum)
	}
	line := rateOf(values, 800)
	if line.Steps != 5 || len(line.Values) != 2*len(means) {
		t.Errorf("%d steps, %d characters, want 5 and %d", line.Steps, len(line.Values), 2*len(means))
	}
	// What the page reads is within a pixel of what was written.
	for i, want := range means {
		n := strings.IndexByte(lineDigits, line.Values[2*i])<<6 | strings.IndexByte(lineDigits, line.Values[2*i+1])
		if got := float64(n) / 4095 * float64(line.Max); math.Abs(got-want) > float64(line.Max)/1000 {
			t.Errorf("element %d reads as %v, want %v", i, got, want)
		}
	}
	if gap := encoded([]float64{1, math.NaN(), 0.5}, 1); gap.Values != "__..gA" {
		t.Errorf("a gap reads as %q", gap.Values)
	}
}

func TestDecisionsAreThinnedToTheDeepestCuts(t *testing.T) {
	var ds []Decision
	limit := 10
	for i := range 1000 {
		limit++
		cause := "probe"
		if i%100 == 50 {
			limit, cause = limit/2, "overload"
		}
		ds = append(ds, Decision{At: time.Duration(i) * time.Second, Limit: limit, Cause: cause})
	}
	words := []string{}
	out := decisionsOf(ds, 1000*time.Second, 40, func(s string) int {
		words = append(words, s)
		return len(words) - 1
	})
	if len(out.At) != 40 {
		t.Errorf("%d decisions kept, want 40", len(out.At))
	}
	cuts, all := 0, 0
	for i := range out.At {
		all += 1 + out.More[i]
		if out.Sign[i] < 0 {
			cuts++
			if words[out.Cause[i]] != "overload" || out.Limit[i] >= out.From[i] {
				t.Errorf("cut %d: %s from %d to %d", i, words[out.Cause[i]], out.From[i], out.Limit[i])
			}
		}
	}
	if cuts != 10 || all != 1000 {
		t.Errorf("%d cuts and %d decisions stood for, want 10 and 1000", cuts, all)
	}
}

func TestFigure(t *testing.T) {
	for _, test := range []struct {
		v    float64
		want string
	}{
		{0, "0"}, {math.Copysign(0, -1), "0"}, {12.34567, "12.35"}, {1234567, "1235000"}, {0.00012345, "0.0001234"},
		{math.NaN(), "null"}, {math.Inf(-1), "null"}, {math.MaxFloat64, "1.7976931348623157e+308"},
	} {
		got, err := json.Marshal(figure(test.v))
		if err != nil || string(got) != test.want {
			t.Errorf("figure(%v) = %s, %v, want %s", test.v, got, err, test.want)
		}
	}
}

func BenchmarkWriteHTML(b *testing.B) {
	r := synthetic(6, 6, 600)
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		if err := WriteHTML(&out, r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(out.Len()), "bytes")
}
