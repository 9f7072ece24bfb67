package proxy

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/dialect"
)

// out is what a caller gets: an answer, a refusal, or, while it waits for a stream, events that say nothing.
type out struct {
	w       http.ResponseWriter
	rc      *http.ResponseController
	dialect dialect.Dialect
	stall   time.Duration // how long the caller may take nothing
	armed   time.Time     // when the deadline of writes was set last
	old     bool          // the caller speaks HTTP/1.0
	perCall bool          // the deadline ends the call, not a write, as over HTTP/2; so it is there while something is written only
	told    bool          // the caller was told that a stream was cut
	asked   string        // the caller's own id of the call
	frame   bool          // what was written of a stream may end within a frame

	// mu is held by the timer and by who answers; ResponseWriters are for one goroutine.
	mu     sync.Mutex
	timer  *time.Timer // nil when the caller does not wait for a stream
	every  time.Duration
	begun  bool         // a status of 200 and a keep-alive were sent
	plain  *atomic.Bool // is set with begun: the answer must come without an encoding
	ours   bool         // the answer has the writer now
	status int          // what was sent; 0 is nothing
	sent   int64
	first  time.Time // when the answer began
	id     string    // the call's id, when what the caller was told is the gateway's own
	code   string    // what the upstream refused with, where the status does not tell, as the stream had begun
	notes  [][2]string
}

// note adds a field of the gateway's own to the answer.
func (o *out) note(field, value string) { o.notes = append(o.notes, [2]string{field, value}) }

// noted sets the gateway's own fields.
func (o *out) noted(h http.Header) {
	for _, n := range o.notes {
		h[n[0]] = []string{n[1]}
	}
}

// newOut returns an out for the writer of a request's answer, that keeps a caller alive who waits for a stream, when every is positive.
func newOut(w http.ResponseWriter, r *http.Request, d dialect.Dialect, stall, every time.Duration, plain *atomic.Bool) *out {
	o := &out{w: w, rc: http.NewResponseController(w), dialect: d, stall: stall, every: every, plain: plain, perCall: r.ProtoMajor > 1, old: !r.ProtoAtLeast(1, 1),
		asked: r.Header.Get(requestID)}
	if every > 0 {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.timer = time.AfterFunc(every, o.beat)
	}
	return o
}

// requestID is the field in which callers, proxies before the gateway and most upstreams have a call's id.
const requestID = "X-Request-Id"

// longestID is how long an id may be, in bytes.
const longestID = 128

// identify gives an answer that is the gateway's own an id, by which its line in the log is found: the caller's, or one of its own. It needs the lock, or the
// writer.
func (o *out) identify(h http.Header) {
	o.id = o.asked
	if o.id == "" || len(o.id) > longestID || strings.ContainsFunc(o.id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		o.id = fmt.Sprintf("fb_%016x%016x", rand.Uint64(), rand.Uint64())
	}
	field := requestID
	if o.dialect == dialect.Anthropic {
		field = "Request-Id" // which its SDKs read
	}
	h.Set(field, o.id)
}

// upstreamID returns the id that an upstream gave a call.
func upstreamID(h http.Header) string {
	for _, field := range []string{requestID, "Request-Id"} {
		if id := h.Get(field); id != "" {
			return strings.ToValidUTF8(id[:min(len(id), longestID)], "")
		}
	}
	return ""
}

// beat sends a keep-alive.
func (o *out) beat() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ours {
		return
	}
	if !o.begun {
		o.begun, o.status = true, http.StatusOK
		o.plain.Store(true)
		h := o.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		o.identify(h)
		o.w.WriteHeader(http.StatusOK)
	}
	if o.write(o.dialect.KeepAlive()) == nil && o.flush() == nil {
		o.timer.Reset(o.every)
	} // else the caller has left, and the server says so
}

// promised reports whether the stream has begun, so that its answer must come without an encoding.
func (o *out) promised() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.begun
}

// promise has plain be set when the stream has begun, and at once when it has.
func (o *out) promise(plain *atomic.Bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.plain = plain; o.begun {
		plain.Store(true)
	}
}

