package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	embed      = `{"model":"e","input":"hello"}`
	cold       = `{"model":"m","temperature":0,"messages":[{"role":"user","content":"hi"}]}`
	coldStream = `{"model":"m","temperature":0,"stream":true,"messages":[{"role":"user","content":"hi"}]}`
	embedded   = `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"usage":{"prompt_tokens":1,"total_tokens":1}}`
)

// toolCall is a request at the temperature 0 with a tool of a type.
func toolCall(typ string) string {
	return `{"model":"m","temperature":0,"tools":[{"type":"` + typ + `","name":"t"}],"messages":[{"role":"user","content":"hi"}]}`
}

// Which requests are answered from the cache, and which are told apart.
func TestCache(t *testing.T) {
	checkGoroutines(t)
	var calls atomic.Int32
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		w.Header().Set("X-Call", fmt.Sprint(n))
		w.Header().Set("X-Ratelimit-Remaining-Requests", "3")
		if strings.HasSuffix(r.URL.Path, "/embeddings") {
			_, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				_, _ = io.WriteString(z, embedded)
				_ = z.Close()
				return
			}
			_, _ = io.WriteString(w, embedded)
			return
		}
		ok(w, r)
	})
	const routes = "[[gateway.route]]\npath='/'\nupstream='up'\n[[gateway.route]]\npath='/asked'\nupstream='up'\ncache='asked'\n[[gateway.route]]\npath='/off'\nupstream='up'\ncache='off'\n"
	g := start(t, table(s, "")+routes)
	for _, c := range []struct {
		name          string
		path1, body1  string
		header1       []string
		path2, body2  string
		header2       []string
		first, second string
	}{
		{"embeddings", "/embeddings", embed, nil, "/embeddings", embed, nil, "miss", "hit"},
		{"space and order", "/embeddings", embed, nil, "/embeddings", "{ \"input\" : \"hello\",\n\"model\":\"e\" }", nil, "miss", "hit"},
		{"another input", "/embeddings", embed, nil, "/embeddings", `{"model":"e","input":"hello "}`, nil, "miss", "miss"},
		{"a number written otherwise", "/embeddings", `{"model":"e","input":"x","d":1}`, nil, "/embeddings", `{"model":"e","input":"x","d":1.0}`, nil, "miss", "miss"},
		{"a key twice", "/embeddings", `{"model":"e","input":"x","input":"y"}`, nil, "/embeddings", `{"model":"e","input":"x","input":"y"}`, nil, "", ""},
		{"temperature 0", "/chat/completions", cold, nil, "/chat/completions", cold, nil, "miss", "hit"},
		{"a stream", "/chat/completions", coldStream, nil, "/chat/completions", coldStream, nil, "miss", "hit"},
		{"a stream is not the answer", "/chat/completions", cold, nil, "/chat/completions", coldStream, nil, "miss", "miss"},
		{"no temperature", "/chat/completions", chat, nil, "/chat/completions", chat, nil, "", ""},
		{"a tool of the caller's", "/chat/completions", toolCall("function"), nil, "/chat/completions", toolCall("function"), nil, "miss", "hit"},
		{"what the upstream looks up", "/messages", toolCall("web_search_20250305"), nil, "/messages", toolCall("web_search_20250305"), nil, "", ""},
		{"what the upstream looks up, asked for", "/messages", toolCall("web_search_20250305"), []string{"X-Flyball-Cache", "on"}, "/messages", toolCall("web_search_20250305"), []string{"X-Flyball-Cache", "on"}, "miss", "hit"},
		{"asked for", "/chat/completions", chat, []string{"X-Flyball-Cache", "on"}, "/chat/completions", chat, []string{"X-Flyball-Cache", "on"}, "miss", "hit"},
		{"not asked for", "/asked/embeddings", embed, nil, "/asked/embeddings", embed, nil, "", ""},
		{"off", "/off/embeddings", embed, nil, "/off/embeddings", embed, []string{"X-Flyball-Cache", "on"}, "", "bypass"},
		{"off by the caller", "/embeddings", embed, []string{"X-Flyball-Cache", "off"}, "/embeddings", embed, nil, "bypass", "miss"},
		{"no-store", "/embeddings", embed, []string{"Cache-Control", "no-store"}, "/embeddings", embed, nil, "bypass", "miss"},
		{"no-cache takes none", "/embeddings", embed, nil, "/embeddings", embed, []string{"Cache-Control", "no-cache"}, "miss", "miss"},
		{"no-cache is kept", "/embeddings", embed, []string{"Cache-Control", "no-cache"}, "/embeddings", embed, nil, "miss", "hit"},
		{"max-age", "/embeddings", embed, nil, "/embeddings", embed, []string{"Cache-Control", "max-age=0"}, "miss", "miss"},
		{"max-age that will do", "/embeddings", embed, nil, "/embeddings", embed, []string{"Cache-Control", "max-age=60"}, "miss", "hit"},
		{"another tenant", "/embeddings", embed, []string{"X-Flyball-Tenant", "a"}, "/embeddings", embed, []string{"X-Flyball-Tenant", "b"}, "miss", "miss"},
		{"another key", "/embeddings", embed, []string{"Authorization", "Bearer a"}, "/embeddings", embed, []string{"Authorization", "Bearer b"}, "miss", "miss"},
		{"another SDK", "/embeddings", embed, []string{"User-Agent", "a", "X-Stainless-Retry-Count", "1"}, "/embeddings", embed, []string{"User-Agent", "b"}, "miss", "hit"},
		{"another trace", "/embeddings", embed, []string{"X-Amzn-Trace-Id", "Root=1-1", "x-b3-traceid", "1", "X-Ms-Client-Request-Id", "1"}, "/embeddings", embed, []string{"X-Amzn-Trace-Id", "Root=1-2", "sentry-trace", "2"}, "miss", "hit"},
		{"a field that is not known", "/embeddings", embed, []string{"X-Odd", "a"}, "/embeddings", embed, nil, "miss", "miss"},
		{"packed", "/embeddings", embed, []string{"Accept-Encoding", "gzip"}, "/embeddings", embed, []string{"Accept-Encoding", "gzip"}, "miss", "hit"},
		{"packed or not", "/embeddings", embed, []string{"Accept-Encoding", "gzip"}, "/embeddings", embed, nil, "miss", "miss"},
		{"responses keep state", "/responses", cold, nil, "/responses", cold, nil, "", ""},
		{"kept by the upstream", "/chat/completions", `{"temperature":0,"store":true}`, nil, "/chat/completions", `{"temperature":0,"store":true}`, nil, "", ""},
		{"another query", "/embeddings?a=1", embed, nil, "/embeddings?a=2", embed, nil, "miss", "miss"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g.cache.Forget()
			do := func(path, body string, header []string) (string, string, []byte) {
				resp := post(t, client(t), g.url+path, body, header...)
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s %v", resp.Status, err)
				}
				if resp.Header.Get("X-Flyball-Cache") == "hit" && (resp.Header.Get("Age") == "" || resp.Header.Get("X-Ratelimit-Remaining-Requests") != "") {
					t.Errorf("a hit has %v", resp.Header)
				}
				return resp.Header.Get("X-Flyball-Cache"), resp.Header.Get("X-Call"), b
			}
			how1, call1, b1 := do(c.path1, c.body1, c.header1)
			how2, call2, b2 := do(c.path2, c.body2, c.header2)
			if how1 != c.first || how2 != c.second {
				t.Errorf("%q, then %q, want %q and %q", how1, how2, c.first, c.second)
			}
			if (call1 == call2) != (c.second == "hit") {
				t.Errorf("upstream calls %s and %s", call1, call2)
			}
			if c.second == "hit" && !bytes.Equal(b1, b2) {
				t.Errorf("%q, then %q", b1, b2)
			}
		})
	}
	// Who wants nothing but what is there never pays for a call, also where the cache has nothing to do with it.
	for _, c := range [][]string{
		{"/embeddings", `{"input":"never"}`, "Cache-Control", "only-if-cached"},
		{"/embeddings", `{"input":"never"}`, "Cache-Control", "max-age=5, Only-If-Cached", "X-Flyball-Cache", "off"},
		{"/embeddings", `{"input":"never"}`, "Cache-Control", "no-store, only-if-cached"},
		{"/chat/completions", chat, "Cache-Control", "only-if-cached"},
		{"/off/embeddings", embed, "Cache-Control", "only-if-cached"},
	} {
		before := calls.Load()
		resp := post(t, client(t), g.url+c[0], c[1], c[2:]...)
		if _ = read(t, resp); resp.StatusCode != 504 || calls.Load() != before {
			t.Errorf("%q: %s after %d calls, want 504 after none", c, resp.Status, calls.Load()-before)
		}
	}
	g.idle()
}

