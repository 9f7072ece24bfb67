// Package record is a small reverse proxy that writes down what passes: when each request came, how many tokens it took, and what
// became of it, in the format of package trace.
//
// It writes no body, no path, no header field but those about limits, and no credential: keys are "key-1", "key-2" and so on, in the
// order in which they were first seen. What a body says of tokens is read as it passes and forgotten.
package record

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/trace"
)

// Proxy is a reverse proxy that records. It may be used by any number of goroutines.
type Proxy struct {
	proxy *httputil.ReverseProxy
	began time.Time

	mu      sync.Mutex
	out     io.Writer
	err     error // of out, the first
	rows    int64
	refused int64
	open    int
	tokens  float64 // of the prompts of which an answer told
	bytes   float64 // of their requests
	keys    map[[sha256.Size]byte]string
}

// maxKeys bounds how many keys are told apart.
const maxKeys = 10_000

// New returns a proxy to target that writes to out, a line for each request when it has ended; so lines are in the order of
// the ends (see trace.Options.Sort). When a line cannot be written, an out that is a file is left with those before it. A nil base is a transport of its own.
func New(target *url.URL, out io.Writer, base http.RoundTripper) *Proxy {
	p := &Proxy{began: time.Now(), out: out, keys: map[[sha256.Size]byte]string{}}
	if base == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = 256
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second} // else a connection that leads nowhere takes all requests
		base = t
	}
	p.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			// The upstream must answer in plain text, so that its tokens can be read; the transport compresses by itself.
			r.Out.Header.Del("Accept-Encoding")
		},
		Transport:     &wire{base: base, proxy: p},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, context.Canceled) {
				http.Error(w, "simulate record: the upstream does not answer: "+err.Error(), http.StatusBadGateway)
			}
		},
	}
	return p
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) {
		defer breakOff(w)
	}
	p.proxy.ServeHTTP(w, r)
}

// breakOff resets the connection of an answer that was cut: to a client of HTTP/1.0 the orderly end of a connection is that of the answer (RFC 9112, 8).
func breakOff(w http.ResponseWriter) {
	cut := recover()
	if cut == nil {
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.Flush() // what came tells that the call was made
	if conn, _, err := rc.Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = conn.Close()
	}
	panic(cut)
}

// Counts returns how many requests were recorded, how many of them were refused with 429, and how many are under way; the
// error is that of the first line that could not be written.
func (p *Proxy) Counts() (rows, refused int64, open int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rows, p.refused, p.open, p.err
}

// maxText is how much of a refusal is read, in bytes: what feedback.Parse looks at.
const maxText = 64 << 10

// key returns the label of a request's credential.
func (p *Proxy) key(r *http.Request) string {
	h := r.Header
	secret := h.Get("X-Api-Key")
	for _, name := range []string{"Api-Key", "X-Goog-Api-Key", "Authorization"} {
		if secret == "" {
			secret = h.Get(name)
		}
	}
	if secret == "" {
		secret = r.URL.Query().Get("key") // Gemini
	}
	if secret == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(secret))
	p.mu.Lock()
	defer p.mu.Unlock()
	label, ok := p.keys[sum]
	if !ok {
		if len(p.keys) >= maxKeys {
			return "others"
		}
		label = fmt.Sprintf("key-%d", len(p.keys)+1)
		p.keys[sum] = label
	}
	return label
}

// wire is where requests pass.
type wire struct {
	base  http.RoundTripper
	proxy *Proxy
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	p := w.proxy
	v := &visit{proxy: p, row: trace.Row{At: time.Since(p.began), Key: p.key(req), Seen: true, RetryAfter: -1}}
	v.row.Sent = v.row.At
	p.mu.Lock()
	p.open++
	p.mu.Unlock()
	if req.Body != nil && req.Body != http.NoBody {
		req = req.WithContext(req.Context()) // a copy: it is not ours
		req.Body = &counted{ReadCloser: req.Body, n: &v.sent}
	}
	resp, err := w.base.RoundTrip(req)
	if err != nil {
		v.end()
		return nil, err
	}
	v.row.Status = resp.StatusCode
	v.row.Header = limits(resp.Header)
	if resp.StatusCode == http.StatusSwitchingProtocols { // what follows is no answer
		v.end()
		return resp, nil
	}
	v.watch = feedback.NewWatcher(resp.Body, feedback.WatchConfig{StreamConfig: feedback.StreamConfig{Status: resp.StatusCode, Header: resp.Header}})
	v.header = resp.Header
	resp.Body = v
	return resp, nil
}

