package adaptive

import (
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Refusals are paid for from a budget, which calls that end well fill.

// pay takes a refusal from the budget of refusals. One that names a pause costs what could have started in the pause, too: the
// next time that a limit is tried is then far away.
func (g *Governor) pay(t time.Duration, c *Call, o *Outcome) {
	s := &g.s
	s.Paid = !g.byOthers(c) && !g.learns(o)
	if s.Paid {
		s.Credit = max(g.leastCredit(c), s.Credit-1)
	}
	s.RefusedLast = t
	if c.SentAt >= 0 && t > c.SentAt && !s.frozen(t, t-c.SentAt) {
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
