package httplimit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// The dialects of rate-limit answers over real connections: a server answers in the words of the fixtures of
// package feedback, shortened where they name a long delay, and recovers.

// An edit replaces text in a field of the header, or in the body, of a fixture. The text must be there.
type edit struct{ in, old, new string }

// A dialect is one way of answering.
type dialect struct {
	name    string
	fixture string // its name in feedback/testdata/responses.jsonl
	edits   []edit
	class   feedback.Class
	wait    time.Duration // the delay that the answer names, after the edits; 0 when it names none
	refuse  int           // how many requests are answered so; 0 means 1
	repeat  bool          // the request says that it may be repeated: it has an Idempotency-Key
	hint    string        // Config.Provider
}

const (
	ok         = feedback.OK
	throttled  = feedback.Throttled
	overloaded = feedback.Overloaded
	quota      = feedback.QuotaExhausted
)

// What is refused for a while is sent again, not before the delay that the answer names, and served.
func TestDialectsRecover(t *testing.T) {
	inBody := func(old, new string) []edit { return []edit{{"body", old, new}} }
	inHeader := func(name, old, new string) []edit { return []edit{{name, old, new}} }
	const ms, second = time.Millisecond, time.Second
	each(t, []dialect{
		{name: "OpenAI, tokens", fixture: "openai-429-tokens-per-minute", class: throttled, wait: 40 * ms,
			edits: inHeader("retry-after-ms", "300", "40")},
		{name: "OpenAI, a sentence", fixture: "openai-429-requests-per-minute-text-only", class: throttled, wait: 30 * ms,
			edits: inBody("try again in 20s", "try again in 30ms")},
		{name: "OpenAI, an exhausted window", fixture: "openai-429-no-hint-but-exhausted-window", class: throttled, wait: 50 * ms,
			edits: inHeader("x-ratelimit-reset-requests", "6m0s", "50ms")},
		{name: "OpenAI, slow down", fixture: "openai-429-slow-down", class: throttled},
		{name: "OpenAI, overloaded", fixture: "openai-503-server-is-overloaded", class: overloaded, refuse: 2},
		{name: "Azure OpenAI, provisioned", fixture: "azure-429-provisioned-both-hints", class: throttled, wait: 45 * ms,
			edits: inHeader("retry-after-ms", "1240", "45")},
		{name: "Azure OpenAI, a sentence", fixture: "azure-429-text-only", class: throttled, wait: second,
			edits: inBody("retry after 6 seconds", "retry after 1 seconds")},
		{name: "Azure, x-ms-retry-after-ms", fixture: "azure-retry-after-x-ms-variant", class: overloaded, wait: 35 * ms,
			edits: inHeader("x-ms-retry-after-ms", "2500", "35")},
		{name: "Azure API Management", fixture: "azure-apim-429-rate", class: throttled, wait: second,
			edits: inHeader("Retry-After", "27", "1")},
		{name: "Anthropic, input tokens", fixture: "anthropic-429-input-tokens", class: throttled, wait: second,
			edits: inHeader("retry-after", "17", "1")},
		{name: "Anthropic, a window and another clock", fixture: "anthropic-clock-skew-client-fast", class: throttled, wait: second,
			edits: inHeader("anthropic-ratelimit-tokens-reset", "10:00:45Z", "10:00:01Z")},
		{name: "Anthropic, concurrent connections", fixture: "anthropic-429-concurrent-connections", class: throttled, refuse: 3},
		{name: "Anthropic, overloaded", fixture: "anthropic-529-overloaded", class: overloaded},
		{name: "Anthropic, overloaded with a delay", fixture: "anthropic-529-with-retry-after", class: overloaded, wait: second,
			edits: inHeader("retry-after", "12", "1")},
		{name: "Gemini, requests a minute", fixture: "gemini-429-requests-per-minute", class: throttled, wait: 50 * ms,
			edits: inBody(`"retryDelay":"56s"`, `"retryDelay":"0.05s"`)},
		{name: "Gemini, a sentence", fixture: "gemini-429-text-milliseconds", class: throttled, wait: 41 * ms,
			edits: inBody("900.2ms", "40.2ms")},
		{name: "Gemini, an array", fixture: "gemini-429-array-envelope", class: throttled, wait: 50 * ms,
			edits: inBody(`"7s"`, `"0.050s"`)},
		{name: "Gemini, overloaded", fixture: "gemini-503-overloaded", class: overloaded},
		{name: "Gemini, a deadline", fixture: "gemini-504-deadline", class: feedback.Timeout, repeat: true},
		{name: "Vertex AI", fixture: "vertex-429-no-details", class: throttled, refuse: 2},
		{name: "Bedrock, requests", fixture: "bedrock-429-requests", class: throttled},
		{name: "Bedrock, x-amz-retry-after", fixture: "bedrock-429-x-amz-retry-after", class: throttled, wait: 40 * ms,
			edits: inHeader("X-Amz-Retry-After", "1500", "40")},
		{name: "Bedrock, the model is not ready", fixture: "bedrock-429-model-not-ready", class: overloaded},
		{name: "Bedrock, broken", fixture: "bedrock-500-internal", class: feedback.ServerError, repeat: true},
		{name: "Mistral, requests", fixture: "mistral-429-1300", class: throttled},
		{name: "Mistral, capacity", fixture: "mistral-429-3505-capacity", class: overloaded},
		{name: "Cohere", fixture: "cohere-429-per-minute", class: throttled},
		{name: "Groq, tokens", fixture: "groq-429-tpm", class: throttled, wait: second,
			edits: inHeader("retry-after", "6", "1")},
		{name: "Groq, flex capacity", fixture: "groq-498-flex-capacity", class: overloaded},
		{name: "Together", fixture: "together-429-per-second", class: throttled, wait: 50 * ms,
			edits: inHeader("x-ratelimit-reset", "0.5", "0.05")},
		{name: "Fireworks", fixture: "fireworks-503", class: overloaded},
		{name: "DeepSeek, concurrency", fixture: "deepseek-429-concurrency-mentions-balance", class: throttled, refuse: 2},
		{name: "xAI", fixture: "xai-429-requests-per-second", class: throttled},
		{name: "Cerebras", fixture: "cerebras-429-queue-exceeded", class: overloaded},
		{name: "OpenRouter, epoch milliseconds", fixture: "openrouter-429-free-per-minute", class: throttled, wait: 60 * ms,
			edits: inHeader("X-RateLimit-Reset", "1787220060000", "1787220000060")},
		{name: "OpenRouter, upstream", fixture: "openrouter-429-upstream", class: throttled},
		{name: "OpenRouter, in-flight budget", fixture: "openrouter-402-in-flight-budget", class: throttled, wait: second,
			edits: inHeader("Retry-After", "3", "1")},
		{name: "Hugging Face", fixture: "huggingface-429", class: throttled, wait: second,
			edits: inHeader("ratelimit", "t=55", "t=1")},
		{name: "DashScope, native, requests", fixture: "dashscope-native-429-rate", class: throttled},
		{name: "DashScope, native, tokens", fixture: "dashscope-native-429-allocation", class: throttled},
		{name: "DashScope, compatible, insufficient_quota with its link", fixture: "dashscope-compat-429-insufficient-quota", class: throttled},
		{name: "DashScope, compatible, insufficient_quota with a hint", fixture: "dashscope-compat-429-insufficient-quota", class: throttled,
			edits: inBody("https://help.aliyun.com/zh/model-studio/", "https://docs.test/"), hint: "dashscope"},
		{name: "Zhipu, concurrency", fixture: "zhipu-429-1302-concurrency", class: throttled},
		{name: "Zhipu, overloaded", fixture: "zhipu-429-1305-overloaded", class: overloaded},
		{name: "Moonshot, requests", fixture: "moonshot-429-rpm", class: throttled, wait: second},
		{name: "Moonshot, concurrency, no delay", fixture: "moonshot-429-concurrency-zero-delay", class: throttled, refuse: 3},
		{name: "Moonshot, overloaded", fixture: "moonshot-429-engine-overloaded", class: overloaded},
		{name: "Qianfan v2, requests", fixture: "qianfan-v2-429-rpm", class: throttled},
		{name: "Qianfan v2, output tokens", fixture: "qianfan-v2-429-output-tpm", class: throttled},
		{name: "Volcengine Ark, tokens", fixture: "ark-429-account-tpm", class: throttled},
		{name: "Volcengine Ark, in flight", fixture: "ark-429-in-flight", class: throttled},
		{name: "Volcengine Ark, overloaded", fixture: "ark-429-server-overloaded", class: overloaded},
		{name: "SiliconFlow, tokens", fixture: "siliconflow-429-tpm", class: throttled},
		{name: "SiliconFlow, overloaded", fixture: "siliconflow-503-50505", class: overloaded},
		{name: "Huawei API gateway", fixture: "huawei-apig-429", class: throttled},
		{name: "ElevenLabs, concurrency", fixture: "elevenlabs-429-concurrent", class: throttled},
		{name: "GitHub, primary", fixture: "github-403-primary", class: throttled, wait: second,
			edits: inHeader("x-ratelimit-reset", "1787220720", "1787220001")},
		{name: "GitHub, secondary", fixture: "github-403-secondary", class: throttled, wait: second,
			edits: inHeader("retry-after", "60", "1")},
		{name: "GitLab", fixture: "gitlab-429", class: throttled, wait: second,
			edits: inHeader("Retry-After", "30", "1")},
		{name: "Shopify, a fraction", fixture: "shopify-rest-429", class: throttled, wait: 50 * ms,
			edits: inHeader("Retry-After", "2.0", "0.05")},
		{name: "Slack", fixture: "slack-429", class: throttled, wait: second,
			edits: inHeader("Retry-After", "30", "1")},
		{name: "Stripe, concurrency", fixture: "stripe-429-global-concurrency", class: throttled},
		{name: "Stripe, a lock", fixture: "stripe-429-lock-timeout", class: throttled},
		{name: "X", fixture: "twitter-429", class: throttled, wait: second,
			edits: inHeader("x-rate-limit-reset", "1787220550", "1787220001")},
		{name: "Discord, the body only", fixture: "discord-429-global-body-only", class: throttled, wait: 45 * ms,
			edits: inBody(`"retry_after":0.0004`, `"retry_after":0.045`)},
		{name: "Reddit, no body", fixture: "reddit-429-empty-body", class: throttled, wait: second,
			edits: inHeader("x-ratelimit-reset", "312", "1")},
		{name: "Cloudflare, RateLimit and Retry-After", fixture: "cloudflare-api-429", class: throttled, wait: second,
			edits: inHeader("retry-after", "31", "1")},
		{name: "Cloudflare, 1015", fixture: "cloudflare-1015-html", class: throttled, wait: second,
			edits: inHeader("retry-after", "30", "1")},
		{name: "IETF RateLimit, concurrent requests", fixture: "ietf-concurrent-requests-unit", class: throttled, wait: second,
			edits: inHeader("RateLimit", "t=2", "t=1")},
		{name: "IETF problem, reduced capacity", fixture: "ietf-problem-reduced-capacity", class: overloaded, wait: second,
			edits: inHeader("Retry-After", "5", "1")},
		{name: "Envoy", fixture: "envoy-limit-list", class: throttled, wait: second},
		{name: "Kong", fixture: "kong-per-window-headers", class: throttled, wait: second,
			edits: inHeader("Retry-After", "23", "1")},
		{name: "Kubernetes", fixture: "kubernetes-429-apf", class: throttled, wait: second},
		{name: "Kubernetes, the body only", fixture: "kubernetes-429-body-delay-only", class: throttled, wait: second,
			edits: inBody(`"retryAfterSeconds":5`, `"retryAfterSeconds":1`)},
		{name: "gRPC, trailers only", fixture: "grpc-resource-exhausted-pushback", class: throttled, wait: 40 * ms,
			edits: inHeader("grpc-retry-pushback-ms", "2500", "40")},
		{name: "an HTTP date by the server's clock", fixture: "retry-after-http-date", class: throttled, wait: second,
			edits: inHeader("Retry-After", "10:00:45", "10:00:01")},
		{name: "text that is not UTF-8", fixture: "body-not-utf8", class: throttled},
		// Inside a 200, of which nothing was handed on.
		{name: "OpenAI, response.failed", fixture: "openai-200-stream-response-failed-rate-limit", class: throttled, wait: 60 * time.Millisecond,
			edits: inBody("1.898s", "60ms")},
		{name: "OpenAI, response.failed, overloaded", fixture: "openai-200-stream-server-overloaded", class: overloaded},
		{name: "Anthropic, the first event", fixture: "anthropic-200-stream-first-event-overloaded", class: overloaded},
		{name: "Anthropic-compatible, a sentence", fixture: "anthropic-compatible-200-stream-statusless-throttle", class: throttled},
		{name: "DashScope, the status in a comment", fixture: "dashscope-stream-429-in-comment", class: throttled},
	}, func(t *testing.T, d dialect) {
		up, tr := start(t, d)
		refusals := uint64(max(d.refuse, 1))

		first := make(chan error, 1)
		go func() { first <- served(up.ask(t, tr, d)) }()
		extra := 0
		if d.wait > 0 && up.scope != "concurrency" {
			// While the guard knows that it has to wait, nobody else is sent either.
			extra = 2
			eventually(t, func() bool { return outcomes(tr, d.class) > 0 })
			var wg sync.WaitGroup
			for range extra {
				wg.Go(func() {
					if err := served(up.ask(t, tr, d)); err != nil {
						t.Errorf("a call that came while the guard paused: %v", err)
					}
				})
			}
			wg.Wait()
		}
		if err := <-first; err != nil {
			t.Errorf("the refused call: %v", err)
		}

		if got := outcomes(tr, d.class); got != refusals {
			t.Errorf("%d answers counted as %v, want %d", got, d.class, refusals)
		}
		if got, want := outcomes(tr, ok), uint64(1+extra); got != want {
			t.Errorf("%d calls counted as ok, want %d", got, want)
		}
		arrived, refused := up.seen()
		if got, want := len(arrived), int(refusals)+1+extra; got != want {
			t.Errorf("%d requests arrived, want %d", got, want)
		}
		for i, at := range arrived {
			if i > 0 && at.Sub(refused[0]) < d.wait {
				t.Errorf("request %d arrived %v after the refusal, which asked for %v", i+1, at.Sub(refused[0]), d.wait)
			}
		}
		if n := tr.Guard().Stats().InFlight; n != 0 {
			t.Errorf("%d in flight at the end, want 0", n)
		}
	})
}

