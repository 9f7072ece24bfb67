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
	// Class groups calls whose latencies and costs can be compared (0 to 7), for example one class a model. The law expects of a call
	// what calls of its class took.
	Class uint8
	// Retry says that the call has been tried before: it goes before new calls of its tenant and priority.
	Retry bool
	// Idempotent says that the call may be sent again although it may have had its effect; it is
	// for Do, which then repeats it after time-outs and server errors, too.
	Idempotent bool
	// WaitOnly says that the deadline of the context bounds the wait for a place alone, and not the call. Else a caller that waits makes way, refused with
	// ReasonDeadline, when its place comes with less time left than nearly all calls of its class take (but no more than 45 % of the time that it had, unless calls take more on average),
	// and the last of its line has more: its call would most likely be cut off, in vain.
	WaitOnly bool
}

// Outcome is how a call ended. The zero Outcome is a call that ended well.
type Outcome = adaptive.Outcome

// Guard admits calls to one upstream. Its methods may be called by any number of goroutines.
type Guard struct {
	// A call reads the first cache line, and writes to nothing else when there is room.
	set  atomic.Pointer[settings]
	base time.Time // instants are counted from here
	core admission.Core
	ties atomic.Pointer[ties] // nil until there is one
	name string

	// mu guards what follows, and the methods of core that say so. It is held for memory only.
	mu    sync.Mutex
	shell atomic.Pointer[shell] // nil until somebody waits, listens or retries
}

// settings are what guards of one configuration share. They do not change: Reload replaces them.
type settings struct {
	core     admission.Config
	retry    Retry
	maxPause time.Duration
	fast     bool   // a call without tokens that finds a place needs no more than a place and the clock
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
	looks     bool       // somebody who waits may have to be told to look up
	events    []Decision // not yet told to listeners
	telling   bool       // a goroutine is telling them
	listeners listeners[Decision]
	onRoom    func() // when set, is told of room that ShareBudget or Resume made: callers of a pool wait elsewhere
	budget    retryBudget
	leaks     leaks
	delays    *delays // nil while no call sits one out
}

// waiter is a caller that waits. Its channel takes one token when it was answered, and before that one when it is told to
// look up.
type waiter struct {
	tell   chan token    // never blocks whoever tells: it has room for both
	lookAt time.Duration // when it is to be told to look up; 0 when not. The guard's lock protects it
	home   *shell
	admission.Waiter
	next *waiter // in shell.wake
}

// token is what a waiter is told.
type token bool

const (
	answered token = true
	lookUp   token = false
)

// briskMost is how long callers of a guard may wait on average for those who begin to wait to do so without an eye on their
// contexts: to wait for two things costs half as much again as to wait for one, in locks of the context's channel that it
// may share with many others, and a short wait is most often over before its context. When it is not over after twice the
// average and briskLeast, the guard's timer tells them to look up. No context's deadline is passed over in this way.
const (
	briskMost  = 16 * time.Millisecond
	briskLeast = time.Millisecond
)

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
			Calm:             admission.Calm(newLaw()),
			Queue:            max(0, c.Queue),
			MaxWait:          c.MaxWait,
			MaxPause:         c.MaxPause,
			PauseJitter:      max(0, c.PauseJitter),
			IgnoreRetryAfter: c.IgnoreRetryAfter,
			Seed:             c.Seed,
			Observe:          c.Observe,
			Sampled:          c.TimeOneIn > 1,
			OnDecision:       note,
			Room:             c.Room.config(),
			Budgets:          c.Budget.config(),
			Estimate:         c.Budget.estimate(),
		},
		retry: c.Retry, maxPause: c.MaxPause,
		fast:  c.MaxHold == 0 && (c.Room == nil || c.Room.ReservedShare == 0),
		timed: uint32(c.TimeOneIn - 1), watched: uint32(c.WatchOneIn - 1),
		maxHold: c.MaxHold, reclaim: c.Reclaim,
		needs: c.needs(),
	}
}

