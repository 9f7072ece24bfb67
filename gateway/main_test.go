package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// lines is a buffer that a program writes to while a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The first minute: no file, no account.
func TestServesADemonstration(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var stdout, stderr lines
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"gateway", "--listen", "127.0.0.1:0"}, strings.NewReader(""), &stdout, &stderr)
	}()
	var addr string
	for range 500 {
		if m := regexp.MustCompile(`curl http://([0-9.:]+)/`).FindStringSubmatch(stdout.String()); m != nil {
			addr = m[1]
			break
		}
		time.Sleep(10 * time.Millisecond) // a real process boundary: there is nothing to wait on
	}
	if addr == "" {
		t.Fatalf("the gateway says %q %q", stdout.String(), stderr.String())
	}
	resp, err := http.Post("http://"+addr+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"demo","messages":[{"role":"user","content":"hello"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !strings.Contains(string(body), `"choices"`) {
		t.Errorf("%s: %s", resp.Status, body)
	}
	cancel()
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d: %s", c, stderr.String())
	}
}

func TestMisuse(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "limits.toml")
	if err := os.WriteFile(bad, []byte("[gateway]\nlisen = '127.0.0.1:0'\n[[gateway.route]]\npath = '/a'\nupstream = 'opneai'\n[upstream.openai]\nbase_url = 'http://x/v1'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"gateway serve", []string{`there is no command "serve"`}},
		{"gateway limits.toml", []string{`there is no command "limits.toml"`, "gateway --config limits.toml"}},
		{"gateway --port 3", []string{"see gateway --help"}},
		{"gateway check --config " + bad, []string{"see gateway check --help"}},
		{"gateway --config " + dir + "/none.toml", []string{"none.toml cannot be read"}},
		{"gateway --config " + bad, []string{"limits.toml:2:1: gateway.lisen is unknown", "did you mean listen?", `limits.toml:5:1: gateway.route[0].upstream is "opneai"`, `did you mean "openai"?`}},
		{"gateway check " + bad, []string{"limits.toml:2:1: gateway.lisen is unknown"}},
		{"gateway batches --dir " + dir + " --base-url http://127.0.0.1:1 --grace -1s", []string{"--grace is -1s"}},
		{"gateway batches --dir " + dir + " --base-url http://127.0.0.1:1 --timeout 0s", []string{"--timeout is 0s"}},
		{"gateway key", []string{"give the caller's name"}},
		{"gateway key " + strings.Repeat("a", 65), []string{"gateway.caller[0].name", "1 to 64"}},
		{"gateway key a\ab", []string{"the table:2"}},
		{"gateway key \xff", []string{"UTF-8"}},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), strings.Fields(c.args), strings.NewReader(""), &stdout, &stderr); code != exitMisuse {
			t.Errorf("%s: exit code %d, want %d", c.args, code, exitMisuse)
		}
		for _, want := range c.want {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%s says %q, which lacks %q", c.args, stderr.String(), want)
			}
		}
	}
}

func TestKeyFitsTheFile(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"gateway", "key", "dify"}, strings.NewReader(""), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, append(stdout.Bytes(), "[gateway.tenant.Dify]\nmax_in_flight = 1\n[upstream.a]\nbase_url = 'http://x/v1'\n[upstream.b]\nbase_url = 'http://y'\n"+
		"[[gateway.route]]\npath = '/a'\nupstream = 'a'\nfallback = [{ upstream = 'b', model = 'm' }]\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout.Reset()
	if code := run(context.Background(), []string{"gateway", "check", file}, strings.NewReader(""), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "/a/ -> http://x/v1/ (a, 0 keys), else http://y/ (b m)\n") {
		t.Errorf("exit code %d: %s %s", code, stdout.String(), stderr.String())
	}
	if !strings.Contains(stderr.String(), "gateway.route[0].fallback[0]: the base_url of a ends in /v1") {
		t.Errorf("check does not say that a fallback has no version: %q", stderr.String())
	}
	if !strings.Contains(stderr.String(), "gateway.tenant.Dify: no caller belongs to the tenant") {
		t.Errorf("check does not say that a limit holds for no call: %q", stderr.String())
	}
}

// check says which models go where, and what would get a 404.
func TestCheckSaysWhereModelsGo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, []byte("[upstream.a]\nbase_url = 'http://x/v1'\n[upstream.b]\nbase_url = 'http://x/v1'\n"+
		"[[gateway.route]]\npath = '/a'\nmodels = ['m', 'm-*']\nupstream = 'b'\n[[gateway.route]]\npath = '/c'\nmodels = ['*']\nupstream = 'b'\n[[gateway.route]]\npath = '/a'\nupstream = 'a'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	const want = "http://127.0.0.1:8080/a/ for m, m-* -> http://x/v1/ (b, 0 keys)\nhttp://127.0.0.1:8080/a/ -> http://x/v1/ (a, 0 keys)\nhttp://127.0.0.1:8080/c/ for * -> http://x/v1/ (b, 0 keys)\n"
	if code := run(t.Context(), []string{"gateway", "check", file}, strings.NewReader(""), &stdout, &stderr); code != exitOK || stdout.String() != want {
		t.Errorf("exit code %d, check says\n%s, want\n%s", code, stdout.String(), want)
	}
	if got := stderr.String(); got != "gateway.route[1]: no route of /c/ is without models, so calls of other models, and those that name none, get a 404 there\n" {
		t.Errorf("check says %q of calls that have no route", got)
	}
}

