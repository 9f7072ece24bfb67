package adaptive

import "math"

// At a refusal a quota is used up. So what passed between two of them is what it gave in that time, but for a call, if it saves up what is not used; and
// if it saves up nothing, it gives a little less than the pace at which it refuses. Which one it is, is told by what is the same at each refusal.
const (
	// spanSlack is by how many calls, spanShare by which share of them what passed between two refusals may differ from what the ones before say.
	spanSlack, spanShare = 1.0, 0.01
	// spanCalls is how many calls must have passed between refusals that say the same for that to say something.
	spanCalls = 60
	// spanKnown is the largest share of the calls in flight of which a refusal may not be known yet for what passed to say which limit refuses.
	spanKnown = 0.125
	// aboveSame is how many times what passed a pace must be that refuses again for that to say that the quota saves up nothing.
	aboveSame = 1.08
	// refusedLoses is how many calls of what a slow quota gives that saves up nothing are lost by each that it refuses, on average.
	refusedLoses = 0.5
	// guessKept is the least share of a guess that a pace is kept for after it was averaged with what was known, which differs by 15 % at most.
	guessKept = 0.92
	// mostFlips bounds how often in a row the same pace must have refused to say that a quota saves up nothing: 2 to the power of it.
	mostFlips = 4
	// slowPauses is how many pauses there must be in what passed for it to tell whether pauses are time, where the pace may have been too slow to tell.
	slowPauses = 3.5
	// mostSpan is from how many calls on half of them is forgotten, and leastSpan the shortest time, in s, that tells anything.
	mostSpan, leastSpan = 1e5, 1e-3
)

