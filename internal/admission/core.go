package admission

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Config is what a Core is made from. All fields are in range and none is a default: package
// limiter has seen to both.
type Config struct {
	// Law is the law. When it is nil, NewLaw makes it when it is first needed: when a caller finds no
	// place, a call does not end well, or an answer tells of a limit. First is the decision that
	// holds until then, and Calm what holds instead once a call ended well. The law is told of one of the successes before
	// it was made, and of those that were not looked at yet (lazyWindow).
	Law    adaptive.Law
	NewLaw func() adaptive.Law
	First  adaptive.Decision
	Calm   adaptive.Decision

	Queue            int           // how many may wait; 0: nobody waits
	MaxWait          time.Duration // how long a caller waits at most
	MaxPause         time.Duration // the longest pause that is waited for
	PauseJitter      float64       // how much is added to a pause at most, as a share of it
	IgnoreRetryAfter bool          // do not pause for a Retry-After
	Seed             uint64        // for the jitter
	Observe          bool          // hold nothing back; count what would have been
	Sampled          bool          // some calls are not timed

	Room     QueueConfig
	Budgets  BudgetConfig
	Estimate EstimateConfig

	// OnDecision, when set, is told of each decision that differs from the one before. It is
	// called with the Core's lock held and must not call the Core.
	OnDecision func(now time.Duration, d adaptive.Decision)
}

const (
	// maxFreeAfter is the longest time for which a place is held whose call has ended.
	maxFreeAfter = time.Minute
	// maxPauseJitter bounds what is added to a pause, so that a pause of an hour is not
	// answered by minutes of idling.
	maxPauseJitter = 2 * time.Second
	// maxGate is the longest pause that one answer causes; it is the largest MaxPause, too.
	maxGate = 24 * time.Hour
	// resumeSpread is the longest time over which the first limit starts after a pause are
	// spread. Starting all of them at once is the herd that the pause was meant to end. The
	// pause itself and the mean latency bound it, too: beyond one latency there is no herd.
	resumeSpread = time.Second
	// paceShare is how late a start may be without loss to those after it, as a share of the time between two, but at most paceLate
	// and at least paceSoon; paceBurst is how many may start at once at the most. That is enough to bridge the jitter of
	// goroutines, and too little to trip a quota that allows hardly anything at once: a bucket of one request is real, and with
	// more slack, law and quota met at a tenth of what it gives.
	paceShare = 0.1
	paceLate  = 0.010 // s
	paceSoon  = 0.001 // s
	paceBurst = 3.0
	// lazyWindow is how often a guard that has met no limit looks at what it counted.
	lazyWindow = time.Second
	// tokenDepth is how many seconds of token pace may be spent at once.
	tokenDepth = 2.0
)

// Core is the state of one guard. Init must be called before anything else. What the lock-free
// path needs is here; the rest is made when it is first needed, so that a guard that meets
// no limit stays small.
type Core struct {
	slots   Slots
	askAt   atomic.Int64 // when the law wants the next window
	meter   meter
	episode atomic.Uint32 // of the decision in force
	calm    atomic.Bool   // there is no state, and Config.Calm is in force
	pace    atomicPacer   // starts a second
	// refusedFast counts refusals that were made without the lock.
	refusedFast atomic.Uint64

	cfg *Config

	// What follows needs the lock.

	ended uint64 // calls that ended well and were collected from the meter
	state *state // nil until it is needed
}

// state is the part of a Core that needs the lock.
type state struct {
	line plainLine
	// fromQueue is how many started from the queue since something else than places held callers back, at most 1<<31 - 1; see divide.
	fromQueue int32
	highest   int32 // the highest limit so far
	law       adaptive.Law
	decision  adaptive.Decision
	queue     queue
	answered  []*Waiter // those who were answered by what somebody else did; Next hands them over
	budget    Budget
	estimate  Estimator
	spare     *reserved       // for use again
	window    adaptive.Window // what the meter does not count; Start is the window's beginning
	jitter    rand.PCG

	gate       time.Duration // nothing starts before it
	asked      time.Duration // until when the upstream asked to wait, which may be longer
	absurd     absurd        // delays that are not believed
	resumeNext time.Duration // after a pause: the next start
	resumeEnd  time.Duration // after a pause: when its spreading ends
	spread     time.Duration // after a pause: the time that its spreading takes
	tokens     pacer
	freed      *freed        // places whose calls have ended and that are not free yet
	resets     *resets       // of quotas of which answers tell; nil until one does
	durations  *durations    // of calls; nil until somebody waits who may have to make way
	latency    time.Duration // mean latency of the last window that timed a call
	quickest   float32       // smallest latency so far, in s; 0 when unknown

	easy   bool // only places hold callers back, but for the pace of starts; see hold
	closed bool
	held   bool // the gate is the law's own
	// several says that a call of a class other than 0 is in the window: window.Classes holds what those calls add to it. It is kept, and emptied,
	// once there was one.
	several bool

	counts tally
}

// tally is Counts, of which what few guards need is made when it is needed.
type tally struct {
	outcomes [feedback.NumClasses]uint64
	refused  [NumReasons]uint64
	canceled uint64
	causes   [adaptive.NumCauses]uint32 // a law that changes its mind 100 times a second does so for 16 months
	pauses   uint64
	waited   uint64
	waitSum  time.Duration
	waits    [WaitBuckets]uint64
	more     *tallyMore
}

// tallyMore tells waits and starts apart by what held them back.
type tallyMore struct {
	waitedFor [NumWhys]tallyWaits
	observed  [NumWhys]uint64
	// rounds is how many times a bucket has come round, which few ever do: 64 bits for each would be a kilobyte a guard. nil is never.
	rounds *[NumWhys][WaitBuckets]uint32
	held   held
}

// tallyWaits is Waits in less.
type tallyWaits struct {
	N       uint64
	Sum     time.Duration
	Buckets [WaitBuckets]uint32
}

// waited counts a wait.
func (n *tallyMore) waited(why Why, wait time.Duration) {
	f, i := &n.waitedFor[why], waitBucket(wait)
	f.N++
	f.Sum += wait
	if f.Buckets[i]++; f.Buckets[i] == 0 {
		if n.rounds == nil {
			n.rounds = &[NumWhys][WaitBuckets]uint32{}
		}
		n.rounds[why][i]++
	}
}

// waits returns what waited has counted.
func (n *tallyMore) waits() (all [NumWhys]Waits) {
	for y := range all {
		f, w := &n.waitedFor[y], &all[y]
		w.N, w.Sum = f.N, f.Sum
		for i, c := range f.Buckets {
			w.Buckets[i] = uint64(c)
			if n.rounds != nil {
				w.Buckets[i] += uint64(n.rounds[y][i]) << 32
			}
		}
	}
	return all
}

// by returns what is counted by what held callers back.
func (n *tally) by() *tallyMore {
	if n.more == nil {
		n.more = &tallyMore{}
	}
	return n.more
}

func (n *tally) counts() Counts {
	c := Counts{
		Outcomes: n.outcomes, Refused: n.refused, Canceled: n.canceled, Pauses: n.pauses, Waited: n.waited, WaitSum: n.waitSum, Waits: n.waits,
	}
	for i, times := range n.causes {
		c.Causes[i] = uint64(times)
	}
	if m := n.more; m != nil {
		c.WaitedFor, c.Observed = m.waits(), m.observed
	}
	return c
}

