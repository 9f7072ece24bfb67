//go:build unix

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A SIGHUP that comes while calls end, from what rotates keys or renews files, cuts none of them.
func TestHangupWhileCallsEnd(t *testing.T) {
	called, release := make(chan bool), make(chan bool)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		called <- true
		<-release
		_, _ = io.WriteString(w, "whole")
	}))
	defer up.Close()
	file := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(file, []byte("[upstream.up]\nbase_url = '"+up.URL+"'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
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
	r, w, err := os.Pipe() // the log is a file
	if err != nil {
		t.Fatal(err)
	}
	copied := make(chan bool)
	go func() { defer close(copied); _, _ = io.Copy(&stderr, r) }()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"gateway", "--config", file, "--listen", "127.0.0.1:0"}, strings.NewReader(""), io.Discard, w)
	}()
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
	cancel() // as SIGTERM does
	logged(`"(gateway ends)"`)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	close(release)
	if got := <-answer; got != "whole" {
		t.Errorf("the call got %q, want its answer", got)
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
	_ = w.Close()
	<-copied
	_ = r.Close()
}
