package limiter

import (
	"errors"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// Config is what a guard is made from. It is a plain value; the zero Config means all defaults
// and is a good start. Package config fills it from limits.toml.
type Config struct {
	// Name says which upstream the guard is for, in errors, metrics and logs. Empty means "default".
	Name string

	// Adaptive holds the parameters of flyball's own law; it is ignored when Law is set.
	Adaptive adaptive.Config

	// Law is the control law; nil means flyball's own, made from Adaptive. A Law belongs to
	// one guard: it must not be given to two.
	Law adaptive.Law

	// Queue is how many callers may wait (1 to 1,000,000). Zero means 1024; -1 means that nobody
	// waits: Acquire then refuses at once when it finds no place. Smaller refuses sooner;
	// larger holds more memory, and callers that may have given up.
	Queue int

	// MaxWait is how long a caller waits at most (1 ms to 24 h). Zero means 60 s. A context
	// that ends sooner goes first. Smaller fails fast; larger turns bursts into delay.
	MaxWait time.Duration

	// MaxPause is the longest Retry-After that the guard waits for (1 ms to 24 h), unless a quota is gone for the day. Zero means
	// 5 min. Where calls were accepted before, a longer one counts as none; while nothing is accepted any more, the guard asks
	// again after 1 s, 2 s, 4 s and so on, up to MaxPause. Where none ever was, that is after MaxPause, and callers
	// are refused until then with the instant that the upstream named.
	MaxPause time.Duration

	// PauseJitter is how much of a pause is added to it at random, at most, as a ratio (0 to 1), and
	// never more than 2 s. Zero means 0.05; a negative value means none. It keeps
	// processes that were told the same delay from coming back in the same instant.
	PauseJitter float64

	// IgnoreRetryAfter leaves a Retry-After to the caller: the guard does not pause for
	// it. It is for comparisons with limiters that do not read it.
	IgnoreRetryAfter bool

	// Room says who of those who wait goes next, and whom a full queue drops. nil is first in, first out.
	Room *Room

	// Budget holds the limits of requests and tokens per time that are known, or that the upstream tells.
	// nil is none.
	Budget *Budget

	// Observe holds nothing back: every call starts at once, and what would have held it back is counted
	// (Counts.Observed). The law runs as ever, so that its limit can be watched before it is enforced.
	Observe bool

	// MaxHold is how long a permit may be held (1 s to 24 h) before it is reported as leaked, with the
	// place that acquired it. Zero means that nobody watches. Watching costs some hundred
	// nanoseconds a watched call; see WatchOneIn. Choose it longer than the longest call.
	MaxHold time.Duration
	// WatchOneIn is how many permits there are to one that is watched (1 to 1024, a power of two). Zero
	// means 1: every permit. Larger costs less and finds a leak later.
	WatchOneIn int
	// Reclaim takes the place of a leaked permit back, so that others can have it. Releasing the
	// permit later then does nothing.
	Reclaim bool

	// TimeOneIn is how many calls there are to one whose latency is measured (1 to 1024, a power of two).
	// Zero means 1: every call. Reading the clock is most of what an uncontended call costs; above
	// some 100,000 calls a second, 16 makes the guard several times cheaper and tells the law
	// of latencies as well. All calls are counted, and those that waited are timed, in any case.
	TimeOneIn int

	// Retry says how often and when a call that failed is sent again.
	Retry Retry

	// Seed seeds the jitter. Zero means a seed drawn at random when the guard is made.
	Seed uint64
}

// Defaults returns c with each zero field set to its default. Law and Seed stay as they are.
func (c Config) Defaults() Config {
	if c.Name == "" {
		c.Name = "default"
	}
	if c.Queue == 0 {
		c.Queue = 1024
	}
	if c.MaxWait == 0 {
		c.MaxWait = time.Minute
	}
	if c.MaxPause == 0 {
		c.MaxPause = 5 * time.Minute
	}
	if c.PauseJitter == 0 {
		c.PauseJitter = 0.05
	}
	if c.WatchOneIn == 0 {
		c.WatchOneIn = 1
	}
	if c.TimeOneIn == 0 {
		c.TimeOneIn = 1
	}
	c.Adaptive = c.Adaptive.Defaults()
	c.Retry = c.Retry.Defaults()
	return c
}

// A FieldError says that one field of a Config has a value that it may not have.
type FieldError struct {
	Field   string // the name of the field, as Go writes it
	Value   any    // what it holds
	Allowed string // what it may hold, as a person reads it
}

// Error names the field, its value and what is allowed.
func (e *FieldError) Error() string {
	return fmt.Sprintf("limiter: %s is %v, must be %s", e.Field, e.Value, e.Allowed)
}

// Check returns nil when New accepts c, and else one error that joins a *FieldError
// (of this package or of adaptive) for each field that is out of range.
func (c Config) Check() error {
	c = c.Defaults()
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, &FieldError{field, value, allowed})
	}
	if c.Law == nil {
		errs = append(errs, c.Adaptive.Check()...)
	}
	if c.Queue != -1 && (c.Queue < 1 || c.Queue > adaptive.MaxLimit) {
		bad("Queue", c.Queue, "-1 (nobody waits), 0 (default) or 1 to 1000000 callers")
	}
	if c.MaxWait < time.Millisecond || c.MaxWait > 24*time.Hour {
		bad("MaxWait", c.MaxWait, "0 (default) or 1ms to 24h")
	}
	if c.MaxPause < time.Millisecond || c.MaxPause > 24*time.Hour {
		bad("MaxPause", c.MaxPause, "0 (default) or 1ms to 24h")
	}
	if !(c.PauseJitter <= 1) {
		bad("PauseJitter", c.PauseJitter, "a ratio of at most 1")
	}
	c.Room.check(bad)
	c.Budget.check(bad)
	if c.MaxHold != 0 && (c.MaxHold < time.Second || c.MaxHold > 24*time.Hour) {
		bad("MaxHold", c.MaxHold, "0 (nobody watches) or 1s to 24h")
	}
	if c.WatchOneIn < 1 || c.WatchOneIn > 1024 || c.WatchOneIn&(c.WatchOneIn-1) != 0 {
		bad("WatchOneIn", c.WatchOneIn, "0 (default) or a power of two from 1 to 1024")
	}
	if c.TimeOneIn < 1 || c.TimeOneIn > 1024 || c.TimeOneIn&(c.TimeOneIn-1) != 0 {
		bad("TimeOneIn", c.TimeOneIn, "0 (default) or a power of two from 1 to 1024")
	}
	c.Retry.check(bad)
	return errors.Join(errs...)
}
