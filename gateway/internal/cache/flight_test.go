package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Each reader gets all bytes, whatever its pace, as long as it is less than a window behind; the producer is held up by nobody but the
// fastest.
func TestFlightReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 1 << 10})
		want := make([]byte, 64<<10)
		_, _ = rand.NewChaCha8([32]byte{}).Read(want)
		produce := func(_ context.Context, f *Flight) {
			f.Begin(&Head{Status: 200})
			time.Sleep(time.Second) // all readers are there
			for b := want; len(b) > 0; b = b[min(100, len(b)):] {
				if _, err := f.Write(b[:min(100, len(b))]); err != nil {
					t.Errorf("Write: %v", err)
				}
				time.Sleep(time.Millisecond)
			}
			f.End(nil)
		}
		var all sync.WaitGroup
		results := make([]error, 5)
		for i := range results {
			r, lead := c.Join(t.Context(), Key{1}, produce)
			if lead != (i == 0) {
				t.Errorf("reader %d leads: %v", i, lead)
			}
			all.Go(func() {
				defer r.Close()
				if h, err := r.Head(); err != nil || h.Status != 200 {
					t.Errorf("Head: %v %v", h, err)
				}
				var got bytes.Buffer
				buf := make([]byte, 1+i*50)
				for {
					n, err := r.Read(buf)
					got.Write(buf[:n])
					if err == io.EOF {
						break
					}
					if err != nil {
						results[i] = err
						return
					}
					if i == 4 {
						time.Sleep(time.Second) // far too slow
					}
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("reader %d got %d bytes, which are not the answer", i, got.Len())
				}
			})
		}
		began := time.Now()
		all.Wait()
		for i, err := range results {
			if i < 4 && err != nil || i == 4 && !errors.Is(err, ErrLagged) {
				t.Errorf("reader %d: %v", i, err)
			}
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("that took %v: somebody was held up", d)
		}
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.flights) != 0 {
			t.Error("the flight is still there")
		}
	})
}

// One reader alone is waited for, however slow it is.
func TestFlightWaitsForItsOnlyReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 100})
		r, _ := c.Join(t.Context(), Key{1}, func(_ context.Context, f *Flight) {
			f.Begin(&Head{Status: 200})
			for range 100 {
				if _, err := f.Write(make([]byte, 100)); err != nil {
					t.Error(err)
				}
			}
			f.End(nil)
		})
		defer r.Close()
		n := 0
		for {
			m, err := r.Read(make([]byte, 30))
			n += m
			if err != nil {
				if err != io.EOF || n != 10_000 {
					t.Errorf("%d bytes, %v", n, err)
				}
				break
			}
			time.Sleep(time.Second)
		}
	})
}

// Who leaves is not waited for; when the last has left, the producer is told, and the next caller starts another.
func TestFlightEndsWithItsReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 100})
		ended := make(chan error, 2)
		produce := func(ctx context.Context, f *Flight) {
			<-ctx.Done()
			_, err := f.Write([]byte("x"))
			ended <- err
			f.End(ctx.Err())
		}
		a, _ := c.Join(t.Context(), Key{1}, produce)
		ctx, cancel := context.WithCancel(t.Context())
		b, lead := c.Join(ctx, Key{1}, produce)
		if lead {
			t.Error("a second flight")
		}
		_ = a.Close()
		_ = a.Close()
		cancel()
		if _, err := b.Head(); !errors.Is(err, context.Canceled) {
			t.Errorf("Head: %v", err)
		}
		select {
		case <-ended:
			t.Error("the producer was told although one reader is there")
		default:
		}
		_ = b.Close()
		if err := <-ended; err == nil {
			t.Error("it writes for nobody")
		}
		synctest.Wait()
		other, lead := c.Join(t.Context(), Key{1}, produce)
		if !lead {
			t.Error("a flight that everybody left takes new readers")
		}
		_ = other.Close()
		<-ended
	})
}

// Readers that come, read a while and leave, and answers that fail, leave nothing behind.
func TestFlightStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 1 << 12})
		var all sync.WaitGroup
		for w := range 16 {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			all.Go(func() {
				for range 200 {
					k := Key{byte(rnd.IntN(3))}
					size, fail := rnd.IntN(1<<14), rnd.IntN(4) == 0
					ctx, cancel := context.WithCancel(t.Context())
					r, _ := c.Join(ctx, k, func(ctx context.Context, f *Flight) {
						if fail {
							f.End(fmt.Errorf("failed"))
							return
						}
						f.Begin(&Head{Status: 200})
						for n := 0; n < size; n += 512 {
							if _, err := f.Write(make([]byte, 512)); err != nil {
								f.End(err)
								return
							}
						}
						f.End(nil)
					})
					if rnd.IntN(5) == 0 {
						cancel()
					}
					if _, err := r.Head(); err == nil {
						_, _ = io.CopyN(io.Discard, r, int64(rnd.IntN(1<<14)))
					}
					_ = r.Close()
					cancel()
				}
			})
		}
		all.Wait()
		synctest.Wait() // producers end by themselves
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.flights) > 0 {
			t.Errorf("%d flights are left", len(c.flights))
		}
	})
}

