package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// lackingCapacity returns a guard of calls of 5 s whose upstream lacks capacity for 9 s, and how many of those that were accepted before are in flight
// still, more than the limit that is left.
func lackingCapacity(t *testing.T) (g *Governor, now time.Duration) {
	t.Helper()
	g = New(Config{Initial: 40})
	for range 200 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: 5 * time.Second, MinLatency: 5 * time.Second, MaxInFlight: 40, InFlight: 40, Waiting: 9, Full: true})
	}
	for _, n := range []int{40, 30, 21} {
		now += 3 * time.Second
		g.Window(now, Window{Start: now - 3*time.Second, OK: 1, MaxInFlight: 30, InFlight: 20, Waiting: 9, Full: true})
		g.Ended(now, Call{SentAt: now - 50*time.Millisecond, Episode: g.Decision().Episode, InFlight: n}, Outcome{Class: feedback.Overloaded})
	}
	if d := g.Decision(); d.Limit >= 20 {
		t.Fatalf("limit %d after three refusals for a lack of capacity, want less than the 20 in flight", d.Limit)
	}
	return g, now
}

// Where those in flight are more than the limit, one is tried beside them after a quarter of what a call takes, and no more until one of them ends.
func TestOneIsTriedBesideThoseInFlight(t *testing.T) {
	g, now := lackingCapacity(t)
	before := g.Decision().Limit
	look := func(after time.Duration, ok, inFlight int) int {
		return g.Window(now+after, Window{Start: now + after - 10*time.Millisecond, OK: ok, MaxInFlight: inFlight + ok, InFlight: inFlight, Waiting: 9, Full: true}).Limit
	}
	if got := look(time.Second, 0, 20); got != before {
		t.Errorf("limit %d a second after the refusal, want %d as before", got, before)
	}
	if got := look(1500*time.Millisecond, 0, 20); got != 21 {
		t.Errorf("limit %d after 1.5 s, want 21: one more than in flight", got)
	}
	for i := range 5 {
		if got := look(1500*time.Millisecond+time.Duration(i+1)*time.Millisecond, 0, 21); got != 21 {
			t.Errorf("limit %d with the one that is tried in flight, want 21", got)
		}
	}
	if got := look(2*time.Second, 1, 20); got != 21 {
		t.Errorf("limit %d when one has ended, want 21", got)
	}
}

// An answer that begins ends the trouble, and those that begin lead back; later ends count, and what begins no more.
func TestWhatBeginsLeadsBack(t *testing.T) {
	g, now := lackingCapacity(t)
	began := func() int {
		now += 50 * time.Millisecond
		g.Window(now, Window{Start: now - 50*time.Millisecond, InFlight: g.Decision().Limit, MaxInFlight: g.Decision().Limit, Waiting: 9, Full: true})
		return g.Began(now, Call{SentAt: now - 40*time.Millisecond, Episode: g.Decision().Episode, InFlight: g.Decision().Limit}).Limit
	}
	low := g.Decision().Limit
	if got := began(); got != low {
		t.Errorf("limit %d when an answer has begun at once, want %d as before: it may be one of those from before", got, low)
	}
	now += 2 * time.Second
	for range 40 {
		began()
	}
	if got := g.Decision().Limit; got < 30 || got > 36 {
		t.Errorf("limit %d after 40 answers have begun, want nine tenths of 40", got)
	}
	if s := g.State(); s.Recovering || s.SlowStart || s.returns() {
		t.Errorf("it is on its way back still: recovering %v, slow start %v", s.Recovering, s.SlowStart)
	}
	back := g.Decision().Limit
	for range 200 {
		began()
	}
	if got := g.Decision().Limit; got != back {
		t.Errorf("limit %d after more have begun, want %d: ends count again", got, back)
	}
}

// Whatever happens, a stated limit on calls in flight is not exceeded.
func TestPropGovernorStatedIsNotExceeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{})
		for _, e := range likely(t, 100) {
			e.apply(g)
			if g.s.Limit > g.ceiling() {
				t.Fatalf("limit %v after %+v, where %d are stated", g.s.Limit, e, g.s.Stated)
			}
		}
	})
}

// What is tried beside calls in flight stays within what the upstream states.
func TestTriedBesideWithinWhatIsStated(t *testing.T) {
	g, now := lackingCapacity(t)
	g.Hint(now, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 15})
	now += 2 * time.Second
	if got := g.Window(now, Window{Start: now - time.Second, InFlight: 20, MaxInFlight: 20, Waiting: 9, Full: true}).Limit; got > 15 {
		t.Errorf("limit %d where the upstream states 15", got)
	}
}
