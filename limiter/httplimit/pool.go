package httplimit

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/flyball-go/flyball/limiter"
)

// ErrForeignHost is the error for a request that would have given a key to a host that it is not for. The
// request was not sent.
var ErrForeignHost = errors.New("httplimit: a key is not sent to another host")

// PoolConfig is what a PoolTransport is made from, besides its pool. The zero PoolConfig is fine for
// upstreams that take "Authorization: Bearer <key>".
type PoolConfig struct {
	Config
	// Header is the field that carries the key. Empty means "Authorization", with the prefix "Bearer " when
	// Prefix is empty, too. Anthropic takes "X-Api-Key", Azure "Api-Key", Gemini "X-Goog-Api-Key".
	Header string
	// Prefix stands before the key, its space included.
	Prefix string
	// Host is the only host, with its port when it has one, that keys are sent to. Empty means any host that
	// the caller names; a redirect never takes a key to another host, nor from https to http.
	Host string
}

// PoolTransport is an http.RoundTripper that sends each request with a key of a pool. It may be used by any number
// of goroutines. Make it with NewPool.
type PoolTransport struct {
	t    *Transport // what it shares with one that has a guard
	pool *limiter.Pool
	cfg  PoolConfig
}

// NewPool returns a PoolTransport that sends with base and the keys of pool. A nil base means
// http.DefaultTransport. It panics when pool is nil.
func NewPool(base http.RoundTripper, pool *limiter.Pool, cfg PoolConfig) *PoolTransport {
	if pool == nil {
		panic("httplimit: NewPool with a nil pool")
	}
	if cfg.Header == "" {
		cfg.Header = "Authorization"
		if cfg.Prefix == "" {
			cfg.Prefix = "Bearer "
		}
	}
	cfg.Header = textproto.CanonicalMIMEHeaderKey(cfg.Header)
	// A pool's guards have one configuration; the first speaks for them.
	return &PoolTransport{New(base, pool.Guards()[0], cfg.Config), pool, cfg}
}

// Pool returns the pool whose keys p sends with.
func (p *PoolTransport) Pool() *limiter.Pool { return p.pool }

// RoundTrip implements http.RoundTripper. It is Transport.RoundTrip with a key: the key is set on a copy of the
// request, and replaces what the caller set in that field. The answer's Request is the caller's, without it.
//
// A request that a key cannot send is sent with another one as limiter.Rotation says, as long as its body can be had
// again and nothing of an answer was handed on. An answer with status 401 that is about the key, or with the code of an
// invalid key, takes the key out; so does one that says that there is no money or quota. A 403 that does not
// speak of the key is tried with one other key, to see which of both is to blame.
//
// The error is the base's, or the context's cause when it ended before the request was sent, or a
// *limiter.NoKeyError when the pool refused, or ErrForeignHost. When a request that had been refused by
// the upstream cannot be sent again, the refusal is returned as the answer that it is.
func (p *PoolTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := p.allowed(req); err != nil {
		closeBody(req)
		return nil, err
	}
	ctx := req.Context()
	var began time.Time
	if _, limited := ctx.Deadline(); limited {
		began = time.Now()
	}
	r := p.t.cfg.request(req)
	r.Idempotent = r.Idempotent || p.t.cfg.Idempotent(req)
	keys := p.pool.Rotate(r, repeatable(req))
	permit, err := keys.Acquire(ctx)
	if err != nil {
		closeBody(req)
		return nil, err
	}
	for send := req; ; {
		resp, f := p.send(&keys, send, req, &permit, began)
		if f == nil {
			return resp, nil
		}
		if f.over(r.Idempotent) && f.fault == limiter.KeyFine {
			return p.t.final(f)
		}
		letGo(ctx, f.resp) // its connection must not be kept while this waits
		next, more, refused := keys.Again(ctx, &f.Outcome, f.fault, f.unsent)
		switch {
		case !more || refusedByGuard(ctx, refused):
			return p.t.final(f)
		case refused != nil: // the caller's context ended
			drain(f.resp)
			return nil, refused
		}
		drain(f.resp)
		permit = next
		if send, err = again(req, permit.Abandon); err != nil {
			return nil, err
		}
	}
}

// send sends one attempt, which is the request orig, with the key of permit. The permit is released as by Transport.send.
func (p *PoolTransport) send(keys *limiter.Rotation, req, orig *http.Request, permit *limiter.KeyPermit, began time.Time) (*http.Response, *failed) {
	kept := *permit
	resp, f := p.t.send(p.sign(req, kept.Secret()), orig, &held{keyed: &kept}, keys, began)
	if resp != nil {
		resp.Request = orig // the copy has the key
	} else if f.resp != nil {
		f.resp.Request = orig
	}
	return resp, f
}

// sign returns a copy of the request with the key.
func (p *PoolTransport) sign(req *http.Request, key limiter.Secret) *http.Request {
	c := *req
	c.Header = req.Header.Clone()
	if c.Header == nil {
		c.Header = http.Header{}
	}
	for name := range c.Header { // what the caller set, also where it did not spell the name as http.Header does
		if strings.EqualFold(name, p.cfg.Header) {
			delete(c.Header, name)
		}
	}
	c.Header[p.cfg.Header] = []string{p.cfg.Prefix + key.Reveal()}
	return &c
}

// CloseIdleConnections closes the idle connections of the base, for http.Client.CloseIdleConnections.
func (p *PoolTransport) CloseIdleConnections() { p.t.CloseIdleConnections() }

// allowed reports whether a key may be sent with the request. The client follows redirects by requests that
// come here like any other, and whoever answers may redirect to himself.
func (p *PoolTransport) allowed(req *http.Request) error {
	if req.URL == nil {
		return errors.New("httplimit: the request has no URL")
	}
	if p.cfg.Host != "" && !strings.EqualFold(req.URL.Host, p.cfg.Host) {
		return fmt.Errorf("%w: pool %s is for %q, the request is for %q", ErrForeignHost, p.pool.Name(), p.cfg.Host, req.URL.Host)
	}
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	if first.URL == nil || first == req {
		return nil
	}
	if !strings.EqualFold(first.URL.Host, req.URL.Host) || first.URL.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("%w: %s://%s redirects to %s://%s", ErrForeignHost, first.URL.Scheme, first.URL.Host, req.URL.Scheme, req.URL.Host)
	}
	return nil
}
