package upstream

// list is a doubly linked list of slots.
type list struct {
	head, tail int32 // -1: empty
	n          int
}

func empty() list { return list{-1, -1, 0} }

// push adds a slot at the end, or at the front.
func (u *Upstream) push(l *list, i int32, front bool) {
	s := &u.slots[i]
	l.n++
	if l.head < 0 {
		s.prev, s.next = -1, -1
		l.head, l.tail = i, i
		return
	}
	if front {
		s.prev, s.next = -1, l.head
		u.slots[l.head].prev = i
		l.head = i
		return
	}
	s.prev, s.next = l.tail, -1
	u.slots[l.tail].next = i
	l.tail = i
}

// remove takes a slot that is in the list out of it.
func (u *Upstream) remove(l *list, i int32) {
	s := &u.slots[i]
	if s.prev >= 0 {
		u.slots[s.prev].next = s.next
	} else {
		l.head = s.next
	}
	if s.next >= 0 {
		u.slots[s.next].prev = s.prev
	} else {
		l.tail = s.prev
	}
	s.prev, s.next = -1, -1
	l.n--
}

// pop takes the first slot out of a list that is not empty.
func (u *Upstream) pop(l *list) int32 {
	i := l.head
	u.remove(l, i)
	return i
}
