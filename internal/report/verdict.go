package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/flyball-go/flyball/internal/stats"
)

// The measures of a verdict. They are constants, not options, so that every
// report means the same.
const (
	// goodputStep is the smallest difference in goodput that counts: one point of
	// the oracle's goodput (ratio). Less is level.
	goodputStep = 0.01
	// rejectedStep and rejectedRatio together say when 429s per success differ: by
	// at least 0.01 (one 429 in a hundred successes) and by at least a tenth of the
	// larger. Less is level.
	rejectedStep  = 0.01
	rejectedRatio = 0.10
	// rejectionPrice is what one 429 costs when goodput and 429s disagree, in
	// successes: ten 429s undo one success.
	rejectionPrice = 0.1
)

// Alpha is the chance, for each pair of controllers, of a verdict that is not there.
const Alpha = 0.05

// Rules says in words how Judge decides.
const Rules = "Both controllers meet the same seeds, so their differences are taken seed by seed. Goodput differs when it differs by at least 1 point, " +
	"429s per success by at least 0.01 and a tenth of the larger, and the score by at least 1 point: score = goodput × (1 − 0.1 × 429s per success), " +
	"so ten 429s undo one success. A difference counts when its 95 % confidence interval excludes 0 and its p value, adjusted for three figures (Holm), " +
	"is at most 0.05; figures are level when the 90 % interval lies within those bounds. When goodput and 429s agree, or one is level, that decides; " +
	"else the score does. What neither differs nor is level is open: more seeds may tell."

// An Outcome is how our controller fared in a scenario.
type Outcome string

const (
	// Won: it beats every rival.
	Won Outcome = "won"
	// Drew: no rival beats it, and with at least one it is level.
	Drew Outcome = "drew"
	// Lost: at least one rival beats it.
	Lost Outcome = "lost"
	// Open: no rival beats it, and about at least one nothing can be said with these seeds.
	Open Outcome = "open"
	// Unranked: the scenario was interrupted, or ours or every rival is missing.
	Unranked Outcome = "unranked"
)

// Verdict is who won where.
type Verdict struct {
	// Ours is the controller that the verdict is about; empty if the report has
	// none of ours.
	Ours string
	// Scenarios has one element for each scenario of the report.
	Scenarios []ScenarioVerdict
	// Headline is the beginning of Closing, without the exceptions and without a
	// full stop: "ours won 3 of 5 scenarios".
	Headline string
	// Closing sums up in one sentence.
	Closing string
}

// ScenarioVerdict is how our controller fared in one scenario.
type ScenarioVerdict struct {
	Scenario string
	Outcome  Outcome
	// Rival is the rival named in Text: the best of those that beat ours, of
	// those that are level with it, or of all.
	Rival string
	// Text is one sentence, without the name of the scenario.
	Text string
	// Ranked names the controllers from best score to worst; ties keep the order
	// of the report. Empty if Unranked.
	Ranked []string
	// Pairs is how our controller fared against each rival. Empty if Unranked.
	Pairs []PairVerdict
}

// PairVerdict is how our controller fared against a rival.
type PairVerdict struct {
	Rival   string
	Verdict stats.Verdict
	// Figures are goodput, 429s per success and score, with the rival as the baseline. They are empty when there are fewer than two
	// seeds that both met: then the figures are compared as they are, by the same bounds.
	Figures []stats.Comparison
}

// Judge says who won where, by Rules.
func Judge(r *Report) Verdict {
	v := Verdict{Ours: ours(r)}
	for i := range r.Scenarios {
		v.Scenarios = append(v.Scenarios, judge(&r.Scenarios[i], v.Ours))
	}
	v.Headline, v.Closing = closing(r, v)
	return v
}

// ours returns the name of the first controller marked Ours.
func ours(r *Report) string {
	for _, s := range r.Scenarios {
		for _, run := range s.Runs {
			if run.Ours {
				return run.Controller
			}
		}
	}
	return ""
}

