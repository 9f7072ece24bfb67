package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// The constants of AIMD. Those that the caller may set are in Config.
//
// "Experiment" is a race in virtual time: rules of this family against eight published limiters,
// over hard caps, token buckets, fixed windows, outages, replicas and noise, 20 seeds each. It
// compared whole laws more than single numbers, so a number from it is a starting
// point and not an optimum.
const (
	// overloadBackoff is the largest factor of a cut after an answer that says that the upstream
	// lacks capacity. Such an answer hits all callers, so each has to make more room than
	// for a limit of its own. Experiment; not varied.
	overloadBackoff = 0.70
	// timeoutBackoff is the smallest factor of a cut after a timeout: weaker evidence, because
	// a call can be slow on its own account. Experiment; not varied.
	timeoutBackoff = 0.85
	// restartBelow and restartTo, in percent of Bound: a law that was cut below the first
	// returns to the second in slow start, as soon as a call that started after the cut
	// ends well. It is what TCP does after a timeout (RFC 5681 section 3.1: ssthresh).
	// Experiment: without it, each window of a blind fixed-window quota took the limit down
	// to almost nothing; with it, hard caps did no worse.
	restartBelow, restartTo = 65, 90
	// grownAbove, in percent of Bound: calls that end well with more in flight than this
	// prove that the upstream has grown. Experiment: with it and the restart, accelerating
	// the additive increase was of no more use.
	grownAbove = 115
	// doubtBelow, in percent: a refusal with less in flight than this share of a stated
	// limit contradicts the statement. Experiment; not varied.
	doubtBelow = 60
	// flightFactor: the limit never grows beyond this many times the most that was in
	// flight since the last cut (draft-ietf-ccwg-ratelimited-increase: in slow start, cwnd
	// stays within twice the largest flight).
	flightFactor = 2
	// minAsk and maxAsk bound the time between windows, where the law does not ask for each
	// call: at most 1000 windows a second, which at some 30 ns each cost nothing, and at least
	// one, so that what a person watches is fresh. askShare is the share of the mean
	// latency in between: the law sees a change within an eighth of a round trip. A choice.
	minAsk   = time.Millisecond
	maxAsk   = time.Second
	askShare = 8
	// latencyGain is 1/alpha of the smoothed mean latency (RFC 6298 section 2.3: alpha = 1/8).
	latencyGain = 8
)

// AIMD is flyball's simple law, law = "aimd" of limits.toml: additive increase, multiplicative decrease, made safe for an
// upstream that refuses in bursts. Its only actuator is the limit: it sets no pace and no gate
// (a guard keeps Retry-After by itself).
//
// The limit falls:
//
//   - One cut an episode. A refusal of a call that started before the last cut causes no other
//     (RFC 9002 section 7.3.2, by [Call].Episode instead of packet numbers).
//   - A cut starts from what was in flight when the refused call started, or from the limit
//     if that is smaller, because the boundary is where the refusal happened. It is
//     multiplied with Backoff for feedback.Throttled, whatever the scope (the limit is all
//     there is to turn); with 0.70 or Backoff, whichever is smaller, for
//     feedback.Overloaded; with 0.85 or Backoff, whichever is larger, for feedback.Timeout;
//     rounded down, and never below Min.
//   - Nothing else is congestion: not feedback.QuotaExhausted (money or a day is not cured by
//     fewer calls at a time), ClientError, ServerError (a broken upstream is broken for one
//     call, too; an upstream that lacks capacity says so) or Canceled.
//
// It rises only when it is used ([Window].Full), never beyond twice the most in flight since the
// last cut (or Initial), and, after a cut, not before a call that started after it has ended well:
//
//   - In slow start by one for each call that ended well: doubling a round trip. So it
//     begins; the first cut ends it (RFC 9002 section 7.3.1).
//   - Else by one an epoch: when max(Epoch, limit) calls have ended well.
//   - Restart: cut below 0.65 of the level where the trouble began, as after an outage, it
//     returns to 0.9 of that level in slow start, beginning at Initial, once a call ends
//     well again.
//   - Growth: when calls end well at 1.15 times that level, the upstream has more room
//     than it had, and slow start begins again.
//
// A limit of the upstream on calls in flight that an answer states ([AIMD.Hint]) caps the
// limit. A limit that is less than half in use for a minute, or for five mean latencies if
// that is longer, is halved, but not below Initial: what nobody uses nobody knows. A limit
// below Initial is left alone, because refusals set it. As a law is told nothing while
// nothing ends, the first calls after an idle time still start under the old limit.
//
// AIMD allocates nothing after NewAIMD, and each event costs constant time. The zero AIMD is
// not usable.
type AIMD struct {
	cfg Config // with defaults, in range
	s   AIMDState
}

