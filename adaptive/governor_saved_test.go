package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// What passed before the first refusal is noted, since the first call or in the last three seconds, and then also when that was.
func TestGovernorNotesWhatWasSavedUp(t *testing.T) {
	for _, test := range []struct {
		seconds        int
		calls, counted float64
	}{{5, 50, 5}, {60, 30, -60}} {
		g := New(Config{})
		now := time.Hour
		end := now + time.Duration(test.seconds)*time.Second
		g.Window(now, Window{Start: now})
		for now < end {
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: time.Millisecond, MinLatency: time.Millisecond, MaxInFlight: 1})
		}
		g.Ended(now, Call{SentAt: now, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests))
		was := g.s.Burst
		if math.Abs(float64(was.Calls)-test.calls) > 11 || float64(was.Seconds) != test.counted {
			t.Errorf("after %d s of 10 a second: %+v, want %v calls in %v s", test.seconds, was, test.calls, test.counted)
		}
		if test.counted < 0 {
			continue
		}
		now += time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 9, MaxInFlight: 1})
		if g.Ended(now, Call{SentAt: now, InFlight: 1, Episode: g.Decision().Episode}, refused(feedback.ScopeRequests)); g.s.Burst != was {
			t.Errorf("%+v after the second refusal, %+v before", g.s.Burst, was)
		}
	}
}

// Of a first refusal that came late what passed before it is taken from 3, 6 or 12 s, whichever had most that the quota does not give, when it is first measured: a quota of two calls a second
// that saved up twelve gives six seconds of four.
func TestGovernorTakesTheLongestBurst(t *testing.T) {
	for _, test := range []struct {
		name           string
		burst          int // s of four a second before the refusal
		wait           time.Duration
		calls, seconds float32
		saves          bool
	}{
		{"six seconds", 6, 5 * time.Second, 24, 6, true},
		{"twelve", 12, 5 * time.Second, 48, 12, true},
		{"none", 0, 5 * time.Second, 6, 3, false},
		{"too long ago", 6, time.Minute, 12, 3, true},
	} {
		g := New(Config{})
		s := &g.s
		s.At, s.Origin = 0, 0
		for i := range 100 {
			s.At += 250 * time.Millisecond
			if i < 100-4*test.burst && i%2 == 0 {
				continue // two a second
			}
			s.Done++
			g.note(s.At)
		}
		s.Refused, s.Done = 1, s.Done+1
		g.noteBurst(s.At)
		if s.Burst.Seconds != -25 || !s.Burst.late() {
			t.Fatalf("%s: %+v noted at a refusal after 25 s", test.name, s.Burst)
		}
		for range int(test.wait / time.Second) {
			s.At += time.Second
			s.Done += 2
			g.note(s.At)
		}
		g.longest(2)
		if math.Abs(float64(s.Burst.Calls-test.calls)) > 2 || s.Burst.Seconds != test.seconds || !s.Burst.late() {
			t.Errorf("%s: %+v, want %v calls in %v s", test.name, s.Burst, test.calls, test.seconds)
		}
		if got := s.Burst.saves(2); got != test.saves {
			t.Errorf("%s: saves up %v", test.name, got)
		}
		was := s.Burst
		if g.longest(1); s.Burst != was {
			t.Errorf("%s: %+v became %+v when it was measured again", test.name, was, s.Burst)
		}
	}
}

// A pause counts as time up to what a quota saves up: with 101 calls saved up all of it does, with none little, and what a quota gives is never less than what passed.
func TestGovernorCountsPausesThatAreSavedUp(t *testing.T) {
	g := New(Config{})
	rate := func(burst, last float64) float64 {
		g.s.Burst = BurstState{Calls: float32(burst)}
		return g.gave(200, 20, 5, last)
	}
	none, much := rate(0, 5), rate(102, 5)
	if much != 10 {
		t.Errorf("200 calls in 20 s, 5 of which were a pause in which all was saved up: %v a second, want 10", much)
	}
	if none < 1.02*much || none > 200.0/15 {
		t.Errorf("200 calls in 20 s, 5 of which were a pause in which nothing was known to be saved up: %v a second, want 10 to 13.3", none)
	}
	if part := rate(31, 5); part < much || part > none {
		t.Errorf("with 30 calls saved up %v a second, want %v to %v", part, much, none)
	}
	for _, burst := range []float64{0, 1e15} {
		for _, last := range []float64{0, 1e-9, 86400} {
			if got := rate(burst, last); !(got >= 10 && got <= 1000) {
				t.Errorf("%v before the first refusal, a pause of %v s: %v a second", burst, last, got)
			}
		}
	}
}

