package feedback

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

const sseType, jsonType, linesType = "text/event-stream; charset=utf-8", "application/json", "application/x-ndjson"

// bodies are whole bodies of every dialect.
var bodies = []struct {
	name, contentType, body string
	want                    Usage
	events, content         int64
	complete                bool
	signal                  string // "" for none
}{
	{"openai chat", sseType, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n" +
		"data: {\"choices\":[{\"delta\":{\"content\":\"Hé\"}}],\"usage\":null}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"llo\"}}]}\n\n" +
		"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" +
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":30,\"total_tokens\":80,\"prompt_tokens_details\":{\"cached_tokens\":20,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":12}}}\n\ndata: [DONE]\n\n",
		Usage{Known: true, Input: 50, CachedInput: 20, Output: 30, Reasoning: 12, Total: 80}, 6, 2, true, ""},
	{"openai responses", sseType, "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"usage\":null}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n" +
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":37,\"input_tokens_details\":{\"cached_tokens\":7},\"output_tokens\":11,\"output_tokens_details\":{\"reasoning_tokens\":4},\"total_tokens\":48}}}\n\n",
		Usage{Known: true, Input: 37, CachedInput: 7, Output: 11, Reasoning: 4, Total: 48}, 3, 1, true, ""},
	{"anthropic", sseType, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":10,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n" +
		"event: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n" +
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n" +
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
		Usage{Known: true, Input: 135, CachedInput: 100, CacheWrite: 10, Output: 15, Total: 150}, 6, 1, true, ""},
	{"anthropic crlf, error late", sseType, "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\r\n\r\n" +
		"event: error\r\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\r\n\r\nevent: error\r\ndata: {\"error\":{\"type\":\"api_error\"}}\r\n\r\n",
		Usage{Known: true, Input: 25, Output: 1, Total: 26}, 3, 0, false, "overloaded/none retry"},
	{"gemini sse", sseType, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{\"promptTokenCount\":8,\"totalTokenCount\":8}}\r\n\r\n" +
		"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"b\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":8,\"cachedContentTokenCount\":3,\"candidatesTokenCount\":20,\"thoughtsTokenCount\":5,\"totalTokenCount\":33}}\r\n\r\n",
		Usage{Known: true, Input: 8, CachedInput: 3, Output: 25, Reasoning: 5, Total: 33}, 2, 2, true, ""},
	{"gemini array", jsonType, "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a \\\"}] , \"}]}}],\n \"usageMetadata\": {\"promptTokenCount\": 8}}\n,\r\n{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"b\"}]}}],\"usageMetadata\": {\"promptTokenCount\": 8,\"candidatesTokenCount\": 20,\"toolUsePromptTokenCount\":2}}]",
		Usage{Known: true, Input: 10, Output: 20, Total: 30}, 2, 2, true, ""},
	{"gemini array, error", jsonType, "[{\"candidates\":[]},{\"error\":{\"code\":429,\"message\":\"m\",\"status\":\"RESOURCE_EXHAUSTED\"}}]", Usage{}, 2, 0, true, "throttled/unknown retry"},
	{"openai json", jsonType, "\n\n {\"id\":\"x\",\"choices\":[{\"message\":{\"content\":\"{\\\"usage\\\":{\\\"prompt_tokens\\\":99}}\"}}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}",
		Usage{Known: true, Input: 9, Output: 1, Total: 10}, 0, 0, true, ""},
	{"anthropic json", jsonType, "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}],\"usage\":{\"input_tokens\":10,\"output_tokens\":3,\"cache_read_input_tokens\":5}}",
		Usage{Known: true, Input: 15, CachedInput: 5, Output: 3, Total: 18}, 0, 0, true, ""},
	{"bedrock json", jsonType, "{\"output\":{\"message\":{}},\"usage\":{\"inputTokens\":10,\"outputTokens\":3,\"totalTokens\":13,\"cacheReadInputTokens\":0}}",
		Usage{Known: true, Input: 10, Output: 3, Total: 13}, 0, 0, true, ""},
	{"minimax json error last", jsonType, "{\"choices\":null,\"usage\":{\"total_tokens\":0},\"base_resp\":{\"status_code\":1002,\"status_msg\":\"rate limit exceeded(RPM)\"}}",
		Usage{Known: true}, 0, 0, true, "throttled/requests retry"},
	{"json error", jsonType, "{\"error\":{\"code\":502,\"message\":\"Provider returned error\"},\"user_id\":\"user_1\"}", Usage{}, 0, 0, true, "server_error/none retry"},
	{"dashscope json error", jsonType, "{\"code\":\"Throttling.AllocationQuota\",\"message\":\"Allocated quota exceeded.\"}", Usage{}, 0, 0, true, "throttled/tokens retry"},
	{"code beside output", jsonType, "{\"code\":\"x\",\"message\":\"m\",\"output\":{\"text\":\"a\"}}", Usage{}, 0, 0, true, ""},
	{"escaped name", jsonType, "{\"\\u0065rror\":{\"code\":\"slow_down\"}}", Usage{}, 0, 0, true, "throttled/requests retry"},
	{"dashscope stream error", sseType, "id:1\nevent:error\n:HTTP_STATUS/429\ndata:{\"code\":\"Throttling.RateQuota\",\"message\":\"m\"}\n\n", Usage{}, 1, 0, false, "throttled/requests retry"},
	{"dashscope stream", sseType, "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"a\"},\"usage\":{\"input_tokens\":4,\"output_tokens\":2}}\n\nid:2\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"choices\":[{\"message\":{\"content\":\"ab\"}}]},\"usage\":{\"input_tokens\":4,\"output_tokens\":6}}\n\n",
		Usage{Known: true, Input: 4, Output: 6, Total: 10}, 2, 2, false, ""},
	{"keep-alives", sseType, ": keep-alive\n\n: keep-alive\n\n\n\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"x\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"prompt_cache_hit_tokens\":1,\"total_tokens\":2}}\n\ndata: [DONE]",
		Usage{Known: true, Input: 1, CachedInput: 1, Output: 1, Total: 2}, 2, 1, true, ""},
	{"moonshot and groq", sseType, "data: {\"choices\":[{\"delta\":{},\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7,\"cached_tokens\":2}}]}\n\ndata: {\"x_groq\":{\"usage\":{\"completion_tokens\":5}}}\n\n",
		Usage{Known: true, Input: 3, CachedInput: 2, Output: 5, Total: 7}, 2, 0, false, ""},
	{"cohere", sseType, "event: content-delta\ndata: {\"type\":\"content-delta\",\"delta\":{\"message\":{\"content\":{\"text\":\"x\"}}}}\n\nevent: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"usage\":{\"billed_units\":{\"input_tokens\":3},\"tokens\":{\"input_tokens\":70,\"output_tokens\":5}}}}\n\n",
		Usage{Known: true, Input: 70, Output: 5, Total: 75}, 2, 1, true, ""},
	{"ollama", linesType, "{\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n{\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":26,\"eval_count\":298}\n",
		Usage{Known: true, Input: 26, Output: 298, Total: 324}, 2, 1, true, ""},
	{"tencent", jsonType, "{\"Response\":{\"Usage\":{\"PromptTokens\":4,\"CompletionTokens\":5,\"TotalTokens\":9},\"Choices\":[]}}", Usage{Known: true, Input: 4, Output: 5, Total: 9}, 0, 0, true, ""},
	{"embedding", jsonType, "{\"data\":[{\"embedding\":[0.1,-2e-3,3]}],\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}", Usage{Known: true, Input: 8, Total: 8}, 0, 0, true, ""},
	{"content talks about errors", sseType, "data: {\"choices\":[{\"delta\":{\"content\":\"event: error\\ndata: {\\\"error\\\":\\\"rate limit\\\"}\"}}]}\n\n", Usage{}, 1, 1, false, ""},
	{"nothing", jsonType, "", Usage{}, 0, 0, false, ""},
	{"cut", jsonType, "{\"choices\":[{\"mess", Usage{}, 0, 0, false, ""},
	{"text", "text/plain", "rate limit {\"error\":1}", Usage{}, 0, 0, false, ""},
	{"cr only", sseType, "data: {\"choices\":[{\"text\":\"a\"}]}\r\revent: error\rdata: {\"code\":\"slow_down\"}\r\r", Usage{}, 2, 1, false, "throttled/requests retry"},
}

