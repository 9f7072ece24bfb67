package adaptive

import (
	"math"
	"time"
)

// In a pause that the upstream named nothing starts. A quota saves up what comes back meanwhile, up to what it can save up at all; how much that is at least shows
// before the first refusal: what passed then in a short time and a quota of this rate does not give in it had been saved up.
const (
	// burstTime is the time before the first refusal in which is counted what passed; since the first call when that is not burstBegin ago.
	burstTime, burstBegin = 3 * time.Second, 10 * time.Second
	// burstSaves and burstSpan are how many calls, and how many s of what it gives, a quota must save up for the pace at which it refuses to say nothing, and
	// burstPause how many s for what comes back in a pause not to be lost: a window of a second is refilled every second, and saves up nothing. Beyond
	// mostBurstSpan s it is a window of a minute rather than a bucket.
	burstSaves, burstSpan, burstPause, mostBurstSpan = 4, 2.0, 1.2, 20.0
	// singleMost is how many calls a quota that saves up one alone may save up at most, as far as what passed before the first refusal tells.
	singleMost = 2
)

// burstTimes is over how many s what passed before a first refusal that came late is counted: a bucket is emptied the more slowly, the less more is asked for than it gives.
var burstTimes = [...]float64{burstTime.Seconds(), 6, 12}

// BurstState is what passed before the first refusal.
type BurstState struct {
	Calls   float32
	Seconds float32 // in how many; less than 0: in burstTime, and the refusal came so many s after the first event, and nothing is measured yet
}

// sound moves what is remembered into range.
func (b *BurstState) sound() {
	b.Calls, b.Seconds = float32(between(float64(b.Calls), 0, unbounded)), float32(between(float64(b.Seconds), -unbounded, burstTimes[len(burstTimes)-1]))
}

// late reports whether the first refusal came when there had been calls for burstBegin, so that what passed just before it is all that is known.
func (b *BurstState) late() bool {
	for _, seconds := range burstTimes {
		if b.Seconds == float32(seconds) {
			return true
		}
	}
	return b.Seconds < 0
}

// longest takes the one of burstTimes before a first refusal that came late in which most passed that a quota that gives rate a second does not give.
func (g *Governor) longest(rate float64) {
	s := &g.s
	if s.Burst.Seconds >= 0 {
		return
	}
	first := s.Origin + time.Duration(-1e9*float64(s.Burst.Seconds))
	s.Burst.Seconds = float32(burstTimes[0])
	later := g.since(first)
	for _, seconds := range burstTimes[1:] {
		from := first - time.Duration(1e9*seconds)
		if s.At-from > (ringSize-1)*time.Second {
			return
		}
		if n := g.since(from) - later; n-rate*seconds > float64(s.Burst.Calls)-rate*float64(s.Burst.Seconds) {
			s.Burst = BurstState{Calls: float32(max(0, n)), Seconds: float32(seconds)}
		}
	}
}

// noteBurst notes what passed until the first refusal, at t.
func (g *Governor) noteBurst(t time.Duration) {
	s := &g.s
	if s.Refused != 1 {
		return
	}
	span, calls := t-s.Origin, g.accepted()
	if span > burstBegin {
		calls = g.since(t - burstTime)
		s.Burst = BurstState{Calls: float32(max(0, calls)), Seconds: float32(-span.Seconds())}
		return
	}
	s.Burst = BurstState{Calls: float32(max(0, calls)), Seconds: float32(span.Seconds())}
}

// saved returns how many calls a quota that gives rate a second saves up at least.
func (b *BurstState) saved(rate float64) float64 {
	seconds := float64(b.Seconds)
	if seconds < 0 {
		seconds = burstTimes[0]
	}
	return max(0, float64(b.Calls)-1-rate*seconds)
}

// saves reports whether what passed before the first refusal tells that a quota that gives rate a second saves up: so much more passed then.
func (b *BurstState) saves(rate float64) bool {
	saved := b.saved(rate)
	return saved >= max(burstSaves, burstSpan*rate) && saved <= mostBurstSpan*rate
}

// most returns how many calls a quota that gives rate a second saves up at most, if it was full before the first call; known says that it can be told. No time has passed where the
// first refusal is the first that the law is told.
func (b *BurstState) most(rate float64) (calls float64, known bool) {
	if b.Seconds == 0 && b.Calls == 0 || b.late() {
		return 0, false
	}
	return max(1, float64(b.Calls)+1-rate*float64(b.Seconds)), true
}

// latelyTimes is over how many s it is counted what passed lately. Up to a second Ticks tell it.
var latelyTimes = [...]float64{0.5, 1, 2, 4, 8}

// lately returns how many calls a second a quota gives at least that saves up no more than what passed before its first refusal: in any time no more passes than what it gives in
// it and what it has saved up. u calls may be refused yet. Over a long time most of it passed at a pace that was lower; 0: nothing is known.
func (g *Governor) lately(u float64) (rate float64) {
	s := &g.s
	for _, seconds := range latelyTimes {
		from := s.At - time.Duration(1e9*seconds)
		saved, known := s.Burst.most(rate)
		if !known || from < s.Pace[paceRequests].AnchorAt {
			return rate
		}
		n := 0.0
		if seconds <= 1 {
			n = g.sinceTick(from)
		} else {
			n = g.since(from)
		}
		rate = max(rate, (n-u-1-saved)/seconds)
	}
	return rate
}

// gave returns what a quota gives a second of which dn passed in dt seconds, paused of them in pauses, the last of which was so long.
func (g *Governor) gave(dn, dt, paused, last float64) float64 {
	if g.s.countsTokens() {
		return dn / dt // what there is to be for one call is what was saved up
	}
	active := max(dt/4, dt-paused)
	rate := dn / dt * math.Pow(dt/active, pauseLost) // little of what came back in a short pause was saved up
	if saved := g.s.Burst.saved(rate); saved >= burstPause*rate && last > 0 {
		rate = min(rate, max(dn/dt, (dn-saved*max(1, paused/last))/active))
	}
	return rate
}

// countsTokens reports whether what refuses may count tokens: it is known what calls cost, and refusals name how long it takes until there are enough for the next.
func (s *GovernorState) countsTokens() bool { return s.tellTokens() && s.LastPause > 0 }

// single reports whether a quota that gives rate a second saves up no more than a call, as one alone was accepted before the first refusal, and nobody else is known to use it. Not beside
// a delay: guards that share what names one would try a faster pace the more often.
func (g *Governor) single(rate float64) bool {
	most, known := g.s.Burst.most(rate)
	return known && most <= singleMost && g.s.Others == 0 && g.s.Sharing == 0 && g.s.LastPause == 0
}
