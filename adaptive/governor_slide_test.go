package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// A quota that counts the calls of any 10 s, half minute or minute is told from others by its refusals alone, and afterwards hardly any call is refused and all are
// served. (In one world of twenty its refusals happen to be explained as well by a bucket.)
func TestGovernorLearnsSlidingWindows(t *testing.T) {
	worlds, learned, late, ok, refused := 0, 0, 0, 0, 0
	for _, w := range []struct {
		calls  int
		length time.Duration
	}{{100, 10 * time.Second}, {300, 30 * time.Second}, {100, time.Minute}, {600, time.Minute}} {
		for seed := range uint64(20) {
			u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(seed, 1)), burst: w.calls * 3 / 2, every: w.length * 7 / 4, takes: slidingLog(&w.calls, w.length)}
			u.run(20 * w.length)
			worlds++
			d := &u.g.s.Slide
			if d.Of == 0 {
				continue
			}
			if learned++; slideTimes[d.Of-1] != w.length || math.Abs(float64(d.Allows)/float64(w.calls)-1) > 0.04 {
				t.Errorf("%d calls in %v, seed %d: %+v", w.calls, w.length, seed, *d)
			}
			if u.learned > 40 {
				late++
				t.Logf("%d calls in %v, seed %d: it took %d refusals to learn it", w.calls, w.length, seed, u.learned)
			}
			ok, refused = ok-u.ok, refused-u.refused
			u.run(60 * w.length)
			ok, refused = ok+u.ok, refused+u.refused
			if u.waiting > 4*w.calls {
				t.Errorf("%d calls in %v, seed %d: %d wait, although fewer are asked for than it allows", w.calls, w.length, seed, u.waiting)
			}
		}
	}
	t.Logf("%d of %d learned; afterwards %d refused of %d", learned, worlds, refused, ok)
	if late > worlds/40 {
		t.Errorf("%d of %d windows took more than 40 refusals to be learned", late, worlds)
	}
	if learned < worlds*9/10 {
		t.Errorf("%d of %d windows were learned", learned, worlds)
	}
	if refused > ok*15/1000 {
		t.Errorf("%d refused of %d", refused, ok)
	}
}

// A burst after a time in which nobody called starts at once, as far as the window has room, and is told apart from a pace.
func TestGovernorSlidingWindowAfterIdle(t *testing.T) {
	calls := 300
	u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(7, 1)), burst: 400, every: 100 * time.Second, takes: slidingLog(&calls, time.Minute)}
	u.run(20 * time.Minute)
	u.burst = 0
	u.run(24 * time.Minute) // all is served
	if u.waiting > 0 || u.g.s.Slide.Of == 0 {
		t.Fatalf("%d wait after minutes without calls; %+v", u.waiting, u.g.s.Slide)
	}
	u.waiting = 280
	ok := u.ok
	u.run(24*time.Minute + 20*time.Second)
	if got := u.ok - ok; got < 270 {
		t.Errorf("%d of 280 that came at once passed in 20 s at a quota of 300 a minute, want 270 at least: %+v", got, u.g.Decision())
	}
}

// When the window allows half as many, or twice as many, that is found.
func TestGovernorFollowsSlidingWindows(t *testing.T) {
	calls := 200
	u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(3, 1)), burst: 300, every: 50 * time.Second, takes: slidingLog(&calls, 30*time.Second)}
	for _, step := range []struct {
		calls int
		in    time.Duration
	}{{200, 10 * time.Minute}, {100, 5 * time.Minute}, {200, 5 * time.Minute}} {
		calls = step.calls
		u.run(u.now + step.in)
		if d := &u.g.s.Slide; d.Of == 0 || math.Abs(float64(d.Allows)/float64(calls)-1) > 0.1 {
			t.Errorf("%v after it allows %d: %+v", step.in, calls, *d)
		}
	}
}

// What is a bucket from now on is no window after some refusals.
func TestGovernorForgetsSlidingWindows(t *testing.T) {
	calls := 200
	u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(5, 1)), burst: 300, every: 50 * time.Second, takes: slidingLog(&calls, 30*time.Second)}
	u.run(10 * time.Minute)
	if u.g.s.Slide.Of == 0 {
		t.Fatal("nothing was learned, so this tests nothing")
	}
	u.takes = bucketOf(7, 20)
	u.run(15 * time.Minute)
	ok, refused := u.ok, u.refused
	u.run(25 * time.Minute)
	if got := u.ok - ok; got < 600*7*85/100 {
		t.Errorf("%d passed in ten minutes at 7 a second", got)
	}
	if got := u.refused - refused; got > (u.ok-ok)/10 {
		t.Errorf("%d refused of %d", got, u.ok-ok)
	}
}

// A bucket, whatever it holds and however calls come, is hardly ever taken for a window: what few refusals say may agree by chance (4 of 20,000 buckets).
func TestGovernorBucketIsNoWindow(t *testing.T) {
	const buckets = 500
	taken := 0
	for seed := range uint64(buckets) {
		u, rate, burst := drawnBucket(rand.New(rand.NewPCG(seed, 1)), 30, 90*time.Second)
		u.takes = bucketOf(rate, burst)
		u.run(6 * time.Minute)
		if d := &u.g.s.Slide; d.Of != 0 {
			taken++
			t.Logf("seed %d: a bucket of %v that refills %.2f a second is taken for %+v", seed, burst, rate, *d)
		}
	}
	if taken > 1 {
		t.Errorf("%d of %d buckets are taken for windows, want 1 at most", taken, buckets)
	}
}

