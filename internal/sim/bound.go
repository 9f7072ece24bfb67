package sim

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Limits is what nobody could have exceeded, or an estimate of it.
type Limits struct {
	// Exact says that the numbers bound every controller; otherwise they are an estimate, which a run may exceed by a little. They
	// are exact for the world that the comment of Bound describes.
	Exact bool
	// ByTokens says that a quota counts tokens, so that goodput should, too: who serves short requests first has more of them.
	ByTokens bool
	// OK is how many successes there can be until Horizon, and Tokens how many tokens they have (an estimate always).
	OK, Tokens int64
	// Horizon is Duration, or the instant at which the last job of a batch can be done, if that is before.
	Horizon time.Duration
	Step    time.Duration
	// Done is how many successes there are in each step when everything goes as well as it can: those that OK counts.
	Done []float64
	// Asked is how many requests arrive in each step, where that does not depend on who is served; nil in a closed loop and for a backlog.
	Asked []float64
	// Capacity is how many successes a second the upstream sustains in each step, with means in place of draws, whatever is asked; +Inf where it
	// has no limit. Down says that calls fail then, all or a share of them, whoever makes them.
	Capacity []float64
	Down     []bool
	// RoundTrip is the mean time of a call that begins in a step and waits for nothing.
	RoundTrip []time.Duration
	// Rate is the level that successes a second can hold at each step: the smaller of demand and capacity, with means in
	// place of draws. It is 0 in an outage, and after the end of a batch.
	Rate []float64
	// Limit is how many calls in flight keep the upstream busy and no more, at each step; NaN where
	// it has no limit on calls, or where a quota is reached before.
	Limit []float64
}

// Bound computes how many requests could have succeeded at most in the world of cfg; cfg.Guard does not matter.
//
// It lets requests pass as early as the world allows, in the order in which they arrive, without a refusal and
// without anybody giving up, and counts who is served. That is an upper bound for every controller and at every instant,
// not only on average. Let p(k), b(k), e(k) be when the k-th call that is served at all passes the gates, begins
// at the server, and ends there. In any run:
//
//   - p(k) is not before k requests have arrived (each is served once at most), and p(k) >= p(k-1);
//   - its caller waits at p(k) still, and all callers have the same patience;
//   - at p(k) the quotas allow a request, fewer calls than the cap are inside, fewer than there are connections have not ended, and, in a
//     closed loop, fewer than all clients are waiting for an answer or thinking;
//   - no more calls pass during an outage than may wait for a connection when it begins;
//   - b(k) is at p(k) or when a server becomes free, and calls begin in the order in which they passed;
//   - e(k) = b(k) + s(k), with the same s(k) in every run, as draws belong to the k-th start;
//   - the cap counts it until e(k) + l(k), with the same l(k) in every run, for the same reason (Concurrency.Lag).
//
// If p, b and e of all calls before the k-th are as early as they can be, then whatever lets the k-th pass or begin in
// another run lets it pass or begin here at the same instant: fewer or as many calls are inside, and a quota that was
// used earlier holds as much or more. So by induction none is later than in any other run. A call that
// fails although it is served (its caller gave up) is counted here unless s(k) alone exceeds the
// patience. Refused calls that are charged only make things worse for the other run.
//
// Who passes is the first to have arrived of those whose callers wait still. The other run may be taken to do the same: where it serves a later
// one first, the two may change places, as the earlier one gives up earlier, too. Then by the same induction its k-th call did not arrive before the
// k-th here, so that there is one for each call here. Where s and l are always the same, a call that fails may be left out of the other run, so that
// here nobody passes either who would give up before the end; but not where a bucket gets back what a call was charged for that timed out in the
// server's queue. There the k-th call is taken to pass when k requests are first at the server together, in its queue, or have been there: between two
// instants that number grows by no more than the bucket holds and gains, whatever is given back.
//
// Patience bounds the sum, too: whoever succeeds after an instant t arrived after t - patience. So there
// are never more successes than the bound until t and the arrivals after t - patience together, for any t.
//
// The argument needs calls whose time does not depend on which request is served k-th, and not on how many are served beside it. Where
// work belongs to requests (tokens), or servers are shared, batch, slow down under load, or come and go, the same procedure with requests
// in the order of arrival, and with what a fluid server could do, gives an estimate, and Exact is false. So it is for
// sessions, several keys and neighbours, where service or lag change with time, and where some wait longer than others. What only makes things worse (random refusals, a limit on
// the slope, a timeout of attempts) is left out of both.
//
// The error is ctx's cause when that ended first, or names what in cfg makes no world.
func Bound(ctx context.Context, cfg Config) (*Limits, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return newBound(&cfg).run(ctx)
}

type bound struct {
	cfg         *Config
	half        int64
	flow        flow
	size        source // draws how large a request is
	changes     []Change
	quotas      []boundQuota
	taken       taken   // by a neighbour now
	cap         int     // -1: none
	counted     float64 // how many times as long a call counts under the cap, as the rest of a place is the neighbour's
	share       float64 // of all keys together
	servers     steps
	inside      times   // when the cap counts calls no more that passed: their ends, and the lag
	working     times   // when calls at the servers end
	open        times   // when calls end that have a connection
	conns       int     // how many connections there are; -1: no limit
	clients     times   // when clients can have their next request at the upstream
	queue       int     // of the server; -1: no bound
	lined       int     // how many calls may wait for a connection at most
	outage      int64   // when the outage ends that was met last
	late        int     // how many calls that waited for a connection when it began may still pass in it
	begins      []int64 // when calls that passed begin, for those that wait; kept when queue >= 0
	fluid       fluid
	crowd       crowd
	slow        steps // with brown-outs
	service     steps // mean of Server.Service, in s, where it changes
	lag         steps // mean of Concurrency.Lag, in s, where it changes
	inToken     steps // Server.InputToken, in s
	outToken    steps // Server.OutputToken, in s
	stalls      steps // Server.StallShare
	rtt         steps // in s
	neighbour   neighbour
	behind      steps   // whether he has queued up at the servers: 0 or 1
	limits      steps   // Concurrency.Limit
	connections steps   // Connections.Limit
	ready       float64 // when a fluid server has done what was begun, ns
	res         *Limits
}

// boundQuota is a quota with what a call costs.
type boundQuota struct {
	gate
	q      *upstream.Quota
	limits steps
}

// cost returns what a request of a size costs at least.
func (q *boundQuota) cost(s *request, most int64) float64 {
	in := s.input
	if q.q.CachedFree {
		in -= s.cached
	}
	out := s.output
	if q.q.Charge == upstream.ChargeBefore && most > 0 {
		out = most
	}
	switch q.q.Counter {
	case upstream.Requests:
		return 1
	case upstream.InputTokens:
		return float64(in)
	case upstream.OutputTokens:
		return float64(out)
	}
	return float64(in + out)
}

// asks returns how much must be left for a request of a size to pass.
func (q *boundQuota) asks(s *request, most int64) float64 {
	if q.q.Counter != upstream.Requests && q.q.Charge == upstream.ChargeAfter {
		return 1
	}
	return q.cost(s, most)
}

