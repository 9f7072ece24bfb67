package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// playPairs asks g, which suspects that a share of its calls is refused by chance, for pairs, and has of the i-th those refused that refuses says, until it is decided or n were played.
func playPairs(t *testing.T, g *Governor, n int, refuses func(i int) (first, second bool)) {
	t.Helper()
	now, done := time.Hour, 0
	for i := range n {
		var d Decision
		for at := now + time.Minute; !g.pairing(); now += 100 * time.Millisecond {
			if now > at {
				t.Fatalf("no pair in a minute: %+v, %+v", d, g.s.Floor)
			}
			if d = g.Window(now, Window{Start: now, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, Full: true, InFlight: 1, Waiting: 9}); g.s.Floor.Stage != floorSuspect {
				return
			}
			done++
		}
		now -= 100 * time.Millisecond
		if d.Until != now+time.Millisecond || d.Pace != 0 || d.Limit != 3 || d.Cause != CauseProbe {
			t.Fatalf("%+v, want two starts and a look after 1 ms", d)
		}
		d = g.Window(now+time.Millisecond, Window{Start: now, InFlight: 3, Full: true, Waiting: 7})
		if g.pairing() {
			t.Fatalf("%+v: more than one pair", d)
		}
		first, second := refuses(i)
		for j, is := range []bool{first, second} {
			if is {
				g.Ended(now+20*time.Millisecond, Call{SentAt: now, InFlight: 2 + j, Episode: d.Episode}, refused(feedback.ScopeUnknown))
			}
		}
		now += time.Second
	}
}

// suspects returns a Governor to which one call in ten is refused at a low pace.
func suspects() *Governor {
	g := New(Config{})
	g.Restore(time.Hour, GovernorState{
		At: time.Hour, Limit: 2, Flow: 3, Peak: 20, Mean: 1, Latency: time.Second, RefusalTime: 0.02, Done: 1000, InFlight: 1, Refused: 20, RunFrom: 981, RefusedLast: time.Hour,
		Floor: FloorState{Calls: 54, Late: 6, Ref: paceCodeOf(40), Stage: floorSuspect, Sum: pairMiddle, Wrong: floor429},
	})
	return g
}

// Of two calls that start together chance refuses the first only as often as the second only. Then as much is asked for as before.
func TestGovernorPairChance(t *testing.T) {
	g := suspects()
	playPairs(t, g, 20, func(i int) (first, second bool) { return i%4 == 0, i%4 == 2 })
	if g.s.Floor.Stage != floorOnTrial || g.s.Pace[paceRequests].Rate != 0 || g.s.Threshold < 10 {
		t.Errorf("%+v, slow start up to %v at a pace of %v", g.s.Floor, g.s.Threshold, g.s.Pace[paceRequests].Rate)
	}
}

// What is full refuses the second as well, or lets in the first and not the second: that is a limit, whoever uses it.
func TestGovernorPairLimit(t *testing.T) {
	for name, refuses := range map[string]func(i int) (first, second bool){
		"both":       func(int) (first, second bool) { return true, true },
		"the second": func(int) (first, second bool) { return false, true },
		"in turn":    func(i int) (first, second bool) { return i%3 == 0, i%3 < 2 },
	} {
		g := suspects()
		playPairs(t, g, 20, refuses)
		if f := g.s.Floor; f.Stage != floorUnknown || f.Wrong != floor429+1 {
			t.Errorf("%s: %+v, want that it was a limit", name, f)
		}
	}
}

// Two that did not start together tell nothing: one of them, or those that start once a place is free.
func TestGovernorPairApart(t *testing.T) {
	g := suspects()
	now := time.Hour + time.Second
	if d := g.Window(now, Window{Start: now, OK: 1, InFlight: 1, Waiting: 9, Full: true}); d.Limit != 3 || !g.pairing() {
		t.Fatalf("%+v, want a pair", d)
	}
	g.Window(now+time.Millisecond, Window{Start: now, InFlight: 2, Waiting: 8})
	g.Ended(now+20*time.Millisecond, Call{SentAt: now, InFlight: 2, Episode: g.s.Episode}, refused(feedback.ScopeUnknown))
	g.Window(now+time.Second, Window{Start: now, OK: 1, InFlight: 1, Waiting: 9, Full: true})
	if f := g.s.Floor; f.Sum != pairMiddle {
		t.Errorf("%+v, want no evidence", f)
	}
	// An end that the window belongs to frees a place after it: the pair would be three.
	now += 10 * time.Second
	if d := g.Window(now, Window{Start: now, OK: 1, InFlight: 2, Waiting: 9, Full: true}); d.Limit != 4 || !g.pairing() {
		t.Fatalf("%+v, want a pair", d)
	}
	if d := g.Ended(now, Call{SentAt: now - time.Second, InFlight: 2, Episode: g.s.Episode}, Outcome{Class: feedback.Canceled}); g.pairing() {
		t.Errorf("%+v, want no pair", d)
	}
}

