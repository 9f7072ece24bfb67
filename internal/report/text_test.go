package report

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares got with testdata/name, or rewrites it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s", path, got)
	}
}

// summary has the two measures that decide and a little more.
func summary(goodput, perOK float64) Summary {
	return Summary{
		Regret: math.NaN(), RegretStatic: math.NaN(), RegretPiecewise: math.NaN(),
		OK: 1000, Rejected429: int64(1000 * perOK), Goodput: goodput, RejectedPerOK: perOK,
		P50: 120 * time.Millisecond, P99: 2500 * time.Millisecond, Settle: 8 * time.Second, Settled: true,
	}
}

// five is a report with each outcome a scenario can have.
func five() *Report {
	run := func(name string, goodput, perOK float64) Run {
		return Run{Controller: name, Ours: name == "ours", Summary: summary(goodput, perOK)}
	}
	slow := run("fixed", 0.96, 0)
	slow.Summary.P99, slow.Summary.Settled = 41800*time.Millisecond, false
	dead := run("no guard", 0, math.Inf(1))
	dead.Summary.P50, dead.Summary.P99, dead.Summary.NoLevel = -1, -1, true
	best := run("best static", 1, 0)
	best.Reference = true
	return &Report{
		Command: "simulate -seed 1", Seed: 1, Seeds: 4,
		Scenarios: []Scenario{
			{Name: "rpm-bucket", Intent: "A bucket of 600 requests a minute.", Duration: 10 * time.Minute,
				Runs: []Run{run("gcl-aimd", 0.98, 0.44), run("ours", 0.97, 0.02), best}},
			{Name: "cap", Intent: "Ten in flight, then 429.", Duration: 90 * time.Second,
				Runs: []Run{run("no guard", 0.62, 22.4), run("gcl-aimd", 0.91, 0.031), run("ours", 0.985, 0)}},
			{Name: "outage-30s", Intent: "Gone for 30 s.", Duration: 5 * time.Minute,
				Runs: []Run{dead, slow, run("ours", 0.91, 0)}},
			{Name: "burst", Duration: 5 * time.Minute,
				Runs: []Run{run("fixed", 0.955, 0.005), run("ours", 0.95, 0)}},
			{Name: "cut-short", Interrupted: true, Runs: []Run{run("ours", 0.95, 0)}},
		},
		Interrupted: true,
	}
}

func text(t *testing.T, r *Report, o TextOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := WriteText(&b, r, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWriteTextGolden(t *testing.T) {
	golden(t, "five.txt", []byte(text(t, five(), TextOptions{})))
	golden(t, "five-color.txt", []byte(text(t, five(), TextOptions{Color: true})))
	golden(t, "synthetic.txt", []byte(text(t, synthetic(6, 6, 120), TextOptions{})))
}

func TestWriteTextAligns(t *testing.T) {
	r := five()
	r.Scenarios = r.Scenarios[1:2]
	r.Scenarios[0].Runs[0].Controller = "制限なし"     // eight columns
	r.Scenarios[0].Runs[1].Controller = "e\u0301a" // two: e, combining accent, a
	out := text(t, r, TextOptions{})
	end := -1
	for line := range strings.Lines(out) {
		at := strings.Index(line, " %")
		if at < 0 || strings.Contains(line, "oracle") || strings.Contains(line, "best") {
			continue
		}
		if got := columns(line[:at]); end >= 0 && got != end {
			t.Errorf("goodput ends at column %d, want %d:\n%s", got, end, out)
		} else {
			end = got
		}
	}
	if end < 0 {
		t.Fatalf("no goodput found in\n%s", out)
	}
}

func TestWriteTextNeutralisesControlCharacters(t *testing.T) {
	r := five()
	r.Scenarios[0].Name = "a\x1b[2Jb\nc\u202ed"
	r.Scenarios[0].Runs[0].Controller = "x\x1b]0;t\a"
	r.Scenarios[0].Intent = "line\rline"
	out := text(t, r, TextOptions{})
	if i := strings.IndexAny(out, "\x1b\a\r\u202e"); i >= 0 {
		t.Errorf("control character at byte %d of %q", i, out)
	}
}

func TestWriteTextColorOnlyAddsAttributes(t *testing.T) {
	colored := text(t, five(), TextOptions{Color: true})
	plain := strings.NewReplacer(ansiBold, "", ansiFaint, "", ansiOff, "").Replace(colored)
	if want := text(t, five(), TextOptions{}); plain != want {
		t.Errorf("without attributes: %q, want %q", plain, want)
	}
}

func TestWriteTextEmpty(t *testing.T) {
	if got, want := text(t, &Report{}, TextOptions{}), "\nno scenario could be ranked.\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out := text(t, &Report{Scenarios: []Scenario{{Name: "x"}}}, TextOptions{})
	if !strings.Contains(out, "no controller has run") {
		t.Errorf("got %q", out)
	}
}

func TestWriteTextReturnsTheError(t *testing.T) {
	want := errors.New("disk full")
	if err := WriteText(failing{want}, synthetic(2, 6, 20), TextOptions{}); !errors.Is(err, want) {
		t.Errorf("WriteText = %v, want %v", err, want)
	}
}

// failing is a writer that fails at once.
type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
