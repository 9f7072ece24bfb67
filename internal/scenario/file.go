package scenario

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/sim"
)

// Scenario is one upstream and one workload, and what is expected of controllers there.
type Scenario struct {
	// Name is short and unique.
	Name string
	// Intent says in one sentence what must happen.
	Intent string
	// Source is the text of the file.
	Source string
	// World is the upstream and the workload; its Seed and Guard are not set.
	World sim.Config
	// Expect is what a controller must reach, by its name.
	Expect map[string]Expect

	retry retryTable
	guard guardTable
}

// fileTable is a scenario file as it is written. What is not written is nil or zero.
type fileTable struct {
	Name     string         `toml:"name" required:"true" len:"1..40"`
	Intent   string         `toml:"intent" required:"true" len:"1..300"`
	Duration time.Duration  `toml:"duration" required:"true" range:"1s..1000h"`
	Drain    *time.Duration `toml:"drain" range:"0s..24h"`
	Workload *workloadTable `toml:"workload"`
	Guard    guardTable     `toml:"guard"`
	Upstream *upstreamTable `toml:"upstream"`
	Change   []changeTable  `toml:"change" len:"..1000"`

	Expect map[string]expectTable `toml:"expect"`
}

type workloadTable struct {
	Kind     string         `toml:"kind" required:"true" choice:"poisson|closed|backlog"`
	Rate     *float64       `toml:"rate" range:">0..1000000" unit:"requests a second"`
	Patience *time.Duration `toml:"patience" range:"1ms..24h"`
	Clients  *int           `toml:"clients" range:"1..1000000" unit:"clients"`
	Think    *distTable     `toml:"think"`
	Workers  *int           `toml:"workers" range:"1..1000000" unit:"workers"`
	Jobs     *int           `toml:"jobs" range:"1..100000000" unit:"jobs"`
	Retry    retryTable     `toml:"retry"`
}

type retryTable struct {
	MaxAttempts *int           `toml:"max_attempts" range:"1..100" unit:"attempts"`
	BaseDelay   *time.Duration `toml:"base_delay" range:"1ms..1h"`
	MaxDelay    *time.Duration `toml:"max_delay" range:"1ms..24h"`
	Budget      *float64       `toml:"budget" range:"0..10"`
}

// guardTable is what an application with this workload would write in its limits.toml.
type guardTable struct {
	Queue    *int           `toml:"queue" range:"0..1000000" unit:"callers"`
	MaxWait  *time.Duration `toml:"max_wait" range:"1ms..24h"`
	MaxPause *time.Duration `toml:"max_pause" range:"1ms..24h"`
}

type upstreamTable struct {
	Network     networkTable      `toml:"network"`
	Outage      []outageTable     `toml:"outage" len:"..1000"`
	Quota       *quotaTable       `toml:"quota"`
	Concurrency *concurrencyTable `toml:"concurrency"`
	Server      *serverTable      `toml:"server"`
}

type networkTable struct {
	RTT     time.Duration `toml:"rtt" range:"0s..1m"`
	Refusal *distTable    `toml:"refusal"`
}

type quotaTable struct {
	PerMinute     *float64       `toml:"requests_per_minute" range:">0..1e9" unit:"requests a minute"`
	PerSecond     *float64       `toml:"requests_per_second" range:">0..1e7" unit:"requests a second"`
	Burst         *int           `toml:"burst" range:"1..1000000" unit:"requests"`
	Window        *time.Duration `toml:"window" range:"100ms..24h"`
	ChargeRefused bool           `toml:"charge_refused"`
	answerTable
}

type concurrencyTable struct {
	Limit int `toml:"limit" required:"true" range:"1..1000000" unit:"calls in flight"`
	answerTable
}

type serverTable struct {
	Servers int        `toml:"servers" range:"1..1000000" unit:"servers"`
	Queue   *int       `toml:"queue" range:"0..1000000" unit:"calls"`
	Service *distTable `toml:"service"`
	answerTable
}

type outageTable struct {
	From      time.Duration `toml:"from" required:"true"`
	To        time.Duration `toml:"to" required:"true"`
	BlackHole bool          `toml:"black_hole"`
	answerTable
}

