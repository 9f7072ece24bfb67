package modelserver

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// post makes a request without a network.
func post(s *Server, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const chat = `{"model":"m","messages":[{"role":"user","content":"Hello, how are you?"}]}`

// slow is a server that takes a second before the answer, and 100 ms a token.
func slow() Config {
	return Config{
		Upstream: upstream.Config{Server: upstream.Server{Service: draw.Of(time.Second), OutputToken: 100 * time.Millisecond}},
		Output:   draw.Dist{Mean: 10},
	}
}

// Every shape answers with its object, its text and its usage, after the time that the model takes.
func TestWhole(t *testing.T) {
	for _, c := range []struct {
		path, body string
		took       time.Duration
		has        []string
		in, out    int64
	}{
		{"/v1/chat/completions", chat, 2 * time.Second, []string{`"object":"chat.completion"`, `"finish_reason":"stop"`, `"role":"assistant"`}, 9, 10},
		{"/openai/deployments/d/chat/completions", chat, 2 * time.Second, []string{`"object":"chat.completion"`}, 9, 10},
		{"/v1/chat/completions", `{"model":"m","max_completion_tokens":5,"messages":[]}`, 1500 * time.Millisecond, []string{`"finish_reason":"length"`}, 1, 5},
		{"/v1/completions", `{"model":"m","prompt":["ab cd ef","gh"]}`, 2 * time.Second, []string{`"object":"text_completion"`}, 3, 10},
		{"/v1/responses", `{"model":"m","input":"Hi there","instructions":"Be kind"}`, 2 * time.Second, []string{`"object":"response"`, `"status":"completed"`, `"output_text"`}, 4, 10},
		{"/v1/responses", `{"model":"m","input":"Hi","max_output_tokens":2}`, 1200 * time.Millisecond, []string{`"status":"incomplete"`}, 1, 2},
		{"/v1/messages", `{"model":"m","max_tokens":99,"messages":[{"role":"user","content":[{"type":"text","text":"12345678"}]}]}`, 2 * time.Second, []string{`"type":"message"`, `"stop_reason":"end_turn"`}, 6, 10},
		{"/v1beta/models/m:generateContent", `{"contents":[{"role":"user","parts":[{"text":"12345678"}]}],"systemInstruction":{"parts":[{"text":"1234"}]}}`, 2 * time.Second, []string{`"finishReason":"STOP"`, `"totalTokenCount":17`, `"modelVersion":"m"`}, 7, 10},
		{"/v1/models/m:generateContent", `{"contents":[],"generationConfig":{"maxOutputTokens":3}}`, 1300 * time.Millisecond, []string{`"finishReason":"MAX_TOKENS"`}, 1, 3},
		{"/v1beta/models/m:streamGenerateContent", `{"contents":[]}`, 2 * time.Second, []string{`[{"candidates"`}, 1, 10},
		{"/v1/embeddings", `{"model":"m","input":"12345678"}`, time.Second, []string{`"object":"list"`, `"embedding"`}, 2, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := start(t, slow())
			began := time.Now()
			w := post(s, c.path, c.body)
			if took := time.Since(began); w.Code != 200 || took != c.took {
				t.Errorf("%s: %d after %v, want 200 after %v: %s", c.path, w.Code, took, c.took, w.Body)
			}
			for _, has := range c.has {
				if !strings.Contains(w.Body.String(), has) {
					t.Errorf("%s: no %s in %s", c.path, has, w.Body)
				}
			}
			sig := feedback.Parse(feedback.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes(), Now: time.Now()})
			if sig.Class != feedback.OK {
				t.Errorf("%s is read as %v", c.path, sig.Class)
			}
			total, _ := s.Stats()
			if total.Calls != 1 || total.Accepted != 1 || total.InputTokens != c.in || total.OutputTokens != c.out || total.InFlight != 0 {
				t.Errorf("%s: counted %+v, want %d and %d tokens", c.path, total, c.in, c.out)
			}
		})
	}
}

