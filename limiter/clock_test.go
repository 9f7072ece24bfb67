package limiter

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

// clockWasSet has the wall clock be set by so much since base was read. The monotonic clock stays, as it does.
func clockWasSet(t *testing.T, base *time.Time, by time.Duration) {
	t.Helper()
	before := *base
	*(*uint64)(unsafe.Pointer(base)) -= uint64(by/time.Second) << 30 // seconds, of a time that has both clocks
	if base.Sub(before) != 0 || before.Round(0).Sub(base.Round(0)) != by {
		t.Fatal("a time.Time is not what this test takes it for")
	}
}

// The wall clock is set while the program runs, forwards or back. What guards and pools are told in its instants is what it says now, and
// so is what they tell: a refusal that names the time of an hour ago, or of in an hour, has callers come at once, or not for an hour.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		near := func(what string, at time.Time, want time.Duration) {
			t.Helper()
			if got := time.Until(at); got < want-time.Minute || got > want+time.Minute {
				t.Errorf("clock set by %v: %s is in %v, want %v", by, what, got, want)
			}
		}
		g := newGuard(t, 1, func(c *Config) { c.MaxWait = time.Minute })
		p := newPool(t, []int{1}, func(c *PoolConfig) { c.Guard.MaxWait = time.Minute })
		clockWasSet(t, &g.base, by)
		clockWasSet(t, &p.base, by)
		clockWasSet(t, &p.lanes[0].guard.base, by)

		// A deadline on the wall clock alone, as that of a message is, leaves time to wait for a place.
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(10*time.Minute).Round(0))
		defer cancel()
		permit, kp := mustAcquire(t, g), takeKey(t, p)
		errs := make(chan error, 2)
		go func() {
			next, err := g.Acquire(ctx, Request{})
			if err == nil {
				next.Release(okay)
			}
			errs <- err
		}()
		go func() {
			next, err := p.Acquire(ctx, Request{})
			if err == nil {
				next.Release(broke, KeyFine)
			}
			errs <- err
		}()
		for g.Stats().Waiting == 0 || p.Stats().Waiting == 0 {
			if len(errs) > 0 {
				t.Fatalf("clock set by %v: a call with 10 min left: %v", by, <-errs)
			}
			runtime.Gosched()
		}
		permit.Release(okay)
		kp.Release(okay, KeyFine)
		for range 2 {
			if err := <-errs; err != nil {
				t.Fatalf("clock set by %v: a call with 10 min left: %v", by, err)
			}
		}

		// A Retry-After that names an instant.
		g.Pause(time.Now().Add(30 * time.Minute).Round(0))
		near("Explanation.PausedUntil", g.Explain(1).PausedUntil, 30*time.Minute)
		var rejected *RejectedError
		if _, err := g.Acquire(t.Context(), Request{}); !errors.As(err, &rejected) {
			t.Fatal(err)
		}
		near("RejectedError.RetryAt", rejected.RetryAt, 30*time.Minute)

		var none *NoKeyError
		if _, err := p.Acquire(t.Context(), Request{}); !errors.As(err, &none) {
			t.Fatal(err)
		}
		near("NoKeyError.RetryAt", none.RetryAt, 10*time.Minute+30*time.Second)
		near("KeyStatus.ProbeAt", none.Keys[0].ProbeAt, 10*time.Minute+30*time.Second)
		near("KeyStatus.Since", none.Keys[0].Since, 0)
	}
}
