package sim

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

func TestJainIndex(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		want float64
	}{{[]float64{5, 5, 5}, 1}, {[]float64{1, 0, 0, 0}, .25}, {[]float64{3, 1}, .8}} {
		if got := JainIndex(c.xs); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("JainIndex(%v) is %v, want %v", c.xs, got, c.want)
		}
	}
	if !math.IsNaN(JainIndex(nil)) {
		t.Error("JainIndex of nothing is a number")
	}
}

// capWorld is 24 places, half of them from 100 s to 200 s, and more demand than they can serve.
func capWorld() Config {
	return Config{
		Seed: 3, Duration: 5 * time.Minute, Drain: time.Minute, Step: time.Second, RTT: 40 * time.Millisecond, Samples: true,
		Workload: Workload{
			Kind: Backlog, Clients: 60, Retry: Retry{Attempts: 20, Base: 200 * time.Millisecond, Max: 5 * time.Second}, Streams: true,
			Input: draw.Dist{Mean: 100}, Output: draw.Dist{Mean: 50},
		},
		Upstream: upstream.Config{
			Refusal:     draw.Dist{Mean: 20e6},
			Concurrency: upstream.Concurrency{Limit: 24},
			Server:      upstream.Server{Service: draw.Dist{Shape: draw.Lognormal, Mean: 1e9, Sigma: .5}, OutputToken: 10 * time.Millisecond},
		},
		Changes: []Change{
			{At: 100 * time.Second, Param: Param{Kind: upstream.ParamConcurrency}, To: 12},
			{At: 200 * time.Second, Param: Param{Kind: upstream.ParamConcurrency}, To: 24},
		},
	}
}

