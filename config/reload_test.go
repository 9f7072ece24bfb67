package config

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// write puts src into the file at path.
func write(t testing.TB, path, src string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reloader returns the path of a file with src, and a Reloader of it.
func reloader(t testing.TB, src string) (string, *Reloader) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "limits.toml")
	write(t, path, src)
	r, err := NewReloader(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, r
}

func guardOf(t testing.TB, r *Reloader, name string) *limiter.Guard {
	t.Helper()
	g, err := r.Guard(name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestReload(t *testing.T) {
	path, r := reloader(t, "[guard]\nmax_limit = 100\n[upstream.a]\nlaw = 'fixed'\ninitial_limit = 2\n[upstream.b]\nmax_limit = 50\n[upstream.old]")
	a, other := guardOf(t, r, "a"), guardOf(t, r, "other")
	if again := guardOf(t, r, "a"); again != a || a == other || a.Name() != "a" {
		t.Error("Guard makes a guard more than once")
	}
	steps := []struct {
		src       string
		limit     int
		upstreams []string
		settings  []string
	}{
		{src: "[guard]\nmax_limit = 100 # the same\n[upstream.b]\nmax_limit = 50\n[upstream.a]\ninitial_limit = 2\nlaw = 'fixed'\n[upstream.old]", limit: 2},
		{
			"[guard]\nmax_limit = 100\n[upstream.a]\nlaw = 'fixed'\ninitial_limit = 3\n[upstream.b]\nmax_limit = 50\n[upstream.new]", 3,
			[]string{"a", "new", "old"},
			[]string{"a.initial_limit: 2 -> 3", "new: added", "old: removed"},
		},
		{
			"[guard]\nmax_limit = 90\nmode = 'observe'\n[upstream.a]\nlaw = 'fixed'\ninitial_limit = 3\nmode='enforce'\n" +
				"room.weights = { x = 2 }\nmax_hold = '1m'\n[upstream.b]\nmax_limit = 50\nbase_url = 'https://b.example'\nprovider = 'b'\n" +
				"key_prefix = 'sk-123'\n[upstream.new]\nmode = 'enforce'\nmax_limit = 100", 3,
			[]string{"a", "b", "other"},
			[]string{
				"guard.mode: enforce -> observe", "guard.max_limit: 100 -> 90",
				"a.max_limit: 100 -> 90", "a.max_hold: \"0s\" -> \"1m\"", "a.room.weights.x: none -> 2",
				"b.base_url: none -> https://b.example", "b.provider: none -> b", "b.mode: enforce -> observe", "b.key_prefix: changed",
				"other.mode: enforce -> observe", "other.max_limit: 100 -> 90",
			},
		},
		{
			"[[feedback.rule]]\nname = 'x'\nstatus = 503\nclass = 'throttled'\n" +
				"[guard]\nmax_limit = 90\nmode = 'observe'\n[upstream.a]\nlaw = 'fixed'\ninitial_limit = 4\nmode='enforce'\nmax_hold = '1m'\n" +
				"budget.limit = [{ kind = 'tokens', limit = 5, burst = 4, cached_factor = 0.5 }, { kind = 'daily', limit = 5, fixed = true }]\n[upstream.b]\nmax_limit = 50\nbase_url = 'https://b.example'\n" +
				"provider = 'b'\nkey_prefix = 'sk-123'\n[upstream.new]\nmode = 'enforce'\nmax_limit = 100", 4,
			[]string{"a"},
			[]string{
				"a.initial_limit: 3 -> 4", "a.budget.oversize: none -> borrow", "a.budget.overrun: none -> 0.1", "a.budget.unseen: none -> 1000",
				`a.budget.limit[0]: none -> { kind = "tokens", limit = 5, per = "1m", burst = 4, cached_factor = 0.5 }`,
				`a.budget.limit[1]: none -> { kind = "daily", limit = 5, per = "24h", fixed = true }`,
				"a.room.weights.x: 2 -> none", "feedback.rule: changed, 0 -> 1 rules",
			},
		},
		{"[upstream.a]\nlaw = 'fixed'\ninitial_limit = 1", 1, []string{"a", "b", "new", "other"}, nil},
	}
	for i, s := range steps {
		write(t, path, s.src)
		c, err := r.Reload()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(c.Upstreams, s.upstreams) || s.settings != nil && !slices.Equal(c.Settings, s.settings) {
			t.Errorf("step %d changes %q,\n%q, want %q,\n%q", i, c.Upstreams, c.Settings, s.upstreams, s.settings)
		}
		if got := a.Stats().Limit; got != s.limit {
			t.Errorf("after step %d the limit is %d, want %d", i, got, s.limit)
		}
		if want, _ := Parse("", []byte(s.src)); !reflect.DeepEqual(r.File(), want) {
			t.Errorf("after step %d File() is %+v, want %+v", i, r.File(), want)
		}
	}
}

func TestReloadOfBadFileChangesNothing(t *testing.T) {
	path, r := reloader(t, "[upstream.a]\nlaw = 'fixed'\ninitial_limit = 2")
	g, file := guardOf(t, r, "a"), r.File()
	for _, src := range []string{"[upstream.a]\ninitial_limit = 9\nlaw = 'fixd'", "[upstream.a]\ninitial_limit = 9\nmax_limit = 2", "[upstream.a]\ninitial_limit ="} {
		write(t, path, src)
		c, err := r.Reload()
		if all := (strict.Errors)(nil); !errors.As(err, &all) || all[0].Line == 0 || all[0].File != path {
			t.Errorf("Reload of %q: %v, want strict.Errors", src, err)
		}
		if c.Upstreams != nil || c.Settings != nil || g.Stats().Limit != 2 || r.File() != file {
			t.Errorf("%q changes %v, and the limit to %d", src, c, g.Stats().Limit)
		}
	}
	os.Remove(path)
	if _, err := r.Reload(); !errors.Is(err, fs.ErrNotExist) || r.File() != file {
		t.Errorf("Reload of no file: %v", err)
	}
	if r, err := NewReloader(path); r != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("NewReloader of no file: %v, %v", r, err)
	}
	write(t, path, "x")
	if r, err := NewReloader(path); r != nil || err == nil {
		t.Errorf("NewReloader of a bad file: %v, %v", r, err)
	}
}

// TestReloadKeepsWhatLawsLearned lets laws cut their limits, and wants them to stay as long as the law's
// own settings do.
func TestReloadKeepsWhatLawsLearned(t *testing.T) {
	for _, law := range []string{LawAdaptive, LawAIMD} {
		t.Run(law, func(t *testing.T) {
			base := "[guard]\nlaw = '" + law + "'\ninitial_limit = 100\n"
			path, r := reloader(t, base)
			g := guardOf(t, r, "a")
			for range 5 {
				p, err := g.Acquire(t.Context(), limiter.Request{})
				if err != nil {
					t.Fatal(err)
				}
				p.Release(limiter.Outcome{Class: feedback.Overloaded})
			}
			learned := g.Stats().Limit
			if learned >= 100 {
				t.Fatalf("the limit is %d, want a cut", learned)
			}
			for _, src := range []string{"# nothing new\n", "max_wait = '5s'\n", "queue = 3\n[guard.room]\naging = '1s'\n"} {
				write(t, path, base+src)
				if _, err := r.Reload(); err != nil {
					t.Fatal(err)
				}
				if got := g.Stats().Limit; got != learned {
					t.Errorf("after %q the limit is %d, want %d", src, got, learned)
				}
			}
			write(t, path, strings.Replace(base, law, LawFixed, 1))
			if _, err := r.Reload(); err != nil || g.Stats().Limit != 100 {
				t.Errorf("with another law the limit is %d, %v, want 100", g.Stats().Limit, err)
			}
			write(t, path, base+"max_limit = 200\n")
			if _, err := r.Reload(); err != nil || g.Stats().Limit != 100 {
				t.Errorf("back again the limit is %d, %v, want 100", g.Stats().Limit, err)
			}
		})
	}
}

// TestReloadUnderLoad changes the limit while callers come and go: none starts beyond the largest, every
// one gets a place, and none is lost.
func TestReloadUnderLoad(t *testing.T) {
	const most = 8
	limits := []string{"1", "8", "3", "5"}
	src := func(i int) string {
		return "[upstream.a]\nlaw = 'fixed'\ninitial_limit = " + limits[i%len(limits)] + "\nmax_hold = '1m'\nroom.aging = '" + []string{"0s", "1s"}[i/2%2] + "'"
	}
	path, r := reloader(t, src(0))
	g := guardOf(t, r, "a")
	var calls sync.WaitGroup
	var inFlight, done atomic.Int64
	stop := make(chan struct{})
	for range 32 {
		calls.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, err := g.Acquire(context.Background(), limiter.Request{})
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				if n := inFlight.Add(1); n > most {
					t.Errorf("%d calls are in flight", n)
				}
				done.Add(1)
				inFlight.Add(-1)
				p.Release(limiter.Outcome{})
			}
		})
	}
	for i := range 200 {
		write(t, path, src(i))
		if _, err := r.Reload(); err != nil {
			t.Fatal(err)
		}
		if same := guardOf(t, r, "a"); same != g {
			t.Fatal("a reload makes another guard")
		}
	}
	close(stop)
	calls.Wait()
	if s := g.Stats(); s.InFlight != 0 || s.Waiting != 0 || s.Limit != 5 || done.Load() == 0 {
		t.Errorf("after %d calls there are %d in flight, %d waiting and a limit of %d, want 0, 0 and 5", done.Load(), s.InFlight, s.Waiting, s.Limit)
	}
}

func TestReloadFreesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, r := reloader(t, "[guard]\nlaw = 'fixed'\ninitial_limit = 1")
		g := guardOf(t, r, "a")
		p, err := g.Acquire(t.Context(), limiter.Request{})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan limiter.Permit)
		go func() {
			p, err := g.Acquire(t.Context(), limiter.Request{})
			if err != nil {
				t.Errorf("Acquire: %v", err)
			}
			got <- p
		}()
		synctest.Wait()
		write(t, path, "[guard]\nlaw = 'fixed'\ninitial_limit = 2")
		if _, err := r.Reload(); err != nil {
			t.Fatal(err)
		}
		second := <-got
		second.Release(limiter.Outcome{})
		p.Release(limiter.Outcome{})
	})
}

func TestReloadOfPool(t *testing.T) {
	t.Setenv("FLYBALL_TEST_ONE", "one-one-one")
	t.Setenv("FLYBALL_TEST_TWO", "two-two-two")
	base := "[upstream.a]\nlaw = 'gcl-aimd'\ninitial_limit = %\nkey = [{ env = 'FLYBALL_TEST_ONE' }, { env = 'FLYBALL_TEST_TWO' }]\n"
	src := func(limit string) string { return strings.Replace(base, "%", limit, 1) }
	path, r := reloader(t, src("2"))
	if _, err := r.Pool("b"); err == nil {
		t.Error("there is a pool of no keys")
	}
	p, err := r.Pool("a")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Pool("a"); again != p || err != nil {
		t.Errorf("Pool makes a pool more than once: %v", err)
	}
	// The keys are those that were read at first.
	t.Setenv("FLYBALL_TEST_ONE", "another")
	write(t, path, src("3"))
	c, err := r.Reload()
	if err != nil || !slices.Equal(c.Settings, []string{"a.initial_limit: 2 -> 3"}) {
		t.Errorf("Reload: %q, %v", c, err)
	}
	write(t, path, src("3")+"key_probe = '5m'\nkey_header = 'X-Key'\nkey_prefix = ''\n")
	if c, err = r.Reload(); err != nil || !slices.Equal(c.Settings, []string{"a.key_header: Authorization -> X-Key", `a.key_probe: "10m" -> "5m"`, "a.key_prefix: changed"}) {
		t.Errorf("Reload: %q, %v", c, err)
	}
	for _, bad := range []string{strings.Replace(src("4"), "TWO", "ONE2", 1), src("4") + "limit = 'account'", "# nothing"} {
		write(t, path, bad)
		if _, err = r.Reload(); err == nil || !strings.Contains(err.Error(), "upstream.a has other keys") {
			t.Errorf("Reload of other keys: %v", err)
		}
	}
	for _, g := range p.Guards() {
		if got := g.Stats().Limit; got != 3 {
			t.Errorf("the limit of %s is %d, want 3", g.Name(), got)
		}
	}
}

