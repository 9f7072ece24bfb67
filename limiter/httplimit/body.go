package httplimit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// body is the body of a success, which holds its permit until it ends. It is all that a guarded call allocates
// unless its answer has something to tell. As any body it is read by one goroutine; Close may be called by
// another, and so may ContextEnded.
type body struct {
	io.ReadCloser
	t    *Transport
	req  *http.Request
	resp *http.Response
	held held
	tie  limiter.Tie
	told *told // nil when there is nothing to tell but that the call ended well

	mu      sync.Mutex  // guards what follows and *told; held for memory only
	done    atomic.Bool // the permit was given back; set with the lock
	closed  bool        // the caller closed the body
	look    look        // only the reader changes it
	awaits  bool        // the guard is to be told when the answer begins; as look
	telling bool        // it is being told
	ending  bool        // and the call has ended meanwhile
	sieve   feedback.Sieve
}

// told is what an answer told beyond that it is a success.
type told struct {
	outcome limiter.Outcome
	start   time.Time        // when the request was sent; zero when nobody asks for times
	stream  *feedback.Stream // nil when nothing looks through the body, or nothing was found
	ahead   int              // how much of what is to be read it has read
	room    [4]feedback.Window
}

// held is what a call gives back when it ends: a guard's permit, or a pool's when there is one.
type held struct {
	permit limiter.Permit
	keyed  *limiter.KeyPermit
}

func (h *held) release(o *limiter.Outcome, f limiter.KeyFault) {
	if h.keyed != nil {
		h.keyed.Release(*o, f)
	} else {
		h.permit.Release(*o)
	}
}

func (h *held) abandon() {
	if h.keyed != nil {
		h.keyed.Abandon()
	} else {
		h.permit.Abandon()
	}
}

// began tells that the answer has begun.
func (h *held) began() {
	if h.keyed != nil {
		h.keyed.Began()
	} else {
		h.permit.Began()
	}
}

// started returns when the call started, which was at began when it did not wait.
func (h *held) started(began time.Time) time.Time {
	var at time.Time
	var ok bool
	if h.keyed != nil {
		at, ok = h.keyed.Started()
	} else {
		at, ok = h.permit.Started()
	}
	if !ok {
		return began
	}
	return at
}

// since returns how long after an instant the call started; less than 0 when that is not known.
func (h *held) since(t time.Time) time.Duration {
	if at := h.started(time.Time{}); !at.IsZero() {
		return at.Sub(t)
	}
	return -1
}

// duplex is a body that can be written to, as that of a protocol switch.
type duplex struct {
	*body
	io.Writer
}

// CloseWrite ends what is sent and not what is received, as that of net/http's body does; httputil.ReverseProxy looks for it.
func (d duplex) CloseWrite() error {
	if w, ok := d.Writer.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return fmt.Errorf("httplimit: CloseWrite: %w", http.ErrNotSupported)
}

// hold has the permit h live as long as the body of resp, an answer that was a success so far, and which is looked through as l says. more is
// what its header told, and may be nil; due is whether to look for what was not there so far.
func (t *Transport) hold(req *http.Request, resp *http.Response, h *held, l look, more *told, needs limiter.Needs, due bool) {
	b := &body{ReadCloser: resp.Body, t: t, req: req, resp: resp, held: *h, told: more}
	resp.Body = b
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if w, ok := b.ReadCloser.(io.Writer); ok {
			resp.Body = duplex{b, w}
		}
	} else if l != lookAway {
		b.watch(l, needs, due)
	}
	if k := b.held.keyed; k != nil {
		k.Tie(&b.tie, b)
	} else {
		b.held.permit.Tie(&b.tie, b)
	}
}

// watch readies b to be looked through.
func (b *body) watch(l look, needs limiter.Needs, due bool) {
	b.look, b.sieve.Usage = l, needs.Tokens
	if l == lookSieve && needs.Tokens && has(b.resp.Header, bedrockField, &b.t.habits.bedrock, due) {
		l = lookStream
	}
	if l == lookSieve {
		return // when it is compressed, it has no names that the sieve would find
	}
	if b.look = l; encoded(b.resp.Header["Content-Encoding"]) {
		b.look = lookAway
		return
	}
	b.awaits = needs.Began
	if b.told == nil || b.told.stream == nil { // else its beginning was read
		b.listen(feedback.NewStream(b.t.streamConfig(b.resp, b.told), time.Now()))
	}
}

// Context returns the context of the request.
func (b *body) Context() context.Context { return b.req.Context() }

// streamConfig returns what a Stream of a body is made from; more may be nil.
func (t *Transport) streamConfig(resp *http.Response, more *told) feedback.StreamConfig {
	c := feedback.StreamConfig{Status: resp.StatusCode, Header: resp.Header, Provider: t.cfg.Provider, Rules: t.cfg.Rules}
	if more != nil {
		c.Start = more.start
	}
	return c
}

// listen has s read the body from now on.
func (b *body) listen(s *feedback.Stream) {
	if b.told == nil {
		b.told = &told{}
	}
	b.told.stream = s
}

