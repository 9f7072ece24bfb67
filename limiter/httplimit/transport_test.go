package httplimit

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// roundTripper is a base that a test writes.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer returns an answer as the net/http client gives it.
func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return &http.Response{
		StatusCode: status, Header: h, ContentLength: int64(len(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

func newTransport(t testing.TB, limit int, base http.RoundTripper, edit func(*limiter.Config)) *Transport {
	t.Helper()
	cfg := limiter.Config{Name: "test", Law: adaptive.NewFixed(limit), PauseJitter: -1, Seed: 1}
	if edit != nil {
		edit(&cfg)
	}
	g, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return New(base, g, Config{})
}

func get(t testing.TB, ctx context.Context, tr *Transport) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://upstream.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(req)
}

func wantInFlight(t testing.TB, tr *Transport, n int) {
	t.Helper()
	if got := tr.Guard().Stats().InFlight; got != n {
		t.Errorf("%d in flight, want %d", got, n)
	}
}

// "releases when the body is closed or the call fails"
func TestPermitLivesAsLongAsTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(200, "hello"), nil
		}), nil)
		ctx := context.Background()

		resp, err := get(t, ctx, tr)
		if err != nil {
			t.Fatal(err)
		}
		wantInFlight(t, tr, 1)
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		if _, err := get(t, short, tr); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second request while a body is open: %v, want it to wait", err)
		}
		_ = resp.Body.Close()
		_ = resp.Body.Close() // closing twice is allowed
		wantInFlight(t, tr, 0)

		resp, _ = get(t, ctx, tr)
		if b, err := io.ReadAll(resp.Body); string(b) != "hello" || err != nil {
			t.Errorf("body %q, %v", b, err)
		}
		wantInFlight(t, tr, 0)
		_ = resp.Body.Close()
		if n := tr.Guard().Stats().Counts.Outcomes[feedback.OK]; n != 2 {
			t.Errorf("%d calls ended well, want 2", n)
		}
	})
}

func TestFailedCallGivesThePermitBack(t *testing.T) {
	boom := errors.New("boom")
	tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) { return nil, boom }), func(c *limiter.Config) {
		c.Retry.MaxAttempts = 1
	})
	if _, err := get(t, context.Background(), tr); err != boom {
		t.Errorf("error %v, want the base's", err)
	}
	wantInFlight(t, tr, 0)
}

func TestPanicGivesThePermitBack(t *testing.T) {
	tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) { panic("boom") }), nil)
	func() {
		defer func() { _ = recover() }()
		_, _ = get(t, context.Background(), tr)
	}()
	wantInFlight(t, tr, 0)
}

// closeCounter is a request body that counts how often it is closed.
type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

// "RoundTrip must always close the body, including on errors" (net/http).
func TestRequestBodyIsClosedWhenNothingIsSent(t *testing.T) {
	tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
		t.Errorf("the request was sent")
		return nil, io.EOF
	}), nil)
	tr.Guard().Close()
	body := &closeCounter{Reader: strings.NewReader("x")}
	req, _ := http.NewRequest("POST", "http://upstream.test/", body)
	if _, err := tr.RoundTrip(req); !errors.Is(err, limiter.ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if body.closed != 1 {
		t.Errorf("body closed %d times, want once", body.closed)
	}
}

// "RoundTrip should not modify the request" (net/http).
func TestRequestIsLeftAsItIs(t *testing.T) {
	n := 0
	tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if string(b) != "payload" {
			t.Errorf("attempt %d sent %q", n, b)
		}
		if n++; n < 3 {
			return answer(429, "", "Retry-After", "0"), nil
		}
		return answer(200, "ok"), nil
	}), func(c *limiter.Config) { c.Retry.BaseDelay = time.Millisecond })
	req, _ := http.NewRequest("POST", "http://upstream.test/path?q=1", strings.NewReader("payload"))
	req.Header.Set("Authorization", "Bearer x")
	before := req.Clone(context.Background())
	body := req.Body
	resp, err := tr.RoundTrip(req)
	if err != nil || resp.StatusCode != 200 || n != 3 {
		t.Fatalf("%v, %v after %d attempts, want 200 after 3", resp, err, n)
	}
	_ = resp.Body.Close()
	if req.Body != body || !reflect.DeepEqual(req.Header, before.Header) || req.URL.String() != before.URL.String() || req.Method != before.Method {
		t.Errorf("the request was changed: %+v", req)
	}
}

