package scenario

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

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
	t.checkHoles(k)
	t.checkSilence(k)
	for i := range t.Change {
		c := &t.Change[i]
		at := k.At("change").Index(i)
		t.checkInstant(k, at.At("at"), c.At)
		t.checkParam(at, &c.paramTable)
		t.checkValue(at.At("to"), c.Set, c.To)
		t.checkWhole(at.At("to"), &c.paramTable, c.To)
	}
	for i := range t.Ramp {
		r := &t.Ramp[i]
		at := k.At("ramp").Index(i)
		t.checkInstant(k, at.At("at"), r.At)
		if at.At("until").Sound() && r.Until <= r.At {
			at.At("until").Errorf("is %v, must be after %s (%v)", r.Until, at.At("at"), r.At)
		}
		t.checkParam(at, &r.paramTable)
		t.checkValue(at.At("from"), r.Set, r.From)
		t.checkValue(at.At("to"), r.Set, r.To)
		t.checkWhole(at.At("from"), &r.paramTable, r.From)
		t.checkWhole(at.At("to"), &r.paramTable, r.To)
	}
	for i := range t.Wave {
		w := &t.Wave[i]
		at := k.At("wave").Index(i)
		t.checkParam(at, &w.paramTable)
		t.checkValue(at.At("mean"), w.Set, w.Mean)
		if !at.At("swing").Sound() || !at.At("mean").Sound() {
			continue
		}
		if w.Swing > w.Mean {
			at.At("swing").Errorf("is %v, must be at most %s (%v)", w.Swing, at.At("mean"), w.Mean)
		} else if most := params[w.Set].most; w.Mean+w.Swing > most && w.Mean <= most {
			at.At("swing").Errorf("is %v, must be at most %v: %s is at most %v", w.Swing, most-w.Mean, w.Set, most)
		} else if lowest := w.Mean - w.Swing; t.wrongLimit(&w.paramTable, w.Mean) == "" && t.allows(&w.paramTable, lowest) < 1-nearWhole {
			at.At("swing").Errorf("is %v, so that at its lowest a window allows less than 1: must be less", w.Swing)
		}
	}
	if t.Schedule != "" && k.At("schedule").Sound() {
		var err error
		if t.scheduled, err = t.readSchedule(); err != nil {
			k.At("schedule").Errorf("cannot be used: %v", err)
		}
	}
	for i, r := range t.Replica {
		if r.Leave != 0 && r.Leave <= r.Join {
			k.At("replica").Index(i).At("leave").Errorf("is %v, must be after join (%v)", r.Leave, r.Join)
		}
	}
	t.checkTenants(k)
	for name := range t.Expect {
		if _, err := ParseController(name); err != nil {
			k.At("expect", name).Errorf("names no controller: %v", err)
		}
	}
	if !t.Workload.hasTokens() {
		for i := range t.Upstream.Quota {
			if _, c, _, key, n := t.Upstream.Quota[i].given(); n == 1 && c != upstream.Requests {
				k.At("upstream", "quota").Index(i).At(key).Errorf("counts tokens, and requests have none: set workload.input and workload.output, or workload.preset")
			}
		}
		if s := t.Upstream.Server; s != nil && s.Kind == "batch" {
			k.At("upstream", "server", "kind").Errorf("is \"batch\", and requests have no tokens: set workload.input and workload.output, or workload.preset")
		}
	}
}

// checkTenants reports tenants that leave before they come, or whose work the server does not look at.
func (t *fileTable) checkTenants(k strict.Key) {
	always := len(t.Workload.Tenants) == 0
	for i := range t.Workload.Tenants {
		w := &t.Workload.Tenants[i]
		at := k.At("workload", "tenant").Index(i)
		if w.Leave != 0 && w.Leave <= w.Join {
			at.At("leave").Errorf("is %v, must be after join (%v)", w.Leave, w.Join)
		}
		if s := t.Upstream.Server; w.Work != nil && s != nil && s.Kind == "batch" {
			at.At("work").Errorf("is about upstream.server.service, and a server of kind \"batch\" looks at tokens only: set input and output of the tenant")
		}
		always = always || w.Join == 0 && w.Leave == 0
	}
	if !always {
		k.At("workload", "tenant").Errorf("has nobody who asks all the time: leave join and leave out for one of them")
	}
}

