// Package settings reads what limits.toml says of the gateway: the tables [gateway...], in the same pass as the guards'
// tables, which package config reads.
package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/limiter"
)

// Settings is a limits.toml as the gateway sees it, with the defaults filled in. It is read-only once it was made.
type Settings struct {
	// Listen is the address that callers connect to, and Admin that of /ui and /metrics; an empty Admin is Listen.
	Listen, Admin string
	// Open lets anybody who can connect use the upstreams' keys.
	Open bool
	// TenantHeader and PriorityHeader are the fields by which callers say who they are and how urgent a call is.
	TenantHeader, PriorityHeader string

	Server  Server
	TLS     TLS
	Log     Log
	Trace   Trace
	Cache   Cache
	Batches Batches
	Routes  []Route // by falling length of Path; those of one path one after the other
	Callers []Caller
	Tenants map[string]Tenant

	// Limits are the guards' tables.
	Limits *config.File
}

// Server bounds what callers may do to the gateway.
type Server struct {
	// HeaderTimeout is how long a caller may take to send a request's header.
	HeaderTimeout time.Duration
	// BodyTimeout is how long a caller may send nothing of a request's body, and WriteTimeout how long it may take
	// nothing of an answer.
	BodyTimeout, WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept without a request.
	IdleTimeout time.Duration
	// DrainTimeout is how long calls may go on after the gateway was asked to end.
	DrainTimeout time.Duration
	// MaxHeader and MaxBody are the largest header and body of a request, in bytes.
	MaxHeader, MaxBody int64
	// Memory is how much memory bodies may take together, in bytes; what is beyond it is in temporary files.
	Memory int64
	// MaxCalls is how many calls there may be at a time, those that wait included.
	MaxCalls int
}

// TLS names the certificate that callers are shown; empty means none.
type TLS struct{ Cert, Key string }

// Log says where the log goes; an empty File is standard error.
type Log struct {
	File  string
	Level string
	Calls bool // a line for each call
}

// Trace says where spans go; an empty Endpoint is nowhere.
type Trace struct {
	Endpoint string
	Sample   float64 // ratio of the calls without a sampled parent, 0 to 1
}

// Cache says how much is kept, and where.
type Cache struct {
	MaxBytes, MaxEntry int64
	// Redis is the URL of a Redis that replicas share, or RedisEnv the variable that holds it; both empty is none.
	Redis, RedisEnv string
}

// Batches says where OpenAI's Batch API keeps its files; an empty Dir is no such API.
type Batches struct {
	Dir      string
	Upstream string // that the requests go to
	Tenant   string // that they are of
	// MaxFile is the largest file of requests, in bytes.
	MaxFile int64
	// Idempotent has requests sent again after time-outs and server errors, under the same Idempotency-Key.
	Idempotent bool
}

// What is cached.
const (
	CacheOff   = "off"
	CacheAsked = "asked" // what a caller asks for
	CacheSafe  = "safe"  // embeddings, and what has the temperature 0, too
)

// Route leads calls whose path begins with Path to an upstream.
type Route struct {
	Key  string // of its table, for messages: "gateway.route[0]"; empty when the file has none
	Path string // begins with a slash and does not end in one; empty is all
	// Models are the names of the models that it is for, those that end in * of all that begin so; empty is all, and calls without one.
	Models   []string
	Upstream string
	To       string // put between the upstream's base URL and the rest of the path
	// Wait is how long a call may take until its answer begins; zero is DefaultWait.
	Wait time.Duration
	// KeepAlive is how often a streaming caller is told that it waits; zero is never.
	KeepAlive time.Duration
	// Stall is how long an upstream may be silent in the middle of an answer, and Longest how long an answer may take.
	Stall, Longest time.Duration
	Cache          string
	CacheTTL       time.Duration
	// FallbackAfter is the longest wait for the upstream, when there is a fallback.
	FallbackAfter time.Duration
	Fallback      []Fallback
}

