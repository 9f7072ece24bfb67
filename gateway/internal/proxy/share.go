package proxy

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/cache"
	"github.com/flyball-go/flyball/gateway/internal/dialect"
	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// CacheHeader is the field by which callers say what they want of the cache, and are told what they got.
//
// In a request: "on" asks for the cache, "off" does without it, "refresh" has the answer kept, but does not take one that is there. In an
// answer: "hit", "miss", "coalesced" (the answer to somebody else who asked for the same just then), or "bypass".
const CacheHeader = "X-Flyball-Cache"

// plan is what the cache is to do for a call.
type plan struct {
	key    cache.Key
	read   bool          // take what is there
	keep   bool          // keep what comes
	maxAge time.Duration // the oldest that will do; negative is any
	only   bool          // nothing else than what is there
}

// largestKeyed is the largest body that is compared with others, in bytes: to read its JSON takes time, and its keys memory.
const largestKeyed = 2 << 20

// plan returns what the cache is to do; nil is nothing.
func (c *call) plan() *plan {
	if c.p.cfg.Cache == nil || c.r.Method != http.MethodPost || !c.facts.JSON {
		return nil
	}
	p := &plan{read: true, keep: true, maxAge: -1}
	asked := strings.ToLower(c.r.Header.Get(CacheHeader))
	switch {
	case c.route.Cache == settings.CacheOff, asked == "off", c.body.size > largestKeyed:
		if asked != "" {
			c.cached("bypass")
		}
		return nil
	case asked == "on", asked == "refresh":
	case c.route.Cache == settings.CacheAsked, !c.safe():
		return nil
	}
	p.read = asked != "refresh"
	if !p.directives(c.r.Header) {
		c.cached("bypass")
		return nil
	}
	scope := []string{c.route.Path, c.who.Tenant}
	h, keyed := make(http.Header, len(c.r.Header)), true
	copyHeader(h, c.r.Header)
	query, google := c.r.URL.RawQuery, true
	for i := range c.route.targets {
		to := &c.route.targets[i]
		keyed, google = keyed && to.keyed, google && to.google
		scope = append(scope, to.name, to.base.String(), to.model)
	}
	// These do not reach the upstream, and do not change its answer.
	for _, f := range c.who.Fields {
		delete(h, f)
	}
	if keyed {
		for _, f := range credentials {
			delete(h, f)
		}
	}
	if google {
		query = c.route.targets[0].ownQuery(query)
	}
	var err error
	p.key, err = cache.KeyOf(&cache.Request{Scope: scope, Method: c.r.Method, URL: c.route.To + c.rest + "?" + query, Body: c.body.bytes(), Header: h})
	if err != nil {
		return nil // it is no JSON, or not one that all read alike
	}
	return p
}

// onlyCached reports whether a caller wants nothing else than what the cache has.
func onlyCached(h http.Header) bool {
	for _, f := range h["Cache-Control"] {
		for d := range strings.SplitSeq(f, ",") {
			if strings.EqualFold(strings.TrimSpace(d), "only-if-cached") {
				return true
			}
		}
	}
	return false
}

// notCached is for who wants nothing else than what the cache has.
var notCached = &dialect.Error{Kind: dialect.TimedOut, Message: "the answer is not in the cache, and the request's Cache-Control is only-if-cached", Final: true}

// safe reports whether the same request would get the same answer: embeddings, ranks, and what is generated at the temperature 0, without
// anything that the upstream looks up or does for it, and not kept by it.
func (c *call) safe() bool {
	switch path := c.rest; {
	case strings.HasSuffix(path, "/embeddings"), strings.HasSuffix(path, "/rerank"):
		return true
	case strings.HasSuffix(path, "/completions"), strings.HasSuffix(path, "/messages"):
		return c.facts.Zero && !c.facts.Stored && !dialect.Live(c.body.bytes())
	}
	return false
}

// directives reads Cache-Control; it reports whether the cache may be used at all.
func (p *plan) directives(h http.Header) bool {
	for _, f := range h["Cache-Control"] {
		for d := range strings.SplitSeq(f, ",") {
			name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
			switch name {
			case "no-store":
				return false
			case "no-cache":
				p.read = false
			case "max-age":
				if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
					p.maxAge = time.Duration(n) * time.Second
				}
			case "only-if-cached":
				p.only = true
			}
		}
	}
	return true
}

