// Package server is the gateway as a program runs it: listeners, the proxy and its pages, the log, reload and the orderly end.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/gateway/internal/batches"
	"github.com/flyball-go/flyball/gateway/internal/cache"
	"github.com/flyball-go/flyball/gateway/internal/proxy"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/gateway/internal/trace"
	"github.com/flyball-go/flyball/gateway/internal/ui"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/metrics"
)

// Options is what a Server is made from.
type Options struct {
	// Config is the path of a limits.toml; empty is the demonstration.
	Config string
	// Listen and Admin go before those of the file when they are not empty.
	Listen, Admin string
	// Log is for the log unless the file names another place. nil is standard error.
	Log *os.File
}

// Server is a gateway. Make it with New, and call Run once.
type Server struct {
	opts     Options
	settings atomic.Pointer[settings.Settings]
	started  *settings.Settings // of which some need a new start to change
	limits   *config.Reloader
	proxy    *proxy.Proxy
	cache    *cache.Cache
	tracer   *trace.Tracer // nil without an endpoint
	log      *slog.Logger
	sink     *sink
	batches  *batches.Queue // nil without [gateway.batches]
	batchTo  string         // the upstream of batches; a reload does not change it
	mux      *http.ServeMux // of the callers' listener
	admin    *http.ServeMux
	stats    stats
	draining atomic.Bool
	handling atomic.Int64 // requests that are being answered

	demo          *demo // nil with a configuration
	page          *ui.UI
	metrics       *metrics.Metrics
	watching      map[*limiter.Guard]func() // under stats.mu; how to have the log told no more
	pools         map[*limiter.Pool]func()  // as watching
	tenants       tenants
	listener      net.Listener
	adminListener net.Listener
	certificate   *certificate                      // nil without gateway.tls
	parsed        atomic.Pointer[settings.Settings] // the last file that could be read

	reloading sync.Mutex  // held by whoever puts a file in force
	again     *time.Timer // tries once more to; nil when there is no need. Under reloading
	mistaken  bool        // the file that came last could not be read. Under reloading
}

