package config

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

var update = flag.Bool("update", false, "rewrite the expected messages and the generated parts of docs")

// golden compares got with the file, or writes the file with -update.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has\n%s\nwant (or run with -update)\n%s", file, want, got)
	}
}

// TestBadFiles wants for each testdata/x.bad.toml the messages in x.bad.txt.
func TestBadFiles(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.bad.toml")
	if len(files) == 0 {
		t.Fatal("there are no files")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Parse(filepath.Base(file), data)
			var all strict.Errors
			if f != nil || !errors.As(err, &all) {
				t.Fatalf("Parse(%s) = %v, %v, want no file and strict.Errors", file, f, err)
			}
			golden(t, strings.TrimSuffix(file, ".toml")+".txt", []byte(err.Error()+"\n"))
		})
	}
}

func TestEmptyFileIsDefault(t *testing.T) {
	f, err := Parse("x.toml", nil)
	if err != nil || !reflect.DeepEqual(f, Default()) {
		t.Errorf("Parse of nothing = %+v, %v, want %+v", f, err, Default())
	}
}

// TestDefaultIsAdaptives says that an empty file and the zero values of the packages that it configures agree.
func TestDefaultIsAdaptives(t *testing.T) {
	s := Default().Defaults
	if want := (adaptive.Config{}).Defaults(); s.Adaptive != want {
		t.Errorf("Default().Defaults.Adaptive = %+v, want %+v", s.Adaptive, want)
	}
	if err := Default().Guard("x").Check(); err != nil {
		t.Errorf("the limiter rejects the default: %v", err)
	}
}

func TestFull(t *testing.T) {
	f, err := Load("testdata/full.toml")
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Law:      "gcl-aimd",
		Adaptive: adaptive.Config{Initial: 10, Min: 2, Max: 50, Backoff: 0.5, Epoch: 20, RefusalBudget: 0.01, Objective: adaptive.Throughput},
		Queue:    0, MaxWait: 10 * time.Second, MaxPause: time.Hour, PauseJitter: 0,
		IgnoreRetryAfter: true, Observe: true, TimeOneIn: 16, MaxHold: 10 * time.Minute, WatchOneIn: 4, Reclaim: true,
		Room: &limiter.Room{
			Aging: 10 * time.Second, Weights: map[string]float64{"premium": 3, "batch": 0.5}, Drop: limiter.DropLongest, ReservedShare: 0.25, ReservedFor: 5,
		},
		Budget: &limiter.Budget{
			Limits: []limiter.BudgetLimit{
				{Kind: feedback.ScopeInputTokens, Limit: 90_000, Period: 30 * time.Second, Burst: 1000, CachedFactor: 0.5},
				{Kind: feedback.ScopeDaily, Limit: 1000, Period: 24 * time.Hour, Fixed: true},
				{Kind: feedback.ScopeTokens},
			},
			Oversize: limiter.Refuse, Overrun: 0.05, Unseen: 2000,
		},
		Retry: limiter.Retry{MaxAttempts: 1, BaseDelay: time.Second, MaxDelay: time.Minute, Budget: 2.5},
	}
	if !reflect.DeepEqual(f.Defaults, want) {
		t.Errorf("Defaults is\n%+v, want\n%+v", f.Defaults, want)
	}
	if got, want := f.Names(), []string{"a.b", "openai"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Names() = %q, want %q", got, want)
	}

	want.Law, want.Adaptive.Initial, want.Queue, want.Adaptive.Epoch, want.Retry.MaxAttempts = "adaptive", 20, 7, 30, 3
	room, budget := *want.Room, *want.Budget
	room.Weights = map[string]float64{"premium": 3, "batch": 2}
	budget.Limits = []limiter.BudgetLimit{{Kind: feedback.ScopeRequests, Limit: 500, Period: time.Minute}}
	want.Room, want.Budget = &room, &budget
	u, ok := f.Upstream("openai")
	if w := (Upstream{"openai", "https://api.openai.com/v1", "openai", noKeys, want}); !ok || !reflect.DeepEqual(u, w) {
		t.Errorf("Upstream(openai) is\n%+v, want\n%+v", u, w)
	}
	if u, ok := f.Upstream("nobody"); ok || !reflect.DeepEqual(u, Upstream{Name: "nobody", Keys: noKeys, Settings: f.Defaults}) {
		t.Errorf("Upstream(nobody) = %+v, %t", u, ok)
	}

	c := f.Guard("openai")
	if c.Name != "openai" || c.Law != nil || c.Adaptive != want.Adaptive || c.Queue != 7 || c.MaxWait != 10*time.Second || c.MaxPause != time.Hour || c.PauseJitter >= 0 || c.Retry != want.Retry ||
		!c.IgnoreRetryAfter || !c.Observe || c.TimeOneIn != 16 || c.MaxHold != 10*time.Minute || c.WatchOneIn != 4 || !c.Reclaim || c.Room != u.Room || c.Budget != u.Budget || c.Check() != nil {
		t.Errorf("Guard(openai) = %+v", c)
	}
	c = f.Guard("a.b")
	if c.Name != "a.b" || c.Law == nil || c.Law.Decision().Limit != 10 || c.Queue != -1 || c.Check() != nil || c.Observe || c.MaxHold != 0 || c.Budget != nil ||
		!reflect.DeepEqual(c.Room, &limiter.Room{Weights: f.Defaults.Room.Weights}) {
		t.Errorf("Guard(a.b) = %+v, %v", c, c.Check())
	}
	if other := f.Guard("a.b"); other.Law == c.Law {
		t.Error("two guards got one law")
	}

	wantRules := []feedback.Rule{
		{
			Name: "busy", Provider: "acme", Status: 503, Header: "x-reason", HeaderValue: "busy", Code: "model_busy", Text: "model is busy",
			Class: "throttled", Scope: "concurrency", Delay: 2 * time.Second, Retryable: "false",
		},
		{Name: "broken", Status: 520, Class: "server_error"},
	}
	if !reflect.DeepEqual(f.Rules, wantRules) {
		t.Errorf("Rules is\n%+v, want\n%+v", f.Rules, wantRules)
	}
	s := feedback.Parse(feedback.Answer{Status: 520, Rules: f.FeedbackRules()})
	if s.Class != feedback.ServerError || !strings.Contains(s.Source, "broken") {
		t.Errorf("the rule broken gives %+v", s)
	}
	if Default().FeedbackRules() != nil {
		t.Error("no rules compile to some")
	}
}

