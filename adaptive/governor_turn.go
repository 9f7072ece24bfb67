package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A quota that is counted in windows allows as many calls in each, and none when they are used up, until the window turns. A row of refusals ends
// there, so rows tell when windows turn and how many calls each allows, exactly. Once that is known, what is left of a window is spread over what is left
// of its time, as with a window that a header tells.
const (
	// turnCalls is how many calls a window must allow for turns to be looked for.
	turnCalls = 10
	// turnRow is from how many refusals on a row may be one that the end of a window ends.
	turnRow = 3
	// turnMost is the share of a window that may lie between the last refusal and the first call accepted, for it to say when the window turned.
	turnMost = 0.4
	// turnFar is the same of rows that are more than a window apart: some of many turns lies near any row.
	turnFar = 0.15
	// turnCertain is how many turns that fit say that a quota refuses, although something else was taken for what does.
	turnCertain = 3
	// turnKeep is the share of what a window allows that is left alone, at least half a call, and turnProbe what is asked for when it is tried.
	turnKeep, turnProbe = 0.01, 1.2
	// turnFast and turnSlow bound the pace, as shares of what the quota gives a second.
	turnFast, turnSlow = 3.0, 0.125
	// turnGrown is by how much more must have passed than a window allowed for it to have grown, and turnGrows how many times as many are asked for then.
	turnGrown, turnGrows = 1.05, 2.0
	// turnFell is less than which share of the window before must have passed for it to be no window that is used up by these calls alone.
	turnFell = 0.25
	// turnClimbs is how many windows in a row must have grown for it to be a bound on growth, and no quota.
	turnClimbs = 3
	// turnLeast is the shortest window that is looked for, in s.
	turnLeast = 10
	// turnJitter is how much a turn may seem to be off, in s.
	turnJitter = 0.02
)

// turnPeriods are the lengths of windows that are usual, in s.
var turnPeriods = [...]float64{1, 10, 60}

// TurnState is what is known of a quota that is counted in windows.
type TurnState struct {
	At     time.Duration // when a window turned, or a row ended that may have been one, last
	Count  float64       // accepted calls then
	Dark   float64       // accepted calls when the row of refusals began
	Off    float32       // by how much that may be off, s
	Period float32       // how long a window lasts, s; 0: not known
	Allows float32       // calls in each
	Before float32       // calls in the last one that was used up
	Ask    float32       // how many times as many are asked for in this window, 1 to 2; 0: no turn was seen
	Fits   int8          // turns that fitted
	Grew   int8          // windows in a row that allowed more than the one before
}

// sound moves what is remembered into range.
func (w *TurnState) sound() {
	w.Count, w.Dark = between(w.Count, -unbounded, unbounded), between(w.Dark, -unbounded, unbounded)
	w.Off = float32(between(float64(w.Off), 0, turnPeriods[len(turnPeriods)-1]))
	w.Allows, w.Before = float32(between(float64(w.Allows), 0, unbounded)), float32(between(float64(w.Before), 0, unbounded))
	w.Ask, w.Fits, w.Grew = float32(between(float64(w.Ask), 0, turnGrows)), min(max(w.Fits, 0), 8), min(max(w.Grew, 0), turnClimbs)
	if !(w.Period >= turnLeast && w.Period <= float32(turnPeriods[len(turnPeriods)-1])) || w.Allows < 1 || w.Ask < 1 {
		w.Period = 0
	}
}

// turned notes that a row of refusals is over: a call that started at began was accepted, and one that was refused last started before it.
func (g *Governor) turned(t, began time.Duration, row int) {
	s := &g.s
	w := &s.Turn
	if w.Grew >= turnClimbs {
		return
	}
	asked := s.DarkLast - min(time.Duration(float64(s.RefusalTime)*1e9), s.DarkGap)
	if began < asked {
		return // it is none of those that were accepted again
	}
	gap := (began - asked).Seconds()
	count := w.Dark // those that started since are of the next window
	if w.Period > 0 {
		if g.turnedAgain(asked, began, count) {
			return
		}
		*w = TurnState{Dark: count}
	}
	if row < turnRow {
		return
	}
	turn := asked + (began-asked)/2
	age := (asked - s.DarkSince).Seconds()
	was := *w
	*w = TurnState{At: turn, Count: count, Dark: count, Off: float32(gap / 2), Ask: 1}
	if was.Ask == 0 {
		return
	}
	span, n := (turn - was.At).Seconds(), count-was.Count
	for _, period := range turnPeriods {
		k := math.Round(span / period)
		most := turnMost
		if k > 1 {
			most = turnFar
		}
		if k < 1 || age > period || gap+2*float64(was.Off) > most*period || math.Abs(k*period-span) > gap/2+float64(was.Off)+turnJitter || n < k*turnCalls {
			continue
		}
		if period < turnLeast {
			return // too short to be of use
		}
		w.Period, w.Allows, w.Before = float32(period), float32(n/k), float32(n/k)
		if k > 1 {
			w.Ask = turnProbe // not all of them were used up
		} else {
			w.Fits = 1
		}
		g.turnKnown()
		return
	}
}

