package dialect

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		path   string
		header http.Header
		want   Dialect
	}{
		{"/openai/v1/chat/completions", nil, OpenAI},
		{"/v1/embeddings", nil, OpenAI},
		{"/v1/messages", nil, Anthropic},
		{"/v1/messages/count_tokens", nil, Anthropic},
		{"/v1/models", http.Header{"Anthropic-Version": {"2023-06-01"}}, Anthropic},
		{"/v1/responses", nil, Responses},
		{"/v1beta/models/g:generateContent", nil, Gemini},
		{"/v1beta/models/g:streamGenerateContent", nil, Gemini},
		{"/anything", nil, OpenAI},
	} {
		if got := Of(c.path, c.header); got != c.want {
			t.Errorf("%s is %d, want %d", c.path, got, c.want)
		}
	}
}

// Every error in every dialect is one JSON object with its message, and as an event one line of data that ends a frame.
func TestErrorsAreWellFormed(t *testing.T) {
	const message = "line one\nline \"two\" <&> \u2028 \x00"
	for d := OpenAI; d <= Gemini; d++ {
		for k := RateLimited; k <= BodyTimedOut; k++ {
			e := &Error{Kind: k, Message: message, RetryAfter: 1500 * time.Millisecond, Final: true}
			var v map[string]any
			if err := json.Unmarshal(d.Body(e), &v); err != nil || !strings.Contains(string(d.Body(e)), "line one") {
				t.Errorf("dialect %d, kind %d: %v %s", d, k, err, d.Body(e))
			}
			frame := string(d.Event(e))
			if !strings.HasSuffix(frame, "\n\n") || strings.Count(frame, "\n\n") != 1 || strings.Count(frame, "data: ") != 1 {
				t.Errorf("dialect %d, kind %d: %q is not one frame", d, k, frame)
			}
			// The SDKs of OpenAI take an event for a failure when it has an error, and for a part of the answer otherwise.
			var said struct{ Error json.RawMessage }
			if _, data, _ := strings.Cut(frame, "data: "); json.Unmarshal([]byte(data), &said) != nil || said.Error == nil {
				t.Errorf("dialect %d, kind %d: SDKs would not see the error in %q", d, k, frame)
			}
			if d == OpenAI && (!strings.HasPrefix(frame, `data: {"error":`) || strings.Contains(frame, "choices")) {
				t.Errorf("Dify would not see %q", frame)
			}
			h := http.Header{}
			e.Header(h)
			if h.Get("Retry-After") != "2" || h.Get("Retry-After-Ms") != "1500" || h.Get("X-Should-Retry") != "false" || k.Status() < 400 || k.Code() == "" {
				t.Errorf("kind %d: %d %v", k, k.Status(), h)
			}
		}
	}
}

