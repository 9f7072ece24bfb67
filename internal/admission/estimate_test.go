package admission

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// overruns returns the share of n calls that used more output than estimated.
func overruns(e *Estimator, class uint8, n int, use func() int64) float64 {
	over := 0
	for range n {
		used := use()
		if used > e.Estimate(class, 0).Output {
			over++
		}
		e.Learn(class, feedback.Usage{Known: true, Input: 1, Output: used})
	}
	return float64(over) / float64(n)
}

func lognormal(rng *rand.Rand, median, sigma float64) func() int64 {
	return func() int64 { return int64(median * math.Exp(sigma*rng.NormFloat64())) }
}

// "long-run overrun frequency within ±2 points of the stated probability on stationary lognormal input, and
// recovers after a drift".
func TestEstimateOverrun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom([]float64{0, 0.02, 0.05, 0.1, 0.25, 0.5}).Draw(t, "p")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		sigma := rapid.Float64Range(0.2, 1.5).Draw(t, "sigma")
		median := math.Exp(rapid.Float64Range(3, 10).Draw(t, "log median"))
		var e Estimator
		e.Configure(EstimateConfig{Overrun: p})
		want := e.overrun()
		check := func(when string, got float64) {
			t.Helper()
			if math.Abs(got-want) > 0.02 {
				t.Errorf("%s: %.4f of the calls overran, want %.3f within 0.02", when, got, want)
			}
		}
		check("from the first call", overruns(&e, 0, 4000, lognormal(rng, median, sigma)))
		factor := rapid.SampledFrom([]float64{0.1, 0.25, 4, 10}).Draw(t, "drift")
		overruns(&e, 0, int(200+400*math.Abs(math.Log(factor))*0.1/want), lognormal(rng, median*factor, sigma))
		check("after a drift", overruns(&e, 0, 4000, lognormal(rng, median*factor, sigma)))
	})
}

func TestEstimate(t *testing.T) {
	var e Estimator
	if got := e.Estimate(3, 0); got != (Cost{1000, 1000}) {
		t.Errorf("unseen: %+v, want 1000 and 1000", got)
	}
	e.Configure(EstimateConfig{Input: 300, Output: 700})
	if got := e.Estimate(3, 500); got != (Cost{300, 500}) {
		t.Errorf("unseen: %+v, want 300, and 500 as bounded", got)
	}
	e.Learn(3, feedback.Usage{Input: 5, Output: 5}) // not known
	e.Learn(3, feedback.Usage{Known: true})
	e.Learn(3, feedback.Usage{Known: true, Total: 9})
	if got := e.Estimate(3, 0); got != (Cost{300, 700}) {
		t.Errorf("nothing was to be learned, but %+v", got)
	}
	e.Learn(3, feedback.Usage{Known: true, Input: 40, Output: 20})
	e.Learn(3, feedback.Usage{Known: true, Input: 10, Output: 80})
	if got := e.Estimate(3, 0); got != (Cost{40, 80}) {
		t.Errorf("after two calls: %+v, want the largest of each", got)
	}
	if got := e.Estimate(3, 60); got.Output != 60 {
		t.Errorf("with max_tokens 60: %+v", got)
	}
	if got := e.Estimate(2, 0); got != (Cost{300, 700}) {
		t.Errorf("another class learned: %+v", got)
	}
	// A class beyond the last is the last; wild counts stay in range.
	for range 1000 {
		e.Learn(200, feedback.Usage{Known: true, Input: math.MaxInt64, Output: math.MinInt64})
	}
	if got := e.Estimate(NumClasses-1, 0); got.Input != maxUnits || got.Output != 1 {
		t.Errorf("after wild counts: %+v, want %d and 1", got, int64(maxUnits))
	}
	// Calls that are all alike: reserved is just what they use.
	for range 2000 {
		e.Learn(1, feedback.Usage{Known: true, Input: 100, Output: 1})
	}
	if got := e.Estimate(1, 0); got.Input < 99 || got.Input > 105 || got.Output != 1 {
		t.Errorf("of calls of 100 and 1: %+v", got)
	}
}
