package adaptive

import (
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// warm returns a law that has seen a second of calls of 100 ms, n in flight, and the instant after it.
func warm(n int) (*Governor, time.Duration) {
	g := New(Config{Initial: n})
	now := time.Duration(0)
	for range 10 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: n, Timed: n, Latency: time.Duration(n) * 100 * time.Millisecond,
			MinLatency: 100 * time.Millisecond, MaxInFlight: n, InFlight: n})
	}
	return g, now
}

func refused(scope feedback.Scope) Outcome {
	return Outcome{Class: feedback.Throttled, Scope: scope}
}

func TestGovernorScopes(t *testing.T) {
	// The scope of a refusal decides which actuator answers.
	for _, test := range []struct {
		name     string
		o        Outcome
		limit    bool // falls
		requests bool // a pace of requests is set
		tokens   bool // a pace of tokens is set
		binding  feedback.Scope
	}{
		{"calls in flight", refused(feedback.ScopeConcurrency), true, false, false, feedback.ScopeConcurrency},
		{"requests", refused(feedback.ScopeRequests), false, true, false, feedback.ScopeRequests},
		{"tokens", refused(feedback.ScopeTokens), false, true, false, feedback.ScopeTokens},
		{"input tokens", refused(feedback.ScopeInputTokens), false, true, false, feedback.ScopeInputTokens},
		{"unknown", refused(feedback.ScopeUnknown), true, false, false, feedback.ScopeUnknown},
		{"daily", refused(feedback.ScopeDaily), false, false, false, feedback.ScopeDaily},
		{"overloaded", Outcome{Class: feedback.Overloaded}, true, false, false, feedback.ScopeNone},
		{"timeout", Outcome{Class: feedback.Timeout}, true, false, false, feedback.ScopeNone},
		{"no money", Outcome{Class: feedback.QuotaExhausted}, false, false, false, feedback.ScopeUnknown},
		{"client's error", Outcome{Class: feedback.ClientError}, false, false, false, feedback.ScopeNone},
		{"server's error", Outcome{Class: feedback.ServerError}, false, false, false, feedback.ScopeNone},
		{"canceled", Outcome{Class: feedback.Canceled}, false, false, false, feedback.ScopeNone},
	} {
		g, now := warm(40)
		d := g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: 41}, test.o)
		if (d.Limit < 40) != test.limit || (d.Pace > 0) != test.requests || (d.TokenPace > 0) != test.tokens || d.Binding != test.binding {
			t.Errorf("%s: %+v, want limit lowered %v, pace %v, token pace %v, binding %v", test.name, d, test.limit, test.requests, test.tokens, test.binding)
		}
		if changed := test.limit || test.requests || test.tokens; (d.Episode > 0) != changed {
			t.Errorf("%s: episode %d", test.name, d.Episode)
		}
	}
}

func TestGovernorStaleRefusal(t *testing.T) {
	// A refusal of a call that started before the last cut opens no episode. Of those that were refused together, the one with the
	// fewest in flight is nearest to the limit; much fewer say something else.
	g, now := warm(40)
	first := g.Ended(now, Call{SentAt: now, InFlight: 41}, refused(feedback.ScopeUnknown))
	for i := range 30 {
		now += time.Millisecond
		n := 40 - i
		want := min(first.Limit, n-1)
		if float64(n) <= 0.7*41 {
			want = 28 // the fewest of those that count are 29
		}
		d := g.Ended(now, Call{SentAt: now - 10*time.Millisecond, InFlight: n, Episode: first.Episode - 1}, refused(feedback.ScopeUnknown))
		if d.Limit != want || d.Episode != first.Episode {
			t.Fatalf("stale refusal %d, with %d in flight: %+v after %+v, want a limit of %d", i, n, d, first, want)
		}
	}
}

