package limiter

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// KeyFault is what a call told of its key.
type KeyFault uint8

const (
	// KeyFine: nothing is wrong with the key.
	KeyFine KeyFault = iota
	// KeyUnauthorized: the upstream does not know the key, or no longer accepts it. The key is out.
	KeyUnauthorized
	// KeyForbidden: the upstream accepts the key, and not for this call. That is the key's fault only when
	// another key may do it: see Rotation. The key is out when it happened three times in a row.
	KeyForbidden
	// KeyExhausted: the key has no money or no quota left. It is what an Outcome of the
	// class feedback.QuotaExhausted means, so that it need not be said. The key is out; with
	// LimitAccount all are.
	KeyExhausted

	numKeyFaults = int(KeyExhausted) + 1
)

var keyFaultNames = [numKeyFaults]string{"none", "unauthorized", "forbidden", "exhausted"}

// String returns the fault as metrics and errors write it.
func (f KeyFault) String() string {
	if int(f) < len(keyFaultNames) {
		return keyFaultNames[f]
	}
	return "unknown"
}

// faultOf returns what a call that ended with o and f told of its key.
func faultOf(o *Outcome, f KeyFault) KeyFault {
	if f == KeyFine && o.Class == feedback.QuotaExhausted {
		return KeyExhausted
	}
	return f
}

const (
	// suspectsMost is how many calls in a row a key may be forbidden that another key was then allowed.
	suspectsMost = 3
	// recheck is which part of PoolConfig.Probe passes before a key is probed that was taken
	// out on weak evidence, or whose probe told nothing: a key that worked and is refused may
	// have met a failing login service, and the probe may have met an overload.
	recheck = 20
	// longestOutage is the longest delay that is believed of a key without quota: a month's plan may be paid for before its end, and
	// a delay of years is a mistake. A probe a day is not much.
	longestOutage = 24 * time.Hour
	// failuresMost is after how many calls in a row that failed a key comes last, failingFirst for how long, and failingMost for how long at
	// the most. A key that fails at once would always have most room, and draw the calls from those that work.
	failuresMost = 3
	failingFirst = time.Second
	failingMost  = 30 * time.Second
	// probeJitter is how much is added to an interval at random, at most, as a ratio.
	probeJitter = 0.1

	never = time.Duration(math.MaxInt64)
)

// outage is what keeps one key, or the account, out. The pool's lock protects it.
type outage struct {
	fault   KeyFault      // KeyFine: it is in service
	since   time.Duration // when it went out
	until   time.Duration // when the next probe may start
	step    time.Duration // the interval that until was made from; 0 before the first
	probing uint32        // the number of the probe that is in flight; 0: none is
}

func (o *outage) out() bool { return o.fault != KeyFine }

// due reports whether a probe may start. What is in service needs none.
func (o *outage) due(now time.Duration) bool {
	return !o.out() || o.probing == 0 && o.until <= now
}

// lane is a guard with the keys that share it.
type lane struct {
	guard *Guard
	keys  []*poolKey
	live  atomic.Int32 // how many of keys are in service; 0 also while the lane is out
	turn  atomic.Uint32
	// notBefore is an instant before which the guard refused to start a call. It only puts the
	// lane behind others, so it does no harm when it is no longer true.
	notBefore atomic.Int64
	outage    outage
}

// poolKey is one key of a pool.
type poolKey struct {
	secret   Secret
	index    int
	lane     *lane
	live     atomic.Bool // in service, and so is the lane
	inFlight atomic.Int32
	served   atomic.Uint64
	suspects atomic.Int32
	failures atomic.Int32 // calls in a row that failed
	lastTill atomic.Int64 // until when it comes last because they did
	outage   outage
	faults   uint64 // the pool's lock protects it and probes
	probes   uint64
}

// later returns at + d; never is never.
func later(at, d time.Duration) time.Duration {
	if at == never {
		return never
	}
	return at + d
}

// KeyEvent says that a key went out of service or came back.
type KeyEvent struct {
	// At is when, since the pool was made.
	At time.Duration
	// Key is the key's fingerprint.
	Key string
	// Fault is why it went out, and KeyFine when it came back.
	Fault KeyFault
	// ProbeAt is when it will be probed at the earliest, since the pool was made.
	ProbeAt time.Duration
}