// lock takes the lock. It is held for less time than it takes to put a goroutine aside and to wake it up, so
// whoever finds it taken first tries again for about as long; the mutex itself does so only while the processor has no
// other goroutine to run.
func (g *Guard) lock() {
	if !g.mu.TryLock() {
		g.lockSlow()
	}
}

//go:noinline
func (g *Guard) lockSlow() {
	for range lockTries {
		for range lockPause {
			pause()
		}
		if g.mu.TryLock() {
			return
		}
	}
	g.mu.Lock()
}

// pause does nothing for a nanosecond or two, and leaves memory alone, which the holder of the lock needs.
//
//go:noinline
func pause() {}

// lockTries and lockPause are how often the lock is tried, and how many pauses are made between two tries: about 1 µs in all.
const (
	lockTries = 50
	lockPause = 16
)

// open returns the shell, made on first use. It needs the lock.
func (g *Guard) open() *shell {
	s := g.shell.Load()
	if s == nil {
		s = &shell{budget: retryBudget{saved: retryReserve}}
		g.shell.Store(s)
	}
	return s
}

// Name returns the name that the guard was given.
func (g *Guard) Name() string { return g.name }

// now returns the time since the guard was made, on the monotonic clock.
func (g *Guard) now() time.Duration { return time.Since(g.base) }

// Acquire waits until the call may start and returns its permit, which the caller must release exactly once.
// Callers are let in in the order in which they asked.
//
// When ctx ends first, the error is its cause (context.Cause) and nothing is left behind.
// A refusal is a *RejectedError, which is ErrRejected. While callers of the guard wait for less than 16 ms on average, a
// caller that is canceled may return with a delay of up to twice that average and 2 ms; a context's deadline is always kept.
func (g *Guard) Acquire(ctx context.Context, r Request) (Permit, error) {
	if ctx.Err() != nil {
		return Permit{}, context.Cause(ctx)
	}
	a := g.core.Try()
	if !a.Took() {
		return g.acquire(ctx, &r, a)
	}
	set := g.set.Load()
	if set.fast && r.Tokens <= 0 && !g.core.Paced() {
		at := admission.Untimed
		if set.timed == 0 || a.Draw()&set.timed == 0 {
			at = g.now()
		}
		return Permit{guard: g, ticket: g.core.Begin(at, a.InFlight(), r.Class)}, nil
	}
	if p, ok := g.begin(set, &r, a.InFlight()); ok {
		return p, nil
	}
	return g.wait(ctx, &r)
}

// acquire is Acquire after an attempt that did not take one of several places.
func (g *Guard) acquire(ctx context.Context, r *Request, a admission.Attempt) (Permit, error) {
	if n, t := g.core.TakeLast(a); t <= admission.TookLast {
		if p, ok := g.begin(g.set.Load(), r, n); ok {
			return p, nil
		}
	}
	return g.wait(ctx, r)
}

// TryAcquire returns a permit when the call may start at once; ok is false when it may not.
func (g *Guard) TryAcquire(r Request) (p Permit, ok bool) {
	a := g.core.Try()
	if a.None() && !g.set.Load().core.Observe && g.core.Refuse() {
		return Permit{}, false
	}
	return g.tryAcquire(a, &r)
}

// tryAcquire is TryAcquire after an attempt that was not refused for want of a place.
//
//go:noinline
func (g *Guard) tryAcquire(a admission.Attempt, r *Request) (p Permit, ok bool) {
	if n, t := g.core.TakeLast(a); t <= admission.TookLast {
		if p, ok := g.begin(g.set.Load(), r, n); ok {
			return p, true
		}
	} else if t == admission.NoPlace && !g.set.Load().core.Observe {
		g.core.RefusedFast()
		return Permit{}, false
	}
	p, _ = g.try(*r)
	return p, p.guard != nil
}

