package sim

// event is something that will happen: 16 bytes, without a pointer.
type event struct {
	at  int64  // ns of virtual time
	seq uint32 // order of making, which decides between events of one instant
	ref uint32 // kind in the upper 4 bits, index of what it concerns in the lower 28
}

const (
	refBits = 28
	refMask = 1<<refBits - 1
)

func ref(kind uint8, index int) uint32 { return uint32(kind)<<refBits | uint32(index)&refMask }

// before reports whether a happens before b. Sequence numbers may wrap: those that are pending at
// a time are never half their range apart.
func (a event) before(b event) bool {
	return a.at < b.at || a.at == b.at && int32(a.seq-b.seq) < 0
}

// queue holds the events to come: a binary heap, and beside it a lane for events that are made in the
// order in which they happen, such as deadlines of equal length. The lane costs nothing to order,
// however many events are pending. An event is never removed before its time; who made it
// recognises by its sequence number that it is no longer meant.
type queue struct {
	heap []event
	lane ring
	seq  uint32
	last int64 // the latest instant in the lane
}

// push adds an event and returns its sequence number.
func (q *queue) push(at int64, ref uint32) uint32 {
	e := event{at, q.number(), ref}
	q.heap = append(q.heap, e)
	h := q.heap
	i := len(h) - 1
	for i > 0 {
		p := (i - 1) / 2
		if h[p].before(e) {
			break
		}
		h[i] = h[p]
		i = p
	}
	h[i] = e
	return e.seq
}

// pushLane is push for events that come in order; one that does not is pushed to the heap.
func (q *queue) pushLane(at int64, ref uint32) uint32 {
	if at < q.last {
		return q.push(at, ref)
	}
	q.last = at
	e := event{at, q.number(), ref}
	q.lane.push(e)
	return e.seq
}

// number returns the next sequence number, which is never 0.
func (q *queue) number() uint32 {
	q.seq++
	if q.seq == 0 {
		q.seq = 1
	}
	return q.seq
}

// pop removes and returns the next event.
func (q *queue) pop() (e event, ok bool) {
	if q.lane.n > 0 && (len(q.heap) == 0 || q.lane.front().before(q.heap[0])) {
		return q.lane.pop(), true
	}
	if len(q.heap) == 0 {
		return event{}, false
	}
	e = q.heap[0]
	n := len(q.heap) - 1
	last := q.heap[n]
	q.heap = q.heap[:n]
	if n > 0 {
		q.sink(last)
	}
	return e, true
}

// sink puts e where the top was taken from.
func (q *queue) sink(e event) {
	h := q.heap
	i := 0
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if e.before(h[c]) {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = e
}

// ring is a first-in, first-out list of events.
type ring struct {
	buf  []event // length a power of two
	head int
	n    int
}

func (r *ring) push(e event) {
	if r.n == len(r.buf) {
		grown := make([]event, max(64, 2*len(r.buf)))
		for i := range r.n {
			grown[i] = r.buf[(r.head+i)&(len(r.buf)-1)]
		}
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = e
	r.n++
}

func (r *ring) front() event { return r.buf[r.head] }

func (r *ring) pop() event {
	e := r.buf[r.head]
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return e
}
