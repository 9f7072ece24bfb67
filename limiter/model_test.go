package limiter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// TestModel runs random histories of a guard in virtual time, with every setting and every method in any order, and holds
// them against what a caller may rely on:
//
//   - no more calls are in flight than the limit, and Stats counts those and those who wait exactly;
//   - nothing starts while a pause is in force that somebody asked for;
//   - nobody waits while nothing holds him back, or longer than MaxWait and his deadline; who gives up leaves nothing;
//   - first in, first out for callers of one tenant and priority, and the more urgent ones first where priorities do not age;
//   - a budget of requests is never exceeded; a call that was not made counts as never made;
//   - a permit is released once, whatever its owner does;
//   - everybody is answered in the end, each is counted once, and no timer is left;
//   - the timer fires when somebody may be answered, not again and again.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfgs := rapid.SliceOfN(rapid.Custom(drawModelConfig), 1, 3).Draw(rt, "configurations")
		steps := rapid.SliceOfN(rapid.Custom(drawModelStep), rapid.SampledFrom([]int{1, 30, 100}).Draw(rt, "least"), 150).Draw(rt, "steps")
		var m *model
		synctest.Test(t, func(t *testing.T) { m = runModel(t, cfgs, steps) })
		if m.fail != "" {
			rt.Fatalf("%s\n%s", m.fail, strings.Join(m.story, "\n"))
		}
	})
}

// modelConfig is a configuration with what the model must know of it.
type modelConfig struct {
	Config
	limit int // of its law; 0 when the law adapts
}

// modelLaw never changes its mind.
type modelLaw struct {
	*adaptive.Fixed
	d adaptive.Decision
}

func (l *modelLaw) Window(time.Duration, adaptive.Window) adaptive.Decision { return l.d }

func (l *modelLaw) Ended(time.Duration, adaptive.Call, Outcome) adaptive.Decision { return l.d }

func (l *modelLaw) Hint(time.Duration, feedback.Window) adaptive.Decision { return l.d }

func (l *modelLaw) Decision() adaptive.Decision { return l.d }

func (c modelConfig) String() string {
	s := fmt.Sprintf("limit %d, queue %d, max wait %v, observe %v, hold %v, reclaim %v, timed %d", c.limit, c.Queue, c.MaxWait, c.Observe, c.MaxHold, c.Reclaim, c.TimeOneIn)
	if l, ok := c.Law.(*modelLaw); ok {
		s += fmt.Sprintf(", pace %v, of tokens %v, free after %v", l.d.Pace, l.d.TokenPace, l.d.FreeAfter)
	}
	if c.Room != nil {
		s += fmt.Sprintf(", room %+v", *c.Room)
	}
	if c.Budget != nil {
		s += fmt.Sprintf(", budget %+v", *c.Budget)
	}
	return s
}

