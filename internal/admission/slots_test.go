package admission

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// TestSlotsEqualCounters: two packed words count what plain counters do, also where they wrap around.
func TestSlotsEqualCounters(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var s Slots
		limit, inFlight, waits, held := 1, 0, 0, false
		s.setLimit(1)
		ended, sum := uint32(0), uint64(0)
		// So many calls have been before that the counts are about to wrap around.
		for range rapid.IntRange(0, 1).Draw(rt, "used") {
			n := uint64(countMask - rapid.IntRange(0, 30).Draw(rt, "before the wrap"))
			s.word.Add(-n * onePlace)
			s.ends.Add(n * onePlace)
			ended = uint32(n)
		}
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			switch rapid.IntRange(0, 8).Draw(rt, "step") {
			case 0, 1, 2:
				n, taken := s.Take()
				want := TookPlace
				switch {
				case held || waits > 0:
					want = Divert
				case inFlight >= limit:
					want = NoPlace
				default:
					if inFlight++; inFlight == limit {
						want = TookLast
					}
				}
				if taken != want || taken <= TookLast && n != inFlight {
					rt.Fatalf("Take() = %d, %d with %d of %d in flight, %d waiting, held %v; want %d", n, taken, inFlight, limit, waits, held, want)
				}
			case 3, 4:
				if inFlight == 0 {
					break
				}
				inFlight--
				if rapid.Bool().Draw(rt, "as if it had not been?") {
					if s.Give() != (waits > 0) {
						rt.Fatalf("Give() does not tell whether one of %d waits", waits)
					}
					break
				}
				units := uint64(rapid.IntRange(0, 1<<25).Draw(rt, "units"))
				ended, sum = ended+1, sum+units
				if serve := s.End(units); serve != (waits > 0 || ended&countMask%endsTurn == 0) {
					rt.Fatalf("End() = %v with %d waiting after %d", serve, waits, ended)
				}
			case 5:
				limit = rapid.IntRange(1, maxSlots).Draw(rt, "limit")
				if rapid.Bool().Draw(rt, "small") {
					limit = 1 + limit%4
				}
				s.setLimit(limit)
			case 6:
				if rapid.Bool().Draw(rt, "comes") {
					s.addWaiting()
					waits++
				} else if waits > 0 {
					n, ok := s.takeFor()
					if ok != (inFlight < limit) {
						rt.Fatalf("takeFor() = %v with %d of %d in flight", ok, inFlight, limit)
					}
					if ok {
						waits--
						if inFlight++; n != inFlight {
							rt.Fatalf("takeFor() = %d, want %d", n, inFlight)
						}
					}
				}
			case 7:
				if held = !held; rapid.IntRange(0, 3).Draw(rt, "force") == 0 {
					inFlight++
					if n, ok := s.force(); !ok || n != inFlight {
						rt.Fatalf("force() = %d, %v, want %d", n, ok, inFlight)
					}
				}
				s.setHeld(held)
			case 8:
				if got, n := s.collect(); got != sum || n != ended&countMask {
					rt.Fatalf("collect() = %d, %d, want %d, %d", got, n, sum, ended&countMask)
				}
				sum = 0
			}
			if s.InFlight() != inFlight || s.Limit() != limit || s.Waiting() != waits || s.diverts() != (held || waits > 0) {
				rt.Fatalf("%d of %d in flight, %d waiting, diverts %v; want %d of %d, %d, %v",
					s.InFlight(), s.Limit(), s.Waiting(), s.diverts(), inFlight, limit, waits, held || waits > 0)
			}
		}
	})
}

// TestSlotsNeverOverTheLimit has more callers than places take and end, some of them as if they had never been, and
// collects meanwhile: no more than the limit have places at one time, and every end and every unit is collected once.
func TestSlotsNeverOverTheLimit(t *testing.T) {
	for _, limit := range []int{1, 3, 64} {
		var s Slots
		s.setLimit(limit)
		var holders, over, given atomic.Int64
		var units, taken atomic.Uint64
		var wg, collecting sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(limit)))
				held := 0
				for range 200_000 {
					if _, t := s.Take(); t <= TookLast {
						if holders.Add(1) > int64(limit) {
							over.Add(1)
						}
						held++
						taken.Add(1)
						if limit < 64 && rng.IntN(64) == 0 {
							runtime.Gosched()
						}
					}
					for held > 0 && (held > limit/5 || rng.IntN(2) == 0) {
						held--
						holders.Add(-1)
						if u := uint64(rng.IntN(1 << 20)); rng.IntN(8) == 0 {
							given.Add(1)
							s.Give()
						} else {
							units.Add(u)
							s.End(u)
						}
					}
				}
				for ; held > 0; held-- {
					holders.Add(-1)
					given.Add(1)
					s.Give()
				}
			})
		}
		var stop atomic.Bool
		var sum uint64
		collecting.Go(func() {
			for !stop.Load() {
				more, _ := s.collect()
				sum += more
				runtime.Gosched()
			}
		})
		wg.Wait()
		stop.Store(true)
		collecting.Wait()
		more, ended := s.collect()
		if sum += more; sum != units.Load() {
			t.Errorf("limit %d: collected %d units of %d", limit, sum, units.Load())
		}
		if want := taken.Load() - uint64(given.Load()); uint64(ended) != want&countMask {
			t.Errorf("limit %d: %d ended, want %d", limit, ended, want)
		}
		if over.Load() > 0 || s.InFlight() != 0 {
			t.Errorf("limit %d: over it %d times, %d in flight at the end", limit, over.Load(), s.InFlight())
		}
		if taken.Load() < 1_000 {
			t.Errorf("limit %d: %d places were taken: the test tests little", limit, taken.Load())
		}
	}
}

// TestDraw: about one attempt in 16 draws a number whose last four bits are 0, whatever the period in which one looks.
func TestDraw(t *testing.T) {
	var s Slots
	s.setLimit(100)
	const n = 160_000
	for _, period := range []int{1, 2, 3, 16, 64} {
		for _, open := range []int{0, 1, 40} { // in flight meanwhile
			hits := 0
			for range open {
				s.Take()
			}
			for i := range n * period {
				a := s.try()
				if i%period == 0 && a.Draw()&15 == 0 {
					hits++
				}
				s.End(0)
			}
			for range open {
				s.End(0)
			}
			if want := n / 16.0; float64(hits) < 0.95*want || float64(hits) > 1.05*want {
				t.Errorf("every %d. of calls with %d others in flight: %d of %d, want %v within 5 %%", period, open, hits, n, want)
			}
		}
	}
}
