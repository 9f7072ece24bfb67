// Package classic connects flyball with github.com/platinummonkey/go-concurrency-limits, in both
// directions.
//
// # Theirs in ours
//
// [NewAIMD], [NewVegas] and [NewGradient2] make that library's limits into an
// [adaptive.Law], so that a guard of ours or the simulator can run them. They are there to
// be compared with. The library's code decides, unchanged; the adapter hands it one sample
// for each call, with the instants that it is told, and the library's DefaultLimiter, which
// reads the clock, has no part in it. That one gives the library a sample a second at most,
// of more than 100 successes, with the least of their latencies, and dropped if one call
// was: AIMD and Vegas then cut once where they cut for each call here, and wait for
// 100 successes with each step. Nothing is logged, and no metric is registered.
//
// A call that ended well is a sample with its latency. A call that was throttled, refused
// for overload, or timed out is a sample that was dropped. All other calls are not told:
// the library would ignore them, too. Header fields and stated limits (Hint) are not used.
// The limit never leaves Min to Max of the Config, where they are set, even if the
// library's own estimate does.
//
// What is known to be wrong with them is left as it is:
//
//   - AIMD cuts at each drop, so a burst of n refusals cuts n times; it grows by one for
//     each call that ends well at the limit, which doubles it in a round trip for ever; and
//     it has no upper bound.
//   - Vegas takes a drop for one step down of log10(limit), however many calls were
//     refused, and it ignores a drop that is quicker than any call before: a fast refusal
//     then becomes the latency without load, and every healthy call after it looks like a
//     queue. It learns the latency without load anew from a single call, which may run
//     under load.
//   - Gradient2 ignores drops. A fast refusal is a good sample for it, so it grows when
//     refused, and never below its minimum of 20 by default.
//   - Vegas and Gradient2 take a longer answer for a longer queue.
//
// # Reproducibility
//
// AIMD and Gradient2 use no randomness. The library's Vegas draws from the process's global
// random source how many calls lie between two probes, and since Go 1.24 that source cannot
// be seeded. So the adapter switches the library's probing off and does the same probing
// itself, with numbers from a seeded generator: a run is repeated to the bit by the same
// seed, whatever runs beside it, and it is one of the runs that the library could have
// made. One thing remains outside of the seed: the library reads the environment variable
// GO_CONCURRENCY_LIMIT_LOG10ROOT_PRE_COMPUTE once, and rounds the step of Vegas for limits
// below its value (1000 unless set).
//
// # Ours in theirs
//
// [NewLimit] makes a law of ours into a core.Limit of that library; see [Limit] for what is lost.
package classic
