package adaptive

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// wilder adds to an event what AIMD does not look at.
func wilder(t *rapid.T, e event) event {
	number := rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(0, 1000), rapid.Int64())
	switch e.kind {
	case 0, 1:
		e.w.Tokens, e.w.OutputTokens, e.w.CachedTokens = number.Draw(t, "Tokens"), number.Draw(t, "OutputTokens"), number.Draw(t, "CachedTokens")
		if rapid.Bool().Draw(t, "several classes") {
			e.w.Classes = new([NumClasses]ClassSum)
			for i := range e.w.Classes[:3] {
				e.w.Classes[i] = ClassSum{int(number.Draw(t, "Timed")), time.Duration(number.Draw(t, "Latency")), number.Draw(t, "OutputTokens")}
			}
		}
	case 2:
		e.c.Tokens, e.c.Class = number.Draw(t, "Tokens"), rapid.Uint8().Draw(t, "class of the call")
		e.o.Deadline = rapid.Bool().Draw(t, "Deadline")
		e.o.HasRetryAfter = rapid.Bool().Draw(t, "HasRetryAfter")
		e.o.RetryAfter = time.Duration(rapid.OneOf(rapid.Int64Range(0, int64(time.Minute)), rapid.Int64()).Draw(t, "RetryAfter"))
	case 3:
		e.hint.Remaining = number.Draw(t, "Remaining")
		e.hint.Reset = time.Duration(rapid.OneOf(rapid.Int64Range(-1, int64(time.Minute)), rapid.Int64()).Draw(t, "Reset"))
	}
	return e
}

func sane(t rapid.TB, in Config, d Decision) {
	t.Helper()
	if d.Limit < in.Min || d.Limit > in.Max {
		t.Fatalf("limit %d is not in %d to %d", d.Limit, in.Min, in.Max)
	}
	for _, p := range []float64{d.Pace, d.TokenPace} {
		if !(p >= 0) || math.IsInf(p, 0) {
			t.Fatalf("a pace of %v", p)
		}
	}
	if int(d.Cause) >= NumCauses || int(d.Binding) >= feedback.NumScopes {
		t.Fatalf("%+v is out of range", d)
	}
}

func TestPropGovernorBounds(t *testing.T) {
	// Whatever happens, the decision is in range, nothing panics, and the state is made of numbers.
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		cfg.RefusalBudget = rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64()).Draw(t, "RefusalBudget")
		cfg.LatencyFactor = rapid.OneOf(rapid.Float64Range(0, 5), rapid.Float64()).Draw(t, "LatencyFactor")
		g := New(cfg)
		in := cfg.clamp()
		for _, e := range events(t, 60) {
			e = wilder(t, e)
			d := e.apply(g)
			sane(t, in, d)
			if d != g.Decision() {
				t.Fatalf("Decision() = %+v after %+v was returned", g.Decision(), d)
			}
			if _, err := json.Marshal(g.State()); err != nil {
				t.Fatalf("after %+v: %v in %+v", e, err, g.State())
			}
		}
	})
}

func TestPropGovernorOneCutAnEpisode(t *testing.T) {
	// However many calls of one episode are refused, the limit is cut once. It may follow down to the fewest that one of them saw in
	// flight, if that is near.
	rapid.Check(t, func(t *rapid.T) {
		g := New(anyConfig(t))
		for _, e := range events(t, 20) {
			e.apply(g)
		}
		now := g.State().At
		before := g.Decision()
		after, fewest := Decision{}, 0
		for i, n := range rapid.SliceOfN(rapid.IntRange(1, 100), 1, 200).Draw(t, "in flight of a burst of refused calls") {
			d := g.Ended(now, Call{SentAt: now, Episode: before.Episode, InFlight: n}, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeConcurrency})
			if i == 0 || after.Episode == before.Episode { // none of those before was the one that cuts: where a lag explains a refusal, it does not
				after, fewest = d, n
			}
			if n := float64(n); n > 0.7*float64(g.State().RefusedAt) {
				fewest = min(fewest, int(n))
			}
			if d.Episode-before.Episode > 1 || d.Limit > after.Limit || d.Limit < min(after.Limit, fewest-1) {
				t.Fatalf("refusal %d of the burst: %+v after %+v", i, d, after)
			}
		}
	})
}

