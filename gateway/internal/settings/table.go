package settings

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
)

// fileTable is limits.toml as it is written.
type fileTable struct {
	config.Tables
	Gateway gatewayTable `toml:"gateway"`

	// maxWait and queue say which of these keys are written: in [guard], and by upstream.
	maxWait, queue map[string]bool
}

type gatewayTable struct {
	Listen         *address               `toml:"listen"`
	Admin          *address               `toml:"admin"`
	Open           bool                   `toml:"open"`
	TenantHeader   *headerName            `toml:"tenant_header"`
	PriorityHeader *headerName            `toml:"priority_header"`
	Server         serverTable            `toml:"server"`
	TLS            tlsTable               `toml:"tls"`
	Log            logTable               `toml:"log"`
	Trace          traceTable             `toml:"trace"`
	Cache          cacheTable             `toml:"cache"`
	Batches        batchesTable           `toml:"batches"`
	Route          []routeTable           `toml:"route" len:"..1000"`
	Caller         []callerTable          `toml:"caller" len:"..10000"`
	Tenant         map[string]tenantTable `toml:"tenant" len:"..10000"`
}

type serverTable struct {
	HeaderTimeout *time.Duration `toml:"header_timeout" range:"100ms..10m"`
	BodyTimeout   *time.Duration `toml:"body_timeout" range:"100ms..10m"`
	WriteTimeout  *time.Duration `toml:"write_timeout" range:"100ms..10m"`
	IdleTimeout   *time.Duration `toml:"idle_timeout" range:"1s..24h"`
	DrainTimeout  *time.Duration `toml:"drain_timeout" range:"0s..24h"`
	MaxHeader     *int64         `toml:"max_header" range:"4096..16777216" unit:"bytes"`
	MaxBody       *int64         `toml:"max_body" range:"1024..1099511627776" unit:"bytes"`
	Memory        *int64         `toml:"memory" range:"0..1099511627776" unit:"bytes"`
	MaxCalls      *int           `toml:"max_calls" range:"1..1000000" unit:"calls"`
}

type tlsTable struct {
	Cert *filePath `toml:"cert"`
	Key  *filePath `toml:"key"`
}

type logTable struct {
	File  *filePath `toml:"file"`
	Level *string   `toml:"level" choice:"debug|info|warn|error"`
	Calls *bool     `toml:"calls"`
}

type traceTable struct {
	Endpoint *endpoint `toml:"endpoint"`
	Sample   *float64  `toml:"sample" range:"0..1"`
}

type cacheTable struct {
	MaxBytes *int64    `toml:"max_bytes" range:"0..1099511627776" unit:"bytes"`
	MaxEntry *int64    `toml:"max_entry" range:"1024..268435456" unit:"bytes"`
	Redis    *redisURL `toml:"redis"`
	RedisEnv *envName  `toml:"redis_env"`
}

type batchesTable struct {
	Dir        *filePath `toml:"dir"`
	Upstream   *string   `toml:"upstream" len:"1..64"`
	Tenant     *string   `toml:"tenant" len:"..128"`
	MaxFile    *int64    `toml:"max_file" range:"1024..1099511627776" unit:"bytes"`
	Idempotent bool      `toml:"idempotent"`
}

type routeTable struct {
	Path          path            `toml:"path" required:"true"`
	Models        []modelName     `toml:"models" len:"1..1000"`
	Upstream      string          `toml:"upstream" required:"true" len:"1..64"`
	To            path            `toml:"to"`
	Wait          *time.Duration  `toml:"wait" range:"100ms..24h"`
	KeepAlive     *time.Duration  `toml:"keep_alive" range:"0s..10m"`
	Stall         *time.Duration  `toml:"stall" range:"100ms..24h"`
	Longest       *time.Duration  `toml:"longest" range:"1s..24h"`
	Cache         *string         `toml:"cache" choice:"off|asked|safe"`
	CacheTTL      *time.Duration  `toml:"cache_ttl" range:"1s..8784h"`
	FallbackAfter *time.Duration  `toml:"fallback_after" range:"1ms..24h"`
	Fallback      []fallbackTable `toml:"fallback" len:"..16"`
}

