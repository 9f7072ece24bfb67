package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/batches"
	"github.com/flyball-go/flyball/gateway/internal/proxy"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/limiter"
)

// newBatches opens the queue behind OpenAI's Batch API; nil when the file has none. Its requests go through the same guard, or pool
// of keys, as those of callers who wait.
func (s *Server) newBatches(set *settings.Settings) (*batches.Queue, error) {
	b := &set.Batches
	if b.Dir == "" {
		return nil, nil
	}
	var base http.RoundTripper // that of the first way, for all
	cfg := batches.Config{
		Dir: b.Dir, MaxFile: b.MaxFile, Idempotent: b.Idempotent,
		Grace: max(set.Server.DrainTimeout, time.Millisecond), // as those of callers; 0 would be the default
		// Whose it is says the gateway, not a line of a file.
		Request: func(j *drain.Job) limiter.Request {
			return limiter.Request{Tenant: b.Tenant, Output: j.MaxTokens}
		},
		Way: func() (batches.Way, error) { return s.batchWay(b, base) },
		Log: func(format string, args ...any) { s.log.Info(fmt.Sprintf(format, args...)) },
	}
	way, err := cfg.Way()
	if err != nil {
		return nil, err
	}
	base = way.Upstream.(*drain.HTTP).Base
	q, err := batches.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("gateway.batches: %w", err)
	}
	s.batchTo = b.Upstream
	return q, nil
}

// batchWay returns how requests of a batch get to their upstream, as its table and its keys are now.
func (s *Server) batchWay(b *settings.Batches, base http.RoundTripper) (way batches.Way, err error) {
	to, ok := s.proxy.Target(b.Upstream)
	if !ok {
		return way, fmt.Errorf("gateway.batches: there is no upstream %s any more", b.Upstream)
	}
	u := to.Upstream
	// The requests' urls begin with the version, as does what others call the base URL.
	host, versioned := strings.CutSuffix(strings.TrimSuffix(u.BaseURL, "/"), "/v1")
	up, err := drain.NewHTTP(drain.HTTP{
		BaseURL: host, Provider: u.Provider, Rules: to.Rules, IdempotencyKey: b.Idempotent,
		KeyHeader: u.Keys.Header, KeyPrefix: u.Keys.Prefix, Base: base,
	})
	if err != nil {
		return way, fmt.Errorf("gateway.batches: %w", err)
	}
	way = batches.Way{Upstream: up, Guard: to.Guard, Pool: to.Pool}
	if versioned {
		way.Below = "/v1/"
	}
	return way, nil
}

// batchTarget is what the way of batches follows from, but for settings of guards, which change in place.
func (s *Server) batchTarget(set *settings.Settings) (at batchTarget) {
	if to, ok := s.proxy.Target(s.batchTo); ok {
		at = batchTarget{to.Upstream, set.Limits.Rules, to.Guard, to.Pool}
		at.upstream.Settings = config.Settings{}
	}
	return at
}

type batchTarget struct {
	upstream config.Upstream
	rules    []feedback.Rule
	guard    *limiter.Guard
	pool     *limiter.Pool
}

func (a batchTarget) same(b batchTarget) bool {
	return a.guard == b.guard && a.pool == b.pool && reflect.DeepEqual(a.upstream, b.upstream) && slices.Equal(a.rules, b.rules)
}

// batchPath returns the path of a request of the Batch API as the API itself writes it; empty when it is none, or when there is no such
// API. The API is below the paths of its upstream, and where no route leads.
func (s *Server) batchPath(r *http.Request) string {
	if s.batches == nil {
		return ""
	}
	upstream, rest := s.proxy.Match(r.URL.EscapedPath())
	if upstream == "" {
		rest = r.URL.EscapedPath()
	} else if upstream != s.batchTo {
		return ""
	}
	return proxy.BatchPath(rest)
}

// serveBatches answers a request of the Batch API, whose path is given.
func (s *Server) serveBatches(w http.ResponseWriter, r *http.Request, path string) {
	set := s.settings.Load()
	rc := http.NewResponseController(w)
	out := &pacedWriter{ResponseWriter: w, rc: rc, stall: set.Server.WriteTimeout}
	rec := &proxy.Record{Began: time.Now(), Method: r.Method, Path: r.URL.Path}
	c := r.Clone(r.Context())
	c.URL.Path, c.URL.RawPath = path, ""
	body := &paced{ReadCloser: r.Body, rc: rc, pause: set.Server.BodyTimeout, began: rec.Began}
	defer func() {
		rec.Status, rec.Bytes, rec.Received, rec.Total = out.status, out.sent, body.got, time.Since(rec.Began)
		s.logCall(rec)
	}()
	caller, ok := s.proxy.Admit(out, r)
	if !ok {
		return
	}
	rec.Caller = caller
	if r.ContentLength != 0 {
		c.Body = body // a file may take long, but not stop
	}
	s.batches.ServeFor(caller, out, c)
}

// runBatches sends batches until ctx ends, and calls in flight have; what is left goes on with the next start.
func (s *Server) runBatches(ctx context.Context) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.batches != nil {
			_ = s.batches.Run(ctx) // it ends with ctx only
		}
	}()
	return done
}

// paced is a body that must come on: not nothing for a pause, and a KiB a second on average after it.
type paced struct {
	io.ReadCloser
	rc    *http.ResponseController
	pause time.Duration
	began time.Time
	got   int64
}

// Read reads from the body.
func (p *paced) Read(b []byte) (int, error) {
	limit := time.Now().Add(p.pause)
	if all := p.began.Add(p.pause + time.Duration(p.got>>10)*time.Second); all.Before(limit) {
		limit = all
	}
	_ = p.rc.SetReadDeadline(limit)
	n, err := p.ReadCloser.Read(b)
	p.got += int64(n)
	if err == io.EOF {
		_ = p.rc.SetReadDeadline(time.Time{}) // the server watches the connection from here on
	}
	return n, err
}

// pacedWriter writes an answer whose reader must take something of it now and then.
type pacedWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration

	status int
	sent   int64
}

// WriteHeader notes the status.
func (p *pacedWriter) WriteHeader(status int) {
	p.status = status
	p.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// Write writes a part of the answer.
func (p *pacedWriter) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(p.stall))
	n, err := p.ResponseWriter.Write(b)
	p.sent += int64(n)
	return n, err
}
