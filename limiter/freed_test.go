package limiter

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// holdingLaw is a constant limit that holds places for a time after their calls.
type holdingLaw struct{ d adaptive.Decision }

func (l *holdingLaw) Window(time.Duration, adaptive.Window) adaptive.Decision { return l.d }
func (l *holdingLaw) Ended(time.Duration, adaptive.Call, adaptive.Outcome) adaptive.Decision {
	return l.d
}
func (l *holdingLaw) Hint(time.Duration, feedback.Window) adaptive.Decision { return l.d }
func (l *holdingLaw) Decision() adaptive.Decision                           { return l.d }

// A waiter is woken when a place is free whose call has ended, and nobody has to come or go for that. Explain says that it is held.
func TestHeldPlaceWakes(t *testing.T) {
	for _, oneIn := range []int{0, 16} {
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(t, 1, func(c *Config) {
				c.Law = &holdingLaw{adaptive.Decision{Limit: 1, FreeAfter: 400 * time.Millisecond, AskAgain: time.Hour}}
				c.TimeOneIn = oneIn
			})
			mustAcquireAndRelease(t, g)
			if p, ok := g.TryAcquire(Request{}); ok {
				p.Release(Outcome{})
				t.Fatal("a place that is held was given away")
			}
			start := time.Now()
			done := make(chan time.Duration)
			go func() {
				p, err := g.Acquire(context.Background(), Request{})
				if err != nil {
					t.Error(err)
				}
				done <- time.Since(start)
				p.Release(Outcome{})
			}()
			synctest.Wait()
			e := g.Explain(1)
			if e.FreeAfter != 400*time.Millisecond || e.Freed != 1 || len(e.Waits) != 1 || e.Waits[0].Why != "freed" {
				t.Errorf("Explain: %+v", e)
			}
			want := "test: limit 1 (start), 0 in flight, 1 waiting\nplaces are held for 400ms after a call, as the upstream goes on counting it: 1 now\n" +
				"waiting 0s: freed binds, 0 ahead, expected 00:00:00Z"
			if got := e.String(); got != want {
				t.Errorf("Explain\n%s\nwant\n%s", got, want)
			}
			if took := <-done; took < 400*time.Millisecond || took > 413*time.Millisecond {
				t.Errorf("woken after %v, want 400 ms and at most a 32nd more", took)
			}
			wantIdle(t, g)
		})
	}
}

// A place that is held after its call leaves only reserved ones. Who may not use those is woken when it is free.
func TestHeldPlaceWakesWhoMayNotUseReservedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 2, func(c *Config) {
			c.Law = &holdingLaw{adaptive.Decision{Limit: 2, FreeAfter: 400 * time.Millisecond, AskAgain: time.Hour}}
			c.Room = &Room{ReservedShare: 0.5, ReservedFor: 5}
		})
		mustAcquireAndRelease(t, g)
		start := time.Now()
		mustAcquireAndRelease(t, g)
		if took := time.Since(start); took < 400*time.Millisecond || took > 413*time.Millisecond {
			t.Errorf("woken after %v, want 400 ms and at most a 32nd more", took)
		}
		wantIdle(t, g)
	})
}
