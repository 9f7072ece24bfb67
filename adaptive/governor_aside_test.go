package adaptive

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// swallower is an upstream with places for 20 calls, which take about a second (those that it swallowed have none). From a minute on it answers none for 20 s, neither those that it has nor those that
// begin then; who waits for an answer gives up after two minutes.
type swallower struct {
	g        *Governor
	late     bool          // those that it has are answered when it answers again
	pause    time.Duration // it answers then, and refuses all with this delay
	ok       []time.Duration
	refused  int
	most     int // in flight while nothing was answered
	hung     int // the most that were aside
	inFlight []swallowed
}

type swallowed struct {
	call    Call
	ends    time.Duration
	outcome Outcome
	hangs   bool
}

func (u *swallower) run(until time.Duration) {
	const tick, from, to, patience = 10 * time.Millisecond, time.Minute, 80 * time.Second, 2 * time.Minute
	rng := rand.New(rand.NewPCG(3, 5))
	for now := time.Duration(0); now < until; now += tick {
		for i := 0; i < len(u.inFlight); i++ {
			f := &u.inFlight[i]
			if now >= from && now < to && u.pause == 0 && f.outcome.Class == feedback.OK && !f.hangs {
				f.hangs = true
				if f.ends = f.call.SentAt + patience; u.late {
					f.ends = to
				} else {
					f.outcome = Outcome{Class: feedback.Timeout}
				}
			}
			if f.ends > now {
				continue
			}
			c, o := f.call, f.outcome
			u.inFlight = slices.Delete(u.inFlight, i, i+1)
			i--
			if o.Class != feedback.OK {
				u.g.Ended(now, c, o)
				continue
			}
			u.ok = append(u.ok, now)
			u.g.Window(now, Window{Start: now - tick, OK: 1, Timed: 1, Latency: now - c.SentAt, MinLatency: now - c.SentAt, MaxInFlight: c.InFlight, Full: true, InFlight: len(u.inFlight), Waiting: 50})
		}
		d := u.g.Decision()
		if d.UntilFull && now >= d.Until && len(u.inFlight) >= d.Limit {
			d = u.g.Window(now, Window{Start: now - tick, InFlight: len(u.inFlight), Waiting: 50})
			if next := d.Until; next != 0 && next <= now {
				panic("it is asked again at once")
			}
		}
		for len(u.inFlight) < d.Limit && now >= d.NotBefore {
			f := swallowed{call: Call{SentAt: now, Episode: d.Episode, InFlight: len(u.inFlight) + 1}, ends: now + time.Duration(1e9*math.Exp(0.3*rng.NormFloat64()))}
			here := 0
			for i := range u.inFlight {
				if !u.inFlight[i].hangs {
					here++
				}
			}
			dark := now >= from && now < to
			if here >= 20 && !dark || dark && u.pause > 0 {
				u.refused++
				f.ends, f.outcome = now+20*time.Millisecond, Outcome{Class: feedback.Throttled, HasRetryAfter: u.pause > 0, RetryAfter: u.pause}
			}
			u.inFlight = append(u.inFlight, f)
			d = u.g.Decision()
		}
		u.hung = max(u.hung, int(u.g.s.Hung))
		if now >= from && now < to {
			u.most = max(u.most, len(u.inFlight))
		}
	}
}

// between returns how many calls ended well from one instant to another.
func (u *swallower) between(from, to time.Duration) (n int) {
	for _, at := range u.ok {
		if at >= from && at < to {
			n++
		}
	}
	return n
}

