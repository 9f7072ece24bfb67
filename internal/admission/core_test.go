package admission

import (
	"fmt"
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// script is a law that decides what the test tells it to.
type script struct {
	d       adaptive.Decision
	windows []adaptive.Window
	ended   []adaptive.Outcome
	look    func(adaptive.Window) // when set, is shown each window while it may be read
}

func (s *script) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	if s.look != nil {
		s.look(w)
	}
	s.windows = append(s.windows, w)
	return s.d
}

func (s *script) Ended(_ time.Duration, _ adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	s.ended = append(s.ended, o)
	return s.d
}
func (s *script) Hint(time.Duration, feedback.Window) adaptive.Decision { return s.d }
func (s *script) Decision() adaptive.Decision                           { return s.d }

// bench is a Core with a clock, and with verbs that log what they do, so that a failure reads as a story.
type bench struct {
	t    testing.TB
	core Core
	law  *script
	now  time.Duration
	log  []string
}

func newBench(t testing.TB, limit int, edit func(*Config)) *bench {
	b := &bench{t: t, law: &script{d: adaptive.Decision{Limit: limit}}}
	cfg := Config{Law: b.law, Queue: 100, MaxWait: time.Minute, MaxPause: 5 * time.Minute, Seed: 1}
	if edit != nil {
		edit(&cfg)
	}
	b.core.Init(&cfg)
	return b
}

func (b *bench) logf(format string, a ...any) {
	b.log = append(b.log, fmt.Sprintf("%8v ", b.now)+fmt.Sprintf(format, a...))
}

// starts lets time pass from wake to wake, until nobody waits, and returns when those who waited started.
func (b *bench) starts() (at []time.Duration) {
	for wake, ok := b.core.Wake(b.now); ok; wake, ok = b.core.Wake(b.now) {
		b.now = wake
		for range b.next() {
			at = append(at, b.now)
		}
	}
	return at
}

func (b *bench) fatalf(format string, a ...any) {
	b.t.Helper()
	for _, l := range b.log {
		b.t.Log(l)
	}
	b.t.Fatalf(format, a...)
}

func (b *bench) after(d time.Duration) { b.now += d }

// acquire is what limiter does.
func (b *bench) acquire() *Waiter {
	w := &Waiter{}
	if n, t := b.core.Take(); t <= TookLast {
		if !b.core.Paced() || b.core.Spend(b.now) {
			w.State, w.Call = Granted, b.core.Start(b.now, n)
			b.logf("acquire: granted at once, %d in flight", n)
			return w
		}
	}
	b.core.Ask(b.now, w)
	b.next()
	b.logf("acquire: %v", stateName(w))
	return w
}

// next answers all that can be answered, and returns them.
func (b *bench) next() (answered []*Waiter) {
	for w := b.core.Next(b.now); w != nil; w = b.core.Next(b.now) {
		b.logf("  answered: %v", stateName(w))
		answered = append(answered, w)
	}
	return answered
}

func (b *bench) finish(w *Waiter, o adaptive.Outcome) []*Waiter {
	b.logf("finish: %v", o.Class)
	if e := b.core.Finish(b.now, &w.Grant, &o); e != Ended {
		b.core.Settle(b.now, e, &w.Grant, &o)
		return b.next()
	}
	return nil
}

func (b *bench) want(w *Waiter, s State, r Reason) {
	b.t.Helper()
	if w.State != s || w.Reason != r {
		b.fatalf("waiter is %s, want %s", stateName(w), stateName(&Waiter{State: s, Reason: r}))
	}
}

func (b *bench) wantWake(at time.Duration) {
	b.t.Helper()
	if got, ok := b.core.Wake(b.now); !ok || got != at {
		b.fatalf("Wake() = %v, %v, want %v", got, ok, at)
	}
}

func stateName(w *Waiter) string {
	return [...]string{"idle", "queued", "granted", "refused: " + w.Reason.String()}[w.State]
}

func throttled(after time.Duration) adaptive.Outcome {
	return adaptive.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown, HasRetryAfter: after >= 0, RetryAfter: max(0, after)}
}

