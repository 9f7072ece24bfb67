package httplimit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// newPool returns a pool of keys with a fixed limit each.
func newPool(t testing.TB, edit func(*limiter.PoolConfig), keys ...string) *limiter.Pool {
	t.Helper()
	cfg := limiter.PoolConfig{
		Guard:  limiter.Config{Name: "test", PauseJitter: -1, Seed: 1},
		NewLaw: func() adaptive.Law { return adaptive.NewFixed(4) },
	}
	for _, k := range keys {
		cfg.Keys = append(cfg.Keys, limiter.NewSecret(k))
	}
	if edit != nil {
		edit(&cfg)
	}
	p, err := limiter.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// upstream answers as each key deserves, and counts.
type upstream struct {
	mu   sync.Mutex
	sent []string // the keys, in order
	does map[string]func() *http.Response
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent = append(u.sent, key)
	resp := answer(200, `{"ok":true}`)
	if f := u.does[key]; f != nil {
		resp = f()
	}
	resp.Request = r
	return resp, nil
}

func (u *upstream) count(key string) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range u.sent {
		if k == key {
			n++
		}
	}
	return n
}

func always(status int, body string, header ...string) func() *http.Response {
	return func() *http.Response { return answer(status, body, header...) }
}

// post sends a request whose body can be had again.
func post(t testing.TB, rt http.RoundTripper) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequest("POST", "https://upstream.test/v1/chat", strings.NewReader(`{"prompt":"hello"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err == nil && resp.Request != req {
		t.Error("the answer's request is not the caller's")
	}
	if req.Header.Get("Authorization") != "" {
		t.Error("the caller's request was changed")
	}
	return resp, err
}

func wantStatus(t testing.TB, rt http.RoundTripper, status int) *http.Response {
	t.Helper()
	resp, err := post(t, rt)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d", resp.StatusCode, status)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

// Three keys, one revoked, one out of money and one good: all calls succeed, and the bad keys are tried once per probe interval.
func TestPoolEndToEnd(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key := r.Header.Get("X-Api-Key")
		mu.Lock()
		sent[key]++
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch {
		case string(body) != "hello":
			w.WriteHeader(400)
		case key == "sk-secret-revoked":
			w.WriteHeader(401)
			fmt.Fprint(w, `{"error":{"code":"invalid_api_key","message":"Incorrect API key provided."}}`)
		case key == "sk-secret-broke":
			w.WriteHeader(429)
			fmt.Fprint(w, `{"error":{"code":"insufficient_quota","message":"You exceeded your current quota."}}`)
		default:
			fmt.Fprint(w, `{"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
		}
	}))
	defer server.Close()
	pool := newPool(t, func(c *limiter.PoolConfig) { c.Probe = 2 * time.Second; c.ProbeMax = 2 * time.Second },
		"sk-secret-revoked", "sk-secret-broke", "sk-secret-good")
	client := &http.Client{Transport: NewPool(nil, pool, PoolConfig{Header: "x-api-key", Host: strings.TrimPrefix(server.URL, "http://")})}
	var wg sync.WaitGroup
	calls := func() {
		for range 8 {
			wg.Go(func() {
				for range 10 {
					resp, err := client.Post(server.URL, "text/plain", strings.NewReader("hello"))
					if err != nil {
						t.Error(err)
						return
					}
					if _, _ = io.Copy(io.Discard, resp.Body); resp.StatusCode != 200 {
						t.Errorf("status %d", resp.StatusCode)
					}
					_ = resp.Body.Close()
				}
			})
		}
		wg.Wait()
	}
	// The first calls go out one after the other, so that none is under way when a key goes out.
	for range 3 {
		wantOK(t, client, server.URL)
	}
	calls()
	if sent["sk-secret-revoked"] != 1 || sent["sk-secret-broke"] != 1 || sent["sk-secret-good"] != 83 {
		t.Errorf("sent %v, want each bad key once", sent)
	}
	time.Sleep(2300 * time.Millisecond)
	calls()
	if sent["sk-secret-revoked"] != 2 || sent["sk-secret-broke"] != 2 || sent["sk-secret-good"] != 163 {
		t.Errorf("sent %v, want each bad key once more", sent)
	}
	if s := pool.Stats(); s.InFlight != 0 || s.InService != 1 || s.Keys[0].Out != limiter.KeyUnauthorized || s.Keys[1].Out != limiter.KeyExhausted {
		t.Errorf("Stats() = %+v", s)
	}
}

