package adaptive

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// lagPlay is a limit of n calls in flight that counts a call for lag longer than it takes, and as many callers as the law lets start: calls take 0.6 to
// 1.4 s, refusals 40 ms.
type lagPlay struct {
	g                 *Governor
	n                 int
	lag               func() time.Duration
	rng               *rand.Rand
	now               time.Duration
	ends, counted     ends
	refusals          []refusal
	held              []time.Duration
	next, window      time.Duration
	ok, refused, seen int
	noise             float64
	idle              bool // nobody asks
}

// refusal is one on its way back.
type refusal struct {
	at   time.Duration
	call Call
}

func (p *lagPlay) run(until time.Duration) {
	for ; p.now < until; p.now += time.Millisecond {
		now, waiting := p.now, 1
		if p.idle {
			waiting = 0
		}
		for len(p.counted) > 0 && p.counted[0] <= now {
			heap.Pop(&p.counted)
		}
		for len(p.ends) > 0 && p.ends[0] <= now {
			heap.Pop(&p.ends)
			p.ok++
			p.held = append(p.held, now)
			p.g.Window(now, Window{
				Start: p.window, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: p.seen, Full: !p.idle,
				InFlight: len(p.ends) + len(p.refusals) + 1, Held: len(p.held) - 1, Waiting: waiting,
			})
			p.seen, p.window = 0, now
		}
		for len(p.refusals) > 0 && p.refusals[0].at <= now {
			p.g.Ended(now, p.refusals[0].call, Outcome{Class: feedback.Throttled, Scope: feedback.ScopeUnknown})
			p.refusals = p.refusals[1:]
		}
		d := p.g.Decision()
		for len(p.held) > 0 && p.held[0]+d.FreeAfter <= now {
			p.held = p.held[1:]
		}
		used := len(p.ends) + len(p.refusals) + len(p.held) + 1
		if p.idle || now < d.NotBefore || now < p.next || used > d.Limit {
			continue
		}
		if d.Pace > 0 {
			p.next = now + time.Duration(1e9/d.Pace)
		}
		p.seen = max(p.seen, used)
		if len(p.counted) >= p.n || p.rng.Float64() < p.noise {
			p.refused++
			p.refusals = append(p.refusals, refusal{now + 40*time.Millisecond, Call{SentAt: now, Episode: d.Episode, InFlight: used}})
			continue
		}
		end := now + 600*time.Millisecond + time.Duration(p.rng.Int64N(int64(800*time.Millisecond)))
		heap.Push(&p.ends, end)
		heap.Push(&p.counted, end+p.lag())
	}
}

func newLagPlay(n int, seed uint64, lag time.Duration) *lagPlay {
	return &lagPlay{g: New(Config{}), n: n, rng: rand.New(rand.NewPCG(seed, 1)), lag: func() time.Duration { return lag }, now: time.Millisecond}
}

// The time for which calls are counted after their ends is learned, and with it the limit.
func TestGovernorLearnsLag(t *testing.T) {
	const seeds = 20
	sum, learned := 0.0, 0
	for seed := range uint64(seeds) {
		p := newLagPlay(20, seed, 400*time.Millisecond)
		p.run(2 * time.Minute)
		if d := p.g.Decision(); d.FreeAfter >= 300*time.Millisecond && d.FreeAfter <= 550*time.Millisecond {
			learned++
		}
		ok, refused := p.ok, p.refused
		p.run(5 * time.Minute)
		got := float64(p.ok-ok) / (20 / 1.4 * 180)
		sum += got
		if got < 0.8 || float64(p.refused-refused) > 0.04*float64(p.ok-ok) {
			t.Errorf("seed %d: %.2f of what can pass, %d refused of %d", seed, got, p.refused-refused, p.ok-ok)
		}
	}
	if sum/seeds < 0.9 {
		t.Errorf("%.3f of what can pass, want 0.9", sum/seeds)
	}
	if learned < seeds-2 {
		t.Errorf("after two minutes places are held for about 400 ms with %d of %d seeds", learned, seeds)
	}
}

// Where calls are counted for other times after their ends, something like them is learned.
func TestGovernorLearnsLagThatDiffers(t *testing.T) {
	learned := 0
	for seed := range uint64(5) {
		p := newLagPlay(20, seed, 0)
		p.lag = func() time.Duration { return time.Duration(p.rng.Int64N(int64(600 * time.Millisecond))) }
		p.run(3 * time.Minute)
		if d := p.g.Decision(); d.FreeAfter > 0 {
			learned++
			if d.FreeAfter < 150*time.Millisecond || d.FreeAfter > 750*time.Millisecond {
				t.Errorf("seed %d: places are held for %v", seed, d.FreeAfter)
			}
		}
	}
	if learned < 3 {
		t.Errorf("learned with %d of 5 seeds", learned)
	}
}

