package classic

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/core"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Limit is an [adaptive.Law] as a core.Limit of go-concurrency-limits, so that a program
// that uses that library can try our law without a change of anything else. It is safe for
// concurrent use.
//
// # What is lost
//
// OnSample says of a call how long it took, how many were in flight, and whether it was
// dropped. So the law does not hear which limit refused, of an overload or a timeout as
// against a throttle, of Retry-After, of limits in header fields or texts, of tokens, or of
// the time to the first byte. EstimatedLimit has room for a limit only: a pace and a gate
// ("nothing before") that a law decides have no effect. Places that a law holds after their
// calls have ended (adaptive.Decision.FreeAfter) are taken off the limit, as many as there are
// on average. A drop is told to the law as
// feedback.Throttled by feedback.ScopeUnknown. Whoever can should use package limiter
// instead.
//
// # Which limiter
//
// Best is a limiter that calls OnSample for each call (one of your own, or limiter code
// built on core.Strategy). Make the Limit with 1 call a sample for it.
//
// The library's DefaultLimiter calls OnSample once a window: of more than windowSize calls
// that ended well, with the least of their latencies; a drop only marks the window. Make
// the windows as short as it allows, and tell the Limit how many calls a sample stands for:
//
//	law := adaptive.New(adaptive.Config{})
//	limiter.NewDefaultLimiter(classic.NewLimit(law, 11), 1, 1, 0, 10, strategy, logger, registry)
//
// that is: windows of 1 ns at least and at most, no least latency (calls quicker than 100
// µs are discarded by its default), and 10 calls, which is the least that it takes and
// means 11. While everything is refused, DefaultLimiter calls OnSample not at all, so no
// law can lower the limit then. The library's blocking limiters and its HTTP and gRPC
// middleware are built on DefaultLimiter or on one that you hand in.
type Limit struct {
	limit     atomic.Int64
	listeners atomic.Pointer[[]core.LimitChangeListener]
	calls     int                  // that ended well, a sample
	clock     func() time.Duration // since an origin

	// mu guards what follows, and every call of law.
	mu    sync.Mutex
	law   adaptive.Law
	told  time.Duration // the end of the last window
	since time.Duration // when the episode began; the first one always was
	mean  float64       // how long calls take, s, of some 16 samples; 0: not known

	// notify is held while listeners run, and taken before mu is left, so that they are
	// told of the limits in their order.
	notify sync.Mutex
}

var _ core.Limit = (*Limit)(nil)

// NewLimit returns law as a core.Limit. The law must not be used by anything else afterwards.
// callsPerSample is how many calls that ended well a sample stands for (1 or more; less means 1).
func NewLimit(law adaptive.Law, callsPerSample int) *Limit {
	origin := time.Now()
	l := &Limit{law: law, calls: max(1, callsPerSample), clock: func() time.Duration { return time.Since(origin) }, since: math.MinInt64}
	l.limit.Store(int64(law.Decision().Limit))
	l.listeners.Store(new([]core.LimitChangeListener))
	return l
}

// EstimatedLimit implements core.Limit: it returns the law's limit, in calls in flight (>=
// 1). It never waits.
func (l *Limit) EstimatedLimit() int { return int(l.limit.Load()) }

// NotifyOnChange implements core.Limit. The listener is told of each change from now on,
// one at a time and in their order, after the law has been left: it may call EstimatedLimit
// and NotifyOnChange, but not OnSample.
func (l *Limit) NotifyOnChange(listener core.LimitChangeListener) {
	for {
		old := l.listeners.Load()
		all := append((*old)[:len(*old):len(*old)], listener)
		if l.listeners.CompareAndSwap(old, &all) {
			return
		}
	}
}

// OnSample implements core.Limit. The call is taken to have ended when OnSample is called,
// and to have started rtt (in nanoseconds) before; startTime is not used, because
// DefaultLimiter does not tell it.
func (l *Limit) OnSample(startTime, rtt int64, inFlight int, didDrop bool) {
	latency := max(0, time.Duration(rtt))
	inFlight = max(1, inFlight)

	l.mu.Lock()
	now := l.clock()
	before := l.law.Decision()
	ok := l.calls
	if didDrop && ok == 1 {
		ok = 0 // else a sample that was dropped stands for calls that ended well, too
	}
	switch {
	case ok == 0: // how long a refusal takes says nothing of calls
	case l.mean == 0:
		l.mean = latency.Seconds()
	default:
		l.mean += (latency.Seconds() - l.mean) / 16
	}
	places := int(min(float64(inFlight)*l.placesPerCall(before), 1<<53))
	w := adaptive.Window{Start: l.told, OK: ok, Timed: ok, InFlight: inFlight, Held: places - inFlight, Full: places >= before.Limit}
	if ok > 0 {
		w.Latency = time.Duration(min(float64(latency)*float64(ok), 1<<62))
		w.MinLatency, w.MaxInFlight = latency, places
	}
	d := l.law.Window(now, w)
	l.told = now
	if didDrop {
		call := adaptive.Call{SentAt: now - latency, Episode: before.Episode, InFlight: places}
		if call.SentAt < l.since {
			call.Episode-- // it started before the cut that began this episode
		}
		// The library has a limit and no pace, so whatever refused is answered as a limit on calls in flight.
		d = l.law.Ended(now, call, adaptive.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency})
	}
	if d.Episode != before.Episode {
		l.since = now
	}
	limit := max(1, int(float64(d.Limit)/l.placesPerCall(d)))
	if int64(limit) == l.limit.Load() {
		l.mu.Unlock()
		return
	}
	l.limit.Store(int64(limit))
	l.notify.Lock()
	l.mu.Unlock()
	defer l.notify.Unlock()
	for _, listener := range *l.listeners.Load() {
		listener(limit)
	}
}

// placesPerCall returns how many places there are to a call in flight, with those that d holds after their calls have ended: by Little's law, their
// times are in the same ratio. It needs mu.
func (l *Limit) placesPerCall(d adaptive.Decision) float64 {
	if d.FreeAfter <= 0 || l.mean <= 0 {
		return 1
	}
	return 1 + d.FreeAfter.Seconds()/l.mean
}

// String returns the limit in force.
func (l *Limit) String() string { return fmt.Sprintf("flyball.Limit{limit=%d}", l.EstimatedLimit()) }
