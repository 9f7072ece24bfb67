package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/adaptive/classic"
	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/peers"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Controller is one way to guard the upstream.
type Controller struct {
	// Name is what reports show: "ours", "fixed-20".
	Name string
	// Ours marks this project's controller.
	Ours bool

	kind  string
	limit int     // of kind fixed
	rate  float64 // of kind bucket: starts a second; 0: the scenario's quota
}

// The kinds of controllers.
const (
	kindNone      = "none"         // no guard: every attempt is sent at once
	kindSDK       = "sdk-default"  // no guard: the two retries of an SDK that nobody configured
	kindBackoff   = "backoff"      // no guard: exponential back-off with full jitter
	kindFixed     = "fixed"        // a guard with a constant limit
	kindBucket    = "token-bucket" // a guard with a constant pace
	kindAWS       = "aws-adaptive"
	kindARC       = "vector-arc"
	kindCIAD      = "palantir-ciad"
	kindAIMD      = config.LawAIMD
	kindVegas     = config.LawVegas
	kindGradient2 = config.LawGradient2
	kindOurs      = "ours" // flyball's own law
)

// fixedLimit is the limit of "fixed" when none is given: where Vegas and Gradient2 begin.
const fixedLimit = 20

// Controllers returns the controllers of a comparison that names none, ours last.
func Controllers() []Controller {
	return []Controller{
		{Name: kindNone, kind: kindNone},
		{Name: kindSDK, kind: kindSDK},
		{Name: kindBackoff, kind: kindBackoff},
		{Name: "fixed-20", kind: kindFixed, limit: fixedLimit},
		{Name: kindBucket, kind: kindBucket},
		{Name: kindAIMD, kind: kindAIMD},
		{Name: kindVegas, kind: kindVegas},
		{Name: kindGradient2, kind: kindGradient2},
		{Name: kindAWS, kind: kindAWS},
		{Name: kindARC, kind: kindARC},
		{Name: kindCIAD, kind: kindCIAD},
		{Name: kindOurs, kind: kindOurs, Ours: true},
	}
}

// ControllerNames says how controllers are written, for messages and usages.
const ControllerNames = "none, sdk-default, backoff, fixed-N, token-bucket, token-bucket-RATE, gcl-aimd, gcl-vegas, gcl-gradient2, " +
	"aws-adaptive, vector-arc, palantir-ciad, ours"

// maxRate is the largest rate of a token bucket, in starts a second.
const maxRate = 1_000_000.0

// ParseController returns the controller that is written as name, one of [ControllerNames], such as "fixed-20" or
// "token-bucket-2.5" (starts a second).
func ParseController(name string) (Controller, error) {
	switch name {
	case kindNone, kindSDK, kindBackoff, kindBucket, kindAIMD, kindVegas, kindGradient2, kindAWS, kindARC, kindCIAD, kindOurs:
		return Controller{Name: name, kind: name, Ours: name == kindOurs}, nil
	}
	if digits, ok := strings.CutPrefix(name, "fixed-"); ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 1 && n <= adaptive.MaxLimit && digits == strconv.Itoa(n) {
			return Controller{Name: name, kind: kindFixed, limit: n}, nil
		}
	}
	if digits, ok := strings.CutPrefix(name, kindBucket+"-"); ok {
		if r, err := strconv.ParseFloat(digits, 64); err == nil && r > 0 && r <= maxRate {
			return Controller{Name: name, kind: kindBucket, rate: r}, nil
		}
	}
	return Controller{}, fmt.Errorf("there is no controller %q: use one of %s (N from 1 to %d calls in flight; RATE above 0, to %.0f starts a second)",
		name, ControllerNames, adaptive.MaxLimit, maxRate)
}

// ParseControllers returns the controllers in a list with commas between them.
func ParseControllers(list string) ([]Controller, error) {
	var cs []Controller
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		c, err := ParseController(name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(cs, func(d Controller) bool { return d.Name == c.Name }) {
			return nil, fmt.Errorf("controller %q is given twice", c.Name)
		}
		cs = append(cs, c)
	}
	return cs, nil
}

