package limiter

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// ErrRejected is what every refusal by a guard is, for errors.Is. The numbers are in a
// *RejectedError, for errors.As.
var ErrRejected = errors.New("limiter: rejected")

// ErrClosed is what a refusal by a closed guard is besides ErrRejected, for errors.Is.
var ErrClosed = errors.New("limiter: guard is closed")

// Reason is why a guard refused a caller.
type Reason = admission.Reason

// The reasons for a refusal.
const (
	// ReasonLimit: as many calls as may be are in flight (or the pace is used up), and the caller does not wait.
	ReasonLimit = admission.ReasonLimit
	// ReasonQueueFull: as many callers as may wait do (Config.Queue).
	ReasonQueueFull = admission.ReasonQueueFull
	// ReasonMaxWait: the caller waited as long as it may (Config.MaxWait).
	ReasonMaxWait = admission.ReasonMaxWait
	// ReasonPaused: the upstream, or somebody by calling Guard.Pause, asked for a pause that is longer than Config.MaxPause or
	// Config.MaxWait.
	ReasonPaused = admission.ReasonPaused
	// ReasonHeld: the law holds starts back for longer than that, though nobody asked for a pause: it has made out a window that is
	// used up, or an upstream that refuses everything.
	ReasonHeld = admission.ReasonHeld
	// ReasonDeadline: the caller's context ends before the call could start, even if all before it were as quick as
	// the quickest ever; or it has waited so long that the call would hardly be done by then, and others behind it have more time.
	ReasonDeadline = admission.ReasonDeadline
	// ReasonTooLarge: the call costs more than a whole budget holds (Budget.Oversize); no wait would help.
	ReasonTooLarge = admission.ReasonTooLarge
	// ReasonDropped: the queue was full, and somebody who came later went before (Room.Drop).
	ReasonDropped = admission.ReasonDropped
	// ReasonClosed: the guard is closed.
	ReasonClosed = admission.ReasonClosed
)

// TooLarge says which budget a call exceeds, and by how much.
type TooLarge = admission.TooLarge

// A RejectedError is a refusal with the numbers behind it, as they were when it was made.
// The request was not sent.
type RejectedError struct {
	// Guard is the name of the guard.
	Guard string
	// Reason is why.
	Reason Reason
	// Limit, InFlight and Waiting are how many calls may be in flight, how many are, and how many
	// callers wait.
	Limit, InFlight, Waiting int
	// Waited is how long the caller had waited, and Why what held it back longest, in the words of Wait.Why; of who did not wait, what held back
	// callers then.
	Waited time.Duration
	Why    string
	// TooLarge has the numbers of ReasonTooLarge.
	TooLarge TooLarge
	// RetryAt is the earliest instant worth trying again, as far as the guard knows; zero when it does not.
	RetryAt time.Time
}

// Error names the guard, the reason and the numbers.
func (e *RejectedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "limiter: %s rejected a call: %s (limit %d, in flight %d, waiting %d",
		e.Guard, reasonText[e.Reason], e.Limit, e.InFlight, e.Waiting)
	if e.Waited >= time.Millisecond {
		fmt.Fprintf(&b, ", waited %v for %s", e.Waited.Round(time.Millisecond), e.Why)
	} else if e.Why != "" && e.Why != WhyLimit.String() && reasonAsks[e.Reason] {
		fmt.Fprintf(&b, ", %s binds", e.Why)
	}
	b.WriteString(")")
	if e.Reason == ReasonTooLarge {
		fmt.Fprintf(&b, ": %d %s, and the budget holds %d", e.TooLarge.Cost, e.TooLarge.Kind, e.TooLarge.Limit)
	}
	if !e.RetryAt.IsZero() {
		fmt.Fprintf(&b, "; try again at %s", e.RetryAt.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return b.String()
}

var reasonText = [admission.NumReasons]string{
	ReasonLimit:     "no place is free",
	ReasonQueueFull: "the queue is full",
	ReasonMaxWait:   "it waited as long as it may",
	ReasonPaused:    "a pause was asked for that is longer than callers wait",
	ReasonHeld:      "the law holds starts back for longer than callers wait",
	ReasonDeadline:  "its deadline cannot be met",
	ReasonTooLarge:  "it costs more than a whole budget holds",
	ReasonDropped:   "the queue was full, and somebody else was let in",
	ReasonClosed:    "the guard is closed",
}

// reasonAsks is of which reasons it is a question what else held the caller back.
var reasonAsks = [admission.NumReasons]bool{ReasonLimit: true, ReasonQueueFull: true, ReasonMaxWait: true, ReasonDeadline: true, ReasonDropped: true}

// Is reports whether target is ErrRejected, or ErrClosed for a closed guard.
func (e *RejectedError) Is(target error) bool {
	return target == ErrRejected || target == ErrClosed && e.Reason == ReasonClosed
}
