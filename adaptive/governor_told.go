package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// The quotas of which headers tell: of tokens of which a call's cost is not known when it starts, and those of PaceState, in its order.
const (
	toldInput = iota
	toldOutput
	toldRequests
	toldTokens
	numTold
)

const (
	// toldLow: fewer than one in toldLow left is low.
	toldLow = 5
	// toldMemory is of how many calls a mean cost is, toldAnswers of how many answers the line is, and toldSure how many it takes.
	toldMemory, toldAnswers, toldSure = 64, 128, 8
	// toldNear is how far from what is known an answer must be to add to it, and toldApart the variance of resets from which on the line tells, in s and s².
	toldNear, toldApart = 1.0, 0.5
	// toldShort is below which reset, in s, resets cannot differ by enough for the line to tell.
	toldShort = 2
	// toldPeriod is the shortest time that a limit is taken to be stated for until the line tells, in s: providers state tokens a minute.
	toldPeriod = 60
	// toldReturn is the shortest time in which what is left goes to where it is kept, in s.
	toldReturn = 4.0
	// toldSpread is how many times what is left jumps from answer to answer is kept, besides what a call costs.
	toldSpread = 5.0
	// toldLeast is the part of what is told that is the least pace.
	toldLeast = 0.125
	// leastTold is the slowest pace that headers set, in calls a second; it ends at the reset.
	leastTold = 1e-4
	// toldDoubt is by what a refusal multiplies the trust in what is told, toldTrust what each call that ends well gives back, and
	// leastTrust the least of it.
	toldDoubt, toldTrust, leastTrust = 0.9, 0.001, 0.05
	// toldMeasure is the least trust with which headers set the pace of a quota that refusals measure as well.
	toldMeasure = 0.6
)

// longestWindow is the longest time over which what is left of a quota is spread. What is left of a day or a month, or until an instant that is
// nonsense, is for the caller's budget.
const longestWindow = time.Hour

// ToldState is what headers tell of a quota: of input or output tokens all of it, and what calls cost of it; of others the line.
type ToldState struct {
	End   time.Duration // the reset that was told last
	Cost  float32       // tokens a call, mean; of requests and of tokens the most that there was
	Jump  float32       // by how much what is left differs from answer to answer, mean square
	Left  float32       // what was left when it was told last
	Rate  float32       // the pace in force, calls a second; 0: none
	Trust float32       // share of what is told that is believed; 0: not refused yet, which is 1

	// A line through what is left over the time until the reset tells what comes back a second.

	MeanLeft  float32 // tokens
	MeanReset float32 // s
	LeftLeft  float32 // variance of what is left
	LeftReset float32 // covariance; more than 0: the reset comes nearer while tokens are used, so it is the end of a window

	Of uint8 // calls that Cost is of, at most toldMemory
	N  uint8 // answers that the line is of, at most toldAnswers
}

// toldKind returns which of the kinds scope is, and numTold when it is none.
func toldKind(scope feedback.Scope) int {
	switch scope {
	case feedback.ScopeInputTokens:
		return toldInput
	case feedback.ScopeOutputTokens:
		return toldOutput
	}
	return numTold
}

// cost adds n calls that used so many tokens together.
func (d *ToldState) cost(n int, tokens int64) {
	if n <= 0 || tokens <= 0 {
		return
	}
	k := min(n, toldMemory)
	d.Of = uint8(min(int(d.Of)+k, toldMemory))
	d.Cost += float32(k) / float32(d.Of) * (float32(min(float64(tokens)/float64(n), 1e9)) - d.Cost)
}

// passed gives back trust, as n calls ended well.
func (d *ToldState) passed(n int) {
	if d.Trust > 0 {
		d.Trust = min(1, d.Trust+toldTrust*float32(min(n, toldMemory)))
	}
}

// doubt takes trust, as a call was refused, and returns what is left of it as a share of what there was.
func (d *ToldState) doubt() float64 {
	was := d.trust()
	d.Trust = float32(max(leastTrust, toldDoubt*was))
	return float64(d.Trust) / was
}

// line adds what one answer tells.
func (d *ToldState) line(left, reset float64) {
	if d.N > 0 {
		off := float32(left) - d.Left
		d.Jump += (off*off - d.Jump) / min(float32(d.N), toldMemory)
	}
	d.Left = float32(left)
	y, x := float32(left)-d.MeanLeft, float32(reset)-d.MeanReset
	if rate, ok := d.slope(); ok && math.Abs(float64(x)) < toldNear && math.Abs(float64(y)) < toldNear*math.Abs(rate) {
		return // it says nothing new, and would make what is known forgotten
	}
	d.N = min(d.N+1, toldAnswers)
	gain := 1 / float32(d.N)
	d.MeanLeft += gain * y
	d.MeanReset += gain * x
	d.LeftLeft += gain * ((1-gain)*y*y - d.LeftLeft)
	d.LeftReset += gain * ((1-gain)*x*y - d.LeftReset)
}

