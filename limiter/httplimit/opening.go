package httplimit

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// openingTime is how long the first event of a stream, or the rest of a short answer in JSON, is waited for before the answer is handed on. An upstream that answers 200 and refuses all the same
// says so at once; one that says nothing for so long is at work.
const openingTime = 250 * time.Millisecond

// opening is the body of an answer whose beginning is read before it is handed on. It is read as any body is.
type opening struct {
	body io.ReadCloser
	read chan struct{} // has something when the Read that is under way has ended
	n    int           // what that Read returned
	err  error         // and also what follows what is in buf

	// Of whoever reads: the Transport, and then the caller.
	under    bool    // a Read is under way, into buf[to:]
	pooled   *[]byte // that buf is; nil for none
	buf      []byte
	from, to int // of buf, what was read and not handed on

	// A Read sets the trailer at the end, so a caller who has the answer while one is under way has a copy of it.
	below, above *http.Response
}

// openings are for beginnings.
var openings = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// opens reports whether it matters how resp begins, which is looked through as l says: it may be a refusal, and the request can be sent again, or whoever is
// below wants to know. To wait for an answer in JSON costs more than all else that is done for a call, so without somebody below it is done once there was a
// refusal in one.
func (t *Transport) opens(req *http.Request, resp *http.Response, l look, keys *limiter.Rotation) bool {
	_, tells := resp.Body.(refusable)
	switch {
	case l == lookEvents:
	case l == lookSieve && resp.ContentLength <= smallJSON && (tells || t.habits.inside.Load()):
	default:
		return false
	}
	if e := resp.Header["Content-Encoding"]; empty(resp) || resp.StatusCode == http.StatusSwitchingProtocols || encoded(e) && !(l == lookSieve && gzipped(e)) ||
		!tells && !(repeatable(req) && (keys != nil || t.guard.Retries())) {
		return false
	}
	// A caller who has no more time than that has none to lose.
	deadline, limited := req.Context().Deadline()
	return !limited || time.Until(deadline) > openingTime
}

// refusable is a base's body that is told when the answer is a refusal all the same.
type refusable interface{ Refused(feedback.Class) }

// smallJSON is how long an answer in JSON may be that is waited for to see whether it is a refusal, and how much is read of one that does not say, in bytes.
const smallJSON = 4 << 10

// first reads how an answer begins: a stream of events, or one JSON value.
type first struct {
	config feedback.StreamConfig
	stream *feedback.Stream // nil until the sieve has found something
	sieve  feedback.Sieve
	packed bool // by gzip: it is read when all of it is there
	plain  []byte
}

// take is scan of the last n bytes of what there is, in the form that it was sent in.
func (f *first) take(all []byte, n int, now time.Time, ended bool) (more bool) {
	if !f.packed {
		f.plain = all
		return f.scan(all[len(all)-n:], now, ended)
	}
	if ended {
		f.plain = unpacked(all)
		f.scan(f.plain, now, true)
	}
	return !ended
}

// scan reads the next piece, and reports whether it takes more of the answer to know what it is; the last one has ended true.
func (f *first) scan(p []byte, now time.Time, ended bool) (more bool) {
	if f.stream == nil {
		n, found := f.sieve.Scan(p)
		if !found {
			return !f.sieve.Over() && !ended
		}
		f.stream, p = f.sieve.Stream(f.config, now), p[n:]
	}
	f.stream.Scan(p, now)
	if ended {
		f.stream.Finish(now)
	}
	if f.stream.Began() {
		return false
	}
	r := f.stream.Report()
	return r.Events == 0 && !r.Refused && !r.Complete && !ended
}

// refusal returns what the answer refuses; ok is false when that is nothing, or when there was work for it, which is paid for.
func (f *first) refusal() (s feedback.Signal, ok bool) {
	if f.stream == nil || f.stream.Began() {
		return s, false
	}
	r := f.stream.Report()
	return r.Signal, r.Refused && r.ContentEvents == 0 && r.Usage.Input+r.Usage.Output+r.Usage.Total == 0
}

// holds reports whether an answer in JSON has more in it than a refusal: a result beside it, what became of each of several things, or the state of something
// that was asked for earlier. To ask for that again would do again what was done, or find the same, or nothing with another key.
func holds(answer []byte) bool {
	if b := bytes.TrimSpace(answer); len(b) > 0 && b[0] == '[' {
		var all []json.RawMessage
		if json.Unmarshal(b, &all) != nil || len(all) != 1 {
			return true
		}
		answer = all[0]
	}
	var a struct {
		Choices, Output, Candidates, Content, Data, Result, Results, Predictions, Embeddings, Vectors any
		ID, Name, Object, Status, Done                                                                any
	}
	if json.Unmarshal(answer, &a) != nil {
		return true
	}
	for _, v := range [...]any{a.Choices, a.Output, a.Candidates, a.Content, a.Data, a.Result, a.Results, a.Predictions, a.Embeddings, a.Vectors} {
		switch v := v.(type) {
		case nil:
		case string:
			if v != "" {
				return true
			}
		case []any:
			if len(v) > 0 {
				return true
			}
		case map[string]any:
			for _, m := range v {
				if m != nil {
					return true
				}
			}
		default:
			return true
		}
	}
	if _, told := a.Status.(string); !told && a.Done != true {
		return false
	}
	for _, v := range [...]any{a.ID, a.Name, a.Object} {
		if name, ok := v.(string); ok && name != "" {
			return true
		}
	}
	return false
}