// An upstream that swallowed what it had answers again after 20 s, and those that it swallowed keep their places for two minutes. The guard did nothing until then.
func TestGovernorAside(t *testing.T) {
	for _, max := range []int{MaxLimit, 30} {
		u := &swallower{g: New(Config{Initial: 20, Max: max})}
		u.g.s.SlowStart = false
		u.run(4 * time.Minute)
		before, soon, later := u.between(30*time.Second, time.Minute), u.between(95*time.Second, 125*time.Second), u.between(200*time.Second, 230*time.Second)
		t.Logf("at most %d: %d calls in 30 s before, %d from 15 s after on, %d later; %d in flight meanwhile", max, before, soon, later, u.most)
		want := 0.8
		if max == 30 {
			want = 0.2 // 10 beside those that hang
		}
		if float64(soon) < want*float64(before) || float64(later) < 0.8*float64(before) {
			t.Errorf("%d calls from 15 s after on, %d when those that hung have given up, want %.0f %% of %d", soon, later, 100*want, before)
		}
		if n := u.g.Decision().Limit; n > max {
			t.Errorf("%d in flight, want %d at most", n, max)
		}
		if u.g.s.Hung != 0 {
			t.Errorf("%d are aside after all have ended", u.g.s.Hung)
		}
	}
}

// So many are tried while nothing is answered as make the wait half as long again each.
func TestGovernorAsideTries(t *testing.T) {
	u := &swallower{g: New(Config{Initial: 20})}
	u.g.s.SlowStart = false
	u.run(80 * time.Second)
	n := u.g.Decision().Limit - u.most
	if more := u.most - int(u.g.s.Limit); more < 4 || more > 7 || n > 1 {
		t.Errorf("%d in flight with a limit of %.1f after 20 s without an answer", u.most, u.g.s.Limit)
	}
}

// Who answers all, only late, swallowed none: none is aside.
func TestGovernorAsideLate(t *testing.T) {
	u := &swallower{g: New(Config{Initial: 20}), late: true}
	u.g.s.SlowStart = false
	u.run(100 * time.Second)
	if u.g.s.Hung != 0 || u.hung == 0 {
		t.Errorf("%d are aside, and all were answered; %d were", u.g.s.Hung, u.hung)
	}
}

// In a pause nothing is answered, as nothing is asked.
func TestGovernorAsidePause(t *testing.T) {
	u := &swallower{g: New(Config{Initial: 20}), pause: 15 * time.Second}
	u.g.s.SlowStart = false
	u.run(100 * time.Second)
	if u.hung != 0 || u.refused == 0 {
		t.Errorf("%d aside in a pause, %d refused", u.hung, u.refused)
	}
}

// shut returns the law of a guard with a limit of 10 whose calls take a second, at an instant from which on it hears no answer, with all places taken since.
func shut() (*Governor, time.Duration) {
	g := New(Config{Initial: 10})
	g.s.SlowStart, g.s.Threshold = false, 0
	now := time.Duration(0)
	for range 100 {
		now += 100 * time.Millisecond
		g.Window(now, Window{Start: now - 100*time.Millisecond, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 10, Full: true, InFlight: 9, Waiting: 5})
	}
	g.s.Limit = 10
	return g, now
}

// tries has the law of shut try one more, and returns when.
func tries(t *testing.T, g *Governor) time.Duration {
	t.Helper()
	d := g.Decision()
	if !d.UntilFull || d.Until <= 0 {
		t.Fatalf("until %v, full %v: it does not want to be asked", d.Until, d.UntilFull)
	}
	if n := g.Window(d.Until, Window{Start: d.Until, InFlight: d.Limit, Waiting: 5}).Limit; n != d.Limit+1 {
		t.Fatalf("a limit of %d after %v without an answer, want %d", n, d.Until, d.Limit+1)
	}
	return d.Until
}

// back has the call that tries one more answered, which sets ten aside.
func back(t *testing.T, g *Governor) time.Duration {
	t.Helper()
	from := tries(t, g)
	now := from + time.Second
	g.Window(now, Window{Start: from, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 11, Full: true, InFlight: 11, Waiting: 5})
	if g.s.Hung != 10 {
		t.Fatalf("%d are aside, want 10", g.s.Hung)
	}
	return now
}

// A call that is tried when it is due starts at that very instant.
func TestGovernorAsideAtOnce(t *testing.T) {
	g, _ := shut()
	back(t, g)
}

