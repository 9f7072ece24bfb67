package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Governor is flyball's own law. It finds a limit that nobody told, and stays there, with two actuators: a limit on calls
// in flight, which cures "too many at once" and queueing, and a pace of starts (of requests and of tokens), which cures
// "too fast". docs/control-law.md has each rule with its symbols, constants and experiments.
//
// All methods take constant time, allocate nothing and never panic.
type Governor struct {
	cfg  Config
	s    GovernorState
	took float64 // s that a call of the window took that is told now, as if all were of the class that was first; 0: not known
}

var _ Law = (*Governor)(nil)

// New returns the law with the parameters of cfg, moved into range where they are not; see [Config.Check].
func New(cfg Config) *Governor {
	g := &Governor{cfg: cfg.clamp()}
	g.s = GovernorState{
		Limit:     float64(g.cfg.Initial),
		SlowStart: true,
		Credit:    startCredit,
		At:        math.MinInt64,
	}
	return g
}

// Decision implements [Law].
func (g *Governor) Decision() Decision {
	s := &g.s
	pace := g.pace()
	if told := g.toldPace(); told > 0 && (pace == 0 || told < pace) {
		pace = told
	}
	return Decision{
		Limit:     min(max(int(s.Limit+limitSlack), g.cfg.Min), g.cfg.Max),
		Pace:      pace,
		TokenPace: min(s.Pace[paceTokens].inForce(s.At), 1000*fastest),
		NotBefore: s.HoldUntil,
		FreeAfter: s.Lag.freeAfter(),
		Binding:   s.Binding,
		Cause:     s.Cause,
		Quota:     g.quota(),
		Episode:   s.Episode,
		AskAgain:  s.AskAgain,
		Until:     g.until(),
	}
}

// near is by how much a boundary may seem to move. Calls whose answers are on the way are in flight here and not there.
const near = 0.1

// limitSlack keeps a limit that is whole but for rounding whole.
const limitSlack = 1e-9

// Window implements [Law]. Windows may have any length: the law adds them up to its epochs.
func (g *Governor) Window(now time.Duration, w Window) Decision {
	s := &g.s
	t := g.advance(now)
	w.OK = min(max(0, w.OK), MaxLimit*4)
	w.Begun = min(max(0, w.Begun), w.OK)
	w.InFlight, w.MaxInFlight = level(w.InFlight), level(w.MaxInFlight)

	s.Done += int64(w.OK)
	if w.OK > 0 {
		s.Peak = float32(max(float64(s.Peak)*math.Exp(-float64(w.OK)/peakCalls), min(float64(w.MaxInFlight), s.Limit)))
	}
	g.passedCap(&w)
	g.prove(&w)
	s.TokensDone += max(0, min(w.Tokens, 1<<40))
	g.costs(&w)
	s.InFlight = w.InFlight
	g.count(t, -1, w.InFlight+w.OK)
	w.InFlight += level(w.Held)
	if w.OK > 0 {
		g.lagEnded(w.Start, t, w.OK)
	}
	s.MeanLevel += float32((float64(w.InFlight) - float64(s.MeanLevel)) / 16)
	s.Credit = max(s.Credit, min(maxCredit, s.Credit+g.earned(t, &w)))
	if w.OK > 0 {
		if g.stalled(t) {
			s.HoleAt = t
		}
		s.PassedAt = t
	}
	s.TimeoutDebt = float32(max(0, float64(s.TimeoutDebt)-float64(w.OK)*timeoutShare))
	s.Contra = float32(max(0, float64(s.Contra)-float64(w.OK)/contraCalls))
	g.learnLatency(t, &w)
	if s.RetestAt > 0 && g.retestVoid(t, &w) {
		s.RetestAt = 0
	}
	s.Busy = w.Full || w.Waiting > 0
	if s.Busy {
		g.lagResumed(t)
		s.BusyAt = t
		s.Begin.Full = true
	}
	g.most(t, &w)
	if w.OK > 0 && s.RetestAt > 0 {
		g.retestWon(t, float64(w.InFlight))
	}
	if s.Lag.Hold > 0 {
		g.lagJudged(t, w.OK)
	}
	aged := g.age(t, &w)
	g.note(t)
	g.passInRow(t, &w)
	if fresh := g.fresh(&w); fresh > 0 {
		g.reopen(t, began(t, &w))
		if s.early() {
			fresh -= w.Begun
		}
		if !aged && fresh > 0 {
			g.grow(&w, fresh)
		}
	}
	g.tryBeside(t)
	g.movePaces(t, &w)
	g.ask(now)
	return g.Decision()
}

// ask sets when the next window is wanted.
func (g *Governor) ask(now time.Duration) {
	s := &g.s
	if s.Recovering || s.SlowStart && s.Busy && s.Limit < g.ceiling() {
		// What the next call says is needed at once.
		s.AskAgain = 0
		return
	}
	s.AskAgain = after(now, min(max(s.Latency/askShare, minAsk), maxAsk))
}

