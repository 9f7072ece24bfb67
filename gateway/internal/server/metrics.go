package server

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/gateway/internal/proxy"
	"github.com/flyball-go/flyball/gateway/internal/ui"
	"github.com/flyball-go/flyball/limiter"
)

// stats are the gateway's own counts.
type stats struct {
	reloads, reloadsFailed atomic.Uint64
	notInForce             atomic.Bool // the file, as it is now, is not

	mu    sync.Mutex
	calls map[callKey]*callStats
}

// callKey is what calls are told apart by. What callers choose is not in it, so there are few.
type callKey struct {
	route, upstream, status, code, cache string
}

type callStats struct {
	n                  uint64
	wait, first, total float64 // in seconds: a time.Duration holds what 1,000 calls at a time add up to in 106 days
	received, sent     int64
}

func (s *stats) count(r *proxy.Record) {
	status := "none" // the caller left
	if r.Status > 0 {
		status = fmt.Sprint(r.Status)
	}
	k := callKey{r.Route + "/", r.Upstream, status, r.Code, r.Cache}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[k]
	if c == nil {
		if s.calls == nil {
			s.calls = map[callKey]*callStats{}
		}
		c = &callStats{}
		s.calls[k] = c
	}
	c.n++
	c.wait, c.first, c.total = c.wait+r.Wait.Seconds(), c.first+r.First.Seconds(), c.total+r.Total.Seconds()
	c.received, c.sent = c.received+r.Received, c.sent+r.Bytes
}

// watch has the page, the metrics and the log follow all guards there are.
func (s *Server) watch() error {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	now, pools := map[*limiter.Guard]bool{}, map[*limiter.Pool]bool{}
	views := s.proxy.Upstreams()
	for _, v := range views {
		if v.Pool != nil {
			pools[v.Pool] = true
		}
		for _, g := range v.Guards {
			now[g] = true
		}
	}
	// A key that stays has a new guard of the same name in a new pool, so the old ones go first.
	for g, stop := range s.watching {
		if !now[g] {
			s.metrics.Unregister(g)
			stop()
			delete(s.watching, g)
		}
	}
	for p, stop := range s.pools {
		if !pools[p] {
			s.metrics.UnregisterPool(p)
			stop()
			delete(s.pools, p)
		}
	}
	s.page.Unwatch(func(g *limiter.Guard) bool { return now[g] }, func(p *limiter.Pool) bool { return pools[p] })
	for _, v := range views {
		if p := v.Pool; p != nil && s.pools[p] == nil {
			if err := s.metrics.RegisterPool(p); err != nil {
				return err
			}
			s.page.WatchPool(p)
			s.pools[p] = p.OnKey(s.logKeys(p))
		}
		for _, g := range v.Guards {
			if s.watching[g] != nil {
				continue
			}
			if err := s.metrics.Register(g); err != nil {
				return err
			}
			s.page.Watch(g)
			s.watching[g] = g.OnDecision(s.logDecisions(g))
		}
	}
	return nil
}

// logDecisions returns a listener that says why a guard's limit changed. That its first calls are accepted, with the limit that it began with, is no change
// for who reads the log.
func (s *Server) logDecisions(g *limiter.Guard) func(limiter.Decision) {
	log, limit := limiter.LogDecisions(s.log, g.Name(), 10), g.Stats().Limit
	return func(d limiter.Decision) { // one at a time
		begins := d.Cause == adaptive.CauseStart && d.Limit == limit
		if limit = d.Limit; !begins {
			log(d)
		}
	}
}

// logKeys returns a listener that says when one of an upstream's keys goes out and when it comes back. Calls go on with the other keys, so nothing
// else in the log would tell, until the last one is out.
func (s *Server) logKeys(p *limiter.Pool) func(limiter.KeyEvent) {
	upstream, keys, out := p.Name(), p.Len(), map[string]bool{}
	for _, k := range p.Stats().Keys { // a pool that comes back may have some
		if k.Out != limiter.KeyFine {
			out[k.Key] = true
		}
	}
	return func(e limiter.KeyEvent) { // one at a time
		if e.Fault == limiter.KeyFine {
			delete(out, e.Key)
			s.log.Info("a key is back in service", "upstream", upstream, "key", e.Key, "in_service", keys-len(out), "keys", keys)
			return
		}
		out[e.Key] = true
		level := slog.LevelWarn
		if len(out) == keys {
			level = slog.LevelError
		}
		s.log.Log(context.Background(), level, "a key is out of service", "upstream", upstream, "key", e.Key, "why", e.Fault.String(),
			"probe", time.Now().Add(e.ProbeAt-e.At).UTC().Format(time.RFC3339), "in_service", keys-len(out), "keys", keys)
	}
}

