package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A quota may allow so many calls in any window of a length, counted back from each call. What was spent in a burst comes back in a burst then, a window later, and
// nothing comes back in between. To a guard that measures how fast a bucket refills it looks like one that gives now much, now nothing. What is the
// same at each refusal is how many calls were accepted in the window before. So the law keeps, for each of some lengths, by how much that number differs from
// refusal to refusal, and by how much a bucket would be off: one that gives as much a second whenever it refuses. Where one length explains the refusals and a bucket
// does not, the length is learned, and the guard starts what there is room for.

// slideTimes are the times before each refusal in which is counted what was accepted: calls, and from slideTokens on tokens. Windows are looked for of those that
// slideLearned reports; each other one tells of the next how evenly calls came.
var slideTimes = [...]time.Duration{
	time.Second / 4, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
	30 * time.Second, time.Minute,
}

const (
	numSlides = len(slideTimes)
	// slideSeconds is the first of slideTimes for which seconds are fine enough, slideTokens the first of which tokens are counted.
	slideSecond, slideSeconds, slideTokens, slideTokenWindow = 1, 2, 6, 7
	// slideSure is how many refusals are needed, or two fewer where all is clear, and slideMemory of how many the means are.
	slideSure, slideMemory = 5, 16
	// slideCalls is how many calls a window must allow to be learned, and leastSlide how many one that is known can: with fewer there would never be room
	// for one.
	slideCalls, leastSlide = 10, 2.0
	// slideRatio is the share of a bucket's error that may be left, and slideClear with fewer refusals than slideSure. slideWhole is added to what is left,
	// as calls are whole.
	slideRatio, slideClear, slideWhole = 0.1, 0.002, 0.25
	// slideNear is the share of what a window allows by which the count may differ at refusals, and slideFar that by which a bucket must be off.
	slideNear, slideFar = 0.02, 0.03
	// slideFlight is how many times as much as what was accepted in a second must differ what was in flight at refusals, both as squares of shares of their means: a limit on
	// calls in flight lets as many through in each second, too.
	slideFlight = 8
	// slideNearSecond, or slideNearCalls, is the same of a second, in which it is not known exactly when calls came, and slideSpanSecond in how many s there must have been
	// refusals.
	slideNearSecond, slideNearCalls, slideSpanSecond = 0.05, 1.5, 30
	// slideSunk is the share of what a window allowed when it was learned below which it is none, if it came there little by little; a second however it came there.
	slideSunk = 0.8
	// slideCoarse is the share of a window's calls above which those of a second are too many to know when they left the window.
	slideCoarse = 0.25
	// slideUneven is the share of what would have been accepted evenly in the next shorter time by which what was accepted in it must differ: where calls come as
	// evenly before each refusal, any length explains them.
	slideUneven = 0.1
	// slideSpans is for how many windows there must have been refusals.
	slideSpans = 2.0
	// slideLow is the share of what a window allows below which a refusal is by something else, mostSlideDebt how many of them, less one for the
	// calls of slideForgets windows, end what was learned.
	slideLow, mostSlideDebt, slideForgets = 0.9, 2.0, 4
	// slideBack is in which time what there is room for is used, in windows, and slideFast bounds the pace: what the window allows is not started in less than as many s.
	slideBack, slideFast = 0.02, 4.0
	// slideProbe, and half a window, is how long after a refusal more than the window allows is asked for, at the soonest.
	slideProbe = 10 * time.Second
	// slideSoon and slideAsk are how long a pace is kept, at least and at most, without a look at what has come back; at most a part of a window, too.
	slideSoon, slideAsk, slideParts = 5 * time.Millisecond, 500 * time.Millisecond, 8
	// slideRoom is how much more than one call there is room for in an empty window at least, in calls.
	slideRoom = 0.25
	// slideExtra is the most that a call in flight may count for besides what calls cost, in calls.
	slideExtra = 50
)

