package main

import (
	"fmt"
	"math"
)

// A target is a number that the library means to reach, as a ratio to something measured in the same
// run wherever it can be one.
type target struct {
	Name    string  `json:"name"`
	Most    float64 `json:"most,omitempty"`  // the largest good value; 0 with Least set when larger is better
	Least   float64 `json:"least,omitempty"` // the smallest good value
	Unit    string  `json:"unit,omitempty"`
	Got     spread  `json:"measured"`
	Why     string  `json:"why,omitempty"` // why there is nothing measured
	Reached string  `json:"reached"`       // yes, no, or not measured
}

// What a target may have become.
const (
	reached     = "yes"
	missed      = "no"
	notMeasured = "not measured"
)

// atMost returns the target that got is at most most, atLeast that it is at least least.
func atMost(name string, most float64, unit string, got spread) target {
	t := target{Name: name, Most: most, Unit: unit, Got: got}
	return t.judge(got.Median <= most)
}

func atLeast(name string, least float64, unit string, got spread) target {
	t := target{Name: name, Least: least, Unit: unit, Got: got}
	return t.judge(got.Median >= least)
}

// absent returns the target t when the library does not offer what it is about.
func absent(t target, why string) target {
	t.Got, t.Why, t.Reached = missing, why, missed
	return t
}

func (t target) judge(good bool) target {
	switch {
	case math.IsNaN(t.Got.Median):
		t.Reached = notMeasured
	case good:
		t.Reached = reached
	default:
		t.Reached = missed
	}
	return t
}

func (t target) wanted() string {
	unit := t.Unit
	if unit != "" {
		unit = " " + unit
	}
	switch {
	case t.Least != 0:
		return fmt.Sprintf(">= %s%s", figure(t.Least), unit)
	case t.Most == 0:
		return "0" + unit
	}
	return fmt.Sprintf("<= %s%s", figure(t.Most), unit)
}

func (t target) measured() string {
	if t.Why != "" {
		return t.Why
	}
	return quartiles(t.Got).String()
}
