package admission

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/feedback"
)

// Budgets that share one limit spend together no more than it holds, whatever their shares do, as long as the shares are never more than
// the whole.
func TestBudgetSharesKeepToTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 5000).Draw(t, "limit")
		burst := rapid.Int64Range(1, limit).Draw(t, "burst")
		fixed := rapid.Bool().Draw(t, "fixed")
		window := BudgetLimit{Kind: feedback.ScopeRequests, Limit: limit, Burst: burst, Fixed: fixed}
		if fixed {
			window.Burst, burst = 0, 2*limit // the windows of each begin and end when they do
		}
		period := time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Minute)).Draw(t, "period"))
		window.Period = period
		const n = 3
		var b [n]Budget
		shares := [n]float64{}
		for i := range b {
			b[i].Configure(0, BudgetConfig{Limits: []BudgetLimit{window}})
			b[i].Share(0, 0, 1.0/n)
			shares[i] = 1.0 / n
		}
		now, spent := time.Duration(0), int64(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(period)/10).Draw(t, "step"))
			i := rapid.IntRange(0, n-1).Draw(t, "who")
			if rapid.Bool().Draw(t, "share") {
				rest := 1.0
				for j := range shares {
					if j != i {
						rest -= shares[j]
					}
				}
				shares[i] = max(0, rest*rapid.Float64Range(0, 1).Draw(t, "part"))
				b[i].Share(now, 0, shares[i])
				continue
			}
			for {
				at, _ := b[i].At(now, Cost{})
				if _, ok := b[i].Reserve(now, Cost{}); !ok {
					if at <= now {
						t.Fatalf("At says now, Reserve says no")
					}
					break
				}
				if at > now {
					t.Fatalf("Reserve gives what At says comes at %v, at %v", at, now)
				}
				spent++
			}
			// Each budget has at least one unit at once, so that it can spend anything at all.
			if most := float64(burst) + n + float64(limit)*now.Seconds()/period.Seconds() + 1; float64(spent) > most {
				t.Fatalf("%d spent after %v, %.1f may be", spent, now, most)
			}
		}
	})
}

// The same of calls that use less than they reserved, which is given back whatever the shares have done since.
func TestBudgetSharesGiveBackNoMoreThanTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n, largest = 3, 20
		limit := rapid.Int64Range(100, 5000).Draw(t, "limit")
		period := time.Minute
		var b [n]Budget
		shares := [n]float64{}
		for i := range b {
			b[i].Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: limit, Period: period}}})
			b[i].Share(0, 0, 1.0/n)
			shares[i] = 1.0 / n
		}
		type flying struct {
			of int
			r  *Reservation
		}
		var open []flying
		now, used := time.Duration(0), int64(0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(period)/50).Draw(t, "step"))
			i := rapid.IntRange(0, n-1).Draw(t, "who")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				rest := 1.0
				for j := range shares {
					if j != i {
						rest -= shares[j]
					}
				}
				shares[i] = max(0, rest*rapid.Float64Range(0, 1).Draw(t, "part"))
				b[i].Share(now, 0, shares[i])
			case 1, 2:
				for range rapid.IntRange(1, 30).Draw(t, "calls") {
					cost := rapid.Int64Range(1, largest).Draw(t, "cost")
					r, ok := b[i].Reserve(now, Cost{Input: cost})
					if !ok {
						break
					}
					used += cost
					open = append(open, flying{i, &r})
				}
			case 3:
				for range min(len(open), 10) {
					f := open[0]
					open = open[1:]
					back := rapid.Int64Range(0, f.r.cost.Input-1).Draw(t, "back")
					used -= back
					b[f.of].Settle(now, f.r, feedback.Usage{Known: true, Input: f.r.cost.Input - back})
				}
			}
			// A part may be less than a call, which then starts when it is full.
			if most := float64(limit) + n*largest + float64(limit)*now.Seconds()/period.Seconds() + 1; float64(used) > most {
				t.Fatalf("%d used or reserved after %v, %.1f may be", used, now, most)
			}
		}
	})
}

// What a call reserved and did not use is given back, though the share was moved meanwhile, as it is several times a second where demand
// changes, or the limit was.
func TestBudgetGivesBackAfterItsShareMoved(t *testing.T) {
	for name, c := range map[string]struct {
		move func(*Budget)
		want int64
	}{
		"a larger share":                    {func(b *Budget) { b.Share(0, 0, 0.6) }, 3900},
		"a smaller share, which holds 4500": {func(b *Budget) { b.Share(0, 0, 0.45) }, 3500},
		"a larger limit": {func(b *Budget) {
			b.Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 12_000, Period: time.Hour}}})
		}, 3900},
		"a share that was full since": {func(b *Budget) {
			b.Share(0, 0, 0.1)
			if _, ok := b.Reserve(0, Cost{Input: 1000}); !ok {
				t.Error("the share is not full")
			}
		}, 0},
		"a share that was full and is larger since": {func(b *Budget) { b.Share(time.Hour, 0, 0.6) }, 0},
	} {
		var b Budget
		b.Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 10_000, Period: time.Hour}}})
		b.Share(0, 0, 0.5)
		r, ok := b.Reserve(0, Cost{Input: 4000})
		if !ok {
			t.Fatal("the first call is held back")
		}
		c.move(&b)
		left := b.State(0, 0).Left
		b.Settle(b.windows[0].at, &r, feedback.Usage{Known: true, Input: 100})
		if got := b.State(0, 0).Left - left; got != c.want {
			t.Errorf("%s: %d of 3900 that were not used are given back, want %d", name, got, c.want)
		}
	}
}

