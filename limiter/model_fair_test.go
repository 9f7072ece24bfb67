package limiter

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// TestModelShares runs random histories of a guard, or of a pool, whose callers are of several tenants, and holds what was started against
// what the documentation says of tenants: those of one priority that wait share by their weights, counted in tokens. While two of
// them wait, what the one was given for its weight is never more than one of its largest calls, and one of the other's, ahead of what the other was
// given for its own. Where there is a budget, what calls used counts in place of what was expected: then each call in flight may be wrong
// by what it used more or less. What a tenant's callers did not call for, or gave up, does not count, but for as long as it held its place; then each call in
// flight may be such a one.
func TestModelShares(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &shareModel{charges: rapid.Bool().Draw(rt, "charges"), unmade: rapid.Bool().Draw(rt, "unmade"), given: map[shareLine]*shareGiven{}}
		m.atOnce = rapid.Bool().Draw(rt, "at once") || m.charges // else what they are expected to use counts, which nobody tells
		m.limit = rapid.IntRange(1, 3).Draw(rt, "limit")
		m.weights = map[string]float64{"a": rapid.SampledFrom([]float64{1, 2, 3, 10}).Draw(rt, "a"), "b": rapid.SampledFrom([]float64{0.25, 1}).Draw(rt, "b")}
		m.aging = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(rt, "aging")
		m.drop = Drop(rapid.IntRange(0, 3).Draw(rt, "drop"))
		m.queue = rapid.SampledFrom([]int{0, 0, 8}).Draw(rt, "queue")
		m.sizes = rapid.SliceOfN(rapid.SampledFrom([]int64{1, 10, 100}), 1, 3).Draw(rt, "sizes")
		pool := rapid.Bool().Draw(rt, "pool")
		steps := rapid.SliceOfN(rapid.IntRange(0, 1<<16), 150, 400).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) { m.run(t, pool, steps) })
		if m.fail != "" {
			rt.Fatalf("%s\npool %v, limit %d, weights %v, aging %v, drop %v, queue %d, charges %v, unmade %v\n%s", m.fail, pool, m.limit, m.weights, m.aging, m.drop, m.queue, m.charges, m.unmade, strings.Join(m.story, "\n"))
		}
	})
}

type shareModel struct {
	limit, queue int
	weights      map[string]float64
	aging        time.Duration
	drop         Drop
	sizes        []int64
	charges      bool // there is a budget, and calls use something else than expected
	unmade       bool // of one tenant's calls most are not made
	atOnce       bool // and give their places back in the instant in which they got them

	modelStory
	ask func(context.Context, Request) (shareCall, error)

	mu      sync.Mutex // guards what callers write
	asked   int
	waiting []*shareCaller
	flying  []*shareCaller
	given   map[shareLine]*shareGiven
}

// shareLine is a tenant's callers of one priority.
type shareLine struct {
	tenant   string
	priority uint8
}

// shareGiven is what a line was given.
type shareGiven struct {
	waits bool
	most  float64 // of one call, for its weight
	total float64 // for its weight
	since map[shareLine]float64
}

type shareCaller struct {
	id      int
	r       Request
	used    int64
	cancel  context.CancelFunc
	done    bool
	started bool
	shareCall
}

// shareCall is how a call in flight ends.
type shareCall struct {
	release func(Outcome)
	abandon func()
	turn    func() float64
}

func (c *shareCaller) line() shareLine { return shareLine{c.r.Tenant, c.r.Priority} }

func (m *shareModel) weight(tenant string) float64 {
	if w := m.weights[tenant]; w > 0 {
		return w
	}
	return 1
}

func (m *shareModel) run(t *testing.T, pool bool, steps []int) {
	m.begun = time.Now()
	cfg := Config{Law: adaptive.NewFixed(m.limit), Queue: m.queue, MaxWait: time.Hour, Room: &Room{Weights: m.weights, Aging: m.aging, Drop: m.drop}}
	if m.charges {
		cfg.Budget = &Budget{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1 << 40}}}
	}
	if pool {
		p, err := NewPool(PoolConfig{Guard: cfg, Keys: []Secret{NewSecret("key")}})
		if err != nil {
			t.Fatal(err)
		}
		m.ask = func(ctx context.Context, r Request) (shareCall, error) {
			kp, err := p.Acquire(ctx, r)
			return shareCall{func(o Outcome) { kp.Release(o, KeyFine) }, kp.Abandon, kp.permit.turn}, err
		}
	} else {
		g, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.ask = func(ctx context.Context, r Request) (shareCall, error) {
			p, err := g.Acquire(ctx, r)
			return shareCall{p.Release, p.Abandon, p.turn}, err
		}
	}
	for i, n := range steps {
		if m.fail != "" {
			break
		}
		time.Sleep(time.Millisecond)
		op := n % 8
		n /= 8
		if m.charges { // what was charged to one who does not wait counts when he comes back: all come first
			op = 7 * min(1, i/(len(steps)*2/3))
		}
		switch {
		case op < 4:
			m.arrive(n)
		case op == 4 && len(m.waiting) > 0:
			c := m.waiting[n%len(m.waiting)]
			m.logf("caller %d gives up", c.id)
			c.cancel()
		case len(m.flying) > 0:
			m.end(m.flying[n%len(m.flying)])
		}
		m.settle()
		for m.atOnce {
			i := slices.IndexFunc(m.flying, m.notMade)
			if i < 0 {
				break
			}
			m.end(m.flying[i])
			m.settle()
		}
	}
	for _, c := range m.waiting {
		c.cancel()
	}
	time.Sleep(time.Second) // while waits are short, who gives up is noticed a little later
	synctest.Wait()
	for _, c := range append(m.flying, m.waiting...) {
		if c.started {
			c.release(Outcome{})
		}
	}
}

