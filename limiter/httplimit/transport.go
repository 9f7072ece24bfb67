// Package httplimit guards an HTTP client.
//
// A [Transport] is an http.RoundTripper. Each request waits for its permit, is sent, and holds the permit
// until the answer's body has been read or closed: a stream counts as in flight while it streams. What
// the answer says of limits goes to the guard, and what the upstream refused is sent again as the
// guard's Retry says.
//
//	guard, err := limiter.New(limiter.Config{Name: "openai"})
//	...
//	client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{})}
//
// Turn off the retries of an SDK above it: they would multiply with the guard's. An answer that the Transport
// gave up on carries "x-should-retry: false" to say so to SDKs that read it.
//
// The package needs the standard library only.
package httplimit

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// Config is what a Transport is made from, besides its guard. The zero Config is fine.
type Config struct {
	// Provider hints at who answers, for instance "dashscope"; see feedback.Answer. Empty means
	// that answers speak for themselves.
	Provider string
	// Rules are the user's own rules for reading answers; nil means none.
	Rules *feedback.Rules
	// KeepHeader leaves the answers' header as it is. Otherwise a refusal that the
	// Transport gave up on gets "X-Should-Retry: false".
	KeepHeader bool
	// Cost returns what a request is expected to cost in tokens (>= 0, 0 when unknown). It must
	// not read the body. nil means 0 for all.
	Cost func(*http.Request) int64
	// Idempotent reports whether a request may be sent again although it may have had its
	// effect. nil means GET, HEAD, OPTIONS, TRACE, PUT and DELETE, and any request with an
	// Idempotency-Key.
	Idempotent func(*http.Request) bool
}

// Transport is an http.RoundTripper that sends through a guard. It may be used by any number of
// goroutines. Make it with New.
type Transport struct {
	base  http.RoundTripper
	guard *limiter.Guard
	cfg   Config
}

// New returns a Transport that sends with base through guard. A nil base means http.DefaultTransport. It
// panics when guard is nil.
func New(base http.RoundTripper, guard *limiter.Guard, cfg Config) *Transport {
	if guard == nil {
		panic("httplimit: New with a nil guard")
	}
	if base == nil {
		base = http.DefaultTransport
	}
	if cfg.Idempotent == nil {
		cfg.Idempotent = Idempotent
	}
	return &Transport{base, guard, cfg}
}

// Guard returns the guard that t sends through.
func (t *Transport) Guard() *limiter.Guard { return t.guard }

// RoundTrip implements http.RoundTripper. The request is left as it is, and its body is neither read
// nor buffered here. The permit is given back when the answer's body has ended or is closed, so the caller
// must close it, as always.
//
// The error is the base's, or the context's cause when it ended before the request was sent, or a
// *limiter.RejectedError when the guard refused. When a request that had been refused
// by the upstream cannot be sent again, the refusal is returned as the answer that it is.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	r := limiter.Request{Idempotent: t.cfg.Idempotent(req)}
	if t.cfg.Cost != nil {
		r.Tokens = t.cfg.Cost(req)
	}
	var last *http.Response // the refusal that is to be followed by another attempt
	for attempt := 1; ; attempt++ {
		permit, err := t.guard.Acquire(req.Context(), r)
		if err != nil {
			if attempt == 1 {
				closeBody(req)
			}
			return t.giveUp(last, err)
		}
		r.Retry = true // from now on
		if last != nil {
			drain(last)
		}
		send := req
		if attempt > 1 {
			if send, err = again(req); err != nil {
				permit.Abandon()
				return nil, err
			}
		}
		resp, o, err := t.send(send, &permit)
		if err == nil && o.Class == feedback.OK {
			return resp, nil
		}
		if o.final || !repeatable(req) || !limiter.Retryable(&o.Outcome, r.Idempotent || o.unsent) &&
			!(o.Class == feedback.ClientError && r.Idempotent) { // a 409, say, that the upstream calls retryable
			return t.final(resp, o, err)
		}
		delay, ok := t.guard.MayRetry(req.Context(), attempt, &o.Outcome)
		if deadline, has := req.Context().Deadline(); !ok || has && time.Until(deadline) < delay {
			return t.final(resp, o, err)
		}
		if gone := limiter.Sleep(req.Context(), delay); gone != nil {
			if resp != nil {
				drain(resp)
			}
			return nil, gone
		}
		last = resp
	}
}

