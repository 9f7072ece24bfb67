package sim

import (
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// status is where a request is.
type status uint8

const (
	unused   status = iota
	waiting         // in the guard
	inFlight        // an attempt is on its way or in the upstream
	resting         // between two attempts

	numStatus = int(resting) + 1
)

// request is one request from its arrival until its caller has an answer or gave up.
type request struct {
	waiter   admission.Waiter
	index    int
	id       uint64 // number of its arrival
	due      int64  // when it arrived, as intended
	begun    int64  // when it came into the world: due, or when a worker took it up
	deadline int64  // when its caller gives up; 0: never
	sent     int64  // when its attempt was sent
	client   int    // or worker; -1 for Poisson
	call     int    // in the upstream; -1: none
	attempts int
	timer    uint32 // sequence number of the event that ends its rest
	patience uint32 // sequence number of the event that ends its patience
	state    status
	next     int // free list
}

// requests is a slab of requests. They do not move: the guard keeps pointers to their waiters.
type requests struct {
	chunks [][]request
	free   int
}

const chunkBits = 8

func (s *requests) at(i int) *request { return &s.chunks[i>>chunkBits][i&(1<<chunkBits-1)] }

func (s *requests) take() *request {
	if len(s.chunks) == 0 || s.free < 0 {
		base := len(s.chunks) << chunkBits
		chunk := make([]request, 1<<chunkBits)
		for i := range chunk {
			q := &chunk[i]
			q.index, q.call, q.next = base+i, -1, base+i+1
			q.waiter.Owner = q
		}
		chunk[len(chunk)-1].next = -1
		s.chunks = append(s.chunks, chunk)
		s.free = base
	}
	q := s.at(s.free)
	s.free = q.next
	return q
}

func (s *requests) give(q *request) {
	q.state, q.next = unused, s.free
	s.free = q.index
}

// put moves a request to another state.
func (r *run) put(q *request, to status) {
	r.tally.in[q.state]--
	r.tally.in[to]++
	q.state = to
}

// arrive takes up the next request of a client, a worker, or the stream of arrivals.
func (r *run) arrive(client int) {
	due, ok := r.source.next(r, client)
	if !ok {
		return
	}
	q := r.requests.take()
	q.id, q.due, q.begun, q.attempts, q.client = r.source.taken, due, r.now, 0, client
	r.source.taken++
	q.deadline = 0
	if p := r.cfg.Workload.Patience; p > 0 {
		q.deadline = due + int64(p)
		q.patience = r.queue.pushLane(q.deadline, ref(onGiveUp, q.index))
	}
	r.tally.arrived++
	r.tally.in[unused]++
	r.acquire(q)
}

// acquire starts an attempt of q: it asks the guard, or sends at once.
func (r *run) acquire(q *request) {
	if !r.guarded {
		r.send(q)
		return
	}
	r.put(q, waiting)
	q.waiter.GiveUp = time.Duration(q.deadline)
	q.waiter.Call.Tokens, q.waiter.Call.Class = 0, 0
	r.guard.acquire(time.Duration(r.now), &q.waiter)
}

// answered is what the guard does with a request that asked for a place.
func (r *run) answered(w *admission.Waiter) {
	q := w.Owner.(*request)
	if w.State == admission.Granted {
		r.check.granted(r)
		r.send(q)
		return
	}
	r.tally.reasons[w.Reason]++
	r.done(q, refused)
}

// send sends an attempt of q.
func (r *run) send(q *request) {
	r.put(q, inFlight)
	q.attempts++
	q.sent = r.now
	r.tally.sent++
	r.check.send(r)
	c := r.up.take()
	q.call = c
	r.up.calls[c].request = q.index
	if half := r.up.half; half > 0 {
		r.queue.push(r.now+half, ref(onReach, c))
	} else {
		r.reach(c)
	}
}

// answer brings the answer of a call to its caller.
func (r *run) answer(c int) {
	cl := &r.up.calls[c]
	if cl.request < 0 { // its caller gave up long ago
		r.up.give(c)
		return
	}
	q := r.requests.at(cl.request)
	a := &r.answers.all[cl.answer]
	start := cl.start
	said := cl.answer
	r.up.give(c)
	q.call = -1
	r.ended(q, said)
	switch {
	case said == answerOK:
		r.tally.succeeded(r, q)
		r.budget = min(retrySaved, r.budget+r.cfg.Workload.Retry.Budget)
		r.source.free(r, q.client, start, true)
		r.forget(q)
	case !r.mayRetry(q, a):
		r.done(q, failed)
	default:
		r.put(q, resting)
		q.timer = r.queue.push(r.now+r.backoff(q, a), ref(onRetry, q.index))
	}
}

// mayRetry reports whether q may make another attempt after the answer a, and takes it from the budget.
func (r *run) mayRetry(q *request, a *answer) bool {
	p := &r.cfg.Workload.Retry
	switch {
	case !a.retry || q.attempts >= p.Attempts:
		return false
	case p.MaxPause > 0 && !p.Deaf && a.outcome.HasRetryAfter && a.outcome.RetryAfter > p.MaxPause:
		return false
	case q.deadline > 0 && r.now+r.backoff(q, a) >= q.deadline:
		return false
	case p.Budget > 0:
		if r.budget < 1 {
			return false
		}
		r.budget--
	}
	return true
}

// ended tells the books and the guard that the attempt of q has ended.
func (r *run) ended(q *request, said int) {
	a := &r.answers.all[said]
	r.tally.attempt(r, q, a)
	r.check.answered(r, a)
	// The request leaves the guard's count of calls in flight first, as the guard may let others
	// start before it returns.
	r.put(q, resting)
	if r.guarded {
		r.guard.release(time.Duration(r.now), &q.waiter, &a.outcome)
	}
}

// giveUp ends a request whose patience is at its end.
func (r *run) giveUp(index int, seq uint32) {
	q := r.requests.at(index)
	if q.state == unused || q.patience != seq {
		return
	}
	switch q.state {
	case waiting:
		r.guard.abandon(time.Duration(r.now), &q.waiter)
	case inFlight:
		r.up.abandon(q.call)
		q.call = -1
		r.ended(q, answerGaveUp)
	}
	r.done(q, failed)
}

// fate is how a request ended.
type fate uint8

const (
	failed  fate = iota // after an answer, or its caller gave up
	refused             // by the guard
)

// done ends a request that did not succeed.
func (r *run) done(q *request, f fate) {
	if f == failed {
		r.tally.failed++
	} else {
		r.tally.refused++
	}
	r.source.free(r, q.client, int64(q.id), false)
	r.forget(q)
}

func (r *run) forget(q *request) {
	r.tally.sojourn(r, q)
	r.put(q, unused)
	r.tally.in[unused]--
	r.requests.give(q)
}

// backoff returns how long q rests after the answer a.
func (r *run) backoff(q *request, a *answer) int64 {
	p := &r.cfg.Workload.Retry
	most := p.Max
	if n := q.attempts - 1; n < 30 {
		most = min(p.Max, p.Base<<n)
	}
	if a.outcome.HasRetryAfter && !p.Deaf {
		after := min(a.outcome.RetryAfter, 1<<60)
		if p.Exact {
			return int64(after)
		}
		return int64(after) + r.jitter(q, min(most, after/20))
	}
	steady := int64(p.Steady * float64(most))
	return steady + r.jitter(q, most-time.Duration(steady))
}

// jitter returns a time between 0 and most, drawn for the attempt of q that just ended.
func (r *run) jitter(q *request, most time.Duration) int64 {
	return int64(uniform(draw(r.cfg.Seed, streamBackoff, q.id<<8|uint64(q.attempts))) * float64(most))
}
