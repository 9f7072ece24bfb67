package adaptive

import (
	"math"
	"time"
)

// The memory of what the upstream did at each level of calls in flight. A limit on throughput shows in throughput: calls that
// are slow because their answers are long do not make more in flight useless, and calls that queue do.
const (
	// numCells is the number of levels: two to an octave, up to 2048 calls in flight; more are of the last level.
	numCells = 23
	// blockSize is how many calls a block has at least.
	blockSize = 48
	// enough is the share of a level's throughput that counts as that throughput.
	enough = 0.90
	// ageCells is how long a level is remembered that was not visited.
	ageCells = 600 // s
	// ramp is how many more calls are in flight at the end of a block than at its beginning, for each that ended in it, for it to say nothing: after a pause all begin at
	// once and none ends. Slow start adds two for each end, and its blocks count.
	ramp = 2.5
)

// CellState is what is known of one level of calls in flight.
type CellState struct {
	// Level is the mean number of calls in flight.
	Level float32
	// Rate is how much was done a second: output tokens when all calls tell them, else calls.
	Rate float32
	// Latency is the mean time of a call in s: for calls that tell tokens, of one with the mean number of tokens.
	Latency float32
	// At is when the level was visited last, in s since GovernorState.Origin.
	At float32
}

// block is a level of calls in flight as it is reckoned with.
type block struct{ level, rate, latency float64 }

func (b block) cell(at float32) CellState {
	return CellState{float32(min(b.level, unbounded)), float32(min(b.rate, unbounded)), float32(min(b.latency, unbounded)), at}
}

func (c *CellState) block() block {
	return block{float64(c.Level), float64(c.Rate), float64(c.Latency)}
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
	g.took = 0
	if w.Timed > 0 && w.Latency >= 0 && !s.frozen(t, w.MeanLatency()) {
		m := w.MeanLatency()
		if s.Latency == 0 {
			s.Latency = m
		} else {
			s.Latency += (m - s.Latency) / latencyGain
		}
		k := float64(w.Timed)
		s.MeanOf = float32(min(float64(s.MeanOf)+k, max(k, 32)))
		s.Mean += (m.Seconds() - s.Mean) * k / float64(s.MeanOf)
		g.learnSize(w)
		g.learnBase(w)
		g.learnLevel(w)
		s.BlockLatency += float32(k * m.Seconds())
		s.BlockTimed += float32(k)
	}
	if s.BlockAt < s.CalmAt || s.Drain > 0 && s.clear() || s.Pace[paceRequests].Use > useBinding && s.Pace[paceRequests].Rate > 0 {
		// What was held back says nothing of how much the upstream can do.
		s.beginBlock(t, w)
		return
	}
	dt := (t - s.BlockAt).Seconds()
	if s.BlockLast < t {
		s.BlockArea += float32((t - s.BlockLast).Seconds() * float64(w.InFlight))
		s.BlockLast = t
	}
	s.BlockCalls += float32(w.OK)
	s.BlockTokens += float32(max(0, w.OutputTokens))
	if float64(s.BlockCalls) < max(blockSize, s.Limit/4) || dt <= 0 || s.BlockTimed == 0 {
		return
	}
	if float64(w.InFlight)-float64(s.BlockFrom) > ramp*float64(s.BlockCalls) {
		s.beginBlock(t, w) // as many in flight as that have not had the time to end
		return
	}
	// Of calls that generate tokens, those in flight are half done on average.
	done := 1.0
	if s.BlockTokens >= 1 {
		done = max(0.2, 1+(float64(w.InFlight)-float64(s.BlockFrom))/2/float64(s.BlockCalls))
	}
	b := block{float64(s.BlockArea) / dt, done * float64(s.BlockCalls) / dt, float64(s.BlockLatency) / float64(s.BlockTimed)}
	if s.BlockTokens >= 1 {
		perCall := float64(s.BlockTokens) / float64(s.BlockCalls)
		if s.TokensPerCall == 0 {
			s.TokensPerCall = float32(perCall)
		}
		s.TokensPerCall += float32((perCall - float64(s.TokensPerCall)) / 16)
		b.rate = done * float64(s.BlockTokens) / dt
		b.latency *= float64(s.TokensPerCall) / perCall
	}
	g.sized(&b, dt)
	s.beginBlock(t, w)
	g.judge(t, &b)
}

