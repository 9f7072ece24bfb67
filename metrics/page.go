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

// add adds the metrics fs of all guards or pools. A metric without series is not mentioned.
func add[S any](p *page, fs []family[S], samples []S) {
	if len(samples) == 0 {
		return
	}
	for _, f := range fs {
		p.name = f.name
		p.add("# HELP ", f.name, " ", f.help, "\n# TYPE ", f.name, " ", f.kind, "\n")
		for i := range samples {
			f.write(p, &samples[i])
		}
	}
}

// series begins a line: the metric's name with a suffix, the label of a guard or pool and, when it has a name, one more. A
// number must follow.
func (p *page) series(of, suffix, label, value string) *page {
	p.add(p.name, suffix, "{", of)
	if label != "" {
		p.add(",", label, `="`, value, `"`) // our own names: nothing to escape
	}
	p.add("} ")
	return p
}

// series2 is series with two labels more.
func (p *page) series2(of, suffix, label, value, label2, value2 string) *page {
	p.add(p.name, suffix, "{", of, ",", label, `="`, value, `",`, label2, `="`, value2, `"} `)
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
