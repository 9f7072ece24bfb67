// Package ui is the gateway's live page: what each guard does, and why. It shows, and changes nothing. The page is one file that
// loads nothing from elsewhere; what it shows comes once a second as server-sent events.
package ui

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

//go:embed page.html
var page []byte

// State is what the page shows besides guards, at one instant.
type State struct {
	Calls    int64    `json:"calls"` // those that wait included
	Draining bool     `json:"draining"`
	Pools    []Pool   `json:"pools"`
	Tenants  []Tenant `json:"tenants"`
	Cache    Cache    `json:"cache"`
}

// Pool is the keys of an upstream, by their fingerprints.
type Pool struct {
	Name string `json:"name"`
	Keys []Key  `json:"keys"`
}

// Key is one key.
type Key struct {
	Key      string  `json:"key"`
	State    string  `json:"state"`
	Limit    int     `json:"limit"`
	InFlight int     `json:"inFlight"`
	Served   uint64  `json:"served"`
	Faults   uint64  `json:"faults"`
	Probe    float64 `json:"probe"` // seconds until it is probed; 0 for a key in service
}

// Tenant is what became of a tenant's calls, since the gateway started.
type Tenant struct {
	Name    string  `json:"name"`
	Calls   uint64  `json:"calls"`   // that ended
	Refused uint64  `json:"refused"` // by the gateway
	Bytes   uint64  `json:"bytes"`
	WaitSum float64 `json:"waitSum"` // seconds
}

// Cache is what the cache counted.
type Cache struct {
	Hits      uint64 `json:"hits"`
	Misses    uint64 `json:"misses"`
	Coalesced uint64 `json:"coalesced"`
	Bytes     uint64 `json:"bytes"`
}

// Guard is a guard at one instant, or a pool of keys, which is where callers wait for any of them.
type Guard struct {
	Name     string   `json:"name"`
	Limit    int      `json:"limit"`
	Pace     float64  `json:"pace"` // calls a second; 0 is none
	InFlight int      `json:"inFlight"`
	Waiting  int      `json:"waiting"`
	OK       float64  `json:"ok"`      // calls a second that ended well
	Refused  float64  `json:"refused"` // calls a second that the upstream refused
	Failed   float64  `json:"failed"`  // calls a second that failed otherwise
	Paused   float64  `json:"paused"`  // seconds
	Why      string   `json:"why"`     // what binds, in words
	Waits    []string `json:"waits"`   // the first of those who wait
}

// event is what the page gets once a second.
type event struct {
	At     int64   `json:"at"` // milliseconds since 1970
	State  State   `json:"state"`
	Guards []Guard `json:"guards"`
	// Decisions are those since the event before.
	Decisions []decision `json:"decisions"`
	// History is what was before, in the first event only.
	History map[string]history `json:"history,omitempty"`
}

// decision is a change of what a guard allows.
type decision struct {
	At    int64  `json:"at"`
	Guard string `json:"guard"`
	Limit int    `json:"limit"`
	Cause string `json:"cause"`
	Cut   bool   `json:"cut"` // less is allowed than before
}

// history is a guard's past, a value for each second, the oldest first.
type history struct {
	At       []int64   `json:"at"`
	Limit    []int     `json:"limit"`
	InFlight []int     `json:"inFlight"`
	Waiting  []int     `json:"waiting"`
	OK       []float64 `json:"ok"`
	Refused  []float64 `json:"refused"`
	Failed   []float64 `json:"failed"`
}

const (
	past          = 600 // seconds that are kept
	keptDecisions = 500
	mostReaders   = 64
	mostWaits     = 5
)

// UI is the page and what it needs. Make it with New, and Run it.
type UI struct {
	state   func() State
	policy  string
	readers atomic.Int32

	mu        sync.Mutex
	guards    []*watched
	decisions []decision // the newest last
	decided   uint64     // how many there were
	last      *event
	changed   chan struct{} // closed when last is another one
	stopped   bool
}

