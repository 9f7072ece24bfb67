package main

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// window is how long the channel and our guard are watched in one round; the others, of which nothing is
// claimed but their throughput, for a third of it.
const window = 300 * time.Millisecond

// saturation is what was seen of one contender in one round.
type saturation struct {
	rate     float64 // calls a second, by the wall clock
	perCPU   float64 // calls a second of processor time; by the wall clock where that is not known
	even     float64 // the fewest calls of a goroutine over the most
	p50, p99 float64 // wait for a place, µs
	allocs   float64 // objects a call
}

// saturate lets many goroutines call through c without a pause, for d after a warm-up. Within its place each
// yields once, so that all others come to run.
func saturate(c contender, goroutines int, d time.Duration) saturation {
	type worker struct {
		calls atomic.Uint64
		waits []time.Duration
		_     [64]byte
	}
	var (
		workers  = make([]worker, goroutines)
		watching atomic.Bool
		stop     atomic.Bool
		wg       sync.WaitGroup
		base     = time.Now()
	)
	for i := range workers {
		w := &workers[i]
		w.waits = make([]time.Duration, 0, 4096)
		wg.Go(func() {
			var (
				asked time.Duration
				timed bool
			)
			in := func() {
				if timed && len(w.waits) < cap(w.waits) && watching.Load() {
					w.waits = append(w.waits, time.Since(base)-asked)
				}
				runtime.Gosched()
			}
			// One wait in 16 is timed: reading the clock for each would cost as much as some of
			// the contenders. Which one differs from goroutine to goroutine.
			for n := uint64(i); !stop.Load(); n++ {
				if timed = n%16 == 0; timed {
					asked = time.Since(base)
				}
				if c.hold(live, in) != nil {
					return
				}
				w.calls.Store(w.calls.Load() + 1)
			}
		})
	}
	before := make([]uint64, goroutines)
	count := func(to []uint64) (total uint64) {
		for i := range workers {
			to[i] = workers[i].calls.Load()
			total += to[i]
		}
		return total
	}
	time.Sleep(d / 5)
	watching.Store(true)
	objects := allocated()
	startCPU, _ := cpuTime()
	start, calls := time.Now(), count(before)
	time.Sleep(d)
	after := make([]uint64, goroutines)
	calls = count(after) - calls
	took := time.Since(start)
	cpu, ok := cpuTime()
	if cpu -= startCPU; !ok || cpu == 0 {
		cpu = took
	}
	objects = allocated() - objects
	watching.Store(false)
	stop.Store(true)
	wg.Wait()

	var waits []float64
	fewest, most := uint64(math.MaxUint64), uint64(0)
	for i := range workers {
		n := after[i] - before[i]
		fewest, most = min(fewest, n), max(most, n)
		for _, wait := range workers[i].waits {
			waits = append(waits, float64(wait)/1e3)
		}
	}
	slices.Sort(waits)
	s := saturation{
		rate: float64(calls) / took.Seconds(), perCPU: float64(calls) / cpu.Seconds(),
		even: float64(fewest) / float64(most),
		p50:  quantile(waits, 0.5), p99: quantile(waits, 0.99),
		allocs: float64(objects) / float64(calls),
	}
	return s
}

// saturated measures contenders in interleaved rounds; the first is the one that the others are compared
// with, the second is ours. It returns figures of ours.
func (b *bench) saturated(name, title string, goroutines int, cs []contender) (ratio, even, tail, allocs spread) {
	// Rounds for each figure, so that the same arithmetic serves them all.
	var rates, perCPU, evens, p50s, p99s, tails, objects rounds
	d := min(window, max(15*time.Millisecond, b.budget/12)) // at least some three rounds
	for end := time.Now().Add(b.budget); len(rates) < 2 || time.Now().Before(end); {
		seen := make([]saturation, len(cs))
		for k := range cs {
			i := (k + len(rates)) % len(cs)
			d := d
			if i > 1 {
				d /= 3
			}
			seen[i] = saturate(cs[i], goroutines, d)
		}
		figure := func(of func(saturation) float64) round {
			m := make(round, len(seen))
			for i, s := range seen {
				m[i] = of(s)
			}
			return m
		}
		rates = append(rates, figure(func(s saturation) float64 { return s.rate }))
		perCPU = append(perCPU, figure(func(s saturation) float64 { return s.perCPU }))
		evens = append(evens, figure(func(s saturation) float64 { return s.even }))
		p50s = append(p50s, figure(func(s saturation) float64 { return s.p50 }))
		p99s = append(p99s, figure(func(s saturation) float64 { return s.p99 }))
		tails = append(tails, figure(func(s saturation) float64 { return s.p99 / s.p50 }))
		objects = append(objects, figure(func(s saturation) float64 { return s.allocs }))
	}
	t := b.table(name, title, "calls/s", "x channel", "x channel by CPU time", "wait p50 µs", "p99 µs", "p99/p50", "min/max calls", "objects a call")
	for i, c := range cs {
		object := objects.of(i)
		if object.Median < 0.05 {
			object = exact(0) // what the harness itself allocates
		}
		t.add(c.name, plain(rates.of(i)), plain(rates.ratio(i, 0)), quartiles(perCPU.ratio(i, 0)),
			plain(p50s.of(i)), plain(p99s.of(i)), plain(tails.of(i)), plain(evens.of(i)), plain(object))
		if i == 1 {
			allocs = object
		}
	}
	t.note("Median (quartiles) over %d rounds of %v for the channel and the guard, and a third of it for the others.", len(rates), d.Round(time.Millisecond))
	return perCPU.ratio(1, 0), evens.of(1), tails.of(1), allocs
}

