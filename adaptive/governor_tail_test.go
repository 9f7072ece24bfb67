package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Alone in flight a call is never one too many: a limit of one, as it is taken for beside a pace that was measured, is not what refuses, so the pace is measured. Else
// nothing would ever change: a refusal each two seconds, of which the delay is one, for as long as the process lives.
func TestGovernorAloneBesidePace(t *testing.T) {
	for open, bound := range map[bool]float64{false: 2, true: 1} {
		g := boundedAndPaced(bound, 1, 20)
		s := &g.s
		s.Limit, s.Open, s.Flow, s.Mean, s.LastPause, s.InFlight = 1, open, 20.5, 0.05, time.Second, 1
		s.PausedUntil, s.PausedSum = s.At-time.Second, time.Hour
		s.Pace[paceRequests] = PaceState{Rate: 22.2, Known: 25.9, Ceiling: 26, Measured: true, Use: 0.64, AnchorAt: s.At - 2100*time.Millisecond, AnchorCount: g.accepted() - 21, AnchorPaused: s.PausedSum - time.Second}
		g.Ended(s.At+time.Millisecond, Call{SentAt: s.At, InFlight: 1, Episode: s.Episode}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown, HasRetryAfter: true, RetryAfter: time.Second})
		if p := s.Pace[paceRequests]; p.Rate >= 22.2 || p.Known == 25.9 {
			t.Errorf("the same trouble %v: the pace is still %v, the quota %v a second", open, p.Rate, p.Known)
		}
	}
}

// A row of refusals at slower and slower paces, between which calls pass, is of a quota that gives less than it did: the pace does not go back to what that was. One between which
// nothing passes may be of a window that is used up, and says nothing of what it gives, and so it is where others may fill a limit, or refusals may mean nothing.
func TestGovernorLeastInRows(t *testing.T) {
	for _, test := range []struct {
		name    string
		passed  int
		sharing float32
		chance  float32
		known   bool
	}{{"calls pass", 1, 0, 0, false}, {"nothing passes", 0, 0, 0, true}, {"others refuse them", 1, soonCounts, 0, true}, {"chance", 1, 0, 0.5, true}} {
		g := boundedAndPaced(0, 12, 0)
		s := &g.s
		s.Limit, s.Streak, s.Sharing, s.Chance = 30, 1, test.sharing, test.chance
		s.Gives = LeastState{Gives: 163, Most: 167}
		s.Pace[paceRequests] = PaceState{Rate: 150, Known: 164, Ceiling: 164, Sure: true, Measured: true, Use: 1, AnchorAt: s.At, AnchorCount: g.accepted()}
		for range 3 {
			s.RefusedCount = g.accepted() - float64(test.passed)
			g.paceRefused(s.At, paceRequests, false)
		}
		if got := s.Gives.Gives > 0; got != test.known {
			t.Errorf("%s: what the quota gives at least is %v a second at a pace of %v", test.name, s.Gives.Gives, s.Pace[paceRequests].Rate)
		}
	}
}

// What refuses two calls beside a bucket is mostly the bucket. Two went well lately, so they are tried once a dozen have ended well alone, whatever may be spent; three after four times as many.
// Not where no more ever went well, where a pause forbids it, or where three are allowed: there it is what can be afforded that counts.
func TestGovernorFewAgain(t *testing.T) {
	for _, test := range []struct {
		name  string
		limit float64
		lower func(s *GovernorState)
		after int // calls that end well; 0: not tried
	}{
		{"one", 1, nil, 12},
		{"two", 2, nil, 48},
		{"three", 3, nil, 0},
		{"no more went well lately", 1, func(s *GovernorState) { s.Peak = 1 }, 0},
		{"a pause forbids it", 1, func(s *GovernorState) { s.ProbeAt = time.Hour }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, now := bounded(test.limit, test.limit+1)
			s := &g.s
			s.Peak, s.Credit, s.LastPause, s.Pauses = float32(test.limit+1), 0.1, 0, 0
			if test.lower != nil {
				test.lower(s)
			}
			tried := 0
			for i := 1; i <= 120 && tried == 0; i++ {
				now += 50 * time.Millisecond
				s.Credit = 0.1
				if g.Window(now, Window{Start: now - 50*time.Millisecond, OK: 1, Timed: 1, Latency: 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: int(test.limit), InFlight: int(test.limit) - 1, Waiting: 9, Full: true}); s.Limit > test.limit {
					tried = i
				}
			}
			if tried != test.after {
				t.Errorf("tried after %d calls, want %d", tried, test.after)
			}
		})
	}
}

