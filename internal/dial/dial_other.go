//go:build !linux

package dial

import (
	"syscall"
	"time"
)

// notice leaves it to the system when a connection is given up that nobody answers.
func notice(syscall.RawConn) {}

func noticed(syscall.RawConn) time.Duration { return 0 }
