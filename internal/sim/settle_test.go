package sim

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"pgregory.net/rapid"
)

// run of steps of a second: pairs of successes in a step, and how many steps have them.
func stretches(pairs ...float64) []float64 {
	var xs []float64
	for i := 0; i < len(pairs); i += 2 {
		for range int(pairs[i+1]) {
			xs = append(xs, pairs[i])
		}
	}
	return xs
}

// worldOf makes a result and limits of steps of a second. What is sustained is the level.
func worldOf(got, done, level []float64) (*Result, *Limits) {
	l := &Limits{Step: time.Second, Done: done, Rate: level, Capacity: level, Down: make([]bool, len(level)), RoundTrip: make([]time.Duration, len(level))}
	return &Result{Series: Series{Step: time.Second, OK: got}}, l
}

func TestSettle(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name               string
		got, done, level   []float64
		settled, recovered time.Duration
		asked              []float64
	}{
		{name: "at once", got: stretches(100, 60)},
		{name: "nine tenths", got: stretches(90, 60), recovered: -1},
		{name: "chance: 8 of 10 in a second", got: stretches(8, 1, 10, 59), done: stretches(10, 60)},
		{name: "85 of 100 are not chance", got: stretches(85, 60), settled: -1, recovered: -1},
		{name: "nothing for 20 s", got: stretches(0, 20, 100, 40), settled: 20 * s, recovered: 20 * s},
		{name: "a half for 20 s", got: stretches(50, 20, 100, 40), settled: 20 * s, recovered: 20 * s},
		{name: "too much is never too much", got: stretches(300, 20, 100, 40)},
		{name: "works off what waited", got: stretches(0, 10, 150, 20, 100, 30), settled: 10 * s, recovered: 10 * s},
		{name: "a relapse", got: stretches(100, 20, 0, 10, 100, 30), settled: 30 * s, recovered: 30 * s},
		{name: "a stumble of a fiftieth", got: stretches(100, 40, 0, 1, 100, 19)},
		{name: "9 s before the end", got: stretches(0, 51, 100, 9), settled: -1, recovered: -1},
		{name: "ever better", got: stretches(500, 10, 920, 50), done: stretches(1000, 60), settled: 10 * s, recovered: -1},
		{name: "a window of a minute, used at its beginning", got: stretches(100, 180), done: stretches(6000, 1, 0, 59, 6000, 1, 0, 59, 6000, 1, 0, 59), level: stretches(100, 180)},
		{name: "a backlog is worked off by the oracle, and left has who gave up", got: stretches(100, 60), done: stretches(200, 20, 100, 40), level: stretches(300, 60), asked: stretches(100, 60)},
	} {
		if c.done == nil {
			c.done = stretches(100, float64(len(c.got)))
		}
		if c.level == nil {
			c.level = stretches(1000, float64(len(c.got)))
		}
		r, l := worldOf(c.got, c.done, c.level)
		l.Asked = c.asked
		if got := Settle(r, l, 0, len(c.got), SettleShare); got != c.settled {
			t.Errorf("%s: settled after %v, want %v", c.name, got, c.settled)
		}
		if got := Settle(r, l, 0, len(c.got), RecoverShare); got != c.recovered {
			t.Errorf("%s: recovered after %v, want %v", c.name, got, c.recovered)
		}
	}
}

// Settle finds what trying every beginning and every end finds.
func TestSettleTriesEverySpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.SampledFrom([]float64{0, 2, 8, 9, 10, 10, 10, 10, 12, 40}), 40, 40)
		got, done, level, asked := some.Draw(t, "got"), some.Draw(t, "done"), some.Draw(t, "level"), some.Draw(t, "asked")
		r, l := worldOf(got, done, level)
		if rapid.Bool().Draw(t, "open") {
			l.Asked = asked
		}
		from := rapid.IntRange(0, 20).Draw(t, "from")
		want := time.Duration(-1)
		for at := from; 40-at >= max(10, (40-from)/3) && want < 0; at++ {
			var left float64
			for _, x := range done[at:] {
				left += x
			}
			if left >= evidence && !fallsShort(r, l, at, 40, SettleShare) {
				want = time.Duration(at-from) * time.Second
			}
		}
		if got := Settle(r, l, from, 40, SettleShare); got != want {
			t.Fatalf("settled after %v, want %v", got, want)
		}
	})
}