func TestGovernorRefusalFarBelow(t *testing.T) {
	// A refusal with far fewer in flight than passed lately means nothing, if it is one of few; at the boundary it does, and so do many.
	for _, test := range []struct {
		inFlight, refusals int
		cut                bool
	}{{30, 1, false}, {30, 3, true}, {40, 1, true}} {
		g, now := warm(40)
		d := g.Ended(now, Call{SentAt: now, InFlight: 41}, refused(feedback.ScopeUnknown)) // the boundary
		for range 20 {
			now += 100 * time.Millisecond
			n := d.Limit
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: n, Timed: n, Latency: time.Duration(n) * 100 * time.Millisecond,
				MinLatency: 100 * time.Millisecond, MaxInFlight: 40, InFlight: 40})
			g.s.Credit = min(g.s.Credit, 2) // the first refusals are behind it
		}
		g.s.Top = 0 // as after a cut
		before := g.Decision()
		for range test.refusals {
			now += 10 * time.Millisecond
			g.Ended(now, Call{SentAt: now, InFlight: test.inFlight, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
		}
		if d := g.Decision(); (d.Episode != before.Episode) != test.cut {
			t.Errorf("%d refusals with %d in flight, 40 passed: %+v after %+v, want a cut: %v", test.refusals, test.inFlight, d, before, test.cut)
		}
	}
}

func TestGovernorOutage(t *testing.T) {
	// After an outage the return begins with half of what was good before, whatever the calls took that ended in it: the longest end last.
	g, now := warm(4)
	g.Hint(now, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 40})
	for range 100 {
		now += 100 * time.Millisecond
		n := g.Decision().Limit
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: n, Timed: n, Latency: time.Duration(n) * 100 * time.Millisecond,
			MinLatency: 100 * time.Millisecond, MaxInFlight: n, InFlight: n, Waiting: 50, Full: true})
	}
	before := g.Decision()
	for range 20 {
		now = max(now, g.Decision().NotBefore) + 10*time.Millisecond
		g.Ended(now, Call{SentAt: now, InFlight: g.Decision().Limit, Episode: g.Decision().Episode}, Outcome{Class: feedback.Overloaded})
	}
	if d := g.Decision(); d.Limit != 1 {
		t.Fatalf("after 20 answers that say overloaded: %+v", d)
	}
	d := g.Window(now+time.Second, Window{Start: now + 990*time.Millisecond, OK: 1, Timed: 1, Latency: 10 * time.Millisecond, MinLatency: 10 * time.Millisecond, MaxInFlight: 1, InFlight: 1, Waiting: 50, Full: true})
	if d.Limit < before.Limit*2/5 || d.Limit > before.Limit*3/5 || d.Episode == before.Episode || d.Pace < float64(before.Limit)*10/2*0.8 {
		t.Errorf("after the first call that ends well the limit is %d at a pace of %.0f/s; it was %d before the outage, %d calls a second", d.Limit, d.Pace, before.Limit, before.Limit*10)
	}
}

func TestGovernorAlone(t *testing.T) {
	// A call that is alone in flight is never one too many, so what refuses it counts something else.
	g, now := warm(2)
	d := g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: 1}, refused(feedback.ScopeUnknown))
	if d.Pace == 0 || d.Binding != feedback.ScopeRequests {
		t.Errorf("%+v, want a pace", d)
	}
}

func TestGovernorRow(t *testing.T) {
	// Refusals in a row, with nothing accepted in between, hold starts back, longer and longer, up to half a minute.
	g, now := warm(40)
	var last time.Duration
	for i := range 60 {
		n := max(1, 41-i)
		d := g.Ended(now, Call{SentAt: now, InFlight: n, Episode: g.Decision().Episode}, refused(feedback.ScopeUnknown))
		hold := d.NotBefore - now
		if i >= 1 && hold <= 0 {
			t.Fatalf("refusal %d in a row holds nothing back: %+v", i+1, d)
		}
		if hold > 30*time.Second {
			t.Fatalf("refusal %d in a row holds back for %v", i+1, hold)
		}
		last = hold
		now = max(now, d.NotBefore) + 5*time.Millisecond
	}
	if last < 10*time.Second {
		t.Errorf("after 60 refusals in a row, the hold is %v", last)
	}
	if d := g.Decision(); d.Limit < 1 {
		t.Errorf("%+v", d)
	}
}

