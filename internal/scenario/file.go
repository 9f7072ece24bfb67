package scenario

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Scenario is one upstream and one workload, and what is expected of controllers there.
type Scenario struct {
	// Name is short and unique.
	Name string
	// Intent says in one sentence what must happen.
	Intent string
	// Set is what the scenario is for.
	Set Set
	// Telling marks those that are run when nobody says which.
	Telling bool
	// Source is the text of the file.
	Source string
	// World is the upstream and the workload; its Seed and Guard are not set.
	World sim.Config
	// Expect is what a controller must reach, by its name.
	Expect map[string]Expect

	retry retryTable
	guard guardTable
}

// Set is what a scenario is for.
type Set string

const (
	// Tuning scenarios may be looked at while parameters are chosen.
	Tuning Set = "tuning"
	// HeldOut scenarios are for what was chosen: nobody tunes on them.
	HeldOut Set = "held-out"
	// Vector scenarios are the adaptive concurrency tests of Vector (vectordotdev/vector c3445d4).
	Vector Set = "vector"
)

// fileTable is a scenario file as it is written. What is not written is nil or zero.
type fileTable struct {
	Name     string         `toml:"name" required:"true" len:"1..40"`
	Intent   string         `toml:"intent" required:"true" len:"1..300"`
	Set      string         `toml:"set" choice:"tuning|held-out|vector"`
	Telling  bool           `toml:"telling"`
	Duration time.Duration  `toml:"duration" required:"true" range:"1s..1000h"`
	Drain    *time.Duration `toml:"drain" range:"0s..24h"`
	Workload *workloadTable `toml:"workload"`
	Guard    guardTable     `toml:"guard"`
	Replica  []replicaTable `toml:"replica" len:"..100"`
	Upstream *upstreamTable `toml:"upstream"`
	Change   []changeTable  `toml:"change" len:"..1000"`
	Ramp     []rampTable    `toml:"ramp" len:"..100"`
	Wave     []waveTable    `toml:"wave" len:"..100"`
	Schedule string         `toml:"schedule" len:"..1000"`

	Expect map[string]expectTable `toml:"expect"`

	path      string       // of the file
	scheduled []sim.Change // of the file Schedule
}

type workloadTable struct {
	Kind       string         `toml:"kind" choice:"poisson|closed|backlog|renewal|modulated|sessions"`
	Preset     string         `toml:"preset" choice:"chat|code|agent-long|reasoning|tenants|batch"`
	Rate       *float64       `toml:"rate" range:">0..1000000" unit:"requests a second"`
	Patience   *time.Duration `toml:"patience" range:"1ms..24h"`
	Timeout    time.Duration  `toml:"timeout" range:"1ms..24h"`
	Repeatable bool           `toml:"repeatable"`
	Clients    *int           `toml:"clients" range:"1..1000000" unit:"clients"`
	Think      *distTable     `toml:"think"`
	Workers    *int           `toml:"workers" range:"1..1000000" unit:"workers"`
	Jobs       *int           `toml:"jobs" range:"1..100000000" unit:"jobs"`
	CV         *float64       `toml:"cv" range:"0.01..100"`
	States     []stateTable   `toml:"states" len:"1..100"`
	Turns      *countTable    `toml:"turns"`
	Input      *countTable    `toml:"input"`
	Output     *countTable    `toml:"output"`
	Cached     *float64       `toml:"cached" range:"0..1"`
	MaxOutput  *int64         `toml:"max_output" range:"1..100000000" unit:"tokens"`
	Known      string         `toml:"known" choice:"nothing|input|most|all"`
	Streams    bool           `toml:"streams"`
	Tenants    []tenantTable  `toml:"tenant" len:"..1000"`
	Retry      retryTable     `toml:"retry"`
}

type stateTable struct {
	Rate float64       `toml:"rate" required:"true" range:"0..1000000" unit:"requests a second"`
	Mean time.Duration `toml:"mean" required:"true" range:"1ms..24h"`
}

