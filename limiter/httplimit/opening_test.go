package httplimit

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// The streams by which Anthropic, OpenAI and Google refuse inside a 200, and one that serves.
const (
	overloadedEvent = "event: error\ndata: {\"type\":\"error\",\"error\":{\"details\":null,\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"req_1\"}\n\n"
	throttledEvent  = "data: {\"error\":{\"message\":\"Rate limit reached for requests\",\"type\":\"requests\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\n"
	exhaustedEvent  = "data: {\"error\":{\"message\":\"You exceeded your current quota\",\"type\":\"insufficient_quota\",\"param\":null,\"code\":\"insufficient_quota\"}}\n\n"
	googleEvent     = "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n"
	servedEvents    = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n"
)

// events answers with a stream of the given events, which come one after the other, when so much time has passed.
func events(req *http.Request, before time.Duration, parts ...string) *http.Response {
	r, w := io.Pipe()
	resp := answer(200, "", "Content-Type", "text/event-stream; charset=utf-8")
	resp.Request, resp.Body, resp.ContentLength = req, r, -1
	go func() {
		time.Sleep(before)
		for _, p := range parts {
			_, _ = io.WriteString(w, p)
		}
		_ = w.Close()
	}()
	return resp
}

// A stream that begins with a refusal is sent again, as nothing of it was handed on.
func TestRefusalAtTheBeginningOfAStream(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts []string
		class feedback.Class
	}{
		{"Anthropic", []string{overloadedEvent}, feedback.Overloaded},
		{"OpenAI", []string{throttledEvent, "data: [DONE]\n\n"}, feedback.Throttled},
		{"Google", []string{googleEvent}, feedback.Overloaded},
		{"in pieces", []string{overloadedEvent[:9], overloadedEvent[9:40], overloadedEvent[40:]}, feedback.Overloaded},
		{"after a comment", []string{": hello\n\n", throttledEvent}, feedback.Throttled},
		{"without its last line end", []string{overloadedEvent[:len(overloadedEvent)-2]}, feedback.Overloaded},
	} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			tr := newTransport(t, 1, roundTripper(func(req *http.Request) (*http.Response, error) {
				if sent++; sent == 3 {
					return events(req, 0, servedEvents), nil
				}
				return events(req, 0, c.parts...), nil
			}), nil)
			resp, err := send(t, tr)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); string(b) != servedEvents || err != nil || sent != 3 {
				t.Errorf("%s: sent %d times, the caller has %q, %v", c.name, sent, b, err)
			}
			_ = resp.Body.Close()
			if n := tr.Guard().Stats().Counts.Outcomes[c.class]; n != 2 {
				t.Errorf("%s: %d calls of class %v counted, want 2", c.name, n, c.class)
			}
			wantInFlight(t, tr, 0)
		})
	}
}

// What is handed on of a stream is what was sent, and once: a refusal that stays one, one that comes late or after work, an error that no other attempt
// changes.
func TestBeginningsOfStreamsThatPass(t *testing.T) {
	const late = openingTime + time.Second
	for _, c := range []struct {
		name   string
		before time.Duration
		parts  []string
		class  feedback.Class
		sent   int
	}{
		{"a refusal each time", 0, []string{overloadedEvent}, feedback.Overloaded, 3},
		{"late", late, []string{overloadedEvent}, feedback.Overloaded, 1},
		{"late, in pieces", late, []string{servedEvents[:3], servedEvents[3:20], servedEvents[20:]}, feedback.OK, 1},
		{"after content", 0, []string{servedEvents[:50], overloadedEvent}, feedback.Overloaded, 1},
		{"no money", 0, []string{exhaustedEvent}, feedback.QuotaExhausted, 1},
		{"wrong", 0, []string{"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"no\"}}\n\n"}, feedback.ClientError, 1},
		{"nothing", 0, nil, feedback.OK, 1},
		{"no events", 0, []string{strings.Repeat("x", peekMost), "y"}, feedback.OK, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			sent := 0
			tr := newTransport(t, 1, roundTripper(func(req *http.Request) (*http.Response, error) {
				sent++
				return events(req, c.before, c.parts...), nil
			}), func(g *limiter.Config) { g.Retry.MaxAttempts = 3 })
			began := time.Now()
			resp, err := send(t, tr)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); c.before > 0 && took != openingTime {
				t.Errorf("%s: the header comes after %v, want %v", c.name, took, openingTime)
			}
			if b, err := io.ReadAll(resp.Body); string(b) != strings.Join(c.parts, "") || err != nil || sent != c.sent {
				t.Errorf("%s: sent %d times, want %d; the caller has %.200q, %v", c.name, sent, c.sent, b, err)
			}
			_ = resp.Body.Close()
			if n := tr.Guard().Stats().Counts.Outcomes[c.class]; n != uint64(c.sent) {
				t.Errorf("%s: %d calls of class %v counted, want %d", c.name, n, c.class, c.sent)
			}
			if again := resp.Header.Get("X-Should-Retry"); (again == "false") != (c.name == "a refusal each time" || c.name == "no money") {
				t.Errorf("%s: X-Should-Retry is %q", c.name, again)
			}
			wantInFlight(t, tr, 0)
		})
	}
}