func TestGovernorStatedLimit(t *testing.T) {
	g, now := warm(40)
	d := g.Hint(now, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 10})
	if d.Limit != 10 || d.Binding != feedback.ScopeConcurrency || d.Cause != CauseHint {
		t.Errorf("a stated limit of 10 gives %+v", d)
	}
	// A refusal far below it casts doubt on it.
	d = g.Ended(now+time.Second, Call{SentAt: now, InFlight: 3, Episode: d.Episode}, refused(feedback.ScopeConcurrency))
	if s := g.State(); !s.Doubted || d.Limit > 3 {
		t.Errorf("a refusal with 3 of 10 in flight gives %+v, doubted %v", d, s.Doubted)
	}
}

func TestGovernorHeaders(t *testing.T) {
	minute := time.Minute
	for _, test := range []struct {
		name   string
		hints  []feedback.Window
		after  time.Duration // between hints
		lo, hi float64       // requests a second
	}{
		{"plenty", []feedback.Window{{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 500, Reset: minute}}, 0, 0, 0},
		// 590 of 600 are used and come back within 59 s: 10 a second.
		{"bucket", []feedback.Window{{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 10, Reset: 59 * time.Second}}, 0, 9.6, 10},
		// The reset moves towards us, whatever is used: a window.
		{"window", told(600, []int64{180, 170, 160, 150, 140, 130, 120, 110, 100}, func(i int) float64 { return 37 - float64(i) }), time.Second, 3.2, 3.5},
		// The reset moves away when calls are made, and comes nearer when fewer are made than come back: 10 a second do. Of 60, half is kept.
		{"refills", told(600, []int64{140, 120, 100, 80, 70, 60, 55, 60, 60}, func(i int) float64 { return (600 - []float64{140, 120, 100, 80, 70, 60, 55, 60, 60}[i]) / 10 }), time.Second, 10, 12},
		// 12,000 a minute, of which a bucket holds 200: it is full again within a second, and 160 of the 200 come back in 0.8 s, not 11,960.
		{"small bucket", told(12_000, []int64{199, 120, 40}, func(i int) float64 { return []float64{0.005, 0.4, 0.8}[i] }), 0, 190, 200},
		{"unstated", []feedback.Window{{Kind: feedback.ScopeRequests, Limit: feedback.Unstated, Remaining: 0, Reset: minute}}, 0, 0, 0},
		{"no reset", []feedback.Window{{Kind: feedback.ScopeRequests, Limit: 100, Remaining: 0, Reset: feedback.Unstated}}, 0, 0, 0},
		{"plenty again", []feedback.Window{
			{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 10, Reset: 59 * time.Second},
			{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 599, Reset: time.Second},
		}, time.Second, 0, 0},
	} {
		g := New(Config{})
		now := time.Second
		var d Decision
		for _, h := range test.hints {
			d = g.Hint(now, h)
			now += test.after
		}
		if d.Pace < test.lo || d.Pace > max(test.hi, startPace) || test.hi > 0 && d.Pace > test.hi || test.hi == 0 && d.Pace != startPace {
			t.Errorf("%s: a pace of %v, want %v to %v", test.name, d.Pace, test.lo, test.hi)
		}
	}
}

func TestGovernorHeadersAreDoubted(t *testing.T) {
	// A refusal at the pace that was stated takes its place.
	g, now := warm(10)
	d := g.Hint(now, feedback.Window{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 10, Reset: 59 * time.Second})
	stated := d.Pace
	d = g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: 5, Episode: d.Episode}, refused(feedback.ScopeRequests))
	if d.Pace <= 0 || d.Pace >= stated {
		t.Errorf("a refusal at a pace of %v gives %v", stated, d.Pace)
	}
	// What is stated then is ignored, as long as the learned pace is in force.
	if again := g.Hint(now+2*time.Millisecond, feedback.Window{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 10, Reset: 59 * time.Second}); again.Pace != d.Pace {
		t.Errorf("the statement changes the pace from %v to %v", d.Pace, again.Pace)
	}
}

