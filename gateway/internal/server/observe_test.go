package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/proxy"
)

// collect returns a collector, and the spans that it is sent.
func collect(t *testing.T) (*httptest.Server, <-chan map[string]any) {
	spans := make(chan map[string]any, 10)
	return upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []map[string]any }
			}
		}
		b, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(b, &m); err != nil {
			t.Error(err)
		}
		for _, s := range m.ResourceSpans[0].ScopeSpans[0].Spans {
			spans <- s
		}
	}), spans
}

// Who waits behind a call that the upstream told to come back later has waited for that, which the log and the span say, as they do of who is refused.
func TestWhyACallWaitedIsTold(t *testing.T) {
	checkGoroutines(t)
	var calls atomic.Int32
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		ok(w, r)
	})
	collector, spans := collect(t)
	g := start(t, table(s, one)+"[gateway.trace]\nendpoint='"+collector.URL+"/v1/traces'\n[[gateway.route]]\npath='/'\nupstream='up'\nwait='20s'\n[[gateway.route]]\npath='/soon'\nupstream='up'\nwait='500ms'\n")
	var all sync.WaitGroup
	defer all.Wait()
	call := func(path string) {
		all.Go(func() {
			resp, err := tryPost(context.Background(), client(t), g.url+path+"/chat/completions", chat)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
	}
	guard, err := g.limits.Guard("up")
	if err != nil {
		t.Fatal(err)
	}
	call("")
	eventually(t, "a pause, and the first waits again", func() bool { return guard.Stats().Paused > 0 })
	before := guard.Stats().Waiting
	call("")
	eventually(t, "the second waits", func() bool { return guard.Stats().Waiting > before })
	call("/soon")
	lines := g.callLines(3)
	for _, l := range lines {
		switch {
		case l.Status == 429 && (l.WaitWhy != "pause" || l.WaitGuard != "up" || l.Wait > 400 || l.WaitBehind < 1 || !strings.Contains(l.Error, ", pause binds)")),
			l.Status == 200 && l.Sent == 1 && (l.WaitWhy != "pause" || l.WaitGuard != "up" || l.Wait < 500),
			l.Sent == 2 && l.WaitWhy != "", l.Status != 200 && l.Status != 429:
			t.Errorf("the log says %+v", l)
		}
	}
	told := 0
	for range 3 {
		span := fmt.Sprint((<-spans)["attributes"])
		if strings.Contains(span, "flyball.wait_why") && strings.Contains(span, "pause") && strings.Contains(span, "flyball.wait_guard") {
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d spans say that calls waited for a pause, want 2", told)
	}
	g.idle()
}

// A call is a span below the caller's, and the upstream's is below that. A collector that is gone holds nobody up.
func TestSpans(t *testing.T) {
	checkGoroutines(t)
	var parent, state atomic.Value
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		parent.Store(r.Header.Get("Traceparent"))
		state.Store(r.Header.Get("Tracestate"))
		ok(w, r)
	})
	collector, spans := collect(t)
	g := start(t, table(s, "")+"[gateway.trace]\nendpoint='"+collector.URL+"/v1/traces'\n")
	const trace = "0af7651916cd43dd8448eb211c80319c"
	_ = read(t, post(t, client(t), g.url+"/up/chat/completions", chat, "Traceparent", "00-"+trace+"-b7ad6b7169203331-01", "Tracestate", "a=b"))
	span := <-spans
	if span["traceId"] != trace || span["parentSpanId"] != "b7ad6b7169203331" || span["name"] != "POST /up/" {
		t.Errorf("the span is %v", span)
	}
	if want := "00-" + trace + "-" + span["spanId"].(string) + "-01"; parent.Load() != want {
		t.Errorf("the upstream got the parent %v, want %s", parent.Load(), want)
	}
	if state.Load() != "a=b" {
		t.Errorf("the upstream got the state %v, want the caller's", state.Load())
	}
	// A trace that begins here has nothing of a state that goes with another one, or with none that can be read (W3C Trace Context, 4.3).
	for _, given := range []string{"00-" + trace + "-0000000000000000-01", ""} {
		_ = read(t, post(t, client(t), g.url+"/up/chat/completions", chat, "Traceparent", given, "Tracestate", "a=b"))
		if span := <-spans; span["traceId"] == trace || state.Load() != "" {
			t.Errorf("with the parent %q, the trace is %v, and the upstream got the state %q", given, span["traceId"], state.Load())
		}
	}
	// Without a collector, a caller's context passes as it is.
	g = start(t, table(s, ""))
	const given = "00-" + trace + "-b7ad6b7169203331-01"
	_ = read(t, post(t, client(t), g.url+"/up/chat/completions", chat, "Traceparent", given, "Tracestate", "a=b"))
	if parent.Load() != given {
		t.Errorf("the upstream got %v", parent.Load())
	}
	g = start(t, table(s, "")+"[gateway.trace]\nendpoint='http://127.0.0.1:1/v1/traces'\n")
	for range 5 {
		_ = read(t, post(t, client(t), g.url+"/up/chat/completions", chat))
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if g.tracer.Lost() != 5 || !strings.Contains(g.logged(), "spans are lost") {
		t.Errorf("%d spans lost; the log says %s", g.tracer.Lost(), g.logged())
	}
}

// Where the page and the metrics are, and where not.
func TestPagesPlaces(t *testing.T) {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(418) })
	status := func(url string) int {
		resp, err := client(t).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.ReadAll(resp.Body)
		return resp.StatusCode
	}
	g := start(t, table(s, ""))
	for path, want := range map[string]int{"/ui": 200, "/metrics": 200, "/healthz": 200, "/readyz": 200, "/other": 418} {
		if got := status(g.url + path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	g = start(t, table(s, "")+"[gateway]\nadmin='127.0.0.1:0'\n")
	for path, want := range map[string]int{"/ui": 418, "/metrics": 418, "/healthz": 200, "/readyz": 200} {
		if got := status(g.url + path); got != want {
			t.Errorf("with admin, %s at listen: %d, want %d", path, got, want)
		}
	}
	for path, want := range map[string]int{"/ui": 200, "/metrics": 200, "/healthz": 200, "/readyz": 200, "/": 200, "/other": 404} {
		if got := status("http://" + g.AdminAddr() + path); got != want {
			t.Errorf("%s at admin: %d, want %d", path, got, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, one+"queue=0"))
	_ = read(t, post(t, client(t), g.url+"/up/chat/completions", chat))
	_ = read(t, post(t, client(t), g.url+"/up/embeddings", embed))
	_ = read(t, post(t, client(t), g.url+"/up/embeddings", embed))
	g.idle()
	resp, err := client(t).Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body := read(t, resp)
	for _, want := range []string{
		`flyball_outcomes_total{guard="up",class="ok"} 2`,
		`flyball_gateway_calls_total{route="/up/",upstream="up",status="200",code="",cache=""} 1`,
		`flyball_gateway_calls_total{route="/up/",upstream="up",status="200",code="",cache="miss"} 1`,
		`flyball_gateway_calls_total{route="/up/",upstream="",status="200",code="",cache="hit"} 1`,
		"flyball_gateway_cache_hits_total 1",
		"flyball_gateway_calls 0",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("the metrics lack %s", want)
		}
	}
	// Each family is declared once, and each line is of one that is declared.
	declared := map[string]bool{}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			if declared[name] {
				t.Errorf("%s is declared twice", name)
			}
			declared[name] = true
		} else if !strings.HasPrefix(line, "#") && strings.TrimSpace(line) != "" {
			name := line[:strings.IndexAny(line, "{ ")]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if !declared[name] && !declared[line[:strings.IndexAny(line, "{ ")]] {
				t.Errorf("%s is not declared", name)
			}
		}
	}
}

