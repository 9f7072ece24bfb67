package admission

import (
	"slices"
	"time"
)

// Budgets returns the budgets as they stand at now. It needs the lock.
func (c *Core) Budgets(now time.Duration) (list []BudgetState) {
	if c.state == nil {
		return nil
	}
	for i := range c.cfg.Budgets.Limits {
		list = append(list, c.state.budget.State(now, i))
	}
	return list
}

// Waits tells of those who wait, in the order in which they would start at now if nobody came and all cost the
// same, at most most of them: how many of its own tenant and priority go before each, and when it may
// start, 0 when nothing is known of that. It takes time for all who wait, and allocates: it is for people. It needs
// the lock.
func (c *Core) Waits(now time.Duration, most int, tell func(w *Waiter, ahead int, expected time.Duration)) {
	s := c.state
	if s == nil || most <= 0 {
		return
	}
	type place struct {
		w               *Waiter
		position, ahead int
	}
	var all []place
	for w := s.line.head; len(all) < s.line.n; w = w.behind {
		all = append(all, place{w, len(all), len(all)})
	}
	for _, class := range s.queue.classes {
		if class == nil {
			continue
		}
		for it := class.oldest; it != nil; it = it.younger {
			all = append(all, place{it.waiter, s.queue.position(it), s.queue.ahead(it)})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return a.position - b.position })
	for _, p := range all[:min(most, len(all))] {
		at, why := c.earliest(now, p.w)
		if why != WhyNone {
			p.w.Why = why
		} else if p.w.Why != WhyReserved {
			p.w.Why = WhyLimit
		}
		expected := time.Duration(0)
		switch limit := c.slots.Limit(); {
		case s.latency > 0:
			// Places turn over once a mean latency.
			before := p.position + 1 - max(0, limit-c.slots.InFlight())
			expected = at + time.Duration(max(0, before))*s.latency/time.Duration(max(1, limit))
		case at > now:
			expected = at
		}
		tell(p.w, p.ahead, expected)
	}
}
