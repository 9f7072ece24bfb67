package feedback

import (
	"fmt"
	"testing"
)

func TestEveryStatus(t *testing.T) {
	want := func(status int) (Class, bool) {
		switch {
		case status < 400:
			return OK, false
		case status == 402:
			return QuotaExhausted, false
		case status == 429:
			return Throttled, true
		}
		for _, s := range []int{408, 504, 522, 524, 598, 599} {
			if s == status {
				return Timeout, true
			}
		}
		for _, s := range []int{409, 425, 499} {
			if s == status {
				return ClientError, true
			}
		}
		for _, s := range []int{498, 503, 529} {
			if s == status {
				return Overloaded, true
			}
		}
		if status < 500 {
			return ClientError, false
		}
		return ServerError, status != 501 && status != 505
	}
	for status := 100; status < 600; status++ {
		class, retryable := want(status)
		s := Parse(Answer{Status: status, Now: noon})
		scope := ScopeNone
		if class == Throttled || class == QuotaExhausted {
			scope = ScopeUnknown
		}
		if s.Class != class || s.Retryable != retryable || s.HasRetryAfter || s.Scope != scope {
			t.Errorf("status %d = %s, want %v/%v retryable=%v", status, short(s), class, scope, retryable)
		}
		if source := fmt.Sprintf("status:%d", status); class != OK && s.Source != source {
			t.Errorf("status %d has the source %q, want %q", status, s.Source, source)
		}
	}
	for _, status := range []int{-1, 0, 99} {
		if s := Parse(Answer{Status: status}); s.Class != OK {
			t.Errorf("status %d = %s", status, short(s))
		}
	}
	if s := Parse(Answer{Status: 999}); s.Class != ServerError {
		t.Errorf("status 999 = %s", short(s))
	}
}

