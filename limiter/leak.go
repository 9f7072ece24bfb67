package limiter

import (
	"fmt"
	"math/rand/v2"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// A Leak is a permit that is held longer than Config.MaxHold.
type Leak struct {
	// Guard is the guard's name.
	Guard string
	// Held is how long the permit is held.
	Held time.Duration
	// Reclaimed says that its place was taken back (Config.Reclaim).
	Reclaimed bool

	pcs []uintptr
}

// Stack returns the frames that acquired the permit, innermost first, without those of the guard,
// of httplimit and grpclimit, of net/http and of gRPC before the first other one.
func (l Leak) Stack() []runtime.Frame {
	var list []runtime.Frame
	if len(l.pcs) == 0 {
		return nil
	}
	frames := runtime.CallersFrames(l.pcs)
	for {
		f, more := frames.Next()
		if len(list) > 0 || !passing(f.Function) {
			list = append(list, f)
		}
		if !more {
			return list
		}
	}
}

// passing reports whether a function only passes a call on to the guard.
func passing(function string) bool {
	for _, of := range [...]string{
		"net/http.", "google.golang.org/grpc.", "github.com/flyball-go/flyball/limiter.(", "github.com/flyball-go/flyball/limiter/httplimit.(",
		"github.com/flyball-go/flyball/contrib/grpclimit.(", "github.com/flyball-go/flyball/contrib/grpclimit.Unary.", "github.com/flyball-go/flyball/contrib/grpclimit.Stream.",
	} {
		if strings.HasPrefix(function, of) {
			return true
		}
	}
	return false
}

// caller returns the frame to look at first: the innermost of the program's own module, where there is one, as an SDK acquires all permits in one place,
// and else the innermost. ok is false when there is none.
func (l Leak) caller() (f runtime.Frame, ok bool) {
	stack := l.Stack()
	for _, f := range stack {
		if ownModule(f.Function) && !strings.HasSuffix(f.File, ".pb.go") {
			return f, true
		}
	}
	if len(stack) > 0 {
		return stack[0], true
	}
	return f, false
}

// mainModule is the path of the module that the program is built from; empty when nobody knows.
var mainModule = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Path
})

// ownModule reports whether a function is of the program's own module.
func ownModule(function string) bool {
	return strings.HasPrefix(function, "main.") || mainModule() != "" && inModule(function, mainModule())
}

// inModule reports whether a function is of a package of a module. In a function's name the last element of its package's path has its dots escaped.
func inModule(function, module string) bool {
	if strings.HasPrefix(function, module+"/") {
		return true
	}
	dir, last := path.Split(module)
	rest, ok := strings.CutPrefix(function, dir+strings.ReplaceAll(last, ".", "%2e"))
	return ok && !strings.Contains(rest, "/") && (strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, "_test."))
}

// String tells where the permit was acquired: the innermost line of the program's own module, or of any where Stack has none of it.
func (l Leak) String() string {
	where := "unknown"
	if f, ok := l.caller(); ok {
		where = fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
	}
	return fmt.Sprintf("limiter: %s: a permit is held for %v; it was acquired by %s", l.Guard, l.Held.Round(time.Millisecond), where)
}

// leakDepth is how many frames of the acquiring stack are kept.
const leakDepth = 24

// hold is a permit that is watched. The guard's lock protects it.
type hold struct {
	prev, next *hold
	since      time.Duration
	taken      bool            // its place was taken back
	lost       func()          // called then, without the lock; nil is nothing
	count      *atomic.Int32   // where the call is counted until it ends or its place is taken back; nil when nowhere
	grant      admission.Grant // to give back what it took
	depth      int
	pcs        [leakDepth]uintptr
}

// leaks are the permits of a guard that are watched, the longest held first. The guard's lock protects it.
type leaks struct {
	head, tail *hold
	first      *hold // the first that was not reported
	timer      *time.Timer
	listeners  []func(Leak)
}

// watched watches p, when there is a permit and permits are watched.
func (g *Guard) watched(p Permit) Permit {
	if set := g.set.Load(); set.maxHold > 0 && p.guard != nil {
		return g.watch(set, p)
	}
	return p
}

// watch watches p, when it is one of those that are.
func (g *Guard) watch(set *settings, p Permit) Permit {
	if set.watched != 0 && rand.Uint32()&set.watched != 0 {
		return p
	}
	return g.follow(set, p)
}

