package admission

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// TestResetsTellWindowsFromRefills: the end of a window stays until it has passed; when a quota that refills is full again moves with each call.
func TestResetsTellWindowsFromRefills(t *testing.T) {
	const limit = 60
	told := func(until time.Duration, left int64) feedback.Window {
		return feedback.Window{Kind: feedback.ScopeRequests, Limit: limit, Remaining: left, Reset: until}
	}
	for _, c := range []struct {
		name  string
		until func(now time.Duration, call int64) time.Duration
		ends  bool
	}{
		{"a window of a minute, in whole seconds", func(now time.Duration, _ int64) time.Duration {
			return (now.Truncate(time.Minute) + time.Minute - now).Round(time.Second)
		}, true},
		{"a window of ten seconds, by a clock that is behind", func(now time.Duration, _ int64) time.Duration {
			now += 1500 * time.Millisecond
			return now.Truncate(10*time.Second) + 10*time.Second - now
		}, true},
		{"a bucket", func(now time.Duration, call int64) time.Duration { return time.Duration(call+5)*time.Second - now }, false},
		{"a log of a minute", func(time.Duration, int64) time.Duration { return time.Minute }, false},
	} {
		var r resets
		refused := &adaptive.Outcome{Class: feedback.Throttled, HasRetryAfter: true, UntilReset: true}
		for call := range int64(400) {
			now := time.Duration(call) * 370 * time.Millisecond
			w := told(c.until(now, call), 5)
			r.note(now, &w)
			refused.Windows = []feedback.Window{told(c.until(now, call), 0)}
			if call == 0 && !r.ends(refused) {
				t.Errorf("%s: nothing is known after one answer", c.name)
			}
		}
		if refused.Windows[0].Reset = max(refused.Windows[0].Reset, time.Second); r.ends(refused) != c.ends {
			t.Errorf("%s: ends %v, want %v", c.name, r.ends(refused), c.ends)
		}
		other := told(time.Minute, 0)
		other.Limit++
		if refused.Windows = append(refused.Windows, other); !r.ends(refused) {
			t.Errorf("%s: nothing is known of another window", c.name)
		}
	}
}

// TestHeeds: what was named is waited for; a reset only as long as it may be a window's end.
func TestHeeds(t *testing.T) {
	b := newBench(t, 4, nil)
	full := feedback.Window{Kind: feedback.ScopeRequests, Limit: 60, Remaining: 0, Reset: time.Minute}
	named := throttled(time.Minute)
	named.Windows = []feedback.Window{full}
	reset := named
	reset.UntilReset = true
	heeds := func(what string, want bool) {
		t.Helper()
		if b.core.Heeds(&reset) != want || !b.core.Heeds(&named) {
			t.Errorf("%s: a reset is heeded: %v, want %v; a delay that was named: %v", what, b.core.Heeds(&reset), want, b.core.Heeds(&named))
		}
	}
	heeds("at first", true)
	for range 5 { // one in 5 s, of 60 in any minute
		b.finish(b.acquire(), adaptive.Outcome{Windows: []feedback.Window{full}})
		b.after(5 * time.Second)
	}
	heeds("of a log", false)
	if b.finish(b.acquire(), reset); b.core.Gate() > b.now || b.law.ended[0].HasRetryAfter {
		t.Errorf("a reset closes the gate until %v, and is told the law: %v", b.core.Gate(), b.law.ended[0].HasRetryAfter)
	}
	if b.finish(b.acquire(), named); b.core.Gate() < b.now+time.Minute || !b.law.ended[1].HasRetryAfter {
		t.Errorf("a named delay closes the gate until %v, and is told the law: %v", b.core.Gate(), b.law.ended[1].HasRetryAfter)
	}
}
