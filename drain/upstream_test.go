package drain_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/once"
	"github.com/flyball-go/flyball/limiter"
)

// pipes is a listener of connections in memory. What is written to those that are there is swallowed once they are dead.
type pipes struct {
	conns chan net.Conn
	now   *atomic.Bool // of the last one
}

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	p.now = &atomic.Bool{}
	p.conns <- there
	return &hole{here, p.now}, nil
}

// hole is a connection that may lead nowhere.
type hole struct {
	net.Conn
	dead *atomic.Bool
}

func (h *hole) Write(b []byte) (int, error) {
	if h.dead.Load() {
		return len(b), nil
	}
	return h.Conn.Write(b)
}

// A program that has replaced http.DefaultTransport by what traces its calls can drain.
func TestAnotherDefaultTransport(t *testing.T) {
	was := http.DefaultTransport
	defer func() { http.DefaultTransport = was }()
	http.DefaultTransport = roundTripper(nil)
	up, err := drain.NewHTTP(drain.HTTP{BaseURL: "https://up.example"})
	if err != nil {
		t.Fatal(err)
	}
	if base := up.Base.(*once.Transport); !base.ForceAttemptHTTP2 || base.Proxy == nil || base.HTTP2 == nil || base.IdleConnTimeout == 0 {
		t.Errorf("the base is %+v", base)
	}
}

// A connection of HTTP/2 whose other end is gone without a word, as behind a load balancer that was taken away, costs the jobs that are on it, and
// not all that follow: unlike one of HTTP/1, it is used again after a time-out.
func TestConnectionThatLeadsNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn, 1)}
		h2c := new(http.Protocols)
		h2c.SetUnencryptedHTTP2(true)
		srv := &http.Server{Protocols: h2c, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{}`)
		})}
		go func() { _ = srv.Serve(p) }()
		up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://up.example"})
		if err != nil {
			t.Fatal(err)
		}
		transport := up.Base.(*once.Transport)
		transport.DialContext, transport.Protocols, transport.Proxy = p.dial, h2c, nil
		job, err := drain.ParseJob([]byte(`{"custom_id":"a","url":"/v1/x","body":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		if a := up.Send(t.Context(), job); a.Class != feedback.OK {
			t.Fatalf("the first one ends with %+v", a)
		}
		p.now.Store(true)
		began := time.Now()
		if a := up.Send(t.Context(), job); a.Class == feedback.OK || a.Unsent || time.Since(began) > time.Minute {
			t.Errorf("after %v the second one, which may have been done, ends with %+v", time.Since(began), a)
		}
		if a := up.Send(t.Context(), job); a.Class != feedback.OK {
			t.Errorf("the third one, %v later, ends with %+v", time.Since(began), a)
		}
		transport.CloseIdleConnections()
		close(p.conns)
		_ = srv.Close()
	})
}

// A context may end with another call's refusal as its cause, as errgroup's does. The job that it cut may have been done; one that a guard in Base refused
// meanwhile was not sent.
func TestCutByARefusal(t *testing.T) {
	for _, refused := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://up.example", Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			cancel(&limiter.RejectedError{Reason: limiter.ReasonQueueFull})
			if refused {
				return nil, &limiter.RejectedError{Reason: limiter.ReasonQueueFull}
			}
			return nil, context.Cause(r.Context()) // as net/http does
		})})
		if err != nil {
			t.Fatal(err)
		}
		job, err := drain.ParseJob([]byte(`{"custom_id":"a","url":"/v1/x","body":{}}`))
		if err != nil {
			t.Fatal(err)
		}
		if a := up.Send(ctx, job); a.Unsent != refused || a.Class != feedback.Canceled {
			t.Errorf("refused by a guard in Base: %v; it ends with %+v, want one that was canceled, and sent only if it was not refused", refused, a)
		}
	}
}
