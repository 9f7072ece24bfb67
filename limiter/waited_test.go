package limiter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// waits collects what callers are told of their waits.
type waits struct {
	mu   sync.Mutex
	told []string
}

func (w *waits) context(parent context.Context) context.Context {
	return WithOnWait(parent, func(t Waited) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, t.String())
	})
}

// all returns what was told, in order of the words.
func (w *waits) all() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.told)
	return strings.Join(w.told, "; ")
}

func (w *waits) want(t *testing.T, want ...string) {
	t.Helper()
	if got := w.all(); got != strings.Join(want, "; ") {
		t.Errorf("told\n got %s\nwant %s", got, strings.Join(want, "; "))
	}
}

func tokenBudget(c *Config) {
	c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 6000}, {Kind: feedback.ScopeTokens, Limit: 6000}}}
}

func reserving(c *Config) { c.Room = &Room{ReservedShare: 0.5, ReservedFor: 5} }

// Each row has callers wait for one thing. What holds back the first of them holds back the others.
func TestWhatCallersWaitedFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit int
		edit  func(*Config)
		each  Request
		do    func(*Guard)
		want  []string
	}{
		{"limit", 1, nil, Request{}, func(*Guard) {}, []string{
			"waited 1s for limit at test, behind 0", "waited 2s for limit at test, behind 1", "waited 3s for limit at test, behind 2",
		}},
		{"pause", 1, nil, Request{}, func(g *Guard) { g.Pause(time.Now().Add(10 * time.Second)) }, []string{
			"waited 10s for pause at test, behind 0", "waited 11s for pause at test, behind 1", "waited 12s for pause at test, behind 2",
		}},
		{"a short pause", 1, nil, Request{}, func(g *Guard) { g.Pause(time.Now().Add(1200 * time.Millisecond)) }, []string{
			"waited 1.2s for pause at test, behind 0", "waited 2.2s for pause at test, behind 1", "waited 3.2s for limit at test, behind 2",
		}},
		{"reserved", 2, reserving, Request{}, func(*Guard) {}, []string{
			"waited 1s for reserved at test, behind 0", "waited 2s for reserved at test, behind 1", "waited 3s for reserved at test, behind 2",
		}},
		{"a pause while what is free is reserved", 2, reserving, Request{}, func(g *Guard) {
			p, _ := g.TryAcquire(Request{Priority: 7})
			time.AfterFunc(9500*time.Millisecond, func() { p.Release(Outcome{}) })
			g.Pause(time.Now().Add(10 * time.Second))
		}, []string{
			"waited 10s for pause at test, behind 0", "waited 11s for pause at test, behind 1", "waited 12s for pause at test, behind 2",
		}},
		{"a budget", 100, func(c *Config) { tokenBudget(c); c.MaxWait = 2 * time.Minute }, Request{Tokens: 3000, Tenant: "a"}, func(*Guard) {}, []string{
			"waited 29s for tokens per 1m0s at test, behind 0", "waited 59s for tokens per 1m0s at test, behind 1", "waited 1m29s for tokens per 1m0s at test, behind 2",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, c.limit, c.edit)
				for c.each.Tokens > 0 { // all that the budget holds
					p, ok := g.TryAcquire(c.each)
					if !ok {
						break
					}
					defer p.Release(Outcome{InputTokens: c.each.Tokens})
				}
				var w waits
				var all sync.WaitGroup
				start := func() {
					all.Go(func() {
						p, err := g.Acquire(w.context(t.Context()), c.each)
						if err != nil {
							t.Errorf("Acquire: %v", err)
							return
						}
						time.Sleep(time.Second)
						p.Release(Outcome{InputTokens: c.each.Tokens})
					})
					synctest.Wait()
				}
				if c.each.Tokens == 0 {
					start() // takes the place at once
				} else {
					time.Sleep(time.Second)
				}
				for range 3 {
					start()
				}
				c.do(g)
				all.Wait()
				slices.Sort(c.want)
				w.want(t, c.want...)
			})
		})
	}
}

