// Package proxy hands calls on to upstreams, each through its guard: a call waits for its turn here rather than fail there.
//
// Bodies pass byte by byte, and streams without delay. A request's body is received before the call asks for its turn, so a caller
// that is slow to send holds nobody up; an answer's permit lives until its last byte came from the upstream.
package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/cache"
	"github.com/flyball-go/flyball/gateway/internal/callers"
	"github.com/flyball-go/flyball/gateway/internal/dialect"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/gateway/internal/trace"
	"github.com/flyball-go/flyball/internal/once"
	"github.com/flyball-go/flyball/limiter"
)

// Config is what a Proxy is made from.
type Config struct {
	// Limits makes the guards.
	Limits Limits
	// Cache keeps answers, and lets callers share those that are coming.
	Cache *cache.Cache
	// Tracer makes spans; nil makes none.
	Tracer *trace.Tracer
	// OnCall is told of each call when it has ended. nil tells nobody.
	OnCall func(*Record)
}

// Record is what became of a call.
type Record struct {
	Began    time.Time
	Method   string
	Path     string
	Route    string
	Upstream string
	Model    string
	Caller   string
	Tenant   string
	Priority uint8
	Stream   bool
	// Status is what the caller was told; 0 when it left before.
	Status int
	// Code says why, when the gateway itself refused or failed, when the upstream broke off in its answer, or when it refused behind a 200 or the caller was
	// told so in a stream that had begun, whose status is 200: "rate_limit_exceeded".
	Code string
	// ID is the call's id when the caller was told one of the gateway's: with a refusal, or a stream that began before its answer. UpstreamID is the upstream's.
	ID, UpstreamID string
	// Sent is how many requests were sent to upstreams.
	Sent int
	// Wait is how long the call waited before the first was, or in vain when none was, First how long until the answer began, and Total until it ended.
	Wait, First, Total time.Duration
	// TenantWait is how much of Wait was for the tenant's own limits.
	TenantWait time.Duration
	// Held is the longest of the waits at guards that Wait is made of, and what it was for; of a call that was refused at once, what held back callers
	// of that guard. It is zero when there is nothing to say.
	Held            limiter.Waited
	Received, Bytes int64
	Cache           string
	Trace           trace.Context
	Err             error
}

// Proxy is an http.Handler. Its methods may be called by any number of goroutines.
type Proxy struct {
	cfg     Config
	tenants callers.Tenants
	table   atomic.Pointer[table]
	calls   atomic.Int64
	answers atomic.Int64 // calls whose answer has begun and goes on
	ended   atomic.Bool  // nothing is sent any more

	mu         sync.Mutex
	transports map[string]transport // by upstream
	learned    map[string]*learned  // by upstream
}

// table is what one version of the configuration says.
type table struct {
	settings  *settings.Settings
	book      *callers.Book
	forks     []*fork // by falling length of their paths
	upstreams map[string]*upstream
	memory    *memory
	ended     *atomic.Bool // the proxy's
	lends     bool         // keys of upstreams to whoever can connect from this machine
}

type target struct {
	*upstream
	model string
}

// New returns a proxy for s.
func New(s *settings.Settings, cfg Config) (*Proxy, error) {
	p := &Proxy{cfg: cfg, transports: map[string]transport{}, learned: map[string]*learned{}}
	return p, p.Use(s)
}

// Use puts another version of the configuration in force. Calls that are there go on with theirs.
func (p *Proxy) Use(s *settings.Settings) error {
	t := &table{settings: s, upstreams: map[string]*upstream{}, memory: &memory{most: s.Server.Memory}, ended: &p.ended}
	if old := p.table.Load(); old != nil && old.memory.most == s.Server.Memory {
		t.memory = old.memory
	}
	rules := s.Limits.FeedbackRules()
	for name, u := range s.Limits.Upstreams {
		if u.BaseURL == "" {
			continue
		}
		n, err := newUpstream(u, rules, p.cfg.Limits, p.transport(name, u.Adaptive.Max), p.learnedOf(name))
		if err != nil {
			return err
		}
		t.upstreams[name] = n
		t.lends = t.lends || n.keyed && len(s.Callers) == 0 && !s.Open
	}
	// The guards of tenants change in place, so they do when nothing else can fail.
	var err error
	if t.book, err = p.tenants.Book(s); err != nil {
		return err
	}
	var routes []*route
	for i := range s.Routes {
		r := &route{Route: &s.Routes[i], targets: []target{{t.upstreams[s.Routes[i].Upstream], ""}}}
		for _, f := range s.Routes[i].Fallback {
			r.targets = append(r.targets, target{t.upstreams[f.Upstream], f.Model})
		}
		routes = append(routes, r)
	}
	t.forks = forks(routes)
	p.table.Store(t)
	p.forget(t)
	return nil
}

