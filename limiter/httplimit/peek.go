package httplimit

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// peekMost is how much of a refusal's body is read to see what it means; feedback.Parse
	// looks at no more.
	peekMost = 64 << 10
	// peekTime is how long that may take. An upstream that sends a refusal and then stalls must
	// not keep the permit; the caller then gets what came.
	peekTime = 5 * time.Second
)

// ErrLetGo is the error of reading on in a large refusal that was about to be followed by another attempt: its
// connection was given up, and then the guard refused the attempt.
var ErrLetGo = errors.New("httplimit: the rest of the answer was let go for another attempt")

var errStalled = errors.New("httplimit: the refusal's body stalled")

// peek returns the beginning of an answer's body, decompressed, and leaves the body as if it had
// not been read. A body that ended leaves its connection.
func peek(ctx context.Context, resp *http.Response, within time.Duration) []byte {
	t := &tap{body: resp.Body, done: make(chan struct{})}
	// A body that is not net/http's may ignore its Close, so nobody waits for its Read.
	go t.run()
	stop := time.NewTimer(within)
	defer stop.Stop()
	var gone error
	select {
	case <-t.done:
	case <-stop.C:
		gone = errStalled
	case <-ctx.Done():
		gone = context.Cause(ctx)
	}
	t.mu.Lock()
	sent, err := t.sent, t.err
	t.mu.Unlock()
	// The caller reads the same bytes, and then the rest or the same error.
	p := &peeked{prefix: bytes.NewReader(sent), err: err}
	switch {
	case err == nil && gone == nil: // there is more
		p.rest = t.body
	case err == nil:
		p.err = gone
		go func() { _ = t.body.Close() }()
	default:
		_ = t.body.Close()
	}
	resp.Body = p
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		if z, err := gzip.NewReader(bytes.NewReader(sent)); err == nil {
			plain, _ := io.ReadAll(io.LimitReader(z, peekMost)) // cut short is fine
			return plain
		}
	}
	return sent
}

// tap reads the beginning of a body. Bytes of sent do not change once they are there.
type tap struct {
	body io.ReadCloser
	done chan struct{}

	mu   sync.Mutex
	sent []byte
	err  error // how the body ended; nil when there is more
}

// run reads until the body ends or enough is there.
func (t *tap) run() {
	defer close(t.done)
	defer func() {
		// On a goroutine of its own a panic of the base's body would end the program, whatever the caller recovers from.
		if v := recover(); v != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.err = fmt.Errorf("httplimit: reading the body of a refusal panicked: %v", v)
		}
	}()
	buf := make([]byte, 4<<10)
	for n := 0; n < peekMost; {
		m, err := t.body.Read(buf[:min(len(buf), peekMost-n)])
		n += m
		t.mu.Lock()
		t.sent, t.err = append(t.sent, buf[:m]...), err
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// peeked is a body of which the beginning was read before.
type peeked struct {
	prefix *bytes.Reader
	rest   io.ReadCloser // nil when err follows the prefix
	err    error
}

// Read reads the beginning again, and then the rest.
func (p *peeked) Read(b []byte) (int, error) {
	if p.prefix.Len() > 0 {
		return p.prefix.Read(b)
	}
	if p.rest == nil {
		return 0, p.err
	}
	return p.rest.Read(b)
}

// Close closes the rest.
func (p *peeked) Close() error {
	if p.rest == nil {
		return nil
	}
	return p.rest.Close()
}

// letGo takes an answer, which may be nil, from its connection, so that it does not keep others from connecting while it
// waits for the next attempt. A stream that begins with a refusal most often ends with it, and leaves its connection then.
func letGo(ctx context.Context, resp *http.Response) {
	if resp == nil {
		return
	}
	_, stream := resp.Body.(*opening)
	if stream {
		_ = peek(ctx, resp, openingTime)
	}
	p, ok := resp.Body.(*peeked)
	switch {
	case ok && p.rest != nil:
		_ = p.rest.Close()
		p.rest, p.err = nil, ErrLetGo
	case stream && p.err == errStalled:
		p.err = ErrLetGo
	}
}