func scanAll(contentType, body string, cuts []int) Report {
	at := noon
	s := NewStream(StreamConfig{Header: headers("Content-Type", contentType)}, at)
	start := 0
	for _, cut := range append(cuts, len(body)) {
		piece := []byte(body[start:cut])
		s.Scan(piece, at)
		for i := range piece {
			piece[i] = 'X' // the Stream may keep nothing of it
		}
		start = cut
	}
	s.Finish(at)
	return s.Report()
}

// A body in JSON is complete with its last bracket; whoever waits for it need not wait for the end of its connection.
func TestJSONIsCompleteBeforeItsEnd(t *testing.T) {
	for _, body := range []string{`{"usage":{"total_tokens":3},"a":[1,{"b":2}]}`, `[{"a":1},{"error":{"code":429}}]`} {
		s := NewStream(StreamConfig{Header: map[string][]string{"Content-Type": {jsonType}}}, time.Time{})
		s.Scan([]byte(body[:len(body)-1]), time.Time{})
		before := s.Report().Complete
		s.Scan([]byte(body[len(body)-1:]), time.Time{})
		if after := s.Report().Complete; before || !after {
			t.Errorf("%s: complete before its last byte: %v, after it: %v", body, before, after)
		}
	}
}

func TestStream(t *testing.T) {
	for _, b := range bodies {
		t.Run(b.name, func(t *testing.T) {
			r := scanAll(b.contentType, b.body, nil)
			signal := ""
			if r.Refused {
				signal = short(r.Signal)
			}
			if r.Usage != b.want || r.Events != b.events || r.ContentEvents != b.content || r.Complete != b.complete || signal != b.signal {
				t.Errorf("got  %+v events=%d content=%d complete=%v signal=%q\nwant %+v events=%d content=%d complete=%v signal=%q",
					r.Usage, r.Events, r.ContentEvents, r.Complete, signal, b.want, b.events, b.content, b.complete, b.signal)
			}
			if r.Bytes != int64(len(b.body)) || r.FirstToken.IsZero() != (b.content == 0) || r.FirstByte.IsZero() != (b.body == "") {
				t.Errorf("got %+v", r)
			}
			// What Parse makes of the whole body is the same.
			p := Parse(Answer{Status: 200, Header: headers("Content-Type", b.contentType), Body: []byte(b.body), Now: noon})
			if b.contentType != linesType && short(p) != short(r.Signal) {
				t.Errorf("Parse says %s, the Stream %s", short(p), short(r.Signal))
			}
			// However it is cut.
			for cut := range b.body {
				if got := scanAll(b.contentType, b.body, []int{cut}); fmt.Sprint(got) != fmt.Sprint(r) {
					t.Fatalf("cut at %d:\n got %+v\nwant %+v", cut, got, r)
				}
			}
			var each []int
			for i := range len(b.body) {
				each = append(each, i)
			}
			if got := scanAll(b.contentType, b.body, each); fmt.Sprint(got) != fmt.Sprint(r) {
				t.Fatalf("byte by byte:\n got %+v\nwant %+v", got, r)
			}
		})
	}
}