func TestPropGovernorTimeBackwards(t *testing.T) {
	// A clock that goes backwards counts as no time having passed.
	rapid.Check(t, func(t *rapid.T) {
		g := New(anyConfig(t))
		for _, e := range events(t, 30) {
			e.apply(g)
		}
		at := g.State().At
		e := wilder(t, anyEvent(t, at))
		back := e
		back.now = at - time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "back"))
		a, b := *g, *g
		da, db := e.apply(&a), back.apply(&b)
		da.AskAgain, db.AskAgain = 0, 0
		if da != db {
			t.Fatalf("%+v: %+v at %v, %+v at %v", e, da, e.now, db, back.now)
		}
	})
}

// likely draws events as a guard may see them, within hours.
func likely(t *rapid.T, n int) []event {
	now := time.Second
	es := make([]event, n)
	for i := range es {
		now += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "step"))
		e := event{kind: rapid.IntRange(0, 3).Draw(t, "kind"), now: now}
		ok := rapid.IntRange(0, 200).Draw(t, "OK")
		latency := time.Duration(rapid.Int64Range(1e6, 30e9).Draw(t, "latency"))
		e.w = Window{Start: now - time.Second, OK: ok, Timed: ok, Latency: time.Duration(ok) * latency, MinLatency: latency / 2,
			MaxInFlight: rapid.IntRange(1, 300).Draw(t, "MaxInFlight"), InFlight: rapid.IntRange(0, 300).Draw(t, "InFlight"),
			Waiting: rapid.IntRange(0, 3).Draw(t, "Waiting"), Full: rapid.Bool().Draw(t, "Full"), Tokens: int64(ok) * 400, OutputTokens: int64(ok) * 100, CachedTokens: int64(ok) * 50}
		e.c = Call{SentAt: now - latency, InFlight: rapid.IntRange(1, 300).Draw(t, "in flight"), Class: rapid.Uint8Range(0, 2).Draw(t, "class of the call")}
		e.back = rapid.Uint32Range(0, 1).Draw(t, "back")
		e.o = Outcome{Class: feedback.Class(rapid.IntRange(1, feedback.NumClasses-1).Draw(t, "class")), Scope: feedback.Scope(rapid.IntRange(0, feedback.NumScopes-1).Draw(t, "scope")),
			Deadline: rapid.Bool().Draw(t, "Deadline"), HasRetryAfter: rapid.Bool().Draw(t, "HasRetryAfter"), RetryAfter: time.Duration(rapid.Int64Range(0, 60).Draw(t, "RetryAfter")) * time.Second}
		e.hint = feedback.Window{Kind: feedback.Scope(rapid.IntRange(0, feedback.NumScopes-1).Draw(t, "kind of limit")), Limit: rapid.Int64Range(1, 1000).Draw(t, "limit"),
			Remaining: rapid.Int64Range(0, 1000).Draw(t, "remaining"), Reset: time.Duration(rapid.Int64Range(0, 120).Draw(t, "reset")) * time.Second}
		es[i] = e
	}
	return es
}

func TestPropGovernorRestoreContinuesIdentically(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New(Config{})
		es := likely(t, 60)
		cut := rapid.IntRange(1, len(es)).Draw(t, "saved after")
		for _, e := range es[:cut] {
			e.apply(a)
		}
		text, err := json.Marshal(a.State())
		if err != nil {
			t.Fatal(err)
		}
		var s GovernorState
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		b := New(Config{})
		b.Restore(s.At, s)
		if b.State() != a.State() {
			t.Fatalf("%+v, restored %+v", a.State(), b.State())
		}
		for i, e := range es[cut:] {
			if da, db := e.apply(a), e.apply(b); da != db {
				t.Fatalf("event %d: %+v, restored %+v", i, da, db)
			}
		}
	})
}

