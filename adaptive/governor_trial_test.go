package adaptive

import (
	"container/heap"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// ends are the instants at which calls in flight end.
type ends []time.Duration

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i] < e[j] }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(time.Duration)) }
func (e *ends) Pop() any {
	x := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return x
}

// TestGovernorTrial plays four minutes of calls of 0.5 to 1.5 s, of which as many ask as the law lets start, at a limit of twelve in flight and at
// a quota of ten a second that allows no two at once. Both refuse at the same number again and again at first.
func TestGovernorTrial(t *testing.T) {
	for _, test := range []struct {
		name   string
		accept func(now, last time.Duration, n int) bool
		quota  bool
		least  int // successes
	}{
		{"twelve in flight", func(_, _ time.Duration, n int) bool { return n <= 12 }, false, 12 * 240 * 90 / 100},
		{"ten a second", func(now, last time.Duration, _ int) bool { return now-last >= 100*time.Millisecond }, true, 10 * 240 * 90 / 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := New(Config{})
			var inFlight ends
			next, last, window := time.Duration(0), -time.Second, time.Duration(0)
			ok, refusals, seen := 0, 0, 0
			for now := time.Millisecond; now < 4*time.Minute; now += time.Millisecond {
				for len(inFlight) > 0 && inFlight[0] <= now {
					n := len(inFlight)
					heap.Pop(&inFlight)
					ok++
					// A low discrepancy sequence stands for chance.
					took := 500*time.Millisecond + time.Duration(math.Mod(float64(ok)*0.6180339887, 1)*1e9)
					g.Window(now, Window{Start: window, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: seen, Full: true, InFlight: n, Waiting: 1})
					seen, window = 0, now
				}
				d := g.Decision()
				if now < d.NotBefore || now < next || len(inFlight) >= d.Limit {
					continue
				}
				if d.Pace > 0 {
					next = now + time.Duration(1e9/d.Pace)
				}
				n := len(inFlight) + 1
				if !test.accept(now, last, n) {
					refusals++
					g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: n, Episode: d.Episode}, refused(feedback.ScopeUnknown))
					continue
				}
				last, seen = now, max(seen, n)
				took := 500*time.Millisecond + time.Duration(math.Mod(float64(ok+len(inFlight))*0.6180339887, 1)*1e9)
				heap.Push(&inFlight, now+took)
			}
			s := g.State()
			p := &s.Pace[paceRequests]
			if (p.Rate > 0) != test.quota {
				t.Errorf("pace %v, limit %v", p.Rate, s.Limit)
			}
			if test.quota && math.Abs(p.Known/10-1) > 0.1 {
				t.Errorf("the quota gives %v a second as measured", p.Known)
			}
			if !test.quota && (s.Limit < 11 || s.Limit > 14) {
				t.Errorf("limit %v", s.Limit)
			}
			if ok < test.least || float64(refusals) > 0.03*float64(ok) {
				t.Errorf("%d successes, want %d; %d refused", ok, test.least, refusals)
			}
		})
	}
}

// TestGovernorCapTold lets starts be spread while it is not known what refuses, and no more once a trial has told that a limit of eight calls or more does, until more were accepted
// than it refused.
func TestGovernorCapTold(t *testing.T) {
	for _, test := range []struct {
		name      string
		refuted   int8
		refusedAt float32
		top       float64
		want      float64
	}{
		{"nothing told", 0, 10, 9, spreadTest * 20},
		{"a limit told", 1, 10, 9, 0},
		{"a limit told, more accepted", 1, 10, 10, spreadTest * 20},
		{"of few calls", 1, watchFrom - 1, watchFrom - 2, spreadTest * 20},
		{"of as many as tell", 1, watchFrom, watchFrom - 1, 0},
	} {
		g, now := warm(10)
		s := &g.s
		s.Limit, s.Mean, s.Latency, s.At, s.BusyAt = 10, 0.5, time.Second/2, now, now
		s.Test, s.Refuted, s.RefusedAt, s.Top, s.SlowStart = 1, test.refuted, test.refusedAt, test.top, false
		if got := g.pace(); math.Abs(got-test.want) > 1e-6 {
			t.Errorf("%s: pace %v, want %v", test.name, got, test.want)
		}
	}
}

