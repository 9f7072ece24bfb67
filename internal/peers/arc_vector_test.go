package peers

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// link is one of Vector's test scenarios: an upstream, and how requests come.
type link struct {
	requests                   int
	interval, delay            time.Duration
	jitter                     float64
	scale, kneeExp             float64
	knee                       int // 0: none
	limit                      int // of calls in the service; 0: none
	drop                       bool
	rate                       int // starts in the trailing second; 0: no limit
	fixed                      int // concurrency; 0: adaptive
	failuresAfter, failuresFor int
}

var links = map[string]link{
	"constant-link":              {requests: 500, delay: 100 * time.Millisecond},
	"defers-at-high-concurrency": {requests: 500, delay: 100 * time.Millisecond, limit: 5},
	"defers-at-high-rate":        {requests: 1000, delay: 100 * time.Millisecond, rate: 100},
	"drops-at-high-concurrency":  {requests: 500, delay: 100 * time.Millisecond, limit: 5, drop: true},
	"fixed-concurrency-jitter":   {requests: 500, delay: 100 * time.Millisecond, jitter: 0.5, fixed: 10},
	"fixed-concurrency-simple":   {requests: 500, delay: 100 * time.Millisecond, fixed: 10},
	"jittery-link-small":         {requests: 1000, delay: 100 * time.Millisecond, jitter: 0.1},
	"medium-send":                {requests: 500, interval: 25 * time.Millisecond, delay: 100 * time.Millisecond},
	"shallow-knee":               {requests: 1000, delay: 100 * time.Millisecond, knee: 10, kneeExp: 1.1},
	"slow-link":                  {requests: 200, delay: 100 * time.Millisecond, scale: 1},
	"slow-send-1":                {requests: 100, interval: 100 * time.Millisecond, delay: 50 * time.Millisecond},
	"slow-send-2":                {requests: 100, interval: 50 * time.Millisecond, delay: 50 * time.Millisecond},
	"retried-request-rtt":        {requests: 20, delay: 100 * time.Millisecond, fixed: 1, failuresAfter: 2, failuresFor: 5},
}

// wrap is what the controller is wrapped around.
type wrap string

const (
	chain   wrap = "chain"   // Vector since 2021
	attempt wrap = "attempt" // before
	held    wrap = "held"    // its pull request 26124
)

// levels is a histogram of whole levels over time.
type levels struct {
	at    map[int]float64
	level int
	since float64
	begun bool
}

func (l *levels) set(now float64, level int) {
	l.to(now)
	l.level, l.begun = level, true
}

func (l *levels) to(now float64) {
	if l.begun && now > l.since {
		if l.at == nil {
			l.at = map[int]float64{}
		}
		l.at[l.level] += now - l.since
	}
	l.since = now
}

// stat returns min, max, mode (ties: the higher level) and mean.
func (l *levels) stat() (lo, hi, mode, mean float64) {
	lo, hi, mean = math.Inf(1), math.Inf(-1), 0
	var most, all float64
	for level, t := range l.at {
		x := float64(level)
		lo, hi = min(lo, x), max(hi, x)
		if t > most || t == most && x > mode {
			most, mode = t, x
		}
		all += t
		mean += x * t
	}
	return lo, hi, mode, mean / all
}

// weighted is a statistic of values, each weighted with the time since the one before.
type weighted struct {
	lo, hi, sum, all, last float64
	n                      int
}

func (w *weighted) add(now, x float64) {
	if w.n == 0 {
		w.lo, w.hi = x, x
	}
	w.n++
	w.lo, w.hi = min(w.lo, x), max(w.hi, x)
	w.sum += x * (now - w.last)
	w.all += now - w.last
	w.last = now
}

// vectorRun is a run of one scenario: Vector's test harness as its documentation describes it. Time goes in whole
// milliseconds, and a timer fires in the millisecond after its time, as timers there do.
type vectorRun struct {
	link
	wrap   wrap
	arc    *ARC
	random *rand.Rand
	now    int64 // ms
	events events
	seq    int

	came, taken, ok int
	retries         []*job // that wait for a place (attempt)
	permits         int
	inService       int
	starts          []int64 // in the trailing second
	attempts        int
	failing         int

	service, rates, places, limits levels
	observed, averaged             weighted
}

type job struct {
	begun int64 // the first attempt's start
	sent  int64
	tries int
}