// twoKeys returns an upstream that refuses the keys of bad, and sets two for it.
func twoKeys(t *testing.T) (s *httptest.Server, bad *sync.Map) {
	bad = new(sync.Map)
	s = upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, out := bad.Load(r.Header.Get("Authorization")); out {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		ok(w, r)
	})
	t.Setenv("FLYBALL_TEST_KEY_A", "sk-a")
	t.Setenv("FLYBALL_TEST_KEY_B", "sk-b")
	return s, bad
}

// The log says when a key goes out of service and when it comes back, and how many are left.
func TestKeysAreLogged(t *testing.T) {
	s, bad := twoKeys(t)
	g := start(t, table(s, "key_probe='1s'\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_A'\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_B'"))
	c := client(t)
	call := func() int {
		resp := post(t, c, g.url+"/v1/chat/completions", `{"model":"m"}`)
		read(t, resp)
		return resp.StatusCode
	}
	bad.Store("Bearer sk-a", nil)
	for range 3 {
		if status := call(); status != 200 {
			t.Fatalf("status %d with a key left", status)
		}
	}
	bad.Store("Bearer sk-b", nil)
	eventually(t, "the last key is out", func() bool { call(); return strings.Contains(g.logged(), `"in_service":0,"keys":2`) })
	bad.Clear()
	eventually(t, "a key is back", func() bool { call(); return strings.Contains(g.logged(), "a key is back in service") })
	for _, want := range []string{
		`"level":"WARN","msg":"a key is out of service","upstream":"up","key":"key:`, `"why":"unauthorized","probe":"`, `"in_service":1,"keys":2}`,
		`"level":"ERROR","msg":"a key is out of service"`, `"level":"INFO","msg":"a key is back in service","upstream":"up","key":"key:`,
	} {
		if log := g.logged(); !strings.Contains(log, want) || strings.Contains(log, "sk-a") {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
}

// The pool of an upstream that was gone for a while is the one from before: what becomes of its keys is told once, and those that were out count.
func TestKeysOfAnUpstreamThatComesBack(t *testing.T) {
	s, bad := twoKeys(t)
	file := table(s, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_A'\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_B'\n[[gateway.route]]\npath='/up'\nupstream='up'\nwait='200ms'\n")
	other := fmt.Sprintf("[upstream.other]\nbase_url = %q\n", s.URL)
	g := start(t, file+other)
	c := client(t)
	logs := func(want string) func() bool {
		return func() bool {
			read(t, post(t, c, g.url+"/up/chat/completions", chat))
			return strings.Contains(g.logged(), want)
		}
	}
	bad.Store("Bearer sk-a", nil)
	eventually(t, "the first key is out", logs(`"in_service":1,"keys":2`))
	for _, text := range []string{other, file + other, other, file + other} {
		g.write(text)
		g.onReload(g.limits.Reload())
	}
	bad.Store("Bearer sk-b", nil)
	eventually(t, "the last key is out", logs(`"level":"ERROR","msg":"a key is out of service"`))
	if n := strings.Count(g.logged(), "a key is out of service"); n != 2 {
		t.Errorf("the log tells %d times that a key is out, want twice:\n%s", n, g.logged())
	}
}

// noFiles is a listener of a process that has too many open files, and then is closed.
type noFiles struct {
	net.Listener
	left int
}

func (l *noFiles) Accept() (net.Conn, error) {
	if l.left--; l.left < 0 {
		return nil, net.ErrClosed
	}
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

func (*noFiles) Close() error { return nil }

// That no more connections can be taken is in the log, whatever its level; what strangers send is not.
func TestNoMoreConnectionsIsLogged(t *testing.T) {
	g := start(t, "")
	srv := g.httpServer(http.NotFoundHandler(), g.settings.Load())
	_ = srv.Serve(&noFiles{left: 2})
	srv.ErrorLog.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
	srv.ErrorLog.Print(`http: TLS handshake error from 192.0.2.1:1: tls: client requested unsupported application protocols (["Accept error"])`)
	log := g.logged()
	if !strings.Contains(log, `"level":"ERROR","msg":"http: Accept error: accept: accept4: too many open files`) || strings.Contains(log, "192.0.2.1") {
		t.Errorf("the log says %s", log)
	}
}

// The sums of how long calls took do not fall: 1,000 at a time are 292 years in 106 days.
func TestLongSums(t *testing.T) {
	g := start(t, "")
	const years = 200 * 365 * 24 * time.Hour
	for range 3 {
		g.onCall(&proxy.Record{Route: "/long", Status: 200, Wait: years, First: years, Total: years})
	}
	w := httptest.NewRecorder()
	g.serveMetrics(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range []string{"wait_", "first_", ""} {
		if want := "flyball_gateway_" + name + `seconds_total{route="/long/",upstream="",status="200",code="",cache=""} 1.89216e+10` + "\n"; !strings.Contains(w.Body.String(), want) {
			t.Errorf("/metrics has no line %s", want)
		}
	}
}

// docs/gateway.md lists the gateway's own metrics, and the rules for alerts use none that there is not.
func TestDocumentsListTheMetrics(t *testing.T) {
	read := func(file string) string {
		b, err := os.ReadFile("../../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	s := upstreamServer(t, ok)
	t.Setenv("FLYBALL_TEST_KEY", "sk-1")
	g := start(t, table(s, "")+"[upstream.keyed]\nbase_url = 'http://127.0.0.1:1'\n[[upstream.keyed.key]]\nenv = 'FLYBALL_TEST_KEY'\n")
	_ = post(t, client(t), g.url+"/up/chat/completions", chat).Body.Close()
	g.callLines(1)
	resp, err := client(t).Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want, known := "| Metric | Type | Meaning |\n| --- | --- | --- |\n", read("docs/metrics.md")
	for _, m := range regexp.MustCompile(`(?m)^# HELP (flyball_gateway_\w+) (.*)\n# TYPE \w+ (\w+)$`).FindAllStringSubmatch(string(text), -1) {
		want += fmt.Sprintf("| `%s` | %s | %s |\n", m[1], m[3], m[2])
	}
	_, got, _ := strings.Cut(read("docs/gateway.md"), "<!-- metrics of the gateway -->\n")
	if got, _, _ = strings.Cut(got, "<!-- end of metrics of the gateway -->"); got != want {
		t.Errorf("docs/gateway.md lists\n%s\nwant\n%s", got, want)
	}
	guards := "" // and pools
	for _, name := range regexp.MustCompile(`(?m)^# TYPE (\w+) `).FindAllStringSubmatch(string(text), -1) {
		guards += "`" + name[1] + "`"
	}
	for _, file := range []string{"gateway/deploy/alerts.yaml", "docs/grafana.json"} {
		for _, name := range regexp.MustCompile(`\bflyball_\w+`).FindAllString(read(file), -1) {
			base := name
			for _, part := range []string{"_bucket", "_sum"} { // of a histogram
				base = strings.TrimSuffix(base, part)
			}
			if base = "`" + base + "`"; !strings.Contains(known+want, base) || !strings.Contains(guards, base) {
				t.Errorf("%s uses %s, which does not exist", file, name)
			}
		}
	}
}

// docs/grafana.json is a dashboard whose panels have places and numbers of their own, and queries that Prometheus can read.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct {
			List []struct{ Name, Definition string }
		}
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := []string{"1"} // of label_replace
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name)
	}
	ids, taken, exprs := map[int]string{}, map[[2]int]string{}, []string{}
	for _, p := range dashboard.Panels {
		if other := ids[p.ID]; other != "" || p.Title == "" {
			t.Errorf("the panels %q and %q have the number %d", other, p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		if at := p.GridPos; at.X+at.W > 24 || at.W == 0 || at.H == 0 {
			t.Errorf("the panel %q is at %+v", p.Title, at)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" {
					t.Fatalf("the panel %q covers %q", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("the panel %q has %d queries", p.Title, len(p.Targets))
		}
		for _, q := range p.Targets {
			for _, name := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if name[1] != "__rate_interval" && !slices.Contains(variables, name[1]) {
					t.Errorf("the panel %q uses $%s, which does not exist", p.Title, name[1])
				}
			}
			exprs = append(exprs, strings.ReplaceAll(q.Expr, "$__rate_interval", "5m"))
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "promtool") {
			t.Fatal(err)
		}
		t.Skip("no promtool in PATH: the dashboard's queries are not read")
	}
	rules := "groups: [{name: dashboard, rules: [\n"
	for i, e := range exprs {
		rules += fmt.Sprintf("{record: 'a:%d', expr: %q},\n", i, e)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules+"]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// The rules for alerts count what callers are told: refusals and failures of the gateway's own and of the upstream, and nothing else.
func TestAlertsCountWhatCallersAreTold(t *testing.T) {
	b, err := os.ReadFile("../../../gateway/deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	label := regexp.MustCompile(`(\w+)(=~|!~|=|!=)"([^"]*)"`)
	// counts reports whether a rule selects a series of calls, given by its labels.
	counts := func(alert string, series map[string]string) bool {
		_, rule, ok := strings.Cut(string(b), "alert: "+alert+"\n")
		if !ok {
			t.Fatalf("there is no rule %s", alert)
		}
		rule, _, _ = strings.Cut(rule, "alert: ")
		for _, selector := range regexp.MustCompile(`flyball_gateway_calls_total\{([^}]*)\}`).FindAllStringSubmatch(rule, -1) {
			all := true
			for _, m := range label.FindAllStringSubmatch(selector[1], -1) {
				same := m[3] == series[m[1]]
				if strings.HasSuffix(m[2], "~") {
					same = regexp.MustCompile("^(?:" + m[3] + ")$").MatchString(series[m[1]])
				}
				all = all && same != strings.HasPrefix(m[2], "!")
			}
			if all {
				return true
			}
		}
		return false
	}
	var release chan struct{}
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer, late := strings.CutPrefix(r.Header.Get("Answer"), "late ")
		if late {
			<-release
		}
		status, _ := strconv.Atoi(answer)
		switch answer {
		case "none":
			<-r.Context().Done()
			return
		case "cut", "stall":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {}\n\n")
			_ = http.NewResponseController(w).Flush()
			if answer == "stall" {
				<-r.Context().Done()
			}
			panic(http.ErrAbortHandler)
		case "half":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "{")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		said := answered
		if inside := map[string]string{
			"throttled":  `{"base_resp":{"status_code":1002,"status_msg":"rate limit"}}`,
			"poor":       `{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}`,
			"overloaded": "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
		}[answer]; inside != "" {
			status, said = 200, inside
		}
		w.Header().Set("Content-Type", typeOf(said))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, said)
	})
	for answer, want := range map[string]string{
		"200": "", "400": "", "404": "", "429": "FlyballCallersRefused", "503": "FlyballCallersRefused", "529": "FlyballCallersRefused",
		"500": "FlyballUpstreamFails", "502": "FlyballUpstreamFails", "none": "FlyballUpstreamFails",
		// What the status of an answer that had begun does not tell.
		"cut": "FlyballUpstreamFails", "stall": "FlyballUpstreamFails", "half": "FlyballUpstreamFails", "gone": "",
		"late 200": "", "late 400": "", "late 429": "FlyballCallersRefused", "late 500": "FlyballUpstreamFails",
		// Nor that of a refusal behind a 200 that stays one.
		"throttled": "FlyballCallersRefused", "poor": "FlyballCallersRefused", "overloaded": "FlyballCallersRefused", "shared throttled": "FlyballCallersRefused",
		"late throttled": "FlyballCallersRefused", "late overloaded": "FlyballCallersRefused", "shared 200": "",
	} {
		route, body, share := "wait='300ms'\n", chat, "off"
		if strings.HasPrefix(answer, "late ") {
			route, body = "keep_alive='10ms'\n", chatStream
			release = make(chan struct{})
		}
		if answer == "stall" {
			route = "stall='100ms'\n"
		}
		if strings.HasPrefix(answer, "shared ") {
			share, route = "on", "cache='asked'\n"
		}
		g := start(t, table(s, "[upstream.up.retry]\nmax_attempts=1\n")+"[[gateway.route]]\npath='/'\nupstream='up'\n"+route)
		told := strings.TrimPrefix(strings.Replace(answer, "gone", "stall", 1), "shared ")
		resp, err := tryPost(t.Context(), client(t), g.url+"/chat/completions", body, "Answer", told, "X-Flyball-Cache", share)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(answer, "late ") {
			close(release)
		}
		if answer != "gone" { // else the caller leaves in the middle
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		_ = resp.Body.Close()
		g.callLines(1)
		resp, err = client(t).Get(g.url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		series := map[string]string{}
		_, text, _ := strings.Cut(read(t, resp), "flyball_gateway_calls_total{")
		text, _, _ = strings.Cut(text, "}")
		for _, m := range label.FindAllStringSubmatch(text, -1) {
			series[m[1]] = m[3]
		}
		for _, alert := range []string{"FlyballCallersRefused", "FlyballUpstreamFails"} {
			if got := counts(alert, series); got != (alert == want) {
				t.Errorf("the answer %s, with the labels %v, counts for %s: %v", answer, series, alert, got)
			}
		}
	}
}

// A call whose answer goes on is told from one that gets none, and a file that is not in force is, for as long as it is not.
func TestMetricsOfWhatGoesOn(t *testing.T) {
	checkGoroutines(t)
	release := make(chan struct{})
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Late") != "" {
			<-release
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	toml := table(s, "")
	g := start(t, toml)
	shows := func(lines ...string) {
		t.Helper()
		eventually(t, strings.Join(lines, ", "), func() bool {
			resp, err := client(t).Get(g.url + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			text := read(t, resp)
			for _, l := range lines {
				if !strings.Contains(text, "\nflyball_gateway_"+l+"\n") {
					return false
				}
			}
			return true
		})
	}
	shows("calls 0", "answering 0", "last_reload_successful 1")
	var all sync.WaitGroup
	for _, late := range []string{"", "", "1"} {
		all.Go(func() {
			resp, err := tryPost(t.Context(), client(t), g.url+"/chat/completions", chatStream, "Late", late)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
	}
	shows("calls 3", "answering 2")
	g.write(toml + "nonsense\n")
	shows("last_reload_successful 0")
	g.write(toml)
	shows("last_reload_successful 1", "calls 3", "answering 2")
	close(release)
	all.Wait()
	shows("calls 0", "answering 0")
	g.idle()
}

// What the gateway says itself has an id, by which its line in the log is found: the caller's, or one of its own. The upstream's is in the log, too.
func TestRequestIDs(t *testing.T) {
	checkGoroutines(t)
	release := make(chan struct{})
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Late") != "" {
			<-release
		}
		w.Header().Set("X-Request-Id", "req_up")
		ok(w, r)
	})
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/a'\nupstream='up'\nkeep_alive='10ms'\n")
	logged := map[string]string{} // upstream_request_id by request_id
	for i, c := range []struct{ path, body, field, given, want, upstream string }{
		{"/none/chat/completions", chat, "X-Request-Id", "", "^fb_[0-9a-f]{32}$", ""},
		{"/none/messages", chat, "Request-Id", "", "^fb_[0-9a-f]{32}$", ""},
		{"/none/messages", chat, "Request-Id", "nginx-1", "^nginx-1$", ""},
		{"/none/responses", chat, "X-Request-Id", strings.Repeat("x", 200), "^fb_[0-9a-f]{32}$", ""},
		{"/none/responses", chat, "X-Request-Id", "a \" b", "^fb_[0-9a-f]{32}$", ""},
		{"/a/chat/completions", chat, "X-Request-Id", "nginx-2", "^req_up$", "req_up"},
		{"/a/chat/completions", chatStream, "X-Request-Id", "nginx-3", "^nginx-3$", "req_up"},
	} {
		late := ""
		if c.body == chatStream {
			late = "1"
		}
		resp := post(t, client(t), g.url+c.path, c.body, "X-Request-Id", c.given, "Late", late)
		if late != "" {
			close(release)
		}
		_ = read(t, resp)
		id := resp.Header.Get(c.field)
		if !regexp.MustCompile(c.want).MatchString(id) {
			t.Errorf("%s: %s is %q, want %s", c.path, c.field, id, c.want)
		}
		g.callLines(i + 1)
		var l struct {
			ID       string `json:"request_id"`
			Upstream string `json:"upstream_request_id"`
		}
		lines := regexp.MustCompile(`(?m)^.*"msg":"call".*$`).FindAllString(g.logged(), -1)
		if err := json.Unmarshal([]byte(lines[i]), &l); err != nil {
			t.Fatal(err)
		}
		if c.want == "^req_up$" { // the caller has the upstream's
			id = ""
		}
		if l.ID != id || l.Upstream != c.upstream {
			t.Errorf("%s: the log has %+v, want %q and %q", c.path, l, id, c.upstream)
		}
		logged[l.ID] = l.Upstream
	}
	if len(logged) != 7 {
		t.Errorf("the log has the ids %v, want 7 that differ", logged)
	}
	g.idle()
}
