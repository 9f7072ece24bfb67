package sdks

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A dialect is how an upstream says what the tests need. Streams are cut into events.
type dialect struct {
	message   string            // an answer of 9 and 2 tokens that says "Hello."
	stream    []string          // the same as a stream
	head      int               // how many of the stream's events come before its first text, that one included
	minute    map[string]string // a refusal for a second: fields
	minuteIs  string            // and body
	plan      string            // a refusal that waiting does not cure, status 429
	busy      string            // a refusal because too much is in flight, status 429
	overload  string            // an event that says that the upstream is overloaded
	throttled string            // an event that says that a limit was reached
}

var openAI = dialect{
	message: `{"id":"chatcmpl-1","object":"chat.completion","created":0,"model":"m",` +
		`"choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`,
	stream: []string{
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`,
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}`,
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"lo."},"finish_reason":null}],"usage":null}`,
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}`,
		`data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`,
		`data: [DONE]`,
	},
	head: 2,
	minute: map[string]string{
		"Retry-After": "1", "X-Ratelimit-Limit-Requests": "60", "X-Ratelimit-Remaining-Requests": "0", "X-Ratelimit-Reset-Requests": "1s",
	},
	minuteIs:  `{"error":{"message":"Rate limit reached for m on requests per min (RPM): Limit 60, Used 60, Requested 1. Please try again in 1s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}`,
	plan:      `{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`,
	busy:      `{"error":{"message":"Too many requests. Your current concurrency is 9, which exceeds your concurrency limit of 8.","type":"rate_limit_error","param":null,"code":null}}`,
	overload:  `data: {"error":{"message":"Our servers are currently overloaded. Please try again later.","type":"service_unavailable_error","param":null,"code":"server_is_overloaded"}}`,
	throttled: `data: {"error":{"message":"Rate limit reached for requests","type":"requests","param":null,"code":"rate_limit_exceeded"}}`,
}

var claude = dialect{
	message: `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Hello."}],` +
		`"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":4,"cache_read_input_tokens":5,"output_tokens":2}}`,
	stream: []string{
		"event: message_start\n" + `data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":4,"cache_read_input_tokens":5,"output_tokens":1}}}`,
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
		"event: ping\n" + `data: {"type":"ping"}`,
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}`,
		"event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"lo."}}`,
		"event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}`,
		"event: message_delta\n" + `data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}`,
		"event: message_stop\n" + `data: {"type":"message_stop"}`,
	},
	head:      4,
	minute:    map[string]string{"Retry-After": "1", "Request-Id": "req_1"},
	minuteIs:  `{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 60 requests per minute."},"request_id":"req_1"}`,
	plan:      `{"type":"error","error":{"details":{"error_code":"enforced_spend_limit_reached"},"type":"rate_limit_error","message":"Your organization has reached its monthly spend limit."},"request_id":"req_1"}`,
	busy:      `{"type":"error","error":{"type":"rate_limit_error","message":"Number of concurrent connections has exceeded your rate limit. Please try again later."},"request_id":"req_1"}`,
	overload:  "event: error\n" + `data: {"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"}}`,
	throttled: "event: error\n" + `data: {"type":"error","error":{"details":null,"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 60 requests per minute."}}`,
}

// server answers chat completions as OpenAI does and messages as Anthropic does: the first requests by its script, the
// others well.
type server struct {
	url    string
	script []step
	most   int           // how many requests it serves at a time; 0 means any number
	takes  time.Duration // how long an answer takes

	mu           sync.Mutex
	arrived      []time.Time
	refused      []time.Time // just before a refusal was sent
	now, highest int         // being served
	turnedAway   int         // because of most
	bodies       []string
}

// A step answers one request.
type step func(s *server, w http.ResponseWriter, d dialect, stream bool)

// serve starts a server with a script.
func serve(t *testing.T, s *server) *server {
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var asked struct {
		Stream bool `json:"stream"`
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var d dialect
	switch r.URL.Path {
	case "/v1/chat/completions":
		d = openAI
	case "/v1/messages":
		d = claude
	default:
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	s.arrived = append(s.arrived, time.Now())
	s.bodies = append(s.bodies, string(body))
	n := len(s.arrived) - 1
	full := s.most > 0 && s.now >= s.most
	if full {
		s.turnedAway++
	} else {
		s.now++
		s.highest = max(s.highest, s.now)
	}
	s.mu.Unlock()
	if full {
		refuse(w, d.busy, nil)
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}()
	if n < len(s.script) {
		s.script[n](s, w, d, asked.Stream)
		return
	}
	time.Sleep(s.takes)
	well(s, w, d, asked.Stream)
}

// well answers well.
func well(_ *server, w http.ResponseWriter, d dialect, stream bool) {
	if stream {
		events(w, d.stream...)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, d.message)
}

// forASecond refuses and asks for a second.
func forASecond(s *server, w http.ResponseWriter, d dialect, _ bool) {
	s.mu.Lock()
	s.refused = append(s.refused, time.Now())
	s.mu.Unlock()
	refuse(w, d.minuteIs, d.minute)
}

// forGood refuses for want of money.
func forGood(_ *server, w http.ResponseWriter, d dialect, _ bool) { refuse(w, d.plan, nil) }

// breakOff answers well at first and then sends the event that pick chooses.
func breakOff(pick func(dialect) string) step {
	return func(_ *server, w http.ResponseWriter, d dialect, _ bool) {
		events(w, d.stream[:d.head]...)
		events(w, pick(d))
	}
}

// hold sends the first text of a stream, and the rest when the channel is closed.
func hold(rest <-chan struct{}) step {
	return func(_ *server, w http.ResponseWriter, d dialect, _ bool) {
		events(w, d.stream[:d.head]...)
		<-rest
		events(w, d.stream[d.head:]...)
	}
}

func refuse(w http.ResponseWriter, body string, header map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	for name, v := range header {
		w.Header().Set(name, v)
	}
	w.WriteHeader(http.StatusTooManyRequests)
	io.WriteString(w, body)
}

// events sends events of a stream, one at a time.
func events(w http.ResponseWriter, list ...string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	for _, e := range list {
		if _, err := io.WriteString(w, e+"\n\n"); err != nil {
			return // the client is gone
		}
		http.NewResponseController(w).Flush()
	}
}

// requests returns how many requests arrived.
func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.arrived)
}

// sameBody reports whether all requests were the same.
func (s *server) sameBody() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(slices.Compact(slices.Clone(s.bodies))) == 1 && strings.Contains(s.bodies[0], "Say hello.")
}
