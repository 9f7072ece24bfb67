package scenario

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
)

// scenario makes the world that a file describes. The file has been checked.
func (t *fileTable) scenario() *Scenario {
	s := &Scenario{Name: t.Name, Intent: t.Intent, Set: Set(cmp.Or(t.Set, string(Tuning))), Telling: t.Telling, retry: t.Workload.Retry, guard: t.Guard}
	w := &s.World
	w.Duration = t.Duration
	w.Drain = or(t.Drain, min(t.Duration, defaultDrain))
	w.Step = step(t.Duration)
	w.Workload = t.Workload.workload()
	w.RTT = t.Upstream.Network.RTT
	w.Upstream = t.Upstream.upstream()
	for _, r := range t.Replica {
		for range or(r.Count, 1) {
			w.Replicas = append(w.Replicas, sim.Replica{Join: r.Join, Leave: r.Leave})
		}
	}
	w.Changes = t.changes()
	for name, e := range t.Expect {
		if s.Expect == nil {
			s.Expect = map[string]Expect{}
		}
		s.Expect[name] = e.expect()
	}
	return s
}

// step returns the length of a step of the series: about 300 to 600 of them, whole tenths of a second.
func step(d time.Duration) time.Duration {
	for _, s := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
		5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute} {
		if d/s <= 600 {
			return s
		}
	}
	return 3 * time.Hour
}

func (t *workloadTable) workload() sim.Workload {
	p := presets[t.Preset]
	w := p.workload()
	if t.Kind != "" {
		w.Kind, _ = sim.ParseKind(t.Kind)
	}
	if t.Rate != nil {
		w.Rate = *t.Rate
	}
	w.Patience, w.Timeout, w.Repeatable, w.Streams = or(t.Patience, 0), t.Timeout, t.Repeatable, t.Streams
	if t.Think != nil {
		w.Think = t.Think.dist()
	}
	switch w.Kind {
	case sim.Closed:
		w.Clients = or(t.Clients, 0)
	case sim.Backlog:
		w.Clients, w.Jobs = or(t.Workers, 64), or(t.Jobs, 0)
	case sim.Renewal:
		if t.CV != nil {
			w.Gap = draw.Dist{Shape: draw.Gamma, Mean: 1, Sigma: *t.CV}
		}
	}
	if t.States != nil {
		w.States = nil
		for _, s := range t.States {
			w.States = append(w.States, sim.State{Rate: s.Rate, Mean: s.Mean})
		}
	}
	if t.Turns != nil {
		w.Turns = t.Turns.dist()
	}
	if t.Input != nil {
		w.Input = t.Input.dist()
	}
	if t.Output != nil {
		w.Output = t.Output.dist()
	}
	w.Cached = or(t.Cached, w.Cached)
	w.MaxOutput = or(t.MaxOutput, w.MaxOutput)
	if t.Known != "" {
		w.Known, _ = sim.ParseKnown(t.Known)
	}
	if t.Tenants != nil {
		w.Tenants = nil
		for _, x := range t.Tenants {
			n := sim.Tenant{Name: x.Name, Weight: or(x.Weight, 1), Priority: uint8(x.Priority), Class: uint8(x.Class), Work: or(x.Work, 0), Join: x.Join, Leave: x.Leave}
			if x.Input != nil {
				d := x.Input.dist()
				n.Input = &d
			}
			if x.Output != nil {
				d := x.Output.dist()
				n.Output = &d
			}
			w.Tenants = append(w.Tenants, n)
		}
	}
	return w
}

