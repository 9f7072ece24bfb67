package adaptive

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// lawTest drives a law by hand and logs each step, so that a failure reads as a story. Calls
// take 100 ms unless the test says otherwise.
type lawTest struct {
	t   *testing.T
	law *AIMD
	now time.Duration
	// calls are in flight, the oldest first.
	calls []Call
	start time.Duration // of the window
	full  bool
}

const testLatency = 100 * time.Millisecond

func newLawTest(t *testing.T, cfg Config) *lawTest {
	t.Helper()
	x := &lawTest{t: t, law: NewAIMD(cfg)}
	t.Logf("%8v new: limit %d", x.now, x.limit())
	return x
}

func (x *lawTest) limit() int { return x.law.Decision().Limit }

func (x *lawTest) log(format string, a ...any) {
	x.t.Helper()
	d := x.law.Decision()
	a = append([]any{x.now}, a...)
	a = append(a, d.Limit, d.Cause, d.Episode, d.Binding, len(x.calls))
	x.t.Logf("%8v "+format+": limit %d cause %v episode %d binding %v, in flight %d", a...)
}

func (x *lawTest) advance(d time.Duration) { x.now += d }

// send starts n calls, whatever the limit says.
func (x *lawTest) send(n int) {
	x.t.Helper()
	for range n {
		x.calls = append(x.calls, Call{SentAt: x.now, Episode: x.law.Decision().Episode, InFlight: len(x.calls) + 1})
		x.full = x.full || len(x.calls) >= x.limit()
	}
	x.log("%d sent", n)
}

// fill starts as many calls as the limit allows.
func (x *lawTest) fill() {
	x.t.Helper()
	x.send(max(0, x.limit()-len(x.calls)))
}

// ok ends the n oldest calls well and tells a window.
func (x *lawTest) ok(n int) Decision {
	x.t.Helper()
	w := Window{Start: x.start, Full: x.full}
	for range n {
		c := x.take()
		d := x.now - c.SentAt
		if w.Timed == 0 || d < w.MinLatency {
			w.MinLatency = d
		}
		w.OK, w.Timed, w.Latency = w.OK+1, w.Timed+1, w.Latency+d
		w.MaxInFlight = max(w.MaxInFlight, c.InFlight)
	}
	w.InFlight = len(x.calls)
	x.start, x.full = x.now, false
	d := x.law.Window(x.now, w)
	x.log("%d ended well", n)
	return d
}

func (x *lawTest) take() Call {
	x.t.Helper()
	if len(x.calls) == 0 {
		x.t.Fatal("no call in flight")
	}
	c := x.calls[0]
	x.calls = x.calls[1:]
	return c
}

// newest moves the newest call to the front, so that it ends next.
func (x *lawTest) newest() *lawTest {
	i := len(x.calls) - 1
	c := x.calls[i]
	x.calls = append([]Call{c}, x.calls[:i]...)
	return x
}

// end ends the oldest call with the outcome o.
func (x *lawTest) end(o Outcome) Decision {
	x.t.Helper()
	w := Window{Start: x.start, Full: x.full, InFlight: len(x.calls)}
	x.start, x.full = x.now, false
	x.law.Window(x.now, w)
	d := x.law.Ended(x.now, x.take(), o)
	x.log("%v by %v", o.Class, o.Scope)
	return d
}

