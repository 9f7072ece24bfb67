package admission

import (
	"math"
	"sync/atomic"
	"time"
)

// pacer spaces starts: a leaky bucket kept as the instant at which it would be empty of debt
// (GCRA, ITU-T I.371). A cost larger than the depth passes when the bucket is full and is
// paid back by those who come after, for mostOwed at most, so that no request waits for ever.
// The zero pacer lets everything pass.
type pacer struct {
	perUnit float64       // ns for one unit; 0 or less when no pace is set: then minus that in which tat was reckoned
	slack   time.Duration // what may be spent at once, as time
	tat     time.Duration // theoretical arrival time: when the bucket is full again
}

// set changes the pace to rate units a second with depth units at once; rate 0 lifts it. What was spent stays spent, in units, but for
// what the depth before allowed and this one does not; and as nothing is held back while no pace is set, no longer than it would have been owed then.
func (p *pacer) set(now time.Duration, rate, depth float64) {
	was, owed := math.Abs(p.perUnit), float64(p.tat-now)
	if !(rate > 0) || math.IsInf(rate, 1) {
		p.perUnit = -was
		return
	}
	lifted, allowed := p.perUnit <= 0, float64(p.slack)
	p.perUnit = min(float64(time.Second)/rate, float64(time.Hour))
	p.slack = p.time(max(1, depth))
	if was > 0 && owed > 0 {
		borrowed := max(0, owed-allowed) / was * p.perUnit
		debt := min(owed/was*p.perUnit, float64(p.slack)+borrowed, max(float64(p.slack), float64(mostOwed)))
		if lifted {
			debt = min(debt, owed)
		}
		p.tat = now + time.Duration(debt)
	}
}

const (
	// mostOwed is for how long a cost larger than the depth is paid back at most. Upstreams count tokens by the minute, and a pace that is much slower
	// than that is a guess, which nobody can put right while nothing starts.
	mostOwed = 5 * time.Minute
	// maxDebt bounds, in ns, how long a cost takes: 3 years, so that no sum overflows.
	maxDebt = 1e17
)

// time returns how long cost units take.
func (p *pacer) time(cost float64) time.Duration {
	return time.Duration(min(max(cost, 0)*max(p.perUnit, 0), maxDebt))
}

// at returns the earliest instant at which cost units may be spent; it is now when they may be.
func (p *pacer) at(now time.Duration, cost float64) time.Duration {
	if p.perUnit <= 0 {
		return now
	}
	need := min(p.time(cost), p.slack)
	return max(now, p.tat+need-p.slack)
}

// spend spends cost units at now, whether or not they are there.
func (p *pacer) spend(now time.Duration, cost float64) {
	if p.perUnit <= 0 {
		return
	}
	p.tat = min(max(p.tat, now)+p.time(cost), now+max(p.slack, mostOwed))
}

// refund takes back what was spent on cost units.
func (p *pacer) refund(cost float64) { p.tat -= p.time(cost) }

// atomicPacer is a pacer for starts that is used without the lock: each costs one unit. set needs
// the lock of the Core.
type atomicPacer struct {
	perUnit atomic.Int64 // ns for one start; 0 or less when no pace is set, as in pacer
	slack   atomic.Int64 // what may be spent at once, in ns
	tat     atomic.Int64
}

// set changes the pace to rate starts a second with depth starts at once; rate 0 lifts it.
func (p *atomicPacer) set(now time.Duration, rate, depth float64) {
	was := p.perUnit.Load()
	q := pacer{perUnit: float64(was), slack: time.Duration(p.slack.Load()), tat: time.Duration(p.tat.Load())}
	q.set(now, rate, depth)
	perUnit := int64(math.Round(q.perUnit))
	if q.perUnit > 0 && perUnit == 0 {
		perUnit = 1
	}
	if perUnit == was && int64(q.slack) == p.slack.Load() {
		return
	}
	if perUnit > 0 {
		p.tat.Store(int64(q.tat)) // a start at the same time may be forgotten; never a debt gained
	}
	p.slack.Store(int64(q.slack))
	p.perUnit.Store(perUnit)
}

// trySpend spends one start at now when it may; it may be called at any time.
func (p *atomicPacer) trySpend(now time.Duration) bool {
	unit := p.perUnit.Load()
	if unit <= 0 {
		return true
	}
	for {
		tat := p.tat.Load()
		if tat+unit-max(p.slack.Load(), unit) > int64(now) {
			return false
		}
		if p.tat.CompareAndSwap(tat, max(tat, int64(now))+unit) {
			return true
		}
	}
}

// at returns the earliest instant at which one start may be spent; it is now when it may be.
func (p *atomicPacer) at(now time.Duration) time.Duration {
	unit := p.perUnit.Load()
	if unit <= 0 {
		return now
	}
	return max(now, time.Duration(p.tat.Load()+unit-max(p.slack.Load(), unit)))
}

// drain takes away what was saved up while nothing started: the next start is a whole gap after one at now.
func (p *atomicPacer) drain(now time.Duration) {
	unit := p.perUnit.Load()
	if unit <= 0 {
		return
	}
	full := int64(now) + max(p.slack.Load(), unit)
	for tat := p.tat.Load(); tat < full && !p.tat.CompareAndSwap(tat, full); tat = p.tat.Load() {
	}
}

// refund takes back one start.
func (p *atomicPacer) refund() { p.tat.Add(-max(0, p.perUnit.Load())) }
