package adaptive

const (
	// mostOwed is how many refusals may be owed where windows are known: those of a row are paid for before the next window is tried.
	mostOwed = 10.0
	// probeOwed is the same where a pace was tried that was above what the quota is known to give. More is too much where others share it.
	probeOwed = 1.0
)

// leastCredit returns how far below 0 the budget of refusals may go for a refusal of c. Those that no probe caused are no debt: a pace that was
// measured badly, or of which others took a part, would stay where it is.
func (g *Governor) leastCredit(c *Call) float64 {
	s := &g.s
	if int32(c.Episode-s.Episode) >= 0 && s.Streak == 0 {
		p := &s.Pace[paceRequests]
		s.Probed = p.Sure && p.Measured && p.Rate > p.Known && p.Use >= useBinding
	}
	switch {
	case s.Turn.Period > 0:
		return -mostOwed
	case s.Probed && s.Chance < noiseLikely/2:
		return -probeOwed
	}
	return 0
}
