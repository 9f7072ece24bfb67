package adaptive

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// When the clock has jumped with calls in flight, as many pass as before within 5 s, whatever held them back.
func TestFrozen(t *testing.T) {
	for _, kind := range []string{"limit", "quota", "none"} {
		for _, n := range []int{1, 10, 50} {
			for _, jump := range []time.Duration{10 * time.Minute, time.Hour, 8 * time.Hour} {
				t.Run(fmt.Sprintf("%s of %d, %v", kind, n, jump), func(t *testing.T) {
					u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(1, 2)), busy: true}
					u.lasts = func() time.Duration { return time.Duration((0.7 + 0.6*u.rng.Float64()) * 1e9) }
					u.takes = func(time.Duration) bool { return true }
					switch kind {
					case "limit":
						u.takes = func(time.Duration) bool { return u.carried() < n }
					case "quota":
						u.takes = bucketOf(float64(n), max(1, float64(n)/2))
					default:
						u.closed = n
					}
					u.run(15 * time.Minute)
					from := u.ok
					u.run(u.now + time.Minute)
					before := float64(u.ok-from) / 60
					u.now += jump
					u.run(u.now + 5*time.Second)
					from = u.ok
					u.run(u.now + 20*time.Second)
					if got := float64(u.ok-from) / 20; got < 0.9*before {
						t.Errorf("%.2f calls a second from 5 s to 25 s after it, want %.2f as before", got, before)
					}
				})
			}
		}
	}
}

// quick returns a law that knows 40 calls of a second each, of 10 callers of whom each has one in flight, and now.
func quick(limit float64) (*Governor, time.Duration) {
	g, now := New(Config{}), time.Second
	for range 40 {
		now += 100 * time.Millisecond
		g.Window(now, oneCall(now, time.Second, 10))
	}
	g.s.Limit = limit
	return g, now
}

// oneCall is a window in which a call ended that took so long, with so many in flight.
func oneCall(now, took time.Duration, inFlight int) Window {
	return Window{Start: now - 50*time.Millisecond, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: inFlight, InFlight: inFlight - 1}
}

// What calls took that were in flight meanwhile says nothing of the upstream, and the time is none in which the limit or a pace was not in use.
func TestFrozenTeachesNothing(t *testing.T) {
	const jump = 10 * time.Minute
	for name, first := range map[string]Window{
		"one call":                      {OK: 1, Timed: 1, Latency: jump + time.Second},
		"with others that ended before": {OK: 7, Timed: 7, Latency: jump + 7*time.Second},
	} {
		g, now := quick(40)
		p := &g.s.Pace[paceRequests]
		*p = PaceState{Rate: 10, Known: 10, Ceiling: 10, Use: 0.5, UsedAt: now, Measured: true}
		was := g.s
		now += jump
		first.Start, first.MinLatency, first.MaxInFlight, first.InFlight = now-jump, time.Second, 10, 9
		g.Window(now, first)
		for range 9 {
			now += 10 * time.Millisecond
			g.Window(now, oneCall(now, jump, 10))
		}
		if s := g.s; s.Mean != was.Mean || s.Latency != was.Latency || s.Limit < was.Limit || s.Line != was.Line || s.Size != was.Size || s.Cells != was.Cells || p.Rate < 9 || s.Flow < 0.9*was.Flow {
			t.Errorf("%s: mean %v, %v, limit %v, pace %v, flow %v, want %v, %v, %v, 10, %v", name, s.Mean, s.Latency, s.Limit, p.Rate, s.Flow, was.Mean, was.Latency, was.Limit, was.Flow)
		}
		if g.s.BlockAt < now-time.Second {
			t.Errorf("%s: a block has begun %v ago", name, now-g.s.BlockAt)
		}
		for range 40 { // those that start after it teach
			now += 200 * time.Millisecond
			g.Window(now, oneCall(now, 2*time.Second, 10))
		}
		if g.s.Mean < 1.3 {
			t.Errorf("%s: the mean is %v after 40 calls of 2 s", name, g.s.Mean)
		}
	}
}

