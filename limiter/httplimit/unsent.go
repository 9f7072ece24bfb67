package httplimit

import (
	"errors"
	"net"
	"strings"
)

// unsent reports whether an error says that the upstream did nothing with the request, so that it can be sent again
// whatever its method: no connection was made, to it or to a proxy, or it refused the stream (RFC 9113, 8.7).
func unsent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return true
	}
	// The type is not exported. A GOAWAY may quote anything, and does not say what was done.
	text := err.Error()
	return strings.Contains(text, "stream error: stream ID ") && strings.Contains(text, "; REFUSED_STREAM") &&
		!strings.Contains(text, "GOAWAY")
}
