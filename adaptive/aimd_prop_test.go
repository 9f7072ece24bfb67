package adaptive

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// An event is one call of a law's method.
type event struct {
	kind int // 0, 1: Window; 2: Ended; 3: Hint; 4: Began, of a Listener
	now  time.Duration
	w    Window
	c    Call
	back uint32 // how many episodes before the current one the call started
	o    Outcome
	hint feedback.Window
}

func (e *event) apply(l Law) Decision {
	d := l.Decision()
	switch e.kind {
	case 2:
		c := e.c
		c.Episode = l.Decision().Episode - e.back
		return l.Ended(e.now, c, e.o)
	case 3:
		return l.Hint(e.now, e.hint)
	case 4:
		if l, ok := l.(Listener); ok {
			c := e.c
			c.Episode = d.Episode - e.back
			return l.Began(e.now, c)
		}
	}
	return l.Window(e.now, e.w)
}

// wild is any integer that a foreign driver may come up with, and mostly a likely one.
func wild(lo, hi int) *rapid.Generator[int] {
	return rapid.OneOf(rapid.IntRange(lo, hi), rapid.IntRange(lo, hi), rapid.IntRange(lo, hi), rapid.Int())
}

func anyConfig(t *rapid.T) Config {
	return Config{
		Initial: wild(0, 100).Draw(t, "Initial"),
		Min:     wild(0, 20).Draw(t, "Min"),
		Max:     wild(0, 2000).Draw(t, "Max"),
		Backoff: rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64()).Draw(t, "Backoff"),
		Epoch:   wild(0, 30).Draw(t, "Epoch"),
	}
}

// events draws events, at instants that mostly go forward.
func events(t *rapid.T, n int) []event {
	var now time.Duration
	es := make([]event, n)
	for i := range es {
		now += rapid.OneOf(
			rapid.Just(time.Duration(0)),
			rapid.Map(rapid.Int64Range(0, int64(2*time.Second)), func(n int64) time.Duration { return time.Duration(n) }),
			rapid.Map(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)), func(n int64) time.Duration { return time.Duration(n) }),
			rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) }),
		).Draw(t, "step")
		es[i] = anyEvent(t, now)
	}
	return es
}

func anyEvent(t *rapid.T, now time.Duration) event {
	duration := rapid.Map(rapid.OneOf(rapid.Int64Range(0, int64(time.Minute)), rapid.Int64()), func(n int64) time.Duration { return time.Duration(n) })
	e := event{kind: rapid.IntRange(0, 4).Draw(t, "kind"), now: now}
	switch e.kind {
	case 0, 1:
		e.w = Window{
			Start: now - duration.Draw(t, "length"), OK: wild(0, 100).Draw(t, "OK"), Timed: wild(0, 100).Draw(t, "Timed"),
			Begun: wild(0, 100).Draw(t, "Begun"), Latency: duration.Draw(t, "Latency"), MinLatency: duration.Draw(t, "MinLatency"),
			MaxInFlight: wild(0, 200).Draw(t, "MaxInFlight"), Full: rapid.Bool().Draw(t, "Full"),
			InFlight: wild(0, 200).Draw(t, "InFlight"), Waiting: wild(0, 9).Draw(t, "Waiting"),
		}
	case 2, 4:
		e.c = Call{SentAt: now - duration.Draw(t, "age"), InFlight: wild(1, 200).Draw(t, "InFlight")}
		e.back = rapid.Uint32Range(0, 2).Draw(t, "back")
		e.o = Outcome{Class: feedback.Class(rapid.IntRange(0, feedback.NumClasses).Draw(t, "class")),
			Scope: feedback.Scope(rapid.IntRange(0, feedback.NumScopes).Draw(t, "scope"))}
	case 3:
		e.hint = feedback.Window{Kind: feedback.Scope(rapid.IntRange(0, feedback.NumScopes).Draw(t, "kind of limit")),
			Limit: rapid.OneOf(rapid.Int64Range(-1, 100), rapid.Int64()).Draw(t, "stated")}
	}
	return e
}