// checkHoles reports black holes that would keep a caller for ever.
func (t *fileTable) checkHoles(k strict.Key) {
	for i, o := range t.Upstream.Outage {
		if !o.BlackHole && o.Kind != "black-hole" && !o.Silent || t.Workload.Timeout > 0 {
			continue
		}
		key := "kind"
		switch {
		case o.Silent:
			key = "silent"
		case o.BlackHole:
			key = "black_hole"
		}
		at := k.At("upstream", "outage").Index(i).At(key)
		switch {
		case !slices.Contains([]string{"closed", "backlog"}, t.Workload.Kind) && t.Workload.Patience == nil:
			at.Errorf("needs callers who give up: set workload.patience, or workload.timeout")
		case slices.Contains([]string{"closed", "backlog"}, t.Workload.Kind) && k.At("workload", "kind").Sound():
			at.Errorf("needs callers who give up: set workload.timeout, or workload.kind to \"poisson\" and workload.patience")
		}
	}
}

// checkSilence reports stages that would keep a caller for ever.
func (t *fileTable) checkSilence(k strict.Key) {
	u := t.Upstream
	if t.Workload.Timeout > 0 || t.Workload.Patience != nil {
		return
	}
	at := func(silent bool, path ...string) {
		if k := k.At("upstream").At(path...).At("silent"); silent {
			k.Errorf("needs callers who give up: set workload.timeout, or workload.patience")
		}
	}
	if u.Noise != nil {
		at(u.Noise.Silent, "noise")
	}
	if u.Connections != nil {
		at(u.Connections.Silent, "connections")
	}
	if u.Slope != nil {
		at(u.Slope.Silent, "slope")
	}
	if u.Concurrency != nil {
		at(u.Concurrency.Silent, "concurrency")
	}
	if u.Server != nil {
		at(u.Server.Silent, "server")
	}
	for i := range u.Quota {
		at(u.Quota[i].Silent, "quota", strconv.Itoa(i))
	}
}

func (t *fileTable) checkInstant(k, at strict.Key, d time.Duration) {
	if at.Sound() && k.At("duration").Sound() && d > t.Duration {
		at.Errorf("is %v, must be at most duration (%v)", d, t.Duration)
	}
}

// checkParam reports a parameter of something that is not there.
func (t *fileTable) checkParam(at strict.Key, p *paramTable) {
	if key, problem := t.wrongParam(p); problem != "" {
		at.At(key).Errorf("%s", problem)
	}
}

