package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"pgregory.net/rapid"
)

// costs draws tokens of calls that differ by sigma, as a logarithm.
func costs(rng *rand.Rand, median, sigma float64) func() int64 {
	return func() int64 { return 1 + int64(median*math.Exp(sigma*rng.NormFloat64())) }
}

// A quota that counts the tokens of any minute is told from its refusals alone, whether what is reserved for a call is given back or not, and afterwards hardly any call
// is refused. Where all calls count for about as much it may be told in calls.
func TestGovernorLearnsSlidingTokens(t *testing.T) {
	for _, forGood := range []bool{false, true} {
		worlds, learned, ok, refused := 0, 0, 0, 0
		for _, sigma := range []float64{0.3, 0.7} {
			for seed := range uint64(5) {
				rng := rand.New(rand.NewPCG(seed, 2))
				limit, reserves := int64(400_000), int64(600)
				u := &metered{g: New(Config{}), rng: rng, burst: 450, every: 100 * time.Second, cost: costs(rng, 1000, sigma), long: 700 * time.Millisecond}
				slidingTokens(u, &limit, time.Minute, reserves, forGood)
				u.run(30 * time.Minute)
				worlds++
				q := u.g.Decision().Quota
				if q.Seconds == 0 {
					continue
				}
				// What is reserved for good is part of what a call counts for, and not of what it tells.
				mean := 1000 * math.Exp(sigma*sigma/2)
				want := float64(limit)
				if forGood {
					want *= mean / (mean + float64(reserves))
				}
				got := float64(q.Allows)
				if !q.Tokens {
					got *= mean
				}
				if learned++; q.Seconds != 60 || !q.Tokens && !forGood || math.Abs(got/want-1) > 0.08 {
					t.Errorf("seed %d: %v, want %.0f tokens in any 60 s: %+v", seed, q, want, u.g.s.Slide)
				}
				ok, refused = ok-u.ok, refused-u.refused
				u.run(90 * time.Minute)
				ok, refused = ok+u.ok, refused+u.refused
			}
		}
		t.Logf("reserved for good %v: %d of %d learned; afterwards %d refused of %d", forGood, learned, worlds, refused, ok)
		if learned < worlds*9/10 {
			t.Errorf("reserved for good %v: %d of %d were learned", forGood, learned, worlds)
		}
		if refused > ok/100 {
			t.Errorf("reserved for good %v: %d refused of %d", forGood, refused, ok)
		}
	}
}

// What a call counts for that is in flight, besides what calls use, is told by the refusals.
func TestGovernorTokensInFlight(t *testing.T) {
	for _, reserves := range []int64{0, 900, 3000} {
		rng := rand.New(rand.NewPCG(4, 2))
		limit := int64(400_000)
		u := &metered{g: New(Config{}), rng: rng, burst: 450, every: 100 * time.Second, cost: costs(rng, 1000, 0.4), long: 2 * time.Second}
		slidingTokens(u, &limit, time.Minute, reserves, false)
		u.run(40 * time.Minute)
		d := &u.g.s.Slide
		if got := d.extra(float64(u.g.s.Spent.Mean)); d.Of == 0 || math.Abs(got-float64(reserves)) > 250+float64(reserves)/4 {
			t.Errorf("a call in flight counts for %.0f tokens besides its mean of %.0f, want %d: %+v", got, u.g.s.Spent.Mean, reserves, *d)
		}
	}
}

// A window of tokens that allows half as many, or twice as many, is followed.
func TestGovernorFollowsSlidingTokens(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	limit := int64(400_000)
	u := &metered{g: New(Config{}), rng: rng, burst: 500, every: 70 * time.Second, cost: costs(rng, 1000, 0.4)}
	slidingTokens(u, &limit, time.Minute, 0, false)
	for i, step := range []int64{400_000, 200_000, 400_000} {
		limit = step
		u.run(u.now + 20*time.Minute)
		if d := &u.g.s.Slide; int(d.Of) != slideTokenWindow+1 || math.Abs(float64(d.Allows)/float64(step)-1) > 0.12 {
			t.Errorf("step %d, %d tokens: %v %+v", i, step, u.g.Decision().Quota, *d)
		}
	}
}

