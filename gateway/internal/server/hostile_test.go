package server

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// h2c is a client that speaks HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	c := client(t)
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	c.Transport.(*http.Transport).Protocols = p
	return c
}

// A caller over HTTP/2 waits as long as its route lets it, not as long as it may take nothing of an answer: the time in which nothing is
// written is the upstream's.
func TestCallersOverHTTP2Wait(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte("stream")) {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: {}\n\n")
			w.(http.Flusher).Flush()
		}
		time.Sleep(time.Second)
		fmt.Fprint(w, "data: [DONE]\n\n")
	})
	g := start(t, table(s, "")+"[gateway.server]\nwrite_timeout = \"200ms\"")
	for _, body := range []string{chat, chatStream} {
		if got := read(t, post(t, h2c(t), g.url+"/up/chat/completions", body)); !strings.HasSuffix(got, "data: [DONE]\n\n") {
			t.Errorf("%q", got)
		}
	}
	g.idle()
}

// A body that takes longer than write_timeout to come leaves the answer its time.
func TestAnswerAfterASlowBody(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[gateway.server]\nwrite_timeout = \"300ms\"")
	conn := dial(t, g.Addr())
	fmt.Fprintf(conn, "POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(chatStream))
	for i := range len(chatStream) {
		if _, err := conn.Write([]byte{chatStream[i]}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, resp); !strings.HasSuffix(got, "data: [DONE]\n\n") {
		t.Errorf("%q", got)
	}
}

// Java's HTTP client offers h2c in its first request, which has a body. Such an offer may be passed over, and the body may not.
func TestOfferOfH2C(t *testing.T) {
	var got atomic.Value
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.Store(string(b) + r.Header.Get("Upgrade"))
		ok(w, r)
	})
	g := start(t, table(s, ""))
	for _, protocol := range []string{"h2c", "H2C", "something"} {
		resp := post(t, client(t), g.url+"/up/chat/completions", chat, "Connection", "Upgrade, HTTP2-Settings", "Upgrade", protocol, "HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
		if body := read(t, resp); resp.StatusCode != 200 || body != answered || got.Load() != chat {
			t.Errorf("%s: %d %q; the upstream got %q", protocol, resp.StatusCode, body, got.Load())
		}
	}
}

// A caller that is taken for gone, because it closed its side of the connection, is not told that an empty answer is well.
func TestHalfClosedCaller(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	g := start(t, table(s, ""))
	for _, body := range []string{chat, strings.Replace(chat, "{", `{"temperature":0,`, 1)} {
		conn := dial(t, g.Addr())
		fmt.Fprintf(conn, "POST /up/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		eventually(t, "the call is in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
		_ = conn.(*net.TCPConn).CloseWrite()
		if got, _ := io.ReadAll(conn); strings.Contains(string(got), " 200 ") {
			t.Errorf("the caller is told %q", got)
		}
	}
	g.idle()
}

// Nor is it told so when the gateway refuses what it sent: it is there, and reads why. Every twentieth got an empty 200.
func TestHalfClosedCallerThatIsRefused(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[upstream.other]\nbase_url='http://127.0.0.1:1'\n"+caller("dify", "fb-dify", ""))
	gone, cancel := context.WithCancel(t.Context())
	cancel() // as the server takes it
	for path, want := range map[string]int{"/up/models": 401, "/up/../models": 400, "/nowhere/models": 404} {
		r := httptest.NewRequestWithContext(gone, "GET", path, nil)
		if want != 401 {
			r.Header.Set("Authorization", "Bearer fb-dify")
		}
		w := httptest.NewRecorder()
		if g.proxy.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s is answered with %d, want %d", path, w.Code, want)
		}
	}
}

// Who is refused before its body is there holds the connection no longer than a body may take.
func TestRefusedCallerThatSendsNoBody(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+fmt.Sprintf("[gateway.server]\nbody_timeout = \"200ms\"\n[[gateway.caller]]\nname = \"a\"\nsha256 = \"%x\"", sha256.Sum256([]byte("key"))))
	for _, line := range []string{"POST /up/chat/completions", "GET /healthz"} {
		conn := dial(t, g.Addr())
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n", line)
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// An encoded stream that is cut breaks the connection: no event can be put behind it.
func TestCutStreamWithAnEncoding(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, "data: {}\n\n")
		_ = z.Flush()
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	g := start(t, table(s, ""))
	for _, body := range []string{chatStream, strings.Replace(chatStream, "{", `{"temperature":0,`, 1)} {
		resp := post(t, client(t), g.url+"/up/chat/completions", body, "Accept-Encoding", "gzip")
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the caller takes a cut stream for the whole")
		}
		_ = resp.Body.Close()
	}
}

