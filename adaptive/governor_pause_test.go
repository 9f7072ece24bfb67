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
	}{
		{"3", func(time.Duration) int { return 3 }, 8, 0.93, 0.97},
		{"30", func(time.Duration) int { return 30 }, 8, 0.93, 0.97},
		{"300", func(time.Duration) int { return 300 }, 8, 0.93, 0.97},
		{"30, then 15", func(now time.Duration) int {
			if now < length/4 {
				return 30
			}
			return 15
		}, 10, 0.9, 0.97},
		{"30, then 60", func(now time.Duration) int {
			if now < length/4 {
				return 30
			}
			return 60
		}, 10, 0.7, 0.93},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := New(Config{})
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
					g.Window(now, Window{Start: window, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: seen, Full: true, InFlight: n, Waiting: 1})
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
					// A low discrepancy sequence stands for chance.
					took := 150*time.Millisecond + time.Duration(math.Mod(float64(calls)*0.6180339887, 1)*1e8)
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

// TestGovernorFailedProbe: a probe that was refused leads to no less than what was good before, and to no more than could be.
func TestGovernorFailedProbe(t *testing.T) {
	for _, test := range []struct {
		name string
		way  float32
		want float32
	}{
		{"hardly any on their way: all but one were accepted", 0.001, 23},
		{"many on their way: it is no surprise that they were accepted for a while", 0.04, 20},
	} {
		g := New(Config{})
		s := g.State()
		s.Limit, s.Mean, s.Way, s.SlowStart, s.Credit = 24, 0.1, test.way, false, 2
		s.Safe, s.Bound, s.LastBound, s.Done, s.At = 20, 22, 22, 1000, time.Minute
		g.Restore(time.Minute, s)
		g.Ended(time.Minute, Call{SentAt: time.Minute - 45*time.Millisecond, Episode: s.Episode, InFlight: 24},
			Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 2 * time.Second})
		if got := g.State(); got.Safe != test.want || got.Limit > float64(got.Safe) || got.Limit < float64(got.Safe)/2 {
			t.Errorf("%s: the limit is %.1f and goes to %.1f, want %.1f", test.name, got.Limit, got.Safe, test.want)
		}
	}
}

func TestRoom(t *testing.T) {
	for _, test := range []struct {
		name           string
		n, calls, way  float64
		pause          time.Duration
		atLeast, below float64
	}{
		{"nothing on its way", 100, 10, 0, time.Second, 1, 2},
		{"few calls", 4, 10, 0.02, 3 * time.Second, 1, 2},
		{"refused at once: all that are on their way", 10, 1, 0.02, 3 * time.Second, 2, 3},
		{"of many not all", 1000, 1, 0.02, 3 * time.Second, 40, 100},
		{"after many calls, hardly any", 100, 1e6, 0.02, 3 * time.Second, 1, 3},
		{"no more than half", 10, 1, 1, 3 * time.Second, 5, 6},
	} {
		g := New(Config{})
		g.s.Mean, g.s.Way, g.s.LastPause = 0.1, float32(test.way), test.pause
		if got := g.room(test.n, test.calls); got < test.atLeast || got >= test.below {
			t.Errorf("%s: room is %.0f, want %.0f to below %.0f", test.name, got, test.atLeast, test.below)
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
