package server

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

func caller(name, key, more string) string {
	return fmt.Sprintf("[[gateway.caller]]\nname = %q\nsha256 = \"%x\"\n%s\n", name, sha256.Sum256([]byte(key)), more)
}

// Keys of the gateway open it, are not handed on, and say whose calls they are.
func TestCallersKeys(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	var got atomic.Value
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { got.Store(r.Header.Clone()); ok(w, r) })
	keyed := table(s, "") + "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'\n" + caller("dify", "fb-dify", "") + caller("batch", "fb-batch", "priority=3\nany_tenant=true")
	plain := table(s, "") + caller("dify", "fb-dify", "")
	for _, c := range []struct {
		name, file string
		header     []string
		status     int
		upstream   string // what the upstream gets as the key
		log        string
	}{
		{"none", keyed, nil, 401, "", ""},
		{"wrong", keyed, []string{"Authorization", "Bearer fb-dify2"}, 401, "", ""},
		{"empty", keyed, []string{"Authorization", "Bearer "}, 401, "", ""},
		{"openai", keyed, []string{"Authorization", "Bearer fb-dify"}, 200, "Bearer sk-upstream", `"caller":"dify","tenant":"dify","priority":0`},
		{"anthropic", keyed, []string{"X-Api-Key", "fb-dify"}, 200, "Bearer sk-upstream", `"caller":"dify","tenant":"dify","priority":0`},
		{"a tenant of its own", keyed, []string{"Authorization", "Bearer fb-dify", "X-Flyball-Tenant", "other", "X-Flyball-Priority", "7"}, 200, "Bearer sk-upstream", `"caller":"dify","tenant":"dify","priority":0`},
		{"any tenant", keyed, []string{"Authorization", "bearer fb-batch", "X-Flyball-Tenant", "other", "X-Flyball-Priority", "5"}, 200, "Bearer sk-upstream", `"caller":"batch","tenant":"other","priority":5`},
		{"beside the upstream's key", keyed, []string{"X-Flyball-Key", "fb-batch", "Authorization", "Bearer sk-mine"}, 200, "Bearer sk-upstream", `"caller":"batch","tenant":"batch","priority":3`},
		{"the caller's key passes", plain, []string{"X-Flyball-Key", "fb-dify", "Authorization", "Bearer sk-mine"}, 200, "Bearer sk-mine", `"caller":"dify"`},
		{"the gateway's does not", plain, []string{"Authorization", "Bearer fb-dify"}, 200, "", `"caller":"dify"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got.Store(http.Header{})
			g := start(t, c.file)
			resp := post(t, client(t), g.url+"/chat/completions", chat, c.header...)
			body := read(t, resp)
			if resp.StatusCode != c.status {
				t.Fatalf("%s %s", resp.Status, body)
			}
			h := got.Load().(http.Header)
			if h.Get("Authorization") != c.upstream || strings.Contains(fmt.Sprint(h), "fb-") {
				t.Errorf("the upstream got %v", h)
			}
			eventually(t, "the log has "+c.log, func() bool { return strings.Contains(g.logged(), c.log) })
			if l := g.logged(); strings.Contains(l, "sk-") || strings.Contains(l, "fb-") {
				t.Errorf("the log has a key: %s", l)
			}
		})
	}
}

// What a caller of Gemini has as a key in its query does not reach an upstream that has keys of its own: Google would take it for the one
// that counts, and say that the upstream's key is not valid.
func TestKeysInQueries(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	var got atomic.Value
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		got.Store(r.URL.RawQuery + " " + r.Header.Get("X-Goog-Api-Key"))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"candidates":[]}`)
	})
	gemini, keys := table(s, "provider='gemini'"), "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'\n"
	for _, c := range []struct{ name, file, query, want string }{
		{"keyed", gemini + keys, "alt=sse&key=AIza&x=%20&k%65y=AIzb&keys=1&access_token=a", "alt=sse&x=%20&keys=1 sk-upstream"},
		{"nothing else", gemini + keys, "key=AIza", " sk-upstream"},
		{"in OpenAI's form", table(s, "provider='gemini'\nkey_header='Authorization'") + keys, "alt=sse&key=AIza", "alt=sse "},
		{"the caller's key passes", gemini, "alt=sse&key=AIza", "alt=sse&key=AIza "},
		{"another API's key", table(s, "") + keys, "key=value", "key=value "},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, c.file)
			resp := post(t, client(t), g.url+"/models/g:generateContent?"+c.query, `{"contents":[]}`)
			if body := read(t, resp); resp.StatusCode != 200 || got.Load() != c.want {
				t.Errorf("%s %s: the upstream got %q, want %q", resp.Status, body, got.Load(), c.want)
			}
		})
	}
	g := start(t, gemini+keys)
	for i, want := range []string{"miss", "hit"} { // it says nothing of the answer, either
		resp := post(t, client(t), fmt.Sprint(g.url, "/models/g:generateContent?key=", i), `{"contents":[]}`, "X-Flyball-Cache", "on")
		if read(t, resp); resp.Header.Get("X-Flyball-Cache") != want {
			t.Errorf("with a key of its own, call %d is a %s of the cache, want %s", i, resp.Header.Get("X-Flyball-Cache"), want)
		}
	}
}

