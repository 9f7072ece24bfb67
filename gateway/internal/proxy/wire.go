package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/once"
)

// wire is what the guard sends with: it says when a request leaves, and ends answers that stall.
type wire struct {
	base *once.Transport
	// plain has answers come without an encoding, in which the tokens that a call used cannot be read.
	plain bool
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	t := turnOf(req.Context())
	stall := time.Duration(0)
	if t != nil {
		if err := t.sending(); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
		stall = t.stall
		if (w.plain || t.plain.Load()) && req.Header.Get("Accept-Encoding") != "" {
			c := *req
			c.Header = req.Header.Clone()
			c.Header.Set("Accept-Encoding", "identity")
			req = &c
		}
	}
	resp, err := w.base.RoundTrip(req)
	if t != nil && err != nil {
		if context.Cause(t.Context) == errResets {
			err = errResets
		}
		if unreachable(err, t) {
			t.noWay()
		}
	}
	if t != nil && err == nil {
		switch resp.StatusCode {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable, 529:
			t.noRoom()
		}
	}
	if err == nil && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.ProtoMajor == 1 && isStream(resp.Header) && resp.Header.Get("Content-Encoding") == "" {
		resp.Body = &unframed{ReadCloser: resp.Body}
	}
	if err != nil || stall <= 0 || resp.StatusCode == http.StatusSwitchingProtocols || resp.Body == nil || resp.Body == http.NoBody {
		return resp, err
	}
	b := newWatched(resp.Body, stall)
	b.turn = t
	resp.Body = b
	return resp, nil
}

// CloseIdleConnections closes those of the base.
func (w *wire) CloseIdleConnections() { w.base.CloseIdleConnections() }

// unframed is the body of a stream of events that only the end of its connection ends, as an upstream's death does: in the middle of a line
// it is cut (RFC 9112, 8).
type unframed struct {
	io.ReadCloser
	line []byte // the beginning of the last one
}

// Read reads from the body.
func (u *unframed) Read(p []byte) (int, error) {
	n, err := u.ReadCloser.Read(p)
	line := p[:n]
	if i := bytes.LastIndexAny(line, "\r\n"); i >= 0 {
		u.line, line = u.line[:0], line[i+1:]
	}
	const done = "data: [DONE]"
	u.line = append(u.line, line[:min(len(line), len(done)+1-len(u.line))]...)
	if err == io.EOF && len(u.line) > 0 && string(u.line) != done && string(u.line) != "data:[DONE]" {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// stalledError is the error of an upstream that was silent for too long in the middle of an answer.
type stalledError struct{ after time.Duration }

func (e *stalledError) Error() string {
	return "the upstream sent nothing for " + e.after.String() + " in the middle of its answer"
}
func (e *stalledError) Timeout() bool   { return true }
func (e *stalledError) Temporary() bool { return true }

// watched is a body that ends when nothing comes for too long while somebody reads. A reader that is slow itself is not the upstream's fault.
type watched struct {
	body    io.ReadCloser
	stall   time.Duration
	timer   *time.Timer
	stalled atomic.Bool
	once    sync.Once
	err     error
	turn    *turn // that it is an answer of
}

func newWatched(body io.ReadCloser, stall time.Duration) *watched {
	w := &watched{body: body, stall: stall}
	w.timer = time.AfterFunc(stall, func() {
		w.stalled.Store(true)
		_ = w.close() // makes the Read fail
	})
	w.timer.Stop()
	return w
}

// Read reads from the body.
func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop()
	if err != nil && err != io.EOF && w.stalled.Load() {
		err = &stalledError{w.stall}
	}
	return n, err
}

// Refused says that the answer is a refusal behind a 200: a stream that begins with it, or JSON; package httplimit calls it.
func (w *watched) Refused(c feedback.Class) {
	w.turn.inside.Store(uint32(c))
	switch c {
	case feedback.Throttled, feedback.Overloaded:
		w.turn.noRoom()
	case feedback.QuotaExhausted:
		w.turn.poor.Store(true)
	}
}

// Close closes the body.
func (w *watched) Close() error {
	w.timer.Stop()
	return w.close()
}

func (w *watched) close() error {
	w.once.Do(func() { w.err = w.body.Close() })
	return w.err
}
