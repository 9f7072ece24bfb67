package adaptive

import (
	"math/rand/v2"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// metered is an upstream that lets a call pass when takes says so, and a guard with a law of which bursts of calls ask. Calls take a tenth of a second, and
// refusals a hundredth.
type metered struct {
	g     *Governor
	rng   *rand.Rand
	takes func(now time.Duration) bool
	// Bursts of burst calls come each every, or half as much more or less of both.
	burst int
	every time.Duration
	busy  bool // callers always wait, in place of bursts

	now      time.Duration
	next     time.Duration // the pace's next start
	comes    time.Duration // the next burst
	waiting  int
	inFlight []flying
	ok       int
	refused  int
	learned  int // refusals with something accepted in between when a window was known first
}

type flying struct {
	call Call
	ends time.Duration
	ok   bool
}

func (u *metered) run(until time.Duration) {
	const tick, alwaysWait = 5 * time.Millisecond, 50
	about := func() float64 { return 0.5 + u.rng.Float64() }
	for ; u.now < until; u.now += tick {
		switch {
		case u.busy:
			u.waiting = alwaysWait
		case u.now >= u.comes:
			u.waiting += int(float64(u.burst) * about())
			u.comes = u.now + time.Duration(float64(u.every)*about())
		}
		left := u.inFlight[:0]
		for i, f := range u.inFlight {
			switch {
			case f.ends > u.now:
				left = append(left, f)
			case f.ok:
				u.ok++
				u.g.Window(u.now, Window{Start: u.now - tick, OK: 1, Timed: 1, Latency: u.now - f.call.SentAt, MinLatency: u.now - f.call.SentAt,
					MaxInFlight: f.call.InFlight, Full: u.waiting > 0, InFlight: len(left) + len(u.inFlight) - i - 1, Waiting: u.waiting})
			default:
				u.refused++
				if !u.busy {
					u.waiting++ // it comes again
				}
				u.g.Ended(u.now, f.call, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
				if u.learned == 0 && u.g.s.Slide.Of > 0 {
					u.learned = int(u.g.s.Slide.N)
				}
			}
		}
		u.inFlight = left
		d := u.g.Decision()
		if d.Until > 0 && u.now >= d.Until && u.waiting > 0 {
			d = u.g.Window(u.now, Window{Start: u.now - tick, InFlight: len(u.inFlight), Waiting: u.waiting})
		}
		for u.waiting > 0 && len(u.inFlight) < d.Limit && u.now >= d.NotBefore && (d.Pace == 0 || u.now >= u.next) {
			if d.Pace > 0 {
				u.next = max(u.next, u.now-tick) + time.Duration(1e9/d.Pace)
			}
			if !u.busy {
				u.waiting--
			}
			f := flying{call: Call{SentAt: u.now, Episode: d.Episode, InFlight: len(u.inFlight) + 1}, ends: u.now + 10*time.Millisecond}
			if f.ok = u.takes(u.now); f.ok {
				f.ends = u.now + 100*time.Millisecond
			}
			u.inFlight = append(u.inFlight, f)
			d = u.g.Decision()
		}
	}
}

// slidingLog allows calls in any window of a length.
func slidingLog(calls *int, length time.Duration) func(time.Duration) bool {
	var log []time.Duration
	return func(now time.Duration) bool {
		for len(log) > 0 && log[0]+length <= now {
			log = log[1:]
		}
		if len(log) >= *calls {
			return false
		}
		log = append(log, now)
		return true
	}
}

// bucketOf allows rate calls a second and holds burst of them.
func bucketOf(rate, burst float64) func(time.Duration) bool {
	held, at := burst, time.Duration(0)
	return func(now time.Duration) bool {
		held, at = min(burst, held+rate*(now-at).Seconds()), now
		if held < 1 {
			return false
		}
		held--
		return true
	}
}

// windows allows so many calls in each window of a length, the first of which begins at from.
type windows struct {
	allows       int
	length, from time.Duration
	window       int64
	used         int // in it
}

func (w *windows) takes(now time.Duration) bool {
	if n := int64((now - w.from) / w.length); n != w.window {
		w.window, w.used = n, 0
	}
	if w.used >= w.allows {
		return false
	}
	w.used++
	return true
}
