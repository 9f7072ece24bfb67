package classic

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
)

// A sample is one call as the library sees it.
type sample struct {
	end, latency time.Duration
	inFlight     int
	dropped      bool
}

// someSamples returns n samples of an upstream whose latency drifts, with bursts of drops.
func someSamples(seed uint64, n int) []sample {
	r := rand.New(rand.NewPCG(seed, 0))
	var now time.Duration
	all := make([]sample, n)
	for i := range all {
		now += time.Duration(r.IntN(int(10 * time.Millisecond)))
		base := 100 + 50*(i/500%4)
		all[i] = sample{
			end:      now,
			latency:  time.Duration(base+r.IntN(1+i/100%60))*time.Millisecond + time.Duration(i), // no two are equal
			inFlight: 1 + r.IntN(80),
			dropped:  i%400 > 390,
		}
	}
	return all
}

// tell tells a law of ours of a sample, as a guard does.
func tell(l adaptive.Law, s sample) adaptive.Decision {
	if s.dropped {
		c := adaptive.Call{SentAt: s.end - s.latency, InFlight: s.inFlight}
		return l.Ended(s.end, c, adaptive.Outcome{Class: feedback.Throttled})
	}
	return l.Window(s.end, adaptive.Window{OK: 1, Timed: 1, Latency: s.latency, MinLatency: s.latency, MaxInFlight: s.inFlight})
}

func TestSameAsTheLibrary(t *testing.T) {
	gradient2 := limit.NewDefaultGradient2Limit("", nil, nil)
	for _, test := range []struct {
		name    string
		law     *Law
		library core.Limit
	}{
		{AIMD, NewAIMD(adaptive.Config{}), limit.NewDefaultAIMDLimit("", nil)},
		{"aimd with parameters", NewAIMD(adaptive.Config{Initial: 30, Backoff: 0.5}), limit.NewAIMDLimit("", 30, 0.5, 1, nil)},
		{Gradient2, NewGradient2(adaptive.Config{}), gradient2},
	} {
		if got, want := test.law.Decision().Limit, test.library.EstimatedLimit(); got != want {
			t.Errorf("%s: begins at %d, the library at %d", test.name, got, want)
		}
		for i, s := range someSamples(1, 20_000) {
			test.library.OnSample(int64(s.end-s.latency), int64(s.latency), s.inFlight, s.dropped)
			d := tell(test.law, s)
			if want := test.library.EstimatedLimit(); d.Limit != want {
				t.Fatalf("%s: limit %d after sample %d %+v, the library has %d", test.name, d.Limit, i, s, want)
			}
			if d.AskAgain != 0 {
				t.Fatalf("%s: asks again at %v, want at each call", test.name, d.AskAgain)
			}
		}
	}
}

func TestVegasIsTheLibrarysBetweenAndAtProbes(t *testing.T) {
	// The library's probes come at random. They can be seen, so that the prober of the
	// adapter can be made to probe at the same calls: then all must agree.
	library := limit.NewDefaultVegasLimit("", nil, nil)
	law, p := newVegas(adaptive.Config{}, 1)
	probes, due := 0, false
	p.due = func() bool { return due }
	for i, s := range someSamples(2, 50_000) {
		before := library.RTTNoLoad()
		library.OnSample(int64(s.end-s.latency), int64(s.latency), s.inFlight, s.dropped)
		// Only a probe raises the latency without load. One that lowers it does what any call with
		// the least latency does, and none leaves it as it is, as no two latencies are equal.
		due = library.RTTNoLoad() > before && before != 0
		if due {
			probes++
		}
		d := tell(law, s)
		if want := library.EstimatedLimit(); d.Limit != want {
			t.Fatalf("limit %d after sample %d %+v and %d probes, the library has %d", d.Limit, i, s, probes, want)
		}
		if got, want := int64(p.noLoad.Get()), library.RTTNoLoad(); got != want {
			t.Fatalf("latency without load %d after sample %d, the library has %d", got, i, want)
		}
	}
	if probes < 10 {
		t.Errorf("%d probes in the run, want at least 10", probes)
	}
}

func TestVegasProbesAsOftenAsTheLibrary(t *testing.T) {
	// "a probe comes each (0.5 to 1) * 30 * limit calls"
	law, p := newVegas(adaptive.Config{Initial: 10, Max: 10}, 7)
	last, probes := 0, 0
	for i := range 100_000 {
		before := p.count
		tell(law, sample{end: time.Duration(i) * time.Millisecond, latency: 100 * time.Millisecond, inFlight: 10})
		if p.count > before {
			continue
		}
		if gap := i + 1 - last; gap < 150 || gap > 300 {
			t.Fatalf("%d calls between probes at a limit of 10, want 150 to 300", gap)
		}
		last = i + 1
		probes++
	}
	if mean := 100_000 / probes; mean < 215 || mean > 235 {
		t.Errorf("%d calls between probes in the mean, want about 225", mean)
	}
}

func TestRunsAreReproducible(t *testing.T) {
	// "a run is repeated to the bit by the same seed, whatever runs beside it"
	trace := func(seed uint64) string {
		var b strings.Builder
		law := NewVegasSeed(adaptive.Config{}, seed)
		for _, s := range someSamples(3, 8_000) {
			b.WriteByte(byte(tell(law, s).Limit))
		}
		return b.String()
	}
	want := trace(1)
	got := make([]string, 4)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			limit.NewDefaultVegasLimit("", nil, nil) // draws from the global source
			got[i] = trace(1)
		})
	}
	wg.Wait()
	for i, g := range got {
		if g != want {
			t.Errorf("run %d differs from the first with the same seed", i)
		}
	}
	if trace(2) == want {
		t.Error("a run with another seed is the same: nothing is random")
	}
}

