package classic

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"
	"github.com/platinummonkey/go-concurrency-limits/limiter"
	"github.com/platinummonkey/go-concurrency-limits/strategy"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// handClock makes a Limit whose clock is moved by hand.
func handClock(law adaptive.Law, calls int) (l *Limit, now *time.Duration) {
	now = new(time.Duration)
	l = NewLimit(law, calls)
	l.clock = func() time.Duration { return *now }
	return l, now
}

func TestLimitGrowsAndCutsOnceAnEpisode(t *testing.T) {
	l, now := handClock(adaptive.NewAIMD(adaptive.Config{Initial: 10}), 1)
	var told []int
	l.NotifyOnChange(func(limit int) { told = append(told, limit) })
	want := func(n int) {
		t.Helper()
		if got := l.EstimatedLimit(); got != n {
			t.Errorf("at %v: limit = %d, want %d", *now, got, n)
		}
	}
	const trip = 100 * time.Millisecond
	*now = trip
	l.OnSample(0, int64(trip), 9, false) // not in use
	want(10)
	for range 10 {
		l.OnSample(0, int64(trip), l.EstimatedLimit(), false)
	}
	want(20)
	*now += trip
	l.OnSample(0, int64(5*time.Millisecond), 20, true)
	want(16)
	// The rest of the burst: they started before the cut.
	for range 10 {
		*now += time.Millisecond
		l.OnSample(0, int64(20*time.Millisecond), 20, true)
	}
	want(16)
	*now += trip
	l.OnSample(0, int64(20*time.Millisecond), 16, true)
	want(12)
	if len(told) != 12 || told[0] != 11 || told[9] != 20 || told[10] != 16 || told[11] != 12 {
		t.Errorf("the listener was told of %v, want 11 to 20, 16, 12", told)
	}
}

func TestLimitOfSamplesThatStandForManyCalls(t *testing.T) {
	l, now := handClock(adaptive.NewAIMD(adaptive.Config{Initial: 10}), 11)
	*now = time.Second
	l.OnSample(0, 1e8, 10, false)
	if got, want := l.EstimatedLimit(), 20; got != want { // twice what was in flight
		t.Errorf("limit = %d after a sample of 11 calls at 10, want %d", got, want)
	}
	*now += time.Second
	l.OnSample(0, 1e8, 20, true)
	if got, want := l.EstimatedLimit(), 16; got != want { // raised by 11 calls, then cut from 20 in flight
		t.Errorf("limit = %d after a sample of 11 calls with a drop at 20, want %d", got, want)
	}
}

// holding is a law that holds places after their calls have ended, and keeps what it was told.
type holding struct {
	adaptive.Law
	windows []adaptive.Window
	calls   []adaptive.Call
}

func (l *holding) Decision() adaptive.Decision {
	return adaptive.Decision{Limit: 60, FreeAfter: 200 * time.Millisecond}
}

func (l *holding) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	l.windows = append(l.windows, w)
	return l.Decision()
}

func (l *holding) Ended(_ time.Duration, c adaptive.Call, _ adaptive.Outcome) adaptive.Decision {
	l.calls = append(l.calls, c)
	return l.Decision()
}

// Nobody holds places here, so the limit is without them: of sixty, two to each call that takes half as long.
func TestLimitWithoutHeldPlaces(t *testing.T) {
	law := &holding{}
	l, now := handClock(law, 1)
	for i := range 20 {
		*now += 10 * time.Millisecond
		l.OnSample(0, 5e6, 20, true) // a refusal is no call
		if i == 0 && l.EstimatedLimit() != 60 {
			t.Errorf("limit = %d before it is known how long calls take, want 60", l.EstimatedLimit())
		}
		l.OnSample(0, 1e8, 20, false)
	}
	if got := l.EstimatedLimit(); got != 20 {
		t.Errorf("limit = %d, want 20", got)
	}
	if w := law.windows[len(law.windows)-1]; w.InFlight != 20 || w.Held != 40 || w.MaxInFlight != 60 || !w.Full {
		t.Errorf("the law is told %+v", w)
	}
	if c := law.calls[len(law.calls)-1]; c.InFlight != 60 {
		t.Errorf("the law is told %+v", c)
	}
}

func TestLimitSurvivesNonsense(t *testing.T) {
	l, now := handClock(adaptive.New(adaptive.Config{}), -5)
	for _, rtt := range []int64{0, -1, 1 << 62, -1 << 63} {
		for _, n := range []int{0, -1, math.MaxInt / 2} {
			*now -= time.Second
			l.OnSample(-1, rtt, n, false)
			l.OnSample(-1, rtt, n, true)
		}
	}
	if got := l.EstimatedLimit(); got < 1 || got > 1024 {
		t.Errorf("limit = %d", got)
	}
}

// A slowLaw would show two calls at the same time to the race detector and to itself.
type slowLaw struct {
	adaptive.Law
	inside atomic.Int32
	t      *testing.T
}

func (l *slowLaw) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	if l.inside.Add(1) != 1 {
		l.t.Error("the law is told of two events at the same time")
	}
	defer l.inside.Add(-1)
	return l.Law.Window(now, w)
}

