package sim

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

// checks are what must hold in every run. They are cheap enough to be always on.
type checks struct {
	err   error
	gated bool // the guards wait for a Retry-After
}

// fail keeps the first violation.
func (k *checks) fail(name, format string, a ...any) {
	if k.err == nil {
		k.err = &InvariantError{name, fmt.Sprintf(format, a...)}
	}
}

// granted looks at a guard when it has let a call in.
func (k *checks) granted(r *run, g *guarded) {
	in, limit := g.core.InFlight(), g.core.Limit()
	if in > limit && !g.cfg.Observe {
		k.fail("limit", "%d in flight with a limit of %d at %v", in, limit, time.Duration(r.now))
	}
	if int64(in) != g.in {
		k.fail("in flight", "the guard counts %d, there are %d at %v", in, g.in, time.Duration(r.now))
	}
}

// send looks at an attempt that is being sent: an upstream that asked this replica and key to wait must not be called before. A
// guard that waits for a Retry-After must never do it; of others it is counted.
func (k *checks) send(r *run, q *request) {
	told := r.replicas[q.rep].gates[r.account(q)]
	if r.now >= told && !k.gated {
		return
	}
	if r.now < told {
		r.tally.inside++
	}
	if !k.gated || r.cfg.Guard.Observe {
		return
	}
	if gate := int64(r.guards[q.guard].core.Gate()); r.now < max(gate, told) {
		k.fail("gate", "an attempt is sent at %v, the guard's gate opens at %v, the upstream asked to wait until %v",
			time.Duration(r.now), time.Duration(gate), time.Duration(told))
	}
}

// answered learns from an answer until when its caller was asked to wait. A delay beside a limit on calls in flight asks
// nobody else, and what is longer than a guard's longest pause is not waited for.
func (k *checks) answered(r *run, q *request, sig *signal) {
	o := &sig.outcome
	if !o.HasRetryAfter || o.UntilReset && r.cfg.Guard != nil && !r.guards[q.guard].core.Heeds(o) || o.RetryAfter <= 0 || o.Scope == feedback.ScopeConcurrency {
		return
	}
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
		gate := &r.replicas[q.rep].gates[r.account(q)]
		var maxPause time.Duration
		if r.cfg.Guard != nil {
			maxPause = r.cfg.Guard.MaxPause
		}
		if until := r.now + int64(admission.Asked(o, maxPause)); until > *gate {
			*gate = until
			r.tally.gated(until)
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
	if worked := r.up.Worked(r.now); worked != t.busyArea {
		k.fail("Little's law", "servers worked for %d ns on calls that took %d ns", t.busyArea, worked)
	}
	if !r.guarded {
		return
	}
	var flying, waits int64
	for i := range r.guards {
		g := &r.guards[i]
		if n := g.core.InFlight(); int64(n) != g.in {
			k.fail("in flight", "guard %d counts %d at the end, there are %d", i, n, g.in)
		}
		if n := g.core.Waiting(); int64(n) != g.waiting {
			k.fail("waiting", "guard %d counts %d at the end, there are %d", i, n, g.waiting)
		}
		flying += g.in
		waits += g.waiting
	}
	for i := range r.pools {
		waits += int64(r.pools[i].waiting)
	}
	if flying != t.in[inFlight] || waits != t.in[waiting] {
		k.fail("conservation", "the guards hold %d in flight and %d waiting, there are %d and %d", flying, waits, t.in[inFlight], t.in[waiting])
	}
}