func newBound(cfg *Config) *bound {
	b := &bound{cfg: cfg, half: int64(cfg.RTT) / 2, changes: cutsLast(cfg), queue: -1, cap: -1, conns: -1, res: &Limits{}}
	b.flow.init(cfg)
	b.size.init(cfg)
	b.share = 0
	for _, k := range cfg.Upstream.Keys {
		switch {
		case k.Revoked:
		case k.Share == 0:
			b.share++
		default:
			b.share += k.Share
		}
	}
	if len(cfg.Upstream.Keys) == 0 {
		b.share = 1
	}
	s := &cfg.Upstream.Server
	b.slow = slowOf(cfg)
	b.service = stepsOf(cfg.Changes, Param{Kind: upstream.ParamService}, s.Service.Mean/1e9)
	b.lag = stepsOf(cfg.Changes, Param{Kind: upstream.ParamLag}, cfg.Upstream.Concurrency.Lag.Mean/1e9)
	b.inToken = stepsOf(cfg.Changes, Param{Kind: upstream.ParamInputToken}, s.InputToken.Seconds())
	b.outToken = stepsOf(cfg.Changes, Param{Kind: upstream.ParamOutputToken}, s.OutputToken.Seconds())
	b.initNeighbour()
	b.taken = b.neighbour.at(0)
	b.limits = stepsOf(cfg.Changes, Param{Kind: upstream.ParamConcurrency}, float64(cfg.Upstream.Concurrency.Limit))
	b.connections = stepsOf(cfg.Changes, Param{Kind: upstream.ParamConnections}, float64(cfg.Upstream.Connections.Limit))
	for i := range cfg.Upstream.Quotas {
		q := &cfg.Upstream.Quotas[i]
		b.quotas = append(b.quotas, boundQuota{boundGate(q, b.share), q, stepsOf(cfg.Changes, Param{Kind: upstream.ParamQuotaLimit, Index: i}, q.Limit)})
		if b.taken.rate > 0 {
			b.allow(&b.quotas[i], 0, q.Limit)
		}
	}
	if cfg.Upstream.Concurrency.Limit > 0 {
		b.setCap(0)
	}
	first := s.Servers
	if cfg.Upstream.Autoscaler.Max > 0 {
		first = cfg.Upstream.Autoscaler.Max
	}
	b.servers = serversOf(cfg, b.changes, first)
	b.behind = b.queues()
	if s.Bounded && s.Servers > 0 && s.Kind == upstream.Servers {
		b.queue = s.Queue
	}
	if c := &cfg.Upstream.Connections; c.Limit > 0 {
		b.lined, b.conns = c.Backlog, c.Limit
		for _, x := range cfg.Changes {
			if x.Param.Kind == upstream.ParamBacklog {
				b.lined = max(b.lined, int(x.To))
			}
		}
	}
	b.fluid.init(cfg, &b.size, &b.lag)
	b.crowd.init(cfg, &b.size)
	b.rtt = stepsOf(cfg.Changes, Param{Kind: upstream.ParamRTT}, cfg.RTT.Seconds())
	b.stalls = stepsOf(cfg.Changes, Param{Kind: upstream.ParamStallShare}, s.StallShare)
	b.res.Exact = exact(cfg, &b.size)
	for _, q := range cfg.Upstream.Quotas {
		b.res.ByTokens = b.res.ByTokens || q.Counter != upstream.Requests
	}
	return b
}

// exact reports whether the bound is one for every controller; see Bound.
func exact(cfg *Config, size *source) bool {
	u, s := &cfg.Upstream, &cfg.Upstream.Server
	switch {
	case s.Kind != upstream.Servers, s.Scale > 0, s.Knee > 0, s.RateScale > 0, s.StallShare > 0, s.KnowsHangups, s.Slow > 0 && s.Slow != 1,
		size.tokens && (s.InputToken > 0 || s.OutputToken > 0), slices.ContainsFunc(cfg.Workload.Tenants, func(t Tenant) bool { return t.Work > 0 && t.Work != 1 }), u.Autoscaler.Max > 0, u.Neighbour.Rate > 0 || u.Neighbour.Busy > 0,
		len(u.Keys) > 1, cfg.Workload.Kind == Sessions, cfg.Workload.Kind.patient() && (len(cfg.Replicas) > 1 || cfg.Workload.Timeout > 0),
		cfg.Workload.patiences(),
		cfg.Workload.Timeout > 0 && cfg.Workload.Repeatable: // a request could be served twice, and skip a long time
		return false
	}
	for i := range u.Quotas {
		if u.Quotas[i].Counter != upstream.Requests {
			return false
		}
	}
	for i := range u.Faults {
		if f := &u.Faults[i]; f.Kind == upstream.Brownout && f.Slow != 0 && f.Slow != 1 {
			return false
		}
	}
	for _, c := range cfg.Changes {
		switch c.Param.Kind {
		case upstream.ParamSlow, upstream.ParamService, upstream.ParamLag, upstream.ParamRTT, upstream.ParamScale, upstream.ParamKnee, upstream.ParamKneeBase, upstream.ParamRateScale,
			upstream.ParamInputToken, upstream.ParamOutputToken, upstream.ParamStallShare, upstream.ParamMaxSeqs, upstream.ParamChunk, upstream.ParamScalerMax, upstream.ParamScalerTarget:
			return false
		}
	}
	return true
}

// taken is what a neighbour uses, on average, while he is quiet or while he is busy.
type taken struct {
	rate    float64 // calls a second
	in, out float64 // tokens of one
	calls   float64 // that the cap counts
	served  float64 // that are at servers
}

// neighbour is what one uses over time.
type neighbour struct {
	steps // of the factor: when what he uses changes
	what  []taken
}

func (n *neighbour) at(now int64) taken {
	if len(n.what) == 0 {
		return taken{}
	}
	return n.what[n.index(now)]
}

// initNeighbour computes what one uses. It changes when he becomes busy or quiet, and when his calls take longer or shorter.
func (b *bound) initNeighbour() {
	cfg, u := b.cfg, &b.cfg.Upstream
	n, s, busy := &u.Neighbour, &u.Server, steps{[]int64{0}, []float64{0}}
	if n.Rate <= 0 && n.Busy <= 0 {
		return
	}
	rates := [2]float64{n.Rate, n.Busy}
	if n.Burst > 0 && float64(cfg.Duration) > mostPhases*float64(n.Quiet+n.Burst) {
		rates[0] = (n.Rate*float64(n.Quiet) + n.Busy*float64(n.Burst)) / float64(n.Quiet+n.Burst)
	} else {
		for i, at := range n.Phases(cfg.Seed, int64(cfg.Duration)) {
			busy.when, busy.to = append(busy.when, at), append(busy.to, float64(1-i%2))
		}
	}
	b.neighbour.steps = stepsOf(cfg.Changes, Param{Kind: upstream.ParamNeighbour}, 1)
	for _, x := range []*steps{&busy, &b.slow, &b.service, &b.lag, &b.inToken, &b.outToken} {
		for _, at := range x.when {
			b.neighbour.cut(at)
		}
	}
	service, lag := averageOf(s.Service, &b.service), averageOf(u.Concurrency.Lag, &b.lag)
	in, out := n.Input.Average(), n.Output.Average()
	for i, at := range b.neighbour.when {
		t := taken{rate: rates[int(busy.at(at))] * max(0, b.neighbour.to[i]), in: in, out: out}
		took := (service(at) + tokenAt(&b.inToken, at)*in + tokenAt(&b.outToken, at)*out) * b.slow.at(at)
		if s.Kind == upstream.Batch {
			took = 0 // he takes a part of what it does; see batch
		}
		t.served = t.rate * took / 1e9
		t.calls = t.rate * (took + lag(at)) / 1e9
		b.neighbour.what = append(b.neighbour.what, t)
		b.changes = append(b.changes, Change{At: time.Duration(at), Param: Param{Kind: upstream.ParamNeighbour}})
	}
	slices.SortStableFunc(b.changes, func(a, b Change) int { return cmp.Compare(a.At, b.At) })
}

// mostPhases is how many phases a neighbour may have, of which each counts for itself; of more the average counts.
const mostPhases = 10_000

// quota returns how much of a quota it uses, in the time that the quota's limit is for.
func (t *taken) quota(q *upstream.Quota) float64 {
	per := t.rate * 60
	if q.Daily {
		per *= 24 * 60
	}
	switch q.Counter {
	case upstream.Requests:
		return per
	case upstream.InputTokens:
		return per * t.in
	case upstream.OutputTokens:
		return per * t.out
	}
	return per * (t.in + t.out)
}

// fluid is what a batching server could do at best, whose calls do not have a place each.
type fluid struct {
	on       bool
	llm      *upstream.LLM
	kv, seqs steps
	input    float64 // tokens of a mean call
	prefill  float64 // those of its prompt that no cache has
	output   float64
	best     map[batching]best
	lag      func(at int64) float64 // average of Concurrency.Lag, in ns
}

