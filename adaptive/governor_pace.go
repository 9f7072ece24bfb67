package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// The paces.
const (
	paceRequests = iota
	paceTokens
	numPaces
)

const (
	// useBinding is the share of a pace that must be in use for it to hold callers back.
	useBinding = 0.75
	// paceMargin is how far below the measured rate of a quota the pace is kept.
	paceMargin = 0.98
	// paceProbe is the time in which a pace that probes grows by a factor of e, and paceProbeCall how much it grows at most
	// for a call.
	paceProbe     = 8 * time.Second
	paceProbeCall = 0.03
	// paceStart and paceStartCall are the same while nothing is known of the quota.
	paceStart     = 2 * time.Second
	paceStartCall = 0.2
	// passCalls is how many calls must have been accepted since a refusal for a pace to rise before one of them has ended, where ends come too late.
	passCalls = 4
	// paceAge is how long a pace that holds nobody back is kept.
	paceAge = 10 * time.Minute
	// maxCredit is how many refusals may be saved up.
	maxCredit = 3
	// fastest is a pace that nobody reaches, a second, and leastPace the slowest that refusals set, a call in five minutes: with a slower one it would
	// be known too late that nothing is refused any more.
	fastest, leastPace = 1e9, 1.0 / 300
	// startPace is the pace of the first calls, of which nothing is known, in calls a second.
	startPace = 20.0
	// spreadFactor is how much faster calls may start than they end.
	spreadFactor = 1.5
	// spreadTest is the same while it is not known what refused.
	spreadTest, spreadLast = 1.2, 1.06
	// heldBelow is the share of what a quota gives below which what passes is held back by something else.
	heldBelow = 0.9
	// slowStartGain is by how much each call that ends well raises the limit in slow start.
	slowStartGain = 2.0
	// guessRequests is where a pace begins of which nothing is known, calls a second, and guessUntil is how many calls must have passed to know
	// something.
	guessRequests, guessUntil = 2.0, 4
	// soonRefused is how many calls must have passed for a rate to say something, or to have held where it was taken from between its bounds.
	soonRefused = 20
	// shortPause is a pause in which a quota may not have saved up what nobody took, and pauseLost how much of it counts as lost: 1 is
	// right for a quota that allows one call at once, 0 for one that saves up all.
	shortPause = 3 * time.Second
	pauseLost  = 0.75
	// agree is by which share two rates that were measured, or two paces, may differ that are the same.
	agree = 0.03
	// startCredit is how many refusals may be spent on learning the first limit.
	startCredit = 10
)

// pace returns the pace of starts.
func (g *Governor) pace() float64 {
	s := &g.s
	if r := s.Pace[paceRequests].inForce(s.At); r > 0 {
		if p := &s.Pace[paceRequests]; p.Measured && p.StatedKind == feedback.ScopeNone && s.Bound > 0 && s.Limit >= 4*firstStep && s.Flow < heldBelow*p.Known {
			// The limit is what holds back, and a faster pace would be none but for what a step of the limit starts at once.
			r = min(r, max(p.Known, leastPace))
		}
		return min(r, fastest)
	}
	if s.RetestAt > 0 {
		return 1 / max(s.RetestGap, leastRetestGap).Seconds()
	}
	if s.Done == 0 && s.Begin.Of == 0 {
		return startPace // the first calls, too, may be too many at once
	}
	// Ends come in bunches, and each lets the next start: without a pace, starts would come in bunches, too, and a quota
	// that allows only so many at once would refuse at a small part of what it gives.
	if s.Limit >= 2 && (s.Mean > 0 || s.Begin.Of > 0) && s.At-s.BusyAt <= max(time.Second, time.Duration(2e9*min(s.Mean, 3600))) {
		rate := 0.0
		if s.Mean > 0 {
			rate = between(s.Limit/max(1e-6, min(s.Mean, s.Latency.Seconds()*1.5)+s.Lag.freeAfter().Seconds()), leastPace, unbounded)
		}
		begin := 0.0
		if s.Begin.Of > 0 {
			begin = max(leastPace, beginSpread*s.Limit/max(beginLeast, float64(s.Begin.Mean)))
		}
		switch {
		case rate == 0:
			return begin
		case s.Places > 0 && g.even() && g.evenSafe(float64(s.Places)) > float64(s.Places):
			if s.Limit >= g.evenSafe(float64(s.Places))+1 {
				return evenPace * rate // more is tried
			}
			return max(g.evenRate(float64(s.Places)), leastPace)
		case s.SlowStart && s.Threshold > 0 && s.FlowBefore > 0:
			// On the way back. The calls that end first after an outage are the longest of those before it.
			return max(spreadFactor*rate, outageReturn*float64(s.FlowBefore))
		case s.Places > 0 && !g.resuming():
			return 0
		case s.Test == 1 && !g.capTold():
			// A limit on calls in flight refuses at the same number when starts come more evenly; a quota does not.
			return spreadTest * rate
		case s.Test == 2 && !g.capTold():
			return spreadLast * rate
		case s.SlowStart:
			return max(g.slowSpread()*rate, begin)
		case s.Bound > 0 && s.Limit >= 4*firstStep:
			// A step of the limit is four calls and more: at once they are more than a quota allows that the limit hides.
			return spreadFactor * rate
		}
	}
	return 0
}

