package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/proxy"
	"github.com/flyball-go/flyball/gateway/internal/trace"
)

// mount puts the gateway's own pages in their places.
func (s *Server) mount() {
	// The page and the metrics tell of tenants and upstreams, so they are not for everybody who may call.
	inner := s.admin
	if set := s.settings.Load(); set.Admin == "" && set.Loopback() {
		inner = s.mux
	}
	inner.Handle("GET /ui", s.here(s.page.Handler()))
	inner.Handle("GET /ui/", s.here(s.page.Handler()))
	inner.Handle("GET /metrics", s.here(http.HandlerFunc(s.serveMetrics)))
	s.admin.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ui", http.StatusFound) })
	for _, mux := range []*http.ServeMux{s.mux, s.admin} {
		mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
		mux.HandleFunc("GET /readyz", s.ready)
	}
}

// here answers only those who call this machine by an address or as localhost, when no other machine can connect: a page of another site
// whose name leads here must not read it.
func (s *Server) here(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if local, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); local != nil && local.IP.IsLoopback() && !proxy.LocalHost(r.Host) {
			http.Error(w, "this page is for callers of 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// ready says whether new calls should come here.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		http.Error(w, "the gateway ends", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// dispatch has what the mux does not know answered by the proxy. The mux itself would send callers of "//" elsewhere.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	if _, pattern := s.mux.Handler(r); pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	if path := s.batchPath(r); path != "" {
		s.serveBatches(w, r, path)
		return
	}
	s.proxy.ServeHTTP(w, r)
}

// handler is what all requests go through.
func (s *Server) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handling.Add(1)
		defer s.handling.Add(-1)
		// A deadline stays with the connection, so each answer starts with a fresh one and leaves one for its last bytes.
		stall := s.settings.Load().Server.WriteTimeout
		rc := http.NewResponseController(w)
		if r.ProtoMajor == 1 { // over HTTP/2, a deadline ends a call that waits
			_ = rc.SetWriteDeadline(time.Now().Add(stall))
		}
		if r.ContentLength != 0 {
			// The server reads what nobody has of a body, and would wait for it. Who reads bodies sets deadlines of its own.
			_ = rc.SetReadDeadline(time.Now().Add(s.settings.Load().Server.BodyTimeout))
		}
		defer func() { _ = rc.SetWriteDeadline(time.Now().Add(stall)) }()
		defer func() {
			// The server would say so, but among what strangers' connections do, which is not for the log.
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler {
				s.panicked(v, debug.Stack())
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

// panicked says that a call ended by a mistake of the gateway's own.
func (s *Server) panicked(v any, stack []byte) {
	s.log.Error("a call panicked: this is a mistake in the gateway", "panic", fmt.Sprint(v), "stack", string(stack))
}

// onCall tells of a call that has ended.
func (s *Server) onCall(r *proxy.Record) {
	s.stats.count(r)
	s.tenants.count(r)
	s.span(r)
	s.logCall(r)
}

// logCall writes the line of a call that has ended.
func (s *Server) logCall(r *proxy.Record) {
	if !s.settings.Load().Log.Calls {
		return
	}
	level := slog.LevelInfo
	if r.Err != nil || r.Status >= 500 {
		level = slog.LevelWarn
	}
	// What is not there is left out.
	attrs := make([]slog.Attr, 0, 20)
	word := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	attrs = append(attrs, slog.String("method", short(r.Method)), slog.String("path", short(r.Path)))
	word("upstream", r.Upstream)
	word("model", r.Model)
	word("caller", r.Caller)
	word("tenant", r.Tenant)
	if r.Caller != "" || r.Tenant != "" || r.Priority > 0 {
		attrs = append(attrs, slog.Int("priority", int(r.Priority)))
	}
	if r.Stream {
		attrs = append(attrs, slog.Bool("stream", true))
	}
	attrs = append(attrs, slog.Int("status", r.Status), slog.Int("sent", r.Sent),
		slog.Float64("wait_ms", ms(r.Wait)))
	if r.TenantWait >= time.Millisecond {
		attrs = append(attrs, slog.Float64("tenant_wait_ms", ms(r.TenantWait)))
	}
	if r.Held.Why != "" {
		attrs = append(attrs, slog.String("wait_why", r.Held.Why), slog.String("wait_guard", r.Held.Guard), slog.Int("wait_behind", r.Held.Behind))
	}
	attrs = append(attrs, slog.Float64("first_ms", ms(r.First)), slog.Float64("total_ms", ms(r.Total)),
		slog.Int64("received", r.Received), slog.Int64("bytes", r.Bytes))
	word("cache", r.Cache)
	word("request_id", r.ID)
	word("upstream_request_id", r.UpstreamID)
	if r.Trace.Valid() {
		attrs = append(attrs, slog.String("trace", r.Trace.Header()))
	}
	word("code", r.Code)
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	s.log.LogAttrs(context.Background(), level, "call", attrs...)
}

// longestWord is how much is told of what strangers choose, in bytes: a request's line may be as long as its header.
const longestWord = 1 << 10

// short cuts what strangers choose.
func short(s string) string {
	if len(s) <= longestWord {
		return s
	}
	return strings.ToValidUTF8(s[:longestWord], "") + "…"
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// span sends the call's span.
func (s *Server) span(r *proxy.Record) {
	if !r.Trace.Sampled {
		return
	}
	failed := r.Code
	if r.Err != nil {
		failed = r.Err.Error()
	}
	attrs := []trace.Attr{
		{Key: "http.request.method", Value: short(r.Method)}, {Key: "url.path", Value: short(r.Path)}, {Key: "http.response.status_code", Value: int64(r.Status)},
		{Key: "http.route", Value: r.Route + "/"}, {Key: "flyball.upstream", Value: r.Upstream}, {Key: "flyball.sent", Value: int64(r.Sent)},
		{Key: "flyball.wait_ms", Value: ms(r.Wait)}, {Key: "flyball.first_ms", Value: ms(r.First)}, {Key: "flyball.stream", Value: r.Stream},
	}
	if r.Held.Why != "" {
		attrs = append(attrs, trace.Attr{Key: "flyball.wait_why", Value: r.Held.Why}, trace.Attr{Key: "flyball.wait_guard", Value: r.Held.Guard},
			trace.Attr{Key: "flyball.wait_behind", Value: int64(r.Held.Behind)})
	}
	for key, value := range map[string]string{"gen_ai.request.model": r.Model, "flyball.tenant": r.Tenant, "flyball.cache": r.Cache, "error.type": r.Code} {
		if value != "" {
			attrs = append(attrs, trace.Attr{Key: key, Value: value})
		}
	}
	s.tracer.End(r.Trace, short(r.Method)+" "+r.Route+"/", r.Began, r.Began.Add(r.Total), failed, attrs...)
}
