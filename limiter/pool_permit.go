package limiter

import (
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

// KeyPermit is the right to have one call in flight with one key. Like a Permit it is a value that stays
// with the caller, must be released exactly once, by one goroutine, and must not be copied after it was
// acquired.
type KeyPermit struct {
	pool   *Pool
	key    *poolKey
	permit Permit
	call   poolCall
}

// poolCall is what the pool's room has to know of a call when it ends.
type poolCall struct {
	tenant   string
	cost     int64                  // that fairness counted; 0 when it was not counted
	said     int64                  // what it was said or estimated to cost; 0 when nobody knows
	under    *admission.QueueConfig // with whose weights it was counted when it started; nil when it did not wait
	probe    uint32                 // its number, when it is one
	priority uint8
	class    uint8
}

func callOf(r *Request) poolCall {
	return poolCall{tenant: r.Tenant, said: max(0, r.Tokens), priority: r.Priority, class: r.Class}
}

// Secret returns the key to send the call with. It panics when the permit was never acquired.
func (kp *KeyPermit) Secret() Secret {
	if kp.key == nil {
		panic("limiter: Secret of a permit that was never acquired")
	}
	return kp.key.secret
}

// Key returns the fingerprint of the key. It panics when the permit was never acquired.
func (kp *KeyPermit) Key() string {
	if kp.key == nil {
		panic("limiter: Key of a permit that was never acquired")
	}
	return kp.key.secret.Fingerprint()
}

// Probe reports whether the key is out, and this call is to show whether it works again.
func (kp *KeyPermit) Probe() bool { return kp.call.probe != 0 }

// Held reports whether the permit was acquired and not yet released.
func (kp *KeyPermit) Held() bool { return kp.pool != nil }

// Accepted says that the upstream accepted the call and its answer has begun. A key that was probed is in
// service from then on, and need not wait for the end of a stream. It may be left out.
func (kp *KeyPermit) Accepted() {
	p := kp.pool
	if p == nil {
		panic("limiter: Accepted for a permit that is not held")
	}
	probe := kp.call.probe
	if probe == 0 {
		return
	}
	kp.call.probe = 0
	kp.permit.onReclaim(nil)
	defer p.mayHaveRoom() // also when a listener panics
	p.mu.Lock()
	p.restore(p.now(), kp.key, probe)
	p.unlock()
}

// Began says that the answer has begun and is not at its end; see Permit.Began. It panics when the permit is not held.
func (kp *KeyPermit) Began() {
	p := kp.pool
	if p == nil {
		panic("limiter: Began for a permit that is not held")
	}
	kp.permit.Began()
	p.mayHaveRoom()
}

// Release ends the call with what became of it and with what it told of the key, and lets the next one in. It
// panics when the permit was released before or was never acquired.
func (kp *KeyPermit) Release(o Outcome, f KeyFault) {
	p := kp.pool
	if p == nil {
		panic("limiter: Release of a permit that is not held")
	}
	kp.pool = nil
	defer kp.end(p, &o) // also when a listener panics
	p.judge(kp.key, kp.call.probe, &o, f)
}

// end ends the call once its key was judged.
func (kp *KeyPermit) end(p *Pool, o *Outcome) {
	kp.permit.uncount(&kp.key.inFlight)
	waits := p.waiting.Load() > 0
	if p.set.Load().tokens || waits && kp.call.said > 0 {
		p.settle(&kp.call, o)
	}
	if sent := kp.permit.ticket.At; waits && sent >= 0 {
		took := kp.permit.guard.now() - sent
		p.mu.Lock()
		p.room.Ended(p.now(), took, kp.call.class, o.Class)
		p.mu.Unlock()
	}
	defer p.mayHaveRoom() // also when a law panics
	kp.permit.Release(*o)
}

// settle charges a call's tenant what it used, in place of what was expected.
func (p *Pool) settle(c *poolCall, o *Outcome) {
	u := feedback.Usage{
		Known: o.InputTokens > 0 || o.OutputTokens > 0,
		Input: o.InputTokens, Output: o.OutputTokens, CachedInput: o.CachedTokens,
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.said > 0 {
		p.room.Charge(c.under, c.tenant, c.priority, c.said, c.cost, u, o.Class == feedback.OK)
	}
	if o.Class == feedback.OK {
		p.room.Learn(c.class, u)
	}
}

// Abandon gives the permit back for a call that was never made; see Permit.Abandon. It panics when the permit is not
// held.
func (kp *KeyPermit) Abandon() {
	p := kp.pool
	if p == nil {
		panic("limiter: Abandon of a permit that is not held")
	}
	turn := 0.0
	if kp.call.under != nil {
		turn = kp.permit.turn()
	}
	kp.undo(turn)
	p.mayHaveRoom()
}

// undo gives back a permit whose call was never made, and leaves its tenant charged for a part (0 to 1) of what it was. Whoever calls it sees to it that
// others are let in.
func (kp *KeyPermit) undo(turn float64) {
	p := kp.pool
	kp.pool = nil
	kp.permit.uncount(&kp.key.inFlight)
	if kp.call.probe != 0 || kp.call.under != nil {
		p.mu.Lock()
		if kp.call.probe != 0 {
			p.dropProbe(p.now(), 0, kp.key, kp.call.probe)
		}
		if kp.call.under != nil {
			p.room.Undo(kp.call.under, kp.call.tenant, kp.call.priority, kp.call.cost, turn)
		}
		p.mu.Unlock()
	}
	kp.permit.Abandon()
}
