package adaptive

import (
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// keeping returns a law that keeps a pace of 9.8 calls a second, as 10 were measured, and has it in use.
func keeping() (g *Governor, now time.Duration) {
	now = time.Hour
	p := PaceState{Rate: 9.8, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1, UsedAt: now, AnchorAt: now, AnchorCount: 1000, LastCount: 1000}
	g = New(Config{})
	g.Restore(now, GovernorState{At: now, Origin: now - time.Minute, Limit: 40, MeanLevel: 5, Credit: 1, Mean: 0.5, MeanOf: 32, Done: 1000, FlowCount: 1000, FlowAt: now, RunFrom: 1000, RefusedCount: 1000, Pace: [numPaces]PaceState{p}})
	return g, now
}

// refuse tells g of n calls that were accepted in dt, and of one that was refused.
func refuse(g *Governor, now *time.Duration, n int, dt time.Duration, o Outcome) Decision {
	*now += dt
	g.Window(*now, Window{Start: *now - dt, OK: n, MaxInFlight: 5, InFlight: 5, Waiting: 5, Full: true})
	g.s.Pace[paceRequests].Use = 1
	return g.Ended(*now, Call{SentAt: *now - 10*time.Millisecond, Episode: g.s.Episode, InFlight: 5}, o)
}

// A quota is shared that refuses a pace below what it was measured to give, three times more than what was known was told again. Who says neither a delay nor that it is a quota may be a limit on
// calls in flight.
func TestGovernorSharedPace(t *testing.T) {
	t.Parallel()
	const below, again = 0.9, 1.05 // of what was known, the pace
	delay := Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 100 * time.Millisecond}
	scope := Outcome{Class: feedback.Throttled, Scope: feedback.ScopeRequests}
	for _, test := range []struct {
		name  string
		paces []float64
		o     Outcome
		want  bool
	}{
		{"twice below", []float64{below, below}, delay, false},
		{"three times below", []float64{below, below, below}, delay, true},
		{"and named", []float64{below, below, below}, scope, true},
		{"nobody says that it is a quota", []float64{below, below, below, below}, Outcome{Class: feedback.Throttled}, false},
		{"there is room at once", []float64{below, below, below, below}, Outcome{Class: feedback.Throttled, HasRetryAfter: true}, false},
		{"tries told the same", []float64{again, again, again, again}, delay, false},
		{"once the same", []float64{below, below, again, below}, delay, false},
		{"more than that", []float64{below, below, again, below, below}, delay, true},
	} {
		g, now := keeping()
		for _, pace := range test.paces {
			p := &g.s.Pace[paceRequests]
			*p = PaceState{Rate: pace * 10, Known: 10, Ceiling: 10, Sure: true, Measured: true, Use: 1, UsedAt: now, AnchorAt: now, AnchorCount: g.accepted()}
			g.s.Streak, g.s.HoldUntil = 0, 0
			now += 10 * time.Second
			g.s.At, g.s.Done = now, g.s.Done+int64(10*min(pace, 1)*10)
			g.tellOthers(p, &test.o)
		}
		if got := g.sharesPace(); got != test.want {
			t.Errorf("%s: shared %v, want %v (evidence %d)", test.name, got, test.want, g.s.Others)
		}
	}
}

// A pace that others share gives up a tenth at a refusal, however much passed before it, and gains as much in twenty seconds, whatever it is; after a longer time without a refusal more.
func TestGovernorSharedPaceGivesUpAShare(t *testing.T) {
	t.Parallel()
	for _, o := range []Outcome{{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 100 * time.Millisecond}, {Class: feedback.Throttled, Scope: feedback.ScopeRequests}} {
		g, now := keeping()
		g.s.Others = mostShared
		if d := refuse(g, &now, 50, 10*time.Second, o); d.Pace < 0.9*9.8 || d.Pace > 0.9*9.8*1.06 {
			t.Errorf("a pace of 9.8 is %v after a refusal", d.Pace)
		}
	}

	rise := func(rate float64, from time.Duration) float64 {
		g, now := keeping()
		p := &g.s.Pace[paceRequests]
		p.Rate = rate
		g.s.At = now + from
		for range 100 {
			g.gainShare(p, 0.1, 1)
		}
		return p.Rate / rate
	}
	slow, fast := rise(1, 0), rise(100, 0)
	if slow < 1.045 || slow > 1.055 || fast/slow < 0.999 || fast/slow > 1.001 {
		t.Errorf("paces of 1 and 100 are %v and %v times as fast after 10 s, want 1.05", slow, fast)
	}
	if late := rise(1, 40*time.Second); late < 2 || late > 2.5 {
		t.Errorf("a pace that was not refused for 40 s is %v times as fast 10 s later", late)
	}
}