// Nothing is held where a call counts no longer than it takes. Refusals that come at random may look like a lag for a while.
func TestGovernorLearnsNoLag(t *testing.T) {
	held := 0
	for seed := range uint64(5) {
		limit, chance := newLagPlay(20, seed, 0), newLagPlay(1<<20, seed, 0)
		chance.g, chance.noise = New(Config{Max: 30}), 0.02
		for at := time.Second; at < 5*time.Minute; at += time.Second {
			if limit.run(at); limit.g.Decision().FreeAfter > 0 {
				t.Fatalf("seed %d: places are held for %v after %v", seed, limit.g.Decision().FreeAfter, at)
			}
			if chance.run(at); chance.g.Decision().FreeAfter > 0 {
				held++
			}
		}
	}
	if held > 5*300/5 {
		t.Errorf("where refusals come at random, places are held in %d of %d s", held, 5*300)
	}
	t.Logf("where refusals come at random, places are held in %d of %d s", held, 5*300)
}

// When calls are not counted any longer than they take, places are not held any more.
func TestGovernorForgetsLag(t *testing.T) {
	p := newLagPlay(20, 1, 400*time.Millisecond)
	p.run(2 * time.Minute)
	if p.g.Decision().FreeAfter == 0 {
		t.Fatal("nothing was learned")
	}
	p.lag = func() time.Duration { return 0 }
	ok := p.ok
	p.run(12 * time.Minute)
	if got := float64(p.ok-ok) / (20 * 600); got < 0.85 {
		t.Errorf("%.2f of what can pass, places are held for %v, limit %d", got, p.g.Decision().FreeAfter, p.g.Decision().Limit)
	}
}

// A time in which nobody asks says nothing of whether a hold is of use. Some are given up for other reasons.
func TestGovernorKeepsLagWhileIdle(t *testing.T) {
	const seeds = 40
	kept := 0
	for seed := range uint64(seeds) {
		p := newLagPlay(20, seed, 400*time.Millisecond)
		for p.g.Decision().FreeAfter == 0 && p.now < 2*time.Minute {
			p.run(p.now + time.Second)
		}
		for range 5 {
			p.idle = true
			p.run(p.now + 30*time.Second)
			p.idle = false
			p.run(p.now + 10*time.Second)
		}
		if l := p.g.State().Lag; l.Hold > 0 && l.Fails == 0 {
			kept++
		}
	}
	if kept < seeds*6/10 {
		t.Errorf("after five times in which nobody asked %d of %d hold their places still, want 24", kept, seeds)
	}
}

// However many calls ended in a window, all are remembered, and none before it.
func TestLagEnds(t *testing.T) {
	g := New(Config{})
	g.advance(0)
	for _, test := range []struct{ n, ticks int }{{1, 1}, {1, 9}, {2, 8}, {3, 8}, {10, 4}, {5, 5}, {64, 64}, {7, 200}} {
		g.s.Lag = LagState{}
		at := time.Minute
		since := at - time.Duration(test.ticks)*lagTick
		g.lagEnded(since, at, test.n)
		if got := g.lagHeld(at, time.Duration(min(test.ticks, lagTicks))*lagTick); got != float64(test.n) {
			t.Errorf("%d ends in %d ticks: %v are remembered", test.n, test.ticks, got)
		}
		if got := g.lagCounted(at + lagTicks*lagTick); got != [numLags + 1]float64{} {
			t.Errorf("%d ends in %d ticks are counted still: %v", test.n, test.ticks, got)
		}
		g.lagEnded(math.MinInt64, math.MaxInt64, math.MaxInt32) // no panic
		g.lagEnded(math.MaxInt64, 0, 1)
	}
}

// With a hold, the numbers that are refused differ about the boundary, and a cut leads below their mean; of few places it leads below each.
func TestGovernorLagCutsBelowTheMean(t *testing.T) {
	for _, test := range []struct{ was, mean, n, limit int }{{20, 20, 18, 18}, {20, 20, 17, 18}, {20, 20, 19, 18}, {6, 6, 5, 4}} {
		g := New(Config{})
		g.s.Lag.Hold, g.s.Lag.N = 4, lagMemory
		for i := range g.s.Lag.Mean {
			g.s.Lag.Mean[i], g.s.Lag.Var[i] = float32(test.mean), 4
		}
		g.s.Limit, g.s.Bound, g.s.LastBound, g.s.SlowStart, g.s.Credit = float64(test.was), float64(test.was), float64(test.was), false, 0
		if d := g.Ended(time.Second, Call{SentAt: time.Second - time.Millisecond, InFlight: test.n}, refused(feedback.ScopeUnknown)); d.Limit != test.limit {
			t.Errorf("refused at %d with a mean of %d: a limit of %d, want %d", test.n, test.mean, d.Limit, test.limit)
		}
	}
}