// TestOverrideEveryKey writes each key of [guard] in an upstream alone, and wants exactly that
// setting changed.
func TestOverrideEveryKey(t *testing.T) {
	values := map[string]string{
		"law": `"fixed"`, "initial_limit": "7", "min_limit": "3", "max_limit": "77", "queue": "7", "max_wait": `"7s"`, "max_pause": `"7s"`, "pause_jitter": "0.7",
		"mode": `"observe"`, "ignore_retry_after": "true", "time_one_in": "8", "max_hold": `"7s"`, "watch_one_in": "8", "reclaim": "true",
		"room.aging": `"7s"`, "room.drop": `"oldest"`, "room.reserved_share": "0.7", "room.reserved_for": "7", "room.weights": "{ a = 7 }",
		"budget.oversize": `"refuse"`, "budget.overrun": "0.07", "budget.unseen": "7",
		"adaptive.backoff": "0.7", "adaptive.epoch": "7", "adaptive.refusal_budget": "0.07", "adaptive.objective": `"knee"`, "adaptive.latency_factor": "7.0", "retry.max_attempts": "7", "retry.base_delay": `"7ms"`, "retry.max_delay": `"7m"`, "retry.budget": "0.7",
	}
	// Some keys say nothing without another one.
	with := map[string]string{
		"room.reserved_for": "guard.room.reserved_share = 0.5\n",
		"budget.oversize":   oneLimit, "budget.overrun": oneLimit, "budget.unseen": oneLimit,
	}
	parse := func(src string) *File {
		t.Helper()
		f, err := Parse("x.toml", []byte(src))
		if err != nil {
			t.Fatalf("%q: %v", src, err)
		}
		return f
	}
	for _, d := range strict.Describe(fileTable{}) {
		key, ok := strings.CutPrefix(d.Path, "guard.")
		if !ok || d.Table || strings.Contains(key, "[]") {
			continue
		}
		value := values[key]
		if value == "" {
			t.Errorf("the test has no value for %s", key)
		}
		without := parse(with[key])
		inGuard := parse("guard." + key + " = " + value + "\n" + with[key])
		inUpstream := parse("upstream.a." + key + " = " + value + "\n" + with[key])
		overridden := parse("guard." + key + " = " + value + "\n" + with[key] + "[upstream.a]\n[upstream.b]\nlaw = 'adaptive'")
		if reflect.DeepEqual(inGuard.Defaults, without.Defaults) {
			t.Errorf("guard.%s = %s changes nothing", key, value)
		}
		if !reflect.DeepEqual(inUpstream.Defaults, without.Defaults) || !reflect.DeepEqual(inUpstream.Upstreams["a"].Settings, inGuard.Defaults) {
			t.Errorf("upstream.a.%s = %s gives\n%+v, want\n%+v", key, value, inUpstream.Upstreams["a"].Settings, inGuard.Defaults)
		}
		if !reflect.DeepEqual(overridden.Upstreams["a"].Settings, inGuard.Defaults) {
			t.Errorf("an upstream inherits %+v from %s", overridden.Upstreams["a"].Settings, key)
		}
		// And a reload tells of it.
		var changed []string
		for _, s := range differ(without.Defaults.each(), inGuard.Defaults.each()) {
			name, _, _ := strings.Cut(s, ":")
			changed = append(changed, name)
		}
		if want := []string{strings.Replace(key, "room.weights", "room.weights.a", 1)}; !slices.Equal(changed, want) && key != "room.reserved_share" {
			t.Errorf("with %s = %s, what differs is %q, want %q", key, value, changed, want)
		}
	}
}

