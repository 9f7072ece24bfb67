// Package feedback reads what an upstream's answer says about its limits.
//
// An answer (status, header fields, the first bytes of the body, the events of a
// stream) or an error becomes a [Signal]: what happened, whether the same request
// may be sent again, after how long, which limit refused, and what the upstream
// told of its windows. Reading reports and never decides: there is no ceiling on a
// delay, no default and no jitter in here. The package is pure: it is told the
// time, does no I/O, holds no lock and never panics on foreign bytes. [Watcher] is the
// one shell around it: it reads a body for its caller and guards its state.
package feedback

import "time"

// Class is what an answer means for the caller.
type Class uint8

const (
	// OK is an answer that was served; nothing is to change.
	OK Class = iota
	// Throttled is a refusal by a limit that refills within a day: a rate, tokens
	// or requests in flight.
	Throttled
	// QuotaExhausted is a refusal for want of money, by a plan, by a limit of zero,
	// or by a limit whose window is a day or longer.
	QuotaExhausted
	// Overloaded means that the upstream lacks capacity; it says nothing about this
	// caller's own limits.
	Overloaded
	// Timeout means that the upstream, or a gateway before it, gave up waiting.
	Timeout
	// ClientError means that this request will not do; it says nothing about load.
	ClientError
	// ServerError means that the upstream broke; it says little about load.
	ServerError
	// Canceled means that the caller gave up. It says nothing about the upstream.
	// No HTTP answer has this class; [FromError] gives it.
	Canceled

	// NumClasses is the number of classes; a Class is always smaller.
	NumClasses = int(Canceled) + 1
)

var classNames = [NumClasses]string{
	"ok", "throttled", "quota_exhausted", "overloaded", "timeout",
	"client_error", "server_error", "canceled",
}

// String returns the class as it is written in configuration, metrics and fixtures.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// ParseClass returns the class that is written as s; ok is false when there is none.
func ParseClass(s string) (c Class, ok bool) {
	for i, n := range classNames {
		if n == s {
			return Class(i), true
		}
	}
	return 0, false
}

// Scope names the limit that refused.
type Scope uint8

const (
	// ScopeNone means that no limit refused.
	ScopeNone Scope = iota
	// ScopeUnknown means that a limit refused and that nothing says which one.
	// Money and plans are unknown, too.
	ScopeUnknown
	// ScopeRequests is a limit on requests per time.
	ScopeRequests
	// ScopeTokens is a limit on tokens per time, input and output together or not told apart.
	ScopeTokens
	// ScopeInputTokens is a limit on prompt tokens per time.
	ScopeInputTokens
	// ScopeOutputTokens is a limit on generated tokens per time.
	ScopeOutputTokens
	// ScopeConcurrency is a limit on requests in flight.
	ScopeConcurrency
	// ScopeDaily is a limit whose window is a day or longer.
	ScopeDaily

	// NumScopes is the number of scopes; a Scope is always smaller.
	NumScopes = int(ScopeDaily) + 1
)

var scopeNames = [NumScopes]string{
	"none", "unknown", "requests", "tokens", "input_tokens", "output_tokens", "concurrency", "daily",
}

// String returns the scope as it is written in configuration, metrics and fixtures.
func (s Scope) String() string {
	if int(s) < len(scopeNames) {
		return scopeNames[s]
	}
	return "unknown"
}

// ParseScope returns the scope that is written as s; ok is false when there is none.
func ParseScope(s string) (sc Scope, ok bool) {
	for i, n := range scopeNames {
		if n == s {
			return Scope(i), true
		}
	}
	return 0, false
}

// Unstated is a count or a delay that nobody stated. It is never zero, because zero is an answer.
const Unstated = -1

// Window is one limit of the upstream as an answer's header fields describe it.
type Window struct {
	// Kind is the quantity that the window counts.
	Kind Scope
	// Limit is how much the window holds, in units of Kind; Unstated when not told.
	Limit int64
	// Remaining is how much of it is left, in units of Kind; Unstated when not told.
	Remaining int64
	// Reset is how long after the answer the window is full again (>= 0); Unstated when not
	// told. For the OpenAI family it is an upper bound: one request fits earlier.
	Reset time.Duration
}

// Stated is a limit that the text of an answer states, as in "concurrency limit of 5".
type Stated struct {
	// Kind is the quantity that is limited.
	Kind Scope
	// Limit is the stated limit in units of Kind, or Unstated.
	Limit int64
	// Used is how much of it the answer says is used, or Unstated.
	Used int64
	// Requested is how much the refused request asked for, or Unstated.
	Requested int64
	// Per is the length of the limit's window; 0 when the text names none, as for concurrency.
	Per time.Duration
}

// Signal is what an answer means. The zero Signal is an answer that was served.
type Signal struct {
	// Class is what happened.
	Class Class
	// Retryable says that the same request, sent again within seconds to minutes, can
	// succeed. It does not say that a replay is safe. False for OK.
	Retryable bool
	// HasRetryAfter says that the upstream named a delay; RetryAfter is then valid, and may be 0.
	HasRetryAfter bool
	// RetryAfter is the delay that the upstream named, counted from the answer, rounded up
	// to whole milliseconds and as sent: without ceiling. It saturates at the largest
	// time.Duration that is a whole number of milliseconds.
	RetryAfter time.Duration
	// UntilReset says that nobody named a delay, and RetryAfter is the longest reset of the windows of which nothing is left. Of a quota that refills all the
	// time that is when it is full again, and a request fits earlier; which one it is, one answer does not tell.
	UntilReset bool
	// Scope is the limit that refused.
	Scope Scope
	// Zero says that the answer is QuotaExhausted because the limit that refused is zero: who asked has nothing of what the request is for, a model
	// that is not in his plan for instance. No wait helps, whatever delay is named beside it, and other requests may be served.
	Zero bool
	// Windows are the limits that the header fields describe, in no order. Callers must not
	// change what the slice holds.
	Windows []Window
	// Stated are the limits that the body's text states, in the order of the text.
	Stated []Stated
	// Source names the evidence for Class and for the delay, for a log: "status:429",
	// "code:rate_limit_exceeded header:retry-after-ms".
	Source string
}
