package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/callers"
	"github.com/flyball-go/flyball/gateway/internal/dialect"
	"github.com/flyball-go/flyball/gateway/internal/trace"
	"github.com/flyball-go/flyball/internal/once"
	"github.com/flyball-go/flyball/limiter"
)

// job is what is sent of a call: all that its requests are made from, and how they went. It is used by one goroutine, which need not be the
// caller's.
type job struct {
	t     *table
	r     *http.Request // its method, URL and header
	route *route
	rest  string // of the path
	who   callers.Who
	body  *payload
	facts dialect.Facts
	began time.Time
	until time.Time    // when its answer must have begun
	plain *atomic.Bool // the caller was promised an answer without an encoding
	trace trace.Context
	// urgent is how urgent a call is that others wait for, too; nil for one that only its caller waits for.
	urgent *urgency

	// early is told of what comes before the answer (status 1xx); nil for a call that is shared.
	early func(code int, h http.Header)

	// mu guards what follows against the caller of a call that is shared, who may leave before it is over; its goroutine alone writes it.
	mu     sync.Mutex
	target *target // the last that it was sent to
	turn   *turn   // its turn there, until that has got an answer or none; nil for none
	sent   int
	wait   time.Duration  // until the first request was sent, or until it was given up when none was
	own    time.Duration  // how much of it was for the tenant's own limits
	barred bool           // these have let it through not at all
	held   limiter.Waited // the longest wait so far at a guard, before the first request was sent
}

// goes says that the call is about to be sent to a target in a turn.
func (j *job) goes(to *target, t *turn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.target, j.turn = to, t
}

// went counts what was sent in the turn, which is over.
func (j *job) went() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sent, j.wait = j.soFar()
	j.turn = nil
}

// progress returns how many requests were sent so far, and how long it was until the first was. It may be called by any goroutine.
func (j *job) progress() (sent int, wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.soFar()
}

// waited notes a wait at a guard that is over.
func (j *job) waited(w limiter.Waited) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if sent, _ := j.soFar(); sent == 0 && w.For > j.held.For {
		j.held = w
	}
}

// isBarred reports whether the tenant's own limits did not let the call through. It may be called by any goroutine.
func (j *job) isBarred() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.barred
}

// soFar is progress for who has the lock.
func (j *job) soFar() (sent int, wait time.Duration) {
	sent, wait = j.sent, j.wait
	if j.turn == nil {
		return sent, wait
	}
	n := int(j.turn.sent.Load())
	if sent == 0 && n > 0 {
		wait = j.turn.firstSent().Sub(j.began)
	}
	return sent + n, wait
}

// exchange sends the call to the route's upstream and returns its answer, with the turn that must be ended when the answer has. With
// fallbacks it goes to the next one when the one before has no quota, cannot be reached, or has no place within
// the route's bound; when none has one, it waits at the first.
//
// A tenant's own limit comes first, and once: what another upstream has room for does not change it.
func (j *job) exchange(ctx context.Context) (*http.Response, *turn, error) {
	ctx = limiter.WithOnWait(ctx, j.waited)
	defer func() {
		if j.sent == 0 {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.wait = time.Since(j.began)
		}
	}()
	guard := j.t.book.Guard(j.who.Tenant)
	if guard == nil {
		return j.targets(ctx)
	}
	var permit limiter.Permit
	first, asked := &j.route.targets[0], time.Now()
	for {
		t := newTurn(ctx, j.until, j.keep(first, first.classes.of(j.model(first))))
		var err error
		permit, err = guard.Acquire(t, limiter.Request{Priority: j.priority(t), WaitOnly: true})
		again := err != nil && t.raised()
		j.mu.Lock()
		j.own, j.barred = time.Since(asked), err != nil
		j.mu.Unlock()
		t.end()
		if err == nil {
			break
		}
		if !again {
			return nil, t, err
		}
	}
	body := &held{permit: permit}
	defer func() {
		if body.ReadCloser == nil { // there is no answer, also because something panicked
			body.release()
		}
	}()
	resp, t, err := j.targets(ctx)
	if err != nil {
		if j.sent == 0 {
			body.permit.Abandon() // no upstream got it, so it is none of the tenant's calls a minute
		}
		return nil, t, err
	}
	body.ReadCloser, resp.Body = resp.Body, body
	return resp, t, nil
}

