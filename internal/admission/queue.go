package admission

import (
	"math"
	"math/bits"
	"time"
)

// NumPriorities is the number of priority classes; a larger priority means the most urgent one.
const NumPriorities = 8

// Drop is whom a full queue drops.
type Drop uint8

const (
	// DropNewest refuses the caller that finds the queue full.
	DropNewest Drop = iota
	// DropOldest drops the one that has waited longest among those that are not more urgent
	// than the newcomer: for work that is worthless when it is late.
	DropOldest
	// DropLowest drops the newest of the lowest class that waits, when the newcomer is more urgent.
	DropLowest
	// DropLongest drops the newest of whoever has most waiting in the lowest class that waits, when the
	// newcomer is more urgent or has less waiting itself: so a tenant that fills the queue does not keep
	// the others out (McKenney, Stochastic Fairness Queueing, 1990).
	DropLongest

	// NumDrops is the number of policies; a Drop is always smaller.
	NumDrops = int(DropLongest) + 1
)

var dropNames = [NumDrops]string{"newest", "oldest", "lowest", "longest"}

// String returns the policy as it is written in configuration.
func (d Drop) String() string {
	if int(d) < len(dropNames) {
		return dropNames[d]
	}
	return "unknown"
}

// QueueConfig says who goes next. The zero QueueConfig is first in, first out for one tenant, strict
// priority between classes, and equal shares for tenants.
type QueueConfig struct {
	// Aging is how long a class must have somebody waiting to rise by one class (>= 0; 10 s is a good
	// value). Zero is no aging: a class then may wait for ever behind more urgent ones. Smaller helps the
	// less urgent sooner; larger keeps classes apart for longer.
	Aging time.Duration
	// Weights are the shares of tenants, relative to each other (1/1024 to 1024; others are clamped).
	// A tenant without one has 1. The map must not be changed afterwards.
	Weights map[string]float64
	// Drop is whom a full queue drops; zero is the newcomer.
	Drop Drop
	// ReservedShare is the share of the places (0 to 1) that only callers with priority ReservedFor or higher
	// may use. Zero reserves nothing. Aging does not reach reserved places.
	ReservedShare float64
	ReservedFor   uint8
}

// lowest returns the lowest priority that may take the next place: 0, or ReservedFor when only
// reserved places are left. It reserves the nearest whole number of places, and never the only one.
func (c *QueueConfig) lowest(inFlight, limit int) uint8 {
	if !(c.ReservedShare > 0) || c.ReservedFor == 0 {
		return 0
	}
	reserved := min(int(math.Round(min(c.ReservedShare, 1)*float64(limit))), limit-1)
	if inFlight >= limit-reserved {
		return min(c.ReservedFor, NumPriorities-1)
	}
	return 0
}

// mayUse reports whether a caller of a priority may take the next place when inFlight of limit are
// taken. It does not ask whether a place is free.
func (c *QueueConfig) mayUse(priority uint8, inFlight, limit int) bool {
	return min(priority, NumPriorities-1) >= c.lowest(inFlight, limit)
}

// queueItem is one waiter's place in a queue; a Waiter embeds it. The asker sets the exported
// fields and waiter before push, and must not change them while the item is in the queue.
//
// The fields are in the order in which they are needed together: who leaves touches the first cache line of its
// neighbours, who starts its own first two, and most often another processor wrote these last.
type queueItem struct {
	// What a plainLine uses comes first, beside what it uses of a Waiter: with thousands who wait, each cache line counts.

	// Deadline is when the guard stops letting the caller wait.
	Deadline time.Duration
	// GiveUp is when the caller will give up by itself; 0 when it will not. The queue does not
	// read it: who gives up cancels.
	GiveUp time.Duration
	// Since is when the caller asked.
	Since time.Duration
	// Priority is the class: 0, the default, is the least urgent, 7 the most.
	Priority uint8
	// Retry says that the call has been tried before. It goes before new calls of its tenant and class.
	Retry    bool
	expiryAt int32 // see expiry
	// Tenant is who is calling; "" is a tenant, too. There is no table of tenants: one is known while
	// it waits or has had more than its share.
	Tenant string

	prev, next     *queueItem // in its lane
	older, younger *queueItem // in its class
	sooner, later  *queueItem // in the expiry list

	line *queueLine // nil when not in a queue
	// Cost is what the call is expected to use, in tokens, for fairness (>= 1; less means 1). All
	// calls of a guard should count tokens, or all leave it at 1 and so count calls.
	Cost int64

	waiter *Waiter // whose place it is
	seq    uint64  // order of push
	ticket uint32  // order of push in its lane
}

