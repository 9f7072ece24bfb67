package adaptive

import (
	"testing"
	"time"
)

// delayed returns a law that counted so many places in a pause that was just over, after a refusal of a call that saw bound.
func delayed(places, least float32, bound float64) *Governor {
	g := New(Config{})
	s := g.State()
	s.At, s.PausedUntil, s.LastPause, s.ProbeAt, s.Pauses = time.Minute, time.Minute, 2*time.Second, time.Hour, 1
	s.Limit, s.Places, s.Least, s.Bound, s.LastBound = float64(places), places, least, bound, bound
	s.Mean, s.MeanOf, s.Way, s.SlowStart, s.Credit, s.Refused, s.Done = 0.05, 32, 0.001, false, 3, 1, 1000
	s.CutAt, s.RefusedLast = s.At-s.LastPause, s.At-s.LastPause
	g.Restore(s.At, s)
	return g
}

// inUse has calls end one after the other with the limit in use, until so many s after the first minute, and returns the limit then.
func inUse(g *Governor, until float64) int {
	const each, took = 5 * time.Millisecond, 50 * time.Millisecond
	for now := g.s.At; now < time.Minute+time.Duration(until*1e9); {
		now += each
		n := g.Decision().Limit
		g.Window(now, Window{Start: now - each, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: n, InFlight: n - 1, Waiting: 1, Full: true})
	}
	return g.Decision().Limit
}

// Of few places one more is tried that was never refused as soon as not trying it has cost as much as a pause, and no more than that: what was refused stays refused.
func TestGovernorTriesUntried(t *testing.T) {
	for _, test := range []struct {
		name                    string
		places, least           float32
		bound                   float64
		early, late, limit, max float64 // s after the pause at which it is not tried yet, and is; the limit after that and to the end
	}{
		{"one that was never refused", 2, 2, 4, 3, 5, 3, 3},
		{"two of more", 8, 8, 11, 6, 9, 9, 10},
		{"all places are known to have been taken", 2, 0, 4, 40, 41, 2, 2},
		{"all but what was counted were refused", 3, 3, 4, 40, 41, 3, 3},
		{"of many", 30, 30, 40, 40, 41, 30, 30},
	} {
		g := delayed(test.places, test.least, test.bound)
		if limit := inUse(g, test.early); limit != int(test.places) {
			t.Errorf("%s: %d after %g s, want %g still", test.name, limit, test.early, test.places)
		}
		if limit := inUse(g, test.late); float64(limit) != test.limit {
			t.Errorf("%s: %d after %g s, want %g", test.name, limit, test.late, test.limit)
		}
		if limit := inUse(g, 50); float64(limit) != test.max {
			t.Errorf("%s: %d in the end, want %g", test.name, limit, test.max)
		}
	}
}

// What was tried and not refused has places. The next one waits as long again, for itself, and none is tried while no refusal can be afforded.
func TestGovernorTriesUntriedInTurn(t *testing.T) {
	for _, test := range []struct {
		name   string
		credit float64
		at     float64 // s after the pause
		limit  int
		places float32
	}{
		{"one", 3, 20, 9, 8},
		{"and the next", 3, 35, 10, 9},
		{"not while no refusal can be afforded", -50, 20, 8, 8},
	} {
		g := delayed(8, 8, 11)
		g.s.Credit = test.credit
		if n := inUse(g, test.at); n != test.limit || g.s.Places != test.places {
			t.Errorf("%s: a limit of %d, %v places after %g s, want %d and %v", test.name, n, g.s.Places, test.at, test.limit, test.places)
		}
	}
}
