package peers

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// ARC is adaptive request concurrency as Vector describes it, with its defaults. Once in each mean round trip,
//
//	limit + 1      when the limit was reached, nothing pushed back, and the mean r of the successes since is at most m
//	⌊0.9 · limit⌋  (at least 1) when something pushed back, or r >= m + 2.5·√v
//
// where m and v are the exponentially weighted mean and variance of r (weight 0.4). The first success sets m. Back-pressure is a
// refusal that can be retried, a failed server or a time-out. The limit starts at 1 and ends at 200.
//
// As an [adaptive.Law] it is fed each attempt, which is what a guard in a client library sees. Vector, since 2021, wraps it around
// the retries, so that it sees a refusal only as a long round trip; [ARC.Sent], [ARC.Succeeded] and [ARC.PushedBack] feed it either way, and the
// tests hold both against the ranges that Vector publishes. Its latest source has each attempt told again (record_attempt in controller.rs), and there
// the limit is looked at when a request ends, which holds its place while it rests between attempts.
//
// Known faults, left as they are: it takes a longer answer for a longer queue; it grows by one in a round trip at
// most, from 1; it reads no Retry-After; a limit that was reached once is kept while fewer are in flight, unless
// round trips have never varied: one that equals the mean then counts as longer, and the limit falls to 1.
type ARC struct {
	limit   int
	mean    float64       // m, ns
	dev2    float64       // v, ns²
	sum     float64       // of round trips since the last update, ns
	n       int           // how many
	next    time.Duration // update
	seeded  bool
	reached bool
	pushed  adaptive.Cause // back-pressure since the last update: its cause; CauseStart is none
	d       adaptive.Decision
}

var _ adaptive.Law = (*ARC)(nil)

// The defaults of Vector.
const (
	arcInitial = 1
	arcMax     = 200
	arcBackoff = 0.9
	arcAlpha   = 0.4
	arcScale   = 2.5 // deviations
	arcRound   = float64(time.Microsecond)
)

// NewARC returns the law with Vector's defaults.
func NewARC() *ARC {
	return &ARC{limit: arcInitial, d: adaptive.Decision{Limit: arcInitial, Cause: adaptive.CauseStart}}
}

// Limit returns the limit in force.
func (a *ARC) Limit() int { return a.limit }

// Sent tells of a start that left inFlight calls in flight, itself included.
func (a *ARC) Sent(inFlight int) {
	if inFlight >= a.limit {
		a.reached = true
	}
}

// Succeeded tells of a success after a round trip.
func (a *ARC) Succeeded(now, rtt time.Duration) (updated bool, mean time.Duration) {
	a.sample(float64(rtt), 1)
	return a.update(now)
}

// PushedBack tells of back-pressure.
func (a *ARC) PushedBack(now time.Duration, cause adaptive.Cause) (updated bool, mean time.Duration) {
	a.pushed = cause
	return a.update(now)
}

func (a *ARC) sample(sum float64, n int) {
	a.sum += max(0, sum)
	a.n += n
}

// update adjusts the limit when it is time to; it then returns the mean round trip that it used, or -1 when there was none.
func (a *ARC) update(now time.Duration) (bool, time.Duration) {
	r, has := 0.0, a.n > 0
	if has {
		r = math.Round(a.sum/float64(a.n)/arcRound) * arcRound
	}
	if !a.seeded {
		if has {
			a.seeded, a.mean, a.dev2 = true, r, 0
			a.next = now + time.Duration(r)
		}
		return false, 0
	}
	if now < a.next {
		return false, 0
	}
	switch {
	case a.limit < arcMax && a.reached && a.pushed == adaptive.CauseStart && has && r <= a.mean:
		a.set(a.limit+1, adaptive.CauseProbe)
	case a.limit > 1 && a.pushed != adaptive.CauseStart:
		a.set(max(1, int(float64(a.limit)*arcBackoff)), a.pushed)
	case a.limit > 1 && r >= a.mean+arcScale*math.Sqrt(a.dev2):
		a.set(max(1, int(float64(a.limit)*arcBackoff)), adaptive.CauseLatency)
	}
	used := time.Duration(-1)
	if has {
		diff := r - a.mean
		a.mean += arcAlpha * diff
		a.dev2 = (1 - arcAlpha) * (a.dev2 + arcAlpha*diff*diff)
		used = time.Duration(r)
	}
	a.next = now + time.Duration(a.mean)
	a.sum, a.n, a.reached, a.pushed = 0, 0, false, adaptive.CauseStart
	return true, used
}

func (a *ARC) set(limit int, cause adaptive.Cause) {
	a.limit = limit
	apply(&a.d, limit, 0, cause)
}

// Window implements [adaptive.Law].
func (a *ARC) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	a.reached = a.reached || w.Full
	if w.Timed > 0 {
		a.sample(float64(w.Latency), w.Timed)
	}
	a.update(now)
	return a.d
}

// Ended implements [adaptive.Law].
func (a *ARC) Ended(now time.Duration, c adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.Timeout, feedback.ServerError:
		a.Sent(c.InFlight)
		a.PushedBack(now, causeOf(o.Class))
	}
	return a.d
}

// Hint implements [adaptive.Law] and changes nothing.
func (a *ARC) Hint(time.Duration, feedback.Window) adaptive.Decision { return a.d }

// Decision implements [adaptive.Law].
func (a *ARC) Decision() adaptive.Decision { return a.d }
