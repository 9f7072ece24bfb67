package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Bodies pass byte by byte, in both directions and by both versions of HTTP, and fields that are for the far end do, too.
func TestBytesPass(t *testing.T) {
	checkGoroutines(t)
	var got atomic.Pointer[http.Request]
	answer := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(answer)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r)
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Answer", "yes")
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "X-Hop")
			w.Header().Set("X-Hop", "no")
		}
		w.Header().Set("Content-Encoding", "br") // the bytes are not looked at
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
		_, _ = w.Write(answer)
		w.Header().Set("X-Sum", "42")
	})
	for _, upstream := range []string{"http", "h2"} {
		for _, caller := range []string{"http", "h2c"} {
			t.Run(caller+" to "+upstream, func(t *testing.T) {
				s := httptest.NewUnstartedServer(h)
				if upstream == "h2" {
					s.EnableHTTP2 = true
					s.StartTLS()
				} else {
					s.Start()
				}
				defer s.Close()
				g := start(t, table(s, ""))
				if upstream == "h2" {
					g.proxy.Trust(s.Certificate())
				}
				c := client(t)
				if caller == "h2c" {
					p := new(http.Protocols)
					p.SetUnencryptedHTTP2(true)
					c.Transport.(*http.Transport).Protocols = p
				}
				for _, size := range []int{0, 1, 4096, 1 << 20} {
					sent := make([]byte, size)
					_, _ = random.Read(sent)
					req, _ := http.NewRequest("POST", g.url+"/up/audio/transcriptions?a=1&b=%2F", bytes.NewReader(sent))
					req.Header.Set("Accept-Encoding", "zstd, br;q=0.5")
					req.Header.Set("Authorization", "Bearer mine")
					if caller == "http" { // HTTP/2 has no such field
						req.Header.Set("Connection", "X-Private")
						req.Header.Set("X-Private", "secret")
					}
					req.Header.Set("X-Flyball-Tenant", "t")
					req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
					resp, err := c.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.Equal(body, append(sent, answer...)) {
						t.Errorf("%d bytes: the answer has %d bytes, %v, and is not what was sent", size, len(body), err)
					}
					_ = resp.Body.Close()
					r := got.Load()
					if r.URL.Path != "/v1/audio/transcriptions" || r.URL.RawQuery != "a=1&b=%2F" || r.Header.Get("Accept-Encoding") != "zstd, br;q=0.5" ||
						r.Header.Get("Authorization") != "Bearer mine" || !strings.HasPrefix(r.Header.Get("Traceparent"), "00-0af7651916cd43dd8448eb211c80319c-") {
						t.Errorf("the upstream got %s %v", r.URL, r.Header)
					}
					if caller == "http" && r.Header.Get("X-Private") != "" || r.Header.Get("X-Flyball-Tenant") != "" || r.Header.Get("User-Agent") != "Go-http-client/1.1" && r.Header.Get("User-Agent") != "Go-http-client/2.0" {
						t.Errorf("the upstream got fields that are not for it, or not the caller's: %v", r.Header)
					}
					if r.ContentLength != int64(size) {
						t.Errorf("%d bytes were sent with a length of %d", size, r.ContentLength)
					}
					if resp.Header.Get("X-Answer") != "yes" || resp.Header.Get("X-Hop") != "" || resp.Trailer.Get("X-Sum") != "42" {
						t.Errorf("the caller got %v and %v", resp.Header, resp.Trailer)
					}
				}
				g.idle()
			})
		}
	}
}

func TestCallersOverTLS(t *testing.T) {
	s := upstreamServer(t, ok)
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	certFile, keyFile := writePair(t, cert.TLS.Certificates[0])
	g := start(t, table(s, "")+fmt.Sprintf("[gateway.tls]\ncert = %q\nkey = %q\n", certFile, keyFile))
	c := cert.Client()
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	defer c.CloseIdleConnections()
	resp := post(t, c, "https://"+g.Addr()+"/up/chat/completions", chat)
	if body := read(t, resp); body != answered || resp.ProtoMajor != 2 {
		t.Errorf("%s %s: %s", resp.Proto, resp.Status, body)
	}
}