func drawModelConfig(rt *rapid.T) modelConfig {
	one := func(name string, of ...int) int { return rapid.SampledFrom(of).Draw(rt, name) }
	c := modelConfig{Config: Config{
		Queue:       one("queue", 0, 0, 0, -1, 1, 3),
		MaxWait:     time.Duration(one("wait", 60, 60, 1, 600)) * time.Second,
		PauseJitter: float64(one("jitter", -1, -1, 1)) * 0.05,
		Observe:     one("observe", 0, 0, 0, 0, 0, 0, 0, 1) == 1,
		TimeOneIn:   one("timed", 1, 1, 16),
		MaxHold:     time.Duration(one("hold", 0, 0, 0, 90)) * time.Second,
		Reclaim:     one("reclaim", 0, 1) == 1,
		Seed:        1,
	}}
	if c.limit = one("limit", 0, 1, 1, 2, 3, 7); c.limit > 0 {
		l := &modelLaw{Fixed: adaptive.NewFixed(c.limit)}
		l.d = l.Fixed.Decision()
		l.d.Pace = float64(one("pace", 0, 0, 0, 2, 100))
		l.d.TokenPace = float64(one("token pace", 0, 0, 0, 200))
		l.d.FreeAfter = time.Duration(one("free after", 0, 0, 0, 700)) * time.Millisecond
		c.Law = l
	} else {
		c.Adaptive = adaptive.Config{Initial: one("initial", 1, 4), Max: one("max", 4, 9)}
	}
	if one("room", 0, 1) == 1 {
		c.Room = &Room{
			Aging:   time.Duration(one("aging", 0, 0, 5)) * time.Second,
			Weights: map[string]float64{"a": 3},
			Drop:    Drop(one("drop", 0, 1, 2, 3)),
		}
		if one("reserve", 0, 0, 1) == 1 {
			c.Room.ReservedShare, c.Room.ReservedFor = 0.5, 2
		}
	}
	if one("budget", 0, 0, 1) == 1 {
		c.Budget = &Budget{Limits: []BudgetLimit{{
			Kind: feedback.ScopeRequests, Limit: int64(one("rate", 3, 10)), Period: time.Duration(one("period", 1, 30)) * time.Second, Fixed: one("fixed", 0, 1) == 1,
		}}}
		if one("tokens", 0, 1) == 1 {
			c.Budget.Oversize = Oversize(one("oversize", 0, 1))
			c.Budget.Limits = append(c.Budget.Limits, BudgetLimit{Kind: feedback.ScopeTokens, Limit: 1000, Period: 10 * time.Second})
		}
	}
	return c
}

type model struct {
	modelBase[*guardCaller]
	g   *Guard
	cfg modelConfig

	reclaimed uint64      // under mu
	starts    []time.Time // that count for the budget
	paused    time.Time   // until when nothing may start
	taught    bool        // an answer told of the budget

	released uint64
}

type guardCaller struct {
	modelCaller
	permit Permit
}