// slope returns how many tokens come back a second as far as the line tells, less than 0 when the reset comes nearer while tokens are used; ok
// says that it tells, as resets differed by more than dates in whole seconds do.
func (d *ToldState) slope() (rate float64, ok bool) {
	both, left := float64(d.LeftReset), float64(d.LeftLeft)
	if d.N < toldSure || left <= 0 || both*both < toldApart*left {
		return 0, false
	}
	return -left / both, true
}

// gives returns how many tokens come back a second and how many can be left at most, and whether they come back all at once at the reset.
func (d *ToldState) gives(limit, left, reset float64) (rate, most float64, window bool) {
	if rate, ok := d.slope(); ok {
		if rate < 0 {
			return 0, limit, true
		}
		mean, at := float64(d.MeanLeft), float64(d.MeanReset)
		rate = min(rate, max(0, 1.2*limit-mean)/max(at, 1e-3))
		return rate, min(limit, mean+rate*at), false
	}
	return min((limit-left)/max(reset, 1), limit/toldPeriod), limit, false
}

// keeps returns the pace at which what is left of a quota that refills goes to where one call, and what answers differ by, find room: some seconds' worth from
// there, at most half of most. mean is how long a call takes in s.
func (d *ToldState) keeps(gives, left, most, cost, mean float64) float64 {
	back := max(toldReturn, min(mean, 60))
	keep := min(cost+toldSpread*math.Sqrt(float64(d.Jump)), 0.5*most)
	return max(gives+(left-keep)/back, toldLeast*gives)
}

// trust returns the share of what is told that is believed.
func (d *ToldState) trust() float64 {
	if d.Trust == 0 {
		return 1
	}
	return float64(d.Trust)
}

// costs takes note of what the calls of a window used. What was read from a cache counts for no quota of input tokens.
func (g *Governor) costs(w *Window) {
	if w.OK <= 0 {
		return
	}
	for i := range g.s.Told {
		g.s.Told[i].passed(w.OK)
	}
	if w.Tokens <= 0 {
		return
	}
	out := min(max(0, w.OutputTokens), w.Tokens)
	in := w.Tokens - out
	g.s.Told[toldInput].cost(w.OK, in-min(max(0, w.CachedTokens), in))
	g.s.Told[toldOutput].cost(w.OK, out)
	g.s.Spent.learn(w.OK, w.Tokens, g.s.costed())
}

// told takes note of what is left of a quota of input or output tokens. What a call costs is not known when it starts, so what a call
// costs on average makes a pace of requests of it.
func (g *Governor) told(t time.Duration, i int, w *feedback.Window) {
	s := &g.s
	d := &s.Told[i]
	if w.Limit <= 0 || w.Remaining < 0 || w.Remaining > w.Limit || w.Reset < 0 || w.Reset > longestWindow {
		return
	}
	limit, left, reset := float64(w.Limit), float64(w.Remaining), w.Reset.Seconds()
	d.End = after(t, w.Reset)
	d.line(left, reset)
	cost := float64(d.Cost)
	if cost <= 0 || left*toldLow >= limit || reset == 0 {
		d.Rate = 0
		return
	}
	was := d.Rate
	gives, most, window := d.gives(limit, left, reset)
	var want float64
	if window {
		want = max(paceMargin*max(0, left-0.5*cost*float64(s.InFlight))/reset, slowestWindow(limit, reset))
	} else {
		want = d.keeps(gives, left, min(most, limit/toldLow), cost, s.Mean)
	}
	d.Rate = float32(min(max(d.trust()*want/cost, leastTold), fastest))
	if was == 0 {
		s.Cause, s.Binding = CauseHint, w.Kind
	}
}

// slowestWindow returns the least pace that a header sets, in what the quota counts: a thousandth of it until the reset.
func slowestWindow(limit, reset float64) float64 { return 1e-3 * limit / max(1, reset) }

