package drain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/once"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// Upstream sends jobs. It may be used by any number of goroutines.
type Upstream interface {
	// Send sends a job once and returns what became of it, once all of its answer was read. It does not retry and does not wait
	// for a permit: the Runner has one. When ctx ends it returns promptly.
	Send(ctx context.Context, j *Job) Answer
}

// KeyUpstream is an Upstream that sends with a key that it is given: one of Config.Pool.
type KeyUpstream interface {
	Upstream
	// SendWith is Send with a key. What the answer says of the key is in Answer.Key.
	SendWith(ctx context.Context, j *Job, key limiter.Secret) Answer
}

// Answer is what became of sending a job.
type Answer struct {
	// Outcome is what the guard is to know.
	limiter.Outcome
	// Key is what the answer says of the key that the job was sent with.
	Key limiter.KeyFault
	// Status is the HTTP status; 0 when there was no answer.
	Status int
	// RequestID is the upstream's name for the request.
	RequestID string
	// Body is the answer's body, all of it unless TooLarge.
	Body []byte
	// Usage is what the answer says it used.
	Usage feedback.Usage
	// Retryable says that the same job may succeed later; it does not say that a repetition does no harm.
	Retryable bool
	// Unsent says that the upstream did nothing with the job.
	Unsent bool
	// Begun says that some of what the job asks for came before it failed, as in a stream: it was most likely paid for, whatever the
	// upstream says then.
	Begun bool
	// TooLarge says that the answer is larger than it may be; Body is its beginning.
	TooLarge bool
	// Err is why there is no answer, or not all of it.
	Err error
}

// HTTP is an Upstream over HTTP.
type HTTP struct {
	// BaseURL is where jobs go: their url is appended to its path. "https://api.openai.com" has no path; with one, such
	// as "https://example.com/openai", the jobs' paths go behind it.
	BaseURL string
	// Header holds fields that each request gets, such as Authorization. Content-Type is application/json unless it says
	// otherwise.
	Header http.Header
	// KeyHeader is the field for the key of SendWith, and KeyPrefix what stands before the key. Both empty means "Authorization" and
	// "Bearer ".
	KeyHeader, KeyPrefix string
	// Base sends; nil means a transport of its own with as many idle connections as calls are in flight. Redirects are not
	// followed, so that a key stays with its host.
	Base http.RoundTripper
	// Provider and Rules are as in httplimit.Config.
	Provider string
	Rules    *feedback.Rules
	// Timeout is how long one attempt may take, answer included (1 ms or more). Zero means 10 minutes.
	Timeout time.Duration
	// MaxAnswer is the largest answer, in bytes. Zero means 64 MiB. A larger one is a dead letter.
	MaxAnswer int64
	// IdempotencyKey sends the field Idempotency-Key with each job: its id and content as a hash, the same each time. With an
	// upstream that honours it, a job that is sent again after a crash is not done and paid for twice; the Runner's
	// Config.Idempotent then does no harm.
	IdempotencyKey bool
}

