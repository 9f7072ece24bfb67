package main

import (
	"runtime"
	"strings"
)

// memory measures what many guards hold.
func memory(b *bench) error {
	n := b.keys
	count, objects, goroutines := heap()
	k := newKeys(n)
	size := float64(8 * n) // the slice of pointers, which is ours
	t := b.table("memory", figure(float64(n))+" guards, one for each key", "bytes a guard", "objects a guard")
	step := func(name string) spread {
		bytes, live, _ := heap()
		s := exact((float64(bytes) - float64(count) - size) / float64(n))
		t.add(name, plain(s), plain(exact((float64(live)-float64(objects)-1)/float64(n))))
		return s
	}
	k.fill()
	untouched := step("untouched")
	k.work()
	fresh := step("after 5 calls, no limit met")
	k.meetLimit()
	limited := step("after a refusal by the upstream")
	given := k.idle()
	idle := missing
	if given {
		idle = step("after a time without calls")
	} else {
		t.miss("after a time without calls", notOffered)
	}
	_, _, now := heap()
	started := now - goroutines
	runtime.KeepAlive(k)

	b.target(atMost("memory of a guard that has met no limit", 256, "bytes", spread{max(untouched.Median, fresh.Median), untouched.Median, fresh.Median}))
	b.target(atMost("memory of a guard whose law remembers a limit", 4096, "bytes", limited))
	back := atMost("memory given back when idle", 256, "bytes", idle)
	if !given {
		back = absent(back, notOffered)
	}
	b.target(back)
	b.target(atMost("goroutines", 0, "a guard", exact(float64(started)/float64(n))))
	b.target(atMost("timers", 0, "a guard", exact(timers(1000))))
	return nil
}

// heap returns the bytes and objects that are in use, and the goroutines that there are.
func heap() (bytes, objects uint64, goroutines int) {
	runtime.GC()
	runtime.GC() // what was only kept by finalizers and pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.HeapObjects, runtime.NumGoroutine()
}

// timers returns how many timers a guard holds after its calls, by the profile of what is in use:
// the runtime does not tell their number. One of each guard in which a caller waited is left out: whoever waits needs one.
func timers(n int) float64 {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	k := newKeys(n)
	k.fill()
	k.work()
	k.meetLimit()
	runtime.GC()
	runtime.GC() // the profile is that of the collection before
	records := make([]runtime.MemProfileRecord, 1000)
	for {
		found, ok := runtime.MemProfile(records, false)
		if ok {
			records = records[:found]
			break
		}
		records = make([]runtime.MemProfileRecord, 2*found)
	}
	var live int64
	for _, g := range k.guards {
		if g.Stats().Counts.Waited > 0 {
			live--
		}
	}
	for i := range records {
		if startsTimer(&records[i]) {
			live += records[i].InUseObjects()
		}
	}
	runtime.KeepAlive(k)
	return float64(max(0, live)) / float64(n)
}

// startsTimer reports whether r is of memory that package time took for a timer that one of the
// library's guards asked for.
func startsTimer(r *runtime.MemProfileRecord) bool {
	timer, guard := false, false
	frames := runtime.CallersFrames(r.Stack())
	for {
		f, more := frames.Next()
		switch f.Function {
		case "runtime.(*timers).addHeap":
			return false // the runtime's own list, one of each processor
		case "time.NewTimer", "time.AfterFunc", "time.NewTicker", "time.newTimer":
			timer = true
		}
		guard = guard || strings.HasPrefix(f.Function, "github.com/flyball-go/flyball/limiter.")
		if !more {
			return timer && guard
		}
	}
}
