//go:build !unix

package drain

import "os"

// lock does nothing here: it is up to the user not to start two runs on one file.
func lock(*os.File) error { return nil }

// unsyncableDir reports whether the file system does not know an fsync of directories.
func unsyncableDir(error) bool { return true }
