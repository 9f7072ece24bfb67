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

// slideTimes are the lengths of windows that are looked for, but for the first, which is too short for that.
var slideTimes = [...]time.Duration{3 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

const (
	numSlides = len(slideTimes)
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
	// slideSoon and slideAsk are how long a pace is kept, at least and at most, without a look at what has come back.
	slideSoon, slideAsk = 5 * time.Millisecond, 500 * time.Millisecond
)

// SlideState is what is known of a quota that counts the calls of a sliding window.
type SlideState struct {
	// Mean and Var are the mean and the variance of the calls that were accepted, at refusals, in each of slideTimes before.
	Mean, Var [numSlides]float32
	// TimeTime, TimeCalls and CallsCalls are means of squares and products of the time and the calls accepted between two refusals, s and calls: how much a
	// bucket would have to give, and by how much it would be off.
	TimeTime, TimeCalls, CallsCalls float32

	Allows float32 // calls in a window
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
	for _, f := range [...]*float32{&w.TimeTime, &w.TimeCalls, &w.CallsCalls} {
		*f = float32(between(float64(*f), 0, 1e18))
	}
	w.Before, w.Room = float32(between(float64(w.Before), 0, 1e9)), float32(between(float64(w.Room), -1e9, 1e9))
	w.Allows, w.Ask, w.Debt = float32(between(float64(w.Allows), 0, 1e9)), float32(between(float64(w.Ask), 0, turnGrows)), float32(between(float64(w.Debt), 0, mostSlideDebt+1))
	w.Fails = min(max(w.Fails, 0), 4)
	if w.Of == 1 || w.Of < 0 || int(w.Of) > numSlides || w.Allows < leastSlide || w.Ask < 1 {
		w.Of = 0
	}
}

// slideCount returns how many calls were accepted in the time before the call of a refusal, as if those of a second were spread evenly over it, and how many
// there were in the second in which that time begins.
func (g *Governor) slideCount(c *Call, length time.Duration) (n, edge float64) {
	from := c.SentAt - length
	if from > g.s.Origin {
		edge = g.slideSecond(int64((from-g.s.Origin)/time.Second) + 1)
	}
	return g.since(from) - g.unresolved(), edge
}

// slideRefused learns from a fresh refusal of c, so long after the one before; first says that something was accepted in between. It reports whether a
// window that is known explains it.
func (g *Governor) slideRefused(t time.Duration, c *Call, o *Outcome, since time.Duration, first bool) bool {
	s := &g.s
	w := &s.Slide
	g.note(t)
	if o.Scope > feedback.ScopeUnknown && o.Scope != feedback.ScopeRequests || c.SentAt < 0 || c.SentAt > t {
		return false
	}
	if w.Of > 0 {
		return g.slideKnown(t, c, first)
	}
	if !first {
		g.slideRow(c)
		return false
	}
	w.N += min(1, math.MaxUint8-w.N)
	a := max(1.0/slideMemory, 1/float64(w.N))
	for i, length := range slideTimes {
		n, edge := g.slideCount(c, length)
		mean := float64(w.Mean[i])
		switch {
		case o.HasRetryAfter && o.RetryAfter > length+time.Second:
			n = mean / 2 // all of it would be there again by then
		case w.N == 1 || i == 0:
		case edge > slideCoarse*max(n, mean):
			continue // nobody knows when in the second that was
		default:
			n = min(max(mean, n-edge/4), n+edge/4)
		}
		w.add(i, n, a)
	}
	off := 0.0
	if s.RefusedCount > 0 && !s.DarkOverload {
		dt, n := min(since, maxGap).Seconds(), max(0, g.accepted()-s.RefusedCount)
		off = n
		if w.TimeTime > 0 {
			off -= dt * float64(w.TimeCalls/w.TimeTime)
		}
		w.TimeTime += float32(a) * (float32(dt*dt) - w.TimeTime)
		w.TimeCalls += float32(a) * (float32(dt*n) - w.TimeCalls)
		w.CallsCalls += float32(a) * (float32(n*n) - w.CallsCalls)
	}
	best := g.slideBest(off)
	if best == 0 || s.Turn.Period > 0 {
		return false
	}
	w.Of, w.Allows, w.Before, w.Debt = int8(best), w.Mean[best-1], w.Mean[best-1], 0
	if s.Pace[paceRequests].Rate == 0 {
		g.quotaRefused(t, max(s.Memory, s.Limit), true)
	}
	g.slideFull(t)
	return true
}

// slideRow takes note of one more refusal of a row of which c is not the first: what a window counts gets less while nothing is accepted, and it refuses
// no more then.
func (g *Governor) slideRow(c *Call) {
	w := &g.s.Slide
	if w.N == 0 {
		return
	}
	for i, length := range slideTimes {
		if n, edge := g.slideCount(c, length); n+edge < slideLow*float64(w.Mean[i])-1 {
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

// off returns the mean square of the error of a bucket.
func (w *SlideState) off() float64 {
	if w.TimeTime <= 0 {
		return 0
	}
	return max(0, float64(w.CallsCalls)-float64(w.TimeCalls)*float64(w.TimeCalls)/float64(w.TimeTime))
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

// slideBest returns the length that explains the refusals, as its place in slideTimes from 1; 0 when none does. A bucket was off by last at the last of them.
func (g *Governor) slideBest(last float64) int {
	w := &g.s.Slide
	least := w.Var[1]
	for _, v := range w.Var[2:] {
		least = min(least, v)
	}
	off := w.off()
	for i, v := range w.Var {
		if i == 0 || v > 2*least+slideWhole {
			continue
		}
		// Where calls come as evenly, longer ones explain as much as the one that it is.
		n, left := float64(w.Mean[i]), float64(v)+slideWhole
		near, far := slideNear*n, slideFar*n
		if w.spans() < slideSpans*slideTimes[i].Seconds() {
			return 0 // they counted mostly the same calls, so it says nothing that those are as many each time
		}
		if n < slideCalls || left > max(2*slideWhole, near*near) || off < far*far || math.Abs(last) < far || left > slideShare(int(w.N)>>w.Fails)*off {
			return 0
		}
		if even := slideUneven * n * slideTimes[i-1].Seconds() / slideTimes[i].Seconds(); float64(w.Var[i-1]) < even*even+1 {
			return 0
		}
		return i + 1
	}
	return 0
}

// slideKnown answers a fresh refusal while a window is known, and reports whether that explains it.
func (g *Governor) slideKnown(t time.Duration, c *Call, first bool) bool {
	s := &g.s
	w := &s.Slide
	n, edge := g.slideCount(c, slideTimes[w.Of-1])
	was := w.Before
	if first {
		was = w.Allows
	}
	low := n+edge < slideLow*float64(was)-1
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
	}
	g.slideFull(t)
	return true
}

// slideFull answers a refusal by the window that is known, as it is used up.
func (g *Governor) slideFull(t time.Duration) {
	g.s.Slide.Ask = 1
	g.slideSet(t)
	g.s.Binding = feedback.ScopeRequests
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
	p := &g.s.Pace[paceRequests]
	rate := max(float64(w.Allows)/slideTimes[w.Of-1].Seconds(), leastPace)
	p.Known, p.Ceiling, p.Sure, p.Measured, p.Guess = rate, rate, true, true, 0
	p.StatedKind = feedback.ScopeNone
	g.slidePace(t, g.since(t-slideTimes[w.Of-1]))
	p.UsedAt = t
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
	count := g.since(t - slideTimes[d.Of-1])
	d.Debt = max(0, d.Debt-float32(w.OK)/max(1, slideForgets*d.Allows))
	if n := count - g.unresolved(); n > turnGrown*float64(d.Allows)+2 {
		d.Allows, d.Ask = float32(n), turnGrows // it has grown, and nobody knows by how much
		g.slideSet(t)
		return true
	}
	if count >= useBinding*float64(d.Allows) {
		p.UsedAt = t
	}
	if t-p.UsedAt > paceAge {
		*p, *d = PaceState{}, SlideState{Fails: d.Fails}
		return true
	}
	at := max(g.paceProbeAt(p), after(s.CutAt, slideProbe+slideTimes[d.Of-1]/2))
	if d.Ask == 1 && w.Waiting > 0 && s.Credit >= 1 && t >= at && count >= (1-2*turnKeep)*float64(d.Allows)-1 {
		d.Ask, s.Cause = turnProbe, CauseProbe
	}
	g.slidePace(t, count)
	return true
}

// slidePace sets the pace at which what there is room for in the window is used, of which calls are used up, and what comes back as it does; when there is no
// room nothing starts until there is.
func (g *Governor) slidePace(t time.Duration, calls float64) {
	s := &g.s
	d := &s.Slide
	p := &s.Pace[paceRequests]
	length := slideTimes[d.Of-1]
	allows := float64(d.Allows)
	mean := allows / length.Seconds()
	room := allows - max(0.5, turnKeep*allows) - calls
	p.Rate = max(mean, min(mean+room/(slideBack*length.Seconds()), allows/slideFast), leastPace)
	if room < 1 && d.Ask > 1 {
		p.Rate, room = max(turnProbe*mean, leastPace), room+float64(d.Ask-1)*allows // nobody knows how much more there is
	}
	d.Room = float32(room)
	if room < 1 {
		s.HoldUntil = max(s.HoldUntil, after(t, g.slideFree(t, 1-room)))
	}
}

// slideFree returns how long it takes until so many calls have left the window.
func (g *Governor) slideFree(t time.Duration, calls float64) time.Duration {
	s := &g.s
	length := slideTimes[s.Slide.Of-1]
	edge := t - length
	at := max(0, edge-s.Origin)
	for i := int64(at/time.Second) + 1; i <= s.Second; i++ {
		end := time.Duration(i) * time.Second
		second := g.slideSecond(i)
		if left := second * (end - at).Seconds(); left < calls || second <= 0 {
			calls, at = calls-left, end
			continue
		}
		at += time.Duration(calls / second * 1e9)
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
	used := float64(s.Slide.Room) / max(s.Pace[paceRequests].Rate, leastPace)
	return after(s.At, time.Duration(1e9*between(used, slideSoon.Seconds(), slideAsk.Seconds())))
}

// quota returns the quota that is counted in windows, as far as it is known.
func (g *Governor) quota() Quota {
	s := &g.s
	allows := func(calls float32) uint32 { return uint32(min(max(calls+0.5, 1), math.MaxInt32)) }
	switch {
	case s.Pace[paceRequests].Rate == 0:
		return Quota{}
	case s.Slide.Of > 0:
		return Quota{Calls: allows(s.Slide.Allows), Seconds: uint16(slideTimes[s.Slide.Of-1] / time.Second), Slides: true}
	case s.Turn.Period > 0 && s.Turn.Fits > 1:
		return Quota{Calls: allows(s.Turn.Allows), Seconds: uint16(s.Turn.Period)}
	}
	return Quota{}
}
