package cache

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrLagged is the error of a reader that is so far behind the others that what it would read next is no longer there.
var ErrLagged = errors.New("cache: this reader of a shared answer is too far behind the others")

// ErrPanicked is the error of an answer whose producer panicked.
var ErrPanicked = errors.New("cache: the producer of this answer panicked")

// Head is how an answer begins.
type Head struct {
	Status        int
	Header        http.Header
	ContentLength int64    // -1 when unknown
	Trailer       []string // the names that are announced of the fields behind the body
	Code          string   // of a refusal that the status does not tell of
}

// Flight is an answer that is coming, for all who asked for the same. One goroutine, the producer's, calls Begin, Write and End; readers
// come from Join.
//
// What came is kept, up to a window, for those who come later or are slower. When more is on its way, the producer waits for the fastest
// reader, and a little for others: each holds it up for as long as patience, all its waits together, so that nobody is cut off because a
// large answer came faster than it was its turn to read. Whoever is more than a window behind after that is cut off. While the answers that
// are coming take more memory than they may together, the window is small, and what all have read is not kept.
type Flight struct {
	window int
	memory *memory
	cancel context.CancelFunc // ends the producer
	plain  atomic.Bool

	mu      sync.Mutex
	changed sync.Cond
	head    *Head
	done    bool
	err     error // with done: how it ended; nil is well
	trailer http.Header
	buf     []byte
	base    int64 // how much before buf is no longer there
	fastest int64 // where the fastest reader is
	waits   bool  // the producer waits for slower ones
	readers []*Reader
	counted int64       // of the memory
	urgency uint8       // of the most urgent reader
	raise   func(uint8) // tells the producer of a more urgent one; nil until it can be told
	left    bool        // sealed, or the last reader left; nobody may join
}

// memory is how much answers that are coming take together, in bytes.
type memory struct {
	used atomic.Int64
	most int64
}

// smallWindow is how far readers may be apart while memory is short.
const smallWindow = 64 << 10

// patience is how long a reader may hold up a producer for which others are ready.
const patience = 2 * time.Second

func newFlight(window int64, m *memory, cancel context.CancelFunc) *Flight {
	f := &Flight{window: int(window), memory: m, cancel: cancel}
	f.changed.L = &f.mu
	return f
}

// count counts the memory that the flight takes. It needs the lock.
func (f *Flight) count() {
	if f.done && len(f.readers) == 0 {
		f.buf = nil
	}
	n := int64(cap(f.buf))
	f.memory.used.Add(n - f.counted)
	f.counted = n
}

// short reports whether memory is.
func (f *Flight) short() bool { return f.memory.used.Load() > f.memory.most }

// unread returns how far the fastest reader is behind the producer. It needs the lock.
func (f *Flight) unread() int64 { return f.end() - f.fastest }

// end returns where the producer is. It needs the lock.
func (f *Flight) end() int64 { return f.base + int64(len(f.buf)) }

// await waits until there is room for more: for the fastest reader as long as it takes, and for others for as long as they may hold it up. It
// needs the lock.
func (f *Flight) await() {
	for len(f.readers) > 0 {
		if f.unread() > f.room() {
			f.changed.Wait()
			continue
		}
		if int64(len(f.buf)) <= f.room() {
			return // nobody who is not cut off is that far behind
		}
		far, most := []*Reader(nil), time.Duration(0)
		for _, r := range f.readers {
			if left := patience - r.held; left > 0 && f.end()-r.at > f.room() {
				if far = append(far, r); most == 0 || left < most {
					most = left
				}
			}
		}
		if len(far) == 0 {
			return
		}
		began := time.Now()
		timer := time.AfterFunc(most, f.wake)
		f.waits = true
		f.changed.Wait()
		f.waits = false
		timer.Stop()
		for _, r := range far {
			r.held += time.Since(began)
		}
	}
}

// slowest returns where the slowest reader is, and the slowest of those who may still hold the producer up. It needs the lock.
func (f *Flight) slowest() (all, awaited int64) {
	all, awaited = f.fastest, f.fastest
	for _, r := range f.readers {
		all = min(all, r.at)
		if r.held < patience {
			awaited = min(awaited, r.at)
		}
	}
	return all, awaited
}

// wake has everybody look again.
func (f *Flight) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed.Broadcast()
}

// room returns how far it may be. It needs no lock.
func (f *Flight) room() int64 {
	if f.short() {
		return smallWindow
	}
	return int64(f.window)
}

// drop gives up what is before an instant of the body. It needs the lock.
func (f *Flight) drop(before int64) {
	n := int(before - f.base)
	if n <= 0 {
		return
	}
	left := f.buf[n:]
	if f.short() {
		f.buf = append(make([]byte, 0, len(left)), left...)
	} else {
		f.buf = append(f.buf[:0], left...)
	}
	f.base += int64(n)
}

// Raise tells the producer that somebody waits for the answer to whom it is so urgent, 0 to 7.
func (f *Flight) Raise(urgency uint8) {
	f.mu.Lock()
	more := urgency > f.urgency && f.head == nil && !f.done
	if more {
		f.urgency = urgency
	}
	tell := f.raise
	f.mu.Unlock()
	if more && tell != nil {
		tell(urgency)
	}
}

// Plain is whether there is a reader who can only take an answer without an encoding. Readers set it, and the producer asks for such an answer.
func (f *Flight) Plain() *atomic.Bool { return &f.plain }

