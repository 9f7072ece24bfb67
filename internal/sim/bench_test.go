package sim

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// A steady state allocates nothing.
func TestBenchAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	mallocs := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.Mallocs
	}
	start := time.Now()
	for _, w := range BenchWorlds() {
		r, err := Bench(context.Background(), w, 3, func() time.Duration { return time.Since(start) }, mallocs)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d events in %v, %.2f million a second, %.4f allocations an event", r.Name, r.Events, r.Run, r.PerSecond/1e6, r.Allocs)
		if r.Allocs > .001 {
			t.Errorf("%s: an event costs %.4f allocations, want none", r.Name, r.Allocs)
		}
	}
}

// BenchmarkWorlds is the speed of each world with flyball's own law: an iteration is an event.
func BenchmarkWorlds(b *testing.B) {
	for _, w := range BenchWorlds() {
		b.Run(w.Name, func(b *testing.B) {
			cfg := w.Config
			cfg.Duration, cfg.Guard = 100_000*time.Hour, benchGuard()
			r := newRun(&cfg)
			for range 100_000 {
				r.step()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if !r.step() {
					b.Fatal(r.check.err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
}
