package tune

import (
	"context"
	"math"
)

// An Effect is how much a parameter matters (Morris 1991, Factorial sampling plans for preliminary computational experiments; the mean of sizes
// is that of Campolongo et al. 2007). All is in the unit of the objective, for a move over the whole range.
type Effect struct {
	// Size is the mean size of the change of the objective when this parameter alone is moved, and Spread the standard deviation of the
	// signed changes: where it is as large as Size, the parameter acts differently in different places, or together with others.
	Size, Spread float64
	// Moves is how many moves it is from. Those to a point that is not allowed do not count.
	Moves int
}

// move is how far a parameter is moved, as a share of its range: of Morris' eight levels, four.
const move = 4.0 / 7

// forbidden is the objective below which a point is one that is not allowed.
const forbidden = -900

// screen moves each parameter alone, from several places, on the seeds of the first block.
func (s *search) screen(ctx context.Context) error {
	d := len(s.cfg.Params)
	var walks [][]*candidate
	var all []*candidate
	for k := range s.cfg.Trajectories {
		u := halton(k+1, d)
		for i := range u {
			u[i] *= 1 - move
		}
		walk := []*candidate{s.add(u, nil)}
		for i := range d {
			u[(i+k)%d] += move // another one goes first each time
			walk = append(walk, s.add(u, nil))
		}
		walks, all = append(walks, walk), append(all, walk...)
	}
	if len(all) == 0 {
		return nil
	}
	if err := s.run(ctx, "importance", all, block); err != nil {
		return err
	}
	effects := make([]Effect, d)
	sums := make([]float64, d)
	squares := make([]float64, d)
	for k, walk := range walks {
		for i := range d {
			p := (i + k) % d
			a, b := walk[i], walk[i+1]
			by := b.unit[p] - a.unit[p]
			before, after := first(a), first(b)
			if by == 0 || before < forbidden || after < forbidden {
				continue
			}
			e := (after - before) / by
			effects[p].Moves++
			effects[p].Size += math.Abs(e)
			sums[p], squares[p] = sums[p]+e, squares[p]+e*e
		}
	}
	for i := range effects {
		if n := float64(effects[i].Moves); n > 0 {
			effects[i].Size /= n
			if n > 1 {
				effects[i].Spread = math.Sqrt(max(0, squares[i]-sums[i]*sums[i]/n) / (n - 1))
			}
		}
	}
	s.out.Effects = effects
	return nil
}

// first is the mean over the first block of seeds, which all that is screened has met.
func first(c *candidate) float64 {
	sum := 0.0
	for _, v := range c.values[:block] {
		sum += v
	}
	return sum / block
}