// A key that no caller can send as it is would keep its caller out: fields of a header have no spaces at their ends, and no line ends.
func TestKeyThatCannotBeSent(t *testing.T) {
	key := strings.Repeat("k", 40)
	for stdin, want := range map[string]int{key: exitOK, key + "\r\n": exitOK, key + " \n": exitMisuse, "\t" + key: exitMisuse, key + "\u00e4": exitMisuse, key[:31]: exitMisuse} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"gateway", "key", "--stdin", "dify"}, strings.NewReader(stdin), &stdout, &stderr); code != want {
			t.Errorf("the key %q: exit code %d, want %d: %s", stdin, code, want, stderr.String())
		} else if strings.Contains(stderr.String(), key[:31]) {
			t.Errorf("the key is in what is printed: %s", stderr.String())
		}
	}
}

// The addresses that check names are those that callers have to write.
func TestCheckNamesTheScheme(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.toml")
	text := "[upstream.a]\nbase_url = 'http://x/v1'\n[gateway.tls]\ncert = '/c'\nkey = '/k'\n[gateway.batches]\ndir = '/d'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"gateway", "check", file}, strings.NewReader(""), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	for line := range strings.Lines(stdout.String()) {
		if !strings.HasPrefix(line, "https://127.0.0.1:8080/") {
			t.Errorf("check says %q, and callers are to use TLS", line)
		}
	}
	if !strings.Contains(stderr.String(), "gateway.tls: open /c") {
		t.Errorf("check does not say that there is no certificate: %q", stderr.String())
	}
}

// A file may be right where its keys are not: check says so, and which.
func TestCheckNamesKeysThatAreNotThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, []byte("[upstream.a]\nbase_url = 'http://x/v1'\nkey = [{ env = 'FLYBALL_NOT_SET' }]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, set := range []bool{false, true} {
		want := "upstream a: config: the environment variable FLYBALL_NOT_SET is not set"
		if set {
			t.Setenv("FLYBALL_NOT_SET", "sk-verysecret")
			want = ""
		}
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"gateway", "check", file}, strings.NewReader(""), &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "(a, 1 key)") {
			t.Errorf("set: %v: exit code %d: %s", set, code, stdout.String())
		}
		if got := stderr.String(); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("set: %v: check says %q, want %q", set, got, want)
		}
	}
}

// Without a token, the Batch API is for those who call this machine by its own name.
func TestBatchesOwnName(t *testing.T) {
	for _, c := range []struct {
		host  string
		token bool
		want  int
	}{{"evil.example:8090", false, 421}, {"evil.example:8090", true, 200}, {"127.0.0.1:8090", false, 200}, {"localhost", false, 200}} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/v1/batches", nil)
		r.Host = c.host
		ownName(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), c.token).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s, token %v: status %d, want %d", c.host, c.token, w.Code, c.want)
		}
	}
}

// full is a disk that is full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// What is asked for and cannot be written is no success: a table in limits.toml, say, that is not there.
func TestOutputThatCannotBeWritten(t *testing.T) {
	for _, args := range [][]string{{"key", "dify"}, {"check", "../limits.toml"}} {
		var stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"gateway"}, args...), strings.NewReader(""), full{}, &stderr); code != exitInternal || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("gateway %v ends with %d and %q, want %d and what went wrong", args, code, stderr.String(), exitInternal)
		}
	}
}

// Calls of a batch that do not end have --grace to, and no more, also when it is the terminal that was closed.
func TestBatchesGrace(t *testing.T) {
	testBatchesGrace(t, func(cancel func()) error { cancel(); return nil })
	if runtime.GOOS == "windows" || signal.Ignored(syscall.SIGHUP) { // as nohup has it
		return
	}
	testBatchesGrace(t, func(func()) error {
		this, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		return this.Signal(syscall.SIGHUP)
	})
}

func testBatchesGrace(t *testing.T, end func(cancel func()) error) {
	t.Helper()
	called := make(chan bool, 1)
	up := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		called <- true
		<-r.Context().Done()
	}))
	defer up.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdout, w := io.Pipe()
	var stderr lines
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"gateway", "batches", "--dir", t.TempDir(), "--listen", "127.0.0.1:0", "--base-url", up.URL + "/v1", "--grace", "10ms"}, strings.NewReader(""), w, &stderr)
		_ = w.CloseWithError(errors.New(stderr.String()))
	}()
	var base string
	if _, err := fmt.Fscanln(stdout, &base); err != nil {
		t.Fatal(err)
	}
	base = strings.TrimSuffix(base, "/batches")
	send := func(path, kind, body string) (made struct{ ID string }) {
		t.Helper()
		resp, err := http.Post(base+path, kind, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || made.ID == "" {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		return made
	}
	file := send("/files", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"+
		"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{\"custom_id\":\"a\",\"url\":\"/v1/x\",\"body\":{}}\n\r\n--x--\r\n")
	send("/batches", "application/json", fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/x","completion_window":"24h"}`, file.ID))
	<-called
	if err := end(cancel); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-code:
		if c != exitOK {
			t.Errorf("exit code %d: %s", c, stderr.String())
		}
	case <-time.After(15 * time.Second):
		t.Fatal("it waits for longer than --grace says")
	}
}
