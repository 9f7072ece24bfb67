package adaptive

import "math"

// What a quota gives, R a second, takes R·L calls in flight, by Little's law. Ends raise the limit, but those of calls that started after the last refusal: where calls
// take longer than it takes until the quota refuses again, there are none. So where a quota is what refuses, as far as is known, and was measured, that many are allowed.
const (
	// littleRoom is how many times as many are allowed, and littleSigmas how many roots of them more, as calls differ.
	littleRoom, littleSigmas = 1.1, 3
)

// little raises the limit to what the quota of p takes in flight.
func (g *Governor) little(p *PaceState) {
	s := &g.s
	if !p.Measured || !p.Sure || s.Late || s.DarkOverload || s.Mean <= 0 || s.TimeoutDebt >= 1 || p.Use < useBinding && s.InFlight < int(s.Limit+limitSlack) {
		return
	}
	most := g.ceiling()
	if s.Bound > 0 {
		most = math.Min(most, float64(s.Threshold)) // so far the way back is known; 0: it is over
	}
	n := p.Known * math.Min(s.Mean, 3600)
	g.raise(math.Min(littleRoom*n+littleSigmas*math.Sqrt(n), most), CauseProbe)
}