// Counts is what a Core has counted since it was made.
type Counts struct {
	// Outcomes is how many calls ended, by class.
	Outcomes [feedback.NumClasses]uint64
	// Refused is how many callers were refused, by reason.
	Refused [NumReasons]uint64
	// Canceled is how many callers gave up while they waited.
	Canceled uint64
	// Causes is how many times the decision changed, by cause.
	Causes [adaptive.NumCauses]uint64
	// Pauses is how many times an upstream's delay closed the gate or moved its end.
	Pauses uint64
	// Waited is how many callers waited and were granted a place; WaitSum is the time they
	// waited together, and Waits how many waited less than 2^i ms, each counted once.
	Waited  uint64
	WaitSum time.Duration
	Waits   [WaitBuckets]uint64
	// WaitedFor is how many of those callers waited, for how long together, and how many for less than 2^i ms, by what they
	// waited for longest.
	WaitedFor [NumWhys]Waits
	// Observed is how many calls started only because the Core observes (Config.Observe), by what would have
	// held them back.
	Observed [NumWhys]uint64
}

// Waits is a number of waits and their sum.
type Waits struct {
	N   uint64
	Sum time.Duration
	// Buckets is how many there are by their length, as in Counts.Waits.
	Buckets [WaitBuckets]uint64
}

// limitBuckets fills in the buckets of WhyLimit: all waits that are not for something else.
func (n *Counts) limitBuckets() {
	of := &n.WaitedFor[WhyLimit].Buckets
	for i, all := range n.Waits {
		of[i] = all
		for y := range n.WaitedFor {
			if Why(y) != WhyLimit {
				of[i] -= n.WaitedFor[y].Buckets[i]
			}
		}
	}
}

// WaitBuckets is the number of buckets of Counts.Waits. Bucket i holds waits of less than 2^i ms and, but
// for the first, at least 2^(i-1) ms; the last holds all longer ones.
const WaitBuckets = 20

// Init makes c ready. Instants given to c later are never before 0. A cfg without a Law may serve many Cores.
func (c *Core) Init(cfg *Config) {
	c.cfg = cfg
	c.meter.sampled.Store(cfg.Sampled)
	if cfg.Law != nil {
		c.open(0)
		return
	}
	c.apply(0, &cfg.First)
	if cfg.First.NotBefore > 0 || cfg.First.TokenPace > 0 || len(cfg.Budgets.Limits) > 0 {
		c.open(0) // the word alone cannot keep to it
	}
}

// open returns the state, made on first use.
func (c *Core) open(now time.Duration) *state {
	if c.state == nil {
		s := &state{law: c.cfg.Law}
		if s.law == nil {
			s.law = c.cfg.NewLaw()
		}
		s.jitter.Seed(c.cfg.Seed, 0x666c7962616c6c^uint64(now)) // guards of one configuration draw apart
		s.window.Start = now
		s.line.mean = time.Second
		s.decision = s.law.Decision()
		if c.calm.Load() {
			// What ended since the last look is in the meter, and the law's as soon as it asks for it.
			s.window.Start = max(0, min(now, time.Duration(c.askAt.Load())-lazyWindow))
			s.decision = s.law.Window(s.window.Start, calmWindow(s.window.Start))
			c.calm.Store(false)
		}
		s.queue.configure(&c.cfg.Room)
		s.budget.Configure(now, c.cfg.Budgets)
		s.estimate.Configure(c.cfg.Estimate)
		c.state = s
		c.slots.classed.Or(classesCount)
		c.obey(now)
	}
	return c.state
}

// Calm returns the decision of a new law that was told that one call ended well, and no more.
func Calm(law adaptive.Law) adaptive.Decision { return law.Window(0, calmWindow(0)) }

func calmWindow(at time.Duration) adaptive.Window { return adaptive.Window{Start: at, OK: 1} }

// idle returns the decision in force while there is no state.
func (c *Core) idle() *adaptive.Decision {
	if c.calm.Load() {
		return &c.cfg.Calm
	}
	return &c.cfg.First
}

// Rest drops the state of a Core without a Law of its own that has been idle: nobody in flight or waiting, nothing
// counted for a time of idle, no pause, and not closed. What it counted stays in part: successes do, the rest is forgotten. It reports
// whether it did. It needs the lock.
func (c *Core) Rest(now, idle time.Duration) bool {
	s := c.state
	if s == nil || c.cfg.Law != nil || c.slots.InFlight() > 0 || c.slots.Waiting() > 0 || now < s.gate || s.closed {
		return false
	}
	if c.meter.count(&c.slots) > 0 || s.window.OK > 0 {
		c.flush(now) // in use since the last look; its window begins now
		return false
	}
	if now-s.window.Start < idle || s.budget.Limited() {
		return false
	}
	c.state = nil
	c.slots.classed.Store(0)
	c.apply(now, &c.cfg.First)
	c.slots.setHeld(false)
	c.slots.setTells(false)
	return true
}

// Unused reports whether there is no state, and nobody in flight or waiting. It needs the lock.
func (c *Core) Unused() bool {
	return c.state == nil && c.slots.InFlight() == 0 && c.slots.Waiting() == 0
}

// Take takes a place without the lock, when one is free, nobody waits and nothing holds callers back.
// The caller then reads the clock, and calls Spend when Paced says so, and Start. It may be called at any time.
// n is how many calls are in flight with this one.
func (c *Core) Take() (n int, t Taken) { return c.slots.Take() }

// Try is Take for a caller to whom some nanoseconds matter: when the Attempt took one of several places, TakeLast need not be
// called. It may be called at any time.
func (c *Core) Try() Attempt { return c.slots.try() }

// TakeLast completes an Attempt that did not take one of several places. It may be called at any time.
func (c *Core) TakeLast(a Attempt) (n int, t Taken) { return c.slots.takeLast(a) }

// Draw is Attempt.Draw without an attempt. It may be called at any time.
func (c *Core) Draw() uint32 { return c.slots.draw() }

// Refuse refuses a caller whose Attempt took none, and counts it, when that was for want of a place only; it reports
// whether it did. It may be called at any time.
func (c *Core) Refuse() bool {
	if c.slots.diverts() {
		return false
	}
	c.slots.touchFull()
	c.refusedFast.Add(1)
	return true
}

// RefusedFast counts a caller that Take refused and that does not wait. It may be called at any time.
func (c *Core) RefusedFast() { c.refusedFast.Add(1) }

// Paced reports whether starts have a pace, so that Spend must be asked. It may be called at any time.
func (c *Core) Paced() bool { return c.pace.perUnit.Load() > 0 }

// Spend takes one start from the pace for a caller that Take gave a place; it reports whether it may
// start. When it may not, the place is given back, and the caller must take the lock, Ask and run Next. It
// may be called at any time.
func (c *Core) Spend(now time.Duration) bool {
	if c.pace.trySpend(now) {
		return true
	}
	c.slots.Give()
	return false
}

// Start returns the call that starts at now, or Untimed, in the place that Take gave. It may be
// called at any time.
func (c *Core) Start(now time.Duration, n int) adaptive.Call { return c.Begin(now, n, 0).Call() }

// Begin is Start for a call of a class, as a ticket.
func (c *Core) Begin(now time.Duration, n int, class uint8) Ticket {
	return Ticket{now, mark(n, class, c.episode.Load())}
}

