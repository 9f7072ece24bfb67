package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// While more calls come than an upstream takes, callers get their places when most of their time is over. Those that get one have time for the call, also
// once calls have come to take longer: places are kept busy, and hardly ever in vain.
func TestOverloadLeavesTimeForCalls(t *testing.T) {
	const patience = 10 * time.Second
	type caller func(ctx context.Context, call func(context.Context) error) error
	guard := func(t *testing.T) *limiter.Guard {
		return mustNew(t, limiter.Config{Law: adaptive.NewFixed(6), MaxWait: patience})
	}
	for name, caller := range map[string]func(*testing.T) caller{
		"Guard.Do": func(t *testing.T) caller {
			g := guard(t)
			return func(ctx context.Context, call func(context.Context) error) error {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				return g.Do(ctx, limiter.Request{}, call)
			}
		},
		"Pool.Do": func(t *testing.T) caller {
			p, err := limiter.NewPool(limiter.PoolConfig{
				Guard: limiter.Config{MaxWait: patience}, NewLaw: func() adaptive.Law { return adaptive.NewFixed(3) },
				Keys: []limiter.Secret{limiter.NewSecret("one"), limiter.NewSecret("two")},
			})
			if err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, call func(context.Context) error) error {
				ctx, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				return p.Do(ctx, limiter.Request{}, func(ctx context.Context, _ limiter.Secret) error { return call(ctx) })
			}
		},
		"http.Client.Timeout": func(t *testing.T) caller {
			g := guard(t)
			return func(ctx context.Context, call func(context.Context) error) error {
				client := &http.Client{Timeout: patience, Transport: httplimit.New(tripper(func(r *http.Request) (*http.Response, error) {
					if err := call(r.Context()); err != nil {
						return nil, err
					}
					return &http.Response{StatusCode: 200, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
				}), g, httplimit.Config{})}
				req, err := http.NewRequestWithContext(ctx, "GET", "http://search.example/", nil)
				if err != nil {
					return err
				}
				resp, err := client.Do(req)
				if err == nil {
					_ = resp.Body.Close()
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var mu sync.Mutex
				var answered, cut [2]int // of calls that were sent from 10 s to 60 s, and from 80 s to 120 s
				do := caller(t)
				call := func(ctx context.Context) error {
					sent := time.Since(began)
					takes := 1200 * time.Millisecond
					if sent >= time.Minute {
						takes *= 3
					}
					done := time.NewTimer(takes)
					defer done.Stop()
					count := &answered
					var err error
					select {
					case <-done.C:
					case <-ctx.Done():
						count, err = &cut, ctx.Err()
					}
					mu.Lock()
					defer mu.Unlock()
					switch {
					case sent > 10*time.Second && sent < time.Minute:
						count[0]++
					case sent > 80*time.Second && sent < 2*time.Minute:
						count[1]++
					}
					return err
				}
				var all sync.WaitGroup
				for range 12 * 120 {
					all.Go(func() { _ = do(context.Background(), call) })
					time.Sleep(time.Second / 12)
				}
				all.Wait()
				for i, places := range []int{250, 66} {
					if answered[i] < places*9/10 || cut[i] > places/10 {
						t.Errorf("part %d: of calls for which there were some %d places, %d were answered and %d cut off; want at least nine in ten, and at most one in ten", i+1, places, answered[i], cut[i])
					}
				}
			})
		})
	}
}

// Calls take a second, and a place comes half a second before the deadline of who waits longest: it is for who came later, with a guard and with a pool, unless that deadline
// bounds the wait alone.
func TestWaitOnlyDoesNotMakeWay(t *testing.T) {
	type acquire func(context.Context, limiter.Request) (end func(), err error)
	for name, acquirer := range map[string]func(*testing.T) acquire{
		"guard": func(t *testing.T) acquire {
			g := mustNew(t, limiter.Config{Law: adaptive.NewFixed(1)})
			return func(ctx context.Context, r limiter.Request) (func(), error) {
				p, err := g.Acquire(ctx, r)
				return func() { p.Release(limiter.Outcome{}) }, err
			}
		},
		"pool": func(t *testing.T) acquire {
			p, err := limiter.NewPool(limiter.PoolConfig{NewLaw: func() adaptive.Law { return adaptive.NewFixed(1) }, Keys: []limiter.Secret{limiter.NewSecret("one")}})
			if err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context, r limiter.Request) (func(), error) {
				kp, err := p.Acquire(ctx, r)
				return func() { kp.Release(limiter.Outcome{}, limiter.KeyFine) }, err
			}
		},
	} {
		for _, waitOnly := range []bool{false, true} {
			t.Run(fmt.Sprint(name, waitOnly), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					acquire := acquirer(t)
					var all sync.WaitGroup
					call := func(deadline time.Duration, r limiter.Request) (refused bool) {
						ctx, cancel := context.WithTimeout(context.Background(), deadline)
						defer cancel()
						end, err := acquire(ctx, r)
						if err == nil {
							time.Sleep(time.Second)
							end()
							return false
						}
						if !errors.Is(err, limiter.ErrRejected) {
							t.Error(err)
						}
						return true
					}
					for range 8 { // of whom the first has a place at once
						all.Go(func() {
							if call(time.Minute, limiter.Request{}) {
								t.Error("refused with a minute")
							}
						})
						synctest.Wait()
					}
					time.Sleep(500 * time.Millisecond)
					var refused bool
					all.Go(func() { refused = call(8*time.Second, limiter.Request{WaitOnly: waitOnly}) }) // its place comes after 7.5 s
					synctest.Wait()
					all.Go(func() { call(time.Minute, limiter.Request{}) })
					all.Wait()
					if refused == waitOnly {
						t.Errorf("refused: %v", refused)
					}
				})
			})
		}
	}
}
