package admission

import (
	"sync/atomic"
	"time"
)

// meter is what is counted of plain successes without a lock, beside the word of ends in Slots, which has their
// number and the sum of their latencies. Nothing here is written by most calls. Calls that tell more than a latency
// are counted under the lock (Core.window).
type meter struct {
	// min is the smallest latency in ns, plus 1; 0 when there is none.
	min atomic.Int64
	// most is the most in flight that a counted call saw.
	most atomic.Int32
	// timed counts the calls that were timed, while not all are; see sampled.
	timed atomic.Uint32
	// sampled says that calls are counted in timed, because others are not timed. It changes under the lock.
	sampled atomic.Bool
	// seen is Slots.ended as it was when last collected. It needs the lock to be written.
	seen atomic.Uint32
}

// meterLongest is the longest latency that is counted without the lock. Between sumFull and an overflow,
// 70,000 such calls may end before somebody collects.
const meterLongest = 2 * time.Second

// lowers and raises report whether note has to be called: for few calls.
func (m *meter) lowers(latency time.Duration) bool { return uint64(latency) < uint64(m.min.Load())-1 }
func (m *meter) raises(inFlight int) bool          { return int32(inFlight) > m.most.Load() }

// note notes one call that ends. Its latency may be Untimed.
//
//go:noinline
func (m *meter) note(latency time.Duration, inFlight int) {
	for latency != Untimed {
		if lo := m.min.Load(); !m.lowers(latency) || m.min.CompareAndSwap(lo, int64(latency)+1) {
			break
		}
	}
	for {
		if most := m.most.Load(); int32(inFlight) <= most || m.most.CompareAndSwap(most, int32(inFlight)) {
			break
		}
	}
}

// metered is what a meter held.
type metered struct {
	ok, timed int
	sum, min  time.Duration
	most      int
	full      bool
}

// collect empties the meter of what was counted since it was collected last. It needs the lock.
func (m *meter) collect(s *Slots) (c metered) {
	sum, ended := s.collect()
	// A locked instruction costs more than to look whether there is anything.
	if seen := m.seen.Load(); seen != ended {
		c.ok = int((ended - seen) & countMask)
		m.seen.Store(ended)
	}
	c.timed = c.ok
	if m.sampled.Load() {
		c.timed = min(c.ok, int(m.timed.Load())) // one may be counted here and not yet have ended
		m.timed.Add(-uint32(c.timed))
	}
	c.sum = time.Duration(sum) << sumUnit
	lo := m.min.Load()
	if lo != 0 {
		lo = m.min.Swap(0)
	}
	if lo > 0 {
		c.min = time.Duration(lo - 1)
	} else if c.timed > 0 {
		c.min = c.sum / time.Duration(c.timed) // it was collected between the two halves of a call's end
	}
	if m.most.Load() != 0 {
		c.most = int(m.most.Swap(0))
	}
	c.full = s.full.Load() && s.full.Swap(false)
	return c
}

// count returns how many calls were counted since the meter was collected. It may be called at any time.
func (m *meter) count(s *Slots) uint64 { return uint64((s.ended() - m.seen.Load()) & countMask) }