// SlideState is what is known of a quota that counts the calls of a sliding window.
type SlideState struct {
	// Mean and Var are the mean and the variance of the calls, or tokens, that were accepted, at refusals, in each of slideTimes before.
	Mean, Var [numSlides]float32
	// TimeTime, TimeCalls and CallsCalls are means of squares and products of the time and the calls accepted between two refusals, s and calls: how much a
	// bucket would have to give, and by how much it would be off. TimeTokens and TokensTokens are the same of tokens.
	TimeTime, TimeCalls, CallsCalls, TimeTokens, TokensTokens float32
	// Flight, FlightFlight and FlightTokens are the mean of calls in flight at refusals, its variance, and its covariance with the tokens of a minute.
	Flight, FlightFlight, FlightTokens float32

	Tokens float64 // spent at the last refusal
	Allows float32 // calls, or tokens, in a window
	Before float32 // the same before the last row of refusals began; 0: less was refused in it
	Ask    float32 // how many times as many are asked for now
	Room   float32 // how many more may start in the window now
	Debt   float32 // refusals that it does not explain, lately
	N      uint8   // refusals that the means are of, at most 255
	Of     int8    // which of slideTimes it is, from 1; 0: none is known
	Fails  int8    // how often one that was learned explained nothing, at most 4
}

// sound moves what is remembered into range.
func (w *SlideState) sound() {
	for i := range w.Mean {
		w.Mean[i], w.Var[i] = float32(between(float64(w.Mean[i]), -1e9, 1e9)), float32(between(float64(w.Var[i]), 0, 1e18))
	}
	for _, f := range [...]*float32{&w.TimeTime, &w.TimeCalls, &w.CallsCalls, &w.TimeTokens, &w.TokensTokens, &w.Flight, &w.FlightFlight} {
		*f = float32(between(float64(*f), 0, 1e18))
	}
	w.FlightTokens, w.Tokens = float32(between(float64(w.FlightTokens), -1e18, 1e18)), between(w.Tokens, -unbounded, unbounded)
	w.Before, w.Room = float32(between(float64(w.Before), 0, 1e12)), float32(between(float64(w.Room), -1e9, 1e9))
	w.Allows, w.Ask, w.Debt = float32(between(float64(w.Allows), 0, 1e12)), float32(between(float64(w.Ask), 0, turnGrows)), float32(between(float64(w.Debt), 0, mostSlideDebt+1))
	w.Fails = min(max(w.Fails, 0), 4)
	if w.Of < 0 || !slideLooked(int(w.Of)-1) || w.Allows < leastSlide || w.Ask < 1 {
		w.Of = 0
	}
}

// slideLooked reports whether windows are looked for that are as long as one of slideTimes.
func slideLooked(i int) bool {
	switch i {
	case slideSecond, 3, 4, 5, slideTokenWindow:
		return true
	}
	return false
}

// slideUnit returns how much a call is of what is counted for one of slideTimes: 1, or the tokens of one.
func (g *Governor) slideUnit(i int) float64 {
	if i < slideTokens {
		return 1
	}
	return max(1, float64(g.s.Spent.Mean))
}

// slideSum returns what was accepted since from, of what is counted for one of slideTimes.
func (g *Governor) slideSum(i int, from time.Duration) float64 {
	switch {
	case i < slideSeconds:
		return g.sinceTick(from)
	case i < slideTokens:
		return g.since(from)
	}
	return g.tokensSince(from)
}

// slidePart returns how long the parts of time are that are counted for one of slideTimes, and the last one, of which the number is that of its end.
func (g *Governor) slidePart(i int) (width time.Duration, last int64) {
	if i < slideSeconds {
		return tickTime, g.s.Ticks.Last + 1
	}
	return time.Second, g.s.Second
}

// slideIn returns what was accepted in one of those parts.
func (g *Governor) slideIn(i int, part int64) float64 {
	switch {
	case i < slideSeconds:
		return g.tick(part - 1)
	case i < slideTokens:
		return g.slideSecond(part)
	}
	return g.tokenSecond(part)
}

// slideCount returns how much was accepted in one of slideTimes before the call of a refusal, as if that of a part were spread evenly over it, and how much
// there was in the part in which that time begins.
func (g *Governor) slideCount(c *Call, i int) (n, edge float64) {
	from := c.SentAt - slideTimes[i]
	if from > g.s.Origin {
		width, _ := g.slidePart(i)
		edge = g.slideIn(i, int64((from-g.s.Origin)/width)+1)
	}
	n = g.slideSum(i, from)
	if i < slideSeconds {
		return n - g.sinceTick(c.SentAt), edge
	}
	return n - g.unresolved()*g.slideUnit(i), edge
}

