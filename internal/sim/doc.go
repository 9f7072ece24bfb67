// Package sim is a world in which a guard can be tried: an upstream with limits, callers with
// patience and retries, and a clock that only moves from one event to the next.
//
// [Run] drives the very code that decides in production, package admission and the laws of package
// adaptive, in virtual time. [Bound] computes what nobody could have exceeded in the same world.
// [Replay] runs a list of calls through a guard and returns its trace, to be compared with a live one.
//
// # One event after the other
//
// Events are ordered by their instant (int64 nanoseconds) and then by the order in which they were
// made, so a run is a function of its [Config] alone: no goroutine, no map order, no clock.
//
// # Draws
//
// Every random number is a hash of the seed, the name of its stream and the number of the
// thing that it belongs to. Two controllers with one seed therefore meet the same arrivals, and
// the k-th call that the server starts takes the same time under both, and
// is counted by a cap for as long after its end, in
// whatever order things happen. The latter is what makes [Bound] exact; see its comment.
package sim
