package upstream

import (
	"errors"
	"fmt"

	"github.com/flyball-go/flyball/internal/draw"
)

// Check returns what makes cfg no upstream, all at once; nil when New may have it.
func (c *Config) Check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("upstream: "+format, a...)) }
	dist := func(name string, d *draw.Dist) {
		if err := d.Check(); err != nil {
			bad("%s: %w", name, err)
		}
	}
	dist("Refusal", &c.Refusal)
	for i, k := range c.Keys {
		if k.Share < 0 {
			bad("Keys[%d].Share is %v, must be > 0", i, k.Share)
		}
	}
	for i, f := range c.Faults {
		if f.To <= f.From || f.From < 0 || f.Share < 0 || f.Share > 1 || f.Capacity < 0 || f.Slow < 0 {
			bad("Faults[%d] from %v to %v: out of range", i, f.From, f.To)
		}
	}
	if c.Noise.Share < 0 || c.Noise.Share > 1 {
		bad("Noise.Share is %v, must be 0 to 1", c.Noise.Share)
	}
	if len(c.Quotas) > 16 {
		bad("%d quotas, at most 16", len(c.Quotas))
	}
	for i, q := range c.Quotas {
		if !(q.Limit > 0) || q.Algorithm == Refill && !(q.Burst >= 1) || q.Window < 0 {
			bad("Quotas[%d]: Limit %v, Burst %v, Window %v: out of range", i, q.Limit, q.Burst, q.Window)
		}
	}
	if c.Slope.Growth < 0 || c.Slope.Floor < 0 || c.Slope.Window < 0 {
		bad("Slope: out of range")
	}
	if c.Connections.Limit < 0 || c.Connections.Backlog < 0 || c.Concurrency.Limit < 0 {
		bad("Connections or Concurrency: a limit is negative")
	}
	dist("Concurrency.Lag", &c.Concurrency.Lag)
	s := &c.Server
	dist("Server.Service", &s.Service)
	dist("Server.Stall", &s.Stall)
	switch {
	case s.Servers < 0 || s.Queue < 0 || s.Scale < 0 || s.RateScale < 0 || s.Slow < 0 || s.InputToken < 0 || s.OutputToken < 0:
		bad("Server: out of range")
	case s.Knee > 0 && s.KneeBase < 1:
		bad("Server.KneeBase is %v, must be >= 1", s.KneeBase)
	case s.StallShare < 0 || s.StallShare > 1:
		bad("Server.StallShare is %v, must be 0 to 1", s.StallShare)
	case s.Kind == Batch && (s.LLM.Step <= 0 || s.LLM.KV <= 0 || s.LLM.Token < 0 || s.LLM.Sequence < 0 || s.LLM.Cache < 0 || s.LLM.MaxSeqs < 0 || s.LLM.Chunk < 0):
		bad("Server.LLM: Step and KV must be > 0, and nothing negative")
	}
	n := &c.Neighbour
	if n.Rate < 0 || n.Busy < 0 || n.Quiet < 0 || n.Burst < 0 {
		bad("Neighbour: out of range")
	}
	dist("Neighbour.Input", &n.Input)
	dist("Neighbour.Output", &n.Output)
	if a := &c.Autoscaler; a.Max < 0 || a.Max > 0 && (s.Servers <= 0 || a.Max < s.Servers) || a.Target < 0 || a.Target > 1 || a.Tick < 0 {
		bad("Autoscaler: Max is %v with %v servers at the start: out of range", a.Max, s.Servers)
	}
	dist("Autoscaler.ColdStart", &c.Autoscaler.ColdStart)
	return errors.Join(errs...)
}