// A pool of an upstream that no longer has keys, or that is gone, is left as it is, and all else is put in force.
func TestReloadWithoutTheKeysOfAPool(t *testing.T) {
	t.Setenv("FLYBALL_TEST_ONE", "one-one-one")
	const pool = "[upstream.a]\ninitial_limit = 2\nlimit = 'account'\nkey = [{ env = 'FLYBALL_TEST_ONE' }]\n"
	const rest = "[upstream.z]\nlaw = 'fixed'\ninitial_limit = "
	for _, without := range []string{"", "[upstream.a]\ninitial_limit = 3\n"} {
		path, r := reloader(t, pool+rest+"2")
		r.ReplacePools()
		p, err := r.Pool("a")
		if err != nil {
			t.Fatal(err)
		}
		z := guardOf(t, r, "z")
		write(t, path, without+rest+"5")
		if _, err := r.Reload(); err != nil {
			t.Errorf("Reload without the keys of a pool, %q: %v", without, err)
		}
		if n := z.Stats().Limit; n != 5 {
			t.Errorf("%q: the limit of another upstream is %d, want 5", without, n)
		}
		if n := p.Guards()[0].Stats().Limit; n != 2 {
			t.Errorf("%q: the limit of the pool is %d, want 2 as before", without, n)
		}
	}
}

