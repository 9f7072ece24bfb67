package limiter

import (
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewGroup(GroupConfig{Guard: Config{Adaptive: adaptive.Config{Initial: 8}}, Idle: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		a, b := p.Guard("a"), p.Guard("b")
		if a == b || p.Guard("a") != a || a.Name() != "a" || p.Len() != 2 {
			t.Fatalf("guards %p %p %p, %d of them", a, b, p.Guard("a"), p.Len())
		}
		permit := mustAcquire(t, a)
		permit.Release(Outcome{Class: feedback.Throttled})
		as, bs, fresh := a.Stats(), b.Stats(), p.Guard("c").Stats()
		if !lowered(as, fresh) || bs.Limit != 8 || bs.Pace != fresh.Pace {
			t.Errorf("limits %d and %d, paces %v and %v; want a's lowered and b's as at the start", as.Limit, bs.Limit, as.Pace, bs.Pace)
		}
		p.Forget("c")
		if n := p.Sweep(); n != 0 {
			t.Errorf("%d guards gave back what they learned before they were idle", n)
		}
		time.Sleep(2 * time.Minute)
		if n := p.Sweep(); n != 1 || a.Stats().Limit != 8 || a.Stats().Pace != fresh.Pace {
			t.Errorf("after being idle: %d swept, limit %d, pace %v, want 1 and all as at the start", n, a.Stats().Limit, a.Stats().Pace)
		}
		permit = mustAcquire(t, a)
		if p.Forget("a") {
			t.Errorf("a guard in use was forgotten")
		}
		permit.Release(Outcome{})
		if !p.Forget("a") || p.Len() != 1 {
			t.Errorf("an idle guard was not forgotten")
		}
	})
}

// A guard that was closed refuses callers for good, however long it is idle.
func TestGroupGuardStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewGroup(GroupConfig{Idle: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		g := p.Guard("a")
		g.Close()
		time.Sleep(2 * time.Minute)
		p.Sweep()
		if _, err := g.Acquire(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Acquire: %v, want %v", err, ErrClosed)
		}
	})
}

// lowered reports whether a refusal made a guard more careful than it was: fewer at once, or a lower pace.
func lowered(after, before Stats) bool {
	return after.Limit < before.Limit || after.Pace > 0 && (before.Pace == 0 || after.Pace < before.Pace)
}

func TestGroupConfigIsChecked(t *testing.T) {
	for _, cfg := range []GroupConfig{
		{Idle: time.Millisecond},
		{Guard: Config{Law: adaptive.NewFixed(1)}},
		{Guard: Config{Queue: -5}},
	} {
		var e *FieldError
		if _, err := NewGroup(cfg); !errors.As(err, &e) {
			t.Errorf("NewGroup(%+v): %v, want a FieldError", cfg, err)
		}
	}
	_, err := NewGroup(GroupConfig{Idle: time.Millisecond, Guard: Config{Law: adaptive.NewFixed(1), Queue: -5, MaxWait: -1}})
	for _, field := range []string{"GroupConfig.Idle", "GroupConfig.Guard.Law", "Queue", "MaxWait"} {
		if !strings.Contains(fmt.Sprint(err), "limiter: "+field+" is ") {
			t.Errorf("NewGroup does not say that %s is out of range: %v", field, err)
		}
	}
}

// What watches permits and tells listeners is given back, too, of guards that have met no limit: with 100,000 keys it is 35 MB.
func TestGroupGivesBackWhatWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewGroup(GroupConfig{Guard: Config{MaxHold: time.Minute}, Idle: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		g := p.Guard("a")
		g.OnDecision(func(Decision) {})()
		permit := mustAcquire(t, g)
		time.Sleep(time.Second)
		if p.Sweep(); g.shell.Load() == nil {
			t.Fatal("a permit that is held is not watched any more")
		}
		permit.Release(Outcome{})
		if p.Sweep(); g.shell.Load() != nil {
			t.Error("what watched the permit is still there")
		}
		leaks := make(chan Leak, 1)
		mustAcquire(t, g)
		g.OnLeak(func(l Leak) { leaks <- l })
		<-leaks
	})
}

