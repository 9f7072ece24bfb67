package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/trace"
	"github.com/flyball-go/flyball/internal/upstream"
)

// between starts a model server and a recording proxy before it.
func between(t *testing.T, cfg modelserver.Config, out io.Writer) (proxyURL string, p *Proxy) {
	t.Helper()
	s, err := modelserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewServer(s)
	target, _ := url.Parse(up.URL)
	p = New(target, out, nil)
	web := httptest.NewServer(p)
	t.Cleanup(func() { web.Close(); s.Close(); up.Close() })
	return web.URL, p
}

// A connection of HTTP/2 that leads nowhere is given up, and the requests of all callers are not sent into it.
func TestTransportAsksAfterItsConnections(t *testing.T) {
	p := New(&url.URL{Scheme: "https", Host: "upstream.test"}, io.Discard, nil)
	if c := p.proxy.Transport.(*wire).base.(*http.Transport).HTTP2; c == nil || c.SendPingTimeout <= 0 {
		t.Errorf("HTTP/2 is %+v", c)
	}
}

func ask(t *testing.T, url, key, body string) (int, string) {
	t.Helper()
	req, _ := http.NewRequest("POST", url+"/v1/chat/completions", strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(all)
}

// What passes arrives unchanged, and is written down: lengths, times, statuses, limits; no text and no key.
func TestRecord(t *testing.T) {
	var out bytes.Buffer
	url, p := between(t, modelserver.Config{
		Upstream: upstream.Config{
			Dialect: upstream.OpenAI,
			Quotas:  []upstream.Quota{{Counter: upstream.Requests, Limit: 60, Burst: 3, Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact}}}},
			Server:  upstream.Server{Service: draw.Of(50 * time.Millisecond), OutputToken: 20 * time.Millisecond},
		},
		Output: draw.Dist{Mean: 10},
	}, &out)
	whole := `{"model":"m","messages":[{"role":"user","content":"the-secret-text"}]}`
	stream := `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`
	for i, c := range []struct {
		key, body string
		code      int
		has       string
	}{{"the-secret-a", whole, 200, `"usage"`}, {"the-secret-b", stream, 200, "[DONE]"}, {"the-secret-a", whole, 200, `"usage"`}, {"the-secret-a", whole, 429, `"error"`}} {
		if code, body := ask(t, url, c.key, c.body); code != c.code || !strings.Contains(body, c.has) {
			t.Errorf("request %d: %d %s", i, code, body)
		}
	}
	waitFor(t, p, 4)
	if strings.Contains(out.String(), "secret") {
		t.Fatalf("a text or a key is written:\n%s", out.String())
	}
	tr, err := trace.Read("out", &out, trace.Options{Sort: true})
	if err != nil || len(tr.Rows) != 4 {
		t.Fatalf("%v, %+v", err, tr)
	}
	for i, r := range tr.Rows {
		key := "key-1"
		if i == 1 {
			key = "key-2"
		}
		switch {
		case !r.Seen || r.Key != key || r.Header["x-ratelimit-limit-requests"] != "60":
			t.Errorf("row %d: %+v", i, r)
		case i == 3:
			if r.Status != 429 || r.RetryAfter != time.Second || r.Out != 0 || r.In == 0 {
				t.Errorf("row %d: %+v", i, r)
			}
		case r.Status != 200 || r.Out != 10 || r.In == 0 || r.Latency() < 240*time.Millisecond || r.First <= r.Sent || r.RetryAfter != -1:
			t.Errorf("row %d: %+v", i, r)
		}
	}
	if first := tr.Rows[1].First - tr.Rows[1].Sent; first > tr.Rows[1].Latency()-60*time.Millisecond {
		t.Errorf("the stream began after %v of %v", first, tr.Rows[1].Latency())
	}
}

