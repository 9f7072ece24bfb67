package limiter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// The code in docs/limiter.md is taken from this file; TestDocument compares them. What depends on time
// is a test inside synctest, whose clock starts at 2000-01-01 00:00:00 UTC and moves only while everybody waits.

var errBusy = errors.New("search: busy")

// search is the call that the examples guard.
func search(context.Context) error { return nil }

func ExampleGuard_Acquire() {
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	permit, err := guard.Acquire(ctx, limiter.Request{})
	if err != nil {
		log.Fatal(err) // the context ended, or the guard refused; nothing was sent
	}
	err = search(ctx)
	permit.Release(limiter.OutcomeOf(ctx, err))

	fmt.Println(err, permit.Held())
	// Output: <nil> false
}

func ExampleGuard_TryAcquire() {
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(1)})
	if err != nil {
		log.Fatal(err)
	}
	permit, ok := guard.TryAcquire(limiter.Request{})
	fmt.Println(ok)
	_, ok = guard.TryAcquire(limiter.Request{})
	fmt.Println(ok)
	permit.Release(limiter.Outcome{})
	// Output:
	// true
	// false
}

func ExampleGuard_Do() {
	guard, err := limiter.New(limiter.Config{
		Name:  "search",
		Retry: limiter.Retry{MaxAttempts: 3, BaseDelay: time.Millisecond},
	})
	if err != nil {
		log.Fatal(err)
	}
	attempts := 0
	err = guard.Do(context.Background(), limiter.Request{}, func(ctx context.Context) error {
		attempts++
		if attempts == 1 {
			return limiter.Fail(limiter.Outcome{Class: feedback.Throttled}, errBusy)
		}
		return search(ctx)
	})
	fmt.Println(err, attempts)
	// Output: <nil> 2
}

func ExampleGuard_DoOutcome() {
	guard, err := limiter.New(limiter.Config{
		Name: "model",
		Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
			{Kind: feedback.ScopeTokens, Limit: 10_000, Fixed: true},
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	chat := func(context.Context) (answer string, input, output int64, err error) {
		return "forty-two", 800, 200, nil
	}

	var answer string
	err = guard.DoOutcome(context.Background(), limiter.Request{Tokens: 3_000}, func(ctx context.Context, o *limiter.Outcome) (err error) {
		answer, o.InputTokens, o.OutputTokens, err = chat(ctx)
		return err
	})
	fmt.Println(answer, err, guard.Explain(0).Budgets[0].Left)
	// Output: forty-two <nil> 9000
}

// A server error may have had its effect: it is repeated only when the caller says that this does no harm.
func ExampleGuard_Do_idempotent() {
	guard, err := limiter.New(limiter.Config{
		Retry: limiter.Retry{MaxAttempts: 3, BaseDelay: time.Millisecond},
	})
	if err != nil {
		log.Fatal(err)
	}
	broken := limiter.Fail(limiter.Outcome{Class: feedback.ServerError}, errBusy)
	for _, r := range []limiter.Request{{}, {Idempotent: true}} {
		attempts := 0
		err := guard.Do(context.Background(), r, func(context.Context) error { attempts++; return broken })
		fmt.Println(err, attempts)
	}
	// Output:
	// search: busy 1
	// search: busy 3
}

func ExampleRejectedError() {
	guard, err := limiter.New(limiter.Config{Name: "search", Law: adaptive.NewFixed(1), Queue: -1})
	if err != nil {
		log.Fatal(err)
	}
	permit, err := guard.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		log.Fatal(err)
	}
	defer permit.Release(limiter.Outcome{})

	_, err = guard.Acquire(context.Background(), limiter.Request{})
	fmt.Println(errors.Is(err, limiter.ErrRejected))
	if e, ok := errors.AsType[*limiter.RejectedError](err); ok {
		fmt.Println(e.Guard, e.Reason, e.Limit, e.InFlight, e.Waiting)
	}
	// Output:
	// true
	// search limit 1 1 0
}

// Two of ten places are for callers with priority 5 or more.
func ExampleRoom() {
	guard, err := limiter.New(limiter.Config{
		Law:  adaptive.NewFixed(10),
		Room: &limiter.Room{ReservedShare: 0.2, ReservedFor: 5},
	})
	if err != nil {
		log.Fatal(err)
	}
	batch := 0
	for {
		if _, ok := guard.TryAcquire(limiter.Request{}); !ok {
			break
		}
		batch++
	}
	_, ok := guard.TryAcquire(limiter.Request{Priority: 5})
	fmt.Println(batch, ok)
	// Output: 8 true
}

func ExampleBudget_refuse() {
	guard, err := limiter.New(limiter.Config{
		Name: "model",
		Budget: &limiter.Budget{
			Limits:   []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000}},
			Oversize: limiter.Refuse,
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = guard.Acquire(context.Background(), limiter.Request{Tokens: 5000})
	if e, ok := errors.AsType[*limiter.RejectedError](err); ok {
		fmt.Println(e.Reason, e.TooLarge.Kind, e.TooLarge.Cost, e.TooLarge.Limit)
	}
	// Output: too_large tokens 5000 1000
}

func ExampleGuard_Pause() {
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	guard.Pause(time.Now().Add(time.Hour)) // the upstream said that it is under maintenance
	_, ok := guard.TryAcquire(limiter.Request{})
	fmt.Println(ok)
	guard.Resume()
	_, ok = guard.TryAcquire(limiter.Request{})
	fmt.Println(ok)
	// Output:
	// false
	// true
}

func ExampleLogDecisions() {
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // the output is compared
			}
			return a
		},
	}))
	guard.OnDecision(limiter.LogDecisions(logger, guard.Name(), 10))
	guard.OnDecision(func(d limiter.Decision) { fmt.Println(d.Cause, d.Limit) })

	permit, err := guard.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		log.Fatal(err)
	}
	permit.Release(limiter.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency})
	// Output:
	// level=INFO msg="limit changed" guard=search cause=throttled limit=1 binding=concurrency episode=1
	// throttled 1
}

