package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

var update = flag.Bool("update", false, "rewrite testdata and the table in docs/metrics.md")

// script is a law that says what it is told to say, at each call that does not end well.
type script struct {
	current adaptive.Decision
	next    []adaptive.Decision
}

func (s *script) Window(time.Duration, adaptive.Window) adaptive.Decision { return s.current }
func (s *script) Hint(time.Duration, feedback.Window) adaptive.Decision   { return s.current }
func (s *script) Decision() adaptive.Decision                             { return s.current }
func (s *script) Ended(time.Duration, adaptive.Call, adaptive.Outcome) adaptive.Decision {
	if len(s.next) > 0 {
		s.current, s.next = s.next[0], s.next[1:]
	}
	return s.current
}

func newGuard(t testing.TB, cfg limiter.Config) *limiter.Guard {
	t.Helper()
	if cfg.Law == nil {
		cfg.Law = adaptive.NewFixed(2)
	}
	cfg.PauseJitter, cfg.Seed = -1, 1
	g, err := limiter.New(cfg)
	if err != nil {
		t.Fatalf("limiter.New(%+v): %v", cfg, err)
	}
	return g
}

func mustRegister(t testing.TB, m *Metrics, guards ...*limiter.Guard) {
	t.Helper()
	for _, g := range guards {
		if err := m.Register(g); err != nil {
			t.Fatalf("Register(%q): %v", g.Name(), err)
		}
	}
}

func mustAcquire(t testing.TB, g *limiter.Guard) *limiter.Permit {
	t.Helper()
	p, err := g.Acquire(t.Context(), limiter.Request{})
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return &p
}

// read returns what the handler answers.
func read(t testing.TB, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != contentType {
		t.Fatalf("GET /metrics: status %d, Content-Type %q", w.Code, got)
	}
	return w.Body.String()
}

func mustParse(t testing.TB, text string) *exposition {
	t.Helper()
	e, err := parse(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return e
}

// history leads a guard through everything that is counted. It runs in virtual time.
func history(t *testing.T) *limiter.Guard {
	law := &script{
		current: adaptive.Decision{Limit: 2},
		next: []adaptive.Decision{
			{Limit: 1, Cause: adaptive.CauseThrottled, Binding: feedback.ScopeTokens, Pace: 2.5, TokenPace: 40_000},
		},
	}
	g := newGuard(t, limiter.Config{Name: "llm", Law: law, Queue: 4, MaxWait: 10 * time.Second, MaxPause: time.Minute})

	// Two calls for 300 ms; the first two of three who wait are let in then, and the third 20 ms later.
	first, second := mustAcquire(t, g), mustAcquire(t, g)
	for i := range 3 {
		time.Sleep(time.Millisecond)
		go func() {
			p := mustAcquire(t, g)
			time.Sleep(20 * time.Millisecond)
			p.Release(limiter.Outcome{Class: []feedback.Class{feedback.OK, feedback.OK, feedback.ClientError}[i]})
		}()
	}
	// One gives up; the queue is full for another.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	gaveUp := make(chan error)
	go func() {
		_, err := g.Acquire(ctx, limiter.Request{})
		gaveUp <- err
	}()
	synctest.Wait()
	if _, err := g.Acquire(t.Context(), limiter.Request{}); !errors.Is(err, limiter.ErrRejected) {
		t.Errorf("Acquire with a full queue: %v", err)
	}
	if _, ok := g.TryAcquire(limiter.Request{}); ok {
		t.Error("TryAcquire found a place")
	}
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire with a canceled context: %v", err)
	}
	time.Sleep(297 * time.Millisecond)
	first.Release(limiter.Outcome{})
	second.Release(limiter.Outcome{})
	time.Sleep(time.Second)

	// A refusal with a Retry-After of 4 s: the limit goes down, and one who has not that much time is refused.
	mustAcquire(t, g).Release(limiter.Outcome{
		Class: feedback.Throttled, Scope: feedback.ScopeTokens, HasRetryAfter: true, RetryAfter: 4 * time.Second,
	})
	late, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := g.Acquire(late, limiter.Request{}); !errors.Is(err, limiter.ErrRejected) {
		t.Errorf("Acquire with a deadline before the end of the pause: %v", err)
	}
	// One is in flight at the end, and one waits.
	for range 2 {
		go func() {
			if p, err := g.Acquire(t.Context(), limiter.Request{}); err == nil {
				<-t.Context().Done()
				p.Release(limiter.Outcome{})
			}
		}()
	}
	time.Sleep(6 * time.Second)
	// And another pause is in force.
	g.Pause(time.Now().Add(2500 * time.Millisecond))
	return g
}

