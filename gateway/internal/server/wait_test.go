package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hold is an upstream that answers one call when it is told to, and refuses nobody.
func hold(t *testing.T, release <-chan bool, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		select {
		case <-release:
			h(w, r)
		case <-r.Context().Done():
		}
	}
}

const one = "law = 'fixed'\ninitial_limit = 1\n"

// Who waits for a stream gets frames of their own that begin with a colon, and then the stream as the upstream sends it.
func TestKeepAlive(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, hold(t, release, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Request-Id", "7")
		if r.Header.Get("Accept-Encoding") == "gzip" {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "data: packed\n\n")
			_ = z.Close()
			return
		}
		_, _ = io.WriteString(w, "data: 1\n\ndata: [DONE]\n\n")
	}))
	g := start(t, table(s, one)+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\n")
	// The first waits for the upstream, the second for its turn, with another encoding than it is promised.
	first := post(t, client(t), g.url+"/chat/completions", chatStream)
	second := post(t, client(t), g.url+"/chat/completions", chatStream, "Accept-Encoding", "gzip")
	third := post(t, client(t), g.url+"/chat/completions", chatStream, "Accept-Encoding", "br")
	for name, resp := range map[string]*http.Response{"first": first, "second": second, "third": third} {
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
			t.Errorf("%s: %s %v", name, resp.Status, resp.Header)
		}
	}
	for name, resp := range map[string]*http.Response{"first": first, "second": second, "third": third} {
		r := bufio.NewReader(resp.Body)
		for range 3 {
			if line, err := r.ReadString('\n'); line != ": waiting\n" {
				t.Fatalf("%s: %q %v", name, line, err)
			}
			if line, _ := r.ReadString('\n'); line != "\n" {
				t.Fatalf("%s: the keep-alive is no frame of its own: %q", name, line)
			}
		}
		resp.Body = struct {
			io.Reader
			io.Closer
		}{r, resp.Body}
	}
	for range 3 {
		release <- true
	}
	for name, resp := range map[string]*http.Response{"first": first, "second": second, "third": third} {
		all := frames(t, resp.Body)
		for len(all) > 0 && all[0] == ": waiting" {
			all = all[1:]
		}
		if got := strings.Join(all, "|"); got != "data: 1|data: [DONE]" {
			t.Errorf("%s: the stream is %q", name, got)
		}
	}
	g.idle()
}

// An upstream that was asked before the caller was promised a plain stream may answer in another encoding.
func TestKeepAliveDecodes(t *testing.T) {
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		<-release
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
		if r.Header.Get("Accept-Encoding") == "gzip" {
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, "data: packed\n\n")
			_ = z.Close()
		}
	})
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\n")
	for encoding, want := range map[string]string{"gzip": "data: packed", "br": `the encoding \"br\"`} {
		resp := post(t, client(t), g.url+"/chat/completions", chatStream, "Accept-Encoding", encoding)
		release <- true
		all := frames(t, resp.Body)
		if last := all[len(all)-1]; !strings.Contains(last, want) || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: the last frame is %q", encoding, last)
		}
	}
}

// A large answer that is no stream, a picture say, is one event for a caller whose stream has begun, and not an error: it is paid for.
func TestLateAnswerThatIsLarge(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	picture := "{\n  \"data\": [\r\n    {\"b64_json\": \"" + strings.Repeat("abcd", 1<<19) + "\"}\n  ]\n}\n"
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, picture)
	})
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\n")
	resp := post(t, client(t), g.url+"/images/generations", `{"model":"m","stream":true,"prompt":"p"}`)
	release <- true
	text := strings.TrimLeft(strings.ReplaceAll(read(t, resp), ": waiting\n\n", ""), "\n")
	line, ok := strings.CutPrefix(text, "data: ")
	var got, want bytes.Buffer
	if err := json.Compact(&got, []byte(line)); err != nil || !ok || strings.Index(text, "\n") != len(text)-2 {
		t.Fatalf("%.100q … %q is not one event: %v", text, text[max(0, len(text)-100):], err)
	}
	if err := json.Compact(&want, []byte(picture)); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("the event has %d bytes, want %d", got.Len(), want.Len())
	}
	g.idle()
}

