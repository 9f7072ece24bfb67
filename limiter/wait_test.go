package limiter

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
)

// brisk returns a guard with one place whose callers have waited for 0.1 ms each, so that those who wait next do so without
// an eye on their contexts at first.
func brisk(t *testing.T) *Guard {
	g := newGuard(t, 1, nil)
	for range 300 {
		p := mustAcquire(t, g)
		var wg sync.WaitGroup
		wg.Go(func() {
			p, err := g.Acquire(context.Background(), Request{})
			if err != nil {
				t.Errorf("Acquire: %v", err)
				return
			}
			p.Release(Outcome{})
		})
		synctest.Wait()
		time.Sleep(100 * time.Microsecond)
		p.Release(Outcome{})
		wg.Wait()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if mean := g.core.MeanWait(); mean < 99*time.Microsecond || mean > 101*time.Microsecond {
		t.Fatalf("the mean wait is %v, want 100µs", mean)
	}
	return g
}

// A tenant is not charged for callers who gave up and were given a place before that was noticed, nor for calls that were not made.
func TestGivenUpCostsNoShare(t *testing.T) {
	for _, c := range []struct {
		name   string
		giveUp bool
	}{{"gives up", true}, {"abandons", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := brisk(t)
				var mu sync.Mutex
				var order []string
				first := mustAcquire(t, g)
				var wg sync.WaitGroup
				come := func(ctx context.Context, tenant string, made bool) {
					wg.Go(func() {
						p, err := g.Acquire(ctx, Request{Tenant: tenant, Tokens: 10})
						if err != nil {
							return
						}
						if !made {
							p.Abandon()
							return
						}
						mu.Lock()
						order = append(order, tenant)
						mu.Unlock()
						time.Sleep(10 * time.Microsecond)
						p.Release(Outcome{})
					})
					synctest.Wait()
				}
				ctx, cancel := context.WithCancel(t.Context())
				for range 10 {
					if c.giveUp {
						come(ctx, "a", true)
					} else {
						come(t.Context(), "a", false)
					}
				}
				for range 20 {
					come(t.Context(), "a", true)
					come(t.Context(), "b", true)
				}
				cancel()
				first.Release(Outcome{})
				wg.Wait()
				n := 0
				for _, tenant := range order[:20] {
					if tenant == "b" {
						n++
					}
				}
				if n < 9 || n > 11 {
					t.Errorf("of the first 20 starts %d are of b, want half: %v", n, order)
				}
				wantIdle(t, g)
			})
		})
	}
}

// acquireLater begins to acquire; ended yields how long it took.
func acquireLater(ctx context.Context, g *Guard) (ended chan time.Duration, p *Permit, err *error) {
	ended, p, err = make(chan time.Duration, 1), new(Permit), new(error)
	began := time.Now()
	go func() {
		*p, *err = g.Acquire(ctx, Request{})
		ended <- time.Since(began)
	}()
	synctest.Wait()
	return ended, p, err
}

// Where nobody has started for a while, waits are not short, whatever they were before: who comes watches his context at once. The timer that has
// callers look up took time for all who waited, each millisecond in which somebody came: with 18,000 who waited, an eighth of a processor.
func TestNobodyIsBriskInAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := brisk(t)
		p := mustAcquire(t, g)
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			_, _, _ = acquireLater(ctx, g)
			time.Sleep(2 * briskMost)
		}
		one, leave := context.WithCancel(t.Context())
		ended, _, err := acquireLater(one, g)
		leave()
		if took := <-ended; took != 0 || !errors.Is(*err, context.Canceled) {
			t.Errorf("who is canceled returns after %v with %v, want at once", took, *err)
		}
		cancel()
		synctest.Wait()
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}

// Once all who wait look up by themselves, the timer passes nobody by to tell him so. With 18,000 who waited, and 1,800 a second of whom had waited as long
// as they may, that was half a processor.
func TestTimerPassesNobodyBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := brisk(t)
		p := mustAcquire(t, g)
		ended, _, _ := acquireLater(t.Context(), g)
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			time.Sleep(2 * briskMost)
			_, _, _ = acquireLater(ctx, g)
		}
		time.Sleep(2 * briskMost)
		var last *waiter
		g.lock()
		g.core.Each(func(w *admission.Waiter) bool {
			last = w.Owner.(*waiter)
			return true
		})
		if last.lookAt != 0 {
			t.Errorf("one is to be told to look up at %v after %v", last.lookAt, g.now())
		}
		last.lookAt = 1 // if the timer meets him he is told
		g.mu.Unlock()
		<-ended // he waited for as long as he may
		synctest.Wait()
		g.lock()
		if last.lookAt == 0 {
			t.Error("the timer has passed by all who wait")
		}
		last.lookAt = 0
		g.mu.Unlock()
		cancel()
		synctest.Wait()
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}

