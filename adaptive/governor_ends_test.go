package adaptive

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is remembered of the last minute is right after hours of more calls a second than a small number holds.
func TestTrailingOfManyCalls(t *testing.T) {
	for _, rate := range []int{1, 16_384, 32_768, 100_000, 4_000_000} {
		g := New(Config{Max: MaxLimit})
		now := time.Duration(0)
		for range 7200 {
			now += time.Second
			g.Window(now, Window{Start: now - time.Second, OK: rate, InFlight: 1})
		}
		n, seconds := g.trailing(now)
		if got := n / seconds; math.Abs(got/float64(rate)-1) > 0.02 {
			t.Errorf("%.0f calls in %.1f s, %.0f a second, want %d", n, seconds, got, rate)
		}
	}
}

// Above the largest level that is told apart, what was done with many more in flight is no measure of what is done with fewer.
func TestLastLevel(t *testing.T) {
	g := New(Config{Max: MaxLimit, Initial: 6000})
	g.s.Counts = byLatency
	at := time.Minute
	for range 4 {
		g.judge(at, &block{100_000, 1e6, 0.1})
		at += time.Second
	}
	g.judge(at, &block{6000, 6e4, 0.1})
	if g.s.Limit != 6000 {
		t.Errorf("the limit is %v, want 6000, as it was", g.s.Limit)
	}
}

// fill sets whatever v holds to numbers of all sizes, and to what is none.
func fill(v reflect.Value, rng *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rng)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), rng)
		}
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Float32, reflect.Float64:
		x := rng.NormFloat64() * math.Pow(10, float64(rng.IntN(24)-8))
		switch rng.IntN(12) {
		case 0:
			x = [...]float64{0, math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64}[rng.IntN(6)]
		case 1, 2, 3, 4, 5, 6:
			x = math.Abs(x)
		}
		v.SetFloat(x)
	default:
		bits := rng.Uint64() >> rng.IntN(64)
		if v.CanInt() {
			v.SetInt(int64(bits))
		} else {
			v.SetUint(bits)
		}
	}
}

// Whatever is in each field of a state, what comes of it is in range and can be saved.
func TestPropGovernorRestoresEveryField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var s, from GovernorState
		fill(reflect.ValueOf(&s).Elem(), rng)
		if rapid.Bool().Draw(t, "some fields only") {
			g := New(cfg)
			for _, e := range events(t, 10) {
				e.apply(g)
			}
			from = g.State()
			of, to := reflect.ValueOf(&s).Elem(), reflect.ValueOf(&from).Elem()
			for range rapid.IntRange(1, 12).Draw(t, "fields") {
				i := rng.IntN(of.NumField())
				to.Field(i).Set(of.Field(i))
			}
			s = from
		}
		g := New(cfg)
		g.Restore(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "now")), s)
		in := cfg.clamp()
		sane(t, in, g.Decision())
		for _, e := range events(t, 20) {
			e = wilder(t, e)
			sane(t, in, e.apply(g))
			if _, err := json.Marshal(g.State()); err != nil {
				t.Fatalf("%v in %+v", err, g.State())
			}
			if s := g.State(); min(s.Pauses, s.Sharp, s.Wins, s.Test, s.CapLike, s.SlowerTimes, s.Wrong, s.Refuted, s.Retests, s.Lag.Hold, s.Lag.Fails) < 0 ||
				max(s.Pauses, s.Sharp, s.Wins, s.Test, s.CapLike, s.SlowerTimes, s.Wrong, s.Refuted, s.Retests, s.Lag.Hold, s.Lag.Fails) > 10 {
				t.Fatalf("a small number has run over: %+v", s)
			}
		}
	})
}

// What a state says of limits and levels is moved into what the parameters of the law that takes it allow.
func TestRestoredLevelsFit(t *testing.T) {
	g := New(Config{Min: 5, Initial: 10})
	now := time.Hour
	g.Restore(now, GovernorState{
		At: now, Origin: now - time.Minute, Limit: 10, Places: 2, Cells: [numCells]CellState{{Level: 1, Rate: 1, Latency: 1, At: 1e9}},
		Levels: [numLevels]LevelState{{Limit: 2, N: 64, At: 1e9}},
	})
	s := &g.s
	if s.Places != 5 {
		t.Errorf("%v places, want the least that is allowed, 5", s.Places)
	}
	if s.Cells[0].At != 60 || s.Levels[0].At != 60 {
		t.Errorf("a level was known %v s, and a limit %v s, after the first event, which is a minute ago", s.Cells[0].At, s.Levels[0].At)
	}
	if g.levelTo(2); s.Limit != 5 {
		t.Errorf("the limit goes to %v, want the least that is allowed, 5", s.Limit)
	}
}

// Who paused for days in all knows after a restart how much of that was since the last refusal.
func TestRestoredPausesOfDays(t *testing.T) {
	g := New(Config{})
	s := g.State()
	s.At, s.PausedSum, s.Pace[paceRequests].AnchorPaused = time.Hour, 100*time.Hour, 99*time.Hour
	g.Restore(time.Hour, s)
	if got := g.s.PausedSum - g.s.Pace[paceRequests].AnchorPaused; got != time.Hour {
		t.Errorf("paused for %v since the last refusal, want an hour", got)
	}
}

// However long a state says that calls take, starts are never so far apart that nobody knows any more what the upstream does.
func TestRestoredSpreadIsNotTooSlow(t *testing.T) {
	for name, set := range map[string]func(*GovernorState){
		"ends":    func(s *GovernorState) { s.Mean, s.Latency = 1e15, maxGap },
		"answers": func(s *GovernorState) { s.Begin.Mean, s.Begin.Of = 1e15, 8 },
	} {
		g := New(Config{})
		s := g.State()
		s.At, s.BusyAt, s.Done, s.Limit = time.Hour, time.Hour, 9, 10
		set(&s)
		if g.Restore(time.Hour, s); g.pace() < leastPace {
			t.Errorf("%s: a pace of %v, want %v at least", name, g.pace(), leastPace)
		}
	}
}