// Ended implements [Law].
func (g *Governor) Ended(now time.Duration, c Call, o Outcome) Decision {
	s := &g.s
	t := g.advance(now)
	s.Done++
	s.InFlight = max(0, s.InFlight-1)
	g.took = 0
	stale := int32(c.Episode-s.Episode) < 0
	if stale && s.Old > 0 {
		s.Old--
	}
	refused := o.Class == feedback.Throttled || o.Class == feedback.Overloaded || o.Class == feedback.QuotaExhausted
	if refused {
		s.Refused++
		g.endRun(t, &c)
		g.pay(t, &c, &o)
	} else {
		g.lagEnded(t, t, 1)
		if c.SentAt >= 0 && t > c.SentAt {
			s.BlockLost = min(s.BlockLost+float32((t-c.SentAt).Seconds()), blockMost)
		}
	}
	g.bind(&o, stale)
	if stale {
		if o.Class == feedback.Timeout && s.Bound > 0 {
			s.TimeoutDebt = min(s.TimeoutDebt+staleTimeout, maxDebt)
			g.crowded(t, &c)
		}
		if refused {
			// It was counted as accepted when the refusal before it was noted.
			p := &s.Pace[paceRequests]
			p.AnchorCount--
			p.SpanCalls = max(0, p.SpanCalls-1)
			if c.SentAt < s.DarkSince {
				s.Turn.Dark--
			}
			if n := float64(c.InFlight); s.Open && o.Class == feedback.Throttled && o.Scope <= feedback.ScopeConcurrency && n > 0.7*float64(s.RefusedAt) {
				// Of calls refused together, the one with the fewest in flight is nearest to the limit.
				g.nearer(n)
			}
			g.count(t, c.SentAt, s.InFlight)
		}
		return g.Decision()
	}
	if o.Scope == feedback.ScopeDaily {
		return g.Decision()
	}
	n := float64(max(1, level(c.InFlight)))
	if refused {
		n = g.met(n)
	}
	switch o.Class {
	case feedback.Throttled:
		g.throttled(t, n, &c, &o)
	case feedback.Overloaded:
		if g.limiting(t, n) {
			g.throttled(t, n, &c, &o)
			break
		}
		g.streak(t, true)
		g.cut(t, n, CauseOverloaded, min(g.cfg.Backoff, overloadBackoff))
	case feedback.Timeout:
		g.late(t, n, &c)
	}
	return g.Decision()
}

const (
	// timeoutShare is the share of calls that may time out before the upstream counts as overloaded.
	timeoutShare = 0.02
	// staleTimeout is what a timeout of an older call counts.
	staleTimeout = 0.25
	// hole is after how many mean latencies without a call that ended well it counts as an outage.
	hole = 4
	// maxDebt bounds what timeouts count together, and maxVerdict how long one is waited for.
	maxDebt    = 6.0
	maxVerdict = time.Minute
)

// stalled reports whether no call has ended well for so long that it counts as an outage.
func (g *Governor) stalled(t time.Duration) bool {
	return (t - g.s.PassedAt).Seconds() > hole*g.s.Mean
}

// late answers a fresh timeout of a call that saw n in flight. One says little. When they come again, too many are in flight, and
// those that time out make others do so. It is known late: until it could be, no more are tried.
func (g *Governor) late(t time.Duration, n float64, c *Call) {
	s := &g.s
	if c.SentAt >= 0 && t > c.SentAt {
		s.Verdict = min(t-c.SentAt, maxVerdict)
	}
	if !s.Open {
		s.LateDebt = s.TimeoutDebt
	}
	factor := max(g.cfg.Backoff, timeoutBackoff)
	s.TimeoutDebt = min(s.TimeoutDebt+1, maxDebt)
	if s.TimeoutDebt > 1 {
		factor = max(0.5, math.Pow(factor, float64(s.TimeoutDebt)))
	}
	if g.stalled(t) {
		// While nothing passes all of them time out, whatever they saw, and those that began before the others saw the fewest. More in flight than ever went
		// well may be what makes them hang, and no outage.
		n = max(n, min(s.Limit, g.now(), max(s.Top, s.Proven)))
	}
	n = min(n, s.Limit) // of what it saw beyond, the limit was taken back since
	g.cut(t, n, CauseTimeout, factor)
	s.Late = s.Late || s.LateDebt > 1
	g.crowded(t, c)
}

// crowded notes when calls time out by the row while others pass all the time: that is no outage, there are too many.
func (g *Governor) crowded(t time.Duration, c *Call) {
	s := &g.s
	s.Late = s.Late || s.TimeoutDebt >= 2 && c.SentAt >= s.HoleAt && t-s.PassedAt < s.Verdict/4
	if s.Late {
		s.ProbeAt = max(s.ProbeAt, after(t, time.Duration(4*(1+float64(s.TimeoutDebt))*float64(s.Verdict))))
	}
}

