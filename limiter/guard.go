// Package limiter guards calls to an upstream whose limits are not fully known.
//
// A [Guard] stands before one upstream. A caller acquires a [Permit] before each call and releases it
// with an [Outcome] after; in between, the guard learns how many calls the upstream bears at a
// time and how fast they may start, makes callers wait in the order in which they came,
// and keeps everybody back when the upstream asks for a pause.
//
//	g, err := limiter.New(limiter.Config{Name: "openai"})
//	...
//	permit, err := g.Acquire(ctx, limiter.Request{})
//	if err != nil {
//		return err // the context ended, or a *RejectedError says why and when to come back
//	}
//	outcome := call()
//	permit.Release(outcome)
//
// For HTTP, package httplimit does this in a RoundTripper. The package needs the standard library
// only; a guard has no goroutine, and no timer while nobody waits and no permit is watched.
package limiter

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
)

// Request says what a caller wants to start. The zero Request is one call like any other.
type Request struct {
	// Tenant is who is calling. Tenants that wait share by their weights (Room.Weights), counted in
	// tokens where the cost is known. Empty is a tenant like any other.
	Tenant string
	// Priority is how urgent the call is: 0, the default, is the least, 7 the most. See Room.
	Priority uint8
	// Tokens is the expected cost of the call in tokens (>= 0), input and output together. 0 means
	// unknown: where a budget counts tokens it is then estimated from what calls of the class used.
	Tokens int64
	// Output is the part of Tokens that the call is expected to generate (0 to Tokens). When Tokens is 0 it is the
	// most that the call may generate (max_tokens), and bounds the estimate; 0 means unknown.
	Output int64
	// Class groups calls whose latencies and costs can be compared (0 to 7), for example one class a model.
	Class uint8
	// Retry says that the call has been tried before: it goes before new calls of its tenant and priority.
	Retry bool
	// Idempotent says that the call may be sent again although it may have had its effect; it is
	// for Do, which then repeats it after time-outs and server errors, too.
	Idempotent bool
}

// Outcome is how a call ended. The zero Outcome is a call that ended well.
type Outcome = adaptive.Outcome

// Guard admits calls to one upstream. Its methods may be called by any number of goroutines.
type Guard struct {
	core admission.Core
	set  atomic.Pointer[settings]
	ties atomic.Pointer[ties] // nil until there is one
	base time.Time            // instants are counted from here
	name string

	// mu guards what follows, and the methods of core that say so. It is held for memory only.
	mu    sync.Mutex
	shell *shell // nil until somebody waits, listens or retries
}

// settings are what guards of one configuration share. They do not change: Reload replaces them.
type settings struct {
	core     admission.Config
	retry    Retry
	maxPause time.Duration
	fast     bool   // a call that finds a place needs no more than the place and the clock
	timed    uint32 // one call in timed+1 is timed
	watched  uint32 // one call in watched+1 is watched
	maxHold  time.Duration
	reclaim  bool
	needs    Needs
}

// shell is what a guard needs to make callers wait and to tell of what it does.
type shell struct {
	free      sync.Pool // waiters for use again, so that waiting does not allocate; needs no lock
	wake      *waiter   // answered, and to be told once the lock is released; in their order
	wakeLast  *waiter
	timer     *time.Timer // for the next instant at which somebody who waits could be answered
	timerAt   time.Duration
	timerSet  bool
	events    []Decision // not yet told to listeners
	telling   bool       // a goroutine is telling them
	listeners []func(Decision)
	budget    retryBudget
	leaks     leaks
}

// waiter is a caller that waits. Its channel takes one token when it was answered.
type waiter struct {
	admission.Waiter
	answered chan struct{}
	next     *waiter // in shell.wake
	home     *shell
}

// New returns a guard. The error joins one *FieldError for each field of cfg that is out of range.
func New(cfg Config) (*Guard, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.Defaults()
	if cfg.Law == nil {
		cfg.Law = adaptive.New(cfg.Adaptive)
	}
	g := &Guard{name: cfg.Name, base: time.Now()}
	set := cfg.settings(g.note)
	g.set.Store(set)
	g.core.Init(&set.core)
	return g, nil
}

