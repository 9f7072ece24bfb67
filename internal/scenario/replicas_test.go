package scenario

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/config"
)

// Guards that know nothing of each other share a quota that says when there is room again. They come at once, or one after the other, and always ask for more than there is. What is held is a mean
// of worlds and six seeds, as two differ by 0.003: each guard learns of the others by some twenty refusals. (Without shared paces: 0.918, 0.033.)
func TestReplicasShareQuotas(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("some dozens of runs")
	}
	t.Parallel()
	ours, err := ParseController("ours")
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Defaults
	var runs, jain, rejected, goodput float64
	lowest, where := 1.0, ""
	for _, guards := range []int{2, 4, 7} {
		for _, share := range []float64{2, 5} { // calls a second and guard
			for _, service := range []string{"500ms", "3s"} {
				for _, apart := range []int{0, 200} {
					rate := share * float64(guards)
					var replicas strings.Builder
					for i := range guards {
						fmt.Fprintf(&replicas, "[[replica]]\njoin = \"%ds\"\n", i*apart/guards)
					}
					name := fmt.Sprintf("%d-%v-%s-%d", guards, share, service, apart)
					s, err := Parse(name, fmt.Appendf(nil, `name = %q
intent = "Guards share a quota."
duration = "10m"
[workload]
kind = "poisson"
rate = %v
patience = "40s"
[guard]
max_wait = "25s"
%s[upstream.network]
rtt = "40ms"
refusal = { dist = "exponential", mean = "30ms" }
[[upstream.quota]]
requests_per_minute = %v
burst = %v
retry_after = "exact"
[upstream.server]
service = { dist = "lognormal", mean = %q, sigma = 0.6 }
`, name, 1.5*rate, replicas.String(), 60*rate, 2*rate, service))
					if err != nil {
						t.Fatal(err)
					}
					for seed := range uint64(6) {
						trial := &Trial{Scenario: s, Settings: &settings, Controller: ours, Seed: 1 + seed}
						m := &outcome(t, trial).Summary
						runs++
						jain, rejected, goodput = jain+m.Fairness, rejected+float64(m.Rejected429)/float64(m.OK), goodput+m.Goodput
						if m.Fairness < lowest {
							lowest, where = m.Fairness, fmt.Sprintf("%s, seed %d", name, trial.Seed)
						}
					}
				}
			}
		}
	}
	jain, rejected, goodput = jain/runs, rejected/runs, goodput/runs
	t.Logf("Jain's index %.4f, at least %.3f (%s); refused for each success %.4f; goodput %.4f", jain, lowest, where, rejected, goodput)
	if jain < 0.955 || rejected > 0.03 || goodput < 0.99 {
		t.Errorf("Jain's index %.3f, want 0.955 and more; %.3f refused for each success, want at most 0.03; goodput %.3f, want 0.99 and more", jain, rejected, goodput)
	}
}