// pay takes a refusal from the budget of refusals. One that names a pause costs what could have started in the pause, too: the
// next time that a limit is tried is then far away.
func (g *Governor) pay(t time.Duration, c *Call, o *Outcome) {
	s := &g.s
	s.Paid = !g.byOthers(c) && !g.learns(o)
	if s.Paid {
		s.Credit = max(g.leastCredit(c), s.Credit-1)
	}
	s.RefusedLast = t
	if c.SentAt >= 0 && t > c.SentAt {
		took := (t - c.SentAt).Seconds()
		if s.Refused == 1 {
			s.RefusalTime = float32(took)
		}
		s.RefusalTime += float32((took - float64(s.RefusalTime)) / 8)
		if s.Way == 0 || float32(took) < s.Way {
			s.Way = float32(took)
		}
	}
	if o.HasRetryAfter && o.RetryAfter > 0 && o.Scope != feedback.ScopeConcurrency && t >= s.PausedUntil {
		pause := min(o.RetryAfter, time.Hour)
		s.Resumed = g.resuming()
		s.Varied = s.LastPause > 0 && (pause-s.LastPause).Abs() > time.Second+s.LastPause/10
		s.PausedUntil = after(t, pause)
		g.disturbed(s.PausedUntil)
		s.PausedSum, s.LastPause, s.Held, s.Left, s.Crowd = s.PausedSum+pause, pause, float32(s.InFlight), -1, 0
		s.Pauses = min(s.Pauses+1, maxPauses)
		wait := min(pause*time.Duration(3<<min(s.Pauses, 3)), max(2*time.Minute, 6*pause))
		if cost := g.probeWait(pause); pause.Seconds() > s.Mean || s.Places > 0 && cost > wait {
			wait = cost
		}
		s.ProbeAt = max(s.ProbeAt, after(t, min(wait, time.Hour))) // a state that is restored waits no longer, either
	}
}

// byOthers reports whether no probe of this guard's can have caused the refusal of c: where no pace is kept, it saw less in flight than
// what was refused before, so that others must have filled what is shared. What a guard pays for that it lacks to find its own share again.
func (g *Governor) byOthers(c *Call) bool {
	s := &g.s
	return s.Pace[paceRequests].Rate == 0 && s.LastBound > 0 && s.Credit <= maxCredit && max(float64(c.InFlight), g.now()) <= othersBelow*s.LastBound
}

// earned returns how many refusals the calls of w, which ends at t, earned. Whoever has few in flight beside others that have many would hardly ever
// get more by its own few calls, so in use it may be refused once in 30 s (and twelve latencies), but not more than five times the budget.
// A slow quota that has grown would be found after minutes, so whoever is held back by one may be refused once in a minute, but not more than twice the budget,
// and besides as the budget for what passed in the last minutes allows.
func (g *Governor) earned(t time.Duration, w *Window) float64 {
	s := &g.s
	n := float64(w.OK) * g.cfg.RefusalBudget
	if w.OK > 0 && w.Full {
		mean := min(s.Mean, 3600)
		n = max(n, min(5*n, float64(w.OK)/max(1, s.Limit)*mean/max(30, 12*mean)))
	}
	if p := &s.Pace[paceRequests]; w.OK > 0 && w.Waiting > 0 && p.Measured && p.Use >= useBinding {
		n = max(n, min(slowBudget*n, float64(w.OK)/max(p.Known, leastPace)/slowProbe.Seconds()))
		n += g.earnedPast(t, p)
	}
	return n
}

const (
	// slowRefusal is from which share of a mean latency on refusals take so long that an epoch may be over before they are known.
	slowRefusal = 0.5
	// othersBelow is the share of what was refused before below which others are behind a refusal.
	othersBelow = 0.93
	// slowProbe is how long it should take until a pace can be tried, where fewer calls pass than the budget of refusals asks for, and slowBudget by how
	// much the budget may be exceeded for that.
	slowProbe  = 60 * time.Second
	slowBudget = 2
)

// mayProbe reports whether a refusal can be afforded.
func (g *Governor) mayProbe() bool { return g.s.Credit >= 1 && g.s.At >= g.s.ProbeAt }

// unresolved returns how many calls are on their way of which a refusal would not be known yet.
func (g *Governor) unresolved() float64 {
	s := &g.s
	late := 2 * float64(s.RefusalTime) * s.Flow
	return min(float64(s.InFlight), late+min(1, 4*late))
}