// 136 callers a second that wait are more than 2^32 in a year.
func TestWaitsAreCountedForYears(t *testing.T) {
	b := newBench(t, 1, func(c *Config) { c.Law.(*script).d.Pace = 1 })
	b.finish(b.acquire(), adaptive.Outcome{})
	s := b.core.state
	s.counts.waits[10], s.counts.by().waitedFor[WhyPace].Buckets[10] = math.MaxUint32, math.MaxUint32
	b.acquire()
	b.starts()
	if n := b.core.Counts(); n.Waits[10] != 1<<32 || n.WaitedFor[WhyPace].Buckets[10] != 1<<32 || n.WaitedFor[WhyLimit].Buckets[10] != 0 {
		t.Errorf("%d waits of about a second, %d of them for the pace, want %d", n.Waits[10], n.WaitedFor[WhyPace].Buckets[10], uint64(1<<32))
	}
}

// What a guard counts of waits apart is a quarter of what it learns, and of that kind there may be a hundred thousand in a Group.
func TestWaitsAreCountedInLittle(t *testing.T) {
	if n := unsafe.Sizeof(tallyMore{}); n > 1152 {
		t.Errorf("waits by what they were for take %d bytes a guard, want at most 1152", n)
	}
}

func TestFirstInFirstOut(t *testing.T) {
	b := newBench(t, 2, nil)
	a, c := b.acquire(), b.acquire()
	d, e := b.acquire(), b.acquire()
	b.want(d, Queued, ReasonNone)
	b.want(e, Queued, ReasonNone)
	b.after(time.Second)
	if got := b.finish(c, adaptive.Outcome{}); len(got) != 1 || got[0] != d {
		b.fatalf("finish answered %v, want the first that waited", got)
	}
	if got := b.finish(a, adaptive.Outcome{}); len(got) != 1 || got[0] != e {
		b.fatalf("finish answered %v, want the second that waited", got)
	}
	if n := b.core.Counts(); n.Waited != 2 || n.WaitSum != 2*time.Second || n.Waits[10] != 2 {
		b.fatalf("Counts() = %+v, want two waits of 1 s", n)
	}
}

func TestQueueIsBounded(t *testing.T) {
	b := newBench(t, 1, func(c *Config) { c.Queue = 2 })
	b.acquire()
	b.want(b.acquire(), Queued, ReasonNone)
	b.want(b.acquire(), Queued, ReasonNone)
	b.want(b.acquire(), Refused, ReasonQueueFull)
	if got := b.core.Counts().Refused[ReasonQueueFull]; got != 1 {
		b.fatalf("refused for a full queue: %d, want 1", got)
	}
}

func TestNobodyWaitsWithoutAQueue(t *testing.T) {
	b := newBench(t, 1, func(c *Config) { c.Queue = 0 })
	first := b.acquire()
	b.want(b.acquire(), Refused, ReasonLimit)
	if b.core.Waiting() != 0 {
		b.fatalf("%d waiting, want 0", b.core.Waiting())
	}
	b.finish(first, adaptive.Outcome{})
	b.want(b.acquire(), Granted, ReasonNone)
}

func TestMaxWait(t *testing.T) {
	b := newBench(t, 1, nil)
	b.acquire()
	w := b.acquire()
	b.wantWake(time.Minute)
	b.after(time.Minute - 1)
	if got := b.next(); got != nil {
		b.fatalf("answered %v before the longest wait", got)
	}
	b.after(1)
	b.next()
	b.want(w, Refused, ReasonMaxWait)
	if _, ok := b.core.Wake(b.now); ok {
		b.fatalf("Wake() wants an instant while nobody waits")
	}
}

func TestRetryAfterClosesTheGateForAll(t *testing.T) {
	b := newBench(t, 4, nil)
	a := b.acquire()
	b.finish(a, throttled(10*time.Second))
	early := b.acquire()
	b.want(early, Queued, ReasonNone)
	b.wantWake(10 * time.Second)
	b.after(10*time.Second - 1)
	if b.next() != nil {
		b.fatalf("a call started inside a Retry-After")
	}
	b.after(1)
	b.next()
	b.want(early, Granted, ReasonNone)
}

