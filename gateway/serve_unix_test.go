//go:build unix

package main

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/early"
)

// A test that needs a process of its own runs this one again.
func TestMain(m *testing.M) {
	if os.Getenv("FLYBALL_TEST_GATEWAY") != "" {
		main()
	}
	early.End() // what a server says while tests run is seen
	os.Exit(m.Run())
}

// start starts the gateway as a process of its own, which has its signals to itself.
func start(t *testing.T, stderr io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "FLYBALL_TEST_GATEWAY=1"), stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// A package that has something to say before the program begins, as that of the metrics has where the kernel keeps no figures of pressure, says it
// to nobody who reads the output of a command, and not between the log's lines of JSON.
func TestNobodyElseWrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, []byte("[upstream.up]\nbase_url = 'http://127.0.0.1:1'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	if err := start(t, &stderr, "check", file).Wait(); err != nil || stderr.String() != "" {
		t.Errorf("check ends with %v and says %q", err, stderr.String())
	}
}

// Whoever reads the log may go away, as a collector does that is started again. What cannot be written then is counted, as on a full disk, and calls
// go on.
func TestLogWithoutReader(t *testing.T) {
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, []byte("[upstream.up]\nbase_url = 'http://127.0.0.1:1'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--config", file, "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "FLYBALL_TEST_GATEWAY=1")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	addr := ""
	for r := bufio.NewScanner(log); addr == "" && r.Scan(); {
		if m := regexp.MustCompile(`"gateway started","listen":"([^"]+)"`).FindStringSubmatch(r.Text()); m != nil {
			addr = m[1]
		}
	}
	_ = log.Close()
	get := func(path string) string {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	lost := false
	for range 1000 {
		get("/x") // a call, which is in the log a moment later
		if lost = !strings.Contains(get("/metrics"), "flyball_gateway_log_lines_lost_total 0\n"); lost {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !lost {
		t.Error("no line was lost")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway ends with %v", err)
	}
}

// A command whose standard error has no reader any more ends with its own exit code, which is what a supervisor goes by.
func TestExitCodeWithoutReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		_ = r.Close()
		rw.WriteHeader(401)
	}))
	defer up.Close()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "drain", requests(t, dir, 1), "--out", filepath.Join(dir, "out.jsonl"), "--base-url", up.URL)
	cmd.Env, cmd.Stderr = append(os.Environ(), "FLYBALL_TEST_GATEWAY=1"), w
	_ = cmd.Run()
	_ = w.Close()
	if code := cmd.ProcessState.ExitCode(); code != exitInternal {
		t.Errorf("it ends with %v, want exit code %d", cmd.ProcessState, exitInternal)
	}
}

// holding is an upstream that says when it has a call, and answers it when release is closed.
func holding(t *testing.T, answer string) (up *httptest.Server, called <-chan bool, release chan bool) {
	calls, release := make(chan bool), make(chan bool)
	up = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		calls <- true
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(up.Close)
	return up, calls, release
}

// A terminal that is closed ends a run as Ctrl-C does: calls in flight end, and their answers are there.
func TestDrainWhoseTerminalIsClosed(t *testing.T) {
	up, called, release := holding(t, `{"object":"chat.completion","choices":[]}`)
	dir := t.TempDir()
	out := filepath.Join(dir, "out.jsonl")
	var stderr lines
	cmd := start(t, &stderr, "drain", requests(t, dir, 1), "--out", out, "--base-url", up.URL)
	<-called
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	close(release)
	_ = cmd.Wait()
	if b, _ := os.ReadFile(out); !strings.Contains(string(b), "chat.completion") {
		t.Errorf("the results are %q: %s", b, stderr.String())
	}
}

// A signal that comes twice, as from timeout(1), lets calls in flight end, which are paid for; one that comes later ends the process at once.
func TestDrainWhoseSignalComesTwice(t *testing.T) {
	for _, later := range []bool{false, true} {
		up, called, release := holding(t, `{"object":"chat.completion","choices":[]}`)
		dir := t.TempDir()
		out := filepath.Join(dir, "out.jsonl")
		var stderr lines
		cmd := start(t, &stderr, "drain", requests(t, dir, 1), "--out", out, "--base-url", up.URL)
		<-called
		pause := 100 * time.Millisecond // for the process to take notice of the first one
		if later {
			pause = 1500 * time.Millisecond
		}
		for range 2 {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause)
		}
		close(release)
		_ = cmd.Wait()
		if b, _ := os.ReadFile(out); strings.Contains(string(b), "chat.completion") == later {
			t.Errorf("with %v between the signals, it ends with %v, and the results are %q: %s", pause, cmd.ProcessState, b, stderr.String())
		}
	}
}

// A SIGHUP that comes while calls end, from what rotates keys or renews files, cuts none of them.
func TestHangupWhileCallsEnd(t *testing.T) {
	up, called, release := holding(t, `{"whole":true}`)
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, []byte("[upstream.up]\nbase_url = '"+up.URL+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr lines
	logged := func(pattern string) string {
		for range 2000 {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(stderr.String()); m != nil {
				return m[1]
			}
			time.Sleep(5 * time.Millisecond) // the log is written a moment later
		}
		t.Fatalf("the log does not say %s: %s", pattern, stderr.String())
		return ""
	}
	cmd := start(t, &stderr, "--config", file, "--listen", "127.0.0.1:0")
	addr := logged(`"gateway started","listen":"([^"]+)"`)
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Post("http://"+addr+"/x", "text/plain", strings.NewReader("hello"))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-called
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	logged(`"(gateway ends)"`)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	close(release)
	if got := <-answer; got != `{"whole":true}` {
		t.Errorf("the call got %q, want its answer", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the gateway ends with %v", err)
	}
}