// slideRefused learns from a fresh refusal of c, so long after the one before; first says that something was accepted in between, and outage that the one before
// said that the upstream lacks capacity. It reports whether a window that is known explains it.
func (g *Governor) slideRefused(t time.Duration, c *Call, o *Outcome, since time.Duration, first, outage bool) bool {
	s := &g.s
	w := &s.Slide
	g.note(t)
	if o.Scope > feedback.ScopeUnknown && o.Scope != feedback.ScopeRequests && o.Scope != feedback.ScopeTokens || c.SentAt < 0 || c.SentAt > t {
		return false
	}
	if w.Of > 0 {
		return w.may(int(w.Of)-1, o.Scope) && g.slideKnown(t, c, first)
	}
	if !first {
		g.slideRow(c)
		return false
	}
	if outage {
		*w = SlideState{Fails: w.Fails} // what was in flight, and how calls came, are others now
	}
	w.N += min(1, math.MaxUint8-w.N)
	a := max(1.0/slideMemory, 1/float64(w.N))
	others := float64(max(0, level(c.InFlight)-1))
	for i, length := range slideTimes {
		if i >= slideTokens && !s.tellTokens() {
			break
		}
		n, edge := g.slideCount(c, i)
		mean := float64(w.Mean[i])
		switch {
		case o.HasRetryAfter && o.RetryAfter > length+time.Second:
			n = mean / 2 // all of it would be there again by then
		case w.N == 1 || !slideLooked(i):
		case edge > slideCoarse*max(n, mean):
			continue // nobody knows when in the part that was
		default:
			n = min(max(mean, n-edge/4), n+edge/4)
		}
		if i == slideTokenWindow {
			w.addTokens(others, n, a)
		}
		w.add(i, n, a)
	}
	w.addFlight(others, a)
	off, offTokens := 0.0, 0.0
	spent := g.spent()
	if s.RefusedCount > 0 && !outage {
		dt, n, tokens := min(since, maxGap).Seconds(), max(0, g.accepted()-s.RefusedCount), max(0, spent-w.Tokens)
		off, offTokens = n, tokens
		if w.TimeTime > 0 {
			off -= dt * float64(w.TimeCalls/w.TimeTime)
			offTokens -= dt * float64(w.TimeTokens/w.TimeTime)
		}
		w.TimeTime += float32(a) * (float32(dt*dt) - w.TimeTime)
		w.TimeCalls += float32(a) * (float32(dt*n) - w.TimeCalls)
		w.CallsCalls += float32(a) * (float32(n*n) - w.CallsCalls)
		w.TimeTokens += float32(a) * (float32(dt*tokens) - w.TimeTokens)
		w.TokensTokens += float32(a) * (float32(tokens*tokens) - w.TokensTokens)
	}
	w.Tokens = spent
	if s.Turn.Period > 0 {
		return false
	}
	best := g.slideBest(off, o.Scope)
	if tokens := g.slideTokensBest(off, offTokens, o.Scope); tokens && (best == 0 || 2*w.left(g)+slideWhole < float64(w.Var[best-1])) {
		best = slideTokenWindow + 1
	}
	if best == 0 {
		return false
	}
	w.Of, w.Debt = int8(best), 0
	w.Allows = w.Mean[best-1]
	if best-1 == slideTokenWindow {
		w.Allows = max(leastSlide, w.Allows+w.Flight*float32(w.extra(g.slideUnit(best-1))))
	}
	w.Before = w.Allows
	if s.Pace[paceRequests].Rate == 0 {
		g.quotaRefused(t, max(float64(s.Memory), s.Limit), true)
	}
	g.slideFull(t)
	return true
}

// may reports whether a window that is as long as one of slideTimes may be what a scope names.
func (w *SlideState) may(i int, scope feedback.Scope) bool {
	switch scope {
	case feedback.ScopeRequests:
		return i < slideTokens
	case feedback.ScopeTokens:
		return i >= slideTokens
	}
	return true
}

