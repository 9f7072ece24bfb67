package sim

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/event"
	"github.com/flyball-go/flyball/internal/upstream"
)

// Kinds of events. The index of an event is what is named behind each.
const (
	onArrive  uint8 = iota // client, worker or session
	onReach                // request: its attempt reaches the upstream
	onAnswer               // request: the answer reaches the caller
	onGiveUp               // request: its patience ends
	onRetry                // request: its back-off ends
	onTimeout              // request: its attempt has taken too long
	onWake                 // guard: its timer
	onChange               // change
	onJoin                 // replica
	onLeave                // replica
	onPool                 // replica: the timer of its pool
	onBegan                // request: the beginning of its answer reaches the caller
)

// Lanes of events whose delays are equal.
const (
	laneGiveUp = iota
	laneReach
	laneAnswer
	laneTimeout
	laneBegan
)

// Streams of random numbers. Package upstream's begin at 64; 2 and 6 are its own, too.
const (
	streamArrival   draw.Stream = 1  // gap before the n-th request
	streamThink     draw.Stream = 3  // think time after the k-th start that succeeded
	streamThinkLost draw.Stream = 4  // think time after a request that did not succeed
	streamBackoff   draw.Stream = 5  // back-off before an attempt of a request
	streamStagger   draw.Stream = 7  // when the n-th client of a closed loop starts
	streamGuard     draw.Stream = 8  // seed of the n-th guard's jitter
	streamTenant    draw.Stream = 9  // whose a request is
	streamInput     draw.Stream = 10 // tokens of a request's prompt
	streamOutput    draw.Stream = 11 // tokens of its answer
	streamReplica   draw.Stream = 12 // which replica a request comes to
	streamState     draw.Stream = 13 // how long the n-th state of the workload lasts
	streamTurns     draw.Stream = 14 // turns of a session
)

const (
	// stopEvery is how many events pass between two looks at the context.
	stopEvery = 1 << 12
	// sameInstant is how many events may happen at one instant before a run counts as one that
	// stands still, such as callers that are refused in no time and ask again at once.
	sameInstant = 10_000_000

	never = event.Never
)

// run is the state of one run.
type run struct {
	cfg   *Config
	queue event.Queue
	now   int64
	end   int64 // requests arrive before it
	stop  int64 // nothing happens after it
	half  int64 // ns from caller to upstream, or back
	since int   // events at this instant

	requests requests
	source   source
	up       *upstream.Upstream
	upNext   int64 // when something happens there; never when nothing does
	tell     func(*upstream.Event)
	deliver  func(*admission.Waiter)
	signals  signals
	keys     int

	guarded  bool
	guards   []guarded
	pools    []pool // of each replica, where there are several keys
	replicas []replica
	present  []int // replicas that are there

	limit int     // of all guards of replicas that are there
	pace  float64 // of those guards that have one

	tally tally
	check checks
	res   *Result
	times lists
}

// lists is the memory of the lists of times in results.
type lists struct{ latencies, firstBytes, perToken, waits []time.Duration }

// lend gives the memory to a result, and keep takes it back, with what it has grown by.
func (l *lists) lend(r *Result) {
	r.Latencies, r.FirstBytes, r.PerToken, r.Waits = l.latencies[:0], l.firstBytes[:0], l.perToken[:0], l.waits[:0]
}

func (l *lists) keep(r *Result) {
	l.latencies, l.firstBytes, l.perToken, l.waits = r.Latencies, r.FirstBytes, r.PerToken, r.Waits
}

// replica is the state of one replica.
type replica struct {
	here   bool
	budget float64 // retries that may be made now
	gates  []int64 // for each key: the latest instant that an answer asked to wait for
}

// Run lets a world run and returns what happened in it. The error is ctx's cause when that ended first, or
// names what in cfg makes no world, or is an *InvariantError: then the result is
// worth nothing, because the simulator or the guard is broken.
func Run(ctx context.Context, cfg Config) (*Result, error) { return new(Worker).Run(ctx, cfg) }

// A Worker runs one world after the other in the same memory: what a run took, the next one need not ask for. What comes of a run does
// not depend on those before it. The zero Worker is ready; it must not be copied, and makes one run at a time.
type Worker struct {
	// OnHalf, when set, is called in the middle of a run's duration and at its end. Whoever counts allocations has those between the two, when
	// all has grown.
	OnHalf func(events uint64)

	run run
}

// Run is the function Run. The times of single requests in the result (Latencies, FirstBytes, PerToken, Waits) are valid until the
// worker's next run; everything else stays.
func (w *Worker) Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := &w.run
	r.init(&cfg)
	if w.OnHalf != nil {
		for r.now < r.end/2 && r.step() {
		}
		w.OnHalf(r.res.Events)
	}
	for i := 1; r.step(); i++ {
		if i%stopEvery == 0 {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if r.check.err != nil {
				return nil, r.check.err
			}
		}
	}
	if w.OnHalf != nil {
		w.OnHalf(r.res.Events)
	}
	return r.finish()
}