func judge(s *Scenario, name string) ScenarioVerdict {
	v := ScenarioVerdict{Scenario: s.Name, Outcome: Unranked}
	if s.Interrupted {
		v.Text = "interrupted, not ranked."
		return v
	}
	var mine *Run
	var rivals []*Run
	for i := range s.Runs {
		switch run := &s.Runs[i]; {
		case run.Reference:
		case run.Controller == name && mine == nil:
			mine = run
		default:
			rivals = append(rivals, run)
		}
	}
	switch {
	case mine == nil && name == "":
		v.Text = "none of the controllers is ours, not ranked."
		return v
	case mine == nil:
		v.Text = name + " did not run, not ranked."
		return v
	case len(rivals) == 0:
		v.Text = describe(name, mine.Summary) + "; no rival ran, not ranked."
		return v
	}

	var winner, open, level, next *Run
	for _, rival := range rivals {
		pair := against(rival, mine, s.alpha())
		v.Pairs = append(v.Pairs, pair)
		switch pair.Verdict {
		case stats.Worse:
			winner = better(winner, rival)
		case stats.Inconclusive:
			open = better(open, rival)
		case stats.Equivalent:
			level = better(level, rival)
		default:
		}
		next = better(next, rival)
	}
	switch {
	case winner != nil:
		v.Outcome, v.Rival = Lost, winner.Controller
		v.Text = describe(winner.Controller, winner.Summary) + "; " + name + " got " + difference(mine.Summary, winner.Summary)
	case open != nil:
		v.Outcome, v.Rival = Open, open.Controller
		v.Text = describe(name, mine.Summary) + "; not decided against " + describeLevel(open)
	case level != nil:
		v.Outcome, v.Rival = Drew, level.Controller
		v.Text = describe(name, mine.Summary) + "; level with " + describeLevel(level)
	default:
		v.Outcome, v.Rival = Won, next.Controller
		v.Text = describe(name, mine.Summary) + "; " + next.Controller + " got " + difference(next.Summary, mine.Summary)
	}
	v.Text += "."
	v.Ranked = rank(s)
	return v
}

// alpha is the level of the scenario's verdicts.
func (s *Scenario) alpha() float64 {
	if s.Alpha > 0 && s.Alpha < 1 {
		return s.Alpha
	}
	return Alpha
}

// Decided reports whether more seeds could change nothing about a scenario's verdicts: our controller is compared with every rival, and none
// of the comparisons is inconclusive. Where none is ours, the first run is compared with all others.
func Decided(s *Scenario) bool {
	at := 0
	for i, run := range s.Runs {
		if run.Ours {
			at = i
			break
		}
	}
	for i := range s.Runs {
		if i == at || s.Runs[i].Reference {
			continue
		}
		if p := against(&s.Runs[i], &s.Runs[at], s.alpha()); len(p.Figures) == 0 || p.Verdict == stats.Inconclusive {
			return false
		}
	}
	return true
}

// against says how mine fares against a rival: over the seeds that both met, or by their summaries when those are fewer
// than two.
func against(rival, mine *Run, alpha float64) PairVerdict {
	p := PairVerdict{Rival: rival.Controller}
	if common, _ := Pair(rival.PerSeed, mine.PerSeed); len(common) >= 2 {
		p.Figures = Compare(rival, mine, figures[:3], alpha)
		p.Verdict = Overall(p.Figures)
		return p
	}
	switch beats(mine.Summary, rival.Summary) {
	case 1:
		p.Verdict = stats.Better
	case -1:
		p.Verdict = stats.Worse
	default:
		p.Verdict = stats.Equivalent
	}
	return p
}

// beats returns 1 if a beats b, -1 if b beats a, and 0 if they are level.
func beats(a, b Summary) int {
	goodput := compareGoodput(a, b)
	rejected := -compareRejected(a, b)
	switch {
	case goodput == rejected || rejected == 0:
		return goodput
	case goodput == 0:
		return rejected
	}
	switch d := score(a) - score(b); {
	case d >= goodputStep:
		return 1
	case d <= -goodputStep:
		return -1
	}
	return 0
}

