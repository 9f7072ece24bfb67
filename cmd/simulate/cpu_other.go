//go:build !unix

package main

import "time"

// processorTime is the time that passes, where that of processors is not known.
func processorTime() time.Duration { return time.Since(programBegan) }
