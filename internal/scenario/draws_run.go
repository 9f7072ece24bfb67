package scenario

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/sim"
)

// DrawResult is what one controller did in one drawn world.
type DrawResult struct {
	Draw       int    `json:"draw"`
	Kind       string `json:"kind"`
	Event      string `json:"event"`
	Controller string `json:"controller"`
	// Features are those of a wide world.
	Features []string `json:"features,omitempty"`
	// Goodput is successes as a share of the oracle's.
	Goodput float64 `json:"goodput"`
	// Rejected is 429s per success, and Steady the same in the last third of the run and, with an event, in the third before it.
	Rejected float64 `json:"rejected_per_ok"`
	Steady   float64 `json:"rejected_per_ok_steady"`
	// Settle is how long it took from the beginning until goodput was within a tenth of the oracle's, and Recover from the event until it was
	// within a twentieth of it again, as sim.Settle measures them; negative when it did not, or when there was no event.
	Settle  time.Duration `json:"settle_ns"`
	Recover time.Duration `json:"recover_ns"`
	// RoundTrip is that of the draw.
	RoundTrip time.Duration `json:"round_trip_ns"`
	Duration  time.Duration `json:"duration_ns"`
	Lost      int64         `json:"lost"` // requests that failed or were refused, of those that wait for ever
}

// DrawPlan is what RunDraws runs.
type DrawPlan struct {
	Seed        uint64
	First, N    int
	Wide        bool     // they are made by NewWide, not by NewDraw
	Kinds       []string // of DrawKinds, those of the N draws that are run, and of WideFeatures, those that have one of them; none means all
	Controllers []Controller
	Settings    config.Settings
	CPUs        int
	Progress    func(done, total int)
}

// draw makes the n-th world.
func (p *DrawPlan) draw(n int) *Draw {
	if p.Wide {
		return NewWide(p.Seed, n)
	}
	return NewDraw(p.Seed, n)
}

// Numbers returns the numbers of the draws that are run.
func (p *DrawPlan) Numbers() []int {
	kinds := DrawKinds()
	var out []int
	for n := p.First; n < p.First+p.N; n++ {
		has := func(kind string) bool { return kind == kinds[n%len(kinds)] }
		if p.Wide && len(p.Kinds) > 0 {
			features := p.draw(n).Features
			has = func(feature string) bool { return slices.Contains(features, feature) }
		}
		if len(p.Kinds) == 0 || slices.ContainsFunc(p.Kinds, has) {
			out = append(out, n)
		}
	}
	return out
}

// RunDraws lets each controller meet each drawn world. The results are in the order of the draws and the controllers and do not depend on CPUs. When ctx
// ends, they are of the draws that all controllers have met, beside its cause.
func RunDraws(ctx context.Context, p DrawPlan) ([]DrawResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	per := len(p.Controllers)
	numbers := p.Numbers()
	results := make([]DrawResult, len(numbers)*per)
	met := make([]bool, len(numbers))
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex // guards done
		done int
	)
	for range max(1, min(p.CPUs, len(numbers))) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(numbers) {
					return
				}
				if err := p.one(ctx, numbers[i], results[i*per:(i+1)*per]); err != nil {
					if ctx.Err() == nil {
						cancel(err)
					}
					return
				}
				met[i] = true
				mu.Lock()
				done++
				if p.Progress != nil {
					p.Progress(done, len(numbers))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		return results, nil
	}
	var finished []DrawResult
	for i, ok := range met {
		if ok {
			finished = append(finished, results[i*per:(i+1)*per]...)
		}
	}
	return finished, context.Cause(ctx)
}

func (p *DrawPlan) one(ctx context.Context, n int, out []DrawResult) error {
	d := p.draw(n)
	seed := p.Seed*1_000_003 + uint64(n)
	world := d.Scenario.world(&p.Settings, seed)
	bound, err := sim.Bound(ctx, world)
	if err != nil {
		return fmt.Errorf("%s: %w", d.Scenario.Name, err)
	}
	world.Horizon = bound.Horizon
	for c, ctl := range p.Controllers {
		met := world
		met.Guard = ctl.guard(d.Scenario, &p.Settings, seed)
		ctl.callers(&met)
		res, err := sim.Run(ctx, met)
		if err != nil {
			return fmt.Errorf("%s (%s), controller %s: %w", d.Scenario.Name, d.Scenario.Intent, ctl.Name, err)
		}
		out[c] = d.result(n, ctl.Name, res, bound)
	}
	return nil
}

func (d *Draw) result(n int, name string, r *sim.Result, bound *sim.Limits) DrawResult {
	o := DrawResult{Draw: n, Kind: d.Kind, Event: d.Event, Controller: name, RoundTrip: d.RoundTrip, Duration: d.Scenario.World.Duration,
		Features: d.Features, Settle: -1, Recover: -1, Goodput: math.NaN()}
	switch {
	case bound.ByTokens && bound.Tokens > 0:
		o.Goodput = float64(r.TokensInTime) / float64(bound.Tokens)
	case bound.OK > 0:
		o.Goodput = float64(r.InTime) / float64(bound.OK)
	}
	o.Rejected = ratio(float64(r.Rejected), float64(r.OK))
	steps := len(r.Series.OK)
	var ok, rejected float64
	for i := range steps {
		third := 3 * i / steps
		if third == 2 || d.Event != eventNone && 6*i/steps == 2 {
			ok, rejected = ok+r.Series.OK[i], rejected+r.Series.Rejected[i]
		}
	}
	o.Steady = ratio(rejected, ok)
	if d.Scenario.World.Workload.Patience == 0 {
		o.Lost = r.Failed + r.Refused
	}
	at, n := int(d.EventAt/max(1, bound.Step)), min(len(r.Series.OK), len(bound.Done))
	if d.Event == eventNone {
		at = n
	} else if d.EventAt%max(1, bound.Step) > 0 {
		at++
	}
	first := at // without what comes after the event, and without an outage
	if d.EventFrom < d.EventAt {
		first = int(d.EventFrom / max(1, bound.Step))
	}
	o.Settle = sim.Settle(r, bound, 0, first, sim.SettleShare)
	if d.EventAt > 0 {
		o.Recover = sim.Settle(r, bound, at, n, sim.RecoverShare)
	}
	return o
}

func ratio(a, b float64) float64 {
	if b == 0 {
		if a == 0 {
			return 0
		}
		return math.Inf(1)
	}
	return a / b
}