// "closes one gate for everyone behind it, resumes with positive jitter and at the learned
// pace: no herd".
func TestResumeIsSpread(t *testing.T) {
	b := newBench(t, 4, func(c *Config) { c.PauseJitter = 0.05 })
	b.finish(b.acquire(), throttled(10*time.Second))
	for range 4 {
		b.acquire()
	}
	starts := b.starts()
	if len(starts) != 4 || starts[0] < 10*time.Second || starts[0] > 10500*time.Millisecond {
		b.fatalf("starts at %v, want the first within 10 s and 5 %% of it", starts)
	}
	for i := 1; i < len(starts); i++ {
		if d := starts[i] - starts[i-1]; d != resumeSpread/4 {
			b.fatalf("starts %v apart, want %v", d, resumeSpread/4)
		}
	}
}

func TestAShorterPauseDoesNotShorten(t *testing.T) {
	b := newBench(t, 4, nil)
	a, c := b.acquire(), b.acquire()
	b.finish(a, throttled(10*time.Second))
	b.finish(c, throttled(time.Second))
	if b.core.Gate() != 10*time.Second {
		b.fatalf("gate at %v, want 10s", b.core.Gate())
	}
}

func TestDelayOfAConcurrencyLimitDoesNotPause(t *testing.T) {
	b := newBench(t, 4, nil)
	o := throttled(10 * time.Second)
	o.Scope = feedback.ScopeConcurrency
	b.finish(b.acquire(), o)
	b.want(b.acquire(), Granted, ReasonNone)
}

func TestPauseBeyondMaxPauseRefuses(t *testing.T) {
	b := newBench(t, 1, nil)
	a := b.acquire()
	w := b.acquire()
	b.finish(a, throttled(24*time.Hour))
	b.want(w, Refused, ReasonPaused)
	if w.RetryAt != 24*time.Hour {
		b.fatalf("RetryAt = %v, want 24h", w.RetryAt)
	}
	b.want(b.acquire(), Refused, ReasonPaused)
	// What the upstream asked for is told; at the end of the longest pause one call may find out whether it is so.
	b.after(b.core.cfg.MaxPause - 30*time.Second)
	b.want(b.acquire(), Queued, ReasonNone)
}

// A pause of MaxPause is waited for, whatever the jitter adds to it.
func TestPauseOfMaxPauseIsWaitedFor(t *testing.T) {
	for range 20 {
		b := newBench(t, 1, func(c *Config) { c.PauseJitter, c.MaxWait = 0.05, time.Hour })
		a, w := b.acquire(), b.acquire()
		b.finish(a, throttled(b.core.cfg.MaxPause))
		b.want(w, Queued, ReasonNone)
		b.want(b.acquire(), Queued, ReasonNone)
		if d := b.core.Gate() - b.core.cfg.MaxPause; d < 0 || d > maxPauseJitter {
			b.fatalf("the gate opens %v after the longest pause, want 0 to %v", d, maxPauseJitter)
		}
	}
	// One that somebody asks for by hand, and that is longer, is not.
	b := newBench(t, 1, func(c *Config) { c.PauseJitter, c.MaxWait = 0.05, time.Hour })
	b.core.Pause(0, b.core.cfg.MaxPause+maxPauseJitter+1)
	b.want(b.acquire(), Refused, ReasonPaused)
}

// Of two delays that close the gate for as long, the longer one is told.
func TestLongestDelayIsTold(t *testing.T) {
	b := newBench(t, 2, nil)
	one, two := b.acquire(), b.acquire()
	b.finish(one, throttled(10*time.Minute))
	b.finish(two, throttled(24*time.Hour))
	w := b.acquire()
	b.want(w, Refused, ReasonPaused)
	if w.RetryAt != 24*time.Hour {
		b.fatalf("RetryAt = %v, want 24h", w.RetryAt)
	}
}