// The measures of a fixed limit at the cap are what they must be: a place is kept for the round trip, too, which costs 3 %.
func TestMeasure(t *testing.T) {
	cfg := capWorld()
	cfg.Changes = nil
	l, err := Bound(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Horizon = l.Horizon
	cfg.Guard = guardWith(adaptive.NewFixed(24))
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := Measure(r, l)
	if m.Goodput < .95 || m.Goodput > 1.02 || m.Rejected > .01 || len(m.Phases) != 1 || m.Phases[0].Recovered != 0 || m.Lost != 0 || m.Inside != 0 || math.Abs(m.AttemptsPerOK-1) > .05 {
		t.Errorf("measures are %+v", m)
	}
	if m.Oscillation != 0 || m.GoodputCV > .2 || m.RejectedSteady > .01 {
		t.Errorf("oscillation %v, variation of goodput %v, steady refusals %v", m.Oscillation, m.GoodputCV, m.RejectedSteady)
	}
	// Half a second of output beside a second of service: 10 ms for each token after the first, give or take.
	if m.PerToken.P50 < 10*time.Millisecond || m.PerToken.P50 > 10300*time.Microsecond {
		t.Errorf("a token takes %v", m.PerToken.P50)
	}
	if m.FirstByte.P50 >= m.Latency.P50 || m.Wait.P50 <= 0 || m.FirstByte.P50 < m.Wait.P50 {
		t.Errorf("wait %v, first byte %v, latency %v", m.Wait.P50, m.FirstByte.P50, m.Latency.P50)
	}
}

// A recovery is measured after each change of the level.
func TestRecoveries(t *testing.T) {
	cfg := capWorld()
	l, err := Bound(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Guard = guardWith(newStepped([]time.Duration{0, 100 * time.Second, 230 * time.Second}, []int{24, 12, 24}))
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := Measure(r, l)
	if len(m.Phases) != 3 || m.Phases[1].Rise() || !m.Phases[2].Rise() {
		t.Fatalf("phases are %+v, want three: the second down, the third up", m.Phases)
	}
	if p := m.Phases[0]; p.From != 0 || p.Settled != 0 || p.Recovered != 0 {
		t.Errorf("the first phase is %+v, want it settled at once", p)
	}
	if p := m.Phases[1]; p.From != 100*time.Second || p.Recovered < 0 || p.Recovered > 2*time.Second || p.Outage() {
		t.Errorf("the second phase is %+v, want it recovered in 2 s", p)
	}
	// The limit follows 30 s late, calls take 1.5 s, and a few that are missed are chance.
	if p := m.Phases[2]; p.From != 200*time.Second || p.Recovered < 27*time.Second || p.Recovered > 33*time.Second {
		t.Errorf("the third phase is %+v, want it recovered in 27 s to 33 s", p)
	}
}

// The best constant limit at a cap is the cap, and limits that follow it are better.
func TestBest(t *testing.T) {
	if testing.Short() {
		t.Skip("some fifty runs")
	}
	cfg := capWorld()
	cfg.Duration, cfg.Samples = 3*time.Minute, false
	cfg.Changes = cfg.Changes[:1]
	l, err := Bound(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := DefaultObjective(l)
	still := cfg
	still.Changes = nil
	one, err := BestStatic(context.Background(), still, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := one.Limits[0]; n < 23 || n > 25 || one.Runs > 25 {
		t.Errorf("the best limit at a cap of 24 is %d, found in %d runs", n, one.Runs)
	}
	static, err := BestStatic(context.Background(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	pieces, err := BestPiecewise(context.Background(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("static %v: %.0f; piecewise %v: %.0f in %d runs", static.Limits, static.Value, pieces.Limits, pieces.Value, pieces.Runs)
	if len(pieces.Limits) != 2 || pieces.Limits[0] < 22 || pieces.Limits[0] > 26 || pieces.Limits[1] < 11 || pieces.Limits[1] > 14 {
		t.Errorf("the best limits at a cap of 24 and then 12 are %v", pieces.Limits)
	}
	if pieces.Value <= static.Value || pieces.Regret(static.Value) <= 0 {
		t.Errorf("piecewise %v is not better than static %v", pieces.Value, static.Value)
	}
}

// Replicas that join late and leave early are counted for the time that they were there, and each has its own guard.
func TestReplicas(t *testing.T) {
	cfg := capWorld()
	cfg.Workload = Workload{Rate: 20, Patience: 20 * time.Second, Retry: cfg.Workload.Retry}
	cfg.Replicas = []Replica{{}, {Join: 60 * time.Second}, {Leave: 200 * time.Second}}
	cfg.Decisions = true
	cfg.Guard = guardWith(nil)
	cfg.Guard.MaxWait = 12 * time.Second // so that nobody starts too late to be answered in time
	made := 0
	cfg.Guard.NewLaw = func(int) adaptive.Law { made++; return adaptive.New(adaptive.Config{}) }
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if made != 3 || len(r.Replicas) != 3 {
		t.Fatalf("%d laws for %d replicas", made, len(r.Replicas))
	}
	var ok int64
	for i, p := range r.Replicas {
		ok += p.OK
		if p.OK == 0 {
			t.Errorf("replica %d has no success", i)
		}
	}
	if ok != r.OK {
		t.Errorf("the replicas had %d successes, all had %d", ok, r.OK)
	}
	if p := r.Replicas[1]; p.Present != 240*time.Second || p.Series[30] != 0 {
		t.Errorf("replica 1 was there for %v, and had %v successes before", p.Present, p.Series[30])
	}
	if p := r.Replicas[2]; p.Present != 200*time.Second || p.Series[250] != 0 {
		t.Errorf("replica 2 was there for %v, and had %v successes afterwards", p.Present, p.Series[250])
	}
	seen := map[int]bool{}
	for _, d := range r.Decisions {
		seen[d.Guard] = true
	}
	if len(seen) != 3 {
		t.Errorf("decisions are of the guards %v, want all three", seen)
	}
	l, err := Bound(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if m := Measure(r, l); !(m.Jain > .5 && m.Jain <= 1) || !(m.JainWindows > .3 && m.JainWindows <= 1) {
		t.Errorf("Jain's index is %v, over windows %v", m.Jain, m.JainWindows)
	}
}

// Shares are compared a second that each replica was there in the second half, and by nothing where it was not.
func TestJainCountsTimeThere(t *testing.T) {
	r := &Result{Replicas: make([]Share, 4)}
	r.Series.Step, r.Series.OK = time.Second, make([]float64, 100)
	for k, there := range [][2]int{{0, 100}, {0, 60}, {45, 100}, {0, 50}} {
		p := &r.Replicas[k]
		p.Join, p.Present = time.Duration(there[0])*time.Second, time.Duration(there[1]-there[0])*time.Second
		p.Series = make([]float64, 100)
		for i := there[0]; i < there[1]; i++ {
			p.Series[i] = 3
		}
	}
	var m Measures
	m.shares(r)
	if math.Abs(m.Jain-1) > 1e-12 || math.Abs(m.MinShare-1) > 1e-12 {
		t.Errorf("Jain's index of replicas with as many a second is %v, the smallest share %v", m.Jain, m.MinShare)
	}
	for i := range r.Replicas[1].Series {
		r.Replicas[1].Series[i] /= 2
	}
	m.shares(r)
	if want := JainIndex([]float64{3, 1.5, 3}); math.Abs(m.Jain-want) > 1e-12 {
		t.Errorf("Jain's index is %v, want %v", m.Jain, want)
	}
}

// A replica that is there and gets nothing counts in each window, and one that is not there in none.
func TestJainWindowsCountsTheStarved(t *testing.T) {
	r := &Result{Replicas: make([]Share, 3)}
	r.Series.Step, r.Series.OK = time.Second, make([]float64, 40)
	for k, there := range [][2]int{{0, 40}, {0, 40}, {20, 40}} {
		p := &r.Replicas[k]
		p.Join, p.Present = time.Duration(there[0])*time.Second, time.Duration(there[1]-there[0])*time.Second
		p.Series = make([]float64, 40)
		for i := there[0]; i < there[1] && k != 1; i++ {
			p.Series[i] = 3
		}
	}
	var m Measures
	m.shares(r)
	if want := (JainIndex([]float64{1, 0}) + JainIndex([]float64{1, 0, 1})) / 2; math.Abs(m.JainWindows-want) > 1e-12 {
		t.Errorf("Jain's index over windows is %v, want %v: one of two, and then of three, gets nothing", m.JainWindows, want)
	}
}

// A tenant whose requests are refused in the guard got less of what it asked for.
func TestJainTenantsCountsTheRefused(t *testing.T) {
	cfg := Config{
		Seed: 1, Duration: time.Minute, Drain: 10 * time.Second, Step: time.Second,
		Workload: Workload{Rate: 40, Retry: Retry{Attempts: 1}, Tenants: []Tenant{{Name: "low", Weight: 1}, {Name: "high", Weight: 1, Priority: 7}}},
		Upstream: upstream.Config{Server: upstream.Server{Service: draw.Of(time.Second)}},
		Guard:    &Guard{Law: adaptive.NewFixed(20), Queue: 1024, MaxWait: 10 * time.Second, MaxPause: time.Minute},
	}
	r := runOf(t, cfg)
	low, high := &r.Tenants[0], &r.Tenants[1]
	if low.Offered+high.Offered != r.Offered || low.OK > low.Offered/4 || high.OK < 3*high.Offered/4 {
		t.Fatalf("of %d requests, low has %d of %d and high %d of %d", r.Offered, low.OK, low.Offered, high.OK, high.Offered)
	}
	want := JainIndex([]float64{float64(low.OK) / float64(low.Offered), float64(high.OK) / float64(high.Offered)})
	if m := Measure(r, boundOf(t, cfg)); m.JainTenants != want || want > .75 {
		t.Errorf("Jain's index of the tenants is %v, want %v", m.JainTenants, want)
	}
}