func (it *queueItem) cost() int64 { return min(max(it.Cost, 1), maxCost) }

// queue is the waiting room: who waits, who goes next, who has waited too long, whom to drop.
//
// # Order
//
// The most urgent class that waits goes first. A class whose oldest waiter has waited for k times Aging
// counts as k classes higher, but no higher than the highest that waits: there they are peers and take
// turns, one start each. In a class, tenants share by weight and cost (see queueClass); in a line (a
// tenant's waiters of one class) it is first in, first out, retries ahead as if they had asked one Aging
// earlier. What is equal goes in the order in which it came.
//
// Aging acts between classes and never between the tenants of one class: a tenant with a long line is not
// to gain from how long its own line is. And a class that has aged takes turns with the more urgent ones
// rather than to go before them, so that a backlog of old batch work takes at most every other start from a
// class with interactive calls.
//
// # Nobody starves
//
// With Aging > 0, a waiter of class c has its class among the peers after (7-c)*Aging at the latest, and
// for as long as it waits; of any m starts in a row from then on, at least one is of its class, where m <=
// 8 is the number of classes that wait. In its class the virtual time gains cost/W with each start, W being
// the sum of the weights that wait, and whoever comes later starts at the virtual time: so before a waiter
// with tag T at most (T-now)*W tokens and one call of each line start, and T-now is at most (tokens before
// it in its line + its line's last call)/weight. What calls use beyond what was expected of
// them counts once they tell it: of each place one call may be on top. See TestQueueNobodyStarves.
//
// # Cost
//
// Nothing depends on the number of waiters but through heaps: push, start and remove take O(log lines + log
// n), where the second part is for deadlines that are out of order; with one tenant and one class all are
// O(1). Nothing is allocated in steady state. A tenant that does not wait is remembered only while it has
// had more than its share, and at most 4096 of a class are; to forget one of more moves the virtual time up
// to its tag, so that it gains nothing.
//
// Time may stand still or go backwards: nobody is lost, and aging waits until time is back.
//
// The zero queue is empty and ready; cfg must be set before the first push. A queue needs its guard's lock.
type queue struct {
	cfg     *QueueConfig
	n       int
	apart   int32  // of those, how many could not be in a plainLine
	waiting uint8  // bit c: class c has waiters
	only    bool   // nobody goes on in a plainLine; for tests
	seq     uint64 // pushes
	starts  uint64
	classes [NumPriorities]*queueClass
	expiry  expiry
	spares  []*queueLine // unused lines
}

// configure puts cfg in force; nobody who waits loses a place. cfg must not change afterwards.
func (q *queue) configure(cfg *QueueConfig) {
	q.cfg = cfg
	for _, c := range q.classes {
		if c == nil {
			continue
		}
		for _, l := range c.lines {
			was := l.weight
			l.setWeight(cfg.Weights[l.tenant])
			if l.len() > 0 {
				c.weight += l.weight - was
			}
			switch ranked := cfg.Drop == DropLongest && l.len() > 0; {
			case ranked && l.mostAt == 0:
				c.most.add(l, &l.mostAt, -int64(l.len()), ^l.newest().seq)
			case !ranked && l.mostAt != 0:
				c.most.remove(&l.mostAt)
			}
		}
	}
}