// settings returns what guards made from c share; c has its defaults.
func (c Config) settings(note func(time.Duration, adaptive.Decision)) *settings {
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	own := c.Adaptive
	newLaw := func() adaptive.Law { return adaptive.New(own) }
	return &settings{
		core: admission.Config{
			Law:              c.Law,
			NewLaw:           newLaw,
			First:            newLaw().Decision(),
			Queue:            max(0, c.Queue),
			MaxWait:          c.MaxWait,
			MaxPause:         c.MaxPause,
			PauseJitter:      max(0, c.PauseJitter),
			IgnoreRetryAfter: c.IgnoreRetryAfter,
			Seed:             c.Seed,
			Observe:          c.Observe,
			OnDecision:       note,
			Room:             c.Room.config(),
			Budgets:          c.Budget.config(),
			Estimate:         c.Budget.estimate(),
		},
		retry: c.Retry, maxPause: c.MaxPause,
		fast:  c.TimeOneIn == 1 && (c.Room == nil || c.Room.ReservedShare == 0),
		timed: uint32(c.TimeOneIn - 1), watched: uint32(c.WatchOneIn - 1),
		maxHold: c.MaxHold, reclaim: c.Reclaim,
		needs: c.needs(),
	}
}

// open returns the shell, made on first use. It needs the lock.
func (g *Guard) open() *shell {
	if g.shell == nil {
		g.shell = &shell{budget: retryBudget{saved: retryReserve}}
	}
	return g.shell
}

// Name returns the name that the guard was given.
func (g *Guard) Name() string { return g.name }

// now returns the time since the guard was made, on the monotonic clock.
func (g *Guard) now() time.Duration { return time.Since(g.base) }

// Acquire waits until the call may start and returns its permit, which the caller must release exactly once.
// Callers are let in in the order in which they asked.
//
// When ctx ends first, the error is its cause (context.Cause) and nothing is left behind.
// A refusal is a *RejectedError, which is ErrRejected.
func (g *Guard) Acquire(ctx context.Context, r Request) (p Permit, err error) {
	if ctx.Err() != nil {
		return p, context.Cause(ctx)
	}
	if g.take(&r, &p) <= admission.TookLast {
		return p, nil
	}
	return g.wait(ctx, r)
}

// TryAcquire returns a permit when the call may start at once; ok is false when it may not.
func (g *Guard) TryAcquire(r Request) (p Permit, ok bool) {
	switch t := g.take(&r, &p); {
	case t <= admission.TookLast:
		return p, true
	case t == admission.NoPlace && !g.set.Load().core.Observe:
		g.core.RefusedFast()
		return p, false
	}
	p, _ = g.try(r)
	return p, p.guard != nil
}

// take is the way without the lock. It fills p, which must be zero, when it took a place.
func (g *Guard) take(r *Request, p *Permit) admission.Taken {
	n, t := g.core.Take()
	if t > admission.TookLast {
		return t
	}
	var at time.Duration
	set := g.set.Load()
	if !set.fast || g.core.Paced() {
		if at, t = g.takeWith(set, r, n, t); t > admission.TookLast {
			return t
		}
	} else {
		at = g.now()
	}
	p.guard = g
	g.core.Begin(&p.grant.Call, at, n)
	p.grant.Call.Tokens, p.grant.Call.Class = max(0, r.Tokens), r.Class
	if set.maxHold > 0 {
		g.watch(set, p)
	}
	return t
}

// takeWith asks whether the n-th place, which was taken, may be kept, and returns when the call starts.
//
//go:noinline
func (g *Guard) takeWith(set *settings, r *Request, n int, t admission.Taken) (at time.Duration, _ admission.Taken) {
	if set.core.Room.ReservedFor > r.Priority && !g.core.MayUse(&set.core.Room, r.Priority, n) {
		g.core.Return()
		return 0, admission.Divert
	}
	at = admission.Untimed
	paced := g.core.Paced()
	if paced || rand.Uint32()&set.timed == 0 {
		at = g.now()
	}
	if paced && !g.core.Spend(at) {
		return 0, admission.Divert
	}
	return at, t
}

