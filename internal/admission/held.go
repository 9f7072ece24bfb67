package admission

import "time"

// held is for how long what has held callers back. Nobody passes whoever is next, so what holds that one back holds back all who wait; a wait was for
// what the times have grown by meanwhile, and for places for the rest. The zero held is a beginning.
type held struct {
	times  heldTimes
	since  time.Duration // for how long why is not in times yet
	why    Why
	budget int32 // the last that held somebody back
}

// heldTimes is how long each Why held callers back. Those of WhyNone and WhyLimit mean nothing.
type heldTimes [NumWhys]time.Duration

// by says what holds back whoever is next, and which budget if it is one, until it says something else.
func (h *held) by(now time.Duration, why Why, budget int) {
	h.at(now)
	if h.why = why; why == WhyBudget {
		h.budget = int32(budget)
	}
}

// at returns the times at now.
func (h *held) at(now time.Duration) *heldTimes {
	h.times[h.why] += now - h.since
	h.since = now
	return &h.times
}

// longest has w, which waits, say what held it back longest until now, or what holds it back when it has only come.
func (h *held) longest(now time.Duration, w *Waiter) {
	if now <= w.Since {
		h.now(w)
		return
	}
	times := h.at(now)
	places, most, longest := now-w.Since, time.Duration(0), WhyLimit
	for y := WhyLimit + 1; int(y) < NumWhys; y++ {
		t := times[y] - w.from[y]
		places -= t
		if t > most {
			most, longest = t, y
		}
	}
	if w.Why = longest; places >= most {
		w.Why = WhyLimit
	}
	if w.Why == WhyBudget {
		w.Budget = int(h.budget)
	}
}

// now has w say what holds callers back.
func (h *held) now(w *Waiter) { w.Why, w.Budget = max(h.why, WhyLimit), int(h.budget) }

// heldBy says what holds back whoever is next in the queue.
func (c *Core) heldBy(now time.Duration, why Why, budget int) {
	if n := &c.state.counts; n.more != nil || why != WhyLimit {
		n.by().held.by(now, why, budget)
	}
}

// holds has w, which begins to wait in the queue, know what it finds.
func (c *Core) holds(now time.Duration, w *Waiter) {
	if m := c.state.counts.more; m != nil {
		w.from = *m.held.at(now)
	} else {
		w.from = heldTimes{}
	}
}

// WaitsFor has the Why of w, and its Budget, say what it has waited for longest if it is queued. It needs the lock.
func (c *Core) WaitsFor(now time.Duration, w *Waiter) {
	if w.State != Queued {
		return
	}
	w.Why = WhyLimit
	if m := c.state.counts.more; m != nil && !w.inLine {
		m.held.longest(now, w)
	}
}

// behind has the Why of w, which does not wait, and its Budget, say what holds back those who do.
func (c *Core) behind(w *Waiter) {
	w.Why = WhyLimit
	if m := c.state.counts.more; m != nil && c.state.queue.len() > 0 {
		m.held.now(w)
	}
}
