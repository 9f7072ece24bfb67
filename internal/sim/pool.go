package sim

import (
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/event"
)

// anyKey is a caller that takes whichever key has room first.
const anyKey = -1

// pool drives the guards of several keys as limiter.Pool does: callers wait in one room, whoever is next goes to the key with the
// largest share of free places, and each guard decides whether he may start. The room and the guards are those of production. An interval until a probe
// has no jitter here.
type pool struct {
	room   admission.Room
	cfg    *Guard
	guards []guarded
	lanes  []lane
	turn   int // the lane to look at first, so that ties rotate

	queue   *event.Queue
	wakeRef uint32
	wakeAt  int64
	wakeSeq uint32 // of the event that wakes; 0 when none is set

	waiting int
	serving bool // somebody serves: whoever may have made room has it done once more
	again   bool
	closed  bool
	tried   admission.Waiter // with which a guard is asked
	cost    int64            // that the last one was let in for, as fairness counts it
	// deliver is called for each waiter that is answered, with the key that it got.
	deliver func(w *admission.Waiter, key int)
	// choice returns which key a waiter must have, or anyKey.
	choice func(w *admission.Waiter) int
}

// lane is what the pool knows of one key.
type lane struct {
	out       bool
	until     int64             // when a probe may start of a key that is out
	step      int64             // the interval that until was made from; 0 before the first
	probe     *admission.Waiter // the call that is the probe; nil: none is in flight
	served    bool              // a call with it went well
	failures  int               // calls in a row that failed
	lastTill  int64             // until when it comes last because they did
	notBefore int64             // an instant before which the guard refused to start a call
}

// Intervals after which a key that is out is probed; see limiter.PoolConfig.
const (
	probeFirst   = int64(10 * time.Minute)
	probeMost    = int64(time.Hour)
	probeRecheck = probeFirst / 20
	// longestOutage is the longest delay that is believed of a key without quota.
	longestOutage = 24 * time.Hour
	// After failuresMost calls in a row that failed a key comes last, for failingFirst at first and failingMost at the most.
	failuresMost = 3
	failingFirst = time.Second
	failingMost  = 30 * time.Second
)

// missed is why no key had room.
type missed struct {
	at   time.Duration // when time alone lets a call start; never when it will not
	open bool          // a call that ends may let one start
	live bool          // there is a key in service
	// closed and large: a guard is closed, or the call costs more than a whole budget.
	closed, large bool
}

func (p *pool) init(cfg *Guard, guards []guarded, q *event.Queue, wakeRef uint32) {
	*p = pool{cfg: cfg, guards: guards, lanes: make([]lane, len(guards)), queue: q, wakeRef: wakeRef, deliver: p.deliver, choice: p.choice}
	p.room.Configure(never, &cfg.Room, cfg.Estimate, len(cfg.Budgets.Limits) > 0)
	for i := range guards {
		guards[i].pool = p
	}
}

// laneConfig returns what the guard of a key is made from: nobody waits there, and what is reserved is reserved in the pool.
func laneConfig(cfg *Guard) *Guard {
	g := *cfg
	g.Queue, g.Room = 0, admission.QueueConfig{}
	return &g
}

// acquire asks for a place for w; see guarded.acquire.
func (p *pool) acquire(now time.Duration, w *admission.Waiter) {
	m := missed{open: true, live: true}
	if p.waiting == 0 && p.mayUse(w.Priority) {
		k, missed := p.try(now, w)
		if k >= 0 {
			p.granted(w, k, 0)
			return
		}
		m = missed
	}
	switch {
	case p.cfg.Queue == 0:
		p.mayHaveRoom(now)
		w.State, w.Reason = admission.Refused, p.refusal(m)
	case p.enter(now, w):
		p.kick(now)
		return
	default:
		p.mayHaveRoom(now)
	}
	p.deliver(w, anyKey)
}

// refusal returns why a caller is refused who does not wait.
func (p *pool) refusal(m missed) admission.Reason {
	switch {
	case p.closed || m.closed && !m.open:
		return admission.ReasonClosed
	case m.open:
		return admission.ReasonLimit
	case m.large && m.at == never:
		return admission.ReasonTooLarge
	}
	return admission.ReasonPaused
}

// granted gives w the place that a guard has let it have.
func (p *pool) granted(w *admission.Waiter, k int, cost int64) {
	p.cost = cost
	w.Grant, w.State = p.tried.Grant, admission.Granted
	p.deliver(w, k)
}

