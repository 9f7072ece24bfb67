package adaptive

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Where next to nothing ends any more with many in flight, and fewer did much, the limit goes back to those.
func TestGovernorGoesBackToWhatDidMost(t *testing.T) {
	for _, c := range []struct {
		name string
		each time.Duration // after which one ends with 30 in flight
		back bool
	}{
		{"hardly any ends", 3 * time.Second, true},
		{"half as many end", 200 * time.Millisecond, false},
	} {
		g := New(Config{})
		now := time.Duration(0)
		g.s.Limit, g.s.SlowStart, g.s.Mean, g.s.MeanOf = 10, false, 1, 32
		ends := func(n, level int, every time.Duration) {
			for range n {
				now += every
				g.Window(now, Window{Start: now - every, OK: 1, InFlight: level, MaxInFlight: level, Full: true})
			}
		}
		ends(60, 10, 100*time.Millisecond)
		g.s.Limit = 30
		ends(int(6*time.Second/c.each), 30, c.each)
		if back := g.s.Limit <= 10; back != c.back {
			t.Errorf("%s: limit %.0f, want at most 10: %v", c.name, g.s.Limit, c.back)
		}
		if g.s.Drain != 0 {
			t.Errorf("%s: %v are to tell how steep it is", c.name, g.s.Drain)
		}
	}
}

// What did most with few in flight is forgotten where calls take a hundred times as long from then on: as many in flight do as little. Else the
// limit would go back to those few for ever.
func TestGovernorForgetsWhatDidMost(t *testing.T) {
	for _, few := range []int{1, 2, 3, 6} {
		const change, length, many = time.Minute, 20 * time.Minute, 50
		random := rand.New(rand.NewPCG(1, uint64(few)))
		g := New(Config{})
		var inFlight ends
		window := time.Duration(0)
		for now := 5 * time.Millisecond; now < length; now += 5 * time.Millisecond {
			callers, took := few, 100*time.Millisecond
			switch {
			case now >= change:
				callers, took = many, 10*time.Second
			case few > 1 && now/(250*time.Millisecond)%2 == 0:
				callers--
			}
			n, done := len(inFlight), 0
			for len(inFlight) > 0 && inFlight[0] <= now {
				heap.Pop(&inFlight)
				done++
			}
			if done > 0 || now%(500*time.Millisecond) == 0 {
				left, limit := len(inFlight), g.Decision().Limit
				g.Window(now, Window{
					Start: window, OK: done, Timed: done, Latency: time.Duration(done) * took, MinLatency: took, MaxInFlight: n, Full: n >= limit,
					InFlight: left, Waiting: max(0, callers-max(left, limit)),
				})
				window = now
			}
			for d := g.Decision(); now >= d.NotBefore && len(inFlight) < min(d.Limit, callers); {
				heap.Push(&inFlight, now+took/2+time.Duration(random.Float64()*float64(took)))
			}
		}
		if g.s.Limit < many {
			t.Errorf("%d at first: a limit of %.0f after 19 minutes, want %d", few, g.s.Limit, many)
		}
	}
}

// While more are in flight than did most, because the limit has just gone back to those, that nothing ends says nothing of them.
func TestGovernorRemembersWhatDidMostUntilOthersEnded(t *testing.T) {
	g := New(Config{})
	g.s.Limit, g.s.SlowStart, g.s.Mean, g.s.MeanOf = 10, false, 1, 32
	g.s.Most = MostState{Level: 10, Rate: 10}
	now := time.Duration(0)
	idle := func(inFlight int) {
		for range 20 {
			now += 500 * time.Millisecond
			g.Window(now, Window{Start: now, InFlight: inFlight, MaxInFlight: inFlight, Full: true})
		}
	}
	if idle(30); g.s.Most.Level != 10 {
		t.Errorf("forgotten with 30 in flight: %+v", g.s.Most)
	}
	if idle(10); g.s.Most.Level != 0 {
		t.Errorf("none of 10 in flight ended for ten times what they took, and they are still what did most: %+v", g.s.Most)
	}
}

// A call that began before the limit was lowered because calls take longer, and times out, does not bring back what it saw.
func TestGovernorTimeoutOfBeforeBoundsNothing(t *testing.T) {
	g := New(Config{})
	g.s.Limit, g.s.SlowStart = 20, false
	g.Ended(time.Minute, Call{SentAt: 0, InFlight: 120, Episode: g.s.Episode}, Outcome{Class: feedback.Timeout})
	if g.s.Bound > 20 {
		t.Errorf("bound %.0f, want at most 20", g.s.Bound)
	}
}
