package httplimit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// The code in docs/limiter.md is in part taken from this file; TestDocument of package limiter compares them.

// A request that the upstream refused is sent again with a fresh copy of its body.
func ExampleNew() {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	defer server.Close()

	guard, err := limiter.New(limiter.Config{
		Name:  "search",
		Retry: limiter.Retry{BaseDelay: time.Millisecond},
	})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{})}

	resp, err := client.Post(server.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close() // gives the permit back, if reading to the end has not done so
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err, calls)
	// Output: 200 hello <nil> 2
}

// handler answers each request with what the upstream says to it. All requests share the client's guard.
func handler(client *http.Client, upstream string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20)) // to its end: until then net/http does not see that the caller has left
		if err != nil {
			http.Error(w, "the request is too large or was cut", http.StatusBadRequest)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, upstream, bytes.NewReader(body))
		if err != nil {
			http.Error(w, "no such upstream", http.StatusInternalServerError)
			return
		}
		resp, err := client.Do(req)
		if e, ok := errors.AsType[*limiter.RejectedError](err); ok { // nothing was sent
			if wait := time.Until(e.RetryAt); wait > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(1+int(wait.Seconds())))
			}
			http.Error(w, "too many requests are waiting", http.StatusServiceUnavailable)
			return
		}
		if err != nil {
			http.Error(w, "the upstream cannot be reached", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close() // gives the permit back, also when this panics
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}
}

// A service whose handlers share a guard, and which does not wait for those in line when it shuts down.
func ExampleNew_service() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer upstream.Close()
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{})}
	front := httptest.NewServer(handler(client, upstream.URL))
	defer front.Close()
	server := front.Config

	server.RegisterOnShutdown(guard.Close)

	ask := func() {
		resp, err := http.Post(front.URL, "text/plain", strings.NewReader("hello"))
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		fmt.Println(resp.StatusCode, resp.Header.Get("Retry-After"), strings.TrimSpace(string(body)), err)
	}
	ask()
	guard.Pause(time.Now().Add(2 * time.Hour))
	ask()
	fmt.Println(server.Shutdown(context.Background()))
	// Output:
	// 200  hello <nil>
	// 503 7200 too many requests are waiting <nil>
	// <nil>
}

// A base that finds out when a connection of HTTP/2 leads nowhere, and keeps as many idle ones as there may be calls.
func ExampleNew_base() {
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 64
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second}
	client := &http.Client{Transport: httplimit.New(base, guard, httplimit.Config{})}
	defer client.CloseIdleConnections()
}

// A refusal by the guard arrives through http.Client as any other error of a transport.
func ExampleTransport_RoundTrip_rejected() {
	guard, err := limiter.New(limiter.Config{Name: "search"})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{})}
	guard.Pause(time.Now().Add(time.Hour))

	_, err = client.Get("http://search.example/")
	if e, ok := errors.AsType[*limiter.RejectedError](err); ok {
		fmt.Println(e.Reason, time.Until(e.RetryAt).Round(time.Hour))
	}
	// Output: paused 1h0m0s
}

// A budget is told by the answers what the upstream's limits are, and what a call used.
func ExampleConfig() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Ratelimit-Limit-Requests", "500")
		w.Header().Set("X-Ratelimit-Remaining-Requests", "200")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25}}`)
	}))
	defer server.Close()

	guard, err := limiter.New(limiter.Config{
		Name: "model",
		Law:  adaptive.NewFixed(10),
		Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{
			{Kind: feedback.ScopeRequests},                                         // as the headers tell
			{Kind: feedback.ScopeTokens, Limit: 1_000_000, Period: 24 * time.Hour}, // ours
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: httplimit.New(nil, guard, httplimit.Config{
		Provider: "openai",
		Cost: func(r *http.Request) int64 {
			n, _ := strconv.ParseInt(r.Header.Get("X-Expected-Tokens"), 10, 64)
			return n // 0 when nobody said: then it is estimated
		},
	})}

	resp, err := client.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		log.Fatal(err)
	}
	_ = resp.Body.Close()
	budgets := guard.Explain(0).Budgets
	fmt.Println("requests:", budgets[0].Limit, budgets[0].Left < 300)
	fmt.Println("tokens used:", budgets[1].Limit-budgets[1].Left)
	// Output:
	// requests: 500 true
	// tokens used: 25
}
