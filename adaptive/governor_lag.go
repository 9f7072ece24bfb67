package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// An upstream may go on counting a call for a while after its end. A limit on calls in flight then refuses at a number that varies: fewer, the
// more calls have just ended. The number in flight and those that are still counted, together, are the same at each
// refusal. So the law remembers when calls ended, and keeps for each of some times by how much that sum differs from refusal to refusal.
// Where it differs much less than the number in flight alone, the time is learned, and the guard holds each place for it.

// lagTimes are the times for which calls may be counted after their ends.
var lagTimes = [...]time.Duration{
	50 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond,
	400 * time.Millisecond, 550 * time.Millisecond, 750 * time.Millisecond, time.Second,
}

const (
	numLags = len(lagTimes)
	// lagTick is how exactly ends are remembered, and lagTicks for how many ticks: one and a half of the longest time.
	lagTick  = 25 * time.Millisecond
	lagTicks = 64
	// lagLate is how long a refusal may take to be of use.
	lagLate = 600 * time.Millisecond
	// lagSure is how many refusals are needed at least, and lagMemory of how many the means are. While places are held what was in flight alone is remembered of
	// lagRecent: when nothing is counted any more, it is the same at each soon.
	lagSure, lagMemory, lagRecent = 6, 16, 8
	// lagRatio is the share of the variance of what is in flight that may be left, and lagShare the same for each refusal while there are
	// few. lagWhole is added to what is left, as calls are whole.
	lagRatio, lagShare, lagWhole = 0.5, 0.04, 0.04
	// lagShareMany is lagShare from lagMany places on, where lagMost of the variance of what is in flight may be left as times of a lag differ. A time is not reckoned with that is
	// less likely than lagUnlikely of the most likely one.
	lagShareMany, lagMost, lagUnlikely = 0.05, 0.75, 0.05
	// lagPart: with times of more than this share of what calls take, less may be left.
	lagPart = 0.6
	// lagLeast is the share of what is in flight by which it must differ for a hold to be worth it.
	lagLeast = 0.01
	// lagLow is the share of the limit below which a refusal speaks against the hold.
	lagLow = 0.9
	// mostLagDebt is how many refusals, less one for each lagCalls accepted calls, a hold survives.
	mostLagDebt, lagCalls = 5.0, 12
	// lagWorse is the share of what passed before that must pass with a hold, once lagJudge calls and three times the limit have.
	lagWorse, lagWorseLate, lagJudge = 0.8, 0.9, 30
	// lagMany is from how many places on the numbers that are refused differ about the boundary by more than a call, because the times of a lag
	// differ: the lowest of them is not it, and a cut leads below their mean (lagBelow less, as it is of numbers that were refused), not below each, unless the
	// debt of the hold is lagDoubt and more: refusals that speak against a hold are of another limit.
	lagMany, lagBelow, lagDoubt = 8, 0.5, 2
	// lagDiffer is the variance of those numbers from which no number is the boundary, and lagSpend how many times the budget of refusals is spent then.
	// Beyond their mean by more than lagFar of their standard deviation, and one, the limit is tried as any other.
	lagDiffer, lagSpend, lagFar = 0.25, 2, 2
)

// LagState is what is known of how long calls are counted after their ends.
type LagState struct {
	// Mean and Var are the mean and the variance of calls in flight at refusals, and of those and what is counted with each of lagTimes.
	Mean, Var [numLags + 1]float32

	Count float64         // accepted calls at the first of the refusals, or when places were held first
	At    time.Duration   // when that was
	Last  int64           // the last tick in Ends
	Ends  [lagTicks]uint8 // calls that ended in each of the last ticks
	Rate  float32         // accepted a second before places were held; 0: judged
	Debt  float32         // refusals since, less those that accepted calls make up for
	N     int16           // refusals that the means are of
	Hold  int8            // which of lagTimes places are held for, from 1; 0: they are not
	Fails int8            // how often a hold was of no use, at most 4
	Freed float32         // evidence of ends for a quota, or, below 0, for a limit on calls in flight that others use; at most 3
}