func TestPropBounds(t *testing.T) {
	// Whatever happens, Min <= Limit <= Max, and all of the decision is in range.
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		l := NewAIMD(cfg)
		in := aimdDefaults(cfg).clamp()
		for _, e := range events(t, 60) {
			d := e.apply(l)
			if d.Limit < in.Min || d.Limit > in.Max || d.Limit < 1 || d.Limit > MaxLimit {
				t.Fatalf("after %+v: limit %d is not in %d to %d", e, d.Limit, in.Min, in.Max)
			}
			if int(d.Cause) >= NumCauses || int(d.Binding) >= feedback.NumScopes {
				t.Fatalf("after %+v: %+v is out of range", e, d)
			}
			if d.Pace != 0 || d.TokenPace != 0 || d.NotBefore != 0 {
				t.Fatalf("after %+v: %+v uses an actuator that this law has not", e, d)
			}
			if d != l.Decision() {
				t.Fatalf("Decision() = %+v after %+v was returned", l.Decision(), d)
			}
			if s := l.State(); s.Old < 0 || s.Good < 0 || s.Flight < 0 || s.Bound < 0 || s.Bound > MaxLimit || s.Latency < 0 {
				t.Fatalf("after %+v: state %+v", e, s)
			}
		}
	})
}

func TestPropOneCutAnEpisode(t *testing.T) {
	// "A call with an episode before the current one must not cause another cut." Call.Episode
	rapid.Check(t, func(t *rapid.T) {
		l := NewAIMD(anyConfig(t))
		for _, e := range events(t, 20) {
			e.apply(l)
		}
		now := l.State().At
		before := l.Window(now, Window{Start: now, InFlight: 2000}) // in use, so no window ages it
		burst := rapid.SliceOfN(rapid.IntRange(1, 100), 1, 200).Draw(t, "in flight of a burst of refused calls")
		first := Decision{}
		for i, n := range burst {
			if rapid.Bool().Draw(t, "a call ends well between") {
				l.Window(now, Window{Start: now, InFlight: 2000 - i})
			}
			d := l.Ended(now, Call{SentAt: now, Episode: before.Episode, InFlight: n}, Outcome{Class: feedback.Throttled})
			if d.Limit > before.Limit || d.Episode-before.Episode > 1 {
				t.Fatalf("refusal %d of the burst: %+v after %+v", i, d, before)
			}
			if d.Episode != before.Episode && first.Limit == 0 {
				first = d
			}
			if first.Limit != 0 && (d.Limit != first.Limit || d.Episode != first.Episode) {
				t.Fatalf("refusal %d of the burst cut again: %+v after %+v", i, d, first)
			}
		}
		if in := l.cfg.Min; before.Limit > in && first.Limit == 0 {
			t.Fatalf("a burst of %d refusals did not cut %+v", len(burst), before)
		}
	})
}

func TestPropNoGrowthWithoutUse(t *testing.T) {
	// "It rises only when it is used (Window.Full)". Only a refusal, a statement or time lowers it.
	rapid.Check(t, func(t *rapid.T) {
		l := NewAIMD(anyConfig(t))
		used := false
		for _, e := range events(t, 80) {
			before := l.Decision()
			cut := l.State().Episode
			d := e.apply(l)
			window := e.kind <= 1
			if window && e.w.Full {
				used = true // in this epoch
			}
			if d.Limit > before.Limit && !(window && used) {
				t.Fatalf("%+v raised the limit from %d to %d without use", e, before.Limit, d.Limit)
			}
			if d.Limit > before.Limit || d.Episode != cut {
				used = false
			}
			if window && d.Limit < before.Limit && d.Cause != CauseIdle {
				t.Fatalf("%+v lowered the limit from %d to %d", e, before.Limit, d.Limit)
			}
			if e.kind == 2 && d.Limit > before.Limit {
				t.Fatalf("%+v raised the limit from %d to %d", e, before.Limit, d.Limit)
			}
		}
	})
}