// throttled answers a fresh refusal by a limit, of a call that saw n in flight.
func (g *Governor) throttled(t time.Duration, n float64, c *Call, o *Outcome) {
	s := &g.s
	accepted := g.accepted()
	gained := accepted - s.RefusedCount - g.unresolved() // since the fresh refusal before
	since, outage := t-s.DarkLast, s.DarkOverload
	if gained >= 1 {
		g.reopen(t, unknownStart)
	}
	g.streak(t, false)
	first := s.Streak == 1
	g.noteBurst(t)
	defer func() { s.RefusedCount, s.RefusedAt = g.accepted(), float32(n) }()
	if g.slideRefused(t, c, o, since, gained >= 1, outage) {
		return
	}

	if o.Scope > feedback.ScopeUnknown {
		s.RetestAt = 0 // that says which limit refuses
	}
	switch o.Scope {
	case feedback.ScopeConcurrency:
		if !g.lagged(t, n, c, first) {
			g.capRefused(t, n)
		}
		return
	case feedback.ScopeRequests:
		g.paceRefused(t, paceRequests, first)
		return
	case feedback.ScopeTokens, feedback.ScopeInputTokens, feedback.ScopeOutputTokens:
		if o.Scope == feedback.ScopeTokens && s.Pace[paceTokens].Rate > 0 {
			g.paceRefused(t, paceTokens, first)
			return
		}
		// What a call costs is not known when it starts (what is reserved then is given back later, or more is used), and what it costs on
		// average is: calls are counted.
		if g.toldRefused(t, o.Scope, first) {
			return
		}
		g.paceRefused(t, paceRequests, first)
		s.Binding = o.Scope
		return
	}
	gap, proven := accepted-s.RefusedCount, max(s.Top, s.Proven)
	if g.meaningless(n, gap, o) {
		s.Against = max(0, s.Against-0.5)
		s.Streak = 0
		if s.Paid {
			s.Credit = max(s.Credit, min(s.Credit+1, maxCredit)) // no probe cost it
		}
		return
	}
	if g.lagged(t, n, c, first) {
		return
	}

	p := &s.Pace[paceRequests]
	if s.Pace[paceTokens].Rate > 0 && p.Rate == 0 {
		p = &s.Pace[paceTokens]
	}
	if p.Rate == 0 && g.retest(t, n) {
		return
	}
	if p.Rate > 0 {
		if s.Trial > 0 && first && p.index(s) == paceRequests && g.refuted(n, proven, o) {
			*p = PaceState{}
			s.Against = 0
			s.LastBound, s.Sharp = n, 4
			g.capRefused(t, n)
			return
		}
		switch {
		case !first && p.index(s) == paceRequests && g.filled(n, proven, c):
			g.fill(t, n)
		case first && p.index(s) == paceRequests && g.pacedCap(n, gained, o):
			s.CapLike, s.CapAt = 0, 0
			rate := max(1.05*p.Rate, n/max(s.Mean, 1e-6))
			p.Rate, p.Known, p.Ceiling, p.Sure = rate, rate, 1.25*rate, false
			g.capRefused(t, n)
		case first && !o.HasRetryAfter && p.Measured && p.Rate <= p.Known && n > 1.1*proven+1 && s.Top > 0 && p.index(s) == paceRequests:
			// At a pace that was fine, with more in flight than ever went well.
			g.capRefused(t, n)
		case s.Open && n >= 0.8*s.Bound:
			// And on with that.
			g.capRefused(t, n)
		case first && p.Measured && p.StatedKind == feedback.ScopeNone && p.index(s) == paceRequests && g.contradicted(p, n, proven, o):
			*p = PaceState{}
			s.Against = 0
			g.capRefused(t, n)
		case p.Use > useBinding:
			s.Doubt = max(0, s.Doubt-0.5)
			if n <= s.Top {
				s.Top = max(n, s.Top*0.99)
			}
			g.paceRefused(t, p.index(s), first)
		case first && p.Rate > 1.2*s.Flow && s.Flow > 0 && p.index(s) == paceRequests:
			// The pace does not hold callers back, so starts came in bunches.
			was := p.Rate
			p.Rate = max(1.1*s.Flow, 0.5*p.Rate, leastPace)
			p.Ceiling = max(p.Rate, p.Known)
			if g.costly(t) && !p.Measured {
				p.Known = min(p.Known, 0.7*was) // what did not start in a pause is not for want of callers
				p.Ceiling = max(p.Rate, p.Known)
			}
			s.Episode++
		case s.Bound > 0 && n >= 0.85*s.Bound || n >= 0.9*s.Limit:
			if first && p.Measured && p.StatedKind == feedback.ScopeNone && p.Rate > p.Known && p.index(s) == paceRequests {
				// The limit is in use, but what was tried is the pace.
				p.Rate = max(paceMargin*p.Known, leastPace)
				s.Binding = feedback.ScopeRequests
				g.paced(t)
				return
			}
			g.capRefused(t, n)
		case first:
			if s.Doubt++; s.Doubt > 3 {
				// Refusals well below the pace and below the limit: what was learned of the pace is not so.
				*p = PaceState{}
				s.Doubt, s.Against = 0, 0
				g.capRefused(t, n)
				return
			}
			g.paceRefused(t, p.index(s), first)
		default:
			g.paceRefused(t, p.index(s), first)
		}
		return
	}
	if g.costly(t) && !s.Varied && s.Places > 0 && n >= watchFrom && gained >= 1 && !g.sooner(n, gap) {
		s.Against = max(0, s.Against-0.5)
		g.capRefused(t, n)
		return
	}
	// A cap on calls in flight refuses at its boundary and nowhere else. Next to a delay, a quota is more likely.
	weight := 1.0
	if o.HasRetryAfter && o.RetryAfter > 0 {
		weight = 1.25
	}
	switch {
	case n <= 1 && accepted < 2:
		s.Against++ // others may have filled the cap before it came
	case n <= 1:
		s.Against += 2 // alone, a call is never one too many
	case !first && n <= max(0.1*float64(s.Memory), 0.6*s.Bound):
		s.Against++ // nothing passes even with much less in flight
	case gained < 1:
	case n <= proven && gap >= passedBeyond && g.costly(t) && s.LastPause.Seconds() >= turnLeast:
		s.Against += 2 // many that saw as many in flight were accepted, and whoever refuses knows when there will be room, long from now
	case n <= 0.5*s.Top:
		s.Against += float32(1.6 * weight)
	case n <= 0.8*s.Top:
		s.Against += float32(weight) // as many and more in flight were no trouble since the last cut
	case s.Varied && g.costly(t):
		s.Against += float32(weight) // a limit on calls in flight does not know how long it takes
	case !s.Open && s.LastBound > 0 && math.Abs(n-s.LastBound) <= max(1, near*s.LastBound):
		s.Against = max(0, s.Against-0.5)
		s.Test = min(s.Test+1, 3)
		if s.LastBound <= 4 || s.LastBound < 8 && s.Sharp%4 == 3 {
			s.Test = 1 // of so few, any two numbers are near to each other
		}
		trials := 1
		if g.costly(t) && n > watchFrom {
			trials = 2 // at a limit on calls it costs pauses
		}
		if g.costly(t) && g.firstBeyond(n, gap) {
			break
		}
		if s.Same = min(s.Same+1, mostSame); int(s.Same) >= trials<<(4*min(s.Refuted+s.Wrong, 3)) && s.Chance < noiseTrial && g.mayBeQuota(o) {
			g.try(t, n, first)
			return
		}
	case n <= 0.9*s.Top:
		s.Against += float32(weight / 2)
	case s.Open && s.LastBound > 0 && s.Proven > 1.1*s.LastBound && gap >= passedBeyond:
		s.Against += 1.25 // many that saw more in flight than the one that was refused were accepted since
	case s.Open && n < float64(s.RefusedAt):
		s.Against += 0.75 // something passed, and then it refused with fewer in flight
	case s.Open || s.LastBound == 0:
	case n > 1.1*s.LastBound+1.5 && s.Test < 3:
		s.Against += 1.25 // it moved up when starts came more evenly
	case math.Abs(n-s.LastBound) > 0.12*s.LastBound+2:
		s.Against += float32(weight)
		s.Test = 1
	}
	s.Test = max(1, s.Test)
	need := 2 * math.Exp2(float64(s.Wrong)) // a verdict that was wrong takes more evidence the next time
	if float64(s.Against) >= need {
		g.quotaRefused(t, float64(s.Memory), first)
		g.watch(n, o)
		return
	}
	if s.ProbeAt > t && s.Against > 0 && s.LastPause.Seconds() > s.Mean {
		// The next refusal may tell what it is, and where pauses are longer than calls that is waited for long: the limit is tried the sooner the less is known.
		s.ProbeAt = after(t, time.Duration(float64(s.ProbeAt-t)*max(doubtProbe, 1-float64(s.Against)/need)))
	}
	g.capRefused(t, n)
}

