package proxy

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// Of the routes that a call fits, the one with the longest path counts, then the one with the model's name, then the one with its longest
// beginning, then the one for all.
func TestRouteOfModel(t *testing.T) {
	const file = "[upstream.a]\nbase_url='http://a.example'\n%s"
	var routes strings.Builder
	for _, r := range []string{
		"/x mini,mini-*", "/x mini-2", "/x m*", "/x", "/x/y max", "/x/z only", "/x/z/v1 *", "/w one,two,three,four,five*,6,7,8,9,10,11", "/w/v one",
	} {
		path, models, _ := strings.Cut(r, " ")
		fmt.Fprintf(&routes, "[[gateway.route]]\npath='%s'\nupstream='a'\nto='/%s'\n", path, strings.NewReplacer(" ", ".", "/", ".", "*", "+").Replace(r))
		if models != "" {
			fmt.Fprintf(&routes, "models=['%s']\n", strings.ReplaceAll(models, ",", "','"))
		}
	}
	p, _ := proxyOf(t, fmt.Sprintf(file, routes.String()))
	for _, c := range []struct{ path, model, want string }{
		{"/x/chat", "mini", ".x.mini,mini-+"},
		{"/x", "mini-1", ".x.mini,mini-+"},
		{"/x/chat", "mini-2", ".x.mini-2"},
		{"/x/chat", "mini-2-x", ".x.mini,mini-+"},
		{"/x/chat", "max", ".x.m+"},
		{"/x/chat", "models/mini-2", ".x.mini-2"},
		{"/x/chat", "Mini", ".x"},
		{"/x/chat", "", ".x"},
		{"/x/y/chat", "max", ".x.y.max"},
		{"/x/y/chat", "mini-2", ".x.mini-2"}, // what the longer path has no route for, a shorter one may
		{"/x/y/chat", "", ".x"},
		{"/x/z/v1/chat", "only", ".x.z.v1.+"},
		{"/x/z/v1/chat", "", ".x"},
		{"/x/yy", "max", ".x.m+"},
		{"/w/chat", "one", ".w.one,two,three,four,five+,6,7,8,9,10,11"},
		{"/w/chat", "none", "at /w/ the gateway has no route for the model \"none\"; it has some for 10, 11, 6, 7, 8, 9, five*, four, one, three, …"},
		{"/w/chat", "", "at /w/ the gateway has routes for 10, 11, 6, 7, 8, 9, five*, four, one, three, … only, and no model can be read from this call"},
		{"/w/v/chat", "none", "at /w/v/ the gateway has no route for the model \"none\"; it has some for 10, 11, 6, 7, 8, 9, five*, four, one, three, …"},
		// Files and batches have no model, however they are written.
		{"/x/v1/files", "mini", ".x"},
		{"/x//v1/%66iles/f", "mini", ".x"},
		{"/x/batches", "mini", ".x"},
		{"/x/y/files", "max", ".x"},
		{"/x/filesystem", "mini", ".x.mini,mini-+"},
	} {
		f, _ := p.table.Load().match(c.path)
		got := ""
		if r := f.routeOf(c.path, c.model); r != nil {
			got = strings.TrimPrefix(r.To, "/")
		} else {
			got = f.unknown(c.model).Message
		}
		if got != c.want {
			t.Errorf("%s with %q goes to %q, want %q", c.path, c.model, got, c.want)
		}
	}
}

// Whatever the routes are, the one that counts is the one that comes of comparing all of them.
func TestRouteOfModelIsTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, have := "[upstream.a]\nbase_url='http://a.example'\n[[gateway.route]]\npath='/unused'\nupstream='a'\n", map[string]bool{}
		for range rapid.IntRange(0, 8).Draw(t, "routes") {
			path, model := rapid.SampledFrom([]string{"/", "/a", "/a/b", "/ab", "/a/b/c"}).Draw(t, "path"), rapid.SampledFrom([]string{"", "*", "a*", "ab*", "a", "ab", "abc"}).Draw(t, "model")
			if have[path+" "+model] {
				continue
			}
			have[path+" "+model] = true
			text += fmt.Sprintf("[[gateway.route]]\npath='%s'\nupstream='a'\n", path)
			if model != "" {
				text += fmt.Sprintf("models=['%s']\n", model)
			}
		}
		s, err := settings.Parse("limits.toml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var routes []*route
		for i := range s.Routes {
			routes = append(routes, &route{Route: &s.Routes[i]})
		}
		path, model := rapid.SampledFrom([]string{"/", "/a", "/a/b/x", "/ab", "/a/b/c/d", "/x"}).Draw(t, "called"), rapid.SampledFrom([]string{"", "a", "ab", "abc", "abd", "b"}).Draw(t, "of")
		var want *route
		rank := func(r *route) int { // 0 is none
			with := ""
			if len(r.Models) > 0 {
				with = r.Models[0]
			}
			begin, open := strings.CutSuffix(with, "*")
			switch {
			case with == "":
				return 1
			case model == "" || !open && model != with || !strings.HasPrefix(model, begin):
				return 0
			case open:
				return 2 + len(begin)
			}
			return 100
		}
		for _, r := range routes {
			fits := r.Path == "" || path == r.Path || strings.HasPrefix(path, r.Path+"/")
			if fits && rank(r) > 0 && (want == nil || len(r.Path) > len(want.Path) || len(r.Path) == len(want.Path) && rank(r) > rank(want)) {
				want = r
			}
		}
		f, _ := (&table{forks: forks(routes)}).match(path)
		var got *route
		if f != nil {
			got = f.routeOf(path, model)
		}
		if got != want {
			t.Fatalf("%s with %q goes to %+v, want %+v, of\n%s", path, model, got, want, text)
		}
	})
}
