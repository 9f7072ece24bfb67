package draw

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Shape is the shape of a distribution.
type Shape uint8

const (
	// Constant is always the mean.
	Constant Shape = iota
	// Exponential has a standard deviation as large as its mean.
	Exponential
	// Lognormal is the exponential of a normal variable with deviation Sigma: the long tail
	// of answers of very different lengths.
	Lognormal
	// Uniform is evenly spread over Mean ± Spread.
	Uniform
	// Normal has the standard deviation Spread; what would be negative is 0.
	Normal
	// Gamma has the coefficient of variation Sigma: below 1 steadier than Exponential, above 1 more bursty.
	Gamma
	// Weibull has the shape parameter Sigma: below 1 a heavy tail, above 1 a light one.
	Weibull
	// Pareto has the tail index Alpha, from its smallest value to Max: the heavier the smaller Alpha is.
	Pareto
	// Mixture draws from one of Parts, by their weights.
	Mixture
	// Table is given by Quantiles, between which it is interpolated on a logarithmic scale.
	Table

	// NumShapes is the number of shapes; a Shape is always smaller.
	NumShapes = int(Table) + 1
)

var shapeNames = [NumShapes]string{
	"constant", "exponential", "lognormal", "uniform", "normal", "gamma", "weibull", "pareto", "mixture", "table",
}

// ShapeNames returns the names of all shapes in order.
func ShapeNames() []string { return shapeNames[:] }

// String returns the shape as scenarios write it.
func (s Shape) String() string {
	if int(s) < len(shapeNames) {
		return shapeNames[s]
	}
	return "unknown"
}

// ParseShape returns the shape that is written as name.
func ParseShape(name string) (s Shape, ok bool) {
	for i, n := range shapeNames {
		if n == name {
			return Shape(i), true
		}
	}
	return 0, false
}

// Dist is a distribution of durations, in ns, or of counts such as tokens. Nothing that is drawn is negative. The zero
// Dist is always 0.
type Dist struct {
	Shape Shape
	// Mean is the mean, in ns or in what is counted (>= 0). Pareto, Mixture and Table have the one that their other
	// parameters give; for Pareto, Mean is the smallest value.
	Mean float64
	// Sigma is the standard deviation of the logarithm for Lognormal (0 to 4), the coefficient of variation for Gamma
	// (0.01 to 100), and the shape for Weibull (0.1 to 100). All are unitless.
	Sigma float64
	// Spread is half the width for Uniform (0 to Mean), and the standard deviation for Normal, in the unit of Mean.
	Spread float64
	// Alpha is the tail index of Pareto (0.1 to 100, unitless).
	Alpha float64
	// Min and Max bound what is drawn, in the unit of Mean; a Max of 0 is no bound. Pareto needs a Max when Alpha is at most 1.
	Min, Max float64
	// Offset is added to what is drawn, in the unit of Mean, and is not in it.
	Offset float64
	// Parts are those of a Mixture.
	Parts []Part
	// Quantiles are those of a Table, both coordinates rising.
	Quantiles []Quantile
}

// Part is a part of a mixture.
type Part struct {
	Weight float64 // relative to the other parts (> 0)
	Dist   Dist
}

// Quantile says that a share P (0 to 1) of what is drawn is at most Value.
type Quantile struct{ P, Value float64 }

// Of returns the constant distribution of a duration.
func Of(d time.Duration) Dist { return Dist{Mean: float64(d)} }

