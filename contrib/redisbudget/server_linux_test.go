package redisbudget_test

import "syscall"

// withParent has a server end with the test that started it, also when that is killed.
var withParent = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
