package scenario

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
)

// outcome runs a trial beside its oracle.
func outcome(t *testing.T, trial *Trial) *Outcome {
	t.Helper()
	bound, err := trial.Bound(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	o, err := trial.Run(context.Background(), bound)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// outcomeOf runs a built-in scenario with a controller.
func outcomeOf(t *testing.T, name, controller string) *Outcome {
	t.Helper()
	c, err := ParseController(controller)
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Defaults
	for _, s := range Builtin() {
		if s.Name != name {
			continue
		}
		return outcome(t, &Trial{Scenario: s, Controller: c, Settings: &settings, Seed: 1})
	}
	t.Fatalf("no scenario is called %s", name)
	return nil
}

// A limit of ten at a cap that is 40, then 10, then 40: it has what can be had in the middle only. One that is told a quota has it always, also after
// an outage. Who sends everything has what he asks for.
func TestSettlingOfReferences(t *testing.T) {
	for _, test := range []struct {
		scenario, controller string
		settled              bool
		changes, recovered   [report.NumChanges]int
	}{
		{"capacity-step", "fixed-10", false, [3]int{1, 1, 0}, [3]int{1, 0, 0}},
		{"capacity-step", "fixed-40", true, [3]int{1, 1, 0}, [3]int{1, 1, 0}},
		{"outage-30s", "fixed-24", true, [3]int{0, 0, 1}, [3]int{0, 0, 1}},
		{"outage-30s", "fixed-8", false, [3]int{0, 0, 1}, [3]int{}},
		{"rate-blind", "token-bucket", true, [3]int{}, [3]int{}},
		{"fixed-window", "token-bucket", true, [3]int{}, [3]int{}},
	} {
		s := outcomeOf(t, test.scenario, test.controller).Summary
		if s.NoLevel || s.Settled != test.settled || (s.SettledInTime == 1) != test.settled || s.SettleAllowed < 10*time.Second {
			t.Errorf("%s, %s: settled %v, in time %d, in %v of %v", test.scenario, test.controller, s.Settled, s.SettledInTime, s.Settle, s.SettleAllowed)
		}
		all, in := 0, 0
		for i := range test.changes {
			all, in = all+test.changes[i], in+test.recovered[i]
		}
		if s.ChangesBy != test.changes || s.RecoveredBy != test.recovered || s.Changes != all || s.RecoveredInTime != in {
			t.Errorf("%s, %s: recovered from %v of %v in time, want %v of %v", test.scenario, test.controller, s.RecoveredBy, s.ChangesBy, test.recovered, test.changes)
		}
		if none := all == 0; none != math.IsNaN(s.Recover) || in < all != math.IsInf(s.Recover, 1) {
			t.Errorf("%s, %s: recovered after %v s", test.scenario, test.controller, s.Recover)
		}
	}
}
