package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/gateway/internal/callers"
	"github.com/flyball-go/flyball/gateway/internal/dialect"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/internal/once"
	"github.com/flyball-go/flyball/limiter"
	"github.com/flyball-go/flyball/limiter/httplimit"
)

// sender is an http.RoundTripper that is a function.
type sender func(*http.Request) (*http.Response, error)

func (f sender) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// leaves is the body of an answer whose caller leaves when it is read.
type leaves struct {
	io.Reader
	leave  func()
	closed bool
}

func (b *leaves) Read(p []byte) (int, error) { b.leave(); return b.Reader.Read(p) }
func (b *leaves) Close() error               { b.closed = true; return nil }

// A caller that leaves while an answer is read that says that there is no quota gets an error, and not no answer without one.
func TestCallerLeavesBeforeFallback(t *testing.T) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	body := &leaves{Reader: strings.NewReader(`{"error":{"code":"insufficient_quota"}}`), leave: leave}
	to := func(f sender) target {
		return target{upstream: &upstream{base: &url.URL{Scheme: "http", Host: "h"}, sender: f, learned: &learned{}}}
	}
	poor := to(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 429, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, nil
	})
	other := to(func(*http.Request) (*http.Response, error) {
		t.Error("the fallback is asked for a caller who has left")
		return nil, errors.New("nobody asked")
	})
	j := &job{
		t: &table{}, r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
		route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{poor, other}}, began: time.Now(), until: time.Now().Add(time.Hour),
	}
	resp, turn, err := j.targets(ctx)
	turn.end()
	if resp != nil || !errors.Is(err, context.Canceled) || !body.closed {
		t.Errorf("targets returned %v, %v, and the body is closed: %v; want no answer, %v, true", resp, err, body.closed, context.Canceled)
	}
}

// A call that the upstream refuses has no place there, and waits for one no longer than the route says. It goes to the fallback then,
// whether the upstream asks for a pause or for one that nobody waits for, and waits at the first when the fallback refuses it, too.
func TestRefusedCallGoesToTheFallback(t *testing.T) {
	for _, c := range []struct {
		after         string // the first upstream's Retry-After
		second        int    // the fallback's status
		status, calls int    // of the answer, and how many the first upstream gets
		within        time.Duration
	}{
		{"1", 200, 200, 2, 2 * time.Second}, // a place comes in time
		{"20", 200, 202, 1, 6 * time.Second},
		{"7200", 200, 202, 1, time.Second},
		{"20", 429, 200, 2, 40 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			targets := []target{
				guarded(t, func(*http.Request) (*http.Response, error) {
					if calls++; calls > 1 {
						return answer(200, ""), nil
					}
					return answer(429, c.after), nil
				}),
				guarded(t, func(*http.Request) (*http.Response, error) {
					if c.second == 200 {
						return answer(202, ""), nil
					}
					return answer(c.second, "7200"), nil
				}),
			}
			began := time.Now()
			j := &job{
				t: &table{}, r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
				route: &route{Route: &settings.Route{Longest: time.Hour, FallbackAfter: 5 * time.Second}, targets: targets}, began: began, until: began.Add(4 * time.Minute),
			}
			resp, turn, err := j.targets(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer turn.end()
			defer resp.Body.Close()
			if took := time.Since(began); resp.StatusCode != c.status || calls != c.calls || took > c.within {
				t.Errorf("Retry-After %s, and then %d: status %d after %v, and %d calls to the first; want %d within %v, and %d", c.after, c.second, resp.StatusCode, took, calls, c.status, c.within, c.calls)
			}
		})
	}
}

// When no other upstream has a place to offer later, a call waits at the last one for as long as its route lets it.
func TestLastUpstreamIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		away := guarded(t, func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
		})
		busy := guarded(t, func(*http.Request) (*http.Response, error) {
			if calls++; calls > 1 {
				return answer(200, ""), nil
			}
			return answer(429, "20"), nil
		})
		j := &job{
			t: &table{}, r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
			route: &route{Route: &settings.Route{Longest: time.Hour, FallbackAfter: 5 * time.Second}, targets: []target{away, busy}}, began: time.Now(), until: time.Now().Add(4 * time.Minute),
		}
		resp, turn, err := j.targets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer turn.end()
		defer resp.Body.Close()
		if resp.StatusCode != 200 || calls != 2 {
			t.Errorf("the last upstream asks for 20 s: status %d after %d calls, want 200 after 2", resp.StatusCode, calls)
		}
	})
}

// closes is the body of an answer that is closed by a function.
type closes struct {
	io.Reader
	close func() error
}

func (c closes) Close() error { return c.close() }

