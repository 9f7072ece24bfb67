package scenario

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/sim"
	"github.com/flyball-go/flyball/internal/upstream"
)

// params is what may change while a scenario runs, with the largest value that it may have, which is the one that it may begin with, and whether that
// may be 0, and whether it is a whole number. Times are in seconds.
var params = map[string]struct {
	kind  upstream.ParamKind
	most  float64
	zero  bool
	whole bool
}{
	"workload.rate":                      {0, 1e6, true, false},
	"upstream.quota.limit":               {upstream.ParamQuotaLimit, 1e15, false, false},
	"upstream.quota.requests_per_minute": {upstream.ParamQuotaLimit, 1e15, false, false},
	"upstream.quota.burst":               {upstream.ParamQuotaBurst, 1e12, false, false},
	"upstream.slope.growth":              {upstream.ParamSlopeGrowth, 100, false, false},
	"upstream.concurrency.limit":         {upstream.ParamConcurrency, 1e6, false, true},
	"upstream.connections.limit":         {upstream.ParamConnections, 1e6, false, true},
	"upstream.noise.share":               {upstream.ParamNoise, 1, true, false},
	"upstream.neighbour.load":            {upstream.ParamNeighbour, 1e6, true, false},
	"upstream.server.servers":            {upstream.ParamServers, 1e6, false, false},
	"upstream.server.slow":               {upstream.ParamSlow, 1000, false, false},
	"upstream.server.queue":              {upstream.ParamQueue, 1e6, true, true},
	"upstream.server.service":            {upstream.ParamService, aDay, false, false},
	"upstream.server.kv":                 {upstream.ParamKV, 1e12, false, true},
	"upstream.slope.floor":               {upstream.ParamSlopeFloor, 1e6, true, true},
	"upstream.network.rtt":               {upstream.ParamRTT, 60, true, false},
	"upstream.network.refusal":           {upstream.ParamRefusal, aDay, true, false},
	"upstream.concurrency.lag":           {upstream.ParamLag, aDay, true, false},
	"upstream.connections.backlog":       {upstream.ParamBacklog, 1e6, true, true},
	"upstream.server.scale":              {upstream.ParamScale, 1000, true, false},
	"upstream.server.knee":               {upstream.ParamKnee, 1e6, true, false},
	"upstream.server.knee_base":          {upstream.ParamKneeBase, 100, false, false},
	"upstream.server.rate_scale":         {upstream.ParamRateScale, 1000, true, false},
	"upstream.server.input_token":        {upstream.ParamInputToken, 1, true, false},
	"upstream.server.output_token":       {upstream.ParamOutputToken, 60, true, false},
	"upstream.server.stall_share":        {upstream.ParamStallShare, 1, true, false},
	"upstream.server.queue_timeout":      {upstream.ParamQueueTimeout, aDay, true, false},
	"upstream.server.max_seqs":           {upstream.ParamMaxSeqs, 1e6, false, true},
	"upstream.server.chunk":              {upstream.ParamChunk, 1e6, false, true},
	"upstream.quota.retry_factor":        {upstream.ParamRetryFactor, 1000, true, false},
	"upstream.quota.retry_missing":       {upstream.ParamRetryMissing, 1, true, false},
	"upstream.quota.retry_jitter":        {upstream.ParamRetryJitter, 1, true, false},
	"upstream.autoscaler.max":            {upstream.ParamScalerMax, 1e6, false, false},
	"upstream.autoscaler.target":         {upstream.ParamScalerTarget, 1, true, false},
}

const aDay = 24 * 60 * 60

// paramTable names a parameter.
type paramTable struct {
	Set   string `toml:"set" required:"true" choice:"workload.rate|upstream.quota.limit|upstream.quota.requests_per_minute|upstream.quota.burst|upstream.slope.growth|upstream.concurrency.limit|upstream.connections.limit|upstream.noise.share|upstream.neighbour.load|upstream.server.servers|upstream.server.slow|upstream.server.queue|upstream.server.service|upstream.server.kv|upstream.slope.floor|upstream.network.rtt|upstream.network.refusal|upstream.concurrency.lag|upstream.connections.backlog|upstream.server.scale|upstream.server.knee|upstream.server.knee_base|upstream.server.rate_scale|upstream.server.input_token|upstream.server.output_token|upstream.server.stall_share|upstream.server.queue_timeout|upstream.server.max_seqs|upstream.server.chunk|upstream.quota.retry_factor|upstream.quota.retry_missing|upstream.quota.retry_jitter|upstream.autoscaler.max|upstream.autoscaler.target"`
	Quota *int   `toml:"quota" range:"1..16"`
}

// changeTable is a step.
type changeTable struct {
	paramTable
	At time.Duration `toml:"at" required:"true"`
	To float64       `toml:"to" required:"true" range:"0..1e15"`
}

// rampTable changes evenly from one value to another.
type rampTable struct {
	paramTable
	At    time.Duration `toml:"at" required:"true"`
	Until time.Duration `toml:"until" required:"true"`
	From  float64       `toml:"from" required:"true" range:"0..1e15"`
	To    float64       `toml:"to" required:"true" range:"0..1e15"`
}

