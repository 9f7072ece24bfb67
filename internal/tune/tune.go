// Package tune searches for better parameters and says whether what it found is better, on evidence that the search has not seen.
//
// The search is a race. Points that fill the space evenly (a Halton sequence), the current configuration and the defaults meet the same seeds; after
// each block of seeds those that a paired test finds worse than the leader drop out, and the lower half with them (Birattari et al. 2002, F-Race;
// Jamieson and Talwalkar 2016, successive halving). From the leader a pattern search (Hooke and Jeeves 1961) refines the point.
// Then both the current configuration and the new one meet seeds that no stage of the search saw, in the scenarios of the search and in
// others. Only when both differences are certain, and large enough to matter, is the new one recommended.
package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/flyball-go/flyball/internal/stats"
)

// A Param is one dimension of the space.
type Param struct {
	// Key names it, such as guard.adaptive.backoff.
	Key string
	// Low and High are its bounds, both allowed (Low < High).
	Low, High float64
	// Integer says that only whole numbers are allowed.
	Integer bool
	// Log says that a factor counts the same everywhere (Low > 0).
	Log bool
	// Current is its value now, and Default that of an empty file.
	Current, Default float64
}

// value is the parameter's value at u of its range (0 to 1).
func (p *Param) value(u float64) float64 {
	u = min(max(u, 0), 1)
	v := p.Low + u*(p.High-p.Low)
	if p.Log {
		v = p.Low * math.Exp(u*math.Log(p.High/p.Low))
	}
	if p.Integer {
		v = math.Round(v)
	} else if v != 0 { // three digits are what a person would write, and finer than any effect
		scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
		v = math.Round(v*scale) / scale
	}
	return min(max(v, p.Low), p.High)
}

// unit is where in its range a value is.
func (p *Param) unit(v float64) float64 {
	v = min(max(v, p.Low), p.High)
	if p.Log {
		return math.Log(v/p.Low) / math.Log(p.High/p.Low)
	}
	return (v - p.Low) / (p.High - p.Low)
}

// A Point has a value for each parameter.
type Point []float64

// A Set is what an evaluation runs on.
type Set uint8

const (
	// Tuning is the scenarios of the search.
	Tuning Set = iota
	// HeldOut is scenarios that the search does not see.
	HeldOut
)

// Evaluate returns the objective of each point for each of the seeds from first on, more being better: values[point][seed]. It is called with many points at
// a time, so that they can be run in parallel. A point may be evaluated again on the same seeds.
type Evaluate func(ctx context.Context, set Set, points []Point, first uint64, seeds int) (values [][]float64, err error)

// Config says what is searched.
type Config struct {
	Params   []Param
	Evaluate Evaluate
	// Seed is the first seed; the search uses Seed to Seed+Search-1, and the evidence the Evidence seeds after those.
	Seed uint64
	// Search is how many seeds the search uses at most. Zero means 16.
	Search int
	// Evidence is how many unseen seeds each of the two last comparisons has. Zero means 24.
	Evidence int
	// Points is how many points the race begins with beside the two given ones. Zero means 8 for each parameter.
	Points int
	// MinEffect is the smallest gain that counts, in the objective's unit (> 0). Zero means 0.01.
	MinEffect float64
	// Trajectories is how many times each parameter is moved alone, to tell how much it matters (see [Effect]); each time costs a point
	// more than there are parameters. Zero means none.
	Trajectories int
	// HeldOut says that there are scenarios that the search does not see. Without them nothing is recommended.
	HeldOut bool
	// Progress, when set, is told what goes on.
	Progress func(stage string, points, evaluations int)
}

// Evidence is a comparison of the current configuration with the new one.
type Evidence struct {
	Seeds              int
	Current, Candidate float64 // means
	Gain               float64 // the mean of the differences
	Interval           stats.Interval
}

// Outcome is what a search came to.
type Outcome struct {
	// Best is the best point found; it is that of the current configuration when nothing was better.
	Best Point
	// Recommended says that Best should replace the current configuration.
	Recommended bool
	// Why says in words what decided.
	Why string
	// Seen and Unseen are the evidence: new seeds in the scenarios of the search, and new seeds in other scenarios. Seeds is 0 where there is none.
	Seen, Unseen Evidence
	// Effects is how much each parameter matters, in the order of Config.Params; nil when it was not asked for, or the search ended before.
	Effects []Effect
	// Points is how many points were tried, and Evaluations how many times a point met a seed.
	Points, Evaluations int
	// Stopped says that the search ended before its time was over, because its context did, and Interrupted that everything did: the proof is not whole.
	Stopped, Interrupted bool
}

