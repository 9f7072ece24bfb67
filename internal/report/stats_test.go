package report

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func near(got, want float64) bool {
	return got == want || math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)) || math.IsNaN(got) && math.IsNaN(want)
}

func TestLatencies(t *testing.T) {
	ds := make([]time.Duration, 100)
	for i := range ds {
		ds[i] = time.Duration(100-i) * time.Millisecond
	}
	mean, p50, p90, p99 := Latencies(ds)
	if mean != 50500*time.Microsecond || p50 != 50*time.Millisecond || p90 != 90*time.Millisecond || p99 != 99*time.Millisecond {
		t.Errorf("Latencies(1…100 ms) = %v, %v, %v, %v", mean, p50, p90, p99)
	}
	if mean, p50, p90, p99 := Latencies(nil); mean >= 0 || p50 >= 0 || p90 >= 0 || p99 >= 0 {
		t.Errorf("Latencies(nil) = %v, %v, %v, %v, want all negative", mean, p50, p90, p99)
	}
	if mean, _, _, _ := Latencies([]time.Duration{math.MaxInt64 / 2, math.MaxInt64 / 2, math.MaxInt64 / 2}); mean < math.MaxInt64/2-1024 {
		t.Errorf("mean of three half-maximal durations = %v", mean)
	}
}

func TestMerge(t *testing.T) {
	a := Summary{
		Offered: 10, OK: 8, Failed: 1, Refused: 1, Sent: 12, Rejected429: 3, Goodput: 0.8, GoodputRate: 4, P99: 2 * time.Second,
		Settle: 4 * time.Second, Settled: true, SettleAllowed: 10 * time.Second, SettledInTime: 1, MeanLimit: 10,
		Changes: 2, ChangesBy: [NumChanges]int{1, 0, 1}, RecoveredInTime: 1, RecoveredBy: [NumChanges]int{0, 0, 1},
	}
	b := Summary{
		Offered: 10, OK: 10, Sent: 11, Rejected429: 1, Goodput: 1, GoodputRate: 6, P99: 4 * time.Second,
		Settle: 8 * time.Second, Settled: true, SettleAllowed: 30 * time.Second, SettledInTime: 1, MeanLimit: math.Inf(1),
		Changes: 1, ChangesBy: [NumChanges]int{1, 0, 0}, RecoveredInTime: 1, RecoveredBy: [NumChanges]int{1, 0, 0},
	}
	m := Merge([]Summary{a, b})
	if m.Seeds != 2 || m.Offered != 20 || m.OK != 18 || m.Sent != 23 || m.Rejected429 != 4 {
		t.Errorf("Merge: counts %+v", m)
	}
	if !near(m.RejectedPerOK, 4.0/18) || !near(m.Goodput, 0.9) || m.GoodputLow != 0.8 || m.GoodputHigh != 1 || m.GoodputRate != 5 {
		t.Errorf("Merge: ratios %+v", m)
	}
	if m.P99 != 3*time.Second || !m.Settled || m.Settle != 6*time.Second || m.MeanLimit != 10 {
		t.Errorf("Merge: P99 %v, settle %v %v, limit %v", m.P99, m.Settled, m.Settle, m.MeanLimit)
	}
	if m.SettledInTime != 2 || m.SettleAllowed != 30*time.Second || m.Changes != 3 || m.RecoveredInTime != 2 || m.ChangesBy != [NumChanges]int{2, 0, 1} || m.RecoveredBy != [NumChanges]int{1, 0, 1} {
		t.Errorf("Merge: in time %+v", m)
	}
	b.Settled, b.P99 = false, -1
	if m := Merge([]Summary{a, b}); m.Settled || m.P99 != 2*time.Second {
		t.Errorf("Merge with one that never settled: settled %v, P99 %v", m.Settled, m.P99)
	}
	a.NoLevel, b.NoLevel = true, true
	if m := Merge([]Summary{a, b}); m.Settled || !m.NoLevel {
		t.Errorf("Merge without a level: settled %v, no level %v", m.Settled, m.NoLevel)
	}
	if m := Merge(nil); m != (Summary{}) {
		t.Errorf("Merge(nil) = %+v", m)
	}
}

func TestRejectedPerOK(t *testing.T) {
	if got := RejectedPerOK(0, 0); got != 0 {
		t.Errorf("RejectedPerOK(0, 0) = %v", got)
	}
	if got := RejectedPerOK(3, 0); !math.IsInf(got, 1) {
		t.Errorf("RejectedPerOK(3, 0) = %v", got)
	}
	if got := RejectedPerOK(3, 4); got != 0.75 {
		t.Errorf("RejectedPerOK(3, 4) = %v", got)
	}
}

func TestDownsampleKeepsWhatMatters(t *testing.T) {
	ys := make([]float64, 1000)
	ys[137], ys[500] = 50, -30
	chosen := downsample(ys, 50)
	if !slices.Contains(chosen, 137) || !slices.Contains(chosen, 500) {
		t.Errorf("downsample lost a spike: %v", chosen)
	}
	for i := 300; i < 360; i++ {
		ys[i] = math.NaN()
	}
	gap := 0
	for _, i := range downsample(ys, 50) {
		if math.IsNaN(ys[i]) {
			gap++
		}
	}
	if gap == 0 {
		t.Error("downsample drew a line across a gap")
	}
}

func TestDownsample(t *testing.T) {
	value := rapid.OneOf(rapid.Float64Range(-1e3, 1e3), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1)}))
	rapid.Check(t, func(t *rapid.T) {
		ys := rapid.SliceOfN(value, 0, 300).Draw(t, "ys")
		n := rapid.IntRange(3, 100).Draw(t, "n")
		chosen := downsample(ys, n)
		if want := min(n, len(ys)); len(chosen) != want {
			t.Fatalf("%d of %d elements, want %d", len(chosen), len(ys), want)
		}
		if !slices.IsSorted(chosen) || len(slices.Compact(slices.Clone(chosen))) != len(chosen) {
			t.Fatalf("not ascending: %v", chosen)
		}
		if len(ys) > 0 && (chosen[0] != 0 || chosen[len(chosen)-1] != len(ys)-1) {
			t.Fatalf("first and last are not kept: %v of %d", chosen, len(ys))
		}
	})
}

func levels(pairs ...float64) []float64 {
	var out []float64
	for i := 0; i < len(pairs); i += 2 {
		for range int(pairs[i+1]) {
			out = append(out, pairs[i])
		}
	}
	return out
}
