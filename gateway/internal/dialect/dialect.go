// Package dialect knows the APIs that callers speak: which one a call is of, what it asks for, and how that API says
// that a call failed, as an answer and in the middle of a stream. It is pure.
package dialect

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Dialect is an API's way of putting things.
type Dialect uint8

// The dialects.
const (
	OpenAI    Dialect = iota // chat/completions, completions, embeddings and what copies them; also what is not known
	Responses                // OpenAI's responses
	Anthropic                // messages
	Gemini                   // generateContent
)

// Of returns the dialect of a call by its path and header.
func Of(path string, h http.Header) Dialect {
	switch {
	case strings.HasSuffix(path, "/messages"), strings.HasSuffix(path, "/messages/count_tokens"), len(h["Anthropic-Version"]) > 0:
		return Anthropic
	case strings.HasSuffix(path, "/responses"):
		return Responses
	case strings.Contains(path, "enerateContent"), strings.HasSuffix(path, ":embedContent"), len(h["X-Goog-Api-Key"]) > 0:
		return Gemini
	}
	return OpenAI
}

// Kind is why a call failed.
type Kind uint8

// The kinds.
const (
	RateLimited  Kind = iota // it could not get its turn in time
	NoQuota                  // there is no money or quota left
	TooLarge                 // it is larger than what may ever be sent
	Invalid                  // the request is not one
	Unauthorized             // the caller is not known
	NotFound                 // there is no such route
	Unavailable              // the gateway, or its way to the upstream, does not work
	BadGateway               // the upstream broke
	TimedOut                 // the upstream did not answer in time
	BodyTimedOut             // the caller did not send its request in time
)

// An Error is a failure to tell a caller.
type Error struct {
	Kind    Kind
	Message string
	// RetryAfter is how long to wait before another try; 0 is unknown.
	RetryAfter time.Duration
	// Final says that trying again at once, as SDKs do, does not help: the gateway did what can be done.
	Final bool
}

// Status returns the HTTP status.
func (k Kind) Status() int {
	return [...]int{
		RateLimited: http.StatusTooManyRequests, NoQuota: http.StatusTooManyRequests, TooLarge: http.StatusRequestEntityTooLarge,
		Invalid: http.StatusBadRequest, Unauthorized: http.StatusUnauthorized, NotFound: http.StatusNotFound,
		Unavailable: http.StatusServiceUnavailable, BadGateway: http.StatusBadGateway, TimedOut: http.StatusGatewayTimeout,
		BodyTimedOut: http.StatusRequestTimeout,
	}[k]
}

// names are what OpenAI, Anthropic and Google call the kinds; OpenAI has a type and a code.
var names = [...]struct{ typ, code, anthropic, google string }{
	RateLimited:  {"rate_limit_error", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"},
	NoQuota:      {"insufficient_quota", "insufficient_quota", "rate_limit_error", "RESOURCE_EXHAUSTED"},
	TooLarge:     {"invalid_request_error", "request_too_large", "request_too_large", "INVALID_ARGUMENT"},
	Invalid:      {"invalid_request_error", "invalid_request", "invalid_request_error", "INVALID_ARGUMENT"},
	Unauthorized: {"invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED"},
	NotFound:     {"invalid_request_error", "not_found", "not_found_error", "NOT_FOUND"},
	Unavailable:  {"server_error", "service_unavailable", "overloaded_error", "UNAVAILABLE"},
	BadGateway:   {"server_error", "bad_gateway", "api_error", "UNAVAILABLE"},
	TimedOut:     {"server_error", "timeout", "timeout_error", "DEADLINE_EXCEEDED"},
	BodyTimedOut: {"invalid_request_error", "request_timeout", "invalid_request_error", "CANCELLED"},
}

// Code returns the error's name as the log has it.
func (k Kind) Code() string { return names[k].code }

// Header sets the fields that go with e in an answer.
func (e *Error) Header(h http.Header) {
	h.Set("Content-Type", "application/json")
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(e.RetryAfter.Seconds())), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(max(1, e.RetryAfter.Milliseconds()), 10))
	}
	if e.Final {
		h.Set("X-Should-Retry", "false")
	}
}