// Where times of a lag differ, the limit stays where as many are refused as may be: a refusal takes a call, and those that end well give it back.
func TestGovernorLagThatDiffersSpendsTheBudget(t *testing.T) {
	for _, test := range []struct {
		variance  float32
		gradually bool
	}{{1, true}, {0.1, false}} {
		g := New(Config{})
		s := &g.s
		s.Lag.Hold, s.Lag.N, s.Mean, s.MeanOf = 4, lagMemory, 1, 32
		for i := range s.Lag.Mean {
			s.Lag.Mean[i], s.Lag.Var[i] = 21, test.variance
		}
		s.Limit, s.Bound, s.LastBound, s.SlowStart, s.Credit = 19, 20, 20, false, 3
		at := time.Second
		for n := range 60 {
			at += 50 * time.Millisecond
			d := g.Window(at, Window{Start: at, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: int(s.Limit), InFlight: int(s.Limit) - 1, Full: true, Waiting: 9})
			if test.gradually && d.Limit != 19+(n+1)/50 {
				t.Fatalf("a limit of %d after %d calls that ended well, want one more for each fifty", d.Limit, n+1)
			}
		}
		if was := s.Limit; !test.gradually && was < 21 {
			t.Errorf("where refusals come at one number, a limit of %v after sixty calls, want a probe beyond 20", was)
		}
		if test.gradually {
			for range 4 { // none of them makes room for others
				was := s.Limit
				g.Ended(at, Call{SentAt: at - time.Millisecond, Episode: s.Episode, InFlight: 20}, refused(feedback.ScopeUnknown))
				s.Lag.Debt, s.Open = 0, false
				if was-s.Limit > 1.01 {
					t.Errorf("a refusal took the limit from %v to %v, want one call less", was, s.Limit)
				}
			}
		}
	}
}

// Where nothing is refused far above the numbers that were, the upstream has grown, and the limit is tried as any other.
func TestGovernorLagThatDiffersFindsGrowth(t *testing.T) {
	g := New(Config{})
	s := &g.s
	s.Lag.Hold, s.Lag.N, s.Mean, s.MeanOf = 4, lagMemory, 1, 32
	for i := range s.Lag.Mean {
		s.Lag.Mean[i], s.Lag.Var[i] = 21, 1
	}
	s.Limit, s.Bound, s.LastBound, s.SlowStart, s.Credit = 24.5, 24, 24, false, 3
	at := time.Second
	for range 60 {
		at += 50 * time.Millisecond
		g.Window(at, Window{Start: at, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 20, InFlight: 20, Full: true, Waiting: 9})
	}
	if s.Limit < 26.5 {
		t.Errorf("a limit of %v after sixty calls beside refusals at 20 to 22, want two calls more", s.Limit)
	}
}

// A time that differs from call to call leaves some of the variance, and times near to it about as much: their mean is taken, not the one that leaves least by chance.
func TestLagOfDifferingTimes(t *testing.T) {
	g := New(Config{})
	l := &g.s.Lag
	g.s.Flow, g.s.Mean = 12.5, 1.5
	l.N = 16
	l.Mean = [numLags + 1]float32{17.5, 18.1, 18.7, 19.4, 20, 21, 22, 23.5, 25, 27}
	l.Var = [numLags + 1]float32{1.5, 1.35, 1.2, 1, 0.97, 1, 0.96, 1.6, 2.6, 3.8}
	if got := g.lagBest(); got < 4 || got > 6 {
		t.Errorf("the time that is taken is place %d of lagTimes, want 4 to 6: 0.2 to 0.4 s", got)
	}
	// Of ends that have nothing to do with the refusals as much is added as ends differ by.
	for i, d := range lagTimes {
		x := g.s.Flow * d.Seconds()
		l.Var[i+1] = l.Var[0] + float32(x*5/6-x*x/float64(l.Mean[0]))
	}
	if got := g.lagBest(); got != 0 {
		t.Errorf("the time that is taken is place %d of lagTimes, want none", got)
	}
}