// Ask asks for a place for w. The answer is in w.State: Granted, Queued or Refused. The caller must
// run Next afterwards, which may answer a w that was queued, and others. It needs the lock.
func (c *Core) Ask(now time.Duration, w *Waiter) {
	if c.cfg.Queue == 0 {
		c.AskNow(now, w)
		return
	}
	s := c.open(now)
	c.expire(now)
	c.unify(now)
	c.begin(now, w)
	w.Deadline = now + c.cfg.MaxWait
	earliest := now
	if w.GiveUp != 0 {
		s.follow(w)
		earliest, _ = c.earliest(now, w)
	}
	if r, at := c.hopelessBy(now, w, earliest); r != ReasonNone {
		_, w.Why = c.earliest(now, w)
		c.refuse(w, r, at)
		return
	}
	if s.queue.len() >= min(c.cfg.Queue, maxWaiting) {
		victim := s.queue.victim(&w.queueItem)
		if victim == nil {
			c.behind(w)
			c.refuse(w, ReasonQueueFull, c.soonest(now, w))
			return
		}
		v := victim.waiter
		c.WaitsFor(now, v)
		c.leave(v)
		c.refuse(v, ReasonDropped, c.soonest(now, v))
		s.answered = append(s.answered, v)
	}
	c.enter(w)
	c.holds(now, w)
	if r, at := c.late(now, w); r != ReasonNone {
		c.leave(w)
		c.behind(w)
		c.refuse(w, r, at)
	}
}

// AskNow asks for a place for a call that does not wait. The answer is in w.State: Granted or Refused.
// The caller must run Next afterwards. It needs the lock.
func (c *Core) AskNow(now time.Duration, w *Waiter) {
	s := c.open(now)
	c.expire(now)
	c.unify(now)
	c.begin(now, w)
	w.Deadline = now
	at, why := c.earliest(now, w)
	if r, at := c.hopelessBy(now, w, at); r != ReasonNone {
		w.Why = why
		c.refuse(w, r, at)
		return
	}
	c.enter(w)
	if next := s.queue.next(now, c.lowest()); next != &w.queueItem || !c.start(now, w, at, why) {
		c.leave(w)
		switch {
		case next == nil && c.slots.InFlight() < c.slots.Limit():
			w.Why = WhyReserved
		case next != &w.queueItem && s.queue.len() > 0:
			c.behind(w)
		}
		c.refuse(w, ReasonLimit, c.soonest(now, w))
	}
}

// begin readies w for an answer.
func (c *Core) begin(now time.Duration, w *Waiter) {
	s := c.state
	w.waiter = w
	w.Since, w.State, w.Reason, w.RetryAt, w.Why, w.reserved, w.charged = now, Idle, ReasonNone, 0, WhyNone, nil, nil
	w.expected = Cost{Input: w.Call.Tokens - w.Output, Output: w.Output}
	if s.budget.Limited() && w.Call.Tokens == 0 {
		w.expected = s.budget.fitted(s.estimate.Estimate(w.Call.Class, w.Output))
	}
	w.Cost = w.Said()
}

// hopeless returns why w need not wait, and when it is worth trying again: what it waits for comes too late.
func (c *Core) hopeless(now time.Duration, w *Waiter) (Reason, time.Duration) {
	s := c.state
	switch {
	case s.closed:
		return ReasonClosed, 0
	case s.gate > w.Deadline || s.gate > now && s.gate-now > c.cfg.MaxPause+c.jitterOf(c.cfg.MaxPause):
		return s.shut(), s.comeBack()
	case w.GiveUp != 0 && max(now, s.gate) >= w.GiveUp:
		return ReasonDeadline, max(now, s.gate)
	}
	if s.budget.Limited() {
		if e, ok := c.tooLarge(w); ok {
			w.TooLarge = e
			return ReasonTooLarge, 0
		}
	}
	return ReasonNone, 0
}

// tooLarge reports a limit that what w says it costs can never be reserved of. An estimate refuses nobody, as only calls that run make it smaller: where
// the limits became smaller since, it is cut to them once more.
func (c *Core) tooLarge(w *Waiter) (e TooLarge, ok bool) {
	b := &c.state.budget
	if e, ok = b.TooLarge(w.expected); ok && w.Call.Tokens == 0 {
		w.expected = b.fitted(w.expected)
		return TooLarge{}, false
	}
	return e, ok
}

// hopelessBy is hopeless and more for a w that can start at the earliest at an instant.
func (c *Core) hopelessBy(now time.Duration, w *Waiter, earliest time.Duration) (Reason, time.Duration) {
	if r, at := c.hopeless(now, w); r != ReasonNone {
		return r, at
	}
	if w.GiveUp != 0 && earliest > w.GiveUp {
		return ReasonDeadline, earliest
	}
	return ReasonNone, 0
}

// late returns whether w, which is queued, cannot start before it gives up, even if all calls before it were as
// quick as the quickest ever and as many were in flight as ever.
func (c *Core) late(now time.Duration, w *Waiter) (Reason, time.Duration) {
	if w.GiveUp == 0 {
		return ReasonNone, 0
	}
	return c.lateBehind(now, w, c.state.queue.position(&w.queueItem))
}

// lateBehind is late for a w that gives up and has position others before it.
func (c *Core) lateBehind(now time.Duration, w *Waiter, position int) (Reason, time.Duration) {
	s := c.state
	if s.quickest == 0 {
		return ReasonNone, 0
	}
	places := c.slots.Limit() - c.slots.InFlight()
	ahead := position - max(0, places)
	if ahead < 0 {
		return ReasonNone, 0
	}
	// All places turn over once in the time of the quickest call. A limit that was cut may come back, so it is
	// the highest so far that says how many places there can be.
	turns := time.Duration(ahead / max(1, int(s.highest)))
	if at := now + turns*seconds(s.quickest); at > w.GiveUp {
		return ReasonDeadline, now + turns*s.latency
	}
	return ReasonNone, 0
}

// seconds returns s as a duration.
func seconds(s float32) time.Duration { return time.Duration(float64(s) * 1e9) }

// lowest returns the lowest priority that may take the next place.
func (c *Core) lowest() uint8 {
	if c.cfg.Room.ReservedFor == 0 {
		return 0
	}
	return c.cfg.Room.lowest(c.slots.InFlight()+c.state.freed.places(), c.slots.Limit())
}

// MayUse reports whether a caller with a priority may keep the n-th place, which Take gave it; when it may not,
// the caller must Return it, take the lock, Ask and run Next. It may be called at any time.
func (c *Core) MayUse(cfg *QueueConfig, priority uint8, n int) bool {
	return cfg.mayUse(priority, n-1, c.slots.Limit())
}

// Return gives back a place that Take gave. The caller must take the lock and run Next. It may be called at any time.
func (c *Core) Return() { c.slots.Give() }

