package dial

import (
	"syscall"
	"time"
)

// userTimeout is TCP_USER_TIMEOUT (RFC 5482), which package syscall does not have.
const userTimeout = 0x12

// notice has the kernel give a connection up that nobody answers. What is no TCP, and a kernel that does not know it, does as ever.
func notice(c syscall.RawConn) {
	_ = c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, int(unheard/time.Millisecond))
	})
}

func noticed(c syscall.RawConn) (d time.Duration) {
	_ = c.Control(func(fd uintptr) {
		ms, _ := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout)
		d = time.Duration(ms) * time.Millisecond
	})
	return d
}