// Where a call goes.
func TestPaths(t *testing.T) {
	var got atomic.Value
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { got.Store(r.URL.String()) })
	file := table(s, "") + fmt.Sprintf("[upstream.bare]\nbase_url = %q\n", s.URL) + `
[[gateway.route]]
path = "/a"
upstream = "up"
[[gateway.route]]
path = "/a/bare"
upstream = "bare"
[[gateway.route]]
path = "/b"
upstream = "bare"
to = "/compatible-mode/v1"
[[gateway.route]]
path = "/"
upstream = "up"
wait = "1s"
`
	g := start(t, file)
	for _, c := range []struct{ path, want string }{
		{"/a/chat/completions", "/v1/chat/completions"},
		{"/a/v1/chat/completions", "/v1/chat/completions"}, // the base ends in v1 already
		{"/a/v1beta/models", "/v1/v1beta/models"},
		{"/a/bare/v1/messages", "/v1/messages"},
		{"/b/embeddings", "/compatible-mode/v1/embeddings"},
		{"/ab/x", "/v1/ab/x"},
		{"/models", "/v1/models"},
		{"/v1/models/a%2Fb", "/v1/models/a%2Fb"},
		{"/models/gemini:generateContent?key=x", "/v1/models/gemini:generateContent?key=x"},
		{"/v1", "/v1"},
		{"/a//double", "/v1//double"},
	} {
		resp, err := client(t).Get(g.url + c.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = read(t, resp)
		if got.Load() != c.want {
			t.Errorf("%s goes to %v, want %s", c.path, got.Load(), c.want)
		}
	}
	got.Store("")
	for _, path := range []string{"/a/%2e%2e/x", "/a/..%2fx/../y", "/./x"} {
		conn, err := net.Dial("tcp", g.Addr())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		b, _ := io.ReadAll(conn)
		_ = conn.Close()
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 400 ")) && !bytes.HasPrefix(b, []byte("HTTP/1.1 307 ")) || got.Load() != "" {
			t.Errorf("%s: %.40q, and the upstream got %v", path, b, got.Load())
		}
	}
	// With routes but none for all paths, a wrong one is told what there is.
	g = start(t, table(s, "")+"[[gateway.route]]\npath='/x'\nupstream='up'\n")
	resp := post(t, client(t), g.url+"/y/chat/completions", chat)
	if e := errorOf(t, read(t, resp)); resp.StatusCode != 404 || !strings.Contains(e.Message, "/x/") {
		t.Errorf("%s %+v", resp.Status, e)
	}
}

// A stream passes without delay: the upstream sends each event only when the caller has the one before.
func TestStreamsWithoutDelay(t *testing.T) {
	checkGoroutines(t)
	next := make(chan string)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for e := range next {
			_, _ = io.WriteString(w, e)
			w.(http.Flusher).Flush()
		}
	})
	g := start(t, table(s, ""))
	for _, caller := range []string{"http", "h2c"} {
		c := client(t)
		if caller == "h2c" {
			p := new(http.Protocols)
			p.SetUnencryptedHTTP2(true)
			c.Transport.(*http.Transport).Protocols = p
		}
		go func() { next <- "data: 0\n\n" }()
		resp := post(t, c, g.url+"/up/chat/completions", chatStream)
		r := bufio.NewReader(resp.Body)
		for i := range 50 {
			line, err := r.ReadString('\n')
			blank, _ := r.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want || blank != "\n" {
				t.Fatalf("%s: %q %q %v, want %q", caller, line, blank, err, want)
			}
			if i < 49 {
				next <- fmt.Sprintf("data: %d\n\n", i+1)
			}
		}
		if n, _ := g.inFlight("up"); n != 1 {
			t.Errorf("%d calls in flight while the stream lasts, want 1", n)
		}
		close(next)
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
		_ = resp.Body.Close()
		g.idle()
		next = make(chan string)
	}
	close(next)
}

// A caller that leaves ends its call at the upstream, and gives its place back.
func TestCallerLeaves(t *testing.T) {
	checkGoroutines(t)
	began, left := make(chan bool, 1), make(chan bool, 1)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.Header.Get("X-Begin") != "" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
		}
		began <- true
		<-r.Context().Done()
		left <- true
	})
	g := start(t, table(s, ""))
	for _, begin := range []string{"", "yes"} {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-began; cancel() }()
		resp, err := tryPost(ctx, client(t), g.url+"/up/chat/completions", chatStream, "X-Begin", begin)
		if err == nil {
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		select {
		case <-left:
		case <-time.After(5 * time.Second):
			t.Fatal("the upstream was not told that the caller left")
		}
		g.idle()
	}
}

