package sim

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// estimate is a mean over seeds with its standard error.
type estimate struct{ mean, se float64 }

// over runs a world with several seeds and returns what f says of each.
func over(t *testing.T, seeds int, cfg Config, f func(*Result) float64) estimate {
	t.Helper()
	if raceDetector {
		t.Skip("millions of events in one goroutine: left to the run without the race detector")
	}
	var sum, sq float64
	for i := range seeds {
		cfg.Seed = uint64(i + 1)
		res, err := Run(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		x := f(res)
		sum, sq = sum+x, sq+x*x
	}
	n := float64(seeds)
	mean := sum / n
	return estimate{mean, math.Sqrt(max(0, sq/n-mean*mean) / (n - 1))}
}

// near asserts that an estimate is within 1 % and within 3 standard errors of want.
func near(t *testing.T, what string, got estimate, want float64) {
	t.Helper()
	t.Logf("%s: %.5g ± %.2g, closed form %.5g (%+.2f %%, %+.1f standard errors)",
		what, got.mean, got.se, want, 100*(got.mean/want-1), (got.mean-want)/got.se)
	if math.Abs(got.mean/want-1) > .01 {
		t.Errorf("%s is %.6g, want %.6g within 1 %%", what, got.mean, want)
	}
	if math.Abs(got.mean-want) > 3*got.se+1e-9*want {
		t.Errorf("%s is %.6g, want %.6g within 3 standard errors (%.2g)", what, got.mean, want, got.se)
	}
}

// erlangB is the share of calls that c places refuse at a load of a erlang.
func erlangB(c int, a float64) float64 {
	b := 1.0
	for i := 1; i <= c; i++ {
		b = a * b / (float64(i) + a*b)
	}
	return b
}

// erlangC is the share of calls that must wait for one of c servers at a load of a erlang.
func erlangC(c int, a float64) float64 {
	b := erlangB(c, a)
	rho := a / float64(c)
	return b / (1 - rho*(1-b))
}

const longRun = 4000 * time.Second

// queueWorld is Poisson arrivals at c servers with a mean service time of 100 ms and a queue without end.
func queueWorld(c int, rho float64, service draw.Shape) Config {
	return Config{
		Duration: longRun, Drain: time.Hour,
		Workload: Workload{Rate: rho * float64(c) * 10, Retry: Retry{Attempts: 1}},
		Upstream: upstream.Config{Server: upstream.Server{Servers: float64(c), Service: draw.Dist{Shape: service, Mean: 100e6}}},
	}
}

func meanWait(r *Result) float64 { return r.QueueWait.Seconds() / float64(r.Starts) }

// M/M/c: Wq = C(c, a) / (c·mu - lambda).
func TestQueueMMC(t *testing.T) {
	t.Parallel()
	c, rho := 4, .7
	want := erlangC(c, rho*float64(c)) / (10 * float64(c) * (1 - rho))
	near(t, "mean wait in M/M/4, s", over(t, 50, queueWorld(c, rho, draw.Exponential), meanWait), want)
}

// M/D/1: Wq = rho / (2·mu·(1 - rho)).
func TestQueueMD1(t *testing.T) {
	t.Parallel()
	rho := .7
	near(t, "mean wait in M/D/1, s", over(t, 40, queueWorld(1, rho, draw.Constant), meanWait), rho/(2*10*(1-rho)))
}

// M/G/1, Pollaczek and Khinchine: Wq = rho/(1-rho)·(1+CV²)/2/mu.
func TestQueueMG1(t *testing.T) {
	t.Parallel()
	rho, sigma := .5, .5
	cfg := queueWorld(1, rho, draw.Lognormal)
	cfg.Upstream.Server.Service.Sigma = sigma
	cv2 := math.Exp(sigma*sigma) - 1
	near(t, "mean wait in M/G/1, s", over(t, 60, cfg, meanWait), rho/(1-rho)*(1+cv2)/2/10)
}

// The same where the variation is that of two tenants: service of 100 ms and of 400 ms, three to one, and constant.
func TestQueueOfTwoTenants(t *testing.T) {
	t.Parallel()
	rho, mean := .5, .175
	cfg := queueWorld(1, rho, draw.Constant)
	cfg.Workload.Rate = rho / mean
	cfg.Workload.Tenants = []Tenant{{Weight: 3}, {Weight: 1, Work: 4}}
	second := (3*.1*.1 + .4*.4) / 4
	near(t, "mean wait of two tenants, s", over(t, 60, cfg, meanWait), rho/mean*second/2/(1-rho))
}

// A tenant asks from Join until Leave, and its share of the requests is that of its weight among those who ask.
func TestTenantsJoinAndLeave(t *testing.T) {
	cfg := queueWorld(0, .5, draw.Constant)
	cfg.Duration = 1000 * time.Second
	cfg.Workload.Rate = 50
	cfg.Workload.Tenants = []Tenant{{Weight: 1}, {Weight: 3, Join: 200 * time.Second, Leave: 400 * time.Second}}
	res, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	got := float64(res.Tenants[1].Offered)
	if want := 50 * 200 * .75; math.Abs(got-want) > 4*math.Sqrt(want) {
		t.Errorf("%v requests of a tenant that asks for 200 s, want %v", got, want)
	}
	bound, err := Bound(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if bound.OK < int64(res.InTime) {
		t.Errorf("%d successes in time, and a bound of %d", res.InTime, bound.OK)
	}
	for _, bad := range [][]Tenant{{{Weight: 1, Join: 1}}, {{Weight: 1}, {Weight: 1, Join: 5, Leave: 5}}, {{Weight: 1, Work: -1}}, {{Weight: 1, Work: math.NaN()}}} {
		cfg.Workload.Tenants = bad
		if _, err := Run(context.Background(), cfg); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// Erlang B, which does not depend on the shape of the service time.
func TestCapIsErlangB(t *testing.T) {
	t.Parallel()
	for _, service := range []draw.Dist{
		{Shape: draw.Exponential, Mean: 100e6},
		{Shape: draw.Constant, Mean: 100e6},
		{Shape: draw.Lognormal, Mean: 100e6, Sigma: 1},
		{Shape: draw.Uniform, Mean: 100e6, Spread: 90e6},
	} {
		cfg := Config{
			Duration: longRun / 8, Drain: time.Hour,
			Workload: Workload{Rate: 150, Retry: Retry{Attempts: 1}},
			Upstream: upstream.Config{
				Concurrency: upstream.Concurrency{Limit: 10, Answer: upstream.Answer{Status: 429}},
				Server:      upstream.Server{Service: service},
			},
		}
		near(t, "share of 429s, "+service.Shape.String(), over(t, 20, cfg, func(r *Result) float64 {
			return float64(r.Rejected) / float64(r.Sent)
		}), erlangB(10, 15))
	}
}

// A token bucket under more demand than it refills accepts r·T + b, but for the tokens that it lacks at the end.
func TestBucketAccepts(t *testing.T) {
	const perMinute, burst = 600, 50
	cfg := Config{
		Duration: longRun, Drain: time.Minute,
		Workload: Workload{Rate: 20, Retry: Retry{Attempts: 1}},
		Upstream: upstream.Config{
			Quotas: []upstream.Quota{{Limit: perMinute, Burst: burst}},
			Server: upstream.Server{Service: draw.Dist{Mean: 1e6}},
		},
	}
	most := perMinute/60*longRun.Seconds() + burst
	got := over(t, 10, cfg, func(r *Result) float64 {
		// What refilled since the last arrival is not lost, but not accepted either.
		if lacks := most - float64(r.OK); lacks < 0 || lacks > 5 {
			t.Errorf("accepted %v less than r·T + b", lacks)
		}
		return float64(r.OK)
	})
	t.Logf("accepted: %.1f ± %.2g, closed form r·T + b = %v", got.mean, got.se, most)
}

// A window accepts its number in each window.
func TestWindowAccepts(t *testing.T) {
	cfg := Config{
		Duration: 10 * time.Minute, Drain: time.Minute,
		Workload: Workload{Rate: 20, Retry: Retry{Attempts: 1}},
		Upstream: upstream.Config{
			Quotas: []upstream.Quota{{Limit: 300, Algorithm: upstream.FixedWindow, Window: 30 * time.Second}},
			Server: upstream.Server{Service: draw.Dist{Mean: 1e6}},
		},
	}
	res, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if res.OK != 3000 {
		t.Errorf("20 windows of 150 accept %d, want 3000", res.OK)
	}
}

// The machine repair model: N clients that think for an exponential time Z before they need one of c exponential
// servers. With p(k) the probability of k at the servers, throughput is mu·sum min(k, c)·p(k).
func TestClosedLoop(t *testing.T) {
	const n, c, mu, z = 12, 4, 10.0, .5
	p, norm, want := 1.0, 0.0, 0.0
	for k := range n + 1 {
		if k > 0 {
			p *= float64(n-k+1) / z / (mu * float64(min(k, c)))
		}
		norm += p
		want += p * mu * float64(min(k, c))
	}
	cfg := Config{
		Duration: longRun, Drain: time.Minute,
		Workload: Workload{Kind: Closed, Clients: n, Think: draw.Dist{Shape: draw.Exponential, Mean: z * 1e9}, Retry: Retry{Attempts: 1}},
		Upstream: upstream.Config{Server: upstream.Server{Servers: c, Service: draw.Dist{Shape: draw.Exponential, Mean: 1e9 / mu}}},
	}
	near(t, "throughput of the closed loop, 1/s", over(t, 10, cfg, func(r *Result) float64 {
		return float64(r.OK) / longRun.Seconds()
	}), want/norm)
}

// A tenant with answers of its own length has them, and what callers know of an answer's length is about their own.
func TestOutputsOfTenants(t *testing.T) {
	long := draw.Dist{Mean: 1000}
	cfg := queueWorld(0, .5, draw.Constant)
	cfg.Duration = 100 * time.Second
	cfg.Workload.Rate, cfg.Workload.Output = 10, draw.Dist{Mean: 100}
	cfg.Workload.Tenants = []Tenant{{Weight: 1}, {Weight: 1, Output: &long}}
	res, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{101, 1001} {
		if x := &res.Tenants[i]; x.OK == 0 || float64(x.Tokens)/float64(x.OK) != want {
			t.Errorf("tenant %d: %d tokens in %d successes, want %v each", i, x.Tokens, x.OK, want)
		}
	}
	outputsOf := func(w Workload) []outputs {
		var s source
		s.init(&Config{Workload: w})
		return s.outputs
	}
	if got := outputsOf(cfg.Workload); !slices.Equal(got, []outputs{{100, 200}, {1000, 2000}}) {
		t.Errorf("answers of tenants have %v tokens on average and at most, want 100 and 1000, and twice that", got)
	}
	cfg.Workload.MaxOutput = 4000
	if got := outputsOf(cfg.Workload); !slices.Equal(got, []outputs{{100, 4000}, {1000, 4000}}) {
		t.Errorf("answers have %v tokens on average and at most, want at most 4000", got)
	}
	traced := Workload{Kind: Traced, Requests: []TraceRequest{{Output: 100, Tenant: -1}, {Output: 900, Tenant: -1}}}
	if got := outputsOf(traced); !slices.Equal(got, []outputs{{500, 0}}) {
		t.Errorf("answers of a trace have %v tokens on average and at most, want 500, and no bound", got)
	}
}