// A bucket of tokens, or of calls that tell tokens, is hardly ever taken for a window, whatever it holds and however calls come and differ.
func TestGovernorTokenBucketIsNoWindow(t *testing.T) {
	const buckets = 300
	taken := 0
	for seed := range uint64(buckets) {
		rng := rand.New(rand.NewPCG(seed, 3))
		u, rate, burst := drawnBucket(rng, 40, 120*time.Second)
		u.cost = costs(rng, 1000, rng.Float64())
		if seed%2 == 0 {
			u.takes = bucketOf(rate, burst)
		} else {
			held, at := 1100*burst, time.Duration(0)
			u.takes = func(now time.Duration) bool {
				held, at = min(1100*burst, held+1100*rate*(now-at).Seconds()), now
				if held < float64(u.asks) {
					return false
				}
				held -= float64(u.asks)
				return true
			}
		}
		u.run(8 * time.Minute)
		if d := &u.g.s.Slide; d.Of != 0 {
			taken++
			t.Logf("seed %d: a bucket of %v that refills %.2f a second is taken for %v: %+v", seed, burst, rate, u.g.Decision().Quota, *d)
		}
	}
	if taken > 2 {
		t.Errorf("%d of %d buckets are taken for windows, want 2 at most", taken, buckets)
	}
}

// Calls that all cost the same are counted as calls.
func TestGovernorCallsBeforeTokens(t *testing.T) {
	calls := 300
	u := &metered{g: New(Config{}), rng: rand.New(rand.NewPCG(1, 1)), burst: 400, every: 100 * time.Second, takes: slidingLog(&calls, time.Minute), cost: func() int64 { return 1200 }}
	u.run(30 * time.Minute)
	if q := u.g.Decision().Quota; q.Tokens || q.Seconds != 60 || math.Abs(float64(q.Allows)-300) > 12 {
		t.Errorf("%v, want 300 in any 60 s", q)
	}
}

// A refusal that names tokens is by no window of calls, and one that names requests by none of tokens.
func TestSlideScopes(t *testing.T) {
	var w SlideState
	for _, test := range []struct {
		i     int
		scope feedback.Scope
		want  bool
	}{
		{5, feedback.ScopeUnknown, true},
		{5, feedback.ScopeRequests, true},
		{5, feedback.ScopeTokens, false},
		{slideTokenWindow, feedback.ScopeUnknown, true},
		{slideTokenWindow, feedback.ScopeRequests, false},
		{slideTokenWindow, feedback.ScopeTokens, true},
	} {
		if got := w.may(test.i, test.scope); got != test.want {
			t.Errorf("may(%d, %v) = %v, want %v", test.i, test.scope, got, test.want)
		}
	}
}

// What the ring holds is at most an eighth less than what was spent, and never more.
func TestPropTokenCode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(-5, spentLack).Draw(t, "n")
		code := tokenCode(n)
		if got := tokensOf(code); got > max(n, 0) || n < 15<<30 && float64(got) < 8.0/9*float64(max(n, 0)) {
			t.Errorf("%d tokens are held as %d", n, got)
		}
		if tokenCode(n+1) < code {
			t.Errorf("%d tokens have a larger code than one more", n)
		}
	})
}

// Whatever calls cost, the tokens of the last minute are known to a second's worth: those of the second in which it began, and what the ring leaves to the next.
func TestPropTokensSince(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New(Config{})
		var spent [200]int64
		now := time.Hour
		g.Window(now, Window{OK: 1, Tokens: 1, InFlight: 0})
		for i := range spent {
			spent[i] = rapid.SampledFrom([]int64{0, 0, 0, 1, 7, 900, 12_345, 3_000_000}).Draw(t, "tokens")
			if spent[i] > 0 {
				g.Window(now+time.Second/2, Window{Start: now, OK: 1, Tokens: spent[i]})
			}
			now += time.Second
			g.Window(now, Window{Start: now - time.Second/2})
		}
		want, more := int64(0), 1.0
		for i, n := range spent {
			if age := len(spent) - 1 - i; age < 60 {
				want += n
			} else {
				more += float64(n) * math.Pow(1.0/8, float64(age-60)) // what did not fit counted later
			}
		}
		if got := g.tokensSince(now - time.Minute); got < float64(want)-1 || got > float64(want)+more {
			t.Errorf("%.0f tokens in the last minute, want %d to %.0f", got, want, float64(want)+more)
		}
	})
}

// A mean and a variance of what calls cost, however many end at once.
func TestSpentLearns(t *testing.T) {
	for _, of := range []int{1, 8} {
		rng := rand.New(rand.NewPCG(9, uint64(of)))
		var d SpentState
		cost := costs(rng, 1000, 0.5)
		for i := range 4000 / of {
			sum := int64(0)
			for range of {
				sum += cost()
			}
			d.learn(of, sum, min((i+1)*of, spentMemory))
		}
		mean, spread := 1000*math.Exp(0.125), math.Exp(0.25)-1
		if math.Abs(float64(d.Mean)/mean-1) > 0.25 || float64(d.Spread) < spread/3 || float64(d.Spread) > 3*spread {
			t.Errorf("%d at once: %+v, want a mean of %.0f and %.2f", of, d, mean, spread)
		}
	}
}