// waitFor waits until so many requests are written: an answer reaches its caller a moment before.
func waitFor(t *testing.T, p *Proxy, n int64) {
	t.Helper()
	for range 1000 {
		if rows, _, open, _ := p.Counts(); rows >= n && open == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the requests are not written down")
}

// Gemini has its key in the URL and its delays in the body.
func TestGemini(t *testing.T) {
	var out bytes.Buffer
	target, _ := url.Parse("http://upstream.invalid")
	p := New(target, &out, roundTrip(func(r *http.Request) (*http.Response, error) {
		const text = `{"error":{"code":429,"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}`
		return &http.Response{StatusCode: 429, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}, nil
	}))
	for _, key := range []string{"the-secret-a", "the-secret-b", "the-secret-a"} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("POST", "/v1beta/models/m:generateContent?key="+key, strings.NewReader("{}")))
		if !strings.Contains(w.Body.String(), "retryDelay") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("a key is written:\n%s", out.String())
	}
	tr, err := trace.Read("out", &out, trace.Options{})
	if err != nil || len(tr.Rows) != 3 || tr.Rows[0].Key != "key-1" || tr.Rows[1].Key != "key-2" || tr.Rows[2].Key != "key-1" || tr.Rows[0].RetryAfter != 34*time.Second {
		t.Errorf("%+v, %v", tr, err)
	}
}

// The prompts of refusals are measured by those of which answers tell: JSON around a text is no token.
func TestPromptsOfRefusals(t *testing.T) {
	var out bytes.Buffer
	target, _ := url.Parse("http://upstream.invalid")
	p := New(target, &out, roundTrip(func(r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		status, text := 200, `{"usage":{"prompt_tokens":10,"completion_tokens":1}}`
		if r.URL.Path == "/no" {
			status, text = 429, "{}"
		}
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text))}, nil
	}))
	for _, c := range []struct {
		path  string
		bytes int
	}{{"/no", 200}, {"/yes", 200}, {"/no", 200}, {"/no", 1000}} {
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", c.path, strings.NewReader(strings.Repeat("x", c.bytes))))
	}
	tr, err := trace.Read("out", &out, trace.Options{})
	if err != nil || len(tr.Rows) != 4 || tr.Rows[0].In != 50 || tr.Rows[1].In != 10 || tr.Rows[2].In != 10 || tr.Rows[3].In != 50 {
		t.Errorf("%+v, %v", tr, err)
	}
}

// A disk that is full in the middle of a line leaves the lines before it, also of a file that somebody shortened to make room.
func TestHalfALine(t *testing.T) {
	for _, shortened := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "trace.jsonl")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		out := &half{f, 200}
		target, _ := url.Parse("http://upstream.invalid")
		p := New(target, out, roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 204, Header: http.Header{}, Body: http.NoBody}, nil
		}))
		for i := range 9 {
			if i == 1 && shortened {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			}
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := trace.Read("out", bytes.NewReader(text), trace.Options{Sort: true})
		if err != nil || len(tr.Rows) < 1 || len(tr.Rows) > 5 {
			t.Errorf("%+v, %v, %q", tr, err, text)
		}
	}
}

// half takes so many bytes.
type half struct {
	*os.File
	room int
}

func (h *half) Write(p []byte) (int, error) {
	n, _ := h.File.Write(p[:min(len(p), h.room)])
	h.room -= n
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

// A full disk is no reason to stop serving; it is told. Many at once are fine.
func TestFullDisk(t *testing.T) {
	url, p := between(t, modelserver.Config{}, &full{left: 3})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if code, _ := ask(t, url, fmt.Sprint(i), `{"model":"m"}`); code != 200 {
				t.Errorf("%d", code)
			}
		})
	}
	wg.Wait()
	waitFor(t, p, 20)
	if _, _, _, err := p.Counts(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%v", err)
	}
}

// roundTrip is an upstream without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// body is the body of an answer.
type body func(b []byte) (int, error)

func (f body) Read(b []byte) (int, error) { return f(b) }
func (f body) Close() error               { return nil }