type tenantTable struct {
	Name     string        `toml:"name" len:"..100"`
	Weight   *float64      `toml:"weight" range:">0..1e9"`
	Priority int           `toml:"priority" range:"0..7"`
	Class    int           `toml:"class" range:"0..7"`
	Input    *countTable   `toml:"input"`
	Output   *countTable   `toml:"output"`
	Work     *float64      `toml:"work" range:"0.001..1000"`
	Join     time.Duration `toml:"join" range:"0s..1000h"`
	Leave    time.Duration `toml:"leave" range:"0s..1000h"`
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
	Aging    *time.Duration `toml:"aging" range:"1ms..24h"`
	Reserved float64        `toml:"reserved_share" range:"0..0.9"`
	For      *int           `toml:"reserved_for" range:"1..7"`
}

type replicaTable struct {
	Join  time.Duration `toml:"join"`
	Leave time.Duration `toml:"leave"`
	Count *int          `toml:"count" range:"1..100" unit:"replicas"`
}

type upstreamTable struct {
	Dialect     string            `toml:"dialect" choice:"generic|openai|azure|anthropic|gemini"`
	Keys        []keyTable        `toml:"key" len:"..64"`
	Network     networkTable      `toml:"network"`
	Outage      []outageTable     `toml:"outage" len:"..100"`
	Noise       *noiseTable       `toml:"noise"`
	Connections *connectionsTable `toml:"connections"`
	Quota       []quotaTable      `toml:"quota" len:"..16"`
	Slope       *slopeTable       `toml:"slope"`
	Concurrency *concurrencyTable `toml:"concurrency"`
	Server      *serverTable      `toml:"server"`
	Neighbour   *neighbourTable   `toml:"neighbour"`
	Autoscaler  *autoscalerTable  `toml:"autoscaler"`
}

type keyTable struct {
	Share   *float64 `toml:"share" range:">0..1000"`
	Revoked bool     `toml:"revoked"`
}

type networkTable struct {
	RTT     time.Duration `toml:"rtt" range:"0s..1m"`
	Refusal *distTable    `toml:"refusal"`
}

type noiseTable struct {
	Share float64 `toml:"share" required:"true" range:"0..1"`
	answerTable
}

type connectionsTable struct {
	Limit   int `toml:"limit" required:"true" range:"1..1000000" unit:"connections"`
	Backlog int `toml:"backlog" range:"0..1000000" unit:"calls"`
	answerTable
}

// quotaTable has exactly one of the keys that say how much.
type quotaTable struct {
	PerMinute     *float64       `toml:"requests_per_minute" range:">0..1e9" unit:"requests a minute"`
	PerSecond     *float64       `toml:"requests_per_second" range:">0..1e7" unit:"requests a second"`
	PerDay        *float64       `toml:"requests_per_day" range:">0..1e9" unit:"requests a day"`
	Tokens        *float64       `toml:"tokens_per_minute" range:">0..1e12" unit:"tokens a minute"`
	Input         *float64       `toml:"input_tokens_per_minute" range:">0..1e12" unit:"tokens a minute"`
	Output        *float64       `toml:"output_tokens_per_minute" range:">0..1e12" unit:"tokens a minute"`
	TokensPerDay  *float64       `toml:"tokens_per_day" range:">0..1e15" unit:"tokens a day"`
	Algorithm     string         `toml:"algorithm" choice:"refill|fixed-window|sliding-log|sliding-counter"`
	Burst         *float64       `toml:"burst" range:"1..1e12" unit:"requests or tokens"`
	Window        *time.Duration `toml:"window" range:"100ms..24h"`
	Charge        string         `toml:"charge" choice:"before|settled|after"`
	CachedFree    bool           `toml:"cached_free"`
	ChargeRefused bool           `toml:"charge_refused"`
	answerTable
}

type slopeTable struct {
	Growth float64       `toml:"growth" required:"true" range:">0..100"`
	Window time.Duration `toml:"window" range:"100ms..1h"`
	Floor  *int          `toml:"floor" range:"1..1000000" unit:"calls"`
	answerTable
}

type concurrencyTable struct {
	Limit int        `toml:"limit" required:"true" range:"1..1000000" unit:"calls in flight"`
	Lag   *distTable `toml:"lag"`
	answerTable
}

