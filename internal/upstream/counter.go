package upstream

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/internal/event"
)

// never is an instant that does not come.
const never = event.Never

// counter is the state of one quota of one key.
type counter struct {
	q      *Quota
	share  float64 // of the key
	length int64   // ns over which limit holds: that of a window, or of the minute or day
	limit  float64 // units in length

	// Refill: a bucket, kept as the instant at which it would be full again (GCRA, ITU-T I.371).
	perUnit float64 // ns for one unit
	burst   float64
	full    int64 // the bucket lacks (full - now) / perUnit units

	// Windows.
	start      int64
	used, prev float64
	log        entries // of a sliding log
}

func (c *counter) init(q *Quota, share float64) {
	if share == 0 {
		share = 1
	}
	c.q, c.share = q, share
	c.set(0, q.Limit)
	c.burst = max(1, q.Burst*share)
}

// set changes the limit; what a bucket holds stays in it.
func (c *counter) set(now int64, limit float64) {
	period := int64(time.Minute)
	if c.q.Daily {
		period = int64(24 * time.Hour)
	}
	c.length = period
	if w := int64(c.q.Window); w > 0 && c.q.Algorithm != Refill {
		c.length = w
	}
	limit = max(limit*c.share, 1e-9)
	was := c.perUnit
	c.perUnit = float64(period) / limit
	c.limit = limit * float64(c.length) / float64(period)
	if c.q.Algorithm != Refill {
		c.limit = max(1, math.Round(c.limit))
	}
	if c.q.Counter == Requests && c.perUnit > 1 {
		c.perUnit = math.Round(c.perUnit)
	}
	if lacks := c.full - now; was > 0 && lacks > 0 {
		c.full = now + span(float64(lacks)/was, c.perUnit)
	}
}

// setBurst changes the size of a bucket; what is above the brim is lost.
func (c *counter) setBurst(now int64, burst float64) {
	had := c.burst - float64(max(0, c.full-now))/c.perUnit
	c.burst = max(1, burst*c.share)
	c.full = now + span(max(0, c.burst-had), c.perUnit)
}

// span returns how long units take, in whole ns.
func span(units, perUnit float64) int64 { return int64(math.Round(min(units*perUnit, 1<<61))) }

// before and after return what a call is charged for when it comes, and what it used at its end.
func (c *counter) before(k *Call) float64 {
	if c.q.Counter == Requests {
		return 1
	}
	if c.q.Charge == ChargeAfter {
		return 0
	}
	return c.cost(k, k.maxOutput())
}

func (c *counter) after(k *Call) float64 {
	if c.q.Counter == Requests {
		return 1
	}
	return c.cost(k, k.Output)
}

func (c *counter) cost(k *Call, output int64) float64 {
	input := k.Input
	if c.q.CachedFree {
		input -= k.Cached
	}
	switch c.q.Counter {
	case InputTokens:
		return float64(input)
	case OutputTokens:
		return float64(output)
	}
	return float64(input + output)
}

// turn begins a new window when the old one is over.
func (c *counter) turn(now int64) {
	if now < c.start+c.length {
		return
	}
	start := now - now%c.length
	c.prev = 0
	if start == c.start+c.length {
		c.prev = c.used
	}
	c.start, c.used = start, 0
}

// earliest returns the first instant at or after now at which a cost would pass if nothing
// else happened before; never when it cannot.
func (c *counter) earliest(now int64, cost float64) int64 {
	if cost == 0 {
		cost = min(1, c.limit) // anything must be left
	}
	switch c.q.Algorithm {
	case Refill:
		if cost > c.burst {
			return never
		}
		return max(now, c.full-span(c.burst-cost, c.perUnit))
	case FixedWindow:
		c.turn(now)
		switch {
		case cost > c.limit:
			return never
		case c.used+cost <= c.limit:
			return now
		}
		return c.start + c.length
	case SlidingLog:
		c.expire(now)
		if cost > c.limit {
			return never
		}
		need := c.used + cost - c.limit
		if need <= 0 {
			return now
		}
		for i := range c.log.n {
			e := c.log.at(i)
			if need -= e.amount; need <= 0 {
				return e.at + c.length
			}
		}
		return never
	}
	// A sliding counter: used + prev·(rest of the window before) + cost <= limit.
	c.turn(now)
	if cost > c.limit {
		return never
	}
	room := c.limit - cost - c.used
	if room < 0 {
		// In the next window, what is used now counts as prev and fades.
		return c.start + c.length + c.fades(c.used, c.limit-cost)
	}
	return max(now, c.start+c.fades(c.prev, room))
}

// fades returns how far into a window a share of amount from the one before has shrunk to room.
func (c *counter) fades(amount, room float64) int64 {
	if amount <= room {
		return 0
	}
	return int64(math.Ceil((1 - room/amount) * float64(c.length)))
}

// take takes an amount, which may be more than is there, or less than nothing.
func (c *counter) take(now int64, amount float64) {
	switch c.q.Algorithm {
	case Refill:
		c.full = max(c.full, now) + span(amount, c.perUnit)
	case SlidingLog:
		c.expire(now)
		c.used += amount
		c.log.push(entry{now, amount})
	default:
		c.turn(now)
		c.used += amount
	}
}

