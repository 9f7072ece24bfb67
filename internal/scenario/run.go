package scenario

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/sim"
)

// Plan is what Run runs: each controller in each scenario with each seed.
type Plan struct {
	Scenarios   []*Scenario
	Controllers []Controller
	// Settings are the guard's parameters and the callers' retry policy, where a scenario has none of its own.
	Settings config.Settings
	// Seed is the first of Seeds consecutive seeds.
	Seed  uint64
	Seeds int
	// CPUs is how many runs go on at the same time (>= 1).
	CPUs int
	// Progress, when set, is called after each run with how many of how many are done, one call at a time.
	Progress func(done, total int)
}

// Stats is what Run did.
type Stats struct {
	Runs   int
	Events uint64
	// Hash depends on each event of each run.
	Hash uint64
}

// shared is what the runs of one scenario with one seed have in common.
type shared struct {
	once  sync.Once
	bound *sim.Limits
	err   error
}

// Run runs a plan. The report does not depend on how many CPUs it uses. When ctx ends first, the
// report has what was finished and says so; the error then is ctx's cause. Any other error says that the simulator is broken,
// or that a scenario is no world.
func Run(ctx context.Context, p Plan) (*report.Report, Stats, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runs := len(p.Controllers) * p.Seeds
	total := len(p.Scenarios) * runs
	outcomes := make([]*Outcome, total)
	common := make([]shared, len(p.Scenarios)*p.Seeds)

	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex // guards done
		done int
	)
	for range max(1, min(p.CPUs, total)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= total {
					return
				}
				// Seeds are the outer loop of a scenario, so that an interrupted one has whole seeds.
				s, seed, c := i/runs, i%runs/len(p.Controllers), i%len(p.Controllers)
				o, err := p.one(ctx, s, seed, c, &common[s*p.Seeds+seed])
				if err != nil {
					if ctx.Err() == nil {
						cancel(err)
					}
					return
				}
				outcomes[i] = o
				mu.Lock()
				done++
				if p.Progress != nil {
					p.Progress(done, total)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r, stats := p.merge(outcomes, common)
	if ctx.Err() != nil && stats.Runs < total {
		r.Interrupted = true
		return r, stats, context.Cause(ctx)
	}
	return r, stats, nil
}

// one lets a controller meet a scenario with a seed.
func (p *Plan) one(ctx context.Context, s, seed, c int, common *shared) (*Outcome, error) {
	t := Trial{Scenario: p.Scenarios[s], Controller: p.Controllers[c], Settings: &p.Settings, Seed: p.Seed + uint64(seed), Decisions: seed == 0}
	common.once.Do(func() { common.bound, common.err = t.Bound(ctx) })
	if common.err != nil {
		return nil, common.err
	}
	return t.Run(ctx, common.bound)
}

// merge makes the report, in the order of the plan.
func (p *Plan) merge(outcomes []*Outcome, common []shared) (*report.Report, Stats) {
	r := &report.Report{Seed: p.Seed, Seeds: p.Seeds}
	var stats Stats
	for s, sc := range p.Scenarios {
		rs := report.Scenario{Name: sc.Name, Intent: sc.Intent, Duration: sc.World.Duration}
		bounds := make([]*sim.Limits, p.Seeds)
		for c, ctl := range p.Controllers {
			var perSeed []report.Summary
			run := report.Run{Controller: ctl.Name, Ours: ctl.Ours}
			for seed := range p.Seeds {
				o := outcomes[(s*p.Seeds+seed)*len(p.Controllers)+c]
				if o == nil {
					rs.Interrupted = true
					continue
				}
				bounds[seed] = common[s*p.Seeds+seed].bound
				if len(perSeed) == 0 {
					run.Series, run.Decisions = o.Series, o.Decisions
				}
				perSeed = append(perSeed, o.Summary)
				stats.Runs++
				stats.Events += o.Events
				stats.Hash = stats.Hash*0x100000001b3 ^ o.Hash
			}
			if len(perSeed) > 0 {
				run.Summary = report.Merge(perSeed)
				rs.Runs = append(rs.Runs, run)
			}
		}
		if len(rs.Runs) > 0 {
			rs.Oracle = oracle(bounds)
			r.Scenarios = append(r.Scenarios, rs)
		}
	}
	return r, stats
}

// Broken reports whether an error of Run says that the simulator or the guard is broken.
func Broken(err error) bool {
	var inv *sim.InvariantError
	return errors.As(err, &inv)
}
