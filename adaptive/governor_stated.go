package adaptive

import "github.com/flyball-go/flyball/feedback"

// What the upstream states of its limit on calls in flight caps it.

// stated takes note of a stated limit on calls in flight.
func (g *Governor) stated(limit int64) {
	s := &g.s
	if limit <= 0 {
		return
	}
	n := int(min(max(limit, int64(g.cfg.Min)), MaxLimit))
	s.StatedAt = s.At
	if n == int(s.Stated) {
		return
	}
	atCap := s.Stated > 0 && !s.Doubted && s.Limit >= float64(s.Stated)
	s.Stated, s.Doubted = int32(n), false
	switch {
	case s.Limit > float64(n):
		s.Limit, s.Cause, s.Binding = float64(n), CauseHint, feedback.ScopeConcurrency
		s.Good, s.Used = 0, false
		s.Episode++ // calls that started above must not cut what is right now
	case atCap && s.Limit < float64(n):
		s.SlowStart, s.Threshold = true, float32(n)
		s.startDoubling(s.At)
	}
}
