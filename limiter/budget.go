package limiter

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

// BudgetLimit is one limit: so much per period. See its fields.
type BudgetLimit = admission.BudgetLimit

// Oversize is what becomes of a call that costs more than a whole budget holds.
type Oversize = admission.Oversize

// What becomes of a call that costs more than a whole budget holds.
const (
	// Borrow lets it start when the budget is full; those after it repay what it took beyond.
	Borrow = admission.Borrow
	// Refuse refuses it with ReasonTooLarge and the numbers. A call of unknown cost is never too large.
	Refuse = admission.Refuse
)

// Budget is limits of requests and tokens per time, spent all or nothing: a call reserves what it is expected
// to cost before it starts, and settles with what it used when it ends. It must not be changed after it was
// given to a guard.
type Budget struct {
	// Limits are the limits (1 to 8).
	Limits []BudgetLimit
	// Oversize is what becomes of a call that costs more than a whole limit holds.
	Oversize Oversize
	// Overrun is the probability (0.001 to 0.5) with which a call whose cost is unknown may use more than
	// was estimated for it. Zero means 0.1. Smaller reserves more than is used; larger has
	// more to charge afterwards.
	Overrun float64
	// Unseen is what a call of a class that was never seen is estimated to cost, in tokens, for input
	// and for output (1 to 2^40). Zero means 1000.
	Unseen int64
}

func (b *Budget) config() admission.BudgetConfig {
	if b == nil {
		return admission.BudgetConfig{}
	}
	return admission.BudgetConfig{Limits: b.Limits, Oversize: b.Oversize}
}

func (b *Budget) estimate() admission.EstimateConfig {
	if b == nil {
		return admission.EstimateConfig{}
	}
	return admission.EstimateConfig{Overrun: b.Overrun, Input: b.Unseen, Output: b.Unseen}
}

func (b *Budget) check(bad func(field string, value any, allowed string)) {
	if b == nil {
		return
	}
	if len(b.Limits) < 1 || len(b.Limits) > 8 {
		bad("Budget.Limits", len(b.Limits), "1 to 8 limits")
	}
	for i, l := range b.Limits {
		name := func(field string) string { return fmt.Sprintf("Budget.Limits[%d].%s", i, field) }
		switch l.Kind {
		case feedback.ScopeRequests, feedback.ScopeTokens, feedback.ScopeInputTokens, feedback.ScopeOutputTokens, feedback.ScopeDaily:
		default:
			bad(name("Kind"), l.Kind, "requests, tokens, input_tokens, output_tokens or daily")
		}
		if l.Limit < 0 || l.Limit > 1<<50 {
			bad(name("Limit"), l.Limit, "0 (as the upstream tells) or 1 to 2^50")
		}
		if l.Period != 0 && (l.Period < time.Millisecond || l.Period > 366*24*time.Hour) {
			bad(name("Period"), l.Period, "0 (a minute) or 1ms to 366 days")
		}
		if l.Burst < 0 || l.Limit > 0 && l.Burst > l.Limit {
			bad(name("Burst"), l.Burst, "0 (as Limit) or 1 to Limit")
		}
		if !(l.CachedFactor >= 0 && l.CachedFactor <= 1) {
			bad(name("CachedFactor"), l.CachedFactor, "a ratio of 0 to 1")
		}
	}
	if int(b.Oversize) >= admission.NumOversizes {
		bad("Budget.Oversize", uint8(b.Oversize), "Borrow or Refuse")
	}
	if b.Overrun != 0 && !(b.Overrun >= 0.001 && b.Overrun <= 0.5) {
		bad("Budget.Overrun", b.Overrun, "0 (default) or 0.001 to 0.5")
	}
	if b.Unseen < 0 || b.Unseen > 1<<40 {
		bad("Budget.Unseen", b.Unseen, "0 (default) or 1 to 2^40 tokens")
	}
}

// ShareBudget has the guard keep to a share of its budget, because other processes spend the rest: shares[i] is the part (0 to 1) of
// Config.Budget.Limits[i] that is this guard's from now on. It is for packages that agree with others on shares, such as
// contrib/redisbudget, and may be called often. A smaller share counts at once; with a larger one more may be spent as it refills, and of
// a fixed window with the next. A share of 0 holds everything back. Limits that only the upstream tells are not shared. Reload keeps the shares of limits
// that stay, by kind, period and algorithm; others begin whole.
func (g *Guard) ShareBudget(shares []float64) {
	g.mu.Lock()
	now := g.now()
	g.core.ShareBudget(now, shares)
	g.serve(now, nil)
	g.unlock()
	g.mayHaveRoom()
}
