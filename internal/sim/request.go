package sim

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/event"
	"github.com/flyball-go/flyball/internal/upstream"
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
	key      uint64 // what its random numbers belong to
	due      int64  // when it arrived, as intended
	begun    int64  // when it came into the world: due, or when a worker took it up
	asked    int64  // when it last asked its guard
	waited   int64  // how long it has waited there, all attempts together
	deadline int64  // when its caller gives up; 0: never
	sent     int64  // when its attempt was sent
	reached  int64  // when it reached the upstream
	client   int    // or worker, or session; -1 for open loops
	guard    int    // replica·keys + key
	rep      int    // replica
	handle   upstream.Handle
	attempts int
	timer    uint32 // sequence number of the event that ends its rest, or its attempt
	patience uint32 // of the event that ends its patience
	flight   uint32 // of the event that brings its attempt, or its answer; 0: it is in the upstream
	opening  uint32 // of the event that brings the beginning of its answer
	state    status
	tenant   uint16
	pinned   bool  // it must use its key
	cost     int64 // that its pool let it in for
	next     int   // free list

	input, output, cached int64
	work                  float64 // times Server.Service

	// Of the answer that is on its way.
	reply  *upstream.Reply
	served bool
	start  int64 // number of its start at the server
	first  int64 // when its first byte reaches the caller
}

// requests is a slab of requests. They do not move: the guard keeps pointers to their waiters.
type requests struct {
	chunks [][]request
	spare  [][]request // chunks of an earlier run
	free   int
}

// reset empties the slab and keeps its memory.
func (s *requests) reset() {
	s.spare = append(s.spare, s.chunks...)
	s.chunks, s.free = s.chunks[:0], 0
}

const chunkBits = 8

func (s *requests) at(i int) *request { return &s.chunks[i>>chunkBits][i&(1<<chunkBits-1)] }