// "a caller that is canceled may return with a delay of up to twice that average and 2 ms".
func TestCancelOfABriskWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := brisk(t)
		p := mustAcquire(t, g)
		for range 3 {
			ctx, cancel := context.WithCancelCause(context.Background())
			ended, _, err := acquireLater(ctx, g)
			why := errors.New("no more")
			time.Sleep(10 * time.Microsecond)
			cancel(why)
			if took := <-ended; took < 10*time.Microsecond || took > 2200*time.Microsecond || !errors.Is(*err, why) {
				t.Errorf("canceled after 10µs: Acquire took %v and returned %v, want at most 2.2ms and the cause", took, *err)
			}
		}
		p.Release(Outcome{})
		wantIdle(t, g)
		if c := g.Stats().Counts; c.Canceled != 3 {
			t.Errorf("%d canceled, want 3", c.Canceled)
		}
	})
}

// A caller that looked up has an eye on its context from then on, and keeps its turn.
func TestBriskWaitThatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := brisk(t)
		p := mustAcquire(t, g)
		ctx, cancel := context.WithCancel(context.Background())
		first, q, _ := acquireLater(context.Background(), g)
		second, _, err := acquireLater(ctx, g)
		third, r, _ := acquireLater(ctx, g)
		time.Sleep(100 * time.Millisecond)
		p.Release(Outcome{})
		if took := <-first; took != 100*time.Millisecond {
			t.Errorf("the first waited %v, want 100ms", took)
		}
		cancel()
		if took := <-second; took != 100*time.Millisecond || !errors.Is(*err, context.Canceled) {
			t.Errorf("canceled after 100ms: Acquire took %v and returned %v", took, *err)
		}
		<-third
		q.Release(Outcome{})
		if r.Held() {
			t.Errorf("a canceled caller has a permit")
		}
		wantIdle(t, g)
	})
}

// A context that ended before its caller was granted a place ends the call, also when the caller did not see it.
func TestBriskWaitIsCanceledThenGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := brisk(t)
		p := mustAcquire(t, g)
		ctx, cancel := context.WithCancel(context.Background())
		ended, _, err := acquireLater(ctx, g)
		next, q, _ := acquireLater(context.Background(), g)
		cancel()
		p.Release(Outcome{})
		if took := <-ended; took > time.Millisecond || !errors.Is(*err, context.Canceled) {
			t.Errorf("Acquire took %v and returned %v, want context.Canceled at once", took, *err)
		}
		<-next
		q.Release(Outcome{})
		wantIdle(t, g)
	})
}

// "a context's deadline is always kept".
func TestDeadlineOfABriskWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := brisk(t)
		p := mustAcquire(t, g)
		for _, d := range []time.Duration{150 * time.Microsecond, 1100 * time.Microsecond, 5 * time.Millisecond, time.Second} {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			ended, _, err := acquireLater(ctx, g)
			if took := <-ended; took != d || !errors.Is(*err, context.DeadlineExceeded) {
				t.Errorf("deadline in %v: Acquire took %v and returned %v", d, took, *err)
			}
			cancel()
		}
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}

// Brisk waits under load, with cancels and with calls of tenants that move everybody out of the short line: nobody is lost,
// and nothing is left.
func TestStressBrisk(t *testing.T) {
	for _, limit := range []int{1, 3, 64} {
		g := newGuard(t, limit, func(c *Config) {
			c.Law = adaptive.New(adaptive.Config{Initial: limit, Min: limit, Max: limit})
			c.Queue = 10_000
		})
		var wg sync.WaitGroup
		for i := range 4 * limit {
			wg.Go(func() {
				for n := range 12_000 / limit {
					ctx, cancel := context.WithCancel(context.Background())
					r := Request{}
					switch (n + i) % 50 {
					case 0:
						r.Tenant = "a"
					case 1:
						go cancel()
					case 2:
						g.Explain(3)
					case 3:
						if p, ok := g.TryAcquire(r); ok {
							p.Release(Outcome{})
						}
					}
					p, err := g.Acquire(ctx, r)
					if err == nil {
						runtime.Gosched() // so that the others come, and wait
						p.Release(Outcome{})
					} else if !errors.Is(err, context.Canceled) {
						t.Errorf("Acquire: %v", err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		wantIdle(t, g)
		t.Logf("limit %d: mean wait %v", limit, g.core.MeanWait())
	}
}
