package server

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// says answers with a name, the path and the body's first bytes.
func says(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprintf(w, "%s %s %.40s", name, r.URL.Path, body)
	}
}

const mini = `{"model":"gpt-mini","temperature":0,"messages":[]}`

// twoModels is a file with the upstreams up, and mini for the calls below /up of models that are called gpt-mini or begin with it.
func twoModels(t *testing.T, up, other http.HandlerFunc) string {
	t.Helper()
	return table(upstreamServer(t, up), "") + "[upstream.mini]\nbase_url='" + upstreamServer(t, other).URL + "/v1'\n" +
		"[[gateway.route]]\npath='/up'\nmodels=['gpt-mini','gpt-mini-*']\nupstream='mini'\n"
}

// upload returns a form with a recording before the model.
func upload(t *testing.T, model string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	f, err := w.CreateFormFile("file", "speech.mp3")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(bytes.Repeat([]byte("\r\n--not the boundary"), 50_000))
	if err := w.WriteField("model", model); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	return w.FormDataContentType(), b.String()
}

// One base URL leads to several upstreams, by the model of each call, wherever it is named and whatever is before it.
func TestModelsPart(t *testing.T) {
	file := twoModels(t, says("up"), says("mini"))
	long := `{"messages":[{"role":"user","content":"` + strings.Repeat(`{\"model\":\"x\"} `, 100_000) + `"}],"model":%q}`
	for _, memory := range []string{"", "[gateway.server]\nmemory = 0\n"} { // bodies in memory, and in files
		g := start(t, file+"[[gateway.route]]\npath='/up/deep'\nmodels=['deep']\nupstream='mini'\n"+memory)
		for _, c := range []struct{ path, kind, body, want string }{
			{"/up/chat/completions", "", mini, "mini /v1/chat/completions " + mini[:40]},
			{"/up/v1/chat/completions", "", mini, "mini /v1/chat/completions "},
			{"/up/chat/completions", "", `{"model":"gpt-mini-2026"}`, `mini /v1/chat/completions {"model":"gpt-mini-2026"}`},
			{"/up/chat/completions", "", `{"model":"gpt-minimal"}`, "up "},
			{"/up/chat/completions", "", `{"model":"gpt"}`, `up /v1/chat/completions {"model":"gpt"}`},
			{"/up/chat/completions", "", fmt.Sprintf(long, "gpt-mini"), "mini "},
			{"/up/chat/completions", "", fmt.Sprintf(long, "gpt"), "up "},
			{"/up/chat/completions", "", `{"model":["gpt-mini"]}`, "up "},
			{"/up/chat/completions", "", `no JSON`, "up "},
			{"/up/chat/completions", "text/plain", mini, "up "},
			{"/up/audio/transcriptions", "form", "gpt-mini", "mini /v1/audio/transcriptions --"},
			{"/up/audio/transcriptions", "form", "whisper", "up "},
			{"/up/models/gpt-mini:generateContent", "", `{}`, "mini /v1/models/gpt-mini:generateContent {}"},
			{"/up/deployments/gpt-mini/chat/completions", "", `{"model":"gpt"}`, "mini "},
			{"/up/realtime?model=gpt-mini", "", "", "mini "},
			{"/up/realtime?model=gpt-mini", "upgrade", "", "mini "},
			{"/up/realtime", "upgrade", "", "up "},
			{"/up/models", "", "", "up "},
			{"/up/files", "form", "gpt-mini", "up /v1/files "},
			{"/up/batches", "", mini, "up /v1/batches "},
			{"/up/deep/chat", "", `{"model":"deep"}`, "mini /v1/chat "},
			{"/up/deep/chat", "", mini, "mini /v1/deep/chat "}, // by a shorter path, as there is no route of the longer one for it
			{"/up/deep/chat", "", `{"model":"gpt"}`, "up /v1/deep/chat "},
			{"/mini/chat/completions", "", `{"model":"gpt"}`, "mini "}, // by its name, as without routes
			{"/v1/chat/completions", "", `{"model":"gpt"}`, "up "},     // the only one of the others takes every other path
		} {
			method, header := "POST", http.Header{"Content-Type": {"application/json"}}
			body := c.body
			switch c.kind {
			case "":
			case "upgrade":
				method, header = "GET", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
			case "form":
				header["Content-Type"][0], body = upload(t, c.body)
			default:
				header["Content-Type"][0] = c.kind
			}
			req, err := http.NewRequestWithContext(t.Context(), method, g.url+c.path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = header
			resp, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); resp.StatusCode != 200 || !strings.HasPrefix(got, c.want) {
				t.Errorf("%s with %.60s: %s %.200s, want %s", c.path, c.body, resp.Status, got, c.want)
			}
		}
	}
}

