package adaptive

import (
	"testing"
	"time"
)

// slowed lets one call a second pass for n seconds, at a pace that was measured as that, and returns what was earned in the last of them.
func slowed(g *Governor, now time.Duration, n int) (time.Duration, float64) {
	p := &g.s.Pace[paceRequests]
	for range n {
		p.Rate, p.Known, p.Ceiling, p.Sure, p.Use = 1, 1, 1, true, 1
		g.s.Credit = 0
		now += time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 2, InFlight: 1, Waiting: 9})
	}
	return now, g.s.Credit
}

func TestGovernorLowQuotaEarnsByThePast(t *testing.T) {
	// Ten a second passed for half a minute. Now one does, and a refusal is earned in some ten seconds; after ten minutes that is past.
	g, now := paced(t)
	now, soon := slowed(g, now, 10)
	now, later := slowed(g, now, 600)
	_, late := slowed(g, now, 1200)
	if soon < 0.06 || soon > 0.14 {
		t.Errorf("earned in a second, soon after: %v", soon)
	}
	if later > 0.4*soon || late > 0.02 {
		t.Errorf("earned in a second, after ten minutes and half an hour: %v, %v", later, late)
	}
}

func TestGovernorLowQuotaIsTriedSoonAfterAPause(t *testing.T) {
	g, now := paced(t)
	p := &g.s.Pace[paceRequests]
	wait := func(rate float64, pause time.Duration) time.Duration {
		p.Rate, g.s.LastPause, g.s.PausedUntil = rate, pause, now+pause
		return g.paceProbeAt(p) - now
	}
	for _, test := range []struct {
		rate              float64
		pause, least, max time.Duration
	}{
		{20, time.Second, 24 * time.Second, 24 * time.Second}, // as much as before
		{1, time.Second, 3 * time.Second, 4 * time.Second},    // a tenth
		{20, 10 * time.Second, time.Minute, time.Minute},      // a minute at most,
		{20, time.Minute, 3 * time.Minute, 3 * time.Minute},   // and three times the pause at least
		{0.01, 0, 0, 0}, // there was none
		{0.01, 1 << 62, 3*time.Hour - time.Second, 1<<63 - 1 - now}, // whatever it was
	} {
		if w := wait(test.rate, test.pause); w < test.least || w > test.max {
			t.Errorf("at %v a second after a pause of %v it waits %v, want %v to %v", test.rate, test.pause, w, test.least, test.max)
		}
	}
}
