package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/ratelimiter"
	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"
	pmlimiter "github.com/platinummonkey/go-concurrency-limits/limiter"
	"github.com/platinummonkey/go-concurrency-limits/strategy"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// A contender is one way to limit calls. What it cannot do is nil.
type contender struct {
	name string
	// pairs lets n calls through, one after the other; any number of goroutines may run it. The loop
	// is in here so that the calls in it can be inlined as in a program.
	pairs func(n int)
	// hold waits for a place, calls in, and gives the place back.
	hold func(ctx context.Context, in func()) error
	// refuse asks n times, without waiting, while all places are taken.
	refuse func(n int)
}

// live is a context that could end, as a request's can, and that lasts until end is called.
var live, end = context.WithCancel(context.Background())

// errFull is what a contender that cannot say more returns from hold.
var errFull = errors.New("bench: no place")

// atomicPair is the reference A: the least that counting calls in flight costs.
func atomicPair() contender {
	var line struct {
		_ [64]byte
		n atomic.Int64
		_ [64]byte
	}
	l := &line
	return contender{name: "A: atomic add and sub", pairs: func(n int) {
		for range n {
			l.n.Add(1)
			l.n.Add(-1)
		}
	}}
}

// clockPair is the reference F: the least that timing and counting calls costs.
func clockPair() contender {
	var line struct {
		_ [64]byte
		n atomic.Int64
		_ [64]byte
	}
	l := &line
	base := time.Now()
	return contender{name: "F: clock, A, clock", pairs: func(n int) {
		var sum time.Duration
		for range n {
			start := time.Since(base)
			l.n.Add(1)
			l.n.Add(-1)
			sum += time.Since(base) - start
		}
		if sum < 0 {
			panic("bench: the clock went back")
		}
	}}
}

// selectChannel is the semaphore that most programs write: a channel, and select on the context.
func selectChannel(limit int) contender {
	places := make(chan struct{}, limit)
	ctx := live
	return contender{
		name: "channel, select on ctx.Done",
		pairs: func(n int) {
			for range n {
				select {
				case places <- struct{}{}:
				case <-ctx.Done():
					panic(ctx.Err())
				}
				<-places
			}
		},
		hold: func(ctx context.Context, in func()) error {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			in()
			<-places
			return nil
		},
		refuse: func(n int) {
			for range n {
				select {
				case places <- struct{}{}:
					panic(errFull)
				default:
				}
			}
		},
	}
}

// xSync is golang.org/x/sync/semaphore.
func xSync(limit int) contender {
	s := semaphore.NewWeighted(int64(limit))
	ctx := live
	return contender{
		name: "x/sync semaphore",
		pairs: func(n int) {
			for range n {
				if err := s.Acquire(ctx, 1); err != nil {
					panic(err)
				}
				s.Release(1)
			}
		},
		hold: func(ctx context.Context, in func()) error {
			if err := s.Acquire(ctx, 1); err != nil {
				return err
			}
			in()
			s.Release(1)
			return nil
		},
		refuse: func(n int) {
			for range n {
				if s.TryAcquire(1) {
					panic(errFull)
				}
			}
		},
	}
}

// xRate is golang.org/x/time/rate with a rate that never binds, or, to be refused, one that is used up.
func xRate() contender {
	l := rate.NewLimiter(1e9, 1<<30)
	empty := rate.NewLimiter(1e-9, 1)
	return contender{
		name: "x/time rate, Allow",
		pairs: func(n int) {
			for range n {
				if !l.Allow() {
					panic(errFull)
				}
			}
		},
		refuse: func(n int) {
			empty.Allow()
			for range n {
				if empty.Allow() {
					panic(errFull)
				}
			}
		},
	}
}

func failsafeLimiter(limit int) adaptivelimiter.AdaptiveLimiter[any] {
	n := uint(limit)
	return adaptivelimiter.NewBuilder[any]().WithLimits(n, n, n).Build()
}