// A mistake that ends a call by a panic, before its answer or when that is closed, does not keep the tenant's place: with one place,
// the tenant would have none until the gateway is started again.
func TestPanicGivesTheTenantsPlaceBack(t *testing.T) {
	p, _ := proxyOf(t, two(1)+"[gateway.tenant.t]\nmax_in_flight=1\n")
	guard := p.table.Load().book.Guard("t")
	for name, f := range map[string]sender{
		"no answer": func(*http.Request) (*http.Response, error) { panic("a mistake") },
		"its end": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: closes{strings.NewReader(""), func() error { panic("a mistake") }}}, nil
		},
	} {
		j := &job{
			t: p.table.Load(), r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
			route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{{upstream: &upstream{base: &url.URL{Scheme: "http", Host: "h"}, sender: f, learned: &learned{}}}}},
			who:   callers.Who{Tenant: "t"}, began: time.Now(), until: time.Now().Add(time.Hour),
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: nothing panics", name)
				}
			}()
			resp, turn, err := j.exchange(t.Context())
			if err == nil {
				defer turn.end()
				_ = resp.Body.Close()
			}
		}()
		if n := guard.Stats().InFlight; n != 0 {
			t.Fatalf("%s: the tenant has %d calls in flight after a panic, want 0", name, n)
		}
	}
}

// A call that no upstream got is none of those that its tenant may make a minute.
func TestCallThatWasNotSentDoesNotCount(t *testing.T) {
	p, _ := proxyOf(t, two(1)+"[gateway.tenant.t]\ncalls_per_minute=1\n")
	closed, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	sent := 0
	for _, to := range []http.RoundTripper{
		httplimit.New(&wire{}, closed, httplimit.Config{}),
		httplimit.New(&wire{}, closed, httplimit.Config{}),
		sender(func(req *http.Request) (*http.Response, error) {
			sent++
			return answer(200, ""), turnOf(req.Context()).sending()
		}),
	} {
		j := &job{
			t: p.table.Load(), r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
			route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{{upstream: &upstream{base: &url.URL{Scheme: "http", Host: "h"}, sender: to, learned: &learned{}}}}},
			who:   callers.Who{Tenant: "t"}, began: time.Now(), until: time.Now().Add(10 * time.Second),
		}
		resp, turn, err := j.exchange(t.Context())
		if err == nil {
			_ = resp.Body.Close()
		} else if !errors.Is(err, limiter.ErrClosed) {
			t.Errorf("a call of the tenant: %v", err)
		}
		turn.end()
	}
	if sent != 1 {
		t.Errorf("%d calls were sent, want 1", sent)
	}
	if left := p.table.Load().book.Guard("t").Explain(1).Budgets[0].Left; left != 0 {
		t.Errorf("the tenant has %d calls left, want 0", left)
	}
}

// How long a call waited does not depend on the wall clock, which may be set meanwhile: a sum of such waits is a counter, and must not fall.
func TestWaitIsNoDifferenceOfWallClocks(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		began := time.Now()
		before := began
		*(*uint64)(unsafe.Pointer(&began)) -= uint64(by/time.Second) << 30 // the seconds on the wall clock
		if began.Sub(before) != 0 || before.Round(0).Sub(began.Round(0)) != by {
			t.Fatal("a time.Time is not what this test takes it for")
		}
		j := &job{
			t: &table{}, r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
			route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{guarded(t, func(*http.Request) (*http.Response, error) { return answer(200, ""), nil })}},
			began: began, until: before.Add(time.Minute),
		}
		resp, turn, err := j.targets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		turn.end()
		if j.wait < 0 || j.wait > time.Minute {
			t.Errorf("the clock is set by %v: the call waited %v, want less than a minute", by, j.wait)
		}
	}
}

// guarded returns a target behind a guard that is answered by f.
func guarded(t *testing.T, f sender) target {
	t.Helper()
	return guardedBy(t, limiter.Config{MaxWait: 5 * time.Minute}, f)
}

// onePlace returns a target that takes one call at a time.
func onePlace(t *testing.T, f sender) target {
	t.Helper()
	return places(t, 1, f)
}

// places returns a target that takes n calls at a time.
func places(t *testing.T, n int, f sender) target {
	t.Helper()
	return guardedBy(t, limiter.Config{Law: adaptive.NewFixed(n), MaxWait: time.Hour}, f)
}

func guardedBy(t *testing.T, cfg limiter.Config, f sender) target {
	t.Helper()
	guard, err := limiter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	base := &http.Transport{}
	base.RegisterProtocol("test", f)
	return target{upstream: &upstream{base: &url.URL{Scheme: "test", Host: "h"}, learned: &learned{}, guards: []*limiter.Guard{guard}, sender: httplimit.New(&wire{base: &once.Transport{Transport: base}}, guard, httplimit.Config{})}}
}