// freeAfter returns how long places are held.
func (l *LagState) freeAfter() time.Duration {
	if l.Hold == 0 {
		return 0
	}
	return lagTimes[l.Hold-1]
}

// lagTick returns in which tick since the first event an instant lies.
func (g *Governor) lagTick(t time.Duration) int64 { return max(0, int64((t-g.s.Origin)/lagTick)) }

// lagEnded remembers that n calls ended since an instant, the last of them at t. When the others did is not known, so they are spread evenly.
func (g *Governor) lagEnded(since, t time.Duration, n int) {
	l := &g.s.Lag
	tick := g.lagTick(t)
	if tick-l.Last >= lagTicks || tick < l.Last-1 {
		l.Ends, l.Last = [lagTicks]uint8{}, tick
	}
	for l.Last < tick {
		l.Last++
		l.Ends[uint64(l.Last)%lagTicks] = 0
	}
	ticks := 1
	if n > 1 {
		ticks = int(min(max(1, l.Last-g.lagTick(since)), lagTicks))
	}
	told := 0
	for i := range ticks {
		all := ((i+1)*n + ticks - 1) / ticks
		e := &l.Ends[uint64(l.Last-int64(i))%lagTicks]
		*e = uint8(min(int(*e)+all-told, math.MaxUint8))
		told = all
	}
}

// lagHeld returns how many of the calls that ended within a time before an instant had places that were held then.
func (g *Governor) lagHeld(at, within time.Duration) (n float64) {
	l := &g.s.Lag
	for k := min(g.lagTick(at), l.Last); k > max(g.lagTick(at-within), l.Last-lagTicks, -1); k-- {
		n += float64(l.Ends[uint64(k)%lagTicks])
	}
	return n
}

// lagCounted returns how many of the calls that ended before an instant are still counted then, if they are for each of lagTimes in the
// mean: all that ended within half of it, none that ended before one and a half of it, and a share of those in between. The first is without any.
func (g *Governor) lagCounted(at time.Duration) (n [numLags + 1]float64) {
	l := &g.s.Lag
	from := g.lagTick(at)
	for k := min(from, l.Last); k > max(l.Last-lagTicks, -1); k-- {
		ended := float64(l.Ends[uint64(k)%lagTicks])
		if ended == 0 {
			continue
		}
		age := time.Duration(from-k)*lagTick + lagTick/2
		for i, d := range lagTimes {
			n[i+1] += ended * min(1, max(0, float64(d+d/2-age)/float64(d)))
		}
	}
	return n
}

// lagRefused learns from a refusal of a call that saw n places in use, with something accepted since the one before.
func (g *Governor) lagRefused(t time.Duration, n float64, c *Call) {
	l := &g.s.Lag
	if c.SentAt < 0 || c.SentAt > t || t-c.SentAt > lagLate {
		return
	}
	n = max(1, n-g.lagHeld(c.SentAt, l.freeAfter()))
	if l.N == 0 && l.Hold == 0 {
		l.Count, l.At = g.accepted(), t
	}
	l.N = min(l.N+1, 1<<14)
	a := max(1.0/lagMemory, 1/float64(l.N))
	counted := g.lagCounted(c.SentAt)
	for i := range l.Mean {
		a := a
		if i == 0 && l.Hold > 0 {
			a = max(a, 1.0/lagRecent)
		}
		d := n + counted[i] - float64(l.Mean[i])
		l.Mean[i] += float32(a * d)
		l.Var[i] = float32((1 - a) * (float64(l.Var[i]) + a*d*d))
	}
}

