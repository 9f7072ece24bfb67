package once

import (
	"net/http"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/internal/once/oncetest"
)

// A request whose stream was reset may have been done. It was sent again hundreds of times a second, until its context ended; so was one that each
// connection left out as it ended, which is sent again for a while.
func TestStreamsThatAreReset(t *testing.T) {
	for _, c := range []struct {
		frames []string
		sent   int32
		want   string
	}{
		{[]string{oncetest.Reset}, 1, "stream error: stream ID 1; PROTOCOL_ERROR; received from peer"},
		{[]string{oncetest.GoAway}, 3, "http2: Transport received Server's graceful shutdown GOAWAY"},
		{[]string{oncetest.GoAway, oncetest.GoAway, oncetest.Served}, 3, ""},
	} {
		s, read := oncetest.Upstream(t, c.frames...)
		base := s.Client().Transport.(*http.Transport)
		base.ForceAttemptHTTP2 = true
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("pay"))
		resp, err := (&Transport{Transport: base}).RoundTrip(req)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			_ = resp.Body.Close()
			if resp.Request != req {
				t.Error("the answer is to another request")
			}
		}
		if n := read.Load(); got != c.want || n != c.sent {
			t.Errorf("it was sent %d times, and failed with %q; want %d times, and %q", n, got, c.sent, c.want)
		}
	}
}

// Over HTTP/1, what was not sent is, as net/http knows best. A connection that changed its protocol says nothing of what the next request goes over.
func TestAnswersOverHTTP1(t *testing.T) {
	for _, c := range []struct {
		major, status int
		want          bool
	}{{1, 200, true}, {2, 200, false}, {1, 101, false}} {
		var got *http.Request
		o := &Transport{Transport: &http.Transport{}}
		o.RegisterProtocol("test", roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r
			return &http.Response{ProtoMajor: c.major, StatusCode: c.status, Body: http.NoBody}, nil
		}))
		for range 2 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "test://up", strings.NewReader("pay"))
			resp, err := o.RoundTrip(req)
			if err != nil || resp.Request != req {
				t.Fatalf("%v, %v", resp, err)
			}
			_ = resp.Body.Close()
		}
		if got.GetBody != nil != c.want {
			t.Errorf("after an answer of %d over HTTP/%d, net/http may send again: %v, want %v", c.status, c.major, !c.want, c.want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
