package httplimit

import (
	"errors"
	"net"
	"strings"
)

// unsent reports whether an error says that the upstream did nothing with the request, so that it can be sent again
// whatever its method: no connection was made, to it or to a proxy, or it refused the stream, or ended the connection before it (RFC 9113, 8.7).
func unsent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return true
	}
	// The types are not exported. A GOAWAY may quote anything, and does not say what was done but for the streams that it leaves out.
	text := err.Error()
	return text == "http2: Transport received Server's graceful shutdown GOAWAY" || strings.Contains(text, "stream error: stream ID ") && strings.Contains(text, "; REFUSED_STREAM") &&
		!strings.Contains(text, "GOAWAY")
}
