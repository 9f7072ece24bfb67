package sim

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/adaptive/classic"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// busyWorld is a world with every stage, in which much is refused.
func busyWorld(seed uint64) Config {
	return Config{
		Seed: seed, Duration: 5 * time.Minute, Drain: time.Minute, Step: time.Second, Decisions: true,
		Workload: Workload{Rate: 30, Patience: 20 * time.Second, Retry: Retry{Attempts: 5, Base: 200 * time.Millisecond, Max: 5 * time.Second}},
		RTT:      40 * time.Millisecond,
		Upstream: upstream.Config{
			Refusal:     draw.Dist{Shape: draw.Exponential, Mean: 10e6},
			Quotas:      []upstream.Quota{{Limit: 1500, Burst: 40, Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact, Form: upstream.FormMillis}}}},
			Concurrency: upstream.Concurrency{Limit: 24},
			Server:      upstream.Server{Servers: 20, Bounded: true, Queue: 3, Service: draw.Dist{Shape: draw.Lognormal, Mean: 600e6, Sigma: .8}},
			Faults:      []upstream.Fault{{From: 100 * time.Second, To: 110 * time.Second, Answer: upstream.Answer{RetryAfter: upstream.RetryAfter{Mode: upstream.RetryExact}}}},
		},
		Changes: []Change{{At: 200 * time.Second, Param: Param{Kind: upstream.ParamConcurrency}, To: 10}},
	}
}

func guardWith(law adaptive.Law) *Guard {
	return &Guard{Law: law, Queue: 1024, MaxWait: time.Minute, MaxPause: 5 * time.Minute, PauseJitter: .05}
}

var laws = map[string]func() adaptive.Law{
	"ours":      func() adaptive.Law { return adaptive.New(adaptive.Config{}) },
	"fixed":     func() adaptive.Law { return adaptive.NewFixed(20) },
	"aimd":      func() adaptive.Law { return classic.NewAIMD(adaptive.Config{}) },
	"vegas":     func() adaptive.Law { return classic.NewVegasSeed(adaptive.Config{}, 7) },
	"gradient2": func() adaptive.Law { return classic.NewGradient2(adaptive.Config{}) },
}

// The same seed gives the same run, whatever runs beside it and on however many cores.
func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	for name, law := range laws {
		hash := func() uint64 {
			cfg := busyWorld(3)
			if raceDetector {
				cfg.Duration = 40 * time.Second
			}
			cfg.Guard = guardWith(law())
			cfg.Guard.NewLaw = func(int) adaptive.Law { return law() }
			res, err := Run(context.Background(), cfg)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return 0
			}
			return res.Hash
		}
		want := hash()
		for _, procs := range []int{1, 4} {
			was := runtime.GOMAXPROCS(procs)
			var wg sync.WaitGroup
			got := make([]uint64, 4)
			for i := range got {
				wg.Go(func() { got[i] = hash() })
			}
			wg.Wait()
			runtime.GOMAXPROCS(was)
			for _, h := range got {
				if h != want {
					t.Errorf("%s: hash %x with GOMAXPROCS %d, want %x", name, h, procs, want)
				}
			}
		}
	}
}

// Controllers with one seed meet the same requests and the same service times.
func TestPairing(t *testing.T) {
	var first *Result
	for name, law := range laws {
		cfg := busyWorld(5)
		cfg.Guard = guardWith(law())
		cfg.Guard.NewLaw = func(int) adaptive.Law { return law() }
		res, err := Run(context.Background(), cfg)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if first == nil {
			first = res
		}
		if res.Offered != first.Offered {
			t.Errorf("%s: %d requests offered, others saw %d", name, res.Offered, first.Offered)
		}
	}
}

// Every law keeps the books balanced in every world.
func TestInvariantsInRandomWorlds(t *testing.T) {
	t.Parallel()
	worlds := 150
	switch {
	case raceDetector:
		worlds = 8
	case testing.Short():
		worlds = 30
	}
	for n := range worlds {
		rng := rand.New(rand.NewPCG(uint64(n), 2))
		cfg := randomWorld(rng)
		for name, law := range laws {
			cfg.Guard = guardWith(law())
			cfg.Guard.NewLaw = func(int) adaptive.Law { return law() }
			cfg.Guard.IgnoreRetryAfter = name != "ours"
			if _, err := Run(context.Background(), cfg); err != nil {
				t.Fatalf("world %d, %s: %v\n%s", n, name, err, describe(cfg))
			}
		}
	}
}

// A guard that is broken is found out.
func TestInvariantsAreSeen(t *testing.T) {
	r := newRun(new(busyWorld(1)))
	for range 1000 {
		r.step()
	}
	r.tally.failed++
	var inv *InvariantError
	if _, err := r.finish(); !errors.As(err, &inv) || inv.Name != "conservation" {
		t.Errorf("a lost request gives %v, want a violated conservation", err)
	}
	cfg := busyWorld(1)
	cfg.Guard = guardWith(adaptive.NewFixed(8))
	r = newRun(&cfg)
	for range 1000 {
		r.step()
	}
	r.replicas[0].gates[0] = int64(time.Hour)
	for r.step() {
	}
	if _, err := r.finish(); !errors.As(err, &inv) || inv.Name != "gate" || !strings.Contains(inv.Text, "1h0m0s") {
		t.Errorf("a send inside a gate gives %v, want a violated gate with its numbers", err)
	}
}