func ExampleConfig_observe() {
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(1), Observe: true})
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		if _, err := guard.Acquire(context.Background(), limiter.Request{}); err != nil {
			log.Fatal(err)
		}
	}
	s := guard.Stats()
	fmt.Println(s.Limit, s.InFlight)
	for why, n := range s.Counts.Observed {
		if n > 0 {
			fmt.Println(limiter.Why(why), n)
		}
	}
	// Output:
	// 1 3
	// limit 2
}

func ExampleGuard_Reload() {
	cfg := limiter.Config{Name: "search", Adaptive: adaptive.Config{Max: 64}}
	guard, err := limiter.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	cfg.Adaptive.Max = 2
	fmt.Println(guard.Reload(cfg), guard.Stats().Limit)
	cfg.Queue = -5
	fmt.Println(guard.Reload(cfg))
	fmt.Println(guard.Stats().Limit)
	// Output:
	// <nil> 2
	// limiter: Queue is -5, must be -1 (nobody waits), 0 (default) or 1 to 1000000 callers
	// 2
}

// What was learned goes on in another process.
func ExampleNew_restart() {
	cfg := limiter.Config{Name: "search"}
	law := adaptive.New(cfg.Adaptive)
	cfg.Law = law
	guard, err := limiter.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	permit, err := guard.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		log.Fatal(err)
	}
	permit.Release(limiter.Outcome{Windows: []feedback.Window{{Kind: feedback.ScopeConcurrency, Limit: 3}}}) // the upstream tells its limit
	guard.Close()                                                                                            // nobody starts any more, and no call is in flight
	saved, err := json.Marshal(law.State())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(guard.Stats().Limit)

	// In the next process.
	cfg = limiter.Config{Name: "search"}
	law = adaptive.New(cfg.Adaptive)
	var state adaptive.GovernorState
	if err := json.Unmarshal(saved, &state); err == nil {
		law.Restore(0, state)
	}
	cfg.Law = law
	guard, err = limiter.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(guard.Stats().Limit)
	// Output:
	// 3
	// 3
}