// New reads the configuration and opens the listeners. Nothing is served before Run.
func New(opts Options) (*Server, error) {
	s := &Server{opts: opts, mux: http.NewServeMux(), admin: http.NewServeMux(), metrics: metrics.New(), watching: map[*limiter.Guard]func(){}, pools: map[*limiter.Pool]func(){}}
	if err := s.open(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open is New; what it opened before it failed is left for close.
func (s *Server) open() (err error) {
	if err := s.read(); err != nil {
		return err
	}
	set := s.settings.Load()
	s.started = set
	if s.sink, err = newSink(set.Log.File, s.opts.Log); err != nil {
		return err
	}
	s.log = newLogger(s.sink, set.Log.Level)
	if set.Trace.Endpoint != "" {
		s.tracer = trace.New(trace.Config{Endpoint: set.Trace.Endpoint, Sample: set.Trace.Sample, OnError: func(err error) {
			s.log.Warn("spans are lost", "error", err)
		}})
	}
	if s.cache, err = s.newCache(set.Cache); err != nil {
		return err
	}
	s.proxy, err = proxy.New(set, proxy.Config{Limits: s.limits, Cache: s.cache, Tracer: s.tracer, OnCall: s.onCall})
	if err != nil {
		return err
	}
	if s.batches, err = s.newBatches(set); err != nil {
		return err
	}
	if set.TLS.Cert != "" {
		if s.certificate, err = newCertificate(set.TLS, s.log); err != nil {
			return err
		}
	}
	if s.listener, err = listen("gateway.listen", set.Listen); err != nil {
		return err
	}
	if set.Admin != "" {
		if s.adminListener, err = listen("gateway.admin", set.Admin); err != nil {
			return err
		}
	}
	s.page = ui.New(s.state)
	if err := s.watch(); err != nil {
		return err
	}
	s.mount()
	return nil
}

// newCache returns the cache that set says.
func (s *Server) newCache(set settings.Cache) (*cache.Cache, error) {
	cfg := cache.Config{MaxBytes: set.MaxBytes, MaxEntry: set.MaxEntry, OnStoreError: func(err error, read bool) {
		said := "the cache goes on without Redis for a while"
		if read {
			said = "the cache stores nothing in Redis for a while"
		}
		s.log.Warn(said, "error", err)
	}, OnPanic: s.panicked}
	at := set.Redis
	if set.RedisEnv != "" {
		if at = os.Getenv(set.RedisEnv); at == "" {
			return nil, fmt.Errorf("gateway.cache.redis_env: the environment variable %s is not set: set it to the URL of Redis", set.RedisEnv)
		}
	}
	if at != "" {
		r, err := cache.NewRedis(at)
		if err != nil {
			return nil, fmt.Errorf("gateway.cache: %w", err)
		}
		cfg.Store = r
	}
	return cache.New(cfg), nil
}

func listen(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: choose another address, or end what listens there", key, err)
	}
	return l, nil
}

// read reads the file, or makes the demonstration.
func (s *Server) read() (err error) {
	path, demonstration := s.opts.Config, s.opts.Config == ""
	if !demonstration {
		// A file that names no upstream has nothing to send calls to, so they are answered here.
		set, err := load(path)
		if err != nil {
			return err
		}
		demonstration = len(set.Routes) == 0
	}
	parse := settings.Parse
	if demonstration {
		if s.demo, err = startDemo(); err != nil {
			return err
		}
		parse = func(name string, data []byte) (*settings.Settings, error) {
			text := string(data) + "\n[upstream.demo]\nbase_url = \"" + s.demo.base + "\"\n"
			return settings.Parse(name, []byte(text))
		}
	}
	if path == "" {
		path = os.DevNull
	}
	s.limits, err = config.NewReloaderFunc(path, func(name string, data []byte) (*config.File, error) {
		set, err := parse(name, data)
		if err != nil {
			return nil, err
		}
		if s.opts.Listen != "" {
			set.Listen = s.opts.Listen
			if err := set.Exposed(); err != nil {
				return nil, err
			}
		}
		if s.listener != nil {
			if len(set.Routes) == 0 {
				return nil, fmt.Errorf("%s: no upstream has a base_url, so calls would have nowhere to go: write one, or end the gateway", name)
			}
			// It goes on to listen there, whatever the file says now.
			live := *set
			live.Listen = s.Addr()
			if err := live.Exposed(); err != nil {
				return nil, err
			}
		}
		if s.opts.Admin != "" {
			set.Admin = s.opts.Admin
		}
		if err := set.Readable(); err != nil { // pools are made when guards have changed, and a file that fails changes nothing
			return nil, err
		}
		s.parsed.Store(set)
		return set.Limits, nil
	})
	if err != nil {
		return err
	}
	s.limits.ReplacePools() // proxy.Use asks for them after each reload
	s.settings.Store(s.parsed.Load())
	return nil
}

// load reads the file at path as it is.
func load(path string) (set *settings.Settings, err error) {
	_, err = config.NewReloaderFunc(path, func(name string, data []byte) (*config.File, error) {
		if set, err = settings.Parse(name, data); err != nil {
			return nil, err
		}
		return set.Limits, nil
	})
	return set, err
}

// Addr returns the address that callers connect to.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// AdminAddr returns the address of /ui and /metrics.
func (s *Server) AdminAddr() string {
	if s.adminListener != nil {
		return s.adminListener.Addr().String()
	}
	return s.Addr()
}

// Demonstration reports whether calls are answered by the gateway itself.
func (s *Server) Demonstration() bool { return s.demo != nil }

// TakeLog has what is said by package log go to the gateway's log.
func (s *Server) TakeLog() {
	log.SetFlags(0)
	log.SetOutput(libraryLog{s.log})
}

// Log returns the gateway's log.
func (s *Server) Log() *slog.Logger { return s.log }

// Run serves until ctx ends, and then lets calls end as long as gateway.server.drain_timeout says.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	set := s.settings.Load()
	calls, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	main := s.httpServer(s.handler(http.HandlerFunc(s.dispatch)), set)
	if s.certificate != nil {
		main.TLSConfig = &tls.Config{GetCertificate: s.certificate.get, MinVersion: tls.VersionTLS12}
	}
	servers := map[*http.Server]net.Listener{main: s.listener}
	if s.adminListener != nil {
		servers[s.httpServer(s.handler(s.admin), set)] = s.adminListener
	}
	failed := make(chan error, len(servers))
	for srv, l := range servers {
		srv.BaseContext = func(net.Listener) context.Context { return calls }
		go func() {
			if srv.TLSConfig != nil {
				failed <- srv.ServeTLS(l, "", "")
			} else {
				failed <- srv.Serve(l)
			}
		}()
	}
	reloads, stop := context.WithCancel(ctx)
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		if s.opts.Config != "" {
			_ = s.limits.Run(reloads, config.RunConfig{OnReload: s.onReload})
		}
	}()
	batchesEnded := s.runBatches(reloads)
	looks := make(chan struct{})
	go func() {
		defer close(looks)
		s.page.Run(reloads)
	}()
	// Spans of the last calls are sent, too.
	spans, stopSpans := context.WithCancel(context.WithoutCancel(ctx))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if s.tracer != nil {
			s.tracer.Run(spans)
		}
	}()
	defer func() { stopSpans(); <-sent }()
	s.log.Info("gateway started", "listen", s.Addr(), "admin", s.AdminAddr(), "routes", len(set.Routes), "demonstration", s.Demonstration())
	s.warn(set)

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	stop()
	<-reloaded
	<-looks
	s.draining.Store(true)
	s.log.Info("gateway ends", "calls", s.proxy.Calls(), "drain_timeout", s.settings.Load().Server.DrainTimeout.String())
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.settings.Load().Server.DrainTimeout)
	defer cancel()
	serr := main.Shutdown(drain)
	if serr == nil {
		serr = s.callsEnded(drain)
	}
	if serr != nil {
		s.log.Warn("calls were cut off at the end", "calls", s.proxy.Calls(), "error", serr)
		// Calls end before their connections do, so that they tell their callers, and the end of a connection does not look like that of an answer.
		s.proxy.End()
		cut(proxy.ErrEnds)
		told, cancel := context.WithTimeout(context.WithoutCancel(ctx), callsEnd)
		_ = main.Shutdown(told)
		cancel()
	}
	for srv := range servers {
		_ = srv.Close()
	}
	cut(proxy.ErrEnds) // also those whose connection is the server's no more
	s.handled()
	<-batchesEnded
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// callsEnded waits until there are no calls any more: a connection that changed its protocol is not the server's, which knows of it no more.
func (s *Server) callsEnded(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.proxy.Calls() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// handled waits until calls that were cut off have told what became of them, in the log, in spans and to their guards; not for ever.
func (s *Server) handled() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(callsEnd); s.handling.Load() > 0 && time.Now().Before(end); {
		<-tick.C
	}
}

