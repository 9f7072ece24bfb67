package adaptive

import "math"

// Beyond a steep knee a call takes ten or a thousand times as long, and those that began before end in time for a while. Each of their ends raises
// the limit, and so more begin that take longer still. What tells it is which calls end: where as many as now were in flight for more than a mean
// latency, and none ended that saw as many when it began, those hang, however many others end.
const (
	// hangHold is after how many mean latencies without such an end slow start waits, and hangSure after how many it goes back. With calls that all
	// take as long, one comes after 0.8 of them.
	hangHold, hangSure = 1.5, 3
	// hangShare is the share of the calls in flight that counts as as many: ends and starts come in bunches.
	hangShare = 0.8
	// hangBack is where slow start goes back to, as a share of the most that was seen by calls that ended in time: some of those took longer already.
	hangBack = 0.7
	// hangWait is for how many times what it took to tell more is not tried.
	hangWait = 4
	// hangCalls is how many calls must have ended for their mean latency to say anything.
	hangCalls = 8
)

// hangs looks in slow start for calls that hang, at the end of w, and reports whether the limit must not rise because of them.
func (g *Governor) hangs(w *Window) bool {
	s := &g.s
	n := hangShare * min(float64(w.InFlight), s.Limit)
	level := float64(s.HangLevel)
	late := s.HangSeen > 0
	switch {
	case !s.SlowStart || s.Threshold > 0 || s.Recovering || s.Old > 0 || s.Top == 0 || s.MeanOf < hangCalls || s.Begin.Of > 0 && s.early() || !late && n <= s.Top+1:
		s.HangLevel, s.HangMean, s.HangSeen = 0, 0, 0
		return false
	case level == 0 || !late && s.Top >= level || n < hangShare*level || s.Refused > 0 && s.RefusedLast >= s.HangAt:
		s.HangLevel, s.HangAt, s.HangSeen = float32(n), s.At, 0
		if m := float32(s.Mean); s.HangMean == 0 || m < s.HangMean {
			s.HangMean = m // those that end later took longer because of the others
		}
		return false
	}
	age := (s.At - s.HangAt).Seconds()
	if !late {
		if age < hangHold*float64(s.HangMean) {
			return false
		}
		s.HangSeen = float32(s.Top) // what ends from now on took too long
	}
	if age >= hangSure*float64(s.HangMean) {
		g.hung(max(math.Floor(hangBack*float64(s.HangSeen)), float64(g.cfg.Min)))
	}
	return true
}

// hung ends slow start at the limit to, as with more in flight calls hang. As where calls time out in a crowd, more is tried late, and by small steps.
func (g *Governor) hung(to float64) {
	s := &g.s
	s.HangLevel, s.HangMean, s.HangSeen = 0, 0, 0
	s.SlowStart, s.Threshold = false, 0
	s.Good, s.Used, s.Wins = 0, false, 0
	if to >= s.Limit {
		return
	}
	g.slowed(to)
	s.Knee = float32(to)
	s.Bound, s.Late = to+boundSlack(to), true
	s.Drain = float32(max(0, float64(s.InFlight)-to))
	verdict := min(s.At-s.HangAt, maxVerdict)
	s.Verdict = float32(verdict.Seconds())
	s.ProbeAt = max(s.ProbeAt, after(s.At, hangWait*verdict))
	g.disturbed(s.At)
}
