package sim

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Objective says how good a run was; larger is better.
type Objective func(*Result) float64

// DefaultObjective is the successes in time (their tokens, where a quota counts tokens), times e to the power of minus ten times the share
// of the attempts that were answered 429. Without the latter, whoever floods an upstream whose refusals cost nothing would be best.
func DefaultObjective(l *Limits) Objective {
	return func(r *Result) float64 {
		x := float64(r.InTime)
		if l != nil && l.ByTokens {
			x = float64(r.TokensInTime)
		}
		return x * math.Exp(-10*float64(r.Rejected)/float64(max(1, r.Sent)))
	}
}

// Best is the best that constant limits could do in a world, known only afterwards.
type Best struct {
	// At and Limits are the limits of each guard and from when each holds; the first is at 0.
	At     []time.Duration
	Limits []int
	Value  float64 // of the objective
	Result *Result
	Runs   int // how many runs it took to find
}

// Regret returns by how much a value falls short of the best, as a share of it; negative when it is better.
func (b *Best) Regret(value float64) float64 { return ratio(b.Value-value, math.Abs(b.Value)) }

// bestMost is the largest limit that is tried.
const bestMost = 4096

// BestStatic finds the best constant limit in a world, by golden section over its logarithm, with the same seed. It need not be the best when the
// objective has several peaks. A pause for a Retry-After is kept or not as cfg.Guard says; nil is a guard with the defaults of package limiter.
func BestStatic(ctx context.Context, cfg Config, o Objective) (*Best, error) {
	s := &search{ctx: ctx, cfg: cfg, objective: o, seen: map[int]float64{}}
	b := &Best{At: []time.Duration{0}, Limits: []int{1}}
	if err := s.improve(b, 0); err != nil {
		return nil, err
	}
	b.Runs = s.runs
	return b, nil
}

// bestPieces is how many pieces BestPiecewise has at most.
const bestPieces = 8

// BestPiecewise finds the best limits that change with the world only: at each step of a parameter, and where a fault begins or ends. It
// begins with the best constant one and improves one piece after the other.
func BestPiecewise(ctx context.Context, cfg Config, o Objective) (*Best, error) {
	b, err := BestStatic(ctx, cfg, o)
	if err != nil {
		return nil, err
	}
	at := changePoints(&cfg)
	if len(at) == 1 {
		return b, nil
	}
	limit := b.Limits[0]
	b.At, b.Limits = at, make([]int, len(at))
	for i := range b.Limits {
		b.Limits[i] = limit
	}
	runs := b.Runs
	for i := range at {
		s := &search{ctx: ctx, cfg: cfg, objective: o, seen: map[int]float64{}}
		if err := s.improve(b, i); err != nil {
			return nil, err
		}
		runs += s.runs
	}
	b.Runs = runs
	return b, nil
}

// changePoints returns the instants at which a world changes at a step, with 0; at most bestPieces, evenly spread where there are more.
func changePoints(cfg *Config) []time.Duration {
	at := []time.Duration{0}
	add := func(d time.Duration) {
		if d > 0 && d < cfg.Duration {
			at = append(at, d)
		}
	}
	for _, c := range cfg.Changes {
		add(c.At)
	}
	for _, f := range cfg.Upstream.Faults {
		add(f.From)
		add(f.To)
	}
	slices.Sort(at)
	at = slices.Compact(at)
	if len(at) <= bestPieces {
		return at
	}
	at = at[:0]
	for i := range bestPieces {
		at = append(at, cfg.Duration*time.Duration(i)/bestPieces)
	}
	return at
}

// search looks for the best limit of one piece.
type search struct {
	ctx       context.Context
	cfg       Config
	objective Objective
	seen      map[int]float64
	runs      int
	worker    Worker
}

// try runs b with another limit in piece i, and keeps it when it is better.
func (s *search) try(b *Best, i, limit int) (float64, error) {
	if v, ok := s.seen[limit]; ok {
		return v, nil
	}
	limits := slices.Clone(b.Limits)
	limits[i] = limit
	cfg := s.cfg
	g := Guard{Queue: 1024, MaxWait: time.Minute, MaxPause: 5 * time.Minute}
	if cfg.Guard != nil {
		g = *cfg.Guard
	}
	g.Law = nil
	g.NewLaw = func(int) adaptive.Law { return newStepped(b.At, limits) }
	cfg.Guard = &g
	r, err := s.worker.Run(s.ctx, cfg)
	if err != nil {
		return 0, err
	}
	s.runs++
	v := s.objective(r)
	s.seen[limit] = v
	if b.Result == nil || v > b.Value {
		r.Latencies, r.FirstBytes, r.PerToken, r.Waits = slices.Clone(r.Latencies), slices.Clone(r.FirstBytes), slices.Clone(r.PerToken), slices.Clone(r.Waits)
		b.Value, b.Result, b.Limits = v, r, limits
	}
	return v, nil
}

// improve finds the best limit of piece i of b: a coarse look at powers of four, and a golden section around the best of them.
func (s *search) improve(b *Best, i int) error {
	best, bestAt := math.Inf(-1), 0
	grid := []int{1, 4, 16, 64, 256, 1024, bestMost}
	for k, n := range grid {
		v, err := s.try(b, i, n)
		if err != nil {
			return err
		}
		if v > best {
			best, bestAt = v, k
		}
	}
	lo, hi := math.Log(float64(grid[max(0, bestAt-1)])), math.Log(float64(grid[min(len(grid)-1, bestAt+1)]))
	const phi = 0.6180339887498949
	at := func(x float64) (float64, error) { return s.try(b, i, max(1, int(math.Round(math.Exp(x))))) }
	x1, x2 := hi-phi*(hi-lo), lo+phi*(hi-lo)
	v1, err := at(x1)
	if err != nil {
		return err
	}
	v2, err := at(x2)
	if err != nil {
		return err
	}
	for range 10 {
		if int(math.Exp(hi))-int(math.Exp(lo)) <= 1 {
			break
		}
		if v1 >= v2 {
			hi, x2, v2 = x2, x1, v1
			x1 = hi - phi*(hi-lo)
			v1, err = at(x1)
		} else {
			lo, x1, v1 = x1, x2, v2
			x2 = lo + phi*(hi-lo)
			v2, err = at(x2)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stepped is a law that knows beforehand when to change its limit.
type stepped struct {
	at     []time.Duration
	limits []int
	i      int
}

func newStepped(at []time.Duration, limits []int) adaptive.Law {
	return &stepped{at: at, limits: limits}
}

func (s *stepped) decide(now time.Duration) adaptive.Decision {
	for s.i+1 < len(s.at) && s.at[s.i+1] <= now {
		s.i++
	}
	d := adaptive.Decision{Limit: s.limits[s.i], Cause: adaptive.CauseExternal, AskAgain: math.MaxInt64}
	if s.i+1 < len(s.at) {
		d.AskAgain = s.at[s.i+1]
	}
	return d
}

func (s *stepped) Window(now time.Duration, _ adaptive.Window) adaptive.Decision {
	return s.decide(now)
}
func (s *stepped) Ended(now time.Duration, _ adaptive.Call, _ adaptive.Outcome) adaptive.Decision {
	return s.decide(now)
}
func (s *stepped) Hint(now time.Duration, _ feedback.Window) adaptive.Decision { return s.decide(now) }
func (s *stepped) Decision() adaptive.Decision                                 { return s.decide(0) }