// compareGoodput returns 1 if a's goodput is higher by a step that counts, -1 if
// it is lower by as much, else 0. An undefined goodput counts as 0.
func compareGoodput(a, b Summary) int {
	// A hair less than the step, so that 0.97 against 0.96 differs whatever its
	// last bit is.
	switch d := goodput(a) - goodput(b); {
	case d >= goodputStep-1e-9:
		return 1
	case d <= -goodputStep+1e-9:
		return -1
	}
	return 0
}

// compareRejected returns 1 if a has more 429s per success, -1 if fewer.
func compareRejected(a, b Summary) int {
	x, y := rejected(a), rejected(b)
	if x == y { // also for two infinities
		return 0
	}
	if d := math.Abs(x - y); d < rejectedStep-1e-9 || d < rejectedRatio*max(x, y) {
		return 0
	}
	if x > y {
		return 1
	}
	return -1
}

// score is the value of the work done as a share of the oracle's: successes less
// rejectionPrice for each 429.
func score(s Summary) float64 {
	g, r := goodput(s), rejected(s)
	if math.IsInf(r, 1) {
		return math.Inf(-1)
	}
	return g * (1 - rejectionPrice*r)
}

func goodput(s Summary) float64 {
	if !finite(s.Goodput) {
		return 0
	}
	return s.Goodput
}

func rejected(s Summary) float64 {
	if math.IsNaN(s.RejectedPerOK) {
		return 0
	}
	return s.RejectedPerOK
}

// better returns the run with the higher score, a if it is a tie and not nil.
func better(a, b *Run) *Run {
	if a == nil || score(b.Summary) > score(a.Summary) {
		return b
	}
	return a
}

// describe is the first half of a sentence: who, and both measures.
func describe(name string, s Summary) string {
	return name + " got " + formatShare(s.Goodput) + " of the oracle's goodput " + withRejected(s)
}

func describeLevel(r *Run) string {
	return r.Controller + " (" + formatShare(r.Summary.Goodput) + ", " + formatPerOK(r.Summary.RejectedPerOK) + ")"
}

func withRejected(s Summary) string {
	switch r := rejected(s); {
	case r == 0:
		return "without a 429"
	case math.IsInf(r, 1):
		return "and nothing but 429s"
	default:
		return "with " + formatPerOK(r) + " 429s per success"
	}
}

// difference says what a got, measured by b: "1 point more goodput for 22 times
// the 429s". One of the two differs.
func difference(a, b Summary) string {
	goodput, rejected := compareGoodput(a, b), compareRejected(a, b)
	var text string
	switch goodput {
	case 0:
		text = "the same goodput"
	case 1:
		text = points(a, b) + " more goodput"
	default:
		text = points(a, b) + " less goodput"
	}
	switch {
	case rejected == 0 && formatPerOK(a.RejectedPerOK) == "0":
		return text + " and no 429 either"
	case rejected == 0:
		return text + " and as many 429s (" + formatPerOK(a.RejectedPerOK) + " per success)"
	case goodput == rejected, goodput == 0:
		// More for more, less for less: a price. The same for more or less: too.
		return text + " for " + times(a, b)
	}
	return text + " and " + times(a, b)
}

