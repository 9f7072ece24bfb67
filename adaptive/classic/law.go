package classic

import (
	"fmt"
	"strings"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// The names that [New] knows.
const (
	AIMD      = "aimd"
	Vegas     = "vegas"
	Gradient2 = "gradient2"
)

// Names returns the names that [New] knows.
func Names() []string { return []string{AIMD, Vegas, Gradient2} }

// An UnknownLawError says that no law has the name that was asked for.
type UnknownLawError struct {
	Name string
}

// Error names what was asked for and what there is.
func (e *UnknownLawError) Error() string {
	return fmt.Sprintf("classic: no law is called %q, must be one of %s", e.Name, strings.Join(Names(), ", "))
}

// New returns the law with the given name, made by NewAIMD, NewVegas or NewGradient2. The
// error is an *UnknownLawError.
func New(name string, cfg adaptive.Config) (*Law, error) {
	switch name {
	case AIMD:
		return NewAIMD(cfg), nil
	case Vegas:
		return NewVegas(cfg), nil
	case Gradient2:
		return NewGradient2(cfg), nil
	}
	return nil, &UnknownLawError{Name: name}
}

// Law is one of go-concurrency-limits' limits as an [adaptive.Law]. It asks for a window at
// each call's end. Its decisions give [adaptive.CauseExternal] as their cause, because the
// library gives none, and count an episode for each time the limit falls.
//
// A Law belongs to one guard and is not safe for concurrent use.
type Law struct {
	limit  core.Limit
	sample func(start, latency time.Duration, inFlight int, dropped bool)
	min    int
	max    int
	d      adaptive.Decision
}

var _ adaptive.Law = (*Law)(nil)

// NewAIMD returns the library's AIMDLimit. Initial, Min, Max and Backoff of cfg are used;
// zero means what the library means by default: 10, 1, no maximum (but
// [adaptive.MaxLimit]), 0.9. The increase is 1.
func NewAIMD(cfg adaptive.Config) *Law {
	lo, hi := bounds(cfg, 1, adaptive.MaxLimit)
	backoff := cfg.Backoff
	if !(backoff > 0 && backoff < 1) {
		backoff = 0.9
	}
	return newLaw(limit.NewAIMDLimit("", initial(cfg, 10, lo, hi), backoff, 1, nil), lo, hi)
}

// NewGradient2 returns the library's Gradient2Limit. Initial, Min and Max of cfg are used;
// zero means what the library means by default: 20, 20, 200. (A Max below 20 is the
// minimum, too, unless Min is set.) Queue size 4, smoothing 0.2 and the long window of 600
// samples are the library's defaults.
func NewGradient2(cfg adaptive.Config) *Law {
	lo, hi := bounds(cfg, 20, 200)
	l, err := limit.NewGradient2Limit("", initial(cfg, 20, lo, hi), hi, lo, nil, 0.2, 600, nil, nil)
	if err != nil {
		panic("classic: " + err.Error()) // lo <= hi, which is all that it checks
	}
	return newLaw(l, lo, hi)
}

// bounds returns the least and the largest limit of a law with the given defaults.
func bounds(cfg adaptive.Config, defaultMin, defaultMax int) (lo, hi int) {
	lo, hi = cfg.Min, cfg.Max
	if hi <= 0 {
		hi = max(defaultMax, min(lo, adaptive.MaxLimit))
	}
	hi = min(hi, adaptive.MaxLimit)
	if lo <= 0 {
		lo = defaultMin
	}
	return min(lo, hi), hi
}

func initial(cfg adaptive.Config, defaultInitial, lo, hi int) int {
	n := cfg.Initial
	if n <= 0 {
		n = defaultInitial
	}
	return min(max(n, lo), hi)
}

func newLaw(l core.Limit, lo, hi int) *Law {
	w := &Law{limit: l, min: lo, max: hi}
	w.sample = func(start, latency time.Duration, inFlight int, dropped bool) {
		l.OnSample(int64(start), int64(latency), inFlight, dropped)
	}
	w.d = adaptive.Decision{Limit: w.estimate(), Cause: adaptive.CauseStart}
	return w
}

// Decision implements [adaptive.Law].
func (l *Law) Decision() adaptive.Decision { return l.d }

// Window implements [adaptive.Law]. A window of a single call is told as it was. Of
// several, the library is told of one with the least latency and of the others with the
// mean of theirs, and all with the most in flight. Calls that were not timed are not told.
func (l *Law) Window(now time.Duration, w adaptive.Window) adaptive.Decision {
	n := min(w.Timed, w.OK)
	if n <= 0 {
		return l.d
	}
	l.tell(now, w.MinLatency, w.MaxInFlight, false)
	if n > 1 {
		rest := (w.Latency - w.MinLatency) / time.Duration(n-1)
		for range n - 1 {
			l.tell(now, rest, w.MaxInFlight, false)
		}
	}
	return l.decide()
}

// Ended implements [adaptive.Law].
func (l *Law) Ended(now time.Duration, c adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	switch o.Class {
	case feedback.Throttled:
		l.d.Binding = feedback.ScopeUnknown
	case feedback.Overloaded, feedback.Timeout:
	default:
		return l.d
	}
	l.tell(now, now-c.SentAt, c.InFlight, true)
	return l.decide()
}

// Hint implements [adaptive.Law] and changes nothing.
func (l *Law) Hint(time.Duration, feedback.Window) adaptive.Decision { return l.d }

// Wants implements [adaptive.Modest].
func (l *Law) Wants() adaptive.Wants { return adaptive.Wants{} }

// tell hands one call to the library. A latency of 0 would be a division by 0 in Vegas, and a
// negative one means that time went backwards.
func (l *Law) tell(now, latency time.Duration, inFlight int, dropped bool) {
	latency = max(1, latency)
	l.sample(now-latency, latency, inFlight, dropped)
}

func (l *Law) decide() adaptive.Decision {
	n := l.estimate()
	if n < l.d.Limit {
		l.d.Episode++
	}
	if n != l.d.Limit {
		l.d.Limit, l.d.Cause = n, adaptive.CauseExternal
	}
	return l.d
}

func (l *Law) estimate() int { return min(max(l.limit.EstimatedLimit(), l.min), l.max) }

// String returns the library's own account of the law.
func (l *Law) String() string { return fmt.Sprint(l.limit) }