// transport is what calls to an upstream are sent with, and the limit that it was made for.
type transport struct {
	*once.Transport
	limit int
}

// transport returns the transport of an upstream; the same one for as long as its limit is.
func (p *Proxy) transport(name string, limit int) *once.Transport {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.transports[name]
	if !ok || t.limit != limit {
		if ok {
			t.CloseIdleConnections() // those in use are closed when they have been idle for a while
		}
		t = transport{newTransport(limit), limit}
		p.transports[name] = t
	}
	return t.Transport
}

// learnedOf returns what is known of an upstream's models and answers. It stays, as its guard does, which has learned what calls of each class take.
func (p *Proxy) learnedOf(name string) *learned {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.learned[name]
	if l == nil {
		l = &learned{}
		p.learned[name] = l
	}
	return l
}

// forget gives up the transports of upstreams that are gone.
func (p *Proxy) forget(t *table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, tr := range p.transports {
		if t.upstreams[name] == nil {
			tr.CloseIdleConnections()
			delete(p.transports, name)
		}
	}
}

// Trust has the transports accept a certificate besides those of the system; for tests.
func (p *Proxy) Trust(c *x509.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := x509.NewCertPool()
	pool.AddCert(c)
	for _, t := range p.transports {
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
}

// End has nothing sent any more, so that calls that wait do not go to upstreams in the places of others that are cut off. The contexts of both are to
// end with ErrEnds at once.
func (p *Proxy) End() { p.ended.Store(true) }

// Close gives up idle connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transports {
		t.CloseIdleConnections()
	}
}

// View is an upstream as pages show it.
type View struct {
	Name   string
	Guards []*limiter.Guard
	Pool   *limiter.Pool // nil without keys
}

// Target is an upstream as it is configured, with the rules for its answers, and the guard or the pool that belongs to it.
type Target struct {
	Upstream config.Upstream
	Rules    *feedback.Rules
	Guard    *limiter.Guard // nil with Pool
	Pool     *limiter.Pool  // nil without keys
}

// Target returns an upstream as calls that begin now find it; ok is false when there is none of this name that calls are sent to.
func (p *Proxy) Target(name string) (to Target, ok bool) {
	t := p.table.Load()
	u := t.upstreams[name]
	if u == nil {
		return to, false
	}
	to = Target{Upstream: t.settings.Limits.Upstreams[name], Rules: u.rules, Pool: u.pool}
	if u.pool == nil {
		to.Guard = u.guards[0]
	}
	return to, true
}

// Upstreams returns the upstreams in the order of their names, and the guards of tenants.
func (p *Proxy) Upstreams() (all []View) {
	t := p.table.Load()
	for _, name := range slices.Sorted(maps.Keys(t.upstreams)) {
		u := t.upstreams[name]
		all = append(all, View{name, u.guards, u.pool})
	}
	for _, g := range t.book.Guards() {
		all = append(all, View{Name: g.Name(), Guards: []*limiter.Guard{g}})
	}
	return all
}

// Calls returns how many calls there are now.
func (p *Proxy) Calls() int64 { return p.calls.Load() }

// Answering returns of how many of them the answer has begun, which goes on.
func (p *Proxy) Answering() int64 { return p.answers.Load() }