// However those end that were set aside, they are no longer.
func TestGovernorAsideEnds(t *testing.T) {
	for _, class := range []feedback.Class{feedback.Timeout, feedback.Overloaded, feedback.Throttled, feedback.QuotaExhausted, feedback.ServerError, feedback.Canceled} {
		for _, sent := range []time.Duration{10 * time.Second, -1} {
			g, _ := shut()
			now := back(t, g)
			for range 10 {
				g.Ended(now+time.Minute, Call{SentAt: sent, InFlight: 10}, Outcome{Class: class})
			}
			if g.s.Hung != 0 {
				t.Errorf("%v: %d are aside after all of them have ended that started at %v", class, g.s.Hung, sent)
			}
		}
	}
}

// Those that began since are not among them.
func TestGovernorAsideOthersEnd(t *testing.T) {
	for _, class := range []feedback.Class{feedback.Timeout, feedback.Overloaded, feedback.ServerError} {
		g, _ := shut()
		now := back(t, g)
		g.Ended(now+time.Minute, Call{SentAt: now, Episode: g.s.Episode, InFlight: 11}, Outcome{Class: class})
		if g.s.Hung != 10 {
			t.Errorf("%v: %d are aside after another has ended, want 10", class, g.s.Hung)
		}
	}
}

// An answer to a call of which it is not known when it began does not tell that others hang.
func TestGovernorAsideUnknown(t *testing.T) {
	g, _ := shut()
	now := tries(t, g) + time.Second
	g.Window(now, Window{Start: now, OK: 1, MaxInFlight: 10, Full: true, InFlight: 11, Waiting: 5})
	if g.s.Hung != 0 {
		t.Errorf("%d are aside after a window of one that was not timed", g.s.Hung)
	}
	g, _ = shut()
	now = tries(t, g) + time.Second
	g.Began(now, Call{SentAt: -1, InFlight: 10})
	if g.s.Hung != 0 {
		t.Errorf("%d are aside after one began that was not timed", g.s.Hung)
	}
}

// What a call saw in flight counts without those that are set aside.
func TestGovernorAsideSaw(t *testing.T) {
	g, _ := shut()
	now := back(t, g)
	g.s.CapAt = 10
	g.Window(now+time.Second, Window{Start: now, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 15, Full: true, InFlight: 14, Waiting: 5})
	if g.s.CapAt != 10 {
		t.Errorf("a limit at 10 is refuted by 5 in flight beside 10 that hang")
	}
}

// As many as a number holds are set aside at the most.
func TestGovernorAsideMost(t *testing.T) {
	g, _ := shut()
	g.cfg.Max = MaxLimit
	g.s.Hung, g.s.Limit = math.MaxUint16, 10
	d := g.Decision()
	g.s.InFlight = d.Limit
	if n := g.Window(d.Until, Window{Start: d.Until, InFlight: d.Limit, Waiting: 5}).Limit; n != d.Limit {
		t.Errorf("a limit of %d, want %d", n, d.Limit)
	}
}

// One that is tried and refused was beyond the limit, of which that says nothing, and it does not end the silence. One that names a delay, or what refuses, does.
func TestGovernorAsideRefused(t *testing.T) {
	for _, o := range []Outcome{{Class: feedback.Throttled}, {Class: feedback.Overloaded}, {Class: feedback.Throttled, Scope: feedback.ScopeRequests}, {Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Second}} {
		g, _ := shut()
		from := tries(t, g)
		was, now := g.s.Episode, from+20*time.Millisecond
		g.Ended(now, Call{SentAt: from, Episode: was, InFlight: 11}, o)
		if g.s.Hung != 0 {
			t.Errorf("%+v: %d are aside after a refusal", o, g.s.Hung)
		}
		if heard := o.Scope > feedback.ScopeConcurrency || o.HasRetryAfter; !heard && (g.s.Limit != 10 || g.s.Episode != was) {
			t.Errorf("%+v: a limit of %v after one more was refused, want 10", o, g.s.Limit)
		} else if heard && g.s.Episode == was && g.s.Pace[paceRequests].Rate == 0 {
			t.Errorf("%+v: not heard", o)
		}
		g.s.HoldUntil, g.s.PausedUntil = 0, 0
		first := time.Duration(1e9 * g.s.silent())
		if d := g.silentUntil() - now; d < first*5/4 {
			t.Errorf("%+v: the next is tried after %v, want longer than the first, after %v", o, d, first)
		}
	}
}

