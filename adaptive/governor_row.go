package adaptive

import "time"

// A row of refusals is ended by a call of it that is accepted, and what is accepted is known late: a refusal takes a moment, and a call may
// take long. So a row may be none.

// rowAge is how old a row must be for a call that ends well to say that it is none. Until then refusals tell soon enough whether anything passed.
const rowAge = 4 * time.Second

// passInRow ends a row of refusals at a paced guard when a call ends well that started after the first of them and before the last: some are accepted
// all the time.
func (g *Governor) passInRow(t time.Duration, w *Window) {
	s := &g.s
	if s.Streak <= outageRow || s.DarkOverload || s.Pace[paceRequests].Rate == 0 || w.Timed == 0 || w.MinLatency < 0 || t-s.DarkSince < rowAge {
		return
	}
	ended := w.Start
	if w.OK == 1 && s.AskAgain == 0 {
		ended = t // each end was asked for
	}
	if ended-w.MinLatency >= s.DarkSince && t-w.MinLatency < s.DarkLast {
		s.Streak = 0
	}
}

// skipOutage leaves an outage out of what is measured, that is over at t, as a call was accepted that started at began: nothing could pass, so it is no time in
// which a quota gave little. What passed since that call started counts, and so does the time.
func (g *Governor) skipOutage(t, began time.Duration) {
	s := &g.s
	if !s.DarkOverload {
		return
	}
	if began != unknownStart {
		t = min(t, max(began, s.DarkLast))
	}
	for i := range s.Pace {
		p := &s.Pace[i]
		p.AnchorAt = min(t, after(p.AnchorAt, max(0, t-max(s.DarkSince, p.AnchorAt))))
	}
}
