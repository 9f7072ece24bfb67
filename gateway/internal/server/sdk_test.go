package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/flyball-go/flyball/feedback"
)

// The tests of this file have bytes of SDKs and of the APIs that they call, as they were seen on the wire; see docs/sdks.md.

// withFallback is a file with an upstream that another one stands in for, at /b.
func withFallback(up, other string) string {
	return fmt.Sprintf(`
[upstream.up]
base_url = %q
[upstream.other]
base_url = %q
[[gateway.route]]
path = "/b"
upstream = "up"
fallback = [{ upstream = "other" }]
`, up, other)
}

// typeOf returns the type of an answer: one JSON value, or events.
func typeOf(body string) string {
	if strings.HasPrefix(body, "{") {
		return "application/json"
	}
	return "text/event-stream; charset=utf-8"
}

// A stream that the upstream refuses in its first event, and an answer in JSON that is a refusal, is sent again, or to a fallback; what stays a refusal reaches the caller byte for byte.
func TestRefusalInTheFirstEvent(t *testing.T) {
	const anthropic = "event: error\ndata: {\"type\":\"error\",\"error\":{\"details\":null,\"type\":\"overloaded_error\",\"message\":\"Overloaded\"},\"request_id\":\"req_1\"}\n\n"
	const openai = "data: {\"error\":{\"message\":\"Rate limit reached for requests\",\"type\":\"requests\",\"param\":null,\"code\":\"rate_limit_exceeded\"}}\n\ndata: [DONE]\n\n"
	const served = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n" +
		"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	const minimax = `{"base_resp":{"status_code":1002,"status_msg":"rate limit"}}`
	for path, refusal := range map[string]string{"/messages": anthropic, "/chat/completions": openai, "/text/chatcompletion_v2": minimax} {
		var refuse, sent atomic.Int64
		stream := func(body string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				if body == "" && sent.Add(1) <= refuse.Load() {
					body = refusal
				}
				if body == "" {
					body = served
				}
				w.Header().Set("Content-Type", typeOf(body))
				w.(http.Flusher).Flush()
				_, _ = io.WriteString(w, body)
			}
		}
		up := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { stream("")(w, r) })
		other := upstreamServer(t, stream("data: other\n\n"))
		g := start(t, withFallback(up.URL, other.URL)+`
fallback_after = "1ms"
[[gateway.route]]
path = "/a"
upstream = "up"
[guard]
law = "fixed"
[guard.retry]
base_delay = "50ms"
max_delay = "100ms"
max_attempts = 3
`)
		refuse.Store(2)
		if got := read(t, post(t, client(t), g.url+"/a"+path, chatStream)); got != served || sent.Load() != 3 {
			t.Errorf("%s: sent %d times, the caller has %q", path, sent.Load(), got)
		}
		sent.Store(0)
		refuse.Store(100)
		resp := post(t, client(t), g.url+"/a"+path, chatStream)
		if got := read(t, resp); got != refusal || resp.StatusCode != 200 || sent.Load() != 3 || resp.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: sent %d times, the caller has %q, %v", path, sent.Load(), got, resp.Header)
		}
		if got := read(t, post(t, client(t), g.url+"/b"+path, chatStream)); got != "data: other\n\n" {
			t.Errorf("%s: with a fallback the caller has %q", path, got)
		}
		for i, l := range g.callLines(2)[:2] {
			if l.Sent != 3 {
				t.Errorf("%s: the log says of call %d that it was sent %d times, want 3", path, i, l.Sent)
			}
		}
		to, _ := g.proxy.Target("up")
		counts := to.Guard.Stats().Counts.Outcomes
		if got, want := counts[feedback.Throttled]+counts[feedback.Overloaded], uint64(2+sent.Load()); got != want {
			t.Errorf("%s: %d refusals are counted, want %d", path, got, want)
		}
	}
}

// A stream of OpenAI's responses, and one of Anthropic's messages, that is cut within an event ends in an error that the SDKs read: the name of the event that
// was cut is not handed on without its data, which is no JSON for them.
func TestCutWithinAnEvent(t *testing.T) {
	const whole = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n"
	for _, cut := range []string{"event: response.output_text.delta\n", "event: response.output_text.delta\ndata: {\"type\":\"resp", "event: response.out"} {
		for _, path := range []string{"/responses", "/messages"} {
			s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				_, _ = io.WriteString(w, whole+cut)
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			all := frames(t, post(t, client(t), start(t, table(s, "")).url+"/up"+path, chatStream).Body)
			if len(all) != 2 || all[0]+"\n\n" != whole || !strings.HasPrefix(all[1], "event: error\ndata: {\"type\":\"error\",") {
				t.Errorf("%s, cut after %q: %q", path, cut, all)
			}
		}
	}
}

