package scenario

import (
	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/peers"
	"github.com/flyball-go/flyball/internal/sim"
)

// Law returns a new law of the controller for a guard in real time, with the parameters of set; nil for one without a guard.
// A token bucket needs its rate in its name, as there is no scenario that knows it.
func (c Controller) Law(set *config.Settings, seed uint64) adaptive.Law {
	if s := new(Scenario); c.guard(s, set, seed) != nil {
		return c.law(s, set, 0, seed)
	}
	return nil
}

// Caller returns what the controller does about refusals in its callers' place; nil for one that leaves it to them.
func (c Controller) Caller() *peers.Caller {
	var p peers.Caller
	switch c.kind {
	case kindSDK:
		p = peers.SDK()
	case kindBackoff:
		p = peers.Backoff()
	default:
		return nil
	}
	return &p
}

// callers replaces the callers' retry policy by the controller's own, when it has one.
func (c Controller) callers(w *sim.Config) {
	if p := c.Caller(); p != nil {
		w.Workload.Retry = sim.Retry{
			Attempts: p.Attempts, Base: p.Base, Max: p.Max, MaxPause: p.Longest,
			Steady: 1 - p.Jitter, Exact: true, Deaf: !p.ReadsRetryAfter,
		}
	}
}

// World returns the world of the trial with its guard, as Run runs it, for those who run it in another way.
func (t *Trial) World() sim.Config {
	w := t.Scenario.world(t.Settings, t.Seed)
	w.Guard = t.Controller.guard(t.Scenario, t.Settings, t.Seed)
	t.Controller.callers(&w)
	return w
}
