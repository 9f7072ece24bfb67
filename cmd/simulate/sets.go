package main

import (
	"slices"

	"github.com/flyball-go/flyball/internal/scenario"
)

// Sets of built-in scenarios.
const (
	setTuning  = string(scenario.Tuning)
	setHeldOut = string(scenario.HeldOut)
)

// setOf returns the set of a scenario.
func setOf(s *scenario.Scenario) string { return string(s.Set) }

// isShown reports whether a scenario is one of those that a run without arguments shows.
func isShown(s *scenario.Scenario) bool { return s.Telling }

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
