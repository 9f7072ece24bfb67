package report

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/browsertest"
)

// open loads page from disk and returns the document after its script has run, and what was written to the console.
func open(t *testing.T, path string, page []byte) (dom, console string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, page, 0o644); err != nil {
		t.Fatal(err)
	}
	dom, lines := browsertest.Open(t, path, "file://"+file, 5*time.Second)
	return dom, strings.Join(lines, "\n")
}

func TestBrowserDrawsTheCharts(t *testing.T) {
	path := browsertest.Find(t)
	r := synthetic(6, 6, 600)
	dom, console := open(t, path, html(t, r))
	if console != "" {
		t.Errorf("the console says:\n%s", console)
	}
	// In each scenario five charts of six controllers, less the limit that "no
	// guard" does not have, and the oracle in three of them.
	lines := len(r.Scenarios) * (5*6 - 1 + 3)
	if want := `data-drawn="` + strconv.Itoa(lines) + `"`; !strings.Contains(dom, want) {
		t.Errorf("the page lacks %s", want)
	}
	for _, test := range []struct {
		part string
		want int
	}{
		{`<path class="line c-ours"`, 6 * 5},
		{`<path class="line oracle"`, 6 * 3},
		{`<path class="tick less c-ours"`, 6},
		{`<circle class="dot c-ours"`, 6},
		{`<path class="same"`, 6},
		{`aria-pressed="true"><span class="key`, 7},
	} {
		if got := strings.Count(dom, test.part); got != test.want {
			t.Errorf("%d times %s, want %d", got, test.part, test.want)
		}
	}
	drawn, _, _ := strings.Cut(dom, `<script type="application/json"`) // the data may have these letters in a row
	if strings.Contains(drawn, `d=""`) || strings.Contains(drawn, "NaN") {
		t.Error("a line is empty or has a point that is not a number")
	}
}

// An interval over two seeds that differ much is far wider than all there can be. It must end where the chart does.
func TestBrowserKeepsIntervalsInTheChart(t *testing.T) {
	path := browsertest.Find(t)
	r := five()
	runs := r.Scenarios[1].Runs
	ours := &runs[len(runs)-1]
	for i, goodput := range []float64{0.4, 0.99} {
		ours.PerSeed = append(ours.PerSeed, SeedSummary{Seed: uint64(i + 1), Summary: summary(goodput, 0.1)})
	}
	dom, console := open(t, path, html(t, r))
	if console != "" {
		t.Errorf("the console says:\n%s", console)
	}
	bars := regexp.MustCompile(`<path class="bar c-ours"[^>]* d="M[-0-9.]+ ([-0-9.]+)V([-0-9.]+)"`).FindAllStringSubmatch(dom, -1)
	if len(bars) == 0 {
		t.Fatal("there is no interval of goodput")
	}
	for _, bar := range bars {
		for _, end := range bar[1:] {
			if at, err := strconv.ParseFloat(end, 64); err != nil || at < 0 || at > 190 {
				t.Errorf("an interval ends at %s, the chart is from 0 to 190", end)
			}
		}
	}
}

// The lines of a scale are where their labels say, however little is drawn; and a run of weeks has a time axis.
func TestBrowserLabelsSmallScales(t *testing.T) {
	path := browsertest.Find(t)
	r := synthetic(1, 2, 1000)
	s := &r.Scenarios[0]
	s.Duration, s.Oracle = 1000*time.Hour, Oracle{}
	for i := range s.Runs {
		s.Runs[i].Low, s.Runs[i].High = Series{}, Series{}
		series := &s.Runs[i].Series
		series.Step = time.Hour
		for k := range series.Goodput {
			series.Goodput[k] = 0.00095
		}
	}
	dom, _ := open(t, path, html(t, r))
	for _, want := range []string{">0.00025</text>", ">0.0005</text>", ">0.00075</text>", ">240 h</text>"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func TestBrowserSurvivesBadInput(t *testing.T) {
	path := browsertest.Find(t)
	all := undefined()
	all.Scenarios = append(all.Scenarios, five().Scenarios...)
	for _, name := range hostile {
		all.Scenarios = append(all.Scenarios, named(name).Scenarios...)
	}
	reports := map[string]*Report{"everything bad at once": all, "nothing": {}}
	for name, r := range reports {
		dom, console := open(t, path, html(t, r))
		if console != "" {
			t.Errorf("%s: the console says:\n%s", name, console)
		}
		if !strings.Contains(dom, "data-drawn=") {
			t.Errorf("%s: the script did not reach its end", name)
		}
	}
}

// The two tests above trust the console: it must report what the policy blocks.
func TestBrowserReportsViolations(t *testing.T) {
	path := browsertest.Find(t)
	page := html(t, synthetic(1, 2, 20))
	_, console := open(t, path, bytes.Replace(page, []byte("</main>"), []byte("<script>document.title = 1</script></main>"), 1))
	if !strings.Contains(console, "Content Security Policy") {
		t.Errorf("a script that the policy does not know ran silently; the console says %q", console)
	}
}
