package adaptive

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// What is learned of sizes is what they were made from: a time for each call and for each token, and a factor for each class.
func TestSizesAreLearned(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func() float64 { return math.Exp(0.1 * rng.NormFloat64()) }
	var z SizeState
	for range 200 {
		tokens := math.Round(20 * math.Exp(1.2*rng.NormFloat64()))
		z.tell(1, (0.3+0.02*tokens)*noise(), tokens)
	}
	if got := z.start(); math.Abs(got-15) > 4 {
		t.Errorf("a call takes as long for %.1f tokens as before the first, want 0.3 s / 0.02 s = 15", got)
	}
	z = SizeState{}
	const factor, mean = 20, 0.1 * (20 + 2) / 3
	for i := range 300 {
		class, took := uint8(3), 0.1
		if i%3 == 1 {
			class, took = 5, 0.1*factor
		}
		z.learn(class, 1, took*noise(), z.plain(0), float64(10+i%7), mean)
	}
	if got := z.learn(5, 1, 0.1*factor, 1, 10, mean) / z.learn(3, 1, 0.1, 1, 10, mean); math.Abs(got/factor-1) > 0.1 {
		t.Errorf("a call of class 5 is as long as %.1f of class 3, want %v", got, factor)
	}
	if z.counts() != byLatency {
		t.Errorf("blocks count %d, want %d", z.counts(), byLatency)
	}
}

// The line says how steep the time of calls is, and is not sure before anything moved.
func TestFlightLine(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, want := range []float64{0, 0.5, 1} {
		var l FlightState
		add := func(n float64) { l.add(1, math.Log(n), want*math.Log(n)+0.15*rng.NormFloat64()) }
		for range 200 {
			add(20)
		}
		if _, sigma := l.fit(); !math.IsInf(sigma, 1) {
			t.Errorf("%v: nothing moved, and the error is %v", want, sigma)
		}
		for range 400 {
			add(20 + 20*rng.Float64())
		}
		slope, sigma := l.fit()
		if math.Abs(slope-want) > 4*sigma || sigma > 0.1 {
			t.Errorf("slope %.2f ± %.2f, want %v", slope, sigma, want)
		}
		if l.moved(); l.N > 100 {
			t.Errorf("%v calls are remembered after the limit moved", l.N)
		}
	}
}

// server is one that works on at most places calls at a time, as fast for each as alone, and on more of them slower. It answers the question how long
// a window's calls took with n in flight.
func server(places, n float64) float64 { return max(1, n/places) }

// The limit stops where more in flight get no more done, also while what is asked for changes from calls of one class to calls of one that take
// thirty times as long; with one class for all, calls seem to take longer.
func TestGovernorTellsClassesApart(t *testing.T) {
	const places, factor, seeds = 40, 30, 20
	lowest, highest, beyond := 0.0, 0.0, 0
	for seed := range uint64(seeds) {
		low, high := apart(seed, places, factor)
		if low < places*7/10 || high > places*9/5 {
			t.Logf("seed %d: %d to %d in flight", seed, low, high)
			beyond++
		}
		lowest, highest = lowest+float64(low)/seeds, highest+float64(high)/seeds
	}
	t.Logf("%.0f to %.0f in flight on average", lowest, highest)
	if lowest < places*8/10 || highest > places*8/5 {
		t.Errorf("the limit was %.0f to %.0f on average, want it near %d", lowest, highest, places)
	}
	if beyond > 1 {
		t.Errorf("with %d of %d seeds the limit was not near %d, want 1 at most (3 before the line was by time)", beyond, seeds, places)
	}
}