// A caller that leaves before the first event, or closes the body, is not held up, and holds nothing.
func TestBeginningOfAStreamThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 1, roundTripper(func(req *http.Request) (*http.Response, error) {
			r, w := io.Pipe()
			context.AfterFunc(req.Context(), func() { _ = w.CloseWithError(req.Context().Err()) })
			resp := answer(200, "", "Content-Type", "text/event-stream")
			resp.Body, resp.ContentLength = r, -1
			return resp, nil
		}), nil)
		for _, leave := range []time.Duration{openingTime / 2, 2 * openingTime} {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(leave, cancel)
			resp, err := get(t, ctx, tr)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			if err == nil {
				t.Errorf("a caller that left after %v has an answer", leave)
			}
			wantInFlight(t, tr, 0)
		}
		resp, err := get(t, t.Context(), tr)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close() // while the beginning is read
		wantInFlight(t, tr, 0)
	})
}

// With a pool, a stream that begins by saying that there is no money goes to another key.
func TestRefusalAtTheBeginningOfAStreamTakesAKeyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newPool(t, nil, "poor", "rich")
		tr := NewPool(roundTripper(func(req *http.Request) (*http.Response, error) {
			body := servedEvents
			if req.Header.Get("Authorization") == "Bearer poor" {
				body = exhaustedEvent
			}
			return events(req, 0, body), nil
		}), pool, PoolConfig{})
		for range 4 {
			resp, err := post(t, tr)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); string(b) != servedEvents {
				t.Errorf("the caller has %q", b)
			}
			_ = resp.Body.Close()
		}
		if k := pool.Stats().Keys[0]; k.Out != limiter.KeyExhausted {
			t.Errorf("the key without money is %v", k)
		}
	})
}

// What MiniMax, Hunyuan and those who copy OpenAI answer in JSON to refuse inside a 200, and an answer that serves.
const (
	refusedJSON   = `{"id":"1","choices":null,"usage":{"total_tokens":0},"base_resp":{"status_code":1002,"status_msg":"rate limit"}}`
	poorJSON      = `{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}`
	throttledJSON = `{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"slow down"},"RequestId":"r"}}`
	servedJSON    = `{"id":"1","choices":[{"message":{"content":"hi"}}],"usage":{"total_tokens":7},"base_resp":{"status_code":0}}`
)

// whole answers with JSON, whose length is known.
func whole(req *http.Request, body string) *http.Response {
	resp := answer(200, body, "Content-Type", "application/json; charset=utf-8")
	resp.Request, resp.ContentLength = req, int64(len(body))
	return resp
}

// gzipOf returns what gzip makes of a body.
func gzipOf(body string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, body)
	_ = z.Close()
	return b.Bytes()
}

// packed answers with JSON in gzip, whose length is known.
func packed(req *http.Request, body string) *http.Response {
	resp := whole(req, string(gzipOf(body)))
	resp.Header.Set("Content-Encoding", "gzip")
	return resp
}

// chunks answers with JSON that comes in pieces, as events does.
func chunks(req *http.Request, before time.Duration, parts ...string) *http.Response {
	resp := events(req, before, parts...)
	resp.Header.Set("Content-Type", "application/json")
	return resp
}

