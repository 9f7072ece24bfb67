package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// endedOf tells g of a call that ended well after a second, saw n in flight when it began and left inFlight, while others wait.
func endedOf(g *Governor, now time.Duration, n, inFlight int) Decision {
	return g.Window(now, Window{
		Start: now, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: n, Full: true, InFlight: inFlight, Waiting: 9,
	})
}

// risen returns a law whose slow start has come from 4 to some 16 with calls of a second, and the instant.
func risen(t *testing.T) (*Governor, time.Duration) {
	t.Helper()
	g := New(Config{})
	now := time.Second
	for i := range 12 {
		endedOf(g, now, 4+i/2, 6+i)
		now += 50 * time.Millisecond
	}
	if s := g.State(); !s.SlowStart || s.Limit < 12 {
		t.Fatalf("slow start ended before it began: %+v", g.Decision())
	}
	return g, now
}

func TestGovernorHang(t *testing.T) {
	// Calls that saw at most 10 in flight end all the time, and of those that saw more none does: the limit rises for a latency and a half, and goes
	// back after three.
	g, now := risen(t)
	began, n := now, 0
	var held, back time.Duration
	last := g.Decision().Limit
	for now < began+5*time.Second && back == 0 {
		n = min(40, g.Decision().Limit)
		d := endedOf(g, now, 10, n)
		switch {
		case d.Limit < last:
			back = now - began
		case d.Limit > last:
			held = now - began
		}
		last = d.Limit
		now += 50 * time.Millisecond
	}
	if held > 2*time.Second {
		t.Errorf("the limit rises for %v", held)
	}
	if back < 2500*time.Millisecond || back > 4*time.Second {
		t.Errorf("the limit goes back after %v", back)
	}
	if s := g.State(); last > 10 || last < 5 || s.SlowStart || s.Cause != CauseLatency {
		t.Errorf("%d in flight, slow start %v, %v", last, s.SlowStart, s.Cause)
	}
	// What hung is not tried at once.
	for range 100 {
		now += 10 * time.Millisecond
		if d := endedOf(g, now, last, last); d.Limit > last+2 {
			t.Fatalf("%d in flight soon after", d.Limit)
		}
	}
}

func TestGovernorLongCallsDoNotHang(t *testing.T) {
	// Each call that ends saw as many as were in flight a latency before, a third of what is now: slow start goes on.
	g, now := risen(t)
	began, at, limits := now, []time.Duration{0}, []int{6}
	for now < began+4*time.Second && g.Decision().Limit < 600 {
		limit := g.Decision().Limit
		at, limits = append(at, now), append(limits, limit)
		i := len(at) - 1
		for i > 0 && at[i] > now-time.Second {
			i--
		}
		if d := endedOf(g, now, limits[i], limit); d.Limit < limit {
			t.Fatalf("%v later: %d → %d, %v", now-began, limit, d.Limit, d.Cause)
		}
		now += time.Duration(1.8 / float64(limit) * float64(time.Second))
	}
	if s := g.State(); !s.SlowStart || s.Limit < 400 {
		t.Errorf("after %v: %+v", now-began, g.Decision())
	}
}

func TestGovernorPauseIsNoHang(t *testing.T) {
	// A refusal, and a pause after it, keep those from beginning that would end.
	g, now := risen(t)
	for range 200 {
		n := g.Decision().Limit
		endedOf(g, now, 10, n)
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: n, Episode: g.Decision().Episode - 1}, refused(feedback.ScopeUnknown))
		if s := g.State(); s.Cause == CauseLatency || s.HangSeen > 0 {
			t.Fatalf("%+v", g.Decision())
		}
		now += 50 * time.Millisecond
	}
}