// answerTable is how a stage says no.
type answerTable struct {
	Status     *int       `toml:"status" range:"400..599"`
	RetryAfter retryAfter `toml:"retry_after"`
	Body       string     `toml:"body" len:"..4096"`
}

type distTable struct {
	Dist   string        `toml:"dist" choice:"constant|exponential|lognormal|uniform"`
	Mean   time.Duration `toml:"mean" required:"true" range:"0s..24h"`
	Sigma  *float64      `toml:"sigma" range:"0..4"`
	Spread time.Duration `toml:"spread" range:"0s..24h"`
}

type changeTable struct {
	At  time.Duration `toml:"at" required:"true"`
	Set string        `toml:"set" required:"true" choice:"workload.rate|upstream.quota.requests_per_minute|upstream.quota.burst|upstream.concurrency.limit|upstream.server.servers"`
	To  float64       `toml:"to" required:"true" range:">0..1e9"`
}

var changeParams = map[string]sim.Param{
	"workload.rate":                      sim.ParamRate,
	"upstream.quota.requests_per_minute": sim.ParamPerMinute,
	"upstream.quota.burst":               sim.ParamBurst,
	"upstream.concurrency.limit":         sim.ParamLimit,
	"upstream.server.servers":            sim.ParamServers,
}

// retryAfter is what a refusal says about when to come back.
type retryAfter struct {
	mode  sim.RetryAfter
	delay time.Duration
}

// UnmarshalText reads "none", "exact", "exact-ms" or a duration.
func (r *retryAfter) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "none":
		r.mode = sim.RetryNone
	case "exact":
		r.mode = sim.RetryExact
	case "exact-ms":
		r.mode = sim.RetryExactMS
	default:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > 31*24*time.Hour {
			return fmt.Errorf("must be \"none\", \"exact\", \"exact-ms\" or a duration such as \"30s\"")
		}
		r.mode, r.delay = sim.RetryConstant, d
	}
	return nil
}

// Parse reads a scenario file. The name is for messages. An error is a [strict.Errors] with everything that is wrong.
func Parse(name string, data []byte) (*Scenario, error) {
	var t fileTable
	if err := strict.Decode(name, data, &t); err != nil {
		return nil, err
	}
	s := t.scenario()
	s.Source = string(data)
	return s, nil
}

func or[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

func (t *fileTable) scenario() *Scenario {
	s := &Scenario{Name: t.Name, Intent: t.Intent, retry: t.Workload.Retry, guard: t.Guard}
	w := &s.World
	w.Duration = t.Duration
	w.Drain = or(t.Drain, min(t.Duration, time.Minute))
	w.Step = step(t.Duration)
	w.Workload = t.Workload.workload()
	w.Upstream = t.Upstream.upstream()
	for _, c := range t.Change {
		w.Changes = append(w.Changes, sim.Change{At: c.At, Param: changeParams[c.Set], To: c.To})
	}
	slices.SortStableFunc(w.Changes, func(a, b sim.Change) int { return int(min(1, max(-1, a.At-b.At))) })
	for name, e := range t.Expect {
		if s.Expect == nil {
			s.Expect = map[string]Expect{}
		}
		s.Expect[name] = e.expect()
	}
	return s
}

// step returns the length of a step of the series: about 300 to 600 of them, whole tenths of a second.
func step(d time.Duration) time.Duration {
	for _, s := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
		5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute} {
		if d/s <= 600 {
			return s
		}
	}
	return 3 * time.Hour
}

func (t *workloadTable) workload() sim.Workload {
	w := sim.Workload{Rate: or(t.Rate, 0), Patience: or(t.Patience, 0), Think: t.Think.dist()}
	switch t.Kind {
	case "closed":
		w.Kind, w.Clients = sim.Closed, or(t.Clients, 0)
	case "backlog":
		w.Kind, w.Clients, w.Jobs = sim.Backlog, or(t.Workers, 64), or(t.Jobs, 0)
	}
	return w
}

