package scenario

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Draw is a world whose parameters were drawn at random.
type Draw struct {
	// Kind is the kind of upstream, one of DrawKinds, and Event what happens to it half-way, one of DrawEvents. The kind of a wide world is "wide", and
	// its event "change" when a limit changes.
	Kind, Event string
	// Features are what a wide world has, of WideFeatures; nil for other draws.
	Features []string
	// Scenario is the world as any other scenario.
	Scenario *Scenario
	// EventFrom is when the event begins, and EventAt when it is over, and the upstream has its new capacity; 0 when there is none.
	EventFrom, EventAt time.Duration
	// RoundTrip is the mean time from a call's start to its end while nothing is queued upstream.
	RoundTrip time.Duration
}

// The kinds of upstream that NewDraw draws.
const (
	drawCap         = "cap"                // a cap on calls in flight, 429 without a word
	drawCapRetry    = "cap-retry-after"    // the same, with a constant Retry-After that means nothing
	drawBucket      = "bucket"             // a token bucket of requests, without a word
	drawBucketRetry = "bucket-retry-after" // the same, with an exact Retry-After
	drawWindow      = "window"             // a count in fixed windows, without a word
	drawWindowRetry = "window-retry-after" // the same, with an exact Retry-After
	drawQueue       = "queue"              // servers with an endless queue, which never refuse
	drawBoth        = "cap-and-bucket"     // a cap and a bucket, either of which may bind
)

// DrawKinds returns the kinds of upstream in the order in which they are drawn.
func DrawKinds() []string {
	return []string{drawCap, drawCapRetry, drawBucket, drawBucketRetry, drawWindow, drawWindowRetry, drawQueue, drawBoth}
}

// What may happen half-way.
const (
	eventNone   = "none"
	eventHalve  = "halve"
	eventDouble = "double"
	eventOutage = "outage"
	eventChange = "change" // of a wide world: a limit changes
)

// DrawEvents returns what may happen to a drawn upstream half-way.
func DrawEvents() []string { return []string{eventNone, eventHalve, eventDouble, eventOutage} }

// Ranges of what is drawn.
const (
	drawLimitLow, drawLimitHigh = 2, 2000                        // calls in flight
	drawServiceLow              = float64(20 * time.Millisecond) // mean service time
	drawServiceHigh             = float64(60 * time.Second)      //
	drawQuotaLow, drawQuotaHigh = 10, 10_000                     // requests a minute
	drawMost                    = 60_000                         // successes in a run, about
	drawShortest                = 2 * time.Minute                // run
	drawRoundTrips              = 60                             // in a run, at least
	drawLongest                 = 4 * time.Hour                  // run
	drawBatchPatience           = 24 * time.Hour                 // how long a worker's job may wait
	drawSteps                   = 480                            // of the series
)

