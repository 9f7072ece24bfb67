package adaptive

import (
	"math"
	"time"
)

// impatient reports whether a caller's own deadline, which ended c at t before an answer began, says nothing of the upstream: a sound call would not
// have been done by then, either. What a sound call takes is what calls take lately or, if that is less, what the first ones took, with few in flight, since in
// an overload all take longer. While nothing ends at all, each deadline tells.
func (g *Governor) impatient(t time.Duration, c *Call) bool {
	sound := g.soundTime(c.Class % numClasses)
	return c.SentAt >= 0 && (t-c.SentAt).Seconds() < sound && !g.stalled(t)
}

// slowBegin is by how much the first calls took longer than calls with another number in flight took since, where they tell nothing of a sound upstream: it was starting then, or
// in an overload. Less is by chance, as calls differ.
const slowBegin = 2

// quickest returns the least mean latency, in s if calls count, with any number in flight that is remembered; infinite where none is.
func (s *GovernorState) quickest() float64 {
	least, at := math.Inf(1), float32((s.At - s.Origin).Seconds())
	for i := range s.Cells {
		if c := &s.Cells[i]; c.Latency > 0 && at-c.At < ageCells {
			least = min(least, float64(c.Latency))
		}
	}
	return least
}

// soundTime returns how long, in s, a call of a class takes at a sound upstream until its answer begins, where it is known when answers begin, and
// until it ends elsewhere; 0 while that is not known.
func (g *Governor) soundTime(class uint8) float64 {
	s := &g.s
	z := &s.Size
	if s.Line.N < baseCalls || z.Mixed && z.Of[class] < classCalls {
		return 0
	}
	sound, base := s.Mean, math.Exp(float64(s.Base)+float64(s.Noise)*float64(s.Noise)/2)
	if quick := s.quickest(); s.Counts == byCalls && quick < base/slowBegin {
		sound = min(sound, quick)
	}
	if z.Mixed {
		sound *= math.Exp(float64(z.Class[class]))
		base *= math.Exp(float64(z.Class[class] - z.Class[z.First-1]))
	}
	if s.First.Of[class] >= firstCalls {
		sound = min(sound, math.Exp(float64(s.First.Base[class])))
	}
	return min(sound, base)
}