// A gateway that others can reach does not lend its keys to anybody.
func TestOpenGateway(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	keyed := "[upstream.up]\nbase_url='http://x/v1'\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'\n[gateway]\nlisten='0.0.0.0:0'\n"
	for file, want := range map[string]string{
		keyed:                         "upstream.up has keys that anybody could use",
		keyed + "open=true\n":         "",
		keyed + caller("a", "fb", ""): "",
		"[upstream.up]\nbase_url='http://x/v1'\n[gateway]\nlisten='0.0.0.0:0'\n": "",
	} {
		_, err := load(write(t, file))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Nor does one that the command line puts there.
func TestOpenByTheCommandLine(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	const keyed = "[upstream.up]\nbase_url='http://x/v1'\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'\n"
	_, err := New(Options{Config: write(t, keyed), Listen: "0.0.0.0:0"})
	if err == nil || !strings.Contains(err.Error(), "upstream.up has keys that anybody could use") {
		t.Errorf("%v", err)
	}
	s, err := New(Options{Config: write(t, keyed+"[gateway]\nopen=true\n"), Listen: "0.0.0.0:0"})
	if err != nil {
		t.Fatal(err)
	}
	s.close()
}

// The gateway is no forward proxy.
func TestNoForwardProxy(t *testing.T) {
	var calls atomic.Int32
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1) })
	g := start(t, table(s, ""))
	for _, line := range []string{"CONNECT example.com:443 HTTP/1.1", "OPTIONS * HTTP/1.1"} {
		conn := dial(t, g.Addr())
		fmt.Fprintf(conn, "%s\r\nHost: example.com\r\nConnection: close\r\n\r\n", line)
		b, _ := io.ReadAll(conn)
		if strings.Contains(line, "CONNECT") && !strings.HasPrefix(string(b), "HTTP/1.1 400 ") || calls.Load() != 0 {
			t.Errorf("%s: %.60q, %d calls", line, b, calls.Load())
		}
	}
}

// A tenant has no more calls in flight, and starts no more a minute, than it may; others are not held up.
func TestTenantsLimits(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, hold(t, release, ok))
	g := start(t, table(s, "")+"[gateway.tenant.small]\nmax_in_flight=1\n[gateway.tenant.rare]\ncalls_per_minute=2\n[[gateway.route]]\npath='/'\nupstream='up'\nwait='20s'\n")
	done := make(chan int, 8)
	send := func(tenant string) {
		resp, err := tryPost(context.Background(), client(t), g.url+"/chat/completions", chat, "X-Flyball-Tenant", tenant)
		if err != nil {
			done <- 0
			return
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		done <- resp.StatusCode
	}
	go send("small")
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	go send("small")
	go send("large")
	eventually(t, "two in flight", func() bool { n, _ := g.inFlight("up"); return n == 2 && g.proxy.Calls() == 3 })
	for range 3 {
		release <- true
		if c := <-done; c != 200 {
			t.Errorf("status %d", c)
		}
	}
	go send("rare")
	release <- true
	go send("rare")
	release <- true
	<-done
	<-done
	began := time.Now()
	go send("rare") // the next one would be half a minute away, and its route lets it wait for 20 s
	if c := <-done; c != 429 || time.Since(began) > 10*time.Second {
		t.Errorf("status %d after %v, want 429 at once", c, time.Since(began))
	}
	g.idle()
}