// candidate is a point in the race.
type candidate struct {
	point  Point
	unit   []float64
	values []float64 // by seed
}

func (c *candidate) mean() float64 { return stats.Mean(c.values) }

type search struct {
	cfg   Config
	cands []*candidate // all that were tried
	out   Outcome
}

// Run searches. The end of searching ends the search, and what it has found until then is put to the test. The end of ctx ends everything: what is known then
// comes back beside its cause, and is never recommended.
func Run(ctx, searching context.Context, cfg Config) (*Outcome, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &search{cfg: cfg}
	current := s.add(s.unitOf(func(p *Param) float64 { return p.Current }), func(p *Param) float64 { return p.Current })
	best, err := s.find(searching, current)
	if err != nil && searching.Err() == nil && ctx.Err() == nil {
		return nil, err
	}
	s.out.Stopped = err != nil
	s.out.Best = best.point
	s.out.Points = s.met()
	if ctx.Err() != nil {
		s.out.Interrupted, s.out.Why = true, "it was interrupted before anything was put to the test"
		return &s.out, context.Cause(ctx)
	}
	if slices.Equal(best.point, current.point) {
		s.out.Why = "no point was better than the current configuration in the search"
		if s.out.Points == 0 {
			s.out.Why = "the search ended before the first points had met their seeds"
		}
		return &s.out, nil
	}
	if err := s.judge(ctx, current, best); err != nil {
		if ctx.Err() == nil {
			return nil, err
		}
		s.out.Interrupted, s.out.Why = true, "it was interrupted before the proof was finished"
		return &s.out, context.Cause(ctx)
	}
	return &s.out, nil
}

// met is how many points met a seed: those of a stage that was stopped did not.
func (s *search) met() int {
	n := 0
	for _, c := range s.cands {
		if len(c.values) > 0 {
			n++
		}
	}
	return n
}

func (cfg *Config) check() error {
	if len(cfg.Params) == 0 {
		return errors.New("tune: there is no parameter to tune")
	}
	for _, p := range cfg.Params {
		if !(p.Low < p.High) || p.Log && !(p.Low > 0) {
			return fmt.Errorf("tune: %s has the range %v to %v (log %v): no range", p.Key, p.Low, p.High, p.Log)
		}
	}
	if cfg.Search == 0 {
		cfg.Search = 16
	}
	if cfg.Evidence == 0 {
		cfg.Evidence = 24
	}
	if cfg.Points == 0 {
		cfg.Points = 8 * len(cfg.Params)
	}
	if cfg.MinEffect == 0 {
		cfg.MinEffect = 0.01
	}
	if cfg.Trajectories < 0 || cfg.Search < block || cfg.Evidence < 2 || cfg.Points < 1 || cfg.MinEffect < 0 {
		return fmt.Errorf("tune: Search %d (at least %d), Evidence %d (2), Points %d (1), MinEffect %v: out of range", cfg.Search, block, cfg.Evidence, cfg.Points, cfg.MinEffect)
	}
	return nil
}

func (s *search) unitOf(of func(*Param) float64) []float64 {
	u := make([]float64, len(s.cfg.Params))
	for i := range s.cfg.Params {
		u[i] = s.cfg.Params[i].unit(of(&s.cfg.Params[i]))
	}
	return u
}

// add notes a point of the unit cube. exact, when set, has its values; else they follow from the unit. A point that was tried before is
// returned as it is.
func (s *search) add(u []float64, exact func(*Param) float64) *candidate {
	c := &candidate{unit: slices.Clone(u), point: make(Point, len(u))}
	for i := range u {
		p := &s.cfg.Params[i]
		if exact != nil {
			c.point[i] = exact(p)
		} else {
			c.point[i] = p.value(u[i])
		}
		c.unit[i] = p.unit(c.point[i])
	}
	for _, o := range s.cands {
		if slices.Equal(o.point, c.point) {
			return o
		}
	}
	s.cands = append(s.cands, c)
	return c
}

// block is how many seeds are run between two looks.
const block = 4