// answer returns an answer without a body.
func answer(status int, retryAfter string) *http.Response {
	h := http.Header{}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody}
}

// An upstream that does not let anybody connect cannot be reached: its caller may try again, and is not told that an answer took too long.
func TestConnectionThatTimesOut(t *testing.T) {
	_, err := (&net.Dialer{Timeout: time.Nanosecond}).DialContext(t.Context(), "tcp", "192.0.2.1:80")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the time-out of a dialer is %v", err)
	}
	sent := newTurn(t.Context(), time.Now().Add(time.Hour), 0)
	defer sent.end()
	if err := sent.sending(); err != nil {
		t.Fatal(err)
	}
	c := &call{job: &job{r: &http.Request{}, route: &route{Route: &settings.Route{}}}, rec: Record{Began: time.Now()}}
	if e := c.explain(err, sent); e.Kind != dialect.BadGateway || e.Final || !strings.Contains(e.Message, "cannot be reached") {
		t.Errorf("a connection that timed out is explained as %+v", e)
	}
}

// A place that comes when the time for it is over, as after the process stood still, is none: nothing is sent, and the call has waited in vain.
func TestPlaceThatComesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := newTurn(t.Context(), time.Now().Add(time.Minute), 0)
		defer late.end()
		late.bound(5 * time.Second)
		time.Sleep(8 * time.Second)
		err := late.sending()
		if !errors.Is(err, context.DeadlineExceeded) || !waits(err, late) || late.sent.Load() != 0 {
			t.Errorf("the call may be sent: %v, after %d requests; want %v before the first", err, late.sent.Load(), context.DeadlineExceeded)
		}
		sent := newTurn(t.Context(), time.Now().Add(time.Minute), 0)
		defer sent.end()
		sent.bound(5 * time.Second)
		if err := sent.sending(); err != nil {
			t.Fatal(err)
		}
		if sent.expire(); sent.Err() != nil { // the timer of the time for a place, late
			t.Errorf("a call that was sent, and has a minute for its answer, is ended: %v", sent.Err())
		}
	})
}

// What a caller took to send the body is no wait for its tenant's limits.
func TestSlowBodyIsNoWaitForTheTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := proxyOf(t, two(1)+"[gateway.tenant.t]\nmax_in_flight=1\n")
		waited := func() time.Duration {
			j := &job{
				t: p.table.Load(), r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
				route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{guarded(t, func(*http.Request) (*http.Response, error) {
					time.Sleep(2 * time.Second)
					return answer(200, ""), nil
				})}},
				who: callers.Who{Tenant: "t"}, began: time.Now().Add(-10 * time.Second), until: time.Now().Add(time.Minute), // when the body is there
			}
			resp, turn, err := j.exchange(t.Context())
			if err != nil {
				t.Error(err)
				return -1
			}
			_ = resp.Body.Close()
			turn.end()
			return j.own
		}
		first := make(chan time.Duration)
		go func() { first <- waited() }()
		synctest.Wait()
		if d := waited(); d != 2*time.Second {
			t.Errorf("behind a call of 2 s, %v were a wait for the tenant's limits", d)
		}
		if d := <-first; d != 0 {
			t.Errorf("of a call with a slow body, %v were a wait for the tenant's limits", d)
		}
	})
}

// When calls are cut off at the end, those that wait are not sent in the places of the others: they would be paid for, and told that they may have been done.
func TestCallThatWaitsAtTheEndIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		to := onePlace(t, func(r *http.Request) (*http.Response, error) {
			sent++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		p, _ := proxyOf(t, two(1))
		var all sync.WaitGroup
		call := func() (cut context.CancelCauseFunc) {
			ctx, cut := context.WithCancelCause(t.Context())
			all.Go(func() {
				c := &call{job: &job{
					t: p.table.Load(), r: (&http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/chat/completions"}}).WithContext(ctx), plain: new(atomic.Bool),
					route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{to}}, began: time.Now(), until: time.Now().Add(time.Minute),
				}}
				_, turn, err := c.exchange(ctx)
				if e := c.explain(err, turn); turn.sent.Load() == 0 && e.Kind != dialect.Unavailable {
					t.Errorf("a call that was not sent is told %+v of %v", e, err)
				}
				turn.end()
			})
			synctest.Wait()
			return cut
		}
		first, second := call(), call()
		p.End()
		first(ErrEnds)
		synctest.Wait()
		second(ErrEnds) // a moment later
		all.Wait()
		if sent != 1 {
			t.Errorf("%d calls were sent, want the first", sent)
		}
	})
}
