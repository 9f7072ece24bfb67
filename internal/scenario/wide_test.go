package scenario

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/internal/sim"
)

// Thousands of wide worlds are scenarios, each feature comes up, and a world depends on its seed and number only.
func TestWideWorlds(t *testing.T) {
	count := map[string]int{}
	const n = 2000
	for i := range n {
		seed := uint64(i % 7)
		d := NewWide(seed, i) // panics when it is no scenario
		if len(d.Features) < 2 || d.RoundTrip <= 0 || d.Scenario.World.Duration < wideShortest || d.Scenario.World.Duration > wideLongest {
			t.Fatalf("%s: %+v", d.Scenario.Name, d)
		}
		if d.EventFrom > d.EventAt || d.EventAt > d.Scenario.World.Duration*3/5 || (d.EventAt == 0) != (d.Event == eventNone) {
			t.Errorf("%s: event %s from %v to %v in %v", d.Scenario.Name, d.Event, d.EventFrom, d.EventAt, d.Scenario.World.Duration)
		}
		for _, f := range d.Features {
			count[f]++
		}
		if again := NewWide(seed, i); again.Scenario.Source != d.Scenario.Source || !reflect.DeepEqual(again.Features, d.Features) {
			t.Fatalf("%s is not the same twice", d.Scenario.Name)
		}
	}
	for _, f := range WideFeatures() {
		if count[f] < n/200 {
			t.Errorf("%d of %d worlds have the feature %s", count[f], n, f)
		}
		delete(count, f)
	}
	if len(count) > 0 {
		t.Errorf("features that are not listed: %v", count)
	}
	if a, b := NewWide(1, 3), NewWide(2, 3); a.Scenario.Source == b.Scenario.Source {
		t.Error("two seeds make the same world")
	}
}

// A plan of wide worlds that names features runs those that have one of them.
func TestWideNumbers(t *testing.T) {
	p := DrawPlan{Seed: 3, First: 5, N: 80, Wide: true, Kinds: []string{wideLog, wideBlackHole}}
	var want []int
	for n := 5; n < 85; n++ {
		if f := NewWide(3, n).Features; slices.Contains(f, wideLog) || slices.Contains(f, wideBlackHole) {
			want = append(want, n)
		}
	}
	if got := p.Numbers(); !slices.Equal(got, want) || len(got) < 5 || len(got) > 40 {
		t.Errorf("worlds %v, want %v", got, want)
	}
}

// Every wide world has something to be had, and runs to its end, with each sort of guard and without one.
func TestWideWorldsRun(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("some hundred simulations")
	}
	controllers, err := ParseControllers("none,ours")
	if err != nil {
		t.Fatal(err)
	}
	settings := config.Default().Defaults
	rs, err := RunDraws(context.Background(), DrawPlan{Seed: 77, N: 80, Wide: true, Controllers: controllers, Settings: settings, CPUs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if len(rs) != 160 {
		t.Fatalf("%d results, want 160", len(rs))
	}
	for _, r := range rs {
		if r.Controller == "ours" && !(r.Goodput > 0.02) {
			t.Errorf("wide-77-%d: ours starves, with %.4f of what can be had: %v", r.Draw, r.Goodput, r.Features)
		}
	}
	for n := range 40 {
		d := NewWide(78, n)
		b, err := sim.Bound(context.Background(), d.Scenario.world(&settings, 1))
		if err != nil || b.OK < 20 {
			t.Errorf("%s: %v successes can be had, error %v", d.Scenario.Name, b.OK, err)
		}
	}
}