type fallbackTable struct {
	Upstream string  `toml:"upstream" required:"true" len:"1..64"`
	Model    *string `toml:"model" len:"1..256"`
}

type callerTable struct {
	Name      string  `toml:"name" required:"true" len:"1..64"`
	SHA256    sha256  `toml:"sha256" required:"true"`
	Tenant    *string `toml:"tenant" len:"..128"`
	Priority  *uint8  `toml:"priority" range:"0..7"`
	AnyTenant bool    `toml:"any_tenant"`
}

type tenantTable struct {
	MaxInFlight    *int   `toml:"max_in_flight" range:"1..1000000" unit:"calls in flight"`
	CallsPerMinute *int64 `toml:"calls_per_minute" range:"1..1000000000" unit:"calls"`
	Priority       *uint8 `toml:"priority" range:"0..7"`
}

func or[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

// settings returns what t says, with the defaults of what it does not say.
func (t *fileTable) settings() *Settings {
	g := &t.Gateway
	s := &Settings{
		Listen:         string(or(g.Listen, "127.0.0.1:8080")),
		Admin:          string(or(g.Admin, "")),
		Open:           g.Open,
		TenantHeader:   string(or(g.TenantHeader, "X-Flyball-Tenant")),
		PriorityHeader: string(or(g.PriorityHeader, "X-Flyball-Priority")),
		Server: Server{
			HeaderTimeout: or(g.Server.HeaderTimeout, 10*time.Second),
			BodyTimeout:   or(g.Server.BodyTimeout, 30*time.Second),
			WriteTimeout:  or(g.Server.WriteTimeout, 30*time.Second),
			IdleTimeout:   or(g.Server.IdleTimeout, 2*time.Minute),
			DrainTimeout:  or(g.Server.DrainTimeout, 5*time.Minute),
			MaxHeader:     or(g.Server.MaxHeader, 64<<10),
			MaxBody:       or(g.Server.MaxBody, 64<<20),
			Memory:        or(g.Server.Memory, 256<<20),
			MaxCalls:      or(g.Server.MaxCalls, 20_000),
		},
		TLS:     TLS{string(or(g.TLS.Cert, "")), string(or(g.TLS.Key, ""))},
		Log:     Log{string(or(g.Log.File, "")), or(g.Log.Level, "info"), or(g.Log.Calls, true)},
		Trace:   Trace{string(or(g.Trace.Endpoint, "")), or(g.Trace.Sample, 1)},
		Cache:   Cache{or(g.Cache.MaxBytes, 64<<20), or(g.Cache.MaxEntry, 1<<20), string(or(g.Cache.Redis, "")), string(or(g.Cache.RedisEnv, ""))},
		Batches: Batches{string(or(g.Batches.Dir, "")), or(g.Batches.Upstream, ""), or(g.Batches.Tenant, "batches"), or(g.Batches.MaxFile, 200_000_000), g.Batches.Idempotent},
		Tenants: make(map[string]Tenant, len(g.Tenant)),
		Limits:  t.File(),
	}
	for i, r := range g.Route {
		n := r.route()
		n.Key = fmt.Sprintf("gateway.route[%d]", i)
		s.Routes = append(s.Routes, n)
	}
	if !slices.ContainsFunc(s.Routes, func(r Route) bool { return len(r.Models) == 0 }) {
		s.Routes = append(s.Routes, defaultRoutes(s.Limits, s.Routes)...)
	}
	longestFirst(s.Routes)
	if names := upstreams(s.Limits); s.Batches.Dir != "" && s.Batches.Upstream == "" && len(names) == 1 {
		s.Batches.Upstream = names[0]
	}
	for _, c := range g.Caller {
		s.Callers = append(s.Callers, Caller{c.Name, c.SHA256, or(c.Tenant, c.Name), or(c.Priority, 0), c.AnyTenant})
	}
	for name, n := range g.Tenant {
		s.Tenants[name] = Tenant{or(n.MaxInFlight, 0), or(n.CallsPerMinute, 0), or(n.Priority, 0)}
	}
	t.adapt(s)
	return s
}

// The gateway's own default of guard.queue: a caller of a gateway cannot do better than wait.
const queue = 10_000

// adapt gives the guards the gateway's defaults where the file says nothing: callers wait as long as their route lets them.
func (t *fileTable) adapt(s *Settings) {
	wait := func(name string) (longest time.Duration) {
		for i := range s.Routes {
			r := &s.Routes[i]
			uses := r.Upstream == name
			for _, f := range r.Fallback {
				uses = uses || f.Upstream == name
			}
			if uses {
				longest = max(longest, r.WaitFor(""))
			}
		}
		return longest
	}
	for name, u := range s.Limits.Upstreams {
		if w := wait(name); w > 0 && !t.maxWait["guard"] && !t.maxWait["upstream."+name] {
			u.MaxWait = w
		}
		if !t.queue["guard"] && !t.queue["upstream."+name] {
			u.Queue = queue
		}
		s.Limits.Upstreams[name] = u
	}
}

func (r routeTable) route() Route {
	n := Route{
		Path: string(r.Path), Upstream: r.Upstream, To: string(r.To),
		Wait:      or(r.Wait, 0),
		KeepAlive: or(r.KeepAlive, 10*time.Second),
		Stall:     or(r.Stall, 2*time.Minute), Longest: or(r.Longest, time.Hour),
		Cache: or(r.Cache, CacheSafe), CacheTTL: or(r.CacheTTL, time.Hour),
		FallbackAfter: or(r.FallbackAfter, 10*time.Second),
	}
	for _, m := range r.Models {
		n.Models = append(n.Models, string(m))
	}
	for _, f := range r.Fallback {
		n.Fallback = append(n.Fallback, Fallback{f.Upstream, or(f.Model, "")})
	}
	return n
}

// CheckEagerly reports what contradicts itself, in the guards' tables and in the gateway's.
func (t *fileTable) CheckEagerly(k strict.Key) {
	t.Tables.CheckEagerly(k)
	t.maxWait, t.queue = map[string]bool{}, map[string]bool{}
	note := func(path ...string) {
		name := strings.Join(path, ".")
		t.maxWait[name] = k.At(append(path, "max_wait")...).Given()
		t.queue[name] = k.At(append(path, "queue")...).Given()
	}
	note("guard")
	for name := range t.Upstream {
		note("upstream", name)
	}
	g, own := &t.Gateway, k.At("gateway")
	t.checkRoutes(own)
	t.checkCallers(own)
	t.checkOpen(own)
	t.checkBatches(own.At("batches"))
	if cert, key := own.At("tls", "cert"), own.At("tls", "key"); cert.Given() != key.Given() && cert.Sound() && key.Sound() {
		own.At("tls").Errorf("has one of cert and key, must have both or none")
	}
	if g.Cache.Redis != nil && g.Cache.RedisEnv != nil {
		own.At("cache", "redis_env").Errorf("cannot be there beside %s: one of both says where Redis is", own.At("cache", "redis"))
	}
	if alive := own.At("server", "memory"); alive.Sound() && g.Server.Memory != nil && *g.Server.Memory > 0 && *g.Server.Memory < 1<<20 {
		alive.Error("is "+alive.Found(), "0 (all bodies in temporary files) or at least 1048576 bytes", "")
	}
}

// checkUpstream reports a name that calls cannot be sent to.
func (t *fileTable) checkUpstream(at strict.Key, name string) {
	u, ok := t.Upstream[name]
	switch {
	case !at.Sound() || name == "":
	case !ok:
		names := make([]string, 0, len(t.Upstream))
		for n := range t.Upstream {
			names = append(names, n)
		}
		hint := "write a table [upstream." + name + "] with base_url"
		if near, ok := strict.Nearest(name, names); ok {
			hint = "did you mean " + strconv.Quote(near) + "?"
		}
		at.Error("is "+at.Found(), "the name of an upstream in this file", hint)
	case u.BaseURL == "":
		at.Error("is "+at.Found()+", which has no base_url", "an upstream with a base_url", "write base_url in [upstream."+name+"]")
	}
}

// checkBatches reports a Batch API that has nowhere to keep or to send anything.
func (t *fileTable) checkBatches(own strict.Key) {
	b := &t.Gateway.Batches
	if !own.Given() {
		return
	}
	if !own.At("dir").Given() {
		own.Errorf("has no dir: write the directory that keeps files and batches")
	}
	if b.Upstream != nil {
		t.checkUpstream(own.At("upstream"), *b.Upstream)
		return
	}
	var names []string
	for name, u := range t.Upstream {
		if u.BaseURL != "" {
			names = append(names, name)
		}
	}
	if slices.Sort(names); len(names) != 1 {
		own.Errorf("has no upstream, and the file has %d with a base_url (%s): write which one requests go to", len(names), strings.Join(names, ", "))
	}
}

func (t *fileTable) checkRoutes(own strict.Key) {
	type of struct {
		path
		model modelName
	}
	paths := map[of]strict.Key{}
	for i, r := range t.Gateway.Route {
		at := own.At("route").Index(i)
		t.checkUpstream(at.At("upstream"), r.Upstream)
		for j, f := range r.Fallback {
			t.checkUpstream(at.At("fallback").Index(j).At("upstream"), f.Upstream)
		}
		if alive := or(r.KeepAlive, time.Second); alive > 0 && alive < 10*time.Millisecond {
			at.At("keep_alive").Error("is "+at.At("keep_alive").Found(), `"0s" (never) or "10ms" to "10m"`, "")
		}
		if p := at.At("path"); p.Given() && p.Sound() {
			if slices.Contains(Reserved, string(r.Path)) {
				p.Errorf("is one of the gateway's own paths: %s", strings.Join(Reserved, ", "))
			}
			if !at.At("models").Given() {
				if first, twice := paths[of{path: r.Path}]; twice {
					p.Errorf("is the path of %s, too", first)
				} else {
					paths[of{path: r.Path}] = at
				}
			}
			for j, m := range r.Models {
				switch first, twice := paths[of{r.Path, m}]; {
				case m == "": // it is wrong already
				case !twice:
					paths[of{r.Path, m}] = at
				case first.String() == at.String():
					at.At("models").Index(j).Errorf("is there twice")
				default:
					at.At("models").Index(j).Errorf("is one of the models of %s, too, which has the same path", first)
				}
			}
		}
	}
}

func (t *fileTable) checkCallers(own strict.Key) {
	names, keys := map[string]strict.Key{}, map[sha256]strict.Key{}
	for i, c := range t.Gateway.Caller {
		at := own.At("caller").Index(i)
		if !at.Sound() {
			continue
		}
		if first, twice := names[c.Name]; twice {
			at.At("name").Errorf("is the name of %s, too", first)
		}
		if first, twice := keys[c.SHA256]; twice {
			at.At("sha256").Errorf("is that of %s, too: each caller has a key of its own", first)
		}
		names[c.Name], keys[c.SHA256] = at, at
	}
}

// checkOpen reports keys that strangers could use.
func (t *fileTable) checkOpen(own strict.Key) {
	if t.Gateway.Open || len(t.Gateway.Caller) > 0 || loopback(string(or(t.Gateway.Listen, "127.0.0.1:8080"))) {
		return
	}
	for name, u := range t.Upstream {
		if len(u.Key) > 0 {
			own.At("listen").Errorf("can be reached from elsewhere, and upstream.%s has keys that anybody could use then: write [[gateway.caller]] for those who may, or open = true", name)
			return
		}
	}
}

// loopback reports whether an address can be connected to from this machine only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Loopback reports whether callers must be on this machine.
func (s *Settings) Loopback() bool { return loopback(s.Listen) }

// address is a host and a port to listen at.
type address string

// UnmarshalText reads an address and checks it.
func (a *address) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return errors.New(`an address is a host and a port, such as "127.0.0.1:8080"`)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("the port %q is not a number from 0 to 65535", port)
	} else if _ = n; strings.ContainsAny(host, " /") {
		return errors.New("this is no host")
	}
	*a = address(text)
	return nil
}

