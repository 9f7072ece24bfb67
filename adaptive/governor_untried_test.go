package adaptive

import (
	"testing"
	"time"
)

// Of few places one more is tried that was never refused as soon as not trying it has cost as much as a pause, and no more than that: what was refused stays refused.
func TestGovernorTriesUntried(t *testing.T) {
	const delay = 2 * time.Second
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
		g := New(Config{})
		s := g.State()
		s.At, s.PausedUntil, s.LastPause, s.ProbeAt, s.Pauses = time.Minute, time.Minute, delay, time.Hour, 1
		s.Limit, s.Places, s.Least, s.Bound, s.LastBound = float64(test.places), test.places, test.least, test.bound, test.bound
		s.Mean, s.MeanOf, s.Way, s.SlowStart, s.Credit, s.Refused, s.Done = 0.05, 32, 0.001, false, 3, 1, 1000
		s.CutAt, s.RefusedLast = time.Minute-delay, time.Minute-delay
		g.Restore(time.Minute, s)
		limit := 0
		play := func(until float64) {
			for now := g.s.At; now < time.Minute+time.Duration(until*1e9); {
				now += 5 * time.Millisecond
				limit = g.Decision().Limit
				g.Window(now, Window{Start: now - 5*time.Millisecond, OK: 1, Timed: 1, Latency: 50 * time.Millisecond, MinLatency: 50 * time.Millisecond,
					MaxInFlight: limit, InFlight: limit - 1, Waiting: 1, Full: true})
			}
		}
		if play(test.early); limit != int(test.places) {
			t.Errorf("%s: %d after %g s, want %g still", test.name, limit, test.early, test.places)
		}
		if play(test.late); float64(limit) != test.limit {
			t.Errorf("%s: %d after %g s, want %g", test.name, limit, test.late, test.limit)
		}
		if play(50); float64(limit) != test.max {
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
		g := New(Config{})
		s := g.State()
		s.At, s.PausedUntil, s.LastPause, s.ProbeAt, s.Pauses = time.Minute, time.Minute, 2*time.Second, time.Hour, 1
		s.Limit, s.Places, s.Least, s.Bound, s.LastBound = 8, 8, 8, 11, 11
		s.Mean, s.MeanOf, s.Way, s.SlowStart, s.Refused, s.Done = 0.05, 32, 0.001, false, 1, 1000
		s.CutAt, s.RefusedLast = time.Minute-2*time.Second, time.Minute-2*time.Second
		g.Restore(time.Minute, s)
		g.s.Credit = test.credit
		for now := g.s.At; now < time.Minute+time.Duration(test.at*1e9); {
			now += 10 * time.Millisecond
			n := g.Decision().Limit
			g.Window(now, Window{Start: now - 10*time.Millisecond, OK: 1, Timed: 1, Latency: 50 * time.Millisecond, MinLatency: 50 * time.Millisecond,
				MaxInFlight: n, InFlight: n - 1, Waiting: 1, Full: true})
		}
		if n := g.Decision().Limit; n != test.limit || g.s.Places != test.places {
			t.Errorf("%s: a limit of %d, %v places after %g s, want %d and %v", test.name, n, g.s.Places, test.at, test.limit, test.places)
		}
	}
}
