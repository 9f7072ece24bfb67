package httplimit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// A caller that cancels and drops the answer unread and unclosed has given up its place, for whoever waits already and for
// whoever comes.
func TestForgottenAnswerGivesItsPlaceBack(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) { return answer(200, "x"), nil }),
				func(c *limiter.Config) { c.MaxWait = time.Hour })
			ctx, cancel := context.WithCancel(context.Background())
			if _, err := get(t, ctx, tr); err != nil {
				t.Fatal(err)
			}
			began, want := time.Now(), time.Duration(0)
			if first {
				cancel()
			} else {
				want = time.Minute
				time.AfterFunc(want, cancel)
			}
			resp, err := get(t, context.Background(), tr)
			if err != nil || time.Since(began) != want {
				t.Fatalf("%v after %v, want an answer after %v", err, time.Since(began), want)
			}
			_ = resp.Body.Close()
			wantInFlight(t, tr, 0)
			wantOutcomes(t, tr, feedback.Canceled, 1)
		})
	}
}

// The same for keys of a pool.
func TestForgottenAnswerOfAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := limiter.NewPool(limiter.PoolConfig{
			Guard: limiter.Config{Name: "test", MaxWait: time.Hour}, NewLaw: func() adaptive.Law { return adaptive.NewFixed(1) },
			Keys: []limiter.Secret{limiter.NewSecret("a"), limiter.NewSecret("b")},
		})
		if err != nil {
			t.Fatal(err)
		}
		tr := NewPool(roundTripper(func(*http.Request) (*http.Response, error) { return answer(200, "x"), nil }), p, PoolConfig{})
		ctx, cancel := context.WithCancel(context.Background())
		for range 2 {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://upstream.test/", nil)
			if _, err := tr.RoundTrip(req); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, cancel)
		req, _ := http.NewRequest("GET", "http://upstream.test/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		synctest.Wait()
		if s := p.Stats(); s.InFlight != 0 || s.Waiting != 0 {
			t.Errorf("%+v, want nobody in flight or waiting", s)
		}
	})
}

// Whenever a context ends, the permit comes back, a budget is not charged for what was not sent, and nothing is left behind.
func TestContextEndsAtAnyTime(t *testing.T) {
	const total = 300 * time.Millisecond // of a call, with its wait
	for at := time.Duration(0); at <= total; at += 10 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			attempts := 0
			tr := newTransport(t, 1, roundTripper(func(r *http.Request) (*http.Response, error) {
				attempts++
				if err := limiter.Sleep(r.Context(), 50*time.Millisecond); err != nil {
					return nil, err
				}
				if attempts == 1 {
					return answer(503, "busy", "Retry-After", "0.05"), nil
				}
				pr, pw := io.Pipe()
				stop := context.AfterFunc(r.Context(), func() { _ = pw.CloseWithError(r.Context().Err()) })
				go func() {
					defer stop()
					for range 5 {
						time.Sleep(20 * time.Millisecond)
						_, _ = io.WriteString(pw, "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n")
					}
					_ = pw.Close()
				}()
				resp := answer(200, "", "Content-Type", "text/event-stream")
				resp.Body, resp.ContentLength = pr, -1
				return resp, nil
			}), func(c *limiter.Config) {
				c.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 1000}}}
				c.Retry.BaseDelay = time.Millisecond
			})
			blocker, err := tr.Guard().Acquire(context.Background(), limiter.Request{})
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(30*time.Millisecond, func() { blocker.Abandon() })
			ctx, cancel := context.WithCancelCause(context.Background())
			gone := errors.New("gone")
			time.AfterFunc(at, func() { cancel(gone) })
			resp, err := get(t, ctx, tr)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			if ctx.Err() != nil && err != nil && !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
				t.Errorf("ended after %v: %v, want the cause", at, err)
			}
			time.Sleep(time.Minute)
			s := tr.Guard().Stats()
			if s.InFlight != 0 || s.Waiting != 0 {
				t.Errorf("ended after %v: %d in flight, %d waiting", at, s.InFlight, s.Waiting)
			}
			if b := tr.Guard().Explain(0).Budgets[0]; b.Left != 1000 {
				t.Errorf("ended after %v: %d of 1000 left a minute later", at, b.Left)
			}
		})
	}
}

// panicky is a body that panics.
type panicky struct{ read, close bool }

func (p panicky) Read([]byte) (int, error) {
	if p.read {
		panic("read")
	}
	return 0, io.EOF
}

func (p panicky) Close() error {
	if p.close {
		panic("close")
	}
	return nil
}

func TestBodiesThatPanic(t *testing.T) {
	for _, b := range []panicky{{read: true}, {close: true}} {
		for _, status := range []int{200, 429} {
			tr := newTransport(t, 1, roundTripper(func(*http.Request) (*http.Response, error) {
				resp := answer(status, "")
				resp.Body, resp.ContentLength = b, -1
				return resp, nil
			}), func(c *limiter.Config) { c.Retry.MaxAttempts = 1 })
			func() {
				defer func() { _ = recover() }()
				resp, err := get(t, context.Background(), tr)
				if err != nil {
					return
				}
				defer func() { _ = resp.Body.Close() }()
				_, _ = resp.Body.Read(make([]byte, 1))
			}()
			wantInFlight(t, tr, 0)
		}
	}
}

