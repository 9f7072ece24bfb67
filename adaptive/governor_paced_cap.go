package adaptive

import "math"

// A limit on calls in flight may be what refuses a guard that keeps a pace: it refuses at the same number, whatever the pace is, and no
// accepted call sees more. A quota refuses at the same pace, whatever is in flight.
const (
	// pacedCapHits is how many refusals at the same number make a limit.
	pacedCapHits = 3
	// paceMoves is by how much the pace must differ from that at the refusal before, as a logarithm, for the number to say something, and
	// pacedCapGap how many calls must have been accepted since.
	paceMoves, pacedCapGap = 0.15, 4
	// rareShare is the share of calls that see about as many below which it says something that the refused one did. It is of some rareCalls calls.
	rareShare, rareCalls = 0.5, 100
)

// pacedCap notes a refusal of a call that saw n in flight, gap accepted calls after the one before, while a pace is kept, and reports whether a limit
// on calls in flight refuses.
func (g *Governor) pacedCap(n, gap float64, o *Outcome) bool {
	s := &g.s
	rate := s.Pace[paceRequests].Rate
	few := n < watchFrom
	// Time and again the refused call was the one that saw most in flight; or the pace was another one.
	most := n >= 0.95*s.Top && n >= 1.15*float64(s.MeanLevel)+1
	moved := !few && gap >= pacedCapGap && !o.HasRetryAfter && s.CapShare < rareShare && math.Abs(math.Log(rate/max(float64(s.CapRate), leastPace))) > paceMoves
	near := max(1, 0.015*float64(s.CapAt))
	if few {
		near = 2
	}
	switch d := n - float64(s.CapAt); {
	case n >= s.Limit-1.5: // the limit holds back, and not the pace
	case !most && (few || o.HasRetryAfter):
		s.CapLike = max(0, s.CapLike-1)
	case d > near || d < -near && few:
		s.CapAt, s.CapLike, s.CapRate, s.CapShare = float32(n), 1, float32(rate), rareShare
	case d >= -near && (most || moved):
		s.CapLike, s.CapRate = s.CapLike+1, float32(rate)
	}
	return s.CapLike >= pacedCapHits
}

// capAgain reports whether a refused call that saw n in flight, gained accepted calls after the refusal before, met the limit on calls in flight that is known
// beside the pace: n is its boundary, and the first call that saw as many since the last cut is refused, after as many as are in flight, and as many as make two numbers
// differ. Of those a quota would refuse any, and so does noise.
func (g *Governor) capAgain(n, proven, gained float64) bool {
	s := &g.s
	return s.Chance < noiseTrial && s.Bound > 0 && n >= beyondFrom && math.Abs(n-s.Bound) <= max(0.5, 0.02*s.Bound) && n > proven && s.Top >= n-1.5 && gained >= max(n, watchFrom)
}

// passedCap takes note of what accepted calls saw in flight.
func (g *Governor) passedCap(w *Window) {
	s := &g.s
	if s.CapAt == 0 {
		return
	}
	near := 0.0
	if float64(w.InFlight+1) >= float64(s.CapAt)-max(2, 0.03*float64(s.CapAt)) {
		near = 1
	}
	s.CapShare += float32((near - float64(s.CapShare)) * min(1, float64(w.OK)/rareCalls))
	if float64(w.MaxInFlight) > float64(s.CapAt)+max(2, 0.05*float64(s.CapAt)) {
		s.CapAt, s.CapLike = 0, 0
	}
}