// TestErrorsInSuccesses: "When a 2xx is an error".
func TestErrorsInSuccesses(t *testing.T) {
	const ok = "ok/none"
	for _, c := range []struct{ body, want string }{
		{`{"error":{"message":"x"}}`, "server_error/none retry"}, {`{"error":"x"}`, "server_error/none retry"}, {`{"error":true}`, "server_error/none retry"}, {`{"error":["x"]}`, "server_error/none retry"},
		{`{"error":null}`, ok}, {`{"error":""}`, ok}, {`{"error":{}}`, ok}, {`{"error":[ ]}`, ok}, {`{"error":false}`, ok}, {`{"error":0}`, ok},
		{`{"errors":[{"message":"x"}]}`, "server_error/none retry"}, {`{"errors":["x"]}`, "server_error/none retry"}, {`{"errors":[]}`, ok}, {`{"errors":"x"}`, ok}, {`{"errors":{"a":1}}`, ok},
		{`{"error_code":1}`, "server_error/none retry"}, {`{"error_code":"E1"}`, "server_error/none retry"}, {`{"error_code":0}`, ok}, {`{"error_code":""}`, ok}, {`{"error_code":"0"}`, ok}, {`{"error_code":null}`, ok},
		{`{"base_resp":{"status_code":5}}`, "server_error/none retry"}, {`{"base_resp":{"status_code":0}}`, ok}, {`{"base_resp":{}}`, ok}, {`{"base_resp":null}`, ok},
		{`{"Response":{"Error":{"Code":"x"}}}`, "server_error/none retry"}, {`{"Response":{"Choices":[]}}`, ok}, {`{"__type":"x#Y"}`, "server_error/none retry"}, {`{"__type":""}`, ok},
		{`{"code":"x","message":"m"}`, "server_error/none retry"}, {`{"code":"x","message":"m","output":{}}`, ok}, {`{"code":"x","message":"m","choices":[]}`, ok},
		{`{"code":"x"}`, ok}, {`{"code":1,"message":"m"}`, ok}, {`{"code":"x","message":1}`, ok}, {`{"code":"","message":"m"}`, ok}, {`{"code":"200","message":"m"}`, ok}, {`{"code":"Success","message":"m"}`, ok},
		{`[{"error":{"code":"slow_down"}}]`, "throttled/requests retry"}, {`[1,{"a":2},{"error":{"code":"slow_down"}}]`, "throttled/requests retry"}, {`[{"error":null},{"error":{"code":"slow_down"}}]`, "throttled/requests retry"},
		{`[{"errors":[1]}]`, ok}, {`[]`, ok}, {`"rate limit"`, ok}, {`rate limit`, ok}, {`{"error":{"code":"slow_down"}`, ok}, {`{"error":{"code":"slow_down"}} trailing`, ok},
		{"\xef\xbb\xbf \n{\"error\":{\"code\":\"slow_down\"}}", "throttled/requests retry"}, {`{"\u0065rror":{"code":"slow_down"}}`, "throttled/requests retry"},
		{`{"data":{"error":{"code":"slow_down"}}}`, ok}, {`{"result":"{\"error\":1}"}`, ok}, {`{"error":null,"error":{"code":"slow_down"}}`, "throttled/requests retry"},
		// "A numeric error.code from 400 to 599 in a 2xx is used as the status."
		{`{"error":{"code":429}}`, "throttled/unknown retry"}, {`{"error":{"code":503}}`, "overloaded/none retry"}, {`{"error":{"code":504}}`, "timeout/none retry"}, {`{"error":{"code":402}}`, "quota_exhausted/unknown"},
		{`{"error":{"code":404}}`, "client_error/none"}, {`{"error":{"code":501}}`, "server_error/none"}, {`{"error":{"code":600,"message":"rate limit"}}`, "throttled/unknown retry"}, {`{"error":{"code":399}}`, "server_error/none retry"},
		{`{"error":{"code":403,"message":"rate limit"}}`, "throttled/unknown retry"}, {`{"error":{"code":400,"message":"credit balance is too low"}}`, "quota_exhausted/unknown"},
		{`{"error":{"code":429,"status":"UNAVAILABLE"}}`, "overloaded/none retry"},
		// "Failing that, the words ..."
		{`{"error":{"message":"Rate limit hit, tokens per minute"}}`, "throttled/tokens retry"}, {`{"error":"Too many requests"}`, "throttled/unknown retry"},
		{`{"error":{"type":"invalid_request_error"}}`, "client_error/none"}, {`{"error":{"type":"authentication_error"}}`, "client_error/none"}, {`{"error":{"type":"permission_error"}}`, "client_error/none"},
		{`{"error":{"type":"not_found_error"}}`, "client_error/none"}, {`{"error":{"type":"invalid_request_error","message":"too many requests"}}`, "throttled/unknown retry"},
	} {
		for _, status := range []int{200, 201, 299} {
			if status != 200 && c.body == `{"code":"200","message":"m"}` {
				continue
			}
			if got := short(Parse(Answer{Status: status, Body: []byte(c.body), Now: noon})); got != c.want {
				t.Errorf("%d %s = %s, want %s", status, c.body, got, c.want)
			}
		}
		if got := short(Parse(Answer{Status: 302, Body: []byte(c.body), Now: noon})); got != ok {
			t.Errorf("302 %s = %s, want ok", c.body, got)
		}
	}
}

