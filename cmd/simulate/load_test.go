package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// simulate runs a command line and returns what it printed and its exit code.
func simulate(ctx context.Context, stdin string, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(ctx, append([]string{"simulate"}, args...), strings.NewReader(stdin), &out, &errs)
	return out.String(), errs.String(), code
}

// load sends what it is told to, each controller in turn, and reports like a simulation. No header field, user or query is in the report.
func TestLoad(t *testing.T) {
	var in, calls atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		defer in.Add(-1)
		if r.Header.Get("Authorization") != "Bearer secret-1" || r.Method != "POST" || r.Host != "upstream.invalid" {
			t.Errorf("%s %s %v", r.Method, r.Host, r.Header)
		}
		if in.Add(1) > 2 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}))
	defer web.Close()
	dir := t.TempDir()
	page, body := filepath.Join(dir, "r.html"), filepath.Join(dir, "b.json")
	if err := os.WriteFile(body, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, errs, code := simulate(t.Context(), "", "load", "--rate", "200", "--duration", "500ms", "--drain", "3s", "--rest", "10ms",
		"--controllers", "none,sdk-default,fixed-2", "--header", "Authorization: Bearer secret-1", "--header", "host: upstream.invalid", "--body", body, "--html", page, strings.Replace(web.URL, "//", "//secret-1@", 1)+"/x?key=secret-1")
	if code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"none", "sdk-default", "fixed-2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	html, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(html), "load --controllers") {
		t.Errorf("the report: %d bytes, %v", len(html), err)
	}
	if strings.Contains(out+errs+string(html), "secret-1") {
		t.Error("a header field, a user or a query is in the output")
	}
	if !strings.Contains(errs, "fixed-2: statuses map[200:") || calls.Load() < 250 {
		t.Errorf("%d calls\n%s", calls.Load(), errs)
	}
}

func TestLoadMisuse(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"load", "must be one URL"},
		{"load --rate 5 nowhere?key=secret-2", "is no URL"},
		{"load http://127.0.0.1:1/", "add --rate 10"},
		{"load --rate 5 --header secret-2 http://127.0.0.1:1/", "--header has no name"},
		{"load --rate 5 --body /nowhere/x http://127.0.0.1:1/", "--body:"},
		{"load --rate 5 --controllers our http://127.0.0.1:1/", "no controller"},
		{"load --rate 5 --upstream x http://127.0.0.1:1/", "no [upstream.x]"},
		{"load --rat 5 http://127.0.0.1:1/", "see simulate load --help"},
	} {
		out, errs, code := simulate(t.Context(), "", strings.Fields(c.args)...)
		if code != exitMisuse || !strings.Contains(errs, c.want) || out != "" || strings.Contains(errs, "secret-2") {
			t.Errorf("simulate %s: exit code %d, %q, want %q", c.args, code, errs, c.want)
		}
	}
}

// A server that is not there is told at once, and nothing is sent for as long as a run takes.
func TestLoadWithoutAServer(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	closed := web.URL
	web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, errs, code := simulate(ctx, "", "load", "--rate", "5", "--duration", "2m", "--html", "", closed)
	if code != exitMisuse || out != "" || !strings.Contains(errs, "no server takes connections for "+closed) || !strings.Contains(errs, "connection refused") {
		t.Errorf("exit code %d, %q%q", code, out, errs)
	}
}

func TestLoadInterrupted(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	out, errs, code := simulate(ctx, "", "load", "--rate", "50", "--duration", "300ms", "--rest", "10s", "--html", "", web.URL)
	if code != exitInterrupted || !strings.Contains(errs, "interrupted after 1 of 2 controllers") || !strings.Contains(out, "none") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}
