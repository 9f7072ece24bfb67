package adaptive

import "time"

// What a limit that nobody uses says of the upstream becomes old.

// age halves a limit that has not been half in use for long; it reports whether it did.
func (g *Governor) age(t time.Duration, w *Window) bool {
	s := &g.s
	if 2*float64(w.InFlight+1) >= s.Limit {
		s.ValidAt = t
	} else if w.Full || 2*float64(w.MaxInFlight) >= s.Limit {
		s.ValidAt = max(s.ValidAt, min(t, max(w.Start, s.AskAgain)))
	}
	period := max(idlePeriod, min(s.Latency, time.Hour)*idleLatencies)
	if t-s.ValidAt < period {
		return false
	}
	was, first := s.Limit, float64(g.cfg.Initial)
	for s.Limit > first && t-s.ValidAt >= period {
		s.Limit = max(first, s.Limit/2)
		s.ValidAt += period
	}
	if s.Limit == was {
		s.ValidAt = t
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
