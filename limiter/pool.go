package limiter

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
)

// LimitScope says whose the limits of an upstream are that has several keys.
type LimitScope uint8

const (
	// LimitKey: each key has limits of its own, and a guard of its own.
	LimitKey LimitScope = iota
	// LimitAccount: the keys are of one account, which has the limits: they share one guard. More keys
	// then give no more room. Most providers of language models count by account or organisation.
	LimitAccount
)

// String returns the scope as configuration writes it.
func (s LimitScope) String() string {
	if s == LimitAccount {
		return "account"
	}
	return "key"
}

// PoolConfig is what a pool is made from. Only Keys must be given.
type PoolConfig struct {
	// Guard is what each guard is made from. Its Name names the pool; a key's guard has the name
	// and the fingerprint, "openai/key:1a2b3c4d". Its Queue, MaxWait, MaxPause and Room are the pool's: callers
	// wait in one queue for whichever key has room first, and reserved places are a share of all. Its Law must be nil when there are
	// several guards; see NewLaw.
	Guard Config

	// NewLaw returns a new law for each guard; nil means flyball's own, made from Guard.Adaptive.
	NewLaw func() adaptive.Law

	// Keys are the credentials (1 to 1024), no two alike.
	Keys []Secret

	// Limit says whose the limits are. Zero means LimitKey.
	Limit LimitScope

	// Probe is how long a key that has no money or no authorisation is out before a call is sent with it to
	// see whether it works again (1 s to 24 h). Zero means 10 min. The interval doubles with each probe
	// that fails. Smaller finds out sooner; larger sends less in vain.
	Probe time.Duration

	// ProbeMax bounds the interval (Probe to 24 h). Zero means 1 h, or Probe when that is longer.
	ProbeMax time.Duration
}

// MaxKeys is how many keys a pool may have.
const MaxKeys = 1024

// Defaults returns c with each zero field set to its default.
func (c PoolConfig) Defaults() PoolConfig {
	c.Guard = c.Guard.Defaults()
	if c.Probe == 0 {
		c.Probe = 10 * time.Minute
	}
	if c.ProbeMax == 0 {
		c.ProbeMax = max(time.Hour, c.Probe)
	}
	return c
}

// Check returns nil when NewPool accepts c, and else one error that joins a *FieldError
// (of this package or of adaptive) for each field that is out of range. No error shows a key.
func (c PoolConfig) Check() error {
	c = c.Defaults()
	errs := []error{c.Guard.Check()}
	bad := func(field string, value any, allowed string) {
		errs = append(errs, &FieldError{field, value, allowed})
	}
	if len(c.Keys) < 1 || len(c.Keys) > MaxKeys {
		bad("Keys", fmt.Sprintf("%d keys", len(c.Keys)), fmt.Sprintf("1 to %d keys", MaxKeys))
	}
	seen := map[[32]byte]int{}
	for i, k := range c.Keys {
		field := fmt.Sprintf("Keys[%d]", i)
		if k.m == nil || k.Reveal() == "" {
			bad(field, "empty", "a key")
			continue
		}
		if strings.ContainsFunc(k.Reveal(), func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			bad(field, k.Fingerprint(), "a key without spaces, line ends and control characters")
		}
		if first, twice := seen[k.m.sum]; twice {
			bad(field, k.Fingerprint(), fmt.Sprintf("another key than Keys[%d]", first))
		}
		seen[k.m.sum] = i
	}
	if c.Limit > LimitAccount {
		bad("Limit", uint8(c.Limit), "LimitKey or LimitAccount")
	}
	if c.Guard.Law != nil && (c.NewLaw != nil || c.Limit == LimitKey && len(c.Keys) > 1) {
		bad("Guard.Law", fmt.Sprintf("%T", c.Guard.Law), "nil when there are several guards; use NewLaw")
	}
	if c.Probe < time.Second || c.Probe > 24*time.Hour {
		bad("Probe", c.Probe, "0 (default) or 1s to 24h")
	}
	if c.ProbeMax < c.Probe || c.ProbeMax > 24*time.Hour {
		bad("ProbeMax", c.ProbeMax, "0 (default) or Probe to 24h")
	}
	return errors.Join(errs...)
}