// Next answers one waiter that can be answered at now, and returns it; nil when there is none. A driver
// runs it until then whenever something may have changed, and then asks Wake. It needs the lock.
func (c *Core) Next(now time.Duration) *Waiter {
	s := c.state
	if s == nil {
		return nil
	}
	c.expire(now)
	c.hold(now)
	if n := len(s.answered); n > 0 {
		w := s.answered[0]
		s.answered = append(s.answered[:0], s.answered[1:]...)
		return w
	}
	if s.line.n > 0 {
		if s.easy && !c.Paced() {
			return c.nextPlain(now)
		}
		c.unify(now)
	}
	if s.queue.len() == 0 {
		return nil
	}
	if !s.easy || c.Paced() {
		s.fromQueue = 0
	} else if c.divide(now) {
		return c.nextPlain(now)
	}
	if c.cfg.Observe { // since a Reconfigure
		w := s.queue.next(now, 0).waiter
		since := w.Since
		c.leave(w)
		c.Observe(now, w)
		w.Since = since
		return w
	}
	if s.closed { // nobody starts, so no place is reserved
		return c.reject(now, s.queue.next(now, 0).waiter, ReasonClosed, 0)
	}
	if s.gate <= now && c.slots.InFlight() >= c.slots.Limit() {
		// Most often nothing has changed but that one place was taken.
		c.slots.touchFull()
		c.heldBy(now, WhyLimit, 0)
		if it := s.queue.expired(now); it != nil {
			return c.reject(now, it.waiter, ReasonMaxWait, c.soonest(now, it.waiter))
		}
		return nil
	}
	if it := s.queue.expiry.next(); it != nil && it.Deadline < s.gate {
		return c.reject(now, it.waiter, s.shut(), s.comeBack())
	}
	it := s.queue.next(now, c.lowest())
	if it != nil {
		w := it.waiter
		at, why := c.earliest(now, w)
		if r, at := c.hopelessBy(now, w, at); r != ReasonNone {
			c.heldBy(now, max(why, WhyLimit), w.Budget)
			return c.reject(now, w, r, at)
		}
		if at <= now && s.durations.makesWay(now, w, it.line.newest().waiter) {
			return c.reject(now, w, ReasonDeadline, c.soonest(now, w))
		}
		if c.start(now, w, at, why) {
			return w
		}
		c.heldBy(now, w.Why, w.Budget)
	} else if s.gate > now {
		c.heldBy(now, whyShut(s.held), 0)
	} else {
		s.queue.next(now, 0).waiter.Why = WhyReserved
		c.heldBy(now, WhyReserved, 0)
	}
	if it := s.queue.expired(now); it != nil {
		return c.reject(now, it.waiter, ReasonMaxWait, c.soonest(now, it.waiter))
	}
	return nil
}

// expire asks the law when it wants that although no call has ended, because a pace will not hold any more, or nothing is answered.
func (c *Core) expire(now time.Duration) {
	if d := &c.state.decision; d.Until > 0 && now >= d.Until && (!d.UntilFull || c.full()) {
		c.flush(now)
	}
}

// reject refuses w, which is queued.
func (c *Core) reject(now time.Duration, w *Waiter, r Reason, at time.Duration) *Waiter {
	c.WaitsFor(now, w)
	c.leave(w)
	c.refuse(w, r, at)
	return w
}

// Enter is Ask for the common case: nothing but places holds callers back, the queue has room, and all who wait are alike
// (see plainLine). When entered is true, w.State is Queued or Refused, and w expires at w.Deadline if it is queued; nobody can
// be answered then unless free is true, because a place is free: the caller must then run Next. When entered is false
// nothing was done: the caller must Ask. It needs the lock.
func (c *Core) Enter(now time.Duration, w *Waiter) (entered, free bool) {
	s := c.state
	if s == nil || !s.easy || c.Paced() || s.queue.len() > 0 || s.line.n >= min(c.cfg.Queue, maxWaiting) ||
		len(s.answered) > 0 || s.queue.only || !w.plain() {
		return false, false
	}
	w.Since, w.State, w.Reason, w.Why, w.Behind = now, Queued, ReasonNone, WhyLimit, int32(s.line.n)
	w.Deadline = now + c.cfg.MaxWait
	if w.GiveUp != 0 {
		s.follow(w)
		r, at := ReasonDeadline, now
		if now < w.GiveUp {
			r, at = c.lateBehind(now, w, s.line.n)
		}
		if r != ReasonNone {
			c.refuse(w, r, at)
			return true, false
		}
	}
	if !s.line.push(w) {
		w.State = Idle
		return false, false
	}
	c.slots.addWaiting()
	if free = c.slots.view().free() > 0; !free {
		c.slots.touchFull()
	}
	return true, free
}

// HandOver is Tend and Next for the common case: nothing but places holds callers back, one is free, all who wait are
// alike (see plainLine), and the law is not due. It gives the place to whoever goes next, and returns it. Nobody else can be answered then, and the next
// instant at which somebody could is no earlier than before, unless more is true: the caller must then run Next. When it
// returns nil it has done nothing: the caller must Tend and run Next. It needs the lock.
func (c *Core) HandOver(now time.Duration) (w *Waiter, more bool) {
	s := c.state
	if s == nil || s.line.n < 2 || !s.easy || len(s.answered) > 0 || c.Paced() || c.due(now) {
		return nil, false
	}
	if w = s.line.head; w.Deadline <= now || w.GiveUp != 0 && (w.GiveUp <= now || s.durations.makesWay(now, w, s.line.tail)) {
		return nil, false
	}
	n, ok := c.slots.takeFor()
	if !ok {
		return nil, false
	}
	if more = n < c.slots.Limit(); !more {
		c.slots.touchFull()
	}
	return c.startPlain(now, n), more
}

// full reports whether callers wait because all places are taken.
func (c *Core) full() bool { return c.slots.Waiting() > 0 && c.slots.InFlight() >= c.slots.Limit() }

// Wake returns the next instant at which Next could answer somebody without anything having
// happened before; ok is false when nobody waits. It needs the lock.
func (c *Core) Wake(now time.Duration) (at time.Duration, ok bool) {
	s := c.state
	switch {
	case s == nil:
		return 0, false
	case s.line.n > 0 && c.slots.view().free() > 0:
		return now, true
	case s.line.n > 0:
		at = s.line.head.Deadline
		if d := &s.decision; d.UntilFull && d.Until > now {
			at = min(at, d.Until)
		}
		return max(now, at), true
	case s.queue.len() == 0:
		return 0, false
	}
	at, ok = s.queue.nextExpiry()
	if c.full() {
		if d := &s.decision; d.UntilFull && d.Until > now && (!ok || d.Until < at) {
			at, ok = d.Until, true
		}
	} else {
		lowest := c.lowest()
		if lowest > 0 && s.freed.places() > 0 { // a place that is held makes others reserved
			if open := s.freed.opens(1); !ok || open < at {
				at, ok = open, true
			}
		}
		if age, ages := s.queue.ages(now, lowest); ages && (!ok || age < at) {
			at, ok = age, true
		}
		if it := s.queue.next(now, lowest); it != nil {
			start, _ := c.earliest(now, it.waiter)
			if until := s.decision.Until; until > now && !s.decision.UntilFull && until < start {
				start = until // one that is over changed nothing: the law has been asked since
			}
			if !ok || start < at {
				at, ok = start, true
			}
		}
	}
	return max(at, now), ok
}

// Observe starts a call whatever holds it back, and counts what did: it is Ask for a Core that observes. The
// caller must run Next afterwards. It needs the lock.
func (c *Core) Observe(now time.Duration, w *Waiter) {
	s := c.open(now)
	c.expire(now)
	c.begin(now, w)
	w.State = Granted
	if s.closed {
		c.refuse(w, ReasonClosed, 0)
		return
	}
	_, why := c.earliest(now, w)
	if why == WhyNone && !c.pace.trySpend(now) {
		why = WhyPace
	}
	n, ok := c.slots.force()
	if !ok {
		c.refuse(w, ReasonLimit, c.soonest(now, w))
		return
	}
	n += s.freed.places()
	if n >= c.slots.Limit() {
		c.slots.touchFull()
	}
	if why == WhyNone && n > c.slots.Limit() {
		why = WhyLimit
	}
	if _, ok := c.tooLarge(w); ok {
		why = WhyBudget
	}
	if why != WhyNone {
		s.counts.by().observed[why]++
	}
	s.tokens.spend(now, float64(w.Call.Tokens))
	c.reserve(now, w)
	w.Call.SentAt, w.Call.Episode, w.Call.InFlight, w.Call.Begun = now, s.decision.Episode, n, false
}

// Share puts a copy of the configuration in force that differs in OnDecision only. It needs the lock.
func (c *Core) Share(cfg *Config) { c.cfg = cfg }

