package report

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/internal/stats"
)

// wellFormed reports what keeps a picture from being XML.
func wellFormed(picture []byte) error {
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		if _, err := d.Token(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// Pictures and CSV are whole whatever names and values the report has.
func TestPicturesOfAnything(t *testing.T) {
	reports := map[string]*Report{"full": full(), "five": five(), "undefined": undefined(), "nothing": {}}
	for _, name := range hostile {
		reports[name] = named(name)
	}
	for name, r := range reports {
		var b bytes.Buffer
		check := func(what string, err error) {
			t.Helper()
			if err == nil {
				err = wellFormed(b.Bytes())
			}
			if err != nil || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
				t.Errorf("%.40q: %s: %v\n%.300s", name, what, err, b.String())
			}
			b.Reset()
		}
		check("matrix", WriteSVG(&b, r))
		for i := range r.Scenarios {
			check("time lines", WriteTimelineSVG(&b, r, &r.Scenarios[i]))
		}
		for _, write := range []func(io.Writer, *Report) error{WriteCSV, WriteSeriesCSV} {
			if err := write(&b, r); err != nil {
				t.Fatal(err)
			}
			if _, err := csv.NewReader(&b).ReadAll(); err != nil {
				t.Errorf("%.40q: %v", name, err)
			}
			b.Reset()
		}
	}
}

func TestPlot(t *testing.T) {
	nan := math.NaN()
	share, _ := FindFigure("score")
	for name, p := range map[string]*Plot{
		"curve": {Title: "<score>", X: "a&b", Columns: []string{"1", "2", "3"}, Values: []float64{0.5, nan, 0.9}, Intervals: []stats.Interval{{Low: 0.4, High: 0.6}, {Low: nan, High: nan}, {Low: 0.8, High: 1}}},
		"map":   {X: "a", Y: "b", Columns: []string{"1", "2"}, Rows: []string{"x", "y"}, Values: []float64{0.1, 0.2, nan}},
		"flat":  {Columns: []string{"1", "2"}, Values: []float64{0.5, 0.5}},
		"empty": {},
		"nan":   {Columns: []string{"1"}, Values: []float64{nan}},
	} {
		p.Format = share.Format
		var b bytes.Buffer
		if err := WritePlotSVG(&b, p); err != nil {
			t.Fatal(err)
		}
		if err := wellFormed(b.Bytes()); err != nil || strings.Contains(b.String(), "NaN") {
			t.Errorf("%s: %v\n%s", name, err, b.String())
		}
	}
	if err := WritePlotSVG(failing{io.ErrClosedPipe}, &Plot{Format: share.Format}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

// Keys that begin alike can be told apart.
func TestPlotNamesItsRows(t *testing.T) {
	share, _ := FindFigure("score")
	var b bytes.Buffer
	p := &Plot{Format: share.Format, X: "guard.adaptive.backoff", Y: "guard.adaptive.epoch", Columns: []string{"1", "2", "3", "4"}, Rows: []string{"x", "y"}, Values: make([]float64, 8)}
	if err := WritePlotSVG(&b, p); err != nil || !strings.Contains(b.String(), "guard.adaptive.backoff →") || !strings.Contains(b.String(), "guard.adaptive.epoch ↓") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// Where there is no value there is no band, and none leads across.
func TestBandOfGaps(t *testing.T) {
	nan := math.NaN()
	same := func(v float64) float64 { return v }
	low, high := []float64{1, 1, nan, nan, 2, 2}, []float64{3, 3, nan, nan, 4, 4}
	if got, want := bandPath(low, high, 1, same, same), "M0.5 3L1.5 3L1.5 1L0.5 1ZM4.5 4L5.5 4L5.5 2L4.5 2Z"; got != want {
		t.Errorf("bandPath = %s, want %s", got, want)
	}
	if got := bandPath([]float64{nan, nan}, []float64{nan, nan}, 1, same, same); got != "" {
		t.Errorf("of nothing: %s", got)
	}
}

// A cell that a spreadsheet would run as a formula is made a text.
func TestCellText(t *testing.T) {
	for _, s := range []string{"=1+1", "+1", "-1", "@x"} {
		if got := cellText(s); got != "'"+s {
			t.Errorf("cellText(%q) = %q", s, got)
		}
	}
}

func TestContrast(t *testing.T) {
	r := &Report{Scenarios: []Scenario{
		{Name: "up", Runs: []Run{seeded("a", 0.7, 0.4, 0.71, 0.42, 0.72, 0.41), seeded("b", 0.9, 0.01, 0.91, 0.02, 0.92, 0.01)}},
		{Name: "down", Runs: []Run{seeded("a", 0.9, 0.01, 0.91, 0.02, 0.92, 0.01), seeded("b", 0.7, 0.4, 0.71, 0.42, 0.72, 0.41)}},
		{Name: "same", Runs: []Run{seeded("a", 0.9, 0), seeded("b", 0.9, 0)}},
		{Name: "alone", Runs: []Run{seeded("a", 0.9, 0)}},
	}}
	c := ContrastOf(r, "a", "b", nil)
	if got, want := c.Closing(), "b against a, of 3 scenarios: better in 1 (up), equivalent in 0, worse in 1 (down), inconclusive in 1 (same)."; got != want {
		t.Errorf("Closing = %q, want %q", got, want)
	}
	var b bytes.Buffer
	if err := c.WriteText(&b, TextOptions{}); err != nil || !strings.Contains(b.String(), "+20.0 points [+20.0, +20.0]") {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := c.WriteJSON(&b); err != nil || !strings.Contains(b.String(), `"verdict":"better"`) {
		t.Errorf("%v\n%s", err, b.String())
	}
	if got := (&Contrast{}).Closing(); got != "nothing could be compared." {
		t.Errorf("Closing of nothing = %q", got)
	}
}

func TestBands(t *testing.T) {
	one := func(v float64) Series {
		return Series{Step: 1e9, Limit: []float64{v, v, math.NaN()}, Goodput: []float64{v, v, v}}
	}
	low, high := Bands([]Series{one(1), one(2), one(3), one(4)})
	if low.Limit[0] != 1 || high.Limit[0] != 4 || !math.IsNaN(low.Limit[2]) || low.Goodput[1] != 1 || high.Goodput[1] != 4 || low.Step != 1e9 {
		t.Errorf("bands %+v, %+v", low, high)
	}
	if low, high := Bands([]Series{one(1), one(2)}); longest(low)+longest(high) != 0 {
		t.Error("two seeds have a band")
	}
	if low, _ := Bands([]Series{one(1), one(2), {Step: 2e9, Limit: []float64{1}}}); longest(low) != 0 {
		t.Error("series of different steps have a band")
	}
}
