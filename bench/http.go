package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/flyball-go/flyball/adaptive"
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
	// An answer as an LLM API sends them: 15 fields, and 640 bytes of JSON.
	chatBody := `{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1787220000,"model":"gpt-4.1-2025-04-14",` +
		`"choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I assist you today?","refusal":null,"annotations":[]},` +
		`"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,` +
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},` +
		`"service_tier":"default"}`
	chatFields := []string{
		"Access-Control-Expose-Headers", "X-Request-ID", "Alt-Svc", `h3=":443"; ma=86400`, "Cf-Cache-Status", "DYNAMIC", "Cf-Ray", "9a3c1f0e2b7d4c11-FRA",
		"Connection", "keep-alive", "Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "Openai-Organization", "user-0123456789",
		"Openai-Processing-Ms", "412", "Openai-Version", "2020-10-01", "Server", "cloudflare", "Set-Cookie", "__cf_bm=abc; path=/; HttpOnly",
		"Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload", "X-Content-Type-Options", "nosniff", "X-Request-Id", "req_0123456789",
	}
	limitFields := []string{
		"X-Ratelimit-Limit-Requests", "10000", "X-Ratelimit-Remaining-Requests", "9999", "X-Ratelimit-Reset-Requests", "6ms",
		"X-Ratelimit-Limit-Tokens", "2000000", "X-Ratelimit-Remaining-Tokens", "1999000", "X-Ratelimit-Reset-Tokens", "30ms",
	}
	longBody := `{"id":"chatcmpl-1","object":"chat.completion","created":1787220000,"model":"m","choices":[{"index":0,"message":{"role":"assistant",` +
		`"content":"` + strings.Repeat("some words of an answer, ", 80) + `"},"finish_reason":"stop"}],` + usage + `}`
	plainHeader := header("Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Request-Id", "req_0123456789")
	short, long := &canned{plainHeader, shortBody}, &canned{plainHeader, longBody}
	chat, stated := &canned{header(chatFields...), chatBody}, &canned{header(append(limitFields, chatFields...)...), chatBody}
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
		{"canned, an LLM's answer", 7, roundTrips(chat)},
		{"flyball, an LLM's answer", 7, roundTrips(ourTransport(chat, 1))},
		{"flyball with a law that asks for nothing, the same", 7, roundTrips(ourModestTransport(chat))},
		{"canned, an LLM's answer with rate limit fields", 10, roundTrips(stated)},
		{"flyball, an LLM's answer with rate limit fields", 10, roundTrips(ourTransport(stated, 1))},
		{"flyball with a budget of tokens, the same", 10, roundTrips(ourBudgetTransport(stated))},
	}
	// The references go along as two columns more; they say which rounds count.
	fs := make([]func(int), len(rows), len(rows)+2)
	for i, r := range rows {
		fs[i] = r.f
	}
	rounds := solo(append(fs, atomicPair().pairs, clockPair().pairs), b.budget)
	all := rounds.undisturbed(len(rows), len(rows)+1)
	t := b.table("http", "an HTTP request, answer read and closed, over a canned RoundTripper", "ns", "added ns", "objects allocated", "added objects")
	objects := make([]float64, len(fs))
	for i, r := range rows {
		objects[i] = allocations(r.f, 10_000)
		t.add(r.name, plain(all.of(i)), quartiles(all.added(i, r.base)), plain(exact(whole(objects[i]))), plain(exact(whole(objects[i]-objects[r.base]))))
	}
	t.note("Median (quartiles) over %d of %d rounds: those in which neither A nor F took more than 5 %% longer than in the best tenth.", len(all), len(rounds))
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

// ourModestTransport returns a guard whose law has a limit and makes no use of what answers tell.
func ourModestTransport(base http.RoundTripper) http.RoundTripper {
	return httplimit.New(base, newGuard(adaptive.NewFixed(64), 1), httplimit.Config{})
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