func TestPropGovernorRestoresAnything(t *testing.T) {
	// A state from anywhere is moved into range, whatever the clock shows.
	number := rapid.OneOf(rapid.Float64Range(0, 100), rapid.Float64())
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		g := New(cfg)
		var s GovernorState
		for _, f := range []*float64{&s.Limit, &s.Bound, &s.LastBound, &s.Top, &s.Flight, &s.Good, &s.Credit, &s.RefusedCount, &s.Flow, &s.Mean,
			&s.Pace[0].Rate, &s.Pace[0].Known, &s.Pace[1].Rate, &s.Slide.Tokens} {
			*f = number.Draw(t, "number")
		}
		for _, f := range []*float32{&s.Cells[3].Level, &s.Cells[3].Rate, &s.Cells[3].Latency,
			&s.Line.N, &s.Line.X, &s.Line.Y, &s.Line.XX, &s.Line.XY, &s.Line.YY, &s.StepOf, &s.StepLevel, &s.StepLatency, &s.BestRate, &s.BestLevel,
			&s.Size.N, &s.Size.U, &s.Size.V, &s.Size.UU, &s.Size.UV, &s.Size.VV, &s.Size.Class[1], &s.Size.Line.N, &s.Size.Line.X, &s.Size.Line.Y, &s.Size.Line.XX, &s.Size.Line.XY, &s.Size.Line.YY,
			&s.BlockTook, &s.BlockSize, &s.BlockLevel, &s.BlockLost,
			&s.Threshold, &s.Against, &s.MeanOf, &s.DoubleFrom, &s.BlockCalls, &s.BlockTimed, &s.BlockArea, &s.Spread, &s.CutLevel, &s.CutRate, &s.Pace[0].Use, &s.Base, &s.Noise, &s.Steep,
			&s.Slide.Allows, &s.Slide.Ask, &s.Slide.Room, &s.Slide.Flight, &s.Slide.FlightFlight, &s.Slide.FlightTokens, &s.Slide.TimeTokens, &s.Slide.Mean[1], &s.Slide.Var[7],
			&s.Spent.Mean, &s.Spent.Spread} {
			*f = float32(number.Draw(t, "number"))
		}
		instant := rapid.Map(rapid.OneOf(rapid.Int64Range(0, int64(time.Hour)), rapid.Int64()), func(n int64) time.Duration { return time.Duration(n) })
		for _, d := range []*time.Duration{&s.At, &s.CutAt, &s.DarkSince, &s.HoldUntil, &s.PausedUntil, &s.Origin, &s.FlowAt, &s.BlockAt, &s.DoubleAt, &s.Latency, &s.Pace[0].AnchorAt} {
			*d = instant.Draw(t, "instant")
		}
		s.Size.First, s.Size.Of[1], s.Counts = rapid.Uint8().Draw(t, "First"), rapid.Uint8().Draw(t, "Of"), rapid.Uint8().Draw(t, "Counts")
		s.Size.Mixed, s.Size.Share[1] = rapid.Bool().Draw(t, "Mixed"), rapid.Uint16().Draw(t, "Share")
		s.Slide.Of, s.Spent.Ring[3], s.Ticks.Ring[2] = rapid.Int8().Draw(t, "Of"), rapid.Uint8().Draw(t, "Spent"), rapid.Uint16().Draw(t, "Tick")
		s.Spent.Count, s.Ticks.Count, s.Ticks.Last = rapid.Int64().Draw(t, "SpentCount"), rapid.Int64().Draw(t, "TickCount"), rapid.Int64().Draw(t, "TickLast")
		s.Done, s.Refused, s.Second = rapid.Int64().Draw(t, "Done"), rapid.Int64().Draw(t, "Refused"), rapid.Int64().Draw(t, "Second")
		s.Old, s.InFlight, s.Streak, s.Wins, s.Test = rapid.Int32().Draw(t, "Old"), rapid.Int().Draw(t, "InFlight"), rapid.Int16().Draw(t, "Streak"), rapid.Int8().Draw(t, "Wins"), rapid.Int8().Draw(t, "Test")
		s.Lag.Hold, s.Lag.Fails, s.Lag.N, s.Lag.Last = rapid.Int8().Draw(t, "Hold"), rapid.Int8().Draw(t, "Fails"), rapid.Int16().Draw(t, "N"), rapid.Int64().Draw(t, "Last")
		for i, f := range []*float32{&s.Lag.Rate, &s.Lag.Debt, &s.Lag.Mean[0], &s.Lag.Mean[3], &s.Lag.Var[0], &s.Lag.Var[3]} {
			*f = float32(number.Draw(t, fmt.Sprint("lag ", i)))
		}
		now := instant.Draw(t, "now")
		g.Restore(now, s)
		in := cfg.clamp()
		sane(t, in, g.Decision())
		for _, e := range events(t, 20) {
			e = wilder(t, e)
			sane(t, in, e.apply(g))
		}
	})
}

