// Package lab runs experiments: controllers meet scenarios with seeds, on several cores, and what comes of it does not depend on
// how many. [Lab.Run] runs a list of trials; [Lab.Table] makes the report of a whole comparison, with seeds added until it is decided.
package lab

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/sim"
)

// A Lab runs trials. What nobody could exceed is found once for each scenario and seed. It must not be copied; its
// methods may be called one at a time.
type Lab struct {
	// CPUs is how many trials run at the same time (>= 1).
	CPUs int
	// Progress, when set, is called after each trial with how many of how many are done, one call at a time.
	Progress func(done, total int)

	// Trials and Events count what was run so far.
	Trials int
	Events uint64

	mu     sync.Mutex // guards bounds and what Progress says
	bounds map[boundKey]*bound
	long   map[longKey]uint64 // events of trials that were run

	workers []*scenario.Worker // one for each processor
}

type longKey struct {
	scenario   *scenario.Scenario
	controller string
}

type boundKey struct {
	scenario *scenario.Scenario
	seed     uint64
}

type bound struct {
	once   sync.Once
	limits *sim.Limits
	err    error
}

// Run runs trials and returns their outcomes in the same order. When ctx ends first, those that were not finished are nil and the error is
// ctx's cause. Any other error says that the simulator or a guard is broken; the rest is then given up.
func (l *Lab) Run(ctx context.Context, trials []scenario.Trial) ([]*scenario.Outcome, error) {
	outcomes := make([]*scenario.Outcome, len(trials))
	order := l.longestFirst(trials)
	err := l.each(ctx, len(trials), func(ctx context.Context, w *scenario.Worker, i int) error {
		i = order[i]
		o, err := l.one(ctx, w, &trials[i])
		outcomes[i] = o
		return err
	})
	if l.long == nil {
		l.long = map[longKey]uint64{}
	}
	for i, o := range outcomes {
		if o != nil {
			l.Trials++
			l.Events += o.Events
			l.long[longKey{trials[i].Scenario, trials[i].Controller.Name}] = o.Events
		}
	}
	return outcomes, err
}

// Forget drops what is known of the scenarios that were run, for one that will not run them again.
func (l *Lab) Forget() { l.bounds, l.long = nil, nil }

// longestFirst returns the order in which trials are run: as they are, and of one seed those that are known to be long first, so that at the end
// no processor waits for another one's long trial. An interrupted list still has whole seeds.
func (l *Lab) longestFirst(trials []scenario.Trial) []int {
	order := make([]int, len(trials))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &trials[a], &trials[b]
		if x.Seed != y.Seed {
			return cmp.Compare(x.Seed, y.Seed)
		}
		return cmp.Compare(l.long[longKey{y.Scenario, y.Controller.Name}], l.long[longKey{x.Scenario, x.Controller.Name}])
	})
	return order
}

// each calls f for 0 to n-1, CPUs at a time, until ctx ends or one returns an error, and returns ctx's cause, or that error, when not all were
// called.
func (l *Lab) each(ctx context.Context, n int, f func(ctx context.Context, w *scenario.Worker, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		next atomic.Int64
		done int
		wg   sync.WaitGroup
	)
	for len(l.workers) < max(1, l.CPUs) {
		l.workers = append(l.workers, &scenario.Worker{})
	}
	for _, w := range l.workers[:max(1, min(l.CPUs, n))] {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(ctx, w, i); err != nil {
					cancel(err) // ctx's own cause stays what it is
					return
				}
				l.mu.Lock()
				done++
				if l.Progress != nil {
					l.Progress(done, n)
				}
				l.mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil && done < n {
		return context.Cause(ctx)
	}
	return nil
}

func (l *Lab) one(ctx context.Context, w *scenario.Worker, t *scenario.Trial) (*scenario.Outcome, error) {
	b, err := l.bound(ctx, t)
	if err != nil {
		return nil, err
	}
	return w.Run(ctx, t, b)
}

// bound returns what nobody could exceed in a trial's world.
func (l *Lab) bound(ctx context.Context, t *scenario.Trial) (*sim.Limits, error) {
	key := boundKey{t.Scenario, t.Seed}
	l.mu.Lock()
	b := l.bounds[key]
	if b == nil {
		if l.bounds == nil {
			l.bounds = map[boundKey]*bound{}
		}
		b = &bound{}
		l.bounds[key] = b
	}
	l.mu.Unlock()
	b.once.Do(func() { b.limits, b.err = t.Bound(ctx) })
	return b.limits, b.err
}