// TestGovernorEvenFlow has a pace on trial be refused at the same number of calls in flight again and again. Where calls take the same time each, a quota of so many a
// second is met with as many in flight as start while one takes, and one more: that refutes no pace.
func TestGovernorEvenFlow(t *testing.T) {
	for _, test := range []struct {
		name  string
		n     float64 // in flight when a call is refused, where 5.1 start while one takes
		rest  float32 // variance of how long calls take
		delay bool    // refusals name one
		holds bool
	}{
		{"even calls, as many as start while one takes, and itself", 6, 0, true, true},
		{"even calls, one more", 7, 0, true, true},
		{"even calls, two more", 8, 0, true, false},
		{"even calls, fewer", 4, 0, true, false},
		{"uneven calls", 6, 0.04, true, false},
		{"no delay", 6, 0, false, false},
	} {
		g, now := warm(4)
		s := &g.s
		s.Mean, s.LevelSeen, s.LevelRest, s.Trial, s.Top = 0.0637, 64, test.rest, float32(test.n), test.n-1
		s.Pace[paceRequests] = PaceState{Rate: 78.4, Known: 80, Ceiling: 80, Sure: true, Measured: true, Use: 1, UsedAt: now}
		refuted := false
		for range 2 * trialHits {
			s.Done += 200
			refuted = refuted || g.refuted(test.n, s.Proven, &Outcome{Class: feedback.Throttled, HasRetryAfter: test.delay, RetryAfter: time.Second})
		}
		if refuted == test.holds {
			t.Errorf("%s: refuted %v", test.name, refuted)
		}
	}
}

// TestGovernorSeenByMany has a pace on trial be refused at the same number of calls in flight again and again, while others that saw as many are accepted in between. A limit accepts
// those only while one is on its way, so that enough of them refute it, and not the pace; as few, or where as many are on their way all the time, do not.
func TestGovernorSeenByMany(t *testing.T) {
	for _, test := range []struct {
		name  string
		saw   int           // in flight, by accepted calls between two refusals
		calls int           // how many of them
		after time.Duration // since the refusal before
		flow  float64       // calls a second: 0.02 of it are on their way
		delay bool          // refusals name one
		way   float32
		holds bool
	}{
		{"none saw as many", 3, 20, time.Second, 20, true, 0.02, false},
		{"six saw as many, and 0.4 are on their way on average", 4, 6, time.Second, 20, true, 0.02, true},
		{"five of them: by chance", 4, 5, time.Second, 20, true, 0.02, false},
		{"they saw calls that were refused", 4, 20, 50 * time.Millisecond, 20, true, 0.02, false},
		{"one is on its way all the time", 4, 200, time.Second, 60, true, 0.02, false},
		{"more than are counted", 4, 1 << 8, time.Second, 20, true, 0.02, true},
		{"no delay", 4, 20, time.Second, 20, false, 0.02, false},
		{"nobody tells when calls start", 4, 20, time.Second, 20, true, 0, false},
	} {
		g, now := warm(4)
		s := &g.s
		s.Mean, s.Trial, s.Top, s.LastBound, s.Way, s.RefusalTime, s.Flow = 0.1, 4, 4, 4, test.way, test.way, test.flow
		refuted := false
		for range 2 * trialHits {
			s.RefusedLast = now
			for range test.calls {
				s.At = now + test.after
				g.passedTrial(&Window{OK: 1, MaxInFlight: test.saw})
			}
			now = s.At
			s.Done += 200
			refuted = refuted || g.refuted(4, s.Proven, &Outcome{Class: feedback.Throttled, HasRetryAfter: test.delay, RetryAfter: time.Second})
		}
		if refuted == test.holds {
			t.Errorf("%s: refuted %v, %d seen at %.2f on their way", test.name, refuted, s.Seen, g.inTransit(4))
		}
	}
}

// What accepted calls saw refutes the hit before, too, and says nothing of the next trial.
func TestGovernorSeenByManyForgets(t *testing.T) {
	delay := &Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second}
	for _, test := range []struct {
		name       string
		hits, want int8
	}{{"a hit", 1, 0}, {"a row that has to be longer", -2, -2}} {
		g, _ := warm(4)
		s := &g.s
		s.Mean, s.Trial, s.Top, s.Way, s.Flow, s.Seen, s.Hits = 0.1, 4, 4, 0.02, 20, 20, test.hits
		if g.refuted(4, s.Proven, delay) || s.Hits != test.want || s.Seen != 0 {
			t.Errorf("%s: %d after many saw as many, want %d", test.name, s.Hits, test.want)
		}
	}
	g, now := paced(t)
	g.s.Trial, g.s.RefusedLast = 0, now-time.Hour
	if g.passedTrial(&Window{OK: 1, MaxInFlight: 20}); g.s.Seen > 0 {
		t.Error("a call is counted that was accepted while nothing was on trial")
	}
	g.s.Seen = 20
	if g.try(now, 20, true); g.s.Seen > 0 {
		t.Error("a trial begins with calls that another one counted")
	}
	g.s.Seen = 20
	if g.watch(20, &Outcome{Class: feedback.Throttled}); g.s.Seen > 0 {
		t.Error("a number is watched from now on, and calls that were accepted before count")
	}
}