func TestLimitFromManyGoroutines(t *testing.T) {
	l := NewLimit(&slowLaw{Law: adaptive.New(adaptive.Config{Initial: 100}), t: t}, 1)
	var last, listeners atomic.Int64
	running := atomic.Bool{}
	l.NotifyOnChange(func(limit int) {
		if running.Swap(true) {
			t.Error("two listeners run at the same time")
		}
		_ = l.EstimatedLimit() // must not wait for itself
		l.NotifyOnChange(func(int) { listeners.Add(1) })
		last.Store(int64(limit))
		running.Store(false)
	})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				l.OnSample(0, int64(time.Millisecond), l.EstimatedLimit(), (i+g)%20 == 0)
			}
		})
	}
	wg.Wait()
	if got, want := last.Load(), int64(l.EstimatedLimit()); got != want {
		t.Errorf("the listener was told of %d last, the limit is %d", got, want)
	}
	if listeners.Load() == 0 {
		t.Error("a listener that was added by a listener was never told")
	}
}

// run puts 64 callers before an upstream that allows 20 calls of 100 ms at a time and
// refuses others within 5 ms, behind the library's own limiter and strategy, and returns
// how many were served and refused after warming up.
func run(t *testing.T, limit func() core.Limit) (served, refused int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const room = 20
		lim, err := limiter.NewDefaultLimiter(limit(), 1, 1, 0, 10, strategy.NewSimpleStrategy(1), nil, core.EmptyMetricRegistryInstance)
		if err != nil {
			t.Fatal(err)
		}
		var busy, ok, bad atomic.Int64
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				for ctx.Err() == nil {
					call, granted := lim.Acquire(ctx)
					switch {
					case !granted:
						time.Sleep(4 * time.Millisecond)
					case busy.Add(1) > room:
						busy.Add(-1)
						time.Sleep(5 * time.Millisecond)
						bad.Add(1)
						call.OnDropped()
					default:
						time.Sleep(100 * time.Millisecond)
						busy.Add(-1)
						ok.Add(1)
						call.OnSuccess()
					}
				}
			})
		}
		time.Sleep(5 * time.Second)
		warmOK, warmBad := ok.Load(), bad.Load()
		time.Sleep(10 * time.Second)
		served, refused = ok.Load()-warmOK, bad.Load()-warmBad
		cancel()
		wg.Wait()
	})
	return served, refused
}

func TestInsideTheirDefaultLimiter(t *testing.T) {
	const best = 10 * 200 // calls in 10 s
	ours := func() core.Limit { return NewLimit(adaptive.New(adaptive.Config{}), 11) }
	served, refused := int64(0), int64(0)
	const runs = 3 // the order of callers who ask at the same instant is by chance
	for range runs {
		ok, bad := run(t, ours)
		served, refused = served+ok, refused+bad
	}
	t.Logf("ours: %.2f of the best, %.3f refused a success", float64(served)/(runs*best), float64(refused)/float64(served))
	// Their limiter tells of a drop only with the next 11 successes, 55 ms later: the
	// refused are back ten times until then.
	if served < runs*best*75/100 || refused > served/3 {
		t.Errorf("ours in DefaultLimiter: served %d of %d, refused %d", served, runs*best, refused)
	}
	aimd := func() core.Limit { return limit.NewDefaultAIMDLimit("", nil) }
	theirs, stormed := run(t, aimd)
	t.Logf("their AIMD: %.2f of the best, %.3f refused a success", float64(theirs)/best, float64(stormed)/float64(theirs))
}

func TestAllOfTheirLimiterRefused(t *testing.T) {
	// "While everything is refused, DefaultLimiter calls OnSample not at all"
	l := NewLimit(adaptive.New(adaptive.Config{Initial: 50}), 11)
	lim, err := limiter.NewDefaultLimiter(l, 1, 1, 0, 10, strategy.NewSimpleStrategy(1), nil, core.EmptyMetricRegistryInstance)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		call, ok := lim.Acquire(context.Background())
		if !ok {
			t.Fatal("no place")
		}
		call.OnDropped()
	}
	if got := l.EstimatedLimit(); got != 50 {
		t.Errorf("limit = %d after nothing but drops: the text of Limit has to change", got)
	}
}

func TestLimitTellsWhatItKnows(t *testing.T) {
	law := &recorder{}
	l, now := handClock(law, 1)
	*now = 5 * time.Second
	l.OnSample(123, int64(2*time.Second), 7, true)
	want := adaptive.Call{SentAt: 3 * time.Second, InFlight: 7}
	if law.call != want {
		t.Errorf("told of the call %+v, want %+v", law.call, want)
	}
	if law.outcome.Class != feedback.Throttled || law.outcome.Scope != feedback.ScopeConcurrency {
		t.Errorf("told of %v by %v, want a throttle by a limit on calls in flight", law.outcome.Class, law.outcome.Scope)
	}
	if law.window.OK != 0 || !law.window.Full || law.window.InFlight != 7 {
		t.Errorf("told of the window %+v before, want an empty one that was full", law.window)
	}
}

// A recorder is a law that remembers the last that it was told.
type recorder struct {
	window  adaptive.Window
	call    adaptive.Call
	outcome adaptive.Outcome
}

func (r *recorder) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	r.window = w
	return r.Decision()
}

func (r *recorder) Ended(_ time.Duration, c adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	r.call, r.outcome = c, o
	return r.Decision()
}

func (r *recorder) Hint(time.Duration, feedback.Window) adaptive.Decision { return r.Decision() }

func (r *recorder) Decision() adaptive.Decision { return adaptive.Decision{Limit: 5} }