// call is one call, as its caller sees it.
type call struct {
	*job
	p   *Proxy
	out *out
	rec Record
	// lent says that the job is a producer's, which has its body; seen says that what became of it may be read all the same.
	lent, seen bool
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := p.table.Load()
	c := &call{p: p, job: &job{t: t, r: r, began: time.Now(), plain: new(atomic.Bool)}}
	c.trace = p.cfg.Tracer.Start(r.Header)
	c.rec = Record{Began: c.began, Method: r.Method, Path: r.URL.Path, Trace: c.trace}
	d := dialect.Of(r.URL.Path, r.Header)
	n := p.calls.Add(1)
	defer func() {
		p.calls.Add(-1)
		if !c.lent {
			c.body.Close()
		}
		c.finish()
	}()
	c.out = newOut(w, r, d, t.settings.Server.WriteTimeout, 0, nil)
	if n > int64(t.settings.Server.MaxCalls) {
		c.refuse(&dialect.Error{Kind: dialect.Unavailable, Message: fmt.Sprintf("the gateway has %d calls, as many as it may (gateway.server.max_calls)", n-1), RetryAfter: time.Second})
		return
	}
	if !c.accept(w) {
		return
	}
	if every := c.route.KeepAlive; every > 0 && c.rec.Stream && c.events() {
		c.out = newOut(w, r, d, c.out.stall, every, c.plain)
	}
	defer c.out.take()
	c.run()
	c.out.take()
	if c.out.status == 0 {
		panic(http.ErrAbortHandler) // a caller that is there all the same must not take nothing for an empty answer
	}
}

// accept finds out what is called and by whom, and receives the body; it reports whether the call goes on.
func (c *call) accept(w http.ResponseWriter) bool {
	r := c.r
	var denied *dialect.Error
	c.who, denied = c.t.admit(r)
	c.rec.Caller, c.rec.Tenant, c.rec.Priority = c.who.Name, c.who.Tenant, c.who.Priority
	if denied != nil {
		c.refuse(denied)
		return false
	}
	escaped := r.URL.EscapedPath()
	if r.Method == http.MethodConnect || !strings.HasPrefix(escaped, "/") {
		c.refuse(&dialect.Error{Kind: dialect.Invalid, Message: "the gateway is called like the upstream itself: it is no forward proxy", Final: true})
		return false
	}
	if r.Method == http.MethodTrace {
		c.refuse(&dialect.Error{Kind: dialect.Invalid, Message: "the gateway hands no TRACE on: the answer would have the upstream's key in it", Final: true})
		return false
	}
	if !clean(r.URL.Path) {
		c.refuse(&dialect.Error{Kind: dialect.Invalid, Message: `the path has "." or ".." in it`, Final: true})
		return false
	}
	way, rest := c.t.match(escaped)
	if way == nil {
		c.refuse(&dialect.Error{Kind: dialect.NotFound, Message: fmt.Sprintf("the gateway has no route for %s; there are %s", r.URL.Path, c.t.paths()), Final: true})
		return false
	}
	c.rest, c.rec.Route = rest, way.path
	if upgrade(r) == "" {
		var err error
		s := &c.t.settings.Server
		if c.body, err = receive(w, r, c.t.memory, s.MaxBody, s.BodyTimeout); err != nil {
			c.rec.Err = err
			c.refuse(bodyError(err, s.MaxBody))
			return false
		}
		c.rec.Received = c.body.size
		if r.Header.Get("Content-Encoding") == "" && isJSON(r.Header) {
			c.facts = c.body.facts()
		}
	}
	if name := dialect.PathModel(c.rest); name != "" {
		c.facts.Model = name // the upstream goes by it, too
	} else if c.facts.Model == "" {
		c.facts.Model = dialect.QueryModel(r.URL.RawQuery)
		if c.facts.Model == "" && way.parts() && c.body != nil && BatchPath(rest) == "" && r.Header.Get("Content-Encoding") == "" {
			c.facts.Model = c.body.formModel(r.Header.Get("Content-Type"))
		}
	}
	c.rec.Model = c.facts.Model
	if len(c.rec.Model) > longestModel {
		c.rec.Model = strings.ToValidUTF8(c.rec.Model[:longestModel], "") + "…"
	}
	c.facts.Stream = c.facts.Stream || r.Method == http.MethodPost && strings.HasSuffix(c.rest, ":streamGenerateContent")
	c.rec.Stream = c.facts.Stream
	if c.route = way.routeOf(escaped, c.facts.Model); c.route == nil {
		c.refuse(way.unknown(c.rec.Model))
		return false
	}
	c.rest, c.rec.Route = escaped[len(c.route.Path):], c.route.Path
	c.until = c.began.Add(c.route.WaitFor(r.URL.Path))
	return true
}