// Check returns what is wrong with d, or nil.
func (d *Dist) Check() error {
	finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	switch {
	case !finite(d.Offset) || d.Offset < 0:
		return fmt.Errorf("offset is %v, must be >= 0", d.Offset)
	case !finite(d.Mean) || d.Mean < 0 || !finite(d.Min) || d.Min < 0 || !finite(d.Max) || d.Max < 0 || d.Max > 0 && d.Max < d.Min:
		return fmt.Errorf("mean %v, min %v, max %v: out of range", d.Mean, d.Min, d.Max)
	case d.Shape == Lognormal && !(d.Sigma >= 0 && d.Sigma <= 4):
		return fmt.Errorf("sigma is %v, must be 0 to 4", d.Sigma)
	case d.Shape == Gamma && !(d.Sigma >= .01 && d.Sigma <= 100):
		return fmt.Errorf("the coefficient of variation is %v, must be 0.01 to 100", d.Sigma)
	case d.Shape == Weibull && !(d.Sigma >= .1 && d.Sigma <= 100):
		return fmt.Errorf("the shape is %v, must be 0.1 to 100", d.Sigma)
	case (d.Shape == Uniform || d.Shape == Normal) && !(d.Spread >= 0 && finite(d.Spread)), d.Shape == Uniform && d.Spread > d.Mean:
		return fmt.Errorf("spread is %v for a mean of %v: out of range", d.Spread, d.Mean)
	case d.Shape == Pareto && !(d.Alpha >= .1 && d.Alpha <= 100 && d.Mean > 0):
		return fmt.Errorf("alpha is %v and the smallest value %v, must be 0.1 to 100 and > 0", d.Alpha, d.Mean)
	case d.Shape == Pareto && d.Alpha <= 1 && d.Max <= d.Mean:
		return fmt.Errorf("alpha is %v: needs a max above the smallest value, or the mean is infinite", d.Alpha)
	case d.Shape == Mixture && len(d.Parts) == 0:
		return errors.New("a mixture without parts")
	case d.Shape == Table && len(d.Quantiles) < 2:
		return errors.New("a table needs at least 2 quantiles")
	}
	for i := range d.Parts {
		p := &d.Parts[i]
		if !(p.Weight > 0) || !finite(p.Weight) {
			return fmt.Errorf("part %d has the weight %v, must be > 0", i+1, p.Weight)
		}
		if p.Dist.Shape == Mixture {
			return fmt.Errorf("part %d is a mixture itself", i+1)
		}
		if err := p.Dist.Check(); err != nil {
			return fmt.Errorf("part %d: %w", i+1, err)
		}
	}
	for i, q := range d.Quantiles {
		if !(q.P >= 0 && q.P <= 1 && q.Value >= 0 && finite(q.Value)) || i > 0 && !(q.P > d.Quantiles[i-1].P && q.Value >= d.Quantiles[i-1].Value) {
			return fmt.Errorf("quantile %d (%v: %v) is out of range or out of order", i+1, q.P, q.Value)
		}
	}
	return nil
}

// Sample returns the n-th number of a stream: never negative, and at most 2^60.
func (d *Dist) Sample(seed uint64, s Stream, n uint64) float64 {
	if d.Shape == Constant {
		return d.clamp(d.Mean) + d.Offset
	}
	return min(d.clamp(d.from(Bits(seed, s, n)))+d.Offset, 1<<60)
}

// Int returns the n-th number of a stream as an integer: ns, or a count.
func (d *Dist) Int(seed uint64, s Stream, n uint64) int64 { return int64(d.Sample(seed, s, n)) }

// from returns the number that belongs to random bits, before Min and Max.
func (d *Dist) from(bits uint64) float64 {
	switch d.Shape {
	case Exponential:
		return -math.Log(Unit(bits)) * d.Mean
	case Lognormal:
		return math.Exp(d.Sigma*normal(bits)-d.Sigma*d.Sigma/2) * d.Mean
	case Uniform:
		return d.Mean + (2*Unit(bits)-1)*d.Spread
	case Normal:
		return max(0, d.Mean+normal(bits)*d.Spread)
	case Gamma:
		k := 1 / (d.Sigma * d.Sigma)
		return gamma(k, bits) / k * d.Mean
	case Weibull:
		return d.Mean / math.Gamma(1+1/d.Sigma) * math.Pow(-math.Log(Unit(bits)), 1/d.Sigma)
	case Pareto:
		tail := 0.0 // probability of more than Max, which is cut off
		if d.Max > d.Mean {
			tail = math.Pow(d.Mean/d.Max, d.Alpha)
		}
		return d.Mean * math.Pow(1-Unit(bits)*(1-tail), -1/d.Alpha)
	case Mixture:
		u, sum := Unit(bits), 0.0
		for i := range d.Parts {
			sum += d.Parts[i].Weight
		}
		u *= sum
		for i := range d.Parts {
			p := &d.Parts[i]
			if u -= p.Weight; u < 0 || i == len(d.Parts)-1 {
				return p.Dist.clamp(p.Dist.from(Mix(bits + golden)))
			}
		}
	case Table:
		return d.quantile(Unit(bits))
	}
	return d.Mean
}