var _ Law = (*AIMD)(nil)

// NewAIMD returns a law at its start. Zero fields of cfg mean their defaults; what is out of
// range is moved into it ([Config.Check] tells).
func NewAIMD(cfg Config) *AIMD {
	cfg = aimdDefaults(cfg).clamp()
	return &AIMD{cfg: cfg, s: AIMDState{
		Limit:     cfg.Initial,
		SlowStart: true,
		Flight:    cfg.Initial,
		At:        math.MinInt64,
		Cause:     CauseStart,
	}}
}

// clamp returns c with defaults, and with all fields in range.
func (c Config) clamp() Config {
	c = c.Defaults()
	c.Max = min(max(c.Max, 1), MaxLimit)
	c.Min = min(max(c.Min, 1), c.Max)
	c.Initial = min(max(c.Initial, c.Min), c.Max)
	if math.IsNaN(c.Backoff) {
		c.Backoff = Config{}.Defaults().Backoff
	}
	c.Backoff = min(max(c.Backoff, 0.1), 0.99)
	c.Epoch = min(max(c.Epoch, 1), 10_000)
	if !(c.RefusalBudget >= minBudget) {
		c.RefusalBudget = Config{}.Defaults().RefusalBudget
	}
	c.RefusalBudget = min(c.RefusalBudget, maxBudget)
	if c.Objective != Knee && c.Objective != Latency {
		c.Objective = Throughput
	}
	if !(c.LatencyFactor > 0 && c.LatencyFactor <= 1000) {
		c.LatencyFactor = 0
	} else {
		c.LatencyFactor = max(c.LatencyFactor, 1.05)
	}
	return c
}

// aimdDefaults sets the fields of c whose defaults are AIMD's own.
func aimdDefaults(c Config) Config {
	if c.Backoff == 0 {
		c.Backoff = 0.8
	}
	if c.Max == 0 {
		c.Max = max(1024, min(c.Min, MaxLimit))
	}
	return c
}

// Decision implements [Law].
func (l *AIMD) Decision() Decision {
	s := &l.s
	return Decision{
		Limit:    s.Limit,
		Binding:  s.Binding,
		Cause:    s.Cause,
		Episode:  s.Episode,
		AskAgain: s.AskAgain,
	}
}

// Window implements [Law]. Windows may have any length: the law adds them up to its epochs.
func (l *AIMD) Window(now time.Duration, w Window) Decision {
	s := &l.s
	t := l.advance(now)
	w.OK = max(0, w.OK)
	w.InFlight, w.MaxInFlight = level(w.InFlight), level(w.MaxInFlight)

	s.InFlight = w.InFlight
	l.learnLatency(&w)
	aged := l.age(t, &w)
	if fresh := l.fresh(&w); fresh > 0 && !aged {
		l.grow(&w, fresh)
	}

	if s.Recovering || s.SlowStart && w.Full && s.Limit < l.ceiling() {
		// What the next call says is needed at once. Any window would keep the end of a
		// bunch of calls until the next bunch ends, a whole round trip later.
		s.AskAgain = 0
	} else {
		s.AskAgain = after(now, min(max(s.Latency/askShare, minAsk), maxAsk))
	}
	return l.Decision()
}

// statedAge is how long a statement holds that is not repeated. Limits move with tiers and load, and a limit
// that is obeyed is never contradicted, so it has to be tried again some time.
const statedAge = 10 * time.Minute

// level returns n as a number of calls in flight that can be reckoned with.
func level(n int) int { return min(max(0, n), MaxLimit) }

// Ended implements [Law].
func (l *AIMD) Ended(now time.Duration, c Call, o Outcome) Decision {
	s := &l.s
	t := l.advance(now)
	stale := int32(c.Episode-s.Episode) < 0
	if stale && s.Old > 0 {
		s.Old--
	}
	cause, factor := l.congestion(&o)
	l.bind(&o, stale)
	if factor < 1 && !stale {
		l.cut(t, max(1, level(c.InFlight)), cause, factor, o.Scope)
	}
	return l.Decision()
}