// batching is what the best batch depends on.
type batching struct {
	kv, seqs float64
	limits   [3]batchLimit
	longest  float64 // ns that a call may take
}

// batchLimit is how many calls there may be at a time, and for how long each counts beside its time in the batch, in ns.
type batchLimit struct{ most, beside float64 }

// best is what it does with its best batch.
type best struct {
	perCall float64 // ns of the server's time for the work of a mean call
	in, out float64 // weights of tokens in the work of a call
	mean    float64 // work of a mean call
}

func (f *fluid) init(cfg *Config, size *source, lag *steps) {
	s := &cfg.Upstream.Server
	if f.on = s.Kind == upstream.Batch; !f.on {
		return
	}
	f.llm, f.best, f.lag = &s.LLM, map[batching]best{}, averageOf(cfg.Upstream.Concurrency.Lag, lag)
	f.kv = stepsOf(cfg.Changes, Param{Kind: upstream.ParamKV}, float64(s.LLM.KV))
	f.seqs = stepsOf(cfg.Changes, Param{Kind: upstream.ParamMaxSeqs}, float64(s.LLM.MaxSeqs)) // 0: any number
	in, out := meanTokens(cfg, size)
	f.input, f.output, f.prefill = max(1, in), max(1, out), max(1, in-meanCached(cfg, in))
}

// of returns what it does with so many sequences at a time. The prompt of each is computed in as few iterations as there is room for, so that one with a
// prompt in it takes longer, and the others are short.
func (f *fluid) of(n float64) best {
	l, out := f.llm, f.output
	takes := func(tokens float64) float64 { return math.Hypot(float64(l.Step), l.Token*tokens) }
	room := math.Inf(1)
	if l.Chunk > 0 {
		room = max(1, float64(l.Chunk)-n)
	}
	every := takes(n) + l.Sequence*n + l.Cache*n*(f.input+out/2) // iteration without a prompt
	whole := math.Floor(f.prefill / room)
	prompt := takes(f.prefill-whole*min(room, f.prefill)+n) - takes(n)
	if whole > 0 {
		prompt += whole * (takes(room+n) - takes(n))
	}
	if crowded := n * f.prefill / room; crowded > out { // there is a prompt in each
		each := (crowded*every + n*prompt) / n
		return best{perCall: each, in: 1, mean: f.prefill}
	}
	if n > out { // several in each
		prompt = (takes(n*f.prefill/out+n) - takes(n)) * out / n
	}
	b := best{perCall: (out*every + n*prompt) / n, in: prompt * n / (f.prefill * every), out: 1}
	b.mean = b.in*f.prefill + out
	return b
}

// at returns what it does with the best batch that limits allow.
func (f *fluid) at(key batching) best {
	if b, ok := f.best[key]; ok {
		return b
	}
	most := key.kv / (f.input + f.output/2)
	if key.seqs > 0 {
		most = min(most, key.seqs)
	}
	fits := func(n float64, x best) bool {
		for _, l := range key.limits {
			if n+l.beside/x.perCall > l.most {
				return false
			}
		}
		return n*x.perCall <= key.longest
	}
	b := f.of(1)
	for n, fit := 1.0, true; n < most && fit; {
		last := n
		n = min(most, max(n+1, math.Floor(n*1.01)))
		x := f.of(n)
		if fit = fits(n, x); !fit { // as many as fit on average
			low, high := last, n
			for range 20 {
				if mid := (low + high) / 2; fits(mid, f.of(mid)) {
					low = mid
				} else {
					high = mid
				}
			}
			x = f.of(low)
		}
		if x.perCall < b.perCall {
			b = x
		}
	}
	f.best[key] = b
	return b
}

// batch returns what a batching server does at an instant with its best batch.
func (b *bound) batch(now int64) best {
	f, l, w := &b.fluid, &b.cfg.Upstream.Server.LLM, &b.cfg.Workload
	slow := b.slow.at(now) // what is beside the batch takes no longer where the batch is slow
	key, other := batching{kv: f.kv.at(now), seqs: f.seqs.at(now), longest: math.Inf(1)}, b.neighbour.at(now)
	for i := range key.limits {
		key.limits[i].most = math.Inf(1)
	}
	in, out := float64(l.Ingest)/slow, float64(l.Detach)*f.output/slow
	if b.cfg.Upstream.Concurrency.Limit > 0 {
		key.limits[0] = batchLimit{max(1, math.Ceil(b.places(now))), in + b.fluid.lag(now)/slow}
	}
	if b.conns >= 0 {
		key.limits[1] = batchLimit{b.connections.at(now), in}
	}
	if w.Kind.patient() {
		key.limits[2] = batchLimit{float64(w.Clients), in + out + (2*float64(b.halfAt(now))+w.Think.Average())/slow}
	}
	for _, d := range []time.Duration{w.Timeout, w.Patience} {
		if d > 0 {
			key.longest = min(key.longest, (float64(int64(d)-2*b.halfAt(now)))/slow-in-out)
		}
	}
	x := f.at(key)
	x.perCall /= leaves(1, other.rate*x.perCall*(other.in*x.in+other.out*x.out)/x.mean*slow/1e9) // his are in the same batch
	return x
}

// crowd is by how much calls take longer beside others, at a server that slows down under load.
type crowd struct {
	on                bool
	scale, knee, base steps
	in, out, work     float64                    // tokens and work of a mean call
	service           func(mean float64) float64 // average of Server.Service, in ns
	best              map[crowded]float64
}

// crowded is what the best number of calls at a time depends on.
type crowded struct {
	scale, knee, base float64
	alone             float64 // ns that a mean call takes alone
	longest           float64 // ns that one may take
	most              float64 // calls at a time
}

func (c *crowd) init(cfg *Config, size *source) {
	s := &cfg.Upstream.Server
	of := func(kind upstream.ParamKind, first float64) steps {
		x := stepsOf(cfg.Changes, Param{Kind: kind}, first)
		c.on = c.on || kind != upstream.ParamKneeBase && slices.Max(x.to) > 0
		return x
	}
	c.scale, c.knee, c.base = of(upstream.ParamScale, s.Scale), of(upstream.ParamKnee, s.Knee), of(upstream.ParamKneeBase, s.KneeBase)
	if c.on = c.on && s.Kind != upstream.Batch; !c.on {
		return
	}
	c.in, c.out = meanTokens(cfg, size)
	c.work, c.service, c.best = meanWork(cfg, -1), averages(s.Service), map[crowded]float64{}
}

// load returns by how much a call takes longer that starts at an instant as one of n; 1 where nothing slows down.
func (c *crowd) load(at int64, n float64) float64 {
	if !c.on || math.IsInf(n, 1) {
		return 1
	}
	n = max(1, n)
	x := 1 + c.scale.at(at)*(n-1)
	if knee := c.knee.at(at); knee > 0 && n > knee {
		x += math.Pow(c.base.at(at), n-knee) - 1
	}
	return x
}

// atOnce returns the best number of calls at a time: as few as make nearly the most calls a second, and none that takes longer than its caller waits.
// It is +Inf where nothing slows down.
func (b *bound) atOnce(at int64) float64 {
	c, w := &b.crowd, &b.cfg.Workload
	if !c.on {
		return math.Inf(1)
	}
	key := crowded{scale: c.scale.at(at), knee: c.knee.at(at), base: c.base.at(at), longest: math.Inf(1), most: 4096}
	if key.scale == 0 && key.knee == 0 {
		return math.Inf(1)
	}
	key.alone = (c.service(b.service.at(at)*1e9)*c.work + tokenAt(&b.inToken, at)*c.in + tokenAt(&b.outToken, at)*c.out) * b.slow.at(at)
	for _, d := range []time.Duration{w.Timeout, w.Patience} {
		if d > 0 {
			key.longest = min(key.longest, float64(int64(d)-2*b.halfAt(at)))
		}
	}
	if n := b.servers.at(at); n > 0 {
		key.most = max(1, min(key.most, n))
	}
	if n, ok := c.best[key]; ok {
		return n
	}
	best := 0.0
	for n := 1.0; n <= key.most && (n == 1 || key.alone*c.load(at, n) <= key.longest); n++ {
		best = max(best, n/c.load(at, n))
	}
	n := 1.0
	for n < key.most && n/c.load(at, n) < .97*best {
		n++
	}
	c.best[key] = n
	return n
}

