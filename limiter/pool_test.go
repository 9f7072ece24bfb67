package limiter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// credential returns the i-th test key. It has the words that the tests look for in what is printed.
func credential(i int) string { return fmt.Sprintf("sk-verysecret-%d", i) }

// fixed returns a maker of laws that keep these limits, one after the other.
func fixedLimits(limits ...int) func() adaptive.Law {
	i := 0
	return func() adaptive.Law {
		l := adaptive.NewFixed(limits[i%len(limits)])
		i++
		return l
	}
}

// newPool returns a pool of one key for each limit.
func newPool(t testing.TB, limits []int, edit func(*PoolConfig)) *Pool {
	t.Helper()
	cfg := PoolConfig{Guard: Config{Name: "test", PauseJitter: -1, Seed: 1}, NewLaw: fixedLimits(limits...)}
	for i := range limits {
		cfg.Keys = append(cfg.Keys, NewSecret(credential(i)))
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// which returns the index of a permit's key.
func which(kp *KeyPermit) int { return kp.key.index }

func takeKey(t testing.TB, p *Pool) KeyPermit {
	t.Helper()
	kp, err := p.Acquire(context.Background(), Request{})
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

func wantKey(t testing.TB, kp *KeyPermit, i int) {
	t.Helper()
	if got := which(kp); got != i {
		t.Fatalf("got key %d, want key %d", got, i)
	}
}

var (
	okay         = Outcome{}
	unauthorized = Outcome{Class: feedback.ClientError}
	broke        = Outcome{Class: feedback.QuotaExhausted, Scope: feedback.ScopeUnknown}
)

func throttledFor(d time.Duration) Outcome {
	return Outcome{Class: feedback.Throttled, Scope: feedback.ScopeRequests, HasRetryAfter: true, RetryAfter: d}
}

func brokeFor(d time.Duration) Outcome {
	return Outcome{Class: feedback.QuotaExhausted, Scope: feedback.ScopeDaily, HasRetryAfter: true, RetryAfter: d}
}

// "picks the roomiest usable key first: most free places relative to its limit"
func TestPoolPicksTheRoomiestKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2, 4, 1}, nil)
		var got []int
		for range 7 {
			kp := takeKey(t, p)
			got = append(got, which(&kp))
		}
		// Free of limit: all 1 → 0; 1/2, 1, 1 → 1; 1/2, 3/4, 1 → 2; 1/2, 3/4 → 1; 1/2, 1/2 → in turn after 1: 0; 1/2 → 1, 1.
		if want := []int{0, 1, 2, 1, 0, 1, 1}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("keys %v, want %v", got, want)
		}
		if _, ok := p.TryAcquire(Request{}); ok {
			t.Error("an eighth call started")
		}
	})
}

func TestPoolTurnsTies(t *testing.T) {
	for _, scope := range []LimitScope{LimitKey, LimitAccount} {
		p := newPool(t, []int{4, 4, 4}, func(c *PoolConfig) { c.Limit = scope })
		for i := range 30 {
			kp := takeKey(t, p)
			wantKey(t, &kp, i%3)
			kp.Release(okay, KeyFine)
		}
	}
}

func TestPoolOfOneAccountHasOneLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2, 2, 2}, func(c *PoolConfig) { c.Limit = LimitAccount })
		a, b := takeKey(t, p), takeKey(t, p)
		if _, ok := p.TryAcquire(Request{}); ok || len(p.Guards()) != 1 {
			t.Fatalf("a third call started, or there are %d guards", len(p.Guards()))
		}
		// A pause is for the account.
		a.Release(throttledFor(10*time.Second), KeyFine)
		b.Release(okay, KeyFine)
		start := time.Now()
		c := takeKey(t, p)
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("waited %v, want 10s", got)
		}
		// A key that is not accepted is out alone; no money is the account's.
		k := which(&c)
		c.Release(unauthorized, KeyUnauthorized)
		for range 4 {
			d := takeKey(t, p)
			if which(&d) == k {
				t.Error("the key that is out was used")
			}
			d.Release(okay, KeyFine)
		}
		d := takeKey(t, p)
		d.Release(broke, KeyFine)
		var e *NoKeyError
		if _, err := p.Acquire(context.Background(), Request{}); !errors.As(err, &e) || !errors.Is(err, ErrNoKey) || !errors.Is(err, ErrRejected) {
			t.Errorf("Acquire without money: %v", err)
		}
	})
}

// "Retry-After on key A does not pause B"
func TestPoolPausesOneKeyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, nil)
		a := takeKey(t, p)
		wantKey(t, &a, 0)
		a.Release(throttledFor(30*time.Second), KeyFine)
		for range 5 {
			b := takeKey(t, p)
			wantKey(t, &b, 1)
			b.Release(okay, KeyFine)
		}
		// It is asked last, so that its lock and its counters are left alone.
		if c := p.Guards()[0].Stats().Counts; c.Refused[ReasonPaused] > 1 {
			t.Errorf("the paused key was asked %d times", c.Refused[ReasonPaused])
		}
		// The paused key is taken again as soon as it may be, while the other one is busy.
		b := takeKey(t, p)
		start := time.Now()
		a = takeKey(t, p)
		wantKey(t, &a, 0)
		if got := time.Since(start); got != 30*time.Second {
			t.Errorf("waited %v, want 30s", got)
		}
		b.Release(okay, KeyFine)
	})
}

// "a caller must not be stuck waiting on key A while key B is free", and first in, first out.
func TestPoolWaitsForWhicheverKeyHasRoomFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1, 1}, nil)
		var held []KeyPermit
		for range 3 {
			held = append(held, takeKey(t, p))
		}
		got := make(chan [2]int, 10)
		for i := range 3 {
			go func() {
				kp := takeKey(t, p)
				got <- [2]int{i, which(&kp)}
			}()
			synctest.Wait()
			time.Sleep(time.Second)
		}
		for i, k := range []int{2, 0, 1} {
			held[k].Release(okay, KeyFine)
			synctest.Wait()
			if g := <-got; g != [2]int{i, k} {
				t.Errorf("caller and key %v, want %v", g, [2]int{i, k})
			}
		}
		s := p.Stats()
		if s.Waiting != 0 || s.InFlight != 3 || s.Counts.Waited != 3 || s.Counts.WaitSum != 6*time.Second || s.Counts.Waits[11] != 1 {
			t.Errorf("Stats() = %+v, want 3 in flight after waits of 3, 2 and 1 s", s)
		}
	})
}

// paced is a law that keeps a limit and a pace of tokens.
type paced struct{ d adaptive.Decision }

func (l *paced) Window(time.Duration, adaptive.Window) adaptive.Decision { return l.d }
func (l *paced) Ended(time.Duration, adaptive.Call, Outcome) adaptive.Decision {
	return l.d
}
func (l *paced) Hint(time.Duration, feedback.Window) adaptive.Decision { return l.d }
func (l *paced) Decision() adaptive.Decision                           { return l.d }

// Whoever leaves the queue lets those pass who waited only behind it, and those who time alone holds back are let in by time.
func TestPoolPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, func(c *PoolConfig) {
			c.NewLaw = func() adaptive.Law { return &paced{adaptive.Decision{Limit: 10, TokenPace: 100}} }
		})
		first, err := p.Acquire(context.Background(), Request{Tokens: 200}) // all that may be spent at once
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			if _, err := p.Acquire(ctx, Request{Tokens: 200}); !errors.Is(err, context.Canceled) {
				t.Errorf("the head: %v", err)
			}
		}()
		synctest.Wait()
		time.AfterFunc(time.Second, cancel)
		small := takeKey(t, p)
		if d := time.Since(start); d != time.Second {
			t.Errorf("the second in the queue waited %v, want 1s", d)
		}
		next, err := p.Acquire(context.Background(), Request{Tokens: 200})
		if d := time.Since(start); err != nil || d != 2*time.Second {
			t.Errorf("%v after %v, want 2s", err, d)
		}
		first.Release(okay, KeyFine)
		small.Release(okay, KeyFine)
		next.Release(okay, KeyFine)
	})
}

