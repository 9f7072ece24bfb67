package admission

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// mood is how an upstream behaves for a while.
type mood struct {
	lasts      time.Duration
	refuses    float64 // share of calls
	fails      float64 // share of the others that time out or come to nothing
	named      float64 // share of refusals that name a delay
	delay      time.Duration
	headers    float64 // share of answers that tell of limits
	scope      int     // of refusals; numScopes: any
	latency    time.Duration
	refusal    time.Duration // how long a refusal takes
	begins     float64       // share of calls whose answers are told to begin
	limitTold  int64
	resetMost  time.Duration
	tokensMost int64
	allows     int // calls in any window, besides; 0: no such quota
	window     time.Duration
}

// wicked is a guard with the law that is meant for use, and callers who always wait, before an upstream that keeps to nothing.
type wicked struct {
	t     *rapid.T
	core  Core
	law   *adaptive.Governor
	r     *rand.Rand
	now   time.Duration
	mood  mood
	ends  []ending
	log   []time.Duration // when calls started of late that the quota let pass
	alive time.Duration   // when something started last, or was refused, or a delay that it named was over
}

type ending struct {
	at    time.Duration
	w     *Waiter
	o     adaptive.Outcome
	begun bool // it is the beginning of an answer
}

const (
	// patience is how long callers may wait while nothing is refused and none starts.
	patience = 10 * time.Minute
	// fewWait is how many callers wait at the least.
	fewWait = 3
)

func drawMood(t *rapid.T, i int) mood {
	label := func(s string) string { return fmt.Sprint(s, " ", i) }
	share := func(s string) float64 { return rapid.SampledFrom([]float64{0, 0, 0.02, 0.3, 0.9, 1}).Draw(t, label(s)) }
	ms := func(s string, from, to int64) time.Duration {
		return time.Duration(rapid.Int64Range(from, to).Draw(t, label(s))) * time.Millisecond
	}
	return mood{
		lasts:   time.Duration(rapid.SampledFrom([]int{5, 60, 600, 4000, 12000}).Draw(t, label("seconds"))) * time.Second,
		refuses: share("refused"), fails: rapid.SampledFrom([]float64{0, 0, 0.1, 1}).Draw(t, label("failed")),
		named: share("with delay"), delay: ms("delay", 0, 120_000), headers: share("with headers"),
		scope:   rapid.IntRange(0, feedback.NumScopes).Draw(t, label("scope")),
		latency: rapid.SampledFrom([]time.Duration{10 * time.Millisecond, time.Second, 20 * time.Second}).Draw(t, label("latency")),
		refusal: rapid.SampledFrom([]time.Duration{0, 20 * time.Millisecond, 5 * time.Second}).Draw(t, label("refusal takes")),
		begins:  rapid.SampledFrom([]float64{0, 1}).Draw(t, label("begins")), limitTold: rapid.SampledFrom([]int64{1, 30, 1e5, 1 << 40}).Draw(t, label("limit")),
		resetMost:  rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 5 * time.Minute}).Draw(t, label("reset")),
		tokensMost: rapid.SampledFrom([]int64{0, 1000, 2e5}).Draw(t, label("tokens")),
		allows:     rapid.SampledFrom([]int{0, 0, 1, 20, 300}).Draw(t, label("calls in a window")), window: rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(t, label("window")),
	}
}

// outcome draws how a call ends.
func (u *wicked) outcome() (o adaptive.Outcome, after time.Duration) {
	m := &u.mood
	after = time.Duration(float64(m.latency) * (0.2 + u.r.Float64()))
	switch {
	case u.r.Float64() < m.refuses, !u.fits():
		after = m.refusal
		o.Class = feedback.Throttled
		if u.r.IntN(8) == 0 {
			o.Class = feedback.Overloaded
		}
		o.Scope = feedback.Scope(m.scope)
		if m.scope == feedback.NumScopes {
			o.Scope = feedback.Scope(u.r.IntN(feedback.NumScopes))
		}
		if u.r.Float64() < m.named {
			o.HasRetryAfter, o.RetryAfter = true, m.delay
		}
	case u.r.Float64() < m.fails:
		o.Class = []feedback.Class{feedback.Timeout, feedback.ServerError, feedback.Canceled}[u.r.IntN(3)]
	case m.tokensMost > 0:
		o.InputTokens, o.OutputTokens = u.r.Int64N(m.tokensMost)+1, u.r.Int64N(m.tokensMost)+1
	}
	if u.r.Float64() < m.headers {
		for range 1 + u.r.IntN(3) {
			left := u.r.Int64N(m.limitTold + 1)
			if u.r.IntN(2) == 0 {
				left /= 20
			}
			o.Windows = append(o.Windows, feedback.Window{
				Kind: feedback.Scope(u.r.IntN(feedback.NumScopes)), Limit: m.limitTold, Remaining: left, Reset: time.Duration(u.r.Int64N(int64(m.resetMost) + 1)),
			})
		}
	}
	return o, after
}

// fits reports whether the quota has room for one more call, and takes it.
func (u *wicked) fits() bool {
	m := &u.mood
	if m.allows == 0 {
		return true
	}
	for len(u.log) > 0 && u.log[0]+m.window <= u.now {
		u.log = u.log[1:]
	}
	if len(u.log) >= m.allows {
		return false
	}
	u.log = append(u.log, u.now)
	return true
}

// call has a caller that was granted a place call.
func (u *wicked) call(w *Waiter) {
	u.live(u.now)
	o, after := u.outcome()
	e := ending{at: u.now + after, w: w, o: o}
	if o.Class == feedback.OK && u.r.Float64() < u.mood.begins {
		u.ends = append(u.ends, ending{at: u.now + after/2, w: w, begun: true})
	}
	u.ends = append(u.ends, e)
}