// TestStreamOfFixtures: the Stream and Parse agree on every 2xx answer of the fixtures.
func TestStreamOfFixtures(t *testing.T) {
	for _, f := range fixtures(t) {
		a := f.answer(t)
		if a.Status < 200 || a.Status > 299 || strings.HasPrefix(f.Name, "grpc") {
			continue
		}
		s := NewStream(StreamConfig{Status: a.Status, Header: a.Header, Provider: a.Provider}, a.Now)
		s.Scan(a.Body, a.Now)
		s.Finish(a.Now)
		if r := s.Report(); describe(r.Signal) != f.want() || r.Refused != (r.Signal.Class != OK) {
			t.Errorf("%s: the Stream says %s, want %s", f.Name, describe(r.Signal), f.want())
		}
	}
}

func TestStreamAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Pieces of real bodies in any order, and noise between them.
		var body strings.Builder
		for range rapid.IntRange(0, 5).Draw(t, "parts") {
			b := rapid.SampledFrom(bodies).Draw(t, "body").body
			if b == "" {
				continue
			}
			from := rapid.IntRange(0, len(b)-1).Draw(t, "from")
			body.WriteString(b[from:rapid.IntRange(from, len(b)).Draw(t, "to")])
			body.WriteString(rapid.SampledFrom([]string{"", "\n", "\r", "\r\n", "\n\n", "\xe5\xb9", "\"", "\\"}).Draw(t, "noise"))
		}
		s := body.String()
		contentType := rapid.SampledFrom([]string{sseType, jsonType, linesType}).Draw(t, "type")
		cuts := rapid.SliceOfNDistinct(rapid.IntRange(0, len(s)), 0, min(len(s), 12), rapid.ID).Draw(t, "cuts")
		sortInts(cuts)
		whole, split := fmt.Sprint(scanAll(contentType, s, nil)), fmt.Sprint(scanAll(contentType, s, cuts))
		if whole != split {
			t.Fatalf("%q cut at %v:\nwhole %s\nsplit %s", s, cuts, whole, split)
		}
	})
}

