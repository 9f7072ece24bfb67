package adaptive

import (
	"testing"

	"github.com/flyball-go/flyball/feedback"
)

// A refusal that a probe caused is owed when nothing is left of the budget; one that came at a pace that was known to be fine is not.
func TestGovernorOwesForProbes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pace  PaceState
		turn  TurnState
		least float64
	}{
		{"no pace", PaceState{}, TurnState{}, 0},
		{"at a fine pace", PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{}, 0},
		{"above what is not sure", PaceState{Rate: 12, Known: 10, Ceiling: 13, Measured: true, Use: 1}, TurnState{}, 0},
		{"a probe", PaceState{Rate: 12, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{}, -probeOwed},
		{"in a window", PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{Period: 60, Allows: 600, Ask: 1}, -mostOwed},
	} {
		g := New(Config{})
		g.s.At, g.s.Origin = 0, 0
		g.s.Credit, g.s.Pace[paceRequests], g.s.Turn = 0, tt.pace, tt.turn
		for range 20 {
			c := Call{SentAt: g.s.At, Episode: g.s.Episode - 1, InFlight: 5} // all of the same row
			if g.s.Refused == 0 {
				c.Episode = g.s.Episode
			}
			g.Ended(g.s.At, c, Outcome{Class: feedback.Throttled})
		}
		if g.s.Credit != tt.least {
			t.Errorf("%s: %v left after twenty refusals, want %v", tt.name, g.s.Credit, tt.least)
		}
	}
}