// In virtual time, as a law holds callers back after refusals. A caller that nobody wakes up is a deadlock of the bubble.
func TestGroupFromManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewGroup(GroupConfig{})
		if err != nil {
			t.Fatal(err)
		}
		var gaveUp atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := range 2000 {
					g := p.Guard(fmt.Sprint(i % 100))
					dark := i%10 == 0 // the upstream of this key refuses every call, so callers may give up
					permit, err := g.Acquire(t.Context(), Request{})
					if err != nil {
						var e *RejectedError
						if !dark || !errors.As(err, &e) || e.Reason != ReasonMaxWait && e.Reason != ReasonPaused && e.Reason != ReasonHeld {
							t.Errorf("call %d: %v", i, err)
							return
						}
						gaveUp.Add(1)
						continue
					}
					o := Outcome{}
					if dark {
						o.Class = feedback.Throttled
					}
					permit.Release(o)
					if i%50 == 0 {
						p.Sweep()
					}
				}
			})
		}
		wg.Wait()
		if n := gaveUp.Load(); n > 8*2000/10/2 {
			t.Errorf("%d callers gave up, want fewer than half of those whose upstream refused everything", n)
		}
		if p.Len() != 100 {
			t.Errorf("%d guards, want 100", p.Len())
		}
		for i := range 100 {
			wantIdle(t, p.Guard(fmt.Sprint(i)))
		}
	})
}

// The memory of a guard: without a law while it has met no limit, with one afterwards, and given back when idle.
func TestGroupMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("counts the heap")
	}
	const n = 20_000
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%06d", i)
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	p, err := NewGroup(GroupConfig{Idle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	guards := make([]*Guard, n)
	for i, k := range keys {
		guards[i] = p.Guard(k)
		mustAcquireAndRelease(t, guards[i])
	}
	atRest := float64(heap()-before) / n
	for _, g := range guards {
		permit := mustAcquire(t, g)
		permit.Release(Outcome{Class: feedback.Throttled})
	}
	learned := float64(heap()-before) / n
	t.Logf("%.0f B a guard at rest, %.0f B with what it learned", atRest, learned)
	// The slice and the map of keys are counted, too.
	if atRest > 256 || learned > 4096 {
		t.Errorf("%.0f B at rest and %.0f B after a refusal, want at most 256 and 4096", atRest, learned)
	}
	runtime.KeepAlive(p)
}

func TestGroupAll(t *testing.T) {
	p, err := NewGroup(GroupConfig{Guard: Config{Name: "users"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*Guard{}
	for i := range 500 {
		key := fmt.Sprint("user/", i)
		want[key] = p.Guard(key)
	}
	if got := maps.Collect(p.All()); !maps.Equal(got, want) {
		t.Errorf("All has %d guards, want the %d that there are", len(got), len(want))
	}
	seen := 0
	for key := range p.All() { // guards go and come meanwhile
		if seen++; seen > 250 {
			break
		}
		if !p.Forget(key) {
			t.Errorf("%s was not there", key)
		}
		p.Guard("user/0")
	}
	if n := p.Len(); n != 250 && n != 251 {
		t.Errorf("%d guards are left, want 250, and user/0 if it was forgotten", n)
	}
}

// A guard of a group can be reloaded and listened to like any other.
func TestGroupGuardIsAGuard(t *testing.T) {
	p, err := NewGroup(GroupConfig{Guard: Config{Name: "users"}})
	if err != nil {
		t.Fatal(err)
	}
	g := p.Guard("ann")
	if g.Name() != "users/ann" {
		t.Errorf("Name() = %q, want users/ann", g.Name())
	}
	if err := g.Reload(Config{Adaptive: adaptive.Config{Initial: 6, Max: 6}}); err != nil {
		t.Fatal(err)
	}
	var heard int
	g.OnDecision(func(Decision) { heard++ })
	p.Guard("bob").OnDecision(func(d Decision) { t.Errorf("bob's guard changed: %+v", d) })
	if s := g.Stats(); s.Limit != 6 {
		t.Errorf("limit %d after Reload, want 6", s.Limit)
	}
	before := g.Stats()
	permit := mustAcquire(t, g)
	permit.Release(Outcome{Class: feedback.Throttled})
	if s := g.Stats(); heard == 0 || !lowered(s, before) {
		t.Errorf("%d decisions heard, limit %d and pace %v, want at least one, and one of them lowered from 6 and %v", heard, s.Limit, s.Pace, before.Pace)
	}
	wantIdle(t, g)
}
