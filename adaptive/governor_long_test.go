package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Where calls take long, a refusal is known long before one of them has ended: the pace is back at what the quota gives at once.
func TestGovernorPaceBeforeLongCallsEnd(t *testing.T) {
	for _, test := range []struct {
		mean  float64 // s that calls take
		delay time.Duration
		want  bool // the pace is back
	}{{30, 0, true}, {3, 0, false}, {30, time.Second, false}} {
		g, now := paced(t)
		s := &g.s
		s.Mean, s.RefusalTime = test.mean, 0.01
		s.Pace[paceRequests] = PaceState{Rate: 10, Known: 10, Ceiling: 10, Measured: true, Sure: true, Use: 1, AnchorAt: now, AnchorCount: g.accepted(), UsedAt: now}
		o := Outcome{Class: feedback.Throttled, HasRetryAfter: test.delay > 0, RetryAfter: test.delay}
		now += 100 * time.Millisecond
		g.Ended(now, Call{SentAt: now - 10*time.Millisecond, Episode: s.Episode, InFlight: 20}, o)
		low := s.Pace[paceRequests].Rate
		for i := range 60 { // none of them ends
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, InFlight: 20 + i, Waiting: 50})
		}
		if got := s.Pace[paceRequests].Rate > 1.2*low; got != test.want {
			t.Errorf("%+v: a pace of %v is %v after 60 calls", test, low, s.Pace[paceRequests].Rate)
		}
	}
}

// What fits with what passed between the refusals before is no evidence against a quota, however few were in flight.
func TestGovernorSpansSpeakForTheQuota(t *testing.T) {
	g, _ := paced(t)
	s := &g.s
	p := &s.Pace[paceRequests]
	*p = PaceState{Rate: 10, Known: 10, Ceiling: unbounded, Measured: true, Sure: true, SpanCalls: 100, SpanTime: 10, AnchorCount: g.accepted()}
	s.At, s.Contra, s.RefusalTime = p.AnchorAt+3*time.Second, mostContra-1, 0
	var none Outcome
	for _, test := range []struct {
		passed int64
		n      float64
		want   bool
	}{{30, 40, false}, {31, 40, false}, {20, 40, true}, {30, 60, true}} {
		h := *g
		h.s.Done += test.passed
		if got := h.contradicted(&h.s.Pace[paceRequests], test.n, 50, &none); got != test.want {
			t.Errorf("%d in 3 s, %v in flight: contradicted %v", test.passed, test.n, got)
		}
	}
}

// A limit on calls in flight names no delay that is long, and does not refuse what it has let pass many times.
func TestGovernorLongDelayIsAQuotas(t *testing.T) {
	for _, test := range []struct {
		delay  time.Duration
		n      int
		passed int
		want   bool // a quota refuses
	}{{40 * time.Second, 8, 400, true}, {2 * time.Second, 8, 400, false}, {40 * time.Second, 12, 400, false}, {40 * time.Second, 8, 40, false}} {
		g, now := New(Config{Initial: 8}), time.Duration(0)
		for range test.passed {
			now += 10 * time.Millisecond
			g.Window(now, Window{Start: now - 10*time.Millisecond, OK: 1, Timed: 1, Latency: 80 * time.Millisecond, MinLatency: 80 * time.Millisecond,
				MaxInFlight: 8, InFlight: 8, Waiting: 1})
		}
		g.s.SlowStart = false
		g.Ended(now+10*time.Millisecond, Call{SentAt: now, Episode: g.s.Episode, InFlight: test.n},
			Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: test.delay})
		if got := g.s.Pace[paceRequests].Rate > 0; got != test.want {
			t.Errorf("%+v: taken for a quota: %v", test, got)
		}
	}
}
