package admission

import "sync/atomic"

// Slots is the places of a guard in two words, one that starts write and one that ends write. Places that are free
// are those that starts have left plus the calls that ended, so that neither has to be written twice, and the word
// of ends sums up latencies as well: a call costs two locked instructions, its record included.
//
// The word of starts also says how many calls may be in flight, how many callers wait, and whether something else
// than places holds callers back: a place is taken without the lock only while nobody waits. Whoever ends a
// call reads it afterwards; whoever begins to wait is counted in it before it reads the word of ends. All of
// these are sequentially consistent, so one of the two sees the other, and no place stays free while somebody
// waits.
//
// No more places are taken than may be. A caller has a place when its own subtraction from the word of starts left
// room, together with the ends read at any time (earlier counts too few, later is exact). Of a set of callers
// who have places at one instant, look at the one whose subtraction came last: it counted all the others, and none of
// them had ended. It may have read ends of calls that started after it, and these could only start because
// there was room with it counted.
//
// The methods try, Take, End and Give may be called at any time. The other methods need the lock of the Core.
type Slots struct {
	word atomic.Uint64
	ends atomic.Uint64
	// full says that a place taken was the last one, or that none was found. Whoever reads it puts it back.
	full atomic.Bool
	// classed is what Core.End must know of classes of calls; it is here because there is a hole.
	classed atomic.Uint32
}

// The word of starts, from its low bits: waiting (20 bits), held (1), tells (1), limit (20), left (22). Left is the
// limit less the places taken since the guard was made, modulo its size, as sequence numbers are: what is carried
// out of the word is lost.
const (
	waitBits    = 20
	waitMask    = 1<<waitBits - 1
	heldBit     = 1 << waitBits
	divertMask  = heldBit | waitMask // held, or somebody waits
	tellsBit    = 1 << 21            // each end is to be told under the lock
	serveMask   = tellsBit | waitMask
	limitShift  = 22
	limitMask   = 1<<20 - 1
	limitFilter = uint64(limitMask) << limitShift
	maxSlots    = limitMask
	maxWaiting  = waitMask

	placeShift = 42
	onePlace   = 1 << placeShift
	lessOne    = ^uint64(onePlace - 1)
	countMask  = 1<<(64-placeShift) - 1
)

// The word of ends, from its low bits: the sum of the latencies since it was last collected, in units
// of 64 ns (42 bits), and calls ended (22 bits, modulo its size).
const (
	sumUnit = 6 // log2 of the unit in ns
	sumMask = onePlace - 1
	sumFull = 1 << 41 // half of what the sum holds (39 h): time to collect
	// endsTurn is how many ends apart somebody is told to collect: a quarter of what the count holds.
	endsTurn   = 1 << 20
	endsTurned = (endsTurn - 1) << placeShift
)

// Taken says what became of Take.
type Taken uint8

const (
	// TookPlace means that the caller has a place.
	TookPlace Taken = iota
	// TookLast means that the caller has the last place.
	TookLast
	// NoPlace means that as many calls are in flight as may be.
	NoPlace
	// Divert means that somebody waits or that something holds callers back: ask under the lock.
	Divert
	// NoPlaceWake means NoPlace or Divert, and that a place became free meanwhile which a
	// waiter must be given: the caller must take the lock and run Next.
	NoPlaceWake
)

// A view is the word of starts with the ends added to what is left: how many places are free, in its bits for left.
type view uint64

func viewOf(word, ends uint64) view { return view(word + ends&^sumMask) }

// free is how many places are free; less than none when more calls are in flight than may be.
func (v view) free() int     { return int(int64(v) >> placeShift) }
func (v view) limit() int    { return int(v >> limitShift & limitMask) }
func (v view) waiting() int  { return int(v & waitMask) }
func (v view) diverts() bool { return v&divertMask != 0 }

// inFlight is less than none when the ends were read so much later that calls started and ended in between.
func (v view) inFlight() int { return v.limit() - v.free() }

// An Attempt is what Core.Try came to.
type Attempt struct {
	v    view   // with its own place taken; 0 when it took none, as a limit never is
	ends uint64 // that v counts
}

// Took reports whether the caller has a place, and not the last one.
func (a Attempt) Took() bool { return int64(a.v) >= onePlace && !a.v.diverts() }

// view returns the places as they are.
func (s *Slots) view() view {
	w := s.word.Load()
	return viewOf(w, s.ends.Load())
}

// None reports whether the attempt found no place, or was diverted.
func (a Attempt) None() bool { return a.v == 0 }