func TestWhatIsSentAgain(t *testing.T) {
	unreadable := func(r *http.Request) { r.GetBody = nil }
	refusedDial := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, tt := range []struct {
		name     string
		method   string
		edit     func(*http.Request)
		first    func() (*http.Response, error)
		attempts int
		status   int
	}{
		{"a 429", "POST", nil, func() (*http.Response, error) { return answer(429, ""), nil }, 2, 200},
		{"a 503", "POST", nil, func() (*http.Response, error) { return answer(503, ""), nil }, 2, 200},
		{"a 429 whose request cannot be repeated", "POST", unreadable, func() (*http.Response, error) { return answer(429, ""), nil }, 1, 429},
		{"a 429 that says not to", "POST", nil, func() (*http.Response, error) { return answer(429, "", "X-Should-Retry", "false"), nil }, 1, 429},
		{"an empty account", "POST", nil, func() (*http.Response, error) {
			return answer(429, `{"error":{"code":"insufficient_quota"}}`), nil
		}, 1, 429},
		{"a 500 to a POST", "POST", nil, func() (*http.Response, error) { return answer(500, ""), nil }, 1, 500},
		{"a 500 to a GET", "GET", nil, func() (*http.Response, error) { return answer(500, ""), nil }, 2, 200},
		{"a 500 to a POST with a key", "POST", func(r *http.Request) { r.Header.Set("Idempotency-Key", "1") },
			func() (*http.Response, error) { return answer(500, ""), nil }, 2, 200},
		{"a 400", "GET", nil, func() (*http.Response, error) { return answer(400, ""), nil }, 1, 400},
		{"a dial that was refused", "POST", nil, func() (*http.Response, error) { return nil, refusedDial }, 2, 200},
		{"a pause that is too long", "POST", nil, func() (*http.Response, error) { return answer(429, "", "Retry-After", "86400"), nil }, 1, 429},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.Body != nil {
						_ = r.Body.Close()
					}
					if attempts++; attempts == 1 {
						return tt.first()
					}
					return answer(200, "ok"), nil
				}), nil)
				req, _ := http.NewRequest(tt.method, "http://upstream.test/", strings.NewReader("payload"))
				if tt.edit != nil {
					tt.edit(req)
				}
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatalf("error %v after %d attempts", err, attempts)
				}
				if resp.StatusCode != tt.status || attempts != tt.attempts {
					t.Errorf("status %d after %d attempts, want %d after %d", resp.StatusCode, attempts, tt.status, tt.attempts)
				}
				_ = resp.Body.Close()
				wantInFlight(t, tr, 0)
			})
		})
	}
}

func TestRequestTellsTheGuardWhoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(1), PauseJitter: -1})
		if err != nil {
			t.Fatal(err)
		}
		tr := New(roundTripper(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answer(200, ""), nil
		}), g, Config{Request: func(r *http.Request) limiter.Request {
			return limiter.Request{Tenant: r.Header.Get("X-Tenant"), Priority: 3}
		}})
		for range 2 {
			go func() {
				req, _ := http.NewRequest("POST", "http://upstream.test/", nil)
				req.Header.Set("X-Tenant", "ann")
				if _, err := tr.RoundTrip(req); err != nil {
					t.Errorf("RoundTrip: %v", err)
				}
			}()
		}
		synctest.Wait()
		if w := g.Explain(1).Waits; len(w) != 1 || w[0].Tenant != "ann" || w[0].Priority != 3 {
			t.Errorf("waiting: %+v, want one of tenant ann with priority 3", w)
		}
		time.Sleep(time.Minute)
		wantInFlight(t, tr, 0)
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []time.Time
		tr := newTransport(t, 4, roundTripper(func(*http.Request) (*http.Response, error) {
			if sent = append(sent, time.Now()); len(sent) == 1 {
				return answer(429, "", "Retry-After", "3"), nil
			}
			return answer(200, ""), nil
		}), nil)
		if _, err := get(t, context.Background(), tr); err != nil {
			t.Fatal(err)
		}
		if d := sent[1].Sub(sent[0]); d < 3*time.Second || d > 3*time.Second+300*time.Millisecond {
			t.Errorf("sent again after %v, want 3 s and a little", d)
		}
	})
}

func TestRefusalIsAnAnswerWhenItIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("so many requests ", 10_000) // more than is looked at
		tr := newTransport(t, 4, roundTripper(func(*http.Request) (*http.Response, error) { return answer(429, text), nil }), nil)
		resp, err := get(t, context.Background(), tr)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != text || err != nil {
			t.Errorf("the refusal's body has %d bytes and error %v, want the %d that were sent", len(b), err, len(text))
		}
		if got := resp.Header.Get("X-Should-Retry"); got != "false" {
			t.Errorf("X-Should-Retry is %q, want false", got)
		}
		if n := tr.Guard().Stats().Counts.Outcomes[feedback.Throttled]; n != 5 {
			t.Errorf("%d refusals counted, want 5", n)
		}
	})
}

func TestDeadlineBeforeTheRetryGivesTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 4, roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(429, "", "Retry-After", "20"), nil
		}), nil)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		start := time.Now()
		resp, err := get(t, ctx, tr)
		if err != nil || resp.StatusCode != 429 || time.Since(start) != 0 {
			t.Errorf("%v, %v after %v, want the refusal at once", resp, err, time.Since(start))
		}
	})
}

func TestCancelWhileWaitingForTheRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 4, roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(429, "", "Retry-After", "20"), nil
		}), nil)
		cause := errors.New("gone")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		if _, err := get(t, ctx, tr); err != cause {
			t.Errorf("error %v, want the cause", err)
		}
		wantInFlight(t, tr, 0)
	})
}

func TestCompressedRefusalIsRead(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = io.WriteString(w, `{"error":{"code":"insufficient_quota"}}`)
	_ = w.Close()
	tr := newTransport(t, 4, roundTripper(func(*http.Request) (*http.Response, error) {
		return answer(429, z.String(), "Content-Encoding", "gzip"), nil
	}), nil)
	resp, err := get(t, context.Background(), tr)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); !bytes.Equal(b, z.Bytes()) {
		t.Errorf("the caller got other bytes than were sent")
	}
	if n := tr.Guard().Stats().Counts.Outcomes[feedback.QuotaExhausted]; n != 1 {
		t.Errorf("%d answers read as quota_exhausted, want 1", n)
	}
}

// A refusal whose body stalls must not keep its permit.
func TestStalledRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, "{") }()
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			resp := answer(429, "")
			resp.Body, resp.ContentLength = r, -1
			return resp, nil
		}), func(c *limiter.Config) { c.Retry.MaxAttempts = 1 })
		resp, err := get(t, context.Background(), tr)
		if err != nil || resp.StatusCode != 429 {
			t.Fatalf("%v, %v, want the refusal", resp, err)
		}
		wantInFlight(t, tr, 0)
		if b, err := io.ReadAll(resp.Body); string(b) != "{" || err == nil {
			t.Errorf("body %q and error %v, want what came and an error", b, err)
		}
	})
}