// Reclaim gives back the place of a call that will not be ended, and counts it as canceled. What it reserved stays
// charged: it may have been used. The caller must run Next afterwards. It needs the lock.
func (c *Core) Reclaim(now time.Duration, g *Grant) {
	c.open(now).counts.outcomes[feedback.Canceled]++
	c.settle(now, g, &adaptive.Outcome{Class: feedback.Canceled})
	c.give()
}

// give ends a call that was counted under the lock.
func (c *Core) give() {
	c.meter.seen.Add(1) // it is not one of those that are counted by their ends
	c.slots.End(0)
}

// Observing reports whether c holds nothing back. It needs the lock.
func (c *Core) Observing() bool { return c.cfg.Observe }

// Reconfigure puts another configuration in force. Nobody loses a place, and those who wait go on waiting; with a
// shorter MaxWait no longer than that from now. Law replaces the law in use unless it is nil; flyball's own is
// then tuned, and another one replaced by it, when tune is given. The caller must run Next afterwards. It
// needs the lock.
func (c *Core) Reconfigure(now time.Duration, cfg *Config, tune *adaptive.Config) {
	if cfg.Sampled != c.cfg.Sampled {
		c.flush(now) // what was counted was counted the other way
		c.meter.sampled.Store(cfg.Sampled)
	}
	c.cfg = cfg
	s := c.state
	if s != nil {
		c.unify(now)
		s.queue.hasten(now + cfg.MaxWait)
		s.queue.configure(&cfg.Room)
		s.budget.Configure(now, cfg.Budgets)
		s.estimate.Configure(cfg.Estimate)
		c.hold(now)
	}
	switch {
	case s == nil && cfg.Law != nil:
		c.open(now) // its decision is in force from now on, as with Init
	case s == nil:
		look := c.askAt.Load()
		c.apply(now, c.idle())
		c.askAt.Store(look)
	case cfg.Law != nil && cfg.Law != s.law:
		s.law = cfg.Law
		c.decide(now, s.law.Decision())
	case tune != nil:
		if own, ok := s.law.(*adaptive.Governor); ok {
			c.decide(now, own.Tune(now, *tune))
		} else {
			s.law = adaptive.New(*tune)
			c.decide(now, s.law.Decision())
		}
	}
}

// Undo takes back that w was granted a place: its caller gave up before it knew. The place and
// what the start spent are as if it had never been. The caller must run Next afterwards. It needs the lock.
func (c *Core) Undo(now time.Duration, w *Waiter) {
	c.state.counts.canceled++
	c.takeBack(now, &w.Grant, w.Charge(), 0)
	w.State = Idle
}

// Abandon ends a call that was never made: what it took is as if it had never been, and so is what its start was charged, but for Turn. The caller
// must run Next afterwards. It needs the lock.
func (c *Core) Abandon(now time.Duration, g *Grant, of Charge) {
	c.open(now)
	c.takeBack(now, g, of, c.Turn(now, g.Call.SentAt))
}

// Turn returns for how much of the mean time that calls take one that started at sent, or Untimed, has held its place (0 to 1). That much of what its
// start was charged is not given back, though it used nothing: others waited for the place. Where nobody knows how long calls take, it is all. It needs
// the lock.
func (c *Core) Turn(now, sent time.Duration) float64 {
	switch held := now - sent; {
	case sent < 0 || held <= 0:
		return 0
	case c.state == nil || held >= c.state.latency:
		return 1
	default:
		return float64(held) / float64(c.state.latency)
	}
}

// part returns so much of a cost.
func part(cost int64, turn float64) int64 { return int64(float64(cost)*turn + 0.5) }

// takeBack ends a call that was never made and is charged no more than a part (0 to 1) of what its start was.
func (c *Core) takeBack(now time.Duration, g *Grant, of Charge, turn float64) {
	s := c.open(now)
	if of.cost > 0 {
		s.queue.chargeUnder(of.under, of.tenant, of.priority, part(of.cost, turn)-of.cost)
	}
	c.pace.refund()
	s.tokens.refund(float64(g.Call.Tokens))
	if r := g.reserved; r != nil {
		s.budget.Refund(now, &r.Reservation)
		s.queue.chargeUnder(r.under, r.tenant, r.priority, part(r.cost, turn)-r.cost)
		c.recycle(g)
	}
	c.slots.Give()
}

// reserve takes what w is expected to cost from the budgets.
func (c *Core) reserve(now time.Duration, w *Waiter) {
	s := c.state
	if !s.budget.Limited() {
		return
	}
	r := s.spare
	if r == nil {
		r = &reserved{}
	} else {
		s.spare = r.next
	}
	var ok bool
	if r.Reservation, ok = s.budget.Reserve(now, w.expected); !ok {
		r.next, s.spare = s.spare, r // only a Core that observes starts without
		return
	}
	r.tenant, r.priority, r.cost, r.said, r.under, r.next = w.Tenant, w.Priority, w.Cost, w.Said(), s.queue.cfg, nil
	w.reserved = r
}

// settle charges what a call used, in place of what it reserved.
func (c *Core) settle(now time.Duration, g *Grant, o *adaptive.Outcome) {
	s := c.state
	usage := feedback.Usage{
		Known: o.InputTokens > 0 || o.OutputTokens > 0,
		Input: clampUnits(o.InputTokens), Output: clampUnits(o.OutputTokens), CachedInput: o.CachedTokens,
	}
	if s.budget.Limited() && o.Class == feedback.OK {
		s.estimate.Learn(g.Call.Class, usage)
	}
	r := g.reserved
	if r == nil {
		return
	}
	if o.Class == feedback.OK && usage.Known {
		s.queue.learn(r.priority, r.said, usage.Input+usage.Output)
	}
	for _, w := range o.Windows {
		s.budget.Sync(now, w, &r.Reservation)
	}
	held := int64(0)
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
		usage = feedback.Usage{Known: true} // a refused call used no tokens; the request counts, and the time for which it held its place
		held = part(r.cost, c.Turn(now, g.Call.SentAt))
	case feedback.Canceled, feedback.Timeout, feedback.ServerError:
		if usage.Known {
			// It was cut while the upstream was at work: what it told is the least that it used.
			usage.Output = max(usage.Output, r.Reservation.cost.Output)
			if usage.Input == 0 {
				usage.Input = r.Reservation.cost.Input
			}
		}
	}
	s.budget.Settle(now, &r.Reservation, usage)
	if usage.Known {
		s.queue.chargeUnder(r.under, r.tenant, r.priority, max(held, usage.Input+usage.Output)-r.cost)
	}
	c.recycle(g)
}

// recycle keeps what g reserved with for use again.
func (c *Core) recycle(g *Grant) {
	g.reserved.next, c.state.spare = c.state.spare, g.reserved
	g.reserved = nil
}

// Cancel takes w out of the room, when it is there, because its caller gave up. It reports false when
// w had been answered already; a place that it was granted is then the caller's to Undo.
// It needs the lock. The caller must run Next afterwards: w may have been the head that others waited behind.
func (c *Core) Cancel(w *Waiter) bool {
	s := c.state
	if w.State != Queued {
		return false
	}
	c.leave(w)
	w.State = Idle
	s.counts.canceled++
	return true
}

// Finish ends a call, if that needs no lock. Unless it says Ended, the caller must take the lock, call Settle with what it said and the same
// arguments, and run Next. It may be called at any time, once for each call.
func (c *Core) Finish(now time.Duration, g *Grant, o *adaptive.Outcome) Ending {
	if !plain(now, g, o) {
		return NotEnded
	}
	return c.End(now, Ticket{At: g.Call.SentAt, mark: markOf(&g.Call)})
}

// Ending says what became of End.
type Ending uint8