func TestGovernorIdle(t *testing.T) {
	// A limit that nobody has used for minutes is half of what it was, but what was good is remembered.
	g, now := warm(40)
	g.s.Limit, g.s.Flight, g.s.SlowStart = 400, 400, false
	d := g.Window(now+5*time.Minute, Window{Start: now, OK: 1, Timed: 1, Latency: time.Second, MaxInFlight: 1, InFlight: 0})
	if d.Limit > 200 || d.Cause != CauseIdle || g.State().Threshold < 200 {
		t.Errorf("%+v, threshold %v", d, float64(g.State().Threshold))
	}
}

func TestGovernorAppLimited(t *testing.T) {
	// A limit that is not in use does not grow.
	g, now := warm(10)
	before := g.Decision().Limit
	for range 1000 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 3, Timed: 3, Latency: 300 * time.Millisecond, MaxInFlight: 3, InFlight: 3})
	}
	if d := g.Decision(); d.Limit > before {
		t.Errorf("grew from %d to %d with 3 in flight", before, d.Limit)
	}
}

func TestGovernorDoesNotAllocate(t *testing.T) {
	g := New(Config{})
	now := time.Duration(0)
	windows := []feedback.Window{{Kind: feedback.ScopeRequests, Limit: 500, Remaining: 3, Reset: time.Minute}}
	allocs := testing.AllocsPerRun(1000, func() {
		now += time.Millisecond
		d := g.Window(now, Window{Start: now - time.Millisecond, OK: 3, Timed: 3, Latency: 3e6, MinLatency: 1e6, MaxInFlight: 4, Full: true})
		g.Ended(now, Call{SentAt: now, Episode: d.Episode, InFlight: d.Limit}, Outcome{Class: feedback.Throttled, Windows: windows})
		g.Hint(now, windows[0])
		g.Began(now, Call{SentAt: now - time.Millisecond, Episode: d.Episode, InFlight: 3})
		g.Restore(now, g.State())
		_ = g.Decision()
	})
	if allocs != 0 {
		t.Errorf("%v allocations an event, want 0", allocs)
	}
}

func BenchmarkGovernorWindow(b *testing.B) {
	g := New(Config{})
	w := Window{OK: 3, Timed: 3, Latency: 3e6, MinLatency: 1e6, MaxInFlight: 4, InFlight: 4, Full: true}
	for i := range b.N {
		w.Start = time.Duration(i) * time.Millisecond
		g.Window(w.Start+time.Millisecond, w)
	}
}

func BenchmarkGovernorEnded(b *testing.B) {
	g := New(Config{})
	for i := range b.N {
		g.Ended(time.Duration(i)*time.Millisecond, Call{Episode: g.s.Episode, InFlight: 8}, Outcome{Class: feedback.Throttled})
	}
}

// While a window that slides is known, each window of calls looks at what is in it.
func BenchmarkGovernorWindowSlides(b *testing.B) {
	g := New(Config{})
	for i := range b.N {
		if i%1024 == 0 {
			g.s.Slide = SlideState{Of: 4, Allows: 6000, Ask: 1}
			g.s.Pace[paceRequests] = PaceState{Rate: 100, Known: 100, Measured: true, Sure: true, UsedAt: g.s.At}
		}
		now := time.Duration(i+1) * 10 * time.Millisecond
		g.Window(now, Window{Start: now - 10*time.Millisecond, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 8, InFlight: 8, Waiting: 5})
	}
}

