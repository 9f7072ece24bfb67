package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/upstream"
)

func drainRun(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = run(ctx, append([]string{"gateway", "drain"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// model is a model server with a limit on calls in flight, and its address.
func model(t *testing.T, cfg upstream.Config) (*modelserver.Server, string) {
	t.Helper()
	cfg.Dialect = upstream.OpenAI
	m, err := modelserver.New(modelserver.Config{Upstream: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	srv := httptest.NewServer(m)
	t.Cleanup(srv.Close)
	return m, srv.URL
}

func accepted(m *modelserver.Server) int64 {
	total, _ := m.Stats()
	return total.Accepted
}

func requests(t *testing.T, dir string, n int) string {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"r-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"sim-small","max_tokens":5,"messages":[{"role":"user","content":"number %d"}]}}`+"\n", i, i)
	}
	path := filepath.Join(dir, "requests.jsonl")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The command of the documentation, with options behind the file: results for all, and nothing to do the second time.
func TestDrain(t *testing.T) {
	m, url := model(t, upstream.Config{Concurrency: upstream.Concurrency{Limit: 20}, Server: upstream.Server{Service: draw.Of(5 * time.Millisecond)}})
	dir := t.TempDir()
	in, out := requests(t, dir, 300), filepath.Join(dir, "results.jsonl")
	t.Setenv("DRAIN_TEST_KEY", "sk-secret")
	args := []string{in, "--out", out, "--base-url", url + "/v1", "--key-env", "DRAIN_TEST_KEY", "--price", "1,2"}
	code, stdout, stderr := drainRun(t, args...)
	if code != 0 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "300 done in ") || !strings.Contains(stderr, "cost 0.0") {
		t.Fatalf("exit code %d, stdout %q, stderr %q; off a terminal it says one line", code, stdout, stderr)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for l := range strings.Lines(string(data)) {
		var r struct {
			ID       string `json:"custom_id"`
			Response struct {
				Status int `json:"status_code"`
				Body   struct{ Object string }
			}
		}
		if err := json.Unmarshal([]byte(l), &r); err != nil || r.Response.Status != 200 || r.Response.Body.Object != "chat.completion" {
			t.Fatalf("%v in %s", err, l)
		}
		ids[r.ID] = true
	}
	if len(ids) != 300 {
		t.Errorf("results for %d ids, want 300", len(ids))
	}
	calls := accepted(m)
	code, _, stderr = drainRun(t, args...)
	if code != 0 || !strings.Contains(stderr, "0 done") || !strings.Contains(stderr, "300 known") || accepted(m) != calls {
		t.Errorf("the second run: exit code %d, %q, %d calls more", code, stderr, accepted(m)-calls)
	}
	if strings.Contains(stderr+string(data), "sk-secret") {
		t.Error("the key is in what was written")
	}
}

func TestDrainDeadLetters(t *testing.T) {
	_, url := model(t, upstream.Config{Server: upstream.Server{Service: draw.Of(time.Millisecond)}})
	dir := t.TempDir()
	in := requests(t, dir, 3)
	f, err := os.OpenFile(in, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "not JSON")
	f.Close()
	code, _, stderr := drainRun(t, "--out", filepath.Join(dir, "out.jsonl"), "--base-url", url, in)
	if code != 1 || !strings.Contains(stderr, "1 requests are dead letters") || !strings.Contains(stderr, "requests.dead.jsonl") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	// A run that is repeated leaves it out: it has no result all the same.
	code, _, stderr = drainRun(t, "--out", filepath.Join(dir, "out.jsonl"), "--base-url", url, "--progress", in)
	for _, want := range []string{"100% 4/4", "0 dead and 1 put aside before", "1 requests are dead letters"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("a second time: %q without %q", stderr, want)
		}
	}
	if code != 1 {
		t.Errorf("a second time: exit code %d, want 1", code)
	}
}

func TestDrainMisuse(t *testing.T) {
	dir := t.TempDir()
	in, out := requests(t, dir, 1), filepath.Join(dir, "out.jsonl")
	empty := filepath.Join(dir, "empty.toml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FLYBALL_QUOTED", `"topsecret"`)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{in}, "--out"},
		{[]string{"--out", out}, "--from"},
		{[]string{in, in, "--out", out}, "2 files"},
		{[]string{in, "--out", out}, "--base-url"},
		{[]string{in, "--out", out, "--base-url", "ftp://x"}, "ftp://x"},
		{[]string{in, "--out", in, "--base-url", "http://127.0.0.1:1"}, "not a result"},
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--price", "x"}, "--price"},
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--key-env", "FLYBALL_NO_SUCH"}, "FLYBALL_NO_SUCH"},
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--key-env", "FLYBALL_QUOTED"}, "FLYBALL_QUOTED has quotes around the key"},
		{[]string{"--from", "redis://x", "--out", out, "--base-url", "http://127.0.0.1:1"}, "amqp://"},
		{[]string{"--from", "kafka://127.0.0.1:1/t?grup=x", "--out", out, "--base-url", "http://127.0.0.1:1"}, "grup"},
		{[]string{"--from", "kafka://u:topsecret@127.0.0.1:1/t", "--out", out, "--base-url", "http://127.0.0.1:1"}, "SASL"},
		{[]string{in, "--from", "kafka://127.0.0.1:1/t", "--out", out}, "one of the two"},
		{[]string{filepath.Join(dir, "none.jsonl"), "--out", out, "--base-url", "http://127.0.0.1:1"}, "none.jsonl"},
		{[]string{in, "--out", out, "--nonsense"}, "nonsense"},
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--ordered"}, "--ordered is for a queue"}, // and does nothing here
		{[]string{"--from", "amqp://127.0.0.1:1/?queue=q", "--out", out, "--base-url", "http://127.0.0.1:1", "--ordered"}, "key_header=NAME"},
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--grace", "0s"}, "--grace is 0s, must be 1ms or more"}, // and not 30 s
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--timeout", "0s"}, "--timeout is 0s, must be 1ms or more"},
		{[]string{in, "--out", out, "--config", empty, "--key-env", "HOME"}, "[[upstream.NAME.key]]"},
		{[]string{in, "--out", out, "--base-url", "http://127.0.0.1:1", "--upstream", "x"}, "--upstream"},
		{[]string{in, "--out", out, "--config", empty}, "empty.toml has no upstream: write a table [upstream.NAME] with a base_url"},
		{[]string{in, "--out", out, "--config", empty, "--upstream", "x"}, "empty.toml has no upstream: write a table [upstream.NAME] with a base_url"},
	} {
		code, _, stderr := drainRun(t, test.args...)
		if code != 2 || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "topsecret") {
			t.Errorf("drain %q: exit code %d, %q; want 2 and %q", test.args, code, stderr, test.want)
		}
	}
}

// Standard input that stays open does not keep the program from ending.
func TestDrainOfAnOpenPipe(t *testing.T) {
	_, url := model(t, upstream.Config{})
	in, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	dir := t.TempDir()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"gateway", "drain", "-", "--out", filepath.Join(dir, "out.jsonl"), "--dead", filepath.Join(dir, "dead.jsonl"), "--base-url", url},
			in, io.Discard, io.Discard)
	}()
	select {
	case code := <-ended:
		if code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}

