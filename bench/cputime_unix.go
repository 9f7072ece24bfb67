//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime returns how much processor time the process has used. On a busy machine it tells what work
// cost, where the wall clock tells who else was working.
func cpuTime() (d time.Duration, ok bool) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
