package limiter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

func TestExplainSaysWhatBinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 100, func(c *Config) {
			c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6000}}}
		})
		p, err := g.Acquire(context.Background(), Request{Tokens: 6000})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			go func() {
				p, err := g.Acquire(context.Background(), Request{Tenant: "a", Tokens: 1000})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				p.Release(Outcome{InputTokens: 1000})
			}()
		}
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		want := `test: limit 100 (external), 1 in flight, 3 waiting
tokens per 1m0s: 210 of 6000 left
waiting 2.1s: tokens per 1m0s binds, 0 ahead in tenant a, expected 00:00:10Z
waiting 2.1s: tokens per 1m0s binds, 1 ahead in tenant a, expected 00:00:20Z`
		if got := g.Explain(2).String(); got != want {
			t.Errorf("Explain(2)\n%s\nwant\n%s", got, want)
		}
		time.Sleep(time.Minute)
		p.Release(Outcome{InputTokens: 6000})
		wantIdle(t, g)
		if f := g.Stats().Counts.WaitedFor[WhyBudget]; f.N != 3 {
			t.Errorf("%d waits for a budget counted, want 3", f.N)
		}
	})
}

func TestBudgetSettlesWithWhatWasUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 100, func(c *Config) {
			c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6000}, {Kind: feedback.ScopeRequests, Limit: 60}}}
		})
		left := func() (tokens, requests int64) {
			e := g.Explain(0)
			return e.Budgets[0].Left, e.Budgets[1].Left
		}
		for _, tt := range []struct {
			name             string
			end              func(*Permit)
			tokens, requests int64
		}{
			{"used less", func(p *Permit) { p.Release(Outcome{InputTokens: 300, OutputTokens: 100}) }, 5600, 59},
			{"cached input is free", func(p *Permit) { p.Release(Outcome{InputTokens: 300, CachedTokens: 300, OutputTokens: 100}) }, 5500, 58},
			{"refused", func(p *Permit) { p.Release(Outcome{Class: feedback.Throttled}) }, 5500, 57},
			{"never made", func(p *Permit) { p.Abandon() }, 5500, 57},
			{"nothing told", func(p *Permit) { p.Release(Outcome{}) }, 4500, 56},
		} {
			p, err := g.Acquire(context.Background(), Request{Tokens: 1000, Output: 200})
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			tt.end(&p)
			if tokens, requests := left(); tokens != tt.tokens || requests != tt.requests {
				t.Errorf("%s: %d tokens and %d requests left, want %d and %d", tt.name, tokens, requests, tt.tokens, tt.requests)
			}
		}
		wantIdle(t, g)
	})
}

func TestTooLargeIsRefusedWithTheNumbers(t *testing.T) {
	g := newGuard(t, 1, func(c *Config) {
		c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000}}, Oversize: Refuse}
	})
	_, err := g.Acquire(context.Background(), Request{Tokens: 5000})
	var e *RejectedError
	if !errors.As(err, &e) || e.Reason != ReasonTooLarge || e.TooLarge.Cost != 5000 || e.TooLarge.Limit != 1000 {
		t.Fatalf("Acquire: %v, want a refusal with 5000 of 1000 tokens", err)
	}
	if want := "it costs more than a whole budget holds"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want it to say %q", err, want)
	}
	wantIdle(t, g)
}

// A call of unknown cost is not refused because others were larger than the budget: only calls that run make the estimate smaller.
func TestEstimateIsNeverTooLarge(t *testing.T) {
	for _, limits := range [][]BudgetLimit{
		{{Kind: feedback.ScopeTokens, Limit: 1000}},
		{{Kind: feedback.ScopeInputTokens, Limit: 1000}, {Kind: feedback.ScopeOutputTokens, Limit: 500, Fixed: true}},
		{{Kind: feedback.ScopeRequests, Limit: 100}, {Kind: feedback.ScopeTokens, Limit: 1000, Burst: 300}},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, 10, func(c *Config) {
				c.Budget = &Budget{Limits: limits, Oversize: Refuse, Unseen: 100}
			})
			p := mustAcquire(t, g)
			p.Release(Outcome{InputTokens: 5000, OutputTokens: 3000})
			time.Sleep(time.Hour)
			p, err := g.Acquire(t.Context(), Request{})
			if err != nil {
				t.Fatalf("%+v: %v", limits, err)
			}
			// It takes all that there is, and no more.
			for _, b := range g.Explain(0).Budgets {
				if b.Kind != feedback.ScopeRequests.String() && b.Left != 0 {
					t.Errorf("%+v: %d left, want 0", limits, b.Left)
				}
			}
			p.Release(Outcome{InputTokens: 50, OutputTokens: 20})
			if _, ok := g.TryAcquire(Request{Tokens: 8000}); ok || g.Stats().Counts.Refused[ReasonTooLarge] != 1 {
				t.Errorf("%+v: a call that says that it is too large: %v, %v", limits, ok, g.Stats().Counts.Refused)
			}
		})
	}
}

