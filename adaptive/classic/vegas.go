package classic

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/limit"
	"github.com/platinummonkey/go-concurrency-limits/measurements"

	"github.com/flyball-go/flyball/adaptive"
)

// probeMultiplier is the library's default: a probe comes each (0.5 to 1) * 30 * limit calls.
const probeMultiplier = 30

// noProbe is a factor between probes that no run reaches: 2^39 calls at a limit of 1, and where an int has 32 bits 2^30. The
// library takes it as an int and multiplies it with the limit as an int64, so it must stay far from the end of that at MaxLimit,
// which the constant below makes the compiler check: it cannot be negative.
const (
	noProbe        = min(1<<40, math.MaxInt)
	_       uint64 = math.MaxInt64 - noProbe*adaptive.MaxLimit
)

// NewVegas returns NewVegasSeed with seed 1.
func NewVegas(cfg adaptive.Config) *Law { return NewVegasSeed(cfg, 1) }

// NewVegasSeed returns the library's VegasLimit, with probes at calls that seed decides
// (any value). Replicas should have different seeds. Initial, Min and Max of cfg are used;
// zero means what the library means by default: 20, 1, 1000. Smoothing and the functions of
// the limit are the library's defaults.
func NewVegasSeed(cfg adaptive.Config, seed uint64) *Law {
	l, _ := newVegas(cfg, seed)
	return l
}

func newVegas(cfg adaptive.Config, seed uint64) (*Law, *prober) {
	lo, hi := bounds(cfg, 1, 1000)
	p := &prober{noLoad: &measurements.MinimumMeasurement{}}
	p.rand.Seed(seed, 0x7665676173)
	l := limit.NewVegasLimitWithRegistry("", initial(cfg, 20, lo, hi), p.noLoad, hi, -1, nil, nil, nil, nil, nil, noProbe, nil, nil)
	p.jitter = p.draw()
	p.due = func() bool { return int64(p.jitter*probeMultiplier*float64(l.EstimatedLimit())) <= p.count }

	w := newLaw(l, lo, hi)
	onSample := w.sample
	w.sample = func(start, latency time.Duration, inFlight int, dropped bool) {
		if !p.probe(latency) {
			onSample(start, latency, inFlight, dropped)
		}
	}
	return w, p
}

// prober does what VegasLimit does between two probes, with a random source of its own: when a
// probe is due, the latency without load is forgotten, and the call's latency takes its place.
type prober struct {
	noLoad *measurements.MinimumMeasurement // the library's own, too
	rand   rand.PCG
	jitter float64 // 0.5 to 1
	count  int64   // calls since the last probe
	due    func() bool
}

// draw returns a number from 0.5 to 1, 1 excluded, as the library draws it.
func (p *prober) draw() float64 {
	return float64(p.rand.Uint64()>>11)/(1<<53)/2 + 0.5
}

// probe counts a call and reports whether it was a probe, of which the library must not hear.
func (p *prober) probe(latency time.Duration) bool {
	p.count++
	if !p.due() {
		return false
	}
	p.jitter, p.count = p.draw(), 0
	p.noLoad.Reset()
	p.noLoad.Add(float64(latency))
	return true
}
