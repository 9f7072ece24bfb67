package report

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/flyball-go/flyball/internal/stats"
)

// synthetic makes a report of invented runs: shapes that look like those of the
// simulator, numbers that mean nothing. The same arguments give the same report.
func synthetic(scenarios, controllers, points int) *Report {
	r := &Report{
		Title:   "Synthetic runs",
		Version: "test",
		Command: "go test ./internal/report",
		Seed:    1,
		Seeds:   4,
	}
	for i := range scenarios {
		r.Scenarios = append(r.Scenarios, syntheticScenario(i, controllers, points))
	}
	return r
}

var syntheticScenarios = []struct {
	name, intent string
	limit        func(at float64) float64 // oracle's limit; at is 0 to 1
	service      float64                  // seconds
}{
	{"concurrency-cap", "The upstream answers 429 above ten in flight; find the ten and stay there.", func(float64) float64 { return 10 }, 0.2},
	{"rpm-bucket", "A token bucket of 600 requests a minute without Retry-After; hold its rate.", func(float64) float64 { return 20 }, 2},
	{"capacity-step", "Capacity goes to 2.5 times at one third and to 0.6 times at two thirds; follow both.", func(at float64) float64 {
		switch {
		case at < 1.0/3:
			return 16
		case at < 2.0/3:
			return 40
		}
		return 10
	}, 0.4},
	{"outage-30s", "The upstream is gone for a tenth of the time and comes back whole; come back without a herd.", func(at float64) float64 {
		if at >= 0.4 && at < 0.5 {
			return 0
		}
		return 24
	}, 0.5},
	{"queue-knee", "A queue in front of ten servers takes everything; keep latency low without losing work.", func(float64) float64 { return 12 }, 0.1},
	{"burst", "Bursts of work, then silence; be ready for the next one.", func(at float64) float64 {
		if math.Mod(at*6, 1) < 0.4 {
			return 30
		}
		return 4
	}, 0.3},
}

var syntheticControllers = []struct {
	name             string
	gain, cut, noise float64 // of the limit: growth per step, multiplied at a cut, noise
	unlimited, fixed bool
}{
	{name: "no guard", unlimited: true, noise: 0.05},
	{name: "fixed 16", fixed: true, noise: 0.03},
	{name: "gcl-aimd", gain: 0.035, cut: 0.7, noise: 0.04},
	{name: "gcl-vegas", gain: 0.02, cut: 0.85, noise: 0.08},
	{name: "gcl-gradient2", gain: 0.012, cut: 0.8, noise: 0.06},
	{name: "ours", gain: 0.05, cut: 0.94, noise: 0.02},
}

func syntheticScenario(n, controllers, points int) Scenario {
	shape := syntheticScenarios[n%len(syntheticScenarios)]
	s := Scenario{
		Name:     shape.name,
		Intent:   shape.intent,
		Duration: time.Duration(points) * time.Second,
		Oracle:   Oracle{Note: "invented, as everything here", Step: time.Second},
	}
	for i := range points {
		limit := shape.limit(float64(i) / float64(points))
		s.Oracle.Limit = append(s.Oracle.Limit, limit)
		s.Oracle.Rate = append(s.Oracle.Rate, limit/shape.service)
		s.Oracle.Goodput += limit / shape.service / float64(points)
	}
	for c := range controllers {
		s.Runs = append(s.Runs, syntheticRun(uint64(100*n+c), c, &s, shape.service, points))
	}
	return s
}