// Where calls were accepted before, a delay beyond the longest pause is not believed, unless nothing is accepted any more: then the guard asks
// again after twice as long each time.
func TestAbsurdDelayIsNotBelieved(t *testing.T) {
	day := throttled(24 * time.Hour)
	b := newBench(t, 2, nil)
	b.finish(b.acquire(), adaptive.Outcome{})
	b.after(time.Millisecond)
	a, w := b.acquire(), b.acquire()
	b.finish(a, day)
	b.finish(w, day) // started before it
	b.want(b.acquire(), Granted, ReasonNone)

	b = newBench(t, 4, nil)
	b.finish(b.acquire(), adaptive.Outcome{})
	b.finish(b.acquire(), day)
	for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		wait *= time.Second
		b.after(time.Millisecond)
		burst := []*Waiter{b.acquire(), b.acquire()}
		for _, w := range burst {
			b.want(w, Granted, ReasonNone)
		}
		b.after(time.Millisecond)
		for _, w := range burst {
			b.finish(w, day)
		}
		if got := b.core.Gate() - b.now; got != wait {
			b.fatalf("closed for %v, want %v", got, wait)
		}
		b.after(wait + 2*time.Second) // and its starts are not spread any more
	}
	for range 3 {
		b.finish(b.acquire(), adaptive.Outcome{})
	}
	b.after(time.Millisecond)
	b.finish(b.acquire(), day)
	b.want(b.acquire(), Granted, ReasonNone)
}

// Of calls that are refused together one counts, also where nobody knows when they started.
func TestAbsurdDelayOfUntimedCalls(t *testing.T) {
	day := throttled(24 * time.Hour)
	b := newBench(t, 100, func(c *Config) { c.Sampled = true })
	b.finish(b.acquire(), adaptive.Outcome{})
	burst := func() {
		t.Helper()
		b.after(time.Millisecond)
		var calls []*Waiter
		for range 100 {
			w := b.acquire()
			b.want(w, Granted, ReasonNone)
			w.Call.SentAt = Untimed
			calls = append(calls, w)
		}
		for _, w := range calls {
			b.after(time.Millisecond)
			b.finish(w, day)
		}
	}
	burst()
	if b.core.Gate() > b.now {
		b.fatalf("a burst of refusals closed the guard for %v", b.core.Gate()-b.now)
	}
	burst()
	if got := b.core.Gate() - b.now; got <= 0 || got > time.Second {
		b.fatalf("the second burst closed the guard for %v more, want up to 1 s", got)
	}
}

// Who is refused while a delay is not believed is told when the guard asks again, and not what the upstream said.
func TestAbsurdDelayIsNotTold(t *testing.T) {
	b := newBench(t, 2, func(c *Config) { c.Queue = 0 })
	b.finish(b.acquire(), adaptive.Outcome{})
	for range 2 {
		b.after(time.Millisecond)
		b.finish(b.acquire(), throttled(24*time.Hour))
	}
	w := b.acquire()
	b.want(w, Refused, ReasonPaused)
	if w.RetryAt != b.now+time.Second {
		b.fatalf("RetryAt is %v, want %v", w.RetryAt, b.now+time.Second)
	}
}

// What is believed counts beside what is not.
func TestAbsurdDelayBesideAnother(t *testing.T) {
	b := newBench(t, 2, nil)
	b.finish(b.acquire(), adaptive.Outcome{})
	one, two := b.acquire(), b.acquire()
	b.finish(one, throttled(10*time.Second))
	b.finish(two, throttled(24*time.Hour))
	if b.core.Gate() != 10*time.Second {
		b.fatalf("gate at %v, want 10s", b.core.Gate())
	}
}

// A quota that is gone for the day is believed.
func TestPauseOfADailyQuotaIsBelieved(t *testing.T) {
	b := newBench(t, 1, nil)
	o := throttled(24 * time.Hour)
	o.Scope = feedback.ScopeDaily
	b.finish(b.acquire(), o)
	b.after(24*time.Hour - 30*time.Minute)
	b.want(b.acquire(), Refused, ReasonPaused)
	b.after(30*time.Minute - 30*time.Second)
	b.want(b.acquire(), Queued, ReasonNone)
}

