package admission

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// charge is what a call used of one limit, as an upstream sees it that charges at the start.
type charge struct {
	at   time.Duration
	cost int64
}

// replay returns the level of a bucket, in units * period, that was charged so and told the time at the
// end. It is the obvious bucket: it starts over and forgets nothing.
func replay(l BudgetLimit, depth int64, charges []charge, now time.Duration) int64 {
	p := int64(l.Period)
	level, at := depth*p, time.Duration(0)
	for _, c := range append(slices.Clone(charges), charge{now, 0}) {
		if c.at > at {
			level = min(depth*p, level+int64(c.at-at)*l.Limit)
			at = c.at
		}
		level -= c.cost * p
	}
	return level
}

// A bucket never holds more than an upstream's that was charged what the calls really used when they
// started, and just as much while nothing has been given back. At is exact, monotone and agrees with
// Reserve; a refund restores exactly.
func TestBudgetEqualsReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := BudgetLimit{
			Kind:   feedback.ScopeTokens,
			Limit:  rapid.Int64Range(1, 50).Draw(t, "limit"),
			Period: time.Duration(rapid.Int64Range(1, 1000).Draw(t, "period")),
		}
		depth := l.Limit
		if rapid.Bool().Draw(t, "burst") {
			l.Burst = rapid.Int64Range(1, l.Limit).Draw(t, "depth")
			depth = l.Burst
		}
		b := newBudget(l)
		type call struct {
			r     Reservation
			index int
		}
		var open []call
		var charges []charge
		now, latest := time.Duration(0), time.Duration(0)
		gave := false
		costs := rapid.OneOf(rapid.Int64Range(0, depth), rapid.Int64Range(0, 3), rapid.Int64Range(0, 3*depth))
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				w := b.windows[0]
				level, rem := w.refilled(now)
				got, want := level*int64(w.period)+rem, replay(l, depth, charges, latest)
				if got > want || !gave && got != want {
					t.Fatalf("level at %v = %d (%d + %d/%d), want %d, charged %v", now, got, level, rem, w.period, want, charges)
				}
			},
			"time": func(t *rapid.T) {
				now = max(0, now+time.Duration(rapid.Int64Range(-200, 600).Draw(t, "step")))
				latest = max(latest, now)
				b.windows[0].advance(now)
			},
			"reserve": func(t *rapid.T) {
				c := Cost{Input: costs.Draw(t, "cost")}
				at, limit := b.At(now, c)
				if at < now || (limit < 0) != (at == now) {
					t.Fatalf("At(%v, %v) = %v by %d", now, c, at, limit)
				}
				if more, _ := b.At(now, Cost{Input: c.Input + 1}); more < at {
					t.Fatalf("At for one more = %v, earlier than %v", more, at)
				}
				if later, _ := b.At(now+3, c); later != max(at, now+3) && now >= latest {
					t.Fatalf("At 3 ns later = %v, want %v", later, max(at, now+3))
				}
				try := func(now time.Duration) bool {
					again := *b
					again.windows = slices.Clone(b.windows)
					_, ok := again.Reserve(now, c)
					return ok
				}
				if at > now && (!try(at) || try(at-1)) {
					t.Fatalf("At(%v, %v) = %v: Reserve takes it then: %v, and before: %v", now, c, at, try(at), try(at-1))
				}
				r, ok := b.Reserve(now, c)
				if ok != (at == now) {
					t.Fatalf("Reserve(%v, %v) = %v, and At %v", now, c, ok, at)
				}
				if !ok {
					return
				}
				if rapid.IntRange(0, 3).Draw(t, "undo") == 0 && now == latest {
					was := b.State(now, 0)
					undo := reserveAny(b, now, Cost{Input: costs.Draw(t, "cost")})
					if undo.open && (!b.Refund(now, &undo) || b.State(now, 0) != was) {
						t.Fatalf("after a refund at once: %+v, want %+v", b.State(now, 0), was)
					}
				}
				charges = append(charges, charge{latest, c.Input})
				open = append(open, call{r, len(charges) - 1})
			},
			"end": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing in flight")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				c := open[i]
				open = slices.Delete(open, i, i+1)
				taken := c.r.cost.Input
				used := rapid.Int64Range(0, taken+2).Draw(t, "used")
				if used < taken {
					gave = true
				}
				latest = max(latest, now)
				if used == 0 && !b.Refund(now, &c.r) || used > 0 && !b.Settle(now, &c.r, feedback.Usage{Known: true, Output: used}) {
					t.Fatal("an open reservation could not be ended")
				}
				if b.Refund(now, &c.r) || b.Settle(now, &c.r, feedback.Usage{}) {
					t.Fatal("a reservation was ended twice")
				}
				charges[c.index].cost = min(used, taken)
				if used > taken {
					charges = append(charges, charge{latest, used - taken})
				}
			},
		})
	})
}

func reserveAny(b *Budget, now time.Duration, c Cost) Reservation {
	r, _ := b.Reserve(now, c)
	return r
}