// A stream is in flight while it streams, the request's body is not buffered, and a protocol
// switch can be written to.
func TestStreamsOverRealConnections(t *testing.T) {
	arrived := make(chan string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/switch" {
			c, rw, _ := http.NewResponseController(w).Hijack()
			defer c.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_ = rw.Flush()
			line, _ := rw.ReadString('\n')
			_, _ = rw.WriteString(line)
			_ = rw.Flush()
			return
		}
		buf := make([]byte, 5)
		_, _ = io.ReadFull(r.Body, buf)
		arrived <- string(buf)
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "one ")
		w.(http.Flusher).Flush()
		_, _ = io.ReadFull(r.Body, buf)
		_, _ = io.WriteString(w, string(buf))
	}))
	defer srv.Close()
	// HTTP/1.1 sends an answer only after the request's body unless the server is told otherwise.
	srv.Config.Handler = fullDuplex(srv.Config.Handler)
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := newTransport(t, 1, base, nil)

	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", srv.URL, pr)
	type result struct {
		resp *http.Response
		err  error
	}
	got := make(chan result)
	go func() {
		resp, err := tr.RoundTrip(req)
		got <- result{resp, err}
	}()
	_, _ = io.WriteString(pw, "first")
	if s := <-arrived; s != "first" {
		t.Errorf("the server read %q", s)
	}
	res := <-got
	if res.err != nil {
		t.Fatal(res.err)
	}
	wantInFlight(t, tr, 1)
	_, _ = io.WriteString(pw, "later")
	_ = pw.Close()
	if b, err := io.ReadAll(res.resp.Body); string(b) != "one later" || err != nil {
		t.Errorf("body %q, %v", b, err)
	}
	_ = res.resp.Body.Close()
	wantInFlight(t, tr, 0)

	req, _ = http.NewRequest("GET", srv.URL+"/switch", nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	wantInFlight(t, tr, 1)
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		t.Fatalf("the body of a protocol switch is %T, which cannot be written to", resp.Body)
	}
	_, _ = io.WriteString(rw, "ping\n")
	buf := make([]byte, 5)
	if _, err := io.ReadFull(rw, buf); string(buf) != "ping\n" || err != nil {
		t.Errorf("echo %q, %v", buf, err)
	}
	_ = rw.Close()
	wantInFlight(t, tr, 0)
}

// Whoever has said all he has to say after a protocol switch can tell so and read on, also through httputil.ReverseProxy.
func TestHalfCloseAfterAProtocolSwitch(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		all, _ := io.ReadAll(rw)
		_, _ = c.Write(all)
	}))
	defer srv.Close()
	tr := newTransport(t, 1, &http.Transport{}, nil)
	target, _ := url.Parse(srv.URL)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: tr})
	defer proxy.Close()
	for _, c := range []struct {
		name, url string
		base      http.RoundTripper
	}{{"alone", srv.URL, tr}, {"proxy", proxy.URL, &http.Transport{}}} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		req, _ := http.NewRequestWithContext(ctx, "GET", c.url, nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		resp, err := c.base.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(resp.Body.(io.Writer), "ping")
		half, ok := resp.Body.(interface{ CloseWrite() error })
		if !ok {
			t.Fatalf("%s: a body of type %T cannot be closed for writing", c.name, resp.Body)
		}
		if err := half.CloseWrite(); err != nil {
			t.Fatal(c.name, err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != "ping" || err != nil {
			t.Errorf("%s: read %q, %v after the half close", c.name, got, err)
		}
		_ = resp.Body.Close()
		cancel()
	}
	wantInFlight(t, tr, 0)

	tr = newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
		resp := answer(101, "")
		resp.Body = struct {
			io.ReadCloser
			io.Writer
		}{resp.Body, io.Discard}
		return resp, nil
	}), nil)
	resp, err := get(t, t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := resp.Body.(interface{ CloseWrite() error }).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("CloseWrite of a body that has none is %v", err)
	}
}

func fullDuplex(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		h.ServeHTTP(w, r)
	})
}

// What a stream tells is read while it passes by, and every byte is handed on.
func TestStreamIsRead(t *testing.T) {
	const refused = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n" +
		"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
	const served = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n" +
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\ndata: [DONE]\n\n"
	for _, tt := range []struct {
		name, body string
		class      feedback.Class
		tokens     int64
	}{
		{"an error inside a 200", refused, feedback.Overloaded, 10},
		{"usage at the end", served, feedback.OK, 11},
	} {
		t.Run(tt.name, func(t *testing.T) {
			law := &recorder{Law: adaptive.NewFixed(1)}
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
				return answer(200, tt.body, "Content-Type", "text/event-stream"), nil
			}), func(c *limiter.Config) { c.Law = law })
			resp, err := get(t, context.Background(), tr)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); string(b) != tt.body || err != nil {
				t.Errorf("body %q, %v, want what was sent", b, err)
			}
			wantInFlight(t, tr, 0)
			if n := tr.Guard().Stats().Counts.Outcomes[tt.class]; n != 1 {
				t.Errorf("%d calls of class %v counted, want 1", n, tt.class)
			}
			if law.tokens != tt.tokens {
				t.Errorf("the law was told of %d tokens, want %d", law.tokens, tt.tokens)
			}
		})
	}
}