func (t *upstreamTable) upstream() upstream.Config {
	u := upstream.Config{Refusal: draw.Of(5 * time.Millisecond)}
	u.Dialect, _ = upstream.ParseDialect(cmp.Or(t.Dialect, "generic"))
	if t.Network.Refusal != nil {
		u.Refusal = t.Network.Refusal.dist()
	}
	for _, k := range t.Keys {
		u.Keys = append(u.Keys, upstream.Key{Share: or(k.Share, 1), Revoked: k.Revoked})
	}
	for _, o := range t.Outage {
		f := upstream.Fault{From: o.From, To: o.To, Share: or(o.Share, 0), Capacity: or(o.Capacity, 0), Slow: or(o.Slow, 0), Answer: o.answer()}
		f.Kind, _ = upstream.ParseFault(cmp.Or(o.Kind, "refuse"))
		if o.BlackHole {
			f.Kind = upstream.BlackHole
		}
		u.Faults = append(u.Faults, f)
	}
	if n := t.Noise; n != nil {
		u.Noise = upstream.Noise{Share: n.Share, Answer: n.answer()}
	}
	if c := t.Connections; c != nil {
		u.Connections = upstream.Connections{Limit: c.Limit, Backlog: c.Backlog, Answer: c.answer()}
	}
	for i := range t.Quota {
		u.Quotas = append(u.Quotas, t.Quota[i].quota())
	}
	if s := t.Slope; s != nil {
		u.Slope = upstream.Slope{Growth: s.Growth, Window: s.Window, Floor: or(s.Floor, 10), Answer: s.answer()}
	}
	if c := t.Concurrency; c != nil {
		u.Concurrency = upstream.Concurrency{Limit: c.Limit, Lag: c.Lag.dist(), Answer: c.answer()}
	}
	u.Server = t.Server.server()
	if n := t.Neighbour; n != nil {
		u.Neighbour = upstream.Neighbour{Rate: n.Rate, Busy: n.Busy, Quiet: n.Quiet, Burst: n.Burst, Input: n.Input.dist(), Output: n.Output.dist()}
	}
	if a := t.Autoscaler; a != nil {
		u.Autoscaler = upstream.Autoscaler{Max: a.Max, Step: a.Step, Tick: a.Tick, Target: a.Target, Up: a.Up, Down: a.Down, ColdStart: a.ColdStart.dist()}
	}
	return u
}

// given returns the one key that says how much, with what it counts.
func (t *quotaTable) given() (limit float64, c upstream.Counter, daily bool, key string, n int) {
	for _, x := range []struct {
		p     *float64
		by    float64
		c     upstream.Counter
		daily bool
		key   string
	}{
		{t.PerMinute, 1, upstream.Requests, false, "requests_per_minute"},
		{t.PerSecond, 60, upstream.Requests, false, "requests_per_second"},
		{t.PerDay, 1, upstream.Requests, true, "requests_per_day"},
		{t.Tokens, 1, upstream.Tokens, false, "tokens_per_minute"},
		{t.Input, 1, upstream.InputTokens, false, "input_tokens_per_minute"},
		{t.Output, 1, upstream.OutputTokens, false, "output_tokens_per_minute"},
		{t.TokensPerDay, 1, upstream.Tokens, true, "tokens_per_day"},
	} {
		if x.p != nil {
			n++
			limit, c, daily, key = *x.p*x.by, x.c, x.daily, x.key
		}
	}
	return limit, c, daily, key, n
}

func (t *quotaTable) quota() upstream.Quota {
	limit, c, daily, _, _ := t.given()
	q := upstream.Quota{
		Counter: c, Limit: limit, Daily: daily, Window: or(t.Window, 0),
		CachedFree: t.CachedFree, ChargeRefused: t.ChargeRefused, Answer: t.answer(),
	}
	q.Algorithm, _ = upstream.ParseAlgorithm(cmp.Or(t.Algorithm, "refill"))
	if t.Algorithm == "" && (t.Window != nil || daily) {
		q.Algorithm = upstream.FixedWindow
	}
	q.Charge, _ = upstream.ParseCharge(cmp.Or(t.Charge, "before"))
	q.Burst = or(t.Burst, 1)
	if t.Burst == nil && c != upstream.Requests {
		q.Burst = limit // a minute's worth
	}
	return q
}

