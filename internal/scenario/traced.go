package scenario

import (
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/trace"
)

// Traced returns s with the requests of a trace in place of its own workload. What the trace does not tell of a request (its
// patience, its tokens) is s's; s's changes of its rate mean nothing any more.
func (s *Scenario) Traced(name string, d *trace.Demand) *Scenario {
	t := *s
	t.Name, t.Source, t.Expect = name, "", nil
	t.Intent = "The requests of a trace meet the upstream of " + s.Name + "."
	w := &t.World
	w.Duration, w.Step = d.Duration, step(d.Duration)
	w.Changes = nil
	for _, c := range s.World.Changes {
		if c.Param != sim.ParamRate && c.At <= d.Duration {
			w.Changes = append(w.Changes, c)
		}
	}
	old := w.Workload
	w.Workload = sim.Workload{
		Kind: sim.Traced, Patience: old.Patience, Timeout: old.Timeout, Repeatable: old.Repeatable, Retry: old.Retry,
		MaxOutput: old.MaxOutput, Known: old.Known, Streams: old.Streams,
	}
	if w.Workload.Patience == 0 {
		w.Workload.Patience = defaultPatience
	}
	input, output := old.Input.Average() > 0, old.Output.Average() > 0 // a table or a mixture has no mean of its own
	tenants := map[string]int{}
	keys := map[string]int{}
	for i := range d.Rows {
		r := &d.Rows[i]
		q := sim.TraceRequest{
			At: r.At, Input: r.In, Output: r.Out, Cached: r.Cached, Tenant: -1, Priority: r.Priority, Patience: r.Deadline,
		}
		if r.In == 0 && input {
			q.Input = old.Input.Int(1, streamTracedInput, uint64(i))
			q.Cached = int64(old.Cached * float64(q.Input))
		}
		if r.Out == 0 && output {
			q.Output = old.Output.Int(1, streamTracedOutput, uint64(i))
		}
		if r.Tenant != "" {
			if _, ok := tenants[r.Tenant]; !ok && len(tenants) < maxTenants {
				tenants[r.Tenant] = len(tenants)
				w.Workload.Tenants = append(w.Workload.Tenants, sim.Tenant{Name: r.Tenant, Weight: 1})
			}
			if n, ok := tenants[r.Tenant]; ok {
				q.Tenant = n
			}
		}
		// Keys count when the upstream has several: the n-th name of the trace is the n-th key.
		if n := len(w.Upstream.Keys); n > 1 && r.Key != "" {
			if _, ok := keys[r.Key]; !ok {
				keys[r.Key] = len(keys)%n + 1
			}
			q.Key = keys[r.Key]
		}
		w.Workload.Requests = append(w.Workload.Requests, q)
	}
	return &t
}

const (
	// defaultPatience is how long a caller of a trace waits when neither the trace nor the scenario says.
	defaultPatience = 5 * time.Minute
	// maxTenants is how many tenants of a trace are told apart; the others are one of them at random.
	maxTenants = 1000

	streamTracedInput  draw.Stream = 210
	streamTracedOutput draw.Stream = 211
)