// A quota that was measured beside a limit that is what holds back is not asked for more by a faster pace, but where a step of the limit starts many at once: they are refused, which lowers
// the limit. So a pace counts no further than what the quota gives.
func TestGovernorPaceWhereLimitHolds(t *testing.T) {
	for _, test := range []struct {
		name               string
		limit, bound, flow float64
		change             func(p *PaceState)
		want               float64
	}{
		{"the limit holds back", 876, 939, 20, nil, 35},
		{"the pace does", 876, 939, 34, nil, 47},
		{"no limit is known", 876, 0, 20, nil, 47},
		{"of few calls", 100, 110, 20, nil, 47},
		{"what the quota gives was not measured", 876, 939, 20, func(p *PaceState) { p.Measured = false }, 47},
		{"what headers say is left lasts", 876, 939, 20, func(p *PaceState) { p.StatedKind, p.StatedEnd = feedback.ScopeRequests, time.Hour }, 47},
	} {
		g, _ := bounded(test.limit, test.bound)
		s := &g.s
		s.Flow = test.flow
		s.Pace[paceRequests] = PaceState{Rate: 47, Known: 35, Ceiling: 50, Measured: true, Use: 1}
		if test.change != nil {
			test.change(&s.Pace[paceRequests])
		}
		if got := g.Decision().Pace; got != test.want {
			t.Errorf("%s: the pace is %v, want %v", test.name, got, test.want)
		}
	}
}

// A quota refuses a call with fewer in flight than many saw that were accepted. By itself such a refusal may mean nothing; when the next call is refused as well, it began a row, and what it would
// have said counts: with half as many in flight no limit refuses. At the boundary it would only say what is known, and before there is one the row tells what it is, as ever.
func TestGovernorRowAfterNoise(t *testing.T) {
	for _, test := range []struct {
		name   string
		n      int
		bound  float64
		passed int64 // between the two
		want   bool  // evidence for a quota
	}{
		{"with half as many in flight", 40, 100, 0, true},
		{"many passed in between", 40, 100, 300, false},
		{"at the boundary", 100, 100, 0, false},
		{"before any boundary was met", 40, 0, 0, false},
	} {
		g, now := warm(100)
		s := &g.s
		s.Limit, s.SlowStart, s.Top, s.Proven, s.Peak, s.RetestAt, s.Credit, s.RefusalTime, s.Test = 110, false, 100, 100, 100, 0, 3, 0.01, 3
		s.Bound, s.LastBound, s.Refused, s.Done, s.Flow = test.bound, test.bound, 5, 10000, 1
		s.RefusedCount, s.Recovering, s.Open, s.Mean, s.MeanOf = g.accepted()-500, false, false, 0.2, 32
		refuseOne := func() {
			now += 20 * time.Millisecond
			s.InFlight = test.n
			g.Ended(now, Call{SentAt: now - 10*time.Millisecond, InFlight: test.n, Episode: s.Episode}, refused(feedback.ScopeUnknown))
		}
		refuseOne()
		if !s.Waived {
			t.Fatalf("%s: the first refusal after 500 calls means something", test.name)
		}
		s.Done += test.passed
		before := s.Against
		same := s.Same
		refuseOne()
		if got := s.Against > before || s.Pace[paceRequests].Rate > 0; got != test.want || s.Same != same {
			t.Errorf("%s: evidence %v after %v, refusals at the same number %d after %d", test.name, s.Against, before, s.Same, same)
		}
	}
}

// A window that allows a little less at each refusal is none: of two calls in each second, unevenly asked for, twelve in ten seconds were taken for one, and fewer and fewer of them. One that falls to a half at
// once goes on.
func TestGovernorSlideDrifts(t *testing.T) {
	for _, test := range []struct {
		name   string
		counts []float64 // accepted in the window before each refusal
		known  bool
	}{
		{"little by little", []float64{95, 91, 87, 83, 79, 76, 73, 70}, false},
		{"as it was", []float64{100, 99, 100, 98, 100, 100}, true},
		{"to a half at once", []float64{50, 50, 49, 50, 50, 49}, true},
	} {
		g, now := warm(40)
		s := &g.s
		const tenSeconds = 3
		s.Slide = SlideState{Of: tenSeconds + 1, Allows: 100, Before: 100, Ask: 1, N: 16}
		s.Slide.Mean[tenSeconds] = 100
		s.Pace[paceRequests] = PaceState{Rate: 10, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}
		s.RefusalTime, s.Flow, s.InFlight = 0, 0, 0
		for _, n := range test.counts {
			now += 20 * time.Second
			g.note(now)
			s.Done += int64(n)
			g.note(now + 2*time.Second)
			now += 3 * time.Second
			g.note(now)
			s.Slide.Debt = min(s.Slide.Debt, 1)
			if g.slideKnown(now, &Call{SentAt: now, Episode: s.Episode, InFlight: 1}, true); s.Slide.Of == 0 {
				break
			}
		}
		if got := s.Slide.Of > 0; got != test.known {
			t.Errorf("%s: known %v, which allows %v", test.name, got, s.Slide.Allows)
		}
	}
}