func TestWhichOutcomeIsADrop(t *testing.T) {
	for class := range feedback.Class(feedback.NumClasses) {
		want := 100
		switch class {
		case feedback.Throttled, feedback.Overloaded, feedback.Timeout:
			want = 90
		}
		l := NewAIMD(adaptive.Config{Initial: 100})
		d := l.Ended(time.Second, adaptive.Call{InFlight: 100}, adaptive.Outcome{Class: class})
		if d.Limit != want {
			t.Errorf("%v: limit = %d, want %d", class, d.Limit, want)
		}
		if cut := want < 100; cut != (d.Episode == 1) || cut != (d.Cause == adaptive.CauseExternal) {
			t.Errorf("%v: %+v", class, d)
		}
	}
}

func TestWindowsOfSeveralCalls(t *testing.T) {
	// "of one with the least latency and of the others with the mean of theirs"
	var got []time.Duration
	l := NewAIMD(adaptive.Config{Initial: 4})
	l.sample = func(start, latency time.Duration, _ int, _ bool) { got = append(got, latency) }
	l.Window(time.Second, adaptive.Window{OK: 5, Timed: 3, Latency: 70, MinLatency: 10})
	l.Window(time.Second, adaptive.Window{OK: 5})
	l.Window(time.Second, adaptive.Window{OK: 1, Timed: 1}) // no time passed
	l.Window(time.Second, adaptive.Window{})
	want := []time.Duration{10, 30, 30, 1}
	if len(got) != len(want) {
		t.Fatalf("told %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("told %v, want %v", got, want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  adaptive.Config
		want int
	}{
		{AIMD, adaptive.Config{}, 10},
		{Vegas, adaptive.Config{}, 20},
		{Gradient2, adaptive.Config{}, 20},
		{AIMD, adaptive.Config{Initial: 50, Max: 30}, 30},
		{Vegas, adaptive.Config{Initial: 2, Min: 5}, 5},
		{Gradient2, adaptive.Config{Max: 5}, 5},
		{Gradient2, adaptive.Config{Min: 500}, 500},
		{Gradient2, adaptive.Config{Initial: 4, Min: 1}, 4},
		{AIMD, adaptive.Config{Min: adaptive.MaxLimit * 10, Max: adaptive.MaxLimit * 10}, adaptive.MaxLimit},
	} {
		l, err := New(test.name, test.cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := adaptive.Decision{Limit: test.want, Cause: adaptive.CauseStart}
		if got := l.Decision(); got != want {
			t.Errorf("New(%q, %+v).Decision() = %+v, want %+v", test.name, test.cfg, got, want)
		}
		if got := l.Hint(0, feedback.Window{Kind: feedback.ScopeConcurrency, Limit: 1}); got != want {
			t.Errorf("%s: a hint changes the decision to %+v", test.name, got)
		}
	}
	_, err := New("reno", adaptive.Config{})
	var unknown *UnknownLawError
	if !errors.As(err, &unknown) || unknown.Name != "reno" {
		t.Errorf(`New("reno") returns %v, want an *UnknownLawError`, err)
	}
	for _, name := range Names() {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

func TestLimitsStayInRange(t *testing.T) {
	for _, name := range Names() {
		l, err := New(name, adaptive.Config{Min: 3, Max: 25})
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range someSamples(4, 20_000) {
			s.dropped = i/1000%2 == 1
			if d := tell(l, s); d.Limit < 3 || d.Limit > 25 {
				t.Fatalf("%s: limit %d after sample %d, want 3 to 25", name, d.Limit, i)
			}
		}
	}
}

// The defects that the package documents: when the library loses one, the text has to change.
func TestKnownDefects(t *testing.T) {
	drop := sample{latency: 20 * time.Millisecond, inFlight: 100, dropped: true}
	good := sample{latency: 10 * time.Second, inFlight: 100}

	aimd := NewAIMD(adaptive.Config{Initial: 100})
	for range 20 {
		tell(aimd, drop)
	}
	if got := aimd.Decision().Limit; got > 15 {
		t.Errorf("AIMD: limit %d after one burst of 20 drops at 100; it cut fewer than 20 times", got)
	}

	vegas := NewVegas(adaptive.Config{Initial: 74})
	tell(vegas, drop)
	if got := vegas.Decision().Limit; got != 74 {
		t.Errorf("Vegas: limit %d after a fast drop, which it was known to ignore", got)
	}
	for range 60 {
		tell(vegas, good)
	}
	if got := vegas.Decision().Limit; got > 20 {
		t.Errorf("Vegas: limit %d after healthy calls that are slower than one refusal; it no longer collapses", got)
	}

	gradient2 := NewGradient2(adaptive.Config{})
	for range 300 {
		tell(gradient2, sample{latency: 20 * time.Millisecond, inFlight: gradient2.Decision().Limit, dropped: true})
	}
	if got := gradient2.Decision().Limit; got <= 100 {
		t.Errorf("Gradient2: limit %d after nothing but drops; it no longer grows", got)
	}
}

func BenchmarkWindow(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			l, err := New(name, adaptive.Config{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := range b.N {
				tell(l, sample{end: time.Duration(i), latency: time.Second, inFlight: 10})
			}
		})
	}
}