// push puts it, which is in no queue, into q.
func (q *queue) push(it *queueItem) {
	it.Priority = min(it.Priority, NumPriorities-1)
	c := q.class(it.Priority)
	l := c.last
	if l == nil || l.tenant != it.Tenant {
		l = q.line(c, it.Tenant)
	}
	q.seq++
	it.seq = q.seq
	it.line = l
	l.lane(it).push(it)
	it.older, it.younger = c.newest, nil
	if c.newest == nil {
		c.oldest = it
	} else {
		c.newest.younger = it
	}
	c.newest = it
	c.n++
	q.n++
	if !it.plain() {
		q.apart++
	}
	q.waiting |= 1 << it.Priority
	if l.len() == 1 {
		c.enlist(l)
	}
	if q.cfg.Drop == DropLongest {
		q.rank(l)
	}
	q.expiry.add(it)
}

// next returns who goes next of those with at least the given priority, and leaves it in q; nil when there
// is none. It changes nothing: the same question has the same answer until somebody comes or goes, or time
// lets a class age.
func (q *queue) next(now time.Duration, priority uint8) *queueItem {
	mask := q.waiting >> priority << priority
	if mask == 0 {
		return nil
	}
	highest := bits.Len8(mask) - 1
	best := q.classes[highest]
	if rest := mask &^ (1 << highest); rest != 0 && q.cfg.Aging > 0 {
		// Of the peers, the one whose last start is longest ago; the more urgent one among equals.
		for ; rest != 0; rest &^= 1 << (bits.Len8(rest) - 1) {
			i := bits.Len8(rest) - 1
			c := q.classes[i]
			if now-c.oldest.Since >= q.rise(highest-i) && c.turn < best.turn {
				best = c
			}
		}
	}
	return best.active.top().head(q.cfg.Aging)
}

