package fit

import (
	"math"

	"github.com/flyball-go/flyball/internal/draw"
)

// Latency is how long an answer takes, in s. A call alone takes Service + Input·tokens + Output·tokens; beside n-1 others, that
// times 1 + Scale·(n-1), or, when Servers is set, times max(1, n/Servers).
type Latency struct {
	Service, Input, Output float64
	// Sigma is the standard deviation of the logarithm of Service, which is lognormal with that mean; 0 is a constant.
	Sigma   float64
	Scale   float64
	Servers float64
}

// crowd returns the factor for n calls in flight.
func (l *Latency) crowd(n int) float64 {
	if l.Servers > 0 {
		return max(1, float64(n)/l.Servers)
	}
	return 1 + l.Scale*float64(n-1)
}

// mean returns the expected latency of a call.
func (l *Latency) mean(c *call) float64 {
	return (l.Service + l.Input*c.in + l.Output*c.out) * l.crowd(c.flight)
}

// draw returns a latency as the model gives it, with its chance; i chooses the draw.
func (l *Latency) draw(c *call, i int) float64 {
	d := draw.Dist{Mean: l.Service}
	if l.Sigma > 0 {
		d.Shape, d.Sigma = draw.Lognormal, l.Sigma
	}
	return (d.Sample(1, 0, uint64(i)) + l.Input*c.in + l.Output*c.out) * l.crowd(c.flight)
}

// fitLatency fits by least squares of relative errors: for each factor for calls in flight the rest is linear.
// It returns the mean squared error of the logarithm, too.
func fitLatency(calls []call) (Latency, float64) {
	var served []call
	most := 1
	for _, c := range calls {
		if c.served && c.took > 0 {
			served = append(served, c)
			most = max(most, c.flight)
		}
	}
	if len(served) == 0 {
		return Latency{}, math.Inf(1)
	}
	best, least := Latency{}, math.Inf(1)
	try := func(l Latency) float64 {
		e := l.linear(served)
		if e < least {
			best, least = l, e
		}
		return e
	}
	alone := try(Latency{})
	if most > 1 {
		// The least of a function with one valley, on a logarithmic scale, after a coarse look.
		lo, hi := 1e-4, 10.0
		at := lo
		value := math.Inf(1)
		for k := lo; k <= hi; k *= 1.3 {
			if e := try(Latency{Scale: k}); e < value {
				value, at = e, k
			}
		}
		for step := 1.14; step > 1.001; step = math.Sqrt(step) {
			for _, k := range []float64{at / step, at * step} {
				if e := try(Latency{Scale: k}); e < value {
					value, at = e, k
				}
			}
		}
		for n := 1; n < most; n = max(n+1, n*21/20) {
			try(Latency{Servers: float64(n)})
		}
		// Calls in flight must explain something to be part of the model, and more than chance does: of few calls some are always slow when many
		// others are in flight.
		if least > (1-max(0.03, 8/float64(len(served))))*alone {
			best = Latency{}
			least = best.linear(served)
		}
	}
	best.chance(served)
	return best, least
}

// linear fits Service, Input and Output for the given factors and returns the mean squared error of the logarithm.
func (l *Latency) linear(calls []call) float64 {
	use := [3]bool{true, false, false}
	for i := range calls {
		use[1] = use[1] || calls[i].in != calls[0].in
		use[2] = use[2] || calls[i].out != calls[0].out
	}
	for again := true; again; {
		again = false
		l.Service, l.Input, l.Output = 0, 0, 0
		// Weights are the inverse squares of what is foretold, not of what was observed, which would favour short calls.
		for range 4 {
			var a [3][4]float64
			for i := range calls {
				c := &calls[i]
				f := l.crowd(c.flight)
				w := 1.0
				if m := l.mean(c); m > 0 {
					w = 1 / (m * m)
				}
				x := [3]float64{f, f * c.in, f * c.out}
				for r := range 3 {
					for k := range 3 {
						a[r][k] += w * x[r] * x[k]
					}
					a[r][3] += w * x[r] * c.took
				}
			}
			s := solve(a, use)
			l.Service, l.Input, l.Output = s[0], s[1], s[2]
			if l.Service < 0 || l.Input < 0 || l.Output < 0 {
				break
			}
		}
		// Nothing takes less than no time: what comes out negative is left out, the worst first.
		worst, at := 0.0, -1
		for i, v := range []float64{l.Service, l.Input, l.Output} {
			if v < worst {
				worst, at = v, i
			}
		}
		if at >= 0 {
			use[at] = false
			again = use[0] || use[1] || use[2]
			if !again {
				return math.Inf(1)
			}
		}
	}
	var err deviation
	for i := range calls {
		err.add(calls[i].took, l.mean(&calls[i]))
	}
	return err.square()
}

// deviation is how far times are from foretold ones, by their logarithms and beside their mean: models are compared by it. Of a squared relative
// error the long times of a heavy tail are nearly all, so that a model that foretells everything too long is best (what took nothing of
// what was foretold is wrong by 1), and the few longest decide what explains them.
type deviation struct{ n, sum, squares float64 }

func (v *deviation) add(took, foretold float64) {
	// What is twenty times as short is something else, such as an answer from a cache, and how much shorter says nothing.
	d := max(-3, min(math.Log(took/max(foretold, 1e-9)), 3))
	v.n, v.sum, v.squares = v.n+1, v.sum+d, v.squares+d*d
}

// square returns the mean squared deviation; infinity when there is none.
func (v *deviation) square() float64 {
	if v.n == 0 {
		return math.Inf(1)
	}
	mean := v.sum / v.n
	return v.squares/v.n - mean*mean
}

// solve solves three linear equations for the variables that are used; the others are 0.
func solve(a [3][4]float64, use [3]bool) (x [3]float64) {
	for i := range 3 {
		if !use[i] {
			for k := range 3 {
				a[i][k], a[k][i] = 0, 0
			}
			a[i][i], a[i][3] = 1, 0
		}
	}
	for i := range 3 {
		p := i
		for r := i + 1; r < 3; r++ {
			if math.Abs(a[r][i]) > math.Abs(a[p][i]) {
				p = r
			}
		}
		a[i], a[p] = a[p], a[i]
		if a[i][i] == 0 {
			continue
		}
		for r := range 3 {
			if r != i {
				f := a[r][i] / a[i][i]
				for k := i; k < 4; k++ {
					a[r][k] -= f * a[i][k]
				}
			}
		}
	}
	for i := range 3 {
		if a[i][i] != 0 {
			x[i] = a[i][3] / a[i][i]
		}
	}
	return x
}

// chance puts what the model does not explain into Service.
func (l *Latency) chance(calls []call) {
	v := 0.0
	for i := range calls {
		d := (calls[i].took - l.mean(&calls[i])) / l.crowd(calls[i].flight)
		v += d * d / float64(len(calls))
	}
	if l.Service <= 0 {
		l.Service = 1e-3 // chance needs something to be chance of
	}
	if s := math.Sqrt(math.Log1p(v / (l.Service * l.Service))); s >= 0.02 {
		l.Sigma = min(s, 4)
	}
}