// enter lets w into the room; it reports false when w was refused at once.
func (p *pool) enter(now time.Duration, w *admission.Waiter) bool {
	refuse := func(r admission.Reason) bool {
		w.State, w.Reason = admission.Refused, r
		return false
	}
	p.room.Ask(now, now+p.cfg.MaxWait, w)
	var ahead admission.Prospects
	if w.GiveUp != 0 {
		var at time.Duration
		if ahead, at = p.prospects(now, w); at != never && at > w.GiveUp {
			w.RetryAt = at
			return refuse(admission.ReasonDeadline)
		}
	}
	if p.closed {
		return refuse(admission.ReasonClosed)
	}
	dropped, ok := p.room.Enter(w, p.cfg.Queue)
	if !ok {
		return refuse(admission.ReasonQueueFull)
	}
	p.waiting++
	if dropped != nil {
		p.waiting--
		dropped.State, dropped.Reason = admission.Refused, admission.ReasonDropped
		p.deliver(dropped, anyKey)
	}
	inFlight, limit := p.places()
	if at, late := p.room.Late(now, w, max(0, limit-inFlight), ahead.Highest, ahead.Quickest, ahead.Latency); late {
		p.leave(w)
		w.RetryAt = at
		return refuse(admission.ReasonDeadline)
	}
	return true
}

func (p *pool) leave(w *admission.Waiter) {
	p.room.Leave(w)
	p.waiting--
}

// abandon takes w out, whose caller gave up while it waited.
func (p *pool) abandon(now time.Duration, w *admission.Waiter) {
	if w.State == admission.Queued {
		p.leave(w)
	}
	p.mayHaveRoom(now)
}

// released tells that a call with key k ended that was let in for a cost, and whether the upstream did not know the key; it is called before
// its guard learns of it.
func (p *pool) released(now time.Duration, k int, w *admission.Waiter, cost int64, o *adaptive.Outcome, revoked bool) {
	p.judge(now, &p.lanes[k], w, o, revoked)
	if p.waiting > 0 {
		p.room.Ended(now, now-w.Call.SentAt, w.Call.Class, o.Class)
	}
	said, under := w.Call.Tokens, (*admission.QueueConfig)(nil)
	if cost > 0 {
		said, under = w.Said(), &p.cfg.Room
	}
	if len(p.cfg.Budgets.Limits) == 0 && (p.waiting == 0 || said <= 0) {
		return
	}
	u := feedback.Usage{Known: o.InputTokens > 0 || o.OutputTokens > 0, Input: o.InputTokens, Output: o.OutputTokens, CachedInput: o.CachedTokens}
	if said > 0 {
		p.room.Charge(under, w.Tenant, w.Priority, said, cost, u, o.Class == feedback.OK)
	}
	if o.Class == feedback.OK {
		p.room.Learn(w.Call.Class, u)
	}
}

// judge learns of a key from a call that ended.
func (p *pool) judge(now time.Duration, l *lane, w *admission.Waiter, o *adaptive.Outcome, revoked bool) {
	fault := revoked || o.Class == feedback.QuotaExhausted
	switch o.Class {
	case feedback.OK:
		l.served, l.failures, l.lastTill = true, 0, 0
	case feedback.ServerError:
		if l.lastTill > int64(now) {
			break // it comes last already
		}
		if l.failures++; l.failures >= failuresMost {
			l.lastTill = int64(now + min(failingFirst<<min(l.failures-failuresMost, 10), failingMost))
		}
	}
	probe := l.probe == w
	if probe {
		l.probe = nil
	}
	switch {
	case probe && o.Class == feedback.OK:
		l.out, l.step = false, 0
	case probe && !fault:
		l.until = int64(now) + probeRecheck // it told nothing
	case probe || fault && !l.out:
		l.out = true
		switch {
		case o.Class == feedback.QuotaExhausted && o.HasRetryAfter && o.RetryAfter > 0:
			l.until = int64(now + min(o.RetryAfter, longestOutage))
		case revoked && !probe && l.served:
			l.until = int64(now) + probeRecheck
		default:
			if l.step == 0 {
				l.step = probeFirst
			} else if probe {
				l.step = min(2*l.step, probeMost)
			}
			l.until = int64(now) + l.step
		}
	}
}

// places returns how many calls are in flight with keys that are in service, and how many may be.
func (p *pool) places() (inFlight, limit int) {
	for i := range p.guards {
		if !p.lanes[i].out {
			inFlight += p.guards[i].core.InFlight()
			limit += p.guards[i].core.Limit()
		}
	}
	return inFlight, limit
}