// What one that is tried must meet: somebody waits, all places are taken, by no more than the limit says, and by calls that were there when something was
// answered last. Else none is, however old the silence is.
func TestGovernorAsideNotTried(t *testing.T) {
	for name, edit := range map[string]func(*Governor, *Window){
		"nobody waits":             func(_ *Governor, w *Window) { w.Waiting = 0 },
		"places are free":          func(_ *Governor, w *Window) { w.InFlight-- },
		"the limit was lowered":    func(_ *Governor, w *Window) { w.InFlight++ },
		"most began since":         func(g *Governor, _ *Window) { g.s.InFlight = 4 },
		"few calls tell how long":  func(g *Governor, _ *Window) { g.s.MeanOf = hangCalls - 1 },
		"it is not known how long": func(g *Governor, _ *Window) { g.s.Mean = 0 },
		"in a hold":                func(g *Governor, _ *Window) { g.s.HoldUntil = 59 * time.Minute },
		"in a pause":               func(g *Governor, _ *Window) { g.s.PausedUntil = 59 * time.Minute },
		"refused lately":           func(g *Governor, _ *Window) { g.s.RefusedLast = 59 * time.Minute },
		"refusals take long":       func(g *Governor, _ *Window) { g.s.RefusalTime = 1800 },
		"more than by Little's law": func(g *Governor, _ *Window) {
			g.s.Tries = mostTries + 1
		},
	} {
		g, _ := shut()
		g.s.Mean = 40
		w := Window{InFlight: 10, Waiting: 5}
		edit(g, &w)
		if g.Window(time.Hour, w); g.s.Hung != 0 {
			t.Errorf("%s: one is tried", name)
		}
	}
	g, _ := shut()
	g.s.Mean = 40
	if g.Window(time.Hour, Window{InFlight: 10, Waiting: 5}); g.s.Hung != 1 || g.silentUntil() <= time.Hour {
		t.Errorf("%d are tried after an hour, want 1; the next at %v", g.s.Hung, g.silentUntil())
	}
}

// A silence is tried so often at the most, the last time within the hour after which it is no longer told apart from another.
func TestGovernorAsideLast(t *testing.T) {
	g, _ := shut()
	g.s.Mean = 1e6
	if until := g.silentUntil(); until > g.s.PassedAt+time.Hour {
		t.Errorf("the first is tried %v after an answer", until-g.s.PassedAt)
	}
	g.s.Tries = mostTries
	if until := g.silentUntil(); until != 0 {
		t.Errorf("one more after %d at %v", mostTries, until)
	}
}

// With fewer places it takes longer until it is no chance that none is answered.
func TestGovernorAsideFew(t *testing.T) {
	g, _ := shut()
	many := g.s.silent()
	g.s.Limit = 1
	if one := g.s.silent(); one < 3*many {
		t.Errorf("silent after %v s with one place, %v s with ten", one, many)
	}
}

// Where more than twice as many are in flight as by Little's law, and those that hang do not count, calls take long whatever is answered.
func TestGovernorAsideCrowded(t *testing.T) {
	for _, hung := range []int{0, 10} {
		g, now := shut()
		g.s.Hung, g.s.HoleAt, g.s.Flow, g.s.Mean = uint16(hung), 0, 10, 1
		g.answered(now, now-time.Second, 20+hung, 1)
		if g.s.Tries != 0 {
			t.Errorf("none is tried with 20 in flight beside %d", hung)
		}
		if g.answered(now, now-time.Second, 22+hung, 1); g.s.Tries <= mostTries {
			t.Errorf("one is tried with 22 in flight beside %d, of which 10 would do", hung)
		}
	}
}

