package adaptive

import (
	"math"
	"time"
)

// numCells is the number of levels of calls in flight at which latency is remembered: two to an octave, up to 2^14.
const numCells = 30

// cellMemory is how many calls a cell remembers at most.
const cellMemory = 400

func cellOf(n float64) int {
	if n <= 1 {
		return 0
	}
	return min(int(2*math.Log2(n)+0.5), numCells-1)
}

// learnLatency folds the latencies of a window into the memory of latencies by calls in flight.
func (g *Governor) learnLatency(t time.Duration, w *Window) {
	s := &g.s
	m := w.MeanLatency()
	if w.Timed <= 0 || m < 0 {
		return
	}
	if s.Latency == 0 {
		s.Latency = m
	} else {
		s.Latency += (m - s.Latency) / latencyGain
	}
	k := float64(w.Timed)
	g.block(k, m.Seconds(), float64(max(1, w.MaxInFlight)))
	s.MeanOf = min(s.MeanOf+k, max(k, 32))
	s.Mean += (m.Seconds() - s.Mean) * k / s.MeanOf
	if s.SlowStart && s.Busy || t-s.MovedAt < 2*s.Latency {
		return // calls that end while the level rises are the short ones
	}
	n := float64(max(1, w.MaxInFlight))
	c := &s.Cells[cellOf(n)]
	x := max(m.Seconds(), 1e-6)
	if c.Weight >= 8 {
		x = min(x, 4*c.Latency*math.Sqrt(1+1/k))
		d := x/c.Latency - 1
		s.Spread += (min(9, k*d*d) - s.Spread) * min(0.5, k/100)
	}
	c.Weight = min(c.Weight+k, max(cellMemory, k))
	c.Latency += (x - c.Latency) * k / c.Weight
	c.Level += (n - c.Level) * k / c.Weight
}

// queueing reports whether more in flight is of no use, because latency grows as much; it lowers the
// limit when that is certain.
func (g *Governor) queueing(w *Window) bool {
	s := &g.s
	if !w.Full || w.MaxInFlight < 1 {
		return false
	}
	k := cellOf(float64(w.MaxInFlight))
	top := &s.Cells[k]
	if top.Weight < 8 {
		return false
	}
	// The nearest level at least an octave below at which enough calls were timed.
	j := k - 2
	for j >= 0 && s.Cells[j].Weight < 8 && j > k-8 {
		j--
	}
	if j < 0 || s.Cells[j].Weight < 4 {
		return false
	}
	low := &s.Cells[j]
	span := math.Log(top.Level / low.Level)
	if span < 0.3 {
		return false
	}
	gain := 1 - math.Log(top.Latency/low.Latency)/span
	se := math.Sqrt(s.Spread/top.Weight+s.Spread/low.Weight+0.0004) / span
	switch {
	case gain+se < 0.35:
		// The highest rate that any level reached, and the lowest level that reaches it.
		best := 0.0
		for i := 0; i <= k; i++ {
			if c := &s.Cells[i]; c.Weight >= 8 {
				best = max(best, c.Level/c.Latency)
			}
		}
		knee := top.Level
		for i := 0; i <= k; i++ {
			c := &s.Cells[i]
			if c.Weight < 8 {
				continue
			}
			if r := c.Level / c.Latency; r >= 0.93*best {
				knee = min(knee, c.Level)
				break
			}
			knee = best * c.Latency
		}
		knee *= 1 + 0.5*se*span
		knee = max(knee, float64(g.cfg.Min))
		if knee < s.Limit*0.97 {
			s.Limit, s.Cause, s.MovedAt, s.MovedFrom = knee, CauseLatency, s.At, knee
			s.SlowStart, s.Threshold = false, 0
			s.Good, s.Used, s.Wins = 0, false, 0
			s.Flight = knee
			// What was measured above is to be measured anew before it counts again.
			for i := cellOf(knee) + 1; i < numCells; i++ {
				s.Cells[i].Weight = min(s.Cells[i].Weight, 8)
			}
		}
		return true
	case gain < 0.25 && top.Weight >= 16:
		return !s.SlowStart
	}
	return false
}

