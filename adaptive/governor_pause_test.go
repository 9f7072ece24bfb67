package adaptive

import (
	"container/heap"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorPauses plays ten minutes of calls of 150 to 250 ms, of which 20 ms are the way there and back, at a limit on calls in flight that
// names a delay of three seconds with each refusal. The limit, which nobody told, is to be found at the price of few pauses.
func TestGovernorPauses(t *testing.T) {
	const (
		way, delay, length = 20 * time.Millisecond, 3 * time.Second, 10 * time.Minute
		mean               = 200 * time.Millisecond
	)
	for _, test := range []struct {
		name      string
		places    func(now time.Duration) int
		most      int     // pauses
		least     float64 // share of what as many calls as there are places get
		lastLeast float64 // the same of the last quarter
		even      bool    // calls take the same time each
	}{
		{"3", func(time.Duration) int { return 3 }, 8, 0.93, 0.97, false},
		{"30", func(time.Duration) int { return 30 }, 8, 0.93, 0.97, false},
		{"300", func(time.Duration) int { return 300 }, 8, 0.93, 0.97, false},
		{"300, calls that take the same time each", func(time.Duration) int { return 300 }, 8, 1.03, 1.05, true},
		{"6, calls that take the same time each", func(time.Duration) int { return 6 }, 8, 1.03, 1.05, true},
		{"30, then 15", func(now time.Duration) int {
			if now < length/4 {
				return 30
			}
			return 15
		}, 10, 0.9, 0.97, false},
		{"30, then 60", func(now time.Duration) int {
			if now < length/4 {
				return 30
			}
			return 60
		}, 10, 0.7, 0.93, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := New(Config{})
			takes := func(n int) time.Duration {
				if test.even {
					return mean
				}
				// A low discrepancy sequence stands for chance.
				return 150*time.Millisecond + time.Duration(math.Mod(float64(n)*0.6180339887, 1)*1e8)
			}
			var inFlight, upstream ends // when answers come, and when places become free
			next, window, gate := time.Duration(0), time.Duration(0), time.Duration(0)
			type refusal struct {
				at   time.Duration
				call Call
			}
			var refused []refusal
			calls, ok, late, pauses, seen, want, wantLate := 0, 0, 0, 0, 0, 0.0, 0.0
			for now := time.Millisecond; now < length; now += time.Millisecond {
				want += float64(test.places(now)) * 1e-3 / mean.Seconds()
				if now > 3*length/4 {
					wantLate += float64(test.places(now)) * 1e-3 / mean.Seconds()
				}
				for len(upstream) > 0 && upstream[0] <= now {
					heap.Pop(&upstream)
				}
				for len(refused) > 0 && refused[0].at <= now {
					if now >= gate {
						pauses++
					}
					gate = max(gate, now+delay)
					g.Window(now, Window{Start: window, InFlight: len(inFlight) + len(refused), Waiting: 1}) // as a guard does
					window = now
					g.Ended(now, refused[0].call, Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: delay})
					refused = refused[1:]
				}
				for len(inFlight) > 0 && inFlight[0] <= now {
					n := len(inFlight) + len(refused)
					heap.Pop(&inFlight)
					if ok++; now > 3*length/4 {
						late++
					}
					took := mean
					g.Window(now, Window{Start: window, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: seen, Full: true, InFlight: n - 1, Waiting: 1})
					seen, window = 0, now
				}
				for range 50 { // as many as a pace allows within a millisecond
					d := g.Decision()
					n := len(inFlight) + len(refused) + 1
					if now < d.NotBefore || now < gate || now < next || n > d.Limit {
						break
					}
					if d.Pace > 0 {
						next = max(next, now-time.Millisecond) + time.Duration(1e9/d.Pace)
					}
					calls++
					call := Call{SentAt: now, Episode: d.Episode, InFlight: n}
					if len(upstream) >= test.places(now) {
						refused = append(refused, refusal{now + way, call})
						continue
					}
					seen = max(seen, n)
					took := takes(calls)
					heap.Push(&upstream, now+took-way)
					heap.Push(&inFlight, now+took)
				}
			}
			if pauses > test.most {
				t.Errorf("%d pauses, at most %d are wanted", pauses, test.most)
			}
			if got := float64(ok) / want; got < test.least {
				t.Errorf("%.3f of what as many calls as places get, at least %.3f are wanted", got, test.least)
			}
			if got := float64(late) / wantLate; got < test.lastLeast {
				t.Errorf("%.3f of that in the end, at least %.3f are wanted", got, test.lastLeast)
			}
			t.Logf("%d pauses, %.3f, in the end %.3f, limit %.1f", pauses, float64(ok)/want, float64(late)/wantLate, g.s.Limit)
		})
	}
}

