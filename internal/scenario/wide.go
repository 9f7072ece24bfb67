package scenario

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A wide world is made of parts that are drawn each for itself: what serves (servers with or without a bound on their queue, servers that share their
// time, calls that slow each other down beyond a knee, answers that take time for each token, or nothing that limits); a cap on calls in flight, which may lag
// and say 503; a quota of requests or tokens, counted in one of four ways, with or without charging what it refuses; noise; a neighbour; headers of a dialect;
// replicas; classes of requests; demand; and a change or an outage half-way. So limits meet that no kind of NewDraw has together. It is written as the text of a scenario file, so that
// it can be looked at, kept and changed.

// The features of wide worlds. Each world has one of the first five, one of the demands, and any of the others.
const (
	wideServers      = "servers"         // places of their own, with an endless queue, or:
	wideSharing      = "sharing"         // the servers share their time among all calls
	wideKnee         = "knee"            // calls slow each other down, beyond a number of them steeply
	wideTokenTime    = "token-time"      // an answer takes 20 ms for each of its tokens
	wideUnlimited    = "no-servers"      // as many as there are calls
	wideQueue        = "short-queue"     // the servers' queue is bounded
	wideCap          = "cap"             // a limit on calls in flight, 429
	wideCap503       = "cap-503"         // the same, 503
	wideLag          = "lag"             // the cap counts calls for a while after their end
	wideRefill       = "refill"          // a quota that fills up all the time
	wideFixed        = "fixed-window"    // counted in windows of the clock
	wideLog          = "sliding-log"     // counted in the time before a call
	wideCounter      = "sliding-counter" // the same, estimated from two windows
	wideTokens       = "tokens"          // the quota counts tokens
	wideOutput       = "output-tokens"   // the quota counts the answers' tokens
	wideCharged      = "charges-refused" // the quota counts what it refuses
	wideRetryAfter   = "retry-after"     // refusals say when to come back
	wideHeaders      = "headers"         // answers say what is left, as a provider's do
	wideNoise        = "noise"           // a share of the calls is refused whatever anybody does
	wideNeighbour    = "neighbour"       // others use a part of the quota and of the cap
	wideReplicas     = "replicas"        // several processes, each with a guard of its own
	wideClasses      = "classes"         // requests of two kinds, one of which takes longer
	widePoisson      = "poisson"         // demand: at random
	wideModulated    = "modulated"       // at random, with a rate that jumps
	wideBacklog      = "backlog"         // workers who always have a job
	wideClosed       = "closed"          // clients who think between calls
	wideQuotaChanges = "quota-changes"   // half-way, to 0.4, 0.5, 2 or 3 times
	wideCapChanges   = "cap-changes"     // the same
	wideOutage       = "outage"          // half-way, for 20 s, all is refused
	wideBlackHole    = "black-hole"      // nothing is answered
	wideBrownOut     = "brown-out"       // three tenths of the servers are left
	wideKind         = "wide"            // the kind of all of them
	wideLongest      = time.Hour         // run
	wideShortest     = 5 * time.Minute   //
	wideTrouble      = 20 * time.Second  // an outage
	wideJobPatience  = "24h"             // how long a worker's job may wait
	wideInFlight     = 4000              // callers at most
)

// WideFeatures returns what wide worlds may have, in the order in which summaries list it.
func WideFeatures() []string {
	return []string{
		wideServers, wideSharing, wideKnee, wideTokenTime, wideUnlimited, wideQueue, wideCap, wideCap503, wideLag, wideRefill, wideFixed, wideLog, wideCounter,
		wideTokens, wideOutput, wideCharged, wideRetryAfter, wideHeaders, wideNoise, wideNeighbour, wideReplicas, wideClasses,
		widePoisson, wideModulated, wideBacklog, wideClosed, wideQuotaChanges, wideCapChanges, wideOutage, wideBlackHole, wideBrownOut,
	}
}

// wide is a world in the making.
type wide struct {
	r        *rand.Rand
	text     strings.Builder // all tables of the file
	features []string

	call          float64 // s that a call takes alone
	rtt           float64 // s
	rate          float64 // successes a second that the parts so far allow
	places        float64 // of the servers; 0 where there is no limit
	cap, quota    float64 // the limits as in the file; 0: none
	windows       float64 // of the quota in a minute; 0: what it allows is whole
	input, output float64 // tokens of a request, the medians
	tokens        bool    // requests have tokens
	timeout       float64 // s after which a caller hangs up; 0: never
}

// NewWide draws the n-th wide world of a seed. The same seed and n give the same world, whatever else is drawn.
func NewWide(seed uint64, n int) *Draw {
	w := &wide{r: rand.New(rand.NewPCG(seed, 0x77696465<<24+uint64(n))), rate: math.Inf(1)}
	w.call, w.rtt = w.between(.05, 20), w.between(.003, .1)
	w.input, w.output = math.Round(w.between(50, 4000)), math.Round(w.between(20, 800))
	w.upstream()
	length := time.Duration(min(wideLongest.Seconds(), max(wideShortest.Seconds(), 150/w.rate, 60*w.call))) * time.Second
	patient := w.demand()
	event, from, over := w.trouble((length / 2).Round(time.Second), patient)
	name := fmt.Sprintf("wide-%d-%d", seed, n)
	text := fmt.Sprintf("name = %q\nintent = %q\nduration = \"%ds\"\n%s", name, strings.Join(w.features, ", "), int(length.Seconds()), w.text.String())
	s, err := Parse(name+".toml", []byte(text))
	if err != nil {
		panic(fmt.Sprintf("scenario: a wide world is no scenario: %v\n%s", err, text)) // a test reads thousands of them
	}
	return &Draw{
		Kind: wideKind, Event: event, Features: w.features, Scenario: s, EventFrom: from, EventAt: over,
		RoundTrip: time.Duration((w.call + w.rtt) * 1e9),
	}
}

func (w *wide) f(format string, args ...any) { fmt.Fprintf(&w.text, format, args...) }

func (w *wide) has(feature string) { w.features = append(w.features, feature) }

func (w *wide) chance(p float64) bool { return w.r.Float64() < p }

// between draws a number whose logarithm is equally likely everywhere in a range.
func (w *wide) between(lo, hi float64) float64 { return lo * math.Exp(w.r.Float64()*math.Log(hi/lo)) }

// pick draws one of several.
func pick[T any](w *wide, of ...T) T { return of[w.r.IntN(len(of))] }

// ms writes seconds as a duration of whole milliseconds.
func ms(s float64) string { return fmt.Sprintf("\"%.0fms\"", max(1, math.Round(s*1000))) }

// upstream writes all that stands between a caller and an answer.
func (w *wide) upstream() {
	serves := pick(w, wideServers, wideServers, wideSharing, wideUnlimited, wideKnee, wideTokenTime)
	limited := w.chance(.6)
	capped := w.chance(.45) || serves == wideUnlimited && !limited
	if dialect := pick(w, "generic", "generic", "openai", "anthropic", "gemini"); dialect != "generic" {
		w.f("\n[upstream]\ndialect = %q\n", dialect)
		if limited && dialect != "gemini" { // which tells of no limits
			w.has(wideHeaders)
		}
	}
	w.f("\n[upstream.network]\nrtt = %s\nrefusal = { dist = \"exponential\", mean = %s }\n", ms(w.rtt), ms(w.between(.002, .05)))
	w.server(serves)
	if capped {
		w.concurrency()
	}
	if limited {
		w.limits()
	}
	if w.chance(.25) {
		w.has(wideNoise)
		w.f("\n[upstream.noise]\nshare = %g\n", pick(w, .005, .01, .02))
	}
	if w.chance(.2) && serves != wideKnee { // its calls would never end beyond a knee, as it does not hang up
		w.has(wideNeighbour)
		w.f("\n[upstream.neighbour]\nrate = %.4f\n", .3*w.rate)
		if w.tokens {
			w.f("input = { mean = %.1f }\noutput = { mean = %.1f }\n", w.input, w.output)
		}
		w.rate *= .7
	}
}

// server writes what serves.
func (w *wide) server(serves string) {
	w.has(serves)
	n := math.Round(w.between(2, 300))
	w.f("\n[upstream.server]\n")
	service := fmt.Sprintf("{ dist = %q, mean = %s }", pick(w, "constant", "exponential", "lognormal", "gamma"), ms(w.call))
	switch serves {
	case wideServers, wideSharing:
		if serves == wideSharing {
			w.f("kind = \"sharing\"\n")
		}
		w.places = n
		if w.chance(.3) {
			w.has(wideQueue)
			w.f("queue = %.0f\n", math.Round(n*w.between(.2, 5)))
		}
		w.f("servers = %.0f\nservice = %s\n", n, service)
	case wideKnee:
		w.places = n
		// With twice as many in flight a call takes 2 to 10 times as long. Whoever waits in vain hangs up, and the server learns of it: without that the
		// place of a call that would take years is lost, and no guard can give it back.
		w.f("knee = %.0f\nknee_base = %.5f\nscale = 0.001\nservice = { dist = \"lognormal\", mean = %s, sigma = %.1f }\nknows_hangups = true\n",
			n, math.Pow(w.between(2, 10), 1/n), ms(w.call), pick(w, .1, .4, .8))
		w.timeout = max(30, 20*w.call)
	case wideTokenTime:
		w.tokens, w.places, w.call = true, 2*n, .5+.02*w.output
		w.f("servers = %.0f\nservice = { dist = \"lognormal\", mean = \"500ms\", sigma = 0.5 }\noutput_token = \"20ms\"\n", w.places)
	default:
		w.f("service = %s\n", service)
	}
	if w.places > 0 {
		w.rate = min(w.rate, w.places/w.call)
	}
}

// concurrency writes a cap on calls in flight.
func (w *wide) concurrency() {
	w.cap = math.Round(w.between(2, 300))
	w.f("\n[upstream.concurrency]\nlimit = %.0f\n", w.cap)
	if w.chance(.25) {
		w.has(wideCap503)
		w.f("status = 503\n")
	} else {
		w.has(wideCap)
	}
	if delay := pick(w, "", "", "", "2s", "10s"); delay != "" {
		w.has(wideRetryAfter)
		w.f("retry_after = %q\n", delay)
	}
	lag := pick(w, 0, 0, 0, .1, .3, .5)
	if lag > 0 {
		w.has(wideLag)
		w.f("lag = { dist = %q, mean = %s }\n", pick(w, "constant", "exponential"), ms(lag))
	}
	w.rate = min(w.rate, w.cap/(w.call+lag+w.rtt))
}

// limits writes a quota.
func (w *wide) limits() {
	how := pick(w, wideRefill, wideRefill, wideFixed, wideLog, wideCounter)
	w.has(how)
	what := "requests_per_minute"
	weight := 1.0 // of a request
	if w.tokens || w.chance(.2) {
		switch pick(w, 0, 0, 1, 2) {
		case 1:
			what, weight = "tokens_per_minute", w.input+w.output
			w.has(wideTokens)
		case 2:
			what, weight = "output_tokens_per_minute", w.output
			w.has(wideOutput)
		}
	}
	w.quota = max(10, math.Round(60*w.between(.3, 40)*weight))
	if weight > 1 {
		w.tokens = true
		w.quota = max(w.quota, 20*weight) // or a single request would be more than there ever is
	}
	w.f("\n[[upstream.quota]]\nalgorithm = %q\n%s = %.0f\n", how, what, w.quota)
	if weight > 1 {
		w.f("charge = %q\n", pick(w, "before", "settled", "after"))
	}
	switch {
	case how == wideRefill:
		w.f("burst = %.0f\n", max(1, 20*weight*btof(weight > 1), math.Round(w.quota*w.between(.005, .5))))
	case weight == 1 && w.quota >= 120 && w.chance(.4):
		window := pick(w, "10s", "30s")
		w.windows = map[string]float64{"10s": 6, "30s": 2}[window]
		w.f("window = %q\n", window)
	}
	if says := pick(w, "none", "exact", "exact-ms", "exact"); says != "none" {
		if !slices.Contains(w.features, wideRetryAfter) {
			w.has(wideRetryAfter)
		}
		w.f("retry_after = %q\n", says)
	}
	if w.chance(.2) {
		w.has(wideCharged)
		w.f("charge_refused = true\n")
	}
	w.rate = min(w.rate, w.quota/60/weight)
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// demand writes who asks, and reports whether they wait for ever.
func (w *wide) demand() (patient bool) {
	kind := pick(w, widePoisson, widePoisson, wideBacklog, wideClosed, wideModulated)
	w.has(kind)
	inFlight := w.rate * (w.call + w.rtt)
	patience := max(60, math.Round(8*w.call))
	callers := func(most float64) int { return int(min(wideInFlight, math.Ceil(inFlight*most)+3)) }
	w.f("\n[workload]\nkind = %q\n", kind)
	switch kind {
	case wideBacklog:
		patient = true
		w.f("workers = %d\n", callers(1.3+2*w.r.Float64()))
	case wideClosed:
		patient = true
		w.f("clients = %d\nthink = { dist = \"exponential\", mean = %s }\n", callers(1+2*w.r.Float64()), ms(w.call/2))
	case widePoisson:
		w.f("rate = %.4f\npatience = \"%.0fs\"\n", w.rate*(.6+.9*w.r.Float64()), patience)
	default:
		w.f("rate = %.4f\npatience = \"%.0fs\"\nstates = [{ rate = 0.3, mean = \"30s\" }, { rate = 1.8, mean = \"30s\" }]\n", w.rate, patience+30)
	}
	if w.tokens {
		w.f("input = { dist = \"lognormal\", median = %.1f, sigma = 0.8, max = %.1f }\noutput = { dist = \"lognormal\", median = %.1f, sigma = 0.7, max = %.1f }\nknown = \"input\"\nmax_output = %.0f\n",
			w.input, 8*w.input, w.output, 3*w.output, 3*w.output)
	}
	if w.timeout > 0 {
		w.f("timeout = \"%.0fs\"\nrepeatable = true\n", w.timeout)
	}
	w.f("\n[workload.retry]\nmax_attempts = 100\nbudget = 0.0\n")
	if w.chance(.15) {
		w.has(wideClasses)
		w.f("\n[[workload.tenant]]\nname = \"short\"\nweight = 2.0\nclass = 0\n\n[[workload.tenant]]\nname = \"long\"\nweight = 1.0\nclass = 1\nwork = %.1f\n", w.between(2, 10))
	}
	if patient {
		w.f("\n[guard]\nmax_wait = %q\n", wideJobPatience)
	} else {
		w.f("\n[guard]\nmax_wait = \"%.0fs\"\n", math.Round(.7*patience))
	}
	w.f("max_pause = \"5m\"\nqueue = %d\n", 2*wideInFlight)
	if w.chance(.15) {
		w.has(wideReplicas)
		w.f("\n[[replica]]\ncount = %d\n", 2+w.r.IntN(3))
	}
	return patient
}

// trouble writes what happens half-way, and returns what it is, when it begins and when it is over.
func (w *wide) trouble(half time.Duration, patient bool) (event string, from, over time.Duration) {
	change := func(what string, to float64) {
		w.f("\n[[change]]\nat = %q\nset = %q\nto = %.0f\n", half, what, to)
	}
	switch p := w.r.Float64(); {
	case p < .2 && w.quota > 0:
		w.has(wideQuotaChanges)
		to := math.Round(w.quota * pick(w, .4, .5, 2, 3))
		if n := w.windows; n > 0 {
			to = n * max(1, math.Round(to/n))
		}
		change("upstream.quota.limit", to)
		return eventChange, half, half
	case p < .35 && w.cap > 0:
		w.has(wideCapChanges)
		change("upstream.concurrency.limit", max(1, math.Round(w.cap*pick(w, .4, .5, 2, 3))))
		return eventChange, half, half
	case p < .5:
		kind := pick(w, wideOutage, wideBlackHole, wideBrownOut)
		if kind == wideBlackHole && patient { // a call would never end
			kind = wideOutage
		}
		if kind == wideBrownOut && w.places == 0 {
			kind = wideOutage
		}
		w.has(kind)
		if kind == wideOutage {
			kind = "refuse"
		}
		over = half + wideTrouble
		w.f("\n[[upstream.outage]]\nfrom = %q\nto = %q\nkind = %q\n", half, over, kind)
		if kind == wideBrownOut {
			w.f("capacity = 0.3\n")
		}
		return eventOutage, half, over
	}
	return eventNone, 0, 0
}
