package adaptive

import "time"

// Where calls take long, a first refusal is a riddle that their ends solve late: two calls at once may be one too many for a limit on calls in
// flight, or a quota may allow one each second. Time tells sooner than ends do. Nothing starts for a while, and then the
// same number in flight is tried again: a limit on calls in flight refuses again, and of a quota something has come back.

const (
	// trialFirst is the first wait of a trial; each further one is twice as long.
	trialFirst = 250 * time.Millisecond
	// mostTrials is how many refusals a trial costs at most: until then nothing started for 16 s.
	mostTrials = 7
	// trialTime is how many seconds calls must take, for each of them in flight, for ends to be too rare to wait for.
	trialTime = 1.0
	// trialQuickens is what a call that ends well while a trial goes on leaves of its wait: others may start then.
	trialQuickens, leastTrialGap = 0.7, 5 * time.Millisecond
)

// trial answers a refusal of a call that saw n in flight, and reports whether there is a trial. There is one while most of the first budget
// of refusals is left.
func (g *Governor) trial(t time.Duration, n float64) bool {
	s := &g.s
	if s.Credit <= maxCredit || s.MeanOf > 0 && s.Mean < trialTime*n || n <= 1 && g.accepted() >= 2 {
		s.TrialAt = 0
		return false
	}
	switch {
	case s.TrialAt == 0:
		s.TrialAt, s.Trials, s.TrialFrom, s.TrialCount = n, 1, t, g.accepted()
	case n > s.TrialAt, n < s.TrialAt && s.Trials >= 2 && g.accepted()-s.RefusedCount-g.unresolved() >= 1:
		g.trialPassed(t, n)
		return true
	default:
		// The first refusals of a trial may have come in a bunch, so that each saw others that were refused, too.
		s.TrialAt = n
		s.Trials++
	}
	if s.Trials > mostTrials {
		s.TrialAt = 0
		return false
	}
	s.Limit = max(s.Limit, min(n+2, g.ceiling()))
	s.TrialGap = trialFirst << (s.Trials - 1)
	s.HoldUntil = max(s.HoldUntil, after(t, s.TrialGap))
	s.Episode++
	s.Cause = CauseThrottled
	return true
}

// trialWon notes that a call ended well while n were in flight, itself included: if they are more than where the trial began, all of
// them but one, of which a refusal may not be known yet, were accepted, and the trial is over.
func (g *Governor) trialWon(t time.Duration, n float64) {
	s := &g.s
	if n > s.TrialAt {
		g.trialPassed(t, n)
		return
	}
	s.TrialGap = max(leastTrialGap, time.Duration(trialQuickens*float64(s.TrialGap)))
}

// trialPassed ends a trial: as many were accepted as were refused before, so a quota refuses. It gives what passed in the trial, or up to
// one call more.
func (g *Governor) trialPassed(t time.Duration, n float64) {
	s := &g.s
	rate := (max(1, g.accepted()-s.TrialCount) + 0.5) / max(1e-3, (t-s.TrialFrom).Seconds())
	s.TrialAt = 0
	s.Against, s.Test, s.Contra = 0, 0, 0
	g.paceRefused(t, paceRequests, true)
	p := &s.Pace[paceRequests]
	p.Rate, p.Known, p.Lowest = rate, rate, rate
	s.Limit = max(s.Limit, min(2*n+2, g.ceiling()))
	s.Bound, s.LastBound, s.Open, s.Sharp = 0, 0, false, 0
	s.SlowStart, s.Threshold = true, 0
	s.startDoubling(t)
}
