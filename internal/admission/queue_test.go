package admission

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// queueBench is a queue with a clock, and with verbs that log what they do.
type queueBench struct {
	t   testing.TB
	q   queue
	now time.Duration
	log []string
}

func newQueueBench(t testing.TB, cfg QueueConfig) *queueBench {
	b := &queueBench{t: t}
	b.q.cfg = &cfg
	return b
}

func (b *queueBench) logf(format string, a ...any) {
	b.log = append(b.log, fmt.Sprintf("%8v ", b.now)+fmt.Sprintf(format, a...))
}

func (b *queueBench) fatalf(format string, a ...any) {
	b.t.Helper()
	for _, l := range b.log {
		b.t.Log(l)
	}
	b.t.Fatalf(format, a...)
}

func (b *queueBench) push(tenant string, priority uint8, edit ...func(*queueItem)) *queueItem {
	w := new(struct {
		Waiter
		queueItem
	})
	it := &w.queueItem
	*it = queueItem{waiter: &w.Waiter, Tenant: tenant, Priority: priority, Since: b.now, Deadline: b.now + time.Minute}
	for _, f := range edit {
		f(it)
	}
	b.q.push(it)
	b.logf("push %s", name(it))
	return it
}

func (b *queueBench) start() *queueItem {
	it := b.q.next(b.now, 0)
	if it != nil {
		b.q.start(it)
		b.logf("start %s", name(it))
		it.waiter.State = Granted
	}
	return it
}

// want starts calls and checks that they are these.
func (b *queueBench) want(items ...*queueItem) {
	b.t.Helper()
	for i, want := range items {
		if got := b.start(); got != want {
			b.fatalf("start %d: got %s, want %s", i, name(got), name(want))
		}
	}
}

func name(it *queueItem) string {
	if it == nil {
		return "nobody"
	}
	s := fmt.Sprintf("#%d %q class %d cost %d since %v", it.seq, it.Tenant, it.Priority, it.Cost, it.Since)
	if it.Retry {
		s += " retry"
	}
	return s
}

func retry(it *queueItem) { it.Retry = true }

func cost(n int64) func(*queueItem) { return func(it *queueItem) { it.Cost = n } }

// One tenant, one class: first in, first out, whatever the calls cost.
func TestQueueFIFO(t *testing.T) {
	b := newQueueBench(t, QueueConfig{Aging: 10 * time.Second})
	x, y, z := b.push("", 0, cost(1000)), b.push("", 0), b.push("", 0, cost(5))
	b.q.remove(y)
	v := b.push("", 0)
	b.want(x, z, v, nil)
}

// "a reserved share: of the places only class >= X may use".
func TestQueueReserved(t *testing.T) {
	cfg := QueueConfig{ReservedShare: 0.2, ReservedFor: 5}
	for _, c := range []struct {
		inFlight, limit int
		want            uint8
	}{
		{0, 1, 0}, // never the only place
		{0, 2, 0}, {1, 2, 0},
		{0, 4, 0}, {2, 4, 0}, {3, 4, 5},
		{7, 10, 0}, {8, 10, 5}, {9, 10, 5}, {12, 10, 5},
	} {
		if got := cfg.lowest(c.inFlight, c.limit); got != c.want {
			t.Errorf("lowest(%d, %d) = %d, want %d", c.inFlight, c.limit, got, c.want)
		}
		for p := range uint8(NumPriorities) {
			if got, want := cfg.mayUse(p, c.inFlight, c.limit), p >= c.want; got != want {
				t.Errorf("mayUse(%d, %d, %d) = %v, want %v", p, c.inFlight, c.limit, got, want)
			}
		}
	}
	all := QueueConfig{ReservedShare: 7, ReservedFor: 200}
	if got := all.lowest(0, 10); got != 0 {
		t.Errorf("with all places reserved, lowest(0, 10) = %d, want 0: one place is for everybody", got)
	}
	none := QueueConfig{ReservedFor: 5}
	if got := none.lowest(9, 10); got != 0 {
		t.Errorf("with nothing reserved, lowest(9, 10) = %d, want 0", got)
	}

	b := newQueueBench(t, cfg)
	b.push("", 0)
	if got := b.q.next(0, 5); got != nil {
		t.Errorf("next for class 5 and up = %s, want nobody", name(got))
	}
	urgent := b.push("", 6)
	b.push("", 7)
	b.q.remove(b.q.next(0, 7))
	if got := b.q.next(0, 5); got != urgent {
		t.Errorf("next for class 5 and up = %s, want %s", name(got), name(urgent))
	}
}

