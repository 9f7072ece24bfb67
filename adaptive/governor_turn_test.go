package adaptive

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// inWindows is a guard with a law that always has callers waiting, before a quota of so many calls in each window of a length.
func inWindows(w *windows) *metered { return &metered{g: New(Config{}), busy: true, takes: w.takes} }

// A quota of a hundred calls a minute, in windows of which nobody tells: after three that were used up it is known when they turn and how many calls
// each allows, all of them are made, and hardly any is refused.
func TestGovernorLearnsWindows(t *testing.T) {
	for _, from := range []time.Duration{-30 * time.Second, -7 * time.Second, 0} {
		u := inWindows(&windows{allows: 100, length: time.Minute, from: from})
		u.run(10 * time.Minute)
		w := u.g.State().Turn
		if w.Period != 60 || math.Abs(float64(w.Allows)-100) > 3 {
			t.Errorf("windows that begin at %v: %+v, want 100 calls in 60 s", from, w)
			continue
		}
		if off := math.Abs(math.Remainder((w.At - from).Seconds(), 60)); off > 3 {
			t.Errorf("windows that begin at %v seem to turn at %v", from, w.At)
		}
		ok, refused := u.ok, u.refused
		u.run(20 * time.Minute)
		if got := u.ok - ok; got < 960 {
			t.Errorf("windows that begin at %v: %d calls in ten minutes, want 960 and more of 1000", from, got)
		}
		if got := u.refused - refused; got > 20 {
			t.Errorf("windows that begin at %v: %d refused in ten minutes, want at most 20 for 1000 calls", from, got)
		}
	}
}

// When windows allow twice as many, that is found within a few of them, and when they allow half as many again, too.
func TestGovernorFollowsWindows(t *testing.T) {
	quota := &windows{allows: 100, length: time.Minute}
	u := inWindows(quota)
	u.run(10 * time.Minute)
	quota.allows = 200
	u.run(16 * time.Minute)
	if w := u.g.State().Turn; w.Period != 60 || math.Abs(float64(w.Allows)-200) > 10 {
		t.Errorf("six minutes after windows of 100 calls have grown to 200: %+v", w)
	}
	quota.allows = 100
	u.run(19 * time.Minute)
	if w := u.g.State().Turn; w.Period != 60 || math.Abs(float64(w.Allows)-100) > 5 {
		t.Errorf("three minutes after windows of 200 calls have shrunk to 100: %+v", w)
	}
}

// A call that is accepted in the middle of a window that is used up refutes it.
func TestGovernorForgetsWindows(t *testing.T) {
	quota := &windows{allows: 100, length: time.Minute}
	u := inWindows(quota)
	u.run(10 * time.Minute)
	*quota = windows{allows: 20, length: 17 * time.Second, from: u.now}
	u.run(14 * time.Minute)
	if w := u.g.State().Turn; w.Period == 60 {
		t.Errorf("windows of 17 s are taken for such of a minute: %+v", w)
	}
}

// Whatever the state, what is left of a window gives a pace within bounds.
func TestPropWindowPace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{})
		g.s.At, g.s.Origin = time.Hour, 0
		g.s.Pace[paceRequests] = PaceState{Rate: 1, Known: rapid.Float64Range(1e-4, 1e6).Draw(t, "known"), Measured: true}
		g.s.Turn = TurnState{
			At: time.Duration(rapid.Int64Range(0, 2*int64(time.Hour)).Draw(t, "at")), Count: rapid.Float64Range(-1e9, 1e9).Draw(t, "count"),
			Period: rapid.SampledFrom([]float32{10, 60}).Draw(t, "period"), Allows: rapid.Float32Range(1, 1e9).Draw(t, "allows"), Ask: rapid.Float32Range(1, 2).Draw(t, "ask"),
		}
		known := g.s.Pace[paceRequests].Known
		if got := g.windowPace(time.Hour); !(got >= turnSlow*known && got <= turnFast*known) {
			t.Errorf("pace %v, want %v to %v", got, turnSlow*known, turnFast*known)
		}
	})
}

// A bound on growth allows a fifth more in each ten seconds. It is no quota that is counted in windows, whose count would stay.
func TestGovernorWindowsThatClimb(t *testing.T) {
	for _, test := range []struct {
		name   string
		growth float64
		known  bool
	}{{"a fifth more each time", 1.2, false}, {"as many each time", 1, true}} {
		g, now := warm(10)
		s := &g.s
		s.Credit, s.Done = -4, 1000
		s.Pace[paceRequests] = PaceState{Rate: 10, Known: 10, Measured: true, Sure: true}
		s.Turn = TurnState{At: now, Count: g.accepted(), Period: 10, Allows: 100, Before: 100, Ask: 1, Fits: 2}
		allows := 100.0
		for range 3 {
			allows *= test.growth
			now += 10 * time.Second
			g.advance(now)
			s.Done += int64(allows)
			s.DarkSince = now - time.Second
			if !g.turnedAgain(now-10*time.Millisecond, now+10*time.Millisecond, g.accepted()) {
				t.Fatalf("%s: a turn after ten seconds does not fit", test.name)
			}
		}
		if known := s.Turn.Period > 0; known != test.known || !test.known && s.Credit < 0 {
			t.Errorf("%s: windows known %v, want %v; the budget of refusals is %v", test.name, known, test.known, s.Credit)
		}
	}
}

// Where others use a quota, too, little may be left in a window. That is nothing that windows allow: a window that lets a call pass in each ten seconds, where a hundred
// did, is none, and a pace of a call in eighty seconds must not follow from it. Half as many, or a third, may be a quota that was cut.
func TestGovernorWindowsThatOthersUse(t *testing.T) {
	for _, test := range []struct {
		passed int64
		known  bool
	}{{1, false}, {24, false}, {34, true}, {50, true}} {
		g, now := warm(10)
		s := &g.s
		s.Credit, s.Done = -4, 1000
		s.Pace[paceRequests] = PaceState{Rate: 10, Known: 10, Measured: true, Sure: true}
		s.Turn = TurnState{At: now, Count: g.accepted(), Period: 10, Allows: 100, Before: 100, Ask: 1, Fits: 2}
		now += 10 * time.Second
		g.advance(now)
		s.Done += test.passed
		s.DarkSince, s.DarkLast = now-time.Second, now
		s.Turn.Dark = g.accepted()
		g.turned(now+20*time.Millisecond, now+10*time.Millisecond, turnRow)
		if known := s.Turn.Period > 0; known != test.known {
			t.Errorf("%d calls of a hundred passed: windows known %v, want %v", test.passed, known, test.known)
		}
		if !test.known && s.Credit < 0 {
			t.Errorf("%d calls of a hundred passed: windows are forgotten, and what they cost is not: %v", test.passed, s.Credit)
		}
		if p := s.Pace[paceRequests]; !test.known && p.Known != 10 {
			t.Errorf("%d calls of a hundred passed: the quota gives %v a second, want 10 as before", test.passed, p.Known)
		}
	}
}
