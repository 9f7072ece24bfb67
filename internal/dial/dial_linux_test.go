package dial

import (
	"context"
	"errors"
	"net"
	"testing"
)

// What is no TCP, and what could not be made, passes as it is.
func TestNoticing(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	defer here.Close()
	failed := errors.New("no")
	for _, c := range []struct {
		conn net.Conn
		err  error
	}{{here, nil}, {nil, failed}} {
		conn, err := Noticing(func(context.Context, string, string) (net.Conn, error) { return c.conn, c.err })(t.Context(), "tcp", "a:1")
		if conn != c.conn || err != c.err {
			t.Errorf("%v, %v; want %v, %v", conn, err, c.conn, c.err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for want, d := range map[bool]Func{false: new(net.Dialer).DialContext, true: Noticing(new(net.Dialer).DialContext)} {
		conn, err := d(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := Unheard(conn); (got == unheard) != want {
			t.Errorf("noticing %v: what was sent may stay without an acknowledgement for %v", want, got)
		}
		_ = conn.Close()
	}
}
