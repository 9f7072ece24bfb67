package httplimit

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// body is the body of an answer that holds its permit until it ends. As any body it is read by one
// goroutine; Close may be called by another.
type body struct {
	io.ReadCloser
	ctx  context.Context
	once sync.Once
	stop func() bool // ends the watch of ctx; nil when ctx cannot end

	closed atomic.Bool // by the caller

	permit  held
	outcome limiter.Outcome
	watcher *feedback.Watcher // nil when the body is of a type that tells nothing
}

// held is what a body gives back when it ends: a guard's permit, or a pool's when there is one.
type held struct {
	permit limiter.Permit
	keyed  *limiter.KeyPermit
}

func (h *held) release(o limiter.Outcome) {
	if h.keyed != nil {
		h.keyed.Release(o, limiter.KeyFine)
	} else {
		h.permit.Release(o)
	}
}

// duplex is a body that can be written to, as that of a protocol switch.
type duplex struct {
	*body
	io.Writer
}

// newBody wraps an answer's body. The answer was a success so far; what its body tells of tokens, and of
// errors inside a stream, is read as it passes by.
func (t *Transport) newBody(resp *http.Response, req *http.Request, permit held, o limiter.Outcome, start time.Time) io.ReadCloser {
	b := &body{ReadCloser: resp.Body, ctx: req.Context(), permit: permit, outcome: o}
	defer func() {
		if b.ctx.Done() != nil {
			// A caller that cancels and forgets the body gives up its place all the same: net/http has ended the
			// exchange by then.
			b.stop = context.AfterFunc(b.ctx, func() { b.end(context.Cause(b.ctx)) })
		}
	}()
	if w, ok := resp.Body.(io.Writer); ok {
		return duplex{b, w}
	}
	if tells(resp.Header) {
		b.watcher = feedback.NewWatcher(resp.Body, feedback.WatchConfig{StreamConfig: feedback.StreamConfig{
			Status: resp.StatusCode, Header: resp.Header, Provider: t.cfg.Provider, Rules: t.cfg.Rules, Start: start,
		}})
		b.ReadCloser = b.watcher
	}
	return b
}

// tells reports whether a body of this type can tell of tokens and errors: JSON, JSON lines and
// server-sent events, when they are not compressed.
func tells(h http.Header) bool {
	if e := h.Get("Content-Encoding"); e != "" && e != "identity" {
		return false
	}
	t := h.Get("Content-Type")
	return strings.Contains(t, "json") || strings.HasPrefix(t, "text/event-stream")
}

// Read reads on, and gives the permit back when the body ends or fails.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		b.finish(nil)
	case err != nil && b.closed.Load():
		b.finish(b.ctx.Err()) // whoever closes while this waits makes it fail, and has what it wanted
	case err != nil:
		b.finish(err)
	}
	return n, err
}

// Close closes the body and gives the permit back.
func (b *body) Close() error {
	b.closed.Store(true)
	err := b.ReadCloser.Close()
	// A caller that has what it wanted need not read to the end, so that alone is no failure.
	b.finish(b.ctx.Err())
	return err
}

// finish ends the watch of the context and gives the permit back.
func (b *body) finish(err error) {
	if b.stop != nil {
		b.stop()
	}
	b.end(err)
}

// end gives the permit back, once.
func (b *body) end(err error) {
	b.once.Do(func() {
		o := &b.outcome
		if b.watcher != nil {
			r := b.watcher.Report()
			if r.Complete {
				err = nil // the answer was all there; what happened afterwards says nothing
			}
			if r.Refused {
				// The upstream refused inside an answer that began well.
				windows := o.Windows
				*o = limiter.OutcomeFrom(r.Signal)
				o.Windows = windows
			}
			if d, ok := r.TimeToFirstToken(); ok {
				o.FirstByte = d
			}
			o.InputTokens, o.OutputTokens, o.CachedTokens = r.Usage.Input, r.Usage.Output, r.Usage.CachedInput
		}
		if err != nil && o.Class == feedback.OK {
			s, _ := fromError(b.ctx, err)
			o.Class, o.Scope = s.Class, s.Scope
		}
		b.permit.release(*o)
	})
}
