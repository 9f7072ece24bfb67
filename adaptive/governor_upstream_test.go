package adaptive

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// metered is an upstream that lets a call pass when takes says so, and a guard with a law of which bursts of calls ask. Calls take a tenth of a second, or
// long, and refusals a hundredth.
type metered struct {
	g     *Governor
	rng   *rand.Rand
	takes func(now time.Duration) bool
	// Bursts of burst calls come each every, or half as much more or less of both.
	burst  int
	every  time.Duration
	busy   bool          // callers always wait, in place of bursts
	closed int           // so many callers, each with one call at a time, in place of callers that always wait
	long   time.Duration // how long calls take; 0: a tenth of a second
	// lasts draws how long a call takes, if that differs.
	lasts func() time.Duration
	// cost draws the tokens of a call, if calls tell them; asks is what the call costs that takes is asked for, and ended is told of one that has ended.
	cost  func() int64
	asks  int64
	ended func(sent time.Duration, tokens int64)

	now      time.Duration
	next     time.Duration // the pace's next start
	comes    time.Duration // the next burst
	waiting  int
	inFlight []flying
	ok       int
	refused  int
	learned  int // refusals with something accepted in between when a window was known first
}

// carried returns how many of the calls in flight the upstream works on.
func (u *metered) carried() (n int) {
	for _, f := range u.inFlight {
		if f.ok {
			n++
		}
	}
	return n
}

type flying struct {
	call   Call
	ends   time.Duration
	tokens int64
	ok     bool
}

// drawnBucket draws a bucket that refills at rate and holds at most holds seconds of it, and bursts of calls that come at most apart from one another.
func drawnBucket(rng *rand.Rand, holds float64, apart time.Duration) (u *metered, rate, burst float64) {
	between := func(lo, hi float64) float64 { return lo + rng.Float64()*(hi-lo) }
	rate = math.Exp(between(math.Log(0.5), math.Log(40)))
	burst = math.Ceil(rate * between(0.1, holds))
	u = &metered{g: New(Config{}), rng: rng, every: time.Duration(between(1e9, float64(apart)))}
	u.burst = int(math.Ceil(rate * u.every.Seconds() * between(0.5, 2)))
	return u, rate, burst
}

func (u *metered) run(until time.Duration) {
	const tick, alwaysWait = 5 * time.Millisecond, 50
	about := func() float64 { return 0.5 + u.rng.Float64() }
	for ; u.now < until; u.now += tick {
		switch {
		case u.busy:
			u.waiting = alwaysWait
			if u.closed > 0 {
				u.waiting = max(0, u.closed-len(u.inFlight))
			}
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
				if u.ended != nil {
					u.ended(f.call.SentAt, f.tokens)
				}
				u.g.Window(u.now, Window{Start: u.now - tick, OK: 1, Tokens: f.tokens, OutputTokens: f.tokens / 5, Timed: 1, Latency: u.now - f.call.SentAt, MinLatency: u.now - f.call.SentAt,
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
		if d.Until > 0 && u.now >= d.Until && u.waiting > 0 && (!d.UntilFull || len(u.inFlight) >= d.Limit) {
			d = u.g.Window(u.now, Window{Start: u.now - tick, InFlight: len(u.inFlight), Waiting: u.waiting})
		}
		for u.waiting > 0 && len(u.inFlight) < d.Limit && u.now >= d.NotBefore && (d.Pace == 0 || u.now >= u.next) {
			if d.Pace > 0 {
				u.next = max(u.next, u.now-tick) + time.Duration(1e9/d.Pace)
			}
			if !u.busy || u.closed > 0 {
				u.waiting--
			}
			f := flying{call: Call{SentAt: u.now, Episode: d.Episode, InFlight: len(u.inFlight) + 1}, ends: u.now + 10*time.Millisecond}
			if u.cost != nil {
				f.tokens = u.cost()
				u.asks = f.tokens
			}
			if f.ok = u.takes(u.now); f.ok {
				switch {
				case u.lasts != nil:
					f.ends = u.now + u.lasts()
				default:
					f.ends = u.now + max(u.long, 100*time.Millisecond)
				}
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

// slidingTokens has u meet a quota of tokens in any window of a length, for which each call reserves so many more than it uses: for good, or until it ends.
func slidingTokens(u *metered, tokens *int64, length time.Duration, reserves int64, forGood bool) {
	type entry struct {
		at     time.Duration
		tokens int64
	}
	var log []entry
	used := int64(0)
	u.takes = func(now time.Duration) bool {
		for len(log) > 0 && log[0].at+length <= now {
			used -= log[0].tokens
			log = log[1:]
		}
		cost := u.asks + reserves
		if used+cost > *tokens {
			return false
		}
		log, used = append(log, entry{now, cost}), used+cost
		return true
	}
	if forGood {
		return
	}
	u.ended = func(sent time.Duration, tokens int64) {
		for i := range log {
			if log[i].at == sent && log[i].tokens == tokens+reserves {
				log[i].tokens, used = tokens, used-reserves
				return
			}
		}
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