// A short answer in JSON that is a refusal all the same is sent again once there was one, as nothing of it was handed on. What is handed on is what was sent, and
// once.
func TestRefusalInJSON(t *testing.T) {
	long := strings.Repeat(" ", smallJSON)
	for _, c := range []struct {
		name   string
		answer func(*http.Request) *http.Response
		body   string // of the last
		class  feedback.Class
		sent   int
	}{
		{"MiniMax", func(r *http.Request) *http.Response { return whole(r, refusedJSON) }, refusedJSON, feedback.Throttled, 3},
		{"Hunyuan", func(r *http.Request) *http.Response { return whole(r, throttledJSON) }, throttledJSON, feedback.Throttled, 3},
		{"in pieces", func(r *http.Request) *http.Response {
			return chunks(r, 0, refusedJSON[:30], refusedJSON[30:90], refusedJSON[90:])
		}, refusedJSON, feedback.Throttled, 3},
		{"served", func(r *http.Request) *http.Response { return whole(r, servedJSON) }, servedJSON, feedback.OK, 1},
		{"gzip", func(r *http.Request) *http.Response { return packed(r, refusedJSON) }, string(gzipOf(refusedJSON)), feedback.Throttled, 3},
		{"gzip, in pieces", func(r *http.Request) *http.Response {
			z := string(gzipOf(refusedJSON))
			resp := chunks(r, 0, z[:5], z[5:50], z[50:])
			resp.Header.Set("Content-Encoding", "gzip")
			return resp
		}, string(gzipOf(refusedJSON)), feedback.Throttled, 3},
		{"gzip, served", func(r *http.Request) *http.Response { return packed(r, servedJSON) }, string(gzipOf(servedJSON)), feedback.OK, 1},
		{"gzip, more than a refusal", func(r *http.Request) *http.Response {
			return packed(r, `{"data":[1],`+refusedJSON[1:])
		}, string(gzipOf(`{"data":[1],` + refusedJSON[1:])), feedback.OK, 1},
		{"gzip, a bomb", func(r *http.Request) *http.Response {
			return packed(r, strings.Repeat(" ", mostUnpacked)+refusedJSON)
		}, string(gzipOf(strings.Repeat(" ", mostUnpacked) + refusedJSON)), feedback.OK, 1},
		{"gzip, cut", func(r *http.Request) *http.Response {
			resp := packed(r, refusedJSON)
			resp.Body = io.NopCloser(bytes.NewReader(gzipOf(refusedJSON)[:40]))
			return resp
		}, string(gzipOf(refusedJSON)[:40]), feedback.OK, 1},
		{"gzip, which it is not", func(r *http.Request) *http.Response {
			resp := whole(r, refusedJSON)
			resp.Header.Set("Content-Encoding", "gzip")
			return resp
		}, refusedJSON, feedback.Throttled, 1},
		{"another encoding", func(r *http.Request) *http.Response {
			resp := whole(r, refusedJSON)
			resp.Header.Set("Content-Encoding", "br")
			return resp
		}, refusedJSON, feedback.Throttled, 1},
		{"served in pieces", func(r *http.Request) *http.Response { return chunks(r, 0, servedJSON[:30], servedJSON[30:]) }, servedJSON, feedback.OK, 1},
		{"no money", func(r *http.Request) *http.Response { return whole(r, poorJSON) }, poorJSON, feedback.QuotaExhausted, 1},
		{"after work", func(r *http.Request) *http.Response {
			return whole(r, strings.Replace(refusedJSON, `"total_tokens":0`, `"prompt_tokens":3`, 1))
		},
			strings.Replace(refusedJSON, `"total_tokens":0`, `"prompt_tokens":3`, 1), feedback.Throttled, 1},
		{"long", func(r *http.Request) *http.Response { return whole(r, long+refusedJSON) }, long + refusedJSON, feedback.Throttled, 1},
		{"long, in pieces", func(r *http.Request) *http.Response { return chunks(r, 0, long, refusedJSON) }, long + refusedJSON, feedback.Throttled, 1},
		{"late", func(r *http.Request) *http.Response { return chunks(r, openingTime+time.Second, refusedJSON) }, refusedJSON, feedback.Throttled, 1},
		{"cut", func(r *http.Request) *http.Response { return chunks(r, 0, refusedJSON[:60]) }, refusedJSON[:60], feedback.OK, 1},
		{"nothing", func(r *http.Request) *http.Response { return chunks(r, 0) }, "", feedback.OK, 1},
	} {
		wantSent(t, c.name, c.answer, c.body, c.class, c.sent)
	}
}

