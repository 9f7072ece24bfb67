package limiter

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// liftingLaw allows a start in 30 s until a second has passed, and then any number.
type liftingLaw struct {
	*adaptive.Fixed
	d adaptive.Decision
}

func newLiftingLaw(limit int) adaptive.Law {
	l := &liftingLaw{Fixed: adaptive.NewFixed(limit)}
	l.d = l.Fixed.Decision()
	l.d.Pace, l.d.Until = 1./30, time.Second
	return l
}

func (l *liftingLaw) Decision() adaptive.Decision { return l.d }

func (l *liftingLaw) Ended(time.Duration, adaptive.Call, Outcome) adaptive.Decision { return l.d }

func (l *liftingLaw) Window(now time.Duration, _ adaptive.Window) adaptive.Decision {
	if now >= l.d.Until {
		l.d.Until, l.d.Pace = 0, 0
	}
	return l.d
}

// panicsOnce returns a listener that panics the first time.
func panicsOnce[E any]() func(E) {
	panics := true
	return func(E) {
		if panics {
			panics = false
			panic("a listener")
		}
	}
}

func wantPanic(t testing.TB, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("the listener did not panic")
		}
	}()
	f()
}

// A caller that a listener's panic ends while it asks leaves nothing behind, whether it would have started or waited.
func TestListenerPanicsWhileACallerAsks(t *testing.T) {
	acquire := func(g *Guard) { _, _ = g.Acquire(context.Background(), Request{}) }
	for name, c := range map[string]struct {
		limit int
		ask   func(*Guard)
	}{
		"starts":         {2, acquire},
		"starts at once": {2, func(g *Guard) { g.TryAcquire(Request{}) }},
		"waits":          {1, acquire},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, c.limit, func(cfg *Config) { cfg.Law = newLiftingLaw(c.limit) })
				g.OnDecision(panicsOnce[Decision]())
				p := mustAcquire(t, g)
				time.Sleep(2 * time.Second)
				wantPanic(t, func() { c.ask(g) })
				p.Release(Outcome{})
				wantIdle(t, g)
			})
		})
	}
}

// A pool goes on serving its queue after a listener of one of its guards has panicked in whoever served it.
func TestListenerPanicsWhileAPoolServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2}, func(c *PoolConfig) { c.NewLaw = func() adaptive.Law { return newLiftingLaw(2) } })
		p.Guards()[0].OnDecision(panicsOnce[Decision]())
		first := takeKey(t, p)
		started := make(chan KeyPermit, 1)
		wait := func() {
			kp, err := p.Acquire(context.Background(), Request{})
			if err != nil {
				t.Error(err)
			}
			started <- kp
		}
		go wait()
		time.Sleep(2 * time.Second)
		wantPanic(t, func() { _, _ = p.Acquire(context.Background(), Request{}) })
		synctest.Wait()
		if s := p.Stats(); s.InFlight != 2 || s.Waiting != 0 || len(started) != 1 {
			t.Fatalf("%d in flight, %d waiting, want the one who waited to start, and whoever was told of the panic to leave", s.InFlight, s.Waiting)
		}
		go wait()
		synctest.Wait()
		first.Release(okay, KeyFine)
		for range 2 {
			kp := <-started
			kp.Release(okay, KeyFine)
		}
		if s := p.Stats(); s.InFlight != 0 || s.Waiting != 0 || p.Guards()[0].Stats().InFlight != 0 {
			t.Errorf("in the end %d in flight, %d waiting", s.InFlight, s.Waiting)
		}
	})
}

// A probe that a listener's panic kept from being sent is made later.
func TestListenerPanicsWhileAPoolProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, []int{2}, func(c *PoolConfig) {
			c.Probe, c.NewLaw = time.Second, func() adaptive.Law { return newLiftingLaw(2) }
		})
		p.Guards()[0].OnDecision(panicsOnce[Decision]())
		kp := takeKey(t, p)
		kp.Release(unauthorized, KeyUnauthorized)
		time.Sleep(2 * time.Second)
		wantPanic(t, func() { p.TryAcquire(Request{}) })
		kp, ok := p.TryAcquire(Request{})
		if !ok || !kp.Probe() {
			t.Fatalf("TryAcquire: %v, probe %v, want a probe", ok, kp.call.probe)
		}
		kp.Release(okay, KeyFine)
		if s := p.Stats(); s.InFlight != 0 || s.InService != 1 || p.Guards()[0].Stats().InFlight != 0 {
			t.Errorf("in the end: %+v", s)
		}
	})
}