func (x *lawTest) refused(n int) {
	x.t.Helper()
	for range n {
		x.end(Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
	}
}

// round is one round trip in which all that the limit allows is in flight and ends well.
func (x *lawTest) round() {
	x.t.Helper()
	x.fill()
	x.advance(testLatency)
	x.ok(len(x.calls))
}

// reach raises the limit to n by successes.
func (x *lawTest) reach(n int) {
	x.t.Helper()
	for range 10_000 {
		if x.limit() >= n {
			return
		}
		x.round()
	}
	x.t.Fatalf("limit %d is not reached", n)
}

func (x *lawTest) wantLimit(want int) {
	x.t.Helper()
	if got := x.limit(); got != want {
		x.t.Errorf("limit = %d, want %d", got, want)
	}
}

func (x *lawTest) wantCause(want Cause) {
	x.t.Helper()
	if got := x.law.Decision().Cause; got != want {
		x.t.Errorf("cause = %v, want %v", got, want)
	}
}

func (x *lawTest) wantEpisode(want uint32) {
	x.t.Helper()
	if got := x.law.Decision().Episode; got != want {
		x.t.Errorf("episode = %d, want %d", got, want)
	}
}

func (x *lawTest) wantBinding(want feedback.Scope) {
	x.t.Helper()
	if got := x.law.Decision().Binding; got != want {
		x.t.Errorf("binding = %v, want %v", got, want)
	}
}

// afterCut is a law at 80 after a cut at 100, in additive increase, all old calls ended.
func afterCut(t *testing.T) *lawTest {
	t.Helper()
	x := newLawTest(t, Config{Initial: 100})
	x.send(100)
	x.advance(testLatency)
	x.newest().refused(1)
	x.wantLimit(80)
	x.ok(len(x.calls))
	return x
}

func TestStart(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		want int
	}{
		{Config{}, 4},
		{Config{Initial: 10}, 10},
		{Config{Min: 7}, 7},
		{Config{Max: 2}, 2},
		// "what is out of range is moved into it"
		{Config{Initial: 50, Max: 20}, 20},
		{Config{Initial: -3}, 1},
		{Config{Max: -1}, 1},
		{Config{Max: math.MaxInt, Initial: math.MaxInt}, MaxLimit},
		{Config{Backoff: math.NaN(), Epoch: -1}, 4},
	} {
		l := NewAIMD(test.cfg)
		want := Decision{Limit: test.want, Cause: CauseStart}
		if got := l.Decision(); got != want {
			t.Errorf("NewAIMD(%+v).Decision() = %+v, want %+v", test.cfg, got, want)
		}
	}
}

func TestSlowStartDoublesEachRoundTrip(t *testing.T) {
	// "While a sender is in slow start, the congestion window increases by the number of bytes
	// acknowledged when each acknowledgment is processed." RFC 9002 section 7.3.1
	x := newLawTest(t, Config{Max: 50})
	for _, want := range []int{8, 16, 32, 50, 50} {
		x.round()
		x.wantLimit(want)
		x.wantCause(CauseSlowStart)
	}
	x.wantEpisode(0)
	x.wantBinding(feedback.ScopeNone)
}

func TestSlowStartCountsCallByCall(t *testing.T) {
	x := newLawTest(t, Config{})
	x.fill()
	x.advance(testLatency)
	for i := range 4 {
		x.ok(1)
		x.wantLimit(5 + i)
		x.fill()
	}
}

func TestFirstCutEndsSlowStart(t *testing.T) {
	// "The sender MUST exit slow start and enter a recovery period when a packet is lost".
	// RFC 9002 section 7.3.1
	x := newLawTest(t, Config{})
	x.reach(32)
	x.fill()
	x.newest().refused(1)
	x.wantLimit(25) // 32 * 0.8, rounded down
	x.wantCause(CauseThrottled)
	x.wantEpisode(1)
	x.advance(testLatency)
	x.ok(len(x.calls))
	x.wantLimit(25)
	x.round()
	x.wantLimit(26)
	x.wantCause(CauseProbe)
}

func TestOneCutAnEpisode(t *testing.T) {
	// "A call with an episode before the current one must not cause another cut." Call.Episode
	x := newLawTest(t, Config{Initial: 100})
	x.send(100)
	x.refused(1)
	x.wantLimit(1) // the oldest call saw one in flight: the boundary is where the refusal is
	x = newLawTest(t, Config{Initial: 100})
	x.send(100)
	x.newest().refused(1)
	x.wantLimit(80)
	t.Log("# the rest of the burst, and calls that time out later, change nothing")
	x.refused(50)
	x.advance(time.Minute)
	for range 20 {
		x.end(Outcome{Class: feedback.Timeout})
	}
	x.end(Outcome{Class: feedback.Overloaded})
	x.wantLimit(80)
	x.wantEpisode(1)
	x.wantCause(CauseThrottled)

	t.Log("# a call that starts after the cut cuts again")
	x.fill()
	x.newest().refused(1)
	x.wantLimit(64)
	x.wantEpisode(2)
}