// watched is a guard, or a pool of keys, with its past.
type watched struct {
	name   string
	guard  *limiter.Guard // nil for a pool
	pool   *limiter.Pool
	before limiter.Counts
	at     time.Time
	past   []sample
	stop   func() // ends what the guard tells
}

type sample struct {
	at                       int64
	limit, inFlight, waiting int
	ok, refused, failed      float64
}

// New returns a page that shows state.
func New(state func() State) *UI {
	return &UI{state: state, policy: policy(page), changed: make(chan struct{})}
}

// Watch adds a guard. A guard that was added before is not added again.
func (u *UI) Watch(g *limiter.Guard) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.guards {
		if w.guard == g {
			return
		}
	}
	s := g.Stats()
	last := limiter.Decision{}
	last.Limit = s.Limit
	stop := g.OnDecision(func(d limiter.Decision) { // one at a time
		// A pace moves with each breath of the law; what people look for is a limit that changed, or a new reason.
		before := last
		last = d
		if d.Limit == before.Limit && d.Cause == before.Cause {
			return
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.decided++
		u.decisions = append(u.decisions, decision{time.Now().UnixMilli(), g.Name(), d.Limit, d.Cause.String(), d.Limit < before.Limit || d.Pace > 0 && d.Pace < before.Pace})
		if over := len(u.decisions) - keptDecisions; over > 0 {
			u.decisions = append(u.decisions[:0], u.decisions[over:]...)
		}
	})
	u.guards = append(u.guards, &watched{name: g.Name(), guard: g, before: s.Counts, at: time.Now(), stop: stop})
}

// WatchPool adds a pool of keys, whose guards are added by Watch. A pool that was added before is not added again.
func (u *UI) WatchPool(p *limiter.Pool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range u.guards {
		if w.pool == p {
			return
		}
	}
	u.guards = append(u.guards, &watched{name: p.Name(), pool: p, before: outcomes(p), at: time.Now(), stop: func() {}})
}

// outcomes returns what the calls with the keys of p came to.
func outcomes(p *limiter.Pool) (sum limiter.Counts) {
	for _, g := range p.Guards() {
		c := g.Stats().Counts
		for i, n := range c.Outcomes {
			sum.Outcomes[i] += n
		}
	}
	return sum
}

// Unwatch drops guards and pools for which keep says false.
func (u *UI) Unwatch(keepGuard func(*limiter.Guard) bool, keepPool func(*limiter.Pool) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	kept := u.guards[:0]
	for _, w := range u.guards {
		if w.pool != nil && keepPool(w.pool) || w.guard != nil && keepGuard(w.guard) {
			kept = append(kept, w)
		} else {
			w.stop()
		}
	}
	clear(u.guards[len(kept):])
	u.guards = kept
}