func TestGovernorPaceIsFinite(t *testing.T) {
	now := time.Hour
	for name, s := range map[string]GovernorState{
		"calls that take no time":  {At: now, Limit: 4, SlowStart: true, Done: 1, BusyAt: now, Mean: 1e-320, MeanOf: 1},
		"a row that takes no time": {At: now, Limit: 4, Done: 10, Streak: 9, DarkSince: now - time.Minute, ActiveAt: now, Pace: [numPaces]PaceState{{Rate: 1}}},
		"a window without an end":  {At: now, Limit: 4, Done: 10, FlowAt: 1, Pace: [numPaces]PaceState{{Rate: 1, Use: 1e6, LastCount: 1}}},
	} {
		g := New(Config{})
		g.Restore(now, s)
		sane(t, g.cfg, g.Decision())
		for i := range 3 {
			sane(t, g.cfg, g.Window(now+time.Duration(i)*10*time.Hour, Window{Start: now, OK: 4e6, InFlight: 4, MaxInFlight: 4, Full: true}))
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// The limit that is remembered stays within the largest that may be chosen, also right after a state of a guard that was allowed more.
func TestGovernorRestoredLimitStaysBelowMax(t *testing.T) {
	now := time.Hour
	big := GovernorState{At: now, Limit: 5, Memory: 5000, Bound: 5000, LastBound: 5000, CutLevel: 5000, CutRate: 1000, Threshold: 5000, Open: true, DarkOverload: true, Streak: 5, Recovering: true, Against: 19}
	for name, tell := range map[string]func(*Governor){
		"a return from an outage": func(g *Governor) {
			g.Window(now, Window{Start: now, OK: 3, InFlight: 3, MaxInFlight: 3, Full: true})
		},
		"a verdict for a quota": func(g *Governor) {
			g.Ended(now, Call{SentAt: now, InFlight: 1}, Outcome{Class: feedback.Throttled})
		},
		"a trial": func(g *Governor) { g.try(now, 5000, true) },
		"less done with less in flight": func(g *Governor) {
			g.s.Limit = 5
			g.judge(now, &block{4, 1, 1})
		},
	} {
		g := New(Config{Max: 10})
		g.Restore(now, big)
		tell(g)
		if g.s.Limit > 10 {
			t.Errorf("%s: a limit of %v, want at most 10", name, g.s.Limit)
		}
	}
}

// Levels that no memory of them could hold are kept as the largest that it can, so that the state can be saved.
func TestCellHoldsWhatItIsTold(t *testing.T) {
	c := block{1e300, math.Inf(1), 1e300}.cell(0)
	if _, err := json.Marshal(c); err != nil {
		t.Errorf("%+v: %v", c, err)
	}
}
