package limiter

import (
	"context"
	"errors"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// newGuard returns a guard with a fixed limit unless edit sets another law.
func newGuard(t testing.TB, limit int, edit func(*Config)) *Guard {
	t.Helper()
	cfg := Config{Name: "test", Law: adaptive.NewFixed(limit), PauseJitter: -1, Seed: 1}
	if edit != nil {
		edit(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatalf("New(%+v): %v", cfg, err)
	}
	return g
}

func mustAcquire(t testing.TB, g *Guard) Permit {
	t.Helper()
	p, err := g.Acquire(context.Background(), Request{})
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return p
}

// wantIdle checks that nothing is left of what happened.
func wantIdle(t testing.TB, g *Guard) {
	t.Helper()
	if s := g.Stats(); s.InFlight != 0 || s.Waiting != 0 {
		t.Errorf("Stats(): %d in flight, %d waiting, want none", s.InFlight, s.Waiting)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.shell.Load(); s != nil && s.timerSet {
		t.Errorf("a timer runs while nobody waits")
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 2, nil)
		var mu sync.Mutex
		var order []int
		for i := range 10 {
			time.Sleep(time.Millisecond) // one after the other
			go func() {
				p := mustAcquire(t, g)
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Second)
				p.Release(Outcome{})
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("started in the order %v", order)
			}
		}
		wantIdle(t, g)
		if s := g.Stats(); s.Counts.Outcomes[feedback.OK] != 10 || s.Counts.Waited != 8 {
			t.Errorf("counts %+v, want 10 that ended well, 8 of which waited", s.Counts)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.Queue = 1; c.MaxWait = 5 * time.Second })
		p := mustAcquire(t, g)
		waited := make(chan error)
		go func() {
			_, err := g.Acquire(context.Background(), Request{})
			waited <- err
		}()
		synctest.Wait()

		_, err := g.Acquire(context.Background(), Request{})
		var full *RejectedError
		if !errors.As(err, &full) || !errors.Is(err, ErrRejected) || errors.Is(err, ErrClosed) {
			t.Fatalf("Acquire with a full queue: %v, want a *RejectedError", err)
		}
		if full.Reason != ReasonQueueFull || full.Limit != 1 || full.InFlight != 1 || full.Waiting != 1 {
			t.Errorf("refusal %+v, want queue_full at limit 1, in flight 1, waiting 1", full)
		}

		var late *RejectedError
		if err := <-waited; !errors.As(err, &late) || late.Reason != ReasonMaxWait || late.Waited != 5*time.Second {
			t.Errorf("after the longest wait: %v, want max_wait after 5 s", err)
		}
		want := "limiter: test rejected a call: it waited as long as it may (limit 1, in flight 1, waiting 0, waited 5s for limit)"
		if late.Error() != want {
			t.Errorf("Error()\n got %s\nwant %s", late, want)
		}
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}

func TestRetryAfterOfADayIsARefusalWithTheDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, nil)
		p := mustAcquire(t, g)
		p.Release(Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 24 * time.Hour})
		_, err := g.Acquire(context.Background(), Request{})
		var e *RejectedError
		if !errors.As(err, &e) || e.Reason != ReasonPaused {
			t.Fatalf("Acquire: %v, want a refusal for the pause", err)
		}
		if want := time.Now().Add(24 * time.Hour); !e.RetryAt.Equal(want) {
			t.Errorf("RetryAt = %v, want %v", e.RetryAt, want)
		}
		if want := "; try again at 2000-01-02T00:00:00.000Z"; !strings.HasSuffix(e.Error(), want) {
			t.Errorf("Error() = %q, want it to end in %q", e, want)
		}
		time.Sleep(24*time.Hour + time.Second)
		p = mustAcquire(t, g)
		p.Release(Outcome{})
	})
}

func TestRetryAfterHoldsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 4, nil)
		start := time.Now()
		p := mustAcquire(t, g)
		p.Release(Outcome{Class: feedback.Overloaded, HasRetryAfter: true, RetryAfter: 7 * time.Second})
		for range 3 {
			p := mustAcquire(t, g)
			if d := time.Since(start); d < 7*time.Second {
				t.Errorf("started %v after a Retry-After of 7 s", d)
			}
			p.Release(Outcome{})
		}
		if _, ok := g.TryAcquire(Request{}); ok {
			t.Errorf("TryAcquire got a place before the spread of the resume let it")
		}
	})
}

func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, nil)
		p := mustAcquire(t, g)

		cause := errors.New("the caller went home")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := g.Acquire(ctx, Request{}); err != cause {
			t.Errorf("Acquire with a context canceled meanwhile: %v, want its cause", err)
		}
		if _, err := g.Acquire(ctx, Request{}); err != cause {
			t.Errorf("Acquire with a canceled context: %v, want its cause", err)
		}
		deadline, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		if _, err := g.Acquire(deadline, Request{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire until a deadline: %v, want DeadlineExceeded", err)
		}
		p.Release(Outcome{})
		wantIdle(t, g)
		if n := g.Stats().Counts.Canceled; n != 2 {
			t.Errorf("%d canceled waits counted, want 2", n)
		}
	})
}

func TestCloseRefusesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, nil)
		p := mustAcquire(t, g)
		errs := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := g.Acquire(context.Background(), Request{})
				errs <- err
			}()
		}
		synctest.Wait()
		g.Close()
		g.Close()
		for range 3 {
			if err := <-errs; !errors.Is(err, ErrClosed) || !errors.Is(err, ErrRejected) {
				t.Errorf("a waiter got %v, want ErrClosed", err)
			}
		}
		if _, ok := g.TryAcquire(Request{}); ok {
			t.Errorf("TryAcquire got a place from a closed guard")
		}
		p.Release(Outcome{})
		if _, err := g.Acquire(context.Background(), Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Acquire after Close: %v, want ErrClosed", err)
		}
		wantIdle(t, g)
	})
}

func TestReleaseTwicePanics(t *testing.T) {
	g := newGuard(t, 1, nil)
	p := mustAcquire(t, g)
	if !p.Held() {
		t.Errorf("Held() is false after Acquire")
	}
	p.Release(Outcome{})
	defer func() {
		if r := recover(); r != "limiter: Release of a permit that is not held" {
			t.Errorf("second Release: %v, want a panic that names the package", r)
		}
		wantIdle(t, g)
	}()
	p.Release(Outcome{})
}

func TestDoReleasesOnPanic(t *testing.T) {
	g := newGuard(t, 1, nil)
	func() {
		defer func() { _ = recover() }()
		_ = g.Do(context.Background(), Request{}, func(context.Context) error { panic("boom") })
	}()
	wantIdle(t, g)
	if n := g.Stats().Counts.Outcomes[feedback.Canceled]; n != 1 {
		t.Errorf("%d canceled calls counted, want 1", n)
	}
}

func TestDoReadsTheOutcome(t *testing.T) {
	g := newGuard(t, 1, func(c *Config) { c.Retry.MaxAttempts = 1 })
	boom := errors.New("boom")
	err := g.Do(context.Background(), Request{}, func(context.Context) error {
		return Fail(Outcome{Class: feedback.Overloaded}, boom)
	})
	if !errors.Is(err, boom) || err.Error() != "boom" {
		t.Errorf("Do: %v, want the error that f returned", err)
	}
	if err := g.Do(context.Background(), Request{}, func(context.Context) error { return nil }); err != nil {
		t.Errorf("Do: %v", err)
	}
	if n := g.Stats().Counts.Outcomes; n[feedback.Overloaded] != 1 || n[feedback.OK] != 1 {
		t.Errorf("outcomes %v, want one ok and one overloaded", n)
	}
	if Fail(Outcome{}, nil) != nil {
		t.Errorf("Fail(nil) is not nil")
	}
}

