package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// The pace of a quota that is searched from far above is found, however little of it passes meanwhile: a pace that refusals leave unused holds back those
// who wait all the same. (nginx's limit_req with 20 a second and no burst, half a second after the first call: the pace went from 14.7 to 29.4 and
// back for as long as anybody asked, and every other call was refused.)
func TestGovernorStarvedPace(t *testing.T) {
	now := 500 * time.Millisecond
	g := New(Config{})
	g.Restore(now, GovernorState{
		At: now, Limit: 4, Done: 14, Refused: 9, FlowAt: now, FlowCount: 5, Flow: 13, Busy: true, BusyAt: now, Mean: 0.001, Latency: time.Millisecond, SlowStart: true,
		Pace: [numPaces]PaceState{{Rate: 300, Known: 400, Ceiling: 400, Lowest: 300, Use: 0.5, UsedAt: now, LastCount: 5, AnchorAt: 400 * time.Millisecond, AnchorCount: 3}},
	})
	takes := bucketOf(20, 1)
	takes(now)
	refusals := 0
	const seconds = 10
	for end, next := now+seconds*time.Second, now; now < end; {
		d := g.Decision()
		now = max(now+time.Millisecond, next, d.NotBefore)
		next = now + time.Duration(1e9/max(d.Pace, 0.1))
		call, took := Call{SentAt: now, InFlight: 1, Episode: d.Episode}, time.Millisecond
		if takes(now) {
			g.Window(now+took, Window{Start: now, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: 1, Waiting: 20})
		} else {
			refusals++
			g.Window(now+took, Window{Start: now, InFlight: 1, Waiting: 20})
			g.Ended(now+took, call, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
		}
	}
	if p := g.s.Pace[paceRequests]; refusals > 2*seconds || !p.Measured {
		t.Errorf("%d refusals in %d s: %+v", refusals, seconds, p)
	}
}