// Name names the route in messages: its path, and some of its models.
func (r *Route) Name() string {
	switch most := 3; {
	case len(r.Models) == 0:
		return r.Path + "/"
	case len(r.Models) > most:
		return r.Path + "/ for " + strings.Join(r.Models[:most], ", ") + ", …"
	}
	return r.Path + "/ for " + strings.Join(r.Models, ", ")
}

// Fallback is an upstream to use in the place of the route's.
type Fallback struct {
	Upstream string
	Model    string // in the place of the request's; empty leaves it
}

// Caller is somebody who may call.
type Caller struct {
	Name      string
	SHA256    [32]byte // of the key
	Tenant    string
	Priority  uint8
	AnyTenant bool // may say its tenant and priority in the header fields
}

// Tenant is what a tenant may have of all upstreams together.
type Tenant struct {
	MaxInFlight    int   // 0 is no limit
	CallsPerMinute int64 // 0 is no limit
	Priority       uint8
}

// Reserved are the gateway's own paths, which no route may have.
var Reserved = []string{"/ui", "/metrics", "/healthz", "/readyz"}

// The waits that a route has when it says nothing: under the time-outs of Dify, 60 s for embeddings and rerank and 300 s for the
// beginning of other answers, so that a caller is told why rather than cut off.
const (
	waitShort = 55 * time.Second
	waitLong  = 290 * time.Second
)

// WaitFor returns how long a call with the given path may take until its answer begins.
func (r *Route) WaitFor(path string) time.Duration {
	switch {
	case r.Wait > 0:
		return r.Wait
	case strings.HasSuffix(path, "/embeddings"), strings.HasSuffix(path, "/rerank"):
		return waitShort
	}
	return waitLong
}

// Parse reads data, the contents of a limits.toml. The name is for messages. The error is a strict.Errors with everything that is wrong.
func Parse(name string, data []byte) (*Settings, error) {
	// An editor of Windows may put it there.
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var t fileTable
	if err := config.Decode(name, data, &t); err != nil {
		return nil, err
	}
	return t.settings(), nil
}

// Exposed reports why strangers could use the upstreams' keys; nil when they cannot, or may. The file is checked by Parse, so this is for
// an address that does not come from it.
func (s *Settings) Exposed() error {
	if s.Open || len(s.Callers) > 0 || s.Loopback() {
		return nil
	}
	for name, u := range s.Limits.Upstreams {
		if len(u.Keys.Sources) > 0 {
			return fmt.Errorf("%s can be reached from elsewhere, and upstream.%s has keys that anybody could use then: write [[gateway.caller]] for those who may, or open = true in [gateway]", s.Listen, name)
		}
	}
	return nil
}

