package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// sender is an http.RoundTripper that is a function.
type sender func(*http.Request) (*http.Response, error)

func (f sender) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// leaves is the body of an answer whose caller leaves when it is read.
type leaves struct {
	io.Reader
	leave  func()
	closed bool
}

func (b *leaves) Read(p []byte) (int, error) { b.leave(); return b.Reader.Read(p) }
func (b *leaves) Close() error               { b.closed = true; return nil }

// A caller that leaves while an answer is read that says that there is no quota gets an error, and not no answer without one.
func TestCallerLeavesBeforeFallback(t *testing.T) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	body := &leaves{Reader: strings.NewReader(`{"error":{"code":"insufficient_quota"}}`), leave: leave}
	to := func(f sender) target {
		return target{upstream: &upstream{base: &url.URL{Scheme: "http", Host: "h"}, sender: f, classes: &classes{}}}
	}
	poor := to(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 429, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
	})
	other := to(func(*http.Request) (*http.Response, error) {
		t.Error("the fallback is asked for a caller who has left")
		return nil, errors.New("nobody asked")
	})
	j := &job{
		t: &table{}, r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
		route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{poor, other}}, began: time.Now(), until: time.Now().Add(time.Hour),
	}
	resp, turn, err := j.targets(ctx)
	turn.end()
	if resp != nil || !errors.Is(err, context.Canceled) || !body.closed {
		t.Errorf("targets returned %v, %v, and the body is closed: %v; want no answer, %v, true", resp, err, body.closed, context.Canceled)
	}
}