// early hands on what comes before the answer: status 102 or 103, which has a header only. It may be called by any goroutine.
func (o *out) early(code int, from http.Header) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ours || o.begun || code == http.StatusContinue || code == http.StatusSwitchingProtocols {
		return
	}
	h := o.w.Header()
	copyHeader(h, from)
	o.arm()
	o.w.WriteHeader(code)
	clear(h) // nothing of the answer is in it yet
	o.disarm()
}

// take ends the keep-alives; it reports whether the stream has begun.
func (o *out) take() (begun bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ours = true
	if o.timer != nil {
		o.timer.Stop()
	}
	return o.begun
}

// write writes b within the time that the caller may take nothing.
func (o *out) write(b []byte) error {
	o.arm()
	n, err := o.w.Write(b)
	o.sent += int64(n)
	o.disarm()
	return err
}

// flush sends what was written, within the same time.
func (o *out) flush() error {
	if !o.perCall {
		return o.rc.Flush() // write has just set the deadline
	}
	o.arm()
	defer o.disarm()
	return o.rc.Flush()
}

// arm sets the deadline of writes.
func (o *out) arm() {
	if now := time.Now(); o.perCall || now.Sub(o.armed) > o.stall/4 {
		o.armed = now
		_ = o.rc.SetWriteDeadline(now.Add(o.stall)) // not every ResponseWriter of a test has one
	}
}

// disarm lets time pass in which nothing is written.
func (o *out) disarm() {
	if o.perCall {
		_ = o.rc.SetWriteDeadline(time.Time{})
	}
}

// refuse tells the caller that the call failed.
func (o *out) refuse(e *dialect.Error) {
	if o.take() {
		_ = o.write(o.dialect.Event(e))
		_ = o.flush()
		return
	}
	body := o.dialect.Body(e)
	h := o.w.Header()
	e.Header(h)
	o.identify(h)
	o.noted(h)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	o.status = e.Kind.Status()
	o.w.WriteHeader(o.status)
	_ = o.write(body)
}

// An upstreamError is a failure to read an answer that had begun.
type upstreamError struct{ err error }

func (e *upstreamError) Error() string { return e.err.Error() }
func (e *upstreamError) Unwrap() error { return e.err }

// answer hands an answer on. The error is an *upstreamError when its body failed, and else the caller's connection's.
func (o *out) answer(resp *http.Response) error {
	o.first = time.Now()
	stream := isStream(resp.Header)
	if o.take() {
		return o.late(resp, stream)
	}
	h := o.w.Header()
	copyHeader(h, resp.Header)
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = nil // or the server guesses one
	}
	o.noted(h)
	announced := len(resp.Trailer)
	for k := range resp.Trailer {
		h.Add("Trailer", k)
	}
	o.status = resp.StatusCode
	o.w.WriteHeader(resp.StatusCode)
	plain := stream && resp.Header.Get("Content-Encoding") == ""
	body := io.Reader(resp.Body)
	if resp.Body != http.NoBody {
		w := &awaited{Reader: body, out: o}
		if plain && resp.ContentLength < 0 && resp.StatusCode < 300 {
			w.every = o.every
		}
		w.start(headAlone)
		defer w.come()
		body = w
	}
	var err error
	switch {
	case plain:
		err = o.events(body)
	default:
		err = o.bytes(body, resp.ContentLength < 0)
	}
	if err == nil {
		if len(resp.Trailer) > 0 {
			o.arm()
			_ = o.flush() // makes the body chunked, so that it can have a trailer
		}
		for k, vs := range resp.Trailer {
			if announced == 0 || len(resp.Trailer) != announced {
				k = http.TrailerPrefix + k
			}
			for _, v := range vs {
				h.Add(k, v)
			}
		}
	}
	return o.cut(err, plain)
}

// headAlone is how long the header of an answer waits for the beginning of its body, to be sent with it.
const headAlone = 50 * time.Millisecond

// awaited is the body of an answer. While nothing of it comes, the answer's header is sent without it, and then keep-alives are: some upstreams say at
// once that they will answer, and the caller, or a proxy before it, waits no longer for that than for an answer.
type awaited struct {
	io.Reader
	out   *out
	every time.Duration // how often the caller is told that it waits; 0 is never
	begun bool          // something has come, or the end; for the reader alone

	// With out's lock.
	timer *time.Timer // that calls send
	came  bool        // as begun: what follows is the reader's
	alone bool        // the header was sent
}

