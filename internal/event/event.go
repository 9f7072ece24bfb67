// Package event keeps events in the order in which they happen.
package event

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
func (a Event) Before(b Event) bool {
	return a.At < b.At || a.At == b.At && int32(a.Seq-b.Seq) < 0
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
	seq  uint32
}

// Push adds an event and returns its sequence number.
func (q *Queue) Push(at int64, ref uint32) uint32 {
	e := Event{at, q.number(), ref}
	q.heap = append(q.heap, e)
	h := q.heap
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if h[p].Before(e) {
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
	l := &q.lane[lane&(lanes-1)]
	if at < l.last {
		return q.Push(at, ref)
	}
	l.last = at
	e := Event{at, q.number(), ref}
	l.push(e)
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

// Peek returns the instant of the next event; Never when there is none.
func (q *Queue) Peek() int64 {
	at := int64(Never)
	if len(q.heap) > 0 {
		at = q.heap[0].At
	}
	for i := range q.lane {
		if l := &q.lane[i]; l.n > 0 {
			at = min(at, l.front().At)
		}
	}
	return at
}

// Pop removes and returns the next event.
func (q *Queue) Pop() (e Event, ok bool) {
	from := q.next(&e)
	return e, q.take(from)
}

// PopBefore is Pop for an event that happens before an instant; ok is false when there is none.
func (q *Queue) PopBefore(at int64) (e Event, ok bool) {
	from := q.next(&e)
	if from == nowhere || e.At >= at {
		return Event{}, false
	}
	return e, q.take(from)
}

// Where the next event is, beside the lanes.
const (
	nowhere = -2
	inHeap  = -1
)

// next returns where the next event is.
func (q *Queue) next(e *Event) (from int) {
	from = nowhere
	if len(q.heap) > 0 {
		*e, from = q.heap[0], inHeap
	}
	for i := range q.lane {
		l := &q.lane[i]
		if l.n == 0 {
			continue
		}
		if f := l.front(); from == nowhere || f.Before(*e) {
			*e, from = f, i
		}
	}
	return from
}

// take removes the event that next found.
func (q *Queue) take(from int) bool {
	switch from {
	case nowhere:
		return false
	case inHeap:
		n := len(q.heap) - 1
		last := q.heap[n]
		q.heap = q.heap[:n]
		if n > 0 {
			q.sink(last)
		}
	default:
		q.lane[from].pop()
	}
	return true
}

// sink puts e where the top was taken from.
func (q *Queue) sink(e Event) {
	h := q.heap
	i := 0
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].Before(h[c]) {
			c++
		}
		if e.Before(h[c]) {
			break
		}
		h[i] = h[c]
		i = c
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