// meanTokens returns how many tokens a request has on average.
func meanTokens(cfg *Config, size *source) (in, out float64) {
	w := &cfg.Workload
	if !size.tokens {
		return 0, 0
	}
	if w.Kind == Traced {
		for i := range w.Requests {
			in += float64(w.Requests[i].Input)
			out += float64(w.Requests[i].Output)
		}
		n := float64(max(1, len(w.Requests)))
		return in / n, out / n
	}
	if len(w.Tenants) == 0 {
		in, out = w.Input.Average(), w.Output.Average()
	}
	var sum float64
	for i := range w.Tenants {
		t := &w.Tenants[i]
		a, b := &w.Input, &w.Output
		if t.Input != nil {
			a = t.Input
		}
		if t.Output != nil {
			b = t.Output
		}
		in, out, sum = in+t.Weight*a.Average(), out+t.Weight*b.Average(), sum+t.Weight
	}
	if sum > 0 {
		in, out = in/sum, out/sum
	}
	if w.Kind == Sessions { // half of what is said before, on average
		in += (in + out) * max(0, w.Turns.Average()-1) / 2
	}
	return in, out
}

// meanCached returns how many tokens of a mean prompt are read from a cache.
func meanCached(cfg *Config, in float64) float64 {
	w := &cfg.Workload
	switch w.Kind {
	case Traced:
		sum := 0.0
		for i := range w.Requests {
			sum += float64(w.Requests[i].Cached)
		}
		return sum / float64(max(1, len(w.Requests)))
	case Sessions: // of what was said before
		turns := max(0, w.Turns.Average()-1) / 2
		return w.Cached * (in - (in-turns*w.Output.Average())/(1+turns))
	}
	return w.Cached * in
}

// meanWork returns how many times as long as Server.Service a request takes on average: of the tenants that ask at an instant, or, when it is less
// than 0, of all.
func meanWork(cfg *Config, at int64) float64 {
	sum, work := 0.0, 0.0
	for i := range cfg.Workload.Tenants {
		t := &cfg.Workload.Tenants[i]
		if at >= 0 && !t.asks(at) {
			continue
		}
		sum += t.Weight
		if t.Work > 0 {
			work += t.Weight * t.Work
		} else {
			work += t.Weight
		}
	}
	if sum == 0 {
		return 1
	}
	return work / sum
}

// cutsLast returns the changes of a world as the bound takes them: fewer servers count from the next ns on, because a call that ends at the very
// instant may have another one begin before. So does every lower limit where the next call comes at the instant at which one ends: where it waits for a
// connection, or where the way takes no time. Else whoever comes at the instant comes after the change.
func cutsLast(cfg *Config) []Change {
	u := &cfg.Upstream
	limits := map[Param]float64{{Kind: upstream.ParamServers}: u.Server.Servers}
	timed := func(c Change) bool { return c.Param.Kind == upstream.ParamRTT }
	if u.Connections.Limit > 0 || cfg.RTT < 2 || slices.ContainsFunc(cfg.Changes, timed) {
		limits[Param{Kind: upstream.ParamQueue}], limits[Param{Kind: upstream.ParamConcurrency}] = float64(u.Server.Queue), float64(u.Concurrency.Limit)
		limits[Param{Kind: upstream.ParamConnections}] = float64(u.Connections.Limit)
		for i := range u.Quotas {
			limits[Param{Kind: upstream.ParamQuotaLimit, Index: i}] = u.Quotas[i].Limit
			limits[Param{Kind: upstream.ParamQuotaBurst, Index: i}] = u.Quotas[i].Burst
		}
	}
	var out []Change
	for i, c := range cfg.Changes {
		was, ok := limits[c.Param]
		if ok && c.To < was {
			rest := cfg.Changes[i+1:]
			for len(rest) > 0 && rest[0].At == c.At && rest[0].Param != c.Param {
				rest = rest[1:]
			}
			if len(rest) > 0 && rest[0].At == c.At {
				continue // it is something else at once
			}
			c.At++
		}
		if ok {
			limits[c.Param] = c.To
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Change) int { return cmp.Compare(a.At, b.At) })
	return out
}

// serversOf returns how many servers there are over time, with brown-outs: whole ones and at least one, but for those that are shared.
func serversOf(cfg *Config, changes []Change, first float64) steps {
	s := stepsOf(changes, Param{Kind: upstream.ParamServers}, first)
	if cfg.Upstream.Autoscaler.Max > 0 {
		s = scaledOf(cfg)
	}
	if first == 0 {
		return s
	}
	for i := range cfg.Upstream.Faults {
		f := &cfg.Upstream.Faults[i]
		s.cut(int64(f.From))
		s.cut(int64(f.To))
	}
	for i, at := range s.when {
		capacity := 1.0
		for k := range cfg.Upstream.Faults {
			f := &cfg.Upstream.Faults[k]
			if f.Kind == upstream.Brownout && f.Capacity > 0 && at >= int64(f.From) && at < int64(f.To) {
				capacity *= f.Capacity
			}
		}
		s.to[i] = max(s.to[i], 1e-3) * capacity
		if cfg.Upstream.Server.Kind != upstream.Sharing {
			s.to[i] = max(1, math.Floor(s.to[i]))
		}
	}
	return s
}

// scaledOf returns how many servers an autoscaler may have started over time. Where there may be fewer, it takes away a few at a time.
func scaledOf(cfg *Config) steps {
	a, least := &cfg.Upstream.Autoscaler, cfg.Upstream.Server.Servers
	tick, down, most := int64(a.Tick), int64(a.Down), max(a.Max, least)
	if tick == 0 {
		tick = int64(15 * time.Second)
	}
	if down == 0 {
		down = int64(300 * time.Second)
	}
	every := (down + tick - 1) / tick * tick
	s := steps{[]int64{0}, []float64{most}}
	fall := int64(never) // when servers are taken away next
	shrink := func(until int64) {
		for last := len(s.to) - 1; fall < until && s.to[last]-max(1, a.Step) >= max(most, least); last++ {
			s.when, s.to = append(s.when, fall), append(s.to, s.to[last]-max(1, a.Step))
			fall += every
		}
	}
	for _, c := range cfg.Changes {
		at := int64(c.At)
		shrink(at)
		var have float64
		switch c.Param.Kind {
		case upstream.ParamServers:
			least = max(c.To, 1e-3)
			have = least // whatever it had
		case upstream.ParamScalerMax:
			most = max(c.To, least)
			have = s.to[len(s.to)-1]
		default:
			continue
		}
		s.when, s.to = append(s.when, at), append(s.to, max(have, most))
		fall = (at/tick+1)*tick + every
	}
	shrink(int64(cfg.Duration))
	return s
}

// cut begins a step at an instant, with the value that it has there.
func (s *steps) cut(at int64) {
	if i := s.index(at); s.when[i] != at {
		s.when = slices.Insert(s.when, i+1, at)
		s.to = slices.Insert(s.to, i+1, s.to[i])
	}
}

// leaves returns what a neighbour who asks for so much leaves of a limit: the rest, and at least a quarter, as he cannot have what others took before.
func leaves(limit, asks float64) float64 { return max(limit-asks, limit/4) }

// allow sets what a quota allows, in the unit of its file, less what a neighbour uses.
func (b *bound) allow(q *boundQuota, at int64, limit float64) {
	left := leaves(limit*b.share, b.taken.quota(q.q))
	if q.q.Daily {
		left /= 24 * 60
	}
	q.set(at, left)
}

