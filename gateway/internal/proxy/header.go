package proxy

import (
	"net/http"
	"net/textproto"
	"strings"
)

// hopByHop are the fields that are between two neighbours only (RFC 9110, 7.6.1).
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// copyHeader adds to dst what of src is for the far end.
func copyHeader(dst, src http.Header) {
	var also map[string]bool
	for _, f := range src["Connection"] {
		for name := range strings.SplitSeq(f, ",") {
			if name = textproto.TrimString(name); name != "" {
				if also == nil {
					also = map[string]bool{}
				}
				also[textproto.CanonicalMIMEHeaderKey(name)] = true
			}
		}
	}
	for k, vs := range src {
		if !hopByHop[k] && !also[k] {
			dst[k] = vs
		}
	}
}

// credentials are the fields in which callers send keys.
var credentials = []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"}

// upgrade returns the protocol that a request asks to change to, or nothing. An offer that may be passed over is: one with a body, and one of
// HTTP/2, which Java's client makes with each first request, and in which requests would pass that nobody here has seen.
func upgrade(r *http.Request) string {
	h := r.Header
	if r.ContentLength != 0 {
		return ""
	}
	offer := h.Get("Upgrade")
	for protocol := range strings.SplitSeq(offer, ",") {
		if name, _, _ := strings.Cut(textproto.TrimString(protocol), "/"); strings.EqualFold(name, "h2c") {
			return ""
		}
	}
	for _, f := range h["Connection"] {
		for name := range strings.SplitSeq(f, ",") {
			if strings.EqualFold(textproto.TrimString(name), "upgrade") {
				return offer
			}
		}
	}
	return ""
}
