package adaptive

import (
	"math"
	"time"
)

// A quota or a limit on calls in flight that others use, too, refuses each guard a share of its calls that does not depend on its own pace, as chance does. But of two calls that start together
// it hardly ever refuses the first and accepts the second: what is full stays full for longer. Chance does so as often as the other way round. So where 429s are as many at a low pace
// (floorSuspect), two calls that wait are let start at once now and then, and their fate is counted.
const (
	// pairBefore and pairAfter are the shares of the pairs with one refused and more of which a limit refuses the first only, or the second only. Those with other costs or ways overtake each other.
	pairBefore, pairAfter = 0.12, 0.53
	// As logarithms, so much evidence is for chance, or for a limit.
	pairChance, pairLimit = 4, 1.2
	// pairEvery is in how many calls that pass a pair is asked for, and pairMost in how many of those that passed at most.
	pairEvery, pairMost = 3.0, 60.0
	// pairTogether is how long after it was asked for a pair may start, and pairLook how long it may take until it is known that it has.
	pairTogether, pairLook = 2, 10 // ms
	// pairAge is the longest time since a pair was asked for that is waited for anything: what is longer than a minute cannot be told.
	pairAge = 60_000 // ms
	// pairLate is how many times what a refusal takes, and pairKnown how long besides, passes until none of the pair comes any more.
	pairLate, pairKnown = 4, 0.01 // , s
	// pairMiddle is FloorState.Sum where nothing speaks for either.
	pairMiddle = 1 << 15
)

// What is known of a pair, in FloorState.Run.
const (
	pairAsked  = 1 << iota // two may start together
	pairOpen               // they have
	pairFirst              // the first was refused
	pairSecond             // the second was
	pairStarts             // and more: how many had started before, in two bits
	pairLevel  = 1 << 6    // and more: how many were in flight before, in two bits
)

// inMS returns t in ms, as far as it can be told from another instant of the same minute.
func inMS(t time.Duration) uint16 { return uint16(t / time.Millisecond) }

// pairing reports whether two calls may start together now.
func (g *Governor) pairing() bool {
	f := &g.s.Floor
	return f.Stage == floorSuspect && f.Run&pairAsked != 0 && f.Base == inMS(g.s.At)
}

// pair asks for a pair at the end of w, with inFlight in flight, and counts what came of the last.
func (g *Governor) pair(t time.Duration, w *Window, inFlight int) {
	s := &g.s
	f := &s.Floor
	if f.Stage != floorSuspect {
		return
	}
	started := uint8(s.Done+int64(inFlight)) & 3
	age := inMS(t) - f.Base
	if f.Run&pairAsked != 0 {
		f.Run &^= pairAsked
		if (started-f.Run/pairStarts)&3 == 2 && age <= pairLook {
			f.Run |= pairOpen
		}
	}
	if f.Run&pairOpen != 0 {
		if float64(age) < min(pairAge, 1000*(pairLate*float64(s.RefusalTime)+pairKnown)) {
			return
		}
		if g.paired(); f.Stage != floorSuspect {
			return
		}
	}
	if w.Waiting <= 2 || t < s.HoldUntil || s.Hung > 0 || s.Lag.Hold > 0 || s.Pace[paceTokens].Rate > 0 || g.toldPace() > 0 || !g.noQuota() || inFlight+2 > int(g.ceiling()) {
		return
	}
	if ref := paceOf(f.Ref); s.Flow > 0 && s.Flow <= floorLow*ref && float64(age) > min(pairAge, 1000*min(pairEvery/s.Flow, pairMost/ref)) {
		f.Run, f.Base = pairAsked|started*pairStarts|uint8(inFlight)&3*pairLevel, inMS(t)
	}
}

// refusedPair notes that c was refused, if it is one of a pair.
func (g *Governor) refusedPair(c *Call) {
	f := &g.s.Floor
	if f.Run&pairOpen == 0 || inMS(c.SentAt)-f.Base > pairTogether {
		return
	}
	switch (uint8(c.InFlight) - f.Run/pairLevel) & 3 {
	case 1:
		f.Run |= pairFirst
	case 2:
		f.Run |= pairSecond
	default: // it started just before them, or just after
	}
}

// paired counts what came of a pair, and acts on it once it is known whether chance refuses.
func (g *Governor) paired() {
	f := &g.s.Floor
	q := between(f.share(), leastFloor, mostFloor)
	one, sum := (1-q)/(2-q), (float64(f.Sum)-pairMiddle)/sumUnit
	switch f.Run & (pairFirst | pairSecond) {
	case pairFirst:
		sum += math.Log(one / pairBefore)
	case pairSecond:
		sum += math.Log(one / pairAfter)
	case pairFirst | pairSecond:
		sum += math.Log((1 - 2*one) / (1 - pairBefore - pairAfter))
	}
	f.Run = 0
	f.Sum = uint16(pairMiddle + sumUnit*between(sum, -pairChance, pairChance))
	switch {
	case sum >= pairChance:
		g.foundFloor()
	case sum <= -pairLimit:
		f.forget(true)
	}
}