func (u *wicked) live(until time.Duration) { u.alive = max(u.alive, until) }

// ask has callers ask until enough wait.
func (u *wicked) ask() {
	for u.core.Waiting() < fewWait {
		w := &Waiter{}
		if u.mood.tokensMost > 0 {
			w.Call.Tokens = 1 + u.r.Int64N(u.mood.tokensMost)
		}
		u.core.Ask(u.now, w)
		if w.State == Refused {
			return // while a pause is too long to wait for
		}
		if u.serve(); len(u.ends) > 2000 {
			return
		}
	}
}

// serve answers all who can be answered.
func (u *wicked) serve() {
	for range 10_000 {
		w := u.core.Next(u.now)
		if w == nil {
			return
		}
		if w.State == Granted {
			u.call(w)
		}
	}
	u.t.Fatal("callers are answered without an end")
}

// step goes to the next instant at which something happens.
func (u *wicked) step() {
	at, ok := u.core.Wake(u.now)
	next := -1
	for i := range u.ends {
		if next < 0 || u.ends[i].at < u.ends[next].at {
			next = i
		}
	}
	if !ok && next < 0 {
		u.t.Fatalf("at %v nobody will ever be answered again, %d wait", u.now, u.core.Waiting())
	}
	if next < 0 || ok && at < u.ends[next].at {
		if at-u.alive > patience && u.core.Waiting() > 0 {
			u.fail(at)
		}
		u.now = at
		u.serve()
		if again, ok := u.core.Wake(u.now); ok && again <= u.now {
			u.t.Fatalf("at %v the timer is set to now again: %+v", u.now, u.core.Decision())
		}
		return
	}
	e := u.ends[next]
	u.ends[next] = u.ends[len(u.ends)-1]
	u.ends = u.ends[:len(u.ends)-1]
	if e.at-u.alive > patience && u.core.Waiting() > 0 {
		u.fail(e.at)
	}
	u.now = max(u.now, e.at)
	if e.begun {
		u.core.Began(u.now, &e.w.Grant)
		u.serve()
		return
	}
	switch e.o.Class {
	case feedback.Throttled, feedback.Overloaded:
		u.live(u.now + e.o.RetryAfter)
	}
	if end := u.core.Finish(u.now, &e.w.Grant, &e.o); end != Ended {
		u.core.Settle(u.now, end, &e.w.Grant, &e.o)
		u.serve()
	}
}

func (u *wicked) fail(at time.Duration) {
	u.t.Fatalf("nothing was refused and nothing starts from %v to %v, %d of %d in flight, gate %v, %d wait: %+v\n%+v", u.alive, at, u.core.InFlight(), u.core.Limit(), u.core.Gate(),
		u.core.Waiting(), u.core.Decision(), u.law.State())
}

// play asks as long as the mood lasts, a thousand times at most.
func (u *wicked) play() {
	until := u.now + u.mood.lasts
	for range 1000 {
		if u.now >= until {
			return
		}
		u.ask()
		u.step()
	}
}

// Whatever an upstream answers: while it refuses nothing, those who wait for it do not wait for ever, and no timer goes off without an end.
func TestPropSomethingStarts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := &wicked{t: t, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))}
		u.law = adaptive.New(adaptive.Config{Initial: rapid.SampledFrom([]int{1, 10, 100}).Draw(t, "initial"), Max: 200})
		u.core.Init(&Config{Law: u.law, Queue: 100, MaxWait: 1000 * time.Hour, MaxPause: 5 * time.Minute, PauseJitter: 0.1, Seed: 1})
		for i := range rapid.IntRange(1, 8).Draw(t, "moods") {
			u.mood = drawMood(t, i)
			u.play()
		}
	})
}

// spoil sets a few fields of what v holds to whatever a file may say.
func spoil(v reflect.Value, r *rand.Rand, share float64) {
	switch k := v.Kind(); {
	case k == reflect.Struct:
		for i := range v.NumField() {
			spoil(v.Field(i), r, share)
		}
	case k == reflect.Array:
		for i := range v.Len() {
			spoil(v.Index(i), r, share)
		}
	case r.Float64() >= share:
	case k == reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case v.CanFloat():
		v.SetFloat([]float64{1, 1, 1, 1, -1, math.Inf(1), math.NaN()}[r.IntN(7)] * math.Pow(10, 24*r.Float64()-8))
	case v.CanInt():
		v.SetInt(int64(r.Uint64() >> r.IntN(64)))
	default:
		v.SetUint(r.Uint64() >> r.IntN(64))
	}
}

// Whatever a saved state says: after an hour, in which what it holds back ends, somebody starts.
func TestPropSomethingStartsOfAnyState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := &wicked{t: t, r: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))}
		u.law = adaptive.New(adaptive.Config{Max: 200})
		u.core.Init(&Config{Law: u.law, Queue: 100, MaxWait: 1000 * time.Hour, MaxPause: 5 * time.Minute, PauseJitter: 0.1, Seed: 1})
		for i := range rapid.IntRange(1, 4).Draw(t, "moods") {
			u.mood = drawMood(t, i)
			if s := u.law.State(); i > 0 {
				spoil(reflect.ValueOf(&s).Elem(), u.r, rapid.SampledFrom([]float64{0.01, 0.1, 1}).Draw(t, fmt.Sprint("share of fields ", i)))
				if u.r.IntN(2) == 0 {
					s.Slide.Of, s.Slide.Allows, s.Slide.Ask, s.Pace[0].Rate = []int8{2, 4, 5, 6, 8}[u.r.IntN(5)], float32(u.r.IntN(100)), 1, 1
				}
				u.law.Restore(u.now, s)
				u.live(u.now + time.Hour)
			}
			u.play()
		}
	})
}