// Half an answer to a caller whose stream has begun is told and logged as what it is, also when it reads like a whole one.
func TestLateAnswerThatIsCut(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, hold(t, release, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"choices":[]}`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\n")
	resp := post(t, client(t), g.url+"/chat/completions", chatStream)
	release <- true
	if all := frames(t, resp.Body); !strings.Contains(all[len(all)-1], "the answer was cut") {
		t.Errorf("the caller gets %q", all)
	}
	eventually(t, "the log says it", func() bool { return strings.Contains(g.logged(), "unexpected EOF") })
	g.idle()
}

// What is not possible in time is said promptly, in the caller's own API.
func TestRefusals(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, hold(t, release, ok))
	for _, c := range []struct {
		name, more, path, body string
		header                 []string
		status                 int
		retryAfter             bool
		check                  func(body string) bool
	}{
		{"openai", one + "queue = 0", "/up/chat/completions", chat, nil, 429, true, func(b string) bool {
			e := errorOf(t, b)
			return e.Code == "rate_limit_exceeded" && e.Type == "rate_limit_error" && strings.Contains(e.Message, "limit 1, in flight 1")
		}},
		{"anthropic", one + "queue = 0", "/up/v1/messages", chat, []string{"Anthropic-Version", "2023-06-01"}, 429, true, func(b string) bool {
			var m struct {
				Type  string
				Error struct{ Type, Message string }
			}
			return json.Unmarshal([]byte(b), &m) == nil && m.Type == "error" && m.Error.Type == "rate_limit_error" && m.Error.Message != ""
		}},
		{"gemini", one + "queue = 0", "/up/models/gemini:generateContent", chat, nil, 429, true, func(b string) bool {
			var m struct {
				Error struct {
					Code            int
					Status, Message string
				}
			}
			return json.Unmarshal([]byte(b), &m) == nil && m.Error.Code == 429 && m.Error.Status == "RESOURCE_EXHAUSTED"
		}},
		{"waited in vain", one + "max_wait = '50ms'", "/up/chat/completions", chat, nil, 429, true, func(b string) bool {
			return strings.Contains(errorOf(t, b).Message, "waited")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, table(s, c.more))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() {
				if resp, err := tryPost(ctx, client(t), g.url+"/up/chat/completions", chat); err == nil {
					_ = resp.Body.Close()
				}
			}()
			eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
			began := time.Now()
			resp := post(t, client(t), g.url+c.path, c.body, c.header...)
			body := read(t, resp)
			if resp.StatusCode != c.status || !c.check(body) || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s", resp.Status, body)
			}
			n, err := strconv.Atoi(resp.Header.Get("Retry-After"))
			if c.retryAfter && (err != nil || n < 1) || resp.Header.Get("X-Should-Retry") != "false" {
				t.Errorf("%v", resp.Header)
			}
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("that took %v", d)
			}
			var line struct {
				Wait float64 `json:"wait_ms"`
			}
			eventually(t, "the call is in the log", func() bool {
				for l := range strings.Lines(g.logged()) {
					if strings.Contains(l, `"status":429`) {
						return json.Unmarshal([]byte(l), &line) == nil
					}
				}
				return false
			})
			if strings.Contains(c.more, "max_wait") && line.Wait < 50 {
				t.Errorf("in the log it waited %v ms, want the 50 that it waited in vain", line.Wait)
			}
		})
	}
}

// A wait that ends in vain after the stream has begun is told as a frame that Dify and the SDKs read.
func TestLateRefusal(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, hold(t, make(chan bool), ok))
	g := start(t, table(s, one)+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\nwait='300ms'\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		// It has the place, and the upstream does not answer.
		resp, err := tryPost(ctx, client(t), g.url+"/chat/completions", chatStream)
		if err == nil {
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	for path, want := range map[string]string{
		"/chat/completions": `data: {"error":{"message":"`,
		"/v1/messages":      "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"",
		"/responses":        "event: error\ndata: {\"type\":\"error\",\"code\":\"",
	} {
		all := frames(t, post(t, client(t), g.url+path, chatStream).Body)
		last := all[len(all)-1]
		if all[0] != ": waiting" || !strings.HasPrefix(last, want) || strings.Contains(last, "choices") {
			t.Errorf("%s: the frames are %q", path, all)
		}
	}
}

// An upstream that does not answer is told from one that has no room.
func TestBlackHole(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, hold(t, make(chan bool), ok))
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/'\nupstream='up'\nwait='1500ms'\n")
	resp := post(t, client(t), g.url+"/embeddings", `{"input":"x","model":"m"}`)
	if e := errorOf(t, read(t, resp)); resp.StatusCode != 504 || e.Code != "timeout" || !strings.Contains(e.Message, "began no answer within") {
		t.Errorf("%s %+v", resp.Status, e)
	}
	g.idle()
	eventually(t, "the log says so", func() bool { return strings.Contains(g.logged(), `"code":"timeout"`) })
}

