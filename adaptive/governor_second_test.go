package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A quota that counts the calls of any second is told from its refusals where calls come in bursts, and used without many more.
func TestGovernorLearnsSlidingSeconds(t *testing.T) {
	worlds, learned, ok, refused := 0, 0, 0, 0
	for _, calls := range []int{20, 60} {
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, 1))
			u := &metered{g: New(Config{}), rng: rng, takes: slidingLog(&calls, time.Second), long: 300 * time.Millisecond}
			run := func(until time.Duration) {
				for u.now < until {
					u.burst, u.every, u.comes = calls/10, time.Duration(1e9/25), u.now
					u.run(u.now + time.Duration(rng.ExpFloat64()*0.5e9)) // two and a half times as many as it allows
					u.burst, u.every, u.comes = 0, time.Hour, u.now+time.Hour
					u.run(u.now + time.Duration(rng.ExpFloat64()*3e9))
				}
			}
			run(10 * time.Minute)
			worlds++
			if d := &u.g.s.Slide; int(d.Of) == slideSecond+1 {
				if learned++; math.Abs(float64(d.Allows)/float64(calls)-1) > 0.15 {
					t.Errorf("%d calls in a second, seed %d: %v %+v", calls, seed, u.g.Decision().Quota, *d)
				}
			} else if d.Of != 0 {
				t.Errorf("%d calls in a second, seed %d: taken for %v", calls, seed, u.g.Decision().Quota)
			}
			ok, refused = ok-u.ok, refused-u.refused
			run(20 * time.Minute)
			ok, refused = ok+u.ok, refused+u.refused
		}
	}
	t.Logf("%d of %d learned; afterwards %d refused of %d", learned, worlds, refused, ok)
	if learned < worlds/2 {
		t.Errorf("%d of %d were learned", learned, worlds)
	}
	if refused > ok*4/100 {
		t.Errorf("%d refused of %d", refused, ok)
	}
}

// Of a window of few calls a fifth more is too little to tell that it has grown, so as many are asked for as tell it: it is known to give twice as much soon after it does.
func TestGovernorFewGrow(t *testing.T) {
	for _, calls := range []int{6, 12, 40} {
		most := calls
		u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(1, uint64(calls))), takes: slidingLog(&most, time.Second), busy: true}
		u.run(20 * time.Second)
		w := &u.g.s.Slide
		*w = SlideState{Of: slideSecond + 1, Allows: float32(calls), Before: float32(calls), Ask: 1}
		w.Mean[slideSecond] = float32(calls)
		u.g.slideSet(u.now)
		u.run(time.Minute)
		most = 2 * calls
		u.run(4 * time.Minute)
		ok := u.ok
		u.run(5 * time.Minute)
		if got := float64(u.ok-ok) / 60; got < 1.5*float64(calls) {
			t.Errorf("%d calls in a second were known, and twice as many are allowed for three minutes: %.1f a second pass", calls, got)
		}
	}
}

// A limit on calls in flight lets about as many through in each second, and is not taken for a window.
func TestGovernorCapIsNoSecond(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		u := &metered{g: New(Config{}), rng: rng, every: time.Duration(1e9 + 4e9*rng.Float64()), long: time.Duration(1e8 + 9e8*rng.Float64())}
		most := 4 + rng.IntN(60)
		u.burst = 1 + int(float64(most)*u.every.Seconds()/u.long.Seconds()*(0.3+rng.Float64()))
		u.takes = func(time.Duration) bool {
			n := 0
			for _, f := range u.inFlight {
				if f.ok && f.ends > u.now {
					n++
				}
			}
			return n < most
		}
		u.run(5 * time.Minute)
		if d := &u.g.s.Slide; d.Of != 0 {
			t.Errorf("seed %d: %d places, calls of %v: taken for %v: %+v", seed, most, u.long, u.g.Decision().Quota, *d)
		}
	}
}

// What is counted of the last second is what was seen in it, but for the part in which it began.
func TestPropSinceTick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{})
		now := time.Hour
		g.Window(now, Window{})
		var seen [48]int // in steps of a quarter of a tick
		total := 1
		for i := range seen {
			seen[i] = rapid.IntRange(0, 9).Draw(t, "calls")
			now += tickTime / 4
			total += seen[i]
			g.Window(now, Window{Start: now - tickTime/4, OK: seen[i]})
		}
		want := 0
		for _, n := range seen[len(seen)-32:] {
			want += n
		}
		edge := 0
		for _, n := range seen[len(seen)-36 : len(seen)-28] {
			edge += n
		}
		if got := g.sinceTick(now - time.Second); math.Abs(got-float64(want)) > float64(edge) {
			t.Errorf("%.1f in the last second, want %d ± %d", got, want, edge)
		}
	})
}