// Nobody joins a sealed answer; whoever reads it has all of it.
func TestFlightSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 1 << 10})
		more := make(chan struct{})
		first, _ := c.Join(t.Context(), Key{1}, func(_ context.Context, f *Flight) {
			f.Begin(&Head{Status: 500, ContentLength: 4})
			_, _ = f.Write([]byte("ab"))
			if body, ok := f.Whole([]byte("cd")); !ok || string(body) != "abcd" {
				t.Errorf("whole: %q %v", body, ok)
			}
			f.Seal()
			_, _ = f.Write([]byte("cd"))
			<-more
			f.End(nil)
		})
		defer first.Close()
		synctest.Wait()
		second, lead := c.Join(t.Context(), Key{1}, func(_ context.Context, f *Flight) { f.End(errors.New("the second")) })
		defer second.Close()
		if _, err := second.Head(); !lead || err == nil {
			t.Errorf("who came after the seal leads: %v, %v", lead, err)
		}
		close(more)
		if body, err := io.ReadAll(first); err != nil || string(body) != "abcd" {
			t.Errorf("%q %v", body, err)
		}
	})
}

// While answers that are coming take more memory than they may, each keeps little, whoever reads alone loses nothing, and one that is far
// behind is cut off; when they have ended, nothing is counted.
func TestFlightsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 8 << 20})
		const flights, size = 16, 2 << 20
		part := make([]byte, 32<<10)
		most := int64(0)
		produce := func(_ context.Context, f *Flight) {
			f.Begin(&Head{Status: 200})
			for n := 0; n < size; n += len(part) {
				if _, err := f.Write(part); err != nil {
					f.End(err)
					return
				}
				time.Sleep(time.Millisecond)
			}
			f.End(nil)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		read := func(r *Reader, pause time.Duration) (n int64, err error) {
			defer r.Close()
			buf := make([]byte, 32<<10)
			for {
				m, err := r.Read(buf)
				n += int64(m)
				mu.Lock()
				most = max(most, c.coming.used.Load())
				mu.Unlock()
				if err != nil {
					return n, err
				}
				time.Sleep(pause)
			}
		}
		lagged := 0
		for i := range flights {
			k := Key{byte(i)}
			r, _ := c.Join(t.Context(), k, produce)
			all.Go(func() {
				n, err := read(r, time.Millisecond)
				if n != size || err != io.EOF {
					t.Errorf("a reader of its own got %d bytes and %v", n, err)
				}
			})
			if i%4 == 0 {
				slow, lead := c.Join(t.Context(), k, nil)
				if lead {
					t.Fatal("the second reader leads")
				}
				all.Go(func() {
					if _, err := read(slow, time.Second); errors.Is(err, ErrLagged) {
						mu.Lock()
						lagged++
						mu.Unlock()
					}
				})
			}
		}
		all.Wait()
		if lagged == 0 {
			t.Errorf("none of %d slow readers was cut off", flights/4)
		}
		// Each flight may be over by what it has when memory runs short, and that is a part of one.
		if most > 2*leastComing {
			t.Errorf("%d MiB at most, want some %d", most>>20, leastComing>>20)
		}
		if n := c.coming.used.Load(); n != 0 {
			t.Errorf("%d bytes are counted at the end", n)
		}
	})
}

// A producer that panics ends its flight, and not the process: it has a goroutine of its own, where nobody else would stop it. The next
// caller starts another one.
func TestProducerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told any
		c := New(Config{MaxEntry: 100, OnPanic: func(v any, stack []byte) {
			if told = v; !bytes.Contains(stack, []byte("TestProducerPanics")) {
				t.Errorf("the stack does not say where it panicked: %s", stack)
			}
		}})
		r, _ := c.Join(t.Context(), Key{1}, func(context.Context, *Flight) { panic("a mistake") })
		defer r.Close()
		if _, err := r.Head(); !errors.Is(err, ErrPanicked) {
			t.Errorf("Head: %v, want %v", err, ErrPanicked)
		}
		synctest.Wait()
		if told != "a mistake" {
			t.Errorf("OnPanic was told %v", told)
		}
		next, lead := c.Join(t.Context(), Key{1}, func(_ context.Context, f *Flight) { f.End(nil) })
		defer next.Close()
		if !lead {
			t.Error("the next caller joined the flight that ended")
		}
	})
}