// take is the way without the lock. It returns a permit when it took a place.
func (g *Guard) take(r *Request) (Permit, admission.Taken) {
	n, t := g.core.Take()
	if t > admission.TookLast {
		return Permit{}, t
	}
	p, ok := g.begin(g.set.Load(), r, n)
	if !ok {
		t = admission.Divert
	}
	return p, t
}

// begin starts a call in the n-th place, which was taken without the lock. When ok is false it may not start, and
// the place was given back: the caller must go through the lock.
func (g *Guard) begin(set *settings, r *Request, n int) (p Permit, ok bool) {
	if set.core.Room.ReservedFor > r.Priority && !g.core.MayUse(&set.core.Room, r.Priority, n) {
		g.core.Return()
		return p, false
	}
	at, paced := admission.Untimed, g.core.Paced()
	if paced || set.timed == 0 || g.core.Draw()&set.timed == 0 {
		at = g.now()
	}
	if paced && !g.core.Spend(at) {
		return p, false
	}
	p = Permit{guard: g, ticket: g.core.Begin(at, n, r.Class)}
	if r.Tokens > 0 {
		p.more = baggages.Get().(*baggage)
		p.more.grant.Call = p.ticket.Call()
		p.more.grant.Call.Tokens = r.Tokens
	}
	if set.maxHold > 0 {
		p = g.watch(set, p)
	}
	return p, true
}

