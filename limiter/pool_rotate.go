package limiter

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Rotation is the sends of one request through a pool. It decides which key each is made with, and whether one
// follows after one that failed:
//
//   - A key that the upstream does not accept, or that has no money, is out, and the next one is used at once. That
//     is no retry: it ends when no key is left. When the upstream named a delay that the caller can
//     wait for, it is asked once more after it.
//   - A key that was throttled is left for another one that has room at once, when the limits
//     are the keys' own. Where none has, and where the limits are the account's, it is a retry like any: after the
//     delay that Config.Retry says, with whichever key then has room.
//   - A call that a key was forbidden is tried with one other key, for which it waits as callers do. When that may do it, three
//     times in a row, the first key is out; else the call is to blame, and no key.
//
// All but the first count as attempts and are paid from the retry budget of the key's guard. Sends that failed otherwise are repeated
// as Guard.Do does. A Rotation is used by one goroutine; [Pool.Do] and package httplimit use it.
type Rotation struct {
	pool       *Pool
	request    Request
	repeatable bool

	key       *poolKey   // of the send before
	tried     []*poolKey // keys that refused the request
	forbidden *poolKey   // the key that was forbidden the call, until another was tried
	unpaused  []keyDelay // delays that keys named and that their guards do not keep; see Guard.Pauses
	attempts  int        // sends that ended otherwise than by a key's fault
	faults    int        // sends that a key's fault ended
}

// keyDelay is until when a key is not to be sent with.
type keyDelay struct {
	key   *poolKey
	until time.Time
}

// Rotate returns the Rotation of a request. repeatable says that it can be sent again, which also
// makes it fit for a probe.
func (p *Pool) Rotate(r Request, repeatable bool) Rotation {
	return Rotation{pool: p, request: r, repeatable: repeatable}
}

// Acquire is Pool.Acquire for the first send.
func (t *Rotation) Acquire(ctx context.Context) (KeyPermit, error) {
	return t.take(t.pool.acquire(ctx, t.request, keyChoice{noProbe: !t.repeatable}))
}

// Served says that a send was accepted: it began to be answered, and permit is still held.
func (t *Rotation) Served(permit *KeyPermit) {
	permit.Accepted()
	if t.forbidden != nil && t.forbidden != permit.key {
		k := t.forbidden
		t.forbidden = nil
		t.pool.suspect(k)
	}
}

// Again returns a permit for the next send after one that ended with o and f, and whose permit was released; more
// is false when none is to follow. safe says that sending again does no harm though the request is not
// Idempotent, for instance because it never reached the upstream. The error is that of Pool.Acquire.
func (t *Rotation) Again(ctx context.Context, o *Outcome, f KeyFault, safe bool) (permit KeyPermit, more bool, err error) {
	p := t.pool
	if !t.repeatable || ctx.Err() != nil {
		return KeyPermit{}, false, nil
	}
	t.tried = append(t.tried, t.key)
	t.request.Retry = true // from now on: before new calls of its tenant and priority
	switch faultOf(o, f) {
	case KeyUnauthorized, KeyExhausted:
		most := len(p.keys)
		if p.scope == LimitAccount && faultOf(o, f) == KeyExhausted {
			most = 1 // nothing is gained by asking one account twice for what it has not
		}
		// An upstream that names a delay is asked once more after it, if the caller can wait that long.
		t.faults++
		if t.faults > most || t.faults == most && (!o.HasRetryAfter || o.RetryAfter <= 0) {
			return KeyPermit{}, false, nil
		}
		return t.next(ctx, keyChoice{noProbe: true})
	case KeyForbidden:
		if t.forbidden != nil || len(p.keys) == 1 {
			return KeyPermit{}, false, nil
		}
		delay, ok := t.affords(o)
		if !ok {
			return KeyPermit{}, false, nil
		}
		guard := t.key.lane.guard
		t.forbidden = t.key
		if p.hasOther(t.tried) || !p.hasOther([]*poolKey{t.key}) {
			permit, more, err = t.another(ctx, t.tried, keyChoice{noProbe: true})
		} else {
			permit, more, err = t.after(ctx, delay) // the others were throttled before
		}
		if !more {
			guard.unspend()
		}
		return permit, more, err
	}
	if !Retryable(o, t.request.Idempotent || safe) {
		return KeyPermit{}, false, nil
	}
	// The pause that a key was told is kept by its guard, and does not hold up the others.
	told, guard := *o, t.key.lane.guard
	rotates := o.Class == feedback.Throttled && p.scope == LimitKey && len(p.keys) > 1
	if rotates && o.Scope != feedback.ScopeConcurrency {
		if told.RetryAfter > 0 && !guard.Pauses() && guard.heeds(o) {
			t.unpaused = slices.DeleteFunc(t.unpaused, func(d keyDelay) bool { return d.key == t.key })
			t.unpaused = append(t.unpaused, keyDelay{t.key, time.Now().Add(told.RetryAfter)})
		}
		told.HasRetryAfter, told.RetryAfter = false, 0
	}
	t.attempts++
	delay, ok := guard.MayRetry(context.Background(), t.attempts, &told)
	if !ok {
		return KeyPermit{}, false, nil
	}
	if rotates {
		if permit, more, _ = t.elsewhere(); more {
			return permit, true, nil
		}
	}
	if permit, more, err = t.after(ctx, delay); !more {
		guard.unspend()
	}
	return permit, more, err
}

