// Package early keeps what other packages say by package log before main begins, so that the gateway's log, whose lines are JSON, and the output of
// its commands have no lines between them that are something else: VictoriaMetrics' metrics tell at each start which of the kernel's
// figures there are not.
//
// It imports nothing but log, so that it comes before what imports net/http: packages are made ready in the order of their paths, each when
// what it imports is.
package early

import (
	"bytes"
	"log"
	"os"
	"strings"
)

var said = hold()

func hold() *bytes.Buffer {
	b := new(bytes.Buffer)
	log.SetOutput(b)
	return b
}

// End has package log write to standard error from here on.
func End() { log.SetOutput(os.Stderr) }

// Said returns the lines from before End.
func Said() []string {
	return strings.FieldsFunc(said.String(), func(r rune) bool { return r == '\n' })
}