// Pool is the credentials of one upstream, with a guard for each or one for all. It lets each call start with
// the key that has most room, makes callers wait in one queue while none has, and keeps a key
// that has no money or no authorisation out until a probe shows that it works again. Its methods
// may be called by any number of goroutines.
type Pool struct {
	base  time.Time // instants are counted from here
	name  string
	scope LimitScope
	lanes []*lane
	keys  []*poolKey

	set atomic.Pointer[poolSettings]

	turn    atomic.Uint32 // the lane to look at first, so that ties rotate
	waiting atomic.Int64
	kicks   atomic.Int64 // calls of kick that were not answered yet
	probeAt atomic.Int64 // when the next probe may start; never when no key is out
	probing atomic.Bool  // a probe is in flight

	// mu guards what follows, the outages of keys and lanes included. It is held for memory
	// only, and no guard's lock is taken under it.
	mu        sync.Mutex
	room      admission.Room
	free      sync.Pool // waiters for use again
	seq       uint64
	probes    uint32
	timer     *time.Timer
	timerAt   time.Duration
	timerSet  bool
	closed    bool
	jitter    rand.PCG
	counts    PoolCounts
	events    []KeyEvent
	telling   bool
	listeners listeners[KeyEvent]
}

// poolSettings are what Reload replaces.
type poolSettings struct {
	queue           int // how many may wait; 0: nobody
	maxWait         time.Duration
	maxPause        time.Duration
	probe, probeMax time.Duration
	room            admission.QueueConfig
	estimate        admission.EstimateConfig
	tokens          bool // the guards have budgets
}

// settings returns those of c, which has its defaults.
func (c *PoolConfig) settings() *poolSettings {
	room := c.Guard.Room.config()
	if c.Guard.Observe { // reserved places hold nobody back, either
		room.ReservedShare, room.ReservedFor = 0, 0
	}
	return &poolSettings{
		max(0, c.Guard.Queue), c.Guard.MaxWait, c.Guard.MaxPause, c.Probe, c.ProbeMax,
		room, c.Guard.Budget.estimate(), c.Guard.Budget != nil,
	}
}

// guard returns what the i-th guard is made from.
func (c *PoolConfig) guard(i int, name string) Config {
	g := c.Guard
	g.Name, g.Queue, g.Room, g.Seed = name, -1, nil, g.Seed+uint64(i)
	if c.NewLaw != nil {
		g.Law = c.NewLaw()
	}
	return g
}

// poolWaiter is a caller that waits. Its channel takes one token when it was answered.
type poolWaiter struct {
	admission.Waiter
	answered chan struct{}
	number   uint64 // tells it from another caller that used the same poolWaiter before
	request  Request
	choice   keyChoice
	permit   KeyPermit
	out      bool // it was refused because every key is out
}

// keyChoice says which keys a caller does not want.
type keyChoice struct {
	// avoid are keys that are not to be given at all.
	avoid []*poolKey
	// noProbe asks for a key that is in service, while there is one.
	noProbe bool
}

// poolMiss is why no key had room.
type poolMiss struct {
	at     time.Duration // when time alone lets a call start; never when it will not
	open   bool          // a call that ends may let one start
	closed bool
	large  bool // the call costs more than a whole budget
	live   bool // there is a key in service
	// why is what the key waits for that lets a call start first, and budget which budget, when it is one.
	why      Why
	budget   int
	tooLarge TooLarge
	// looked is how often a key was looked at, whether it was asked or not: for tests.
	looked int
}