// guard returns a new guard with the controller's law, nil for none. All guards have the same queue and room and the same patience; the
// pause for a Retry-After and the budget are ours alone, as no other limiter has them. The laws of go-concurrency-limits have that library's
// defaults.
func (c Controller) guard(s *Scenario, set *config.Settings, seed uint64) *sim.Guard {
	if c.kind == kindNone || c.kind == kindSDK || c.kind == kindBackoff {
		return nil
	}
	g := &sim.Guard{
		NewLaw:           func(n int) adaptive.Law { return c.law(s, set, n, seed+uint64(n)<<32) },
		Queue:            or(s.guard.Queue, set.Queue),
		MaxWait:          or(s.guard.MaxWait, set.MaxWait),
		MaxPause:         or(s.guard.MaxPause, set.MaxPause),
		PauseJitter:      set.PauseJitter,
		IgnoreRetryAfter: !c.Ours || set.IgnoreRetryAfter,
	}
	if r := set.Room; r != nil {
		g.Room = admission.QueueConfig{Aging: r.Aging, Weights: r.Weights, Drop: r.Drop, ReservedShare: r.ReservedShare, ReservedFor: r.ReservedFor}
	}
	g.Room.Aging = or(s.guard.Aging, g.Room.Aging)
	if s.guard.For != nil {
		g.Room.ReservedShare, g.Room.ReservedFor = s.guard.Reserved, uint8(*s.guard.For)
	}
	if b := set.Budget; b != nil && c.Ours {
		g.Budgets = admission.BudgetConfig{Limits: b.Limits, Oversize: b.Oversize}
		g.Estimate = admission.EstimateConfig{Overrun: b.Overrun, Input: b.Unseen, Output: b.Unseen}
	}
	return g
}

// Unguarded returns s without what it says itself of the keys of the configuration's [guard] that are named: "guard.max_wait",
// "guard.room.aging", or a table of such. What the configuration says of them then counts.
func (s *Scenario) Unguarded(keys ...string) *Scenario {
	t := *s
	forget := func(own string, f func()) {
		for _, k := range keys {
			if k == own || strings.HasPrefix(own, k+".") {
				f()
				return
			}
		}
	}
	g, r := &t.guard, &t.retry
	forget("guard.queue", func() { g.Queue = nil })
	forget("guard.max_wait", func() { g.MaxWait = nil })
	forget("guard.max_pause", func() { g.MaxPause = nil })
	forget("guard.room.aging", func() { g.Aging = nil })
	forget("guard.room.reserved_share", func() { g.Reserved, g.For = 0, nil })
	forget("guard.room.reserved_for", func() { g.Reserved, g.For = 0, nil })
	forget("guard.retry.max_attempts", func() { r.MaxAttempts = nil })
	forget("guard.retry.base_delay", func() { r.BaseDelay = nil })
	forget("guard.retry.max_delay", func() { r.MaxDelay = nil })
	forget("guard.retry.budget", func() { r.Budget = nil })
	return &t
}

// Reference returns the controller whose limits [Worker.Best] searches for: a constant one that waits for a Retry-After.
func Reference() Controller {
	return Controller{Name: "reference", kind: kindFixed, limit: 1, Ours: true}
}

// law returns a new law of the controller for the n-th guard.
func (c Controller) law(s *Scenario, set *config.Settings, n int, seed uint64) adaptive.Law {
	switch c.kind {
	case kindFixed:
		return adaptive.NewFixed(c.limit)
	case kindBucket:
		rate := c.rate
		if rate == 0 {
			rate = s.quotaRate(n)
		}
		return peers.NewRate(rate)
	case kindAWS:
		return peers.NewAWS()
	case kindARC:
		return peers.NewARC()
	case kindCIAD:
		return peers.NewCIAD()
	case kindAIMD:
		return classic.NewAIMD(adaptive.Config{})
	case kindVegas:
		return classic.NewVegasSeed(adaptive.Config{}, seed)
	case kindGradient2:
		return classic.NewGradient2(adaptive.Config{})
	}
	return adaptive.New(set.Adaptive)
}

// world returns the world of s with a seed, and callers who retry as set says where s does not.
func (s *Scenario) world(set *config.Settings, seed uint64) sim.Config {
	w := s.World
	w.Seed = seed
	w.Workload.Retry = sim.Retry{
		Attempts: or(s.retry.MaxAttempts, set.Retry.MaxAttempts),
		Base:     or(s.retry.BaseDelay, set.Retry.BaseDelay),
		Max:      or(s.retry.MaxDelay, set.Retry.MaxDelay),
		Budget:   or(s.retry.Budget, set.Retry.Budget),
		// Nobody waits longer for a Retry-After than the guard does; see limiter.Guard.MayRetry.
		MaxPause: min(or(s.guard.MaxPause, set.MaxPause), or(s.guard.MaxWait, set.MaxWait)),
	}
	w.Workload.Retry.Max = max(w.Workload.Retry.Max, w.Workload.Retry.Base)
	if set.Retry.Budget == 0 && s.retry.Budget == nil {
		w.Workload.Retry.Attempts = 1
	}
	return w
}

// quotaRate returns how many requests a second the tightest quota of requests allows the key of the n-th guard; 0 when there is none.
func (s *Scenario) quotaRate(n int) float64 {
	rate := 0.0
	for _, q := range s.World.Upstream.Quotas {
		per := q.Limit / 60
		if q.Daily {
			per /= 24 * 60
		}
		if q.Counter == upstream.Requests && (rate == 0 || per < rate) {
			rate = per
		}
	}
	if keys := s.World.Upstream.Keys; len(keys) > 0 && keys[n%len(keys)].Share > 0 {
		rate *= keys[n%len(keys)].Share
	}
	return rate
}
