package sim

import (
	"context"
	"math"
	"slices"
	"time"
)

// Limits is what nobody could have exceeded.
type Limits struct {
	// OK is how many successes there can be until Horizon.
	OK int64
	// Horizon is Duration, or the instant at which the last job of a batch can be done, if that is before.
	Horizon time.Duration
	Step    time.Duration
	// Done is how many successes there are in each step when everything goes as well as it can: those that OK counts.
	Done []float64
	// Rate is the level that successes a second can hold at each step: the smaller of demand and capacity, with means in
	// place of draws. It is 0 in an outage, and after the end of a batch.
	Rate []float64
	// Limit is how many calls in flight keep the upstream busy and no more, at each step; NaN where
	// it has no limit on calls, or where a quota is reached before.
	Limit []float64
}

// Bound computes how many requests could have succeeded at most in the world of cfg; cfg.Guard does not matter.
//
// It lets requests pass as early as the world allows, in the order in which they arrive, without a refusal and
// without anybody giving up, and counts who is served. That is an upper bound for every controller and at every instant,
// not only on average. Let p(k), b(k), e(k) be when the k-th call that is served at all passes the gates, begins
// at the server, and ends there. In any run:
//
//   - p(k) is not before k requests have arrived (each is served once at most), and p(k) >= p(k-1);
//   - at p(k) the quota allows a request, fewer calls than the cap are inside, and, in a closed loop, fewer than all
//     clients are waiting for an answer or thinking;
//   - b(k) is at p(k) or when a server becomes free, and calls begin in the order in which they passed;
//   - e(k) = b(k) + s(k), with the same s(k) in every run, as draws belong to the k-th start.
//
// If p, b and e of all calls before the k-th are as early as they can be, then whatever lets the k-th pass or begin in
// another run lets it pass or begin here at the same instant: fewer or as many calls are inside, and a quota that was
// used earlier holds as much or more. So by induction none is later than in any other run. A call that
// fails although it is served (its caller gave up) is counted here unless s(k) alone exceeds the
// patience. Refused calls that are charged only make things worse for the other run.
//
// Patience bounds the sum, too: whoever succeeds after an instant t arrived after t - patience. So there
// are never more successes than the bound until t and the arrivals after t - patience together, for any t.
//
// The error is ctx's cause when that ended first, or names what in cfg makes no world.
func Bound(ctx context.Context, cfg Config) (*Limits, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return newBound(&cfg).run(ctx)
}

type bound struct {
	cfg     *Config
	half    int64
	rate    rates
	changes []Change
	quota   gate
	cap     *concurrency
	servers steps
	inside  times   // when calls in the upstream end
	working times   // when calls at the servers end
	clients times   // when clients can have their next request at the upstream
	queue   int     // of the server; -1: no bound
	begins  []int64 // when calls that passed begin, for those that wait; kept when queue >= 0
	res     *Limits
}

func newBound(cfg *Config) *bound {
	b := &bound{cfg: cfg, half: int64(cfg.Upstream.RTT) / 2, rate: ratesOf(cfg), changes: cfg.Changes, queue: -1, res: &Limits{}}
	b.quota = newQuota(&cfg.Upstream.Quota)
	if n := cfg.Upstream.Concurrency.Limit; n > 0 {
		b.cap = &concurrency{limit: n}
	}
	b.servers = stepsOf(cfg, ParamServers, float64(cfg.Upstream.Server.Servers))
	if s := &cfg.Upstream.Server; s.Bounded && s.Servers > 0 {
		b.queue = s.Queue
	}
	return b
}

// apply sets the parameters that change until now.
func (b *bound) apply(now int64) {
	for len(b.changes) > 0 && int64(b.changes[0].At) <= now {
		c := &b.changes[0]
		setGate(b.quota, int64(c.At), c)
		if c.Param == ParamLimit && b.cap != nil {
			b.cap.limit = max(0, int(c.To))
		}
		b.changes = b.changes[1:]
	}
}

// nextChange returns when the next parameter changes.
func (b *bound) nextChange() int64 {
	if len(b.changes) == 0 {
		return never
	}
	return int64(b.changes[0].At)
}