// run lets points meet the seeds up to n that they have not met yet.
func (s *search) run(ctx context.Context, stage string, cs []*candidate, n int) error {
	for {
		// Points that have met as many seeds go together.
		from := n
		for _, c := range cs {
			from = min(from, len(c.values))
		}
		if from >= n {
			return nil
		}
		var group []*candidate
		var points []Point
		for _, c := range cs {
			if len(c.values) == from && !slices.Contains(group, c) {
				group, points = append(group, c), append(points, c.point)
			}
		}
		// Not beyond where others stand, so that they can go on together.
		to := n
		for _, c := range cs {
			if len(c.values) > from {
				to = min(to, len(c.values))
			}
		}
		values, err := s.cfg.Evaluate(ctx, Tuning, points, s.cfg.Seed+uint64(from), to-from)
		if err != nil {
			return err
		}
		for i, c := range group {
			c.values = append(c.values, values[i]...)
			s.out.Evaluations += len(values[i])
		}
		if s.cfg.Progress != nil {
			s.cfg.Progress(stage, len(s.cands), s.out.Evaluations)
		}
	}
}

// find searches and returns the best point it knows, also when ctx ends.
func (s *search) find(ctx context.Context, current *candidate) (*candidate, error) {
	field := []*candidate{current, s.add(s.unitOf(func(p *Param) float64 { return p.Default }), func(p *Param) float64 { return p.Default })}
	if field[1] == current {
		field = field[:1]
	}
	for i := range s.cfg.Points {
		if c := s.add(halton(i+1, len(s.cfg.Params)), nil); !slices.Contains(field, c) {
			field = append(field, c)
		}
	}
	best := current
	for n := block; n <= s.cfg.Search; n += block {
		if err := s.run(ctx, "race", field, n); err != nil {
			return s.leader(best, current), err
		}
		best = lead(field)
		field = survivors(field, best, current)
		if len(field) <= 2 {
			break
		}
	}
	if err := s.screen(ctx); err != nil {
		return best, err
	}
	best, err := s.refine(ctx, best)
	if err != nil {
		return best, err
	}
	return s.simplify(ctx, best, current)
}

// simplify takes back, one after the other, what gains nothing: each change that is left is one that somebody has to write down and to answer for.
func (s *search) simplify(ctx context.Context, best, current *candidate) (*candidate, error) {
	for i := range best.point {
		if best.point[i] == current.point[i] {
			continue
		}
		without := slices.Clone(best.point)
		without[i] = current.point[i]
		k := -1
		c := s.add(best.unit, func(*Param) float64 { k++; return without[k] })
		if err := s.run(ctx, "simplify", []*candidate{c}, s.cfg.Search); err != nil {
			return best, err
		}
		if c.mean() >= best.mean() {
			best = c
		}
	}
	return best, nil
}

// leader is the best of all that met a whole block, for a search that was stopped.
func (s *search) leader(best, current *candidate) *candidate {
	for _, c := range s.cands {
		if len(c.values) >= block && len(c.values) >= len(best.values) && c.mean() > best.mean() {
			best = c
		}
	}
	if len(best.values) == 0 {
		return current
	}
	return best
}

// lead returns the one with the best mean.
func lead(field []*candidate) *candidate {
	best := field[0]
	for _, c := range field {
		if c.mean() > best.mean() {
			best = c
		}
	}
	return best
}