func wantOK(t *testing.T, c *http.Client, url string) {
	t.Helper()
	resp, err := c.Post(url, "text/plain", strings.NewReader("hello"))
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

func TestPoolLeavesAThrottledKeyForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{does: map[string]func() *http.Response{"a": always(429, `{"error":{"message":"Rate limit reached for requests per min"}}`, "Retry-After", "60")}}
		rt := NewPool(u, newPool(t, nil, "a", "b"), PoolConfig{})
		start := time.Now()
		for range 10 {
			wantStatus(t, rt, 200)
		}
		if u.count("a") != 1 || u.count("b") != 10 || time.Since(start) != 0 {
			t.Errorf("sent %v in %v, want one try with a, and no delay", u.sent, time.Since(start))
		}
	})
}

// "account-scoped limits do not rotate"
func TestPoolDoesNotRotateAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		refuse := func() *http.Response {
			if n++; n == 1 {
				return answer(429, `{"error":{"message":"Rate limit reached for requests per min"}}`, "Retry-After", "20")
			}
			return answer(200, "")
		}
		u := &upstream{does: map[string]func() *http.Response{"a": refuse, "b": refuse}}
		rt := NewPool(u, newPool(t, func(c *limiter.PoolConfig) { c.Limit = limiter.LimitAccount }, "a", "b"), PoolConfig{})
		start := time.Now()
		wantStatus(t, rt, 200)
		if d := time.Since(start); len(u.sent) != 2 || d < 20*time.Second {
			t.Errorf("sent %v in %v, want the second after the delay", u.sent, d)
		}
		// No money is the account's: nobody is asked again.
		u.sent = nil
		broke := always(402, `{"error":{"message":"no money"}}`)
		u.does = map[string]func() *http.Response{"a": broke, "b": broke}
		resp := wantStatus(t, rt, 402)
		if len(u.sent) != 1 || resp.Header.Get("X-Should-Retry") != "false" {
			t.Errorf("sent %v, header %v", u.sent, resp.Header)
		}
		if _, err := post(t, rt); !errors.Is(err, limiter.ErrNoKey) {
			t.Errorf("without money: %v", err)
		}
	})
}

func TestPoolGivesTheLastRefusalBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := always(401, `{"error":{"code":"invalid_api_key"}}`)
		u := &upstream{does: map[string]func() *http.Response{"a": bad, "b": bad}}
		rt := NewPool(u, newPool(t, nil, "a", "b"), PoolConfig{})
		resp, err := post(t, rt)
		if err != nil || resp.StatusCode != 401 {
			t.Fatal(resp, err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != `{"error":{"code":"invalid_api_key"}}` {
			t.Errorf("body %s", b)
		}
		if len(u.sent) != 2 {
			t.Errorf("sent %v", u.sent)
		}
		body := &closeCounter{Reader: strings.NewReader("x")}
		req, _ := http.NewRequest("POST", "https://upstream.test/", body)
		if _, err := rt.RoundTrip(req); !errors.Is(err, limiter.ErrNoKey) || body.closed != 1 {
			t.Errorf("with all keys out: %v, body closed %d times", err, body.closed)
		}
	})
}

// A body that cannot be had again is sent once.
func TestPoolSendsAStreamedBodyOnce(t *testing.T) {
	u := &upstream{does: map[string]func() *http.Response{"a": always(401, "")}}
	rt := NewPool(u, newPool(t, nil, "a", "b"), PoolConfig{})
	req, _ := http.NewRequest("POST", "https://upstream.test/", struct{ io.Reader }{strings.NewReader("x")})
	resp, err := rt.RoundTrip(req)
	if err != nil || resp.StatusCode != 401 || len(u.sent) != 1 {
		t.Errorf("%v, %v, sent %v", resp, err, u.sent)
	}
}

// "retries on another key ... never after bytes were handed on": an error inside an answer that began well takes the key out, and is the caller's.
func TestPoolRefusalInsideAStream(t *testing.T) {
	stream := "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"error\":{\"code\":\"insufficient_quota\",\"message\":\"You exceeded your current quota\"}}\n\n"
	u := &upstream{does: map[string]func() *http.Response{"a": always(200, stream, "Content-Type", "text/event-stream")}}
	pool := newPool(t, nil, "a", "b")
	rt := NewPool(u, pool, PoolConfig{})
	resp, err := post(t, rt)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); string(b) != stream || len(u.sent) != 1 {
		t.Errorf("body %q, sent %v", b, u.sent)
	}
	if s := pool.Keys()[0]; s.Out != limiter.KeyExhausted || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// MiniMax says with status 200 that it does not accept a key.
