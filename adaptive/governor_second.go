package adaptive

import (
	"math"
	"time"
)

// A second is too short for the ring of seconds, so what was accepted in the last one is counted in eighths.

const (
	// tickTime is a part of a second, and ticks how many are remembered.
	tickTime = time.Second / 8
	ticks    = 12
	// mostTick is how many calls of a tick are counted.
	mostTick = math.MaxUint16
)

// TicksState is how many calls were accepted in each of the last parts of a second.
type TicksState struct {
	Last  int64         // the last tick since Origin
	Count int64         // accepted calls that Ring has counted
	Ring  [ticks]uint16 // calls in each tick, as they were seen
}

// sound moves what is remembered into range; accepted calls there are so many.
func (d *TicksState) sound(accepted int64) {
	d.Last = min(max(d.Last, 0), math.MaxInt64/int64(tickTime))
	if d.Count < accepted-ticks*mostTick || d.Count > accepted+ticks*mostTick {
		d.Count = accepted
	}
}

// noteTicks counts what was accepted since the last look as of now: until then nobody knew of it, and what is taken to leave a window later than it does is not asked
// for too soon.
func (g *Governor) noteTicks(t time.Duration) {
	s := &g.s
	d := &s.Ticks
	now := max(0, int64((t-s.Origin)/tickTime))
	for n := min(now-d.Last, ticks); n > 0; n-- {
		d.Ring[uint64(now-n+1)%ticks] = 0
	}
	d.Last = max(d.Last, now)
	in := &d.Ring[uint64(d.Last)%ticks]
	c := min(max(0, int64(g.accepted())-d.Count), mostTick-int64(*in))
	*in += uint16(c)
	d.Count += c
}

// tick returns how many calls were accepted in one of the last ticks.
func (g *Governor) tick(i int64) float64 {
	d := &g.s.Ticks
	if i < 0 || i <= d.Last-ticks || i > d.Last {
		return 0
	}
	return float64(d.Ring[i%ticks])
}

// sinceTick returns how many calls were accepted since from, not more than two seconds ago.
func (g *Governor) sinceTick(from time.Duration) float64 {
	s := &g.s
	n := g.accepted() - float64(s.Ticks.Count)
	at := float64(from-s.Origin) / float64(tickTime)
	for i := s.Ticks.Last; i > s.Ticks.Last-ticks && float64(i+1) > at; i-- {
		n += g.tick(i) * min(1, float64(i+1)-at)
	}
	return max(0, n)
}