// An upstream with several keys is drained with all of them.
func TestDrainWithSeveralKeys(t *testing.T) {
	var a, b, other atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Api-Key") {
		case "sk-secret-a":
			a.Add(1)
		case "sk-secret-b":
			b.Add(1)
		default:
			other.Add(1)
		}
		fmt.Fprint(w, `{"choices":[]}`)
	}))
	defer srv.Close()
	dir := t.TempDir()
	t.Setenv("FLYBALL_TEST_KEY_A", "sk-secret-a")
	t.Setenv("FLYBALL_TEST_KEY_B", "sk-secret-b")
	file := filepath.Join(dir, "limits.toml")
	text := fmt.Sprintf("[upstream.up]\nbase_url = %q\nkey_header = 'X-Api-Key'\n[[upstream.up.key]]\nenv = 'FLYBALL_TEST_KEY_A'\n[[upstream.up.key]]\nenv = 'FLYBALL_TEST_KEY_B'\n", srv.URL+"/v1")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := drainRun(t, requests(t, dir, 50), "--out", filepath.Join(dir, "out.jsonl"), "--config", file)
	if code != 0 || !strings.Contains(stderr, "50 done") || strings.Contains(stderr, "sk-secret") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	if a.Load() == 0 || b.Load() == 0 || a.Load()+b.Load() != 50 || other.Load() > 0 {
		t.Errorf("%d with one key, %d with the other, %d without; want 50 together", a.Load(), b.Load(), other.Load())
	}
}

