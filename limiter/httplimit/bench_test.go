package httplimit

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/limiter"
)

// canned answers without a network.
type canned struct{ header http.Header }

type cannedBody struct{ left int }

func (b *cannedBody) Read(p []byte) (int, error) {
	n := min(len(p), b.left)
	if b.left -= n; b.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (b *cannedBody) Close() error { return nil }

func (c *canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header, Body: &cannedBody{left: 64}, ContentLength: 64, Request: req,
	}, nil
}

// BenchmarkRoundTrip is what a call costs over a RoundTripper without a network, its body read and closed.
func BenchmarkRoundTrip(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	short := http.Header{"Content-Type": {"application/json"}, "Date": {"Mon, 23 Nov 2026 12:00:00 GMT"}, "X-Request-Id": {"req_0123456789"}}
	guard, err := limiter.New(limiter.Config{Law: adaptive.New(adaptive.Config{Initial: 64, Min: 64, Max: 64})})
	if err != nil {
		b.Fatal(err)
	}
	for name, t := range map[string]http.RoundTripper{
		"canned": &canned{short}, "guarded": New(&canned{short}, guard, Config{}),
	} {
		b.Run(name, func(b *testing.B) {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://upstream.test/", nil)
			buf := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := t.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				_ = resp.Body.Close()
			}
		})
	}
	b.Run("pair", func(b *testing.B) {
		for b.Loop() {
			p, err := guard.Acquire(ctx, limiter.Request{})
			if err != nil {
				b.Fatal(err)
			}
			p.Release(limiter.Outcome{})
		}
	})
}