// admit returns who makes a request, or why it may not.
func (t *table) admit(r *http.Request) (callers.Who, *dialect.Error) {
	who, known := t.book.Who(r.Header)
	if !known {
		return who, &dialect.Error{Kind: dialect.Unauthorized, Message: "the gateway does not know this key: send one of its own as the API key, or in " + callers.KeyHeader, Final: true}
	}
	if t.lends && t.settings.Loopback() && !LocalHost(r.Host) {
		return who, &dialect.Error{Kind: dialect.Unauthorized, Message: fmt.Sprintf("the upstreams' keys are for callers of 127.0.0.1 or localhost, not of %.100q: make a caller with `gateway key`, or write open = true in [gateway]", r.Host), Final: true}
	}
	if t.lends && foreign(r.Header) {
		return who, &dialect.Error{Kind: dialect.Unauthorized, Message: "pages of other sites may not use the upstreams' keys: make a caller with `gateway key`, or write open = true in [gateway]", Final: true}
	}
	return who, nil
}

// Admit returns the name of the caller of a request that the gateway answers itself; empty when the gateway has no callers. It reports
// whether the caller may, and has told it otherwise.
func (p *Proxy) Admit(w http.ResponseWriter, r *http.Request) (caller string, ok bool) {
	t := p.table.Load()
	who, denied := t.admit(r)
	if denied == nil && !t.book.Named() && !t.settings.Open && t.settings.Loopback() && !LocalHost(r.Host) {
		denied = &dialect.Error{Kind: dialect.Unauthorized, Message: fmt.Sprintf("what the gateway keeps is for callers of 127.0.0.1 or localhost, not of %.100q: make a caller with `gateway key`, or write open = true in [gateway]", r.Host), Final: true}
	}
	if denied == nil {
		return who.Name, true
	}
	body := dialect.Of(r.URL.Path, r.Header).Body(denied)
	denied.Header(w.Header())
	w.WriteHeader(denied.Kind.Status())
	_, _ = w.Write(body)
	return "", false
}

// events reports whether the stream that the caller asks for is one of events. Other streams have no frame that says nothing: lines of
// JSON, as Ollama's, sound, and Gemini's array.
func (c *call) events() bool {
	path := c.r.URL.Path
	for _, suffix := range []string{"/completions", "/messages", "/responses", "/images/generations", "/images/edits"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	if strings.HasSuffix(path, ":streamGenerateContent") {
		return c.r.URL.Query().Get("alt") == "sse"
	}
	return strings.Contains(c.r.Header.Get("Accept"), "text/event-stream")
}

// longestModel is how much of a model's name is recorded, in bytes: it goes to the log.
const longestModel = 256

// LocalHost reports whether a request's Host names this machine: an address, or localhost. A page of another site may have its own name
// lead to this machine, and read what is here as if it were there; its browser then says that name.
func LocalHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil
}

// foreign reports whether a browser says that a page from another machine makes the call.
func foreign(h http.Header) bool {
	o := h.Get("Origin")
	switch o {
	case "":
		// A page can have its browser GET a picture, say, without being named. Such a call may cost money, too.
		return h.Get("Sec-Fetch-Site") == "cross-site"
	case "null":
		return true
	}
	u, err := url.Parse(o)
	if err != nil {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return strings.HasPrefix(u.Scheme, "http") && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())
}

