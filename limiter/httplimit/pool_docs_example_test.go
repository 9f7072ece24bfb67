package httplimit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if a, b := strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " "); a != b {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The file of docs/keys.md is read, and its keys are looked for where it says.
func TestDocKeysFile(t *testing.T) {
	t.Setenv("OPENAI_KEY_1", "sk-verysecret")
	file, err := config.Parse("limits.toml", []byte(`
[upstream.openai]
provider = "openai"

[[upstream.openai.key]]
env = "OPENAI_KEY_1"

[[upstream.openai.key]]
file = "/run/secrets/openai"
`))
	if err != nil {
		t.Fatal(err)
	}
	upstream, ok := file.Upstream("openai")
	if !ok || upstream.Provider != "openai" {
		t.Fatalf("the upstream is %+v, %v", upstream, ok)
	}
	if _, err = upstream.Pool(); err == nil || !strings.Contains(err.Error(), "/run/secrets/openai") || strings.Contains(err.Error(), "verysecret") {
		t.Errorf("without the file: %v, want an error that names it, and no key", err)
	}
}

func TestDocPoolExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, err := limiter.NewPool(limiter.PoolConfig{
			Guard: limiter.Config{
				Name:   "chat",
				Budget: &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 6_000}}},
			},
			NewLaw: func() adaptive.Law { return adaptive.NewFixed(100) },
			Keys:   []limiter.Secret{limiter.NewSecret("a"), limiter.NewSecret("b")},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := pool.Acquire(context.Background(), limiter.Request{Tokens: 6_000}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			go func() {
				if _, err := pool.Acquire(context.Background(), limiter.Request{Tenant: "a", Tokens: 1_000}); err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantText(t, pool.Explain(2).String(), `
chat: limit 200, 2 in flight, 2 waiting
key:ca978112 has 1 in flight, limit 100
key:3e23e816 has 1 in flight, limit 100
waiting 2s: tokens per 1m0s of key:ca978112 binds, 0 ahead in tenant a, expected 00:00:10Z
waiting 2s: tokens per 1m0s of key:3e23e816 binds, 1 ahead in tenant a, expected 00:00:10Z
`)
		time.Sleep(time.Minute)
	})
}

func TestDocNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, err := limiter.NewPool(limiter.PoolConfig{
			Guard: limiter.Config{Name: "openai", Seed: 1},
			Keys:  []limiter.Secret{limiter.NewSecret("sk-revoked"), limiter.NewSecret("sk-good")},
		})
		if err != nil {
			t.Fatal(err)
		}
		call := func(o limiter.Outcome, f limiter.KeyFault) {
			t.Helper()
			p, err := pool.Acquire(context.Background(), limiter.Request{})
			if err != nil {
				t.Fatal(err)
			}
			p.Release(o, f)
		}
		call(limiter.Outcome{Class: feedback.ClientError}, limiter.KeyUnauthorized)
		call(limiter.Outcome{
			Class: feedback.QuotaExhausted, Scope: feedback.ScopeDaily, HasRetryAfter: true, RetryAfter: 24 * time.Hour,
		}, limiter.KeyFine)
		_, err = pool.Acquire(context.Background(), limiter.Request{})
		if !errors.Is(err, limiter.ErrNoKey) {
			t.Fatalf("%v, want ErrNoKey", err)
		}
		wantText(t, fmt.Sprint(err), `
limiter: pool openai rejected a call: every key is out (waiting 0): key:c7d61849 unauthorized until 2000-01-01T00:10:59.748Z,
key:4c3fe847 exhausted until 2000-01-02T00:00:00.000Z; try again at 2000-01-01T00:10:59.748Z
`)
	})
}

// current is an http.RoundTripper that sends with the pool that is in use.
type current struct {
	atomic.Pointer[httplimit.PoolTransport]
}

func (c *current) RoundTrip(req *http.Request) (*http.Response, error) {
	return c.Load().RoundTrip(req)
}

func ExamplePoolTransport_otherKeys() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	key, path := filepath.Join(dir, "key"), filepath.Join(dir, "limits.toml")
	write := func(file, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			fmt.Println(err)
		}
	}
	write(key, "sk-old\n")
	write(path, "[upstream.openai]\nkey = [{ file = '"+key+"' }]\n")
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Header.Get("Authorization"))
	}))
	defer server.Close()

	limits, err := config.NewReloader(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	limits.ReplacePools()
	transport := &current{}
	use := func() error { // before the first call, and in OnReload
		pool, err := limits.Pool("openai") // another one when the keys are others
		if err != nil {
			return err
		}
		if t := transport.Load(); t == nil || t.Pool() != pool {
			transport.Store(httplimit.NewPool(nil, pool, httplimit.PoolConfig{}))
		}
		return nil
	}
	client := &http.Client{Transport: transport}
	get := func() {
		resp, err := client.Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}

	if err := use(); err != nil {
		fmt.Println(err)
	}
	get()
	write(key, "sk-new\n")
	if _, err := limits.Reload(); err != nil { // go limits.Run(ctx, …) does so when a key changes
		fmt.Println(err)
	}
	if err := use(); err != nil {
		fmt.Println(err)
	}
	get()
	// Output:
	// Bearer sk-old
	// Bearer sk-new
}
