package adaptive

import (
	"math"
	"time"
)

// Some refusals mean nothing: an upstream refuses one call in fifty, whatever is asked of it. A limit on calls in flight refuses nearly every call
// that sees as many, and none that sees fewer; a quota that is used up refuses a share that is told within a few calls. Noise
// refuses a small share of calls that saw as many as others did that were accepted before and after.
const (
	// aloneAfter is how many accepted calls make up for a refusal.
	aloneAfter = 25
	// maxAloneDebt bounds how many refusals have to be made up for.
	maxAloneDebt = 4
	// belowPeak is the share of what passed lately, peakCalls calls of which count, below which it is many more than a refused call saw
	// in flight.
	belowPeak, peakCalls = 0.9, 1000
	// provenCalls is how many calls in a row must be accepted, besides those of which a refusal would not be known, for the least that they
	// saw in flight to be proven, and provenFor after how many calls that is forgotten.
	provenCalls, provenFor = 12, 4000
	// A refusal below what is proven, after so many accepted calls, counts 1 for noise, and one that comes sooner than soonAccepted
	// calls after the one before counts soonCounts against it: of noise of 2 % a tenth does so, and a third at a limit that others use, too.
	// What was accepted since the last cut says something from noiseLikely on. Noise is known from noiseKnown on, and believed beyond what is proven from noiseSure on.
	// What comes after a refusal that meant nothing says most: at a full limit the next call is refused as well, two of three within
	// soonWaived calls, those included whose refusal would not be known; of noise of 2 % a tenth.
	soonAccepted, soonWaived, soonCounts = 3, 4, 2
	// From noiseSound on a cut leaves what is proven: from noiseLikely on those that have more of a shared limit kept it.
	noiseLikely, noiseSound, noiseKnown, noiseSure, mostNoise = 2, 3, 4, 6, 8
	// From noiseTrial on, no pace is tried: noise refuses at the same number, too.
	noiseTrial = 1
	// noiseDebt is how many refusals that are not made up for mean nothing below what is proven, for each that counts for noise, and beyondDebt how
	// many beyond it.
	noiseDebt, beyondDebt = 0.75, 0.5
)

// prove notes what calls see in flight while none is refused.
func (g *Governor) prove(w *Window) {
	s := &g.s
	if w.OK > 0 {
		forget := math.Exp(-float64(w.OK) / provenFor)
		s.Proven *= forget
		s.Chance, s.Sharing = s.Chance*float32(forget), s.Sharing*float32(forget)
	}
	n := min(float64(w.InFlight+1), s.Limit) // what the next call sees
	if s.RunLevel == 0 {
		s.RunLevel = float32(n)
	}
	s.RunLevel = min(s.RunLevel, float32(n))
	if accepted := g.accepted(); accepted-s.RunFrom >= provenCalls+g.unresolved() {
		s.Proven = max(s.Proven, float64(s.RunLevel))
		s.RunPast = uint16(min(float64(s.RunPast)+accepted-s.RunFrom, math.MaxUint16))
		s.RunLevel, s.RunFrom = float32(n), accepted
	}
}

// endRun ends a row of accepted calls with the refusal of c. Of many calls on their way each refusal comes before it is known of those around it, so what
// counts is when they started: those between two that were refused were accepted. It returns how many were accepted since the refusal before.
func (g *Governor) endRun(t time.Duration, c *Call) (apart float64) {
	s := &g.s
	now := g.accepted()
	late := s.Flow * (t - c.SentAt).Seconds()
	apart = now - s.RunFrom + float64(s.RunPast)
	if c.SentAt < 0 || late <= soonWaived {
		s.RunLevel, s.RunFrom, s.RunPast, s.Apart = 0, now, 0, 0
		return apart
	}
	apart -= late
	if s.RunLevel > 0 && apart >= provenCalls {
		s.Proven = max(s.Proven, float64(s.RunLevel))
	}
	s.Apart = uint8(between(apart, 0, math.MaxUint8))
	s.RunLevel, s.RunFrom, s.RunPast = float32(min(g.now(), float64(c.InFlight))), now, uint16(between(late+min(0, apart), 0, math.MaxUint16))
	return apart
}

// now returns how many calls are in flight, one that has just been refused included. Calls that start close to each other may overtake each
// other on their way, so one that was refused may have met as many.
func (g *Governor) now() float64 { return float64(g.s.beside(g.s.InFlight) + 1) }

