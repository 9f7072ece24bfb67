//go:build !linux

package redisbudget_test

import "syscall"

var withParent *syscall.SysProcAttr // nothing of the kind here: a server stays when the test is killed
