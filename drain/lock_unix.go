//go:build unix

package drain

import (
	"errors"
	"os"
	"syscall"
)

// lock takes a file for this process until it is closed or the process ends.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

// unsyncableDir reports whether the file system does not know an fsync of directories.
func unsyncableDir(err error) bool { return errors.Is(err, syscall.EINVAL) }