// What waiting does not cure goes to the caller as it came, and is not sent again.
func TestDialectsHandOver(t *testing.T) {
	each(t, []dialect{
		{name: "OpenAI, no money", fixture: "openai-429-insufficient-quota", class: quota},
		{name: "OpenAI, credits", fixture: "openai-429-credit-balance-exhausted", class: quota},
		{name: "OpenAI, spend limit with a delay", fixture: "openai-429-project-spend-limit", class: quota},
		{name: "OpenAI, requests a day", fixture: "openai-429-requests-per-day", class: quota},
		{name: "OpenAI, larger than the window", fixture: "openai-429-request-larger-than-window", class: feedback.ClientError},
		{name: "OpenAI, says not to", fixture: "openai-429-should-not-retry", class: throttled,
			edits: []edit{{"retry-after", "20", "1"}}}, // a delay that could be waited for
		{name: "OpenAI, context length", fixture: "openai-400-context-length", class: feedback.ClientError},
		{name: "OpenAI, insufficient_quota without DashScope's link", fixture: "dashscope-compat-429-insufficient-quota", class: quota,
			edits: []edit{{"body", "https://help.aliyun.com/zh/model-studio/", "https://docs.test/"}}},
		{name: "Azure API Management, quota", fixture: "azure-apim-403-quota", class: quota},
		{name: "Anthropic, spend limit", fixture: "anthropic-429-enforced-spend-limit", class: quota},
		{name: "Anthropic, own spend limit", fixture: "anthropic-400-own-spend-limit", class: quota},
		{name: "Anthropic, credit", fixture: "anthropic-400-credit-too-low", class: quota},
		{name: "Anthropic, billing", fixture: "anthropic-402-billing", class: quota},
		{name: "Anthropic, a broken POST", fixture: "anthropic-500-api-error", class: feedback.ServerError},
		{name: "Gemini, requests a day", fixture: "gemini-429-requests-per-day", class: quota},
		{name: "Gemini, a limit of zero", fixture: "gemini-429-limit-zero", class: quota},
		{name: "Gemini, prepaid", fixture: "gemini-402-prepay-depleted", class: quota},
		{name: "Bedrock, tokens a day", fixture: "bedrock-429-tokens-per-day", class: quota},
		{name: "Bedrock, service quota", fixture: "bedrock-400-service-quota", class: quota},
		{name: "Cohere", fixture: "cohere-402", class: quota},
		{name: "Groq, tokens a day", fixture: "groq-429-tokens-per-day", class: quota},
		{name: "Groq, too large", fixture: "groq-413-request-too-large", class: feedback.ClientError},
		{name: "Together", fixture: "together-402", class: quota},
		{name: "DeepSeek", fixture: "deepseek-402", class: quota},
		{name: "xAI, the code of a rate", fixture: "xai-429-free-quota-same-code", class: quota},
		{name: "OpenRouter, a day", fixture: "openrouter-429-free-per-day", class: quota},
		{name: "OpenRouter, credits", fixture: "openrouter-402-credits", class: quota},
		{name: "Hugging Face", fixture: "huggingface-402-credits", class: quota},
		{name: "DashScope, arrears", fixture: "dashscope-400-arrearage", class: quota},
		{name: "DashScope, free tier", fixture: "dashscope-403-free-tier-only", class: quota},
		{name: "Zhipu, calls a day", fixture: "zhipu-429-1304-daily", class: quota},
		{name: "Zhipu, arrears", fixture: "zhipu-429-1113-arrears", class: quota},
		{name: "Zhipu, not MiniMax's 1002", fixture: "zhipu-401-1002-not-minimax", class: feedback.ClientError},
		{name: "Moonshot, tokens a day", fixture: "moonshot-429-tpd", class: quota},
		{name: "Moonshot, balance", fixture: "moonshot-429-balance", class: quota},
		{name: "Qianfan v2, overdue", fixture: "qianfan-v2-403-overdue", class: quota},
		{name: "Volcengine Ark, own limit", fixture: "ark-429-set-limit", class: quota},
		{name: "Volcengine Ark, overdue", fixture: "ark-403-overdue", class: quota},
		{name: "SiliconFlow", fixture: "siliconflow-403-balance", class: quota},
		{name: "GitHub, permission", fixture: "github-403-permission", class: feedback.ClientError},
		{name: "a delay beyond MaxPause", fixture: "anthropic-429-long-retry-after", class: throttled, wait: 62291 * time.Second},
	}, func(t *testing.T, d dialect) {
		up, tr := start(t, d)
		resp, body, err := up.ask(t, tr, d)
		if err != nil {
			t.Fatal(err)
		}
		up.sameAnswer(t, resp, body)
		switch told := resp.Header.Get("X-Should-Retry"); d.class {
		case quota, throttled, overloaded:
			if told != "false" {
				t.Errorf("X-Should-Retry is %q, want false", told)
			}
		default:
			if told != "" {
				t.Errorf("X-Should-Retry is %q, want none", told)
			}
		}
		if got := outcomes(tr, d.class); got != 1 {
			t.Errorf("%d answers counted as %v, want 1", got, d.class)
		}
		if arrived, _ := up.seen(); len(arrived) != 1 {
			t.Errorf("%d requests arrived, want 1", len(arrived))
		}
		if n := tr.Guard().Stats().InFlight; n != 0 {
			t.Errorf("%d in flight at the end, want 0", n)
		}
		if d.wait == 0 {
			return
		}
		// "A Retry-After of a day is a typed refusal with the date instead of a hang."
		_, _, err = up.ask(t, tr, d)
		var rejected *limiter.RejectedError
		if !errors.As(err, &rejected) || rejected.Reason != limiter.ReasonPaused {
			t.Fatalf("the next call: %v, want a refusal because of the pause", err)
		}
		if _, refused := up.seen(); rejected.RetryAt.Sub(refused[0]) < d.wait-time.Millisecond {
			t.Errorf("the next call may come back %v after the answer, which asked for %v", rejected.RetryAt.Sub(refused[0]), d.wait)
		}
		if arrived, _ := up.seen(); len(arrived) != 1 {
			t.Errorf("%d requests arrived, want 1", len(arrived))
		}
	})
}