// Hint implements [Law]. A stated limit on calls in flight caps the limit until another
// number is stated, until nobody has stated it for ten minutes, or until a refusal with less than 0.6 of it in flight contradicts it;
// the same number is then not believed again. A number below Min means Min, and zero says nothing. A larger number
// than before is approached in slow start. Other windows are ignored: a law that has a
// limit only has no use for them.
func (l *AIMD) Hint(now time.Duration, w feedback.Window) Decision {
	l.advance(now)
	s := &l.s
	if w.Kind != feedback.ScopeConcurrency || w.Limit <= 0 {
		return l.Decision()
	}
	n := int(min(max(w.Limit, int64(l.cfg.Min)), MaxLimit))
	s.StatedAt = s.At
	if n == s.Stated {
		return l.Decision()
	}
	atCap := s.Stated > 0 && !s.Doubted && s.Limit >= s.Stated
	s.Stated, s.Doubted = n, false
	switch {
	case s.Limit > n:
		s.Limit, s.Cause, s.Binding = n, CauseHint, feedback.ScopeConcurrency
		s.Good, s.Used = 0, false
		s.Episode++ // calls that started above the cap must not cut what is right now
	case atCap && s.Limit < n:
		s.SlowStart, s.Threshold = true, n
	}
	return l.Decision()
}

// advance returns the law's own time, which never goes backwards.
func (l *AIMD) advance(now time.Duration) time.Duration {
	s := &l.s
	if s.At == math.MinInt64 { // the first event
		s.ValidAt = now
	}
	s.At = max(s.At, now)
	if s.Stated > 0 && s.At-s.StatedAt > statedAge {
		s.Stated, s.Doubted = 0, false
	}
	return s.At
}

// after returns now+d, or the end of time.
func after(now, d time.Duration) time.Duration {
	if t := now + d; t >= now {
		return t
	}
	return never
}

// ceiling returns the largest limit that may be chosen now.
func (l *AIMD) ceiling() int {
	if s := &l.s; s.Stated > 0 && !s.Doubted {
		return min(l.cfg.Max, max(s.Stated, l.cfg.Min))
	}
	return l.cfg.Max
}

// congestion returns the cause of a cut and what the limit is to be multiplied with; 1 for no cut.
func (l *AIMD) congestion(o *Outcome) (Cause, float64) {
	if o.Scope == feedback.ScopeDaily {
		return 0, 1
	}
	switch o.Class {
	case feedback.Throttled:
		return CauseThrottled, l.cfg.Backoff
	case feedback.Overloaded:
		return CauseOverloaded, min(l.cfg.Backoff, overloadBackoff)
	case feedback.Timeout:
		return CauseTimeout, max(l.cfg.Backoff, timeoutBackoff)
	}
	return 0, 1
}

// bind notes which limit of the upstream refused. A stale refusal can only add a name
// that was missing. Overload and timeouts are no limits of this caller.
func (l *AIMD) bind(o *Outcome, stale bool) {
	s := &l.s
	if o.Class != feedback.Throttled && o.Class != feedback.QuotaExhausted {
		return
	}
	scope := o.Scope
	if scope == feedback.ScopeNone || int(scope) >= feedback.NumScopes {
		scope = feedback.ScopeUnknown
	}
	if stale && s.Binding > feedback.ScopeUnknown {
		return
	}
	s.Binding = scope
}

// cut lowers the limit after a refusal of a call that saw n in flight, and opens an episode.
func (l *AIMD) cut(t time.Duration, n int, cause Cause, factor float64, scope feedback.Scope) {
	s := &l.s
	if cause == CauseThrottled && scope <= feedback.ScopeUnknown || scope == feedback.ScopeConcurrency {
		if s.Stated > 0 && n*100 < s.Stated*doubtBelow {
			s.Doubted = true
		}
	}
	limit := max(l.cfg.Min, int(float64(min(s.Limit, n))*factor))
	if limit < s.Limit {
		if !s.Open {
			s.Bound = n
		}
		s.Limit, s.Cause = limit, cause
		s.Episode++
	}
	// At Min there is nothing to cut and no new episode, but what follows holds: trouble is on, and
	// Bound, which was found before it, is where to return to.
	s.Open, s.Recovering = true, true
	s.SlowStart, s.Threshold = false, 0
	s.CutAt, s.Old = t, max(0, s.InFlight-1)
	s.Good, s.Used = 0, false
	s.Flight = limit
	s.ValidAt = t
	s.AskAgain = 0
}

