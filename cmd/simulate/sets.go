package main

import (
	"slices"

	"github.com/flyball-go/flyball/internal/scenario"
)

// Sets of built-in scenarios.
const (
	setTuning  = "tuning"   // a controller may be tuned on them
	setHeldOut = "held-out" // nobody tunes on them
)

// heldOut and shown stand here until scenario files say it themselves.
var (
	heldOut = []string{"cap-retry-after", "charged-quota", "capacity-step", "black-hole", "closed-loop"}
	shown   = []string{"server-queue", "concurrency-cap", "rpm-bucket", "fixed-window", "capacity-step", "outage-30s"}
)

// setOf returns the set of a scenario.
func setOf(s *scenario.Scenario) string {
	if slices.Contains(heldOut, s.Name) {
		return setHeldOut
	}
	return setTuning
}

// isShown reports whether a scenario is one of those that a run without arguments shows.
func isShown(s *scenario.Scenario) bool { return slices.Contains(shown, s.Name) }

// sets returns the names of all sets.
func sets() []string {
	var names []string
	for _, s := range scenario.Builtin() {
		if n := setOf(s); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}
