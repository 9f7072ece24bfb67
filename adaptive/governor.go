package adaptive

import (
	"math"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Governor is flyball's own law. It finds a limit that nobody told, and stays there, with two actuators: a limit on calls
// in flight, which cures "too many at once" and queueing, and a pace of starts (of requests and of tokens), which cures
// "too fast". docs/control-law.md has each rule with its symbols and constants, docs/experiments.md the runs that chose them.
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
	until, full := g.until(), false
	if until == 0 {
		until = g.silentUntil()
		full = until > 0
	}
	limit, cause, ask := min(max(int(s.Limit+limitSlack), g.cfg.Min)+int(s.Hung), int(g.ceiling())), s.Cause, s.AskAgain
	if g.pairing() {
		limit, pace, cause = min(s.InFlight+2, int(g.ceiling())), 0, CauseProbe
		until, full = after(s.At, time.Millisecond), true // whether they have started is asked then
		ask = min(ask, until)                             // and where something else holds them back at the next end, before a third one starts
	}
	return Decision{
		Limit:     limit,
		Pace:      pace,
		TokenPace: min(s.Pace[paceTokens].inForce(s.At), 1000*fastest),
		NotBefore: s.HoldUntil,
		FreeAfter: s.Lag.freeAfter(),
		Binding:   s.Binding,
		Cause:     cause,
		Quota:     g.quota(),
		Episode:   s.Episode,
		AskAgain:  ask,
		Until:     until,
		UntilFull: full,
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

	s.Hung = uint16(min(int(s.Hung), w.InFlight))
	if w.OK > 0 {
		g.answered(t, began(t, &w), w.InFlight, w.OK)
	} else if g.silence(t, &w) {
		return g.Decision()
	}
	inFlight := w.InFlight
	w.InFlight, w.MaxInFlight = s.beside(inFlight), min(w.MaxInFlight, max(1, s.beside(w.MaxInFlight)))
	s.Done += int64(w.OK)
	if w.OK > 0 {
		s.Peak = float32(max(float64(s.Peak)*math.Exp(-float64(w.OK)/peakCalls), min(float64(w.MaxInFlight), s.Limit)))
	}
	g.passedCap(&w)
	g.passedTrial(&w)
	g.prove(&w)
	s.TokensDone += max(0, min(w.Tokens, 1<<40))
	g.costs(&w)
	s.InFlight = inFlight
	g.count(t, -1, inFlight+w.OK)
	w.InFlight += level(w.Held)
	if w.OK > 0 {
		g.lagEnded(w.Start, t, w.OK)
	}
	s.MeanLevel += float32((float64(w.InFlight) - float64(s.MeanLevel)) / 16)
	if w.OK > 0 {
		if !g.thawed(t, w.Latency, w.Timed) && g.stalled(t) {
			s.Frozen, s.HoleAt = false, t
		}
		s.PassedAt = t
	}
	s.Credit = max(s.Credit, min(maxCredit, s.Credit+g.earned(t, &w)))
	g.learnFew(t, w.OK, w.InFlight)
	s.TimeoutDebt = float32(max(0, float64(s.TimeoutDebt)-float64(w.OK)*s.paidOff()))
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
	g.pair(t, &w, inFlight)
	return g.Decision()
}

// ask sets when the next window is wanted.
func (g *Governor) ask(now time.Duration) {
	s := &g.s
	if s.Recovering || s.Hung > 0 || g.watchesEnds() || s.SlowStart && s.Busy && s.Limit < g.ceiling() {
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
	if o.Class == feedback.Timeout && o.Deadline && g.impatient(t, &c) {
		o.Class = feedback.Canceled
	}
	s.Done++
	s.InFlight = max(0, s.InFlight-1)
	if s.Floor.Stage == floorSuspect {
		s.Floor.Run &^= pairAsked // it was asked for in the window before this end, and has not started
	}
	g.took = 0
	refused := o.Class == feedback.Throttled || o.Class == feedback.Overloaded || o.Class == feedback.QuotaExhausted
	tried, aside := false, false
	if s.Hung > 0 {
		tried, aside = s.triedBeside(c.SentAt), g.asideEnded(&c, refused)
		c.InFlight = max(1, s.beside(c.InFlight))
	}
	stale := int32(c.Episode-s.Episode) < 0
	if stale && s.Old > 0 {
		s.Old--
	}
	if refused {
		s.Refused++
		if c.SentAt >= 0 {
			g.thawed(t, t-c.SentAt, 1)
		}
		if apart := g.endRun(t, &c); o.Class != feedback.QuotaExhausted {
			g.learnFloor(t, &c, &o, apart)
		}
		g.pay(t, &c, &o)
	} else {
		g.lagEnded(t, t, 1)
		if c.SentAt >= 0 && o.Class != feedback.Timeout {
			// Its connection broke while nothing ran, or its caller has left. That tells no more than that it was in flight, however many end so.
			if gap := g.stoodStill(t, t-c.SentAt, 1); gap > 0 {
				g.unused(t, gap)
			}
		}
		if c.SentAt >= 0 && t > c.SentAt {
			s.BlockLost = min(s.BlockLost+float32((t-c.SentAt).Seconds()), blockMost)
		}
	}
	g.bind(&o, stale)
	if o.Class == feedback.Timeout && !aside && s.Few.Now < math.MaxUint8 {
		s.Few.Now++
	}
	if stale {
		if o.Class == feedback.Timeout && s.Bound > 0 && !aside && (s.lateAnyway() == 0 || float64(s.TimeoutDebt) > s.spared()) {
			s.TimeoutDebt = min(s.TimeoutDebt+staleTimeout, maxDebt+float32(s.spared()))
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
			if o.Class == feedback.Throttled && o.Scope <= feedback.ScopeUnknown && g.emptied(t) {
				g.quotaRefused(t, float64(s.Memory), true)
			}
		}
		return g.Decision()
	}
	if tried && refused && o.Scope <= feedback.ScopeConcurrency && !o.HasRetryAfter {
		// It was beyond the limit, of which it says nothing.
		g.count(t, c.SentAt, s.InFlight)
		return g.Decision()
	}
	if o.Scope == feedback.ScopeDaily {
		return g.Decision()
	}
	n := float64(max(1, level(c.InFlight)))
	if refused {
		n = g.met(n)
	}
	if g.onFloor(&o) {
		return g.Decision()
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
