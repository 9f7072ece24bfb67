package server

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/internal/once/oncetest"
)

// raw starts an upstream that sends each caller these bytes, and closes the connection: an answer with a length has to say so, or the next call
// may be sent on it.
func raw(t *testing.T, answer string) string {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, answer)
	})
	return table(s, "")
}

// What no server may answer, with a status that is none or a change of the protocol that nobody asked for, is told as what it is. The caller got
// an empty 200, or nothing, and behind the cache a connection that said nothing kept a place for the route's longest.
func TestAnswersThatAreNone(t *testing.T) {
	checkGoroutines(t)
	for _, answer := range []string{
		"HTTP/1.1 099 Odd\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\nhello",
	} {
		g := start(t, raw(t, answer))
		for name, c := range map[string]*http.Client{"HTTP/1": client(t), "HTTP/2": h2c(t)} {
			for _, path := range []string{"chat/completions", "embeddings"} { // alone, and shared
				resp := post(t, c, g.url+"/up/"+path, chat)
				if body := read(t, resp); resp.StatusCode != 502 || !strings.Contains(body, fmt.Sprintf("status %s", answer[9:12])) {
					t.Errorf("%s of %.20q for %s: %s %s, want a 502 that names the status", path, answer, name, resp.Status, body)
				}
			}
		}
		g.idle()
	}
}

// What a caller may not have sent with the upstream's key: a TRACE, which the upstream answers with all that it got, the key too; a change to
// HTTP/2, behind which the gateway sees no requests; and paths that lead elsewhere than they say.
func TestRequestsThatAreNotHandedOn(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream-key")
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "message/http")
		_ = r.Write(w)
	})
	g := start(t, table(s, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'"))
	send := func(head string) string {
		conn := dial(t, g.Addr())
		fmt.Fprintf(conn, "%s\r\nHost: localhost\r\nConnection: close\r\n\r\n", head)
		b, _ := io.ReadAll(conn)
		return string(b)
	}
	for head, want := range map[string]string{
		"TRACE /up/models HTTP/1.1":                 "HTTP/1.1 400 ",
		`GET /up/models/%5C..%5Cadmin HTTP/1.1`:     "HTTP/1.1 400 ",
		`GET /up/models\..\admin HTTP/1.1`:          "HTTP/1.1 400 ",
		`GET /up/models/..;x=1/admin HTTP/1.1`:      "HTTP/1.1 400 ",
		`GET /up/models;v=..;/a HTTP/1.1`:           "HTTP/1.1 200 ",
		`GET /up/models/a%5Cb..c HTTP/1.1`:          "HTTP/1.1 200 ",
		`OPTIONS /up/models HTTP/1.1`:               "HTTP/1.1 200 ",
		`GET /up/models..?a=/../b%5C..%5C HTTP/1.1`: "HTTP/1.1 200 ",
	} {
		if got := send(head); !strings.HasPrefix(got, want) {
			t.Errorf("%s is answered with %.300s, want %s", head, got, want)
		}
	}
	for _, protocol := range []string{"h2c", "websocket, h2c", "h2c/1, other", "other,H2C"} {
		req, _ := http.NewRequest("GET", g.url+"/up/models", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", protocol)
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); strings.Contains(got, "Upgrade:") {
			t.Errorf("the upstream is offered %q:\n%s", protocol, got)
		}
	}
}

// An answer that does not say what it is gets no guess of the gateway's, which a browser would believe.
func TestNoContentTypeIsGuessed(t *testing.T) {
	const page = "<html><script>alert(1)</script></html>"
	g := start(t, raw(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(page), page)))
	for _, path := range []string{"files/1/content", "embeddings"} { // alone, and shared
		resp := post(t, client(t), g.url+"/up/"+path, chat)
		if got := read(t, resp); got != page || resp.Header["Content-Type"] != nil {
			t.Errorf("%s: %q, with the Content-Type %q; the upstream sent none", path, got, resp.Header["Content-Type"])
		}
	}
}

// The end of a connection is the only end of a stream that says neither its length nor its parts, and an upstream that dies ends it, too. In the
// middle of a line it is cut, like any other.
func TestStreamThatEndsWithItsConnection(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
	const event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
	for last, cut := range map[string]bool{
		"": false, "data: [DONE]\n\n": false, "data: [DONE]\n": false, "data: [DONE]": false, "data:[DONE]": false, "data: {\"cho": true, "data: [DON": true,
	} {
		g := start(t, raw(t, head+event+last))
		for _, body := range []string{chatStream, strings.Replace(chatStream, "{", `{"temperature":0,`, 1)} { // alone, and shared
			resp := post(t, client(t), g.url+"/up/chat/completions", body)
			got := read(t, resp)
			want := event + last
			if cut {
				want = event
			}
			if rest, ok := strings.CutPrefix(got, want); !ok || cut != strings.Contains(rest, `"error"`) || !cut && rest != "" {
				t.Errorf("a stream that ends with %q is handed on as %q", last, got)
			}
		}
		g.idle()
	}
}