// beginBlock begins a block at t, with what w left in flight.
func (s *GovernorState) beginBlock(t time.Duration, w *Window) {
	s.BlockFrom = float32(w.InFlight)
	s.BlockAt, s.BlockLast, s.BlockArea, s.BlockCalls, s.BlockTokens, s.BlockLatency, s.BlockTimed = t, t, 0, 0, 0, 0, 0
	s.BlockTook, s.BlockSize, s.BlockLevel, s.BlockLost = 0, 0, 0, 0
}

// judge remembers a block, and lowers the limit when more in flight is of no use.
func (g *Governor) judge(t time.Duration, b *block) {
	s := &g.s
	s.Saturated = false
	if b.level < 1 {
		return
	}
	at := float32((t - s.Origin).Seconds())
	if s.CutLevel > 0 && s.Places == 0 && b.level < 0.8*float64(s.CutLevel) { // where places were counted, fewer are in flight because of that
		if g.cfg.Objective == Throughput && b.rate < 0.8*float64(s.CutRate) && b.level > 0.4*s.Limit {
			// With less in flight less was done: it was no queue, calls take longer now.
			s.Limit, s.Cause = max(s.Limit, min(0.9*float64(s.CutLevel), g.ceiling())), CauseRecovery
			s.Cells = [numCells]CellState{}
			s.Cells[cellOf(float64(s.CutLevel))] = block{float64(s.CutLevel), float64(s.CutRate), b.latency}.cell(at)
			g.disturbed(t)
		}
		s.CutLevel = 0
	}
	k := cellOf(b.level)
	c := &s.Cells[k]
	before := 0.0
	// The last level has no end, so what is known there may be of another number in flight.
	if x := c.block(); c.Rate > 0 && at-c.At < ageCells && (k < numCells-1 || math.Abs(math.Log2(b.level/x.level)) <= 0.5) {
		before = x.rate
		d := math.Abs(math.Log(b.rate / x.rate))
		s.Spread += float32((min(1, d) - float64(s.Spread)) / 8)
		*c = block{(x.level + b.level) / 2, (x.rate + b.rate) / 2, (x.latency + b.latency) / 2}.cell(at)
	} else {
		*c = b.cell(at)
	}
	// The lowest level that does as much, and the quickest.
	low, lowest, best, quickest := -1, -1, 0.0, math.Inf(1)
	most := enough
	if s.Begin.Of > 0 && g.queued() == 0 {
		most = 1 / enough // nobody waits there: where calls only slow each other, fewer must do clearly more
	}
	for i := range s.Cells[:k+1] {
		if s.Cells[i].Rate <= 0 || at-s.Cells[i].At >= ageCells {
			continue
		}
		x := s.Cells[i].block()
		if lowest < 0 {
			lowest = i
		}
		if s.Counts == byLatency || x.rate < most*b.rate {
			low = -1 // a lower level did as much by chance
		} else if low < 0 {
			low = i
		}
		best = max(best, x.rate)
		quickest = min(quickest, x.latency)
	}
	if s.Counts == byCalls && s.clear() && math.Log(b.latency)-float64(s.Base) < excessHold*max(leastNoise, float64(s.Noise)) {
		low = -1 // calls that queue take longer: as few ended by chance, as those do that began at once
	}
	wide := 1.3 + 3*float64(s.Spread)
	to := 0.0
	switch x := s.Cells[max(low, 0)].block(); {
	case low >= 0 && low < k && b.level > wide*x.level:
		to = x.level * (1.05 + float64(s.Spread))
		if low == lowest {
			to = 0.7 * x.level // nothing is known below: perhaps fewer do as much
		}
	case low >= 0 && low < k && b.rate < (0.95-2*float64(s.Spread))*best:
		to = x.level * 1.05
	}
	switch {
	case s.Counts == byLatency:
		to = g.fewer(b, before)
	case g.steep() && b.level < 1.3*float64(s.Knee) && b.rate > 0.7*best:
		to, low = 0, -1 // single limits tell more
	}
	if q := g.queued(); q > queueFull {
		to = min(max(0.5, 1-0.8*q)*b.level, nonzero(to, math.Inf(1))) // they can as well wait here
	}
	knee, power := 0.0, 0.0 // the level that does most for its latency
	for i := range s.Cells[:k+1] {
		if x := s.Cells[i].block(); x.rate > 0 && x.latency > 0 && at-s.Cells[i].At < ageCells && x.rate/x.latency > power {
			knee, power = x.level, x.rate/x.latency
		}
	}
	switch {
	case g.cfg.Objective != Knee:
	case lowest == k && b.level > 2:
		to = 0.7 * b.level // nothing is known below
	case b.level > wide*knee && b.rate < (0.9-float64(s.Spread))*power*b.latency:
		to = min(knee*1.05, nonzero(to, math.Inf(1)))
	}
	if s.Line.N >= baseCalls && s.BlockTokens == 0 && s.TokensPerCall == 0 {
		quickest = min(quickest, math.Exp(float64(s.Base)+float64(s.Noise)*float64(s.Noise)/2))
	}
	if f := g.cfg.LatencyFactor; f > 0 && b.latency > f*quickest*(1+float64(s.Spread)) {
		to = min(max(b.level*f*quickest/b.latency, 1), nonzero(to, math.Inf(1)))
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
		s.CutLevel, s.CutRate = float32(b.level), float32(b.rate)
		s.Size.Line.moved()
		g.slowed(to)
		s.Good, s.Used, s.Wins = 0, false, 0
		g.disturbed(t)
	}
	s.SlowStart, s.Threshold = false, 0
	if g.cfg.Objective != Throughput {
		s.StayUntil = after(t, time.Duration(1e9*max(slowerTime, slowerWait*min(s.Mean, 60))))
	}
}