// What calls used beyond what they reserved is owed also when they end while others have the share, as without Redis or after a lull: a period of
// the whole limit at least.
func TestBudgetOwesWithoutItsShare(t *testing.T) {
	for _, limit := range []BudgetLimit{
		{Kind: feedback.ScopeTokens, Limit: 100_000},
		{Kind: feedback.ScopeTokens, Limit: 100_000, Fixed: true},
		{Kind: feedback.ScopeTokens, Limit: 100_000, Period: 48 * time.Hour},
	} {
		var b Budget
		b.Configure(0, BudgetConfig{Limits: []BudgetLimit{limit}})
		b.Share(0, 0, 0.5)
		r, ok := b.Reserve(0, Cost{Input: 50_000})
		if !ok {
			t.Fatal("the first call is held back")
		}
		b.Share(0, 0, 0)
		b.Settle(0, &r, feedback.Usage{Known: true, Input: 50_000, Output: 90_000})
		b.Share(0, 0, 0.5)
		if left := b.State(0, 0).Left; left != -90_000 && left != -89_999 { // 1 is what a share of 0 holds
			t.Errorf("%+v: %d left after 90,000 more than were reserved", limit, left)
		}
	}
}

// A limit that is configured again as it is, as by a reload, goes on filling up: a part of a unit is not lost, however often that happens.
func TestBudgetConfiguredAgainAndAgain(t *testing.T) {
	limits := []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 1, Period: time.Minute}}
	for _, share := range []float64{1, 0.5} {
		var b Budget
		b.Configure(0, BudgetConfig{Limits: limits})
		if share < 1 {
			b.Share(0, 0, share)
		}
		spent := 0
		for now := time.Duration(0); now < time.Hour; now += time.Second {
			if now%(30*time.Second) == 0 {
				b.Configure(now, BudgetConfig{Limits: limits})
			}
			if _, ok := b.Reserve(now, Cost{}); ok {
				spent++
			}
		}
		if want := int(60 * share); spent != want {
			t.Errorf("with a share of %v, %d spent in an hour, want %d", share, spent, want)
		}
	}
}

// A part of a unit a period is not lost.
func TestBudgetShareOfLittle(t *testing.T) {
	var b Budget
	b.Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 10, Burst: 1, Period: time.Second}}})
	b.Share(0, 0, 0.25)
	spent := 0
	for now := time.Duration(0); now < 100*time.Second; now += 10 * time.Millisecond {
		if _, ok := b.Reserve(now, Cost{}); ok {
			spent++
		}
	}
	if spent < 249 || spent > 251 {
		t.Errorf("%d spent in 100 s, want 250", spent)
	}
	if s := b.State(0, 0); s.Limit != 2 || s.Period != time.Second {
		t.Errorf("%+v", s)
	}
	b.Share(100*time.Second, 0, 0)
	if _, ok := b.Reserve(1000*time.Second, Cost{}); ok {
		t.Error("a share of nothing lets a call start")
	}
	// The share stays with a limit that stays, and nothing is given by it.
	b.Share(1000*time.Second, 0, 0.5)
	b.Configure(1000*time.Second, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 20, Burst: 1, Period: time.Second}}})
	spent = 0
	for now := 1000 * time.Second; now < 1100*time.Second; now += 10 * time.Millisecond {
		b.Share(now, 0, 0.5) // told again and again, it loses nothing
		if _, ok := b.Reserve(now, Cost{}); ok {
			spent++
		}
	}
	if spent < 998 || spent > 1001 {
		t.Errorf("%d spent in 100 s, want 1000", spent)
	}
}

// A fixed window that nobody has begun is full a period after its share became larger: what is new may have been spent until then by who had it.
// It took a call, and a period after that.
func TestBudgetShareOfAFixedWindow(t *testing.T) {
	var b Budget
	b.Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1000, Period: time.Minute, Fixed: true}}})
	b.Share(0, 0, 0) // it joins
	b.Share(time.Second, 0, 0.25)
	b.Share(10*time.Second, 0, 0.5)
	for now, want := range map[time.Duration]int64{10 * time.Second: 1, 61*time.Second - 1: 1, 61 * time.Second: 500, time.Hour: 500} {
		if s := b.State(now, 0); s.Left != want {
			t.Errorf("%v after it joined it has %d left, want %d", now, s.Left, want)
		}
	}
	if at, _ := b.At(10*time.Second, Cost{Input: 300}); at != 61*time.Second {
		t.Errorf("a call may start at %v, want 1m1s", at)
	}
	b.Share(time.Hour, 0, 0.2)
	b.Share(time.Hour, 0, 0.6) // 200 were left when it became larger
	if _, ok := b.Reserve(time.Hour, Cost{Input: 200}); !ok {
		t.Error("what was there before is gone")
	}
	if at, _ := b.At(time.Hour, Cost{Input: 600}); at != time.Hour+time.Minute {
		t.Errorf("the next window is at %v, want 1h1m", at)
	}
}

// A limit that was stated and shared, and then is what the upstream tells, is of the period that it had.
func TestBudgetShareThenTold(t *testing.T) {
	var b Budget
	b.Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 1000}}})
	b.Share(0, 0, 0.5)
	b.Configure(0, BudgetConfig{Limits: []BudgetLimit{{Kind: feedback.ScopeRequests}}})
	r, ok := b.Reserve(0, Cost{})
	if !ok {
		t.Fatal("nothing is told, and it is held back")
	}
	b.Sync(time.Second, feedback.Window{Kind: feedback.ScopeRequests, Limit: 1000, Remaining: 990, Reset: feedback.Unstated}, &r)
	b.Settle(time.Second, &r, feedback.Usage{})
	if s := b.State(time.Second, 0); s.Limit != 1000 || s.Period != time.Minute || s.Left < 980 || s.Left > 1000 || s.Share != 1 {
		t.Errorf("%+v, want 1000 a minute", s)
	}
}