// Run looks at the guards once a second until ctx ends, and ends the streams of those who read then.
func (u *UI) Run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.stopped = true
		close(u.changed)
	}()
	seen := uint64(0)
	for {
		seen = u.look(time.Now(), seen)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look takes a snapshot. It returns how many decisions there were.
func (u *UI) look(now time.Time, seen uint64) uint64 {
	state := u.state()
	u.mu.Lock()
	watching := append([]*watched(nil), u.guards...)
	u.mu.Unlock()
	e := &event{At: now.UnixMilli(), State: state, Guards: []Guard{}, Decisions: []decision{}}
	samples := make([]sample, len(watching))
	pooled := map[*limiter.Guard]bool{}
	for _, w := range watching {
		if w.pool != nil {
			for _, g := range w.pool.Guards() {
				pooled[g] = true
			}
		}
	}
	for i, w := range watching {
		var g Guard
		var counts limiter.Counts
		if w.pool != nil {
			g, counts = poolNow(w.pool)
		} else {
			g, counts = guardNow(w.guard, pooled[w.guard])
		}
		if d := now.Sub(w.at).Seconds(); d > 0 {
			for c := range counts.Outcomes {
				rate := float64(counts.Outcomes[c]-w.before.Outcomes[c]) / d
				switch feedback.Class(c) {
				case feedback.OK:
					g.OK = rate
				case feedback.Throttled, feedback.Overloaded, feedback.QuotaExhausted:
					g.Refused += rate
				case feedback.Timeout, feedback.ServerError:
					g.Failed += rate
				}
			}
		}
		w.before, w.at = counts, now
		e.Guards = append(e.Guards, g)
		samples[i] = sample{e.At, g.Limit, g.InFlight, g.Waiting, g.OK, g.Refused, g.Failed}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, w := range watching {
		w.past = append(w.past, samples[i])
		if over := len(w.past) - past; over > 0 {
			w.past = append(w.past[:0], w.past[over:]...)
		}
	}
	if n := min(u.decided-seen, uint64(len(u.decisions))); n > 0 {
		e.Decisions = append(e.Decisions, u.decisions[uint64(len(u.decisions))-n:]...)
	}
	u.last = e
	close(u.changed)
	u.changed = make(chan struct{})
	return u.decided
}

// guardNow returns what a guard is like, but for its rates, and what it counted. pooled says that it is one of a pool's, at which callers wait in its place.
func guardNow(guard *limiter.Guard, pooled bool) (Guard, limiter.Counts) {
	s, x := guard.Stats(), guard.Explain(mostWaits)
	g := Guard{Name: s.Name, Limit: s.Limit, Pace: s.Pace, InFlight: s.InFlight, Waiting: s.Waiting, Paused: s.Paused.Seconds(), Why: why(&x, pooled), Waits: []string{}}
	for _, wait := range x.Waits {
		g.Waits = append(g.Waits, wait.String())
	}
	return g, s.Counts
}

// poolNow returns what a pool of keys is like, but for its rates, and what its guards counted.
func poolNow(p *limiter.Pool) (Guard, limiter.Counts) {
	x := p.Explain(mostWaits)
	g := Guard{Name: p.Name(), Limit: x.Limit, InFlight: x.InFlight, Waiting: x.Waiting, Waits: []string{}}
	for _, wait := range x.Waits {
		g.Waits = append(g.Waits, wait.String())
	}
	for i, guard := range p.Guards() { // all keys are paused, or have a pace, or the pool does not
		s := guard.Stats()
		if paused := s.Paused.Seconds(); i == 0 || paused < g.Paused {
			g.Paused = paused
		}
		if i == 0 || g.Pace > 0 {
			g.Pace += s.Pace
		}
		if s.Pace == 0 {
			g.Pace = 0
		}
	}
	in := 0
	for i := range x.Keys {
		if x.Keys[i].Out == limiter.KeyFine {
			in++
		}
	}
	switch {
	case len(x.Waits) > 0:
		g.Why = fmt.Sprintf("%d wait for any key, the first for: %s", x.Waiting, x.Waits[0].Why)
	case x.InFlight >= x.Limit:
		g.Why = "full, and nobody waits"
	default:
		g.Why = "nobody waits"
	}
	g.Why += fmt.Sprintf("; %d of %d keys in service", in, len(x.Keys))
	return g, outcomes(p)
}

// why says what holds callers back, in words. At a guard of a pool nobody waits.
func why(x *limiter.Explanation, pooled bool) string {
	var parts []string
	if !x.PausedUntil.IsZero() {
		until := x.PausedUntil.UTC().Format("15:04:05") + " UTC"
		if x.Held {
			parts = append(parts, "held back by the law until "+until)
		} else {
			parts = append(parts, "paused until "+until+", as the upstream asked")
		}
	}
	switch {
	case len(x.Waits) > 0:
		parts = append(parts, fmt.Sprintf("%d wait for %s", x.Waiting, forWhat(x.Waits[0].Why)))
	case pooled && x.InFlight >= x.Limit:
		parts = append(parts, "full")
	case pooled:
	case x.InFlight >= x.Limit:
		parts = append(parts, "full, and nobody waits")
	default:
		parts = append(parts, "nobody waits")
	}
	switch x.Binding {
	case "none":
	case "unknown":
		parts = append(parts, "the upstream refuses and does not say which limit of its own binds")
	default:
		parts = append(parts, "the upstream's limit of "+strings.ReplaceAll(x.Binding, "_", " ")+" binds")
	}
	for _, b := range x.Budgets {
		if b.Limit > 0 {
			parts = append(parts, fmt.Sprintf("%d of %d %s left", b.Left, b.Limit, strings.ReplaceAll(b.Kind, "_", " ")))
		}
	}
	return strings.Join(append(parts, "last change: "+strings.ReplaceAll(x.Cause, "_", " ")), "; ")
}

// forWhat says what somebody waits for.
func forWhat(why string) string {
	switch why {
	case limiter.WhyLimit.String():
		return "a place: as many calls are in flight as may be"
	case limiter.WhyPause.String():
		return "the end of the pause"
	case limiter.WhyHold.String():
		return "the law, which holds starts back"
	case limiter.WhyResume.String():
		return "their turn after a pause, as starts are spread"
	case limiter.WhyPace.String():
		return "the pace of starts"
	case limiter.WhyTokenPace.String():
		return "the pace of tokens"
	case limiter.WhyReserved.String():
		return "a place that is not reserved for more urgent calls"
	case limiter.WhyFreed.String():
		return "the upstream, which goes on counting calls after their ends"
	}
	return "the budget of " + why
}

// Handler serves the page at "/ui" and its events below it.
func (u *UI) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ui", u.servePage)
	mux.HandleFunc("GET /ui/{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ui", http.StatusMovedPermanently) })
	mux.HandleFunc("GET /ui/events", u.serveEvents)
	return mux
}