// What one model is refused does not hold up the others, with one base URL for both.
func TestModelsDoNotHoldEachOtherUp(t *testing.T) {
	refuses := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	g := start(t, twoModels(t, ok, refuses))
	if resp := post(t, client(t), g.url+"/up/chat/completions", mini); resp.StatusCode != 429 {
		t.Errorf("the model that is refused: %s", resp.Status)
	}
	for range 3 {
		if resp := post(t, client(t), g.url+"/up/chat/completions", chat); resp.StatusCode != 200 {
			t.Errorf("the other model: %s %s", resp.Status, read(t, resp))
		}
	}
	went := map[string]int{}
	for _, l := range g.callLines(4) {
		went[l.Upstream]++
	}
	if went["up"] != 3 || went["mini"] != 1 {
		t.Errorf("the log says that calls went to %v", went)
	}
	resp, err := client(t).Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics := read(t, resp)
	for _, want := range []string{
		`flyball_gateway_calls_total{route="/up/",upstream="up",status="200",code="",cache=""} 3`,
		`flyball_gateway_calls_total{route="/up/",upstream="mini",status="429",code="`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// A call that no route is for is told of its model, and the log says it at the start.
func TestModelWithoutARoute(t *testing.T) {
	s := upstreamServer(t, says("up"))
	g := start(t, table(s, "")+"[[gateway.route]]\npath='/only'\nmodels=['m']\nupstream='up'\n[[gateway.route]]\npath='/up'\nupstream='up'\n")
	for body, want := range map[string]string{
		`{"model":"other"}`: `at /only/ the gateway has no route for the model "other"; it has some for m`,
		`{}`:                `at /only/ the gateway has routes for m only, and no model can be read from this call`,
	} {
		resp := post(t, client(t), g.url+"/only/chat/completions", body)
		if e := errorOf(t, read(t, resp)); resp.StatusCode != 404 || e.Code != "not_found" || e.Message != want || resp.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("%s: %s %+v, want %s", body, resp.Status, e, want)
		}
	}
	if resp := post(t, client(t), g.url+"/only/chat/completions", chat); resp.StatusCode != 200 {
		t.Errorf("the model that has a route: %s", resp.Status)
	}
	eventually(t, "the log says what has no route", func() bool {
		got := g.logged()
		return strings.Count(got, `"key":"gateway.route[0]"`) == 1 && strings.Contains(got, `"model":"other"`)
	})
}

// A reload gives a model another route while calls of it are on their way, and those end as they began.
func TestModelsAreReloaded(t *testing.T) {
	in, next := make(chan bool), make(chan bool)
	file := twoModels(t, says("up"), func(w http.ResponseWriter, r *http.Request) {
		in <- true
		<-next
		says("mini")(w, r)
	})
	g := start(t, file)
	ended := make(chan string)
	go func() {
		ended <- read(t, post(t, client(t), g.url+"/up/x", mini))
	}()
	<-in
	g.write(strings.Replace(file, "'gpt-mini',", "", 1))
	g.onReload(g.limits.Reload())
	if got := read(t, post(t, client(t), g.url+"/up/x", mini)); !strings.HasPrefix(got, "up ") {
		t.Errorf("after the reload: %s", got)
	}
	close(next)
	if got := <-ended; !strings.HasPrefix(got, "mini ") {
		t.Errorf("the call that was there: %s", got)
	}
}

// A fallback is asked for its model, and is where it is, whatever has a route for that model. The cache keeps answers apart by where they are from.
func TestModelsFallBackAndAreCached(t *testing.T) {
	var calls atomic.Int32
	file := twoModels(t, says("up"), func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, `{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}`)
			return
		}
		says("mini")(w, r)
	}) + "fallback=[{ upstream='up', model='gpt-mini-large' }]\n"
	g := start(t, file)
	for i, c := range []struct{ body, want, cache string }{
		{mini, "mini ", "miss"},
		{mini, "mini ", "hit"},
		{strings.Replace(mini, "mini", "mini-2", 1), `up /v1/chat/completions {"model":"gpt-mini-large"`, "miss"},
	} {
		resp := post(t, client(t), g.url+"/up/chat/completions", c.body)
		if got := read(t, resp); resp.StatusCode != 200 || !strings.HasPrefix(got, c.want) || resp.Header.Get("X-Flyball-Cache") != c.cache {
			t.Errorf("call %d: %s %s (%s), want %s (%s)", i, resp.Status, got, resp.Header.Get("X-Flyball-Cache"), c.want, c.cache)
		}
	}
	// What mini answered is not the answer of another upstream.
	g.write(strings.Replace(file, "models=['gpt-mini',", "models=[", 1))
	g.onReload(g.limits.Reload())
	resp := post(t, client(t), g.url+"/up/chat/completions", mini)
	if got := read(t, resp); !strings.HasPrefix(got, "up ") || resp.Header.Get("X-Flyball-Cache") != "miss" {
		t.Errorf("with another route: %s (%s)", got, resp.Header.Get("X-Flyball-Cache"))
	}
}