// Whether a call waited for its upstream or for its tenant's own limits is in the log, and told to a caller who waited in vain.
func TestWaitForTheTenantIsTold(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, hold(t, release, ok))
	g := start(t, table(s, "")+"[gateway.tenant.small]\nmax_in_flight=1\n[[gateway.route]]\npath='/'\nupstream='up'\nwait='20s'\n[[gateway.route]]\npath='/soon'\nupstream='up'\nwait='300ms'\n")
	first := make(chan int)
	go func() {
		resp, err := tryPost(context.Background(), client(t), g.url+"/chat/completions", chat, "X-Flyball-Tenant", "small")
		if err != nil {
			t.Error(err)
			close(first)
			return
		}
		_ = resp.Body.Close()
		first <- resp.StatusCode
	}()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	resp := post(t, client(t), g.url+"/soon/chat/completions", chat, "X-Flyball-Tenant", "small")
	if e := errorOf(t, read(t, resp)); resp.StatusCode != 429 || !strings.Contains(e.Message, "the limits of the tenant small (gateway.tenant)") {
		t.Errorf("who waited for its tenant is told %s: %s", resp.Status, e.Message)
	}
	release <- true
	if c := <-first; c != 200 {
		t.Errorf("status %d", c)
	}
	lines := g.callLines(2)
	if l := lines[0]; l.Status != 429 || l.TenantWait < 250 || l.TenantWait > l.Wait || l.WaitWhy != "limit" || l.WaitGuard != "tenant/small" {
		t.Errorf("the log says of the one that waited for its tenant: %+v", l)
	}
	if l := lines[1]; l.Status != 200 || l.TenantWait > 100 || l.WaitWhy != "" {
		t.Errorf("the log says of the one that did not: %+v", l)
	}
	g.idle()
}

// A tenant that has as many calls as it may waits for its own, and does not go to a fallback with room.
func TestTenantsLimitIsNoReasonForAFallback(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, hold(t, release, ok))
	var elsewhere atomic.Int64
	other := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { elsewhere.Add(1); ok(w, r) })
	g := start(t, table(s, "")+fmt.Sprintf("[upstream.other]\nbase_url=%q\n[gateway.tenant.small]\nmax_in_flight=1\n[[gateway.route]]\npath='/'\nupstream='up'\nfallback=[{upstream='other'}]\nfallback_after='30ms'\n", other.URL))
	done := make(chan string, 2)
	for range 2 {
		go func() {
			resp, err := tryPost(context.Background(), client(t), g.url+"/chat/completions", chat, "X-Flyball-Tenant", "small")
			if err != nil {
				done <- err.Error()
				return
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			done <- resp.Header.Get("X-Flyball-Upstream")
		}()
	}
	eventually(t, "one is in flight, and one waits", func() bool {
		n, _ := g.inFlight("up")
		return n == 1 && g.proxy.Calls() == 2 && g.waitsFor("tenant/small") == 1
	})
	time.Sleep(100 * time.Millisecond) // more than fallback_after, which must change nothing
	for range 2 {
		release <- true
		if up := <-done; up != "up" {
			t.Errorf("a call went to %s", up)
		}
	}
	if n := elsewhere.Load(); n > 0 {
		t.Errorf("%d calls went to the fallback", n)
	}
	g.idle()
}