// A key is found for the head of the queue in the moment in which the head gives up.
func TestPoolHeadGivesUpWhileItIsServed(t *testing.T) {
	// Between the refusal and the lock below the pause must not end. On a machine that is slow now, a longer one does.
	for pause := 50 * time.Millisecond; ; pause *= 4 {
		if headGivesUpWhileItIsServed(t, pause) {
			return
		}
		if pause > 3*time.Second {
			t.Fatalf("the pause of %v ended before the server could be stopped", pause)
		}
	}
}

// headGivesUpWhileItIsServed reports false when the pause ended too early to see anything.
func headGivesUpWhileItIsServed(t *testing.T, pause time.Duration) bool {
	p := newPool(t, []int{1}, nil)
	g := p.lanes[0].guard
	first := takeKey(t, p)
	first.Release(throttledFor(pause), KeyFine)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	gone := make(chan error, 1)
	go func() {
		permit, err := p.Acquire(ctx, Request{})
		gone <- err
		if err == nil {
			permit.Release(Outcome{}, KeyFine)
		}
	}()
	// wait reports false when the caller was let in meanwhile.
	wait := func(until func() bool) bool {
		for !until() {
			select {
			case err := <-gone:
				if err != nil {
					t.Errorf("Acquire: %v", err)
				}
				return false
			case <-time.After(time.Millisecond):
			}
		}
		return true
	}
	if !wait(func() bool { return p.waiting.Load() > 0 && p.kicks.Load() == 0 }) {
		return false
	}
	// Whoever serves when the pause ends is stopped inside its try, which needs this lock.
	g.mu.Lock()
	if !wait(func() bool { return p.kicks.Load() > 0 }) {
		g.mu.Unlock()
		return false
	}
	time.Sleep(20 * time.Millisecond) // for the server to get there; too short only makes the test see less
	cancel()
	if err := <-gone; err != context.Canceled {
		t.Errorf("Acquire: %v", err)
	}
	g.mu.Unlock()
	for p.kicks.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	if s := g.Stats(); s.InFlight != 0 {
		t.Errorf("%d in flight, want the place that nobody took to be free", s.InFlight)
	}
	return true
}

// TestPoolGrantAgainstCancel has callers give up in the moment in which they are let in: no place is lost.
func TestPoolGrantAgainstCancel(t *testing.T) {
	p := newPool(t, []int{1, 1}, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 3000 {
				ctx, cancel := context.WithCancel(context.Background())
				if i%2 == 0 {
					go cancel()
				}
				if kp, err := p.Acquire(ctx, Request{}); err == nil {
					runtime.Gosched()
					kp.Release(okay, KeyFine)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	s := p.Stats()
	for _, g := range p.Guards() {
		if n := g.Stats().InFlight; n != 0 || s.InFlight != 0 || s.Waiting != 0 {
			t.Fatalf("%s has %d in flight in the end; %+v", g.Name(), n, s)
		}
	}
	if s.Counts.Canceled == 0 || s.Counts.Waited == 0 {
		t.Errorf("%+v: nobody gave up, or nobody waited", s.Counts)
	}
}

func TestPoolCancelAndMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, func(c *PoolConfig) { c.Guard.Queue, c.Guard.MaxWait = 2, time.Minute })
		held := takeKey(t, p)
		cause := errors.New("no longer wanted")
		ctx, cancel := context.WithCancelCause(context.Background())
		errs := make(chan error, 3)
		for _, c := range []context.Context{ctx, context.Background()} {
			go func() {
				_, err := p.Acquire(c, Request{})
				errs <- err
			}()
			synctest.Wait()
		}
		var e *NoKeyError
		if _, err := p.Acquire(context.Background(), Request{}); !errors.As(err, &e) || e.Reason != ReasonQueueFull || e.Waiting != 2 {
			t.Errorf("a third waiter: %v", err)
		}
		cancel(cause)
		if err := <-errs; err != cause {
			t.Errorf("cancelled: %v, want the cause", err)
		}
		if err := <-errs; !errors.As(err, &e) || e.Reason != ReasonMaxWait || e.Waited != time.Minute {
			t.Errorf("after the longest wait: %v", err)
		}
		held.Release(okay, KeyFine)
		held = takeKey(t, p)
		p.Close()
		if _, err := p.Acquire(context.Background(), Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		held.Release(okay, KeyFine)
		c := p.Stats().Counts
		if c.Canceled != 1 || c.Refused[ReasonQueueFull] != 1 || c.Refused[ReasonMaxWait] != 1 {
			t.Errorf("Counts %+v", c)
		}
	})
}

func TestPoolWithoutAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, func(c *PoolConfig) { c.Guard.Queue = -1 })
		kp := takeKey(t, p)
		want := func(r Reason) {
			t.Helper()
			var e *NoKeyError
			if _, err := p.Acquire(context.Background(), Request{}); !errors.As(err, &e) || e.Reason != r || e.Out {
				t.Errorf("Acquire: %v, want %v", err, r)
			}
		}
		want(ReasonLimit)
		kp.Release(throttledFor(time.Second), KeyFine)
		want(ReasonPaused)
		p.Close()
		want(ReasonClosed)
	})
}

func TestPoolRefusesAtOnceWhatCannotStartInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) { c.Guard.MaxWait = time.Minute })
		a, b := takeKey(t, p), takeKey(t, p)
		a.Release(throttledFor(50*time.Second), KeyFine)
		b.Release(throttledFor(2*time.Minute), KeyFine)
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
		defer cancel()
		start := time.Now()
		var e *NoKeyError
		if _, err := p.Acquire(ctx, Request{}); !errors.As(err, &e) || e.Reason != ReasonDeadline || !e.RetryAt.Equal(start.Add(50*time.Second).Round(0)) || time.Now() != start {
			t.Errorf("a deadline before the end of the pauses: %v", err)
		}
		kp := takeKey(t, p)
		wantKey(t, &kp, 0)
		kp.Release(throttledFor(10*time.Minute), KeyFine)
		time.Sleep(time.Second)
		start = time.Now()
		if _, err := p.Acquire(context.Background(), Request{}); !errors.As(err, &e) || e.Reason != ReasonPaused || e.Out || !strings.Contains(err.Error(), "paused for") || time.Now() != start {
			t.Errorf("a pause beyond the longest wait: %v", err)
		}
	})
}