func TestStop(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	cancel(why)
	cfg := busyWorld(1)
	cfg.Duration = 1000 * time.Hour
	if _, err := Run(ctx, cfg); !errors.Is(err, why) {
		t.Errorf("Run with an ended context returns %v, want its cause", err)
	}
	// The turns of all sessions of 1000 hours are found before the first is served.
	cfg.Workload = Workload{Kind: Sessions, Rate: 100, Turns: draw.Dist{Mean: 5}, Think: draw.Of(time.Second), Retry: Retry{Attempts: 1}}
	if turns, err := newBound(&cfg).turns(ctx); !errors.Is(err, why) || len(turns) > 0 {
		t.Errorf("with an ended context there are %d turns and the error %v, want its cause", len(turns), err)
	}
}

func TestRunRefusesNoWorld(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"Duration":      func(c *Config) { c.Duration = 0 },
		"Rate":          func(c *Config) { c.Workload.Rate = 0 },
		"Clients":       func(c *Config) { c.Workload = Workload{Kind: Closed, Retry: Retry{Attempts: 1}} },
		"Patience":      func(c *Config) { c.Workload.Kind, c.Workload.Clients = Backlog, 1 },
		"Attempts":      func(c *Config) { c.Workload.Retry.Attempts = 0 },
		"Burst":         func(c *Config) { c.Upstream.Quotas[0].Burst = 0 },
		"black hole":    func(c *Config) { c.Workload.Patience = 0; c.Upstream.Faults[0].Kind = upstream.BlackHole },
		"Law":           func(c *Config) { c.Guard = &Guard{} },
		"NewLaw":        func(c *Config) { c.Guard = guardWith(adaptive.NewFixed(1)); c.Replicas = make([]Replica, 2) },
		"Changes[1]":    func(c *Config) { c.Changes = append(c.Changes, Change{}) },
		"Horizon 10m0s": func(c *Config) { c.Horizon = 10 * time.Minute },
	} {
		cfg := busyWorld(1)
		spoil(&cfg)
		if _, err := Run(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Run: error %v, want one that names %s", err, name)
		}
	}
}

// A pause is waited for once by everybody behind it, and the trace says when.
func TestReplay(t *testing.T) {
	const ms = time.Millisecond
	g := Guard{Law: adaptive.NewFixed(2), Queue: 2, MaxWait: 10 * time.Second, MaxPause: time.Minute}
	trace := Replay(g, 1, []Arrival{
		{At: 0, Service: 100 * ms},
		{At: 1 * ms, Service: 50 * ms, Outcome: adaptive.Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second}},
		{At: 2 * ms, Service: 10 * ms},
		{At: 3 * ms, Service: 10 * ms, GiveUp: 20 * ms},
		{At: 4 * ms, Service: 10 * ms},
		{At: 30 * ms, Service: 10 * ms, GiveUp: time.Second},
		{At: 60 * ms, Service: 10 * ms, GiveUp: time.Second},
	})
	want := []Fate{
		{Started: true, Start: 0, End: 100 * ms},
		{Started: true, Start: 1 * ms, End: 51 * ms},
		{Started: true, Start: 1051 * ms, End: 1061 * ms},
		{GaveUp: true, Start: 23 * ms},
		{Reason: admission.ReasonQueueFull, Start: 4 * ms},
		{GaveUp: true, Start: 1030 * ms},
		{Reason: admission.ReasonQueueFull, Start: 60 * ms},
	}
	for i := range want {
		if trace.Fates[i] != want[i] {
			t.Errorf("arrival %d: %+v, want %+v", i, trace.Fates[i], want[i])
		}
	}
	if n := trace.Counts.Pauses; n != 1 {
		t.Errorf("%d pauses, want 1", n)
	}
}