// wrongParam returns what is wrong with the name of a parameter, and of which key that is said; empty for nothing.
func (t *fileTable) wrongParam(p *paramTable) (key, problem string) {
	u := t.Upstream
	missing := func(stage string) (string, string) {
		return "set", fmt.Sprintf("is %q, but there is no [%s] that could change: add it", p.Set, stage)
	}
	if p.Quota != nil && !strings.HasPrefix(p.Set, "upstream.quota.") {
		return "quota", "is for parameters of upstream.quota: remove it"
	}
	switch {
	case p.Set == "workload.rate":
		if slices.Contains([]string{"closed", "backlog"}, t.Workload.Kind) {
			return "set", fmt.Sprintf("is \"workload.rate\", but a workload of kind %q has no rate", t.Workload.Kind)
		}
	case strings.HasPrefix(p.Set, "upstream.quota."):
		if len(u.Quota) == 0 {
			return missing("upstream.quota")
		} else if n := or(p.Quota, 1); n > len(u.Quota) {
			return "quota", fmt.Sprintf("is %d, but there are %d [[upstream.quota]]", n, len(u.Quota))
		} else if _, c, daily, key, given := u.Quota[n-1].given(); p.Set == "upstream.quota.requests_per_minute" && given == 1 && (c != upstream.Requests || daily) {
			return "set", fmt.Sprintf("is %q, but upstream.quota[%d] has %s: set upstream.quota.limit, in its unit", p.Set, n-1, key)
		}
	case strings.HasPrefix(p.Set, "upstream.slope.") && u.Slope == nil:
		return missing("upstream.slope")
	case strings.HasPrefix(p.Set, "upstream.concurrency.") && u.Concurrency == nil:
		return missing("upstream.concurrency")
	case strings.HasPrefix(p.Set, "upstream.connections.") && u.Connections == nil:
		return missing("upstream.connections")
	case p.Set == "upstream.neighbour.load" && u.Neighbour == nil:
		return missing("upstream.neighbour")
	case strings.HasPrefix(p.Set, "upstream.autoscaler.") && u.Autoscaler == nil:
		return missing("upstream.autoscaler")
	case p.Set == "upstream.server.servers" && u.Server != nil && u.Server.Servers == 0:
		return "set", fmt.Sprintf("is %q, but upstream.server.servers is not set at the start: set it", p.Set)
	case p.Set == "upstream.server.queue" && u.Server != nil && u.Server.Queue == nil:
		return "set", fmt.Sprintf("is %q, but upstream.server.queue is not set at the start: set it", p.Set)
	case slices.Contains([]string{"upstream.server.kv", "upstream.server.max_seqs", "upstream.server.chunk"}, p.Set) && u.Server != nil && u.Server.Kind != "batch":
		return "set", fmt.Sprintf("is %q, but upstream.server.kind is not \"batch\"", p.Set)
	}
	return "", ""
}

// checkValue reports a value that its parameter cannot have.
func (t *fileTable) checkValue(at strict.Key, set string, x float64) {
	if problem := wrongValue(set, x); problem != "" && at.Sound() {
		at.Errorf("%s", problem)
	}
}

// checkWhole reports a value that would be rounded.
func (t *fileTable) checkWhole(at strict.Key, p *paramTable, x float64) {
	if problem := cmp.Or(wrongPart(p.Set, x), t.wrongLimit(p, x)); problem != "" && at.Sound() {
		at.Errorf("%s", problem)
	}
}

// nearWhole is how far from a whole number what a window allows may be, as a share of it.
const nearWhole = .05

// whole reports whether a window may allow so much.
func whole(allows float64) bool {
	return math.Abs(max(1, math.Round(allows))-allows) <= nearWhole*allows
}

// allows returns what a quota allows in its window when it is changed to x; 1 where no window counts, or where it is not known.
func (t *fileTable) allows(p *paramTable, x float64) float64 {
	n := or(p.Quota, 1) - 1
	if params[p.Set].kind != upstream.ParamQuotaLimit || t.Upstream == nil || n < 0 || n >= len(t.Upstream.Quota) {
		return 1
	}
	q := t.Upstream.Quota[n].quota()
	if q.Algorithm == upstream.Refill {
		return 1
	}
	return x * float64(windowOf(&q)) / float64(periodOf(&q))
}

// periodOf returns what a quota's limit is for, and windowOf how long its window is.
func periodOf(q *upstream.Quota) time.Duration {
	if q.Daily {
		return 24 * time.Hour
	}
	return time.Minute
}

func windowOf(q *upstream.Quota) time.Duration { return cmp.Or(q.Window, periodOf(q)) }

// wrongLimit returns what is wrong with a limit that a quota is changed to: where a window counts, it allows whole numbers, and at least 1.
func (t *fileTable) wrongLimit(p *paramTable, x float64) string {
	if allows := t.allows(p, x); x > 0 && !whole(allows) {
		q := t.Upstream.Quota[or(p.Quota, 1)-1].quota()
		return fmt.Sprintf("is %v, of which a window of %v allows %.3g, must allow a whole number, at least 1", x, windowOf(&q), allows)
	}
	return ""
}

