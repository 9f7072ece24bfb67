package failsafesim

import (
	"math"
	"testing"
	"testing/synctest"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/limiter"
)

// worlds are built-in scenarios whose requests arrive at random.
var worlds = []string{"concurrency-cap", "cap-retry-after", "rpm-bucket", "charged-quota", "fixed-window", "capacity-step", "outage-30s", "server-queue"}

func find(t *testing.T, name string) *scenario.Scenario {
	for _, s := range scenario.Builtin() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no scenario %s", name)
	return nil
}

// failsafe-go's adaptive limiter in the simulator's worlds. The rows of none and fixed-20, which both ways of running a world have, are within a few
// per cent of each other, so the rows of failsafe-go are comparable with the simulator's.
func TestFailsafe(t *testing.T) {
	set := config.Default().Defaults
	t.Log(Head)
	for _, name := range worlds {
		sc := find(t, name)
		for _, ctl := range []string{"none", "fixed-20", "failsafe-go"} {
			trial := scenario.Trial{Scenario: sc, Settings: &set, Seed: 1}
			trial.Controller, _ = scenario.ParseController("none")
			if ctl == "fixed-20" {
				trial.Controller, _ = scenario.ParseController(ctl)
			}
			bound, err := trial.Bound(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fixed, _ := scenario.ParseController("fixed-20")
			guarded := trial
			guarded.Controller = fixed
			maxWait := guarded.World().Guard.MaxWait
			var got report.Summary
			synctest.Test(t, func(t *testing.T) {
				w := trial.World()
				gate := Open()
				switch ctl {
				case "failsafe-go":
					gate = Failsafe(maxWait)
				case "fixed-20":
					g := guard(t, w.Guard)
					defer g.Close()
					gate = Guarded(g)
				}
				if got, err = Run(t.Context(), w, bound, gate); err != nil {
					t.Fatal(err)
				}
			})
			t.Log(Row(name, ctl, &got))
			if got.Offered != got.OK+got.Failed+got.Refused+got.Unfinished {
				t.Errorf("%s, %s: %+v does not add up", name, ctl, got)
			}
			if ctl == "failsafe-go" {
				continue
			}
			o, err := trial.Run(t.Context(), bound)
			if err != nil {
				t.Fatal(err)
			}
			want := o.Summary
			if got.Offered != want.Offered || math.Abs(got.Goodput-want.Goodput) > 0.02 || math.Abs(got.RejectedPerOK-want.RejectedPerOK) > 0.02+0.05*want.RejectedPerOK ||
				math.Abs(got.P99.Seconds()-want.P99.Seconds()) > 0.1*want.P99.Seconds() {
				t.Errorf("%s, %s: the simulator says\n%s\n%s", name, ctl, Row(name, ctl, &want), Row(name, ctl, &got))
			}
		}
	}
}

// guard is a guard of package limiter with the parameters of a simulated one.
func guard(t *testing.T, g *sim.Guard) *limiter.Guard {
	jitter := g.PauseJitter
	if jitter == 0 {
		jitter = -1
	}
	l, err := limiter.New(limiter.Config{
		Law: g.NewLaw(0), Queue: g.Queue, MaxWait: g.MaxWait, MaxPause: g.MaxPause, PauseJitter: jitter, IgnoreRetryAfter: g.IgnoreRetryAfter, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What the study of the library found shows in these worlds: a quick refusal is recorded as a quick success, so the limiter grows
// where it is refused.
func TestFailsafeTakesRefusalsForSuccesses(t *testing.T) {
	set := config.Default().Defaults
	sc := find(t, "concurrency-cap")
	trial := scenario.Trial{Scenario: sc, Settings: &set, Seed: 1}
	trial.Controller, _ = scenario.ParseController("fixed-20")
	bound, err := trial.Bound(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := trial.World()
		w.Workload.Rate *= 3 // so that there is always somebody waiting
		gate := Failsafe(w.Guard.MaxWait).(*failsafe)
		got, err := Run(t.Context(), w, bound, gate)
		if err != nil {
			t.Fatal(err)
		}
		if limit := gate.limiter.Limit(); limit <= 24 || got.RejectedPerOK < 0.3 {
			t.Errorf("with 24 in flight the limit is %d, %.2f 429s per success", limit, got.RejectedPerOK)
		}
	})
}