func nonzero(a, b float64) float64 {
	if a != 0 {
		return a
	}
	return b
}

// LineState is a line of the latency of calls over how many they saw in flight when they started, both as logarithms: the sums
// that it takes.
type LineState struct {
	N, X, Y, XX, XY, YY float32
}

func (l *LineState) add(x, y float64) {
	a, b := float32(x), float32(y)
	l.N++
	l.X, l.Y = l.X+a, l.Y+b
	l.XX, l.XY, l.YY = l.XX+a*a, l.XY+a*b, l.YY+b*b
}

// fit returns the mean of y, by how much y differs from the line, and how steep the line is at least.
func (l *LineState) fit() (mean, noise, least float64) {
	n, x, y := float64(l.N), float64(l.X), float64(l.Y)
	xx, xy, yy := float64(l.XX)-x*x/n, float64(l.XY)-x*y/n, float64(l.YY)-y*y/n
	if xx <= 1e-3*n {
		return y / n, math.Sqrt(max(0, yy) / (n - 1)), 0
	}
	slope := xy / xx
	noise = math.Sqrt(max(0, yy-slope*xy) / (n - 2))
	return y / n, noise, slope - 5*noise/math.Sqrt(xx)
}

// Where calls differ little in how long they take, latency tells at once what throughput tells later.
const (
	// baseCalls is how many calls tell how long a call takes with few in flight, and fewestBase how many the line needs.
	baseCalls, fewestBase = 8, 5
	// quietNoise is the most that calls may differ by, as a logarithm, for latency to say anything, and leastNoise the least that
	// they are taken to.
	quietNoise, leastNoise = 0.2, 0.05
	// excessHold and excessFull are by how much longer calls take, in units of what they differ by, where the limit
	// rises no more, and where the upstream is full.
	excessHold, excessFull = 2.5, 4
	// slowRow is after how many windows in a row whose calls take so much longer slow start ends, and slowShare how many for each call in flight: the first calls that end are the short ones of
	// those that began, so where calls differ, three of the usual ones in a row look long beside them.
	slowRow, slowShare = 3, 1.0 / 3
	// steep is the slope of latency over calls in flight from which more in flight get hardly more done.
	steep = 0.6
	// slowerWait and slowerTime are for how many mean latencies, and how long at least, the limit does not rise because calls
	// take longer, the first time; then twice as long each time.
	slowerWait, slowerTime = 32, 10
)