// wrongPart returns what is wrong with a part of something that comes whole.
func wrongPart(set string, x float64) string {
	if params[set].whole && x != math.Floor(x) {
		return fmt.Sprintf("is %v, must be a whole number, as %s is at the start", x, set)
	}
	return ""
}

// wrongValue returns what is wrong with a value for a parameter; empty for nothing.
func wrongValue(set string, x float64) string {
	switch p, known := params[set]; {
	case !known: // which is told of its name
	case x == 0 && !p.zero:
		return "is 0, must be > 0; for nothing at all use [[upstream.outage]]"
	case x > p.most && p.most == 1:
		return fmt.Sprintf("is %v, must be 0 to 1", x)
	case x > p.most:
		return fmt.Sprintf("is %v, must be at most %s, as %s is at the start", x, strconv.FormatFloat(p.most, 'f', -1, 64), set)
	}
	return ""
}

// hasTokens reports whether requests have tokens.
func (t *workloadTable) hasTokens() bool {
	if t.Preset != "" || t.Input != nil || t.Output != nil {
		return true
	}
	return slices.ContainsFunc(t.Tenants, func(x tenantTable) bool { return x.Input != nil || x.Output != nil })
}

// CheckEagerly reports keys that the kind of workload needs or does not have.
func (t *workloadTable) CheckEagerly(k strict.Key) {
	if !k.At("kind").Sound() || !k.At("preset").Sound() {
		return
	}
	kind := t.Kind
	if kind == "" {
		if t.Preset == "" {
			k.At("kind").Error("is missing", "", `add kind = "poisson", or preset = "chat"`)
			return
		}
		kind = presets[t.Preset].kind.String()
	}
	need := func(key string, given bool, example string) {
		if !given && k.At(key).Sound() {
			k.At(key).Error(fmt.Sprintf("is missing for a workload of kind %q", kind), "", "add "+key+" = "+example)
		}
	}
	open := []string{"poisson", "renewal", "modulated", "sessions"}
	kinds := map[string][]string{
		"rate": open, "patience": open, "clients": {"closed"}, "think": {"closed", "sessions"}, "workers": {"backlog"}, "jobs": {"backlog"},
		"cv": {"renewal"}, "states": {"modulated"}, "turns": {"sessions"},
	}
	for _, key := range []string{"rate", "patience", "clients", "think", "workers", "jobs", "cv", "states", "turns"} {
		if k.At(key).Given() && !slices.Contains(kinds[key], kind) {
			why := "is a key of kind \"" + kinds[key][0] + "\", not of \"" + kind + "\""
			if key == "patience" {
				why += ", whose callers wait for their answers"
			}
			k.At(key).Error(why, "", "remove it, or change workload.kind")
		}
	}
	switch kind {
	case "poisson", "renewal", "sessions":
		need("rate", t.Rate != nil || presets[t.Preset].rate > 0, "5.0")
	case "closed":
		need("clients", t.Clients != nil, "20")
	case "modulated":
		need("states", t.States != nil || presets[t.Preset].states != nil, `[{ rate = 10.0, mean = "8s" }, { rate = 0.1, mean = "20s" }]`)
	}
	if t.States != nil && k.At("states").Sound() && !slices.ContainsFunc(t.States, func(s stateTable) bool { return s.Rate > 0 }) {
		k.At("states").Errorf("have no rate above 0: nothing would ever come")
	}
	if kind == "sessions" {
		need("turns", t.Turns != nil, `{ dist = "exponential", mean = 5.0 }`)
	}
	if !t.hasTokens() {
		for _, key := range []string{"cached", "max_output", "known"} {
			if k.At(key).Given() {
				k.At(key).Errorf("is about tokens, and requests have none: set input and output, or preset")
			}
		}
	}
}

// Check reports delays in the wrong order.
func (t *retryTable) Check(k strict.Key) {
	if t.BaseDelay != nil && t.MaxDelay != nil && *t.MaxDelay < *t.BaseDelay {
		k.At("max_delay").Errorf("is %v, must be at least %s (%v)", *t.MaxDelay, k.At("base_delay"), *t.BaseDelay)
	}
}