func runModel(t *testing.T, cfgs []modelConfig, steps []modelStep) *model {
	m := &model{cfg: cfgs[0]}
	m.begun = time.Now()
	m.logf("%v", m.cfg)
	g, err := New(m.cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	m.g = g
	g.OnLeak(func(l Leak) {
		if l.Reclaimed {
			m.mu.Lock()
			m.reclaimed++
			m.mu.Unlock()
		}
	})
	m.run(steps, func(s modelStep) { m.step(s, cfgs) }, m.settle, m.timer)
	m.end()
	return m
}

// timer returns in what time the guard's timer fires.
func (m *model) timer() (in time.Duration, set bool) {
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	s := m.g.shell.Load()
	if s == nil || !s.timerSet {
		return 0, false
	}
	return s.timerAt - m.g.now(), true
}

func (m *model) step(s modelStep, cfgs []modelConfig) {
	pick := func(of []*guardCaller) *guardCaller { return of[s.n%len(of)] }
	switch s.op {
	default: // a caller comes
		c := &guardCaller{}
		ctx := m.comes(c, s, m.cfg.MaxWait)
		go func() {
			defer c.cancel()
			if c.tried {
				p, ok := m.g.TryAcquire(c.r)
				if c.permit = p; !ok {
					c.err = &RejectedError{Reason: ReasonLimit}
				}
			} else {
				c.permit, c.err = m.g.Acquire(ctx, c.r)
			}
			m.mu.Lock()
			c.done, c.at = true, time.Now()
			m.mu.Unlock()
		}()
	case 8, 9, 10, 11: // a call ends
		if len(m.flying) > 0 {
			m.release(pick(m.flying), s.n)
		}
	case 12: // a call is not made
		if len(m.flying) > 0 {
			c := pick(m.flying)
			m.logf("call %d is abandoned", c.id)
			m.take(c)
			if !c.lost {
				i := slices.IndexFunc(m.starts, func(t time.Time) bool { return t.Equal(c.at) })
				if i >= 0 {
					m.starts = slices.Delete(m.starts, i, i+1)
				}
			}
			c.permit.Abandon()
			m.twice(c)
		}
	case 13, 14: // a caller gives up
		m.leaves(s.n)
	case 15:
		cfg := cfgs[s.n%len(cfgs)]
		m.logf("reload: %v", cfg)
		if err := m.g.Reload(cfg.Config); err != nil {
			m.failf("Reload: %v", err)
		}
		m.reloaded(cfg)
		m.cfg, m.starts = cfg, nil
	case 16:
		until := time.Now().Add(time.Duration(s.n%50) * time.Second)
		m.logf("pause until %v", until.Sub(m.begun))
		m.g.Pause(until)
		m.pause(until)
	case 17:
		if s.n%3 == 0 {
			m.logf("resume")
			m.g.Resume()
			m.paused = time.Time{}
		}
	case 18:
		if len(m.flying) > 0 {
			c := pick(m.flying)
			m.logf("call %d begins to be answered", c.id)
			c.permit.Began()
		}
	case 19:
		switch {
		case s.n%16 == 0:
			m.logf("close")
			m.g.Close()
			m.closed = true
		case s.n%4 == 1 && m.cfg.Budget != nil:
			share := float64(s.n%5) / 4
			m.logf("share %v", share)
			m.g.ShareBudget([]float64{share, share})
		default:
			_ = m.g.Explain(s.n % 5).String()
		}
	}
}

func (m *model) pause(until time.Time) {
	if until.After(m.paused) {
		m.paused = until
	}
}

// take takes a call out of those in flight.
func (m *model) take(c *guardCaller) {
	m.lands(c)
	c.lost = c.permit.more != nil && c.permit.more.hold != nil && c.permit.more.hold.taken
}

func (m *model) release(c *guardCaller, n int) {
	o := Outcome{}
	switch n % 12 {
	case 0:
		o.Class, o.HasRetryAfter, o.RetryAfter = feedback.Throttled, true, time.Duration(n/12%20)*time.Second
	case 1:
		o.Class = feedback.Throttled
	case 2:
		o.Class, o.Scope = feedback.Overloaded, feedback.ScopeConcurrency
		o.HasRetryAfter, o.RetryAfter = true, time.Second
	case 3:
		o.Class = feedback.ServerError
	case 4:
		o.Class = feedback.Timeout
	case 5:
		o.Class = feedback.Canceled
	case 6:
		o.Class, o.HasRetryAfter, o.RetryAfter = feedback.QuotaExhausted, true, time.Minute
	case 7:
		o.InputTokens, o.OutputTokens = 5, int64(n%1000)
	case 8:
		o.Windows = []feedback.Window{{Kind: feedback.ScopeRequests, Limit: int64(3 + n%3*1000), Remaining: int64(n / 12 % 4), Reset: time.Second}}
		m.taught = true
	}
	m.logf("call %d ends: %v %v", c.id, o.Class, o.RetryAfter)
	m.take(c)
	if !c.lost {
		m.released++
		if o.RetryAfter > 0 && o.Scope != feedback.ScopeConcurrency {
			m.pause(time.Now().Add(o.RetryAfter))
		}
	}
	c.permit.Release(o)
	m.twice(c)
}

// twice releases a permit once more.
func (m *model) twice(c *guardCaller) {
	before := m.g.Stats()
	defer func() {
		if recover() == nil {
			m.failf("call %d: a second release does not panic", c.id)
		}
		if after := m.g.Stats(); after.InFlight != before.InFlight {
			m.failf("call %d: a second release changed in flight from %d to %d", c.id, before.InFlight, after.InFlight)
		}
	}()
	c.permit.Release(Outcome{})
}

// settle looks at who was answered, and at those who were not.
func (m *model) settle() {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	started := m.answers(true)
	for _, c := range started {
		m.started(c)
	}
	// Those whose place was taken back are in flight no more.
	m.g.mu.Lock()
	flying := 0
	for _, c := range m.flying {
		if h := c.permit.more; h == nil || h.hold == nil || !h.hold.taken {
			flying++
		}
	}
	m.g.mu.Unlock()
	s := m.g.Stats()
	if s.InFlight != flying || s.Waiting != len(m.waiting) {
		m.failf("Stats: %d in flight, %d waiting, want %d and %d", s.InFlight, s.Waiting, flying, len(m.waiting))
	}
	if m.cfg.limit > 0 && s.Limit != m.cfg.limit {
		m.failf("limit %d, want %d", s.Limit, m.cfg.limit)
	}
	for _, c := range started {
		if !m.cfg.Observe && len(m.flying) > s.Limit && !m.loose && m.cfg.limit > 0 && c.at.Equal(now) && flying > s.Limit {
			m.failf("call %d started with %d in flight, limit %d", c.id, flying, s.Limit)
		}
	}
	if flying <= s.Limit {
		m.loose = m.cfg.Observe
	}
	m.patient(34 * time.Millisecond)
	m.lively(s)
}

// started looks at a call that has started.
func (m *model) started(c *guardCaller) {
	m.logf("call %d starts, asked at %v", c.id, c.asked.Sub(m.begun))
	m.flying = append(m.flying, c)
	if m.cfg.Observe {
		return
	}
	if c.at.Before(m.paused) {
		m.failf("call %d started %v before the end of a pause", c.id, m.paused.Sub(c.at))
	}
	if m.closed {
		m.failf("call %d started at a closed guard", c.id)
	}
	m.first(&c.modelCaller, m.cfg.Room == nil || m.cfg.Room.Aging == 0)
	m.starts = append(m.starts, c.at)
	if b := m.cfg.Budget; b != nil && !m.taught && !c.at.Before(m.since) {
		l := b.Limits[0]
		for i, first := range m.starts {
			n := int64(len(m.starts) - i)
			may := l.Limit + int64(float64(l.Limit)*float64(c.at.Sub(first))/float64(l.Period)) + 1
			if l.Fixed {
				may = l.Limit * (int64(c.at.Sub(first)/l.Period) + 2)
			}
			if n > may {
				m.failf("%d calls started in %v, of %d in %v", n, c.at.Sub(first), l.Limit, l.Period)
			}
		}
	}
}

// lively looks whether somebody waits for nothing.
func (m *model) lively(s Stats) {
	if len(m.waiting) == 0 || m.fail != "" {
		return
	}
	e := m.g.Explain(len(m.waiting))
	if len(e.Waits) != len(m.waiting) {
		m.failf("%d wait, and %d are explained", len(m.waiting), len(e.Waits))
	}
	limit := 0
	for _, w := range e.Waits {
		if w.Why == "limit" {
			limit++
		}
	}
	if limit == len(e.Waits) && s.InFlight < s.Limit && s.Paused == 0 {
		m.failf("%d wait for a place, and %d of %d are taken", limit, s.InFlight, s.Limit)
	}
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	sh := m.g.shell.Load()
	if sh == nil || !sh.timerSet {
		m.failf("%d wait, and no timer is set", len(m.waiting))
		return
	}
	if at, ok := m.g.core.Wake(m.g.now()); ok && at < sh.timerAt {
		m.failf("%d wait, somebody may be answered at %v, and the timer is set to %v", len(m.waiting), at, sh.timerAt)
	}
}

func (m *model) end() {
	m.modelBase.end(m.release, m.settle, m.timer, func() { m.g.Close(); m.g.Resume() })
	if m.fail != "" {
		return
	}
	s := m.g.Stats()
	var ended, refused uint64
	for _, n := range s.Counts.Outcomes {
		ended += n
	}
	for _, n := range s.Counts.Refused {
		refused += n
	}
	if s.InFlight != 0 || s.Waiting != 0 {
		m.failf("in the end %d in flight, %d waiting", s.InFlight, s.Waiting)
	}
	// Who is refused in the instant in which he gives up is told the one or the other.
	if gone := refused + s.Counts.Canceled; ended != m.released+m.reclaimed || refused < m.refused || gone != m.refused+m.gaveUp {
		m.failf("counted %d ended, %d refused, %d canceled; want %d, %d, %d", ended, refused, s.Counts.Canceled, m.released+m.reclaimed, m.refused, m.gaveUp)
	}
	m.g.mu.Lock()
	defer m.g.mu.Unlock()
	if sh := m.g.shell.Load(); sh != nil && (sh.timerSet || sh.wake != nil || sh.leaks.head != nil) {
		m.failf("something is left of calls that have ended")
	}
}
