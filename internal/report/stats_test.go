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

func TestPercentile(t *testing.T) {
	for _, test := range []struct {
		sorted []int
		p      float64
		want   int
	}{
		{[]int{7}, 0, 7},
		{[]int{7}, 100, 7},
		{[]int{15, 20, 35, 40, 50}, 5, 15},
		{[]int{15, 20, 35, 40, 50}, 30, 20},
		{[]int{15, 20, 35, 40, 50}, 40, 20},
		{[]int{15, 20, 35, 40, 50}, 50, 35},
		{[]int{15, 20, 35, 40, 50}, 100, 50},
	} {
		if got, ok := Percentile(test.sorted, test.p); !ok || got != test.want {
			t.Errorf("Percentile(%v, %v) = %v, %v, want %v", test.sorted, test.p, got, ok, test.want)
		}
	}
	if got, ok := Percentile([]int{}, 50); ok || got != 0 {
		t.Errorf("Percentile of nothing = %v, %v, want 0, false", got, ok)
	}
	thousand := make([]int, 1000)
	for i := range thousand {
		thousand[i] = i + 1
	}
	if got, _ := Percentile(thousand, 99.9); got != 999 {
		t.Errorf("Percentile(1…1000, 99.9) = %v, want 999", got)
	}
	for _, p := range []float64{-1, 100.1, math.NaN()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Percentile(_, %v) did not panic", p)
				}
			}()
			Percentile(thousand, p)
		}()
	}
}

// The definition, element by element: the smallest with p percent at or below.
func TestPercentileEqualsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 50).Draw(t, "xs")
		p := rapid.IntRange(0, 100).Draw(t, "p")
		slices.Sort(xs)
		want := xs[len(xs)-1]
		for _, x := range xs {
			below := 0
			for _, y := range xs {
				if y <= x {
					below++
				}
			}
			if below*100 >= p*len(xs) {
				want = x
				break
			}
		}
		if got, _ := Percentile(xs, float64(p)); got != want {
			t.Fatalf("Percentile(%v, %d) = %d, want %d", xs, p, got, want)
		}
	})
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

func TestMean(t *testing.T) {
	for _, test := range []struct {
		xs   []float64
		want float64
	}{
		{nil, math.NaN()},
		{[]float64{math.NaN(), math.Inf(1)}, math.NaN()},
		{[]float64{1, 2, 6}, 3},
		{[]float64{1, math.NaN(), 3}, 2},
	} {
		if got := Mean(test.xs); !near(got, test.want) {
			t.Errorf("Mean(%v) = %v, want %v", test.xs, got, test.want)
		}
	}
}

func TestJain(t *testing.T) {
	for _, test := range []struct {
		xs   []float64
		want float64
	}{
		{nil, 1},
		{[]float64{0, 0}, 1},
		{[]float64{3}, 1},
		{[]float64{5, 5, 5, 5}, 1},
		{[]float64{1, 0, 0, 0}, 0.25},
		{[]float64{1, 1, 0, 0}, 0.5},
		{[]float64{1, 2, 3}, 36.0 / 42},
		{[]float64{1e200, 1e200}, 1},
		{[]float64{1e-200, 0}, 0.5},
	} {
		if got := Jain(test.xs); !near(got, test.want) {
			t.Errorf("Jain(%v) = %v, want %v", test.xs, got, test.want)
		}
	}
}

func TestJainBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs := rapid.SliceOfN(rapid.Float64Range(0, 1e6), 1, 20).Draw(t, "xs")
		got, least := Jain(xs), 1/float64(len(xs))
		if got < least-1e-12 || got > 1+1e-12 {
			t.Fatalf("Jain(%v) = %v, not in [%v, 1]", xs, got, least)
		}
	})
}

func TestTimeWeighted(t *testing.T) {
	var w TimeWeighted
	if got := w.Mean(time.Second); !math.IsNaN(got) {
		t.Errorf("Mean before any Set = %v, want NaN", got)
	}
	w.Set(time.Second, 4)
	if got := w.Mean(time.Second); !math.IsNaN(got) {
		t.Errorf("Mean over no time = %v, want NaN", got)
	}
	w.Set(2*time.Second, 10)
	w.Set(time.Second, 0) // backwards: as if now
	if got, want := w.Mean(5*time.Second), (4.0*1+0*3)/4; !near(got, want) {
		t.Errorf("Mean = %v, want %v", got, want)
	}
}

// Time-weighted means of whole-second steps equal the mean over the seconds.
func TestTimeWeightedEqualsSampling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 1000), 1, 50).Draw(t, "values")
		var w TimeWeighted
		for i, v := range values {
			w.Set(time.Duration(i)*time.Second, v)
		}
		if got, want := w.Mean(time.Duration(len(values))*time.Second), Mean(values); !near(got, want) {
			t.Fatalf("time-weighted mean of %v = %v, want %v", values, got, want)
		}
	})
}