// What an upstream resets over HTTP/2 may have been done, and is paid for each time that it is sent: a POST once, and a GET not for as long as the
// call may wait. Both were sent on one connection after the other, hundreds a second.
func TestRequestsThatAreReset(t *testing.T) {
	checkGoroutines(t)
	for method, want := range map[string]int32{"POST": 1, "GET": 8} {
		s, sent := oncetest.Upstream(t, oncetest.Reset)
		g := start(t, table(s, "[guard.retry]\nmax_attempts = 1"))
		g.proxy.Trust(s.Certificate())
		body := io.Reader(http.NoBody)
		if method == "POST" {
			body = strings.NewReader(chat)
		}
		req, _ := http.NewRequestWithContext(t.Context(), method, g.url+"/up/x", body)
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, resp); resp.StatusCode != 502 || !strings.Contains(body, "may have done the call") || sent.Load() != want {
			t.Errorf("%s is sent %d times, want %d, and answered with %s %s", method, sent.Load(), want, resp.Status, body)
		}
		g.idle()
	}
}

// What the standard library says of an upstream goes to the gateway's log, and not what the upstream sent: its answers are not for the log.
func TestLogOfTheStandardLibrary(t *testing.T) {
	flags := log.Flags()
	defer func() { log.SetFlags(flags); log.SetOutput(os.Stderr) }()
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\nsomebody's answer")
		_, _ = io.Copy(io.Discard, conn)
	})
	g := start(t, table(s, ""))
	g.TakeLog()
	_ = read(t, post(t, client(t), g.url+"/up/x", chat))
	eventually(t, "the log says it", func() bool {
		return strings.Contains(g.logged(), `"msg":"Unsolicited response received on idle HTTP channel"}`)
	})
	if said := g.logged(); strings.Contains(said, "somebody") {
		t.Errorf("the log has the answer: %s", said)
	}
}

// A connection that ends leaves out what it did not take, as an nginx does after 1,000 requests: that is sent on another one, and is no failure of
// the upstream's, whatever the guard's retries are.
func TestConnectionThatEnds(t *testing.T) {
	s, sent := oncetest.Upstream(t, oncetest.GoAway, oncetest.Served)
	g := start(t, table(s, "[guard.retry]\nmax_attempts = 1"))
	g.proxy.Trust(s.Certificate())
	resp := post(t, client(t), g.url+"/up/x", chat)
	if body := read(t, resp); resp.StatusCode != 200 || sent.Load() != 2 {
		t.Errorf("it is sent %d times, and answered with %s %s", sent.Load(), resp.Status, body)
	}
	g.idle()
}

// What an upstream says that it did not take was not done: its caller is told so, and a fallback has it.
func TestRequestsThatAreNotTaken(t *testing.T) {
	checkGoroutines(t)
	for frame, want := range map[string]int32{oncetest.GoAway: 3, oncetest.Refuse: 1} {
		s, sent := oncetest.Upstream(t, frame)
		other := upstreamServer(t, ok)
		g := start(t, table(s, "[guard.retry]\nmax_attempts = 1\n")+"[upstream.other]\nbase_url = '"+other.URL+
			"'\n[[gateway.route]]\npath = '/up'\nupstream = 'up'\n[[gateway.route]]\npath = '/both'\nupstream = 'up'\n[[gateway.route.fallback]]\nupstream = 'other'\n")
		g.proxy.Trust(s.Certificate())
		resp := post(t, client(t), g.url+"/up/x", chat)
		if body := read(t, resp); resp.StatusCode != 502 || !strings.Contains(body, "did not take the call") || sent.Load() != want {
			t.Errorf("it is sent %d times, want %d, and answered with %s %s", sent.Load(), want, resp.Status, body)
		}
		g.proxy.Close() // what answers is for the first of a connection
		if resp = post(t, client(t), g.url+"/both/x", chat); resp.StatusCode != 200 {
			t.Errorf("the fallback did not have it: %s %s", resp.Status, read(t, resp))
		}
		_ = resp.Body.Close()
		g.idle()
	}
}

// An upstream may refuse a large call without reading it, and close the connection: its answer counts, and not that the rest could not be sent. About
// half of such calls got a 502.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	checkGoroutines(t)
	if runtime.GOOS != "linux" {
		t.Skip("other systems may drop what came before a reset")
	}
	for _, secure := range []bool{false, true} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
			_ = conn.Close() // with something unread, which is a reset
		}))
		if secure {
			s.StartTLS()
		} else {
			s.Start()
		}
		g := start(t, table(s, "[guard.retry]\nmax_attempts = 1"))
		if secure {
			g.proxy.Trust(s.Certificate())
		}
		large := strings.Replace(chat, "hi", strings.Repeat("hi", 4<<20), 1)
		for i := range 20 {
			resp := post(t, client(t), g.url+"/up/x", large)
			if body := read(t, resp); resp.StatusCode != 413 {
				t.Errorf("TLS %v: call %d: %s %s", secure, i, resp.Status, body)
			}
		}
		g.idle()
		s.Close()
	}
}