// Check reports half of a reservation.
func (t *guardTable) Check(k strict.Key) {
	if t.Reserved > 0 && t.For == nil {
		k.At("reserved_share").Errorf("needs %s: the lowest priority that may use these places", k.At("reserved_for"))
	}
}

// CheckEagerly reports an upstream without a server.
func (t *upstreamTable) CheckEagerly(k strict.Key) {
	if t.Server == nil {
		k.At("server").Error("is missing", "", exampleServer)
	}
	if a, s := t.Autoscaler, t.Server; a != nil && s != nil && k.At("server", "servers").Sound() && k.At("autoscaler", "max").Sound() {
		switch at := k.At("autoscaler", "max"); {
		case s.Servers == 0:
			at.Errorf("needs %s: how many there are at the start", k.At("server", "servers"))
		case a.Max < s.Servers:
			at.Errorf("is %v, must be at least %s (%v), which are there at the start", a.Max, k.At("server", "servers"), s.Servers)
		}
	}
	t.checkShares(k)
	if len(t.Keys) > 0 && !slices.ContainsFunc(t.Keys, func(x keyTable) bool { return !x.Revoked }) {
		k.At("key").Errorf("are all revoked: nothing would ever pass")
	}
}

// checkShares reports keys whose share of a window, or of a cap, is not near a whole number.
func (t *upstreamTable) checkShares(k strict.Key) {
	for i, x := range t.Keys {
		at, share := k.At("key").Index(i).At("share"), or(x.Share, 1)
		if x.Revoked || share == 1 || !at.Sound() {
			continue
		}
		if c := t.Concurrency; c != nil && k.At("concurrency", "limit").Sound() && !whole(share*float64(c.Limit)) {
			at.Errorf("is %v, of which %s makes %.3g, must make a whole number, at least 1", share, k.At("concurrency", "limit"), share*float64(c.Limit))
			continue
		}
		for n := range t.Quota {
			q := t.Quota[n].quota()
			_, _, _, key, given := t.Quota[n].given()
			allows := q.Limit * float64(windowOf(&q)) / float64(periodOf(&q))
			if quota := k.At("quota").Index(n); given == 1 && quota.At(key).Sound() && q.Algorithm != upstream.Refill && whole(allows) && !whole(share*allows) {
				at.Errorf("is %v, of which a window of %s makes %.3g, must make a whole number, at least 1", share, quota, share*allows)
				break
			}
		}
	}
}

// CheckEagerly reports a quota without a rate, or with two.
func (t *quotaTable) CheckEagerly(k strict.Key) {
	keys := []string{"requests_per_minute", "requests_per_second", "requests_per_day", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "tokens_per_day"}
	var given []string
	sound := true
	for _, key := range keys {
		sound = sound && k.At(key).Sound()
		if k.At(key).Given() {
			given = append(given, key)
		}
	}
	switch {
	case len(given) == 0 && sound:
		k.At("requests_per_minute").Error("is missing", "", "add requests_per_minute = 60, or requests_per_second, requests_per_day, tokens_per_minute, input_tokens_per_minute, output_tokens_per_minute, tokens_per_day")
	case len(given) > 1:
		k.At(given[1]).Errorf("and %s are both given: keep one, and write another [[upstream.quota]] for the other", k.At(given[0]))
	}
	fixed := k.At("window").Given() && t.Algorithm == "" || t.Algorithm != "" && t.Algorithm != "refill" || k.At("requests_per_day").Given() && t.Algorithm == ""
	if fixed && k.At("burst").Given() {
		why := k.At("window")
		if t.Algorithm != "" {
			why = k.At("algorithm")
		}
		k.At("burst").Errorf("has no meaning with %s, which lets its whole number pass at once: remove one", why)
	}
	if limit, _, daily, key, n := t.given(); fixed && t.Algorithm != "refill" && n == 1 && k.At("window").Sound() && k.At("algorithm").Sound() && k.At(key).Sound() {
		period, in := time.Minute, "a minute"
		if daily {
			period, in = 24*time.Hour, "a day"
		}
		window := period
		if t.Window != nil {
			window = *t.Window
		}
		if allows := limit * float64(window) / float64(period); !whole(allows) {
			if t.Window != nil {
				k.At("window").Errorf("is %v, in which %s allows %.3g, must allow a whole number, at least 1: change one of them", *t.Window, k.At(key), allows)
			} else {
				k.At(key).Errorf("allows %.3g in %s, must allow a whole number, at least 1, where a window counts", allows, in)
			}
		}
	}
	if t.Algorithm == "refill" && k.At("window").Given() {
		k.At("window").Errorf("has no meaning with %s = \"refill\": remove one", k.At("algorithm"))
	}
	if k.At("charge").Given() && len(given) == 1 && strings.HasPrefix(given[0], "requests") {
		k.At("charge").Errorf("is for quotas of tokens; requests are always charged before: remove it")
	}
}