// TestErrorsInStreams: "In text/event-stream bodies ..."
func TestErrorsInStreams(t *testing.T) {
	const ok = "ok/none"
	for _, c := range []struct{ body, want string }{
		{"event: error\ndata: {\"type\":\"overloaded_error\"}\n\n", "overloaded/none retry"}, {"event:error\ndata:{}\n\n", "server_error/none retry"}, {"event: error\n\n", "server_error/none retry"},
		{"event: error\ndata: Too many requests\n\n", "throttled/unknown retry"}, {"event: error\ndata: {\"error\":{\"code\":\"slow_d", "server_error/none retry"},
		{"data: {\"error\":{\"code\":\"slow_down\"}}", "throttled/requests retry"}, {"data: {\"error\":\"\"}\n\n", ok}, {"data: {\"errors\":[1]}\n\n", ok}, {"data: {\"error_code\":18}\n\n", ok},
		{"data: {\"type\":\"error\",\"code\":\"slow_down\",\"message\":\"m\"}\n\n", "throttled/requests retry"}, {"data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"slow_down\"}}}\n\n", "throttled/requests retry"},
		{"data: {\"type\":\"response.failed\",\"response\":{}}\n\n", "server_error/none retry"}, {"data: {\"type\":\"response.incomplete\",\"response\":{\"error\":{\"code\":\"slow_down\"}}}\n\n", ok},
		{"data: {\"base_resp\":{\"status_code\":1039}}\n\n", "throttled/tokens retry"}, {"data: {\"base_resp\":{\"status_code\":0}}\n\n", ok}, {"data: {\"code\":\"x\",\"message\":\"m\"}\n\n", ok},
		{"event: error\n:HTTP_STATUS/429\ndata: {}\n\n", "throttled/unknown retry"}, {"event: error\n:HTTP_STATUS/503\ndata: {}\n\n", "overloaded/none retry"}, {": HTTP_STATUS/400\nevent: error\ndata: {}\n\n", "client_error/none"},
		{":HTTP_STATUS/429\nevent: result\ndata: {}\n\n", ok}, {"event: error\n:HTTP_STATUS/200\ndata: {}\n\n", "server_error/none retry"}, {"event: error\n:HTTP_STATUS/42\ndata: {\"error\":{\"code\":429}}\n\n", "throttled/unknown retry"},
		{":HTTP_STATUS/429\n\nevent: error\ndata: {}\n\n", "server_error/none retry"}, // of another event
		{"data: {\"error\":{\ndata: \"code\":\"slow_down\"}}\n\n", "throttled/requests retry"}, {"data: {\"a\":1}\r\n\r\nevent: error\r\ndata: {\"code\":\"slow_down\"}\r\n\r\n", "throttled/requests retry"},
		{"data: {\"a\":1}\r\revent: error\rdata: {\"code\":\"slow_down\"}\r\r", "throttled/requests retry"}, {"\xef\xbb\xbfevent: error\ndata: {\"code\":\"slow_down\"}\n\n", "throttled/requests retry"},
		{"data: [{\"error\":{\"code\":\"slow_down\"}}]\n\n", "throttled/requests retry"}, {"data: [DONE]\n\n", ok}, {"", ok}, {"\n\n\n", ok}, {"data: {\"error\":{\"code\":\"slow_down\"}} x\n\n", ok},
		{"data: {\"error\":{\"code\":\"slow_down\"}}\n\nevent: error\ndata: {\"code\":\"system_busy\"}\n\n", "throttled/requests retry"}, // the first one
		{"event: errors\ndata: {\"code\":\"system_busy\"}\n\n", ok}, {"{\"error\":{\"code\":\"slow_down\"}}", ok},
	} {
		h := headers("Content-Type", "Text/Event-Stream; charset=utf-8")
		if got := short(Parse(Answer{Status: 200, Header: h, Body: []byte(c.body), Now: noon})); got != c.want {
			t.Errorf("%q = %s, want %s", c.body, got, c.want)
		}
	}
	// The body of a refusal may be a stream, too.
	h := headers("content-type", "text/event-stream")
	if got := short(Parse(Answer{Status: 429, Header: h, Body: []byte("event: error\ndata: {\"error\":{\"code\":\"insufficient_quota\"}}\n\n")})); got != "quota_exhausted/unknown" {
		t.Errorf("a 429 with an error event = %s, want quota_exhausted/unknown", got)
	}
	if got := short(Parse(Answer{Status: 429, Header: h, Body: []byte(`{"error":{"code":"insufficient_quota"}}`)})); got != "quota_exhausted/unknown" {
		t.Errorf("a 429 with JSON under the wrong type = %s, want quota_exhausted/unknown", got)
	}
}

