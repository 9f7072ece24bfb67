package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A refusal that a probe caused is owed when nothing is left of the budget; one that came at a pace that was known to be fine is not.
func TestGovernorOwesForProbes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pace  PaceState
		turn  TurnState
		slide SlideState
		least float64
	}{
		{"no pace", PaceState{}, TurnState{}, SlideState{}, 0},
		{"at a fine pace", PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{}, SlideState{}, 0},
		{"above what is not sure", PaceState{Rate: 12, Known: 10, Ceiling: 13, Measured: true, Use: 1}, TurnState{}, SlideState{}, 0},
		{"a probe", PaceState{Rate: 12, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{}, SlideState{}, -probeOwed},
		{"in a window", PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{Period: 60, Allows: 600, Ask: 1}, SlideState{}, -mostOwed},
		{"in a window of a second", PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{}, SlideState{Of: slideSecond + 1, Allows: 10, Ask: 1}, -maxCredit},
		{"in a window of a minute that slides", PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1}, TurnState{}, SlideState{Of: slideTokens, Allows: 600, Ask: 1}, 0},
	} {
		g := New(Config{})
		g.s.At, g.s.Origin = 0, 0
		g.s.Credit, g.s.Pace[paceRequests], g.s.Turn, g.s.Slide = 0, tt.pace, tt.turn, tt.slide
		for range 20 {
			c := Call{SentAt: g.s.At, Episode: g.s.Episode - 1, InFlight: 5} // all of the same row
			if g.s.Refused == 0 {
				c.Episode = g.s.Episode
			}
			g.Ended(g.s.At, c, Outcome{Class: feedback.Throttled})
		}
		if g.s.Credit != tt.least {
			t.Errorf("%s: %v left after twenty refusals, want %v", tt.name, g.s.Credit, tt.least)
		}
	}
}

// A pace that was tried and told what was known costs two refusals from the time after sameAgain in a row on. Whatever is owed, that never gives something back.
func TestGovernorConfirmed(t *testing.T) {
	g := New(Config{})
	s := &g.s
	p := &s.Pace[paceRequests]
	*p = PaceState{Rate: 12, Known: 10, Sure: true, Measured: true, Use: 1}
	s.Paid = true
	s.Credit = 2
	for i := range sameAgain + 5 {
		want := max(2-max(0, float64(i+1-sameAgain)), -probeOwed)
		if g.confirmed(p, 10.1, true); s.Credit != want {
			t.Errorf("%v left of 2 after %d that told the same, want %v", s.Credit, i+1, want)
		}
	}
	s.Credit = -mostOwed
	if g.confirmed(p, 10, true); s.Credit != -mostOwed {
		t.Errorf("%v owed after a pace told the same, %v before", s.Credit, -mostOwed)
	}
	s.Credit = 2
	if g.confirmed(p, 12, true); s.Confirmed != 0 || s.Credit != 2 {
		t.Errorf("%v left of 2 after a pace told something else", s.Credit)
	}
}

// Of a quota that is known to save up, and not slow, nothing is left of the first budget once a try has told what was known, and the next one costs two refusals.
func TestGovernorConfirmedEndsFirstBudget(t *testing.T) {
	for _, test := range []struct {
		name  string
		known float64
		saves bool
		left  []float64 // of 8, after each that told the same
	}{
		{"saves up", 10, true, []float64{0, -probeOwed, -probeOwed}},
		{"may save up nothing", 10, false, []float64{8, 8, 7}},
		{"slow", 0.5, true, []float64{8, 8, 7}},
	} {
		g := New(Config{})
		s := &g.s
		p := &s.Pace[paceRequests]
		*p = PaceState{Rate: 1.2 * test.known, Known: test.known, Sure: true, Measured: true, Use: 1, Saves: test.saves}
		s.Paid, s.Credit = true, 8
		for i, want := range test.left {
			if g.confirmed(p, test.known, true); s.Credit != want {
				t.Errorf("%s: %v left of 8 after %d that told the same, want %v", test.name, s.Credit, i+1, want)
			}
		}
	}
}

