package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/flyball-go/flyball/adaptive"
)

// Kinds of events. The low bits of an event's ref are named behind each.
const (
	onArrive uint8 = iota // client, or worker
	onReach               // call: it reaches the upstream
	onServed              // call: the server is done
	onAnswer              // call: the answer reaches the caller
	onGiveUp              // request: its patience ends
	onRetry               // request: its back-off ends
	onWake                // the guard's timer
	onChange              // change
)

const (
	// stopEvery is how many events pass between two looks at the context.
	stopEvery = 1 << 12
	// sameInstant is how many events may happen at one instant before a run counts as one that
	// stands still, such as callers that are refused in no time and ask again at once.
	sameInstant = 10_000_000
)

// run is the state of one run.
type run struct {
	cfg   *Config
	queue queue
	now   int64
	end   int64 // requests arrive before it
	stop  int64 // nothing happens after it
	since int   // events at this instant

	requests requests
	source   source
	up       upstream
	answers  *answers
	budget   float64 // retries that may be made now

	guarded bool
	guard   guarded
	limit   int     // of the guard
	pace    float64 // of the guard; 0: none

	tally tally
	check checks
	res   *Result
}

// Run lets a world run and returns what happened in it. The error is ctx's cause when that ended first, or
// names what in cfg makes no world, or is an *InvariantError: then the result is
// worth nothing, because the simulator or the guard is broken.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r := newRun(&cfg)
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
	return r.finish()
}

func newRun(cfg *Config) *run {
	r := &run{
		cfg:    cfg,
		end:    int64(cfg.Duration),
		stop:   int64(cfg.Duration + cfg.Drain),
		res:    &Result{},
		budget: retryReserve,
	}
	r.answers = newAnswers(numStages)
	r.up.init(&cfg.Upstream)
	r.tally.init(cfg)
	for i := range cfg.Changes {
		r.queue.push(int64(cfg.Changes[i].At), ref(onChange, i))
	}
	if cfg.Guard != nil {
		r.guarded = true
		r.guard.deliver = r.answered
		r.guard.init(cfg.Guard, draw(cfg.Seed, streamGuard, 0), &r.queue, ref(onWake, 0), r.decided)
		d := r.guard.core.Decision()
		r.limit, r.pace = d.Limit, d.Pace
		r.check.gated = !cfg.Guard.IgnoreRetryAfter
	}
	r.source.init(cfg)
	r.begin()
	return r
}

// step makes the next event happen; it reports false when there is none.
func (r *run) step() bool {
	if r.now >= r.end && r.tally.inSystem() == 0 {
		return false
	}
	e, ok := r.queue.pop()
	if !ok {
		if n := r.tally.inSystem(); n > 0 {
			r.check.fail("liveness", "nothing will happen after %v, but %d requests are not done", time.Duration(r.now), n)
		}
		return false
	}
	if e.at > r.stop {
		r.advance(r.stop)
		return false
	}
	r.advance(e.at)
	index := int(e.ref & refMask)
	kind := uint8(e.ref >> refBits)
	r.res.Events++
	r.res.Hash = mix(r.res.Hash ^ uint64(e.at)<<4 ^ uint64(kind) ^ uint64(index)<<40)
	switch kind {
	case onArrive:
		r.arrive(index)
	case onReach:
		r.reach(index)
	case onServed:
		r.served(index)
	case onAnswer:
		r.answer(index)
	case onGiveUp:
		r.giveUp(index, e.seq)
	case onRetry:
		q := r.requests.at(index)
		if q.state == resting && q.timer == e.seq {
			r.acquire(q)
		}
	case onWake:
		r.guard.wake(time.Duration(r.now), e.seq)
	case onChange:
		r.change(&r.cfg.Changes[index])
	}
	return r.check.err == nil
}

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
	if c.Param != ParamRate { // the source looks ahead by itself
		r.up.change(r.now, c)
		r.pump()
	}
}

// decided notes what the guard's law decided.
func (r *run) decided(now time.Duration, d adaptive.Decision) {
	r.limit, r.pace = d.Limit, d.Pace
	r.res.Hash = mix(r.res.Hash ^ uint64(d.Limit)<<32 ^ uint64(d.Cause))
	if r.cfg.Decisions {
		r.res.Decisions = append(r.res.Decisions, Step{now, d})
	}
}

// finish checks the books and closes them.
func (r *run) finish() (*Result, error) {
	if r.check.err == nil {
		r.check.close(r)
	}
	if r.check.err == nil {
		if err := r.answers.understood(); err != nil {
			return nil, err
		}
	}
	if r.check.err != nil {
		return nil, r.check.err
	}
	r.tally.close(r)
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