// An upstream that refuses is asked again, with the whole body, and the caller sees nothing of it.
func TestRetriesWithTheBody(t *testing.T) {
	checkGoroutines(t)
	var calls atomic.Int32
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) != 3<<20 {
			t.Errorf("the upstream got %d bytes, %v", len(body), err)
		}
		if calls.Add(1) < 3 {
			w.Header().Set("Retry-After-Ms", "10")
			http.Error(w, `{"error":{"message":"The server is overloaded","type":"service_unavailable_error","code":"server_is_overloaded"}}`, http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "done")
	})
	for _, memory := range []string{"268435456", "1048576", "0"} { // the body is in memory, begins there, is in a file
		calls.Store(0)
		t.Setenv("TMPDIR", t.TempDir())
		g := start(t, table(s, "pause_jitter = 0")+"[gateway.server]\nmemory = "+memory)
		for _, length := range []bool{true, false} {
			calls.Store(0)
			req, _ := http.NewRequest("POST", g.url+"/audio/transcriptions", strings.NewReader(strings.Repeat("x", 3<<20)))
			if !length {
				req.ContentLength = -1
			}
			resp, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if b := read(t, resp); resp.StatusCode != 200 || b != "done" || calls.Load() != 3 {
				t.Errorf("memory %s: %s %q after %d calls", memory, resp.Status, b, calls.Load())
			}
		}
		g.idle()
		if used := g.proxy.Memory(); used != 0 {
			t.Errorf("%d bytes are still reserved", used)
		}
	}
}

// A refusal that stays one goes to the caller as it is, and says that asking again does not help.
func TestFinalRefusalPasses(t *testing.T) {
	const said = `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(429)
		_, _ = io.WriteString(w, said)
	})
	g := start(t, table(s, "provider='openai'"))
	resp := post(t, client(t), g.url+"/chat/completions", chatStream)
	if b := read(t, resp); resp.StatusCode != 429 || b != said || resp.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("%s %v %s", resp.Status, resp.Header, b)
	}
}

// A stream that is cut ends in an error, and not as if it were whole; the half of a line that came is not handed on.
func TestCutStream(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		typ := "text/event-stream"
		if strings.HasSuffix(r.URL.Path, "/embeddings") {
			typ = "application/json"
			w.Header().Set("Content-Length", "1000")
		}
		w.Header().Set("Content-Type", typ)
		_, _ = io.WriteString(w, "data: {\"choices\":[1]}\n\ndata: {\"cho")
		w.(http.Flusher).Flush()
		if r.Header.Get("X-Stall") != "" {
			<-r.Context().Done()
			return
		}
		panic(http.ErrAbortHandler)
	})
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/'\nupstream='up'\nstall='200ms'\n")
	for header, want := range map[string]string{"": "bad_gateway", "X-Stall": "timeout"} {
		var h []string
		if header != "" {
			h = []string{header, "yes"}
		}
		all := frames(t, post(t, client(t), g.url+"/chat/completions", chatStream, h...).Body)
		if len(all) != 2 || all[0] != `data: {"choices":[1]}` || !strings.HasPrefix(all[1], `data: {"error":{"message":"the answer was cut: `) || !strings.Contains(all[1], want) {
			t.Errorf("%q: the frames are %q", header, all)
		}
		// An answer that is no stream must not look whole either.
		resp, err := tryPost(context.Background(), client(t), g.url+"/embeddings", `{}`, h...)
		if err == nil {
			var b []byte
			b, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil {
				t.Errorf("a cut answer of %d bytes looks whole", len(b))
			}
		}
	}
	g.idle()
}