func (t *upstreamTable) upstream() sim.Upstream {
	u := sim.Upstream{RTT: t.Network.RTT, Refusal: sim.Dist{Mean: 5 * time.Millisecond}}
	if t.Network.Refusal != nil {
		u.Refusal = t.Network.Refusal.dist()
	}
	for _, o := range t.Outage {
		u.Outages = append(u.Outages, sim.Outage{From: o.From, To: o.To, BlackHole: o.BlackHole, Answer: o.answer(http.StatusServiceUnavailable)})
	}
	if q := t.Quota; q != nil {
		u.Quota = sim.Quota{
			PerMinute: or(q.PerMinute, 60*or(q.PerSecond, 0)), Burst: or(q.Burst, 1), Window: or(q.Window, 0),
			ChargeRefused: q.ChargeRefused, Answer: q.answer(http.StatusTooManyRequests),
		}
	}
	if c := t.Concurrency; c != nil {
		u.Concurrency = sim.Concurrency{Limit: c.Limit, Answer: c.answer(http.StatusTooManyRequests)}
	}
	s := t.Server
	u.Server = sim.Server{Servers: s.Servers, Service: s.Service.dist(), Answer: s.answer(http.StatusServiceUnavailable)}
	if s.Queue != nil {
		u.Server.Bounded, u.Server.Queue = true, *s.Queue
	}
	return u
}

func (t *answerTable) answer(status int) sim.Answer {
	return sim.Answer{Status: or(t.Status, status), RetryAfter: t.RetryAfter.mode, Delay: t.RetryAfter.delay, Body: t.Body}
}

func (t *distTable) dist() sim.Dist {
	if t == nil {
		return sim.Dist{}
	}
	shape, _ := sim.ParseShape(t.Dist)
	return sim.Dist{Shape: shape, Mean: t.Mean, Sigma: or(t.Sigma, 1), Spread: t.Spread}
}

// exampleServer is what an error suggests to write.
const exampleServer = `add [upstream.server] with servers = 10 and service = { dist = "exponential", mean = "500ms" }`

// CheckEagerly reports what is missing or does not go together.
func (t *fileTable) CheckEagerly(k strict.Key) {
	if t.Upstream == nil {
		k.At("upstream").Error("is missing", "", exampleServer)
	}
	if t.Workload == nil {
		k.At("workload").Error("is missing", "", `add [workload] with kind = "poisson" and rate = 5.0`)
	}
	if t.Upstream == nil || t.Workload == nil {
		return
	}
	if t.Workload.Kind != "poisson" && k.At("workload", "kind").Sound() {
		for i, o := range t.Upstream.Outage {
			if o.BlackHole {
				k.At("upstream", "outage").Index(i).At("black_hole").Errorf("needs callers who give up: set workload.kind to \"poisson\" and workload.patience")
			}
		}
	} else if t.Workload.Patience == nil {
		for i, o := range t.Upstream.Outage {
			if o.BlackHole {
				k.At("upstream", "outage").Index(i).At("black_hole").Errorf("needs callers who give up: set workload.patience")
			}
		}
	}
	for i, c := range t.Change {
		at := k.At("change").Index(i)
		if at.At("at").Sound() && k.At("duration").Sound() && c.At > t.Duration {
			at.At("at").Errorf("is %v, must be at most duration (%v)", c.At, t.Duration)
		}
		missing := func(stage string) {
			at.At("set").Errorf("is %q, but there is no [%s] that could change: add it", c.Set, stage)
		}
		switch {
		case c.Set == "workload.rate" && t.Workload.Kind != "poisson":
			at.At("set").Errorf("is \"workload.rate\", but only a workload of kind \"poisson\" has a rate")
		case strings.HasPrefix(c.Set, "upstream.quota.") && t.Upstream.Quota == nil:
			missing("upstream.quota")
		case c.Set == "upstream.concurrency.limit" && t.Upstream.Concurrency == nil:
			missing("upstream.concurrency")
		case c.Set == "upstream.server.servers" && t.Upstream.Server != nil && t.Upstream.Server.Servers == 0:
			at.At("set").Errorf("is %q, but upstream.server.servers is not set at the start: set it", c.Set)
		}
	}
	for name := range t.Expect {
		if _, err := ParseController(name); err != nil {
			k.At("expect", name).Errorf("names no controller: %v", err)
		}
	}
}

