package admission

import (
	"math/rand/v2"
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
		"too late for a call":             {"", 24 * time.Second, 27 * time.Second, "", false, ReasonDeadline},
		"the wait alone ends":             {"", 24 * time.Second, 27 * time.Second, "", true, ReasonNone},
		"time enough for a call":          {"", 25 * time.Second, 25 * time.Second, "", false, ReasonNone},
		"nobody has much more":            {"", 24 * time.Second, 4200 * time.Millisecond, "", false, ReasonNone},
		"of a tenant":                     {"a", 24 * time.Second, 27 * time.Second, "a", false, ReasonDeadline},
		"a tenant with nobody else":       {"a", 24 * time.Second, 27 * time.Second, "b", false, ReasonNone},
		"others that are alike":           {"a", 24 * time.Second, 27 * time.Second, "", false, ReasonNone},
		"a tenant, time enough":           {"a", 25 * time.Second, 25 * time.Second, "a", false, ReasonNone},
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

// calls is one place at which one call follows the other, to learn from.
type calls struct {
	durations
	now time.Duration
}

// call makes a call that takes so long, and is cut off when it has had the time it was given; 0 is no such time. It reports whether it ended well.
func (c *calls) call(took, given time.Duration) bool {
	how := feedback.OK
	if given > 0 && took > given {
		took, how = given, feedback.Canceled
	}
	c.now += took
	c.ended(c.now, took, 0, how)
	return how == feedback.OK
}

// keeps returns what is kept of the time of a caller that had so much.
func (c *calls) keeps(all time.Duration) time.Duration {
	w := &Waiter{}
	w.GiveUp = all
	return seconds(c.keep(w))
}

// Calls that take very different times, each of which gets no more than what is kept for it: those that are cut off would have taken longer.
func TestCallsThatAreCutOffCount(t *testing.T) {
	var c calls
	rng := rand.New(rand.NewPCG(1, 2))
	well := 0
	const n = 4000
	for range n {
		took := time.Duration(rng.ExpFloat64() * float64(time.Second))
		given := time.Duration(0)
		if c.of[0].mean > 0 {
			given = c.keeps(20 * time.Second)
		}
		if c.call(took, given) {
			well++
		}
	}
	if well < n*9/10 {
		t.Errorf("%d of %d calls were given enough time, want nine in ten", well, n)
	}
	if mean := c.of[0].mean; mean < 0.5 || mean > 2 {
		t.Errorf("the mean is %v s, want about 1 s", mean)
	}
}

// Calls that take the same are given little more, and after some calls what they take now.
func TestWhatCallsTakeChanges(t *testing.T) {
	var c calls
	keeps := func(least, most time.Duration) {
		t.Helper()
		if k := c.keeps(20 * time.Second); k < least || k > most {
			t.Errorf("%v is kept, want %v to %v", k, least, most)
		}
	}
	for range 32 {
		c.call(500*time.Millisecond, 0)
	}
	keeps(500*time.Millisecond, 600*time.Millisecond)
	for range 40 {
		c.call(5*time.Second, c.keeps(20*time.Second))
	}
	keeps(5*time.Second, 8*time.Second)
	for range 48 {
		c.call(500*time.Millisecond, c.keeps(20*time.Second))
	}
	keeps(500*time.Millisecond, 700*time.Millisecond)
}

// While nothing is answered, calls that are cut off do not say that calls take long, and those that began then do not later.
func TestAnOutageTellsNothing(t *testing.T) {
	var c calls
	for i := range 32 {
		c.call(time.Second+time.Duration(i%3-1)*300*time.Millisecond, 0)
	}
	c.now += 20 * time.Second
	for range 40 {
		c.ended(c.now, 20*time.Second, 0, feedback.Canceled)
	}
	if k := c.keeps(20 * time.Second); k > 1500*time.Millisecond {
		t.Errorf("while nothing is answered, %v is kept, want little more than a call took", k)
	}
	c.now += 5 * time.Second
	c.call(time.Second, 0)
	c.ended(c.now, 6*time.Second, 0, feedback.Canceled)
	if k := c.keeps(20 * time.Second); k > 4*time.Second {
		t.Errorf("once a call was answered, %v is kept, want at most 4 s", k)
	}
}