// lagBest returns the time that explains the refusals, as its place in lagTimes from 1; 0 when none is needed.
func (g *Governor) lagBest() int {
	l := &g.s.Lag
	v, n := float64(l.Var[0]), float64(l.Mean[0])
	many := n >= lagMany
	left := func(i int) float64 { return float64(l.Var[i]) + lagWhole }
	share := min(lagRatio, lagShare*float64(l.N))
	if many {
		left = g.lagLeft
		share = min(lagRatio, lagShareMany*float64(l.N))
	}
	best := 1
	for i := 2; i <= numLags; i++ {
		if left(i) < left(best) {
			best = i
		}
	}
	if best == numLags {
		share /= 2 // with a longer time it might differ less still
	}
	// What started in a time as long as calls take is in flight or has ended in it, whatever refuses.
	share *= min(1, lagPart*g.s.Mean/lagTimes[best-1].Seconds())
	sure := int16(lagSure)
	if float64(l.Mean[best]) < watchFrom && g.s.At < g.s.PausedUntil {
		sure *= 2 // of few, any numbers are near to each other, and a window that is over when its delay says so counts what ended, too
	}
	if l.N < sure<<l.Fails || v < (lagLeast*n)*(lagLeast*n) {
		return 0
	}
	if !many {
		if left(best) > share*v {
			return 0
		}
		return best
	}
	if float64(l.Var[best])+lagWhole > min(lagMost, lagShareMany*float64(l.N))*v || left(best) > share {
		return 0
	}
	// Times near to each other explain about as much, so it is their mean, as likely as each is.
	sum, of := 0.0, 0.0
	for i := 1; i <= numLags; i++ {
		if likely := math.Pow(left(best)/left(i), float64(min(l.N, lagMemory))/2); likely > lagUnlikely {
			sum, of = sum+likely*float64(i), of+likely
		}
	}
	return int(sum/of + 0.5)
}

// lagLeft returns which share is left of the variance, at refusals, of what is in flight and what is counted with one of lagTimes, from 1, together: of that which they would
// have if the refusals had nothing to do with what ended. The ends of calls come at random then, as far as n places allow it: X·∫w² − (X·∫w)²/n, w being the share
// that counts (lagCounted).
func (g *Governor) lagLeft(i int) float64 {
	s := &g.s
	l := &s.Lag
	d, n := lagTimes[i-1].Seconds(), max(1, float64(l.Mean[0]))
	flow := min(s.Flow, n/max(s.Mean, 1e-6))
	ends := max(0, flow*d*5/6-flow*d*flow*d/n)
	return (float64(l.Var[i]) + lagWhole) / (float64(l.Var[0]) + ends + lagWhole)
}

// lagged answers a refusal by what may be a limit on calls in flight, of a call that saw n places in use. It reports whether it did.
func (g *Governor) lagged(t time.Duration, n float64, c *Call, first bool) bool {
	s := &g.s
	l := &s.Lag
	if s.Pace[paceTokens].Rate > 0 || s.Pace[paceRequests].StatedKind != feedback.ScopeNone {
		return false
	}
	if first {
		g.lagRefused(t, n, c)
	}
	if l.Hold == 0 {
		best := 0
		if first {
			best = g.lagBest()
		}
		if best == 0 {
			return false
		}
		rate := max(s.Flow, (g.accepted()-l.Count)/max(1e-3, (t-l.At).Seconds()))
		*l = LagState{
			Hold: int8(best), Rate: float32(min(max(rate, 0), fastest)), Count: g.accepted(), At: t,
			Mean: l.Mean, Var: l.Var, Fails: l.Fails, Ends: l.Ends, Last: l.Last, Freed: l.Freed,
		}
		g.lagHold(t, float64(l.Mean[best]))
		return true
	}
	if l.N >= lagSure && l.Var[0]+lagWhole < lagRatio*l.Var[l.Hold] {
		// It refuses at the same number in flight, whatever has ended: nothing is counted for long any more.
		g.lagDrop(t, l.Fails)
		return false
	}
	low := n < lagLow*min(s.Limit, s.Bound)-1
	if l.Debt++; low {
		l.Debt++
	}
	if l.Debt > mostLagDebt {
		g.lagDrop(t, l.Fails+1)
		return false
	}
	s.RetestAt = 0
	if !low {
		m := float64(l.Mean[l.Hold])
		switch {
		case g.lagDiffers():
			n, s.Yield = max(n, min(s.Limit, m-lagBelow)), 0
		case m >= lagMany && l.Debt < lagDoubt:
			n = max(n, min(s.Limit+1, m-lagBelow))
		}
		s.LastBound, s.Sharp = n, max(s.Sharp, 4)
		g.capRefused(t, n)
	}
	return true
}