// try is TryAcquire's way through the lock. Without a permit it returns why not.
func (g *Guard) try(r Request) (p Permit, m miss) {
	g.mu.Lock()
	now := g.now()
	w := g.waiter(now, r)
	if g.core.Observing() {
		g.core.Observe(now, &w.Waiter)
	} else {
		g.core.Try(now, &w.Waiter)
	}
	g.serve(now, w)
	if w.State == admission.Granted {
		p = Permit{guard: g, grant: w.Grant}
	} else {
		m.reason, m.why, m.budget, m.tooLarge = w.Reason, w.Why, w.Budget, w.TooLarge
		// For want of a place RetryAt is a guess, and whoever gives one back says so.
		if w.Reason != ReasonLimit || g.core.InFlight() < g.core.Limit() {
			m.in = max(0, w.RetryAt-now)
		}
	}
	g.recycle(w)
	g.unlock()
	if set := g.set.Load(); p.guard != nil && set.maxHold > 0 {
		g.watch(set, &p)
	}
	return p, m
}

// miss is why a call may not start at once.
type miss struct {
	reason Reason
	// in is how long from now time alone will let the call start; 0 when a call has to end first.
	in time.Duration
	// why is what it waits for, and budget which budget; tooLarge has the numbers of ReasonTooLarge.
	why      Why
	budget   int
	tooLarge TooLarge
}

// wait is Acquire's way through the lock.
func (g *Guard) wait(ctx context.Context, r Request) (Permit, error) {
	g.mu.Lock()
	now := g.now()
	w := g.waiter(now, r)
	if deadline, ok := ctx.Deadline(); ok {
		w.GiveUp = max(1, deadline.Sub(g.base))
	}
	if g.core.Observing() {
		g.core.Observe(now, &w.Waiter)
	} else {
		g.core.Ask(now, &w.Waiter)
	}
	g.serve(now, w)
	if w.State != admission.Queued {
		return g.answer(w)
	}
	g.unlock()
	g.ties.Load().watch() // a place that nobody needs any more may be there
	if done := ctx.Done(); done == nil {
		<-w.answered
	} else {
		select {
		case <-w.answered:
		case <-done:
			return Permit{}, g.abandon(ctx, w)
		}
	}
	if w.State != admission.Granted {
		g.mu.Lock()
		return g.answer(w)
	}
	p := Permit{guard: g, grant: w.Grant}
	g.recycle(w)
	if set := g.set.Load(); set.maxHold > 0 {
		g.watch(set, &p)
	}
	return p, nil
}

// answer returns what a waiter was answered, and gives up the lock.
func (g *Guard) answer(w *waiter) (p Permit, err error) {
	if w.State == admission.Granted {
		p = Permit{guard: g, grant: w.Grant}
	} else {
		err = g.rejected(&w.Waiter, g.now())
	}
	g.unlock()
	g.recycle(w)
	if set := g.set.Load(); p.guard != nil && set.maxHold > 0 {
		g.watch(set, &p)
	}
	return p, err
}

// abandon takes back a caller whose context ended while it waited.
func (g *Guard) abandon(ctx context.Context, w *waiter) error {
	g.mu.Lock()
	if !g.core.Cancel(&w.Waiter) {
		// It was answered at the same time. Whoever did so tells it after releasing the lock.
		g.mu.Unlock()
		<-w.answered
		g.mu.Lock()
		if w.State == admission.Granted {
			g.core.Undo(g.now(), &w.Waiter)
		}
	}
	g.serve(g.now(), nil)
	g.unlock()
	g.recycle(w)
	return context.Cause(ctx)
}