// Who is alone again is told by what passes between refusals, which is the same then at any pace.
func TestGovernorSharedPaceAlone(t *testing.T) {
	t.Parallel()
	delay := Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second}
	for _, alone := range []bool{true, false} {
		g, now := keeping()
		g.s.Others = mostShared
		for i := 0; i < 20 && g.sharesPace(); i++ {
			dt := 7 + 3*(i%3)
			n := 10 * dt
			if !alone {
				n += 20 * (i % 2)
			}
			refuse(g, &now, n, time.Duration(dt)*time.Second, delay)
		}
		if got := g.sharesPace(); got == alone || alone && g.s.SharedFrom != 0 {
			t.Errorf("alone %v: shared %v from %v on, evidence %d", alone, got, paceOf(g.s.SharedFrom), g.s.Others)
		}
	}
}

// What others use is known up to a bound, whatever was saved: beyond, it would take hundreds of refusals to forget.
func TestGovernorSharedPaceRestored(t *testing.T) {
	t.Parallel()
	g, now := keeping()
	s := g.State()
	s.Others = 255
	s.SharedFrom = math.MaxUint16
	if g.Restore(now, s); g.s.Others != inVain || g.sharesPace() {
		t.Errorf("evidence of 255 is restored as %d, want %d", g.s.Others, inVain)
	}
	if most := paceOf(s.SharedFrom); most > unbounded {
		t.Errorf("a pace of %v was the fastest", most)
	}
}

// Where refusals likely mean nothing, the pace is not in use, or nothing sure is known of the quota, they tell nothing of others.
func TestGovernorSharedPaceUnsure(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*GovernorState, *PaceState){
		"":                               func(*GovernorState, *PaceState) {},
		"noise is likely":                func(s *GovernorState, _ *PaceState) { s.Chance = noiseLikely },
		"the pace is not in use":         func(_ *GovernorState, p *PaceState) { p.Use = 0.5 },
		"the pace is not sure":           func(_ *GovernorState, p *PaceState) { p.Sure = false },
		"what was given up did not help": func(s *GovernorState, _ *PaceState) { s.Others = inVain },
	} {
		g, now := keeping()
		p := &g.s.Pace[paceRequests]
		p.Rate, p.AnchorCount = 9, g.accepted()
		change(&g.s, p)
		before := g.s.Others
		g.s.At, g.s.Done = now+10*time.Second, g.s.Done+90
		g.tellOthers(p, &Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second})
		if got := g.s.Others != before; got != (name == "") {
			t.Errorf("%q: it tells of others: %v", name, got)
		}
	}
}

// Who gives up again and again and is refused all the same is not refused because others use what it gave up: it stops that, and goes back up to where it began.
func TestGovernorSharedPaceInVain(t *testing.T) {
	t.Parallel()
	delay := Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second}
	g, now := keeping()
	g.s.Others = mostShared
	for i := 0; i < 80 && g.sharesPace(); i++ {
		n := 10 + 20*float64(i%2) // as chance has it
		refuse(g, &now, int(n), time.Duration((5+n)/g.s.Pace[paceRequests].Rate*1e9), delay)
	}
	p := &g.s.Pace[paceRequests]
	if g.s.Others != inVain || p.Rate > 0.18*9.8 || p.Rate < 0.8*0.18*9.8 || p.Sure || p.Ceiling < 9.7 || p.Ceiling > 11 {
		t.Errorf("evidence %d, a pace of %v, sure: %v, that may rise to %v", g.s.Others, p.Rate, p.Sure, p.Ceiling)
	}
	// Until nothing is known of the quota: another may be shared.
	*p = PaceState{}
	if g.paceRefused(now, paceRequests, true); g.s.Others != 0 || g.s.SharedFrom != 0 {
		t.Errorf("evidence %d at an upstream of which nothing is known, a pace of %v", g.s.Others, paceOf(g.s.SharedFrom))
	}
}
