package httplimit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
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
