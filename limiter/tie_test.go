package limiter

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// tied is a call that is tied to its context.
type tied struct {
	ctx    context.Context
	permit Permit
	tie    Tie
	once   sync.Once
	ended  *atomic.Int64
}

func (c *tied) Context() context.Context { return c.ctx }

func (c *tied) ContextEnded() { c.end(feedback.Canceled) }

func (c *tied) end(class feedback.Class) {
	c.once.Do(func() {
		c.tie.End()
		c.permit.Release(Outcome{Class: class})
		if c.ended != nil {
			c.ended.Add(1)
		}
	})
}

func startTied(t testing.TB, g *Guard, ctx context.Context) *tied {
	t.Helper()
	p, err := g.Acquire(ctx, Request{})
	if err != nil {
		t.Fatal(err)
	}
	c := &tied{ctx: ctx, permit: p}
	c.permit.Tie(&c.tie, c)
	return c
}

func oneAtATime(t testing.TB, edit func(*Config)) *Guard {
	t.Helper()
	cfg := Config{Law: adaptive.NewFixed(1), MaxWait: time.Hour}
	if edit != nil {
		edit(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A place that a forgotten call holds goes to whoever needs it, whenever its context ended.
func TestForgottenCallGivesItsPlaceBack(t *testing.T) {
	for name, when := range map[string]time.Duration{"before anybody waits": -time.Second, "while somebody waits": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := oneAtATime(t, nil)
				ctx, cancel := context.WithCancel(context.Background())
				startTied(t, g, ctx)
				began := time.Now()
				if when < 0 {
					cancel()
				} else {
					time.AfterFunc(when, cancel)
				}
				p, err := g.Acquire(context.Background(), Request{})
				if err != nil || time.Since(began) != max(0, when) {
					t.Fatalf("%v after %v, want a permit after %v", err, time.Since(began), max(0, when))
				}
				p.Release(Outcome{})
			})
		})
	}
}

// Calls that start while somebody waits are watched from their start.
func TestTieWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := oneAtATime(t, nil)
		first, err := g.Acquire(context.Background(), Request{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan time.Duration)
		began := time.Now()
		go func() { startTied(t, g, ctx) }()
		time.Sleep(time.Millisecond)
		go func() {
			if _, err := g.Acquire(context.Background(), Request{}); err != nil {
				t.Error(err)
			}
			got <- time.Since(began)
		}()
		time.Sleep(time.Second)
		first.Release(Outcome{})
		time.Sleep(time.Second)
		cancel()
		if d := <-got; d != 2*time.Second+time.Millisecond {
			t.Errorf("the second caller waited %v, want until the first one's context ended", d)
		}
	})
}

// Without a queue nobody waits, so nobody would ask: the context is watched.
func TestTieWithoutAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := oneAtATime(t, func(c *Config) { c.Queue = -1 })
		ctx, cancel := context.WithCancel(context.Background())
		startTied(t, g, ctx)
		cancel()
		synctest.Wait()
		if p, ok := g.TryAcquire(Request{}); !ok {
			t.Error("the place is still held")
		} else {
			p.Release(Outcome{})
		}
	})
}

func TestStatsDoNotCountForgottenCalls(t *testing.T) { synctest.Test(t, statsDoNotCountForgottenCalls) }

func statsDoNotCountForgottenCalls(t *testing.T) {
	g := oneAtATime(t, func(c *Config) { c.Law = adaptive.NewFixed(5000) })
	ctx, cancel := context.WithCancel(context.Background())
	kept := startTied(t, g, context.WithoutCancel(ctx))
	for range 3000 { // more than there are slots
		startTied(t, g, ctx)
	}
	if n := g.Stats().InFlight; n != 3001 {
		t.Errorf("%d in flight, want 3001", n)
	}
	cancel()
	synctest.Wait() // those for which there was no slot end on goroutines of their own
	s := g.Stats()
	if s.InFlight != 1 || s.Counts.Outcomes[feedback.Canceled] != 3000 {
		t.Errorf("%d in flight, outcomes %v; want 1 and 3000 canceled", s.InFlight, s.Counts.Outcomes)
	}
	kept.end(feedback.OK)
}

// Ends, contexts that end, and callers who wait, all at once: each permit is released once, and nobody waits for ever.
func TestTieStress(t *testing.T) { synctest.Test(t, tieStress) }

func tieStress(t *testing.T) {
	g := oneAtATime(t, func(c *Config) { c.Law, c.Queue = adaptive.NewFixed(8), 10_000 })
	var ended atomic.Int64
	var all sync.WaitGroup
	const goroutines, calls = 32, 400
	for i := range goroutines {
		all.Go(func() {
			for j := range calls {
				ctx, cancel := context.WithCancel(context.Background())
				p, err := g.Acquire(context.Background(), Request{})
				if err != nil {
					t.Error(err)
				}
				c := &tied{ctx: ctx, permit: p, ended: &ended}
				c.permit.Tie(&c.tie, c)
				if j%7 == 0 {
					runtime.Gosched()
				}
				switch (i + j) % 4 {
				case 0: // forgets it
					cancel()
				case 1: // both at once
					go cancel()
					c.end(feedback.OK)
				default:
					c.end(feedback.OK)
					c.tie.End()
					cancel()
				}
			}
		})
	}
	all.Wait()
	g.Stats()
	synctest.Wait()
	if n, e := g.Stats().InFlight, ended.Load(); n != 0 || e != goroutines*calls {
		t.Errorf("%d in flight, %d ended; want 0 and %d", n, e, goroutines*calls)
	}
	slots := 0
	g.ties.Load().each(func(*Tie) { slots++ })
	if slots != 0 {
		t.Errorf("%d calls are still noted", slots)
	}
}

// keyTied is a call of a pool that is tied to its context.
type keyTied struct {
	ctx    context.Context
	permit KeyPermit
	tie    Tie
	once   sync.Once
}

func (c *keyTied) Context() context.Context { return c.ctx }

func (c *keyTied) ContextEnded() {
	c.once.Do(func() {
		c.tie.End()
		c.permit.Release(Outcome{Class: feedback.Canceled}, KeyFine)
	})
}

// Where nobody waits for a key, nobody has the contexts watched either, so a forgotten call is watched from its start.
func TestForgottenCallOfAPoolWithoutAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{1, 1}, func(c *PoolConfig) { c.Guard.Queue = -1 })
		ctx, cancel := context.WithCancel(context.Background())
		for range 2 {
			kp, err := p.Acquire(ctx, Request{})
			if err != nil {
				t.Fatal(err)
			}
			c := &keyTied{ctx: ctx, permit: kp}
			c.permit.Tie(&c.tie, c)
		}
		cancel()
		synctest.Wait()
		for range 2 {
			if _, err := p.Acquire(context.Background(), Request{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// As soon as a call with a key is noted, whoever waits may end it. The race detector sees when its permit is looked at after that.
func TestForgottenCallOfAPoolIsEndedAtOnce(t *testing.T) {
	p := newPool(t, []int{2}, nil)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				p.lanes[0].guard.ties.Load().watch() // as whoever has to wait does
			}
		}
	})
	for range 200 {
		kp, err := p.Acquire(context.Background(), Request{})
		if err != nil {
			t.Fatal(err)
		}
		c := &keyTied{ctx: gone, permit: kp}
		c.permit.Tie(&c.tie, c)
		for p.lanes[0].guard.core.InFlight() > 0 {
			runtime.Gosched()
		}
	}
	close(done)
	others.Wait()
	if n := p.Stats().InFlight; n != 0 {
		t.Errorf("%d in flight, want none", n)
	}
}