// NewHTTP checks h, fills in what is zero, and returns it.
func NewHTTP(h HTTP) (*HTTP, error) {
	u, err := url.Parse(h.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("drain: HTTP.BaseURL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf(`drain: HTTP.BaseURL is %q, must be like "https://api.openai.com"`, h.BaseURL)
	}
	if h.Timeout == 0 {
		h.Timeout = 10 * time.Minute
	}
	if h.MaxAnswer == 0 {
		h.MaxAnswer = 64 << 20
	}
	if h.Timeout < time.Millisecond {
		return nil, fmt.Errorf("drain: HTTP.Timeout is %v, must be 0 (default) or at least 1ms", h.Timeout)
	}
	if h.MaxAnswer < 1<<10 {
		return nil, fmt.Errorf("drain: HTTP.MaxAnswer is %d, must be 0 (default) or at least 1024 bytes", h.MaxAnswer)
	}
	if h.Base == nil {
		t := &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			DialContext:     (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		}
		if d, ok := http.DefaultTransport.(*http.Transport); ok { // a program may have put something else there, that traces or counts
			t = d.Clone()
		}
		t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1<<16
		// Else a connection whose other end is gone without a word takes all jobs, until the kernel gives it up after a quarter of an hour.
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
		h.Base = &once.Transport{Transport: t}
	}
	h.Header = h.Header.Clone()
	if h.Header == nil {
		h.Header = http.Header{}
	}
	if h.Header.Get("Content-Type") == "" {
		h.Header.Set("Content-Type", "application/json")
	}
	if h.KeyHeader == "" {
		h.KeyHeader = "Authorization"
		if h.KeyPrefix == "" {
			h.KeyPrefix = "Bearer "
		}
	}
	h.BaseURL = strings.TrimSuffix(h.BaseURL, "/")
	return &h, nil
}

// Send implements Upstream.
func (h *HTTP) Send(ctx context.Context, j *Job) Answer { return h.send(ctx, j, h.Header.Clone()) }

// SendWith implements KeyUpstream.
func (h *HTTP) SendWith(ctx context.Context, j *Job, key limiter.Secret) Answer {
	header := h.Header.Clone()
	header.Set(h.KeyHeader, h.KeyPrefix+key.Reveal())
	return h.send(ctx, j, header)
}

// send sends a job with a header, which it may change.
func (h *HTTP) send(ctx context.Context, j *Job, header http.Header) (a Answer) {
	attempt, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(attempt, j.Method, h.BaseURL+j.URL, bytes.NewReader(j.Body))
	if err != nil {
		a.Err, a.Class, a.Unsent = err, feedback.ClientError, true
		return a
	}
	req.Header = header
	if h.IdempotencyKey {
		req.Header.Set("Idempotency-Key", "flyball-"+IdempotencyKey(j))
	}
	start := time.Now()
	resp, err := h.Base.RoundTrip(req)
	if err != nil {
		return h.failed(ctx, err)
	}
	defer resp.Body.Close()
	first := time.Since(start)
	w := feedback.NewWatcher(resp.Body, feedback.WatchConfig{StreamConfig: feedback.StreamConfig{
		Status: resp.StatusCode, Header: resp.Header, Provider: h.Provider, Rules: h.Rules, Start: start,
	}})
	body, err := readAll(w, resp.ContentLength, h.MaxAnswer)
	a.Status, a.Body = resp.StatusCode, body
	a.RequestID = requestID(resp.Header)
	if err == errTooLarge {
		a.TooLarge = true
	} else if err != nil {
		f := h.failed(ctx, err)
		if resp.StatusCode < 400 {
			f.Status, f.Body, f.RequestID, f.Unsent = a.Status, a.Body, a.RequestID, false
			return f
		}
	}
	s := feedback.Parse(feedback.Answer{
		Status: resp.StatusCode, Header: resp.Header, Body: head(body, resp.StatusCode),
		Now: time.Now(), Provider: h.Provider, Rules: h.Rules,
	})
	r := w.Report()
	if s.Class == feedback.OK && r.Refused {
		windows := s.Windows
		s = r.Signal // an error inside an answer that began well
		a.Begun = r.ContentEvents > 0
		if len(s.Windows) == 0 {
			s.Windows = windows
		}
	}
	a.Outcome, a.Retryable, a.Usage = limiter.OutcomeFrom(s), s.Retryable, r.Usage
	a.Key = httplimit.KeyFault(resp.StatusCode, s.Class, body)
	if a.Class == feedback.OK && (a.Status < 200 || a.Status >= 300) {
		a.Class = feedback.ClientError // a redirect, which would take the key elsewhere
	}
	if a.Class == feedback.OK {
		a.FirstByte = first
		if d, ok := r.TimeToFirstToken(); ok {
			a.FirstByte = d
		}
		a.InputTokens, a.OutputTokens, a.CachedTokens = r.Usage.Input, r.Usage.Output, r.Usage.CachedInput
	}
	return a
}

// head is the part of a body that tells what it means: none of an answer that was served.
func head(body []byte, status int) []byte {
	if status < 400 {
		return nil
	}
	return body[:min(len(body), 64<<10)]
}

// failed returns what it means that a request ended without an answer.
func (h *HTTP) failed(ctx context.Context, err error) (a Answer) {
	s := feedback.FromError(ctx, err)
	a.Outcome, a.Retryable, a.Err, a.Unsent = limiter.OutcomeFrom(s), s.Retryable, err, unsent(err)
	if errors.Is(err, limiter.ErrRejected) && !errors.Is(err, context.Cause(ctx)) { // by a guard in Base
		a.Class, a.Unsent = feedback.Canceled, true
	}
	return a
}

// IdempotencyKey returns what names a job to an upstream: the hash of its id and content, in hexadecimal digits.
func IdempotencyKey(j *Job) string { return hash(j.ID, j.Hash.String(), nil).String() }

// requestID returns the upstream's name for a request, by the fields that the providers use.
func requestID(h http.Header) string {
	for _, name := range [...]string{"X-Request-Id", "Request-Id", "Apim-Request-Id", "X-Amzn-Requestid"} {
		if v := h.Get(name); v != "" {
			return v[:min(len(v), 256)]
		}
	}
	return ""
}

var errTooLarge = errors.New("drain: the answer is too large")

// readAll reads a body of a length that is told, or -1.
func readAll(r io.Reader, length, most int64) ([]byte, error) {
	if length > most {
		return nil, errTooLarge
	}
	size := int64(512)
	if length >= 0 {
		size = min(length+1, 1<<20) // a length is a claim
	}
	b := make([]byte, 0, size)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if int64(len(b)) > most {
			return b[:most], errTooLarge
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
	}
}

// unsent reports whether an error says that the upstream did nothing with the request: no connection was made, or it refused
// the stream, or ended the connection before it (RFC 9113, 8.7).
func unsent(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return true
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return true
	}
	text := err.Error()
	return text == "http2: Transport received Server's graceful shutdown GOAWAY" || strings.Contains(text, "stream error: stream ID ") && strings.Contains(text, "; REFUSED_STREAM") &&
		!strings.Contains(text, "GOAWAY")
}
