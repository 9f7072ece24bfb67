package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// "A caller's own deadline tells of the upstream when a sound call would have been done by then."
func TestGovernorDeadline(t *testing.T) {
	const s = time.Second
	end := func(g *Governor, now time.Duration, class uint8, took time.Duration) {
		var of [NumClasses]ClassSum
		of[class] = ClassSum{Timed: 1, Latency: took}
		g.Window(now, Window{
			Start: now, OK: 1, Timed: 1, Latency: took, MinLatency: took, Classes: &of, MaxInFlight: 10, Full: true, InFlight: 10, Waiting: 9,
		})
	}
	calm := func(took time.Duration) func(*Governor) time.Duration {
		return func(g *Governor) time.Duration {
			for i := range 100 {
				end(g, 10*s+time.Duration(i)*s/10, 0, took)
			}
			return 20 * s
		}
	}
	// after has calls take long from the first, but quick with five in flight, some time ago.
	after := func(long, quick, ago time.Duration, counts uint8) func(*Governor) time.Duration {
		return func(g *Governor) time.Duration {
			now := calm(long)(g)
			g.s.Cells[5] = CellState{Level: 5, Rate: 5, Latency: float32(quick.Seconds()), At: float32((g.s.At - g.s.Origin - ago).Seconds())}
			g.s.Counts = counts
			return now
		}
	}
	for _, c := range []struct {
		name  string
		learn func(*Governor) time.Duration
		class uint8
		took  time.Duration // until the deadline
		later time.Duration
		tells bool
	}{
		{"nothing is known", func(*Governor) time.Duration { return 20 * s }, 0, 2500 * time.Millisecond, 0, true},
		{"shorter than a sound call", calm(3 * s), 0, 2500 * time.Millisecond, 0, false},
		{"longer than a sound call", calm(3 * s), 0, 3100 * time.Millisecond, 0, true},
		{"much longer", calm(s), 0, 5 * s, 0, true},
		{"nothing ends any more", calm(3 * s), 0, 2500 * time.Millisecond, 13 * s, true},
		{"in an overload a sound call is what it was", func(g *Governor) time.Duration {
			calm(s)(g)
			for i := range 100 {
				end(g, 20*s+time.Duration(i)*s/10, 0, 10*s)
			}
			return 30 * s
		}, 0, 5 * s, 0, true},
		{"the first calls were slow, and calls take as long again", after(10*s, s, 0, byCalls), 0, 5 * s, 0, true},
		{"a deadline that is shorter than calls took since", after(10*s, 2*s, 0, byCalls), 0, 1500 * time.Millisecond, 0, false},
		{"the first calls were a little slower", after(10*s, 6*s, 0, byCalls), 0, 8 * s, 0, false},
		{"that was long ago", after(10*s, s, ageCells*s, byCalls), 0, 5 * s, 0, false},
		{"levels are counted otherwise", after(10*s, s, 0, byLatency), 0, 5 * s, 0, false},
		{"an upstream that became quicker", func(g *Governor) time.Duration {
			calm(3 * s)(g)
			for i := range 100 {
				end(g, 20*s+time.Duration(i)*s/10, 0, s)
			}
			return 30 * s
		}, 0, 2500 * time.Millisecond, 0, true},
		{"an answer that begins late", func(g *Governor) time.Duration {
			for range firstCalls {
				g.Began(15*s, Call{SentAt: 14 * s, InFlight: 10})
			}
			return calm(30 * s)(g)
		}, 0, 5 * s, 0, true},
		{"an answer that begins later than that", func(g *Governor) time.Duration {
			for range firstCalls {
				g.Began(15*s, Call{SentAt: 8 * s, InFlight: 10})
			}
			return calm(30 * s)(g)
		}, 0, 5 * s, 0, false},
		{"a class of short calls", func(g *Governor) time.Duration {
			for i := range 400 {
				end(g, 10*s+time.Duration(i)*s/40, uint8(i%2), time.Duration(1+19*(i%2))*s)
			}
			return 20 * s
		}, 0, 5 * s, 0, true},
		{"a class of long calls", func(g *Governor) time.Duration {
			for i := range 400 {
				end(g, 10*s+time.Duration(i)*s/40, uint8(i%2), time.Duration(1+19*(i%2))*s)
			}
			return 20 * s
		}, 1, 12 * s, 0, false},
		{"a class that is not known beside others", func(g *Governor) time.Duration {
			for i := range 400 {
				end(g, 10*s+time.Duration(i)*s/40, uint8(i%2), time.Duration(20-19*(i%2))*s)
			}
			return 20 * s
		}, 2, 2 * s, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, own := range []bool{true, false} {
				g := New(Config{})
				now := c.learn(g) + c.later
				before := g.Decision().Episode
				call := Call{SentAt: now - c.took, InFlight: 10, Episode: before, Class: c.class}
				after := g.Ended(now, call, Outcome{Class: feedback.Timeout, Deadline: own})
				if cut := after.Episode != before; cut != (c.tells || !own) {
					t.Errorf("a time-out after %v, of the caller's own deadline %v, cuts: %v, want %v", c.took, own, cut, c.tells || !own)
				}
			}
		})
	}
}

// A state that says of several classes, and not which came first, is none that learning leads to.
func TestGovernorDeadlineOfRestoredClasses(t *testing.T) {
	s := New(Config{}).State()
	s.At, s.Limit, s.PassedAt = time.Minute, 10, time.Minute
	s.Line.N, s.Mean, s.Size.Mixed, s.Size.Of[0] = baseCalls, 3, true, classCalls
	g := New(Config{})
	g.Restore(time.Minute, s)
	g.Ended(time.Minute, Call{SentAt: 58 * time.Second, InFlight: 1}, Outcome{Class: feedback.Timeout, Deadline: true})
	if g.s.Size.Mixed {
		t.Error("several classes without a first one were restored")
	}
}