// The limit comes back as after an outage, within what is allowed, and those that were in flight say nothing any more.
func TestGovernorAsideReturns(t *testing.T) {
	for _, test := range []struct {
		limit, min, max int
		stated          int32
		want            float64
	}{{11, 1, 100, 0, 6}, {11, 9, 100, 0, 9}, {11, 1, 5, 0, 3}, {11, 1, 100, 4, 2}} {
		g, now := shut()
		g.cfg.Min, g.cfg.Max, g.s.Stated, g.s.StatedAt = test.min, test.max, test.stated, now
		g.s.Limit, g.s.Open, g.s.Recovering, g.s.Good, g.s.Used, g.s.Wins, g.s.Flight = float64(test.limit), true, true, 5, true, 3, 11
		g.s.CalmAt, g.s.DoubleAt = 0, 0
		episode := g.s.Episode
		g.setAside(now, 10)
		s := &g.s
		if s.Limit != test.want {
			t.Errorf("%+v: a limit of %v", test, s.Limit)
		}
		if was := min(float64(test.limit), g.ceiling()); s.Threshold != float32(was) || !s.SlowStart {
			t.Errorf("%+v: slow start %v to %v, want to %v", test, s.SlowStart, s.Threshold, was)
		}
		if s.Open || s.Recovering || s.Good != 0 || s.Used || s.Wins != 0 || s.Flight != s.Limit || s.Cause != CauseRecovery {
			t.Errorf("%+v: it goes on as before", test)
		}
		if s.Episode != episode+1 || s.Old != 10 || s.CalmAt <= now || s.HoleAt != now || s.DoubleAt == 0 {
			t.Errorf("%+v: episode %d after %d, %d old, calm at %v", test, s.Episode, episode, s.Old, s.CalmAt)
		}
		if n := g.Decision().Limit; n > int(g.ceiling()) {
			t.Errorf("%+v: %d in flight, want %v at most", test, n, g.ceiling())
		}
	}
	g, now := shut()
	if g.setAside(now, MaxLimit); g.s.Hung != math.MaxUint16 {
		t.Errorf("%d of %d are aside", g.s.Hung, MaxLimit)
	}
}

// Those that hang and are answered after all are no longer aside, each by itself, and who began since is not counted among them.
func TestGovernorAsideAnswered(t *testing.T) {
	g, _ := shut()
	now := back(t, g) + time.Second
	g.Window(now, Window{Start: now, OK: 3, Timed: 3, Latency: 3 * 63 * time.Second, MinLatency: 63 * time.Second, MaxInFlight: 10, Full: true, InFlight: 15, Waiting: 5})
	if g.s.Hung != 7 {
		t.Errorf("%d are aside after 3 of 10 were answered, want 7", g.s.Hung)
	}
	g.Window(now, Window{Start: now, OK: 1, Timed: 1, Latency: time.Second / 2, MinLatency: time.Second / 2, MaxInFlight: 10, Full: true, InFlight: 15, Waiting: 5})
	if g.s.Hung != 7 {
		t.Errorf("%d are aside after another was answered, want 7", g.s.Hung)
	}
	if g.Window(now, Window{Start: now, InFlight: 5}); g.s.Hung != 5 {
		t.Errorf("%d are aside of 5 in flight", g.s.Hung)
	}
}

