// Package failsafesim lets failsafe-go's adaptive limiter meet the simulator's scenarios, so that it can be compared with the other
// controllers. It is a module of its own, so that nobody else links failsafe-go.
//
// The library reads the process's clock and starts goroutines, so it cannot run in the simulator's event loop. Here the same upstream
// (package modelserver) and the same callers run as goroutines, in a bubble of testing/synctest, where time is virtual:
//
//	go test -v ./contrib/failsafesim
//
// prints a row for each scenario and controller. The rows of controllers that the simulator has, too, are held against the
// simulator's own: the two ways to run a world agree, so that the rows of failsafe-go can be compared with the simulator's table.
package failsafesim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/limiter"
)

// A Gate is what a caller passes before each attempt. Enter waits at most until ctx ends; leave is called once with what
// became of the attempt. An error of Enter is a refusal, unless ctx has ended.
type Gate interface {
	Enter(ctx context.Context, retry bool) (leave func(o limiter.Outcome), err error)
}

// Failsafe returns failsafe-go's adaptive limiter with its defaults, in which callers wait for at most maxWait. As its executor
// does, it records every attempt that was answered, refusals too, and drops those whose caller gave up.
func Failsafe(maxWait time.Duration) Gate {
	return &failsafe{adaptivelimiter.NewWithDefaults[any](), maxWait}
}

type failsafe struct {
	limiter adaptivelimiter.AdaptiveLimiter[any]
	wait    time.Duration
}

func (f *failsafe) Enter(ctx context.Context, _ bool) (func(limiter.Outcome), error) {
	p, err := f.limiter.AcquirePermitWithMaxWait(ctx, f.wait)
	if err != nil {
		return nil, err
	}
	return func(o limiter.Outcome) {
		if o.Class == feedback.Canceled {
			p.Drop()
		} else {
			p.Record()
		}
	}, nil
}

// Guarded returns a guard of this library as a Gate.
func Guarded(g *limiter.Guard) Gate { return guarded{g} }

type guarded struct{ guard *limiter.Guard }

func (g guarded) Enter(ctx context.Context, retry bool) (func(limiter.Outcome), error) {
	p, err := g.guard.Acquire(ctx, limiter.Request{Retry: retry})
	if err != nil {
		return nil, err
	}
	return func(o limiter.Outcome) { p.Release(o) }, nil
}

// Open returns no gate at all.
func Open() Gate { return open{} }

type open struct{}

func (open) Enter(context.Context, bool) (func(limiter.Outcome), error) {
	return func(limiter.Outcome) {}, nil
}

// streams of random numbers, with the numbers that package sim has: the same arrivals, and the same back-off.
const (
	streamArrival draw.Stream = 1
	streamBackoff draw.Stream = 5
)

// Run runs a world with requests that arrive at random (sim.Poisson), each of which passes the gate. It must be called in a bubble of
// testing/synctest. bound is what nobody could exceed. The world's own guard is not used.
func Run(ctx context.Context, w sim.Config, bound *sim.Limits, gate Gate) (report.Summary, error) {
	if w.Workload.Kind != sim.Poisson || len(w.Replicas) > 1 || w.Workload.Timeout > 0 {
		return report.Summary{}, errors.New("failsafesim: only requests of one process that arrive at random, without a timeout for attempts")
	}
	up := w.Upstream
	up.Seed = w.Seed
	server, err := modelserver.New(modelserver.Config{Upstream: up, Network: w.RTT})
	if err != nil {
		return report.Summary{}, err
	}
	defer server.Close()
	r := &run{world: &w, server: server, gate: gate, began: time.Now(), bound: bound, budget: 100}
	stop, cancel := context.WithTimeout(ctx, w.Duration+w.Drain)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { r.change(stop) })
	for n := uint64(0); ; n++ {
		due := r.next(n)
		if due >= w.Duration {
			break
		}
		if limiter.Sleep(stop, due-time.Since(r.began)) != nil {
			break
		}
		all.Go(func() { r.request(stop, n, due) })
	}
	all.Wait()
	return r.summary(), nil
}

type run struct {
	world  *sim.Config
	server *modelserver.Server
	gate   Gate
	began  time.Time
	bound  *sim.Limits

	at     time.Duration // of the last arrival
	mu     sync.Mutex    // guards what follows
	s      report.Summary
	in     int64 // successes within the horizon
	lat    []time.Duration
	budget float64
}

// next returns when the n-th request arrives: the same as in the simulator.
func (r *run) next(n uint64) time.Duration {
	need := draw.Exp(r.world.Seed, streamArrival, n) // integrated rate
	rate, from := r.world.Workload.Rate, r.at
	for _, c := range r.world.Changes {
		if c.Param != sim.ParamRate {
			continue
		}
		if c.At <= from {
			rate = c.To
			continue
		}
		if has := rate * (c.At - from).Seconds(); has < need {
			need, from, rate = need-has, c.At, c.To
			continue
		}
		break
	}
	r.at = from + time.Duration(need/rate*1e9)
	return r.at
}

