package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// measured returns a paced guard that was told of refusals: after each of them so many s passed until the next, at a pace of so many a second, with
// so long a pause in it.
func measured(t *testing.T, refusals []struct{ seconds, pace, passed, pause float64 }) *PaceState {
	t.Helper()
	g, _ := paced(t)
	g.s.Burst = BurstState{} // nobody knows what was saved up before
	p := &g.s.Pace[paceRequests]
	*p = PaceState{Rate: 10, Known: 10, Ceiling: unbounded}
	for _, r := range refusals {
		p.Rate, p.Lowest, g.s.LastPause = r.pace, float32(r.pace/2), time.Duration(r.pause*1e9)
		g.measure(paceRequests, r.passed, r.seconds, r.pause, 1, 0)
	}
	return p
}

func TestGovernorQuotaBySpans(t *testing.T) {
	// Two a second, whatever the pace and the time were; each is off by a call.
	p := measured(t, []struct{ seconds, pace, passed, pause float64 }{
		{10, 4, 21, 0}, {5, 3, 9.2, 0}, {20, 2.5, 40.5, 0}, {11, 3.3, 21.5, 0}, {40, 2.4, 80.6, 0}, {60, 2.9, 119.5, 0},
	})
	if !p.Saves || math.Abs(p.Known-2) > 0.02 {
		t.Errorf("saves %v, %v a second, want 2", p.Saves, p.Known)
	}
	// It falls by half: what was before says nothing any more.
	g := &Governor{}
	g.s.Pace[paceRequests] = *p
	p = &g.s.Pace[paceRequests]
	p.Rate, p.Lowest = 1.96, 1.9
	g.measure(paceRequests, 10, 10, 0, 1, 0)
	if p.Known > 1.1 || p.SpanCalls != 10 || p.SpanTime != 10 {
		t.Errorf("%v a second after it fell to 1; %v calls in %v s count", p.Known, p.SpanCalls, p.SpanTime)
	}
}

func TestGovernorQuotaThatSavesNothing(t *testing.T) {
	// It refuses at ten a second each time, and less passes the longer the pace was kept below.
	p := measured(t, []struct{ seconds, pace, passed, pause float64 }{
		{10, 10, 60, 0}, {20, 10.1, 150, 0}, {30, 9.95, 250, 0}, {30, 10.02, 270, 0}, {30, 10, 280, 0},
	})
	if p.Saves || p.Known < 9 || p.Known > 10 {
		t.Errorf("saves %v, %v a second, want nearly 10", p.Saves, p.Known)
	}
}

func TestGovernorPausesAreTime(t *testing.T) {
	for _, test := range []struct {
		saved bool
		want  float64
	}{{true, 2}, {false, 2.2}} {
		var refusals []struct{ seconds, pace, passed, pause float64 }
		for i, seconds := range []float64{6, 8, 5, 12, 7, 30, 6, 40, 9, 50} {
			passed := 2 * seconds
			if !test.saved {
				passed = 2.2 * (seconds - 1)
			}
			refusals = append(refusals, struct{ seconds, pace, passed, pause float64 }{seconds, 2.5 + 0.3*float64(i%2), passed, 1})
		}
		p := measured(t, refusals)
		if p.PauseSaved != test.saved || math.Abs(p.Known/test.want-1) > 0.04 {
			t.Errorf("saved up in pauses %v: taken for %v, %v a second, want %v", test.saved, p.PauseSaved, p.Known, test.want)
		}
	}
}

// Of a quota of a call in ten seconds that has nothing, a guard that asks alone finds that out by few refusals.
func TestGovernorRowOfOne(t *testing.T) {
	g := New(Config{})
	now := time.Duration(0)
	call := func(class feedback.Class) {
		c := Call{SentAt: now, Episode: g.s.Episode, InFlight: 1}
		g.Window(now, Window{Start: now, InFlight: 1, MaxInFlight: 1, Waiting: 1})
		now += 10 * time.Millisecond
		g.Ended(now, c, Outcome{Class: class})
		now = max(now, g.Decision().NotBefore)
	}
	refusals := 0
	for ; now < 10*time.Second; refusals++ {
		call(feedback.Throttled)
	}
	if refusals > 14 || g.s.Pace[paceRequests].Rate == 0 {
		t.Errorf("%d refusals in ten seconds, want at most 14, and a pace (%v)", refusals, g.s.Pace[paceRequests].Rate)
	}
}

// What is forgotten of a span leaves a state that can be restored.
func TestGovernorHalfOfASpan(t *testing.T) {
	p := &PaceState{}
	p.addSpan(false, 2*mostSpan, 1.5*leastSpan, 0)
	if p.SpanTime != 0 && p.SpanTime < leastSpan {
		t.Errorf("%v calls in %v s are kept", p.SpanCalls, p.SpanTime)
	}
}

// What passed told at several paces that a quota saves up, so that it was met at the same one once more says nothing else.
func TestGovernorSavesAtTheSamePace(t *testing.T) {
	p := measured(t, []struct{ seconds, pace, passed, pause float64 }{
		{40, 4, 80, 0}, {41, 3, 82, 0}, {42, 3.6, 84, 0}, {43, 3, 86, 0}, {44, 4, 88, 0}, {44, 4.05, 88, 0},
	})
	if !p.Saves || math.Abs(p.Known-2) > 0.02 {
		t.Errorf("saves %v, %v a second, want 2", p.Saves, p.Known)
	}
}