// targets sends the call to the route's upstreams, as exchange says.
func (j *job) targets(ctx context.Context) (*http.Response, *turn, error) {
	targets := j.route.targets
	if len(targets) == 1 {
		return j.try(ctx, &targets[0], 0)
	}
	full := -1
	for i := range targets {
		last, bound := i == len(targets)-1, j.route.FallbackAfter
		if last && full < 0 {
			bound = 0 // there is nowhere else to wait
		}
		resp, t, err := j.try(ctx, &targets[i], bound)
		poor := err == nil && !(last && full < 0) && noQuota(resp, &targets[i])
		noRoom := err == nil && !poor && t.refused.Load() && time.Now().Before(j.until)
		switch {
		case err == nil && (last && full < 0 || !poor && !noRoom):
			return resp, t, nil
		case err == nil && last: // nothing to have here, and others have no place yet
		case ctx.Err() != nil:
			if err == nil { // the caller left while the answer was looked at
				_ = resp.Body.Close()
				t.end()
				err = context.Cause(ctx)
			}
			return nil, t, err
		case noRoom, err != nil && waits(err, t):
			if last && full < 0 {
				return nil, t, err
			}
			if full < 0 && !time.Now().After(j.until) {
				full = i
			}
		case err != nil && (last && full < 0 || !unreachable(err, t) && !once.Undone(err) && !errors.As(err, new(*keysError))):
			return nil, t, err
		}
		if resp != nil {
			_ = resp.Body.Close()
		}
		t.end()
	}
	return j.try(ctx, &targets[full], 0)
}

// priority returns how urgent the call is that waits in t.
func (j *job) priority(t *turn) uint8 {
	if j.urgent == nil {
		return j.who.Priority
	}
	return j.urgent.waits(t)
}

// model returns the model that a target is asked for.
func (j *job) model(to *target) string {
	if to.model != "" && (j.facts.ModelEnd > 0 || j.facts.Model == "" || dialect.PathModel(j.rest) != "") { // else the request names it where it is not replaced
		return to.model
	}
	return j.facts.Model
}

// keep returns how much of the call's time is kept for the answer of a target.
func (j *job) keep(to *target, class uint8) time.Duration {
	return to.firsts.keep(class, j.facts.Stream, j.until.Sub(j.began))
}

// try sends the call to one target. With a bound it does not wait longer for its turn.
func (j *job) try(ctx context.Context, to *target, bound time.Duration) (*http.Response, *turn, error) {
	for {
		resp, t, err := j.once(ctx, to, bound)
		if err == nil || !t.raised() {
			return resp, t, err
		}
	}
}

// once is try for as long as the call does not become more urgent.
func (j *job) once(ctx context.Context, to *target, bound time.Duration) (*http.Response, *turn, error) {
	model := j.model(to)
	class := to.classes.of(model)
	t := newTurn(ctx, j.until, j.keep(to, class))
	t.plain, t.stall, t.ended = j.plain, j.route.Stall, j.t.ended
	t.request = limiter.Request{Tenant: j.who.Tenant, Priority: j.priority(t), Output: j.facts.MaxTokens, Class: class, WaitOnly: true}
	if bound > 0 {
		t.bound(bound)
	}
	j.goes(to, t)
	req := j.newRequest(t, to)
	resp, err := to.sender.RoundTrip(req)
	j.went()
	if err == nil && !t.answered(j.route.Longest) {
		_ = resp.Body.Close()
		resp, err = nil, context.DeadlineExceeded
	}
	switch {
	case err == nil && resp.StatusCode < 400 && !t.refused.Load():
		to.firsts.began(class, j.facts.Stream, time.Since(t.lastSent()))
	case errors.Is(err, context.DeadlineExceeded) && t.reached.Load() && !t.refused.Load():
		to.firsts.cut(class, j.facts.Stream, time.Since(t.lastSent()), t.keep, j.until.Sub(j.began))
	}
	if err == nil && (resp.StatusCode < 100 || resp.StatusCode == http.StatusSwitchingProtocols && upgrade(j.r) == "") {
		_ = resp.Body.Close()
		err = statusError(resp.StatusCode)
	}
	if err == nil && resp.StatusCode == http.StatusUnauthorized && to.pool != nil {
		if none := noneAccepted(to.pool); none != nil {
			_ = resp.Body.Close()
			err = none
		}
	}
	if err != nil {
		t.end()
		return nil, t, err
	}
	if resp.StatusCode < 300 {
		to.classes.serves(model)
	}
	return resp, t, nil
}

