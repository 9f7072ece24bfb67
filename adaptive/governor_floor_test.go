package adaptive

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

var overloaded = Outcome{Class: feedback.Overloaded}

// A share of all calls that is refused whatever is asked does not keep a guard down.
func TestGovernorFloor(t *testing.T) {
	const length, callers, seeds = 5 * time.Minute, 30, 8
	for _, c := range []struct {
		name  string
		share float64
		mean  float64 // of what 30 callers can have in flight
	}{
		{"one in ten", 0.1, 0.7},
		{"one in three", 1.0 / 3, 0.35},
	} {
		t.Run(c.name, func(t *testing.T) {
			sum := 0.0
			for seed := range uint64(seeds) {
				random := rand.New(rand.NewPCG(seed, 0))
				ok, _ := playNoise(random, callers, length, overloaded, func(time.Duration, int) bool { return random.Float64() < c.share })
				sum += float64(ok) / (callers * length.Seconds()) / seeds
			}
			if t.Logf("%.3f of what could be", sum); sum < c.mean {
				t.Errorf("%.3f of what could be, want %.2f", sum, c.mean)
			}
		})
	}
}

// What is refused beyond that share counts: a limit that comes later is kept to, as one of those without such a share is.
func TestGovernorFloorEnds(t *testing.T) {
	const length, callers, seeds, most = 10 * time.Minute, 30, 8, 6
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 0))
		late := 0
		ok, _ := playNoise(random, callers, length, overloaded, func(now time.Duration, n int) bool {
			if now < length/2 {
				return random.Float64() < 0.1
			}
			if n > most && now > length/2+time.Minute {
				late++
			}
			return n > most
		})
		if late > most*int(length.Seconds())/15 {
			t.Errorf("seed %d: %d ended well, %d were refused beyond the limit once it was there for a minute", seed, ok, late)
		}
	}
}

// What was learned of a quota is not lost where it looked like such a share: one that falls to a twentieth is kept to.
func TestGovernorFloorRefuted(t *testing.T) {
	const length, callers, seeds = 20 * time.Minute, 30, 6
	const from, until = 2 * time.Minute, 10 * time.Minute
	for seed := range uint64(seeds) {
		saved, last, ok, late := 10.0, time.Duration(0), 0, 0
		playNoise(rand.New(rand.NewPCG(seed, 0)), callers, length, overloaded, func(now time.Duration, _ int) bool {
			rate := 24.0
			if now > from {
				rate /= 20
			}
			saved = min(10, saved+rate*(now-last).Seconds())
			last = now
			if saved >= 1 {
				saved--
				if now > until {
					ok++
				}
				return false
			}
			if now > until {
				late++
			}
			return true
		})
		if t.Logf("seed %d: %d passed, %d were refused", seed, ok, late); late > ok/5 {
			t.Errorf("seed %d: %d passed in the second half, %d were refused", seed, ok, late)
		}
	}
}