// follow watches p.
func (g *Guard) follow(set *settings, p Permit) Permit {
	h := &hold{grant: p.grant()}
	h.depth = runtime.Callers(3, h.pcs[:])
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &g.open().leaks
	h.since = g.now()
	if h.prev = l.tail; h.prev == nil {
		l.head = h
	} else {
		h.prev.next = h
	}
	l.tail = h
	if l.first == nil {
		l.first = h
		l.arm(g, set.maxHold)
	}
	if p.more == nil {
		p.more = baggages.Get().(*baggage)
	}
	p.more.hold = h
	return p
}

// arm sets the timer for the first that was not reported.
func (l *leaks) arm(g *Guard, d time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(d, g.findLeaks)
	} else {
		l.timer.Reset(d)
	}
}

// remove takes h out of the list.
func (l *leaks) remove(h *hold) {
	if l.first == h {
		l.first = h.next
	}
	if h.prev == nil {
		l.head = h.next
	} else {
		h.prev.next = h.next
	}
	if h.next == nil {
		l.tail = h.prev
	} else {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil // a permit that is never released keeps h, and must not keep those that came after
	if l.head == nil && l.timer != nil {
		l.timer.Stop()
	}
}

// unwatch ends the watch of p, which has baggage. It reports false when the place was taken back, so that there is
// nothing left to release; p is then empty.
func (p *Permit) unwatch() bool {
	g, h := p.guard, p.more.hold
	if h == nil {
		return true
	}
	g.mu.Lock()
	taken := h.taken
	if !taken {
		g.open().leaks.remove(h)
	}
	g.mu.Unlock()
	if taken {
		p.drop()
		return false
	}
	if p.more.hold = nil; p.more.grant.Light() {
		p.more = nil // the rest is left to the collector
	}
	return true
}

// onReclaim has f called when the place of p, which is held, is taken back, in the place of what was to be called before. It does nothing
// when p is not watched.
func (p *Permit) onReclaim(f func()) {
	if p.more == nil || p.more.hold == nil {
		return
	}
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	p.more.hold.lost = f
}

// followProbe watches p, which a probe holds, if permits are watched at all: without its end there is no other probe.
func (g *Guard) followProbe(p Permit) Permit {
	if set := g.set.Load(); set.maxHold > 0 && (p.more == nil || p.more.hold == nil) {
		return g.follow(set, p)
	}
	return p
}

// countIn counts the call of p, which is held, in n until uncount, or until its place is taken back.
func (p *Permit) countIn(n *atomic.Int32) {
	n.Add(1)
	if p.more == nil || p.more.hold == nil {
		return
	}
	p.guard.mu.Lock()
	defer p.guard.mu.Unlock()
	p.more.hold.count = n
}

// uncount ends what countIn began.
func (p *Permit) uncount(n *atomic.Int32) {
	if p.more != nil && p.more.hold != nil {
		p.guard.mu.Lock()
		counted := p.more.hold.count != nil
		p.more.hold.count = nil
		p.guard.mu.Unlock()
		if !counted {
			return // its place was taken back
		}
	}
	n.Add(-1)
}

// findLeaks reports permits that are held too long, and takes their places back when it is told to.
func (g *Guard) findLeaks() {
	g.mu.Lock()
	set := g.set.Load()
	l := &g.open().leaks
	now := g.now()
	var found []Leak
	var lost []func()
	for h := l.first; h != nil && set.maxHold > 0; h = l.first {
		if left := set.maxHold - (now - h.since); left > 0 {
			l.arm(g, left)
			break
		}
		l.first = h.next
		found = append(found, Leak{Guard: g.name, Held: now - h.since, Reclaimed: set.reclaim, pcs: h.pcs[:h.depth]})
		if set.reclaim {
			h.taken = true
			l.remove(h)
			g.core.Reclaim(now, &h.grant)
			if h.count != nil {
				h.count.Add(-1)
				h.count = nil
			}
			if h.lost != nil {
				lost = append(lost, h.lost)
			}
		}
	}
	g.serve(now, nil)
	listeners := l.listeners
	g.unlock()
	for _, tell := range lost {
		tell()
	}
	for _, f := range found {
		for _, tell := range listeners {
			tell(f)
		}
	}
}

// OnLeak has f called with each permit that is held longer than Config.MaxHold, once a permit, on a goroutine
// of its own and without the guard's lock. It panics when f is nil.
func (g *Guard) OnLeak(f func(Leak)) {
	if f == nil {
		panic("limiter: OnLeak with a nil function")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &g.open().leaks
	l.listeners = append(l.listeners[:len(l.listeners):len(l.listeners)], f)
}