func ExampleGroup() {
	group, err := limiter.NewGroup(limiter.GroupConfig{
		Guard: limiter.Config{Adaptive: adaptive.Config{Initial: 8}},
		Idle:  5 * time.Minute,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, host := range []string{"a.example", "b.example", "a.example"} {
		permit, err := group.Guard(host).Acquire(context.Background(), limiter.Request{})
		if err != nil {
			log.Fatal(err)
		}
		permit.Release(limiter.Outcome{})
	}
	fmt.Println(group.Len(), group.Forget("b.example"), group.Len())
	// Output: 2 true 1
}

func ExampleGuard_Stats() {
	guard, err := limiter.New(limiter.Config{Name: "search", TimeOneIn: 16})
	if err != nil {
		log.Fatal(err)
	}
	for range 100 {
		permit, err := guard.Acquire(context.Background(), limiter.Request{})
		if err != nil {
			log.Fatal(err)
		}
		permit.Release(limiter.Outcome{})
	}
	s := guard.Stats()
	fmt.Println(s.Name, s.InFlight, s.Waiting, s.Counts.Outcomes[feedback.OK])
	// Output: search 0 0 100
}

func ExampleGuard_Close() {
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	guard.Close()
	_, err = guard.Acquire(context.Background(), limiter.Request{})
	fmt.Println(errors.Is(err, limiter.ErrClosed), errors.Is(err, limiter.ErrRejected))
	// Output: true true
}

// pacedLaw allows 10 calls at a time and 5 starts a second.
type pacedLaw struct{ *adaptive.Fixed }

func (l pacedLaw) with(d adaptive.Decision) adaptive.Decision {
	d.Pace = 5
	return d
}

func (l pacedLaw) Decision() adaptive.Decision { return l.with(l.Fixed.Decision()) }

func (l pacedLaw) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	return l.with(l.Fixed.Window(now, w))
}

func (l pacedLaw) Ended(now time.Duration, c adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	return l.with(l.Fixed.Ended(now, c, o))
}

func (l pacedLaw) Hint(now time.Duration, w feedback.Window) adaptive.Decision {
	return l.with(l.Fixed.Hint(now, w))
}

func TestDocPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, cfg := range map[string]limiter.Config{
			"law":    {Law: pacedLaw{adaptive.NewFixed(10)}},
			"budget": {Law: adaptive.NewFixed(10), Budget: paced()},
		} {
			guard := mustNew(t, cfg)
			start := time.Now()
			for range 23 {
				permit := mustAcquire(t, guard, limiter.Request{})
				permit.Release(limiter.Outcome{})
			}
			if d := time.Since(start); d < 4*time.Second || d > 4500*time.Millisecond {
				t.Errorf("%s: 23 calls at 5 a second took %v, want some 4 s, as up to 3 start at once", name, d)
			}
		}
	})
}

func paced() *limiter.Budget {
	budget := &limiter.Budget{Limits: []limiter.BudgetLimit{
		{Kind: feedback.ScopeRequests, Limit: 5, Period: time.Second, Burst: 1},
	}}
	return budget
}

func mustNew(t *testing.T, cfg limiter.Config) *limiter.Guard {
	t.Helper()
	guard, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

func mustAcquire(t *testing.T, guard *limiter.Guard, r limiter.Request) limiter.Permit {
	t.Helper()
	permit, err := guard.Acquire(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return permit
}

// wantError checks the text of an error; want may be broken into lines.
func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want = strings.Join(strings.Fields(want), " "); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// queue has a caller wait for each request, in their order, then gives the permit back, and returns the tenants and
// priorities in the order in which they started.
func queue(t *testing.T, guard *limiter.Guard, permit limiter.Permit, requests []limiter.Request) []string {
	t.Helper()
	var mu sync.Mutex
	var order []string
	var all sync.WaitGroup
	for _, r := range requests {
		time.Sleep(time.Millisecond)
		all.Go(func() {
			p, err := guard.Acquire(context.Background(), r)
			if err != nil {
				t.Errorf("Acquire(%+v): %v", r, err)
				return
			}
			mu.Lock()
			order = append(order, fmt.Sprint(r.Tenant, r.Priority))
			mu.Unlock()
			time.Sleep(time.Second)
			p.Release(limiter.Outcome{})
		})
		synctest.Wait()
	}
	permit.Release(limiter.Outcome{})
	all.Wait()
	return order
}

func TestDocPriorities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := limiter.Config{
			Law:  adaptive.NewFixed(1),
			Room: &limiter.Room{Aging: 2 * time.Second},
		}
		r := limiter.Request{Priority: 2}
		var requests []limiter.Request
		for range 2 {
			requests = append(requests, limiter.Request{})
		}
		for range 10 {
			requests = append(requests, r)
		}
		guard := mustNew(t, cfg)
		got := strings.Join(queue(t, guard, mustAcquire(t, guard, limiter.Request{}), requests), " ")
		want := `
			2 2 2 2 0 2 0 2 2 2 2 2
		`
		if got != strings.TrimSpace(want) {
			t.Errorf("with aging: %s, want %s", got, want)
		}
		cfg.Law, cfg.Room = adaptive.NewFixed(1), nil
		guard = mustNew(t, cfg)
		got = strings.Join(queue(t, guard, mustAcquire(t, guard, limiter.Request{}), requests), " ")
		if want := "2 2 2 2 2 2 2 2 2 2 0 0"; got != want {
			t.Errorf("without aging: %s, want %s", got, want)
		}
	})
}

