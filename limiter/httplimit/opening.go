package httplimit

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// openingTime is how long the first event of a stream is waited for before the answer is handed on. An upstream that answers 200 and refuses all the same
// says so at once; one that says nothing for so long is at work.
const openingTime = 250 * time.Millisecond

// opening is the body of a stream whose beginning is read before it is handed on. It is read as any body is.
type opening struct {
	body io.ReadCloser
	read chan struct{} // closed when the beginning was read
	on   atomic.Bool   // the body was handed on, so no more than what is being read is read ahead

	// Of the goroutine that reads the beginning, until read is closed.
	sent   []byte
	err    error // that follows what was sent
	stream *feedback.Stream
}

// open waits for the first event of a stream, which is an answer to a request that began well, and returns what it refuses; nil when it is none, or does
// not come at once. The body of resp is left as if it had not been read.
func (t *Transport) open(ctx context.Context, resp *http.Response) *failed {
	if encoded(resp.Header["Content-Encoding"]) {
		return nil
	}
	o := &opening{body: resp.Body, read: make(chan struct{})}
	o.stream = feedback.NewStream((&body{t: t, resp: resp}).config(), time.Now())
	go o.run() // as for tap, a body's Read may not end
	timer := time.NewTimer(openingTime)
	defer timer.Stop()
	resp.Body = o
	select {
	case <-o.read:
	case <-timer.C:
		o.on.Store(true)
		return nil
	case <-ctx.Done():
		o.on.Store(true)
		return nil
	}
	r := o.stream.Report()
	if !r.Refused || r.ContentEvents > 0 || r.Usage.Known { // with usage, there was work that is paid for
		return nil
	}
	fault := faultInside(&r.Signal)
	if c := r.Signal.Class; c != feedback.Throttled && c != feedback.Overloaded && fault == limiter.KeyFine {
		return nil // nothing that another attempt, or another key, would change
	}
	if u, ok := o.body.(interface{ Refused() }); ok {
		u.Refused()
	}
	return &failed{Outcome: limiter.OutcomeFrom(r.Signal), resp: resp, final: !r.Signal.Retryable, fault: fault}
}

// run reads until there is an event, or what is no event.
func (o *opening) run() {
	defer close(o.read)
	defer func() {
		// On a goroutine of its own a panic of the base's body would end the program, whatever the caller recovers from.
		if v := recover(); v != nil {
			o.err = fmt.Errorf("httplimit: reading the beginning of a stream panicked: %v", v)
		}
	}()
	buf := make([]byte, 4<<10)
	for o.err == nil && !o.on.Load() && len(o.sent) < peekMost {
		var n int
		n, o.err = o.body.Read(buf)
		o.sent = append(o.sent, buf[:n]...)
		if o.stream.Scan(buf[:n], time.Now()); o.stream.Report().Events > 0 {
			return
		}
	}
	if o.err != nil {
		o.stream.Finish(time.Now())
	}
}

// Read reads the beginning, and then the rest.
func (o *opening) Read(p []byte) (int, error) {
	<-o.read
	switch {
	case len(o.sent) > 0:
		n := copy(p, o.sent)
		o.sent = o.sent[n:]
		return n, nil
	case o.err != nil:
		return 0, o.err
	}
	return o.body.Read(p)
}

// Close closes the body, which ends the reading of its beginning, too.
func (o *opening) Close() error { return o.body.Close() }