func (t *serverTable) server() upstream.Server {
	s := upstream.Server{
		Servers: t.Servers, LIFO: t.LIFO, QueueTimeout: t.QueueTimeout, Service: t.Service.dist(), InputToken: t.InputToken, OutputToken: t.OutputToken,
		Scale: t.Scale, Knee: t.Knee, KneeBase: or(t.KneeBase, t.Scale+1), RateScale: t.RateScale, Stall: t.Stall.dist(), StallShare: t.StallShare,
		KnowsHangups: t.KnowsHangups, Slow: or(t.Slow, 0), Answer: t.answer(),
	}
	s.Kind, _ = upstream.ParseKind(cmp.Or(t.Kind, "servers"))
	if t.Queue != nil {
		s.Bounded, s.Queue = true, *t.Queue
	}
	if s.Kind == upstream.Batch {
		s.LLM, _ = upstream.Profile(cmp.Or(t.Profile, "llama-8b-a100"))
		s.LLM.KV = or(t.KV, s.LLM.KV)
		s.LLM.MaxSeqs = or(t.MaxSeqs, s.LLM.MaxSeqs)
		s.LLM.Chunk = or(t.Chunk, s.LLM.Chunk)
	}
	return s
}

func (t *answerTable) answer() upstream.Answer {
	ra := upstream.RetryAfter{Mode: t.RetryAfter.mode, Form: t.RetryAfter.form, Delay: t.RetryAfter.delay, Jitter: t.RetryJitter, Missing: t.RetryMissing}
	if t.RetryFactor != nil {
		ra.Mode, ra.Factor = upstream.RetryWrong, *t.RetryFactor
	}
	return upstream.Answer{Status: or(t.Status, 0), RetryAfter: ra, Body: t.Body, Silent: t.Silent}
}

// numbers are the parameters of a distribution, whatever it is of.
type numbers struct {
	dist                             string
	mean, median, spread, min_, max_ float64
	sigma, cv, shape, alpha          *float64
}

func (n *numbers) build() draw.Dist {
	shape, _ := draw.ParseShape(cmp.Or(n.dist, "constant"))
	d := draw.Dist{Shape: shape, Mean: n.mean, Spread: n.spread, Min: n.min_, Max: n.max_}
	switch shape {
	case draw.Lognormal:
		d.Sigma = or(n.sigma, 1)
		if n.median > 0 {
			d.Mean = n.median * math.Exp(d.Sigma*d.Sigma/2)
		}
	case draw.Gamma:
		d.Sigma = or(n.cv, 1)
	case draw.Weibull:
		d.Sigma = or(n.shape, 1)
	case draw.Pareto:
		d.Alpha = or(n.alpha, 2.1)
		d.Mean, d.Min = n.min_, 0
	}
	return d
}

func (t *distTable) dist() draw.Dist {
	if t == nil {
		return draw.Dist{}
	}
	n := numbers{t.Dist, float64(t.Mean), 0, float64(t.Spread), float64(t.Min), float64(t.Max), t.Sigma, t.CV, t.Shape, t.Alpha}
	d := n.build()
	d.Offset = float64(t.Offset)
	for i := range t.Parts {
		p := &t.Parts[i]
		n := numbers{p.Dist, float64(p.Mean), 0, float64(p.Spread), float64(p.Min), float64(p.Max), p.Sigma, p.CV, p.Shape, p.Alpha}
		d.Parts = append(d.Parts, draw.Part{Weight: or(p.Weight, 1), Dist: n.build()})
	}
	return d
}

func (t *countTable) dist() draw.Dist {
	if t == nil {
		return draw.Dist{}
	}
	n := numbers{t.Dist, or(t.Mean, 0), or(t.Median, 0), t.Spread, t.Min, t.Max, t.Sigma, t.CV, t.Shape, t.Alpha}
	d := n.build()
	for i := range t.Parts {
		p := &t.Parts[i]
		n := numbers{p.Dist, or(p.Mean, 0), or(p.Median, 0), p.Spread, p.Min, p.Max, p.Sigma, p.CV, p.Shape, p.Alpha}
		d.Parts = append(d.Parts, draw.Part{Weight: or(p.Weight, 1), Dist: n.build()})
	}
	for _, q := range t.Quantiles {
		if len(q) == 2 {
			d.Quantiles = append(d.Quantiles, draw.Quantile{P: q[0], Value: q[1]})
		}
	}
	return d
}

// sorted puts changes in the order of time.
func sorted(cs []sim.Change) []sim.Change {
	slices.SortStableFunc(cs, func(a, b sim.Change) int { return cmp.Compare(a.At, b.At) })
	return cs
}