// What is learned of one class leaves what calls take on the whole as it is: each class by its share of the time.
func TestClassesKeepTheWhole(t *testing.T) {
	for class := range uint8(2) {
		z := SizeState{Mixed: true, First: 1}
		z.Share, z.Class, z.Of = [numClasses]uint16{16000, 49535}, [numClasses]float32{-0.3, 2.5}, [numClasses]uint8{classMemory, classMemory}
		share := z.Share
		whole := func() (sum float64) {
			for i, c := range z.Class {
				sum += float64(share[i]) / math.MaxUint16 * float64(c)
			}
			return sum
		}
		was, before := z.Class, whole()
		z.classed(class, 1, 1, float64(was[class])+0.8)
		if moved := z.Class[class] - was[class]; moved <= 0 || math.Abs(whole()-before) > 1e-5 {
			t.Errorf("class %d moved by %v, and the whole from %v to %v", class, moved, before, whole())
		}
	}
}

// apart returns between which numbers the limit is after 4,000 of 12,000 calls.
func apart(seed uint64, places, factor float64) (lowest, highest int) {
	rng := rand.New(rand.NewPCG(seed, 6))
	g := New(Config{})
	now := time.Duration(0)
	lowest = math.MaxInt
	for i := range 12_000 {
		n := g.Decision().Limit
		class, took := 0, 0.05
		// At first one in five is long, and at the end four of five.
		if rng.Float64() < 0.2+0.6*min(1, max(0, float64(i-5000)/1000)) {
			class, took = 1, 0.05*factor
		}
		took *= server(places, float64(n)) * math.Exp(0.1*rng.NormFloat64())
		now += time.Duration(took / float64(n) * 1e9)
		latency := time.Duration(took * 1e9)
		w := Window{Start: now - time.Millisecond, OK: 1, Timed: 1, Latency: latency, MinLatency: latency, MaxInFlight: n, InFlight: n, Full: true, Waiting: 5}
		w.Classes = new([NumClasses]ClassSum)
		w.Classes[class] = ClassSum{Timed: 1, Latency: latency}
		g.Window(now, w)
		if i > 4000 {
			lowest, highest = min(lowest, g.Decision().Limit), max(highest, g.Decision().Limit)
		}
	}
	return lowest, highest
}

// Short calls and ones that take twenty times as long wait as long for one of sixteen servers: how much gets done grows up to sixteen in flight and no further, which the
// line through sizes and times says, and one through single calls does not, as short ones take many times as long there.
func TestWaitsOfShortCallsAreShort(t *testing.T) {
	const servers, short, long = 16.0, 0.12, 2.4
	for _, from := range []float64{10, 17} { // the line is known from the time with fewer, or more in flight than there are servers
		rng := rand.New(rand.NewPCG(7, 8))
		var z SizeState
		for i := range 1200 {
			n := from + float64(i/100%6)
			wait := max(0, n-servers) / (2 * servers / (short + long))
			class, took := uint8(i%2), short
			if class == 1 {
				took = long
			}
			z.learn(class, 1, took*math.Exp(0.1*rng.NormFloat64())+wait, 1, n, (short+long)/2+wait)
		}
		want := 0.0
		if from > servers {
			want = 1
		}
		if slope, sigma := z.Line.fit(); math.Abs(slope-want) > 0.25 {
			t.Errorf("from %v in flight on the slope is %.2f ± %.2f, want %v", from, slope, sigma, want)
		}
	}
}

// A window of several classes costs no allocation.
func TestClassesDoNotAllocate(t *testing.T) {
	g := New(Config{})
	now := time.Duration(0)
	sums := new([NumClasses]ClassSum)
	sums[0], sums[7] = ClassSum{Timed: 1, Latency: time.Second}, ClassSum{Timed: 2, Latency: time.Minute, OutputTokens: 900}
	if n := testing.AllocsPerRun(500, func() {
		now += time.Second
		g.Window(now, Window{Start: now - time.Second, OK: 3, Timed: 3, Latency: 61 * time.Second, OutputTokens: 900, MaxInFlight: 4, InFlight: 4, Full: true, Classes: sums})
	}); n != 0 {
		t.Errorf("%v allocations a window, want 0", n)
	}
}