// met returns how many calls in flight a refused one met that saw n when it started: where so many are known to go well, one that started later may
// have come before it.
func (g *Governor) met(n float64) float64 {
	if v := math.Floor(g.s.Proven + 0.5); n <= v && v <= watchFrom && g.now() > v {
		return v + 1
	}
	return n
}

// meaningless notes a refusal of a call that saw n in flight, gap accepted calls after the one before, and reports whether it means nothing. Next to a delay a
// quota is more likely, so there that must be known; of a delay that is longer than calls take the places are counted, and where no pace is kept each looks
// like a bucket that saved up something in the delay before.
func (g *Governor) meaningless(n, gap float64, o *Outcome) bool {
	s := &g.s
	if !o.HasRetryAfter {
		return g.noise(n, gap)
	}
	return s.Pace[paceRequests].Rate > 0 && o.RetryAfter.Seconds() <= s.Mean && g.noise(n, gap) && s.Chance >= noiseKnown
}

// noise notes a refusal of a call that saw n in flight, gap accepted calls after the one before, and reports whether it means nothing.
func (g *Governor) noise(n, gap float64) bool {
	s := &g.s
	p := &s.Pace[paceRequests]
	s.Debt = float32(max(0, float64(s.Debt)-max(0, gap)/aloneAfter))
	known := max(gap-g.unresolved(), float64(s.Apart))
	if s.Ignored && known < 1 {
		s.Contra = max(0, s.Contra-1) // it was the first of a row
	}
	s.Ignored = false

	fine := p.Rate == 0 || p.Sure && p.Rate <= p.Known
	// Once noise is likely, or where many are in flight, that others started meanwhile explains nothing.
	slack := 0.5
	if s.Apart >= provenCalls && s.Chance >= noiseLikely {
		slack = max(slack, near*s.Proven) // of many in flight the fewest that a row of calls saw are fewer than most of them did
	}
	proven := fine && n <= s.Proven+slack && (s.Chance >= noiseLikely || s.Proven > watchFrom || g.now() <= s.Proven+slack)
	noisy := s.Chance >= noiseKnown
	most := -1.0
	switch {
	case gap >= aloneAfter && fine && (proven || n <= s.Top && (p.Rate > 0 || s.Chance >= noiseLikely)):
		most = maxAloneDebt
	case n <= 1:
	case !proven && s.Chance >= noiseSure:
		most = beyondDebt
	case p.Rate == 0 && n <= belowPeak*float64(s.Peak) && s.Debt < 1:
		most = 1
	}
	if proven && n > 1 {
		most = max(most, noiseDebt*float64(s.Chance))
	}
	soon, late := known < soonAccepted, known >= provenCalls
	if s.Waived {
		soon, late = gap < soonWaived, gap >= provenCalls
	}
	waived := s.Waived
	s.Waived = false
	switch {
	case !proven:
	case soon:
		s.Chance = max(0, s.Chance-soonCounts)
		if waived {
			s.Sharing = min(s.Sharing+soonCounts, mostShared) // as a limit does that others fill
		}
	case late:
		if waived || !g.shared() {
			s.Chance = min(s.Chance+1, mostNoise)
		}
		if waived {
			s.Sharing = max(0, s.Sharing-1)
		}
	}
	if float64(s.Debt) <= most && p.Rate > 0 && p.Measured && fine {
		if s.Contra = min(s.Contra+1, mostContra); s.Contra == mostContra {
			most = -1 // the pace explains nothing
		}
	}
	if g.shared() {
		most = -1
		if g.tested(proven) {
			most = maxAloneDebt
		}
	}
	if float64(s.Debt) <= most {
		s.Debt++
		s.Waived, s.Ignored = true, p.Rate > 0
		return true
	}
	s.Debt = min(s.Debt+1, maxAloneDebt)
	if noisy {
		s.Debt = 1
	}
	s.Proven = min(s.Proven, n-1)
	return false
}

// sound returns how many in flight no refusal lowers the limit below, as far as noise is likely: as many are proven, and what was refused
// beyond may be noise, too.
func (g *Governor) sound() float64 {
	if g.s.Chance < noiseSound {
		return 0
	}
	return g.s.Proven
}
