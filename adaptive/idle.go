package adaptive

import "time"

// What a limit that nobody uses says of the upstream becomes old.
const (
	// idlePeriod is how long the limit may be less than half in use before it is halved, and
	// idleLatencies the least of it in mean latencies. RFC 7661 section 5 allows five minutes; the
	// windows of quotas are a minute long. Slow start returns to three quarters of what it
	// was (RFC 7661 section 4.4.3), which makes a mistake cheap.
	idlePeriod    = time.Minute
	idleLatencies = 5
)

// halveUnused halves limit, but not below first, for each period in which it has not been half in use, and returns it with the last instant at which it was as
// far as is known, which was valid before w, the window that ends at t. askAgain is when a window was asked for, and latency the mean of calls.
func halveUnused[N int | float64](limit, first N, valid, askAgain, latency, t time.Duration, w *Window) (N, time.Duration) {
	if N(2*(w.InFlight+1)) >= limit {
		// With the call whose end closed the window: half in use now, and since the last event.
		valid = t
	} else if w.Full || N(2*w.MaxInFlight) >= limit {
		// In use in this window, but at its beginning or before the window was asked for: the
		// end of a call after that has closed the window.
		valid = max(valid, min(t, max(w.Start, askAgain)))
	}
	period := max(idlePeriod, min(latency, time.Hour)*idleLatencies)
	if t-valid < period {
		return limit, valid
	}
	if limit <= first {
		return limit, t
	}
	for limit > first && t-valid >= period {
		limit = max(first, limit/2)
		valid += period
	}
	return limit, valid
}
