package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// bucket is a quota of tokens that comes back all the time, as headers with dates of whole seconds tell of it.
type bucket struct {
	kind               feedback.Scope
	limit, holds, rate float64 // stated; at most; a second
	left               float64
	at                 time.Duration
}

func (b *bucket) window(now time.Duration, used float64) feedback.Window {
	b.left = min(b.holds, b.left+b.rate*(now-b.at).Seconds())
	b.left, b.at = max(0, b.left-used), now
	full := now + time.Duration((b.holds-b.left)/b.rate*1e9)
	return feedback.Window{Kind: b.kind, Limit: int64(b.limit), Remaining: int64(b.left), Reset: max(0, full.Truncate(time.Second)-now)}
}

// spend has calls start at the pace that g asks for, or most a second, and returns how many started a second in the last half of the time, and how many
// found less left than they cost.
func (b *bucket) spend(g *Governor, seconds, most float64, cost, told func(i int) int64) (rate, refused float64) {
	const step = time.Millisecond
	due, n, late := 0.0, 0, 0
	for now := step; now < time.Duration(seconds*1e9); now += step {
		d := g.Decision()
		pace := d.Pace
		if now < d.NotBefore {
			continue
		}
		if pace == 0 || pace > most {
			pace = most
		}
		if due += pace * step.Seconds(); due < 1 {
			continue
		}
		due--
		c := cost(n)
		if b.window(now, 0); b.left < float64(c) {
			refused++
			g.Ended(now, Call{SentAt: now - step, InFlight: 3, Episode: d.Episode}, refusedBy(b.kind))
			g.Hint(now, b.window(now, 0))
			continue
		}
		w := Window{Start: now - step, OK: 1, Timed: 1, Latency: 500 * time.Millisecond, MinLatency: 500 * time.Millisecond, MaxInFlight: 3, InFlight: 3, Waiting: 9}
		if b.kind == feedback.ScopeInputTokens {
			w.Tokens, w.CachedTokens = told(n), told(n)-c
		} else {
			w.Tokens, w.OutputTokens = told(n), c
		}
		h := b.window(now, float64(c))
		g.Window(now, w)
		g.Hint(now, h)
		n++
		if now > time.Duration(seconds*5e8) {
			late++
		}
	}
	return float64(late) / (seconds / 2), refused
}

func refusedBy(s feedback.Scope) Outcome { return Outcome{Class: feedback.Throttled, Scope: s} }

func TestGovernorToldTokens(t *testing.T) {
	sizes := func(i int) int64 { return []int64{200, 400, 600, 1200, 2600}[i%5] } // 1000 on average
	for _, test := range []struct {
		name   string
		b      bucket
		most   float64
		lo, hi float64 // calls a second
		worst  float64 // refused at most
	}{
		// 600,000 a minute are 10 calls of 1000 a second, whatever the bucket holds.
		{"input, a minute of it", bucket{kind: feedback.ScopeInputTokens, limit: 600e3, holds: 600e3, rate: 10e3}, 40, 9.8, 10.2, 3},
		{"input, a tenth of it", bucket{kind: feedback.ScopeInputTokens, limit: 600e3, holds: 60e3, rate: 10e3}, 40, 9.8, 10.2, 3},
		{"output", bucket{kind: feedback.ScopeOutputTokens, limit: 600e3, holds: 60e3, rate: 10e3}, 40, 9.8, 10.2, 3},
		// Half of what it says. Where it is nearly empty all the time, resets tell nothing, and refusals must.
		{"not what it says", bucket{kind: feedback.ScopeInputTokens, limit: 600e3, holds: 60e3, rate: 5e3}, 40, 4.9, 5.1, 35},
		{"plenty", bucket{kind: feedback.ScopeInputTokens, limit: 600e3, holds: 600e3, rate: 10e3, left: 600e3}, 9, 8.9, 9.1, 0},
	} {
		// It begins full, and nearly empty.
		for _, share := range []float64{1, 0.1} {
			b := test.b
			b.left = share * b.holds
			g := New(Config{})
			rate, refused := b.spend(g, 240, test.most, sizes, func(i int) int64 { return sizes(i) + 3000 })
			if rate < test.lo || rate > test.hi || refused > test.worst {
				t.Errorf("%s, %.0f %% left at first: %.2f calls a second, %v refused, want %v to %v, at most %v", test.name, 100*share, rate, refused, test.lo, test.hi, test.worst)
			}
		}
	}
}