func TestDoRetries(t *testing.T) {
	refused := Outcome{Class: feedback.Throttled}
	broken := Outcome{Class: feedback.ServerError}
	broke := Outcome{Class: feedback.QuotaExhausted}
	for _, tt := range []struct {
		name    string
		o       Outcome
		request Request
		fails   int // how many attempts fail
		calls   int // how many are made
		ok      bool
	}{
		{"a refusal", refused, Request{}, 2, 3, true},
		{"refused too often", refused, Request{}, 100, 5, false},
		{"a failure that may have had its effect", broken, Request{}, 1, 1, false},
		{"a failure that may be repeated", broken, Request{Idempotent: true}, 1, 2, true},
		{"no money", broke, Request{Idempotent: true}, 1, 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, 1, nil)
				calls := 0
				err := g.Do(context.Background(), tt.request, func(context.Context) error {
					if calls++; calls <= tt.fails {
						return Fail(tt.o, errors.New("refused"))
					}
					return nil
				})
				if calls != tt.calls || (err == nil) != tt.ok {
					t.Errorf("%d calls and error %v, want %d calls and success %v", calls, err, tt.calls, tt.ok)
				}
				wantIdle(t, g)
			})
		})
	}
}

func TestNoRetryBeforeRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.IgnoreRetryAfter = true })
		var at []time.Time
		_ = g.Do(context.Background(), Request{}, func(context.Context) error {
			at = append(at, time.Now())
			return Fail(Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 20 * time.Second}, errors.New("refused"))
		})
		for i := 1; i < len(at); i++ {
			if d := at[i].Sub(at[i-1]); d < 20*time.Second || d > 21*time.Second {
				t.Errorf("retried %v after a Retry-After of 20 s", d)
			}
		}
		if len(at) != 5 {
			t.Errorf("%d attempts, want 5", len(at))
		}
	})
}

func TestNoRetryWhenThePauseIsTooLong(t *testing.T) {
	g := newGuard(t, 1, nil)
	o := Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 6 * time.Minute}
	if _, ok := g.MayRetry(context.Background(), 1, &o); ok {
		t.Errorf("MayRetry after a Retry-After beyond the longest pause")
	}
}

func TestRetryBudget(t *testing.T) {
	g := newGuard(t, 1, nil)
	spend := func() (n int) {
		for {
			if _, ok := g.MayRetry(context.Background(), 1, &Outcome{Class: feedback.Throttled}); !ok {
				return n
			}
			n++
		}
	}
	if n := spend(); n != 100 {
		t.Errorf("%d retries before any success, want 100", n)
	}
	for range 50 {
		p := mustAcquire(t, g)
		p.Release(Outcome{})
	}
	if n := spend(); n != 10 {
		t.Errorf("%d retries for 50 successes, want 10", n)
	}
	for range 10_000 {
		p := mustAcquire(t, g)
		p.Release(Outcome{})
	}
	if n := spend(); n != 100 {
		t.Errorf("%d retries saved up, want 100", n)
	}
}

func TestListenersHearOfChangesInOrder(t *testing.T) {
	g := newGuard(t, 1, func(c *Config) { c.Law = adaptive.New(adaptive.Config{Initial: 100}) })
	var heard []Decision
	g.OnDecision(func(d Decision) {
		heard = append(heard, d)
		g.Stats() // the lock is free
	})
	for range 3 {
		p := mustAcquire(t, g)
		p.Release(Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency})
	}
	if len(heard) == 0 {
		t.Fatalf("no decision was heard of")
	}
	for i := 1; i < len(heard); i++ {
		if heard[i].Episode < heard[i-1].Episode || heard[i].At < heard[i-1].At {
			t.Errorf("decisions out of order: %+v", heard)
		}
	}
	if got := g.Stats().Limit; got != heard[len(heard)-1].Limit {
		t.Errorf("limit %d, the last decision heard says %d", got, heard[len(heard)-1].Limit)
	}
}