// Whatever an upstream answers, and however long it takes, the trace can be read: one row that cannot would cost all of them.
func TestOddAnswersAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		target, _ := url.Parse("http://upstream.invalid")
		p := New(target, &out, roundTrip(func(r *http.Request) (*http.Response, error) {
			status, _ := strconv.Atoi(r.URL.Path[1:])
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: body(func([]byte) (int, error) {
				time.Sleep(25 * time.Hour)
				return 1, io.EOF
			})}, nil
		}))
		for _, path := range []string{"/200", "/999", "/600"} {
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}
		tr, err := trace.Read("out", &out, trace.Options{})
		if err != nil || len(tr.Rows) != 3 || tr.Rows[0].Latency() != trace.MaxLatency || tr.Rows[1].Status != 999 {
			t.Errorf("%+v, %v", tr, err)
		}
	})
}

// A success that is cut off, by either side, or that has an error in its body, is none: it took no answer's time. A refusal stays one, and so
// does a stream whose caller leaves after its last event.
func TestCutOff(t *testing.T) {
	for _, c := range []struct {
		name, kind, text string
		status           int
		end              error // of the body; nil is that the caller leaves
		want             int
	}{
		{"whole", "application/json", `{"a":1}`, 200, io.EOF, 200},
		{"no JSON", "text/plain", "all of it", 200, io.EOF, 200},
		{"cut by the upstream", "text/plain", "half of", 200, io.ErrUnexpectedEOF, 0},
		{"left by the caller", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", 200, nil, 0},
		{"left after the end", "text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n", 200, nil, 200},
		{"an error in a stream", "text/event-stream", "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n", 200, io.EOF, 0},
		{"a refusal that is cut", "text/plain", "wa", 429, io.ErrUnexpectedEOF, 429},
	} {
		var out bytes.Buffer
		target, _ := url.Parse("http://upstream.invalid")
		ctx, leave := context.WithCancel(t.Context())
		text := c.text
		p := New(target, &out, roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: c.status, Header: http.Header{"Content-Type": {c.kind}}, Body: body(func(b []byte) (int, error) {
				n := copy(b, text)
				text = text[n:]
				switch {
				case n > 0:
					return n, nil
				case c.end == nil:
					leave()
					return 0, context.Canceled
				}
				return 0, c.end
			})}, nil
		}))
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
		leave()
		tr, err := trace.Read("out", &out, trace.Options{})
		if err != nil || len(tr.Rows) != 1 || tr.Rows[0].Status != c.want || !tr.Rows[0].Seen {
			t.Errorf("%s: %+v, %v, want status %d", c.name, tr, err, c.want)
		}
	}
}

// A client of HTTP/1.0, such as nginx before it, takes the end of the connection for that of the answer: one that is cut ends otherwise.
func TestCutOffOfOldClient(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("half of"))
		http.NewResponseController(w).Flush()
		if r.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
	}))
	defer up.Close()
	target, _ := url.Parse(up.URL)
	web := httptest.NewServer(New(target, io.Discard, nil))
	defer web.Close()
	for _, path := range []string{"/whole", "/cut"} {
		conn, err := net.Dial("tcp", web.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: x\r\n\r\n", path)
		got, err := io.ReadAll(conn)
		conn.Close()
		if cut := path == "/cut"; (err != nil) != cut || !cut && !strings.HasSuffix(string(got), "half of") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// An upstream that is not there is a 502, and a request without a status.
func TestNobody(t *testing.T) {
	var out bytes.Buffer
	target, _ := url.Parse("http://127.0.0.1:1")
	p := New(target, &out, nil)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil))
	if w.Code != 502 || !strings.Contains(w.Body.String(), "connection refused") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	tr, err := trace.Read("out", &out, trace.Options{})
	if err != nil || len(tr.Rows) != 1 || tr.Rows[0].Status != 0 || !tr.Rows[0].Seen {
		t.Errorf("%+v, %v", tr, err)
	}
}