// A refusal after calls that were accepted is what the law learns most from.
func BenchmarkGovernorRefused(b *testing.B) {
	g := New(Config{})
	for i := range b.N {
		now := time.Duration(i+1) * 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 20, Timed: 20, Latency: 20 * time.Second, MinLatency: time.Second, MaxInFlight: 8, InFlight: 8})
		g.Ended(now, Call{SentAt: now - time.Millisecond, Episode: g.s.Episode, InFlight: 8}, Outcome{Class: feedback.Throttled})
	}
}

func TestGovernorRefusalOfSparseCalls(t *testing.T) {
	// Of calls that come one by one, minutes apart, a refusal says nothing of how many may start a second: a burst after it must not
	// wait for as long as they were apart.
	g := New(Config{})
	now := time.Second
	for range 30 {
		now += 2 * time.Minute
		g.Window(now, Window{Start: now - 2*time.Minute, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1})
	}
	d := g.Ended(now+time.Minute, Call{SentAt: now + time.Minute - time.Second, InFlight: 1, Episode: g.Decision().Episode}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
	if d.Pace != 0 && d.Pace < 1 {
		t.Errorf("a pace of %v a second", d.Pace)
	}
}

func TestGovernorTimeoutsInACrowd(t *testing.T) {
	// When many time out while others pass, there are too many: the limit stays where calls end, and does not go back at once. A
	// timeout alone leaves no such memory.
	for _, test := range []struct {
		late int // timeouts of calls that started together, of which the first is fresh
		back bool
	}{{1, true}, {20, false}} {
		g, now := warm(40)
		sent := now
		for range 10 { // others pass meanwhile
			now += 100 * time.Millisecond
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 8, Timed: 8, Latency: 800 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: 40, InFlight: 40})
		}
		for range test.late {
			g.Ended(now, Call{SentAt: sent, InFlight: 10}, Outcome{Class: feedback.Timeout})
		}
		if limit := g.Decision().Limit; limit > 10 {
			t.Errorf("%d timeouts: limit %d, want at most the 10 that the first saw", test.late, limit)
		}
		for range 30 {
			now += 100 * time.Millisecond
			n := g.Decision().Limit
			g.Window(now, Window{Start: now - 100*time.Millisecond, OK: n, Timed: n, Latency: time.Duration(n) * 100 * time.Millisecond,
				MinLatency: 100 * time.Millisecond, MaxInFlight: n, InFlight: n, Waiting: 50, Full: true})
		}
		if limit := g.Decision().Limit; (limit > 20) != test.back {
			t.Errorf("%d timeouts: limit %d three seconds later, want it to have grown beyond 20: %v", test.late, limit, test.back)
		}
	}
}

// TestGovernorTimeoutsInDebt has a call time out while nothing passes. That is an outage, unless timeouts alone came before it, which calls that end well have not made up for: then
// there are too many.
func TestGovernorTimeoutsInDebt(t *testing.T) {
	for _, test := range []struct {
		debt float32
		late bool
	}{{0, false}, {1, false}, {1.5, true}} {
		g, now := warm(40)
		g.s.TimeoutDebt = test.debt
		sent := now
		now += 30 * time.Second
		g.Window(sent, Window{Start: sent - time.Second, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 40, InFlight: 40, Full: true, Waiting: 9})
		g.Ended(now, Call{SentAt: sent, InFlight: 40, Episode: g.s.Episode}, Outcome{Class: feedback.Timeout})
		if g.s.Late != test.late {
			t.Errorf("a debt of %v before: a crowd: %v, want %v", test.debt, g.s.Late, test.late)
		}
	}
}