// inForce returns the pace at t: one that headers asked for ends at their reset, whatever is told first after it.
func (p *PaceState) inForce(t time.Duration) float64 {
	if p.StatedKind != feedback.ScopeNone && t > p.StatedEnd {
		return 0
	}
	return p.Rate
}

// least returns the slowest pace that refusals set: a call in five minutes.
func (g *Governor) least(i int) float64 {
	if i == paceTokens {
		return leastPace * max(1, float64(g.s.TokensPerCall))
	}
	return leastPace
}

// index returns which of the paces p is.
func (p *PaceState) index(s *GovernorState) int {
	if p == &s.Pace[paceTokens] {
		return paceTokens
	}
	return paceRequests
}

// passed returns how much of what a pace counts has passed.
func (g *Governor) passed(i int) float64 {
	if i == paceTokens {
		return float64(g.s.TokensDone)
	}
	return g.accepted()
}

// paceRefused lowers a pace after a fresh refusal that was taken for one by a quota. first says that something
// was accepted since the refusal before.
func (g *Governor) paceRefused(t time.Duration, i int, first bool) {
	s := &g.s
	p := &s.Pace[i]
	passed := g.passed(i)
	s.Binding = feedback.ScopeRequests
	if i == paceTokens {
		s.Binding = feedback.ScopeTokens
	}
	if g.windowRefused(t, i, first) {
		return
	}
	kept := p.Rate > 0
	p.StatedKind = feedback.ScopeNone // a refusal knows better than a statement
	u := 0.0
	if i == paceRequests {
		u = g.unresolved()
	}
	dn, dt := passed-p.AnchorCount, (t - p.AnchorAt).Seconds()
	paused := (s.PausedSum - p.AnchorPaused).Seconds()
	refused := float64(s.Refused - p.AnchorRefused)
	noted := true
	if i == paceRequests && p.Rate > 0 {
		s.Gives.refused(p.Rate)
	}
	switch {
	case p.Rate == 0: // of requests: one of tokens begins with what headers tell
		rate := g.startRate(t)
		s.Fast, s.Others, s.SharedFrom = 0, 0, 0
		*p = PaceState{Rate: 0.8 * rate, Known: rate, Ceiling: unbounded, UsedAt: t, Use: 1}
	case first && dt > 0 && (dn >= 4+u && (!p.Measured || dn/dt > 0.75*p.Known || dt > 2 && dn >= 8+u) || g.usual(p, dn, dt, u)):
		g.measure(i, dn, dt, paused, refused, u)
	case i == paceRequests && s.Turn.Period > 0 && first:
		p.Rate = min(p.Rate, p.Known) // used up
	case p.Measured && !first:
		p.Rate = min(p.Rate, max(p.Rate*0.8, 0.5*p.Known))
		noted = false
	case !first && i == paceRequests:
		// Nothing passes at all: how fast to go on is to be seen when something does.
		n, seconds := g.trailing(t)
		p.Rate = max(p.Rate*0.85, min(p.Rate, n/seconds))
		noted = !p.Measured
	default:
		// Too little has passed to measure by: much too fast.
		fall := 0.7
		if n := float64(s.Apart); i == paceRequests && n > 0 {
			fall = max(fall, paceMargin*n/(n+1)) // one of so many was too much
		}
		p.Ceiling = min(p.Ceiling, max(fall, 0.95)*p.Rate)
		p.Rate *= fall
		p.Known = min(p.Known, p.Rate)
		p.Sure, noted = false, !p.Measured
	}
	if noted {
		p.Lowest = float32(p.Rate)
		p.AnchorAt, p.AnchorCount, p.AnchorPaused, p.AnchorRefused = t, passed, s.PausedSum, s.Refused
	}
	if i == paceRequests {
		if noted || !first && passed-s.RefusedCount >= 1 && s.Sharing < soonCounts && s.Chance <= 0 {
			s.Gives.Most = 0 // in a row, too, if something passed since the refusal before, that neither others caused nor chance: at a slower pace, and it refused all the same
		}
		if least := float64(s.Gives.Gives); first && p.Rate < paceMargin*least && s.Turn.Period == 0 {
			p.Rate, p.Known = paceMargin*least, max(p.Known, least)
			p.Ceiling = max(p.Ceiling, p.Known)
		}
	}
	p.Rate = max(p.Rate, g.least(i))
	if first && kept && i == paceRequests {
		s.HoldUntil = max(s.HoldUntil, after(t, g.refusedHold(t)))
	}
	g.paced(t)
}