// The provider's fields about limits are in every answer: whole, in a stream before its text, and in a refusal.
func TestLimitHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := slow()
		cfg.Upstream.Dialect = upstream.OpenAI
		cfg.Upstream.Quotas = []upstream.Quota{{Counter: upstream.Requests, Limit: 60, Burst: 3, Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact}}}}
		s := start(t, cfg)
		var wg sync.WaitGroup
		for i, body := range []string{chat, `{"model":"m","stream":true,"messages":[]}`, chat, chat} {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				w := post(s, "/v1/chat/completions", body)
				sig := feedback.Parse(feedback.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes(), Now: time.Now()})
				if len(sig.Windows) != 1 || sig.Windows[0].Limit != 60 {
					t.Errorf("answer %d (%d) tells of %+v: %v", i, w.Code, sig.Windows, w.Header())
				}
				if i == 3 && (sig.Class != feedback.Throttled || sig.RetryAfter != time.Second || sig.Scope != feedback.ScopeRequests) {
					t.Errorf("the refusal is read as %+v", sig)
				}
			})
		}
		wg.Wait()
	})
}

func TestEmbeddingsBase64(t *testing.T) {
	s := start(t, Config{})
	w := post(s, "/v1/embeddings", `{"model":"m","input":"x","encoding_format":"base64","dimensions":8}`)
	var v struct{ Data []struct{ Embedding string } }
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.StdEncoding.DecodeString(v.Data[0].Embedding); err != nil || len(raw) != 32 {
		t.Errorf("%d bytes, %v, want 32", len(raw), err)
	}
}

// event is one server-sent event, and when it came.
type event struct {
	name, data string
	at         time.Duration
}

// streamed makes a request for a stream over a pipe, so that its parts can be timed.
func streamed(t *testing.T, s *Server, path, body string) []event {
	t.Helper()
	pr, pw := io.Pipe()
	began := time.Now()
	go func() {
		s.ServeHTTP(&pipeWriter{h: http.Header{}, w: pw}, httptest.NewRequest("POST", path, strings.NewReader(body)))
		pw.Close()
	}()
	var all []event
	var e event
	sc := bufio.NewScanner(pr)
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.HasPrefix(line, "event: "):
			e.name = line[7:]
		case strings.HasPrefix(line, "data: "):
			e.data, e.at = line[6:], time.Since(began)
		case line == "":
			all = append(all, e)
			e = event{}
		default:
			t.Fatalf("no line of a stream: %q", line)
		}
	}
	return all
}

type pipeWriter struct {
	h http.Header
	w io.Writer
}

func (p *pipeWriter) Header() http.Header         { return p.h }
func (p *pipeWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p *pipeWriter) WriteHeader(int)             {}
func (p *pipeWriter) Flush()                      {}

