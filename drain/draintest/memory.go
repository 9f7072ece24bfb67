package draintest

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/flyball-go/flyball/drain"
)

// Memory is a Source in memory, for tests: an obvious one, that others can be compared with. The zero Memory is empty and
// has no end until Finish is called.
type Memory struct {
	// Hold is for how long a delivery may be held; zero means as long as it takes.
	Hold time.Duration

	mu       sync.Mutex
	ready    []*drain.Delivery
	later    []delayed
	out      map[*drain.Delivery]bool
	dead     []Letter
	acked    []*drain.Delivery
	finished bool
	changed  chan struct{}
}

type delayed struct {
	at time.Time
	d  *drain.Delivery
}

// Letter is a dead letter as a source kept it.
type Letter struct {
	Body   []byte
	Reason drain.Reason
	Detail string
}

// Publish adds jobs.
func (m *Memory) Publish(ds ...*drain.Delivery) {
	m.mu.Lock()
	m.ready = append(m.ready, ds...)
	m.change()
	m.mu.Unlock()
}

// Finish says that no more jobs will come.
func (m *Memory) Finish() {
	m.mu.Lock()
	m.finished = true
	m.change()
	m.mu.Unlock()
}

// change wakes Fetch. It needs the lock.
func (m *Memory) change() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// Fetch implements drain.Source.
func (m *Memory) Fetch(ctx context.Context, n int) ([]*drain.Delivery, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		m.mu.Lock()
		if m.out == nil {
			m.out = map[*drain.Delivery]bool{}
		}
		now := time.Now()
		m.later = slices.DeleteFunc(m.later, func(l delayed) bool {
			if l.at.After(now) {
				return false
			}
			m.ready = append(m.ready, l.d)
			return true
		})
		if len(m.ready) > 0 {
			ds := m.ready[:min(n, len(m.ready))]
			m.ready = m.ready[len(ds):]
			for _, d := range ds {
				m.out[d] = true
				if d.Since.IsZero() {
					d.Since = now
				}
				if m.Hold > 0 {
					d.HoldUntil = now.Add(m.Hold)
				}
			}
			m.mu.Unlock()
			return ds, nil
		}
		if m.finished && len(m.later) == 0 && len(m.out) == 0 {
			m.mu.Unlock()
			return nil, io.EOF
		}
		if m.changed == nil {
			m.changed = make(chan struct{})
		}
		changed := m.changed
		wait := time.Hour
		for _, l := range m.later {
			wait = min(wait, l.at.Sub(now))
		}
		m.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
	}
}

// settle takes back a delivery; it must be out.
func (m *Memory) settle(d *drain.Delivery, f func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.out[d] {
		panic("draintest: " + d.Where + " was settled twice, or never delivered")
	}
	delete(m.out, d)
	f()
	m.change()
	return nil
}

// Ack implements drain.Source.
func (m *Memory) Ack(_ context.Context, d *drain.Delivery) error {
	return m.settle(d, func() { m.acked = append(m.acked, d) })
}

// Retry implements drain.Source.
func (m *Memory) Retry(_ context.Context, d *drain.Delivery, after time.Duration, _ string) error {
	return m.settle(d, func() {
		again := *d
		again.Attempts++
		again.Retries++
		m.later = append(m.later, delayed{time.Now().Add(after), &again})
	})
}

// Dead implements drain.Source.
func (m *Memory) Dead(_ context.Context, d *drain.Delivery, l *drain.DeadLetter) error {
	return m.settle(d, func() { m.dead = append(m.dead, Letter{d.Body, l.Reason, l.Detail}) })
}

// Release implements drain.Source.
func (m *Memory) Release(_ context.Context, d *drain.Delivery) error {
	return m.settle(d, func() {
		again := *d
		m.ready = append(m.ready, &again)
	})
}

// Letters returns the dead letters so far.
func (m *Memory) Letters() []Letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.dead)
}

// Left returns how many jobs are neither acknowledged nor dead.
func (m *Memory) Left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ready) + len(m.later) + len(m.out)
}

// Crash loses what is out, as a connection does: it will be delivered again, with one attempt more.
func (m *Memory) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := range m.out {
		again := *d
		again.Attempts++
		again.Again = true
		m.ready = append(m.ready, &again)
	}
	m.out = nil
	m.change()
}

// Results is a Store in memory, for tests.
type Results struct {
	mu  sync.Mutex
	all map[string]*drain.Result
	// Puts is how many results were put, repetitions included.
	Puts int
}

// Put implements drain.Store.
func (s *Results) Put(_ context.Context, r *drain.Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]*drain.Result{}
	}
	s.all[r.ID] = r
	s.Puts++
	return nil
}

// Has implements drain.Store.
func (s *Results) Has(id string) (h drain.Hash, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.all[id]; r != nil {
		return r.Hash, true
	}
	return h, false
}

// Get implements drain.Store.
func (s *Results) Get(_ context.Context, id string) (*drain.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.all[id]; r != nil {
		return r, nil
	}
	return nil, drain.ErrNoResult
}

// Len returns how many results there are.
func (s *Results) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}
