package httplimit

import (
	"context"
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

// send sends a request whose body can be had again, which may have its effect once only.
func send(t *testing.T, tr *Transport) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://upstream.test/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return tr.RoundTrip(req)
}
