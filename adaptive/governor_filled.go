package adaptive

import "time"

// A quota gives the next call when its time has come, whoever ends. A limit on calls in flight gives none before one has ended. So where a pace is kept that was
// fine, and nothing passes although a quota would have given several calls since, and none has ended, all places are taken: the limit is known, and nothing new of
// the pace.
const (
	// filledCalls is how many calls the quota would have given: one that has halved gives one of them. filledTime is the shortest time that says so, as a window
	// of a second gives nothing in its rest.
	filledCalls, filledTime = 3.0, time.Second
)

// filled reports whether a refusal of c, which saw n in flight, and before which as many as proven went well, is one of a row that tells that all places are taken.
func (g *Governor) filled(n, proven float64, c *Call) bool {
	s := &g.s
	p := &s.Pace[paceRequests]
	row := c.SentAt - s.DarkSince
	return p.Sure && p.Rate <= p.Known && n > proven && n >= float64(s.RefusedAt) && s.PassedAt < s.DarkSince && row >= filledTime && p.Known*row.Seconds() >= filledCalls
}

// fill sets the limit to the places that are taken, where a call that saw n in flight was refused. Whether it was a quota all the same is seen at the next refusal:
// the trouble is over.
func (g *Governor) fill(t time.Duration, n float64) {
	s := &g.s
	s.Limit = max(float64(g.cfg.Min), min(s.Limit, n-1))
	s.Flight = s.Limit
	s.Bound, s.LastBound = n, n
	s.Open, s.SlowStart = false, false
	g.paced(t)
}
