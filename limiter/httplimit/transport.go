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
// Limits that an upstream tells of in the header of its successes are read in each answer, once one told of any. Until then they are looked for
// in the first 32 answers, in those with another number of fields, and every 100 ms, or at the first call after that which is timed
// (limiter.Config.TimeOneIn). Refusals are always read.
//
// A stream of events whose first one is a refusal, as Anthropic, OpenAI and Google send them in a 200, is sent again like any refusal, when that comes
// within 250 ms of the header. For so long an answer that is a stream is held back, where the request can be sent again and its context has more time.
// Once an upstream has refused so in JSON, its short answers in JSON are looked at in the same way.
//
// Turn off the retries of an SDK above it: they would multiply with the guard's. An answer that the Transport
// gave up on carries "x-should-retry: false" to say so to SDKs that read it, unless the guard's Retry.MaxAttempts
// is 1: then retries are left to them.
//
// The package needs the standard library only.
package httplimit

import (
	"context"
	"errors"
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
	// Transport gave up on gets "X-Should-Retry: false", when its guard retries at all.
	KeepHeader bool
	// Cost returns what a request is expected to cost in tokens (>= 0, 0 when unknown). It must
	// not read the body. nil means 0 for all.
	Cost func(*http.Request) int64
	// Request returns what the guard is to know of a request: its tenant, priority, class and expected cost. It must
	// not read the body. nil means a limiter.Request with nothing but Cost.
	Request func(*http.Request) limiter.Request
	// Idempotent reports whether a request may be sent again although it may have had its
	// effect; a request of which Request says so may, too. nil means GET, HEAD, OPTIONS, TRACE, PUT and
	// DELETE, and any request with an Idempotency-Key.
	Idempotent func(*http.Request) bool
}

// Transport is an http.RoundTripper that sends through a guard. It may be used by any number of
// goroutines. Make it with New.
type Transport struct {
	base  http.RoundTripper
	guard *limiter.Guard
	cfg   Config

	born   time.Time
	habits habits
}

// New returns a Transport that sends with base through guard. A nil base means http.DefaultTransport. It
// panics when guard is nil.
//
// http.DefaultTransport sends no pings over HTTP/2. A connection whose other end is gone without a word takes one request after
// another to its deadline then, which counts against the upstream: as many as it may have streams (100 and more), or until the kernel
// gives it up after some 15 minutes. A base with HTTP2.SendPingTimeout finds out by itself.
//
// Over HTTP/2 an http.Transport itself sends a request again that was reset with PROTOCOL_ERROR and may have been done, on one connection after the
// other, at once, until the request's context ends. It cannot when the request has a body and no GetBody, but then nothing is sent again here either.
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
	return &Transport{base: base, guard: guard, cfg: cfg, born: time.Now()}
}

// Guard returns the guard that t sends through.
func (t *Transport) Guard() *limiter.Guard { return t.guard }

// CloseIdleConnections calls the base's method of that name, when it has one; see http.Client.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper. The request is left as it is, and its body is neither read
// nor buffered here. The permit is given back when the answer's body has ended or is closed, so the caller
// must close it, as always.
//
// The error is the base's, or the context's cause when it ended while the request waited, for its permit or to be
// sent again, or a *limiter.RejectedError when the guard refused and nothing was sent. When a request that the
// upstream refused cannot be sent again, the result of the last attempt is returned as it is: the refusal
// as an answer, or the base's error. Should the guard refuse the next attempt only after its delay, more than
// the first 64 KiB of such an answer are no longer there, and reading on fails with ErrLetGo.
//
// The caller's deadline, or http.Client.Timeout, says nothing about the upstream when it ends an answer that
// had begun, or a request that spent most of its time waiting here. It counts as a time-out of the upstream when no
// answer had begun although the attempt was sent at least 1 s ago and for more than half of the time
// between the call of RoundTrip and the deadline. flyball's own law makes nothing of it when a sound call would not have been done by then, either
// (limiter.Outcome.Deadline). With another law, and where answers take very different times, deadlines that are shorter than an answer usually takes
// lower the limit for all who share the guard. A caller who gives up early by choice cancels the context, by context.WithCancel and a timer, which says
// nothing.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	var began time.Time
	if _, limited := ctx.Deadline(); limited {
		began = time.Now()
	}
	var r limiter.Request
	if t.cfg.Request != nil || t.cfg.Cost != nil {
		r = t.cfg.request(req)
	}
	permit, err := t.guard.Acquire(ctx, r)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	h := held{permit: permit}
	resp, f := t.send(req, req, &h, nil, began)
	if f == nil {
		return resp, nil
	}
	return t.repeat(req, r, f, began)
}