// measure takes what passed between two refusals, dn in dt seconds, paused of which were pauses, for what the quota of pace i gives. refused were refused
// meanwhile, and u are on their way.
func (g *Governor) measure(i int, dn, dt, paused, refused, u float64) {
	s := &g.s
	p := &s.Pace[i]
	if i == paceRequests && s.tellTokens() && s.Chance < marginNoise && s.PausedUntil >= s.At && p.Measured && p.Rate <= p.Known && paused < 0.5*dt {
		p.refusedBelow()
	}
	// If the pace was above what passed all the time, that is what it refilled. If not, it gives at least as much, and, unless it had saved up, less than
	// the pace at which it refused.
	lower := dn / dt
	if s.Trial > 0 && i == paceRequests {
		lower *= dt / max(dt/4, dt-paused)
	} else if s.LastPause <= shortPause {
		lower = g.gave(dn, dt, paused, s.LastPause.Seconds())
	}
	if i == paceRequests && !p.Measured {
		g.longest(lower)
	}
	saves := i == paceRequests && s.Burst.saves(lower)
	if saves && !p.Measured && s.Chance < noiseTrial && !s.Limiting && paused < 0.5*dt {
		p.Saves = true
	}
	slow := i == paceRequests && s.Sharing == 0 && g.slow(p.Known)
	if slow && !p.Saves && s.LastPause == 0 {
		// What had come back for the next call is lost at a refusal, if nothing is saved up: anything from none to all of a call, which is much of the few that passed.
		// Beside a delay the next one comes when there is all of it, and others who use the quota, too, would have had it.
		lower = max(lower, min(p.Rate, (dn+refusedLoses*refused)/dt))
	}
	switch soon := dn < soonRefused+u; {
	case p.Guess > 0 && soon && (slow || g.costly(s.At)) && s.Others == 0 && p.guessTried():
		// Few calls pass between two tries of a slow quota, and a faster pace is refused whether the guess holds or not, if nobody else is served.
	case p.Guess > 0 && soon && i == paceRequests && g.single(lower):
		// It had nothing saved up when it was first asked, so it saves up nothing now: the faster pace is refused whether the guess holds or not.
	case p.Guess > 0 && soon && lower < 0.95*float64(p.Guess):
		p.Saves = true
		p.Depth = max(p.Depth, p.Excess)
	case p.Guess > 0 && !soon && lower >= 0.93*float64(p.Guess):
		p.Saves, p.Depth = false, 0
	}
	again := p.Met > 0 && math.Abs(p.Rate/float64(p.Met)-1) < agree
	if !p.Saves || !again || p.Rate < aboveSame*lower || dn < soonRefused || saves {
		p.Alike = 0
	} else if p.Alike++; p.Alike >= 2<<p.Flips || p.Alike >= 1<<p.Flips && s.Trial <= 0 {
		// At the same pace again, however long it was kept below: it may save up hardly anything. A limit on calls does that, too.
		p.Saves, p.Alike, p.Flips = false, 0, min(p.Flips+1, mostFlips)
	}
	low := !p.Saves && p.slow(dn, dt, paused)
	off := g.spanOff(p, dn, u)
	if s.Charged && s.Chance < noiseTrial {
		off += max(0, refused-1) // each of them may have been charged
	}
	fits := p.fits(dn, dt, paused, off, low || s.SpanSlow, s.LastPause.Seconds())
	if fits && p.SpanCalls >= spanCalls && p.Met > 0 && !again {
		// A bucket that is tried after as long a time refuses at the same pace, too, so the more often it was another one, the less one that comes again says.
		p.Saves, p.Alike, p.Flips = true, 0, min(p.Flips+1, mostFlips)
	}
	if p.Saves && p.PauseSaved {
		lower = dn / dt
	}
	p.Met = float32(p.Rate)
	p.Excess = 0
	if p.Measured {
		p.Excess = float32(max(0, dn-p.Known*dt))
	}
	if i == paceRequests {
		s.SpanSlow = fits && s.SpanSlow || low
	}
	p.addSpan(fits, dn, dt, paused)

	crossed, fast := 0.0, false
	if i == paceRequests {
		crossed, fast = g.crossed(p, lower, dn, u)
	}
	est, exact := lower, (p.Saves || s.countsTokens()) && fits && p.SpanCalls >= spanCalls
	p.Guess = 0
	agrees := p.agrees(s, lower, dn, dt, paused, u)
	switch {
	case exact:
		est = g.spanRate(p)
	case crossed > lower:
		est = crossed
	case agrees:
		est = (lower + float64(p.Before)) / 2
		if p.Sure && p.Rate > p.Known {
			est = max(est, p.Known) // it was tried, and kept below before
		}
	case float64(p.Lowest) < climbFrom*lower && !p.Saves:
		least := lower
		if i == paceRequests && g.costly(s.At) { // without a delay a limit that others use, too, looks the same
			least = max(lower, min(g.lately(u), p.Rate))
		}
		est = math.Sqrt(least * max(least, p.Rate))
		p.Guess = float32(est)
	}
	p.Before = 0
	if dn >= soonRefused+u {
		p.Before = float32(lower)
	}
	same := p.Saves && p.Measured && math.Abs(lower/p.Known-1) < 0.15
	if !p.Measured && p.Saves && s.Burst.saves(lower) && s.Burst.late() && s.Chance < noiseTrial && !s.countsTokens() {
		same = i == paceRequests // at both refusals nothing was left of what it saves up, so what passed in between is what it gave
	}
	told := !exact && crossed > lower
	sure := agrees || told || exact && s.Chance < noiseTrial || refused <= 1+0.2*dn && (p.Rate < 1.3*est || same) && (paused < 0.5*dt || s.LastPause > shortPause)
	if !exact && !agrees && !told && p.Measured && math.Abs(est/p.Known-1) < 0.15 {
		est = (p.Known + est) / 2
	}
	if i == paceRequests && p.Measured && s.Turn.Period == 0 {
		rate, over := s.Gives.grew(p.Known, float64(p.Depth), u)
		p.Excess = float32(over)
		if rate > est {
			// What passed before the pace rose says nothing of what the quota gives now.
			est, sure = rate, false
			p.Guess, p.Saves = float32(est), false
		}
	}
	if i == paceRequests {
		g.confirmed(p, est, sure)
	}
	p.Known, p.Sure, p.Measured = est, sure, true
	p.Ceiling = est
	if fast && p.Guess > 0 {
		p.Sure = false // what it is refused at while it rises slowly tells more
	} else if !sure {
		p.Ceiling = max(est, 0.95*p.Rate) // refusals may have been charged, and a pause may have been lost
		if paused < 0.5*dt && s.countsTokens() {
			p.Ceiling = max(est, min(0.95*p.Rate, (dn+refused)/max(dt/4, dt-paused)))
		}
	}
	p.Rate = min(p.safe(), p.Rate*0.97)
}

// guessTried reports whether a guess is kept still, but for what it was averaged with, and was refused at a pace above it.
func (p *PaceState) guessTried() bool {
	return p.Rate > climbFrom*float64(p.Guess) && p.Known >= guessKept*float64(p.Guess)
}