// Somebody more urgent who asks for the same gives the shared call his urgency, as long as it waits.
func TestSharedCallIsAsUrgentAsItsMostUrgentCaller(t *testing.T) {
	checkGoroutines(t)
	order := make(chan string, 4)
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		order <- string(b)
		<-release
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"data":[]}`)
	})
	g := start(t, table(s, one))
	text := func(name string) string { return fmt.Sprintf(`{"model":"m","input":%q}`, name) }
	done := make(chan string, 4)
	for i, c := range []struct{ name, priority string }{{"first", "0"}, {"shared", "0"}, {"middle", "3"}, {"shared", "6"}} {
		go func() {
			resp, err := tryPost(context.Background(), client(t), g.url+"/embeddings", text(c.name), "X-Flyball-Priority", c.priority)
			if err != nil {
				done <- err.Error()
				return
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			done <- c.name + " " + resp.Header.Get("X-Flyball-Cache")
		}()
		eventually(t, c.name+" is there", func() bool {
			n, w := g.inFlight("up")
			return int(g.proxy.Calls()) == i+1 && n+w == min(i+1, 3) && (i < 3 || g.cache.Counts().Coalesced == 1)
		})
	}
	for _, want := range []string{"first", "shared", "middle"} {
		if got := <-order; got != text(want) {
			t.Errorf("%s is next, want %s", got, want)
		}
		release <- true
	}
	got := map[string]int{}
	for range 4 {
		got[<-done]++
	}
	for _, want := range []string{"first miss", "shared miss", "shared coalesced", "middle miss"} {
		if got[want] != 1 {
			t.Errorf("the callers got %v", got)
		}
	}
	g.idle()
}

// Pages of other sites whose name leads here read nothing: a browser sends that name.
func TestNamesThatLeadHere(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	s := upstreamServer(t, ok)
	g := start(t, table(s, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'\n")+"[gateway.batches]\ndir='{dir}/spool'")
	_, port, _ := net.SplitHostPort(g.Addr())
	for _, c := range []struct {
		host string
		ok   bool
	}{{"evil.example:" + port, false}, {"localhost.evil.example", false}, {"127.0.0.1:" + port, true}, {"LOCALHOST:" + port, true}, {"[::1]:" + port, true}, {"flyball.localhost", true}} {
		for _, path := range []string{"/ui", "/metrics", "/up/v1/models", "/v1/batches"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", g.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			resp, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if read(t, resp); (resp.StatusCode == 200) != c.ok {
				t.Errorf("%s at %s has status %d", path, c.host, resp.StatusCode)
			}
		}
	}
}

// Who is more urgent goes first, whoever came first.
func TestPriorities(t *testing.T) {
	order := make(chan string, 3)
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		order <- string(b)
		<-release
	})
	g := start(t, table(s, one))
	for i, c := range []struct{ name, priority string }{{"first", "0"}, {"low", "0"}, {"high", "6"}} {
		go func() {
			if resp, err := tryPost(context.Background(), client(t), g.url+"/x", c.name, "X-Flyball-Priority", c.priority); err == nil {
				_ = resp.Body.Close()
			}
		}()
		eventually(t, c.name+" is there", func() bool { n, w := g.inFlight("up"); return n+w == i+1 })
	}
	for _, want := range []string{"first", "high", "low"} {
		if got := <-order; got != want {
			t.Errorf("%s is next, want %s", got, want)
		}
		release <- true
	}
	g.idle()
}

// A call goes to the fallback when the upstream has no quota, cannot be reached, or has no place soon; and waits at the upstream when no
// fallback has one.
func TestFallback(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	var models atomic.Value
	first := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("X-Do") {
		case "quota":
			w.WriteHeader(429)
			_, _ = io.WriteString(w, `{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}`)
		case "wrong":
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":{"message":"no such field"}}`)
		case "hold":
			<-release
			_, _ = io.WriteString(w, "first")
		default:
			_, _ = io.WriteString(w, "first")
		}
	})
	second := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		models.Store(string(b))
		if r.Header.Get("X-Do2") == "hold" {
			<-release
		}
		_, _ = io.WriteString(w, "second")
	})
	const other = `{"messages":[{"role":"user","content":"hi \" model"}], "model" : "m" ,"x":1.0}`
	file := fmt.Sprintf(`
[guard]
law = "fixed"
initial_limit = 1
[upstream.first]
base_url = %q
[upstream.second]
base_url = %q
[upstream.away]
base_url = "http://127.0.0.1:1"
[[gateway.route]]
path = "/a"
upstream = "first"
fallback_after = "50ms"
fallback = [{ upstream = "second", model = "other" }]
[[gateway.route]]
path = "/b"
upstream = "away"
fallback = [{ upstream = "second" }]
`, first.URL, second.URL)
	g := start(t, file)
	try := func(path, body string, header ...string) string {
		resp, err := tryPost(context.Background(), client(t), g.url+path, body, header...)
		if err != nil {
			return err.Error()
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		return string(b)
	}
	if got := try("/a/x", other); got != "first" {
		t.Errorf("the first is free, and the answer is the %s's", got)
	}
	if got := try("/a/x", other, "X-Do", "wrong"); !strings.Contains(got, "no such field") {
		t.Errorf("an answer that no fallback helps with: %s", got)
	}
	if got := try("/a/x", other, "X-Do", "quota"); got != "second" {
		t.Errorf("the first has no quota, and the answer is %s", got)
	}
	if got, want := models.Load(), strings.Replace(other, `"m"`, `"other"`, 1); got != want {
		t.Errorf("the fallback got %s, want %s", got, want)
	}
	if got := try("/b/x", other); got != "second" || models.Load() != other {
		t.Errorf("the first is away, and the answer is %s to %v", got, models.Load())
	}
	if to, _ := g.proxy.Target("away"); to.Guard.Stats().Counts.Outcomes[feedback.Overloaded] != 1 {
		t.Errorf("an upstream that is away was tried more than once, although there is a fallback: %v", to.Guard.Stats().Counts.Outcomes)
	}
	held := make(chan string, 2)
	go func() { held <- try("/a/x", other, "X-Do", "hold") }()
	eventually(t, "one at the first", func() bool { n, _ := g.inFlight("first"); return n == 1 })
	if got := try("/a/x", other); got != "second" {
		t.Errorf("the first is full, and the answer is the %s's", got)
	}
	go func() { held <- try("/a/x", other, "X-Do2", "hold") }()
	eventually(t, "one at the second", func() bool { n, _ := g.inFlight("second"); return n == 1 })
	third := make(chan string)
	go func() { third <- try("/a/x", other) }()
	eventually(t, "one waits at the first", func() bool { _, w := g.inFlight("first"); return w == 1 })
	eventually(t, "one waits at the second", func() bool { _, w := g.inFlight("second"); return w == 1 })
	eventually(t, "it waits at the first again", func() bool { _, w := g.inFlight("first"); return w == 1 })
	release <- true
	release <- true
	if a, b, c := <-held, <-held, <-third; a+b != "firstsecond" && a+b != "secondfirst" || c != "first" {
		t.Errorf("%s, %s and %s", a, b, c)
	}
}