// BenchmarkEvents is the speed of a world with a guard: an event is an arrival, a step of an attempt, or a timer.
func BenchmarkEvents(b *testing.B) {
	quiet := Config{
		Duration: 1 << 60, Drain: time.Second,
		Workload: Workload{Kind: Closed, Clients: 64, Retry: Retry{Attempts: 3, Base: 100 * time.Millisecond, Max: time.Second}},
		Upstream: upstream.Config{Server: upstream.Server{Servers: 10, Service: draw.Dist{Shape: draw.Exponential, Mean: 100e6}}},
	}
	open := quiet
	open.Workload = Workload{Rate: 90, Patience: 30 * time.Second, Retry: quiet.Workload.Retry}
	refusing := open
	refusing.Workload.Rate = 120
	refusing.Upstream.Concurrency = upstream.Concurrency{Limit: 8}
	for _, c := range []struct {
		name string
		cfg  Config
		law  func() adaptive.Law
	}{
		{"none/open", open, nil},
		{"ours/open", open, laws["ours"]},
		{"ours/closed", quiet, laws["ours"]},
		{"ours/refusing", refusing, laws["ours"]},
		{"vegas/closed", quiet, laws["vegas"]},
	} {
		b.Run(c.name, func(b *testing.B) {
			cfg := c.cfg
			if c.law != nil {
				cfg.Guard = guardWith(c.law())
			}
			r := newRun(&cfg)
			for range 100_000 { // slabs, heap and caches grow to what they need
				r.step()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if !r.step() {
					b.Fatal(r.check.err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mevents/s")
		})
	}
}

// However often a back-off was doubled, it is between 0 and the longest.
func TestLongBackoffs(t *testing.T) {
	for _, base := range []time.Duration{time.Millisecond, time.Minute, time.Hour} {
		r := newRun(&Config{Seed: 1, Duration: time.Second, Workload: Workload{Rate: 1, Retry: Retry{Attempts: 100, Base: base, Max: time.Hour, Steady: 1}}})
		was := base
		for attempts := 1; attempts <= 100; attempts++ {
			rest := time.Duration(r.backoff(&request{attempts: attempts}, 0, false))
			if want := min(was, time.Hour); rest != want {
				t.Errorf("%v doubled %d times is %v, want %v", base, attempts-1, rest, want)
			}
			was = min(2*was, time.Hour)
		}
	}
}

// A request that met a server's error, or that a server gave up, is sent again only when it may be repeated.
func TestErrorsAreRepeatedWhenTheyMay(t *testing.T) {
	for _, c := range []struct {
		status            int
		once, whenItMayBe int64 // attempts of a request
	}{{429, 3, 3}, {503, 3, 3}, {500, 1, 3}, {502, 1, 3}, {504, 1, 3}, {400, 1, 1}, {401, 1, 1}} {
		for _, repeatable := range []bool{false, true} {
			r := runOf(t, Config{
				Seed: 1, Duration: 10 * time.Second, Drain: time.Minute,
				Workload: Workload{Rate: 1, Repeatable: repeatable, Retry: Retry{Attempts: 3, Base: time.Millisecond, Max: time.Millisecond}},
				Upstream: upstream.Config{Noise: upstream.Noise{Share: 1, Answer: upstream.Answer{Status: c.status}}},
			})
			want := c.once
			if repeatable {
				want = c.whenItMayBe
			}
			if r.Offered == 0 || r.Sent != want*r.Offered {
				t.Errorf("status %d, repeatable %t: %d requests are sent %d times, want %d each", c.status, repeatable, r.Offered, r.Sent, want)
			}
		}
	}
}

// Of a list of requests some have patience and others wait for ever: who has none is not given up at the end of that of a request that was
// answered before.
func TestPatienceIsOnesOwn(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Seed: 1, Duration: time.Minute, Step: time.Second,
		Workload: Workload{Kind: Traced, Rate: 1, Retry: Retry{Attempts: 1}, Requests: []TraceRequest{
			{Tenant: -1, Patience: 5 * time.Second}, {At: 2 * time.Second, Tenant: -1},
		}},
		Upstream: upstream.Config{Server: upstream.Server{Service: draw.Of(100 * time.Millisecond)}},
		Changes:  []Change{{At: time.Second, Param: Param{Kind: upstream.ParamService}, To: 10}},
	}
	if res := runOf(t, cfg); res.OK != 2 || res.Failed != 0 {
		t.Errorf("%d successes, %d failed, want 2 and none", res.OK, res.Failed)
	}
}

// Means are over the duration, also where nothing happens any more long before it is over: what was in flight is what Little's law says of what succeeded.
func TestMeansOverDuration(t *testing.T) {
	for n, wants := range map[int]float64{0: 0, 1: 0.1, 3: 0.3} {
		w := Workload{Kind: Traced, Rate: 1, Retry: Retry{Attempts: 1}, Patience: 2 * time.Second}
		for i := range n {
			w.Requests = append(w.Requests, TraceRequest{At: time.Duration(i) * 100 * time.Millisecond, Tenant: -1})
		}
		r, err := Run(t.Context(), Config{
			Seed: 1, Duration: 10 * time.Second, Step: time.Second, Workload: w, Guard: guardWith(adaptive.NewFixed(20)),
			Upstream: upstream.Config{Server: upstream.Server{Service: draw.Of(time.Second)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if r.OK != int64(n) || math.Abs(r.MeanInFlight-wants) > 1e-9 || math.Abs(r.MeanLimit-20) > 1e-9 {
			t.Errorf("%d requests of 1 s in 10 s: %v in flight with a limit of %v on average, want %v and 20", n, r.MeanInFlight, r.MeanLimit, wants)
		}
	}
}