// start has something be sent when nothing comes within so long.
func (w *awaited) start(after time.Duration) {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	w.timer = time.AfterFunc(after, w.send)
}

// Read reads from the body.
func (w *awaited) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.come()
	return n, err
}

// come says that something of the body has come, or its end. It is called by whoever has the writer, and keeps it from being used here.
func (w *awaited) come() {
	if w.begun {
		return
	}
	w.begun = true
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	w.came = true
	w.timer.Stop()
}

// send sends the header, or a keep-alive after it.
func (w *awaited) send() {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	if w.came {
		return
	}
	w.out.arm()
	if w.alone && w.out.write(w.out.dialect.KeepAlive()) != nil || w.out.flush() != nil || w.every <= 0 {
		return // who writes the body finds out
	}
	w.alone = true
	w.timer.Reset(w.every)
}

// abort breaks the connection of a caller who must not take what came for the whole. It gets what came, so that it knows that its call was made.
func (o *out) abort() {
	o.arm()
	_ = o.flush()
	if o.old && len(o.w.Header()["Content-Length"]) == 0 {
		// The end of a connection is the end of such an answer, so it has to be another one (RFC 9112, 8).
		if conn, _, err := o.rc.Hijack(); err == nil {
			if s, ok := conn.(interface{ NetConn() net.Conn }); ok { // without the alert of an end
				conn = s.NetConn()
			}
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// cutKind returns what an answer that the upstream broke off is called.
func cutKind(err error) dialect.Kind {
	var s *stalledError
	if errors.As(err, &s) || errors.Is(err, errLongest) {
		return dialect.TimedOut
	}
	return dialect.BadGateway
}

// cut tells the caller of a stream that it is not complete, where that can be told.
func (o *out) cut(err error, events bool) error {
	var up *upstreamError
	if errors.As(err, &up) && events {
		o.told = true
		said := o.dialect.Event(&dialect.Error{Kind: cutKind(err), Message: "the answer was cut: " + up.Error()})
		if o.frame { // and not otherwise: Google's SDK for Go cannot read a frame that begins with the end of a line
			said = append([]byte("\n"), said...)
		}
		_ = o.write(said)
		_ = o.flush()
	}
	return err
}

// late hands on an answer to a caller whose stream has begun with keep-alives.
func (o *out) late(resp *http.Response, stream bool) error {
	w := &awaited{Reader: resp.Body, out: o, every: o.every, alone: true}
	w.start(o.every)
	defer w.come()
	body := io.Reader(w)
	switch e := strings.ToLower(resp.Header.Get("Content-Encoding")); e {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(body)
		if err != nil {
			return o.cut(&upstreamError{err}, true)
		}
		body = z
	case "deflate":
		// HTTP means zlib's form (RFC 9110, 8.4.1.2), but some send what it wraps.
		b := bufio.NewReader(body)
		if h, _ := b.Peek(2); len(h) == 2 && h[0]&15 == 8 && (int(h[0])<<8|int(h[1]))%31 == 0 {
			z, err := zlib.NewReader(b)
			if err != nil {
				return o.cut(&upstreamError{err}, true)
			}
			body = z
		} else {
			body = flate.NewReader(b)
		}
	default:
		w.come()
		return o.cut(&upstreamError{fmt.Errorf("it has the encoding %q, and the caller waited too long to be told of it; set keep_alive = \"0s\" for this route", e)}, true)
	}
	if stream && resp.StatusCode < 300 {
		return o.cut(o.events(body), true)
	}
	const most = 1 << 20
	all, err := io.ReadAll(io.LimitReader(body, most))
	if err != nil && (len(all) == 0 || resp.StatusCode < 300) { // what there is of a refusal says why
		return o.cut(&upstreamError{err}, true)
	}
	if err == nil && len(all) == most && resp.StatusCode < 300 && isJSON(resp.Header) {
		return o.cut(o.line(io.MultiReader(bytes.NewReader(all), body)), true)
	}
	if resp.StatusCode >= 300 {
		o.code = dialect.KindOf(resp.StatusCode).Code()
	}
	if err := o.write(o.dialect.Wrap(resp.StatusCode, all)); err != nil {
		return err
	}
	return o.flush()
}

// line copies a body that is JSON as one event, as Wrap makes it, but as it comes: a picture is too large to be kept. Line ends are space in
// JSON, and would end the line of data.
func (o *out) line(body io.Reader) error {
	o.frame = true
	if err := o.write([]byte("data: ")); err != nil {
		return err
	}
	p := large.Get().(*[]byte)
	defer large.Put(p)
	for {
		n, err := body.Read(*p)
		for i, b := range (*p)[:n] {
			if b == '\n' || b == '\r' {
				(*p)[i] = ' '
			}
		}
		if n > 0 {
			if werr := o.write((*p)[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF:
			if werr := o.write([]byte("\n\n")); werr != nil {
				return werr
			}
			return o.flush()
		case err != nil:
			return &upstreamError{err}
		}
	}
}

// buffers are for copying. A stream holds one for as long as it lasts, so they are small.
var buffers = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// large are for bodies whose length is known.
var large = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// bytes copies a body as it comes.
func (o *out) bytes(body io.Reader, flush bool) error {
	pool := &large
	if flush {
		pool = &buffers
	}
	p := pool.Get().(*[]byte)
	defer pool.Put(p)
	for {
		n, err := body.Read(*p)
		if n > 0 {
			if werr := o.write((*p)[:n]); werr != nil {
				return werr
			}
			if flush {
				if werr := o.flush(); werr != nil {
					return werr
				}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &upstreamError{err}
		}
	}
}

// longestLine is how much of a line is held back until its end comes.
const longestLine = 64 << 10

// usable returns how much of a stream of events a reader can use: to the end of the last line, but for lines that only say what the next one is. An event
// that is cut after them has no data, which SDKs try to read.
func usable(b []byte) int {
	whole := bytes.LastIndexAny(b, "\n\r") + 1
	for whole > 0 {
		line := bytes.TrimSuffix(b[:whole-1], []byte("\r"))
		if b[whole-1] == '\r' {
			line = b[:whole-1]
		}
		begin := bytes.LastIndexAny(line, "\n\r") + 1
		if line = line[begin:]; !bytes.HasPrefix(line, []byte("event:")) && !bytes.HasPrefix(line, []byte("id:")) {
			break
		}
		whole = begin
	}
	return whole
}

// events copies a stream of events as it comes, but for the beginning of a line whose end has not come, and what is no use without it: no reader can use it,
// and if the stream is cut there, none must take it for the whole.
func (o *out) events(body io.Reader) error {
	p := buffers.Get().(*[]byte)
	defer buffers.Put(p)
	buf, held := *p, 0
	for {
		n, err := body.Read(buf[held:])
		if n > 0 {
			all := buf[:held+n]
			whole := 0
			if bytes.ContainsAny(all[held:], "\n\r") {
				whole = usable(all)
			}
			switch {
			case err == io.EOF, whole == 0 && len(all) >= longestLine:
				whole = len(all)
			case whole == 0 && len(all) == len(buf):
				buf = append(make([]byte, 0, 2*len(buf)), all...) // not the pool's
				buf = buf[:cap(buf)]
			}
			if whole > 0 {
				o.frame = !bytes.HasSuffix(all[:whole], []byte("\n\n")) && !bytes.HasSuffix(all[:whole], []byte("\r\n\r\n"))
				if werr := o.write(all[:whole]); werr != nil {
					return werr
				}
				if werr := o.flush(); werr != nil {
					return werr
				}
			}
			held = copy(buf, all[whole:])
		}
		if err == io.EOF {
			if held > 0 {
				if werr := o.write(buf[:held]); werr != nil {
					return werr
				}
			}
			return nil
		}
		if err != nil {
			return &upstreamError{err}
		}
	}
}

// isStream reports whether a body is a stream of events.
func isStream(h http.Header) bool {
	return strings.HasPrefix(strings.ToLower(h.Get("Content-Type")), "text/event-stream")
}
