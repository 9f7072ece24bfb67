package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
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

// Whatever is remembered of such a share: when all is refused, that is noticed.
func TestPropGovernorFloorEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := FloorState{
			Calls: rapid.Uint16().Draw(t, "calls"), Ref: rapid.Uint16().Draw(t, "ref"), Base: rapid.Uint16().Draw(t, "base"), Sum: rapid.Uint16().Draw(t, "sum"),
			Late: rapid.Uint8().Draw(t, "late"), Run: rapid.Uint8().Draw(t, "run"), Stage: rapid.Uint8().Draw(t, "stage"), Wrong: rapid.Uint8().Draw(t, "wrong"),
		}
		g := New(Config{})
		g.Restore(time.Hour, GovernorState{At: time.Hour, Limit: 20, Flow: 10, Peak: 20, Done: 1000, Floor: f})
		const most = 50
		o := overloaded
		if f.Wrong&floor429 != 0 {
			o = refused(feedback.ScopeUnknown)
		}
		for i := range most {
			now := time.Hour + time.Duration(i+1)*time.Second
			g.Ended(now, Call{SentAt: now - time.Millisecond, InFlight: 1, Episode: g.s.Episode}, o)
		}
		if f := g.s.Floor; f.Stage != floorUnknown && f.Wrong&floor429 == 0 || g.onFloor(&o) {
			t.Fatalf("%+v after %d refusals in a row", f, most)
		}
	})
}

// A share that is known and ends was no mistake.
func TestGovernorFloorGone(t *testing.T) {
	g := New(Config{})
	g.s.Floor = FloorState{Calls: 380, Late: 8, Base: math.MaxUint16 / 10, Stage: floorKnown, Wrong: 1}
	g.testFloor(200, false)
	if f := g.s.Floor; f.Stage != floorUnknown || f.Wrong != 1 {
		t.Errorf("%+v, want that nothing is known and that it was wrong once", f)
	}
}

// What is counted of a share that is known is less than it by chance now and then. That makes it none that is exceeded.
func TestGovernorFloorKnown(t *testing.T) {
	const share, calls, seeds, most = 0.1, 20_000, 20, 4
	wrong := 0
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 0))
		g := New(Config{})
		g.s.Floor = FloorState{Calls: 90, Late: 10, Base: math.MaxUint16 * 13 / 100, Stage: floorKnown}
		apart := 0.0
		for range calls {
			if random.Float64() >= share {
				apart++
				continue
			}
			g.testFloor(apart, false)
			apart = 0
			if g.s.Floor.Stage == floorUnknown {
				wrong++
				break
			}
		}
	}
	if t.Logf("%d of %d were given up", wrong, seeds); wrong > most {
		t.Errorf("%d of %d were given up, want %d at most", wrong, seeds, most)
	}
}
