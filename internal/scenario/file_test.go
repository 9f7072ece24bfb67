package scenario

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
	"github.com/flyball-go/flyball/scenarios"
)

var update = flag.Bool("update", false, "rewrite the expected messages in testdata")

// What is wrong with a file is reported at once, with the line and what to do.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(filepath.Base(file), data)
		var errs strict.Errors
		if !errors.As(err, &errs) {
			t.Errorf("%s: error %v, want a strict.Errors", file, err)
			continue
		}
		got := err.Error() + "\n"
		golden := strings.TrimSuffix(file, ".toml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s gives\n%s\nwant\n%s", file, got, want)
		}
	}
}

const everything = `
name = "everything"
intent = "Every key once."
duration = "5m"
drain = "10s"

[workload]
kind = "poisson"
rate = 4
patience = "1m"

[workload.retry]
max_attempts = 7
base_delay = "100ms"
max_delay = "1s"
budget = 0.5

[guard]
queue = 10
max_wait = "30s"
max_pause = "20s"

[upstream.network]
rtt = "40ms"
refusal = { dist = "uniform", mean = "10ms", spread = "5ms" }

[[upstream.quota]]
requests_per_second = 2
burst = 10
charge_refused = true
status = 503
retry_after = "exact-ms"
body = '{"error":{"code":"rate_limit_exceeded"}}'

[upstream.concurrency]
limit = 24
retry_after = "1500ms"

[upstream.server]
servers = 10
queue = 3
service = { dist = "lognormal", mean = "500ms", sigma = 0.8 }
status = 529

[[upstream.outage]]
from = "60s"
to = "90s"
black_hole = true

[[change]]
at = "2m"
set = "workload.rate"
to = 3.5

[[change]]
at = "1m"
set = "upstream.concurrency.limit"
to = 10

[expect.fixed-7]
goodput = [0.5, 1]
rejected_per_ok = [0.0, 9.0]
p50 = ["0s", "9s"]
p99 = ["0s", "9s"]
settle = ["0s", "1m"]
`

func TestParse(t *testing.T) {
	s, err := Parse("everything.toml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	set := config.Default().Defaults
	w := s.world(&set, 9)
	if w.Seed != 9 || w.Duration != 5*time.Minute || w.Drain != 10*time.Second || w.Step != 500*time.Millisecond {
		t.Errorf("world is %+v", w)
	}
	if want := (sim.Retry{Attempts: 7, Base: 100 * time.Millisecond, Max: time.Second, Budget: .5, MaxPause: 20 * time.Second}); w.Workload.Retry != want {
		t.Errorf("retry is %+v, want %+v", w.Workload.Retry, want)
	}
	u := w.Upstream
	q := u.Quotas[0]
	if q.Limit != 120 || q.Answer.Status != 503 || q.Answer.RetryAfter.Mode != upstream.RetryExact || q.Answer.RetryAfter.Form != upstream.FormMillis ||
		!q.ChargeRefused || q.Answer.Body == "" || q.Burst != 10 {
		t.Errorf("quota is %+v", q)
	}
	if u.Concurrency.Answer.RetryAfter.Delay != 1500*time.Millisecond {
		t.Errorf("concurrency is %+v", u.Concurrency)
	}
	if !u.Server.Bounded || u.Server.Queue != 3 || u.Server.Answer.Status != 529 || u.Server.Service.Sigma != .8 {
		t.Errorf("server is %+v", u.Server)
	}
	if len(w.Changes) != 2 || w.Changes[0].At != time.Minute || w.Changes[0].Param.Kind != upstream.ParamConcurrency {
		t.Errorf("changes are %+v, want them in the order of time", w.Changes)
	}
	cs := Controllers()
	g := cs[len(cs)-1].guard(s, &set, 1) // ours
	if g.Queue != 10 || g.MaxWait != 30*time.Second || g.MaxPause != 20*time.Second || g.IgnoreRetryAfter {
		t.Errorf("guard is %+v", g)
	}
	if e := s.Expect["fixed-7"]; e.Settle[1] != time.Minute {
		t.Errorf("expectation is %+v", e)
	}
}

func TestBuiltinFiles(t *testing.T) {
	for _, name := range scenarios.Names() {
		text, ok := scenarios.Read(name)
		if !ok {
			t.Errorf("the order names %q, but there is no such file", name)
			continue
		}
		s, err := Parse(name+".toml", text)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Name != name {
			t.Errorf("%s.toml is called %q", name, s.Name)
		}
	}
	if _, ok := scenarios.Read("no-such"); ok {
		t.Error("Read finds a scenario that is not there")
	}
}

func TestParseControllers(t *testing.T) {
	cs, err := ParseControllers("ours, fixed-7,none")
	if err != nil || len(cs) != 3 || cs[1].limit != 7 || !cs[0].Ours || cs[1].Ours {
		t.Errorf("ParseControllers gives %+v, %v", cs, err)
	}
	for _, bad := range []string{"", "our", "fixed", "fixed-0", "fixed-07", "fixed-1000001", "none,none", "none,,ours"} {
		if cs, err := ParseControllers(bad); err == nil {
			t.Errorf("ParseControllers(%q) gives %+v, want an error", bad, cs)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(everything))
	for _, name := range scenarios.Names() {
		text, _ := scenarios.Read(name)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := Parse("fuzz.toml", data); err == nil {
			set := config.Default().Defaults
			w := s.world(&set, 1)
			w.Duration, w.Drain, w.Horizon = min(w.Duration, time.Second), 0, 0
			w.Workload.Rate, w.Workload.Clients, w.Changes = min(w.Workload.Rate, 1000), min(w.Workload.Clients, 1000), nil
			ctx, stop := context.WithTimeout(context.Background(), time.Second) // a server that takes no time serves billions
			defer stop()
			if _, err := sim.Bound(ctx, w); err != nil && ctx.Err() == nil {
				t.Errorf("a file that is accepted makes no world: %v", err)
			}
		}
	})
}