// recorder is a law that adds up the tokens that it is told of and asks for every call.
type recorder struct {
	adaptive.Law
	tokens int64
}

func (r *recorder) Decision() adaptive.Decision { return adaptive.Decision{Limit: 1} }
func (r *recorder) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	r.tokens += w.Tokens
	return r.Decision()
}
func (r *recorder) Ended(_ time.Duration, _ adaptive.Call, o adaptive.Outcome) adaptive.Decision {
	r.tokens += o.Tokens()
	return r.Decision()
}

func TestCancelOverARealConnection(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}))
	defer srv.Close()
	defer close(release)
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := newTransport(t, 1, base, nil)
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on after cancel: %v", err)
	}
	wantInFlight(t, tr, 0)
	_ = resp.Body.Close()
	if n := tr.Guard().Stats().Counts.Outcomes[feedback.Canceled]; n != 1 {
		t.Errorf("%d canceled calls counted, want 1", n)
	}
}

// A request of which Config.Request says that it is idempotent is sent again also when its connection broke.
func TestIdempotentByRequest(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := Config{Request: func(*http.Request) limiter.Request { return limiter.Request{Idempotent: idempotent} }}
			sent := 0
			base := roundTripper(func(*http.Request) (*http.Response, error) {
				if sent++; sent%2 == 1 {
					return nil, &net.OpError{Op: "read", Err: syscall.ECONNRESET}
				}
				return answer(200, "{}"), nil
			})
			tr := newTransport(t, 1, base, nil)
			for _, rt := range []http.RoundTripper{New(base, tr.Guard(), cfg), NewPool(base, newPool(t, nil, "a", "b"), PoolConfig{Config: cfg})} {
				sent = 0
				req, err := http.NewRequest(http.MethodPost, "http://upstream.test/", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := rt.RoundTrip(req)
				if (err == nil) != idempotent || sent == 2 != idempotent {
					t.Errorf("%T: idempotent = %v: sent %d times, %v", rt, idempotent, sent, err)
				}
				if err == nil {
					resp.Body.Close()
				}
			}
		})
	}
}

// A guard that is closed ends the delay before a request is sent again, with the refusal that the delay was for.
func TestCloseEndsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			return answer(429, `{"error":"busy"}`, "Retry-After", "50"), nil
		}), nil)
		start := time.Now()
		time.AfterFunc(10*time.Second, tr.Guard().Close)
		resp, err := get(t, context.Background(), tr)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if took := time.Since(start); resp.StatusCode != 429 || string(body) != `{"error":"busy"}` || err != nil || took != 10*time.Second {
			t.Errorf("%d %s, %v after %v, want the refusal after 10s, when the guard was closed", resp.StatusCode, body, err, took)
		}
		_ = resp.Body.Close()
	})
}

// "by the base, which has each attempt when it starts": what signs with a time does so after the wait, and again for what is sent again.
func TestBaseHasEachAttemptWhenItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var signed []time.Duration
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			signed = append(signed, time.Since(start))
			if len(signed) == 1 {
				return answer(429, "", "Retry-After", "20"), nil
			}
			return answer(200, ""), nil
		}), nil)
		tr.Guard().Pause(start.Add(10 * time.Second))
		if resp, err := get(t, t.Context(), tr); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if len(signed) != 2 || signed[0] != 10*time.Second || signed[1] < 30*time.Second {
			t.Errorf("the base was given the attempts after %v, want 10s and 30s or a little later", signed)
		}
	})
}
