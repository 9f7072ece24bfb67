// Package event keeps events in the order in which they happen.
package event

import "math/bits"

// Event is something that will happen: 16 bytes, without a pointer.
type Event struct {
	At  int64  // ns of virtual time
	Seq uint32 // order of making, which decides between events of one instant; never 0
	Ref uint32 // kind in the upper bits, index of what it concerns in the lower ones
}

// RefBits is how many bits of a Ref are the index.
const RefBits = 27

// Ref packs a kind (0 to 31) and an index (0 to 2^27-1).
func Ref(kind uint8, index int) uint32 { return uint32(kind)<<RefBits | uint32(index)&(1<<RefBits-1) }

// Kind returns the kind of what happens.
func (e Event) Kind() uint8 { return uint8(e.Ref >> RefBits) }

// Index returns the index of what the event concerns.
func (e Event) Index() int { return int(e.Ref & (1<<RefBits - 1)) }

// Before reports whether a happens before b. Sequence numbers may wrap: those that are pending at
// a time are never half their range apart.
func (e Event) Before(b Event) bool {
	return e.At < b.At || e.At == b.At && int32(e.Seq-b.Seq) < 0
}

// lanes is how many lanes a Queue has.
const lanes = 4

// Queue holds the events to come: a binary heap, and beside it lanes for events that are made in the
// order in which they happen, such as deadlines of equal length. A lane costs nothing to order,
// however many events are pending. An event is never removed before its time; who made it
// recognises by its sequence number that it is no longer meant. The zero Queue is empty.
type Queue struct {
	heap []Event
	lane [lanes]ring
	head [lanes]Event // the first of each lane
	has  uint8        // bit i: lane i is not empty
	from int8         // where the next event is: a lane, or inHeap; means nothing when n is 0
	n    int
	next Event // the next event; means nothing when n is 0
	seq  uint32
}

// Reset empties the queue and keeps its memory.
func (q *Queue) Reset() {
	heap, lane := q.heap[:0], q.lane
	for i := range lane {
		lane[i] = ring{buf: lane[i].buf}
	}
	*q = Queue{heap: heap, lane: lane}
}

// inHeap is Queue.from for an event in the heap.
const inHeap = lanes

// Push adds an event and returns its sequence number.
func (q *Queue) Push(at int64, ref uint32) uint32 {
	e := Event{at, q.number(), ref}
	q.note(e, inHeap)
	q.heap = append(q.heap, e)
	h := q.heap
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if h[p].At <= at { // what was made before goes first
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = e
	return e.Seq
}

// PushLane is Push for events of one kind that come in order; one that does not is pushed to the heap. The lane is 0 to 3.
func (q *Queue) PushLane(lane int, at int64, ref uint32) uint32 {
	lane &= lanes - 1
	l := &q.lane[lane]
	if at < l.last {
		return q.Push(at, ref)
	}
	l.last = at
	e := Event{at, q.number(), ref}
	q.note(e, int8(lane))
	if bit := uint8(1) << lane; q.has&bit == 0 {
		q.has |= bit
		q.head[lane] = e
	} else {
		l.push(e)
	}
	return e.Seq
}

// number returns the next sequence number, which is never 0.
func (q *Queue) number() uint32 {
	q.seq++
	if q.seq == 0 {
		q.seq = 1
	}
	return q.seq
}

// Never is an instant that does not come.
const Never = 1<<63 - 1

// note counts an event that is pushed.
func (q *Queue) note(e Event, from int8) {
	if q.n == 0 || e.At < q.next.At { // what was made before goes first
		q.next, q.from = e, from
	}
	q.n++
}

// Peek returns the instant of the next event; Never when there is none.
func (q *Queue) Peek() int64 {
	if q.n == 0 {
		return Never
	}
	return q.next.At
}

// Pop removes and returns the next event.
func (q *Queue) Pop() (e Event, ok bool) {
	if q.n == 0 {
		return Event{}, false
	}
	return q.pop(), true
}

// PopBefore is Pop for an event that happens before an instant; ok is false when there is none.
func (q *Queue) PopBefore(at int64) (e Event, ok bool) {
	if q.n == 0 || q.next.At >= at {
		return Event{}, false
	}
	return q.pop(), true
}

// pop removes and returns the next event of a queue that is not empty, and finds the one after it.
func (q *Queue) pop() Event {
	e := q.next
	q.n--
	if q.from == inHeap {
		n := len(q.heap) - 1
		last := q.heap[n]
		q.heap = q.heap[:n]
		if n > 0 {
			q.sink(last)
		}
	} else if l := &q.lane[q.from&(lanes-1)]; l.n > 0 {
		q.head[q.from&(lanes-1)] = l.front()
		l.pop()
	} else {
		q.has &^= 1 << q.from
	}
	if q.n == 0 {
		return e
	}
	next, from := Event{At: Never}, int8(inHeap)
	if len(q.heap) > 0 {
		next = q.heap[0]
	}
	for has := q.has; has != 0; has &= has - 1 {
		i := int8(bits.TrailingZeros8(has))
		if h := q.head[i&(lanes-1)]; h.At < next.At || h.At == next.At && int32(h.Seq-next.Seq) < 0 {
			next, from = h, i
		}
	}
	q.next, q.from = next, from
	return e
}

// sink puts e where the top was taken from.
func (q *Queue) sink(e Event) {
	// Down to a leaf along the earlier children, and up from there: what was the last event belongs near the bottom nearly always, so that
	// one comparison a level is enough (Wegener 1993, Bottom-up heapsort).
	h := q.heap
	i := 0
	for c := 1; c < len(h); c = 2*i + 1 {
		x := h[c]
		if c+1 < len(h) {
			if y := h[c+1]; y.At < x.At || y.At == x.At && int32(y.Seq-x.Seq) < 0 {
				c, x = c+1, y
			}
		}
		h[i] = x
		i = c
	}
	for i > 0 {
		p := (i - 1) / 2
		if !e.Before(h[p]) {
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = e
}

// ring is a first-in, first-out list of events.
type ring struct {
	buf  []Event // length a power of two
	head int
	n    int
	last int64 // the latest instant in it
}

func (r *ring) push(e Event) {
	if r.n == len(r.buf) {
		grown := make([]Event, max(64, 2*len(r.buf)))
		for i := range r.n {
			grown[i] = r.buf[(r.head+i)&(len(r.buf)-1)]
		}
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = e
	r.n++
}

func (r *ring) front() Event { return r.buf[r.head&(len(r.buf)-1)] }

func (r *ring) pop() {
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
}