// What is told sets the pace with the first answers: a bucket that is nearly empty when a process starts is not asked for more than it gives.
func TestGovernorToldAtOnce(t *testing.T) {
	b := bucket{kind: feedback.ScopeInputTokens, limit: 600e3, holds: 600e3, rate: 10e3, left: 3000, at: time.Second}
	g := New(Config{})
	g.Window(time.Second, Window{OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, Tokens: 1500, OutputTokens: 500, MaxInFlight: 1})
	d := g.Hint(time.Second, b.window(time.Second, 1000))
	if rate := g.State().Told[toldInput].Rate; rate < 9.9 || rate > 10.4 || d.Pace > float64(rate) || d.Cause != CauseHint || d.Binding != feedback.ScopeInputTokens {
		t.Errorf("after one answer: %v a second, %+v, want 10", rate, d)
	}
}

// A window that ends for all at once is spread: what is left lasts until its end.
func TestGovernorToldWindow(t *testing.T) {
	g := New(Config{})
	var d Decision
	for i := range 30 {
		now := time.Duration(i+1) * time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, Tokens: 1500, OutputTokens: 500, MaxInFlight: 1})
		d = g.Hint(now, feedback.Window{Kind: feedback.ScopeInputTokens, Limit: 32_000, Remaining: int64(31_000 - 1000*i), Reset: time.Minute - now})
	}
	// 2000 are left for 30 s: 2 calls.
	if d.Pace < 0.06 || d.Pace > 0.07 {
		t.Errorf("%+v, want 2 calls in 30 s", d)
	}
	if d = g.Hint(61*time.Second, feedback.Window{Kind: feedback.ScopeInputTokens, Limit: 32_000, Remaining: 31_000, Reset: time.Minute}); d.Pace != 0 && d.Pace < 1 {
		t.Errorf("in the next window %+v, want no pace of it", d)
	}
}

// Refusals say otherwise: the pace falls with each of them, and what ends well brings it back.
func TestGovernorToldDoubted(t *testing.T) {
	g := New(Config{})
	now := time.Second
	answer := func() float64 {
		g.Window(now, Window{Start: now - time.Millisecond, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, Tokens: 1000, MaxInFlight: 2, InFlight: 2})
		g.Hint(now, feedback.Window{Kind: feedback.ScopeInputTokens, Limit: 600e3, Remaining: 60e3, Reset: 54 * time.Second})
		return float64(g.State().Told[toldInput].Rate)
	}
	first := answer()
	for range 20 {
		now += time.Second
		d := g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 2, Episode: g.Decision().Episode}, refusedBy(feedback.ScopeInputTokens))
		if d.Binding != feedback.ScopeInputTokens || d.Cause != CauseThrottled {
			t.Fatalf("%+v", d)
		}
		for range 3 {
			now += 100 * time.Millisecond
			answer()
		}
	}
	low := answer()
	if want := first * math.Pow(toldDoubt, 20); low < want || low > 1.4*want {
		t.Errorf("after 20 refusals the pace is %.2f, was %.2f, want about %.2f", low, first, want)
	}
	for range 900 {
		now += 100 * time.Millisecond
		answer()
	}
	if back := answer(); back < 0.9*first {
		t.Errorf("after 900 calls that ended well the pace is %.2f, was %.2f", back, first)
	}
}

// When nobody tells any more, nothing is left of it at the reset. Calls that tell no tokens have no cost, so no pace follows.
func TestGovernorToldNoMore(t *testing.T) {
	g := New(Config{})
	low := feedback.Window{Kind: feedback.ScopeOutputTokens, Limit: 600e3, Remaining: 1000, Reset: time.Minute}
	if d := g.Hint(time.Second, low); d.Pace != startPace {
		t.Errorf("without a cost: %+v, want the pace of the first calls", d)
	}
	g.Window(2*time.Second, Window{OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, Tokens: 1000, OutputTokens: 1000, MaxInFlight: 1})
	if d := g.Hint(2*time.Second, low); d.Pace < 5 || d.Pace > 10 {
		t.Errorf("%+v, want the pace that is told", d)
	}
	d := g.Window(63*time.Second, Window{OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1})
	if d.Pace != 0 {
		t.Errorf("after the reset: %+v, want no pace", d)
	}
	for _, w := range []feedback.Window{
		{Kind: feedback.ScopeInputTokens, Limit: feedback.Unstated, Remaining: 0, Reset: time.Minute},
		{Kind: feedback.ScopeInputTokens, Limit: 100, Remaining: feedback.Unstated, Reset: time.Minute},
		{Kind: feedback.ScopeInputTokens, Limit: 100, Remaining: 0, Reset: feedback.Unstated},
		{Kind: feedback.ScopeInputTokens, Limit: 100, Remaining: 101, Reset: time.Minute},
		{Kind: feedback.ScopeInputTokens, Limit: 100, Remaining: 0, Reset: math.MaxInt64},
	} {
		before := g.State()
		if g.Hint(64*time.Second, w); g.State().Told != before.Told {
			t.Errorf("%+v changes what is told to %+v", w, g.State().Told)
		}
	}
}