func (d *Dist) clamp(x float64) float64 {
	if d.Max > 0 {
		x = min(x, d.Max)
	}
	return max(x, d.Min)
}

// quantile interpolates in the table.
func (d *Dist) quantile(u float64) float64 {
	t := d.Quantiles
	if u <= t[0].P {
		return t[0].Value
	}
	for i := 1; i < len(t); i++ {
		if u <= t[i].P {
			a, b := t[i-1], t[i]
			f := (u - a.P) / (b.P - a.P)
			if a.Value <= 0 {
				return a.Value + f*(b.Value-a.Value)
			}
			return a.Value * math.Pow(b.Value/a.Value, f)
		}
	}
	return t[len(t)-1].Value
}

// normal returns a standard normal number.
func normal(bits uint64) float64 { return math.Sqrt2 * math.Erfinv(2*Unit(bits)-1) }

// gamma returns a gamma number with shape k and scale 1 (Marsaglia and Tsang, A simple method for generating gamma
// variables, 2000), with a short series of its own for the draws that it needs.
func gamma(k float64, bits uint64) float64 {
	next := func() uint64 { bits += golden; return Mix(bits) }
	boost := 1.0
	if k < 1 {
		boost = math.Pow(Unit(next()), 1/k)
		k++
	}
	c := k - 1.0/3
	for {
		x := normal(next())
		v := 1 + x/math.Sqrt(9*c)
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(Unit(next())) < x*x/2+c-c*v+c*math.Log(v) {
			return boost * c * v
		}
	}
}

// Average returns the mean of d. For what Min and Max cut off it is that of a grid of quantiles.
func (d *Dist) Average() float64 { return d.average() + d.Offset }

// averageGrid is how many quantiles stand for a distribution.
const averageGrid = 1 << 12

func (d *Dist) average() float64 {
	cut := d.Min > 0 || d.Max > 0
	switch {
	case d.Shape == Constant:
		return d.clamp(d.Mean)
	case d.Shape == Table:
		return d.tableAverage()
	case d.Shape == Pareto && d.Min <= d.Mean && d.Max > d.Mean:
		// Of the Pareto distribution between l and h.
		l, h, a := d.Mean, d.Max, d.Alpha
		if a == 1 {
			return math.Log(h/l) / (1/l - 1/h)
		}
		return math.Pow(l, a) / (1 - math.Pow(l/h, a)) * a / (a - 1) * (math.Pow(l, 1-a) - math.Pow(h, 1-a))
	case d.Shape == Pareto && !cut:
		return d.Mean * d.Alpha / (d.Alpha - 1)
	case d.Shape == Mixture:
		var sum, weights float64
		for i := range d.Parts {
			p := &d.Parts[i]
			part := p.Dist
			part.Min = max(part.Min, d.Min)
			if d.Max > 0 && (part.Max == 0 || part.Max > d.Max) {
				part.Max = d.Max
			}
			sum += p.Weight * part.Average()
			weights += p.Weight
		}
		return sum / weights
	case !cut && d.Shape != Normal:
		return d.Mean
	}
	var sum float64
	for i := range uint64(averageGrid) {
		// Gamma draws more than once: it gets random bits, the others a grid.
		bits := (2*i + 1) << (64 - 13)
		if d.Shape == Gamma {
			bits = Bits(1, 0, i)
		}
		sum += min(d.clamp(d.from(bits)), 1<<60)
	}
	return sum / averageGrid
}

// tableAverage integrates the quantiles, each part of which is an exponential.
func (d *Dist) tableAverage() float64 {
	t := d.Quantiles
	sum := t[0].P*d.clamp(t[0].Value) + (1-t[len(t)-1].P)*d.clamp(t[len(t)-1].Value)
	for i := 1; i < len(t); i++ {
		a, b := d.clamp(t[i-1].Value), d.clamp(t[i].Value)
		mean := (a + b) / 2
		if a > 0 && b > a*(1+1e-9) {
			mean = (b - a) / math.Log(b/a)
		}
		sum += (t[i].P - t[i-1].P) * mean
	}
	return sum
}