func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New()
		idle := newGuard(t, limiter.Config{Name: "idle"})
		mustRegister(t, m, history(t), idle)
		got := read(t, m)
		e := mustParse(t, got)

		// The figures that the history is about, by themselves.
		for _, c := range []struct {
			want   float64
			series []string
		}{
			{1, []string{"flyball_limit"}},
			{1, []string{"flyball_in_flight"}},
			{1, []string{"flyball_waiting"}},
			{2.5, []string{"flyball_pace_calls_per_second"}},
			{40_000, []string{"flyball_pace_tokens_per_second"}},
			{2.5, []string{"flyball_pause_remaining_seconds"}},
			{2, []string{"flyball_pauses_total"}},
			{1, []string{"flyball_canceled_waits_total"}},
			{4, []string{"flyball_outcomes_total", "class", "ok"}},
			{1, []string{"flyball_outcomes_total", "class", "client_error"}},
			{1, []string{"flyball_outcomes_total", "class", "throttled"}},
			{1, []string{"flyball_refusals_total", "reason", "queue_full"}},
			{1, []string{"flyball_refusals_total", "reason", "limit"}},
			{1, []string{"flyball_refusals_total", "reason", "deadline"}},
			{1, []string{"flyball_decisions_total", "cause", "throttled"}},
			{1, []string{"flyball_binding", "scope", "tokens"}},
			{0, []string{"flyball_binding", "scope", "none"}},
			{4, []string{"flyball_wait_seconds_count"}},
			{3, []string{"flyball_wait_seconds_bucket", "le", "0.512"}},
			{4, []string{"flyball_wait_seconds_bucket", "le", "8.192"}},
		} {
			labels := append(c.series[1:], "guard", "llm")
			if v := e.value(t, c.series[0], labels...); v != c.want {
				t.Errorf("%s = %v, want %v", c.series, v, c.want)
			}
		}
		golden(t, "testdata/history.txt", got)
	})
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it); got\n%s", file, got)
	}
}

// Every value of each enumeration is there before anything happened, so that rate() sees the first event.
func TestSeriesAppearAtZero(t *testing.T) {
	m := New()
	if got := read(t, m); got != "" {
		t.Errorf("without a guard: %q, want nothing", got)
	}
	mustRegister(t, m, newGuard(t, limiter.Config{Name: "new"}))
	e := mustParse(t, read(t, m))
	for name, n := range map[string]int{
		"flyball_outcomes_total":  feedback.NumClasses,
		"flyball_decisions_total": adaptive.NumCauses,
		"flyball_refusals_total":  len(limiter.Counts{}.Refused) - 1, // but for "none"
		"flyball_binding":         feedback.NumScopes,
		"flyball_wait_seconds":    limiter.WaitBuckets + 2,

		"flyball_wait_reason_seconds": (limiter.NumWhys - 1) * (limiter.WaitBuckets/2 + 3), // every other bound, the last, sum and count
	} {
		f := e.byName[name]
		if f == nil || len(f.series) != n {
			t.Errorf("%s: %+v, want %d series", name, f, n)
			continue
		}
		for _, s := range f.series {
			if s.value != 0 && name != "flyball_binding" {
				t.Errorf("%s%v = %v, want 0", s.name, s.labels, s.value)
			}
			for _, l := range s.labels {
				if l.value == "unknown" && l.name != "scope" || l.name == "reason" && l.value == "none" {
					t.Errorf("%s has a series %v", s.name, s.labels)
				}
			}
		}
	}
	for _, f := range families {
		if e.byName[f.name] == nil || e.byName[f.name].kind != f.kind {
			t.Errorf("%s is not on the page as a %s", f.name, f.kind)
		}
	}
}

func TestFamiliesAreSortedAndNamedByConvention(t *testing.T) {
	checkFamilies(t, families)
	checkFamilies(t, poolFamilies)
}