func TestPoolKeyRefusedInsideAnAnswer(t *testing.T) {
	for _, code := range []string{"1004", "2049"} {
		u := &upstream{does: map[string]func() *http.Response{
			"a": always(200, `{"base_resp":{"status_code":`+code+`,"status_msg":"invalid api key"}}`, "Content-Type", "application/json"),
			"b": always(200, `{"choices":[],"base_resp":{"status_code":0,"status_msg":"success"}}`, "Content-Type", "application/json"),
		}}
		pool := newPool(t, nil, "a", "b")
		rt := NewPool(u, pool, PoolConfig{})
		for range 10 {
			wantStatus(t, rt, 200)
		}
		if k := pool.Keys(); u.count("a") != 1 || k[0].Out != limiter.KeyUnauthorized || k[1].Out != limiter.KeyFine {
			t.Errorf("code %s: sent %v; %v", code, u.sent, k)
		}
	}
}

func TestPoolForbidden(t *testing.T) {
	u := &upstream{does: map[string]func() *http.Response{"a": always(403, `{"error":{"message":"not this model"}}`)}}
	pool := newPool(t, nil, "a", "b")
	rt := NewPool(u, pool, PoolConfig{})
	for range 20 {
		wantStatus(t, rt, 200)
	}
	if u.count("a") != 3 || pool.Keys()[0].Out != limiter.KeyForbidden {
		t.Errorf("sent %v; %v", u.sent, pool.Keys())
	}
	// Nobody may do it: that is the request's fault.
	u = &upstream{does: map[string]func() *http.Response{"a": always(403, ""), "b": always(403, ""), "c": always(403, "")}}
	pool = newPool(t, nil, "a", "b", "c")
	rt = NewPool(u, pool, PoolConfig{})
	for range 5 {
		wantStatus(t, rt, 403)
	}
	if s := pool.Stats(); len(u.sent) != 10 || s.InService != 3 {
		t.Errorf("sent %v; %+v", u.sent, s)
	}
}

// A caller that names an organization which none of the keys is of takes none of them out.
func TestPoolAndOtherOrganizations(t *testing.T) {
	testPoolKeeps(t, 401, `{"error":{"message":"OpenAI-Organization header should match organization for API key","type":"invalid_request_error","param":null,"code":"mismatched_organization"}}`)
}

// Nor does one that calls an endpoint which the keys are not for.
func TestPoolOfRestrictedKeys(t *testing.T) {
	testPoolKeeps(t, 401, `{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.files.write.","type":"invalid_request_error","param":null,"code":"missing_scope"}}`)
}

// testPoolKeeps checks that an answer which every key gets takes none of them out, and that none waits for it.
func testPoolKeeps(t *testing.T, status int, body string) {
	t.Helper()
	refuse := always(status, body)
	u := &upstream{does: map[string]func() *http.Response{"a": refuse, "b": refuse, "c": refuse}}
	pool := newPool(t, nil, "a", "b", "c")
	rt := NewPool(u, pool, PoolConfig{})
	for range 5 {
		wantStatus(t, rt, status)
	}
	for _, k := range pool.Keys() {
		if k.Out != limiter.KeyFine || k.Paused > 0 {
			t.Errorf("%v; sent %v", k, u.sent)
		}
	}
}

// gemini is how Gemini refuses a call of a model that is not in the plan.
const gemini = `{"error":{"code":429,"message":"You exceeded your current quota.\n* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 0\nPlease retry in 12.5s.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier","quotaDimensions":{"model":"gemini-2.5-pro"},"quotaValue":"0"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"12s"}]}}`

// A caller that asks for a model which is not in the plan neither takes keys out nor has the others wait.
func TestPoolAndAModelThatIsNotInThePlan(t *testing.T) {
	testPoolKeeps(t, 429, gemini)
}