type serverTable struct {
	Kind         string        `toml:"kind" choice:"servers|sharing|batch"`
	Servers      float64       `toml:"servers" range:"0..1000000" unit:"servers"`
	Queue        *int          `toml:"queue" range:"0..1000000" unit:"calls"`
	LIFO         bool          `toml:"lifo"`
	QueueTimeout time.Duration `toml:"queue_timeout" range:"1ms..24h"`
	Service      *distTable    `toml:"service"`
	InputToken   time.Duration `toml:"input_token" range:"0s..1s"`
	OutputToken  time.Duration `toml:"output_token" range:"0s..1m"`
	Scale        float64       `toml:"scale" range:"0..1000"`
	Knee         float64       `toml:"knee" range:"0..1000000" unit:"calls"`
	KneeBase     *float64      `toml:"knee_base" range:"1..100"`
	RateScale    float64       `toml:"rate_scale" range:"0..1000"`
	Stall        *distTable    `toml:"stall"`
	StallShare   float64       `toml:"stall_share" range:"0..1"`
	KnowsHangups bool          `toml:"knows_hangups"`
	Slow         *float64      `toml:"slow" range:"0.01..1000"`
	Profile      string        `toml:"profile" choice:"llama-8b-a100|llama-8b-h100|llama-70b-h100x8|tiny-kv"`
	KV           *int64        `toml:"kv" range:"1..1000000000000" unit:"tokens"`
	MaxSeqs      *int          `toml:"max_seqs" range:"1..1000000" unit:"sequences"`
	Chunk        *int          `toml:"chunk" range:"1..1000000" unit:"tokens"`
	answerTable
}

type neighbourTable struct {
	Rate   float64       `toml:"rate" range:"0..1000000" unit:"calls a second"`
	Busy   float64       `toml:"busy" range:"0..1000000" unit:"calls a second"`
	Quiet  time.Duration `toml:"quiet" range:"1ms..24h"`
	Burst  time.Duration `toml:"burst" range:"1ms..24h"`
	Input  *countTable   `toml:"input"`
	Output *countTable   `toml:"output"`
}

type autoscalerTable struct {
	Max       float64       `toml:"max" required:"true" range:"1..1000000" unit:"servers"`
	Step      float64       `toml:"step" range:"1..1000000" unit:"servers"`
	Tick      time.Duration `toml:"tick" range:"100ms..1h"`
	Target    float64       `toml:"target" range:">0..1"`
	Up        time.Duration `toml:"up" range:"0s..24h"`
	Down      time.Duration `toml:"down" range:"1s..24h"`
	ColdStart *distTable    `toml:"cold_start"`
}

type outageTable struct {
	From      time.Duration `toml:"from" required:"true"`
	To        time.Duration `toml:"to" required:"true"`
	Kind      string        `toml:"kind" choice:"refuse|black-hole|brown-out"`
	BlackHole bool          `toml:"black_hole"`
	Share     *float64      `toml:"share" range:">0..1"`
	Capacity  *float64      `toml:"capacity" range:">0..1"`
	Slow      *float64      `toml:"slow" range:"0.01..1000"`
	answerTable
}

// answerTable is how a stage says no.
type answerTable struct {
	Status       *int       `toml:"status" range:"400..599"`
	RetryAfter   retryAfter `toml:"retry_after"`
	RetryFactor  *float64   `toml:"retry_factor" range:"0..1000"`
	RetryJitter  float64    `toml:"retry_jitter" range:"0..1"`
	RetryMissing float64    `toml:"retry_missing" range:"0..1"`
	Body         string     `toml:"body" len:"..4096"`
	Silent       bool       `toml:"silent"`
}

// distTable is a distribution of durations.
type distTable struct {
	Dist   string        `toml:"dist" choice:"constant|exponential|lognormal|uniform|normal|gamma|weibull|pareto|mixture"`
	Mean   time.Duration `toml:"mean" range:"0s..24h"`
	Sigma  *float64      `toml:"sigma" range:"0..4"`
	Spread time.Duration `toml:"spread" range:"0s..24h"`
	CV     *float64      `toml:"cv" range:"0.01..100"`
	Shape  *float64      `toml:"shape" range:"0.1..100"`
	Alpha  *float64      `toml:"alpha" range:"0.1..100"`
	Min    time.Duration `toml:"min" range:"0s..24h"`
	Max    time.Duration `toml:"max" range:"0s..1000h"`
	Offset time.Duration `toml:"offset" range:"0s..24h"`
	Parts  []partTable   `toml:"parts" len:"1..20"`
}

