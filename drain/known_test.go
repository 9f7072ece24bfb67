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
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	sim "github.com/flyball-go/flyball/internal/upstream"
	"github.com/flyball-go/flyball/limiter"
)

// virtual is a model of an upstream without a network, for virtual time.
type virtual struct{ model *modelserver.Server }

func (v virtual) Send(ctx context.Context, j *drain.Job) (a drain.Answer) {
	r, err := v.model.Do(ctx, modelserver.Call{Input: int64(len(j.Body) / 4), Output: 5})
	if err != nil {
		a.Outcome, a.Err = limiter.OutcomeFrom(feedback.FromError(ctx, err)), err
		return a
	}
	s := feedback.Parse(feedback.Answer{Status: r.Status, Header: r.Header, Body: r.Body, Now: time.Now()})
	a.Outcome, a.Retryable, a.Status, a.Body = limiter.OutcomeFrom(s), s.Retryable, r.Status, []byte("{}")
	if a.Class == feedback.OK {
		a.FirstByte = r.First
	}
	return a
}

// jobsWanted is how many jobs the environment asks for.
func jobsWanted(t *testing.T, otherwise int) int {
	n := otherwise
	if s := os.Getenv("FLYBALL_DRAIN_JOBS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestKnownLimits drains a file against a model of an upstream whose limits are known, and compares with what it allows: at least 95 %
// are to be used, and few refused: a law that looks for room is refused now and then, and one that was told, in a header as well, is not. It is in virtual time, so that what else the machine does is not measured; files are real. 4,000
// jobs as a rule, and with
//
//	FLYBALL_DRAIN_JOBS=100000 go test ./drain -run 'KnownLimits$' -v
//
// as many as that.
func TestKnownLimits(t *testing.T) {
	jobs := jobsWanted(t, 4000)
	known(t, func(t *testing.T, k knownLimit) {
		synctest.Test(t, func(t *testing.T) {
			m := k.model(t)
			defer m.Close()
			used, refused := k.drain(t, jobs, virtual{m})
			if used < 0.95 || refused > k.refused {
				t.Errorf("%.1f %% used, want 95; %.2f %% refused, want %.2f at most", 100*used, 100*refused, 100*k.refused)
			}
		})
	})
}

// TestKnownLimitsOverHTTP does the same over real connections in real time, which a busy machine decides. It needs
//
//	FLYBALL_DRAIN_JOBS=12000 go test ./drain -run KnownLimitsOverHTTP -v
func TestKnownLimitsOverHTTP(t *testing.T) {
	jobs := jobsWanted(t, 0)
	if jobs == 0 {
		t.Skip("FLYBALL_DRAIN_JOBS is not set: real time is not waited for")
	}
	known(t, func(t *testing.T, k knownLimit) {
		m := k.model(t)
		defer m.Close()
		srv := httptest.NewServer(m)
		defer srv.Close()
		up, err := drain.NewHTTP(drain.HTTP{BaseURL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		k.drain(t, jobs, up)
	})
}

// knownLimit is an upstream with a limit that is known.
type knownLimit struct {
	name   string
	cfg    sim.Config
	budget *limiter.Budget
	most   int     // in flight, when that is told; 0 is not
	rate   float64 // what is allowed a second
	// refused is how many may be refused for each that is served.
	refused float64
}

func known(t *testing.T, f func(t *testing.T, k knownLimit)) {
	for _, k := range []knownLimit{
		{
			name: "calls in flight",
			cfg: sim.Config{
				Concurrency: sim.Concurrency{Limit: 20}, Server: sim.Server{Service: draw.Of(100 * time.Millisecond)},
			},
			rate:    200,
			refused: 0.03,
		},
		{
			name: "calls in flight, stated",
			cfg: sim.Config{
				Concurrency: sim.Concurrency{Limit: 20}, Server: sim.Server{Service: draw.Of(100 * time.Millisecond)},
			},
			most: 20,
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
		{
			name: "requests a minute, to be found out",
			cfg: sim.Config{
				Quotas: []sim.Quota{{Counter: sim.Requests, Limit: 12_000, Burst: 200}},
				Server: sim.Server{Service: draw.Of(50 * time.Millisecond)},
			},
			rate: 200,
		},
	} {
		t.Run(k.name, func(t *testing.T) { f(t, k) })
	}
}

func (k knownLimit) model(t *testing.T) *modelserver.Server {
	k.cfg.Dialect = sim.OpenAI
	m, err := modelserver.New(modelserver.Config{Upstream: k.cfg})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// drain drains a file and returns how much of what is allowed was used, and how many attempts were refused for each that was served.
func (k knownLimit) drain(t *testing.T, jobs int, up drain.Upstream) (used, refused float64) {
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
	guard, err := limiter.New(limiter.Config{MaxWait: time.Hour, Queue: 100_000, Budget: k.budget, Adaptive: adaptive.Config{Max: k.most}})
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
	used = float64(jobs) / took.Seconds() / k.rate
	refused = float64(p.Throttled) / float64(p.Done)
	t.Logf("%d jobs in %v: %.1f %% of what is allowed, %.2f %% refused, limit %d at the end", jobs, took.Round(10*time.Millisecond), 100*used, 100*refused, p.Limit)
	if store.Len() != jobs || p.Dead != 0 {
		t.Errorf("%d results and %d dead letters for %d jobs", store.Len(), p.Dead, jobs)
	}
	return used, refused
}