// failsafeAdaptive is failsafe-go's adaptive limiter by itself.
func failsafeAdaptive(limit int) contender {
	l := failsafeLimiter(limit)
	ctx := live
	return contender{
		name: "failsafe-go adaptive limiter",
		pairs: func(n int) {
			for range n {
				p, err := l.AcquirePermit(ctx)
				if err != nil {
					panic(err)
				}
				p.Record()
			}
		},
		hold: func(ctx context.Context, in func()) error {
			p, err := l.AcquirePermit(ctx)
			if err != nil {
				return err
			}
			in()
			p.Record()
			return nil
		},
		refuse: func(n int) {
			for range n {
				if _, ok := l.TryAcquirePermit(); ok {
					panic(errFull)
				}
			}
		},
	}
}

// failsafeBulkhead is failsafe-go's fixed limit.
func failsafeBulkhead(limit int) contender {
	b := bulkhead.New[any](uint(limit))
	ctx := live
	return contender{
		name: "failsafe-go bulkhead",
		pairs: func(n int) {
			for range n {
				if err := b.AcquirePermit(ctx); err != nil {
					panic(err)
				}
				b.ReleasePermit()
			}
		},
		hold: func(ctx context.Context, in func()) error {
			if err := b.AcquirePermit(ctx); err != nil {
				return err
			}
			in()
			b.ReleasePermit()
			return nil
		},
		refuse: func(n int) {
			for range n {
				if b.TryAcquirePermit() {
					panic(errFull)
				}
			}
		},
	}
}

// failsafeExecutor is what failsafe-go documents for a client: a rate limit, a circuit breaker and the
// adaptive limiter around a function.
func failsafeExecutor(limit int) contender {
	e := failsafe.With(
		ratelimiter.NewBursty[any](1<<30, time.Second),
		circuitbreaker.NewWithDefaults[any](),
		failsafeLimiter(limit),
	)
	ctx := live
	nothing := func() error { return nil }
	return contender{
		name: "failsafe-go executor: rate, breaker, adaptive",
		pairs: func(n int) {
			e := e.WithContext(ctx)
			for range n {
				if err := e.Run(nothing); err != nil {
					panic(err)
				}
			}
		},
	}
}

// pmDefault is go-concurrency-limits with its defaults (a Vegas law), which refuses when it is full.
func pmDefault(places int) contender {
	l, err := pmlimiter.NewDefaultLimiterWithDefaults("bench", strategy.NewSimpleStrategy(places),
		limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
	if err != nil {
		panic(err)
	}
	c := pmContender("go-concurrency-limits default", l)
	c.hold = nil // it does not wait
	full := pmFixed(1)
	if _, ok := full.Acquire(context.Background()); !ok {
		panic(errFull)
	}
	c.refuse = func(n int) {
		for range n {
			if _, ok := full.Acquire(context.Background()); ok {
				panic(errFull)
			}
		}
	}
	return c
}

// pmBlocking is go-concurrency-limits with a constant limit, whose callers wait.
func pmBlocking(places int) contender {
	return pmContender("go-concurrency-limits blocking",
		pmlimiter.NewBlockingLimiter(pmFixed(places), 0, limit.NoopLimitLogger{}))
}

func pmFixed(places int) core.Limiter {
	l, err := pmlimiter.NewDefaultLimiter(limit.NewFixedLimit("bench", places, core.EmptyMetricRegistryInstance),
		int64(time.Second), int64(time.Second), 1e5, 100,
		strategy.NewSimpleStrategy(places), limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
	if err != nil {
		panic(err)
	}
	return l
}

func pmContender(name string, l core.Limiter) contender {
	ctx := live
	return contender{
		name: name,
		pairs: func(n int) {
			for range n {
				p, ok := l.Acquire(ctx)
				if !ok {
					panic(errFull)
				}
				p.OnSuccess()
			}
		},
		hold: func(ctx context.Context, in func()) error {
			p, ok := l.Acquire(ctx)
			if !ok {
				return errFull
			}
			in()
			p.OnSuccess()
			return nil
		},
	}
}

// failsafeTransport is failsafe-go's adaptive limiter as a RoundTripper over base.
func failsafeTransport(base http.RoundTripper) http.RoundTripper {
	return failsafehttp.NewRoundTripper(base, adaptivelimiter.NewBuilder[*http.Response]().WithLimits(64, 64, 64).Build())
}