// doubtProbe is the least share of the time for which a limit is not tried after a pause that is waited where it may be none.
const doubtProbe = 0.1

// passedBeyond is how many calls must have been accepted since the refusal before for it to say something that they saw more in flight than what was
// refused: refusals at random mostly come sooner.
const passedBeyond = 60

const (
	// mostContra is how many refusals at a pace that was measured as fine, and contraCalls how many calls that end well for each of
	// them, a pace survives.
	mostContra  = 4
	contraCalls = 100
	// sunk is the share of what a quota gave at most below which it is none, and sunkAlone the same where calls were accepted between any two that were refused:
	// a pace that is a quarter above what a quota gives is refused each fifth time.
	sunk, sunkAlone = 0.4, 0.8
)

// contradicted notes a refusal while p is the pace, and reports whether it explains nothing: refusals come all the same where it was
// measured as fine, or what it gives sinks and sinks. So it is with a cap that others use, too: each follows the others down.
func (g *Governor) contradicted(p *PaceState, n, proven float64, o *Outcome) bool {
	s := &g.s
	least := sunk
	if s.Apart >= soonWaived {
		least = sunkAlone
	} else {
		p.Highest = min(p.Highest, float32(p.Known))
	}
	if p.Sure {
		p.Highest = float32(max(float64(p.Highest), p.Known))
	}
	if o.HasRetryAfter {
		return false
	}
	if p.Rate <= p.Known {
		s.Contra = min(s.Contra+1, mostContra)
	}
	switch {
	case n <= proven && g.spanned(p, n):
		return false
	case s.Contra >= mostContra:
		s.Contra, s.Wrong = 0, min(s.Wrong+1, 3)
	case p.Known > least*float64(p.Highest):
		return false
	}
	return true
}

const (
	// outageRow is how many answers in a row that say that the upstream lacks capacity, with nothing accepted in between, are an
	// outage, and outageShare the part of it, from its end, that may be missed because nobody asked.
	outageRow, outageShare = 3, 16
	// outageReturn is the share of what was good before an outage, of calls in flight and of starts a second, that the return begins with.
	outageReturn = 0.5
)

// boldRow is up to which hold a row of refusals triples its age with each while nothing is known of a quota.
const boldRow = 1700 * time.Millisecond

// longestHold is how long nothing starts at most after a row of refusals.
const longestHold = 30 * time.Second

// streak notes one more fresh refusal, and holds back when there is a row of them with nothing accepted in between.
func (g *Governor) streak(t time.Duration, overloaded bool) {
	s := &g.s
	s.Streak++
	s.DarkGap, s.DarkLast, s.DarkOverload = t-s.DarkLast, t, overloaded
	if s.Streak == 1 {
		s.DarkSince, s.Turn.Dark = t, g.accepted()
		if !s.Open {
			s.Memory = float32(s.Limit)
		}
		return
	}
	s.Charged = s.Charged || s.Streak == 2 && s.Probed && !overloaded
	base := min(max(s.Latency/8, 5*time.Millisecond), 150*time.Millisecond)
	hold := base
	quota := s.Pace[paceRequests].Rate > 0 && !overloaded && !s.Limiting
	for i := 2; i < min(int(s.Streak), 40) && hold < time.Minute; i++ {
		hold += hold / 2
		if quota && i > outageRow {
			hold += hold / 3 // twice as long
		}
	}
	// A quota may charge for being asked, so it is asked less and less often. From an outage the return should be quick.
	share, most := time.Duration(3), longestHold
	switch {
	case overloaded:
		share, most = outageShare, 5*time.Second
	case quota:
		share = 2 // a window may be long, and what it counts can be had in its rest
	}
	hold = min(hold, max(base, (t-s.DarkSince)/share), most)
	if quota {
		if s.InFlight == 0 && !s.Pace[paceRequests].Measured {
			hold = max(hold, min(t-s.DarkSince, most)) // nothing passes alone: what comes back is slow, and nobody knows how slow
		}
		if !s.Pace[paceRequests].Measured {
			// Nor how slow it is: until a row has lasted for some time each try finds a quota of three times less.
			hold = max(hold, min(2*(t-s.DarkSince), boldRow))
		}
		hold = max(hold, g.untilTurn(t)/2)
	}
	s.HoldUntil = max(s.HoldUntil, after(t, hold))
}

