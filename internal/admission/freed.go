package admission

import "time"

// freed holds places whose calls have ended: an upstream may go on counting a call for a while after its end
// (adaptive.Decision.FreeAfter), so its place is not free yet. A nil freed holds nothing.
//
// Ends are kept by the instant at which they were noticed, rounded up to a share of the time for which places are held, so that the room that
// takes, and how often somebody is woken, are bounded however many calls end.
type freed struct {
	after time.Duration // how long a place is held (> 0)
	seen  uint32        // Slots.ended that is known of
	held  int           // places that are held
	first int           // the oldest of ring
	n     int           // how many of ring are in use
	ring  [freedRing]freedEnd
}

// freedEnd is how many calls ended until an instant, after the one before.
type freedEnd struct {
	at time.Duration
	n  int
}

const (
	// freedShare is the share of the time for which places are held by which an instant is rounded up at most.
	freedShare = 32
	// freedRing is how many instants are kept: as many as there can be, and as many again for a time that is lengthened.
	freedRing = 2 * freedShare
)

// end returns the i-th oldest of the ends.
func (f *freed) end(i int) *freedEnd { return &f.ring[(f.first+i)%freedRing] }

// places returns how many places are held.
func (f *freed) places() int {
	if f == nil {
		return 0
	}
	return f.held
}

// note brings f to where it is at now; ended is Slots.ended.
func (f *freed) note(now time.Duration, ended uint32) {
	for f.n > 0 && f.end(0).at+f.after <= now {
		f.held -= f.end(0).n
		f.first = (f.first + 1) % freedRing
		f.n--
	}
	n := int((ended - f.seen) & countMask)
	f.seen = ended
	if n == 0 {
		return
	}
	f.held += n
	unit := max(1, f.after/freedShare)
	at := (now + unit - 1) / unit * unit
	if f.n > 0 {
		if last := f.end(f.n - 1); last.at >= at || f.n == freedRing {
			last.n += n
			last.at = max(last.at, at)
			return
		}
	}
	f.n++
	*f.end(f.n - 1) = freedEnd{at, n}
}

// skip says that the next call that ends is not counted by the upstream, and never was. It is told before the end is.
func (f *freed) skip() {
	if f != nil {
		f.seen++
	}
}

// opens returns when the k-th of the places that are held is free (1 to held).
func (f *freed) opens(k int) (at time.Duration) {
	for i := range f.n {
		e := f.end(i)
		at = e.at + f.after
		if k -= e.n; k <= 0 {
			break
		}
	}
	return at
}

// freeAfter has places held for a time from now on; those that are held, too. 0 holds none.
func (c *Core) freeAfter(now, after time.Duration) {
	s := c.state
	after = min(after, maxFreeAfter)
	switch {
	case after <= 0:
		s.freed = nil
	case s.freed == nil:
		s.freed = &freed{seen: c.slots.ended(), after: after}
	default:
		c.noteFreed(now)
		s.freed.after = after
	}
	c.slots.setTells(s.freed != nil)
}

// Freed returns for how long a place is held after its call has ended, 0 when none is, and how many are. It needs the lock.
func (c *Core) Freed(now time.Duration) (after time.Duration, places int) {
	if c.state == nil || c.state.freed == nil {
		return 0, 0
	}
	c.noteFreed(now)
	return c.state.freed.after, c.state.freed.held
}

// noteFreed holds the places of the calls that have ended, and frees those that were held for long enough.
func (c *Core) noteFreed(now time.Duration) {
	if f := c.state.freed; f != nil {
		f.note(now, c.slots.ended())
	}
}

// freedAt returns when a place that is held is free, if one is all that is missing; else now. How many are free is looked up first: the place of a
// call that ends meanwhile is then held before it is free, and whoever ended it has everybody looked at once more.
func (c *Core) freedAt(now time.Duration) time.Duration {
	free := c.slots.view().free()
	c.noteFreed(now)
	f := c.state.freed
	if free <= 0 || f.held < free {
		return now
	}
	return max(now, f.opens(f.held-free+1))
}
