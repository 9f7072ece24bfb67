package httplimit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
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
	// key:5da45a03 unauthorized 0 1
	// key:8fcb5ed9 none 3 0
}

// A call that is no HTTP request says itself what is wrong with a key.
func ExampleNewPool_do() {
	pool, err := limiter.NewPool(limiter.PoolConfig{
		Guard: limiter.Config{Name: "search"},
		Keys:  []limiter.Secret{limiter.NewSecret("revoked"), limiter.NewSecret("good")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	errBadKey := errors.New("bad key")
	search := func(_ context.Context, key string) error {
		if key == "revoked" {
			return errBadKey
		}
		return nil
	}

	err = pool.Do(context.Background(), limiter.Request{}, func(ctx context.Context, key limiter.Secret) error {
		err := search(ctx, key.Reveal())
		if errors.Is(err, errBadKey) {
			return limiter.FailKey(limiter.KeyUnauthorized, err) // the next key is used at once
		}
		return err
	})
	fmt.Println(err)

	permit, err := pool.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		fmt.Println(err) // a *limiter.NoKeyError says what is the matter with each key
		return
	}
	err = search(context.Background(), permit.Secret().Reveal())
	if errors.Is(err, errBadKey) {
		permit.Release(limiter.Outcome{Class: feedback.ClientError}, limiter.KeyUnauthorized)
	} else {
		permit.Release(limiter.OutcomeOf(context.Background(), err), limiter.KeyFine)
	}
	fmt.Println(err, pool.Stats().InService)
	// Output:
	// <nil>
	// <nil> 1
}