// Of a slow quota few calls pass between two tries, and a pace above a guess is refused, too, where the guess holds: that says nothing of what is saved up. A refusal
// at the guess does, and so does one after others lowered what is kept, one of a quota that is not slow without a delay, and one where others may have been served.
func TestGovernorGuessTried(t *testing.T) {
	for _, test := range []struct {
		name               string
		known, guess, pace float64
		delay              time.Duration
		others             uint8
		saves              bool
	}{
		{"tried above the guess", 0.15, 0.15, 0.187, time.Second, 0, false},
		{"averaged with what was known", 0.141, 0.15, 0.187, time.Second, 0, false},
		{"at the guess", 0.15, 0.15, 0.15, time.Second, 0, true},
		{"lowered since", 0.11, 0.15, 0.187, time.Second, 0, true},
		{"no delay", 0.15, 0.15, 0.187, 0, 0, false},
		{"no delay, not slow", 1.7, 1.7, 2.1, 0, 0, true},
		{"others may use it", 0.15, 0.15, 0.187, time.Second, 1, true},
	} {
		g := New(Config{})
		s, p := &g.s, &g.s.Pace[paceRequests]
		s.At, s.Mean, s.LastPause, s.PausedUntil = time.Minute, 0.03, test.delay, time.Minute+test.delay
		s.Others = test.others
		*p = PaceState{Rate: test.pace, Known: test.known, Ceiling: test.known, Guess: float32(test.guess), Lowest: float32(0.9 * test.known), Sure: true, Measured: true}
		g.measure(paceRequests, 18, 140, test.delay.Seconds(), 1, 0)
		if p.Saves != test.saves {
			t.Errorf("%s: saves up: %v, want %v", test.name, p.Saves, test.saves)
		}
	}
}

// A quota that saves up nothing loses what had come back for a call that it refuses: half a call on average, which is much of the few that pass between two refusals of a slow one.
// Not more than the pace at which it refuses; one that saves up loses nothing, of a fast one it is next to nothing, beside a delay the next call comes when there is all of it,
// and others have it where they use the quota, too.
func TestGovernorRefusalsLose(t *testing.T) {
	for _, test := range []struct {
		name                         string
		i                            int
		known, pace, passed, refused float64
		set                          func(*GovernorState)
		want                         float64
	}{
		{"slow", paceRequests, 0.25, 0.4, 5, 2, nil, 0.24},
		{"more refusals", paceRequests, 0.25, 0.4, 5, 4, nil, 0.28},
		{"no more than the pace", paceRequests, 0.25, 0.25, 5, 4, nil, 0.25},
		{"it saves up", paceRequests, 0.25, 0.4, 5, 2, func(s *GovernorState) { s.Pace[paceRequests].Saves = true }, 0.2},
		{"fast", paceRequests, 2, 3, 40, 2, nil, 1.6},
		{"tokens", paceTokens, 0.25, 0.4, 5, 2, nil, 0.2},
		{"a delay was named", paceRequests, 0.25, 0.4, 5, 2, func(s *GovernorState) { s.LastPause = 10 * time.Second }, 0.2},
		{"others may use it", paceRequests, 0.25, 0.4, 5, 2, func(s *GovernorState) { s.Sharing = 0.5 }, 0.2},
	} {
		g := New(Config{})
		p := &g.s.Pace[test.i]
		g.s.At, g.s.TokensPerCall = time.Minute, 1
		*p = PaceState{Rate: test.pace, Known: test.known, Ceiling: test.known, Lowest: float32(test.pace)}
		if test.set != nil {
			test.set(&g.s)
		}
		g.measure(test.i, test.passed, 25, 0, test.refused, 0)
		if math.Abs(p.Known-test.want) > 1e-6 {
			t.Errorf("%s: %v a second, want %v", test.name, p.Known, test.want)
		}
	}
}

// A quota that accepted one call alone before its first refusal saves up nothing, so that a guess which is refused soon says nothing else. Not where that is not known, as the first refusal came late,
// nor where others may use it, nor beside a delay, nor of tokens, which are counted otherwise.
func TestGovernorSavesNoMoreThanOne(t *testing.T) {
	for _, test := range []struct {
		name  string
		i     int
		burst BurstState
		set   func(*GovernorState)
		saves bool
	}{
		{"one, then a refusal at once", paceRequests, BurstState{Calls: 1}, nil, false},
		{"one in half a second", paceRequests, BurstState{Calls: 1, Seconds: 0.5}, nil, false},
		{"two", paceRequests, BurstState{Calls: 2}, nil, true},
		{"two, of which one came back", paceRequests, BurstState{Calls: 2, Seconds: 8}, nil, false},
		{"none is known", paceRequests, BurstState{}, nil, true},
		{"the first refusal came late", paceRequests, BurstState{Calls: 1, Seconds: 3}, nil, true},
		{"others may use the quota", paceRequests, BurstState{Calls: 1}, func(s *GovernorState) { s.Others = 1 }, true},
		{"others may use a limit", paceRequests, BurstState{Calls: 1}, func(s *GovernorState) { s.Sharing = 0.5 }, true},
		{"tokens", paceTokens, BurstState{Calls: 1}, nil, true},
		{"a delay was named", paceRequests, BurstState{Calls: 1}, func(s *GovernorState) { s.LastPause = time.Second }, true},
	} {
		g := New(Config{})
		s, p := &g.s, &g.s.Pace[test.i]
		s.At, s.Mean, s.Burst, s.TokensPerCall = time.Minute, 0.03, test.burst, 1
		if test.set != nil {
			test.set(s)
		}
		*p = PaceState{Rate: 2.1, Known: 1.7, Ceiling: 1.7, Guess: 1.7, Lowest: 1.6, Sure: true, Measured: true}
		g.measure(test.i, 18, 140, 0, 1, 0)
		if p.Saves != test.saves {
			t.Errorf("%s: saves up: %v, want %v", test.name, p.Saves, test.saves)
		}
	}
}