// Body returns the body of an answer.
func (d Dialect) Body(e *Error) []byte {
	n := names[e.Kind]
	switch d {
	case Anthropic:
		return marshal(object{{"type", "error"}, {"error", object{{"type", n.anthropic}, {"message", e.Message}}}})
	case Gemini:
		return marshal(object{{"error", object{{"code", e.Kind.Status()}, {"message", e.Message}, {"status", n.google}}}})
	}
	return marshal(object{{"error", object{{"message", e.Message}, {"type", n.typ}, {"param", nil}, {"code", n.code}}}})
}

// Event returns the event that tells of e in a stream of events that has begun. For OpenAI's chat it is in the form that Dify reads:
// one line of data, which has an error and no choices, and no line before it.
func (d Dialect) Event(e *Error) []byte {
	switch d {
	case Anthropic:
		return event("error", d.Body(e))
	case Responses:
		n := names[e.Kind]
		return failure(object{{"type", n.typ}, {"code", n.code}, {"message", e.Message}, {"param", nil}}, n.code, e.Message)
	}
	return event("", d.Body(e))
}

// failure returns the event of a stream of OpenAI's responses that has failed. OpenAI documents code and message at the top, and sends them within
// error: its SDKs raise an exception for that form, and pass the other one on among the events of an answer.
func failure(within, code any, message string) []byte {
	return event("error", marshal(object{{"type", "error"}, {"code", code}, {"message", message}, {"param", nil}, {"sequence_number", 0}, {"error", within}}))
}

// Wrap returns the event that tells, in a stream that has begun, what an upstream answered that is no stream: body is JSON, or a sentence.
func (d Dialect) Wrap(status int, body []byte) []byte {
	if v := json.RawMessage(body); len(body) > 0 && json.Valid(v) {
		compact := marshal(v)
		switch failed := member(compact, "error") != nil; {
		case compact[0] != '{':
		case failed && d == Anthropic:
			return event("error", compact)
		case failed && d != Responses, status < 300:
			return event("", compact)
		case failed:
			var said struct {
				Error struct { // what is not of its type is left out
					Code    *string
					Message string
				}
			}
			_ = json.Unmarshal(compact, &said)
			if within := member(compact, "error"); within[0] == '{' {
				return failure(json.RawMessage(within), said.Error.Code, said.Error.Message)
			}
		}
	}
	said := strings.TrimSpace(string(body))
	if len(said) > 2000 {
		said = strings.ToValidUTF8(said[:2000], "") + "…"
	}
	e := &Error{Kind: KindOf(status), Message: "the upstream answered with status " + strconv.Itoa(status) + ": " + said}
	return d.Event(e)
}

// KindOf returns the kind of an upstream's status of 300 or more.
func KindOf(status int) Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return RateLimited
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return Unauthorized
	case status == http.StatusNotFound:
		return NotFound
	case status >= 400 && status < 500:
		return Invalid
	case status == http.StatusGatewayTimeout:
		return TimedOut
	case status == http.StatusServiceUnavailable, status == 529:
		return Unavailable
	}
	return BadGateway
}

// member returns the value of a key in a JSON object; nil when it has none.
func member(object []byte, key string) (value []byte) {
	Scan(object, func(k string, v []byte, _ int) bool {
		if k == key {
			value = v
		}
		return value == nil
	})
	return value
}

func event(name string, data []byte) []byte {
	if name != "" {
		return append(append([]byte("event: "+name+"\ndata: "), data...), "\n\n"...)
	}
	return append(append([]byte("data: "), data...), "\n\n"...)
}

// KeepAlive returns the event that says nothing, as a frame of its own: Dify passes over frames that begin with a colon. Google's SDKs
// for Python and Go take such a frame for an answer that cannot be read, and pass over an empty one.
func (d Dialect) KeepAlive() []byte {
	if d == Gemini {
		return emptyFrame
	}
	return comment
}

var (
	comment    = []byte(": waiting\n\n")
	emptyFrame = []byte("\n\n")
)

// object is a JSON object in the order in which its keys are read by people.
type object []struct {
	key   string
	value any
}

// MarshalJSON writes the object.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		v, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, '"'), m.key...), '"', ':')
		b = append(b, v...)
	}
	return append(b, '}'), nil
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("dialect: " + err.Error()) // strings and numbers only
	}
	return b
}
