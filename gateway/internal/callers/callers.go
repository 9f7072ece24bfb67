// Package callers knows who calls the gateway: by a key of the gateway's own, of which only the hash is kept, or by what a caller
// says of itself; and what each tenant may have.
package callers

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/limiter"
)

// KeyHeader is the field for a key of the gateway beside a key of the upstream.
const KeyHeader = "X-Flyball-Key"

// Who is a caller.
type Who struct {
	// Name is the caller's; empty when the gateway has no callers.
	Name     string
	Tenant   string
	Priority uint8
	// Fields are the header fields that carried keys of the gateway; they are not for the upstream.
	Fields []string
}

// Book is the callers and tenants of one version of the configuration. It is read-only.
type Book struct {
	callers          []settings.Caller
	tenants          map[string]settings.Tenant
	guards           map[string]*limiter.Guard
	tenant, priority string
}

// fields are where callers put keys, with what stands before the key.
var fields = []struct{ name, prefix string }{
	{KeyHeader, ""}, {"Authorization", "Bearer "}, {"X-Api-Key", ""}, {"Api-Key", ""}, {"X-Goog-Api-Key", ""},
}

// Who returns who calls, by the header of the request; ok is false when the gateway has callers and this is none of them. The
// time that it takes tells nothing of the keys.
func (b *Book) Who(h http.Header) (w Who, ok bool) {
	may := true
	if len(b.callers) > 0 {
		c, fields := b.find(h)
		if c == nil {
			return Who{}, false
		}
		w = Who{Name: c.Name, Tenant: c.Tenant, Priority: c.Priority, Fields: fields}
		may = c.AnyTenant
	}
	if may {
		if t := h.Get(b.tenant); t != "" && printable(t) {
			w.Tenant = t
		}
	}
	if t, ok := b.tenants[w.Tenant]; ok && t.Priority > w.Priority {
		w.Priority = t.Priority
	}
	if may {
		if p, err := strconv.ParseUint(h.Get(b.priority), 10, 8); err == nil && p <= 7 {
			w.Priority = uint8(p)
		}
	}
	return w, true
}

// find returns whose key is in the first field that has one, and all fields that have one.
func (b *Book) find(h http.Header) (who *settings.Caller, in []string) {
	for _, f := range fields {
		v := h.Get(f.name)
		if len(v) < len(f.prefix) || !strings.EqualFold(v[:len(f.prefix)], f.prefix) || len(v) == len(f.prefix) {
			continue
		}
		sum := sha256.Sum256([]byte(v[len(f.prefix):]))
		found := -1
		for i := range b.callers {
			if subtle.ConstantTimeCompare(sum[:], b.callers[i].SHA256[:]) == 1 {
				found = i
			}
		}
		if found < 0 {
			continue
		}
		in = append(in, f.name)
		if who == nil {
			who = &b.callers[found]
		}
	}
	return who, in
}

// printable reports whether a name can be shown.
func printable(s string) bool {
	if len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// Named reports whether callers need a key.
func (b *Book) Named() bool { return len(b.callers) > 0 }

// Guard returns the guard of a tenant that has limits, or nil.
func (b *Book) Guard(tenant string) *limiter.Guard { return b.guards[tenant] }

// Guards returns the guards of all tenants that have limits, in the order of their names.
func (b *Book) Guards() (all []*limiter.Guard) {
	for _, name := range slices.Sorted(maps.Keys(b.guards)) {
		all = append(all, b.guards[name])
	}
	return all
}

// Tenants makes books; it keeps the guards of tenants from one to the next.
type Tenants struct {
	mu     sync.Mutex
	guards map[string]*limiter.Guard
}

// Book returns the book of s. Guards of tenants that are in use change in place.
func (t *Tenants) Book(s *settings.Settings) (*Book, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &Book{callers: s.Callers, tenants: s.Tenants, guards: map[string]*limiter.Guard{}, tenant: s.TenantHeader, priority: s.PriorityHeader}
	for name, limits := range s.Tenants {
		if limits.MaxInFlight == 0 && limits.CallsPerMinute == 0 {
			continue
		}
		cfg := guardConfig(s, name, limits)
		g := t.guards[name]
		if g == nil {
			var err error
			if g, err = limiter.New(cfg); err != nil {
				return nil, err
			}
		} else if err := g.Reload(cfg); err != nil {
			return nil, err
		}
		if t.guards == nil {
			t.guards = map[string]*limiter.Guard{}
		}
		t.guards[name], b.guards[name] = g, g
	}
	return b, nil
}

// guardConfig returns what a tenant's guard is made from: its limits are known, and nothing is learned.
func guardConfig(s *settings.Settings, name string, limits settings.Tenant) limiter.Config {
	places := limits.MaxInFlight
	if places == 0 {
		places = 1_000_000
	}
	cfg := limiter.Config{
		Name: "tenant/" + name, Law: adaptive.NewFixed(places),
		Adaptive: adaptive.Config{Initial: places, Max: places},
		Queue:    10_000, MaxWait: longestWait(s),
	}
	if n := limits.CallsPerMinute; n > 0 {
		cfg.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Limit: n}}}
	}
	return cfg
}

// longestWait returns the longest wait of all routes.
func longestWait(s *settings.Settings) (longest time.Duration) {
	longest = time.Second
	for i := range s.Routes {
		longest = max(longest, s.Routes[i].WaitFor(""))
	}
	return longest
}