// TestGovernorFailedProbe: after a refusal as many calls are in flight in the pause as there are places, and as many are known afterwards. A probe that
// was refused leads to no less than what was known before, a refusal that came sooner than it should have to less.
func TestGovernorFailedProbe(t *testing.T) {
	const now = time.Minute
	for _, test := range []struct {
		name           string
		slowStart      bool
		before         float32
		n, held, later int // seen by the refused call, in flight when the pause begins, refused in it
		limit          float64
		sent           time.Duration // when those that are refused later started, before the pause
		want           float32
	}{
		{"the first refusal, and more that came at once", true, 0, 30, 26, 4, 60, time.Millisecond, 26},
		{"the first refusal, and none that came later: what ended was not taken again", true, 0, 30, 20, 0, 60, 0, 23},
		{"of few, half of those on their way are there", true, 0, 6, 3, 0, 6, 0, 4},
		{"a probe", false, 20, 26, 19, 0, 26, 0, 20},
		{"a probe, and more are held", false, 20, 26, 23, 0, 26, 0, 23},
		{"sooner than it should have come", false, 22, 24, 15, 0, 24, 0, 17},
		{"fewer than there were", false, 24, 16, 14, 0, 24, 0, 14},
	} {
		g := New(Config{})
		s := g.State()
		s.Limit, s.Mean, s.MeanOf, s.Way, s.SlowStart, s.Credit = test.limit, 0.1, 32, 0.02, test.slowStart, 2
		s.Places, s.Done, s.At, s.Flow, s.FlowAt, s.RefusalTime, s.InFlight = test.before, 1000, now, 400, now, 0.02, test.held+1+test.later
		if test.before > 0 {
			s.Bound, s.LastBound, s.RefusedCount, s.Refused = 25, 25, 900, 3
		}
		if !test.slowStart && test.n > int(test.before)+5 {
			s.Wins, s.RefusedCount = 1, -100_000
		}
		g.Restore(now, s)
		delay := Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 2 * time.Second}
		g.Ended(now, Call{SentAt: now - 20*time.Millisecond, Episode: s.Episode, InFlight: test.n}, delay)
		for i := range test.later {
			g.Ended(now+time.Duration(i+1)*time.Millisecond, Call{SentAt: now - test.sent, Episode: s.Episode, InFlight: test.n + i + 1}, delay)
		}
		g.Window(now+21*time.Millisecond, Window{OK: 1, Timed: 1, Latency: 100 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: test.n, InFlight: test.held - 1})
		if got := g.State(); got.Places != test.want || got.Limit != float64(got.Places) {
			t.Errorf("%s: %.1f places, limit %.1f, want %.1f", test.name, got.Places, got.Limit, test.want)
		}
	}
}

func TestSafe(t *testing.T) {
	for _, test := range []struct {
		name              string
		places, flow, way float64
		atLeast, below    float64
	}{
		{"nothing known", 0, 100, 0.02, 0, 1},
		{"nothing on its way", 100, 1000, 0, 100, 101},
		{"few calls", 4, 40, 0.02, 4, 5},
		{"of many not all", 1000, 12_000, 0.02, 1150, 1200},
		{"no more than half", 1000, 1e6, 1, 1000, 2000},
	} {
		g := New(Config{})
		g.s.Mean, g.s.Way, g.s.LastPause, g.s.Places, g.s.Flow, g.s.At = 0.1, float32(test.way), time.Second, float32(test.places), test.flow, time.Minute
		if got := g.safe(); got < test.atLeast || got >= test.below {
			t.Errorf("%s: %.0f, want %.0f to below %.0f", test.name, got, test.atLeast, test.below)
		}
		g.s.PausedUntil = time.Minute - 100*time.Millisecond
		if got := g.safe(); got != test.places {
			t.Errorf("%s: right after a pause %.0f, want %.0f", test.name, got, test.places)
		}
	}
}

func TestPauseCost(t *testing.T) {
	for _, test := range []struct{ pause, mean, want, within float64 }{
		{3, 0, 3, 0},
		{3, 0.01, 3, 0.02},
		{1, 1, 0.37, 0.01},
		{1, 100, 0.005, 0.001}, // calls in flight go on
	} {
		g := New(Config{})
		g.s.Mean = test.mean
		if got := g.pauseCost(time.Duration(test.pause * 1e9)); math.Abs(got-test.want) > test.within {
			t.Errorf("a pause of %g s at calls of %g s costs %.4f s, want %.4f", test.pause, test.mean, got, test.want)
		}
	}
}