// serveMetrics answers with the guards' metrics and the gateway's own.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	s.metrics.Handler().ServeHTTP(w, r)
	var b bytes.Buffer
	one := func(name, typ, help string, value any) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s %v\n", name, help, name, typ, name, value)
	}
	one("flyball_gateway_calls", "gauge", "Calls there are now, those that wait included.", s.proxy.Calls())
	one("flyball_gateway_answering", "gauge", "Calls whose answer has begun and goes on, such as streams.", s.proxy.Answering())
	one("flyball_gateway_body_memory_bytes", "gauge", "Memory that bodies of requests take.", s.proxy.Memory())
	one("flyball_gateway_reloads_total", "counter", "Times the configuration was reloaded.", s.stats.reloads.Load())
	one("flyball_gateway_reloads_failed_total", "counter", "Times the configuration could not be reloaded.", s.stats.reloadsFailed.Load())
	inForce := 1
	if s.stats.notInForce.Load() {
		inForce = 0
	}
	one("flyball_gateway_last_reload_successful", "gauge", "Whether the file as it is now is in force: 0 from a reload that failed on until one succeeds.", inForce)
	one("flyball_gateway_log_lines_lost_total", "counter", "Lines of the log that could not be written.", s.sink.failed.Load())
	one("flyball_gateway_spans_lost_total", "counter", "Spans that could not be sent.", s.tracer.Lost())
	c := s.cache.Counts()
	one("flyball_gateway_cache_hits_total", "counter", "Calls that were answered from the cache.", c.Hits)
	one("flyball_gateway_cache_misses_total", "counter", "Calls whose answer was looked for and not in the cache.", c.Misses)
	one("flyball_gateway_cache_coalesced_total", "counter", "Calls that shared the answer to another.", c.Coalesced)
	one("flyball_gateway_cache_stored_total", "counter", "Answers that were kept.", c.Stored)
	one("flyball_gateway_cache_entries", "gauge", "Answers in memory.", c.Entries)
	one("flyball_gateway_cache_bytes", "gauge", "Memory that they take, about.", c.Bytes)
	one("flyball_gateway_cache_redis_errors_total", "counter", "Times Redis failed.", c.StoreErrors)

	s.stats.mu.Lock()
	type row struct {
		callKey
		callStats
	}
	var rows []row
	for k, c := range s.stats.calls {
		rows = append(rows, row{k, *c})
	}
	s.stats.mu.Unlock()
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(strings.Compare(a.route, b.route), strings.Compare(a.upstream, b.upstream), strings.Compare(a.status, b.status), strings.Compare(a.code, b.code), strings.Compare(a.cache, b.cache))
	})
	family := func(name, help string, value func(*row) any) {
		if len(rows) == 0 {
			return
		}
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s counter\n", name, help, name)
		for i := range rows {
			r := &rows[i]
			fmt.Fprintf(&b, "%s{route=%q,upstream=%q,status=%q,code=%q,cache=%q} %v\n", name, r.route, r.upstream, r.status, r.code, r.cache, value(r))
		}
	}
	family("flyball_gateway_calls_total", "Calls that ended.", func(r *row) any { return r.n })
	family("flyball_gateway_wait_seconds_total", "How long they waited before they were sent, or in vain.", func(r *row) any { return r.wait })
	family("flyball_gateway_first_seconds_total", "How long it was until their answers began.", func(r *row) any { return r.first })
	family("flyball_gateway_seconds_total", "How long they took.", func(r *row) any { return r.total })
	family("flyball_gateway_received_bytes_total", "Bytes of requests' bodies.", func(r *row) any { return r.received })
	family("flyball_gateway_sent_bytes_total", "Bytes of answers' bodies.", func(r *row) any { return r.sent })
	_, _ = w.Write(b.Bytes())
}

// tenants are counts by tenant, for the page. Callers may choose names, so not more than some are kept.
type tenants struct {
	mu  sync.Mutex
	all map[string]*ui.Tenant
}

const (
	mostTenants = 200
	others      = "(others)"
)

func (t *tenants) count(r *proxy.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[string]*ui.Tenant{}
	}
	name := r.Tenant
	c := t.all[name]
	if c == nil {
		if len(t.all) >= mostTenants {
			if name = others; t.all[name] != nil {
				c = t.all[name]
			}
		}
		if c == nil {
			c = &ui.Tenant{Name: name}
			t.all[name] = c
		}
	}
	c.Calls++
	if r.Code != "" {
		c.Refused++
	}
	c.Bytes += uint64(r.Bytes)
	c.WaitSum += r.Wait.Seconds()
}

// most returns those with the most calls.
func (t *tenants) most(n int) []ui.Tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]ui.Tenant, 0, len(t.all))
	for _, c := range t.all {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b ui.Tenant) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), strings.Compare(a.Name, b.Name))
	})
	return list[:min(n, len(list))]
}

// state is what the page shows besides guards.
func (s *Server) state() ui.State {
	c := s.cache.Counts()
	st := ui.State{
		Calls: s.proxy.Calls(), Draining: s.draining.Load(), Pools: []ui.Pool{}, Tenants: s.tenants.most(50),
		Cache: ui.Cache{Hits: c.Hits, Misses: c.Misses, Coalesced: c.Coalesced, Bytes: c.Bytes},
	}
	for _, v := range s.proxy.Upstreams() {
		if v.Pool == nil {
			continue
		}
		p := v.Pool.Stats()
		pool := ui.Pool{Name: v.Name}
		for _, k := range p.Keys {
			n := ui.Key{Key: k.Key, State: "in service", Limit: k.Limit, InFlight: k.InFlight, Served: k.Served, Faults: k.Faults}
			if k.Paused > 0 {
				n.State = "paused"
			}
			if k.Out != limiter.KeyFine {
				n.State, n.Probe = "out: "+k.Out.String(), max(0, time.Until(k.ProbeAt).Seconds())
			}
			pool.Keys = append(pool.Keys, n)
		}
		st.Pools = append(st.Pools, pool)
	}
	return st
}
