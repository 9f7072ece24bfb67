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
	// ReasonPaused: the upstream, or somebody by calling Pause, asked for a pause that is longer than the guard or the caller waits.
	ReasonPaused
	// ReasonHeld: the law holds starts back for longer than the guard or the caller waits.
	ReasonHeld
	// ReasonDeadline: the caller's own deadline comes before the call could start, even if all before it were as
	// quick as the quickest ever; or it has waited so long that the call would hardly be done by then, and others behind it have more time.
	ReasonDeadline
	// ReasonTooLarge: the call costs more than a whole budget holds.
	ReasonTooLarge
	// ReasonDropped: the queue was full, and somebody who came later goes before.
	ReasonDropped
	// ReasonClosed: the guard is closed.
	ReasonClosed

	// NumReasons is the number of reasons; a Reason is always smaller.
	NumReasons = int(ReasonClosed) + 1
)

var reasonNames = [NumReasons]string{"none", "limit", "queue_full", "max_wait", "paused", "held", "deadline", "too_large", "dropped", "closed"}

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
	// WhyHold: the law holds starts back, though nobody asked for a pause.
	WhyHold
	// WhyResume: starts are spread after a pause.
	WhyResume
	// WhyPace: as many calls as may start did.
	WhyPace
	// WhyTokenPace: as many tokens as may be spent were.
	WhyTokenPace
	// WhyBudget: a budget is used up; Waiter.Budget says which.
	WhyBudget
	// WhyReserved: the places that are free are reserved for more urgent callers.
	WhyReserved
	// WhyFreed: a call has ended, and the upstream may go on counting it for a while (adaptive.Decision.FreeAfter).
	WhyFreed

	// NumWhys is the number of reasons to wait; a Why is always smaller.
	NumWhys = int(WhyFreed) + 1
)

var whyNames = [NumWhys]string{"none", "limit", "pause", "hold", "resume", "pace", "token_pace", "budget", "reserved", "freed"}

// String returns the reason as metrics and explanations write it.
func (y Why) String() string {
	if int(y) < len(whyNames) {
		return whyNames[y]
	}
	return "unknown"
}

// Grant is a call that started, with what it took of budgets. Its zero value is a call that took nothing.
type Grant struct {
	// Call is the call as it started.
	Call     adaptive.Call
	reserved *reserved
}

// Light reports whether a ticket says all of g: it took nothing of budgets, and costs no tokens that are known.
func (g *Grant) Light() bool { return g.reserved == nil && g.Call.Tokens == 0 }

// reserved is what a call took, and whom it counts for.
type reserved struct {
	Reservation
	tenant   string
	priority uint8
	cost     int64 // that fairness counted
	said     int64
	under    *QueueConfig // with whose weights
	next     *reserved
}

// Charge is what the start of a call that reserved nothing of budgets counts against its tenant. The zero Charge is nothing.
type Charge struct {
	tenant   string
	priority uint8
	cost     int64
	under    *QueueConfig
}

// Charge returns what the start of w, which is Granted, counts against its tenant, if there are others.
func (w *Waiter) Charge() Charge {
	if w.charged == nil || w.reserved != nil {
		return Charge{}
	}
	return Charge{w.Tenant, w.Priority, w.cost(), w.charged}
}

// Said returns what the call of w, which has asked, was said or estimated to cost.
func (w *Waiter) Said() int64 { return max(1, w.expected.Input+w.expected.Output) }

// Waiter is one caller that asks for a place. Its owner fills Call.Tokens, Call.Class, Output, Tenant,
// Priority, Retry and GiveUp before it asks; the Core fills the rest. A Waiter may be used again after
// it was answered.
type Waiter struct {
	// Owner is the driver's own; the Core does not touch it.
	Owner any
	// before and behind are neighbours in a plainLine; before means nothing in its head.
	before, behind *Waiter
	// State and Reason are the answer.
	State  State
	Reason Reason
	// Why is what held the caller back when it was last looked at, and once it is answered what held it back longest; Budget is which
	// budget, as its place in the configuration, when it is a budget.
	Why    Why
	inLine bool // of the plainLine
	moved  bool // into it from the queue: from tells of before that, too
	// WaitOnly says that GiveUp bounds the wait for a place alone, and not the call.
	WaitOnly bool
	// Behind is how many waited when it began to.
	Behind int32
	// charged is with whose weights its start counts against its tenant; nil when there are no others of its class.
	charged *QueueConfig
	Grant
	queueItem

	// Output is the part of Call.Tokens that the call is expected to generate.
	Output int64
	Budget int
	// RetryAt is the earliest instant worth trying again, for a refusal; 0 when unknown.
	RetryAt time.Duration
	// TooLarge has the numbers of ReasonTooLarge.
	TooLarge TooLarge

	expected Cost
	from     heldTimes // when it came into the queue
}