func TestFault(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   limiter.KeyFault
	}{
		{401, "", limiter.KeyUnauthorized},
		{401, `{"detail":"who are you"}`, limiter.KeyUnauthorized},
		{401, `{"error":{"message":"OpenAI-Organization header should match organization for API key","type":"invalid_request_error","param":null,"code":"mismatched_organization"}}`, limiter.KeyForbidden},
		{401, `{"error":{"type":"invalid_request_error","code":"mismatched_project"}}`, limiter.KeyForbidden},
		{401, `{"error":{"message":"","type":"invalid_request_error","param":null,"code":"invalid_organization"}}`, limiter.KeyForbidden},
		{401, `{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request. Check that","type":"invalid_request_error","param":null,"code":"missing_scope"}}`, limiter.KeyForbidden},
		{401, `{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: api.responses.write. Check that","type":"invalid_request_error","param":null,"code":null}}`, limiter.KeyForbidden},
		{401, `{"error":{"message":"key not allowed to access model. This key can only access models=['a']. Tried to access b","type":"key_model_access_denied","param":"model","code":"401"}}`, limiter.KeyForbidden},
		{401, `{"error":{"message":"Authentication Error, Invalid proxy server token passed","type":"token_not_found_in_db","param":"key","code":"401"}}`, limiter.KeyUnauthorized},
		{401, `{"error":{"message":"You must be a member of an organization to use the API.","type":"invalid_request_error","code":"no_organization"}}`, limiter.KeyUnauthorized},
		{200, `{"base_resp":{"status_code":1004,"status_msg":"login fail"}}`, limiter.KeyUnauthorized},
		{200, `{"base_resp":{"status_code":2013,"status_msg":"invalid params"}}`, limiter.KeyFine},
		{402, "", limiter.KeyExhausted},
		{403, "", limiter.KeyForbidden},
		{403, `{"error":{"type":"authentication_error"}}`, limiter.KeyUnauthorized},
		{400, `{"code":"InvalidApiKey","message":"Invalid API-key provided."}`, limiter.KeyUnauthorized},
		{400, `{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid.","details":[{"@type":"x","reason":"API_KEY_INVALID"}]}}`, limiter.KeyUnauthorized},
		{400, `[{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid.","details":[{"@type":"x","reason":"API_KEY_INVALID"}]}}]`, limiter.KeyUnauthorized},
		{400, "\xef\xbb\xbf" + `{"code":"InvalidApiKey","message":"Invalid API-key provided."}`, limiter.KeyUnauthorized},
		{400, `[]`, limiter.KeyFine},
		{400, `["API_KEY_INVALID"]`, limiter.KeyFine},
		{401, `[{"error":{"code":"mismatched_project"}}]`, limiter.KeyForbidden},
		{400, `{"error":{"message":"your prompt is \"invalid_api_key\"","code":"bad_request"}}`, limiter.KeyFine},
		{400, `{"error":"invalid_api_key"}`, limiter.KeyFine},
		{404, `{"error":{"code":"model_not_found"}}`, limiter.KeyFine},
		{400, `{"error":{"details":{"reason":"API_KEY_INVALID"}}}`, limiter.KeyFine},
		{400, `invalid_api_key`, limiter.KeyFine},
		{429, `{"error":{"code":"insufficient_quota"}}`, limiter.KeyExhausted},
		{429, gemini, limiter.KeyForbidden},
		{429, `{"code":"resource-exhausted","error":"Too many requests for team t and model grok-4. Your team's limits are: Requests per Second (actual/limit): 0/0"}`, limiter.KeyForbidden},
		{429, `{"error":{"code":"insufficient_quota","message":"limit: 0"}}`, limiter.KeyExhausted},
		{429, "", limiter.KeyFine},
		{503, "", limiter.KeyFine},
	} {
		s := feedback.Parse(feedback.Answer{Status: c.status, Body: []byte(c.body)})
		if got := KeyFault(c.status, s.Class, []byte(c.body)); got != c.want {
			t.Errorf("%d %s is %v, want %v", c.status, c.body, got, c.want)
		}
	}
}

// A host that answers with a redirect must not be given a key of somebody else.
func TestPoolKeepsKeysFromOtherHosts(t *testing.T) {
	var got []string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = append(got, r.Header.Get("Authorization")) }))
	defer thief.Close()
	var own []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own = append(own, r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, thief.URL, http.StatusFound)
		case "/home":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/far":
			http.Redirect(w, r, "/away", http.StatusFound)
		}
	}))
	defer server.Close()
	client := &http.Client{Transport: NewPool(nil, newPool(t, nil, "sk-secret-1"), PoolConfig{})}
	for _, path := range []string{"/away", "/far"} {
		resp, err := client.Get(server.URL + path)
		if !errors.Is(err, ErrForeignHost) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%s: %v, %v", path, resp, err)
		}
	}
	resp, err := client.Get(server.URL + "/home")
	if err != nil || resp.StatusCode != 200 || own[len(own)-1] != "Bearer sk-secret-1" {
		t.Errorf("a redirect on the same host: %v, %v, %q", resp, err, own)
	}
	_ = resp.Body.Close()
	if len(got) != 0 {
		t.Errorf("the other host got %q", got)
	}
	client = &http.Client{Transport: NewPool(nil, newPool(t, nil, "sk-secret-1"), PoolConfig{Host: "api.upstream.test"})}
	if _, err := client.Get(thief.URL); !errors.Is(err, ErrForeignHost) || len(got) != 0 {
		t.Errorf("a host that the keys are not for: %v, it got %q", err, got)
	}
}