// points writes the difference in goodput in points, of the percentages as they
// are shown, so that a reader who subtracts gets the same.
func points(a, b Summary) string {
	p := math.Abs(math.Round(goodput(a)*100) - math.Round(goodput(b)*100))
	if p == 1 {
		return "1 point"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + " points"
}

// times says a's 429s per success as a multiple of b's.
func times(a, b Summary) string {
	x, y := rejected(a), rejected(b)
	switch {
	case math.IsInf(x, 1):
		return "nothing but 429s"
	case x == 0:
		return "no 429 instead of " + formatPerOK(y) + " per success"
	case y < 0.005 || math.IsInf(y, 1):
		return formatPerOK(x) + " 429s per success instead of " + orNone(y)
	case x/y >= 1.95:
		return strconv.FormatFloat(math.Round(x/y), 'f', 0, 64) + " times the 429s (" + formatPerOK(x) + " per success)"
	case x > y:
		return percent(x/y-1) + " more 429s (" + formatPerOK(x) + " per success)"
	}
	return percent(1-x/y) + " fewer 429s (" + formatPerOK(x) + " per success)"
}

func orNone(y float64) string {
	if y == 0 {
		return "none"
	}
	return formatPerOK(y)
}

func percent(v float64) string { return strconv.FormatFloat(math.Round(v*100), 'f', 0, 64) + " %" }

// rank orders the controllers of s by score, best first, without references.
func rank(s *Scenario) []string {
	var runs []*Run
	for i := range s.Runs {
		if !s.Runs[i].Reference {
			runs = append(runs, &s.Runs[i])
		}
	}
	// Insertion keeps ties in order; there are a handful of runs.
	for i := 1; i < len(runs); i++ {
		for j := i; j > 0 && score(runs[j].Summary) > score(runs[j-1].Summary); j-- {
			runs[j], runs[j-1] = runs[j-1], runs[j]
		}
	}
	names := make([]string, len(runs))
	for i, run := range runs {
		names[i] = run.Controller
	}
	return names
}

// closing is the last line: "ours won 3 of 5 scenarios; drew burst with fixed; lost
// outage-30s to fixed (goodput 91 % vs 96 %)."
func closing(r *Report, v Verdict) (headline, sentence string) {
	ranked, won := 0, 0
	var rest []string
	for i, s := range v.Scenarios {
		if s.Outcome != Unranked {
			ranked++
		}
		switch s.Outcome {
		case Won:
			won++
		case Drew:
			rest = append(rest, "drew "+s.Scenario+" with "+s.Rival)
		case Open:
			rest = append(rest, s.Scenario+" is open against "+s.Rival)
		case Lost:
			rest = append(rest, "lost "+s.Scenario+" to "+s.Rival+" "+why(&r.Scenarios[i], v.Ours, s.Rival))
		}
	}
	switch {
	case ranked == 0:
		headline = "no scenario could be ranked"
	case ranked == 1:
		headline = fmt.Sprintf("%s won %d of 1 scenario", v.Ours, won)
	case won == ranked:
		headline = fmt.Sprintf("%s won all %d scenarios", v.Ours, ranked)
	default:
		headline = fmt.Sprintf("%s won %d of %d scenarios", v.Ours, won, ranked)
	}
	if n := len(v.Scenarios) - ranked; n > 0 && ranked > 0 {
		rest = append(rest, strconv.Itoa(n)+" not ranked")
	}
	sentence = strings.Join(append([]string{headline}, rest...), "; ") + "."
	if untested(v) {
		sentence += " With fewer than two seeds, chance is not ruled out."
	}
	return headline, sentence
}

// untested reports whether a pair was compared without seeds.
func untested(v Verdict) bool {
	for _, s := range v.Scenarios {
		for _, p := range s.Pairs {
			if len(p.Figures) == 0 {
				return true
			}
		}
	}
	return false
}

// why gives the numbers that decided for the rival.
func why(s *Scenario, ours, rival string) string {
	var a, b Summary
	for _, run := range s.Runs {
		if run.Controller == ours {
			a = run.Summary
		}
		if run.Controller == rival {
			b = run.Summary
		}
	}
	var parts []string
	if compareGoodput(a, b) != 0 {
		parts = append(parts, "goodput "+formatShare(a.Goodput)+" vs "+formatShare(b.Goodput))
	}
	if compareRejected(a, b) != 0 {
		parts = append(parts, "429s per success "+formatPerOK(a.RejectedPerOK)+" vs "+formatPerOK(b.RejectedPerOK))
	}
	if len(parts) == 0 {
		parts = append(parts, "score "+formatShare(score(a))+" vs "+formatShare(score(b)))
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
