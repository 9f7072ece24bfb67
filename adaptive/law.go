// Package adaptive decides how much may be in flight and how fast it may start.
//
// A [Law] is told what happened to calls and answers with a [Decision]. It is pure:
// it is told the time and holds no lock, goroutine, timer, logger or source of
// randomness, so the simulator and production run the same law and a recorded run can be
// repeated.
//
// # Time
//
// An instant is a time.Duration since an origin that the caller chooses once, on a
// monotonic clock: state then is plain values of a fixed size, the same bytes in
// simulator and production. None that a law is told is less than 0: 0 and less say that there
// is none, or that it is not known. An instant may repeat but a law must survive one that goes
// backwards: it treats it as no time having passed.
package adaptive

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// Law is a control law: events in, decisions out. A Law belongs to one guard; it is not safe
// for concurrent use. The guard calls it in the order of the instants that it passes.
//
// A call that ended well is not told by itself: the guard adds it to a [Window] and hands the
// window over at the latest when the last decision's AskAgain is reached, and always
// before Ended, so a law sees events in their order. A law whose decisions leave
// AskAgain at 0 gets a window for every single call.
type Law interface {
	// Window tells of the calls that ended well since the last Window.
	Window(now time.Duration, w Window) Decision
	// Ended tells of one call that did not end well. Calls that say nothing about the
	// upstream (canceled, client errors) are told, too; most laws ignore them.
	Ended(now time.Duration, c Call, o Outcome) Decision
	// Hint tells of one limit that an answer's header fields or text describe, whatever
	// the answer's class was.
	Hint(now time.Duration, w feedback.Window) Decision
	// Decision returns the decision in force and changes nothing.
	Decision() Decision
}

// A Listener is a law that makes use of the beginnings of answers: a call whose answer has begun was accepted, which a stream tells
// minutes before its end. A guard tells what its caller tells it, which may be nothing.
type Listener interface {
	// Began tells that the answer to a call has begun that is in flight still, once a call. How long it took is the time to
	// the first byte; it is not known when c.SentAt is less than 0.
	Began(now time.Duration, c Call) Decision
}

// Call is what a guard remembers of a call from its start to its end.
type Call struct {
	// SentAt is when the call started.
	SentAt time.Duration
	// Episode is the episode of the decision in force when the call started. A call with
	// an episode before the current one must not cause another cut.
	Episode uint32
	// InFlight is how many calls were in flight when it started, itself included (>= 1), and places held whose calls had
	// ended (Decision.FreeAfter).
	InFlight int
	// Tokens is the cost in tokens that was reserved for it; 0 when none was.
	Tokens int64
	// Class is the caller's class of calls (0 to 7): calls of one class are expected to have
	// latencies that can be compared.
	Class uint8
	// Begun says that the law was told when the call's answer began; see [Listener].
	Begun bool
}

// Outcome is how a call ended.
type Outcome struct {
	// Class is what the answer meant.
	Class feedback.Class
	// Scope is the limit that refused, for a refusal.
	Scope feedback.Scope
	// HasRetryAfter says that the upstream named a delay.
	HasRetryAfter bool
	// RetryAfter is the delay that the upstream named, counted from the answer.
	RetryAfter time.Duration
	// UntilReset says that RetryAfter is the reset of a window in Windows, and no delay that the upstream named.
	UntilReset bool
	// Deadline says of a call whose Class is feedback.Timeout that it was the caller's own deadline that passed, before an answer had begun. A law may know
	// that a sound call would not have been done by then, either. Packages httplimit and grpclimit set it; limiter.OutcomeOf and limiter.OutcomeFrom do
	// not, since they do not know whose deadline it was. So whoever finishes a permit by hand sets it; a time-out without it counts whatever calls take, and so
	// should one that holds for all calls, such as that of a transport.
	Deadline bool
	// FirstByte is the time from the start to the first byte of the answer; 0 when unknown.
	FirstByte time.Duration
	// InputTokens, OutputTokens and CachedTokens are what the call used; all are 0 when
	// unknown. CachedTokens are a part of InputTokens.
	InputTokens, OutputTokens, CachedTokens int64
	// Windows are limits that the answer described, to be passed on as hints. The
	// slice is only read, and not kept.
	Windows []feedback.Window
}

// Tokens returns the tokens that the call used, input and output together.
func (o *Outcome) Tokens() int64 { return o.InputTokens + o.OutputTokens }

// Window is what a guard saw since the last window, about calls that ended well.
type Window struct {
	// Start is when the window began; it ends at the instant it is told.
	Start time.Duration
	// OK is how many calls ended well.
	OK int
	// Begun is of how many of them the law was told when their answers began (0 to OK); see [Listener].
	Begun int
	// Timed is how many of them were timed (0 to OK).
	Timed int
	// Latency is the sum of the latencies of the timed calls.
	Latency time.Duration
	// MinLatency is the smallest latency of a timed call; 0 when none was timed.
	MinLatency time.Duration
	// FirstBytes is how many calls told their time to the first byte.
	FirstBytes int
	// FirstByte is the sum of those times.
	FirstByte time.Duration
	// Tokens is the sum of the tokens that the calls used, where known.
	Tokens int64
	// OutputTokens is the part of Tokens that was generated.
	OutputTokens int64
	// CachedTokens is the part of Tokens that was read from a cache.
	CachedTokens int64
	// Classes is what the timed calls of each class add to Timed, Latency and OutputTokens; nil when all are of class 0. It is only read,
	// and not kept.
	Classes *[NumClasses]ClassSum
	// MaxInFlight is the most that any of the calls saw in flight when it started,
	// itself included; 0 when OK is 0.
	MaxInFlight int
	// Full says that the limit was in use: a call took the last free place, or found none.
	Full bool
	// InFlight and Waiting are how many are in flight and waiting at the window's end. A window
	// that is told before Ended counts the call that ended as in flight.
	InFlight, Waiting int
	// Held is how many places are not free at the window's end although their calls have ended; see Decision.FreeAfter.
	Held int
}

