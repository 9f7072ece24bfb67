package scenario

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/stats"
)

// A Trial is one controller in one scenario with one seed.
type Trial struct {
	Scenario   *Scenario
	Controller Controller
	// Settings are the guard's parameters and the callers' retry policy, where the scenario has none of its own.
	Settings *config.Settings
	Seed     uint64
	// Decisions says that the controller's decisions are kept, and Measure that Outcome.Measures is computed, which costs some
	// milliseconds.
	Decisions, Measure bool
}

// An Outcome is a finished trial.
type Outcome struct {
	Summary   report.Summary
	Series    report.Series
	Decisions []report.Decision
	// Measures are further figures, when Trial.Measure asked for them.
	Measures *sim.Measures
	// Value is that of sim.DefaultObjective.
	Value float64
	// Events is how many events the simulator went through, and Hash depends on each of them.
	Events, Hash uint64
}

// Bound returns what nobody could exceed in the trial's world. It is the same for every controller.
func (t *Trial) Bound(ctx context.Context) (*sim.Limits, error) {
	b, err := sim.Bound(ctx, t.Scenario.world(t.Settings, t.Seed))
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", t.Scenario.Name, err)
	}
	return b, nil
}

// A Worker runs trials one after the other in the same memory. The zero Worker is ready; it must not be copied, and runs one trial at a time.
type Worker struct {
	sim sim.Worker
	tmp []time.Duration
}

// OnHalf has f called in the middle and at the end of each run; see sim.Worker.
func (w *Worker) OnHalf(f func(events uint64)) { w.sim.OnHalf = f }

// Run runs the trial and scores it against its bound. The error is ctx's cause when that ended first; any other says
// that the simulator or the guard is broken.
func (t *Trial) Run(ctx context.Context, bound *sim.Limits) (*Outcome, error) {
	return new(Worker).Run(ctx, t, bound)
}

// Run is Trial.Run in the worker's memory. The outcome does not depend on what the worker ran before.
func (w *Worker) Run(ctx context.Context, t *Trial, bound *sim.Limits) (*Outcome, error) {
	world := t.Scenario.world(t.Settings, t.Seed)
	world.Horizon = bound.Horizon
	world.Decisions, world.Samples = t.Decisions, t.Measure || world.Workload.Streams
	world.Guard = t.Controller.guard(t.Scenario, t.Settings, t.Seed)
	t.Controller.callers(&world)
	res, err := w.sim.Run(ctx, world)
	if err != nil {
		return nil, fmt.Errorf("scenario %s, controller %s, seed %d: %w", t.Scenario.Name, t.Controller.Name, t.Seed, err)
	}
	if bound.Exact && res.InTime > bound.OK {
		return nil, fmt.Errorf("scenario %s, controller %s, seed %d: %w", t.Scenario.Name, t.Controller.Name, t.Seed, &sim.InvariantError{
			Name: "oracle", Text: fmt.Sprintf("%d successes, nobody could have more than %d", res.InTime, bound.OK),
		})
	}
	return w.outcome(t, res, bound), nil
}

// outcome scores a run.
func (w *Worker) outcome(t *Trial, res *sim.Result, bound *sim.Limits) *Outcome {
	// Their order does not matter to what follows.
	for _, list := range [][]time.Duration{res.Latencies, res.FirstBytes, res.PerToken, res.Waits} {
		w.tmp = sim.Sort(list, w.tmp)
	}
	o := &Outcome{Summary: summary(res, bound), Series: series(&res.Series), Value: sim.DefaultObjective(bound)(res), Events: res.Events, Hash: res.Hash}
	// The largest limit that there is stands for none: a law that only paces has it.
	for i, l := range o.Series.Limit {
		if l >= adaptive.MaxLimit {
			o.Series.Limit[i] = math.NaN()
		}
	}
	if o.Summary.MeanLimit >= adaptive.MaxLimit {
		o.Summary.MeanLimit = math.NaN()
	}
	o.Summary.Swing = stats.Swing(o.Series.Limit)
	if t.Decisions {
		o.Decisions = decisions(res.Decisions)
		for i := range o.Decisions {
			if o.Decisions[i].Limit >= adaptive.MaxLimit {
				o.Decisions[i].Limit = 0
			}
		}
	}
	m := sim.Measure(res, bound)
	if len(res.Replicas) > 1 && !math.IsNaN(m.Jain) {
		o.Summary.Fairness = m.Jain
	}
	o.Summary.RejectedSteady, o.Summary.RejectedTransient = m.RejectedSteady, m.RejectedTransient
	o.Summary.Overshoot, o.Summary.Herd, o.Summary.Wasted, o.Summary.Inside = m.Overshoot, m.Herd, m.Wasted, m.Inside
	settling(&o.Summary, m.Phases)
	if t.Measure {
		o.Measures = &m
	}
	return o
}

// Best finds the best constant limit in the trial's world, or with piecewise the best limits that change when the world does, and returns what
// came of it. The trial's controller says only whether a Retry-After is waited for. It takes some 15 runs, or 15 for each change of the world.
func (w *Worker) Best(ctx context.Context, t *Trial, bound *sim.Limits, piecewise bool) (*Outcome, *sim.Best, error) {
	world := t.Scenario.world(t.Settings, t.Seed)
	world.Horizon, world.Samples = bound.Horizon, world.Workload.Streams
	if world.Guard = t.Controller.guard(t.Scenario, t.Settings, t.Seed); world.Guard == nil {
		world.Guard = Controller{kind: kindFixed, limit: 1}.guard(t.Scenario, t.Settings, t.Seed)
	}
	find := sim.BestStatic
	if piecewise {
		find = sim.BestPiecewise
	}
	b, err := find(ctx, world, sim.DefaultObjective(bound))
	if err != nil {
		return nil, nil, fmt.Errorf("scenario %s, best limits, seed %d: %w", t.Scenario.Name, t.Seed, err)
	}
	o := w.outcome(t, b.Result, bound)
	o.Summary.Regret = 1 - report.Value(o.Summary.Goodput, o.Summary.Rejected429, o.Summary.Sent)
	return o, b, nil
}

// OracleOf describes the bounds of a scenario's seeds for a report. Nil ones are left out.
func OracleOf(bounds []*sim.Limits) report.Oracle { return oracle(bounds) }
