package limiter

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Close ends the delays before calls are sent again: a program that shuts down does not wait for them.
func TestCloseEndsDelays(t *testing.T) {
	busy := Fail(Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency, HasRetryAfter: true, RetryAfter: 50 * time.Second}, errDo)
	for _, tt := range []struct {
		name string
		make func(t *testing.T) (do func(context.Context) error, stop func())
	}{
		{"guard", func(t *testing.T) (func(context.Context) error, func()) {
			g := newGuard(t, 4, nil)
			return func(ctx context.Context) error {
				return g.Do(ctx, Request{}, func(context.Context) error { return busy })
			}, g.Close
		}},
		{"guard of a group that sweeps", func(t *testing.T) (func(context.Context) error, func()) {
			p, err := NewGroup(GroupConfig{Idle: time.Second, Guard: Config{Adaptive: adaptive.Config{Initial: 8}}})
			if err != nil {
				t.Fatal(err)
			}
			g := p.Guard("a")
			return func(ctx context.Context) error {
				return g.Do(ctx, Request{}, func(context.Context) error { return busy })
			}, func() { p.Sweep(); g.Close() }
		}},
		{"pool", func(t *testing.T) (func(context.Context) error, func()) {
			p, err := NewPool(PoolConfig{Keys: []Secret{NewSecret("a")}, NewLaw: func() adaptive.Law { return adaptive.NewFixed(4) }})
			if err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error {
				return p.Do(ctx, Request{}, func(context.Context, Secret) error { return busy })
			}, p.Close
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				do, stop := tt.make(t)
				start := time.Now()
				errs := make(chan error)
				for range 3 {
					go func() { errs <- do(context.Background()) }()
				}
				ctx, cancel := context.WithCancel(context.Background())
				left := make(chan error)
				go func() { left <- do(ctx) }()
				time.Sleep(10 * time.Second)
				cancel() // one that leaves takes nothing from the others
				<-left
				stop()
				for range 3 {
					if err := <-errs; !errors.Is(err, errDo) {
						t.Errorf("a call that was to be sent again ended with %v, want the upstream's refusal", err)
					}
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("calls ended %v after the start, want 10s, when the guard was closed", took)
				}
			})
		})
	}
}

// Who asks a closed guard to wait does not, and who has left is not waited for.
func TestSleepOfAClosedGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, nil)
		start := time.Now()
		if err := g.Sleep(context.Background(), time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("Sleep(1s) = %v after %v, want nil after 1s", err, time.Since(start))
		}
		g.Close()
		if err := g.Sleep(context.Background(), time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("Sleep of a closed guard = %v after %v, want nil at once", err, time.Since(start)-time.Second)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errDo)
		if err := g.Sleep(ctx, time.Second); !errors.Is(err, errDo) {
			t.Errorf("Sleep with a context that has ended = %v, want its cause", err)
		}
	})
}

// A retry that does not end before the caller's time is up is not made, and not paid for.
func TestPoolPaysForNoRetryThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{4}, nil)
		busy := Fail(Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency, HasRetryAfter: true, RetryAfter: 20 * time.Second}, errDo)
		sent := 0
		send := func(d time.Duration) {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			if err := p.Do(ctx, Request{}, func(context.Context, Secret) error { sent++; return busy }); !errors.Is(err, errDo) {
				t.Fatal(err)
			}
		}
		for range 2 * retryReserve {
			send(10 * time.Second)
		}
		if sent != 2*retryReserve {
			t.Errorf("%d calls without a retry were sent %d times", 2*retryReserve, sent)
		}
		sent = 0
		if send(25 * time.Second); sent != 2 {
			t.Errorf("a call that has time for a retry was sent %d times, want 2", sent)
		}
	})
}
