package ui

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/internal/browsertest"
	"github.com/flyball-go/flyball/limiter"
)

const hostile = `<script>document.title="owned"</script><img src=x onerror=alert(1)>`

// shown runs a page that has something of everything on it, with names that try to be markup.
func shown(t *testing.T) (*httptest.Server, *limiter.Guard) {
	t.Helper()
	g, err := limiter.New(limiter.Config{Name: "openai " + hostile, Adaptive: adaptive.Config{Initial: 2, Max: 4}, Seed: 1, PauseJitter: -1})
	if err != nil {
		t.Fatal(err)
	}
	u := New(func() State {
		return State{
			Calls: 7, Tenants: []Tenant{{Name: hostile, Calls: 10, Bytes: 5000, WaitSum: 1}, {Calls: 3}},
			Pools: []Pool{{Name: "openai", Keys: []Key{{Key: "key:1a2b3c4d", State: "in service", Limit: 4}, {Key: "key:00000000", State: "out: exhausted", Probe: 90}}}},
			Cache: Cache{Hits: 3, Misses: 4, Coalesced: 1, Bytes: 4096},
		}
	})
	u.Watch(g)
	u.Watch(g) // once is enough
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan bool)
	go func() { defer close(ended); u.Run(ctx) }()
	s := httptest.NewServer(u.Handler())
	t.Cleanup(func() { cancel(); <-ended; s.Close() })
	return s, g
}

// ending has the stream of events end after some, and not begin again: a browser's virtual time stands still while something is coming.
func ending(h http.Handler, after int) http.Handler {
	var streams atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ui/events" {
			if streams.Add(1) > 1 {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			w, r = &counting{ResponseWriter: w, left: after, end: cancel}, r.WithContext(ctx)
		}
		h.ServeHTTP(w, r)
	})
}

// counting is a writer that ends its request after some events.
type counting struct {
	http.ResponseWriter
	left int
	end  func()
}

func (c *counting) Write(p []byte) (int, error) {
	if c.left--; c.left == 0 {
		defer c.end()
	}
	return c.ResponseWriter.Write(p)
}

func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// refuse has the guard see a success and a refusal, with somebody waiting.
func refuse(t *testing.T, g *limiter.Guard) {
	t.Helper()
	for _, o := range []limiter.Outcome{{}, {Class: feedback.Throttled, Scope: feedback.ScopeConcurrency}} {
		p, err := g.Acquire(t.Context(), limiter.Request{})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(o)
	}
}

func TestEvents(t *testing.T) {
	s, g := shown(t)
	refuse(t, g)
	resp, err := http.Get(s.URL + "/ui/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := bufio.NewScanner(resp.Body)
	r.Buffer(nil, 1<<20)
	var events []event
	for len(events) < 2 && r.Scan() {
		if data, ok := strings.CutPrefix(r.Text(), "data: "); ok {
			var e event
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
	}
	if len(events) < 2 {
		t.Fatalf("%d events: %v", len(events), r.Err())
	}
	first, second := events[0], events[1]
	if h := first.History[g.Name()]; len(h.At) == 0 || len(h.Limit) != len(h.At) || len(h.Failed) != len(h.At) || len(first.Guards) != 1 || second.History != nil {
		t.Errorf("the first event is %+v, the second has %d pasts", first, len(second.History))
	}
	if len(first.Decisions)+len(second.Decisions) == 0 {
		t.Error("no decision is told")
	}
	if w := second.Guards[0].Why; !strings.Contains(w, "limit of concurrency binds") {
		t.Errorf("why: %s", w)
	}
}

// A guard that was not watched for a while has its decisions told once, and none of those in between.
func TestWatchedAgain(t *testing.T) {
	g, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(1)})
	if err != nil {
		t.Fatal(err)
	}
	u := New(func() State { return State{} })
	limit := func(n int) {
		t.Helper()
		if err := g.Reload(limiter.Config{Law: adaptive.NewFixed(n)}); err != nil {
			t.Fatal(err)
		}
	}
	u.Watch(g)
	limit(2)
	u.Unwatch(func(*limiter.Guard) bool { return false }, nil)
	limit(3)
	u.Watch(g)
	limit(4)
	u.look(time.Now(), 0)
	var told []int
	for _, d := range u.last.Decisions {
		told = append(told, d.Limit)
	}
	if want := []int{2, 4}; !slices.Equal(told, want) {
		t.Errorf("the page tells of the limits %v, want %v", told, want)
	}
}