// Google's SDK for Go reads the error from a frame that begins with data: only, whatever ends the upstream's lines; a frame of which the end did not
// come ends before it.
func TestCutFrames(t *testing.T) {
	var sends atomic.Value
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, sends.Load().(string))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	g := start(t, table(s, ""))
	for sent, want := range map[string]string{
		"":                                  "",
		"data: {}\n\ndata: {\"cand":         "data: {}\n\n",
		"data: {}\r\n\r\ndata: {\"cand":     "data: {}\r\n\r\n",
		"data: {}\ndata: {\"cand":           "data: {}\n\n",
		"data: {}\r\n":                      "data: {}\r\n\n",
		": comment\n\nevent: x\ndata: {}\n": ": comment\n\nevent: x\ndata: {}\n\n",
		"data: {}\n\nevent: x\n":            "data: {}\n\n",
		"event: x\r\nid: 1\r\ndata: {":      "",
		"data: {}\n\n: alive\n":             "data: {}\n\n: alive\n\n",
	} {
		sends.Store(sent)
		all := read(t, post(t, client(t), g.url+"/up/models/g:streamGenerateContent?alt=sse", chatStream))
		if rest, ok := strings.CutPrefix(all, want); !ok || !strings.HasPrefix(rest, `data: {"error":{"code":502,`) {
			t.Errorf("after %q the caller has %q", sent, all)
		}
	}
}

// A caller that is slow to send holds nothing that others wait for, and is let go in time.
func TestSlowCallers(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, ok)
	g := start(t, table(s, one)+"[gateway.server]\nheader_timeout='300ms'\nbody_timeout='300ms'\nwrite_timeout='300ms'\n")
	for _, begin := range []string{
		"POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Le", // a header that does not end
		"POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"model\"",
		"POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
	} {
		conn := dial(t, g.Addr())
		fmt.Fprint(conn, begin)
		began := time.Now()
		// Meanwhile the only place is free.
		if body := read(t, post(t, client(t), g.url+"/up/chat/completions", chat)); body != answered {
			t.Errorf("beside a slow caller: %s", body)
		}
		if n, _ := g.inFlight("up"); n != 0 {
			t.Errorf("a slow caller holds a place")
		}
		b, _ := io.ReadAll(conn)
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it was let go after %v", d)
		}
		if strings.Contains(begin, "\r\n\r\n") && !strings.HasPrefix(string(b), "HTTP/1.1 408 ") {
			t.Errorf("%q", b)
		}
		if strings.Contains(string(b), "X-Should-Retry") { // its connection stalled, and the next one may not
			t.Errorf("a caller that was slow is told not to try again: %q", b)
		}
	}
	// One that trickles: the pauses are short, and the sum is long.
	conn := dial(t, g.Addr())
	fmt.Fprint(conn, "POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
	began := time.Now()
	for time.Since(began) < 10*time.Second {
		if _, err := conn.Write([]byte("x")); err != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("one that trickles was let go after %v", d)
	}
	g.idle()
}

// A caller that takes nothing of its answer loses it, and the place goes to the next.
func TestCallerTakesNothing(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		event := []byte("data: " + strings.Repeat("x", 8<<10) + "\n\n")
		for r.Context().Err() == nil {
			if _, err := w.Write(event); err != nil {
				return
			}
		}
	})
	g := start(t, table(s, one)+"[gateway.server]\nwrite_timeout='300ms'\n")
	conn := dial(t, g.Addr())
	fmt.Fprintf(conn, "POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(chatStream), chatStream)
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	eventually(t, "its place is free", func() bool { n, _ := g.inFlight("up"); return n == 0 })
	g.idle()
}

// The bounds of requests.
func TestBounds(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[gateway.server]\nmax_header=4096\nmax_body=2048\n")
	resp := post(t, client(t), g.url+"/chat/completions", strings.Repeat("x", 2049))
	if e := errorOf(t, read(t, resp)); resp.StatusCode != 413 || !strings.Contains(e.Message, "gateway.server.max_body") {
		t.Errorf("%s %+v", resp.Status, e)
	}
	req, _ := http.NewRequest("POST", g.url+"/chat/completions", io.MultiReader(strings.NewReader(strings.Repeat("x", 3000))))
	resp, err := client(t).Do(req)
	if err != nil || resp.StatusCode != 413 {
		t.Errorf("a body without a length: %v %v", resp, err)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	resp = post(t, client(t), g.url+"/chat/completions", chat, "X-Long", strings.Repeat("x", 10_000))
	if _ = read(t, resp); resp.StatusCode != 431 {
		t.Errorf("a long header: %s", resp.Status)
	}
}

// The header of an answer is not kept until its body begins: an upstream with a queue of its own sends it at once, and who calls waits for a header
// no longer than for an answer. It came with the first byte of the body.
func TestHeaderComesBeforeTheBody(t *testing.T) {
	checkGoroutines(t)
	for name, caller := range map[string]func(*testing.T) *http.Client{"HTTP/1": client, "HTTP/2": h2c} {
		for _, body := range []string{chatStream, strings.Replace(chatStream, "{", `{"temperature":0,`, 1)} { // alone, and shared
			begin := make(chan bool)
			s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "text/event-stream")
				w.(http.Flusher).Flush()
				<-begin
				_, _ = io.WriteString(w, "data: [DONE]\n\n")
			})
			g := start(t, table(s, ""))
			release := sync.OnceFunc(func() { close(begin) })
			late := time.AfterFunc(5*time.Second, release)
			resp := post(t, caller(t), g.url+"/up/chat/completions", body)
			if !late.Stop() {
				t.Errorf("%s: the caller waits for the header of %s until the body begins", name, body)
			}
			release()
			if got := read(t, resp); got != "data: [DONE]\n\n" || resp.Header.Get("Content-Type") != "text/event-stream" {
				t.Errorf("%s: %q, %v", name, got, resp.Header)
			}
			g.idle()
		}
	}
}

