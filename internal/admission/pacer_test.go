package admission

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/adaptive"
)

// A pace that is lifted and set again at another rate leaves no debt of days behind: what was owed at a slow pace is no more at a fast one.
func TestPaceLiftedAndSet(t *testing.T) {
	var p atomicPacer
	now := time.Minute
	p.set(now, 0.125, 1) // a start in 8 s
	if !p.trySpend(now) || p.trySpend(now) {
		t.Fatal("a start, and only one, passes at first")
	}
	for range 10 {
		p.set(now, 0, 1)
		p.set(now, 1000, 1)
		p.set(now, 0, 1)
		p.set(now, 0.125, 1)
	}
	next := p.at(now)
	if next > now+8*time.Second {
		t.Errorf("the next start may come in %v, want in 8 s at most", next-now)
	}
	if !p.trySpend(next) || p.at(next) != next+8*time.Second {
		t.Errorf("the one after it may come in %v, want in 8 s", p.at(next)-next)
	}
}

// Whatever paces follow each other, with and without one in between: nobody waits longer than for one start, and no more starts pass than
// the pace and the depth allow.
func TestPropPace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p atomicPacer
		var now time.Duration
		owed := 0.0 // of the depth, in starts, as exact as may be
		rate, depth := 0.0, 1.0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			gap := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "gap"))
			now += gap
			owed = max(0, owed-rate*gap.Seconds())
			if rapid.Bool().Draw(t, "set") {
				rate = rapid.SampledFrom([]float64{0, 0, 0.01, 0.2, 3, 500, 1e5}).Draw(t, "rate")
				depth = rapid.SampledFrom([]float64{1, 3, 20}).Draw(t, "depth")
				p.set(now, rate, depth)
				owed = min(owed, depth) // what was spent at a larger depth is forgiven
			}
			if rate == 0 {
				owed = 0 // nothing is owed while anything passes
				if !p.trySpend(now) {
					t.Fatal("held back without a pace")
				}
				continue
			}
			unit := time.Duration(float64(time.Second) / rate)
			if at := p.at(now); at > now+unit+2 {
				t.Fatalf("the next start may come in %v, one takes %v", at-now, unit)
			}
			for range rapid.IntRange(0, 30).Draw(t, "starts") {
				if !p.trySpend(now) {
					break
				}
				owed++
				if owed > depth+0.01 {
					t.Fatalf("%.2f starts were owed at a depth of %.0f", owed, depth)
				}
			}
		}
	})
}

// A depth of thousands at a fast pace is not owed at a slow one, but what a large request borrowed is.
func TestPaceFalls(t *testing.T) {
	var p pacer
	p.set(0, 10_000, 20_000)
	p.spend(0, 20_000)
	p.set(0, 10, 20)
	if at := p.at(0, 20); at != 2*time.Second {
		t.Errorf("20 of 20 units in %v, want 2 s", at)
	}
	p.spend(2*time.Second, 500)
	p.set(2*time.Second, 100, 200)
	if got, want := p.at(2*time.Second, 200)-2*time.Second, 5*time.Second; got != want {
		t.Errorf("after 500 units at a depth of 20 a full bucket of 200 in %v, want %v", got, want)
	}
}

// A pace that ends at an instant ends then, although nobody's call does, and those who wait for it start.
func TestPaceUntil(t *testing.T) {
	b := newBench(t, 100, nil)
	b.law.d.Pace, b.law.d.Until = 0.001, 30*time.Second
	b.finish(b.acquire(), adaptive.Outcome{})
	b.acquire()
	for range 5 {
		b.acquire()
	}
	waiting := b.core.Waiting()
	if waiting < 3 {
		b.fatalf("%d wait for a pace of one in 1,000 s, want most of 5", waiting)
	}
	b.wantWake(30 * time.Second)
	b.law.d.Pace, b.law.d.Until = 0, 0
	b.now = 30 * time.Second
	for range waiting {
		b.next()
	}
	if n := b.core.Waiting(); n != 0 {
		b.fatalf("%d wait after the pace has ended", n)
	}
}

// Whoever does not wait, or not for long, is not refused for a pace that has ended.
func TestPaceUntilForWhoDoesNotWait(t *testing.T) {
	for name, queue := range map[string]int{"nobody waits": 0, "a deadline": 100} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 100, func(c *Config) { c.Queue = queue })
			b.law.d.Pace, b.law.d.Until = 0.001, 30*time.Second
			b.finish(b.acquire(), adaptive.Outcome{})
			b.acquire()
			b.law.d.Pace, b.law.d.Until = 0, 0
			b.now = 30 * time.Second
			w := &Waiter{}
			w.GiveUp = b.now + time.Second
			b.core.Ask(b.now, w)
			b.next()
			b.want(w, Granted, ReasonNone)
		})
	}
}

// A law that goes on wanting to be asked at an instant that is over sets no timer off without an end.
func TestPaceUntilThatIsOver(t *testing.T) {
	b := newBench(t, 100, nil)
	b.law.d.Pace, b.law.d.Until = 0.001, 30*time.Second
	b.finish(b.acquire(), adaptive.Outcome{})
	for range 3 {
		b.acquire()
	}
	b.now = 31 * time.Second
	b.next()
	if at, ok := b.core.Wake(b.now); !ok || at <= b.now {
		b.fatalf("the timer is set to %v, %v at %v", at, ok, b.now)
	}
}

// A request that is much larger than what a pace allows holds those after it back for minutes, not for days.
func TestPaceOwesMinutes(t *testing.T) {
	var p pacer
	p.set(0, 1, 2)
	p.spend(0, 200_000)
	if at := p.at(0, 1000); at > mostOwed {
		t.Errorf("the next one may come in %v, want %v at most", at, mostOwed)
	}
	p.set(time.Second, 0.01, 1)
	if at := p.at(time.Second, 1000); at > time.Second+mostOwed {
		t.Errorf("at a pace that has fallen it may come in %v, want %v at most", at-time.Second, mostOwed)
	}
}
