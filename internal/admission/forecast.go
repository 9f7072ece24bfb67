package admission

import "time"

// Forecast is a copy of what holds the callers of a Core back, to find out when each of those who wait would start if
// nobody came. It is a guess: calls end when they end.
type Forecast struct {
	gate, resume time.Duration // nothing starts before gate; starts are spread from it to resume
	held         bool          // the gate is the law's own
	freed        time.Duration // nothing starts before it, for want of a place whose call has ended
	starts       pacer
	tokens       pacer
	budget       Budget
	// Latency is the mean latency, 0 when it is not known; Limit how many may be in flight, Free how many more.
	Latency     time.Duration
	Limit, Free int
}

// Forecast returns the forecast at now. It allocates: it is for people. It needs the lock.
func (c *Core) Forecast(now time.Duration) Forecast {
	f := Forecast{Limit: c.slots.Limit()}
	f.Free = max(0, f.Limit-c.slots.InFlight())
	unit := c.pace.perUnit.Load()
	f.starts = pacer{perUnit: float64(unit), slack: time.Duration(max(c.pace.slack.Load(), unit)), tat: time.Duration(c.pace.tat.Load())}
	if s := c.state; s != nil {
		f.gate, f.held, f.tokens, f.Latency = s.gate, s.held, s.tokens, s.latency
		if s.freed != nil {
			f.freed = c.freedAt(now)
			f.Free = max(0, f.Free-s.freed.held)
		}
		if now < s.resumeEnd {
			f.resume = min(s.resumeNext, s.resumeEnd)
		}
		f.budget = s.budget
		f.budget.windows = append([]budgetWindow(nil), s.budget.windows...)
	}
	return f
}

// At returns when w could start at the earliest, not before now and whatever places are free, and what it waits for until
// then.
func (f *Forecast) At(now time.Duration, w *Waiter) (at time.Duration, why Why, budget int) {
	at = now
	if f.gate > at {
		at, why = f.gate, whyShut(f.held)
	}
	if f.resume > at {
		at, why = f.resume, WhyResume
	}
	if t := f.starts.at(now, 1); t > at {
		at, why = t, WhyPace
	}
	if w.Call.Tokens > 0 {
		if t := f.tokens.at(now, float64(w.Call.Tokens)); t > at {
			at, why = t, WhyTokenPace
		}
	}
	if f.budget.Limited() {
		if t, i := f.budget.At(at, w.expected); t > at {
			at, why, budget = t, WhyBudget, i
		}
	}
	if f.freed > at {
		at, why = f.freed, WhyFreed
	}
	return at, why, budget
}

// Start starts w at the given instant.
func (f *Forecast) Start(at time.Duration, w *Waiter) {
	f.starts.spend(at, 1)
	f.tokens.spend(at, float64(w.Call.Tokens))
	f.budget.Reserve(at, w.expected)
}

// PlaceAt returns when a place is free for who comes n-th (0 is the first) of those who wait, when nothing but places holds them back from the
// instant from on: places turn over once a mean latency.
func (f *Forecast) PlaceAt(from time.Duration, n int) time.Duration {
	return from + time.Duration(max(0, n+1-f.Free))*f.Latency/time.Duration(max(1, f.Limit))
}

// Opens returns when the gate is open; now when it is.
func (f *Forecast) Opens(now time.Duration) time.Duration { return max(now, f.gate) }
