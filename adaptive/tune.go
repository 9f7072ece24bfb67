package adaptive

import "time"

// Tune puts cfg, which must have passed Check, in force while the law runs, and returns the decision that follows. The
// limit is moved into Min to Max; what was learned stays. Initial counts as what an idle limit falls back to, and as
// what the limit may always reach.
func (l *AIMD) Tune(now time.Duration, cfg Config) Decision {
	l.advance(now)
	l.cfg = aimdDefaults(cfg).clamp()
	s := &l.s
	switch n := min(max(s.Limit, l.cfg.Min), l.ceiling()); {
	case n < s.Limit:
		s.Episode++ // calls that started above must not cut what is right now
		s.Limit, s.Cause = n, CauseExternal
		s.Good, s.Used = 0, false
	case n > s.Limit:
		s.Limit, s.Cause = n, CauseExternal
	}
	return l.Decision()
}

// Tune puts cfg, which must have passed Check, in force while the law runs, and returns the decision that follows. The
// limit is moved into Min to Max; what was learned stays.
func (g *Governor) Tune(now time.Duration, cfg Config) Decision {
	g.advance(now)
	g.cfg = cfg.clamp()
	s := &g.s
	switch n := min(max(s.Limit, float64(g.cfg.Min)), g.ceiling()); {
	case n < s.Limit:
		s.Episode++ // calls that started above must not cut what is right now
		s.Limit, s.Cause = n, CauseExternal
		s.Good, s.Used = 0, false
	case n > s.Limit:
		s.Limit, s.Cause = n, CauseExternal
	}
	return g.Decision()
}
