package limiter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// modelStep is something that happens after a while.
type modelStep struct {
	after time.Duration
	op    int
	n     int // whom it happens to, and how
}

func drawModelStep(rt *rapid.T) modelStep {
	return modelStep{
		time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 10, 300, 1000, 7000, 40000}).Draw(rt, "after")) * time.Millisecond,
		rapid.IntRange(0, 19).Draw(rt, "op"), rapid.IntRange(0, 1<<16).Draw(rt, "n"),
	}
}

// modelStory is what happened, and what should not have.
type modelStory struct {
	begun time.Time
	story []string
	fail  string
}

func (m *modelStory) logf(format string, a ...any) {
	m.story = append(m.story, fmt.Sprintf("%12v ", time.Since(m.begun))+fmt.Sprintf(format, a...))
}

func (m *modelStory) failf(format string, a ...any) {
	if m.fail == "" {
		m.fail = fmt.Sprintf(format, a...)
		m.logf("FAIL %s", m.fail)
	}
}

// modelCaller is a caller of a guard or a pool.
type modelCaller struct {
	id       int
	r        Request
	asked    time.Time
	latest   time.Time // when it must have been answered
	deadline time.Time // of its context
	cancel   context.CancelFunc
	canceled time.Time
	tried    bool
	err      error
	done     bool
	at       time.Time
	lost     bool
}

func (c *modelCaller) caller() *modelCaller { return c }

// modelBase is what the models of a guard and of a pool have in common.
type modelBase[C interface{ caller() *modelCaller }] struct {
	modelStory
	mu sync.Mutex // guards what callers write

	told    []C // all of them
	waiting []C
	flying  []C
	since   time.Time // when the configuration in force came
	closed  bool
	loose   bool // calls were let in that a smaller limit does not allow

	refused, gaveUp uint64
}

// modelVain is how often a timer may fire in one step without an answer. A place that is held after its call, a class that ages, a caller
// who is to look up and a law that wants to be asked are reasons to look.
const modelVain = 200

// run takes steps until one fails, and settles after each. No two things happen in the same instant.
func (m *modelBase[C]) run(steps []modelStep, step func(modelStep), settle func(), timer func() (in time.Duration, set bool)) {
	for i, s := range steps {
		if m.fail != "" {
			break
		}
		m.pass(s.after+time.Duration(i+1)*time.Nanosecond, settle, timer)
		step(s)
		settle()
	}
}

// pass lets time go by, and looks at who was answered whenever somebody can have been.
func (m *modelBase[C]) pass(d time.Duration, settle func(), timer func() (in time.Duration, set bool)) {
	until := time.Now().Add(d)
	waited := len(m.waiting)
	for vain := 0; m.fail == ""; vain++ {
		left := time.Until(until)
		if left <= 0 {
			return
		}
		if len(m.waiting) != waited {
			vain, waited = 0, len(m.waiting)
		}
		if vain > modelVain {
			m.failf("the timer fired %d times, and nobody was answered", vain)
		}
		if in, set := timer(); set {
			left = min(left, max(in, 1))
		}
		time.Sleep(left)
		settle()
	}
}

// comes has c come, as s says.
func (m *modelBase[C]) comes(c C, s modelStep, maxWait time.Duration) context.Context {
	b := c.caller()
	b.id, b.asked = len(m.told), time.Now()
	n := s.n
	draw := func(of int) int { x := n % of; n /= of; return x }
	b.r = Request{Tenant: []string{"", "", "a", "b"}[draw(4)], Priority: []uint8{0, 0, 2, 7}[draw(4)], Tokens: []int64{0, 0, 10, 400, 3000}[draw(5)], Retry: draw(8) == 0, Class: uint8(draw(3))}
	b.r.Output = b.r.Tokens / 2
	b.latest = b.asked.Add(maxWait)
	switch draw(4) {
	case 0:
		b.deadline = b.asked.Add([]time.Duration{time.Millisecond, time.Second, 20 * time.Second}[draw(3)])
	case 1:
		b.tried = s.op == 0
	}
	ctx := context.Background()
	if b.deadline.IsZero() {
		ctx, b.cancel = context.WithCancel(ctx)
	} else {
		ctx, b.cancel = context.WithDeadline(ctx, b.deadline)
	}
	m.logf("caller %d asks: %+v, deadline %v, tries %v", b.id, b.r, b.deadline.Sub(m.begun), b.tried)
	m.told, m.waiting = append(m.told, c), append(m.waiting, c)
	return ctx
}