// "out until a slow probe succeeds (one probe at a time, interval default 10 min, doubling to 1 h, jittered)"
func TestPoolProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 4}, nil)
		var events []string
		p.OnKey(func(e KeyEvent) { events = append(events, fmt.Sprint(e.Fault, e.ProbeAt > e.At)) })
		bad := takeKey(t, p)
		wantKey(t, &bad, 0)
		bad.Release(unauthorized, KeyUnauthorized)
		last := time.Now()
		for i, want := range []time.Duration{10, 20, 40, 60, 60} {
			want *= time.Minute
			for {
				kp := takeKey(t, p)
				if kp.Probe() {
					wantKey(t, &kp, 0)
					other := takeKey(t, p) // one probe at a time
					wantKey(t, &other, 1)
					other.Release(okay, KeyFine)
					if got := time.Since(last); got < want || got > want+want/10+time.Second {
						t.Fatalf("probe %d came after %v, want %v and up to 10 %% more", i, got, want)
					}
					last = time.Now()
					kp.Release(unauthorized, KeyUnauthorized)
					break
				}
				wantKey(t, &kp, 1)
				kp.Release(okay, KeyFine)
				time.Sleep(time.Second)
			}
		}
		s := p.Stats()
		if k := s.Keys[0]; k.Out != KeyUnauthorized || k.Probes != 5 || k.Faults != 6 || s.InService != 1 {
			t.Fatalf("Stats() = %+v", s)
		}
		time.Sleep(70 * time.Minute)
		// What cannot be sent again is no probe.
		rot := p.Rotate(Request{}, false)
		kp, err := rot.Acquire(context.Background())
		if err != nil || kp.Probe() {
			t.Fatalf("got key %d, %v", which(&kp), err)
		}
		kp.Release(okay, KeyFine)
		kp = takeKey(t, p)
		if !kp.Probe() {
			t.Fatal("no probe was due")
		}
		// A probe that tells nothing is made again soon, and does not change the interval.
		kp.Release(Outcome{Class: feedback.Overloaded}, KeyFine)
		time.Sleep(29 * time.Second)
		kp = takeKey(t, p)
		wantKey(t, &kp, 1)
		time.Sleep(5 * time.Second)
		probe := takeKey(t, p)
		if !probe.Probe() {
			t.Fatal("no probe after one that told nothing")
		}
		probe.Accepted()
		if s := p.Stats(); s.InService != 2 || probe.Probe() {
			t.Fatalf("accepted: %+v", s)
		}
		probe.Release(okay, KeyFine)
		again := takeKey(t, p)
		wantKey(t, &again, 0)
		if want := "[unauthorized true unauthorized true unauthorized true unauthorized true unauthorized true unauthorized true none false]"; fmt.Sprint(events) != want {
			t.Errorf("events %v, want %v", events, want)
		}
	})
}

// What ended a working key may be a login service that fails for a moment: it is looked at again sooner, once.
func TestPoolRechecksAKeyThatWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, nil)
		kp := takeKey(t, p)
		kp.Release(okay, KeyFine)
		kp = takeKey(t, p)
		kp.Release(unauthorized, KeyUnauthorized)
		for _, want := range []time.Duration{30 * time.Second, 10 * time.Minute, 20 * time.Minute} {
			s := p.Keys()[0]
			if d := time.Until(s.ProbeAt); d < want || d > want+want/10 {
				t.Fatalf("probed in %v, want %v and up to 10 %%", d, want)
			}
			time.Sleep(want + want/10)
			if kp = takeKey(t, p); !kp.Probe() {
				t.Fatal("no probe")
			}
			kp.Release(unauthorized, KeyUnauthorized)
		}
	})
}

// A burst of calls that are all refused for one reason takes the key out once.
func TestPoolKeyGoesOutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{10}, nil)
		var held []KeyPermit
		for range 10 {
			held = append(held, takeKey(t, p))
		}
		for i := range held {
			held[i].Release(broke, KeyFine)
			time.Sleep(time.Second)
		}
		s := p.Keys()[0]
		if d := s.ProbeAt.Sub(s.Since); d < 10*time.Minute || d > 11*time.Minute || s.Faults != 10 {
			t.Errorf("probed %v after it went out: %+v", d, s)
		}
	})
}

// "a QuotaExhausted with a stated delay: out until that instant, then probed once"
func TestPoolQuotaWithADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2, 2}, nil)
		a := takeKey(t, p)
		a.Release(brokeFor(3*time.Hour), KeyFine)
		start := time.Now()
		for time.Since(start) < 3*time.Hour {
			kp := takeKey(t, p)
			wantKey(t, &kp, 1)
			time.Sleep(time.Minute)
			kp.Release(okay, KeyFine)
		}
		kp := takeKey(t, p)
		if !kp.Probe() {
			t.Fatal("no probe at the instant that the upstream named")
		}
		other := takeKey(t, p)
		wantKey(t, &other, 1)
		kp.Release(broke, KeyFine) // no delay this time: the interval
		if d := time.Until(p.Keys()[0].ProbeAt); d < 10*time.Minute || d > 11*time.Minute {
			t.Errorf("probed again in %v, want 10m", d)
		}
	})
}

// A delay that a caller can wait for is waited for, and the call is the probe.
func TestPoolWaitsForAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2}, nil)
		kp := takeKey(t, p)
		kp.Release(brokeFor(20*time.Second), KeyFine)
		start := time.Now()
		results := make(chan error, 3)
		for range 3 {
			go func() {
				kp, err := p.Acquire(context.Background(), Request{})
				if err == nil {
					time.Sleep(time.Second)
					kp.Release(broke, KeyFine)
				}
				results <- err
			}()
		}
		var failed int
		for range 3 {
			if err := <-results; err != nil {
				failed++
				if !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), "every key is out") {
					t.Errorf("error %v", err)
				}
			}
		}
		if d := time.Since(start); failed != 2 || d != 21*time.Second {
			t.Errorf("%d refused after %v, want the one that probed to have failed and the others refused then", failed, d)
		}
	})
}

func TestPoolAllKeysOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, nil)
		a, b := takeKey(t, p), takeKey(t, p)
		waits := make(chan error)
		go func() {
			_, err := p.Acquire(context.Background(), Request{})
			waits <- err
		}()
		synctest.Wait()
		a.Release(unauthorized, KeyUnauthorized)
		b.Release(brokeFor(2*time.Hour), KeyFine)
		for _, err := range []error{<-waits, func() error { _, err := p.Acquire(context.Background(), Request{}); return err }()} {
			var e *NoKeyError
			if !errors.As(err, &e) || !e.Out || !errors.Is(err, ErrNoKey) || !errors.Is(err, ErrRejected) || errors.Is(err, ErrClosed) {
				t.Fatalf("error %v", err)
			}
			if e.Keys[0].Out != KeyUnauthorized || e.Keys[1].Out != KeyExhausted || !e.RetryAt.Equal(e.Keys[0].ProbeAt) {
				t.Errorf("error %+v", e)
			}
			for _, word := range []string{"every key is out", a.Key() + " unauthorized until 2000-01-01T00:10:", b.Key() + " exhausted until 2000-01-01T02:00:00.000Z", "try again at 2000-01-01T00:10:"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error %q does not say %q", err, word)
				}
			}
		}
		if n := p.Stats().Counts.NoKey; n != 2 {
			t.Errorf("NoKey is %d, want 2", n)
		}
	})
}

func TestPoolSuspectsAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, nil)
		ctx := context.Background()
		forbidden := func() (used []int) {
			rot := p.Rotate(Request{}, true)
			kp, err := rot.Acquire(ctx)
			for err == nil {
				used = append(used, which(&kp))
				if which(&kp) == 1 {
					rot.Served(&kp)
					kp.Release(okay, KeyFine)
					return used
				}
				kp.Release(unauthorized, KeyForbidden)
				kp, _, err = rot.Again(ctx, &unauthorized, KeyForbidden, false)
			}
			t.Fatal(err)
			return nil
		}
		for range 3 {
			if got := fmt.Sprint(forbidden()); got != "[0 1]" {
				t.Fatalf("used %v", got)
			}
		}
		if s := p.Keys()[0]; s.Out != KeyForbidden {
			t.Fatalf("after three calls that another key could do: %+v", s)
		}
		// A call that nobody may do blames no key.
		p = newPool(t, []int{1, 1}, nil)
		for range 10 {
			rot := p.Rotate(Request{}, true)
			kp, _ := rot.Acquire(ctx)
			more := true
			for n := 1; more; n++ {
				kp.Release(unauthorized, KeyForbidden)
				if kp, more, _ = rot.Again(ctx, &unauthorized, KeyForbidden, false); n > 2 {
					t.Fatal("tried with more than one other key")
				}
			}
		}
		if s := p.Stats(); s.InService != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A call that a key was forbidden waits for another key when none has room, so that a key that is good for nothing does not end the calls of