func syntheticRun(seed uint64, n int, s *Scenario, service float64, points int) Run {
	shape := syntheticControllers[n%len(syntheticControllers)]
	rng := rand.New(rand.NewPCG(seed, 7))
	run := Run{Controller: shape.name, Ours: shape.name == "ours", Series: Series{Step: time.Second}}
	limit, ok, rejected, waiting := 4.0, 0.0, 0.0, 0.0
	for i := range points {
		best := s.Oracle.Limit[i]
		switch {
		case shape.unlimited:
			limit = math.Inf(1)
		case shape.fixed:
			limit = 16
		case limit > best*(1.02+shape.noise*rng.NormFloat64()) && limit > 1:
			limit = max(1, limit*shape.cut)
			run.Decisions = append(run.Decisions, Decision{
				At: time.Duration(i)*time.Second + 137*time.Millisecond, Limit: int(math.Round(limit)), Cause: "overload", Binding: "limit",
			})
		default:
			before := math.Round(limit)
			if limit < best/2 {
				limit *= 1.5
			}
			limit += max(0.1, limit*shape.gain)
			if math.Round(limit) != before {
				run.Decisions = append(run.Decisions, Decision{
					At: time.Duration(i)*time.Second + 611*time.Millisecond, Limit: int(math.Round(limit)), Cause: "probe", Binding: "limit",
				})
			}
		}
		inFlight := min(limit, best*1.6+3)
		good := min(inFlight, best) / service * (1 - math.Abs(shape.noise*rng.NormFloat64()))
		bad := max(0, inFlight-best) / service * (0.8 + 0.4*rng.Float64())
		if shape.unlimited {
			bad *= 3
			good *= 0.8
		}
		waiting = max(0, waiting+(best/service*1.02-good)*0.3*rng.Float64()-0.2)
		run.Series.Limit = append(run.Series.Limit, math.Round(limit))
		run.Series.InFlight = append(run.Series.InFlight, inFlight)
		run.Series.Waiting = append(run.Series.Waiting, waiting)
		run.Series.Goodput = append(run.Series.Goodput, good)
		run.Series.Rejected = append(run.Series.Rejected, bad)
		ok += good
		rejected += bad
	}
	settle, settled, level := inventSettling(stats.MovingMean(time.Second, run.Series.InFlight, 10*time.Second), s.Oracle.Limit)
	// Latencies are invented from the service time and the mean of waiting.
	p50 := time.Duration((service + 0.05*stats.Mean(run.Series.Waiting)*service) * 1e9)
	run.Summary = Summary{
		Regret: math.NaN(), RegretStatic: math.NaN(), RegretPiecewise: math.NaN(),
		Seeds: 4, OK: int64(4 * ok), Rejected429: int64(4 * rejected), Sent: int64(4*ok) + int64(4*rejected),
		Failed: int64(ok / 50), Goodput: ok / (s.Oracle.Goodput * float64(points)), GoodputRate: ok / float64(points),
		RejectedPerOK: RejectedPerOK(int64(4*rejected), int64(4*ok)),
		Mean:          p50 * 5 / 4, P50: p50, P90: p50 * 2, P99: p50*4 + time.Duration(rng.IntN(1000))*time.Millisecond,
		Settle: settle, Settled: settled, NoLevel: !level,
		MeanLimit: stats.Mean(run.Series.Limit), MeanInFlight: stats.Mean(run.Series.InFlight),
	}
	run.Summary.GoodputLow = run.Summary.Goodput * 0.98
	run.Summary.GoodputHigh = run.Summary.Goodput * 1.01
	run.Summary.Offered = run.Summary.OK + run.Summary.Failed
	return run
}

// inventSettling returns how long a level took to come within a tenth of the best one, for 10 s, in the slowest phase, and whether it did.
func inventSettling(got, want []float64) (settle time.Duration, ok, level bool) {
	const hold = 10
	for begin := 0; begin < len(want); {
		end := begin + 1
		for end < len(want) && math.Abs(want[end]-want[begin]) <= 0.1*want[begin] {
			end++
		}
		if want[begin] > 0 && end-begin >= hold {
			level = true
			inside, at := 0, begin
			for ; at < end && inside < hold; at++ {
				if inside++; math.Abs(got[at]-want[at]) > 0.1*want[at] {
					inside = 0
				}
			}
			if inside < hold {
				return 0, false, true
			}
			settle = max(settle, time.Duration(at-hold-begin)*time.Second)
		}
		begin = end
	}
	return settle, level, level
}