// What an upstream answered in the place of a stream is one frame, whatever it is.
func TestWrap(t *testing.T) {
	for _, c := range []struct {
		d      Dialect
		status int
		body   string
		want   string
	}{
		{OpenAI, 429, "{\n \"error\": {\"message\": \"slow down\"}\n}", "data: {\"error\":{\"message\":\"slow down\"}}\n\n"},
		{OpenAI, 200, "{\n\"choices\": []}", "data: {\"choices\":[]}\n\n"},
		{Anthropic, 529, `{"type":"error","error":{"type":"overloaded_error"}}`, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"},
		{Responses, 429, `{"error": {"message": "slow down", "type": "tokens", "code": "rate_limit_exceeded"}}`, "event: error\ndata: " +
			`{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null,"sequence_number":0,"error":{"message":"slow down","type":"tokens","code":"rate_limit_exceeded"}}` + "\n\n"},
		{Responses, 400, `{"error": {"message": "no", "code": null}}`, "event: error\ndata: " +
			`{"type":"error","code":null,"message":"no","param":null,"sequence_number":0,"error":{"message":"no","code":null}}` + "\n\n"},
		{Responses, 503, `{"error": "busy"}`, "event: error\ndata: " +
			`{"type":"error","code":"service_unavailable","message":"the upstream answered with status 503: {\"error\": \"busy\"}","param":null,"sequence_number":0,` +
			`"error":{"type":"server_error","code":"service_unavailable","message":"the upstream answered with status 503: {\"error\": \"busy\"}","param":null}}` + "\n\n"},
		{OpenAI, 502, "<html>\n\nbad</html>", `data: {"error":{"message":"the upstream answered with status 502: \u003chtml\u003e\n\nbad\u003c/html\u003e","type":"server_error","param":null,"code":"bad_gateway"}}` + "\n\n"},
		{OpenAI, 400, "[]", `data: {"error":{"message":"the upstream answered with status 400: []","type":"invalid_request_error","param":null,"code":"invalid_request"}}` + "\n\n"},
		{OpenAI, 200, "", `data: {"error":{"message":"the upstream answered with status 200: ","type":"server_error","param":null,"code":"bad_gateway"}}` + "\n\n"},
	} {
		if got := string(c.d.Wrap(c.status, []byte(c.body))); got != c.want {
			t.Errorf("%d %q is %q, want %q", c.status, c.body, got, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	for body, want := range map[string]Facts{
		`{"model":"m","stream":true}`:                                 {JSON: true, Model: "m", ModelAt: 9, ModelEnd: 12, Stream: true},
		` { "stream" : false , "temperature" : 0.0 } `:                {JSON: true, Zero: true},
		`{"temperature":-0e3,"max_tokens":5}`:                         {JSON: true, Zero: true, MaxTokens: 5},
		`{"temperature":"0"}`:                                         {JSON: true},
		`{"messages":[{"model":"inner","stream":true}],"store":true}`: {JSON: true, Stored: true},
		`{"a":"\"}","model":"\u006d"}`:                                {JSON: true, Model: "m", ModelAt: 19, ModelEnd: 27},
		`{"model":"a","model":"b"}`:                                   {JSON: true, Model: "b", ModelAt: 21, ModelEnd: 24},
		`{}`:                                                          {JSON: true},
		`{"model":1}`:                                                 {JSON: true},
		`[]`:                                                          {}, ``: {}, `{`: {}, `{"model":"m"`: {Model: "m", ModelAt: 9, ModelEnd: 12}, `{"a":1}x`: {}, `{"a"}`: {}, `nul`: {}, `{"a":}`: {},
	} {
		if got := Read([]byte(body)); got != want {
			t.Errorf("%s says %+v, want %+v", body, got, want)
		}
	}
	if got := SetModel([]byte(`{"a":1, "model" : "m", "b":[ 1.0 ]}`), Read([]byte(`{"a":1, "model" : "m", "b":[ 1.0 ]}`)), `n"2`); string(got) != `{"a":1, "model" : "n\"2", "b":[ 1.0 ]}` {
		t.Errorf("%s", got)
	}
}

// What the upstream looks up or does for an answer is told from tools of the caller's own.
func TestLive(t *testing.T) {
	for body, want := range map[string]bool{
		`{"messages":[]}`: false, `[]`: false, ``: false,
		`{"tools":[{"type":"function","function":{"name":"web_search"}},{"type":"custom"},{"name":"f","input_schema":{}}]}`: false,
		`{"tools":null,"web_search_options":null,"enable_search":false,"mcp_servers":[],"plugins": [] }`:                    false,
		`{"messages":[{"tools":[{"type":"web_search"}]}],"tool_choice":"auto"}`:                                             false,
		`{"tools":[{"name":"f"},{"type":"web_search_20250305","name":"web_search"}]}`:                                       true,
		`{"tools":{"type":"function"}}`:                                       true,
		`{"tools":[{"function":{"name":"f"}}]}`:                               false,
		`{"tools":[{"googleSearch":{}}]}`:                                     true,
		`{"tools":[{"name":"f"},{}]}`:                                         true,
		`{"web_search":{"enable":true}}`:                                      true,
		`{"tools":[{"type":1}]}`:                                              true,
		`{"model":"m","web_search_options":{}}`:                               true,
		`{"search_parameters":{"mode":"auto"}}`:                               true,
		`{"enable_search":true}`:                                              true,
		`{"plugins":[{"id":"web"}]}`:                                          true,
		`{"tools":[],"mcp_servers":[{"type":"url","url":"https://example"}]}`: true,
		`{"container":"c1"}`:                                                  true,
	} {
		if got := Live([]byte(body)); got != want {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
}

// What encoding/json reads of an object, Read reads, too.
func TestReadAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := map[string]any{}
		for _, k := range rapid.SliceOfN(rapid.SampledFrom([]string{"model", "stream", "temperature", "max_tokens", "x", "a\"b", "ключ"}), 0, 6).Draw(t, "keys") {
			m[k] = rapid.OneOf(
				rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
				rapid.Map(rapid.IntRange(0, 3), func(i int) any { return i }), rapid.Just[any](nil), rapid.Just[any]([]any{"]", map[string]any{"model": "}"}}),
			).Draw(t, k)
		}
		body, err := json.MarshalIndent(m, "", rapid.SampledFrom([]string{"", " ", "\t"}).Draw(t, "indent"))
		if err != nil {
			t.Fatal(err)
		}
		got := Read(body)
		model, _ := m["model"].(string)
		stream, _ := m["stream"].(bool)
		zero := m["temperature"] == 0
		if !got.JSON || got.Model != model || got.Stream != stream || got.Zero != zero {
			t.Fatalf("%s says %+v", body, got)
		}
		if _, ok := m["model"].(string); ok {
			var again map[string]any
			if err := json.Unmarshal(SetModel(body, got, "new"), &again); err != nil || again["model"] != "new" || len(again) != len(m) {
				t.Fatalf("%s with another model: %v, %v", body, again, err)
			}
		}
	})
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"model":"m","stream":true,"messages":[{"content":"\"}"}]}`))
	f.Add([]byte(`{"a":[{"b":"\\"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		facts := Read(body)
		if facts.ModelAt < 0 || facts.ModelEnd > len(body) || facts.ModelAt > facts.ModelEnd {
			t.Errorf("%+v", facts)
		}
		if json.Valid(body) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) != facts.JSON {
			t.Errorf("%q is valid, and an object is %v", body, facts.JSON)
		}
		if json.Valid(body) && facts.ModelEnd > 0 && !json.Valid(SetModel(body, facts, "x")) {
			t.Errorf("%q with another model is no JSON", body)
		}
		frame := OpenAI.Wrap(500, body)
		if !bytes.HasSuffix(frame, []byte("\n\n")) || bytes.Count(frame, []byte("\n")) != 2 {
			t.Errorf("%q is not one frame", frame)
		}
	})
}