// "A class whose oldest waiter has waited for k times Aging counts as k classes higher, but no higher than
// the highest that waits: there they take turns."
func TestQueueAging(t *testing.T) {
	b := newQueueBench(t, QueueConfig{Aging: 10 * time.Second})
	x, y := b.push("", 0), b.push("", 0)
	b.now = 20*time.Second - 1
	u := b.push("", 2)
	v, w := b.push("", 2), b.push("", 2)
	b.want(u) // not yet
	b.now++
	b.want(x, v, y, w)

	// Without aging it is strict.
	b = newQueueBench(t, QueueConfig{})
	x = b.push("", 0)
	b.now = time.Hour
	y = b.push("", 1)
	b.want(y, x)

	// Time that goes backwards takes the age away, and nobody is lost.
	b = newQueueBench(t, QueueConfig{Aging: 10 * time.Second})
	b.now = time.Hour
	x, y = b.push("", 0), b.push("", 1)
	b.now = 0
	z := b.push("", 1)
	b.want(y, z, x)
}

// A retry goes before new calls, and not before one that has waited longer by Aging.
func TestQueueRetry(t *testing.T) {
	b := newQueueBench(t, QueueConfig{Aging: 10 * time.Second})
	x, y := b.push("a", 0), b.push("a", 0)
	b.now = 10 * time.Second
	z := b.push("a", 0)
	r := b.push("a", 0, retry)
	if got := b.q.ahead(x); got != 1 {
		t.Errorf("ahead of the oldest = %d, want 1: the retry", got)
	}
	b.want(r)
	b.now++
	s := b.push("a", 0, retry)
	b.want(x, y, s, z)
}

// "fairness within 5 % of the weights over 10,000 requests", with random costs.
func TestQueueFairness(t *testing.T) {
	weights := map[string]float64{"a": 1, "b": 2, "c": 5, "d": 0.5, "e": 1.5}
	for seed := range uint64(5) {
		b := newQueueBench(t, QueueConfig{Weights: weights, Aging: 10 * time.Second})
		rng := rand.New(rand.NewPCG(seed, 1))
		used := map[string]float64{}
		sum := 0.0
		scale := map[string]float64{"a": 1, "b": 4, "c": 0.5, "d": 0.5, "e": 1} // tenants differ in the length of their calls
		push := func(tenant string) {
			it := &queueItem{Tenant: tenant, Since: b.now, Deadline: never}
			it.Cost = int64(math.Exp(rng.NormFloat64()) * 800 * scale[tenant])
			b.q.push(it)
		}
		for _, tenant := range []string{"a", "b", "c", "d", "e"} {
			for range 3 {
				push(tenant)
			}
		}
		for range 10_000 {
			b.now += time.Duration(rng.Int64N(int64(time.Second)))
			it := b.q.next(b.now, 0)
			b.q.start(it)
			used[it.Tenant] += float64(it.cost())
			sum += float64(it.cost())
			push(it.Tenant)
		}
		for tenant, w := range weights {
			if got, want := used[tenant]/sum, w/10; math.Abs(got/want-1) > 0.05 {
				t.Errorf("seed %d: tenant %s (weight %v) got %.4f of the tokens, want %.4f within 5 %%", seed, tenant, w, got, want)
			}
		}
	}
}

// A tenant that leaves after each call and comes back at once gets no more than one that stays, and a
// tenant with thousands of calls waiting no more than one with two.
func TestQueueNoGain(t *testing.T) {
	b := newQueueBench(t, QueueConfig{})
	for range 5000 {
		b.push("deep", 0, cost(10))
	}
	stay := []*queueItem{b.push("stay", 0, cost(10)), b.push("stay", 0, cost(10))}
	hop := b.push("hop", 0, cost(10))
	hops, stays, deeps := 0, 0, 0
	for i := range 3000 {
		it := b.q.next(0, 0)
		b.q.start(it)
		switch {
		case it == hop:
			hops++
			if i%2 == 0 { // others come and go meanwhile
				b.q.remove(b.push(strconv.Itoa(i), 0))
			}
			hop = b.push("hop", 0, cost(10))
		case it.Tenant == "stay":
			stays++
			stay = append(stay[1:], b.push("stay", 0, cost(10)))
		default:
			deeps++
		}
	}
	for _, n := range []int{hops, stays, deeps} {
		if n < 990 || n > 1010 {
			t.Fatalf("of 3000 starts: hop %d, stay %d, deep %d; want 1000 each", hops, stays, deeps)
		}
	}
}

