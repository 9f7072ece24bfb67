// Package metrics shows guards to Prometheus and VictoriaMetrics.
//
// [Metrics] holds guards and writes what their Stats say each time somebody reads it, one snapshot a guard; a
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

// Metrics shows guards. Its methods may be called by any number of goroutines. Make it with [New], and make one
// for each address that is read: the same guard's metrics twice on one page are an error to whoever reads it.
type Metrics struct {
	set *vm.Set

	// mu guards entries. It is not held while guards are asked for their Stats.
	mu      sync.Mutex
	entries []entry // sorted by label
}

// entry is a guard with its name as it stands in the label.
type entry struct {
	label string
	guard *limiter.Guard
}

// New returns a Metrics without guards.
func New() *Metrics {
	m := &Metrics{set: vm.NewSet()}
	m.set.RegisterMetricsWriter(m.write)
	return m
}

// A DuplicateError says that a guard of that name is there already: their series could not be told apart.
type DuplicateError struct {
	// Guard is the name, as it stands in the label.
	Guard string
}

// Error names the guard.
func (e *DuplicateError) Error() string {
	return fmt.Sprintf("metrics: a guard named %q is registered already", e.Guard)
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
	i, found := m.find(label)
	if found {
		return &DuplicateError{label}
	}
	m.entries = slices.Insert(m.entries, i, entry{label, g})
	return nil
}

// Unregister takes a guard out, and its series with it. It reports whether the guard was there.
func (m *Metrics) Unregister(g *limiter.Guard) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := m.find(labelOf(g.Name()))
	if !found || m.entries[i].guard != g {
		return false
	}
	m.entries = slices.Delete(m.entries, i, i+1)
	return true
}

// find returns where a label is, or belongs. It needs the lock.
func (m *Metrics) find(label string) (i int, found bool) {
	return slices.BinarySearchFunc(m.entries, label, func(e entry, l string) int { return strings.Compare(e.label, l) })
}

// Set returns the set that holds the metrics, for a program that has sets of its own: after
// RegisterSet(m.Set()), VictoriaMetrics' WritePrometheus writes the guards, too.
func (m *Metrics) Set() *vm.Set { return m.set }

// contentType is that of the text format, https://prometheus.io/docs/instrumenting/exposition_formats/.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Handler returns a handler that answers with the metrics, to be read by Prometheus or VictoriaMetrics. The
// output has a fixed order: metrics by name, and in each, guards by name.
func (m *Metrics) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		m.set.WritePrometheus(w)
	})
}

// write writes all metrics. A writer that fails has nobody to tell; its reader notices.
func (m *Metrics) write(w io.Writer) {
	m.mu.Lock()
	entries := slices.Clone(m.entries)
	m.mu.Unlock()

	samples := make([]sample, len(entries))
	for i, e := range entries {
		samples[i] = sample{`guard="` + escape(e.label) + `"`, e.guard.Stats()}
	}
	p := page{b: make([]byte, 0, len(samples)*pageSize)}
	for i := range families {
		p.family(&families[i], samples)
	}
	_, _ = w.Write(p.b)
}