// ages returns when next may name somebody else of those with at least the given priority although nobody came or went, because a
// class has aged; ok is false when it will not.
func (q *queue) ages(now time.Duration, priority uint8) (at time.Duration, ok bool) {
	mask := q.waiting >> priority << priority
	if q.cfg.Aging <= 0 || mask == 0 {
		return 0, false
	}
	highest := bits.Len8(mask) - 1
	for rest := mask &^ (1 << highest); rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros8(rest)
		if t := q.classes[i].oldest.Since + q.rise(highest-i); t > now && (!ok || t < at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// rise is how long somebody must have waited for a class to rise by so many.
func (q *queue) rise(classes int) time.Duration {
	return min(q.cfg.Aging, never/NumPriorities) * time.Duration(classes)
}

// start takes it out because it starts, and counts against its tenant what a call that costs so much is expected to use, which Cost then
// says.
func (q *queue) start(it *queueItem) {
	c := it.line.class
	it.Cost = c.expected(it.cost())
	q.starts++
	c.turn = q.starts
	c.started(it.line, it.Cost)
	q.remove(it)
	q.overtake(c)
}

// overtake forgets those who owe nothing any more.
func (q *queue) overtake(c *queueClass) {
	for c.idle.len() > 0 && !after(c.idle.top().tag, c.now) {
		l := c.idle.top()
		c.idle.remove(&l.idleAt)
		q.forget(c, l)
	}
}

// skip counts starts of the class 0 that q was not asked for, while nobody waited in it.
func (q *queue) skip(starts uint64) {
	q.starts += starts
	q.class(0).turn = q.starts
}

// class returns a class, made on first use.
func (q *queue) class(priority uint8) *queueClass {
	c := q.classes[priority]
	if c == nil {
		c = &queueClass{lines: map[string]*queueLine{}}
		q.classes[priority] = c
	}
	return c
}

// remove takes it out: its caller gave up, or it was refused. It costs its tenant nothing.
func (q *queue) remove(it *queueItem) {
	l := it.line
	c := l.class
	l.lane(it).remove(it)
	if it.older == nil {
		c.oldest = it.younger
	} else {
		it.older.younger = it.younger
	}
	if it.younger == nil {
		c.newest = it.older
	} else {
		it.younger.older = it.older
	}
	it.older, it.younger, it.line = nil, nil, nil
	q.expiry.remove(it)
	c.n--
	q.n--
	if !it.plain() {
		q.apart--
	}
	if q.cfg.Drop == DropLongest {
		q.rank(l)
	}
	if l.len() > 0 {
		return
	}
	c.active.remove(&l.activeAt)
	c.weight -= l.weight
	if c.n == 0 {
		q.waiting &^= 1 << it.Priority
		q.quiet(c, l)
		return
	}
	q.retire(c, l)
}

// expected returns what a call is expected to use that says that it costs so much.
func (q *queue) expected(priority uint8, said int64) int64 {
	if c := q.classes[min(priority, NumPriorities-1)]; c != nil {
		return c.expected(said)
	}
	return said
}

// learn learns what a call used that was said to cost so much.
func (q *queue) learn(priority uint8, said, used int64) {
	if c := q.classes[min(priority, NumPriorities-1)]; c != nil && said > 0 {
		c.learn(min(said, maxCost), max(used, 0))
	}
}

// charge counts tokens more (or less) against a tenant than its call's Cost said when it started, after the call told what
// it used, or was taken back. It does nothing when nobody of the class waits: there is then nobody to be
// fair to.
func (q *queue) charge(tenant string, priority uint8, tokens int64) {
	q.chargeUnder(q.cfg, tenant, priority, tokens)
}

// chargeUnder is charge for a call that started when under was in force, and whose Cost was counted with the weights of then.
func (q *queue) chargeUnder(under *QueueConfig, tenant string, priority uint8, tokens int64) {
	c := q.classes[min(priority, NumPriorities-1)]
	if c == nil || c.n == 0 {
		return
	}
	tokens = min(max(tokens, -maxCost), maxCost)
	l := c.find(tenant)
	if l == nil || l.len() == 0 && l.idleAt == 0 { // it owes nothing
		if tokens <= 0 {
			var gone queueLine
			gone.setWeight(q.cfg.Weights[tenant])
			c.run(tokens, c.weight+gone.weight)
			return
		}
		if l == nil {
			l = q.newLine(c, tenant)
		} else {
			l.begin(c.now)
		}
	}
	step := l.step
	if under != q.cfg {
		var then queueLine
		then.setWeight(under.Weights[tenant])
		step = then.step
	}
	tag := l.tag + tokens*step
	// No further from the virtual time than one largest call: the tags must stay comparable.
	if most := c.now + maxCost*l.step; after(tag, most) {
		tag = most
	} else if least := c.now - maxCost*l.step; after(least, tag) {
		tag = least
	}
	if after(l.floor, tag) {
		tag = l.floor
	}
	if l.len() > 0 {
		c.run(tokens, c.weight)
		c.retag(l, tag)
	} else {
		c.run(tokens, c.weight+l.weight) // as when it started
		if l.idleAt != 0 {
			c.idle.remove(&l.idleAt)
		}
		l.tag = tag
		q.retire(c, l)
	}
	q.overtake(c)
}

// expired returns one whose Deadline has come, and leaves it in q; nil when there is none.
func (q *queue) expired(now time.Duration) *queueItem {
	if it := q.expiry.next(); it != nil && it.Deadline <= now {
		return it
	}
	return nil
}

// nextExpiry returns the earliest Deadline; ok is false when nobody has one.
func (q *queue) nextExpiry() (at time.Duration, ok bool) {
	it := q.expiry.next()
	if it == nil {
		return 0, false
	}
	return it.Deadline, true
}

// victim returns whom to drop for a newcomer, which is not in q, when q is full; nil when the
// newcomer is to be refused. The caller removes the victim.
func (q *queue) victim(newcomer *queueItem) *queueItem {
	if q.n == 0 {
		return nil
	}
	priority := min(newcomer.Priority, NumPriorities-1)
	lowest := uint8(bits.TrailingZeros8(q.waiting))
	c := q.classes[lowest]
	switch q.cfg.Drop {
	case DropOldest:
		var oldest *queueItem
		for _, c := range q.classes[:priority+1] {
			if c != nil && c.n > 0 && (oldest == nil || c.oldest.seq < oldest.seq) {
				oldest = c.oldest
			}
		}
		return oldest
	case DropLowest:
		if lowest < priority {
			return c.newest
		}
	case DropLongest:
		if lowest > priority {
			return nil
		}
		longest := c.most.top()
		if lowest == priority {
			own := 0
			if l := c.find(newcomer.Tenant); l != nil {
				own = l.len()
			}
			if longest.len() <= own+1 {
				return nil
			}
		}
		return longest.newest()
	}
	return nil
}

// len returns how many wait.
func (q *queue) len() int { return q.n }

// ahead returns how many of its own tenant and class go before it, which is in q. New calls that have
// waited longer than a retry by Aging are not counted for the retry; who left out of turn is counted until
// the head has passed its place. It is never more than the line holds, and exact when neither is the case.
func (q *queue) ahead(it *queueItem) int {
	n := it.line.lane(it).ahead(it)
	if !it.Retry {
		n += int(it.line.retries.n)
	}
	return n
}

// position estimates how many start before it, which is in q, when nobody else comes: all of the more
// urgent classes, those ahead in its own line, and of the other tenants in its class as many as their
// weights have in that time, but no more than wait. It takes calls to cost the same, and does not count on
// aging.
func (q *queue) position(it *queueItem) int {
	l := it.line
	c := l.class
	own := int64(q.ahead(it)) + 1
	n := int(min((own*c.weight+l.weight-1)/l.weight, int64(c.n))) - 1
	for _, c := range q.classes[it.Priority+1:] {
		if c != nil {
			n += c.n
		}
	}
	return n
}

// line returns the line of a tenant, a new one when nothing of it is known, and makes it c.last.
func (q *queue) line(c *queueClass, tenant string) *queueLine {
	l := c.lines[tenant]
	if l == nil {
		l = q.newLine(c, tenant)
	}
	was := c.last
	c.last = l
	if was != nil && was.len() == 0 && was.idleAt == 0 {
		q.forget(c, was)
	}
	return l
}

func (q *queue) newLine(c *queueClass, tenant string) *queueLine {
	var l *queueLine
	if n := len(q.spares); n > 0 {
		l, q.spares[n-1] = q.spares[n-1], nil
		q.spares = q.spares[:n-1]
	} else {
		l = new(queueLine)
	}
	l.tenant, l.class = tenant, c
	l.begin(c.now)
	l.setWeight(q.cfg.Weights[tenant])
	c.lines[tenant] = l
	return l
}

// retire keeps what must be remembered of l, which does not wait.
func (q *queue) retire(c *queueClass, l *queueLine) {
	if !after(l.tag, c.now) {
		q.forget(c, l)
		return
	}
	c.ties++
	c.idle.add(l, &l.idleAt, l.tag, c.ties)
	if c.idle.len() > maxIdle {
		first := c.idle.top()
		c.idle.remove(&first.idleAt)
		c.now = first.tag
		q.forget(c, first)
	}
}

// forget drops l, which does not wait and is not in c.idle. The line looked up last stays: with one tenant no
// line ever comes or goes.
func (q *queue) forget(c *queueClass, l *queueLine) {
	if l == c.last {
		return
	}
	delete(c.lines, l.tenant)
	if len(q.spares) < spareLines {
		*l = queueLine{}
		q.spares = append(q.spares, l)
	}
}

// quiet ends the busy period of c, whose last waiter was of l: nobody waits, so nobody has had more
// than its share of anything.
func (q *queue) quiet(c *queueClass, l *queueLine) {
	if c.idle.len() == 0 {
		q.forget(c, l)
		return
	}
	c.idle.clear()
	n := len(c.lines)
	for _, l := range c.lines {
		l.idleAt = 0
		q.forget(c, l)
	}
	if n > spareLines { // a map does not shrink
		c.lines = map[string]*queueLine{c.last.tenant: c.last}
	}
}

// rank keeps l in the order of lengths; only DropLongest asks for it.
func (q *queue) rank(l *queueLine) {
	switch n := l.len(); {
	case n == 0:
		if l.mostAt != 0 {
			l.class.most.remove(&l.mostAt)
		}
	case l.mostAt == 0:
		l.class.most.add(l, &l.mostAt, -int64(n), ^l.newest().seq)
	default:
		l.class.most.fix(&l.mostAt, -int64(n), ^l.newest().seq)
	}
}
