package limiter

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// Waited is a wait that is over, and what it was for.
type Waited struct {
	// Guard is the name of the guard, or of the pool.
	Guard string
	// For is how long the caller waited, and Behind how many waited when it came.
	For    time.Duration
	Behind int
	// Why is what held it back longest, in the words of Wait.Why: "limit", "pause", "tokens per 1m0s". What holds back whoever goes next holds back all
	// behind.
	Why string
}

// String tells the wait in words.
func (w Waited) String() string {
	return fmt.Sprintf("waited %v for %s at %s, behind %d", w.For.Round(time.Millisecond), w.Why, w.Guard, w.Behind)
}

// onWait is the key of what a context has from WithOnWait.
type onWait struct{}

// WithOnWait returns a context that has f told of each wait of those who acquire with it, once it is over: when the call may start, when it was refused, and
// when the caller gave up. f is called before Acquire returns, by its goroutine and without a lock, and takes the place of one that ctx has. It is not called
// for who did not wait. It must be quick, as the call has its place meanwhile. WithOnWait panics when f is nil.
func WithOnWait(ctx context.Context, f func(Waited)) context.Context {
	if f == nil {
		panic("limiter: WithOnWait with a nil function")
	}
	hooked.Store(true)
	return context.WithValue(ctx, onWait{}, f)
}

// waitHook is what WithOnWait gave a context; nil is nothing.
type waitHook func(Waited)

// hooked says that some context has one, so that programs without do not search theirs.
var hooked atomic.Bool

func hookOf(ctx context.Context) waitHook {
	if !hooked.Load() {
		return nil
	}
	f, _ := ctx.Value(onWait{}).(func(Waited))
	return f
}

// tell tells of a wait if there was one.
func (f waitHook) tell(w Waited) {
	if f != nil && w.For > 0 {
		f(w)
	}
}

// grants tells of a wait that ended well. Should that panic, it undoes what was granted.
func (f waitHook) grants(w Waited, undo func()) {
	told := false
	defer func() {
		if !told {
			undo()
		}
	}()
	f.tell(w)
	told = true
}

// waited returns the wait of w, which was answered or is to be taken out, at now. It needs the lock.
func (g *Guard) waited(now time.Duration, w *admission.Waiter) Waited {
	return Waited{g.name, now - w.Since, int(w.Behind), g.whyText(w.Why, w.Budget)}
}

// whyText says what a caller waited for. It needs the lock.
func (g *Guard) whyText(why Why, budget int) string {
	switch why {
	case admission.WhyNone:
		return ""
	case WhyBudget:
		if budgets := g.core.Budgets(g.now()); budget < len(budgets) {
			return budgetText(&budgets[budget])
		}
	}
	return why.String()
}

// budgetText names a budget by what it counts.
func budgetText(s *admission.BudgetState) string { return fmt.Sprintf("%s per %v", s.Kind, s.Period) }

// tellGrant is grants for w, which was granted p.
func (g *Guard) tellGrant(f waitHook, w *waiter, p *Permit) {
	g.lock()
	t := g.waited(w.Call.SentAt, &w.Waiter)
	g.mu.Unlock()
	f.grants(t, p.Abandon)
}

// whyText says what a caller waited for. Its guards have the same budgets. It is called without the lock.
func (p *Pool) whyText(why Why, budget int) string {
	g := p.lanes[0].guard
	g.lock()
	defer g.mu.Unlock()
	return g.whyText(why, budget)
}