// slideRow takes note of one more refusal of a row of which c is not the first: what a window counts gets less while nothing is accepted, and it refuses
// no more then.
func (g *Governor) slideRow(c *Call) {
	w := &g.s.Slide
	if w.N == 0 {
		return
	}
	for i := range slideTimes {
		if i >= slideTokens && !g.s.tellTokens() {
			break
		}
		if n, edge := g.slideCount(c, i); n+edge < slideLow*float64(w.Mean[i])-g.slideUnit(i) {
			w.add(i, n, max(1.0/slideMemory, 1/(float64(w.N)+1)))
		}
	}
}

// add adds what one refusal says of a length to the means, with a share of a.
func (w *SlideState) add(i int, n, a float64) {
	d := n - float64(w.Mean[i])
	w.Mean[i] += float32(a * d)
	w.Var[i] = float32((1 - a) * (float64(w.Var[i]) + a*d*d))
}

// addFlight adds that a refused call saw others in flight, addTokens, before that, that there were so many tokens in the minute before.
func (w *SlideState) addFlight(others, a float64) {
	x := others - float64(w.Flight)
	w.Flight += float32(a * x)
	w.FlightFlight = float32((1 - a) * (float64(w.FlightFlight) + a*x*x))
}

func (w *SlideState) addTokens(others, tokens, a float64) {
	x, y := others-float64(w.Flight), tokens-float64(w.Mean[slideTokenWindow])
	w.FlightTokens = float32((1 - a) * (float64(w.FlightTokens) + a*x*y))
}

// extra returns how many tokens a call in flight counts for besides those of a mean call, cost: more where what it may use is reserved and given
// back at its end, less where it counts when it ends. The more of them were in flight, the fewer others had used when it refused.
func (w *SlideState) extra(cost float64) float64 {
	ridge := 1 + 0.01*float64(w.Flight)*float64(w.Flight)
	return between(-float64(w.FlightTokens)/(float64(w.FlightFlight)+ridge), -cost, slideExtra*cost)
}

// left returns the variance of the tokens of a minute at refusals, in calls, that calls in flight do not explain.
func (w *SlideState) left(g *Governor) float64 {
	cost := g.slideUnit(slideTokenWindow)
	x := w.extra(cost)
	v := float64(w.Var[slideTokenWindow]) + 2*x*float64(w.FlightTokens) + x*x*float64(w.FlightFlight)
	n := float64(min(w.N, slideMemory))
	return max(0, v)/(cost*cost)*(n-1)/max(1, n-2) + slideWhole
}

// off returns the mean square of the error of a bucket of calls.
func (w *SlideState) off() float64 { return w.offOf(w.TimeCalls, w.CallsCalls) }

// offOf returns the mean square of the error of a bucket, from means of products of the time between refusals and what was accepted in it.
func (w *SlideState) offOf(both, square float32) float64 {
	if w.TimeTime <= 0 {
		return 0
	}
	return max(0, float64(square)-float64(both)*float64(both)/float64(w.TimeTime))
}

// spans returns in how many s, at most, the refusals came that the means are of: their number times the root of the mean square of the times between them.
func (w *SlideState) spans() float64 {
	return float64(min(w.N, slideMemory)) * math.Sqrt(float64(w.TimeTime))
}

// slideShare returns the share of a bucket's error that may be left after so many refusals.
func slideShare(refusals int) float64 {
	switch {
	case refusals < slideSure-2:
		return 0
	case refusals < slideSure:
		return slideClear
	}
	return slideRatio
}

// slideBest returns the length that explains the refusals by calls, as its place in slideTimes from 1; 0 when none does. A bucket was off by last at the last of them.
func (g *Governor) slideBest(last float64, scope feedback.Scope) int {
	w := &g.s.Slide
	if !w.may(0, scope) {
		return 0
	}
	least := w.Var[3]
	for _, v := range w.Var[4:slideTokens] {
		least = min(least, v)
	}
	second := w.N >= slideSure && w.spans() >= slideSpanSecond && w.second()
	if second {
		least = min(least, w.Var[slideSecond])
	}
	off := w.off()
	for i, v := range w.Var[:slideTokens] {
		if !slideLooked(i) || i == slideSecond && !second || v > 2*least+slideWhole {
			continue
		}
		// Where calls come as evenly, longer ones explain as much as the one that it is.
		n, left := float64(w.Mean[i]), float64(v)+slideWhole
		near, far := slideNear*n, slideFar*n
		if i == slideSecond {
			near = max(slideNearSecond*n, slideNearCalls)
		}
		if w.spans() < slideSpans*slideTimes[i].Seconds() {
			return 0 // they counted mostly the same calls, so it says nothing that those are as many each time
		}
		if n < slideCalls || left > max(2*slideWhole, near*near) || off < far*far || math.Abs(last) < far || left > slideShare(int(w.N)>>w.Fails)*off {
			return 0
		}
		if !w.uneven(i, 1) {
			return 0
		}
		return i + 1
	}
	return 0
}

