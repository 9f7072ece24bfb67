package lab

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/stats"
)

// A Subject is a column of a comparison: a controller with the settings of its guard.
type Subject struct {
	// Name is what the report shows; unique in a plan.
	Name string
	// Ours marks the one that the verdict is about.
	Ours       bool
	Controller scenario.Controller
	Settings   *config.Settings
}

// Subjects returns a subject for each controller, all with the same settings.
func Subjects(cs []scenario.Controller, set *config.Settings) []Subject {
	out := make([]Subject, len(cs))
	for i, c := range cs {
		out[i] = Subject{Name: c.Name, Ours: c.Ours, Controller: c, Settings: set}
	}
	return out
}

// Seeds says which seeds are run.
type Seeds struct {
	// First is the first seed, and N how many there are, one after the other (>= 1).
	First uint64
	N     int
	// Auto adds seeds in blocks of [Block] until every verdict is decided or there are N. Each look at the data then spends
	// a part of the chance of a wrong verdict; see [stats.Looks].
	Auto bool
}

// Block is how many seeds are added at a time, and MaxAuto the most that are run unless somebody asks for more.
const (
	Block   = 4
	MaxAuto = 64
)

// Plan is what Table runs.
type Plan struct {
	Scenarios []*scenario.Scenario
	Subjects  []Subject
	Seeds     Seeds
	// Regret says that the best constant limit, and the best limits that change when the world does, are searched for with every seed: some 15
	// runs, and 15 for each change. They are rows of the report, not ranked.
	Regret bool
	// Bands says that the spread of the series over the seeds is wanted.
	Bands bool
	// Decisions, when set, is called with the decisions of each trial that was finished in the order of the plan: scenarios, seeds, subjects. An
	// error of it ends the plan.
	Decisions func(s *scenario.Scenario, sub *Subject, seed uint64, ds []report.Decision) error
}

// The names of the rows of Plan.Regret: the best constant limit, and the best limits that change when the world does.
const (
	BestStatic    = "best-static"
	BestPiecewise = "best-piecewise"
)

// cell is one subject in one scenario, with what its seeds gave.
type cell struct {
	seeds     []report.SeedSummary
	series    report.Series
	decisions []report.Decision
	all       []report.Series // of every seed, for bands
}

// Table runs a plan and returns its report, without title, command and version. When ctx ends first, the report has what was
// finished and says so, and the error is ctx's cause.
func (l *Lab) Table(ctx context.Context, p Plan) (*report.Report, error) {
	r := &report.Report{Seed: p.Seeds.First, Seeds: 1}
	progress := l.Progress
	defer func() { l.Progress = progress }()
	runs := p.Seeds.N * len(p.Subjects)
	before := 0
	var first error
	for i, s := range p.Scenarios {
		l.Progress = nil
		if progress != nil {
			l.Progress = func(done, _ int) { progress(before+done, len(p.Scenarios)*runs) }
		}
		rs, n, err := l.scenario(ctx, &p, s)
		if rs != nil {
			r.Scenarios = append(r.Scenarios, *rs)
			r.Seeds = max(r.Seeds, n)
		}
		if err != nil {
			first = err
			break
		}
		before = (i + 1) * runs
	}
	if first != nil {
		r.Interrupted = true
	}
	return r, first
}