// Whoever gets on average what can be had, by Poisson's chance, settles at once and recovers within seconds; whoever begins late is found to have
// begun late; whoever gets four fifths never does. All that with few successes a second, and with many.
func TestSettleOfWhoKnows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	poisson := func(mean float64) (n float64) {
		for at := rng.ExpFloat64(); at < mean; at += rng.ExpFloat64() {
			n++
		}
		return n
	}
	const runs, length = 300, 600
	for _, rate := range []float64{.5, 2, 10, 50} {
		late := int(max(20, 40/rate))
		var settled, recovered, found, poor int
		for range runs {
			level := stretches(rate, length)
			got, done, behind, few := make([]float64, length), make([]float64, length), make([]float64, length), make([]float64, length)
			for i := range got {
				got[i], done[i], few[i] = poisson(rate), poisson(rate), poisson(.8*rate)
				if i >= late {
					behind[i] = got[i]
				}
			}
			r, l := worldOf(got, done, level)
			if Settle(r, l, 0, length, SettleShare) == 0 {
				settled++
			}
			if d := Settle(r, l, 0, length, RecoverShare); d >= 0 && d <= RecoverTime {
				recovered++
			}
			r.Series.OK = behind
			if d := Settle(r, l, 0, length, SettleShare).Seconds(); d > 0 && d <= float64(late)+10 && (float64(late)-d)*rate < 30 {
				found++
			}
			r.Series.OK = few
			if d := Settle(r, l, 0, length, SettleShare); d >= 0 && d <= SettleTime {
				poor++
			}
		}
		t.Logf("%v a second: settled at once %.3f, recovered in time %.3f, a late beginning found %.3f, four fifths pass %.3f", rate,
			float64(settled)/runs, float64(recovered)/runs, float64(found)/runs, float64(poor)/runs)
		if settled < .9*runs || recovered < .8*runs || found < .9*runs || rate*length >= 3000 && poor > .05*runs {
			t.Errorf("%v a second: of %d runs %d settled at once, %d recovered in time, %d late beginnings were found, %d with four fifths passed", rate, runs, settled, recovered, found, poor)
		}
	}
}

// A phase begins with a change of the level and after an outage, of all calls or of some; what is too short or too thin is left out, and 19 after
// 20 is no change.
func TestPhases(t *testing.T) {
	level := stretches(10, 60, 20, 60, 0, 30, 20, 60, 19, 60, 5, 5, 20, 60, .1, 60)
	r, l := worldOf(level, level, level)
	for i := 245; i < 250; i++ {
		l.Down[i] = true
	}
	want := []struct {
		from, to     time.Duration
		rise, outage bool
	}{{0, 60, false, false}, {60, 120, true, false}, {150, 245, true, true}, {250, 270, true, true}, {275, 335, true, false}}
	ps := PhasesOf(r, l)
	if len(ps) != len(want) {
		t.Fatalf("%d phases: %+v, want %d", len(ps), ps, len(want))
	}
	for i, w := range want {
		p := ps[i]
		if p.From != w.from*time.Second || p.To != w.to*time.Second || p.Rise() != w.rise || p.Outage() != w.outage || p.Settled != 0 || p.Recovered != 0 {
			t.Errorf("phase %d is %+v, want %v s to %v s, rise %v, outage %v", i, p, int64(w.from), int64(w.to), w.rise, w.outage)
		}
	}
	if got := (&Phase{RoundTrip: time.Second}).Allowed(); got != 30*time.Second {
		t.Errorf("with round trips of a second %v are allowed, want 30 s", got)
	}
	if got := (&Phase{RoundTrip: time.Millisecond}).Allowed(); got != 10*time.Second {
		t.Errorf("with round trips of a millisecond %v are allowed, want 10 s", got)
	}
	if PhasesOf(&Result{}, &Limits{}) != nil {
		t.Error("a run without a series has phases")
	}
}

// A limit that knows the cap settles at once, whatever the seed, and one of half of it never does.
func TestSettleOfKnownCap(t *testing.T) {
	for seed := range uint64(8) {
		cfg := capWorld()
		cfg.Seed, cfg.Changes, cfg.Samples = seed, nil, false
		l, err := Bound(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for limit, want := range map[int]time.Duration{24: 0, 12: -1} {
			cfg.Guard = guardWith(adaptive.NewFixed(limit))
			r, err := Run(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if ps := PhasesOf(r, l); len(ps) != 1 || ps[0].Settled != want || ps[0].Recovered != want {
				t.Errorf("seed %d, limit %d at a cap of 24: %+v, want %v", seed, limit, ps, want)
			}
		}
	}
}