// A gate that the law closes by itself is not said to be the upstream's wish; the last to move its end counts.
func TestGateOfTheLaw(t *testing.T) {
	hold := func(b *bench, until time.Duration) {
		b.law.d.NotBefore = until
		b.finish(b.acquire(), adaptive.Outcome{Class: feedback.Throttled})
	}
	why := func(b *bench, want Why) {
		b.t.Helper()
		w := b.acquire()
		if _, why := b.core.earliest(b.now, w); b.core.Held() != (want == WhyHold) || why != want {
			b.fatalf("waits for %v, want %v", why, want)
		}
		f := b.core.Forecast(b.now)
		if _, why, _ := f.At(b.now, w); why != want {
			b.fatalf("is foretold to wait for %v, want %v", why, want)
		}
	}
	b := newBench(t, 2, nil)
	hold(b, 10*time.Second)
	why(b, WhyHold)
	b.core.Pause(b.now, 5*time.Second) // ends before
	why(b, WhyHold)
	b.core.Pause(b.now, 20*time.Second)
	why(b, WhyPause)

	b = newBench(t, 2, nil)
	a := b.acquire()
	hold(b, 10*time.Second)
	b.finish(a, throttled(10*time.Second)) // the upstream asks for the same
	why(b, WhyPause)

	b = newBench(t, 2, nil)
	hold(b, time.Hour)
	w := b.acquire()
	b.want(w, Refused, ReasonHeld)
	if w.RetryAt != time.Hour {
		b.fatalf("RetryAt = %v, want 1h", w.RetryAt)
	}
	if n := b.core.Counts().Refused; n[ReasonHeld] != 1 || n[ReasonPaused] != 0 {
		b.fatalf("counted %v", n)
	}
}

func TestRetryAfterSaturates(t *testing.T) {
	b := newBench(t, 1, func(c *Config) { c.PauseJitter = 1 })
	b.after(time.Hour)
	b.finish(b.acquire(), throttled(1<<63-1))
	w := b.acquire()
	b.want(w, Refused, ReasonPaused)
	if w.RetryAt < b.now {
		b.fatalf("RetryAt = %v wrapped", w.RetryAt)
	}
}

func TestDeadlineThatCannotBeMet(t *testing.T) {
	b := newBench(t, 1, nil)
	b.finish(b.acquire(), throttled(10*time.Second))
	w := &Waiter{}
	w.GiveUp = 5 * time.Second
	b.core.Ask(b.now, w)
	b.want(w, Refused, ReasonDeadline)
}

func TestCancelLeavesNoTrace(t *testing.T) {
	b := newBench(t, 1, nil)
	a := b.acquire()
	w, x := b.acquire(), b.acquire()
	if !b.core.Cancel(w) || b.core.Cancel(w) {
		b.fatalf("Cancel of one that waits: want true, then false")
	}
	b.next()
	b.finish(a, adaptive.Outcome{})
	b.want(x, Granted, ReasonNone)
	b.core.Undo(b.now, x)
	if b.core.InFlight() != 0 || b.core.Waiting() != 0 {
		b.fatalf("%d in flight, %d waiting, want none", b.core.InFlight(), b.core.Waiting())
	}
}

func TestPace(t *testing.T) {
	b := newBench(t, 100, nil)
	b.law.d.Pace = 10
	b.finish(b.acquire(), adaptive.Outcome{})
	start := b.now
	for range 33 {
		b.acquire()
	}
	for b.core.Waiting() > 0 {
		at, _ := b.core.Wake(b.now)
		b.now = at
		b.next()
	}
	// One at once, the next a tenth of the gap early, then ten a second.
	if got, want := b.now-start, 3190*time.Millisecond; got < want-time.Millisecond || got > want+time.Millisecond {
		b.fatalf("33 starts took %v, want %v", got, want)
	}
	if got := b.core.InFlight(); got != 33 {
		b.fatalf("%d in flight, want 33", got)
	}
}

// After a pause that the upstream asked for, starts are a whole gap apart from the first on: what a bucket of one call has saved up is one call.
func TestPaceAfterAPause(t *testing.T) {
	b := newBench(t, 100, func(c *Config) { c.PauseJitter = 0 })
	b.law.d.Pace = 50
	b.finish(b.acquire(), throttled(time.Second))
	for range 4 {
		b.acquire()
	}
	starts := b.starts()
	if len(starts) != 4 {
		b.fatalf("%d starts, want 4", len(starts))
	}
	for i := 1; i < len(starts); i++ {
		if d := starts[i] - starts[i-1]; d < 20*time.Millisecond || d > 21*time.Millisecond {
			b.fatalf("starts %v apart, want 20 ms", d)
		}
	}
}

