package admission

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// twin is a Core that is driven as package limiter drives it, by the short ways first.
type twin struct {
	*bench
	all      []*Waiter // in the order in which they asked
	index    map[*Waiter]int
	running  []int
	answered []string
	plain    int // how often the short ways were gone
}

func newTwin(t testing.TB, limit int, queueOnly bool, edit func(*Config)) *twin {
	w := &twin{bench: newBench(t, limit, edit), index: map[*Waiter]int{}}
	w.law.d.AskAgain = 1 << 62 // asked by what happens, not by every call
	w.core.open(0).queue.only = queueOnly
	w.core.decide(0, w.law.d)
	return w
}

func (b *twin) note(w *Waiter) {
	i := b.index[w]
	b.answered = append(b.answered, fmt.Sprintf("%v: %d %s at %v of %d", b.now, i, stateName(w), w.Call.SentAt, w.Call.InFlight))
	if w.State == Granted {
		b.running = append(b.running, i)
	}
}

func (b *twin) serve(own *Waiter) {
	for w := b.core.Next(b.now); w != nil; w = b.core.Next(b.now) {
		if w != own {
			b.note(w)
		}
	}
}

func (b *twin) ask(r Waiter) {
	w := &r
	b.index[w] = len(b.all)
	b.all = append(b.all, w)
	if n, t := b.core.Take(); t <= TookLast {
		w.State = Granted
		tokens := w.Call.Tokens
		w.Call = b.core.Start(b.now, n)
		w.Call.Tokens = tokens
		b.note(w)
		return
	}
	entered, free := b.core.Enter(b.now, w)
	if entered {
		b.plain++
	} else {
		b.core.Ask(b.now, w)
	}
	if !entered || free {
		b.serve(w)
	}
	if w.State != Queued {
		b.note(w)
	}
}

func (b *twin) end(k int, o adaptive.Outcome) {
	i := b.running[k]
	b.running = append(b.running[:k:k], b.running[k+1:]...)
	w := b.all[i]
	e := b.core.Finish(b.now, &w.Grant, &o)
	if e == Ended {
		return
	}
	if e == EndedServe {
		b.core.Took(b.now, TicketOf(&w.Grant.Call))
		if got, more := b.core.HandOver(b.now); got != nil {
			b.plain++
			b.note(got)
			if !more {
				return
			}
		}
		b.core.Tend(b.now)
	} else {
		b.core.Settle(b.now, e, &w.Grant, &o)
	}
	b.serve(nil)
}

// timer fires, if it is time.
func (b *twin) timer() {
	if at, ok := b.core.Wake(b.now); ok && at <= b.now {
		b.serve(nil)
	}
}

func (b *twin) state() string {
	at, ok := b.core.Wake(b.now)
	return fmt.Sprintf("%d of %d in flight, %d waiting, wake %v %v", b.core.InFlight(), b.core.Limit(), b.core.Waiting(), at, ok)
}