// open waits for the first event of a stream, or for a short answer in JSON, to a request that began well, and returns what it refuses; nil when it
// is none, or does not come at once. The answer that it returns takes the place of resp, and has a body as if it had not been read. more is for a stream of
// events, and gets the Stream that reads it, and that has read so much of it.
func (t *Transport) open(ctx context.Context, resp *http.Response, more *told) (*http.Response, *failed) {
	f := first{config: t.streamConfig(resp, more), sieve: feedback.Sieve{Usage: true}}
	most := smallJSON
	f.packed = more == nil && gzipped(resp.Header["Content-Encoding"])
	if more != nil {
		f.stream = feedback.NewStream(f.config, time.Now())
		more.stream, most = f.stream, peekMost
	}
	before := *resp
	before.Trailer = maps.Clone(resp.Trailer)
	p := openings.Get().(*[]byte)
	o := &opening{body: resp.Body, read: make(chan struct{}, 1), pooled: p, buf: *p}
	resp.Body = o
	timer := time.NewTimer(openingTime)
	defer timer.Stop()
	for wants := true; wants && o.err == nil && o.to < most; {
		o.readOn()
		select {
		case <-o.read:
			o.came()
		case <-timer.C:
			return o.leave(resp, before), nil
		case <-ctx.Done():
			return o.leave(resp, before), nil
		}
		var now time.Time
		if more != nil && !more.start.IsZero() {
			now = time.Now()
		}
		wants = f.take(o.buf[:o.to], o.n, now, o.err != nil)
		if more != nil {
			more.ahead = o.to
		}
	}
	refusal, ok := f.refusal()
	if !ok {
		return resp, nil
	}
	fault := faultInside(&refusal)
	if !matters(&refusal, fault) || more == nil && holds(f.plain) {
		return resp, nil
	}
	if u, ok := o.body.(refusable); ok {
		u.Refused(refusal.Class)
	}
	return resp, &failed{Outcome: limiter.OutcomeFrom(refusal), resp: resp, final: !refusal.Retryable, fault: fault}
}

// gzipped reports whether a body is packed by gzip and nothing else.
func gzipped(contentEncoding []string) bool {
	return len(contentEncoding) == 1 && (strings.EqualFold(contentEncoding[0], "gzip") || strings.EqualFold(contentEncoding[0], "x-gzip"))
}

// unpackers are for short answers.
var unpackers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// mostUnpacked is how long what is in a short answer may be, in bytes: a thousand times as much may be.
const mostUnpacked = 64 << 10

// unpacked returns what gzip packed; nil when that is not all there, or too much.
func unpacked(packed []byte) []byte {
	z := unpackers.Get().(*gzip.Reader)
	defer unpackers.Put(z)
	if z.Reset(bytes.NewReader(packed)) != nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(z, mostUnpacked+1))
	if err != nil || len(b) > mostUnpacked {
		return nil
	}
	return b
}

// matters reports whether another attempt, or another key, may change a refusal inside an answer.
func matters(s *feedback.Signal, fault limiter.KeyFault) bool {
	return s.Class == feedback.Throttled || s.Class == feedback.Overloaded || fault != limiter.KeyFine
}

// readOn begins to read. As for tap, a body's Read may not end.
func (o *opening) readOn() {
	if len(o.buf)-o.to < 1<<10 {
		o.buf, o.pooled = append(make([]byte, 0, 2*len(o.buf)), o.buf[:o.to]...), nil
		o.buf = o.buf[:cap(o.buf)]
	}
	o.n, o.under = 0, true
	go o.run()
}

// run reads once.
func (o *opening) run() {
	defer func() {
		// On a goroutine of its own a panic of the base's body would end the program, whatever the caller recovers from.
		if v := recover(); v != nil {
			o.n, o.err = 0, fmt.Errorf("httplimit: reading the beginning of a stream panicked: %v", v)
		}
		o.read <- struct{}{}
	}()
	p := o.buf[o.to:]
	n, err := o.body.Read(p)
	o.n, o.err = len(p[:n]), err
}

// came takes what a Read returned that was under way.
func (o *opening) came() {
	o.under = false
	o.to += o.n
}

// leave returns the answer for a caller who has it while a Read is under way; before is what it was before that.
func (o *opening) leave(resp *http.Response, before http.Response) *http.Response {
	before.Body = o
	o.below, o.above = resp, &before
	return &before
}

// Read reads the beginning, and then the rest.
func (o *opening) Read(p []byte) (n int, err error) {
	if o.from == o.to && o.under {
		<-o.read
		o.came()
	}
	switch {
	case o.from < o.to:
		n = copy(p, o.buf[o.from:o.to])
		if o.from += n; o.from < o.to || o.under {
			return n, nil
		}
		if o.pooled != nil {
			openings.Put(o.pooled)
		}
		o.pooled, o.buf, o.from, o.to = nil, nil, 0, 0
		return n, nil
	case o.err != nil:
		err = o.err
	default:
		n, err = o.body.Read(p)
	}
	if err != nil && o.above != nil {
		o.above.Trailer = o.below.Trailer
	}
	return n, err
}

// Close closes the body, which ends the Read that is under way, too.
func (o *opening) Close() error { return o.body.Close() }