// paced begins an episode after a refusal by a quota.
func (g *Governor) paced(t time.Duration) {
	s := &g.s
	g.disturbed(t)
	s.Cause = CauseThrottled
	s.Episode++
	s.Recovering, s.CutAt, s.Old = true, t, int32(max(0, s.InFlight))
	s.AskAgain = 0
}

// quotaRefused answers a refusal that is taken for one by a quota from now on: a pace holds back, and what was known of a limit on calls in
// flight is forgotten, up to a limit that was good.
func (g *Governor) quotaRefused(t time.Duration, limit float64, first bool) {
	s := &g.s
	s.Against, s.Test, s.Contra = 0, 0, 0
	g.paceRefused(t, paceRequests, first)
	s.Limit = max(s.Limit, min(limit, g.ceiling()))
	s.Bound, s.LastBound, s.Places, s.Open, s.Sharp = 0, 0, 0, false, 0
	s.SlowStart, s.Threshold = true, 0
	s.startDoubling(t)
}

// startRate returns how many calls passed a second lately; when hardly any have, a guess, that refusals soon put right.
func (g *Governor) startRate(t time.Duration) float64 {
	s := &g.s
	passed := g.accepted()
	rate := passed / max(0.01, (t-s.Origin).Seconds())
	switch {
	case !s.Busy || passed < 1:
		return max(s.Flow, rate, guessRequests) // nobody waited, so it is known what was asked for, and not what the quota gives
	case passed >= guessUntil:
		return max(s.Flow, rate/8, 1e-3)
	}
	return max(s.Flow, min(guessRequests, (passed+1)/max(0.01, (t-s.Origin).Seconds())))
}