type event struct {
	at  int64
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

func (r *vectorRun) after(d time.Duration, do func()) {
	r.seq++
	heap.Push(&r.events, event{r.now + int64(d/time.Millisecond) + 1, r.seq, do})
}

func (r *vectorRun) seconds() float64 { return float64(r.now) / 1000 }

func (r *vectorRun) limit() int {
	if r.fixed > 0 {
		return r.fixed
	}
	return r.arc.Limit()
}

func runVector(l link, w wrap, seed uint64) *vectorRun {
	r := &vectorRun{link: l, wrap: w, arc: NewARC(), random: rand.New(rand.NewPCG(seed, 1))}
	r.limits.set(0, r.limit())
	r.service.set(0, 0)
	r.places.set(0, 0)
	if r.interval == 0 {
		r.came = r.requests
	} else {
		r.arrive()
	}
	r.fill()
	for r.ok < r.requests {
		at := r.events[0].at
		r.now = at
		// All that happens in one millisecond happens before anything new is started: tasks are woken first.
		for len(r.events) > 0 && r.events[0].at == at {
			heap.Pop(&r.events).(event).do()
		}
		r.fill()
	}
	for _, l := range []*levels{&r.service, &r.places, &r.limits} {
		l.to(r.seconds())
	}
	return r
}

func (r *vectorRun) arrive() {
	r.came++
	if r.came < r.requests {
		r.seq++
		heap.Push(&r.events, event{int64(time.Duration(r.came) * r.interval / time.Millisecond), r.seq, r.arrive})
	}
}

// fill starts what there are places for.
func (r *vectorRun) fill() {
	for r.permits < r.limit() {
		var j *job
		switch {
		case len(r.retries) > 0:
			j, r.retries = r.retries[0], r.retries[1:]
		case r.taken < r.came:
			r.taken++
			j = &job{begun: r.now}
		default:
			return
		}
		r.permits++
		r.places.set(r.seconds(), r.permits)
		r.arc.Sent(r.permits)
		r.send(j)
	}
}

// send is one attempt of j.
func (r *vectorRun) send(j *job) {
	j.sent = r.now
	j.tries++
	r.attempts++
	r.expire()
	r.starts = append(r.starts, r.now)
	rate := len(r.starts)
	r.inService++
	r.service.set(r.seconds(), r.inService)
	in := r.inService
	leave := func() {
		r.expire()
		r.inService--
		r.service.set(r.seconds(), r.inService)
	}
	fail := func() { r.failed(j, adaptive.CauseThrottled) }
	switch {
	case r.link.limit > 0 && in > r.link.limit && r.drop:
		leave()
		r.after(time.Second, func() { r.failed(j, adaptive.CauseTimeout) })
		return
	case r.link.limit > 0 && in > r.link.limit, r.rate > 0 && rate > r.rate:
		r.after(r.at(1), func() { leave(); fail() })
		return
	case r.failuresFor > 0 && r.ok >= r.failuresAfter && r.failing < r.failuresFor:
		r.failing++
		r.after(r.at(1), func() { leave(); fail() })
		return
	}
	took := r.at(in)
	if took > time.Second {
		r.after(time.Second, func() { leave(); r.failed(j, adaptive.CauseTimeout) })
		return
	}
	r.after(took, func() { leave(); r.succeeded(j) })
}

// at is the service time with so many in the service.
func (r *vectorRun) at(in int) time.Duration {
	f := 1 + float64(in-1)*r.scale
	if r.knee > 0 {
		f += math.Pow(r.kneeExp, float64(max(0, in-r.knee))) - 1
	}
	if r.jitter > 0 {
		f += r.jitter * r.random.ExpFloat64()
	}
	return time.Duration(f * float64(r.delay))
}

func (r *vectorRun) succeeded(j *job) {
	r.ok++
	r.permits--
	r.places.set(r.seconds(), r.permits)
	from := j.sent
	if r.wrap == chain {
		from = j.begun
	}
	rtt := time.Duration(r.now-from) * time.Millisecond
	r.observed.add(r.seconds(), rtt.Seconds())
	r.updated(r.arc.Succeeded(r.time(), rtt))
}

func (r *vectorRun) failed(j *job, cause adaptive.Cause) {
	if r.wrap != chain {
		r.updated(r.arc.PushedBack(r.time(), cause))
	}
	rest := fibonacci(j.tries)
	if r.wrap == attempt {
		r.permits--
		r.places.set(r.seconds(), r.permits)
		r.after(rest, func() { r.retries = append(r.retries, j) })
		return
	}
	r.after(rest, func() { r.send(j) })
}

func (r *vectorRun) time() time.Duration { return time.Duration(r.now) * time.Millisecond }

func (r *vectorRun) updated(yes bool, mean time.Duration) {
	if yes {
		r.limits.set(r.seconds(), r.limit())
		if mean >= 0 {
			r.averaged.add(r.seconds(), mean.Seconds())
		}
	}
}

// fibonacci is how long a request rests after its n-th failure: 1, 2, 3, 5, 8, 13, 21, 30, 30 … s. That the first rest is one second
// is in the ranges: a deferred call, a rest and a call are 0.101 s + 1.001 s + 0.101 s, and the longest round trip
// at a high rate is at most 1.203 s.
func fibonacci(n int) time.Duration {
	a, b := 1, 2
	for range n - 1 {
		a, b = b, a+b
	}
	return time.Duration(min(a, 30)) * time.Second
}

// A bound is one of the published ranges.
type bound struct {
	wrap     wrap
	scenario string
	stat     string
	lo, hi   float64
}

var statNames = strings.Fields("service.max service.mode service.mean rate.max rate.mean places.max places.mode places.mean " +
	"limit.min limit.max limit.mode limit.mean rtt.min rtt.max rtt.mean mean.min mean.max mean.mean")

func vectorBounds(t *testing.T) []bound {
	text, err := os.ReadFile("testdata/vector.txt")
	if err != nil {
		t.Fatal(err)
	}
	var bs []bound
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.ReplaceAll(line, "|", " "))
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 2+len(statNames) {
			t.Fatalf("%d columns, want %d: %s", len(f), 2+len(statNames), line)
		}
		if _, ok := links[f[1]]; !ok {
			t.Fatalf("no scenario %q", f[1])
		}
		for i, cell := range f[2:] {
			if cell == "-" {
				continue
			}
			a, b, _ := strings.Cut(cell, ",")
			lo, err1 := strconv.ParseFloat(a, 64)
			hi, err2 := strconv.ParseFloat(b, 64)
			if err1 != nil || err2 != nil || lo > hi {
				t.Fatalf("no range: %q in %s", cell, line)
			}
			bs = append(bs, bound{wrap(f[0]), f[1], statNames[i], lo, hi})
		}
	}
	return bs
}

