package adaptive

import "time"

// age halves a limit that has not been half in use for long; it reports whether it did.
func (g *Governor) age(t time.Duration, w *Window) bool {
	s := &g.s
	was := s.Limit
	s.Limit, s.ValidAt = halveUnused(was, float64(g.cfg.Initial), s.ValidAt, s.AskAgain, s.Latency, t, w)
	if s.Limit == was {
		return false
	}
	s.Cause = CauseIdle
	if !s.SlowStart || s.Threshold > 0 {
		s.SlowStart, s.Threshold = true, float32(max(float64(s.Threshold), was*3/4, s.Bound*0.9))
		s.startDoubling(s.At)
	}
	s.Open, s.Flight = false, s.Limit
	s.Good, s.Used = 0, false
	return true
}
