package httplimit

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// look is how the body of a success is looked through while it passes.
type look uint8

const (
	lookAway   look = iota // it tells nothing
	lookSieve              // one JSON value: with a feedback.Sieve, until it finds something
	lookStream             // with a feedback.Stream
	lookEvents             // the same, and it is a stream of events
)

// lookAt returns how to look through the body of a success with a header.
func lookAt(h http.Header) look {
	types := h["Content-Type"]
	if len(types) == 0 {
		return lookAway
	}
	return lookOf(types[0])
}

// lookOf returns how to look through a body of a type.
func lookOf(contentType string) look {
	if contentType == "application/json" {
		return lookSieve
	}
	if !strings.ContainsAny(contentType, "jJvV") { // neither JSON nor events: most other types
		return lookAway
	}
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	switch {
	case media == "application/json", media == "text/json":
		return lookSieve
	case media == "text/event-stream", media == "application/x-ndjson", media == "application/jsonl", media == "application/stream+json":
		return lookEvents
	case !strings.Contains(media, "json"), strings.HasPrefix(media, "application/grpc"):
		return lookAway
	case strings.HasSuffix(media, "+json"):
		return lookSieve
	}
	return lookStream // JSON lines
}

// encoded reports whether a body is compressed, so that there is nothing to read in it.
func encoded(contentEncoding []string) bool {
	for _, e := range contentEncoding {
		if e = strings.TrimSpace(e); e != "" && !strings.EqualFold(e, "identity") {
			return true
		}
	}
	return false
}

// habits is what a Transport remembers of an upstream's successes: whoever sends a header field sends it always. To walk through a header
// costs more than all the rest of a call, and to look up a field as much as taking a place. So what was not there
// so far is looked for in the first answers, and then every lookAgain; limits also in each header that has another number of fields than those
// that told nothing.
type habits struct {
	next    atomic.Int64  // when to look again, in ns since the Transport was made
	looked  atomic.Uint32 // how many of the first answers were looked at
	silent  atomic.Uint64 // bit n%64: headers of n fields told of no limits
	limits  atomic.Bool   // there are fields that tell of limits
	policy  atomic.Bool   // there is a field that may tell of a limit on calls in flight
	bedrock atomic.Bool   // there are fields that tell of usage
	inside  atomic.Bool   // there was a refusal in a 200 of JSON
}

const (
	lookFirst = 32
	lookAgain = 100 * time.Millisecond

	policyField  = "Ratelimit-Policy" // draft-ietf-httpapi-ratelimit-headers
	bedrockField = "X-Amzn-Bedrock-Input-Token-Count"
)

// due reports whether to look for what was not there so far, in the answer to a call that started at the given time since the Transport
// was made; less than 0 when that was not timed.
func (h *habits) due(at time.Duration) bool {
	if n := h.looked.Load(); n < lookFirst {
		h.looked.CompareAndSwap(n, n+1)
		return true
	}
	next := h.next.Load()
	return int64(at) >= next && h.next.CompareAndSwap(next, int64(at+lookAgain))
}

// mayLimit reports whether to look for limits in a header; heard is to be told what was found.
func (h *habits) mayLimit(header http.Header, due bool) bool {
	return due || h.limits.Load() || h.silent.Load()&(1<<(len(header)%64)) == 0
}

// heard says whether a header told of limits.
func (h *habits) heard(header http.Header, told bool) {
	if told {
		note(&h.limits)
	} else if bit := uint64(1) << (len(header) % 64); h.silent.Load()&bit == 0 {
		h.silent.Or(bit)
	}
}

// has reports whether a header has a field, as far as it looks; known is whether one had it before.
func has(header http.Header, field string, known *atomic.Bool, due bool) bool {
	if !due && !known.Load() || header[field] == nil {
		return false
	}
	note(known)
	return true
}

func note(b *atomic.Bool) {
	if !b.Load() {
		b.Store(true)
	}
}