func (s *requests) take() *request {
	if len(s.chunks) == 0 || s.free < 0 {
		base := len(s.chunks) << chunkBits
		var chunk []request
		if n := len(s.spare); n > 0 {
			chunk, s.spare = s.spare[n-1], s.spare[:n-1]
			clear(chunk)
		} else {
			chunk = make([]request, 1<<chunkBits)
		}
		for i := range chunk {
			q := &chunk[i]
			q.index, q.next = base+i, base+i+1
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

// account returns which key the request is sent with.
func (r *run) account(q *request) int { return q.guard - q.rep*r.keys }

// put moves a request to another state.
func (r *run) put(q *request, to status) {
	r.tally.in[q.state]--
	r.tally.in[to]++
	q.state = to
}

// arrive takes up the next request of a client, a worker, a session, or the stream of arrivals.
func (r *run) arrive(client int) {
	q := r.requests.take()
	if !r.source.next(r, client, q) {
		r.requests.give(q)
		return
	}
	q.begun, q.attempts, q.waited, q.patience = r.now, 0, 0, 0 // the end of the patience of who was here before is not over
	if q.deadline > 0 {
		q.patience = r.queue.PushLane(laneGiveUp, q.deadline, event.Ref(onGiveUp, q.index))
	}
	r.tally.came(r, q)
	r.tally.in[unused]++
	if r.guarded {
		w := &q.waiter
		w.Retry, w.Priority, w.Tenant, w.GiveUp = false, 0, "", time.Duration(q.deadline)
		w.Call.Class = 0
		if ts := r.cfg.Workload.Tenants; len(ts) > 0 {
			t := &ts[q.tenant]
			w.Tenant, w.Priority, w.Call.Class = t.Name, t.Priority, t.Class
		}
		if q.client < 0 && r.cfg.Workload.Kind == Traced {
			w.Priority = max(w.Priority, r.source.priority)
		}
		r.estimate(q)
	}
	r.acquire(q)
}

// estimate tells the guard what the caller knows of the request.
func (r *run) estimate(q *request) {
	w := &q.waiter
	switch r.cfg.Workload.Known {
	case KnowsNothing:
		w.Output, w.Call.Tokens = 0, 0
		return
	case KnowsInput:
		w.Output = r.source.outputs[q.tenant].mean
	case KnowsMost:
		if w.Output = r.source.outputs[q.tenant].most; w.Output == 0 {
			w.Output = q.output
		}
	case KnowsAll:
		w.Output = q.output
	}
	w.Call.Tokens = q.input + w.Output
}

// acquire starts an attempt of q: it asks the guard, or sends at once.
func (r *run) acquire(q *request) {
	if !r.guarded {
		r.choose(q)
		r.send(q)
		return
	}
	r.put(q, waiting)
	q.asked = r.now
	if q.attempts > 0 { // the guard has written over it
		q.waiter.Retry = true
		if q.waiter.Call.Tokens == 0 {
			r.estimate(q)
		}
	}
	if r.keys > 1 {
		q.cost = 0
		r.pools[q.rep].acquire(time.Duration(r.now), &q.waiter)
		return
	}
	g := &r.guards[q.guard]
	g.waiting++
	g.acquire(time.Duration(r.now), &q.waiter)
}

// pooled is what the pool of a replica does with a request that asked for a place with any key.
func (r *run) pooled(rep int, w *admission.Waiter, key int) {
	q := w.Owner.(*request)
	if w.State == admission.Granted {
		q.guard = rep*r.keys + key
		q.cost = r.pools[rep].cost
	}
	r.placed(q, w)
}

// choice is the key that a request must have; see pool.
func (r *run) choice(w *admission.Waiter) int {
	if q := w.Owner.(*request); q.pinned {
		return q.guard - q.rep*r.keys
	}
	return anyKey
}

// answered is what the guard does with a request that asked for a place.
func (r *run) answered(w *admission.Waiter) {
	q := w.Owner.(*request)
	r.guards[q.guard].waiting--
	r.placed(q, w)
}

// placed goes on with a request that has its place, or was refused one.
func (r *run) placed(q *request, w *admission.Waiter) {
	r.tally.waitedFor(r, q)
	if w.State == admission.Granted {
		g := &r.guards[q.guard]
		g.in++
		r.check.granted(r, g)
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
	q.sent, q.opening = r.now, 0
	q.handle = -1
	r.tally.sending(r, q)
	r.check.send(r, q)
	if t := r.cfg.Workload.Timeout; t > 0 {
		q.timer = r.queue.PushLane(laneTimeout, r.now+int64(t), event.Ref(onTimeout, q.index))
	}
	if r.half > 0 {
		q.flight = r.queue.PushLane(laneReach, r.now+r.half, event.Ref(onReach, q.index))
	} else {
		r.reach(q)
	}
}

// reach hands the attempt of q to the upstream.
func (r *run) reach(q *request) {
	q.flight, q.reached = 0, r.now
	q.handle = r.up.Submit(r.now, upstream.Call{
		ID: uint64(q.index), Key: q.key<<8 | uint64(q.attempts), Account: r.account(q),
		Input: q.input, Output: q.output, Cached: q.cached, MaxOutput: r.source.outputs[q.tenant].most, Work: q.work,
	})
	r.look()
}

// told is what the upstream tells of.
func (r *run) told(e *upstream.Event) {
	r.note(e.ID<<8 ^ uint64(e.Kind))
	if e.Kind == upstream.Swallowed {
		return
	}
	q := r.requests.at(int(e.ID))
	if e.Kind == upstream.FirstByte {
		r.up.Recycle(e.Reply)
		if r.half > 0 {
			q.opening = r.queue.PushLane(laneBegan, r.now+r.half, event.Ref(onBegan, q.index))
			return
		}
		r.began(q)
		return
	}
	q.handle = -1
	q.reply, q.served = e.Reply, e.Kind == upstream.Done
	if q.served {
		q.start, q.first = e.Start, q.reached+e.First+r.half
	}
	if r.half > 0 {
		q.flight = r.queue.PushLane(laneAnswer, r.now+r.half, event.Ref(onAnswer, q.index))
		return
	}
	r.answer(q)
}

// began brings the beginning of the answer to q's attempt to its caller, who sees it before the end only in a stream.
func (r *run) began(q *request) {
	g := &r.guards[q.guard]
	g.began(time.Duration(r.now), &q.waiter)
	if g.pool != nil {
		g.pool.mayHaveRoom(time.Duration(r.now))
	}
}

// answer brings the answer of q's attempt to its caller.
func (r *run) answer(q *request) {
	sig := r.signals.read(q.reply, r.now)
	r.up.Recycle(q.reply)
	q.reply = nil
	if q.served {
		if !r.source.tokens && !r.cfg.Workload.Streams {
			r.ended(q, sig, &sig.outcome)
		} else {
			o := sig.outcome
			o.InputTokens, o.OutputTokens, o.CachedTokens = q.input, q.output, q.cached
			if r.cfg.Workload.Streams {
				o.FirstByte = time.Duration(q.first - q.sent)
			}
			r.ended(q, sig, &o)
		}
		r.tally.succeeded(r, q)
		rep := &r.replicas[q.rep]
		rep.budget = min(retryReserve, rep.budget+r.cfg.Workload.Retry.Budget)
		r.source.free(r, q, true)
		r.forget(q)
		return
	}
	retry := sig.retry
	switch sig.outcome.Class { // as limiter.Retryable: what was not refused may have been done
	case feedback.Throttled, feedback.Overloaded:
	default:
		retry = retry && r.cfg.Workload.Repeatable
	}
	r.failed(q, sig, retry)
}

// failed ends an attempt that was no success, and makes another one or ends the request.
func (r *run) failed(q *request, sig *signal, retry bool) {
	after, has, class := sig.outcome.RetryAfter, sig.outcome.HasRetryAfter, sig.outcome.Class
	if sig.outcome.UntilReset && r.cfg.Guard != nil {
		has = r.guards[q.guard].core.Heeds(&sig.outcome) // as limiter.Guard.MayRetry does
	}
	r.ended(q, sig, &sig.outcome) // others may start, and sig be read anew
	if class == feedback.Throttled && r.keys > 1 && !q.pinned {
		has = false // another key may have room at once
	}
	rest, ok := r.mayRetry(q, retry, after, has)
	if !ok {
		r.done(q, lost)
		return
	}
	r.put(q, resting)
	q.timer = r.queue.Push(r.now+rest, event.Ref(onRetry, q.index))
}

// mayRetry reports whether q may make another attempt, and after what time; it takes it from the budget.
func (r *run) mayRetry(q *request, retry bool, after time.Duration, has bool) (rest int64, ok bool) {
	p := &r.cfg.Workload.Retry
	has = has && !p.Deaf
	if !retry || q.attempts >= p.Attempts || p.MaxPause > 0 && has && after > p.MaxPause {
		return 0, false
	}
	rest = r.backoff(q, after, has)
	if q.deadline > 0 && r.now+rest >= q.deadline {
		return 0, false
	}
	if p.Budget > 0 {
		rep := &r.replicas[q.rep]
		if rep.budget < 1 {
			return 0, false
		}
		rep.budget--
	}
	return rest, true
}

// ended tells the books and the guard that the attempt of q has ended.
func (r *run) ended(q *request, sig *signal, o *adaptive.Outcome) {
	r.tally.attempt(r, q, sig)
	r.check.answered(r, q, sig)
	// The request leaves the guard's count of calls in flight first, as the guard may let others
	// start before it returns.
	r.put(q, resting)
	if !r.guarded {
		return
	}
	g := &r.guards[q.guard]
	g.in--
	r.tally.last = sig
	now := time.Duration(r.now)
	if g.pool != nil {
		g.pool.released(now, r.account(q), &q.waiter, q.cost, o, sig.status == 401)
		g.release(now, &q.waiter, o)
		g.pool.mayHaveRoom(now)
		return
	}
	g.release(now, &q.waiter, o)
}

// giveUp ends a request whose patience is at its end.
func (r *run) giveUp(q *request) {
	switch q.state {
	case waiting:
		r.tally.waitedFor(r, q)
		// It is on its way out already: the guard may let others start before it returns.
		r.put(q, resting)
		if r.keys > 1 {
			r.pools[q.rep].abandon(time.Duration(r.now), &q.waiter)
			break
		}
		g := &r.guards[q.guard]
		g.waiting--
		g.abandon(time.Duration(r.now), &q.waiter)
	case inFlight:
		// What a deadline tells is for the law to say.
		sig := &gaveUp
		if feedback.Overdue(time.Duration(r.now-q.sent), time.Duration(r.now-q.begun)) && !r.answering(q) {
			sig = &overdue
		}
		r.hangUp(q)
		r.ended(q, sig, &sig.outcome)
	}
	r.done(q, lost)
}

// timeout ends an attempt that took too long.
func (r *run) timeout(q *request) {
	r.hangUp(q)
	r.failed(q, &timedOut, r.cfg.Workload.Repeatable)
}

// hangUp takes the attempt of q out of the upstream.
func (r *run) hangUp(q *request) {
	if q.handle >= 0 {
		r.up.Cancel(r.now, q.handle)
		q.handle = -1
		r.look()
	}
	q.flight, q.opening = 0, 0
}

// answering reports whether the caller of q has seen the beginning of an answer.
func (r *run) answering(q *request) bool {
	return r.cfg.Workload.Streams && (q.handle < 0 && q.reply != nil && q.served || q.handle >= 0 && r.up.Answering(r.now-r.half, q.handle))
}

// fate is how a request ended.
type fate uint8

const (
	lost    fate = iota // after an answer, or its caller gave up
	refused             // by the guard
)

// done ends a request that did not succeed.
func (r *run) done(q *request, f fate) {
	if f == lost {
		r.tally.failed++
	} else {
		r.tally.refused++
	}
	r.source.free(r, q, false)
	r.forget(q)
}

func (r *run) forget(q *request) {
	r.tally.sojourn(r, q)
	r.put(q, unused)
	r.tally.in[unused]--
	r.requests.give(q)
}

// backoff returns how long q rests after an attempt that failed.
func (r *run) backoff(q *request, after time.Duration, has bool) int64 {
	p := &r.cfg.Workload.Retry
	most := p.Max
	if n := q.attempts - 1; n < 40 && p.Base < most>>n {
		most = p.Base << n
	}
	if has && after > 0 {
		after = min(after, 1<<60)
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
	return int64(draw.U(r.cfg.Seed, streamBackoff, q.key<<8|uint64(q.attempts)) * float64(most))
}

// choose gives q, which no guard does, a key at random.
func (r *run) choose(q *request) {
	if r.keys > 1 && !q.pinned {
		q.guard = q.rep*r.keys + int(draw.Bits(r.cfg.Seed, streamReplica, q.key<<8|uint64(q.attempts)|1<<63)%uint64(r.keys))
	}
}