// capRefused lowers the limit after a refusal that was taken for one by a limit on calls in flight.
func (g *Governor) capRefused(t time.Duration, n float64) {
	s := &g.s
	if s.Stated > 0 && n*100 < float64(s.Stated)*doubtBelow {
		s.Doubted = true
	}
	g.cut(t, n, CauseThrottled, g.cfg.Backoff)
}

// cut lowers the limit after a refusal of a call that saw n in flight, and opens an episode.
func (g *Governor) cut(t time.Duration, n float64, cause Cause, factor float64) {
	s := &g.s
	base := min(s.Limit, n)
	limit := base * factor
	if cause == CauseThrottled {
		base = min(s.Limit, n-1)
		limit = base * factor
		switch {
		case g.shared():
			base = min(s.Limit, n)
			limit = base * min(factor, sharedCut)
			s.Sharp = 0
		case s.Open: // the same trouble: follow it down
			limit = base
		case s.LastBound > 0 && math.Abs(n-s.LastBound) <= max(1, 0.02*s.LastBound):
			s.Sharp = min(s.Sharp+1, 8)
		default:
			s.Sharp = 0
		}
		if s.Sharp >= 4 && !s.Open {
			// The boundary is known. Room is made for others now and then only.
			limit = base * (1 + factor) / 2
			if s.Yield++; s.Yield%4 != 0 {
				limit = base
			}
		}
	}
	if cause == CauseThrottled {
		limit = max(limit, min(base, g.sound()))
	}
	limit = max(float64(g.cfg.Min), limit)
	met := false // with all places taken that are known
	if limit < s.Limit {
		switch {
		case cause != CauseThrottled:
		case g.counts(t, n):
			met = s.Places > 0 && n > float64(s.Places) && !g.sooner(n, g.accepted()-s.RefusedCount)
			limit = g.settle(min(n, s.Limit+1), g.accepted()-s.RefusedCount)
		default:
			s.Places = 0
		}
		if !s.Open {
			if cause == CauseOverloaded {
				n = max(n, s.Bound) // it says nothing of where the limit is
				if s.Bound == 0 {
					n = max(n, min(s.Limit, s.Proven)) // which is not below what goes well
				}
				if s.Bound == 0 && s.Pace[paceRequests].Rate > 0 {
					n = s.Limit // nor, where a pace holds back, does how many are in flight
				}
			}
			s.Bound, s.LastBound, s.Late = n, n, false
			s.FlowBefore = float32(s.Flow)
			s.Memory = float32(s.Limit)
		}
		s.Limit, s.Cause, s.MovedAt, s.MovedFrom = limit, cause, t, float32(limit)
	}
	g.disturbed(t)
	s.Episode++
	s.Open, s.Recovering = true, true
	s.SlowStart, s.Threshold = false, 0
	if cause == CauseThrottled && s.Credit > startCredit/2 && !met && (s.Pauses == 0 || s.LastPause.Seconds() <= s.Mean) {
		// The first refusals say little: a quota may allow no more at once. Whether it is refused at the same number again is soon
		// seen, and costs no more than a round trip.
		s.SlowStart = true
		s.startDoubling(t)
	}
	s.CutAt, s.Old = t, int32(max(0, s.InFlight))
	s.Good, s.Used, s.Wins, s.Calm = 0, false, 0, 0
	s.Flight, s.Top = s.Limit, 0
	s.ValidAt = t
	s.AskAgain = 0
}

