// Package stuck tells that nothing gets through a run of package drain, which may go on for a day, and why.
package stuck

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/flyball-go/flyball/drain"
)

// patience is how long nothing may get through before somebody is told.
const patience = time.Minute

// Watch looks at one run. The zero value has seen nothing of it.
type Watch struct {
	done  int64         // at the last change
	since time.Duration // how long the run had taken then
	told  bool
}

// Look returns what to say, once, when nothing has got through for a minute; otherwise it is empty.
func (w *Watch) Look(p drain.Progress) string {
	switch {
	case p.Trouble == "" || p.Done != w.done:
		w.done, w.since, w.told = p.Done, p.Elapsed, false
	case !w.told && p.Elapsed-w.since >= patience:
		w.told = true
		return fmt.Sprintf("nothing got through for %v, and it is tried again; the last attempt: %s", (p.Elapsed - w.since).Round(time.Second), OneLine(p.Trouble))
	}
	return ""
}

// OneLine returns what an upstream said without what would move a terminal's cursor.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == ' ' }), " ")
}
