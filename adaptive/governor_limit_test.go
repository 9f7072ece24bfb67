package adaptive

import (
	"testing"
	"time"
)

// bounded returns a law with a limit of n calls that take 0.1 s, where one was refused that saw bound, and the time.
func bounded(n, bound float64) (*Governor, time.Duration) {
	g, now := warm(20)
	s := &g.s
	s.Limit, s.Bound, s.LastBound, s.Flight, s.Top, s.Proven = n, bound, bound, n, n, n
	s.SlowStart, s.Threshold, s.Recovering, s.Open, s.Test, s.Mean, s.Latency, s.Good, s.Old = false, 0, false, false, 3, 0.1, 100*time.Millisecond, 0, 0
	return g, now
}

// epoch has as many calls end as the limit allows.
func epoch(g *Governor, now time.Duration) time.Duration {
	for range 20 {
		now += 5 * time.Millisecond
		n := g.Decision().Limit
		g.Window(now, Window{Start: now - 5*time.Millisecond, OK: n/20 + 1, Timed: n/20 + 1, Latency: time.Duration(n/20+1) * 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: n, InFlight: n, Waiting: 9, Full: true})
	}
	return now
}

func TestGovernorTakesTheRestOfTheWay(t *testing.T) {
	// Up to 0.98 of what was refused the way is known, half of it in each epoch. What is less than the first step beyond, a 32nd, is taken at once: by halves a limit
	// of a thousand takes five epochs more, until more is tried.
	for _, test := range []struct{ from, want float64 }{{900, 940}, {960, 980}} {
		g, now := bounded(test.from, 1000)
		epoch(g, now)
		if got := g.s.Limit; got != test.want {
			t.Errorf("a limit of %v, 1000 were refused: %v after an epoch, want %v", test.from, got, test.want)
		}
	}
}

func TestGovernorSpreadsASteppedLimit(t *testing.T) {
	// A limit of 1000 is raised by 31 calls. A quota that the limit hides and that allows 16 at once would refuse half of them. One of 40 is raised by one, and where
	// nothing was refused yet no quota is near.
	for _, test := range []struct {
		limit, bound float64
		spread       bool
	}{{1000, 1040, true}, {40, 42, false}, {1000, 0, false}} {
		g, now := bounded(test.limit, test.bound)
		g.Window(now, Window{Start: now - time.Millisecond, OK: 1, Timed: 1, Latency: 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: int(test.limit), InFlight: int(test.limit) - 1, Waiting: 9, Full: true})
		if d := g.Decision(); (d.Pace > 0) != test.spread || d.Pace > 2*test.limit/0.1 {
			t.Errorf("a limit of %v, %v were refused: calls start at a pace of %v", test.limit, test.bound, d.Pace)
		}
	}
}
