package adaptive

import (
	"math"
	"testing"
	"time"
)

// TestApart holds what is told of refusals by when their calls started to what was, whatever was proven in between.
func TestApart(t *testing.T) {
	const flow = 1000 // calls a second, so one in a millisecond
	for _, proven := range []int{0, 20} {
		g := New(Config{})
		s := &g.s
		g.advance(0)
		s.Limit, s.Flow = 200, flow
		end := func(at, sent time.Duration) {
			s.Done, s.InFlight = int64(at/time.Millisecond), 100
			s.Done -= 100 // as many started as there are milliseconds
			s.Done += s.Refused
			s.Refused++
			s.Done++
			g.endRun(at, &Call{SentAt: sent, InFlight: 90})
		}
		end(1000*time.Millisecond, 950*time.Millisecond)
		if proven > 0 {
			s.RunPast += uint16(proven) // as prove does
			s.RunFrom += float64(proven)
		}
		s.RunLevel = 80
		end(1040*time.Millisecond, 985*time.Millisecond) // known before many of those that started after the first
		if s.Apart < 33 || s.Apart > 36 {
			t.Errorf("%d calls between them, want 35", s.Apart)
		}
		if s.Proven != 80 {
			t.Errorf("%v proven by 35 accepted calls, want 80", s.Proven)
		}
		end(1041*time.Millisecond, 980*time.Millisecond)
		if s.Apart != 0 {
			t.Errorf("a call that started before the one that was refused last: %d calls between them", s.Apart)
		}
		end(1045*time.Millisecond, 988*time.Millisecond)
		if s.Apart > 4 {
			t.Errorf("%d calls between them, want 3", s.Apart)
		}
		s.Flow = 20
		if end(3000*time.Millisecond, 2950*time.Millisecond); s.Apart != 0 || s.RunPast != 0 {
			t.Errorf("one call is on its way: %d, %d", s.Apart, s.RunPast)
		}
	}
}

// TestSunkAlone holds a pace to be none when it sinks by a fifth though calls were accepted between any two that were refused, and to be one when two came together.
func TestSunkAlone(t *testing.T) {
	for _, test := range []struct {
		apart uint8
		want  bool
	}{{20, true}, {0, false}, {3, false}} {
		g := New(Config{})
		p := &g.s.Pace[paceRequests]
		*p = PaceState{Rate: 101, Known: 100, Measured: true, Sure: true}
		g.s.Apart = 20
		none := false
		for i := range 12 {
			if i == 6 {
				g.s.Apart = test.apart
			} else {
				g.s.Apart = 20
			}
			none = none || g.contradicted(p, 10, 0, &Outcome{})
			p.Known *= 0.97
			p.Rate = 1.01 * p.Known
		}
		if none != test.want {
			t.Errorf("%d calls between two that were refused: no pace is %v", test.apart, none)
		}
	}
}

// TestFallApart holds the fall of a pace that was not measured yet to what its refusal says: one of many that started was too much.
func TestFallApart(t *testing.T) {
	for _, test := range []struct {
		apart uint8
		want  float64
	}{{0, 70}, {1, 70}, {9, 90 * paceMargin}, {99, 99 * paceMargin}} {
		g := New(Config{})
		s := &g.s
		g.advance(time.Second)
		s.Apart = test.apart
		s.Pace[paceRequests] = PaceState{Rate: 100, Known: 110, Ceiling: unbounded, AnchorAt: 990 * time.Millisecond, AnchorCount: g.accepted()}
		g.paceRefused(time.Second, paceRequests, true)
		if got := s.Pace[paceRequests].Rate; math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%d calls between: a pace of %v, want %v", test.apart, got, test.want)
		}
	}
}
