package adaptive

// Refusals at a pace that is known to be fine come because calls differ in what they cost a quota: a few large ones empty a bucket. How much less than R refuses as seldom
// as it may is learned: each such refusal takes a step from the pace, and the calls that are accepted give it back. Only those that name a delay count, as a limit that
// others use, too, looks the same without one. Where refusals come as often with the most that is taken, or likely mean nothing, the pace is not why.
const (
	// marginStep is the step, and mostMargin the most that is taken, as shares of R (docs/experiments.md has the runs that chose them).
	marginStep, mostMargin = 0.02, 0.1
	// marginShare is how many refusals may come at a fine pace, in refusal budgets.
	marginShare = 0.3
	// marginNoise is the evidence for noise from which on no refusal counts.
	marginNoise = 2
	// atSafe is by which share a pace may be below the one that is kept to be as fast.
	atSafe = 0.001
)

// safe returns the pace that is kept.
func (p *PaceState) safe() float64 { return (paceMargin - float64(p.Margin)) * p.Known }

// highest returns the pace up to which it rises without spending from the budget of refusals.
func (p *PaceState) highest() float64 {
	if !p.Sure {
		return paceMargin * p.Ceiling
	}
	return (paceMargin - float64(p.Margin)) * p.Ceiling
}

// refusedBelow takes note of a refusal at a pace that was fine, and passedBelow of n calls that ended well while the pace held callers back.
func (p *PaceState) refusedBelow() {
	if p.Margin += marginStep; p.Margin > mostMargin {
		p.Margin = 0
	}
}

func (p *PaceState) passedBelow(n int, budget float64) {
	p.Margin = max(0, p.Margin-float32(marginStep*marginShare*budget*float64(n)))
}
