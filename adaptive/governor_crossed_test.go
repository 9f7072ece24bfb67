package adaptive

import (
	"math"
	"testing"
	"time"
)

// refusedAt returns the pace at which a quota refuses that gives rate and saves up calls, when the pace rises through rate by a factor of e in seconds.
func refusedAt(rate, calls, seconds float64) float64 {
	lo, hi := 0.0, 3.0
	for range 60 {
		if y := (lo + hi) / 2; rate*seconds*(math.Expm1(y)-y) < calls {
			lo = y
		} else {
			hi = y
		}
	}
	return rate * math.Exp(lo)
}

// climbed returns a governor that met a quota twice, first while its pace rose fast, and what the second refusal tells. A refusal takes 20 ms, and names 1 s.
func climbed(t *testing.T, rate, calls float64, change func(*GovernorState, *PaceState)) (*Governor, float64) {
	t.Helper()
	g := New(Config{})
	s, p := &g.s, &g.s.Pace[paceRequests]
	s.At, s.Mean, s.RefusalTime = time.Minute, 0.1, 0.02
	s.LastPause, s.PausedUntil = time.Second, s.At+time.Second
	late := func(pace, rises, call float64) float64 { // what it is when that is known
		now := pace
		for range 20 {
			now = pace * math.Exp(0.02/rises+min(call, 1/(now*rises)))
		}
		return now
	}
	*p = PaceState{Rate: late(refusedAt(rate, calls, 2), 2, 0.2), Known: rate / 3, Ceiling: unbounded, Measured: true}
	if got, fast := g.crossed(p, rate/3, 100, 0); got != 0 || !fast {
		t.Fatalf("the first refusal tells %v, and that the pace rose fast: %v, want 0, true", got, fast)
	}
	*p = PaceState{Rate: late(refusedAt(rate, calls, 8), 8, 0.03), Known: 0.85 * rate, Ceiling: 0.85 * rate, Sure: true, Measured: true}
	if change != nil {
		change(s, p)
	}
	got, fast := g.crossed(p, 0.9*rate, 100, 0)
	if fast {
		t.Error("the second refusal came while the pace rose fast, want slowly")
	}
	return g, got
}

// What a quota gives is told by two paces that it refuses, of which one rose four times as fast, whatever it saves up.
func TestGovernorTellsAQuotaByTwoPaces(t *testing.T) {
	for _, rate := range []float64{0.2, 2, 20, 200} {
		for _, calls := range []float64{0, 0.01 * rate, 0.05 * rate, 0.08 * rate} {
			if _, got := climbed(t, rate, calls, nil); math.Abs(got/rate-1) > 0.02 {
				t.Errorf("%v a second and %v saved up: told %v", rate, calls, got)
			}
		}
	}
	for name, test := range map[string]struct {
		calls  float64
		change func(*GovernorState, *PaceState)
	}{
		"much is saved up":                 {calls: 100},
		"it gives half as much":            {change: func(_ *GovernorState, p *PaceState) { p.Rate, p.Known, p.Ceiling = 10, 8, 8 }},
		"it gives twice as much":           {change: func(_ *GovernorState, p *PaceState) { p.Rate = 40 }},
		"the pace rose fast through it":    {change: func(_ *GovernorState, p *PaceState) { p.Known, p.Ceiling = 20.2, 20.7 }},
		"the pace began above it":          {change: func(_ *GovernorState, p *PaceState) { p.Known = 21 }},
		"a delay that no bucket names":     {change: func(s *GovernorState, _ *PaceState) { s.LastPause = 3 * time.Second }},
		"no delay":                         {change: func(s *GovernorState, _ *PaceState) { s.PausedUntil = 0 }},
		"another quota was learned before": {change: func(s *GovernorState, _ *PaceState) { s.Fast = 0 }},
	} {
		if _, got := climbed(t, 20, test.calls, test.change); got != 0 {
			t.Errorf("%s: told %v, want nothing", name, got)
		}
	}
}

// What is told so counts in place of what passed, or of a guess between that and the pace; and where the first pace gives a guess only, the second one is tried at once.
func TestGovernorKeepsWhatTwoPacesTell(t *testing.T) {
	g, _ := climbed(t, 20, 0, nil)
	p := &g.s.Pace[paceRequests]
	g.measure(paceRequests, 320, 20, 1, 1, 0)
	if math.Abs(p.Known-20) > 0.4 || !p.Sure || p.Guess != 0 {
		t.Errorf("16 a second passed, and two paces tell 20: known %v, sure %v, guess %v, want 20, true, 0", p.Known, p.Sure, p.Guess)
	}

	*p = PaceState{Rate: 21, Known: 5, Ceiling: unbounded, Lowest: 5, Measured: true}
	g.measure(paceRequests, 200, 20, 1, 1, 0)
	if p.Guess == 0 || p.Sure || p.Ceiling != p.Known {
		t.Errorf("10 a second passed, and 21 were refused while the pace rose fast: guess %v, sure %v, ceiling %v of %v, want one that is tried, slowly", p.Guess, p.Sure, p.Ceiling, p.Known)
	}
}

// A pace that is kept as a code is the same but for a thousandth.
func TestPaceCode(t *testing.T) {
	for _, rate := range []float64{leastPace * 1.001, 0.1, 1, 37, 1e6, fastest} {
		if got := paceOf(paceCodeOf(rate)); math.Abs(got/rate-1) > 1e-3 {
			t.Errorf("%v is kept as %v", rate, got)
		}
	}
	if got := paceOf(paceCodeOf(0)); !(got > 0) {
		t.Errorf("0 is kept as %v", got)
	}
}
