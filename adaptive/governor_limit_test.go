package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// bounded returns a law with a limit of n calls that take 0.1 s, where one was refused that saw bound, and the time.
func bounded(n, bound float64) (*Governor, time.Duration) {
	g, now := warm(20)
	s := &g.s
	s.Limit, s.Bound, s.LastBound, s.Flight, s.Top, s.Proven = n, bound, bound, n, n, n
	s.SlowStart, s.Threshold, s.Recovering, s.Open, s.Test, s.Mean, s.Latency, s.Good, s.Old = false, 0, false, false, 3, 0.1, 100*time.Millisecond, 0, 0
	return g, now
}

// epoch has as many calls end as the limit allows.
func epoch(g *Governor, now time.Duration) time.Duration {
	for range 20 {
		now += 5 * time.Millisecond
		n := g.Decision().Limit
		g.Window(now, Window{Start: now - 5*time.Millisecond, OK: n/20 + 1, Timed: n/20 + 1, Latency: time.Duration(n/20+1) * 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: n, InFlight: n, Waiting: 9, Full: true})
	}
	return now
}

func TestGovernorTakesTheRestOfTheWay(t *testing.T) {
	// Up to 0.98 of what was refused the way is known, half of it in each epoch. What is less than the first step beyond, a 32nd, is taken at once: by halves a limit
	// of a thousand takes five epochs more, until more is tried.
	for _, test := range []struct{ from, want float64 }{{900, 940}, {960, 980}} {
		g, now := bounded(test.from, 1000)
		epoch(g, now)
		if got := g.s.Limit; got != test.want {
			t.Errorf("a limit of %v, 1000 were refused: %v after an epoch, want %v", test.from, got, test.want)
		}
	}
}

func TestGovernorSpreadsASteppedLimit(t *testing.T) {
	// A limit of 1000 is raised by 31 calls. A quota that the limit hides and that allows 16 at once would refuse half of them. One of 40 is raised by one, and where
	// nothing was refused yet no quota is near.
	for _, test := range []struct {
		limit, bound float64
		spread       bool
	}{{1000, 1040, true}, {40, 42, false}, {1000, 0, false}} {
		g, now := bounded(test.limit, test.bound)
		g.Window(now, Window{Start: now - time.Millisecond, OK: 1, Timed: 1, Latency: 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: int(test.limit), InFlight: int(test.limit) - 1, Waiting: 9, Full: true})
		if d := g.Decision(); (d.Pace > 0) != test.spread || d.Pace > 2*test.limit/0.1 {
			t.Errorf("a limit of %v, %v were refused: calls start at a pace of %v", test.limit, test.bound, d.Pace)
		}
	}
}

func TestGovernorFirstBeyondEndsTheTest(t *testing.T) {
	// Of few calls any two numbers are the same, so that a limit of two would be asked by starts that are spread for good, and a tenth of it left free. But where many
	// calls saw two in flight, none was refused, and the first one that saw three is, a limit refuses.
	for _, test := range []struct {
		name     string
		accepted int64 // since the refusal before
		spread   bool
	}{{"after 6 calls", 6, true}, {"after 40 calls", 40, false}} {
		g, now := bounded(3, 3)
		s := &g.s
		s.Test, s.Flight, s.Top, s.Proven, s.Peak, s.InFlight = 1, 2, 2, 2, 2, 3
		s.Refuted, s.Credit = 1, maxCredit // no second trial yet, nor slow start
		s.RefusedCount = g.accepted() - float64(test.accepted) - 1
		now += time.Second
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 3, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
		d := g.Decision()
		for i := 0; i < 10 && (i == 0 || d.Limit < 2); i++ {
			now += 100 * time.Millisecond
			d = g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: 1, InFlight: 1, Waiting: 9, Full: true})
		}
		if d.Limit != 2 || (d.Pace > 0) != test.spread {
			t.Errorf("three in flight are refused %s that saw two: a limit of %d, starts at a pace of %v", test.name, d.Limit, d.Pace)
		}
	}
}

// Of few calls the test of evenness begins anew where the number is another one, and where it is the same it has ended for good.
func TestGovernorOtherNumberBeginsTheTestAnew(t *testing.T) {
	for _, test := range []struct {
		name   string
		bound  float64
		n      int
		before int8
		after  int8
	}{
		{"another number", 5, 6, 3, 1},
		{"the same number", 5, 5, 3, 3},
		{"the same number, of four and fewer", 3, 3, 3, 3},
		{"the same number of four and fewer, not ended yet", 3, 3, 2, 1},
		{"another number, of many", 40, 41, 2, 3},
	} {
		g, now := bounded(test.bound, test.bound)
		s := &g.s
		s.Test, s.Refuted, s.InFlight, s.Peak, s.Proven = test.before, 1, test.n, 2, 2
		s.RefusedCount = g.accepted() - 20
		now += time.Second
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: test.n, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
		if g.s.Test != test.after {
			t.Errorf("%s: %d of the test, want %d", test.name, g.s.Test, test.after)
		}
	}
}

// Of few in flight a tenth is no whole call, so only the one that was refused is given up, each time; of many it is one and more, and where the boundary is known for each fourth refusal.
func TestGovernorFewGiveUpWhatWasRefusedOnly(t *testing.T) {
	for _, test := range []struct {
		limit   float64
		sharp   int8
		against float32
		want    [4]int // the limits in force after refusals of one call more
	}{
		{2, 0, 0, [4]int{2, 2, 2, 2}}, {5, 0, 0, [4]int{5, 5, 5, 5}}, {7, 8, 0, [4]int{7, 7, 7, 7}},
		{10, 0, 0, [4]int{9, 9, 9, 9}}, {10, 8, 0, [4]int{10, 10, 10, 9}},
		{5, 0, 1.5, [4]int{4, 4, 4, 4}}, // it may be a quota, which refuses as soon again
	} {
		for i, want := range test.want {
			g, now := bounded(test.limit, test.limit+1)
			s := &g.s
			s.Sharp, s.Yield, s.Credit, s.Refuted, s.Against = test.sharp, uint8(i), maxCredit, 3, test.against
			s.InFlight, s.Flight, s.Top, s.RefusedCount = int(test.limit)+1, test.limit, test.limit, g.accepted()-200
			s.Peak = float32(test.limit)
			now += time.Second
			g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: int(test.limit) + 1, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
			if got := g.Decision().Limit; got != want {
				t.Errorf("a limit of %v, one more was refused, as %d times before: %d, want %d", test.limit, i, got, want)
			}
		}
	}
}