// outcome is a guard's outcome with what a retry has to know.
type outcome struct {
	limiter.Outcome
	final  bool   // the upstream said that sending again does not help
	unsent bool   // the request never reached the upstream
	prefix []byte // how the body of a refusal begins
}

// send sends one attempt. The permit is released here, unless the answer is a success: then its
// body does it.
func (t *Transport) send(req *http.Request, permit *limiter.Permit) (resp *http.Response, o outcome, err error) {
	released := false
	defer func() {
		if !released { // the base panicked
			permit.Release(limiter.Outcome{Class: feedback.Canceled})
		}
	}()
	resp, o, start, err := t.exchange(req)
	released = true
	if err != nil || o.Class != feedback.OK || empty(resp) {
		permit.Release(o.Outcome)
		return resp, o, err
	}
	resp.Body = t.newBody(resp, req, held{permit: *permit}, o.Outcome, start)
	return resp, o, nil
}

// exchange sends a request and reads how its answer begins.
func (t *Transport) exchange(req *http.Request) (resp *http.Response, o outcome, start time.Time, err error) {
	start = time.Now()
	resp, err = t.base.RoundTrip(req)
	if err != nil {
		s := feedback.FromError(req.Context(), err)
		o.Outcome, o.final, o.unsent = limiter.OutcomeFrom(s), !s.Retryable, unsent(err)
		return nil, o, start, err
	}
	if resp.StatusCode >= 400 {
		o.prefix = peek(resp)
	}
	s := t.read(resp, o.prefix)
	o.Outcome, o.final = limiter.OutcomeFrom(s), !s.Retryable
	if s.Class == feedback.OK && !empty(resp) {
		o.FirstByte = time.Since(start)
	}
	return resp, o, start, nil
}

// read returns what an answer means.
func (t *Transport) read(resp *http.Response, prefix []byte) feedback.Signal {
	return feedback.Parse(feedback.Answer{
		Status: resp.StatusCode, Header: resp.Header, Body: prefix,
		Now: time.Now(), Provider: t.cfg.Provider, Rules: t.cfg.Rules,
	})
}

// final returns what the caller gets when no attempt follows.
func (t *Transport) final(resp *http.Response, o outcome, err error) (*http.Response, error) {
	if err != nil {
		return nil, err
	}
	switch o.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
		if !t.cfg.KeepHeader {
			resp.Header.Set("X-Should-Retry", "false")
		}
	}
	return resp, nil
}

// giveUp returns what the caller gets when the guard let no attempt follow.
func (t *Transport) giveUp(last *http.Response, err error) (*http.Response, error) {
	if last == nil {
		return nil, err
	}
	if !errors.Is(err, limiter.ErrRejected) {
		drain(last)
		return nil, err // the caller's context ended
	}
	return t.final(last, outcome{Outcome: limiter.Outcome{Class: feedback.Throttled}}, nil)
}

// Idempotent reports whether a request may be sent again although it may have had its effect:
// its method says so (RFC 9110, 9.2.2), or it has an Idempotency-Key.
func Idempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != "" || req.Header.Get("X-Idempotency-Key") != ""
}

// repeatable reports whether the request's body can be had again.
func repeatable(req *http.Request) bool {
	return req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
}

// again returns a copy of the request with a fresh body.
func again(req *http.Request) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	c := *req
	c.Body = body
	return &c, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// drain ends an answer so that its connection can be used again. What was not read by peek is
// left: a refusal of more than that is not worth the connection.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	_ = resp.Body.Close()
}

// empty reports whether the answer has no body to wait for.
func empty(resp *http.Response) bool {
	return resp.Body == nil || resp.Body == http.NoBody || resp.ContentLength == 0 && resp.StatusCode != http.StatusSwitchingProtocols
}
