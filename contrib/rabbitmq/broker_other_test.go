//go:build !linux

package rabbitmq_test

import (
	"os"
	"syscall"
)

var ownGroup *syscall.SysProcAttr // nothing of the kind here: what the broker started may stay

func signalGroup(p *os.Process, s syscall.Signal) { _ = p.Signal(s) }