// TestPlainLineEqualsQueue: with a plainLine a Core decides what it decides without one.
func TestPlainLineEqualsQueue(t *testing.T) {
	plain := 0
	rapid.Check(t, func(rt *rapid.T) {
		aging := time.Duration(rapid.IntRange(0, 3).Draw(rt, "aging s")) * time.Second
		drop := Drop(rapid.IntRange(0, NumDrops-1).Draw(rt, "drop"))
		queue := rapid.IntRange(1, 12).Draw(rt, "queue")
		limit := rapid.IntRange(1, 3).Draw(rt, "limit")
		maxWait := time.Duration(rapid.IntRange(1, 30).Draw(rt, "max wait s")) * time.Second
		odd := rapid.SampledFrom([]int{0, 0, 5, 40}).Draw(rt, "percent of calls that are not alike")
		edit := func(c *Config) {
			c.Queue, c.MaxWait = queue, maxWait
			c.Room = QueueConfig{Aging: aging, Drop: drop}
		}
		var log []string
		cores := []*twin{newTwin(t, limit, false, edit), newTwin(t, limit, true, edit)}
		now := time.Duration(0)
		each := func(format string, a []any, f func(b *twin)) {
			log = append(log, fmt.Sprintf("%v ", now)+fmt.Sprintf(format, a...))
			for _, b := range cores {
				b.now = now
				f(b)
				b.timer()
			}
		}
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			now += time.Duration(rapid.IntRange(0, 400).Draw(rt, "ms")) * time.Millisecond
			each("time passes", nil, func(*twin) {})
			b := cores[0]
			switch step := rapid.IntRange(0, 15).Draw(rt, "step"); {
			case step < 7:
				var r Waiter
				if rapid.IntRange(1, 100).Draw(rt, "alike?") <= odd {
					r.Tenant = rapid.SampledFrom([]string{"", "a", "b"}).Draw(rt, "tenant")
					r.Priority = uint8(rapid.IntRange(0, 3).Draw(rt, "priority"))
					r.Retry = rapid.Bool().Draw(rt, "retry")
					r.Call.Tokens = int64(rapid.IntRange(0, 5).Draw(rt, "tokens"))
				}
				if rapid.IntRange(0, 4).Draw(rt, "gives up?") == 0 {
					r.GiveUp = now + time.Duration(rapid.IntRange(0, 5000).Draw(rt, "gives up in ms"))*time.Millisecond
				}
				each("ask %q %d %v %d %v", []any{r.Tenant, r.Priority, r.Retry, r.Call.Tokens, r.GiveUp}, func(b *twin) { b.ask(r) })
			case step < 12:
				if len(b.running) == 0 {
					break
				}
				k := rapid.IntRange(0, len(b.running)-1).Draw(rt, "who ends")
				var o adaptive.Outcome
				switch rapid.IntRange(0, 9).Draw(rt, "how") {
				case 0:
					o.Class = feedback.Throttled
				case 1:
					o = adaptive.Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 700 * time.Millisecond}
				case 2:
					o.OutputTokens = 7
				}
				next, pace := rapid.IntRange(1, 4).Draw(rt, "limit then"), rapid.SampledFrom([]float64{0, 0, 0, 5}).Draw(rt, "pace then")
				each("end %d %v, limit %d, pace %v", []any{b.running[k], o.Class, next, pace}, func(b *twin) {
					b.law.d.Limit, b.law.d.Pace = next, pace
					b.end(k, o)
				})
			case step == 12:
				var waiting []int
				for i, w := range b.all {
					if w.State == Queued {
						waiting = append(waiting, i)
					}
				}
				if len(waiting) == 0 {
					break
				}
				i := rapid.SampledFrom(waiting).Draw(rt, "who gives up")
				each("cancel %d", []any{i}, func(b *twin) {
					if !b.core.Cancel(b.all[i]) {
						rt.Fatalf("Cancel of %d, which waits, failed", i)
					}
					b.serve(nil)
				})
			case step == 13:
				each("look", nil, func(b *twin) { b.serve(nil) })
			case step == 14:
				if at, ok := b.core.Wake(now); ok {
					now = at
					each("wake", nil, func(b *twin) { b.serve(nil) })
				}
			case step == 15:
				switch rapid.IntRange(0, 3).Draw(rt, "what") {
				case 0:
					each("pause", nil, func(b *twin) {
						b.core.Pause(now, now+time.Second)
						b.serve(nil)
					})
				case 1:
					each("reload", nil, func(b *twin) {
						cfg := *b.core.cfg
						cfg.Law, cfg.MaxWait = nil, 5*time.Second
						b.core.Reconfigure(now, &cfg, nil)
						b.serve(nil)
					})
				case 2:
					var told [2][]string
					for i, b := range cores {
						// How many are ahead is exact in the line, and an estimate in the queue.
						b.core.Waits(now, 5, func(w *Waiter, _ int, _ time.Duration) {
							told[i] = append(told[i], fmt.Sprint(b.index[w], w.Why))
						})
					}
					if !reflect.DeepEqual(told[0], told[1]) {
						rt.Fatalf("%v\nWaits: %v with the line, %v without", log, told[0], told[1])
					}
				}
			}
			a, q := cores[0], cores[1]
			if !reflect.DeepEqual(a.answered, q.answered) || a.state() != q.state() || !reflect.DeepEqual(a.core.Counts(), q.core.Counts()) ||
				!reflect.DeepEqual(a.law.windows, q.law.windows) {
				for _, l := range log {
					rt.Log(l)
				}
				rt.Fatalf("with the line:    %v, %s, %+v\nwithout the line: %v, %s, %+v",
					a.answered, a.state(), a.core.Counts(), q.answered, q.state(), q.core.Counts())
			}
			if q.plain != 0 {
				rt.Fatalf("the Core without a line went the short way")
			}
		}
		plain += cores[0].plain
	})
	if plain < 100 && !testing.Short() { // -short makes few histories
		t.Errorf("the short ways were gone %d times: the test tests nothing", plain)
	}
}