// clampLatency moves what was restored into range.
func (s *GovernorState) clampLatency() {
	s.Latency = min(max(0, s.Latency), time.Hour*24)
	for i := range s.Cells {
		c := &s.Cells[i]
		if !(c.Weight > 0 && c.Latency > 0 && c.Level >= 1) || math.IsInf(c.Latency+c.Level+c.Weight, 0) {
			*c = CellState{}
		}
	}
}

// startDoubling begins to measure how long the limit takes to double.
func (s *GovernorState) startDoubling(t time.Duration) {
	s.DoubleFrom, s.DoubleAt, s.DoubleDone, s.Doubling, s.Quickest = s.Limit, t, 0, 0, 0
}

// doubled notes n calls that ended well in slow start. Each raises the limit by one, so to double it takes one
// round trip while the upstream scales, and twice as long as the time before once it does not. doubled then ends slow
// start where the upstream was full, and reports true.
func (g *Governor) doubled(w *Window, n int) bool {
	s := &g.s
	s.DoubleDone += float64(n)
	if s.DoubleFrom <= 0 {
		s.DoubleFrom = s.Limit
	}
	if s.Limit < 2*s.DoubleFrom || s.DoubleDone < s.DoubleFrom {
		return false
	}
	took := s.At - s.DoubleAt
	was, best := s.Doubling, s.Quickest
	from := s.DoubleFrom
	rate := s.DoubleDone / max(1e-9, took.Seconds())
	s.DoubleFrom, s.DoubleAt, s.DoubleDone, s.Doubling = s.Limit, s.At, 0, took
	if best == 0 || took < best {
		s.Quickest = took
	}
	if was == 0 || from < 8 || float64(took) < 1.68*float64(was) || float64(took) < 2*float64(best) {
		return false
	}
	knee := max(rate*was.Seconds(), float64(g.cfg.Min))
	s.SlowStart, s.Threshold = false, 0
	s.Good, s.Used, s.Wins = 0, false, 0
	if knee < s.Limit {
		s.Limit, s.Cause, s.MovedAt, s.MovedFrom = knee, CauseLatency, s.At, knee
		s.Flight = knee
	}
	low := max(1, knee/2)
	c := &s.Cells[cellOf(low)]
	*c = CellState{Level: low, Latency: max(1e-6, best.Seconds()), Weight: min(from, 32)}
	return true
}

// block adds k calls with a mean latency of m seconds and level calls in flight to a block of calls. A whole block
// is compared with the quickest one: where latency has grown as much as the calls in flight, they queue.
func (g *Governor) block(k, m, level float64) {
	s := &g.s
	s.BlockOf += k
	s.BlockSum += k * m
	s.BlockLevel += k * level
	if s.BlockOf < blockSize {
		return
	}
	latency, n := s.BlockSum/s.BlockOf, s.BlockLevel/s.BlockOf
	s.BlockOf, s.BlockSum, s.BlockLevel = 0, 0, 0
	if s.CutLevel > 0 && n < 0.75*s.CutLevel {
		if latency > 0.85*s.CutLatency {
			// Less in flight is no quicker: it was not a queue, calls take longer now.
			s.Base, s.BaseLevel = latency, n
		}
		s.CutLevel = 0
	}
	quick := latency
	if s.SlowStart && s.At-s.MovedAt < time.Duration(2*latency*float64(time.Second)) {
		quick *= 2 // of calls that start while the level rises, the short ones end first
	}
	if s.Base == 0 || quick < s.Base {
		s.Base, s.BaseLevel = quick, n
		return
	}
	s.Base *= 1.01
	growth, span := latency/s.Base, n/s.BaseLevel
	if growth < 3 || span < 1.5 {
		return
	}
	if gain := 1 - math.Log(growth)/math.Log(span); gain < 0.35 {
		knee := max(n/growth*1.25, float64(g.cfg.Min))
		if knee < s.Limit {
			s.CutLevel, s.CutLatency = n, latency
			s.Limit, s.Cause, s.MovedAt, s.MovedFrom = knee, CauseLatency, s.At, knee
			s.Flight = knee
		}
		s.SlowStart, s.Threshold = false, 0
		s.Good, s.Used, s.Wins = 0, false, 0
	}
}

// blockSize is how many calls a block has at least.
const blockSize = 32
