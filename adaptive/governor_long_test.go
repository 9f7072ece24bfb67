package adaptive

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Where calls take long, a refusal is known long before one of them has ended: the pace is back at what the quota gives at once.
func TestGovernorLongCallsAtAQuota(t *testing.T) {
	u := &metered{g: New(Config{Initial: 4}), rng: rand.New(rand.NewPCG(1, 1)), busy: true, long: 30 * time.Second}
	w := &windows{allows: 10, length: time.Second}
	u.takes = w.takes
	u.run(10 * time.Minute)
	u.ok, u.refused = 0, 0
	u.run(20 * time.Minute)
	if most := 10 * 600; u.ok*100 < most*84 || u.refused*50 > u.ok {
		t.Errorf("%d of %d calls in ten minutes, %d refused; with a pace that waits for ends it is two thirds of them", u.ok, most, u.refused)
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
