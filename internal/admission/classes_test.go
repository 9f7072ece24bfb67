package admission

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// The law is told what the calls of each class add to a window as soon as there is a class other than 0, whichever way they are counted.
func TestWindowTellsClassesApart(t *testing.T) {
	b := newBench(t, 8, nil)
	b.law.d.AskAgain = time.Minute
	b.core.decide(0, b.law.d)
	call := func(class uint8, took time.Duration, o adaptive.Outcome) {
		w := b.acquire()
		w.Call.Class = class
		b.after(took)
		b.finish(w, o)
	}
	tell := func() adaptive.Window {
		b.after(time.Minute)
		b.core.Tend(b.now)
		w := b.law.windows[len(b.law.windows)-1]
		b.core.decide(b.now, adaptive.Decision{Limit: 8, AskAgain: b.now + time.Minute})
		return w
	}
	call(0, 64*time.Millisecond, adaptive.Outcome{})
	if w := tell(); w.Classes != nil || w.Timed != 1 {
		b.fatalf("of one class, the window is %+v", w)
	}
	told := 0
	b.law.look = func(w adaptive.Window) {
		if w.Classes == nil {
			return
		}
		told++
		want := [adaptive.NumClasses]adaptive.ClassSum{
			0: {Timed: 2, Latency: 128 * time.Millisecond},
			1: {Timed: 1, Latency: time.Second, OutputTokens: 7},
			5: {Timed: 2, Latency: 4 * time.Second},
		}
		if *w.Classes != want {
			b.fatalf("classes\n got %+v\nwant %+v", *w.Classes, want)
		}
	}
	call(0, 64*time.Millisecond, adaptive.Outcome{})
	call(1, time.Second, adaptive.Outcome{OutputTokens: 7})
	call(5, time.Second, adaptive.Outcome{})
	call(5, 3*time.Second, adaptive.Outcome{})
	call(0, 64*time.Millisecond, adaptive.Outcome{})
	if w := tell(); told != 1 || w.OK != 5 || w.Timed != 5 || w.Latency.Round(time.Millisecond) != 5128*time.Millisecond || w.OutputTokens != 7 {
		b.fatalf("the window is %+v, its classes were told %d times", w, told)
	}
	call(0, 64*time.Millisecond, adaptive.Outcome{})
	if w := tell(); w.Classes != nil {
		b.fatalf("of one class again, the window is %+v", w)
	}
}

// Of calls that are not timed, the classes have no tokens either: they would be those of the few of class 0 that are.
func TestClassesOfUntimedCalls(t *testing.T) {
	b := newBench(t, 8, func(c *Config) { c.Sampled = true })
	b.law.d.AskAgain = time.Hour
	b.core.decide(0, b.law.d)
	call := func(class uint8, timed bool) {
		w := b.acquire()
		w.Call.Class = class
		if !timed {
			w.Call.SentAt = Untimed
		}
		b.after(time.Second)
		b.finish(w, adaptive.Outcome{OutputTokens: 10})
	}
	var got [adaptive.NumClasses]adaptive.ClassSum
	b.law.look = func(w adaptive.Window) {
		if w.Classes != nil {
			got = *w.Classes
		}
	}
	for range 2 {
		call(2, true)
		call(0, true)
		for range 15 {
			call(0, false)
			call(2, false)
		}
		b.core.flush(b.now)
		of := adaptive.ClassSum{Timed: 1, Latency: time.Second, OutputTokens: 10}
		if want := [adaptive.NumClasses]adaptive.ClassSum{0: of, 2: of}; got != want {
			b.fatalf("classes\n got %+v\nwant %+v", got, want)
		}
		for range 3 {
			call(0, false) // of one class
		}
		b.core.flush(b.now)
	}
}

// What was counted before there was a law is of nobody knows which class, so it is told without its time.
func TestClassesBeforeALaw(t *testing.T) {
	law := &script{d: adaptive.Decision{Limit: 8, AskAgain: time.Hour}}
	cfg := Config{NewLaw: func() adaptive.Law { return law }, First: law.d, Calm: law.d, Queue: 1, MaxWait: time.Minute, Seed: 1}
	var c Core
	c.Init(&cfg)
	now := time.Duration(0)
	call := func(class uint8, o adaptive.Outcome) {
		n, _ := c.Take()
		g := Grant{Call: c.Begin(now, n, class).Call()}
		now += 10 * time.Millisecond
		if e := c.Finish(now, &g, &o); e != Ended {
			c.Settle(now, e, &g, &o)
			c.Next(now)
		}
	}
	call(0, adaptive.Outcome{})
	call(3, adaptive.Outcome{})
	if c.state != nil {
		t.Fatal("a call of a class makes a law")
	}
	call(0, adaptive.Outcome{Class: feedback.Throttled})
	if w := law.windows[len(law.windows)-1]; w.OK != 2 || w.Timed != 0 || w.Classes != nil {
		t.Errorf("the first window is %+v, want 2 calls, none of them timed", w)
	}
	call(3, adaptive.Outcome{})
	call(0, adaptive.Outcome{})
	call(0, adaptive.Outcome{Class: feedback.Throttled})
	if w := law.windows[len(law.windows)-1]; w.Timed != 2 || w.Classes == nil {
		t.Errorf("a later window is %+v, want 2 timed calls of two classes", w)
	}
}

// A call of a class that ended without the lock, while there was no law, does not end once more because somebody makes one before its
// caller has the lock.
func TestClassEndsOnce(t *testing.T) {
	law := &script{d: adaptive.Decision{Limit: 2, AskAgain: time.Hour}}
	cfg := Config{NewLaw: func() adaptive.Law { return law }, First: adaptive.Decision{Limit: 2}, Queue: 1, MaxWait: time.Minute, Seed: 1}
	var c Core
	c.Init(&cfg)
	begin := func(class uint8) *Grant {
		n, _ := c.Take()
		return &Grant{Call: c.Begin(0, n, class).Call()}
	}
	a, b := begin(3), begin(0)
	plain, bad := adaptive.Outcome{}, adaptive.Outcome{Class: feedback.ServerError}
	of := c.Finish(time.Second, a, &plain)
	if of != EndedServe || c.state != nil {
		t.Fatalf("Finish said %v, want that the law is due and that there is none", of)
	}
	c.Settle(time.Second, c.Finish(time.Second, b, &bad), b, &bad)
	c.Next(time.Second)
	begin(0)
	c.Settle(time.Second, of, a, &plain)
	c.Next(time.Second)
	if n := c.InFlight(); n != 1 {
		t.Errorf("%d calls in flight, want 1", n)
	}
	if n := c.Counts().Outcomes[feedback.OK]; n != 1 {
		t.Errorf("%d calls ended well, want 1", n)
	}
}

// To count a call by its class allocates nothing once there was one.
func TestClassesDoNotAllocate(t *testing.T) {
	b := newBench(t, 4, nil)
	o := adaptive.Outcome{}
	if n := testing.AllocsPerRun(100, func() {
		n, _ := b.core.Take()
		call := Grant{Call: b.core.Begin(b.now, n, 2).Call()}
		b.now += time.Millisecond
		if e := b.core.Finish(b.now, &call, &o); e != Ended {
			b.core.Settle(b.now, e, &call, &o)
			b.core.Next(b.now)
		}
		b.law.windows = b.law.windows[:0]
	}); n != 0 {
		t.Errorf("%v allocations for a call of a class, want 0", n)
	}
}