// movePaces measures how fast calls start and raises paces that hold callers back.
func (g *Governor) movePaces(t time.Duration, w *Window) {
	s := &g.s
	dt := (t - s.FlowAt).Seconds()
	if dt <= 0 {
		return
	}
	starts := g.accepted()
	ds := starts - s.FlowCount
	decay := math.Exp(-dt / max(0.2, min(10, 4*s.Latency.Seconds())))
	s.FlowStarts = float32(float64(s.FlowStarts)*decay + ds)
	s.FlowTime = float32(float64(s.FlowTime)*decay + dt)
	s.Flow = max(0, float64(s.FlowStarts)) / max(0.01, float64(s.FlowTime))
	g.noteFlow(ds, dt)
	s.FlowAt, s.FlowCount = t, starts
	g.rollTurn(t)
	for i := range s.Pace {
		p := &s.Pace[i]
		if p.StatedKind != feedback.ScopeNone && t > p.StatedEnd {
			*p = PaceState{} // all of it is there again
		}
		if p.Rate == 0 {
			continue
		}
		passed := g.passed(i)
		dn := passed - p.LastCount
		if p.LastCount == 0 {
			dn = 0
		}
		p.LastCount = passed
		tau := max(1, 6/p.Rate)
		if i == paceTokens {
			tau = 5
		}
		if i == paceRequests && p.StatedKind == feedback.ScopeNone {
			g.little(p)
			s.Gives.climbed(dn, dt, p.Rate, p.Known)
			s.Gives.passed(passed-p.AnchorCount-g.unresolved(), (t - p.AnchorAt).Seconds(), p.Rate)
		}
		p.Lowest = float32(min(float64(p.Lowest), p.Rate*min(1, 1.2*float64(p.Use))))
		p.Use += float32((1 - math.Exp(-dt/tau)) * (min(2, max(0, dn)/dt/p.Rate) - float64(p.Use)))
		if i == paceRequests && g.slideMove(t, w) {
			continue
		}
		if i == paceRequests && s.Streak == 0 && !s.Recovering {
			if rate := g.windowPace(t); rate > 0 {
				p.Rate = max(rate, leastPace)
				switch {
				case p.Use >= useBinding:
					p.UsedAt = t
				case t-p.UsedAt > paceAge:
					*p = PaceState{}
				}
				continue
			}
		}
		if p.Use < useBinding {
			if t-p.UsedAt > paceAge {
				*p = PaceState{}
			}
			continue
		}
		p.UsedAt = t
		if s.Recovering && !g.passes() || p.StatedKind != feedback.ScopeNone {
			continue
		}
		if i == paceRequests && g.sharesPace() {
			g.gainShare(p, dt, w.OK)
			continue
		}
		calls := max(1, float64(w.OK), dt/paceProbe.Seconds()) // where calls are rare, each counts for the time that it took
		grow := min(dt/paceProbe.Seconds(), paceProbeCall*calls, max(1, paceProbeCall*float64(w.OK)))
		p.passedBelow(w.OK, g.cfg.RefusalBudget)
		if top := p.safe(); p.Margin > 0 && !p.Sure && p.Rate >= (1-atSafe)*top {
			p.Rate = max(p.Rate, top) // what calls give back of the margin is no way back to it: it is tried meanwhile
		}
		switch top := p.safe(); {
		case p.Rate < top:
			p.Rate = min(top, max(p.Rate*math.Exp(4*grow), 0.4*top))
			s.Cause = CauseRecovery
		case g.disproved(t, i):
			// More has passed than it could have given and saved up: it has grown, and nobody knows by how much.
			p.Sure, p.Ceiling = false, unbounded
			p.Saves = false
			fallthrough
		case p.Rate < p.highest():
			if !p.Sure {
				grow = min(dt/paceStart.Seconds(), paceStartCall*calls, max(1, paceStartCall*float64(w.OK)))
			}
			p.Rate = min(p.Rate*math.Exp(grow), p.highest())
			s.Cause = CauseProbe
		case !p.Sure && t >= s.PausedUntil || s.Credit >= 1 && t >= g.paceProbeAt(p):
			if g.low(p) {
				grow *= pastFaster
			}
			p.Rate = min(p.Rate*math.Exp(grow), unbounded)
			s.Cause = CauseProbe
		}
	}
}

// passes reports whether so many calls were accepted since the last refusal that the pace may rise: a refusal is known long before a long call ends.
// Beside a delay that was named each refusal costs more than that gains.
func (g *Governor) passes() bool {
	s := &g.s
	return s.Mean > longCall && !s.DarkOverload && s.CutAt <= s.RefusedLast && s.PausedUntil <= s.CutAt && g.accepted()-s.RefusedCount-g.unresolved() >= passCalls
}

// disproved reports whether more has passed since the last refusal than what is known of a quota could have given, and saved up
// while the pace was kept below it.
func (g *Governor) disproved(t time.Duration, i int) bool {
	p := &g.s.Pace[i]
	if !p.Measured || i != paceRequests || p.StatedKind != feedback.ScopeNone {
		return false
	}
	gave := p.Known * (t - p.AnchorAt).Seconds()
	return g.passed(i)-p.AnchorCount-g.unresolved() > savedUp+2*float64(p.Depth)+1.1*gave
}

