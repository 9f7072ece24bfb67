package admission

import (
	"math"
	"sync/atomic"
	"time"
)

// pacer spaces starts: a leaky bucket kept as the instant at which it would be empty of debt
// (GCRA, ITU-T I.371). A cost larger than the depth passes when the bucket is full and is
// paid back by those who come after, so that no request waits for ever.
// The zero pacer lets everything pass.
type pacer struct {
	perUnit float64       // ns for one unit; 0 when no pace is set
	slack   time.Duration // what may be spent at once, as time
	tat     time.Duration // theoretical arrival time: when the bucket is full again
}

// set changes the pace to rate units a second with depth units at once; rate 0 lifts it. What was
// spent stays spent.
func (p *pacer) set(rate, depth float64) {
	if !(rate > 0) || math.IsInf(rate, 1) {
		p.perUnit, p.slack = 0, 0
		return
	}
	p.perUnit = min(float64(time.Second)/rate, float64(time.Hour))
	p.slack = time.Duration(max(1, depth) * p.perUnit)
}

// at returns the earliest instant at which cost units may be spent; it is now when they may be.
func (p *pacer) at(now time.Duration, cost float64) time.Duration {
	if p.perUnit == 0 {
		return now
	}
	need := min(time.Duration(cost*p.perUnit), p.slack)
	return max(now, p.tat+need-p.slack)
}

// spend spends cost units at now, whether or not they are there.
func (p *pacer) spend(now time.Duration, cost float64) {
	if p.perUnit == 0 {
		return
	}
	p.tat = max(p.tat, now) + time.Duration(cost*p.perUnit)
}

// refund takes back what was spent on cost units.
func (p *pacer) refund(cost float64) { p.tat -= time.Duration(cost * p.perUnit) }

// atomicPacer is a pacer for starts that is used without the lock: each costs one unit. set needs
// the lock of the Core.
type atomicPacer struct {
	perUnit atomic.Int64 // ns for one start; 0 when no pace is set
	slack   atomic.Int64 // what may be spent at once, in ns
	tat     atomic.Int64
}

// set changes the pace to rate starts a second with depth starts at once; rate 0 lifts it.
func (p *atomicPacer) set(rate, depth float64) {
	var q pacer
	q.set(rate, depth)
	perUnit := int64(math.Round(q.perUnit))
	if q.perUnit > 0 && perUnit == 0 {
		perUnit = 1
	}
	if perUnit != p.perUnit.Load() || int64(q.slack) != p.slack.Load() {
		p.slack.Store(int64(q.slack))
		p.perUnit.Store(perUnit)
	}
}

// trySpend spends one start at now when it may; it may be called at any time.
func (p *atomicPacer) trySpend(now time.Duration) bool {
	unit := p.perUnit.Load()
	if unit == 0 {
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
	if unit == 0 {
		return now
	}
	return max(now, time.Duration(p.tat.Load()+unit-max(p.slack.Load(), unit)))
}

// refund takes back one start.
func (p *atomicPacer) refund() { p.tat.Add(-p.perUnit.Load()) }