// everybody who waits for the others.
func TestPoolForbiddenWhileFull(t *testing.T) {
	for _, scope := range []LimitScope{LimitKey, LimitAccount} {
		synctest.Test(t, func(t *testing.T) {
			limits := []int{2, 2}
			p := newPool(t, limits, func(c *PoolConfig) {
				c.Limit = scope
				if scope == LimitAccount {
					c.NewLaw = fixedLimits(2)
				}
			})
			done := 0
			var mu sync.Mutex
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					err := p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
						if key.Reveal() == credential(0) {
							time.Sleep(10 * time.Millisecond)
							return FailKey(KeyForbidden, errors.New("403"))
						}
						time.Sleep(time.Second)
						return nil
					})
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						done++
					}
				})
			}
			all.Wait()
			if done != 20 || p.Keys()[0].Out != KeyForbidden {
				t.Errorf("limit = %v: %d of 20 calls were done, and the key that is good for nothing is %+v", scope, done, p.Keys()[0])
			}
		})
	}
}

// When the other key was only throttled it is tried again, and not the one that was forbidden the call.
func TestPoolForbiddenAndThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2, 2}, func(c *PoolConfig) { c.Guard.Retry.Budget = 10 })
		throttled := 0
		for i := range 20 {
			err := p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
				if key.Reveal() == credential(0) {
					return FailKey(KeyForbidden, errors.New("403"))
				}
				if throttled++; throttled%2 == 1 {
					return Fail(Outcome{Class: feedback.Throttled}, errors.New("429"))
				}
				return nil
			})
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if p.Keys()[0].Out != KeyForbidden {
			t.Errorf("the key that is good for nothing is %+v", p.Keys()[0])
		}
	})
}

// A key that was only throttled is tried again when the other one is forbidden the call, whichever comes first.
func TestPoolThrottledAndForbidden(t *testing.T) {
	for _, told := range []Outcome{{Class: feedback.Throttled}, throttledFor(time.Second)} {
		for _, ignore := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, []int{2, 2}, func(c *PoolConfig) { c.Guard.IgnoreRetryAfter = ignore })
				first := true
				var sent []string
				var at time.Time
				err := p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
					sent = append(sent, key.Reveal())
					switch {
					case key.Reveal() != credential(0):
						return FailKey(KeyForbidden, errors.New("403"))
					case first:
						first, at = false, time.Now()
						return Fail(told, errors.New("429"))
					}
					if told.HasRetryAfter && time.Since(at) < told.RetryAfter {
						t.Errorf("sent again after %v", time.Since(at))
					}
					return nil
				})
				if err != nil {
					t.Errorf("%v; sent %v", err, sent)
				}
			})
		}
	}
}

// A call that a key was forbidden does not go back to it when the next one is found to be out.
func TestPoolForbiddenThenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1, 1}, nil)
		a, b, c := takeKey(t, p), takeKey(t, p), takeKey(t, p)
		wantKey(t, &c, 2)
		a.Release(okay, KeyFine)
		b.Release(okay, KeyFine)
		time.AfterFunc(time.Second, func() { c.Release(okay, KeyFine) })
		var sent []string
		err := p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
			sent = append(sent, key.Reveal())
			switch key.Reveal() {
			case credential(0):
				return FailKey(KeyForbidden, errors.New("403"))
			case credential(1):
				return FailKey(KeyUnauthorized, errors.New("401"))
			}
			return nil
		})
		if err != nil {
			t.Errorf("%v; sent %v", err, sent)
		}
	})
}

// It does not wait for longer than a caller may, nor for a key that goes out meanwhile.
func TestPoolForbiddenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) { c.Guard.MaxWait = 5 * time.Second })
		forbidden := func() (more bool, took time.Duration, err error) {
			rot := p.Rotate(Request{}, true)
			kp, err := rot.Acquire(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			wantKey(t, &kp, 0)
			kp.Release(unauthorized, KeyForbidden)
			start := time.Now()
			kp, more, err = rot.Again(context.Background(), &unauthorized, KeyForbidden, false)
			if kp.Held() {
				t.Fatal("got a key")
			}
			return more, time.Since(start), err
		}
		first, other := takeKey(t, p), takeKey(t, p)
		wantKey(t, &other, 1)
		first.Release(okay, KeyFine)
		if more, took, err := forbidden(); more || err != nil || took < 5*time.Second || took > 6*time.Second {
			t.Errorf("after %v there is more: %v, %v", took, more, err)
		}
		time.AfterFunc(time.Second, func() { other.Release(unauthorized, KeyUnauthorized) })
		if more, took, err := forbidden(); more || err != nil || took < time.Second || took > 2*time.Second {
			t.Errorf("with the other key out, after %v there is more: %v, %v", took, more, err)
		}
	})
}

// A key without quota is out until the instant that the outcome of its call names, also where FailKey says so.
func TestFailKeyKeepsTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, nil)
		noon := time.Now().Add(5 * time.Hour)
		_ = p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
			if key.Reveal() == credential(0) {
				o := Outcome{Class: feedback.QuotaExhausted, HasRetryAfter: true, RetryAfter: time.Until(noon)}
				return FailKey(KeyExhausted, Fail(o, errors.New("no quota until noon")))
			}
			return nil
		})
		if k := p.Keys()[0]; k.Out != KeyExhausted || !k.ProbeAt.Equal(noon) {
			t.Errorf("%v, want one that is out until %v", k, noon)
		}
	})
}

func TestPoolDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1, 1}, nil)
		sent := map[string]int{}
		do := func() error {
			return p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
				sent[key.Reveal()]++
				switch key.Reveal() {
				case credential(0):
					return FailKey(KeyUnauthorized, errors.New("401"))
				case credential(1):
					return fmt.Errorf("call: %w", FailKey(KeyExhausted, errors.New("402")))
				}
				return nil
			})
		}
		for range 20 {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
		if sent[credential(0)] != 1 || sent[credential(1)] != 1 || sent[credential(2)] != 20 {
			t.Errorf("sent %v", sent)
		}
		// Throttled keys are left for others without a delay, and the last refusal is the result.
		p = newPool(t, []int{1, 1, 1}, nil)
		start, n := time.Now(), 0
		err := p.Do(context.Background(), Request{}, func(context.Context, Secret) error {
			if n++; n == 3 {
				return nil
			}
			return Fail(throttledFor(time.Hour), errors.New("429"))
		})
		if err != nil || time.Since(start) != 0 || n != 3 {
			t.Errorf("Do: %v after %v and %d calls", err, time.Since(start), n)
		}
		func() {
			defer func() { _ = recover() }()
			_ = p.Do(context.Background(), Request{}, func(context.Context, Secret) error { panic("boom") })
		}()
		if s := p.Stats(); s.InFlight != 0 {
			t.Errorf("a panic keeps %d in flight", s.InFlight)
		}
	})
}