func TestWordingChangesTheClass(t *testing.T) {
	none := headers("X-RateLimit-Limit", "9", "X-RateLimit-Remaining", "0")
	some := headers("X-RateLimit-Limit", "9", "X-RateLimit-Remaining", "1")
	day := headers("X-RateLimit-Remaining-Requests-Day", "0", "X-RateLimit-Reset-Requests-Day", "600")
	both := headers("X-RateLimit-Remaining-Day", "0", "X-RateLimit-Remaining-Tokens", "0")
	quota := func(id, value string) string {
		return `{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"` + id + `","quotaValue":"` + value + `"}]}]}}`
	}
	for _, c := range []struct {
		status int
		header map[string][]string
		body   string
		want   string
	}{
		{403, none, "", "throttled/requests retry"}, {403, some, "", "client_error/none"}, {403, nil, "You hit the Rate Limit", "throttled/unknown retry"}, {403, nil, "rate-limited", "client_error/none"},
		{401, none, "rate limit", "client_error/none"}, {403, none, `{"error":{"code":"account_overdue"}}`, "quota_exhausted/unknown"}, {403, nil, "out of call volume quota, rate limit", "quota_exhausted/unknown"},
		{403, nil, "rate limit per day", "quota_exhausted/daily"}, {403, day, "", "quota_exhausted/daily 10m0s"},

		{429, day, "", "quota_exhausted/daily 10m0s"}, {429, both, "", "throttled/unknown retry"}, {429, day, "tokens per minute", "throttled/tokens retry 10m0s"}, {429, day, `{"error":{"type":"tokens"}}`, "throttled/tokens retry 10m0s"},
		{429, day, `{"error":{"code":"rate_limit_exceeded"}}`, "quota_exhausted/daily 10m0s"}, {503, day, "", "overloaded/none retry"},
		{429, nil, `{"error":{"type":"tokens","message":"tokens per day"}}`, "quota_exhausted/daily"}, {429, nil, `{"error":{"code":"1302","message":"今日"}}`, "throttled/concurrency retry"},
		{429, nil, "concurrent requests per day", "throttled/concurrency retry"}, {503, nil, "requests per day", "overloaded/none retry"}, {429, nil, "monthly tokens", "quota_exhausted/daily"}, {429, nil, "每天", "quota_exhausted/daily"},

		{429, nil, quota("GenerateRequestsPerDayPerProject", "50"), "quota_exhausted/daily"}, {429, nil, quota("GenerateRequestsPerMinutePerProject", "50"), "throttled/requests retry"},
		{429, nil, quota("GenerateContentInputTokensPerModelPerMinute", "50"), "throttled/input_tokens retry"}, {429, nil, quota("ConcurrentSessionsPerDay", "50"), "throttled/concurrency retry"},
		{429, nil, quota("OutputTokensPerMinute", "5"), "throttled/output_tokens retry"}, {429, nil, quota("Foo", "5"), "throttled/unknown retry"}, {429, nil, quota("GenerateRequestsPerMinutePerProject", "0"), "quota_exhausted/requests"},

		{429, nil, "rate limit, limit: 0", "quota_exhausted/unknown"}, {429, nil, "tokens, limit:0, current:5", "quota_exhausted/tokens"}, {429, nil, "Requests per Second (actual/limit): 3/0", "quota_exhausted/requests"},
		{429, nil, "requests per minute (RPM): Limit 0, Used 0, Requested 1", "quota_exhausted/requests"}, {429, nil, "limit: 0.5 requests per second", "throttled/requests retry"}, {429, nil, "limit: 01", "throttled/unknown retry"},
		{429, nil, "limit: 05", "throttled/unknown retry"}, {429, nil, "limit: 0x5", "throttled/unknown retry"}, {503, nil, "limit: 0", "overloaded/none retry"}, {400, nil, "limit: 0", "client_error/none"},
		{429, nil, "requests per day, limit: 0", "quota_exhausted/daily"}, {429, nil, "actual: 0, limit: 5", "throttled/unknown retry"}, {429, nil, "(actual/limit): 0/2", "throttled/unknown retry"},

		{429, nil, "Request too large for model on tokens per min", "client_error/tokens"}, {413, nil, `{"error":{"code":"rate_limit_exceeded","message":"Request too large, tokens"}}`, "client_error/tokens"},
		{413, nil, "request too large", "client_error/none"}, {503, nil, "request too large", "overloaded/none retry"},
	} {
		if got := short(Parse(Answer{Status: c.status, Header: c.header, Body: []byte(c.body), Now: noon})); got != c.want {
			t.Errorf("%d %v %s = %s, want %s", c.status, c.header, c.body, got, c.want)
		}
	}
}