// Callers wait for any key of a pool, and not at the guard of one: the page shows how many and for what, and says of no guard that nobody waits.
func TestPoolIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := limiter.NewPool(limiter.PoolConfig{
			Guard:  limiter.Config{Name: "openai"},
			NewLaw: func() adaptive.Law { return adaptive.NewFixed(1) },
			Keys:   []limiter.Secret{limiter.NewSecret("one"), limiter.NewSecret("two")},
		})
		if err != nil {
			t.Fatal(err)
		}
		u := New(func() State { return State{} })
		u.WatchPool(p)
		u.WatchPool(p) // once is enough
		for _, g := range p.Guards() {
			u.Watch(g)
		}
		acquire := func() limiter.KeyPermit {
			permit, err := p.Acquire(t.Context(), limiter.Request{})
			if err != nil {
				t.Error(err)
			}
			return permit
		}
		first, second := acquire(), acquire()
		done := make(chan bool)
		go func() {
			defer close(done)
			third := acquire()
			third.Release(limiter.Outcome{}, limiter.KeyFine)
		}()
		synctest.Wait()
		time.Sleep(time.Second)
		u.look(time.Now(), 0)
		all := u.last.Guards
		if len(all) != 3 || all[0].Name != "openai" || all[0].Limit != 2 || all[0].InFlight != 2 || all[0].Waiting != 1 || len(all[0].Waits) != 1 || all[0].Why != "1 wait for any key, the first for: limit; 2 of 2 keys in service" {
			t.Fatalf("a pool of two keys with a call each, for which one waits, is shown as %+v", all)
		}
		for _, g := range all[1:] {
			if !strings.HasPrefix(g.Why, "full; ") {
				t.Errorf("the guard %s, which is full, and at which nobody can wait: %s", g.Name, g.Why)
			}
		}
		if e, _, _ := u.next(true); len(e.History["openai"].Waiting) != 1 || e.History["openai"].Waiting[0] != 1 {
			t.Errorf("the pool's past is %+v", e.History["openai"])
		}
		first.Release(limiter.Outcome{}, limiter.KeyFine)
		<-done
		time.Sleep(time.Second)
		u.look(time.Now(), 0)
		if pool := u.last.Guards[0]; pool.OK != 2 || pool.Waiting != 0 || !strings.HasPrefix(pool.Why, "nobody waits; ") {
			t.Errorf("a second in which two calls ended well is shown as %+v", pool)
		}
		second.Release(limiter.Outcome{}, limiter.KeyFine)
		u.Unwatch(func(*limiter.Guard) bool { return false }, func(*limiter.Pool) bool { return false })
		if u.look(time.Now(), 0); len(u.last.Guards) != 0 {
			t.Errorf("after all are gone: %+v", u.last.Guards)
		}
	})
}

func TestPageIsStrict(t *testing.T) {
	s, _ := shown(t)
	resp, err := http.Get(s.URL + "/ui")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(p, want) {
			t.Errorf("the policy is %q, which lacks %q", p, want)
		}
	}
	if strings.Contains(p, "unsafe") || strings.Count(string(page), "<script") != 1 || strings.Count(string(page), "<style") != 1 || strings.Contains(string(page), "http://") && strings.Count(string(page), "http://") != 1 {
		t.Error("the page has more than one script or style, or loads something from elsewhere")
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		req, _ := http.NewRequest(method, s.URL+"/ui", nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
}

// The page draws what comes, in a browser that can reach nothing else, and what is in names stays text.
func TestBrowserDrawsThePage(t *testing.T) {
	path := browsertest.Find(t)
	s, g := shown(t)
	refuse(t, g)
	cut := httptest.NewServer(ending(s.Config.Handler, 3))
	defer cut.Close()
	page, console := browsertest.Open(t, path, cut.URL+"/ui", 8*time.Second)
	if len(console) > 0 {
		t.Errorf("the console says: %q", console)
	}
	dom, _, _ := strings.Cut(page, "<script>")
	for _, want := range []string{
		`data-drawn="`, `class="s limit"`, `class="s fail"`, "failed / s", `class="area"`, "key:1a2b3c4d", "out: exhausted", "cache: 3 of 7 found",
		`&lt;script&gt;document.title="owned"&lt;/script&gt;`, "limit of concurrency binds",
	} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(dom, "NaN") || strings.Contains(dom, "undefined") || strings.Contains(dom, "<title>owned") {
		t.Errorf("the page has something that should not be there: %.2000s", dom)
	}
}