func TestPoolConfigCheck(t *testing.T) {
	keys := []Secret{NewSecret(credential(0)), NewSecret(credential(1))}
	for want, cfg := range map[string]PoolConfig{
		"limiter: Keys is 0 keys, must be 1 to 1024 keys":     {},
		"limiter: Keys[1] is empty, must be a key":            {Keys: []Secret{keys[0], {}}},
		"limiter: Keys[0] is empty, must be a key":            {Keys: []Secret{NewSecret("")}},
		"limiter: Keys[1] is key:2be6a2fb, must be another k": {Keys: []Secret{keys[0], NewSecret(credential(0))}},
		"must be a key without spaces":                        {Keys: []Secret{NewSecret("sk-verysecret\n")}},
		"limiter: Limit is 7, must be":                        {Keys: keys, Limit: 7},
		"limiter: Guard.Law is *adaptive.Fixed":               {Keys: keys, Guard: Config{Law: adaptive.NewFixed(1)}},
		"limiter: Probe is 1ms":                               {Keys: keys, Probe: time.Millisecond},
		"limiter: ProbeMax is 1m0s":                           {Keys: keys, ProbeMax: time.Minute},
		"limiter: Queue is -7":                                {Keys: keys, Guard: Config{Queue: -7}},
	} {
		if _, err := NewPool(cfg); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(want, "key:2be6a2fb", keys[0].Fingerprint())) || strings.Contains(err.Error(), "verysecret") {
			t.Errorf("NewPool: %v, want %q", err, want)
		}
	}
	if _, err := NewPool(PoolConfig{Keys: keys, Limit: LimitAccount, Guard: Config{Law: adaptive.NewFixed(1)}}); err != nil {
		t.Errorf("one guard with a law: %v", err)
	}
}

func TestPoolReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := PoolConfig{
			Guard: Config{Name: "test", Seed: 1}, NewLaw: fixedLimits(1), Limit: LimitAccount,
			Keys: []Secret{NewSecret(credential(0)), NewSecret(credential(1))},
		}
		p, err := NewPool(cfg)
		if err != nil {
			t.Fatal(err)
		}
		held := takeKey(t, p)
		served := make(chan bool)
		go func() {
			kp := takeKey(t, p)
			kp.Release(okay, KeyFine)
			served <- true
		}()
		synctest.Wait()
		start := time.Now()
		cfg.NewLaw, cfg.Guard.Queue = fixedLimits(2), -1
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if <-served; time.Now() != start {
			t.Errorf("a caller was let in %v after the limit grew", time.Since(start))
		}
		again := takeKey(t, p)
		if _, err := p.Acquire(context.Background(), Request{}); !errors.Is(err, ErrRejected) {
			t.Errorf("Acquire without a queue: %v", err)
		}
		for want, bad := range map[string]PoolConfig{
			"limiter: Keys is 1 keys, must be the keys that the pool has": {Keys: cfg.Keys[:1], Limit: LimitAccount},
			"limiter: Limit is key, must be account, as it was":           {Keys: cfg.Keys},
			"limiter: Probe is 1ns":                                       {Keys: cfg.Keys, Probe: 1},
		} {
			if err := p.Reload(bad); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Reload: %v, want %s", err, want)
			}
		}
		held.Release(okay, KeyFine)
		again.Release(okay, KeyFine)
	})
}

// A place that the leak watchdog takes back goes to who waits.
func TestPoolReclaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, func(c *PoolConfig) { c.Guard.MaxHold, c.Guard.Reclaim = 10*time.Second, true })
		lost := takeKey(t, p)
		start := time.Now()
		next := takeKey(t, p)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("waited %v, want 10s", d)
		}
		lost.Release(okay, KeyFine)
		next.Release(okay, KeyFine)
		if s := p.Stats(); s.InFlight != 0 || p.Guards()[0].Stats().InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A listener that panics costs no place, and the pool goes on.
func TestPoolListenerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, func(c *PoolConfig) { c.Probe = time.Second })
		panics, told := 2, 0
		listen := func() {
			if panics > 0 {
				panics--
				panic("a listener")
			}
		}
		p.OnKey(func(KeyEvent) { listen() })
		p.OnKey(func(KeyEvent) { told++ })
		recovered := func(f func()) (ok bool) {
			defer func() { ok = recover() != nil }()
			f()
			return
		}
		kp := takeKey(t, p)
		if !recovered(func() { kp.Release(unauthorized, KeyUnauthorized) }) {
			t.Fatal("no panic")
		}
		if s := p.Stats(); s.InFlight != 0 || p.Guards()[0].Stats().InFlight != 0 {
			t.Errorf("in flight after the release: %+v", s)
		}
		time.Sleep(2 * time.Second)
		kp = takeKey(t, p)
		if !recovered(func() { kp.Accepted() }) {
			t.Fatal("no panic")
		}
		kp.Release(okay, KeyFine)
		kp = takeKey(t, p)
		kp.Release(unauthorized, KeyUnauthorized)
		if told != 1 {
			t.Errorf("the other listener was told %d times, want once", told)
		}
	})
}

// A probe of a key says nothing of an outage of the account that began after it, and does not end the probe of that.
func TestPoolProbesOfKeyAndAccount(t *testing.T) {
	for _, end := range []Outcome{okay, {Class: feedback.Timeout}} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, []int{9, 9}, func(c *PoolConfig) { c.Limit, c.Probe = LimitAccount, time.Second })
			first, second := takeKey(t, p), takeKey(t, p)
			first.Release(unauthorized, KeyUnauthorized)
			time.Sleep(2 * time.Second)
			ofKey := takeKey(t, p)
			second.Release(broke, KeyFine)
			time.Sleep(2 * time.Second)
			ofAccount := takeKey(t, p)
			if !ofKey.Probe() || !ofAccount.Probe() || ofKey.Key() == ofAccount.Key() {
				t.Fatalf("probes: %v of %s, %v of %s", ofKey.Probe(), ofKey.Key(), ofAccount.Probe(), ofAccount.Key())
			}
			ofKey.Release(end, KeyFine)
			time.Sleep(2 * time.Second)
			if kp, ok := p.TryAcquire(Request{}); ok || p.Stats().InService > 0 {
				t.Errorf("after the probe of a key ended (%v) a call started: %v, with %+v; want nothing until the account is probed", end.Class, ok, p.Stats().Keys)
				kp.Release(okay, KeyFine)
			}
			ofAccount.Release(okay, KeyFine)
			if n := p.Stats().InService; n == 0 {
				t.Error("the account was probed, and no key is in service")
			}
		})
	}
}

// A key whose probe never ends, because its permit is lost, is probed again once the watchdog has taken the place back.
func TestPoolReclaimsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, func(c *PoolConfig) {
			c.Probe, c.Guard.MaxWait, c.Guard.MaxPause = time.Minute, time.Hour, time.Hour
			c.Guard.MaxHold, c.Guard.Reclaim = 10*time.Second, true
		})
		kp := takeKey(t, p)
		kp.Release(Outcome{Class: feedback.ClientError}, KeyUnauthorized)
		lost := takeKey(t, p)
		if !lost.Probe() {
			t.Fatal("the key is out, and the call is no probe")
		}
		start := time.Now()
		again := takeKey(t, p)
		if d := time.Since(start); !again.Probe() || d < 10*time.Second || d > time.Minute {
			t.Errorf("after %v there is a permit, a probe: %v; want a probe once the place was taken back", d, again.Probe())
		}
		again.Accepted()
		if s := p.Stats(); s.InService != 1 {
			t.Errorf("%+v", s)
		}
		again.Release(okay, KeyFine)
		lost.Release(okay, KeyFine)
		if s := p.Stats(); s.InService != 1 || s.InFlight != 0 || p.Guards()[0].Stats().InFlight != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A probe is watched also where few permits are: nothing else ends it when its permit is lost.
func TestPoolWatchesProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{8}, func(c *PoolConfig) {
			c.Probe, c.Guard.MaxWait, c.Guard.MaxPause = time.Minute, time.Hour, time.Hour
			c.Guard.MaxHold, c.Guard.WatchOneIn, c.Guard.Reclaim = 10*time.Second, 1024, true
		})
		kp := takeKey(t, p)
		kp.Release(Outcome{Class: feedback.ClientError}, KeyUnauthorized)
		for range 3 {
			if lost := takeKey(t, p); !lost.Probe() {
				t.Fatal("the key is out, and the call is no probe")
			}
		}
	})
}

