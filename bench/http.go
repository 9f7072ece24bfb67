package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// canned is a RoundTripper that answers without a network, and allocates what a caller cannot do
// without: the answer and its body.
type canned struct {
	header http.Header
	body   string
}

func (c *canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header, Body: &cannedBody{c.body}, ContentLength: int64(len(c.body)), Request: req,
	}, nil
}

// cannedBody is a body that is there.
type cannedBody struct{ left string }

func (b *cannedBody) Read(p []byte) (int, error) {
	n := copy(p, b.left)
	if b.left = b.left[n:]; b.left == "" {
		return n, io.EOF
	}
	return n, nil
}

func (b *cannedBody) Close() error { return nil }

// header returns a header of the given fields.
func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Set(fields[i], fields[i+1])
	}
	return h
}

// readWhole reads an answer to its end and closes it.
func readWhole(resp *http.Response, buf []byte) {
	var err error
	for err == nil {
		_, err = resp.Body.Read(buf)
	}
	_ = resp.Body.Close()
}

func newRequest() *http.Request {
	u := &url.URL{Scheme: "http", Host: "upstream.test", Path: "/"}
	return (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Host: u.Host}).WithContext(live)
}

// roundTrips returns a loop of requests through t, each answer read to its end and closed.
func roundTrips(t http.RoundTripper) func(n int) {
	req, buf := newRequest(), make([]byte, 4096)
	return func(n int) {
		for range n {
			resp, err := t.RoundTrip(req)
			if err != nil {
				panic(err)
			}
			readWhole(resp, buf)
		}
	}
}

// guardedByHand returns the same with a permit that is held around each.
func guardedByHand(base http.RoundTripper) func(n int) {
	req, buf, g := newRequest(), make([]byte, 4096), newGuard(held(64), 1)
	return func(n int) {
		for range n {
			p, err := g.Acquire(req.Context(), limiter.Request{})
			if err != nil {
				panic(err)
			}
			resp, err := base.RoundTrip(req)
			if err != nil {
				panic(err)
			}
			readWhole(resp, buf)
			p.Release(limiter.Outcome{})
		}
	}
}

// overHTTP measures what a guarded RoundTripper adds to a canned one.
func overHTTP(b *bench) error {
	const (
		shortBody = `{"id":"cmpl-1","choices":[{"text":"forty-two"}],"created":17400}`
		usage     = `"usage":{"prompt_tokens":19,"completion_tokens":350,"total_tokens":369}`
	)
	longBody := `{"id":"chatcmpl-1","object":"chat.completion","created":1787220000,"model":"m","choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"` + strings.Repeat("some words of an answer, ", 80) + `"},"finish_reason":"stop"}],` + usage + `}`
	plainHeader := header("Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Request-Id", "req_0123456789")
	statedHeader := header("Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Request-Id", "req_0123456789",
		"X-Ratelimit-Limit-Requests", "10000", "X-Ratelimit-Remaining-Requests", "9999", "X-Ratelimit-Reset-Requests", "6ms",
		"X-Ratelimit-Limit-Tokens", "2000000", "X-Ratelimit-Remaining-Tokens", "1999000", "X-Ratelimit-Reset-Tokens", "30ms")
	short, long, stated := &canned{plainHeader, shortBody}, &canned{plainHeader, longBody}, &canned{statedHeader, longBody}
	rows := []struct {
		name string
		base int
		f    func(int)
	}{
		{"canned", 0, roundTrips(short)},
		{"flyball", 0, roundTrips(ourTransport(short, 1))},
		{"flyball, 1 in 16 timed", 0, roundTrips(ourTransport(short, 16))},
		{"a guard by hand, held around the call", 0, guardedByHand(short)},
		{"failsafe-go adaptive limiter", 0, roundTrips(failsafeTransport(short))},
		{"canned, 2 KB", 5, roundTrips(long)},
		{"flyball, 2 KB", 5, roundTrips(ourTransport(long, 1))},
		{"canned, 2 KB, with rate limit fields", 7, roundTrips(stated)},
		{"flyball, 2 KB, with rate limit fields", 7, roundTrips(ourTransport(stated, 1))},
		{"flyball with a budget of tokens, the same", 7, roundTrips(ourBudgetTransport(stated))},
	}
	fs := make([]func(int), len(rows))
	for i, r := range rows {
		fs[i] = r.f
	}
	all := solo(fs, b.budget)
	t := b.table("http", "an HTTP request, answer read and closed, over a canned RoundTripper", "ns", "added ns", "objects allocated", "added objects")
	objects := make([]float64, len(fs))
	for i, r := range rows {
		objects[i] = allocations(r.f, 10_000)
		t.add(r.name, plain(all.of(i)), quartiles(all.added(i, r.base)), plain(exact(whole(objects[i]))), plain(exact(whole(objects[i]-objects[r.base]))))
	}
	b.target(atMost("RoundTripper over a canned one: time", 150, "ns added", all.added(1, 0)))
	b.target(atMost("RoundTripper over a canned one: objects", 1, "added", exact(whole(objects[1]-objects[0]))))
	return nil
}

// whole rounds a count of objects that is a whole number but for what the harness itself allocated.
func whole(x float64) float64 {
	if r := float64(int(x + 0.5)); x-r < 0.02 && r-x < 0.02 {
		return r
	}
	return x
}

// ourTransport returns the guard as a RoundTripper over base.
func ourTransport(base http.RoundTripper, timeOneIn int) http.RoundTripper {
	return httplimit.New(base, newGuard(held(64), timeOneIn), httplimit.Config{})
}

// ourBudgetTransport returns a guard with a budget that never binds, so that all that an answer tells is read.
func ourBudgetTransport(base http.RoundTripper) http.RoundTripper {
	g, err := limiter.New(limiter.Config{
		Name: "bench", Law: held(64), Seed: 1,
		Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
			{Kind: feedback.ScopeRequests, Limit: 1 << 40}, {Kind: feedback.ScopeTokens, Limit: 1 << 50},
		}},
	})
	if err != nil {
		panic(err)
	}
	return httplimit.New(base, g, httplimit.Config{})
}