func checkFamilies[S any](t *testing.T, families []family[S]) {
	t.Helper()
	if !slices.IsSortedFunc(families, func(a, b family[S]) int { return strings.Compare(a.name, b.name) }) {
		t.Error("families are not sorted by name")
	}
	for _, f := range families {
		if !strings.HasPrefix(f.name, "flyball_") || f.name != strings.ToLower(f.name) {
			t.Errorf("%s: want flyball_ and lower case", f.name)
		}
		if (f.unit == "seconds") != strings.HasSuffix(f.name, "_seconds") {
			t.Errorf("%s is in %s", f.name, f.unit)
		}
		if (f.kind == counter) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s is a %s", f.name, f.kind)
		}
	}
}

func TestWaitBuckets(t *testing.T) {
	var s sample
	s.label = `guard="x"`
	for i := range s.Counts.Waits {
		s.Counts.Waits[i] = uint64(i + 1)
	}
	s.Counts.WaitSum = 1500 * time.Millisecond
	var p page
	for _, f := range families {
		if f.kind == histogram {
			add(&p, []family[sample]{f}, []sample{s})
		}
	}
	e := mustParse(t, string(p.b))
	for le, want := range map[string]float64{"0.001": 1, "0.002": 3, "0.128": 36, "262.144": 190, "+Inf": 210} {
		if got := e.value(t, "flyball_wait_seconds_bucket", "le", le); got != want {
			t.Errorf("bucket %s = %v, want %v", le, got, want)
		}
	}
	if got := e.value(t, "flyball_wait_seconds_sum"); got != 1.5 {
		t.Errorf("sum = %v, want 1.5", got)
	}
}

func TestRegister(t *testing.T) {
	m := New()
	a, b := newGuard(t, limiter.Config{Name: "a"}), newGuard(t, limiter.Config{Name: "b"})
	other := newGuard(t, limiter.Config{Name: "a"})
	mustRegister(t, m, b, a)
	for _, g := range []*limiter.Guard{a, other} {
		var dup *DuplicateError
		if err := m.Register(g); !errors.As(err, &dup) || dup.Guard != "a" {
			t.Errorf("Register with a name that is taken: %v, want a *DuplicateError", err)
		} else if want := `metrics: a guard named "a" is registered already`; err.Error() != want {
			t.Errorf("Error() = %s, want %s", err, want)
		}
	}
	text := read(t, m)
	if ia, ib := strings.Index(text, `guard="a"`), strings.Index(text, `guard="b"`); ia < 0 || ib < ia {
		t.Errorf("guards are not in order:\n%s", text)
	}
	if m.Unregister(other) {
		t.Error("Unregister of a guard that is not there, with a name that is: true")
	}
	if !m.Unregister(a) || m.Unregister(a) {
		t.Error("Unregister: want true, then false")
	}
	if text := read(t, m); strings.Contains(text, `guard="a"`) || !strings.Contains(text, `guard="b"`) {
		t.Errorf("after Unregister:\n%s", text)
	}
	mustRegister(t, m, other)
}

func TestSetHoldsTheGuards(t *testing.T) {
	m := New()
	m.Set().GetOrCreateCounter("mine_total").Inc()
	mustRegister(t, m, newGuard(t, limiter.Config{Name: "a"}))
	var b bytes.Buffer
	m.Set().WritePrometheus(&b)
	mine, guards, _ := strings.Cut(b.String(), "\n")
	if mine != "mine_total 1" {
		t.Errorf("first line %q", mine)
	}
	mustParse(t, guards)
}

var hostileNames = []string{
	"", " ", `"`, `\`, `\"`, `\n`, "\n", "\r\n", "\t", "a\nflyball_limit{guard=\"b\"} 9", `x"} 1`, "}{,=",
	"größe 🚦 限流", "\u202eabc", "\x00", "a\x00b", "\xff", "a\xc3", "<script>", strings.Repeat("long ", 1000),
}

func TestHostileNames(t *testing.T) {
	m := New()
	labels := map[string]bool{}
	for _, name := range hostileNames {
		g := newGuard(t, limiter.Config{Name: name})
		var dup *DuplicateError
		switch err := m.Register(g); {
		case labels[labelOf(g.Name())]:
			if !errors.As(err, &dup) {
				t.Errorf("Register(%q): %v, want a *DuplicateError", name, err)
			}
		case err != nil:
			t.Errorf("Register(%q): %v", name, err)
		}
		labels[labelOf(g.Name())] = true
	}
	e := mustParse(t, read(t, m))
	got := e.byName["flyball_limit"].series
	if len(got) != len(labels) {
		t.Errorf("%d guards, want %d", len(got), len(labels))
	}
	for _, s := range got {
		if !labels[s.label("guard")] || s.value != 2 {
			t.Errorf("guard %q at %v", s.label("guard"), s.value)
		}
	}
}

func FuzzGuardName(f *testing.F) {
	for _, name := range hostileNames {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		m := New()
		g := newGuard(t, limiter.Config{Name: name})
		mustRegister(t, m, g)
		e := mustParse(t, read(t, m))
		want := strings.ReplaceAll(strings.ToValidUTF8(g.Name(), "\uFFFD"), "\x00", "\uFFFD")
		for _, family := range e.families {
			for _, s := range family.series {
				if s.label("guard") != want {
					t.Fatalf("%s has the guard %q, want %q", s.name, s.label("guard"), want)
				}
			}
		}
	})
}