func newRun(cfg *Config) *run {
	r := &run{}
	r.init(cfg)
	return r
}

// init makes r the beginning of a run, in the memory that it has.
func (r *run) init(cfg *Config) {
	old := *r
	*r = run{
		cfg:  cfg,
		end:  int64(cfg.Duration),
		stop: int64(cfg.Duration + cfg.Drain),
		half: int64(cfg.RTT) / 2,
		keys: cfg.keys(),
		res:  &Result{},

		queue: old.queue, requests: old.requests, source: old.source, up: old.up, tell: old.tell, signals: old.signals,
		guards: old.guards, pools: old.pools[:0], replicas: old.replicas[:0], present: old.present[:0], times: old.times,
	}
	r.queue.Reset()
	r.requests.reset()
	r.signals.reset()
	if r.deliver = old.deliver; r.up == nil {
		r.tell, r.deliver, r.up = r.told, r.answered, &upstream.Upstream{}
	}
	u := cfg.Upstream
	u.Seed = cfg.Seed
	u.Faults = append([]upstream.Fault(nil), u.Faults...)
	u.FirstByte = u.FirstByte || cfg.Workload.Streams && cfg.Guard != nil && cfg.Guard.listens()
	r.up.Reset(u)
	r.tally.init(cfg, r.res)
	r.times.lend(r.res)
	for i := range cfg.Changes {
		r.queue.Push(int64(cfg.Changes[i].At), event.Ref(onChange, i))
	}
	list := cfg.Replicas
	if len(list) == 0 {
		list = []Replica{{}}
	}
	gates := make([]int64, len(list)*r.keys)
	for i, p := range list {
		r.replicas = append(r.replicas, replica{budget: retryReserve, gates: gates[i*r.keys : (i+1)*r.keys : (i+1)*r.keys]})
		if p.Join > 0 {
			r.queue.Push(int64(p.Join), event.Ref(onJoin, i))
		} else {
			r.replicas[i].here = true
			r.present = append(r.present, i)
		}
		if p.Leave > 0 {
			r.queue.Push(int64(p.Leave), event.Ref(onLeave, i))
		}
	}
	if cfg.Guard != nil {
		r.guarded = true
		r.guards = slices.Grow(r.guards[:0], cfg.guards())[:cfg.guards()]
		clear(r.guards)
		each := cfg.Guard
		if r.keys > 1 {
			each = laneConfig(cfg.Guard)
		}
		for i := range r.guards {
			g := &r.guards[i]
			g.deliver = r.deliver
			g.init(each, i, draw.Bits(cfg.Seed, streamGuard, uint64(i)), &r.queue, event.Ref(onWake, i), func(now time.Duration, d adaptive.Decision) {
				r.decided(i, now, d)
			})
			d := g.core.Decision()
			g.limit, g.pace = d.Limit, d.Pace
		}
		if r.keys > 1 {
			r.pools = slices.Grow(r.pools, len(r.replicas))[:len(r.replicas)]
			for i := range r.pools {
				p := &r.pools[i]
				p.deliver = func(w *admission.Waiter, key int) { r.pooled(i, w, key) }
				p.choice = r.choice
				p.init(cfg.Guard, r.guards[i*r.keys:(i+1)*r.keys], &r.queue, event.Ref(onPool, i))
			}
		}
		r.check.gated = !cfg.Guard.IgnoreRetryAfter
		r.levels()
	}
	r.source.init(cfg)
	r.begin()
	r.look()
}

// look notes when something happens in the upstream by itself.
func (r *run) look() {
	r.upNext = never
	if at, ok := r.up.Next(); ok {
		r.upNext = at
	}
}

// step makes the next event happen; it reports false when there is none.
func (r *run) step() bool {
	if r.now >= r.end && r.tally.inSystem() == 0 {
		return false
	}
	// At one instant, the upstream goes first.
	e, ok := r.queue.PopBefore(r.upNext)
	at := e.At
	if !ok {
		at = r.upNext
		if at == never {
			if n := r.tally.inSystem(); n > 0 {
				r.check.fail("liveness", "nothing will happen after %v, but %d requests are not done", time.Duration(r.now), n)
			}
			return false
		}
	}
	if at > r.stop {
		r.advance(r.stop)
		return false
	}
	r.advance(at)
	r.res.Events++
	if !ok {
		r.note(uint64(at)<<4 ^ 15)
		r.up.Step(at, r.tell)
		r.look()
		return r.check.err == nil
	}
	index := e.Index()
	kind := e.Kind()
	r.note(uint64(at)<<4 ^ uint64(kind) ^ uint64(index)<<40)
	switch kind {
	case onArrive:
		r.arrive(index)
	case onReach:
		if q := r.requests.at(index); q.state == inFlight && q.flight == e.Seq {
			r.reach(q)
		}
	case onAnswer:
		if q := r.requests.at(index); q.state == inFlight && q.flight == e.Seq {
			r.answer(q)
		}
	case onBegan:
		if q := r.requests.at(index); q.state == inFlight && q.opening == e.Seq {
			r.began(q)
		}
	case onGiveUp:
		if q := r.requests.at(index); q.state != unused && q.patience == e.Seq {
			r.giveUp(q)
		}
	case onRetry:
		if q := r.requests.at(index); q.state == resting && q.timer == e.Seq {
			r.acquire(q)
		}
	case onTimeout:
		if q := r.requests.at(index); q.state == inFlight && q.timer == e.Seq {
			r.timeout(q)
		}
	case onWake:
		g := &r.guards[index]
		g.wake(time.Duration(at), e.Seq)
		if g.pool != nil {
			g.pool.mayHaveRoom(time.Duration(at)) // the law may have decided
		}
	case onPool:
		r.pools[index].wake(time.Duration(at), e.Seq)
	case onChange:
		r.change(&r.cfg.Changes[index])
	case onJoin:
		r.join(index)
	case onLeave:
		r.leave(index)
	}
	return r.check.err == nil
}