func TestTokenPaceLetsALargeRequestBorrow(t *testing.T) {
	b := newBench(t, 100, nil)
	b.law.d.TokenPace = 1000
	b.finish(b.acquire(), adaptive.Outcome{})
	big := &Waiter{}
	big.Call.Tokens = 10_000
	b.core.Ask(b.now, big)
	b.next()
	b.want(big, Granted, ReasonNone)
	small := &Waiter{}
	small.Call.Tokens = 100
	b.core.Ask(b.now, small)
	b.next()
	b.want(small, Queued, ReasonNone)
	b.wantWake(8100 * time.Millisecond) // 10,000 were spent, 2,000 were there
}

func TestWindowIsToldBeforeARefusal(t *testing.T) {
	b := newBench(t, 4, nil)
	b.law.d.AskAgain = time.Hour
	b.finish(b.acquire(), adaptive.Outcome{}) // takes AskAgain into force
	b.law.windows = nil
	a, c := b.acquire(), b.acquire()
	b.after(time.Second)
	b.finish(a, adaptive.Outcome{})
	if len(b.law.windows) != 0 {
		b.fatalf("window told before its end")
	}
	b.finish(c, throttled(-1))
	if len(b.law.windows) != 1 || b.law.windows[0].OK != 1 || b.law.windows[0].MeanLatency() != time.Second {
		b.fatalf("windows %+v, want one with one call of 1 s", b.law.windows)
	}
	if len(b.law.ended) != 1 {
		b.fatalf("%d calls told, want 1", len(b.law.ended))
	}
}

func TestWindowCountsBothPaths(t *testing.T) {
	b := newBench(t, 4, nil)
	b.law.d.AskAgain = 3 * time.Second
	b.core.decide(0, b.law.d)
	plain, rich, long := b.acquire(), b.acquire(), b.acquire()
	b.after(time.Second)
	b.finish(plain, adaptive.Outcome{})
	b.after(time.Second / 2)
	b.finish(rich, adaptive.Outcome{FirstByte: time.Second / 4, InputTokens: 100, OutputTokens: 20})
	b.after(3 * time.Second)
	b.finish(long, adaptive.Outcome{})
	if len(b.law.windows) != 1 {
		b.fatalf("%d windows, want 1", len(b.law.windows))
	}
	w := b.law.windows[0]
	w.Latency = w.Latency.Round(time.Microsecond)
	want := adaptive.Window{
		OK: 3, Timed: 3, Latency: 7 * time.Second, MinLatency: time.Second,
		FirstBytes: 1, FirstByte: time.Second / 4, Tokens: 120, OutputTokens: 20, MaxInFlight: 3, InFlight: 1,
	}
	if w != want {
		b.fatalf("window\n got %+v\nwant %+v", w, want)
	}
}

func TestClockThatGoesBack(t *testing.T) {
	b := newBench(t, 1, nil)
	b.after(10 * time.Second)
	a := b.acquire()
	w := b.acquire()
	b.now = 5 * time.Second
	b.finish(a, adaptive.Outcome{})
	b.want(w, Granted, ReasonNone)
	b.now = 0
	b.finish(w, throttled(time.Second))
	b.want(b.acquire(), Queued, ReasonNone)
}