// Check reports a delay that cannot be known.
func (t *concurrencyTable) Check(k strict.Key) { t.noExact(k) }

// Check reports a delay that cannot be known.
func (t *connectionsTable) Check(k strict.Key) { t.noExact(k) }

// Check reports a delay that cannot be known, and keys that do not go together.
func (t *serverTable) Check(k strict.Key) {
	t.noExact(k)
	if t.Kind == "batch" {
		for _, key := range []string{"service", "servers", "input_token", "output_token", "scale", "knee", "rate_scale", "stall_share"} {
			if k.At(key).Given() {
				k.At(key).Errorf("has no meaning with kind = \"batch\", whose time comes from its profile: remove it")
			}
		}
		return
	}
	for _, key := range []string{"profile", "kv", "max_seqs", "chunk"} {
		if k.At(key).Given() {
			k.At(key).Errorf("is a key of kind \"batch\": remove it, or set kind")
		}
	}
	if t.Kind == "sharing" && t.Servers == 0 {
		k.At("servers").Error("is missing for kind \"sharing\"", "", "add servers = 8.0: how many calls it could work on at full speed")
	}
	if (t.Queue != nil || t.LIFO || t.QueueTimeout > 0) && t.Servers == 0 {
		key := "queue"
		if t.Queue == nil {
			key = map[bool]string{true: "lifo", false: "queue_timeout"}[t.LIFO]
		}
		k.At(key).Errorf("needs %s: without a number of servers nobody queues", k.At("servers"))
	}
	if t.Service == nil && t.OutputToken == 0 && t.InputToken == 0 {
		k.At("service").Error("is missing", "", `add service = { dist = "exponential", mean = "500ms" }`)
	} else if t.Service != nil && t.OutputToken == 0 && t.InputToken == 0 {
		if d := t.Service.dist(); d.Average() == 0 {
			k.At("service", "mean").Errorf("is 0s, must be longer: a server that takes no time has no limit")
		}
	}
	if t.Knee > 0 && t.KneeBase == nil && t.Scale == 0 {
		k.At("knee").Errorf("needs %s: by how much each call beyond it slows all down", k.At("knee_base"))
	}
	if t.StallShare > 0 && t.Stall == nil {
		k.At("stall_share").Errorf("needs %s: for how long a body stands still", k.At("stall"))
	}
}

func (t *answerTable) noExact(k strict.Key) {
	switch {
	case t.RetryAfter.mode == upstream.RetryExact, t.RetryAfter.mode == upstream.RetryStale:
		k.At("retry_after").Errorf("is exact, but nobody knows when a place becomes free: use a duration such as \"1s\", or \"none\"")
	case t.RetryFactor != nil:
		k.At("retry_factor").Errorf("multiplies the truth, but nobody knows when a place becomes free: use retry_after = \"1s\"")
	}
}