// second reports whether what was accepted in the last second may be what refuses: calls came unevenly in it, and it is not as many that were in flight each time.
func (w *SlideState) second() bool {
	n, others := float64(w.Mean[slideSecond]), 1+float64(w.Flight)
	return n >= slideCalls && w.uneven(slideSecond, 1) && float64(w.FlightFlight)/(others*others) > slideFlight*(float64(w.Var[slideSecond])+slideWhole)/(n*n)
}

// uneven reports whether calls, of so much each, came unevenly in the time before refusals.
func (w *SlideState) uneven(i int, cost float64) bool {
	even := slideUneven * float64(w.Mean[i]) * slideTimes[i-1].Seconds() / slideTimes[i].Seconds()
	return float64(w.Var[i-1]) >= even*even+cost*cost
}

// slideTokensBest reports whether the tokens of a minute explain the refusals. A bucket of calls, and one of tokens, were off by so much at the last of them.
func (g *Governor) slideTokensBest(last, lastTokens float64, scope feedback.Scope) bool {
	s := &g.s
	w := &s.Slide
	if !s.tellTokens() || !w.may(slideTokenWindow, scope) || w.spans() < slideSpans*slideTimes[slideTokenWindow].Seconds() {
		return false
	}
	cost := g.slideUnit(slideTokenWindow)
	n, left := float64(w.Mean[slideTokenWindow])/cost, w.left(g)
	if n*float64(s.Spent.Spread) < 1 {
		return false // of calls that cost the same calls tell as much
	}
	near, far := slideNear*n, slideFar*n
	off := w.offOf(w.TimeTokens, w.TokensTokens) / (cost * cost)
	if w.may(0, scope) {
		off = min(off, w.off())
		last = min(math.Abs(last), math.Abs(lastTokens)/cost)
	} else {
		last = math.Abs(lastTokens) / cost
	}
	// What those in flight will have used is not known.
	noise := float64(s.Spent.Spread) * (1 + float64(w.Flight))
	return n >= slideCalls && left <= max(2*slideWhole, near*near+noise) && off >= far*far && last >= far && left <= slideShare(int(w.N)>>w.Fails)*off &&
		w.uneven(slideTokenWindow, cost)
}

// slideKnown answers a fresh refusal while a window is known, and reports whether that explains it.
func (g *Governor) slideKnown(t time.Duration, c *Call, first bool) bool {
	s := &g.s
	w := &s.Slide
	i := int(w.Of) - 1
	unit := g.slideUnit(i)
	n, edge := g.slideCount(c, i)
	slack := unit
	if i == slideTokenWindow {
		others := float64(max(0, level(c.InFlight)-1))
		if first && edge <= slideCoarse*n {
			w.N = max(w.N, slideMemory)
			w.addTokens(others, n, 1.0/slideMemory)
			w.add(i, n, 1.0/slideMemory)
			w.addFlight(others, 1.0/slideMemory)
		}
		n += others * w.extra(unit)
		slack += 2 * unit * math.Sqrt(float64(s.Spent.Spread)*(1+others))
	}
	was := w.Before
	if first {
		was = w.Allows
	}
	low := n+edge < slideLow*float64(was)-slack
	if low {
		if w.Debt++; w.Debt > mostSlideDebt {
			g.slideDrop()
			return false
		}
	}
	switch {
	case first && low && w.Debt < 2:
		return false // once may be by something else
	case first && !low:
		w.Before = w.Allows
		w.Allows = max(leastSlide, w.Allows+(float32(min(max(float64(w.Allows), n-edge/4), n+edge/4))-w.Allows)/2)
	case low:
		w.Before = 0
		w.Allows = min(w.Allows, float32(max(leastSlide, n)))
		if i != slideSecond && i < slideTokens {
			w.Mean[i] = w.Allows // it has fallen at once, as windows do
		}
	}
	if (i == slideSecond || first && !low && i < slideTokens) && w.Allows < slideSunk*w.Mean[i] {
		g.slideDrop() // a bucket that is met in bursts, or a shorter window, gives less and less
		return false
	}
	g.slideFull(t)
	return true
}