// Callers that wait while the upstream is paused have waited for the pause, those further behind, too, and not for what came after it.
func TestWaitsAreCountedByWhatTookLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 4, nil)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				p, err := g.Acquire(t.Context(), Request{})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				time.Sleep(100*time.Millisecond + time.Duration(i))
				p.Release(Outcome{})
			})
		}
		synctest.Wait()
		g.Pause(time.Now().Add(8 * time.Second))
		for range 8 { // who looks changes nothing
			time.Sleep(time.Second)
			g.Explain(20)
		}
		all.Wait()
		n := g.Stats().Counts
		if of := n.WaitedFor[WhyPause]; n.Waited != 16 || of.N != 16 || of.Sum != n.WaitSum {
			t.Errorf("%d of %d waits counted for the pause, %v of %v", of.N, n.Waited, of.Sum, n.WaitSum)
		}
		if of := n.WaitedFor[WhyLimit]; of.N != 0 {
			t.Errorf("%d waits counted for the limit", of.N)
		}
		// What comes later has nothing to do with it.
		first := mustAcquire(t, g)
		rest := []Permit{mustAcquire(t, g), mustAcquire(t, g), mustAcquire(t, g)}
		time.Sleep(time.Hour)
		var w waits
		all.Go(func() {
			p, err := g.Acquire(w.context(t.Context()), Request{Tenant: "a"})
			if err != nil {
				t.Errorf("Acquire: %v", err)
				return
			}
			p.Release(Outcome{})
		})
		synctest.Wait()
		time.Sleep(time.Second)
		first.Release(Outcome{})
		all.Wait()
		w.want(t, "waited 1s for limit at test, behind 0")
		for i := range rest {
			rest[i].Release(Outcome{})
		}
		wantIdle(t, g)
	})
}

// Waits in vain are told of, too: by the refusal, and to who gives up.
func TestVainWaitsSayWhatFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.MaxWait, c.Queue = 5*time.Second, 1 })
		g.Pause(time.Now().Add(4 * time.Second))
		p, ok := g.TryAcquire(Request{})
		if ok {
			t.Fatal("TryAcquire during a pause")
		}
		var w waits
		refused, gaveUp := make(chan error, 1), make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, err := g.Acquire(w.context(ctx), Request{})
			gaveUp <- err
		}()
		synctest.Wait()
		var full *RejectedError
		if _, err := g.Acquire(w.context(t.Context()), Request{}); !errors.As(err, &full) || full.Reason != ReasonQueueFull || full.Why != "pause" {
			t.Errorf("a full queue: %#v, want that a pause holds callers back", full)
		}
		time.Sleep(2 * time.Second)
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up: %v", err)
		}
		w.want(t, "waited 2s for pause at test, behind 0")
		w.told = nil

		time.Sleep(3 * time.Second)
		p = mustAcquire(t, g)
		go func() {
			_, err := g.Acquire(w.context(t.Context()), Request{})
			refused <- err
		}()
		synctest.Wait()
		time.Sleep(time.Second)
		g.Pause(time.Now().Add(3500 * time.Millisecond))
		var late *RejectedError
		if err := <-refused; !errors.As(err, &late) || late.Reason != ReasonMaxWait || late.Why != "pause" || !strings.Contains(err.Error(), "waited 5s for pause") {
			t.Errorf("after the longest wait: %v, want that it was for the pause", err)
		}
		w.want(t, "waited 5s for pause at test, behind 0")
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}

// Somebody who does not wait is told what the others wait for.
func TestRefusedAtOnceSaysWhatFor(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"limit":  {func(c *Config) {}, "limit"},
		"budget": {tokenBudget, "tokens per 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit, tokens := 1, int64(0)
				if c.want != "limit" {
					limit, tokens = 10, 6000
				}
				g := newGuard(t, limit, func(cfg *Config) { c.edit(cfg); cfg.Queue = -1 })
				p, err := g.Acquire(t.Context(), Request{Tokens: tokens})
				if err != nil {
					t.Fatal(err)
				}
				var w waits
				var refused *RejectedError
				if _, err := g.Acquire(w.context(t.Context()), Request{Tokens: tokens}); !errors.As(err, &refused) || refused.Reason != ReasonLimit || refused.Why != c.want {
					t.Errorf("refused with %v for %q, want %q", err, refused.Why, c.want)
				}
				w.want(t)
				p.Release(Outcome{InputTokens: tokens})
			})
		})
	}
}