// cached says what the cache did.
func (c *call) cached(what string) {
	c.rec.Cache = what
	c.out.note(CacheHeader, what)
}

// share answers the call from the cache, or together with all who ask for the same now.
func (c *call) share(p *plan) {
	ctx := c.r.Context()
	for {
		if p.read {
			if e := c.p.cfg.Cache.Get(ctx, p.key, p.maxAge); e != nil {
				c.cached("hit")
				c.out.note("Age", strconv.Itoa(int(time.Since(e.Stored).Seconds())))
				_ = c.out.answer(&http.Response{StatusCode: e.Status, Header: e.Header, Body: io.NopCloser(bytes.NewReader(e.Body)), ContentLength: int64(len(e.Body))})
				return
			}
		}
		if p.only {
			c.cached("miss")
			c.refuse(notCached)
			return
		}
		key := p.key
		if !p.read {
			key[0] ^= 0xff // who wants a fresh answer does not get one that was asked for by others
		}
		plain := c.out.promised()
		r, lead := c.p.cfg.Cache.Join(ctx, key, func(ctx context.Context, f *cache.Flight) {
			if plain {
				f.Plain().Store(true)
			}
			c.job.produce(ctx, f, c.p.cfg.Cache, p)
		})
		c.out.promise(r.Plain())
		what := "coalesced"
		if lead {
			what = "miss"
			c.lent = true // from here on
		} else {
			r.Raise(c.who.Priority)
		}
		if !c.follow(r, what, lead) {
			return
		}
	}
}

// sharedError is why a shared call got no answer, with what explains it.
type sharedError struct {
	err  error
	turn *turn
}

func (e *sharedError) Error() string { return e.err.Error() }
func (e *sharedError) Unwrap() error { return e.err }

// follow hands on an answer that is shared. It reports whether the call has to be made again: who started it had less time.
func (c *call) follow(r *cache.Reader, what string, lead bool) (again bool) {
	defer r.Close()
	head, err := r.Head()
	var shared *sharedError
	c.seen = lead && (err == nil || errors.As(err, &shared)) // the producer is done with the job but for its body
	if err != nil {
		t := (*turn)(nil)
		if errors.As(err, &shared) {
			t, err = shared.turn, shared.err
		}
		if !lead && (errors.Is(err, context.Canceled) || waits(err, t)) && time.Until(c.until) > time.Second && c.r.Context().Err() == nil {
			return true
		}
		if !lead {
			c.wait = time.Since(c.began) // in vain
		}
		c.failed(err, t)
		return false
	}
	c.cached(what)
	h := head.Header
	if !lead && len(h["Set-Cookie"]) > 0 {
		h = h.Clone()
		delete(h, "Set-Cookie") // it is for who started the call
	}
	resp := &http.Response{StatusCode: head.Status, Header: h, ContentLength: head.ContentLength, Trailer: make(http.Header, len(head.Trailer))}
	for _, k := range head.Trailer {
		resp.Trailer[k] = nil
	}
	resp.Body = &sharedBody{r, resp}
	c.answer(resp, head.Code)
	return false
}

// sharedBody is the body of an answer that is shared. Like a transport's, it has the trailer set when it is at its end.
type sharedBody struct {
	*cache.Reader
	resp *http.Response
}

// Read reads from the body.
func (b *sharedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.resp.Trailer = b.Trailer()
	}
	return n, err
}

