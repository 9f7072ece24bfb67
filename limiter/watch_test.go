package limiter

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/admission"
)

func leakAPermit(t *testing.T, g *Guard) Permit { return mustAcquire(t, g) }

func TestLeakIsReportedOnceAndReclaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 1, func(c *Config) { c.MaxHold = 10 * time.Second; c.Reclaim = true })
		var mu sync.Mutex
		var found []Leak
		g.OnLeak(func(l Leak) {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, l)
		})
		for range 3 { // those who release in time are no leaks
			p := mustAcquire(t, g)
			time.Sleep(9 * time.Second)
			p.Release(Outcome{})
		}
		p := leakAPermit(t, g)
		start := time.Now()
		next := mustAcquire(t, g) // waits for the place to be taken back
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("the place was taken back after %v, want 10s", d)
		}
		next.Release(Outcome{})
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(found) != 1 || !found[0].Reclaimed || found[0].Held != 10*time.Second {
			t.Fatalf("leaks %v, want one of 10 s that was reclaimed", found)
		}
		if s := found[0].String(); !strings.Contains(s, "leakAPermit") && !strings.Contains(s, "mustAcquire") {
			t.Errorf("the leak does not tell where it is from: %s", s)
		}
		p.Release(Outcome{}) // comes too late, and does nothing
		wantIdle(t, g)
	})
}

// A permit that is never released does not keep what is known of those that came after it.
func TestLeakKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 3, func(c *Config) { c.MaxHold = 10 * time.Second; c.Reclaim = true })
		forgotten := leakAPermit(t, g)
		time.Sleep(9 * time.Second)
		p := mustAcquire(t, g)
		for range 50 {
			time.Sleep(2 * time.Second)
			next := mustAcquire(t, g)
			p.Release(Outcome{})
			p = next
		}
		kept := 0
		for h := forgotten.more.hold; h != nil; h = h.next {
			kept++
		}
		if kept != 1 || !forgotten.more.hold.taken {
			t.Errorf("%d are kept, want the one that was taken back", kept)
		}
		p.Release(Outcome{})
		wantIdle(t, g)
	})
}

func TestLeakIsOnlyReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 2, func(c *Config) { c.MaxHold = 10 * time.Second })
		leaks := make(chan Leak, 10)
		g.OnLeak(func(l Leak) { leaks <- l })
		a, b := mustAcquire(t, g), mustAcquire(t, g)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(leaks) != 2 || g.Stats().InFlight != 2 {
			t.Errorf("%d leaks, %d in flight, want 2 and 2", len(leaks), g.Stats().InFlight)
		}
		a.Release(Outcome{})
		b.Release(Outcome{})
		wantIdle(t, g)
	})
}

// mode = "observe": nothing is held back, everything that would have been is counted.
func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 2, func(c *Config) { c.Observe = true; c.Queue = 1 })
		var held []Permit
		for range 10 {
			held = append(held, mustAcquire(t, g))
		}
		if s := g.Stats(); s.InFlight != 10 || s.Counts.Observed[admission.WhyLimit] != 8 {
			t.Errorf("%d in flight, observed %v, want 10, 8 of them over the limit", s.InFlight, s.Counts.Observed)
		}
		held[0].Release(Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Minute})
		if p, ok := g.TryAcquire(Request{}); !ok {
			t.Errorf("TryAcquire was refused inside a pause")
		} else {
			p.Release(Outcome{})
		}
		if n := g.Stats().Counts.Observed[admission.WhyPause]; n != 1 {
			t.Errorf("%d calls would have waited for the pause, want 1", n)
		}
		for i := range held[1:] {
			held[1+i].Release(Outcome{})
		}
		wantIdle(t, g)
	})
}

func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Name: "test", Adaptive: adaptive.Config{Initial: 2, Max: 2}, Seed: 1}
		g, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		a, b := mustAcquire(t, g), mustAcquire(t, g)
		var started sync.WaitGroup
		for range 3 {
			started.Go(func() {
				p := mustAcquire(t, g)
				time.Sleep(10 * time.Second)
				p.Release(Outcome{})
			})
		}
		synctest.Wait()

		bad := cfg
		bad.MaxWait = -1
		var e *FieldError
		if err := g.Reload(bad); !errors.As(err, &e) || e.Field != "MaxWait" {
			t.Errorf("Reload of a bad configuration: %v, want the FieldError of MaxWait", err)
		}
		if s := g.Stats(); s.Limit != 2 || s.Waiting != 3 {
			t.Errorf("a bad configuration changed something: %+v", s)
		}

		cfg.Adaptive = adaptive.Config{Min: 4, Max: 10}
		if err := g.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the law may have the first calls start one after the other
		if s := g.Stats(); s.Limit != 4 || s.InFlight != 4 || s.Waiting != 1 {
			t.Errorf("after a larger limit: %+v, want limit 4, 4 in flight and 1 waiting", s)
		}
		cfg.Adaptive = adaptive.Config{Max: 1}
		if err := g.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		a.Release(Outcome{})
		b.Release(Outcome{})
		if s := g.Stats(); s.Limit != 1 || s.InFlight != 2 || s.Waiting != 1 {
			t.Errorf("after a smaller limit: %+v, want limit 1, 2 in flight and 1 waiting", s)
		}
		started.Wait()
		wantIdle(t, g)
	})
}

