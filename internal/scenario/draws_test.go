package scenario

import (
	"context"
	"slices"
	"testing"

	"github.com/flyball-go/flyball/config"
)

// A plan that names kinds runs the same draws of these kinds as one that names none.
func TestDrawPlanNumbers(t *testing.T) {
	all := DrawPlan{Seed: 3, First: 5, N: 37}
	some := DrawPlan{Seed: 3, First: 5, N: 37, Kinds: []string{drawWindow, drawBoth}}
	if got := all.Numbers(); len(got) != 37 || got[0] != 5 || got[36] != 41 {
		t.Errorf("without kinds: draws %v, want 5 to 41", got)
	}
	var want []int
	for _, n := range all.Numbers() {
		if slices.Contains(some.Kinds, NewDraw(3, n).Kind) {
			want = append(want, n)
		}
	}
	if got := some.Numbers(); !slices.Equal(got, want) || len(got) < 8 {
		t.Errorf("windows and both: draws %v, want %v", got, want)
	}
}

// A controller does in draws what it does there in every other command, its callers' own retries included.
func TestDrawsAreTrials(t *testing.T) {
	controllers, err := ParseControllers("none,sdk-default,backoff,token-bucket,aws-adaptive,ours")
	if err != nil {
		t.Fatal(err)
	}
	plan := DrawPlan{Seed: 5, N: 3, Controllers: controllers, Settings: config.Default().Defaults, CPUs: 2}
	rs, err := RunDraws(context.Background(), plan)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		d := NewDraw(plan.Seed, r.Draw)
		trial := Trial{Scenario: d.Scenario, Controller: controllers[i%len(controllers)], Settings: &plan.Settings, Seed: plan.Seed*1_000_003 + uint64(r.Draw)}
		bound, err := trial.Bound(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		o, err := trial.Run(context.Background(), bound)
		if err != nil {
			t.Fatal(err)
		}
		if s := &o.Summary; r.Goodput != s.Goodput || r.Rejected != s.RejectedPerOK {
			t.Errorf("draw %d, %s: goodput %v and %v 429s per success, elsewhere %v and %v", r.Draw, r.Controller, r.Goodput, r.Rejected, s.Goodput, s.RejectedPerOK)
		}
	}
}

// Each key has the true quota typed in that is its own.
func TestTokenBucketOfKeys(t *testing.T) {
	s, err := Parse("keys.toml", []byte(`
name = "keys"
intent = "Two keys of unequal size."
duration = "1m"
[workload]
kind = "poisson"
rate = 5.0
[[upstream.key]]
share = 0.5
[[upstream.key]]
share = 2.0
[[upstream.quota]]
requests_per_minute = 120
[upstream.server]
service = { mean = "100ms" }
[[replica]]
count = 2
`))
	if err != nil {
		t.Fatal(err)
	}
	ctl, err := ParseController("token-bucket")
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Defaults
	g := ctl.guard(s, &settings, 1)
	for n, want := range []float64{1, 4, 1, 4} {
		if pace := g.NewLaw(n).Decision().Pace; pace != want {
			t.Errorf("guard %d starts %v a second, want %v", n, pace, want)
		}
	}
}
