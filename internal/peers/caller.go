package peers

import "time"

// Caller is what a caller without a guard does about a refusal that can be retried.
type Caller struct {
	// Attempts is how many attempts a request may make in all (>= 1).
	Attempts int
	// Base is the back-off after the first attempt; it doubles with each further one, up to Max.
	Base, Max time.Duration
	// Jitter is the share of a back-off that is drawn at random (0 to 1): the rest is always waited. 1 is full jitter.
	Jitter float64
	// ReadsRetryAfter says that a Retry-After takes the place of the back-off, exactly.
	ReadsRetryAfter bool
	// Longest is the longest Retry-After that is waited for; a longer one ends the request.
	// Zero means any.
	Longest time.Duration
}

// SDK is what the clients of the large providers do when nobody configures them, here openai-python: two retries, after
// 0.5 s and 1 s (8 s at most), less up to a quarter at random; a Retry-After of at most 120 s is obeyed, a longer one
// ends the request (openai-python since its change of 2026-07-30; before it, more than 60 s was ignored).
func SDK() Caller {
	return Caller{
		Attempts: 3, Base: 500 * time.Millisecond, Max: 8 * time.Second, Jitter: 0.25,
		ReadsRetryAfter: true, Longest: 120 * time.Second,
	}
}

// Backoff is exponential back-off with full jitter and nothing else: up to 10 attempts, 0.5 s to 30 s. It reads no
// Retry-After. The shape is that of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); base, bound and
// attempts are those of the other callers in the built-in scenarios, and enough of them to outlast a minute.
func Backoff() Caller {
	return Caller{Attempts: 10, Base: 500 * time.Millisecond, Max: 30 * time.Second, Jitter: 1}
}