// The gateway's key stays here, in whichever fields a caller sends it.
func TestKeyInTwoFields(t *testing.T) {
	var got atomic.Pointer[http.Request]
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { got.Store(r); ok(w, r) })
	g := start(t, table(s, "")+fmt.Sprintf("[[gateway.caller]]\nname = \"a\"\nsha256 = \"%x\"", sha256.Sum256([]byte("gateways"))))
	_ = read(t, post(t, client(t), g.url+"/up/chat/completions", chat, "X-Flyball-Key", "gateways", "Authorization", "Bearer gateways", "Api-Key", "gateways", "X-Api-Key", "upstreams"))
	if h := got.Load().Header; h.Get("Authorization") != "" || h.Get("Api-Key") != "" || h.Get("X-Api-Key") != "upstreams" {
		t.Errorf("the upstream got %v", h)
	}
}

// A file that knows no callers any more is not put in force while the gateway listens where others can connect, whatever the file says of the address.
func TestReloadDoesNotLendKeys(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	s := upstreamServer(t, ok)
	up := table(s, "") + "[[upstream.up.key]]\nenv = \"FLYBALL_TEST_KEY\"\n"
	dir := t.TempDir()
	file := dir + "/limits.toml"
	g := &gateway{t: t, file: file}
	g.write(up + fmt.Sprintf("[gateway]\nlisten = \"0.0.0.0:0\"\n[[gateway.caller]]\nname = \"a\"\nsha256 = \"%x\"", sha256.Sum256([]byte("key"))))
	srv, err := New(Options{Config: file})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	g.write(up + "[gateway]\nlisten = \"127.0.0.1:0\"\n")
	eventually(t, "the file was read", func() bool { return srv.stats.reloads.Load()+srv.stats.reloadsFailed.Load() > 0 })
	_, port, _ := net.SplitHostPort(srv.Addr())
	if resp := post(t, client(t), "http://127.0.0.1:"+port+"/up/chat/completions", chat); resp.StatusCode != 401 {
		t.Errorf("a stranger gets %d, want 401", resp.StatusCode)
	}
}

// What is cut where nobody can tell by the transport is not kept.
func TestAnswerWithoutLengthIsNotKept(t *testing.T) {
	var calls atomic.Int32
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		calls.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		kind := r.Header.Get("X-Kind")
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %s\r\n\r\n%s", kind, answered[:len(answered)-10])
	})
	g := start(t, table(s, ""))
	for _, kind := range []string{"application/json", "application/octet-stream"} {
		calls.Store(0)
		for range 2 {
			_ = read(t, post(t, client(t), g.url+"/up/embeddings", chat, "X-Kind", kind))
		}
		if n := calls.Load(); n != 2 {
			t.Errorf("%s: the upstream was called %d times, want 2", kind, n)
		}
	}
}

// Cookies are one caller's.
func TestCookiesAreNotShared(t *testing.T) {
	release := make(chan struct{})
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
		w.Header().Set("Set-Cookie", "session=first")
		ok(w, r)
	})
	g := start(t, table(s, ""))
	cookies := make(chan string, 2)
	for i := range 2 {
		go func() {
			resp, err := tryPost(context.Background(), client(t), g.url+"/up/embeddings", chat)
			if err != nil {
				cookies <- err.Error()
				return
			}
			_ = resp.Body.Close()
			cookies <- resp.Header.Get("X-Flyball-Cache") + " " + resp.Header.Get("Set-Cookie")
		}()
		eventually(t, "the call is there", func() bool { return g.proxy.Calls() == int64(i)+1 && (i == 0 || g.cache.Counts().Coalesced == 1) })
	}
	close(release)
	for range 2 {
		if c := <-cookies; c != "miss session=first" && c != "coalesced " {
			t.Error(c)
		}
	}
}

// A field that does not reach the upstream does not tell requests apart, and one that does, does.
func TestConnectionFieldsAndTheCache(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"beta\":%q}", r.Header.Get("X-Beta"))
	})
	g := start(t, table(s, ""))
	_ = read(t, post(t, client(t), g.url+"/up/embeddings", chat, "X-Beta", "1", "Connection", "X-Beta"))
	if got := read(t, post(t, client(t), g.url+"/up/embeddings", chat, "X-Beta", "1")); got != `{"beta":"1"}` {
		t.Errorf("the caller got the answer to another request: %s", got)
	}
}