// waveTable swings about a mean, as a sine does.
type waveTable struct {
	paramTable
	Mean   float64       `toml:"mean" required:"true" range:"0..1e15"`
	Swing  float64       `toml:"swing" required:"true" range:"0..1e15"`
	Period time.Duration `toml:"period" required:"true" range:"1s..1000h"`
	Peak   time.Duration `toml:"peak"`
}

const (
	// rampSteps is how many steps a ramp has, and waveSteps how many a period, at most.
	rampSteps = 100
	waveSteps = 64
	// shortestStep is the shortest of such steps, mostSteps the most of them in a scenario.
	shortestStep = 100 * time.Millisecond
	mostSteps    = 100_000
)

func (t *paramTable) param() sim.Param {
	p := sim.Param{Kind: params[t.Set].kind}
	if strings.HasPrefix(t.Set, "upstream.quota.") {
		p.Index = or(t.Quota, 1) - 1
	}
	return p
}

// changes returns all schedules as steps.
func (t *fileTable) changes() []sim.Change {
	var cs []sim.Change
	for i := range t.Change {
		c := &t.Change[i]
		cs = append(cs, sim.Change{At: c.At, Param: c.param(), To: c.To})
	}
	for i := range t.Ramp {
		cs = append(cs, t.Ramp[i].changes()...)
	}
	for i := range t.Wave {
		cs = append(cs, t.Wave[i].changes(t.Duration)...)
	}
	return sorted(append(cs, t.scheduled...))
}

func (t *rampTable) changes() []sim.Change {
	n := min(rampSteps, max(1, int((t.Until-t.At)/shortestStep)))
	var cs []sim.Change
	for i := range n + 1 {
		f := float64(i) / float64(n)
		cs = append(cs, sim.Change{At: t.At + time.Duration(f*float64(t.Until-t.At)), Param: t.param(), To: t.From + f*(t.To-t.From)})
	}
	return cs
}

func (t *waveTable) changes(d time.Duration) []sim.Change {
	every := max(shortestStep, t.Period/waveSteps, d/mostSteps)
	var cs []sim.Change
	for at := time.Duration(0); at < d; at += every {
		phase := 2 * math.Pi * (at - t.Peak + every/2).Seconds() / t.Period.Seconds()
		cs = append(cs, sim.Change{At: at, Param: t.param(), To: max(0, t.Mean+t.Swing*math.Cos(phase))})
	}
	return cs
}

func (t *fileTable) schedulePath() string {
	if filepath.IsAbs(t.Schedule) {
		return t.Schedule
	}
	return filepath.Join(filepath.Dir(t.path), t.Schedule)
}

// scheduleLine is a line of a schedule file.
type scheduleLine struct {
	T     *float64 `json:"t"`
	Key   string   `json:"key"`
	Quota int      `json:"quota"`
	Value *float64 `json:"value"`
}

// readSchedule reads the schedule file: a line of JSON for each step, with t (s), key (as set), value, and quota where there are several.
func (t *fileTable) readSchedule() ([]sim.Change, error) {
	path := t.schedulePath()
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(data) > strict.MaxSize*16 {
		return nil, fmt.Errorf("%s has more than %d bytes", path, strict.MaxSize*16)
	}
	var cs []sim.Change
	scan := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scan.Scan(); n++ {
		text := bytes.TrimSpace(scan.Bytes())
		if len(text) == 0 {
			continue
		}
		bad := func(format string, a ...any) ([]sim.Change, error) {
			return nil, fmt.Errorf("%s:%d: "+format, append([]any{path, n}, a...)...)
		}
		var l scheduleLine
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		err := dec.Decode(&l)
		if err == nil && dec.More() {
			err = errors.New("more comes after it: write one object a line")
		}
		if err != nil {
			return bad("is no line like {\"t\": 60, \"key\": \"upstream.concurrency.limit\", \"value\": 10}: %v", err)
		}
		_, known := params[l.Key]
		switch {
		case !known:
			return bad("key is %q, must be one of %s", l.Key, strings.Join(paramNames(), ", "))
		case l.T == nil || !(*l.T >= 0 && *l.T <= 1e7):
			return bad("t is missing or out of range, must be 0 to 10,000,000 s")
		case l.Value == nil || !(*l.Value >= 0 && *l.Value <= 1e15):
			return bad("value is missing or out of range, must be 0 to 1e15")
		case l.Quota < 0 || l.Quota > 16:
			return bad("quota is %d, must be 1 to 16", l.Quota)
		}
		p := paramTable{Set: l.Key}
		if l.Quota > 0 {
			p.Quota = &l.Quota
		}
		if name, problem := t.wrongParam(&p); problem != "" {
			return bad("%s %s", strings.Replace(name, "set", "key", 1), problem)
		}
		if problem := wrongValue(l.Key, *l.Value); problem != "" {
			return bad("value %s", problem)
		}
		if problem := cmp.Or(t.wrongLimit(&p, *l.Value), wrongPart(l.Key, *l.Value)); problem != "" {
			return bad("value %s", problem)
		}
		cs = append(cs, sim.Change{At: time.Duration(*l.T * 1e9), Param: p.param(), To: *l.Value})
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cs, nil
}

func paramNames() []string {
	var names []string
	for n := range params {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