// Envoy says 503, and UNAVAILABLE, whether the request was on its way or not.
func TestResetUnderWay(t *testing.T) {
	const text = "upstream connect error or disconnect/reset before headers. "
	for _, tt := range []struct {
		reason string
		class  Class
	}{
		{"reset reason: connection termination", ServerError},
		{"retried and the latest reset reason: connection termination", ServerError},
		{"reset reason: remote reset", ServerError},
		{"reset reason: protocol error", ServerError},
		{"reset reason: local reset", ServerError},
		{"reset reason: connection failure", Overloaded},
		{"reset reason: remote connection failure, transport failure reason: delayed connect error: 111", Overloaded},
		{"reset reason: connection timeout", Overloaded},
		{"reset reason: overflow", Overloaded},
		{"reset reason: remote refused stream reset", Overloaded},
		{"", Overloaded},
	} {
		for from, s := range map[string]Signal{
			"an answer": Parse(Answer{Status: 503, Body: []byte(text + tt.reason), Now: noon}),
			"gRPC":      FromGRPC(GRPCStatus{Code: 14, Message: text + tt.reason, Now: noon}),
		} {
			if s.Class != tt.class || !s.Retryable {
				t.Errorf("%s with %q = %s, want %v", from, tt.reason, short(s), tt.class)
			}
		}
	}
	if s := Parse(Answer{Status: 429, Body: []byte(text + "reset reason: remote reset"), Now: noon}); s.Class != Throttled {
		t.Errorf("a 429 = %s", short(s))
	}
}

func TestServersOwnWord(t *testing.T) {
	for _, c := range []struct {
		status int
		header map[string][]string
		want   string
	}{
		{429, headers("X-Should-Retry", "false"), "throttled/unknown"}, {400, headers("X-Should-Retry", "true"), "client_error/none retry"}, {402, headers("x-should-retry", "TRUE"), "quota_exhausted/unknown retry"},
		{429, headers("Stripe-Should-Retry", "false"), "throttled/unknown"}, {400, headers("Stripe-Should-Retry", "true"), "client_error/none retry"},
		{429, headers("X-Should-Retry", "no"), "throttled/unknown retry"}, {400, headers("X-Should-Retry", "1"), "client_error/none"}, {429, headers("X-Should-Retry", " false "), "throttled/unknown"},
		{429, headers("X-Should-Retry", "true", "Stripe-Should-Retry", "false"), "throttled/unknown"}, {200, headers("X-Should-Retry", "true"), "ok/none"},
		{413, headers("Retry-After", "60"), "client_error/none retry 1m0s"}, {413, headers("Retry-After", "soon"), "client_error/none"}, {413, headers("Retry-After-Ms", "60"), "client_error/none 60ms"},
		{413, headers("Retry-After", "60", "X-Should-Retry", "false"), "client_error/none 1m0s"}, {414, headers("Retry-After", "60"), "client_error/none 1m0s"},
		{503, headers("Grpc-Retry-Pushback-Ms", "-1"), "overloaded/none"}, {503, headers("Grpc-Retry-Pushback-Ms", "never"), "overloaded/none"}, {503, headers("Grpc-Retry-Pushback-Ms", "5"), "overloaded/none retry 5ms"},
		{503, headers("Grpc-Retry-Pushback-Ms", ""), "overloaded/none"}, {503, headers("Grpc-Retry-Pushback-Ms", "5", "Grpc-Retry-Pushback-Ms", "-1"), "overloaded/none 5ms"},
		{503, headers("Grpc-Retry-Pushback-Ms", "5, x"), "overloaded/none 5ms"}, {503, headers("Grpc-Retry-Pushback-Ms", "-1", "Retry-After", "3"), "overloaded/none 3s"},
	} {
		if got := short(Parse(Answer{Status: c.status, Header: c.header, Now: noon})); got != c.want {
			t.Errorf("%d %v = %s, want %s", c.status, c.header, got, c.want)
		}
	}
}

