package adaptive

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
)

// TestGovernorNoise plays ten minutes of calls of 0.5 to 1.5 s at an upstream that refuses one in fifty at random: without a limit but for the 30 that
// ask, and with a limit on calls in flight.
func TestGovernorNoise(t *testing.T) {
	for _, test := range []struct {
		name   string
		most   int     // in flight
		least  float64 // share of what the limit gives, with each of six seeds
		mean   float64 // and of all
		refuse float64 // refusals a success
	}{
		{"thirty callers", 1000, 0.93, 0.97, 0.03},
		{"twenty in flight", 20, 0.92, 0.96, 0.05},
	} {
		t.Run(test.name, func(t *testing.T) {
			const length, callers, seeds = 10 * time.Minute, 30, 6
			could, sum := float64(min(test.most, callers))*length.Seconds(), 0.0
			for seed := range uint64(seeds) {
				random := rand.New(rand.NewPCG(seed, 0))
				ok, refusals := playNoise(random, callers, length, refused(feedback.ScopeUnknown), func(_ time.Duration, n int) bool { return n > test.most || random.Float64() < 0.02 })
				got := float64(ok) / could
				sum += got
				t.Logf("seed %d: %.3f of what could be, %.4f refusals a success", seed, got, float64(refusals)/float64(ok))
				if got < test.least || float64(refusals) > test.refuse*float64(ok) {
					t.Errorf("seed %d: %d successes of %.0f, %d refused", seed, ok, could, refusals)
				}
			}
			if sum/seeds < test.mean {
				t.Errorf("%.3f of what could be, want %.2f", sum/seeds, test.mean)
			}
		})
	}
}

// playNoise lets callers ask for so long, and returns how many calls were accepted and refused. A call that starts at now as the n-th in flight is refused with o where refuses says so.
func playNoise(random *rand.Rand, callers int, length time.Duration, o Outcome, refuses func(now time.Duration, n int) bool) (ok, refusals int) {
	g := New(Config{})
	var inFlight ends
	next, window, seen := time.Duration(0), time.Duration(0), 0
	for now := time.Millisecond; now < length; now += time.Millisecond {
		for len(inFlight) > 0 && inFlight[0] <= now {
			n := len(inFlight)
			heap.Pop(&inFlight)
			ok++
			took := time.Second
			full := n >= g.Decision().Limit
			g.Window(now, Window{Start: window, OK: 1, Timed: 1, Latency: took, MinLatency: took, MaxInFlight: seen, Full: full, InFlight: n, Waiting: callers - n})
			seen, window = 0, now
		}
		d := g.Decision()
		if now < d.NotBefore || now < next || len(inFlight) >= min(d.Limit, callers) {
			continue
		}
		if d.Pace > 0 {
			next = now + time.Duration(1e9/d.Pace)
		}
		n := len(inFlight) + 1
		if refuses(now, n) {
			refusals++
			g.Ended(now+time.Millisecond, Call{SentAt: now, InFlight: n, Episode: d.Episode}, o)
			continue
		}
		seen = max(seen, n)
		heap.Push(&inFlight, now+500*time.Millisecond+time.Duration(random.Float64()*1e9))
	}
	return ok, refusals
}

// TestGovernorNoiseMany plays two minutes of 300 and 1,500 calls a second at an upstream without a limit that refuses some at random, and says so 50 ms
// after they started: many that started later are on their way then.
func TestGovernorNoiseMany(t *testing.T) {
	for _, test := range []struct {
		callers int // each has a call of 200 ms in flight, if it may
		share   float64
		least   float64 // of what would be without the noise, the callers' time for what was refused included
	}{{60, 0.01, 0.94}, {60, 0.02, 0.91}, {300, 0.01, 0.94}} {
		const seeds, length, took = 6, 2 * time.Minute, 200 * time.Millisecond
		sum := 0.0
		for seed := range uint64(seeds) {
			ok := playNoiseMany(seed, test.callers, test.share, length, took)
			sum += float64(ok) * took.Seconds() / (float64(test.callers) * length.Seconds()) / seeds
		}
		if t.Logf("%d callers, %.2f refused: %.3f", test.callers, test.share, sum); sum < test.least {
			t.Errorf("%d callers, %.2f refused: %.3f of what could be, want %.2f", test.callers, test.share, sum, test.least)
		}
	}
}

