package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// closed is an upstream on which a call takes took(n) s, times what differs by sigma as a logarithm, with n in flight, for 60 callers who always want more.
// It returns how many of the calls were done a second.
func closed(g *Governor, rng *rand.Rand, sigma float64, took func(n float64) float64, from time.Duration, calls int) (gets float64, at time.Duration) {
	at = from
	for range calls {
		n := min(60, g.Decision().Limit)
		l := took(float64(n))
		at += time.Duration(1e9 * l / float64(n))
		d := time.Duration(1e9 * l * math.Exp(sigma*rng.NormFloat64()))
		g.Window(at, Window{Start: at, OK: 1, Timed: 1, Latency: d, MinLatency: d, MaxInFlight: n, Full: n < 60, InFlight: n, Waiting: 60 - n})
	}
	return float64(calls) / (at - from).Seconds(), at
}

// afterHang returns a law whose slow start has ended at the limit n, as calls hung with more.
func afterHang(n float64, drain float32) *Governor {
	g := New(Config{})
	s := g.State()
	s.At, s.Limit, s.SlowStart, s.Knee, s.Bound, s.Flight, s.Drain, s.Late = 0, n, false, float32(n), n+1, n, drain, true
	g.Restore(0, s)
	return g
}

// beyond returns how long a call takes where each one beyond knee makes all take base times as long.
func beyond(knee, base float64) func(n float64) float64 {
	return func(n float64) float64 { return math.Pow(base, max(0, n-knee)) }
}

func TestGovernorSteepKnee(t *testing.T) {
	for _, sigma := range []float64{0.05, 0.1, 0.2, 0.3} {
		for seed := range uint64(4) {
			// What hung ended one in ten s.
			g, rng := afterHang(9, -0.1), rand.New(rand.NewPCG(seed, 1))
			_, at := closed(g, rng, sigma, beyond(10, 1.25), 0, 1000)
			gets, at := closed(g, rng, sigma, beyond(10, 1.25), at, 4000)
			if least := 9.2 - 6*sigma; gets < least {
				t.Errorf("calls that differ by %v, seed %d: %.2f a second, want at least %.2f of 10; limit %d", sigma, seed, gets, least, g.Decision().Limit)
			}
			// Twice as many are allowed from now on.
			_, at = closed(g, rng, sigma, beyond(20, 1.25), at, 4000)
			if gets, _ = closed(g, rng, sigma, beyond(20, 1.25), at, 4000); gets < 14 {
				t.Errorf("calls that differ by %v, seed %d: %.2f a second beyond a knee that moved, want at least 14 of 20; limit %d", sigma, seed, gets, g.Decision().Limit)
			}
		}
	}
}

// However many calls a window says were timed, no more are remembered than there is room for.
func TestLevelOfManyCalls(t *testing.T) {
	for _, n := range []int{levelMemory + 1, math.MaxInt} {
		g := New(Config{Initial: 8})
		for now := time.Duration(0); now < time.Minute; now += time.Second {
			g.Window(now, Window{Start: now, OK: 8, Timed: 8, Latency: 8 * time.Second, MinLatency: time.Second, MaxInFlight: g.Decision().Limit, InFlight: g.Decision().Limit})
		}
		l := g.s.level()
		if l == nil {
			t.Fatal("nothing was learned, so this tests nothing")
		}
		w := Window{OK: 8, Timed: n, MaxInFlight: int(l.Limit), InFlight: int(l.Limit)}
		g.took = 1
		if g.learnLevel(&w); l.N != levelMemory {
			t.Errorf("%d calls are remembered of %d, want %d", l.N, n, levelMemory)
		}
	}
}
