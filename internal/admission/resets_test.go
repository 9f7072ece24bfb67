package admission

import (
	"fmt"
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
			r.note(now, now, &w)
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
	for moves := range 5 { // one in 5 s, of 60 in any minute
		b.finish(b.acquire(), adaptive.Outcome{Windows: []feedback.Window{full}})
		heeds(fmt.Sprintf("moved %d times", moves), moves < 3)
		b.after(5 * time.Second)
	}
	if b.finish(b.acquire(), reset); b.core.Gate() > b.now || b.law.ended[0].HasRetryAfter {
		t.Errorf("a reset closes the gate until %v, and is told the law: %v", b.core.Gate(), b.law.ended[0].HasRetryAfter)
	}
	if b.finish(b.acquire(), named); b.core.Gate() < b.now+time.Minute || !b.law.ended[1].HasRetryAfter {
		t.Errorf("a named delay closes the gate until %v, and is told the law: %v", b.core.Gate(), b.law.ended[1].HasRetryAfter)
	}
}

// TestResetsToldByStreams: what a header tells is known when the answer ends, which may be long after; that moves no window's end.
func TestResetsToldByStreams(t *testing.T) {
	for _, c := range []struct {
		name string
		took func(call int) time.Duration
		log  bool // of the minute before each call, not a window
		ends bool
	}{
		{"a window, and answers of 1 to 40 s", func(call int) time.Duration { return time.Duration(1+call*17%40) * time.Second }, false, true},
		{"a window, and answers of 20 s", func(int) time.Duration { return 20 * time.Second }, false, true},
		{"a log, and answers of 10 s", func(int) time.Duration { return 10 * time.Second }, true, false},
	} {
		b := newBench(t, 100, nil)
		until := func() time.Duration {
			if c.log {
				return time.Minute
			}
			return b.now.Truncate(time.Minute) + time.Minute - b.now
		}
		type stream struct {
			w   *Waiter
			end time.Duration
			o   adaptive.Outcome
		}
		var streams []stream
		for call := range 600 {
			b.after(time.Second)
			for i := 0; i < len(streams); i++ {
				if s := streams[i]; s.end <= b.now {
					b.finish(s.w, s.o)
					streams = append(streams[:i], streams[i+1:]...)
					i--
				}
			}
			w := feedback.Window{Kind: feedback.ScopeRequests, Limit: 60, Remaining: 5, Reset: until()}
			streams = append(streams, stream{b.acquire(), b.now + c.took(call), adaptive.Outcome{Windows: []feedback.Window{w}}})
		}
		reset := throttled(30 * time.Second)
		reset.UntilReset = true
		reset.Windows = []feedback.Window{{Kind: feedback.ScopeRequests, Limit: 60, Reset: 30 * time.Second}}
		if b.core.Heeds(&reset) != c.ends {
			t.Errorf("%s: a reset is waited for: %v, want %v", c.name, !c.ends, c.ends)
		}
	}
}

// TestHeedsWithoutWindow: a reset of no window that is told is not known to move.
func TestHeedsWithoutWindow(t *testing.T) {
	reset := &adaptive.Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Minute, UntilReset: true}
	if c := (&Core{state: &state{resets: new(resets)}}); !c.Heeds(reset) {
		t.Errorf("a reset of no window is not waited for")
	}
}