// wantSent sends a request to who answers with a 200 of JSON, where such refusals are known, and wants that it is sent so often, that the caller gets body, and that each is counted in class.
func wantSent(t *testing.T, name string, answer func(*http.Request) *http.Response, body string, class feedback.Class, times int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		tr := newTransport(t, 1, roundTripper(func(req *http.Request) (*http.Response, error) {
			sent++
			return answer(req), nil
		}), func(g *limiter.Config) { g.Retry.MaxAttempts = 3 })
		tr.habits.inside.Store(true)
		resp, err := send(t, tr)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != body || err != nil || sent != times {
			t.Errorf("%s: sent %d times, want %d; the caller has %.200q, %v", name, sent, times, b, err)
		}
		_ = resp.Body.Close()
		if n := tr.Guard().Stats().Counts.Outcomes[class]; n != uint64(times) {
			t.Errorf("%s: %d calls of class %v counted, want %d", name, n, class, times)
		}
		wantInFlight(t, tr, 0)
	})
}

// What is more than a refusal is handed on at once: a result beside an error, what became of each of several things, the state of what was asked for
// earlier.
func TestMoreThanARefusalInJSON(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		sent int
	}{
		"content":              {`{"choices":[{"message":{"content":"half"}}],"error":{"code":429,"message":"Rate limit"}}`, 1},
		"content of DashScope": {`{"output":{"text":"half"},"base_resp":{"status_code":1002}}`, 1},
		"a total of usage":     {`{"usage":{"total_tokens":5},"error":{"code":429,"message":"Rate limit"}}`, 1},
		"a part of GraphQL":    {`{"data":{"a":{"id":1},"b":null},"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}]}`, 1},
		"one of several":       {`[{"error":{"code":429,"message":"rate limit"}},{"data":1}]`, 1},
		"a response":           {`{"id":"resp_1","object":"response","status":"failed","error":{"code":"rate_limit_exceeded","message":"Rate limit"},"output":[],"usage":null}`, 1},
		"an operation":         {`{"name":"operations/x","done":true,"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"high load"}}`, 1},
		"a prediction":         {`{"id":"x","status":"failed","error":"429 Too Many Requests","output":null}`, 1},
		"nothing of GraphQL":   {`{"data":null,"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"actualQueryCost":null}}}`, 3},
		"nothing of several":   {`{"data":{"a":null},"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}]}`, 3},
		"a list of Gemini":     {`[{"error":{"code":429,"message":"rate limit"}}]`, 3},
		"JSON-RPC":             {`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Too many requests"}}`, 3},
		"a status alone":       {`{"status":"error","error":{"code":429,"message":"rate limit"}}`, 3},
		"no results":           {`{"id":"","status":"","choices":[],"result":"","output":{},"error":{"code":429,"message":"rate limit"}}`, 3},
	} {
		wantSent(t, name, func(r *http.Request) *http.Response { return whole(r, c.body) }, c.body, feedback.Throttled, c.sent)
	}
}

// An answer in JSON is there with its last brace, whatever its connection does then.
func TestEndOfJSONThatIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 1, roundTripper(func(req *http.Request) (*http.Response, error) {
			r, w := io.Pipe()
			time.AfterFunc(10*time.Second, func() { _ = w.Close() })
			go func() {
				for _, part := range []string{servedJSON[:70], servedJSON[70:]} { // the first one ends within the usage
					_, _ = io.WriteString(w, part)
				}
			}()
			resp := answer(200, "", "Content-Type", "application/json")
			resp.Body, resp.ContentLength, resp.Request = r, -1, req
			return resp, nil
		}), nil)
		tr.habits.inside.Store(true)
		start := time.Now()
		resp, err := send(t, tr)
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("it was held back for %v", d)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != servedJSON || err != nil {
			t.Errorf("the caller has %q, %v", b, err)
		}
		_ = resp.Body.Close()
	})
}

