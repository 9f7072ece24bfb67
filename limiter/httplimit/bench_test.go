package httplimit

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// canned answers without a network.
type canned struct {
	header http.Header
	body   string
}

type cannedBody struct{ left string }

func (b *cannedBody) Read(p []byte) (int, error) {
	n := copy(p, b.left)
	if b.left = b.left[n:]; b.left == "" {
		return n, io.EOF
	}
	return n, nil
}

func (b *cannedBody) Close() error { return nil }

func (c *canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header, Body: &cannedBody{c.body}, ContentLength: int64(len(c.body)), Request: req,
	}, nil
}

// What upstreams answer: little, and as an LLM API does, without and with fields that tell of limits.
var (
	bare = &canned{headerOf("Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Request-Id", "req_0123456789"),
		`{"id":"cmpl-1","choices":[{"text":"forty-two"}],"created":17400}`}
	chatFields = []string{
		"Access-Control-Expose-Headers", "X-Request-ID", "Alt-Svc", `h3=":443"; ma=86400`, "Cf-Cache-Status", "DYNAMIC", "Cf-Ray", "9a3c1f0e2b7d4c11-FRA",
		"Connection", "keep-alive", "Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "Openai-Organization", "user-0123456789",
		"Openai-Processing-Ms", "412", "Openai-Version", "2020-10-01", "Server", "cloudflare", "Set-Cookie", "__cf_bm=abc; path=/; HttpOnly",
		"Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload", "X-Content-Type-Options", "nosniff", "X-Request-Id", "req_0123456789",
	}
	chatBody = `{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1787220000,"model":"gpt-4.1-2025-04-14",` +
		`"choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I assist you today?","refusal":null,"annotations":[]},` +
		`"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,` +
		`"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},` +
		`"service_tier":"default"}`
	chat   = &canned{headerOf(chatFields...), chatBody}
	stated = &canned{headerOf(append([]string{
		"X-Ratelimit-Limit-Requests", "10000", "X-Ratelimit-Remaining-Requests", "9999", "X-Ratelimit-Reset-Requests", "6ms",
		"X-Ratelimit-Limit-Tokens", "2000000", "X-Ratelimit-Remaining-Tokens", "1999000", "X-Ratelimit-Reset-Tokens", "30ms",
	}, chatFields...)...), chatBody}
	messages = &canned{headerOf(chatFields...), `{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","model":"claude-sonnet-4-5",` +
		`"content":[{"type":"text","text":"Hello! How can I assist you today?"}],"stop_reason":"end_turn","stop_sequence":null,` +
		`"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":6,"service_tier":"standard"}}`}
	page = &canned{headerOf("Content-Type", "text/html; charset=utf-8", "Date", "Mon, 23 Nov 2026 12:00:00 GMT"), strings.Repeat("<p>words", 64)}
)

func headerOf(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Set(fields[i], fields[i+1])
	}
	return h
}

// BenchmarkRoundTrip is what a call costs over a RoundTripper without a network, its body read and closed.
func BenchmarkRoundTrip(b *testing.B) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, c := range []struct {
		name   string
		base   *canned
		law    adaptive.Law
		budget bool
	}{
		{name: "bare", base: bare}, {name: "chat", base: chat}, {name: "stated", base: stated},
		{name: "messages", base: messages}, {name: "page", base: page},
		{name: "modest", base: chat, law: adaptive.NewFixed(64)},
		{name: "budget", base: stated, budget: true},
	} {
		cfg := limiter.Config{Law: c.law, Adaptive: adaptive.Config{Initial: 64, Min: 64, Max: 64}}
		if c.budget {
			cfg.Budget = &limiter.Budget{Limits: []limiter.BudgetLimit{
				{Kind: feedback.ScopeRequests, Limit: 1 << 40}, {Kind: feedback.ScopeTokens, Limit: 1 << 50},
			}}
		}
		guard, err := limiter.New(cfg)
		if err != nil {
			b.Fatal(err)
		}
		for name, t := range map[string]http.RoundTripper{"canned": c.base, "guarded": New(c.base, guard, Config{})} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://upstream.test/", nil)
				buf := make([]byte, 4096)
				b.ReportAllocs()
				for b.Loop() {
					resp, err := t.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					for err == nil {
						_, err = resp.Body.Read(buf)
					}
					_ = resp.Body.Close()
				}
			})
		}
	}
	guard, err := limiter.New(limiter.Config{Adaptive: adaptive.Config{Initial: 64, Min: 64, Max: 64}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("pair", func(b *testing.B) {
		for b.Loop() {
			p, err := guard.Acquire(ctx, limiter.Request{})
			if err != nil {
				b.Fatal(err)
			}
			p.Release(limiter.Outcome{})
		}
	})
}
