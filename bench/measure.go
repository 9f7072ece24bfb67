package main

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// chunk is how long one contender runs in one round: far shorter than the slices of time in
// which an operating system hands out a processor, so that most chunks are not interrupted, and
// far longer than reading the clock.
const chunk = 200 * time.Microsecond

// interleave measures run for each of n contenders in turn, round after round, until the time is
// up, but at least for least rounds. Each round begins with another contender.
func interleave(n, least int, budget time.Duration, run func(i int) float64) rounds {
	var all rounds
	for end := time.Now().Add(budget); len(all) < least || time.Now().Before(end); {
		m := make(round, n)
		for k := range n {
			i := (k + len(all)) % n
			m[i] = run(i)
		}
		all = append(all, m)
	}
	return all
}

// calibrate returns how many calls of f's loop fill d.
func calibrate(f func(n int), d time.Duration) int {
	f(100) // warm up
	for n := 16; ; n *= 2 {
		start := time.Now()
		f(n)
		took := time.Since(start)
		if took >= d/4 || n >= 1<<24 {
			return max(1, int(float64(n)*float64(d)/float64(max(took, 1))))
		}
	}
}

// solo measures the loops fs in one goroutine, in ns for each iteration.
func solo(fs []func(n int), budget time.Duration) rounds {
	ns := make([]int, len(fs))
	for i, f := range fs {
		ns[i] = calibrate(f, chunk)
	}
	return interleave(len(fs), 3, budget, func(i int) float64 {
		start := time.Now()
		fs[i](ns[i])
		return float64(time.Since(start)) / float64(ns[i])
	})
}

const (
	// duoChunk is chunk for two goroutines at once: shorter, because both must keep their processors.
	duoChunk = 100 * time.Microsecond
	// leastOverlap is the share of the time for which both must have run together.
	leastOverlap = 0.8
	// duoPatience is how long one waits for the other to get a processor, and duoTries how often a chunk
	// is tried in one round.
	duoPatience = 20 * time.Millisecond
	duoTries    = 5
)

// duo measures the loops fs in two goroutines at once, in ns of wall clock for each iteration of one of
// them. A chunk during which the two did not run together long enough, because the machine
// was busy, is tried again, and in the end is not a number.
func duo(fs []func(n int), budget time.Duration) rounds {
	ns := make([]int, len(fs))
	for i, f := range fs {
		ns[i] = calibrate(f, duoChunk)
	}
	// Both spin until a chunk begins. If they slept or yielded, the Go scheduler could run the one after
	// the other on the only processor that the system grants at the moment.
	const none, stop = -1, -2
	type stretch struct{ start, end time.Time }
	var (
		job, ping, pong, done atomic.Int64
		other                 stretch
		wg                    sync.WaitGroup
	)
	run := func(i int) stretch {
		start := time.Now()
		fs[i](ns[i])
		return stretch{start, time.Now()}
	}
	job.Store(none)
	wg.Go(func() {
		for n := int64(1); ; n++ {
			i := job.Load()
			for i == none {
				pong.Store(ping.Load())
				i = job.Load()
			}
			if i == stop {
				return
			}
			other = run(int(i))
			job.Store(none)
			done.Store(n)
		}
	})
	pings, jobs := int64(0), int64(0)
	try := func(i int) float64 {
		pings++
		// Only a goroutine that has a processor answers.
		ping.Store(pings)
		for until := time.Now().Add(duoPatience); pong.Load() != pings; {
			if time.Now().After(until) {
				return math.NaN()
			}
		}
		jobs++
		job.Store(int64(i))
		mine := run(i)
		for done.Load() != jobs {
			runtime.Gosched()
		}
		a, b := mine.end.Sub(mine.start), other.end.Sub(other.start)
		together := min(a, b, mine.end.Sub(other.start), other.end.Sub(mine.start))
		if float64(together) < leastOverlap*float64(max(a, b)) {
			return math.NaN()
		}
		return float64(a+b) / 2 / float64(ns[i])
	}
	all := interleave(len(fs), 3, budget, func(i int) float64 {
		ns := math.NaN()
		for k := 0; k < duoTries && math.IsNaN(ns); k++ {
			ns = try(i)
		}
		return ns
	})
	job.Store(stop)
	wg.Wait()
	return all
}

// allocations returns how many objects f allocates an iteration. What the harness allocates meanwhile counts,
// too, so n must be large.
func allocations(f func(n int), n int) float64 {
	f(n/10 + 1) // warm up: pools and free lists
	before := allocated()
	f(n)
	return float64(allocated()-before) / float64(n)
}

// allocated returns how many objects the process has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// spin works for n steps that the compiler cannot leave out, and returns something made from them.
func spin(n int) uint64 {
	x := uint64(n)
	for range n {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// spinSteps returns how many steps of spin take d.
func spinSteps(d time.Duration) int {
	best := math.Inf(1)
	for range 50 {
		start := time.Now()
		sink.Store(spin(10_000))
		best = min(best, float64(time.Since(start))/10_000)
	}
	return max(1, int(float64(d)/best))
}

// sink takes what must not be optimised away.
var sink atomic.Uint64
