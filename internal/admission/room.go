package admission

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// Room is the waiting room of several Cores, such as those of the keys of one upstream: who goes next is decided here, and whether
// he may start by the Core that he is then sent to. The zero Room must be configured before anything else. It needs its owner's
// lock, and is told the time.
type Room struct {
	queue     queue
	estimate  Estimator
	held      held
	durations *durations // of calls; nil until somebody asks who may have to make way
	counts    bool       // tokens
}

// Configure puts cfg in force; nobody who waits loses a place, or waits for longer than until latest. tokens says that calls of an unknown cost are
// estimated, because their Cores have budgets.
func (r *Room) Configure(latest time.Duration, cfg *QueueConfig, estimate EstimateConfig, tokens bool) {
	r.counts = tokens
	r.queue.hasten(latest)
	r.queue.configure(cfg)
	r.estimate.Configure(estimate)
}

// Ask readies w, which asks at now and waits until deadline at most.
func (r *Room) Ask(now, deadline time.Duration, w *Waiter) {
	w.waiter = w
	w.Since, w.Deadline = now, deadline
	w.State, w.Reason, w.RetryAt, w.Why, w.reserved = Idle, ReasonNone, 0, WhyNone, nil
	w.expected = Cost{Input: w.Call.Tokens - w.Output, Output: w.Output}
	if r.counts && w.Call.Tokens == 0 {
		w.expected = r.estimate.Estimate(w.Call.Class, w.Output)
	}
	w.Cost = w.Said()
}

// Ended says that a call of a class has ended that took so long, to learn from it while somebody waits.
func (r *Room) Ended(now, took time.Duration, class uint8, how feedback.Class) {
	if r.durations != nil {
		r.durations.ended(now, took, class, how)
	}
}

// MakesWay reports whether w, which is next and could start now, had better make way for those behind it, as with a Core; at is when it may try again.
func (r *Room) MakesWay(now time.Duration, w *Waiter) (at time.Duration, makesWay bool) {
	if !r.durations.makesWay(now, w, w.line.newest().waiter) {
		return 0, false
	}
	return now + seconds(r.durations.of[w.Call.Class%adaptive.NumClasses].mean), true
}

// Enter puts w, which has asked, into the room. When as many wait as may, it names the one that is to be refused with
// ReasonDropped and was taken out; or, when ok is false, w is not let in.
func (r *Room) Enter(w *Waiter, most int) (dropped *Waiter, ok bool) {
	if r.queue.len() >= min(most, maxWaiting) {
		victim := r.queue.victim(&w.queueItem)
		if victim == nil {
			return nil, false
		}
		dropped = victim.waiter
		r.WaitsFor(w.Since, dropped)
		r.Leave(dropped)
	}
	if r.durations == nil && w.mayMakeWay() {
		r.durations = new(durations)
	}
	w.State, w.Why, w.Behind = Queued, WhyLimit, int32(r.queue.len())
	w.from = *r.held.at(w.Since)
	r.queue.push(&w.queueItem)
	return dropped, true
}

// HeldBy says what holds back whoever is next, and which budget if it is one, until it says something else.
func (r *Room) HeldBy(now time.Duration, why Why, budget int) { r.held.by(now, why, budget) }

// WaitsFor has the Why of w, and its Budget, say what it has waited for longest if it is in the room.
func (r *Room) WaitsFor(now time.Duration, w *Waiter) {
	if w.State == Queued {
		r.held.longest(now, w)
	}
}

// Behind has the Why of w, which is not in the room, and its Budget, say what holds back those who are; it reports whether somebody is.
func (r *Room) Behind(w *Waiter) bool {
	if r.queue.len() == 0 {
		return false
	}
	r.held.now(w)
	return true
}

// Next returns who goes next of those with at least the given priority, and leaves it in the room; nil when there is none.
func (r *Room) Next(now time.Duration, priority uint8) *Waiter {
	if it := r.queue.next(now, priority); it != nil {
		return it.waiter
	}
	return nil
}

// Start takes w out because it starts, and counts against its tenant what such a call is expected to use, which w.Cost then says, with the
// weights that it returns.
func (r *Room) Start(w *Waiter) (under *QueueConfig) {
	r.queue.start(&w.queueItem)
	w.State = Granted
	return r.queue.cfg
}

// Leave takes w out for another reason.
func (r *Room) Leave(w *Waiter) {
	r.queue.remove(&w.queueItem)
	w.State = Idle
}

// Expired returns one whose deadline has come, and leaves it in the room; nil when there is none.
func (r *Room) Expired(now time.Duration) *Waiter {
	if it := r.queue.expired(now); it != nil {
		return it.waiter
	}
	return nil
}

// Ages returns when Next may name somebody else although nobody came or went; ok is false when it will not.
func (r *Room) Ages(now time.Duration, priority uint8) (at time.Duration, ok bool) {
	return r.queue.ages(now, priority)
}

// NextExpiry returns the earliest deadline; ok is false when nobody waits.
func (r *Room) NextExpiry() (at time.Duration, ok bool) { return r.queue.nextExpiry() }

// Lowest returns the lowest priority that may take the next of limit places when so many are in flight.
func (c *QueueConfig) Lowest(inFlight, limit int) uint8 { return c.lowest(inFlight, limit) }

// Late reports that w, which is in the room, cannot start before it gives up even if all calls before it were as quick as
// quickest and highest were in flight at a time, of which free can start at once; at is when it could at the mean latency.
func (r *Room) Late(now time.Duration, w *Waiter, free, highest int, quickest, latency time.Duration) (at time.Duration, late bool) {
	ahead := r.queue.position(&w.queueItem) - free
	if w.GiveUp == 0 || quickest <= 0 || ahead < 0 {
		return 0, false
	}
	turns := time.Duration(ahead / max(1, highest))
	return now + turns*latency, now+turns*quickest > w.GiveUp
}

// Learn learns what a call of a class used that ended well.
func (r *Room) Learn(class uint8, u feedback.Usage) { r.estimate.Learn(class, u) }

// Charge charges a tenant what a call used, if that is known, in place of the cost that it was let in for with the weights of under; 0 and nil when it
// did not wait, and is then what such a call is expected to use. well says that it ended well; what it used of what it said is then learned.
func (r *Room) Charge(under *QueueConfig, tenant string, priority uint8, said, cost int64, u feedback.Usage, well bool) {
	if !u.Known {
		return
	}
	if under == nil {
		under, cost = r.queue.cfg, r.queue.expected(priority, said)
	}
	used := clampUnits(u.Input) + clampUnits(u.Output)
	if well {
		r.queue.learn(priority, said, used)
	}
	r.queue.chargeUnder(under, tenant, priority, used-cost)
}

// Expiring returns the one whose deadline comes first; nil when nobody waits.
func (r *Room) Expiring() *Waiter {
	if it := r.queue.expiry.next(); it != nil {
		return it.waiter
	}
	return nil
}

// Undo takes back what a call was charged that never ran, but for a part of it; see Core.Turn.
func (r *Room) Undo(under *QueueConfig, tenant string, priority uint8, cost int64, turn float64) {
	r.queue.chargeUnder(under, tenant, priority, part(cost, turn)-cost)
}

// Waits tells of those who wait, in the order in which they would start if nobody came, at most most of them, and of how many of
// its own tenant and priority go before each. It is for people.
func (r *Room) Waits(most int, tell func(w *Waiter, ahead int)) {
	for _, p := range first(r.queue.standings(), most) {
		tell(p.w, p.ahead)
	}
}