// After a refusal at a measured pace of a quota that saves up nothing starts for as long as a quota takes to give a call, and not for longer than ten seconds.
func TestGovernorHoldsAfterRefusals(t *testing.T) {
	for _, test := range []struct {
		name  string
		known float64
		set   func(*GovernorState, *PaceState)
		want  time.Duration
	}{
		{"a fine pace", 10, func(s *GovernorState, p *PaceState) { p.Rate = 9.8 }, 100 * time.Millisecond},
		{"a try", 10, func(s *GovernorState, p *PaceState) { p.Rate = 13 }, 100 * time.Millisecond},
		{"not measured", 10, func(s *GovernorState, p *PaceState) { p.Measured = false }, 0},
		{"headers", 10, func(s *GovernorState, p *PaceState) { p.StatedKind = feedback.ScopeRequests }, 0},
		{"a delay", 10, func(s *GovernorState, p *PaceState) { s.PausedUntil = time.Second }, 0},
		{"noise", 10, func(s *GovernorState, p *PaceState) { s.Chance = noiseTrial }, 0},
		{"a window", 10, func(s *GovernorState, p *PaceState) { s.Turn.Period = 60 }, 0},
		{"a fine pace was refused", 10, func(s *GovernorState, p *PaceState) { s.Contra = 1 }, 100 * time.Millisecond},
		{"twice lately", 10, func(s *GovernorState, p *PaceState) { s.Contra = 1.5 }, 0},
		{"unsure", 10, func(s *GovernorState, p *PaceState) { p.Sure = false }, 0},
		{"may save up nothing", 10, func(s *GovernorState, p *PaceState) { p.Saves = false }, 0},
		{"one more was refused after a try before", 10, func(s *GovernorState, p *PaceState) { p.Saves, s.Charged, s.Probed = false, true, true }, 100 * time.Millisecond},
		{"slow", 0, func(s *GovernorState, p *PaceState) {}, mostRefusedHold},
	} {
		g := New(Config{})
		p := &g.s.Pace[paceRequests]
		*p = PaceState{Rate: test.known, Known: test.known, Sure: true, Measured: true, Use: 1, Saves: true}
		test.set(&g.s, p)
		if got := g.refusedHold(0); got != test.want {
			t.Errorf("%s: nothing starts for %v", test.name, got)
		}
	}
	g, now := paced(t)
	now += 3 * time.Second
	g.Window(now, Window{Start: now - time.Second, OK: 25, Timed: 25, Latency: 25 * time.Second, MinLatency: time.Second, MaxInFlight: 21, InFlight: 20, Waiting: 9})
	p := &g.s.Pace[paceRequests]
	for _, at := range []time.Duration{0, time.Millisecond} { // of a row
		p.Rate, p.Use, p.Sure = 1.2*p.Known, 1, true
		g.Ended(now+at, Call{SentAt: now + at, InFlight: 2, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
	}
	if !g.s.Charged {
		t.Error("one more was refused after a pace that was tried, and that is not noted")
	}
}

// By which refusals it is learned what a slow quota gives costs nothing of what can be saved up for tries; where more passes, where it is known or told, or by a limit on calls in
// flight, as it says, each refusal costs one.
func TestGovernorLearnsSlowQuotaForNothing(t *testing.T) {
	for _, tt := range []struct {
		name        string
		pace        PaceState
		scope       feedback.Scope
		first, left float64
	}{
		{"slow, not measured", PaceState{Rate: 0.5, Known: 0.5, Use: 1}, feedback.ScopeUnknown, 10, maxCredit},
		{"slow, not sure", PaceState{Rate: 1.6, Known: 1, Measured: true, Use: 1}, feedback.ScopeUnknown, 2.5, 2.5},
		{"slow and sure", PaceState{Rate: 0.5, Known: 0.5, Sure: true, Measured: true, Use: 1}, feedback.ScopeUnknown, 10, 0},
		{"fast, and cut", PaceState{Rate: 0.5, Known: 1.7, Measured: true, Use: 1}, feedback.ScopeUnknown, 10, 0},
		{"fast", PaceState{Rate: 1.7, Known: 1, Measured: true, Use: 1}, feedback.ScopeUnknown, 10, 0},
		{"no pace", PaceState{}, feedback.ScopeUnknown, 10, 0},
		{"a limit on calls", PaceState{Rate: 0.5, Known: 0.5, Use: 1}, feedback.ScopeConcurrency, 10, 0},
		{"headers", PaceState{Rate: 0.5, Known: 0.5, Use: 1, StatedKind: feedback.ScopeRequests, StatedEnd: time.Hour}, feedback.ScopeUnknown, 10, 0},
	} {
		g := New(Config{})
		g.s.At, g.s.Credit, g.s.Pace[paceRequests] = 0, tt.first, tt.pace
		for range 20 {
			g.pay(0, &Call{InFlight: 5, Episode: g.s.Episode - 1}, &Outcome{Class: feedback.Throttled, Scope: tt.scope})
		}
		if g.s.Credit != tt.left {
			t.Errorf("%s: %v left of %v after twenty refusals, want %v", tt.name, g.s.Credit, tt.first, tt.left)
		}
		if want := tt.left == 0; g.s.Paid != want {
			t.Errorf("%s: the last refusal was taken from the budget: %v", tt.name, g.s.Paid)
		}
	}
}

// A slow pace that is sure is tried again once twenty calls could have passed since the last refusal, or after a minute, however many may be refused, and so is one of a quota that saves up,
// unless refusals may mean nothing.
func TestGovernorSpreadsTries(t *testing.T) {
	for _, test := range []struct {
		known  float64
		i      int
		budget float64
		want   time.Duration
	}{
		{1, paceRequests, 0.01, 20 * time.Second}, {0.5, paceRequests, 0.01, 40 * time.Second}, {0.01, paceRequests, 0.01, time.Minute},
		{1.7, paceRequests, 0.01, 0}, {1, paceRequests, 0.02, 0}, {1, paceTokens, 0.01, 0},
	} {
		g := New(Config{RefusalBudget: test.budget})
		g.s.RefusedLast = time.Hour
		p := &g.s.Pace[test.i]
		*p = PaceState{Rate: test.known, Known: test.known, Sure: true, Measured: true, Use: 1}
		if got := g.paceProbeAt(p) - time.Hour; got != test.want {
			t.Errorf("%+v: tried again after %v", test, got)
		}
		if p.Saves = true; test.i == paceRequests {
			want := min(time.Minute, time.Duration(20e9/test.known))
			if got := g.paceProbeAt(p) - time.Hour; (got - want).Abs() > time.Microsecond {
				t.Errorf("%+v, saves up: tried again after %v", test, got)
			}
			g.s.Chance = 1
			if got := g.paceProbeAt(p) - time.Hour; got != test.want {
				t.Errorf("%+v, saves up, beside noise: tried again after %v", test, got)
			}
			g.s.Chance, g.s.Contra = 0, 1.5
			if got := g.paceProbeAt(p) - time.Hour; got != test.want {
				t.Errorf("%+v, saves up, a fine pace was refused twice lately: tried again after %v", test, got)
			}
		}
	}
	g, now := paced(t)
	p := &g.s.Pace[paceRequests]
	*p = PaceState{Rate: 0.98, Known: 1, Ceiling: 1, Sure: true, Measured: true, Use: 1, AnchorAt: now, AnchorCount: g.accepted()}
	g.s.Credit, g.s.RefusedLast, g.s.FlowPast = maxCredit, now, 1
	tried := time.Duration(0)
	for i := 1; i <= 30 && tried == 0; i++ {
		now += time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 1, Timed: 1, Latency: time.Second / 2, MinLatency: time.Second / 2, MaxInFlight: 2, InFlight: 1, Waiting: 9})
		if p.Rate > p.Known {
			tried = time.Duration(i) * time.Second
		}
	}
	if tried < 20*time.Second || tried > 22*time.Second {
		t.Errorf("a quota of a call a second is tried again %v after it was refused", tried)
	}
}