// relive brings what the fast path looks at in line with the outages of l. It needs the pool's lock.
func (l *lane) relive() {
	n := int32(0)
	for _, k := range l.keys {
		live := !k.outage.out() && !l.outage.out()
		k.live.Store(live)
		if live {
			n++
		}
	}
	l.live.Store(n)
}

// failing reports whether k comes last because calls with it failed. Others may do nothing about that, and a caller's own request may be what
// fails, so no key is out for it.
func (k *poolKey) failing(clock func() time.Duration) bool {
	till := time.Duration(k.lastTill.Load())
	return till > 0 && till > clock()
}

// failed counts a call that failed, unless the key comes last already: all that are on one connection fail with it.
func (k *poolKey) failed(now time.Duration) {
	if k.lastTill.Load() > int64(now) {
		return
	}
	if n := k.failures.Add(1); n >= failuresMost {
		k.lastTill.Store(int64(now + min(failingFirst<<min(n-failuresMost, 10), failingMost)))
	}
}

// worked says that a call ended well.
func (k *poolKey) worked() {
	k.served.Add(1)
	if k.suspects.Load() != 0 {
		k.suspects.Store(0)
	}
	if k.failures.Load() != 0 {
		k.failures.Store(0)
		k.lastTill.Store(0)
	}
}

// judge learns of a key from a call that ended; probe is the number of the probe that it was, or 0. It is called before the call's place is given back, so that nobody
// starts with a key that is out.
func (p *Pool) judge(k *poolKey, probe uint32, o *Outcome, f KeyFault) {
	fault := faultOf(o, f)
	switch {
	case o.Class == feedback.OK && fault == KeyFine:
		k.worked()
	case o.Class == feedback.ServerError:
		k.failed(p.now())
	}
	if probe == 0 && (fault == KeyFine || fault == KeyForbidden) {
		return // what being forbidden means shows when another key was tried; see Rotation
	}
	p.mu.Lock()
	defer p.unlock()
	now := p.now()
	var at *outage
	switch {
	case fault == KeyFine:
	case fault == KeyForbidden && k.outage.fault != KeyForbidden: // of what it is out for the probe told nothing
	case fault == KeyExhausted:
		at = &k.lane.outage
	default:
		at = &k.outage
	}
	if at != nil {
		k.faults++
	}
	switch {
	case probe != 0 && at == nil && o.Class == feedback.OK:
		p.restore(now, k, probe)
	case probe != 0:
		for _, x := range []*outage{&k.outage, &k.lane.outage} {
			if x != at && x.probing == probe {
				x.probing = 0
				if at == nil {
					x.until = now + p.jittered(p.set.Load().probe/recheck) // it told nothing
				}
			}
		}
		if at != nil {
			p.takeOut(now, k, at, fault, o, probe)
		}
	case !at.out():
		p.takeOut(now, k, at, fault, o, 0)
	}
	p.reprobe()
}

// takeOut takes a key, or its lane, out of service for a fault. Calls that had started before learn of
// the same fault; only a probe, whose number is given then, makes the interval longer. It needs the lock.
func (p *Pool) takeOut(now time.Duration, k *poolKey, at *outage, fault KeyFault, o *Outcome, probe uint32) {
	if at.probing == probe {
		at.probing = 0
	}
	if !at.out() {
		at.since = now
	}
	at.fault = fault
	switch {
	case fault == KeyExhausted && o.HasRetryAfter && o.RetryAfter > 0:
		// The upstream knows better than an interval. The guard pauses for it, too.
		at.until = now + min(o.RetryAfter, longestOutage)
	case fault != KeyExhausted && probe == 0 && k.served.Load() > 0:
		at.until = now + p.jittered(p.set.Load().probe/recheck)
	case at.step == 0:
		at.step = p.set.Load().probe
		at.until = now + p.jittered(at.step)
	default:
		if probe != 0 {
			at.step = min(2*at.step, p.set.Load().probeMax)
		}
		at.until = now + p.jittered(at.step)
	}
	k.lane.relive()
	for _, x := range k.lane.keys {
		if x == k || at == &k.lane.outage {
			p.note(KeyEvent{At: now, Key: x.secret.Fingerprint(), Fault: fault, ProbeAt: at.until})
		}
	}
}