// window takes note of what is left of a quota.
func (g *Governor) window(t time.Duration, i int, w *feedback.Window) {
	s := &g.s
	p := &s.Pace[i]
	if w.Limit <= 0 || w.Remaining < 0 || w.Remaining > w.Limit || w.Reset <= 0 || w.Reset > longestWindow {
		return
	}
	d := &s.Told[toldRequests+i]
	cost := 1.0
	if i == paceTokens {
		cost = float64(s.TokensPerCall)
	}
	d.Cost = max(d.Cost, float32(float64(w.Remaining)+cost)) // before the call that tells it
	d.line(float64(w.Remaining), w.Reset.Seconds())
	if p.Rate > 0 && p.StatedKind == feedback.ScopeNone {
		return // learned from refusals, which know better
	}
	if w.Remaining*toldLow >= w.Limit {
		if p.StatedKind == w.Kind {
			*p = PaceState{} // plenty
		}
		return
	}
	// Calls in flight may not have been counted yet. Of a quota that refills all the time, what is missing comes back until the reset; of
	// a window, nothing does before it. Which one it is, the line through what is left tells; until then it is taken to refill. What is missing is so of
	// what there can be, which is less than the limit where resets are short.
	ends := after(t, w.Reset)
	limit, reset, left := float64(w.Limit), w.Reset.Seconds(), float64(w.Remaining)
	gives, most := (limit-left)/reset, limit
	back, tells := d.slope()
	switch {
	case tells && back > 0:
		gives, most, _ = d.gives(limit, left, reset)
	case reset < toldShort:
		gives = (min(limit, float64(d.Cost)) - left) / reset
	}
	if i == paceRequests {
		left = max(0, left-0.5*float64(s.InFlight))
	}
	rate := paceMargin * left / reset
	switch {
	case !tells:
		rate = max(rate, paceMargin*gives)
	case back > 0:
		rate = max(rate, d.keeps(gives, left, min(most, limit/toldLow), cost, s.Mean))
	}
	rate = max(d.trust()*rate, slowestWindow(limit, reset))
	known := p.StatedKind == w.Kind
	*p = PaceState{
		Rate: rate, Known: rate, Ceiling: rate, Sure: true, Lowest: float32(rate), StatedKind: w.Kind, StatedEnd: ends,
		AnchorAt: t, AnchorCount: g.passed(i), AnchorPaused: s.PausedSum, AnchorRefused: s.Refused, LastCount: g.passed(i), UsedAt: t, Use: p.Use,
	}
	if !known {
		s.Cause, s.Binding = CauseHint, w.Kind
	}
}

// toldRefused answers a refusal by a quota of which headers tell: they are believed less. It reports whether they tell of it.
func (g *Governor) toldRefused(t time.Duration, scope feedback.Scope, first bool) bool {
	s := &g.s
	i := toldKind(scope)
	if i == numTold {
		return false
	}
	d := &s.Told[i]
	if d.N == 0 || d.Cost <= 0 || t > d.End {
		return false
	}
	if first {
		d.Rate = max(d.Rate*float32(d.doubt()), leastTold)
	}
	s.Binding = scope
	g.paced(t)
	return true
}

// windowRefused answers a refusal by quota i at a pace that headers set: they are believed less. It reports whether they are believed at all: what
// was refused often is measured by its refusals.
func (g *Governor) windowRefused(t time.Duration, i int, first bool) bool {
	p, d := &g.s.Pace[i], &g.s.Told[toldRequests+i]
	if p.StatedKind == feedback.ScopeNone || t > p.StatedEnd || d.N < toldSure || d.trust() < toldMeasure {
		return false
	}
	if first {
		p.Rate = max(p.Rate*d.doubt(), leastTold)
		p.Known, p.Ceiling, p.Lowest = p.Rate, p.Rate, float32(p.Rate)
	}
	g.paced(t)
	return true
}

// toldPace returns the slowest pace that headers ask for; 0: none.
func (g *Governor) toldPace() float64 {
	pace := 0.0
	for i := range g.s.Told[:toldRequests] {
		d := &g.s.Told[i]
		if r := float64(d.Rate); r > 0 && g.s.At <= d.End && (pace == 0 || r < pace) {
			pace = r
		}
	}
	return pace
}

// until returns when the first of the paces that headers ask for ends; 0: there is none.
func (g *Governor) until() time.Duration {
	s := &g.s
	first := time.Duration(0)
	take := func(end time.Duration) {
		if end > s.At && (first == 0 || end < first) {
			first = end
		}
	}
	for i := range s.Pace {
		if p := &s.Pace[i]; p.Rate > 0 && p.StatedKind != feedback.ScopeNone {
			take(after(p.StatedEnd, 1)) // it holds until then
		}
	}
	if s.Slide.Of > 0 && s.Pace[paceRequests].Rate > 0 {
		take(g.slideLook())
	}
	for i := range s.Told[:toldRequests] {
		if d := &s.Told[i]; d.Rate > 0 {
			take(after(d.End, 1))
		}
	}
	return first
}

// sound moves what makes no sense into range.
func (d *ToldState) sound() {
	for _, f := range [...]*float32{&d.Cost, &d.Left, &d.MeanLeft, &d.MeanReset} {
		*f = float32(between(float64(*f), 0, 1e12))
	}
	d.Jump, d.LeftLeft, d.LeftReset = float32(between(float64(d.Jump), 0, 1e24)), float32(between(float64(d.LeftLeft), 0, 1e24)), float32(between(float64(d.LeftReset), -1e24, 1e24))
	if d.Rate > 0 {
		d.Rate = max(d.Rate, leastTold)
	}
	d.Rate, d.Trust = float32(between(float64(d.Rate), 0, fastest)), float32(between(float64(d.Trust), 0, 1))
	d.Of, d.N = min(d.Of, toldMemory), min(d.N, toldAnswers)
}