// Readable reports which keys calls would go without.
func (s *Settings) Readable() error {
	var errs []error
	for _, name := range upstreams(s.Limits) {
		if u := s.Limits.Upstreams[name]; len(u.Keys.Sources) > 0 {
			pool, err := u.Pool()
			if err == nil {
				err = pool.Check()
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

var versionForm = regexp.MustCompile(`^v[0-9]+[a-z0-9]*$`)

// Version returns the last part of a URL's path when it is a version, "v1"; else nothing.
func Version(u *url.URL) string {
	path := u.EscapedPath()
	if last := path[strings.LastIndexByte(path, '/')+1:]; versionForm.MatchString(last) {
		return last
	}
	return ""
}

// Unversioned returns, by their keys, what is to be said of fallbacks whose base_url has no version in it, where that of the route's upstream does: callers who leave the
// version to the gateway would get a 404 from them.
func (s *Settings) Unversioned() (all [][2]string) {
	base := func(upstream string) *url.URL {
		u, err := url.Parse(s.Limits.Upstreams[upstream].BaseURL)
		if err != nil {
			return &url.URL{}
		}
		return u
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		v := Version(base(r.Upstream))
		if v == "" || r.To != "" {
			continue
		}
		for j, f := range r.Fallback {
			if b := base(f.Upstream); !slices.ContainsFunc(strings.Split(b.EscapedPath(), "/"), versionForm.MatchString) {
				all = append(all, [2]string{fmt.Sprintf("%s.fallback[%d]", r.Key, j), fmt.Sprintf(
					"the base_url of %s ends in /%s and that of %s has no version, so a call to %s/chat/completions would go to %s/chat/completions there: write the version behind it if its API has one",
					r.Upstream, v, f.Upstream, r.Path, strings.TrimSuffix(b.String(), "/"))})
			}
		}
	}
	return all
}

// Below reports whether a path is that of a route, or below it.
func Below(path, route string) bool {
	return strings.HasPrefix(path, route) && (len(path) == len(route) || path[len(route)] == '/')
}

// Unrouted returns, by their keys, what is to be said of routes for models where no route is for all others.
func (s *Settings) Unrouted() (all [][2]string) {
	for i := range s.Routes {
		r := &s.Routes[i]
		first := i == 0 || s.Routes[i-1].Path != r.Path
		if first && !slices.ContainsFunc(s.Routes[i:], func(o Route) bool { return len(o.Models) == 0 && Below(r.Path, o.Path) }) {
			all = append(all, [2]string{r.Key, fmt.Sprintf("no route of %s/ is without models, so calls of other models, and those that name none, get a 404 there", r.Path)})
		}
	}
	return all
}

// Unreached returns the keys that are about a tenant to which no call can belong, sorted: what they say never counts.
func (s *Settings) Unreached() (keys []string) {
	if len(s.Callers) == 0 || slices.ContainsFunc(s.Callers, func(c Caller) bool { return c.AnyTenant }) {
		return nil // whoever may say so in a field of the header belongs to them
	}
	called := func(tenant string) bool {
		return slices.ContainsFunc(s.Callers, func(c Caller) bool { return c.Tenant == tenant })
	}
	for name := range s.Tenants {
		if !called(name) {
			keys = append(keys, "gateway.tenant."+name)
		}
	}
	weights := func(table string, room *limiter.Room, besides *limiter.Room) {
		if room == nil {
			return
		}
		for name := range room.Weights {
			known := called(name) || s.Batches.Dir != "" && name == s.Batches.Tenant
			if besides != nil {
				_, has := besides.Weights[name]
				known = known || has
			}
			if !known {
				keys = append(keys, table+".room.weights."+name)
			}
		}
	}
	all := s.Limits.Defaults.Config().Room
	weights("guard", all, nil)
	for name, u := range s.Limits.Upstreams {
		weights("upstream."+name, u.Config().Room, all)
	}
	slices.Sort(keys)
	return keys
}

// upstreams returns the names of the upstreams that have a base URL, sorted.
func upstreams(f *config.File) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.Upstreams)), func(name string) bool { return f.Upstreams[name].BaseURL == "" })
}

// defaultRoutes returns the routes of a file that has none but those for models: each upstream by its name, and a single one for all paths. An upstream
// that models are led to does not count beside one that has the others.
func defaultRoutes(f *config.File, own []Route) []Route {
	var routes []Route
	names := upstreams(f)
	for _, name := range names {
		routes = append(routes, routeTable{Path: "/" + path(name), Upstream: name}.route())
	}
	others := names
	if len(names) > 1 {
		others = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
			return slices.ContainsFunc(own, func(r Route) bool { return r.Upstream == name })
		})
	}
	if len(others) == 1 {
		routes = append(routes, routeTable{Upstream: others[0]}.route())
	}
	return routes
}

// longestFirst sorts routes so that the first path that matches is the one that counts, and those of one path are together, that for all models last.
func longestFirst(routes []Route) {
	slices.SortStableFunc(routes, func(a, b Route) int {
		all := func(r Route) int { return min(1, len(r.Models)) }
		return cmp.Or(cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path), cmp.Compare(all(b), all(a)))
	})
}

// Demonstration is the file of a gateway that was started without one: the upstream is in the gateway itself.
const Demonstration = `
[upstream.demo]
base_url = "http://127.0.0.1:0/v1"
`