func TestCutStartsFromInFlight(t *testing.T) {
	// "A cut starts from what was in flight when the refused call started, or from the
	// limit if that is smaller."
	for _, test := range []struct{ inFlight, want int }{
		{1, 1}, {2, 1}, {10, 8}, {60, 48}, {100, 80}, {140, 80},
	} {
		l := NewAIMD(Config{Initial: 100})
		d := l.Ended(time.Second, Call{InFlight: test.inFlight}, Outcome{Class: feedback.Throttled})
		if d.Limit != test.want {
			t.Errorf("refused with %d in flight at limit 100: limit = %d, want %d", test.inFlight, d.Limit, test.want)
		}
	}
}

func TestCutByClass(t *testing.T) {
	for _, test := range []struct {
		outcome Outcome
		backoff float64
		limit   int
		cause   Cause
		binding feedback.Scope
	}{
		{Outcome{Class: feedback.Throttled}, 0.8, 80, CauseThrottled, feedback.ScopeUnknown},
		{Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency}, 0.9, 90, CauseThrottled, feedback.ScopeConcurrency},
		// "whatever the scope: the limit is all there is to turn"
		{Outcome{Class: feedback.Throttled, Scope: feedback.ScopeRequests}, 0.8, 80, CauseThrottled, feedback.ScopeRequests},
		{Outcome{Class: feedback.Throttled, Scope: feedback.ScopeTokens}, 0.8, 80, CauseThrottled, feedback.ScopeTokens},
		// "with 0.70 or Backoff, whichever is smaller"
		{Outcome{Class: feedback.Overloaded}, 0.8, 70, CauseOverloaded, feedback.ScopeNone},
		{Outcome{Class: feedback.Overloaded}, 0.5, 50, CauseOverloaded, feedback.ScopeNone},
		// "with 0.85 or Backoff, whichever is larger"
		{Outcome{Class: feedback.Timeout}, 0.8, 85, CauseTimeout, feedback.ScopeNone},
		{Outcome{Class: feedback.Timeout}, 0.95, 95, CauseTimeout, feedback.ScopeNone},
		// "Nothing else is congestion"
		{Outcome{Class: feedback.OK}, 0.8, 100, CauseStart, feedback.ScopeNone},
		{Outcome{Class: feedback.ClientError}, 0.8, 100, CauseStart, feedback.ScopeNone},
		{Outcome{Class: feedback.ServerError}, 0.8, 100, CauseStart, feedback.ScopeNone},
		{Outcome{Class: feedback.Canceled}, 0.8, 100, CauseStart, feedback.ScopeNone},
		{Outcome{Class: feedback.QuotaExhausted, Scope: feedback.ScopeDaily}, 0.8, 100, CauseStart, feedback.ScopeDaily},
		{Outcome{Class: feedback.QuotaExhausted}, 0.8, 100, CauseStart, feedback.ScopeUnknown},
		{Outcome{Class: feedback.Throttled, Scope: feedback.ScopeDaily}, 0.8, 100, CauseStart, feedback.ScopeDaily},
		{Outcome{Class: 200, Scope: 200}, 0.8, 100, CauseStart, feedback.ScopeNone},
		{Outcome{Class: feedback.Throttled, Scope: 200}, 0.8, 80, CauseThrottled, feedback.ScopeUnknown},
	} {
		l := NewAIMD(Config{Initial: 100, Backoff: test.backoff})
		d := l.Ended(time.Second, Call{InFlight: 100}, test.outcome)
		if d.Limit != test.limit || d.Cause != test.cause || d.Binding != test.binding {
			t.Errorf("%v by %v, backoff %v: limit %d cause %v binding %v, want %d %v %v", test.outcome.Class, test.outcome.Scope,
				test.backoff, d.Limit, d.Cause, d.Binding, test.limit, test.cause, test.binding)
		}
		if want := uint32(0); d.Limit < 100 && d.Episode != 1 || d.Limit == 100 && d.Episode != want {
			t.Errorf("%v by %v: episode %d at limit %d", test.outcome.Class, test.outcome.Scope, d.Episode, d.Limit)
		}
	}
}

func TestAStaleRefusalCanNameTheLimit(t *testing.T) {
	x := newLawTest(t, Config{Initial: 10})
	x.send(10)
	x.newest().refused(1)
	x.wantBinding(feedback.ScopeUnknown)
	x.end(Outcome{Class: feedback.Throttled, Scope: feedback.ScopeTokens})
	x.wantBinding(feedback.ScopeTokens)
	x.refused(1)
	x.wantBinding(feedback.ScopeTokens)
	x.wantEpisode(1)
}

