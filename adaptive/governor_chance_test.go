package adaptive

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Calls take 8 s on average and differ much, and the upstream is never full. The first to end are the short ones, so that by chance each may take longer than those before it,
// which saw fewer in flight, or a doubling longer than that of the first four: neither ends slow start.
func TestGovernorSlowStartByChance(t *testing.T) {
	for what, seeds := range map[string][]uint64{
		"more in flight seem to take longer": {278},
		"a doubling of few was quick":        {188, 329, 383},
	} {
		for _, seed := range seeds {
			rng := rand.New(rand.NewPCG(seed, 8))
			u := &metered{g: New(Config{}), rng: rng, busy: true, takes: func(time.Duration) bool { return true }}
			u.lasts = func() time.Duration { return time.Duration(8e9 * rng.ExpFloat64()) }
			u.run(30 * time.Second)
			if s := u.g.State(); !s.SlowStart || s.Limit < 1000 {
				t.Errorf("%s, seed %d: limit %.0f after 30 s, slow start %v", what, seed, s.Limit, s.SlowStart)
			}
		}
	}
}
