package httplimit_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// The client sends with whichever key has most room. The first key was revoked: it is out after one call.
func ExampleNewPool() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer sk-revoked" {
			http.Error(w, `{"error":{"code":"invalid_api_key"}}`, http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	_ = os.Setenv("OPENAI_KEY_1", "sk-revoked")
	_ = os.Setenv("OPENAI_KEY_2", "sk-good")
	file, err := config.Parse("limits.toml", []byte(`
[[upstream.openai.key]]
env = "OPENAI_KEY_1"

[[upstream.openai.key]]
env = "OPENAI_KEY_2"
`))
	if err != nil {
		fmt.Println(err)
		return
	}

	newClient := func(file *config.File) (*http.Client, *limiter.Pool, error) {
		upstream, _ := file.Upstream("openai")
		cfg, err := upstream.Pool() // reads the keys
		if err != nil {
			return nil, nil, err // names the variable or file, and never a key
		}
		pool, err := limiter.NewPool(cfg)
		if err != nil {
			return nil, nil, err
		}
		transport := httplimit.NewPool(nil, pool, httplimit.PoolConfig{
			Config: httplimit.Config{Provider: upstream.Provider, Rules: file.FeedbackRules()},
			Header: upstream.Keys.Header,
			Prefix: upstream.Keys.Prefix,
		})
		return &http.Client{Transport: transport}, pool, nil
	}

	client, pool, err := newClient(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		resp, err := client.Post(server.URL, "application/json", strings.NewReader("{}"))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(resp.StatusCode)
		_ = resp.Body.Close()
	}
	for _, k := range pool.Keys() {
		fmt.Println(k.Key, k.Out, k.Served, k.Faults)
	}
	// Output:
	// 200
	// 200
	// 200
	// key:c7d61849 unauthorized 0 1
	// key:4c3fe847 none 3 0
}