// repeat sends a request again, as long as that may help, after a first attempt that ended with f.
func (t *Transport) repeat(req *http.Request, r limiter.Request, f *failed, began time.Time) (*http.Response, error) {
	ctx := req.Context()
	r.Idempotent = r.Idempotent || t.cfg.Idempotent(req)
	r.Retry = true
	for attempt := 1; ; attempt++ {
		if f.over(r.Idempotent) || !repeatable(req) || !limiter.Retryable(&f.Outcome, r.Idempotent || f.unsent) &&
			!(f.Class == feedback.ClientError && r.Idempotent) { // a 409, say, that the upstream calls retryable
			return t.final(f)
		}
		delay, ok := t.guard.MayRetry(ctx, attempt, &f.Outcome)
		if !ok {
			return t.final(f)
		}
		letGo(ctx, f.resp)
		if gone := t.guard.Sleep(ctx, delay); gone != nil {
			drain(f.resp)
			return nil, gone
		}
		permit, err := t.guard.Acquire(ctx, r)
		switch {
		case err == nil:
		case refusedByGuard(ctx, err):
			return t.final(f)
		default: // the caller's context ended
			drain(f.resp)
			return nil, err
		}
		drain(f.resp)
		send, err := again(req, permit.Abandon)
		if err != nil {
			return nil, err
		}
		h := held{permit: permit}
		var resp *http.Response
		if resp, f = t.send(send, req, &h, nil, began); f == nil {
			return resp, nil
		}
	}
}

// request returns what the guard is to know of a request.
func (c *Config) request(req *http.Request) (r limiter.Request) {
	if c.Request != nil {
		r = c.Request(req)
	}
	if c.Cost != nil {
		r.Tokens = c.Cost(req)
	}
	return r
}

// failed is an attempt that did not end well, with what a retry has to know.
type failed struct {
	limiter.Outcome
	resp    *http.Response // a refusal; nil when there is an error
	err     error
	final   bool   // sending again does not help, as the upstream said
	unsent  bool   // the upstream did nothing with the request
	expired bool   // the caller's deadline passed before an answer began
	prefix  []byte // how the body of a refusal begins
	fault   limiter.KeyFault
}

// over reports whether nothing is to be sent again: it does not help, or the request may have had its effect, also when an error says that
// the upstream asked for calm.
func (f *failed) over(idempotent bool) bool {
	return f.final || f.err != nil && !f.unsent && !idempotent
}

// send sends one attempt of a call that began at the given time, which may be zero when its context has no deadline. h
// is released here, unless the answer is a success: then its body does it. orig is the caller's request, which req may be a
// copy of. keys is for a pool, and else nil.
func (t *Transport) send(req, orig *http.Request, h *held, keys *limiter.Rotation, began time.Time) (*http.Response, *failed) {
	released := false
	defer func() {
		if !released { // the base panicked
			h.release(&limiter.Outcome{Class: feedback.Canceled}, limiter.KeyFine)
		}
	}()
	resp, err := t.base.RoundTrip(req)
	switch {
	case err == nil:
		err = complete(resp)
	case refusedByGuard(req.Context(), err):
		released = true
		h.abandon()
		return nil, &failed{Outcome: limiter.Outcome{Class: feedback.Canceled}, err: err, final: true}
	}
	var (
		more *told
		l    look
		due  bool
	)
	needs := t.guard.Needs()
	if err == nil {
		l = lookAt(resp.Header)
	}
	// An answer in plain JSON is not gRPC's, which saves a look-up.
	if err == nil && (l == lookSieve && resp.StatusCode == http.StatusOK && t.cfg.Rules == nil ||
		feedback.Succeeded(resp.StatusCode, resp.Header, t.cfg.Rules)) {
		due = t.habits.due(h.since(t.born))
		if needs.Windows && t.habits.mayLimit(resp.Header, due) ||
			!needs.Windows && has(resp.Header, policyField, &t.habits.policy, due) {
			more = t.windows(resp)
			if needs.Windows {
				t.habits.heard(resp.Header, more != nil)
			}
		}
	} else {
		f := t.read(req, resp, err)
		if f.expired {
			f.blame(req.Context(), began, h.started(began))
		}
		if f.err != nil || f.Class != feedback.OK {
			released = true
			f.fault = fault(f)
			h.release(&f.Outcome, f.fault)
			return nil, f
		}
		more = &told{outcome: f.Outcome}
	}
	if needs.FirstByte && !empty(resp) {
		if at := h.started(began); !at.IsZero() {
			if more == nil {
				more = &told{}
			}
			more.start, more.outcome.FirstByte = at, time.Since(at)
		}
	}
	if t.opens(req, resp, l, keys) {
		var reads *told
		if l == lookEvents {
			if more == nil {
				more = &told{}
			}
			reads = more
		}
		var f *failed
		if resp, f = t.open(req.Context(), resp, reads); f != nil {
			if more != nil && more.outcome.Windows != nil {
				f.Windows = more.outcome.Windows
			}
			released = true
			h.release(&f.Outcome, f.fault)
			return nil, f
		}
	}
	if keys != nil {
		keys.Served(h.keyed)
	}
	released = true
	switch {
	case !empty(resp):
		t.hold(orig, resp, h, l, more, needs, due)
	case more != nil:
		h.release(&more.outcome, limiter.KeyFine)
	default:
		h.release(&limiter.Outcome{}, limiter.KeyFine)
	}
	return resp, nil
}

