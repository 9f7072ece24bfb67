package adaptive

import (
	"math"
	"testing"
	"time"
)

// What is remembered of the last minute is right after hours of more calls a second than a small number holds.
func TestTrailingOfManyCalls(t *testing.T) {
	for _, rate := range []int{1, 16_384, 32_768, 100_000, 4_000_000} {
		g := New(Config{Max: MaxLimit})
		now := time.Duration(0)
		for range 7200 {
			now += time.Second
			g.Window(now, Window{Start: now - time.Second, OK: rate, InFlight: 1})
		}
		n, seconds := g.trailing(now)
		if got := n / seconds; math.Abs(got/float64(rate)-1) > 0.02 {
			t.Errorf("%.0f calls in %.1f s, %.0f a second, want %d", n, seconds, got, rate)
		}
	}
}

// Above the largest level that is told apart, what was done with many more in flight is no measure of what is done with fewer.
func TestLastLevel(t *testing.T) {
	g := New(Config{Max: MaxLimit, Initial: 6000})
	g.s.Counts = byLatency
	at := time.Minute
	for range 4 {
		g.judge(at, &block{100_000, 1e6, 0.1})
		at += time.Second
	}
	g.judge(at, &block{6000, 6e4, 0.1})
	if g.s.Limit != 6000 {
		t.Errorf("the limit is %v, want 6000, as it was", g.s.Limit)
	}
}