// after waits for a delay, or longer when keys named one that no guard keeps, and then for a permit.
func (t *Rotation) after(ctx context.Context, delay time.Duration) (KeyPermit, bool, error) {
	delay, avoid, ok := t.sitOut(delay)
	if deadline, has := ctx.Deadline(); !ok || has && time.Until(deadline) < delay {
		return KeyPermit{}, false, nil
	}
	if err := t.key.lane.guard.Sleep(ctx, delay); err != nil {
		return KeyPermit{}, true, err
	}
	return t.next(ctx, keyChoice{avoid: avoid, noProbe: true})
}

// next waits for a permit, and not for one of the key that was forbidden the call while there is another one in service: what became of the
// call with those says nothing of the first one.
func (t *Rotation) next(ctx context.Context, c keyChoice) (KeyPermit, bool, error) {
	if some := []*poolKey{t.forbidden}; t.forbidden != nil && t.pool.hasOther(some) {
		return t.another(ctx, some, c)
	}
	return t.more(t.pool.acquire(ctx, t.request, c))
}

// sitOut returns how long a send after a delay has to wait when no guard keeps what keys were told: until the first of them is over. avoid
// are the keys of which it is not over then. ok is false when that is longer than a caller may wait.
func (t *Rotation) sitOut(delay time.Duration) (longer time.Duration, avoid []*poolKey, ok bool) {
	if len(t.unpaused) == 0 {
		return delay, nil, true
	}
	now, first := time.Now(), never
	for _, d := range t.unpaused {
		first = min(first, d.until.Sub(now))
	}
	set := t.pool.set.Load()
	if first > min(set.maxPause, set.maxWait) {
		return 0, nil, false
	}
	longer = delay
	if first > 0 {
		longer = max(delay, first+rand.N(first/20+1)) // not in step with others who were told the same
	}
	for _, d := range t.unpaused {
		if d.until.Sub(now) > longer {
			avoid = append(avoid, d.key)
		}
	}
	return longer, avoid, true
}

// affords takes a retry from the budget, for which the upstream named no delay.
func (t *Rotation) affords(o *Outcome) (delay time.Duration, ok bool) {
	t.attempts++
	told := Outcome{Class: o.Class}
	return t.key.lane.guard.MayRetry(context.Background(), t.attempts, &told)
}

// elsewhere returns a permit of a key that has not been tried and has room now.
func (t *Rotation) elsewhere() (KeyPermit, bool, error) {
	permit, ok := t.pool.tryAcquire(t.request, keyChoice{avoid: t.tried, noProbe: true})
	if !ok {
		return KeyPermit{}, false, nil
	}
	return t.more(permit, nil)
}

// A permit of a key that is of no use to the request is given back for one of another key. That key is left to others for passedFirst then,
// and longer each time, up to passedMost.
const (
	passedFirst = 10 * time.Millisecond
	passedMost  = 200 * time.Millisecond
)