// A JSON that says what is wrong with the request is no reason to wait for all that follow.
func TestClientErrorInJSONIsNoHabit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := `{"error":{"code":400,"message":"no such model"}}`
		tr := newTransport(t, 1, roundTripper(func(req *http.Request) (*http.Response, error) { return whole(req, body), nil }), nil)
		for _, c := range []struct {
			body string
			want bool
		}{{body, false}, {refusedJSON, true}} {
			body = c.body
			resp, err := send(t, tr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if got := tr.habits.inside.Load(); got != c.want {
				t.Errorf("after %s: answers in JSON are waited for: %v", c.body, got)
			}
		}
	})
}

// The first refusal in JSON is handed on, and tells that there are such; with a pool, the next one that says that there is no money goes to another key.
func TestRefusalInJSONTakesAKeyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool := newPool(t, nil, "poor", "rich")
		tr := NewPool(roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Header.Get("Authorization") == "Bearer poor" {
				return whole(req, poorJSON), nil
			}
			return whole(req, servedJSON), nil
		}), pool, PoolConfig{})
		ask := func(want string) {
			t.Helper()
			resp, err := post(t, tr)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(resp.Body); string(b) != want {
				t.Errorf("the caller has %q, want %q", b, want)
			}
			_ = resp.Body.Close()
		}
		ask(poorJSON)
		if k := pool.Stats().Keys[0]; k.Out != limiter.KeyExhausted {
			t.Errorf("the key without money is %v", k)
		}
		time.Sleep(time.Hour) // the key is probed
		for range 4 {
			ask(servedJSON)
		}
	})
}

// send sends a request whose body can be had again, which may have its effect once only.
func send(t *testing.T, tr *Transport) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://upstream.test/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(req)
}

// late is a body whose pieces come so long after the one before, and which is told of what is done with it.
type late struct {
	pieces []string
	after  []time.Duration
	ended  func() // called when the end is read
	closed time.Time
	whole  bool
	gone   chan struct{}
}

func (l *late) Read(p []byte) (int, error) {
	if len(l.after) > 0 {
		select {
		case <-time.After(l.after[0]):
		case <-l.gone:
			return 0, io.ErrClosedPipe
		}
		l.after = l.after[1:]
	}
	if len(l.pieces) == 0 {
		l.whole = true
		if l.ended != nil {
			l.ended()
		}
		return 0, io.EOF
	}
	n := copy(p, l.pieces[0])
	if l.pieces[0] = l.pieces[0][n:]; l.pieces[0] == "" {
		l.pieces = l.pieces[1:]
	}
	return n, nil
}

func (l *late) Close() error {
	if l.closed.IsZero() {
		l.closed = time.Now()
		close(l.gone)
	}
	return nil
}

func lately(after []time.Duration, pieces ...string) *late {
	return &late{pieces: pieces, after: after, gone: make(chan struct{})}
}

// stream answers with body, a stream of the given type.
func stream(body io.ReadCloser, contentType string) *http.Response {
	resp := answer(200, "", "Content-Type", contentType)
	resp.Body, resp.ContentLength = body, -1
	return resp
}

// What has come of a stream when its header is handed on is read at once, also while nothing follows it. A trailer comes with the end, to whoever reads
// that: not while an answer that was handed on is still read ahead.
func TestWhatHasComeOfABeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const alive = ": alive\n\n"
		body := lately([]time.Duration{time.Millisecond, 10 * time.Second, 0}, alive, servedEvents)
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			resp := stream(body, "text/event-stream")
			resp.Trailer = http.Header{"X-End": nil}
			body.ended = func() { resp.Trailer["X-End"], resp.Trailer["X-More"] = []string{"1"}, []string{"2"} }
			return resp, nil
		}), nil)
		began := time.Now()
		resp, err := get(t, t.Context(), tr)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 100)
		n, err := resp.Body.Read(p)
		if took := time.Since(began); string(p[:n]) != alive || err != nil || took != openingTime {
			t.Errorf("%q, %v after %v, want what had come after %v", p[:n], err, took, openingTime)
		}
		all, err := io.ReadAll(resp.Body)
		if took := time.Since(began); string(all) != servedEvents || err != nil || took != 10*time.Second+time.Millisecond {
			t.Errorf("%q, %v after %v", all, err, took)
		}
		if resp.Trailer.Get("X-End") != "1" || resp.Trailer.Get("X-More") != "2" {
			t.Errorf("the trailer is %v", resp.Trailer)
		}
		_ = resp.Body.Close()
		wantInFlight(t, tr, 0)

		body = lately([]time.Duration{time.Second})
		if resp, err = get(t, t.Context(), tr); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if len(resp.Trailer) != 1 || resp.Trailer["X-End"] != nil {
			t.Errorf("the trailer is %v before the end was read", resp.Trailer)
		}
		if all, err = io.ReadAll(resp.Body); len(all) > 0 || err != nil || resp.Trailer.Get("X-More") != "2" {
			t.Errorf("%q, %v, the trailer is %v", all, err, resp.Trailer)
		}
		_ = resp.Body.Close()
	})
}

