package httplimit

import "strings"

// look is how the body of a success is looked through while it passes.
type look uint8

const (
	lookAway   look = iota // it tells nothing
	lookSieve              // one JSON value: with a feedback.Sieve, until it finds something
	lookStream             // with a feedback.Stream
)

// lookOf returns how to look through a body of a type.
func lookOf(contentType string) look {
	if contentType == "application/json" {
		return lookSieve
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