// places returns how many calls a cap lets in at a time: of the keys, each of which has whole ones, less those of a neighbour.
func (b *bound) places(at int64) float64 {
	limit, n := max(1, int(b.limits.at(at))), 0
	for _, k := range b.cfg.Upstream.Keys {
		if !k.Revoked {
			n += max(1, upstream.Part(limit, cmp.Or(k.Share, 1)))
		}
	}
	if len(b.cfg.Upstream.Keys) == 0 {
		n = limit
	}
	return max(1, leaves(float64(n), b.neighbour.at(at).calls))
}

// setCap sets what the cap lets in from an instant on.
func (b *bound) setCap(at int64) {
	n := b.places(at)
	b.cap = int(math.Ceil(n - 1e-6))
	b.counted = float64(b.cap) / n
}

// apply sets the parameters that change until now.
func (b *bound) apply(now int64) {
	for len(b.changes) > 0 && int64(b.changes[0].At) <= now {
		c := &b.changes[0]
		at := int64(c.At)
		switch p := c.Param; p.Kind {
		case upstream.ParamQuotaLimit, upstream.ParamQuotaBurst:
			if p.Index < len(b.quotas) {
				q := &b.quotas[p.Index]
				if p.Kind == upstream.ParamQuotaBurst {
					q.setBurst(at, c.To*b.share)
				} else {
					b.allow(q, at, c.To)
				}
			}
		case upstream.ParamConcurrency:
			if b.cap >= 0 {
				b.setCap(at)
			}
		case upstream.ParamNeighbour:
			b.taken = b.neighbour.at(at)
			for i := range b.quotas {
				b.allow(&b.quotas[i], at, b.quotas[i].limits.at(at))
			}
			if b.cap >= 0 {
				b.setCap(at)
			}
		case upstream.ParamConnections:
			if b.conns >= 0 {
				b.conns = max(1, int(c.To))
			}
		case upstream.ParamQueue:
			if b.queue >= 0 {
				b.queue = max(0, int(c.To))
			}
		}
		b.changes = b.changes[1:]
	}
}

// nextChange returns when the next parameter changes.
func (b *bound) nextChange() int64 {
	if len(b.changes) == 0 {
		return never
	}
	return int64(b.changes[0].At)
}

func (b *bound) run(ctx context.Context) (*Limits, error) {
	cfg, w := b.cfg, &b.cfg.Workload
	res, end := b.res, int64(cfg.Duration)
	res.Horizon, res.Step = cfg.Duration, cfg.Step
	if cfg.Step > 0 {
		res.Done = make([]float64, int(cfg.Duration/cfg.Step))
	}
	open := !w.Kind.patient()
	if open {
		res.Asked = make([]float64, len(res.Done))
	}
	if !open {
		for i := range w.Clients {
			from := int64(0)
			if n := len(cfg.Replicas); n > 0 {
				from = int64(cfg.Replicas[i%n].Join)
			}
			b.clients.push(from + stagger(cfg, i) + b.halfAt(from))
		}
	}
	var turns []turn
	if w.Kind == Sessions {
		var err error
		if turns, err = b.turns(ctx); err != nil {
			return nil, err
		}
	}
	var arrived, pass, begin, last int64
	var deadlines, dones []int64
	var q request
	nevers := 0
	started := uint64(0) // calls
	alike, always := b.alike()
	anybody := open && (w.Patience > 0 || w.patiences()) // gives up
	meanIn, meanOut := meanTokens(cfg, &b.size)
	for k := uint64(0); w.Kind != Backlog || w.Jobs == 0 || k < uint64(w.Jobs); k++ {
		if k%stopEvery == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		q.key, q.tenant = k, 0
		latest, patience := int64(never), w.patienceOf(k) // when it may begin at the latest
		if open {
			switch w.Kind {
			case Sessions:
				if k >= uint64(len(turns)) {
					arrived = never
				} else {
					arrived, q.key = turns[k].at, turns[k].key
				}
			default:
				arrived = b.flow.next()
			}
			if arrived >= end {
				break
			}
			if patience > 0 {
				latest = arrived + patience
			}
			if anybody {
				deadlines = append(deadlines, latest)
			}
			if alike {
				latest -= always + b.half
			}
			if i := arrived / max(1, int64(cfg.Step)); i < int64(len(res.Asked)) {
				res.Asked[i]++
			}
			pass = max(pass, arrived+b.halfAt(arrived))
		}
		asked := pass
		if open {
			asked = arrived
		}
		if w.Kind == Closed {
			q.input, q.output, q.work = int64(meanIn), int64(meanOut), meanWork(cfg, asked)
			q.cached = int64(w.Cached * meanIn)
		} else {
			b.size.size(&q, asked)
		}
		if w.Kind == Traced {
			t := &w.Requests[k]
			q.input, q.output, q.cached = t.Input, t.Output, t.Cached
		}
		if w.Kind == Sessions {
			q.input += turns[k].context
			q.cached = int64(w.Cached * float64(turns[k].context))
		}
		if b.never(&q) { // larger than a whole quota
			if nevers++; nevers > 10_000 && !open {
				break // as all are
			}
			continue
		}
		nevers = 0
		if pass <= end {
			pass = b.pass(pass, latest, &q)
		}
		if pass > end {
			if open {
				continue // the rest of the arrivals still counts, for what is asked and for what patience allows
			}
			break
		}
		if pass > latest {
			continue // whoever comes next may wait longer
		}
		begin = b.begin(max(begin, pass))
		if begin > end {
			pass = never
			continue
		}
		if alike && begin > latest {
			continue
		}
		if b.ready > float64(latest) {
			continue // gives up before its turn
		}
		b.enter(pass, &q)
		s, answered, ended := b.serve(begin, started, &q)
		counts := ended + b.lags(ended, started)
		if b.cap > 0 && b.counted > 1 {
			counts = pass + int64(float64(counts-pass)*b.counted)
		}
		b.inside.push(counts)
		b.working.push(begin + int64(float64(ended-begin)*b.whole(begin)))
		if b.conns >= 0 {
			b.open.push(ended)
		}
		if b.queue >= 0 && begin > pass {
			b.begins = append(b.begins, begin)
		}
		done := answered + b.halfAt(answered)
		if !open {
			next := done + b.halfAt(done)
			if w.Kind == Closed {
				next += think(cfg, started)
			}
			b.clients.push(next)
		}
		started++
		if patience > 0 && s+2*b.halfAt(begin) > patience {
			continue
		}
		last = max(last, done)
		if done <= end {
			res.OK++
			res.Tokens += q.input + q.output
			dones = append(dones, done)
			if i := done / max(1, int64(cfg.Step)); cfg.Step > 0 && i < int64(len(res.Done)) {
				res.Done[i]++
			}
		}
		if w.Kind == Backlog && k+1 == uint64(w.Jobs) && last < end {
			res.Horizon = time.Duration(last)
		}
	}
	if anybody {
		slices.Sort(dones)
		slices.Sort(deadlines)
		res.OK = min(res.OK, patient(deadlines, dones))
	}
	b.levels()
	return res, nil
}

// patient returns the smallest sum, over the instants at which the patience of a request ends, of the successes until then and
// the requests whose patience ends later. Both lists are in order.
func patient(deadlines, dones []int64) int64 {
	least, n := int64(len(deadlines)), 0
	for i, d := range deadlines {
		for n < len(dones) && dones[n] <= d {
			n++
		}
		least = min(least, int64(n+len(deadlines)-i-1))
	}
	return least
}

// patienceOf returns how long the k-th request waits, in ns; 0 is for ever.
func (w *Workload) patienceOf(k uint64) int64 {
	if w.Kind == Traced && k < uint64(len(w.Requests)) && w.Requests[k].Patience > 0 {
		return int64(w.Requests[k].Patience)
	}
	return int64(w.Patience)
}

// patiences reports whether some requests wait longer than others.
func (w *Workload) patiences() bool {
	for k := range w.Requests {
		if w.patienceOf(uint64(k)) != w.patienceOf(0) {
			return true
		}
	}
	return false
}

