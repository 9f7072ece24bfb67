// Package metrics shows guards and pools of keys to Prometheus and VictoriaMetrics.
//
// [Metrics] holds them and writes what their Stats say each time somebody reads it, one snapshot a guard; a
// call through a guard costs nothing more for being watched. Each series is there from the first reading on, at 0,
// so that rate() sees the first event, too.
//
//	m := metrics.New()
//	if err := m.Register(guard); err != nil {
//		return err
//	}
//	http.Handle("GET /metrics", m.Handler())
//
// docs/metrics.md lists the metrics with their units and gives queries.
package metrics

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	vm "github.com/VictoriaMetrics/metrics"

	"github.com/flyball-go/flyball/limiter"
)

// Metrics shows guards and pools of keys. Its methods may be called by any number of goroutines. Make it with [New], and make one
// for each address that is read: the same guard's metrics twice on one page are an error to whoever reads it.
type Metrics struct {
	set *vm.Set

	// mu guards what follows. It is not held while guards are asked for their Stats.
	mu     sync.Mutex
	guards entries[*limiter.Guard]
	pools  entries[*limiter.Pool]
}

// entries are guards or pools with their names as they stand in the label, by these.
type entries[T comparable] []entry[T]

type entry[T comparable] struct {
	label string
	of    T
}

// find returns where a label is, or belongs.
func (es entries[T]) find(label string) (i int, found bool) {
	return slices.BinarySearchFunc(es, label, func(e entry[T], l string) int { return strings.Compare(e.label, l) })
}

// add adds what has a name; it reports whether nothing had it.
func (es *entries[T]) add(label string, of T) bool {
	i, found := es.find(label)
	if !found {
		*es = slices.Insert(*es, i, entry[T]{label, of})
	}
	return !found
}

// remove takes out what has a name; it reports whether it was there.
func (es *entries[T]) remove(label string, of T) bool {
	i, found := es.find(label)
	if !found || (*es)[i].of != of {
		return false
	}
	*es = slices.Delete(*es, i, i+1)
	return true
}

// New returns a Metrics without guards.
func New() *Metrics {
	m := &Metrics{set: vm.NewSet()}
	m.set.RegisterMetricsWriter(m.write)
	return m
}

// A DuplicateError says that a guard, or a pool, of that name is there already: their series could not be told apart.
type DuplicateError struct {
	// Guard is the name, as it stands in the label.
	Guard string
	// Pool says that it is a pool's.
	Pool bool
}

// Error names the guard or the pool.
func (e *DuplicateError) Error() string {
	what := "guard"
	if e.Pool {
		what = "pool"
	}
	return fmt.Sprintf("metrics: a %s named %q is registered already", what, e.Guard)
}

// Register adds a guard, whose name becomes the label guard of its series. The error is a
// *DuplicateError when a guard of that name is there, be it the same one.
//
// A name may hold anything. What a label cannot (bytes that are not UTF-8, and NUL) becomes U+FFFD, so two
// names that differ only there are the same name.
func (m *Metrics) Register(g *limiter.Guard) error {
	label := labelOf(g.Name())
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.guards.add(label, g) {
		return &DuplicateError{Guard: label}
	}
	return nil
}

// Unregister takes a guard out, and its series with it. It reports whether the guard was there.
func (m *Metrics) Unregister(g *limiter.Guard) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guards.remove(labelOf(g.Name()), g)
}

// RegisterPool adds a pool of keys, as Register does a guard; its name becomes the label pool of its series, and the fingerprints of its keys the
// label key. A key itself is never shown. The pool's guards are not added with it; each can be, by its own name.
func (m *Metrics) RegisterPool(p *limiter.Pool) error {
	label := labelOf(p.Name())
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.pools.add(label, p) {
		return &DuplicateError{Guard: label, Pool: true}
	}
	return nil
}

// UnregisterPool takes a pool out, and its series with it. It reports whether the pool was there.
func (m *Metrics) UnregisterPool(p *limiter.Pool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pools.remove(labelOf(p.Name()), p)
}

// Set returns the set that holds the metrics, for a program that has sets of its own: after
// RegisterSet(m.Set()), VictoriaMetrics' WritePrometheus writes the guards, too.
func (m *Metrics) Set() *vm.Set { return m.set }

// contentType is that of the text format, https://prometheus.io/docs/instrumenting/exposition_formats/.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Handler returns a handler that answers with the metrics, to be read by Prometheus or VictoriaMetrics. The
// output has a fixed order: metrics by name, those of pools after those of guards, and in each, guards or pools by name.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		m.set.WritePrometheus(w)
	})
}

// write writes all metrics. A writer that fails has nobody to tell; its reader notices.
func (m *Metrics) write(w io.Writer) {
	m.mu.Lock()
	guards, pools := slices.Clone(m.guards), slices.Clone(m.pools)
	m.mu.Unlock()

	samples := make([]sample, len(guards))
	for i, e := range guards {
		samples[i] = sample{`guard="` + escape(e.label) + `"`, e.of.Stats()}
	}
	ofPools := make([]poolSample, len(pools))
	for i, e := range pools {
		ofPools[i] = poolSample{`pool="` + escape(e.label) + `"`, e.of.Stats()}
	}
	p := page{b: make([]byte, 0, (len(samples)+len(ofPools))*pageSize)}
	add(&p, families, samples)
	add(&p, poolFamilies, ofPools)
	_, _ = w.Write(p.b)
}