// path is a prefix of URL paths, without a slash at its end.
type path string

var pathForm = regexp.MustCompile(`^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*$`)

// UnmarshalText reads a path and checks it.
func (p *path) UnmarshalText(text []byte) error {
	s := strings.TrimRight(string(text), "/")
	if string(text) == "" || text[0] != '/' {
		return errors.New(`a path begins with a slash; "/" is all paths`)
	}
	if !pathForm.MatchString(s) {
		return errors.New("a path is of letters, digits and -._~!$&'()*+,;=:@ between single slashes")
	}
	for _, part := range strings.Split(s, "/") {
		if part == "." || part == ".." {
			return errors.New(`a path has no "." and ".."`)
		}
	}
	*p = path(s)
	return nil
}

// modelName is the name of a model, or how the names of several begin, with a * at the end.
type modelName string

// UnmarshalText reads a name and checks that a call can have it.
func (m *modelName) UnmarshalText(text []byte) error {
	s := string(text)
	switch star := strings.IndexByte(s, '*'); {
	case s == "":
		return errors.New("a model has a name")
	case star >= 0 && star < len(s)-1:
		return errors.New(`a * is at the end and stands for whatever follows, as in "gpt-4o-mini-*"`)
	case strings.TrimSpace(s) != s:
		return errors.New("no name of a model begins or ends with a space")
	case strings.HasPrefix(s, "models/"):
		return fmt.Errorf("calls are compared without models/: write %q", strings.TrimPrefix(s, "models/"))
	}
	*m = modelName(s)
	return nil
}

