package httplimit

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
)

// look is how the body of a success is looked through while it passes.
type look uint8

const (
	lookAway   look = iota // it tells nothing
	lookSieve              // one JSON value: with a feedback.Sieve, until it finds something
	lookStream             // with a feedback.Stream
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
	case media == "text/event-stream":
		return lookStream
	case !strings.Contains(media, "json"), strings.HasPrefix(media, "application/grpc"):
		return lookAway
	case strings.HasSuffix(media, "+json") && media != "application/stream+json":
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

// policy remembers whether an upstream sends RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers), by which a success may
// state a limit on calls in flight: whoever sends it sends it always. One that has not so far is asked now and then.
type policy struct{ state atomic.Uint32 }

const (
	policyFirst = 32 // how many answers are looked at to begin with
	policyEach  = 16 // one in so many afterwards
	policySent  = 1 << 31
)

// stated reports whether the header has one, as far as it looks.
func (p *policy) stated(h http.Header) bool {
	switch n := p.state.Load(); {
	case n < policyFirst:
		p.state.CompareAndSwap(n, n+1)
	case n < policySent && rand.Uint32()%policyEach != 0:
		return false
	}
	if h["Ratelimit-Policy"] == nil {
		return false
	}
	p.state.Store(policySent)
	return true
}