// An answer of 200 that holds an error goes to the caller byte for byte, unless it is a stream that begins with it, or JSON and not the first of its kind; the guard hears of the error, and keeps
// the next call back as long as it asks for.
func TestDialectsInsideSuccess(t *testing.T) {
	each(t, []dialect{
		{name: "OpenAI, a whole stream", fixture: "openai-200-stream-complete-with-usage", class: ok},
		{name: "Azure OpenAI, windows of -1", fixture: "azure-200-minus-one-headers", class: ok},
		{name: "Anthropic, after text", fixture: "anthropic-200-stream-overloaded-after-text", class: overloaded},
		{name: "Anthropic, a whole stream", fixture: "anthropic-200-stream-ok-crlf", class: ok},
		{name: "Anthropic, a poll with Retry-After", fixture: "anthropic-200-poll-with-retry-after", class: ok},
		{name: "OpenRouter, a stream", fixture: "openrouter-200-stream-error-429", class: throttled},
		{name: "OpenRouter, JSON", fixture: "openrouter-200-json-error", class: feedback.ServerError},
		{name: "DeepSeek, blank lines first", fixture: "deepseek-ok-leading-blank-lines", class: ok},
		{name: "DeepSeek, keep-alive", fixture: "deepseek-ok-stream-keepalive", class: ok},
		{name: "DashScope, JSON", fixture: "dashscope-multimodal-200-code", class: throttled},
		{name: "Qianfan v1, requests a second", fixture: "qianfan-v1-200-18-qps", class: throttled},
		{name: "Qianfan v1, tokens", fixture: "qianfan-v1-200-336502-tpm", class: throttled},
		{name: "Qianfan v1, load", fixture: "qianfan-v1-200-336100-load", class: overloaded},
		{name: "Qianfan v1, calls a day", fixture: "qianfan-v1-200-17-daily", class: quota},
		{name: "Hunyuan, requests", fixture: "hunyuan-200-request-limit", class: throttled},
		{name: "Hunyuan, pack", fixture: "hunyuan-200-pack-exhausted", class: quota},
		{name: "MiniMax, requests", fixture: "minimax-200-1002-rpm", class: throttled},
		{name: "MiniMax, tokens", fixture: "minimax-200-1039-tokens", class: throttled},
		{name: "MiniMax, balance", fixture: "minimax-200-1008-balance", class: quota},
		{name: "MiniMax, a stream", fixture: "minimax-200-stream-base-resp", class: throttled},
		{name: "MiniMax, served", fixture: "minimax-200-success", class: ok},
		{name: "Shopify GraphQL", fixture: "shopify-graphql-200-throttled", class: throttled},
		{name: "an answer about rate limits", fixture: "content-talks-about-rate-limits", class: ok},
		{name: "a stream about errors", fixture: "stream-content-talks-about-errors", class: ok},
	}, func(t *testing.T, d dialect) {
		up, tr := start(t, d)
		resp, body, err := up.ask(t, tr, d)
		if err != nil {
			t.Fatal(err)
		}
		up.sameAnswer(t, resp, body)
		if got := outcomes(tr, d.class); got != 1 {
			t.Errorf("%d answers counted as %v, want 1", got, d.class)
		}
		if n := tr.Guard().Stats().InFlight; n != 0 {
			t.Errorf("%d in flight at the end, want 0", n)
		}
		arrived, _ := up.seen()
		if len(arrived) != 1 {
			t.Errorf("%d requests arrived, want 1: its bytes were with the caller already", len(arrived))
		}
		if d.wait == 0 {
			return
		}
		if err := served(up.ask(t, tr, d)); err != nil {
			t.Errorf("the next call: %v", err)
		}
		arrived, refused := up.seen()
		if len(arrived) == 2 && arrived[1].Sub(refused[0]) < d.wait {
			t.Errorf("the next call arrived %v after the error, which asked for %v", arrived[1].Sub(refused[0]), d.wait)
		}
	})
}

