// Package once keeps net/http from sending again what an upstream may have done.
//
// Over HTTP/2 an http.Transport takes a stream that was reset with PROTOCOL_ERROR for one of which nothing was done, as some servers reset
// those that come while a connection ends. Others do so when they have read and done the whole request. It sends that on another
// connection, at once, and as often as it is reset; so it does when each connection ends with a GOAWAY.
package once

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
)

// Transport is an http.RoundTripper that sends a request with a body once over HTTP/2, and again only what a connection left out as it ended, which
// is no failure. Whoever calls it may send again what was refused.
type Transport struct {
	*http.Transport
	http1 atomic.Bool // the last answer came over HTTP/1, where what may have been done is not sent again
}

// leftOut is the error of a request that came after the last one which a connection took (RFC 9113, 6.8). Its type is not exported.
const leftOut = "http2: Transport received Server's graceful shutdown GOAWAY"

// Undone reports whether an error of a request that got a connection says that nothing was done with it: the connection left it out, or its stream was
// refused (RFC 9113, 8.7).
func Undone(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return text == leftOut || strings.HasPrefix(text, "stream error: ") && strings.Contains(text, "; REFUSED_STREAM")
}

// mostSent is how often a request is sent that is left out.
const mostSent = 3

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.GetBody == nil || t.http1.Load() {
		return t.send(req, req)
	}
	body := req.Body
	for n := 1; ; n++ {
		c := *req // another each time, as net/http may still read the one before
		c.Body, c.GetBody = body, nil
		resp, err := t.send(&c, req)
		if err == nil || n == mostSent || err.Error() != leftOut {
			return resp, err
		}
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// send sends a request that is orig, or stands for it.
func (t *Transport) send(req, orig *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	if err != nil {
		return nil, reason(err)
	}
	resp.Request = orig
	// A WebSocket begins over HTTP/1 whatever the upstream speaks.
	if http1 := resp.ProtoMajor < 2; http1 != t.http1.Load() && resp.StatusCode != http.StatusSwitchingProtocols {
		t.http1.Store(http1)
	}
	return resp, nil
}

// reason returns why net/http would have sent a request again, when that is what err is about.
func reason(err error) error {
	text, ok := strings.CutPrefix(err.Error(), "http2: Transport: cannot retry err [")
	if ok {
		text, ok = strings.CutSuffix(text, "] after Request.Body was written; define Request.GetBody to avoid this error")
	}
	if !ok {
		return err
	}
	return errors.New(text)
}
