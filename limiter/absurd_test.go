package limiter

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// A key whose quota is used up until tomorrow, and whose upstream says no more than that, is not hammered, and is back MaxPause after it has a quota again.
func TestQuotaGoneForTheDay(t *testing.T) {
	for _, test := range []struct {
		name  string
		law   func() adaptive.Law
		oneIn int
		most  int64 // calls in the day
	}{
		{"flyball's law", func() adaptive.Law { return nil }, 0, 450},
		{"flyball's law, 1 in 16 timed", func() adaptive.Law { return nil }, 16, 450},
		// No law lowers the limit, so a try is as many calls as start until the first is refused.
		{"a constant limit of 50", func() adaptive.Law { return adaptive.NewFixed(50) }, 0, 2000},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, 1, func(c *Config) {
					*c = Config{Name: c.Name, Law: test.law(), MaxWait: 24 * time.Hour, Queue: 1000, Seed: 1, TimeOneIn: test.oneIn}
				})
				var gone atomic.Bool
				var refused, accepted atomic.Int64
				ctx, cancel := context.WithCancel(context.Background())
				for range 100 {
					go func() {
						for {
							p, err := g.Acquire(ctx, Request{})
							switch {
							case ctx.Err() != nil:
								if err == nil {
									p.Release(Outcome{})
								}
								return
							case err != nil:
								time.Sleep(time.Second) // the pause is as long as it gets: who does not wait for it is told
							case gone.Load():
								refused.Add(1)
								time.Sleep(100 * time.Millisecond)
								p.Release(Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 20 * time.Hour})
							default:
								time.Sleep(time.Second)
								accepted.Add(1)
								p.Release(Outcome{})
							}
						}
					}()
				}
				time.Sleep(2 * time.Minute)
				gone.Store(true)
				time.Sleep(23 * time.Hour)
				if n := refused.Load(); n > test.most {
					t.Errorf("%d calls while the quota was gone, want at most %d", n, test.most)
				}
				gone.Store(false)
				before := accepted.Load()
				time.Sleep(5*time.Minute + 30*time.Second)
				if n := accepted.Load() - before; n < 10 {
					t.Errorf("%d calls accepted half a minute after the last pause must have ended, want 10 and more", n)
				}
				cancel()
				time.Sleep(time.Minute)
				wantIdle(t, g)
			})
		})
	}
}