// slideFull answers a refusal by the window that is known, as it is used up.
func (g *Governor) slideFull(t time.Duration) {
	w := &g.s.Slide
	w.Ask = 1
	g.slideSet(t)
	g.s.Binding = feedback.ScopeRequests
	if w.Of > slideTokens {
		g.s.Binding = feedback.ScopeTokens
	}
	g.paced(t)
}

// slideDrop forgets a window that explains nothing.
func (g *Governor) slideDrop() {
	w := &g.s.Slide
	*w = SlideState{Fails: min(w.Fails+1, 4)}
	p := &g.s.Pace[paceRequests]
	if p.Rate > 0 {
		p.Rate = max(min(p.Rate, p.Known), leastPace)
	}
}

// slideSet sets the pace to what the window that is known allows.
func (g *Governor) slideSet(t time.Duration) {
	w := &g.s.Slide
	i := int(w.Of) - 1
	p := &g.s.Pace[paceRequests]
	rate := max(float64(w.Allows)/g.slideUnit(i)/slideTimes[i].Seconds(), leastPace)
	p.Known, p.Ceiling, p.Sure, p.Measured, p.Guess = rate, rate, true, true, 0
	p.StatedKind = feedback.ScopeNone
	g.slidePace(t, g.slideUsed(t))
	p.UsedAt = t
}

// slideUsed returns how much of the window that is known is used, in calls.
func (g *Governor) slideUsed(t time.Duration) float64 {
	s := &g.s
	i := int(s.Slide.Of) - 1
	used := g.slideSum(i, t-slideTimes[i])
	if i < slideTokens {
		return used
	}
	cost := g.slideUnit(i)
	if extra := s.Slide.extra(cost); extra > 0 {
		used += extra * max(0, min(float64(s.InFlight), g.since(t-slideTimes[i]))) // those that started before have left it
	}
	return used / cost
}

// slideAllows returns how many calls the window that is known allows.
func (g *Governor) slideAllows() float64 {
	w := &g.s.Slide
	return max(leastSlide, float64(w.Allows)/g.slideUnit(int(w.Of)-1))
}

// slideMove sets the pace to what there is room for in the window that is known. It reports whether one is.
func (g *Governor) slideMove(t time.Duration, w *Window) bool {
	s := &g.s
	d := &s.Slide
	if d.Of == 0 {
		return false
	}
	if s.Turn.Period > 0 && s.Turn.Fits >= turnCertain {
		d.Of = 0 // that says more
		return false
	}
	p := &s.Pace[paceRequests]
	if p.StatedKind != feedback.ScopeNone {
		return false // a refusal made it forget the pace since, and headers tell one now
	}
	i := int(d.Of) - 1
	count, allows := g.slideUsed(t), g.slideAllows()
	d.Debt = max(0, d.Debt-float32(w.OK)/max(1, slideForgets*float32(allows)))
	if n := count - g.unresolved(); n > turnGrown*allows+2+g.slideNoise() {
		d.Allows, d.Ask = float32(n*g.slideUnit(i)), turnGrows // it has grown, and nobody knows by how much
		g.slideSet(t)
		return true
	}
	if count >= useBinding*allows {
		p.UsedAt = t
	}
	if t-p.UsedAt > paceAge {
		*p, *d = PaceState{}, SlideState{Fails: d.Fails}
		return true
	}
	at := max(g.paceProbeAt(p), after(s.CutAt, slideProbe+slideTimes[i]/2))
	if d.Ask == 1 && w.Waiting > 0 && s.Credit >= 1 && t >= at && count >= (1-2*turnKeep)*allows-1-g.slideNoise() {
		d.Ask, s.Cause = turnProbe, CauseProbe
	}
	g.slidePace(t, count)
	return true
}

