package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// The runtime's goroutine for signals stays once it was needed; it must not count as one that a test left.
func TestMain(m *testing.M) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	signal.Stop(c)
	os.Exit(m.Run())
}

// gateway is a gateway that a test runs.
type gateway struct {
	*Server
	t    *testing.T
	url  string
	file string
	log  string // the log's file
	stop func() error
}

// start runs a gateway with the given file; {dir} in it is a directory of the test.
func start(t *testing.T, toml string) *gateway {
	t.Helper()
	dir := t.TempDir()
	g := &gateway{t: t, file: filepath.Join(dir, "limits.toml"), log: filepath.Join(dir, "log")}
	g.write(toml)
	log, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Config: g.file, Listen: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	g.Server, g.url = s, "http://"+s.Addr()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	g.stop = func() (err error) {
		once.Do(func() {
			cancel()
			select {
			case err = <-ended:
			case <-time.After(20 * time.Second):
				buf := make([]byte, 1<<20)
				t.Fatalf("the gateway does not end\n%s", buf[:runtime.Stack(buf, true)])
			}
			_ = log.Close()
		})
		return err
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return g
}

func (g *gateway) write(toml string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, []byte(strings.ReplaceAll(toml, "{dir}", filepath.Dir(g.file))), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// logged returns what the log has.
func (g *gateway) logged() string {
	g.sink.flush(time.Second)
	b, _ := os.ReadFile(g.log)
	return string(b)
}

// callLine is what the log says of a call.
type callLine struct {
	Msg, Upstream, Error string
	Status, Sent         int
	Wait                 float64 `json:"wait_ms"`
	TenantWait           float64 `json:"tenant_wait_ms"`
	WaitWhy              string  `json:"wait_why"`
	WaitGuard            string  `json:"wait_guard"`
	WaitBehind           int     `json:"wait_behind"`
	Total                float64 `json:"total_ms"`
}

// callLines waits until the log has the lines of n calls, and returns them.
func (g *gateway) callLines(n int) (lines []callLine) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%d calls are in the log", n), func() bool {
		lines = nil
		for text := range strings.Lines(g.logged()) {
			var l callLine
			if json.Unmarshal([]byte(text), &l) == nil && l.Msg == "call" {
				lines = append(lines, l)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// upstreamServer starts an upstream and returns the lines for limits.toml that lead to it, in which %s is more of its table.
func upstreamServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func table(s *httptest.Server, more string) string {
	return fmt.Sprintf("[upstream.up]\nbase_url = %q\n%s\n", s.URL+"/v1", more)
}

// clients are the transports of all clients. A connection that was dialed for a call which then took another one becomes idle late.
var clients sync.Map

func closeIdle() {
	clients.Range(func(tr, _ any) bool { tr.(*http.Transport).CloseIdleConnections(); return true })
}

// client has no keep-alive state that one test leaves to another.
func client(t *testing.T) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	clients.Store(tr, true)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func post(t *testing.T, c *http.Client, url, body string, header ...string) *http.Response {
	t.Helper()
	resp, err := tryPost(context.Background(), c, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func tryPost(ctx context.Context, c *http.Client, url, body string, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.Do(req)
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v after %q", err, b)
	}
	return string(b)
}

const (
	chat       = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	chatStream = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	answered   = `{"id":"1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`
)

// ok answers as a chat that has no limits.
func ok(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, word := range []string{"a", "b", "c"} {
			fmt.Fprintf(w, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", word)
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, answered)
}

// eventually waits for something that another process or goroutine does.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 4000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("after 20 s, still not: %s", what)
}

// inFlight returns how many calls the guard of an upstream has in flight, and how many wait.
func (g *gateway) inFlight(name string) (int, int) {
	guard, err := g.limits.Guard(name)
	if err != nil {
		g.t.Fatal(err)
	}
	s := guard.Stats()
	return s.InFlight, s.Waiting
}

// waitsFor returns how many wait at a guard, of an upstream or a tenant.
func (g *gateway) waitsFor(name string) int {
	for _, v := range g.proxy.Upstreams() {
		if v.Name == name {
			return v.Guards[0].Stats().Waiting
		}
	}
	return -1
}

func (g *gateway) idle() {
	g.t.Helper()
	eventually(g.t, "no call in flight", func() bool { n, w := g.inFlight("up"); return n == 0 && w == 0 && g.proxy.Calls() == 0 })
}

// errorOf returns the error of an answer in OpenAI's form.
func errorOf(t *testing.T, body string) (e struct{ Message, Type, Code string }) {
	t.Helper()
	var b struct {
		Error *struct{ Message, Type, Code string }
	}
	if err := json.Unmarshal([]byte(body), &b); err != nil || b.Error == nil {
		t.Fatalf("this is no error in OpenAI's form: %q", body)
	}
	return *b.Error
}

// frames reads events until the stream ends.
func frames(t *testing.T, r io.Reader) (all []string) {
	t.Helper()
	s := bufio.NewScanner(r)
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
			return i + 2, data[:i], nil
		}
		if atEOF && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for s.Scan() {
		all = append(all, s.Text())
	}
	if s.Err() != nil {
		t.Fatalf("the stream ended with %v after %q", s.Err(), all)
	}
	return all
}

// checkGoroutines fails the test when it leaves goroutines of this package behind.
func checkGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 200 {
			if closeIdle(); runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
	})
}

// dial connects, and fails reads after a while.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// write writes a file and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var dialer = net.Dialer{Timeout: time.Second}

// freePort returns a port that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