// change makes the changes of the upstream.
func (r *run) change(ctx context.Context) {
	for _, c := range r.world.Changes {
		if c.Param == sim.ParamRate {
			continue
		}
		if limiter.Sleep(ctx, c.At-time.Since(r.began)) != nil {
			return
		}
		r.server.Set(c.Param, c.To)
	}
}

// request is one caller.
func (r *run) request(ctx context.Context, n uint64, due time.Duration) {
	w := &r.world.Workload
	r.count(func() { r.s.Offered++ })
	own, cancel := ctx, context.CancelFunc(func() {})
	if w.Patience > 0 {
		own, cancel = context.WithDeadline(ctx, r.began.Add(due+w.Patience))
	}
	defer cancel()
	for attempt := 1; ; attempt++ {
		leave, err := r.gate.Enter(own, attempt > 1)
		if err != nil {
			r.lost(ctx, own, true)
			return
		}
		r.count(func() { r.s.Sent++ })
		res, err := r.server.Do(own, modelserver.Call{})
		if err != nil {
			leave(limiter.Outcome{Class: feedback.Canceled})
			r.lost(ctx, own, false)
			return
		}
		sig := feedback.Parse(feedback.Answer{Status: res.Status, Header: res.Header, Body: res.Body, Now: time.Now()})
		leave(limiter.OutcomeFrom(sig))
		if sig.Class == feedback.OK {
			r.succeeded(due)
			return
		}
		rest, again := r.rest(n, attempt, &sig, due)
		if res.Status == 429 {
			r.count(func() { r.s.Rejected429++ })
		}
		if !again {
			r.count(func() { r.s.Failed++ })
			return
		}
		if limiter.Sleep(own, rest) != nil {
			r.lost(ctx, own, false)
			return
		}
	}
}

func (r *run) count(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// lost counts a request that did not succeed: its run ended, its caller gave up, or it was refused at the gate.
func (r *run) lost(run, own context.Context, gate bool) {
	r.count(func() {
		switch {
		case run.Err() != nil:
			r.s.Unfinished++
		case own.Err() == nil && gate:
			r.s.Refused++
		default:
			r.s.Failed++
		}
	})
}

func (r *run) succeeded(due time.Duration) {
	now := time.Since(r.began)
	r.count(func() {
		r.s.OK++
		if now <= r.bound.Horizon {
			r.in++
		}
		r.lat = append(r.lat, now-due)
		r.budget = min(100, r.budget+r.world.Workload.Retry.Budget)
	})
}

// rest returns how long a request rests after its attempt, as sim.Retry says.
func (r *run) rest(n uint64, attempt int, s *feedback.Signal, due time.Duration) (time.Duration, bool) {
	p := &r.world.Workload.Retry
	if !s.Retryable || attempt >= p.Attempts || p.MaxPause > 0 && s.HasRetryAfter && s.RetryAfter > p.MaxPause {
		return 0, false
	}
	most := p.Max
	if k := attempt - 1; k < 30 {
		most = min(p.Max, p.Base<<k)
	}
	u := draw.U(r.world.Seed, streamBackoff, n<<8|uint64(attempt))
	rest := time.Duration(u * float64(most))
	if s.HasRetryAfter {
		rest = s.RetryAfter + time.Duration(u*float64(min(most, s.RetryAfter/20)))
	}
	if w := r.world.Workload.Patience; w > 0 && time.Since(r.began)+rest >= due+w {
		return 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Budget > 0 {
		if r.budget < 1 {
			return 0, false
		}
		r.budget--
	}
	return rest, true
}

func (r *run) summary() report.Summary {
	s := r.s
	s.Seeds = 1
	s.Goodput = float64(r.in) / float64(max(1, r.bound.OK))
	s.GoodputLow, s.GoodputHigh = s.Goodput, s.Goodput
	s.GoodputRate = float64(r.in) / r.bound.Horizon.Seconds()
	s.RejectedPerOK = report.RejectedPerOK(s.Rejected429, s.OK)
	s.Mean, s.P50, s.P90, s.P99 = report.Latencies(slices.Clone(r.lat))
	s.NoLevel = true
	s.Regret, s.RegretStatic, s.RegretPiecewise = 1-report.Value(s.Goodput, s.Rejected429, s.Sent), math.NaN(), math.NaN()
	return s
}

// Row writes a summary as a row with the columns of Head.
func Row(scenario, controller string, s *report.Summary) string {
	return fmt.Sprintf("%-18s %-18s %7.1f %% %10.3f %9.2f s %9.2f s", scenario, controller, 100*s.Goodput, s.RejectedPerOK, s.P50.Seconds(), s.P99.Seconds())
}

// Head is the head of the rows: goodput as a share of the oracle's, 429s per success, and latencies from the intended arrival.
const Head = "scenario           controller           goodput  429s per ok         p50         p99"
