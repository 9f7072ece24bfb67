// Package scenarios holds the built-in scenarios of the simulator: one TOML file each, with a sentence of intent,
// its parameters, and what is expected of the controllers.
package scenarios

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.toml vector/*.toml
var files embed.FS

// order is the order in which they are shown: from one limit to several, then what changes, then other workloads.
var order = []string{
	"server-queue", "concurrency-cap", "cap-retry-after", "cap-static", "cap-steps", "cap-lag", "rpm-bucket", "rpm-bucket-blind", "rate-blind", "limit-req",
	"charged-quota", "fixed-window", "fixed-window-batch", "sliding-log", "sliding-bursts", "second-bursts", "sliding-tokens", "azure-slices", "tpm-reserve", "tokens-named", "quota-step", "mixed-cap-rpm",
	"openai-headers", "anthropic-input", "gemini-shared", "bad-retry-after", "day-long-delay", "slope", "noise-429", "noise-429-tenth", "noise-many", "noise-503",
	"capacity-step", "outage-30s", "outage-herd", "overload-bursts", "brown-out", "black-hole", "shard-down", "timeouts", "slow-bodies", "cold-start", "connections", "collapse",
	"ps-knee", "ps-poisson", "steep-knee", "two-classes", "two-classes-queue", "llm-cliff", "chat-70b", "class-by-class", "no-limit-heavy-tail", "reasoning-tail",
	"code-bursts", "idle-burst", "one-big-spike", "closed-loop", "backlog-batch", "agent-sessions", "tenants", "urgent-callers",
	"several-keys", "three-replicas", "replicas-cap", "ten-join", "ten-join-quota", "noisy-neighbour",
}

// Names returns the names of all built-in scenarios in the order in which they are shown; those of Vector are last.
func Names() []string {
	names := slices.Clone(order)
	for _, dir := range []string{".", "vector"} {
		entries, err := fs.ReadDir(files, dir)
		if err != nil {
			panic("scenarios: " + err.Error()) // the files are part of the program
		}
		for _, e := range entries {
			if name, ok := strings.CutSuffix(e.Name(), ".toml"); ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Path returns where the file of a scenario is below this folder.
func Path(name string) string {
	if strings.HasPrefix(name, "vector-") {
		return "vector/" + name + ".toml"
	}
	return name + ".toml"
}

// Read returns the text of the built-in scenario called name; ok is false when there is none.
func Read(name string) (text []byte, ok bool) {
	text, err := files.ReadFile(Path(name))
	return text, err == nil
}