// serve answers everybody who can be answered and sets the timer for the next. own is the
// caller's waiter, which needs no token. It needs the lock.
func (g *Guard) serve(now time.Duration, own *waiter) {
	for aw := g.core.Next(now); aw != nil; aw = g.core.Next(now) {
		if w := aw.Owner.(*waiter); w != own {
			if s := g.shell; s.wake == nil {
				s.wake, s.wakeLast = w, w
			} else {
				s.wakeLast.next, s.wakeLast = w, w
			}
		}
	}
	at, ok := g.core.Wake(now)
	if !ok && g.shell == nil {
		return
	}
	switch s := g.open(); {
	case !ok && s.timerSet:
		s.timer.Stop()
		s.timerSet = false
	case ok && (!s.timerSet || at < s.timerAt):
		// A timer that fires too early does no harm; it is set anew then.
		if s.timer == nil {
			s.timer = time.AfterFunc(at-now, g.fire)
		} else {
			s.timer.Reset(at - now)
		}
		s.timerAt, s.timerSet = at, true
	}
}

// fire answers those whose time has come.
func (g *Guard) fire() {
	g.mu.Lock()
	g.open().timerSet = false
	g.serve(g.now(), nil)
	g.unlock()
}

// finish ends a call.
func (g *Guard) finish(grant *admission.Grant, o *Outcome) {
	if grant.Call.SentAt == admission.Untimed {
		g.finishUntimed(grant, o)
		return
	}
	if now := g.now(); g.core.Finish(now, grant, o) {
		g.settle(now, grant, o)
	}
}

// settle is finish's way through the lock.
//
//go:noinline
func (g *Guard) settle(now time.Duration, grant *admission.Grant, o *Outcome) {
	g.mu.Lock()
	defer g.unlock() // also when a law panics
	g.core.Settle(now, grant, o)
	g.serve(now, nil)
}

// finishUntimed ends a call that was not timed.
//
//go:noinline
func (g *Guard) finishUntimed(grant *admission.Grant, o *Outcome) {
	if !plain(o) {
		g.settle(g.now(), grant, o)
		return
	}
	if g.core.FinishUntimed(&grant.Call) {
		g.mu.Lock()
		g.serve(g.now(), nil)
		g.unlock()
	}
}

// Pause keeps everybody from starting until the given instant, as a Retry-After does. A
// pause that is in force and ends later stays as it is. Calls in flight go on.
func (g *Guard) Pause(until time.Time) {
	g.mu.Lock()
	now := g.now()
	g.core.Pause(now, until.Sub(g.base))
	g.serve(now, nil)
	g.unlock()
}

// Resume ends a pause, whoever asked for it. Waiters start as the limit allows.
func (g *Guard) Resume() {
	g.mu.Lock()
	now := g.now()
	g.core.Resume(now)
	g.serve(now, nil)
	g.unlock()
}

// Close refuses everybody who waits and who comes; calls in flight end as ever. It may be called
// more than once.
func (g *Guard) Close() {
	g.mu.Lock()
	now := g.now()
	g.core.Close(now)
	g.serve(now, nil)
	g.unlock()
}

// waiter returns a waiter for a request. It needs the lock.
func (g *Guard) waiter(now time.Duration, r Request) *waiter {
	s := g.open()
	w, _ := s.free.Get().(*waiter)
	if w == nil {
		w = &waiter{answered: make(chan struct{}, 1), home: s}
		w.Owner = w
	}
	w.GiveUp = 0
	w.Grant = admission.Grant{}
	w.Call.Tokens, w.Call.Class, w.Output = max(0, r.Tokens), r.Class, max(0, r.Output)
	w.Tenant, w.Priority, w.Retry = r.Tenant, r.Priority, r.Retry
	return w
}

// recycle keeps a waiter for use again.
func (g *Guard) recycle(w *waiter) {
	w.State = admission.Idle
	w.home.free.Put(w)
}

// rejected returns the refusal of w. It needs the lock.
func (g *Guard) rejected(w *admission.Waiter, now time.Duration) *RejectedError {
	e := &RejectedError{
		Guard: g.name, Reason: w.Reason, TooLarge: w.TooLarge,
		Limit: g.core.Limit(), InFlight: g.core.InFlight(), Waiting: g.core.Waiting(),
		Waited: now - w.Since,
	}
	if w.RetryAt > 0 {
		e.RetryAt = g.base.Add(w.RetryAt).Round(0)
	}
	return e
}