// However many refusals there were, a row of them leaves what is known of windows a number.
func TestGovernorSlideRowAfterMany(t *testing.T) {
	g := New(Config{})
	g.Window(time.Second, Window{OK: 1})
	g.s.Slide = SlideState{N: math.MaxUint8, Mean: [numSlides]float32{100, 100, 100, 100, 100, 100}}
	g.slideRow(&Call{SentAt: time.Second})
	for i, mean := range g.s.Slide.Mean[:slideTokens] {
		if !(mean > 90 && mean < 100) {
			t.Errorf("the mean of %v is %v after one that is far below 100", slideTimes[i], mean)
		}
	}
}

// Seconds before the first have no calls, however far a clock that goes back leads.
func TestSlideSecondBeforeTheFirst(t *testing.T) {
	g := New(Config{})
	for i := int64(-2 * ringSize); i < 0; i++ {
		if got := g.slideSecond(i); got != 0 {
			t.Fatalf("second %d has %v calls, want none", i, got)
		}
	}
}

// Where a bucket is drained by one burst after the other, all refusals lie within a second or two. What was accepted in the 10 s before is nearly the same
// at each of them then, because it is the same calls, and says nothing of windows.
func TestGovernorRefusalsWithinAWindowTellNothing(t *testing.T) {
	rate := math.Exp(3.27734375)
	u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(0x1d, 1)), takes: bucketOf(rate, math.Ceil(rate*17.375)), every: time.Second, burst: int(math.Ceil(rate * 2))}
	u.run(6 * time.Minute)
	if u.refused < 5 {
		t.Fatalf("%d were refused, so this tests nothing", u.refused)
	}
	if u.learned > 0 {
		t.Errorf("a bucket that refills %.2f a second was taken for a window after %d refusals", rate, u.learned)
	}
	w := SlideState{N: slideSure, TimeTime: 9}
	if got := w.spans(); got != 3*slideSure {
		t.Errorf("%d refusals 3 s apart span %v s", slideSure, got)
	}
}

// However much room there is, it is looked at what has come back within half a second.
func TestSlideLooksSoon(t *testing.T) {
	for _, room := range []float32{-1e9, 0, 1, 1e9, 1e30} {
		g := New(Config{})
		g.s.At, g.s.Slide.Room = time.Hour, room
		if got := g.slideLook() - time.Hour; got < slideSoon || got > slideAsk {
			t.Errorf("with room for %v it is looked again in %v, want %v to %v", room, got, slideSoon, slideAsk)
		}
	}
}

// The pace that headers tell is not that of a window which was learned before.
func TestStatedPaceIsNotOfASlidingWindow(t *testing.T) {
	g := New(Config{})
	now := time.Hour
	g.Window(now, Window{OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 2, InFlight: 2, Waiting: 1})
	g.s.Slide = SlideState{Of: 4, Allows: 1000, Before: 1000, Ask: 1}
	want := g.Hint(now, feedback.Window{Kind: feedback.ScopeRequests, Limit: 100, Remaining: 1, Reset: 50 * time.Second}).Pace
	now += time.Second
	if got := g.Window(now, Window{Start: now - time.Second, InFlight: 2, Waiting: 1}).Pace; want == 0 || got != want {
		t.Errorf("a pace of %v, want %v as headers tell", got, want)
	}
}

// However little a window allows at its refusals, there is room in one that is empty.
func TestSlideOfFewCallsHasRoom(t *testing.T) {
	g := New(Config{})
	now := time.Hour
	g.Window(now, Window{OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, Waiting: 9})
	g.s.Slide = SlideState{Of: 4, Allows: leastSlide, Before: leastSlide, Ask: 1}
	for range 20 {
		now += time.Minute
		call := Call{SentAt: now - 20*time.Millisecond, InFlight: 1, Episode: g.s.Episode}
		g.Window(now, Window{Start: now - time.Minute, OK: 1, Timed: 1, Latency: time.Second, MinLatency: time.Second, MaxInFlight: 1, InFlight: 1, Waiting: 9})
		if g.Ended(now, call, Outcome{Class: feedback.Throttled}); g.s.Slide.Of == 0 {
			return
		}
		later := g.s.HoldUntil + time.Minute
		if d := g.Window(later, Window{Start: now, Waiting: 9}); d.NotBefore > later {
			t.Fatalf("nothing may start %v after the last call: %+v", later-now, g.s.Slide)
		}
		now = later
	}
}

// The pace after a window that explained nothing is not slower than the slowest that refusals set; where there was none, there is none.
func TestSlideDropLeavesAPace(t *testing.T) {
	for rate, want := range map[float64]float64{0: 0, 1: leastPace} {
		g := New(Config{})
		g.s.Pace[paceRequests] = PaceState{Rate: rate, Known: 1e-6}
		if g.slideDrop(); g.s.Pace[paceRequests].Rate != want {
			t.Errorf("a pace of %v after one of %v, want %v", g.s.Pace[paceRequests].Rate, rate, want)
		}
	}
}