// mayUse reports whether a caller of a priority may take the next place; not when what is free is reserved.
func (p *pool) mayUse(priority uint8) bool {
	return p.cfg.Room.ReservedFor <= priority || priority >= p.lowest()
}

// lowest returns the lowest priority that may take the next place. Nobody is held back where the guards observe.
func (p *pool) lowest() uint8 {
	if p.cfg.Observe {
		return 0
	}
	return p.cfg.Room.Lowest(p.places())
}

func (p *pool) prospects(now time.Duration, w *admission.Waiter) (all admission.Prospects, at time.Duration) {
	at = never
	only := p.choice(w)
	for i := range p.guards {
		if p.lanes[i].out || only != anyKey && only != i {
			continue
		}
		g := &p.guards[i].core
		at = min(at, g.Earliest(now, w))
		all = all.Join(g.Prospects())
	}
	return all, at
}

// ready reports whether a key that w may use has a place for it and lets it start now.
func (p *pool) ready(now time.Duration, w *admission.Waiter) bool {
	only := p.choice(w)
	for i := range p.guards {
		g := &p.guards[i].core
		if !p.lanes[i].out && (only == anyKey || only == i) && g.InFlight() < g.Limit() && g.Earliest(now, w) <= now {
			return true
		}
	}
	return false
}

// try returns the key with most room that lets w start, and keeps its grant; a negative one when none does.
func (p *pool) try(now time.Duration, w *admission.Waiter) (int, missed) {
	m := missed{at: never}
	n := len(p.lanes)
	only := p.choice(w)
	for i := range p.lanes {
		l := &p.lanes[i]
		switch {
		case only != anyKey || !l.out || l.probe != nil:
		case l.until > int64(now):
			m.at = min(m.at, time.Duration(l.until))
		default:
			why, in, ok := p.ask(now, &p.guards[i], w)
			if ok {
				l.probe = w
				return i, m
			}
			m.closed = m.closed || why == admission.ReasonClosed
			if in > 0 {
				m.at = min(m.at, now+in)
			} else {
				m.open = true
			}
		}
	}
	var few [16]admission.Rank
	ranks := few[:0]
	for j := range n {
		i := (p.turn + j) % n
		l, g := &p.lanes[i], &p.guards[i].core
		if l.out || only != anyKey && only != i {
			continue
		}
		m.live = true
		if l.notBefore <= int64(now) {
			l.notBefore = 0
		}
		limit, inFlight := g.Limit(), g.InFlight()
		ranks = append(ranks, admission.RankOf(j, inFlight, limit, l.notBefore > 0 || l.lastTill > int64(now), inFlight >= limit && !p.cfg.Observe))
	}
	slices.Sort(ranks)
	first := p.turn
	for _, rank := range ranks {
		if rank.Full() && !m.large { // it need not be asked, but whether the call is too large for it, too
			m.open = true
			continue
		}
		i := (first + rank.Turn()) % n
		why, in, ok := p.ask(now, &p.guards[i], w)
		if ok {
			if n > 1 {
				p.turn = (i + 1) % n
			}
			return i, m
		}
		m.closed = m.closed || why == admission.ReasonClosed
		m.large = m.large || why == admission.ReasonTooLarge
		m.open = m.open || why == admission.ReasonLimit
		if in > 0 {
			p.lanes[i].notBefore = int64(now + in)
			m.at = min(m.at, now+in)
		}
	}
	if !m.live {
		for i := range p.lanes {
			m.open = m.open || p.lanes[i].probe != nil // it may bring a key back
		}
	}
	return -1, m
}

// ask asks a guard for a place for w, now or not at all; in is how long time alone takes to let it start.
func (p *pool) ask(now time.Duration, g *guarded, w *admission.Waiter) (why admission.Reason, in time.Duration, ok bool) {
	t := &p.tried
	*t = admission.Waiter{Output: w.Output}
	t.Tenant, t.Priority, t.Retry = w.Tenant, w.Priority, w.Retry
	tokens, class := w.Call.Tokens, w.Call.Class
	t.Call.Tokens, t.Call.Class = tokens, class
	switch n, took := g.core.Take(); {
	case took <= admission.TookLast:
		if g.core.Spend(now) {
			t.Grant = admission.Grant{Call: g.core.Start(now, n)}
			t.Call.Tokens, t.Call.Class = tokens, class
			return 0, 0, true
		}
	case took == admission.NoPlace && !p.cfg.Observe:
		return admission.ReasonLimit, 0, false
	}
	if p.cfg.Observe {
		g.core.Observe(now, t)
	} else {
		g.core.AskNow(now, t)
	}
	g.serve(now)
	if t.State == admission.Granted {
		return 0, 0, true
	}
	switch {
	case t.Reason == admission.ReasonPaused:
		in = max(0, g.core.Gate()-now) // RetryAt is what the upstream said, which may be later
	case t.Reason != admission.ReasonLimit || g.core.InFlight() < g.core.Limit():
		in = max(0, t.RetryAt-now)
	}
	return t.Reason, in, false
}

