package proxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/callers"
	"github.com/flyball-go/flyball/gateway/internal/settings"
	"github.com/flyball-go/flyball/limiter"
)

// While more work comes than an upstream takes, or a tenant may have in flight, callers get their places when most of their time is over. Those that get one have time
// for their answer: the upstream is kept busy, and hardly ever in vain.
func TestOverloadGetsAnswers(t *testing.T) {
	for name, toml := range map[string]string{"upstream": "", "tenant": "[gateway.tenant.t]\nmax_in_flight=1\n"} {
		synctest.Test(t, func(t *testing.T) {
			var answered, inVain int // in the last 50 of the 60 s
			began := time.Now()
			p, _ := proxyOf(t, two(1)+toml)
			to := onePlace(t, func(r *http.Request) (*http.Response, error) {
				turnOf(r.Context()).reached.Store(true)
				late := time.Since(began) > 10*time.Second
				answers := time.NewTimer(time.Second)
				defer answers.Stop()
				select {
				case <-answers.C:
					if late {
						answered++
					}
					return answer(200, ""), nil
				case <-r.Context().Done():
					if late {
						inVain++
					}
					return nil, r.Context().Err()
				}
			})
			var all sync.WaitGroup
			for range 150 {
				all.Go(func() {
					j := &job{
						t: p.table.Load(), r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/embeddings"}}, plain: new(atomic.Bool),
						route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{to}}, who: callers.Who{Tenant: "t"},
						began: time.Now(), until: time.Now().Add(8 * time.Second),
					}
					resp, turn, err := j.exchange(context.Background())
					if err == nil {
						_ = resp.Body.Close()
					}
					turn.end()
				})
				time.Sleep(400 * time.Millisecond)
			}
			all.Wait()
			if answered < 45 || inVain > 5 {
				t.Errorf("%s: in 50 s the upstream, which answers one call a second, answered %d, and worked for %d that had no time left; want at least 45, and at most 5", name, answered, inVain)
			}
		})
	}
}

// A call that comes late, from a target that was full or after a slow body, does not wait for a place any more, but takes one that is there: with half of what is kept
// it may well have its answer, and with less it would be paid for in vain.
func TestLateCallTakesAPlaceThatIsThere(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration // that the call may wait for a place at the first target
		full  bool          // the second has none, either
		want  int
	}{"there is one": {12 * time.Second, false, 200}, "there is none": {12 * time.Second, true, 0}, "too late": {17 * time.Second, false, 0}} {
		synctest.Test(t, func(t *testing.T) {
			var sent, ends int
			take := func(r *http.Request) (*http.Response, error) {
				turnOf(r.Context()).reached.Store(true)
				sent++
				select {
				case <-time.After(4 * time.Second):
					return answer(200, ""), nil
				case <-r.Context().Done():
					ends++
					return nil, r.Context().Err()
				}
			}
			first, second := onePlace(t, take), onePlace(t, take)
			for _, full := range []*limiter.Guard{first.guards[0], second.guards[0]}[:1+map[bool]int{true: 1}[c.full]] {
				permit, err := full.Acquire(t.Context(), limiter.Request{})
				if err != nil {
					t.Fatal(err)
				}
				defer permit.Abandon()
			}
			second.firsts.began(0, false, 5*time.Second) // 10 s are kept
			p, _ := proxyOf(t, two(1))
			began := time.Now()
			j := &job{
				t: p.table.Load(), r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/chat/completions"}}, plain: new(atomic.Bool),
				route: &route{Route: &settings.Route{Longest: time.Hour, FallbackAfter: c.after}, targets: []target{first, second}},
				began: began, until: began.Add(20 * time.Second),
			}
			resp, turn, err := j.exchange(context.Background())
			turn.end()
			status := 0
			if err == nil {
				status = resp.StatusCode
				_ = resp.Body.Close()
			}
			if want := map[int]int{200: 1}[c.want]; status != c.want || sent != want || ends != 0 || time.Since(began) > 20*time.Second {
				t.Errorf("%s: status %d, %v after %v, and %d were sent, %d in vain; want status %d and %d", name, status, err, time.Since(began), sent, ends, c.want, want)
			}
		})
	}
}