// That the upstream does not accept the gateway's key is no matter of the caller's key: it is told so, or gets the fallback's answer. What a 401 says
// of the request, while there is a key that works, is handed on.
func TestKeysNotAccepted(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY", "sk-upstream")
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		code := "invalid_api_key"
		if r.Header.Get("Openai-Organization") != "" {
			code = "mismatched_organization"
		}
		w.WriteHeader(401)
		_, _ = fmt.Fprintf(w, `{"error":{"message":"Incorrect API key provided: sk-upstream","code":%q}}`, code)
	})
	other := upstreamServer(t, ok)
	const routes = "[[gateway.route]]\npath='/a'\nupstream='up'\nwait='1s'\n[[gateway.route]]\npath='/b'\nupstream='up'\nwait='1s'\nfallback=[{upstream='other'}]\n"
	file := table(s, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'") + fmt.Sprintf("[upstream.other]\nbase_url=%q\n", other.URL) + routes
	g := start(t, file)
	resp := post(t, client(t), g.url+"/a/chat/completions", chat, "OpenAI-Organization", "org-x")
	if body := read(t, resp); resp.StatusCode != 401 || !strings.Contains(body, "mismatched_organization") {
		t.Errorf("the caller's mistake: %s %s, want the upstream's own answer", resp.Status, body)
	}
	for _, path := range []string{"/a", "/a"} { // by the call that finds out, and by one after it
		resp := post(t, client(t), g.url+path+"/chat/completions", chat)
		if e := errorOf(t, read(t, resp)); resp.StatusCode != 503 || e.Code != "service_unavailable" || !strings.Contains(e.Message, "unauthorized") || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %+v, want a 503 that says why", path, resp.Status, e)
		}
	}
	g = start(t, file)
	for range 2 {
		resp := post(t, client(t), g.url+"/b/chat/completions", chat)
		if body := read(t, resp); resp.StatusCode != 200 || resp.Header.Get("X-Flyball-Upstream") != "other" {
			t.Errorf("%s %s, want the fallback's answer", resp.Status, body)
		}
	}
}