// turnedAgain compares a turn between asked and began, until which count calls were accepted, with what is known of windows, and reports whether
// it fits.
func (g *Governor) turnedAgain(asked, began time.Duration, count float64) bool {
	s := &g.s
	w := &s.Turn
	period := time.Duration(float64(w.Period) * 1e9)
	off := time.Duration(float64(w.Off+turnJitter) * 1e9)
	next := w.At
	if late := asked - off - next; late > 0 { // the window that was used up may have been rolled over since
		next += (late + period - 1) / period * period
	}
	low, high := max(next-off, asked), min(next+off, began)
	if low > high || asked-s.DarkSince > period {
		return false
	}
	if w.Ask = min(w.Ask, turnProbe); next > w.At {
		w.Ask = 1
	}
	if n := count - w.Count; next == w.At+period && n >= 1 {
		if n < turnFell*float64(w.Before) {
			s.Credit = max(s.Credit, 0) // what rows cost was for windows
			return false                // others used it up, or it is none
		}
		if n > turnGrown*float64(w.Before) {
			w.Ask = turnProbe // it has grown, so it may grow
			if w.Grew++; w.Grew >= turnClimbs {
				*w = TurnState{Dark: count, Grew: turnClimbs} // always as much more: the next one allows more, too
				s.Credit = max(s.Credit, 0)
				return true
			}
		} else {
			w.Grew = 0
		}
		// It was used up. By how many calls that is off depends on when it began.
		if allows := float64(w.Allows); allows-n <= 1+2*float64(w.Off)*allows/float64(w.Period) {
			n = max(n, allows-0.5)
		}
		w.Allows, w.Before = float32(n), float32(n)
	}
	w.At, w.Count, w.Off = low+(high-low)/2, count, float32((high-low).Seconds()/2)
	w.Fits = min(w.Fits+1, 8)
	g.turnKnown()
	return true
}

// turnKnown sets the pace to what windows allow.
func (g *Governor) turnKnown() {
	s := &g.s
	p := &s.Pace[paceRequests]
	rate := float64(s.Turn.Allows / s.Turn.Period)
	if p.Rate == 0 {
		if s.Turn.Fits < turnCertain {
			return
		}
		g.quotaRefused(s.At, max(float64(s.Memory), s.Limit), true)
		p.Rate, p.Lowest = rate, float32(rate)
	}
	p.Known, p.Ceiling, p.Sure, p.Measured, p.Guess = rate, rate, true, true, 0
}

// rollTurn begins the window that t is in.
func (g *Governor) rollTurn(t time.Duration) {
	s := &g.s
	w := &s.Turn
	if w.Period <= 0 || s.Streak > 0 {
		return
	}
	period := time.Duration(float64(w.Period) * 1e9)
	passed := g.accepted() - g.unresolved() - w.Count
	if t-w.At < period+period/8 && passed > turnGrown*float64(w.Allows)+2 {
		// More has passed than a window allowed: nobody knows by how much it has grown.
		w.Allows, w.Ask = float32(passed), turnGrows
		g.turnKnown()
	}
	k := (t - w.At) / period
	if k <= 0 {
		if w.Ask == 1 && s.Credit >= 1 && t >= g.paceProbeAt(&s.Pace[paceRequests]) && s.Pace[paceRequests].Use >= useBinding {
			w.Ask = turnProbe
		}
		return
	}
	w.At += k * period
	count := g.accepted() - g.since(w.At)
	n, before := count-w.Count, float64(w.Allows)
	if k == 1 && n > before {
		w.Allows = float32(n)
		g.turnKnown()
	}
	w.Count = count
	switch {
	case k == 1 && w.Ask > turnProbe:
	case w.Fits == 0 || k == 1 && n > turnGrown*before:
		w.Ask = turnProbe
	default:
		w.Ask = 1
	}
}

// windowPace returns the pace at which what is left of a window lasts until it turns; 0 when no windows are known.
func (g *Governor) windowPace(t time.Duration) float64 {
	s := &g.s
	w := &s.Turn
	p := &s.Pace[paceRequests]
	if w.Period <= 0 || p.StatedKind != feedback.ScopeNone || !p.Measured {
		return 0
	}
	allows := float64(w.Allows)
	allows = float64(w.Ask) * (allows - max(0.5, turnKeep*allows))
	left, rest := allows-(g.accepted()-w.Count), float64(w.Period)-(t-w.At).Seconds()
	return min(max(left/max(rest, 0.02*float64(w.Period)), turnSlow*p.Known), turnFast*p.Known)
}

// untilTurn returns how long it is until the window turns that is used up; 0 when that is not known. Whoever asks again when half of that is over learns
// soon enough that it was not so.
func (g *Governor) untilTurn(t time.Duration) time.Duration {
	w := &g.s.Turn
	if w.Period <= 0 {
		return 0
	}
	return max(0, w.At+time.Duration(float64(w.Period)*1e9)-t)
}

// unknownStart is when a call started of which that is not known.
const unknownStart = time.Duration(math.MinInt64)

// began returns when a call of w that ended well started, at the latest.
func began(t time.Duration, w *Window) time.Duration {
	if w.Timed == 0 || w.MinLatency < 0 {
		return unknownStart
	}
	return t - w.MinLatency
}