// A body that is large on purpose does not cost many times its size for the cache.
func TestLargeBodiesAreNotCached(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		ok(w, r)
	})
	g := start(t, table(s, ""))
	body := `{"model":"m","input":[` + strings.Repeat("0,", 4<<20) + `0]}`
	if got := post(t, client(t), g.url+"/up/embeddings", body); got.Header.Get("X-Flyball-Cache") != "" {
		t.Errorf("%q", got.Header.Get("X-Flyball-Cache"))
	}
}

// What a caller calls its model goes to the log, and not at any length. Nor do its path and method, which anybody may choose who is refused.
func TestLongNamesAreNotLogged(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, ""))
	_ = read(t, post(t, client(t), g.url+"/up/chat/completions", `{"model":"`+strings.Repeat("ä", 1<<20)+`"}`))
	for _, line := range []string{"GET /up/" + strings.Repeat("a", 50_000), strings.Repeat("A", 50_000) + " /up/a"} {
		conn := dial(t, g.Addr())
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", line)
		_, _ = io.Copy(io.Discard, conn)
	}
	g.idle()
	g.callLines(3)
	if n := len(g.logged()); n > 10_000 {
		t.Errorf("the log has %d bytes", n)
	}
}

// A page of another site that is shown on this machine cannot spend the upstreams' money, and a program on it can.
func TestPagesOfOtherSites(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	s := upstreamServer(t, ok)
	keyed := table(s, "") + "[[upstream.up.key]]\nenv = \"FLYBALL_TEST_KEY\"\n"
	for _, c := range []struct {
		toml, origin string
		want         int
	}{
		{keyed, "https://evil.test", 401}, {keyed, "http://127.0.0.1.evil.test", 401}, {keyed, "null", 401},
		{keyed, "http://localhost:3000", 200}, {keyed, "http://[::1]:3000", 200}, {keyed, "app://chat", 200}, {keyed, "", 200},
		{keyed + "[gateway]\nopen = true\n", "https://a.test", 200}, {table(s, ""), "https://a.test", 200},
	} {
		g := start(t, c.toml)
		var header []string
		if c.origin != "" {
			header = []string{"Origin", c.origin}
		}
		resp := post(t, client(t), g.url+"/up/chat/completions", chat, header...)
		if body := read(t, resp); resp.StatusCode != c.want {
			t.Errorf("%q: %d %s, want %d", c.origin, resp.StatusCode, body, c.want)
		}
	}
	g := start(t, keyed)
	for site, want := range map[string]int{"cross-site": 401, "none": 200, "same-origin": 200} {
		req, _ := http.NewRequest("GET", g.url+"/up/search?q=a", nil) // as for a picture
		req.Header.Set("Sec-Fetch-Site", site)
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, resp); resp.StatusCode != want {
			t.Errorf("a GET whose browser says %s: %d %s, want %d", site, resp.StatusCode, body, want)
		}
	}
}