func TestPropSuccessesNeverLower(t *testing.T) {
	// Within a minute, no row of windows lowers the limit, and Full never leaves it lower than not.
	rapid.Check(t, func(t *rapid.T) {
		l := NewAIMD(anyConfig(t))
		for range rapid.IntRange(0, 3).Draw(t, "cuts") {
			l.Ended(0, Call{Episode: l.Decision().Episode, InFlight: rapid.IntRange(1, 100).Draw(t, "InFlight")}, Outcome{Class: feedback.Overloaded})
		}
		now := time.Duration(0)
		for now < 59*time.Second {
			start := now
			now += time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(t, "length"))
			now = min(now, 59*time.Second)
			n := rapid.IntRange(0, 100).Draw(t, "OK")
			w := Window{Start: start, OK: n, Timed: n, Latency: time.Duration(n) * time.Second, MinLatency: time.Second,
				MaxInFlight: rapid.IntRange(0, 100).Draw(t, "MaxInFlight")}
			idle, busy := *l, *l
			w.Full = false
			idle.Window(now, w)
			w.Full = true
			busy.Window(now, w)
			before := l.Decision().Limit
			if i, b := idle.Decision().Limit, busy.Decision().Limit; i < before || b < i {
				t.Fatalf("limit %d, after %+v: %d when not in use, %d when in use", before, w, i, b)
			}
			*l = busy
			if rapid.Bool().Draw(t, "not in use") {
				*l = idle
			}
		}
	})
}

func TestPropDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		a, b := NewAIMD(cfg), NewAIMD(cfg)
		for _, e := range events(t, 40) {
			if da, db := e.apply(a), e.apply(b); da != db {
				t.Fatalf("%+v: %+v and %+v", e, da, db)
			}
		}
		if a.State() != b.State() {
			t.Fatalf("%+v and %+v", a.State(), b.State())
		}
	})
}

func TestPropTimeBackwardsIsNoTime(t *testing.T) {
	// "it treats it as no time having passed": an event at an earlier instant does what
	// it does at the latest one, but for when the law asks again, on the clock of its caller.
	rapid.Check(t, func(t *rapid.T) {
		l := NewAIMD(anyConfig(t))
		for _, e := range events(t, 20) {
			e.apply(l)
		}
		at := l.State().At
		e := anyEvent(t, at)
		back := e
		back.now = at - time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "back"))
		if back.now > at {
			back.now = at
		}
		a, b := *l, *l
		da, db := e.apply(&a), back.apply(&b)
		da.AskAgain, db.AskAgain = 0, 0
		if da != db {
			t.Fatalf("%+v: %+v at %v, %+v at %v", e, da, e.now, db, back.now)
		}
	})
}

func TestPropRestoreContinuesIdentically(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		a := NewAIMD(cfg)
		es := events(t, 60)
		// Instants of a real clock: they are never before its origin.
		for i := range es {
			es[i].now = max(0, es[i].now)
		}
		cut := rapid.IntRange(0, len(es)).Draw(t, "saved after")
		for _, e := range es[:cut] {
			e.apply(a)
		}
		text, err := json.Marshal(a.State())
		if err != nil {
			t.Fatal(err)
		}
		var s AIMDState
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		b := NewAIMD(cfg)
		b.Restore(s.At, s)
		if a.State() != b.State() {
			t.Fatalf("restored\n%+v, was\n%+v", b.State(), a.State())
		}
		for _, e := range es[cut:] {
			if da, db := e.apply(a), e.apply(b); da != db {
				t.Fatalf("%+v: %+v, restored %+v", e, da, db)
			}
		}
		if a.State() != b.State() {
			t.Fatalf("in the end\n%+v, restored\n%+v", a.State(), b.State())
		}
	})
}
