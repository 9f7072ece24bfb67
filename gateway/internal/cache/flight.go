package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
)

// ErrLagged is the error of a reader that is so far behind the others that what it would read next is no longer there.
var ErrLagged = errors.New("cache: this reader of a shared answer is too far behind the others")

// Head is how an answer begins.
type Head struct {
	Status        int
	Header        http.Header
	ContentLength int64 // -1 when unknown
}

// Flight is an answer that is coming, for all who asked for the same. One goroutine, the producer's, calls Begin, Write and End; readers
// come from Join.
//
// What came is kept, up to a window, for those who come later or are slower. When more is on its way, the producer waits for the fastest
// reader, so nobody slow holds up the others, and whoever is more than a window behind is cut off.
type Flight struct {
	window int
	cancel context.CancelFunc // ends the producer

	mu      sync.Mutex
	changed sync.Cond
	head    *Head
	done    bool
	err     error // with done: how it ended; nil is well
	buf     []byte
	base    int64 // how much before buf is no longer there
	fastest int64 // where the fastest reader is
	readers int
	left    bool // sealed, or the last reader left; nobody may join
}

func newFlight(window int64, cancel context.CancelFunc) *Flight {
	f := &Flight{window: int(window), cancel: cancel}
	f.changed.L = &f.mu
	return f
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
	f = newFlight(c.cfg.MaxEntry, cancel)
	r = f.join(ctx)
	c.flights[k] = f
	go func() {
		defer cancel()
		defer func() {
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
	f.readers++
	r := &Reader{f: f, ctx: ctx}
	r.stop = context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.changed.Broadcast()
	})
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
	for f.readers > 0 && f.base+int64(len(f.buf))-f.fastest > int64(f.window) {
		f.changed.Wait()
	}
	if f.readers == 0 {
		return 0, context.Canceled
	}
	f.buf = append(f.buf, p...)
	if over := len(f.buf) - 2*f.window; over > 0 && f.fastest > f.base {
		// Moved in large steps, so that each byte is moved once on average.
		drop := min(int(f.fastest-f.base), len(f.buf)-f.window)
		f.buf = append(f.buf[:0], f.buf[drop:]...)
		f.base += int64(drop)
	}
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

// End ends the answer; err is nil when all of it came. What is called after the first time does nothing.
func (f *Flight) End(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return
	}
	f.done, f.err = true, err
	f.changed.Broadcast()
}

// Reader is one caller's view of an answer. It is used by one goroutine.
type Reader struct {
	f    *Flight
	ctx  context.Context
	stop func() bool
	at   int64
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
	for r.at == f.base+int64(len(f.buf)) && !f.done && r.ctx.Err() == nil {
		f.changed.Wait()
	}
	switch {
	case r.at < f.base:
		return 0, ErrLagged
	case r.at < f.base+int64(len(f.buf)):
		n := copy(p, f.buf[r.at-f.base:])
		r.at += int64(n)
		if r.at > f.fastest {
			f.fastest = r.at
			if f.base+int64(len(f.buf))-f.fastest <= int64(f.window) {
				f.changed.Broadcast() // the producer may wait
			}
		}
		return n, nil
	case f.done && f.err != nil:
		return 0, f.err
	case f.done:
		return 0, io.EOF
	}
	return 0, context.Cause(r.ctx)
}

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
	if f.readers--; f.readers == 0 && !f.done {
		f.left = true
		f.cancel()
		f.changed.Broadcast()
	}
	return nil
}