// waiting returns the contenders that wait.
func waiting(limit int) []contender {
	return []contender{
		selectChannel(limit), ours(limit), xSync(limit), failsafeAdaptive(limit), failsafeBulkhead(limit), pmBlocking(limit),
	}
}

func saturatedFew(b *bench) error {
	// A context that cannot end needs no select.
	endless := ours(64)
	hold := endless.hold
	endless.name = "flyball, context.Background()"
	endless.hold = func(_ context.Context, in func()) error { return hold(context.Background(), in) }
	ratio, even, tail, allocs := b.saturated("saturated", "saturated: limit 64, 256 goroutines, each yields while it holds its place", 256,
		append(waiting(64), endless))
	b.target(atLeast("saturated, limit 64, 256 goroutines: throughput", 1, "x channel", ratio))
	b.target(atLeast("saturated, 256 goroutines: min/max calls a goroutine", 0.95, "", even))
	b.target(atMost("saturated, 256 goroutines: p99 wait", 1.5, "x p50", tail))
	b.target(atMost("objects allocated, queued", 0, "a call", allocs))
	return nil
}

func saturatedMany(b *bench) error {
	// go-concurrency-limits wakes everybody at each release: with so many it would take all of the time.
	cs := waiting(64)
	ratio, _, _, _ := b.saturated("saturated4096", "saturated: limit 64, 4096 goroutines", 4096, cs[:len(cs)-1])
	b.target(atLeast("saturated, limit 64, 4096 goroutines: throughput", 0.95, "x channel", ratio))
	return nil
}

func saturatedOne(b *bench) error {
	cs := waiting(1)
	b.saturated("saturated1", "saturated: limit 1, 256 goroutines", 256, cs[:len(cs)-1])
	return nil
}

// cancelWaiting measures how long it takes a caller to be gone when its context ends while others wait.
func cancelWaiting(b *bench) error {
	t := b.table("cancel", "one waiting caller's context ends: until its call returns", "waiting", "µs", "x x/sync")
	var at [2]spread
	budget := b.budget / time.Duration(len(b.crowd))
	for k, crowd := range b.crowd {
		names := []string{"", "", ""}
		all := interleave(3, 1, budget, func(i int) float64 {
			c := []func(int) contender{xSync, ours, selectChannel}[i](1)
			names[i] = c.name
			return cancelOne(c, crowd, 200)
		})
		for i, name := range names {
			t.add(name, plain(exact(float64(crowd))), plain(all.of(i)), quartiles(all.ratio(i, 0)))
		}
		if k < len(at) {
			at[k] = all.of(1)
		}
	}
	few, many := b.crowd[0], b.crowd[1]
	growth := spread{at[1].Median / at[0].Median, at[1].P25 / at[0].Median, at[1].P75 / at[0].Median}
	t.note("Most of it is the time until the goroutine runs again. Ours takes %s times as long with %s waiting as with %s.",
		figure(growth.Median), figure(float64(many)), figure(float64(few)))
	b.target(atMost("cancel with 10 times as many waiting: no more than O(log n)", 2, "x", growth))
	return nil
}

// cancelOne returns the median time in µs from the end of a waiting caller's context to its
// return, when crowd callers wait, over some victims spread evenly among them.
func cancelOne(c contender, crowd, victims int) float64 {
	var wg sync.WaitGroup
	free, held := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		_ = c.hold(context.Background(), func() { close(held); <-free })
	})
	<-held

	all, cancelAll := context.WithCancel(context.Background())
	type victim struct {
		cancel context.CancelFunc
		gone   chan time.Time
	}
	var chosen []victim
	var asking atomic.Int64
	nothing := func() {}
	for i := range crowd {
		if i%(crowd/victims) != 0 {
			wg.Go(func() {
				asking.Add(1)
				_ = c.hold(all, nothing)
			})
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		v := victim{cancel, make(chan time.Time, 1)}
		chosen = append(chosen, v)
		wg.Go(func() {
			asking.Add(1)
			_ = c.hold(ctx, nothing)
			v.gone <- time.Now()
		})
	}
	for asking.Load() < int64(crowd) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // the last of them are on their way into the queue

	took := make([]float64, 0, len(chosen))
	for i := range chosen {
		v := chosen[i*7919%len(chosen)] // in no order: 7919 is a prime
		start := time.Now()
		v.cancel()
		took = append(took, float64((<-v.gone).Sub(start))/1e3)
	}
	cancelAll()
	close(free)
	wg.Wait()
	slices.Sort(took)
	return quantile(took, 0.5)
}