func TestMinimum(t *testing.T) {
	// "never below Min"
	x := newLawTest(t, Config{Initial: 10, Min: 6})
	for range 5 {
		x.fill()
		x.newest().refused(1)
	}
	x.wantLimit(6)
	x.wantEpisode(2) // 8, 6: at Min there is nothing to cut
}

func TestAdditiveIncreaseIsOneAnEpoch(t *testing.T) {
	// "limit[s] the increase to the congestion window to at most one maximum datagram size
	// for each congestion window that is acknowledged." RFC 9002 section 7.3.3
	x := afterCut(t)
	x.wantLimit(80)
	x.fill()
	x.advance(testLatency)
	x.ok(79)
	x.wantLimit(80)
	x.ok(1)
	x.wantLimit(81)
	x.wantCause(CauseProbe)

	t.Log("# however many calls a window holds, they ran under the old limit")
	x.law.Window(x.now, Window{Start: x.now, OK: 100_000, MaxInFlight: 81, InFlight: 81, Full: true})
	x.wantLimit(82)
}

func TestEpochIsAtLeastEpochCalls(t *testing.T) {
	x := newLawTest(t, Config{Initial: 4, Epoch: 10})
	x.fill()
	x.newest().refused(1)
	x.wantLimit(3)
	x.advance(testLatency)
	x.ok(3)
	for range 3 {
		x.round()
	}
	x.wantLimit(3) // 9 calls
	x.round()
	x.wantLimit(4)
}

func TestNoGrowthWhileTheLimitIsNotUsed(t *testing.T) {
	// "When bytes in flight is smaller than the congestion window [...] the congestion window
	// SHOULD NOT be increased in either slow start or congestion avoidance." RFC 9002 section 7.8
	x := newLawTest(t, Config{Initial: 10})
	for range 20 {
		x.send(9)
		x.advance(testLatency)
		x.ok(9)
	}
	x.wantLimit(10)
	t.Log("# nor in additive increase")
	y := afterCut(t)
	for range 20 {
		y.send(79)
		y.advance(testLatency)
		y.ok(79)
	}
	y.wantLimit(80)
}

func TestGrowthStaysWithinTwiceTheFlight(t *testing.T) {
	// "The cwnd MUST NOT be increased beyond limit(maxFS)" draft-ietf-ccwg-ratelimited-increase
	l := NewAIMD(Config{Initial: 10})
	l.Window(time.Second, Window{OK: 1000, MaxInFlight: 10, Full: true})
	if got, want := l.Decision().Limit, 20; got != want {
		t.Errorf("limit = %d, want %d", got, want)
	}
}

func TestOldCallsDoNotEndTheRecovery(t *testing.T) {
	// "A recovery period ends and the sender enters congestion avoidance when a packet
	// sent during the recovery period is acknowledged." RFC 9002 section 7.3.2
	x := newLawTest(t, Config{Initial: 100})
	x.send(100)
	x.advance(testLatency)
	x.newest().refused(1)
	for range 99 {
		x.ok(1)
	}
	if s := x.law.State(); !s.Recovering || s.Good != 0 {
		t.Errorf("after the old calls: recovering %v, good %d, want true, 0", s.Recovering, s.Good)
	}
	x.fill()
	x.advance(testLatency)
	x.ok(80)
	if s := x.law.State(); s.Recovering {
		t.Error("still recovering after calls that started after the cut ended well")
	}

	t.Log("# a short call shows it, too, while old ones run on")
	x = newLawTest(t, Config{Initial: 10})
	x.send(10)
	x.newest().refused(1)
	x.advance(10 * testLatency)
	x.send(1)
	x.ok(0)
	x.advance(testLatency)
	x.ok(0)
	x.newest().ok(1)
	if s := x.law.State(); s.Recovering {
		t.Error("still recovering after a short call that started after the cut ended well")
	}
}