// clean reports whether a path leads nowhere else than it says. Some servers take a backslash for a slash, and leave out what is behind a semicolon.
func clean(path string) bool {
	if !strings.Contains(path, "..") && !strings.Contains(path, "/.") {
		return true
	}
	path = strings.ReplaceAll(path, `\`, "/")
	for part := range strings.SplitSeq(path, "/") {
		if part, _, _ = strings.Cut(part, ";"); part == "." || part == ".." {
			return false
		}
	}
	return true
}

func isJSON(h http.Header) bool { return strings.Contains(h.Get("Content-Type"), "json") }

// bodyError says what was wrong with a request's body.
func bodyError(err error, most int64) *dialect.Error {
	e := &dialect.Error{Kind: dialect.Invalid, Message: "the request's body cannot be read: " + err.Error(), Final: true}
	var slow *slowError
	var spill *spillError
	switch {
	case errors.Is(err, errTooLarge):
		e.Kind, e.Message = dialect.TooLarge, fmt.Sprintf("the request's body has more than %d bytes (gateway.server.max_body)", most)
	case errors.As(err, &slow):
		e.Kind, e.Message, e.Final = dialect.BodyTimedOut, slow.Error(), false
	case errors.As(err, &spill):
		e.Kind, e.Message, e.Final = dialect.Unavailable, spill.Error(), false
	}
	return e
}

// refuse tells the caller that the call failed. Who is taken for gone is told, too: it may have closed its side of the connection only, and nothing
// would be an empty answer.
func (c *call) refuse(e *dialect.Error) {
	c.rec.Code = e.Kind.Code()
	c.out.refuse(e)
}

// finish tells of the call.
func (c *call) finish() {
	if c.p.cfg.OnCall == nil {
		return
	}
	c.rec.Sent, c.rec.Wait = c.progress()
	c.mu.Lock()
	to := c.target
	c.rec.TenantWait, c.rec.Held = min(c.own, c.rec.Wait), heldBack(c.held, c.rec.Err)
	c.mu.Unlock()
	if to != nil {
		c.rec.Upstream = to.name
	}
	if c.rec.Sent == 0 && c.lent && !c.seen { // its caller left while it waited
		c.rec.Wait = time.Since(c.rec.Began)
	}
	c.rec.Total = time.Since(c.rec.Began)
	c.rec.Status, c.rec.Bytes, c.rec.ID = c.out.status, c.out.sent, c.out.id
	if !c.out.first.IsZero() {
		c.rec.First = c.out.first.Sub(c.rec.Began)
	}
	c.p.cfg.OnCall(&c.rec)
}

// heldBack returns what is worth telling of a wait, or else of the refusal that a call ended with.
func heldBack(w limiter.Waited, err error) limiter.Waited {
	if w.For >= time.Millisecond {
		return w
	}
	var rejected *limiter.RejectedError
	var noKey *limiter.NoKeyError
	switch {
	case errors.As(err, &rejected):
		return limiter.Waited{Guard: rejected.Guard, Behind: rejected.Waiting, Why: rejected.Why}
	case errors.As(err, &noKey):
		return limiter.Waited{Guard: noKey.Pool, Behind: noKey.Waiting, Why: noKey.Why}
	}
	return limiter.Waited{}
}

// run makes the call.
func (c *call) run() {
	if plan := c.plan(); plan != nil {
		c.share(plan)
		return
	}
	if onlyCached(c.r.Header) { // and the cache has nothing to do with it
		c.refuse(notCached)
		return
	}
	if c.r.ProtoAtLeast(1, 1) {
		c.early = c.out.early
	}
	resp, t, err := c.exchange(c.r.Context())
	if err != nil {
		c.failed(err, t)
		return
	}
	defer t.end()
	defer resp.Body.Close()
	c.where()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		c.p.answers.Add(1)
		defer c.p.answers.Add(-1)
		c.rec.Err = c.out.tunnel(t, resp)
		return
	}
	c.answer(resp, t.insideCode())
}

// answer hands an answer on, and notes what went wrong in it, which its status does not tell; inside is the code of a refusal behind a 200.
func (c *call) answer(resp *http.Response, inside string) {
	c.p.answers.Add(1)
	defer c.p.answers.Add(-1)
	c.rec.UpstreamID = upstreamID(resp.Header)
	err := c.out.answer(resp)
	if c.rec.Code = c.out.code; c.rec.Code == "" {
		c.rec.Code = inside
	}
	if err == nil {
		return
	}
	c.rec.Err = err
	var up *upstreamError
	if !errors.As(err, &up) {
		return
	}
	if ctx := c.r.Context(); ctx.Err() == nil || context.Cause(ctx) == ErrEnds { // else the caller left, which is why there is no more
		c.rec.Code = cutKind(err).Code()
	}
	if !c.out.told {
		c.out.abort()
	}
}

// UpstreamHeader is the field of an answer that tells where a call went that could have gone elsewhere.
const UpstreamHeader = "X-Flyball-Upstream"

// where tells the caller where a call went that could have gone elsewhere.
func (c *call) where() {
	if len(c.route.targets) > 1 {
		c.out.note(UpstreamHeader, c.target.name)
	}
}

// failed tells the caller that no answer came.
func (c *call) failed(err error, t *turn) {
	c.rec.Err = err
	if ctx := c.r.Context(); ctx.Err() != nil && context.Cause(ctx) != ErrEnds { // nobody is there
		if c.out.take() {
			c.out.abort() // keep-alives and an end would be an empty stream, for who has closed its side of the connection only
		}
		return
	}
	c.refuse(c.explain(err, t))
}

// ErrEnds is why the contexts of calls end that are cut off at the end of the gateway.
var ErrEnds = errors.New("the gateway ends")

// explain puts an error into the words for a caller.
func (c *call) explain(err error, t *turn) *dialect.Error {
	e := &dialect.Error{Kind: dialect.BadGateway, Message: "the upstream cannot be reached: " + err.Error()}
	var rejected *limiter.RejectedError
	var noKey *limiter.NoKeyError
	var odd statusError
	var keys *keysError
	waited := time.Since(c.rec.Began).Round(100 * time.Millisecond)
	switch {
	case context.Cause(c.r.Context()) == ErrEnds, errors.Is(err, ErrEnds):
		e.Message = "the gateway ended before the upstream answered, which may have done the call"
		if t != nil && (!t.reached.Load() || t.refused.Load()) { // without a turn nobody here knows: others made the call
			e.Kind, e.Message, e.RetryAfter = dialect.Unavailable, "the gateway ended before the upstream took the call", soon
		}
	case errors.As(err, &noKey):
		e.Kind, e.Message, e.Final, e.RetryAfter = dialect.RateLimited, err.Error(), true, until(noKey.RetryAt)
		if noKey.Out {
			e.Kind = dialect.Unavailable
			for _, k := range noKey.Keys {
				if k.Out == limiter.KeyExhausted {
					e.Kind = dialect.NoQuota
				}
			}
		}
	case errors.As(err, &rejected):
		e.Kind, e.Message, e.Final, e.RetryAfter = dialect.RateLimited, err.Error(), true, until(rejected.RetryAt)
		switch rejected.Reason {
		case limiter.ReasonTooLarge:
			e.Kind, e.RetryAfter = dialect.TooLarge, 0
		case limiter.ReasonClosed:
			e.Kind = dialect.Unavailable
		}
	case errors.Is(err, cache.ErrPanicked):
		e.Message = "the gateway failed; its log says why"
	case errors.As(err, &odd):
		e.Message = odd.Error()
	case errors.As(err, &keys):
		e.Kind, e.Message, e.Final, e.RetryAfter = dialect.Unavailable, keys.Error(), true, until(keys.retryAt())
	case once.Undone(err):
		e.Message, e.Final = "the upstream did not take the call: "+err.Error(), t.tried()
	case unreachable(err, t): // a connection that takes too long to open is a DeadlineExceeded, too
		e.Final = t.tried()
	case errors.Is(err, context.DeadlineExceeded):
		e.Final = true
		if t == nil || t.sent.Load() == 0 || t.refused.Load() {
			e.Kind, e.RetryAfter = dialect.RateLimited, soon
			e.Message = fmt.Sprintf("the call got no turn within %v, which is what the route %s lets it wait", waited, c.route.Name())
			if c.isBarred() {
				e.Message = fmt.Sprintf("the limits of the tenant %s (gateway.tenant) let the call not start within %v, which is what the route %s lets it wait", c.who.Tenant, waited, c.route.Name())
			}
			if t != nil && t.keep > 0 {
				e.Message += fmt.Sprintf(" besides the %v that its answer may take to begin", t.keep.Round(time.Millisecond))
			}
		} else {
			e.Kind = dialect.TimedOut
			e.Message = fmt.Sprintf("the upstream began no answer within %v, which is what the route %s lets the call take", waited, c.route.Name())
		}
	case t != nil && t.reached.Load():
		e.Message = "the upstream broke off before it answered, and may have done the call: " + err.Error()
	}
	return e
}

// soon is the Retry-After when nothing is known.
const soon = 5 * time.Second

// until returns how long it is until an instant, at least a little.
func until(at time.Time) time.Duration {
	if at.IsZero() {
		return soon
	}
	return max(time.Until(at), time.Second)
}

// newRequest returns the request to send to a target in a turn.
func (j *job) newRequest(t *turn, to *target) *http.Request {
	r := j.r
	h := make(http.Header, len(r.Header)+1)
	copyHeader(h, r.Header)
	delete(h, "Expect")
	for k := range h {
		if strings.HasPrefix(k, "X-Flyball-") {
			delete(h, k)
		}
	}
	for _, f := range j.who.Fields {
		delete(h, f)
	}
	if to.keyed {
		for _, f := range credentials {
			delete(h, f)
		}
	}
	if j.trace.Valid() {
		h["Traceparent"] = []string{j.trace.Header()}
		if j.trace.Parent == [8]byte{} {
			delete(h, "Tracestate") // of another trace than the one that begins here
		}
	}
	if len(h["User-Agent"]) == 0 {
		h["User-Agent"] = []string{""} // or Go puts in its own
	}
	for _, te := range r.Header["Te"] {
		if strings.Contains(te, "trailers") {
			h["Te"] = []string{"trailers"}
		}
	}
	if p := upgrade(r); p != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{p}
	}
	rest := j.rest
	if to.model != "" {
		rest = dialect.SetPathModel(rest, to.model)
	}
	req := &http.Request{
		Method: r.Method, URL: to.join(j.route.To, rest, to.ownQuery(r.URL.RawQuery)), Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	switch body := j.body.bytes(); {
	case j.body == nil || j.body.size == 0:
		if r.ContentLength == 0 && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch) {
			req.Body = http.NoBody
		}
	case to.model != "" && j.facts.ModelEnd > 0 && j.body.file != nil:
		j.body.setWith(req, j.facts.ModelAt, j.facts.ModelEnd, to.model)
	case to.model != "" && j.facts.ModelEnd > 0:
		body = dialect.SetModel(body, j.facts, to.model)
		setBody(req, &payload{mem: body, size: int64(len(body)), memory: j.t.memory})
	default:
		setBody(req, j.body)
	}
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) { t.connected(got.Conn) }}
	if j.early != nil {
		trace.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
			j.early(code, http.Header(h))
			return nil
		}
	}
	return req.WithContext(httptrace.WithClientTrace(t, trace))
}

func setBody(req *http.Request, p *payload) {
	req.ContentLength = p.size
	req.Body = p.open()
	req.GetBody = func() (io.ReadCloser, error) { return p.open(), nil }
}

// Path returns where a request to an upstream of this configuration would go; for tests and messages.
func (p *Proxy) Path(r *http.Request) (*url.URL, error) {
	t := p.table.Load()
	route, rest := t.withoutModel(r.URL.EscapedPath())
	if route == nil {
		return nil, errors.New("proxy: no route")
	}
	return route.targets[0].join(route.To, rest, r.URL.RawQuery), nil
}

// Memory returns how much memory bodies take now, in bytes.
func (p *Proxy) Memory() int64 { return p.table.Load().memory.used.Load() }
