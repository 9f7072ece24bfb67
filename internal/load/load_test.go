package load

import (
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/limiter"
)

// A connection of HTTP/2 that leads nowhere is given up, and the requests of the whole run are not sent into it.
func TestTransportAsksAfterItsConnections(t *testing.T) {
	if tr := transport(7); tr.HTTP2 == nil || tr.HTTP2.SendPingTimeout <= 0 || tr.MaxIdleConnsPerHost != 7 || tr.Proxy != nil {
		t.Errorf("HTTP/2 is %+v, with %d idle connections", tr.HTTP2, tr.MaxIdleConnsPerHost)
	}
}

func run(t *testing.T, cfg Config) *Result {
	t.Helper()
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Offered != r.OK+r.Failed+r.Refused+r.Unfinished {
		t.Errorf("%d offered, but %d ok, %d failed, %d refused, %d unfinished", r.Offered, r.OK, r.Failed, r.Refused, r.Unfinished)
	}
	if len(r.Latencies) != int(r.OK) || len(r.FromSend) != int(r.OK) || r.Sent < r.OK+r.Rejected {
		t.Errorf("%d ok, %d latencies, %d sent, %d rejected", r.OK, len(r.Latencies), r.Sent, r.Rejected)
	}
	return r
}

// A server that stands still for a while delays everybody who should have been sent meanwhile. With few clients only a handful are
// sent into it; the latencies from the plan show all of them (Tene's coordinated omission).
func TestCoordinatedOmission(t *testing.T) {
	var began atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		began.CompareAndSwap(0, time.Now().UnixNano())
		since := time.Since(time.Unix(0, began.Load()))
		if since > 500*time.Millisecond && since < time.Second {
			time.Sleep(time.Second - since)
		}
	}))
	defer web.Close()
	r := run(t, Config{URL: web.URL, Clients: 2, Rate: 100, Duration: 2 * time.Second, Drain: time.Second})
	if r.Offered != 200 || r.OK != 200 {
		t.Fatalf("%d offered, %d ok", r.Offered, r.OK)
	}
	slow := func(ds []time.Duration) (n int) {
		for _, d := range ds {
			if d > 100*time.Millisecond {
				n++
			}
		}
		return n
	}
	// 50 requests were due while the server stood still, 40 of them more than 100 ms before it went on.
	// On a machine that others use, some more wait.
	n, m := slow(r.Latencies), slow(r.FromSend)
	if n < 35 {
		t.Errorf("%d latencies from the plan are above 100 ms, want 40", n)
	}
	if m > n/2 {
		t.Errorf("%d latencies from the send are above 100 ms, want 2, and %d from the plan", m, n)
	}
	plan, send := r.Gap()
	if plan < 350*time.Millisecond || send > plan {
		t.Errorf("p99 %v from the plan, %v from the send", plan, send)
	}
}

// slow is a server that takes a time for each call.
type slow time.Duration

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(time.Duration(s)):
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// What was to be asked, and never was because everybody still waited, is part of what was asked for: a goodput of 4 in 200 is no 4 in 6.
func TestNeverStarted(t *testing.T) {
	for _, cfg := range []Config{
		{Rate: 100, Clients: 2},
		{Rate: 100, Constant: true, MaxOpen: 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg.URL, cfg.Base, cfg.Duration, cfg.Drain = "http://x", slow(900*time.Millisecond), 2*time.Second, 500*time.Millisecond
			r := run(t, cfg)
			if r.Offered < 199 || r.Offered > 200 || r.OK != 4 || r.InTime != 4 {
				t.Errorf("%+v: %d offered, %d ok, %d in time, %d unfinished; want 200, 4, 4", cfg, r.Offered, r.OK, r.InTime, r.Unfinished)
			}
		})
	}
}