const (
	// Ended means that the call ended, and nothing is left to do.
	Ended Ending = iota
	// EndedServe means that the call ended, and that the caller must take the lock and run Tend and Next.
	EndedServe
	// NotEnded means that the call did not end: the caller must take the lock, Settle it, and run Next.
	NotEnded
)

// End is Finish for a call that is known to say no more than how long it took, from its ticket. It may be called at
// any time, once for each call.
func (c *Core) End(now time.Duration, t Ticket) Ending {
	latency := max(0, now-t.At) // the clock may have stood still or gone back
	if latency >= meterLongest || t.At < 0 {
		return NotEnded
	}
	if t.mark&markOfClass != 0 && c.classed() {
		return NotEnded
	}
	if c.meter.sampled.Load() {
		c.meter.timed.Add(1)
	}
	if c.meter.lowers(latency) || c.meter.raises(t.inFlight()) {
		c.meter.note(latency, t.inFlight())
	}
	if c.slots.End(uint64(latency)>>sumUnit) || int64(now) >= c.askAt.Load() {
		return EndedServe
	}
	return Ended
}

// classed reports whether a call of another class than 0 that ends is to be counted under the lock, and by its class: as soon as there is a law.
// It may be called at any time.
func (c *Core) classed() bool {
	switch classed := c.slots.classed.Load(); {
	case classed&classesCount != 0:
		return true
	case classed == 0:
		c.slots.classed.Or(classesMixed)
	}
	return false
}

// What Slots.classed holds.
const (
	classesCount = 1 << iota // there is a law
	classesMixed             // the meter has counted calls of other classes than 0
)

// EndUntimed ends a call that ended well and whose start was not timed. It may be called at any time, once for
// each call.
func (c *Core) EndUntimed(t Ticket) Ending {
	if !c.meter.sampled.Load() {
		return NotEnded // since a Reconfigure all calls are timed
	}
	if c.meter.raises(t.inFlight()) {
		c.meter.note(Untimed, t.inFlight())
	}
	if c.slots.End(0) {
		return EndedServe
	}
	return Ended
}

// EndSpent ends a call that ended well, says no more than how long it took and what tokens it used, and reserved
// none of them, when nothing else is due: nobody waits, there are no budgets, and the law wants no window. done is false when it did
// nothing: the caller must Settle the call, and run Next. It needs the lock.
func (c *Core) EndSpent(now time.Duration, t Ticket, o *adaptive.Outcome) (done bool) {
	s := c.state
	if s == nil || c.slots.Waiting() > 0 || s.budget.Limited() || s.freed != nil || c.due(now) {
		return false
	}
	call := t.Call()
	c.count(now, &call, o)
	c.give()
	return true
}

// Tend asks the law, when it is due. The caller must run Next afterwards. It needs the lock.
func (c *Core) Tend(now time.Duration) {
	if c.due(now) {
		c.flush(now)
	}
}

// due reports whether the law is to be asked, or what was counted must be collected.
func (c *Core) due(now time.Duration) bool {
	return int64(now) >= c.askAt.Load() || c.slots.brimming() || c.meter.count(&c.slots) >= endsTurn
}

// plain reports whether a call says nothing but how long it took.
func plain(now time.Duration, g *Grant, o *adaptive.Outcome) bool {
	call := &g.Call
	return int64(o.Class)|int64(o.FirstByte)|o.InputTokens|o.OutputTokens|int64(len(o.Windows))|call.Tokens == 0 &&
		g.reserved == nil && call.SentAt >= 0 && now-call.SentAt < meterLongest && !call.Begun
}

// Settle does the part of Finish that needs the lock. What Finish, or End, said counts, and not what a call tells: somebody
// else may have made the state meanwhile, which has calls of classes counted under the lock.
func (c *Core) Settle(now time.Duration, e Ending, g *Grant, o *adaptive.Outcome) {
	c.took(now, g.Call.SentAt, g.Call.Class, o.Class)
	if e != NotEnded {
		c.Tend(now)
		return
	}
	s := c.open(now)
	// The place is given back last, also when the law panics: a refused call's place must not start the next one
	// before the law has answered.
	defer c.giveBack(now, o.Class)
	call := &g.Call
	sent := call.SentAt
	c.settle(now, g, o)
	if o.Class == feedback.OK {
		c.count(now, call, o)
	} else {
		// The law sees what went well before it sees what did not.
		c.flush(now)
		s.counts.outcomes[min(int(o.Class), feedback.NumClasses-1)]++
		if call.SentAt < 0 {
			call.SentAt = now
		}
		told := *o
		told.RetryAfter = Asked(o, c.cfg.MaxPause)
		told.HasRetryAfter = c.Heeds(o) && !Absurd(o, c.cfg.MaxPause) // what is not believed is not to be learned from
		c.decide(now, s.law.Ended(now, *call, told))
		c.pause(now, sent, o)
	}
	for i := range o.Windows {
		w := &o.Windows[i]
		if s.resets == nil && w.Reset > 0 {
			s.resets = new(resets)
		}
		if s.resets != nil {
			s.resets.note(sent, now, w)
		}
		c.decide(now, s.law.Hint(now, *w))
	}
	if o.Class == feedback.OK && c.due(now) {
		c.flush(now)
	}
}

// giveBack gives back the place of a call that ended with a class.
func (c *Core) giveBack(now time.Duration, class feedback.Class) {
	c.noteFreed(now)
	switch class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
		c.state.freed.skip() // the upstream never counted it
	}
	c.give()
}

// Began tells the law that the answer to a call in flight has begun, once a call, if the law listens (adaptive.Listener). A guard that has met
// no limit has nobody to tell. The caller must run Next afterwards. It needs the lock.
func (c *Core) Began(now time.Duration, g *Grant) {
	if g.Call.Begun || c.state == nil && !c.slots.full.Load() {
		return
	}
	law, ok := c.open(now).law.(adaptive.Listener)
	if !ok {
		return
	}
	if c.due(now) {
		c.flush(now)
	}
	g.Call.Begun = true
	c.decide(now, law.Began(now, g.Call))
}

// Close refuses all who wait and all who ask from now on. Calls in flight end as ever. It needs the
// lock; the caller must run Next afterwards.
func (c *Core) Close(now time.Duration) {
	s := c.open(now)
	s.closed = true
	c.hold(now)
}

// Closed reports whether Close was called. It needs the lock.
func (c *Core) Closed() bool { return c.state != nil && c.state.closed }

// Pause closes the gate until the instant until; a gate that is closed for longer stays so. It
// needs the lock.
func (c *Core) Pause(now, until time.Duration) { c.shut(now, until, false) }

// Held reports whether it was the law that closed the gate. It needs the lock.
func (c *Core) Held() bool { return c.state != nil && c.state.held }

// shut is why callers are refused while the gate is closed.
func (s *state) shut() Reason {
	if s.held {
		return ReasonHeld
	}
	return ReasonPaused
}

// whyShut is what callers wait for while the gate is closed, by the law or not.
func whyShut(byLaw bool) Why {
	if byLaw {
		return WhyHold
	}
	return WhyPause
}

// comeBack is when callers that are refused while the gate is closed should try again: when the upstream said, if it did.
func (s *state) comeBack() time.Duration {
	if s.held {
		return s.gate
	}
	return max(s.gate, s.asked)
}

// shut closes the gate.
func (c *Core) shut(now, until time.Duration, byLaw bool) {
	s := c.open(now)
	if until <= now {
		return
	}
	if until <= s.gate {
		if !byLaw {
			s.asked = max(s.asked, until)
		}
		return
	}
	s.held = byLaw
	s.spread = min(resumeSpread, until-now)
	if s.latency > 0 {
		s.spread = min(s.spread, s.latency)
	}
	s.gate = until
	if !byLaw {
		s.asked = until
	}
	s.resumeNext, s.resumeEnd = until, until+s.spread
	s.counts.pauses++
	c.hold(now)
}

