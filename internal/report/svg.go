package report

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The colours of pictures: the light ones of assets/report.css.
const (
	svgInk   = "#14181f"
	svgMuted = "#5b6472"
	svgFaint = "#e3e6eb"
	svgOurs  = "#0b57d0"
)

var svgRivals = [rivalColors]string{"#7d8694", "#d55e00", "#00855f", "#b8468b", "#a07400", "#2a9db0", "#7a4a2b"}

// goodputColors and rejectedColors are the steps of goodputHeat and rejectedHeat.
var (
	goodputColors  = [11]string{"#f6f8fb", "#f1f5fb", "#eaf1fa", "#e2ecf9", "#d9e6f8", "#cddff7", "#bcd4f6", "#a5c5f3", "#86b0ee", "#6299e8", "#1a5fcf"}
	rejectedColors = [7]string{"#f6f7f8", "#fdf1e6", "#fce3cb", "#fad1aa", "#f7bb83", "#f2a25b", "#ea8835"}
)

// svgWriter writes a picture of a fixed size on white, which can be shown anywhere.
type svgWriter struct{ b *bufio.Writer }

func (s *svgWriter) begin(w, h int, title string) {
	fmt.Fprintf(s.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="system-ui, 'Liberation Sans', sans-serif" font-size="12" role="img">`+"\n", w, h, w, h)
	fmt.Fprintf(s.b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", xmlText(title))
}

func (s *svgWriter) end() error {
	s.b.WriteString("</svg>\n")
	return s.b.Flush()
}

func (s *svgWriter) text(x, y float64, attributes, text string) {
	if attributes != "" {
		attributes = " " + attributes
	}
	fmt.Fprintf(s.b, "<text x=\"%s\" y=\"%s\"%s>%s</text>\n", svgNumber(x), svgNumber(y), attributes, xmlText(text))
}

func (s *svgWriter) line(x1, y1, x2, y2 float64, color string) {
	fmt.Fprintf(s.b, "<path d=\"M%s %sL%s %s\" stroke=\"%s\" fill=\"none\"/>\n", svgNumber(x1), svgNumber(y1), svgNumber(x2), svgNumber(y2), color)
}

func svgNumber(v float64) string {
	if !finite(v) {
		return "0"
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// xmlText escapes text and leaves out what XML cannot hold.
func xmlText(s string) string {
	var b strings.Builder
	for _, r := range printable(s) {
		switch r {
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '&':
			b.WriteString("&amp;")
		case '"':
			b.WriteString("&#34;")
		case '\uFFFE', '\uFFFF':
			b.WriteRune('\uFFFD')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// svgColor returns the colour of a controller.
func svgColor(c controllerView) string {
	switch {
	case c.Ours:
		return svgOurs
	case c.Reference:
		return svgMuted
	}
	var n int
	fmt.Sscanf(c.Class, "c%d", &n) //nolint:errcheck // no number is the first colour
	return svgRivals[n%rivalColors]
}

// WriteSVG writes the matrix of scenarios and controllers as a picture: goodput as a share of the oracle's and below it 429s per
// success. The same report gives the same bytes. It returns the first error of w.
func WriteSVG(w io.Writer, r *Report) error {
	list, index := controllers(r)
	const left, top, cellW, cellH = 170, 78, 104, 40
	s := &svgWriter{bufio.NewWriter(w)}
	width, height := left+cellW*max(1, len(list))+16, top+cellH*max(1, len(r.Scenarios))+34
	v := Judge(r)
	s.begin(width, height, title(r)+": goodput and 429s per success")
	s.text(16, 28, `font-size="16" font-weight="600" fill="`+svgInk+`"`, short(sentenceCase(v.Headline), width/9))
	s.text(16, 46, `fill="`+svgMuted+`"`, short("goodput as a share of the oracle’s; below it 429s per success", width/6))
	for i, c := range list {
		x := float64(left + i*cellW)
		fmt.Fprintf(s.b, "<rect x=\"%s\" y=\"%d\" width=\"%d\" height=\"4\" rx=\"2\" fill=\"%s\"/>\n", svgNumber(x), top-8, cellW-4, svgColor(c))
		s.text(x, top-14, `fill="`+svgMuted+`"`, short(c.Name, 16))
	}
	for i := range r.Scenarios {
		sc := &r.Scenarios[i]
		y := float64(top + i*cellH)
		s.text(16, y+17, `font-weight="600" fill="`+svgInk+`"`, short(sc.Name, 22))
		s.text(16, y+32, `fill="`+svgMuted+`"`, string(v.Scenarios[i].Outcome))
		for k := range sc.Runs {
			run := &sc.Runs[k]
			x := float64(left + index[run.Controller]*cellW)
			box := func(dy, h float64, color, ink, text string) {
				fmt.Fprintf(s.b, "<rect x=\"%s\" y=\"%s\" width=\"%d\" height=\"%s\" fill=\"%s\"/>\n", svgNumber(x), svgNumber(y+dy), cellW-4, svgNumber(h), color)
				s.text(x+cellW-12, y+dy+h-5, `text-anchor="end" fill="`+ink+`"`, text)
			}
			color, ink := "#f5f6f8", svgInk
			if heat := goodputHeat(run.Summary); heat != "" {
				n, _ := strconv.Atoi(heat[1:])
				color = goodputColors[n]
				if n == 10 {
					ink = "#fff"
				}
			}
			box(0, 20, color, ink, formatShare(run.Summary.Goodput))
			color = "#f5f6f8"
			if heat := rejectedHeat(run.Summary); heat != "" {
				n, _ := strconv.Atoi(heat[1:])
				color = rejectedColors[n]
			}
			box(20, 17, color, svgInk, formatPerOK(run.Summary.RejectedPerOK))
		}
	}
	s.text(16, float64(height-12), `font-size="10" fill="`+svgMuted+`"`, short(firstLine(r.Command), width/6))
	return s.end()
}

func sentenceCase(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func firstLine(s string) string { line, _, _ := strings.Cut(s, "\n"); return line }

// svgPanels are the stacked charts of a scenario's picture.
var svgPanels = []struct {
	title  string
	of     func(*Series) []float64
	oracle func(*Oracle) []float64
	rate   bool
}{
	{"limit (requests)", func(s *Series) []float64 { return s.Limit }, func(o *Oracle) []float64 { return o.Limit }, false},
	{"pace (requests/s)", func(s *Series) []float64 { return s.Pace }, nil, false},
	{"in flight (requests)", func(s *Series) []float64 { return s.InFlight }, nil, false},
	{"goodput (successes/s)", func(s *Series) []float64 { return s.Goodput }, func(o *Oracle) []float64 { return o.Rate }, true},
	{"429s (per second)", func(s *Series) []float64 { return s.Rejected }, nil, true},
	{"waiting (requests)", func(s *Series) []float64 { return s.Waiting }, nil, false},
}

// WriteTimelineSVG writes a scenario's time lines as a picture: limit, pace, in flight, goodput, 429s and waiting, one below the other, a colour for
// each controller, with the oracle's level dashed and, where there are seeds, ours with its band. It returns the first error of w.
func WriteTimelineSVG(w io.Writer, r *Report, sc *Scenario) error {
	list, index := controllers(r)
	const width, left, right, panelH, gap, top = 960, 60, 16, 110, 30, 84
	s := &svgWriter{bufio.NewWriter(w)}
	var panels []int
	for i, p := range svgPanels {
		for k := range sc.Runs {
			if drawable(p.of(&sc.Runs[k].Series)) {
				panels = append(panels, i)
				break
			}
		}
	}
	height := top + len(panels)*(panelH+gap) + 24
	s.begin(width, height, sc.Name)
	s.text(16, 26, `font-size="16" font-weight="600" fill="`+svgInk+`"`, short(sc.Name, 60))
	s.text(16, 44, `fill="`+svgMuted+`"`, short(sc.Intent, 150))
	x := 16.0
	for k := range sc.Runs {
		c := list[index[sc.Runs[k].Controller]]
		fmt.Fprintf(s.b, "<rect x=\"%s\" y=\"57\" width=\"14\" height=\"4\" rx=\"2\" fill=\"%s\"/>\n", svgNumber(x), svgColor(c))
		s.text(x+20, 63, `fill="`+svgInk+`"`, short(c.Name, 24))
		x += 34 + 7*float64(len([]rune(short(c.Name, 24))))
	}
	span := sc.Duration.Seconds()
	for k := range sc.Runs {
		span = max(span, float64(longest(sc.Runs[k].Series))*sc.Runs[k].Series.Step.Seconds())
	}
	if span <= 0 {
		span = 1
	}
	for n, i := range panels {
		p := svgPanels[i]
		base := float64(top + n*(panelH+gap) + panelH)
		s.text(left, base-panelH-4, `fill="`+svgMuted+`"`, p.title)
		most := 0.0
		for k := range sc.Runs {
			for _, v := range p.of(&sc.Runs[k].Series) {
				if finite(v) {
					most = max(most, v)
				}
			}
		}
		if most == 0 {
			most = 1
		}
		px := func(t float64) float64 { return left + t/span*(width-left-right) }
		py := func(v float64) float64 { return base - min(max(v, 0)/most, 1.02)*panelH }
		for _, share := range []float64{0, 0.5, 1} {
			s.line(left, py(share*most), width-right, py(share*most), svgFaint)
			s.text(left-6, py(share*most)+4, `text-anchor="end" font-size="10" fill="`+svgMuted+`"`, formatRate(share*most))
		}
		// Ours last, so that it lies on top.
		for pass := range 2 {
			for k := range sc.Runs {
				run := &sc.Runs[k]
				c := list[index[run.Controller]]
				if c.Ours != (pass == 1) {
					continue
				}
				step := run.Series.Step.Seconds()
				if c.Ours {
					if d := bandPath(p.of(&run.Low), p.of(&run.High), step, px, py); d != "" {
						fmt.Fprintf(s.b, "<path d=\"%s\" fill=\"%s\" fill-opacity=\"0.15\"/>\n", d, svgColor(c))
					}
				}
				width := "1.1"
				if c.Ours {
					width = "2"
				}
				if d := linePath(p.of(&run.Series), step, p.rate, px, py); d != "" {
					fmt.Fprintf(s.b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%s\" stroke-linejoin=\"round\"/>\n", d, svgColor(c), width)
				}
			}
		}
		if p.oracle != nil {
			if d := linePath(p.oracle(&sc.Oracle), oracleStep(sc).Seconds(), false, px, py); d != "" {
				fmt.Fprintf(s.b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-dasharray=\"4 4\"/>\n", d, svgInk)
			}
		}
	}
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		anchor := map[float64]string{0: "start", 1: "end"}[share]
		if anchor == "" {
			anchor = "middle"
		}
		s.text(left+share*(width-left-right), float64(height-14), `font-size="10" text-anchor="`+anchor+`" fill="`+svgMuted+`"`, formatFine(share*span)+" s")
	}
	return s.end()
}

// linePath draws values; rates are averaged so that at most some 240 points are drawn.
func linePath(values []float64, step float64, rate bool, px, py func(float64) float64) string {
	if !drawable(values) || !(step > 0) {
		return ""
	}
	var b strings.Builder
	pen := false
	point := func(t, v float64) {
		if !finite(v) {
			pen = false
			return
		}
		letter := "L"
		if !pen {
			letter = "M"
		}
		b.WriteString(letter + svgNumber(px(t)) + " " + svgNumber(py(v)))
		pen = true
	}
	if rate {
		means, k := meansOf(values, ratePoints)
		for i, v := range means {
			point((float64(i)+0.5)*float64(k)*step, v)
		}
		return b.String()
	}
	for _, i := range downsample(values, 600) {
		point((float64(i)+0.5)*step, values[i])
	}
	return b.String()
}

func bandPath(low, high []float64, step float64, px, py func(float64) float64) string {
	if !drawable(low) || len(low) != len(high) {
		return ""
	}
	n := (len(low) + ratePoints - 1) / ratePoints
	var d strings.Builder
	var up, down []string
	end := func() { // a band never crosses a gap
		if len(up) > 0 {
			slices.Reverse(down)
			d.WriteString("M" + strings.Join(up, "L") + "L" + strings.Join(down, "L") + "Z")
		}
		up, down = up[:0], down[:0]
	}
	for i := 0; i < len(low); i += n {
		a, b := extremes(low, high, i, min(i+n, len(low)))
		if !finite(a) || !finite(b) {
			end()
			continue
		}
		t := px((float64(i) + float64(n)/2) * step)
		up = append(up, svgNumber(t)+" "+svgNumber(py(b)))
		down = append(down, svgNumber(t)+" "+svgNumber(py(a)))
	}
	end()
	return d.String()
}

// extremes returns the smallest of low and the largest of high in [from, to), NaN where there is none.
func extremes(low, high []float64, from, to int) (a, b float64) {
	a, b = math.NaN(), math.NaN()
	for i := from; i < to; i++ {
		if finite(low[i]) && !(a <= low[i]) {
			a = low[i]
		}
		if finite(high[i]) && !(b >= high[i]) {
			b = high[i]
		}
	}
	return a, b
}