// "Never more than burst + rate*T granted in any window": of calls that use what they reserved or less,
// whatever is refunded, over all limits at once; of a fixed window never more than its limit.
func TestBudgetBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := []BudgetLimit{
			{Kind: feedback.ScopeInputTokens, Limit: rapid.Int64Range(1, 100).Draw(t, "in"), Period: 1000},
			{Kind: feedback.ScopeTokens, Limit: rapid.Int64Range(1, 100).Draw(t, "all"), Period: 777, Fixed: true},
			{Kind: feedback.ScopeRequests, Limit: rapid.Int64Range(1, 20).Draw(t, "requests"), Period: 500},
		}
		b := new(Budget)
		b.Configure(0, BudgetConfig{Limits: limits, Oversize: Refuse})
		type call struct {
			r         Reservation
			at        time.Duration
			in, all   int64
			requests  int64
			windowEnd time.Duration
		}
		var calls []*call
		now := time.Duration(0)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += time.Duration(rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 400)).Draw(t, "step"))
			if rapid.Bool().Draw(t, "reserve") {
				c := Cost{Input: rapid.Int64Range(0, 40).Draw(t, "input"), Output: rapid.Int64Range(0, 40).Draw(t, "output")}
				if r, ok := b.Reserve(now, c); ok {
					calls = append(calls, &call{r, now, c.Input, c.Input + c.Output, 1, b.windows[1].at})
				}
				continue
			}
			if len(calls) == 0 {
				continue
			}
			c := rapid.SampledFrom(calls).Draw(t, "end")
			if !c.r.Open() {
				continue
			}
			if rapid.Bool().Draw(t, "refund") {
				b.Refund(now, &c.r)
				c.in, c.all, c.requests = 0, 0, 0
			} else {
				u := feedback.Usage{Known: true, Input: rapid.Int64Range(0, c.in).Draw(t, "in"), Output: rapid.Int64Range(0, c.all-c.in).Draw(t, "out")}
				b.Settle(now, &c.r, u)
				c.in, c.all = u.Input, u.Input+u.Output
			}
		}
		for i := range calls {
			var in, requests int64
			inWindow := int64(0)
			for _, c := range calls[i:] {
				in += c.in
				requests += c.requests
				d := int64(c.at - calls[i].at)
				if bound := limits[0].Limit*1000 + limits[0].Limit*d; in*1000 > bound {
					t.Fatalf("%d input tokens in %d ns of %d per 1000 ns", in, d, limits[0].Limit)
				}
				if bound := limits[2].Limit*500 + limits[2].Limit*d; requests*500 > bound {
					t.Fatalf("%d requests in %d ns of %d per 500 ns", requests, d, limits[2].Limit)
				}
				if c.windowEnd == calls[i].windowEnd {
					if inWindow += c.all; inWindow > limits[1].Limit {
						t.Fatalf("%d tokens in a fixed window of %d", inWindow, limits[1].Limit)
					}
				}
			}
		}
	})
}

// Headers, however wild, leave a budget that never hangs, never goes beyond its limits, and is full again
// in time.
func TestBudgetSyncWild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBudget(
			BudgetLimit{Kind: feedback.ScopeRequests, Limit: 10},
			BudgetLimit{Kind: feedback.ScopeTokens, Limit: 1000, Fixed: true},
			BudgetLimit{Kind: feedback.ScopeInputTokens},
			BudgetLimit{Kind: feedback.ScopeOutputTokens, Fixed: true},
			BudgetLimit{Kind: feedback.ScopeRequests, Period: time.Hour},
		)
		wild := rapid.OneOf(rapid.Int64Range(-1, 20), rapid.Int64Range(0, 2000), rapid.Int64())
		now := time.Duration(0)
		var open []*Reservation
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = max(0, now+time.Duration(rapid.Int64Range(-int64(time.Second), int64(20*time.Second)).Draw(t, "step")))
			if r, ok := b.Reserve(now, Cost{Input: rapid.Int64Range(0, 50).Draw(t, "in"), Output: rapid.Int64Range(0, 50).Draw(t, "out")}); ok {
				open = append(open, &r)
			}
			if len(open) > 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "whose")
				b.Sync(now, feedback.Window{
					Kind:  feedback.Scope(rapid.IntRange(0, feedback.NumScopes).Draw(t, "kind")),
					Limit: wild.Draw(t, "limit"), Remaining: wild.Draw(t, "remaining"), Reset: time.Duration(wild.Draw(t, "reset")),
				}, open[i])
				if rapid.Bool().Draw(t, "end") {
					b.Settle(now, open[i], feedback.Usage{Known: true, Input: wild.Draw(t, "used")})
				}
			}
			for i := range b.windows {
				w := &b.windows[i]
				if s := b.State(now, i); s.Left > w.depth || w.given.Limit > 0 && s.Limit > w.given.Limit || s.Limit < 0 {
					t.Fatalf("limit %d: %+v, depth %d, given %+v", i, s, w.depth, w.given)
				}
				if w.given.Fixed && !w.open && w.level != w.depth {
					t.Fatalf("limit %d is closed and not full: %d of %d", i, w.level, w.depth)
				}
			}
			c := Cost{Input: 1, Output: 1}
			at, _ := b.At(now, c)
			if _, ok := b.Reserve(at, c); !ok && at < math.MaxInt64 {
				again, limit := b.At(at, c)
				t.Fatalf("At = %v, and then Reserve fails; At = %v by %d", at, again, limit)
			}
			if at > now+24*time.Hour {
				return // a debt that wild usage made
			}
			now = max(now, at)
		}
	})
}
