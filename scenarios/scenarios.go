// Package scenarios holds the built-in scenarios of the simulator: one TOML file each, with a sentence of intent,
// its parameters, and what is expected of the controllers.
package scenarios

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.toml
var files embed.FS

// order is the order in which they are shown: from one limit to several, then what changes, then other workloads.
var order = []string{
	"server-queue", "concurrency-cap", "cap-retry-after", "rpm-bucket", "rpm-bucket-blind", "charged-quota", "fixed-window",
	"capacity-step", "outage-30s", "black-hole", "closed-loop", "backlog-batch",
}

// Names returns the names of all built-in scenarios in the order in which they are shown.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic("scenarios: " + err.Error()) // the files are part of the program
	}
	names := slices.Clone(order)
	for _, e := range entries {
		if name := strings.TrimSuffix(e.Name(), ".toml"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Read returns the text of the built-in scenario called name; ok is false when there is none.
func Read(name string) (text []byte, ok bool) {
	text, err := files.ReadFile(name + ".toml")
	return text, err == nil
}
