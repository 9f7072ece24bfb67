package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// lognormal returns what draws how long a call takes, with a mean.
func lognormal(rng *rand.Rand, mean time.Duration, sigma float64) func() time.Duration {
	return func() time.Duration {
		return time.Duration(float64(mean) * math.Exp(sigma*rng.NormFloat64()-sigma*sigma/2))
	}
}

func TestGovernorFirstCallsAreShort(t *testing.T) {
	// Nothing is limited, and calls differ. Those that end first are short ones, and differ little by chance: the usual ones that come after them do not
	// queue.
	for seed := range uint64(64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		u := &metered{g: New(Config{}), rng: rng, busy: true, takes: func(time.Duration) bool { return true }, lasts: lognormal(rng, 3*time.Second, 0.5)}
		u.run(25 * time.Second)
		if d := u.g.Decision(); d.Limit < 300 {
			t.Errorf("seed %d: limit %d after 25 s", seed, d.Limit)
		}
	}
}

func TestGovernorBunchedCalls(t *testing.T) {
	// Calls take the same time, so they end in bunches, and a block has more of them or fewer: nobody queues as long as they take no longer.
	u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(1, 1)), busy: true, takes: func(time.Duration) bool { return true }, lasts: func() time.Duration { return 27 * time.Millisecond }}
	limit := 0
	for at := time.Duration(0); at < 10*time.Second; at += 5 * time.Millisecond {
		u.run(at)
		d := u.g.Decision()
		if d.Limit < limit {
			t.Fatalf("%v: limit %d → %d, %v", at, limit, d.Limit, d.Cause)
		}
		limit = d.Limit
	}
}

func TestGovernorRampTellsNothing(t *testing.T) {
	// After a time without callers all begin at once: what ends then is what began when fewer were in flight, and says nothing of how many are too many.
	cut := 0
	for seed := range uint64(32) {
		rng := rand.New(rand.NewPCG(seed, 1))
		u := &metered{g: New(Config{}), rng: rng, busy: true, takes: func(time.Duration) bool { return true }, lasts: lognormal(rng, 300*time.Millisecond, 0.3)}
		u.run(3 * time.Second)
		limit := u.g.Decision().Limit
		if limit < 500 {
			t.Fatalf("seed %d: limit %d after 3 s", seed, limit)
		}
		u.busy, u.waiting, u.comes = false, 0, time.Hour
		u.run(5 * time.Second)
		u.busy = true
		for at := u.now; at < 6*time.Second; at += 5 * time.Millisecond {
			u.run(at)
			if d := u.g.Decision(); d.Limit < limit {
				cut++
				break
			}
		}
	}
	if cut > 18 {
		t.Errorf("the limit fell in %d of 32 runs", cut)
	}
}
