package adaptive

import (
	"testing"
	"time"
)

// A mean latency of days, as a damaged state may say, does not keep a pace that is told by places from letting a call start every five minutes.
func TestGovernorEvenPaceHasALeast(t *testing.T) {
	for _, test := range []struct{ mean, least, most float64 }{{1, 1, 2}, {2e5, leastPace, leastPace}} {
		g := New(Config{})
		s := &g.s
		s.Places, s.LevelSeen, s.Mean, s.Done = 1, 64, test.mean, 100
		s.Limit, s.Way, s.RefusalTime, s.At, s.BusyAt, s.Latency = 2, float32(0.3*test.mean), float32(0.3*test.mean), time.Hour, time.Hour, time.Second
		if got := g.pace(); got < test.least || got > test.most {
			t.Errorf("one place, calls that take %v s, all the same: %v a second, want %v to %v", test.mean, got, test.least, test.most)
		}
	}
}

// Nor does what a quota gives, as such a state says, where a limit holds back.
func TestGovernorHeldPaceHasALeast(t *testing.T) {
	g := New(Config{})
	s := &g.s
	s.Limit, s.Bound = 200, 201
	s.Pace[paceRequests] = PaceState{Rate: 1000, Known: 1e-6, Measured: true}
	s.Flow = 0
	if got := g.pace(); got != leastPace {
		t.Errorf("a quota of a call in eleven days, it is said: %v a second, want %v", got, leastPace)
	}
}