func TestDocTenants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := limiter.Config{
			Law:  adaptive.NewFixed(1),
			Room: &limiter.Room{Weights: map[string]float64{"gold": 3}}, // everybody else has 1
		}
		var requests []limiter.Request
		for range 20 {
			requests = append(requests,
				limiter.Request{Tenant: "free", Tokens: 100},
				limiter.Request{Tenant: "gold", Tokens: 200},
			)
		}
		guard := mustNew(t, cfg)
		order := queue(t, guard, mustAcquire(t, guard, limiter.Request{}), requests)
		tokens := map[string]int{}
		for _, tenant := range order[:20] {
			tokens[tenant] += map[string]int{"free0": 100, "gold0": 200}[tenant]
		}
		if share := float64(tokens["gold0"]) / float64(tokens["gold0"]+tokens["free0"]); share < 0.7 || share > 0.8 {
			t.Errorf("gold got %.2f of the tokens (%v), want three quarters", share, order)
		}
	})
}

func TestDocDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Law:   adaptive.NewFixed(1),
			Queue: 1,
			Room:  &limiter.Room{Drop: limiter.DropLowest},
		})
		permit := mustAcquire(t, guard, limiter.Request{})
		dropped := make(chan error)
		go func() {
			_, err := guard.Acquire(context.Background(), limiter.Request{})
			dropped <- err
		}()
		synctest.Wait()
		go func() {
			p := mustAcquire(t, guard, limiter.Request{Priority: 7})
			p.Release(limiter.Outcome{})
		}()
		if e, ok := errors.AsType[*limiter.RejectedError](<-dropped); !ok || e.Reason != limiter.ReasonDropped {
			t.Errorf("the one that waited got %v, want ReasonDropped", e)
		}
		permit.Release(limiter.Outcome{})
	})
}

func TestDocDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Name: "search",
			Law:  adaptive.NewFixed(4),
			Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
				{Kind: feedback.ScopeRequests, Limit: 60, Burst: 1},
			}},
		})
		permit := mustAcquire(t, guard, limiter.Request{})
		permit.Release(limiter.Outcome{})

		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		_, err := guard.Acquire(ctx, limiter.Request{}) // returns at once
		wantError(t, err, `
			limiter: search rejected a call: its deadline cannot be met
			(limit 4, in flight 0, waiting 0, requests per 1m0s binds); try again at 2000-01-01T00:00:01.000Z
		`)
		if e, ok := errors.AsType[*limiter.RejectedError](err); !ok || e.Reason != limiter.ReasonDeadline || e.Waited != 0 {
			t.Errorf("%+v, want ReasonDeadline at once", e)
		}
	})
}

func left(guard *limiter.Guard) (list []int64) {
	for _, b := range guard.Explain(0).Budgets {
		list = append(list, b.Left)
	}
	return list
}

func wantLeft(t *testing.T, when string, guard *limiter.Guard, want ...int64) {
	t.Helper()
	if got := left(guard); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v left, want %v", when, got, want)
	}
}

func TestDocBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		guard, err := limiter.New(limiter.Config{
			Name: "model",
			Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
				{Kind: feedback.ScopeRequests, Limit: 60},
				{Kind: feedback.ScopeInputTokens, Limit: 10_000, CachedFactor: 0.5},
				{Kind: feedback.ScopeOutputTokens, Limit: 2_000},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		permit, err := guard.Acquire(ctx, limiter.Request{Tokens: 1_200, Output: 200})
		if err != nil {
			t.Fatal(err)
		}
		wantLeft(t, "reserved", guard, 59, 9_000, 1_800)
		permit.Release(limiter.Outcome{InputTokens: 900, CachedTokens: 400, OutputTokens: 350})
		wantLeft(t, "settled", guard, 59, 9_300, 1_650)

		permit, err = guard.Acquire(ctx, limiter.Request{Tokens: 1_200, Output: 200})
		if err != nil {
			t.Fatal(err)
		}
		permit.Abandon() // the call was not made after all
		wantLeft(t, "abandoned", guard, 59, 9_300, 1_650)

		permit = mustAcquire(t, guard, limiter.Request{Tokens: 1_200, Output: 200})
		permit.Release(limiter.Outcome{})
		wantLeft(t, "nothing told", guard, 58, 8_300, 1_450)
		permit = mustAcquire(t, guard, limiter.Request{Tokens: 1_200, Output: 200})
		permit.Release(limiter.Outcome{Class: feedback.Overloaded})
		wantLeft(t, "refused", guard, 57, 8_300, 1_450)
	})
}

func TestDocBudgetFromHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeRequests}}},
		})
		permit := mustAcquire(t, guard, limiter.Request{})
		permit.Release(limiter.Outcome{Windows: []feedback.Window{
			{Kind: feedback.ScopeRequests, Limit: 60, Remaining: 12, Reset: feedback.Unstated},
		}})
		wantLeft(t, "told", guard, 12)
		permit = mustAcquire(t, guard, limiter.Request{})
		permit.Release(limiter.Outcome{Windows: []feedback.Window{
			{Kind: feedback.ScopeRequests, Limit: 0, Remaining: -1, Reset: feedback.Unstated},
		}})
		wantLeft(t, "told nonsense", guard, 11)
	})
}

func TestDocEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Law: adaptive.NewFixed(100),
			Budget: &limiter.Budget{
				Limits:  []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 100_000}},
				Unseen:  2_000,
				Overrun: 0.05,
			},
		})
		permit := mustAcquire(t, guard, limiter.Request{})
		wantLeft(t, "never seen", guard, 96_000)
		permit.Release(limiter.Outcome{InputTokens: 300, OutputTokens: 100})
		time.Sleep(time.Minute) // full again
		permit = mustAcquire(t, guard, limiter.Request{})
		wantLeft(t, "seen", guard, 99_600)
		permit.Release(limiter.Outcome{InputTokens: 300, OutputTokens: 100})
		time.Sleep(time.Minute)
		permit = mustAcquire(t, guard, limiter.Request{Output: 50}) // max_tokens of the request
		wantLeft(t, "bounded", guard, 99_650)
		permit.Release(limiter.Outcome{InputTokens: 300, OutputTokens: 50})
	})
}

func TestDocBorrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Law: adaptive.NewFixed(10),
			Budget: &limiter.Budget{
				Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6_000}}, // 100 a second
			},
		})
		start := time.Now()
		permit := mustAcquire(t, guard, limiter.Request{Tokens: 9_000}) // the budget is full: it starts
		wantLeft(t, "borrowed", guard, -3_000)
		permit.Release(limiter.Outcome{InputTokens: 9_000})
		permit = mustAcquire(t, guard, limiter.Request{Tokens: 1_000}) // waits until the debt is repaid
		if d := time.Since(start); d != 40*time.Second {
			t.Errorf("the next call started after %v, want 40s", d)
		}
		permit.Release(limiter.Outcome{InputTokens: 1_000})
	})
}

func TestDocRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{Name: "search", Law: adaptive.NewFixed(4), PauseJitter: -1})
		start := time.Now()
		permit := mustAcquire(t, guard, limiter.Request{})
		permit.Release(limiter.Outcome{
			Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 7 * time.Second,
		})
		permit = mustAcquire(t, guard, limiter.Request{}) // waits for the pause to end
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("the next call started after %v, want 7s", d)
		}
		permit.Release(limiter.Outcome{
			Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 10 * time.Minute,
		})
		_, err := guard.Acquire(context.Background(), limiter.Request{}) // refused at once
		wantError(t, err, `
			limiter: search rejected a call: a pause was asked for that is longer than callers wait
			(limit 4, in flight 0, waiting 0); try again at 2000-01-01T00:10:07.000Z
		`)
	})
}

func TestDocExplain(t *testing.T) {
	local := time.Local
	time.Local = time.UTC // Explain tells local times
	defer func() { time.Local = local }()
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Name: "model",
			Law:  adaptive.NewFixed(100),
			Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
				{Kind: feedback.ScopeTokens, Limit: 6_000},
			}},
		})
		permit := mustAcquire(t, guard, limiter.Request{Tokens: 6_000})
		for range 3 {
			go func() {
				p := mustAcquire(t, guard, limiter.Request{Tenant: "a", Tokens: 1_000})
				p.Release(limiter.Outcome{InputTokens: 1_000})
			}()
		}
		time.Sleep(2100 * time.Millisecond)
		synctest.Wait()
		got := fmt.Sprintln(guard.Explain(2)) // at most 2 of those who wait
		want := `
model: limit 100 (external), 1 in flight, 3 waiting
tokens per 1m0s: 210 of 6000 left
waiting 2.1s: tokens per 1m0s binds, 0 ahead in tenant a, expected 00:00:10Z
waiting 2.1s: tokens per 1m0s binds, 1 ahead in tenant a, expected 00:00:20Z
`
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		time.Sleep(time.Minute)
		permit.Release(limiter.Outcome{InputTokens: 6_000})
	})
}

func TestDocOnWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{Name: "openai", Law: adaptive.NewFixed(1), PauseJitter: -1})
		guard.Pause(time.Now().Add(8 * time.Second)) // as a Retry-After does
		var got string
		ctx := limiter.WithOnWait(context.Background(), func(w limiter.Waited) {
			got = fmt.Sprintln(w) // or into the log: w.For, w.Why, w.Guard, w.Behind
		})
		permit, err := guard.Acquire(ctx, limiter.Request{})
		if err != nil {
			t.Fatal(err)
		}
		permit.Release(limiter.Outcome{})
		want := `
waited 8s for pause at openai, behind 0
`
		if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestDocLeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard := mustNew(t, limiter.Config{
			Name:    "search",
			Law:     adaptive.NewFixed(1),
			MaxHold: 30 * time.Second, // longer than the longest call
			Reclaim: true,
		})
		leaks := make(chan limiter.Leak, 1)
		guard.OnLeak(func(l limiter.Leak) { leaks <- l })

		forgotten := mustAcquire(t, guard, limiter.Request{})
		permit := mustAcquire(t, guard, limiter.Request{}) // after 30 s, when the place was taken back
		l := <-leaks
		if !l.Reclaimed || l.Held != 30*time.Second || !strings.Contains(l.String(), "mustAcquire") {
			t.Errorf("leak %v, want one of 30 s that mustAcquire acquired", l)
		}
		permit.Release(limiter.Outcome{})
		forgotten.Release(limiter.Outcome{}) // does nothing: its place was taken back
	})
}

// fetchAll is the code under test: it fetches all pages, as many at a time as the guard lets it.
func fetchAll(ctx context.Context, guard *limiter.Guard, pages int, fetch func(context.Context, int) error) error {
	errs := make([]error, pages)
	var all sync.WaitGroup
	for i := range pages {
		all.Go(func() {
			errs[i] = guard.Do(ctx, limiter.Request{Idempotent: true}, func(ctx context.Context) error {
				return fetch(ctx, i)
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func TestDocFetchAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(2), PauseJitter: -1, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		err = fetchAll(context.Background(), guard, 10, func(context.Context, int) error {
			time.Sleep(time.Second) // takes no real time
			return nil
		})
		if d := time.Since(start); err != nil || d != 5*time.Second {
			t.Errorf("ten pages of a second, two at a time: %v after %v, want 5s", err, d)
		}
	})
}