// Who sends to an address where nobody listens is told so, once, and need not wait for a day to find out.
func TestDrainSaysThatNothingGetsThrough(t *testing.T) {
	var out bytes.Buffer
	b := &bar{w: &out}
	refused := "overloaded: connect:\n\x1b[2Jconnection refused"
	for second := range 300 {
		b.show(drain.Progress{Elapsed: time.Duration(second) * time.Second, Trouble: refused})
	}
	if got, want := out.String(), "nothing got through for 1m0s, and it is tried again; the last attempt: overloaded: connect: [2Jconnection refused\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if s := summary(drain.Progress{Throttled: 3, Trouble: refused}); !strings.Contains(s, "3 refusals (429, 503, no connection), the last: overloaded: connect: [2Jconnection refused") {
		t.Errorf("the summary is %q", s)
	}
	out.Reset()
	b = &bar{w: &out}
	for second := range 300 { // a job a second ends well, between refusals
		b.show(drain.Progress{Elapsed: time.Duration(second) * time.Second, Done: int64(second), Trouble: refused})
	}
	if out.Len() > 0 {
		t.Errorf("it says %q, although jobs end well", out.String())
	}
}

// A broker that cannot be reached is no misuse: who starts the command again, as after a run that stopped, is right to.
func TestDrainWithoutBroker(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.jsonl")
	// What stands before a broker that starts, as a container's does, takes connections, and ends them.
	starting, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer starting.Close()
	go func() {
		for {
			conn, err := starting.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	for from, want := range map[string]int{
		"amqp://u:topsecret@127.0.0.1:1/?queue=q":                       exitInternal,
		"amqp://u:topsecret@host.invalid/?queue=q":                      exitInternal,
		"kafka://127.0.0.1:1/t":                                         exitInternal,
		"amqp://u:topsecret@" + starting.Addr().String() + "/?queue=q":  exitInternal,
		"amqps://u:topsecret@" + starting.Addr().String() + "/?queue=q": exitInternal,
		"amqp://u:topsecret@127.0.0.1:1/":                               exitMisuse, // no queue
		"kafka://127.0.0.1:1/":                                          exitMisuse, // no topic
	} {
		code, _, stderr := drainRun(t, "--from", from, "--out", out, "--base-url", "http://127.0.0.1:1")
		if code != want || strings.Contains(stderr, "topsecret") || want == exitInternal && !strings.Contains(stderr, "dial") && !strings.Contains(stderr, "connecting") {
			t.Errorf("--from %s: exit code %d, want %d: %s", from, code, want, stderr)
		}
	}
}

// Standard input has no name from which that of the dead letters could be made.
func TestDrainOfStandardInputNeedsDead(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.jsonl")
	code, _, stderr := drainRun(t, "-", "--out", out, "--base-url", "http://127.0.0.1:1")
	if _, err := os.Stat(out); code != exitMisuse || !strings.Contains(stderr, "--dead") || err == nil {
		t.Errorf("exit code %d, %q; the file of results: %v", code, stderr, err)
	}
}