func TestMovingMean(t *testing.T) {
	got := MovingMean(time.Second, []float64{1, 2, 6, math.NaN(), 10}, 3*time.Second)
	for i, want := range []float64{1, 1.5, 3, 4, 8} {
		if !near(got[i], want) {
			t.Errorf("MovingMean[%d] = %v, want %v", i, got[i], want)
		}
	}
}

// levels builds a series: n steps of v each.
func levels(pairs ...float64) []float64 {
	var out []float64
	for i := 0; i < len(pairs); i += 2 {
		for range int(pairs[i+1]) {
			out = append(out, pairs[i])
		}
	}
	return out
}

func TestSettleTime(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		name      string
		got, want []float64
		settle    time.Duration
		ok, level bool
	}{
		{"at once", levels(10, 30), levels(10, 30), 0, true, true},
		{"after 5 s, on the edge of the band", levels(1, 5, 9, 10, 11, 15), levels(10, 30), 5 * time.Second, true, true},
		{"just outside the band", levels(11.01, 30), levels(10, 30), 0, false, true},
		{"9 s are not enough", levels(1, 5, 10, 9, 1, 16), levels(10, 30), 0, false, true},
		{"10 s are, whatever comes later", levels(1, 5, 10, 10, 1, 15), levels(10, 30), 5 * time.Second, true, true},
		{"a break starts anew", levels(10, 9, 1, 1, 10, 20), levels(10, 30), 10 * time.Second, true, true},
		{"the longest phase counts", levels(10, 20, 10, 7, 20, 13), levels(10, 20, 20, 20), 7 * time.Second, true, true},
		{"each phase must settle", levels(10, 40), levels(10, 20, 20, 20), 0, false, true},
		{"an outage has no level", levels(10, 20, 3, 10, 10, 20), levels(10, 20, 0, 10, 10, 20), 0, true, true},
		{"a short phase has no level", levels(10, 45), levels(10, 20, 50, 5, 10, 20), 0, true, true},
		{"a small change is no phase", levels(10, 40), levels(10, 20, 10.9, 20), 0, true, true},
		{"no level at all", levels(10, 30), levels(nan, 15, 0, 15), 0, false, false},
		{"too short a run", levels(10, 9), levels(10, 9), 0, false, false},
		{"nothing", nil, nil, 0, false, false},
		{"no limit", levels(math.Inf(1), 30), levels(10, 30), 0, false, true},
		{"undefined", levels(nan, 30), levels(10, 30), 0, false, true},
	} {
		settle, ok, level := SettleTime(time.Second, test.got, test.want)
		if settle != test.settle || ok != test.ok || level != test.level {
			t.Errorf("%s: SettleTime = %v, %v, %v, want %v, %v, %v", test.name, settle, ok, level, test.settle, test.ok, test.level)
		}
	}
	if _, ok, level := SettleTime(0, levels(10, 30), levels(10, 30)); ok || level {
		t.Errorf("SettleTime with step 0 = %v, %v, want false, false", ok, level)
	}
}

// At one level SettleTime equals trying every start.
func TestSettleTimeEqualsTryingEveryStart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		got := rapid.SliceOfN(rapid.SampledFrom([]float64{8, 9, 10, 10, 10, 10, 10, 11, 12}), 10, 60).Draw(t, "got")
		want := levels(10, float64(len(got)))
		settle, ok, _ := SettleTime(time.Second, got, want)
		for start := 0; start+10 <= len(got); start++ {
			inside := true
			for _, v := range got[start : start+10] {
				inside = inside && v >= 9 && v <= 11
			}
			if inside {
				if !ok || settle != time.Duration(start)*time.Second {
					t.Fatalf("SettleTime(%v) = %v, %v, want %d s", got, settle, ok, start)
				}
				return
			}
		}
		if ok {
			t.Fatalf("SettleTime(%v) = %v, want never", got, settle)
		}
	})
}

func TestMerge(t *testing.T) {
	a := Summary{
		Offered: 10, OK: 8, Failed: 1, Refused: 1, Sent: 12, Rejected429: 3, Goodput: 0.8, GoodputRate: 4, P99: 2 * time.Second,
		Settle: 4 * time.Second, Settled: true, MeanLimit: 10,
	}
	b := Summary{
		Offered: 10, OK: 10, Sent: 11, Rejected429: 1, Goodput: 1, GoodputRate: 6, P99: 4 * time.Second,
		Settle: 8 * time.Second, Settled: true, MeanLimit: math.Inf(1),
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