// A statusError is a status that no server may answer with: one that is none, or a change of the protocol that nobody asked for (RFC 9110,
// 15 and 15.2.2).
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("the upstream answered with the status %03d, which is no answer to this call", int(e))
}

// A keysError says that the upstream accepts none of the gateway's own keys. Its answer is not for the caller, whose key is another one.
type keysError struct {
	upstream string
	keys     []limiter.KeyStatus
}

func (e *keysError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the upstream %s accepts none of the gateway's keys: ", e.upstream)
	for i, k := range e.keys {
		if i == 5 {
			fmt.Fprintf(&b, ", and %d more", len(e.keys)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(k.String())
	}
	return b.String()
}

// retryAt returns when the first of the keys is probed.
func (e *keysError) retryAt() time.Time {
	return slices.MinFunc(e.keys, func(a, b limiter.KeyStatus) int { return a.ProbeAt.Compare(b.ProbeAt) }).ProbeAt
}

// noneAccepted returns an error when every key of p is out; else an answer that says so is about the request.
func noneAccepted(p *limiter.Pool) error {
	keys := p.Stats().Keys
	for i := range keys {
		if keys[i].Out == limiter.KeyFine {
			return nil
		}
	}
	return &keysError{p.Name(), keys}
}

// held is the body of an answer for a tenant, whose place it holds.
type held struct {
	io.ReadCloser
	permit limiter.Permit
}

// Close closes the body and gives the place back.
func (h *held) Close() error {
	defer h.release() // also when that panics
	return h.ReadCloser.Close()
}

func (h *held) release() {
	if h.permit.Held() {
		h.permit.Release(limiter.Outcome{})
	}
}

// Write is for a connection that changed its protocol.
func (h *held) Write(p []byte) (int, error) {
	w, ok := h.ReadCloser.(io.Writer)
	if !ok {
		return 0, errors.New("proxy: this body cannot be written to")
	}
	return w.Write(p)
}

// CloseWrite is for a connection that changed its protocol, too.
func (h *held) CloseWrite() error { return closeWrite(h.ReadCloser) }

// waits reports whether a call failed only because it got no turn in time, or because there is no key.
func waits(err error, t *turn) bool {
	switch {
	case errors.Is(err, limiter.ErrClosed):
		return false
	case errors.Is(err, limiter.ErrRejected):
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) && (t.sent.Load() == 0 || t.refused.Load())
}

// unreachable reports whether nothing of a call got to the upstream, as there was no connection for it.
func unreachable(err error, t *turn) bool {
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"), errors.As(err, &dns):
		return true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled): // which is why there was none
		return false
	}
	return t != nil && t.sent.Load() > 0 && !t.reached.Load() // a certificate that is not trusted, say
}

// noQuota reports whether an answer says that there is no money or quota. It leaves the answer as it was.
func noQuota(resp *http.Response, to *target) bool {
	if resp.StatusCode < 400 {
		return false
	}
	prefix, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failing{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(prefix), rest), resp.Body}
	s := feedback.Parse(feedback.Answer{Status: resp.StatusCode, Header: resp.Header, Body: prefix, Now: time.Now(), Provider: to.provider, Rules: to.rules})
	return s.Class == feedback.QuotaExhausted
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