func (m *shareModel) arrive(n int) {
	draw := func(of int) int { x := n % of; n /= of; return x }
	c := &shareCaller{id: m.asked}
	m.asked++
	c.r = Request{Tenant: []string{"", "a", "b"}[draw(3)], Priority: uint8(draw(4) / 3), Tokens: m.sizes[draw(len(m.sizes))], Retry: draw(8) == 0}
	if c.used = c.r.Tokens; m.charges {
		c.used = []int64{1, c.r.Tokens, 3 * c.r.Tokens}[draw(3)]
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	m.logf("caller %d asks: %+v", c.id, c.r)
	m.waiting = append(m.waiting, c)
	go func() {
		call, err := m.ask(ctx, c.r)
		m.mu.Lock()
		defer m.mu.Unlock()
		c.done, c.started, c.shareCall = true, err == nil, call
	}()
}

func (m *shareModel) end(c *shareCaller) {
	m.flying = slices.DeleteFunc(m.flying, func(o *shareCaller) bool { return o == c })
	defer c.cancel()
	if m.notMade(c) {
		turn := c.turn()
		m.logf("call %d is not made, and held its place for %.2f of a call", c.id, turn)
		m.of(c.line()).total -= float64(c.r.Tokens) * (1 - turn) / m.weight(c.r.Tenant)
		c.abandon()
		return
	}
	m.logf("call %d ends, and used %d", c.id, c.used)
	o := Outcome{}
	if m.charges {
		o.InputTokens = c.used
		m.of(c.line()).total += float64(c.used-c.r.Tokens) / m.weight(c.r.Tenant)
	}
	c.release(o)
}

// notMade reports whether a call that has started is not made.
func (m *shareModel) notMade(c *shareCaller) bool {
	return m.unmade && c.r.Tenant == "a" && c.id%4 > 0
}

func (m *shareModel) of(l shareLine) *shareGiven {
	g := m.given[l]
	if g == nil {
		g = &shareGiven{since: map[shareLine]float64{}}
		m.given[l] = g
	}
	return g
}

// settle looks at who has started, and whether those that wait have had their shares.
func (m *shareModel) settle() {
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	waits := map[shareLine]bool{}
	m.waiting = slices.DeleteFunc(m.waiting, func(c *shareCaller) bool {
		if c.started {
			m.logf("call %d starts", c.id)
			m.flying = append(m.flying, c)
			m.of(c.line()).total += float64(c.r.Tokens) / m.weight(c.r.Tenant)
		}
		if !c.done {
			waits[c.line()] = true
		}
		wrong := int64(0)
		switch {
		case m.charges:
			wrong = int64(m.limit) * 2 * c.r.Tokens
		case m.unmade:
			wrong = int64(m.limit) * c.r.Tokens
		}
		g := m.of(c.line())
		g.most = max(g.most, float64(c.r.Tokens+wrong)/m.weight(c.r.Tenant))
		return c.done
	})
	for l, g := range m.given {
		if g.waits = waits[l] && g.waits; !waits[l] {
			clear(g.since)
		}
	}
	lines := make([]shareLine, 0, len(waits))
	for l := range waits {
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b shareLine) int { return cmp.Compare(a.tenant, b.tenant) })
	for _, a := range lines {
		for _, b := range lines {
			if a.priority != b.priority || a.tenant == b.tenant {
				continue
			}
			ga, gb := m.given[a], m.given[b]
			from, both := ga.since[b]
			if !both || !ga.waits || !gb.waits {
				ga.since[b] = ga.total - gb.total // both wait from now on
				continue
			}
			most := ga.most + gb.most
			for l, g := range m.given {
				if l.priority == a.priority {
					most = max(most, ga.most+gb.most+g.most)
				}
			}
			if ahead := ga.total - gb.total - from; ahead > most+1e-6 {
				m.failf("%q of priority %d was given %.3f more for its weight than %q, at most %.3f is fair", a.tenant, a.priority, ahead, b.tenant, most)
			}
		}
	}
	for l := range waits {
		m.given[l].waits = true
	}
}