// Of calls of another process none hangs here.
func TestGovernorAsideRestored(t *testing.T) {
	g, _ := shut()
	now := back(t, g)
	for _, at := range []time.Duration{now, now + time.Second} {
		h := New(Config{})
		h.Restore(at, g.State())
		if same := h.s.Hung == 10; same != (at == now) {
			t.Errorf("%d are aside at %v of a state of %v", h.s.Hung, at, now)
		}
	}
	s := g.State()
	s.Hung, s.InFlight, s.Tries = math.MaxUint16, 3, math.MaxUint8
	h := New(Config{})
	if h.Restore(s.At, s); h.s.Hung > 3 || h.s.Tries > mostTries+1 {
		t.Errorf("%d of 3 are aside after %d tries", h.s.Hung, h.s.Tries)
	}
	quiet, _ := shut()
	s, h = quiet.State(), New(Config{})
	s.At += time.Minute
	h.Restore(0, s) // what was answered was so before its clock began
	if d := h.Decision(); d.Until < 0 || d.UntilFull != (d.Until > 0) {
		t.Errorf("until %v, full: %v", d.Until, d.UntilFull)
	}
}

// What hangs is in flight, but counts neither for the limit, nor for what a stated limit allows beside it, and its end is wanted at once.
func TestGovernorAsideBeside(t *testing.T) {
	g, _ := shut()
	now := back(t, g) + time.Second
	for range 100 {
		g.Window(now, Window{Start: now, OK: 1, Timed: 1, MinLatency: time.Millisecond, Latency: time.Millisecond, MaxInFlight: 16, Full: true, InFlight: 15, Waiting: 5})
	}
	if d := g.Decision(); d.AskAgain != 0 || g.s.InFlight != 15 || g.s.MeanLevel > 6 || g.now() != 6 {
		t.Errorf("asked again at %v, %d in flight, %v on average beside those that hang", d.AskAgain, g.s.InFlight, g.s.MeanLevel)
	}
	g.s.Limit, g.s.Stated, g.s.StatedAt = 10, 12, now
	if n := g.Decision().Limit; n != 12 {
		t.Errorf("%d in flight, want 12, as is stated", n)
	}
}

// A timeout of one that was set aside says nothing; one that began before a cut and was not is a crowd.
func TestGovernorAsideTimesOut(t *testing.T) {
	for _, aside := range []bool{true, false} {
		g, _ := shut()
		now := back(t, g)
		g.s.Bound, g.s.TimeoutDebt = 10, 0
		c := Call{SentAt: g.s.HoleAt - 1, Episode: g.s.Episode - 1, InFlight: 10}
		if !aside {
			c.SentAt = g.s.HoleAt
		}
		if g.Ended(now+time.Second, c, Outcome{Class: feedback.Timeout}); g.s.TimeoutDebt == 0 != aside {
			t.Errorf("set aside %v: a debt of %v", aside, g.s.TimeoutDebt)
		}
	}
}

// A refusal takes all back that were tried, and one that ends otherwise itself alone.
func TestGovernorAsideTakesBack(t *testing.T) {
	for class, want := range map[feedback.Class]uint16{feedback.Throttled: 0, feedback.Overloaded: 0, feedback.QuotaExhausted: 0, feedback.ServerError: 1, feedback.Timeout: 1} {
		g, _ := shut()
		tries(t, g)
		from := tries(t, g)
		g.Ended(from+time.Millisecond, Call{SentAt: from, Episode: g.s.Episode, InFlight: 12}, Outcome{Class: class})
		if g.s.Hung != want {
			t.Errorf("%v: %d of 2 that were tried are left, want %d", class, g.s.Hung, want)
		}
	}
}

// An answer that begins ends a silence as one that ends does.
func TestGovernorAsideBegins(t *testing.T) {
	g, _ := shut()
	from := tries(t, g)
	g.s.InFlight = 11
	g.Began(from+time.Second, Call{SentAt: from, Episode: g.s.Episode, InFlight: 11})
	if g.s.Hung != 10 || g.s.PassedAt != from+time.Second {
		t.Errorf("%d are aside, want 10; answered at %v", g.s.Hung, g.s.PassedAt)
	}
	g, _ = shut()
	from = tries(t, g)
	g.Began(from+time.Second, Call{SentAt: from - time.Second, Episode: g.s.Episode, InFlight: 10})
	if g.s.Hung != 0 || g.s.Tries != 0 {
		t.Errorf("%d are aside after an older answer began", g.s.Hung)
	}
}
