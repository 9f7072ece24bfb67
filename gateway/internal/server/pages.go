package server

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/proxy"
)

// stats are the gateway's own counts.
type stats struct {
	reloads, reloadsFailed atomic.Uint64
}

// mount puts the gateway's own pages in their places.
func (s *Server) mount() {
	for _, mux := range []*http.ServeMux{s.mux, s.admin} {
		mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
		mux.HandleFunc("GET /readyz", s.ready)
	}
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
	s.proxy.ServeHTTP(w, r)
}

// handler is what all requests go through.
func (s *Server) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A deadline stays with the connection, so each answer starts with a fresh one and leaves one for its last bytes.
		stall := s.settings.Load().Server.WriteTimeout
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Now().Add(stall))
		defer func() { _ = rc.SetWriteDeadline(time.Now().Add(stall)) }()
		next.ServeHTTP(w, r)
	})
}

// onCall tells of a call that has ended.
func (s *Server) onCall(r *proxy.Record) {
	if !s.settings.Load().Log.Calls {
		return
	}
	level := slog.LevelInfo
	if r.Err != nil || r.Status >= 500 {
		level = slog.LevelWarn
	}
	s.log.LogAttrs(nil, level, "call", //nolint:staticcheck // no context is of interest to the handler
		slog.String("method", r.Method), slog.String("path", r.Path), slog.String("route", r.Route+"/"), slog.String("upstream", r.Upstream),
		slog.String("model", r.Model), slog.String("caller", r.Caller), slog.String("tenant", r.Tenant), slog.Int("priority", int(r.Priority)),
		slog.Bool("stream", r.Stream), slog.Int("status", r.Status), slog.String("code", r.Code), slog.Int("sent", r.Sent),
		slog.Float64("wait_ms", ms(r.Wait)), slog.Float64("first_ms", ms(r.First)), slog.Float64("total_ms", ms(r.Total)),
		slog.Int64("received", r.Received), slog.Int64("bytes", r.Bytes), slog.String("cache", r.Cache), slog.String("error", text(r.Err)))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func text(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprint(err)
}
