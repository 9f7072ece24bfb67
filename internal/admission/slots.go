package admission

import "sync/atomic"

// Slots is the places of a guard in one word: how many calls are in flight, how many may be, how
// many callers wait, and whether something else than places holds callers back. As it is one
// word, the lock-free path and the waiting room cannot disagree: a place is taken without the lock only
// while nobody waits, and whoever gives a place back sees in the same step whether somebody does.
//
// Take and Give may be called at any time. The other methods need the lock of the Core.
type Slots struct{ word atomic.Uint64 }

// The word, from its low bits: in flight (20 bits), limit (20), held (1), unused (3), waiting (20).
const (
	slotBits    = 20
	slotMask    = 1<<slotBits - 1
	limitShift  = slotBits
	heldBit     = 1 << (2 * slotBits)
	waitShift   = 44
	waitOne     = 1 << waitShift
	divertMask  = ^uint64(heldBit - 1) // held, or somebody waits
	maxSlots    = slotMask
	minusOne    = ^uint64(0)
	maxWaiting  = slotMask
	limitFilter = uint64(slotMask) << limitShift
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

func inFlight(w uint64) int { return int(w & slotMask) }
func limitOf(w uint64) int  { return int(w >> limitShift & slotMask) }
func waiting(w uint64) int  { return int(w >> waitShift) }

// Take takes a place when one is free, nobody waits and nothing holds callers back.
// n is how many calls are in flight with this one, when it took a place.
func (s *Slots) Take() (n int, t Taken) {
	w := s.word.Load()
	if w&divertMask != 0 {
		return 0, Divert
	}
	if inFlight(w) >= limitOf(w) {
		return 0, NoPlace
	}
	w = s.word.Add(1)
	if w&divertMask == 0 {
		if n, limit := inFlight(w), limitOf(w); n < limit {
			return n, TookPlace
		} else if n == limit {
			return n, TookLast
		}
	}
	// Somebody was faster. While our count stood in the word, a Give may have found the guard
	// full and woken nobody, so the undo has the duties of a Give.
	if s.Give() {
		return 0, NoPlaceWake
	}
	return 0, NoPlace
}

// Give gives a place back. It reports whether somebody waits: the caller must then take the
// lock and run Next.
func (s *Slots) Give() (wake bool) {
	return waiting(s.word.Add(minusOne)) > 0
}

// takeFor moves one waiter to a place; it reports whether a place was free.
func (s *Slots) takeFor() (n int, ok bool) {
	for {
		w := s.word.Load()
		if inFlight(w) >= limitOf(w) {
			return inFlight(w), false
		}
		if s.word.CompareAndSwap(w, w+1-waitOne) {
			return inFlight(w) + 1, true
		}
	}
}

// force takes a place whether or not one is free, and returns how many calls are in flight with it; ok is
// false when the word cannot count more.
func (s *Slots) force() (n int, ok bool) {
	for {
		w := s.word.Load()
		if inFlight(w) >= maxSlots-1<<10 { // room for those that Take undoes
			return inFlight(w), false
		}
		if s.word.CompareAndSwap(w, w+1) {
			return inFlight(w) + 1, true
		}
	}
}

// addWaiting counts one waiter more.
func (s *Slots) addWaiting() { s.word.Add(waitOne) }

// dropWaiting counts one waiter less.
func (s *Slots) dropWaiting() { s.word.Add(^uint64(waitOne - 1)) }

// setLimit sets how many calls may be in flight (1 to maxSlots; others are clamped).
func (s *Slots) setLimit(limit int) {
	limit = min(max(1, limit), maxSlots)
	for {
		w := s.word.Load()
		if s.word.CompareAndSwap(w, w&^limitFilter|uint64(limit)<<limitShift) {
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

// InFlight returns how many calls are in flight. It may be called at any time.
func (s *Slots) InFlight() int { return inFlight(s.word.Load()) }

// Limit returns how many calls may be in flight. It may be called at any time.
func (s *Slots) Limit() int { return limitOf(s.word.Load()) }

// Waiting returns how many callers wait. It may be called at any time.
func (s *Slots) Waiting() int { return waiting(s.word.Load()) }
