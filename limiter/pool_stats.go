package limiter

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// KeyStatus is what one key of a pool looks like at one instant.
type KeyStatus struct {
	// Key is the fingerprint.
	Key string
	// Out is why the key is out, and KeyFine when it is in service.
	Out KeyFault
	// Since is when it went out, ProbeAt when it will be probed at the earliest; zero when it is in service.
	Since, ProbeAt time.Time
	// Probing says that a probe is in flight.
	Probing bool
	// Limit is how many calls may be in flight: with this key, or with LimitAccount for the account.
	Limit int
	// InFlight is how many calls are in flight with this key.
	InFlight int
	// Paused is how much longer nothing starts, because the upstream asked for it or the law holds; 0 when it may.
	Paused time.Duration
	// Served is how many calls ended well, Faults how many times the key was refused, Probes how many
	// probes were sent.
	Served, Faults, Probes uint64
}

// String returns the status as errors write it.
func (s KeyStatus) String() string {
	var b strings.Builder
	b.WriteString(s.Key)
	switch {
	case s.Out != KeyFine:
		b.WriteString(" " + s.Out.String())
		if s.Probing {
			b.WriteString(", being probed")
		} else {
			b.WriteString(" until " + instant(s.ProbeAt))
		}
	case s.Paused > 0:
		fmt.Fprintf(&b, " paused for %v", s.Paused.Round(time.Millisecond))
	default:
		fmt.Fprintf(&b, " has %d in flight, limit %d", s.InFlight, s.Limit)
	}
	return b.String()
}

// PoolCounts is what a pool has counted since it was made.
type PoolCounts struct {
	// Refused is how many callers were refused, by reason.
	Refused [admission.NumReasons]uint64
	// NoKey is how many of them were refused because every key was out.
	NoKey uint64
	// Canceled is how many callers gave up while they waited.
	Canceled uint64
	// Waited is how many callers waited and then had a key; WaitSum is the time they waited together,
	// and Waits how many waited less than 2^i ms, as in Counts.
	Waited  uint64
	WaitSum time.Duration
	Waits   [WaitBuckets]uint64
	// WaitedFor is how many of those callers waited, and for how long together, by what they waited for longest, as in
	// Counts.
	WaitedFor [NumWhys]admission.Waits
}

// waited counts a wait that was granted a key.
func (c *PoolCounts) waited(d time.Duration, why Why) {
	if d <= 0 {
		return
	}
	c.Waited++
	c.WaitSum += d
	c.WaitedFor[why].N++
	c.WaitedFor[why].Sum += d
	i := min(bits.Len64(uint64(d/time.Millisecond)), WaitBuckets-1)
	c.Waits[i]++
	c.WaitedFor[why].Buckets[i]++
}

// PoolStats is what a pool looks like at one instant.
type PoolStats struct {
	// Name is the pool's name.
	Name string
	// Limit says whose the limits are.
	Limit LimitScope
	// InFlight is how many calls are in flight, Waiting how many callers wait.
	InFlight, Waiting int
	// InService is how many keys are not out.
	InService int
	// Keys is what the keys look like, in the order of PoolConfig.Keys.
	Keys []KeyStatus
	// Counts is what was counted.
	Counts PoolCounts
}

// Stats returns a snapshot.
func (p *Pool) Stats() PoolStats {
	s := PoolStats{Name: p.name, Limit: p.scope, Waiting: int(p.waiting.Load()), Keys: p.Keys()}
	for _, k := range s.Keys {
		s.InFlight += k.InFlight
		if k.Out == KeyFine {
			s.InService++
		}
	}
	p.mu.Lock()
	s.Counts = p.counts
	p.mu.Unlock()
	return s
}

// Keys returns what each key looks like, in the order of PoolConfig.Keys.
func (p *Pool) Keys() []KeyStatus {
	all := make([]KeyStatus, 0, len(p.keys))
	for _, l := range p.lanes {
		g := l.guard
		g.ties.Load().endForgotten()
		g.mu.Lock()
		limit, paused := g.core.Limit(), max(0, g.core.Gate()-g.now())
		g.mu.Unlock()
		p.mu.Lock()
		now := p.now()
		for _, k := range l.keys {
			s := KeyStatus{
				Key: k.secret.Fingerprint(), Limit: limit, Paused: paused,
				InFlight: int(k.inFlight.Load()), Served: k.served.Load(), Faults: k.faults, Probes: k.probes,
			}
			if at := k.worst(); at.out() {
				s.Out, s.Probing = at.fault, at.probing != 0
				s.Since = wallAt(now, at.since)
				s.ProbeAt = wallAt(now, max(k.outage.until, l.outage.until))
			}
			all = append(all, s)
		}
		p.mu.Unlock()
	}
	return all
}

// worst returns the outage that keeps k out for longer. It needs the lock.
func (k *poolKey) worst() *outage {
	if k.outage.out() && (!k.lane.outage.out() || k.outage.until >= k.lane.outage.until) {
		return &k.outage
	}
	return &k.lane.outage
}

// refused counts a refusal. It needs the lock.
func (p *Pool) refused(reason Reason, out bool) {
	p.counts.Refused[reason]++
	if out {
		p.counts.NoKey++
	}
}

// OnKey has f called when a key goes out of service and when it comes back, in their order, one at a time and after
// the pool's lock was released. f must be quick, must not wait for a permit of the pool, and must not panic: a panic surfaces in a caller of
// the pool. OnKey panics when f is nil. What it returns is for f what that of Guard.OnDecision is.
func (p *Pool) OnKey(f func(KeyEvent)) (stop func()) {
	if f == nil {
		panic("limiter: OnKey with a nil function")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listeners = p.listeners.with(&f)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.listeners = p.listeners.without(&f)
	}
}

// note keeps an event for the listeners. It needs the lock.
func (p *Pool) note(e KeyEvent) {
	if len(p.listeners) > 0 {
		p.events = append(p.events, e)
	}
}

// unlock gives up the lock and tells listeners what has changed, as Guard.unlock does.
func (p *Pool) unlock() {
	if p.telling || len(p.events) == 0 {
		p.mu.Unlock()
		return
	}
	p.telling = true
	defer p.mu.Unlock() // also when a listener panics
	defer func() { p.telling = false }()
	for len(p.events) > 0 {
		events, listeners := p.events, p.listeners
		p.events = nil
		p.tellUnlocked(events, listeners)
	}
}

func (p *Pool) tellUnlocked(events []KeyEvent, to listeners[KeyEvent]) {
	p.mu.Unlock()
	defer p.mu.Lock() // also when a listener panics
	for _, e := range events {
		to.tell(e)
	}
}
