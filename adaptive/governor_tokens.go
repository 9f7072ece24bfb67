package adaptive

import (
	"math"
	"math/bits"
	"time"
)

// What calls cost in tokens is known when they end, and quotas of tokens count them when they start: at what is reserved for them, or at what they will have used, or
// when they end. So the law counts a call that starts as many tokens as calls cost on average, and puts that right when it ends; what a call that is in flight
// counts upstream besides is told by the refusals (SlideState.Flight).

const (
	// spentMemory is of how many calls it is known what they cost, and spentSure how many it takes.
	spentMemory, spentSure = toldMemory, 8
	// mostSpent bounds a call's tokens, and mostSpread the square of by how much costs differ, as a share of the mean.
	mostSpent, mostSpread = 1e9, 16.0
	// spentLack is how many tokens the ring may lack when it is restored, and mostAbsurd what is counted at all.
	spentLack, mostAbsurd = 1 << 40, 1 << 62
)

// SpentState is what calls cost in tokens, and what those of the last seconds did.
type SpentState struct {
	Count  int64           // tokens that Ring has counted
	Mean   float32         // tokens of a call; 0: calls tell none
	Spread float32         // variance of that, as a share of the mean, squared
	Ring   [ringSize]uint8 // tokens of the calls accepted in each of the last seconds, see tokenCode; GovernorState.Second is the last
}

// sound moves what is remembered into range.
func (d *SpentState) sound(done int64) {
	d.Mean, d.Spread = float32(between(float64(d.Mean), 0, mostSpent)), float32(between(float64(d.Spread), 0, mostSpread))
	if d.Count < done-spentLack || d.Count > done+spentLack {
		d.Count = done
	}
	if d.Mean == 0 {
		*d = SpentState{Count: done} // nothing would ever leave the ring
	}
}

// learn adds n calls that used so many tokens together, with which it is of so many, at most spentMemory.
func (d *SpentState) learn(n int, tokens int64, of int) {
	if n <= 0 || tokens <= 0 {
		return
	}
	k := min(n, spentMemory)
	gain := min(1, float32(k)/float32(max(of, 1)))
	cost := float32(min(float64(tokens)/float64(n), mostSpent))
	off := cost - d.Mean
	if d.Mean > 0 {
		// The mean of n calls differs from that of all by 1/√n of what calls differ by.
		spread := float32(n) * (off / d.Mean) * (off / d.Mean)
		d.Spread = min(mostSpread, d.Spread+min(gain, 0.25)*(spread-d.Spread))
	}
	d.Mean += gain * off
}

// costed returns of how many calls it is known what they cost, at most spentMemory.
func (s *GovernorState) costed() int { return int(max(s.Told[toldInput].Of, s.Told[toldOutput].Of)) }

// tellTokens reports whether it is known what calls cost.
func (s *GovernorState) tellTokens() bool { return s.costed() >= spentSure && s.Spent.Mean >= 1 }

// spent returns how many tokens those accepted so far have used, those in flight as many as calls do on average.
func (g *Governor) spent() float64 {
	s := &g.s
	return float64(s.TokensDone) + float64(s.InFlight)*float64(s.Spent.Mean)
}

// noteTokens counts what was spent in the second that ends.
func (g *Governor) noteTokens() {
	s := &g.s
	d := &s.Spent
	if d.Mean == 0 {
		return
	}
	// What was counted too much, as calls cost less than was thought, is made up for by those that follow until it has left the ring. What no second holds is absurd.
	spent, held := int64(min(max(g.spent(), 0), mostAbsurd)), int64(0)
	in := &d.Ring[uint64(s.Second)%ringSize]
	*in = 0
	for _, c := range d.Ring {
		held += tokensOf(c)
	}
	d.Count = min(max(d.Count, spent-2*tokensOf(math.MaxUint8)), spent+held)
	*in = tokenCode(max(spent-d.Count, 0))
	d.Count += tokensOf(*in) // what it does not hold counts for the next second
}

// tokenCode returns what SpentState.Ring holds for n tokens, rounded down to an eighth.
func tokenCode(n int64) uint8 {
	if n < 8 {
		return uint8(max(n, 0))
	}
	e := bits.Len64(uint64(n)) - 4
	return uint8(min((e+1)<<3|int(n>>e)&7, math.MaxUint8))
}

// tokensOf returns how many tokens a code stands for.
func tokensOf(code uint8) int64 {
	if code < 8 {
		return int64(code)
	}
	return int64(8|code&7) << (code>>3 - 1)
}

// tokenSecond returns how many tokens were spent in one of the last seconds.
func (g *Governor) tokenSecond(i int64) float64 {
	s := &g.s
	if i < 0 || i <= s.Second-ringSize || i > s.Second {
		return 0
	}
	return float64(tokensOf(s.Spent.Ring[i%ringSize]))
}

// tokensSince returns how many tokens were spent since from, which is not long ago, as far as it is remembered.
func (g *Governor) tokensSince(from time.Duration) float64 {
	s := &g.s
	n := g.spent() - float64(s.Spent.Count)
	second := float64(from-s.Origin) / 1e9
	i, last := s.Second, max(0, s.Second-ringSize)
	for whole := max(last, int64(min(math.Ceil(second), float64(s.Second)))); i > whole; i-- {
		n += g.tokenSecond(i)
	}
	if i > last && float64(i) > second {
		n += g.tokenSecond(i) * (float64(i) - second)
	}
	return max(0, n)
}
