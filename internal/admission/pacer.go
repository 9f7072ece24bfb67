package admission

import (
	"math"
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