// playNoiseMany lets callers ask for so long, and returns how many calls of took each were accepted.
func playNoiseMany(seed uint64, callers int, share float64, length, took time.Duration) (ok int) {
	type late struct {
		at time.Duration
		c  Call
	}
	const way, step = 50 * time.Millisecond, time.Millisecond
	random := rand.New(rand.NewPCG(seed, 1))
	g := New(Config{})
	var inFlight ends
	var refusals []late
	next, window := time.Duration(0), time.Duration(0)
	for now := step; now < length; now += step {
		for len(refusals) > 0 && refusals[0].at <= now {
			g.Ended(now, refusals[0].c, refused(feedback.ScopeUnknown))
			refusals = refusals[1:]
		}
		n := len(inFlight) + len(refusals)
		done := 0
		for len(inFlight) > 0 && inFlight[0] <= now {
			heap.Pop(&inFlight)
			done++
		}
		if done > 0 {
			ok += done
			full := n >= g.Decision().Limit
			left := len(inFlight) + len(refusals)
			g.Window(now, Window{Start: window, OK: done, Timed: done, Latency: time.Duration(done) * took, MinLatency: took, MaxInFlight: n, Full: full, InFlight: left, Waiting: callers - left})
			window = now
		}
		for {
			d := g.Decision()
			n := len(inFlight) + len(refusals)
			if now < d.NotBefore || next > now || n >= min(d.Limit, callers) {
				break
			}
			if d.Pace > 0 {
				next = max(next, now-step) + time.Duration(1e9/d.Pace)
			}
			if random.Float64() < share {
				refusals = append(refusals, late{now + way, Call{SentAt: now, InFlight: n + 1, Episode: d.Episode}})
				continue
			}
			heap.Push(&inFlight, now+took/2+time.Duration(random.Float64()*float64(took)))
		}
	}
	return ok
}

// TestNoiseEvidence holds the test of noise to its rule: alone among what is proven counts for it, and a second refusal at once against it.
func TestNoiseEvidence(t *testing.T) {
	g := New(Config{})
	s := &g.s
	s.Proven, s.Peak = 40, 40
	for range noiseKnown {
		if !g.noise(38, 40) {
			t.Error("a refusal after 40 accepted calls was not noise")
		}
	}
	if s.Chance != noiseKnown {
		t.Errorf("evidence %v", float64(s.Chance))
	}
	if !g.noise(38, 10) || g.s.Proven != 40 {
		t.Error("noise is known, and a refusal was not noise")
	}
	before := float64(s.Chance)
	g.noise(38, 0)
	if float64(s.Chance) != before-soonCounts {
		t.Errorf("a refusal at once: evidence %v, was %v", float64(s.Chance), before)
	}
	for range 2 {
		if g.noise(38, 0) {
			t.Error("refusals by the row are noise")
		}
	}
	if s.Chance > 0 {
		t.Errorf("after a row: evidence %v", float64(s.Chance))
	}
	if s.Proven >= 38 {
		t.Errorf("%v in flight is proven", s.Proven)
	}
	if g.noise(1, 1) {
		t.Error("of one call in flight nothing is proven")
	}
}

// TestNoiseDebt holds what is believed to what is known: the more refusals count for noise, the more of them at once mean nothing.
func TestNoiseDebt(t *testing.T) {
	for _, test := range []struct {
		chance float64
		want   int
	}{{0, 1}, {2, 2}, {4, 4}} {
		g := New(Config{})
		g.s.Proven, g.s.Chance = 40, float32(test.chance)
		got := 0
		for got < 9 && g.noise(38, soonAccepted+1) { // too late to count against it and too soon to count for it
			got++
		}
		if got != test.want || g.s.Proven != 37 {
			t.Errorf("evidence %v: %d refusals mean nothing, want %d; %v proven", test.chance, got, test.want, g.s.Proven)
		}
	}
}