// restore puts a key whose probe succeeded, and its lane, into service, as far as the probe was of them. It needs the lock.
func (p *Pool) restore(now time.Duration, k *poolKey, probe uint32) {
	was := make([]bool, len(k.lane.keys))
	for i, x := range k.lane.keys {
		was[i] = x.live.Load()
	}
	for _, x := range []*outage{&k.outage, &k.lane.outage} {
		if x.probing == probe { // what began after the probe did is not ended by it
			*x = outage{}
		}
	}
	k.lane.relive()
	for i, x := range k.lane.keys {
		if !was[i] && x.live.Load() {
			p.note(KeyEvent{At: now, Key: x.secret.Fingerprint()})
		}
	}
	p.reprobe()
}

// Suspect says that a call which the key with this fingerprint was forbidden (KeyForbidden) was then allowed to another key. When that
// happens three times in a row the key is out. A Rotation says so by itself; it is for programs that send without one.
func (p *Pool) Suspect(fingerprint string) {
	for _, k := range p.keys {
		if k.secret.Fingerprint() == fingerprint {
			p.suspect(k)
			return
		}
	}
}

// suspect learns that a call which k was forbidden was then allowed to another key.
func (p *Pool) suspect(k *poolKey) {
	if k.suspects.Add(1) < suspectsMost {
		return
	}
	defer p.mayHaveRoom() // who waits must not count on a key that may be out now; also when a listener panics
	p.mu.Lock()
	defer p.unlock()
	k.suspects.Store(0)
	if !k.outage.out() {
		k.faults++
		p.takeOut(p.now(), k, &k.outage, KeyForbidden, &Outcome{}, 0)
		p.reprobe()
	}
}

// startProbe returns a key that is out and may be probed now, nil when there is none, and the number of the probe. It needs the lock.
func (p *Pool) startProbe(now time.Duration) (k *poolKey, probe uint32) {
	for _, l := range p.lanes {
		if !l.outage.due(now) {
			continue
		}
		for i := range l.keys {
			k := l.keys[(int(l.turn.Load())+i)%len(l.keys)]
			if !k.outage.due(now) || !k.outage.out() && !l.outage.out() {
				continue
			}
			if p.probes++; p.probes == 0 { // none
				p.probes++
			}
			for _, x := range []*outage{&k.outage, &l.outage} {
				if x.out() {
					x.probing = p.probes
				}
			}
			p.reprobe()
			return k, p.probes
		}
	}
	return nil, 0
}

// dropProbe takes back a probe of k that was not made; it may be made in a while from now. It needs the lock.
func (p *Pool) dropProbe(now, in time.Duration, k *poolKey, probe uint32) {
	for _, x := range []*outage{&k.outage, &k.lane.outage} {
		if x.probing == probe {
			x.probing = 0
			x.until = max(x.until, now+in)
		}
	}
	p.reprobe()
}

// probeLost ends a probe of k whose permit was never released: it told nothing.
func (p *Pool) probeLost(k *poolKey, probe uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropProbe(p.now(), p.jittered(p.set.Load().probe/recheck), k, probe)
}

// reprobe finds out when the next probe may start. It needs the lock.
func (p *Pool) reprobe() {
	next, probing := never, false
	for _, l := range p.lanes {
		for _, k := range l.keys {
			if k.live.Load() {
				continue
			}
			if k.outage.probing != 0 || l.outage.probing != 0 {
				probing = true
				continue
			}
			next = min(next, max(k.outage.until, l.outage.until))
		}
	}
	p.probeAt.Store(int64(next))
	p.probing.Store(probing)
}

// jittered returns d with up to probeJitter of it added. It needs the lock.
func (p *Pool) jittered(d time.Duration) time.Duration {
	most := uint64(float64(d) * probeJitter)
	if most == 0 {
		return d
	}
	return d + time.Duration(p.jitter.Uint64()%most)
}