// fresh returns how many of the calls of w are known to have started after the last cut. Only they
// may raise the limit (RFC 9002 section 7.3.2: a recovery period ends when a packet that was sent
// during it is acknowledged). It ends the recovery when there is one.
func (l *AIMD) fresh(w *Window) int {
	s := &l.s
	if !s.Recovering {
		return w.OK
	}
	n := 0
	switch {
	case w.OK == 0:
	case w.OK > s.Old:
		// More have ended than were in flight at the cut.
		n = w.OK - s.Old
	case w.Timed > 0 && w.MinLatency >= 0 && w.Start-w.MinLatency >= s.CutAt:
		// The shortest call of the window ended in it, so it started after the cut.
		n = 1
	}
	s.Old = max(0, s.Old-w.OK)
	if n == 0 {
		return 0
	}
	s.Recovering = false
	if s.Open && s.Limit*100 < s.Bound*restartBelow {
		s.SlowStart, s.Threshold = true, max(s.Limit, s.Bound*restartTo/100)
		s.Open = false
	}
	return n
}

// grow raises the limit for n calls of w that ended well, if it was used.
func (l *AIMD) grow(w *Window, n int) {
	s := &l.s
	s.Flight = max(s.Flight, min(max(w.MaxInFlight, w.InFlight), s.Limit))
	most := min(l.ceiling(), max(l.cfg.Initial, flightFactor*s.Flight))

	if !s.SlowStart && s.Bound > 0 && s.Limit*100 > s.Bound*grownAbove && w.MaxInFlight*100 > s.Bound*grownAbove {
		// This window's calls were counted as an epoch's; the next ones raise.
		s.SlowStart, s.Threshold, s.Bound, s.Open = true, 0, 0, false
		return
	}
	if s.SlowStart {
		cause := CauseSlowStart
		if s.Threshold > 0 {
			cause = CauseRecovery
			most = min(most, s.Threshold)
		}
		if w.Full {
			// What was not too much to begin with is not too much to begin again with.
			l.raise(min(most, max(saturate(s.Limit, n), l.cfg.Initial)), cause)
		}
		if s.Threshold > 0 && s.Limit >= min(s.Threshold, l.ceiling()) {
			s.SlowStart, s.Threshold = false, 0
		}
		return
	}

	s.Good = saturate(s.Good, n)
	s.Used = s.Used || w.Full
	epoch := max(l.cfg.Epoch, s.Limit)
	if s.Good < epoch {
		return
	}
	s.Open = false
	if s.Used {
		l.raise(min(most, s.Limit+1), CauseProbe)
	}
	// However many calls the window held, they all ran under the old limit, so they end
	// one epoch and not several.
	s.Good, s.Used = min(s.Good-epoch, epoch-1), false
}

// saturate returns a+b, at most 2*MaxLimit, for a and b >= 0.
func saturate(a, b int) int { return min(a, MaxLimit) + min(b, MaxLimit) }

// raise sets the limit if it is larger than before.
func (l *AIMD) raise(limit int, cause Cause) {
	if limit > l.s.Limit {
		l.s.Limit, l.s.Cause = limit, cause
	}
}

// learnLatency folds the window's mean latency into the law's.
func (l *AIMD) learnLatency(w *Window) {
	s := &l.s
	m := w.MeanLatency()
	switch {
	case w.Timed <= 0 || m < 0:
	case s.Latency == 0:
		s.Latency = m
	default:
		s.Latency += (m - s.Latency) / latencyGain
	}
}

// age halves a limit that has not been half in use for long; it reports whether it did.
func (l *AIMD) age(t time.Duration, w *Window) bool {
	s := &l.s
	was := s.Limit
	s.Limit, s.ValidAt = halveUnused(was, l.cfg.Initial, s.ValidAt, s.AskAgain, s.Latency, t, w)
	if s.Limit == was {
		return false
	}
	s.Cause = CauseIdle
	if !s.SlowStart || s.Threshold > 0 {
		s.SlowStart, s.Threshold = true, max(s.Threshold, was*3/4, s.Bound*restartTo/100)
	}
	s.Open, s.Flight = false, s.Limit
	s.Good, s.Used = 0, false
	return true
}