// produce gets the answer for all who wait for it, and keeps it when it is whole and no error.
func (j *job) produce(ctx context.Context, f *cache.Flight, c *cache.Cache, p *plan) {
	defer j.body.Close()
	j.urgent, j.plain = &urgency{priority: j.who.Priority}, f.Plain()
	f.OnRaise(j.urgent.raise)
	resp, t, err := j.exchange(ctx)
	if err != nil {
		f.End(&sharedError{err, t})
		return
	}
	defer t.end()
	defer resp.Body.Close()
	if len(j.route.targets) > 1 {
		resp.Header.Set(UpstreamHeader, j.target.name) // those who share it, or have it from the cache, are told, too
	}
	f.Begin(&cache.Head{Status: resp.StatusCode, Header: resp.Header, ContentLength: resp.ContentLength, Trailer: slices.Collect(maps.Keys(resp.Trailer)), Code: t.insideCode()})
	size := 4 << 10
	if resp.ContentLength > 0 {
		size = int(min(resp.ContentLength, 64<<10))
	}
	keep := func(last []byte) *cache.Entry {
		body, ok := f.Whole(last)
		if !ok || !p.keep || !j.keepable(resp, body) {
			return nil
		}
		return &cache.Entry{Status: resp.StatusCode, Header: kept(resp.Header), Body: body, Stored: time.Now(), TTL: j.route.CacheTTL}
	}
	var entry *cache.Entry
	told, total := false, int64(0)
	buf := make([]byte, size)
	for {
		n, err := resp.Body.Read(buf)
		if total += int64(n); total == resp.ContentLength && !told {
			// With this the callers have all of it, before the end is known here: whoever asks after that does not get an answer
			// that nobody should have twice.
			told = true
			if entry = keep(buf[:n]); entry == nil {
				f.Seal()
			}
		}
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				f.End(err)
				return
			}
		}
		if err == io.EOF || err != nil && told {
			break
		}
		if err != nil {
			f.End(err)
			return
		}
	}
	if !told {
		entry = keep(nil)
	}
	if entry != nil {
		c.Set(context.WithoutCancel(ctx), p.key, entry)
	}
	f.Trailer(resp.Trailer)
	f.End(nil)
}

// mostUnpacked is how much is read of an answer that is packed, in bytes.
const mostUnpacked = 64 << 20

// keepable reports whether an answer that came to its end is a whole one without an error in it, and what would be answered again: a
// fallback's is not, once the upstream has a place.
func (j *job) keepable(resp *http.Response, body []byte) bool {
	if j.target != &j.route.targets[0] {
		return false
	}
	if resp.StatusCode != http.StatusOK || len(resp.Trailer) > 0 || strings.Contains(strings.ToLower(strings.Join(resp.Header["Cache-Control"], ",")), "no-store") {
		return false
	}
	h := resp.Header
	if cache.Varies(h) {
		return false
	}
	plain := io.Reader(bytes.NewReader(body))
	switch strings.ToLower(h.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(plain)
		if err != nil {
			return false
		}
		// It is looked at as it comes: a thousand times as much may be in it.
		plain = io.LimitReader(z, mostUnpacked)
		h = h.Clone()
		h.Del("Content-Encoding")
	default:
		return false // nobody here can tell whether there is an error in it
	}
	t := strings.ToLower(h.Get("Content-Type"))
	if !strings.Contains(t, "json") && !isStream(h) {
		// Without a length, the end of the connection may be that of the upstream.
		return resp.ContentLength >= 0 || resp.ProtoMajor > 1 || len(resp.TransferEncoding) > 0
	}
	w := feedback.NewWatcher(io.NopCloser(plain), feedback.WatchConfig{StreamConfig: feedback.StreamConfig{
		Status: resp.StatusCode, Header: h, Provider: j.target.provider, Rules: j.target.rules,
	}})
	var e ending
	if n, err := io.Copy(&e, w); err != nil || n == mostUnpacked {
		return false
	}
	r := w.Report()
	return r.Complete && !r.Refused && !e.failed
}

// brokenOff is what choices say that upstreams broke off: DeepSeek's, Zhipu's, Mistral's, Cohere's, vLLM's. Within a text the quotes would be
// escaped.
var brokenOff = regexp.MustCompile(`"finish_reason"\s*:\s*"(?i:error|timeout|abort|aborted|network_error|insufficient_system_resource)"`)

// ending looks at how the choices of an answer ended.
type ending struct {
	failed bool
	tail   []byte // of what was written
}

// Write looks at the next piece.
func (e *ending) Write(p []byte) (int, error) {
	const longest = 128 // what brokenOff finds has no more, but for spaces
	e.tail = append(e.tail, p...)
	e.failed = e.failed || brokenOff.Match(e.tail)
	e.tail = append(e.tail[:0], e.tail[max(0, len(e.tail)-longest):]...)
	return len(p), nil
}

// passing are the fields of an answer that are about one sending of it.
var passing = []string{"Date", "Set-Cookie", "Age", "Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Cf-Ray", "Server-Timing", "Alt-Svc", "Retry-After"}

// kept returns the header of an answer as it is kept: what the upstream said of its limits then is not so any more.
func kept(h http.Header) http.Header {
	k := h.Clone()
	for _, f := range passing {
		k.Del(f)
	}
	for f := range k {
		if l := strings.ToLower(f); strings.Contains(l, "ratelimit") || strings.Contains(l, "rate-limit") {
			delete(k, f)
		}
	}
	return k
}