func (b *bound) run(ctx context.Context) (*Limits, error) {
	cfg, w := b.cfg, &b.cfg.Workload
	res, end := b.res, int64(cfg.Duration)
	res.Horizon, res.Step = cfg.Duration, cfg.Step
	if cfg.Step > 0 {
		res.Done = make([]float64, int(cfg.Duration/cfg.Step))
	}
	if w.Kind != Poisson {
		for i := range w.Clients {
			b.clients.push(stagger(cfg, i) + b.half)
		}
	}
	var arrived, pass, begin, last int64
	var arrivals, dones []int64
	for k := uint64(0); w.Kind != Backlog || w.Jobs == 0 || k < uint64(w.Jobs); k++ {
		if k%stopEvery == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if w.Kind == Poisson {
			arrived = b.rate.after(arrived, gap(cfg.Seed, k))
			if arrived >= end {
				break
			}
			if w.Patience > 0 {
				arrivals = append(arrivals, arrived)
			}
			pass = max(pass, arrived+b.half)
		}
		if pass <= end {
			pass = b.pass(pass)
		}
		if pass > end {
			if w.Patience > 0 {
				continue // the rest of the arrivals still counts for what patience allows
			}
			break
		}
		begin = b.begin(max(begin, pass))
		if begin > end {
			pass = never
			continue
		}
		s := cfg.Upstream.Server.Service.sample(cfg.Seed, streamService, k)
		ended := begin + s
		b.inside.push(ended)
		b.working.push(ended)
		if b.queue >= 0 && begin > pass {
			b.begins = append(b.begins, begin)
		}
		done := ended + b.half
		if w.Kind != Poisson {
			next := done + b.half
			if w.Kind == Closed {
				next += think(cfg, int64(k), true)
			}
			b.clients.push(next)
		}
		if p := int64(w.Patience); p > 0 && s+2*b.half > p {
			continue
		}
		last = max(last, done)
		if done <= end {
			res.OK++
			dones = append(dones, done)
			if i := int(done / max(1, int64(cfg.Step))); cfg.Step > 0 && i < len(res.Done) {
				res.Done[i]++
			}
		}
		if w.Kind == Backlog && k+1 == uint64(w.Jobs) && last < end {
			res.Horizon = time.Duration(last)
		}
	}
	if w.Patience > 0 {
		slices.Sort(dones)
		res.OK = min(res.OK, patient(arrivals, dones, int64(w.Patience)))
	}
	b.levels()
	return res, nil
}

// patient returns the smallest sum, over the instants at which the patience of an arrival ends, of the successes until then and
// the arrivals after that one. Both lists are in order.
func patient(arrivals, dones []int64, patience int64) int64 {
	least, n := int64(len(arrivals)), 0
	for i, a := range arrivals {
		for n < len(dones) && dones[n] <= a+patience {
			n++
		}
		least = min(least, int64(n+len(arrivals)-i-1))
	}
	return least
}

// pass returns the first instant from now on at which the next request passes the gates, and lets it pass.
func (b *bound) pass(now int64) int64 {
	for now < never {
		b.apply(now)
		for !b.inside.empty() && b.inside.top() <= now {
			b.inside.pop()
		}
		for len(b.begins) > 0 && b.begins[0] <= now {
			b.begins = b.begins[1:]
		}
		at := now
		if b.cfg.Workload.Kind != Poisson {
			at = max(at, b.clients.top())
		}
		at = max(at, b.outageEnds(at))
		if b.quota != nil && at == now {
			at = b.quota.earliest(now)
		}
		if at == now && b.full(now) {
			at = b.freed()
		}
		if at == now {
			if b.quota != nil {
				b.quota.enter(now)
			}
			if b.cfg.Workload.Kind != Poisson {
				b.clients.pop()
			}
			return now
		}
		if next := b.nextChange(); next > now {
			at = min(at, next)
		}
		now = at
	}
	return now
}

// full reports whether the cap, or the server's queue, lets nobody in.
func (b *bound) full(now int64) bool {
	n := b.inside.len()
	if b.cap != nil && n >= b.cap.limit {
		return true
	}
	if b.queue < 0 {
		return false
	}
	waiting := len(b.begins)
	return waiting >= b.queue && (waiting > 0 || n >= int(b.servers.at(now)))
}

// freed returns when that may change.
func (b *bound) freed() int64 {
	at := int64(never)
	if !b.inside.empty() {
		at = b.inside.top()
	}
	if len(b.begins) > 0 {
		at = min(at, b.begins[0])
	}
	return at
}