// NewDraw draws the n-th world of a seed. The same seed and n give the same world, whatever else is drawn.
func NewDraw(seed uint64, n int) *Draw {
	r := rand.New(rand.NewPCG(seed, 0x647261777321+uint64(n)))
	kinds := DrawKinds()
	d := &Draw{Kind: kinds[n%len(kinds)], Event: eventNone}
	if r.Float64() < 0.5 {
		d.Event = DrawEvents()[1+r.IntN(3)]
	}
	logU := func(lo, hi float64) float64 { return lo * math.Exp(r.Float64()*math.Log(hi/lo)) }

	// The upstream.
	limit := math.Round(logU(drawLimitLow, drawLimitHigh))
	service := logU(drawServiceLow, drawServiceHigh)
	quota := logU(drawQuotaLow, drawQuotaHigh)
	burst := math.Max(1, math.Round(logU(1, math.Max(2, quota/4))))
	window := []time.Duration{time.Second, 10 * time.Second, time.Minute, time.Minute}[r.IntN(4)]
	charge := r.Float64() < 0.3
	rtt := min(logU(2e6, 100e6), service/4)
	refusal := draw.Dist{Shape: draw.Exponential, Mean: min(logU(1e6, 100e6), service)}
	dist := draw.Dist{Shape: draw.Lognormal, Sigma: 0.1 + 1.0*r.Float64()}
	switch r.IntN(6) {
	case 0:
		dist = draw.Dist{Shape: draw.Constant}
	case 1:
		dist = draw.Dist{Shape: draw.Exponential}
	}
	if usesQuota(d.Kind) {
		// No more than the largest limit in flight to use the quota.
		service = min(service, drawLimitHigh/(quota/60)*1e9)
	}
	if d.Kind == drawWindow || d.Kind == drawWindowRetry {
		quota = max(quota, 2/window.Minutes()) // a window holds two requests at least
	}
	dist.Mean = service
	d.RoundTrip = time.Duration(service + rtt)
	byLimit := limit / (service + rtt) * 1e9 // a second
	byQuota := quota / 60
	var rate float64
	up := upstream.Config{Refusal: refusal, Server: upstream.Server{Service: dist}}
	answer := upstream.Answer{Status: 429}
	switch d.Kind {
	case drawCapRetry:
		answer.RetryAfter = upstream.RetryAfter{Mode: upstream.RetryConstant, Delay: time.Duration(1+r.IntN(3)) * time.Second}
	case drawBucketRetry, drawWindowRetry:
		answer.RetryAfter.Mode = upstream.RetryExact
	}
	switch d.Kind {
	case drawCap, drawCapRetry:
		up.Concurrency = upstream.Concurrency{Limit: int(limit), Answer: answer}
		rate = byLimit
	case drawBucket, drawBucketRetry:
		up.Quotas = []upstream.Quota{{Limit: quota, Burst: burst, ChargeRefused: charge, Answer: answer}}
		rate = byQuota
	case drawWindow, drawWindowRetry:
		up.Quotas = []upstream.Quota{{Limit: quota, Algorithm: upstream.FixedWindow, Window: window, Answer: answer}}
		rate = byQuota
	case drawQueue:
		up.Server.Servers = limit
		rate = byLimit
	case drawBoth:
		// Within a factor of three of each other.
		quota = min(drawQuotaHigh, max(drawQuotaLow, byLimit*60*logU(1.0/3, 3)))
		up.Quotas = []upstream.Quota{{Limit: quota, Burst: math.Floor(max(1, min(burst, quota/4))), Answer: answer}}
		up.Concurrency = upstream.Concurrency{Limit: int(limit), Answer: answer}
		rate = min(byLimit, quota/60)
	}

	// The run.
	most := time.Duration(min(float64(drawLongest), drawMost/rate*1e9))
	length := max(drawShortest, drawRoundTrips*d.RoundTrip)
	if usesQuota(d.Kind) {
		length = max(length, time.Duration(100/rate*1e9)) // a hundred successes
	}
	length = max(min(length, most), 30*time.Second, 40*d.RoundTrip).Round(time.Second)
	if d.Kind == drawWindow || d.Kind == drawWindowRetry {
		length = max(length, 5*window)
	}
	step := max(10*time.Millisecond, length/drawSteps)

	// The demand.
	w := sim.Workload{}
	var guard guardTable
	inFlight := rate * (service + rtt) / 1e9
	switch pick := r.Float64(); {
	case pick < 0.5 || d.Kind == drawBoth:
		w.Kind, w.Clients = sim.Backlog, int(math.Ceil(inFlight*(1.2+2*r.Float64())))+3
		guard.Queue, guard.MaxWait = ptr(w.Clients), ptr(drawBatchPatience)
	case pick < 0.85:
		w.Kind, w.Rate = sim.Poisson, rate*(0.6+0.9*r.Float64())
		w.Patience = max(20*time.Second, 10*d.RoundTrip)
		if usesQuota(d.Kind) {
			w.Patience = max(w.Patience, 2*window)
		}
		guard.MaxWait = ptr(w.Patience * 6 / 10)
		guard.Queue = ptr(max(1024, int(rate*w.Patience.Seconds())))
	default:
		w.Kind, w.Clients = sim.Closed, int(math.Ceil(inFlight*(1+2*r.Float64())))+2
		w.Think = draw.Dist{Shape: draw.Exponential, Mean: 0.5 * service}
		guard.Queue, guard.MaxWait = ptr(w.Clients), ptr(drawBatchPatience)
	}
	guard.MaxPause = ptr(10 * time.Minute)

	// The event.
	world := sim.Config{Duration: length, Drain: 10*d.RoundTrip + time.Minute, Step: step, Workload: w, RTT: time.Duration(rtt), Upstream: up}
	half := length / 2
	if d.Event != eventNone {
		d.EventFrom = half
	}
	switch d.Event {
	case eventHalve, eventDouble:
		factor := 2.0
		if d.Event == eventHalve {
			factor = 0.5
		}
		d.EventAt = half
		if up.Concurrency.Limit > 0 {
			world.Changes = append(world.Changes, sim.Change{At: half, Param: sim.Param{Kind: upstream.ParamConcurrency}, To: max(1, math.Round(limit*factor))})
		}
		if len(up.Quotas) > 0 {
			world.Changes = append(world.Changes, sim.Change{At: half, Param: sim.Param{Kind: upstream.ParamQuotaLimit}, To: quota * factor})
		}
		if up.Server.Servers > 0 {
			world.Changes = append(world.Changes, sim.Change{At: half, Param: sim.Param{Kind: upstream.ParamServers}, To: max(1, math.Round(limit*factor))})
		}
	case eventOutage:
		lasts := min(30*time.Second, length/8)
		d.EventAt = half + lasts
		world.Upstream.Faults = []upstream.Fault{{From: half, To: half + lasts}}
	}
	d.Scenario = &Scenario{
		Name:   fmt.Sprintf("draw-%d-%d", seed, n),
		Intent: fmt.Sprintf("%s, %s", d.Kind, d.Event),
		World:  world,
		retry:  retryTable{MaxAttempts: ptr(100), Budget: ptr(0.0)},
		guard:  guard,
	}
	return d
}

func usesQuota(kind string) bool {
	switch kind {
	case drawBucket, drawBucketRetry, drawWindow, drawWindowRetry, drawBoth:
		return true
	}
	return false
}

func ptr[T any](v T) *T { return &v }
