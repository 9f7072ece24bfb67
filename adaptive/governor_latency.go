package adaptive

import (
	"math"
	"time"
)

// The memory of what the upstream did at each level of calls in flight. A limit on throughput shows in throughput: calls that
// are slow because their answers are long do not make more in flight useless, and calls that queue do.
const (
	// numCells is the number of levels: two to an octave, up to 2^15 calls in flight.
	numCells = 32
	// blockSize is how many calls a block has at least.
	blockSize = 48
	// enough is the share of a level's throughput that counts as that throughput.
	enough = 0.90
	// ageCells is how long a level is remembered that was not visited.
	ageCells = 10 * time.Minute
)

// CellState is what is known of one level of calls in flight.
type CellState struct {
	// Level is the mean number of calls in flight.
	Level float64
	// Rate is how much was done a second: output tokens when all calls tell them, else calls.
	Rate float64
	// Latency is the mean time of a call in s: for calls that tell tokens, of one with the mean number of tokens.
	Latency float64
	// At is when the level was visited last.
	At time.Duration
}

func cellOf(n float64) int {
	if n <= 1 {
		return 0
	}
	return min(int(2*math.Log2(n)+0.5), numCells-1)
}

// learnLatency adds the calls of a window to the block, and judges a block that is whole.
func (g *Governor) learnLatency(t time.Duration, w *Window) {
	s := &g.s
	if w.Timed > 0 && w.Latency >= 0 {
		m := w.MeanLatency()
		if s.Latency == 0 {
			s.Latency = m
		} else {
			s.Latency += (m - s.Latency) / latencyGain
		}
		k := float64(w.Timed)
		s.MeanOf = min(s.MeanOf+k, max(k, 32))
		s.Mean += (m.Seconds() - s.Mean) * k / s.MeanOf
		s.BlockLatency += k * m.Seconds()
		s.BlockTimed += k
	}
	if s.BlockAt < s.CalmAt || s.Pace[paceRequests].Use > useBinding && s.Pace[paceRequests].Rate > 0 {
		// What was held back says nothing of how much the upstream can do.
		s.BlockAt, s.BlockLast, s.BlockArea, s.BlockCalls, s.BlockTokens, s.BlockLatency, s.BlockTimed = t, t, 0, 0, 0, 0, 0
		return
	}
	dt := (t - s.BlockAt).Seconds()
	if s.BlockLast < t {
		s.BlockArea += (t - s.BlockLast).Seconds() * float64(w.InFlight)
		s.BlockLast = t
	}
	s.BlockCalls += float64(w.OK)
	s.BlockTokens += float64(max(0, w.OutputTokens))
	if s.BlockCalls < max(blockSize, s.Limit/4) || dt <= 0 || s.BlockTimed == 0 {
		return
	}
	b := CellState{Level: s.BlockArea / dt, Rate: s.BlockCalls / dt, Latency: s.BlockLatency / s.BlockTimed, At: t}
	if s.BlockTokens > 0 {
		perCall := s.BlockTokens / s.BlockCalls
		if s.TokensPerCall == 0 {
			s.TokensPerCall = perCall
		}
		s.TokensPerCall += (perCall - s.TokensPerCall) / 16
		b.Rate = s.BlockTokens / dt
		b.Latency *= s.TokensPerCall / perCall
	}
	s.BlockAt, s.BlockArea, s.BlockCalls, s.BlockTokens, s.BlockLatency, s.BlockTimed = t, 0, 0, 0, 0, 0
	g.judge(t, &b)
}