// Nor does a GetBody that panics keep the permit of the attempt that it is for.
func TestGetBodyPanics(t *testing.T) {
	base := roundTripper(func(*http.Request) (*http.Response, error) { return answer(429, ""), nil })
	tr := newTransport(t, 1, base, func(c *limiter.Config) { c.Retry.BaseDelay = time.Millisecond })
	pool := newPool(t, nil, "a", "b")
	for _, rt := range []http.RoundTripper{tr, NewPool(base, pool, PoolConfig{})} {
		req, _ := http.NewRequest("POST", "https://upstream.test/", strings.NewReader("x"))
		req.GetBody = func() (io.ReadCloser, error) { panic("no body") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("nothing panics")
				}
			}()
			_, _ = rt.RoundTrip(req)
		}()
	}
	wantInFlight(t, tr, 0)
	if s := pool.Stats(); s.InFlight != 0 {
		t.Errorf("the pool has %d calls in flight, want 0", s.InFlight)
	}
}

// A request body that fails is the caller's matter: it is not sent again, and the permit comes back.
func TestRequestBodyFails(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer srv.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	tr := newTransport(t, 1, base, nil)
	boom := errors.New("boom")
	sent := 0
	body := func() io.ReadCloser {
		sent++
		return io.NopCloser(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(boom)))
	}
	req, _ := http.NewRequest("POST", srv.URL, body())
	req.GetBody = func() (io.ReadCloser, error) { return body(), nil }
	if _, err := tr.RoundTrip(req); !errors.Is(err, boom) || sent != 1 {
		t.Errorf("%v after %d sends, want the body's error after one", err, sent)
	}
	wantInFlight(t, tr, 0)
}

// HEAD, 204 and 304 have no body to wait for; an answer before the request's body was asked for is one; trailers come through.
func TestAnswersOfAllShapes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.Header().Set("Link", "</x>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusProcessing)
			_, _ = io.WriteString(w, "late")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Sum", "42")
		case "/expect":
			w.WriteHeader(http.StatusExpectationFailed) // without reading the body
		default:
			_, _ = io.WriteString(w, "x")
		}
	}))
	defer srv.Close()
	base := &http.Transport{ExpectContinueTimeout: time.Second}
	defer base.CloseIdleConnections()
	tr := newTransport(t, 1, base, nil)
	do := func(method, path, body string) *http.Response {
		t.Helper()
		req, _ := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
		if path == "/expect" {
			req.Header.Set("Expect", "100-continue")
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return resp
	}
	for _, c := range []struct{ method, path string }{{"HEAD", "/"}, {"GET", "/204"}, {"GET", "/304"}} {
		_ = do(c.method, c.path, "") // not closed
		wantInFlight(t, tr, 0)
	}
	for _, c := range []struct {
		method, path, want string
		status             int
	}{{"GET", "/early", "late", 200}, {"GET", "/trailer", "body", 200}, {"POST", "/expect", "", 417}} {
		resp := do(c.method, c.path, "payload")
		b, err := io.ReadAll(resp.Body)
		if string(b) != c.want || err != nil || resp.StatusCode != c.status {
			t.Errorf("%s: %d %q, %v", c.path, resp.StatusCode, b, err)
		}
		_ = resp.Body.Close()
		if c.path == "/trailer" && resp.Trailer.Get("X-Sum") != "42" {
			t.Errorf("the trailer is %v", resp.Trailer)
		}
		wantInFlight(t, tr, 0)
	}
}

// Header fields as no server should send them, bodies in any pieces: the bytes go through, and the permit comes back.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "application/json", "X-Ratelimit-Remaining-Tokens", "-1", `{"error":{"code":"slow_down"}}`, uint8(3))
	f.Add(200, "text/event-stream", "Retry-After", "99999999999999999999", "data: {\"error\":{}}\n\n", uint8(1))
	f.Add(429, "text/html", "Retry-After", "Mon, 99 Foo 0000", "<html>", uint8(7))
	f.Add(101, "", "Upgrade", "x", "", uint8(0))
	f.Add(204, "application/x-ndjson", "Ratelimit-Policy", `"a";q=1;qu="concurrent-requests"`, "{}\n{", uint8(2))
	f.Add(200, "application/grpc-web", "Grpc-Status", "14", "x", uint8(2))
	f.Fuzz(func(t *testing.T, status int, contentType, name, value, body string, piece uint8) {
		for _, budget := range []*limiter.Budget{nil, {Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens}, {Kind: feedback.ScopeRequests, Limit: 5}}}} {
			tr := newTransport(t, 2, roundTripper(func(*http.Request) (*http.Response, error) {
				resp := answer(status, "", "Content-Type", contentType, name, value, name, value+"1")
				resp.Body, resp.ContentLength = io.NopCloser(&pieces{[]byte(body), int(piece)}), -1
				return resp, nil
			}), func(c *limiter.Config) { c.Retry.MaxAttempts, c.Budget = 1, budget })
			resp, err := get(t, context.Background(), tr)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if !bytes.Equal(got, []byte(body)) || err != nil {
				t.Fatalf("got %q, %v, want %q", got, err, body)
			}
			_ = resp.Body.Close()
			wantInFlight(t, tr, 0)
			if c := tr.Guard().Stats().Counts; fmt.Sprint(c.Outcomes) == fmt.Sprint([feedback.NumClasses]uint64{}) {
				t.Errorf("no outcome was counted")
			}
		}
	})
}

// pieces is a body that comes in pieces of so many bytes at most.
type pieces struct {
	left []byte
	most int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.most+1)], p.left)
	p.left = p.left[n:]
	return n, nil
}
