package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// paced returns a law that measured a quota of requests that gives some ten a second: calls take 2 s, and the limit is 40.
func paced(t *testing.T) (*Governor, time.Duration) {
	t.Helper()
	g, now := warm(40)
	for range 3 {
		for range 100 {
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: 2 * time.Second, MinLatency: 2 * time.Second, MaxInFlight: 21, InFlight: 20, Waiting: 9})
		}
		now += time.Millisecond
		g.Ended(now, Call{SentAt: now, InFlight: 21, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
	}
	if p := g.s.Pace[paceRequests]; !p.Measured || p.Known < 9 || p.Known > 14 {
		t.Fatalf("known of the quota: %+v", p)
	}
	return g, now
}

func TestGovernorRowThatIsNone(t *testing.T) {
	// Five refusals in a row, a second apart. A call that ends well and started among them says that some are accepted all the time, so the next
	// refusal holds nothing back. One that started before them does not.
	for _, test := range []struct {
		name string
		took time.Duration
		row  bool
	}{{"before the row", 6 * time.Second, true}, {"in the row", 3 * time.Second, false}} {
		g, now := paced(t)
		for range 5 {
			now += time.Second
			g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 2, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
			g.s.RefusedCount = g.accepted() // that one was accepted is not known yet
		}
		now += 500 * time.Millisecond
		g.s.Old = 2
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: test.took, MinLatency: test.took, MaxInFlight: 2, InFlight: 2, Waiting: 9})
		g.s.RefusedCount = g.accepted()
		now = max(now, g.Decision().NotBefore) + time.Second
		d := g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 2, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
		if (d.NotBefore > now) != test.row {
			t.Errorf("a call ends well that started %s: the next refusal holds starts back for %v", test.name, d.NotBefore-now)
		}
	}
}

func TestGovernorRowWithFewInFlight(t *testing.T) {
	// A pace that is far too fast hardly holds back, so the first refusals of a window that is used up are taken for those of a limit. Calls end, fewer and fewer are
	// in flight, and nothing passes: no limit does that.
	for _, before := range []int{40, 6} {
		g, now := paced(t)
		p := &g.s.Pace[paceRequests]
		p.Rate, p.Known, p.Ceiling, p.Use, p.Measured = 100, 20, 100, 0.3, false
		g.s.Limit = float64(before)
		lowest := before
		for n := before; n > 0; n = n * 3 / 4 {
			g.s.Done, g.s.InFlight = g.s.Done+int64(g.s.InFlight-n), n // the others have ended
			g.s.Bound, g.s.RefusedCount = min(g.s.Bound, float64(n)), g.accepted()
			now = max(now, g.Decision().NotBefore) + time.Second
			d := g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: n, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
			lowest = min(lowest, d.Limit)
		}
		if d := g.Decision(); d.Limit < before || d.Pace == 0 {
			t.Errorf("refused with %d in flight down to one, nothing accepted: a limit of %d, the lowest was %d, want %d again, and a pace: %v", before, d.Limit, lowest, before, d.Pace)
		}
	}
}

func TestGovernorOutageBesideAPace(t *testing.T) {
	// An outage says nothing of what a quota gives, nor of how many may be in flight where a pace held back: both are as before when it is over.
	g, now := paced(t)
	before := g.Decision()
	for range 20 {
		now = max(now, g.Decision().NotBefore) + time.Second
		g.Ended(now, Call{SentAt: now, InFlight: 3, Episode: g.Decision().Episode}, Outcome{Class: feedback.Overloaded})
	}
	if d := g.Decision(); d.Limit > 2 {
		t.Fatalf("after 20 answers that say overloaded: %+v", d)
	}
	for range 200 {
		g.s.Credit = 0 // no probe can be afforded
		now += 100 * time.Millisecond
		n := g.Decision().Limit
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: 90 * time.Millisecond, MinLatency: 90 * time.Millisecond, MaxInFlight: n, InFlight: n, Waiting: 9, Full: true})
	}
	if d := g.Decision(); d.Limit < before.Limit*8/10 {
		t.Errorf("200 calls after the outage the limit is %d; it was %d", d.Limit, before.Limit)
	}
	if p := g.s.Pace[paceRequests]; now-p.AnchorAt > 25*time.Second {
		t.Errorf("%v count as time in which the quota gave something, 20 s of which there was no outage", now-p.AnchorAt)
	}
}