// What held back callers once, who all have left the queue, does not hold back those who wait in line for a place later.
func TestRefusedAtOnceSaysWhatForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.Queue = 2 })
		var all sync.WaitGroup
		call := func() {
			all.Go(func() {
				p, err := g.Acquire(t.Context(), Request{})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				time.Sleep(time.Second)
				p.Release(Outcome{})
			})
			synctest.Wait()
		}
		g.Pause(time.Now().Add(3 * time.Second))
		call()
		all.Wait()
		time.Sleep(time.Hour)
		for range 3 {
			call()
		}
		var full *RejectedError
		if _, err := g.Acquire(t.Context(), Request{}); !errors.As(err, &full) || full.Reason != ReasonQueueFull || full.Why != "limit" {
			t.Errorf("a full queue: %v, want that only places hold callers back", err)
		}
		all.Wait()
		wantIdle(t, g)
	})
}

// Who is refused by a pool at once is told what holds back those who wait, or would have held it back where nobody does.
func TestRefusedByAPoolAtOnceSaysWhatFor(t *testing.T) {
	type times struct{ pause, patience time.Duration }
	for name, c := range map[string]struct {
		edit   func(*Config)
		tokens int64 // of each call
		times
		waiting bool
		reason  Reason
		want    string
	}{
		"a full queue":               {waiting: true, reason: ReasonQueueFull, want: "limit"},
		"a full queue in a pause":    {times: times{pause: 5 * time.Second}, waiting: true, reason: ReasonQueueFull, want: "pause"},
		"a deadline in a pause":      {times: times{5 * time.Second, time.Second}, reason: ReasonDeadline, want: "pause"},
		"a deadline behind a waiter": {times: times{5 * time.Second, time.Second}, waiting: true, reason: ReasonDeadline, want: "pause"},
		"a deadline in a budget":     {edit: tokenBudget, tokens: 6000, times: times{patience: time.Second}, reason: ReasonDeadline, want: "tokens per 1m0s"},
		"no queue":                   {edit: func(c *Config) { c.Queue = -1 }, reason: ReasonLimit, want: "limit"},
		"no queue, reserved":         {edit: func(c *Config) { reserving(c); c.Queue = -1 }, reason: ReasonLimit, want: "reserved"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := 1
				if c.edit != nil {
					limit = 2
				}
				p := newPool(t, []int{limit}, func(cfg *PoolConfig) {
					cfg.Guard.Queue = 1
					if c.edit != nil {
						c.edit(&cfg.Guard)
					}
				})
				if c.pause > 0 {
					p.lanes[0].guard.Pause(time.Now().Add(c.pause))
				}
				for { // until there is no place, or nothing left of the budget
					kp, ok := p.TryAcquire(Request{Tokens: c.tokens})
					if !ok {
						break
					}
					if c.tokens > 0 {
						kp.Release(Outcome{InputTokens: c.tokens}, KeyFine)
						continue
					}
					defer kp.Release(Outcome{}, KeyFine)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.waiting {
					go func() { _, _ = p.Acquire(ctx, Request{Tokens: c.tokens}) }()
					synctest.Wait()
				}
				if c.patience > 0 {
					var end context.CancelFunc
					ctx, end = context.WithTimeout(ctx, c.patience)
					defer end()
				}
				var w waits
				var none *NoKeyError
				if _, err := p.Acquire(w.context(ctx), Request{Tokens: c.tokens}); !errors.As(err, &none) || none.Reason != c.reason || none.Why != c.want {
					t.Errorf("refused with %v for %q, want %v for %q", err, none.Why, c.reason, c.want)
				}
				w.want(t) // it did not wait
			})
		})
	}
}

// A function that panics takes no place with it.
func TestOnWaitPanics(t *testing.T) {
	for name, acquire := range map[string]func(*testing.T, context.Context) (release func(), idle func()){
		"guard": func(t *testing.T, ctx context.Context) (func(), func()) {
			g := newGuard(t, 1, nil)
			p := mustAcquire(t, g)
			go func() {
				defer func() { _ = recover() }()
				_, _ = g.Acquire(ctx, Request{})
			}()
			return func() { p.Release(Outcome{}) }, func() { wantIdle(t, g) }
		},
		"pool": func(t *testing.T, ctx context.Context) (func(), func()) {
			p := newPool(t, []int{1}, nil)
			kp, err := p.Acquire(t.Context(), Request{})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer func() { _ = recover() }()
				_, _ = p.Acquire(ctx, Request{})
			}()
			return func() { kp.Release(okay, KeyFine) }, func() {
				if s := p.Stats(); s.InFlight != 0 || s.Waiting != 0 {
					t.Errorf("%d in flight, %d waiting, want none", s.InFlight, s.Waiting)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := 0
				release, idle := acquire(t, WithOnWait(t.Context(), func(Waited) { told++; panic("so") }))
				synctest.Wait()
				time.Sleep(time.Second)
				release()
				synctest.Wait()
				if told != 1 {
					t.Errorf("told %d times, want once", told)
				}
				idle()
			})
		})
	}
}