func (u *UI) servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", u.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(page)
}

// policy allows the page its own script and style, by their hashes, and its events.
func policy(page []byte) string {
	hash := func(tag string) string {
		_, rest, _ := bytes.Cut(page, []byte("<"+tag+">"))
		text, _, _ := bytes.Cut(rest, []byte("</"+tag+">"))
		sum := sha256.Sum256(text)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; script-src " + hash("script") + "; style-src " + hash("style") +
		"; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// serveEvents sends a snapshot a second until the reader leaves.
func (u *UI) serveEvents(w http.ResponseWriter, r *http.Request) {
	if u.readers.Add(1) > mostReaders {
		u.readers.Add(-1)
		http.Error(w, "too many readers of this page", http.StatusServiceUnavailable)
		return
	}
	defer u.readers.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	first := true
	for {
		e, changed, stopped := u.next(first)
		if stopped {
			return
		}
		if e != nil {
			b, err := json.Marshal(e)
			if err != nil {
				return
			}
			_ = rc.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil || rc.Flush() != nil {
				return
			}
			first = false
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

// next returns the last snapshot, with the past when it is somebody's first, and what says that there is another.
func (u *UI) next(first bool) (*event, <-chan struct{}, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil || u.stopped {
		return nil, u.changed, u.stopped
	}
	if !first {
		return u.last, u.changed, false
	}
	e := *u.last
	e.Decisions = append([]decision{}, u.decisions...)
	e.History = map[string]history{}
	for _, w := range u.guards {
		var h history
		for _, s := range w.past {
			h.At, h.Limit, h.InFlight, h.Waiting = append(h.At, s.at), append(h.Limit, s.limit), append(h.InFlight, s.inFlight), append(h.Waiting, s.waiting)
			h.OK, h.Refused, h.Failed = append(h.OK, s.ok), append(h.Refused, s.refused), append(h.Failed, s.failed)
		}
		e.History[w.name] = h
	}
	return &e, u.changed, false
}
