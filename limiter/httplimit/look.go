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

// habit remembers whether an upstream sends a header field: whoever sends it sends it always. One that has not so far is asked
// now and then, because a look-up in each header costs as much as taking a place.
type habit struct {
	field string
	state atomic.Uint32
}

const (
	habitFirst = 32 // how many answers are looked at to begin with
	habitEach  = 16 // one in so many afterwards
	habitSent  = 1 << 31
)

// found reports whether the header has the field, as far as it looks.
func (p *habit) found(h http.Header) bool {
	switch n := p.state.Load(); {
	case n < habitFirst:
		p.state.CompareAndSwap(n, n+1)
	case n < habitSent && rand.Uint32()%habitEach != 0:
		return false
	}
	if h[p.field] == nil {
		return false
	}
	if p.state.Load() != habitSent {
		p.state.Store(habitSent)
	}
	return true
}