// judge remembers a block, and lowers the limit when more in flight is of no use.
func (g *Governor) judge(t time.Duration, b *CellState) {
	s := &g.s
	s.Saturated = false
	if b.Level < 1 {
		return
	}
	if s.CutLevel > 0 && b.Level < 0.8*s.CutLevel {
		if b.Rate < 0.8*s.CutRate && b.Level > 0.4*s.Limit {
			// With less in flight less was done: it was no queue, calls take longer now.
			s.Limit, s.Cause, s.MovedAt, s.MovedFrom = max(s.Limit, 0.9*s.CutLevel), CauseRecovery, t, s.CutLevel
			s.Cells = [numCells]CellState{}
			s.Cells[cellOf(s.CutLevel)] = CellState{s.CutLevel, s.CutRate, b.Latency, t}
			g.disturbed(t)
		}
		s.CutLevel = 0
	}
	k := cellOf(b.Level)
	c := &s.Cells[k]
	if c.Rate > 0 && t-c.At < ageCells {
		d := math.Abs(math.Log(b.Rate / c.Rate))
		s.Spread += (min(1, d) - s.Spread) / 8
		c.Level += (b.Level - c.Level) / 2
		c.Rate += (b.Rate - c.Rate) / 2
		c.Latency += (b.Latency - c.Latency) / 2
		c.At = t
	} else {
		*c = *b
	}
	// The lowest level that does as much, and the quickest.
	low, lowest, best, quickest := -1, -1, 0.0, math.Inf(1)
	for i := range s.Cells[:k+1] {
		x := &s.Cells[i]
		if x.Rate <= 0 || t-x.At >= ageCells {
			continue
		}
		if lowest < 0 {
			lowest = i
		}
		if low < 0 && x.Rate >= enough*b.Rate {
			low = i
		}
		best = max(best, x.Rate)
		quickest = min(quickest, x.Latency)
	}
	wide := 1.3 + 3*s.Spread
	to := 0.0
	switch x := &s.Cells[max(low, 0)]; {
	case low >= 0 && low < k && b.Level > wide*x.Level:
		to = x.Level * (1.05 + s.Spread)
		if low == lowest {
			to = 0.7 * x.Level // nothing is known below: perhaps fewer do as much
		}
	case low >= 0 && low < k && b.Rate < (0.95-2*s.Spread)*best:
		to = x.Level * 1.05
	}
	if f := g.cfg.LatencyFactor; f > 0 && b.Latency > f*quickest*(1+s.Spread) {
		to = min(max(b.Level*f*quickest/b.Latency, 1), nonzero(to, math.Inf(1)))
	}
	if to == 0 {
		if low >= 0 && low < k-1 {
			s.Saturated = true // no use so far, but not for certain
		}
		return
	}
	s.Saturated = true
	to = max(to, float64(g.cfg.Min))
	if to < s.Limit {
		s.CutLevel, s.CutRate = b.Level, b.Rate
		s.Limit, s.Cause, s.MovedAt, s.MovedFrom = to, CauseLatency, t, to
		s.Flight = to
		s.Good, s.Used, s.Wins = 0, false, 0
		g.disturbed(t)
	}
	s.SlowStart, s.Threshold = false, 0
}

func nonzero(a, b float64) float64 {
	if a != 0 {
		return a
	}
	return b
}

// startDoubling begins to measure how long the limit takes to double.
func (s *GovernorState) startDoubling(t time.Duration) {
	s.DoubleFrom, s.DoubleAt, s.DoubleDone, s.Doubling, s.Quickest, s.QuickMean = s.Limit, t, 0, 0, 0, 0
}

// doubled notes n calls that ended well in slow start. Each raises the limit, so to double it takes as long as before while the
// upstream scales, and twice as long once it does not. doubled then ends slow start where the
// upstream was full, and reports true.
func (g *Governor) doubled(n int) bool {
	s := &g.s
	s.DoubleDone += float64(n)
	if s.DoubleFrom <= 0 {
		s.DoubleFrom = s.Limit
	}
	if s.Limit < 2*s.DoubleFrom || s.DoubleDone < s.DoubleFrom/slowStartGain {
		return false
	}
	took := s.At - s.DoubleAt
	was, best, mean := s.Doubling, s.Quickest, s.QuickMean
	from := s.DoubleFrom
	rate := s.DoubleDone / max(1e-9, took.Seconds())
	s.DoubleFrom, s.DoubleAt, s.DoubleDone, s.Doubling = s.Limit, s.At, 0, took
	if best == 0 || took < best {
		s.Quickest, s.QuickMean = took, s.Mean
	}
	if was == 0 || from < 8 || float64(took) < 1.68*float64(was) || float64(took) < 2*float64(best) || s.Mean < 1.4*mean {
		return false
	}
	s.SlowStart, s.Threshold = false, 0
	s.Good, s.Used, s.Wins = 0, false, 0
	// By Little's law this many in flight do as much, if each takes as long as when slow start was quickest.
	s.Knee = max(1.1*rate*mean, float64(g.cfg.Min))
	if knee := s.Knee; knee < s.Limit {
		s.Limit, s.Cause, s.MovedAt, s.MovedFrom = knee, CauseLatency, s.At, knee
		s.Flight = knee
	}
	return true
}

// disturbed notes that what is measured until calls have turned over says nothing of the level that they ran at.
func (g *Governor) disturbed(t time.Duration) {
	g.s.Saturated = false
	g.s.CalmAt = max(g.s.CalmAt, after(t, time.Duration(1.5e9*min(g.s.Mean, 3600))))
}
