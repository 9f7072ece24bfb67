package settings

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/config/strict"
)

var update = flag.Bool("update", false, "rewrite the expected output")

const limitsFile = "../../../limits.toml"

// limits.toml says the same as an empty file, so that its copy is a good start.
func TestLimitsFileIsDefault(t *testing.T) {
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	const upstream = "\n[upstream.up]\nbase_url = \"https://api.example.com/v1\"\n" // for which the gateway has defaults of its own
	got, err := Parse("limits.toml", append(data, upstream...))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("limits.toml", []byte(upstream))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := got.Limits.Upstreams["up"], want.Limits.Upstreams["up"]; got.Queue != want.Queue || got.MaxWait != want.MaxWait {
		t.Errorf("with limits.toml an upstream has the queue %d and the longest wait %v, want %d and %v", got.Queue, got.MaxWait, want.Queue, want.MaxWait)
	}
	got.Limits, want.Limits = nil, nil // package config's test
	if !reflect.DeepEqual(got, want) {
		t.Errorf("limits.toml says\n%+v, want\n%+v", got, want)
	}
}

// Every key of the gateway is in limits.toml, with its default and what it may be; the examples there are what the defaults are said to be.
func TestLimitsFileExplainsEveryKey(t *testing.T) {
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(data), "# The gateway (docs/gateway.md)")
	if !ok {
		t.Fatal("limits.toml has no part for the gateway")
	}
	type block struct {
		deflt, allowed, value string
		words, effects        int
	}
	all, table, b := map[string]block{}, "", block{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case regexp.MustCompile(`^#\[+[^\]]+\]+$`).MatchString(line):
			table = strings.NewReplacer("route.fallback", "route[].fallback[]", "tenant.dify", "tenant.<name>", "caller", "caller[]").Replace(strings.Trim(line, "#[]"))
			if table == "gateway.route" {
				table = "gateway.route[]"
			}
			b = block{}
		case regexp.MustCompile(`^#+[a-z0-9_]+ = `).MatchString(line):
			name, value, _ := strings.Cut(strings.TrimLeft(line, "#"), " = ")
			b.value = value
			all[table+"."+name] = b
			b = block{}
		case strings.HasPrefix(line, "# default  "):
			b.deflt = line[11:]
		case strings.HasPrefix(line, "# allowed  "):
			b.allowed = line[11:]
		case strings.HasPrefix(line, "# smaller  "), strings.HasPrefix(line, "# larger   "):
			b.effects++
		case strings.HasPrefix(line, "# "):
			b.words++
		case line == "":
			b = block{}
		}
	}
	for _, d := range strict.Describe(fileTable{}) {
		if d.Table || !strings.HasPrefix(d.Path, "gateway.") {
			continue
		}
		b, ok := all[d.Path]
		delete(all, d.Path)
		if !ok || b.words == 0 || b.deflt == "" || !strings.HasPrefix(b.allowed, d.Allowed) {
			t.Errorf("limits.toml says %+v of %s, which must be %s", b, d.Path, d.Allowed)
		}
		if d.Required != (b.deflt == "none, it must be written") {
			t.Errorf("limits.toml says that the default of %s is %s, and required is %v", d.Path, b.deflt, d.Required)
		}
		if tunable := strings.Contains(d.Allowed, "number") || strings.Contains(d.Allowed, "duration") || strings.Contains(d.Allowed, "integer"); tunable != (b.effects == 2) {
			t.Errorf("limits.toml has %d effects for %s", b.effects, d.Path)
		}
	}
	for path := range all {
		t.Errorf("limits.toml explains %s, which is no key", path)
	}
}

