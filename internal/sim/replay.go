package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
	"github.com/flyball-go/flyball/internal/event"
)

// Arrival is one call of a Replay.
type Arrival struct {
	// At is when the caller asks. Arrivals need not be in order.
	At time.Duration
	// Service is how long the call takes once it was let in.
	Service time.Duration
	// Begins is how long after its start the guard is told that its answer begins; 0 means never.
	Begins time.Duration
	// Outcome is how it ends.
	Outcome adaptive.Outcome
	// GiveUp is how long after At the caller gives up when it is still waiting; 0 means never.
	GiveUp time.Duration
	// Tokens, Output, Class, Tenant, Priority and Retry are those of the request.
	Tokens, Output  int64
	Class, Priority uint8
	Tenant          string
	Retry           bool
}

// Fate is what became of an Arrival.
type Fate struct {
	// Started says that it was let in, at Start, and ended at End.
	Started    bool
	Start, End time.Duration
	// Reason is why it was refused, when it was, at Start.
	Reason admission.Reason
	// Key is which key it was let in with, where there are several.
	Key int
	// GaveUp says that its caller gave up while it waited, at Start.
	GaveUp bool
}

// Step is one decision of a guard.
type Step struct {
	At time.Duration
	// Guard is which one decided, when there are several: replica · keys + key.
	Guard int
	adaptive.Decision
}

// Trace is what a guard did with a list of arrivals.
type Trace struct {
	Steps  []Step
	Fates  []Fate // one for each arrival
	Counts admission.Counts
}

const (
	replayArrive uint8 = iota
	replayFinish
	replayGiveUp
	replayWake
	replayPool
	replayBegan
)

// Replay runs arrivals through a guard, one after the other in virtual time, until all have ended.
// seed is that of the guard's jitter. It is the simulator's half of the parity test: a live guard that meets the same
// arrivals, with the same outcomes after the same times, makes the same decisions.
func Replay(cfg Guard, seed uint64, arrivals []Arrival) Trace { return replay(cfg, 1, seed, arrivals) }

// ReplayPool is Replay with several keys, each of which has a guard, and one room for all who wait. The jitter of the n-th guard has the
// seed seed + n.
func ReplayPool(cfg Guard, keys int, seed uint64, arrivals []Arrival) Trace {
	return replay(cfg, keys, seed, arrivals)
}

func replay(cfg Guard, keys int, seed uint64, arrivals []Arrival) Trace {
	var q event.Queue
	var p *pool
	guards := make([]guarded, keys)
	t := Trace{Fates: make([]Fate, len(arrivals))}
	each := &cfg
	if keys > 1 {
		p = &pool{choice: func(*admission.Waiter) int { return anyKey }}
		each = laneConfig(&cfg)
	}
	for i := range guards {
		guards[i].init(each, i, seed+uint64(i), &q, event.Ref(replayWake, i), func(now time.Duration, d adaptive.Decision) {
			t.Steps = append(t.Steps, Step{At: now, Guard: i, Decision: d})
			if p != nil {
				p.again = true
			}
		})
	}
	g := &guards[0]
	if p != nil {
		p.init(&cfg, guards, &q, event.Ref(replayPool, 0))
	}
	order := make([]int, len(arrivals))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(arrivals[a].At, arrivals[b].At) })
	for _, i := range order {
		q.Push(int64(arrivals[i].At), event.Ref(replayArrive, i))
	}
	var now time.Duration
	waiters := make([]admission.Waiter, len(arrivals))
	keyOf, costs := make([]int, len(arrivals)), make([]int64, len(arrivals))
	deliver := func(w *admission.Waiter) {
		i := w.Owner.(int)
		f := &t.Fates[i]
		f.Start = now
		if w.State != admission.Granted {
			f.Reason = w.Reason
			return
		}
		f.Started, f.End = true, now+arrivals[i].Service
		q.Push(int64(f.End), event.Ref(replayFinish, i))
		if b := arrivals[i].Begins; b > 0 && b < arrivals[i].Service {
			q.Push(int64(now+b), event.Ref(replayBegan, i))
		}
	}
	g.deliver = deliver
	if p != nil {
		p.deliver = func(w *admission.Waiter, key int) {
			i := w.Owner.(int)
			keyOf[i], costs[i] = key, p.cost
			t.Fates[i].Key = max(0, key)
			deliver(w)
		}
		for i := range guards {
			guards[i].deliver = func(*admission.Waiter) {}
		}
	}
	for {
		e, ok := q.Pop()
		if !ok {
			break
		}
		now = time.Duration(e.At)
		i := e.Index()
		switch e.Kind() {
		case replayArrive:
			a, w := &arrivals[i], &waiters[i]
			w.Owner = i
			w.Call.Tokens, w.Call.Class, w.Output = a.Tokens, a.Class, a.Output
			w.Tenant, w.Priority, w.Retry = a.Tenant, a.Priority, a.Retry
			if a.GiveUp > 0 {
				w.GiveUp = now + a.GiveUp
				q.Push(int64(w.GiveUp), event.Ref(replayGiveUp, i))
			}
			if p != nil {
				p.acquire(now, w)
				break
			}
			g.acquire(now, w)
		case replayFinish:
			if p != nil {
				o := &arrivals[i].Outcome
				p.released(now, keyOf[i], &waiters[i], costs[i], o, false)
				guards[keyOf[i]].release(now, &waiters[i], o)
				p.mayHaveRoom(now)
				break
			}
			g.release(now, &waiters[i], &arrivals[i].Outcome)
		case replayBegan:
			guards[max(0, keyOf[i])].began(now, &waiters[i])
			if p != nil {
				p.mayHaveRoom(now)
			}
		case replayGiveUp:
			if waiters[i].State == admission.Queued {
				t.Fates[i].GaveUp, t.Fates[i].Start = true, now
				if p != nil {
					p.abandon(now, &waiters[i])
				} else {
					g.abandon(now, &waiters[i])
				}
			}
		case replayWake:
			guards[i].wake(now, e.Seq)
			if p != nil {
				p.mayHaveRoom(now)
			}
		case replayPool:
			p.wake(now, e.Seq)
		}
	}
	t.Counts = g.core.Counts()
	return t
}
