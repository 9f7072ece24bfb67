package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/flyball-go/flyball/gateway/internal/dialect"
	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// route is a settings.Route with its upstreams.
type route struct {
	*settings.Route
	targets []target // the route's, and its fallbacks
}

// fork is where the routes of one path part, by the model of a call.
type fork struct {
	path   string
	named  map[string]*route // by the model's name
	begins []beginning       // by falling length
	other  *route            // for all other calls; nil for none
	// next is where those go that none of these is for: the longest path that this one begins with. It is nil when there is none, or other is there.
	next *fork
}

// beginning is how the names of a route's models begin.
type beginning struct {
	with string
	*route
}

// forks returns where routes part, which are sorted by falling length of their paths, those of one path together.
func forks(routes []*route) (all []*fork) {
	for _, r := range routes {
		if len(all) == 0 || all[len(all)-1].path != r.Path {
			all = append(all, &fork{path: r.Path, named: map[string]*route{}})
		}
		f := all[len(all)-1]
		if len(r.Models) == 0 {
			f.other = r
		}
		for _, m := range r.Models {
			if with, ok := strings.CutSuffix(m, "*"); ok {
				f.begins = append(f.begins, beginning{with, r})
			} else {
				f.named[m] = r
			}
		}
	}
	for i, f := range all {
		slices.SortFunc(f.begins, func(a, b beginning) int { return cmp.Compare(len(b.with), len(a.with)) })
		if shorter := slices.IndexFunc(all[i+1:], func(s *fork) bool { return settings.Below(f.path, s.path) }); shorter >= 0 && f.other == nil {
			f.next = all[i+1+shorter]
		}
	}
	return all
}

// parts reports whether the model of a call counts.
func (f *fork) parts() bool { return len(f.named)+len(f.begins) > 0 }

// route returns the route of a model, which is empty for a call without one; nil for none.
func (f *fork) route(model string) *route {
	model = strings.TrimPrefix(model, "models/") // Gemini's API takes names with it and without
	for ; f != nil; f = f.next {
		if model != "" {
			if r := f.named[model]; r != nil {
				return r
			}
			for _, b := range f.begins {
				if strings.HasPrefix(model, b.with) {
					return b.route
				}
			}
		}
		if f.other != nil {
			return f.other
		}
	}
	return nil
}

// routeOf is route for a path of the fork: who makes a batch or asks for it names no model, and must find the file that was uploaded.
func (f *fork) routeOf(escaped, model string) *route {
	r := f.route(model)
	if r != nil && len(r.Models) > 0 && BatchPath(escaped[len(r.Path):]) != "" {
		return f.route("")
	}
	return r
}

// unknown is for a call that no route is for, with the model that it names; empty for none.
func (f *fork) unknown(model string) *dialect.Error {
	var all []string
	for s := f; s != nil; s = s.next {
		all = slices.AppendSeq(all, maps.Keys(s.named))
		for _, b := range s.begins {
			all = append(all, b.with+"*")
		}
	}
	slices.Sort(all)
	all = slices.Compact(all) // several paths may have routes for one
	e := &dialect.Error{Kind: dialect.NotFound, Message: fmt.Sprintf("at %s/ the gateway has no route for the model %q; it has some for %s", f.path, model, few(all)), Final: true}
	if model == "" {
		e.Message = fmt.Sprintf("at %s/ the gateway has routes for %s only, and no model can be read from this call", f.path, few(all))
	}
	return e
}

// few lists words, not all when there are many.
func few(words []string) string {
	if len(words) > 10 {
		words = append(words[:10:10], "…")
	}
	return strings.Join(words, ", ")
}

// match returns where the routes of a path part, and what is left of the path.
func (t *table) match(escaped string) (*fork, string) {
	for _, f := range t.forks {
		if settings.Below(escaped, f.path) {
			return f, escaped[len(f.path):]
		}
	}
	return nil, ""
}

// paths names the routes, for somebody who has the wrong one.
func (t *table) paths() string {
	var names []string
	for _, f := range t.forks {
		names = append(names, f.path+"/")
	}
	return few(names)
}

// withoutModel returns the route of a path for calls without a model, and what is left of the path; nil for none.
func (t *table) withoutModel(escaped string) (*route, string) {
	f, _ := t.match(escaped)
	if f == nil {
		return nil, ""
	}
	r := f.route("")
	if r == nil {
		return nil, ""
	}
	return r, escaped[len(r.Path):]
}

// Match returns the upstream that calls of a path without a model go to, and what is left of the path; empty when no route leads anywhere.
func (p *Proxy) Match(escaped string) (upstream, rest string) {
	r, rest := p.table.Load().withoutModel(escaped)
	if r == nil {
		return "", ""
	}
	return r.Upstream, rest
}

// BatchPath returns what is left of a path as OpenAI's Batch API writes it, /v1/files or /v1/batches and what follows; empty when it is another one.
func BatchPath(rest string) string {
	// However it is written: the upstream may take "//" and "%66" for what they mean, and its own files are not for callers.
	if plain, err := url.PathUnescape(rest); err == nil {
		rest = path.Clean("/" + plain)
	}
	rest = strings.TrimPrefix(rest, "/v1")
	for _, name := range [...]string{"/files", "/batches"} {
		if after, ok := strings.CutPrefix(rest, name); ok && (after == "" || after[0] == '/') {
			return "/v1" + rest
		}
	}
	return ""
}