func TestBadConfig(t *testing.T) {
	_, err := New(Config{
		Adaptive: adaptive.Config{Min: 10, Max: 2}, Queue: -2, MaxWait: -1, MaxPause: 25 * time.Hour, PauseJitter: 2,
	})
	for _, want := range []string{
		"adaptive: Min is 10, must be 1 to Max (2)",
		"limiter: Queue is -2, must be -1 (nobody waits), 0 (default) or 1 to 1000000 callers",
		"limiter: MaxWait is -1ns, must be 0 (default) or 1ms to 24h",
		"limiter: MaxPause is 25h0m0s, must be 0 (default) or 1ms to 24h",
		"limiter: PauseJitter is 2, must be a ratio of at most 1",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v\nwant it to say: %s", err, want)
		}
	}
	var e *FieldError
	if !errors.As(err, &e) || e.Field != "Queue" {
		t.Errorf("errors.As found %+v, want the FieldError of Queue", e)
	}
}

// wavering is a law that changes its mind with whatever it is told.
type wavering struct {
	limit int // the highest
	d     adaptive.Decision
	rng   *rand.Rand
}

func (w *wavering) Window(now time.Duration, _ adaptive.Window) adaptive.Decision {
	w.d.Limit, w.d.AskAgain = 1+w.rng.IntN(w.limit), now+time.Millisecond
	w.d.Cause = adaptive.CauseExternal
	return w.d
}

func (w *wavering) Ended(now time.Duration, _ adaptive.Call, _ adaptive.Outcome) adaptive.Decision {
	w.d.Episode++
	return w.Window(now, adaptive.Window{})
}

func (w *wavering) Hint(time.Duration, feedback.Window) adaptive.Decision { return w.d }
func (w *wavering) Decision() adaptive.Decision                           { return w.Window(0, adaptive.Window{}) }

// TestStress mixes acquire, cancel, refusals, pauses and limit changes from many goroutines and then
// checks that nothing is left.
func TestStress(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	for _, limit := range []int{1, 3, 64} {
		g := newGuard(t, limit, func(c *Config) {
			c.Law = &wavering{limit: limit, rng: rand.New(rand.NewPCG(1, uint64(limit)))}
			c.Queue = 200
		})
		var now, most, cancels, grants atomic.Int64
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(limit)))
				for range 2000 {
					ctx, cancel := context.WithCancel(context.Background())
					if rng.IntN(3) == 0 {
						go cancel()
					}
					p, err := g.Acquire(ctx, Request{})
					if err != nil {
						cancels.Add(1)
						cancel()
						continue
					}
					grants.Add(1)
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					if rng.IntN(20) == 0 {
						time.Sleep(time.Microsecond) // a real call: this is no bubble
					}
					now.Add(-1)
					o := Outcome{}
					switch rng.IntN(40) {
					case 0:
						o.Class = feedback.Throttled
					case 1:
						o.InputTokens = 10
					case 2:
						o = Outcome{Class: feedback.Overloaded, HasRetryAfter: true, RetryAfter: time.Microsecond}
					}
					p.Release(o)
					cancel()
				}
			})
		}
		wg.Wait()
		if most.Load() > int64(limit) {
			t.Errorf("limit %d: %d were in flight", limit, most.Load())
		}
		wantIdle(t, g)
		s := g.Stats()
		var ended uint64
		for _, n := range s.Counts.Outcomes {
			ended += n
		}
		if ended != uint64(grants.Load()) {
			t.Errorf("limit %d: %d calls ended of %d that started", limit, ended, grants.Load())
		}
		t.Logf("limit %d: %d started, %d gave up", limit, grants.Load(), cancels.Load())
		g.Close()
		wantIdle(t, g)
	}
	for range 1000 { // the last cancels may still be on their way out
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(time.Millisecond) // real goroutines: this is no bubble
	}
	t.Errorf("%d goroutines are left of %d at the start", runtime.NumGoroutine(), goroutines)
}