// Calls that use more than may be spent at once start no faster than the limit allows while none of them has ended, also where only an estimate
// says what they cost.
func TestEstimateBeyondABurst(t *testing.T) {
	for _, limit := range []BudgetLimit{
		{Kind: feedback.ScopeTokens, Limit: 60_000, Burst: 1000},
		{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Second},
	} {
		for _, share := range []float64{1, 0.5} {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, 1000, func(c *Config) {
					c.Budget, c.MaxWait = &Budget{Limits: []BudgetLimit{limit}}, time.Hour
				})
				if share < 1 {
					g.ShareBudget([]float64{share})
				}
				for range 20 {
					p := mustAcquire(t, g)
					p.Release(Outcome{InputTokens: 2000, OutputTokens: 2000})
				}
				time.Sleep(time.Hour)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				started := 0
				for {
					if _, err := g.Acquire(ctx, Request{}); err != nil {
						break
					}
					started++
				}
				if most := int(share*10*60_000/4000) + 2; started > most {
					t.Errorf("%+v, a share of %v: %d calls of 4000 started in 10 min, want at most %d", limit, share, started, most)
				}
			})
		}
	}
}

// One answer that tells of absurdly many tokens closes a guard for a day at most, and what it says of those to come is no more than the budget.
func TestAbsurdUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 10, func(c *Config) {
			c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 100_000}}}
		})
		p := mustAcquire(t, g)
		p.Release(Outcome{InputTokens: 50, OutputTokens: 1<<32 - 1})
		if at := g.Explain(0).Budgets[0].FullAt; time.Until(at) > 24*time.Hour+time.Minute {
			t.Errorf("the budget is full at %v, in %v, want at most a day", at, time.Until(at))
		}
		time.Sleep(24*time.Hour + time.Minute)
		p = mustAcquire(t, g)
		p.Release(Outcome{Class: feedback.ClientError}) // charged what was reserved
		if left := g.Explain(0).Budgets[0].Left; left != 0 {
			t.Errorf("%d left after a call of unknown cost, want 0", left)
		}
	})
}

// Nor does a call whose caller says that it costs absurdly many, and which the upstream refused for that.
func TestAbsurdCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 10, func(c *Config) {
			c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 100_000}}}
		})
		p, err := g.Acquire(t.Context(), Request{Tokens: 1 << 40, Output: 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(Outcome{Class: feedback.ClientError}) // charged what was reserved
		if at := g.Explain(0).Budgets[0].FullAt; time.Until(at) > 24*time.Hour+time.Minute {
			t.Errorf("the budget is full at %v, in %v, want at most a day", at, time.Until(at))
		}
	})
}

func TestDeadlineThatTheBudgetCannotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 100, func(c *Config) {
			c.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 60, Burst: 1}}}
		})
		mustAcquireAndRelease(t, g)
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := g.Acquire(ctx, Request{})
		var e *RejectedError
		if !errors.As(err, &e) || e.Reason != ReasonDeadline || !e.RetryAt.Equal(start.Add(time.Second)) || time.Since(start) != 0 {
			t.Errorf("Acquire: %v after %v, want a refusal at once with the instant one second later", err, time.Since(start))
		}
	})
}

func mustAcquireAndRelease(t testing.TB, g *Guard) {
	t.Helper()
	p := mustAcquire(t, g)
	p.Release(Outcome{})
}

// Urgent calls go first; with aging the others get their turn.
func TestPrioritiesAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.Room = &Room{Aging: time.Second} })
		p := mustAcquire(t, g)
		started := make(chan uint8, 100)
		for range 20 {
			for _, priority := range []uint8{0, 3} {
				go func() {
					p, err := g.Acquire(context.Background(), Request{Priority: priority})
					if err != nil {
						t.Errorf("Acquire: %v", err)
						return
					}
					started <- priority
					time.Sleep(200 * time.Millisecond)
					p.Release(Outcome{})
				}()
			}
		}
		synctest.Wait()
		p.Release(Outcome{})
		time.Sleep(time.Minute)
		synctest.Wait()
		close(started)
		var order []uint8
		for priority := range started {
			order = append(order, priority)
		}
		if len(order) != 40 {
			t.Fatalf("%d started, want 40", len(order))
		}
		for i, priority := range order[:15] { // 3 s at 5 a second: until then nobody has aged to class 3
			if priority != 3 {
				t.Errorf("start %d was of class %d, want the urgent ones first: %v", i, priority, order)
			}
		}
		low := 0
		for _, priority := range order[15:25] {
			if priority == 0 {
				low++
			}
		}
		if low < 4 {
			t.Errorf("after aging, %d of ten starts were of the lower class, want about every other: %v", low, order)
		}
	})
}