// survivors drops what the leader beats for certain, and the lower half. The current configuration stays, as all is measured by it.
func survivors(field []*candidate, best, current *candidate) []*candidate {
	order := slices.Clone(field)
	slices.SortStableFunc(order, func(a, b *candidate) int {
		switch x, y := a.mean(), b.mean(); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	var out []*candidate
	for i, c := range order {
		worse := c != best && stats.MeanInterval(differences(best.values, c.values), 0.1, 1).High < 0
		if c == current || i < max(2, (len(order)+1)/2) && !worse {
			out = append(out, c)
		}
	}
	return out
}

// differences are b less a, seed by seed.
func differences(a, b []float64) []float64 {
	ds := make([]float64, min(len(a), len(b)))
	for i := range ds {
		ds[i] = b[i] - a[i]
	}
	return ds
}

// The pattern search begins with steps of a tenth of the range and ends with steps of an eightieth.
const (
	firstStep = 0.1
	lastStep  = 0.0125
	maxMoves  = 60
)

// refine moves from a point to better neighbours, all of them on all seeds of the search.
func (s *search) refine(ctx context.Context, best *candidate) (*candidate, error) {
	if err := s.run(ctx, "refine", []*candidate{best}, s.cfg.Search); err != nil {
		return best, err
	}
	step := firstStep
	for range maxMoves {
		if step < lastStep {
			break
		}
		var around []*candidate
		for i := range best.unit {
			for _, sign := range []float64{1, -1} {
				u := slices.Clone(best.unit)
				u[i] = min(max(u[i]+sign*step, 0), 1)
				if c := s.add(u, nil); c != best && !slices.Contains(around, c) {
					around = append(around, c)
				}
			}
		}
		if err := s.run(ctx, "refine", around, s.cfg.Search); err != nil {
			return best, err
		}
		// The best move in each direction, all together, and each by itself.
		combined := slices.Clone(best.unit)
		next := best
		moved := false
		for _, c := range around {
			if c.mean() <= best.mean() {
				continue
			}
			moved = true
			for i := range combined {
				if c.unit[i] != best.unit[i] {
					combined[i] = c.unit[i]
				}
			}
			if c.mean() > next.mean() {
				next = c
			}
		}
		if !moved {
			step /= 2
			continue
		}
		together := s.add(combined, nil)
		if err := s.run(ctx, "refine", []*candidate{together}, s.cfg.Search); err != nil {
			return next, err
		}
		if together.mean() > next.mean() {
			next = together
		}
		best = next
	}
	return best, nil
}

// judge compares the current configuration with the best point on what the search has not seen.
func (s *search) judge(ctx context.Context, current, best *candidate) error {
	seen, err := s.evidence(ctx, Tuning, s.cfg.Seed+uint64(s.cfg.Search), current, best)
	if err != nil {
		return err
	}
	s.out.Seen = *seen
	if !s.cfg.HeldOut {
		s.out.Why = "there are no held-out scenarios, so nothing shows that the gain holds elsewhere"
		return nil
	}
	unseen, err := s.evidence(ctx, HeldOut, s.cfg.Seed+uint64(s.cfg.Search+s.cfg.Evidence), current, best)
	if err != nil {
		return err
	}
	s.out.Unseen = *unseen
	enough := func(e *Evidence) bool { return e.Interval.Known() && e.Interval.Low > s.cfg.MinEffect }
	switch {
	case !enough(seen):
		s.out.Why = fmt.Sprintf("the gain on unseen seeds is not certain to be more than %v", s.cfg.MinEffect)
	case !enough(unseen):
		s.out.Why = fmt.Sprintf("the gain in held-out scenarios is not certain to be more than %v", s.cfg.MinEffect)
	default:
		s.out.Recommended = true
		s.out.Why = "the gain holds on unseen seeds and in held-out scenarios"
	}
	return nil
}

func (s *search) evidence(ctx context.Context, set Set, first uint64, current, best *candidate) (*Evidence, error) {
	values, err := s.cfg.Evaluate(ctx, set, []Point{current.point, best.point}, first, s.cfg.Evidence)
	if err != nil {
		return nil, err
	}
	s.out.Evaluations += 2 * s.cfg.Evidence
	if s.cfg.Progress != nil {
		s.cfg.Progress("evidence", len(s.cands), s.out.Evaluations)
	}
	ds := differences(values[0], values[1])
	return &Evidence{
		Seeds: len(ds), Current: stats.Mean(values[0]), Candidate: stats.Mean(values[1]), Gain: stats.Mean(ds), Interval: stats.MeanInterval(ds, 0.05, first),
	}, nil
}

var primes = [...]int{2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131}

// halton returns point i (from 1) of the Halton sequence in d dimensions. From the sixth dimension on, where neighbouring primes run side by side for
// long, each is turned by a part of its own (Cranley and Patterson 1976).
func halton(i, d int) []float64 {
	u := make([]float64, d)
	for k := range u {
		base := primes[k%len(primes)]
		f, n := 1.0, i
		for n > 0 {
			f /= float64(base)
			u[k] += f * float64(n%base)
			n /= base
		}
		if k >= 5 {
			_, u[k] = math.Modf(u[k] + math.Sqrt(float64(base)))
		}
	}
	return u
}
