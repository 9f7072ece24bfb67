package limiter

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// TestPoolModel does with a pool what TestModel does with a guard: keys fail, are probed and recover, pauses are one key's own, and whatever
// happens,
//
//   - no more calls are in flight with a key than its limit, and Stats counts those and those who wait exactly;
//   - nothing starts with a key in its pause, or with one that is out but a single probe that is due;
//   - nobody waits longer than MaxWait, his deadline or a closed pool; who gives up leaves nothing, and so does who is answered;
//   - first in, first out for callers of one tenant and priority;
//   - the timer fires when somebody may be answered, not again and again.
func TestPoolModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfgs := rapid.SliceOfN(rapid.Custom(drawModelConfig), 1, 3).Draw(rt, "configurations")
		keys := rapid.IntRange(1, 4).Draw(rt, "keys")
		account := rapid.Bool().Draw(rt, "account")
		steps := rapid.SliceOfN(rapid.Custom(drawModelStep), rapid.SampledFrom([]int{1, 30, 100}).Draw(rt, "least"), 150).Draw(rt, "steps")
		var m *poolModel
		synctest.Test(t, func(t *testing.T) { m = runPoolModel(t, cfgs, keys, account, steps) })
		if m.fail != "" {
			rt.Fatalf("%s\n%s", m.fail, strings.Join(m.story, "\n"))
		}
	})
}

type poolModel struct {
	modelBase[*poolModelCaller]
	p        *Pool
	cfg      modelConfig
	paused   map[*lane]time.Time
	observed bool // until since
}

type poolModelCaller struct {
	modelCaller
	permit KeyPermit
	key    *poolKey
	probe  bool
}

func (c modelConfig) pool(keys int, account bool) PoolConfig {
	p := PoolConfig{Guard: c.Config, Probe: 10 * time.Second, ProbeMax: time.Minute}
	if p.Guard.Law = nil; c.limit > 0 {
		law := c.Law
		p.NewLaw = func() adaptive.Law { return law } // which has no state
	}
	if account {
		p.Limit = LimitAccount
	}
	for i := range keys {
		p.Keys = append(p.Keys, NewSecret(fmt.Sprintf("key-%d", i)))
	}
	return p
}

func runPoolModel(t *testing.T, cfgs []modelConfig, keys int, account bool, steps []modelStep) *poolModel {
	m := &poolModel{cfg: cfgs[0], paused: map[*lane]time.Time{}}
	m.begun = time.Now()
	m.logf("%d keys, of an account: %v; %v", keys, account, m.cfg)
	p, err := NewPool(m.cfg.pool(keys, account))
	if err != nil {
		t.Fatal(err)
	}
	m.p = p
	m.run(steps, func(s modelStep) { m.step(s, cfgs, keys, account) }, m.settle, m.timer)
	m.end()
	return m
}

// timer returns in what time the pool's timer fires.
func (m *poolModel) timer() (in time.Duration, set bool) {
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	return m.p.timerAt - m.p.now(), m.p.timerSet
}

func (m *poolModel) step(s modelStep, cfgs []modelConfig, keys int, account bool) {
	pick := func(of []*poolModelCaller) *poolModelCaller { return of[s.n%len(of)] }
	switch s.op {
	default:
		c := &poolModelCaller{}
		ctx := m.comes(c, s, m.cfg.MaxWait)
		go func() {
			defer c.cancel()
			if c.tried {
				kp, ok := m.p.TryAcquire(c.r)
				if c.permit = kp; !ok {
					c.err = &NoKeyError{Reason: ReasonLimit}
				}
			} else {
				c.permit, c.err = m.p.Acquire(ctx, c.r)
			}
			m.mu.Lock()
			c.done, c.at, c.key, c.probe = true, time.Now(), c.permit.key, c.permit.call.probe != 0
			m.mu.Unlock()
		}()
	case 8, 9, 10, 11:
		if len(m.flying) > 0 {
			m.release(pick(m.flying), s.n)
		}
	case 12:
		if len(m.flying) > 0 {
			c := pick(m.flying)
			m.logf("call %d is abandoned", c.id)
			m.take(c)
			c.permit.Abandon()
			m.twice(c)
		}
	case 13, 14:
		m.leaves(s.n)
	case 15:
		cfg := cfgs[s.n%len(cfgs)]
		m.logf("reload: %v", cfg)
		if err := m.p.Reload(cfg.pool(keys, account)); err != nil {
			m.failf("Reload: %v", err)
		}
		m.observed = m.cfg.Observe
		m.reloaded(cfg)
		m.cfg = cfg
	case 16:
		l := m.p.lanes[s.n%len(m.p.lanes)]
		until := time.Now().Add(time.Duration(s.n%50) * time.Second)
		m.logf("pause of %s until %v", l.guard.name, until.Sub(m.begun))
		l.guard.Pause(until)
		m.pause(l, until)
	case 17:
		if s.n%3 == 0 {
			l := m.p.lanes[s.n%len(m.p.lanes)]
			m.logf("resume of %s", l.guard.name)
			l.guard.Resume()
			delete(m.paused, l)
		}
	case 18:
		if len(m.flying) > 0 {
			c := pick(m.flying)
			m.logf("call %d begins to be answered", c.id)
			if s.n%2 == 0 {
				c.permit.Accepted()
				c.probe = false
			}
			c.permit.Began()
		}
	case 19:
		switch {
		case s.n%16 == 0:
			m.logf("close")
			m.p.Close()
			m.closed = true
		case s.n%4 == 1 && m.cfg.Budget != nil:
			share := float64(s.n%5) / 4
			m.logf("share %v", share)
			m.p.lanes[s.n%len(m.p.lanes)].guard.ShareBudget([]float64{share, share})
		case s.n%4 == 2:
			k := m.p.keys[s.n%len(m.p.keys)]
			m.logf("key %d is suspect", k.index)
			m.p.Suspect(k.secret.Fingerprint())
		default:
			_ = m.p.Explain(s.n % 5).String()
		}
	}
}