// counted counts the bytes of a request's body.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// visit is one request that passes; it is the body of its answer.
type visit struct {
	proxy  *Proxy
	row    trace.Row
	sent   atomic.Int64 // bytes of the request's body
	watch  *feedback.Watcher
	header http.Header
	text   []byte // of a refusal, the beginning, which may name a delay
	whole  bool   // the body was read to its end
	once   sync.Once
}

// Read implements io.Reader.
func (v *visit) Read(b []byte) (int, error) {
	n, err := v.watch.Read(b)
	if n > 0 && v.row.First == 0 {
		v.row.First = time.Since(v.proxy.began)
	}
	if v.row.Status >= 400 {
		v.text = append(v.text, b[:min(n, maxText-len(v.text))]...)
	}
	if err != nil {
		v.whole = err == io.EOF
		v.end()
	}
	return n, err
}

// Close implements io.Closer.
func (v *visit) Close() error {
	err := v.watch.Close()
	v.end()
	return err
}

// end writes the request down, once. A success that was cut off, by the caller or the upstream, or that has an error in its body, is none.
func (v *visit) end() {
	v.once.Do(func() {
		r := &v.row
		r.End = min(time.Since(v.proxy.began), r.At+trace.MaxLatency) // no trace has a longer one
		r.First = min(r.First, r.End)
		if v.watch != nil {
			report := v.watch.Report()
			if u := report.Usage; u.Known {
				r.In, r.Out, r.Cached = bounded(u.Input), bounded(u.Output), min(bounded(u.CachedInput), bounded(u.Input))
			}
			s := feedback.Parse(feedback.Answer{Status: r.Status, Header: v.header, Body: v.text, Now: time.Now()})
			if s.HasRetryAfter && s.RetryAfter >= 0 && s.RetryAfter <= 31*24*time.Hour {
				r.RetryAfter = s.RetryAfter
			}
			if r.Status < 400 && (report.Refused || !v.whole && !report.Complete) {
				r.Status = 0 // what there is of it is no answer, and took no answer's time
			}
		}
		v.proxy.write(r, v.sent.Load())
	})
}

func bounded(n int64) int64 { return min(max(n, 0), trace.MaxTokens) }

// prompt returns the tokens of a request of so many bytes, of which its answer told in or nothing: then it has as many for a byte as those of which one
// did, so that refused prompts are no longer than others; until there are any, one for four. The caller holds mu.
func (p *Proxy) prompt(in, sent int64) int64 {
	switch {
	case sent <= 0:
	case in > 0:
		p.tokens, p.bytes = p.tokens+float64(in), p.bytes+float64(sent)
	case p.bytes > 0:
		return bounded(int64(max(1, math.Round(float64(sent)*p.tokens/p.bytes))))
	default:
		return bounded(max(1, sent/4))
	}
	return in
}

// write writes a row, of a request of so many bytes.
func (p *Proxy) write(r *trace.Row, sent int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.In = p.prompt(r.In, sent)
	p.open--
	p.rows++
	if r.Status == http.StatusTooManyRequests {
		p.refused++
	}
	if p.err != nil {
		return
	}
	var n int
	if n, p.err = p.out.Write(r.Append(nil)); p.err == nil {
		return
	}
	if f, ok := p.out.(interface {
		io.Seeker
		Truncate(size int64) error
	}); ok && n > 0 { // half a line would make the rest unreadable
		if end, err := f.Seek(0, io.SeekCurrent); err == nil { // which is not the sum of what was written, when somebody shortened the file
			_ = f.Truncate(end - int64(n))
		}
	}
}

// limits returns the fields of a header that are about limits, in lower case.
func limits(h http.Header) map[string]string {
	var out map[string]string
	for name, values := range h {
		name = strings.ToLower(name)
		switch {
		case name == "retry-after", name == "retry-after-ms", strings.HasPrefix(name, "x-ratelimit-"), strings.HasPrefix(name, "anthropic-ratelimit-"),
			strings.HasPrefix(name, "ratelimit"), strings.HasPrefix(name, "x-rate-limit-"):
		default:
			continue
		}
		if len(values) > 0 && len(values[0]) <= 200 {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = values[0]
		}
	}
	return out
}