// grow raises the limit for n fresh calls of w that ended well, if it was used.
func (g *Governor) grow(w *Window, n int) {
	s := &g.s
	top := float64(max(w.MaxInFlight, w.InFlight))
	s.Flight = max(s.Flight, min(top, s.Limit))
	if s.Old == 0 || s.Pace[paceRequests].Rate > 0 {
		s.Top = max(s.Top, min(float64(w.MaxInFlight), s.Limit))
	}
	if g.hangs(w) {
		return
	}
	if s.Limit > 2*float64(s.Knee) {
		s.Knee = 0
	}
	most := min(g.ceiling(), max(float64(g.cfg.Initial), max(flightFactor, g.slowGain())*s.Flight))

	// Of those that a call saw in flight some may have been refused, which the upstream did not count.
	calm := s.Refused == 0 || (s.At-s.RefusedLast).Seconds() > s.Mean
	if !s.SlowStart && !s.Late && s.Bound > 0 && calm && (s.Places == 0 || s.Old == 0 && s.Limit >= g.grown()) && float64(w.MaxInFlight) >= g.grown() {
		s.SlowStart, s.Threshold, s.Bound, s.Places, s.Open, s.Sharp = true, 0, 0, 0, false, 0
		s.Pauses = min(s.Pauses, 1)
		s.startDoubling(g.s.At)
	}
	if s.Saturated || g.beginsLate() || s.At < s.StayUntil && !s.SlowStart {
		s.Wins = 0
		return
	}
	if s.SlowStart {
		cause := CauseSlowStart
		if s.Threshold > 0 {
			cause = CauseRecovery
			most = min(most, float64(s.Threshold))
		}
		if s.Threshold == 0 && w.MaxInFlight > 0 && s.clear() {
			// Twice what is known to go well; where that is known late, more.
			most = min(most, (2+min(1, s.Mean))*float64(w.MaxInFlight)+2)
		}
		if w.Full || w.Waiting > 0 && 2*top >= s.Limit {
			excess := g.excess(w)
			g.raise(min(most, max(s.Limit+g.gain(excess)*float64(n), float64(g.cfg.Initial))), cause)
			if w.Begun == 0 && (g.doubled(n) || g.congested(w, excess)) {
				return
			}
		} else {
			s.startDoubling(s.At)
		}
		if s.Threshold > 0 && s.Limit >= min(float64(s.Threshold), g.ceiling()) {
			s.SlowStart, s.Threshold = false, 0
		}
		return
	}
	s.Good += float64(n)
	s.Used = s.Used || w.Full
	epoch := max(1, s.Limit)
	if held := g.lagBack(); s.Bound > 0 && (held || g.shared()) {
		switch {
		case !w.Full && w.Waiting == 0:
		case held:
			g.lagGrow(n, most)
		default:
			g.share(n, most)
		}
		if s.Good >= epoch {
			s.Open, s.Good = false, 0
		}
		return
	}
	if s.Good < epoch {
		return
	}
	s.Open = false
	if s.Used {
		step, cause := 0.0, CauseProbe
		margin := max(1, 0.02*s.Bound)
		if s.Pauses > 0 {
			margin = max(1, 0.03*s.Bound)
		}
		if safe := g.safe(); safe > 0 {
			margin = s.Bound - safe
		}
		switch gap := s.Bound - margin - s.Limit; {
		case g.fewerGet():
			s.Wins = 0
		case (g.cfg.Objective != Throughput || s.Counts != byLatency && !g.steep()) && g.slower(w), g.flat():
			// More would be of no use.
			s.Wins = 0
		case s.Bound == 0:
			// Nothing was refused yet.
			step = max(1, min(max(1, s.Limit/32)*math.Exp2(float64(s.Wins)), s.Limit/4))
			if s.Counts == byLatency {
				step = min(step, max(1, sizeStep*s.Limit))
			}
			s.Wins = min(s.Wins+1, 10)
		case gap > 0:
			// Known to be good.
			step, cause = min(gap, max(1, gap/2)), CauseRecovery
			s.Wins = 0
		case !g.mayProbe():
			// A refusal cannot be afforded now: the limit stays.
		case s.Wins > 0 && float64(s.RefusalTime) > slowRefusal*s.Mean && s.Top < math.Floor(s.Limit+limitSlack):
			// None that saw as many as are allowed has ended yet, and a refusal may be on its way: what was tried last is not known to go well.
		default:
			// Beyond what was refused: each epoch that goes well doubles the step.
			step = max(1, min(max(1, s.Limit/32)*math.Exp2(float64(s.Wins)), s.Limit/4))
			s.Wins = min(s.Wins+1, 10)
			if s.Late {
				s.ProbeAt = max(s.ProbeAt, after(s.At, s.Verdict+s.Verdict/4))
			}
		}
		if g.steep() {
			step = min(step, max(1, s.Limit/16))
		}
		g.raise(min(most, s.Limit+step), cause)
	}
	s.Good, s.Used = min(s.Good-epoch, epoch-1), false
}

// slowed lowers the limit because of how long calls take.
func (g *Governor) slowed(limit float64) {
	s := &g.s
	s.Limit, s.Cause, s.MovedAt, s.MovedFrom, s.Flight = limit, CauseLatency, s.At, float32(limit), limit
}

// raise sets the limit if it is larger than before.
func (g *Governor) raise(limit float64, cause Cause) {
	if s := &g.s; limit > s.Limit {
		if limit > float64(s.MovedFrom)*1.1 {
			s.MovedAt, s.MovedFrom = s.At, float32(limit)
		}
		s.Limit, s.Cause = limit, cause
	}
}

// fresh returns how many of the calls of w are known to have started after the last cut, and ends the recovery
// when there is one. See AIMD.fresh.
func (g *Governor) fresh(w *Window) int {
	s := &g.s
	old := int(s.Old)
	s.Old = int32(max(0, old-w.OK))
	if !s.Recovering {
		return w.OK
	}
	n := 0
	switch {
	case w.OK == 0:
	case w.OK > old:
		n = w.OK - old
	case w.Timed > 0 && w.MinLatency >= 0 && w.Start-w.MinLatency >= s.CutAt:
		n = 1
	}
	if n > 0 {
		g.recovered()
	}
	return n
}

