package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/internal/once"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// upstream is where calls go, with its guard.
type upstream struct {
	name     string
	base     *url.URL
	version  string // the last part of the base's path, when it is a version: "v1"
	provider string
	rules    *feedback.Rules
	keyed    bool // calls are sent with the upstream's keys
	google   bool // and may have others in their query
	sender   http.RoundTripper
	guards   []*limiter.Guard
	pool     *limiter.Pool // nil without keys

	*learned
}

// Limits makes guards and pools; a config.Reloader does.
type Limits interface {
	Guard(name string) (*limiter.Guard, error)
	Pool(name string) (*limiter.Pool, error)
}

// newUpstream returns the upstream that u says, with a transport and what was learned, which may be kept from before.
func newUpstream(u config.Upstream, rules *feedback.Rules, limits Limits, base *once.Transport, kept *learned) (*upstream, error) {
	at, err := url.Parse(u.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("proxy: upstream %s: %w", u.Name, err)
	}
	n := &upstream{name: u.Name, base: at, version: settings.Version(at), provider: u.Provider, rules: rules, learned: kept}
	w := &wire{base: base, plain: countsTokens(u.Budget)}
	cfg := httplimit.Config{Provider: u.Provider, Rules: rules, Request: request}
	if len(u.Keys.Sources) > 0 {
		if n.pool, err = limits.Pool(u.Name); err != nil {
			return nil, err
		}
		n.keyed, n.guards = true, n.pool.Guards()
		n.google = isGoogle(u, at.Hostname())
		n.sender = httplimit.NewPool(w, n.pool, httplimit.PoolConfig{Config: cfg, Header: u.Keys.Header, Prefix: u.Keys.Prefix, Host: at.Host})
		return n, nil
	}
	guard, err := limits.Guard(u.Name)
	if err != nil {
		return nil, err
	}
	n.guards = []*limiter.Guard{guard}
	n.sender = httplimit.New(w, guard, cfg)
	return n, nil
}

// countsTokens reports whether a budget has a limit of tokens.
func countsTokens(b *limiter.Budget) bool {
	return b != nil && slices.ContainsFunc(b.Limits, func(l limiter.BudgetLimit) bool {
		return l.Kind == feedback.ScopeTokens || l.Kind == feedback.ScopeInputTokens || l.Kind == feedback.ScopeOutputTokens
	})
}

// isGoogle reports whether an upstream takes keys in the query as well, as all of Google's hosts do, whichever field its own keys go into: those
// of its API in OpenAI's form are bearer tokens.
func isGoogle(u config.Upstream, host string) bool {
	return u.Provider == "gemini" || u.Provider == "vertex-ai" || strings.EqualFold(u.Keys.Header, "X-Goog-Api-Key") ||
		strings.HasSuffix(strings.ToLower(host), ".googleapis.com")
}

// request tells the guard of a call.
func request(req *http.Request) limiter.Request {
	if t := turnOf(req.Context()); t != nil {
		return t.request
	}
	return limiter.Request{}
}

// newTransport returns the transport for an upstream that may have as many calls in flight as limit.
func newTransport(limit int) *once.Transport {
	t := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: dial,
		// The guard is the limit. A connection that is given back is kept, so that the next call need not shake hands again.
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    min(max(limit, 2), 16_384),
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		DisableCompression:     true, // what the caller accepts is the caller's business
		MaxResponseHeaderBytes: 256 << 10,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	t.Protocols = p
	return &once.Transport{Transport: t}
}

// join puts the rest of a request's path after the upstream's base. A version that the base ends in is not repeated: some
// SDKs bring it along.
func (u *upstream) join(to, rest, query string) *url.URL {
	if u.version != "" && to == "" {
		if after, ok := strings.CutPrefix(rest, "/"+u.version); ok && (after == "" || after[0] == '/') {
			rest = after
		}
	}
	n := *u.base
	escaped := n.EscapedPath() + to + rest
	n.Path, n.RawPath = escaped, ""
	if strings.IndexByte(escaped, '%') >= 0 {
		if plain, err := url.PathUnescape(escaped); err == nil {
			n.Path, n.RawPath = plain, escaped
		}
	}
	n.RawQuery = query
	return &n
}

// ownQuery returns the query of a request without what the caller sent as a key, when the upstream's keys take its place. Google takes keys
// there, too.
func (u *upstream) ownQuery(query string) string {
	if !u.google || query == "" {
		return query
	}
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		switch name {
		case "key", "access_token", "oauth_token":
		default:
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// learned is what is known of an upstream besides what its guard knows.
type learned struct {
	classes classes
	firsts  firsts
}

// classes gives each model a class of its own, as long as there are some: calls of one class are compared in what they cost and how
// long they take. Callers may send any name, so one that the upstream has never served gives its class up to the next.
type classes struct {
	mu     sync.RWMutex
	known  map[string]class
	served int // how many of them were
}

type class struct {
	n      uint8
	served bool
}

// lastClass is for all models that have none of their own.
const lastClass = 7

// of returns the class of a model.
func (c *classes) of(model string) uint8 {
	switch {
	case model == "":
		return 0
	case len(model) > longestModel:
		return lastClass // no name is so long, and those that are known stay
	}
	c.mu.RLock()
	k, ok := c.known[model]
	full := c.served >= lastClass-1
	c.mu.RUnlock()
	if ok {
		return k.n
	}
	if full {
		return lastClass
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.add(model).n
}

// serves says that the upstream has served a model.
func (c *classes) serves(model string) {
	if n := c.of(model); n == 0 || n == lastClass {
		return
	}
	c.mu.RLock()
	known := c.known[model].served
	c.mu.RUnlock()
	if known {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.add(model); !k.served && k.n != lastClass {
		c.known[model] = class{k.n, true}
		c.served++
	}
}

// add returns the class of a model, a new one when it has none. It needs the lock.
func (c *classes) add(model string) class {
	if k, ok := c.known[model]; ok {
		return k
	}
	if c.known == nil {
		c.known = map[string]class{}
	}
	k := class{n: uint8(len(c.known)) + 1}
	if k.n == lastClass {
		for other, o := range c.known {
			if !o.served {
				k.n = o.n
				delete(c.known, other)
				break
			}
		}
	}
	if k.n != lastClass {
		c.known[model] = k
	}
	return k
}