func (r *vectorRun) stats() map[string]float64 {
	m := map[string]float64{}
	put := func(name string, l *levels) {
		m[name+".min"], m[name+".max"], m[name+".mode"], m[name+".mean"] = l.stat()
	}
	put("service", &r.service)
	put("rate", &r.rates)
	put("places", &r.places)
	put("limit", &r.limits)
	for name, w := range map[string]*weighted{"rtt": &r.observed, "mean": &r.averaged} {
		m[name+".min"], m[name+".max"], m[name+".mean"] = w.lo, w.hi, w.sum/w.all
	}
	return m
}

// holds compares as Vector does: whole levels after cutting off the fractions of the range.
func (b bound) holds(x float64) bool {
	if strings.HasSuffix(b.stat, ".mean") || strings.HasPrefix(b.stat, "rtt") || strings.HasPrefix(b.stat, "mean") {
		return x >= b.lo && x <= b.hi
	}
	return x >= math.Trunc(b.lo) && x <= math.Trunc(b.hi)
}

// unmet are the published ranges that ARC does not meet here, each with the reason; docs/simulator.md explains them. All others
// must hold with every seed.
var unmet = map[string]string{
	"held drops-at-high-concurrency limit.mode": heldDrops,
	"held drops-at-high-concurrency limit.mean": heldDrops,
}

const heldDrops = "not reproduced: here the time-outs of a row of attempts cut down to 1; the pull request kept the range of the set \"attempt\" unchanged"

// ARC, in the harness that Vector describes, stays within the ranges that Vector publishes for its own.
func TestVectorRanges(t *testing.T) {
	const seeds = 20
	cache := map[string][]map[string]float64{}
	met, all := 0, 0
	for _, b := range vectorBounds(t) {
		key := string(b.wrap) + " " + b.scenario
		if cache[key] == nil {
			for seed := range uint64(seeds) {
				cache[key] = append(cache[key], runVector(links[b.scenario], b.wrap, seed).stats())
			}
		}
		lo, hi, in := math.Inf(1), math.Inf(-1), 0
		for _, s := range cache[key] {
			x := s[b.stat]
			lo, hi = min(lo, x), max(hi, x)
			if b.holds(x) {
				in++
			}
		}
		all++
		name := key + " " + b.stat
		why, known := unmet[name]
		switch {
		case in == seeds && known:
			t.Errorf("%s holds: it is no exception any more", name)
		case in == seeds:
			met++
		case known:
			t.Logf("%s is %.4g to %.4g, published [%v, %v]: %s", name, lo, hi, b.lo, b.hi, why)
		default:
			t.Errorf("%s is %.4g to %.4g, published [%v, %v], within for %d of %d seeds", name, lo, hi, b.lo, b.hi, in, seeds)
		}
	}
	t.Logf("%d of %d published ranges hold with each of %d seeds", met, all, seeds)
	if all != 254 || float64(met) < 0.95*float64(all) {
		t.Errorf("%d of %d published ranges hold, want 95 %% of 254", met, all)
	}
}

// The ranges notice a change: with an upstream that is a fifth slower, many do not hold.
func TestVectorRangesCanFail(t *testing.T) {
	misses := 0
	for _, b := range vectorBounds(t) {
		if b.wrap != chain || links[b.scenario].fixed > 0 {
			continue
		}
		l := links[b.scenario]
		l.delay = l.delay * 12 / 10
		if !b.holds(runVector(l, b.wrap, 1).stats()[b.stat]) {
			misses++
		}
	}
	if misses < 40 {
		t.Errorf("only %d ranges notice an upstream that is a fifth slower", misses)
	}
}

// expire forgets the starts that are no longer in the trailing second. The time since it was last done counts for how many are
// left now: so does the statistic of Vector's harness, and its range for a fixed concurrency shows it (90 starts, not 100).
func (r *vectorRun) expire() {
	for len(r.starts) > 0 && r.starts[0] <= r.now-1000 {
		r.starts = r.starts[1:]
	}
	r.rates.level, r.rates.begun = len(r.starts), true
	r.rates.to(r.seconds())
}