// Before a waiter with tag T at most (T-now)*W tokens and one call of each line start, even when each call
// that comes is of a tenant never seen before.
func TestQueueNobodyStarvesNewcomers(t *testing.T) {
	b := newQueueBench(t, QueueConfig{Aging: 10 * time.Second})
	var heavy []*queueItem
	for range 20 {
		heavy = append(heavy, b.push("heavy", 0, cost(100)))
	}
	for i := range 9 {
		b.push("new"+strconv.Itoa(i), 0, cost(10))
	}
	last := heavy[len(heavy)-1]
	starts := 0
	for i := 9; last.line != nil; i++ {
		if b.start().Tenant != "heavy" {
			b.push("new"+strconv.Itoa(i), 0, cost(10))
		}
		if starts++; starts > 10_000 {
			b.fatalf("after %d starts a waiter still waits behind newcomers", starts)
		}
	}
	// 10 lines of weight 1, 1900 tokens before the last: about 19,000 tokens in all, 1900 of
	// them its own.
	if got, want := starts, 20+17_100/10; math.Abs(float64(got-want)) > 0.02*float64(want) {
		t.Errorf("the last of 20 calls of 100 tokens was start number %d, want about %d", got, want)
	}
	if n := len(b.q.classes[0].lines); n > 100 {
		t.Errorf("%d lines are remembered after %d tenants came and went, want no more than about those that wait", n, starts)
	}
}

// What is remembered of tenants that do not wait is bounded, and gone when nobody waits; who was forgotten
// has gained nothing.
func TestQueueBoundedMemory(t *testing.T) {
	b := newQueueBench(t, QueueConfig{})
	anchor := b.push("anchor", 0)
	for i := range 2 * maxIdle {
		b.q.charge("anchor", 0, -int64(10+i)) // so that the virtual time stands still
		b.q.charge(strconv.Itoa(i), 0, 2*int64(10+i))
	}
	c := b.q.classes[0]
	if n := c.idle.len(); n != maxIdle {
		t.Errorf("%d tenants that do not wait are remembered, want %d", n, maxIdle)
	}
	first := b.push("0", 0) // owed 10 and was forgotten
	fresh := b.push("fresh", 0)
	if after(10*tokenUnit/weightUnit, first.line.tag) || first.line.tag != fresh.line.tag {
		t.Errorf("the forgotten tenant starts at %d, a fresh one at %d; want both no earlier than its debt, %d",
			first.line.tag, fresh.line.tag, 10*tokenUnit/weightUnit)
	}
	last := b.push(strconv.Itoa(2*maxIdle-1), 0) // owes most, and is remembered
	b.want(anchor, first, fresh, last, nil)
	if len(c.lines) > 1 || c.idle.len() != 0 || c.weight != 0 {
		t.Errorf("with nobody waiting: %d lines, %d idle, weight %d; want at most 1, 0, 0", len(c.lines), c.idle.len(), c.weight)
	}
	if len(b.q.spares) > spareLines || cap(c.idle.s) > heapKeep {
		t.Errorf("%d spare lines and room for %d idle ones, want at most %d and %d", len(b.q.spares), cap(c.idle.s), spareLines, heapKeep)
	}
}

func TestQueueVictim(t *testing.T) {
	newcomer := func(tenant string, priority uint8) *queueItem {
		return &queueItem{Tenant: tenant, Priority: priority}
	}
	type who = *queueItem
	for _, c := range []struct {
		drop Drop
		want func(a0, a0b, b0, a3, b5 who) map[*queueItem]who // by newcomer
	}{
		{DropNewest, func(_, _, _, _, _ who) map[who]who {
			return map[who]who{newcomer("c", 0): nil, newcomer("c", 7): nil}
		}},
		{DropOldest, func(_, _, b0, a3, _ who) map[who]who {
			return map[who]who{newcomer("c", 0): b0, newcomer("c", 3): a3, newcomer("c", 7): a3}
		}},
		{DropLowest, func(_, a0b, _, _, _ who) map[who]who {
			return map[who]who{newcomer("c", 0): nil, newcomer("c", 1): a0b}
		}},
		{DropLongest, func(_, a0b, _, _, _ who) map[who]who {
			return map[who]who{newcomer("c", 0): a0b, newcomer("b", 0): nil, newcomer("a", 0): nil, newcomer("a", 1): a0b}
		}},
	} {
		b := newQueueBench(t, QueueConfig{Drop: c.drop})
		a3 := b.push("a", 3)
		b0 := b.push("b", 0)
		a0 := b.push("a", 0)
		b5 := b.push("b", 5)
		a0b := b.push("a", 0)
		for in, want := range c.want(a0, a0b, b0, a3, b5) {
			if got := b.q.victim(in); got != want {
				t.Errorf("%v: victim for %s = %s, want %s", c.drop, name(in), name(got), name(want))
			}
		}
	}
	var empty queue
	empty.cfg = &QueueConfig{Drop: DropLongest}
	if got := empty.victim(newcomer("a", 7)); got != nil {
		t.Errorf("victim of an empty queue = %s, want nobody", name(got))
	}
	if got := Drop(NumDrops).String(); got != "unknown" {
		t.Errorf("a policy that there is not is called %q", got)
	}
}

