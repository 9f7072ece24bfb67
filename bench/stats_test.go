package main

import (
	"math"
	"testing"
)

var nan = math.NaN()

func TestQuantile(t *testing.T) {
	for _, tt := range []struct {
		xs      []float64
		q, want float64
	}{
		{[]float64{7}, 0.5, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
		{[]float64{1, 2, 3, 4}, 0.5, 2.5},
		{[]float64{1, 2, 3, 4, 5}, 0.25, 2},
		{[]float64{1, 2}, 1, 2},
		{[]float64{1, 2}, 0, 1},
		{nil, 0.5, nan},
	} {
		if got := quantile(tt.xs, tt.q); got != tt.want && !(math.IsNaN(got) && math.IsNaN(tt.want)) {
			t.Errorf("quantile(%v, %v) = %v, want %v", tt.xs, tt.q, got, tt.want)
		}
	}
}

// A machine that is twice as slow in one round changes no ratio, and a chunk that did not hold is left out.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	r := rounds{{10, 30}, {20, 60}, {nan, 5}, {10, nan}, {10, 40}, {1000, 2000}}
	if got, want := r.ratio(1, 0), (spread{3, 2.75, 3.25}); got != want {
		t.Errorf("ratio = %+v, want %+v", got, want)
	}
	if got := r.added(1, 0).Median; got != 35 {
		t.Errorf("added = %v, want 35", got)
	}
	if got := r.of(0).Median; got != 10 {
		t.Errorf("of(0) = %v, want 10", got)
	}
	if got := (rounds{{nan, 1}}).ratio(1, 0); got.known() {
		t.Errorf("ratio to nothing = %+v, want nothing", got)
	}
	if got := r.valid(); got != 10 {
		t.Errorf("valid = %d, want 10", got)
	}
}

func TestSummarizeLeavesItsArgumentAlone(t *testing.T) {
	xs := []float64{3, nan, 1}
	if got := summarize(xs).Median; got != 2 || xs[0] != 3 || xs[2] != 1 {
		t.Errorf("summarize = %v and the argument is %v, want 2 and the argument as it was", got, xs)
	}
}

func TestTargets(t *testing.T) {
	for _, tt := range []struct {
		t                        target
		wanted, measured, become string
	}{
		{atMost("", 1.25, "F", spread{1.25, 1.1, 1.3}), "<= 1.25 F", "1.25 (1.10-1.30)", reached},
		{atMost("", 1.25, "F", exact(1.26)), "<= 1.25 F", "1.26", missed},
		{atMost("", 0, "a call", exact(0)), "0 a call", "0", reached},
		{atMost("", 0, "a call", exact(1)), "0 a call", "1", missed},
		{atMost("", 1, "", missing), "<= 1", "-", notMeasured},
		{atLeast("", 0.95, "x channel", exact(0.951)), ">= 0.95 x channel", "0.95", reached},
		{atLeast("", 0.95, "", exact(0.9)), ">= 0.95", "0.90", missed},
		{absent(atMost("", 4, "A", missing), "not there"), "<= 4 A", "not there", missed},
	} {
		if w, m := tt.t.wanted(), tt.t.measured(); w != tt.wanted || m != tt.measured || tt.t.Reached != tt.become {
			t.Errorf("target says %q, %q, %q; want %q, %q, %q", w, m, tt.t.Reached, tt.wanted, tt.measured, tt.become)
		}
	}
}

func TestCalibrate(t *testing.T) {
	steps := spinSteps(1000)
	n := calibrate(func(n int) {
		for range n {
			sink.Store(spin(steps))
		}
	}, chunk)
	if n < 20 || n > 1000 { // 200 on an idle machine
		t.Errorf("%d calls of 1 µs fill %v", n, chunk)
	}
}

func TestAllocationsAreCounted(t *testing.T) {
	var keep *[64]byte
	got := allocations(func(n int) {
		for range n {
			keep = new([64]byte)
		}
	}, 10_000)
	if keep == nil || got < 0.99 || got > 1.05 {
		t.Errorf("allocations = %v for one object an iteration", got)
	}
}

func TestTimersAreSeen(t *testing.T) {
	if got := timers(100); got != 0 {
		t.Errorf("%v timers a guard", got)
	}
}

func TestUndisturbed(t *testing.T) {
	var all rounds
	for i := range 100 {
		m := round{10, 70, 80} // the contender is disturbed in every other round
		if i%2 == 0 {
			m[2] = 160
		}
		if i%4 == 3 { // and the machine in every fourth
			m = round{10, 90, 200}
		}
		all = append(all, m)
	}
	got := all.undisturbed(0, 1)
	if len(got) != 75 || got.of(1).P75 != 70 {
		t.Errorf("%d rounds with F at %v, want the 75 with 70", len(got), got.of(1))
	}
	if got.of(2).P75 != 160 || got.of(2).P25 != 80 {
		t.Errorf("the contender at %v: its own slow rounds must stay", got.of(2))
	}
	few := rounds{{1}, {2}}
	if len(few.undisturbed(0)) != 2 {
		t.Errorf("of two rounds some were left out")
	}
}