// filePath is an absolute path of a file.
type filePath string

// UnmarshalText reads a path and checks it.
func (f *filePath) UnmarshalText(text []byte) error {
	if !filepath.IsAbs(string(text)) || strings.ContainsRune(string(text), 0) {
		return errors.New("it must be the absolute path of a file")
	}
	*f = filePath(text)
	return nil
}

// headerName is the name of a header field.
type headerName string

var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")

// UnmarshalText reads a name and checks it.
func (h *headerName) UnmarshalText(text []byte) error {
	if !headerForm.Match(text) {
		return errors.New("it must be the name of a header field")
	}
	*h = headerName(text)
	return nil
}

// envName is the name of an environment variable.
type envName string

var envForm = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,127}$`)

// UnmarshalText reads a name and checks it.
func (e *envName) UnmarshalText(text []byte) error {
	if !envForm.Match(text) {
		return strict.Secret("it must be the name of an environment variable, of capitals, digits and _; a URL with a password does not belong in this file")
	}
	*e = envName(text)
	return nil
}

// redisURL is the URL of a Redis without a password.
type redisURL string

// UnmarshalText reads a URL and checks it.
func (r *redisURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	switch {
	case err != nil || u.User != nil || strings.Contains(string(text), "@"):
		return strict.Secret("it must be a URL such as redis://127.0.0.1:6379/0 without user and password; with them, put it into a variable and write redis_env")
	case u.Scheme != "redis" && u.Scheme != "rediss" || u.Host == "":
		return errors.New("it must be a URL such as redis://127.0.0.1:6379/0")
	}
	*r = redisURL(text)
	return nil
}

// endpoint is the URL that spans are sent to.
type endpoint string

// UnmarshalText reads a URL and checks it.
func (e *endpoint) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	switch {
	case err != nil || u.User != nil || u.RawQuery != "" || strings.Contains(string(text), "@"):
		return strict.Secret("it must be a URL such as http://127.0.0.1:4318/v1/traces without user, password and query")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("it must be a URL such as http://127.0.0.1:4318/v1/traces")
	}
	*e = endpoint(text)
	return nil
}

// sha256 is the hash of a key.
type sha256 [32]byte

// UnmarshalText reads a hash.
func (h *sha256) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(h[:], text[:min(len(text), 64)]); err != nil || n != 32 || len(text) != 64 {
		return strict.Secret("it must be the SHA-256 of a key, 64 hexadecimal digits, as `gateway key` prints it; the key itself does not belong in this file")
	}
	return nil
}