// recovered ends the recovery: a call that started after the cut was accepted.
func (g *Governor) recovered() {
	s := &g.s
	s.Recovering = false
	if s.Open && s.Limit < 0.65*s.Bound && (s.Streak >= outageRow || !g.shared()) {
		s.SlowStart, s.Threshold = true, float32(max(s.Limit, 0.9*s.Bound))
		if s.Late {
			s.Threshold = float32(max(s.Limit, 0.9*s.Bound/(1+float64(s.LateDebt))))
		}
		if s.Knee > 0 {
			s.Threshold = float32(max(s.Limit, min(float64(s.Threshold), 2*float64(s.Knee))))
		}
		if s.Places > 0 {
			s.Threshold = float32(max(s.Limit, min(float64(s.Threshold), g.safe())))
		}
		if s.DarkOverload && s.Streak >= outageRow {
			s.Limit = max(s.Limit, min(outageReturn*float64(s.Threshold), g.ceiling()))
		}
		s.Open = false
		s.startDoubling(s.At)
	}
}

// advance returns the law's own time, which never goes backwards.
func (g *Governor) advance(now time.Duration) time.Duration {
	s := &g.s
	if s.At == math.MinInt64 {
		s.ValidAt, s.Origin, s.FlowAt, s.CutAt, s.ActiveAt = now, now, now, now, now
		s.BlockAt, s.BlockLast = now, now
	}
	s.At = max(s.At, now)
	if s.InFlight == 0 && s.At-s.Origin >= time.Duration(s.Second+2)*time.Second {
		g.note(s.At) // what starts after a time in which nothing was in flight has not started in it
	}
	if s.Stated > 0 && s.At-s.StatedAt > statedAge {
		s.Stated, s.Doubted = 0, false
	}
	return s.At
}

// ceiling returns the largest limit that may be chosen now.
func (g *Governor) ceiling() float64 {
	if s := &g.s; s.Stated > 0 && !s.Doubted {
		return float64(min(g.cfg.Max, max(int(s.Stated), g.cfg.Min)))
	}
	return float64(g.cfg.Max)
}

// accepted returns how many calls have started and were not refused, as far as is known.
func (g *Governor) accepted() float64 {
	s := &g.s
	return float64(s.Done + int64(s.InFlight) - s.Refused)
}

// bind notes which limit of the upstream refused.
func (g *Governor) bind(o *Outcome, stale bool) {
	s := &g.s
	if o.Class != feedback.Throttled && o.Class != feedback.QuotaExhausted {
		return
	}
	scope := o.Scope
	if scope == feedback.ScopeNone || int(scope) >= feedback.NumScopes {
		scope = feedback.ScopeUnknown
	}
	if stale && s.Binding > feedback.ScopeUnknown {
		return
	}
	s.Binding = scope
}

// Hint implements [Law]. A stated limit on calls in flight caps the limit until another number is stated, until nobody has stated it for
// ten minutes, or until a refusal with less than 0.6 of it in flight contradicts it. A window of requests or tokens sets a pace
// when it runs low: so that what remains lasts until it is full again. Fewer than one in five left
// is low; with more there is no need for a pace.
func (g *Governor) Hint(now time.Duration, w feedback.Window) Decision {
	t := g.advance(now)
	switch w.Kind {
	case feedback.ScopeConcurrency:
		g.stated(w.Limit)
	case feedback.ScopeRequests:
		g.window(t, paceRequests, &w)
	case feedback.ScopeTokens:
		g.window(t, paceTokens, &w)
	case feedback.ScopeInputTokens, feedback.ScopeOutputTokens:
		g.told(t, toldKind(w.Kind), &w)
	}
	return g.Decision()
}

// stated takes note of a stated limit on calls in flight.
func (g *Governor) stated(limit int64) {
	s := &g.s
	if limit <= 0 {
		return
	}
	n := int(min(max(limit, int64(g.cfg.Min)), MaxLimit))
	s.StatedAt = s.At
	if n == int(s.Stated) {
		return
	}
	atCap := s.Stated > 0 && !s.Doubted && s.Limit >= float64(s.Stated)
	s.Stated, s.Doubted = int32(n), false
	switch {
	case s.Limit > float64(n):
		s.Limit, s.Cause, s.Binding = float64(n), CauseHint, feedback.ScopeConcurrency
		s.Good, s.Used = 0, false
		s.Episode++ // calls that started above must not cut what is right now
	case atCap && s.Limit < float64(n):
		s.SlowStart, s.Threshold = true, float32(n)
		s.startDoubling(s.At)
	}
}

// age halves a limit that has not been half in use for long; it reports whether it did.
func (g *Governor) age(t time.Duration, w *Window) bool {
	s := &g.s
	if 2*float64(w.InFlight+1) >= s.Limit {
		s.ValidAt = t
	} else if w.Full || 2*float64(w.MaxInFlight) >= s.Limit {
		s.ValidAt = max(s.ValidAt, min(t, max(w.Start, s.AskAgain)))
	}
	period := max(idlePeriod, min(s.Latency, time.Hour)*idleLatencies)
	if t-s.ValidAt < period {
		return false
	}
	was, first := s.Limit, float64(g.cfg.Initial)
	for s.Limit > first && t-s.ValidAt >= period {
		s.Limit = max(first, s.Limit/2)
		s.ValidAt += period
	}
	if s.Limit == was {
		s.ValidAt = t
		return false
	}
	s.Cause = CauseIdle
	if !s.SlowStart || s.Threshold > 0 {
		s.SlowStart, s.Threshold = true, float32(max(float64(s.Threshold), was*3/4, s.Bound*0.9))
		s.startDoubling(s.At)
	}
	s.Open, s.Flight = false, s.Limit
	s.Good, s.Used = 0, false
	return true
}
