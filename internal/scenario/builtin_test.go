package scenario_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
)

// measured returns the controllers that scenarios expect something of.
func measured() []scenario.Controller {
	cs, err := scenario.ParseControllers("none,fixed-20,gcl-aimd,ours")
	if err != nil {
		panic(err)
	}
	return cs
}

// plan is what the expectations of the built-in scenarios were measured with.
func plan() lab.Plan {
	return lab.Plan{Scenarios: scenario.Builtin(), Subjects: lab.Subjects(measured(), &config.Default().Defaults), Seeds: lab.Seeds{First: 1, N: 3}}
}

// Every controller does in every built-in scenario what the file expects of it, within its ranges.
func TestBuiltin(t *testing.T) {
	p := plan()
	if scenario.RaceDetector {
		p.Seeds.N, p.Scenarios = 1, p.Scenarios[:4]
	}
	start := time.Now()
	l := &lab.Lab{CPUs: 2}
	r, err := l.Table(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d runs, %d events in %v", l.Trials, l.Events, time.Since(start))
	if testing.Verbose() {
		report.WriteText(os.Stdout, r, report.TextOptions{Width: 140})
	}
	if scenario.RaceDetector {
		return // fewer seeds give other numbers
	}
	if *scenario.Update {
		scenario.Rewrite(t, r)
		return
	}
	for _, m := range scenario.Check(p.Scenarios, r) {
		t.Error(m)
	}
	for _, s := range p.Scenarios {
		if len(s.Expect) == 0 {
			t.Errorf("scenario %s expects nothing of anybody", s.Name)
		}
	}
}