// another waits for a permit of a key that is none of some, as long as there is one in service and a caller may wait. It does not wait in
// the queue for that key alone: whoever does holds up those behind it whom any key would do.
func (t *Rotation) another(ctx context.Context, some []*poolKey, c keyChoice) (KeyPermit, bool, error) {
	p := t.pool
	end := time.Now().Add(p.set.Load().maxWait)
	for wait := passedFirst; ; wait = min(2*wait, passedMost) {
		if permit, ok := p.tryAcquire(t.request, keyChoice{avoid: append(some[:len(some):len(some)], c.avoid...), noProbe: true}); ok {
			return t.more(permit, nil)
		}
		if !p.hasOther(some) || !time.Now().Before(end) || p.set.Load().queue == 0 {
			return KeyPermit{}, false, nil
		}
		permit, err := p.acquire(ctx, t.request, c)
		if err != nil || !slices.Contains(some, permit.key) {
			return t.more(permit, err)
		}
		permit.Abandon()
		if err := Sleep(ctx, wait); err != nil {
			return KeyPermit{}, true, err
		}
	}
}

// hasOther reports whether a key is in service that is not one of some.
func (p *Pool) hasOther(some []*poolKey) bool {
	return slices.ContainsFunc(p.keys, func(k *poolKey) bool { return k.live.Load() && !slices.Contains(some, k) })
}

func (t *Rotation) more(permit KeyPermit, err error) (KeyPermit, bool, error) {
	permit, err = t.take(permit, err)
	return permit, true, err
}

func (t *Rotation) take(permit KeyPermit, err error) (KeyPermit, error) {
	if err == nil {
		t.key = permit.key
	}
	return permit, err
}

// Do acquires a permit, calls f with its key, and releases the permit with what became of it, also when f panics.
// When f fails in a way that another key or another time may cure, it is called again, as a Rotation
// says. Do returns f's last error, or the reason why f was not called at all.
//
// The outcome is read from the error as Guard.Do does; an error made by [FailKey] says that the key is
// at fault.
func (p *Pool) Do(ctx context.Context, r Request, f func(context.Context, Secret) error) error {
	return p.DoOutcome(ctx, r, func(ctx context.Context, key Secret, _ *Outcome) error { return f(ctx, key) })
}

// DoOutcome is Do for a function that knows more of how a call ended than whether it failed; see Guard.DoOutcome.
func (p *Pool) DoOutcome(ctx context.Context, r Request, f func(context.Context, Secret, *Outcome) error) error {
	t := p.Rotate(r, true)
	permit, err := t.Acquire(ctx)
	if err != nil {
		return err
	}
	for {
		o, fault, err := t.call(ctx, &permit, f)
		if err == nil || ctx.Err() != nil {
			return err
		}
		next, more, refused := t.Again(ctx, &o, fault, false)
		if !more || refused != nil {
			return err
		}
		permit = next
	}
}

// call calls f and releases permit with what became of it.
func (t *Rotation) call(ctx context.Context, permit *KeyPermit, f func(context.Context, Secret, *Outcome) error) (o Outcome, fault KeyFault, err error) {
	ended := false
	defer func() {
		if !ended {
			o = Outcome{Class: feedback.Canceled} // a panic says nothing about the upstream
		}
		permit.Release(o, fault)
	}()
	err = f(ctx, permit.Secret(), &o)
	ended = true
	o = merged(ctx, o, err)
	var k *keyFailure
	if errors.As(err, &k) {
		fault = k.fault
	}
	if err == nil {
		t.Served(permit)
	}
	return o, fault, err
}

// keyFailure is an error that blames a key.
type keyFailure struct {
	error
	fault KeyFault
}

// Unwrap returns the error that FailKey was given.
func (k *keyFailure) Unwrap() error { return k.error }

// FailKey returns an error that tells Pool.Do what is wrong with the key that the call was made with: f for
// the pool, err for everybody else. An err that [Fail] made keeps its outcome, and with it the delay of a quota. It returns nil when err is nil.
func FailKey(f KeyFault, err error) error {
	if err == nil {
		return nil
	}
	var told *failure
	if errors.As(err, &told) {
		return &keyFailure{err, f}
	}
	o := Outcome{Class: feedback.ClientError}
	if f == KeyExhausted {
		o = Outcome{Class: feedback.QuotaExhausted, Scope: feedback.ScopeUnknown}
	}
	return &keyFailure{Fail(o, err), f}
}
