package scenario

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/admission"
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

// A guard is what the configuration says, budget and room too, but for what the scenario says itself; the latter can be forgotten.
func TestGuardOfConfiguration(t *testing.T) {
	file, err := config.Parse("limits.toml", []byte(`
[guard]
queue = 77
ignore_retry_after = true
[guard.room]
aging = "7s"
drop = "oldest"
reserved_share = 0.25
reserved_for = 3
weights = { big = 4.0 }
[guard.budget]
overrun = 0.2
unseen = 500
oversize = "refuse"
[[guard.budget.limit]]
kind = "requests"
limit = 60
`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse("everything.toml", []byte(everything))
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"guard.queue", "guard.max_wait", "guard.max_pause", "guard.room.aging", "guard.room.reserved_for", "guard.retry"}
	get := func(name string, s *Scenario) *sim.Guard {
		c, err := ParseController(name)
		if err != nil {
			t.Fatal(err)
		}
		return c.guard(s, &file.Defaults, 1)
	}
	room := admission.QueueConfig{Aging: 7 * time.Second, Weights: map[string]float64{"big": 4}, Drop: admission.DropOldest, ReservedShare: .25, ReservedFor: 3}
	for _, name := range []string{"ours", "fixed-7"} {
		if g := get(name, s); g.Queue != 10 || g.MaxWait != 30*time.Second || !reflect.DeepEqual(g.Room, room) || !g.IgnoreRetryAfter {
			t.Errorf("%s: the guard is %+v", name, g)
		}
		if g := get(name, s.Unguarded(all...)); g.Queue != 77 || g.MaxWait != time.Minute || g.MaxPause != 5*time.Minute {
			t.Errorf("%s: the guard without what the scenario says is %+v", name, g)
		}
	}
	if g := get("ours", s); len(g.Budgets.Limits) != 1 || g.Budgets.Limits[0].Limit != 60 || g.Budgets.Oversize != admission.Refuse ||
		g.Estimate != (admission.EstimateConfig{Overrun: .2, Input: 500, Output: 500}) {
		t.Errorf("the budget is %+v, estimated by %+v", g.Budgets, g.Estimate)
	}
	if g := get("fixed-7", s); len(g.Budgets.Limits) != 0 {
		t.Errorf("a rival has the budget %+v", g.Budgets)
	}
	for _, test := range []struct {
		keys []string
		want int // attempts
	}{{nil, 7}, {[]string{"guard.retry.max_delay", "guard.retryer"}, 7}, {[]string{"guard.retry.max_attempts"}, file.Defaults.Retry.MaxAttempts}, {[]string{"guard"}, file.Defaults.Retry.MaxAttempts}} {
		if got := s.Unguarded(test.keys...).world(&file.Defaults, 1).Workload.Retry.Attempts; got != test.want {
			t.Errorf("without %v there are %d attempts, want %d", test.keys, got, test.want)
		}
	}
	own, err := Parse("own.toml", []byte(strings.Replace(everything, "[guard]", "[guard]\naging = \"2s\"\nreserved_share = 0.5\nreserved_for = 6", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if g := get("ours", own); g.Room.Aging != 2*time.Second || g.Room.ReservedShare != .5 || g.Room.ReservedFor != 6 || g.Room.Drop != admission.DropOldest {
		t.Errorf("the room of a scenario that says something of it is %+v", g.Room)
	}
	if g := get("ours", own.Unguarded(all...)); !reflect.DeepEqual(g.Room, room) {
		t.Errorf("the room without that is %+v, want %+v", g.Room, room)
	}
}

// A budget that is half of the quota keeps a guard below it, in the simulator as in production.
func TestBudgetIsSimulated(t *testing.T) {
	file, err := config.Parse("limits.toml", []byte("[[guard.budget.limit]]\nkind = \"requests\"\nlimit = 60\nburst = 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse("small.toml", []byte("name = \"small\"\nintent = \"A quota of 120 a minute.\"\nduration = \"5m\"\n[workload]\nkind = \"poisson\"\nrate = 5.0\npatience = \"20s\"\n"+
		"[[upstream.quota]]\nrequests_per_minute = 120\nburst = 10\n[upstream.server]\nservice = { mean = \"500ms\" }\n"))
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ParseController("ours")
	if err != nil {
		t.Fatal(err)
	}
	trial := &Trial{Scenario: s, Settings: &file.Defaults, Controller: ours, Seed: 1}
	if got := outcome(t, trial).Summary; got.Rejected429 != 0 || got.Sent < 290 || got.Sent > 370 {
		t.Errorf("%d are sent and %d refused, want some 60 a minute and none", got.Sent, got.Rejected429)
	}
}