func TestReloadUnderLoad(t *testing.T) {
	g, err := New(Config{Adaptive: adaptive.Config{Initial: 4, Max: 4}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			limit := 1 + i%7
			err := g.Reload(Config{Adaptive: adaptive.Config{Initial: limit, Min: limit, Max: limit}, Seed: 1, TimeOneIn: 1 << (i % 5)})
			if err != nil {
				t.Errorf("Reload: %v", err)
			}
		}
	})
	var calls sync.WaitGroup
	for range 16 {
		calls.Go(func() {
			for range 3000 {
				p, err := g.Acquire(context.Background(), Request{})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				p.Release(Outcome{})
			}
		})
	}
	calls.Wait()
	close(stop)
	reloads.Wait()
	wantIdle(t, g)
	if n := g.Stats().Counts.Outcomes[feedback.OK]; n != 16*3000 {
		t.Errorf("%d calls ended well, want %d", n, 16*3000)
	}
}

func TestDecisionsAreLoggedNotTooOften(t *testing.T) {
	var b strings.Builder
	logger := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	log := LogDecisions(logger, "openai", 2)
	for i := range 10 {
		log(Decision{At: time.Duration(i) * time.Millisecond, Decision: adaptive.Decision{Limit: i + 1, Cause: adaptive.CauseProbe}})
	}
	log(Decision{At: 10 * time.Second, Decision: adaptive.Decision{Limit: 5, Pace: 2.5, Cause: adaptive.CauseThrottled, Binding: feedback.ScopeRequests, Episode: 3}})
	want := `level=INFO msg="limit changed" guard=openai cause=probe limit=1 binding=none episode=0
level=INFO msg="limit changed" guard=openai cause=probe limit=2 binding=none episode=0
level=INFO msg="limit changed" guard=openai cause=throttled limit=5 pace=2.5 binding=requests episode=3 skipped=8
`
	if b.String() != want {
		t.Errorf("log\n%swant\n%s", b.String(), want)
	}
}

// A pace that alone moves, with the header of each answer, is not logged each time; one that doubles or halves is, and so is a pause.
func TestPacesAreLoggedWhenTheyDouble(t *testing.T) {
	var b strings.Builder
	log := LogDecisions(slog.New(slog.NewTextHandler(&b, nil)), "openai", 10)
	d := Decision{Decision: adaptive.Decision{Limit: 5, Cause: adaptive.CauseHint}}
	for _, pace := range []float64{100, 120, 90, 150, 199, 200, 150, 101, 100, 0, 1} { // 100, 200, 100, 0 and 1 are logged
		d.At, d.Pace = d.At+time.Second, pace
		log(d)
	}
	d.NotBefore = time.Minute
	log(d)
	if n := strings.Count(b.String(), "limit changed"); n != 6 {
		t.Errorf("the log has %d lines, want 6:\n%s", n, b.String())
	}
}

// What is cut is logged although the limit grew many times just before.
func TestCutsAreLoggedAmongGrowth(t *testing.T) {
	var b strings.Builder
	log := LogDecisions(slog.New(slog.NewTextHandler(&b, nil)), "openai", 10)
	for i := range 1000 { // 100 a second
		d := Decision{At: time.Duration(i) * 10 * time.Millisecond, Decision: adaptive.Decision{Limit: i + 1, Cause: adaptive.CauseProbe}}
		if i%100 == 50 {
			d.Cause = adaptive.CauseThrottled
		}
		log(d)
	}
	if n := strings.Count(b.String(), "cause=throttled"); n != 10 {
		t.Errorf("%d of 10 cuts are in the log:\n%s", n, b.String())
	}
	if n := strings.Count(b.String(), "\n"); n < 90 || n > 110 {
		t.Errorf("%d lines in 10 s, want about 100", n)
	}
}

func TestTimeOneIn(t *testing.T) {
	g := newGuard(t, 8, func(c *Config) { c.TimeOneIn = 16 })
	for range 10_000 {
		p := mustAcquire(t, g)
		p.Release(Outcome{})
	}
	p := mustAcquire(t, g)
	p.Release(Outcome{InputTokens: 3})
	p = mustAcquire(t, g)
	p.Release(Outcome{Class: feedback.Throttled})
	if n := g.Stats().Counts.Outcomes; n[feedback.OK] != 10_001 || n[feedback.Throttled] != 1 {
		t.Errorf("outcomes %v, want 10001 that ended well and 1 refusal", n)
	}
	wantIdle(t, g)
}