// The examples of limits.toml can be used, and where one is the default, it changes nothing.
func TestLimitsFileExamples(t *testing.T) {
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	src := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAllString(string(data), "$1")
	got, err := Parse("limits.toml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := Parse("limits.toml", nil)
	if !reflect.DeepEqual(got.Server, want.Server) || got.Listen != want.Listen || got.TenantHeader != want.TenantHeader || got.PriorityHeader != want.PriorityHeader || got.Log.Level != want.Log.Level {
		t.Errorf("the examples that are defaults say %+v, want %+v", got, want)
	}
	if c := want.Cache; got.Cache.MaxBytes != c.MaxBytes || got.Cache.MaxEntry != c.MaxEntry {
		t.Errorf("the cache is %+v, want %+v", got.Cache, c)
	}
	if len(got.Routes) != 1 || len(got.Routes[0].Fallback) != 1 || len(got.Callers) != 1 || len(got.Tenants) != 1 {
		t.Fatalf("the examples say %+v", got)
	}
	r, d := got.Routes[0], routeTable{}.route()
	if r.KeepAlive != d.KeepAlive || r.Stall != d.Stall || r.Longest != d.Longest || r.Cache != d.Cache || r.CacheTTL != d.CacheTTL || r.FallbackAfter != d.FallbackAfter || r.Wait != d.WaitFor("/x") {
		t.Errorf("the example of a route says %+v, want %+v", r, d)
	}
}

// A duration that may be 0 takes the shortest one there is, too, unless limits.toml says what it must be at least.
func TestLimitsFileSaysTheLeast(t *testing.T) {
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		t.Fatal(err)
	}
	src := regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAllString(string(data), "$1")
	keys := regexp.MustCompile(`(?m)^# allowed  a duration in quotes, 0s to (.*)\n(?:#.*\n)*([a-z_]+) = (.*)$`).FindAllStringSubmatchIndex(src, -1)
	if len(keys) < 4 {
		t.Fatalf("limits.toml has %d durations that may be 0", len(keys))
	}
	for _, k := range keys {
		least := strings.Contains(src[k[2]:k[3]], `; "0s", or at least "`)
		if _, err := Parse("limits.toml", []byte(src[:k[6]]+`"1us"`+src[k[7]:])); (err != nil) != least {
			t.Errorf("limits.toml allows %s to be 0s to %s: with 1us, %v", src[k[4]:k[5]], src[k[2]:k[3]], err)
		}
	}
}

// One file for each kind of mistake, with all that is wrong in it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.toml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(filepath.Base(file), data)
		if err == nil {
			t.Errorf("%s is accepted", file)
			continue
		}
		golden := strings.TrimSuffix(file, ".toml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, _ := os.ReadFile(golden)
		if got := err.Error() + "\n"; got != string(want) {
			t.Errorf("%s has\n%s\nwant (or run with -update)\n%s", file, got, want)
		}
	}
}

// Guards wait as long as their routes let callers wait, unless the file says otherwise.
func TestWaitsOfGuards(t *testing.T) {
	const up = "[upstream.a]\nbase_url='http://x/v1'\n"
	for _, c := range []struct {
		file  string
		wait  time.Duration
		queue int
	}{
		{up, 290 * time.Second, 10_000},
		{"[guard]\nmax_wait='7s'\nqueue=3\n" + up, 7 * time.Second, 3},
		{up + "max_wait='8s'\n", 8 * time.Second, 10_000},
		{up + "[[gateway.route]]\npath='/x'\nupstream='a'\nwait='20s'\n[[gateway.route]]\npath='/y'\nupstream='a'\nwait='30s'\n", 30 * time.Second, 10_000},
		{up + "[upstream.b]\nbase_url='http://x'\n[[gateway.route]]\npath='/x'\nupstream='b'\nfallback=[{upstream='a'}]\n", 290 * time.Second, 10_000},
	} {
		s, err := Parse("x.toml", []byte(c.file))
		if err != nil {
			t.Fatal(err)
		}
		if u := s.Limits.Upstreams["a"]; u.MaxWait != c.wait || u.Queue != c.queue {
			t.Errorf("%s gives max_wait %v and queue %d, want %v and %d", c.file, u.MaxWait, u.Queue, c.wait, c.queue)
		}
	}
	r := Route{}
	if a, b, c := r.WaitFor("/x/embeddings"), r.WaitFor("/v1/rerank"), r.WaitFor("/v1/chat/completions"); a >= 60*time.Second || b >= 60*time.Second || c >= 300*time.Second {
		t.Errorf("the waits %v, %v and %v are not under those of Dify: 60 s, 60 s and 300 s", a, b, c)
	}
}

