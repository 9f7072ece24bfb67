package peers

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// AWS is the client-side rate limit of the AWS SDKs' "adaptive" retry mode: a pace that follows CUBIC, and no limit on
// calls in flight.
//
//	m   measured rate: answers a second, in buckets of half a second, smoothed:      m ← 0.8·r + 0.2·m
//	    throttled at t0 with the pace p (m when none was set yet; never more than m): w ← p,  p ← 0.7·w
//	    any other answer, τ = t − t0:   p ← min(0.4·(τ − K)³ + w,  2·m),  K = ∛(w·0.3/0.4)
//	    p is at least 0.5 a second. Until the first throttle there is no pace at all.
//
// Known faults, left as they are: k throttles of one burst cut to 0.7^k; no Retry-After is read; K is a few seconds
// whatever the upstream's window is, so a limit of requests a minute is met again and again.
//
// The SDKs' bucket holds one second's worth of starts; the guard's pace holds a little less, so bursts are smoother here.
type AWS struct {
	enabled   bool
	measured  float64 // m, answers a second
	bucket    int64   // number of the half second in which answers are counted
	started   bool
	count     int
	lastMax   float64       // w
	throttled time.Duration // t0
	k         float64       // K, in seconds
	d         adaptive.Decision
}

var _ adaptive.Law = (*AWS)(nil)

// The constants of the SDKs' specification.
const (
	awsBeta   = 0.7
	awsScale  = 0.4 // a second to the power of -3
	awsSmooth = 0.8
	awsMin    = 0.5 // starts a second
	awsBucket = 500 * time.Millisecond
)

// NewAWS returns the law; it has no parameters.
func NewAWS() *AWS {
	return &AWS{d: adaptive.Decision{Limit: adaptive.MaxLimit, Cause: adaptive.CauseStart}}
}

// Window implements [adaptive.Law].
func (l *AWS) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	if w.OK > 0 {
		l.measure(now, w.OK)
		l.other(now)
	}
	return l.d
}

// Ended implements [adaptive.Law].
func (l *AWS) Ended(now time.Duration, _ adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	if o.Class == feedback.Canceled {
		return l.d // there was no answer
	}
	l.measure(now, 1)
	if o.Class == feedback.Throttled {
		l.throttle(now)
	} else {
		l.other(now)
	}
	return l.d
}

// Hint implements [adaptive.Law] and changes nothing.
func (l *AWS) Hint(time.Duration, feedback.Window) adaptive.Decision { return l.d }

// Decision implements [adaptive.Law].
func (l *AWS) Decision() adaptive.Decision { return l.d }

// measure counts n answers into the measured rate.
func (l *AWS) measure(now time.Duration, n int) {
	b := int64(now / awsBucket)
	if !l.started {
		l.started, l.bucket = true, b
	}
	l.count += n
	if b > l.bucket {
		rate := float64(l.count) / (float64(b-l.bucket) * awsBucket.Seconds())
		l.measured = rate*awsSmooth + l.measured*(1-awsSmooth)
		l.count, l.bucket = 0, b
	}
}

func (l *AWS) throttle(now time.Duration) {
	rate := l.measured
	if l.enabled {
		rate = min(rate, l.d.Pace)
	}
	l.lastMax, l.throttled, l.enabled = rate, now, true
	l.k = math.Cbrt(l.lastMax * (1 - awsBeta) / awsScale)
	l.set(awsBeta*rate, adaptive.CauseThrottled)
}

func (l *AWS) other(now time.Duration) {
	if !l.enabled {
		return
	}
	x := since(now, l.throttled).Seconds() - l.k
	l.set(min(awsScale*x*x*x+l.lastMax, 2*l.measured), adaptive.CauseProbe)
}

func (l *AWS) set(rate float64, cause adaptive.Cause) {
	apply(&l.d, l.d.Limit, max(rate, awsMin), cause)
}
