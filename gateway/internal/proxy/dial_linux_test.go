package proxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"
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
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	if cerr := raw.Control(func(fd uintptr) { ms, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if got := time.Duration(ms) * time.Millisecond; got != unheard {
		t.Errorf("what was sent may stay without an acknowledgement for %v, want %v", got, unheard)
	}
}
