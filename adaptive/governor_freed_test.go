package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// crowded is a law whose pace holds callers back: as many calls a second end as start, each at its own time.
type crowded struct {
	g   *Governor
	now time.Duration
	rng *rand.Rand

	rate float64 // the pace, if there is one
}

func newCrowded() *crowded {
	g, now := keeping()
	c := &crowded{g, now, rand.New(rand.NewPCG(1, 1)), 4.9}
	c.settle()
	return c
}

// settle puts the law where its pace of 5 a second is what was measured, and fine.
func (c *crowded) settle() {
	c.g.s.Pace[paceRequests] = PaceState{Rate: c.rate, Known: 5, Ceiling: 5, Highest: 5, Sure: true, Measured: true, Use: 1, UsedAt: c.now, AnchorAt: c.now, AnchorCount: c.g.accepted(), LastCount: c.g.accepted()}
	c.g.s.Streak, c.g.s.HoldUntil = 0, 0
}

// refused tells the law of some ten calls that were accepted, and of one that was refused, which had started so long after the last end. It returns whether a pace is kept.
func (c *crowded) refused(since time.Duration) bool {
	for range 5 + c.rng.IntN(12) {
		from := c.now
		c.now += time.Duration((0.1 + 0.2*c.rng.Float64()) * 1e9)
		c.g.Window(c.now, Window{Start: from, OK: 1, MaxInFlight: 5, InFlight: 5, Waiting: 5, Full: true})
		c.g.s.Flow, c.g.s.Pace[paceRequests].Use = 5, 1
	}
	if p := &c.g.s.Pace[paceRequests]; p.Rate > 0 {
		p.Rate = c.rate // whatever was tried
	}
	at := c.now + since
	c.now = at + 30*time.Millisecond
	c.g.Ended(c.now, Call{SentAt: at, Episode: c.g.s.Episode, InFlight: 5}, Outcome{Class: feedback.Throttled})
	return c.g.s.Pace[paceRequests].Rate > 0
}

// A limit that others use, too, refuses no call that takes the place of one that has just ended: a pace that is refused at any other time only is given up. One
// that refuses as many right after an end as start then, and more, is a quota, and the pace stays however often it is refused; of those that start at random, where five end a second, one in 4.5 does so within 50 ms.
func TestGovernorFreedPlaces(t *testing.T) {
	t.Parallel()
	c, n := newCrowded(), 0
	for n < 40 && c.refused(100*time.Millisecond) {
		c.settle()
		c.g.s.Contra = min(c.g.s.Contra, 2) // not by their number
		n++
	}
	if n < 5 || n > 12 {
		t.Errorf("a pace was given up after %d refusals, none of them right after an end", n)
	}
	if !c.g.limitTold() || c.g.s.Wrong != 1 {
		t.Errorf("evidence %v, wrong %d", c.g.s.Lag.Freed, c.g.s.Wrong)
	}

	c = newCrowded()
	for i := range 90 {
		c.g.s.Contra, c.g.s.Others = min(c.g.s.Contra, 2), 0
		since := 100 * time.Millisecond
		if i%3 == 0 {
			since = 10 * time.Millisecond
		}
		if !c.refused(since) {
			t.Fatalf("a pace that a quota refuses was given up after %d refusals; evidence %v", i+1, c.g.s.Lag.Freed)
		}
		c.settle()
	}
	if c.g.s.Lag.Freed < limitSure {
		t.Errorf("evidence %v", c.g.s.Lag.Freed)
	}

	// Beside a quota a limit that nobody else uses may look so, too: a pace is not given up as a faster one is refused.
	for _, rate := range []float64{6, 4.9} {
		c = newCrowded()
		c.rate = rate
		kept := 0
		for paced := true; paced && kept < 20; {
			c.settle()
			c.g.s.Lag.Freed, c.g.s.Contra = -mostFreed, 2
			if paced = c.refused(100 * time.Millisecond); paced {
				kept++
			}
		}
		if fine := rate < 5; fine && kept > 4 || !fine && kept < 20 {
			t.Errorf("a pace of %v, where 5 is fine, was kept at %d refusals", rate, kept)
		}
	}
}

// A refusal that comes after the ends before its call were forgotten tells nothing: a quota whose refusals take long looked like a limit.
func TestGovernorFreedPlacesLate(t *testing.T) {
	t.Parallel()
	for _, late := range []time.Duration{30 * time.Millisecond, time.Second, 1600 * time.Millisecond, 3 * time.Second} {
		g, now := keeping()
		sent := now
		end := func() { g.lagEnded(now, now, 1) }
		end() // right before the call is sent
		for now < sent+late {
			now += 200 * time.Millisecond
			end()
		}
		g.s.Flow, g.s.Busy = 5, true
		g.tellFreed(&Call{SentAt: sent})
		if got := g.s.Lag.Freed; got < 0 || (got > 0) != (late <= time.Second) {
			t.Errorf("a refusal after %v of a call that started right after an end: evidence %v", late, got)
		}
	}
}

// What nobody can know says nothing: with many calls a second one ends at any time, a pace that holds nobody back starts calls when others end, and after a delay that was named all start at once.
func TestGovernorFreedPlacesUnknown(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*GovernorState){
		"":                      func(*GovernorState) {},
		"many a second":         func(s *GovernorState) { s.Flow = 30 },
		"the pace is not used":  func(s *GovernorState) { s.Pace[paceRequests].Use = 0.5 },
		"there is no pace":      func(s *GovernorState) { s.Pace[paceRequests] = PaceState{} },
		"nobody waits":          func(s *GovernorState) { s.Busy = false },
		"a delay was named":     func(s *GovernorState) { s.Pauses = 1 },
		"nothing passes at all": func(s *GovernorState) { s.Flow = 0 },
	} {
		g, now := keeping()
		g.s.Flow, g.s.Busy = 5, true
		change(&g.s)
		g.tellFreed(&Call{SentAt: now})
		if got := g.s.Lag.Freed != 0; got != (name == "") {
			t.Errorf("%q: evidence %v", name, g.s.Lag.Freed)
		}
		if g.ask(now); (g.s.AskAgain == 0) != (name == "") {
			t.Errorf("%q: the next window is wanted at %v", name, g.s.AskAgain)
		}
	}
	// It is as likely as it can be told apart, so that neither outweighs the other where what refuses has nothing to do with ends.
	g, now := keeping()
	g.s.Flow, g.s.Busy = 5, true
	g.tellFreed(&Call{SentAt: now + time.Second})
	away := math.Exp(float64(g.s.Lag.Freed))
	g.s.Lag.Freed = 0
	g.lagEnded(now, now, 1)
	g.tellFreed(&Call{SentAt: now})
	after := math.Exp(float64(g.s.Lag.Freed))
	share := 1 - math.Exp(-0.05*5)
	if limit := (1-share)/away + share/after; math.Abs(limit-1) > 1e-4 {
		t.Errorf("a limit refuses %v right after an end and %v else, together %v, want 1", share/after, (1-share)/away, limit)
	}
}
