// Package admission decides who may start, and when.
//
// [Core] is the state of one guard: how many calls are in flight, who waits, the gate that a
// Retry-After closes, the pace, what the calls looked like, and the law that is told of it.
// It is told the time, and holds no lock, goroutine, timer or logger. Package limiter drives it with
// goroutines and a wall clock, package internal/sim with virtual time: the same code decides in both.
//
// # Who may call what
//
// Try, Finish and what else says so are lock-free and may run at any time. All other methods, Settle after a Finish that left
// something to do among them, need the caller's lock (limiter) or a single thread (sim).
package admission