// partTable is a part of a mixture of durations.
type partTable struct {
	Weight *float64      `toml:"weight" range:">0..1e9"`
	Dist   string        `toml:"dist" choice:"constant|exponential|lognormal|uniform|normal|gamma|weibull|pareto"`
	Mean   time.Duration `toml:"mean" range:"0s..24h"`
	Sigma  *float64      `toml:"sigma" range:"0..4"`
	Spread time.Duration `toml:"spread" range:"0s..24h"`
	CV     *float64      `toml:"cv" range:"0.01..100"`
	Shape  *float64      `toml:"shape" range:"0.1..100"`
	Alpha  *float64      `toml:"alpha" range:"0.1..100"`
	Min    time.Duration `toml:"min" range:"0s..24h"`
	Max    time.Duration `toml:"max" range:"0s..1000h"`
}

// countTable is a distribution of counts: tokens, or turns.
type countTable struct {
	Dist      string           `toml:"dist" choice:"constant|exponential|lognormal|uniform|normal|gamma|weibull|pareto|mixture|table"`
	Mean      *float64         `toml:"mean" range:"0..1e12"`
	Median    *float64         `toml:"median" range:">0..1e12"`
	Sigma     *float64         `toml:"sigma" range:"0..4"`
	Spread    float64          `toml:"spread" range:"0..1e12"`
	CV        *float64         `toml:"cv" range:"0.01..100"`
	Shape     *float64         `toml:"shape" range:"0.1..100"`
	Alpha     *float64         `toml:"alpha" range:"0.1..100"`
	Min       float64          `toml:"min" range:"0..1e12"`
	Max       float64          `toml:"max" range:"0..1e12"`
	Parts     []countPartTable `toml:"parts" len:"1..20"`
	Quantiles [][]float64      `toml:"quantiles" len:"2..200"`
}

// countPartTable is a part of a mixture of counts.
type countPartTable struct {
	Weight *float64 `toml:"weight" range:">0..1e9"`
	Dist   string   `toml:"dist" choice:"constant|exponential|lognormal|uniform|normal|gamma|weibull|pareto"`
	Mean   *float64 `toml:"mean" range:"0..1e12"`
	Median *float64 `toml:"median" range:">0..1e12"`
	Sigma  *float64 `toml:"sigma" range:"0..4"`
	Spread float64  `toml:"spread" range:"0..1e12"`
	CV     *float64 `toml:"cv" range:"0.01..100"`
	Shape  *float64 `toml:"shape" range:"0.1..100"`
	Alpha  *float64 `toml:"alpha" range:"0.1..100"`
	Min    float64  `toml:"min" range:"0..1e12"`
	Max    float64  `toml:"max" range:"0..1e12"`
}

// retryAfter is what a refusal says about when to come back.
type retryAfter struct {
	mode  upstream.RetryMode
	form  upstream.RetryForm
	delay time.Duration
}

// UnmarshalText reads "none", "exact", "exact-ms", "exact-date", "stale" or a duration.
func (r *retryAfter) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "none":
		r.mode = upstream.RetryNone
	case "exact":
		r.mode = upstream.RetryExact
	case "exact-ms":
		r.mode, r.form = upstream.RetryExact, upstream.FormMillis
	case "exact-date":
		r.mode, r.form = upstream.RetryExact, upstream.FormDate
	case "stale":
		r.mode = upstream.RetryStale
	default:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 || d > 31*24*time.Hour {
			return fmt.Errorf("must be \"none\", \"exact\", \"exact-ms\", \"exact-date\", \"stale\" or a duration such as \"30s\"")
		}
		r.mode, r.delay = upstream.RetryConstant, d
	}
	return nil
}

// Parse reads a scenario file. The name is for messages, and the folder of a schedule file. An error is a [strict.Errors]
// with everything that is wrong.
func Parse(name string, data []byte) (*Scenario, error) {
	t := fileTable{path: name}
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
