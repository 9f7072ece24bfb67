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
// among the contenders, is printed, of rounds in which the references were not disturbed (rounds.undisturbed): a batch that the operating system interrupted for long is one of many,
// while what a contender does by itself now and then (a flush, a sort, garbage collection) is in
// most of them.
func tail(b *bench) error {
	cs := []contender{{name: "nothing (the clock alone)", pairs: func(int) {}}, atomicPair(), ours(pairLimit)}
	if c, ok := oursSampled(pairLimit); ok {
		cs = append(cs, c)
	}
	cs = append(cs, selectChannel(pairLimit), xSync(pairLimit), failsafeAdaptive(pairLimit), pmDefault(pairLimit))

	cs = append(cs, clockPair(), spinAsLongAs(cs[2]))
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
		clock, pair := p50[0], p50[1]
		for i := range cs {
			p50[i] -= clock
			p999[i] -= clock
		}
		// The references go along as two columns more.
		p50s, p999s = append(p50s, append(p50, clock, pair)), append(p999s, append(p999, clock, pair))
	}
	batches := len(p50s)
	p50s, p999s = p50s.undisturbed(len(cs), len(cs)+1), p999s.undisturbed(len(cs), len(cs)+1)
	t := b.table("tail", "the slowest of uncontended calls, less the cost of the clock", "p50 ns", "p99.9 ns")
	for i, c := range cs {
		t.add(c.name, plain(p50s.of(i)), quartiles(p999s.of(i)))
	}
	t.note("p99.9 of batches of 10,000 calls timed one by one; median (quartiles) over %d of %d batches: those in whose rounds the clock alone, and A, took no more than 5 %% longer at the median than in the best tenth. The first line is what the machine adds to nothing by itself, and the last to a piece of arithmetic as long as our call: what is interrupted comes later than usual, and the longer something takes, the more often it is.", len(p50s), batches)
	b.target(atMost("p99.9 of an uncontended call", 250, "ns", p999s.of(2)))
	return nil
}

// spinAsLongAs returns a contender that computes, in registers, for about as long as a call through c takes: what is slow about it is the machine.
func spinAsLongAs(c contender) contender {
	const calls = 1000
	best := time.Duration(1 << 62)
	for range 100 {
		start := time.Now()
		c.pairs(calls)
		best = min(best, time.Since(start))
	}
	steps := spinSteps(best / calls)
	return contender{name: "arithmetic as long as the guard takes", pairs: func(n int) {
		var x uint64
		for range n {
			x += spin(steps)
		}
		if x == 0 {
			panic("bench: there is no such sum")
		}
	}}
}
