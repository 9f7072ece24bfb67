package admission

import (
	"math/bits"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Sync fills a limit from what the answer to r's call told of it at now; call it before r is settled.
//
// What it told is old: the upstream counted at some instant between r's start and now, some calls that
// started meanwhile may be counted or not, and some upstreams charge a call when it starts, others when it
// ends. So remaining says only within which bounds the truth lies:
//
//	at most   remaining - (reserved after r) + (refilled since r)
//	at least  remaining - (reserved after r) - (all in flight)
//
// A level above the first is lowered to it, but not below 0; a level below the second is raised to it, when
// the limit is the upstream's own and no newer answer has spoken; one between stays, because it is the
// better knowledge. Token counts that are whole thousands are taken for rounded (Anthropic) and both bounds
// are 500 wider. In a fixed window, an answer whose call started before the window began says nothing of
// what remains.
//
// A limit below the configured one replaces it for as long as it is told; one above does not. reset ends a
// fixed window. A continuous limit does not wait for it: it is when the bucket is full again (OpenAI), an
// upper bound. But for a limit whose period is learned, limit*reset/used is the period of a bucket; it is
// believed when it comes within a tenth of a second, minute, hour or day in all answers while the use
// doubles, which the end of a fixed window cannot imitate.
//
// Unstated counts, negative ones, and a limit of zero (Azure sends -1 and 0) say nothing. A window that
// fits none of the limits, or several, is ignored.
func (b *Budget) Sync(now time.Duration, told feedback.Window, r *Reservation) {
	if told.Limit == 0 || told.Limit < 0 && told.Remaining < 0 {
		return
	}
	told.Limit = min(told.Limit, maxUnits)
	if told.Limit > 0 {
		told.Remaining = min(told.Remaining, told.Limit)
	}
	w := b.match(told)
	if w == nil {
		return
	}
	w.advance(now)
	w.learn(told)
	if w.limit == 0 || told.Remaining < 0 || r.seq == 0 {
		return
	}
	since := w.cost(&amount{
		requests: int64(b.seq - r.seq), input: b.gross.Input - r.then.Input, output: b.gross.Output - r.then.Output,
	})
	inFlight := w.cost(&amount{requests: int64(b.inFlight), input: b.open.Input, output: b.open.Output})
	w.bound(now, told, r, since, inFlight)
}

// match returns the limit that told is of; nil when that is not clear.
func (b *Budget) match(told feedback.Window) *budgetWindow {
	var only *budgetWindow
	n := 0
	for i := range b.windows {
		w := &b.windows[i]
		if w.given.Kind != told.Kind {
			continue
		}
		if told.Limit > 0 && (w.given.Limit == told.Limit || w.limit == told.Limit) {
			return w
		}
		only = w
		n++
	}
	if n < 2 {
		return only
	}
	period := impliedPeriod(told)
	only, n = nil, 0
	for i := range b.windows {
		if w := &b.windows[i]; w.given.Kind == told.Kind && period == w.period {
			only = w
			n++
		}
	}
	if n == 1 {
		return only
	}
	return nil
}

// learn puts limit and period in force as far as told is believed.
func (w *budgetWindow) learn(told feedback.Window) {
	if told.Limit <= 0 || w.whole > 0 { // what is told is of the whole
		return
	}
	limit, period := told.Limit, w.period
	if w.given.Limit > 0 {
		if p := impliedPeriod(told); p != 0 && p != period {
			return // of another window
		}
		limit = min(limit, w.given.Limit)
	} else if w.given.Period <= 0 && !w.given.Fixed {
		if p := w.guess.observe(told); p != 0 {
			period = p
		}
	}
	if limit != w.limit || period != w.period {
		w.set(limit, period)
	}
}

// bound moves level into the bounds that told leaves; see Sync. w is at now.
func (w *budgetWindow) bound(now time.Duration, told feedback.Window, r *Reservation, since, inFlight int64) {
	newest := r.seq >= w.told
	refill := int64(0)
	if !w.given.Fixed {
		refill = w.refill(now - r.at)
	} else {
		begin, known := w.at-w.period, w.open
		if told.Reset > 0 && told.Reset <= w.period+w.period/8 && newest {
			begin, known = addTime(now, told.Reset)-w.period, true
		}
		if !known || r.at < begin {
			return
		}
		w.open, w.at = true, addTime(begin, w.period)
	}
	slack := int64(0)
	if w.given.Kind != feedback.ScopeRequests && told.Remaining > 0 && told.Remaining%1000 == 0 {
		slack = 500
	}
	most := told.Remaining - since + refill
	least := told.Remaining - since - inFlight - slack
	switch {
	case w.level > most+slack && w.level > 0:
		w.level, w.rem = max(most, 0), 0
	case w.level < least && newest && told.Limit == w.limit && w.depth == w.limit:
		w.level, w.rem = min(least, w.depth), 0
		w.peaks.saw(w.level)
	}
	w.told = max(w.told, r.seq)
}

// refill returns how much comes back in d, rounded up, at most limit.
func (w *budgetWindow) refill(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(d), uint64(w.limit))
	if hi >= uint64(w.period) {
		return w.limit
	}
	n, part := bits.Div64(hi, lo, uint64(w.period))
	if part > 0 {
		n++
	}
	return int64(min(n, uint64(w.limit)))
}

// impliedPeriod returns the period of a token bucket that is full again after told.Reset, when that comes
// within a tenth of one that upstreams use; 0 when it does not, or cannot be told.
func impliedPeriod(told feedback.Window) time.Duration {
	used := told.Limit - told.Remaining
	if told.Limit <= 0 || told.Remaining < 0 || used <= 0 || told.Reset <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(told.Limit), uint64(told.Reset))
	if hi >= uint64(used) {
		return 0
	}
	n, _ := bits.Div64(hi, lo, uint64(used))
	for _, p := range [...]time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour} {
		if tenth := uint64(p / 10); n >= uint64(p)-tenth && n <= uint64(p)+tenth {
			return p
		}
	}
	return 0
}

// guess is a period that the answers so far agree on, and how much was used in them.
type guess struct {
	period      time.Duration
	least, most int64
}

// observe returns the period when it is believed.
func (g *guess) observe(told feedback.Window) time.Duration {
	used := told.Limit - told.Remaining
	if told.Remaining < 0 || used <= 0 || told.Reset <= 0 {
		return 0
	}
	p := impliedPeriod(told)
	if p == 0 || p != g.period {
		*g = guess{period: p, least: used, most: used}
		return 0
	}
	g.least, g.most = min(g.least, used), max(g.most, used)
	if g.most/2 < g.least {
		return 0
	}
	return p
}
