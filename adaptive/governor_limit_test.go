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