func TestGovernorRowOfAWindow(t *testing.T) {
	// A quota that counts in windows of a minute refuses everything for 50 s. It is asked fifteen times, not twenty as with gaps that grow by half.
	g, now := paced(t)
	dark, asked := now, 0
	for now < dark+50*time.Second {
		now += time.Millisecond
		g.Ended(now, Call{SentAt: now, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
		d := g.Decision()
		now = max(now+time.Duration(1e9/d.Pace), d.NotBefore)
		asked++
	}
	if late := now - dark - 50*time.Second; asked < 5 || asked > 17 || late > 25*time.Second {
		t.Errorf("asked %d times in 50 s, and again %v after", asked, late)
	}
}

func TestGovernorSlowQuotaEarnsAProbe(t *testing.T) {
	// One refusal in a hundred calls is little where a call starts each two seconds: it may be one in a minute, but no more than twice as many.
	for _, test := range []struct {
		rate, want float64 // a second; refusals earned in two minutes
	}{{0.25, 0.6}, {0.5, 1.2}, {0.8, 1.92}, {1.2, 2}, {2, 2.4}} {
		g, now := paced(t)
		p := &g.s.Pace[paceRequests]
		p.Rate, p.Known, p.Ceiling, p.Sure, p.Use = test.rate, test.rate, test.rate, true, 1
		g.s.Credit, g.s.FlowShort, g.s.FlowPast = 0, 0, 0
		for range int(120 * test.rate) {
			now += time.Duration(1e9 / test.rate)
			g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 2, InFlight: 1, Waiting: 9})
			p.Rate, p.Known, p.Ceiling, p.Use = test.rate, test.rate, test.rate, 1
		}
		if math.Abs(g.s.Credit-test.want) > 0.1 {
			t.Errorf("%v calls a second earn %v refusals in two minutes, want %v", test.rate, g.s.Credit, test.want)
		}
	}
}

func TestGovernorRowSeemsToEnd(t *testing.T) {
	// When the hold of a row of refusals is over four calls start at once, and the first of them is refused. Nobody knows of the others yet, so this is no instant since which the
	// upstream has been open: a quota of 200 a minute, which was used up in 10 s, would be one of a few a minute.
	for _, test := range []struct {
		after time.Duration // the end of the hold
		ended bool          // one of the four is known to have ended well
		opens bool
	}{{150 * time.Millisecond, false, false}, {600 * time.Millisecond, false, false}, {700 * time.Millisecond, false, true}, {150 * time.Millisecond, true, true}} {
		g, now := paced(t)
		g.s.RefusalTime, g.s.Flow = 0.1, 0
		for range 5 {
			now = max(now, g.Decision().NotBefore) + time.Second
			g.Ended(now, Call{SentAt: now - 100*time.Millisecond, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
			g.s.RefusedCount, g.s.Flow = g.accepted(), 0
		}
		g.s.InFlight += 4
		now = g.Decision().NotBefore + test.after
		if test.ended {
			took := 100 * time.Millisecond
			g.Window(now, Window{Start: now, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: 4, InFlight: 3})
		}
		g.Ended(now, Call{SentAt: now - 100*time.Millisecond, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
		if opens := g.s.ActiveAt == now; opens != test.opens {
			t.Errorf("refused %v after four calls could start: open since then %v, want %v", test.after, opens, test.opens)
		}
	}
}

func TestGovernorMoreThanEver(t *testing.T) {
	// A refusal at a pace that was fine, with more in flight than any that went well since the last cut, is one by a limit, unless as many went well before it, on the way back.
	for _, test := range []struct {
		peak  float32
		bound float64
		want  int
	}{{30, 90, 53}, {100, 90, 100}, {100, 0, 53}} {
		g, now := paced(t)
		g.s.Done += 20
		g.s.Limit, g.s.Top, g.s.Proven, g.s.Peak, g.s.Bound = 100, 30, 30, test.peak, test.bound
		p := &g.s.Pace[paceRequests]
		p.Rate = paceMargin * p.Known
		now += time.Second
		g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 60, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
		if limit := g.Decision().Limit; limit != test.want {
			t.Errorf("refused with 60 in flight, and %v were lately: the limit is %d, want %d", test.peak, limit, test.want)
		}
	}
}
