//go:build unix

package config

import (
	"os"
	"syscall"
)

// hangup is what Run listens to when it is not told.
var hangup = []os.Signal{syscall.SIGHUP}