// ShareBudget has the budget's limits hold a share (0 to 1) each of what was configured; see Budget.Share. Shares that are missing stay.
// The caller must run Next afterwards. It needs the lock.
func (c *Core) ShareBudget(now time.Duration, shares []float64) {
	s := c.open(now)
	for i := range min(len(shares), len(s.budget.windows)) {
		s.budget.Share(now, i, min(max(shares[i], 0), 1))
	}
	c.hold(now)
}

// Resume opens the gate. The caller must run Next afterwards. It needs the lock.
func (c *Core) Resume(now time.Duration) {
	if s := c.state; s != nil {
		s.gate, s.asked, s.resumeEnd = min(s.gate, now), min(s.asked, now), min(s.resumeEnd, now)
		c.hold(now)
	}
}

// Counts returns what c has counted. It needs the lock.
func (c *Core) Counts() (n Counts) {
	if s := c.state; s != nil {
		n = s.counts.counts()
		n.Waited += s.line.waited
		n.WaitSum += s.line.sum
		n.limitBuckets()
		n.WaitedFor[WhyLimit].N += s.line.waited
		n.WaitedFor[WhyLimit].Sum += s.line.sum
		n.Outcomes[feedback.OK] += uint64(s.window.OK)
	}
	n.Outcomes[feedback.OK] += c.ended + c.meter.count(&c.slots)
	n.Refused[ReasonLimit] += c.refusedFast.Load()
	return n
}

// Decision returns the decision in force. It needs the lock.
func (c *Core) Decision() adaptive.Decision {
	if c.state == nil {
		return *c.idle()
	}
	return c.state.decision
}

// Gate returns the instant before which nothing starts. It needs the lock.
func (c *Core) Gate() time.Duration {
	if c.state == nil {
		return 0
	}
	return c.state.gate
}

// Asked returns the instant before which nothing starts because somebody asked for that, the upstream or whoever called Pause, and not the
// law. It is not after Gate, and needs the lock.
func (c *Core) Asked() time.Duration {
	if c.state == nil {
		return 0
	}
	return min(c.state.gate, c.state.asked)
}

// InFlight, Limit and Waiting may be called at any time.

// InFlight returns how many calls are in flight.
func (c *Core) InFlight() int { return c.slots.InFlight() }

// Limit returns how many calls may be in flight.
func (c *Core) Limit() int { return c.slots.Limit() }

// Waiting returns how many callers wait.
func (c *Core) Waiting() int { return c.slots.Waiting() }

// start moves w, which is queued, to a place when gate, pace and places allow it. earliest and why are what c.earliest returns.
func (c *Core) start(now time.Duration, w *Waiter, earliest time.Duration, why Why) bool {
	s := c.state
	if earliest > now {
		if why == WhyFreed {
			c.slots.touchFull()
		}
		w.Why = why
		return false
	}
	if !c.pace.trySpend(now) {
		w.Why = WhyPace
		return false
	}
	n, ok := c.slots.takeFor()
	if !ok {
		c.pace.refund()
		c.slots.touchFull()
		w.Why = WhyLimit
		return false
	}
	s.fromQueue = min(s.fromQueue, math.MaxInt32-1) + 1
	n += s.freed.places()
	if n >= c.slots.Limit() {
		c.slots.touchFull()
	}
	c.grant(now, w, n)
	c.reserve(now, w)
	s.tokens.spend(now, float64(w.Call.Tokens))
	if now < s.resumeEnd {
		s.resumeNext = max(s.resumeNext, now) + s.spread/time.Duration(c.slots.Limit())
		if !s.held {
			// A quota that allows one call at once has saved up no more in the pause than what this one takes.
			c.pace.drain(now)
		}
	}
	return true
}

// grant gives w, which is queued, the n-th place.
func (c *Core) grant(now time.Duration, w *Waiter, n int) {
	s := c.state
	if len(w.line.class.lines) > 1 {
		w.charged = s.queue.cfg
	}
	wait := now - w.Since
	if wait > 0 {
		c.WaitsFor(now, w)
	}
	s.queue.start(&w.queueItem)
	w.State = Granted
	w.Call.SentAt, w.Call.Episode, w.Call.InFlight, w.Call.Begun = now, s.decision.Episode, n, false
	if wait > 0 {
		s.line.waits(wait)
		s.counts.waited++
		s.counts.waitSum += wait
		s.counts.waits[waitBucket(wait)]++
		s.counts.by().waited(w.Why, wait)
	}
}

// waitBucket returns which of Counts.Waits counts a wait.
func waitBucket(wait time.Duration) int {
	return min(bits.Len64(uint64(wait/time.Millisecond)), WaitBuckets-1)
}

// earliest returns when gate and pace let w start, whatever places are free, and what it waits for until then.
func (c *Core) earliest(now time.Duration, w *Waiter) (at time.Duration, why Why) {
	s := c.state
	at = now
	if s.gate > at {
		at, why = s.gate, whyShut(s.held)
	}
	if at < s.resumeEnd {
		if t := min(s.resumeNext, s.resumeEnd); t > at {
			at, why = t, WhyResume
		}
	}
	if c.Paced() {
		if t := c.pace.at(now); t > at {
			at, why = t, WhyPace
		}
	}
	if w.Call.Tokens > 0 {
		if t := s.tokens.at(now, float64(w.Call.Tokens)); t > at {
			at, why = t, WhyTokenPace
		}
	}
	if s.budget.Limited() {
		if t, i := s.budget.At(now, w.expected); t > at {
			at, why, w.Budget = t, WhyBudget, i
		}
	}
	if s.freed != nil {
		if t := c.freedAt(now); t > at {
			at, why = t, WhyFreed
		}
	}
	return at, why
}

// leave takes w, which is queued, out of the room.
func (c *Core) leave(w *Waiter) {
	s := c.state
	if w.inLine {
		s.line.remove(w)
	} else {
		s.queue.remove(&w.queueItem)
	}
	c.slots.dropWaiting()
}

// enter puts w at the end of the queue.
func (c *Core) enter(w *Waiter) {
	s := c.state
	w.State, w.Why, w.Behind = Queued, WhyLimit, int32(c.slots.Waiting())
	s.queue.push(&w.queueItem)
	c.slots.addWaiting()
}

func (c *Core) refuse(w *Waiter, r Reason, retryAt time.Duration) {
	s := c.state
	w.State, w.Reason, w.RetryAt = Refused, r, retryAt
	s.counts.refused[r]++
}

// soonest returns the earliest instant at which w could have started; when only places were
// missing, it is a guess: one mean latency from now. It is 0 when there is nothing to guess from.
func (c *Core) soonest(now time.Duration, w *Waiter) time.Duration {
	s := c.state
	if at, _ := c.earliest(now, w); at > now {
		return at
	}
	if s.latency == 0 {
		return 0
	}
	return now + s.latency
}