// refusedByGuard reports whether err is the refusal of a guard, so that nothing was sent, and not the end of a context that another call's refusal has
// ended, as errgroup does.
func refusedByGuard(ctx context.Context, err error) bool {
	return errors.Is(err, limiter.ErrRejected) && !errors.Is(err, context.Cause(ctx))
}

// read returns what an attempt ended with.
func (t *Transport) read(req *http.Request, resp *http.Response, err error) *failed {
	if err != nil {
		s, expired := fromError(req.Context(), err)
		return &failed{Outcome: limiter.OutcomeFrom(s), err: err, final: !s.Retryable, unsent: unsent(err), expired: expired}
	}
	f := &failed{resp: resp}
	var s feedback.Signal
	if resp.StatusCode < 400 {
		s = t.parse(resp, nil)
	}
	// What its header alone makes a refusal, a gRPC status for instance, is one with a body, too.
	if resp.StatusCode >= 400 || s.Class != feedback.OK && resp.StatusCode != http.StatusSwitchingProtocols {
		f.prefix = peek(req.Context(), resp, peekTime)
		s = t.parse(resp, f.prefix)
	}
	f.Outcome, f.final = limiter.OutcomeFrom(s), !s.Retryable
	return f
}

// blame makes an attempt that was sent at start, and that the caller's deadline ended, a time-out of the upstream
// when that had most of the time; see RoundTrip. The law is told whose deadline it was.
func (f *failed) blame(ctx context.Context, began, start time.Time) {
	if deadline, ok := ctx.Deadline(); ok && feedback.Overdue(time.Since(start), deadline.Sub(began)) {
		f.Class, f.Deadline = feedback.Timeout, true
	}
}

// fromError returns what an error means, and whether the caller's deadline is behind it. At its Timeout http.Client ends
// a request by its Cancel channel, too, which may be a moment before the context's own timer.
func fromError(ctx context.Context, err error) (s feedback.Signal, expired bool) {
	known := ctx.Err() != nil // first, as it may end meanwhile
	s = feedback.FromError(ctx, err)
	if deadline, ok := ctx.Deadline(); ok && !known && !time.Now().Before(deadline) {
		switch {
		case s.Class == feedback.Canceled, s.Class == feedback.Timeout, s.Source == "error:unknown":
			s = feedback.Signal{Class: feedback.Canceled, Source: "deadline:caller"}
		}
	}
	return s, s.Source == "deadline:caller"
}

// windows returns what the header of a success tells of limits; nil when that is nothing.
func (t *Transport) windows(resp *http.Response) (more *told) {
	var room []feedback.Window
	if t.habits.limits.Load() { // as others did
		more = &told{}
		room = more.room[:0]
	}
	s := feedback.Parse(feedback.Answer{
		Status: resp.StatusCode, Header: resp.Header, Now: time.Now(), Provider: t.cfg.Provider, Rules: t.cfg.Rules, Windows: room,
	})
	if len(s.Windows) == 0 {
		return nil
	}
	if more == nil {
		more = &told{}
	}
	more.outcome.Windows = s.Windows
	return more
}

// parse returns what an answer means.
func (t *Transport) parse(resp *http.Response, prefix []byte) feedback.Signal {
	return feedback.Parse(feedback.Answer{
		Status: resp.StatusCode, Header: resp.Header, Body: prefix,
		Now: time.Now(), Provider: t.cfg.Provider, Rules: t.cfg.Rules,
	})
}

// final returns what the caller gets when no attempt follows.
func (t *Transport) final(f *failed) (*http.Response, error) {
	if f.err != nil {
		return nil, f.err
	}
	switch f.Class {
	case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
		if !t.cfg.KeepHeader && t.guard.Retries() { // a pool's guards have one configuration
			f.resp.Header.Set("X-Should-Retry", "false")
		}
	}
	return f.resp, nil
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

// again returns a copy of the request with a fresh body. Without one it calls abandon, also when GetBody panics.
func again(req *http.Request, abandon func()) (*http.Request, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req, nil
	}
	there := false
	defer func() {
		if !there {
			abandon()
		}
	}()
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	there = true
	c := *req
	c.Body = body
	return &c, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// drain ends an answer, which may be nil, that another attempt follows. What peek read to its end has left its
// connection already; the rest is not worth it.
func drain(resp *http.Response) {
	if resp != nil {
		_ = resp.Body.Close()
	}
}

// empty reports whether the answer has no body to wait for.
func empty(resp *http.Response) bool {
	return resp.Body == nil || resp.Body == http.NoBody || resp.ContentLength == 0 && resp.StatusCode != http.StatusSwitchingProtocols
}

// complete fills in what a base that is not an http.Transport may leave out; http.Client lets it.
func complete(resp *http.Response) error {
	if resp == nil {
		return errors.New("httplimit: the base returned neither an answer nor an error")
	}
	if resp.Header == nil {
		resp.Header = http.Header{}
	}
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return nil
}
