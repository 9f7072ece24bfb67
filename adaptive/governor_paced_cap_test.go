package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// boundedAndPaced returns a law that was refused with bound in flight and keeps a pace of three a second, of whose calls gained were accepted since, with at most top in flight.
func boundedAndPaced(bound, top float64, gained int64) *Governor {
	g := New(Config{})
	s := &g.s
	s.At, s.Limit, s.SlowStart, s.Bound, s.LastBound, s.Top, s.Proven, s.Peak, s.Mean, s.MeanOf = time.Minute, bound, false, bound, bound, top, top, float32(top), 1.5, 32
	s.Done, s.Refused, s.InFlight, s.RefusedCount = 1000, 1, int(bound), 0
	s.RefusedCount = g.accepted() - float64(gained) - 1
	s.Pace[paceRequests] = PaceState{Rate: 3, Known: 2.5, Ceiling: 3.2, Measured: true, Use: 1, AnchorAt: 50 * time.Second, AnchorCount: g.accepted() - 20}
	return g
}

// A limit of three calls is known beside a pace. When the first call that sees four in flight since is refused, as many calls later as that, it is that limit again, and
// the pace stays. Each of these refusals would lower the pace, of which the limit is no part.
func TestGovernorCapAgain(t *testing.T) {
	for _, test := range []struct {
		name          string
		bound, top, n float64
		gained        int64
		limit         bool
	}{
		{"the same number, after eight calls", 4, 3, 4, 8, true},
		{"too soon after the refusal before", 4, 3, 4, 7, false},
		{"the same number, after as many calls", 20, 19, 20, 20, true},
		{"fewer than are in flight came since", 20, 19, 20, 19, false},
		{"others saw as many", 4, 4, 4, 20, false},
		{"fewer than was refused before", 5, 3, 4, 20, false},
		{"long before as many are in flight as are known to pass", 4, 2, 4, 20, false},
		{"no limit is known", 0, 3, 4, 20, false},
		{"two, one of which was alone", 2, 1, 2, 20, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := boundedAndPaced(test.bound, test.top, test.gained)
			g.s.Limit = test.n + 1
			g.Ended(time.Minute+20*time.Millisecond, Call{SentAt: time.Minute, Episode: g.s.Episode, InFlight: int(test.n)}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
			if limit, pace := g.s.Limit, g.s.Pace[paceRequests].Rate; (limit < test.n) != test.limit || (pace < 3) == test.limit {
				t.Errorf("a refusal with %v in flight, %v before, %v went well: a limit of %v, a pace of %v", test.n, test.bound, test.top, limit, pace)
			}
		})
	}
}

// Where something speaks for noise, a number says nothing.
func TestGovernorCapAgainNoise(t *testing.T) {
	for _, test := range []struct {
		noise float32
		want  bool
	}{{0, true}, {noiseTrial, false}} {
		g := boundedAndPaced(4, 3, 20)
		g.s.Chance = test.noise
		if got := g.capAgain(4, 3, 20); got != test.want {
			t.Errorf("evidence for noise %v: the limit again is %v, want %v", test.noise, got, test.want)
		}
	}
}

// When a limit is found beside a pace, the pace is set to what as many calls give. That is a guess: refusals at a pace below it are no evidence that no quota refuses.
func TestGovernorPacedCapMeasuresNothing(t *testing.T) {
	g := boundedAndPaced(0, 3, 20)
	s := &g.s
	s.Limit, s.MeanLevel, s.CapAt, s.CapLike, s.CapRate = 10, 2, 4, pacedCapHits-1, 2
	g.Ended(time.Minute+20*time.Millisecond, Call{SentAt: time.Minute, Episode: s.Episode, InFlight: 4}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
	if s.Bound != 4 || s.Limit >= 4 {
		t.Fatalf("a limit of %v, %v were refused; want below 4, 4", s.Limit, s.Bound)
	}
	if p := &s.Pace[paceRequests]; p.Rate < 3 || p.Measured || p.Sure {
		t.Errorf("a pace of %v, measured: %v, sure: %v; want 3 at least, and neither", p.Rate, p.Measured, p.Sure)
	}
}