// givesBack reports whether a bucket gets back what calls were charged for that time out in the server's queue. It may have filled up since they
// passed, and then holds more than if they had not come.
func givesBack(cfg *Config) bool {
	u := &cfg.Upstream
	timed := func(c Change) bool { return c.Param.Kind == upstream.ParamQueueTimeout }
	bucket := func(q upstream.Quota) bool { return q.Algorithm == upstream.Refill && !q.ChargeRefused }
	return (u.Server.QueueTimeout > 0 || slices.ContainsFunc(cfg.Changes, timed)) && slices.ContainsFunc(u.Quotas, bucket)
}

// alike reports whether all calls take the same time, and the cap counts them for the same time after that, and one that fails may be left out; and how
// long they take.
func (b *bound) alike() (alike bool, always int64) {
	u := &b.cfg.Upstream
	if !b.res.Exact || u.Server.Service.Shape != draw.Constant || b.cap >= 0 && u.Concurrency.Lag.Shape != draw.Constant || givesBack(b.cfg) {
		return false, 0
	}
	return true, u.Server.Service.Int(0, 0, 0)
}

// pass returns the first instant from now on at which the next request passes the gates; the one after latest when that comes before.
func (b *bound) pass(from, latest int64, q *request) int64 {
	now := from
	for now <= latest && now < never {
		b.apply(now)
		b.inside.until(now)
		b.open.until(now)
		if b.queue >= 0 {
			b.leave(now)
		}
		for len(b.begins) > 0 && b.begins[0] <= now {
			b.begins = b.begins[1:]
		}
		at := now
		if b.cfg.Workload.Kind.patient() {
			at = max(at, b.clients.top())
		}
		at = max(at, b.opens(at))
		for i := range b.quotas {
			g := &b.quotas[i]
			at = max(at, g.earliest(now, g.asks(q, b.most(q))))
		}
		if at == now && b.full(now) {
			at = b.freed(now)
		}
		if at == now {
			return now
		}
		if next := b.nextChange(); next > now {
			at = min(at, next)
		}
		now = at
	}
	if now > latest {
		return max(from, latest+1)
	}
	return now
}

// enter lets a request pass at now.
func (b *bound) enter(now int64, q *request) {
	for i := range b.quotas {
		g := &b.quotas[i]
		g.enter(now, g.cost(q, b.most(q)))
	}
	if b.cfg.Workload.Kind.patient() {
		b.clients.pop()
	}
	if b.outageEnds(now) > now {
		b.late--
	}
}

// most returns how long the answer of a request may be, in tokens.
func (b *bound) most(q *request) int64 {
	if b.cfg.Workload.Kind == Closed { // nobody knows whose it is
		return b.mostMean()
	}
	return b.size.outputs[q.tenant].most
}

// mostMean returns how long answers may be on average, in tokens.
func (b *bound) mostMean() int64 {
	var sum, weights float64
	for i := range b.cfg.Workload.Tenants {
		weight := b.cfg.Workload.Tenants[i].Weight
		sum, weights = sum+weight*float64(b.size.outputs[i].most), weights+weight
	}
	if weights == 0 {
		return b.size.outputs[0].most
	}
	return int64(sum / weights)
}

// never reports whether a request is larger than a whole quota, so that it never passes.
func (b *bound) never(q *request) bool {
	for i := range b.quotas {
		g := &b.quotas[i]
		cost := g.asks(q, b.most(q))
		switch x := g.gate.(type) {
		case *bucket:
			if cost > x.burst {
				return true
			}
		case *window:
			if cost > x.most {
				return true
			}
		case *tape:
			if cost > x.most {
				return true
			}
		}
	}
	return false
}

// serve returns how long the k-th call takes that the server starts, alone, when its answer is there, and when its place is free.
func (b *bound) serve(begin int64, k uint64, q *request) (alone, answered, ended int64) {
	s := &b.cfg.Upstream.Server
	if s.Kind == upstream.Batch {
		l := &s.LLM
		alone = int64(l.Ingest) + int64(l.Detach)*q.output + int64(float64(l.Step)*float64(max(1, q.output))+l.Token*float64(q.input-q.cached))
	} else {
		d := s.Service
		d.Mean = b.service.at(begin) * 1e9
		if len(b.service.when) == 1 {
			d.Mean = s.Service.Mean
		}
		service := d.Int(b.cfg.Seed, upstream.StreamService, k)
		if q.work > 0 && q.work != 1 {
			service = int64(min(float64(service)*q.work, 1<<60))
		}
		alone = service + int64(tokenAt(&b.inToken, begin))*(q.input-q.cached) + int64(tokenAt(&b.outToken, begin))*q.output
	}
	b.leave(begin)
	f := b.crowd.load(begin, min(float64(b.working.len()+1), b.atOnce(begin)))
	if s.Kind == upstream.Servers { // what it has begun stays as it is
		f *= b.slow.at(begin)
	}
	if f != 1 && !b.res.Exact {
		alone = int64(float64(alone) * f)
	}
	served, work := alone, float64(alone)
	if stall := b.stall(begin, q); stall > 0 {
		alone += stall
		work += float64(stall)
	}
	if s.Kind != upstream.Servers {
		served, alone = b.slowed(begin, served), b.slowed(begin, alone)
	}
	took := alone
	held := b.held(&alone, served)
	answered, ended = begin+alone, begin+held
	switch {
	case b.fluid.on:
		turn := max(b.ready, float64(begin))
		f := b.batch(int64(min(turn, 1<<62)))
		b.ready = turn + f.perCall*(float64(q.input-q.cached)*f.in+float64(q.output)*f.out)/max(f.mean, 1e-9)*b.slow.at(int64(min(turn, 1<<62)))
		answered, ended = max(answered, int64(b.ready)), max(ended, int64(b.ready))
	case s.Kind == upstream.Sharing && b.servers.to[0] > 0:
		turn := max(b.ready, float64(begin))
		then := int64(min(turn, 1<<62))
		b.ready = turn + work*float64(held)/float64(max(1, took))*b.slow.at(then)/b.serving(then)
		ready := int64(min(b.ready, 1<<62))
		answered, ended = max(answered, ready), max(ended, ready)
	}
	return alone, answered, ended
}

// held returns how long a call keeps a server that takes so long alone, of which its body does not stand still for served. Who hangs up frees the
// server; an attempt whose body stands still may do so at once, as most of its time may have been spent in the queue. Where it may be made again, the
// next one does not stand still: then the call takes that much less.
func (b *bound) held(alone *int64, served int64) int64 {
	w, knows, held := &b.cfg.Workload, b.cfg.Upstream.Server.KnowsHangups, *alone
	timeout := int64(w.Timeout)
	if late := timeout > 0 && held > timeout; late && served < held {
		again := int64(0)
		if w.Repeatable && timeout+served < held {
			*alone, again = timeout+served, served
		}
		if knows {
			return again
		}
		return held + again
	}
	for _, d := range []time.Duration{w.Timeout, w.Patience} {
		if knows && d > 0 {
			held = min(held, int64(d))
		}
	}
	return held
}

// slowed returns how long a call takes that a server works on, which begins at an instant and takes so long when nothing slows the server down.
func (b *bound) slowed(begin, takes int64) int64 {
	at, left := float64(begin), float64(takes)
	for {
		now := int64(min(at, 1<<62))
		f, next := b.slow.at(now), b.slow.next(now)
		if next == never || left*f <= float64(next)-at {
			return int64(min(at+left*f-float64(begin), 1<<60))
		}
		left -= (float64(next) - at) / f
		at = float64(next)
	}
}

// lags returns for how long the cap counts the k-th call that the server starts after its end.
func (b *bound) lags(ended int64, k uint64) int64 {
	if b.cap < 0 {
		return 0
	}
	d := &b.cfg.Upstream.Concurrency.Lag
	if len(b.lag.when) > 1 {
		then := *d
		then.Mean = max(0, b.lag.at(ended)*1e9)
		d = &then
	}
	return d.Int(b.cfg.Seed, upstream.StreamLag, k)
}

