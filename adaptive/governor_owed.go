package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

const (
	// mostOwed is how many refusals may be owed where windows are known: those of a row are paid for before the next window is tried.
	mostOwed = 10.0
	// probeOwed is the same where a pace was tried that was above what the quota is known to give. More is too much where others share it.
	probeOwed = 1.0
	// mostRefusedHold is for how long nothing starts at most after a measured pace was refused.
	mostRefusedHold = 10 * time.Second
	// sameAgain is how often a pace that was tried must have told what is known already for each further time to cost two refusals.
	sameAgain = 2
)

// leastCredit returns how far below 0 the budget of refusals may go for a refusal of c. Those that no probe caused are no debt: a pace that was
// measured badly, or of which others took a part, would stay where it is. What a window of a second refuses was asked for by several calls at once, so as many
// as may be saved up are owed.
func (g *Governor) leastCredit(c *Call) float64 {
	s := &g.s
	if int32(c.Episode-s.Episode) >= 0 && s.Streak == 0 {
		p := &s.Pace[paceRequests]
		s.Probed = p.Sure && p.Measured && p.Rate > p.Known && p.Use >= useBinding || g.tried(p)
	}
	switch {
	case s.Turn.Period > 0:
		return -mostOwed
	case s.Slide.Of > 0 && s.Slide.Of <= slideSeconds:
		return -maxCredit
	case s.Probed && s.Chance < noiseLikely/2:
		return -probeOwed
	}
	return 0
}

// tried reports whether p is tried above what its quota is known to give, and more passes than that: it holds back then, however much of it is known to be in use, which is known
// later than a pace rises. One that follows a window rises and falls by itself, and one that was refused lately where it was fine is shared with others.
func (g *Governor) tried(p *PaceState) bool {
	s := &g.s
	return p.index(s) == paceRequests && p.Measured && p.Sure && p.StatedKind == feedback.ScopeNone && s.Turn.Period == 0 && s.Slide.Of == 0 && p.Rate > climbFrom*p.Known && s.Flow > p.Known && s.Contra == 0
}

// refusedHold returns for how long nothing starts after a refusal at t that began a row at a pace that is measured: what the quota saves up is used up, so what starts before it has
// given the next call finds nothing, and may be charged. So it is with a quota that may save up nothing where one more was refused after a try before. Beside a named delay nothing starts anyway, and where noise is likely the refusal may mean nothing. Where what
// it gives is unsure, or a pace that was fine was refused twice lately, a limit on calls may be what refuses, which has room as soon as a call ends.
func (g *Governor) refusedHold(t time.Duration) time.Duration {
	s := &g.s
	p := &s.Pace[paceRequests]
	if !p.Measured || !(p.Saves && p.Sure && s.Contra <= 1) && !(s.Charged && s.Probed) || p.StatedKind != feedback.ScopeNone || s.PausedUntil > t || s.Chance >= noiseTrial || s.Turn.Period > 0 || s.Slide.Of > 0 {
		return 0
	}
	return time.Duration(min(1e9/max(p.Known, leastPace), float64(mostRefusedHold)))
}

// confirmed takes note that a quota gives est a second, which p knew already or not: where it was tried several times and gives what it gave, it is tried half as often.
func (g *Governor) confirmed(p *PaceState, est float64, sure bool) {
	s := &g.s
	switch {
	case !sure || !p.Sure || math.Abs(est/p.Known-1) > agree:
		s.Confirmed = 0
	case p.Rate > climbFrom*p.Known:
		saves := p.Saves && s.Turn.Period == 0 && !g.slow(est)
		if s.Confirmed = min(s.Confirmed+1, sameAgain+1); s.Paid && (s.Confirmed > sameAgain || saves && s.Confirmed == sameAgain) {
			s.Credit = min(s.Credit, max(-probeOwed, s.Credit-1))
		}
		if saves {
			s.Credit = min(s.Credit, 0) // what else may be spent was for learning it
		}
	}
}

// slow reports whether a pace of requests is so slow that what passes earns less than one refusal in slowProbe. Of those that may be refused there are few then, and they
// are for tries: it is known soon what a slow quota gives, and late that it gives more.
func (g *Governor) slow(rate float64) bool {
	return rate*g.cfg.RefusalBudget*slowProbe.Seconds() < 1
}

// learns reports whether a refusal that comes now is of those by which it is learned what a slow quota gives. They come whatever may be spent, as no try causes them; so once as
// many are left as can be saved up they cost nothing. One by a limit on calls in flight, as it says, tells nothing of the quota, and where headers set the pace it is known.
func (g *Governor) learns(o *Outcome) bool {
	s := &g.s
	p := &s.Pace[paceRequests]
	return p.Rate > 0 && !(p.Measured && p.Sure) && p.StatedKind == feedback.ScopeNone && o.Scope != feedback.ScopeConcurrency && s.Credit <= maxCredit && g.slow(max(p.Rate, p.Known))
}

// spreadUntil returns an instant before which p, if it is slow or of a quota that saves up, is not tried again: the next try tells little that the last one did not, as long as few
// calls passed. Where refusals may mean nothing, or come again at a pace that was fine, the last one may have been no try, and windows are tried when they turn.
func (g *Governor) spreadUntil(p *PaceState) time.Duration {
	s := &g.s
	if p.index(s) != paceRequests || !g.slow(p.Known) && (s.Turn.Period > 0 || s.Chance > 0 || s.Contra > 1 || !p.Saves) {
		return s.RefusedLast
	}
	return after(s.RefusedLast, min(slowProbe, time.Duration(soonRefused*1e9/max(p.Known, leastPace))))
}