// NewPool returns a pool. The error joins one error for each field of cfg that is out of range.
func NewPool(cfg PoolConfig) (*Pool, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg = cfg.Defaults()
	if cfg.Guard.Seed == 0 {
		cfg.Guard.Seed = rand.Uint64()
	}
	p := &Pool{
		base: time.Now(), name: cfg.Guard.Name, scope: cfg.Limit}
	p.put(cfg.settings())
	p.jitter.Seed(cfg.Guard.Seed, 0x6b657973)
	p.probeAt.Store(int64(never))
	add := func(name string, keys ...*poolKey) error {
		g, err := New(cfg.guard(len(p.lanes), name))
		if err != nil {
			return err
		}
		l := &lane{guard: g, keys: keys}
		for _, k := range keys {
			k.lane = l
		}
		l.relive()
		// A decision may have made room, and so may a share of a budget and the end of a pause, and so has a place that was taken back.
		g.OnDecision(func(Decision) { p.mayHaveRoom() })
		g.OnLeak(func(Leak) { p.mayHaveRoom() })
		g.shell.Load().onRoom = p.mayHaveRoom
		p.lanes = append(p.lanes, l)
		return nil
	}
	for i, s := range cfg.Keys {
		p.keys = append(p.keys, &poolKey{secret: s, index: i})
	}
	if cfg.Limit == LimitAccount {
		return p, add(p.name, p.keys...)
	}
	for _, k := range p.keys {
		if err := add(p.name+"/"+k.secret.Fingerprint(), k); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Reload puts cfg in force in place, as Guard.Reload does for each guard: nobody who waits loses his turn, no permit is lost or
// doubled, and keys that are out stay out. A bad cfg changes nothing; the error says why. The name
// stays, and the keys and Limit must be the same: other keys need another pool.
func (p *Pool) Reload(cfg PoolConfig) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	same := len(cfg.Keys) == len(p.keys)
	for i := 0; same && i < len(p.keys); i++ {
		same = cfg.Keys[i].Equal(p.keys[i].secret)
	}
	if !same {
		return &FieldError{"Keys", fmt.Sprintf("%d keys", len(cfg.Keys)), "the keys that the pool has, in their order"}
	}
	if cfg.Limit != p.scope {
		return &FieldError{"Limit", cfg.Limit, p.scope.String() + ", as it was"}
	}
	cfg = cfg.Defaults()
	if cfg.Guard.Seed == 0 {
		cfg.Guard.Seed = rand.Uint64()
	}
	for i, l := range p.lanes {
		if err := l.guard.Reload(cfg.guard(i, "")); err != nil {
			return err
		}
	}
	p.put(cfg.settings())
	p.mayHaveRoom()
	return nil
}

// put puts settings in force. Nobody who waits loses his turn; with a shorter MaxWait he waits no longer than that from now.
func (p *Pool) put(set *poolSettings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room.Configure(p.now()+set.maxWait, &set.room, set.estimate, set.tokens)
	p.set.Store(set)
}

// Name returns the name that the pool was given.
func (p *Pool) Name() string { return p.name }

// Limit returns whose the limits are.
func (p *Pool) Limit() LimitScope { return p.scope }

// Len returns how many keys the pool has, those that are out included.
func (p *Pool) Len() int { return len(p.keys) }

// Guards returns the guards of the pool, one for each key in the order of the keys, or the one that they
// share: for metrics, Stats and OnDecision. Only the pool may acquire from them. Nobody waits at
// them, and their Refused counts how often the pool asked in vain.
func (p *Pool) Guards() []*Guard {
	guards := make([]*Guard, len(p.lanes))
	for i, l := range p.lanes {
		guards[i] = l.guard
	}
	return guards
}

func (p *Pool) now() time.Duration { return time.Since(p.base) }

// Acquire waits until some key lets the call start, and returns its permit, which the caller must release
// exactly once. It takes the key with most room: the one with the most free places for its limit, those that
// are paused or fail last, and by turns when several have the same. While none has room, callers wait for whichever key has
// room first, in the order that Config.Room says.
//
// Now and then a key that is out is due for a probe; the next caller then gets it, and its permit says so. A
// caller that cannot do with another key when that fails should use Do, or a Rotation.
//
// When ctx ends first, the error is its cause (context.Cause) and nothing is left behind. A refusal is
// a *NoKeyError, which is ErrRejected. When every key is out for longer than a caller waits, it is also
// ErrNoKey, and comes at once.
func (p *Pool) Acquire(ctx context.Context, r Request) (KeyPermit, error) {
	return p.acquire(ctx, r, keyChoice{})
}

// TryAcquire returns a permit when the call may start at once; ok is false when it may not.
func (p *Pool) TryAcquire(r Request) (kp KeyPermit, ok bool) {
	return p.tryAcquire(r, keyChoice{})
}

func (p *Pool) tryAcquire(r Request, c keyChoice) (kp KeyPermit, ok bool) {
	if p.waiting.Load() == 0 && p.mayUse(r.Priority) {
		if kp, _, ok = p.try(r, c); !ok {
			p.mayHaveRoom() // see try
		}
	}
	return kp, ok
}

func (p *Pool) acquire(ctx context.Context, r Request, c keyChoice) (KeyPermit, error) {
	if ctx.Err() != nil {
		return KeyPermit{}, context.Cause(ctx)
	}
	m := poolMiss{open: true, live: true, why: WhyLimit}
	switch {
	case p.waiting.Load() > 0:
	case !p.mayUse(r.Priority):
		m.why = WhyReserved
	default:
		kp, missed, ok := p.try(r, c)
		if ok {
			return kp, nil
		}
		m = missed
	}
	if p.set.Load().queue == 0 {
		p.mayHaveRoom()
		return KeyPermit{}, p.refuseNow(m)
	}
	w, waits := p.enter(ctx, r, c)
	if waits {
		p.kickFor(w)
		select {
		case <-w.answered:
		case <-ctx.Done():
			return KeyPermit{}, p.abandon(ctx, w)
		}
	} else {
		p.mayHaveRoom()
	}
	p.mu.Lock()
	if !waits && !p.room.Behind(&w.Waiter) {
		w.Why, w.Budget = m.why, m.budget
	}
	kp, reason, out, waited, retryAt, large := w.permit, w.Reason, w.out, p.now()-w.Since, w.RetryAt, w.TooLarge
	why, budget, behind := w.Why, w.Budget, int(w.Behind)
	p.recycle(w)
	p.mu.Unlock()
	var f waitHook
	if waits {
		f = hookOf(ctx)
	}
	if reason != reasonNone {
		e := p.rejected(reason, out, waited, retryAt)
		e.TooLarge = large
		if !out {
			e.Why = p.whyText(why, budget)
		}
		f.tell(Waited{p.name, waited, behind, e.Why})
		return KeyPermit{}, e
	}
	if f != nil {
		f.grants(Waited{p.name, waited, behind, p.whyText(why, budget)}, func() { kp.undo(0) })
	}
	return kp, nil
}

// kickFor serves the queue for w, which has entered it, and which leaves again when a listener panics: its caller never learns of an answer.
func (p *Pool) kickFor(w *poolWaiter) {
	kicked := false
	defer func() {
		if !kicked {
			p.giveUp(w)
			p.mayHaveRoom()
		}
	}()
	// Only now, when whoever makes room sees somebody wait, is the last try made: nothing can be missed.
	p.kick()
	for _, l := range p.lanes {
		l.guard.ties.Load().watch() // a place that nobody needs any more may be there
	}
	kicked = true
}

// abandon takes back a caller whose context ended while it waited.
func (p *Pool) abandon(ctx context.Context, w *poolWaiter) error {
	wait, why, budget := p.giveUp(w)
	p.mayHaveRoom() // w may have been the one that others waited behind
	if f := hookOf(ctx); f != nil {
		wait.Why = p.whyText(why, budget)
		f.tell(wait)
	}
	return context.Cause(ctx)
}

// giveUp takes w out of the room, or takes back what it was granted, and returns its wait, and what that was for.
func (p *Pool) giveUp(w *poolWaiter) (wait Waited, why Why, budget int) {
	p.mu.Lock()
	var granted KeyPermit
	wait = Waited{p.name, p.now() - w.Since, int(w.Behind), ""}
	if w.State == admission.Queued {
		p.room.WaitsFor(p.now(), &w.Waiter)
		p.leave(w)
	} else {
		<-w.answered // it was answered at the same time; the token is there
		granted = w.permit
	}
	if w.Reason == reasonNone { // else it is counted as refused
		p.counts.Canceled++
	}
	why, budget = w.Why, w.Budget
	p.recycle(w)
	p.mu.Unlock()
	if granted.Held() {
		granted.undo(0)
	}
	return wait, why, budget
}

// mayUse reports whether a caller of a priority may take the next place; not when what is free is reserved.
func (p *Pool) mayUse(priority uint8) bool {
	set := p.set.Load()
	if set.room.ReservedFor <= priority {
		return true
	}
	inFlight, limit := p.places()
	return priority >= set.room.Lowest(inFlight, limit)
}

// places returns how many calls are in flight with keys that are in service, and how many may be.
func (p *Pool) places() (inFlight, limit int) {
	for _, l := range p.lanes {
		if l.live.Load() > 0 {
			inFlight += l.guard.core.InFlight()
			limit += l.guard.core.Limit()
		}
	}
	return inFlight, limit
}

// try returns the permit of the key with most room. It is called without the lock.
//
// For a moment a try that fails may have taken the last place of a guard from somebody else's try, so whoever is not
// serve calls mayHaveRoom after one.
func (p *Pool) try(r Request, c keyChoice) (kp KeyPermit, m poolMiss, ok bool) {
	now := time.Duration(-1)
	clock := func() time.Duration {
		if now < 0 {
			now = p.now()
		}
		return now
	}
	m.at = never
	if at := time.Duration(p.probeAt.Load()); at != never && len(c.avoid) == 0 && (!c.noProbe || !p.anyLive()) {
		if at > clock() {
			m.at = at
		} else if kp, ok = p.tryProbe(clock(), r, &m); ok {
			return kp, m, true
		}
	}
	n := len(p.lanes)
	first := int(p.turn.Load()) % n
	best, bestFree, bestLimit, bestLast, full := -1, 0, 1, false, false
	for j := range n {
		i := first + j
		if i >= n {
			i -= n
		}
		l := p.lanes[i]
		if !l.usable(c) {
			continue
		}
		m.live = true
		limit, inFlight := l.guard.core.Limit(), l.guard.core.InFlight()
		if l.full(inFlight, limit) {
			full = true
			continue
		}
		last, free := l.last(clock), limit-inFlight
		if best < 0 || bestLast && !last || bestLast == last && free*bestLimit > bestFree*limit {
			best, bestFree, bestLimit, bestLast = i, free, limit, last
		}
	}
	m.looked = n
	if best < 0 {
		m.open = m.open || full
	}
	place := best < 0 && full // a key has none, so that a call that ends may come before what m.why says
	var few [16]admission.Rank
	others, ranked := few[:0], false // the other keys, to be asked in their order; to look for the best of those that are left each time takes too long
	for best >= 0 {
		l := p.lanes[best]
		permit, why, got := l.guard.tryFor(r)
		if got {
			if k := l.pick(c, clock); k != nil {
				if n > 1 {
					p.turn.Store(uint32(best + 1))
				}
				permit.countIn(&k.inFlight)
				return KeyPermit{pool: p, key: k, permit: permit, call: callOf(&r)}, m, true
			}
			// It went out meanwhile. The call by which it did is about to end, and has the queue served again.
			permit.Abandon()
			m.open = true
		}
		m.closed = m.closed || why.reason == ReasonClosed
		if why.reason == ReasonTooLarge {
			m.large, m.tooLarge = true, why.tooLarge
		}
		m.open = m.open || why.reason == ReasonLimit
		place = place || why.reason == ReasonLimit && why.in == 0
		if why.in > 0 {
			at := p.now() + why.in
			l.notBefore.Store(int64(at))
			if at < m.at {
				m.at, m.why, m.budget = at, why.why, why.budget
			}
		}
		if !ranked {
			others, ranked = p.rank(others, first, best, c, clock), true
			m.looked += n
		}
		for best = -1; best < 0 && len(others) > 0; others = others[1:] {
			m.looked++
			i := (first + others[0].Turn()) % n
			switch {
			case !p.lanes[i].usable(c):
			case others[0].Full() && !m.large: // it need not be asked, but whether the call is too large for it, too
				m.open, place = true, true
			default:
				best = i
			}
		}
	}
	if place || m.why == admission.WhyNone {
		m.why = WhyLimit
	}
	if !m.live && p.probing.Load() {
		m.open = true // the probe may bring a key back
	}
	return KeyPermit{}, m, false
}

// tryProbe starts the probe that is due, if it still is and its guard lets it.
func (p *Pool) tryProbe(now time.Duration, r Request, m *poolMiss) (kp KeyPermit, ok bool) {
	p.mu.Lock()
	k, probe := p.startProbe(now)
	p.mu.Unlock()
	if k == nil {
		return KeyPermit{}, false
	}
	asked := false
	defer func() {
		if !asked { // a listener has panicked
			p.mu.Lock()
			p.dropProbe(now, 0, k, probe)
			p.mu.Unlock()
		}
	}()
	permit, why, ok := k.lane.guard.tryFor(r)
	asked = true
	if ok {
		permit = k.lane.guard.followProbe(permit)
		permit.onReclaim(func() { p.probeLost(k, probe) })
		permit.countIn(&k.inFlight)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !ok {
		p.dropProbe(p.now(), why.in, k, probe)
		m.closed = m.closed || why.reason == ReasonClosed
		if why.in > 0 {
			m.at = min(m.at, p.now()+why.in)
		} else {
			m.open = true
		}
		return KeyPermit{}, false
	}
	k.probes++
	k.lane.turn.Store(uint32(k.index + 1))
	kp = KeyPermit{pool: p, key: k, permit: permit, call: callOf(&r)}
	kp.call.probe = probe
	return kp, true
}

// rank appends the lanes that a caller may have, but for the one that has been asked, in the order in which they are to be asked. Their turns are counted
// from first.
//
//go:noinline
func (p *Pool) rank(to []admission.Rank, first, asked int, c keyChoice, clock func() time.Duration) []admission.Rank {
	for j := range p.lanes {
		i := (first + j) % len(p.lanes)
		l := p.lanes[i]
		if i == asked || !l.usable(c) {
			continue
		}
		limit, inFlight := l.guard.core.Limit(), l.guard.core.InFlight()
		to = append(to, admission.RankOf(j, inFlight, limit, l.last(clock), l.full(inFlight, limit)))
	}
	slices.Sort(to)
	return to
}

// anyLive reports whether a key is in service.
func (p *Pool) anyLive() bool {
	for _, l := range p.lanes {
		if l.live.Load() > 0 {
			return true
		}
	}
	return false
}

// usable reports whether a key of l is in service that the caller wants.
func (l *lane) usable(c keyChoice) bool {
	if l.live.Load() == 0 {
		return false
	}
	if len(c.avoid) == 0 {
		return true
	}
	for _, k := range l.keys {
		if k.live.Load() && !c.avoids(k) {
			return true
		}
	}
	return false
}

// full reports whether l, which has so many calls in flight of limit, need not be asked for a place.
func (l *lane) full(inFlight, limit int) bool {
	return inFlight >= limit && !l.guard.set.Load().core.Observe
}

// last reports whether l comes last, as it is paused or fails.
func (l *lane) last(clock func() time.Duration) bool {
	if at := l.notBefore.Load(); at > 0 {
		if time.Duration(at) > clock() {
			return true
		}
		l.notBefore.CompareAndSwap(at, 0)
	}
	return len(l.keys) == 1 && l.keys[0].failing(clock)
}

func (c keyChoice) avoids(k *poolKey) bool {
	for _, a := range c.avoid {
		if a == k {
			return true
		}
	}
	return false
}

// pick returns the key of l that is in service and has fewest calls in flight, by turns, and one that fails last; nil when there is
// none.
func (l *lane) pick(c keyChoice, clock func() time.Duration) *poolKey {
	var best *poolKey
	n := len(l.keys)
	first := 0
	if n > 1 {
		first = int(l.turn.Load()) % n
	}
	fewest, at, fails := int32(0), 0, false
	for j := range n {
		i := (first + j) % n
		k := l.keys[i]
		if !k.live.Load() || c.avoids(k) {
			continue
		}
		f, failing := k.inFlight.Load(), k.failing(clock)
		if best == nil || fails && !failing || fails == failing && f < fewest {
			best, fewest, at, fails = k, f, i, failing
		}
	}
	if best == nil {
		return nil
	}
	if n > 1 {
		l.turn.Store(uint32(at + 1))
	}
	return best
}

// mayHaveRoom lets those in who wait, if anybody does. It is called after whatever may have made room.
func (p *Pool) mayHaveRoom() {
	if p.waiting.Load() > 0 {
		p.kick()
	}
}

// kick serves the queue, or has whoever is serving it do so once more. So one goroutine at a time
// serves, and one that is told of a decision by what it does itself does not wait for itself.
func (p *Pool) kick() {
	if p.kicks.Add(1) > 1 {
		return
	}
	served := false
	defer func() {
		if !served { // a listener has panicked: those that are left are served all the same
			p.kicks.Store(0)
			p.kick()
		}
	}()
	for {
		n := p.kicks.Load()
		p.serve()
		if p.kicks.Add(-n) == 0 {
			served = true
			return
		}
	}
}

// serve answers everybody who can be answered, and sets the timer for the next. Only kick calls it.
func (p *Pool) serve() {
	for {
		p.mu.Lock()
		set, now := p.set.Load(), p.now()
		first := p.room.Next(now, 0)
		switch {
		case first == nil:
			p.wakeAt(never)
			p.mu.Unlock()
			return
		case p.closed:
			p.answer(first.Owner.(*poolWaiter), ReasonClosed)
			p.mu.Unlock()
			continue
		}
		lowest := set.room.Lowest(p.places())
		next := p.room.Next(now, lowest)
		if next == nil { // what is free is reserved for more urgent callers
			first.Why = WhyReserved
			p.room.HeldBy(now, WhyReserved, 0)
			if !p.expire(now) {
				p.wakeAt(p.nextExpiry())
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
			continue
		}
		w := next.Owner.(*poolWaiter)
		number, r, c := w.number, w.request, w.choice
		var like *poolWaiter // w, if it had better make way
		at, makesWay := p.room.MakesWay(now, next)
		if makesWay {
			same := *w
			like = &same
		}
		p.mu.Unlock()
		if makesWay && p.ready(like) {
			p.mu.Lock()
			if w.number == number && w.State == admission.Queued { // it has not given up meanwhile
				w.RetryAt = at
				p.answer(w, ReasonDeadline)
			}
			p.mu.Unlock()
			continue
		}
		kp, m, ok := p.try(r, c)
		p.mu.Lock()
		if w.number != number || w.State != admission.Queued { // it gave up meanwhile
			p.mu.Unlock()
			if ok {
				kp.undo(0)
			}
			continue
		}
		now = p.now()
		if ok {
			p.room.WaitsFor(now, &w.Waiter)
			kp.call.under = p.room.Start(&w.Waiter)
			kp.call.cost, kp.call.said = w.Cost, w.Said()
			w.permit = kp
			p.waiting.Add(-1)
			p.counts.waited(now-w.Since, w.Why)
			w.answered <- struct{}{} // never blocks: one token a wait, room for one
			p.mu.Unlock()
			continue
		}
		w.Why, w.Budget = m.why, m.budget
		p.room.HeldBy(now, m.why, m.budget)
		if p.refuseHopeless(now, w, m) || p.expire(now) {
			p.mu.Unlock()
			continue
		}
		// What holds up the one whose turn it is holds up the others, too.
		if e := p.room.Expiring(); e != nil && len(c.avoid) == 0 && p.refuseHopeless(now, e.Owner.(*poolWaiter), m) {
			p.mu.Unlock()
			continue
		}
		at = min(p.nextExpiry(), m.at)
		if age, ages := p.room.Ages(now, lowest); ages { // then it is another one's turn
			at = min(at, age)
		}
		p.wakeAt(at)
		p.mu.Unlock()
		return
	}
}

// refuseHopeless refuses w, which waits, when a try that missed says that it need not wait any longer. It needs the lock.
func (p *Pool) refuseHopeless(now time.Duration, w *poolWaiter, m poolMiss) bool {
	reason := p.hopeless(now, w.Deadline, w.GiveUp, m)
	if reason == reasonNone {
		return false
	}
	w.out = !m.live
	w.TooLarge = m.tooLarge
	if m.at != never {
		w.RetryAt = m.at
	}
	p.answer(w, reason)
	return true
}

// expire refuses one that has waited as long as it may; it reports whether there was one. It needs the lock.
func (p *Pool) expire(now time.Duration) bool {
	w := p.room.Expired(now)
	if w == nil {
		return false
	}
	p.answer(w.Owner.(*poolWaiter), ReasonMaxWait)
	return true
}

// nextExpiry returns when the next caller has waited as long as it may. It needs the lock.
func (p *Pool) nextExpiry() time.Duration {
	at, ok := p.room.NextExpiry()
	if !ok {
		return never
	}
	return at
}

// hopeless returns why a caller need not wait any longer, after a try that missed.
func (p *Pool) hopeless(now, deadline, giveUp time.Duration, m poolMiss) Reason {
	switch {
	case m.closed && !m.open && m.at == never:
		return ReasonClosed
	case m.large && !m.open && m.at == never:
		return ReasonTooLarge
	case now >= deadline:
		return ReasonMaxWait
	case m.open:
		return reasonNone
	case m.at == never || m.at > deadline || m.at-now > p.set.Load().maxPause:
		return ReasonPaused
	case giveUp != 0 && m.at > giveUp:
		return ReasonDeadline
	}
	return reasonNone
}

// wakeAt sets the timer. It needs the lock.
func (p *Pool) wakeAt(at time.Duration) {
	switch {
	case at == never:
		if p.timerSet {
			p.timer.Stop()
		}
		p.timerSet = false
		return
	case p.timerSet && p.timerAt == at:
		return
	case p.timer == nil:
		p.timer = time.AfterFunc(at-p.now(), p.fire)
	default:
		p.timer.Reset(at - p.now())
	}
	p.timerAt, p.timerSet = at, true
}

func (p *Pool) fire() {
	p.mu.Lock()
	p.timerSet = false
	p.mu.Unlock()
	p.kick()
}

// enter lets a caller in; it reports false when the caller was refused at once. It is called without the lock.
func (p *Pool) enter(ctx context.Context, r Request, c keyChoice) (w *poolWaiter, waits bool) {
	p.mu.Lock()
	if w, _ = p.free.Get().(*poolWaiter); w == nil {
		w = &poolWaiter{answered: make(chan struct{}, 1)}
	}
	p.seq++
	*w = poolWaiter{answered: w.answered, number: p.seq, request: r, choice: c}
	w.Owner = w
	w.Tenant, w.Priority, w.Retry = r.Tenant, r.Priority, r.Retry
	w.Call.Tokens, w.Call.Class, w.Output = max(0, r.Tokens), r.Class, max(0, r.Output)
	w.WaitOnly = r.WaitOnly
	set, now := p.set.Load(), p.now()
	p.room.Ask(now, now+set.maxWait, &w.Waiter)
	var ahead admission.Prospects
	if deadline, ok := ctx.Deadline(); ok {
		w.GiveUp = max(1, instantOf(now, deadline))
		p.mu.Unlock() // no guard's lock is taken under it
		var at time.Duration
		ahead, at = p.prospects(w)
		p.mu.Lock()
		if at != never && at > w.GiveUp {
			w.RetryAt = at
			p.refuse(w, ReasonDeadline)
			p.mu.Unlock()
			return w, false
		}
	}
	defer p.mu.Unlock()
	if p.closed {
		p.refuse(w, ReasonClosed)
		return w, false
	}
	dropped, ok := p.room.Enter(&w.Waiter, set.queue)
	if !ok {
		p.refuse(w, ReasonQueueFull)
		return w, false
	}
	p.waiting.Add(1)
	if dropped != nil {
		p.waiting.Add(-1)
		d := dropped.Owner.(*poolWaiter)
		p.refuse(d, ReasonDropped)
		d.answered <- struct{}{}
	}
	inFlight, limit := p.places()
	if at, late := p.room.Late(now, &w.Waiter, max(0, limit-inFlight), ahead.Highest, ahead.Quickest, ahead.Latency); late {
		p.leave(w)
		w.RetryAt = at
		p.refuse(w, ReasonDeadline)
		return w, false
	}
	return w, true
}

// prospects returns how soon the calls of the keys that w may use end at best, and when one of them lets it start at the
// earliest; never when none is in service. It is called without the lock.
func (p *Pool) prospects(w *poolWaiter) (all admission.Prospects, at time.Duration) {
	at = never
	for _, l := range p.lanes {
		if !l.usable(w.choice) {
			continue
		}
		g := l.guard
		g.mu.Lock()
		now := g.now()
		at = min(at, later(g.core.Earliest(now, &w.Waiter), g.base.Sub(p.base)))
		all = all.Join(g.core.Prospects())
		g.mu.Unlock()
	}
	return all, at
}

// ready reports whether a key that w may use has a place for it and lets it start now. It is called without the lock.
func (p *Pool) ready(w *poolWaiter) bool {
	for _, l := range p.lanes {
		g := l.guard
		if !l.usable(w.choice) || g.core.InFlight() >= g.core.Limit() {
			continue
		}
		g.mu.Lock()
		now := g.now()
		at := g.core.Earliest(now, &w.Waiter)
		g.mu.Unlock()
		if at <= now {
			return true
		}
	}
	return false
}

// leave takes w out of the room. It needs the lock.
func (p *Pool) leave(w *poolWaiter) {
	p.room.Leave(&w.Waiter)
	p.waiting.Add(-1)
}

// refuse refuses w, which does not wait. It needs the lock.
func (p *Pool) refuse(w *poolWaiter, reason Reason) {
	w.State, w.Reason = admission.Refused, reason
	p.refused(reason, w.out)
}

// answer refuses w, which waits, and wakes its caller. It needs the lock.
func (p *Pool) answer(w *poolWaiter, reason Reason) {
	p.room.WaitsFor(p.now(), &w.Waiter)
	p.leave(w)
	p.refuse(w, reason)
	w.answered <- struct{}{} // never blocks: one token a wait, room for one
}

// recycle keeps a waiter for use again. It needs the lock.
func (p *Pool) recycle(w *poolWaiter) {
	*w = poolWaiter{answered: w.answered}
	p.free.Put(w)
}

// Close refuses everybody who waits and who comes, and who sits out the delay before a call is sent again; calls in flight end as ever. It may be called
// more than once.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, l := range p.lanes {
		l.guard.Close()
	}
	p.kick()
}
