package proxy

import (
	"syscall"
	"time"
)

// unheard is how long what was sent may stay without an acknowledgement. The kernel tries for a quarter of an hour: calls over connections to an
// address that is gone wait until their time is over, and keep their places, while new connections would find another one. It also ends
// a connection whose other end takes nothing of a body for so long.
const unheard = time.Minute

// userTimeout is TCP_USER_TIMEOUT (RFC 5482), which package syscall does not have.
const userTimeout = 0x12

// notice has the kernel give a connection up that nobody answers.
func notice(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// A kernel that does not know it does as ever.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(unheard/time.Millisecond))
	})
}
