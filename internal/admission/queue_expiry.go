package admission

import "time"

// never is a deadline that does not come. Later ones mean the same; so all that are kept can be
// subtracted from each other.
const never = time.Duration(1) << 61

// expiry knows who expires next. Waiters whose deadlines come in the order in which they asked, which is
// all of them while the guard's longest wait stays the same and time does not go backwards, are in a list,
// where coming and going costs the same for any number; the others are in a heap.
type expiry struct {
	first, last *queueItem // by deadline, then by seq
	others      indexHeap[queueItem]
}

// listed is the queueItem.expiryAt of one in the list.
const listed = -1

func (e *expiry) add(it *queueItem) {
	switch {
	case it.Deadline >= never:
		it.expiryAt = 0
	case e.last == nil || it.Deadline >= e.last.Deadline:
		it.expiryAt = listed
		it.sooner, it.later = e.last, nil
		if e.last == nil {
			e.first = it
		} else {
			e.last.later = it
		}
		e.last = it
	default:
		e.others.add(it, &it.expiryAt, int64(max(it.Deadline, -never)), it.seq)
	}
}

func (e *expiry) remove(it *queueItem) {
	switch {
	case it.expiryAt == 0:
	case it.expiryAt != listed:
		e.others.remove(&it.expiryAt)
	default:
		it.expiryAt = 0
		if it.sooner == nil {
			e.first = it.later
		} else {
			it.sooner.later = it.later
		}
		if it.later == nil {
			e.last = it.sooner
		} else {
			it.later.sooner = it.sooner
		}
		it.sooner, it.later = nil, nil
	}
}

// next returns who expires first; nil when nobody does.
func (e *expiry) next() *queueItem {
	it := e.first
	if e.others.len() == 0 {
		return it
	}
	o := e.others.top()
	if it == nil || o.Deadline < it.Deadline || o.Deadline == it.Deadline && o.seq < it.seq {
		return o
	}
	return it
}

// hasten moves all deadlines after at to it.
func (q *queue) hasten(at time.Duration) {
	for it := q.expiry.last; it != nil && it.Deadline > at; it = it.sooner {
		it.Deadline = at // the list stays in order
	}
	var late []*queueItem
	for _, o := range q.expiry.others.s {
		if o.v.Deadline > at {
			late = append(late, o.v)
		}
	}
	for _, it := range late {
		q.expiry.remove(it)
		it.Deadline = at
		q.expiry.add(it)
	}
}