// oneLimit is a budget, without which its other settings say nothing.
const oneLimit = "guard.budget.limit = [{ kind = 'tokens', limit = 1000 }]\n"

func TestInitialLimitThatIsNotWritten(t *testing.T) {
	for src, want := range map[string]int{
		"":                      4,
		"guard.min_limit = 9":   9,
		"guard.max_limit = 3":   3,
		"guard.max_limit = 100": 4,
	} {
		f, err := Parse("x.toml", []byte(src))
		if err != nil || f.Defaults.Adaptive.Initial != want {
			t.Errorf("%q gives %+v, %v, want an initial limit of %d", src, f, err, want)
		}
	}
}

func TestMaxDelayThatIsNotWritten(t *testing.T) {
	f, err := Parse("x.toml", []byte("guard.retry.base_delay = '1m'\nupstream.a.retry.base_delay = '2m'"))
	if err != nil || f.Defaults.Retry.MaxDelay != time.Minute || f.Upstreams["a"].Retry.MaxDelay != 2*time.Minute {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestWrittenZeroIsZero(t *testing.T) {
	f, err := Parse("x.toml", []byte("[guard]\nqueue = 0\npause_jitter = 0"))
	if err != nil {
		t.Fatal(err)
	}
	if d := f.Defaults; d.Queue != 0 || d.PauseJitter != 0 {
		t.Errorf("got %+v", d)
	}
	for _, key := range []string{"initial_limit", "min_limit", "max_limit", "adaptive.backoff", "adaptive.epoch", "adaptive.refusal_budget", "retry.max_attempts", "retry.budget"} {
		if _, err := Parse("x.toml", []byte("guard."+key+" = 0")); err == nil {
			t.Errorf("guard.%s = 0 is accepted", key)
		}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge.toml")
	if err := os.WriteFile(huge, bytes.Repeat([]byte("#"), strict.MaxSize+100), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "none.toml")
	for path, want := range map[string]string{
		missing: "config: " + missing + " cannot be read: no such file or directory: check the path, or make the file; an empty file means all defaults",
		dir:     "config: " + dir + " is a directory: give the path of a file in it, such as limits.toml",
		huge:    huge + ": the file has more than 1048576 bytes, must be at most 1048576 bytes (1 MiB)",
		"":      "config: the path of the file is empty: give one, such as limits.toml: no such file or directory",
	} {
		f, err := Load(path)
		if f != nil || err == nil || err.Error() != want {
			t.Errorf("Load(%q) = %v, %v, want %s", path, f, err, want)
		}
	}
	if _, err := Load(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no file is %v, not fs.ErrNotExist", err)
	}
	if got := unreadable("x", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrPermission}).Error(); got != "config: x cannot be read: permission denied: let the user who runs this read it" {
		t.Errorf("permission: %s", got)
	}
}

func TestNewLaw(t *testing.T) {
	for _, name := range Laws() {
		law, err := NewLaw(name, adaptive.Config{Initial: 7, Min: 1, Max: 70})
		if err != nil {
			t.Errorf("NewLaw(%q): %v", name, err)
			continue
		}
		if got := law.Decision().Limit; got != 7 {
			t.Errorf("NewLaw(%q) starts at %d, want 7", name, got)
		}
		if f, err := Parse("x.toml", []byte("guard.law = '"+name+"'")); err != nil || f.Guard("").Check() != nil {
			t.Errorf("the law %q cannot be configured: %v", name, err)
		}
	}
	if _, err := NewLaw("vegas", adaptive.Config{}); err == nil || !strings.Contains(err.Error(), "gcl-vegas") {
		t.Errorf("NewLaw(vegas): %v, want the names that there are", err)
	}
	if _, err := NewLaw("fixed", adaptive.Config{Backoff: 2}); err == nil {
		t.Error("NewLaw accepts a backoff of 2")
	}
}

// TestChoicesAreComplete compares the choices in tags with the lists of the packages that give them meaning.
func TestChoicesAreComplete(t *testing.T) {
	tag := func(v any, field string) []string {
		f, _ := reflect.TypeOf(v).FieldByName(field)
		return strings.Split(f.Tag.Get("choice"), "|")
	}
	if got := tag(guardTable{}, "Law"); !reflect.DeepEqual(got, Laws()) {
		t.Errorf("law may be %q, want %q", got, Laws())
	}
	var classes, scopes []string
	for c := range feedback.Canceled {
		classes = append(classes, c.String())
	}
	for s := range feedback.NumScopes {
		scopes = append(scopes, feedback.Scope(s).String())
	}
	if got := tag(roomTable{}, "Drop"); !reflect.DeepEqual(got, drops) {
		t.Errorf("drop may be %q, want %q", got, drops)
	}
	for i, name := range drops {
		if got := limiter.Drop(i).String(); got != name {
			t.Errorf("limiter.Drop(%d) is %q, want %q", i, got, name)
		}
	}
	if got := tag(budgetTable{}, "Oversize"); !reflect.DeepEqual(got, oversizes) {
		t.Errorf("oversize may be %q, want %q", got, oversizes)
	}
	for i, name := range oversizes {
		if got := limiter.Oversize(i).String(); got != name {
			t.Errorf("limiter.Oversize(%d) is %q, want %q", i, got, name)
		}
	}
	if got := tag(ruleTable{}, "Class"); !reflect.DeepEqual(got, classes) {
		t.Errorf("class may be %q, want %q", got, classes)
	}
	if got := tag(ruleTable{}, "Scope"); !reflect.DeepEqual(got, scopes) {
		t.Errorf("scope may be %q, want %q", got, scopes)
	}
}

func TestParseIsRepeatable(t *testing.T) {
	data, err := os.ReadFile("testdata/order.bad.toml")
	if err != nil {
		t.Fatal(err)
	}
	_, first := Parse("x.toml", data)
	for range 20 {
		if _, err := Parse("x.toml", data); err.Error() != first.Error() {
			t.Fatalf("Parse gives\n%v\nand then\n%v", first, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.toml")
	for _, file := range append(files, "../limits.toml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("x.toml", data)
		if err != nil {
			return
		}
		for _, name := range append(file.Names(), "default") {
			if err := file.Guard(name).Check(); err != nil {
				t.Fatalf("Parse accepts %q, and the limiter does not: %v", data, err)
			}
		}
		file.FeedbackRules()
	})
}
