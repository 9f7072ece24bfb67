package admission

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// patience asks for a place for a caller of a tenant that gives up after a time.
func (b *bench) patience(tenant string, d time.Duration, waitOnly ...bool) *Waiter {
	w := &Waiter{WaitOnly: len(waitOnly) > 0 && waitOnly[0]}
	w.Tenant, w.GiveUp = tenant, b.now+d
	b.core.Ask(b.now, w)
	b.next()
	return w
}

// Calls take 4 s, and a place is free again 20 s after w has asked. Who has waited for so long that it would most likely give up in the middle of its call makes way for one
// that would not, in the line of those who are alike and in the queue alike, by either way that a place is given.
func TestWaitedTooLong(t *testing.T) {
	const took = 4 * time.Second
	for name, c := range map[string]struct {
		tenant           string
		patience, newest time.Duration // from when each asks; the newest asks when the place is free
		others           string        // the tenant of the newest
		waitOnly         bool
		reason           Reason
	}{
		"too late for a call":             {"", 27 * time.Second, 27 * time.Second, "", false, ReasonDeadline},
		"the wait alone ends":             {"", 27 * time.Second, 27 * time.Second, "", true, ReasonNone},
		"time enough for a call":          {"", 29 * time.Second, 29 * time.Second, "", false, ReasonNone},
		"nobody has much more":            {"", 27 * time.Second, 13 * time.Second, "", false, ReasonNone},
		"of a tenant":                     {"a", 27 * time.Second, 27 * time.Second, "a", false, ReasonDeadline},
		"a tenant with nobody else":       {"a", 27 * time.Second, 27 * time.Second, "b", false, ReasonNone},
		"others that are alike":           {"a", 27 * time.Second, 27 * time.Second, "", false, ReasonNone},
		"a tenant, time enough":           {"a", 29 * time.Second, 29 * time.Second, "a", false, ReasonNone},
		"it gave up while it waited":      {"", 19 * time.Second, 27 * time.Second, "", false, ReasonDeadline},
		"a tenant's gave up as it waited": {"a", 19 * time.Second, 27 * time.Second, "a", false, ReasonDeadline},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1, nil)
			for range 8 {
				w := b.patience("", time.Minute)
				b.after(took)
				b.finish(w, adaptive.Outcome{OutputTokens: 1})
			}
			first := b.patience("", time.Minute)
			w := b.patience(c.tenant, c.patience, c.waitOnly)
			b.after(20 * time.Second)
			newest := b.patience(c.others, c.newest)
			b.finish(first, adaptive.Outcome{Class: feedback.Canceled})
			if c.reason == ReasonNone {
				b.want(w, Granted, ReasonNone)
				return
			}
			b.want(w, Refused, c.reason)
			if c.patience > 20*time.Second && w.RetryAt <= b.now {
				t.Errorf("it may try again at %v, at once, although the place is for another", w.RetryAt)
			}
			b.want(newest, Granted, ReasonNone)
		})
	}
}

// Who came with little patience is not refused for it: it may be of those whose calls are quick.
func TestLittlePatienceIsNotWaitedTooLong(t *testing.T) {
	b := newBench(t, 1, nil)
	for range 8 {
		w := b.patience("", time.Minute)
		b.after(4 * time.Second)
		b.finish(w, adaptive.Outcome{OutputTokens: 1})
	}
	first := b.patience("", time.Minute)
	b.after(4 * time.Second)
	w := b.patience("", 2*time.Second)
	b.patience("", time.Minute)
	b.after(500 * time.Millisecond)
	b.finish(first, adaptive.Outcome{OutputTokens: 1})
	b.want(w, Granted, ReasonNone)
}
