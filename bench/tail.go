package main

import (
	"slices"
	"time"
)

// tailBatch is how many calls are timed one by one for one estimate of the tail: ten of them lie
// beyond p99.9.
const tailBatch = 10_000

// tail measures the slowest of uncontended calls.
//
// Each call is timed by itself, between two readings of the clock. The p99.9 of a batch of
// 10,000, which takes about a millisecond, is taken, and from it the median of a batch
// without calls, which is what reading the clock costs. The median over many batches, interleaved
// among the contenders, is printed: a batch that the operating system interrupted for long is one of many,
// while what a contender does by itself now and then (a flush, a sort, garbage collection) is in
// most of them.
func tail(b *bench) error {
	cs := []contender{{name: "nothing (the clock alone)", pairs: func(int) {}}, atomicPair(), ours(pairLimit)}
	if c, ok := oursSampled(pairLimit); ok {
		cs = append(cs, c)
	}
	cs = append(cs, selectChannel(pairLimit), xSync(pairLimit), failsafeAdaptive(pairLimit), pmDefault(pairLimit))

	base := time.Now()
	took := make([]float64, tailBatch)
	var p50s, p999s rounds
	for until := time.Now().Add(b.budget); len(p50s) < 3 || time.Now().Before(until); {
		p50, p999 := make(round, len(cs)), make(round, len(cs))
		for k := range cs {
			i := (k + len(p50s)) % len(cs)
			f := cs[i].pairs
			for j := range took {
				start := time.Since(base)
				f(1)
				took[j] = float64(time.Since(base) - start)
			}
			slices.Sort(took)
			p50[i], p999[i] = quantile(took, 0.5), quantile(took, 0.999)
		}
		clock := p50[0]
		for i := range cs {
			p50[i] -= clock
			p999[i] -= clock
		}
		p50s, p999s = append(p50s, p50), append(p999s, p999)
	}
	t := b.table("tail", "the slowest of uncontended calls, less the cost of the clock", "p50 ns", "p99.9 ns")
	for i, c := range cs {
		t.add(c.name, plain(p50s.of(i)), quartiles(p999s.of(i)))
	}
	t.note("p99.9 of batches of 10,000 calls timed one by one; median (quartiles) over %d batches. The first line is what the machine adds by itself.", len(p50s))
	b.target(atMost("p99.9 of an uncontended call", 250, "ns", p999s.of(2)))
	return nil
}
