package admission

import (
	"sync/atomic"
	"time"
)

// meter counts the plain successes since the last window without a lock: a sample is one
// addition. Calls that tell more than a latency are counted under the lock (Core.window).
type meter struct {
	// sum packs how many calls were counted (22 bits) over the sum of their latencies in
	// units of 64 ns (42 bits), so that both change in one addition.
	sum atomic.Uint64
	// min is the smallest latency in ns, plus 1; 0 when there is none.
	min atomic.Int64
	// untimed counts calls whose latency is not known.
	untimed atomic.Uint32
	// most is the most in flight that a counted call saw.
	most atomic.Int32
	// full says that a call took the last place or found none.
	full atomic.Bool
}

const (
	meterUnit      = 6 // log2 of the unit of latency in ns
	meterSumBits   = 42
	meterOne       = 1 << meterSumBits
	meterSumMask   = meterOne - 1
	meterCountFull = 1 << 21 // half of what the count holds: time to collect
	meterSumFull   = 1 << 41 // half of what the sum holds (39 h): time to collect
	// meterLongest is the longest latency that is counted without the lock. Between
	// meterSumFull and an overflow, 70,000 such calls may end before somebody collects.
	meterLongest = 2 * time.Second
)

// add counts one call. It reports whether the meter must be collected before it overflows.
func (m *meter) add(latency time.Duration, inFlight int) (brimming bool) {
	if latency < 0 {
		latency = 0 // the clock stood still or went back
	}
	if n := int32(inFlight); n > m.most.Load() {
		raise(&m.most, n)
	}
	if lo := m.min.Load(); lo == 0 || int64(latency) < lo-1 {
		m.lower(int64(latency) + 1)
	}
	v := m.sum.Add(meterOne | uint64(latency)>>meterUnit)
	return v>>meterSumBits >= meterCountFull || v&meterSumMask >= meterSumFull
}

// brimming reports whether the meter must be collected before it overflows.
func (m *meter) brimming() bool {
	v := m.sum.Load()
	return v>>meterSumBits >= meterCountFull || v&meterSumMask >= meterSumFull
}

func (m *meter) lower(v int64) {
	for {
		lo := m.min.Load()
		if lo != 0 && lo <= v || m.min.CompareAndSwap(lo, v) {
			return
		}
	}
}

func raise(a *atomic.Int32, v int32) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// touchFull notes that the limit is in use.
func (m *meter) touchFull() {
	if !m.full.Load() {
		m.full.Store(true)
	}
}

// addUntimed counts one call whose latency is not known.
func (m *meter) addUntimed(inFlight int) {
	if n := int32(inFlight); n > m.most.Load() {
		raise(&m.most, n)
	}
	m.untimed.Add(1)
}

// count returns how many calls were counted since the meter was collected.
func (m *meter) count() uint64 { return m.sum.Load()>>meterSumBits + uint64(m.untimed.Load()) }

// metered is what a meter held.
type metered struct {
	ok, timed int
	sum, min  time.Duration
	most      int
	full      bool
}

// collect empties the meter.
func (m *meter) collect() (c metered) {
	v := m.sum.Swap(0)
	c.timed = int(v >> meterSumBits)
	c.ok = c.timed + int(m.untimed.Swap(0))
	c.sum = time.Duration(v&meterSumMask) << meterUnit
	if lo := m.min.Swap(0); lo > 0 {
		c.min = time.Duration(lo - 1)
	} else if c.timed > 0 {
		c.min = c.sum / time.Duration(c.timed) // it was collected between the two halves of an add
	}
	c.most, c.full = int(m.most.Swap(0)), m.full.Swap(false)
	return c
}
