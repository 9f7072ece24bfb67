package limiter

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"time"
)

// Group is guards of one configuration by key: one for each user, model or host, made when it is first asked for.
// A guard that has met no limit takes little memory, and what one has learned is given back when it
// has been idle; so are all counts but that of successes. A guard with a Budget keeps its state. Its methods may be
// called by any number of goroutines.
type Group struct {
	set    *settings
	prefix string // of the guards' names
	base   time.Time
	idle   time.Duration
	seed   maphash.Seed
	shards [groupShards]groupShard
}

const (
	groupShards = 64
	// sweepEach is how many guards of a shard are looked at, for idle ones, with each guard that is added.
	sweepEach = 2
)

type groupShard struct {
	mu     sync.RWMutex
	guards map[string]*Guard
	order  []*Guard // to sweep through
	hand   int
	_      [64]byte // look-ups of two shards do not share a cache line
}

// GroupConfig is what a Group is made from.
type GroupConfig struct {
	// Guard is the configuration of each guard. Its Law must be nil: every guard has flyball's own. Its Name
	// and a slash go before the key in the guards' names.
	Guard Config
	// Idle is how long a guard must have been idle before what it has learned is given back (1 s to 24 h). Zero
	// means 10 min. Smaller saves memory; larger remembers for longer.
	Idle time.Duration
}

// NewGroup returns a group without guards. The error joins one *FieldError for each field that is out of range.
func NewGroup(cfg GroupConfig) (*Group, error) {
	if cfg.Idle == 0 {
		cfg.Idle = 10 * time.Minute
	}
	errs := []error{cfg.Guard.Check()}
	if cfg.Idle < time.Second || cfg.Idle > 24*time.Hour {
		errs = append(errs, &FieldError{"GroupConfig.Idle", cfg.Idle, "0 (default) or 1s to 24h"})
	}
	if cfg.Guard.Law != nil {
		errs = append(errs, &FieldError{"GroupConfig.Guard.Law", fmt.Sprintf("%T", cfg.Guard.Law), "nil: a Law belongs to one guard"})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p := &Group{set: cfg.Guard.Defaults().settings(nil), base: time.Now(), idle: cfg.Idle, seed: maphash.MakeSeed()}
	if cfg.Guard.Name != "" {
		p.prefix = cfg.Guard.Name + "/"
	}
	return p, nil
}

// Guard returns the guard for key. Two calls with one key return the same guard until it is forgotten.
func (p *Group) Guard(key string) *Guard {
	s := &p.shards[maphash.String(p.seed, key)%groupShards]
	s.mu.RLock()
	g := s.guards[key]
	s.mu.RUnlock()
	if g != nil {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.guards[key]; g != nil {
		return g
	}
	g = &Guard{name: p.prefix + key, base: p.base}
	g.set.Store(p.set)
	g.core.Init(&p.set.core)
	if s.guards == nil {
		s.guards = map[string]*Guard{}
	}
	s.guards[key] = g
	s.order = append(s.order, g)
	s.sweep(p.idle, sweepEach)
	return g
}

// Sweep gives back what idle guards have learned, and returns how many it took it from. A group sweeps by itself as guards
// are added; a program whose keys do not change may call Sweep now and then.
func (p *Group) Sweep() (n int) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		n += s.sweep(p.idle, len(s.order))
		s.mu.Unlock()
	}
	return n
}

// Len returns how many guards there are.
func (p *Group) Len() (n int) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		n += len(s.guards)
		s.mu.RUnlock()
	}
	return n
}

// All returns the guards with their keys, in no order, for metrics, or to Forget some. Guards that are added or forgotten meanwhile may be among them or not.
func (p *Group) All() iter.Seq2[string, *Guard] {
	return func(yield func(string, *Guard) bool) {
		for i := range p.shards {
			s := &p.shards[i]
			s.mu.RLock()
			guards := slices.Clone(s.order)
			s.mu.RUnlock()
			for _, g := range guards {
				if !yield(g.name[len(p.prefix):], g) {
					return
				}
			}
		}
	}
}

// Forget drops the guard for key, if nobody is in flight or waits there; it reports whether it did. Whoever still holds
// the guard may go on using it, apart from a new one.
func (p *Group) Forget(key string) bool {
	s := &p.shards[maphash.String(p.seed, key)%groupShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.guards[key]
	if g == nil || g.core.InFlight() > 0 || g.core.Waiting() > 0 {
		return false
	}
	delete(s.guards, key)
	for i, o := range s.order {
		if o == g {
			last := len(s.order) - 1
			s.order[i], s.order[last] = s.order[last], nil
			s.order = s.order[:last]
			break
		}
	}
	return true
}

// sweep looks at the next n guards. It needs the shard's lock.
func (s *groupShard) sweep(idle time.Duration, n int) (freed int) {
	for range min(n, len(s.order)) {
		if s.hand >= len(s.order) {
			s.hand = 0
		}
		if s.order[s.hand].rest(idle) {
			freed++
		}
		s.hand++
	}
	return freed
}

// rest gives back what the guard has learned when it has been idle; it reports whether it did.
func (g *Guard) rest(idle time.Duration) bool {
	if !g.mu.TryLock() {
		return false // it is in use
	}
	defer g.mu.Unlock()
	if s := g.shell.Load(); s != nil {
		if s.timerSet || s.telling || s.delays != nil || s.leaks.head != nil || len(s.listeners) > 0 || len(s.leaks.listeners) > 0 {
			return false
		}
	}
	rested := g.core.Rest(g.now(), idle)
	if rested || g.core.Unused() { // a guard whose permits are watched, or were listened to, has a shell though it has met no limit
		g.shell.Store(nil)
	}
	return rested
}