// pause closes the gate for a delay that an answer named to a call that started at sent, or Untimed. A delay next to a limit on calls in
// flight says when to try that call again; it is no reason to let free places stand empty.
func (c *Core) pause(now, sent time.Duration, o *adaptive.Outcome) {
	s := c.state
	if !c.Heeds(o) || o.RetryAfter <= 0 || c.cfg.IgnoreRetryAfter || o.Scope == feedback.ScopeConcurrency {
		return
	}
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
	default:
		return
	}
	asked, named := Asked(o, c.cfg.MaxPause), now+min(o.RetryAfter, maxGate)
	if Absurd(o, c.cfg.MaxPause) {
		asked = s.absurd.disbelieve(now, sent, c.ended, c.slots.ended(), c.slots.InFlight(), c.cfg.MaxPause)
		if asked < c.cfg.MaxPause {
			named = now + asked // who is refused meanwhile is not told what is not believed
		}
	}
	until := now + asked
	if until <= s.gate {
		s.held = s.held && until < s.gate
		if s.gate > now {
			s.asked = max(s.asked, named)
		}
		return // told before, or not believed
	}
	if most := c.jitterOf(asked); most > 0 {
		until += time.Duration(s.jitter.Uint64() % uint64(most))
	}
	c.Pause(now, until)
	s.asked = max(s.asked, named)
}

// jitterOf returns by how much a pause is longer than what was asked for, at most.
func (c *Core) jitterOf(asked time.Duration) time.Duration {
	return max(0, min(time.Duration(float64(asked)*c.cfg.PauseJitter), maxPauseJitter))
}

// Asked returns for how long the Retry-After of o keeps a guard away whose longest pause is maxPause (0: any is believed): not at all when it is
// longer, see Absurd, and for a day at most.
func Asked(o *adaptive.Outcome, maxPause time.Duration) time.Duration {
	if Absurd(o, maxPause) {
		return 0
	}
	return min(o.RetryAfter, maxGate)
}

// count adds a call that ended well, and that tells more than its latency, to the window.
func (c *Core) count(now time.Duration, call *adaptive.Call, o *adaptive.Outcome) {
	s := c.state
	w := &s.window
	w.OK++
	if call.SentAt >= 0 {
		latency := max(0, now-call.SentAt)
		if w.Timed == 0 || latency < w.MinLatency {
			w.MinLatency = latency
		}
		w.Timed++
		w.Latency += latency
		s.countClass(call.Class%adaptive.NumClasses, latency, o.OutputTokens)
	} else if w.Classes != nil {
		w.Classes[0].OutputTokens -= o.OutputTokens // the classes are of timed calls
	}
	if call.Begun {
		w.Begun++
	}
	if o.FirstByte > 0 {
		w.FirstBytes++
		w.FirstByte += o.FirstByte
	}
	w.Tokens += o.Tokens()
	w.OutputTokens += o.OutputTokens
	w.CachedTokens += o.CachedTokens
	w.MaxInFlight = max(w.MaxInFlight, call.InFlight)
}

// countClass adds a call of a class to the window's classes.
func (s *state) countClass(class uint8, latency time.Duration, tokens int64) {
	if class == 0 {
		return // see tellClasses
	}
	if s.window.Classes == nil {
		s.window.Classes = new([adaptive.NumClasses]adaptive.ClassSum)
	}
	s.several = true
	of := &s.window.Classes[class]
	of.Timed++
	of.Latency += latency
	of.OutputTokens += tokens
}

// tellClasses gives w its classes, if they are several. The calls of class 0 are what the others leave, less the tokens of calls that were not timed.
func (s *state) tellClasses(w *adaptive.Window) {
	if w.Classes == nil {
		return
	}
	zero := adaptive.ClassSum{Timed: w.Timed, Latency: w.Latency, OutputTokens: w.OutputTokens + w.Classes[0].OutputTokens}
	w.Classes[0] = adaptive.ClassSum{}
	if !s.several {
		w.Classes = nil
		return
	}
	for i := range w.Classes[1:] {
		of := &w.Classes[i+1]
		zero.Timed, zero.Latency, zero.OutputTokens = zero.Timed-of.Timed, zero.Latency-of.Latency, zero.OutputTokens-of.OutputTokens
	}
	w.Classes[0] = zero
}

// flush hands the window to the law. Without a law there is nothing to hand over as long as the limit is
// not in use: a law would not grow, either.
func (c *Core) flush(now time.Duration) {
	n := c.meter.collect(&c.slots)
	c.ended += uint64(n.ok)
	s := c.state
	if s == nil {
		if !n.full {
			if n.ok > 0 && !c.calm.Load() {
				c.calm.Store(true)
				c.apply(now, &c.cfg.Calm)
			}
			c.askAt.Store(int64(now + lazyWindow))
			return
		}
		s = c.open(now)
	}
	w := s.window
	c.ended += uint64(w.OK)
	if c.slots.classed.Load()&classesMixed != 0 {
		n.timed = 0 // they are of before there was a law, and of classes that nobody told apart
		c.slots.classed.Store(classesCount)
	}
	if n.timed > 0 {
		if w.Timed == 0 || n.min < w.MinLatency {
			w.MinLatency = n.min
		}
		w.Timed += n.timed
		w.Latency += n.sum
	}
	w.OK += n.ok
	w.MaxInFlight = max(w.MaxInFlight, n.most)
	w.Full = w.Full || n.full
	w.InFlight, w.Waiting = c.slots.InFlight(), c.slots.Waiting()
	c.noteFreed(now)
	w.Held = s.freed.places()
	if w.Timed > 0 {
		s.latency = w.MeanLatency()
		if q := float32(w.MinLatency.Seconds()); s.quickest == 0 || q < s.quickest {
			s.quickest = q
		}
	}
	s.window = adaptive.Window{Start: now, Classes: w.Classes}
	s.tellClasses(&w)
	if s.durations != nil {
		s.durations.window(now, &w)
	}
	d := s.law.Window(now, w)
	if s.several {
		*w.Classes, s.several = [adaptive.NumClasses]adaptive.ClassSum{}, false
	}
	c.decide(now, d)
}

// decide puts the law's decision in force.
func (c *Core) decide(now time.Duration, d adaptive.Decision) {
	s := c.state
	old := s.decision
	s.decision = d
	c.askAt.Store(int64(d.AskAgain))
	old.AskAgain, old.Until, old.UntilFull = d.AskAgain, d.Until, d.UntilFull
	if old == d {
		return
	}
	s.counts.causes[min(int(d.Cause), adaptive.NumCauses-1)]++
	c.obey(now)
	if c.cfg.OnDecision != nil {
		c.cfg.OnDecision(now, d)
	}
}

// obey applies the decision in force.
func (c *Core) obey(now time.Duration) {
	d := &c.state.decision
	c.apply(now, d)
	c.state.highest = max(c.state.highest, int32(min(d.Limit, math.MaxInt32)))
	c.state.tokens.set(now, d.TokenPace, d.TokenPace*tokenDepth)
	if d.FreeAfter > 0 || c.state.freed != nil {
		c.freeAfter(now, d.FreeAfter)
	}
	if d.NotBefore > now {
		c.shut(now, d.NotBefore, true)
	}
	c.hold(now)
}

// apply gives the lock-free path what it needs of a decision.
func (c *Core) apply(now time.Duration, d *adaptive.Decision) {
	c.askAt.Store(int64(d.AskAgain))
	c.episode.Store(d.Episode)
	c.slots.setLimit(d.Limit)
	c.pace.set(now, d.Pace, min(paceBurst, 1+max(min(paceShare, d.Pace*paceLate), d.Pace*paceSoon)))
}

// hold sends callers to the lock while anything else than places and the pace of starts may hold them
// back, and lets them pass without it when nothing does.
func (c *Core) hold(now time.Duration) {
	s := c.state
	c.noteFreed(now)
	held := s.closed || now < s.gate || now < s.resumeEnd || s.tokens.perUnit > 0 || s.budget.Limited() || s.freed != nil
	c.slots.setHeld(held)
	s.easy = !held && !c.cfg.Observe && c.cfg.Room.ReservedFor == 0
}