// While nothing passes at all, calls time out however few they saw when they began: the limit is lowered from what is in flight.
func TestGovernorTimeoutsInAnOutage(t *testing.T) {
	for _, test := range []struct {
		passed      time.Duration // how long ago a call ended well last
		least, most int
	}{{30 * time.Second, 30, 36}, {100 * time.Millisecond, 1, 9}} {
		g, now := warm(40)
		sent := now
		now += 30 * time.Second
		g.Window(now-test.passed, Window{Start: sent, OK: 1, Timed: 1, Latency: 4 * time.Second, MinLatency: 4 * time.Second, MaxInFlight: 40, InFlight: 40, Full: true, Waiting: 9})
		d := g.Ended(now, Call{SentAt: sent, InFlight: 10}, Outcome{Class: feedback.Timeout})
		if d.Limit < test.least || d.Limit > test.most {
			t.Errorf("a call that saw 10 in flight timed out, of 40, %v after one ended well: a limit of %d, want %d to %d", test.passed, d.Limit, test.least, test.most)
		}
	}
}

// Where calls hang because more are in flight than ever went well, nothing passes either, and that is no outage: the limit goes to less than what went well.
func TestGovernorTimeoutsBeyondAKnee(t *testing.T) {
	g, now := warm(10)
	g.s.Limit = 40
	sent := now
	now += 30 * time.Second
	g.Window(sent, Window{Start: sent, InFlight: 40, Full: true, Waiting: 9})
	if d := g.Ended(now, Call{SentAt: sent, InFlight: 5}, Outcome{Class: feedback.Timeout}); d.Limit > 9 {
		t.Errorf("a call timed out with 40 in flight while nothing passed, of which 10 ever went well: a limit of %d, want 9 at most", d.Limit)
	}
}

// A refusal takes from the trust in headers, and after a few of them refusals measure the quota.
func TestGovernorDoubtsHeaders(t *testing.T) {
	g, now := warm(10)
	hint := func() Decision {
		return g.Hint(now, feedback.Window{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 60, Reset: 54 * time.Second})
	}
	for range 10 {
		now += 100 * time.Millisecond
		hint()
	}
	before := hint().Pace
	for i := range 8 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 5, Timed: 5, Latency: 500 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: 8, InFlight: 8})
		c := Call{SentAt: now, InFlight: 8, Episode: g.Decision().Episode}
		now += 10 * time.Millisecond
		d := g.Ended(now, c, refused(feedback.ScopeRequests))
		p := g.State().Pace[paceRequests]
		if told := p.StatedKind == feedback.ScopeRequests; told != (i < 6) {
			t.Errorf("after %d refusals headers set the pace: %v", i+1, told)
		}
		if i == 4 && (d.Pace < 0.55*before || d.Pace > 0.65*before) {
			t.Errorf("after five refusals a pace of %v, want 0.61 of %v", d.Pace, before)
		}
		if again := hint().Pace; i < 6 && (again < 0.99*d.Pace || again > 1.01*d.Pace) {
			t.Errorf("after %d refusals the next header sets %v, want %v", i+1, again, d.Pace)
		}
	}
}

// told returns what answers tell of a quota of requests of a minute.
func told(limit int64, left []int64, reset func(i int) float64) (hints []feedback.Window) {
	for i, n := range left {
		hints = append(hints, feedback.Window{Kind: feedback.ScopeRequests, Limit: limit, Remaining: n, Reset: time.Duration(reset(i) * float64(time.Second))})
	}
	return hints
}

func TestGovernorLongWindowsSetNoPace(t *testing.T) {
	// What is left of a day's quota is not spread over the day, nor over the years that a damaged header names.
	for _, reset := range []time.Duration{12 * time.Hour, 1000 * 24 * time.Hour} {
		g, now := warm(10)
		before := g.Decision()
		if d := g.Hint(now, feedback.Window{Kind: feedback.ScopeRequests, Limit: 10_000, Remaining: 100, Reset: reset}); d != before {
			t.Errorf("a window that ends in %v: %+v after %+v", reset, d, before)
		}
	}
	g, now := warm(10)
	if d := g.Hint(now, feedback.Window{Kind: feedback.ScopeRequests, Limit: 600, Remaining: 60, Reset: time.Minute}); d.Binding != feedback.ScopeRequests || d.Pace > 10 {
		t.Errorf("a window that ends in a minute sets no pace: %+v", d)
	}
}