// Who waits at a guard whose upstream is gone, as it was renamed, keeps to the limits that it had: [guard] says nothing of it. A program that asks for
// guards by names of its own gets those of [guard].
func TestReloadWithoutAnUpstream(t *testing.T) {
	const table, guard = "[upstream.a]\nlaw = 'fixed'\ninitial_limit = ", "[guard]\nlaw = 'fixed'\ninitial_limit = "
	for _, replaces := range []bool{true, false} {
		path, r := reloader(t, guard+"50\n"+table+"2")
		if replaces {
			r.ReplacePools()
		}
		a, other := guardOf(t, r, "a"), guardOf(t, r, "other")
		for i, step := range []struct {
			file              string
			left, asked, free int // the limit of a where pools are replaced and where not, and that of other
		}{{guard + "60", 2, 60, 60}, {guard + "70", 2, 70, 70}, {guard + "80\n" + table + "3", 3, 3, 80}, {guard + "80\n[upstream.a]\n", 80, 80, 80}} {
			write(t, path, step.file)
			c, err := r.Reload()
			if err != nil {
				t.Fatal(err)
			}
			if said := slices.ContainsFunc(c.Settings, func(s string) bool { return strings.HasPrefix(s, "a.initial_limit") }); i == 0 && said == replaces {
				t.Errorf("replaces %v: the changes are %q, want those of the guard", replaces, c.Settings)
			}
			want := step.asked
			if replaces {
				want = step.left
			}
			if got, free := a.Stats().Limit, other.Stats().Limit; got != want || free != step.free {
				t.Errorf("replaces %v, step %d: the limits are %d and %d, want %d and %d", replaces, i, got, free, want, step.free)
			}
		}
	}
}

// A listener of a guard that a reload changes may ask for guards, and for pools that there are.
func TestReloadWhoseListenersAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Setenv("FLYBALL_TEST_ONE", "one-one-one")
		const rest = "[upstream.a]\nkey = [{ env = 'FLYBALL_TEST_ONE' }]\n[upstream.z]\nlaw = 'fixed'\ninitial_limit = "
		path, r := reloader(t, rest+"2")
		p, err := r.Pool("a")
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan *limiter.Pool, 1)
		guardOf(t, r, "z").OnDecision(func(limiter.Decision) {
			guardOf(t, r, "z")
			p, _ := r.Pool("a")
			asked <- p
		})
		write(t, path, rest+"5")
		go func() { _, _ = r.Reload() }()
		synctest.Wait()
		select {
		case got := <-asked:
			if got != p {
				t.Error("a listener gets another pool")
			}
		default:
			t.Fatal("a listener that asks for a pool holds up the reload, which waits for it")
		}
	})
}

