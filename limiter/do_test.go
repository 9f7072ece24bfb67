package limiter

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

func budgeted(t *testing.T) *Guard {
	t.Helper()
	g, err := New(Config{
		Law:    adaptive.NewFixed(4),
		Budget: &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeInputTokens, Limit: 10_000}, {Kind: feedback.ScopeOutputTokens, Limit: 10_000}}},
		Retry:  Retry{MaxAttempts: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// spent returns what is spent of both budgets.
func spent(g *Guard) (input, output int64) {
	b := g.Explain(0).Budgets
	return 10_000 - b[0].Left, 10_000 - b[1].Left
}

var errDo = errors.New("do")

// What a call settles with, by how it ended; 1000 and 500 are reserved.
func TestDoOutcomeSettles(t *testing.T) {
	for _, tt := range []struct {
		name          string
		f             func(context.Context, *Outcome) error
		input, output int64
		class         feedback.Class
	}{
		{"nothing told", func(context.Context, *Outcome) error { return nil }, 1000, 500, feedback.OK},
		{"tokens of a success", func(_ context.Context, o *Outcome) error {
			o.InputTokens, o.OutputTokens = 900, 700
			return nil
		}, 900, 700, feedback.OK},
		{"an error alone", func(context.Context, *Outcome) error { return errDo }, 1000, 500, feedback.ServerError},
		{"a failure's own outcome", func(_ context.Context, o *Outcome) error {
			o.InputTokens = 1
			return Fail(Outcome{Class: feedback.ClientError, InputTokens: 20, OutputTokens: 30}, errDo)
		}, 20, 30, feedback.ClientError},
		{"cut after it had told more", func(_ context.Context, o *Outcome) error {
			o.InputTokens, o.OutputTokens = 900, 700
			return errDo
		}, 900, 700, feedback.ServerError},
		{"cut after it had told the prompt", func(_ context.Context, o *Outcome) error {
			o.InputTokens, o.OutputTokens = 900, 1
			return errDo
		}, 900, 500, feedback.ServerError},
		{"given up in the middle", func(_ context.Context, o *Outcome) error {
			o.InputTokens, o.OutputTokens = 900, 3
			return context.Canceled
		}, 900, 500, feedback.Canceled},
		{"a class that the function knows", func(_ context.Context, o *Outcome) error {
			o.Class = feedback.Throttled
			return errDo
		}, 0, 0, feedback.Throttled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := budgeted(t)
			_ = g.DoOutcome(context.Background(), Request{Tokens: 1500, Output: 500}, tt.f)
			input, output := spent(g)
			if input < tt.input-5 || input > tt.input+1 || output < tt.output-5 || output > tt.output+1 { // it refills meanwhile, and rounds
				t.Errorf("%d and %d tokens are charged, want %d and %d", input, output, tt.input, tt.output)
			}
			if n := g.Stats().Counts.Outcomes[tt.class]; n != 1 {
				t.Errorf("outcomes %v, want one %v", g.Stats().Counts.Outcomes, tt.class)
			}
			if n := g.Stats().InFlight; n != 0 {
				t.Errorf("%d in flight, want 0", n)
			}
		})
	}
}

// What a function that panics wrote before says nothing.
func TestDoOutcomePanics(t *testing.T) {
	g := budgeted(t)
	func() {
		defer func() { _ = recover() }()
		_ = g.DoOutcome(context.Background(), Request{Tokens: 1500, Output: 500}, func(_ context.Context, o *Outcome) error {
			o.Class, o.OutputTokens = feedback.Throttled, 7
			panic("boom")
		})
	}()
	s := g.Stats()
	if input, output := spent(g); s.InFlight != 0 || s.Counts.Outcomes[feedback.Canceled] != 1 || input < 995 || output < 495 {
		t.Errorf("%+v, %d and %d tokens charged; want nobody in flight, one canceled, and what was reserved", s, input, output)
	}
}

// Each attempt begins with an empty outcome.
func TestDoOutcomeOfEachAttempt(t *testing.T) {
	g, err := New(Config{Law: adaptive.NewFixed(1), Retry: Retry{BaseDelay: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = g.DoOutcome(context.Background(), Request{}, func(_ context.Context, o *Outcome) error {
		if n++; o.Class != feedback.OK || o.OutputTokens != 0 {
			t.Errorf("attempt %d begins with %+v", n, *o)
		}
		o.OutputTokens = 5
		if n < 3 {
			o.Class = feedback.Throttled
			return errDo
		}
		return nil
	})
	if err != nil || n != 3 {
		t.Errorf("%v after %d attempts, want success after 3", err, n)
	}
}

// TestMayRetryUntilReset: a call that was refused waits for a reset as long as that may be a window's end, and no longer.
func TestMayRetryUntilReset(t *testing.T) {
	g, err := New(Config{Law: adaptive.NewFixed(4)})
	if err != nil {
		t.Fatal(err)
	}
	full := feedback.Window{Kind: feedback.ScopeRequests, Limit: 60, Remaining: 0, Reset: 20 * time.Second}
	o := OutcomeFrom(feedback.Signal{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: full.Reset, UntilReset: true, Windows: []feedback.Window{full}})
	if delay, ok := g.MayRetry(t.Context(), 1, &o); !ok || delay < full.Reset {
		t.Errorf("at first: %v, %v; want to wait for the reset, in %v", delay, ok, full.Reset)
	}
	for i := range 4 { // each time later, before it has passed
		w := full
		w.Reset += time.Duration(i) * 5 * time.Second
		permit := mustAcquire(t, g)
		permit.Release(Outcome{Windows: []feedback.Window{w}})
	}
	if delay, ok := g.MayRetry(t.Context(), 1, &o); !ok || delay >= full.Reset {
		t.Errorf("of a quota that refills: %v, %v; want no wait for the reset, in %v", delay, ok, full.Reset)
	}
	o.UntilReset = false
	if delay, ok := g.MayRetry(t.Context(), 1, &o); !ok || delay < full.Reset {
		t.Errorf("a delay that was named: %v, %v; want to wait for %v", delay, ok, full.Reset)
	}
}

// A refusal by another guard says nothing about the upstream.
func TestDoThroughTwoGuards(t *testing.T) {
	inner, outer := budgeted(t), budgeted(t)
	inner.Close()
	err := outer.Do(t.Context(), Request{}, func(ctx context.Context) error {
		return inner.Do(ctx, Request{}, func(context.Context) error { return nil })
	})
	if o := outer.Stats().Counts.Outcomes; !errors.Is(err, ErrClosed) || o[feedback.Canceled] != 1 {
		t.Errorf("outcomes %v, want one canceled; %v", o, err)
	}
}

// TestMayRetryAttemptBelowOne: an attempt below 1 counts as the first one, also when there is only one.
func TestMayRetryAttemptBelowOne(t *testing.T) {
	for _, attempt := range []int{0, -1, math.MinInt} {
		g, err := New(Config{Retry: Retry{MaxAttempts: 2, BaseDelay: time.Millisecond, MaxDelay: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		if delay, ok := g.MayRetry(t.Context(), attempt, &Outcome{Class: feedback.Throttled}); !ok || delay > time.Millisecond {
			t.Errorf("attempt %d: %v, %v, want at most 1ms, true", attempt, delay, ok)
		}
		if g, err = New(Config{Retry: Retry{MaxAttempts: 1}}); err != nil {
			t.Fatal(err)
		}
		if _, ok := g.MayRetry(t.Context(), attempt, &Outcome{Class: feedback.Throttled}); ok {
			t.Errorf("attempt %d of 1 may be sent again", attempt)
		}
	}
}
