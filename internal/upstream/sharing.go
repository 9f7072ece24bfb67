package upstream

import "math"

// sharing is a server that works on all calls at once. Calls are kept by the virtual time at which they end: virtual time
// passes as fast as the work on each call does, so that a newcomer changes nothing that was computed before (Parekh and
// Gallager, A generalized processor sharing approach to flow control, 1993).
type sharing struct {
	heap []mark
	next int64   // when the first mark is reached; never when there is none
	v    float64 // virtual time, ns of work done on each call
	at   int64   // the instant of v
	pace float64 // how fast it passes since then
	seq  uint32
}

// mark is a virtual time that means something to a call.
type mark struct {
	v     float64
	seq   uint32
	i     int32
	first bool // its answer begins; otherwise it ends
}

func (a mark) before(b mark) bool { return a.v < b.v || a.v == b.v && int32(a.seq-b.seq) < 0 }

func (p *sharing) init() { p.next = never }

// pace returns how fast virtual time passes (0 to 1).
func (u *Upstream) pace() float64 {
	c := u.servers * u.capacity
	if u.servers == 0 {
		c = math.Inf(1)
	}
	return min(1, c/float64(max(1, u.busy))) / u.slow
}

// settleShare brings virtual time to now. What the pace depends on may have changed at now: it counts from planShare on.
func (u *Upstream) settleShare(now int64) {
	p := &u.pool
	if len(p.heap) == 0 {
		p.v = 0
	} else {
		p.v += float64(now-p.at) * p.pace
	}
	p.at = now
}

// planShare computes when the first mark is reached.
func (u *Upstream) planShare(now int64) {
	p := &u.pool
	if len(p.heap) == 0 {
		p.next = never
		return
	}
	p.pace = u.pace()
	left := max(0, p.heap[0].v-p.v) / p.pace
	p.next = now + int64(math.Ceil(min(left, 1<<61)))
}

// addShare lets the server work on a call, too. begin has counted it.
func (u *Upstream) addShare(now int64, i int32) {
	p := &u.pool
	u.settleShare(now)
	s := &u.slots[i]
	slow := u.slow
	u.slow = 1 // it is in the pace
	before, after := u.work(now, s)
	u.slow = slow
	if after > 0 && s.call.Output > 0 {
		p.seq++
		p.add(mark{p.v + float64(before), p.seq, i, true})
	}
	p.seq++
	p.add(mark{p.v + float64(before+after), p.seq, i, false})
	u.planShare(now)
}

// share lets the first mark be reached.
func (u *Upstream) share(now int64) {
	p := &u.pool
	u.settleShare(now)
	m := p.heap[0]
	p.v = max(p.v, m.v)
	p.drop()
	s := &u.slots[m.i]
	switch {
	case m.first:
		s.first = now
		u.answers(now, m.i)
	default:
		u.served(now, m.i)
	}
	u.planShare(now)
}

// unshare takes a call out. It is counted no more.
func (u *Upstream) unshare(now int64, i int32) {
	p := &u.pool
	u.settleShare(now)
	kept := p.heap[:0]
	for _, m := range p.heap {
		if m.i != i {
			kept = append(kept, m)
		}
	}
	p.heap = kept
	for k := len(kept)/2 - 1; k >= 0; k-- {
		p.sink(k)
	}
	u.planShare(now)
}

func (p *sharing) add(m mark) {
	p.heap = append(p.heap, m)
	h := p.heap
	i := len(h) - 1
	for i > 0 && m.before(h[(i-1)/2]) {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = m
}

func (p *sharing) drop() {
	n := len(p.heap) - 1
	p.heap[0] = p.heap[n]
	p.heap = p.heap[:n]
	if n > 0 {
		p.sink(0)
	}
}

func (p *sharing) sink(i int) {
	h := p.heap
	m := h[i]
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if m.before(h[c]) {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = m
}
