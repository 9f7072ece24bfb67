package admission

import (
	"math"

	"github.com/flyball-go/flyball/feedback"
)

// NumClasses is the number of classes of calls; a class is always smaller, larger ones count as the last.
const NumClasses = 8

const (
	// estimateGain is the step of an estimate, in natural logarithms: an overrun raises it by
	// estimateGain*(1-p), anything else lowers it by estimateGain*p. With it the estimate is halved in
	// ln(2)/(0.05*p) calls (140 for p = 0.1), and doubled in 16 overruns.
	estimateGain = 0.05
	// estimateStart is the step times the number of calls seen, while that is larger than estimateGain.
	estimateStart = 5.0
)

// EstimateConfig says how sure estimates are to be.
type EstimateConfig struct {
	// Overrun is the probability (0.001 to 0.5) with which a call is to use more than it was
	// estimated to; zero is 0.1. Smaller reserves more than is used; larger has more to charge afterwards.
	Overrun float64
	// Input and Output are the estimates of a class that has not been seen, in tokens; zero is 1000.
	Input, Output int64
}

// Estimator learns what calls of unknown cost will use: for each class of calls the quantile that a call
// exceeds with the stated probability, of input and output tokens apart. It needs no tokenizer and no
// history.
//
// It is the stochastic approximation of a quantile (Robbins and Monro, 1951) with a step that does not go
// to zero, on the logarithm: up by gain*(1-p) after an overrun, down by gain*p otherwise. The steps add up
// to the estimate, which stays where the calls are; so the share of overruns in n calls differs from p by
// at most (range of the estimate in logarithms)/(gain*n), whatever the calls are like and however they
// change (Gibbs and Candès, 2021). The first 1/p calls of a class are estimated by the largest seen.
//
// The state has a fixed size, and is made with the first usage: most guards learn of none. The zero Estimator is ready; an Estimator needs
// its guard's lock.
type Estimator struct {
	cfg  EstimateConfig
	seen *[NumClasses]struct{ input, output quantile } // nil: nothing
}

// Configure puts cfg in force and keeps what was learned.
func (e *Estimator) Configure(cfg EstimateConfig) { e.cfg = cfg }

func (e *Estimator) overrun() float64 {
	if !(e.cfg.Overrun > 0) {
		return 0.1
	}
	return min(max(e.cfg.Overrun, 0.001), 0.5)
}

// Estimate returns what a call of a class is expected to use at most. maxOutput is the most that the
// call lets the upstream generate (max_tokens); 0 when it does not say.
func (e *Estimator) Estimate(class uint8, maxOutput int64) Cost {
	class = min(class, NumClasses-1)
	var input, output quantile
	if e.seen != nil {
		input, output = e.seen[class].input, e.seen[class].output
	}
	c := Cost{Input: input.value(e.cfg.Input), Output: output.value(e.cfg.Output)}
	if maxOutput > 0 {
		c.Output = min(c.Output, maxOutput)
	}
	return c
}

// Learn takes what a call of a class used. Usage that is not known is nothing to learn from.
func (e *Estimator) Learn(class uint8, u feedback.Usage) {
	if !u.Known || u.Input <= 0 && u.Output <= 0 {
		return
	}
	class = min(class, NumClasses-1)
	if e.seen == nil {
		e.seen = new([NumClasses]struct{ input, output quantile })
	}
	p := e.overrun()
	e.seen[class].input.learn(u.Input, p)
	e.seen[class].output.learn(u.Output, p)
}

// quantile is the level that a share of the numbers exceeds.
type quantile struct {
	at float64 // >= 1 once n > 0
	n  uint32  // seen; saturates
}

func (q *quantile) value(unseen int64) int64 {
	if q.n == 0 {
		if unseen <= 0 {
			return 1000
		}
		return min(unseen, maxUnits)
	}
	return int64(q.at)
}

func (q *quantile) learn(x int64, p float64) {
	v := float64(min(max(x, 1), maxUnits))
	if q.n < math.MaxUint32 {
		q.n++
	}
	if n := float64(q.n); n*p <= 1 {
		q.at = max(q.at, v)
		return
	}
	gain := max(estimateGain, min(estimateStart/float64(q.n), 0.5))
	// Compared as Estimate rounds: a call that uses just what was reserved is no overrun.
	if x > int64(q.at) {
		q.at *= math.Exp(gain * (1 - p))
	} else {
		q.at *= math.Exp(-gain * p)
	}
	q.at = min(max(q.at, 1), maxUnits)
}
