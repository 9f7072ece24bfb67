package admission

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

const hold = 320 * time.Millisecond // instants are rounded up to 10 ms

func newHolding(t testing.TB, limit int, edit func(*Config)) *bench {
	return newBench(t, limit, func(c *Config) {
		c.Law.(*script).d.FreeAfter = hold
		if edit != nil {
			edit(c)
		}
	})
}

func TestFreedPlaceIsHeld(t *testing.T) {
	b := newHolding(t, 2, nil)
	a, c := b.acquire(), b.acquire()
	w := b.acquire()
	b.want(w, Queued, ReasonNone)
	b.after(100 * time.Millisecond)
	if got := b.finish(a, adaptive.Outcome{}); len(got) != 0 {
		b.fatalf("a place was given away at the end of its call")
	}
	if w.Why != WhyFreed {
		b.fatalf("waits for %v, want freed", w.Why)
	}
	if after, places := b.core.Freed(b.now); after != hold || places != 1 {
		b.fatalf("Freed() = %v, %d", after, places)
	}
	b.wantWake(b.now + hold)
	b.after(hold - 1)
	if got := b.next(); len(got) != 0 {
		b.fatalf("a place was given away too soon")
	}
	b.after(1)
	if got := b.next(); len(got) != 1 || got[0] != w || w.Call.InFlight != 2 {
		b.fatalf("answered %v in flight %d, want who waited, as one of two", got, w.Call.InFlight)
	}
	b.finish(c, adaptive.Outcome{})
	b.after(hold + hold/freedShare)
	if x := b.acquire(); x.State != Granted {
		b.fatalf("the place that was held is lost")
	}
	if n := b.core.Counts().WaitedFor[WhyFreed]; n.N != 1 || n.Sum != 100*time.Millisecond+hold {
		b.fatalf("waits for freed places: %+v", n)
	}
}

// What was refused was never counted, so nothing is held for it.
func TestRefusedPlaceIsFree(t *testing.T) {
	for _, class := range []feedback.Class{feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted, feedback.Canceled, feedback.Timeout} {
		b := newHolding(t, 1, nil)
		a, w := b.acquire(), b.acquire()
		b.after(time.Second)
		refused := class != feedback.Canceled && class != feedback.Timeout
		if got := b.finish(a, adaptive.Outcome{Class: class}); (len(got) == 1) != refused || refused != (w.State == Granted) {
			b.fatalf("%v: answered %v", class, got)
		}
	}
}

func TestHoldBeginsAndEnds(t *testing.T) {
	b := newBench(t, 1, nil)
	a, w := b.acquire(), b.acquire()
	b.after(time.Second)
	if got := b.finish(a, adaptive.Outcome{}); len(got) != 1 {
		b.fatalf("nothing is to be held, answered %v", got)
	}
	x := b.acquire()
	b.law.d.FreeAfter = hold
	b.finish(w, adaptive.Outcome{FirstByte: 1, Class: feedback.ServerError}) // has the law asked
	b.want(x, Queued, ReasonNone)
	b.law.d.FreeAfter = 2 * hold
	b.core.decide(b.now, b.law.d)
	b.wantWake(b.now + 2*hold)
	b.law.d.FreeAfter = 0
	b.core.decide(b.now, b.law.d)
	if got := b.next(); len(got) != 1 || got[0] != x {
		b.fatalf("places are still held: %v", got)
	}
	b.finish(x, adaptive.Outcome{})
	if _, took := b.core.Take(); took != TookLast {
		b.fatalf("%v, want the last place without the lock", took)
	}
}

// A caller who does not wait is told when to come again.
func TestHeldPlaceRefuses(t *testing.T) {
	b := newHolding(t, 1, func(c *Config) { c.Queue = 0 })
	b.finish(b.acquire(), adaptive.Outcome{})
	w := b.acquire()
	b.want(w, Refused, ReasonLimit)
	if w.RetryAt != hold {
		b.fatalf("RetryAt %v, want %v", w.RetryAt, hold)
	}
}