// A place that was taken back is not counted as in flight with its key, and is not counted off twice.
func TestPoolCountsWithoutReclaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{4}, func(c *PoolConfig) { c.Guard.MaxHold, c.Guard.Reclaim = 10*time.Second, true })
		lost, late := takeKey(t, p), takeKey(t, p)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := p.Stats().InFlight; n != 0 {
			t.Errorf("%d calls are in flight after their places were taken back", n)
		}
		kp := takeKey(t, p)
		late.Release(okay, KeyFine)
		if n := p.Stats().InFlight; n != 1 {
			t.Errorf("%d calls are in flight, want 1", n)
		}
		kp.Release(okay, KeyFine)
		lost.Abandon()
		if n := p.Stats().InFlight; n != 0 {
			t.Errorf("%d calls are in flight at the end", n)
		}
	})
}

// "nothing is held back"
func TestPoolObserves(t *testing.T) {
	for _, room := range []*Room{nil, {ReservedShare: 0.5, ReservedFor: 5}} {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) { c.Guard.Observe, c.Guard.Room = true, room })
		for range 5 {
			if _, ok := p.TryAcquire(Request{}); !ok {
				t.Fatalf("a call was held back, with %+v", room)
			}
		}
	}
}

func TestPoolReleaseTwicePanics(t *testing.T) {
	p := newPool(t, []int{1}, nil)
	kp := takeKey(t, p)
	kp.Release(okay, KeyFine)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	kp.Release(okay, KeyFine)
}

// TestPoolProperties runs random histories in virtual time and holds them against a model: no key has more calls in flight than
// its limit, nobody waits while a key has room, those who wait are served in their order, the roomiest
// key comes first, and in the end everybody was answered.
func TestPoolProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := rapid.SliceOfN(rapid.IntRange(1, 4), 1, 5).Draw(rt, "limits")
		account := rapid.Bool().Draw(rt, "account")
		steps := rapid.SliceOfN(rapid.IntRange(0, 1<<20), 1, 120).Draw(rt, "steps")
		var fail string
		synctest.Test(t, func(*testing.T) {
			fail = poolHistory(t, limits, account, steps)
		})
		if fail != "" {
			rt.Fatal(fail)
		}
	})
}

func poolHistory(t testing.TB, limits []int, account bool, steps []int) (fail string) {
	p := newPool(t, limits, func(c *PoolConfig) {
		if account {
			c.Limit = LimitAccount
		}
		c.Guard.MaxWait = 10 * time.Hour
		c.Guard.MaxPause = 10 * time.Hour
	})
	failf := func(format string, a ...any) {
		if fail == "" {
			fail = fmt.Sprintf(format, a...)
		}
	}
	type grant struct {
		id int
		kp KeyPermit
	}
	n := len(p.lanes)
	inFlight := make([]int, n)
	pausedUntil := make([]time.Time, n)
	granted := make(chan grant, 1000)
	var running []grant
	var queue []int // ids of callers in the order in which they asked
	cancels := map[int]context.CancelFunc{}
	lane := func(kp *KeyPermit) int {
		if account {
			return 0
		}
		return kp.key.index
	}
	mayStart := func(i int) bool { return inFlight[i] < limits[i] && !time.Now().Before(pausedUntil[i]) }
	settle := func() {
		synctest.Wait()
		var batch []grant // goroutines that were woken together run in any order
		for len(granted) > 0 {
			batch = append(batch, <-granted)
		}
		slices.SortFunc(batch, func(a, b grant) int { return a.id - b.id })
		for _, g := range batch {
			if len(queue) == 0 || queue[0] != g.id {
				failf("caller %d was served, want the first of %v", g.id, queue)
				return
			}
			queue = queue[1:]
			i := lane(&g.kp)
			if !mayStart(i) {
				failf("key %d started a call with %d in flight of %d, paused until %v", i, inFlight[i], limits[i], pausedUntil[i])
			}
			inFlight[i]++
			running = append(running, g)
		}
		if len(queue) > 0 {
			for i := range n {
				// After a pause starts are spread over up to a second.
				if inFlight[i] < limits[i] && time.Since(pausedUntil[i]) > 1100*time.Millisecond {
					failf("%d wait while key %d has %d in flight of %d", len(queue), i, inFlight[i], limits[i])
				}
			}
		}
	}
	for id, s := range steps {
		if fail != "" {
			break
		}
		op, x := s%8, s/8
		switch {
		case op <= 2:
			ctx, cancel := context.WithCancel(context.Background())
			cancels[id] = cancel
			// The roomiest key that may start now, by exact fractions.
			best := -1
			if len(queue) == 0 {
				for i := range n {
					if mayStart(i) && (best < 0 || (limits[i]-inFlight[i])*limits[best] > (limits[best]-inFlight[best])*limits[i]) {
						best = i
					}
				}
			}
			queue = append(queue, id)
			before := len(running)
			go func() {
				if kp, err := p.Acquire(ctx, Request{}); err == nil {
					granted <- grant{id, kp}
				}
			}()
			settle()
			if best >= 0 && len(running) == before+1 && !time.Now().Before(pausedUntil[best].Add(1100*time.Millisecond)) {
				i := lane(&running[before].kp)
				free := func(i int) (int, int) {
					f := limits[i] - inFlight[i]
					if i == lane(&running[before].kp) {
						f++
					}
					return f, limits[i]
				}
				fi, li := free(i)
				fb, lb := free(best)
				if fi*lb < fb*li {
					failf("took key %d with %d of %d free, not %d with %d of %d", i, fi, li, best, fb, lb)
				}
			}
		case op <= 5:
			if len(running) == 0 {
				continue
			}
			j := x % len(running)
			g := running[j]
			running = append(running[:j], running[j+1:]...)
			i := lane(&g.kp)
			inFlight[i]--
			o := okay
			if op == 5 {
				o = throttledFor(time.Duration(x%50) * time.Second)
				if until := time.Now().Add(o.RetryAfter); o.RetryAfter > 0 && until.After(pausedUntil[i]) {
					pausedUntil[i] = until
				}
			}
			g.kp.Release(o, KeyFine)
			settle()
		case op == 6:
			if len(queue) == 0 {
				continue
			}
			j := x % len(queue)
			cancels[queue[j]]()
			queue = append(queue[:j], queue[j+1:]...)
			settle()
		default:
			time.Sleep(time.Duration(x%30000) * time.Millisecond)
			settle()
		}
	}
	// Everybody is served once room appears.
	for round := 0; fail == "" && len(running)+len(queue) > 0; round++ {
		if round > len(steps)+10 {
			failf("%d wait for ever", len(queue))
		}
		for _, g := range running {
			inFlight[lane(&g.kp)]--
			g.kp.Release(okay, KeyFine)
		}
		running = nil
		time.Sleep(2 * time.Minute)
		settle()
	}
	if s := p.Stats(); fail == "" && (s.InFlight != 0 || s.Waiting != 0) {
		failf("in the end: %+v", s)
	}
	p.Close()
	for _, c := range cancels {
		c()
	}
	synctest.Wait()
	return fail
}