func TestRestartAfterAnOutage(t *testing.T) {
	// "Cut below 0.65 of the level where the trouble began, it returns to 0.9 of that level in slow
	// start, beginning at Initial, once a call ends well again."
	x := newLawTest(t, Config{})
	x.reach(64)
	t.Log("# everything is refused")
	x.fill()
	x.newest()
	for range 200 {
		if len(x.calls) == 0 {
			x.fill()
		}
		x.end(Outcome{Class: feedback.Overloaded})
	}
	x.wantLimit(1)
	x.wantCause(CauseOverloaded)
	t.Log("# it is over")
	for _, want := range []int{4, 8, 16, 32, 57} {
		x.round()
		x.wantLimit(want)
		x.wantCause(CauseRecovery)
	}
	t.Log("# and now slowly")
	x.round()
	x.wantLimit(58)
	x.wantCause(CauseProbe)
}

func TestASmallCutIsNoRestart(t *testing.T) {
	x := afterCut(t)
	x.round()
	x.wantLimit(81)
	x.wantCause(CauseProbe)
}

func TestSlowStartAgainWhenTheRoomHasGrown(t *testing.T) {
	// "When calls end well at 1.15 times that level, the upstream has more room than it
	// had, and slow start begins again."
	x := newLawTest(t, Config{Initial: 20})
	x.fill()
	x.newest().refused(1)
	x.wantLimit(16)
	x.advance(testLatency)
	x.ok(len(x.calls))
	x.reach(24) // 1.2 * 20
	x.wantCause(CauseProbe)
	x.round()
	x.wantLimit(24)
	x.round()
	x.wantLimit(48)
	x.wantCause(CauseSlowStart)
}

func TestIdleAges(t *testing.T) {
	// "cwnd = max(1/2*cwnd, IW)" RFC 7661 section 4.4.3
	for _, test := range []struct {
		idle time.Duration
		want int
	}{
		{59 * time.Second, 127}, {61 * time.Second, 63}, {121 * time.Second, 31}, {time.Hour, 4}, {math.MaxInt64 / 2, 4},
	} {
		x := newLawTest(t, Config{})
		x.reach(64)
		x.fill()
		x.advance(testLatency)
		x.ok(63)
		x.wantLimit(126)
		t.Log("# the last call ends before the window does, so the guard keeps it")
		x.advance(test.idle)
		x.law.Window(x.now, Window{Start: x.start, OK: 1, MaxInFlight: 64, Full: true})
		x.wantLimit(test.want)
		if test.want < 126 {
			x.wantCause(CauseIdle)
		}
	}
}

func TestIdleReturnsQuickly(t *testing.T) {
	x := newLawTest(t, Config{})
	x.reach(64)
	x.fill()
	x.newest().refused(1)
	x.wantLimit(51)
	x.advance(testLatency)
	x.ok(len(x.calls))
	x.advance(70 * time.Second)
	x.send(1)
	x.advance(testLatency)
	x.ok(1)
	x.wantLimit(25)
	x.wantCause(CauseIdle)
	t.Log("# slow start to 0.9 of the bound, which is known")
	x.round()
	x.wantLimit(50)
	x.wantCause(CauseRecovery)
	x.round()
	x.wantLimit(57)
	x.round()
	x.wantLimit(58)
	x.wantCause(CauseProbe)
}

func TestIdleLeavesALimitBelowInitialAlone(t *testing.T) {
	// "A limit below Initial is left alone, because refusals set it."
	x := afterCut(t)
	x.advance(10 * time.Minute)
	x.ok(0)
	x.wantLimit(80)
	x.wantCause(CauseThrottled)
}

func TestLongCallsAreNotIdle(t *testing.T) {
	x := newLawTest(t, Config{Initial: 8})
	x.fill()
	for range 5 {
		x.advance(10 * time.Minute)
		x.ok(1)
		x.fill()
	}
	if x.limit() < 8 {
		t.Errorf("limit = %d after long calls that used it, want at least 8", x.limit())
	}
}

func TestLittleUseAges(t *testing.T) {
	// "A limit that is less than half in use for a minute [...] is halved"
	x := newLawTest(t, Config{})
	x.reach(64)
	for range 3000 {
		x.send(10)
		x.advance(testLatency)
		x.ok(10)
	}
	x.wantLimit(16)
}

