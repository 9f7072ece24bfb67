package limiter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// waitFor has n callers wait, one after the other, each of whom says when he got a key, and gives it back a second
// later.
func (l *poolLine) waitFor(r Request, n int) {
	for range n {
		l.all.Go(func() {
			kp, err := l.p.Acquire(context.Background(), r)
			l.mu.Lock()
			if err != nil {
				l.errs = append(l.errs, err)
			} else {
				l.order = append(l.order, fmt.Sprintf("%s%d", r.Tenant, r.Priority))
			}
			l.mu.Unlock()
			if err == nil {
				time.Sleep(time.Second)
				kp.Release(okay, KeyFine)
			}
		})
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
}

// poolLine is callers who wait in a pool.
type poolLine struct {
	p     *Pool
	all   sync.WaitGroup
	mu    sync.Mutex
	order []string
	errs  []error
}

func (l *poolLine) want(t *testing.T, want string) {
	t.Helper()
	l.all.Wait()
	if got := strings.Join(l.order, " "); got != want {
		t.Errorf("started in the order %s, want %s", got, want)
	}
}

func roomy(room *Room) func(*PoolConfig) {
	return func(c *PoolConfig) { c.Guard.Room, c.Guard.MaxWait = room, time.Hour }
}

func TestPoolPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := poolLine{p: newPool(t, []int{1, 1}, roomy(&Room{}))}
		l.waitFor(Request{}, 3) // two start
		l.waitFor(Request{Priority: 7}, 2)
		l.waitFor(Request{Priority: 3}, 1)
		l.want(t, "0 0 7 7 3 0")
	})
}

func TestPoolAging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := poolLine{p: newPool(t, []int{1}, roomy(&Room{Aging: 2 * time.Second}))}
		l.waitFor(Request{}, 3)
		l.waitFor(Request{Priority: 2}, 8)
		l.want(t, "0 2 2 2 2 0 2 0 2 2 2")
	})
}

// A pool shares by weight what all its keys bear, within 5 % over 10,000 calls.
func TestPoolFairness(t *testing.T) {
	weights := map[string]float64{"a": 1, "b": 2, "c": 5}
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 2, 3}, func(c *PoolConfig) {
			c.Guard.Room, c.Guard.MaxWait = &Room{Weights: weights}, 24*time.Hour
		})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		used := map[string]float64{}
		n, sum := 0, 0.0
		var mu sync.Mutex
		var all sync.WaitGroup
		for tenant := range weights {
			for i := range 20 {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(tenant[0])))
				all.Go(func() {
					for {
						r := Request{Tenant: tenant, Tokens: 1 + rng.Int64N(1000)}
						kp, err := p.Acquire(ctx, r)
						if err != nil {
							return
						}
						mu.Lock()
						if n++; n > 100 && n <= 10_100 { // after the start
							used[tenant] += float64(r.Tokens)
							sum += float64(r.Tokens)
						} else if n > 10_100 {
							cancel()
						}
						mu.Unlock()
						time.Sleep(time.Duration(1 + rng.Int64N(int64(time.Second))))
						kp.Release(Outcome{InputTokens: r.Tokens}, KeyFine)
					}
				})
			}
		}
		all.Wait()
		for tenant, w := range weights {
			if got, want := used[tenant]/sum, w/8; math.Abs(got/want-1) > 0.05 {
				t.Errorf("tenant %s with weight %v had %.4f of the tokens, want %.4f within 5 %%", tenant, w, got, want)
			}
		}
	})
}

// A tenant is charged what its calls used, not what it said.
func TestPoolChargesWhatWasUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1}, roomy(&Room{}))
		starts := map[string]int{}
		ctx, cancel := context.WithTimeout(context.Background(), 1000*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for _, tenant := range []string{"liar", "honest"} {
			for range 5 {
				all.Go(func() {
					for {
						kp, err := p.Acquire(ctx, Request{Tenant: tenant, Tokens: 100})
						if err != nil {
							return
						}
						starts[tenant]++ // one at a time
						time.Sleep(time.Second)
						o := Outcome{InputTokens: 100}
						if tenant == "liar" {
							o.InputTokens = 400
						}
						kp.Release(o, KeyFine)
					}
				})
			}
		}
		all.Wait()
		if a, b := starts["liar"], starts["honest"]; a < 180 || a > 220 || b < 780 || b > 820 {
			t.Errorf("the one who uses four times what he says started %d times, the other %d; want 200 and 800", a, b)
		}
	})
}

func TestPoolReservesAShareOfAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1, 1, 1, 1}, roomy(&Room{ReservedShare: 0.2, ReservedFor: 5}))
		for i := range 5 {
			if _, ok := p.TryAcquire(Request{}); ok != (i < 4) {
				t.Fatalf("call %d of priority 0 at 5 places, one of them reserved: %v", i, ok)
			}
		}
		l := poolLine{p: p}
		l.waitFor(Request{}, 1)
		if w := p.Explain(9).Waits; len(w) != 1 || w[0].Why != "reserved" {
			t.Errorf("waiting: %+v, want one for a reserved place", w)
		}
		kp, ok := p.TryAcquire(Request{Priority: 5})
		if ok {
			t.Error("TryAcquire went before one who waits")
		}
		l.waitFor(Request{Priority: 6}, 1)
		l.mu.Lock()
		if fmt.Sprint(l.order) != "[6]" {
			t.Errorf("%v started, want the urgent one", l.order)
		}
		l.mu.Unlock()
		_ = kp
		p.Close()
		l.all.Wait()
	})
}

func TestPoolDropsWhoTheRoomSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := poolLine{p: newPool(t, []int{1}, func(c *PoolConfig) {
			c.Guard.Room, c.Guard.Queue, c.Guard.MaxWait = &Room{Drop: DropLowest}, 2, time.Hour
		})}
		l.waitFor(Request{}, 3)
		l.waitFor(Request{Priority: 1}, 1) // the newest of the others is dropped
		l.waitFor(Request{}, 1)            // and nobody for this one
		l.want(t, "0 1 0")
		var e *NoKeyError
		if len(l.errs) != 2 || !errors.As(l.errs[0], &e) || e.Reason != ReasonDropped || !errors.As(l.errs[1], &e) || e.Reason != ReasonQueueFull {
			t.Errorf("refused: %v, want one dropped and one for whom the queue was full", l.errs)
		}
	})
}

// A retry waits in a lane of its own.
func TestPoolRetriesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := poolLine{p: newPool(t, []int{1}, roomy(&Room{}))}
		l.waitFor(Request{Tenant: "x"}, 3)
		l.waitFor(Request{Tenant: "x", Retry: true, Priority: 0}, 1)
		w := l.p.Explain(1).Waits[0]
		if w.Ahead != 0 || w.Waited > 2*time.Millisecond {
			t.Errorf("next is %+v, want the retry", w)
		}
		l.all.Wait()
	})
}

// Whoever cannot start before he gives up is told at once, and when he could.
func TestPoolDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) {
			c.Guard.MaxWait, c.Guard.MaxPause = time.Hour, time.Hour
			c.NewLaw, c.Guard.Adaptive = nil, adaptive.Config{Initial: 1, Min: 1, Max: 1}
		})
		began := time.Now()
		deadline := func(d time.Duration) (time.Duration, *NoKeyError) {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			at := time.Now()
			_, err := p.Acquire(ctx, Request{})
			var e *NoKeyError
			errors.As(err, &e)
			return time.Since(at), e
		}
		// Both keys take a second.
		for range 5 {
			a, b := takeKey(t, p), takeKey(t, p)
			time.Sleep(time.Second)
			a.Release(okay, KeyFine)
			b.Release(okay, KeyFine)
		}
		a, b := takeKey(t, p), takeKey(t, p)
		l := poolLine{p: p}
		l.waitFor(Request{}, 8)
		if took, e := deadline(3 * time.Second); e == nil || e.Reason != ReasonDeadline || took != 0 || e.RetryAt.IsZero() {
			t.Errorf("with 8 ahead at 2 a second, a caller with 3 s was told %v after %v", e, took)
		}
		go func() {
			time.Sleep(time.Second)
			a.Release(throttledFor(20*time.Second), KeyFine)
			b.Release(throttledFor(30*time.Second), KeyFine)
		}()
		time.Sleep(2 * time.Second)
		took, e := deadline(15 * time.Second)
		if e == nil || e.Reason != ReasonDeadline || took != 0 {
			t.Fatalf("with both keys paused for longer, a caller was told %v after %v", e, took)
		}
		if at := e.RetryAt.Sub(began); at < 20*time.Second || at > 30*time.Second {
			t.Errorf("told to try again after %v, want when the first pause ends", at)
		}
		l.all.Wait()
	})
}

