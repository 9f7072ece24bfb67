package adaptive

import (
	"math"
	"testing"
	"time"
)

// What a saved state says was counted has left a window once that is over, whatever else the state says: or nothing would ever start again.
func TestRestoredCountsLeaveTheWindow(t *testing.T) {
	now := time.Hour
	known := func(of int8) GovernorState {
		return GovernorState{
			At: now, Limit: 20, Done: 1000, FlowCount: 1000, FlowAt: now, RunFrom: 1000, RingCount: 1000, TokensDone: 1e6, Second: 3600,
			Slide: SlideState{Of: of, Allows: 10_000, Ask: 1},
			Ticks: TicksState{Last: 28_800, Count: 1000},
			Spent: SpentState{Mean: 1000, Count: 1e6},
			Pace:  [numPaces]PaceState{{Rate: 1, Known: 1, Ceiling: 1, Sure: true, Measured: true, UsedAt: now, LastCount: 1000}},
		}
	}
	for name, spoil := range map[string]func(*GovernorState){
		"parts of a second that are ahead of the clock": func(s *GovernorState) {
			*s = known(slideSecond + 1)
			s.Ticks.Last, s.Slide.Allows = math.MaxInt64, 12*1000
			for i := range s.Ticks.Ring {
				s.Ticks.Ring[i] = 1000
			}
		},
		"seconds that are ahead of the clock": func(s *GovernorState) {
			*s = known(6)
			s.Second, s.Slide.Allows = math.MaxInt64, 58*100
			for i := range s.Ring {
				s.Ring[i] = 100
			}
		},
	} {
		var s GovernorState
		spoil(&s)
		g := New(Config{})
		g.Restore(now, s)
		at := now
		d := g.Decision()
		for range 1000 {
			at = max(at+100*time.Millisecond, d.NotBefore)
			if d = g.Window(at, Window{Start: at, Waiting: 3}); d.NotBefore <= at {
				break
			}
		}
		if d.NotBefore > at {
			t.Errorf("%s: nothing starts within %v: %+v", name, at-now, g.s.Slide)
		}
	}
}
