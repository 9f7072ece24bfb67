package adaptive

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestConfigDefaults(t *testing.T) {
	for _, test := range []struct{ in, want Config }{
		{Config{}, Config{Initial: 4, Min: 1, Max: 4096, Backoff: 0.9, Epoch: 8, RefusalBudget: 0.01, Objective: Throughput}},
		{Config{Max: 2}, Config{Initial: 2, Min: 1, Max: 2, Backoff: 0.9, Epoch: 8, RefusalBudget: 0.01, Objective: Throughput}},
		{Config{Min: 9}, Config{Initial: 9, Min: 9, Max: 4096, Backoff: 0.9, Epoch: 8, RefusalBudget: 0.01, Objective: Throughput}},
		{Config{5, 2, 50, 0.5, 1, 0.1, Knee, 2}, Config{5, 2, 50, 0.5, 1, 0.1, Knee, 2}},
		{Config{Objective: Latency}, Config{Initial: 4, Min: 1, Max: 4096, Backoff: 0.9, Epoch: 8, RefusalBudget: 0.01, Objective: Latency, LatencyFactor: 2}},
	} {
		if got := test.in.Defaults(); got != test.want {
			t.Errorf("%+v.Defaults() = %+v, want %+v", test.in, got, test.want)
		}
		if errs := test.in.Check(); len(errs) > 0 {
			t.Errorf("%+v.Check() = %v, want none", test.in, errs)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	for _, test := range []struct {
		in   Config
		want string // the fields, in order
	}{
		{Config{Initial: 5000}, "Initial"},
		{Config{Initial: 1, Min: 2}, "Initial"},
		{Config{Min: 5, Max: 4}, "Min"},
		{Config{Max: MaxLimit + 1}, "Max"},
		{Config{Backoff: 1}, "Backoff"},
		{Config{Backoff: math.NaN()}, "Backoff"},
		{Config{Epoch: -1}, "Epoch"},
		{Config{RefusalBudget: 0.6}, "RefusalBudget"},
		{Config{RefusalBudget: math.NaN()}, "RefusalBudget"},
		{Config{LatencyFactor: -1}, "LatencyFactor"},
		{Config{LatencyFactor: math.Inf(1)}, "LatencyFactor"},
		{Config{Backoff: 0.05, Epoch: 10_001, Min: -1}, "Min Backoff Epoch"},
	} {
		var got []string
		for _, err := range test.in.Check() {
			var f *FieldError
			if !errors.As(err, &f) {
				t.Fatalf("%+v.Check(): %v is no *FieldError", test.in, err)
			}
			if !strings.Contains(err.Error(), f.Field) || !strings.Contains(err.Error(), f.Allowed) {
				t.Errorf("%q does not name %s and %s", err, f.Field, f.Allowed)
			}
			got = append(got, f.Field)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%+v.Check() names %q, want %q", test.in, s, test.want)
		}
		// New takes it all the same.
		if d := New(test.in).Decision(); d.Limit < 1 || d.Limit > MaxLimit {
			t.Errorf("New(%+v): limit %d", test.in, d.Limit)
		}
	}
}