// scenario runs a plan's subjects in one scenario. It returns nil when nothing was finished.
func (l *Lab) scenario(ctx context.Context, p *Plan, s *scenario.Scenario) (*report.Scenario, int, error) {
	cells := make([]cell, len(p.Subjects))
	var references [2]cell // best constant limit, best limits that change
	block, alphas := p.Seeds.N, []float64{0}
	if p.Seeds.Auto {
		block = Block
		alphas = stats.Looks(report.Alpha, (p.Seeds.N+Block-1)/Block)
	}
	var bounds []*sim.Limits
	rs := &report.Scenario{Name: s.Name, Intent: s.Intent, Duration: s.World.Duration}
	var failed, unwritten error
	n := 0
	progress := l.Progress
	for _, alpha := range alphas {
		rs.Alpha = alpha
		from, to := n, min(n+block, p.Seeds.N)
		if progress != nil {
			l.Progress = func(done, total int) { progress(from*len(p.Subjects)+done, total) }
		}
		var trials []scenario.Trial
		for k := from; k < to; k++ {
			// Seeds are the outer loop, so that an interrupted scenario has whole seeds.
			for i := range p.Subjects {
				sub := &p.Subjects[i]
				trials = append(trials, scenario.Trial{
					Scenario: s, Controller: sub.Controller, Settings: sub.Settings, Seed: p.Seeds.First + uint64(k), Decisions: k == 0 || p.Decisions != nil,
				})
			}
		}
		outcomes, err := l.Run(ctx, trials)
		failed = err
		best := make([][2]*scenario.Outcome, to-from)
		if p.Regret && failed == nil {
			l.Progress = nil
			failed = l.each(ctx, 2*len(best), func(ctx context.Context, w *scenario.Worker, i int) error {
				t := &trials[i/2*len(p.Subjects)]
				b, err := l.bound(ctx, t)
				if err != nil {
					return err
				}
				t = &scenario.Trial{Scenario: s, Controller: reference, Settings: t.Settings, Seed: t.Seed}
				best[i/2][i%2], _, err = w.Best(ctx, t, b, i%2 == 1)
				return err
			})
			for k, b := range best {
				if b[0] == nil || b[1] == nil {
					best[k] = [2]*scenario.Outcome{}
					continue
				}
				for i, o := range b {
					o.Summary.RegretStatic, o.Summary.RegretPiecewise = regret(b[0], o), regret(b[1], o)
					references[i].add(p, p.Seeds.First+uint64(from+k), o)
				}
			}
		}
		for k := from; k < to; k++ {
			for i := range p.Subjects {
				at := (k-from)*len(p.Subjects) + i
				o := outcomes[at]
				if o == nil {
					rs.Interrupted = true
					continue
				}
				seed := trials[at].Seed
				if b := best[k-from]; b[0] != nil {
					o.Summary.RegretStatic, o.Summary.RegretPiecewise = regret(b[0], o), regret(b[1], o)
				}
				cells[i].add(p, seed, o)
				if b, _ := l.bound(ctx, &trials[at]); b != nil && len(bounds) == k {
					bounds = append(bounds, b)
				}
				if p.Decisions != nil && unwritten == nil { // also of what was finished before an interruption
					unwritten = p.Decisions(s, &p.Subjects[i], seed, o.Decisions)
				}
			}
		}
		failed = cmp.Or(failed, unwritten)
		n = to
		rs.Runs = rs.Runs[:0]
		for i := range cells {
			if run := cells[i].run(&p.Subjects[i]); run != nil {
				rs.Runs = append(rs.Runs, *run)
			}
		}
		if failed != nil || n == p.Seeds.N || report.Decided(rs) {
			break
		}
	}
	if len(rs.Runs) == 0 {
		return nil, 0, failed
	}
	for i, name := range []string{BestStatic, BestPiecewise} {
		if run := references[i].run(&Subject{Name: name}); run != nil {
			run.Reference = true
			run.Low, run.High = report.Bands(references[i].all)
			rs.Runs = append(rs.Runs, *run)
		}
	}
	for i := range rs.Runs {
		run := &rs.Runs[i]
		if run.Reference {
			continue
		}
		k := slices.IndexFunc(p.Subjects, func(s Subject) bool { return s.Name == run.Controller })
		run.Low, run.High = report.Bands(cells[k].all)
	}
	rs.Oracle = scenario.OracleOf(bounds)
	return rs, n, failed
}

// reference keeps a pause for a Retry-After, as ours does.
var reference = scenario.Reference()

// regret is by how much an outcome falls short of the best.
func regret(best, o *scenario.Outcome) float64 {
	if best.Value == 0 {
		return math.NaN()
	}
	return (best.Value - o.Value) / best.Value
}

// add adds the outcome of a seed.
func (c *cell) add(p *Plan, seed uint64, o *scenario.Outcome) {
	if len(c.seeds) == 0 {
		c.series, c.decisions = o.Series, o.Decisions
	}
	if p.Bands {
		c.all = append(c.all, o.Series)
	}
	c.seeds = append(c.seeds, report.SeedSummary{Seed: seed, Summary: o.Summary})
}

func (c *cell) run(sub *Subject) *report.Run {
	if len(c.seeds) == 0 {
		return nil
	}
	return &report.Run{
		Controller: sub.Name, Ours: sub.Ours, Summary: report.MergeSeeds(c.seeds), PerSeed: slices.Clone(c.seeds), Series: c.series, Decisions: c.decisions,
	}
}