// TestPoolStress mixes acquire, cancel, key faults, probes and stats from many goroutines; the race detector watches.
func TestPoolStress(t *testing.T) {
	for _, scope := range []LimitScope{LimitKey, LimitAccount} {
		limits := []int{1, 2, 3, 4}
		p := newPool(t, limits, func(c *PoolConfig) {
			c.Limit = scope
			c.Guard.Queue = 10000
		})
		// The shortest interval that is allowed is a second, too long here.
		set := *p.set.Load()
		set.probe, set.probeMax = 2*time.Millisecond, 4*time.Millisecond
		p.set.Store(&set)
		var now [4]atomic.Int32
		var served atomic.Int64
		var wg sync.WaitGroup
		for g := range 32 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(g), 1))
				for range 300 {
					ctx, cancel := context.WithCancel(context.Background())
					if rng.IntN(4) == 0 {
						time.AfterFunc(time.Duration(rng.IntN(300))*time.Microsecond, cancel)
					}
					kp, err := p.Acquire(ctx, Request{})
					if err == nil {
						i := which(&kp)
						if n := now[i].Add(1); scope == LimitKey && int(n) > limits[i] {
							t.Errorf("%d in flight with key %d", n, i)
						}
						if rng.IntN(8) == 0 {
							time.Sleep(time.Duration(rng.IntN(100)) * time.Microsecond)
						}
						now[i].Add(-1)
						switch rng.IntN(40) {
						case 0:
							kp.Release(unauthorized, KeyUnauthorized)
						case 1:
							kp.Release(broke, KeyFine)
						default:
							kp.Release(okay, KeyFine)
							served.Add(1)
						}
					} else if ctx.Err() == nil && !errors.Is(err, ErrNoKey) {
						t.Error(err)
					}
					cancel()
					if rng.IntN(50) == 0 {
						_ = p.Stats()
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("%v: somebody waits for ever: %+v", scope, p.Stats())
		}
		s := p.Stats()
		if s.InFlight != 0 || s.Waiting != 0 || served.Load() == 0 {
			t.Errorf("%v: %+v", scope, s)
		}
		for _, g := range p.Guards() {
			if n := g.Stats().InFlight; n != 0 {
				t.Errorf("%s has %d in flight in the end", g.Name(), n)
			}
		}
		p.Close()
	}
}

// A permit of a key is handed on by value: with 8 bytes more BenchmarkPoolAcquire took 15 % longer.
func TestKeyPermitSize(t *testing.T) {
	if n := unsafe.Sizeof(KeyPermit{}); n > 96 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a KeyPermit has %d bytes, want at most 96", n)
	}
}

func BenchmarkPoolAcquire(b *testing.B) {
	for _, n := range []int{1, 4, 32} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			limits := make([]int, n)
			for i := range limits {
				limits[i] = 64
			}
			p := newPool(b, limits, nil)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				kp, err := p.Acquire(ctx, Request{})
				if err != nil {
					b.Fatal(err)
				}
				kp.Release(okay, KeyFine)
			}
		})
	}
}

// A key comes back when its guard asks again, which is before the upstream said when that is longer than MaxPause: callers wait for that
// instant, whether another key is in use meanwhile or not, and it has its turn again afterwards.
func TestPoolAsksAgainAfterMaxPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keys := range [][]string{{"one"}, {"one", "two"}} {
			cfg := PoolConfig{
				Guard:  Config{Name: "chat", Seed: 1, MaxPause: time.Minute, MaxWait: 30 * time.Second, PauseJitter: -1},
				NewLaw: fixedLimits(1),
			}
			for _, k := range keys {
				cfg.Keys = append(cfg.Keys, NewSecret(k))
			}
			p, err := NewPool(cfg)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			first, err := p.Acquire(context.Background(), Request{})
			if err != nil {
				t.Fatal(err)
			}
			name := first.Key()
			first.Release(Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 24 * time.Hour}, KeyFine)
			var other KeyPermit
			if len(keys) > 1 {
				if other, err = p.Acquire(context.Background(), Request{}); err != nil || other.Key() == name {
					t.Fatalf("the other key: %v", err)
				}
			}
			time.Sleep(45 * time.Second)
			again, err := p.Acquire(context.Background(), Request{})
			if waited := time.Since(start); err != nil || again.Key() != name || waited != time.Minute {
				t.Fatalf("%d keys: after %v: %v, want the key after 1m", len(keys), waited, err)
			}
			again.Release(Outcome{}, KeyFine)
			if other.Held() {
				other.Release(Outcome{}, KeyFine)
			}
		}
	})
}

// Guards that hold nothing back leave a named delay to whoever sends again; no key is asked again within its own.
func TestPoolThatHoldsNothingBackHeedsADelay(t *testing.T) {
	for name, edit := range map[string]func(*PoolConfig){
		"observes":            func(c *PoolConfig) { c.Guard.Observe = true },
		"ignores Retry-After": func(c *PoolConfig) { c.Guard.IgnoreRetryAfter = true },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				delays := map[string]time.Duration{credential(0): 30 * time.Second, credential(1): 10 * time.Second}
				p := newPool(t, []int{4, 4}, edit)
				last := map[string]time.Time{}
				err := p.Do(context.Background(), Request{}, func(_ context.Context, key Secret) error {
					if at, ok := last[key.Reveal()]; ok {
						if since, told := time.Since(at), delays[key.Reveal()]; since < told {
							t.Errorf("a key that named %v was sent with again after %v", told, since)
						} else if since > 12*time.Second {
							t.Errorf("sent again after %v, and there was a key after 10s", since)
						}
						return nil
					}
					last[key.Reveal()] = time.Now()
					return Fail(throttledFor(delays[key.Reveal()]), errors.New("429"))
				})
				if err != nil || len(last) != 2 {
					t.Errorf("%v, with %d keys", err, len(last))
				}
			})
		})
	}
}

// A key of which the upstream says that it has no quota for years is probed once a day.
func TestPoolQuotaForYears(t *testing.T) {
	for _, delay := range []time.Duration{50 * 365 * 24 * time.Hour, 1<<63 - 1} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, []int{1, 1}, nil)
			kp := takeKey(t, p)
			wantKey(t, &kp, 0)
			kp.Release(Outcome{Class: feedback.QuotaExhausted, Scope: feedback.ScopeUnknown, HasRetryAfter: true, RetryAfter: delay}, KeyFine)
			if in := time.Until(p.Keys()[0].ProbeAt); in != 24*time.Hour {
				t.Errorf("after a delay of %v the next probe is in %v", delay, in)
			}
			time.Sleep(25 * time.Hour)
			kp = takeKey(t, p)
			if !kp.Probe() {
				t.Fatal("no probe after a day")
			}
			kp.Release(okay, KeyFine)
			if p.Keys()[0].Out != KeyFine {
				t.Errorf("%v", p.Keys()[0])
			}
		})
	}
}

// The call that probes a key and is forbidden says nothing of what the key is out for.
func TestPoolForbiddenProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) { c.Probe, c.ProbeMax = 10*time.Minute, 24*time.Hour })
		kp := takeKey(t, p)
		wantKey(t, &kp, 0)
		kp.Release(broke, KeyFine)
		for range 5 {
			time.Sleep(time.Until(p.Keys()[0].ProbeAt) + time.Second)
			kp = takeKey(t, p)
			if !kp.Probe() {
				t.Fatal("no probe")
			}
			kp.Release(unauthorized, KeyForbidden)
		}
		k := p.Keys()[0]
		if in := time.Until(k.ProbeAt); k.Out != KeyExhausted || in > time.Minute {
			t.Errorf("after five probes that were forbidden: %v, and the next one in %v", k, in)
		}
	})
}