// busyPair tells g at now that one call ended well and others wait, and returns whether a pair is asked for.
func busyPair(g *Governor, now time.Duration, inFlight int) (Decision, bool) {
	d := g.Window(now, Window{Start: now, OK: 1, InFlight: inFlight, MaxInFlight: inFlight, Waiting: 9, Full: true})
	return d, g.pairing()
}

// Where no two may start, or headers tell a pace, none is asked for.
func TestGovernorPairNone(t *testing.T) {
	for name, set := range map[string]func(g *Governor){
		"one place":   func(g *Governor) { g.cfg.Max = 2 },
		"told tokens": func(g *Governor) { g.s.Told[toldInput] = ToldState{Rate: 1, End: 2 * time.Hour} },
	} {
		g := suspects()
		set(g)
		for now := time.Hour + time.Second; now < time.Hour+time.Minute; now += time.Second {
			if d, asked := busyPair(g, now, 1); asked {
				t.Errorf("%s: %+v, want no pair", name, d)
				break
			}
		}
	}
}

// A call that started just before a pair, or just after it, is none of the two.
func TestGovernorPairOthers(t *testing.T) {
	for name, c := range map[string]Call{
		"before": {InFlight: 1},
		"after":  {SentAt: 2 * time.Millisecond, InFlight: 4},
	} {
		g := suspects()
		now := time.Hour + time.Second
		if _, asked := busyPair(g, now, 1); !asked {
			t.Fatal("want a pair")
		}
		g.Window(now+time.Millisecond, Window{Start: now, InFlight: 3, Waiting: 7, Full: true})
		c.SentAt += now
		c.Episode = g.s.Episode
		g.Ended(now+20*time.Millisecond, c, refused(feedback.ScopeUnknown))
		if f := g.s.Floor; f.Run&pairOpen == 0 || f.Run&(pairFirst|pairSecond) != 0 {
			t.Errorf("%s: %+v, want a pair of which none was refused", name, f)
		}
	}
}

// Where something else than places holds the two back, no call that ends makes room for a third: the law is asked first.
func TestGovernorPairThird(t *testing.T) {
	g := suspects()
	now := time.Hour + time.Second
	if d, asked := busyPair(g, now, 1); !asked || d.AskAgain > now+time.Millisecond {
		t.Errorf("%+v, a pair %v, want to be asked at the next end", d, asked)
	}
	now += 10 * time.Millisecond
	if d, _ := busyPair(g, now, 1); d.Limit > 3 || d.Pace == 0 && d.UntilFull || d.AskAgain < now+10*time.Millisecond {
		t.Errorf("%+v, want that it is over", d)
	}
}

// Where little passes, or a refusal takes long, pairs are asked for and counted, too: no more than a minute since then can be told.
func TestGovernorPairSlow(t *testing.T) {
	g := suspects()
	g.s.Flow, g.s.Floor.Ref = 0.02, paceCodeOf(0.5)
	now, asked := time.Hour, false
	for ; now < time.Hour+10*time.Minute && !asked; now += 7 * time.Second {
		g.s.Flow = 0.02
		_, asked = busyPair(g, now, 1)
	}
	if !asked {
		t.Fatalf("no pair in ten minutes: %+v", g.s.Floor)
	}
	now -= 7 * time.Second
	g.Window(now+time.Millisecond, Window{Start: now, InFlight: 3, Waiting: 7, Full: true})
	g.s.RefusalTime = 20
	for end := now + 10*time.Minute; now < end; now += time.Second {
		if g.Window(now, Window{Start: now, InFlight: 3, Waiting: 7, Full: true}); g.s.Floor.Run&pairOpen == 0 {
			return
		}
	}
	t.Errorf("%+v, want that the pair is over", g.s.Floor)
}