// OnRaise has the producer told of the most urgent reader when there is a more urgent one, and at once.
func (f *Flight) OnRaise(tell func(urgency uint8)) {
	f.mu.Lock()
	f.raise = tell
	now := f.urgency
	f.mu.Unlock()
	tell(now)
}

// Join returns a reader of the answer to the request k that is coming. When none is, it starts one: produce is called by a goroutine of its
// own with a context that has the values of ctx and ends when the last reader has left. lead says that it was started.
func (c *Cache) Join(ctx context.Context, k Key, produce func(context.Context, *Flight)) (r *Reader, lead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flights[k]
	if f != nil {
		if r := f.join(ctx); r != nil {
			c.coalesced.Add(1)
			return r, false
		}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f = newFlight(c.cfg.MaxEntry, &c.coming, cancel)
	r = f.join(ctx)
	c.flights[k] = f
	go func() {
		defer cancel()
		defer func() {
			if v := recover(); v != nil {
				f.End(ErrPanicked)
				if c.cfg.OnPanic != nil {
					c.cfg.OnPanic(v, debug.Stack())
				}
			}
			f.End(errors.New("cache: the producer of an answer did not end it")) // does nothing when it did
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.flights[k] == f {
				delete(c.flights, k)
			}
		}()
		produce(run, f)
	}()
	return r, true
}

// join returns a new reader, or nil when the beginning is no longer there.
func (f *Flight) join(ctx context.Context) *Reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base > 0 || f.left || f.done {
		return nil
	}
	r := &Reader{f: f, ctx: ctx}
	f.readers = append(f.readers, r)
	r.stop = context.AfterFunc(ctx, f.wake)
	return r
}

// Begin says how the answer begins.
func (f *Flight) Begin(h *Head) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = h
	f.changed.Broadcast()
}

// Write adds to the body. It fails when nobody reads any more.
func (f *Flight) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.await()
	if len(f.readers) == 0 {
		return 0, context.Canceled
	}
	f.buf = append(f.buf, p...)
	switch {
	case f.short() && len(f.buf) > smallWindow:
		slowest, awaited := f.slowest()
		f.drop(min(awaited, max(slowest, f.fastest-smallWindow)))
	case len(f.buf) > 2*f.window:
		// Moved in large steps, so that each byte is moved once on average.
		_, awaited := f.slowest()
		f.drop(min(awaited, f.end()-int64(f.window)))
	}
	f.count()
	f.changed.Broadcast()
	return len(p), nil
}

// Whole returns the body when all of it is there: what was written, and p, which is about to be.
func (f *Flight) Whole(p []byte) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base > 0 || len(f.buf)+len(p) > f.window {
		return nil, false
	}
	return slices.Concat(f.buf, p), true
}

// Seal lets nobody join any more.
func (f *Flight) Seal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = true
}

// Trailer says what comes behind the body. It is called before End.
func (f *Flight) Trailer(h http.Header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trailer = h
}

// End ends the answer; err is nil when all of it came. What is called after the first time does nothing.
func (f *Flight) End(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return
	}
	f.done, f.err = true, err
	f.count()
	f.changed.Broadcast()
}

// Reader is one caller's view of an answer. It is used by one goroutine.
type Reader struct {
	f    *Flight
	ctx  context.Context
	stop func() bool
	at   int64
	held time.Duration // how long the producer waited for it
	gone bool
}

// Head waits until the answer begins. The error is the flight's when it ended before, or the reader's context's.
func (r *Reader) Head() (*Head, error) {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.head == nil && !f.done && r.ctx.Err() == nil {
		f.changed.Wait()
	}
	switch {
	case f.head != nil:
		return f.head, nil
	case f.done && f.err != nil:
		return nil, f.err
	case f.done:
		return nil, io.ErrUnexpectedEOF
	}
	return nil, context.Cause(r.ctx)
}

// Read reads the body as it comes.
func (r *Reader) Read(p []byte) (int, error) {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for r.at == f.end() && !f.done && r.ctx.Err() == nil {
		f.changed.Wait()
	}
	switch {
	case r.at < f.base:
		return 0, ErrLagged
	case r.at < f.end():
		n := copy(p, f.buf[r.at-f.base:])
		r.at += int64(n)
		first := r.at > f.fastest
		f.fastest = max(f.fastest, r.at)
		if (first || f.waits) && f.end()-r.at <= f.room() {
			f.changed.Broadcast() // the producer may wait
		}
		return n, nil
	case f.done && f.err != nil:
		return 0, f.err
	case f.done:
		return 0, io.EOF
	}
	return 0, context.Cause(r.ctx)
}

// Trailer returns what came behind the body, once Read has returned io.EOF. It is shared, and must not be changed.
func (r *Reader) Trailer() http.Header {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.f.trailer
}

// Raise is Flight.Raise.
func (r *Reader) Raise(urgency uint8) { r.f.Raise(urgency) }

// Plain is Flight.Plain.
func (r *Reader) Plain() *atomic.Bool { return r.f.Plain() }

// Close leaves the answer. When nobody is left, the producer is told to end.
func (r *Reader) Close() error {
	r.stop()
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.gone {
		return nil
	}
	r.gone = true
	f.readers = slices.DeleteFunc(f.readers, func(o *Reader) bool { return o == r })
	if len(f.readers) == 0 && !f.done {
		f.left = true
		f.cancel()
	}
	if f.fastest = 0; len(f.readers) > 0 {
		f.fastest = slices.MaxFunc(f.readers, func(a, b *Reader) int { return cmp.Compare(a.at, b.at) }).at // who is left alone is waited for
	}
	f.changed.Broadcast() // the producer may wait for this one
	f.count()
	return nil
}