// Callers of a pool wait in its own room; what holds back its keys holds them back.
func TestWhatCallersOfAPoolWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) { c.Guard.MaxWait = 20 * time.Second })
		var w waits
		var all sync.WaitGroup
		start := func(ctx context.Context) {
			all.Go(func() {
				kp, err := p.Acquire(ctx, Request{})
				if err != nil {
					return
				}
				time.Sleep(time.Second)
				kp.Release(okay, KeyFine)
			})
			synctest.Wait()
		}
		for range 2 {
			start(t.Context())
		}
		for range 2 {
			start(w.context(t.Context()))
		}
		all.Wait()
		w.want(t, "waited 1s for limit at test, behind 0", "waited 1s for limit at test, behind 1")

		w.told = nil
		for _, l := range p.lanes {
			l.guard.Pause(time.Now().Add(8 * time.Second))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		for range 4 {
			start(w.context(ctx))
		}
		time.Sleep(7 * time.Second)
		cancel()
		all.Wait()
		want := make([]string, 4)
		for i := range want {
			want[i] = fmt.Sprintf("waited 7s for pause at test, behind %d", i)
		}
		w.want(t, want...)

		w.told = nil
		for range 4 {
			start(w.context(t.Context()))
		}
		all.Wait()
		if n := p.Stats().Counts.WaitedFor[WhyPause]; n.N != 2 || n.Sum != 2*time.Second {
			t.Errorf("%d waits counted for the pause, want the first 2, which waited for nothing else; %s", n.N, w.all())
		}
		for _, l := range p.lanes {
			l.guard.Pause(time.Now().Add(18 * time.Second))
		}
		time.Sleep(time.Second)
		p.lanes[0].guard.Pause(time.Now().Add(time.Minute))
		p.lanes[1].guard.Pause(time.Now().Add(time.Minute))
		var none *NoKeyError
		if _, err := p.Acquire(t.Context(), Request{}); !errors.As(err, &none) || none.Reason != ReasonPaused || none.Why != "pause" {
			t.Errorf("refused with %#v, want for the pause", none)
		}
	})
}

// What time alone lets start waits for that, and for a place only where a key has none: of a key with room the budget, the pace or the pause counts.
func TestCallersOfAPoolWaitedForTime(t *testing.T) {
	for name, c := range map[string]struct {
		limits []int
		busy   bool // the first key has no place
		edit   func(*Config)
		tokens int64
		pause  time.Duration
		want   string
	}{
		"a budget":                   {[]int{10}, false, tokenBudget, 6000, 0, "tokens per 1m0s"},
		"a budget of two keys":       {[]int{10, 10}, false, tokenBudget, 6000, 0, "tokens per 1m0s"},
		"a pause":                    {[]int{10}, false, nil, 0, 8 * time.Second, "pause"},
		"a pause, and a key is full": {[]int{1, 10}, true, nil, 0, 8 * time.Second, "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, c.limits, func(cfg *PoolConfig) {
					cfg.Guard.MaxWait = 2 * time.Minute
					if c.edit != nil {
						c.edit(&cfg.Guard)
					}
				})
				if c.busy {
					busy, _ := p.lanes[0].guard.TryAcquire(Request{})
					defer busy.Release(Outcome{})
				}
				if c.pause > 0 {
					p.lanes[len(p.lanes)-1].guard.Pause(time.Now().Add(c.pause))
				}
				for c.tokens > 0 { // all that the budgets hold
					kp, ok := p.TryAcquire(Request{Tokens: c.tokens})
					if !ok {
						break
					}
					kp.Release(Outcome{InputTokens: c.tokens}, KeyFine)
				}
				var w waits
				kp, err := p.Acquire(w.context(t.Context()), Request{Tokens: c.tokens})
				if err != nil {
					t.Fatal(err)
				}
				kp.Release(okay, KeyFine)
				if got := w.all(); !strings.Contains(got, " for "+c.want+" at ") {
					t.Errorf("%s, want for %s", got, c.want)
				}
				if n := p.Stats().Counts.WaitedFor[WhyLimit].N; (n == 1) != (c.want == "limit") {
					t.Errorf("%d waits are counted for places", n)
				}
			})
		})
	}
}
