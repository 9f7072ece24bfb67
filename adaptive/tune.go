package adaptive

import "time"

var (
	_ Tuner = (*AIMD)(nil)
	_ Tuner = (*Fixed)(nil)
)

// Tune implements [Tuner]. The limit is moved into Min to Max; what was learned stays. Initial
// counts only as what an idle limit falls back to.
func (l *AIMD) Tune(now time.Duration, cfg Config) Decision {
	l.advance(now)
	l.cfg = cfg.clamp()
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

// Tune implements [Tuner]: the limit becomes cfg.Initial.
func (f *Fixed) Tune(_ time.Duration, cfg Config) Decision {
	f.d.Limit = max(1, cfg.Defaults().Initial)
	return f.d
}