// lagDiffers reports whether the numbers that are refused with a hold differ, as times of the lag do. Then the more are in flight, the more often one is refused, and none
// that is asked is safe. So a refusal takes one call, and each call that ends well gives back the share of one that may be refused: the limit stays where so many are.
func (g *Governor) lagDiffers() bool {
	l := &g.s.Lag
	return l.Hold > 0 && l.Mean[l.Hold] >= lagMany && l.Var[l.Hold] >= lagDiffer && l.Debt < lagDoubt && g.s.Pauses == 0 && g.s.Chance < noiseTrial
}

// lagBack reports whether, where lagDiffers, the limit is back where refusals begin, and not so far above the numbers that were refused that the upstream must have grown.
func (g *Governor) lagBack() bool {
	s := &g.s
	l := &s.Lag
	return g.lagDiffers() && s.Limit >= s.Bound-boundSlack(s.Bound) && s.Limit <= float64(l.Mean[l.Hold])+lagFar*math.Sqrt(float64(l.Var[l.Hold]))+1
}

// lagGrow raises the limit there, for n calls that ended well while it was in use.
func (g *Governor) lagGrow(n int, most float64) {
	g.raise(min(most, g.s.Limit+lagSpend*g.cfg.RefusalBudget*float64(n)), CauseProbe)
}

// lagHold begins to hold places: the limit is one less than what was refused with those that were still counted, n.
func (g *Governor) lagHold(t time.Duration, n float64) {
	s := &g.s
	s.Pace[paceRequests] = PaceState{}
	s.Against, s.Test, s.Trial, s.Hits, s.Same, s.RetestAt = 0, 3, 0, 0, 0, 0
	s.Limit = min(max(math.Round(n)-1, float64(g.cfg.Min)), g.ceiling())
	s.Bound, s.LastBound, s.Memory, s.Sharp = n, n, float32(s.Limit), 4
	s.HoldUntil = max(s.HoldUntil, after(t, s.Lag.freeAfter())) // the guard knows nothing of the calls that have ended already
	s.SlowStart, s.Threshold, s.Open = false, 0, false
	s.Flight, s.Top = s.Limit, 0
	s.Good, s.Used, s.Wins = 0, false, 0
	s.Episode++
	s.Recovering, s.CutAt, s.Old = true, t, int32(max(0, s.InFlight))
	s.Cause, s.AskAgain = CauseThrottled, 0
	g.disturbed(t)
}

// lagDrop holds no places any more, after fails holds that were of no use.
func (g *Governor) lagDrop(t time.Duration, fails int8) {
	s := &g.s
	l := &s.Lag
	*l = LagState{Fails: min(fails, 4), Last: l.Last, Ends: l.Ends, Freed: l.Freed}
	s.Sharp, s.Test = 0, 0
	g.disturbed(t)
}

// lagResumed begins anew to judge a hold when somebody asks again after a time in which nobody did, which says nothing of it.
func (g *Governor) lagResumed(t time.Duration) {
	s := &g.s
	if s.Lag.Rate > 0 && (t-s.BusyAt).Seconds() > max(1, 2*s.Mean) {
		s.Lag.At, s.Lag.Count = t, g.accepted()
	}
}

// lagJudged looks at what calls that ended well say of a hold.
func (g *Governor) lagJudged(t time.Duration, ok int) {
	s := &g.s
	l := &s.Lag
	l.Debt = max(0, l.Debt-float32(ok)/lagCalls)
	passed := g.accepted() - l.Count
	if l.Rate == 0 || passed < max(lagJudge, 3*s.Limit) {
		return
	}
	if s.Busy && passed < lagWorse*float64(l.Rate)*(t-l.At).Seconds() {
		g.lagDrop(t, l.Fails+1)
		return
	}
	if passed >= 4*max(lagJudge, 3*s.Limit) {
		if s.Busy && passed < lagWorseLate*float64(l.Rate)*(t-l.At).Seconds() {
			g.lagDrop(t, l.Fails+1)
			return
		}
		l.Rate = 0
	}
}
