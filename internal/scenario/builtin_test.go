package scenario

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
)

// measured returns the controllers that scenarios expect something of.
func measured() []Controller {
	cs, err := ParseControllers("none,fixed-20,gcl-aimd,ours")
	if err != nil {
		panic(err)
	}
	return cs
}

// plan is what the expectations of the built-in scenarios were measured with.
func plan() Plan {
	return Plan{Scenarios: Builtin(), Controllers: measured(), Settings: config.Default().Defaults, Seed: 1, Seeds: 3, CPUs: 2}
}

// Every controller does in every built-in scenario what the file expects of it, within its ranges.
func TestBuiltin(t *testing.T) {
	p := plan()
	if raceDetector {
		p.Seeds, p.Scenarios = 1, p.Scenarios[:4]
	}
	start := time.Now()
	r, stats, err := Run(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d runs, %d events in %v", stats.Runs, stats.Events, time.Since(start))
	if testing.Verbose() {
		report.WriteText(os.Stdout, r, report.TextOptions{Width: 140})
	}
	if raceDetector {
		return // fewer seeds give other numbers
	}
	if *update {
		rewrite(t, r)
		return
	}
	for _, m := range Check(p.Scenarios, r) {
		t.Error(m)
	}
	for _, s := range p.Scenarios {
		if len(s.Expect) == 0 {
			t.Errorf("scenario %s expects nothing of anybody", s.Name)
		}
	}
}