// Errors, and answers that are not whole, are not kept.
func TestCacheKeepsNoErrors(t *testing.T) {
	checkGoroutines(t)
	var calls atomic.Int32
	answers := map[string]func(w http.ResponseWriter){
		"status": func(w http.ResponseWriter) { w.WriteHeader(500); _, _ = io.WriteString(w, embedded) },
		"inside": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"error":{"message":"overloaded","code":"server_is_overloaded"}}`)
		},
		"cut": func(w http.ResponseWriter) { _, _ = io.WriteString(w, embedded[:40]) },
		"no done": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n")
		},
		"late error": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"overloaded\",\"code\":\"server_is_overloaded\"}}\n\ndata: [DONE]\n\n")
		},
		"broken off": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason": "insufficient_system_resource"}]}`)
		},
		"a stream broken off": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"error\"}]}\n\ndata: [DONE]\n\n")
		},
		"broken": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, embedded)
		},
		"no-store": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(w, embedded)
		},
		"no-store by itself": func(w http.ResponseWriter) { // as a proxy in between adds it
			w.Header().Add("Cache-Control", "max-age=60")
			w.Header().Add("Cache-Control", "no-store")
			_, _ = io.WriteString(w, embedded)
		},
		"large": func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"data":"`+strings.Repeat("x", 5000)+`"}`) },
		"unreadable": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, embedded)
		},
	}
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		answers[r.Header.Get("X-Do")](w)
	})
	g := start(t, table(s, "[upstream.up.retry]\nmax_attempts=1")+"[gateway.cache]\nmax_entry=4096\n")
	for name := range answers {
		calls.Store(0)
		for range 2 {
			resp, err := tryPost(context.Background(), client(t), g.url+"/embeddings", embed, "X-Do", name)
			if err != nil {
				continue // broken
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if how := resp.Header.Get("X-Flyball-Cache"); how != "miss" {
				t.Errorf("%s: %q", name, how)
			}
		}
		if calls.Load() != 2 {
			t.Errorf("%s: %d calls, want 2", name, calls.Load())
		}
	}
	if n := g.cache.Counts(); n.Entries != 0 {
		t.Errorf("%+v", n)
	}
	g.idle()
}

// What a fallback answers while the upstream is full is not kept: the upstream would answer otherwise. An answer from the cache tells where it
// is from, as any other.
func TestCacheKeepsNoFallbacks(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	answers := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, embedded)
	}
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/hold") {
			<-release
		}
		answers(w, r)
	})
	other := upstreamServer(t, answers)
	g := start(t, table(s, one)+fmt.Sprintf("[upstream.other]\nbase_url=%q\n[[gateway.route]]\npath='/'\nupstream='up'\nfallback_after='20ms'\nfallback=[{upstream='other'}]\n", other.URL))
	held := make(chan bool)
	go func() {
		defer close(held)
		if resp, err := tryPost(context.Background(), client(t), g.url+"/hold", chat); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	want := []string{"miss other", "miss up", "hit up"}
	for i, want := range want {
		resp := post(t, client(t), g.url+"/embeddings", embed)
		if got := resp.Header.Get("X-Flyball-Cache") + " " + resp.Header.Get("X-Flyball-Upstream"); got != want {
			t.Errorf("call %d: %q, want %q", i+1, got, want)
		}
		if text := read(t, resp); text != embedded {
			t.Errorf("call %d: %q", i+1, text)
		}
		if i == 0 {
			release <- true
			<-held
			g.idle()
		}
	}
}

// Callers who ask for the same at the same time share one call, streams too; one who leaves, or is slow, changes nothing for the others.
func TestCoalescing(t *testing.T) {
	checkGoroutines(t)
	var calls atomic.Int32
	next := make(chan string)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for e := range next {
			_, _ = io.WriteString(w, e)
			w.(http.Flusher).Flush()
		}
	})
	g := start(t, table(s, "")+"[gateway.server]\nwrite_timeout='20s'\n")
	get := func(ctx context.Context) *http.Response {
		resp, err := tryPost(ctx, client(t), g.url+"/chat/completions", coldStream)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	leaving, leave := context.WithCancel(context.Background())
	go func() { next <- "data: 1\n\n" }()
	leader := get(leaving)
	var hows []string
	var followers []*http.Response
	for range 5 {
		f := get(context.Background())
		hows = append(hows, f.Header.Get("X-Flyball-Cache"))
		followers = append(followers, f)
	}
	slow := get(context.Background()) // it reads nothing until the end
	if how := leader.Header.Get("X-Flyball-Cache"); how != "miss" || strings.Join(hows, " ") != strings.Repeat("coalesced ", 4)+"coalesced" {
		t.Errorf("%s, %v", how, hows)
	}
	leave() // who started it leaves
	_ = leader.Body.Close()
	var all sync.WaitGroup
	want := "data: 1|"
	for _, f := range followers {
		all.Go(func() {
			if got := strings.Join(frames(t, f.Body), "|"); got != want {
				t.Errorf("a follower got %.100q, want %.100q", got, want)
			}
		})
	}
	for i := range 20 {
		e := fmt.Sprintf("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%d%s\"}}]}", i, strings.Repeat("x", 1000))
		want += e + "|"
		next <- e + "\n\n"
	}
	want += "data: [DONE]"
	next <- "data: [DONE]\n\n"
	close(next)
	all.Wait()
	if got := strings.Join(frames(t, slow.Body), "|"); got != want {
		t.Errorf("the slow one got %.100q", got)
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls, want 1", calls.Load())
	}
	g.idle()
	resp := get(context.Background())
	if got := strings.Join(frames(t, resp.Body), "|"); got != want || resp.Header.Get("X-Flyball-Cache") != "hit" {
		t.Errorf("afterwards: %s, %.100q", resp.Header.Get("X-Flyball-Cache"), got)
	}
}

// A caller who waits for a stream is promised an answer without an encoding with its first keep-alive, also when who started the call has left
// before it was promised that.
func TestPlainForWhoIsLeft(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, "/hold") {
			<-release
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		if encoding := r.Header.Get("Accept-Encoding"); encoding != "identity" {
			w.Header().Set("Content-Encoding", encoding)
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n")
	})
	g := start(t, table(s, one)+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='1s'\n")
	held := make(chan bool)
	go func() {
		defer close(held)
		if resp, err := tryPost(context.Background(), client(t), g.url+"/hold", chat); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	ask := func(ctx context.Context) (*http.Response, error) {
		return tryPost(ctx, client(t), g.url+"/chat/completions", coldStream, "Accept-Encoding", "br")
	}
	leaving, leave := context.WithCancel(context.Background())
	left := make(chan bool)
	go func() {
		defer close(left)
		if resp, err := ask(leaving); err == nil {
			_ = resp.Body.Close()
			t.Error("who leaves had a keep-alive before")
		}
	}()
	eventually(t, "who leaves waits", func() bool { return g.proxy.Calls() == 2 })
	got := make(chan string)
	go func() {
		resp, err := ask(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		release <- true // the stream has begun
		got <- strings.Join(frames(t, resp.Body), "|")
	}()
	eventually(t, "another one waits with it", func() bool { return g.cache.Counts().Coalesced == 1 })
	leave()
	<-left
	if answer := <-got; !strings.HasSuffix(answer, "data: {\"choices\":[]}|data: [DONE]") {
		t.Errorf("who was left got %q", answer)
	}
	<-held
}

// When all who share a call have left, it ends.
func TestCoalescedCallersLeave(t *testing.T) {
	checkGoroutines(t)
	left := make(chan bool, 1)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		<-r.Context().Done()
		left <- true
	})
	g := start(t, table(s, ""))
	ctx, cancel := context.WithCancel(context.Background())
	for range 3 {
		go func() { _, _ = tryPost(ctx, client(t), g.url+"/embeddings", embed) }()
	}
	eventually(t, "three share one call", func() bool { n, _ := g.inFlight("up"); return n == 1 && g.cache.Counts().Coalesced == 2 })
	cancel()
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the upstream was not told that everybody left")
	}
	g.idle()
	for _, l := range g.callLines(3) {
		// One of them made the call, and the others waited for its answer.
		if l.Status != 0 || l.Sent > 1 || l.Wait < 0 || l.Sent == 0 && l.Wait == 0 || l.Sent == 1 && l.Upstream != "up" {
			t.Errorf("the log says %+v", l)
		}
	}
}

// The log says of a caller that left how long its call, which others might share, waited for a place, or that it was sent.
func TestCoalescedCallerLeavesInTheLog(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, hold(t, make(chan bool), ok))
	g := start(t, table(s, one))
	sent, leave := context.WithCancel(context.Background())
	defer leave()
	waits, giveUp := context.WithCancel(context.Background())
	defer giveUp()
	ask := func(ctx context.Context, body string) { _, _ = tryPost(ctx, client(t), g.url+"/embeddings", body) }
	go ask(sent, embed)
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	go ask(waits, `{"model":"m","input":"another"}`)
	eventually(t, "one waits", func() bool { _, n := g.inFlight("up"); return n == 1 })
	giveUp()
	if l := g.callLines(1)[0]; l.Status != 0 || l.Upstream != "up" || l.Sent != 0 || l.Wait == 0 {
		t.Errorf("of the one that waited the log says %+v", l)
	}
	leave()
	if l := g.callLines(2)[1]; l.Status != 0 || l.Upstream != "up" || l.Sent != 1 || l.Wait >= l.Total {
		t.Errorf("of the one that was sent the log says %+v", l)
	}
}

// A refusal reaches all who share it, in the API that each speaks.
func TestCoalescedRefusal(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, hold(t, make(chan bool), ok))
	g := start(t, table(s, one)+"[[gateway.route]]\npath='/'\nupstream='up'\nwait='500ms'\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _, _ = tryPost(ctx, client(t), g.url+"/x", "holds the place") }()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	codes := make(chan int, 3)
	for range 3 {
		go func() {
			resp, err := tryPost(context.Background(), client(t), g.url+"/embeddings", embed)
			if err != nil {
				codes <- 0
				return
			}
			_ = resp.Body.Close()
			codes <- resp.StatusCode
		}()
	}
	for range 3 {
		if c := <-codes; c != 429 && c != 504 {
			t.Errorf("status %d", c)
		}
	}
}

// A Redis that is there is shared; one that is gone holds nobody up, and is used again when it is back.
func TestRedis(t *testing.T) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		const reason = "no redis-server in PATH: the cache is not tried with Redis (Debian: apt-get install redis-server)"
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "redis") {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	port := freePort(t)
	run := func() (stop func()) {
		cmd := exec.Command(path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "Redis is there", func() bool {
			conn, err := dialer.Dial("tcp", "127.0.0.1:"+port)
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
		return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	}
	stop := run()
	defer func() { stop() }()
	var calls atomic.Int32
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, embedded)
	})
	t.Setenv("FLYBALL_TEST_REDIS", "redis://127.0.0.1:"+port+"/0")
	file := table(s, "") + "[gateway.cache]\nredis_env = 'FLYBALL_TEST_REDIS'\n"
	a, b := start(t, file), start(t, file)
	how := func(g *gateway, input string) string {
		began := time.Now()
		resp := post(t, client(t), g.url+"/up/embeddings", `{"input":"`+input+`"}`)
		if body := read(t, resp); body != embedded {
			t.Errorf("%s", body)
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("that took %v", d)
		}
		return resp.Header.Get("X-Flyball-Cache")
	}
	if x, y := how(a, "1"), how(b, "1"); x != "miss" || y != "hit" {
		t.Errorf("two gateways share a Redis: %s, then %s", x, y)
	}
	stop()
	if x, y, z := how(a, "2"), how(a, "2"), how(b, "1"); x != "miss" || y != "hit" || z != "hit" {
		t.Errorf("without Redis each has its memory: %s, %s, %s", x, y, z)
	}
	if !strings.Contains(a.logged(), "goes on without Redis") {
		t.Errorf("the log says %s", a.logged())
	}
	stop = run()
	eventually(t, "Redis is used again", func() bool {
		name := fmt.Sprint(time.Now().UnixNano())
		how(a, name)
		return how(b, name) == "hit"
	})
}

// What comes behind the body reaches all who share the answer, whether it was announced or not.
func TestTrailersAreShared(t *testing.T) {
	for _, announced := range []bool{true, false} {
		release := make(chan struct{})
		s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-release
			name := "X-Sum"
			if announced {
				w.Header().Set("Trailer", name)
			} else {
				name = http.TrailerPrefix + name
			}
			_, _ = io.WriteString(w, answered)
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(name, "42")
		})
		g := start(t, table(s, ""))
		got := make(chan string, 2)
		for i, c := range []*http.Client{client(t), h2c(t)} {
			go func() {
				resp, err := tryPost(context.Background(), c, g.url+"/up/embeddings", chat)
				if err != nil {
					got <- err.Error()
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				got <- resp.Header.Get("X-Flyball-Cache") + " " + resp.Trailer.Get("X-Sum")
			}()
			eventually(t, "the call is there", func() bool { return g.proxy.Calls() == int64(i)+1 && (i == 0 || g.cache.Counts().Coalesced == 1) })
		}
		close(release)
		for range 2 {
			if c := <-got; c != "miss 42" && c != "coalesced 42" {
				t.Errorf("announced %v: the caller got %q", announced, c)
			}
		}
	}
}