func TestQueuePosition(t *testing.T) {
	b := newQueueBench(t, QueueConfig{Weights: map[string]float64{"big": 3}})
	var a, big []*queueItem
	for range 4 {
		a = append(a, b.push("a", 0))
		big = append(big, b.push("big", 0))
	}
	urgent := b.push("u", 4)
	for _, c := range []struct {
		it              *queueItem
		ahead, position int
	}{
		{urgent, 0, 0},
		{a[0], 0, 1 + 3}, {a[1], 1, 1 + 7}, {a[3], 3, 1 + 7},
		{big[0], 0, 1 + 1}, {big[3], 3, 1 + 5},
	} {
		if got := b.q.ahead(c.it); got != c.ahead {
			t.Errorf("ahead(%s) = %d, want %d", name(c.it), got, c.ahead)
		}
		if got := b.q.position(c.it); got != c.position {
			t.Errorf("position(%s) = %d, want %d", name(c.it), got, c.position)
		}
	}
	// Who left out of turn is counted until the head has passed its place.
	b.q.remove(a[1])
	if got := b.q.ahead(a[3]); got != 2 {
		t.Errorf("ahead = %d of a line of 3, want 2", got)
	}
	if got := b.q.ahead(a[2]); got != 2 {
		t.Errorf("ahead = %d, want 2: the one that left is still counted", got)
	}
	b.q.remove(a[0])
	if got := b.q.ahead(a[2]); got != 0 {
		t.Errorf("ahead of the head = %d, want 0", got)
	}
}

// A tenant is charged for what it used beyond what it said, and gets back what it did not use.
func TestQueueCharge(t *testing.T) {
	b := newQueueBench(t, QueueConfig{})
	a1, a2 := b.push("a", 0, cost(10)), b.push("a", 0, cost(10))
	b1, b2, b3 := b.push("b", 0, cost(10)), b.push("b", 0, cost(10)), b.push("b", 0, cost(10))
	b.want(a1)
	b.q.charge("a", 0, 15)
	b.want(b1, b2, b3, a2)

	b = newQueueBench(t, QueueConfig{})
	a1, a2 = b.push("a", 0, cost(10)), b.push("a", 0, cost(10))
	b1, b2 = b.push("b", 0, cost(10)), b.push("b", 0, cost(10))
	b.want(a1, b1)
	b.q.charge("b", 0, -10) // it never ran
	b.want(b2, a2)

	// Nobody waits: nothing to be fair about, nothing remembered.
	b.q.charge("c", 0, 1000)
	b.q.charge("c", 7, 1000)
	if c := b.q.classes[0]; c.find("c") != nil {
		t.Error("charge of a tenant that does not wait, while nobody does, is remembered")
	}
	// A tenant that does not wait while others do owes it when it comes.
	x := b.push("a", 0, cost(10))
	y := b.push("a", 0, cost(10))
	b.q.charge("c", 0, 15)
	z := b.push("c", 0)
	b.want(x, y, z)
}

