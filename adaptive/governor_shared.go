package adaptive

// A limit on calls in flight that other processes use, too, refuses where the others are, and not at a number. Who goes back to what it had within a few calls
// after each refusal keeps its share, whatever that is. Where all give up a part of what they have at a refusal, and come back by as many calls in each
// latency, who has more gives up more, and all end up with as many (Chiu and Jain, 1989).
const (
	// sharedSure is from how much evidence beyond that for noise on the limit counts as shared, and says nothing for noise any more that refusals come late (who goes back
	// slowly is refused seldom): refusals that meant nothing, each followed by another at once, take soonCounts
	// each. mostShared is the most that is kept.
	sharedSure, mostShared = 5, 8
	// sharedLeast is from how many in flight on a limit is given up by a share: of fewer, one call is more.
	sharedLeast = 12
	// sharedCut is what a refusal leaves.
	sharedCut = 0.9
	// sharedGain is how many calls a limit gains in a latency, and sharedGainShare the same as a share of it, where that is more.
	sharedGain, sharedGainShare = 0.4, 1.0 / 64
	// sharedWait is after how many latencies without a refusal it gains more: others have gone.
	sharedWait = 6
	// sharedTest is each how manieth refusal below what is proven means nothing, to tell whether others are still there.
	sharedTest = 4
	// sharedGone and sharedGoneCalls are how many times what was refused, and how many calls besides, go well where others have gone.
	sharedGone, sharedGoneCalls = 1.25, 2
)

// shared reports whether others use the limit on calls in flight, as far as is known.
func (g *Governor) shared() bool {
	s := &g.s
	return s.Sharing-s.Chance >= sharedSure && s.Limit >= sharedLeast && s.Pace[paceRequests].Rate == 0 && s.Lag.Hold == 0 && s.Places == 0 && s.Pauses == 0 && !s.Late && !s.Limiting
}

// share raises a limit that others use, too, for n calls that ended well while it was in use.
func (g *Governor) share(n int, most float64) {
	s := &g.s
	latencies := float64(n) / s.Limit
	s.Calm = float32(min(float64(s.Calm)+latencies, mostCalm))
	gain := max(sharedGain, sharedGainShare*s.Limit)
	if x := float64(s.Calm) / sharedWait; x > 1 {
		gain *= x * x
	}
	g.raise(min(most, s.Limit+gain*latencies), CauseProbe)
}

// mostCalm bounds how many latencies without a refusal count.
const mostCalm = 1000

// tested reports whether a refusal at a shared limit, of a call that saw no more in flight than is proven, is one of those that test whether others use it still.
func (g *Governor) tested(proven bool) bool {
	s := &g.s
	s.Tests = (s.Tests + 1) % sharedTest
	return s.Tests == 0 && proven
}