// begin returns the first instant from now on at which a server is free.
func (b *bound) begin(now int64) int64 {
	for now < never {
		for !b.working.empty() && b.working.top() <= now {
			b.working.pop()
		}
		n := int(b.servers.at(now))
		if n == 0 || b.working.len() < n {
			return now
		}
		now = min(b.working.top(), b.servers.next(now))
	}
	return now
}

func (b *bound) outageEnds(now int64) int64 {
	for again := true; again; {
		again = false
		for i := range b.cfg.Upstream.Outages {
			if o := &b.cfg.Upstream.Outages[i]; now >= int64(o.From) && now < int64(o.To) {
				now, again = int64(o.To), true
			}
		}
	}
	return now
}

// levels computes Rate and Limit from means.
func (b *bound) levels() {
	cfg, res := b.cfg, b.res
	if cfg.Step <= 0 {
		return
	}
	u := &cfg.Upstream
	rtt, service := float64(2*b.half), float64(u.Server.Service.Mean)
	perMinute := stepsOf(cfg, ParamPerMinute, u.Quota.PerMinute)
	limits := stepsOf(cfg, ParamLimit, float64(u.Concurrency.Limit))
	for i := range len(res.Done) {
		at := int64(i)*int64(cfg.Step) + int64(cfg.Step)/2
		slots := math.Inf(1)
		if n := limits.at(at); u.Concurrency.Limit > 0 {
			slots = min(slots, n)
		}
		if n := b.servers.at(at); n > 0 {
			slots = min(slots, n)
		}
		rate := slots / service * 1e9
		limit := slots * (1 + rtt/service)
		if service == 0 {
			rate, limit = math.Inf(1), math.NaN()
		}
		if n := perMinute.at(at); n > 0 && n/60 < rate {
			rate, limit = n/60, math.NaN()
		}
		rate = min(rate, b.demand(at, rtt+service))
		if b.outageEnds(at) > at || at > int64(res.Horizon) {
			rate, limit = 0, math.NaN()
		}
		if math.IsInf(limit, 1) {
			limit = math.NaN()
		}
		res.Rate = append(res.Rate, rate)
		res.Limit = append(res.Limit, math.Round(limit))
	}
}

// demand returns how many requests a second are wanted at an instant, when each takes latency ns.
func (b *bound) demand(at int64, latency float64) float64 {
	w := &b.cfg.Workload
	if w.Kind == Poisson {
		return stepsOf(b.cfg, ParamRate, w.Rate).at(at)
	}
	return float64(w.Clients) / (latency + float64(w.Think.Mean)) * 1e9
}

// steps is a parameter over time.
type steps struct {
	when []int64
	to   []float64
}

func stepsOf(cfg *Config, p Param, first float64) steps {
	s := steps{[]int64{0}, []float64{first}}
	for _, c := range cfg.Changes {
		if c.Param == p {
			s.when = append(s.when, int64(c.At))
			s.to = append(s.to, c.To)
		}
	}
	return s
}

func (s *steps) index(now int64) int {
	i := len(s.when) - 1
	for i > 0 && s.when[i] > now {
		i--
	}
	return i
}

func (s steps) at(now int64) float64 { return s.to[s.index(now)] }

// next returns when the parameter changes after now.
func (s *steps) next(now int64) int64 {
	if i := s.index(now) + 1; i < len(s.when) {
		return s.when[i]
	}
	return never
}

// times is a heap of instants, the earliest on top.
type times struct{ h []int64 }

func (t *times) len() int    { return len(t.h) }
func (t *times) empty() bool { return len(t.h) == 0 }
func (t *times) top() int64  { return t.h[0] }

func (t *times) push(at int64) {
	t.h = append(t.h, at)
	i := len(t.h) - 1
	for i > 0 && t.h[(i-1)/2] > at {
		t.h[i] = t.h[(i-1)/2]
		i = (i - 1) / 2
	}
	t.h[i] = at
}

func (t *times) pop() {
	n := len(t.h) - 1
	last := t.h[n]
	t.h = t.h[:n]
	i := 0
	for c := 1; c < n; c = 2*i + 1 {
		if c+1 < n && t.h[c+1] < t.h[c] {
			c++
		}
		if last <= t.h[c] {
			break
		}
		t.h[i] = t.h[c]
		i = c
	}
	if n > 0 {
		t.h[i] = last
	}
}
