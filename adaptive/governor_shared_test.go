package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorShared holds what tells that others use a limit: refusals that meant nothing, of which each was followed by another at once. A limit is
// shared then by a part of what it has at a refusal, and comes back by as many calls in a latency, whatever it has.
func TestGovernorShared(t *testing.T) {
	t.Parallel()
	soon, late := 1.0, 30.0
	for _, test := range []struct {
		gaps []float64
		want bool
	}{
		{[]float64{soon}, false},
		{[]float64{soon, soon}, false},
		{[]float64{soon, soon, soon}, true},
		{[]float64{soon, soon, late}, false}, // noise is as likely
		{[]float64{soon, soon, soon, soon}, true},
		{[]float64{soon, soon, soon, soon, late}, true},
		{[]float64{soon, soon, soon, soon, late, late}, false},
	} {
		g := New(Config{})
		s := &g.s
		s.Limit, s.Proven, s.Bound = 40, 40, 40
		for _, gap := range test.gaps {
			s.Waived, s.Debt = true, 0
			g.noise(30, gap)
			s.Proven = 40
		}
		if got := g.shared(); got != test.want {
			t.Errorf("%v calls after refusals that meant nothing: shared %v, want %v (evidence %v)", test.gaps, got, test.want, s.Sharing)
		}
	}

	gain := func(limit float64, calm float32) float64 {
		g := New(Config{})
		s := &g.s
		s.Limit, s.Sharing, s.Calm = limit, sharedSure, calm
		g.share(int(limit), 1000)
		return s.Limit - limit
	}
	if a, b := gain(14, 0), gain(25, 0); math.Abs(a-sharedGain) > 1e-9 || math.Abs(b-sharedGain) > 1e-9 {
		t.Errorf("limits of 14 and 25 gain %v and %v in a latency, want %v each", a, b, sharedGain)
	}
	if a := gain(14, 3*sharedWait-1); a < 8*sharedGain || a > 10*sharedGain {
		t.Errorf("a limit of 14 gains %v after %v latencies without a refusal", a, 3*sharedWait-1)
	}

	g := New(Config{})
	s := &g.s
	s.Limit, s.Proven, s.Bound, s.Sharing, s.Done, s.Credit, s.SlowStart = 40, 40, 40, sharedSure+1, 1000, 1, false
	now := time.Second
	g.Window(now, Window{Start: now, OK: 1, InFlight: 39, MaxInFlight: 40, Full: true})
	d := g.Ended(now, Call{SentAt: now - time.Millisecond, Episode: s.Episode, InFlight: 40}, Outcome{Class: feedback.Throttled})
	if d.Limit != 36 {
		t.Errorf("a limit of 40 that others use, too, is %d after a refusal, want 36", d.Limit)
	}
}