// Check reports an outage that ends before it begins, and keys of a brown-out.
func (t *outageTable) Check(k strict.Key) {
	if t.To <= t.From {
		k.At("to").Errorf("is %v, must be after %s (%v)", t.To, k.At("from"), t.From)
	}
	if t.BlackHole && t.Kind != "" && t.Kind != "black-hole" {
		k.At("black_hole").Errorf("and kind = %q contradict each other: keep one", t.Kind)
	}
	for _, key := range []string{"capacity", "slow"} {
		if k.At(key).Given() && t.Kind != "brown-out" {
			k.At(key).Errorf("is a key of kind \"brown-out\": remove it, or set kind")
		}
	}
	if t.Kind == "brown-out" && t.Capacity == nil && t.Slow == nil {
		k.At("kind").Errorf("is \"brown-out\", which needs capacity = 0.5 or slow = 2.0")
	}
}

// Check reports busy times without lengths.
func (t *neighbourTable) Check(k strict.Key) {
	if (t.Busy > 0) != (t.Burst > 0) || t.Burst > 0 && t.Quiet == 0 {
		k.At("busy").Errorf("needs %s and %s, the mean lengths of its times", k.At("quiet"), k.At("burst"))
	}
	if t.Rate == 0 && t.Busy == 0 {
		k.At("rate").Error("is missing", "", "add rate = 2.0, calls a second")
	}
}

// Check reports parameters that the shape does not have.
func (t *distTable) Check(k strict.Key) {
	checkDist(k, t.Dist, t.Spread > t.Mean)
	if d := t.dist(); !k.At("mean").Given() && d.Shape != draw.Pareto && d.Shape != draw.Mixture {
		k.At("mean").Error("is missing", "", `add mean = "500ms"`)
	} else if err := d.Check(); err != nil && t.Dist != "uniform" {
		k.Errorf("is no distribution: %v", err)
	}
}

// Check reports parameters that the shape does not have.
func (t *countTable) Check(k strict.Key) {
	checkDist(k, t.Dist, t.Spread > or(t.Mean, 0))
	d := t.dist()
	if t.Median != nil && t.Dist != "lognormal" {
		k.At("median").Errorf("is a key of dist \"lognormal\": remove it, or set dist")
	}
	for i, q := range t.Quantiles {
		if len(q) != 2 {
			k.At("quantiles").Index(i).Errorf("has %d numbers, must have 2: a share from 0 to 1 and a value", len(q))
			return
		}
	}
	switch {
	case t.Mean == nil && t.Median == nil && d.Shape != draw.Pareto && d.Shape != draw.Mixture && d.Shape != draw.Table:
		k.At("mean").Error("is missing", "", "add mean = 500.0")
	case t.Dist != "uniform":
		if err := d.Check(); err != nil {
			k.Errorf("is no distribution: %v", err)
		}
	}
}

func checkDist(k strict.Key, dist string, wide bool) {
	for _, x := range []struct {
		key   string
		dists []string
	}{
		{"sigma", []string{"lognormal"}}, {"spread", []string{"uniform", "normal"}}, {"cv", []string{"gamma"}}, {"shape", []string{"weibull"}},
		{"alpha", []string{"pareto"}}, {"parts", []string{"mixture"}}, {"quantiles", []string{"table"}},
	} {
		if k.At(x.key).Given() && !slices.Contains(x.dists, dist) {
			k.At(x.key).Errorf("is a key of dist \"%s\": remove it, or set dist", strings.Join(x.dists, "\" and \""))
		}
	}
	if dist == "uniform" && wide && k.At("spread").Sound() {
		k.At("spread").Errorf("is %s, must be at most %s (%s)", k.At("spread").Found(), k.At("mean"), k.At("mean").Found())
	}
	if dist == "pareto" {
		if !k.At("min").Given() {
			k.At("min").Error("is missing for dist \"pareto\", whose smallest value it is", "", "add min")
		}
		if k.At("mean").Given() {
			k.At("mean").Errorf("has no meaning for dist \"pareto\", whose mean follows from min, alpha and max: remove it")
		}
	}
}