// mayHaveRoom lets those in who wait, if anybody does.
func (p *pool) mayHaveRoom(now time.Duration) {
	if p.waiting > 0 {
		p.kick(now)
	}
}

// kick serves the room, or has whoever is serving it do so once more.
func (p *pool) kick(now time.Duration) {
	p.again = true
	if p.serving {
		return
	}
	p.serving = true
	for p.again {
		p.again = false
		p.serve(now)
	}
	p.serving = false
}

// serve answers everybody who can be answered, and sets the timer for the next.
func (p *pool) serve(now time.Duration) {
	for {
		w := p.room.Next(now, 0)
		switch {
		case w == nil:
			p.wakeSeq = 0
			return
		case p.closed:
			p.answer(w, admission.ReasonClosed)
			continue
		}
		lowest := p.lowest()
		next := p.room.Next(now, lowest)
		if next == nil { // what is free is reserved for more urgent callers
			if !p.expire(now) {
				p.timer(p.nextExpiry())
				return
			}
			continue
		}
		if at, makesWay := p.room.MakesWay(now, next); makesWay && p.ready(now, next) {
			next.RetryAt = at
			p.answer(next, admission.ReasonDeadline)
			continue
		}
		k, m := p.try(now, next)
		if k >= 0 {
			p.room.Start(next)
			p.waiting--
			p.granted(next, k, next.Cost)
			continue
		}
		if p.refuseHopeless(now, next, m) || p.expire(now) {
			continue
		}
		// What holds up the one whose turn it is holds up the others, too.
		if e := p.room.Expiring(); e != nil && p.choice(next) == anyKey && p.refuseHopeless(now, e, m) {
			continue
		}
		at := min(p.nextExpiry(), m.at)
		if age, ages := p.room.Ages(now, lowest); ages {
			at = min(at, age)
		}
		p.timer(at)
		return
	}
}

// answer refuses w, which waits.
func (p *pool) answer(w *admission.Waiter, r admission.Reason) {
	p.leave(w)
	w.State, w.Reason = admission.Refused, r
	p.deliver(w, anyKey)
}

func (p *pool) expire(now time.Duration) bool {
	w := p.room.Expired(now)
	if w == nil {
		return false
	}
	p.answer(w, admission.ReasonMaxWait)
	return true
}

func (p *pool) nextExpiry() time.Duration {
	if at, ok := p.room.NextExpiry(); ok {
		return at
	}
	return never
}

// refuseHopeless refuses w, which waits, when a try that missed says that it need not wait any longer.
func (p *pool) refuseHopeless(now time.Duration, w *admission.Waiter, m missed) bool {
	reason := admission.ReasonNone
	switch {
	case m.closed && !m.open && m.at == never:
		reason = admission.ReasonClosed
	case m.large && !m.open && m.at == never:
		reason = admission.ReasonTooLarge
	case now >= w.Deadline:
		reason = admission.ReasonMaxWait
	case m.open:
	case m.at == never || m.at > w.Deadline || m.at-now > p.cfg.MaxPause:
		reason = admission.ReasonPaused
	case w.GiveUp != 0 && m.at > w.GiveUp:
		reason = admission.ReasonDeadline
	}
	if reason == admission.ReasonNone {
		return false
	}
	if m.at != never {
		w.RetryAt = m.at
	}
	p.answer(w, reason)
	return true
}

// timer has the room served at an instant.
func (p *pool) timer(at time.Duration) {
	switch {
	case at == never:
		p.wakeSeq = 0
	case p.wakeSeq == 0 || int64(at) != p.wakeAt:
		p.wakeAt = int64(at)
		p.wakeSeq = p.queue.Push(p.wakeAt, p.wakeRef)
	}
}

// wake serves the room when its time has come. seq is that of the event.
func (p *pool) wake(now time.Duration, seq uint32) {
	if seq == p.wakeSeq {
		p.wakeSeq = 0
		p.kick(now)
	}
}

// close refuses everybody who waits and who comes.
func (p *pool) close(now time.Duration) {
	p.closed = true
	for i := range p.guards {
		p.guards[i].core.Close(now)
		p.guards[i].serve(now)
	}
	p.kick(now)
}
