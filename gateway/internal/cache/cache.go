// Package cache keeps answers that would be given again: in memory, and in a Redis that several gateways share. It also has one
// answer that is just coming go to all who asked for the same.
package cache

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Key names a request: two have the same Key only when an upstream would take them for the same.
type Key [32]byte

// Entry is an answer. It is read-only once it was stored.
type Entry struct {
	Status int
	Header http.Header
	Body   []byte
	Stored time.Time
	TTL    time.Duration
}

// size returns about how much memory an entry takes, in bytes.
func (e *Entry) size() int64 {
	n := int64(len(e.Body)) + 256
	for k, vs := range e.Header {
		n += int64(len(k)) + 64
		for _, v := range vs {
			n += int64(len(v)) + 16
		}
	}
	return n
}

// A Store keeps entries beyond this process. What it cannot do it does not do: the cache works without it.
type Store interface {
	// Get returns the entry of a key, which is the caller's, nil when there is none.
	Get(ctx context.Context, k Key) (*Entry, error)
	// Set keeps an entry for as long as its TTL says.
	Set(ctx context.Context, k Key, e *Entry) error
	Close() error
}

// Config is what a Cache is made from.
type Config struct {
	// MaxBytes is how much memory entries take, about; 0 keeps none. Answers that are coming may take as much again, and at least 16 MiB,
	// before less of them is kept for those who come later or are slower. MaxEntry is the largest body of one.
	MaxBytes, MaxEntry int64
	// Store is asked when memory has nothing; nil is none.
	Store Store
	// OnStoreError is told when Store fails, not more often than the breaker lets it be asked, and whether it is read still: it may take nothing more
	// only. nil tells nobody.
	OnStoreError func(err error, read bool)
	// OnPanic is told of a producer that panicked, which ends its flight and nothing else, as the server's own recovery does with a call that
	// is not shared. nil tells nobody.
	OnPanic func(v any, stack []byte)
}

// Cache keeps answers and lets callers share those that are coming. Its methods may be called by any number of goroutines.
type Cache struct {
	cfg    Config
	memory *otter.Cache[Key, *Entry] // nil without memory
	closed atomic.Bool
	born   time.Time
	// away is until when the store is left alone, and full until when nothing is stored there, in nanoseconds since born: what takes nothing more,
	// for want of memory or as a replica, has what it was given.
	away, full atomic.Int64

	mu      sync.Mutex
	flights map[Key]*Flight
	coming  memory // of the flights

	hits, misses, coalesced, stored, storeErrors atomic.Uint64
}

// Counts is what a cache counted.
type Counts struct {
	Hits, Misses, Coalesced, Stored, StoreErrors uint64
	Entries                                      int
	Bytes                                        uint64
}

// leastComing is how much answers that are coming may take together when nothing is kept, in bytes.
const leastComing = 16 << 20

// New returns an empty cache.
func New(cfg Config) *Cache {
	c := &Cache{cfg: cfg, born: time.Now(), flights: map[Key]*Flight{}, coming: memory{most: max(cfg.MaxBytes, leastComing)}}
	if cfg.MaxBytes > 0 {
		c.memory = otter.Must(&otter.Options[Key, *Entry]{
			MaximumWeight:    uint64(cfg.MaxBytes),
			Weigher:          func(_ Key, e *Entry) uint32 { return uint32(min(e.size(), 1<<32-1)) },
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[Key, *Entry]) time.Duration { return e.Value.TTL - time.Since(e.Value.Stored) }),
		})
	}
	return c
}

// The store is asked within this time, and left alone for a while once it failed.
const (
	storeTimeout = 250 * time.Millisecond
	storeAway    = 5 * time.Second
)

// Get returns an entry that is not older than maxAge, nil when there is none. A negative maxAge takes any.
func (c *Cache) Get(ctx context.Context, k Key, maxAge time.Duration) *Entry {
	e := c.get(ctx, k)
	if e == nil || maxAge >= 0 && time.Since(e.Stored) > maxAge || time.Since(e.Stored) >= e.TTL {
		c.misses.Add(1)
		return nil
	}
	c.hits.Add(1)
	return e
}

func (c *Cache) get(ctx context.Context, k Key) *Entry {
	if c.memory != nil {
		if e, ok := c.memory.GetIfPresent(k); ok {
			return e
		}
	}
	if !c.mayAsk(&c.away) {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	e, err := c.cfg.Store.Get(ask, k)
	if err != nil && ctx.Err() != nil {
		return nil // the caller has left, which is not the store's fault
	}
	if c.failed(&c.away, err) || e == nil {
		return nil
	}
	// It was stored by another process's clock, which may be ahead of ours. From here on ours counts, and how it is set later does not.
	e.Stored = time.Now().Add(-max(0, time.Since(e.Stored)))
	if c.memory != nil && time.Since(e.Stored) < e.TTL {
		c.memory.Set(k, e)
	}
	return e
}

// Set keeps an entry, unless it is too large.
func (c *Cache) Set(ctx context.Context, k Key, e *Entry) {
	if int64(len(e.Body)) > c.cfg.MaxEntry || c.closed.Load() {
		return
	}
	c.stored.Add(1)
	if c.memory != nil {
		c.memory.Set(k, e)
	}
	if c.mayAsk(&c.away) && c.mayAsk(&c.full) {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		defer cancel()
		c.failed(&c.full, c.cfg.Store.Set(ctx, k, e))
	}
}

// mayAsk reports whether it is not before an instant, away or full, and there is a store.
func (c *Cache) mayAsk(until *atomic.Int64) bool {
	return c.cfg.Store != nil && int64(time.Since(c.born)) >= until.Load()
}

// failed notes that the store failed, and leaves it alone for a while: until is away or full.
func (c *Cache) failed(until *atomic.Int64, err error) bool {
	if err == nil {
		return false
	}
	c.storeErrors.Add(1)
	now := time.Since(c.born)
	was := until.Swap(int64(now + storeAway))
	if c.cfg.OnStoreError != nil && int64(now) >= was {
		c.cfg.OnStoreError(err, until == &c.full)
	}
	return true
}

// MaxEntry is the largest body that is kept.
func (c *Cache) MaxEntry() int64 { return c.cfg.MaxEntry }

// Counts returns what was counted.
func (c *Cache) Counts() Counts {
	n := Counts{Hits: c.hits.Load(), Misses: c.misses.Load(), Coalesced: c.coalesced.Load(), Stored: c.stored.Load(), StoreErrors: c.storeErrors.Load()}
	if c.memory != nil {
		n.Entries, n.Bytes = c.memory.EstimatedSize(), c.memory.WeightedSize()
	}
	return n
}

// Close gives up what the cache holds. Flights go on.
func (c *Cache) Close() {
	if c.closed.Swap(true) {
		return
	}
	if c.memory != nil {
		c.memory.InvalidateAll()
		c.memory.StopAllGoroutines()
	}
	if c.cfg.Store != nil {
		_ = c.cfg.Store.Close()
	}
}

// Forget drops what is in memory.
func (c *Cache) Forget() {
	if c.memory != nil {
		c.memory.InvalidateAll()
	}
}