func TestDefaultRoutes(t *testing.T) {
	const a, b = "[upstream.a]\nbase_url='http://x/v1'\n", "[upstream.b]\nbase_url='http://y'\n"
	for file, want := range map[string]string{"": "", a: "/a ", a + b: "/a /b", a + "[upstream.c]\nqueue=1\n": "/a "} {
		s, err := Parse("x.toml", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, r := range s.Routes {
			paths = append(paths, r.Path)
		}
		if got := strings.Join(paths, " "); got != want {
			t.Errorf("%q has the routes %q, want %q", file, got, want)
		}
	}
}

// Routes for models are beside those that upstreams have by their names, and take the place of none.
func TestRoutesForModels(t *testing.T) {
	const file = "[upstream.big]\nbase_url='http://x/v1'\n[upstream.mini]\nbase_url='http://x/v1'\n"
	route := func(path, models, upstream string) string {
		return fmt.Sprintf("[[gateway.route]]\npath='%s'\nupstream='%s'\n", path, upstream) + strings.TrimSuffix("models="+models+"\n", "models=\n")
	}
	for _, c := range []struct{ file, want, unrouted string }{
		{file + route("/big", "['m', 'm-*']", "mini"), "/mini/>mini /big/ for m, m-*>mini /big/>big />big", ""},
		{file + route("/", "['m']", "mini"), "/mini/>mini /big/>big / for m>mini />big", ""},
		{file + route("/big", "['a','b','c','d']", "mini") + route("/big", "['e']", "big"), "/mini/>mini /big/ for a, b, c, …>mini /big/ for e>big /big/>big", ""},
		{file + route("/big", "", "big") + route("/big", "['m']", "mini"), "/big/ for m>mini /big/>big", ""},
		{file + route("/big/v1", "['m']", "mini") + route("/big", "", "big"), "/big/v1/ for m>mini /big/>big", ""},
		{file + route("/bigger", "['m']", "mini") + route("/big", "", "big"), "/bigger/ for m>mini /big/>big", "gateway.route[0]"},
		{file + route("/x", "['m']", "mini") + route("/b", "['*']", "big") + route("/x", "['n']", "big"), "/mini/>mini /big/>big /b/ for *>big /x/ for m>mini /x/ for n>big", "gateway.route[1] gateway.route[0]"},
		{"[upstream.one]\nbase_url='http://x'\n" + route("/one", "['m']", "one"), "/one/ for m>one /one/>one />one", ""},
	} {
		s, err := Parse("x.toml", []byte(c.file))
		if err != nil {
			t.Fatal(err)
		}
		var got, unrouted []string
		for _, r := range s.Routes {
			got = append(got, r.Name()+">"+r.Upstream)
		}
		for _, u := range s.Unrouted() {
			unrouted = append(unrouted, u[0])
		}
		if strings.Join(got, " ") != c.want || strings.Join(unrouted, " ") != c.unrouted {
			t.Errorf("%s\nhas the routes %q, want %q, and no others at %q, want %q", c.file, got, c.want, unrouted, c.unrouted)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile(limitsFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add(regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAllString(string(data), "$1"))
	f.Add("[gateway]\nlisten='x'\n[[gateway.route]]\npath='//'")
	f.Add("[upstream.a]\nbase_url='http://x'\n[[gateway.route]]\npath='/a'\nmodels=['x', 'x*', '*']\nupstream='a'")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse("x.toml", []byte(text))
		if (s == nil) == (err == nil) {
			t.Errorf("%v and %v", s, err)
		}
	})
}

// What a file says of a tenant that no call can belong to is most likely a name that is misspelt.
func TestUnreachedTenants(t *testing.T) {
	sum := strings.Repeat("0", 63)
	caller := func(i int, more string) string {
		return fmt.Sprintf("[[gateway.caller]]\nname = 'caller-%d'\nsha256 = '%s%d'\n%s\n", i, sum, i, more)
	}
	const tenants = "[gateway.tenant.b]\nmax_in_flight = 1\n[gateway.tenant.caller-1]\npriority = 1\n[gateway.tenant.a]\npriority = 1\n"
	const weights = "[guard.room]\nweights = { 'Caller-1' = 2, batches = 0.5 }\n[upstream.x]\nbase_url = 'http://x/v1'\n[upstream.x.room]\nweights = { b = 2, c = 3 }\n"
	for _, c := range []struct {
		name, toml string
		want       []string
	}{
		{"no callers: their field says whose a call is", tenants, nil},
		{"a caller has its name's", caller(1, "") + tenants, []string{"gateway.tenant.a", "gateway.tenant.b"}},
		{"a caller has another one", caller(1, "tenant = 'b'") + tenants, []string{"gateway.tenant.a", "gateway.tenant.caller-1"}},
		{"all have one", caller(1, "") + caller(2, "tenant = 'b'") + caller(3, "tenant = 'a'") + tenants, nil},
		{"one may say any", caller(1, "") + caller(2, "any_tenant = true") + tenants, nil},
		{"no tenants", caller(1, ""), nil},
		{"weights", caller(1, "") + caller(2, "tenant = 'b'") + weights, []string{
			"guard.room.weights.Caller-1", "guard.room.weights.batches", "upstream.x.room.weights.c"}},
		{"weights, and the Batch API's", "[gateway.batches]\ndir = '/b'\n" + caller(1, "tenant = 'c'") + caller(2, "tenant = 'Caller-1'") + caller(3, "tenant = 'b'") + weights, nil},
		{"weights, and one who may say any", caller(1, "any_tenant = true") + weights, nil},
	} {
		s, err := Parse("limits.toml", []byte(c.toml))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := s.Unreached(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What is said of a route names the one of the file, whose paths are in any order.
func TestKeysOfRoutes(t *testing.T) {
	s, err := Parse("limits.toml", []byte("[upstream.a]\nbase_url='https://a.example/v1'\n[upstream.b]\nbase_url='https://b.example'\n"+
		"[[gateway.route]]\npath='/x'\nupstream='a'\nfallback=[{ upstream='b' }]\n[[gateway.route]]\npath='/longer'\nupstream='a'\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Unversioned(); len(got) != 1 || got[0][0] != "gateway.route[0].fallback[0]" {
		t.Errorf("%q, want gateway.route[0].fallback[0]", got)
	}
}

// A fallback without a version where the route's upstream has one gets paths that its API may not have.
func TestFallbackWithoutAVersion(t *testing.T) {
	const file = "[upstream.a]\nbase_url='https://a.example/v1'\n[upstream.b]\nbase_url='https://b.example/%s'\n" +
		"[[gateway.route]]\npath='/%s'\nupstream='%s'\nfallback=[{ upstream='%s' }]\n%s\n"
	for _, c := range []struct{ base, path, upstream, fallback, more, want string }{
		{"", "x", "a", "b", "", "gateway.route[0].fallback[0]: the base_url of a ends in /v1 and that of b has no version, so a call to /x/chat/completions would go to https://b.example/chat/completions there"},
		{"v1beta", "x", "a", "b", "", ""},
		{"v1beta/openai", "x", "a", "b", "", ""}, // Gemini's API in OpenAI's form has one, before its end
		{"", "x", "b", "a", "", ""},              // callers of b bring the version along, and it is not repeated
		{"", "x", "a", "b", "to='/openai'", ""},
	} {
		s, err := Parse("limits.toml", fmt.Appendf(nil, file, c.base, c.path, c.upstream, c.fallback, c.more))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, u := range s.Unversioned() {
			got += u[0] + ": " + u[1]
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
