package admission

// heapEntry is a value in an indexHeap with the key it is ordered by. The key is kept beside the
// pointer, so that sifting does not follow it.
type heapEntry[T any] struct {
	key int64
	tie uint64
	v   *T
	at  *int32
}

// before orders by key, then by tie. Keys are compared by their difference, as TCP compares sequence
// numbers: they may wrap around, as long as those in one heap are less than 2^63 apart.
func (a *heapEntry[T]) before(b *heapEntry[T]) bool {
	d := a.key - b.key
	return d < 0 || d == 0 && a.tie < b.tie
}

// indexHeap is a binary heap, least key first, from which any value can be taken. A value says
// where it keeps its place in the heap: an int32 of its own, counted from 1, and 0 while it is not
// in. The zero indexHeap is empty.
type indexHeap[T any] struct{ s []heapEntry[T] }

// heapKeep is how many entries an empty heap keeps room for; one that was larger gives its memory back.
const heapKeep = 256

func (h *indexHeap[T]) len() int { return len(h.s) }

// top returns the least value of a heap that is not empty.
func (h *indexHeap[T]) top() *T { return h.s[0].v }

// add puts v, which is not in h, into h.
func (h *indexHeap[T]) add(v *T, at *int32, key int64, tie uint64) {
	h.s = append(h.s, heapEntry[T]{key, tie, v, at})
	if n := len(h.s); n > 1 {
		h.up(n-1, h.s[n-1])
	} else {
		*at = 1
	}
}

// fix changes the key of the value at the place.
func (h *indexHeap[T]) fix(at *int32, key int64, tie uint64) {
	e := &h.s[*at-1]
	e.key, e.tie = key, tie
	if len(h.s) > 1 {
		h.sift(int(*at-1), *e)
	}
}

// remove takes out the value at the place.
func (h *indexHeap[T]) remove(at *int32) {
	i, n := int(*at-1), len(h.s)-1
	*at = 0
	last := h.s[n]
	h.s[n] = heapEntry[T]{}
	h.s = h.s[:n]
	if i < n {
		h.sift(i, last)
	} else if n == 0 {
		h.trim()
	}
}

// clear empties h; the values keep their places, which their owner must put to 0.
func (h *indexHeap[T]) clear() {
	clear(h.s)
	h.s = h.s[:0]
	h.trim()
}

func (h *indexHeap[T]) trim() {
	if cap(h.s) > heapKeep {
		h.s = nil
	}
}

func (h *indexHeap[T]) sift(i int, e heapEntry[T]) {
	if i > 0 && e.before(&h.s[(i-1)/2]) {
		h.up(i, e)
		return
	}
	n := len(h.s)
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && h.s[child+1].before(&h.s[child]) {
			child++
		}
		if !h.s[child].before(&e) {
			break
		}
		h.put(i, h.s[child])
		i = child
	}
	h.put(i, e)
}

func (h *indexHeap[T]) up(i int, e heapEntry[T]) {
	for i > 0 {
		parent := (i - 1) / 2
		if !e.before(&h.s[parent]) {
			break
		}
		h.put(i, h.s[parent])
		i = parent
	}
	h.put(i, e)
}

func (h *indexHeap[T]) put(i int, e heapEntry[T]) {
	h.s[i] = e
	*e.at = int32(i + 1)
}
