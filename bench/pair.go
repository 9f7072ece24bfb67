package main

import (
	"context"
	"time"
)

// pairLimit is the limit of the contenders that are never full.
const pairLimit = 64

// notOffered is why something is missing.
const notOffered = "not offered by the library"

// The columns of the references among the contenders.
const (
	refA = 0
	refF = 1
)

// pairContenders returns who takes part where nobody waits, A and F first. oursAt and paceAt are
// where the guard is; sampledAt is -1 when the library does not offer it.
func pairContenders() (cs []contender, oursAt, sampledAt, pacedAt int) {
	add := func(c contender) int {
		cs = append(cs, c)
		return len(cs) - 1
	}
	add(atomicPair())
	add(clockPair())
	oursAt = add(ours(pairLimit))
	sampledAt = -1
	if c, ok := oursSampled(pairLimit); ok {
		sampledAt = add(c)
	}
	pacedAt = add(oursPaced(pairLimit))
	for _, c := range []contender{
		selectChannel(pairLimit), xSync(pairLimit), xRate(),
		failsafeAdaptive(pairLimit), failsafeBulkhead(pairLimit), failsafeExecutor(pairLimit),
		pmDefault(pairLimit), pmBlocking(pairLimit),
	} {
		add(c)
	}
	return cs, oursAt, sampledAt, pacedAt
}

func loops(cs []contender) (fs []func(int)) {
	for _, c := range cs {
		fs = append(fs, c.pairs)
	}
	return fs
}

// pair measures acquire and release when there is room and nobody else.
func pair(b *bench) error {
	cs, oursAt, sampledAt, pacedAt := pairContenders()
	fs := loops(cs)
	rounds := solo(fs, b.budget)
	all := rounds.undisturbed(refA, refF)
	t := b.table("pair", "uncontended acquire and release", "ns", "x A", "x F", "objects allocated")
	var allocs float64
	for i, c := range cs {
		n := allocations(fs[i], 20_000)
		if n < 0.005 {
			n = 0
		}
		if i == oursAt || i == sampledAt || i == pacedAt {
			allocs = max(allocs, n)
		}
		t.add(c.name, plain(all.of(i)), quartiles(all.ratio(i, refA)), quartiles(all.ratio(i, refF)), plain(exact(n)))
	}
	t.note("Median (quartiles) over %d of %d rounds: those in which neither A nor F took more than 5 %% longer than in the best tenth.", len(all), len(rounds))
	b.target(atMost("uncontended, every call timed and recorded", 1.25, "F", all.ratio(oursAt, refF)))
	sampled := atMost("uncontended, 1 in 16 timed", 4, "A", missing)
	if sampledAt < 0 {
		c, _ := oursSampled(pairLimit)
		t.miss(c.name, notOffered)
		b.target(absent(sampled, notOffered))
	} else {
		b.target(atMost(sampled.Name, sampled.Most, sampled.Unit, all.ratio(sampledAt, refA)))
	}
	b.target(atMost("uncontended, with a rate budget", 18, "A", all.ratio(pacedAt, refA)))
	b.target(atMost("objects allocated, uncontended", 0, "a call", exact(allocs)))
	return nil
}

// contended measures two goroutines on two processors that do nothing but acquire and release.
func contended(b *bench) error {
	cs, _, _, _ := pairContenders()
	all := duo(loops(cs), b.budget)
	t := b.table("contended", "acquire and release from 2 goroutines on 2 CPUs, nothing between", "ns of wall clock", "x A", "x F")
	for i, c := range cs {
		t.add(c.name, plain(all.of(i)), quartiles(all.ratio(i, refA)), quartiles(all.ratio(i, refF)))
	}
	t.note("The two ran together for %.0f %% of the time in %d of %d chunks; the others are left out.",
		100*leastOverlap, all.valid(), len(all)*len(cs))
	return nil
}

// valid returns how many of the measurements are numbers.
func (r rounds) valid() (n int) {
	for _, m := range r {
		for _, x := range m {
			if x == x {
				n++
			}
		}
	}
	return n
}

// contendedWork is contended with 1 µs of work between a call and the next.
func contendedWork(b *bench) error {
	cs, _, _, _ := pairContenders()
	steps := spinSteps(time.Microsecond)
	work := func(n int) {
		var x uint64
		for range n {
			x += spin(steps)
		}
		sink.Store(x)
	}
	fs := []func(int){work}
	for _, c := range cs {
		fs = append(fs, func(n int) {
			var x uint64
			for range n {
				c.pairs(1)
				x += spin(steps)
			}
			sink.Store(x)
		})
	}
	all := duo(fs, b.budget)
	t := b.table("work", "the same with 1 µs of work after each call", "ns of wall clock", "added ns", "x work alone")
	t.add("work alone", plain(all.of(0)), plain(exact(0)), plain(exact(1)))
	for i, c := range cs {
		t.add(c.name, plain(all.of(i+1)), quartiles(all.added(i+1, 0)), quartiles(all.ratio(i+1, 0)))
	}
	return nil
}

// refuse measures asking without waiting when all places are taken.
func refuse(b *bench) error {
	cs := []contender{
		atomicPair(), clockPair(), ours(1), selectChannel(1), xSync(1), xRate(), failsafeAdaptive(1), failsafeBulkhead(1), pmDefault(1),
	}
	fs := []func(int){cs[refA].pairs, cs[refF].pairs}
	free := make(chan struct{})
	defer close(free)
	for _, c := range cs[refF+1:] {
		fs = append(fs, c.refuse)
		if c.hold == nil {
			continue // it is full as it comes
		}
		held := make(chan struct{})
		go func() {
			_ = c.hold(context.Background(), func() { close(held); <-free })
		}()
		<-held
	}
	rounds := solo(fs, b.budget)
	all := rounds.undisturbed(refA, refF)
	t := b.table("refuse", "a refusal: asking without waiting when all places are taken", "ns", "x A", "objects allocated")
	for i, c := range cs {
		n := allocations(fs[i], 20_000)
		if n < 0.005 {
			n = 0
		}
		t.add(c.name, plain(all.of(i)), quartiles(all.ratio(i, refA)), plain(exact(n)))
	}
	t.note("Median (quartiles) over %d of %d rounds: those in which neither A nor F took more than 5 %% longer than in the best tenth.", len(all), len(rounds))
	b.target(atMost("refusal", 1.5, "A", all.ratio(refF+1, refA)))
	return nil
}
