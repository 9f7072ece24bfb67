package peers

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

const ms = time.Millisecond

// ok is the window of one call that ended well.
func ok(latency time.Duration, inFlight int, full bool) adaptive.Window {
	return adaptive.Window{OK: 1, Timed: 1, Latency: latency, MinLatency: latency, MaxInFlight: inFlight, Full: full}
}

var throttled = adaptive.Outcome{Class: feedback.Throttled}

// "+1/L per success if at least 0.9 L were in flight; a drop: ⌊0.9 L⌋."
func TestCIAD(t *testing.T) {
	l := NewCIAD()
	for range 20 {
		l.Window(0, ok(ms, 18, false)) // 18 = 0.9 · 20
	}
	if math.Abs(l.limit-20.977) > 0.01 { // 20 times 1/limit, from 20 on
		t.Errorf("after 20 successes the limit is %v, want 20.98", l.limit)
	}
	l.Window(0, ok(ms, 17, true))
	if math.Abs(l.limit-20.977) > 0.01 {
		t.Errorf("a success with 17 in flight moved the limit to %v", l.limit)
	}
	for _, want := range []int{18, 16, 14} {
		if d := l.Ended(0, adaptive.Call{}, throttled); d.Limit != want || d.Cause != adaptive.CauseThrottled {
			t.Errorf("after a 429 %+v, want limit %d", d, want)
		}
	}
	if d := l.Ended(0, adaptive.Call{}, adaptive.Outcome{Class: feedback.ServerError}); d.Limit != 12 || d.Cause != adaptive.CauseOverloaded {
		t.Errorf("after a 500 %+v, want limit 12: the original's limiter of the endpoint counts it as dropped", d)
	}
	if d := l.Ended(0, adaptive.Call{}, adaptive.Outcome{Class: feedback.ClientError}); d.Limit != 12 {
		t.Errorf("a 400 moved the limit to %d", d.Limit)
	}
	for range 100 {
		l.Ended(0, adaptive.Call{}, throttled)
	}
	if d := l.Decision(); d.Limit != 1 {
		t.Errorf("after 100 429s the limit is %d, want 1", d.Limit)
	}
}

// The pace is off until the first throttle, is then 0.7 of what was measured, and follows CUBIC back to it in K and beyond.
func TestAWS(t *testing.T) {
	l := NewAWS()
	now := time.Duration(0)
	for range 200 { // 10 a second for 20 s
		now += 100 * ms
		if d := l.Window(now, ok(ms, 1, false)); d.Pace != 0 {
			t.Fatalf("a pace of %v before any throttle", d.Pace)
		}
	}
	if math.Abs(l.measured-10) > 0.1 {
		t.Fatalf("measured %v a second, want 10", l.measured)
	}
	d := l.Ended(now, adaptive.Call{}, throttled)
	if math.Abs(d.Pace-7) > 0.1 {
		t.Errorf("after a throttle the pace is %v, want 7", d.Pace)
	}
	k := math.Cbrt(10 * 0.3 / 0.4) // 1.957 s
	for at := now; now < at+time.Duration(k*float64(time.Second)); {
		now += 100 * ms
		d = l.Window(now, ok(ms, 1, false))
	}
	if math.Abs(d.Pace-10) > 0.1 {
		t.Errorf("after K the pace is %v, want 10 again", d.Pace)
	}
	for range 40 {
		now += 100 * ms
		d = l.Window(now, ok(ms, 1, false))
	}
	if math.Abs(d.Pace-20) > 0.5 {
		t.Errorf("long after K the pace is %v, want twice the measured 10", d.Pace)
	}
	for range 100 {
		d = l.Ended(now, adaptive.Call{}, throttled)
	}
	if d.Pace != awsMin {
		t.Errorf("after 100 throttles at once the pace is %v, want %v", d.Pace, awsMin)
	}
}

// Refusals with a full limit cut once in a mean round trip; the law, fed by attempt, starts at 1.
func TestARCLaw(t *testing.T) {
	a := NewARC()
	now := time.Duration(0)
	for range 10 {
		now += 100 * ms
		a.Window(now, ok(100*ms, a.Limit(), true))
	}
	if a.Limit() != 10 {
		t.Fatalf("after 10 round trips at the limit it is %d, want 10: the first one only sets the mean", a.Limit())
	}
	now += 100 * ms
	for range 50 {
		a.Ended(now, adaptive.Call{InFlight: 10}, throttled)
	}
	if d := a.Decision(); d.Limit != 9 || d.Cause != adaptive.CauseThrottled || d.Episode != 1 {
		t.Errorf("after a burst of refusals %+v, want 9", d)
	}
	now += 100 * ms
	if a.Window(now, ok(100*ms, 3, false)); a.Limit() != 8 {
		t.Errorf("the rest of the burst falls into the next round trip: limit %d, want 8", a.Limit())
	}
	before := a.Limit()
	for i := range 10 { // the limit is not reached, and does not grow
		now += time.Second
		a.Window(now, ok(time.Duration(100-5*(i%2))*ms, 1, false))
	}
	if a.Limit() > before {
		t.Errorf("without reaching the limit it went to %d", a.Limit())
	}
}

// The rule as it is written: a round trip that equals the mean, with no deviation at all, counts as a longer one.
func TestARCShrinksOnAConstantLink(t *testing.T) {
	a := NewARC()
	now := time.Duration(0)
	for i := range 30 {
		now += 100 * ms
		a.Window(now, ok(100*ms, 1, i < 10))
	}
	if a.Limit() != 1 {
		t.Errorf("the limit is %d, want 1", a.Limit())
	}
}

func TestRate(t *testing.T) {
	if d := NewRate(2.5).Ended(0, adaptive.Call{}, throttled); d.Pace != 2.5 || d.Limit != adaptive.MaxLimit {
		t.Errorf("%+v", d)
	}
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if d := NewRate(bad).Decision(); d.Pace != 0 {
			t.Errorf("NewRate(%v) has the pace %v", bad, d.Pace)
		}
	}
}

// Whatever happens, a law answers with a limit and a pace that a guard can keep.
func TestLawsStaySane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		laws := []adaptive.Law{NewARC(), NewAWS(), NewCIAD(), NewRate(3)}
		now := time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			now += time.Duration(rapid.Int64Range(-int64(time.Second), int64(time.Minute)).Draw(t, "step"))
			n := rapid.IntRange(0, 5).Draw(t, "n")
			latency := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "latency"))
			class := feedback.Class(rapid.IntRange(0, int(feedback.NumClasses)-1).Draw(t, "class"))
			in := rapid.IntRange(1, 1000).Draw(t, "in flight")
			for _, l := range laws {
				before := l.Decision()
				var d adaptive.Decision
				if n > 0 {
					w := adaptive.Window{OK: n, Timed: n, Latency: latency * time.Duration(n), MinLatency: latency, MaxInFlight: in, Full: in%2 == 0}
					d = l.Window(now, w)
				} else {
					d = l.Ended(now, adaptive.Call{SentAt: now - latency, InFlight: in}, adaptive.Outcome{Class: class})
				}
				if d.Limit < 1 || d.Limit > adaptive.MaxLimit || d.Pace < 0 || math.IsNaN(d.Pace) || math.IsInf(d.Pace, 0) {
					t.Fatalf("%T: %+v", l, d)
				}
				if d != l.Decision() {
					t.Fatalf("%T: answered %+v, keeps %+v", l, d, l.Decision())
				}
				if d.Episode < before.Episode {
					t.Fatalf("%T: episode went back: %+v after %+v", l, d, before)
				}
			}
		}
	})
}