// Those who wait hear of a key that comes back or goes out, also when a listener panics.
func TestListenerOfKeysPanicsWhileCallersWait(t *testing.T) {
	t.Run("back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, []int{2}, func(c *PoolConfig) { c.Probe = time.Second })
			kp := takeKey(t, p)
			kp.Release(unauthorized, KeyUnauthorized)
			time.Sleep(2 * time.Second)
			probe := takeKey(t, p)
			started := make(chan KeyPermit, 1)
			go func() {
				kp, _ := p.Acquire(context.Background(), Request{})
				started <- kp
			}()
			synctest.Wait()
			p.OnKey(panicsOnce[KeyEvent]())
			wantPanic(t, probe.Accepted)
			synctest.Wait()
			if len(started) != 1 {
				t.Error("the key is back, and the caller waits on")
			}
			probe.Release(okay, KeyFine)
			kp = <-started
			kp.Release(okay, KeyFine)
		})
	})
	t.Run("out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, []int{1}, nil)
			kp := takeKey(t, p)
			refused := make(chan error, 1)
			go func() {
				_, err := p.Acquire(context.Background(), Request{})
				refused <- err
			}()
			synctest.Wait()
			p.OnKey(panicsOnce[KeyEvent]())
			wantPanic(t, func() {
				for range suspectsMost {
					p.Suspect(kp.Key())
				}
			})
			begun := time.Now()
			if err := <-refused; !errors.Is(err, ErrNoKey) || time.Since(begun) > 0 {
				t.Errorf("after %v: %v, want ErrNoKey at once", time.Since(begun), err)
			}
			kp.Release(okay, KeyFine)
		})
	})
}

// panickingLaw is a fixed limit that has a fault, and wants to see each call.
type panickingLaw struct{ *adaptive.Fixed }

func (l panickingLaw) Decision() adaptive.Decision {
	d := l.Fixed.Decision()
	d.AskAgain = 0
	return d
}

func (l panickingLaw) Ended(time.Duration, adaptive.Call, Outcome) adaptive.Decision { panic("a law") }

func (l panickingLaw) Hint(time.Duration, feedback.Window) adaptive.Decision { panic("a law") }

func (l panickingLaw) Window(_ time.Duration, w adaptive.Window) adaptive.Decision {
	if w.OK > 0 {
		panic("a law")
	}
	return l.Decision()
}

// A call whose end a law's panic meets has ended: its place is whose turn it is.
func TestLawPanicsAtTheEndOfACall(t *testing.T) {
	law := func() adaptive.Law { return panickingLaw{adaptive.NewFixed(1)} }
	for name, o := range map[string]Outcome{
		"well":     {},
		"spent":    {OutputTokens: 5},
		"refused":  {Class: feedback.Throttled},
		"told":     {Windows: []feedback.Window{{Kind: feedback.ScopeRequests, Limit: 5}}},
		"canceled": {Class: feedback.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(t, 1, func(c *Config) { c.Law = law() })
				p := mustAcquire(t, g)
				next := make(chan Permit, 1)
				go func() { next <- mustAcquire(t, g) }()
				synctest.Wait()
				wantPanic(t, func() { p.Release(o) })
				synctest.Wait()
				select {
				case p = <-next:
				default:
					t.Fatalf("the one who waits is not let in: %d in flight", g.Stats().InFlight)
				}
				p.Abandon()
				wantIdle(t, g)
			})
		})
		t.Run("pool, "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, err := NewPool(PoolConfig{NewLaw: law, Keys: []Secret{NewSecret("a")}})
				if err != nil {
					t.Fatal(err)
				}
				kp, err := p.Acquire(t.Context(), Request{})
				if err != nil {
					t.Fatal(err)
				}
				next := make(chan KeyPermit, 1)
				go func() {
					kp, err := p.Acquire(t.Context(), Request{})
					if err != nil {
						t.Error(err)
					}
					next <- kp
				}()
				synctest.Wait()
				wantPanic(t, func() { kp.Release(o, KeyFine) })
				synctest.Wait()
				select {
				case kp = <-next:
				default:
					t.Fatalf("the one who waits is not let in: %+v", p.Stats())
				}
				kp.Abandon()
			})
		})
	}
}
