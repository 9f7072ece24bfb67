package limiter_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// A guard that is made while the upstream refuses everything, without a delay, does not take how rarely it asked meanwhile for what the
// upstream gives.
func TestMadeWhileEverythingIsRefused(t *testing.T) {
	for _, latency := range []time.Duration{200 * time.Millisecond, 8 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const outage, after, callers = 2 * time.Minute, 4 * time.Minute, 8
			guard, err := limiter.New(limiter.Config{Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			began, busy := time.Now(), errors.New("busy")
			var ended atomic.Int64
			for range callers {
				go func() {
					for time.Since(began) < outage+after {
						_ = guard.Do(context.Background(), limiter.Request{}, func(context.Context) error {
							time.Sleep(20 * time.Millisecond)
							if time.Since(began) < outage {
								return limiter.Fail(limiter.Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown}, busy)
							}
							time.Sleep(latency - 20*time.Millisecond)
							ended.Add(1)
							return nil
						})
						time.Sleep(time.Millisecond) // a refusal takes no time
					}
				}()
			}
			time.Sleep(outage + after)
			n, all := ended.Load(), int64(callers*after/latency)
			guard.Close()
			time.Sleep(time.Hour)
			if n < all*3/4 {
				t.Errorf("calls of %v: %d of %d were made after the upstream opened, want three in four at least", latency, n, all)
			}
		})
	}
}
