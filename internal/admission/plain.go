package admission

import "time"

// plainLine is the waiters of a Core while all of them are alike and only places hold them back: no tenant, the lowest
// priority, no retry, no known cost. First in, first out is then what the queue decides, and all
// that it keeps to decide more is left out: who comes touches the one before, who starts touches itself.
//
// As soon as anything else comes, or holds callers back, the line is moved into the queue as it stands (Core.unify). It is moved back
// (Core.divide) once as many as wait have started from the queue since then, so that to move one costs no more than a start.
// TestPlainLineEqualsQueue holds the two to the same decisions.
type plainLine struct {
	head, tail *Waiter
	n          int
	starts     uint64 // that the queue has not been told of
	// waited and sum are Counts.Waited and Counts.WaitSum for those who started from here.
	waited uint64
	sum    time.Duration
	// mean is the mean wait of the last some 16 callers that waited, in the line or not.
	mean time.Duration
}

// plainSlack is how much earlier than the one before it a waiter may have read the clock, because it was overtaken, or put
// aside, on its way into the line. It then counts as having asked at the same time: so deadlines in the line are in order.
const plainSlack = time.Second

// plain reports whether w may be in a plainLine.
func (w *Waiter) plain() bool {
	return w.Tenant == "" && w.Priority == 0 && !w.Retry && w.Call.Tokens == 0
}

// plain is the same for one who is in the queue.
func (it *queueItem) plain() bool { return it.waiter != nil && it.waiter.plain() }

// push puts w at the end. It reports false, and does nothing, when it would expire long before those who are there.
func (l *plainLine) push(w *Waiter) bool {
	w.behind = nil
	if t := l.tail; l.n == 0 {
		l.head = w
	} else {
		if w.Deadline < t.Deadline {
			if t.Deadline-w.Deadline > plainSlack {
				return false
			}
			w.Since, w.Deadline = t.Since, t.Deadline
		}
		t.behind, w.before = w, t
	}
	l.tail = w
	l.n++
	w.inLine, w.moved = true, false
	return true
}

// waits has the mean follow a wait.
func (l *plainLine) waits(wait time.Duration) { l.mean += (wait - l.mean) >> 4 }

// pop takes the head out.
func (l *plainLine) pop() {
	w := l.head
	l.head = w.behind             // whose before is left as it is: nobody looks at the head's
	w.before, w.behind = nil, nil // or it would keep all that ever were in the line
	l.n--
	w.inLine = false
}

// remove takes out w, which is in l.
func (l *plainLine) remove(w *Waiter) {
	if w == l.head {
		l.pop()
		return
	}
	w.before.behind = w.behind
	if w == l.tail {
		l.tail = w.before
	} else {
		w.behind.before = w.before
	}
	w.before, w.behind = nil, nil
	l.n--
	w.inLine = false
}

// MeanWait returns the mean wait of the last some 16 callers that waited; it begins at 1 s. Somebody must have waited. It
// needs the lock.
func (c *Core) MeanWait() time.Duration { return c.state.line.mean }

// Stalls has MeanWait be no less than how long the first of those who wait has waited, if that is so long. It needs the lock.
func (c *Core) Stalls(now, least time.Duration) {
	c.Each(func(w *Waiter) bool {
		if wait := now - w.Since; wait >= least {
			c.state.line.mean = max(c.state.line.mean, wait)
		}
		return false
	})
}

// Each calls f for those who wait, one list of them after the other, each in the order in which they asked; f returns
// whether to go on with the list. It needs the lock.
func (c *Core) Each(f func(*Waiter) bool) {
	s := c.state
	if s == nil {
		return
	}
	for w, n := s.line.head, s.line.n; n > 0 && f(w); n-- {
		w = w.behind
	}
	for _, class := range s.queue.classes {
		if class == nil {
			continue
		}
		for it := class.oldest; it != nil && f(it.waiter); {
			it = it.younger
		}
	}
}

// unify brings the queue to where it would be if there were no plainLine.
func (c *Core) unify(now time.Duration) {
	s := c.state
	l := &s.line
	if l.starts > 0 {
		s.queue.skip(l.starts)
		l.starts = 0
	}
	if l.n > 0 {
		c.heldBy(now, WhyLimit, 0) // not what held back those who were in the queue before them
	}
	for w := l.head; l.n > 0; w = l.head {
		l.pop()
		w.waiter = w
		w.expected = Cost{Input: -w.Output, Output: w.Output}
		w.Cost = 1
		if !w.moved {
			c.holds(now, w)
		}
		s.queue.push(&w.queueItem)
	}
}

// divide moves the queue into the line as it stands, when all who wait in it are alike and wait for a place only; it reports whether it did.
func (c *Core) divide(now time.Duration) bool {
	s := c.state
	class := s.queue.classes[0]
	if int(s.fromQueue) < s.queue.len() || s.queue.only || s.queue.apart > 0 || class == nil {
		return false
	}
	s.fromQueue = 0 // whatever comes of it, the next try is after as many starts
	if class.idle.len() > 0 || class.oldest == nil || class.oldest.line.tag != class.now {
		return false // of a tenant who has had more than its share, or less, it must be remembered
	}
	var before time.Duration
	for it := class.oldest; it != nil; it = it.younger {
		if w := it.waiter; w.Why == WhyLimit {
			c.WaitsFor(now, w) // what has waited for something else longest is counted so
		}
		if it.waiter.Why != WhyLimit || it.Deadline < before-plainSlack {
			return false
		}
		before = max(before, it.Deadline)
	}
	for it := class.oldest; it != nil; it = class.oldest {
		s.queue.remove(it)
		s.line.push(it.waiter)
		it.waiter.moved = true
	}
	c.heldBy(now, WhyLimit, 0)
	return true
}

// startPlain gives the n-th place to the head of the plainLine.
func (c *Core) startPlain(now time.Duration, n int) *Waiter {
	s := c.state
	l := &s.line
	w := l.head
	l.pop()
	l.starts++
	w.State, w.charged = Granted, nil
	w.Call.SentAt, w.Call.Episode, w.Call.InFlight, w.Call.Begun = now, s.decision.Episode, n, false
	if wait := now - w.Since; wait > 0 {
		l.waited++
		l.sum += wait
		l.waits(wait)
		s.counts.waits[waitBucket(wait)]++
	}
	return w
}

// nextPlain is Next while there is a plainLine.
func (c *Core) nextPlain(now time.Duration) *Waiter {
	s := c.state
	w := s.line.head
	if c.slots.view().free() > 0 {
		if w.GiveUp != 0 && (w.GiveUp <= now || s.durations.makesWay(now, w, s.line.tail)) {
			return c.reject(now, w, ReasonDeadline, c.soonest(now, w))
		}
		if n, ok := c.slots.takeFor(); ok {
			if n >= c.slots.Limit() {
				c.slots.touchFull()
			}
			return c.startPlain(now, n)
		}
	}
	c.slots.touchFull()
	if w.Deadline <= now {
		return c.reject(now, w, ReasonMaxWait, c.soonest(now, w))
	}
	return nil
}
