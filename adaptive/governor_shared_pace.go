package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A quota that other processes use, too, refuses whoever comes when it is used up, and what passed between two refusals is what this guard started, and not what the quota gives.
// Who keeps to what was measured so keeps its share, whatever that is, and tries that are paid for by calls are the more the larger the share is. Where all give up a part of
// their pace at a refusal, and gain the same part in the same time, whoever has more is refused more often and loses more than it gains, and all end up with as much.
const (
	// paceShared is from how much evidence on a quota counts as shared: refusals at a pace that is below what was measured well, less those that told again what was known.
	// More than mostShared is not kept.
	paceShared = 3
	// sharedTime is in which time a pace gains what a refusal takes from it: each guard is refused about once in it, whatever it has. After a longer time without a refusal others have
	// gone, and it gains more, by sharedCalm as a power of how many times longer.
	sharedTime = 20 * time.Second
	sharedCalm = 4
	// vainShare is the share of its fastest pace below which a guard has given up in vain: what refuses it means nothing, or is a neighbour that yields nothing.
	vainShare = 0.18
	// inVain is what Others is from then on, until nothing is known of the quota.
	inVain = mostShared + 1
)

// sharesPace reports whether others use the quota of requests, as far as is known.
func (g *Governor) sharesPace() bool {
	p := &g.s.Pace[paceRequests]
	return g.s.Others >= paceShared && g.s.Others != inVain && p.Rate > 0 && g.mayShare(p)
}

// mayShare reports whether p follows what was measured between refusals, each call of which is one.
func (g *Governor) mayShare(p *PaceState) bool {
	s := &g.s
	return p.index(s) == paceRequests && p.Measured && p.StatedKind == feedback.ScopeNone && s.Turn.Period == 0 && s.Slide.Of == 0 && !s.countsTokens()
}

// tellOthers takes note of a refusal at p that began a row. A quota that nobody else uses refuses no pace that is below what it gives, and whatever the pace was it gave
// what it gave before. Without a delay, and where nobody says that it is a quota, a limit on calls in flight that others use looks the same, and whoever keeps a pace there has what those leave who keep none.
func (g *Governor) tellOthers(p *PaceState, o *Outcome) {
	s := &g.s
	if (!o.HasRetryAfter || o.RetryAfter <= 0) && o.Scope != feedback.ScopeRequests || !p.Sure || p.Use < useBinding || !g.mayShare(p) {
		return
	}
	dn, dt, u := g.accepted()-p.AnchorCount, (s.At - p.AnchorAt).Seconds(), g.unresolved()
	if dn < guessUntil+u {
		return
	}
	off := g.spanOff(p, dn, u)
	switch {
	case g.sharesPace():
		same := p.SpanTime > 0 && p.spanError(dn, dt) <= off
		s.countOthers(!same || p.SpanCalls < spanCalls)
		if s.Others < paceShared {
			s.Others, s.SharedFrom, p.Saves = 0, 0, true // it gave the same at any pace
			return
		}
		p.addSpan(same, dn, dt, 0)
	case p.Rate <= p.Known:
		if dn <= p.Known*dt+1 && s.Chance < noiseLikely { // else it may mean nothing
			s.countOthers(true)
		}
	case math.Abs(dn-p.Known*dt) <= off:
		s.countOthers(false)
	}
}

func (s *GovernorState) countOthers(more bool) {
	switch {
	case s.Others == inVain:
	case more:
		s.Others = min(s.Others+1, mostShared)
	case s.Others > 0:
		s.Others--
	}
}

// giveUp lowers a pace that others share after a refusal; first says that something was accepted since the refusal before.
func (g *Governor) giveUp(t time.Duration, first bool) {
	s := &g.s
	if p := &s.Pace[paceRequests]; first {
		s.SharedFrom = max(s.SharedFrom, paceCodeOf(p.Rate))
		p.Rate = max(sharedCut*p.Rate, leastPace)
		p.Known, p.Ceiling, p.Sure = p.Rate, p.Rate, true
		p.AnchorAt, p.AnchorCount, p.AnchorPaused, p.AnchorRefused = t, g.accepted(), s.PausedSum, s.Refused
		s.Gives = LeastState{}
		if from := paceOf(s.SharedFrom); p.Rate < vainShare*from {
			p.Ceiling, p.Sure, s.Others, s.SharedFrom = from, false, inVain, 0
		}
	}
	s.Binding = feedback.ScopeRequests
	g.paced(t)
}

// gainShare raises a pace that others share for dt seconds in which it held callers back and ok calls ended well.
func (g *Governor) gainShare(p *PaceState, dt float64, ok int) {
	s := &g.s
	calm := max(1, (s.At-p.AnchorAt).Seconds()/sharedTime.Seconds())
	grow := (1 - sharedCut) * dt / sharedTime.Seconds() * math.Pow(calm, sharedCalm)
	if g.low(p) {
		grow *= pastFaster
	}
	p.Rate = min(p.Rate*math.Exp(min(grow, paceProbeCall*max(1, float64(ok)))), unbounded)
	p.Known, p.Ceiling = p.Rate, p.Rate
	s.Cause = CauseProbe
}