// told is what OnReload was called with.
type told struct {
	Changes
	err error
}

// run has r.Run poll every second in virtual time. The returned function gives what was told since the last call.
func run(t *testing.T, r *Reloader) func() []told {
	t.Helper()
	var mu sync.Mutex
	var all []told
	ctx, cancel := context.WithCancelCause(context.Background()) // that of t ends before the clean-up
	ended := make(chan error)
	go func() {
		ended <- r.Run(ctx, RunConfig{Interval: time.Second, Signals: []os.Signal{}, OnReload: func(c Changes, err error) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, told{c, err})
		}})
	}()
	t.Cleanup(func() {
		why := errors.New("enough")
		cancel(why)
		if err := <-ended; err != why {
			t.Errorf("Run returns %v, want the cause", err)
		}
	})
	return func() []told {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		now := all
		all = nil
		return now
	}
}

func TestRunSeesChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, r := reloader(t, "[guard]\nlaw = 'fixed'\ninitial_limit = 2")
		g := guardOf(t, r, "a")
		since := run(t, r)
		expect := func(what string, limit int, calls int, bad bool) {
			t.Helper()
			got := since()
			if len(got) != calls || calls == 1 && (got[0].err != nil) != bad || g.Stats().Limit != limit {
				t.Errorf("%s: told %v and a limit of %d, want %d (an error: %t) and %d", what, got, g.Stats().Limit, calls, bad, limit)
			}
		}
		time.Sleep(10500 * time.Millisecond)
		expect("nothing happened", 2, 0, false)

		// The same size, and the same modification time.
		was, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "[guard]\nlaw = 'fixed'\ninitial_limit = 3")
		if err := os.Chtimes(path, was.ModTime(), was.ModTime()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		expect("written in place", 3, 1, false)

		// An editor writes another file and renames it.
		write(t, path+"~", "[guard]\nlaw = 'fixed'\ninitial_limit = 44")
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		expect("renamed over", 44, 1, false)

		// A file that is being written is left alone: an empty one would mean all defaults.
		for _, part := range []string{"", "[guard]\n", "[guard]\nlaw = 'fixed'\n", "[guard]\nlaw = 'fixed'\ninitial_lim"} {
			write(t, path, part)
			time.Sleep(100 * time.Millisecond)
		}
		expect("half-written", 44, 0, false)
		time.Sleep(10 * time.Second)
		expect("half-written for long", 44, 1, true)
		write(t, path, "\n")
		time.Sleep(10 * time.Second)
		expect("empty, as the disk is full", 44, 1, true)
		write(t, path, "[guard]\nlaw = 'fixed'\ninitial_lim")
		time.Sleep(10 * time.Second)
		expect("half-written again", 44, 1, true)
		time.Sleep(10 * time.Second)
		expect("the same error", 44, 0, true)
		os.Remove(path)
		time.Sleep(2 * time.Second)
		expect("no file", 44, 1, true)
		time.Sleep(10 * time.Second)
		expect("still no file", 44, 0, true)
		write(t, path, "[guard]\nlaw = 'fixed'\ninitial_limit = 5")
		time.Sleep(2 * time.Second)
		expect("mended", 5, 1, false)

		// Who reloads by himself has it told by Reload alone.
		write(t, path, "[guard]\nlaw = 'fixed'\ninitial_limit = 6")
		if _, err := r.Reload(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		expect("reloaded by a call", 6, 0, false)
	})
}

