package admission

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// fairBench is a bench whose calls say tokens and are of tenants; a budget has them settled with what they used.
type fairBench struct{ *bench }

func newFairBench(t *testing.T, limit int, weights map[string]float64) fairBench {
	return fairBench{newBench(t, limit, func(c *Config) {
		c.Queue, c.MaxWait = 1000, time.Hour
		c.Room.Weights = weights
		c.Budgets.Limits = []BudgetLimit{{Kind: feedback.ScopeTokens, Limit: 1 << 40, Period: time.Minute}}
	})}
}

func (b fairBench) ask(tenant string, tokens int64) *Waiter {
	w := &Waiter{}
	w.Tenant, w.Call.Tokens, w.Output = tenant, tokens, tokens/2
	b.core.Ask(b.now, w)
	b.next()
	return w
}

// A tenant that has one call at a time gets as much beside one with a backlog as when all say what they use, though they say a hundred times that.
func TestSinglesThatSayMoreThanTheyUse(t *testing.T) {
	for _, limit := range []int{1, 10} {
		singles := func(says, others int64) (starts int) { // each call uses 10 tokens
			b := newFairBench(t, limit, nil)
			var flying []*Waiter
			for range 2 * limit {
				flying = append(flying, b.ask("others", others))
			}
			flying = append(flying, b.ask("single", says))
			for range 20_000 {
				b.after(time.Millisecond)
				i := 0 // the call that started first ends
				for j, w := range flying {
					if w.State == Granted && (flying[i].State != Granted || w.Call.SentAt < flying[i].Call.SentAt) {
						i = j
					}
				}
				w := flying[i]
				b.finish(w, adaptive.Outcome{InputTokens: 10})
				b.log = b.log[:0]
				if w.Tenant == "single" {
					starts++
					flying[i] = b.ask("single", says)
				} else {
					flying[i] = b.ask("others", others)
				}
			}
			return starts
		}
		want := singles(10, 10)
		for _, c := range []struct{ says, others int64 }{{1000, 1000}, {10, 1000}, {1000, 10}, {1 << 30, 10}} {
			if got := singles(c.says, c.others); got < want*9/10 {
				t.Errorf("limit %d, it says %d and the others %d: %d of 20,000 starts are of the tenant with one call at a time, want %d as when all say 10",
					limit, c.says, c.others, got, want)
			}
		}
	}
}

// A call that tells of more tokens than can be added up is charged as the largest, and not as less than none.
func TestAbsurdUsageIsCharged(t *testing.T) {
	const absurd = 1<<63 - 1
	b := fairBench{newBench(t, 1, func(c *Config) { c.Budgets.Limits = []BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 1000}} })}
	first, own, other, last := b.ask("a", 10), b.ask("a", 10), b.ask("b", 10), b.ask("b", 10)
	b.finish(first, adaptive.Outcome{InputTokens: absurd, OutputTokens: absurd})
	b.finish(other, adaptive.Outcome{InputTokens: 10})
	if own.State != Queued || last.State != Granted {
		t.Error("the tenant that used so much goes before another's second call")
	}

	var r Room
	r.Configure(0, &QueueConfig{}, EstimateConfig{}, false)
	var in [3]Waiter
	for i := range in {
		in[i].Tenant = []string{"a", "b", "b"}[i]
		r.Ask(0, time.Hour, &in[i])
		r.Enter(&in[i], 10)
	}
	r.Charge(nil, "a", 0, 10, 10, feedback.Usage{Known: true, Input: absurd, Output: absurd}, true)
	r.Start(&in[1])
	if got := r.Next(0, 0); got != &in[2] {
		t.Errorf("a room: tenant %q goes before another's second call", got.Tenant)
	}
}

// A tenant none of whose calls are made, or that are all refused, is charged for the places that it holds: the other one that waits has its turns.
func TestPlacesThatAreHeldForNothing(t *testing.T) {
	refused := func(b fairBench, w *Waiter) { b.finish(w, adaptive.Outcome{Class: feedback.Throttled}) }
	abandoned := func(b fairBench, w *Waiter) {
		b.core.Abandon(b.now, &w.Grant, w.Charge())
		b.next()
	}
	for _, c := range []struct {
		name  string
		end   func(fairBench, *Waiter)
		took  time.Duration // of the calls of the other one
		heavy int           // of 1000 starts are of the tenant whose calls come to nothing
	}{
		{"abandoned", abandoned, time.Second, 500}, {"refused", refused, time.Second, 500},
		{"abandoned, after a tenth of the time", abandoned, 10 * time.Second, 909},
	} {
		b := newFairBench(t, 1, nil)
		holder := b.ask("made", 1000)
		b.after(c.took)
		b.finish(holder, adaptive.Outcome{InputTokens: 1000}) // how long a call takes is known
		b.core.flush(b.now)
		var in []*Waiter
		for range 4 {
			in = append(in, b.ask("heavy", 1000), b.ask("made", 1000))
		}
		heavy := 0
		for range 1000 {
			i := 0
			for in[i].State != Granted {
				i++
			}
			w := in[i]
			in[i] = b.ask(w.Tenant, 1000)
			if w.Tenant == "heavy" {
				heavy++
				b.after(time.Second)
				c.end(b, w)
			} else {
				b.after(c.took)
				b.finish(w, adaptive.Outcome{InputTokens: 1000})
			}
			b.log = b.log[:0]
		}
		if heavy < c.heavy*95/100 || heavy > c.heavy*105/100 {
			t.Errorf("%s: of 1000 starts %d are of the tenant whose calls come to nothing, want about %d", c.name, heavy, c.heavy)
		}
	}
}