// Weighted fairness between tenants, counted in tokens.
func TestTenantsShareByWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) {
			c.Room = &Room{Weights: map[string]float64{"a": 3}}
			c.Queue = 20_000
			c.MaxWait = 24 * time.Hour
		})
		p := mustAcquire(t, g)
		tokens := map[string]int64{}
		n := 0
		for i := range 8000 {
			tenant, cost := "a", int64(1+i%900)
			if i%2 == 0 {
				tenant, cost = "b", int64(1+i%1300)
			}
			go func() {
				p, err := g.Acquire(context.Background(), Request{Tenant: tenant, Tokens: cost})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				if n++; n <= 4000 { // while both have work: one place, so nobody else is here
					tokens[tenant] += cost
				}
				p.Release(Outcome{})
			}()
		}
		synctest.Wait()
		p.Release(Outcome{})
		synctest.Wait()
		if share := float64(tokens["a"]) / float64(tokens["a"]+tokens["b"]); share < 0.75*0.95 || share > 0.75*1.05 {
			t.Errorf("tenant a got %.3f of the tokens, want 0.75 within 5 %%", share)
		}
	})
}

func TestReservedPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 10, func(c *Config) { c.Room = &Room{ReservedShare: 0.2, ReservedFor: 5} })
		var held []Permit
		for range 8 {
			held = append(held, mustAcquire(t, g))
		}
		if _, ok := g.TryAcquire(Request{}); ok {
			t.Errorf("a call of class 0 took a reserved place")
		}
		p, ok := g.TryAcquire(Request{Priority: 5})
		if !ok {
			t.Fatalf("a call of class 5 did not get a reserved place")
		}
		p.Release(Outcome{})
		for i := range held {
			held[i].Release(Outcome{})
		}
		wantIdle(t, g)
	})
}

func TestFullQueueDropsTheLowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.Queue = 1; c.Room = &Room{Drop: DropLowest} })
		p := mustAcquire(t, g)
		dropped := make(chan error)
		go func() {
			_, err := g.Acquire(context.Background(), Request{})
			dropped <- err
		}()
		synctest.Wait()
		urgent := make(chan error)
		go func() {
			p, err := g.Acquire(context.Background(), Request{Priority: 7})
			if err == nil {
				p.Release(Outcome{})
			}
			urgent <- err
		}()
		var e *RejectedError
		if err := <-dropped; !errors.As(err, &e) || e.Reason != ReasonDropped {
			t.Errorf("the one that waited got %v, want ReasonDropped", err)
		}
		p.Release(Outcome{})
		if err := <-urgent; err != nil {
			t.Errorf("the urgent one got %v", err)
		}
		wantIdle(t, g)
	})
}

// Where a budget or a pace is all that holds callers back, they start when Explain says, whatever each costs.
func TestExpectedIsWhenTheyStart(t *testing.T) {
	for name, budget := range map[string]*Budget{
		"tokens": {Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6000}}},
		"both":   {Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6000}, {Kind: feedback.ScopeRequests, Limit: 5, Period: 30 * time.Second}}},
		"fixed":  {Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6000, Fixed: true}}},
		"burst":  {Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 10, Period: 10 * time.Second, Burst: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, err := New(Config{Law: adaptive.NewFixed(1000), Budget: budget, MaxWait: time.Hour, Room: &Room{Weights: map[string]float64{"b": 2}}})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				started := map[string][]time.Duration{}
				var mu sync.Mutex
				var all sync.WaitGroup
				rng := rand.New(rand.NewPCG(1, 2))
				for i := range 12 {
					r := Request{Priority: uint8(7 - i/4), Tokens: 100 + rng.Int64N(9000)} // the last ones borrow
					all.Go(func() {
						if _, err := g.Acquire(context.Background(), r); err != nil {
							t.Error(err)
						}
						mu.Lock()
						defer mu.Unlock()
						name := fmt.Sprint(r.Priority)
						started[name] = append(started[name], time.Since(began))
					})
					time.Sleep(time.Millisecond)
				}
				synctest.Wait()
				var want []time.Duration
				for _, w := range g.Explain(100).Waits {
					want = append(want, w.Expected.Sub(began))
				}
				skip := 12 - len(want)
				all.Wait()
				var got []time.Duration
				for _, p := range []string{"7", "6", "5"} {
					got = append(got, started[p]...)
				}
				if len(want) < 5 || len(got) != 12 {
					t.Fatalf("%d wait, %d started", len(want), len(got))
				}
				for i, d := range got[skip:] {
					if off := d - want[i]; off < -time.Millisecond || off > time.Millisecond {
						t.Errorf("number %d started after %v, expected %v", i, d, want[i])
					}
				}
			})
		})
	}
}

