package sim

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// checks are what must hold in every run. They are cheap enough to be always on.
type checks struct {
	err   error
	gated bool  // the guard waits for a Retry-After
	gate  int64 // the latest instant that an answer asked to wait for
}

// fail keeps the first violation.
func (k *checks) fail(name, format string, a ...any) {
	if k.err == nil {
		k.err = &InvariantError{name, fmt.Sprintf(format, a...)}
	}
}

// granted looks at the guard when it has let a call in.
func (k *checks) granted(r *run) {
	in, limit := r.guard.core.InFlight(), r.guard.core.Limit()
	if in > limit {
		k.fail("limit", "%d in flight with a limit of %d at %v", in, limit, time.Duration(r.now))
	}
	if int64(in) != r.tally.in[inFlight]+1 {
		k.fail("in flight", "the guard counts %d, there are %d and a new one at %v", in, r.tally.in[inFlight], time.Duration(r.now))
	}
}

// send looks at an attempt that is being sent.
func (k *checks) send(r *run) {
	if !k.gated {
		return
	}
	if gate := int64(r.guard.core.Gate()); r.now < max(gate, k.gate) {
		k.fail("gate", "an attempt is sent at %v, the guard's gate opens at %v, the upstream asked to wait until %v",
			time.Duration(r.now), time.Duration(gate), time.Duration(k.gate))
	}
}

// answered learns from an answer that the caller gets what it asks for.
func (k *checks) answered(r *run, a *answer) {
	o := &a.outcome
	if !k.gated || !o.HasRetryAfter || o.RetryAfter <= 0 || o.Scope == feedback.ScopeConcurrency {
		return
	}
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
		if until := r.now + int64(o.RetryAfter); until > k.gate {
			k.gate = until
		}
	}
}

// close balances the books at the end of a run.
func (k *checks) close(r *run) {
	t := &r.tally
	var in [numStatus]int64
	sojourn, attempts := t.sojournSum, t.attemptSum
	for _, chunk := range r.requests.chunks {
		for i := range chunk {
			q := &chunk[i]
			in[q.state]++
			if q.state != unused {
				sojourn += uint64(r.now - q.begun)
			}
			if q.state == inFlight {
				attempts += uint64(r.now - q.sent)
			}
		}
	}
	in[unused] = 0
	if in != t.in {
		k.fail("conservation", "there are %v requests waiting, in flight, resting; counted were %v", in[1:], t.in[1:])
	}
	if left := t.inSystem(); t.arrived != t.ok+t.failed+t.refused+left {
		k.fail("conservation", "%d arrived; %d ok, %d failed, %d refused, %d left", t.arrived, t.ok, t.failed, t.refused, left)
	}
	if sojourn != t.systemArea {
		k.fail("Little's law", "requests spent %d ns in the world, the world held them for %d ns", sojourn, t.systemArea)
	}
	if attempts != t.flightArea {
		k.fail("Little's law", "attempts took %d ns, the flight held them for %d ns", attempts, t.flightArea)
	}
	serving, served := 0, t.servedSum
	for i := range r.up.calls {
		if c := &r.up.calls[i]; c.serving {
			serving++
			served += uint64(r.now - c.began)
		}
	}
	if serving != r.up.busy || served != t.busyArea {
		k.fail("Little's law", "servers worked for %d ns on calls that took %d ns; %d of %d are busy", t.busyArea, served, serving, r.up.busy)
	}
	if r.guarded {
		if n := r.guard.core.InFlight(); int64(n) != t.in[inFlight] {
			k.fail("in flight", "the guard counts %d at the end, there are %d", n, t.in[inFlight])
		}
		if n := r.guard.core.Waiting(); int64(n) != t.in[waiting] {
			k.fail("waiting", "the guard counts %d at the end, there are %d", n, t.in[waiting])
		}
	}
}
