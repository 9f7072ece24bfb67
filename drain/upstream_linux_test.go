package drain_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/internal/dial"
)

// Jobs on a connection of HTTP/1 whose other end is gone do not hold their places for all their time, whatever the program's own transport is.
func TestGoneUpstreamIsNoticed(t *testing.T) {
	was := http.DefaultTransport
	defer func() { http.DefaultTransport = was }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, http.DefaultTransport = range []http.RoundTripper{was, roundTripper(nil)} {
		up, err := drain.NewHTTP(drain.HTTP{BaseURL: "http://up.example"})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := up.Base.(*http.Transport).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := dial.Unheard(conn); got != time.Minute {
			t.Errorf("what was sent may stay without an acknowledgement for %v, want 1m", got)
		}
		_ = conn.Close()
	}
}
