package admission

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// A law that wants to be asked while all places are taken and nothing ends is asked then, and who waits gets the place that it allows.
func TestUntilFull(t *testing.T) {
	for name, queueOnly := range map[string]bool{"callers alike": false, "callers that differ": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 2, nil)
			b.core.open(b.now).queue.only = queueOnly
			b.law.d.Until, b.law.d.UntilFull = 30*time.Second, true
			b.finish(b.acquire(), adaptive.Outcome{})
			b.acquire()
			if _, ok := b.core.Wake(b.now); ok {
				b.fatalf("somebody waits with a place free")
			}
			b.acquire()
			w := b.acquire()
			b.want(w, Queued, ReasonNone)
			b.wantWake(30 * time.Second)
			b.law.d = adaptive.Decision{Limit: 3, Until: 45 * time.Second, UntilFull: true}
			b.now = 30 * time.Second
			b.next()
			b.want(w, Granted, ReasonNone)
			b.acquire()
			b.wantWake(45 * time.Second)
			asked := len(b.law.windows)
			b.now = 44 * time.Second
			b.next()
			if len(b.law.windows) != asked {
				b.fatalf("the law is asked before it wants to be")
			}
		})
	}
}

// With places free, the law is not asked for those who wait for a pace: that nothing is answered says nothing then.
func TestUntilFullWithPlacesFree(t *testing.T) {
	b := newBench(t, 100, nil)
	b.law.d.Pace, b.law.d.Until, b.law.d.UntilFull = 0.1, time.Second, true
	b.finish(b.acquire(), adaptive.Outcome{})
	for range 4 {
		b.acquire()
	}
	asked := len(b.law.windows)
	if at, ok := b.core.Wake(b.now); !ok || at <= 2*time.Second {
		b.fatalf("the timer is set to %v, %v", at, ok)
	}
	b.now = 2 * time.Second
	b.next()
	if len(b.law.windows) != asked {
		b.fatalf("the law was asked")
	}
}

// Only what the law decides is a decision, not when it wants to be asked.
func TestUntilFullIsNoDecision(t *testing.T) {
	told := 0
	b := newBench(t, 2, func(c *Config) { c.OnDecision = func(time.Duration, adaptive.Decision) { told++ } })
	b.law.d.Until, b.law.d.UntilFull = 30*time.Second, true
	b.finish(b.acquire(), adaptive.Outcome{})
	b.law.d.Until, b.law.d.UntilFull = 0, false
	b.finish(b.acquire(), adaptive.Outcome{})
	if told != 0 {
		b.fatalf("%d decisions are told of", told)
	}
}