// An upstream with which no connection comes about cannot be reached, whatever is in the way: nothing of the call got there, so it goes to the
// fallback.
func TestFallbackWithoutConnection(t *testing.T) {
	other := upstreamServer(t, ok)
	untrusted := httptest.NewTLSServer(http.HandlerFunc(ok))
	defer untrusted.Close()
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	plain := upstreamServer(t, ok)
	for name, base := range map[string]string{"certificate": untrusted.URL, "no TLS": strings.Replace(plain.URL, "http:", "https:", 1)} {
		g := start(t, fmt.Sprintf("[upstream.up]\nbase_url=%q\n[upstream.other]\nbase_url=%q\n[[gateway.route]]\npath='/'\nupstream='up'\nfallback=[{upstream='other'}]\n", base, other.URL))
		resp := post(t, client(t), g.url+"/chat/completions", chat)
		if body := read(t, resp); resp.StatusCode != 200 || resp.Header.Get("X-Flyball-Upstream") != "other" {
			t.Errorf("%s: %s %s, want the fallback's answer", name, resp.Status, body)
		}
	}
	// What got there may have been done, and is sent nowhere else.
	cut := raw(t, "")
	g := start(t, cut+fmt.Sprintf("[upstream.other]\nbase_url=%q\n[[gateway.route]]\npath='/'\nupstream='up'\nfallback=[{upstream='other'}]\n", other.URL))
	resp := post(t, client(t), g.url+"/chat/completions", chat)
	if body := read(t, resp); resp.StatusCode != 502 || !strings.Contains(body, "broke off before it answered") || strings.Contains(body, "cannot be reached") {
		t.Errorf("a call that was cut: %s %s, want 502 and what happened", resp.Status, body)
	}
}

// A budget of tokens counts what an answer used, also when its caller takes it compressed, as SDKs do: it is asked for without. 2,000 tokens were
// counted for each such call, whatever it used.
func TestBudgetOfTokensOfCompressedAnswers(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", r.Header.Get("Accept-Encoding"))
		if r.Header.Get("Accept-Encoding") != "gzip" {
			ok(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, answered)
		_ = z.Close()
	})
	for kind, want := range map[string]struct {
		left     int64
		encoding string
	}{"tokens": {99_996, "identity"}, "requests": {99_999, "gzip"}} {
		g := start(t, table(s, "[[upstream.up.budget.limit]]\nkind = '"+kind+"'\nlimit = 100000\nper = '8784h'"))
		resp := post(t, client(t), g.url+"/up/chat/completions", chat, "Accept-Encoding", "gzip")
		_ = read(t, resp)
		g.idle()
		if left := g.proxy.Upstreams()[0].Guards[0].Explain(0).Budgets[0].Left; left != want.left || resp.Header.Get("Content-Encoding") != want.encoding {
			t.Errorf("of 100000 %s there are %d left, want %d; the answer has the encoding %q, want %q", kind, left, want.left, resp.Header.Get("Content-Encoding"), want.encoding)
		}
	}
}
