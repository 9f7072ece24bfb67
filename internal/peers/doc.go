// Package peers has what others do about an upstream's limits, so that flyball can be compared with it: control laws
// ([ARC], [AWS], [CIAD], [Rate]), each an [adaptive.Law], and what callers do by themselves ([Caller]).
//
// They are written from published descriptions, in this package's own words, and are run as their authors describe
// them, faults included. What is known to be wrong with them is said at each. The laws of
// go-concurrency-limits are that library's own code; see package adaptive/classic.
//
// Like every law they are told the time and hold no lock, goroutine, timer or randomness. All of them ask for a
// window at each call's end.
package peers

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// apply counts an episode for each cut and gives every change its cause.
func apply(d *adaptive.Decision, limit int, pace float64, cause adaptive.Cause) {
	if limit == d.Limit && pace == d.Pace {
		return
	}
	if limit < d.Limit || pace < d.Pace && pace > 0 || pace > 0 && d.Pace == 0 {
		d.Episode++
	}
	d.Limit, d.Pace, d.Cause = limit, pace, cause
}

// causeOf returns why a law cuts after a call that ended so.
func causeOf(c feedback.Class) adaptive.Cause {
	switch c {
	case feedback.Overloaded, feedback.ServerError:
		return adaptive.CauseOverloaded
	case feedback.Timeout:
		return adaptive.CauseTimeout
	}
	return adaptive.CauseThrottled
}

// since is how long it is from then to now; never negative, as a clock may go backwards.
func since(now, then time.Duration) time.Duration { return max(0, now-then) }