// note makes the hash of the run depend on x.
func (r *run) note(x uint64) { r.res.Hash = bits.RotateLeft64(r.res.Hash^x, 27) * 0x9e3779b97f4a7c15 }

// advance moves the clock.
func (r *run) advance(at int64) {
	if at == r.now {
		if r.since++; r.since > sameInstant {
			r.check.fail("progress", "%d events at %v: time stands still", r.since, time.Duration(r.now))
		}
		return
	}
	if at < r.now {
		r.check.fail("causality", "an event at %v comes after %v", time.Duration(at), time.Duration(r.now))
		return
	}
	r.tally.advance(r, r.now, at)
	r.now, r.since = at, 0
}

// change sets a parameter.
func (r *run) change(c *Change) {
	if c.Param.Kind == upstream.ParamRTT {
		r.half = int64(min(max(0, c.To), 3600) * 1e9 / 2)
		return
	}
	if c.Param != ParamRate { // the source looks ahead by itself
		r.up.Set(r.now, c.Param, c.To)
		r.look()
	}
}

// join lets a replica begin.
func (r *run) join(n int) {
	r.replicas[n].here = true
	r.present = append(r.present, n)
	r.levels()
	w := &r.cfg.Workload
	if w.Kind.patient() {
		for i := n; i < w.Clients; i += len(r.replicas) {
			r.push(r.now+stagger(r.cfg, i), i)
		}
	}
}

// leave lets a replica end: it takes nothing new, and refuses what waits.
func (r *run) leave(n int) {
	r.replicas[n].here = false
	for i, p := range r.present {
		if p == n {
			r.present = append(r.present[:i], r.present[i+1:]...)
			break
		}
	}
	r.levels()
	if !r.guarded {
		return
	}
	if r.keys > 1 {
		r.pools[n].close(time.Duration(r.now))
		return
	}
	for k := range r.keys {
		g := &r.guards[n*r.keys+k]
		g.core.Close(time.Duration(r.now))
		g.serve(time.Duration(r.now))
	}
}

// decided notes what the law of the n-th guard decided.
func (r *run) decided(n int, now time.Duration, d adaptive.Decision) {
	g := &r.guards[n]
	cut := d.Episode != g.episode
	if r.replicas[n/r.keys].here {
		r.limit += d.Limit - g.limit
		r.pace += d.Pace - g.pace
	}
	g.limit, g.pace, g.episode = d.Limit, d.Pace, d.Episode
	if len(r.guards) == 1 {
		r.pace = d.Pace // without what rounding adds up to
	}
	if g.pool != nil {
		g.pool.again = true // it may have made room; whoever made the law decide sees to it
	}
	r.note(uint64(d.Limit)<<32 ^ uint64(d.Cause) ^ uint64(n)<<16)
	r.tally.decided(r, g, &d, cut)
	if r.cfg.Decisions {
		r.res.Decisions = append(r.res.Decisions, Step{now, n, d})
	}
}

// levels adds up what the guards of all replicas that are there allow.
func (r *run) levels() {
	if !r.guarded {
		return
	}
	if len(r.guards) == 1 {
		r.limit, r.pace = r.guards[0].limit, r.guards[0].pace
		return
	}
	r.limit, r.pace = 0, 0
	for _, p := range r.present {
		for k := range r.keys {
			g := &r.guards[p*r.keys+k]
			r.limit += g.limit
			r.pace += g.pace
		}
	}
}

// finish checks the books and closes them.
func (r *run) finish() (*Result, error) {
	if r.check.err == nil {
		r.check.close(r)
	}
	if r.check.err == nil {
		if err := r.signals.understood(); err != nil {
			return nil, err
		}
	}
	if r.check.err != nil {
		return nil, r.check.err
	}
	r.tally.close(r)
	r.times.keep(r.res)
	return r.res, nil
}

// An InvariantError says that something happened that cannot happen.
type InvariantError struct {
	Name string // of the invariant
	Text string // what was found, with its numbers
}

// Error names the invariant and the numbers.
func (e *InvariantError) Error() string {
	return fmt.Sprintf("sim: invariant %s violated: %s", e.Name, e.Text)
}
