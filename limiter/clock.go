package limiter

import "time"

// A guard counts on the monotonic clock. The wall clock may be set while the program runs: by NTP soon after the machine's start, or when a
// machine that was suspended goes on. So instants that are told, or come from outside, are what both clocks make of them now, and not
// what they did when the guard was made.

// wallAt returns the instant at on the wall clock, while the guard's clock says now.
func wallAt(now, at time.Duration) time.Time { return time.Now().Add(at - now).Round(0) }

// instantOf returns t on the guard's clock, which says now; never when it does not reach so far.
func instantOf(now time.Duration, t time.Time) time.Duration {
	in := time.Until(t)
	if in > never-now {
		return never
	}
	return now + in
}