func TestStripeReason(t *testing.T) {
	body := []byte(`{"error":{"code":"rate_limit","message":"Request rate limit exceeded."}}`)
	lock := []byte(`{"error":{"code":"lock_timeout","message":"m"}}`)
	for reason, want := range map[string]string{
		"global-rate": "throttled/requests retry", "endpoint-rate": "throttled/requests retry", "global-concurrency": "throttled/concurrency retry",
		"endpoint-concurrency": "throttled/concurrency retry", "Endpoint-Concurrency": "throttled/concurrency retry", "resource-specific": "throttled/requests retry", "new": "throttled/requests retry",
	} {
		if got := short(Parse(Answer{Status: 429, Header: headers("Stripe-Rate-Limited-Reason", reason), Body: body})); got != want {
			t.Errorf("reason %q = %s, want %s", reason, got, want)
		}
	}
	if got := short(Parse(Answer{Status: 429, Header: headers("Stripe-Rate-Limited-Reason", "endpoint-rate"), Body: lock})); got != "throttled/requests retry" {
		t.Errorf("the reason wins over a code: %s", got)
	}
	if got := short(Parse(Answer{Status: 400, Header: headers("Stripe-Rate-Limited-Reason", "endpoint-rate")})); got != "client_error/none" {
		t.Errorf("a reason makes no refusal: %s", got)
	}
}

func TestGRPCAnswers(t *testing.T) {
	grpc := func(pairs ...string) map[string][]string {
		return headers(append([]string{"Content-Type", "application/grpc+proto"}, pairs...)...)
	}
	for _, c := range []struct {
		header map[string][]string
		want   string
	}{
		{grpc("grpc-status", "0"), "ok/none"}, {grpc(), "ok/none"}, {grpc("grpc-status", "08"), "throttled/unknown retry"}, {grpc("grpc-status", "8", "grpc-message", "quota per day"), "quota_exhausted/daily"},
		{grpc("grpc-status", "8", "grpc-message", "too%20many%20concurrent%20streams"), "throttled/concurrency retry"}, {grpc("grpc-status", "8", "grpc-message", "100% of tokens"), "throttled/tokens retry"},
		{grpc("grpc-status", "8", "grpc-message", "5 per%20day, 100%"), "quota_exhausted/daily"}, {grpc("grpc-status", "8", "grpc-message", "%E5%b9%B6%e5%8F%91 %zz"), "throttled/concurrency retry"},
		{grpc("grpc-status", "14", "grpc-message", "retry in 3s"), "overloaded/none retry 3s"}, {grpc("grpc-status", "99"), "server_error/none retry"}, {grpc("grpc-status", "99", "grpc-message", "rate limit"), "throttled/unknown retry"},
		{grpc("grpc-status", "-1"), "ok/none"}, {grpc("grpc-status", "x"), "ok/none"}, {grpc("Grpc-Status", "1"), "client_error/none retry"}, {grpc("Grpc-Status", "3"), "client_error/none"},
	} {
		if got := short(Parse(Answer{Status: 200, Header: c.header, Body: []byte("\x00\x00\x00\x00\x05{\"error\":1}")})); got != c.want {
			t.Errorf("%v = %s, want %s", c.header, got, c.want)
		}
	} // A gateway's answer may carry the field with a body that is JSON.
	if got := short(Parse(Answer{Status: 200, Header: headers("Grpc-Status", "0", "Content-Type", "application/json"), Body: []byte(`{"error":{"code":"slow_down"}}`)})); got != "throttled/requests retry" {
		t.Errorf("a JSON error beside grpc-status 0 = %s", got)
	}
}