func TestHint(t *testing.T) {
	concurrency := func(n int64) feedback.Window {
		return feedback.Window{Kind: feedback.ScopeConcurrency, Limit: n, Remaining: feedback.Unstated, Reset: feedback.Unstated}
	}
	x := newLawTest(t, Config{Initial: 20})
	x.fill()
	x.law.Hint(x.now, concurrency(12))
	x.log("hint 12")
	x.wantLimit(12)
	x.wantCause(CauseHint)
	x.wantBinding(feedback.ScopeConcurrency)
	t.Log("# calls that started above the cap do not cut")
	x.newest().refused(3)
	x.wantLimit(12)
	x.advance(testLatency)
	x.ok(len(x.calls))
	for range 5 {
		x.round()
	}
	x.wantLimit(12)

	t.Log("# others are ignored")
	for _, w := range []feedback.Window{
		{Kind: feedback.ScopeRequests, Limit: 2}, {Kind: feedback.ScopeTokens, Limit: 2}, concurrency(feedback.Unstated), {},
	} {
		x.law.Hint(x.now, w)
		x.wantLimit(12)
	}

	t.Log("# a larger one lifts the cap")
	x.law.Hint(x.now, concurrency(30))
	x.wantLimit(12)
	x.round()
	x.wantLimit(24)
	x.wantCause(CauseRecovery)
	x.round()
	x.round()
	x.wantLimit(30)

	t.Log("# a refusal well below contradicts it; it is then not believed again")
	x.send(10)
	x.newest().refused(1)
	x.wantLimit(8)
	x.advance(testLatency)
	x.ok(len(x.calls))
	x.law.Hint(x.now, concurrency(30))
	x.reach(40)
	x.law.Hint(x.now, concurrency(30))
	if x.limit() < 40 {
		t.Errorf("limit = %d after a statement that was contradicted, want it ignored", x.limit())
	}
	t.Log("# but another number is")
	x.law.Hint(x.now, concurrency(25))
	x.wantLimit(25)
	x.law.Hint(x.now, concurrency(math.MaxInt64))
	x.law.Hint(x.now, concurrency(0))
	x.wantLimit(25)
	t.Log("# what is not repeated for ten minutes is forgotten")
	x.law.Hint(x.now, concurrency(1))
	x.wantLimit(1)
	x.now += 11 * time.Minute
	x.reach(5)
}

func TestAskAgain(t *testing.T) {
	const now = 5 * time.Second
	for _, test := range []struct {
		name    string
		latency time.Duration
		full    bool
		want    time.Duration
	}{
		{"unknown", 0, false, time.Millisecond},
		{"short", 4 * time.Millisecond, false, time.Millisecond},
		{"medium", 800 * time.Millisecond, false, 100 * time.Millisecond},
		{"long", time.Minute, false, time.Second},
		{"slow start in use", time.Minute, true, -now}, // at each call's end
	} {
		l := NewAIMD(Config{})
		w := Window{OK: 1, MaxInFlight: 1, Full: test.full}
		if test.latency > 0 {
			w.Timed, w.Latency, w.MinLatency = 1, test.latency, test.latency
		}
		if got := l.Window(now, w).AskAgain - now; got != test.want {
			t.Errorf("%s: asks again after %v, want %v", test.name, got, test.want)
		}
	}
	l := NewAIMD(Config{})
	if got := l.Window(math.MaxInt64, Window{OK: 1}).AskAgain; got != math.MaxInt64 {
		t.Errorf("at the end of time: AskAgain = %v", got)
	}
}

func TestTimeGoesBackwards(t *testing.T) {
	// "An instant may repeat but a law must survive one that goes backwards: it treats it
	// as no time having passed."
	x := newLawTest(t, Config{})
	x.now, x.start = time.Hour, time.Hour
	x.reach(64)
	x.now, x.start = time.Minute, time.Minute
	x.round()
	x.wantLimit(128)
	if d := x.law.Decision(); d.AskAgain > x.now+maxAsk {
		t.Errorf("asks again at %v, but it is %v: no window would come", d.AskAgain, x.now)
	}
	x.fill()
	x.newest().refused(1)
	x.wantLimit(102)
	x.advance(testLatency)
	x.ok(len(x.calls))
	x.round()
	x.wantLimit(103)
}