// learnBase adds calls to those that tell how long a call takes with few in flight.
func (g *Governor) learnBase(w *Window) {
	s := &g.s
	if s.Line.N >= baseCalls || g.took <= 0 || w.MaxInFlight < 1 {
		return
	}
	s.Line.add(math.Log(float64(w.MaxInFlight)), math.Log(g.took))
	if s.Line.N >= fewestBase {
		base, noise, steep := s.Line.fit()
		s.Base, s.Noise, s.Steep = float32(base), float32(noise), float32(steep)
	}
}

// clear reports whether it is known how long a call takes with few in flight, and that calls differ little.
func (s *GovernorState) clear() bool { return s.Line.N >= baseCalls && s.Noise < quietNoise }

// excess returns by how much longer the calls of w took than those with few in flight, in units of what those differed by; 0 when that says nothing.
func (g *Governor) excess(w *Window) float64 {
	s := &g.s
	if g.took <= 0 || !s.clear() {
		return 0
	}
	return (math.Log(g.took) - float64(s.Base)) / max(leastNoise, float64(s.Noise))
}

// gain returns by how much each call raises the limit in slow start: less when calls take longer with more in flight, by an excess.
func (g *Governor) gain(excess float64) float64 {
	return g.slowGain() * between((excessFull-excess)/(excessFull-excessHold), 0, 1)
}

// congested notes the calls of w, and their excess, in slow start. When they take longer the more are in flight it ends slow start at the
// level that did most, by Little's law, and reports true.
func (g *Governor) congested(w *Window, excess float64) bool {
	s := &g.s
	if g.took <= 0 || w.MaxInFlight < 1 {
		return false
	}
	n := float32(w.MaxInFlight)
	s.StepOf++
	s.StepLevel += n
	s.StepLatency += float32(g.took)
	if s.StepOf >= max(4, n/4) {
		if x := s.StepLevel / max(s.StepLatency, 1e-9); x > 1.05*s.BestRate {
			s.BestRate, s.BestLevel = x, s.StepLevel/s.StepOf
		}
		s.StepOf, s.StepLevel, s.StepLatency = 0, 0, 0
	}
	if s.Slow = min(s.Slow, math.MaxUint16-1) + 1; excess < excessFull {
		s.Slow = 0
	}
	if s.BestLevel == 0 || float64(s.Slow) < max(slowRow, slowShare*float64(n)) && (s.Steep < steep || g.older(w)) {
		return false
	}
	s.SlowStart, s.Threshold = false, 0
	s.Good, s.Used, s.Wins = 0, false, 0
	s.Knee = float32(between(math.Floor(float64(s.BestLevel)), float64(g.cfg.Min), float64(g.cfg.Max)))
	s.Base, s.Steep = float32(min(float64(s.Base), math.Log(float64(s.Knee)/float64(s.BestRate)))), 0
	s.Line.N = baseCalls // that is the base from now on
	if knee := float64(s.Knee); knee < s.Limit {
		g.slowed(knee)
		g.drains(knee)
		g.disturbed(s.At)
	}
	return true
}

// older reports whether calls are in flight that began before that of w, which ended now: they saw fewer in flight and take longer all the same, so how many are in flight does not
// tell how long a call takes. The first calls to end are the short ones, and each of them takes longer than those before it.
func (g *Governor) older(w *Window) bool {
	s := &g.s
	return g.accepted()-g.since(s.At-w.MeanLatency()) >= float64(s.Done-s.Refused)+1
}