// The end of its connection is all that tells a caller over HTTP/1.0, as nginx is to those behind it, how long an answer without a length is. One that
// was cut ends with a reset, and not like a whole one.
func TestCutAnswerOverHTTP10(t *testing.T) {
	g := start(t, raw(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n"))
	for _, body := range []string{chat, strings.Replace(chat, "{", `{"temperature":0,`, 1)} { // alone, and shared
		conn := dial(t, g.Addr())
		fmt.Fprintf(conn, "POST /up/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if got, err := io.ReadAll(conn); err == nil {
			t.Errorf("the caller takes %q for the whole", got)
		}
	}
	g.idle()
}

// An answer that is cut begins all the same: who gets nothing of it at all may take it that nothing was done, and call again.
func TestCutAnswerBegins(t *testing.T) {
	g := start(t, raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"))
	resp := post(t, client(t), g.url+"/up/x", chat)
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil || string(got) != "hello" {
		t.Errorf("%q, %v; want what came, and an error", got, err)
	}
	g.idle()
}

// A caller whose stream's header has come still waits for the stream, and is told so until it begins. Keep-alives ended with the header, so that proxies
// gave up that want to hear something each minute. Where a length says how much comes, nothing is put in.
func TestKeepAlivesUntilTheBodyBegins(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	serve := func(length string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			if strings.HasPrefix(r.URL.Path, "/v1/late") {
				<-release
			}
			w.Header().Set("Content-Type", "text/event-stream")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			w.(http.Flusher).Flush()
			<-release
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
		}
	}
	const more = "[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\n"
	g := start(t, table(upstreamServer(t, serve("")), "")+more)
	// The header of a stream is held back for up to 250 ms, for its first event.
	known := start(t, table(upstreamServer(t, serve("14")), "")+strings.Replace(more, "20ms", "400ms", 1))
	for name, caller := range map[string]func(*testing.T) *http.Client{"HTTP/1": client, "HTTP/2": h2c} {
		for _, more := range []string{"", `"temperature":0,`} { // alone, and shared
			body := strings.Replace(chatStream, "{", fmt.Sprintf(`{"user":%q,`, name)+more, 1)
			for _, path := range []string{"/chat/completions", "/late/chat/completions"} {
				late := time.AfterFunc(5*time.Second, func() { release <- true })
				resp := post(t, caller(t), g.url+path, body)
				r := bufio.NewReader(resp.Body)
				beat := func() {
					if line, err := r.ReadString('\n'); err != nil || line != ": waiting\n" {
						t.Fatalf("%s: %s: %q, %v; want a keep-alive", name, path, line, err)
					}
					_, _ = r.ReadString('\n')
				}
				if strings.HasPrefix(path, "/late") {
					beat()
					release <- true // the header
				}
				for range 3 { // of which one may have come before the header
					beat()
				}
				if !late.Stop() {
					t.Errorf("%s: %s: nothing comes until the stream begins", name, path)
				}
				release <- true
				rest, err := io.ReadAll(r)
				if got := strings.ReplaceAll(string(rest), ": waiting\n\n", ""); err != nil || got != "data: [DONE]\n\n" {
					t.Errorf("%s: %s: %q, %v", name, path, rest, err)
				}
				_ = resp.Body.Close()
				g.idle()
			}
			resp := post(t, caller(t), known.url+"/chat/completions", body)
			time.AfterFunc(time.Second, func() { release <- true })
			if got := read(t, resp); got != "data: [DONE]\n\n" {
				t.Errorf("%s: with a length: %q", name, got)
			}
			known.idle()
		}
	}
}