// A fallback's model takes the place of the one in the path, where Gemini's API, Azure and Bedrock have it.
func TestFallbackOfAModelInThePath(t *testing.T) {
	var asked string
	second := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked = r.RequestURI + " " + string(b)
		_, _ = io.WriteString(w, "{}")
	})
	g := start(t, fmt.Sprintf(`
[upstream.away]
base_url = "http://127.0.0.1:1"
[upstream.second]
base_url = %q
[[gateway.route]]
path = "/a"
upstream = "away"
fallback = [{ upstream = "second", model = "other-1" }]
`, second.URL))
	for call, want := range map[[2]string]string{
		{"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", `{"contents":[]}`}:   `/v1beta/models/other-1:streamGenerateContent?alt=sse {"contents":[]}`,
		{"/openai/deployments/gpt/chat/completions?api-version=2024-10-21", `{"messages":[]}`}: `/openai/deployments/other-1/chat/completions?api-version=2024-10-21 {"messages":[]}`,
		{"/openai/deployments/gpt/chat/completions?api-version=2024-10-21", `{"model":"gpt"}`}: `/openai/deployments/other-1/chat/completions?api-version=2024-10-21 {"model":"other-1"}`,
		{"/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke", `{"max_tokens":9}`}:         `/model/other-1/invoke {"max_tokens":9}`,
		{"/v1/chat/completions", `{"model":"gpt"}`}:                                            `/v1/chat/completions {"model":"other-1"}`,
	} {
		_ = read(t, post(t, client(t), g.url+"/a"+call[0], call[1]))
		if asked != want {
			t.Errorf("%s: the fallback got %s, want %s", call, asked, want)
		}
	}
}

// SDKs do not try again what the gateway has: an upstream that cannot be reached. One that broke off was asked once, and they do with it as they would
// without the gateway.
func TestUnreachableIsNotTriedAgainBySDKs(t *testing.T) {
	s := upstreamServer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	g := start(t, table(s, "")+"[upstream.away]\nbase_url = 'http://127.0.0.1:1'\n[guard.retry]\nbase_delay = '1ms'\nmax_attempts = 3\n")
	for path, want := range map[string]string{"/away/chat/completions": "false", "/away/messages": "false", "/up/chat/completions": ""} {
		resp := post(t, client(t), g.url+path, chat)
		if _ = read(t, resp); resp.StatusCode != 502 || resp.Header.Get("X-Should-Retry") != want {
			t.Errorf("%s: status %d, X-Should-Retry %q, want 502 and %q", path, resp.StatusCode, resp.Header.Get("X-Should-Retry"), want)
		}
	}
}

// A stream that begins by saying that there is no money goes to the fallback, and not back to the upstream when the fallback has none either; one that begins
// with what is wrong with the caller's key goes to none.
func TestNoMoneyInTheFirstEvent(t *testing.T) {
	var asked [2]atomic.Int64
	first := "data: {\"error\":{\"message\":\"You exceeded your current quota\",\"type\":\"insufficient_quota\",\"param\":null,\"code\":\"insufficient_quota\"}}\n\n"
	events := [2]string{first, first}
	var urls [2]string
	for i := range urls {
		urls[i] = upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
			asked[i].Add(1)
			_, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", typeOf(events[i]))
			_, _ = io.WriteString(w, events[i])
		}).URL
	}
	g := start(t, withFallback(urls[0], urls[1]))
	const poor = `{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}`
	const noKey = "data: {\"base_resp\":{\"status_code\":1004,\"status_msg\":\"login fail\"}}\n\n"
	for _, c := range []struct {
		events      [2]string
		want        string
		first, then int64
	}{
		{[2]string{first, first}, first, 1, 1},
		{[2]string{first, "data: other\n\n"}, "data: other\n\n", 1, 1},
		{[2]string{noKey, "data: other\n\n"}, noKey, 1, 0},
		{[2]string{poor, "data: other\n\n"}, "data: other\n\n", 1, 1},
	} {
		events = c.events
		asked[0].Store(0)
		asked[1].Store(0)
		got := read(t, post(t, client(t), g.url+"/b/chat/completions", chatStream))
		if a, b := asked[0].Load(), asked[1].Load(); got != c.want || a != c.first || b != c.then {
			t.Errorf("%q: asked %d and %d times, want %d and %d; the caller has %q", c.events, a, b, c.first, c.then, got)
		}
	}
}
