package limiter

import (
	"fmt"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// Why is what a caller waits for; it indexes Counts.WaitedFor and Counts.Observed.
type Why = admission.Why

// What a caller waits for.
const (
	// WhyLimit: as many calls as may be are in flight, or others are ahead.
	WhyLimit = admission.WhyLimit
	// WhyPause: the upstream asked for a pause, or somebody called Pause.
	WhyPause = admission.WhyPause
	// WhyHold: the law holds starts back, though nobody asked for a pause.
	WhyHold = admission.WhyHold
	// WhyResume: starts are spread after a pause.
	WhyResume = admission.WhyResume
	// WhyPace: as many calls as may start did.
	WhyPace = admission.WhyPace
	// WhyTokenPace: as many tokens as may be spent were.
	WhyTokenPace = admission.WhyTokenPace
	// WhyBudget: a budget is used up.
	WhyBudget = admission.WhyBudget
	// WhyReserved: the places that are free are reserved for more urgent callers.
	WhyReserved = admission.WhyReserved
	// WhyFreed: calls have ended, and the upstream may go on counting them for a while (Explanation.FreeAfter).
	WhyFreed = admission.WhyFreed

	// NumWhys is the number of reasons to wait; a Why is always smaller.
	NumWhys = admission.NumWhys
)

// Explanation is why a guard does what it does, at one instant. String gives it in words.
type Explanation struct {
	// Guard is the guard's name, and At when it was asked.
	Guard string
	At    time.Time
	// Limit, InFlight and Waiting are how many calls may be in flight, how many are, and how many callers wait.
	Limit, InFlight, Waiting int
	// Cause is why the decision in force last changed, and Binding the limit of the upstream that is taken for the one that binds.
	Cause, Binding string
	// Quota is the quota of the upstream that counts calls or tokens in windows, as the law has learned it from refusals: "300 in any 60 s" or
	// "400000 tokens in any 60 s"; empty when none is known.
	Quota string
	// PausedUntil is when starts begin again; zero when nothing stops them. Held says that it is the law that holds them back, and
	// else the upstream, or somebody by calling Guard.Pause, asked for it.
	PausedUntil time.Time
	Held        bool
	// FreeAfter is for how long a place is held after its call has ended, because the upstream goes on counting the call, and Freed how many
	// places are held so.
	FreeAfter time.Duration
	Freed     int
	// Budgets are the budgets as they stand.
	Budgets []BudgetState
	// Waits are those who wait, in the order in which they would start now, at most as many as were asked for.
	Waits []Wait
}

// BudgetState is how much of one budget is left.
type BudgetState struct {
	// Kind is what is counted, Limit how much a Period holds (0: the upstream has not told, or others have all of it).
	Kind   string
	Limit  int64
	Period time.Duration
	// Left is what may be spent at once; negative is a debt that later calls repay.
	Left int64
	// FullAt is when it is full again if nothing is spent; zero when it will not be, because others have all of it.
	FullAt time.Time
	// Share is the part of what was configured that is this guard's (0 to 1), of which Limit and Left are: 1 unless ShareBudget said less.
	Share float64
}

// Wait is one caller that waits.
type Wait struct {
	// Tenant and Priority are the caller's.
	Tenant   string
	Priority uint8
	// Waited is how long it has waited, and Ahead how many of its tenant and priority go before it.
	Waited time.Duration
	Ahead  int
	// Why is what it waits for, in words: "limit", "pause", "tokens per 1m0s".
	Why string
	// Expected is when it would start if nobody else came, as far as the guard can tell: what those ahead will take of paces
	// and budgets is counted, and places turn over once a mean latency. Zero when it cannot tell.
	Expected time.Time
}

// String tells the wait in words.
func (w Wait) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "waiting %v: %s binds", w.Waited.Round(100*time.Millisecond), w.Why)
	if w.Tenant != "" {
		fmt.Fprintf(&b, ", %d ahead in tenant %s", w.Ahead, w.Tenant)
	} else {
		fmt.Fprintf(&b, ", %d ahead", w.Ahead)
	}
	if !w.Expected.IsZero() {
		fmt.Fprintf(&b, ", expected %s", w.Expected.UTC().Format("15:04:05Z"))
	}
	return b.String()
}

// String tells the explanation in words, a line a fact.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: limit %d (%s), %d in flight, %d waiting", e.Guard, e.Limit, e.Cause, e.InFlight, e.Waiting)
	if e.Binding != "none" {
		fmt.Fprintf(&b, "; the upstream's limit that binds: %s", e.Binding)
	}
	if e.Quota != "" {
		fmt.Fprintf(&b, "\nthe upstream counts in windows, as its refusals tell: %s", e.Quota)
	}
	if !e.PausedUntil.IsZero() {
		what := "paused"
		if e.Held {
			what = "held back by the law"
		}
		fmt.Fprintf(&b, "\n%s until %s", what, e.PausedUntil.UTC().Format("15:04:05Z"))
	}
	if e.FreeAfter > 0 {
		fmt.Fprintf(&b, "\nplaces are held for %v after a call, as the upstream goes on counting it: %d now", e.FreeAfter, e.Freed)
	}
	for _, s := range e.Budgets {
		switch {
		case s.Limit == 0 && s.Share < 1:
			fmt.Fprintf(&b, "\n%s per %v: others have all of it", s.Kind, s.Period)
			continue
		case s.Limit == 0:
			fmt.Fprintf(&b, "\n%s per %v: the upstream has not told yet", s.Kind, s.Period)
			continue
		}
		fmt.Fprintf(&b, "\n%s per %v: %d of %d left", s.Kind, s.Period, s.Left, s.Limit)
	}
	for _, w := range e.Waits {
		fmt.Fprintf(&b, "\n%s", w)
	}
	return b.String()
}

// Explain says why the guard does what it does, with the first most of those who wait.
func (g *Guard) Explain(most int) Explanation {
	g.ties.Load().endForgotten()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	at := func(t time.Duration) (at time.Time) {
		if t != never {
			at = wallAt(now, t)
		}
		return at
	}
	d := g.core.Decision()
	e := Explanation{
		Guard: g.name, At: at(now),
		Limit: g.core.Limit(), InFlight: g.core.InFlight(), Waiting: g.core.Waiting(),
		Cause: d.Cause.String(), Binding: d.Binding.String(), Quota: d.Quota.String(),
	}
	if gate := g.core.Gate(); gate > now {
		e.PausedUntil, e.Held = at(gate), g.core.Held()
	}
	e.FreeAfter, e.Freed = g.core.Freed(now)
	budgets := g.core.Budgets(now)
	for _, s := range budgets {
		e.Budgets = append(e.Budgets, BudgetState{
			Kind: s.Kind.String(), Limit: s.Limit, Period: s.Period, Left: s.Left, FullAt: at(s.FullAt), Share: s.Share,
		})
	}
	g.core.Waits(now, most, func(w *admission.Waiter, ahead int, expected time.Duration) {
		wait := Wait{
			Tenant: w.Tenant, Priority: w.Priority, Waited: max(0, now-w.Since), Ahead: ahead, Why: w.Why.String(),
		}
		if w.Why == admission.WhyBudget && w.Budget < len(budgets) {
			wait.Why = budgetText(&budgets[w.Budget])
		}
		if expected > 0 {
			wait.Expected = at(expected)
		}
		e.Waits = append(e.Waits, wait)
	})
	return e
}