// A call that was in flight while the weights changed gives back what it was charged, and no more or less.
func TestWeightsChangeDuringACall(t *testing.T) {
	for _, abandon := range []bool{true, false} {
		for _, c := range []struct{ before, after float64 }{{1, 10}, {10, 1}, {1, 1. / 16}} {
			b := newFairBench(t, 1, map[string]float64{"a": c.before})
			first := b.ask("first", 1000)
			w := b.ask("a", 1000)
			b.ask("a", 1000)
			b.ask("b", 1000)
			line := b.core.state.queue.classes[0].find("a")
			line.floor -= 1 << 50 // it has owed something for long
			was := line.tag
			b.finish(first, adaptive.Outcome{InputTokens: 1000})
			b.want(w, Granted, ReasonNone)
			cfg := *b.core.cfg
			cfg.Room.Weights = map[string]float64{"a": c.after}
			b.core.Reconfigure(b.now, &cfg, nil)
			if abandon {
				b.core.Abandon(b.now, &w.Grant, w.Charge())
			} else {
				b.core.settle(b.now, &w.Grant, &adaptive.Outcome{Class: feedback.Throttled})
			}
			if line.tag != was {
				t.Errorf("weight %v, then %v, abandoned %v: the tag is %d after the call was given back, want %d as before it", c.before, c.after, abandon, line.tag, was)
			}
		}
	}
}

// A tenant whose calls say any number keeps nobody out who comes later: what is said and never used is nothing to wait for.
func TestOneThatSaysAnyNumber(t *testing.T) {
	b := newFairBench(t, 1, nil)
	in := []*Waiter{b.ask("single", 100)}
	for range 3 { // so that two of each wait while one is in flight
		in = append(in, b.ask("liar", 1<<30), b.ask("honest", 100))
	}
	starts := 0
	for range 2000 {
		b.after(time.Millisecond)
		i := 0
		for in[i].State != Granted {
			i++
		}
		w := in[i]
		used := int64(100)
		switch w.Tenant {
		case "single":
			starts++
		case "liar":
			used = 10
		}
		b.finish(w, adaptive.Outcome{InputTokens: used})
		b.log = b.log[:0]
		in[i] = b.ask(w.Tenant, w.Said())
	}
	if starts < 100 || starts > 200 { // of 12 starts in turn ten are the liar's, each of a tenth of the tokens
		t.Errorf("of 2000 starts %d are of a tenant with one call at a time, beside one that says 2^30 tokens and uses 10, want about 167", starts)
	}
}

// Those who come for the first time, one after the other, go no more often before one that waits with many than when all say what they use, whatever
// calls say: what they used beyond what was expected counts for who comes next.
func TestNewcomersWhoseCallsSayAnything(t *testing.T) {
	waits := func(says, over int64) (starts int) { // each call uses 1000 tokens, those of one that waits with many, too, when over > 0, 100
		b := newFairBench(t, 1, nil)
		var in []*Waiter
		for range 3 {
			in = append(in, b.ask("waits", 1000))
			if over > 0 {
				in = append(in, b.ask("over", over))
			}
		}
		for i := range 5 {
			in = append(in, b.ask(strconv.Itoa(i), says))
		}
		for n := range 10_000 {
			b.after(time.Millisecond)
			i := slices.IndexFunc(in, func(w *Waiter) bool { return w.State == Granted })
			w := in[i]
			tenant, used := w.Tenant, int64(1000)
			switch tenant {
			case "over":
				used = 100
			case "waits":
				starts++
			default:
				tenant = strconv.Itoa(5 + n)
			}
			b.finish(w, adaptive.Outcome{InputTokens: used})
			in[i] = b.ask(tenant, w.Said())
			b.log = b.log[:0]
		}
		return starts
	}
	for _, c := range []struct{ says, over, all, overAll int64 }{{10, 0, 1000, 0}, {100_000, 0, 1000, 0}, {1000, 100_000, 1000, 100}} {
		got, want := waits(c.says, c.over), waits(c.all, c.overAll)
		if got < want*8/10 || got > want*12/10 {
			t.Errorf("newcomers say %d, and another one %d: of 10,000 starts %d are of the one that waits with many, want about %d as when all say what they use",
				c.says, c.over, got, want)
		}
	}
}