// A stream begins when the model does, has all of its text in pieces as they are made, and ends as its API says.
func TestStreams(t *testing.T) {
	for _, c := range []struct {
		path, body  string
		first, last string
		text        func(map[string]any) string
		usage       string
	}{
		{
			"/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}`, `"role":"assistant"`, "[DONE]",
			func(v map[string]any) string {
				s := ""
				for _, ch := range v["choices"].([]any) {
					if d, ok := ch.(map[string]any)["delta"].(map[string]any); ok {
						c, _ := d["content"].(string)
						s += c
					}
				}
				return s
			}, `"completion_tokens":10`,
		},
		{
			"/v1/completions", `{"model":"m","stream":true,"prompt":"x"}`, `"object":"text_completion"`, "[DONE]",
			func(v map[string]any) string { return v["choices"].([]any)[0].(map[string]any)["text"].(string) }, "",
		},
		{
			"/v1/messages", `{"model":"m","stream":true,"max_tokens":50,"messages":[]}`, `"type":"message_start"`, `{"type":"message_stop"}`,
			func(v map[string]any) string {
				if v["type"] == "content_block_delta" {
					return v["delta"].(map[string]any)["text"].(string)
				}
				return ""
			}, `"output_tokens":10`,
		},
		{
			"/v1/responses", `{"model":"m","stream":true,"input":"x"}`, `"type":"response.created"`, `"type":"response.completed"`,
			func(v map[string]any) string {
				if v["type"] == "response.output_text.delta" {
					return v["delta"].(string)
				}
				return ""
			}, `"output_tokens":10`,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := start(t, slow())
			es := streamed(t, s, c.path, c.body)
			if len(es) < 5 || !strings.Contains(es[0].data, c.first) || !strings.Contains(es[len(es)-1].data, c.last) {
				t.Fatalf("%s: %+v", c.path, es)
			}
			begins := time.Second
			if c.path == "/v1/completions" { // nothing comes before the first four tokens
				begins = 1400 * time.Millisecond
			}
			if es[0].at != begins || es[len(es)-1].at != 2*time.Second {
				t.Errorf("%s: from %v to %v, want from %v to 2s", c.path, es[0].at, es[len(es)-1].at, begins)
			}
			text, instants, usage := "", map[time.Duration]bool{}, false
			for _, e := range es {
				usage = usage || c.usage != "" && strings.Contains(e.data, c.usage)
				if e.data == "[DONE]" {
					continue
				}
				var v map[string]any
				if err := json.Unmarshal([]byte(e.data), &v); err != nil {
					t.Fatalf("%s: %v in %s", c.path, err, e.data)
				}
				if e.name != "" && e.name != v["type"] {
					t.Errorf("%s: event %q has type %v", c.path, e.name, v["type"])
				}
				if s := c.text(v); s != "" {
					text += s
					instants[e.at] = true
				}
			}
			if text != filler(10) {
				t.Errorf("%s: text %q, want %q", c.path, text, filler(10))
			}
			if len(instants) < 3 { // 4, 8 and 10 tokens
				t.Errorf("%s: all text came at %v", c.path, instants)
			}
			if usage != (c.usage != "") {
				t.Errorf("%s: usage %v", c.path, usage)
			}
		})
	}
}

// The cap refuses who is too many, at once and in the provider's words; a place is free again when a call ends or hangs up.
func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := slow()
		cfg.Upstream.Dialect = upstream.OpenAI
		cfg.Upstream.Concurrency = upstream.Concurrency{Limit: 8, Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryConstant, Delay: 3 * time.Second}}}
		s := start(t, cfg)
		var wg sync.WaitGroup
		var mu sync.Mutex
		codes := map[int]int{}
		for range 20 {
			wg.Go(func() {
				w := post(s, "/v1/chat/completions", chat, "Authorization", "Bearer a")
				mu.Lock()
				defer mu.Unlock()
				codes[w.Code]++
				if w.Code == 429 && (w.Header().Get("Retry-After") != "3" || !strings.Contains(w.Body.String(), `"error"`)) {
					t.Errorf("refused with %v %s", w.Header(), w.Body)
				}
			})
		}
		wg.Wait()
		if codes[200] != 8 || codes[429] != 12 {
			t.Errorf("%v, want 8 served and 12 refused", codes)
		}
		total, byKey := s.Stats()
		if a := byKey["a"]; a.Accepted != 8 || a.Refused != 12 || a.Status[429] != 12 || a.MaxInFlight < 8 || total.MaxBusy != 8 || total.InFlight != 0 {
			t.Errorf("counted %+v, %+v", total, a)
		}

		ctx, hangUp := context.WithCancel(t.Context())
		for range 8 {
			wg.Go(func() {
				if _, err := s.Do(ctx, Call{Output: 1000}); !errors.Is(err, context.Canceled) {
					t.Errorf("Do returned %v", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		if r, err := s.Do(t.Context(), Call{}); err != nil || r.Status != 429 {
			t.Errorf("the ninth: %+v, %v", r, err)
		}
		hangUp()
		wg.Wait()
		if total, _ := s.Stats(); total.Canceled != 8 || total.InFlight != 0 {
			t.Errorf("counted %+v", total)
		}
	})
}

// Do takes the time that the model takes, and the network's.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := slow()
		cfg.Network = 40 * time.Millisecond
		cfg.Keys = []string{"a"}
		s := start(t, cfg)
		began := time.Now()
		r, err := s.Do(t.Context(), Call{Key: "a", Output: 20})
		if err != nil || r.Status != 200 || r.Took != 3040*time.Millisecond || r.First != 1040*time.Millisecond || time.Since(began) != r.Took {
			t.Errorf("%+v, %v after %v", r, err, time.Since(began))
		}
		s.Set(upstream.Param{Kind: upstream.ParamRTT}, 1) // as a scenario's schedule may
		if r, err = s.Do(t.Context(), Call{Key: "a", Output: 20}); err != nil || r.Took != 4*time.Second || r.First != 2*time.Second {
			t.Errorf("on a longer way: %+v, %v", r, err)
		}
		if r, err = s.Do(t.Context(), Call{Key: "b"}); err != nil || r.Status != 401 {
			t.Errorf("an unknown key: %+v, %v", r, err)
		}
	})
}

