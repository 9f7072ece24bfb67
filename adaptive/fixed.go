package adaptive

import (
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Fixed is the law that never changes its mind: a limit, and nothing learned. It is the
// baseline that every other law has to beat, and the right choice for an upstream whose
// limit is known and constant.
type Fixed struct{ d Decision }

var _ Law = (*Fixed)(nil)

// never asks for no window before the end of time.
const never = time.Duration(1<<63 - 1)

// NewFixed returns a law with a constant limit. A limit below 1 means 1.
func NewFixed(limit int) *Fixed {
	return &Fixed{Decision{Limit: max(1, limit), Cause: CauseExternal, AskAgain: never}}
}

// Window implements [Law] and changes nothing.
func (f *Fixed) Window(time.Duration, Window) Decision { return f.d }

// Ended implements [Law] and changes nothing.
func (f *Fixed) Ended(time.Duration, Call, Outcome) Decision { return f.d }

// Hint implements [Law] and changes nothing.
func (f *Fixed) Hint(time.Duration, feedback.Window) Decision { return f.d }

// Decision implements [Law].
func (f *Fixed) Decision() Decision { return f.d }