// While a law has a pace, as all have when they start, callers go through the queue; with callers always waiting they
// come back to the line once as many have started without a pace as wait.
func TestPlainLineComesBack(t *testing.T) {
	b := newTwin(t, 1, false, func(c *Config) { c.Law.(*script).d.Pace = 1000 })
	for range 5 {
		b.ask(Waiter{})
	}
	s := b.core.state
	if s.line.n != 0 || s.queue.len() != 4 {
		t.Fatalf("%d in line and %d in the queue, want all in the queue while there is a pace", s.line.n, s.queue.len())
	}
	b.law.d.Pace = 0
	b.end(0, adaptive.Outcome{Class: feedback.ServerError}) // the law is asked
	ends := 0
	for ; s.line.n == 0 && ends < 20; ends++ {
		b.now += time.Millisecond
		b.ask(Waiter{})
		b.end(0, adaptive.Outcome{})
	}
	if s.line.n != 3 || s.queue.len() != 0 || ends != 2 { // with the one before them, as many as wait
		t.Errorf("%d in line and %d in the queue after %d calls, want 3 in line after 2", s.line.n, s.queue.len(), ends)
	}
	b.ask(Waiter{queueItem: queueItem{Tenant: "a"}})
	if s.line.n != 0 || s.queue.len() != 4 {
		t.Errorf("%d in line and %d in the queue, want all in the queue when somebody is not alike", s.line.n, s.queue.len())
	}
}

// Who has left the line is not kept by those who came after: in a guard where somebody always waits, that were all who ever did.
func TestPlainLineKeepsNobody(t *testing.T) {
	b := newTwin(t, 1, false, nil)
	for range 3 {
		b.ask(Waiter{})
	}
	for range 50 {
		b.ask(Waiter{})
		b.end(0, adaptive.Outcome{})
		b.ask(Waiter{})
		b.core.Cancel(b.all[len(b.all)-2])
	}
	kept := map[*Waiter]bool{}
	for look := []*Waiter{b.core.state.line.head, b.core.state.line.tail}; len(look) > 0; look = look[1:] {
		if w := look[0]; w != nil && !kept[w] {
			kept[w] = true
			look = append(look, w.before, w.behind)
		}
	}
	if n := b.core.state.line.n; b.plain < 100 || len(kept) > n+1 {
		t.Errorf("%d of %d who asked are kept, while %d wait", len(kept), len(b.all), n)
	}
}

// A caller that was overtaken between reading the clock and the lock counts as having asked with the one before it; one
// whose clock went far back is no longer alike.
func TestPlainLineStaysInOrder(t *testing.T) {
	b := newTwin(t, 1, false, nil)
	b.now = time.Minute
	b.ask(Waiter{})
	b.ask(Waiter{})
	b.now -= time.Millisecond
	b.ask(Waiter{})
	if w := b.all[2]; b.core.state.line.n != 2 || w.Since != time.Minute || w.Deadline != b.all[1].Deadline {
		t.Fatalf("%d in line, the second since %v until %v; want 2, since 1m until %v", b.core.state.line.n, w.Since, w.Deadline, b.all[1].Deadline)
	}
	b.now -= 2 * time.Second
	b.ask(Waiter{})
	if s := b.core.state; s.line.n != 0 || s.queue.len() != 3 {
		t.Fatalf("%d in line and %d in the queue, want 0 and 3", s.line.n, s.queue.len())
	}
	if at, ok := b.core.Wake(b.now); !ok || at != b.all[3].Deadline {
		t.Errorf("Wake() = %v, %v, want %v: the one that expires first", at, ok, b.all[3].Deadline)
	}
}

// The queue does not wake up to what it was not asked for: a class that starts in the line has had its turn.
func TestUnifyCountsTurns(t *testing.T) {
	b := newTwin(t, 1, false, func(c *Config) { c.Room.Aging = time.Second })
	for range 4 {
		b.ask(Waiter{})
	}
	b.now = time.Second
	b.end(0, adaptive.Outcome{})
	b.end(0, adaptive.Outcome{})
	if b.plain != 5 {
		t.Fatalf("the short ways were gone %d times, want 5", b.plain)
	}
	b.core.unify(b.now)
	if q := &b.core.state.queue; q.starts != 2 || q.classes[0].turn != 2 || q.len() != 1 {
		t.Errorf("queue: %d starts, turn %d, %d waiting; want 2, 2, 1", q.starts, q.classes[0].turn, q.len())
	}
}