func (m *poolModel) pause(l *lane, until time.Time) {
	if until.After(m.paused[l]) {
		m.paused[l] = until
	}
}

func (m *poolModel) take(c *poolModelCaller) {
	m.lands(c)
	c.lost = c.reclaimed()
}

// reclaimed reports whether the place of a call in flight was taken back.
func (c *poolModelCaller) reclaimed() bool {
	g := c.key.lane.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	b := c.permit.permit.more
	return b != nil && b.hold != nil && b.hold.taken
}

func (m *poolModel) release(c *poolModelCaller, n int) {
	o, fault := Outcome{}, KeyFine
	switch n % 12 {
	case 0:
		o = throttledFor(time.Duration(n/12%20) * time.Second)
	case 1:
		o = throttledFor(0)
	case 2:
		o, fault = unauthorized, KeyUnauthorized
	case 3:
		o.Class = feedback.ServerError
	case 4:
		o.Class = feedback.Timeout
	case 5:
		o.Class = feedback.Canceled
	case 6:
		o = brokeFor(time.Minute)
	case 7:
		o.InputTokens, o.OutputTokens = 5, int64(n%1000)
	case 8:
		o, fault = unauthorized, KeyForbidden
	}
	m.logf("call %d ends: %v %v %v", c.id, o.Class, o.RetryAfter, fault)
	m.take(c)
	if !c.lost && o.RetryAfter > 0 {
		m.pause(c.key.lane, time.Now().Add(o.RetryAfter))
	}
	c.permit.Release(o, fault)
	m.twice(c)
}

func (m *poolModel) twice(c *poolModelCaller) {
	defer func() {
		if recover() == nil {
			m.failf("call %d: a second release does not panic", c.id)
		}
	}()
	c.permit.Release(Outcome{}, KeyFine)
}

func (m *poolModel) settle() {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	started := m.answers(false) // a pool does not count those who try
	for _, c := range started {
		m.started(c)
	}
	flying := map[*lane]int{}
	byKey := map[*poolKey]int{}
	all := 0
	for _, c := range m.flying {
		if !c.reclaimed() {
			flying[c.key.lane]++
			byKey[c.key]++
			all++
		}
	}
	s := m.p.Stats()
	if s.InFlight != all || s.Waiting != len(m.waiting) {
		m.failf("Stats: %d in flight, %d waiting, want %d and %d", s.InFlight, s.Waiting, all, len(m.waiting))
	}
	fits := true
	for _, l := range m.p.lanes {
		g := l.guard.Stats()
		if g.InFlight != flying[l] || g.Waiting != 0 {
			m.failf("Stats of %s: %d in flight, %d waiting, want %d", g.Name, g.InFlight, g.Waiting, flying[l])
		}
		if flying[l] > g.Limit {
			fits = false
			if !m.loose && m.cfg.limit > 0 && !m.cfg.Observe {
				m.failf("%s: %d in flight, limit %d", g.Name, flying[l], g.Limit)
			}
		}
	}
	if fits {
		m.loose = m.cfg.Observe
	}
	for i, k := range s.Keys {
		if k.InFlight != byKey[m.p.keys[i]] {
			m.failf("key %d has %d in flight, want %d", i, k.InFlight, byKey[m.p.keys[i]])
		}
	}
	m.patient(0)
	for _, c := range m.waiting {
		if m.cfg.Observe && m.p.anyLive() {
			m.failf("caller %d waits at a pool that holds nothing back", c.id)
		}
	}
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	if len(m.waiting) > 0 && !m.p.timerSet {
		m.failf("%d wait, and no timer is set", len(m.waiting))
	}
	if m.p.kicks.Load() != 0 {
		m.failf("%d kicks were not answered", m.p.kicks.Load())
	}
}

func (m *poolModel) started(c *poolModelCaller) {
	m.logf("call %d starts with key %d, probe %v, asked at %v", c.id, c.key.index, c.probe, c.asked.Sub(m.begun))
	m.flying = append(m.flying, c)
	if m.closed {
		m.failf("call %d started at a closed pool", c.id)
	}
	if c.probe {
		for _, o := range m.flying {
			if o != c && o.probe && o.permit.Held() && o.key == c.key && !o.reclaimed() {
				m.failf("call %d is the second probe of key %d, beside call %d", c.id, c.key.index, o.id)
			}
		}
	}
	if m.cfg.Observe || m.observed && c.at.Equal(m.since) {
		return
	}
	if until := m.paused[c.key.lane]; c.at.Before(until) {
		m.failf("call %d started %v before the end of its key's pause", c.id, until.Sub(c.at))
	}
	m.first(&c.modelCaller, false)
}

func (m *poolModel) end() {
	m.modelBase.end(m.release, m.settle, m.timer, m.p.Close)
	if m.fail != "" {
		return
	}
	s := m.p.Stats()
	var refused uint64
	for _, n := range s.Counts.Refused {
		refused += n
	}
	if gone := refused + s.Counts.Canceled; gone != m.refused+m.gaveUp {
		m.failf("counted %d refused, %d canceled; want %d, %d", refused, s.Counts.Canceled, m.refused, m.gaveUp)
	}
	for _, l := range m.p.lanes {
		l.guard.mu.Lock()
		if sh := l.guard.shell.Load(); sh.timerSet || sh.wake != nil || sh.leaks.head != nil {
			m.failf("something is left at a guard of calls that have ended")
		}
		l.guard.mu.Unlock()
	}
}