// leaves has one of those who wait give up.
func (m *modelBase[C]) leaves(n int) {
	if len(m.waiting) > 0 {
		c := m.waiting[n%len(m.waiting)].caller()
		m.logf("caller %d gives up", c.id)
		c.canceled = time.Now()
		c.cancel()
	}
}

// reloaded notes that a configuration is in force from now on.
func (m *modelBase[C]) reloaded(cfg modelConfig) {
	m.loose, m.since = true, time.Now()
	for _, c := range m.waiting {
		if l := m.since.Add(cfg.MaxWait); l.Before(c.caller().latest) {
			c.caller().latest = l
		}
	}
}

// lands takes a call out of those in flight.
func (m *modelBase[C]) lands(c C) {
	m.flying = slices.DeleteFunc(m.flying, func(o C) bool { return o.caller() == c.caller() })
}

// answers takes those who were answered out of those who wait, and returns those who start, in their order. A refusal of one who only
// tries is counted when tries is set. It needs the lock.
func (m *modelBase[C]) answers(tries bool) (started []C) {
	left := m.waiting[:0:0]
	for _, x := range m.waiting {
		switch c := x.caller(); {
		case !c.done:
			left = append(left, x)
		case c.err == nil:
			started = append(started, x)
		default:
			m.logf("caller %d: %v", c.id, c.err)
			if errors.Is(c.err, ErrRejected) {
				if tries || !c.tried {
					m.refused++
				}
				continue
			}
			m.gaveUp++
			if c.canceled.IsZero() && (c.deadline.IsZero() || c.at.Before(c.deadline)) {
				m.failf("caller %d gave up by himself: %v", c.id, c.err)
			}
		}
	}
	slices.SortStableFunc(started, func(a, b C) int { return cmp.Compare(a.caller().at.UnixNano(), b.caller().at.UnixNano()) })
	m.waiting = left
	return started
}

// patient fails when somebody waits longer than he may, by more than slack where he has given up.
func (m *modelBase[C]) patient(slack time.Duration) {
	now := time.Now()
	for _, x := range m.waiting {
		c := x.caller()
		if late := now.Sub(c.latest); late > 0 {
			m.failf("caller %d still waits %v after it may", c.id, late)
		}
		if !c.deadline.IsZero() && now.After(c.deadline) {
			m.failf("caller %d still waits %v after its deadline", c.id, now.Sub(c.deadline))
		}
		if !c.canceled.IsZero() && now.Sub(c.canceled) > slack {
			m.failf("caller %d still waits %v after it gave up", c.id, now.Sub(c.canceled))
		}
		if m.closed {
			m.failf("caller %d waits although all is closed", c.id)
		}
	}
}

// first fails when somebody waits who should have started before c: who came earlier and is alike, and, where strict is set, who is more urgent.
func (m *modelBase[C]) first(c *modelCaller, strict bool) {
	for _, x := range m.waiting {
		o := x.caller()
		if o.asked.Before(m.since) || c.asked.Before(m.since) || !o.canceled.IsZero() {
			continue
		}
		same := o.r.Tenant == c.r.Tenant && o.r.Priority == c.r.Priority && o.r.Retry == c.r.Retry
		urgent := strict && o.r.Priority > c.r.Priority
		if same && o.asked.Before(c.asked) || urgent && o.asked.Before(c.at) {
			m.failf("call %d started before caller %d", c.id, o.id)
		}
	}
}

// end has all calls end, until nobody waits any more.
func (m *modelBase[C]) end(release func(c C, n int), settle func(), timer func() (in time.Duration, set bool), shut func()) {
	for i := 0; i < 1000 && m.fail == "" && len(m.waiting)+len(m.flying) > 0; i++ {
		for len(m.flying) > 0 {
			release(m.flying[0], 11)
		}
		settle()
		m.pass(time.Second, settle, timer)
	}
	if m.fail == "" && len(m.waiting) > 0 {
		m.failf("%d wait for ever", len(m.waiting))
	}
	for _, c := range m.told {
		c.caller().cancel()
	}
	shut()
	synctest.Wait()
}