// A waiter that was granted a place in the instant in which its context ended gives it back.
func TestGrantAgainstCancel(t *testing.T) {
	g := newGuard(t, 1, nil)
	for range 20_000 {
		p := mustAcquire(t, g)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			if q, err := g.Acquire(ctx, Request{}); err == nil {
				q.Release(Outcome{})
			}
			close(done)
		}()
		go cancel()
		p.Release(Outcome{})
		<-done
	}
	wantIdle(t, g)
}

func TestAllocations(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	g := newGuard(t, 8, nil)
	if n := testing.AllocsPerRun(1000, func() {
		p, _ := g.Acquire(ctx, Request{})
		p.Release(Outcome{})
	}); n != 0 {
		t.Errorf("%v allocations for an acquire and a release, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		p, _ := g.TryAcquire(Request{})
		p.Release(Outcome{Class: feedback.Throttled})
	}); n != 0 {
		t.Errorf("%v allocations for a refused call, want 0", n)
	}
}

// "limiter and httplimit link only the standard library".
func TestLinksOnlyTheStandardLibrary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if !strings.HasPrefix(pkg, "github.com/flyball-go/flyball/") {
			t.Errorf("links %s", pkg)
		}
	}
}

// Callers who may not use the places that are free are refused, too, when a guard is closed.
func TestCloseWithReservedPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 2, func(c *Config) { c.Room = &Room{ReservedShare: 0.5, ReservedFor: 5} })
		full := []Permit{mustAcquire(t, g)}
		errs := make(chan error, 2)
		wait := func() {
			go func() {
				_, err := g.Acquire(context.Background(), Request{})
				errs <- err
			}()
			synctest.Wait()
		}
		wait()
		urgent, err := g.Acquire(context.Background(), Request{Priority: 5})
		if err != nil {
			t.Fatal(err)
		}
		full = append(full, urgent)
		wait()
		start := time.Now()
		g.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrClosed) || time.Since(start) > 0 {
				t.Errorf("a waiter got %v after %v, want ErrClosed at once", err, time.Since(start))
			}
		}
		for i := range full {
			full[i].Release(Outcome{})
		}
		wantIdle(t, g)
	})
}

// Who waits for long takes turns with more urgent callers from the instant on at which it has aged, also when nothing happens then.
func TestAgedCallerStarts(t *testing.T) {
	budget := &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Minute}}}
	for name, acquire := range map[string]func(testing.TB) func(context.Context, Request) error{
		"guard": func(t testing.TB) func(context.Context, Request) error {
			g := newGuard(t, 9, func(c *Config) {
				c.Room, c.Budget, c.MaxWait = &Room{Aging: 5 * time.Second}, budget, time.Hour
			})
			return func(ctx context.Context, r Request) error {
				_, err := g.Acquire(ctx, r)
				return err
			}
		},
		"pool": func(t testing.TB) func(context.Context, Request) error {
			p := newPool(t, []int{9}, func(c *PoolConfig) {
				c.Guard.Room, c.Guard.Budget, c.Guard.MaxWait = &Room{Aging: 5 * time.Second}, budget, time.Hour
			})
			return func(ctx context.Context, r Request) error {
				_, err := p.Acquire(ctx, r)
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				acquire := acquire(t)
				ctx, cancel := context.WithCancel(context.Background())
				for _, tokens := range []int64{1000, 10} { // the second waits, and so its priority has had its turn
					if err := acquire(ctx, Request{Tokens: tokens, Priority: 1}); err != nil {
						t.Fatal(err)
					}
				}
				go acquire(ctx, Request{Tokens: 1000, Priority: 1}) // the budget is full in a minute
				synctest.Wait()
				start := time.Now()
				if err := acquire(ctx, Request{Tokens: 1}); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d != 5*time.Second {
					t.Errorf("the less urgent caller started after %v, want 5s", d)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}