// Draw returns a number that differs from attempt to attempt and that calls which come in a period do not meet: a hash (the
// finalizer of MurmurHash3) of how many calls started and ended so far.
func (a Attempt) Draw() uint32 {
	x := uint64(a.v)>>placeShift<<32 + a.ends>>placeShift
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

// InFlight returns how many calls are in flight with the caller's, when it has a place.
func (a Attempt) InFlight() int { return a.v.inFlight() }

// try takes a place when one is free, nobody waits and nothing holds callers back. When the attempt did
// not take one of several, takeLast tells what it came to. It is half of Take, small enough to be inlined.
func (s *Slots) try() (a Attempt) {
	a.ends = s.ends.Load() &^ sumMask
	if w := s.word.Load(); w&divertMask == 0 && int64(w+a.ends) >= onePlace {
		a.v = view(s.word.Add(lessOne) + a.ends)
	}
	return a
}

// takeLast says what an attempt came to, and does what is left to do.
func (s *Slots) takeLast(a Attempt) (n int, t Taken) {
	switch {
	case a.Took():
		return a.InFlight(), TookPlace
	case a.None() && s.diverts():
		return 0, Divert
	case a.None():
		s.touchFull()
		return 0, NoPlace
	case !a.v.diverts():
		v := a.v + view(s.ends.Load()&^sumMask-a.ends) // some may have ended since
		if v.free() > 0 {
			return v.inFlight(), TookPlace
		} else if v.free() == 0 {
			s.touchFull()
			return v.inFlight(), TookLast
		}
	}
	// Somebody was faster. While our place was missing in the word, whoever ended a call may have found the guard
	// full and woken nobody, so the undo has the duties of an end.
	s.touchFull()
	if s.Give() {
		return 0, NoPlaceWake
	}
	return 0, NoPlace
}

// Take takes a place when one is free, nobody waits and nothing holds callers back.
// n is how many calls are in flight with this one, when it took a place.
func (s *Slots) Take() (n int, t Taken) {
	return s.takeLast(s.try())
}

// End ends a call that took units of latency (see sumUnit). It reports whether somebody waits, whether each end is to be told, or whether the
// ends must be collected: the caller must then take the lock, see whether that is due, and run Next.
func (s *Slots) End(units uint64) (serve bool) {
	ends := s.ends.Add(onePlace | units)
	return s.word.Load()&serveMask != 0 || ends&sumFull != 0 || ends&endsTurned == 0
}

// Give gives back a place that was taken for nothing. It reports whether somebody waits: the caller
// must then take the lock and run Next.
func (s *Slots) Give() (wake bool) { return view(s.word.Add(onePlace)).waiting() > 0 }

// touchFull notes that the limit is in use.
func (s *Slots) touchFull() {
	if !s.full.Load() {
		s.full.Store(true)
	}
}

// diverts reports whether somebody waits, or something holds callers back. It may be called at any time.
func (s *Slots) diverts() bool { return view(s.word.Load()).diverts() }

// takeFor moves one waiter to a place; it reports whether a place was free. n is how many calls are in flight then.
func (s *Slots) takeFor() (n int, ok bool) {
	for {
		w := s.word.Load()
		v := viewOf(w, s.ends.Load())
		if v.free() <= 0 {
			return v.inFlight(), false
		}
		// If this succeeds nobody started since w was read, so v has more places than are free only by the calls that
		// ended since.
		if s.word.CompareAndSwap(w, w-onePlace-1) {
			return v.inFlight() + 1, true
		}
	}
}

// force takes a place whether or not one is free, and returns how many calls are in flight with it; ok is
// false when the word cannot count more.
func (s *Slots) force() (n int, ok bool) {
	for {
		w := s.word.Load()
		n = viewOf(w, s.ends.Load()).inFlight()
		if n >= maxSlots-1<<10 { // as many as a limit can be, with room for those that Take undoes
			return n, false
		}
		if s.word.CompareAndSwap(w, w-onePlace) {
			return n + 1, true
		}
	}
}

// addWaiting counts one waiter more.
func (s *Slots) addWaiting() { s.word.Add(1) }

// dropWaiting counts one waiter less.
func (s *Slots) dropWaiting() { s.word.Add(^uint64(0)) }

// setLimit sets how many calls may be in flight (1 to maxSlots; others are clamped).
func (s *Slots) setLimit(limit int) {
	limit = min(max(1, limit), maxSlots)
	for {
		w := s.word.Load()
		more := uint64(limit - view(w).limit())
		if more == 0 || s.word.CompareAndSwap(w, w+more<<limitShift+more<<placeShift) {
			return
		}
	}
}

// setHeld says whether something else than places holds callers back.
func (s *Slots) setHeld(held bool) {
	switch was := s.word.Load()&heldBit != 0; {
	case held && !was:
		s.word.Or(heldBit)
	case !held && was:
		s.word.And(^uint64(heldBit))
	}
}

// setTells says whether whoever ends a call must take the lock and run Next, whether or not somebody waits.
func (s *Slots) setTells(tells bool) {
	if tells {
		s.word.Or(tellsBit)
	} else {
		s.word.And(^uint64(tellsBit))
	}
}

// brimming reports whether the sum of latencies must be collected before it overflows.
func (s *Slots) brimming() bool { return s.ends.Load()&sumFull != 0 }

// ended returns how many calls ended, modulo countMask+1. It may be called at any time.
func (s *Slots) ended() uint32 { return uint32(s.ends.Load() >> placeShift) }

// collect takes the sum of latencies out of the word of ends, and returns it with how many calls ended (as ended).
func (s *Slots) collect() (sum uint64, ended uint32) {
	ends := s.ends.Load()
	if sum = ends & sumMask; sum != 0 {
		s.ends.Add(-sum)
	}
	return sum, uint32(ends >> placeShift)
}

// draw returns a number made from how many calls started and ended so far. It may be called at any time.
func (s *Slots) draw() uint32 { return Attempt{s.view(), s.ends.Load()}.Draw() }

// InFlight returns how many calls are in flight. It may be called at any time.
func (s *Slots) InFlight() int {
	return max(0, s.view().inFlight())
}

// Limit returns how many calls may be in flight. It may be called at any time.
func (s *Slots) Limit() int { return view(s.word.Load()).limit() }

// Waiting returns how many callers wait. It may be called at any time.
func (s *Slots) Waiting() int { return view(s.word.Load()).waiting() }
