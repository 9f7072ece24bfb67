package admission

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// State is where a Waiter is in its life.
type State uint8

const (
	// Idle is a waiter that has not asked, or that was answered and reset.
	Idle State = iota
	// Queued is a waiter in the room.
	Queued
	// Granted is a waiter that has a place.
	Granted
	// Refused is a waiter that was refused; Reason says why.
	Refused
)

// Reason is why a caller was refused.
type Reason uint8

const (
	// ReasonNone is no refusal.
	ReasonNone Reason = iota
	// ReasonLimit: as many calls as may be are in flight, and the caller does not wait.
	ReasonLimit
	// ReasonQueueFull: as many callers as may wait do.
	ReasonQueueFull
	// ReasonMaxWait: the caller waited as long as it may.
	ReasonMaxWait
	// ReasonPaused: the upstream asked for a pause that is longer than the guard or the caller waits.
	ReasonPaused
	// ReasonDeadline: the caller's own deadline comes before the first instant at which it could start.
	ReasonDeadline
	// ReasonClosed: the guard is closed.
	ReasonClosed

	// NumReasons is the number of reasons; a Reason is always smaller.
	NumReasons = int(ReasonClosed) + 1
)

var reasonNames = [NumReasons]string{"none", "limit", "queue_full", "max_wait", "paused", "deadline", "closed"}

// String returns the reason as metrics and errors write it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Why is what a caller waits for.
type Why uint8

const (
	// WhyNone is no wait.
	WhyNone Why = iota
	// WhyLimit: as many calls as may be are in flight, or others are ahead.
	WhyLimit
	// WhyPause: the upstream asked for a pause, or somebody called Pause.
	WhyPause
	// WhyResume: starts are spread after a pause.
	WhyResume
	// WhyPace: as many calls as may start did.
	WhyPace
	// WhyTokenPace: as many tokens as may be spent were.
	WhyTokenPace

	// NumWhys is the number of reasons to wait; a Why is always smaller.
	NumWhys = int(WhyTokenPace) + 1
)

var whyNames = [NumWhys]string{"none", "limit", "pause", "resume", "pace", "token_pace"}

// String returns the reason as metrics and explanations write it.
func (y Why) String() string {
	if int(y) < len(whyNames) {
		return whyNames[y]
	}
	return "unknown"
}

// Waiter is one caller that asks for a place. Its owner fills Call.Tokens, Call.Class and GiveUp before
// it asks; the Core fills the rest. A Waiter may be used again after it was answered.
type Waiter struct {
	// Call is the call as it started; valid when State is Granted.
	Call adaptive.Call
	// Since is when the caller asked.
	Since time.Duration
	// Deadline is when the guard stops letting the caller wait.
	Deadline time.Duration
	// GiveUp is when the caller will give up by itself; 0 when it will not. The Core refuses
	// it at once when it cannot start before.
	GiveUp time.Duration
	// RetryAt is the earliest instant worth trying again, for a refusal; 0 when unknown.
	RetryAt time.Duration
	// State and Reason are the answer.
	State  State
	Reason Reason
	// Why is what the caller waits for, or waited for last.
	Why Why
	// Owner is the driver's own; the Core does not touch it.
	Owner any

	prev, next *Waiter
}

// room is the waiting room: first in, first out.
type room struct {
	head, tail *Waiter
}

func (r *room) push(w *Waiter) {
	w.prev, w.next = r.tail, nil
	if r.tail == nil {
		r.head = w
	} else {
		r.tail.next = w
	}
	r.tail = w
}

func (r *room) remove(w *Waiter) {
	if w.prev == nil {
		r.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		r.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
}