// Reading while guards work and come and go: each page is whole, and counters never go back.
func TestReadWhileGuardsWork(t *testing.T) {
	const callers, calls, readers = 8, 500, 3
	m := New()
	g := newGuard(t, limiter.Config{Name: "busy", Law: adaptive.NewFixed(3)})
	mustRegister(t, m, g)

	done := make(chan struct{})
	var workers, watchers sync.WaitGroup
	for range callers {
		workers.Go(func() {
			for i := range calls {
				p, err := g.Acquire(context.Background(), limiter.Request{})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				p.Release(limiter.Outcome{Class: []feedback.Class{feedback.OK, feedback.ServerError}[i%2]})
			}
		})
	}
	watchers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			guest := newGuard(t, limiter.Config{Name: "a guest"})
			mustRegister(t, m, guest)
			if !m.Unregister(guest) {
				t.Error("the guest is gone")
			}
		}
	})
	for range readers {
		watchers.Go(func() {
			last := map[string]float64{}
			for {
				e, err := parse(read(t, m))
				if err != nil {
					t.Error(err)
					return
				}
				for _, f := range e.families {
					for _, s := range f.series {
						if f.kind == gauge || s.label("guard") != "busy" {
							continue
						}
						id := s.name + s.key() + s.label("le")
						if s.value < last[id] {
							t.Errorf("%s went from %v to %v", id, last[id], s.value)
						}
						last[id] = s.value
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	workers.Wait()
	close(done)
	watchers.Wait()

	e := mustParse(t, read(t, m))
	for _, class := range []string{"ok", "server_error"} {
		if got := e.value(t, "flyball_outcomes_total", "class", class); got != callers*calls/2 {
			t.Errorf("%s: %v calls, want %d", class, got, callers*calls/2)
		}
	}
	if got := e.value(t, "flyball_in_flight"); got != 0 {
		t.Errorf("%v in flight at the end", got)
	}
}

// A reader that is gone harms nobody.
func TestReaderFails(t *testing.T) {
	m := New()
	mustRegister(t, m, newGuard(t, limiter.Config{}))
	r, w := io.Pipe()
	_ = r.Close()
	m.Set().WritePrometheus(w)
	mustParse(t, read(t, m))
}

func TestFloats(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.001: "0.001", 262.144: "262.144", 1e21: "1e+21", math.Inf(1): "+Inf"} {
		if got := formatFloat(v); got != want {
			t.Errorf("formatFloat(%v) = %s, want %s", v, got, want)
		}
	}
}

// Sums of waits do not fall before they begin anew at 0: 1,000 callers at a time wait 292 years in 106 days.
func TestLongSums(t *testing.T) {
	const years = 200 * 365 * 24 * time.Hour
	var s sample
	s.label = `guard="x"`
	var p page
	for range 2 { // the sum wraps
		s.Counts.WaitSum += years
		s.Counts.WaitedFor[limiter.WhyLimit].Sum += years
	}
	waits(&p, &s)
	waitsFor(&p, &s)
	for _, want := range []string{`{guard="x"} 1.26144e+10`, `{guard="x",why="limit"} 1.26144e+10`} {
		if !strings.Contains(string(p.b), "_sum"+want+"\n") {
			t.Errorf("there is no line _sum%s in\n%s", want, p.b)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	m := New()
	for i := range 100 {
		mustRegister(b, m, newGuard(b, limiter.Config{Name: "guard " + string(rune('A'+i))}))
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Set().WritePrometheus(io.Discard)
	}
}