// A pace rises for seconds until it is refused, so what passed in all that time is far below what the quota gives. What passed in the last seconds is not, but for what was saved
// up, which is no more than what passed before the first refusal.
func TestGovernorGuessesByWhatPassedLately(t *testing.T) {
	for _, test := range []struct {
		burst     float64
		from      BurstState
		low, high float64
	}{
		{2, BurstState{Calls: 2, Seconds: 0.02}, 92, 102},
		{2, BurstState{Calls: 2, Seconds: 3}, 75, 91}, // since when is not known
	} {
		now := time.Minute
		g := New(Config{})
		g.Restore(now, GovernorState{
			At: now, Limit: 8, Done: 3, Refused: 1, FlowAt: now, FlowCount: 2, Flow: 20, Busy: true, BusyAt: now, Mean: 0.001, Latency: time.Millisecond, SlowStart: true, Credit: 5,
			Burst: test.from, PausedUntil: now, LastPause: time.Second, PausedSum: time.Second,
			Pace: [numPaces]PaceState{{Rate: 30, Known: 30, Ceiling: unbounded, Lowest: 30, Use: 1, UsedAt: now, LastCount: 2, AnchorAt: now - time.Second, AnchorCount: 2, AnchorPaused: time.Second}},
		})
		takes := bucketOf(100, test.burst)
		for p := &g.s.Pace[paceRequests]; !p.Measured && now < 2*time.Minute; {
			d := g.Decision()
			now += time.Duration(1e9 / d.Pace)
			if call, took := (Call{SentAt: now, InFlight: 1, Episode: d.Episode}), time.Millisecond; takes(now) {
				g.Window(now+took, Window{Start: now, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: 1, Waiting: 20})
			} else {
				g.Ended(now+took, call, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown, HasRetryAfter: true, RetryAfter: time.Second})
			}
		}
		if r := g.s.Pace[paceRequests].Known; r < test.low || r > test.high {
			t.Errorf("a bucket of %v that gives 100 a second, %+v: %.1f, want %v to %v", test.burst, test.from, r, test.low, test.high)
		}
	}
}

// Of eighty calls a second all but what may have been saved up, and may be refused yet, is what the quota gives: the longer the time, the less that is.
func TestGovernorLately(t *testing.T) {
	for _, test := range []struct {
		name  string
		burst BurstState
		since time.Duration // since the last refusal that was measured
		u     float64
		want  float64
	}{
		{"eight seconds", BurstState{Calls: 2, Seconds: 0.02}, time.Minute, 0, 79.57},
		{"since the last refusal", BurstState{Calls: 2, Seconds: 0.02}, 1500 * time.Millisecond, 0, 77.44},
		{"half a second", BurstState{Calls: 2, Seconds: 0.02}, 600 * time.Millisecond, 0, 72},
		{"no full half of a second", BurstState{Calls: 2, Seconds: 0.02}, 400 * time.Millisecond, 0, 0},
		{"one at once is always saved up", BurstState{Calls: 2, Seconds: 1}, 1500 * time.Millisecond, 0, 78},
		{"twenty may be refused yet", BurstState{Calls: 2, Seconds: 0.02}, 600 * time.Millisecond, 20, 32},
		{"nothing was refused", BurstState{}, time.Minute, 0, 0},
		{"the first refusal came late", BurstState{Calls: 2, Seconds: 3}, time.Minute, 0, 0},
	} {
		g := New(Config{})
		s := &g.s
		s.At, s.Origin = 0, 0
		for s.At < 20*time.Second {
			s.At += tickTime / 20
			s.Done++
			g.note(s.At)
			s.At += tickTime / 20
		}
		s.Burst, s.Pace[paceRequests].AnchorAt = test.burst, s.At-test.since
		if got := g.lately(test.u); math.Abs(got-test.want) > 0.01 {
			t.Errorf("%s: %.2f a second, want %.2f", test.name, got, test.want)
		}
		// It counts for a pace of calls that was refused with a delay, and up to that pace.
		for _, of := range []struct {
			name    string
			i       int
			pace    float64
			costly  bool
			highest float64
		}{{"tokens", paceTokens, 80, true, 41}, {"no delay", paceRequests, 80, false, 41}, {"a slow pace", paceRequests, 50, true, 50}} {
			h := *g
			p := &h.s.Pace[of.i]
			*p = PaceState{Rate: of.pace, Known: of.pace, Lowest: 1, AnchorAt: p.AnchorAt}
			h.s.Pace[paceRequests].AnchorAt = s.Pace[paceRequests].AnchorAt
			if of.costly {
				h.s.PausedUntil, h.s.LastPause = s.At+time.Second, time.Second
			}
			if h.measure(of.i, 200, 10, 0, 1, 0); p.Known > of.highest {
				t.Errorf("%s, %s: 20 a second passed at up to %v, and are taken for %.1f", test.name, of.name, of.pace, p.Known)
			}
		}
	}
}

