package admission

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

func BenchmarkQueue(b *testing.B) {
	items := func(n, tenants, classes int) []queueItem {
		l := make([]queueItem, n)
		for i := range l {
			l[i] = queueItem{Cost: 1 + int64(i%7), Priority: uint8(i % classes), Deadline: time.Minute}
			if tenants > 1 {
				l[i].Tenant = strconv.Itoa(i % tenants)
			}
		}
		return l
	}
	run := func(name string, waiting, tenants, classes int) {
		b.Run(name, func(b *testing.B) {
			q := queue{cfg: &QueueConfig{Aging: 10 * time.Second}}
			l := items(waiting+1, tenants, classes)
			for i := range l[:waiting] {
				q.push(&l[i])
			}
			it := &l[waiting]
			now := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				now++
				it.Since, it.Deadline = now, now+time.Minute
				q.push(it)
				it = q.next(now, 0)
				q.start(it)
			}
		})
	}
	run("fifo/1", 0, 1, 1)
	run("fifo/1000", 1000, 1, 1)
	run("tenants=10/1000", 1000, 10, 1)
	run("tenants=10,classes=3/1000", 1000, 10, 3)
	run("tenants=1000/100000", 100_000, 1000, 1)
	run("tenants=100000/100000", 100_000, 100_000, 8)
	cancel := func(name string, tenants int, deadlines bool) {
		b.Run(name, func(b *testing.B) {
			q := queue{cfg: &QueueConfig{Aging: 10 * time.Second}}
			l := items(100_000, tenants, 1)
			rng := rand.New(rand.NewPCG(1, 1))
			for i := range l {
				if deadlines {
					l[i].Deadline = time.Duration(rng.Int64N(int64(time.Minute)))
				}
				q.push(&l[i])
			}
			b.ReportAllocs()
			for b.Loop() {
				it := &l[rng.IntN(len(l))]
				q.remove(it)
				q.push(it)
			}
		})
	}
	cancel("cancel/fifo/100000", 1, false)
	cancel("cancel/deadlines/100000", 1, true)
	cancel("cancel/tenants=100000/100000", 100_000, true)
}

// A wait costs no allocation in steady state, with one tenant and with many.
func TestQueueAllocs(t *testing.T) {
	q := queue{cfg: &QueueConfig{Aging: 10 * time.Second, Drop: DropLongest}}
	l := make([]queueItem, 64)
	for i := range l {
		l[i] = queueItem{Tenant: strconv.Itoa(i % 16), Priority: uint8(i % 3), Cost: 5}
	}
	round := func() {
		for i := range l {
			l[i].Deadline = time.Duration(i * 7 % 64)
			q.push(&l[i])
		}
		q.remove(&l[40])
		for it := q.next(0, 0); it != nil; it = q.next(0, 0) {
			q.start(it)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("64 waits of 16 tenants in 3 classes allocate %v times, want 0", n)
	}
}
