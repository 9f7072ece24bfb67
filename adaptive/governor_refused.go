package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A refusal that names no limit has to be told: a limit on calls in flight refuses at its boundary, and a quota anywhere.

// throttled answers a fresh refusal by a limit, of a call that saw n in flight.
func (g *Governor) throttled(t time.Duration, n float64, c *Call, o *Outcome) {
	s := &g.s
	accepted := g.accepted()
	gained := accepted - s.RefusedCount - g.unresolved() // since the fresh refusal before
	since, outage := t-s.DarkLast, s.DarkOverload
	if gained >= 1 {
		g.reopen(t, unknownStart)
	}
	g.streak(t, false)
	first := s.Streak == 1
	g.noteBurst(t)
	defer func() { s.RefusedCount, s.RefusedAt = g.accepted(), float32(n) }()
	if g.slideRefused(t, c, o, since, gained >= 1, outage) {
		return
	}

	if o.Scope > feedback.ScopeUnknown {
		s.RetestAt = 0 // that says which limit refuses
	}
	switch o.Scope {
	case feedback.ScopeConcurrency:
		if !g.lagged(t, n, c, first) {
			g.capRefused(t, n)
		}
		return
	case feedback.ScopeRequests:
		p := &s.Pace[paceRequests]
		if first {
			g.tellOthers(p, o)
		}
		if g.sharesPace() {
			g.giveUp(t, first)
			return
		}
		g.paceRefused(t, paceRequests, first)
		return
	case feedback.ScopeTokens, feedback.ScopeInputTokens, feedback.ScopeOutputTokens:
		if o.Scope == feedback.ScopeTokens && s.Pace[paceTokens].Rate > 0 {
			g.paceRefused(t, paceTokens, first)
			return
		}
		// What a call costs is not known when it starts (what is reserved then is given back later, or more is used), and what it costs on
		// average is: calls are counted.
		if g.toldRefused(t, o.Scope, first) {
			return
		}
		g.paceRefused(t, paceRequests, first)
		s.Binding = o.Scope
		return
	}
	gap, proven := accepted-s.RefusedCount, max(s.Top, s.Proven)
	if s.Refused == 1 {
		proven = s.Top // how long a refusal takes was not known before, so of those that counted as accepted others may be refused yet
	}
	if first && !o.HasRetryAfter {
		g.tellFreed(c)
	}
	goesOn := s.Waived && gained < 1
	if g.meaningless(n, gap, o) {
		if !goesOn {
			s.Excused = 0
		}
		s.Excused += float32(max(0, gained))
		s.Against = max(0, s.Against-0.5)
		s.Streak = 0
		g.unpay()
		return
	}
	if g.lagged(t, n, c, first) {
		return
	}

	p := &s.Pace[paceRequests]
	if s.Pace[paceTokens].Rate > 0 && p.Rate == 0 {
		p = &s.Pace[paceTokens]
	}
	if p.Rate == 0 && g.retest(t, n) {
		return
	}
	if p.Rate > 0 {
		if first {
			g.tellOthers(p, o)
		}
		if s.Trial > 0 && first && p.index(s) == paceRequests && g.refuted(n, proven, o) {
			*p = PaceState{}
			s.Against = 0
			s.LastBound, s.Sharp = n, 4
			g.capRefused(t, n)
			return
		}
		well := proven
		if s.Bound > 0 {
			well = max(well, float64(s.Peak)) // on the way back from a cut each sees more in flight than the one before
		}
		switch {
		case !first && p.index(s) == paceRequests && g.filled(n, proven, c):
			g.fill(t, n)
		case first && p.index(s) == paceRequests && g.capAgain(n, proven, gained):
			g.capRefused(t, n)
		case first && p.index(s) == paceRequests && g.pacedCap(n, gained, o):
			s.CapLike, s.CapAt = 0, 0
			rate := max(1.05*p.Rate, n/max(s.Mean, 1e-6))
			p.Rate, p.Known, p.Ceiling, p.Sure, p.Measured = rate, rate, 1.25*rate, false, false
			g.capRefused(t, n)
		case g.sharesPace():
			g.giveUp(t, first)
		case first && !o.HasRetryAfter && p.Measured && p.Rate <= p.Known && n > 1.1*well+1 && s.Top > 0 && p.index(s) == paceRequests:
			// At a pace that was fine, with more in flight than ever went well.
			g.capRefused(t, n)
		case !first && s.Open && n <= max(1, nothingPasses*float64(s.Memory)) && p.index(s) == paceRequests:
			// Hardly any are left in flight, and nothing passes: so refuses no limit on calls, nor did one refuse those before it.
			g.quotaRefused(t, float64(s.Memory), first)
		case n > 1 && s.Open && n >= 0.8*s.Bound:
			// And on with that.
			g.capRefused(t, n)
		case first && p.Measured && p.StatedKind == feedback.ScopeNone && p.index(s) == paceRequests && g.contradicted(p, n, proven, o):
			*p = PaceState{}
			s.Against = 0
			g.capRefused(t, n)
		case p.Use > useBinding || g.tried(p):
			if n <= s.Top {
				s.Top = max(n, s.Top*0.99)
			}
			g.paceRefused(t, p.index(s), first)
		case first && p.Rate > 1.2*s.Flow && s.Flow > 0 && p.index(s) == paceRequests:
			// The pace does not hold callers back, so starts came in bunches.
			was := p.Rate
			p.Rate = max(1.1*s.Flow, 0.5*p.Rate, leastPace)
			if s.Busy && !p.Measured {
				p.Known = min(p.Known, was) // or the search begins again above it, as what hardly passes leaves a pace unused, too
			}
			p.Ceiling = max(p.Rate, p.Known)
			if g.costly(t) && !p.Measured {
				p.Known = min(p.Known, 0.7*was) // what did not start in a pause is not for want of callers
				p.Ceiling = max(p.Rate, p.Known)
			}
			s.Episode++
		case n > 1 && (s.Bound > 0 && n >= 0.85*s.Bound || n >= 0.9*s.Limit):
			if first && p.Measured && p.StatedKind == feedback.ScopeNone && p.Rate > p.Known && p.index(s) == paceRequests {
				// The limit is in use, but what was tried is the pace.
				p.Rate = max(paceMargin*p.Known, leastPace)
				s.Binding = feedback.ScopeRequests
				g.paced(t)
				return
			}
			g.capRefused(t, n)
		default:
			g.paceRefused(t, p.index(s), first)
		}
		return
	}
	if goesOn && s.LastBound > 0 && (s.Open || math.Abs(n-s.LastBound) > boundSlack(s.LastBound)) {
		// The one before, which meant nothing by itself, began a row: what it would have said counts now. At the boundary a limit does that each time that it is tried, and in the first trouble of all the row tells.
		gained, gap = gained+float64(s.Excused), gap+float64(s.Excused)
	}
	if g.costly(t) && !s.Varied && s.Places > 0 && n >= watchFrom && gained >= 1 && !g.sooner(n, gap) {
		s.Against = max(0, s.Against-0.5)
		g.capRefused(t, n)
		return
	}
	again := g.belowAgain(t, n, gap)
	// A cap on calls in flight refuses at its boundary and nowhere else. Next to a delay, a quota is more likely.
	weight := 1.0
	if o.HasRetryAfter && o.RetryAfter > 0 {
		weight = 1.25
	}
	switch {
	case n <= 1 && accepted < 2:
		s.Against++ // others may have filled the cap before it came
	case n <= 1:
		s.Against += 2 // alone, a call is never one too many
	case !first && n <= max(nothingPasses*float64(s.Memory), 0.6*s.Bound):
		s.Against++ // nothing passes even with much less in flight
	case gained < 1:
	case n <= proven && gap >= passedBeyond && g.costly(t) && s.LastPause.Seconds() >= turnLeast && (s.Pauses <= 1 || s.Varied || n <= (1-near)*proven):
		s.Against += 2 // many that saw as many in flight were accepted, and whoever refuses knows when there will be room, long from now.
		// Not where it says the same time again with all that are proven in flight: so refuses a limit that others fill, too, or that counts calls of callers who hung up.
	case n <= 0.5*s.Top:
		s.Against += float32(1.6 * weight)
	case n <= 0.8*s.Top:
		s.Against += float32(weight) // as many and more in flight were no trouble since the last cut
	case s.Varied && g.costly(t):
		s.Against += float32(weight) // a limit on calls in flight does not know how long it takes
	case !s.Open && s.LastBound > 0 && math.Abs(n-s.LastBound) <= max(1, near*s.LastBound):
		if again {
			s.Against++
		} else {
			s.Against = max(0, s.Against-0.5)
		}
		switch few := s.LastBound < watchFrom; {
		case few && g.firstBeyond(n, gap):
			s.Test = 3 // many saw one fewer, and none of them was refused
		case few && math.Abs(n-s.LastBound) > 0.5, s.Test < 3 && (s.LastBound <= 4 || few && s.Sharp%4 == 3):
			s.Test = 1 // of so few, any two numbers are near to each other
		default:
			s.Test = min(s.Test+1, 3)
		}
		trials := 1
		if g.costly(t) && n > watchFrom {
			trials = 2 // at a limit on calls it costs pauses
		}
		if g.costly(t) && g.firstBeyond(n, gap) {
			break
		}
		if s.Same = min(s.Same+1, mostSame); int(s.Same) >= trials<<(4*min(s.Refuted+s.Wrong, 3)) && s.Chance < noiseTrial && g.mayBeQuota(o) {
			g.try(t, n, first)
			return
		}
	case again:
		s.Against++
	case n <= 0.9*s.Top:
		s.Against += float32(weight / 2)
	case s.Open && s.LastBound > 0 && s.Proven > 1.1*s.LastBound && gap >= passedBeyond:
		s.Against += 1.25 // many that saw more in flight than the one that was refused were accepted since
	case s.Open && n < float64(s.RefusedAt):
		s.Against += 0.75 // something passed, and then it refused with fewer in flight
	case s.Open || s.LastBound == 0:
	case n > 1.1*s.LastBound+1.5 && s.Test < 3:
		s.Against += 1.25 // it moved up when starts came more evenly
	case math.Abs(n-s.LastBound) > 0.12*s.LastBound+2:
		s.Against += float32(weight)
		s.Test = 1
	}
	s.Test = max(1, s.Test)
	need := 2 * math.Exp2(float64(s.Wrong)) // a verdict that was wrong takes more evidence the next time
	if float64(s.Against) >= need {
		g.quotaRefused(t, float64(s.Memory), first)
		g.watch(n, o)
		return
	}
	if s.ProbeAt > t && s.Against > 0 && s.LastPause.Seconds() > s.Mean {
		// The next refusal may tell what it is, and where pauses are longer than calls that is waited for long: the limit is tried the sooner the less is known.
		s.ProbeAt = after(t, time.Duration(float64(s.ProbeAt-t)*max(doubtProbe, 1-float64(s.Against)/need)))
	}
	g.capRefused(t, n)
}