// scan looks through a piece of the body.
func (b *body) scan(p []byte) {
	if b.look == lookSieve {
		n, found := b.sieve.Scan(p)
		if !found {
			if b.sieve.Over() {
				b.look = lookAway
			}
			return
		}
		p, b.look = p[n:], lookStream
		b.listen(b.sieve.Stream(b.t.streamConfig(b.resp, b.told), time.Now()))
	}
	known := min(b.told.ahead, len(p))
	b.told.ahead -= known
	if p = p[known:]; len(p) > 0 {
		var now time.Time
		if !b.told.start.IsZero() {
			now = time.Now()
		}
		b.told.stream.Scan(p, now)
	}
	if b.awaits && b.told.stream.Began() {
		b.awaits = false
		b.begin()
	}
}

// begin tells the guard that the answer has begun. It gives the lock up for that, as it may call those who listen to the guard's decisions,
// and has it again afterwards, but not when that panics. An end that comes meanwhile waits for it.
func (b *body) begin() {
	b.telling = true
	b.mu.Unlock()
	told := false
	defer func() {
		b.mu.Lock()
		b.telling = false
		if b.ending {
			err := context.Cause(b.Context())
			if b.closed {
				err = b.Context().Err()
			}
			b.end(false, err)
			b.mu.Lock()
		}
		if !told {
			b.mu.Unlock()
		}
	}()
	b.held.began()
	told = true
}

// Read reads on, and gives the permit back when the body ends or fails.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil && b.look == lookAway {
		return n, nil
	}
	b.mu.Lock()
	if b.look != lookAway && n > 0 && n <= len(p) && !b.done.Load() {
		b.scan(p[:n])
	}
	switch {
	case err == nil:
		b.mu.Unlock()
	case err == io.EOF:
		b.end(true, nil)
	case b.closed:
		b.end(false, b.Context().Err()) // whoever closes while this waits makes it fail, and has what it wanted
	default:
		b.end(false, err)
	}
	return n, err
}

// Close closes the body and gives the permit back.
func (b *body) Close() error {
	if b.done.Load() {
		return b.ReadCloser.Close()
	}
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	defer func() { // also when the base's Close panics
		b.mu.Lock()
		// A caller that has what it wanted need not read to the end, so that alone is no failure.
		b.end(false, b.Context().Err())
	}()
	return b.ReadCloser.Close()
}

// ContextEnded gives the permit back for a caller that cancels and forgets the body: net/http has ended the exchange
// by then.
func (b *body) ContextEnded() {
	b.mu.Lock()
	b.end(false, context.Cause(b.Context()))
}

// end gives the permit back, once; whole says that the body ended by itself. It is called with the lock, and releases it.
func (b *body) end(whole bool, err error) {
	if b.telling {
		b.ending = true
	}
	if b.telling || b.done.Load() {
		b.mu.Unlock()
		return
	}
	b.done.Store(true)
	var o limiter.Outcome
	fault := limiter.KeyFine
	if b.told != nil {
		o = b.told.outcome
		if s := b.told.stream; s != nil {
			complete := false
			if complete, fault = b.report(s, &o, whole || err != nil); complete {
				err = nil
			}
		}
	}
	if spent, ok := b.sieve.Spent(); ok {
		o.InputTokens, o.OutputTokens, o.CachedTokens = spent.Input, spent.Output, spent.CachedInput
	}
	if err != nil && b.sieve.Complete() {
		err = nil // the answer was all there; what happened afterwards says nothing
	}
	b.mu.Unlock()
	b.tie.End()
	if err != nil && o.Class == feedback.OK {
		s, _ := fromError(b.Context(), err)
		o.Class, o.Scope = s.Class, s.Scope
	}
	b.held.release(&o, fault)
}

// report adds what s found to o, and reports whether the answer was all there, and what it says of the key. counted says that its tokens may be told as
// they are. They may not when the caller closed a body in the middle, which is a success: the upstream then used more than it had told,
// and what was reserved is the better guess.
func (b *body) report(s *feedback.Stream, o *limiter.Outcome, counted bool) (complete bool, fault limiter.KeyFault) {
	s.Finish(time.Now())
	r := s.Report()
	if r.Refused {
		// The upstream refused inside an answer that began well.
		fault = faultInside(&r.Signal)
		if matters(&r.Signal, fault) && lookAt(b.resp.Header) == lookSieve {
			note(&b.t.habits.inside)
		}
		windows := o.Windows
		*o = limiter.OutcomeFrom(r.Signal)
		if windows != nil { // the header of a success may not have been searched; see habits
			o.Windows = windows
		}
	}
	if !b.told.start.IsZero() {
		if d, ok := r.TimeToFirstToken(); ok {
			o.FirstByte = d
		}
	}
	if b.sieve.Usage && (counted || r.Complete) {
		o.InputTokens, o.OutputTokens, o.CachedTokens = r.Usage.Input, r.Usage.Output, r.Usage.CachedInput
	}
	return r.Complete, fault
}
