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

// Transport is an http.RoundTripper that sends a request with a body once over HTTP/2. Whoever calls it may send again what was not done.
type Transport struct {
	*http.Transport
	http1 atomic.Bool // the last answer came over HTTP/1, where what may have been done is not sent again
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := req
	if req.GetBody != nil && !t.http1.Load() {
		c := *req
		c.GetBody = nil // without which net/http cannot
		sent = &c
	}
	resp, err := t.Transport.RoundTrip(sent)
	if err != nil {
		return nil, reason(err)
	}
	resp.Request = req
	if http1 := resp.ProtoMajor < 2; http1 != t.http1.Load() {
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