// slower reports whether the calls of w took so much longer than with few in flight that the limit should not rise. Now and then it
// forgets how long those took, and sees again, because calls may take longer now.
func (g *Governor) slower(w *Window) bool {
	s := &g.s
	known := s.Knee > 0 && g.cfg.Objective == Throughput // the other objectives have bounds of their own
	if known && g.took > 0 && (s.Line.N < baseCalls || s.clear() && float64(w.MaxInFlight) < math.Floor(s.Limit)) {
		return true // how long calls take with so many is not known yet
	}
	if e := g.excess(w); e < excessHold && (s.Noise > leastNoise || !known || e*leastNoise <= steep*max(leastNoise, math.Log(float64(w.MaxInFlight)/float64(s.Knee)))) {
		return false
	}
	switch {
	case s.SlowerUntil == 0:
		wait := math.Exp2(float64(s.SlowerTimes)) * max(slowerTime, slowerWait*min(s.Mean, 60))
		s.SlowerUntil = after(s.At, time.Duration(wait*1e9))
		s.SlowerTimes = min(s.SlowerTimes+1, 8)
	case s.At >= s.SlowerUntil:
		s.SlowerUntil, s.Line, s.Steep, s.Wins = 0, LineState{}, 0, 0
		if known && float64(s.Knee) < s.Limit {
			// Where it was good is where to see how long they take now.
			s.Limit, s.Cause, s.Flight = float64(s.Knee), CauseLatency, float64(s.Knee)
			g.disturbed(s.At)
			return true
		}
		return false
	}
	return true
}

// doubleSure is by how many standard errors a doubling of slow start must take longer than the quickest, where calls differ.
const doubleSure = 1.0

// doubleLeast is from how many in flight on a doubling tells how quick the upstream is: of four, it is over when two calls have ended.
const doubleLeast = 8

// startDoubling begins to measure how long the limit takes to double.
func (s *GovernorState) startDoubling(t time.Duration) {
	s.StepOf, s.StepLevel, s.StepLatency, s.BestRate, s.BestLevel, s.Slow = 0, 0, 0, 0, 0, 0
	s.DoubleFrom, s.DoubleAt, s.DoubleDone, s.Doubling, s.Quickest, s.QuickMean, s.QuickFrom = float32(s.Limit), t, 0, 0, 0, 0, 0
}

// doubled notes n calls that ended well in slow start. Each raises the limit, so to double it takes as long as before while the
// upstream scales, and twice as long once it does not. doubled then ends slow start where the
// upstream was full, and reports true.
func (g *Governor) doubled(n int) bool {
	s := &g.s
	s.DoubleDone += float32(n)
	if s.DoubleFrom <= 0 {
		s.DoubleFrom = float32(s.Limit)
	}
	if s.Limit < 2*float64(s.DoubleFrom) || s.DoubleDone < s.DoubleFrom/slowStartGain {
		return false
	}
	took := s.At - s.DoubleAt
	was, best, mean := s.Doubling, s.Quickest, float64(s.QuickMean)
	from := float64(s.DoubleFrom)
	rate := float64(s.DoubleDone) / max(1e-9, took.Seconds())
	s.DoubleFrom, s.DoubleAt, s.DoubleDone = float32(s.Limit), s.At, 0
	if from < doubleLeast {
		return false
	}
	s.Doubling = took
	quick := float64(s.QuickFrom)
	if best == 0 || took < best {
		s.Quickest, s.QuickMean, s.QuickFrom = took, float32(s.Mean), float32(from)
	}
	slack := 1.0
	if !s.clear() {
		// Where calls differ, ends come at random: what a few of them took says little.
		slack = math.Exp(doubleSure * math.Sqrt(slowStartGain/from+slowStartGain/max(1, quick)))
	}
	if was == 0 || float64(took) < 1.68*float64(was) || float64(took) < 2*slack*float64(best) || s.Mean < 1.4*mean {
		return false
	}
	s.SlowStart, s.Threshold = false, 0
	s.Good, s.Used, s.Wins = 0, false, 0
	// By Little's law this many in flight do as much, if each takes as long as when slow start was quickest; and up to where that began it was quick.
	s.Knee = float32(between(max(1.1*rate*mean, quick), float64(g.cfg.Min), float64(g.cfg.Max)))
	if knee := float64(s.Knee); knee < s.Limit {
		g.slowed(knee)
		g.drains(knee)
	}
	return true
}

// disturbed notes that what is measured until calls have turned over says nothing of the level that they ran at.
func (g *Governor) disturbed(t time.Duration) {
	g.s.Saturated = false
	g.s.CalmAt = max(g.s.CalmAt, after(t, time.Duration(1.5e9*min(g.s.Mean, 3600))))
}
