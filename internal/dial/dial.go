// Package dial notices connections to addresses that are gone.
package dial

import (
	"context"
	"net"
	"syscall"
	"time"
)

// unheard is how long what was sent may stay without an acknowledgement. The kernel tries for a quarter of an hour: calls over connections to an
// address that is gone wait until their time is over, and keep their places, while new connections would find another one. It also ends
// a connection whose other end takes nothing of a body for so long.
const unheard = time.Minute

// Func makes a connection, as http.Transport.DialContext does.
type Func = func(ctx context.Context, network, address string) (net.Conn, error)

// Noticing returns dial with connections that the kernel gives up, on Linux, when nobody acknowledges for a minute what was sent over them.
func Noticing(dial Func) Func {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if c, ok := conn.(syscall.Conn); ok {
			if raw, err := c.SyscallConn(); err == nil {
				notice(raw)
			}
		}
		return conn, err
	}
}

// Unheard returns for how long the system keeps a connection while nobody acknowledges what was sent over it; 0 where that was left to it.
func Unheard(conn net.Conn) time.Duration {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	return noticed(raw)
}