// CheckEagerly reports keys that the kind of workload needs or does not have.
func (t *workloadTable) CheckEagerly(k strict.Key) {
	if t.Kind == "" || !k.At("kind").Sound() {
		return
	}
	need := func(key string, given bool, example string) {
		if !given && k.At(key).Sound() {
			k.At(key).Error(fmt.Sprintf("is missing for a workload of kind %q", t.Kind), "", "add "+key+" = "+example)
		}
	}
	kinds := map[string][]string{"rate": {"poisson"}, "patience": {"poisson"}, "clients": {"closed"}, "think": {"closed"}, "workers": {"backlog"}, "jobs": {"backlog"}}
	for _, key := range []string{"rate", "patience", "clients", "think", "workers", "jobs"} {
		if k.At(key).Given() && !slices.Contains(kinds[key], t.Kind) {
			why := "is a key of kind \"" + kinds[key][0] + "\", not of \"" + t.Kind + "\""
			if key == "patience" {
				why += ", whose callers wait for their answers"
			}
			k.At(key).Error(why, "", "remove it, or change workload.kind")
		}
	}
	switch t.Kind {
	case "poisson":
		need("rate", t.Rate != nil, "5.0")
	case "closed":
		need("clients", t.Clients != nil, "20")
	}
}

// Check reports delays in the wrong order.
func (t *retryTable) Check(k strict.Key) {
	if t.BaseDelay != nil && t.MaxDelay != nil && *t.MaxDelay < *t.BaseDelay {
		k.At("max_delay").Errorf("is %v, must be at least %s (%v)", *t.MaxDelay, k.At("base_delay"), *t.BaseDelay)
	}
}

// CheckEagerly reports an upstream without a server.
func (t *upstreamTable) CheckEagerly(k strict.Key) {
	if t.Server == nil {
		k.At("server").Error("is missing", "", exampleServer)
	}
}

// CheckEagerly reports a quota without a rate, or with two.
func (t *quotaTable) CheckEagerly(k strict.Key) {
	m, s := k.At("requests_per_minute"), k.At("requests_per_second")
	switch {
	case t.PerMinute == nil && t.PerSecond == nil && m.Sound() && s.Sound():
		m.Error("is missing", "", "add requests_per_minute = 60, or requests_per_second")
	case m.Given() && s.Given():
		s.Errorf("and %s are both given: keep one", m)
	}
	if k.At("window").Given() && k.At("burst").Given() {
		k.At("burst").Errorf("has no meaning with %s, which lets its whole number pass at once: remove one", k.At("window"))
	}
}

// Check reports a delay that cannot be known.
func (t *concurrencyTable) Check(k strict.Key) { t.noExact(k) }

// Check reports a delay that cannot be known, and a queue without servers.
func (t *serverTable) Check(k strict.Key) {
	t.noExact(k)
	if t.Queue != nil && t.Servers == 0 {
		k.At("queue").Errorf("needs %s: without a number of servers nobody queues", k.At("servers"))
	}
	if t.Service == nil {
		k.At("service").Error("is missing", "", `add service = { dist = "exponential", mean = "500ms" }`)
	} else if t.Service.Mean == 0 {
		k.At("service", "mean").Errorf("is 0s, must be longer: a server that takes no time has no limit")
	}
}

func (t *answerTable) noExact(k strict.Key) {
	if t.RetryAfter.mode == sim.RetryExact || t.RetryAfter.mode == sim.RetryExactMS {
		k.At("retry_after").Errorf("is exact, but nobody knows when a place becomes free: use a duration such as \"1s\", or \"none\"")
	}
}

// Check reports an outage that ends before it begins.
func (t *outageTable) Check(k strict.Key) {
	if t.To <= t.From {
		k.At("to").Errorf("is %v, must be after %s (%v)", t.To, k.At("from"), t.From)
	}
}

// Check reports parameters that the shape does not have.
func (t *distTable) Check(k strict.Key) {
	if t.Sigma != nil && t.Dist != "lognormal" {
		k.At("sigma").Errorf("is a key of dist \"lognormal\": remove it, or set dist")
	}
	if t.Spread != 0 && t.Dist != "uniform" {
		k.At("spread").Errorf("is a key of dist \"uniform\": remove it, or set dist")
	}
	if t.Spread > t.Mean {
		k.At("spread").Errorf("is %v, must be at most %s (%v)", t.Spread, k.At("mean"), t.Mean)
	}
}