// each runs f for every dialect, all at once: most of them wait.
func each(t *testing.T, dialects []dialect, f func(*testing.T, dialect)) {
	var wg sync.WaitGroup
	for _, d := range dialects {
		wg.Go(func() {
			t.Run(d.name, func(t *testing.T) { f(t, d) })
		})
	}
	wg.Wait()
}

// recovered is what the upstream answers once it serves.
const recovered = `{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}`

// upstream is a server that answers in a dialect and then serves.
type upstream struct {
	url    string
	status int
	header http.Header
	body   []byte
	scope  string // of the fixture's limit
	refuse int

	mu      sync.Mutex
	arrived []time.Time // requests
	refused []time.Time // just before the answer in the dialect was sent
}

// start returns an upstream for a dialect, and a transport to it.
func start(t *testing.T, d dialect) (*upstream, *httplimit.Transport) {
	t.Helper()
	up := load(t, d)
	srv := httptest.NewServer(up)
	t.Cleanup(srv.Close)
	up.url = srv.URL + "/v1/chat/completions"
	guard, err := limiter.New(limiter.Config{
		Name: d.name, Law: adaptive.NewFixed(8), PauseJitter: -1,
		Retry: limiter.Retry{BaseDelay: time.Millisecond, MaxDelay: time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	return up, httplimit.New(base, guard, httplimit.Config{Provider: d.hint})
}

// load returns the upstream that answers with a dialect's fixture, edited.
func load(t *testing.T, d dialect) *upstream {
	t.Helper()
	f, found := fixtures()[d.fixture]
	if !found {
		t.Fatalf("there is no fixture %q", d.fixture)
	}
	up := &upstream{status: f.Status, body: []byte(f.Body), header: http.Header{}, scope: f.Expect.Scope, refuse: max(d.refuse, 1)}
	if f.Base64 != "" {
		var err error
		if up.body, err = base64.StdEncoding.DecodeString(f.Base64); err != nil {
			t.Fatal(err)
		}
	}
	for name, raw := range f.Headers {
		var one string
		var several []string
		if json.Unmarshal(raw, &one) == nil {
			several = []string{one}
		} else if err := json.Unmarshal(raw, &several); err != nil {
			t.Fatal(err)
		}
		for _, v := range several {
			up.header.Add(name, v)
		}
	}
	for _, e := range d.edits {
		text := string(up.body)
		if e.in != "body" {
			text = up.header.Get(e.in)
		}
		if !strings.Contains(text, e.old) {
			t.Fatalf("%s of %s is %q, without %q", e.in, d.fixture, text, e.old)
		}
		text = strings.Replace(text, e.old, e.new, 1)
		if e.in == "body" {
			up.body = []byte(text)
		} else {
			up.header.Set(e.in, text)
		}
	}
	if d.edits == nil && f.Expect.Class != d.class.String() {
		t.Fatalf("the fixture %s is of class %s, and the table says %v", d.fixture, f.Expect.Class, d.class)
	}
	return up
}

func (up *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sent, _ := io.ReadAll(r.Body)
	up.mu.Lock()
	up.arrived = append(up.arrived, time.Now())
	refuse := len(up.refused) < up.refuse
	if string(sent) != payload {
		refuse = true // every attempt carries the whole request; the answer is not what the test wants
		up.refuse++
	}
	if refuse {
		up.refused = append(up.refused, time.Now())
	}
	up.mu.Unlock()
	if !refuse {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, recovered)
		return
	}
	maps.Copy(w.Header(), up.header)
	if up.header.Get("Content-Type") == "" {
		w.Header()["Content-Type"] = nil // as sent: none
	}
	w.WriteHeader(up.status)
	if !strings.HasPrefix(up.header.Get("Content-Type"), "text/event-stream") {
		w.Write(up.body)
		return
	}
	// A stream comes in pieces that end anywhere.
	for piece := range slices.Chunk(up.body, 17) {
		w.Write(piece)
		http.NewResponseController(w).Flush()
	}
}

// seen returns when requests arrived, and when they were answered in the dialect.
func (up *upstream) seen() (arrived, refused []time.Time) {
	up.mu.Lock()
	defer up.mu.Unlock()
	return slices.Clone(up.arrived), slices.Clone(up.refused)
}

const payload = `{"model":"m","messages":[{"role":"user","content":"hello"}]}`

// ask sends a request through the transport and reads the answer to its end.
func (up *upstream) ask(t *testing.T, tr *httplimit.Transport, d dialect) (*http.Response, []byte, error) {
	// Long enough for a machine with other things to do, and shorter than the delays before the edits.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", up.url, strings.NewReader(payload))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if d.repeat {
		req.Header.Set("Idempotency-Key", "1")
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// served returns what is wrong with an answer that should be the recovered upstream's.
func served(resp *http.Response, body []byte, err error) error {
	switch {
	case err != nil:
		return err
	case resp.StatusCode != 200 || string(body) != recovered:
		return errors.New(resp.Status + ": " + string(body))
	case resp.Header.Get("X-Should-Retry") != "":
		return errors.New("200 with X-Should-Retry")
	}
	return nil
}

// sameAnswer fails unless the caller got what was sent: status, fields and bytes.
func (up *upstream) sameAnswer(t *testing.T, resp *http.Response, body []byte) {
	t.Helper()
	if resp.StatusCode != up.status {
		t.Errorf("status %d, want %d", resp.StatusCode, up.status)
	}
	if !bytes.Equal(body, up.body) {
		t.Errorf("body %q, want %q", body, up.body)
	}
	for name, want := range up.header {
		if got := resp.Header[name]; !slices.Equal(got, want) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for name := range resp.Header {
		switch name {
		case "Date", "Content-Length", "X-Should-Retry": // the server's own, and the promised one
		default:
			if _, was := up.header[name]; !was {
				t.Errorf("%s was added", name)
			}
		}
	}
}

func outcomes(tr *httplimit.Transport, c feedback.Class) uint64 {
	return tr.Guard().Stats().Counts.Outcomes[c]
}

// eventually waits until what is true.
func eventually(t *testing.T, what func() bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); !what(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("waited in vain")
		}
	}
}

// fixture is one line of feedback/testdata/responses.jsonl, as far as it is used here.
type fixture struct {
	Name    string                     `json:"name"`
	Status  int                        `json:"status"`
	Headers map[string]json.RawMessage `json:"headers"`
	Body    string                     `json:"body"`
	Base64  string                     `json:"body_base64"`
	Expect  struct {
		Class string `json:"class"`
		Scope string `json:"scope"`
	} `json:"expect"`
}

// fixtures returns the fixtures of package feedback by name.
var fixtures = sync.OnceValue(func() map[string]fixture {
	file, err := os.Open("../../feedback/testdata/responses.jsonl")
	if err != nil {
		panic(err)
	}
	defer file.Close()
	byName := map[string]fixture{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var f fixture
		if e := json.Unmarshal(lines.Bytes(), &f); e != nil {
			panic(e)
		}
		byName[f.Name] = f
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
	return byName
})