// A pace that is tried is measured by its refusal however much of it is known to be in use, as it rises sooner than that is known: the refusal may be owed, and where one more would
// be charged nothing starts for as long as the quota takes to give one.
func TestGovernorMeasuresTriedPace(t *testing.T) {
	known := 0.0
	for _, test := range []struct {
		name string
		set  func(*GovernorState, *PaceState)
		want bool
	}{
		{"more passes", func(*GovernorState, *PaceState) {}, true},
		{"less passes", func(s *GovernorState, p *PaceState) { s.Flow = 0.9 * known }, false},
		{"hardly above", func(s *GovernorState, p *PaceState) { p.Rate = 1.01 * known }, false},
		{"not sure", func(s *GovernorState, p *PaceState) { p.Sure = false }, false},
		{"not measured", func(s *GovernorState, p *PaceState) { p.Measured = false }, false},
		{"refused lately where it was fine", func(s *GovernorState, p *PaceState) { s.Contra = 0.5 }, false},
		{"headers", func(s *GovernorState, p *PaceState) { p.StatedKind, p.StatedEnd = feedback.ScopeRequests, time.Hour }, false},
		{"windows", func(s *GovernorState, p *PaceState) { s.Turn = TurnState{Period: 60, Allows: 600, Ask: 1} }, false},
		{"a window that slides", func(s *GovernorState, p *PaceState) { s.Slide.Of = 1 }, false},
	} {
		g, now := paced(t)
		s := &g.s
		p := &s.Pace[paceRequests]
		known = p.Known
		p.Sure, p.Rate, p.Use = true, 1.8*known, 0.7
		s.Flow, s.Credit, s.Charged, s.Streak = 1.2*known, 0.5, true, 0
		test.set(s, p)
		if got := g.tried(p); got != test.want {
			t.Errorf("%s: tried %v", test.name, got)
		}
		if !test.want {
			continue
		}
		if s.Pace[paceTokens] = *p; g.tried(&s.Pace[paceTokens]) {
			t.Errorf("%s: a pace of tokens counts as tried by the calls that pass", test.name)
		}
		s.Pace[paceTokens] = PaceState{}
		s.Done += 60 // in 5 s
		now += 5 * time.Second
		g.Ended(now, Call{SentAt: now, InFlight: 2, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
		if !s.Probed || s.Credit != -0.5 {
			t.Errorf("the refusal of a try may not be owed: %v left", s.Credit)
		}
		if p.AnchorAt != now || p.Rate >= 1.5*known {
			t.Errorf("a refusal of a pace that is tried says nothing of it: %+v", p)
		}
		if hold := s.HoldUntil - now; hold < time.Duration(0.9e9/known) {
			t.Errorf("after a try that was too much nothing starts for %v, and a call is given in %v s", hold, 1/known)
		}
	}
}
