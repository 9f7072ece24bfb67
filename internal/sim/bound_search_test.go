package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// smallWorld is a world with a few requests in which nearly everything happens at whole seconds, so that things happen at once.
func smallWorld(rng *rand.Rand) Config {
	chance := func(p float64) bool { return rng.Float64() < p }
	seconds := func(from, to int) time.Duration { return time.Duration(from+rng.IntN(to-from+1)) * time.Second }
	mean := func(p float64, from, to int) draw.Dist {
		if chance(p) {
			return draw.Dist{Shape: simple(rng), Mean: float64(seconds(from, to)), Sigma: 1}
		}
		return draw.Of(seconds(from, to))
	}
	cfg := Config{Seed: rng.Uint64(), Duration: seconds(8, 30), Step: time.Second, RTT: seconds(0, 2)}
	w, u := &cfg.Workload, &cfg.Upstream
	w.Kind, w.Rate, w.Retry = Traced, 1, Retry{Attempts: 1}
	var at time.Duration
	for range 2 + rng.IntN(5) {
		w.Requests = append(w.Requests, TraceRequest{At: at, Tenant: -1})
		at += seconds(0, 3)
	}
	if chance(.8) {
		w.Patience = seconds(1, 12)
	}
	s := &u.Server
	if s.Service = mean(.4, 1, 5); chance(.6) {
		s.Servers, s.LIFO = float64(1+rng.IntN(2)), chance(.3)
		s.Bounded, s.Queue = chance(.6), rng.IntN(3)
		if chance(.4) {
			s.QueueTimeout = seconds(1, 5)
		}
	}
	if chance(.3) {
		u.Connections = upstream.Connections{Limit: 1 + rng.IntN(3), Backlog: rng.IntN(3)}
	}
	if chance(.4) {
		u.Concurrency = upstream.Concurrency{Limit: 1 + rng.IntN(3), Lag: mean(.3, 1, 5)}
	}
	for range rng.IntN(3) {
		q := upstream.Quota{ChargeRefused: chance(.2), Algorithm: upstream.Algorithm(rng.IntN(4)), Burst: float64(1 + rng.IntN(3)), Limit: 60 / float64(1+rng.IntN(6))}
		if q.Algorithm != upstream.Refill {
			q.Window = seconds(2, 8)
		}
		u.Quotas = append(u.Quotas, q)
	}
	if chance(.3) {
		from := seconds(0, 10)
		u.Faults = []upstream.Fault{{From: from, To: from + seconds(1, 6), Share: float64(rng.IntN(2)) / 2}}
		if chance(.3) {
			u.Faults[0].Kind, u.Faults[0].Capacity = upstream.Brownout, .5
		}
	}
	kinds := []upstream.ParamKind{upstream.ParamQuotaLimit, upstream.ParamQuotaBurst, upstream.ParamConcurrency, upstream.ParamServers, upstream.ParamQueue, upstream.ParamConnections}
	for range rng.IntN(3) {
		c := Change{At: seconds(1, 10), Param: Param{Kind: kinds[rng.IntN(len(kinds))]}, To: float64(1 + rng.IntN(4))}
		if c.Param.Kind == upstream.ParamQuotaLimit {
			c.To *= 10
		}
		if c.Param.Kind != upstream.ParamServers || s.Servers > 0 {
			cfg.Changes = append(cfg.Changes, c)
		}
	}
	slices.SortStableFunc(cfg.Changes, func(a, b Change) int { return cmp.Compare(a.At, b.At) })
	return cfg
}

// schedule is when a request asks.
type schedule struct {
	arrived, deadline int64
	next              int64 // when it may be at the upstream
	rest              int64 // after a refusal
	tries             int
	handle            upstream.Handle
	in                bool
}

// schedules are random ones, of which some ask as soon as they can and others later, often or once.
func schedules(rng *rand.Rand, cfg *Config) (list []schedule) {
	var f flow
	f.init(cfg)
	eager := rng.Float64()
	for range cfg.Workload.Requests {
		q := schedule{arrived: f.next(), deadline: never, rest: 1, tries: 1 + rng.IntN(8)*rng.IntN(8)}
		if q.arrived >= int64(cfg.Duration) {
			break
		}
		if cfg.Workload.Patience > 0 {
			q.deadline = q.arrived + int64(cfg.Workload.Patience)
		}
		q.next = q.arrived + int64(cfg.RTT)/2
		if rng.Float64() > eager {
			q.next += rng.Int64N(24) * 5e8
		}
		if rng.IntN(2) == 0 {
			q.rest = (1 + rng.Int64N(6)) * 5e8
		}
		list = append(list, q)
	}
	return list
}

// ask runs schedules against the upstream of cfg, those first at an instant that are first in order, and returns how many succeed.
func ask(up *upstream.Upstream, cfg *Config, list []schedule, order []int) (ok int64) {
	u := cfg.Upstream
	u.Seed, u.Quotas = cfg.Seed, slices.Clone(u.Quotas)
	up.Reset(u)
	half, end, changes := int64(cfg.RTT)/2, int64(cfg.Duration), cfg.Changes
	tell := func(e *upstream.Event) {
		q := &list[e.ID]
		q.in, q.next = false, e.At+2*half+q.rest
		if e.Kind == upstream.Done {
			if q.tries = 0; e.At+half <= min(q.deadline, end) {
				ok++
			}
		}
	}
	for now := int64(0); now <= end; {
		up.Advance(now, tell)
		for i := range list {
			if q := &list[i]; q.in && now >= q.deadline {
				up.Cancel(now, q.handle)
				q.in, q.tries = false, 0
			}
		}
		for ; len(changes) > 0 && int64(changes[0].At) <= now; changes = changes[1:] {
			up.Set(now, changes[0].Param, changes[0].To)
		}
		for _, i := range order {
			if q := &list[i]; !q.in && q.tries > 0 && q.next <= now && now <= q.deadline {
				q.in, q.tries = true, q.tries-1
				q.handle = up.Submit(now, upstream.Call{ID: uint64(i), Key: uint64(i)<<8 | uint64(q.tries)})
			}
		}
		up.Advance(now, tell) // refusals, which take no time
		next := now - now%5e8 + 5e8
		if at, has := up.Next(); has {
			next = min(next, at)
		}
		now = next
	}
	return ok
}

// In a small world nobody has more successes than the bound, however each one asks, and in most somebody has as many: every instant and order is tried
// at random, by who knows when everything happens and needs no guard.
func TestBoundHoldsForEverySchedule(t *testing.T) {
	t.Parallel()
	worlds, each := 1500, 60
	if raceDetector || testing.Short() {
		worlds = 300
	}
	var up upstream.Upstream
	met := 0
	for n := range worlds {
		rng := rand.New(rand.NewPCG(uint64(n), 11))
		cfg := smallWorld(rng)
		bound := boundOf(t, cfg)
		if !bound.Exact {
			t.Fatalf("world %d is not exact\n%s", n, describe(cfg))
		}
		best := int64(0)
		for range each {
			list := schedules(rng, &cfg)
			best = max(best, ask(&up, &cfg, list, rng.Perm(len(list))))
		}
		if best > bound.OK {
			t.Errorf("world %d: %d successes, the bound is %d\n%s", n, best, bound.OK, describe(cfg))
		}
		if best == bound.OK {
			met++
		}
	}
	if met < worlds*4/5 {
		t.Errorf("the bound is met in %d worlds of %d", met, worlds)
	}
}
