package admission

import (
	"math"
	"time"
)

const (
	// tokenUnit is what one token weighs in virtual time for a tenant of weight 1, times the unit of
	// weights: one token moves the tag of a tenant with weight w by tokenUnit/w.
	tokenUnit = 1 << 30
	// weightUnit is weight 1. Weights are 1/weightUnit to weightUnit, the steps of a tag
	// therefore exact to a thousandth.
	weightUnit = 1 << 10
	// maxCost is the largest cost that fairness tells from larger ones. With it the tags of one class
	// stay less than 2^63 apart.
	maxCost = 1 << 30
	// maxIdle is how many tenants of a class that do not wait are remembered.
	maxIdle = 4096
	// spareLines is how many unused lines a queue keeps for reuse.
	spareLines = 128
)

// lane is waiters in the order in which they asked.
type lane struct {
	head, tail *queueItem
	n          int32
	issued     uint32 // tickets handed out
}

func (l *lane) push(it *queueItem) {
	it.ticket = l.issued
	l.issued++
	l.n++
	it.prev, it.next = l.tail, nil
	if l.tail == nil {
		l.head = it
	} else {
		l.tail.next = it
	}
	l.tail = it
}

func (l *lane) remove(it *queueItem) {
	l.n--
	if it.prev == nil {
		l.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
}

// ahead returns how many are before it, which is in the lane: at most that many, and exactly that many when
// nobody between the head and it has left out of turn.
func (l *lane) ahead(it *queueItem) int {
	return min(int(it.ticket-l.head.ticket), int(l.n)-1)
}

// queueLine is what one tenant has waiting in one class, or what is remembered of it.
//
// A line that waits is in queueClass.active; one that does not wait but has had more than its share is in
// queueClass.idle; one that does not wait and owes nothing is forgotten, but for queueClass.last.
type queueLine struct {
	tenant string
	class  *queueClass
	weight int64 // in 1/weightUnit
	step   int64 // of its tags, for a token
	// tag is the start tag of the head while the line waits, and the finish tag of what started last
	// otherwise.
	tag int64
	// floor is the virtual time when the line last began to wait and owed nothing. What was charged before is over, so nothing that
	// is given back takes the tag further back.
	floor    int64
	retries  lane
	fresh    lane
	activeAt int32
	idleAt   int32
	mostAt   int32
}

func (l *queueLine) len() int { return int(l.retries.n + l.fresh.n) }

func (l *queueLine) lane(it *queueItem) *lane {
	if it.Retry {
		return &l.retries
	}
	return &l.fresh
}

// head returns who of the line goes first. A retry counts as if it had asked one aging earlier than it did:
// so it goes before the new calls that it was itself once ahead of, and not before all that ever come.
func (l *queueLine) head(aging time.Duration) *queueItem {
	r, f := l.retries.head, l.fresh.head
	if r == nil || f != nil && aging > 0 && f.Since < r.Since-aging {
		return f
	}
	return r
}

// newest returns who came last.
func (l *queueLine) newest() *queueItem {
	r, f := l.retries.tail, l.fresh.tail
	if r == nil || f != nil && f.seq > r.seq {
		return f
	}
	return r
}

func (l *queueLine) setWeight(weight float64) {
	if !(weight > 0) {
		weight = 1
	}
	l.weight = int64(math.Round(min(max(weight*weightUnit, 1), weightUnit*weightUnit)))
	l.step = tokenUnit / l.weight
}

// queueClass is the waiters of one priority class.
//
// Tenants share it by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a line's head has a
// start tag, the least tag goes first, and what starts moves the tag of its line by cost/weight. A line
// that begins to wait starts at the virtual time, or at its own last tag when that is later: so nobody
// gains by leaving and coming back, and nobody is paid for having been away. The virtual time is the start
// tag of what started last, and in addition runs on by cost/(sum of the weights that wait), as in WF2Q+
// (Bennett and Zhang, 1996): with the tags alone it would stand still, and everybody else with it, while
// new tenants keep coming. It runs as the mean tag of those who wait does, so it follows what is charged, or given back, after a start, whether its tenant
// still waits or not. Otherwise who comes later would wait for what nobody has had, or, one new tenant after the other, never have
// the time pass that their calls took.
//
// What starts is not counted with what it says but with what calls that say so much are expected to use, and corrected at its end (Sheng et al.,
// "Fairness in serving large language models", 2024, with a prediction). With what it says, all tags would be ahead by what is in flight
// and will not be used, and whoever begins to wait meanwhile would wait for that: a tenant with one call at a time each time anew.
//
// Tags wrap around; only their differences count.
type queueClass struct {
	n              int
	oldest, newest *queueItem // all waiters, in the order in which they asked
	turn           uint64     // queue.starts when one of the class started last
	now            int64      // virtual time
	ties           uint64
	weight         int64   // of the lines that wait
	said, used     float32 // by calls that ended, of late; used is no more than was said
	lines          map[string]*queueLine
	last           *queueLine // the line looked up last; in lines
	active         indexHeap[queueLine]
	idle           indexHeap[queueLine]
	most           indexHeap[queueLine] // longest line first; empty unless queue.cfg.Drop needs it
}

// after reports whether the tag a is later than b.
func after(a, b int64) bool { return a-b > 0 }

// find returns the line of a tenant; nil when nothing of it is known.
func (c *queueClass) find(tenant string) *queueLine {
	if l := c.last; l != nil && l.tenant == tenant {
		return l
	}
	return c.lines[tenant]
}

// usedGain is the weight of a call in what is expected of those after it.
const usedGain = 1. / 64

// learn learns what a call used that was said to cost so much. A call that uses more does not make up for those that use less.
func (c *queueClass) learn(said, used int64) {
	c.said += float32(said) - usedGain*c.said
	c.used += float32(min(said, used)) - usedGain*c.used
}

// expected returns what a call is expected to use that says that it costs so much (>= 1): no more than those before it, which count for 64 at the most,
// used together, or the virtual time would run far ahead for one that says anything. Where none has told what it used, it is all.
func (c *queueClass) expected(cost int64) int64 {
	if cost == 1 || c.said == 0 {
		return cost
	}
	return max(1, int64(min(float64(cost)*float64(c.used)/float64(c.said)+0.5, float64(c.used))))
}

// enlist counts l among the lines that wait.
func (c *queueClass) enlist(l *queueLine) {
	if l.idleAt == 0 {
		l.begin(c.now) // whatever it had is long past
	} else if c.idle.remove(&l.idleAt); after(c.now, l.tag) {
		l.begin(c.now)
	}
	c.ties++
	c.active.add(l, &l.activeAt, l.tag, c.ties)
	c.weight += l.weight
}

// run moves the virtual time by tokens that were charged, or given back (< 0), after their call had started, where lines of that weight waited. It stays
// within one largest call of who goes next: the tags must stay comparable.
func (c *queueClass) run(tokens, weight int64) {
	next := c.active.top().tag
	c.now = next + min(max(c.now-next+tokens*tokenUnit/weight, -maxCost*tokenUnit), maxCost*tokenUnit)
}

// begin has l, which owes nothing, begin at the virtual time.
func (l *queueLine) begin(now int64) { l.tag, l.floor = now, now }

// retag moves the tag of l, which waits.
func (c *queueClass) retag(l *queueLine, tag int64) {
	l.tag = tag
	c.ties++
	c.active.fix(&l.activeAt, tag, c.ties)
}

// started moves the tag of l and the virtual time, because one of l starts.
func (c *queueClass) started(l *queueLine, cost int64) {
	run := c.now
	if cost == 1 && c.weight == l.weight {
		run += l.step // the same, without a division
	} else {
		run += cost * tokenUnit / c.weight
	}
	if after(l.tag, run) {
		run = l.tag
	}
	c.now = run
	if least := c.now - maxCost*l.step; after(least, l.floor) {
		l.floor = least // a line that waits for days does not leave it 2^63 behind
	}
	c.retag(l, l.tag+cost*l.step)
}