// A rate of one request in three centuries is none for now, and not as many as the processor can make.
func TestHardlyEver(t *testing.T) {
	for _, cfg := range []Config{{Rate: 1e-10}, {Rate: 1e-10, Constant: true}, {Rate: 1e-10, Clients: 2}, {Rate: 5e-324}} {
		cfg.URL, cfg.Duration, cfg.Base = "http://x", 50*time.Millisecond, slow(time.Millisecond) // by the clock, as one that stands still would wait for ever
		if r := run(t, cfg); r.Offered > 1 {
			t.Errorf("rate %v: %d offered", cfg.Rate, r.Offered)
		}
	}
}

// A guard keeps its limit on the wire, and the report has what was measured.
func TestGuarded(t *testing.T) {
	var in, most atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := in.Add(1)
		defer in.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if r.Header.Get("X-Test") != "yes" || r.Method != "POST" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		time.Sleep(20 * time.Millisecond)
		if n > 2 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer web.Close()
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(2)})
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	d := 600 * time.Millisecond
	r := run(t, Config{URL: web.URL, Body: []byte("x"), Header: http.Header{"X-Test": {"yes"}}, Rate: 150, Constant: true, Duration: d, Drain: 2 * time.Second, Guard: guard})
	if most.Load() > 2 || r.Rejected != 0 || r.OK != r.Offered || r.Offered < 89 || r.Offered > 90 {
		t.Errorf("%d at a time; %d rejected, %d ok, %d offered", most.Load(), r.Rejected, r.OK, r.Offered)
	}
	rep := r.Run("ours", true, d)
	if s := rep.Summary; math.Abs(s.MeanLimit-2) > 1e-9 || s.OK != r.OK || s.P99 < 20*time.Millisecond || !(s.Goodput > 0.3 && s.Goodput < 1) {
		t.Errorf("%+v", s)
	}
	if n := len(rep.Series.Limit); n != 6 || rep.Series.Limit[5] != 2 || rep.Series.Waiting[5] < 1 {
		t.Errorf("%+v", rep.Series)
	}
	bare := run(t, Config{URL: web.URL, Body: []byte("x"), Header: http.Header{"X-Test": {"yes"}}, Rate: 300, Duration: d, Drain: time.Second})
	if bare.Rejected == 0 || bare.Failed != bare.Rejected || bare.Statuses[429] != bare.Rejected {
		t.Errorf("without a guard: %+v", bare)
	}
}

// An interrupted run ends at once, with its books closed.
func TestInterrupted(t *testing.T) {
	stop := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stop }))
	defer web.Close()
	defer close(stop)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	r, err := Run(ctx, Config{URL: web.URL, Rate: 100, Duration: time.Hour})
	if err != nil || time.Since(began) > 3*time.Second || r.Offered == 0 || r.Offered != r.Unfinished {
		t.Errorf("%+v, %v after %v", r, err, time.Since(began))
	}
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{
		{}, {URL: "x", Rate: 1, Duration: 1}, {URL: "http://x", Duration: 1}, {URL: "http://x", Rate: -1, Duration: 1},
		{URL: "http://x", Rate: 1}, {URL: "ftp://x", Rate: 1, Duration: 1}, {URL: "http://x", Clients: -1, Rate: 1, Duration: 1},
	} {
		if _, err := Run(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), "load: ") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A stream of a language model that begins as a success and ends in an error is none, with a guard and without.
func TestErrorInBody(t *testing.T) {
	const stream = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, stream)
	}))
	defer web.Close()
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	for _, g := range []*limiter.Guard{nil, guard} {
		r := run(t, Config{URL: web.URL, Rate: 100, Constant: true, Duration: 100 * time.Millisecond, Drain: time.Second, Guard: g})
		if r.Offered != 9 || r.OK != 0 || r.Broken != r.Failed || r.Failed == 0 || r.Statuses[200] == 0 {
			t.Errorf("guard %v: %d offered, %d ok, %d failed, %d of them broken, statuses %v", g != nil, r.Offered, r.OK, r.Failed, r.Broken, r.Statuses)
		}
	}
}
