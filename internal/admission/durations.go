package admission

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// durations is how long calls take, by class, to tell who has waited for so long that his call would hardly be done before he gives up. It is kept while
// callers wait of whom that can be said. The zero durations knows nothing, and has nobody make way.
type durations struct {
	of [adaptive.NumClasses]duration
	// well is when a call last ended well, and since when one did after an outage: what began before tells nothing.
	well, since time.Duration
	outage      bool // nothing is answered
}

// duration is the mean of what calls take, and their mean deviation from it, in s, as TCP learns how long to wait for an answer (RFC 6298). A mean of 0 is not known.
type duration struct{ mean, deviation float32 }

// The weights are those of RFC 6298.
const (
	meanGain      = 1. / 8
	deviationGain = 1. / 4
	deviations    = 4
	// spareTime is how much more than what it takes a call is to have at the least: where calls take the same they do not deviate.
	spareTime = 1 + 1./8
	// mostKept is how much of a caller's time is kept for what nearly all calls take.
	mostKept = 0.45
)

// learn learns that a call took so long.
func (d *duration) learn(took float32) {
	if d.mean == 0 {
		d.mean, d.deviation = took, took/2
		return
	}
	e := took - d.mean
	d.mean += e * meanGain
	d.deviation += (max(e, -e) - d.deviation) * deviationGain
}

// least is what a call takes on average, and a little more.
func (d *duration) least() float32 { return d.mean * spareTime }

// nearly is what nearly all calls keep to.
func (d *duration) nearly() float32 { return max(d.mean+deviations*d.deviation, d.least()) }

// ended learns from a call that took so long.
//
// One that was cut off would have taken longer; how much longer is not known, and it counts as if it had the mean before it still, as where calls end at random.
// With no such calls the mean would be of those that are quick enough, and go down and down. It is at most twice what it took, so that the mean does not
// grow without end. But when calls are cut off that had more time than nearly all take, and for as long nothing ended well, nothing is answered at all, and that tells nothing of
// what calls take.
func (d *durations) ended(now, took time.Duration, class uint8, how feedback.Class) {
	of, s := &d.of[class%adaptive.NumClasses], max(0, float32(took.Seconds()))
	switch how {
	case feedback.OK:
		if d.answers(now) {
			*of = duration{}
		}
		of.learn(s)
	case feedback.Canceled, feedback.Timeout:
		if of.mean == 0 || now-took < d.since {
			return
		}
		most := of.nearly()
		d.outage = d.outage || s >= most*spareTime && float32((now-d.well).Seconds()) >= most
		if s += min(s, of.mean); !d.outage && s > of.mean {
			of.learn(s)
		}
	}
}

// answers notes that a call ended well; it reports whether that ended an outage.
func (d *durations) answers(now time.Duration) (again bool) {
	d.well = now
	if again = d.outage; again {
		d.outage, d.since = false, now
	}
	return again
}

// window learns from calls that ended well, of which only their sums are known, while nobody waited or beside those of which more is.
func (d *durations) window(now time.Duration, w *adaptive.Window) {
	if w.Timed == 0 {
		return
	}
	d.answers(now)
	if w.Classes == nil {
		d.of[0].follow(w.Timed, w.Latency)
		return
	}
	for i := range w.Classes {
		d.of[i].follow(w.Classes[i].Timed, w.Classes[i].Latency)
	}
}

// follow has the mean follow that of n calls.
func (d *duration) follow(n int, sum time.Duration) {
	if n == 0 {
		return
	}
	mean := float32(sum.Seconds()) / float32(n)
	if d.mean == 0 {
		d.learn(mean)
		return
	}
	d.mean += (mean - d.mean) * min(1, float32(n)*meanGain)
}

// makesWay reports whether w, which could start now, had better make way for those behind it, because it has waited for so long that its call would hardly be done before
// it gives up. A queue that is first in, first out would else let in only those whose patience is about to end. Newest, the last of w's line, must have more time left: where all
// give up at the same instant, nobody is better off than the one who goes first.
func (d *durations) makesWay(now time.Duration, w, newest *Waiter) bool {
	if d == nil || !w.mayMakeWay() {
		return false
	}
	left := float32((w.GiveUp - now).Seconds())
	return left < d.keep(w) && (newest.GiveUp == 0 || float32((newest.GiveUp-now).Seconds()) >= left*spareTime)
}

// keep returns how much of its time w is to have left for its call, in s: what nearly all take, but less than half of what it had when it asked, since the calls may be
// quicker again before all who wait have made way. What calls take on average is kept in any case, and no more in an outage. Who came with less than that,
// and was not tried before, is not refused for it: it may be of those whose calls are quick.
func (d *durations) keep(w *Waiter) float32 {
	of, all := &d.of[w.Call.Class%adaptive.NumClasses], float32((w.GiveUp - w.Since).Seconds())
	least, nearly := of.least(), min(of.nearly(), mostKept*all)
	switch {
	case least > all && !w.Retry:
		return nearly
	case d.outage:
		return least
	default:
		return max(least, nearly)
	}
}

// Took says that the call of a ticket has ended well. It is for a driver that does not Settle a call which End ended. It needs the lock.
func (c *Core) Took(now time.Duration, t Ticket) {
	c.took(now, t.At, uint8(t.mark>>markClass), feedback.OK)
}

// took says that a call of a class which started at sent, or Untimed, has ended.
func (c *Core) took(now, sent time.Duration, class uint8, how feedback.Class) {
	if s := c.state; s != nil && s.durations != nil && sent >= 0 {
		s.durations.ended(now, now-sent, class, how)
	}
}

// mayMakeWay reports whether w, if it waits, may have to make way.
func (w *Waiter) mayMakeWay() bool { return w.GiveUp != 0 && !w.WaitOnly }

// follow has s know how long calls take from now on when w, which is to wait, may have to make way.
func (s *state) follow(w *Waiter) {
	if s.durations != nil || !w.mayMakeWay() {
		return
	}
	s.durations = new(durations)
	if s.latency > 0 {
		s.durations.of[0].learn(float32(s.latency.Seconds()))
	}
}