// note remembers how many calls were accepted in each of the last seconds.
func (g *Governor) note(t time.Duration) {
	s := &g.s
	second := max(0, int64((t-s.Origin)/time.Second))
	if second < s.Second || second-s.Second > ringSize {
		s.Second = max(second-ringSize, 0)
		if second < s.Second {
			s.Second = second
		}
	}
	for s.Second < second {
		s.Second++
		c := ringCodeOf(int64(g.accepted()) - s.RingCount)
		s.Ring[s.Second%ringSize] = c
		s.RingCount += ringCalls(c) // what it does not hold counts for the next second
		g.noteTokens()
	}
	g.noteTicks(t)
}

const (
	// ringSize is how many seconds are remembered.
	ringSize = 64
	// ringFine is up to how many calls a second Ring counts each; beyond, it counts by ringCoarse, up to 4 million.
	ringFine, ringCoarse = 1 << 14, 1 << 8
	// mostRing is how many accepted calls Ring may lack.
	mostRing = ringSize * ringCoarse * ringFine
)

// ringCodeOf returns what Ring holds for n calls, rounded down.
func ringCodeOf(n int64) int16 {
	if n > ringFine {
		n = ringFine + (n-ringFine)/ringCoarse
	}
	return int16(min(max(n, math.MinInt16), math.MaxInt16))
}

// ringCalls returns how many calls a code of Ring stands for.
func ringCalls(code int16) int64 {
	if code > ringFine {
		return ringFine + (int64(code)-ringFine)*ringCoarse
	}
	return int64(code)
}

// trailing returns how many calls were accepted in the last minute, or since the first call, and in how many seconds.
func (g *Governor) trailing(t time.Duration) (n, seconds float64) {
	s := &g.s
	g.note(t)
	from := max(0, s.Second-60)
	if from == 0 {
		return g.accepted(), max(1e-3, (t - s.Origin).Seconds())
	}
	return g.since(s.Origin + time.Duration(from)*time.Second), max(1e-3, (t-s.Origin).Seconds()-float64(from))
}

// since returns how many calls were accepted since from, which is not long ago, as far as it is remembered.
func (g *Governor) since(from time.Duration) float64 {
	s := &g.s
	n := g.accepted() - float64(s.RingCount)
	second := float64(from-s.Origin) / 1e9
	i, last := s.Second, max(0, s.Second-ringSize)
	calls := int64(0)
	for whole := max(last, int64(min(math.Ceil(second), float64(s.Second)))); i > whole; i-- {
		calls += int64(ringCalls(s.Ring[uint64(i)%ringSize]))
	}
	n += float64(calls)
	if i > last && float64(i) > second {
		n += float64(ringCalls(s.Ring[uint64(i)%ringSize])) * (float64(i) - second)
	}
	return n
}

// reopen ends a row of refusals, because a call that started at began was accepted.
func (g *Governor) reopen(t, began time.Duration) {
	s := &g.s
	row := int(s.Streak)
	s.Streak = 0
	since, count := s.ActiveAt, s.ActiveCount
	if row >= 1 && !s.DarkOverload && began != unknownStart {
		g.turned(t, began, row)
	}
	if row >= 3 {
		if began != unknownStart || !g.tooSoon(t) {
			s.ActiveAt, s.ActiveCount = t, g.accepted()
		}
		g.skipOutage(t, began)
	}
	if row < 3 || t-s.DarkSince < time.Second || s.DarkOverload {
		return
	}
	p := &s.Pace[paceRequests]
	switch {
	case p.Rate == 0:
	case p.Sure:
		p.Rate = max(p.Rate, paceMargin*p.Known)
	case s.Done-s.Refused < 2:
		// The first call of all that ended well tells that the upstream has opened, and nothing of what it gives.
	default:
		// A quota of whatever kind allows in the long run what it has allowed in the last minute, or since it opened last.
		n, seconds := g.trailing(t)
		if all, span := g.accepted()-count, max(1e-3, (t-since).Seconds()); all/span > n/seconds {
			n, seconds = all, span
		}
		p.Known = max(n/seconds, 0.5/max(0.01, s.DarkGap.Seconds()), leastPace)
		p.Rate = paceMargin * p.Known
		p.Ceiling = 1.3 * p.Known
		if n < soonRefused {
			p.Ceiling = unbounded // too few to go by; and what was refused may have been charged
		}
	}
}