// Calls in flight, and those that ended well within the time for which places are held, are never more than the limit; and nobody waits
// while they are fewer than that, but for what instants are rounded up.
func TestPropFreed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 9).Draw(rt, "limit")
		b := newHolding(t, limit, func(c *Config) { c.Sampled = rapid.Bool().Draw(rt, "sampled") })
		fatalf := func(format string, a ...any) {
			rt.Helper()
			for _, l := range b.log {
				rt.Log(l)
			}
			rt.Fatalf(format, a...)
		}
		var open []*Waiter
		var waiting []*Waiter
		var ended []time.Duration
		used := func(within time.Duration) int {
			n := len(open)
			for _, at := range ended {
				if b.now < at+within {
					n++
				}
			}
			return n
		}
		took := func(got []*Waiter) {
			for _, w := range got {
				open = append(open, w)
				waiting = waiting[1:]
			}
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			before := b.now
			switch b.after(time.Duration(rapid.IntRange(0, 150).Draw(rt, "ms")) * time.Millisecond); {
			case rapid.Bool().Draw(rt, "begin"):
				took(b.next())
				w := b.acquire()
				if w.State == Granted {
					open = append(open, w)
				} else {
					waiting = append(waiting, w)
				}
			case len(open) > 0:
				took(b.next())
				w := open[0]
				open = open[1:]
				class := rapid.SampledFrom([]feedback.Class{feedback.OK, feedback.OK, feedback.Throttled}).Draw(rt, "class")
				if class == feedback.OK {
					ended = append(ended, b.now)
				}
				took(b.finish(w, adaptive.Outcome{Class: class}))
			default:
				took(b.next())
			}
			if n := used(hold); n > limit {
				fatalf("%d places in use of %d", n, limit)
			}
			if n := used(hold + hold/freedShare); len(waiting) > 0 && n < limit {
				fatalf("%d wait while %d places are in use of %d", len(waiting), n, limit)
			}
			if at, ok := b.core.Wake(b.now); len(waiting) > 0 && (!ok || at < before) {
				fatalf("Wake() = %v, %v", at, ok)
			}
		}
	})
}

// Whatever becomes of the time for which places are held, and of the limit, everybody who waits starts: nobody has to come for that.
func TestPropFreedChanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newHolding(t, 3, func(c *Config) { c.MaxWait = 100 * time.Hour })
		var open []*Waiter
		waiting := 0
		took := func(got []*Waiter) {
			open = append(open, got...)
			waiting -= len(got)
		}
		classes := rapid.SampledFrom([]feedback.Class{feedback.OK, feedback.Throttled, feedback.Canceled})
		end := func(class feedback.Class) {
			w := open[0]
			open = open[1:]
			took(b.finish(w, adaptive.Outcome{Class: class}))
		}
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			b.after(time.Duration(rapid.IntRange(0, 100).Draw(rt, "ms")) * time.Millisecond)
			switch op := rapid.IntRange(0, 6).Draw(rt, "op"); {
			case op < 2 && waiting < 50:
				took(b.next())
				if w := b.acquire(); w.State == Granted {
					open = append(open, w)
				} else {
					waiting++
				}
			case op < 5 && len(open) > 0:
				end(classes.Draw(rt, "class"))
			case op == 5:
				b.law.d.FreeAfter = rapid.SampledFrom([]time.Duration{0, 1, hold / 50, hold, 3 * hold, time.Hour}).Draw(rt, "hold")
				b.law.d.Limit = rapid.IntRange(1, 4).Draw(rt, "limit")
				b.core.decide(b.now, b.law.d)
				took(b.next())
			case op == 6 && len(open) > 0:
				w := open[0]
				open = open[1:]
				b.core.Abandon(b.now, &w.Grant, w.Charge())
				took(b.next())
			default:
				took(b.next())
			}
			if f := b.core.state.freed; f != nil && (f.held < 0 || f.n > freedRing) {
				rt.Fatalf("%d places held, in %d entries", f.held, f.n)
			}
		}
		for waiting > 0 || len(open) > 0 {
			if len(open) > 0 {
				end(feedback.OK)
				continue
			}
			at, ok := b.core.Wake(b.now)
			if !ok || at > b.now+2*maxFreeAfter {
				rt.Fatalf("%d wait, and the next is looked at at %v, %v; it is %v", waiting, at, ok, b.now)
			}
			b.now = max(b.now+1, at)
			took(b.next())
		}
		if b.core.InFlight() != 0 || b.core.Waiting() != 0 {
			rt.Fatalf("%d in flight, %d waiting at the end", b.core.InFlight(), b.core.Waiting())
		}
	})
}

// However many calls end, what is remembered of them has a fixed size, and none is lost.
func TestFreedIsBounded(t *testing.T) {
	f := &freed{after: time.Second}
	for i := range 100_000 {
		now := time.Duration(i) * 37 * time.Microsecond
		f.note(now, uint32(i+1))
		if i%20_000 == 0 {
			f.after = time.Duration(1+i/20_000) * time.Second / 2
		}
	}
	if f.held <= 0 || f.opens(f.held) <= f.opens(1) {
		t.Fatalf("%d held, free from %v to %v", f.held, f.opens(1), f.opens(f.held))
	}
	if f.note(time.Hour, 100_000); f.held != 0 || f.n != 0 {
		t.Fatalf("%d places in %d entries are held for ever", f.held, f.n)
	}
}
