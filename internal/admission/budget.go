package admission

import (
	"fmt"
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Oversize is what becomes of a call that costs more than a whole window holds.
type Oversize uint8

const (
	// Borrow lets it start when the window is full; those after it repay what it took beyond.
	Borrow Oversize = iota
	// Refuse refuses it with a TooLarge.
	Refuse

	// NumOversizes is the number of policies; an Oversize is always smaller.
	NumOversizes = int(Refuse) + 1
)

var oversizeNames = [NumOversizes]string{"borrow", "refuse"}

// String returns the policy as it is written in configuration.
func (o Oversize) String() string {
	if int(o) < len(oversizeNames) {
		return oversizeNames[o]
	}
	return "unknown"
}

// BudgetLimit is one limit: so much per period.
type BudgetLimit struct {
	// Kind is what is counted: requests, tokens (input and output together), input tokens
	// or output tokens. ScopeDaily counts requests, and is filled from windows that the upstream calls daily.
	Kind feedback.Scope
	// Limit is how much a period holds, in units of Kind (1 to 2^50). Zero is what the upstream tells in its
	// headers, and nothing is held back before it has.
	Limit int64
	// Period is the length of the window (> 0). Zero is a minute; with Limit zero, too, it is learned from
	// the headers, a minute until then.
	Period time.Duration
	// Burst is how much may be spent at once, in units of Kind (1 to Limit); zero is Limit. Smaller is for
	// upstreams that enforce a limit per minute in slices of a second. A fixed window has none.
	Burst int64
	// Fixed counts in windows that end at an instant and are then full again, rather than to refill
	// continuously. A window begins with its first call, unless headers tell when it ends.
	Fixed bool
	// CachedFactor is the share of an input token read from a cache that counts (0 to 1; 0 is the
	// default: cached tokens are free, as at Anthropic and Groq). 1 is for upstreams that count them in full.
	CachedFactor float64
}

// BudgetConfig is the limits of one guard. Fields are in range: package limiter has seen to it.
type BudgetConfig struct {
	Limits   []BudgetLimit
	Oversize Oversize
}

// Cost is what a call is expected to use, in tokens; it is one request besides. Negative counts are 0.
type Cost struct{ Input, Output int64 }

// TooLarge says that a call costs more than a whole window holds, so that no wait would help.
type TooLarge struct {
	Kind  feedback.Scope
	Cost  int64 // of the call, in units of Kind
	Limit int64 // the most that may be spent at once, in units of Kind
}

// Error implements error.
func (e TooLarge) Error() string {
	return fmt.Sprintf("admission: a call of %d %s exceeds the budget of %d", e.Cost, e.Kind, e.Limit)
}

// Reservation is what a call took of a Budget. The zero Reservation took nothing. It is settled or
// refunded through a pointer to the one copy of it, exactly once.
type Reservation struct {
	cost Cost
	then Cost   // Budget.gross with it
	seq  uint64 // > 0
	at   time.Duration
	open bool
}

// Open reports whether r holds something that is neither settled nor refunded.
func (r *Reservation) Open() bool { return r.open }

// Budget is several limits at once, spent all or nothing: token buckets that refill continuously (the GCRA
// of ITU-T I.371 in terms of its bucket) and fixed windows, in int64 arithmetic that is exact and
// saturates.
//
// A call reserves its expected cost before it starts, and settles with what it used: more is charged, less
// given back; a call that never ran is refunded. What is given back is never more than would be there if it
// had not been taken. So of calls that use no more than they reserved, and none of them larger than a
// window, those that start in any time T use at most Burst + Limit*T/Period of a continuous limit, and
// Limit of each fixed window; what a larger call or one that used more took beyond is repaid before others
// start, within a day, or a period if that is longer, whatever a call said or used.
//
// Time may stand still or go backwards: nothing is then refilled. The zero Budget has no limits. A Budget
// needs its guard's lock, and never allocates but in Configure.
type Budget struct {
	windows  []budgetWindow
	oversize Oversize
	seq      uint64
	inFlight int
	open     Cost // reserved by calls in flight
	gross    Cost // reserved since the beginning, refunds not counted; wraps around
}

// Configure puts cfg in force at now. A limit that cfg shares with the configuration before, by kind,
// period and algorithm, keeps what was spent of it; others begin full.
func (b *Budget) Configure(now time.Duration, cfg BudgetConfig) {
	old := b.windows
	b.windows = make([]budgetWindow, len(cfg.Limits))
	b.oversize = cfg.Oversize
	for i, l := range cfg.Limits {
		w := &b.windows[i]
		for j := range old {
			o := &old[j]
			// A part of what was stated says nothing of what will be told.
			if o.given.Kind == l.Kind && samePeriod(&o.given, &l) && o.given.Fixed == l.Fixed && o.limit > 0 && (o.whole == 0 || l.Limit > 0) {
				*w = *o
				o.limit = 0 // taken
				w.advance(now)
				break
			}
		}
		fresh := w.limit == 0
		w.given = l
		w.cached = int64(min(max(l.CachedFactor, 0), 1) * factorUnit)
		period := l.orMinute()
		if l.Limit <= 0 && l.Period <= 0 && !fresh {
			period = w.period // which the upstream told
		}
		if fresh {
			w.at, w.period = now, period
		}
		switch {
		case l.Limit > 0 && w.whole > 0:
			b.Share(now, i, w.share)
		case l.Limit > 0:
			level, depth := w.level, w.depth
			w.set(min(l.Limit, maxUnits), period)
			if !fresh {
				w.forgive(now, level, depth)
			}
		case !fresh:
			w.set(w.limit, period)
		}
	}
}

// samePeriod reports whether a and b are of one period. A stated limit without one is of a minute; of another the upstream tells.
func samePeriod(a, b *BudgetLimit) bool {
	return a.Period == b.Period || a.Limit > 0 && b.Limit > 0 && a.orMinute() == b.orMinute()
}

func (l *BudgetLimit) orMinute() time.Duration {
	if l.Period <= 0 {
		return time.Minute
	}
	return l.Period
}

// shareUnit is by how much a share's limit and period are multiplied where whole units per period would be too coarse.
const shareUnit = 1000

// Share has the limit with place i in BudgetConfig.Limits hold only a share (0 to 1) of what was configured, from now on: others have the
// rest. What may be spent at once becomes less with a smaller share, and with a larger one it grows as the limit refills, not at once,
// because somebody else may have spent what it had. A share of 0 holds everything back. It does nothing to a limit that only the upstream
// tells. Configure keeps the share of a limit that it keeps.
func (b *Budget) Share(now time.Duration, i int, share float64) {
	w := &b.windows[i]
	if w.given.Limit <= 0 {
		return
	}
	w.advance(now)
	period := w.given.orMinute()
	limit, depth := min(w.given.Limit, maxUnits), min(w.given.Limit, maxUnits)
	if !w.given.Fixed && w.given.Burst > 0 {
		depth = min(depth, w.given.Burst)
	}
	part, scale, most := share*float64(limit), int64(1), max(1, int64(share*float64(depth)))
	if !w.given.Fixed && part < shareUnit*shareUnit && period < math.MaxInt64/shareUnit {
		part, scale, period = part*shareUnit, shareUnit, period*shareUnit
	}
	limit = max(1, int64(part))
	w.share, w.whole, w.scale, w.none = share, depth, scale, part < 1
	if limit == w.limit && most == w.depth && period == w.period {
		return
	}
	w.peaks.shift(most - w.depth)
	w.rem = w.remOf(period)
	w.limit, w.depth, w.period = limit, most, period
	if w.level >= w.depth {
		w.level, w.rem = w.depth, 0
	} else if w.given.Fixed && !w.open && w.at <= now {
		w.at = addTime(now, w.period) // nothing was spent here, but what is new may have been where it was
	}
	w.peaks.saw(w.ceil())
}

// Limited reports whether b limits anything.
func (b *Budget) Limited() bool { return len(b.windows) > 0 }

// At returns the earliest instant at which cost can be reserved if nothing else happens, now when it can
// be, and the limit that comes last, as its place in BudgetConfig.Limits; -1 when none holds it back. A
// call larger than a window waits until that is full. For a wait that does not end before the largest
// Duration it returns that.
func (b *Budget) At(now time.Duration, cost Cost) (at time.Duration, limit int) {
	a := cost.amount()
	at, limit = now, -1
	for i := range b.windows {
		w := &b.windows[i]
		if t := w.when(now, w.cost(&a)); t > at {
			at, limit = t, i
		}
	}
	return at, limit
}

// TooLarge reports a limit that cost can never be reserved of. It reports none when larger calls borrow.
func (b *Budget) TooLarge(cost Cost) (e TooLarge, ok bool) {
	if b.oversize == Borrow {
		return TooLarge{}, false
	}
	a := cost.amount()
	for i := range b.windows {
		w := &b.windows[i]
		if n, most := w.cost(&a), max(w.depth, w.whole); w.limit > 0 && n > most {
			return TooLarge{Kind: w.given.Kind, Cost: n, Limit: most}, true
		}
	}
	return TooLarge{}, false
}

// fitted returns cost, or as much of it as can be reserved of all limits. Where larger calls borrow, that is no less than a minute brings: a window
// of a second, or a burst, may hold less than calls use, and those after them must wait for that.
func (b *Budget) fitted(cost Cost) Cost {
	a := cost.amount()
	for i := range b.windows {
		w := &b.windows[i]
		most := max(w.depth, w.whole)
		if w.limit == 0 || w.cost(&a) <= most {
			continue
		}
		if b.oversize == Borrow {
			limit, period := w.unshared()
			most = max(most, brings(limit, period, max(time.Minute, period)))
		}
		cost = cost.within(w.given.Kind, most)
	}
	return cost
}

// owed returns cost, or as much of it as may be owed; see budgetWindow.mostOwed. Who asks for more says it of a call that no upstream would take.
func (b *Budget) owed(cost Cost) Cost {
	for i := range b.windows {
		if w := &b.windows[i]; w.limit > 0 {
			cost = cost.within(w.given.Kind, max(w.depth, w.mostOwed()))
		}
	}
	return cost
}

// within returns c, or as much of it as is no more than most of what kind counts.
func (c Cost) within(kind feedback.Scope, most int64) Cost {
	switch kind {
	case feedback.ScopeTokens:
		c.Input = min(c.Input, most)
		c.Output = min(c.Output, most-c.Input)
	case feedback.ScopeInputTokens:
		c.Input = min(c.Input, most)
	case feedback.ScopeOutputTokens:
		c.Output = min(c.Output, most)
	}
	return c
}

// Reserve takes cost from all limits, or, when At is later than now or the call is too large, from none and
// reports false. Of a cost that a limit would owe for longer than mostOwed it takes no more than that.
func (b *Budget) Reserve(now time.Duration, cost Cost) (r Reservation, ok bool) {
	a := cost.amount()
	for i := range b.windows {
		w := &b.windows[i]
		w.advance(now)
		n := w.cost(&a)
		if n > 0 && w.limit > 0 && (w.none || min(n, w.depth) > w.level || n > max(w.depth, w.whole) && b.oversize == Refuse) {
			return Reservation{}, false
		}
	}
	a = b.owed(Cost{a.input, a.output}).amount()
	b.seq++
	for i := range b.windows {
		w := &b.windows[i]
		w.spend(now, w.cost(&a), b.seq)
	}
	b.inFlight++
	b.open.Input += a.input
	b.open.Output += a.output
	b.gross.Input += a.input
	b.gross.Output += a.output
	return Reservation{cost: Cost{a.input, a.output}, then: b.gross, seq: b.seq, at: now, open: true}, true
}

// Settle ends a call that ran: what it used is charged in place of what was reserved. What the answer did
// not tell stays as reserved: all of it when u.Known is false, and how the parts divide when only u.Total
// is told. It reports false, and changes nothing, when r is not open.
func (b *Budget) Settle(now time.Duration, r *Reservation, u feedback.Usage) bool {
	used := r.cost.amount()
	switch {
	case !u.Known:
	case u.Input == 0 && u.Output == 0 && u.Total > 0:
		used.rest = clampUnits(u.Total) - used.input - used.output
	default:
		used = amount{requests: 1, input: clampUnits(u.Input), cached: clampUnits(u.CachedInput), output: clampUnits(u.Output)}
	}
	return b.end(now, r, used)
}

// Refund ends a call that never ran: all that it took is given back. It reports false, and changes
// nothing, when r is not open.
func (b *Budget) Refund(now time.Duration, r *Reservation) bool { return b.end(now, r, amount{}) }

// end replaces what r reserved by what was used.
func (b *Budget) end(now time.Duration, r *Reservation, used amount) bool {
	if !r.open || b.inFlight == 0 {
		return false
	}
	r.open = false
	taken := r.cost.amount()
	b.inFlight--
	b.open.Input -= taken.input
	b.open.Output -= taken.output
	for i := range b.windows {
		w := &b.windows[i]
		if w.limit == 0 {
			continue
		}
		switch more := w.cost(&used) - w.cost(&taken); {
		case more > 0:
			w.advance(now)
			w.take(now, min(more, max(w.level+w.mostOwed(), 0)))
		case more < 0:
			// What a continuous limit was refilled with since the last step comes after: a part of a unit would count for a whole one here, and what
			// is beyond the depth is lost in either order.
			if w.given.Fixed {
				w.advance(now)
			}
			w.giveBack(-more, r.seq)
		}
		if b.inFlight == 0 {
			w.peaks.n = 0
		}
	}
	return true
}

// BudgetState is how much of one limit is left.
type BudgetState struct {
	Kind   feedback.Scope
	Limit  int64 // per Period; 0: the upstream has not told, or Share is next to nothing
	Period time.Duration
	Left   int64         // may be spent at once; negative is a debt
	FullAt time.Duration // when it is full again if nothing is spent; now when it is
	Share  float64       // 1 when it is not shared
}

// State returns how much is left at now of the limit with place i in BudgetConfig.Limits.
func (b *Budget) State(now time.Duration, i int) BudgetState {
	w := &b.windows[i]
	s := BudgetState{Kind: w.given.Kind, Limit: w.limit, Period: w.period, FullAt: w.when(now, w.depth), Share: 1}
	if w.whole > 0 {
		s.Share = w.share
	}
	if w.scale > 1 {
		s.Limit, s.Period = s.Limit/w.scale, s.Period/time.Duration(w.scale)
	}
	if w.none {
		s.Limit = 0
	}
	if w.given.Fixed {
		s.Left, _, _ = w.rolled(now)
	} else {
		s.Left, _ = w.refilled(now)
	}
	return s
}

func (c Cost) amount() amount {
	return amount{requests: 1, input: clampUnits(c.Input), output: clampUnits(c.Output)}
}

func clampUnits(n int64) int64 { return min(max(n, 0), maxUnits) }