// A body that is in a file says what it says: that its caller streams, and the model, which a fallback replaces.
func TestFactsOfABodyInAFile(t *testing.T) {
	poor := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(100 * time.Millisecond)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(429)
		fmt.Fprint(w, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`)
	})
	var got atomic.Value
	rich := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got.Store(string(b))
		fmt.Fprint(w, "{}")
	})
	g := start(t, table(poor, "")+strings.Replace(table(rich, ""), ".up]", ".rich]", 1)+
		"[gateway.server]\nmemory = 0\n[[gateway.route]]\npath = \"/\"\nupstream = \"up\"\nkeep_alive = \"20ms\"\nfallback = [{ upstream = \"rich\", model = \"other\" }]\n")
	resp := post(t, client(t), g.url+"/chat/completions", chatStream)
	if body := read(t, resp); resp.StatusCode != 200 || !strings.HasPrefix(body, ": waiting\n\n") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if want := strings.Replace(chatStream, `"m"`, `"other"`, 1); got.Load() != want {
		t.Errorf("the fallback got %q, want %q", got.Load(), want)
	}
}

// What a reload does not change, the log says.
func TestReloadSaysWhatNeedsAStart(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, ""))
	g.write(table(s, "") + "[gateway.server]\nheader_timeout = \"1s\"\nidle_timeout = \"9s\"\nmax_header = 8192\n")
	eventually(t, "the file was read", func() bool { return g.stats.reloads.Load() > 0 })
	eventually(t, "the log says all three", func() bool {
		l := g.logged()
		return strings.Contains(l, "gateway.server.header_timeout") && strings.Contains(l, "gateway.server.idle_timeout") && strings.Contains(l, "gateway.server.max_header")
	})
}

// Batches end in the time that they began with, which the log says; without them, the new time is in force.
func TestReloadOfDrainTimeout(t *testing.T) {
	s := upstreamServer(t, ok)
	for _, more := range []string{"", "[gateway.batches]\ndir='{dir}/spool'\n"} {
		g := start(t, table(s, "")+more)
		g.write(table(s, "") + more + "[gateway.server]\ndrain_timeout = '10s'\n")
		g.onReload(g.limits.Reload())
		if told := strings.Contains(g.logged(), `"key":"gateway.server.drain_timeout"`); told != (more != "") {
			t.Errorf("with %q, the log says that it takes a start: %v", more, told)
		}
	}
}

// Who waits for a stream that is not one of events is told nothing meanwhile: it would take that for a part of the answer.
func TestStreamsWithoutEventsHaveNoKeepAlives(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(200 * time.Millisecond)
		fmt.Fprint(w, "[]")
	})
	g := start(t, table(s, "")+"[[gateway.route]]\npath = \"/\"\nupstream = \"up\"\nkeep_alive = \"20ms\"\n")
	const says, empty = ": waiting\n\n", "\n\n"
	for path, want := range map[string]string{
		"/audio/speech": "", "/api/chat": "", "/models/g:streamGenerateContent": "", "/models/g:streamGenerateContent?alt=sse": empty,
		"/chat/completions": says, "/messages": says, "/responses": says,
	} {
		resp := post(t, client(t), g.url+path, chatStream)
		body := read(t, resp)
		if !strings.HasPrefix(body, want) || want == "" && body != "[]" {
			t.Errorf("%s: %q", path, body)
		}
		if want == empty && strings.Contains("\n"+body, "\n:") {
			t.Errorf("%s: Google's SDKs cannot read %q", path, body)
		}
	}
	resp := post(t, client(t), g.url+"/api/chat", chatStream, "Accept", "text/event-stream")
	if body := read(t, resp); !strings.HasPrefix(body, ": waiting\n\n") {
		t.Errorf("%q", body)
	}
}

// An encoded answer to a caller that was told to wait, and so cannot be told of an encoding, is decoded.
func TestLateAnswersAreDecoded(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(100 * time.Millisecond)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
		var z io.WriteCloser
		switch r.Header.Get("X-Form") {
		case "gzip":
			z = gzip.NewWriter(w)
		case "zlib":
			z = zlib.NewWriter(w)
		default:
			z, _ = flate.NewWriter(w, -1)
		}
		fmt.Fprint(z, "data: [DONE]\n\n")
		_ = z.Close()
	})
	g := start(t, table(s, "")+"[[gateway.route]]\npath = \"/\"\nupstream = \"up\"\nkeep_alive = \"20ms\"\n")
	for form, encoding := range map[string]string{"gzip": "gzip", "zlib": "deflate", "raw": "deflate"} {
		resp := post(t, client(t), g.url+"/chat/completions", chatStream, "Accept-Encoding", encoding, "X-Form", form)
		if body := read(t, resp); !strings.HasPrefix(body, ": waiting\n\n") || !strings.HasSuffix(body, "\n\ndata: [DONE]\n\n") {
			t.Errorf("%s: %q", form, body)
		}
	}
}

// An upstream that lets its answer drip holds a place no longer than the route lets it: until its answer begins, and until it ends.
func TestUpstreamThatDrips(t *testing.T) {
	checkGoroutines(t)
	for _, c := range []struct {
		name, first, drip string // what it sends at once, and then again and again
		status            int
		want              string
	}{
		{"header", "HTTP/1.1 200 OK\r\nX-Slow: ", "x", 504, "within"},
		{"answer", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "data: {\"choices\":[]}\n\n", 200, "the answer took longer than the route allows"},
		{"silence", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"choices\":[]}\n\n", "", 200, "sent nothing for 300ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			var conns sync.WaitGroup
			defer conns.Wait()
			defer close(done)
			defer l.Close()
			conns.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					conns.Go(func() {
						defer conn.Close()
						if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
							return
						}
						_, _ = io.WriteString(conn, c.first)
						tick := time.NewTicker(20 * time.Millisecond)
						defer tick.Stop()
						for {
							select {
							case <-done:
								return
							case <-tick.C:
								if _, err := io.WriteString(conn, c.drip); err != nil {
									return
								}
							}
						}
					})
				}
			})
			g := start(t, fmt.Sprintf("[upstream.up]\nbase_url='http://%s/v1'\n[[gateway.route]]\npath='/'\nupstream='up'\nwait='1s'\nstall='300ms'\nlongest='1s'\nkeep_alive='0s'\n", l.Addr()))
			resp := post(t, client(t), g.url+"/chat/completions", chatStream)
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != c.status || !strings.Contains(string(body), c.want) {
				t.Errorf("%s: %.300s", resp.Status, body)
			}
			g.idle()
		})
	}
}
