package adaptive

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever a saved state says, in whichever field: what it holds back ends.
func TestPropGovernorRestoredEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var s GovernorState
		fill(reflect.ValueOf(&s).Elem(), rng)
		now := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "now"))
		g := New(Config{})
		g.Restore(now, s)
		if d := g.Decision(); d.NotBefore > now+longestHold {
			t.Fatalf("nothing starts until %v, %v from now", d.NotBefore, d.NotBefore-now)
		}
		for i := range g.s.Pace {
			if rate := g.s.Pace[i].Rate; rate > 0 && rate < leastTold {
				t.Fatalf("a pace of %v", rate)
			}
		}
		// What headers told has ended after an hour.
		now += time.Hour + time.Second
		if d := g.Window(now, Window{Start: now}); d.Until != 0 || g.toldPace() != 0 {
			t.Fatalf("a pace of %v that headers told lasts until %v, %v from now", g.toldPace(), d.Until, d.Until-now)
		}
	})
}

// The window that was used up is found in constant time, however long ago one turned.
func TestTurnedLongAgo(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, now := range []time.Duration{100 * 365 * 24 * time.Hour, math.MaxInt64 - 2} {
			g := New(Config{})
			g.s.Turn = TurnState{Period: 10, Allows: 20, Ask: 1}
			g.s.At = now
			g.s.Streak, g.s.DarkSince, g.s.DarkLast = 4, now-time.Second, now
			g.turnedAgain(now, now, 30)
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("it takes for ever")
	}
}