// A limit of which others have all of it is not one of which the upstream has told nothing.
func TestExplainSharedBudget(t *testing.T) {
	g, err := New(Config{Name: "up", Budget: &Budget{Limits: []BudgetLimit{
		{Kind: feedback.ScopeRequests, Limit: 600}, {Kind: feedback.ScopeTokens, Limit: 1000}, {Kind: feedback.ScopeDaily},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.ShareBudget([]float64{0, 0.25})
	e := g.Explain(0)
	for i, want := range []float64{0, 0.25, 1} {
		if e.Budgets[i].Share != want {
			t.Errorf("the share of %s is %v, want %v", e.Budgets[i].Kind, e.Budgets[i].Share, want)
		}
	}
	for _, want := range []string{"requests per 1m0s: others have all of it", "tokens per 1m0s: 250 of 250 left", "daily per 1m0s: the upstream has not told yet"} {
		if !strings.Contains(e.String(), want) {
			t.Errorf("%q is missing in\n%s", want, e)
		}
	}
}

// Where others have all of a budget, nobody can say when a call may start: not in the year 2292. A pool, whose clock begins a little before
// that of its guard, keeps to MaxWait then.
func TestNobodyKnowsWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		budget := &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 600}}}
		g := newGuard(t, 2, func(c *Config) { c.Budget, c.MaxWait = budget, 20*time.Second })
		g.ShareBudget([]float64{0})
		p := newPool(t, []int{2}, func(c *PoolConfig) { c.Guard.Budget, c.Guard.MaxWait = budget, 20*time.Second })
		p.base = p.base.Add(-time.Millisecond)
		p.Guards()[0].ShareBudget([]float64{0})
		for _, upstream := range []struct {
			acquire func(context.Context) error
			waits   func() []Wait
		}{
			{func(ctx context.Context) error { _, err := g.Acquire(ctx, Request{}); return err }, func() []Wait { return g.Explain(9).Waits }},
			{func(ctx context.Context) error { _, err := p.Acquire(ctx, Request{}); return err }, func() []Wait { return p.Explain(9).Waits }},
		} {
			start := time.Now()
			time.AfterFunc(time.Second, func() {
				if w := upstream.waits(); len(w) != 1 || !w[0].Expected.IsZero() {
					t.Errorf("those who wait: %v", w)
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Minute, cancel)
			err := upstream.acquire(ctx)
			var at time.Time
			if e, ok := errors.AsType[*RejectedError](err); ok {
				at = e.RetryAt
			} else if e, ok := errors.AsType[*NoKeyError](err); ok {
				at = e.RetryAt
			}
			if took := time.Since(start); !errors.Is(err, ErrRejected) || !at.IsZero() || took > 21*time.Second {
				t.Errorf("after %v: %v", took, err)
			}
			time.Sleep(time.Minute)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Acquire(ctx, Request{}); !errors.Is(err, ErrRejected) || strings.Contains(err.Error(), "try again at") {
			t.Errorf("with a deadline: %v", err)
		}
		if at := g.Explain(0).Budgets[0].FullAt; !at.IsZero() {
			t.Errorf("it is full at %v", at)
		}
	})
}

// What a caller waits for is told as it is now, whatever was told before.
func TestExplainReservedAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 2, func(c *Config) { c.Room = &Room{ReservedShare: 0.5, ReservedFor: 5} })
		p := mustAcquire(t, g)
		ctx, cancel := context.WithCancel(context.Background())
		go g.Acquire(ctx, Request{})
		synctest.Wait()
		g.Pause(time.Now().Add(time.Second))
		for _, want := range []string{"pause", "reserved"} {
			if e := g.Explain(1); len(e.Waits) != 1 || e.Waits[0].Why != want {
				t.Errorf("Explain: %+v, want one who waits for %q", e.Waits, want)
			}
			time.Sleep(3 * time.Second)
		}
		cancel()
		synctest.Wait()
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}
