package adaptive

import "time"

// Where calls take long, a first refusal is a riddle that their ends solve late: two calls at once may be one too many for a limit on calls in
// flight, or a quota may allow one each second. Time tells sooner than ends do. Nothing starts for a while, and then the
// same number in flight is tried again: a limit on calls in flight refuses again, and of a quota something has come back.

const (
	// retestFirst is the first wait of a retest; each further one is twice as long.
	retestFirst = 250 * time.Millisecond
	// mostRetests is how many refusals a retest costs at most: until then nothing started for 16 s.
	mostRetests = 7
	// retestTime is how many seconds calls must take, for each of them in flight, for ends to be too rare to wait for.
	retestTime = 1.0
	// retestQuickens is what a call that ends well while a retest goes on leaves of its wait: others may start then.
	retestQuickens, leastRetestGap = 0.7, 5 * time.Millisecond
	// retestIdleAfter is how long nobody may have waited, besides twice what calls take, for a retest to go on: what passed in it is
	// what was asked for, then, and not what a quota gives.
	retestIdleAfter = time.Minute
)

// retest answers a refusal of a call that saw n in flight, and reports whether there is a retest. There is one while most of the first budget
// of refusals is left.
func (g *Governor) retest(t time.Duration, n float64) bool {
	s := &g.s
	if s.Credit <= maxCredit || s.MeanOf > 0 && s.Mean < retestTime*n || n <= 1 {
		s.RetestAt = 0
		return false
	}
	switch {
	case s.RetestAt == 0:
		s.RetestAt, s.Retests, s.RetestFrom, s.RetestCount = float32(n), 1, t, g.accepted()
	case n > float64(s.RetestAt), n < float64(s.RetestAt) && s.Retests >= 2 && g.accepted()-s.RefusedCount-g.unresolved() >= 1:
		g.retestPassed(t, n)
		return true
	default:
		// The first refusals of a retest may have come in a bunch, so that each saw others that were refused, too.
		s.RetestAt = float32(n)
		s.Retests++
	}
	if s.Retests > mostRetests {
		s.RetestAt = 0
		return false
	}
	s.Limit = max(s.Limit, min(n+2, g.ceiling()))
	s.RetestGap = retestFirst << (s.Retests - 1)
	s.HoldUntil = max(s.HoldUntil, after(t, s.RetestGap))
	s.Episode++
	s.Cause = CauseThrottled
	return true
}

// retestVoid reports whether a retest has come to nothing by the time of w, as nobody waited for long, or a pace is known from elsewhere.
func (g *Governor) retestVoid(t time.Duration, w *Window) bool {
	s := &g.s
	if s.Pace[paceRequests].Rate > 0 {
		return true
	}
	last := max(s.BusyAt, s.RefusedLast, s.HoldUntil)
	return t > after(after(last, retestIdleAfter), 2*max(w.MeanLatency(), time.Duration(1e9*min(s.Mean, 3600))))
}

// retestWon notes that a call ended well while n were in flight, itself included: if as many as where the retest began are so long on their
// way that a refusal would be known, they were accepted, and the retest is over.
func (g *Governor) retestWon(t time.Duration, n float64) {
	s := &g.s
	if n-g.unresolved() >= float64(s.RetestAt) {
		g.retestPassed(t, n)
		return
	}
	s.RetestGap = max(leastRetestGap, time.Duration(retestQuickens*float64(s.RetestGap)))
}

// retestPassed ends a retest: as many were accepted as were refused before, so a quota refuses. It gives what passed in the retest, or up to
// one call more.
func (g *Governor) retestPassed(t time.Duration, n float64) {
	s := &g.s
	rate := max(leastPace, (max(1, g.accepted()-s.RetestCount)+0.5)/max(1e-3, (t-s.RetestFrom).Seconds()))
	s.RetestAt = 0
	g.quotaRefused(t, 2*n+2, true)
	p := &s.Pace[paceRequests]
	p.Rate, p.Known, p.Lowest = rate, rate, float32(rate)
}
