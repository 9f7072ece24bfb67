package scenario

import (
	"fmt"
	"testing"

	"github.com/flyball-go/flyball/config"
)

// Callers give up before the guard refuses them (a guard waits for a minute unless told otherwise, and callers of web services have 10 to 30 s), and there are more of them than the upstream can serve. First in,
// first out, a guard would let in only those whose patience is about to end, and the upstream would work for nobody: 0.05 to 0.3 of what it can do, for ever in the last of these worlds, where it has become ten times as large.
func TestPatienceEndsInTheQueue(t *testing.T) {
	if testing.Short() {
		t.Skip("some dozens of runs")
	}
	t.Parallel()
	ours, err := ParseController("ours")
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Defaults
	for _, w := range []struct {
		name, work, server string
		least              float64
	}{
		{"exponential", "", `servers = 10
service = { dist = "exponential", mean = "500ms" }`, 0.90},
		{"constant", "", `servers = 10
service = { mean = "500ms" }`, 0.98},
		{"sharing", "", `kind = "sharing"
servers = 10
service = { dist = "exponential", mean = "500ms" }`, 0.80},
		{"batch that grows", "input = { mean = 100.0 }\noutput = { mean = 50.0 }\n", `kind = "batch"
max_seqs = 8
[[change]]
at = "60s"
set = "upstream.server.max_seqs"
to = 128`, 0.90},
	} {
		s, err := Parse(w.name, fmt.Appendf(nil, `name = "patience"
intent = "More ask than can be served, and their patience ends in the guard."
duration = "4m"
[workload]
kind = "poisson"
rate = 40.0
patience = "20s"
%s[upstream.network]
rtt = "2ms"
[upstream.server]
%s
`, w.work, w.server))
		if err != nil {
			t.Fatal(err)
		}
		const seeds = 4
		goodput := 0.0
		for seed := range uint64(seeds) {
			goodput += outcome(t, &Trial{Scenario: s, Settings: &settings, Controller: ours, Seed: 1 + seed}).Summary.Goodput / seeds
		}
		t.Logf("%s: goodput %.3f", w.name, goodput)
		if goodput < w.least {
			t.Errorf("%s: goodput %.3f, want at least %.2f", w.name, goodput, w.least)
		}
	}
}
