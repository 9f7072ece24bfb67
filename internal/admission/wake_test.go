package admission

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// TestWakeMissesNothing: who is looked at when Wake says is answered as one who is looked at all the time, and at the same instants.
func TestWakeMissesNothing(t *testing.T) {
	answers := 0
	rapid.Check(t, func(rt *rapid.T) {
		one := func(name string, of ...int) int { return rapid.SampledFrom(of).Draw(rt, name) }
		d := adaptive.Decision{
			Limit: one("limit", 1, 2, 3, 7), Pace: float64(one("pace", 0, 0, 2, 100)), TokenPace: float64(one("token pace", 0, 0, 50, 1000)),
			FreeAfter: time.Duration(one("free after", 0, 0, 1, 700, 5000)) * time.Millisecond,
		}
		room := QueueConfig{Aging: time.Duration(one("aging", 0, 1, 5)) * time.Second, Weights: map[string]float64{"a": 3}, Drop: Drop(one("drop", 0, 1, 2, 3))}
		if one("reserve", 0, 1) == 1 {
			room.ReservedShare, room.ReservedFor = 0.5, 2
		}
		var budgets BudgetConfig
		for range one("budgets", 0, 0, 1, 2) {
			kind := rapid.SampledFrom([]feedback.Scope{feedback.ScopeRequests, feedback.ScopeTokens, feedback.ScopeOutputTokens}).Draw(rt, "kind")
			budgets.Limits = append(budgets.Limits, BudgetLimit{
				Kind: kind, Limit: int64(one("rate", 1, 10, 1000)), Period: time.Duration(one("period", 1, 7, 60)) * time.Second, Fixed: one("fixed", 0, 1) == 1,
			})
		}
		queue, maxWait := one("queue", 1, 3, 100), time.Duration(one("max wait", 1, 10, 100))*time.Second
		var cores [2]*twin // the second is looked at all the time
		for i := range cores {
			cores[i] = newTwin(t, d.Limit, false, func(c *Config) { c.Queue, c.MaxWait, c.Room, c.Budgets = queue, maxWait, room, budgets })
			d.AskAgain = 1 << 62
			cores[i].law.d = d
			cores[i].core.decide(0, d)
		}
		now := time.Duration(0)
		var story []string
		both := func(what string, f func(b *twin)) {
			for _, b := range cores {
				b.now = now
				f(b)
				b.serve(nil)
			}
			story = append(story, fmt.Sprintf("%v %s", now, what))
			if a, b := cores[0], cores[1]; !reflect.DeepEqual(a.answered, b.answered) || a.state() != b.state() {
				rt.Fatalf("%+v, %+v, %+v\n%q\nwhen Wake says: %q, %s\nall the time:   %q, %s", d, room, budgets, story, a.answered, a.state(), b.answered, b.state())
			}
			answers += len(cores[0].answered)
			cores[0].answered, cores[1].answered = nil, nil
		}
		for range rapid.IntRange(1, 100).Draw(rt, "steps") {
			until := now + time.Duration(one("ms", 0, 1, 30, 300, 7000))*time.Millisecond
			for now < until {
				wake, ok := cores[0].core.Wake(now)
				if !ok || wake > until {
					wake = until
				}
				for look := now + (wake-now)/3; look > cores[1].now && look < wake; look += max(1, (wake-now)/3) {
					cores[1].now = look
					cores[1].serve(nil)
				}
				now = max(wake, now+1)
				both("looks", func(*twin) {})
			}
			switch step := one("step", 0, 0, 0, 0, 1, 1, 1, 2, 3, 4); {
			case step == 0:
				r := Waiter{}
				r.Tenant = rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(rt, "tenant")
				r.Priority, r.Call.Tokens = uint8(one("priority", 0, 0, 2, 7)), int64(one("tokens", 0, 0, 1, 30, 2000))
				r.Output = r.Call.Tokens / 2
				both("asks", func(b *twin) { b.ask(r) })
			case step == 1 && len(cores[0].running) > 0:
				k := rapid.IntRange(0, len(cores[0].running)-1).Draw(rt, "who")
				o := adaptive.Outcome{Class: feedback.Class(one("class", 0, 0, 0, int(feedback.Throttled), int(feedback.Canceled)))}
				o.RetryAfter = time.Duration(one("delay", 0, 0, 700, 5000)) * time.Millisecond
				o.HasRetryAfter = o.RetryAfter > 0
				both("ends", func(b *twin) { b.end(k, o) })
			case step == 2:
				if i := rapid.IntRange(0, len(cores[0].all)).Draw(rt, "who"); i < len(cores[0].all) && cores[0].all[i].State == Queued {
					both("gives up", func(b *twin) { b.core.Cancel(b.all[i]) })
				}
			case step == 3:
				until := now + time.Duration(one("pause", 1, 20))*time.Second
				both("pause", func(b *twin) { b.core.Pause(now, until) })
			case step == 4:
				share := float64(one("share", 0, 1, 2)) / 2
				both("share", func(b *twin) { b.core.ShareBudget(now, []float64{share, 1}) })
			}
		}
	})
	if answers < 100 && !testing.Short() { // -short makes few histories
		t.Errorf("%d were answered: the test tests nothing", answers)
	}
}