// No header is held back for what nobody could do anything about: the request cannot be sent again, its time is over before, nothing in the body is an
// event.
func TestHeaderThatIsNotHeldBack(t *testing.T) {
	for name, c := range map[string]struct {
		contentType string
		request     func(*http.Request) *http.Request
		attempts    int
	}{
		"a body that cannot be had again": {"text/event-stream", func(r *http.Request) *http.Request {
			r.Method, r.Body = "PUT", io.NopCloser(strings.NewReader("{}"))
			return r
		}, 3},
		"no retries": {"text/event-stream", func(r *http.Request) *http.Request { return r }, 1},
		"a deadline": {"text/event-stream", func(r *http.Request) *http.Request {
			ctx, cancel := context.WithTimeout(r.Context(), openingTime)
			t.Cleanup(cancel)
			return r.WithContext(ctx)
		}, 3},
		"no events": {"application/json-seq", func(r *http.Request) *http.Request { return r }, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
				return stream(lately([]time.Duration{time.Second}, "{}"), c.contentType), nil
			}), func(g *limiter.Config) { g.Retry.MaxAttempts = c.attempts })
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://upstream.test/", nil)
			began := time.Now()
			resp, err := tr.RoundTrip(c.request(req))
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("%s: the header comes after %v", name, took)
			}
			_ = resp.Body.Close()
		})
	}
}

// A stream that was refused does not keep its connection while the next attempt waits: it is read to its end, or closed.
func TestConnectionOfARefusedStream(t *testing.T) {
	for _, c := range []struct {
		rest  time.Duration // until it ends
		whole bool
		took  time.Duration // until it is closed
	}{{time.Millisecond, true, time.Millisecond}, {time.Hour, false, openingTime}} {
		for name, rejected := range map[string]bool{"sent again": false, "the guard refuses": true} {
			synctest.Test(t, func(t *testing.T) {
				refused := lately([]time.Duration{0, c.rest}, overloadedEvent)
				sent := 0
				tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
					if sent++; sent == 1 {
						resp := stream(refused, "text/event-stream")
						resp.Header.Set("Retry-After", "60") // a delay by chance may be over before the guard is closed
						return resp, nil
					}
					return stream(lately(nil, servedEvents), "text/event-stream"), nil
				}), nil)
				if rejected {
					time.AfterFunc(time.Millisecond*500, func() { tr.Guard().Close() })
				}
				began := time.Now()
				resp, err := send(t, tr)
				if err != nil {
					t.Fatal(err)
				}
				all, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				synctest.Wait()
				if took := refused.closed.Sub(began); refused.whole != c.whole || took != c.took {
					t.Errorf("%s: read to its end: %v, closed after %v; want %v, %v", name, refused.whole, took, c.whole, c.took)
				}
				switch {
				case !rejected && (string(all) != servedEvents || err != nil),
					rejected && (string(all) != overloadedEvent || (err == nil) != c.whole || err != nil && !errors.Is(err, ErrLetGo)):
					t.Errorf("%s: the caller has %q, %v", name, all, err)
				}
			})
		}
	}
}

// A protocol that was switched to can be written to, whatever its header says.
func TestSwitchedProtocolIsNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
			resp := stream(struct {
				*late
				io.Writer
			}{lately([]time.Duration{time.Hour}), io.Discard}, "text/event-stream")
			resp.StatusCode = http.StatusSwitchingProtocols
			return resp, nil
		}), nil)
		resp, err := get(t, t.Context(), tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := resp.Body.(io.Writer); !ok {
			t.Error("the body cannot be written to")
		}
		_ = resp.Body.Close()
	})
}