// TestProperties runs random histories: no place is lost, no start goes over the limit, into a
// pause or past somebody who waits, and everybody is answered.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, rapid.IntRange(1, 5).Draw(rt, "limit"), func(c *Config) {
			c.Queue = rapid.IntRange(0, 8).Draw(rt, "queue")
			c.MaxWait = time.Duration(rapid.IntRange(1, 100).Draw(rt, "max wait")) * time.Second
			c.PauseJitter = rapid.SampledFrom([]float64{0, 0.05, 1}).Draw(rt, "jitter")
		})
		var running, queue []*Waiter
		closed := false
		fatalf := func(format string, a ...any) {
			for _, l := range b.log {
				rt.Log(l)
			}
			rt.Fatalf(format, a...)
		}
		started := func(w *Waiter) {
			if n := len(running); n >= b.core.Limit() {
				fatalf("started with %d in flight at limit %d", n, b.core.Limit())
			}
			if b.now < b.core.Gate() {
				fatalf("started at %v, inside a pause until %v", b.now, b.core.Gate())
			}
			if closed {
				fatalf("started after Close")
			}
			running = append(running, w)
		}
		settle := func(answered []*Waiter) {
			for _, w := range answered {
				if len(queue) == 0 || queue[0] != w {
					fatalf("answered one that was not the first in the queue")
				}
				queue = queue[1:]
				if w.State == Granted {
					started(w)
				} else if w.Reason == ReasonMaxWait && b.now < w.Deadline {
					fatalf("refused at %v for a wait until %v", b.now, w.Deadline)
				}
			}
		}
		check := func() {
			if b.core.InFlight() != len(running) || b.core.Waiting() != len(queue) {
				fatalf("core: %d in flight, %d waiting; model: %d, %d", b.core.InFlight(), b.core.Waiting(), len(running), len(queue))
			}
		}
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "which") }
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1, 2, 3:
				w := &Waiter{}
				if n, taken := b.core.Take(); taken <= TookLast {
					if len(queue) > 0 {
						fatalf("took a place past %d who wait", len(queue))
					}
					w.State, w.Call = Granted, b.core.Start(b.now, n)
					started(w)
					b.logf("acquire: granted at once")
					break
				}
				b.core.Ask(b.now, w)
				switch w.State {
				case Queued:
					queue = append(queue, w)
				case Granted:
					started(w)
				}
				b.logf("acquire: %s", stateName(w))
				settle(b.next())
			case 4, 5:
				if len(running) == 0 {
					break
				}
				i := pick(len(running))
				w := running[i]
				running = append(running[:i], running[i+1:]...)
				o := adaptive.Outcome{Class: feedback.Class(rapid.IntRange(0, feedback.NumClasses-1).Draw(rt, "class"))}
				if o.Class != feedback.OK && rapid.Bool().Draw(rt, "retry after?") {
					o.HasRetryAfter, o.RetryAfter = true, time.Duration(rapid.IntRange(0, 400).Draw(rt, "retry after"))*time.Second
				}
				b.law.d.Limit = rapid.IntRange(1, 6).Draw(rt, "new limit")
				b.law.d.Episode++
				settle(b.finish(w, o))
			case 6:
				if len(queue) == 0 {
					break
				}
				i := pick(len(queue))
				b.logf("cancel the waiter at %d", i)
				if !b.core.Cancel(queue[i]) {
					fatalf("Cancel of a waiter that waits failed")
				}
				queue = append(queue[:i], queue[i+1:]...)
				settle(b.next())
			case 7:
				b.after(time.Duration(rapid.IntRange(0, 50_000).Draw(rt, "ms")) * time.Millisecond)
				b.logf("time passes")
				settle(b.next())
			case 8:
				if at, ok := b.core.Wake(b.now); ok {
					b.now = at
					b.logf("wake")
					settle(b.next())
				}
			case 9:
				if rapid.IntRange(0, 9).Draw(rt, "close?") == 0 {
					b.logf("close")
					b.core.Close(b.now)
					closed = true
					settle(b.next())
				}
			}
			check()
		}
		// Let everything come to its end: nobody may be left.
		for range 10_000 {
			if len(running) > 0 {
				w := running[0]
				running = running[1:]
				settle(b.finish(w, adaptive.Outcome{}))
			} else if at, ok := b.core.Wake(b.now); ok {
				b.now = at
				settle(b.next())
			} else {
				break
			}
			check()
		}
		if len(queue) > 0 || len(running) > 0 {
			fatalf("%d wait and %d run at the end", len(queue), len(running))
		}
	})
}

func TestNoAllocations(t *testing.T) {
	b := newBench(t, 1, nil)
	b.law.d.AskAgain = 1 << 62
	b.core.decide(0, b.law.d)
	w := &Waiter{}
	o := adaptive.Outcome{}
	if n := testing.AllocsPerRun(100, func() {
		n, _ := b.core.Take()
		call := Grant{Call: b.core.Start(b.now, n)}
		b.core.Ask(b.now, w)
		b.now += time.Millisecond
		if e := b.core.Finish(b.now, &call, &o); e != Ended {
			b.core.Settle(b.now, e, &call, &o)
		}
		for b.core.Next(b.now) != nil {
		}
		if e := b.core.Finish(b.now, &w.Grant, &o); e != Ended {
			b.core.Settle(b.now, e, &w.Grant, &o)
		}
	}); n != 0 {
		t.Errorf("%v allocations for two calls, one of which waits; want 0", n)
	}
}

