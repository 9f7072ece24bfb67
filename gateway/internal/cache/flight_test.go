package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
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

// An answer of many windows that comes at once reaches all who read it, also those whose turn to read comes after that of another one. Who reads
// no more holds them up for a while, and is cut off.
func TestFlightOfManyWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 10 << 20
		c := New(Config{MaxEntry: 1 << 20})
		produce := func(_ context.Context, f *Flight) {
			f.Begin(&Head{Status: 200})
			time.Sleep(time.Second) // all readers are there
			for range size >> 15 {
				if _, err := f.Write(make([]byte, 1<<15)); err != nil {
					t.Errorf("Write: %v", err)
				}
			}
			f.End(nil)
		}
		var all sync.WaitGroup
		for i := range 4 {
			r, _ := c.Join(t.Context(), Key{1}, produce)
			all.Go(func() {
				defer r.Close()
				n, buf := 0, make([]byte, 1<<15)
				for began := time.Now(); ; time.Sleep(time.Duration(i) * 100 * time.Microsecond) {
					m, err := r.Read(buf)
					n += m
					if err == nil {
						continue
					}
					if took := time.Since(began); err != io.EOF || n != size || took > time.Second+patience+100*time.Millisecond {
						t.Errorf("reader %d got %d bytes within %v, and %v", i, n, took, err)
					}
					return
				}
			})
		}
		stuck, _ := c.Join(t.Context(), Key{1}, produce)
		defer stuck.Close()
		all.Wait()
		if _, err := stuck.Read(make([]byte, 1)); !errors.Is(err, ErrLagged) {
			t.Errorf("who did not read got %v, want %v", err, ErrLagged)
		}
	})
}

// sends returns a producer of an answer of so many bytes, with a pause before some of its pieces, that says when it had written all.
func sends(size int, pauses ...int) (produce func(context.Context, *Flight), wrote chan time.Time) {
	wrote = make(chan time.Time, 1)
	return func(_ context.Context, f *Flight) {
		f.Begin(&Head{Status: 200})
		for i := range size >> 8 {
			if slices.Contains(pauses, i) {
				time.Sleep(time.Second)
			}
			if _, err := f.Write(make([]byte, 1<<8)); err != nil {
				break
			}
		}
		f.End(nil)
		wrote <- time.Now()
	}, wrote
}

// Who leaves while it is waited for is waited for no longer.
func TestFlightDoesNotWaitForWhoHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 1 << 10})
		began := time.Now()
		produce, wrote := sends(10<<10, 0)
		r, _ := c.Join(t.Context(), Key{1}, produce)
		defer r.Close()
		stuck, _ := c.Join(t.Context(), Key{1}, nil)
		time.AfterFunc(1100*time.Millisecond, func() { _ = stuck.Close() })
		if n, err := io.Copy(io.Discard, r); n != 10<<10 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if took := (<-wrote).Sub(began); took != 1100*time.Millisecond {
			t.Errorf("it took %v, want until the other one left after 1.1s", took)
		}
	})
}

// Who is left when faster ones have left is waited for as one alone, however slow it was.
func TestFlightWaitsForWhoIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxEntry: 1 << 10})
		produce, wrote := sends(10<<10, 0, 6) // after the sixth, for which it has waited for the slow one
		slow, _ := c.Join(t.Context(), Key{1}, produce)
		defer slow.Close()
		fast, _ := c.Join(t.Context(), Key{1}, nil)
		if n, err := io.CopyN(io.Discard, fast, 1536); n != 1536 || err != nil {
			t.Errorf("the fast one got %d bytes, and %v", n, err)
		}
		_ = fast.Close()
		time.Sleep(2 * patience)
		if n, err := io.Copy(io.Discard, slow); n != 10<<10 || err != nil {
			t.Fatalf("who is left got %d bytes, and %v", n, err)
		}
		<-wrote
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
		const flights, size = 32, 2 << 20
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
			if i%2 == 0 { // so many that memory stays short for longer than they are waited for
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
			t.Errorf("none of %d slow readers was cut off", flights/2)
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