func TestTimeStandsStill(t *testing.T) {
	x := newLawTest(t, Config{})
	for range 4 {
		x.fill()
		x.ok(len(x.calls))
	}
	x.wantLimit(64)
	x.fill()
	x.newest().refused(64)
	x.wantLimit(51)
	x.fill()
	x.ok(51)
	x.wantLimit(52)
}

func TestSaveAndRestore(t *testing.T) {
	x := afterCut(t)
	x.round()
	x.fill()
	x.newest().refused(1)
	s := x.law.State()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back AIMDState
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back != s {
		t.Errorf("%s comes back as %+v, was %+v", b, back, s)
	}

	t.Log("# another process, whose clock begins")
	l := NewAIMD(Config{})
	l.Restore(0, back)
	if got, want := l.Decision().Limit, x.limit(); got != want {
		t.Errorf("restored limit = %d, want %d", got, want)
	}
	if got := l.State(); got.At != 0 || got.CutAt > 0 || got.AskAgain > maxAsk {
		t.Errorf("restored instants are not on the new clock: %+v", got)
	}

	t.Log("# a law that was told nothing")
	fresh := NewAIMD(Config{}).State()
	l.Restore(time.Hour, fresh)
	if got := l.State(); got != fresh {
		t.Errorf("restored %+v, want %+v", got, fresh)
	}
}

func TestRestoreMovesNonsenseIntoRange(t *testing.T) {
	l := NewAIMD(Config{Min: 2, Max: 50})
	l.Restore(time.Second, AIMDState{
		Limit: math.MaxInt, Threshold: -5, Bound: math.MinInt, Old: math.MaxInt, Good: math.MaxInt, Flight: -1, InFlight: -9,
		Stated: math.MaxInt, Latency: math.MinInt64, At: math.MaxInt64, CutAt: math.MinInt64, ValidAt: math.MaxInt64,
		AskAgain: math.MaxInt64, Binding: 77, Cause: 99,
	})
	d := l.Decision()
	if d.Limit != 50 || int(d.Binding) >= feedback.NumScopes || int(d.Cause) >= NumCauses || d.AskAgain > time.Second+maxAsk {
		t.Errorf("restored decision %+v is out of range", d)
	}
	l.Window(2*time.Second, Window{OK: math.MaxInt, MaxInFlight: math.MaxInt, InFlight: math.MaxInt, Full: true})
	if d := l.Decision(); d.Limit < 2 || d.Limit > 50 {
		t.Errorf("limit = %d, want 2 to 50", d.Limit)
	}
}

func TestStateIsPlain(t *testing.T) {
	// "state then is plain values of a fixed size"
	typ := reflect.TypeFor[AIMDState]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		switch f.Type.Kind() {
		case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint8:
		default:
			t.Errorf("%s is a %v", f.Name, f.Type.Kind())
		}
		if f.Tag.Get("json") == "" {
			t.Errorf("%s has no name in JSON", f.Name)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	l := NewAIMD(Config{})
	now := time.Duration(0)
	windows := []feedback.Window{{Kind: feedback.ScopeConcurrency, Limit: 500}}
	allocs := testing.AllocsPerRun(1000, func() {
		now += time.Millisecond
		d := l.Window(now, Window{Start: now - time.Millisecond, OK: 3, Timed: 3, Latency: 3e6, MinLatency: 1e6, MaxInFlight: 4, Full: true})
		l.Ended(now, Call{SentAt: now, Episode: d.Episode, InFlight: d.Limit}, Outcome{Class: feedback.Throttled, Windows: windows})
		l.Hint(now, windows[0])
		l.Restore(now, l.State())
		_ = l.Decision()
	})
	if allocs != 0 {
		t.Errorf("%v allocations an event, want 0", allocs)
	}
}

func BenchmarkWindow(b *testing.B) {
	l := NewAIMD(Config{})
	w := Window{OK: 3, Timed: 3, Latency: 3e6, MinLatency: 1e6, MaxInFlight: 4, Full: true}
	for i := range b.N {
		w.Start = time.Duration(i) * time.Millisecond
		l.Window(w.Start+time.Millisecond, w)
	}
}

func BenchmarkEnded(b *testing.B) {
	l := NewAIMD(Config{})
	for i := range b.N {
		l.Ended(time.Duration(i), Call{Episode: l.Decision().Episode, InFlight: 8}, Outcome{Class: feedback.Throttled})
	}
}