func TestPoolPanicGivesThePermitBack(t *testing.T) {
	pool := newPool(t, nil, "a")
	rt := NewPool(roundTripper(func(*http.Request) (*http.Response, error) { panic("boom") }), pool, PoolConfig{})
	func() {
		defer func() { _ = recover() }()
		_, _ = post(t, rt)
	}()
	if s := pool.Stats(); s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// A transport error goes the way of Transport; a caller that leaves ends it.
func TestPoolErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		rt := NewPool(roundTripper(func(r *http.Request) (*http.Response, error) {
			if n++; n == 1 {
				return nil, io.ErrUnexpectedEOF
			}
			return answer(200, ""), nil
		}), newPool(t, nil, "a", "b"), PoolConfig{})
		if _, err := post(t, rt); err != io.ErrUnexpectedEOF {
			t.Errorf("a POST that broke: %v, want the base's error", err)
		}
		n = 0
		req, _ := http.NewRequest("GET", "https://upstream.test/", nil)
		if resp, err := rt.RoundTrip(req); err != nil || resp.StatusCode != 200 || n != 2 {
			t.Errorf("a GET that broke: %v, %v, %d sends", resp, err, n)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		u := &upstream{does: map[string]func() *http.Response{"a": always(529, "")}}
		rt = NewPool(u, newPool(t, func(c *limiter.PoolConfig) { c.Guard.Retry.BaseDelay = time.Minute }, "a"), PoolConfig{})
		req, _ = http.NewRequestWithContext(ctx, "GET", "https://upstream.test/", nil)
		if resp, err := rt.RoundTrip(req); err != nil || resp.StatusCode != 529 {
			t.Errorf("a retry beyond the deadline: %v, %v, want the answer", resp, err)
		}
	})
}

// The caller's field is replaced, however its name is spelled: an upstream that got two would refuse both, and the pool's key be taken for
// one that is not valid.
func TestPoolReplacesTheCallersField(t *testing.T) {
	var got http.Header
	rt := NewPool(roundTripper(func(r *http.Request) (*http.Response, error) {
		got = r.Header
		return answer(200, ""), nil
	}), newPool(t, nil, "k"), PoolConfig{Header: "api-key"})
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://upstream.test/", nil)
	req.Header["api-key"], req.Header["API-KEY"], req.Header["Api-Key"] = []string{"mine"}, []string{"mine"}, []string{"mine"}
	req.Header["accept"] = []string{"*/*"}
	if _, err := rt.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if want := (http.Header{"Api-Key": {"k"}, "accept": {"*/*"}}); !reflect.DeepEqual(got, want) || len(req.Header) != 4 {
		t.Errorf("sent %v, want %v; the caller's is %v", got, want, req.Header)
	}
}

// Nothing that a caller can get hold of shows a key.
func TestPoolShowsNoKey(t *testing.T) {
	const key = "sk-verysecret-1"
	var dump bytes.Buffer
	u := &upstream{does: map[string]func() *http.Response{key: always(401, `{"error":{"code":"invalid_api_key"}}`)}}
	pool := newPool(t, nil, key)
	rt := NewPool(u, pool, PoolConfig{})
	resp, err := post(t, rt)
	if err != nil {
		t.Fatal(err)
	}
	_, refused := post(t, rt)
	log := slog.New(slog.NewJSONHandler(&dump, nil))
	text := slog.New(slog.NewTextHandler(&dump, nil))
	for _, v := range []any{rt, *rt, pool, resp, resp.Request, refused, pool.Stats(), pool.Keys(), pool.Guards()[0], PoolConfig{}, limiter.NewSecret(key)} {
		fmt.Fprintf(&dump, "%v %+v %#v %s %q %x\n", v, v, v, v, v, v)
		log.Info("x", "v", v)
		text.Info("x", "v", v)
		b, _ := json.Marshal(v)
		dump.Write(b)
	}
	if strings.Contains(dump.String(), "verysecret") || strings.Contains(dump.String(), fmt.Sprintf("%x", key)) {
		t.Errorf("the key is in %s", &dump)
	}
}
