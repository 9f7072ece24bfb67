package proxy

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// two is a file of two upstreams, the first with a limit.
func two(limit int) string {
	return fmt.Sprintf("[upstream.a]\nbase_url='http://127.0.0.1:1'\nmax_limit=%d\n[upstream.b]\nbase_url='http://127.0.0.1:1'\n", limit)
}

// proxyOf returns a proxy for a file, and what reads other versions of it.
func proxyOf(t *testing.T, text string) (*Proxy, func(text string) *settings.Settings) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "limits.toml")
	parse := func(text string) *settings.Settings {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := settings.Parse(file, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := parse(text)
	limits, err := config.NewReloaderFunc(file, func(name string, data []byte) (*config.File, error) {
		n, err := settings.Parse(name, data)
		if err != nil {
			return nil, err
		}
		return n.Limits, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(s, Config{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, parse
}

// A model keeps its class in a reload, as the guard keeps what it has learned of the class, also when calls of other models come first
// afterwards and when the upstream was gone for a while.
func TestClassesStay(t *testing.T) {
	p, parse := proxyOf(t, two(10))
	class := func(upstream, model string) uint8 { return p.table.Load().upstreams[upstream].classes.of(model) }
	small, large := class("a", "small"), class("a", "large")
	for _, text := range []string{two(20), "[upstream.b]\nbase_url='http://127.0.0.1:1'\n", two(20)} {
		if err := p.Use(parse(text)); err != nil {
			t.Fatal(err)
		}
	}
	if l, s := class("a", "large"), class("a", "small"); l != large || s != small || small == large {
		t.Errorf("after reloads the classes of small and large are %d and %d, were %d and %d", s, l, small, large)
	}
	if b := class("b", "other"); b != 1 {
		t.Errorf("the first model of another upstream has the class %d, want 1", b)
	}
}

// Names of models that the upstream does not have use up no classes: a model that it has gets one of its own, however many others were asked for.
func TestClassesOfFalseNames(t *testing.T) {
	has := map[string]bool{}
	var class uint8
	to := target{upstream: &upstream{base: &url.URL{Scheme: "http", Host: "h"}, learned: &learned{}, sender: sender(func(req *http.Request) (*http.Response, error) {
		class = turnOf(req.Context()).request.Class
		status := http.StatusNotFound
		if has[req.Header.Get("Model")] {
			status = http.StatusOK
		}
		return &http.Response{StatusCode: status, Body: http.NoBody}, nil
	})}}
	classOf := func(model string) uint8 {
		j := &job{
			t: &table{}, r: &http.Request{Method: "POST", Header: http.Header{"Model": {model}}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
			route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{to}}, began: time.Now(), until: time.Now().Add(time.Hour),
		}
		j.facts.Model = model
		_, turn, err := j.targets(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		turn.end()
		return class
	}
	for i := range 20 {
		classOf(fmt.Sprint("false", i))
	}
	if c := classOf(strings.Repeat("long", 1000)); c != lastClass {
		t.Errorf("a name that is too long has the class %d, want %d", c, lastClass)
	}
	classOf("") // of none
	seen := map[uint8]string{}
	for i := range lastClass - 1 {
		model := fmt.Sprint("model", i)
		has[model] = true
		for range 2 {
			for i := range 20 {
				classOf(fmt.Sprint("false", i))
			}
			class := classOf(model)
			if other := seen[class]; class == 0 || class == lastClass || other != "" && other != model {
				t.Errorf("%s has the class %d, which is that of %q", model, class, other)
			}
			seen[class] = model
		}
	}
	if len(seen) != lastClass-1 {
		t.Errorf("the classes are %v, want %d", seen, lastClass-1)
	}
	if c := classOf("more"); c != lastClass {
		t.Errorf("a model for which there is no class has %d, want %d", c, lastClass)
	}
}

// What calls to an upstream are sent with stays while its limit does, and goes with the limit and with the upstream.
func TestTransports(t *testing.T) {
	p, parse := proxyOf(t, two(10))
	a, b := p.transports["a"].Transport, p.transports["b"].Transport
	for i := range 5 {
		if err := p.Use(parse(two(20 + i))); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.transports) != 2 || p.transports["a"].Transport == a || p.transports["b"].Transport != b {
		t.Errorf("after five limits of one upstream: %v, before: %p and %p", p.transports, a, b)
	}
	if err := p.Use(parse("[upstream.b]\nbase_url='http://127.0.0.1:1'\n")); err != nil {
		t.Fatal(err)
	}
	if len(p.transports) != 1 || p.transports["b"].Transport != b {
		t.Errorf("after an upstream has gone: %v", p.transports)
	}
}

// Google's hosts take keys in the query, however the upstream is called and whichever field its keys go into.
func TestIsGoogle(t *testing.T) {
	for _, c := range []struct {
		host, provider, header string
		want                   bool
	}{
		{"generativelanguage.googleapis.com", "openai", "Authorization", true},
		{"GenerativeLanguage.GoogleAPIs.com", "", "Authorization", true},
		{"proxy.example", "gemini", "Authorization", true},
		{"proxy.example", "", "x-goog-api-key", true},
		{"api.openai.com", "openai", "Authorization", false},
		{"evil-googleapis.com", "", "Authorization", false},
	} {
		u := config.Upstream{Keys: config.Keys{Header: c.header}}
		u.Provider = c.provider
		if got := isGoogle(u, c.host); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A model that the path or the query names has a class of its own, as one that the body names, and is in the record.
func TestModelOutsideTheBody(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer up.Close()
	for _, c := range []struct{ path, body, want string }{
		{"/a/v1beta/models/gemini:generateContent", `{"contents":[]}`, "gemini"},
		{"/a/openai/deployments/own/chat/completions", `{"model":"m"}`, "own"},
		{"/a/v1/realtime?model=heard", "", "heard"},
		{"/a/v1/chat/completions?model=not-the-body's", `{"model":"m"}`, "m"},
		{"/a/v1/models/m", "", ""},
	} {
		p, _ := proxyOf(t, "[upstream.a]\nbase_url='"+up.URL+"'\n")
		var rec *Record
		p.cfg.OnCall = func(r *Record) { rec = r }
		r := httptest.NewRequest("POST", c.path, strings.NewReader(c.body))
		r.Header.Set("Content-Type", "application/json")
		p.ServeHTTP(httptest.NewRecorder(), r)
		known := p.table.Load().upstreams["a"].classes.known
		if rec.Status != 200 || rec.Model != c.want || (c.want != "") != (known[c.want].n == 1) {
			t.Errorf("%s: status %d, the record has %q and the classes are %v, want %q", c.path, rec.Status, rec.Model, known, c.want)
		}
	}
}
