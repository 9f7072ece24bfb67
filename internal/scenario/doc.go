// Package scenario reads scenario files, runs them with several controllers, and scores the runs.
//
// A scenario file is TOML: a sentence of intent, an upstream, a workload, and what is expected.
// [Parse] reads it strictly and reports everything that is wrong with it at once. [Run] lets each controller meet each scenario
// with each seed, on several cores, and returns a report whose bytes do not depend on how many.
package scenario
