package once

import (
	"net/http"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/internal/once/oncetest"
)

// A request whose stream was reset may have been done. It was sent again hundreds of times a second, until its context ended.
func TestStreamsThatAreReset(t *testing.T) {
	for frame, want := range map[string]string{
		oncetest.Reset:  "stream error: stream ID 1; PROTOCOL_ERROR; received from peer",
		oncetest.GoAway: "http2: Transport received Server's graceful shutdown GOAWAY",
	} {
		s, read := oncetest.Upstream(t, frame)
		base := s.Client().Transport.(*http.Transport)
		base.ForceAttemptHTTP2 = true
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("pay"))
		resp, err := (&Transport{Transport: base}).RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if n := read.Load(); err == nil || err.Error() != want || n != 1 {
			t.Errorf("it was sent %d times, and failed with %v; want once, and %q", n, err, want)
		}
	}
}

// Over HTTP/1, what was not sent is, as net/http knows best.
func TestAnswersOverHTTP1(t *testing.T) {
	for major, want := range map[int]bool{1: true, 2: false} {
		var got *http.Request
		o := &Transport{Transport: &http.Transport{}}
		o.RegisterProtocol("test", roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r
			return &http.Response{ProtoMajor: major, Body: http.NoBody}, nil
		}))
		for range 2 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "test://up", strings.NewReader("pay"))
			resp, err := o.RoundTrip(req)
			if err != nil || resp.Request != req {
				t.Fatalf("%v, %v", resp, err)
			}
			_ = resp.Body.Close()
		}
		if got.GetBody != nil != want {
			t.Errorf("after an answer over HTTP/%d, net/http may send again: %v, want %v", major, !want, want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
