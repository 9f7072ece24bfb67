package sim

import "math"

// gate is a stage that lets an attempt pass or refuses it at once.
type gate interface {
	// earliest returns the first instant at or after now at which an attempt would pass if nothing
	// else happened before; never when that cannot be told.
	earliest(now int64) int64
	// enter lets an attempt pass at now. It must pass: earliest(now) is now.
	enter(now int64)
	// refused tells of an attempt that did not pass.
	refused(now int64)
	// leave tells that a call that passed has ended.
	leave(now int64)
}

// never is an instant that does not come.
const never = math.MaxInt64

// bucket is a token bucket that refills continuously, kept as the instant at which it would be full
// again (GCRA, ITU-T I.371), in whole ns.
type bucket struct {
	interval int64 // ns for one request
	burst    int64 // requests
	full     int64 // the bucket lacks (full - now) / interval requests
	charge   bool  // refused requests are charged
}

func newBucket(q *Quota) *bucket {
	return &bucket{interval: interval(q.PerMinute), burst: int64(q.Burst), charge: q.ChargeRefused}
}

func interval(perMinute float64) int64 { return max(1, int64(math.Round(60e9/perMinute))) }

func (b *bucket) earliest(now int64) int64 {
	return max(now, b.full-(b.burst-1)*b.interval)
}

func (b *bucket) enter(now int64) { b.full = max(b.full, now) + b.interval }

// refused takes what is there, when refusals are charged: a bucket is never emptier than empty.
func (b *bucket) refused(now int64) {
	if b.charge {
		b.full = min(max(b.full, now)+b.interval, now+b.burst*b.interval)
	}
}

func (b *bucket) leave(int64) {}

// set changes the rate; what the bucket holds stays in it.
func (b *bucket) set(now int64, perMinute float64) {
	was := b.interval
	b.interval = interval(perMinute)
	if lacks := b.full - now; lacks > 0 {
		b.full = now + int64(math.Round(float64(lacks)/float64(was)*float64(b.interval)))
	}
}

// setBurst changes the size; what is above the brim is lost.
func (b *bucket) setBurst(now int64, burst float64) {
	had := float64(b.burst) - float64(max(0, b.full-now))/float64(b.interval)
	b.burst = max(1, int64(burst))
	lacks := max(0, float64(b.burst)-had)
	b.full = now + int64(math.Round(lacks*float64(b.interval)))
}

// window counts requests in intervals of a fixed length.
type window struct {
	length int64
	most   int64
	start  int64
	n      int64
	charge bool
}

func newWindow(q *Quota) *window {
	return &window{length: int64(q.Window), most: perWindow(q.PerMinute, int64(q.Window)), charge: q.ChargeRefused}
}

func perWindow(perMinute float64, length int64) int64 {
	return max(1, int64(math.Round(perMinute*float64(length)/60e9)))
}

func (w *window) turn(now int64) {
	if now >= w.start+w.length {
		w.start = now - now%w.length
		w.n = 0
	}
}

func (w *window) earliest(now int64) int64 {
	w.turn(now)
	if w.n < w.most {
		return now
	}
	return w.start + w.length
}

func (w *window) enter(now int64) {
	w.turn(now)
	w.n++
}

func (w *window) refused(int64) {}
func (w *window) leave(int64)   {}

func (w *window) set(_ int64, perMinute float64) { w.most = perWindow(perMinute, w.length) }

// concurrency lets an attempt pass while fewer than limit calls are in the upstream.
type concurrency struct {
	limit int
	in    int
}

func (c *concurrency) earliest(now int64) int64 {
	if c.in < c.limit {
		return now
	}
	return never
}

func (c *concurrency) enter(int64)   { c.in++ }
func (c *concurrency) refused(int64) {}
func (c *concurrency) leave(int64)   { c.in-- }