// A Core that makes its law when it needs it is told of what went well before, so that it behaves as if it had had it all the time.
func TestLateLawKnowsWhatWentWell(t *testing.T) {
	newLaw := func() adaptive.Law { return adaptive.New(adaptive.Config{}) }
	cfg := Config{NewLaw: newLaw, First: newLaw().Decision(), Calm: Calm(newLaw()), Queue: 100, MaxWait: time.Minute, MaxPause: 5 * time.Minute, Seed: 1}
	var c Core
	c.Init(&cfg)
	now := time.Duration(0)
	call := func(o adaptive.Outcome) {
		t.Helper()
		n, took := c.Take()
		if took > TookLast || c.Paced() && !c.Spend(now) {
			t.Fatalf("at %v a call may not start: pace %v, %d in flight of %d", now, c.Decision().Pace, c.InFlight(), c.Limit())
		}
		g := Grant{Call: c.Start(now, n)}
		now += time.Millisecond
		if e := c.Finish(now, &g, &o); e != Ended {
			c.Settle(now, e, &g, &o)
			c.Next(now)
		}
	}
	for range 1700 { // the first of them must wait for no pace that is meant for a guard of which nothing is known
		call(adaptive.Outcome{})
	}
	if c.state != nil || c.Decision() != cfg.Calm {
		t.Fatalf("state %v, decision %+v, want none and %+v", c.state, c.Decision(), cfg.Calm)
	}
	if n := c.Counts().Outcomes[feedback.OK]; n != 1700 {
		t.Errorf("%d calls counted, want 1700", n)
	}
	call(adaptive.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeRequests})
	if p := c.Decision().Pace; p < 250 || p > 1500 {
		t.Errorf("after a refusal of 1000 calls a second the pace is %v, want a good part of them", p)
	}
	if !c.Rest(now+time.Hour, time.Minute) && !c.Rest(now+2*time.Hour, time.Minute) {
		t.Fatal("the state stays")
	}
	if c.Decision() != cfg.First {
		t.Errorf("after a rest %+v, want %+v", c.Decision(), cfg.First)
	}
}

// listener records what a law is told of answers that begin.
type listener struct {
	*adaptive.Governor
	began   []adaptive.Call
	windows []adaptive.Window
}

func (l *listener) Began(now time.Duration, c adaptive.Call) adaptive.Decision {
	l.began = append(l.began, c)
	return l.Governor.Began(now, c)
}

func (l *listener) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	l.windows = append(l.windows, w)
	return l.Governor.Window(now, w)
}

// An answer's beginning is told to the law once, and its end says that it was.
func TestBegan(t *testing.T) {
	law := &listener{Governor: adaptive.New(adaptive.Config{Initial: 2})}
	var c Core
	c.Init(&Config{Law: law, Queue: 1, MaxWait: time.Minute})
	n, _ := c.Take()
	g := Grant{Call: c.Start(time.Second, n)}
	c.Began(2*time.Second, &g)
	c.Began(3*time.Second, &g)
	if len(law.began) != 1 || law.began[0].SentAt != time.Second || law.began[0].InFlight != 1 || !g.Call.Begun {
		t.Fatalf("told of %+v, want of one call that started at 1 s", law.began)
	}
	if back := TicketOf(&g.Call).Call(); back != g.Call {
		t.Errorf("a ticket makes %+v of %+v", back, g.Call)
	}
	o := adaptive.Outcome{}
	e := c.Finish(4*time.Second, &g, &o)
	if e != NotEnded {
		t.Fatal("a call that was told of ended without the lock")
	}
	c.Settle(4*time.Second, e, &g, &o)
	ok, begun := 0, 0
	for _, w := range law.windows {
		ok, begun = ok+w.OK, begun+w.Begun
	}
	if ok != 1 || begun != 1 {
		t.Errorf("windows with %d calls, %d of which had begun, want 1 and 1", ok, begun)
	}
	// A guard that has met no limit stays small.
	var idle Core
	idle.Init(&Config{NewLaw: func() adaptive.Law { return law }, First: adaptive.Decision{Limit: 4}})
	n, _ = idle.Take()
	g = Grant{Call: idle.Start(time.Second, n)}
	idle.Began(2*time.Second, &g)
	if g.Call.Begun || idle.state != nil {
		t.Error("a guard that has met no limit made a law to tell it of an answer")
	}
}
