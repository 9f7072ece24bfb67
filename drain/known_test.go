package drain_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	sim "github.com/flyball-go/flyball/internal/upstream"
	"github.com/flyball-go/flyball/limiter"
)

// TestKnownLimits drains a file against a model of an upstream whose limits are known, over real connections, and compares with what
// it allows: 1,000 requests as a rule, and a minute and more with
//
//	FLYBALL_DRAIN_JOBS=12000 go test ./drain -run KnownLimits -v
func TestKnownLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes some seconds")
	}
	jobs := 1000
	long := os.Getenv("FLYBALL_DRAIN_JOBS")
	if long != "" {
		var err error
		if jobs, err = strconv.Atoi(long); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		cfg    sim.Config
		budget *limiter.Budget
		rate   float64 // what is allowed a second
	}{
		{
			name: "calls in flight",
			cfg: sim.Config{
				Concurrency: sim.Concurrency{Limit: 20}, Server: sim.Server{Service: draw.Of(100 * time.Millisecond)},
			},
			rate: 200,
		},
		{
			name: "requests a minute, stated",
			cfg: sim.Config{
				Quotas: []sim.Quota{{Counter: sim.Requests, Limit: 12_000, Burst: 50}},
				Server: sim.Server{Service: draw.Of(50 * time.Millisecond)},
			},
			budget: &limiter.Budget{Limits: []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 12_000, Burst: 40}}},
			rate:   200,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.Dialect = sim.OpenAI
			m, err := modelserver.New(modelserver.Config{Upstream: test.cfg})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			srv := httptest.NewServer(m)
			defer srv.Close()
			dir := t.TempDir()
			var in bytes.Buffer
			for i := range jobs {
				fmt.Fprintf(&in, `{"custom_id":"r-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"sim-small","max_tokens":5,"messages":[{"role":"user","content":"%d"}]}}`+"\n", i, i)
			}
			path := filepath.Join(dir, "in.jsonl")
			write(t, path, in.String())
			src, err := drain.OpenJSONL(path, drain.JSONLConfig{})
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			store, err := drain.OpenFile(filepath.Join(dir, "out.jsonl"))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			up, err := drain.NewHTTP(drain.HTTP{BaseURL: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			guard, err := limiter.New(limiter.Config{MaxWait: time.Hour, Queue: 100_000, Budget: test.budget})
			if err != nil {
				t.Fatal(err)
			}
			r, err := drain.New(drain.Config{Source: src, Store: store, Upstream: up, Guard: guard})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := r.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			took, p := time.Since(start), r.Progress()
			used := float64(jobs) / took.Seconds() / test.rate
			refused := float64(p.Throttled) / float64(p.Done)
			t.Logf("%d jobs in %v: %.1f %% of what is allowed, %.2f %% refused, limit %d at the end", jobs, took.Round(10*time.Millisecond), 100*used, 100*refused, p.Limit)
			if store.Len() != jobs || p.Dead != 0 {
				t.Errorf("%d results and %d dead letters for %d jobs", store.Len(), p.Dead, jobs)
			}
			// A machine that others use decides how close it comes; the figures are in docs/drain.md.
			if refused > 0.05 {
				t.Errorf("%.2f %% refused", 100*refused)
			}
		})
	}
}