// A refusal that comes after it has not taken as long, and what ends after that has not, either.
func TestFrozenRefusal(t *testing.T) {
	g, now := quick(40)
	refuse := func(took time.Duration) {
		g.Ended(now, Call{SentAt: now - took, Episode: g.s.Episode, InFlight: 10}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
	}
	refuse(20 * time.Millisecond)
	was := g.s.RefusalTime
	now += time.Hour
	refuse(time.Hour)
	g.Window(now, oneCall(now, time.Hour, 10))
	if g.s.RefusalTime != was || g.s.Mean > 1.01 {
		t.Errorf("refusals take %v s, want %v; calls take %v s", g.s.RefusalTime, was, g.s.Mean)
	}
}

// Where no call that was in flight meanwhile is answered after it, as their connections are gone or their callers have left, the limit and a pace were not idle, either.
func TestFrozenUnanswered(t *testing.T) {
	for _, class := range []feedback.Class{feedback.ServerError, feedback.Canceled} {
		for _, jump := range []time.Duration{10 * time.Minute, 8 * time.Hour} {
			g, now := quick(40)
			p := &g.s.Pace[paceRequests]
			*p = PaceState{Rate: 10, Known: 10, Ceiling: 10, Use: 0.5, UsedAt: now, Measured: true}
			now += jump
			for i := range 10 {
				now += time.Millisecond
				g.Ended(now, Call{SentAt: now - jump, Episode: g.s.Episode, InFlight: 10 - i}, Outcome{Class: class})
			}
			for range 20 {
				now += 100 * time.Millisecond
				g.Window(now, oneCall(now, time.Second, 10))
			}
			if s := g.s; s.Limit < 40 || p.Rate < 9 || s.Mean > 1.01 {
				t.Errorf("%v after %v: limit %v, pace %v, mean %v, want 40, 10, 1", class, jump, s.Limit, p.Rate, s.Mean)
			}
		}
	}
}

// Calls that were in flight meanwhile do not hang.
func TestFrozenDoesNotHang(t *testing.T) {
	g, now := quick(40)
	s := &g.s
	s.SlowStart, s.Threshold, s.Old, s.HangLevel, s.HangAt, s.HangMean = true, 0, 0, 36, now, 1
	now += 10 * time.Minute
	for range 9 {
		now += time.Millisecond
		w := oneCall(now, 10*time.Minute, 10)
		w.InFlight, w.Full = 40, true
		g.Window(now, w)
	}
	if s.Limit < 40 || s.Late {
		t.Errorf("the limit is %v, late %v, want 40 and more", s.Limit, s.Late)
	}
}

// An answer that begins after it has not taken as long, either.
func TestFrozenBegin(t *testing.T) {
	g, now := quick(40)
	for range 10 {
		now += 100 * time.Millisecond
		g.Began(now, Call{SentAt: now - 200*time.Millisecond, InFlight: 10})
	}
	was, sent := g.s.Begin, now
	now += time.Hour
	g.Began(now, Call{SentAt: sent, InFlight: 10})
	g.Window(now, oneCall(now, time.Hour, 10))
	if g.s.Begin.Mean != was.Mean || g.s.Begin.Late != was.Late || g.s.Mean > 1.01 {
		t.Errorf("answers begin after %v s, want %v; calls take %v s", g.s.Begin.Mean, was.Mean, g.s.Mean)
	}
}

// A long answer is none that was in flight while nothing ran, and neither is it when calls take long from now on.
func TestLongCallsAreNotFrozen(t *testing.T) {
	longer := func(g *Governor, now time.Duration, took ...time.Duration) time.Duration {
		for _, d := range took {
			now += d
			g.Window(now, oneCall(now, d, 1))
		}
		return now
	}
	g, now := quick(4)
	want := g.s.Mean + (60-g.s.Mean)/32
	longer(g, now, time.Minute)
	if got := g.s.Mean; g.s.Frozen || got < 0.99*want || got > 1.01*want {
		t.Errorf("an answer of a minute alone: the mean is %v s, want %v", got, want)
	}
	g, now = quick(4)
	for range 60 { // others pass meanwhile
		now += 10 * time.Second
		g.Window(now, oneCall(now, time.Second, 2))
	}
	want = g.s.Mean + (600-g.s.Mean)/32
	longer(g, now, 0)
	now += 100 * time.Millisecond
	was := g.s.Mean
	g.Window(now, oneCall(now, 10*time.Minute, 2))
	if got := g.s.Mean; g.s.Frozen || got < was+0.9*(want-was) {
		t.Errorf("an answer of ten minutes beside others: the mean is %v s, want %v", got, want)
	}
	g = New(Config{})
	longer(g, time.Second, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute, 10*time.Minute)
	if got := g.s.Mean; g.s.Frozen || got < 599 || got > 601 {
		t.Errorf("calls of ten minutes, one at a time: the mean is %v s", got)
	}
	g, now = quick(4)
	longer(g, now, 10*time.Minute, 10*time.Minute) // only the first looks as if nothing ran
	if got := g.s.Mean; got < 15 {
		t.Errorf("calls that take ten minutes now: the mean is %v s after two, want that of the second in it", got)
	}
}

// Who had nothing in flight was idle: the limit ages.
func TestIdleIsNotFrozen(t *testing.T) {
	g, now := quick(40)
	was := g.s.Limit
	now += 10 * time.Minute
	g.Window(now, oneCall(now, time.Second, 1))
	if g.s.Frozen || g.s.Limit >= was {
		t.Errorf("after ten minutes without calls: frozen %v, the limit is %v, was %v", g.s.Frozen, g.s.Limit, was)
	}
}