// slowOf returns by how much calls take longer over time, with brown-outs.
func slowOf(cfg *Config) steps {
	s := stepsOf(cfg.Changes, Param{Kind: upstream.ParamSlow}, cfg.Upstream.Server.Slow)
	if s.to[0] == 0 {
		s.to[0] = 1
	}
	for i := range cfg.Upstream.Faults {
		if f := &cfg.Upstream.Faults[i]; f.Kind == upstream.Brownout && f.Slow > 0 {
			s.cut(int64(f.From))
			s.cut(int64(f.To))
		}
	}
	for i, at := range s.when {
		s.to[i] = max(s.to[i], 1e-6)
		for k := range cfg.Upstream.Faults {
			if f := &cfg.Upstream.Faults[k]; f.Kind == upstream.Brownout && f.Slow > 0 && at >= int64(f.From) && at < int64(f.To) {
				s.to[i] *= f.Slow
			}
		}
	}
	return s
}

// turn is one request of a session.
type turn struct {
	at      int64
	key     uint64
	context int64
}

// turns returns the requests of all sessions, each as early as it can be when nobody waits. The error is ctx's cause.
func (b *bound) turns(ctx context.Context) ([]turn, error) {
	cfg, w := b.cfg, &b.cfg.Workload
	var all []turn
	var q request
	for {
		at := b.flow.next()
		if at >= int64(cfg.Duration) {
			break
		}
		key := b.flow.n // as source.open has it
		n := turnsOf(cfg, key)
		said := int64(0) // the context of the next turn
		for k := range n {
			q.key = key<<12 | uint64(k)
			b.size.size(&q, at)
			if at >= int64(cfg.Duration) {
				break
			}
			if len(all)%stopEvery == 0 && ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			all = append(all, turn{at, q.key, said})
			q.input, q.cached = q.input+said, int64(w.Cached*float64(said))
			said = q.input + q.output
			alone, _, _ := b.serve(at, uint64(len(all)), &q)
			at += alone + 2*b.halfAt(at) + w.Think.Int(cfg.Seed, streamThink, q.key)
		}
	}
	b.ready = 0
	slices.SortStableFunc(all, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	return all, nil
}

// full reports whether the cap, or the server's queue, lets nobody in.
func (b *bound) full(now int64) bool {
	if b.cap >= 0 && b.inside.len() >= b.cap || b.conns >= 0 && b.open.len() >= b.conns {
		return true
	}
	if b.queue < 0 {
		return false
	}
	waiting := len(b.begins)
	return waiting >= b.queue && (waiting > 0 || b.working.len() >= int(math.Ceil(b.serving(now))))
}

// leave forgets calls that have ended at the servers.
func (b *bound) leave(now int64) { b.working.until(now) }

// freed returns when that may change.
func (b *bound) freed(now int64) int64 {
	at := int64(never)
	if !b.inside.empty() {
		at = b.inside.top()
	}
	if !b.open.empty() {
		at = min(at, b.open.top())
	}
	if b.queue >= 0 {
		if !b.working.empty() {
			at = min(at, b.working.top())
		}
		at = min(at, b.servers.next(now)) // the end of a brown-out, say
	}
	if len(b.begins) > 0 {
		at = min(at, b.begins[0])
	}
	return at
}

// begin returns the first instant from now on at which a server is free.
func (b *bound) begin(now int64) int64 {
	if b.cfg.Upstream.Server.Kind != upstream.Servers {
		return now
	}
	for now < never {
		b.leave(now)
		n := int(math.Ceil(b.serving(now)))
		if places := b.atOnce(now); n == 0 && !math.IsInf(places, 1) || float64(n) > places {
			n = int(places)
		}
		if n == 0 || b.working.len() < n {
			return now
		}
		now = min(b.working.top(), b.servers.next(now), b.neighbour.next(now), b.behind.next(now))
	}
	return now
}

// serving returns how many servers there are at an instant, less those of a neighbour; 0: no limit.
func (b *bound) serving(at int64) float64 {
	n := b.servers.at(at)
	switch {
	case len(b.neighbour.what) == 0:
		return n
	case b.behind.at(at) > 0:
		return leaves(n, n)
	}
	return leaves(n, b.neighbour.at(at).served)
}

// whole returns how many times as long as a call that begins at an instant its server is not free for the next one: the rest of a server is the neighbour's.
func (b *bound) whole(at int64) float64 {
	if n := b.serving(at); n > 0 && len(b.neighbour.what) > 0 && b.cfg.Upstream.Server.Kind == upstream.Servers {
		return math.Ceil(n) / n
	}
	return 1
}

// queues returns when a neighbour has calls in an endless queue of the servers that came while he asked for more than is his: 1, and 0 when not. Then they
// work on these, however few come.
func (b *bound) queues() steps {
	s, u := steps{[]int64{0}, []float64{0}}, &b.cfg.Upstream
	if u.Server.Bounded || u.Server.QueueTimeout > 0 || u.Concurrency.Limit > 0 || u.Connections.Limit > 0 || len(u.Quotas) > 0 {
		return s // where he is refused
	}
	owed := 0.0 // time of servers, in ns
	end := int64(b.cfg.Duration)
	for at := int64(0); at < end; {
		next := min(end, b.neighbour.next(at), b.servers.next(at))
		n := b.servers.at(at)
		more := b.neighbour.at(at).served - (n - leaves(n, n)) // than is his
		if more < 0 && owed > 0 {
			next = min(next, at+max(1, int64(math.Ceil(owed/-more))))
		}
		if now := btof(more > 0 || owed > 0); now != s.to[len(s.to)-1] {
			s.when, s.to = append(s.when, at), append(s.to, now)
		}
		owed = max(0, owed+more*float64(next-at))
		at = next
	}
	return s
}

func btof(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// opens returns the first instant from now on at which a call may pass, for all that outages keep out: who waited for a connection when one began
// passes in it all the same.
func (b *bound) opens(now int64) int64 {
	end := b.outageEnds(now)
	if end > now && end != b.outage {
		b.outage, b.late = end, b.lined
	}
	if end > now && b.late > 0 {
		return now
	}
	return end
}

func (b *bound) outageEnds(now int64) int64 { return upstream.Faultless(b.cfg.Upstream.Faults, now) }

// down reports whether calls fail at an instant, all or a share of them.
func (b *bound) down(at int64) bool {
	return slices.ContainsFunc(b.cfg.Upstream.Faults, func(f upstream.Fault) bool {
		return f.Kind != upstream.Brownout && at >= int64(f.From) && at < int64(f.To)
	})
}

// levels computes what depends on means: Rate, Capacity, Limit, Down and RoundTrip.
func (b *bound) levels() {
	cfg, res := b.cfg, b.res
	if cfg.Step <= 0 {
		return
	}
	u, s := &cfg.Upstream, &cfg.Upstream.Server
	in, out := meanTokens(cfg, &b.size)
	begun := s.Service.Average()
	service := begun * meanWork(cfg, -1)
	if s.Kind == upstream.Batch {
		service = float64(s.LLM.Step)*max(1, out) + s.LLM.Token*in
	}
	lag := u.Concurrency.Lag.Average()
	mean := request{input: int64(in), output: int64(out), cached: int64(in * cfg.Workload.Cached)}
	serviceAt, lagAt := averages(s.Service), averages(u.Concurrency.Lag)
	for i := range len(res.Done) {
		at := int64(i)*int64(cfg.Step) + int64(cfg.Step)/2
		rtt := float64(2 * b.halfAt(at))
		took := service
		if len(b.service.when) > 1 && s.Kind != upstream.Batch {
			took += serviceAt(b.service.at(at)*1e9) - begun
		}
		if b.size.come && s.Kind != upstream.Batch {
			took += begun * (meanWork(cfg, at) - meanWork(cfg, -1))
		}
		if s.Kind != upstream.Batch {
			took += tokenAt(&b.inToken, at)*in*(1-cfg.Workload.Cached) + tokenAt(&b.outToken, at)*out
		}
		alone := took * b.slow.at(at)
		slots := math.Inf(1)
		taken := b.neighbour.at(at)
		if u.Concurrency.Limit > 0 {
			slots = b.places(at)
			if len(b.lag.when) > 1 {
				lag = lagAt(b.lag.at(at) * 1e9)
			}
		}
		within := slots // what the cap allows
		if n := b.serving(at); n > 0 {
			slots = min(slots, n)
		}
		if u.Connections.Limit > 0 {
			slots = min(slots, b.connections.at(at))
		}
		slots = min(slots, b.atOnce(at))
		stall := b.stallOf(at)
		took = alone*b.crowd.load(at, slots) + stall
		counted := within / (took + lag) * 1e9 // calls a second that the cap lets through
		rate := slots / took * 1e9
		limit := slots * (1 + rtt/took)
		if took == 0 {
			rate, limit = math.Inf(1), math.NaN()
		}
		if counted < rate {
			rate, limit = counted, counted*(rtt+took)/1e9
		}
		if b.fluid.on {
			if n := 1e9 / (b.batch(at).perCall * b.slow.at(at)); n < rate {
				rate, limit = n, math.NaN()
			}
		}
		for j := range b.quotas {
			q := &b.quotas[j]
			per := leaves(q.limits.at(at)*b.share, taken.quota(q.q))
			if q.q.Daily {
				per /= 24 * 60
			}
			if n := per / 60 / max(q.cost(&mean, b.mostMean()), 1e-9); n < rate {
				rate, limit = n, math.NaN()
			}
		}
		res.Capacity, res.Down = append(res.Capacity, rate), append(res.Down, b.down(at))
		took = b.wanted(at, rtt, alone, stall, slots)
		res.RoundTrip = append(res.RoundTrip, time.Duration(rtt+took))
		rate = min(rate, b.demand(at, rtt+took))
		if b.outageEnds(at) > at || at > int64(res.Horizon) {
			rate, limit = 0, math.NaN()
		}
		if math.IsInf(limit, 1) {
			limit = math.NaN()
		}
		res.Rate = append(res.Rate, rate)
		res.Limit = append(res.Limit, math.Round(limit))
	}
}

// stall returns how long the body of a call that starts at an instant stands still, in ns: that of a request as for its first attempt.
func (b *bound) stall(at int64, q *request) int64 {
	s, key := &b.cfg.Upstream.Server, q.key<<8|1
	if share := b.stalls.at(at); share > 0 && s.Kind != upstream.Batch && draw.U(b.cfg.Seed, upstream.StreamStalls, key) < share {
		return s.Stall.Int(b.cfg.Seed, upstream.StreamStall, key)
	}
	return 0
}

// stallOf returns how long it does so on average, as long as its server works for it.
func (b *bound) stallOf(at int64) float64 {
	s, w := &b.cfg.Upstream.Server, &b.cfg.Workload
	share := b.stalls.at(at)
	if share == 0 || s.Kind == upstream.Batch {
		return 0
	}
	stall := s.Stall.Average()
	for _, d := range []time.Duration{w.Timeout, w.Patience} {
		if d > 0 && s.KnowsHangups && stall > float64(d) {
			return 0 // whose caller hangs up
		}
	}
	return share * stall
}

// halfAt returns how long the way takes of what is sent at an instant, in ns.
func (b *bound) halfAt(at int64) int64 {
	if len(b.rtt.when) == 1 {
		return b.half
	}
	return int64(min(max(0, b.rtt.at(at)), 3600) * 1e9 / 2)
}

// tokenAt returns how long a token takes at an instant, in whole ns.
func tokenAt(s *steps, at int64) float64 { return math.Round(s.at(at) * 1e9) }

// wanted returns how long calls take, in ns, when as many are served beside each other as are asked for, at most slots.
func (b *bound) wanted(at int64, rtt, alone, stall, slots float64) float64 {
	low, high := 1.0, slots
	for b.crowd.on && low < high && !math.IsInf(high, 1) {
		n := math.Floor((low + high) / 2)
		if took := alone*b.crowd.load(at, n) + stall; n*1e9 >= took*b.demand(at, rtt+took) {
			high = n
		} else {
			low = n + 1
		}
	}
	return alone*b.crowd.load(at, min(low, slots)) + stall
}

// averages returns what the average of d is when its mean is changed, which is not as much as that where Min and Max cut off some.
func averages(d draw.Dist) func(mean float64) float64 {
	last := math.NaN()
	var average float64
	return func(mean float64) float64 {
		if mean != last {
			last, d.Mean = mean, max(1e-3, mean) // nothing at all has no Pareto distribution
			average = d.Average()
		}
		return average
	}
}

// averageOf returns what the average of d is at an instant, in ns, whose mean takes steps, in s.
func averageOf(d draw.Dist, mean *steps) func(at int64) float64 {
	if len(mean.when) == 1 {
		average := d.Average()
		return func(int64) float64 { return average }
	}
	of := averages(d)
	return func(at int64) float64 { return of(mean.at(at) * 1e9) }
}

// demand returns how many requests a second are wanted at an instant, when each takes latency ns.
func (b *bound) demand(at int64, latency float64) float64 {
	w := &b.cfg.Workload
	first := w.Rate
	if first == 0 {
		first = 1
	}
	switch w.Kind {
	case Closed, Backlog:
		clients := 0
		for i := range w.Clients {
			if n := len(b.cfg.Replicas); n > 0 {
				r := b.cfg.Replicas[i%n]
				if at < int64(r.Join) || r.Leave > 0 && at >= int64(r.Leave) {
					continue
				}
			}
			clients++
		}
		return float64(clients) / (latency + w.Think.Average()) * 1e9
	case Modulated:
		var sum, time float64
		for _, s := range w.States {
			sum += s.Rate * float64(s.Mean)
			time += float64(s.Mean)
		}
		return stepsOf(b.cfg.Changes, ParamRate, first).at(at) * sum / time
	case Traced:
		return float64(len(w.Requests)) / b.cfg.Duration.Seconds()
	case Sessions:
		return stepsOf(b.cfg.Changes, ParamRate, first).at(at) * max(1, w.Turns.Average())
	}
	return stepsOf(b.cfg.Changes, ParamRate, first).at(at)
}

// steps is a parameter over time.
type steps struct {
	when []int64
	to   []float64
}

func stepsOf(changes []Change, p Param, first float64) steps {
	s := steps{[]int64{0}, []float64{first}}
	for _, c := range changes {
		if c.Param == p {
			s.when = append(s.when, int64(c.At))
			s.to = append(s.to, c.To)
		}
	}
	return s
}

func (s *steps) index(now int64) int {
	i, _ := slices.BinarySearch(s.when, now+1)
	return max(0, i-1)
}

func (s steps) at(now int64) float64 { return s.to[s.index(now)] }

// next returns when the parameter changes after now.
func (s *steps) next(now int64) int64 {
	if i := s.index(now) + 1; i < len(s.when) {
		return s.when[i]
	}
	return never
}

// times is a heap of instants, the earliest on top.
type times struct{ h []int64 }

func (t *times) len() int    { return len(t.h) }
func (t *times) empty() bool { return len(t.h) == 0 }
func (t *times) top() int64  { return t.h[0] }

// until drops those until now.
func (t *times) until(now int64) {
	for !t.empty() && t.top() <= now {
		t.pop()
	}
}

func (t *times) push(at int64) {
	t.h = append(t.h, at)
	i := len(t.h) - 1
	for i > 0 && t.h[(i-1)/2] > at {
		t.h[i] = t.h[(i-1)/2]
		i = (i - 1) / 2
	}
	t.h[i] = at
}

func (t *times) pop() {
	n := len(t.h) - 1
	last := t.h[n]
	t.h = t.h[:n]
	i := 0
	for c := 1; c < n; c = 2*i + 1 {
		if c+1 < n && t.h[c+1] < t.h[c] {
			c++
		}
		if last <= t.h[c] {
			break
		}
		t.h[i] = t.h[c]
		i = c
	}
	if n > 0 {
		t.h[i] = last
	}
}
