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
		"tokens of calls that tell none": func(s *GovernorState) {
			*s = known(slideTokenWindow + 1)
			s.Spent.Mean, s.Slide.Allows = 0, 9300 // about as many as the ring says
			for i := range s.Spent.Ring {
				s.Spent.Ring[i] = tokenCode(160)
			}
		},
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

// A few answers that tell absurd costs hold nothing back for longer than a window: what no ring of seconds can hold is not counted for minutes.
func TestAbsurdTokensLeaveTheWindow(t *testing.T) {
	g := New(Config{})
	now := time.Hour
	for range 100 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Tokens: 1000, OutputTokens: 200, MaxInFlight: 2, InFlight: 2, Waiting: 3, Full: true})
	}
	for range 50 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Tokens: math.MaxInt64, MaxInFlight: 2, InFlight: 2, Waiting: 3, Full: true})
	}
	for end := now + 3*time.Minute; now < end; {
		now += time.Second
		g.Window(now, Window{Start: now, Waiting: 3})
	}
	if n := g.tokensSince(now - time.Minute); n > float64(g.s.Spent.Mean) {
		t.Errorf("%.3g tokens in the last minute, in which nothing was in flight", n)
	}
}

// What was counted too much, because a few answers told absurd costs, is not taken off what is spent hours later.
func TestAbsurdTokensAreNotOwed(t *testing.T) {
	g := New(Config{})
	now := time.Hour
	tell := func(seconds int, tokens int64) {
		for range 10 * seconds {
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Tokens: tokens, OutputTokens: tokens / 5, MaxInFlight: 100, InFlight: 100, Waiting: 3, Full: true})
		}
	}
	tell(60, 1000)
	tell(2, 1e9)
	tell(600, 1000)
	if got, want := g.tokensSince(now-time.Minute), 600*1000.0; math.Abs(got/want-1) > 0.1 {
		t.Errorf("%.0f tokens in the last minute, want %.0f", got, want)
	}
}

// What calls in flight count for besides what calls cost leaves a window of tokens as they do: calls that take many minutes keep nothing from starting.
func TestLongCallsLeaveTheWindow(t *testing.T) {
	now := time.Hour
	g := New(Config{})
	g.Restore(now, GovernorState{
		At: now, Limit: 20, Done: 1000, InFlight: 5, FlowCount: 1005, FlowAt: now, RunFrom: 1000, RingCount: 1005, TokensDone: 1e6, Second: 3600,
		Slide: SlideState{Of: slideTokenWindow + 1, Allows: 50_400, Ask: 1, Flight: 10, FlightFlight: 20, FlightTokens: -220_000},
		Spent: SpentState{Mean: 1000, Count: 1e6 + 5000},
		Pace:  [numPaces]PaceState{{Rate: 1, Known: 1, Ceiling: 1, Sure: true, Measured: true, UsedAt: now, LastCount: 1000}},
	})
	if extra := g.s.Slide.extra(1000); extra < 9_999 {
		t.Fatalf("a call in flight counts for %.0f tokens besides, so that this tests nothing", extra)
	}
	at := now
	d := g.Decision()
	for at < now+5*time.Minute {
		at = max(at+100*time.Millisecond, d.NotBefore)
		if d = g.Window(at, Window{Start: at, InFlight: 5, Waiting: 3}); d.NotBefore <= at {
			break
		}
	}
	if d.NotBefore > at {
		t.Errorf("nothing starts within %v: room for %v", at-now, g.s.Slide.Room)
	}
}
