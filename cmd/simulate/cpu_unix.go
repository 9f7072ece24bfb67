//go:build unix

package main

import (
	"syscall"
	"time"
)

// processorTime is how long processors have worked for this program, which other programs hardly disturb.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return time.Since(programBegan)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
