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

// Of ten calls that began in a second nine have ended; the last of those to end began first, just before the one that is in flight, or after it. How long a call took is what it took, whatever that would
// be for one of the class that was first.
func TestGovernorOlder(t *testing.T) {
	for _, test := range []struct {
		took time.Duration
		want bool
	}{{950 * time.Millisecond, false}, {100 * time.Millisecond, false}, {50 * time.Millisecond, true}} {
		g := New(Config{})
		s := &g.s
		s.At, s.Origin, s.InFlight = 0, 0, 1
		for s.At < time.Second {
			s.At += 100 * time.Millisecond
			s.InFlight++
			g.note(s.At)
		}
		s.Done, s.InFlight = 9, s.InFlight-9
		g.took = 10
		if got := g.older(&Window{OK: 1, Timed: 1, Latency: test.took, MinLatency: test.took}); got != test.want {
			t.Errorf("a call that took %v ended: older ones in flight %v", test.took, got)
		}
	}
}