// slideNoise returns by how many calls it may be off how much of the window that is known is used: what those in flight will have cost is not known.
func (g *Governor) slideNoise() float64 {
	s := &g.s
	switch {
	case s.Slide.Of <= slideSeconds:
		return 1 // nor just when they came
	case s.Slide.Of <= slideTokens:
		return 0
	}
	return math.Sqrt(float64(s.Spent.Spread) * float64(1+s.InFlight))
}

// slidePace sets the pace at which what there is room for in the window is used, of which calls are used up, and what comes back as it does; when there is no
// room nothing starts until there is.
func (g *Governor) slidePace(t time.Duration, calls float64) {
	s := &g.s
	d := &s.Slide
	p := &s.Pace[paceRequests]
	length := slideTimes[d.Of-1]
	allows := g.slideAllows()
	mean := allows / length.Seconds()
	keep := min(max(0.5, turnKeep*allows, g.slideNoise()), allows-1-slideRoom) // in an empty window there is room for one
	room := allows - keep - calls
	fast := slideFast
	if d.Of <= slideSeconds {
		fast = tickTime.Seconds() // finer it is not known when they leave
	}
	p.Rate = max(mean, min(mean+room/(slideBack*length.Seconds()), allows/fast), leastPace)
	if room < 1 && d.Ask > 1 {
		seen := turnGrown*allows + 3 + g.slideNoise() + g.unresolved() // so many are in the window that it can be seen that it has grown
		p.Rate = max(turnProbe*mean, seen/length.Seconds())
		room = max(room+float64(d.Ask-1)*allows, seen-calls) // nobody knows how much more there is
	}
	d.Room = float32(room)
	if room < 1 {
		s.HoldUntil = max(s.HoldUntil, after(t, g.slideFree(t, 1-room)))
	}
}

// slideFree returns how long it takes until so many calls have left the window.
func (g *Governor) slideFree(t time.Duration, calls float64) time.Duration {
	s := &g.s
	of := int(s.Slide.Of) - 1
	length, unit := slideTimes[of], g.slideUnit(of)
	width, last := g.slidePart(of)
	edge := t - length
	at := max(0, edge-s.Origin)
	for i := int64(at/width) + 1; i <= last; i++ {
		end := time.Duration(i) * width
		in := g.slideIn(of, i) / unit
		if left := in * (float64(end-at) / float64(width)); left < calls || in <= 0 {
			calls, at = calls-left, end
			continue
		}
		at += time.Duration(calls / in * float64(width))
		return min(s.Origin+at-edge, length)
	}
	return length
}

// slideSecond returns how many calls were accepted in one of the last seconds.
func (g *Governor) slideSecond(i int64) float64 {
	s := &g.s
	if i < 0 || i <= s.Second-ringSize || i > s.Second {
		return 0
	}
	return float64(max(0, ringCalls(s.Ring[i%ringSize])))
}

// slideLook returns when it must be seen what has come back, although no call has ended.
func (g *Governor) slideLook() time.Duration {
	s := &g.s
	if s.HoldUntil > s.At {
		return s.HoldUntil
	}
	ask := slideAsk
	if of := s.Slide.Of; of > 0 {
		ask = min(ask, slideTimes[of-1]/slideParts)
	}
	used := float64(s.Slide.Room) / max(s.Pace[paceRequests].Rate, leastPace)
	return after(s.At, time.Duration(1e9*between(used, slideSoon.Seconds(), ask.Seconds())))
}

// quota returns the quota that is counted in windows, as far as it is known.
func (g *Governor) quota() Quota {
	s := &g.s
	allows := func(n float32) uint32 { return uint32(min(max(float64(n)+0.5, 1), math.MaxUint32)) }
	switch {
	case s.Pace[paceRequests].Rate == 0:
		return Quota{}
	case s.Slide.Of > 0:
		return Quota{Allows: allows(s.Slide.Allows), Seconds: uint16(slideTimes[s.Slide.Of-1] / time.Second), Tokens: s.Slide.Of > slideTokens, Slides: true}
	case s.Turn.Period > 0 && s.Turn.Fits > 1:
		return Quota{Allows: allows(s.Turn.Allows), Seconds: uint16(s.Turn.Period)}
	}
	return Quota{}
}