// try is TryAcquire's way through the lock. Without a permit it returns why not.
func (g *Guard) try(r Request) (p Permit, m miss) {
	g.lock()
	now := g.now()
	w := g.open().waiter(&r)
	if g.core.Observing() {
		g.core.Observe(now, &w.Waiter)
	} else {
		g.core.AskNow(now, &w.Waiter)
	}
	g.serve(now, w)
	if w.State == admission.Granted {
		p = g.permit(&w.Waiter)
	} else {
		m.reason, m.why, m.budget, m.tooLarge = w.Reason, w.Why, w.Budget, w.TooLarge
		switch {
		case w.Reason == ReasonPaused:
			m.in = max(0, g.core.Gate()-now) // RetryAt is what the upstream said, which may be later
		case w.RetryAt == never: // what others have all of
		case w.Reason != ReasonLimit || g.core.InFlight() < g.core.Limit():
			// For want of a place RetryAt is a guess, and whoever gives one back says so.
			m.in = max(0, w.RetryAt-now)
		}
	}
	g.unlockFor(w)
	g.recycle(w)
	return g.watched(p), m
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
func (g *Guard) wait(ctx context.Context, r *Request) (Permit, error) {
	s := g.shell.Load()
	if s == nil {
		g.lock()
		s = g.open()
		g.mu.Unlock()
	}
	w := s.waiter(r)
	w.WaitOnly = r.WaitOnly
	now := g.now()
	if deadline, ok := ctx.Deadline(); ok {
		w.GiveUp = max(1, instantOf(now, deadline))
	}
	done := ctx.Done()
	g.lock()
	s = g.open() // a group may have given back the one before
	switch entered, free := g.core.Enter(now, &w.Waiter); {
	case w.State == admission.Refused:
	case !entered && g.core.Observing():
		g.core.Observe(now, &w.Waiter)
		g.serve(now, w)
	case !entered:
		g.core.Ask(now, &w.Waiter)
		g.serve(now, w)
	case free || !s.timerSet || s.timerAt > w.Deadline:
		g.serve(now, w)
	}
	if w.State != admission.Queued {
		return g.answer(nil, w)
	}
	w.lookAt = 0
	if mean := g.core.MeanWait(); done != nil && mean < briskMost {
		if at := now + 2*mean + briskLeast; w.GiveUp == 0 || w.GiveUp > at {
			w.lookAt, s.looks = at, true
			s.wakeBy(g, now, at)
		}
	}
	brisk := w.lookAt != 0
	g.unlockFor(w)
	g.ties.Load().watch() // a place that nobody needs any more may be there
	switch {
	case done == nil:
		<-w.tell
	case brisk && <-w.tell == answered:
		if ctx.Err() != nil {
			return Permit{}, g.undo(ctx, w)
		}
	default:
		select {
		case <-w.tell:
		case <-done:
			return Permit{}, g.abandon(ctx, w)
		}
	}
	if w.State != admission.Granted {
		g.lock()
		return g.answer(hookOf(ctx), w)
	}
	p := g.permit(&w.Waiter)
	if f := hookOf(ctx); f != nil {
		g.tellGrant(f, w, &p)
	}
	g.recycle(w)
	return g.watched(p), nil
}

// answer returns what a waiter was answered, and gives up the lock. It tells f of a wait that was in vain.
func (g *Guard) answer(f waitHook, w *waiter) (Permit, error) {
	if w.State == admission.Granted {
		p := g.permit(&w.Waiter)
		g.unlockFor(w)
		g.recycle(w)
		return g.watched(p), nil
	}
	err := g.rejected(&w.Waiter, g.now())
	wait := Waited{g.name, err.Waited, int(w.Behind), err.Why}
	g.unlockFor(w)
	g.recycle(w)
	f.tell(wait)
	return Permit{}, err
}

// abandon takes back a caller whose context ended while it waited.
func (g *Guard) abandon(ctx context.Context, w *waiter) error {
	g.lock()
	now := g.now()
	g.core.WaitsFor(now, &w.Waiter)
	if !g.core.Cancel(&w.Waiter) {
		// It was answered at the same time. Whoever did so tells it after releasing the lock.
		g.mu.Unlock()
		<-w.tell
		return g.undo(ctx, w)
	}
	g.serve(now, nil)
	g.unlock()
	g.gaveUp(ctx, now, w)
	return context.Cause(ctx)
}

// undo takes back what a caller was answered and told, because its context had ended.
func (g *Guard) undo(ctx context.Context, w *waiter) error {
	g.lock()
	now := g.now()
	if w.State == admission.Granted {
		g.core.Undo(now, &w.Waiter)
	}
	g.serve(now, nil)
	g.unlock()
	g.gaveUp(ctx, now, w)
	return context.Cause(ctx)
}

// gaveUp tells of the wait of w, which its caller has given up at now, and keeps w for use again.
func (g *Guard) gaveUp(ctx context.Context, now time.Duration, w *waiter) {
	f := hookOf(ctx)
	if f == nil {
		g.recycle(w)
		return
	}
	g.lock()
	wait := g.waited(now, &w.Waiter)
	g.mu.Unlock()
	g.recycle(w)
	f.tell(wait)
}

// serve answers everybody who can be answered and sets the timer for the next. own is the
// caller's waiter, which needs no token. It needs the lock.
func (g *Guard) serve(now time.Duration, own *waiter) {
	for aw := g.core.Next(now); aw != nil; aw = g.core.Next(now) {
		if w := aw.Owner.(*waiter); w != own {
			g.shell.Load().answer(w)
		}
	}
	at, ok := g.core.Wake(now)
	if !ok && g.shell.Load() == nil {
		return
	}
	switch s := g.open(); {
	case !ok && s.timerSet:
		s.timer.Stop()
		s.timerSet = false
	case ok:
		s.wakeBy(g, now, at)
	}
}

// wakeBy sets the timer of g, whose shell s is, to at, unless it is set to an earlier instant. A timer that fires too early
// does no harm; it is set anew then. It needs the lock.
func (s *shell) wakeBy(g *Guard, now, at time.Duration) {
	if s.timerSet && s.timerAt <= at {
		return
	}
	if s.timer == nil {
		s.timer = time.AfterFunc(at-now, g.fire)
	} else {
		s.timer.Reset(at - now)
	}
	s.timerAt, s.timerSet = at, true
}

// answer has w told that it was answered when the lock is given up. It needs the lock.
func (s *shell) answer(w *waiter) {
	if s.wake == nil {
		s.wake, s.wakeLast = w, w
	} else {
		s.wakeLast.next, s.wakeLast = w, w
	}
}

// fire answers those whose time has come.
func (g *Guard) fire() {
	g.lock()
	s := g.open()
	s.timerSet = false
	now := g.now()
	g.serve(now, nil)
	if s.looks { // else it would pass by all who wait, at each start that has a pace and each wait that is too long
		s.looks = false
		g.core.Stalls(now, briskMost) // so that the timer does not go off for each that comes, to pass by all who look up already
		g.core.Each(func(aw *admission.Waiter) bool {
			w := aw.Owner.(*waiter)
			switch {
			case w.lookAt == 0:
			case w.lookAt > now:
				s.looks = true
				s.wakeBy(g, now, max(w.lookAt, now+briskLeast)) // many at a time, not each by itself
				return false                                    // those who came later look up later, or little earlier
			default:
				w.lookAt = 0
				w.tell <- lookUp
			}
			return true
		})
	}
	g.unlock()
}

// settle ends a call by the way through the lock, after Finish or End.
func (g *Guard) settle(now time.Duration, e admission.Ending, grant *admission.Grant, o *Outcome) {
	g.lock()
	defer g.unlock() // also when a law panics
	defer g.serve(now, nil)
	g.core.Settle(now, e, grant, o)
}

// ended does what is left to do after End.
//
//go:noinline
func (g *Guard) ended(now time.Duration, t admission.Ticket, e admission.Ending) {
	if e == admission.NotEnded {
		g.settle(now, e, &admission.Grant{Call: t.Call()}, &Outcome{})
		return
	}
	g.lock()
	g.core.Took(now, t)
	if aw, more := g.core.HandOver(now); aw != nil && !more {
		g.mu.Unlock()
		aw.Owner.(*waiter).tell <- answered
		return
	} else if aw != nil {
		g.shell.Load().answer(aw.Owner.(*waiter))
	}
	defer g.unlock() // also when a law panics
	defer g.serve(now, nil)
	g.core.Tend(now)
}

// Pause keeps everybody from starting until the given instant, as a Retry-After does. A
// pause that is in force and ends later stays as it is. Calls in flight go on.
func (g *Guard) Pause(until time.Time) {
	g.lock()
	now := g.now()
	g.core.Pause(now, instantOf(now, until))
	g.serve(now, nil)
	g.unlock()
}

// Resume ends a pause, whoever asked for it. Waiters start as the limit allows.
func (g *Guard) Resume() {
	g.lock()
	now := g.now()
	g.core.Resume(now)
	g.serve(now, nil)
	g.unlock()
	g.mayHaveRoom()
}

// mayHaveRoom tells the pool of the guard, if it has one, that callers may start. It is called without the lock.
func (g *Guard) mayHaveRoom() {
	if s := g.shell.Load(); s != nil && s.onRoom != nil {
		s.onRoom()
	}
}

// Close refuses everybody who waits and who comes, and who sits out the delay before a call is sent again; calls in flight end as ever.
// It may be called more than once.
func (g *Guard) Close() {
	g.lock()
	now := g.now()
	g.core.Close(now)
	if s := g.shell.Load(); s != nil && s.delays != nil {
		close(s.delays.over)
		s.delays = nil
	}
	g.serve(now, nil)
	g.unlock()
}

// waiter returns a waiter for a request. It may be called at any time.
func (s *shell) waiter(r *Request) *waiter {
	w, _ := s.free.Get().(*waiter)
	if w == nil {
		w = &waiter{tell: make(chan token, 2), home: s}
		w.Owner = w
	}
	w.GiveUp = 0
	w.Grant = admission.Grant{}
	w.Call.Tokens, w.Call.Class = max(0, r.Tokens), r.Class
	if output := max(0, r.Output); w.Output != output {
		w.Output = output
	}
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
		Waited: now - w.Since, Why: g.whyText(w.Why, w.Budget),
	}
	if w.RetryAt > 0 && w.RetryAt != never {
		e.RetryAt = wallAt(now, w.RetryAt)
	}
	return e
}
