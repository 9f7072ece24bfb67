package limiter

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNoKey is what the refusal by a pool of which every key is out is besides ErrRejected, for errors.Is.
var ErrNoKey = errors.New("limiter: every key is out")

// A NoKeyError is a refusal by a pool with what was to be said of each key when it was made. The request was not
// sent. It names keys by fingerprint.
type NoKeyError struct {
	// Pool is the name of the pool.
	Pool string
	// Reason is why. It is ReasonPaused when no key may start a call for longer than callers wait, because of pauses, the law, paces or
	// budgets. When every key is out it is ReasonPaused, too, or ReasonDeadline or ReasonMaxWait when the caller could not wait for a probe.
	Reason Reason
	// Out says that every key is out.
	Out bool
	// Waiting is how many callers wait.
	Waiting int
	// Waited is how long the caller had waited, and Why what held it back longest, in the words of Wait.Why; of who did not wait, what held back
	// callers then. Where every key is out it is empty.
	Waited time.Duration
	Why    string
	// RetryAt is the earliest instant worth trying again, as far as the pool knows; zero when it does not.
	RetryAt time.Time
	// TooLarge has the numbers of ReasonTooLarge.
	TooLarge TooLarge
	// Keys is what the keys looked like.
	Keys []KeyStatus
}

// Error names the pool, the reason, and what keeps each key from taking the call.
func (e *NoKeyError) Error() string {
	var b strings.Builder
	why := reasonText[e.Reason]
	switch {
	case e.Out:
		why = "every key is out"
	case e.Reason == ReasonClosed:
		why = "the pool is closed"
	case e.Reason == ReasonPaused: // by pauses, holds, paces or budgets, of one key this and of another that
		why = "no key may start a call for longer than callers wait"
	}
	fmt.Fprintf(&b, "limiter: pool %s rejected a call: %s (waiting %d", e.Pool, why, e.Waiting)
	if e.Waited > 0 {
		fmt.Fprintf(&b, ", waited %v", e.Waited.Round(time.Millisecond))
		if e.Why != "" {
			b.WriteString(" for " + e.Why)
		}
	}
	b.WriteString("): ")
	const most = 8 // more would not be read
	for i, k := range e.Keys {
		if i == most {
			fmt.Fprintf(&b, ", and %d more", len(e.Keys)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(k.String())
	}
	if e.Reason == ReasonTooLarge && e.TooLarge.Cost > 0 {
		fmt.Fprintf(&b, "; %d %s, and the budget of a key holds %d", e.TooLarge.Cost, e.TooLarge.Kind, e.TooLarge.Limit)
	}
	if !e.RetryAt.IsZero() {
		fmt.Fprintf(&b, "; try again at %s", instant(e.RetryAt))
	}
	return b.String()
}

// Is reports whether target is ErrRejected, ErrNoKey when every key is out, or ErrClosed for a closed pool.
func (e *NoKeyError) Is(target error) bool {
	return target == ErrRejected || target == ErrNoKey && e.Out || target == ErrClosed && e.Reason == ReasonClosed
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// rejected returns a refusal. It is called without the lock.
func (p *Pool) rejected(reason Reason, out bool, waited, retryAt time.Duration) *NoKeyError {
	e := &NoKeyError{Pool: p.name, Reason: reason, Out: out, Waiting: int(p.waiting.Load()), Waited: waited, Keys: p.Keys()}
	if retryAt > 0 {
		e.RetryAt = wallAt(p.now(), retryAt)
	}
	return e
}

// refuseNow returns the refusal of a caller that does not wait.
func (p *Pool) refuseNow(m poolMiss) *NoKeyError {
	reason, retryAt := ReasonLimit, time.Duration(0)
	switch {
	case m.open:
	case m.closed:
		reason = ReasonClosed
	case m.large && m.at == never:
		reason = ReasonTooLarge
	default:
		reason = ReasonPaused
	}
	if m.at != never {
		retryAt = m.at
	}
	p.mu.Lock()
	if p.closed {
		reason, m.live, retryAt = ReasonClosed, true, 0
	}
	p.refused(reason, !m.live)
	p.mu.Unlock()
	e := p.rejected(reason, !m.live, 0, retryAt)
	e.TooLarge = m.tooLarge
	if m.live {
		e.Why = p.whyText(m.why, m.budget)
	}
	return e
}
