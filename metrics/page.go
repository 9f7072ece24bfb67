package metrics

import (
	"strconv"
	"strings"
)

// pageSize is about what one guard takes of a page, in bytes.
const pageSize = 6 << 10

// page is metrics in the text format. VictoriaMetrics' own writers leave out HELP, and TYPE unless a switch
// for the whole process is on; without TYPE a reader cannot tell a histogram from counters.
type page struct {
	b    []byte
	name string // of the family that is being written
}

// family adds a metric of all guards. A metric without series is not mentioned.
func (p *page) family(f *family, samples []sample) {
	if len(samples) == 0 {
		return
	}
	p.name = f.name
	p.add("# HELP ", f.name, " ", f.help, "\n# TYPE ", f.name, " ", f.kind, "\n")
	for i := range samples {
		f.write(p, &samples[i])
	}
}

// series begins a line: the metric's name with a suffix, the guard's label and, when it has a name, one more. A
// number must follow.
func (p *page) series(s *sample, suffix, label, value string) *page {
	p.add(p.name, suffix, "{", s.label)
	if label != "" {
		p.add(",", label, `="`, value, `"`) // our own names: nothing to escape
	}
	p.add("} ")
	return p
}

// series2 is series with two labels more.
func (p *page) series2(s *sample, suffix, label, value, label2, value2 string) *page {
	p.add(p.name, suffix, "{", s.label, ",", label, `="`, value, `",`, label2, `="`, value2, `"} `)
	return p
}

func (p *page) uint(v uint64)   { p.b = append(strconv.AppendUint(p.b, v, 10), '\n') }
func (p *page) int(v int)       { p.b = append(strconv.AppendInt(p.b, int64(v), 10), '\n') }
func (p *page) float(v float64) { p.add(formatFloat(v), "\n") }

func (p *page) add(parts ...string) {
	for _, s := range parts {
		p.b = append(p.b, s...)
	}
}

func formatFloat(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// labelOf returns a guard's name as a label can hold it. NUL is allowed by the letter of the format,
// but ends the input for Prometheus' scanner.
func labelOf(name string) string {
	const instead = "\uFFFD"
	return strings.ReplaceAll(strings.ToValidUTF8(name, instead), "\x00", instead)
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// escape returns a label's value as it stands between quotes.
func escape(v string) string { return escaper.Replace(v) }