// Where budgets of keys are all that holds callers back, they start when Explain says.
func TestPoolExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{100, 100}, func(c *PoolConfig) {
			c.Guard.MaxWait = time.Hour
			c.Guard.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6000}}}
		})
		began := time.Now()
		var mu sync.Mutex
		var all sync.WaitGroup
		var got []time.Duration
		rng := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			r := Request{Tokens: 100 + rng.Int64N(4000)}
			all.Go(func() {
				if _, err := p.Acquire(context.Background(), r); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, time.Since(began))
			})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		e := p.Explain(100)
		if text := e.String(); !strings.Contains(text, "tokens per 1m0s of key:") || !strings.Contains(text, "1 ahead, expected ") {
			t.Errorf("explained as\n%s", text)
		}
		all.Wait()
		if len(e.Waits) < 10 {
			t.Fatalf("%d wait", len(e.Waits))
		}
		for i, w := range e.Waits {
			if off := got[20-len(e.Waits)+i] - w.Expected.Sub(began); off < -5*time.Millisecond || off > 5*time.Millisecond {
				t.Errorf("number %d started after %v, expected %v", i, got[20-len(e.Waits)+i], w.Expected.Sub(began))
			}
		}
	})
}

func TestPoolReloadShortensWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := PoolConfig{Guard: Config{Name: "test", MaxWait: time.Hour}, NewLaw: fixedLimits(1), Keys: []Secret{NewSecret("a")}}
		p, err := NewPool(cfg)
		if err != nil {
			t.Fatal(err)
		}
		kp := takeKey(t, p)
		l := poolLine{p: p}
		l.waitFor(Request{}, 3)
		cfg.Guard.MaxWait = 10 * time.Second
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		l.all.Wait()
		if d := time.Since(at); d != 10*time.Second || len(l.errs) != 3 {
			t.Errorf("%d were refused after %v, want 3 after 10 s", len(l.errs), d)
		}
		kp.Release(okay, KeyFine)
	})
}

// A call that was in flight while the weights changed gives back what it was charged, and no more or less: the tenants share as they are
// told to from then on.
func TestPoolWeightsChangeDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := PoolConfig{Guard: Config{Name: "test", MaxWait: time.Hour, Room: &Room{Weights: map[string]float64{"a": 1. / 1000}}}, NewLaw: fixedLimits(1), Keys: []Secret{NewSecret("k")}}
		p, err := NewPool(cfg)
		if err != nil {
			t.Fatal(err)
		}
		first := takeKey(t, p)
		var mine KeyPermit
		l := poolLine{p: p}
		l.all.Go(func() { mine, err = p.Acquire(context.Background(), Request{Tenant: "a", Tokens: 1000}) })
		synctest.Wait()
		for range 20 {
			l.waitFor(Request{Tenant: "a", Tokens: 10}, 1)
			l.waitFor(Request{Tenant: "b", Tokens: 10}, 1)
		}
		first.Release(okay, KeyFine)
		synctest.Wait()
		if err != nil || !mine.Held() {
			t.Fatalf("the first one who waits has no key: %v", err)
		}
		cfg.Guard.Room = nil
		if err := p.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		mine.Abandon()
		l.all.Wait()
		if got := strings.Count(strings.Join(l.order[:20], " "), "a0"); got < 9 || got > 11 {
			t.Errorf("%d of 20 starts are of the tenant whose weight was a thousandth and is 1, want 10: %v", got, l.order)
		}
	})
}

// What many callers waited with is given back when they are gone.
func TestPoolGivesWaitersBack(t *testing.T) {
	if testing.Short() {
		t.Skip("counts the heap")
	}
	const n = 5000
	p, err := NewPool(PoolConfig{Guard: Config{Adaptive: adaptive.Config{Initial: 1, Max: 1}, Queue: n}, Keys: []Secret{NewSecret("a")}})
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 { // what a sync.Pool has stays for two
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	permit, err := p.Acquire(t.Context(), Request{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	start := make(chan bool)
	for range n { // what the runtime keeps of goroutines is there before
		all.Go(func() { <-start })
	}
	close(start)
	all.Wait()
	before := heap()
	ctx, cancel := context.WithCancel(t.Context())
	for range n {
		all.Go(func() {
			if _, err := p.Acquire(ctx, Request{}); err == nil {
				t.Error("a caller was let in though all places are taken")
			}
		})
	}
	for p.Stats().Waiting < n {
		runtime.Gosched()
	}
	cancel()
	all.Wait()
	if after := heap(); after > before+n*100 {
		t.Errorf("%d B more than before %d callers waited, want next to nothing", after-before, n)
	}
	permit.Release(Outcome{}, KeyFine)
}
