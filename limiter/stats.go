package limiter

import (
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/internal/admission"
)

// Counts is what a guard has counted since it was made; see the fields.
type Counts = admission.Counts

// Waits is a number of waits and their sum.
type Waits = admission.Waits

// WaitBuckets is the number of buckets of Counts.Waits.
const WaitBuckets = admission.WaitBuckets

// Stats is what a guard looks like at one instant.
type Stats struct {
	// Name is the guard's name.
	Name string
	// Limit is how many calls may be in flight, InFlight how many are, Waiting how many callers wait.
	Limit, InFlight, Waiting int
	// Pace and TokenPace are how many calls may start and how many tokens may be spent a second; 0 when no
	// pace is set.
	Pace, TokenPace float64
	// Paused is how much longer nothing starts, because the upstream asked for it or the law holds; 0 when it may.
	Paused time.Duration
	// Asked is how much of Paused somebody asked for, the upstream or whoever called Guard.Pause. What is left is the law's own.
	Asked time.Duration
	// Binding is the limit of the upstream that the law takes for the one that binds.
	Binding string
	// Cause is why the decision last changed.
	Cause string
	// Counts is what was counted.
	Counts Counts
}

// Stats returns a snapshot.
func (g *Guard) Stats() Stats {
	g.ties.Load().endForgotten()
	g.mu.Lock()
	defer g.mu.Unlock()
	d, now := g.core.Decision(), g.now()
	return Stats{
		Name:  g.name,
		Limit: g.core.Limit(), InFlight: g.core.InFlight(), Waiting: g.core.Waiting(),
		Pace: d.Pace, TokenPace: d.TokenPace,
		Paused: max(0, g.core.Gate()-now), Asked: max(0, g.core.Asked()-now),
		Binding: d.Binding.String(), Cause: d.Cause.String(),
		Counts: g.core.Counts(),
	}
}

// Decision is a change of what a guard allows.
type Decision struct {
	// At is when it changed, since the guard was made.
	At time.Duration
	// Decision is what is in force from then on, with its cause.
	adaptive.Decision
}

// OnDecision has f called with each change of what the guard allows, in their order, one at a time and after
// the guard's lock was released, by whichever goroutine caused the change. f must be quick, must
// not wait for a permit of the guard, and must not panic: a panic surfaces in a caller of the guard. OnDecision panics when f is nil.
//
// What it returns has f called no more, but for a change that is being told. It may be called by any goroutine, also by f, and more than once.
func (g *Guard) OnDecision(f func(Decision)) (stop func()) {
	if f == nil {
		panic("limiter: OnDecision with a nil function")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if set := g.set.Load(); set.core.OnDecision == nil { // of a group, which shares its settings
		own := *set
		own.core.OnDecision = g.note
		g.core.Share(&own.core)
		g.set.Store(&own)
	}
	s := g.open()
	s.listeners = s.listeners.with(&f)
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		s.listeners = s.listeners.without(&f)
	}
}

// listeners are functions that are told of events. A list does not change once it was made, so that it may be called without a lock.
type listeners[E any] []*func(E)

func (l listeners[E]) with(f *func(E)) listeners[E] { return append(l[:len(l):len(l)], f) }

func (l listeners[E]) without(f *func(E)) (left listeners[E]) {
	for _, other := range l {
		if other != f {
			left = append(left, other)
		}
	}
	return left
}

func (l listeners[E]) tell(e E) {
	for _, f := range l {
		(*f)(e)
	}
}

// note keeps a decision for the listeners. The core calls it with the lock held.
func (g *Guard) note(now time.Duration, d adaptive.Decision) {
	if s := g.shell.Load(); s != nil && len(s.listeners) > 0 {
		s.events = append(s.events, Decision{now, d})
	}
}

// unlock gives up the lock, and then tells those who were answered that they were, and listeners what has
// changed. One goroutine tells listeners at a time, so that they hear of changes in their order.
func (g *Guard) unlock() { g.unlockFor(nil) }

// unlockFor is unlock for the caller of w, which waits or was granted a place: when a listener panics it never learns of it, and
// w is given up. w may be nil.
func (g *Guard) unlockFor(w *waiter) {
	s := g.shell.Load()
	if s == nil {
		g.mu.Unlock()
		return
	}
	wake := s.wake
	s.wake = nil
	tell := len(s.events) > 0 && !s.telling
	if tell {
		s.telling = true
	}
	g.mu.Unlock()
	for woken := wake; woken != nil; {
		next := woken.next
		woken.next = nil
		woken.tell <- answered
		woken = next // the waiter is its caller's again
	}
	if tell {
		g.tell(s, w)
	}
}

// tell tells listeners what has changed, and gives w up when one panics.
func (g *Guard) tell(s *shell, w *waiter) {
	told := false
	defer func() {
		if !told && w != nil {
			g.giveUp(w)
		}
	}()
	g.mu.Lock()
	defer g.mu.Unlock() // also when a listener panics
	defer func() { s.telling = false }()
	for len(s.events) > 0 {
		events, listeners := s.events, s.listeners
		s.events = nil
		g.tellUnlocked(events, listeners)
	}
	told = true
}

// giveUp takes w out of the queue, or takes back what it was granted. It is not used again: somebody may be about to tell it so.
func (g *Guard) giveUp(w *waiter) {
	g.lock()
	defer g.unlock()
	now := g.now()
	w.lookAt = 0
	if !g.core.Cancel(&w.Waiter) && w.State == admission.Granted {
		g.core.Undo(now, &w.Waiter)
	}
	g.serve(now, nil)
}

func (g *Guard) tellUnlocked(events []Decision, to listeners[Decision]) {
	g.mu.Unlock()
	defer g.mu.Lock() // also when a listener panics
	for _, e := range events {
		to.tell(e)
	}
}
