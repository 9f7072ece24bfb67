//go:build !unix

package config

import "os"

// hangup is what Run listens to when it is not told: there is no SIGHUP here.
var hangup []os.Signal
