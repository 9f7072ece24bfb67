package rabbitmq_test

import (
	"os"
	"syscall"
)

// ownGroup has a process lead a group of its own, and end with the test that started it, also when that is killed.
var ownGroup = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

// signalGroup sends a signal to the group that p leads.
func signalGroup(p *os.Process, s syscall.Signal) { _ = syscall.Kill(-p.Pid, s) }
