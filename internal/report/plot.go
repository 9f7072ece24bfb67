package report

import (
	"bufio"
	"fmt"
	"io"
	"math"

	"github.com/flyball-go/flyball/internal/stats"
)

// A Plot is a figure over one parameter, as a curve with its intervals, or over two, as a heat map.
type Plot struct {
	Title, Unit, Command string
	// X is the name of the parameter of the columns, and Y that of the rows; empty for a curve.
	X, Y          string
	Columns, Rows []string
	// Values has the figure of each column, row by row; NaN and what is missing at the end is left open.
	Values    []float64
	Intervals []stats.Interval
	// Format writes a value.
	Format func(float64) string
}

// WritePlotSVG writes a plot as a picture. It returns the first error of w.
func WritePlotSVG(w io.Writer, p *Plot) error {
	s := &svgWriter{bufio.NewWriter(w)}
	low, high := math.Inf(1), math.Inf(-1)
	for i, v := range p.Values {
		if !finite(v) {
			continue
		}
		low, high = min(low, v), max(high, v)
		if len(p.Rows) == 0 && i < len(p.Intervals) && p.Intervals[i].Known() {
			low, high = min(low, p.Intervals[i].Low), max(high, p.Intervals[i].High)
		}
	}
	if low > high {
		low, high = 0, 1
	}
	if high == low {
		high = low + 1
	}
	const left, top = 120, 70
	n := max(1, len(p.Columns))
	if len(p.Rows) > 0 {
		const cellW, cellH = 84, 34
		width, height := left+n*cellW+20, top+len(p.Rows)*cellH+60
		s.begin(width, height, p.Title)
		s.text(16, 28, `font-size="16" font-weight="600" fill="`+svgInk+`"`, short(p.Title, width/10))
		s.text(16, 48, `fill="`+svgMuted+`"`, short(p.Y, width/8)+" ↓")
		s.text(left, 64, `fill="`+svgMuted+`"`, p.X+" →")
		for k, row := range p.Rows {
			y := float64(top + k*cellH)
			s.text(left-8, y+21, `text-anchor="end" fill="`+svgInk+`"`, row)
			for i := range p.Columns {
				at := k*n + i
				if at >= len(p.Values) || !finite(p.Values[at]) {
					continue
				}
				x := float64(left + i*cellW)
				step := int(math.Round(10 * (p.Values[at] - low) / (high - low)))
				ink := svgInk
				if step == 10 {
					ink = "#fff"
				}
				fmt.Fprintf(s.b, "<rect x=\"%s\" y=\"%s\" width=\"%d\" height=\"%d\" fill=\"%s\"/>\n", svgNumber(x), svgNumber(y), cellW-3, cellH-3, goodputColors[step])
				s.text(x+(cellW-3)/2, y+20, `text-anchor="middle" fill="`+ink+`"`, p.Format(p.Values[at]))
			}
		}
		for i, c := range p.Columns {
			s.text(float64(left+i*cellW)+(cellW-3)/2, float64(top+len(p.Rows)*cellH+16), `text-anchor="middle" fill="`+svgInk+`"`, c)
		}
		s.text(16, float64(height-14), `font-size="10" fill="`+svgMuted+`"`, short(p.Command, width/6))
		return s.end()
	}
	const width, plotH = 760, 260
	s.begin(width, top+plotH+70, p.Title)
	s.text(16, 28, `font-size="16" font-weight="600" fill="`+svgInk+`"`, p.Title+" over "+p.X)
	px := func(i int) float64 { return left + 30 + float64(i)*float64(width-left-70)/float64(max(1, n-1)) }
	py := func(v float64) float64 { return top + plotH - (v-low)/(high-low)*plotH }
	for k := range 5 {
		v := low + (high-low)*float64(k)/4
		s.line(left, py(v), width-20, py(v), svgFaint)
		s.text(left-8, py(v)+4, `text-anchor="end" fill="`+svgMuted+`"`, p.Format(v))
	}
	d := ""
	for i, v := range p.Values {
		if i >= n || !finite(v) {
			continue
		}
		letter := "L"
		if d == "" {
			letter = "M"
		}
		d += letter + svgNumber(px(i)) + " " + svgNumber(py(v))
		if i < len(p.Intervals) && p.Intervals[i].Known() {
			fmt.Fprintf(s.b, "<path d=\"M%s %sV%s\" stroke=\"%s\" stroke-width=\"5\" stroke-opacity=\"0.25\"/>\n", svgNumber(px(i)), svgNumber(py(p.Intervals[i].Low)), svgNumber(py(p.Intervals[i].High)), svgOurs)
		}
		fmt.Fprintf(s.b, "<circle cx=\"%s\" cy=\"%s\" r=\"4\" fill=\"%s\"/>\n", svgNumber(px(i)), svgNumber(py(v)), svgOurs)
	}
	if d != "" {
		fmt.Fprintf(s.b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", d, svgOurs)
	}
	every := (n + 11) / 12
	for i, c := range p.Columns {
		if i%every == 0 {
			s.text(px(i), top+plotH+20, `text-anchor="middle" fill="`+svgInk+`"`, c)
		}
	}
	s.text(width/2, top+plotH+40, `text-anchor="middle" fill="`+svgMuted+`"`, p.X)
	s.text(16, top+plotH+60, `font-size="10" fill="`+svgMuted+`"`, short(p.Command, width/6))
	return s.end()
}