// agrees reports whether as much passed a second, lower, as between the two refusals before, both beside a delay longer than calls: the pace looks unused in
// a pause, so that it says nothing of a pace that was too low.
func (p *PaceState) agrees(s *GovernorState, lower, dn, dt, paused, u float64) bool {
	if paused <= 0 || paused >= 0.4*dt || s.LastPause.Seconds() <= s.Mean || p.Before == 0 || math.Abs(lower/float64(p.Before)-1) >= agree || dn < soonRefused+u {
		p.Steady = 0
		return false
	}
	p.Steady = min(p.Steady+1, 3)
	return true
}

// fits reports whether dn in dt seconds, paused of which were pauses, is within slack of what passed between the refusals before, a second; and notes
// whether pauses count as time.
func (p *PaceState) fits(dn, dt, paused, slack float64, slow bool, last float64) bool {
	if p.SpanTime <= 0 {
		return false
	}
	off := p.spanError(dn, dt)
	without := math.Abs(dn - float64(p.SpanCalls/max(p.SpanTime-p.SpanPause, leastSpan))*(dt-paused))
	switch fits := off <= slack; {
	case !fits:
		p.PauseSaved = false
		return false
	case p.SpanCalls >= spanCalls && without > off+1 && (!slow || float64(p.SpanPause) >= slowPauses*last):
		p.PauseSaved = true
	}
	return true
}

// slow reports whether the pace was below what passed outside of pauses, dn in dt seconds with paused of them pauses, for some of the time: it may not have used all
// that a quota gave that saves up nothing.
func (p *PaceState) slow(dn, dt, paused float64) bool {
	return float64(p.Lowest) < paceMargin*dn/max(dt/4, dt-paused)
}

// spanError returns by how many calls what passed between two refusals, dn in dt seconds, differs from what p's span says, which must be known.
func (p *PaceState) spanError(dn, dt float64) float64 {
	return math.Abs(dn - float64(p.SpanCalls/p.SpanTime)*dt)
}

// spanOff returns by how many calls what passed between two refusals, dn of which u are on their way, may differ from what p's span says.
func (g *Governor) spanOff(p *PaceState, dn, u float64) float64 {
	off := spanSlack + u/4 + spanShare*dn
	if s := &g.s; s.countsTokens() {
		off += math.Sqrt(float64(s.Spent.Spread) * dn * (1 + dn/max(1, float64(p.SpanCalls))))
	}
	return off
}

// usual reports whether what passed since the refusal before, dn in dt seconds, may be by chance, as calls differ in what they cost a quota of tokens.
func (g *Governor) usual(p *PaceState, dn, dt, u float64) bool {
	return g.s.countsTokens() && p.index(&g.s) == paceRequests && dn >= 1 && p.Measured && p.SpanCalls >= spanCalls && p.spanError(dn, dt) <= g.spanOff(p, dn, u)
}

// spanned reports whether what passed since the refusal before is what passed between those before it: a quota gives that, and nothing else does.
func (g *Governor) spanned(p *PaceState, n float64) bool {
	s := &g.s
	dn, dt := g.accepted()-p.AnchorCount, (s.At - p.AnchorAt).Seconds()
	u := g.unresolved()
	if p.SpanCalls < spanCalls || p.SpanTime < leastSpan || dn < soonRefused || u > spanKnown*n {
		return false
	}
	return p.spanError(dn, dt) <= spanSlack+u/4+spanShare*dn
}

// addSpan adds what passed to what fits, or begins anew.
func (p *PaceState) addSpan(fits bool, dn, dt, paused float64) {
	if !fits {
		p.noSpan()
	}
	p.SpanCalls, p.SpanTime, p.SpanPause = p.SpanCalls+float32(dn), p.SpanTime+float32(dt), p.SpanPause+float32(paused)
	if p.SpanCalls > mostSpan {
		p.SpanCalls, p.SpanTime, p.SpanPause = p.SpanCalls/2, p.SpanTime/2, p.SpanPause/2
	}
	if p.SpanTime < leastSpan {
		p.noSpan()
	}
}

func (p *PaceState) noSpan() { p.SpanCalls, p.SpanTime, p.SpanPause = 0, 0, 0 }

// spanRate returns what p's quota gives a second by what passed between refusals that say the same.
func (g *Governor) spanRate(p *PaceState) float64 {
	calls, all := float64(p.SpanCalls), float64(p.SpanTime)
	if p.PauseSaved {
		return calls / all
	}
	return g.gave(calls, all, float64(p.SpanPause), g.s.LastPause.Seconds())
}
