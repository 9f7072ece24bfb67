package drain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// What is here asks the guard, or the pool of keys.

// pass is a permit: the guard's, or the pool's with its key.
type pass struct {
	permit limiter.Permit
	keyed  limiter.KeyPermit
}

func (p *pass) held() bool { return p.permit.Held() || p.keyed.Held() }

// release gives it back with what became of the call.
func (p *pass) release(a *Answer) {
	if a.Unsent && errors.Is(a.Err, limiter.ErrRejected) { // by another guard, which tells this one nothing and costs it nothing
		p.abandon()
		return
	}
	if p.keyed.Held() {
		p.keyed.Release(a.Outcome, a.Key)
		return
	}
	p.permit.Release(a.Outcome)
}

// abandon gives it back for a call that is not made.
func (p *pass) abandon() {
	if p.keyed.Held() {
		p.keyed.Abandon()
		return
	}
	p.permit.Abandon()
}

// A permit of a key that was forbidden a job is given back for one of another key. That key is left to others for givenUpFirst then, and
// longer each time, up to givenUpMost.
const (
	givenUpFirst = 10 * time.Millisecond
	givenUpMost  = 200 * time.Millisecond
)

// acquire waits for a permit for a task.
func (r *Runner) acquire(ctx context.Context, t *task, req limiter.Request, p *pass) (err error) {
	if r.cfg.Pool == nil {
		p.permit, err = r.cfg.Guard.Acquire(ctx, req)
		return err
	}
	for wait := givenUpFirst; ; wait = min(2*wait, givenUpMost) {
		p.keyed, err = r.cfg.Pool.Acquire(ctx, req)
		if err != nil {
			return err
		}
		key := p.keyed.Key()
		if key != t.barred || r.cfg.Pool.Stats().InService < 2 || time.Since(t.since) > r.cfg.GiveUp {
			t.key = key
			return nil
		}
		p.keyed.Abandon()
		if err := limiter.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// rejected returns why no permit was to be had, and when it is worth asking again; ok is false when the context ended.
func rejected(err error) (reason limiter.Reason, at time.Time, ok bool) {
	var noPlace *limiter.RejectedError
	var noKey *limiter.NoKeyError
	switch {
	case errors.As(err, &noPlace):
		return noPlace.Reason, noPlace.RetryAt, true
	case errors.As(err, &noKey):
		return noKey.Reason, noKey.RetryAt, true
	}
	return 0, time.Time{}, false
}

// keysOut reports whether no permit was to be had because every key is out. It stops the run then, or says how long to wait for one
// with a quota.
func (r *Runner) keysOut(err error) (out bool, wait time.Duration) {
	var e *limiter.NoKeyError
	if !errors.As(err, &e) || !e.Out {
		return false, 0
	}
	for _, k := range e.Keys {
		if k.Out == limiter.KeyExhausted {
			if r.cfg.QuotaPause > 0 {
				return true, r.cfg.QuotaPause
			}
			r.stop(fmt.Errorf("%w: %w", ErrQuota, err))
			return true, 0
		}
	}
	r.stop(fmt.Errorf("%w: %w", ErrUnauthorized, err))
	return true, 0
}

// otherKey reports whether another key may do what this one could not, which is out now or will be.
func (r *Runner) otherKey(t *task, a *Answer) bool {
	switch {
	case r.cfg.Pool == nil:
		return false
	case a.Key == limiter.KeyExhausted || a.Key != limiter.KeyForbidden && a.Class == feedback.QuotaExhausted:
		return r.cfg.QuotaPause > 0 || r.cfg.Pool.Stats().InService > 0 // the pool finds out by itself when one has a quota again
	case a.Key == limiter.KeyUnauthorized:
		return r.cfg.Pool.Stats().InService > 0
	case a.Key == limiter.KeyForbidden && t.barred == "":
		t.barred = t.key // when another key is forbidden it, too, the job is to blame
		return r.cfg.Pool.Stats().InService > 1
	}
	return false
}

// limit returns how many calls may be in flight.
func (r *Runner) limit() (n int) {
	if r.cfg.Pool == nil {
		return r.cfg.Guard.Stats().Limit
	}
	for _, g := range r.cfg.Pool.Guards() {
		n += g.Stats().Limit
	}
	return n
}

// pauses reports whether a delay that the upstream named may be left to the guards.
func (r *Runner) pauses() bool {
	if r.cfg.Pool == nil {
		return r.cfg.Guard.Pauses()
	}
	return r.cfg.Pool.Guards()[0].Pauses() // they have one configuration
}

// paused returns how much longer nothing starts.
func (r *Runner) paused() time.Duration {
	if r.cfg.Pool == nil {
		return r.cfg.Guard.Stats().Paused
	}
	least := time.Duration(-1)
	for _, g := range r.cfg.Pool.Guards() {
		if d := g.Stats().Paused; least < 0 || d < least {
			least = d
		}
	}
	return max(0, least)
}