// Close ends what goes on; nothing hangs and nothing is left.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := slow()
		cfg.Upstream.Faults = []upstream.Fault{{From: time.Minute, To: time.Hour, Kind: upstream.BlackHole}}
		s := start(t, cfg)
		time.Sleep(2 * time.Minute)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if w := post(s, "/v1/chat/completions", chat); w.Code != 503 {
					t.Errorf("a call into the black hole: %d", w.Code)
				}
			})
		}
		time.Sleep(time.Minute)
		s.Close()
		wg.Wait()
		s.Close()
		if w := post(s, "/v1/chat/completions", chat); w.Code != 503 {
			t.Errorf("after Close: %d", w.Code)
		}
		if _, err := s.Do(t.Context(), Call{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Do after Close: %v", err)
		}
	})
}

// A stream that Close cuts off must not look complete.
func TestCloseMidStream(t *testing.T) {
	cfg := slow()
	cfg.Upstream.Server = upstream.Server{OutputToken: 20 * time.Millisecond}
	cfg.Output = draw.Dist{Mean: 1000}
	s := start(t, cfg)
	web := httptest.NewServer(s)
	defer web.Close()
	resp, err := http.Post(web.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","stream":true,"messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if rest, err := io.ReadAll(in); err == nil {
		t.Errorf("the stream ended well with %q", rest[max(0, len(rest)-100):])
	}
}

func TestBadRequests(t *testing.T) {
	s := start(t, Config{Keys: []string{"k"}})
	do := func(method, path, body string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/v1/chat/completions", "", 405, "use POST"},
		{"POST", "/v1/models", "", 405, "use GET"},
		{"POST", "/v1/chat", "", 404, "Unknown request URL"},
		{"GET", "/", "", 404, "Unknown request URL"},
		{"POST", "/v1/chat/completions", "", 400, "JSON"},
		{"POST", "/v1/chat/completions", "[]", 400, "JSON"},
		{"POST", "/v1/chat/completions", "{}", 400, "model"},
		{"POST", "/v1/chat/completions", `{"model":"m","max_tokens":0}`, 400, "max_tokens must be"},
		{"POST", "/v1/chat/completions", `{"model":"m","max_tokens":1e30}`, 400, "max_tokens must be"},
		{"POST", "/v1/messages", `{"model":"m"}`, 400, `"type":"error"`},
		{"POST", "/v1/chat/completions", `{"model":"m"}`, 401, "Incorrect API key"},
		{"GET", "/v1/models", "", 401, "Incorrect API key"},
	} {
		w := do(c.method, c.path, c.body)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", c.method, c.path, c.body, w.Code, w.Body, c.code, c.want)
		}
	}
	if w := do("POST", "/v1/chat/completions", chat, "Authorization", "Bearer k", "X-Sim-Output-Tokens", "-1"); w.Code != 400 {
		t.Errorf("a negative length: %d", w.Code)
	}
	if w := do("GET", "/v1/models", "", "X-Api-Key", "k", "Anthropic-Version", "2023-06-01"); w.Code != 200 || !strings.Contains(w.Body.String(), `"has_more":false`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := do("GET", "/v1/models/sim-small", "", "Authorization", "Bearer k"); w.Code != 200 || !strings.Contains(w.Body.String(), `"id":"sim-small"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if total, _ := s.Stats(); total.Calls != 0 || total.Unknown != 1 || total.Invalid != 11 {
		t.Errorf("counted %+v", total)
	}
	for _, bad := range []Config{
		{ChunkTokens: -1}, {Keys: []string{"a", "b"}}, {Keys: []string{""}}, {Output: draw.Dist{Mean: -1}},
		{Upstream: upstream.Config{Noise: upstream.Noise{Share: 2}}},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("New accepts %+v", bad)
		}
	}
}

// Over real connections, with many callers of which some hang up, no call is lost and the cap holds.
func TestStress(t *testing.T) {
	cfg := Config{
		Upstream: upstream.Config{
			Dialect:     upstream.OpenAI,
			Quotas:      []upstream.Quota{{Counter: upstream.Requests, Limit: 60_000, Burst: 200}},
			Concurrency: upstream.Concurrency{Limit: 8},
			Server:      upstream.Server{Service: draw.Of(2 * time.Millisecond), OutputToken: 100 * time.Microsecond, KnowsHangups: true},
		},
		Output: draw.Dist{Mean: 20},
	}
	s := start(t, cfg)
	web := httptest.NewServer(s)
	defer web.Close()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 30 {
				ctx, cancel := context.WithCancel(t.Context())
				if (g+i)%5 == 0 {
					time.AfterFunc(3*time.Millisecond, cancel)
				}
				body := chat
				if i%2 == 0 {
					body = `{"model":"m","stream":true,"messages":[]}`
				}
				req, _ := http.NewRequestWithContext(ctx, "POST", web.URL+"/v1/chat/completions", strings.NewReader(body))
				req.Header.Set("Authorization", fmt.Sprintf("Bearer k%d", g%3))
				if resp, err := http.DefaultClient.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	web.Close() // waits for the handlers
	total, byKey := s.Stats()
	if total.InFlight != 0 || total.Calls != total.Accepted+total.Refused+total.Canceled || total.MaxBusy > 8 || total.Accepted == 0 || total.Refused == 0 {
		t.Errorf("counted %+v", total)
	}
	var sum int64
	for _, c := range byKey {
		sum += c.Calls
	}
	if sum != total.Calls || len(byKey) != 3 {
		t.Errorf("%d calls by key, %d in all", sum, total.Calls)
	}
}

// Whatever a request holds, it is answered, and not with a failure of the server.
func FuzzRequest(f *testing.F) {
	f.Add("/v1/chat/completions", chat, "1")
	f.Add("/v1/messages", `{"model":"m","max_tokens":5,"stream":true,"messages":[{"role":"user","content":[{"text":"x"}]}],"system":[1,2]}`, "")
	f.Add("/v1/embeddings", `{"model":"m","input":[[1,2],[3]],"dimensions":1e99}`, "x")
	f.Add("/v1/responses", `{"model":"m","input":[{"role":"user","content":"x"}],"max_output_tokens":2.5}`, "9")
	s, err := New(Config{Output: draw.Dist{Mean: 3}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, body, tokens string) {
		if !strings.HasPrefix(path, "/v1/") || strings.ContainsAny(path, " \r\n?#%") || len(tokens) > 3 {
			return
		}
		r, err := http.NewRequest("POST", "http://x"+path, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("X-Sim-Output-Tokens", tokens)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}

// A list of texts has an embedding each; a list of tokens is one text.
func TestEmbeddingsOfLists(t *testing.T) {
	for input, want := range map[string]int{`"a"`: 1, `["a","b","c"]`: 3, `[1,2,3]`: 1, `[[1,2],[3]]`: 2, `[]`: 1} {
		if got := inputs([]byte(input)); got != want {
			t.Errorf("%s has %d texts, want %d", input, got, want)
		}
	}
}

// pieces is a response that knows its largest piece.
type pieces struct {
	*httptest.ResponseRecorder
	most int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.most = max(p.most, len(b))
	return p.ResponseRecorder.Write(b)
}

// Many long vectors are written one after the other, and never held together.
func TestManyEmbeddings(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 3, 100} {
		texts, _ := json.Marshal(slices.Repeat([]string{"x"}, n))
		w := &pieces{ResponseRecorder: httptest.NewRecorder()}
		s.ServeHTTP(w, httptest.NewRequest("POST", "/v1/embeddings", strings.NewReader(`{"model":"m","dimensions":1024,"input":`+string(texts)+`}`)))
		var v struct {
			Object, Model string
			Usage         map[string]int
			Data          []struct {
				Index     int
				Embedding []float64
			}
		}
		d := json.NewDecoder(w.Body)
		if err := d.Decode(&v); err != nil || d.More() || v.Object != "list" || v.Model != "m" || v.Usage["total_tokens"] != (n+3)/4 || len(v.Data) != n || v.Data[n-1].Index != n-1 || len(v.Data[n-1].Embedding) != 1024 {
			t.Errorf("%d texts: %v, %d vectors, %v", n, err, len(v.Data), v.Usage)
		}
		if length := w.Header().Get("Content-Length"); w.most > 1<<17 || (length != "") != (n < 100) {
			t.Errorf("%d texts: %d bytes at a time, length %q", n, w.most, length)
		}
	}
}

// Gemini's stream is events without names, and ends in a reason; its keys and errors are Google's.
func TestGemini(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := slow()
		cfg.Keys = []string{"k1"}
		s := start(t, cfg)
		w := post(s, "/v1beta/models/m:streamGenerateContent?alt=sse&key=k1", `{"contents":[{"parts":[{"text":"Hi"}]}]}`)
		events := strings.Split(strings.TrimSpace(w.Body.String()), "\n\n")
		if w.Code != 200 || len(events) != 11 || !strings.HasPrefix(events[0], `data: {"candidates"`) || !strings.Contains(events[10], `"finishReason":"STOP"`) || strings.Contains(events[9], "finishReason") {
			t.Errorf("%d, %d events: %s", w.Code, len(events), w.Body)
		}
		if w := post(s, "/v1beta/models/m:generateContent", `{"contents":[]}`, "X-Goog-Api-Key", "k1"); w.Code != 200 {
			t.Errorf("with the key in the header: %d %s", w.Code, w.Body)
		}
		if w := post(s, "/v1beta/models/m:generateContent?key=wrong", `{"contents":[]}`); w.Code != 401 || !strings.Contains(w.Body.String(), `"status":"UNAUTHENTICATED"`) {
			t.Errorf("with another key: %d %s", w.Code, w.Body)
		}
		if w := post(s, "/v1beta/models/m:generateContent?key=k1", `{"generationConfig":{"maxOutputTokens":0}}`); w.Code != 400 || !strings.Contains(w.Body.String(), `"INVALID_ARGUMENT"`) {
			t.Errorf("with no tokens: %d %s", w.Code, w.Body)
		}
		if w := post(s, "/v1beta/models/m:countTokens?key=k1", `{}`); w.Code != 404 {
			t.Errorf("another method: %d %s", w.Code, w.Body)
		}
		for path, key := range map[string]string{"/v1beta/models": "k1", "/v1/models": "k1", "/v1/models?key=k1": ""} {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("X-Goog-Api-Key", key)
			list := httptest.NewRecorder()
			s.ServeHTTP(list, r)
			if list.Code != 200 || !strings.Contains(list.Body.String(), `"name":"models/`) {
				t.Errorf("the list at %s: %d %s", path, list.Code, list.Body)
			}
		}
	})
}