// What is given back of a start leaves no trace in who goes next: a tenant is where it was, and so is the virtual time, at which others come.
func TestQueueGivenBack(t *testing.T) {
	// Two tenants that say 1000 and use 10 each time, or whose calls are not made at all. Who comes later waits for one call at the most.
	for _, used := range []int64{10, 0} {
		b := newQueueBench(t, QueueConfig{})
		b.push("a", 0, cost(1000))
		b.push("b", 0, cost(1000))
		again := func(used int64) *queueItem {
			it := b.q.next(b.now, 0)
			b.push(it.Tenant, 0, cost(1000))
			b.start()
			b.q.charge(it.Tenant, 0, used-1000)
			return it
		}
		for range 500 {
			again(used)
		}
		b.push("c", 0, cost(1000))
		starts := 1
		for again(1000).Tenant != "c" {
			if starts++; starts > 1000 {
				break
			}
		}
		if starts > 3 {
			t.Errorf("of 1000 tokens %d were used: a newcomer is start number %d behind two who wait, want at most 3", used, starts)
		}
	}

	// A tenant whose callers start and leave again and again moves nobody.
	b := newQueueBench(t, QueueConfig{})
	b.push("a", 0)
	b.push("b", 0)
	b.q.charge("b", 0, 10)
	for b.q.next(b.now, 0).Tenant == "a" {
		b.push("a", 0)
		b.start()
		b.q.charge("a", 0, -1)
		if c := b.q.classes[0]; after(c.now, c.find("b").tag+tokenUnit/weightUnit) {
			b.fatalf("the virtual time is %d, with both tenants at %d", c.now, c.find("b").tag)
		}
		if len(b.log) > 1000 {
			break
		}
	}

	// Nobody is paid for having been away: what a tenant was charged before it began anew is over.
	b = newQueueBench(t, QueueConfig{})
	b.push("a", 0, cost(100))
	for range 50 {
		b.push("b", 0, cost(10))
	}
	for range 40 {
		b.start()
	}
	a := []*queueItem{b.push("a", 0, cost(10)), b.push("a", 0, cost(10)), b.push("a", 0, cost(10))}
	b.q.charge("a", 0, -100)
	b.start()
	b.start()
	b.start()
	n := 0
	for _, it := range a {
		if it.line == nil {
			n++
		}
	}
	if n > 2 {
		t.Errorf("of 3 starts %d are of the one who came back, want no more than 2", n)
	}
}

func TestQueueExpiry(t *testing.T) {
	b := newQueueBench(t, QueueConfig{})
	if _, ok := b.q.nextExpiry(); ok {
		t.Error("an empty queue has a next expiry")
	}
	at := func(d time.Duration) func(*queueItem) { return func(it *queueItem) { it.Deadline = d } }
	b.push("", 0, at(math.MaxInt64)) // never
	if _, ok := b.q.nextExpiry(); ok {
		t.Error("a queue of one without a deadline has a next expiry")
	}
	x := b.push("", 0, at(50))
	y := b.push("", 3, at(20)) // out of order
	z := b.push("", 0, at(60))
	v := b.push("", 0, at(math.MinInt64))
	for _, want := range []*queueItem{v, y, x, z} {
		got, ok := b.q.nextExpiry()
		if !ok || got != want.Deadline {
			t.Fatalf("nextExpiry = %v, %v, want %v", got, ok, want.Deadline)
		}
		if got := b.q.expired(want.Deadline - 1); got != nil && want != v {
			t.Fatalf("expired just before %v = %s, want nobody", want.Deadline, name(got))
		}
		it := b.q.expired(want.Deadline)
		if it != want {
			t.Fatalf("expired(%v) = %s, want %s", want.Deadline, name(it), name(want))
		}
		b.q.remove(it)
	}
	if b.q.len() != 1 {
		t.Errorf("len = %d, want 1", b.q.len())
	}
}

func TestQueueConfigure(t *testing.T) {
	b := newQueueBench(t, QueueConfig{})
	for range 200 {
		b.push("a", 0, cost(10))
		b.push("b", 0, cost(10))
	}
	b.q.configure(&QueueConfig{Weights: map[string]float64{"b": 3}, Drop: DropLongest})
	n := map[string]int{}
	for range 100 {
		n[b.start().Tenant]++
	}
	if n["b"] < 73 || n["b"] > 77 {
		t.Errorf("of 100 starts %d were of b with weight 3 beside 1, want 75", n["b"])
	}
	if got := b.q.victim(&queueItem{Tenant: "c"}); got == nil || got.Tenant != "a" {
		t.Errorf("victim = %s, want the newest of a, which has most waiting", name(got))
	}
	b.q.configure(&QueueConfig{})
	if got := b.q.classes[0].most.len(); got != 0 {
		t.Errorf("%d lines are ranked though the policy does not ask", got)
	}
	for b.start() != nil {
	}
}