// NumClasses is the number of classes of calls: a Call.Class is smaller, or counts modulo it.
const NumClasses = 8

// ClassSum is what a guard saw of the calls of one class that ended well.
type ClassSum struct {
	// Timed is how many were timed, and Latency the sum of their latencies.
	Timed   int
	Latency time.Duration
	// OutputTokens is the sum of the tokens that they generated, where known.
	OutputTokens int64
}

// MeanLatency returns the mean latency of the timed calls, or 0 when there is none.
func (w *Window) MeanLatency() time.Duration {
	if w.Timed == 0 {
		return 0
	}
	return w.Latency / time.Duration(w.Timed)
}

// Decision is what a law wants from now on.
type Decision struct {
	// Limit is how many calls may be in flight (>= 1).
	Limit int
	// Pace is how many calls may start a second; 0 means that no pace is set.
	Pace float64
	// TokenPace is how many tokens may be spent a second; 0 means that no pace is set.
	TokenPace float64
	// NotBefore is an instant before which nothing may start; 0 or a past instant sets no gate.
	// A guard never shortens a gate that it already keeps.
	NotBefore time.Duration
	// FreeAfter is for how long a place is not free after its call has ended, because the upstream goes on counting the call (0 to a
	// minute); 0: it is free at once. A place of a call that was refused is free at once.
	FreeAfter time.Duration
	// Binding is the limit of the upstream that the law takes for the one that binds;
	// ScopeNone when none was met, ScopeUnknown when one was and it cannot tell which.
	Binding feedback.Scope
	// Cause is why Limit, Pace, TokenPace or NotBefore last changed.
	Cause Cause
	// UntilFull says that Until is for those who wait because all places are taken, as nothing is answered.
	UntilFull bool
	// Quota is the quota of the upstream that counts calls or tokens in windows, as the law has learned it from refusals; zero when none is known.
	Quota Quota
	// Episode counts congestion episodes: it goes up with each cut. The guard stamps it on
	// calls that start.
	Episode uint32
	// AskAgain is when the law wants the next Window at the latest; 0 asks for one at
	// each call's end.
	AskAgain time.Duration
	// Until is when the law wants a Window although no call has ended, if somebody waits then: Pace or TokenPace will not
	// hold any more, or more may start, as calls have left a window, or nothing is answered (UntilFull).
	// 0: the next call's end is soon enough.
	Until time.Duration
}

// Quota is how many calls, or tokens, an upstream allows in a window.
type Quota struct {
	// Allows is how many a window allows (>= 1), and Seconds how long it is (1 to 3600). Both are 0 when nothing is known.
	Allows  uint32
	Seconds uint16
	// Tokens says that the window counts tokens; else it counts calls.
	Tokens bool
	// Slides says that the window is counted back from each call; else one ends where the next begins.
	Slides bool
}

// String tells the quota in words, as "300 in any 60 s", "400000 tokens in any 60 s" or, of windows that follow each other, "300 in each 60 s"; "" when
// nothing is known.
func (q Quota) String() string {
	if q.Seconds == 0 {
		return ""
	}
	what, which := "", "each"
	if q.Tokens {
		what = " tokens"
	}
	if q.Slides {
		which = "any"
	}
	return fmt.Sprintf("%d%s in %s %d s", q.Allows, what, which, q.Seconds)
}

// MarshalText gives the cause's name, so that saved decisions outlive a renumbering.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a cause's name.
func (c *Cause) UnmarshalText(text []byte) error {
	for i, n := range causeNames {
		if n == string(text) {
			*c = Cause(i)
			return nil
		}
	}
	return fmt.Errorf("adaptive: no cause is called %q", text)
}

// Cause is why a decision differs from the one before.
type Cause uint8

const (
	// CauseStart is the first decision; nothing has been learned.
	CauseStart Cause = iota
	// CauseSlowStart raises quickly while no limit was met.
	CauseSlowStart
	// CauseProbe raises slowly, in search of room.
	CauseProbe
	// CauseThrottled lowers after a refusal by a limit.
	CauseThrottled
	// CauseOverloaded lowers because the upstream lacks capacity.
	CauseOverloaded
	// CauseTimeout lowers because calls time out.
	CauseTimeout
	// CauseLatency lowers because latency grew.
	CauseLatency
	// CauseRetryAfter closes the gate because the upstream named a delay.
	CauseRetryAfter
	// CauseHint follows what the upstream told of its limits.
	CauseHint
	// CauseIdle ages what was learned after a time without calls.
	CauseIdle
	// CauseRecovery returns towards a limit that was good before.
	CauseRecovery
	// CauseExternal is a limit that somebody else set: configuration, or a classic law
	// that gives no reasons.
	CauseExternal

	// NumCauses is the number of causes; a Cause is always smaller.
	NumCauses = int(CauseExternal) + 1
)

var causeNames = [NumCauses]string{
	"start", "slow_start", "probe", "throttled", "overloaded", "timeout", "latency",
	"retry_after", "hint", "idle", "recovery", "external",
}

// String returns the cause as metrics and reports write it.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "unknown"
}