// What passed before a first refusal that came late makes the first measurement sure, at a pace that is far above what is measured, too: nothing was left at both refusals.
func TestGovernorFirstMeasurementIsSure(t *testing.T) {
	for _, test := range []struct {
		name  string
		burst BurstState
		set   func(*GovernorState)
		saves bool
		sure  bool
	}{
		{"it came late", BurstState{Calls: 24, Seconds: 6}, func(*GovernorState) {}, true, true},
		{"it came soon", BurstState{Calls: 24, Seconds: 5.5}, func(*GovernorState) {}, true, false},
		{"nothing was saved up", BurstState{Calls: 12, Seconds: 6}, func(*GovernorState) {}, false, false},
		{"refusals may mean nothing", BurstState{Calls: 24, Seconds: 6}, func(s *GovernorState) { s.Chance = noiseTrial }, false, false},
		{"it was measured before", BurstState{Calls: 24, Seconds: 6}, func(s *GovernorState) { s.Pace[paceRequests].Measured, s.Pace[paceRequests].Saves = true, true }, true, false},
	} {
		g := New(Config{})
		s := &g.s
		s.Burst = test.burst
		p := &s.Pace[paceRequests]
		*p = PaceState{Rate: 4.5, Known: 4.5, Ceiling: unbounded, Lowest: 1, Use: 1}
		test.set(s)
		g.measure(paceRequests, 30, 15, 0, 1, 0)
		if p.Saves != test.saves || p.Sure != test.sure || test.saves && p.Known != 2 {
			t.Errorf("%s: %v a second, saves up %v, sure %v; want 2, %v, %v", test.name, p.Known, p.Saves, p.Sure, test.saves, test.sure)
		}
	}
}

// A quota that is known to save up by what passed before the first refusal does not seem to save up nothing because the same pace refuses again.
func TestGovernorKeepsThatItSavesUp(t *testing.T) {
	for _, test := range []struct {
		name  string
		burst BurstState
		want  bool
	}{
		{"known by what passed before", BurstState{Calls: 24, Seconds: 6}, true},
		{"known by the pace alone", BurstState{}, false},
		{"of a faster quota", BurstState{Calls: 24, Seconds: 12}, false},
	} {
		g := New(Config{})
		g.s.Burst = test.burst
		p := &g.s.Pace[paceRequests]
		*p = PaceState{Rate: 2.5, Known: 2, Ceiling: 2, Lowest: 2.5, Use: 1, Sure: true, Measured: true, Saves: true, Met: 2.5}
		for range 40 {
			p.Rate, p.SpanCalls = 2.5, 0
			if g.measure(paceRequests, 30, 15, 0, 1, 0); !p.Saves {
				break
			}
		}
		if p.Saves != test.want {
			t.Errorf("%s: saves up %v after the same pace refused 40 times", test.name, p.Saves)
		}
	}
}

// A state in which the first refusal lies ahead of the clock says nothing of when that was, and what passes later is not taken for what passed before it.
func TestGovernorRestoresBurst(t *testing.T) {
	for _, test := range []struct {
		name         string
		age          time.Duration
		seconds, got float32
	}{
		{"of its own", time.Minute, -25, -25},
		{"right now", time.Minute, -60, -60},
		{"ahead", time.Minute, -90, 3},
		{"after all time", time.Minute, -unbounded, 3},
		{"of an origin that makes no sense", -time.Minute, -25, 3},
		{"soon", time.Minute, 5, 5},
		{"too long", time.Minute, 500, 12},
	} {
		g := New(Config{})
		now := time.Hour
		g.Restore(now, GovernorState{At: now, Origin: now - test.age, Refused: 1, Burst: BurstState{Calls: 6, Seconds: test.seconds}})
		if got := g.s.Burst.Seconds; got != test.got {
			t.Errorf("%s: %v became %v, want %v", test.name, test.seconds, got, test.got)
		}
	}
}
