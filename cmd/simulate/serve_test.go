package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// background runs a command until stop is called, and returns its first line of output.
func background(t *testing.T, args ...string) (first string, stop func() (stderr string, code int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var errs syncBuffer
	done := make(chan int, 1)
	go func() {
		code := run(ctx, append([]string{"simulate"}, args...), strings.NewReader(""), w, &errs)
		w.Close()
		done <- code
	}()
	in := bufio.NewReader(r)
	first, err := in.ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("simulate %v: exit code %d, %s", args, <-done, errs.String())
	}
	go io.Copy(io.Discard, in)
	return strings.TrimSpace(first), func() (string, int) {
		cancel()
		select {
		case code := <-done:
			return errs.String(), code
		case <-time.After(20 * time.Second):
			t.Fatalf("simulate %v does not end", args)
			return "", 0
		}
	}
}

type syncBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed at the next Write; nil when nobody waits for it
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more != nil {
		close(s.more)
		s.more = nil
	}
	return s.b.Write(p)
}

// next returns what is written so far, and a channel that is closed when there is more.
func (s *syncBuffer) next() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more == nil {
		s.more = make(chan struct{})
	}
	return s.b.String(), s.more
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestServe(t *testing.T) {
	url, stop := background(t, "serve", "--listen", "127.0.0.1:0", "--output", "5", "--key", "a", "--key", "b", "charged-quota")
	post := func(key string) (int, string) {
		req, _ := http.NewRequest("POST", url+"/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true,"messages":[]}`))
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := post("a"); code != 200 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := post("c"); code != 401 {
		t.Errorf("an unknown key: %d", code)
	}
	errs, code := stop()
	if code != exitOK || !strings.Contains(errs, "1 calls with 1 keys: 1 served, 0 refused") || !strings.Contains(errs, "1 requests were none") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

// A client that does not read its stream does not keep the server from ending.
func TestServeEndsWithAStalledClient(t *testing.T) {
	url, stop := background(t, "serve", "--listen", "127.0.0.1:0", "--output", "200000", "server-queue")
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"model":"m","stream":true,"messages":[]}`
	fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	// The answer has begun; nobody reads the other 40 MB, which no buffer on the way holds.
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestServeMisuse(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"serve a b", "must be one scenario or none"},
		{"serve nowhere", "no built-in scenario"},
		{"serve --dialect klingon", "--dialect is"},
		{"serve --output 0", "--output is 0"},
		{"serve --listen nowhere:x", "--listen:"},
		{"serve --key a --key a --listen 127.0.0.1:0", "given twice"},
	} {
		_, errs, code := simulate(t.Context(), "", strings.Fields(c.args)...)
		if code != exitMisuse || !strings.Contains(errs, c.want) {
			t.Errorf("simulate %s: exit code %d, %q, want %q", c.args, code, errs, c.want)
		}
	}
}