// TestTopAfterRecovery holds what was accepted since a cut to all calls that started after it, however soon one of these ended the recovery.
func TestTopAfterRecovery(t *testing.T) {
	g := New(Config{})
	s := &g.s
	g.advance(0)
	s.Limit, s.InFlight = 40, 30
	g.cut(time.Second, 40, CauseThrottled, 0.9)
	if s.Old != 30 || s.Top != 0 {
		t.Fatalf("after the cut: %d old, top %v", s.Old, s.Top)
	}
	// A short call that started after the cut.
	g.Window(2*time.Second, Window{Start: 2 * time.Second, OK: 1, Timed: 1, Latency: time.Second / 2, MinLatency: time.Second / 2, MaxInFlight: 30, InFlight: 30})
	if s.Recovering || s.Top != 0 {
		t.Fatalf("recovering %v, top %v", s.Recovering, s.Top)
	}
	for i := range 30 {
		now := time.Duration(3+i) * time.Second
		g.Window(now, Window{Start: now, OK: 1, Timed: 1, Latency: 2 * time.Second, MinLatency: 2 * time.Second, MaxInFlight: 31, InFlight: 30})
	}
	if s.Top != 31 {
		t.Errorf("calls that started after the cut saw 31 in flight, and top is %v", s.Top)
	}
}

// TestPacedCap holds the test of a limit beside a pace to its rule: the same number at other paces is a limit; at one pace, or when accepted calls saw more, it is not.
func TestPacedCap(t *testing.T) {
	start := func() *Governor {
		g := New(Config{})
		g.s.Limit, g.s.Top, g.s.MeanLevel = 100, 49, 47
		g.s.Pace[paceRequests].Rate = 10
		return g
	}
	hits := func(g *Governor, rates ...float64) bool {
		found := false
		for _, rate := range rates {
			g.s.Pace[paceRequests].Rate = rate
			found = g.pacedCap(49, 20, &Outcome{})
			g.passedCap(&Window{OK: 20, MaxInFlight: 48, InFlight: 30})
		}
		return found
	}
	if !hits(start(), 10, 14, 9) {
		t.Error("three refusals at the same number and other paces are no limit")
	}
	if hits(start(), 10, 10.5, 10, 9.8) {
		t.Error("refusals at the same pace are a limit")
	}
	g := start()
	hits(g, 10, 14)
	g.passedCap(&Window{OK: 1, MaxInFlight: 60, InFlight: 59})
	if hits(g, 9) || math.Abs(float64(g.s.CapAt)-49) > 0 || g.s.CapLike != 1 {
		t.Error("an accepted call saw more, and it is a limit")
	}
}

// TestNoiseWaived holds what follows a refusal that meant nothing to its own count: all calls in between, those on their way included.
func TestNoiseWaived(t *testing.T) {
	for _, test := range []struct {
		gap, late, want float64 // accepted in between, of which late are on their way
	}{
		{3, 0, 0},
		{5, 3, 2}, // two that are known to be accepted would be too soon after a refusal that changed something
		{12, 6, 3},
	} {
		g := New(Config{})
		s := &g.s
		s.Proven, s.Chance, s.InFlight = 40, 2, 30
		s.RefusalTime, s.Flow = float32((test.late-1)/2), 1
		s.Waived = true
		g.noise(38, test.gap)
		if float64(s.Chance) != test.want {
			t.Errorf("%v calls after a refusal that meant nothing: evidence %v, want %v", test.gap, float64(s.Chance), test.want)
		}
	}
}

// TestCutLeavesProven holds a cut to what is proven, where noise is likely.
func TestCutLeavesProven(t *testing.T) {
	for _, test := range []struct{ chance, proven, want float64 }{
		{0, 47, 48 * 0.9}, {noiseLikely, 47, 48 * 0.9}, {noiseSound, 47, 47}, {noiseSound, 60, 48}, {noiseSound, 20, 48 * 0.9},
	} {
		g := New(Config{})
		g.advance(0)
		g.s.Limit, g.s.Chance, g.s.Proven, g.s.Credit = 50, float32(test.chance), test.proven, 1
		g.cut(time.Second, 49, CauseThrottled, 0.9)
		if math.Abs(g.s.Limit-test.want) > 1e-9 {
			t.Errorf("evidence %v, %v proven: limit %v, want %v", test.chance, test.proven, g.s.Limit, test.want)
		}
	}
}
