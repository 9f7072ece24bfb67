package admission

import (
	"math"
	"math/bits"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

const (
	// maxUnits bounds every limit, cost and debt, in requests or tokens, so that sums stay far from overflow.
	maxUnits = 1 << 50
	// factorUnit is a cached factor of 1.
	factorUnit = 1 << 20
	// maxPeaks is how many highs of its level a window remembers.
	maxPeaks = 16
)

// amount is what calls took, before a limit has weighed it. cached is a part of input; rest is tokens of
// which only the sum with the others is known.
type amount struct{ requests, input, cached, output, rest int64 }

// budgetWindow is one limit. Its level is what may be spent, in whole units, and rem the part of the next
// unit that has been refilled, in 1/period units: exact numbers, which do not drift however small the steps
// are.
type budgetWindow struct {
	given  BudgetLimit
	limit  int64         // per period; 0: not told yet, and nothing is held back
	depth  int64         // the most that level can be
	period time.Duration // > 0
	cached int64         // in 1/factorUnit
	// Of a limit that is shared (Budget.Share): whole is the depth of all of it, 0 when it is not shared, scale is what limit and
	// period are multiplied by, and none says that others have all of it.
	share        float64
	whole, scale int64
	none         bool

	level int64 // <= depth; negative is a debt
	rem   int64 // 0 <= rem < period
	// at is the instant to which level and rem belong. Of a fixed window it is the window's end; of one that has not begun it is when
	// it is full, should it not be.
	at   time.Duration
	open bool // a fixed window: it has begun

	// forgiven is what was spent of a larger limit and made no debt of a smaller one. Until an instant it is none of a larger one's, either.
	forgiven      int64
	forgivenUntil time.Duration

	told  uint64 // seq of the newest reservation whose answer moved level
	guess guess
	peaks peaks
}

// set puts limit and period in force. What was spent stays spent, but a smaller limit makes no debt of it.
func (w *budgetWindow) set(limit int64, period time.Duration) {
	depth := limit
	if !w.given.Fixed && w.given.Burst > 0 {
		depth = min(depth, w.given.Burst)
	}
	level := depth
	if w.limit != 0 {
		level = max(w.level+depth-w.depth, min(w.level, 0))
	}
	w.peaks.shift(level - w.level)
	w.rem = w.remOf(period)
	w.limit, w.depth, w.period = limit, depth, period
	w.share, w.whole, w.scale, w.none = 0, 0, 0, false
	if w.level = level; level >= depth {
		w.rem = 0
	}
}

// remOf returns rem in 1/period units of another period.
func (w *budgetWindow) remOf(period time.Duration) int64 {
	hi, lo := bits.Mul64(uint64(w.rem), uint64(period))
	rem, _ := bits.Div64(hi, lo, uint64(w.period)) // less than period, as rem is less than that of now
	return int64(rem)
}

// forgive is called when a limit was changed at now, with the level and the depth before: it notes what a smaller limit has just forgiven, and
// takes that away again from what a larger one gives. After a period, or at the end of a fixed window, it would have been refilled.
func (w *budgetWindow) forgive(now time.Duration, level, depth int64) {
	more, owed := w.depth-depth, w.owed(now)
	if forgiven := w.level - level - more; forgiven > 0 {
		w.forgiven, w.forgivenUntil = owed+forgiven, addTime(now, w.period)
		if w.given.Fixed && w.open {
			w.forgivenUntil = w.at
		}
		return
	}
	taken := min(owed, max(more, 0))
	w.forgiven = owed - taken
	w.level -= taken
	w.peaks.shift(-taken)
}

// owed returns what is still forgiven at now.
func (w *budgetWindow) owed(now time.Duration) int64 {
	if now >= w.forgivenUntil {
		return 0
	}
	return w.forgiven
}

// cost returns what a counts for in the window's units, rounded up.
func (w *budgetWindow) cost(a *amount) int64 {
	switch w.given.Kind {
	case feedback.ScopeRequests, feedback.ScopeDaily:
		return a.requests
	case feedback.ScopeTokens:
		return w.input(a) + a.output + a.rest
	case feedback.ScopeInputTokens:
		return w.input(a)
	case feedback.ScopeOutputTokens:
		return a.output
	}
	return 0
}

func (w *budgetWindow) input(a *amount) int64 {
	if a.cached == 0 {
		return a.input
	}
	hi, lo := bits.Mul64(uint64(min(a.cached, a.input)), uint64(factorUnit-w.cached))
	return a.input - int64(hi<<44|lo>>20)
}

// refilled returns level and rem at now. Time that goes backwards refills nothing.
func (w *budgetWindow) refilled(now time.Duration) (level, rem int64) {
	if now <= w.at || w.level >= w.depth {
		return w.level, w.rem
	}
	since := uint64(now) - uint64(w.at)
	hi, lo := bits.Mul64(since, uint64(w.limit))
	lo, carry := bits.Add64(lo, uint64(w.rem), 0)
	hi += carry
	if hi >= uint64(w.period) {
		return w.depth, 0
	}
	units, part := bits.Div64(hi, lo, uint64(w.period))
	if units >= uint64(w.depth-w.level) {
		return w.depth, 0
	}
	return w.level + int64(units), int64(part)
}

// rolled returns level, end and open of a fixed window at now. A window begins with the first call after
// the one before has ended. A debt is carried over, and each window repays what it holds.
func (w *budgetWindow) rolled(now time.Duration) (level int64, end time.Duration, open bool) {
	if now < w.at || !w.open && w.level >= w.depth {
		return w.level, w.at, w.open
	}
	if w.level >= 0 {
		return w.depth, w.at, false
	}
	n := (uint64(now)-uint64(w.at))/uint64(w.period) + 1
	debt := uint64(-w.level)
	if hi, lo := bits.Mul64(n, uint64(w.depth)); hi > 0 || lo >= debt+uint64(w.depth) {
		return w.depth, w.at, false
	}
	return w.level + int64(n)*w.depth, after64(w.at, n, w.period), true
}

// after64 returns at + n*d, or the largest Duration.
func after64(at time.Duration, n uint64, d time.Duration) time.Duration {
	hi, lo := bits.Mul64(n, uint64(d))
	if hi > 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return addTime(at, time.Duration(lo))
}

// addTime returns at + d, d >= 0, or the largest Duration.
func addTime(at, d time.Duration) time.Duration {
	if s := at + d; s >= at {
		return s
	}
	return math.MaxInt64
}

// advance brings w to now.
func (w *budgetWindow) advance(now time.Duration) {
	if w.given.Fixed {
		if now >= w.at && (w.open || w.level < w.depth) {
			w.level, w.at, w.open = w.rolled(now)
			w.peaks.saw(w.depth) // no refund reaches over the end of a window
		}
		return
	}
	w.level, w.rem = w.refilled(now)
	w.at = max(w.at, now)
	w.peaks.saw(w.ceil())
}

// when returns the earliest instant at which cost may be spent if nothing else is; now when it may be. More
// than fits into the window may be spent when it is full.
func (w *budgetWindow) when(now time.Duration, cost int64) time.Duration {
	if cost <= 0 || w.limit == 0 {
		return now
	}
	if w.none {
		return math.MaxInt64
	}
	need := min(cost, w.depth)
	if w.given.Fixed {
		level, end, _ := w.rolled(now)
		switch {
		case level >= need:
			return now
		case level >= 0:
			return end
		}
		n := (uint64(need-level) + uint64(w.depth) - 1) / uint64(w.depth)
		return after64(end, n-1, w.period)
	}
	level, rem := w.refilled(now)
	if level >= need {
		return now
	}
	// The least d with (d*limit + rem)/period >= need - level.
	hi, lo := bits.Mul64(uint64(need-level), uint64(w.period))
	lo, borrow := bits.Sub64(lo, uint64(rem), 0)
	hi -= borrow
	lo, carry := bits.Add64(lo, uint64(w.limit-1), 0)
	hi += carry
	if hi >= uint64(w.limit) {
		return math.MaxInt64
	}
	d, _ := bits.Div64(hi, lo, uint64(w.limit))
	if d > math.MaxInt64 {
		return math.MaxInt64
	}
	return addTime(max(now, w.at), time.Duration(d))
}

// spend takes cost, whether or not it is there, for the reservation with number seq. w is at now.
func (w *budgetWindow) spend(now time.Duration, cost int64, seq uint64) {
	if cost <= 0 || w.limit == 0 {
		return
	}
	w.take(now, cost)
	w.peaks.begin(seq, w.ceil())
}

// take takes cost. A fixed window that is not full has begun.
func (w *budgetWindow) take(now time.Duration, cost int64) {
	w.begin(now)
	w.level = max(w.level-cost, -maxUnits)
}

// mostOwed is the largest debt that a call can make, by what it says that it costs or what it used: what comes back in maxGate, or in a period if that is longer. One that
// tells of absurdly many tokens holds nothing back for longer. Of a share that is small when calls end, and may grow again, it is a period of the whole.
func (w *budgetWindow) mostOwed() int64 {
	whole, period := w.unshared()
	return max(brings(w.limit, w.period, max(maxGate, period)), whole)
}

// unshared returns the limit and the period that w would have if it were not shared.
func (w *budgetWindow) unshared() (limit int64, period time.Duration) {
	if w.whole > 0 {
		return min(w.given.Limit, maxUnits), w.given.orMinute()
	}
	return w.limit, w.period
}

// brings returns how much of limit comes back in d.
func brings(limit int64, period, d time.Duration) int64 {
	hi, lo := bits.Mul64(uint64(limit), uint64(d))
	if hi >= uint64(period) {
		return maxUnits
	}
	n, _ := bits.Div64(hi, lo, uint64(period))
	return int64(min(n, maxUnits))
}

func (w *budgetWindow) begin(now time.Duration) {
	if w.given.Fixed && !w.open {
		w.open, w.at = true, addTime(now, w.period)
	}
}

// giveBack gives back cost units of the reservation with number seq, as far as they would still be
// there if they had never been taken: a window that was full in the meantime has forgotten them.
func (w *budgetWindow) giveBack(cost int64, seq uint64) {
	give := min(cost, max(w.depth-w.peaks.since(seq, w.depth), 0))
	w.peaks.raise(seq, give)
	w.level += give
	if w.level >= w.depth {
		w.level, w.rem = w.depth, 0
	}
	w.peaks.saw(w.ceil())
}

// ceil returns the level, rounded up.
func (w *budgetWindow) ceil() int64 {
	if w.rem > 0 {
		return w.level + 1
	}
	return w.level
}

// peaks remembers how high a window's level has been since each of the reservations in flight. Entry i is
// the highest level since the reservation with number e[i].seq, and holds for all up to the next entry;
// entries fall from the first to the last. When there is no room, the two oldest become one that holds for
// both.
type peaks struct {
	n int
	e [maxPeaks]struct {
		seq   uint64
		level int64
	}
}

// begin notes a reservation, and the level it left.
func (p *peaks) begin(seq uint64, level int64) {
	if p.n == maxPeaks {
		copy(p.e[1:], p.e[2:]) // the first of the two is the higher
		p.n--
	}
	p.e[p.n].seq, p.e[p.n].level = seq, level
	p.n++
}

// saw notes the level.
func (p *peaks) saw(level int64) {
	for p.n > 1 && p.e[p.n-2].level <= level {
		p.n--
	}
	if p.n > 0 {
		p.e[p.n-1].level = max(p.e[p.n-1].level, level)
	}
}

// since returns the highest level since the reservation seq, or unknown.
func (p *peaks) since(seq uint64, unknown int64) int64 {
	for i := p.n - 1; i >= 0; i-- {
		if p.e[i].seq <= seq {
			return p.e[i].level
		}
	}
	return unknown
}

// raise notes that the level since the reservation seq would have been higher by n. It would have been so at
// the highest since then and after, and before no higher than at the highest.
func (p *peaks) raise(seq uint64, n int64) {
	high := int64(math.MinInt64)
	for i := p.n - 1; i >= 0; i-- {
		e := &p.e[i]
		if i == p.n-1 || p.e[i+1].seq > seq { // it holds for a time since the reservation
			e.level += n
		}
		high = max(high, e.level)
		e.level = high
	}
}

// shift moves all levels, with the limit.
func (p *peaks) shift(n int64) {
	for i := range p.e[:p.n] {
		p.e[i].level += n
	}
}