func sortInts(s []int) {
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
}

func TestStreamTimes(t *testing.T) {
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	s := NewStream(StreamConfig{Header: headers("Content-Type", sseType), Start: at(0)}, at(50))
	s.Scan([]byte(": keep-alive\n\n"), at(100))
	s.Scan([]byte("data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"), at(200))
	s.Scan([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n"), at(300))
	if _, ok := s.Report().TimeToFirstToken(); ok {
		t.Error("an event that is not complete counts as the first token")
	}
	s.Scan([]byte("\n"), at(400))
	for i := range 4 {
		s.Scan([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"), at(500+100*i))
	}
	if _, ok := s.Report().TokensPerSecond(); ok {
		t.Error("a speed without usage")
	}
	s.Scan([]byte("data: {\"choices\":[],\"usage\":{\"completion_tokens\":10}}\n\n"), at(2000))
	s.Finish(at(2100))
	s.Finish(at(9999))
	s.Scan([]byte("data: {\"choices\":[],\"usage\":{\"completion_tokens\":99}}\n\n"), at(9999))
	r := s.Report()
	first, ok1 := r.TimeToFirstByte()
	token, ok2 := r.TimeToFirstToken()
	speed, ok3 := r.TokensPerSecond()
	if first != 100*time.Millisecond || token != 400*time.Millisecond || speed != 20 || !ok1 || !ok2 || !ok3 { // 10 * 4/5 / 0.4 s
		t.Errorf("first byte %v, first token %v, %v tokens/s; want 100ms, 400ms, 20", first, token, speed)
	}
	if !r.End.Equal(at(2100)) || r.Usage.Output != 10 || !r.LastToken.Equal(at(800)) {
		t.Errorf("%+v", r)
	}
	// Time that goes backwards gives no negative time and no speed.
	s = NewStream(StreamConfig{Header: headers("Content-Type", sseType)}, at(0))
	s.Scan([]byte("data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"completion_tokens\":5}}\n\n"), at(-100))
	s.Scan([]byte("data: {\"choices\":[{\"text\":\"a\"}]}\n\n"), at(-200))
	if d, ok := s.Report().TimeToFirstToken(); d != 0 || !ok {
		t.Errorf("time to first token %v, %v, want 0", d, ok)
	}
	if _, ok := s.Report().TokensPerSecond(); ok {
		t.Error("a speed although time went backwards")
	}
}

func TestStreamSkipsLargeEvents(t *testing.T) {
	small := "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"completion_tokens\":5}}\n\n"
	large := "data: {\"error\":{\"code\":\"slow_down\",\"x\":\"" + strings.Repeat("y", 500) + "\"}}\n\n"
	for _, step := range []int{1, 7, 100, 1 << 20} {
		s := NewStream(StreamConfig{Header: headers("Content-Type", sseType), MaxEvent: 200}, noon)
		for rest := small + large + small; rest != ""; {
			n := min(step, len(rest))
			s.Scan([]byte(rest[:n]), noon)
			if cap(s.buf) > 1024 {
				t.Fatalf("step %d: %d bytes held, want no more than 200 or so", step, cap(s.buf))
			}
			rest = rest[n:]
		}
		s.Finish(noon)
		if r := s.Report(); r.Skipped != 1 || r.Events != 2 || r.Refused || r.Usage.Output != 5 {
			t.Errorf("step %d: %+v, want one event skipped and two read", step, r)
		}
	}
	// A JSON body of any length needs bounded memory, and gives its usage.
	s := NewStream(StreamConfig{Header: headers("Content-Type", jsonType)}, noon)
	s.Scan([]byte(`{"data":[`), noon)
	piece := []byte(strings.Repeat(`{"embedding":[0.25,-1,"}]"]},`, 1000))
	for range 200 {
		s.Scan(piece, noon)
	}
	s.Scan([]byte(`{}],"error":{"x":"`), noon)
	for range 200 {
		s.Scan(bytes.Repeat([]byte("z"), 1000), noon)
	}
	s.Scan([]byte(`"},"usage":{"prompt_tokens":8,"total_tokens":8}}`), noon)
	if r := s.Report(); r.Usage.Input != 8 || !(cap(s.json.buf) <= 3*maxMember) {
		t.Errorf("usage %+v with %d bytes held", r.Usage, cap(s.json.buf))
	}
}

func TestStreamDoesNotAllocate(t *testing.T) {
	for _, event := range []string{
		"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tok\"},\"finish_reason\":null}],\"usage\":null}\n\n",
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"tok\"}}\n\n",
	} {
		s := NewStream(StreamConfig{Header: headers("Content-Type", sseType)}, noon)
		p := []byte(event)
		if n := testing.AllocsPerRun(100, func() { s.Scan(p[:40], noon); s.Scan(p[40:], noon); s.Scan(p, noon) }); n != 0 {
			t.Errorf("an event allocates %v times, want 0", n)
		}
	}
}

func TestCompressedBodiesPassUnread(t *testing.T) {
	for encoding, want := range map[string]int64{"gzip": 0, "br, gzip": 0, "identity": 1, "": 1, " Identity ": 1} {
		s := NewStream(StreamConfig{Header: headers("Content-Type", sseType, "Content-Encoding", encoding)}, noon)
		s.Scan([]byte("data: {}\n\n"), noon)
		if r := s.Report(); r.Events != want || r.Bytes != 10 || r.FirstByte.IsZero() {
			t.Errorf("encoding %q: %+v, want %d events", encoding, r, want)
		}
	}
}

func TestBedrockUsageIsInTheHeader(t *testing.T) {
	s := NewStream(StreamConfig{Header: headers("X-Amzn-Bedrock-Input-Token-Count", "7", "X-Amzn-Bedrock-Output-Token-Count", "5")}, noon)
	if got := s.Report().Usage; got != (Usage{Known: true, Input: 7, Output: 5, Total: 12}) {
		t.Errorf("usage %+v", got)
	}
}

func TestUsageCountsAreHostile(t *testing.T) {
	for _, c := range []struct {
		body string
		want Usage
	}{
		{`{"usage":{"prompt_tokens":-5,"completion_tokens":1e3,"total_tokens":"7"}}`, Usage{}},
		{`{"usage":{"prompt_tokens":99999999999999999999}}`, Usage{}},
		{`{"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":9223372036854775800}}`, Usage{}},
		{`{"usage":{"prompt_tokens":900000000000000000,"completion_tokens":3.9}}`, Usage{Known: true, Input: 9e17, Output: 3, Total: 9e17 + 3}},
		{`{"usage":[1]}`, Usage{}}, {`{"usage":"9"}`, Usage{}}, {`{"usage":{}}`, Usage{}},
		{`{"usage":{"prompt_tokens":0}}`, Usage{Known: true}},
		{`{"usage":{"prompt_tokens":100,"completion_tokens":5,"cache_read_input_tokens":60}}`, Usage{Known: true, Input: 100, CachedInput: 60, Output: 5, Total: 105}},
	} {
		got := scanAll(jsonType, c.body, nil).Usage
		if got.Input < 0 || got.Output < 0 || got.Total < 0 {
			t.Errorf("%s = %+v", c.body, got)
		}
		if c.want != (Usage{}) && got != c.want || c.want == (Usage{}) && got.Known && got.Input != 9223372036854775807 {
			t.Errorf("%s = %+v, want %+v", c.body, got, c.want)
		}
	}
}

// slowBody gives what it is told to, and remembers that it was closed.
type slowBody struct {
	io.Reader
	closed int
}

func (b *slowBody) Close() error { b.closed++; return errors.New("closing") }

func TestWatcher(t *testing.T) {
	for _, b := range bodies {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "one byte": iotest.OneByteReader, "halves": iotest.HalfReader, "data with the error": iotest.DataErrReader,
		} {
			body := &slowBody{Reader: wrap(strings.NewReader(b.body))}
			now := noon
			w := NewWatcher(body, WatchConfig{
				StreamConfig: StreamConfig{Header: headers("Content-Type", b.contentType)},
				Clock:        func() time.Time { now = now.Add(time.Millisecond); return now },
			})
			got, err := io.ReadAll(w)
			if err != nil || string(got) != b.body {
				t.Errorf("%s, %s: read %q, %v, want the body unchanged", b.name, name, got, err)
			}
			if err := w.Close(); err == nil || err.Error() != "closing" || body.closed != 1 {
				t.Errorf("%s: Close = %v, closed %d times", b.name, err, body.closed)
			}
			if r := w.Report(); r.Usage != b.want || r.Refused != (b.signal != "") || r.End.IsZero() {
				t.Errorf("%s, %s: %+v", b.name, name, r)
			}
		}
	}
}

// TestWatcherAddsNoLatency: a Read returns as soon as the body's does.
func TestWatcherAddsNoLatency(t *testing.T) {
	r, wr := io.Pipe()
	w := NewWatcher(r, WatchConfig{StreamConfig: StreamConfig{Header: headers("Content-Type", sseType)}})
	got := make(chan string)
	go func() {
		p := make([]byte, 100)
		for {
			n, err := w.Read(p)
			if n > 0 {
				got <- string(p[:n])
			}
			if err != nil {
				close(got)
				return
			}
		}
	}()
	for _, piece := range []string{"da", "ta: {", "}", "\n", "\n"} {
		wr.Write([]byte(piece))
		if s := <-got; s != piece {
			t.Fatalf("read %q, want %q", s, piece)
		}
	}
	wr.CloseWithError(io.ErrUnexpectedEOF)
	for range got {
	}
	if r := w.Report(); r.Events != 1 || r.End.IsZero() {
		t.Errorf("%+v", r)
	}
}

// TestWatcherReportWhileReading is for the race detector.
func TestWatcherReportWhileReading(t *testing.T) {
	w := NewWatcher(io.NopCloser(strings.NewReader(strings.Repeat(bodies[0].body, 100))), WatchConfig{StreamConfig: StreamConfig{Header: headers("Content-Type", sseType)}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			w.Report()
		}
		w.Close()
	}()
	io.Copy(io.Discard, iotest.OneByteReader(w))
	<-done
}

func FuzzStream(f *testing.F) {
	for _, b := range bodies {
		f.Add(b.contentType, b.body, uint16(len(b.body)/2), uint16(3))
	}
	f.Fuzz(func(t *testing.T, contentType, body string, a, b uint16) {
		cuts := []int{min(int(a), len(body)), min(int(a)+int(b), len(body))}
		whole := scanAll(contentType, body, nil)
		if split := scanAll(contentType, body, cuts); fmt.Sprint(split) != fmt.Sprint(whole) {
			t.Fatalf("%q cut at %v:\nwhole %+v\nsplit %+v", body, cuts, whole, split)
		}
		u := whole.Usage
		if u.Input < 0 || u.Output < 0 || u.Total < 0 || u.CachedInput < 0 || u.Reasoning < 0 || u.CacheWrite < 0 {
			t.Fatalf("%q has %+v", body, u)
		}
		if whole.Refused != (whole.Signal.Class != OK) || whole.ContentEvents > whole.Events {
			t.Fatalf("%q gives %+v", body, whole)
		}
		checkSignal(t, whole.Signal)
		if mediaType(contentType, "text/event-stream") && len(body) <= maxBody {
			p := Parse(Answer{Status: 200, Header: headers("Content-Type", contentType), Body: []byte(body), Now: noon})
			if short(p) != short(whole.Signal) {
				t.Fatalf("%q: Parse says %s, the Stream %s", body, short(p), short(whole.Signal))
			}
		}
	})
}

func BenchmarkStreamEvent(b *testing.B) {
	p := []byte("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1787220000,\"model\":\"gpt-4.1-mini\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n")
	s := NewStream(StreamConfig{Header: headers("Content-Type", sseType)}, noon)
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		s.Scan(p, noon)
	}
}

func BenchmarkStreamJSON(b *testing.B) {
	p := []byte(`{"data":[` + strings.Repeat(`{"embedding":[0.25,-1.5,0.125,0.0625]},`, 2000) + `{}],"usage":{"prompt_tokens":8,"total_tokens":8}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		s := NewStream(StreamConfig{Header: headers("Content-Type", jsonType)}, noon)
		s.Scan(p, noon)
		s.Finish(noon)
	}
}