// refuse takes what is there, when refusals are charged: a bucket is never emptier than empty.
func (c *counter) refuse(now int64, amount float64) {
	if !c.q.ChargeRefused {
		return
	}
	if c.q.Algorithm == Refill {
		full := max(c.full, now) + span(amount, c.perUnit)
		c.full = max(c.full, min(full, now+span(c.burst, c.perUnit)))
		return
	}
	c.take(now, amount)
}

// settle corrects what a call that came at an instant was charged for.
func (c *counter) settle(now, came int64, k *Call) {
	if c.q.Counter == Requests || c.q.Charge == ChargeBefore {
		return
	}
	c.correct(now, came, c.before(k), c.after(k))
}

// unserved corrects what a call was charged for that came at an instant and that no server began: it used no tokens, and nothing at all
// when it was refused, unless that is charged.
func (c *counter) unserved(now, came int64, k *Call, refused bool) {
	switch {
	case refused && !c.q.ChargeRefused, !refused && c.q.Counter != Requests && c.q.Charge == ChargeSettled:
		c.correct(now, came, c.before(k), 0)
	}
}

// correct charges a call that came at an instant for an amount in place of the one before.
func (c *counter) correct(now, came int64, before, after float64) {
	if before == after {
		return
	}
	switch {
	case after > before:
		c.take(now, after-before)
	case c.q.Algorithm == Refill:
		c.full -= span(before-after, c.perUnit)
	case c.q.Algorithm == SlidingLog:
		c.expire(now)
		if c.log.lower(came, before, after) {
			c.used -= before - after
		}
	default:
		c.turn(now)
		if came >= c.start {
			c.used -= before - after
		} else if came >= c.start-c.length {
			c.prev = max(0, c.prev-(before-after))
		}
	}
}

// remaining returns what is left, at least 0.
func (c *counter) remaining(now int64) float64 {
	switch c.q.Algorithm {
	case Refill:
		return max(0, c.burst-float64(max(0, c.full-now))/c.perUnit)
	case SlidingLog:
		c.expire(now)
		return max(0, c.limit-c.used)
	case SlidingCounter:
		c.turn(now)
		return max(0, c.limit-c.used-c.prev*(1-float64(now-c.start)/float64(c.length)))
	}
	c.turn(now)
	return max(0, c.limit-c.used)
}

// reset returns how long it takes until everything is there again.
func (c *counter) reset(now int64) int64 {
	switch c.q.Algorithm {
	case Refill:
		return max(0, c.full-now)
	case SlidingLog:
		c.expire(now)
		if c.log.n == 0 {
			return 0
		}
		return c.log.at(c.log.n-1).at + c.length - now
	case SlidingCounter:
		c.turn(now)
		return c.start + 2*c.length - now
	}
	c.turn(now)
	return c.start + c.length - now
}

// most returns the most that the quota ever holds.
func (c *counter) most() float64 {
	if c.q.Algorithm == Refill {
		return c.burst
	}
	return c.limit
}

// expire drops what a sliding log counts no more.
func (c *counter) expire(now int64) {
	for c.log.n > 0 {
		e := c.log.at(0)
		if e.at+c.length > now {
			return
		}
		c.used -= e.amount
		c.log.drop()
		if c.log.n == 0 {
			c.used = 0
		}
	}
}

// entry is an amount that was taken at an instant.
type entry struct {
	at     int64
	amount float64
}

// entries is a first-in, first-out list.
type entries struct {
	buf  []entry // length a power of two
	head int
	n    int
}

func (s *entries) at(i int) *entry { return &s.buf[(s.head+i)&(len(s.buf)-1)] }

func (s *entries) push(e entry) {
	if s.n == len(s.buf) {
		grown := make([]entry, max(64, 2*len(s.buf)))
		for i := range s.n {
			grown[i] = *s.at(i)
		}
		s.buf, s.head = grown, 0
	}
	s.n++
	*s.at(s.n - 1) = e
}

func (s *entries) drop() {
	s.head = (s.head + 1) & (len(s.buf) - 1)
	s.n--
}

// lower makes the entry of an instant and an amount smaller; it reports whether it was still there.
func (s *entries) lower(at int64, from, to float64) bool {
	lo, hi := 0, s.n
	for lo < hi {
		if m := (lo + hi) / 2; s.at(m).at < at {
			lo = m + 1
		} else {
			hi = m
		}
	}
	for ; lo < s.n && s.at(lo).at == at; lo++ {
		if e := s.at(lo); e.amount == from {
			e.amount = to
			return true
		}
	}
	return false
}

// slope is the state of a Slope.
type slope struct {
	length int64
	start  int64
	n      int64
	best   int64 // the most of any window before
}

// most returns how many calls pass in this window.
func (s *slope) most(cfg *Slope, growth float64) int64 {
	return max(int64(cfg.Floor), 1, int64(math.Floor(float64(s.best)*(1+growth))))
}

func (s *slope) turn(now int64) {
	if now >= s.start+s.length {
		s.best = max(s.best, s.n)
		s.start, s.n = now-now%s.length, 0
	}
}