// callsEnd is how long calls that were cut off may take to tell so, their callers and then the rest.
const callsEnd = 2 * time.Second

// httpServer returns a server with the bounds of set.
func (s *Server) httpServer(h http.Handler, set *settings.Settings) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: p,
		ReadHeaderTimeout: set.Server.HeaderTimeout,
		IdleTimeout:       set.Server.IdleTimeout,
		MaxHeaderBytes:    int(set.Server.MaxHeader),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000, SendPingTimeout: set.Server.IdleTimeout, PingTimeout: 15 * time.Second, WriteByteTimeout: set.Server.WriteTimeout},
		ErrorLog:          log.New(serverLog{s.log}, "", 0),
	}
}

// useAgain is how long after a file could not be put in force the next try is.
const useAgain = 2 * time.Second

// onReload puts a file that was read in force.
func (s *Server) onReload(c config.Changes, err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.mistaken = err != nil
	if err != nil {
		s.stats.reloadsFailed.Add(1)
		s.stats.notInForce.Store(true)
		s.log.Error("configuration not reloaded, the old one stays", "file", s.opts.Config, "error", err)
		return
	}
	s.use(c, s.parsed.Load(), "")
}

// use puts set in force, whose guards are in force; failed is why that failed before. It needs reloading.
func (s *Server) use(c config.Changes, set *settings.Settings, failed string) {
	if s.again != nil {
		s.again.Stop()
		s.again = nil
	}
	runs := s.started
	way := s.batchTarget(s.settings.Load())
	if err := s.proxy.Use(set); err != nil { // a key that was there just before, say
		s.stats.notInForce.Store(true)
		if err.Error() != failed {
			s.stats.reloadsFailed.Add(1)
			s.log.Error("routes not reloaded, the old ones stay until that can be done; guards have changed", "file", s.opts.Config, "error", err)
		}
		var again *time.Timer
		again = time.AfterFunc(useAgain, func() {
			s.reloading.Lock()
			defer s.reloading.Unlock()
			if s.again == again { // and no other file came meanwhile
				s.use(c, set, err.Error())
			}
		})
		s.again = again
		return
	}
	s.settings.Store(set)
	if s.batches != nil && !way.same(s.batchTarget(set)) {
		s.batches.Renew()
	}
	if err := s.watch(); err != nil {
		s.log.Error("metrics are not complete", "error", err)
	}
	s.stats.reloads.Add(1)
	s.stats.notInForce.Store(s.mistaken) // the one before it may have been tried again
	s.log.Info("configuration reloaded", "file", s.opts.Config, "upstreams", c.Upstreams, "changes", c.Settings, "routes", len(set.Routes))
	for name, differs := range map[string]bool{
		"gateway.listen": runs.Listen != set.Listen, "gateway.admin": runs.Admin != set.Admin, "gateway.tls": runs.TLS != set.TLS,
		"gateway.log": runs.Log.File != set.Log.File || runs.Log.Level != set.Log.Level, "gateway.trace": runs.Trace != set.Trace, "gateway.cache": runs.Cache != set.Cache,
		"gateway.batches":               runs.Batches != set.Batches,
		"gateway.server.drain_timeout":  s.batches != nil && runs.Server.DrainTimeout != set.Server.DrainTimeout, // callers have the new one at once
		"gateway.server.header_timeout": runs.Server.HeaderTimeout != set.Server.HeaderTimeout, "gateway.server.idle_timeout": runs.Server.IdleTimeout != set.Server.IdleTimeout,
		"gateway.server.max_header": runs.Server.MaxHeader != set.Server.MaxHeader,
	} {
		if differs {
			s.log.Warn("a change takes effect when the gateway is started again", "key", name)
		}
	}
	s.warn(set)
}

// warn says what of the file never counts.
func (s *Server) warn(set *settings.Settings) {
	for _, u := range set.Unversioned() {
		s.log.Warn("a fallback may not be found", "key", u[0], "why", u[1])
	}
	for _, u := range set.Unrouted() {
		s.log.Warn("some calls have no route", "key", u[0], "why", u[1])
	}
	for _, key := range set.Unreached() {
		s.log.Warn("no caller belongs to the tenant, so this holds for no call", "key", key)
	}
}

// close gives up what New opened.
func (s *Server) close() {
	s.reloading.Lock()
	if s.again != nil {
		s.again.Stop()
		s.again = nil
	}
	s.reloading.Unlock()
	for _, l := range []net.Listener{s.listener, s.adminListener} {
		if l != nil {
			_ = l.Close()
		}
	}
	if s.demo != nil {
		s.demo.close()
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
	if s.cache != nil {
		s.cache.Close()
	}
	if s.batches != nil {
		_ = s.batches.Close()
	}
	if s.sink != nil {
		s.sink.close()
	}
}