// A place is held to the end of a stream, and the next caller gets it then.
func TestPermitLivesToTheEndOfTheStream(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	g := start(t, table(s, "law = 'fixed'\ninitial_limit = 2"))
	done := make(chan string, 6)
	for range 6 {
		go func() {
			done <- strings.Join(frames(t, post(t, client(t), g.url+"/up/chat/completions", chatStream).Body), "|")
		}()
	}
	eventually(t, "two in flight and four waiting", func() bool { n, w := g.inFlight("up"); return n == 2 && w == 4 && now.Load() == 2 })
	for range 6 {
		release <- true
	}
	for range 6 {
		if got := <-done; got != "data: 1|data: [DONE]" {
			t.Errorf("a caller got %q", got)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d calls at a time, want 2", most.Load())
	}
	g.idle()
}

// upgrade changes the protocol of a connection to an upstream's server.
func upgrade(t *testing.T, w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	t.Helper()
	conn, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	return conn, buf
}

// A connection that changes its protocol is handed on in both directions.
func TestUpgrade(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			t.Errorf("the upstream got %v", r.Header)
			return
		}
		conn, buf := upgrade(t, w)
		defer conn.Close()
		line, _ := buf.ReadString('\n')
		_, _ = io.WriteString(conn, "you said "+line)
	})
	g := start(t, table(s, ""))
	conn, err := net.Dial("tcp", g.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /up/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "you said hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	g.idle()
}

// A connection that changed its protocol ends as any other answer does when its route lets none take longer: it has a place that others
// wait for.
func TestUpgradeEnds(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buf := upgrade(t, w)
		defer conn.Close()
		_, _ = io.Copy(io.Discard, buf) // until the other side ends it
	})
	g := start(t, table(s, "[[gateway.route]]\npath='/'\nupstream='up'\nlongest='1s'"))
	conn := dial(t, g.Addr())
	fmt.Fprint(conn, "GET /realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	if b, err := r.ReadByte(); err != io.EOF {
		t.Errorf("%q, %v; want the end of the connection", b, err)
	}
	g.idle()
	eventually(t, "the log says why it ended", func() bool { return strings.Contains(g.logged(), "longer than the route allows") })
}

// What one side has sent before it ended a connection that changed its protocol reaches the other one, whatever that sends meanwhile.
func TestUpgradeEndsWithAllThatWasSent(t *testing.T) {
	checkGoroutines(t)
	const much = 8 << 20
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buf := upgrade(t, w)
		defer conn.Close()
		if strings.HasSuffix(r.URL.Path, "/caller") { // the caller ends first, and waits for this
			all, _ := io.ReadAll(buf)
			fmt.Fprintf(conn, "%d bytes", len(all))
			return
		}
		_, _ = conn.Write(make([]byte, much))
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, buf)
	})
	for _, tenant := range []string{"", caller("c", "sk-caller", "tenant = \"t\"") + "[gateway.tenant.t]\nmax_in_flight = 2\n"} {
		g := start(t, table(s, tenant))
		open := func(path string) (*net.TCPConn, *bufio.Reader) {
			conn := dial(t, g.Addr()).(*net.TCPConn)
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-caller\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", path)
			r := bufio.NewReader(conn)
			if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
				t.Fatal(resp, err)
			}
			return conn, r
		}
		conn, r := open("/up/caller")
		fmt.Fprint(conn, "hello")
		_ = conn.CloseWrite()
		if all, err := io.ReadAll(r); string(all) != "5 bytes" || err != nil {
			t.Errorf("after its own end the caller reads %q, %v", all, err)
		}
		conn, r = open("/up/upstream")
		var talks sync.WaitGroup
		talks.Go(func() {
			for p := make([]byte, 1<<10); ; {
				if _, err := conn.Write(p); err != nil {
					return
				}
			}
		})
		n, err := io.Copy(io.Discard, r)
		if n != much || err != nil {
			t.Errorf("a caller that talks gets %d bytes of %d, and %v", n, much, err)
		}
		_ = conn.Close()
		talks.Wait()
		g.idle()
	}
}

// What an upstream says before its answer (103) passes, and leaves nothing in the answer.
func TestEarlyHints(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		ok(w, r)
	})
	g := start(t, table(s, ""))
	for _, path := range []string{"/up/x", "/up/embeddings"} { // the latter is shared
		var early []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			early = append(early, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}})
		resp, err := tryPost(ctx, client(t), g.url+path, chat)
		if err != nil {
			t.Fatal(err)
		}
		body := read(t, resp)
		want := 1
		if path == "/up/embeddings" {
			want = 0
		}
		if resp.StatusCode != 200 || body != answered || resp.Header.Get("Link") != "" || len(early) != want || want == 1 && early[0] != "103 </style.css>; rel=preload" {
			t.Errorf("%s: %s, early %q, header %v, %s", path, resp.Status, early, resp.Header, body)
		}
	}
}

// A caller that speaks HTTP/1.0 knows no status 1xx, and would take it for the answer.
func TestEarlyHintsOfOldCallers(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		ok(w, r)
	})
	g := start(t, table(s, ""))
	conn := dial(t, g.Addr())
	fmt.Fprint(conn, "GET /up/x HTTP/1.0\r\nHost: localhost\r\n\r\n")
	if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200 ") {
		t.Errorf("%v, %q", err, b)
	}
}
