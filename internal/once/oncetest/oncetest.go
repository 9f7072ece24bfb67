// Package oncetest has an upstream that reads requests over HTTP/2 and answers none.
package oncetest

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// The frames that answer a request, the first of its connection.
const (
	Reset  = "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x01"                 // RST_STREAM with PROTOCOL_ERROR
	GoAway = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // which took no request
	Refuse = "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07"                 // RST_STREAM with REFUSED_STREAM
	Served = "\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"                             // a header with the status 200
)

const (
	settings    = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	endOfStream = 1
	mostRead    = 50 // requests; what follows is cut
)

// Upstream returns an upstream that answers each request with the next of frames, those that follow with the last one, and how many whole requests it
// has read.
func Upstream(t *testing.T, frames ...string) (s *httptest.Server, read *atomic.Int32) {
	s = httptest.NewUnstartedServer(nil)
	s.TLS = &tls.Config{NextProtos: []string{"h2"}}
	read = new(atomic.Int32)
	s.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
		defer conn.Close()
		serve(conn, frames, read)
	}}
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s, read
}

// serve reads frames from a connection, and answers the end of each request.
func serve(conn net.Conn, frames []string, read *atomic.Int32) {
	_, _ = io.WriteString(conn, settings)
	r := bufio.NewReader(conn)
	if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, r, int64(binary.BigEndian.Uint32(head[:])>>8)); err != nil {
			return
		}
		if kind := head[3]; kind > 1 || head[4]&endOfStream == 0 {
			continue // neither the last of a request's header, nor of its body
		}
		n := int(read.Add(1))
		if n > mostRead {
			return
		}
		_, _ = io.Copy(conn, strings.NewReader(frames[min(n, len(frames))-1]))
	}
}
