package adaptive

import (
	"math"
	"time"
)

// A limit on calls in flight that other processes use, too, looks like a quota: it refuses whenever the others have what there is. What differs is what an end leaves. At a limit it frees a place, and
// who starts a call right then gets it, before any of the others does; a quota has given that call out long before. At a pace calls start when it is their time, whatever ends: so of those that
// a quota refuses as many started right after an end as of all, and of those that a limit refuses hardly any.
const (
	// freedPart is for which part of the mean time between two starts a call starts right after an end, at least freedLeast (ends are remembered by half of that) and at most freedMost.
	freedPart             = 0.2
	freedLeast, freedMost = 50 * time.Millisecond, 800 * time.Millisecond
	// freedFlow is from how many calls a second on too many end in freedLeast to tell.
	freedFlow = 20
	// freedRisk is how likely such a limit refuses a call that started right after an end, as a share of how likely it refuses another.
	freedRisk = 0.25
	// limitSure is the evidence, as the logarithm of how much likelier it is, for such a limit from which on it counts, and mostFreed the most of it and of that for a quota.
	limitSure, mostFreed = 1.5, 3
)

// watchesEnds reports whether it is to be known when calls end: callers wait for a pace, and no delay was named so far. Where nobody waits, calls start as they come, and when others end tells nothing.
func (g *Governor) watchesEnds() bool {
	s := &g.s
	p := &s.Pace[paceRequests]
	return s.Busy && p.Rate > 0 && p.Use > useBinding && s.Flow > 0 && s.Flow < freedFlow && s.Pauses == 0
}

// tellFreed takes note of a refusal, the first after others were accepted: whether the call had started right after another had ended.
func (g *Governor) tellFreed(c *Call) {
	s := &g.s
	if !g.watchesEnds() || c.SentAt < 0 {
		return
	}
	within := between(freedPart/s.Flow, freedLeast.Seconds(), freedMost.Seconds())
	if g.lagTick(c.SentAt-time.Duration(within*1e9)) < s.Lag.Last-lagTicks {
		return // the refusal took so long that what ended before its call is not known any more
	}
	all := 1 - math.Exp(-within*s.Flow) // the share of all starts
	told := math.Log(1 - all*(1-freedRisk))
	if g.lagHeld(c.SentAt, time.Duration(within*1e9)) > 0 {
		told -= math.Log(freedRisk)
	}
	s.Lag.Freed = float32(between(float64(s.Lag.Freed)+told, -mostFreed, mostFreed))
}

// limitTold reports whether ends say that a limit on calls in flight refuses that others use, too.
func (g *Governor) limitTold() bool { return g.s.Lag.Freed <= -limitSure }
