package admission

import (
	"slices"
	"time"
)

// Prospects is what a Core knows of how soon calls end: the smallest and the mean latency, 0 when unknown, and the highest limit so far.
type Prospects struct {
	Quickest, Latency time.Duration
	Highest           int
	joined            bool // Join made it
}

// Join returns what is known of two Cores together, for a caller whom either may let in: p, with o added. The zero Prospects is
// where to begin.
func (p Prospects) Join(o Prospects) Prospects {
	switch {
	case !p.joined:
		o.joined = true
		return o
	case p.Quickest == 0 || o.Quickest == 0:
		p.Quickest = 0 // of one nothing is known
	default:
		p.Quickest = min(p.Quickest, o.Quickest)
	}
	p.Latency = max(p.Latency, o.Latency)
	p.Highest += o.Highest
	return p
}

// Prospects returns what is known. It needs the lock.
func (c *Core) Prospects() Prospects {
	if s := c.state; s != nil {
		return Prospects{Quickest: seconds(s.quickest), Latency: s.latency, Highest: int(s.highest)}
	}
	return Prospects{Highest: c.slots.Limit()}
}

// Earliest returns when w, which a Room let in, could start at the earliest, whatever places are free. It needs the lock.
func (c *Core) Earliest(now time.Duration, w *Waiter) time.Duration {
	if c.state == nil {
		return max(now, c.pace.at(now))
	}
	at, _ := c.earliest(now, w)
	return at
}

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
// start, 0 when nothing is known of that. What those before it will take of paces and budgets is counted. It takes time for all who wait, and
// allocates: it is for people. It needs the lock.
func (c *Core) Waits(now time.Duration, most int, tell func(w *Waiter, ahead int, expected time.Duration)) {
	s := c.state
	if s == nil || most <= 0 {
		return
	}
	f := c.Forecast(now)
	turn := now // nobody starts before those ahead
	var all []standing
	for w := s.line.head; len(all) < s.line.n; w = w.behind {
		all = append(all, standing{w, len(all), len(all)})
	}
	for i, p := range first(append(all, s.queue.standings()...), most) {
		w := p.w
		at, why := c.earliest(now, w)
		switch {
		case why != WhyNone:
			w.Why = why
		case w.Priority < c.lowest() && c.slots.InFlight() < c.slots.Limit():
			w.Why = WhyReserved
		default:
			w.Why = WhyLimit
		}
		expected := time.Duration(0)
		turn, _, _ = f.At(turn, w)
		f.Start(turn, w)
		switch place := f.PlaceAt(f.Opens(now), i); {
		case s.latency > 0:
			expected = max(turn, place)
		case at > now || turn > now:
			expected = turn
		}
		tell(w, p.ahead, expected)
	}
}

// standing is who waits, how many start before, and how many of those are of the same tenant and priority.
type standing struct {
	w               *Waiter
	position, ahead int
}

// first returns the first most of those who wait, in the order in which they would start if nobody came and all cost the same.
func first(all []standing, most int) []standing {
	slices.SortStableFunc(all, func(a, b standing) int { return a.position - b.position })
	return all[:min(most, len(all))]
}

// standings returns all who wait in q.
func (q *queue) standings() (all []standing) {
	for _, class := range q.classes {
		if class == nil {
			continue
		}
		for it := class.oldest; it != nil; it = it.younger {
			all = append(all, standing{it.waiter, q.position(it), q.ahead(it)})
		}
	}
	return all
}