// keyed returns the paths of two keys, of which the first is there; what a file says with the first and more; and the path and the Reloader of the one
// with the first alone.
func keyed(t *testing.T) (one, two string, file func(more string) string, path string, r *Reloader) {
	t.Helper()
	dir := t.TempDir()
	one, two = filepath.Join(dir, "one"), filepath.Join(dir, "two")
	file = func(more string) string { return "[upstream.a]\nkey = [{ file = '" + one + "' }" + more + "]\n" }
	write(t, one, "sk-first")
	path, r = reloader(t, file(""))
	r.ReplacePools()
	return one, two, file, path, r
}

// Keys that come after the file that names them, as those of a Secret may after a ConfigMap, and keys that are changed in their files, are
// put in force without a signal.
func TestRunSeesKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, file, path, r := keyed(t)
		keys := func() (all string) {
			t.Helper()
			p, err := r.Pool("a")
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range p.Stats().Keys {
				all += k.Key + " "
			}
			return all
		}
		named := func(secrets ...string) (all string) {
			for _, s := range secrets {
				all += limiter.NewSecret(s).Fingerprint() + " "
			}
			return all
		}
		keys()
		since := run(t, r)
		expect := func(what string, calls int, bad bool, want string) {
			t.Helper()
			time.Sleep(10 * time.Second)
			got := since()
			if len(got) != calls || calls == 1 && (got[0].err != nil) != bad || keys() != want {
				t.Errorf("%s: told %v, and the keys are %s, want to be told %d times (an error: %t), and %s", what, got, keys(), calls, bad, want)
			}
		}
		expect("nothing happened", 0, false, named("sk-first"))
		write(t, path, file(", { file = '"+two+"' }"))
		expect("a key is not there yet", 1, true, named("sk-first"))
		expect("it is still not there", 0, true, named("sk-first"))
		write(t, two, "sk-second\n")
		expect("it is there", 1, false, named("sk-first", "sk-second"))
		write(t, one, "sk-third\n")
		expect("a key is another one", 1, false, named("sk-third", "sk-second"))
		write(t, one, "")
		time.Sleep(200 * time.Millisecond)
		write(t, one, "sk-third")
		expect("it was written in two steps", 0, false, named("sk-third", "sk-second"))
		write(t, one, "sk-second")
		expect("it is there twice", 1, true, named("sk-third", "sk-second"))
		write(t, one, "sk-third")
		expect("it is as it was", 1, false, named("sk-third", "sk-second"))
	})
}

// What keeps a file from being used is told again when it is something else, whatever file it is in, and not because a signal told of it first.
func TestRunTellsWhatIsWrongNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, file, path, r := keyed(t)
		if _, err := r.Pool("a"); err != nil {
			t.Fatal(err)
		}
		since := run(t, r)
		expect := func(what, want string) {
			t.Helper()
			time.Sleep(10 * time.Second)
			if got := since(); (len(got) == 0) != (want == "") || want != "" && (len(got) != 1 || got[0].err == nil || !strings.Contains(got[0].err.Error(), want)) {
				t.Errorf("%s: told %v, want one error with %q, or nothing without it", what, got, want)
			}
		}
		write(t, path, file(", { file = '"+two+"' }"))
		expect("a key is not there yet", "cannot be read")
		write(t, two, "")
		expect("it is there, and empty", "is empty")
		write(t, two, "sk first")
		expect("it is no key", "has spaces")
		expect("it is still none", "")
		write(t, path, file(""))
		time.Sleep(10 * time.Second)
		since()
		write(t, one, "")
		if _, err := r.Reload(); err == nil { // as a signal does
			t.Fatal("a reload without its key succeeds")
		}
		expect("who reloaded was told", "")
	})
}

func TestRunThroughLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		one, two, path := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "limits.toml")
		write(t, one, "[guard]\nlaw = 'fixed'\ninitial_limit = 1")
		write(t, two, "[guard]\nlaw = 'fixed'\ninitial_limit = 2")
		if err := os.Symlink(one, path); err != nil {
			t.Skip(err)
		}
		r, err := NewReloader(path)
		if err != nil {
			t.Fatal(err)
		}
		g, since := guardOf(t, r, "a"), run(t, r)
		if err := errors.Join(os.Symlink(two, path+"~"), os.Rename(path+"~", path)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if got := since(); len(got) != 1 || got[0].err != nil || g.Stats().Limit != 2 {
			t.Errorf("told %v and a limit of %d", got, g.Stats().Limit)
		}
	})
}

func TestRunWithoutPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, r := reloader(t, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		write(t, path, "x")
		err := r.Run(ctx, RunConfig{Interval: -1, Signals: []os.Signal{}, OnReload: func(Changes, error) { t.Error("the file was read") }})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunLogs(t *testing.T) {
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&b, nil)))
	defer slog.SetDefault(old)
	synctest.Test(t, func(t *testing.T) {
		path, r := reloader(t, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		time.AfterFunc(5*time.Second, func() { write(t, path, "guard.queue = 7") })
		time.AfterFunc(25*time.Second, func() { write(t, path, "guard.queue = -7") })
		if err := r.Run(ctx, RunConfig{Signals: []os.Signal{}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run: %v", err)
		}
	})
	for _, want := range []string{`level=INFO msg="limits reloaded"`, "guard.queue: 1024 -> 7", `level=ERROR msg="limits not reloaded, the old ones stay"`, "guard.queue is -7"} {
		if strings.Count(b.String(), want) != 1 {
			t.Errorf("the log has not %s once:\n%s", want, &b)
		}
	}
}

func TestReloaderIsConcurrent(t *testing.T) {
	path, r := reloader(t, "guard.queue = 1")
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			r.Run(ctx, RunConfig{Interval: time.Millisecond, Signals: []os.Signal{}, OnReload: func(Changes, error) { r.File() }})
		})
	}
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for j := range 50 {
				name := string(rune('a' + (i+j)%7))
				guardOf(t, r, name)
				if i == 0 {
					write(t, path+"~", "guard.queue = "+[]string{"1", "2", "x"}[j%3])
					os.Rename(path+"~", path)
				}
				r.Reload()
				r.File().Upstream(name)
			}
		})
	}
	work.Wait()
	cancel()
	all.Wait()
	write(t, path, "[guard]\nlaw = 'fixed'\ninitial_limit = 9")
	if _, err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "g"} {
		if got := guardOf(t, r, name).Stats().Limit; got != 9 {
			t.Errorf("the limit of %s is %d, want 9", name, got)
		}
	}
}

// A program with tables of its own in the file reads them in the same pass, and refuses a file for itself.
func TestReloaderWithTablesOfItsOwn(t *testing.T) {
	type file struct {
		Tables
		Gateway struct {
			Listen string `toml:"listen" len:"1..64"`
		} `toml:"gateway"`
	}
	var listen string
	parse := func(name string, data []byte) (*File, error) {
		var f file
		if err := Decode(name, data, &f); err != nil {
			return nil, err
		}
		listen = f.Gateway.Listen
		return f.File(), nil
	}
	path := filepath.Join(t.TempDir(), "limits.toml")
	put := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("[guard]\nmax_limit = 7\n[gateway]\nlisten = 'a:1'\n")
	r, err := NewReloaderFunc(path, parse)
	if err != nil || listen != "a:1" || r.File().Defaults.Adaptive.Max != 7 {
		t.Fatalf("%v, %q", err, listen)
	}
	if f, err := Load(path); err != nil || f.Defaults.Adaptive.Max != 7 {
		t.Errorf("Load: %v: [gateway] is not for this package", err)
	}
	put("[guard]\nmax_limit = 0\n[gateway]\nlisen = 'a:1'\n")
	_, err = r.Reload()
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "did you mean listen?") || !strings.Contains(err.Error(), "guard.max_limit is 0") {
		t.Errorf("both mistakes at once: %v", err)
	}
	if r.File().Defaults.Adaptive.Max != 7 {
		t.Error("a file with an error was put in force")
	}
	if _, err := Parse("x.toml", []byte("gateway = 3")); err == nil || !strings.Contains(err.Error(), "must be a table") {
		t.Errorf("gateway = 3: %v", err)
	}
}
