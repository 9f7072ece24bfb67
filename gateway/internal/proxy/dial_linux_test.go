package proxy

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/dial"
)

// A connection to an address that is gone is given up before the calls over it have waited for all their time.
func TestConnectionThatNobodyAnswers(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	conn, err := newTransport(1).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := dial.Unheard(conn); got != time.Minute {
		t.Errorf("what was sent may stay without an acknowledgement for %v, want 1m", got)
	}
}