// After long pauses the limit is tried again within an hour, by a guard that was restored and by one that was not.
func TestLimitIsTriedAgainWithinAnHour(t *testing.T) {
	g, now := New(Config{}), time.Duration(0)
	for range 6 {
		for range 20 {
			now += time.Second
			g.Window(now, Window{Start: now - time.Second, OK: 5, Timed: 5, Latency: 500 * time.Millisecond, MinLatency: 100 * time.Millisecond, MaxInFlight: 9, InFlight: 9, Waiting: 1, Full: true})
		}
		g.Ended(now, Call{SentAt: now - 50*time.Millisecond, Episode: g.Decision().Episode, InFlight: 10}, Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 10 * time.Minute})
		now += 10 * time.Minute
	}
	s := g.State()
	if wait := s.ProbeAt - s.At; wait <= 30*time.Minute || wait > time.Hour {
		t.Errorf("the limit is tried again in %v, want an hour at most", wait)
	}
	r := New(Config{})
	r.Restore(s.At, s)
	if got := r.State().ProbeAt; got != s.ProbeAt {
		t.Errorf("restored it is tried at %v, want %v", got, s.ProbeAt)
	}
}

// A call that started before the limit was cut may end long after the others: that it saw more in flight says nothing of how many places there are.
func TestGovernorOldCallsDoNotAddPlaces(t *testing.T) {
	g := New(Config{Initial: 100})
	s := &g.s
	s.At, s.Limit, s.Places, s.Bound, s.SlowStart, s.Mean, s.Refused, s.RefusedLast = time.Minute, 100, 100, 110, false, 0.1, 1, 0
	seen := func(n int) bool {
		h := *g
		h.grow(&Window{OK: 1, MaxInFlight: n, InFlight: 100, Full: true}, 1)
		return h.s.SlowStart
	}
	if seen(200) {
		t.Error("200 in flight, seen by a call before the pause, restart slow start at a limit of 100")
	}
	s.Limit = 200
	if !seen(200) {
		t.Error("200 in flight at a limit of 200 do not say that there are more than 100 places")
	}
}

// The limit stays as far below the mean as one too many costs, and never lower than the places.
func TestBelow(t *testing.T) {
	for _, test := range []struct{ k, sigma, skewed, low, high float64 }{
		{1e5, 12, 0, 4.5, 4.7}, {1e5, 12, 0.6, 4.3, 4.5}, {1e3, 2, 0.6, 3.0, 3.4}, {1, 1, 0.6, 1.4, 1.7}, {0, 1, 0.6, 0, 0}, {1, 0, 1, 1, 1.7},
	} {
		if y := below(test.k, test.sigma, test.skewed); y < test.low || y > test.high {
			t.Errorf("below(%v, %v, %v) = %v, want %v to %v", test.k, test.sigma, test.skewed, y, test.low, test.high)
		}
	}
}

// The first call that sees one more in flight than all before it, after as many as ever were accepted, is refused by a limit, of few calls as well as of many.
func TestGovernorFirstBeyondOfFew(t *testing.T) {
	g := New(Config{})
	s := &g.s
	s.Flight, s.Top = 4, 4
	for _, test := range []struct {
		n, gap float64
		want   bool
	}{{5, 60, true}, {5, 10, false}, {4, 60, false}, {6, 60, false}} {
		if got := g.firstBeyond(test.n, test.gap); got != test.want {
			t.Errorf("%v in flight after %v calls: %v", test.n, test.gap, got)
		}
	}
}

// TestGovernorCountedPlacesHold: a limit that was lowered because more in flight did no more goes back when less is done with fewer. Where places were counted since, fewer are in flight because of that, and
// as many as before would be refused. Half of the places of an upstream that names delays were gone, and it went back to where all were
// taken, for the price of two pauses more.
func TestGovernorCountedPlacesHold(t *testing.T) {
	for _, test := range []struct {
		name   string
		places float32
		back   bool
	}{
		{"fewer do less", 0, true},
		{"fewer do less where so many places were counted", 60, false},
	} {
		g, now := warm(80)
		g.s.CutLevel, g.s.CutRate = 85, 1700
		g.s.Limit = 60
		g.s.Places = test.places
		limit := g.s.Limit
		g.judge(now+time.Second, &block{50, 1000, 0.05})
		if back := g.s.Limit > limit; back != test.back {
			t.Errorf("%s: the limit goes from %v to %v, want back %v", test.name, limit, g.s.Limit, test.back)
		}
	}
}
