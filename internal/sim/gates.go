package sim

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/upstream"
)

// gate is a quota as the bound sees it: nobody is refused, and what a call costs is known.
type gate interface {
	// earliest returns the first instant at or after now at which a cost would pass if nothing
	// else happened before; never when it cannot.
	earliest(now int64, cost float64) int64
	// enter lets a cost pass at now. It must pass: earliest(now, cost) is now, or that of the unit that must be left.
	enter(now int64, cost float64)
	set(now int64, perMinute float64)
	setBurst(now int64, burst float64)
}

// boundGate returns a gate that lets pass at least what a quota lets pass, in the same time.
func boundGate(q *upstream.Quota, share float64) gate {
	perMinute := q.Limit * share
	if q.Daily {
		perMinute /= 24 * 60
	}
	length := int64(q.Window)
	if length == 0 {
		length = int64(time.Minute)
		if q.Daily {
			length = int64(24 * time.Hour)
		}
	}
	switch q.Algorithm {
	case upstream.FixedWindow:
		return &window{length: length, most: perWindow(perMinute, length)}
	case upstream.SlidingLog:
		return &tape{length: length, most: perWindow(perMinute, length)}
	case upstream.SlidingCounter:
		return &window{length: length, most: perWindow(perMinute, length), fades: true}
	}
	return &bucket{perUnit: perUnit(perMinute, q.Counter == upstream.Requests), burst: max(1, q.Burst*share), whole: q.Counter == upstream.Requests}
}

// perUnit returns how many ns a unit takes to come back.
func perUnit(perMinute float64, whole bool) float64 {
	x := 60e9 / max(perMinute, 1e-9)
	if whole && x > 1 {
		x = math.Round(x)
	}
	return x
}

// bucket is a token bucket that refills continuously.
type bucket struct {
	perUnit float64 // ns
	burst   float64
	full    int64 // it lacks (full - now) / perUnit units
	whole   bool  // it counts requests
}

func (b *bucket) earliest(now int64, cost float64) int64 {
	if cost > b.burst {
		return never
	}
	return max(now, b.full-int64(math.Round((b.burst-cost)*b.perUnit)))
}

func (b *bucket) enter(now int64, cost float64) {
	b.full = max(b.full, now) + int64(math.Round(cost*b.perUnit))
}

// set changes the rate; what the bucket holds stays in it.
func (b *bucket) set(now int64, perMinute float64) {
	was := b.perUnit
	b.perUnit = perUnit(perMinute, b.whole)
	if lacks := b.full - now; lacks > 0 {
		b.full = now + int64(math.Round(float64(lacks)/was*b.perUnit))
	}
}

// setBurst changes the size; what is above the brim is lost.
func (b *bucket) setBurst(now int64, burst float64) {
	had := b.burst - float64(max(0, b.full-now))/b.perUnit
	b.burst = max(1, burst)
	b.full = now + int64(math.Round(max(0, b.burst-had)*b.perUnit))
}

// window counts in intervals of a fixed length. When fades is set, it is a sliding counter: what was counted in the interval before counts in part,
// less and less. Whatever passed earlier counts as much or less there, too.
type window struct {
	length int64
	most   float64
	start  int64
	n      float64
	before float64 // what was counted in the interval before
	fades  bool
}

func perWindow(perMinute float64, length int64) float64 {
	return max(1, math.Round(perMinute*float64(length)/60e9))
}

func (w *window) turn(now int64) {
	if now < w.start+w.length {
		return
	}
	start := now - now%w.length
	w.before = 0
	if w.fades && start == w.start+w.length {
		w.before = w.n
	}
	w.start, w.n = start, 0
}

func (w *window) earliest(now int64, cost float64) int64 {
	w.turn(now)
	switch {
	case cost > w.most:
		return never
	case w.n+cost <= w.most:
		return max(now, w.start+w.until(w.before, w.most-cost-w.n))
	}
	return w.start + w.length + w.until(w.n, w.most-cost)
}

// until returns how far into an interval the part of what was counted in the one before is no more than room.
func (w *window) until(amount, room float64) int64 {
	if !w.fades || amount <= room {
		return 0
	}
	return int64(math.Ceil((1 - room/amount) * float64(w.length)))
}

func (w *window) enter(now int64, cost float64) {
	w.turn(now)
	w.n += cost
}

func (w *window) set(_ int64, perMinute float64) { w.most = perWindow(perMinute, w.length) }
func (w *window) setBurst(int64, float64)        {}

// tape counts what passed in the time of a fixed length before now.
type tape struct {
	length int64
	most   float64
	used   float64
	passed []toll // the oldest first
}

// toll is what a call cost, and when it passed.
type toll struct {
	at   int64
	cost float64
}

func (t *tape) expire(now int64) {
	n := 0
	for n < len(t.passed) && t.passed[n].at+t.length <= now {
		t.used -= t.passed[n].cost
		n++
	}
	if t.passed = t.passed[n:]; len(t.passed) == 0 {
		t.used = 0 // of tokens, whatever rounding left
	}
}

func (t *tape) earliest(now int64, cost float64) int64 {
	t.expire(now)
	if cost > t.most {
		return never
	}
	need := t.used + cost - t.most
	for i := 0; need > 0 && i < len(t.passed); i++ {
		need -= t.passed[i].cost
		now = t.passed[i].at + t.length
	}
	return now
}

func (t *tape) enter(now int64, cost float64) {
	t.expire(now)
	t.used += cost
	t.passed = append(t.passed, toll{now, cost})
}

func (t *tape) set(_ int64, perMinute float64) { t.most = perWindow(perMinute, t.length) }
func (t *tape) setBurst(int64, float64)        {}