// doubtProbe is the least share of the time for which a limit is not tried after a pause that is waited where it may be none.
const doubtProbe = 0.1

// nothingPasses is the share of the limit before a row of refusals up to which so few are in flight that no limit on calls refuses one more.
const nothingPasses = 0.1

// passedBeyond is how many calls must have been accepted since the refusal before for it to say something that they saw more in flight than what was
// refused: refusals at random mostly come sooner.
const passedBeyond = 60

const (
	// mostContra is how many refusals at a pace that was measured as fine, and contraCalls how many calls that end well for each of
	// them, a pace survives.
	mostContra  = 4
	contraCalls = 100
	// sunk is the share of what a quota gave at most below which it is none, and sunkAlone the same where calls were accepted between any two that were refused:
	// a pace that is a quarter above what a quota gives is refused each fifth time.
	sunk, sunkAlone = 0.4, 0.8
)

// contradicted notes a refusal while p is the pace, and reports whether it explains nothing: refusals come all the same where it was
// measured as fine, or what it gives sinks and sinks. So it is with a cap that others use, too: each follows the others down.
func (g *Governor) contradicted(p *PaceState, n, proven float64, o *Outcome) bool {
	s := &g.s
	least := sunk
	if s.Apart >= soonWaived {
		least = sunkAlone
	} else {
		p.Highest = min(p.Highest, float32(p.Known))
	}
	if p.Sure {
		p.Highest = float32(max(float64(p.Highest), p.Known))
	}
	if o.HasRetryAfter {
		return false
	}
	if p.Rate <= p.Known {
		s.Contra = min(s.Contra+1, mostContra)
	}
	switch {
	case p.Rate <= p.Known && s.Contra > 1 && g.limitTold():
		s.Contra, s.Wrong = 0, min(s.Wrong+1, 3)
	case n <= proven && g.spanned(p, n):
		return false
	case s.Contra >= mostContra:
		s.Contra, s.Wrong = 0, min(s.Wrong+1, 3)
	case p.Known > least*float64(p.Highest):
		return false
	}
	return true
}