// Streams of Gemini's API are streams, although their paths say so and not their bodies.
func TestStreamsOfGeminiBeginSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := proxyOf(t, two(1))
		to := p.table.Load().forks[0].other.targets[0]
		to.sender = sender(func(r *http.Request) (*http.Response, error) {
			took := 20 * time.Second
			if strings.Contains(r.URL.Path, ":stream") {
				took = time.Second
			}
			if err := turnOf(r.Context()).sending(); err != nil {
				return nil, err
			}
			time.Sleep(took)
			return answer(200, ""), nil
		})
		for path, want := range map[string]time.Duration{"generateContent": 20 * time.Second, "streamGenerateContent": time.Second} {
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", p.table.Load().forks[0].path+"/models/g:"+path, strings.NewReader("{}")))
			if d := to.firsts.keep(to.classes.of("g"), path[0] == 's', time.Hour); d != 2*want {
				t.Errorf("after the first answer to %s, after %v, %v are kept, want twice that", path, want, d)
			}
		}
	})
}

// While more work comes than an upstream takes, callers still have their answers when these begin to take two thirds of their time, and what is kept is what the slow ones
// of the answers take, also when many of these are cut off beside each other.
func TestOverloadOfSlowAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		slow         func(i int64) time.Duration // how long the answer to the i-th call takes in the overload
		least, above int64                       // of 6 places in 19 minutes: how many are answered at least, and how many sent in vain at most
	}{
		"all":        {func(int64) time.Duration { return 20 * time.Second }, 300, 200},
		"one in ten": {func(i int64) time.Duration { return time.Duration(500+i%10/9*11500) * time.Millisecond }, 4000, 250},
	} {
		synctest.Test(t, func(t *testing.T) {
			var calls, answered, inVain atomic.Int64
			var overload atomic.Bool
			to := places(t, 6, func(r *http.Request) (*http.Response, error) {
				turnOf(r.Context()).reached.Store(true)
				took := time.Second
				if overload.Load() {
					took = c.slow(calls.Add(1))
				}
				answers := time.NewTimer(took)
				defer answers.Stop()
				select {
				case <-answers.C:
					answered.Add(1)
					return answer(200, ""), nil
				case <-r.Context().Done():
					inVain.Add(1)
					return nil, r.Context().Err()
				}
			})
			p, _ := proxyOf(t, two(1))
			var all sync.WaitGroup
			for i := range 12_000 { // 10 a second
				if i == 600 {
					overload.Store(true)
					answered.Store(0)
				}
				all.Go(func() {
					j := &job{
						t: p.table.Load(), r: &http.Request{Method: "POST", Header: http.Header{}, URL: &url.URL{Path: "/chat/completions"}}, plain: new(atomic.Bool),
						route: &route{Route: &settings.Route{Longest: time.Hour}, targets: []target{to}}, began: time.Now(), until: time.Now().Add(30 * time.Second),
					}
					resp, turn, err := j.exchange(context.Background())
					if err == nil {
						_ = resp.Body.Close()
					}
					turn.end()
				})
				time.Sleep(100 * time.Millisecond)
			}
			all.Wait()
			if a, v := answered.Load(), inVain.Load(); a < c.least || v > c.above {
				t.Errorf("%s slow: %d answered, and %d in vain; want at least %d, and at most %d", name, a, v, c.least, c.above)
			}
		})
	}
}

// What is kept is what all but some of the answers take, also while those that take longer are cut off, and at most three quarters of a call's time.
func TestFirsts(t *testing.T) {
	var f firsts
	if d := f.keep(1, false, time.Minute); d != 0 {
		t.Errorf("before the first answer %v are kept, want none", d)
	}
	for i := range 4000 {
		took := time.Duration(i*37%1000) * time.Millisecond // each of 0 to 999 ms
		keep := f.keep(1, false, time.Minute)
		if cut := i > 500 && took > keep; cut {
			f.cut(1, false, keep+time.Millisecond, keep, time.Minute)
		} else {
			f.began(1, false, took)
		}
	}
	if d := f.keep(1, false, time.Minute); d < 800*time.Millisecond || d > 1100*time.Millisecond {
		t.Errorf("answers take 0 to 1 s, and %v are kept, want what 95 in 100 keep to", d)
	}
	if d := f.keep(1, false, time.Second); d > time.Second*3/4 {
		t.Errorf("of a second %v are kept, want at most three quarters", d)
	}
	for range 100 {
		f.cut(1, false, time.Minute, time.Second, time.Minute)
	}
	if d := f.keep(1, false, time.Hour); d > 50*time.Second {
		t.Errorf("after nothing but time-outs of calls that have a minute, %v are kept, want hardly more than three quarters of that", d)
	}
	if f.keep(1, true, time.Minute) != 0 || f.keep(2, false, time.Minute) != 0 {
		t.Error("what calls of one kind take is kept for those of another")
	}
}