// Who waits for a key is let in as soon as a share of its budget comes, and when its pause is ended.
func TestPoolShareComes(t *testing.T) {
	for _, what := range []string{"a share", "a larger share", "the end of a pause"} {
		synctest.Test(t, func(t *testing.T) {
			budget := &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 600}}}
			p := newPool(t, []int{2}, func(c *PoolConfig) { c.Guard.Budget, c.Guard.MaxWait = budget, 20*time.Second })
			g := p.Guards()[0]
			switch what {
			case "a share":
				g.ShareBudget([]float64{0})
			case "a larger share":
				g.ShareBudget([]float64{0.01})
				for range 6 {
					kp := takeKey(t, p)
					kp.Release(okay, KeyFine)
				}
			case "the end of a pause":
				g.Pause(time.Now().Add(10 * time.Second))
			}
			start := time.Now()
			time.AfterFunc(time.Second, func() {
				if what == "the end of a pause" {
					g.Resume()
				} else {
					g.ShareBudget([]float64{1})
				}
			})
			kp, err := p.Acquire(context.Background(), Request{})
			if took := time.Since(start); err != nil || took > 2*time.Second {
				t.Errorf("a caller that waits for %s: after %v: %v", what, took, err)
			} else {
				kp.Release(okay, KeyFine)
			}
		})
	}
}

// A key that fails each call at once has most room at any time, and does not draw the calls from those that work; it is tried now and then,
// and is back once it works.
func TestPoolPassesOverAKeyThatFails(t *testing.T) {
	for _, scope := range []LimitScope{LimitKey, LimitAccount} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, []int{10, 10, 10}, func(c *PoolConfig) {
				if c.Limit = scope; scope == LimitAccount {
					c.NewLaw = fixedLimits(30)
				}
			})
			var repaired atomic.Bool
			var good, failed, back atomic.Int32
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			defer stop()
			time.AfterFunc(time.Minute, func() { repaired.Store(true) })
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					for ctx.Err() == nil {
						kp := takeKey(t, p)
						switch {
						case which(&kp) != 1:
							good.Add(1)
						case repaired.Load():
							back.Add(1)
						default:
							time.Sleep(5 * time.Millisecond)
							failed.Add(1)
							kp.Release(Outcome{Class: feedback.ServerError}, KeyFine)
							continue
						}
						time.Sleep(time.Second)
						kp.Release(okay, KeyFine)
					}
				})
			}
			all.Wait()
			if n := failed.Load(); n < 4 || n > 30 {
				t.Errorf("limits of the %v: %d calls failed with a key that fails at once, and %d went well; want 4 to 30", scope, n, good.Load())
			}
			if n := back.Load(); n < 30 {
				t.Errorf("limits of the %v: once it works, the key has %d calls in a minute, want 30 or more", scope, n)
			}
		})
	}
}

// However many calls fail with one connection, the key comes last for a second.
func TestPoolPassesOverAKeyForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{40, 40}, func(c *PoolConfig) { c.NewLaw = fixedLimits(40) })
		end := func(kp *KeyPermit) {
			if o := okay; which(kp) == 0 {
				o.Class = feedback.ServerError
				kp.Release(o, KeyFine)
				return
			}
			kp.Release(okay, KeyFine)
		}
		var together []KeyPermit
		for range 40 {
			together = append(together, takeKey(t, p))
		}
		time.Sleep(time.Millisecond)
		for i := range together {
			end(&together[i])
		}
		for began := time.Now(); ; {
			kp := takeKey(t, p)
			time.Sleep(10 * time.Millisecond)
			if end(&kp); which(&kp) == 0 {
				if d := time.Since(began); d < time.Second || d > 1100*time.Millisecond {
					t.Errorf("after 20 calls that failed together the key is used after %v, want a second", d)
				}
				return
			}
		}
	})
}

// While all others are full, or fail as well, a key that fails is used: nobody waits for better times.
func TestPoolUsesKeysThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, nil)
		fail := func() {
			for range 4 {
				time.Sleep(time.Millisecond)
				kp := takeKey(t, p)
				kp.Release(Outcome{Class: feedback.ServerError}, KeyFine)
			}
		}
		good := takeKey(t, p)
		fail()
		bad := takeKey(t, p)
		if which(&bad) == which(&good) {
			t.Fatal("one key has two calls")
		}
		good.Release(okay, KeyFine)
		bad.Release(okay, KeyFine)
		fail()
		fail()
		a, b := takeKey(t, p), takeKey(t, p)
		if time.Sleep(time.Millisecond); which(&a) == which(&b) {
			t.Error("one key has two calls")
		}
		a.Release(okay, KeyFine)
		b.Release(okay, KeyFine)
	})
}

// A call that is too large for the budget of every key is refused at once, and holds nobody up, also while some keys have no place.
func TestPoolTooLargeBesideAFullKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPool(PoolConfig{
			Guard: Config{
				Adaptive: adaptive.Config{Initial: 1, Max: 1},
				Budget:   &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000}}, Oversize: Refuse},
			},
			Keys: []Secret{NewSecret("a"), NewSecret("b"), NewSecret("c")},
		})
		if err != nil {
			t.Fatal(err)
		}
		first, err := p.Acquire(t.Context(), Request{Tokens: 10})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = p.Acquire(t.Context(), Request{Tokens: 8000})
		var e *NoKeyError
		if !errors.As(err, &e) || e.Reason != ReasonTooLarge || e.TooLarge.Cost != 8000 || time.Since(start) != 0 {
			t.Errorf("Acquire: %v after %v, want a refusal as too large at once", err, time.Since(start))
		}
		// One that fits waits for a place where there is one to come.
		second, err := p.Acquire(t.Context(), Request{Tokens: 10})
		if err != nil || time.Since(start) != 0 {
			t.Errorf("Acquire: %v after %v, want a permit at once", err, time.Since(start))
		}
		first.Release(Outcome{}, KeyFine)
		second.Release(Outcome{}, KeyFine)
	})
}

// To find that no key of many may start a call takes as long as to look at each a few times, and not the square of it: with 1,000 keys that wait for their
// budgets each call that ended, and each caller, took 5 ms, one after the other.
func TestPoolOfManyKeysThatLetNothingStart(t *testing.T) {
	for why, prepare := range map[string]func(*Pool) Request{
		"paused": func(p *Pool) (r Request) {
			for _, g := range p.Guards() {
				g.Pause(time.Now().Add(time.Hour))
			}
			return r
		},
		"full, as are some of those": func(p *Pool) (r Request) {
			for i, g := range p.Guards() {
				if i%2 == 0 {
					g.TryAcquire(r)
				} else {
					g.Pause(time.Now().Add(time.Hour))
				}
			}
			return r
		},
		"others have the budgets": func(p *Pool) (r Request) {
			for _, g := range p.Guards() {
				g.ShareBudget([]float64{0})
			}
			return Request{Tokens: 500}
		},
		"too large": func(*Pool) Request { return Request{Tokens: 5000} },
		"closed":    func(p *Pool) (r Request) { p.Close(); return r },
	} {
		p := newPool(t, slices.Repeat([]int{1}, MaxKeys), func(c *PoolConfig) {
			c.Guard.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Hour}}, Oversize: Refuse}
		})
		r := prepare(p)
		for range 3 {
			if _, m, ok := p.try(r, keyChoice{}); ok || m.looked > 3*MaxKeys {
				t.Errorf("%s: a call starts: %v; keys were looked at %d times, want no more than %d times", why, ok, m.looked, 3*MaxKeys)
			}
		}
	}
}

// Keys that fail come last, and the one with most room first, also after one that is paused and lets nothing start.
func TestPoolOfKeysThatComeLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{20, 20, 10, 20}, nil)
		p.Guards()[0].Pause(time.Now().Add(time.Hour))
		for _, k := range p.keys[1:] {
			for range failuresMost {
				k.failed(p.now())
			}
		}
		for range 25 {
			takeKey(t, p)
		}
		for i, want := range []int32{0, 10, 5, 10} {
			if got := p.keys[i].inFlight.Load(); got != want {
				t.Errorf("%d calls with key %d, want %d", got, i, want)
			}
		}
	})
}
